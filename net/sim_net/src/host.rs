//! A host: its addresses, its ports, its tables.
//!
//! The tables are searched, never walked, except in order of their keys: the order in which things happen
//! must not depend on where memory lies.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use smoltcp::iface::SocketSet;

use crate::datagram::Reassembly;
use crate::link::Time;
use crate::network_file::{self, Limits};
use crate::random::Random;
use crate::slab::Id;
use crate::stack::Stack;

/// Within a host nothing is longer than an IP packet can be.
pub(crate) const OWN_MTU: usize = 65_535;
/// How long the end that closed first remembers a connection.
const FINISHED_FOR: Time = 10_000_000_000;
/// More finished connections than this are forgotten early, as hosts do.
const FINISHED_MAX: usize = 1 << 16;
/// Where the search for a free port begins, and the range it wraps around in.
const FIRST_EPHEMERAL: u16 = 49_152;
const LOWEST_EPHEMERAL: u16 = 1024;

pub(crate) struct Host {
    pub(crate) name: String,
    addresses: Vec<(IpAddr, u8)>,
    pub(crate) limits: Limits,
    seeds: Random,
    stacks: BTreeMap<usize, Stack>,
    pub(crate) is_up: bool,
    pub(crate) connections: BTreeMap<Tuple, Id>,
    pub(crate) finished: Finished,
    pub(crate) tcp_ports: Ports,
    pub(crate) udp_ports: Ports,
    pub(crate) reassembly: Reassembly,
    /// What the user of this host's network is to be told.
    pub(crate) news: VecDeque<News>,
}

/// Both ends of a connection, as one of its hosts sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tuple {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
}

/// Who has something to tell; what it is is kept there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum News {
    Connection(Id),
    Listener(Id),
    Datagrams(Id),
}

impl Host {
    pub(crate) fn new(host: &network_file::Host, seed: u64, number: usize) -> Self {
        let mut addresses = host.addresses.clone();
        addresses.push((Ipv4Addr::LOCALHOST.into(), 8));
        addresses.push((Ipv6Addr::LOCALHOST.into(), 128));
        Self {
            name: host.name.clone(),
            addresses,
            limits: host.limits,
            // Links have the streams from 0 on.
            seeds: Random::new(seed, u64::MAX - number as u64),
            stacks: BTreeMap::new(),
            is_up: true,
            connections: BTreeMap::new(),
            finished: Finished::default(),
            tcp_ports: Ports::new(),
            udp_ports: Ports::new(),
            reassembly: Reassembly::default(),
            news: VecDeque::new(),
        }
    }

    /// The stack for wires of this MTU.
    pub(crate) fn stack(&mut self, mtu: usize) -> &mut Stack {
        let (addresses, seeds) = (&self.addresses, &mut self.seeds);
        self.stacks.entry(mtu).or_insert_with(|| Stack::new(addresses, mtu, seeds.next()))
    }

    /// Lets the stack answer a packet that is for no connection.
    pub(crate) fn answer_stray(&mut self, now: Time, frame: Vec<u8>, outgoing: &mut Vec<Vec<u8>>) {
        let mut nobody = SocketSet::new(Vec::new());
        self.stack(OWN_MTU).poll(now, Some(frame), &mut nobody, outgoing);
    }

