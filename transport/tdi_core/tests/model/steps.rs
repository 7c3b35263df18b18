//! The steps, and how often each is taken.

use nt_abi::NtStatus;
use nt_abi::tdi::{TdiEvent, receive_flags, send_flags};
use tdi_core::{Handler, NetworkError, NetworkEvent, Offer, OfferId, RemoteFilter, Request, RequestId, StateName};

use crate::harness::{ADDRESSES, CLIENTS, Harness, peers};
use crate::reference::{Ask, Phase, Up};
use crate::rng::Rng;

/// What a run is made of; drawn anew for every seed.
pub struct Mixture {
    weights: [u64; Step::ALL.len()],
    /// Percent of the client calls that stay out for some steps.
    pub held_calls: u64,
    pub delayed_addresses: u64,
    /// Percent of the handlers that are registered from the start.
    pub early_handlers: u64,
    pub slow_network: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Associate,
    Disassociate,
    Connect,
    Listen,
    Accept,
    Disconnect,
    Send,
    Receive,
    Cancel,
    CloseEndpoint,
    CloseAddress,
    SetHandler,
    Return,
    Offer,
    Withdraw,
    Overdue,
    Confirm,
    PeerSends,
    PeerSendsUrgent,
    PeerReleases,
    Window,
    Tell,
    Break,
    BreakSilently,
    Stale,
    Wait,
    Fail,
}

impl Step {
    const ALL: [Self; 27] = [
        Self::Associate,
        Self::Disassociate,
        Self::Connect,
        Self::Listen,
        Self::Accept,
        Self::Disconnect,
        Self::Send,
        Self::Receive,
        Self::Cancel,
        Self::CloseEndpoint,
        Self::CloseAddress,
        Self::SetHandler,
        Self::Return,
        Self::Offer,
        Self::Withdraw,
        Self::Overdue,
        Self::Confirm,
        Self::PeerSends,
        Self::PeerSendsUrgent,
        Self::PeerReleases,
        Self::Window,
        Self::Tell,
        Self::Break,
        Self::BreakSilently,
        Self::Stale,
        Self::Wait,
        Self::Fail,
    ];

    /// How often, compared with the others; and whether a run may go without it.
    const fn weight(self) -> (u64, bool) {
        match self {
            Self::Associate => (30, false),
            Self::Receive | Self::PeerSends => (12, false),
            Self::Connect | Self::Confirm | Self::Return => (12, false),
            Self::Send | Self::Tell => (8, false),
            Self::SetHandler | Self::Offer | Self::Listen => (6, true),
            Self::Disconnect | Self::Cancel | Self::Window => (4, true),
            Self::Accept | Self::PeerSendsUrgent | Self::PeerReleases | Self::Wait => (4, true),
            Self::Disassociate | Self::Withdraw | Self::Overdue | Self::Break | Self::BreakSilently | Self::Stale => {
                (1, true)
            }
            Self::CloseEndpoint | Self::CloseAddress | Self::Fail => (1, true),
        }
    }
}

impl Mixture {
    pub fn draw(rng: &mut Rng) -> Self {
        let weights = Step::ALL.map(|step| {
            let (weight, is_optional) = step.weight();
            if is_optional && rng.chance(20) { 0 } else { weight * (1 + rng.next() % 3) }
        });
        Self {
            weights,
            held_calls: rng.pick(&[0, 20, 50]),
            delayed_addresses: rng.pick(&[0, 0, 40]),
            early_handlers: rng.pick(&[0, 60, 90]),
            slow_network: rng.chance(60),
        }
    }

    /// For the closing of everything: no call stays out, no address lags behind.
    pub fn calm() -> Self {
        Self {
            weights: [0; Step::ALL.len()],
            held_calls: 0,
            delayed_addresses: 0,
            early_handlers: 0,
            slow_network: false,
        }
    }
}

