//! What the core asks for or says is compared with the model before it is answered.

use nt_abi::NtStatus;
use nt_abi::tdi::receive_flags;
use tdi_core::{
    AddressMessage, Completion, ConnectionNumber, DataKind, Indication, IndicationResult, NetworkCommand, NetworkError,
    Output, Progress, RequestId, ReturnedReceive, StateName,
};

use crate::harness::{ADDRESSES, Harness, Held, Wire, stream_byte};
use crate::reference::{End, NORMAL, Phase, URGENT};

fn kind_of(kind: DataKind) -> usize {
    match kind {
        DataKind::Normal => NORMAL,
        DataKind::Expedited => URGENT,
    }
}

impl Harness {
    pub fn serve(&mut self, at: usize, output: Output) {
        match output {
            Output::Network(command) => self.carry_out(at, command),
            Output::Address(id, message) => {
                let endpoint = self.clients[at].endpoint.id();
                let place = &mut self.places[id.index as usize];
                assert_eq!(place.address.id(), id, "a message to an address that is gone");
                match message {
                    AddressMessage::Listen { id, filter } if !place.address.is_closed() => {
                        place.listens.push((endpoint, id, filter));
                        place.has_listened = Some(true);
                    }
                    AddressMessage::WithdrawListen { id } => {
                        place.listens.retain(|(_, other, _)| *other != id);
                        place.note_withdrawal();
                    }
                    AddressMessage::Listen { .. } => {}
                    AddressMessage::Detach { .. } => assert!(!self.clients[at].endpoint.is_indicating()),
                }
                place.address.handle_message(endpoint, message);
            }
            Output::Complete(completion) => self.on_completion(at, completion),
            Output::Indicate(indication) => self.on_indication(at, indication),
        }
    }

    fn on_completion(&mut self, at: usize, completion: Completion) {
        let Completion { id, status, information, .. } = completion;
        let client = &mut self.clients[at];
        assert!(client.held.is_none(), "a second client call");
        let expected = client.model.expected.remove(&id);
        assert_eq!(expected, Some((status, information)), "completion of {id:?}");
        assert_eq!(self.requests[&id].client, client.endpoint.id());
        self.note_completion(id);
        self.count(format!("{status:?}{}", if information > 0 { " with bytes" } else { "" }));
        if let Some((serial, kind, position)) = self.requests[&id].bytes {
            let bytes = &self.requests[&id].buffer[..information as usize];
            let right = (position..).map(|position| stream_byte(serial, kind, position));
            assert!(bytes.iter().copied().eq(right.take(bytes.len())), "{id:?} has wrong bytes");
        }
        self.clients[at].held = Some(Held::Completion(id));
        self.maybe_finish_call(at);
    }

    fn on_indication(&mut self, at: usize, indication: Indication) {
        let client = &mut self.clients[at];
        assert!(client.held.is_none(), "a second client call");
        assert_ne!(client.model.state(), StateName::CleanedUp, "a handler after the cleanup");
        assert!(client.endpoint.is_indicating());
        self.count(
            match &indication {
                Indication::Disconnect { flags: 4, .. } => "indicated release",
                Indication::Disconnect { .. } => "indicated abort",
                Indication::Receive { flags, .. } if flags & receive_flags::EXPEDITED != 0 => "indicated urgent",
                Indication::Receive { is_chained: true, .. } => "indicated chain",
                Indication::Receive { .. } => "indicated normal",
            }
            .into(),
        );
        let client = &mut self.clients[at];
        match indication {
            Indication::Disconnect { handler, flags } => {
                assert_eq!(handler, client.model.handlers.disconnect);
                while client.model.due.front().is_some_and(|due| due.0 != flags && due.1) {
                    client.model.due.pop_front();
                }
                assert_eq!(client.model.due.pop_front().map(|due| due.0), Some(flags), "not due");
                if flags == nt_abi::tdi::disconnect_flags::ABORT {
                    client.model.unlearnt = None;
                }
                client.held = Some(Held::Disconnect);
            }
            Indication::Receive { handler, is_chained, flags, data, start } => {
                let kind = if flags & receive_flags::EXPEDITED != 0 { URGENT } else { NORMAL };
                assert!(client.model.has_taker(kind), "nobody is to be shown this");
                let handlers = client.model.handlers;
                let urgent = match handlers.receive_expedited.routine {
                    0 => handlers.receive,
                    _ => handlers.receive_expedited,
                };
                assert_eq!((handler, is_chained), if kind == URGENT { (urgent, false) } else { client.model.normal() });
                assert!(client.model.expected.is_empty(), "completions go first");
                let wire = client.wire.as_ref().expect("a connection");
                let up = client.model.up().expect("established");
                let shown = (data.len() - start) as u64;
                assert_eq!(shown, up.waiting(kind), "not everything at hand");
                let right = (up.given[kind]..).map(|position| stream_byte(wire.serial, kind, position));
                assert!(data[start..].iter().copied().eq(right.take(data.len() - start)), "wrong bytes shown");
                up.lent = Some((kind, shown));
                client.held = Some(Held::Receive { data, start, number: wire.number, is_chained });
            }
        }
        self.maybe_finish_call(at);
    }

