//! Deferred procedure calls (K-129 to K-133).
//!
//! A DPC queued below DISPATCH_LEVEL runs in its queuer's call, as if the processor took the interrupt at once. One
//! queued at DISPATCH_LEVEL waits until that thread's level drops: exports that lower it run it then, and so does what
//! stands for a driver's write to CR8 ([`gate::lowering`]). For a thread that came down in another way, because a
//! routine returned at a wrong level that was put right, the clock's thread runs it instead, on a processor number of
//! its own.
//!
//! What a DPC is lies in the driver's memory; whether it is queued is known here alone (K-148).

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use gate::memory::{read_value, write_value};
use gate::thread::HostThread;
use host_lock::{Mutex, MutexGuard};
use nt_abi::Irql;
use nt_abi::dispatcher::Dpc;
use nt_abi::exception::BugCheck;

use crate::bell::Bell;
use crate::{clock_thread, thread, timer};

/// `KDPC.Type`.
pub const KIND: u8 = 0x13;
/// `KDPC.Type` of a threaded DPC. Run like others: a driver must cope with that anyway.
pub const KIND_THREADED: u8 = 0x18;
/// `KDPC_IMPORTANCE`: to the end of the queue.
pub const MEDIUM_IMPORTANCE: u8 = 1;
/// `KDPC_IMPORTANCE`: to the front of the queue.
pub const HIGH_IMPORTANCE: u8 = 2;

struct Entry {
    dpc: u64,
    /// Who queued it, for reports.
    caller: u64,
    /// The thread whose level it waits for.
    owner: *const HostThread,
}

// SAFETY: blocks are never unmapped, and only a level is read through the pointer.
unsafe impl Send for Entry {}

struct Queue {
    entries: VecDeque<Entry>,
    /// DPCs taken off the queue and not finished.
    running: usize,
}

static QUEUE: Mutex<Queue> = Mutex::new(Queue { entries: VecDeque::new(), running: 0 });
/// Length of the queue, for those who only want to know whether there is any.
static QUEUED: AtomicU64 = AtomicU64::new(0);
static IDLE: Bell = Bell::new();

fn queue() -> MutexGuard<'static, Queue> {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    fn position(&self, dpc: u64) -> Option<usize> {
        self.entries.iter().position(|entry| entry.dpc == dpc)
    }

    fn remove(&mut self, position: usize) -> Option<Entry> {
        let entry = self.entries.remove(position)?;
        QUEUED.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: see `Entry`; the counter is changed under this lock only, and atomically because its owner reads it.
        unsafe { owned(entry.owner) }.fetch_sub(1, Ordering::Relaxed);
        Some(entry)
    }
}

unsafe fn owned<'a>(host: *const HostThread) -> &'a AtomicU64 {
    // SAFETY: the caller's promise: a thread's block.
    unsafe { &(*host).deferred }
}

/// Queues the DPC with its two arguments, or runs it. `false` if it is queued already (K-131).
///
/// IRQL: any.
pub fn insert(dpc: u64, argument1: u64, argument2: u64, caller: u64) -> bool {
    insert_and_tell(dpc, [argument1, argument2], caller, || ())
}

/// [`insert`]; calls `counted` when [`flush`] would wait for the DPC, and before it can run.
pub(crate) fn insert_and_tell(dpc: u64, arguments: [u64; 2], caller: u64, counted: impl FnOnce()) -> bool {
    let [argument1, argument2] = arguments;
    let body = read(dpc, caller);
    let mut queue = queue();
    if queue.position(dpc).is_some() {
        drop(queue);
        counted();
        return false;
    }
    let body = Dpc { system_argument1: argument1, system_argument2: argument2, ..body };
    if gate::irql() < Irql::DISPATCH {
        queue.running += 1;
        drop(queue);
        counted();
        run(dpc, body, caller);
        after_lowering(gate::irql());
        return true;
    }
    if write_value(dpc, Dpc { dpc_data: dpc, ..body }).is_err() {
        invalid(dpc, caller);
    }
    let owner = gate::current().cast_const();
    let entry = Entry { dpc, caller, owner };
    if body.importance == HIGH_IMPORTANCE {
        queue.entries.push_front(entry);
    } else {
        queue.entries.push_back(entry);
    }
    QUEUED.fetch_add(1, Ordering::Release);
    // SAFETY: the calling thread's block.
    unsafe { owned(owner) }.fetch_add(1, Ordering::Relaxed);
    drop(queue);
    counted();
    clock_thread::ring();
    true
}

/// Takes the DPC off the queue. `false` if it was not there (K-132).
///
/// IRQL: any.
pub fn remove(dpc: u64) -> bool {
    timer::let_expire();
    let mut queue = queue();
    let Some(position) = queue.position(dpc) else { return false };
    queue.remove(position);
    // Freed memory is no longer the queue's to touch; whether the write succeeds does not matter.
    let _ = write_value(dpc + std::mem::offset_of!(Dpc, dpc_data) as u64, 0u64);
    true
}