    /// Its addresses with their prefixes.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (IpAddr, u8)> + '_ {
        self.addresses.iter().copied()
    }

    /// Whether `ip` is one of this host's addresses.
    pub(crate) fn has(&self, ip: IpAddr) -> bool {
        self.addresses.iter().any(|(own, _)| *own == ip)
    }

    /// The address to speak from to `remote`: the same one to oneself, or else the one that shares most with
    /// it.
    pub(crate) fn source_for(&self, remote: IpAddr) -> Option<IpAddr> {
        if self.has(remote) {
            return Some(remote);
        }
        let usable = self.addresses.iter().filter(|(own, _)| own.is_ipv4() == remote.is_ipv4() && !own.is_loopback());
        // The first of several, not the last.
        usable.rev().max_by_key(|(own, _)| shared_bits(*own, remote)).map(|(own, _)| *own)
    }

    /// A TCP port that nobody holds and no connection has.
    pub(crate) fn choose_unused_port(&mut self, ip: IpAddr) -> Option<u16> {
        let (addresses, connections) = (&self.addresses, &self.connections);
        let is_unused = |port| {
            addresses.iter().all(|(own, _)| {
                let local = SocketAddr::new(*own, port);
                let lowest = Tuple { local, remote: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0) };
                connections.range(lowest..).next().is_none_or(|(tuple, _)| tuple.local != local)
            })
        };
        self.tcp_ports.choose(ip, is_unused)
    }

    /// Whether `ip` means every host on the network of one of this host's addresses.
    pub(crate) fn is_broadcast(&self, ip: IpAddr) -> bool {
        let everybody = IpAddr::V4(Ipv4Addr::BROADCAST);
        ip == everybody || self.addresses.iter().any(|own| network_file::broadcast(*own) == Some(ip))
    }
}

fn shared_bits(one: IpAddr, other: IpAddr) -> u32 {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        _ => 0,
    }
}

/// Connections that both sides have ended, at the end that ended first: should the other side not have heard
/// the last acknowledgement, it gets it again.
#[derive(Default)]
pub(crate) struct Finished {
    by_tuple: BTreeMap<Tuple, (Time, Vec<u8>)>,
    /// In the order of time.
    order: VecDeque<(Time, Tuple)>,
}

impl Finished {
    pub(crate) fn insert(&mut self, now: Time, tuple: Tuple, last_frame: Vec<u8>) {
        self.forget(now);
        if self.order.len() >= FINISHED_MAX
            && let Some((until, oldest)) = self.order.pop_front()
        {
            self.remove_if(oldest, until);
        }
        let until = now + FINISHED_FOR;
        self.by_tuple.insert(tuple, (until, last_frame));
        self.order.push_back((until, tuple));
    }

    /// The last packet of this connection, if it is remembered.
    pub(crate) fn last_frame(&mut self, now: Time, tuple: &Tuple) -> Option<&[u8]> {
        self.forget(now);
        self.by_tuple.get(tuple).map(|(_, frame)| frame.as_slice())
    }

    pub(crate) fn contains(&mut self, now: Time, tuple: &Tuple) -> bool {
        self.last_frame(now, tuple).is_some()
    }

    pub(crate) fn remove(&mut self, tuple: &Tuple) {
        self.by_tuple.remove(tuple);
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn forget(&mut self, now: Time) {
        while let Some((until, tuple)) = self.order.front().copied()
            && until <= now
        {
            self.order.pop_front();
            self.remove_if(tuple, until);
        }
    }

    /// The same ends may have finished another connection since.
    fn remove_if(&mut self, tuple: Tuple, until: Time) {
        if self.by_tuple.get(&tuple).is_some_and(|(other, _)| *other == until) {
            self.by_tuple.remove(&tuple);
        }
    }
}

/// Who holds which port of one protocol.
pub(crate) struct Ports {
    holders: BTreeMap<u16, Vec<Holder>>,
    next: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// The address it is bound to; perhaps the unspecified one.
    pub(crate) ip: IpAddr,
    /// Whether it may have company.
    pub(crate) is_shared: bool,
    pub(crate) who: Who,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// A local address or a datagram address.
    User(Id),
    /// A scripted peer, by its number.
    Peer(usize),
}

impl Ports {
    fn new() -> Self {
        Self { holders: BTreeMap::new(), next: FIRST_EPHEMERAL }
    }

    pub(crate) fn at(&self, port: u16) -> &[Holder] {
        self.holders.get(&port).map_or(&[], Vec::as_slice)
    }

    /// Whether a new holder of `port` would be in another's way.
    pub(crate) fn is_taken(&self, port: u16, ip: IpAddr, is_shared: bool) -> bool {
        self.at(port).iter().any(|holder| overlap(holder.ip, ip) && !(is_shared && holder.is_shared))
    }

    pub(crate) fn take(&mut self, port: u16, holder: Holder) {
        self.holders.entry(port).or_default().push(holder);
    }

