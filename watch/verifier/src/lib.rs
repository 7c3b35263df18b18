//! Rules checked over recorded events.
//!
//! Only what the events prove is called a finding. Three things make that harder than it looks:
//! - An unstamped event bears the time of the one before it on its thread, so it may stand too early among the
//!   events of other threads. What such an event proves to other threads is held to be proven only at the
//!   next stamped event of its own thread.
//! - Events may be missing. From where they are ([`Event::EventsLost`]) to where they no longer are
//!   ([`Event::EventsResumed`]) nothing is judged; what was known is forgotten, and only files and requests whose
//!   beginning is seen afterwards are judged again.
//! - An address names another object once the first is gone, and nothing tells when it is. A file begins with its create request,
//!   and what is still to be proven of the one before is proven by that. A return belongs to the dispatch that is
//!   innermost on its own thread. An unstamped completion may be, until the next stamped event of its thread, that of
//!   any request that is sent at its address.
//!
//! Rules: C-081, C-133 to C-135, C-139, C-160, C-162, C-163, C-171, C-172, C-569 about file objects ([`files`]); K-047,
//! D-290, K-054, K-055, K-102 about requests ([`requests`]). Leaks are not looked for here: the child sees them better, since
//! it knows who allocated what.

#![forbid(unsafe_code)]

mod drivers;
mod files;
mod requests;

use std::collections::HashMap;

use trace::{Event, Functions, Record};

use drivers::{Culprit, Drivers};
use files::Files;
use requests::{Completed, Completion, Dispatch, Requests};

/// Most findings of a run; more are counted only.
const FINDINGS_MAX: usize = 256;
/// Most files or requests that are watched at once. A run has as many as it has addresses for them; a trace made
/// up by a hostile driver could have any number.
const WATCHED_MAX: usize = 1 << 20;
/// Most cleanups that a thread completes between two stamped events; it is one in any run that is real.
const UNPROVEN_MAX: usize = 1024;

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule's id, such as `C-133`.
    pub rule: &'static str,
    /// What happened.
    pub message: String,
    /// File name of the driver that broke it; empty if unknown, or if it was none.
    pub driver: String,
    /// Offset in its image of the routine that did, if it is known.
    pub offset: Option<u64>,
    /// Number of the event that shows it, counted from the first that was observed; `None` for what shows only
    /// at the end.
    pub event: Option<u64>,
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Broken rules in the order in which they showed.
    pub findings: Vec<Finding>,
    /// What could not be judged, and why, in words.
    pub untold: Vec<String>,
}

/// Watches a run event by event. Memory is bounded by the number of objects that the run has at once.
#[derive(Debug)]
pub struct Verifier {
    seen: u64,
    files: Files,
    requests: Requests,
    /// Completed cleanups that other threads cannot be held to know of yet, by the thread that completed them.
    unproven: HashMap<u16, Vec<u64>>,
    findings: Findings,
    /// Events missing as the records themselves say.
    missing: u64,
    /// Rings of which events are missing just now.
    gaps: u32,
}

/// A request on its way to a driver.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// Number of the event.
    number: u64,
    thread: u16,
    device: u64,
    file: u64,
    functions: Functions,
    /// The dispatch routine.
    routine: u64,
}

/// The list that is being made, with whom findings are about.
#[derive(Debug, Default)]
struct Findings {
    list: Vec<Finding>,
    beyond: u64,
    drivers: Drivers,
}

impl Findings {
    /// A finding that no driver is known to be guilty of.
    fn add(&mut self, rule: &'static str, event: impl Into<Option<u64>>, message: String) {
        self.push(rule, event.into(), message, Culprit::default());
    }

    /// A finding about the driver whose code `thread` is in.
    fn add_running(&mut self, rule: &'static str, event: u64, message: String, thread: u16) {
        self.push(rule, Some(event), message, self.drivers.running(thread));
    }

    /// A finding about the dispatch routine at `routine` of `device`'s driver.
    fn add_dispatch(&mut self, rule: &'static str, event: Option<u64>, message: String, device: u64, routine: u64) {
        self.push(rule, event, message, self.drivers.of_dispatch(device, routine));
    }

    fn push(&mut self, rule: &'static str, event: Option<u64>, message: String, culprit: Culprit) {
        if self.list.len() < FINDINGS_MAX {
            let Culprit { driver, offset } = culprit;
            self.list.push(Finding { rule, message, driver, offset, event });
        } else {
            self.beyond += 1;
        }
    }
}

impl Verifier {
    /// One that has seen nothing. `function` gives a request's name from its major << 8 | minor.
    pub fn new(function: fn(u32) -> String) -> Self {
        Self {
            seen: 0,
            files: Files::default(),
            requests: Requests::new(function),
            unproven: HashMap::new(),
            findings: Findings::default(),
            missing: 0,
            gaps: 0,
        }
    }

    /// Looks at the next event.
    pub fn observe(&mut self, record: &Record) {
        let number = self.seen;
        self.seen += 1;
        match record.event {
            Event::EventsLost { count } => {
                self.missing = self.missing.saturating_add(count);
                self.gaps = self.gaps.saturating_add(1);
                self.forget();
            }
            Event::EventsResumed {} => {
                self.gaps = self.gaps.saturating_sub(1);
                self.forget();
                self.requests.resumed(record.thread);
            }
            _ if self.gaps == 0 => self.judge(number, record),
            // Not even what follows the gap can be told without it.
            Event::IrpCompleted { irp, .. } => self.requests.completed_early(irp, record.thread),
            Event::HandleClosed { object, remaining, .. } => self.files.handle_closed(object, record.thread, remaining),
            event if event.is_stamped() => self.requests.settle(record.thread),
            _ => {}
        }
        self.findings.drivers.observe(record);
        if self.files.watched() > WATCHED_MAX || self.requests.watched() > WATCHED_MAX {
            self.missing = self.missing.saturating_add(1);
            self.forget();
        }
    }

