//! Events, waits, mutants, spin locks and threads under the free executor.

use std::cell::UnsafeCell;
use std::mem::zeroed;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use nt_abi::dispatcher::{DispatcherType, Mutant};
use nt_abi::{Irql, KernelEvent, NtStatus};
use nt_dispatcher::thread::{self, Start};
use nt_dispatcher::wait::{self, WaitType};
use nt_dispatcher::{TABLE, event, irql, spin, work};
use proves::proves;

/// A millisecond in NT's relative form.
const MILLISECOND: i64 = -10_000;

/// An event as a driver has one: memory that several threads know the address of.
struct Event(UnsafeCell<KernelEvent>);

// SAFETY: the signal state is touched atomically only; the rest does not change after `new`.
unsafe impl Sync for Event {}

impl Event {
    fn new(kind: DispatcherType, signalled: bool) -> &'static Self {
        // SAFETY: all bytes zero is a valid KernelEvent, and nobody else knows it yet.
        unsafe {
            let event: &'static Self = Box::leak(Box::new(Self(UnsafeCell::new(zeroed()))));
            event::initialize(event.0.get(), kind, signalled);
            event
        }
    }

    fn notification() -> &'static Self {
        Self::new(DispatcherType::NOTIFICATION_EVENT, false)
    }

    fn synchronization() -> &'static Self {
        Self::new(DispatcherType::SYNCHRONIZATION_EVENT, false)
    }

    fn address(&self) -> u64 {
        self.0.get() as u64
    }

    fn set(&self) -> i32 {
        // SAFETY: initialised in `new`, never freed.
        unsafe { event::set(self.0.get()) }
    }

    fn reset(&self) -> i32 {
        // SAFETY: as in `set`.
        unsafe { event::reset(self.0.get()) }
    }

    fn wait(&self, timeout: Option<i64>) -> NtStatus {
        // SAFETY: as in `set`.
        unsafe { wait::wait_single(self.address(), timeout) }
    }
}

/// Runs `test` on a thread of the kernel.
fn in_the_kernel(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let run = || {
            thread::adopt_current().expect("a kernel thread");
            test();
        };
        scope.spawn(run).join().expect("the test's thread");
    });
}

/// Starts a host function as a kernel thread and gives its object.
fn start(function: fn(u64), context: u64) -> u64 {
    thread::create(Start::Host(function), context, 0).expect("a thread")
}

fn join(thread: u64) {
    // SAFETY: referenced by `start`.
    assert_eq!(unsafe { wait::wait_single(thread, None) }, NtStatus::SUCCESS);
    nt_object::dereference(thread);
}

#[proves("K-124")]
#[test]
fn notification_event_stays_signalled_and_synchronization_event_resets() {
    in_the_kernel(|| {
        let (stays, resets) = (Event::notification(), Event::synchronization());
        assert_eq!((stays.set(), stays.set(), resets.set()), (0, 1, 0));
        assert_eq!([stays.wait(Some(0)), stays.wait(None)], [NtStatus::SUCCESS; 2]);
        assert_eq!([resets.wait(Some(0)), resets.wait(Some(0))], [NtStatus::SUCCESS, NtStatus::TIMEOUT]);
        assert_eq!((stays.reset(), stays.wait(Some(0))), (1, NtStatus::TIMEOUT));
    });
}

#[proves("K-125")]
#[test]
fn wait_without_signal_times_out() {
    in_the_kernel(|| assert_eq!(Event::notification().wait(Some(2 * MILLISECOND)), NtStatus::TIMEOUT));
}

#[proves("K-123")]
#[test]
fn wait_with_zero_timeout_is_allowed_at_dispatch_level() {
    in_the_kernel(|| {
        let _raised = irql::Raised::to(Irql::DISPATCH);
        assert_eq!(Event::notification().wait(Some(0)), NtStatus::TIMEOUT);
    });
}