    pub(crate) fn give_back(&mut self, port: u16, who: Who) {
        if let Some(holders) = self.holders.get_mut(&port) {
            holders.retain(|holder| holder.who != who);
            if holders.is_empty() {
                self.holders.remove(&port);
            }
        }
    }

    /// The next port that nobody holds and that `suits`.
    pub(crate) fn choose(&mut self, ip: IpAddr, mut suits: impl FnMut(u16) -> bool) -> Option<u16> {
        for _ in LOWEST_EPHEMERAL..=u16::MAX {
            let port = self.next;
            self.next = if port == u16::MAX { LOWEST_EPHEMERAL } else { port + 1 };
            if !self.is_taken(port, ip, false) && suits(port) {
                return Some(port);
            }
        }
        None
    }
}

fn overlap(one: IpAddr, other: IpAddr) -> bool {
    one.is_ipv4() == other.is_ipv4() && (one == other || one.is_unspecified() || other.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn host() -> Host {
        let text = "[[host]]\nname = \"a\"\naddress = [\"10.1.0.1/16\", \"192.168.7.1\", \"fd00::1\"]";
        Host::new(&network_file::NetworkFile::parse(text).unwrap().hosts[0], 1, 0)
    }

    #[test]
    fn source_is_the_address_nearest_to_the_remote_one() {
        let host = host();
        assert_eq!(host.source_for(ip("192.168.7.9")), Some(ip("192.168.7.1")));
        assert_eq!(host.source_for(ip("10.9.9.9")), Some(ip("10.1.0.1")));
        assert_eq!(host.source_for(ip("127.0.0.1")), Some(ip("127.0.0.1")));
        assert_eq!(host.source_for(ip("192.168.7.1")), Some(ip("192.168.7.1")));
        assert_eq!(host.source_for(ip("fd00::9")), Some(ip("fd00::1")));
    }

    #[test]
    fn broadcast_addresses_follow_from_the_prefixes() {
        let host = host();
        for address in ["255.255.255.255", "10.1.255.255", "192.168.7.255"] {
            assert!(host.is_broadcast(ip(address)), "{address}");
        }
        for address in ["10.255.255.255", "192.168.7.254", "fd00::ffff"] {
            assert!(!host.is_broadcast(ip(address)), "{address}");
        }
    }

    #[test]
    fn wildcard_is_in_the_way_of_every_address_of_its_family() {
        let mut ports = Ports::new();
        let who = Who::Peer(0);
        ports.take(80, Holder { ip: ip("0.0.0.0"), is_shared: false, who });
        assert!(ports.is_taken(80, ip("10.0.0.1"), true));
        assert!(!ports.is_taken(80, ip("::"), false));
        ports.give_back(80, who);
        assert!(!ports.is_taken(80, ip("10.0.0.1"), false));
    }

    #[test]
    fn search_for_a_port_wraps_around_and_ends() {
        let mut ports = Ports::new();
        ports.next = u16::MAX;
        assert_eq!(ports.choose(ip("0.0.0.0"), |_| true), Some(u16::MAX));
        assert_eq!(ports.choose(ip("0.0.0.0"), |_| true), Some(LOWEST_EPHEMERAL));
        assert_eq!(ports.choose(ip("0.0.0.0"), |_| false), None);
    }

    #[test]
    fn finished_connection_is_remembered_for_its_time() {
        let mut finished = Finished::default();
        let tuple = Tuple { local: "10.0.0.1:1".parse().unwrap(), remote: "10.0.0.2:2".parse().unwrap() };
        finished.insert(0, tuple, vec![1]);
        assert_eq!(finished.last_frame(FINISHED_FOR - 1, &tuple), Some(&[1][..]));
        // A later connection of the same ends is remembered for its own time.
        finished.remove(&tuple);
        finished.insert(5, tuple, vec![2]);
        assert_eq!(finished.last_frame(FINISHED_FOR, &tuple), Some(&[2][..]));
        assert!(!finished.contains(FINISHED_FOR + 5, &tuple));
    }
}
