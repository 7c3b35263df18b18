//! Waiting for dispatcher objects (K-123 to K-127, K-148 to K-151).
//!
//! Waiters queue in buckets chosen by the object's address, in the order they came. A waker takes the object's
//! signal for the first waiter it can, marks that waiter as granted and wakes its thread; from then on the object
//! and the waiter's stack belong to that thread alone.
//!
//! Why no wake-up is lost: a waiter counts itself in its bucket and then looks at the signal once more; a
//! waker sets the signal and then looks at the count. Both are sequentially consistent, so at least one of
//! them sees the other.

use std::collections::VecDeque;
use std::sync::PoisonError;

use nt_abi::dispatcher::DispatcherType;
use nt_abi::exception::BugCheck;
use nt_abi::{Irql, NtStatus};
use trace::Event;

use crate::event::signal_state;
use crate::park::Parker;
use crate::sync::{AtomicU32, Mutex, MutexGuard, Ordering, yield_now};
use crate::{clock, executor, queue, thread};

/// Most objects of one wait (`MAXIMUM_WAIT_OBJECTS`).
pub const OBJECTS_MAX: usize = 64;
/// Most objects of one wait of a driver that brings no wait blocks (`THREAD_WAIT_OBJECTS`).
pub const THREAD_OBJECTS_MAX: usize = 3;
const BUCKETS: usize = 256;

const WAITING: u32 = u32::MAX;
/// Told to look again: for waits for all objects, which the waiter itself concludes.
const LOOK_AGAIN: u32 = u32::MAX - 1;
/// Somebody is trying to take signals for it.
const BUSY: u32 = u32::MAX - 2;

/// One wait, on the waiting thread's stack.
struct Waiter {
    /// [`WAITING`], [`LOOK_AGAIN`], [`BUSY`], or the wait's status: the index of the object that was granted, 0 for all; and
    /// [`abandonment`].
    granted: AtomicU32,
    /// What it waits for: an array that outlives it.
    objects: *const [u64],
    parker: &'static Parker,
    /// `KTHREAD`, for mutants.
    thread: u64,
    wants_all: bool,
    alertable: bool,
}

impl Waiter {
    /// Ends the waiting with `next`, or by [`BUSY`] for a moment. `Err` with what ended it before.
    ///
    /// A waker that is busy with this waiter is waited for: it decides within a few instructions. So a signal is
    /// never taken for a waiter that does not need it, not even to be given back at once.
    fn leave_waiting(&self, next: u32) -> Result<(), u32> {
        loop {
            match self.granted.compare_exchange(WAITING, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(()),
                Err(BUSY) => yield_now(),
                Err(other) => return Err(other),
            }
        }
    }

    /// Ends the waiting without a signal. `Err` with the status that was granted before.
    fn give_up(&self) -> Result<(), u32> {
        loop {
            match self.leave_waiting(0) {
                // Told to look, and it is too late for that.
                Err(LOOK_AGAIN)
                    if self.granted.compare_exchange(LOOK_AGAIN, 0, Ordering::AcqRel, Ordering::Acquire).is_err() => {}
                Err(LOOK_AGAIN) => return Ok(()),
                outcome => return outcome,
            }
        }
    }