#[proves("K-127")]
#[test]
fn waiters_are_released_in_the_order_they_began_to_wait() {
    static ORDER: Mutex<Vec<u64>> = Mutex::new(Vec::new());
    static EVENT: AtomicU64 = AtomicU64::new(0);
    static READY: AtomicU64 = AtomicU64::new(0);
    fn waiter(number: u64) {
        READY.store(number, Ordering::SeqCst);
        // SAFETY: the event is never freed.
        unsafe { wait::wait_single(EVENT.load(Ordering::SeqCst), None) };
        ORDER.lock().expect("no panic").push(number);
    }
    in_the_kernel(|| {
        let event = Event::synchronization();
        EVENT.store(event.address(), Ordering::SeqCst);
        let threads: Vec<u64> = (1..=3)
            .map(|number| {
                let thread = start(waiter, number);
                while READY.load(Ordering::SeqCst) != number || !wait::has_waiters(event.address(), number as usize) {
                    std::thread::yield_now();
                }
                thread
            })
            .collect();
        for (index, thread) in threads.into_iter().enumerate() {
            event.set();
            join(thread);
            assert_eq!(ORDER.lock().expect("no panic").len(), index + 1);
        }
        assert_eq!(*ORDER.lock().expect("no panic"), [1, 2, 3]);
    });
}

/// Starts `count` threads that wait on the event, and waits until they do.
fn waiting_on(event: &Event, count: usize) -> Vec<u64> {
    fn waiter(event: u64) {
        // SAFETY: events of these tests are never freed.
        assert_eq!(unsafe { wait::wait_single(event, None) }, NtStatus::SUCCESS);
    }
    let threads = (0..count).map(|_| start(waiter, event.address())).collect();
    while !wait::has_waiters(event.address(), count) {
        std::thread::yield_now();
    }
    threads
}

fn pulse(event: &Event) -> i32 {
    let export = TABLE.iter().find(|export| export.name == "KePulseEvent").expect("exported");
    // SAFETY: an initialised event.
    unsafe { gate::call::call_n(export.address(), &[event.address(), 0, 0]) as i32 }
}

#[test]
fn pulse_of_notification_event_releases_all_waiters_and_leaves_it_unsignalled() {
    in_the_kernel(|| {
        let event = Event::notification();
        // More than one pass over the queue releases.
        let threads = waiting_on(event, 20);
        assert_eq!(pulse(event), 0);
        threads.into_iter().for_each(join);
        assert_eq!(event.wait(Some(0)), NtStatus::TIMEOUT);
        event.set();
        assert_eq!(pulse(event), 1, "the state before");
        assert_eq!(event.wait(Some(0)), NtStatus::TIMEOUT);
    });
}

#[test]
fn pulse_of_synchronization_event_releases_one_waiter() {
    in_the_kernel(|| {
        let event = Event::synchronization();
        let threads = waiting_on(event, 2);
        assert_eq!(pulse(event), 0);
        assert!(wait::has_waiters(event.address(), 1) && !wait::has_waiters(event.address(), 2));
        assert_eq!(event.wait(Some(0)), NtStatus::TIMEOUT, "nothing is left of a pulse");
        event.set();
        threads.into_iter().for_each(join);
    });
}

#[proves("K-126")]
#[test]
fn wait_for_any_tells_which_and_wait_for_all_takes_all_or_none() {
    in_the_kernel(|| {
        let (first, second) = (Event::synchronization(), Event::synchronization());
        let both = [first.address(), second.address()];
        // SAFETY: the events are never freed.
        let wait_for = |wait_type| unsafe { wait::wait_multiple(&both, wait_type, Some(MILLISECOND)) };
        assert_eq!(wait_for(WaitType::Any), NtStatus::TIMEOUT);
        second.set();
        assert_eq!(wait_for(WaitType::Any), NtStatus(1));
        first.set();
        assert_eq!(wait_for(WaitType::All), NtStatus::TIMEOUT);
        assert_eq!(first.wait(Some(0)), NtStatus::SUCCESS, "the first event's signal was not taken");
        first.set();
        second.set();
        assert_eq!(wait_for(WaitType::All), NtStatus::SUCCESS);
        assert_eq!(first.wait(Some(0)), NtStatus::TIMEOUT);
    });
}

#[test]
fn two_threads_that_hand_an_event_back_and_forth_lose_no_wake_up() {
    const ROUNDS: u64 = 20_000;
    static PING: AtomicU64 = AtomicU64::new(0);
    static PONG: AtomicU64 = AtomicU64::new(0);
    fn answer(_context: u64) {
        for _ in 0..ROUNDS {
            // SAFETY: the events are never freed.
            unsafe {
                wait::wait_single(PING.load(Ordering::SeqCst), None);
                event::set(PONG.load(Ordering::SeqCst) as *mut KernelEvent);
            }
        }
    }
    in_the_kernel(|| {
        let (ping, pong) = (Event::synchronization(), Event::synchronization());
        PING.store(ping.address(), Ordering::SeqCst);
        PONG.store(pong.address(), Ordering::SeqCst);
        let thread = start(answer, 0);
        for _ in 0..ROUNDS {
            ping.set();
            assert_eq!(pong.wait(None), NtStatus::SUCCESS);
        }
        join(thread);
    });
}

