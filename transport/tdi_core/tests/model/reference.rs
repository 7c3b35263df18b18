//! What an endpoint should do, written down a second time and as plainly as possible: no queues of
//! outputs, no deferral, counters instead of buffers. It shares no table and no status with the core.

use std::collections::{BTreeMap, VecDeque};

use nt_abi::NtStatus;
use nt_abi::tdi::{receive_flags, send_flags};
use tdi_core::{ConnectionHandlers, Handler, NetworkError, RequestId, StateName};

pub const NORMAL: usize = 0;
pub const URGENT: usize = 1;

const RELEASE: u32 = 4;
const ABORT: u32 = 2;

/// Time limits of the transport, for the model's own arithmetic.
#[derive(Clone, Copy)]
pub struct Limits {
    pub connect: u64,
    pub offer: u64,
    pub patience: u64,
}

#[derive(Clone, Debug)]
pub enum Ask {
    Connect { timeout: Option<u64> },
    Listen { query: bool },
    Accept,
    Disconnect { flags: u32, timeout: Option<u64> },
    Send { length: u32, flags: u32 },
    Receive { length: u32, flags: u32 },
}

#[derive(Debug)]
pub enum Phase {
    Idle,
    Connecting { id: RequestId, until: u64 },
    Listening { id: RequestId, query: bool },
    Offered { until: u64 },
    Accepting { id: RequestId },
    Up(Up),
    Gone,
}

/// A connection in E, R or W.
#[derive(Debug, Default)]
pub struct Up {
    /// Pending, in submission order.
    pub sends: Vec<Send>,
    pub receives: VecDeque<Receive>,
    pub release: Option<Release>,
    /// Bytes that came from the network and bytes the client has got, by kind.
    pub came: [u64; 2],
    pub given: [u64; 2],
    pub rejected: [bool; 2],
    /// Out at a handler: kind and count.
    pub lent: Option<(usize, u64)>,
    /// The network has said that the remote node has released, and reading has found it.
    pub hinted: bool,
    pub ended: bool,
    pub reported: bool,
}

#[derive(Debug)]
pub struct Send {
    pub id: RequestId,
    pub length: u32,
    pub sent: u32,
    pub urgent: bool,
}

#[derive(Debug)]
pub struct Receive {
    pub id: RequestId,
    pub length: u32,
    pub got: u32,
    pub takes: [bool; 2],
    pub peek: bool,
    pub whole: bool,
}

#[derive(Debug, Default)]
pub struct Release {
    pub id: Option<RequestId>,
    pub until: Option<u64>,
    pub stuck_until: Option<u64>,
    pub silent: bool,
    /// The client takes it for over, and what it has not received it still may.
    pub done: bool,
    /// ... and was told so by the request.
    pub told: bool,
}

/// How the network is told the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Abort,
    Close,
}

pub enum Why {
    Cancelled,
    LocalAbort,
    Lost(NetworkError),
    TimedOut,
    Cleanup,
    AddressClosed,
}

pub struct Reference {
    pub limits: Limits,
    pub phase: Phase,
    pub associated: bool,
    pub address_closed: bool,
    pub handlers: ConnectionHandlers,
    /// Completions that have to come.
    pub expected: BTreeMap<RequestId, (NtStatus, u64)>,
    /// Disconnect indications that have to come, and whether one may be left out because no handler was
    /// registered at some time since.
    pub due: VecDeque<(u32, bool)>,
    /// The end of the current connection that the network has to be told.
    pub end: Option<End>,
    /// A cleanup waits for the handler that runs, to know which end it is.
    pub parting: Option<u64>,
    /// The current connection's remote node is said to have released.
    hinted: bool,
    /// Pending DISCONNECTs with WAIT, and their limits.
    pub waits: Vec<(RequestId, Option<u64>)>,
    /// The last connection was lost and nothing has told the client.
    pub unlearnt: Option<NetworkError>,
    /// The last connection ended in order and nothing has begun since.
    ended_in_order: bool,
    pub now: u64,
}

impl Receive {
    pub fn new(id: RequestId, length: u32, flags: u32) -> Self {
        let both = flags & 0x60 == 0 || flags & 0x60 == 0x60;
        Self {
            id,
            length,
            got: 0,
            takes: [both || flags & receive_flags::NORMAL != 0, both || flags & receive_flags::EXPEDITED != 0],
            peek: flags & receive_flags::PEEK != 0,
            whole: flags & receive_flags::NO_PUSH != 0,
        }
    }
}

