//! A connection endpoint.

use core::net::SocketAddr;
use core::ops::Range;

use nt_abi::NtStatus;

use crate::address::Address;
use crate::ids::{AddressId, ConnectionNumber, EndpointId, RequestId};
use crate::indication::{ClientFault, ConnectionHandlers, Indication, IndicationResult};
use crate::network::{DataKind, NetworkCommand, NetworkEvent, Offer, Progress};
use crate::request::{Completion, Outcome, RemoteFilter, Request};
use crate::time::{Instant, SECOND};

/// What a transport decides for all its endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long a CONNECT without a timeout waits, in 100-ns units (C-273: 21 s).
    pub connect_timeout: u64,
    /// How long an offer held for a TDI_ACCEPT waits for the client (C-295).
    pub offer_timeout: u64,
    /// How long a RELEASE without a timeout waits while all that keeps it from ending is received
    /// data that no receive and no handler takes although the remote node has released.
    pub unread_patience: u64,
    /// Bytes read ahead for receive indications and peeks.
    pub lookahead: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { connect_timeout: 21 * SECOND, offer_timeout: 10 * SECOND, unread_patience: SECOND, lookahead: 16 * 1024 }
    }
}

/// The states of chapter 11 under plain names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StateName {
    /// U: open, not associated, idle.
    Unassociated,
    /// A: associated, idle.
    Associated,
    /// C: a TDI_CONNECT is pending.
    Connecting,
    /// L: a TDI_LISTEN is pending.
    Listening,
    /// O: a listen with QUERY_ACCEPT completed, no answer yet.
    Offered,
    /// P: an accept is in progress.
    Accepting,
    /// E: established.
    Established,
    /// R: the local side has released, the remote side has not.
    LocallyReleased,
    /// W: the remote side has released, the local side has not.
    RemotelyReleased,
    /// Z: CLEANUP processed, CLOSE not yet.
    CleanedUp,
}

/// What the caller has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Carry out under the endpoint's lock.
    Network(NetworkCommand),
    /// Tell this address ([`Address::handle_message`]). The endpoint's lock may be held or not,
    /// but messages keep their order.
    Address(AddressId, AddressMessage),
    /// Complete a request with the lock released, then
    /// [`Endpoint::handle_completion_delivered`].
    Complete(Completion),
    /// Call an event handler with the lock released, then [`Endpoint::handle_indication_result`].
    Indicate(Indication),
}

/// What an endpoint tells the address it is associated with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressMessage {
    /// A listen is pending on the endpoint.
    Listen {
        /// The TDI_LISTEN.
        id: RequestId,
        /// Which offers it takes.
        filter: RemoteFilter,
    },
    /// That listen is over without an offer.
    WithdrawListen {
        /// The TDI_LISTEN.
        id: RequestId,
    },
    /// The association is undone and no handler of the address runs for this endpoint any more.
    Detach,
}

/// Has an endpoint taken the offer it was given?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an offer that was not taken has to be offered again or refused"]
pub enum OfferAnswer {
    /// The endpoint owns the connection now, under this number.
    Taken(ConnectionNumber),
    /// The listen is no longer pending: [`Address::handle_offer_returned`].
    Returned,
}

/// A connection endpoint; see the crate's documentation for how to drive it.
#[derive(Debug)]
#[allow(dead_code, reason = "signatures first; the bodies follow")]
pub struct Endpoint {
    id: EndpointId,
    context: u64,
    config: Config,
}

#[expect(unused_variables, reason = "signatures first; the bodies follow")]
impl Endpoint {
    /// An endpoint as an open leaves it: not associated, idle (C-114).
    ///
    /// `context` is the value of the ConnectionContext EA, any 64-bit value (C-112, C-113).
    pub fn new(id: EndpointId, context: u64, config: Config) -> Self {
        Self { id, context, config }
    }

    /// The caller's name for this endpoint.
    pub fn id(&self) -> EndpointId {
        self.id
    }

    /// The ConnectionContext, for every handler called for this endpoint (C-420).
    pub fn context(&self) -> u64 {
        self.context
    }

    /// The state of chapter 11.
    pub fn state(&self) -> StateName {
        unbuilt()
    }

    /// The associated address, if there is one.
    pub fn address(&self) -> Option<AddressId> {
        unbuilt()
    }

    /// The remote transport address, while there is a connection.
    pub fn remote(&self) -> Option<SocketAddr> {
        unbuilt()
    }

    /// The local transport address of the connection, while there is one (D-133).
    pub fn local(&self) -> Option<SocketAddr> {
        unbuilt()
    }

    /// TDI_ASSOCIATE_ADDRESS (C-235 ff.). The caller has resolved the handle to one of its own
    /// addresses and holds both locks.
    ///
    /// SUCCESS; INVALID_CONNECTION if associated already or cleaned up (C-242, C-245);
    /// INVALID_HANDLE if the address is closed (C-240).
    pub fn tdi_associate_address(&mut self, address: &mut Address) -> NtStatus {
        unbuilt()
    }

    /// TDI_DISASSOCIATE_ADDRESS (C-250 ff.).
    ///
    /// SUCCESS; INVALID_CONNECTION if not associated; CONNECTION_ACTIVE unless idle.
    pub fn tdi_disassociate_address(&mut self) -> NtStatus {
        unbuilt()
    }

