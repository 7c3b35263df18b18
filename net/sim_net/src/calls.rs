//! TCP as it is used: what users and peers ask of connections.

use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;

use net_api::{Key, NetError, Progress, Received, Sent, is_connectable};
use smoltcp::socket::tcp::State;

use crate::connection::{Connection, KeepAlive, Owner};
use crate::host::Tuple;
use crate::slab::Id;
use crate::world::World;

impl World {
    /// Starts a connection from `local`, whose port is chosen if it is 0.
    pub(crate) fn connect(
        &mut self,
        host: usize,
        local: SocketAddr,
        remote: SocketAddr,
        owner: Owner,
        key: Option<Key>,
    ) -> Result<Id, NetError> {
        if !is_connectable(remote) || remote.is_ipv4() != local.is_ipv4() {
            return Err(NetError::AddressNotAvailable);
        }
        let to = self.host_at(host, remote.ip()).filter(|_| self.hosts[host].is_up);
        let to = to.ok_or(NetError::NetworkUnreachable)?;
        let source =
            if local.ip().is_unspecified() { self.hosts[host].source_for(remote.ip()) } else { Some(local.ip()) };
        let source = source.ok_or(NetError::NetworkUnreachable)?;
        let now = self.now;
        let this = &mut self.hosts[host];
        let tuple = |port| Tuple { local: SocketAddr::new(source, port), remote };
        let port = if local.port() == 0 {
            let (connections, finished) = (&this.connections, &mut this.finished);
            let is_free = |port: u16| {
                let tuple = tuple(port);
                tuple.local != remote && !connections.contains_key(&tuple) && !finished.contains(now, &tuple)
            };
            this.tcp_ports.choose(source, is_free).ok_or(NetError::AddressNotAvailable)?
        } else {
            local.port()
        };
        let tuple = tuple(port);
        if tuple.local == remote {
            return Err(NetError::Refused);
        }
        if this.connections.contains_key(&tuple) {
            return Err(NetError::AddressNotAvailable);
        }
        this.finished.remove(&tuple);
        let mtu = self.mtu_between(host, to);
        let mut connection = Connection::new(host, mtu, tuple, owner, &self.hosts[host].limits);
        connection.key = key;
        let context = self.hosts[host].stack(mtu).context(now);
        let started = connection.socket_mut().connect(context, remote, tuple.local);
        started.map_err(|_| NetError::AddressNotAvailable)?;
        let id = self.attach(connection);
        self.mark_dirty(id);
        Ok(id)
    }

    pub(crate) fn progress(&self, id: Id) -> Result<Progress, NetError> {
        let Some(connection) = self.connections.get(id) else { return Err(NetError::NotConnected) };
        match connection.failure {
            Some(failure) => Err(failure),
            None if connection.is_established => Ok(Progress::Established),
            None => Ok(Progress::Pending),
        }
    }