impl Harness {
    fn draw_step(&mut self) -> Step {
        let sum: u64 = self.mixture.weights.iter().sum();
        let mut left = self.rng.next() % sum;
        for (step, weight) in Step::ALL.into_iter().zip(self.mixture.weights) {
            if left < weight {
                return step;
            }
            left -= weight;
        }
        unreachable!("the weights have that sum")
    }

    pub fn take_step(&mut self) {
        let at = self.rng.below(CLIENTS);
        let mut step = self.draw_step();
        // Most steps that could only be refused are drawn again.
        for _ in 0..8 {
            if self.is_apt(step, at) || self.rng.chance(10) {
                break;
            }
            step = self.draw_step();
        }
        self.note(format!("{at}: {step:?} in {:?}", self.clients[at].model.state()));
        match step {
            Step::Associate => self.associate(at),
            Step::Disassociate => self.disassociate(at),
            Step::Connect => self.connect(at),
            Step::Listen => self.listen(at),
            Step::Accept => self.ask(at, Request::Accept, &Ask::Accept, Vec::new()),
            Step::Disconnect => self.disconnect(at),
            Step::Send => self.send(at),
            Step::Receive => self.receive(at),
            Step::Cancel => self.cancel(at),
            Step::CloseEndpoint => self.close_client(at),
            Step::CloseAddress => {
                let at = self.rng.below(ADDRESSES);
                self.close_place(at);
            }
            Step::SetHandler => self.set_handler(),
            Step::Return => self.return_from_calls(at),
            Step::Offer => self.offer(),
            Step::Withdraw => self.withdraw(),
            Step::Overdue => self.overdue(),
            Step::Confirm => self.confirm(at),
            Step::PeerSends | Step::PeerReleases | Step::Window => self.move_network(at, step),
            Step::PeerSendsUrgent => self.urgent(at),
            Step::Tell => self.tell(at),
            Step::Break => {
                let error = self.draw_error();
                self.breaks(at, error);
            }
            Step::BreakSilently => self.break_silently(at),
            Step::Stale => self.stale(at),
            Step::Wait => self.wait(),
            Step::Fail => {
                let at = self.rng.below(ADDRESSES);
                self.places[at].address.handle_failure(NtStatus::UNSUCCESSFUL);
            }
        }
    }

    fn is_apt(&self, step: Step, at: usize) -> bool {
        use StateName::{Accepting, Associated, Connecting, LocallyReleased, Offered, Unassociated};
        let client = &self.clients[at];
        let state = client.model.state();
        let is_up = matches!(client.model.phase, Phase::Up(_));
        match step {
            Step::Associate => state == Unassociated,
            Step::Disassociate | Step::Connect | Step::Listen => state == Associated,
            Step::Accept => state == Offered,
            Step::Send => is_up && state != LocallyReleased,
            Step::Disconnect => state.is_active(),
            Step::Confirm => matches!(state, Connecting | Accepting),
            Step::Return => client.held.is_some() || self.places.iter().any(|place| place.held.is_some()),
            Step::Offer => self.places.iter().any(|place| place.listening),
            Step::Receive
            | Step::PeerSends
            | Step::PeerSendsUrgent
            | Step::PeerReleases
            | Step::Window
            | Step::Tell
            | Step::Break
            | Step::BreakSilently => is_up,
            Step::Cancel
            | Step::CloseEndpoint
            | Step::CloseAddress
            | Step::SetHandler
            | Step::Withdraw
            | Step::Overdue
            | Step::Stale
            | Step::Wait
            | Step::Fail => true,
        }
    }

    fn associate(&mut self, at: usize) {
        let to = self.rng.below(ADDRESSES);
        let (client, place) = (&mut self.clients[at], &mut self.places[to]);
        let expected = match client.model.state() {
            StateName::Unassociated if place.address.is_closed() => NtStatus::INVALID_HANDLE,
            StateName::Unassociated => NtStatus::SUCCESS,
            _ => NtStatus::INVALID_CONNECTION,
        };
        assert_eq!(client.endpoint.tdi_associate_address(&mut place.address), expected);
        if expected == NtStatus::SUCCESS {
            client.address = Some(place.address.id());
            client.model.associated = true;
            client.model.handlers = place.address.connection_handlers();
            client.model.settle();
        }
    }