    /// A request that may pend. The caller has found its cancel flag clear (C-223).
    pub fn handle_request(&mut self, now: Instant, id: RequestId, request: Request) -> Outcome {
        unbuilt()
    }

    /// A TDI_ACCEPT that a connect handler returned for `offer`, which arrived on `address`
    /// (C-312, C-435).
    ///
    /// [`Outcome::Done`] is always an error: the caller completes the IRP with it and refuses the
    /// offer (C-222). After [`Outcome::Taken`] the offer's connection belongs to this endpoint under
    /// [`Endpoint::connection`].
    pub fn handle_accept_irp(&mut self, now: Instant, id: RequestId, address: AddressId, offer: &Offer) -> Outcome {
        unbuilt()
    }

    /// An offer for the pending listen `listen`, from the address ([`crate::AddressOutput::Deliver`]).
    pub fn handle_offer(&mut self, now: Instant, listen: RequestId, offer: &Offer) -> OfferAnswer {
        unbuilt()
    }

    /// The number of the current connection, while there is one (also while it is only offered).
    pub fn connection(&self) -> Option<ConnectionNumber> {
        unbuilt()
    }

    /// The client cancels a request (C-224 ff.). Returns whether the core still had it; if not, its
    /// [`Completion`] has come out already or waits to be polled (C-226). Nothing is completed by
    /// this call itself: the completion comes out of `poll_output` as always.
    pub fn handle_cancel(&mut self, now: Instant, id: RequestId) -> bool {
        unbuilt()
    }

    /// The last handle was closed (C-155, C-157, C-163). A second call does nothing (C-567).
    ///
    /// The CLEANUP is to be completed once [`Endpoint::is_quiet`] (C-160, C-568, C-569).
    pub fn handle_cleanup(&mut self, now: Instant) {
        unbuilt()
    }

    /// The file object of the associated address was closed: listens and accepts end, established
    /// connections go on without handlers (C-176, C-178, C-570). Ignored if `address` is not
    /// the associated one.
    pub fn handle_address_closed(&mut self, now: Instant, address: AddressId) {
        unbuilt()
    }

    /// The handlers registered on `address` are now these (C-409, C-494).
    pub fn handle_handlers(&mut self, address: AddressId, handlers: ConnectionHandlers) {
        unbuilt()
    }

    /// Something happened on the network. Ignored unless `connection` is the current one.
    pub fn handle_network(&mut self, now: Instant, connection: ConnectionNumber, event: NetworkEvent) {
        unbuilt()
    }

    /// Urgent data arrived. Ignored unless `connection` is the current one.
    pub fn handle_expedited(&mut self, now: Instant, connection: ConnectionNumber, data: &[u8]) {
        unbuilt()
    }

    /// Time has come to `now`; harmless at any time.
    pub fn handle_timeout(&mut self, now: Instant) {
        unbuilt()
    }

    /// Answer to [`NetworkCommand::Transmit`].
    pub fn handle_sent(&mut self, now: Instant, id: RequestId, progress: Progress) {
        unbuilt()
    }

    /// Answer to [`NetworkCommand::Fill`].
    pub fn handle_filled(&mut self, now: Instant, id: RequestId, progress: Progress) {
        unbuilt()
    }

    /// Where [`NetworkCommand::ReadAhead`] reads to.
    pub fn read_ahead_space(&mut self) -> &mut [u8] {
        unbuilt()
    }

    /// Answer to [`NetworkCommand::ReadAhead`].
    pub fn handle_read_ahead(&mut self, now: Instant, progress: Progress) {
        unbuilt()
    }

    /// The bytes that [`NetworkCommand::CopyBuffered`] copies.
    pub fn buffered(&self, source: DataKind, range: Range<usize>) -> &[u8] {
        unbuilt()
    }

    /// Answer to [`NetworkCommand::CopyBuffered`].
    pub fn handle_copied(&mut self, now: Instant, id: RequestId) {
        unbuilt()
    }

    /// The completion of `id` has been delivered: its completion routine has returned, or its event
    /// is signalled.
    pub fn handle_completion_delivered(&mut self, id: RequestId) {
        unbuilt()
    }

    /// The handler of the last [`Output::Indicate`] has returned. Returns what the client did wrong.
    pub fn handle_indication_result(&mut self, now: Instant, result: IndicationResult) -> Option<ClientFault> {
        unbuilt()
    }

    /// What to do next, or `None`: nothing until something is handed in.
    pub fn poll_output(&mut self) -> Option<Output> {
        unbuilt()
    }

    /// When to call [`Endpoint::handle_timeout`]; ask after draining the outputs.
    pub fn poll_timeout(&self) -> Option<Instant> {
        unbuilt()
    }

    /// Nothing is out at the client (no completion, no indication) and nothing waits to be polled.
    /// After a cleanup this means that the CLEANUP may complete and, when the last reference has
    /// gone, the endpoint may be dropped.
    pub fn is_quiet(&self) -> bool {
        unbuilt()
    }

    /// Is a handler being called for this endpoint right now (C-569)?
    pub fn is_indicating(&self) -> bool {
        unbuilt()
    }
}

fn unbuilt() -> ! {
    panic!("tdi_core: not built yet")
}
