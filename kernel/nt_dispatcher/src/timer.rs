//! Timers (K-128 to K-130): drivers' and the host's, in one queue ordered by when they are due.
//!
//! Whether a driver's timer is queued is known here, by its address, and nowhere else (K-148). Expiry looks at the
//! memory before it trusts it: a timer whose memory was freed or used for something else ends the run, blamed on
//! whoever set it (K-150).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

use gate::memory::{read_value, write_value};
use host_lock::{Mutex, MutexGuard};
use nt_abi::dispatcher::{DispatcherType, Dpc, Timer};
use nt_abi::exception::BugCheck;

use crate::{clock, clock_thread, dpc, wait};

mod pages;

/// Where a timer stands in the queue: when it is due, and a number that keeps the order of setting.
type Place = (u64, u64);
/// In front of every place.
const FIRST: Place = (0, 0);

enum Entry {
    Driver(DriverTimer),
    Host(Box<dyn FnOnce() + Send>),
}

#[derive(Clone, Copy)]
struct DriverTimer {
    timer: u64,
    /// Null, or what is queued at expiry.
    dpc: u64,
    /// 0 for a timer that fires once.
    period_100ns: u64,
    /// Who set it.
    caller: u64,
}

#[derive(Default)]
struct Queue {
    by_due: BTreeMap<Place, Entry>,
    by_address: BTreeMap<u64, Place>,
    /// Drivers' timers that have a DPC, by its address; several may have the same.
    by_dpc: BTreeSet<(u64, Place)>,
    last_number: u64,
    /// Drivers' timers that are off the queue, but not signalled yet or their DPCs not queued.
    expiring: Vec<u64>,
}

static QUEUE: Mutex<Queue> = Mutex::new(Queue {
    by_due: BTreeMap::new(),
    by_address: BTreeMap::new(),
    by_dpc: BTreeSet::new(),
    last_number: 0,
    expiring: Vec::new(),
});
/// When the first timer is due, `u64::MAX` if none is queued. Changed under the queue's lock.
static NEXT_DUE: AtomicU64 = AtomicU64::new(u64::MAX);
/// How many timers are expiring. Changed under the queue's lock, and before [`NEXT_DUE`].
static EXPIRING: AtomicUsize = AtomicUsize::new(0);

fn queue() -> MutexGuard<'static, Queue> {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The queue when this driver's timer is not just expiring on another thread. To drivers an expiry is one step: a timer
/// that is not set any more has been signalled, its DPC is queued, and its memory is theirs.
fn queue_around(timer: u64) -> MutexGuard<'static, Queue> {
    loop {
        let queue = queue();
        if !queue.expiring.contains(&timer) {
            return queue;
        }
        drop(queue);
        // A few instructions of the other thread are left, which waits for nothing.
        std::thread::yield_now();
    }
}

/// Waits for the rest of the expiries that are under way: whoever a timer has woken may look for its DPC at once.
pub(crate) fn let_expire() {
    while EXPIRING.load(Ordering::Acquire) != 0 {
        std::thread::yield_now();
    }
}

/// Whether no timer is set or expiring.
fn is_idle() -> bool {
    NEXT_DUE.load(Ordering::Acquire) == u64::MAX && EXPIRING.load(Ordering::Acquire) == 0
}

impl Queue {
    fn insert(&mut self, due: u64, entry: Entry) -> Place {
        self.last_number += 1;
        let place = (due, self.last_number);
        if let Entry::Driver(timer) = &entry {
            self.by_address.insert(timer.timer, place);
            pages::count(timer.timer, 1);
            if timer.dpc != 0 {
                self.by_dpc.insert((timer.dpc, place));
                pages::count(timer.dpc, 1);
            }
        }
        self.by_due.insert(place, entry);
        self.note_next();
        place
    }

    fn remove_timer(&mut self, timer: u64) -> bool {
        let Some(&place) = self.by_address.get(&timer) else { return false };
        if let Some(Entry::Driver(timer)) = self.by_due.remove(&place) {
            self.forget(&timer, place);
        }
        self.note_next();
        true
    }

    /// Takes a timer that is off the queue out of the orders by address.
    fn forget(&mut self, timer: &DriverTimer, place: Place) {
        self.by_address.remove(&timer.timer);
        pages::count(timer.timer, -1);
        if self.by_dpc.remove(&(timer.dpc, place)) {
            pages::count(timer.dpc, -1);
        }
    }

