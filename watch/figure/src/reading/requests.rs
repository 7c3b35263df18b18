//! The part of the reading that follows requests through drivers.

use trace::{Event, Functions, Record, STATUS_PENDING};

use super::{Frame, Opening, Reading, What};
use crate::step::{Audience, Kind, Outcome, Party, Step, Tone};
use crate::units::{bytes, clean, duration};

/// Most drivers that one request is followed through.
const LEVELS_MAX: usize = 16;

/// An IRP under way, or the last that had its address.
#[derive(Debug)]
pub struct Request {
    /// What it asks for.
    pub functions: Functions,
    title: String,
    about: String,
    detail: u64,
    since_ns: u64,
    completed: bool,
    /// The drivers it was given to, topmost first.
    levels: Vec<Level>,
}

/// A driver that has the request.
#[derive(Debug)]
struct Level {
    from: Party,
    to: Party,
    serial: u64,
    /// Its dispatch routine returned.
    returned: bool,
    /// Its bar goes on.
    open: bool,
}

impl Reading {
    pub(super) fn observe_request(&mut self, record: &Record) {
        match record.event {
            Event::IrpDispatched { irp, device, file, functions, detail, .. } => {
                self.dispatched(record, irp, device, file, Functions(functions), detail);
            }
            Event::IrpReturned { irp, status } => self.returned(record, irp, status),
            Event::IrpCompleted { irp, status, information }
            | Event::IrpCompletedLater { irp, status, information } => {
                self.completed(record, irp, status, information);
            }
            Event::IrpCancelled { irp } => self.cancelled(record, irp),
            _ => {}
        }
    }

    fn dispatched(&mut self, record: &Record, irp: u64, device: u64, file: u64, functions: Functions, detail: u64) {
        let (now, to) = (record.time_ns, Party::Driver(self.cast.device_driver(device)));
        let holder = self.requests.get(&irp).and_then(Request::holder);
        let from = holder.unwrap_or_else(|| self.sender(record.thread, file, functions, to));
        let title = clean(&(self.names.function)(functions.0));
        let said_detail = match functions.is_transfer() {
            true => bytes(detail),
            false => clean(&(self.names.detail)(functions.0, detail)),
        };
        if functions.is_create() && holder.is_none() {
            self.opening(record);
        }
        let about = self.cast.file(file);
        // Before the open is over its file has no name.
        let about = if functions.is_create() { String::new() } else { about };
        let mut step = Step::new(now, from, to, Kind::Call, &title).about(&about).detail(said_detail);
        if functions.is_create() {
            step = step.only_for(Audience::Figure);
        }
        if functions.is_transfer() && holder.is_none() {
            step = step.moving(&title, 1, 0, true);
        }
        self.enter(record, What::Request(irp), step);
        if functions.is_create()
            && let Some(thread) = self.threads.get_mut(&record.thread)
            && let Some(opening) = thread.opening.as_mut().filter(|opening| opening.creates.len() < LEVELS_MAX)
        {
            opening.creates.push(thread.last);
        }
        let level = Level { from, to, serial: self.serial, returned: false, open: true };
        match self.requests.get_mut(&irp) {
            Some(request) if holder.is_some() => {
                if request.levels.len() < LEVELS_MAX {
                    request.levels.push(level);
                }
            }
            _ => {
                let levels = vec![level];
                let request = Request { functions, title, about, detail, since_ns: now, completed: false, levels };
                self.requests.insert(irp, request);
            }
        }
    }

    /// Keeps a place for the open of which a create request is part.
    fn opening(&mut self, record: &Record) {
        let from = self.opener(record.thread);
        let mut step = Step::new(record.time_ns, from, Party::IoManager, Kind::Call, "open");
        step.held = true;
        // One that never came to its end waits no longer.
        if let Some(before) = self.threads.get_mut(&record.thread).and_then(|thread| thread.opening.take()) {
            self.release(before.open);
        }
        let open = self.push(record.thread, step);
        self.threads.entry(record.thread).or_default().opening = Some(Opening { open, creates: Vec::new() });
    }

    /// Who sends a request: the I/O manager those about files, others the driver that runs or that opened the file.
    fn sender(&self, thread: u16, file: u64, functions: Functions, to: Party) -> Party {
        if functions.is_create() || functions.is_cleanup() || functions.is_close() {
            return Party::IoManager;
        }
        let owner = self.cast.owner(file).filter(|&owner| owner != Party::Drydock);
        self.driver_of(thread)
            .filter(|&running| running != to)
            .or(owner)
            .filter(|&from| from != to)
            .unwrap_or(Party::IoManager)
    }

    fn returned(&mut self, record: &Record, irp: u64, status: u32) {
        let Some(frame) = self.pop(record.thread, |what| what == What::Request(irp)) else { return };
        let outcome = self.outcome(status);
        let Some(request) = self.requests.get_mut(&irp) else { return };
        let Some(level) = request.levels.iter_mut().find(|level| level.serial == frame.serial) else { return };
        level.returned = true;
        if status == STATUS_PENDING && !request.completed {
            // The bar that goes on says the rest.
            if let Some(step) = self.step(frame.step)
                && step.outcome.is_none()
            {
                step.outcome = Some(Outcome { text: "pending".into(), tone: Tone::Pending });
            }
            return;
        }
        if !level.open {
            return;
        }
        level.open = false;
        // A driver that neither completes nor pends a request has done with it all the same.
        let completed = std::mem::replace(&mut request.completed, true);
        let (from, to) = (level.to, level.from);
        if completed {
            // Told at its completion, by a driver below.
            if !self.end_bar_at_last(record.thread, frame.serial) {
                self.ended.push(frame.serial);
            }
        } else if !self.merge(record.thread, &frame, Some(outcome.clone())) {
            let title = self.requests.get(&irp).map_or_else(String::new, Request::label);
            let mut step = Step::new(record.time_ns, from, to, Kind::Return, "").said(format!("returns from {title}"));
            step.outcome = Some(outcome);
            step.closes.push(frame.serial);
            self.add(record, step);
        }
    }