    fn maybe_finish_call(&mut self, at: usize) {
        if !self.rng.chance(self.mixture.held_calls) {
            self.finish_call(at);
        }
    }

    /// The handler or completion routine that is out returns.
    pub fn finish_call(&mut self, at: usize) {
        let now = self.now();
        match self.clients[at].held.take() {
            None => {}
            Some(Held::Completion(id)) => self.clients[at].endpoint.handle_completion_delivered(id),
            Some(Held::Disconnect) => {
                let fault = self.clients[at].endpoint.handle_indication_result(now, IndicationResult::Disconnect);
                assert_eq!(fault, None);
            }
            Some(Held::Receive { data, start, number, is_chained: true }) => self.answer_chain(at, data, start, number),
            Some(Held::Receive { data, start, number, .. }) => self.answer_receive(at, data, start, number),
        }
        self.clients[at].model.settle();
    }

    /// A chained handler takes all, keeps all, or refuses.
    fn answer_chain(&mut self, at: usize, data: Vec<u8>, start: usize, number: ConnectionNumber) {
        let shown = (data.len() - start) as u32;
        let status = self.rng.pick(&[NtStatus::SUCCESS, NtStatus::PENDING, NtStatus::DATA_NOT_ACCEPTED]);
        let taken = if status == NtStatus::DATA_NOT_ACCEPTED { 0 } else { shown };
        self.note(format!("{at}: chained handler answers {status:?}"));
        let now = self.now();
        let client = &mut self.clients[at];
        let current = client.wire.as_ref().is_some_and(|wire| wire.number == number) && client.model.up().is_some();
        let counted = if taken > 0 { NtStatus::SUCCESS } else { status };
        client.model.answered(counted, u64::from(taken), None, current);
        client.model.settle();
        let result = match status {
            NtStatus::PENDING => IndicationResult::Kept,
            _ => IndicationResult::Receive { status, taken, receive: None, data },
        };
        assert_eq!(client.endpoint.handle_indication_result(now, result), None);
    }

    fn answer_receive(&mut self, at: usize, data: Vec<u8>, start: usize, number: ConnectionNumber) {
        let shown = (data.len() - start) as u32;
        let status = self.rng.pick(&[
            NtStatus::SUCCESS,
            NtStatus::SUCCESS,
            NtStatus::MORE_PROCESSING_REQUIRED,
            NtStatus::MORE_PROCESSING_REQUIRED,
            NtStatus::DATA_NOT_ACCEPTED,
            NtStatus::UNSUCCESSFUL,
        ]);
        let some = self.rng.below(shown as usize + 1) as u32;
        let taken = self.rng.pick(&[shown, some, 0, shown + 1]);
        let returned = (status == NtStatus::MORE_PROCESSING_REQUIRED && self.rng.chance(80)).then(|| {
            let length = self.rng.below(30) as u32;
            let flags = self.rng.pick(&[0, 0x20, 0x40, receive_flags::NO_PUSH, receive_flags::PEEK]);
            (self.issue(at, vec![0; length as usize]), length, flags)
        });
        self.note(format!("{at}: handler answers {status:?} {taken} of {shown}, {returned:?}"));
        let now = self.now();
        let client = &mut self.clients[at];
        let current = client.wire.as_ref().is_some_and(|wire| wire.number == number) && client.model.up().is_some();
        if returned.is_some() {
            *self.seen.entry("irp returned".into()).or_default() += 1;
        }
        if !current {
            *self.seen.entry("late answer".into()).or_default() += 1;
        }
        if client.model.parting.is_some() {
            *self.seen.entry("parting".into()).or_default() += 1;
        }
        client.model.answered(status, u64::from(taken), returned, current);
        client.model.settle();
        let receive = returned.map(|(id, length, flags)| ReturnedReceive { id, length, flags });
        let result = IndicationResult::Receive { status, taken, receive, data };
        let fault = client.endpoint.handle_indication_result(now, result);
        let counts = matches!(status, NtStatus::SUCCESS | NtStatus::MORE_PROCESSING_REQUIRED);
        assert_eq!(fault.is_some(), counts && taken > shown);
    }