impl Up {
    pub fn waiting(&self, kind: usize) -> u64 {
        self.came[kind] - self.given[kind]
    }

    /// Is nothing of it left but bytes for receives?
    fn is_left(&self) -> bool {
        self.release.as_ref().is_some_and(|release| release.done)
    }

    /// Has the RELEASE completed, so that no handler is called any more?
    fn is_told(&self) -> bool {
        self.release.as_ref().is_some_and(|release| release.told)
    }

    /// Takes out the receives that nothing more can come for.
    fn take_over(&mut self, normal: bool) -> Vec<(RequestId, u32)> {
        let urgent = self.waiting(URGENT) > 0;
        let (kept, over): (Vec<Receive>, Vec<Receive>) = self
            .receives
            .drain(..)
            .partition(|receive| (normal && receive.takes[NORMAL]) || (urgent && receive.takes[URGENT]));
        self.receives = kept.into();
        over.iter().map(|receive| (receive.id, receive.got)).collect()
    }

    pub fn has_receive(&self, kind: usize) -> bool {
        self.receives.iter().any(|receive| receive.takes[kind])
    }

    fn is_lent(&self, kind: usize) -> bool {
        self.lent.is_some_and(|(lent, _)| lent == kind)
    }
}

impl Reference {
    pub fn new(limits: Limits, now: u64) -> Self {
        Self {
            limits,
            phase: Phase::Idle,
            associated: false,
            address_closed: false,
            handlers: ConnectionHandlers::default(),
            expected: BTreeMap::new(),
            due: VecDeque::new(),
            end: None,
            parting: None,
            hinted: false,
            waits: Vec::new(),
            unlearnt: None,
            ended_in_order: false,
            now,
        }
    }

    pub fn state(&self) -> StateName {
        match &self.phase {
            Phase::Idle if self.associated => StateName::Associated,
            Phase::Idle => StateName::Unassociated,
            Phase::Connecting { .. } => StateName::Connecting,
            Phase::Listening { .. } => StateName::Listening,
            Phase::Offered { .. } => StateName::Offered,
            Phase::Accepting { .. } => StateName::Accepting,
            Phase::Up(up) if up.is_left() => StateName::Associated,
            Phase::Up(up) if up.release.is_some() => StateName::LocallyReleased,
            Phase::Up(up) if up.ended => StateName::RemotelyReleased,
            Phase::Up(_) => StateName::Established,
            Phase::Gone => StateName::CleanedUp,
        }
    }

    pub fn up(&mut self) -> Option<&mut Up> {
        if let Phase::Up(up) = &mut self.phase { Some(up) } else { None }
    }

    fn letter(&self) -> char {
        match self.state() {
            StateName::Unassociated => 'U',
            StateName::Associated => 'A',
            StateName::Connecting => 'C',
            StateName::Listening => 'L',
            StateName::Offered => 'O',
            StateName::Accepting => 'P',
            StateName::Established => 'E',
            StateName::LocallyReleased => 'R',
            StateName::RemotelyReleased => 'W',
            StateName::CleanedUp => 'Z',
        }
    }

    /// A request. `Some` is its status if it is over at once.
    pub fn ask(&mut self, id: RequestId, ask: &Ask) -> Option<NtStatus> {
        let letter = self.letter();
        if letter == 'Z' {
            return Some(NtStatus::CANCELLED);
        }
        let legal = match ask {
            Ask::Connect { .. } | Ask::Listen { .. } => "A",
            Ask::Accept => "O",
            Ask::Disconnect { flags: 0..=2, .. } => "CLOPERW",
            Ask::Disconnect { flags: 4, .. } => "CLOPEW",
            Ask::Disconnect { .. } => return Some(NtStatus::INVALID_PARAMETER),
            Ask::Send { .. } => "EW",
            Ask::Receive { .. } if self.has_left() => "A",
            Ask::Receive { .. } => "ERW",
        };
        if matches!(ask, Ask::Connect { .. } | Ask::Listen { .. } | Ask::Disconnect { flags: 0 | 2, .. }) {
            self.drop_left(&Why::LocalAbort);
        }
        if letter == 'A'
            && let Some(status) = self.learn(ask)
        {
            return Some(status);
        }
        if !legal.contains(letter) {
            return Some(NtStatus::INVALID_CONNECTION);
        }
        match *ask {
            Ask::Connect { timeout } => {
                self.forget_end();
                self.hinted = false;
                self.phase = Phase::Connecting { id, until: self.now + timeout.unwrap_or(self.limits.connect) };
            }
            Ask::Listen { .. } if self.address_closed => return Some(NtStatus::ADDRESS_CLOSED),
            Ask::Listen { query } => {
                self.forget_end();
                self.phase = Phase::Listening { id, query };
            }
            Ask::Accept => self.phase = Phase::Accepting { id },
            Ask::Disconnect { flags, timeout } => return self.disconnect(id, flags, timeout),
            Ask::Send { length, flags } => self.send(id, length, flags),
            Ask::Receive { length: 0, .. } => return Some(NtStatus::INVALID_PARAMETER),
            Ask::Receive { length, flags } => self.receive(id, length, flags),
        }
        None
    }

