//! From events to steps.
//!
//! Events are small and come in pairs; a reader wants `TDI_SEND, 91 bytes → STATUS_SUCCESS` on one line. So a call
//! is held back until its return is known, as long as nothing else happens on its thread; then call and return
//! become one step. Each thread has a stack of the driver code it is in, from which follows who calls.
//!
//! Events may be missing, doubled or made up. Whatever does not fit is told as far as it can be, and everything
//! kept is bounded.

use std::collections::{HashMap, VecDeque};
use std::mem;

use trace::{Event, Farewell, Functions, Record, STATUS_PENDING};

use crate::Names;
use crate::cast::Cast;
use crate::step::{Audience, Bar, Kind, Outcome, Party, Step, Tone};
use crate::units::{bytes, clean, hold_spaces};

mod requests;

use requests::Request;

/// An error by its number, but what a handler says that goes on with a connection or a request itself.
const STATUS_MORE_PROCESSING_REQUIRED: u32 = 0xC000_0016;
/// Most steps that wait for one that is held.
const QUEUE_MAX: usize = 256;
/// Deepest nesting of driver code on a thread that is followed.
const FRAMES_MAX: usize = 64;
/// Most threads and requests that are followed.
const TRACKED_MAX: usize = 1 << 16;

/// Reads events and makes steps.
#[derive(Debug)]
pub struct Reading {
    names: Names,
    /// Who takes part.
    pub cast: Cast,
    threads: HashMap<u16, Thread>,
    /// The thread that carries out what is asked of the drivers.
    driving: Option<u16>,
    requests: HashMap<u64, Request>,
    /// Steps not yet handed out; the first has the number `first`.
    queue: VecDeque<Step>,
    first: u64,
    /// Bars that ended without a step of their own.
    ended: Vec<u64>,
    serial: u64,
}

#[derive(Debug, Default)]
struct Thread {
    frames: Vec<Frame>,
    /// The driver whose thread it is.
    home: Option<usize>,
    /// Number of its last step, leaving out what the network moved.
    last: u64,
    /// Number of its last step.
    latest: u64,
    /// An open under way.
    opening: Option<Opening>,
}

/// The numbers of the steps of an open.
#[derive(Debug, Default)]
struct Opening {
    open: u64,
    /// The create request, once for each driver that it is passed through.
    creates: Vec<u64>,
}

/// Driver code that a thread is in.
#[derive(Debug)]
struct Frame {
    what: What,
    /// Who called.
    from: Party,
    /// Whose code it is.
    party: Party,
    title: String,
    /// Number of the step that called it.
    step: u64,
    serial: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Entry,
    Unload,
    Request(u64),
    Indication,
}

impl Reading {
    /// One that has read nothing.
    pub fn new(names: Names) -> Self {
        Self {
            names,
            cast: Cast::default(),
            threads: HashMap::new(),
            driving: None,
            requests: HashMap::new(),
            queue: VecDeque::new(),
            // Not 0, which is the `last` of a thread without steps.
            first: 1,
            ended: Vec::new(),
            serial: 0,
        }
    }

    /// Reads the next event.
    pub fn observe(&mut self, record: &Record) {
        if self.threads.len() > TRACKED_MAX || self.requests.len() > TRACKED_MAX {
            self.threads.clear();
            self.requests.clear();
        }
        match record.event {
            Event::IrpDispatched { .. }
            | Event::IrpReturned { .. }
            | Event::IrpCompleted { .. }
            | Event::IrpCompletedLater { .. }
            | Event::IrpCancelled { .. } => self.observe_request(record),
            Event::FileOpened { .. }
            | Event::HandleClosed { .. }
            | Event::ObjectDereferenced { .. }
            | Event::FileDeleted { .. } => {
                self.observe_file(record);
            }
            Event::Indicated { .. }
            | Event::IndicationReturned { .. }
            | Event::EndpointAssociated { .. }
            | Event::EndpointDisassociated { .. } => self.observe_transport(record),
            Event::ConnectStarted { .. }
            | Event::Connected { .. }
            | Event::ConnectFailed { .. }
            | Event::BytesSent { .. }
            | Event::BytesReceived { .. }
            | Event::RemoteTold { .. }
            | Event::RemoteEnded { .. } => self.observe_network(record),
            _ => self.observe_driver(record),
        }
    }

