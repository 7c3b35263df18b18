//! A transport address, one per file object.

use core::net::SocketAddr;

use nt_abi::NtStatus;
use nt_abi::tdi::TdiEvent;

use crate::endpoint::AddressMessage;
use crate::ids::{AddressId, EndpointId, OfferId, RequestId};
use crate::indication::{ConnectionHandlers, Handler};
use crate::network::Offer;

/// What the caller has to do for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressOutput {
    /// Lock that endpoint (not the address) and call [`crate::Endpoint::handle_offer`]; if it
    /// answers `Returned`, [`Address::handle_offer_returned`].
    Deliver {
        /// Whose listen matches.
        endpoint: EndpointId,
        /// The pending TDI_LISTEN.
        listen: RequestId,
        /// The incoming connection.
        offer: Offer,
    },
    /// Call ClientEventConnect with no lock held, let the endpoint of the returned IRP take the offer
    /// ([`crate::Endpoint::handle_accept_irp`]), then [`Address::handle_connect_result`].
    IndicateConnect {
        /// Whom to call.
        handler: Handler,
        /// The incoming connection.
        offer: Offer,
    },
    /// Refuse that offer on the network (C-305, C-437, C-445).
    Refuse(OfferId),
    /// The address has been closed: lock that endpoint and call
    /// [`crate::Endpoint::handle_address_closed`].
    TellClosed(EndpointId),
    /// Call ClientEventError, and ClientEventErrorEx with a null buffer if that is the event, with no
    /// lock held, then [`Address::handle_error_indicated`] (C-459, C-461).
    IndicateError {
        /// ERROR or ERROR_EX.
        event: TdiEvent,
        /// Whom to call.
        handler: Handler,
        /// What failed.
        status: NtStatus,
    },
    /// Start (true) or stop taking connections from the network.
    Listen(bool),
}

/// What became of an offer that was indicated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectAnswer {
    /// An endpoint owns the connection now.
    Accepted,
    /// Rejected, or what was returned could not be honoured (C-437 to C-442).
    Rejected,
}

/// The state of one opened transport address.
#[derive(Debug)]
pub struct Address {
    id: AddressId,
    local: SocketAddr,
}

#[expect(unused_variables, reason = "signatures first; the bodies follow")]
impl Address {
    /// An address as an open leaves it: no handler, no endpoint (C-110).
    ///
    /// `backlog` bounds the offers that wait for the next listen.
    pub fn new(id: AddressId, local: SocketAddr, backlog: usize) -> Self {
        Self { id, local }
    }

    /// The caller's name for it.
    pub fn id(&self) -> AddressId {
        self.id
    }

    /// The local transport address; port 0 while it floats (C-097, C-098).
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The network has chosen the port or IP address (C-100).
    pub fn set_local(&mut self, local: SocketAddr) {
        self.local = local;
    }

    /// Has the file object been cleaned up?
    pub fn is_closed(&self) -> bool {
        unbuilt()
    }

    /// Associated endpoints, oldest name first: whom to tell about new handlers (C-111).
    pub fn endpoints(&self) -> impl Iterator<Item = EndpointId> + '_ {
        core::iter::empty()
    }

    /// A message of an associated endpoint ([`crate::Output::Address`]).
    pub fn handle_message(&mut self, endpoint: EndpointId, message: AddressMessage) {
        unbuilt()
    }

    /// TDI_SET_EVENT_HANDLER (C-409 ff.); [`Handler::NONE`] deregisters.
    ///
    /// SUCCESS, or INVALID_PARAMETER for an event this transport does not know (C-413, C-414),
    /// CANCELLED after the cleanup. On success the caller tells [`Address::connection_handlers`] to each of
    /// [`Address::endpoints`] with [`crate::Endpoint::handle_handlers`], re-reading it under both locks,
    /// before it completes the request (C-418).
    pub fn tdi_set_event_handler(&mut self, event: TdiEvent, handler: Handler) -> NtStatus {
        unbuilt()
    }

    /// The registered handler of any event, [`Handler::NONE`] if there is none.
    pub fn handler(&self, event: TdiEvent) -> Handler {
        unbuilt()
    }

    /// What endpoints need to know of the registered handlers.
    pub fn connection_handlers(&self) -> ConnectionHandlers {
        unbuilt()
    }

    /// A remote node wants to connect.
    pub fn handle_offer(&mut self, offer: Offer) {
        unbuilt()
    }

    /// The endpoint an offer was delivered to did not want it any more.
    pub fn handle_offer_returned(&mut self, offer: Offer) {
        unbuilt()
    }

    /// The remote node has withdrawn an offer that this address still holds.
    pub fn handle_offer_withdrawn(&mut self, offer: OfferId) {
        unbuilt()
    }

    /// The connect handler has returned and its answer is worked off.
    pub fn handle_connect_result(&mut self, offer: OfferId, answer: ConnectAnswer) {
        unbuilt()
    }

    /// The transport below the address has failed: its error handlers are to be called (C-459).
    pub fn handle_failure(&mut self, status: NtStatus) {
        unbuilt()
    }

    /// An error handler has returned.
    pub fn handle_error_indicated(&mut self) {
        unbuilt()
    }

    /// The last handle was closed (C-154, C-162, C-178). A second call does nothing.
    ///
    /// The CLEANUP may complete once this address and each endpoint told by
    /// [`AddressOutput::TellClosed`] is quiet.
    pub fn handle_cleanup(&mut self) {
        unbuilt()
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<AddressOutput> {
        unbuilt()
    }

    /// No handler of this address runs on its own account and no output waits.
    pub fn is_quiet(&self) -> bool {
        unbuilt()
    }

    /// Closed, quiet, and the last endpoint gone: the state may be dropped and its
    /// [`crate::sharing::Claim`] released (C-176).
    pub fn is_finished(&self) -> bool {
        unbuilt()
    }
}

fn unbuilt() -> ! {
    panic!("tdi_core: not built yet")
}