    fn has_left(&self) -> bool {
        matches!(&self.phase, Phase::Up(up) if up.is_left())
    }

    /// Nobody will receive what the last connection has left.
    fn drop_left(&mut self, why: &Why) {
        if self.has_left() {
            self.fail(why);
            self.end = Some(End::Close);
        }
    }

    /// What the first request after an unnoticed loss is told.
    fn learn(&mut self, ask: &Ask) -> Option<NtStatus> {
        if self.ended_in_order && matches!(ask, Ask::Receive { .. }) {
            return Some(NtStatus::SUCCESS);
        }
        let why = self.unlearnt.map(Why::Lost);
        let status = match (ask, why?) {
            (Ask::Disconnect { flags: 0 | 2, .. }, _) => None,
            (Ask::Send { .. }, why) => Some(send_status(&why)),
            (Ask::Receive { .. }, why) => Some(receive_status(&why)),
            (Ask::Disconnect { .. }, why) => Some(release_status(&why)),
            _ => return None,
        };
        self.unlearnt = None;
        status
    }

    fn disconnect(&mut self, id: RequestId, flags: u32, timeout: Option<u64>) -> Option<NtStatus> {
        let until = timeout.map(|ticks| self.now + ticks);
        match (self.up(), flags) {
            (Some(up), 1) if up.reported => return Some(NtStatus::SUCCESS),
            (_, 1) => self.waits.push((id, until)),
            (Some(up), 4) => up.release = Some(Release { id: Some(id), until, ..Release::default() }),
            _ => {
                self.forget_end();
                self.fail(&Why::LocalAbort);
                self.expected.insert(id, (NtStatus::SUCCESS, 0));
            }
        }
        None
    }

    fn send(&mut self, id: RequestId, length: u32, flags: u32) {
        let urgent = flags & send_flags::EXPEDITED != 0;
        let Some(up) = self.up() else { return };
        up.sends.push(Send { id, length, sent: 0, urgent });
        if flags & send_flags::AND_DISCONNECT != 0 {
            up.release = Some(Release { silent: true, ..Release::default() });
        }
        self.finish_sends();
    }

    fn receive(&mut self, id: RequestId, length: u32, flags: u32) {
        let Some(up) = self.up() else { return };
        let receive = Receive::new(id, length, flags);
        for kind in [NORMAL, URGENT] {
            if flags & receive_flags::FORCE_INDICATION != 0 || (receive.takes[kind] && !receive.peek) {
                up.rejected[kind] = false;
            }
        }
        up.receives.push_back(receive);
    }

    /// Sends of which nothing is left, as far as no other of their kind is in front.
    fn finish_sends(&mut self) {
        let Some(up) = self.up() else { return };
        let mut done = Vec::new();
        for urgent in [true, false] {
            while let Some(at) = up.sends.iter().position(|send| send.urgent == urgent) {
                if up.sends[at].sent < up.sends[at].length {
                    break;
                }
                done.push(up.sends.remove(at));
            }
        }
        for send in done {
            self.expected.insert(send.id, (NtStatus::SUCCESS, u64::from(send.length)));
        }
    }

    pub fn sent(&mut self, id: RequestId, count: u32) {
        let Some(up) = self.up() else { return };
        let send = up.sends.iter_mut().find(|send| send.id == id).expect("a pending send");
        send.sent += count;
        self.finish_sends();
    }

