//! Kernel queues (`KQUEUE`): entries that threads wait for.
//!
//! The signal state is the number of entries that no thread was granted. A queue is made for so many threads at once: one that
//! took an entry is busy with it until it comes back for the next, takes from another queue or ends, but not while it waits for
//! something else. While as many are busy, entries stay and threads wait. Who is busy is kept here, not in the driver's memory, which
//! may be anything by the time that a thread leaves a queue (K-148).
//!
//! Lists are the driver's memory; only this module touches them. One lock is around all of it; it is taken under the
//! locks of waits, and nothing is locked under it.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use host_lock::{Mutex, MutexGuard};
use nt_abi::dispatcher::DispatcherType;
use nt_abi::{DispatcherHeader, ListEntry, NtStatus};

use crate::event::{self, signal_state};
use crate::thread::PROCESSORS;
use crate::{clock, thread, wait};

/// `KQUEUE`.
#[doc(alias = "KQUEUE")]
#[derive(Debug)]
#[repr(C)]
pub struct Queue {
    header: DispatcherHeader,
    entries: ListEntry,
    current_count: u32,
    maximum_count: u32,
    threads: ListEntry,
}

const _: () = assert!(size_of::<Queue>() == 0x40);

/// Most entries that are looked through for one that is inserted twice.
const LOOKED_THROUGH: usize = 1 << 16;

/// How a queue is doing.
#[derive(Clone, Copy, Debug)]
struct Use {
    /// Another one each time that it is initialised or run down: threads belong to it no more then.
    generation: u64,
    /// Threads that are busy with its entries, those that were granted one and do not run yet included.
    busy: u32,
    /// How many are to be at once.
    most: u32,
}

/// By address. Of queues that are gone a few words stay.
static USES: Mutex<BTreeMap<u64, Use>> = Mutex::new(BTreeMap::new());

fn uses() -> MutexGuard<'static, BTreeMap<u64, Use>> {
    USES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The queue that a thread belongs to: the one that it took from last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Membership {
    queue: u64,
    generation: u64,
    /// Whether it counts as busy there.
    is_busy: bool,
}

/// Makes the memory at `queue` an empty queue; `count` is how many threads are to be busy at once, 0 as many as there
/// are processors.
///
/// # Safety
/// `queue` is a driver's KQUEUE that no thread waits on.
pub unsafe fn initialize(queue: *mut Queue, count: u32) {
    let most = if count == 0 { PROCESSORS } else { count };
    // SAFETY: the caller's promise; a queue begins like an event.
    unsafe {
        event::initialize(queue.cast(), DispatcherType::QUEUE, false);
        (*queue).header.size = (size_of::<Queue>() / 4) as u8;
        for list in [&raw mut (*queue).entries, &raw mut (*queue).threads] {
            *list = ListEntry { flink: list, blink: list };
        }
        (*queue).current_count = 0;
        (*queue).maximum_count = most;
    }
    let mut uses = uses();
    let generation = uses.get(&(queue as u64)).map_or(0, |before| before.generation + 1);
    uses.insert(queue as u64, Use { generation, busy: 0, most });
}

/// Takes a signal of the queue for a thread that is busy from then on. For [`wait`].
///
/// # Safety
/// `queue` is an initialised queue.
pub(crate) unsafe fn take_signal(queue: u64) -> bool {
    let mut uses = uses();
    let one = uses.get_mut(&queue).filter(|one| one.busy < one.most);
    // SAFETY: the caller's promise.
    let state = unsafe { signal_state(queue) };
    let Some(one) = one.filter(|_| state.load(Ordering::SeqCst) > 0) else { return false };
    state.fetch_sub(1, Ordering::SeqCst);
    one.busy += 1;
    true
}

/// Whether [`take_signal`] would succeed now.
///
/// # Safety
/// As [`take_signal`].
pub(crate) unsafe fn has_signal(queue: u64) -> bool {
    let is_open = uses().get(&queue).is_some_and(|one| one.busy < one.most);
    // SAFETY: the caller's promise.
    is_open && unsafe { signal_state(queue) }.load(Ordering::SeqCst) > 0
}

/// Undoes [`take_signal`].
///
/// # Safety
/// As [`take_signal`], which succeeded.
pub(crate) unsafe fn return_signal(queue: u64) {
    let mut uses = uses();
    // SAFETY: the caller's promise.
    unsafe { signal_state(queue) }.fetch_add(1, Ordering::SeqCst);
    if let Some(one) = uses.get_mut(&queue) {
        one.busy = one.busy.saturating_sub(1);
    }
}

/// Counts a thread in (1) or out (-1) of those that are busy with the queue it belongs to. Gives whether the queue is still that one.
fn count(member: Membership, by: i32) -> bool {
    let mut uses = uses();
    let Some(one) = uses.get_mut(&member.queue).filter(|one| one.generation == member.generation) else { return false };
    one.busy = one.busy.saturating_add_signed(by);
    true
}

/// The calling thread is about to wait for something: another may take its place at its queue. Gives whether it is to come
/// [`back`] afterwards.
pub(crate) fn step_aside() -> bool {
    step_aside_for(0)
}

/// [`step_aside`] for a thread that comes back to `queue` at once: there it is the first to look.
fn step_aside_for(queue: u64) -> bool {
    let member = thread::queue_membership();
    if !member.is_busy {
        return false;
    }
    thread::set_queue_membership(Membership { is_busy: false, ..member });
    // A queue that was initialised again may be no memory any more by now; then nobody belongs to it.
    if count(member, -1) && member.queue != queue {
        wait::wake(member.queue);
    }
    true
}