    /// Takes the steps of which everything is known.
    pub fn take_ready(&mut self) -> impl Iterator<Item = Step> {
        let held = self.queue.iter().position(|step| step.held).unwrap_or(self.queue.len());
        let ready = held.max(self.queue.len().saturating_sub(QUEUE_MAX));
        self.first += ready as u64;
        self.queue.drain(..ready)
    }

    /// Takes what is left.
    pub fn take_all(&mut self) -> impl Iterator<Item = Step> {
        self.first += self.queue.len() as u64;
        self.queue.drain(..)
    }

    fn observe_driver(&mut self, record: &Record) {
        let (now, text) = (record.time_ns, clean(&record.text));
        let drydock = |said: String| {
            Step::new(now, Party::Drydock, Party::Drydock, Kind::Note(Tone::Plain), "")
                .said(said)
                .only_for(Audience::Account)
        };
        if matches!(record.event, Event::RunStarted { .. }) {
            self.driving = Some(record.thread);
        }
        match record.event {
            Event::RunStarted { seeded: 0, .. } => self.add(record, drydock(format!("{text} starts the run"))),
            Event::RunStarted { seed, .. } => {
                self.add(record, drydock(format!("{text} starts the run with seed {seed}")))
            }
            Event::RunEnded {} => self.add(record, drydock("ends the run".into())),
            Event::ImageLoaded { base, size, driver } => {
                self.cast.image(base, size, &record.text, driver);
                self.add(record, drydock(format!("loads {text} at {base:#x}, {}", bytes(size))));
            }
            Event::DriverEntryCalled { driver } => {
                let party = Party::Driver(self.cast.name_driver(driver, &record.text));
                let said = format!("calls DriverEntry of {}", self.cast.name(party));
                let step = Step::new(now, Party::IoManager, party, Kind::Call, "DriverEntry").said(said);
                self.enter(record, What::Entry, step);
            }
            Event::DriverEntryReturned { status, .. } => {
                let outcome = self.outcome(status);
                self.leave(record, |what| what == What::Entry, Some(outcome));
            }
            Event::UnloadCalled { driver } => {
                let party = Party::Driver(self.cast.driver(driver));
                let said = format!("calls DriverUnload of {}", self.cast.name(party));
                let step = Step::new(now, Party::IoManager, party, Kind::Call, "DriverUnload").said(said);
                self.enter(record, What::Unload, step);
            }
            Event::UnloadReturned { .. } => self.leave(record, |what| what == What::Unload, None),
            Event::ImportMissing { driver } => {
                let party = Party::Driver(self.cast.driver(driver));
                let said = format!(
                    "imports {text}, which Drydock does not implement: calling or touching it stops the driver"
                );
                let step = Step::new(now, party, party, Kind::Note(Tone::Plain), "").said(said);
                self.add(record, step.only_for(Audience::Account));
            }
            Event::ThreadStarted { start, .. } => self.thread_started(record, start),
            Event::WaitBegun { .. } => {
                // It may take long: show where the thread is.
                let frames = self.threads.get(&record.thread).map(|thread| &thread.frames);
                let steps: Vec<u64> = frames.into_iter().flatten().map(|frame| frame.step).collect();
                steps.into_iter().for_each(|step| self.release(step));
            }
            Event::ThreadEnded { .. } => {
                self.threads.remove(&record.thread);
            }
            Event::DeviceCreated { .. } | Event::DeviceDeleted { .. } | Event::DeviceAttached { .. } => {
                self.observe_device(record)
            }
            Event::DebugPrint { caller, .. } => {
                // A hooked routine runs as its victim; whose code printed is known better from the call.
                let printer = self.cast.driver_at(caller).map(Party::Driver);
                let party = printer.or_else(|| self.driver_of(record.thread)).unwrap_or(Party::Drydock);
                let step = Step::new(now, party, party, Kind::Note(Tone::Plain), format!("“{}”", hold_spaces(&text)));
                self.add(record, step.said(format!("prints “{text}”")));
            }
            Event::Finding { driver, offset } => self.finding(record, driver, offset),
            Event::HostNote {} => self.note(record, Tone::Plain, text),
            Event::EventsLost { count } => {
                self.threads.remove(&record.thread);
                self.note(record, Tone::Bad, format!("about {count} events of a thread were lost here"));
            }
            Event::EventsResumed {} => {
                self.threads.remove(&record.thread);
            }
            _ => {}
        }
    }

