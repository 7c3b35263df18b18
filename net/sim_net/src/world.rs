//! Everything there is: hosts, links, connections, and what is still to come.
//!
//! One lock is around all of it. That is what makes it deterministic: whatever happens, happens in the order
//! of the agenda, or of the calls that come in.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use net_api::{InterfaceEntry, NetTime};

use crate::address::Address;
use crate::agenda::Agenda;
use crate::connection::Connection;
use crate::datagram::{Datagrams, INTERFACE};
use crate::frame::{Fate, Frame, FrameCount, FrameSink};
use crate::host::{Holder, Host, OWN_MTU, Who};
use crate::link::{Link, Time, nanoseconds};
use crate::network_file::{Fault, FaultKind, NetworkFile, Peer, Script, pair};
use crate::packet::{self, Packet};
use crate::slab::{Id, Slab};

/// How long a packet takes from a host to itself. Not nothing, or two that talk to each other would never let
/// time go on.
const OWN_LATENCY: Time = 1000;

pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) hosts: Vec<Host>,
    by_ip: BTreeMap<IpAddr, usize>,
    /// One per pair of hosts.
    links: Vec<Link>,
    usual_links: Vec<crate::network_file::Link>,
    faults: Vec<Fault>,
    /// The faults that last, by number, in the order in which they began.
    lasting: Vec<usize>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) connections: Slab<Connection>,
    pub(crate) addresses: Slab<Address>,
    pub(crate) datagrams: Slab<Datagrams>,
    pub(crate) agenda: Agenda<Event>,
    /// Connections whose sockets have something to send.
    pub(crate) dirty: VecDeque<Id>,
    /// Peers' connections with news for them.
    pub(crate) restless: VecDeque<Id>,
    /// Packets that a stack has just made.
    pub(crate) outbox: Vec<Vec<u8>>,
    pub(crate) sink: Option<Box<dyn FrameSink>>,
    pub(crate) count: FrameCount,
    /// Polls that sleep in real time.
    pub(crate) waiting: usize,
    /// Hosts whose polls are to return.
    pub(crate) wakes: Vec<bool>,
    /// Identifies datagrams that travel in pieces.
    pub(crate) next_ident: u32,
}

/// Something to come.
pub(crate) enum Event {
    Arrival {
        host: usize,
        frame: Vec<u8>,
    },
    /// A connection's socket, or our patience with it, is due.
    Timer(Id),
    FaultBegins(usize),
    FaultEnds(usize),
    /// A scripted client makes its connection of this number.
    Client {
        peer: usize,
        number: u32,
    },
}

impl World {
    pub(crate) fn new(file: &NetworkFile, seed: u64) -> Self {
        let hosts: Vec<Host> =
            file.hosts.iter().enumerate().map(|(number, host)| Host::new(host, seed, number)).collect();
        let owned = file.hosts.iter().enumerate();
        let by_ip = owned.flat_map(|(number, host)| host.addresses.iter().map(move |(ip, _)| (*ip, number))).collect();
        let links = file.links.iter().enumerate();
        let mut world = Self {
            now: 0,
            hosts,
            by_ip,
            links: links.map(|(number, link)| Link::new(*link, seed, number)).collect(),
            usual_links: file.links.clone(),
            faults: file.faults.clone(),
            lasting: Vec::new(),
            peers: file.peers.clone(),
            connections: Slab::new(),
            addresses: Slab::new(),
            datagrams: Slab::new(),
            agenda: Agenda::new(),
            dirty: VecDeque::new(),
            restless: VecDeque::new(),
            outbox: Vec::new(),
            sink: None,
            count: FrameCount::default(),
            waiting: 0,
            wakes: vec![false; file.hosts.len()],
            next_ident: 0,
        };
        for (number, fault) in file.faults.iter().enumerate() {
            world.agenda.plan(nanoseconds(fault.at), Event::FaultBegins(number));
            if let Some(until) = fault.until {
                world.agenda.plan(nanoseconds(until), Event::FaultEnds(number));
            }
        }
        for number in 0..world.peers.len() {
            world.begin_peer(number);
        }
        world
    }

    fn begin_peer(&mut self, number: usize) {
        let peer = &self.peers[number];
        if let Script::Client(client) = &peer.script {
            return self.agenda.plan(nanoseconds(client.at), Event::Client { peer: number, number: 0 });
        }
        let host = &mut self.hosts[peer.host];
        let ports = if peer.is_udp { &mut host.udp_ports } else { &mut host.tcp_ports };
        for ip in [IpAddr::V4([0; 4].into()), IpAddr::V6([0; 16].into())] {
            ports.take(peer.port, Holder { ip, is_shared: false, who: Who::Peer(number) });
        }
    }

