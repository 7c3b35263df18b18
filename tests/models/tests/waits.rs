//! Waits and wakers: no signal is lost, none is taken for nobody. A lost one shows as a deadlock, which shuttle reports with
//! its schedule.

#![allow(dead_code, reason = "the sources hold what other parts need, too")]

#[path = "../../../kernel/nt_dispatcher/src/bell.rs"]
mod bell;
#[path = "../../../kernel/nt_dispatcher/src/wait.rs"]
mod wait;

/// What the sources share words and locks by.
mod sync {
    pub use shuttle::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};
    pub use shuttle::sync::{Mutex, MutexGuard};
    pub use shuttle::thread::yield_now;
}

/// Where a thread sleeps.
mod park {
    use shuttle::sync::{Condvar, Mutex};

    #[derive(Debug)]
    pub struct Parker {
        notified: Mutex<bool>,
        changed: Condvar,
    }

    impl Parker {
        pub fn new() -> Self {
            Self { notified: Mutex::new(false), changed: Condvar::new() }
        }

        /// With a deadline it may return at any time, as the real one may.
        pub fn park(&self, deadline: Option<u64>) {
            let mut notified = self.notified.lock().expect("no poison");
            if deadline.is_some() {
                drop(notified);
                shuttle::thread::yield_now();
                return;
            }
            while !*notified {
                notified = self.changed.wait(notified).expect("no poison");
            }
            *notified = false;
        }

        pub fn rest(&self, deadline: Option<u64>) {
            self.park(deadline);
        }

        pub fn unpark(&self) {
            *self.notified.lock().expect("no poison") = true;
            self.changed.notify_one();
        }

        pub fn note_object(&self, _: u64) {}
    }
}

/// Who a thread is. Nobody owns a mutant here.
mod thread {
    use crate::park::Parker;

    shuttle::thread_local! {
        static PARKER: &'static Parker = Box::leak(Box::new(Parker::new()));
    }

    pub fn current_parker() -> &'static Parker {
        PARKER.with(|parker| *parker)
    }

    pub fn take_alert() -> bool {
        false
    }

    pub unsafe fn take_mutant(_: u64, _: u64) -> bool {
        unreachable!("no mutants here")
    }

    pub unsafe fn owns_mutant(_: u64, _: u64) -> bool {
        unreachable!("no mutants here")
    }

    pub unsafe fn return_mutant(_: u64, _: u64) {
        unreachable!("no mutants here")
    }

    pub unsafe fn forget_abandonment(_: u64, _: u64) -> bool {
        unreachable!("no mutants here")
    }
}

/// No queues here, and nobody belongs to one.
mod queue {
    pub unsafe fn take_signal(_: u64) -> bool {
        unreachable!("no queues here")
    }

    pub unsafe fn has_signal(_: u64) -> bool {
        unreachable!("no queues here")
    }

    pub unsafe fn return_signal(_: u64) {
        unreachable!("no queues here")
    }

    pub fn step_aside() -> bool {
        false
    }

    pub fn back() {}
}

/// Time passes whenever somebody looks, or not.
mod clock {
    use shuttle::rand::Rng;

    pub fn now_100ns() -> u64 {
        if shuttle::rand::thread_rng().gen_bool(0.3) { u64::MAX } else { 0 }
    }

    pub fn deadline(_: i64) -> u64 {
        1
    }
}

mod executor {
    pub fn point() {}
    pub fn give_way() {}
    pub fn looked_in_vain() {}
}

/// The words of an object that the sources look at.
mod event {
    use nt_abi::dispatcher::DispatcherType;
    use shuttle::sync::atomic::AtomicI32;

    #[repr(C)]
    pub struct Object {
        kind: DispatcherType,
        pub state: AtomicI32,
    }

    impl Object {
        pub fn new(kind: DispatcherType, state: i32) -> &'static Self {
            Box::leak(Box::new(Self { kind, state: AtomicI32::new(state) }))
        }