    fn disassociate(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let expected = client.model.disassociate();
        assert_eq!(client.endpoint.tdi_disassociate_address(), expected);
        if expected == NtStatus::SUCCESS {
            client.address = None;
        }
    }

    fn draw_timeout(&mut self) -> Option<u64> {
        let ticks = 1 + self.rng.next() % 40;
        self.rng.chance(40).then_some(ticks)
    }

    fn connect(&mut self, at: usize) {
        let timeout = self.draw_timeout();
        let remote = self.rng.pick(&peers());
        self.ask(at, Request::Connect { remote, timeout }, &Ask::Connect { timeout }, Vec::new());
    }

    fn listen(&mut self, at: usize) {
        let query = self.rng.chance(40);
        let wanted = self.rng.pick(&peers());
        let filter = if self.rng.chance(40) { RemoteFilter { remote: Some(wanted) } } else { RemoteFilter::ANY };
        self.ask(at, Request::Listen { filter, query_accept: query }, &Ask::Listen { query }, Vec::new());
    }

    fn disconnect(&mut self, at: usize) {
        let flags = self.rng.pick(&[0, 1, 2, 4, 4, 4, 3, 6, 8]);
        let timeout = self.draw_timeout();
        self.ask(at, Request::Disconnect { flags, timeout }, &Ask::Disconnect { flags, timeout }, Vec::new());
    }

    fn send(&mut self, at: usize) {
        let length = self.rng.below(25) as u32;
        let mut flags = if self.rng.chance(15) { send_flags::EXPEDITED } else { 0 };
        if self.rng.chance(4) {
            flags |= send_flags::AND_DISCONNECT;
        }
        self.ask(at, Request::Send { length, flags }, &Ask::Send { length, flags }, Vec::new());
    }

    fn receive(&mut self, at: usize) {
        let length = self.rng.below(40) as u32;
        let mut flags = self.rng.pick(&[0, 0, 0x20, 0x20, 0x40, 0x60]);
        for (flag, percent) in
            [(receive_flags::NO_PUSH, 25), (receive_flags::PEEK, 15), (receive_flags::FORCE_INDICATION, 10)]
        {
            if self.rng.chance(percent) {
                flags |= flag;
            }
        }
        self.ask(at, Request::Receive { length, flags }, &Ask::Receive { length, flags }, vec![0; length as usize]);
    }

    /// Mostly a request that is pending, sometimes one that is over.
    fn cancel(&mut self, at: usize) {
        let mut ids: Vec<RequestId> = match &self.clients[at].model.phase {
            Phase::Connecting { id, .. } | Phase::Listening { id, .. } | Phase::Accepting { id } => vec![*id],
            Phase::Up(up) => pending(up),
            Phase::Idle | Phase::Offered { .. } | Phase::Gone => Vec::new(),
        };
        ids.extend(self.clients[at].model.expected.keys());
        ids.extend(self.clients[at].model.waits.iter().map(|wait| wait.0));
        if ids.is_empty() {
            return;
        }
        let id = self.rng.pick(&ids);
        let now = self.now();
        let client = &mut self.clients[at];
        let expected = client.model.cancel(id);
        client.model.settle();
        self.note(format!("{at}: cancel {id:?}: {expected}"));
        assert_eq!(self.clients[at].endpoint.handle_cancel(now, id), expected);
    }

    pub fn close_client(&mut self, at: usize) {
        let now = self.now();
        let client = &mut self.clients[at];
        if client.model.state() != StateName::CleanedUp {
            client.model.cleanup();
            client.address = None;
            client.model.settle();
        }
        client.endpoint.handle_cleanup(now);
    }

    pub fn close_place(&mut self, at: usize) {
        self.places[at].address.handle_cleanup();
        self.places[at].listens.clear();
    }