    pub(crate) fn send(&mut self, id: Id, data: &[IoSlice<'_>]) -> Sent {
        let Some(connection) = self.connections.get_mut(id) else { return Sent::Failed(NetError::NotConnected) };
        if let Some(failure) = connection.failure {
            return Sent::Failed(failure);
        }
        let wanted: usize = data.iter().map(|slice| slice.len()).sum();
        if wanted == 0 {
            return Sent::Taken(0);
        }
        if connection.has_ended() {
            return Sent::Failed(NetError::NotConnected);
        }
        if !connection.is_established {
            return Sent::WouldBlock;
        }
        let mut taken = 0;
        for slice in data {
            match connection.socket_mut().send_slice(slice) {
                Ok(count) => taken += count,
                Err(_) => return Sent::Failed(NetError::NotConnected),
            }
        }
        connection.urgent.taken(taken);
        connection.wants_room = taken < wanted;
        if taken == 0 {
            return Sent::WouldBlock;
        }
        self.mark_dirty(id);
        Sent::Taken(taken)
    }

    pub(crate) fn send_urgent(&mut self, id: Id, byte: u8) -> Sent {
        let sent = self.send(id, &[IoSlice::new(&[byte])]);
        // No packet has left with it yet.
        if let (Sent::Taken(1), Some(connection)) = (sent, self.connections.get_mut(id)) {
            connection.urgent.last_is_urgent();
        }
        sent
    }

    pub(crate) fn receive(&mut self, id: Id, into: &mut [IoSliceMut<'_>]) -> Received {
        self.receive_with(id, into, |connection, room, into| {
            let mut got = 0;
            for slice in into.iter_mut() {
                let part = (room - got).min(slice.len());
                // There are as many bytes as that.
                got += connection.socket_mut().recv_slice(&mut slice[..part]).unwrap_or(0);
            }
            connection.urgent.received(got);
            connection.known_bytes = connection.socket().recv_queue();
        })
    }

    pub(crate) fn peek(&mut self, id: Id, into: &mut [IoSliceMut<'_>]) -> Received {
        self.receive_with(id, into, |connection, room, into| {
            // The socket shows its bytes from the first one on, in one piece.
            let mut bytes = vec![0; room];
            let count = connection.socket_mut().peek_slice(&mut bytes).unwrap_or(0);
            let mut rest = &bytes[..count];
            for slice in into.iter_mut() {
                let (now, later) = rest.split_at(rest.len().min(slice.len()));
                slice[..now.len()].copy_from_slice(now);
                rest = later;
            }
        })
    }

    fn receive_with(
        &mut self,
        id: Id,
        into: &mut [IoSliceMut<'_>],
        take: impl FnOnce(&mut Connection, usize, &mut [IoSliceMut<'_>]),
    ) -> Received {
        let Some(connection) = self.connections.get_mut(id) else { return Received::Failed(NetError::NotConnected) };
        let wanted: usize = into.iter().map(|slice| slice.len()).sum();
        if connection.failure == Some(NetError::Aborted) {
            return Received::Failed(NetError::Aborted);
        }
        if wanted == 0 {
            return Received::Got(0);
        }
        let here = connection.socket().recv_queue();
        if here > 0 && connection.is_established {
            let room = here.min(wanted).min(connection.urgent.bytes_before_mark());
            take(connection, room, into);
            // The window may have opened.
            self.mark_dirty(id);
            return Received::Got(room);
        }
        match connection.failure {
            Some(failure) => Received::Failed(failure),
            None if connection.has_remote_ended => Received::EndOfStream,
            None => Received::WouldBlock,
        }
    }

    pub(crate) fn shutdown_send(&mut self, id: Id) -> Result<(), NetError> {
        if self.progress(id)? == Progress::Pending {
            return Err(NetError::NotConnected);
        }
        if let Some(connection) = self.connections.get_mut(id) {
            connection.end();
            self.mark_dirty(id);
        }
        Ok(())
    }

    pub(crate) fn set_keep_alive(&mut self, id: Id, on: bool) -> Result<(), NetError> {
        let connection = self.connections.get_mut(id).ok_or(NetError::NotConnected)?;
        if let Some(failure) = connection.failure {
            return Err(failure);
        }
        connection.keeps_alive = on;
        if !on {
            connection.socket_mut().set_keep_alive(None);
        }
        // Patience begins, or ends, now.
        self.mark_dirty(id);
        Ok(())
    }

    pub(crate) fn set_keep_alive_times(&mut self, id: Id, times: KeepAlive) -> Result<(), NetError> {
        let connection = self.connections.get_mut(id).ok_or(NetError::NotConnected)?;
        if let Some(failure) = connection.failure {
            return Err(failure);
        }
        connection.keep_alive = times;
        connection.socket_mut().set_keep_alive(None);
        self.mark_dirty(id);
        Ok(())
    }

    /// The user's abort: final, whatever else has happened.
    pub(crate) fn abort(&mut self, id: Id) {
        let Some(connection) = self.connections.get(id) else { return };
        // A remote side that has not answered yet finds out when it does.
        if connection.socket().state() == State::SynSent {
            self.detach(id);
        }
        self.reset(id, NetError::Aborted);
    }

    /// Nobody holds the connection any more.
    pub(crate) fn close(&mut self, id: Id) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.owner = Owner::Nobody;
        if !connection.is_attached || connection.socket().state() == State::SynSent {
            self.forget(id);
        } else if connection.is_paused || connection.socket().recv_queue() > 0 {
            self.reset(id, NetError::Aborted);
        } else if connection.is_established {
            connection.end();
            self.mark_dirty(id);
        } else {
            // Ends when the handshake is done, or has failed.
            self.mark_dirty(id);
        }
    }
}