        pub fn address(&self) -> u64 {
            std::ptr::from_ref(self) as u64
        }
    }

    pub unsafe fn signal_state<'a>(object: u64) -> &'a AtomicI32 {
        // SAFETY: tests wait for objects that are never freed.
        unsafe { &(*(object as *const Object)).state }
    }
}

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Once, PoisonError};

use event::Object;
use gate::thread::{Block, host_stack};
use nt_abi::NtStatus;
use nt_abi::dispatcher::DispatcherType;
use proves::proves;
use shuttle::sync::atomic::AtomicBool;
use wait::WaitType;

/// Runs a model under many schedules: random ones, and such as find what needs few switches in the right places.
fn explore(model: impl Fn() + Send + Sync + Clone + 'static) {
    // The queues are a static: models take turns.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let schedules = std::env::var("MODEL_SCHEDULES").ok().and_then(|number| number.parse().ok()).unwrap_or(1000);
    let enter = move || {
        std::thread_local!(static ENTERED: Once = const { Once::new() });
        // All of a model's threads are fibers of this one.
        ENTERED.with(|entered| {
            entered.call_once(|| {
                Block::new(host_stack().expect("a stack"), 0, 1, 0).expect("a block").install();
            });
        });
        model();
    };
    shuttle::check_random(enter.clone(), schedules);
    shuttle::check_pct(enter, schedules, 3);
}

fn wait_for(object: &'static Object, timeout: Option<i64>) -> NtStatus {
    // SAFETY: the object is never freed.
    unsafe { wait::wait_single(object.address(), timeout) }
}

fn signal(object: &'static Object) {
    object.state.store(1, Ordering::SeqCst);
    wait::wake(object.address());
}

fn release(semaphore: &'static Object) {
    semaphore.state.fetch_add(1, Ordering::SeqCst);
    wait::wake(semaphore.address());
}

fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> shuttle::thread::JoinHandle<T> {
    shuttle::thread::spawn(body)
}