    fn judge(&mut self, number: u64, record: &Record) {
        if record.event.is_stamped() {
            self.prove(record.thread);
            self.requests.settle(record.thread);
        }
        match record.event {
            Event::IrpDispatched { irp, device, file, functions, routine, .. } => {
                let sent =
                    Sent { number, thread: record.thread, device, file, functions: Functions(functions), routine };
                self.dispatched(irp, &sent);
            }
            Event::IrpReturned { irp, status } => self.requests.returned(irp, record.thread, status),
            Event::IrpCompleted { irp, status, .. } | Event::IrpCompletedLater { irp, status, .. } => {
                self.completed(number, record, irp, status);
            }
            Event::FileOpened { file, status, kind, .. } if !is_error(status) => {
                self.files.opened(file, kind, &record.text)
            }
            Event::HandleClosed { object, remaining, .. } => self.files.handle_closed(object, record.thread, remaining),
            Event::FileDeleted { file } => self.files.deleted(number, file, &mut self.findings),
            Event::Indicated { endpoint, .. } => {
                self.files.indicated(number, endpoint, record.thread, &mut self.findings);
            }
            Event::IndicationReturned { endpoint, .. } => self.files.indication_returned(endpoint, record.thread),
            Event::RemoteTold { endpoint, .. } => self.files.remote_told(number, endpoint, &mut self.findings),
            _ => {}
        }
    }

    /// Judges at the end. `events_lost` is how many events never arrived (`TraceReader::lost`), and `complete`
    /// whether the run came to its end in good order: after a crash nothing is said about what is missing.
    pub fn finish(mut self, events_lost: u64, complete: bool) -> Report {
        let missing = events_lost.max(self.missing);
        let mut untold = Vec::new();
        if missing > 0 {
            untold.push(format!(
                "{missing} events were lost: rules were checked only for files and requests seen from their beginning; \
                 run with --trace to keep every event"
            ));
        }
        // A loss that no record announced could be the very completion that seems to be missing.
        if complete && events_lost <= self.missing {
            self.requests.end(&mut self.findings);
        } else if !complete {
            untold.push(
                "the run did not reach its end: whether every request would have been completed is unknown".into(),
            );
        }
        if self.findings.beyond > 0 {
            untold.push(format!("{} more findings are not listed", self.findings.beyond));
        }
        Report { findings: self.findings.list, untold }
    }

    fn dispatched(&mut self, irp: u64, sent: &Sent) {
        let dispatch = self.requests.dispatched(irp, sent, &mut self.findings);
        let Dispatch::First { early } = dispatch else {
            // Passing a request down the stack is no second request.
            return;
        };
        if sent.functions.is_create() {
            // Whatever lay at its address is over.
            self.prove_all_of(sent.file);
        }
        self.files.requested(sent, &mut self.findings);
        if early && sent.functions.is_create() {
            self.files.forget(sent.file);
        }
    }

    fn completed(&mut self, number: u64, record: &Record, irp: u64, status: u32) {
        let later = record.event.is_stamped();
        let completion = Completion { number, thread: record.thread, status, later };
        let completed = self.requests.completed(irp, completion, &mut self.findings);
        let Some(Completed { file, functions, is_certain }) = completed else { return };
        match is_error(status) {
            true if functions.is_create() && is_certain => self.files.refused(file),
            true if functions.is_create() => self.files.forget(file),
            _ => {}
        }
        if functions.is_cleanup() && is_certain {
            let unproven = self.unproven.entry(record.thread).or_default();
            if unproven.len() < UNPROVEN_MAX {
                unproven.push(file);
            }
            if later {
                self.prove(record.thread);
            }
        }
    }

    /// From here on every thread can know of the cleanups that this thread completed.
    fn prove(&mut self, thread: u16) {
        for file in self.unproven.remove(&thread).into_iter().flatten() {
            self.cleaned(file, thread);
        }
    }

    /// The same, for the cleanups of `file` by whatever threads.
    fn prove_all_of(&mut self, file: u64) {
        let mut threads: Vec<_> =
            self.unproven.iter().filter(|(_, files)| files.contains(&file)).map(|(&thread, _)| thread).collect();
        threads.sort_unstable();
        for thread in threads {
            if let Some(files) = self.unproven.get_mut(&thread) {
                files.retain(|&unproven| unproven != file);
            }
            self.cleaned(file, thread);
        }
    }

    fn cleaned(&mut self, file: u64, thread: u16) {
        if let Some(since) = self.files.cleaned(file, thread, &mut self.findings) {
            self.requests.outlived(since, file, &mut self.findings);
        }
    }

    fn forget(&mut self) {
        self.files.forget_all();
        self.requests.forget();
        self.unproven.clear();
        self.findings.drivers.forget_calls();
    }
}

/// Checks all rules over a whole run. See [`Verifier::new`] and [`Verifier::finish`].
pub fn verify(records: &[Record], function: fn(u32) -> String, events_lost: u64, complete: bool) -> Report {
    let mut verifier = Verifier::new(function);
    records.iter().for_each(|record| verifier.observe(record));
    verifier.finish(events_lost, complete)
}

/// Whether an NTSTATUS is an error.
fn is_error(status: u32) -> bool {
    status >> 30 == 3
}

#[cfg(test)]
mod tests;
