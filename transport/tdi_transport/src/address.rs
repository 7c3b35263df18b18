//! What the transport keeps of a transport address beside its state machine.

use std::net::SocketAddr;
use std::sync::Arc;

use net_api::Connection;
use nt_abi::FileObject;
use tdi_core::sharing::Claim;
use tdi_core::transport_address::Family;
use tdi_core::{Address, OfferId};

use crate::datagram::Datagrams;
use crate::endpoint::Caller;
use crate::stream_address::StreamAddress;

/// Most offers that wait for an answer or for the next listen; more are refused.
pub(crate) const BACKLOG: u32 = 128;

/// One per file object, in the table of addresses. It outlives the file object while endpoints are associated
/// with it (C-176).
pub(crate) struct AddressState {
    pub(crate) core: Address,
    /// The file object, to tell it from others and for events. Never followed.
    pub(crate) file: u64,
    /// `None` for an address of a protocol without connections.
    pub(crate) network: Option<Arc<StreamAddress>>,
    /// The datagram side; `None` for an address of connections.
    pub(crate) datagrams: Option<Box<Datagrams>>,
    /// Taken out only to be changed or released.
    pub(crate) claim: Option<Claim>,
    /// Whose addresses it is one of, where there are several hosts.
    pub(crate) host: u16,
    /// Offers that no endpoint has taken.
    pub(crate) offers: Vec<(OfferId, Arc<dyn Connection>)>,
    /// Somebody works off the address's outputs; others leave them to it.
    pub(crate) is_pumped: bool,
    /// Who is in a client call for this address right now.
    pub(crate) caller: Caller,
    /// The CLEANUP that waits until nothing is out any more, 0 if none does.
    pub(crate) cleanup: u64,
    /// Endpoints that this CLEANUP waits for.
    pub(crate) awaits: u32,
    /// Takes offers from the network now.
    pub(crate) is_listening: bool,
    /// CLOSE has come: the state goes with the last endpoint.
    pub(crate) is_closed: bool,
    pub(crate) family: Family,
}

impl AddressState {
    pub(crate) fn new(
        core: Address,
        file: *mut FileObject,
        network: Option<Arc<StreamAddress>>,
        datagrams: Option<Box<Datagrams>>,
        (claim, host): (Claim, u16),
        family: Family,
    ) -> Self {
        Self {
            core,
            file: file as u64,
            network,
            datagrams,
            claim: Some(claim),
            host,
            offers: Vec::new(),
            is_pumped: false,
            caller: Caller::default(),
            cleanup: 0,
            awaits: 0,
            is_listening: false,
            is_closed: false,
            family,
        }
    }

    /// Takes an offer out.
    pub(crate) fn take_offer(&mut self, id: OfferId) -> Option<Arc<dyn Connection>> {
        let position = self.offers.iter().position(|(offer, _)| *offer == id)?;
        Some(self.offers.swap_remove(position).1)
    }

    /// Is something out at the client, on whatever thread?
    pub(crate) fn is_busy(&self) -> bool {
        !self.is_quiet() || self.awaits > 0 || self.is_pumped
    }

    /// Nothing is out at the client or waits for that.
    pub(crate) fn is_quiet(&self) -> bool {
        self.core.is_quiet() && self.datagrams.as_ref().is_none_or(|datagrams| datagrams.is_quiet())
    }

    /// The address as clients see it.
    pub(crate) fn local(&self) -> SocketAddr {
        self.core.local()
    }
}