    /// Bytes of a kind have reached a receive.
    pub fn got(&mut self, id: RequestId, kind: usize, count: u32) {
        let Some(up) = self.up() else { return };
        let at = up.receives.iter().position(|receive| receive.id == id).expect("a pending receive");
        let receive = &mut up.receives[at];
        receive.got += count;
        if !receive.peek {
            up.given[kind] += u64::from(count);
        }
        if !receive.whole || receive.peek || receive.got == receive.length || kind == URGENT {
            let done = (NtStatus::SUCCESS, u64::from(receive.got));
            up.receives.remove(at);
            self.expected.insert(id, done);
        }
    }

    pub fn cancel(&mut self, id: RequestId) -> bool {
        if let Some(at) = self.waits.iter().position(|wait| wait.0 == id) {
            self.waits.remove(at);
            self.expected.insert(id, (NtStatus::CANCELLED, 0));
            return true;
        }
        match &mut self.phase {
            Phase::Connecting { id: setup, .. }
            | Phase::Listening { id: setup, .. }
            | Phase::Accepting { id: setup }
                if *setup == id =>
            {
                self.fail(&Why::Cancelled);
                true
            }
            Phase::Up(_) => self.cancel_in_connection(id),
            _ => false,
        }
    }

    fn cancel_in_connection(&mut self, id: RequestId) -> bool {
        let Some(up) = self.up() else { return false };
        let cancelled = (NtStatus::CANCELLED, 0);
        if let Some(at) = up.sends.iter().position(|send| send.id == id) {
            let send = up.sends.remove(at);
            self.expected.insert(id, cancelled);
            if send.sent > 0 {
                self.fail(&Why::LocalAbort);
            }
            self.finish_sends();
        } else if let Some(at) = up.receives.iter().position(|receive| receive.id == id) {
            let got = up.receives.remove(at).map_or(0, |receive| receive.got);
            self.expected.insert(id, if got > 0 { (NtStatus::SUCCESS, u64::from(got)) } else { cancelled });
        } else if let Some(release) = up.release.as_mut().filter(|release| release.id == Some(id)) {
            release.id = None;
            release.until = None;
            self.expected.insert(id, cancelled);
        } else {
            return false;
        }
        true
    }

    /// Ends whatever goes on: back to idle, everything pending fails.
    pub fn fail(&mut self, why: &Why) {
        let phase = std::mem::replace(&mut self.phase, Phase::Idle);
        let has_waits = !self.waits.is_empty();
        for (id, _) in self.waits.drain(..) {
            self.expected.insert(id, (release_status(why), 0));
        }
        let setup = |id| (id, (setup_status(why, matches!(phase, Phase::Connecting { .. })), 0));
        match phase {
            Phase::Connecting { id, .. } | Phase::Accepting { id } => {
                let (id, done) = setup(id);
                self.expected.insert(id, done);
                self.end = Some(End::Abort);
            }
            Phase::Listening { id, .. } => {
                let (id, done) = setup(id);
                self.expected.insert(id, done);
            }
            Phase::Offered { .. } => self.end = Some(End::Abort),
            Phase::Up(up) => {
                self.end = Some(End::Abort);
                self.fail_connection(up, why, has_waits);
            }
            Phase::Idle => {}
            Phase::Gone => self.phase = Phase::Gone,
        }
    }

    fn fail_connection(&mut self, up: Up, why: &Why, has_waits: bool) {
        let is_told = has_waits
            || !up.sends.is_empty()
            || up.receives.iter().any(|receive| receive.got == 0)
            || up.release.as_ref().is_some_and(|release| release.id.is_some());
        let silent = up.release.as_ref().is_some_and(|release| release.silent);
        for send in &up.sends {
            self.expected.insert(send.id, (send_status(why), 0));
        }
        for receive in &up.receives {
            let failed = (receive_status(why), 0);
            let got = u64::from(receive.got);
            self.expected.insert(receive.id, if got > 0 { (NtStatus::SUCCESS, got) } else { failed });
        }
        let releases = up.release.iter().filter_map(|release| release.id);
        for id in releases {
            self.expected.insert(id, (release_status(why), 0));
        }
        if let Why::Lost(error) = why
            && !silent
        {
            self.unlearnt = (!is_told).then_some(*error);
            if !up.is_told() {
                self.due.push_back((ABORT, false));
            }
        }
    }

    pub fn lost(&mut self, error: NetworkError) {
        if !matches!(self.phase, Phase::Idle | Phase::Listening { .. } | Phase::Gone) {
            self.fail(&Why::Lost(error));
        }
    }

