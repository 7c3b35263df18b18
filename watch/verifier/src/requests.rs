//! Rules about requests (IRPs).
//!
//! A driver that holds an IRP completes it once. That it completes it twice is nothing that events could prove: one
//! completion may end the request for all, or for the lowest only (STATUS_MORE_PROCESSING_REQUIRED), and what is
//! completed next under that address may be another IRP, which its driver has never sent. The child knows, and ends
//! the run with bugcheck 0x44 (K-049).

use std::collections::{BTreeSet, HashMap};

use trace::{Functions, STATUS_PENDING, STATUS_UNHANDLED_EXCEPTION};

use crate::{Findings, Sent, is_error};

/// Whether a dispatch begins a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dispatch {
    /// Sent by its originator.
    First,
    /// Passed on, or sent again, while it is under way.
    Again,
}

/// A completion.
#[derive(Clone, Copy, Debug)]
pub struct Completion {
    /// Number of the event.
    pub number: u64,
    /// Who completed.
    pub thread: u16,
    /// With what.
    pub status: u32,
    /// Whether the event is stamped.
    pub later: bool,
}

/// The requests that are watched, by the IRP's address.
#[derive(Debug)]
pub struct Requests {
    known: HashMap<u64, Request>,
    /// File and IRP of those that nobody has completed: a cleanup asks for its file's, however many there are of others.
    uncompleted: BTreeSet<(u64, u64)>,
    function: fn(u32) -> String,
}

#[derive(Debug)]
struct Request {
    file: u64,
    functions: Functions,
    function: fn(u32) -> String,
    /// The device of the last dispatch, and the routine.
    device: u64,
    routine: u64,
    /// Event number of the first dispatch.
    since: u64,
    /// Dispatch routines that have not returned.
    depth: u32,
    completions: u32,
    /// Another thread has completed what may belong to a dispatch still to come.
    is_early: bool,
    /// Status of the last completion, if the dispatching thread made it.
    completed_with: Option<u32>,
    /// Whether the packet was marked pending in its location at the last completion.
    marked: bool,
    /// Somebody has completed it with success.
    has_succeeded: bool,
    /// What the outermost dispatch routine returned; nothing if an exception passed it.
    returned: Option<u32>,
    /// The thread of the last dispatch.
    thread: u16,
    forwarded: bool,
    /// Over all lives of the IRP: dispatches, completions, whether one was forwarded.
    total: Total,
}

#[derive(Clone, Copy, Debug, Default)]
struct Total {
    dispatches: u64,
    completions: u64,
    forwarded: bool,
}

impl Requests {
    /// None yet. `function` names their functions.
    pub fn new(function: fn(u32) -> String) -> Self {
        Self { known: HashMap::new(), uncompleted: BTreeSet::new(), function }
    }

    /// Begins anew.
    pub fn forget(&mut self) {
        self.known.clear();
        self.uncompleted.clear();
    }

    /// How many there are.
    pub fn watched(&self) -> usize {
        self.known.len()
    }

    /// A dispatch routine is called.
    pub fn dispatched(&mut self, irp: u64, sent: &Sent, findings: &mut Findings) -> Dispatch {
        let Sent { number, thread, device, file, functions, routine } = *sent;
        let mut total = Total::default();
        let mut completions = 0;
        if let Some(request) = self.known.get_mut(&irp) {
            if request.is_under_way() {
                request.depth += 1;
                request.thread = thread;
                request.device = device;
                request.routine = routine;
                request.forwarded = true;
                request.total.forwarded = true;
                request.total.dispatches += 1;
                return Dispatch::Again;
            }
            request.judge_abandoned(irp, number.into(), findings);
            self.uncompleted.remove(&(request.file, irp));
            total = request.total;
            completions = request.is_early.into();
        }
        total.dispatches += 1;
        let request = Request {
            file,
            functions,
            function: self.function,
            device,
            routine,
            since: number,
            depth: 1,
            completions,
            is_early: false,
            completed_with: None,
            marked: false,
            has_succeeded: false,
            returned: None,
            thread,
            forwarded: false,
            total,
        };
        self.known.insert(irp, request);
        if completions == 0 {
            self.uncompleted.insert((file, irp));
        }
        Dispatch::First
    }

    /// A dispatch routine returned.
    pub fn returned(&mut self, irp: u64, status: u32) {
        let Some(request) = self.known.get_mut(&irp) else { return };
        request.depth = request.depth.saturating_sub(1);
        if request.depth == 0 {
            request.returned = (status != STATUS_UNHANDLED_EXCEPTION).then_some(status);
        }
    }

