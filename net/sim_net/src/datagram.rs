//! UDP: smoltcp's packet formats, our own sockets. A port can have several holders here, groups and
//! broadcasts have copies for each, and errors come back with the destination that they are about.

use std::collections::{BTreeMap, VecDeque};
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use net_api::{
    Arrival, Cast, DatagramOption, DatagramReceived, DatagramSent, Interface, Key, Membership, NetError, Readiness,
    Sharing,
};

use crate::host::{Holder, News, Who};
use crate::link::Time;
use crate::network_file::Script;
use crate::packet::{self, Envelope, Piece, Route, UDP_HEADER};
use crate::slab::Id;
use crate::world::World;

/// Bytes that wait to be received at most; what comes on top is lost.
const QUEUE_MAX: usize = 262_144;
/// What waiting costs beside the bytes, so that empty datagrams are bounded too.
const QUEUE_ENTRY: usize = 64;
/// Reports that wait at most.
const REPORTS_MAX: usize = 64;
/// Memberships of one address at most.
const GROUPS_MAX: usize = 256;
/// The longest UDP datagram over IPv4 and over IPv6.
pub(crate) const LENGTH_MAX_V4: usize = 65_507;
const LENGTH_MAX_V6: usize = 65_527;
/// The number of every host's interface.
pub(crate) const INTERFACE: u32 = 1;

pub(crate) struct Datagrams {
    pub(crate) host: usize,
    pub(crate) local: SocketAddr,
    pub(crate) key: Option<Key>,
    pub(crate) news: Readiness,
    pub(crate) is_queued: bool,
    queue: VecDeque<(Arrival, Vec<u8>)>,
    queued_bytes: usize,
    reports: VecDeque<(SocketAddr, NetError)>,
    groups: Vec<(IpAddr, Option<IpAddr>)>,
    hops: u8,
    group_hops: u8,
    group_loop: bool,
    broadcast: bool,
    service: u8,
    dont_fragment: bool,
}

impl Datagrams {
    fn is_member(&self, group: IpAddr, source: IpAddr) -> bool {
        let fits = |(of, from): &(IpAddr, Option<IpAddr>)| *of == group && from.is_none_or(|from| from == source);
        self.groups.iter().any(fits)
    }

    fn readiness(&self) -> Readiness {
        let has_something = !self.queue.is_empty() || !self.reports.is_empty();
        if has_something { Readiness::READABLE | Readiness::WRITABLE } else { Readiness::WRITABLE }
    }
}

impl World {
    pub(crate) fn open_datagrams(&mut self, host: usize, local: SocketAddr, sharing: Sharing) -> Result<Id, NetError> {
        self.check_local(host, local)?;
        let mut local = local;
        let ports = &mut self.hosts[host].udp_ports;
        let is_shared = sharing == Sharing::Shared;
        if local.port() == 0 {
            local.set_port(ports.choose(local.ip(), |_| true).ok_or(NetError::AddressInUse)?);
        } else if ports.is_taken(local.port(), local.ip(), is_shared) {
            return Err(NetError::AddressInUse);
        }
        let id = self.datagrams.insert(Datagrams {
            host,
            local,
            key: None,
            news: Readiness::NONE,
            is_queued: false,
            queue: VecDeque::new(),
            queued_bytes: 0,
            reports: VecDeque::new(),
            groups: Vec::new(),
            hops: 64,
            group_hops: 1,
            group_loop: true,
            broadcast: true,
            service: 0,
            dont_fragment: false,
        });
        let holder = Holder { ip: local.ip(), is_shared, who: Who::User(id) };
        self.hosts[host].udp_ports.take(local.port(), holder);
        Ok(id)
    }

    pub(crate) fn close_datagrams(&mut self, id: Id) {
        if let Some(gone) = self.datagrams.remove(id) {
            self.hosts[gone.host].udp_ports.give_back(gone.local.port(), Who::User(id));
        }
    }

