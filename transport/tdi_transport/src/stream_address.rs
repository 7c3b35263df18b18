//! The network's side of an address for connections. Shared opens of one transport address have one between them, and so have
//! those of "any" and of 127.0.0.1 where the network reaches loopback only and knows no difference (C-104), so who listens is counted here: the network listens as long as any of them does, and each offer goes to
//! one of them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use net_api::{LocalAddress, NetError};
use tdi_core::AddressId;

use crate::address::AddressState;
use crate::endpoint::listener_key;
use crate::table::{Locked, Name};
use crate::transport::Transport;

/// Connections that the network may hold for this process. The transport takes them as soon as it runs; until then a host that lets
/// them wait is better than one that drops their handshakes, which come again only after a second.
const NETWORK_BACKLOG: u32 = 4096;

pub(crate) struct StreamAddress {
    pub(crate) network: Arc<dyn LocalAddress>,
    /// Lock order: an address's lock before this one. It is not held across a call into the table of addresses.
    listeners: Mutex<Listeners>,
}

#[derive(Default)]
struct Listeners {
    /// Opens that take offers, in the order in which they began to.
    addresses: Vec<AddressId>,
    /// In the transport's table of those that listen, by which the network's events find it.
    name: Option<Name>,
}

impl StreamAddress {
    pub(crate) fn new(network: Arc<dyn LocalAddress>) -> Arc<Self> {
        Arc::new(Self { network, listeners: Mutex::default() })
    }

    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An open begins to take offers.
    pub(crate) fn begin(self: &Arc<Self>, transport: &Transport, id: AddressId) -> Result<(), NetError> {
        let mut listeners = self.listeners();
        if listeners.name.is_none() {
            let name = transport.listeners.insert(|_| Arc::clone(self)).ok_or(NetError::OutOfMemory)?;
            if let Err(error) = self.network.listen(NETWORK_BACKLOG, listener_key(name)) {
                transport.forget_listener(name);
                return Err(error);
            }
            listeners.name = Some(name);
        }
        listeners.addresses.push(id);
        Ok(())
    }

    /// An open has stopped taking offers; the network goes on as long as another takes them.
    pub(crate) fn end(&self, transport: &Transport, id: AddressId) {
        let mut listeners = self.listeners();
        listeners.addresses.retain(|listener| *listener != id);
        if listeners.addresses.is_empty()
            && let Some(name) = listeners.name.take()
        {
            self.network.stop_listening();
            transport.forget_listener(name);
        }
    }
}

impl Transport {
    fn forget_listener(&self, name: Name) {
        if let Some(locked) = self.listeners.lock(name) {
            drop(self.listeners.remove(locked));
        }
    }

    /// The open that an offer from `remote` goes to: the first with a listen for it, else the first with a handler
    /// (C-302), else the first that listens at all. `None` if none does any more. Those that name an IP address come before
    /// those of "any".
    pub(crate) fn open_for_offer(
        &self,
        shared: &StreamAddress,
        remote: SocketAddr,
    ) -> Option<Locked<'_, AddressState>> {
        let mut ids = shared.listeners().addresses.clone();
        let is_any =
            |id: &AddressId| self.addresses.lock(*id).is_none_or(|address| address.local().ip().is_unspecified());
        if ids.len() > 1 && !ids.iter().all(is_any) {
            ids.retain(|id| !is_any(id));
        }
        let wants: [&dyn Fn(&AddressState) -> bool; 3] = [
            &|address| address.core.has_listen_for(remote),
            &|address| address.core.handler(nt_abi::tdi::TdiEvent::CONNECT).is_registered(),
            &|address| address.is_listening,
        ];
        wants
            .iter()
            .find_map(|wants| ids.iter().find_map(|id| self.addresses.lock(*id).filter(|address| wants(address))))
    }
}