    fn forget_end(&mut self) {
        self.due.clear();
        self.unlearnt = None;
        self.ended_in_order = false;
    }

    /// The network says that a FIN has arrived, at any time from the first packet on.
    pub fn hint(&mut self, hints: bool) {
        self.hinted |= hints;
        let hinted = self.hinted;
        if let Some(up) = self.up() {
            up.hinted = hinted;
        }
    }

    pub fn is_listening(&self, listen: RequestId) -> bool {
        matches!(self.phase, Phase::Listening { id, .. } if id == listen)
    }

    pub fn accept_irp(&mut self, id: RequestId) {
        self.drop_left(&Why::LocalAbort);
        self.forget_end();
        self.hinted = false;
        self.phase = Phase::Accepting { id };
    }

    pub fn connected(&mut self) {
        if let Phase::Connecting { id, .. } | Phase::Accepting { id } = self.phase {
            self.phase = Phase::Up(Up { hinted: self.hinted, ..Up::default() });
            self.expected.insert(id, (NtStatus::SUCCESS, 0));
        }
    }

    /// An offer has been handed over for the pending listen.
    pub fn offered(&mut self) {
        if let Phase::Listening { id, query } = self.phase {
            self.forget_end();
            self.hinted = false;
            self.phase = if query {
                self.expected.insert(id, (NtStatus::SUCCESS, 0));
                Phase::Offered { until: self.now + self.limits.offer }
            } else {
                Phase::Accepting { id }
            };
        }
    }

    pub fn disassociate(&mut self) -> NtStatus {
        match self.letter() {
            'A' => {
                self.drop_left(&Why::LocalAbort);
                self.leave_address();
                NtStatus::SUCCESS
            }
            'U' | 'Z' => NtStatus::INVALID_CONNECTION,
            _ => NtStatus::CONNECTION_ACTIVE,
        }
    }

    fn leave_address(&mut self) {
        self.associated = false;
        self.address_closed = false;
        self.handlers = ConnectionHandlers::default();
        self.forget_end();
    }

    pub fn close_address(&mut self) {
        self.address_closed = true;
        self.handlers = ConnectionHandlers::default();
        if "LOP".contains(self.letter()) {
            self.fail(&Why::AddressClosed);
        }
    }

    pub fn cleanup(&mut self) {
        self.drop_left(&Why::Cleanup);
        if let Phase::Up(up) = &self.phase {
            let unread = (0..2).any(|kind| up.waiting(kind) > 0 && !up.is_lent(kind));
            let in_order = up.sends.is_empty() && !unread;
            let lent = up.lent.map(|(_, count)| count);
            self.fail(&Why::Cleanup);
            self.end = in_order.then_some(End::Close).or(Some(End::Abort));
            if let (Some(count), true) = (lent, in_order) {
                self.end = None;
                self.parting = Some(count);
            }
        } else {
            self.fail(&Why::Cleanup);
        }
        self.phase = Phase::Gone;
        self.leave_address();
    }

    /// The handler has answered that it took `taken` of what was shown. `current` says whether the
    /// connection is still the same.
    pub fn answered(&mut self, status: NtStatus, taken: u64, returned: Option<(RequestId, u32, u32)>, current: bool) {
        if !current {
            if let Some((id, ..)) = returned {
                let status = match self.phase {
                    Phase::Gone => NtStatus::CANCELLED,
                    _ => NtStatus::CONNECTION_ABORTED,
                };
                self.expected.insert(id, (status, 0));
            }
            let counts = matches!(status, NtStatus::SUCCESS | NtStatus::MORE_PROCESSING_REQUIRED);
            if let Some(shown) = self.parting.take() {
                self.end = Some(if counts && taken >= shown { End::Close } else { End::Abort });
            }
            return;
        }
        let Some(up) = self.up() else { return };
        let (kind, shown) = up.lent.take().expect("something was shown");
        let counts = matches!(status, NtStatus::SUCCESS | NtStatus::MORE_PROCESSING_REQUIRED);
        let taken = if counts { taken.min(shown) } else { 0 };
        up.given[kind] += taken;
        let mut wanted = taken > 0;
        match returned {
            None => {}
            Some((id, 0, _)) => _ = self.expected.insert(id, (NtStatus::INVALID_PARAMETER, 0)),
            Some((id, length, flags)) => {
                wanted = true;
                let mut receive = Receive::new(id, length, flags);
                receive.takes[kind] = true;
                self.end_partial();
                let Some(up) = self.up() else { return };
                up.receives.push_front(receive);
            }
        }
        let Some(up) = self.up() else { return };
        wanted |= up.receives.iter().any(|receive| receive.takes[kind] && !receive.peek);
        up.rejected[kind] = !wanted;
    }