    /// Takes off what is due at `now`; puts a periodic timer back for its next time.
    fn take_due(&mut self, now: u64) -> Option<Entry> {
        let place = *self.by_due.keys().next().filter(|(due, _)| *due <= now)?;
        let entry = self.by_due.remove(&place)?;
        if let Entry::Driver(timer) = &entry {
            self.forget(timer, place);
            self.begin_expiry(timer.timer);
            if timer.period_100ns != 0 {
                // In step with when it was due, so that periods do not drift; what was missed stays missed.
                let next = now + timer.period_100ns - (now - place.0) % timer.period_100ns;
                self.insert(next, Entry::Driver(*timer));
            }
        }
        self.note_next();
        Some(entry)
    }

    fn begin_expiry(&mut self, timer: u64) {
        self.expiring.push(timer);
        EXPIRING.store(self.expiring.len(), Ordering::Release);
    }

    fn end_expiry(&mut self, timer: u64) {
        if let Some(position) = self.expiring.iter().position(|one| *one == timer) {
            self.expiring.swap_remove(position);
        }
        EXPIRING.store(self.expiring.len(), Ordering::Release);
    }

    fn note_next(&self) {
        let next = self.by_due.keys().next().map_or(u64::MAX, |(due, _)| *due);
        NEXT_DUE.store(next, Ordering::Release);
    }
}

/// When the first timer is due, `u64::MAX` if none is queued.
pub(crate) fn next_due() -> u64 {
    NEXT_DUE.load(Ordering::Acquire)
}

/// Makes the memory at `timer` a timer that is not queued (K-148).
///
/// # Safety
/// `timer` is 64 writable bytes, 8-aligned, that no thread waits on.
pub unsafe fn initialize(timer: *mut Timer, kind: DispatcherType, caller: u64) {
    if !is_idle() && queue_around(timer as u64).by_address.contains_key(&(timer as u64)) {
        gate::bugcheck::with_message(
            BugCheck::TIMER_OR_DPC_INVALID,
            [0, timer as u64, timer as u64, timer as u64 + size_of::<Timer>() as u64],
            caller,
            "A timer was initialised again while it is set. Cancel it first (KeCancelTimer).",
        );
    }
    // SAFETY: the caller's promise; a timer begins like an event.
    unsafe {
        crate::event::initialize(timer.cast(), kind, false);
        (*timer).header.size = (size_of::<Timer>() / 4) as u8;
        (*timer).due_time = 0;
        (*timer).dpc = std::ptr::null_mut();
        (*timer).period_ms = 0;
    }
}

/// Sets the timer, whose memory drivers see. Gives whether it was set already (K-128).
///
/// `due` is as drivers give it (K-125); `period_ms` 0 means once; `dpc` null or what is queued at expiry. What is
/// due at once expires in this call.
///
/// # Safety
/// `timer` is an initialised timer.
///
/// IRQL: up to DISPATCH_LEVEL.
pub unsafe fn set(timer: *mut Timer, due: i64, period_ms: u32, dpc: *mut Dpc, caller: u64) -> bool {
    let address = timer as u64;
    let due = clock::deadline(due);
    let now = clock::now_100ns();
    let entry = DriverTimer { timer: address, dpc: dpc as u64, period_100ns: u64::from(period_ms) * 10_000, caller };
    let mut queue = queue_around(address);
    let was_set = queue.remove_timer(address);
    // SAFETY: the caller's promise. Under the lock, so that an expiry on another thread comes before or after.
    unsafe {
        crate::event::signal_state(address).store(0, Ordering::SeqCst);
        (*timer).due_time = due;
        (*timer).dpc = dpc;
        (*timer).period_ms = period_ms;
    }
    let is_first = due < next_due();
    if due > now || period_ms != 0 {
        queue.insert(due.max(now), Entry::Driver(entry));
    } else {
        queue.begin_expiry(address);
    }
    drop(queue);
    if due <= now {
        if period_ms == 0 {
            fire(entry);
        } else {
            clock_thread::ring();
        }
    } else if is_first {
        clock_thread::ring();
    }
    was_set
}

/// Takes the timer off the queue. Gives whether it was there (K-129). Its signal state stays.
///
/// IRQL: up to DISPATCH_LEVEL.
pub fn cancel(timer: u64) -> bool {
    !is_idle() && queue_around(timer).remove_timer(timer)
}

/// A timer of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostTimer(Place);

