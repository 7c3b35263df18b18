//! A client, a network and the caller's duties in one place, so that a case takes ten lines.
//!
//! Everything the client or the network could see is appended to a story, one word or two per event:
//! `SYN`, `accept`, `FIN`, `RST`, `close` for network commands, `connect=SUCCESS` or `receive=SUCCESS/5` for
//! completions (`receive#2` is the second request of its kind), `<hello>` for a receive indication, `!<x>` for
//! an expedited one, `gone:RELEASE` for ClientEventDisconnect, `offered` for ClientEventConnect, `refuse`.
#![allow(dead_code, reason = "each test file uses a part of the vocabulary")]

mod driver;
mod network;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use nt_abi::NtStatus;
use nt_abi::tdi::{TdiEvent, disconnect_flags, receive_flags, send_flags};
use tdi_core::time::SECOND;
use tdi_core::{
    Address, AddressId, Config, ConnectionHandlers, Endpoint, EndpointId, Handler, Instant, NetworkError, NetworkEvent,
    Offer, OfferId, Outcome, RemoteFilter, Request, RequestId, StateName,
};

pub use network::Wire;

pub const RELEASE: u32 = disconnect_flags::RELEASE;
pub const ABORT: u32 = disconnect_flags::ABORT;
pub const WAIT: u32 = disconnect_flags::WAIT;
pub const NORMAL: u32 = receive_flags::NORMAL;
pub const EXPEDITED: u32 = receive_flags::EXPEDITED;

/// What the next receive handler answers. Without a script it takes everything.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: NtStatus,
    pub taken: u32,
    /// Length and flags of an IRP it returns.
    pub receive: Option<(u32, u32)>,
}

impl Answer {
    pub fn takes(taken: u32) -> Self {
        Self { status: NtStatus::SUCCESS, taken, receive: None }
    }

    pub fn rejects() -> Self {
        Self { status: NtStatus::DATA_NOT_ACCEPTED, taken: 0, receive: None }
    }

    /// Takes some and returns an IRP for what follows.
    pub fn takes_and_returns(taken: u32, length: u32) -> Self {
        Self { status: NtStatus::MORE_PROCESSING_REQUIRED, taken, receive: Some((length, 0)) }
    }
}

/// What the next connect handler answers. Without a script it refuses.
#[derive(Clone, Copy, Debug)]
pub enum Welcome {
    /// Returns an AcceptIrp for that endpoint.
    With(usize),
    Refuse,
}

type Deed = Box<dyn FnOnce(&mut World)>;

/// A request the client has issued.
#[derive(Debug)]
pub struct Issued {
    pub label: String,
    pub site: usize,
    /// Its MDL chain.
    pub buffer: Vec<u8>,
    pub completions: Vec<(NtStatus, u64)>,
    pub peer: Option<SocketAddr>,
}

/// One endpoint and its end of the network.
#[derive(Debug)]
pub struct Site {
    pub endpoint: Endpoint,
    pub wire: Wire,
}

pub struct World {
    pub now: Instant,
    pub addresses: Vec<Address>,
    pub sites: Vec<Site>,
    pub requests: BTreeMap<RequestId, Issued>,
    /// Scripted answers of receive handlers and connect handlers.
    pub answers: VecDeque<Answer>,
    pub welcomes: VecDeque<Welcome>,
    /// What the client does inside its next handler or completion routine, by the call's word.
    pub deeds: Vec<(String, Deed)>,
    /// Accepts are not confirmed by the network until [`World::network`] says so.
    pub accepts_late: bool,
    pub faults: Vec<tdi_core::ClientFault>,
    story: Vec<String>,
    counts: BTreeMap<&'static str, u32>,
    next_offer: u64,
}

pub fn remote() -> SocketAddr {
    "192.0.2.7:80".parse().unwrap()
}

pub fn local() -> SocketAddr {
    "192.0.2.1:1025".parse().unwrap()
}

pub fn handler(event: TdiEvent) -> Handler {
    Handler { routine: 0x1000 + u64::from(event.0), context: 0x2000 }
}

impl World {
    /// One address and one endpoint, not associated.
    pub fn new() -> Self {
        let mut world = Self {
            now: Instant(1000),
            addresses: Vec::new(),
            sites: Vec::new(),
            requests: BTreeMap::new(),
            answers: VecDeque::new(),
            welcomes: VecDeque::new(),
            deeds: Vec::new(),
            accepts_late: false,
            faults: Vec::new(),
            story: Vec::new(),
            counts: BTreeMap::new(),
            next_offer: 1,
        };
        world.open_address();
        world.open_endpoint();
        world
    }

    /// The endpoint is associated and idle.
    pub fn associated() -> Self {
        let mut world = Self::new();
        assert_eq!(world.associate(0, 0), NtStatus::SUCCESS);
        world
    }

    /// ... and connected; the story so far is forgotten.
    pub fn connected() -> Self {
        let mut world = Self::associated();
        world.make_connection(0);
        world
    }