    fn carry_out(&mut self, at: usize, command: NetworkCommand) {
        match command {
            NetworkCommand::Connect { connection, .. } => {
                self.begin_wire(at);
                assert_eq!(self.wire(at).number, connection);
            }
            NetworkCommand::Accept { connection } => {
                // The end of it may have been ordered already; then the wire is closed next.
                let wire = self.wire(at);
                assert!(wire.number == connection && !wire.is_up);
                wire.is_up = true;
                if self.rng.chance(70) {
                    self.confirm(at);
                }
            }
            NetworkCommand::Transmit { id, offset, length, expedited } => {
                self.transmit(at, id, offset, length, expedited);
            }
            NetworkCommand::Fill { id, offset, length } => self.fill(at, id, offset, length),
            NetworkCommand::ReadAhead { length } => self.read_ahead(at, length),
            NetworkCommand::CopyBuffered { id, offset, source, range } => {
                let bytes = self.clients[at].endpoint.buffered(source, range).to_vec();
                self.copy(at, id, offset, kind_of(source), &bytes);
            }
            NetworkCommand::ShutdownSend { connection } => {
                let wire = self.wire(at);
                assert!(wire.number == connection && !wire.is_shut, "a second FIN");
                wire.is_shut = true;
                if let Some(up) = self.clients[at].model.up() {
                    assert!(up.release.is_some() && up.sends.is_empty(), "FIN before its time");
                }
            }
            NetworkCommand::Abort { connection } => self.end_wire(at, connection, End::Abort),
            NetworkCommand::Close { connection } => self.end_wire(at, connection, End::Close),
        }
    }

    pub fn wire(&mut self, at: usize) -> &mut Wire {
        self.clients[at].wire.as_mut().expect("a connection")
    }

    fn end_wire(&mut self, at: usize, connection: ConnectionNumber, end: End) {
        let client = &mut self.clients[at];
        let wire = client.wire.take().expect("an end of a connection that is over");
        assert_eq!(wire.number, connection);
        assert_eq!(client.model.end.take(), Some(end));
    }

    fn transmit(&mut self, at: usize, id: RequestId, offset: u32, length: u32, expedited: bool) {
        let now = self.now();
        let stutters = self.mixture.slow_network && self.rng.chance(30);
        let client = &mut self.clients[at];
        let wire = client.wire.as_mut().expect("a connection");
        let up = client.model.up().expect("established");
        let first = up.sends.iter().find(|send| send.urgent).or_else(|| up.sends.first()).expect("a pending send");
        assert_eq!((first.id, first.sent, first.urgent), (id, offset, expedited), "sends out of order");
        assert!(length > 0 && length == first.length - first.sent && wire.told_write && !wire.is_shut);
        let progress = if let Some(error) = wire.broken {
            Progress::Broken(error)
        } else {
            let count = u64::from(length).min(wire.window);
            let count = if stutters { count.min(1) } else { count };
            if count == 0 {
                Progress::WouldBlock
            } else {
                wire.window -= count;
                Progress::Moved { count: count as u32, exhausted: wire.window == 0 }
            }
        };
        match progress {
            Progress::Broken(error) => client.model.lost(error),
            Progress::Moved { count, exhausted } => {
                wire.told_write = !exhausted;
                client.model.sent(id, count);
            }
            _ => wire.told_write = false,
        }
        client.model.settle();
        client.endpoint.handle_sent(now, id, progress);
    }

