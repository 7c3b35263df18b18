//! Work at PASSIVE_LEVEL on threads of the host (K-136): deferred deletions and drivers' work items.

use std::collections::{BTreeMap, VecDeque};
use std::sync::PoisonError;

use gate::memory::{read_value, write_value};
use host_lock::{Mutex, MutexGuard};
use nt_abi::Irql;
use nt_abi::dispatcher::WorkQueueItem;
use nt_abi::exception::BugCheck;

use crate::bell::Bell;
use crate::thread::{self, Start};

/// Most worker threads: so many pieces of work may wait for others at a time.
const WORKERS_MAX: usize = 16;

/// One piece of work.
pub type Work = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queue {
    work: VecDeque<Work>,
    /// Pieces taken and not finished.
    running: usize,
    workers: usize,
    /// Drivers' items that are queued, with who queued each.
    items: BTreeMap<u64, u64>,
    /// Drivers' items whose routines are running, in the order they began. An item can be there twice.
    begun: Vec<Item>,
}

/// A driver's item that is off the queue.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Item {
    item: u64,
    /// Who queued it.
    caller: u64,
}

static QUEUE: Mutex<Queue> =
    Mutex::new(Queue { work: VecDeque::new(), running: 0, workers: 0, items: BTreeMap::new(), begun: Vec::new() });
static WORK_CAME: Bell = Bell::new();
static WORK_DONE: Bell = Bell::new();

/// Queues a piece of work; it starts in the order of queueing.
///
/// IRQL: up to DISPATCH_LEVEL. Allocates: work is queued rarely, and never on a transfer's path.
pub fn queue(work: Work) {
    let mut queue = lock();
    queue.work.push_back(work);
    let is_busy = queue.work.len() + queue.running > queue.workers;
    let is_new = is_busy && queue.workers < WORKERS_MAX;
    queue.workers += usize::from(is_new);
    drop(queue);
    if is_new {
        match thread::create(Start::Host(worker), 0, 0) {
            Ok(thread) => {
                nt_object::dereference(thread);
            }
            // The workers there are get to it.
            Err(_) => lock().workers -= 1,
        }
    }
    WORK_CAME.ring();
}

/// Queues a driver's `WORK_QUEUE_ITEM` (`ExQueueWorkItem`). It is off the queue when its routine is called, which may
/// free it or queue it again (K-136). One that is queued already ends the run (K-137), and so does a routine that
/// returns above PASSIVE_LEVEL (K-152).
///
/// # Safety
/// `item` is an initialised item that stays mapped until its routine is called.
///
/// IRQL: up to DISPATCH_LEVEL.
pub unsafe fn queue_item(item: *mut WorkQueueItem, caller: u64) {
    let address = item as u64;
    // Before the item is anywhere: it may be a bad pointer.
    // SAFETY: the caller's promise. Not null while queued, as on Windows, where it is linked.
    unsafe { (*item).list.flink = &raw mut (*item).list };
    if lock().items.insert(address, caller).is_some() {
        gate::bugcheck::with_message(
            BugCheck::WORKER_INVALID,
            [2, address, 0, 0],
            caller,
            "A work item was queued that is queued already.",
        );
    }
    queue(Box::new(move || {
        let begun = Item { item: address, caller };
        let mut queue = lock();
        queue.items.remove(&address);
        queue.begun.push(begun);
        drop(queue);
        let Ok(body) = read_value::<WorkQueueItem>(address) else { item_is_gone(address, caller) };
        if write_value(address, 0u64).is_err() || body.list.flink as u64 != address {
            item_is_gone(address, caller);
        }
        // SAFETY: the driver asked for this routine to be called so.
        let call = || unsafe { gate::call::call1_telling_level(body.worker_routine, body.parameter) };
        let keeping = || thread::keeping_regions(body.worker_routine, call);
        let (_, level) = gate::call::on_behalf(caller, keeping);
        if level != Irql::PASSIVE {
            gate::bugcheck::with_message(
                BugCheck::WORKER_THREAD_RETURNED_AT_BAD_IRQL,
                [body.worker_routine, level.0.into(), body.parameter, address],
                body.worker_routine,
                "A work item's routine returned above PASSIVE_LEVEL.",
            );
        }
        let begun_items = &mut lock().begun;
        if let Some(index) = begun_items.iter().position(|item| *item == begun) {
            begun_items.remove(index);
        }
    }));
}

fn item_is_gone(item: u64, caller: u64) -> ! {
    gate::bugcheck::with_message(
        BugCheck::WORKER_INVALID,
        [1, item, 0, 0],
        caller,
        "A work item that was queued here was freed, initialised again or overwritten while it was queued.",
    )
}

/// Visits drivers' items that are queued, with who queued each: for the report when a driver is unloaded (K-102).
pub fn for_each_item(mut visit: impl FnMut(u64, u64)) {
    let items = lock().items.clone();
    items.into_iter().for_each(|(item, caller)| visit(item, caller));
}

/// Visits drivers' items whose routines are running, with who queued each: for the same report.
pub fn for_each_running_item(mut visit: impl FnMut(u64, u64)) {
    let begun = lock().begun.clone();
    begun.into_iter().for_each(|Item { item, caller }| visit(item, caller));
}

/// Waits until nothing is queued or running. For the end of a run; not from a worker.
pub fn drain() {
    WORK_DONE.wait(|| {
        let queue = lock();
        queue.work.is_empty() && queue.running == 0
    });
}

fn lock() -> MutexGuard<'static, Queue> {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn worker(_context: u64) {
    loop {
        let mut taken = None;
        WORK_CAME.wait(|| {
            let mut queue = lock();
            taken = queue.work.pop_front();
            queue.running += usize::from(taken.is_some());
            taken.is_some()
        });
        if let Some(work) = taken {
            work();
            lock().running -= 1;
            WORK_DONE.ring();
        }
    }
}
