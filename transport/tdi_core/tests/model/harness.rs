//! Endpoints and addresses under test, each beside its model, and a network that is as awkward as the
//! contract allows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use nt_abi::NtStatus;
use nt_abi::tdi::TdiEvent;
use tdi_core::{
    Address, AddressId, AddressOutput, Config, ConnectionNumber, Endpoint, EndpointId, Handler, Instant, NetworkError,
    Offer, OfferId, Outcome, RemoteFilter, Request, RequestId,
};

use crate::reference::{Ask, Limits, Reference};
use crate::rng::Rng;
use crate::steps::Mixture;

pub const CLIENTS: usize = 3;
pub const ADDRESSES: usize = 2;

/// The network's side of one connection.
#[derive(Debug)]
pub struct Wire {
    pub number: ConnectionNumber,
    /// Which bytes this connection carries.
    pub serial: u64,
    /// The handshake is done.
    pub is_up: bool,
    /// Bytes that have arrived and are unread; the stream position of the first.
    pub unread: u64,
    pub position: u64,
    /// A FIN stands behind them.
    pub ended: bool,
    /// Reading or writing may be tried: the network has not said that it would block, or has
    /// taken that back.
    pub told_read: bool,
    pub told_write: bool,
    /// An event that is owed.
    pub owes_read: bool,
    pub owes_write: bool,
    pub window: u64,
    pub broken: Option<NetworkError>,
    pub urgent: u64,
    pub is_shut: bool,
}

/// A client call that is out.
#[derive(Debug)]
pub enum Held {
    Completion(RequestId),
    Disconnect,
    Receive { data: Vec<u8>, start: usize, number: ConnectionNumber, is_chained: bool },
}

/// One endpoint.
pub struct Client {
    pub endpoint: Endpoint,
    pub model: Reference,
    /// The address it is associated with.
    pub address: Option<AddressId>,
    pub wire: Option<Wire>,
    pub held: Option<Held>,
}

/// One address.
pub struct Place {
    pub address: Address,
    /// Listens it knows of, oldest first.
    pub listens: Vec<(EndpointId, RequestId, RemoteFilter)>,
    /// Listens come from time to time; `None` if an offer that is on its way may have used up the last one.
    pub has_listened: Option<bool>,
    pub listening: bool,
    pub held: Option<Offer>,
    pub erring: bool,
}

impl Place {
    /// A listen or the connect handler was taken back.
    pub fn note_withdrawal(&mut self) {
        if self.address.handler(TdiEvent::CONNECT).is_registered() {
            return;
        }
        if self.listens.is_empty() {
            self.has_listened = Some(false);
        } else if !self.address.is_quiet() {
            self.has_listened = None;
        }
    }
}

/// A request and what has become of it.
#[derive(Debug)]
pub struct Issued {
    pub client: EndpointId,
    pub buffer: Vec<u8>,
    pub completions: u32,
    /// Connection, kind and stream position of the bytes in the buffer.
    pub bytes: Option<(u64, usize, u64)>,
}

pub struct Harness {
    pub rng: Rng,
    pub mixture: Mixture,
    pub config: &'static Config,
    pub now: u64,
    pub clients: Vec<Client>,
    pub places: Vec<Place>,
    pub requests: BTreeMap<RequestId, Issued>,
    /// Offers that somebody still has to take, refuse or withdraw.
    pub offers: BTreeSet<OfferId>,
    pub next_offer: u64,
    pub next_serial: u64,
    /// How often what was seen.
    pub seen: BTreeMap<String, u64>,
    generation: u32,
    history: VecDeque<String>,
}

pub fn stream_byte(serial: u64, kind: usize, position: u64) -> u8 {
    let mixed = (serial * 31 + position).wrapping_mul(0x9E37_79B9) ^ (position >> 7) ^ (kind as u64 * 0x55);
    (mixed >> 8) as u8
}

pub fn peers() -> [SocketAddr; 3] {
    ["192.0.2.1:1000", "192.0.2.2:1000", "192.0.2.1:2000"].map(|text| text.parse().expect("an address"))
}