    /// How much a read of at most `room` bytes brings.
    fn read(&mut self, at: usize, room: u64) -> Progress {
        let generous = self.rng.chance(60);
        let some = self.rng.below(room as usize) as u64 + 1;
        let (liar, lazy) = (self.rng.chance(10), self.rng.chance(50));
        let wire = self.wire(at);
        assert!(room > 0 && wire.told_read);
        if let Some(error) = wire.broken {
            return Progress::Broken(error);
        }
        let count = wire.unread.min(if generous { room } else { some });
        if count == 0 && wire.ended {
            return Progress::Ended;
        }
        if count == 0 {
            wire.told_read = false;
            return Progress::WouldBlock;
        }
        wire.unread -= count;
        wire.position += count;
        // It may say that it would block now, if it calls again when there is more.
        let exhausted = if wire.unread == 0 && !wire.ended { lazy } else { liar };
        wire.told_read = !exhausted;
        wire.owes_read |= exhausted && (wire.unread > 0 || wire.ended);
        Progress::Moved { count: count as u32, exhausted }
    }

    fn fill(&mut self, at: usize, id: RequestId, offset: u32, length: u32) {
        let now = self.now();
        let client = &mut self.clients[at];
        let wire = client.wire.as_ref().expect("a connection");
        let (serial, position) = (wire.serial, wire.position);
        let up = client.model.up().expect("established");
        let first = up.receives.iter().find(|receive| receive.takes[NORMAL]).expect("a receive");
        assert_eq!((first.id, first.got, first.length - first.got), (id, offset, length));
        assert!(!first.peek && up.waiting(NORMAL) == 0 && up.lent.is_none_or(|lent| lent.0 != NORMAL) && !up.ended);
        let progress = self.read(at, u64::from(length));
        if let Progress::Moved { count, .. } = progress {
            let issued = self.requests.get_mut(&id).expect("issued");
            let room = &mut issued.buffer[offset as usize..(offset + count) as usize];
            room.iter_mut().zip(position..).for_each(|(byte, at)| *byte = stream_byte(serial, NORMAL, at));
            issued.bytes.get_or_insert((serial, NORMAL, position));
            let up = self.clients[at].model.up().expect("established");
            up.came[NORMAL] += u64::from(count);
            self.clients[at].model.got(id, NORMAL, count);
        }
        self.note_read(at, progress);
        self.clients[at].endpoint.handle_filled(now, id, progress);
    }

    fn read_ahead(&mut self, at: usize, length: usize) {
        let now = self.now();
        let is_busy = self.clients[at].held.is_some();
        let client = &mut self.clients[at];
        let wire = client.wire.as_ref().expect("a connection");
        let (serial, position) = (wire.serial, wire.position);
        let taker = client.model.has_taker(NORMAL);
        let up = client.model.up().expect("established");
        let peeks = up.receives.iter().find(|receive| receive.takes[NORMAL]).map(|receive| receive.peek);
        let for_handler = taker && up.waiting(NORMAL) == 0 && !is_busy;
        assert!(peeks.unwrap_or(for_handler || (up.hinted && !is_busy)), "nobody wants this read");
        assert!(up.lent.is_none_or(|lent| lent.0 != NORMAL) && !up.ended);
        assert_eq!(client.endpoint.read_ahead_space().len(), length);
        let progress = self.read(at, length as u64);
        if let Progress::Moved { count, .. } = progress {
            let space = self.clients[at].endpoint.read_ahead_space();
            space.iter_mut().zip(position..).for_each(|(byte, at)| *byte = stream_byte(serial, NORMAL, at));
            self.clients[at].model.up().expect("established").came[NORMAL] += u64::from(count);
        }
        self.note_read(at, progress);
        self.clients[at].endpoint.handle_read_ahead(now, progress);
    }

    fn note_read(&mut self, at: usize, progress: Progress) {
        let model = &mut self.clients[at].model;
        match progress {
            Progress::Ended => model.up().expect("established").ended = true,
            Progress::Broken(error) => model.lost(error),
            Progress::Moved { .. } | Progress::WouldBlock => {}
        }
        model.settle();
    }