/// Waits until every DPC queued so far has run (`KeFlushQueuedDpcs`).
///
/// IRQL: PASSIVE_LEVEL.
pub fn flush() {
    timer::let_expire();
    IDLE.wait(|| {
        let queue = queue();
        queue.entries.is_empty() && queue.running == 0
    });
}

/// Ends the run if a DPC that is queued lies at `dpc` (K-150).
pub fn expect_not_queued(dpc: u64, caller: u64) {
    if is_any_queued() && queue().position(dpc).is_some() {
        gate::bugcheck::with_message(
            BugCheck::TIMER_OR_DPC_INVALID,
            [1, dpc, dpc, dpc + size_of::<Dpc>() as u64],
            caller,
            "A DPC was initialised again while it is queued. Take it off the queue first (KeRemoveQueueDpc).",
        );
    }
}

/// The first queued DPC in a range of addresses, with who queued it.
pub(crate) fn find_in(range: &Range<u64>) -> Option<(u64, u64)> {
    if !is_any_queued() {
        return None;
    }
    queue().entries.iter().find(|entry| range.contains(&entry.dpc)).map(|entry| (entry.dpc, entry.caller))
}

/// Visits all queued DPCs: address and who queued it.
pub(crate) fn for_each(mut visit: impl FnMut(u64, u64)) {
    let entries: Vec<_> = queue().entries.iter().map(|entry| (entry.dpc, entry.caller)).collect();
    entries.into_iter().for_each(|(dpc, caller)| visit(dpc, caller));
}

/// For whoever lowered the level: runs what waited for that.
#[inline]
pub(crate) fn after_lowering(level: Irql) {
    // SAFETY: the calling thread's block.
    if level < Irql::DISPATCH && unsafe { owned(gate::current()) }.load(Ordering::Relaxed) != 0 {
        run_owned();
    }
}

/// Runs the DPCs that wait for the calling thread's level, which is below DISPATCH_LEVEL.
#[cold]
pub(crate) fn run_owned() {
    let me = gate::current().cast_const();
    while run_first(|entry| std::ptr::eq(entry.owner, me)) {}
}

/// Runs the DPCs whose thread lowered its level without a call. For the clock's thread.
pub(crate) fn run_orphans() {
    // SAFETY: see `Entry`.
    while is_any_queued() && run_first(|entry| unsafe { gate::thread::irql_of(entry.owner) } < Irql::DISPATCH) {}
}

/// Whether a DPC waits for a thread's level.
pub(crate) fn is_any_queued() -> bool {
    QUEUED.load(Ordering::Acquire) != 0
}

/// The routine that a DPC names, 0 if its memory cannot be read.
pub(crate) fn routine(dpc: u64) -> u64 {
    read_value::<Dpc>(dpc).map_or(0, |body| body.deferred_routine)
}

fn run_first(fits: impl FnMut(&Entry) -> bool) -> bool {
    let mut queue = queue();
    let Some(position) = queue.entries.iter().position(fits) else { return false };
    let Some(entry) = queue.remove(position) else { return false };
    queue.running += 1;
    drop(queue);
    run(entry.dpc, read(entry.dpc, entry.caller), entry.caller);
    true
}

/// Runs a DPC at DISPATCH_LEVEL. Its memory is the driver's again as soon as its routine is called.
fn run(dpc: u64, body: Dpc, caller: u64) {
    if write_value(dpc, Dpc { dpc_data: 0, ..body }).is_err() {
        invalid(dpc, caller);
    }
    let Dpc { deferred_routine, deferred_context, system_argument1, system_argument2, .. } = body;
    run_counted(caller, || {
        // SAFETY: the driver asked for this routine to be called so.
        unsafe { gate::call::call4(deferred_routine, dpc, deferred_context, system_argument1, system_argument2) };
    });
}

/// Does what the kernel does for a driver in a DPC of its own.
pub(crate) fn at_dispatch_level(caller: u64, work: impl FnOnce()) {
    queue().running += 1;
    run_counted(caller, work);
}

/// At DISPATCH_LEVEL, and counted as running already.
fn run_counted(caller: u64, work: impl FnOnce()) {
    let old = gate::set_irql(Irql::DISPATCH);
    thread::enter_dpc();
    // Not the doing of whoever runs on this thread: an exception of the DPC does not concern its handlers.
    gate::call::on_behalf(caller, work);
    thread::leave_dpc();
    gate::set_irql(old);
    queue().running -= 1;
    IDLE.ring();
}

fn read(dpc: u64, caller: u64) -> Dpc {
    match read_value::<Dpc>(dpc) {
        Ok(body) if matches!(body.kind, KIND | KIND_THREADED) => body,
        _ => invalid(dpc, caller),
    }
}

fn invalid(dpc: u64, caller: u64) -> ! {
    gate::bugcheck::with_message(
        BugCheck::TIMER_OR_DPC_INVALID,
        [1, dpc, dpc, dpc + size_of::<Dpc>() as u64],
        caller,
        "A DPC that was queued here is not one: it was never initialised, or its memory was freed or used for something else while it was queued.",
    )
}