    fn observe_device(&mut self, record: &Record) {
        let caller = self.driver_of(record.thread);
        let title = match record.event {
            Event::DeviceCreated { device, driver } => {
                self.cast.device_created(device, driver, &record.text);
                let name = clean(&record.text);
                ("IoCreateDevice", if name.is_empty() { "without a name".into() } else { name }, "creates device")
            }
            Event::DeviceDeleted { device } => ("IoDeleteDevice", self.cast.device_name(device), "deletes device"),
            Event::DeviceAttached { device, lower } => {
                self.cast.device_attached(device);
                ("IoAttachDevice", self.cast.device_name(lower), "attaches a device over")
            }
            _ => return,
        };
        // The host's own devices are no news.
        if let Some(party) = caller {
            let (title, name, verb) = title;
            let said = format!("{verb} {name}");
            self.add(
                record,
                Step::new(record.time_ns, party, Party::IoManager, Kind::Call, title).detail(name).said(said),
            );
        }
    }

    fn thread_started(&mut self, record: &Record, start: u64) {
        let home = self.cast.driver_at(start);
        // Recorded by the new thread: whatever had this number before is over.
        self.threads.insert(record.thread, Thread { home, ..Thread::default() });
        if let Some(driver) = home {
            let party = Party::Driver(driver);
            let said = format!("starts a thread at {}", self.cast.place(start));
            let step = Step::new(record.time_ns, party, party, Kind::Note(Tone::Plain), "").said(said);
            self.add(record, step.only_for(Audience::Account));
        }
    }

    fn finding(&mut self, record: &Record, driver: u64, offset: u64) {
        let (rule, message) = record.text.split_once('\t').unwrap_or(("", &record.text));
        let rule = if rule.is_empty() { String::new() } else { format!("{}: ", clean(rule)) };
        let place = match self.cast.image_name(driver) {
            Some(name) => format!(" [{name}+{offset:#x}]"),
            None => String::new(),
        };
        self.note(record, Tone::Bad, format!("{rule}{}{place}", clean(message)));
    }

    /// A remark, beside the driver that runs or the I/O manager.
    fn note(&mut self, record: &Record, tone: Tone, text: String) {
        let party = self.driver_of(record.thread).unwrap_or(Party::IoManager);
        let said = if tone == Tone::Bad { format!("! {text}") } else { text.clone() };
        self.add(record, Step::new(record.time_ns, party, party, Kind::Note(tone), text).said(said));
    }

