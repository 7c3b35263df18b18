//! Rules about requests (IRPs).
//!
//! A driver that holds an IRP completes it once. That it completes it twice is nothing that events could prove: one
//! completion may end the request for all, or for the lowest only (STATUS_MORE_PROCESSING_REQUIRED), and what is
//! completed next under that address may be another IRP, which its driver has never sent. The child knows, and ends
//! the run with bugcheck 0x44 (K-049).

use std::collections::{BTreeSet, HashMap, HashSet};

use trace::{Functions, STATUS_PENDING, STATUS_UNHANDLED_EXCEPTION};

use crate::{Findings, Sent, is_error};

/// Deepest nesting of dispatch routines on a thread that is followed, as in [`crate::drivers`].
const DEPTH_MAX: usize = 256;
/// Most packets that a thread completes between two of its stamped events; a few in any run that is real.
const EARLY_MAX: usize = 1 << 16;

/// Whether a dispatch begins a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dispatch {
    /// Sent by its originator.
    First {
        /// An unstamped completion that was seen before may be its own: nothing is known of what became of it.
        early: bool,
    },
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

/// A request that was completed.
#[derive(Clone, Copy, Debug)]
pub struct Completed {
    pub file: u64,
    pub functions: Functions,
    /// It was this one. An unstamped completion by another thread than the one that sent it may be that of the next request at its
    /// address.
    pub is_certain: bool,
}

/// The requests that are watched, by the IRP's address.
#[derive(Debug)]
pub struct Requests {
    known: HashMap<u64, Request>,
    /// File and IRP of those that nobody has completed: a cleanup asks for its file's, however many there are of others.
    uncompleted: BTreeSet<(u64, u64)>,
    /// Packets with an unstamped completion, which may be that of a dispatch still to come, by the thread that completed.
    early: HashMap<u16, HashSet<u64>>,
    /// Threads of whose completions some may be missing that belong to dispatches still to come.
    unsettled: HashSet<u16>,
    /// Dispatch routines that each thread is in: the packet, and the event number of the request's first dispatch.
    routines: HashMap<u16, Vec<(u64, u64)>>,
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
    /// Of the completions some may be another request's.
    is_uncertain: bool,
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
        Self {
            known: HashMap::new(),
            uncompleted: BTreeSet::new(),
            early: HashMap::new(),
            unsettled: HashSet::new(),
            routines: HashMap::new(),
            function,
        }
    }

    /// Begins anew. What has been completed may belong to dispatches still to come all the same.
    pub fn forget(&mut self) {
        self.known.clear();
        self.uncompleted.clear();
        self.routines.clear();
    }

    /// Events of `thread` are missing from before here.
    pub fn resumed(&mut self, thread: u16) {
        self.unsettled.insert(thread);
    }

    /// `thread` recorded a stamped event: what it completed before is not what is sent from here on.
    pub fn settle(&mut self, thread: u16) {
        self.early.remove(&thread);
        self.unsettled.remove(&thread);
    }

    /// `thread` recorded an unstamped completion of `irp` that may be that of a dispatch still to come.
    pub fn completed_early(&mut self, irp: u64, thread: u16) {
        let packets = self.early.entry(thread).or_default();
        if packets.len() < EARLY_MAX {
            packets.insert(irp);
        } else {
            self.unsettled.insert(thread);
        }
    }

    /// Whether a dispatch of `irp` may have been completed already, as far as the order of events tells.
    fn may_be_completed(&self, irp: u64) -> bool {
        !self.unsettled.is_empty() || self.early.values().any(|packets| packets.contains(&irp))
    }

    /// How many there are.
    pub fn watched(&self) -> usize {
        self.known.len()
    }

    /// A dispatch routine is called.
    pub fn dispatched(&mut self, irp: u64, sent: &Sent, findings: &mut Findings) -> Dispatch {
        let Sent { number, thread, device, file, functions, routine } = *sent;
        let mut total = Total::default();
        let early = self.may_be_completed(irp);
        let routines = self.routines.entry(thread).or_default();
        if let Some(request) = self.known.get_mut(&irp) {
            // Once somebody has completed it, the packet may be another's already, though the dispatch routine has not returned. The
            // same request again may be either, and nothing that is judged hangs on it.
            let is_same = request.completions == 0 || (request.file == file && request.functions == functions);
            if request.is_under_way() && is_same {
                if routines.len() < DEPTH_MAX {
                    routines.push((irp, request.since));
                }
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
        }
        let completions = u32::from(early);
        total.dispatches += 1;
        total.completions += u64::from(early);
        if routines.len() < DEPTH_MAX {
            routines.push((irp, number));
        }
        let request = Request {
            file,
            functions,
            function: self.function,
            device,
            routine,
            since: number,
            depth: 1,
            completions,
            is_uncertain: early,
            completed_with: None,
            marked: false,
            has_succeeded: false,
            returned: None,
            thread,
            forwarded: false,
            total,
        };
        self.known.insert(irp, request);
        if !early {
            self.uncompleted.insert((file, irp));
        }
        Dispatch::First { early }
    }

    /// A dispatch routine returned.
    pub fn returned(&mut self, irp: u64, thread: u16, status: u32) {
        let Some(routines) = self.routines.get_mut(&thread) else { return };
        let Some(innermost) = routines.iter().rposition(|&(packet, _)| packet == irp) else { return };
        let (_, since) = routines[innermost];
        routines.truncate(innermost);
        let Some(request) = self.known.get_mut(&irp).filter(|request| request.since == since) else { return };
        request.depth = request.depth.saturating_sub(1);
        if request.depth == 0 {
            request.returned = (status != STATUS_UNHANDLED_EXCEPTION).then_some(status);
        }
    }

    /// The holder completed it. Returns the request that is over by that.
    pub fn completed(&mut self, irp: u64, completion: Completion, findings: &mut Findings) -> Option<Completed> {
        let Completion { number, thread, status, later } = completion;
        if !later {
            self.completed_early(irp, thread);
        }
        let request = self.known.get_mut(&irp)?;
        let is_certain = later || thread == request.thread;
        let known = Some(Completed { file: request.file, functions: request.functions, is_certain });
        let is_over = match request.total {
            _ if request.completions > 0 && request.has_ended() => true,
            Total { dispatches, completions, forwarded: true } => completions >= dispatches,
            _ => request.completions > 0,
        };
        if is_over {
            request.is_uncertain = true;
            return None;
        }
        if request.completions == 0 {
            self.uncompleted.remove(&(request.file, irp));
        }
        request.completions += 1;
        request.total.completions += 1;
        if is_certain && request.functions.is_create() && request.has_succeeded && is_error(status) {
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
    /// As far as is known: what was completed may have been the request before at this address.
    fn is_under_way(&self) -> bool {
        let may_pend = self.completions == 0 || self.is_uncertain;
        self.depth > 0 || (may_pend && self.returned == Some(STATUS_PENDING))
    }

    /// Whether its dispatch routines have returned that it is over.
    fn has_ended(&self) -> bool {
        self.depth == 0 && self.returned.is_some_and(|status| status != STATUS_PENDING)
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
        if self.forwarded || self.total.forwarded || self.is_uncertain || self.completions != 1 {
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