    /// ... and every handler for connections is registered.
    pub fn with_handlers() -> Self {
        let mut world = Self::connected();
        for event in [TdiEvent::DISCONNECT, TdiEvent::RECEIVE, TdiEvent::RECEIVE_EXPEDITED] {
            world.register(event);
        }
        world
    }

    /// The one endpoint in the given state.
    pub fn in_state(state: StateName) -> Self {
        let mut world = match state {
            StateName::Unassociated | StateName::CleanedUp => Self::new(),
            StateName::Established | StateName::LocallyReleased | StateName::RemotelyReleased => Self::connected(),
            _ => Self::associated(),
        };
        match state {
            StateName::Connecting => _ = world.connect(),
            StateName::Listening => _ = world.listen(),
            StateName::Offered => {
                world.listen_with(0, RemoteFilter::ANY, true);
                world.offer(remote());
            }
            StateName::Accepting => {
                world.accepts_late = true;
                world.listen();
                world.offer(remote());
            }
            StateName::LocallyReleased => _ = world.disconnect(RELEASE),
            StateName::RemotelyReleased => world.peer_releases(),
            StateName::CleanedUp => world.cleanup(),
            StateName::Unassociated | StateName::Associated | StateName::Established => {}
        }
        assert_eq!(world.state(), state);
        world.story.clear();
        world
    }

    pub fn open_address(&mut self) -> usize {
        let index = self.addresses.len();
        let id = AddressId { index: index as u32, generation: 1 };
        self.addresses.push(Address::new(id, local(), 4));
        index
    }

    pub fn open_endpoint(&mut self) -> usize {
        let index = self.sites.len();
        let id = EndpointId { index: index as u32, generation: 1 };
        self.sites.push(Site { endpoint: Endpoint::new(id, 0xC0, &Config::DEFAULT), wire: Wire::default() });
        index
    }

    pub fn associate(&mut self, site: usize, address: usize) -> NtStatus {
        let status = self.sites[site].endpoint.tdi_associate_address(&mut self.addresses[address]);
        self.run();
        status
    }

    pub fn disassociate(&mut self, site: usize) -> NtStatus {
        let status = self.sites[site].endpoint.tdi_disassociate_address();
        self.run();
        status
    }

    pub fn make_connection(&mut self, site: usize) {
        self.request(site, "connect", Request::Connect { remote: remote(), timeout: None }, Vec::new());
        self.handshake(site);
        assert_eq!(self.sites[site].endpoint.state(), StateName::Established);
        self.story.clear();
    }

    /// The network says that the connection of `site` is up.
    pub fn handshake(&mut self, site: usize) {
        self.network(site, NetworkEvent::Connected { remote: remote() });
    }

    pub fn register(&mut self, event: TdiEvent) {
        self.set_handler(0, event, handler(event));
    }

    pub fn deregister(&mut self, event: TdiEvent) {
        self.set_handler(0, event, Handler::NONE);
    }

    pub fn set_handler(&mut self, address: usize, event: TdiEvent, handler: Handler) {
        assert_eq!(self.addresses[address].tdi_set_event_handler(event, handler), NtStatus::SUCCESS);
        let id = self.addresses[address].id();
        let handlers: ConnectionHandlers = self.addresses[address].connection_handlers();
        let endpoints: Vec<EndpointId> = self.addresses[address].endpoints().collect();
        for endpoint in endpoints {
            self.sites[endpoint.index as usize].endpoint.handle_handlers(id, handlers);
        }
        self.run();
    }

    // Requests. Each returns the id; one that is done at once is completed at once.

    pub fn connect(&mut self) -> RequestId {
        self.request(0, "connect", Request::Connect { remote: remote(), timeout: None }, Vec::new())
    }

    pub fn connect_within(&mut self, ticks: u64) -> RequestId {
        self.request(0, "connect", Request::Connect { remote: remote(), timeout: Some(ticks) }, Vec::new())
    }

    pub fn listen(&mut self) -> RequestId {
        self.listen_with(0, RemoteFilter::ANY, false)
    }

    pub fn listen_with(&mut self, site: usize, filter: RemoteFilter, query_accept: bool) -> RequestId {
        self.request(site, "listen", Request::Listen { filter, query_accept }, Vec::new())
    }

    pub fn accept(&mut self) -> RequestId {
        self.request(0, "accept", Request::Accept, Vec::new())
    }

    pub fn disconnect(&mut self, flags: u32) -> RequestId {
        self.request(0, "disconnect", Request::Disconnect { flags, timeout: None }, Vec::new())
    }

    pub fn disconnect_within(&mut self, flags: u32, ticks: u64) -> RequestId {
        self.request(0, "disconnect", Request::Disconnect { flags, timeout: Some(ticks) }, Vec::new())
    }

    pub fn send(&mut self, bytes: &[u8]) -> RequestId {
        self.send_with(bytes, 0)
    }

    pub fn send_with(&mut self, bytes: &[u8], flags: u32) -> RequestId {
        let length = u32::try_from(bytes.len()).unwrap();
        self.request(0, "send", Request::Send { length, flags }, bytes.to_vec())
    }

    pub fn send_and_disconnect(&mut self, bytes: &[u8]) -> RequestId {
        self.send_with(bytes, send_flags::AND_DISCONNECT)
    }