    fn observe_file(&mut self, record: &Record) {
        let now = record.time_ns;
        match record.event {
            Event::FileOpened { file, device, status, kind, .. } => {
                let path = clean(&record.text);
                let owner = self.opener(record.thread);
                let outcome = self.outcome(status);
                let (label, said) = if is_error(status) {
                    (String::new(), format!("opens {path}"))
                } else {
                    let (label, long) = self.cast.open(file, device, kind, owner, &path);
                    (label, format!("opens {path} as {long}"))
                };
                self.opened(
                    record,
                    owner,
                    Step::new(now, owner, Party::IoManager, Kind::Call, format!("open {path}")),
                    |step| {
                        step.about = label.clone();
                        step.said = said;
                        step.outcome = Some(outcome);
                    },
                );
            }
            Event::HandleClosed { object, remaining, .. } if self.cast.is_file(object) => {
                let owner = self.cast.owner(object);
                let closer = self.driver_of(record.thread).or(owner).unwrap_or(Party::Drydock);
                let label = self.cast.file(object);
                let (left, said) = match remaining {
                    0 => (String::new(), format!("closes the handle of {label}")),
                    1 => ("1 handle left".into(), format!("closes a handle of {label}, 1 left")),
                    _ => (format!("{remaining} handles left"), format!("closes a handle of {label}, {remaining} left")),
                };
                let step = Step::new(now, closer, Party::IoManager, Kind::Call, "ZwClose").about(label).detail(left);
                self.add(record, step.said(said));
            }
            Event::ObjectDereferenced { object, count: 0 } if self.cast.is_file(object) => {
                let owner = self.cast.owner(object);
                let closer = self.driver_of(record.thread).or(owner).unwrap_or(Party::Drydock);
                let label = self.cast.file(object);
                let said = format!("drops the last reference to {label}");
                let step = Step::new(now, closer, Party::IoManager, Kind::Call, "ObDereferenceObject").about(label);
                self.add(record, step.detail("last reference").said(said));
            }
            Event::FileDeleted { file } => self.cast.forget(file),
            _ => {}
        }
    }

    /// Tells of an open: in the step that was held for it, or in one of its own.
    fn opened(&mut self, record: &Record, owner: Party, step: Step, complete: impl FnOnce(&mut Step)) {
        let opening = self.threads.get_mut(&record.thread).and_then(|thread| thread.opening.take());
        let Some(Opening { open, creates }) = opening.filter(|opening| self.step(opening.open).is_some()) else {
            let mut step = step;
            complete(&mut step);
            return self.add(record, step);
        };
        let mut label = String::new();
        if let Some(held) = self.step(open) {
            *held = Step { time_ns: held.time_ns, ended: mem::take(&mut held.ended), from: owner, ..step };
            complete(held);
            label.clone_from(&held.about);
        }
        for create in creates {
            if let Some(create) = self.step(create) {
                create.about.clone_from(&label);
            }
        }
    }

    fn observe_transport(&mut self, record: &Record) {
        let now = record.time_ns;
        match record.event {
            Event::Indicated { endpoint, event, bytes: count, .. } => {
                let from = self.cast.provider(endpoint);
                let owner = self.cast.owner(endpoint).filter(|&owner| owner != Party::Drydock);
                let to = owner.or_else(|| self.cast.only_client().map(Party::Driver)).unwrap_or(Party::IoManager);
                let title = clean(&(self.names.event)(event));
                let detail = (self.names.event_detail)(event, count);
                let moves = (self.names.event_moves_data)(event);
                let detail = if moves { bytes(count) } else { clean(&detail) };
                let mut step =
                    Step::new(now, from, to, Kind::Call, &title).about(self.cast.file(endpoint)).detail(detail);
                if moves {
                    step = step.moving(&title, 1, count, true);
                }
                self.enter(record, What::Indication, step);
            }
            Event::IndicationReturned { status, taken, .. } => {
                let mut outcome = self.outcome(status);
                if taken > 0 {
                    outcome.text = format!("{}, took {}", outcome.text, bytes(taken));
                }
                self.leave(record, |what| what == What::Indication, Some(outcome));
            }
            Event::EndpointAssociated { address, .. } => {
                let with = format!("with {}", self.cast.file(address));
                // Known from the request under way, if there is one; by itself it is no news.
                if let Some(step) = self.current_step(record.thread) {
                    step.detail = with;
                }
            }
            Event::EndpointDisassociated { endpoint } => {
                let by_cleanup = self.current_functions(record.thread).is_some_and(Functions::is_cleanup);
                if by_cleanup {
                    let party = self.cast.provider(endpoint);
                    let text = format!("{} leaves its address", self.cast.file(endpoint));
                    let step = Step::new(now, party, party, Kind::Note(Tone::Plain), text);
                    self.add(record, step.only_for(Audience::Figure));
                }
            }
            _ => {}
        }
    }