    /// The handler of normal data, and whether it is a chained one.
    pub fn normal(&self) -> (Handler, bool) {
        normal(self.handlers)
    }

    pub fn set_handlers(&mut self, handlers: ConnectionHandlers) {
        let before = std::mem::replace(&mut self.handlers, handlers);
        let urgent =
            |of: ConnectionHandlers| if of.receive_expedited.routine != 0 { of.receive_expedited } else { of.receive };
        let changed = [normal(before) != normal(handlers), urgent(before) != urgent(handlers)];
        if let Some(up) = self.up() {
            for kind in [NORMAL, URGENT] {
                up.rejected[kind] &= !changed[kind];
            }
        }
    }

    /// Would a handler be shown bytes of that kind?
    pub fn has_taker(&self, kind: usize) -> bool {
        let Phase::Up(up) = &self.phase else { return false };
        let handlers = self.handlers;
        let registered = match kind {
            NORMAL => normal(handlers).0.routine != 0,
            _ => handlers.receive.routine != 0 || handlers.receive_expedited.routine != 0,
        };
        registered && !up.is_told() && !up.rejected[kind] && !up.has_receive(kind)
    }

    /// Everything that follows by itself.
    pub fn settle(&mut self) {
        self.end_early();
        self.report();
        self.part_in_peace();
        self.watch_stuck();
        if self.handlers.disconnect.routine == 0 {
            self.due.iter_mut().for_each(|due| due.1 = true);
        }
    }

    fn end_early(&mut self) {
        let Some(up) = self.up() else { return };
        if up.waiting(URGENT) > 0 && !up.is_lent(URGENT) {
            self.end_partial();
        }
    }

    fn end_partial(&mut self) {
        if let Some(up) = self.up() {
            let (done, kept): (Vec<Receive>, Vec<Receive>) = up.receives.drain(..).partition(|receive| receive.got > 0);
            up.receives = kept.into();
            for receive in done {
                self.expected.insert(receive.id, (NtStatus::SUCCESS, u64::from(receive.got)));
            }
        }
    }

    fn report(&mut self) {
        let takes_urgent = self.has_taker(URGENT);
        let Some(up) = self.up() else { return };
        let at_end = up.ended && up.waiting(NORMAL) == 0;
        let owed = up.waiting(URGENT) > 0 && (up.is_lent(URGENT) || up.has_receive(URGENT) || takes_urgent);
        let mut over = if at_end || up.is_left() { up.take_over(!at_end) } else { Vec::new() };
        let mut tell = false;
        if at_end && !up.reported && !owed {
            up.reported = true;
            tell = !up.is_told() && !up.release.as_ref().is_some_and(|release| release.silent);
            over.extend(self.waits.drain(..).map(|wait| (wait.0, 0)));
        }
        for (id, count) in over {
            self.expected.insert(id, (NtStatus::SUCCESS, u64::from(count)));
        }
        if tell {
            self.due.push_back((RELEASE, false));
        }
    }

    /// Both sides have released and nothing is under way.
    fn part_in_peace(&mut self) {
        let Some(up) = self.up() else { return };
        let over = up.release.is_some() && up.reported && up.sends.is_empty() && up.receives.is_empty();
        if over && up.waiting(URGENT) == 0 {
            self.finish();
        } else if over && !up.is_left() {
            self.leave();
        }
    }

    fn finish(&mut self) {
        let Phase::Up(up) = std::mem::replace(&mut self.phase, Phase::Idle) else { return };
        self.ended_in_order = true;
        let releases = up.release.iter().filter_map(|release| release.id);
        let waits = std::mem::take(&mut self.waits);
        let pending = waits.iter().map(|wait| wait.0).chain(releases).map(|id| (id, 0));
        for (id, count) in pending.chain(up.receives.iter().map(|receive| (receive.id, receive.got))) {
            self.expected.insert(id, (NtStatus::SUCCESS, u64::from(count)));
        }
        self.end = Some(End::Close);
    }