    fn set_handler(&mut self) {
        let at = self.rng.below(ADDRESSES);
        let event = self.rng.pick(&[
            TdiEvent::CONNECT,
            TdiEvent::DISCONNECT,
            TdiEvent::RECEIVE,
            TdiEvent::RECEIVE,
            TdiEvent::RECEIVE_EXPEDITED,
            TdiEvent::CHAINED_RECEIVE,
            TdiEvent::ERROR,
            TdiEvent::ERROR_EX,
        ]);
        let new = Handler { routine: 1 + self.rng.next() % 3, context: self.rng.next() };
        let handler = if self.rng.chance(70) { new } else { Handler::NONE };
        self.note(format!("address {at}: {event:?} {handler:?}"));
        let place = &mut self.places[at];
        let status = place.address.tdi_set_event_handler(event, handler);
        assert_eq!(status == NtStatus::CANCELLED, place.address.is_closed());
        if !handler.is_registered() {
            place.note_withdrawal();
        }
        let (id, handlers) = (place.address.id(), place.address.connection_handlers());
        let told: Vec<_> = place.address.endpoints().collect();
        for endpoint in told {
            let client = &mut self.clients[endpoint.index as usize];
            if client.endpoint.id() != endpoint {
                continue;
            }
            client.endpoint.handle_handlers(id, handlers);
            if client.address == Some(id) && !client.model.address_closed {
                client.model.set_handlers(handlers);
                client.model.settle();
            }
        }
    }

    fn return_from_calls(&mut self, at: usize) {
        self.finish_call(at);
        self.drain();
        let place = self.rng.below(ADDRESSES);
        self.answer_offer(place);
        if std::mem::take(&mut self.places[place].erring) {
            self.places[place].address.handle_error_indicated();
        }
    }

    fn offer(&mut self) {
        let at = self.rng.below(ADDRESSES);
        let remote = self.rng.pick(&peers());
        let offer = Offer { id: OfferId(self.next_offer), remote, local: self.places[at].address.local() };
        self.next_offer += 1;
        self.offers.insert(offer.id);
        self.places[at].address.handle_offer(offer);
    }

    /// An offer has waited for too long, if it waits.
    fn overdue(&mut self) {
        if let Some(offer) = self.offers.first().copied() {
            let place = &mut self.places[self.rng.below(ADDRESSES)];
            let has_waited = place.address.is_waiting(offer);
            place.address.handle_offer_overdue(offer);
            if has_waited && !place.address.is_waiting(offer) {
                place.note_withdrawal();
            }
        }
    }

    /// The remote node gives up an offer that waits at an address.
    fn withdraw(&mut self) {
        if let Some(offer) = self.offers.first().copied() {
            let at = self.rng.below(ADDRESSES);
            if self.places[at].address.handle_offer_withdrawn(offer) {
                assert!(self.places[at].held.is_none_or(|held| held.id != offer));
                self.offers.remove(&offer);
            }
        }
    }

    /// The network has made the connection, or has not.
    pub fn confirm(&mut self, at: usize) {
        let now = self.now();
        let client = &mut self.clients[at];
        let Some(wire) = client.wire.as_mut() else { return };
        let is_answer = match client.model.phase {
            Phase::Connecting { .. } => true,
            Phase::Accepting { .. } => wire.is_up,
            _ => false,
        };
        if !is_answer {
            return;
        }
        let number = wire.number;
        if self.rng.chance(20) {
            let error = self.draw_error();
            return self.breaks(at, error);
        }
        wire.is_up = true;
        client.model.connected();
        client.model.settle();
        let remote = peers()[0];
        client.endpoint.handle_network(now, number, NetworkEvent::Connected { remote });
    }