    fn observe_network(&mut self, record: &Record) {
        let now = record.time_ns;
        let (Event::ConnectStarted { endpoint }
        | Event::Connected { endpoint }
        | Event::ConnectFailed { endpoint, .. }
        | Event::BytesSent { endpoint, .. }
        | Event::BytesReceived { endpoint, .. }
        | Event::RemoteTold { endpoint, .. }
        | Event::RemoteEnded { endpoint, .. }) = record.event
        else {
            return;
        };
        let (transport, label) = (self.cast.provider(endpoint), self.cast.file(endpoint));
        let remote = clean(&record.text);
        let out = |kind, title: &str| Step::new(now, transport, Party::Remote, kind, title).about(label.clone());
        let back = |kind, title: &str| Step::new(now, Party::Remote, transport, kind, title).about(label.clone());
        let step = match record.event {
            Event::ConnectStarted { .. } => {
                self.cast.remote(&remote);
                out(Kind::Network, &format!("connect to {remote}")).said(format!("connects {label} to {remote}"))
            }
            Event::Connected { .. } => {
                self.cast.remote(&remote);
                back(Kind::Network, "connected").said(format!("{remote} is connected to {label}"))
            }
            Event::ConnectFailed { status, .. } => {
                let outcome = self.outcome(status);
                let step = back(Kind::Network, "no connection").said(format!("does not connect to {label}"));
                Step { outcome: Some(outcome), ..step }
            }
            Event::BytesSent { bytes: count, .. } => {
                let step = out(Kind::Network, &bytes(count)).moving("sent", 1, count, false).only_for(Audience::Figure);
                step.said(format!("{} to the remote node, {label}", bytes(count)))
            }
            Event::BytesReceived { bytes: count, .. } => {
                let step =
                    back(Kind::Network, &bytes(count)).moving("received", 1, count, false).only_for(Audience::Figure);
                step.said(format!("{} from the remote node, {label}", bytes(count)))
            }
            Event::RemoteTold { farewell, .. } => {
                let (short, long) = farewell_names(farewell);
                out(Kind::Farewell, short)
                    .detail(long)
                    .said(format!("tells the remote node: {short} ({long}), {label}"))
            }
            Event::RemoteEnded { farewell, .. } => {
                let (short, long) = farewell_names(farewell);
                back(Kind::Farewell, short).detail(long).said(format!("ends its side: {short} ({long}), {label}"))
            }
            _ => return,
        };
        self.add(record, step);
    }

    /// Calls driver code.
    fn enter(&mut self, record: &Record, what: What, mut step: Step) {
        self.serial += 1;
        let (serial, from, party) = (self.serial, step.from, step.to);
        step.opens.push(Bar { serial, party });
        step.held = true;
        let title = step.title.clone();
        let number = self.push(record.thread, step);
        let thread = self.threads.entry(record.thread).or_default();
        if thread.frames.len() < FRAMES_MAX {
            thread.frames.push(Frame { what, from, party, title, step: number, serial });
        }
    }

    /// Driver code returns: into the step that called it, or as a step of its own.
    fn leave(&mut self, record: &Record, is_it: impl Fn(What) -> bool, outcome: Option<Outcome>) {
        let Some(frame) = self.pop(record.thread, is_it) else { return };
        if self.merge(record.thread, &frame, outcome.clone()) {
            return;
        }
        let said = format!("returns from {}", frame.title);
        let mut step = Step::new(record.time_ns, frame.party, frame.from, Kind::Return, "").said(said);
        step.outcome = outcome;
        step.closes.push(frame.serial);
        self.add(record, step);
    }