/// The calling thread goes on after [`step_aside`], whether or not there is room for it.
pub(crate) fn back() {
    let member = thread::queue_membership();
    count(member, 1);
    thread::set_queue_membership(Membership { is_busy: true, ..member });
}

/// The calling thread ends, and belongs to no queue any more.
pub(crate) fn leave() {
    step_aside();
    thread::set_queue_membership(Membership::default());
}

/// The calling thread belongs to this queue from now on, and is busy; `is_counted` says that a grant has counted it already.
fn join(queue: *mut Queue, is_counted: bool) {
    let address = queue as u64;
    let generation = uses().get(&address).map_or(0, |one| one.generation);
    let member = Membership { queue: address, generation, is_busy: true };
    if !is_counted {
        count(member, 1);
    }
    thread::set_queue_membership(member);
}

/// Whether an entry is in the list of a queue already.
///
/// # Safety
/// `queue` is an initialised queue whose lock is held, `entry` a driver's LIST_ENTRY.
unsafe fn is_listed(queue: *mut Queue, entry: *mut ListEntry) -> bool {
    // SAFETY: the caller's promise; the entries in the list are the driver's, and lists are walked with a bound.
    unsafe {
        let head = &raw mut (*queue).entries;
        let before = entry.read_unaligned().blink as u64;
        // Who is in the list has a neighbour that points to it. What lies in a new entry may be anything.
        if before == 0 || gate::memory::read_value::<u64>(before) != Ok(entry as u64) {
            return false;
        }
        let mut one = (*head).flink;
        for _ in 0..LOOKED_THROUGH {
            if one == head || one == entry {
                break;
            }
            one = (*one).flink;
        }
        one == entry
    }
}

/// Puts an entry in, at the end or in front, and gives how many there were. One that is in already stays where it is, which is a
/// finding.
///
/// # Safety
/// `queue` is an initialised queue, `entry` a driver's LIST_ENTRY.
///
/// IRQL: up to DISPATCH_LEVEL.
pub unsafe fn insert(queue: *mut Queue, entry: *mut ListEntry, in_front: bool) -> i32 {
    let guard = uses();
    // SAFETY: the caller's promise; the list is changed under the lock only.
    let old = unsafe {
        let state = signal_state(queue as u64);
        if is_listed(queue, entry) {
            drop(guard);
            gate::finding(
                "K-124",
                format_args!("The entry {entry:p} was inserted into a queue that it is in."),
                gate::caller(),
            );
            return state.load(Ordering::SeqCst);
        }
        let head = &raw mut (*queue).entries;
        let before = if in_front { head } else { (*head).blink };
        let behind = (*before).flink;
        *entry = ListEntry { flink: behind, blink: before };
        (*before).flink = entry;
        (*behind).blink = entry;
        state.fetch_add(1, Ordering::SeqCst)
    };
    drop(guard);
    wait::wake(queue as u64);
    old
}

/// Takes the first entry out; null if there is none.
///
/// # Safety
/// `queue` is an initialised queue.
unsafe fn pop(queue: *mut Queue) -> *mut ListEntry {
    let _guard = uses();
    // SAFETY: the caller's promise; the list is changed under the lock only.
    unsafe {
        let head = &raw mut (*queue).entries;
        let first = (*head).flink;
        if first == head {
            return std::ptr::null_mut();
        }
        let behind = (*first).flink;
        (*head).flink = behind;
        (*behind).blink = head;
        first
    }
}

/// Waits for an entry and takes it out. The thread is busy with the queue afterwards, whatever came of it, as on NT.
///
/// # Errors
/// STATUS_TIMEOUT, or STATUS_ALERTED if `alertable`.
///
/// # Safety
/// As [`insert`].
///
/// IRQL: up to APC_LEVEL, with a timeout of 0 up to DISPATCH_LEVEL.
pub unsafe fn remove(queue: *mut Queue, timeout: Option<i64>, alertable: bool) -> Result<*mut ListEntry, NtStatus> {
    // However often it has to wait, its time is over at one moment.
    let deadline = timeout.filter(|&timeout| timeout != 0).map(clock::deadline);
    let mut timeout = timeout;
    loop {
        step_aside_for(queue as u64);
        // SAFETY: the caller's promise.
        match unsafe { wait::wait_single_alertable(queue as u64, timeout, alertable) } {
            NtStatus::SUCCESS => join(queue, true),
            status => {
                join(queue, false);
                return Err(status);
            }
        }
        // SAFETY: the caller's promise.
        let entry = unsafe { pop(queue) };
        // Whoever runs a queue down takes what others were granted a moment ago.
        if !entry.is_null() {
            return Ok(entry);
        }
        let left = |deadline: u64| deadline.saturating_sub(clock::now_100ns()).try_into().unwrap_or(i64::MAX);
        timeout = deadline.map_or(timeout, |deadline| Some(-left(deadline)));
    }
}

/// Takes all entries out: gives the first of a circle of them, null if there are none. No thread belongs to the queue any more.
///
/// # Safety
/// As [`insert`].
pub unsafe fn run_down(queue: *mut Queue) -> *mut ListEntry {
    let mut uses = uses();
    if let Some(one) = uses.get_mut(&(queue as u64)) {
        (one.generation, one.busy) = (one.generation + 1, 0);
    }
    // SAFETY: the caller's promise; the list is changed under the lock only.
    unsafe {
        let head = &raw mut (*queue).entries;
        signal_state(queue as u64).store(0, Ordering::SeqCst);
        let (first, last) = ((*head).flink, (*head).blink);
        *head = ListEntry { flink: head, blink: head };
        if first == head {
            return std::ptr::null_mut();
        }
        (*first).blink = last;
        (*last).flink = first;
        first
    }
}