    /// The holder completed it. Returns the file and functions of a request that is over by that.
    pub fn completed(&mut self, irp: u64, completion: Completion, findings: &mut Findings) -> Option<(u64, Functions)> {
        let Completion { number, thread, status, later } = completion;
        let request = self.known.get_mut(&irp)?;
        let known = Some((request.file, request.functions));
        let is_over = match request.total {
            Total { dispatches, completions, forwarded: true } => completions >= dispatches,
            _ => request.completions > 0,
        };
        if is_over {
            // An unstamped completion of another thread may belong to a dispatch that stands behind it.
            request.is_early |= !later && thread != request.thread;
            return None;
        }
        if request.completions == 0 {
            self.uncompleted.remove(&(request.file, irp));
        }
        request.completions += 1;
        request.total.completions += 1;
        if request.functions.is_create() && request.has_succeeded && is_error(status) {
            // Whoever made the file hears nothing of it any more: no cleanup, no close.
            let message = format!(
                "{} was failed after a driver below had completed it with success: what that one keeps for the file is \
                 never given back",
                request.name(irp)
            );
            findings.add_running("D-290", number, message, thread);
        }
        request.has_succeeded |= !is_error(status);
        request.completed_with = (thread == request.thread).then_some(status);
        request.marked = later;
        if status == STATUS_PENDING {
            let message = format!("{} was completed with STATUS_PENDING", request.name(irp));
            findings.add_running("K-054", number, message, thread);
        }
        known
    }

    /// The cleanup of `file`, begun at event `since`, is over: no request older than that may be left. But one whose dispatch
    /// routine has not returned may have been on its way through a filter, which neither the filter nor the transport
    /// could know of when the file was closed.
    pub fn outlived(&self, since: u64, file: u64, findings: &mut Findings) {
        let of_file = self.uncompleted.range((file, 0)..=(file, u64::MAX));
        let known = of_file.filter_map(|(_, irp)| Some((irp, self.known.get(irp)?)));
        let mut left: Vec<_> = known
            .filter(|(_, request)| request.since < since && request.is_held() && !request.functions.is_create())
            .collect();
        left.sort_by_key(|(_, request)| request.since);
        for (&irp, request) in left {
            let message = format!("{} was not completed when the cleanup of its file was", request.name(irp));
            findings.add_dispatch("C-160", None, message, request.device, request.routine);
        }
    }

    /// Nothing follows: what is not completed now never will be.
    pub fn end(&self, findings: &mut Findings) {
        let mut all: Vec<_> = self.known.iter().collect();
        all.sort_by_key(|(_, request)| request.since);
        for (&irp, request) in all {
            request.judge_abandoned(irp, None, findings);
            if request.completions == 0 && (request.depth > 0 || request.returned == Some(STATUS_PENDING)) {
                let message = format!("{} was still pending at the end of the run", request.name(irp));
                findings.add_dispatch("K-102", None, message, request.device, request.routine);
            }
        }
    }
}

impl Request {
    fn is_under_way(&self) -> bool {
        self.depth > 0 || (self.completions == 0 && self.returned == Some(STATUS_PENDING))
    }

    /// Whether a driver has it, and its dispatch routines have returned.
    fn is_held(&self) -> bool {
        self.depth == 0 && self.completions == 0
    }

    /// What shows once nothing can follow for this life of the IRP.
    fn judge_abandoned(&self, irp: u64, number: Option<u64>, findings: &mut Findings) {
        if let Some(message) = self.wrong_mark(irp) {
            findings.add_dispatch("K-055", number, message, self.device, self.routine);
        }
        let Some(returned) = self.returned.filter(|&status| status != STATUS_PENDING) else { return };
        if self.completions == 0 {
            let message = format!(
                "the dispatch routine returned {returned:#010x} for {}, which nobody completed",
                self.name(irp)
            );
            return findings.add_dispatch("K-047", number, message, self.device, self.routine);
        }
        match self.completed_with {
            // A completion routine above may change the status of a request that was passed on.
            Some(status) if status != returned && !self.forwarded && self.completions == 1 => {
                let name = self.name(irp);
                let message = format!(
                    "the dispatch routine returned {returned:#010x} for {name}, which it completed with {status:#010x}"
                );
                findings.add_dispatch("K-047", number, message, self.device, self.routine);
            }
            _ => {}
        }
    }

    /// What is wrong about the pending mark, as far as the one driver that had the packet is to blame for it.
    fn wrong_mark(&self, irp: u64) -> Option<String> {
        let returned = self.returned?;
        if self.forwarded || self.total.forwarded || self.completions != 1 {
            return None;
        }
        let name = self.name(irp);
        if returned != STATUS_PENDING {
            return self
                .marked
                .then(|| format!("the dispatch routine marked {name} pending, but returned {returned:#010x}"));
        }
        // What a handler of an event gave to the transport looks as if it had been sent, and needs no mark. And who
        // completes on another thread without a mark may have meant another life of the packet.
        let is_sent = !self.functions.is_internal_device_control();
        let is_certain = self.completed_with.is_some() || self.total.dispatches == 1;
        (!self.marked && is_sent && is_certain)
            .then(|| format!("the dispatch routine returned STATUS_PENDING for {name} without IoMarkIrpPending"))
    }

    fn name(&self, irp: u64) -> String {
        format!("the request {irp:#x} ({})", (self.function)(self.functions.0))
    }
}