    pub fn receive(&mut self, length: u32) -> RequestId {
        self.receive_with(length, 0)
    }

    pub fn receive_with(&mut self, length: u32, flags: u32) -> RequestId {
        self.request(0, "receive", Request::Receive { length, flags }, vec![0; length as usize])
    }

    pub fn request(&mut self, site: usize, kind: &'static str, request: Request, buffer: Vec<u8>) -> RequestId {
        let id = self.issue(site, kind, buffer);
        if let Outcome::Done(status) = self.sites[site].endpoint.handle_request(self.now, id, request) {
            self.note_completion(id, status, 0, None);
        }
        self.run();
        id
    }

    pub fn cancel(&mut self, id: RequestId) -> bool {
        let site = self.requests[&id].site;
        let had_it = self.sites[site].endpoint.handle_cancel(self.now, id);
        self.run();
        had_it
    }

    pub fn cleanup(&mut self) {
        self.cleanup_of(0);
    }

    pub fn cleanup_of(&mut self, site: usize) {
        self.sites[site].endpoint.handle_cleanup(self.now);
        self.run();
    }

    pub fn close_address(&mut self, address: usize) {
        self.addresses[address].handle_cleanup();
        self.run();
    }

    /// Time passes.
    pub fn wait(&mut self, ticks: u64) {
        self.now = self.now.after(ticks);
        for site in &mut self.sites {
            site.endpoint.handle_timeout(self.now);
        }
        self.run();
    }

    pub fn wait_seconds(&mut self, seconds: u64) {
        self.wait(seconds * SECOND);
    }

    // What the network does.

    pub fn network(&mut self, site: usize, event: NetworkEvent) {
        if let Some(connection) = self.sites[site].endpoint.connection() {
            self.sites[site].endpoint.handle_network(self.now, connection, event);
        }
        self.run();
    }

    pub fn breaks(&mut self, error: NetworkError) {
        self.network(0, NetworkEvent::Broken(error));
    }

    pub fn peer_sends(&mut self, bytes: &[u8]) {
        self.sites[0].wire.inbound.extend(bytes);
        self.network(0, NetworkEvent::Readable);
    }

    pub fn peer_sends_urgent(&mut self, bytes: &[u8]) {
        let endpoint = &mut self.sites[0].endpoint;
        if let Some(connection) = endpoint.connection() {
            endpoint.handle_expedited(self.now, connection, bytes);
        }
        self.run();
    }

    pub fn peer_releases(&mut self) {
        self.sites[0].wire.has_ended = true;
        self.network(0, NetworkEvent::PeerReleased);
    }

    /// The network takes so many more bytes.
    pub fn opens_window(&mut self, bytes: usize) {
        self.sites[0].wire.window += bytes;
        self.network(0, NetworkEvent::Writable);
    }

    /// The network takes nothing until [`World::opens_window`].
    pub fn closes_window(&mut self) {
        self.sites[0].wire.window = 0;
    }

    pub fn offer(&mut self, remote: SocketAddr) -> Offer {
        let offer = Offer { id: OfferId(self.next_offer), remote, local: local() };
        self.next_offer += 1;
        self.addresses[0].handle_offer(offer);
        self.run();
        offer
    }

    /// Lets an offer wait for as long as one may.
    pub fn overdue(&mut self, offer: Offer) {
        self.addresses[0].handle_offer_overdue(offer.id);
        self.run();
    }

    // What can be seen.

    #[track_caller]
    pub fn state(&self) -> StateName {
        self.sites[0].endpoint.state()
    }

    pub fn endpoint(&mut self) -> &mut Endpoint {
        &mut self.sites[0].endpoint
    }

    pub fn bytes(&self, id: RequestId) -> &[u8] {
        &self.requests[&id].buffer
    }

    pub fn sent(&self) -> &[u8] {
        &self.sites[0].wire.outbound
    }

    pub fn status(&self, id: RequestId) -> Option<NtStatus> {
        self.requests[&id].completions.first().map(|(status, _)| *status)
    }

    /// What happened since the last time, in words separated by blanks.
    #[track_caller]
    pub fn expect(&mut self, story: &str) {
        let told = self.story.join(" ");
        self.story.clear();
        assert_eq!(told, story);
    }

    /// Forgets what happened so far.
    pub fn skip(&mut self) {
        self.story.clear();
    }

    /// Runs `deed` inside the client call that the story will call `word`.
    pub fn during(&mut self, word: &str, deed: impl FnOnce(&mut World) + 'static) {
        self.deeds.push((word.into(), Box::new(deed)));
    }

    pub fn tell(&mut self, word: impl Into<String>) {
        self.story.push(word.into());
    }

    pub fn issue(&mut self, site: usize, kind: &'static str, buffer: Vec<u8>) -> RequestId {
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        let label = if *count == 1 { kind.into() } else { format!("{kind}#{count}") };
        let id = RequestId { index: self.requests.len() as u32, generation: 7 };
        self.requests.insert(id, Issued { label, site, buffer, completions: Vec::new(), peer: None });
        id
    }
}