#[test]
#[proves("K-124")]
fn every_release_of_a_semaphore_ends_a_wait() {
    explore(|| {
        let semaphore = Object::new(DispatcherType::SEMAPHORE, 0);
        let waiters: Vec<_> = (0..2).map(|_| spawn(|| wait_for(semaphore, None))).collect();
        release(semaphore);
        release(semaphore);
        for waiter in waiters {
            assert_eq!(waiter.join().expect("the thread ends"), NtStatus::SUCCESS);
        }
        assert_eq!(semaphore.state.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn signal_that_a_timeout_meets_is_taken_or_left_to_another() {
    explore(|| {
        let event = Object::new(DispatcherType::SYNCHRONIZATION_EVENT, 0);
        let patient = spawn(|| wait_for(event, None));
        let hasty = spawn(|| wait_for(event, Some(-1)));
        signal(event);
        match hasty.join().expect("the thread ends") {
            // The patient one has had nothing yet, or this event is signalled twice.
            NtStatus::SUCCESS => signal(event),
            status => assert_eq!(status, NtStatus::TIMEOUT),
        }
        assert_eq!(patient.join().expect("the thread ends"), NtStatus::SUCCESS);
        assert_eq!(event.state.load(Ordering::SeqCst), 0, "no signal is left over");
    });
}

#[test]
fn wait_for_any_takes_one_signal_and_leaves_the_other() {
    explore(|| {
        let events = [0; 2].map(|state| Object::new(DispatcherType::SYNCHRONIZATION_EVENT, state));
        // SAFETY: the objects are never freed.
        let any = move || unsafe { wait::wait_multiple(&events.map(Object::address), WaitType::Any, None) };
        let waiter = spawn(any);
        let other = spawn(move || signal(events[1]));
        signal(events[0]);
        let index = waiter.join().expect("the thread ends").0 as usize;
        other.join().expect("the thread ends");
        let left = events.map(|event| event.state.load(Ordering::SeqCst));
        assert_eq!((left[index], left[1 - index]), (0, 1));
    });
}

#[test]
fn wait_for_all_ends_when_both_are_signalled_beside_one_who_wants_the_first() {
    explore(|| {
        let events = [0; 2].map(|state| Object::new(DispatcherType::SYNCHRONIZATION_EVENT, state));
        // SAFETY: the objects are never freed.
        let all = move || unsafe { wait::wait_multiple(&events.map(Object::address), WaitType::All, None) };
        let waiter = spawn(all);
        let rival = spawn(move || wait_for(events[0], None));
        signal(events[0]);
        signal(events[1]);
        // The one signal was for the rival or for the wait for all. An event that is signalled takes another in, so each
        // gets one only after the other's is gone.
        let other = spawn(move || {
            while events[0].state.load(Ordering::SeqCst) != 0 {
                shuttle::thread::yield_now();
            }
            signal(events[0]);
        });
        assert_eq!(rival.join().expect("the thread ends"), NtStatus::SUCCESS);
        assert_eq!(waiter.join().expect("the thread ends"), NtStatus::SUCCESS);
        other.join().expect("the thread ends");
    });
}

#[test]
fn signal_that_a_wait_for_all_gives_back_wakes_who_waits_for_it() {
    explore(|| {
        let events = [1; 2].map(|state| Object::new(DispatcherType::SYNCHRONIZATION_EVENT, state));
        // SAFETY: the objects are never freed.
        let all = move || unsafe { wait::wait_multiple(&events.map(Object::address), WaitType::All, None) };
        let waiter = spawn(all);
        let rival = spawn(move || wait_for(events[0], None));
        // Either this has the second signal, or the wait for all has both.
        if wait_for(events[1], Some(0)) == NtStatus::SUCCESS {
            assert_eq!(rival.join().expect("the thread ends"), NtStatus::SUCCESS);
            signal(events[0]);
            signal(events[1]);
            assert_eq!(waiter.join().expect("the thread ends"), NtStatus::SUCCESS);
        } else {
            assert_eq!(waiter.join().expect("the thread ends"), NtStatus::SUCCESS);
            signal(events[0]);
            assert_eq!(rival.join().expect("the thread ends"), NtStatus::SUCCESS);
        }
    });
}

#[test]
#[proves("K-124")]
fn pulse_ends_a_wait_for_all_with_the_other_signal_or_leaves_that_to_others() {
    explore(|| {
        let events = [0; 2].map(|state| Object::new(DispatcherType::SYNCHRONIZATION_EVENT, state));
        // SAFETY: the objects are never freed.
        let all = move || unsafe { wait::wait_multiple(&events.map(Object::address), WaitType::All, Some(-1)) };
        let waiter = spawn(all);
        let rival = spawn(move || wait_for(events[1], None));
        let pulse = spawn(move || wait::release_waiters(events[0].address(), 1));
        signal(events[1]);
        pulse.join().expect("the thread ends");
        match waiter.join().expect("the thread ends") {
            // The rival has had nothing yet.
            NtStatus::SUCCESS => signal(events[1]),
            status => assert_eq!(status, NtStatus::TIMEOUT),
        }
        assert_eq!(rival.join().expect("the thread ends"), NtStatus::SUCCESS);
        assert_eq!(events.map(|event| event.state.load(Ordering::SeqCst)), [0; 2], "no signal is left over");
    });
}

#[test]
fn no_ring_of_a_bell_is_lost() {
    explore(|| {
        let bell = Arc::new(bell::Bell::new());
        let ready = Arc::new(AtomicBool::new(false));
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let (bell, ready) = (bell.clone(), ready.clone());
                spawn(move || bell.wait(|| ready.load(Ordering::Relaxed)))
            })
            .collect();
        ready.store(true, Ordering::Relaxed);
        bell.ring();
        waiters.into_iter().for_each(|waiter| waiter.join().expect("the thread ends"));
    });
}
