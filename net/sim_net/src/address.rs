//! Local addresses: where connections come from and where offers arrive.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use net_api::{Key, NetError};

use crate::connection::Owner;
use crate::host::{Holder, Who};
use crate::slab::Id;
use crate::world::World;

/// More offers than this wait for nobody.
const BACKLOG_MAX: u32 = 4096;

pub(crate) struct Address {
    pub(crate) host: usize,
    /// With port 0 while it floats.
    pub(crate) local: SocketAddr,
    /// Whether others that are shared may overlap it.
    is_shared: bool,
    pub(crate) listener: Option<Listener>,
    pub(crate) is_queued: bool,
}

pub(crate) struct Listener {
    pub(crate) backlog: usize,
    pub(crate) key: Key,
    pub(crate) offers: VecDeque<Id>,
}

impl World {
    /// Whether `host` may bind to `local`.
    pub(crate) fn check_local(&self, host: usize, local: SocketAddr) -> Result<(), NetError> {
        let ip: IpAddr = local.ip();
        if ip.is_unspecified() || self.hosts[host].has(ip) { Ok(()) } else { Err(NetError::AddressNotAvailable) }
    }

    pub(crate) fn open_address(&mut self, host: usize, local: SocketAddr, is_shared: bool) -> Result<Id, NetError> {
        self.check_local(host, local)?;
        let ports = &self.hosts[host].tcp_ports;
        if local.port() != 0 && ports.is_taken(local.port(), local.ip(), is_shared) {
            return Err(NetError::AddressInUse);
        }
        let id = self.addresses.insert(Address { host, local, is_shared, listener: None, is_queued: false });
        if local.port() != 0 {
            self.take_port(id, local.port());
        }
        Ok(id)
    }

    fn take_port(&mut self, id: Id, port: u16) {
        let Some(address) = self.addresses.get_mut(id) else { return };
        address.local.set_port(port);
        let holder = Holder { ip: address.local.ip(), is_shared: address.is_shared, who: Who::User(id) };
        self.hosts[address.host].tcp_ports.take(port, holder);
    }

    pub(crate) fn pin(&mut self, id: Id) -> Result<SocketAddr, NetError> {
        let address = self.addresses.get(id).ok_or(NetError::NotConnected)?;
        if address.local.port() != 0 {
            return Ok(address.local);
        }
        let (host, ip) = (address.host, address.local.ip());
        let host = &mut self.hosts[host];
        // Not one that connections of floating addresses use.
        let port = host.choose_unused_port(ip);
        self.take_port(id, port.ok_or(NetError::AddressInUse)?);
        self.addresses.get(id).map(|address| address.local).ok_or(NetError::NotConnected)
    }

    /// [`World::pin`] to the port of one of its connections, unless somebody holds it already.
    pub(crate) fn pin_to(&mut self, id: Id, port: u16) -> Result<SocketAddr, NetError> {
        let address = self.addresses.get(id).ok_or(NetError::NotConnected)?;
        let (host, ip, is_floating) = (address.host, address.local.ip(), address.local.port() == 0);
        if is_floating && !self.hosts[host].tcp_ports.is_taken(port, ip, false) {
            self.take_port(id, port);
        }
        self.pin(id)
    }

    pub(crate) fn listen(&mut self, id: Id, backlog: u32, key: Key) -> Result<(), NetError> {
        self.pin(id)?;
        let address = self.addresses.get_mut(id).ok_or(NetError::NotConnected)?;
        if address.listener.is_none() {
            let backlog = backlog.clamp(1, BACKLOG_MAX) as usize;
            address.listener = Some(Listener { backlog, key, offers: VecDeque::new() });
        }
        Ok(())
    }

    pub(crate) fn stop_listening(&mut self, id: Id) {
        let Some(address) = self.addresses.get_mut(id) else { return };
        let Some(listener) = address.listener.take() else { return };
        for offer in listener.offers {
            self.reset(offer, NetError::Aborted);
        }
    }

    /// A crash: nobody waits any more to be accepted.
    pub(crate) fn lose_offers(&mut self, host: usize) {
        let ids: Vec<Id> = self.addresses.ids().collect();
        for id in ids {
            if let Some(address) = self.addresses.get_mut(id)
                && address.host == host
                && let Some(listener) = &mut address.listener
            {
                listener.offers.clear();
            }
        }
    }

    /// Takes the oldest offer; `Err` if the address does not listen.
    pub(crate) fn accept(&mut self, id: Id) -> Result<Option<(Id, SocketAddr)>, ()> {
        let listener = self.addresses.get_mut(id).and_then(|address| address.listener.as_mut()).ok_or(())?;
        while let Some(offer) = listener.offers.pop_front() {
            if let Some(connection) = self.connections.get_mut(offer) {
                connection.owner = Owner::User;
                return Ok(Some((offer, connection.remote())));
            }
        }
        Ok(None)
    }

    pub(crate) fn close_address(&mut self, id: Id) {
        self.stop_listening(id);
        if let Some(address) = self.addresses.remove(id) {
            self.hosts[address.host].tcp_ports.give_back(address.local.port(), Who::User(id));
        }
    }

    /// Takes what is to be told of a listening address.
    pub(crate) fn listener_news(&mut self, id: Id) -> Option<Key> {
        let address = self.addresses.get_mut(id)?;
        address.is_queued = false;
        address.listener.as_ref().map(|listener| listener.key)
    }
}
