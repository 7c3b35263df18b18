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
    /// The hosts on one side of each partition that is in force, by the number of its fault.
    partitions: BTreeMap<usize, Vec<usize>>,
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
            partitions: BTreeMap::new(),
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
        self.partitions.values().any(|part| part.contains(&one) != part.contains(&other))
    }

    fn set_fault(&mut self, number: usize, begins: bool) {
        match (&self.faults[number].what, begins) {
            (FaultKind::Partition(part), true) => {
                self.partitions.insert(number, part.clone());
            }
            (FaultKind::Partition(_), false) => {
                self.partitions.remove(&number);
            }
            (FaultKind::Link { link, settings }, true) => self.links[*link].settings = *settings,
            (FaultKind::Link { link, .. }, false) => self.links[*link].settings = self.usual_links[*link],
            (FaultKind::Crash(host), true) => self.crash(*host),
            (FaultKind::Crash(host), false) => self.hosts[*host].is_up = true,
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