    /// Takes the signals of all its objects on the waiter's behalf, as if `pulsed` were signalled, and grants the wait.
    /// Otherwise the waiter is left as it was; in `returned` then stand objects whose signals were gone for a moment,
    /// for a call of [`wake`] without locks. From a success on, the waiter may be gone.
    ///
    /// # Safety
    /// The objects are alive.
    unsafe fn conclude(&self, pulsed: u64, returned: &mut Vec<u64>) -> bool {
        let before = loop {
            let state = self.granted.load(Ordering::Acquire);
            match state {
                BUSY => yield_now(),
                WAITING | LOOK_AGAIN
                    if self.granted.compare_exchange(state, BUSY, Ordering::AcqRel, Ordering::Acquire).is_ok() =>
                {
                    break state;
                }
                WAITING | LOOK_AGAIN => {}
                // Over already.
                _ => return false,
            }
        };
        // SAFETY: the array outlives the waiter, which stays as long as it is busy; for the objects the caller's promise.
        match unsafe { take_all(&*self.objects, self.thread, Some(pulsed)) } {
            Ok(status) => {
                self.granted.store(status, Ordering::Release);
                true
            }
            Err(taken) => {
                returned.extend_from_slice(taken);
                self.granted.store(before, Ordering::Release);
                false
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Node {
    object: u64,
    waiter: *const Waiter,
    index: u32,
}

// SAFETY: a node is in a queue only while its waiter's thread is inside `wait_queued`, which removes it under the
// bucket's lock before the waiter goes away; or whoever grants the waiter removes it, without looking at the waiter
// again, under the lock that it held when it granted.
unsafe impl Send for Node {}

struct Bucket {
    /// Length of the queue, readable without the lock.
    waiting: AtomicU32,
    queue: Mutex<VecDeque<Node>>,
}

static TABLE: [Bucket; BUCKETS] =
    [const { Bucket { waiting: AtomicU32::new(0), queue: Mutex::new(VecDeque::new()) } }; BUCKETS];

fn bucket_number(object: u64) -> usize {
    // Events lie on stacks and in pool at 8-byte steps; the multiplication spreads both.
    (object >> 3).wrapping_mul(0x9E37_79B9_7F4A_7C15) as usize >> 56
}

impl Bucket {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Node>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the object's signal for `thread`, if there is one.
///
/// # Safety
/// `object` is an initialised dispatcher object.
unsafe fn take_signal(object: u64, thread: u64) -> bool {
    // SAFETY: the caller's promise.
    let (state, kind) = unsafe { (signal_state(object), *(object as *const DispatcherType)) };
    match kind {
        DispatcherType::SYNCHRONIZATION_EVENT | DispatcherType::SYNCHRONIZATION_TIMER => {
            state.compare_exchange(1, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        }
        // SAFETY: the kind says that it is a queue.
        DispatcherType::QUEUE => unsafe { queue::take_signal(object) },
        DispatcherType::SEMAPHORE => {
            let take = |count: i32| (count > 0).then(|| count - 1);
            state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok()
        }
        // SAFETY: the kind says that it is a mutant.
        DispatcherType::MUTANT => unsafe { thread::take_mutant(object, thread) },
        _ => state.load(Ordering::SeqCst) > 0,
    }
}

/// Forgets that the mutant which `thread` just took was abandoned: `STATUS_ABANDONED_WAIT_0` for the wait's status if it
/// was, 0 if not and for other objects.
///
/// # Safety
/// As [`take_signal`], which just succeeded for this thread.
unsafe fn abandonment(object: u64, thread: u64) -> u32 {
    // SAFETY: the caller's promise.
    let is_abandoned = unsafe {
        *(object as *const DispatcherType) == DispatcherType::MUTANT && thread::forget_abandonment(object, thread)
    };
    if is_abandoned { NtStatus::ABANDONED_WAIT_0.0 } else { 0 }
}

/// Whether [`take_signal`] would succeed now.
///
/// # Safety
/// As [`take_signal`].
unsafe fn could_take(object: u64, thread: u64) -> bool {
    // SAFETY: the caller's promise; only a mutant's owner is looked at, and how busy a queue is.
    unsafe {
        if *(object as *const DispatcherType) == DispatcherType::QUEUE {
            return queue::has_signal(object);
        }
        signal_state(object).load(Ordering::SeqCst) > 0
            || (*(object as *const DispatcherType) == DispatcherType::MUTANT && thread::owns_mutant(object, thread))
    }
}

/// Undoes [`take_signal`] for a wait for all that did not get all.
///
/// # Safety
/// As [`take_signal`], which just succeeded for this thread.
unsafe fn return_signal(object: u64, thread: u64) {
    // SAFETY: the caller's promise.
    let (state, kind) = unsafe { (signal_state(object), *(object as *const DispatcherType)) };
    match kind {
        DispatcherType::SYNCHRONIZATION_EVENT | DispatcherType::SYNCHRONIZATION_TIMER => {
            state.store(1, Ordering::SeqCst)
        }
        // SAFETY: the kind says that it is a queue.
        DispatcherType::QUEUE => unsafe { queue::return_signal(object) },
        DispatcherType::SEMAPHORE => {
            state.fetch_add(1, Ordering::SeqCst);
        }
        // SAFETY: the kind says that it is a mutant.
        DispatcherType::MUTANT => unsafe { thread::return_mutant(object, thread) },
        _ => {}
    }
}

/// Releases waiters of an object that was just signalled. Touches the object only while a thread waits on it.
pub fn wake(object: u64) {
    let bucket = &TABLE[bucket_number(object)];
    if bucket.waiting.load(Ordering::SeqCst) != 0 {
        wake_queued(object, bucket);
    }
}

/// Most threads that one pass over a queue releases.
const BATCH: usize = 16;

#[cold]
fn wake_queued(object: u64, bucket: &Bucket) {
    release(object, bucket, &mut Grant::Signal);
}

/// For what waiters are released.
enum Grant {
    /// For the object's signals, as long as there are some. Waits for all of several objects look for themselves.
    Signal,
    /// Without a signal (`KePulseEvent`), as many as this. A wait for all of several objects is over if the others are
    /// signalled, and goes on if not.
    Pulse(usize),
}

/// Releases the threads that wait on the object, at most `count` of them, without a signal. Who begins to wait meanwhile
/// can be among them, but never more than waited when it began.
pub(crate) fn release_waiters(object: u64, count: usize) {
    let bucket = &TABLE[bucket_number(object)];
    let waiting = bucket.lock().iter().filter(|node| node.object == object).count();
    release(object, bucket, &mut Grant::Pulse(waiting.min(count)));
}

/// Releases waiters of the object.
fn release(object: u64, bucket: &Bucket, grant: &mut Grant) {
    loop {
        let mut released = [None; BATCH];
        // Empty but after a pulse, and then seldom: nothing is allocated to wake a thread.
        let mut returned = Vec::new();
        let count = release_some(object, bucket, &mut released, grant, &mut returned);
        // Not under the lock: a thread that wakes on this processor would run into it at once.
        released.into_iter().flatten().for_each(Parker::unpark);
        returned.into_iter().for_each(wake);
        if count < BATCH {
            return;
        }
    }
}

/// Grants the object's signals to the first waiters it has them for. Fills `released` with whom to wake and gives how
/// many; if it is full there may be more. For `returned` see [`Waiter::conclude`].
fn release_some(
    object: u64,
    bucket: &Bucket,
    released: &mut [Option<&'static Parker>; BATCH],
    grant: &mut Grant,
    returned: &mut Vec<u64>,
) -> usize {
    let mut count = 0;
    let mut position = 0;
    let mut queue = bucket.lock();
    while let Some(&node) = queue.get(position).filter(|_| count < BATCH) {
        position += 1;
        if node.object != object {
            continue;
        }
        // SAFETY: queued nodes' waiters are alive (see `Node`), and while one is queued its object is too.
        let (waiter, parker) = unsafe { (&*node.waiter, (*node.waiter).parker) };
        if waiter.wants_all {
            let is_to_wake = match grant {
                // One that was told already will look.
                Grant::Signal => waiter.leave_waiting(LOOK_AGAIN).is_ok(),
                Grant::Pulse(0) => break,
                Grant::Pulse(left) => {
                    // SAFETY: its thread is in the wait, for whose time it has promised that the objects stay.
                    let is_over = unsafe { waiter.conclude(object, returned) };
                    *left -= usize::from(is_over);
                    is_over
                }
            };
            if is_to_wake {
                released[count] = Some(parker);
                count += 1;
            }
            continue;
        }
        if waiter.leave_waiting(BUSY).is_err() {
            // Another object of the same wait was quicker, or its time is over.
            continue;
        }
        let is_granted = match grant {
            // SAFETY: while a waiter is queued its object is alive.
            Grant::Signal => unsafe { take_signal(object, waiter.thread) },
            Grant::Pulse(left) => {
                let is_one_more = *left > 0;
                *left = left.saturating_sub(1);
                is_one_more
            }
        };
        if !is_granted {
            waiter.granted.store(WAITING, Ordering::Release);
            break;
        }
        let abandoned = match grant {
            // SAFETY: as above; the signal was just taken.
            Grant::Signal => unsafe { abandonment(object, waiter.thread) },
            Grant::Pulse(_) => 0,
        };
        // From here on the waiter may be gone.
        waiter.granted.store(node.index + abandoned, Ordering::Release);
        position -= 1;
        queue.remove(position);
        bucket.waiting.fetch_sub(1, Ordering::SeqCst);
        released[count] = Some(parker);
        count += 1;
    }
    count
}

/// What ends a wait for several objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitType {
    /// All of them signalled at once.
    All,
    /// The first that is.
    Any,
}

/// Waits for one object; `timeout` as drivers give it (K-125), `None` for ever.
///
/// SUCCESS, ABANDONED_WAIT_0 for a mutant that its owner abandoned, or TIMEOUT. A wait that would block at DISPATCH_LEVEL ends the run (K-151).
///
/// # Safety
/// `object` is an initialised dispatcher object that stays mapped until the wait is over.
///
/// IRQL: up to DISPATCH_LEVEL with a timeout of 0, else up to APC_LEVEL.
#[inline]
pub unsafe fn wait_single(object: u64, timeout: Option<i64>) -> NtStatus {
    // SAFETY: the caller's promise.
    unsafe { wait_single_alertable(object, timeout, false) }
}

/// As [`wait_single`]; also ALERTED if `alertable` and the thread is alerted before the object is signalled.
///
/// # Safety
/// As [`wait_single`].
#[inline]
pub unsafe fn wait_single_alertable(object: u64, timeout: Option<i64>, alertable: bool) -> NtStatus {
    let thread = gate::thread::current_thread_object();
    // SAFETY: the caller's promise.
    if unsafe { take_signal(object, thread) } {
        // SAFETY: as above.
        return NtStatus(unsafe { abandonment(object, thread) });
    }
    // SAFETY: the caller's promise.
    unsafe { wait_blocking(&[object], WaitType::Any, timeout, alertable) }
}

/// Waits for several objects. SUCCESS plus the index of the object that ended a wait for any, SUCCESS for
/// all, either plus ABANDONED_WAIT_0 if it took an abandoned mutant, TIMEOUT; INVALID_PARAMETER for none or more than [`OBJECTS_MAX`].
///
/// # Safety
/// As [`wait_single`], for each object.
///
/// IRQL: as [`wait_single`].
pub unsafe fn wait_multiple(objects: &[u64], wait_type: WaitType, timeout: Option<i64>) -> NtStatus {
    // SAFETY: the caller's promise.
    unsafe { wait_multiple_alertable(objects, wait_type, timeout, false) }
}

/// As [`wait_multiple`]; also ALERTED, as [`wait_single_alertable`].
///
/// # Safety
/// As [`wait_multiple`].
pub unsafe fn wait_multiple_alertable(
    objects: &[u64],
    wait_type: WaitType,
    timeout: Option<i64>,
    alertable: bool,
) -> NtStatus {
    if objects.is_empty() || objects.len() > OBJECTS_MAX {
        return NtStatus::INVALID_PARAMETER;
    }
    // One object is all of them.
    let wait_type = if objects.len() == 1 { WaitType::Any } else { wait_type };
    if wait_type == WaitType::Any {
        let thread = gate::thread::current_thread_object();
        // SAFETY: the caller's promise.
        if let Some(index) = objects.iter().position(|&object| unsafe { take_signal(object, thread) }) {
            // SAFETY: as above.
            return NtStatus(index as u32 + unsafe { abandonment(objects[index], thread) });
        }
    }
    // SAFETY: the caller's promise.
    unsafe { wait_blocking(objects, wait_type, timeout, alertable) }
}

unsafe fn wait_blocking(objects: &[u64], wait_type: WaitType, timeout: Option<i64>, alertable: bool) -> NtStatus {
    let all = wait_type == WaitType::All;
    if timeout == Some(0) {
        // SAFETY: the caller's promise.
        if let Some(status) = all.then(|| unsafe { take_all_or_wake(objects) }).flatten() {
            return status;
        }
        executor::looked_in_vain();
        return NtStatus::TIMEOUT;
    }
    let level = gate::irql();
    if level >= Irql::DISPATCH {
        gate::bugcheck(BugCheck::ATTEMPTED_SWITCH_FROM_DPC, [objects[0], level.0.into(), gate::caller(), 0]);
    }
    let waiter = Waiter {
        granted: AtomicU32::new(WAITING),
        objects,
        parker: thread::current_parker(),
        thread: gate::thread::current_thread_object(),
        wants_all: all,
        alertable,
    };
    // SAFETY: the caller's promise; `waiter` outlives the call.
    unsafe { wait_queued(objects, &waiter, timeout.map(clock::deadline)) }
}

unsafe fn wait_queued(objects: &[u64], waiter: &Waiter, deadline: Option<u64>) -> NtStatus {
    // A look at each first: an object that is none faults before wakers know of this wait.
    for &object in objects {
        // SAFETY: the caller's promise.
        std::hint::black_box(unsafe { could_take(object, waiter.thread) });
    }
    let _known_to_wakers = gate::stay();
    for (index, &object) in objects.iter().enumerate() {
        let bucket = &TABLE[bucket_number(object)];
        let mut queue = bucket.lock();
        queue.push_back(Node { object, waiter, index: index as u32 });
        bucket.waiting.fetch_add(1, Ordering::SeqCst);
    }
    let thread = waiter.thread;
    // A signal that came before we were counted was not offered to us: look again, as a waker would.
    for &object in objects {
        // SAFETY: the caller's promise.
        if unsafe { could_take(object, thread) } {
            wake(object);
        }
    }
    let is_to_come_back = queue::step_aside();
    let mut told = false;
    let status = loop {
        let granted = waiter.granted.load(Ordering::Acquire);
        match granted {
            WAITING | LOOK_AGAIN if waiter.wants_all => {
                // Busy meanwhile: whoever pulses takes signals for this thread, too.
                if waiter.granted.compare_exchange(granted, BUSY, Ordering::AcqRel, Ordering::Acquire).is_err() {
                    continue;
                }
                // SAFETY: the caller's promise.
                match unsafe { take_all(objects, thread, None) } {
                    Ok(status) => {
                        waiter.granted.store(status, Ordering::Release);
                        break NtStatus(status);
                    }
                    Err(taken) => {
                        waiter.granted.store(WAITING, Ordering::Release);
                        taken.iter().copied().for_each(wake);
                    }
                }
            }
            WAITING | LOOK_AGAIN | BUSY => {}
            status => break NtStatus(status),
        }
        let over = if waiter.alertable && thread::take_alert() {
            Some(NtStatus::ALERTED)
        } else {
            deadline.filter(|&deadline| clock::now_100ns() >= deadline).map(|_| NtStatus::TIMEOUT)
        };
        if let Some(status) = over {
            match waiter.give_up() {
                Err(status) => break NtStatus(status),
                Ok(()) => break status,
            }
        }
        if !told {
            told = true;
            gate::record(Event::WaitBegun { thread, object: objects[0] });
            waiter.parker.note_object(objects[0]);
        }
        waiter.parker.park(deadline);
    };
    // Whoever granted the only object took the node off the queue. Until then it holds the queue's lock.
    let is_queued = objects.len() > 1 || waiter.granted.load(Ordering::Relaxed) != status.0;
    for &object in objects.iter().filter(|_| is_queued) {
        let bucket = &TABLE[bucket_number(object)];
        let mut queue = bucket.lock();
        let before = queue.len();
        queue.retain(|node| !std::ptr::eq(node.waiter, waiter));
        bucket.waiting.fetch_sub((before - queue.len()) as u32, Ordering::SeqCst);
    }
    if is_to_come_back {
        queue::back();
    }
    if told {
        waiter.parker.note_object(0);
        gate::record(Event::WaitEnded { thread, object: objects[0], status: status.0 });
    }
    status
}

/// Takes the signals of all objects for `thread`, or of none; `pulsed` counts as signalled. Not at one moment, as NT does:
/// a thread that only looks can see a signal gone that comes back. Gives the wait's status, `Err` with the objects whose signals did: their waiters
/// are to be woken, without locks.
///
/// # Safety
/// As [`take_signal`], for each object.
unsafe fn take_all(objects: &[u64], thread: u64, pulsed: Option<u64>) -> Result<u32, &[u64]> {
    let is_signal = |object: u64| pulsed != Some(object);
    // A look first: taking and returning wakes waiters, this one too, and would keep it from sleeping.
    // SAFETY: the caller's promise.
    if !objects.iter().all(|&object| !is_signal(object) || unsafe { could_take(object, thread) }) {
        return Err(&[]);
    }
    for (taken, &object) in objects.iter().enumerate() {
        // SAFETY: the caller's promise.
        if is_signal(object) && !unsafe { take_signal(object, thread) } {
            let taken = &objects[..taken];
            for &object in taken.iter().filter(|&&object| is_signal(object)) {
                // SAFETY: as above; its signal was just taken.
                unsafe { return_signal(object, thread) };
            }
            return Err(taken);
        }
    }
    // SAFETY: as above; the signals were just taken. Of a pulsed object none was, but no mutant is pulsed.
    Ok(objects.iter().fold(0, |status, &object| status | unsafe { abandonment(object, thread) }))
}

/// [`take_all`] for the calling thread when it does not wait.
///
/// # Safety
/// As [`take_all`].
unsafe fn take_all_or_wake(objects: &[u64]) -> Option<NtStatus> {
    // SAFETY: the caller's promise.
    let taken = unsafe { take_all(objects, gate::thread::current_thread_object(), None) };
    taken.map(NtStatus).map_err(|taken| taken.iter().copied().for_each(wake)).ok()
}

/// Whether threads wait on the object, or on one with the same bucket.
pub(crate) fn might_have_waiters(object: u64) -> bool {
    TABLE[bucket_number(object)].waiting.load(Ordering::Relaxed) != 0
}

/// Reports an object that is initialised while threads wait on it (K-150). They keep waiting.
#[cold]
pub(crate) fn report_waiters(object: u64) {
    if has_waiters(object, 1) {
        gate::finding(
            "K-150",
            "An object was initialised again while a thread waits on it; that thread may never wake.",
            gate::caller(),
        );
    }
}

/// Whether at least `count` threads wait on the object, for reports and tests.
pub fn has_waiters(object: u64, count: usize) -> bool {
    TABLE[bucket_number(object)].lock().iter().filter(|node| node.object == object).count() >= count
}

/// Lets the thread rest (`KeDelayExecutionThread`). At DISPATCH_LEVEL that ends the run (K-151).
///
/// IRQL: up to APC_LEVEL.
pub fn delay(timeout: i64) {
    delay_alertable(timeout, false);
}

/// As [`delay`]: SUCCESS, or ALERTED if `alertable` and the thread is alerted meanwhile.
pub fn delay_alertable(timeout: i64, alertable: bool) -> NtStatus {
    let level = gate::irql();
    if level >= Irql::DISPATCH {
        gate::bugcheck(BugCheck::ATTEMPTED_SWITCH_FROM_DPC, [0, level.0.into(), gate::caller(), 0]);
    }
    let deadline = clock::deadline(timeout);
    let parker = thread::current_parker();
    let is_to_come_back = queue::step_aside();
    let status = rest_until(deadline, parker, alertable);
    if is_to_come_back {
        queue::back();
    }
    status
}

fn rest_until(deadline: u64, parker: &'static Parker, alertable: bool) -> NtStatus {
    if clock::now_100ns() >= deadline {
        executor::give_way();
    } else {
        executor::point();
    }
    loop {
        if alertable && thread::take_alert() {
            return NtStatus::ALERTED;
        }
        if clock::now_100ns() >= deadline {
            return NtStatus::SUCCESS;
        }
        parker.park(Some(deadline));
    }
}