/// Calls `work` once on the clock's thread when interrupt time has reached `deadline_100ns`, at PASSIVE_LEVEL and
/// without locks. It should not wait: timers that are due meanwhile are late.
///
/// IRQL: up to DISPATCH_LEVEL. Allocates.
pub fn at(deadline_100ns: u64, work: impl FnOnce() + Send + 'static) -> HostTimer {
    let mut queue = queue();
    let is_first = deadline_100ns < next_due();
    let place = queue.insert(deadline_100ns, Entry::Host(Box::new(work)));
    drop(queue);
    if is_first {
        clock_thread::ring();
    }
    HostTimer(place)
}

/// Takes back a timer of the host. `false` if its work was begun or done.
///
/// IRQL: up to DISPATCH_LEVEL.
pub fn cancel_host(timer: HostTimer) -> bool {
    let mut queue = queue();
    let entry = queue.by_due.remove(&timer.0);
    queue.note_next();
    entry.is_some()
}

/// Expires what is due. The clock's thread only.
pub(crate) fn expire() {
    while next_due() <= clock::now_100ns() {
        let entry = queue().take_due(clock::now_100ns());
        match entry {
            Some(Entry::Driver(timer)) => fire(timer),
            Some(Entry::Host(work)) => work(),
            None => {}
        }
    }
}

/// Ends the expiry of a timer: signals it and queues its DPC, which may free the timer if it is not periodic (K-130).
fn fire(timer: DriverTimer) {
    let DriverTimer { timer, dpc, caller, .. } = timer;
    let kind = read_value::<u8>(timer).map(DispatcherType);
    let is_timer = matches!(kind, Ok(DispatcherType::NOTIFICATION_TIMER | DispatcherType::SYNCHRONIZATION_TIMER));
    let signal_state = timer + std::mem::offset_of!(nt_abi::DispatcherHeader, signal_state) as u64;
    if !is_timer || write_value(signal_state, 1i32).is_err() {
        gate::bugcheck::with_message(
            BugCheck::TIMER_OR_DPC_INVALID,
            [0, timer, timer, timer + size_of::<Timer>() as u64],
            caller,
            "A timer that was set here expired, but its memory is no timer any more: it was freed or used for something else. Cancel a timer before its memory goes.",
        );
    }
    // Between the signal and the look at the waiters, as in `event::set`.
    fence(Ordering::SeqCst);
    wait::wake(timer);
    let end = || queue().end_expiry(timer);
    if dpc == 0 {
        end();
    } else {
        dpc::insert_and_tell(dpc, [0, 0], caller, end);
    }
}

/// Something of a driver that is yet to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The timer or DPC.
    pub address: u64,
    /// Whether it is a set timer; else a queued DPC, or the DPC of a set timer.
    pub is_timer: bool,
    /// The routine that will be called, 0 for none.
    pub routine: u64,
    /// The driver instruction that set or queued it.
    pub caller: u64,
}

/// The first set timer or queued DPC whose memory begins in `range`: for whoever is about to free it (K-150). A few
/// loads while there is none in those pages, however many timers are set.
///
/// IRQL: any.
pub fn pending_in(range: Range<u64>) -> Option<Pending> {
    if pages::might_hold(&range) {
        let queue = queue();
        if let Some((&address, place)) = queue.by_address.range(range.clone()).next()
            && let Some(Entry::Driver(timer)) = queue.by_due.get(place)
        {
            return Some(Pending { address, ..describe(*timer, true) });
        }
        let named = queue.by_dpc.range((range.start, FIRST)..(range.end, FIRST)).next();
        if let Some((_, place)) = named
            && let Some(Entry::Driver(timer)) = queue.by_due.get(place)
        {
            let timer = *timer;
            return Some(Pending { address: timer.dpc, ..describe(timer, false) });
        }
    }
    let (address, caller) = dpc::find_in(&range)?;
    Some(Pending { address, is_timer: false, routine: dpc::routine(address), caller })
}

/// Visits what is yet to happen: for the report when a driver is unloaded (K-102).
pub fn for_each_pending(mut visit: impl FnMut(Pending)) {
    let timers: Vec<_> = queue()
        .by_due
        .values()
        .filter_map(|entry| if let Entry::Driver(timer) = entry { Some(*timer) } else { None })
        .collect();
    timers.into_iter().for_each(|timer| visit(describe(timer, true)));
    dpc::for_each(|address, caller| {
        visit(Pending { address, is_timer: false, routine: dpc::routine(address), caller });
    });
}

fn describe(timer: DriverTimer, is_timer: bool) -> Pending {
    let routine = if timer.dpc == 0 { 0 } else { dpc::routine(timer.dpc) };
    Pending { address: timer.timer, is_timer, routine, caller: timer.caller }
}