    fn copy(&mut self, at: usize, id: RequestId, offset: u32, kind: usize, bytes: &[u8]) {
        let now = self.now();
        let client = &mut self.clients[at];
        let serial = client.wire.as_ref().expect("a connection").serial;
        let up = client.model.up().expect("established");
        let fits = |takes: &[bool; 2], got: u32| takes[kind] && (kind == NORMAL || got == 0);
        let first = up.receives.iter().find(|receive| fits(&receive.takes, receive.got)).expect("a receive");
        assert_eq!((first.id, first.got), (id, offset));
        let count = bytes.len() as u64;
        assert!(count > 0 && count == up.waiting(kind).min(u64::from(first.length - first.got)));
        assert!(up.lent.is_none_or(|lent| lent.0 != kind));
        let position = up.given[kind];
        let issued = self.requests.get_mut(&id).expect("issued");
        issued.buffer[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
        issued.bytes.get_or_insert((serial, kind, position));
        client.model.got(id, kind, bytes.len() as u32);
        client.model.settle();
        client.endpoint.handle_copied(now, id);
    }

    /// What has to be true of an endpoint when it has nothing to say.
    pub fn check_client(&mut self, at: usize) {
        let client = &mut self.clients[at];
        assert_eq!(client.endpoint.poll_output(), None);
        assert_eq!(client.endpoint.state(), client.model.state());
        let state = client.model.state();
        *self.seen.entry(format!("{state:?}")).or_default() += 1;
        assert_eq!(client.endpoint.poll_timeout().map(|until| until.0), client.model.deadline());
        assert_eq!(client.endpoint.is_quiet(), client.held.is_none());
        assert_eq!(
            client.endpoint.connection(),
            client.wire.as_ref().map(|wire| wire.number).filter(|_| { client.model.parting.is_none() })
        );
        assert_eq!(client.model.end, None, "the network was not told");
        assert_eq!(client.endpoint.address(), client.address);
        if client.held.is_some() {
            return;
        }
        assert!(client.model.expected.is_empty(), "not completed: {:?}", client.model.expected);
        assert!(client.model.due.drain(..).all(|due| due.1), "a disconnect was not indicated");
        self.check_progress(at);
    }

    /// Nothing stands still that could go on.
    fn check_progress(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let takers = [NORMAL, URGENT].map(|kind| client.model.has_taker(kind));
        let Some(up) = client.model.up() else { return };
        let wire = client.wire.as_ref().expect("a connection");
        assert!(up.lent.is_none());
        assert!(up.sends.is_empty() || !wire.told_write, "a send could go on");
        assert!(up.release.is_none() || !up.sends.is_empty() || wire.is_shut, "no FIN");
        for kind in [NORMAL, URGENT] {
            let wanted = takers[kind] || up.has_receive(kind);
            assert!(up.waiting(kind) == 0 || !wanted, "bytes wait although they are wanted");
        }
        let wants_more = takers[NORMAL] || up.has_receive(NORMAL);
        assert!(!wants_more || up.ended || !wire.told_read, "the network was not read");
    }

    pub fn check_gone(&mut self, at: usize) {
        let client = &self.clients[at];
        assert!(matches!(client.model.phase, Phase::Gone));
        assert!(client.model.expected.is_empty() && client.wire.is_none() && client.held.is_none());
        let id = client.endpoint.id();
        for issued in self.requests.values().filter(|issued| issued.client == id) {
            assert_eq!(issued.completions, 1, "a request of a closed endpoint is pending: {issued:?}");
        }
    }

    pub fn check_places(&mut self) {
        for at in 0..ADDRESSES {
            let place = &mut self.places[at];
            if !place.address.is_quiet() {
                continue;
            }
            let handler = place.address.handler(nt_abi::tdi::TdiEvent::CONNECT);
            let is_known = place.address.is_closed() || handler.is_registered();
            let wanted = !place.address.is_closed() && (handler.is_registered() || place.has_listened == Some(true));
            assert!(place.listening == wanted || (!is_known && place.has_listened.is_none()));
        }
    }

    pub fn breaks(&mut self, at: usize, error: NetworkError) {
        let now = self.now();
        let client = &mut self.clients[at];
        let Some(wire) = &client.wire else { return };
        let number = wire.number;
        if client.model.parting.is_none() {
            client.model.lost(error);
            client.model.settle();
        }
        client.endpoint.handle_network(now, number, tdi_core::NetworkEvent::Broken(error));
    }
}