    /// As `finish`, but bytes are left that nobody has received.
    fn leave(&mut self) {
        let Some(up) = self.up() else { return };
        let Some(release) = &mut up.release else { return };
        let request = release.id.take();
        *release = Release { silent: release.silent, done: true, told: request.is_some(), ..Release::default() };
        let over = up.take_over(true);
        let pending = self.waits.drain(..).map(|wait| wait.0).chain(request).map(|id| (id, 0));
        for (id, count) in over.into_iter().chain(pending) {
            self.expected.insert(id, (NtStatus::SUCCESS, u64::from(count)));
        }
    }

    fn watch_stuck(&mut self) {
        let until = self.now + self.limits.patience;
        let taker = self.has_taker(NORMAL);
        let Some(up) = self.up() else { return };
        let unwanted = up.waiting(NORMAL) > 0 && !up.is_lent(NORMAL) && !up.has_receive(NORMAL) && !taker;
        let over = (up.ended || up.hinted) && up.sends.is_empty() && !up.is_left();
        let Some(release) = &mut up.release else { return };
        if unwanted && over {
            release.stuck_until.get_or_insert(until);
        } else {
            release.stuck_until = None;
        }
    }

    /// The next time limit.
    pub fn deadline(&self) -> Option<u64> {
        self.waits.iter().filter_map(|wait| wait.1).chain(self.own_deadline()).min()
    }

    fn own_deadline(&self) -> Option<u64> {
        match &self.phase {
            Phase::Connecting { until, .. } | Phase::Offered { until } => Some(*until),
            Phase::Up(up) => {
                let release = up.release.as_ref()?;
                release.until.into_iter().chain(release.stuck_until).min()
            }
            _ => None,
        }
    }

    /// Is a release over because nobody takes what has come?
    pub fn is_out_of_patience(&self) -> bool {
        let Phase::Up(Up { release: Some(release), .. }) = &self.phase else { return false };
        release.stuck_until.is_some_and(|until| until <= self.now)
    }

    pub fn time_passes(&mut self) {
        let now = self.now;
        let (late, kept): (Vec<_>, Vec<_>) =
            self.waits.drain(..).partition(|wait| wait.1.is_some_and(|until| until <= now));
        self.waits = kept;
        for (id, _) in late {
            self.expected.insert(id, (NtStatus::IO_TIMEOUT, 0));
        }
        if self.own_deadline().is_none_or(|until| until > now) {
            return;
        }
        let is_stuck = match &self.phase {
            Phase::Up(up) => {
                up.release.as_ref().is_some_and(|release| release.stuck_until.is_some_and(|until| until <= now))
            }
            _ => false,
        };
        if is_stuck { self.leave() } else { self.fail(&Why::TimedOut) }
    }
}

fn normal(handlers: ConnectionHandlers) -> (Handler, bool) {
    match handlers.chained_receive.routine {
        0 => (handlers.receive, false),
        _ => (handlers.chained_receive, true),
    }
}

fn setup_status(why: &Why, connecting: bool) -> NtStatus {
    match why {
        Why::Cancelled | Why::Cleanup => NtStatus::CANCELLED,
        Why::LocalAbort => NtStatus::CONNECTION_ABORTED,
        Why::AddressClosed => NtStatus::ADDRESS_CLOSED,
        Why::TimedOut | Why::Lost(NetworkError::TimedOut) => NtStatus::IO_TIMEOUT,
        Why::Lost(NetworkError::Reset) if connecting => NtStatus::CONNECTION_REFUSED,
        Why::Lost(NetworkError::Reset) => NtStatus::CONNECTION_RESET,
        Why::Lost(_) => NtStatus::CONNECTION_ABORTED,
    }
}

fn send_status(why: &Why) -> NtStatus {
    match why {
        Why::Lost(NetworkError::TimedOut) => NtStatus::IO_TIMEOUT,
        _ => receive_status(why),
    }
}

fn receive_status(why: &Why) -> NtStatus {
    match why {
        Why::Cancelled | Why::Cleanup => NtStatus::CANCELLED,
        Why::Lost(NetworkError::Reset) => NtStatus::CONNECTION_RESET,
        _ => NtStatus::CONNECTION_ABORTED,
    }
}

fn release_status(why: &Why) -> NtStatus {
    match why {
        Why::TimedOut => NtStatus::IO_TIMEOUT,
        Why::AddressClosed => NtStatus::ADDRESS_CLOSED,
        _ => send_status(why),
    }
}