const fn config(lookahead: usize) -> Config {
    Config { connect_timeout: 50, offer_timeout: 30, unread_patience: 10, lookahead }
}

static CONFIGS: [Config; 4] = [config(1), config(7), config(64), config(5000)];

impl Harness {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mixture = Mixture::draw(&mut rng);
        let config = &CONFIGS[rng.pick(&[0, 1, 2, 3])];
        let mut harness = Self {
            rng,
            mixture,
            config,
            now: 100,
            clients: Vec::new(),
            places: Vec::new(),
            requests: BTreeMap::new(),
            offers: BTreeSet::new(),
            next_offer: 1,
            next_serial: 1,
            seen: BTreeMap::new(),
            generation: 0,
            history: VecDeque::new(),
        };
        for at in 0..ADDRESSES {
            let place = harness.new_place(at);
            harness.places.push(place);
        }
        for at in 0..CLIENTS {
            let client = harness.new_client(at);
            harness.clients.push(client);
        }
        harness
    }

    pub fn new_client(&mut self, at: usize) -> Client {
        self.generation += 1;
        let id = EndpointId { index: at as u32, generation: self.generation };
        let limits = Limits {
            connect: self.config.connect_timeout,
            offer: self.config.offer_timeout,
            patience: self.config.unread_patience,
        };
        Client {
            endpoint: Endpoint::new(id, 1, self.config),
            model: Reference::new(limits, self.now),
            address: None,
            wire: None,
            held: None,
        }
    }

    pub fn new_place(&mut self, at: usize) -> Place {
        self.generation += 1;
        let id = AddressId { index: at as u32, generation: self.generation };
        let mut address = Address::new(id, "192.0.2.9:80".parse().expect("an address"), 3);
        for event in [TdiEvent::DISCONNECT, TdiEvent::RECEIVE, TdiEvent::RECEIVE_EXPEDITED, TdiEvent::CONNECT] {
            if self.rng.chance(self.mixture.early_handlers) {
                let status = address.tdi_set_event_handler(event, Handler { routine: 9, context: 9 });
                assert_eq!(status, NtStatus::SUCCESS);
            }
        }
        Place { address, listens: Vec::new(), has_listened: Some(false), listening: false, held: None, erring: false }
    }

    pub fn now(&self) -> Instant {
        Instant(self.now)
    }

    pub fn note(&mut self, words: String) {
        if self.history.len() == 60 {
            self.history.pop_front();
        }
        self.history.push_back(words);
    }

    pub fn count(&mut self, what: String) {
        *self.seen.entry(what).or_default() += 1;
    }

    pub fn print_history(&self) {
        for line in &self.history {
            eprintln!("  {line}");
        }
    }

    /// One random step, everything that follows from it, and all checks.
    pub fn step(&mut self) {
        self.take_step();
        self.drain();
        for at in 0..CLIENTS {
            self.check_client(at);
        }
        self.check_places();
        self.replace_the_gone();
    }

    pub fn issue(&mut self, at: usize, buffer: Vec<u8>) -> RequestId {
        let id = RequestId { index: self.requests.len() as u32, generation: 3 };
        let client = self.clients[at].endpoint.id();
        self.requests.insert(id, Issued { client, buffer, completions: 0, bytes: None });
        id
    }

    pub fn ask(&mut self, at: usize, request: Request, ask: &Ask, buffer: Vec<u8>) {
        let id = self.issue(at, buffer);
        self.note(format!("{at}: {ask:?} as {id:?}"));
        let now = self.now();
        let expected = self.clients[at].model.ask(id, ask);
        self.clients[at].model.settle();
        let outcome = self.clients[at].endpoint.handle_request(now, id, request);
        match (expected, outcome) {
            (Some(status), Outcome::Done(done)) => {
                assert_eq!(done, status, "{ask:?}");
                self.note_completion(id);
            }
            (None, Outcome::Taken) => {}
            (expected, outcome) => panic!("{ask:?}: {outcome:?}, the model says {expected:?}"),
        }
    }

    pub fn note_completion(&mut self, id: RequestId) {
        let issued = self.requests.get_mut(&id).expect("a request that was issued");
        issued.completions += 1;
        assert_eq!(issued.completions, 1, "{id:?} completed twice");
    }

    /// Serves all outputs. Address outputs sometimes wait for a later step, as they do when the
    /// address is locked by another thread.
    pub fn drain(&mut self) {
        let delays = self.rng.chance(self.mixture.delayed_addresses);
        loop {
            let mut is_idle = true;
            for at in 0..CLIENTS {
                while let Some(output) = self.clients[at].endpoint.poll_output() {
                    is_idle = false;
                    self.serve(at, output);
                }
            }
            for at in 0..if delays { 0 } else { ADDRESSES } {
                while let Some(output) = self.places[at].address.poll_output() {
                    is_idle = false;
                    self.serve_place(at, output);
                }
            }
            if is_idle {
                return;
            }
        }
    }

    fn serve_place(&mut self, at: usize, output: AddressOutput) {
        match output {
            AddressOutput::Deliver { endpoint, listen, offer } => self.deliver(at, endpoint, listen, offer),
            AddressOutput::IndicateConnect { handler, offer } => {
                let place = &mut self.places[at];
                let registered = place.address.handler(TdiEvent::CONNECT);
                assert!(place.held.is_none() && !place.erring && handler == registered);
                assert!(!place.listens.iter().any(|(.., filter)| filter.matches(offer.remote)), "a listen was there");
                place.held = Some(offer);
                self.count("connect handler".into());
                if !self.rng.chance(self.mixture.held_calls) {
                    self.answer_offer(at);
                }
            }
            AddressOutput::Refuse(offer) => assert!(self.offers.remove(&offer), "{offer:?} was gone already"),
            AddressOutput::TellClosed(endpoint) => self.tell_closed(at, endpoint),
            AddressOutput::IndicateError { .. } => {
                assert!(!self.places[at].erring && self.places[at].held.is_none());
                self.places[at].erring = true;
                if !self.rng.chance(self.mixture.held_calls) {
                    self.places[at].erring = false;
                    self.places[at].address.handle_error_indicated();
                }
            }
            AddressOutput::Listen(on) => {
                assert_ne!(self.places[at].listening, on);
                self.places[at].listening = on;
            }
        }
    }

    fn tell_closed(&mut self, at: usize, endpoint: EndpointId) {
        let (now, id) = (self.now(), self.places[at].address.id());
        let client = &mut self.clients[endpoint.index as usize];
        if client.endpoint.id() != endpoint {
            return;
        }
        client.endpoint.handle_address_closed(now, id);
        if client.address == Some(id) {
            client.model.close_address();
            client.model.settle();
        }
    }

    /// The client's connect handler answers: it refuses, or names an endpoint, fit or not.
    pub fn answer_offer(&mut self, at: usize) {
        let Some(offer) = self.places[at].held.take() else { return };
        let mut answer = tdi_core::ConnectAnswer::Rejected;
        if self.rng.chance(75) {
            let who = self.rng.below(CLIENTS);
            let id = self.issue(who, Vec::new());
            let (now, address) = (self.now(), self.places[at].address.id());
            let client = &mut self.clients[who];
            let fits = client.model.state() == tdi_core::StateName::Associated
                && client.address == Some(address)
                && !client.model.address_closed;
            let refusal = match client.model.state() {
                tdi_core::StateName::CleanedUp => NtStatus::CANCELLED,
                _ => NtStatus::INVALID_CONNECTION,
            };
            match client.endpoint.handle_accept_irp(now, id, address, &offer) {
                Outcome::Taken => {
                    assert!(fits, "the endpoint was not fit");
                    client.model.accept_irp(id);
                    answer = tdi_core::ConnectAnswer::Accepted;
                    assert!(self.offers.remove(&offer.id));
                    // What was left of the last connection is dropped first.
                    if self.clients[who].wire.is_some() {
                        let first = self.clients[who].endpoint.poll_output().expect("the end of the last connection");
                        self.serve(who, first);
                    }
                    self.begin_wire(who);
                }
                Outcome::Done(status) => {
                    assert!(!fits && status == refusal, "{status:?}");
                    self.note_completion(id);
                }
            }
        }
        self.note(format!("address {at} answers {offer:?}: {answer:?}"));
        self.places[at].address.handle_connect_result(offer.id, answer);
    }

    fn deliver(&mut self, at: usize, endpoint: EndpointId, listen: RequestId, offer: Offer) {
        let place = &mut self.places[at];
        let first = place.listens.iter().position(|(.., filter)| filter.matches(offer.remote));
        // The address has taken it off its list when it decided; ours may have lost it since, by a
        // withdrawal that was on its way.
        if let Some(first) = first.filter(|first| place.listens[*first].1 == listen) {
            place.listens.remove(first);
        } else {
            assert!(!place.listens.iter().any(|(_, id, _)| *id == listen), "not the oldest listen that matches");
        }
        let now = self.now();
        let client = &mut self.clients[endpoint.index as usize];
        let wanted = client.endpoint.id() == endpoint && client.model.is_listening(listen);
        let taken = client.endpoint.id() == endpoint
            && client.endpoint.handle_offer(now, listen, &offer) != tdi_core::OfferAnswer::Returned;
        assert_eq!(taken, wanted);
        if taken {
            client.model.offered();
            client.model.settle();
            assert!(self.offers.remove(&offer.id));
            self.begin_wire(endpoint.index as usize);
        } else {
            self.count("offer returned".into());
            self.places[at].address.handle_offer_returned(offer);
        }
    }

    pub fn begin_wire(&mut self, at: usize) {
        let number = self.clients[at].endpoint.connection().expect("a connection was begun");
        assert!(self.clients[at].wire.is_none(), "the last connection was not ended");
        let serial = self.next_serial;
        self.next_serial += 1;
        let window = if self.mixture.slow_network { self.rng.below(20) as u64 } else { u64::MAX };
        self.clients[at].wire = Some(Wire {
            number,
            serial,
            is_up: false,
            unread: 0,
            position: 0,
            ended: false,
            told_read: true,
            told_write: true,
            owes_read: false,
            owes_write: false,
            window,
            broken: None,
            urgent: 0,
            is_shut: false,
        });
    }

    /// Endpoints and addresses that are closed and quiet make room for new ones.
    fn replace_the_gone(&mut self) {
        for at in 0..CLIENTS {
            let client = &self.clients[at];
            if client.endpoint.state() == tdi_core::StateName::CleanedUp
                && client.endpoint.is_quiet()
                && self.rng.chance(50)
            {
                self.check_gone(at);
                self.clients[at] = self.new_client(at);
            }
        }
        for at in 0..ADDRESSES {
            if self.places[at].address.is_finished() && self.rng.chance(50) {
                assert!(self.places[at].address.endpoints().next().is_none());
                self.places[at] = self.new_place(at);
            }
        }
    }

    /// The end of the run: everything is closed, and nothing may be left.
    pub fn close_everything(&mut self) {
        self.mixture = Mixture::calm();
        for at in 0..CLIENTS {
            self.close_client(at);
        }
        for at in 0..ADDRESSES {
            self.answer_offer(at);
            if std::mem::take(&mut self.places[at].erring) {
                self.places[at].address.handle_error_indicated();
            }
            self.close_place(at);
        }
        self.drain();
        for at in 0..CLIENTS {
            self.finish_call(at);
            self.drain();
            assert!(self.clients[at].endpoint.is_quiet());
            self.check_client(at);
            self.check_gone(at);
        }
        self.check_places();
        assert!(self.places.iter().all(|place| place.address.is_finished()));
        assert!(self.requests.values().all(|issued| issued.completions == 1));
        assert!(self.offers.is_empty(), "offers nobody answered: {:?}", self.offers);
    }
}