#[proves("K-153")]
#[test]
fn mutant_is_recursive_for_its_owner_and_closed_to_others() {
    static MUTANT: AtomicU64 = AtomicU64::new(0);
    static SEEN: AtomicU64 = AtomicU64::new(0);
    fn try_to_take(_context: u64) {
        // SAFETY: the mutant outlives this thread: the test joins it.
        let status = unsafe { wait::wait_single(MUTANT.load(Ordering::SeqCst), Some(0)) };
        SEEN.store(status.0.into(), Ordering::SeqCst);
        if status == NtStatus::SUCCESS {
            // SAFETY: as above; a thread may not end with a mutant.
            unsafe { thread::release_mutant(MUTANT.load(Ordering::SeqCst)) };
        }
    }
    in_the_kernel(|| {
        // SAFETY: all bytes zero is a valid Mutant; it lives until the end of the test.
        unsafe {
            let mut mutant: Mutant = zeroed();
            let address = &raw mut mutant as u64;
            event::initialize(address as *mut KernelEvent, DispatcherType::MUTANT, true);
            MUTANT.store(address, Ordering::SeqCst);
            assert_eq!([wait::wait_single(address, None), wait::wait_single(address, None)], [NtStatus::SUCCESS; 2]);
            join(start(try_to_take, 0));
            assert_eq!(SEEN.load(Ordering::SeqCst), u64::from(NtStatus::TIMEOUT.0));
            thread::release_mutant(address);
            thread::release_mutant(address);
            join(start(try_to_take, 0));
            assert_eq!(SEEN.load(Ordering::SeqCst), u64::from(NtStatus::SUCCESS.0));
        }
    });
}

#[proves("K-121")]
#[test]
fn spin_lock_raises_excludes_and_restores() {
    static LOCK: AtomicU64 = AtomicU64::new(0);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    fn count(_context: u64) {
        for _ in 0..10_000 {
            // SAFETY: the lock is a static.
            unsafe {
                let old = spin::acquire_raise(LOCK.as_ptr());
                assert_eq!((old, gate::irql()), (Irql::PASSIVE, Irql::DISPATCH));
                COUNT.store(COUNT.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                spin::release_lower(LOCK.as_ptr(), old);
            }
            assert_eq!(gate::irql(), Irql::PASSIVE);
        }
    }
    in_the_kernel(|| {
        let threads = [start(count, 0), start(count, 0)];
        threads.into_iter().for_each(join);
        assert_eq!(COUNT.load(Ordering::Relaxed), 20_000);
    });
}

#[proves("K-134")]
#[test]
fn thread_that_terminates_itself_does_not_return_and_can_be_waited_for() {
    static AFTER: AtomicU64 = AtomicU64::new(0);
    extern "win64" fn routine(context: u64) {
        AFTER.store(context, Ordering::SeqCst);
        // SAFETY: nothing in this frame needs a destructor.
        unsafe { gate::call::leave() };
    }
    in_the_kernel(|| {
        let thread = thread::create(Start::Driver(routine as *const () as u64), 7, 0).expect("a thread");
        join(thread);
        assert_eq!(AFTER.load(Ordering::SeqCst), 7);
    });
}

#[proves("K-136")]
#[test]
fn queued_work_runs_at_passive_level_in_another_thread() {
    in_the_kernel(|| {
        let me = gate::thread::current_thread_object();
        let done = Event::notification();
        work::queue(Box::new(move || {
            assert_eq!(gate::irql(), Irql::PASSIVE);
            assert_ne!(gate::thread::current_thread_object(), me);
            done.set();
        }));
        assert_eq!(done.wait(None), NtStatus::SUCCESS);
        work::drain();
    });
}

#[test]
fn no_name_is_exported_twice() {
    let mut names: Vec<_> = TABLE.iter().map(|export| export.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}