    /// A crash: what waits is lost. Which groups a user has joined is no more forgotten than what it has opened.
    pub(crate) fn lose_datagrams(&mut self, host: usize) {
        let ids: Vec<Id> = self.datagrams.ids().collect();
        for id in ids {
            if let Some(one) = self.datagrams.get_mut(id)
                && one.host == host
            {
                (one.queue, one.queued_bytes) = (VecDeque::new(), 0);
                one.reports.clear();
            }
        }
    }

    pub(crate) fn watch_datagrams(&mut self, id: Id, key: Key) {
        let Some(one) = self.datagrams.get_mut(id) else { return };
        if one.key.is_none() {
            one.key = Some(key);
            let ready = one.readiness();
            self.tell_datagrams(id, ready);
        }
    }

    fn tell_datagrams(&mut self, id: Id, ready: Readiness) {
        let Some(one) = self.datagrams.get_mut(id) else { return };
        if one.key.is_none() {
            return;
        }
        one.news |= ready;
        if !std::mem::replace(&mut one.is_queued, true) {
            self.hosts[one.host].news.push_back(News::Datagrams(id));
        }
    }

    pub(crate) fn send_datagram(&mut self, id: Id, data: &[IoSlice<'_>], remote: SocketAddr) -> DatagramSent {
        match self.try_send_datagram(id, data, remote) {
            Ok(()) => DatagramSent::Taken,
            Err(error) => DatagramSent::Failed(error),
        }
    }

    fn try_send_datagram(&mut self, id: Id, data: &[IoSlice<'_>], remote: SocketAddr) -> Result<(), NetError> {
        let one = self.datagrams.get(id).ok_or(NetError::NotConnected)?;
        let ip = remote.ip();
        if ip.is_unspecified() || remote.port() == 0 || ip.is_ipv4() != one.local.is_ipv4() {
            return Err(NetError::AddressNotAvailable);
        }
        let longest = if ip.is_ipv4() { LENGTH_MAX_V4 } else { LENGTH_MAX_V6 };
        if data.iter().map(|slice| slice.len()).sum::<usize>() > longest {
            return Err(NetError::TooLong);
        }
        let host = one.host;
        if !self.hosts[host].is_up {
            return Err(NetError::NetworkUnreachable);
        }
        let is_broadcast = self.hosts[host].is_broadcast(ip);
        if is_broadcast && !one.broadcast {
            return Err(NetError::AddressNotAvailable);
        }
        let everybody = || 0..self.hosts.len();
        let (targets, hops): (Vec<usize>, u8) = if ip.is_multicast() {
            let is_wanted = |target: &usize| if *target == host { one.group_loop } else { one.group_hops > 0 };
            (everybody().filter(is_wanted).collect(), one.group_hops)
        } else if is_broadcast {
            (everybody().collect(), one.hops)
        } else {
            (vec![self.host_at(host, ip).ok_or(NetError::NetworkUnreachable)?], one.hops)
        };
        let bound = one.local.ip();
        let source = if bound.is_unspecified() { self.hosts[host].source_for(ip) } else { Some(bound) };
        let from = SocketAddr::new(source.ok_or(NetError::NetworkUnreachable)?, one.local.port());
        let (service, dont_fragment) = (one.service, one.dont_fragment);
        let data: Vec<&[u8]> = data.iter().map(|slice| &**slice).collect();
        let datagram = packet::datagram(from, remote, &data);
        self.next_ident = self.next_ident.wrapping_add(1);
        let route = Route { from: from.ip(), to: ip };
        let envelope = Envelope { route, hops, service, dont_fragment, ident: self.next_ident };
        for target in targets {
            let packets = packet::packets(envelope, &datagram, self.mtu_between(host, target));
            if dont_fragment && packets.len() > 1 {
                return Err(NetError::TooLong);
            }
            for packet in packets {
                self.carry(host, target, packet);
            }
        }
        Ok(())
    }

    pub(crate) fn receive_datagram(&mut self, id: Id, into: &mut [IoSliceMut<'_>]) -> DatagramReceived {
        let Some(one) = self.datagrams.get_mut(id) else { return DatagramReceived::WouldBlock };
        if let Some((remote, error)) = one.reports.pop_front() {
            return DatagramReceived::Undelivered { remote, error };
        }
        let Some((mut arrival, bytes)) = one.queue.pop_front() else { return DatagramReceived::WouldBlock };
        one.queued_bytes -= bytes.len() + QUEUE_ENTRY;
        let mut rest = &bytes[..];
        for slice in into {
            let (now, later) = rest.split_at(rest.len().min(slice.len()));
            slice[..now.len()].copy_from_slice(now);
            rest = later;
        }
        arrival.stored = bytes.len() - rest.len();
        DatagramReceived::Got(arrival)
    }

    pub(crate) fn set_datagram_option(&mut self, id: Id, option: DatagramOption) -> Result<(), NetError> {
        let Some(one) = self.datagrams.get(id) else { return Err(NetError::NotConnected) };
        let host = one.host;
        let check = |interface: Interface| match interface {
            Interface::Routed | Interface::Numbered(0 | INTERFACE) => Ok(()),
            Interface::WithAddress(ip) if ip.is_unspecified() || self.hosts[host].has(ip.into()) => Ok(()),
            Interface::Numbered(_) | Interface::WithAddress(_) => Err(NetError::AddressNotAvailable),
        };
        match option {
            DatagramOption::MulticastInterface(interface) => check(interface)?,
            DatagramOption::Join(wanted) | DatagramOption::Leave(wanted) => check(wanted.interface)?,
            _ => {}
        }
        let Some(one) = self.datagrams.get_mut(id) else { return Err(NetError::NotConnected) };
        match option {
            DatagramOption::HopLimit(0) => return Err(NetError::AddressNotAvailable),
            DatagramOption::HopLimit(hops) => one.hops = hops,
            DatagramOption::MulticastHopLimit(hops) => one.group_hops = hops,
            // There is one; it has just been checked.
            DatagramOption::MulticastInterface(_) => {}
            DatagramOption::MulticastLoop(on) => one.group_loop = on,
            DatagramOption::Broadcast(on) => one.broadcast = on,
            DatagramOption::TypeOfService(value) => one.service = value,
            DatagramOption::DontFragment(on) => one.dont_fragment = on,
            DatagramOption::Join(wanted) => one.join(wanted)?,
            DatagramOption::Leave(wanted) => one.leave(wanted)?,
        }
        Ok(())
    }

    pub(crate) fn datagram_arrives(&mut self, host: usize, route: Route, datagram: &[u8]) {
        let Some((from, to, data)) = packet::open_datagram(route, datagram) else { return };
        let is_broadcast = self.hosts[host].is_broadcast(route.to);
        let cast = if route.to.is_multicast() {
            Cast::Multicast
        } else if is_broadcast {
            Cast::Broadcast
        } else {
            Cast::Unicast
        };
        let hears = |holder: &&Holder| {
            let here = holder.ip.is_unspecified() || holder.ip == route.to || cast != Cast::Unicast;
            holder.ip.is_ipv4() == route.to.is_ipv4() && here
        };
        let mut holders: Vec<Holder> = self.hosts[host].udp_ports.at(to.port()).iter().filter(hears).copied().collect();
        if cast == Cast::Unicast {
            // The one that named the address, or else the first that takes any.
            holders.sort_by_key(|holder| holder.ip.is_unspecified());
            holders.truncate(1);
            if holders.is_empty() {
                let answer = packet::port_unreachable(route, datagram);
                self.outbox.push(answer);
                return self.send_outbox(host);
            }
        }
        let arrival =
            Arrival { length: data.len(), stored: 0, source: from, destination: route.to, interface: INTERFACE, cast };
        for holder in holders {
            match holder.who {
                Who::User(id) => self.queue_datagram(id, arrival, data),
                Who::Peer(peer) if self.peers[peer].script == Script::Echo && cast == Cast::Unicast => {
                    self.echo_datagram(host, to, from, data);
                }
                Who::Peer(_) => {}
            }
        }
    }

    fn queue_datagram(&mut self, id: Id, arrival: Arrival, data: &[u8]) {
        let Some(one) = self.datagrams.get_mut(id) else { return };
        if arrival.cast == Cast::Multicast && !one.is_member(arrival.destination, arrival.source.ip()) {
            return;
        }
        let size = data.len() + QUEUE_ENTRY;
        if one.queued_bytes + size > QUEUE_MAX {
            return;
        }
        one.queued_bytes += size;
        one.queue.push_back((arrival, data.to_vec()));
        self.tell_datagrams(id, Readiness::READABLE);
    }

    fn echo_datagram(&mut self, host: usize, own: SocketAddr, to: SocketAddr, data: &[u8]) {
        let Some(target) = self.host_at(host, to.ip()) else { return };
        let datagram = packet::datagram(own, to, &[data]);
        self.next_ident = self.next_ident.wrapping_add(1);
        let route = Route { from: own.ip(), to: to.ip() };
        let envelope = Envelope { route, hops: 64, service: 0, dont_fragment: false, ident: self.next_ident };
        for packet in packet::packets(envelope, &datagram, self.mtu_between(host, target)) {
            self.carry(host, target, packet);
        }
    }

    pub(crate) fn fragment_arrives(&mut self, host: usize, route: Route, piece: &Piece<'_>) {
        let now = self.now;
        if let Some(datagram) = self.hosts[host].reassembly.add(now, route, piece) {
            self.datagram_arrives(host, route, &datagram);
        }
    }

    pub(crate) fn unreachable_arrives(&mut self, host: usize, from: SocketAddr, to: SocketAddr) {
        let holders: Vec<Holder> = self.hosts[host].udp_ports.at(from.port()).to_vec();
        for holder in holders {
            let is_sender = holder.ip == from.ip() || holder.ip.is_unspecified();
            let Who::User(id) = holder.who else { continue };
            let Some(one) = self.datagrams.get_mut(id) else { continue };
            if is_sender && one.local.is_ipv4() == from.is_ipv4() && one.reports.len() < REPORTS_MAX {
                one.reports.push_back((to, NetError::Refused));
                self.tell_datagrams(id, Readiness::READABLE);
            }
        }
    }
}

impl Datagrams {
    fn join(&mut self, wanted: Membership) -> Result<(), NetError> {
        self.check_membership(wanted)?;
        let entry = (wanted.group, wanted.source);
        if self.groups.contains(&entry) {
            return Err(NetError::AddressNotAvailable);
        }
        if self.groups.len() == GROUPS_MAX {
            return Err(NetError::OutOfMemory);
        }
        self.groups.push(entry);
        Ok(())
    }

    fn leave(&mut self, wanted: Membership) -> Result<(), NetError> {
        let entry = (wanted.group, wanted.source);
        let found = self.groups.iter().position(|known| *known == entry);
        self.groups.swap_remove(found.ok_or(NetError::AddressNotAvailable)?);
        Ok(())
    }

    fn check_membership(&self, wanted: Membership) -> Result<(), NetError> {
        let is_of_family = |ip: IpAddr| ip.is_ipv4() == self.local.is_ipv4();
        let fits = wanted.group.is_multicast() && is_of_family(wanted.group) && wanted.source.is_none_or(is_of_family);
        // Nobody can be told apart by an IPv4 address on an IPv6 network.
        let names_interface = !matches!(wanted.interface, Interface::WithAddress(ip) if ip != Ipv4Addr::UNSPECIFIED);
        if fits && (self.local.is_ipv4() || names_interface) { Ok(()) } else { Err(NetError::AddressNotAvailable) }
    }
}

/// How long the pieces of a datagram wait for the others.
const PATIENCE: Time = 30_000_000_000;
/// Datagrams that are being put together at most.
const PARTIAL_MAX: usize = 64;
/// Pieces of one datagram at most: it fits into no packet, and no wire takes less than 576 bytes.
const PIECES_MAX: usize = 128;

/// Datagrams of which some pieces are here.
#[derive(Default)]
pub(crate) struct Reassembly {
    partial: BTreeMap<(Route, u32), Partial>,
}

struct Partial {
    until: Time,
    /// By offset.
    pieces: BTreeMap<usize, Vec<u8>>,
    length: Option<usize>,
}

impl Reassembly {
    /// Takes a piece; returns the datagram if it was the last that was missing.
    fn add(&mut self, now: Time, route: Route, piece: &Piece<'_>) -> Option<Vec<u8>> {
        self.partial.retain(|_, partial| partial.until > now);
        let key = (route, piece.ident);
        if !self.partial.contains_key(&key) && self.partial.len() == PARTIAL_MAX {
            return None;
        }
        let end = piece.offset + piece.bytes.len();
        if end > UDP_HEADER + LENGTH_MAX_V6 {
            return None;
        }
        let fresh = || Partial { until: now + PATIENCE, pieces: BTreeMap::new(), length: None };
        let partial = self.partial.entry(key).or_insert_with(fresh);
        if partial.pieces.len() < PIECES_MAX {
            partial.pieces.entry(piece.offset).or_insert_with(|| piece.bytes.to_vec());
        }
        if piece.is_last {
            partial.length = Some(end);
        }
        let whole = partial.whole()?;
        self.partial.remove(&key);
        Some(whole)
    }
}

impl Partial {
    fn whole(&self) -> Option<Vec<u8>> {
        let length = self.length?;
        let mut bytes = Vec::with_capacity(length);
        for (offset, piece) in &self.pieces {
            // A sender cuts in one way; pieces that overlap are of no datagram.
            if *offset != bytes.len() {
                return None;
            }
            bytes.extend_from_slice(piece);
        }
        (bytes.len() == length).then_some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route() -> Route {
        Route { from: "10.0.0.1".parse().unwrap(), to: "10.0.0.2".parse().unwrap() }
    }

    fn piece(offset: usize, is_last: bool, bytes: &[u8]) -> Piece<'_> {
        Piece { ident: 7, offset, is_last, bytes }
    }

    #[test]
    fn pieces_in_any_order_make_the_datagram() {
        let mut reassembly = Reassembly::default();
        assert_eq!(reassembly.add(0, route(), &piece(8, true, b"tail")), None);
        assert_eq!(reassembly.add(0, route(), &piece(8, true, b"tail")), None);
        assert_eq!(reassembly.add(0, route(), &piece(0, false, b"12345678")), Some(b"12345678tail".to_vec()));
        assert!(reassembly.partial.is_empty());
    }

    #[test]
    fn missing_piece_is_waited_for_a_bounded_time() {
        let mut reassembly = Reassembly::default();
        assert_eq!(reassembly.add(0, route(), &piece(0, false, b"12345678")), None);
        assert_eq!(reassembly.add(PATIENCE, route(), &piece(8, true, b"tail")), None);
        assert_eq!(reassembly.partial.len(), 1);
    }

    #[test]
    fn number_of_unfinished_datagrams_is_bounded() {
        let mut reassembly = Reassembly::default();
        for ident in 0..1000 {
            reassembly.add(0, route(), &Piece { ident, ..piece(0, false, b"12345678") });
        }
        assert_eq!(reassembly.partial.len(), PARTIAL_MAX);
    }

    #[test]
    fn piece_beyond_the_longest_datagram_is_dropped() {
        let mut reassembly = Reassembly::default();
        assert_eq!(reassembly.add(0, route(), &piece(65_528, true, &[0; 100])), None);
        assert!(reassembly.partial.is_empty());
    }
}