    /// Lets time go on until `until`, and everything happen that happens by then.
    pub(crate) fn advance(&mut self, until: Time) {
        while let Some((at, event)) = self.agenda.take_due(until) {
            self.now = self.now.max(at);
            self.happen(event);
            self.settle();
        }
        self.now = self.now.max(until);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrival { host, frame } => self.arrive(host, frame),
            Event::Timer(connection) => self.timer(connection),
            Event::FaultBegins(number) => self.set_fault(number, true),
            Event::FaultEnds(number) => self.set_fault(number, false),
            Event::Client { peer, number } => self.client_connects(peer, number),
        }
    }

    /// Lets every socket send and every peer act that now can. Ends, since no time passes meanwhile and what
    /// they can do without is bounded by their buffers.
    pub(crate) fn settle(&mut self) {
        loop {
            if let Some(connection) = self.dirty.pop_front() {
                self.drive(connection, None);
            } else if let Some(connection) = self.restless.pop_front() {
                self.play(connection);
            } else {
                return;
            }
        }
    }

    fn arrive(&mut self, host: usize, frame: Vec<u8>) {
        if !self.hosts[host].is_up {
            return;
        }
        match packet::parse(&frame) {
            Some(Packet::Tcp(segment)) => self.segment_arrives(host, frame, segment),
            Some(Packet::Udp { route, datagram }) => self.datagram_arrives(host, route, datagram),
            Some(Packet::Fragment { route, piece }) => self.fragment_arrives(host, route, &piece),
            Some(Packet::Unreachable { from, to }) => self.unreachable_arrives(host, from, to),
            Some(Packet::Other) => self.answer_stray(host, frame),
            None => {}
        }
    }

    pub(crate) fn answer_stray(&mut self, host: usize, frame: Vec<u8>) {
        self.hosts[host].answer_stray(self.now, frame, &mut self.outbox);
        self.send_outbox(host);
    }

    /// Sends what a stack of `host` has just made.
    pub(crate) fn send_outbox(&mut self, host: usize) {
        let mut frames = std::mem::take(&mut self.outbox);
        for frame in frames.drain(..) {
            let to = packet::destination(&frame).and_then(|ip| self.host_at(host, ip));
            if let Some(to) = to {
                self.carry(host, to, frame);
            }
        }
        self.outbox = frames;
    }

    /// The host that `from` reaches at this address.
    pub(crate) fn host_at(&self, from: usize, ip: IpAddr) -> Option<usize> {
        if self.hosts[from].has(ip) { Some(from) } else { self.by_ip.get(&ip).copied() }
    }

    /// The MTU of the wire between two hosts.
    pub(crate) fn mtu_between(&self, from: usize, to: usize) -> usize {
        if from == to { OWN_MTU } else { self.links[pair(self.hosts.len(), from, to)].settings.mtu }
    }

    /// A host's wire, and the way back to itself.
    pub(crate) fn interfaces(&self, host: usize) -> Vec<InterfaceEntry> {
        let others = (0..self.hosts.len()).filter(|&other| other != host).map(|other| self.mtu_between(host, other));
        let this = &self.hosts[host];
        let entry = |number, name: &str, mtu, is_loopback| InterfaceEntry {
            number,
            name: name.into(),
            is_loopback,
            is_up: this.is_up,
            mtu: u32::try_from(mtu).unwrap_or(u32::MAX),
            hardware_address: None,
            addresses: this.addresses().filter(|(ip, _)| ip.is_loopback() == is_loopback).collect(),
        };
        let longest = others.max().unwrap_or(OWN_MTU);
        vec![entry(INTERFACE, "wire", longest, false), entry(INTERFACE + 1, "loopback", OWN_MTU, true)]
    }

    /// The names of the wires: of the links, and then of the hosts' wires to themselves.
    pub(crate) fn wires(&self) -> Vec<String> {
        let names = || self.hosts.iter().map(|host| host.name.as_str());
        let links = names().enumerate().flat_map(|(low, one)| {
            let others = names().skip(low + 1);
            others.map(move |other| format!("{one} - {other}"))
        });
        links.chain(names().map(|name| format!("{name} (loopback)"))).collect()
    }

    /// Puts a packet on the wire from host `from` to host `to`.
    pub(crate) fn carry(&mut self, from: usize, to: usize, frame: Vec<u8>) {
        if from == to {
            self.record(self.links.len() + from, &frame, Fate::Arrives);
            self.agenda.plan(self.now + OWN_LATENCY, Event::Arrival { host: to, frame });
            return;
        }
        let wire = pair(self.hosts.len(), from, to);
        if self.is_cut(from, to) {
            self.record(wire, &frame, Fate::Partitioned);
            return;
        }
        let verdict = self.links[wire].send(self.now, usize::from(from > to), frame.len());
        self.record(wire, &frame, verdict.fate);
        if let [_, Some(at)] = verdict.arrivals {
            self.agenda.plan(at, Event::Arrival { host: to, frame: frame.clone() });
        }
        if let [Some(at), _] = verdict.arrivals {
            self.agenda.plan(at, Event::Arrival { host: to, frame });
        }
    }

    fn record(&mut self, wire: usize, bytes: &[u8], fate: Fate) {
        self.count.count(fate);
        if let Some(sink) = &mut self.sink {
            sink.record(&Frame { at: NetTime::from_nanoseconds(self.now), wire, bytes, fate });
        }
    }

    fn is_cut(&self, one: usize, other: usize) -> bool {
        self.lasting().any(|what| match what {
            FaultKind::Partition(part) => part.contains(&one) != part.contains(&other),
            FaultKind::Link { .. } | FaultKind::Crash(_) => false,
        })
    }

    /// What the faults that last do, in the order in which they began.
    fn lasting(&self) -> impl Iterator<Item = &FaultKind> {
        self.lasting.iter().map(|number| &self.faults[*number].what)
    }

    /// What holds follows from all faults that last: the end of one does not end another.
    fn set_fault(&mut self, number: usize, begins: bool) {
        if begins {
            self.lasting.push(number);
        } else {
            self.lasting.retain(|other| *other != number);
        }
        match self.faults[number].what {
            FaultKind::Partition(_) => {}
            FaultKind::Link { link, .. } => {
                self.links[link].settings = self.lasting().fold(self.usual_links[link], |now, what| match what {
                    FaultKind::Link { link: of, change } if *of == link => change.of(now),
                    FaultKind::Link { .. } | FaultKind::Partition(_) | FaultKind::Crash(_) => now,
                });
            }
            FaultKind::Crash(host) if begins => self.crash(host),
            FaultKind::Crash(host) => {
                let lasts = self.lasting().any(|what| *what == FaultKind::Crash(host));
                self.hosts[host].is_up = !lasts;
            }
        }
    }

    /// The host forgets its connections and what waits. The others are not told: they find out. What its users
    /// have open is theirs and stays, and listens again when the host is back.
    fn crash(&mut self, host: usize) {
        self.hosts[host].is_up = false;
        self.lose_connections(host);
        self.lose_datagrams(host);
        self.lose_offers(host);
        self.hosts[host].finished.clear();
        self.hosts[host].reassembly = Default::default();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// A world of three hosts with these faults.
    fn world(faults: &str) -> World {
        let hosts = (1..=3).map(|number| format!("[[host]]\nname = \"h{number}\"\naddress = [\"10.0.0.{number}\"]\n"));
        World::new(&NetworkFile::parse(&(hosts.collect::<String>() + faults)).unwrap(), 1)
    }

    fn fault(from: u64, until: u64, what: &str) -> String {
        format!("[[fault]]\nat = \"{from}s\"\nuntil = \"{until}s\"\n{what}\n")
    }

    /// What is true in each of the first seconds.
    fn second_by_second<T>(faults: &[String], what: impl Fn(&World) -> T) -> [T; 6] {
        let mut world = world(&faults.concat());
        std::array::from_fn(|second| {
            world.advance(second as u64 * 1_000_000_000 + 500_000_000);
            what(&world)
        })
    }

    const LINK: &str = "link = [\"h1\", \"h2\"]";

    #[test]
    fn link_is_down_while_any_fault_says_so() {
        let down = format!("{LINK}\ndown = true");
        let faults = [fault(1, 5, &down), fault(2, 3, &down)];
        let is_down = second_by_second(&faults, |world| world.links[0].settings.down);
        assert_eq!(is_down, [false, true, true, true, true, false]);
    }

    #[test]
    fn end_of_a_fault_leaves_the_properties_that_another_has_changed() {
        let faults = [fault(1, 4, &format!("{LINK}\nloss = 1")), fault(2, 5, &format!("{LINK}\nlatency = \"50ms\""))];
        let seen = second_by_second(&faults, |world| {
            let settings = &world.links[0].settings;
            (settings.loss, settings.latency.as_millis())
        });
        assert_eq!(seen, [(0.0, 1), (1.0, 1), (1.0, 50), (1.0, 50), (0.0, 50), (0.0, 1)]);
    }

    #[test]
    fn fault_that_began_last_has_its_way_and_the_earlier_one_again_afterwards() {
        let mtu = |mtu: usize| format!("{LINK}\nmtu = {mtu}");
        // The last two begin together.
        let faults = [fault(2, 3, &mtu(800)), fault(1, 5, &mtu(700)), fault(4, 5, &mtu(900)), fault(4, 6, &mtu(1000))];
        let seen = second_by_second(&faults, |world| world.links[0].settings.mtu);
        assert_eq!(seen, [1500, 700, 800, 700, 1000, 1000]);
    }

    #[test]
    fn host_is_down_while_any_crash_lasts() {
        let crash = "crash = \"h1\"";
        let faults = [fault(1, 4, crash), fault(2, 3, crash), fault(4, 5, crash)];
        let is_up = second_by_second(&faults, |world| (world.hosts[0].is_up, world.hosts[1].is_up));
        assert_eq!(is_up.map(|(one, _)| one), [true, false, false, false, false, true]);
        assert!(is_up.iter().all(|(_, other)| *other));
    }

    #[test]
    fn hosts_are_cut_off_while_any_partition_parts_them() {
        let faults = [
            fault(1, 4, "partition = [\"h1\"]"),
            fault(2, 3, "partition = [\"h1\"]"),
            fault(3, 5, "partition = [\"h3\"]"),
        ];
        let cut = second_by_second(&faults, |world| (world.is_cut(0, 1), world.is_cut(1, 0), world.is_cut(1, 2)));
        let is = |one, other| (one, one, other);
        let expected =
            [is(false, false), is(true, false), is(true, false), is(true, true), is(false, true), is(false, false)];
        assert_eq!(cut, expected);
    }

    /// A fault of any kind with its times; every value of a property is another.
    fn any_fault() -> impl Strategy<Value = (u64, u64, String)> {
        let what = prop_oneof![
            (1..4_usize).prop_map(|host| format!("crash = \"h{host}\"")),
            (1..4_usize).prop_map(|host| format!("partition = [\"h{host}\"]")),
            (2..4_usize, 600..1500_u64).prop_map(|(host, mtu)| format!("link = [\"h1\", \"h{host}\"]\nmtu = {mtu}")),
            (2..4_usize, 2..99_u64)
                .prop_map(|(host, ms)| format!("link = [\"h1\", \"h{host}\"]\nlatency = \"{ms}ms\"")),
            (2..4_usize).prop_map(|host| format!("link = [\"h1\", \"h{host}\"]\ndown = true")),
        ];
        (0..8_u64, 1..6_u64, what).prop_map(|(at, length, what)| (at, at + length, what))
    }

    proptest! {
        #[test]
        fn what_holds_follows_from_the_faults_that_last(faults in proptest::collection::vec(any_fault(), 0..8)) {
            let text: String = faults.iter().map(|(at, until, what)| fault(*at, *until, what)).collect();
            let mut world = world(&text);
            for second in 0..14 {
                world.advance(second * 1_000_000_000);
                let mut lasting: Vec<_> =
                    faults.iter().filter(|(at, until, _)| (*at..*until).contains(&second)).collect();
                lasting.sort_by_key(|(at, ..)| *at);
                let has = |what: String| lasting.iter().any(|(.., other)| *other == what);
                let parted = |host: usize| has(format!("partition = [\"h{host}\"]"));
                for host in 1..=3 {
                    prop_assert_eq!(world.hosts[host - 1].is_up, !has(format!("crash = \"h{host}\"")));
                    for other in (1..=3).filter(|other| *other != host) {
                        prop_assert_eq!(world.is_cut(host - 1, other - 1), parted(host) || parted(other));
                    }
                }
                for host in 2..=3 {
                    let of_link = format!("link = [\"h1\", \"h{host}\"]\n");
                    let last = |key: &str| {
                        let begin = format!("{of_link}{key} = ");
                        lasting.iter().rev().find_map(|(.., what)| what.strip_prefix(begin.as_str()))
                    };
                    let settings = &world.links[pair(3, 0, host - 1)].settings;
                    prop_assert_eq!(settings.mtu.to_string(), last("mtu").unwrap_or("1500"));
                    let latency = Duration::from_millis(1);
                    let milliseconds = |text: &str| text.trim_matches('"').trim_end_matches("ms").parse().unwrap();
                    let expected = last("latency").map_or(latency, |text| Duration::from_millis(milliseconds(text)));
                    prop_assert_eq!(settings.latency, expected);
                    prop_assert_eq!(settings.down, last("down").is_some());
                }
            }
        }
    }
}