    fn end_bar_at_last(&mut self, thread: u16, serial: u64) -> bool {
        let last = self.threads.get(&thread).map_or(0, |thread| thread.latest);
        let Some(step) = self.step(last) else { return false };
        step.closes.push(serial);
        true
    }

    fn completed(&mut self, record: &Record, irp: u64, status: u32, information: u64) {
        let outcome = self.outcome(status);
        let Some(request) = self.requests.get_mut(&irp) else { return };
        let again = std::mem::replace(&mut request.completed, true);
        let outcome = request.outcome(outcome, information);
        let moved = if request.functions.is_transfer() && outcome.tone == Tone::Good { information } else { 0 };
        // In the dispatch routine of the lowest driver, on its thread: the return of that call.
        let lowest = request.levels.last().map(|level| (level.serial, level.returned));
        if let Some((serial, false)) = lowest
            && let Some(frame) = self.innermost(record.thread, irp, serial)
        {
            return self.completed_inline(record, irp, frame, outcome, moved);
        }
        if again {
            // Taken back by a driver above and completed by it: no news for the sender of the request.
            return;
        }
        let Some(request) = self.requests.get_mut(&irp) else { return };
        let (Some(first), Some(last)) = (request.levels.first(), request.levels.last()) else { return };
        let (from, to) = (last.to, first.from);
        let title = format!("{} completes", request.title);
        let took = duration(record.time_ns.saturating_sub(request.since_ns));
        let said = format!("completes {} after {took}", request.label());
        let mut step = Step::new(record.time_ns, from, to, Kind::Return, title).about(&request.about).said(said);
        step.outcome = Some(outcome);
        if request.functions.is_transfer() {
            step = step.moving(&request.title, 0, moved, true);
        }
        for level in request.levels.iter_mut().filter(|level| level.returned && level.open) {
            level.open = false;
            step.closes.push(level.serial);
        }
        // Its dispatch routine runs on another thread; what it returns is no news any more.
        if let Some(level) = request.levels.last_mut().filter(|level| level.open) {
            level.open = false;
            step.closes.push(level.serial);
        }
        self.add(record, step);
    }

    fn completed_inline(&mut self, record: &Record, irp: u64, frame: (u64, u64), outcome: Outcome, moved: u64) {
        let (number, serial) = frame;
        if let Some(request) = self.requests.get_mut(&irp)
            && let Some(level) = request.levels.last_mut()
        {
            level.open = false;
        }
        let (title, party) = (String::new(), Party::IoManager);
        let call = Frame { what: What::Request(irp), from: party, party, title, step: number, serial };
        let transfer = self.requests.get(&irp).filter(|request| request.functions.is_transfer());
        let title = transfer.map(|request| request.title.clone());
        if self.merge(record.thread, &call, Some(outcome.clone())) {
            if let Some(transfer) = self.step(number).and_then(|step| step.transfer.as_mut()) {
                transfer.bytes = moved;
            }
            return;
        }
        let Some(request) = self.requests.get(&irp) else { return };
        let Some(level) = request.levels.last() else { return };
        let said = format!("completes {}", request.label());
        let mut step = Step::new(record.time_ns, level.to, level.from, Kind::Return, "").said(said);
        step.outcome = Some(outcome);
        step.closes.push(serial);
        if let Some(title) = title {
            step = step.moving(&title, 0, moved, true);
        }
        self.add(record, step);
    }

    /// The call of the frame a thread is in, if it is the one of this request and bar: its step and bar.
    fn innermost(&self, thread: u16, irp: u64, serial: u64) -> Option<(u64, u64)> {
        let frame = self.threads.get(&thread)?.frames.last()?;
        (frame.what == What::Request(irp) && frame.serial == serial).then_some((frame.step, serial))
    }

    fn cancelled(&mut self, record: &Record, irp: u64) {
        let Some(request) = self.requests.get(&irp) else { return };
        let label = request.label();
        let (about, title) = (request.about.clone(), request.title.clone());
        let sender = request.levels.first().map(|level| level.from);
        let from = self.driver_of(record.thread).or(sender).unwrap_or(Party::IoManager);
        let step =
            Step::new(record.time_ns, from, Party::IoManager, Kind::Call, "IoCancelIrp").about(about).detail(title);
        self.add(record, step.said(format!("cancels {label}")));
    }
}

impl Request {
    /// The driver that has it now, if it is under way.
    fn holder(&self) -> Option<Party> {
        self.levels.last().filter(|_| !self.completed).map(|level| level.to)
    }

    fn label(&self) -> String {
        if self.about.is_empty() { self.title.clone() } else { format!("{}, {}", self.title, self.about) }
    }

    /// The outcome with the bytes that moved, where they differ from those asked for.
    fn outcome(&self, mut outcome: Outcome, information: u64) -> Outcome {
        if self.functions.is_transfer() && outcome.tone != Tone::Bad && information != self.detail {
            outcome.text = format!("{}, {}", outcome.text, bytes(information));
        }
        outcome
    }
}