    /// Writes the outcome into the step that called `frame`, if nothing but data moved on the thread since.
    fn merge(&mut self, thread: u16, frame: &Frame, outcome: Option<Outcome>) -> bool {
        let Some(state) = self.threads.get(&thread).filter(|thread| thread.last == frame.step) else { return false };
        let latest = state.latest;
        let Some(step) = self.step(frame.step) else { return false };
        step.outcome = outcome;
        step.held = false;
        if let Some(step) = self.step(latest) {
            step.closes.push(frame.serial);
        }
        true
    }

    /// Takes the innermost frame off a thread's stack; frames above it were left without an event.
    fn pop(&mut self, thread: u16, is_it: impl Fn(What) -> bool) -> Option<Frame> {
        let frames = &mut self.threads.get_mut(&thread)?.frames;
        let found = frames.iter().rposition(|frame| is_it(frame.what))?;
        let left = frames.split_off(found);
        let mut left = left.into_iter();
        let frame = left.next();
        self.ended.extend(left.map(|frame| frame.serial));
        if let Some(frame) = &frame {
            self.release(frame.step);
        }
        frame
    }

    fn add(&mut self, record: &Record, step: Step) {
        self.push(record.thread, step);
    }

    /// Appends a step of a thread and returns its number.
    fn push(&mut self, thread: u16, mut step: Step) -> u64 {
        let number = self.first + self.queue.len() as u64;
        let state = self.threads.entry(thread).or_default();
        state.latest = number;
        let moves = step.kind == Kind::Network && step.transfer.is_some();
        if !moves {
            state.last = number;
        }
        if step.kind == Kind::Call {
            // What becomes of the calls around this one will be told apart: show them.
            let around: Vec<u64> = state.frames.iter().map(|frame| frame.step).collect();
            for number in around {
                self.release(number);
            }
        }
        step.ended.append(&mut self.ended);
        self.queue.push_back(step);
        number
    }

    /// Lets a step be shown as it is.
    fn release(&mut self, number: u64) {
        if let Some(step) = self.step(number) {
            step.held = false;
        }
    }

    fn step(&mut self, number: u64) -> Option<&mut Step> {
        self.queue.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// The step that called the code a thread is in.
    fn current_step(&mut self, thread: u16) -> Option<&mut Step> {
        let number = self.threads.get(&thread)?.frames.last()?.step;
        self.step(number)
    }

    /// The functions of the request that a thread is in.
    fn current_functions(&self, thread: u16) -> Option<Functions> {
        let What::Request(irp) = self.threads.get(&thread)?.frames.last()?.what else { return None };
        self.requests.get(&irp).map(|request| request.functions)
    }

    /// The driver whose code a thread is in.
    fn driver_of(&self, thread: u16) -> Option<Party> {
        let thread = self.threads.get(&thread)?;
        let innermost = thread.frames.last().map(|frame| frame.party);
        innermost.or_else(|| thread.home.map(Party::Driver)).filter(|party| matches!(party, Party::Driver(_)))
    }

    /// Who opens a file on a thread: the driver whose code it is in; the tester, if no driver's code is on the thread that
    /// drives the run; else work of a driver's that no event tells of.
    fn opener(&self, thread: u16) -> Party {
        let tester = || (self.driving == Some(thread)).then_some(Party::Tester);
        let guess = || self.cast.only_client().map(Party::Driver);
        self.driver_of(thread).or_else(tester).or_else(guess).unwrap_or(Party::Drydock)
    }

    fn outcome(&self, status: u32) -> Outcome {
        let tone = match status {
            STATUS_PENDING | STATUS_MORE_PROCESSING_REQUIRED => Tone::Pending,
            _ if is_error(status) => Tone::Bad,
            _ => Tone::Good,
        };
        Outcome { text: clean(&(self.names.status)(status)), tone }
    }
}

fn farewell_names(farewell: Farewell) -> (&'static str, &'static str) {
    match farewell {
        Farewell::Fin => ("FIN", "orderly end"),
        Farewell::Rst => ("RST", "abortive end"),
    }
}

/// Whether an NTSTATUS is an error.
fn is_error(status: u32) -> bool {
    status >> 30 == 3
}