    /// Something arrives or room appears; the event may come later.
    fn move_network(&mut self, at: usize, step: Step) {
        let amount = 1 + self.rng.next() % 60;
        let Some(wire) = self.clients[at].wire.as_mut() else { return };
        match step {
            Step::PeerSends if !wire.ended => wire.unread += amount,
            Step::PeerReleases => wire.ended = true,
            Step::Window if wire.window < u64::MAX / 2 => wire.window += amount,
            _ => return,
        }
        if step == Step::Window {
            wire.owes_write = true;
        } else {
            wire.owes_read = true;
        }
        if self.rng.chance(70) {
            self.tell(at);
        }
    }

    /// Events that are owed, and now and then one that is not.
    fn tell(&mut self, at: usize) {
        let now = self.now();
        let spurious = self.rng.chance(10);
        let hint = self.rng.chance(60);
        let client = &mut self.clients[at];
        let Some(wire) = client.wire.as_mut() else { return };
        let number = wire.number;
        let (read, write) = (wire.owes_read || spurious, wire.owes_write || spurious);
        (wire.owes_read, wire.owes_write) = (false, false);
        if read {
            wire.told_read = true;
            let hints = wire.ended && hint;
            client.model.hint(hints);
            client.model.settle();
            let event = if hints { NetworkEvent::PeerReleased } else { NetworkEvent::Readable };
            client.endpoint.handle_network(now, number, event);
        }
        if write {
            if let Some(wire) = client.wire.as_mut() {
                wire.told_write = true;
            }
            client.endpoint.handle_network(now, number, NetworkEvent::Writable);
        }
    }

    fn urgent(&mut self, at: usize) {
        let count = 1 + self.rng.below(3);
        let now = self.now();
        let client = &mut self.clients[at];
        let Some(wire) = client.wire.as_mut() else { return };
        let room = client.endpoint.expedited_room();
        if client.model.up().is_none() || (wire.ended && wire.unread == 0) || room < count {
            return;
        }
        let bytes: Vec<u8> = (wire.urgent..wire.urgent + count as u64)
            .map(|position| crate::harness::stream_byte(wire.serial, crate::reference::URGENT, position))
            .collect();
        wire.urgent += count as u64;
        let number = wire.number;
        if let Some(up) = client.model.up() {
            up.came[crate::reference::URGENT] += count as u64;
        }
        client.model.settle();
        client.endpoint.handle_expedited(now, number, &bytes);
    }

    fn draw_error(&mut self) -> NetworkError {
        self.rng.pick(&[NetworkError::Reset, NetworkError::TimedOut, NetworkError::Aborted])
    }

    /// The next transfer finds out.
    fn break_silently(&mut self, at: usize) {
        let error = self.draw_error();
        if let Some(wire) = self.clients[at].wire.as_mut() {
            wire.broken = Some(error);
            wire.owes_read = true;
            wire.owes_write = true;
            self.tell(at);
        }
    }

    /// Events that name a connection of the past.
    fn stale(&mut self, at: usize) {
        let now = self.now();
        let client = &mut self.clients[at];
        let current = client.endpoint.connection();
        for number in 0..3 {
            let number = tdi_core::ConnectionNumber(number);
            if Some(number) != current {
                client.endpoint.handle_network(now, number, NetworkEvent::Broken(NetworkError::Reset));
                client.endpoint.handle_network(now, number, NetworkEvent::PeerReleased);
                client.endpoint.handle_expedited(now, number, b"stale");
            }
        }
    }

    fn wait(&mut self) {
        self.now += 1 + self.rng.next() % 25;
        let now = self.now();
        for client in &mut self.clients {
            client.model.now = self.now;
            if client.model.is_out_of_patience() {
                *self.seen.entry("patience".into()).or_default() += 1;
            }
            client.model.time_passes();
            client.model.settle();
            client.endpoint.handle_timeout(now);
        }
    }
}

fn pending(up: &Up) -> Vec<RequestId> {
    let sends = up.sends.iter().map(|send| send.id);
    let receives = up.receives.iter().map(|receive| receive.id);
    let releases = up.release.iter().filter_map(|release| release.id);
    sends.chain(receives).chain(releases).collect()
}
