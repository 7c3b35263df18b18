//! Signals are neither lost nor taken twice, whatever threads do to them at once.
//!
//! `DISPATCHER_ROUNDS` says how many rounds each test does; `cargo xtask soak` asks for many.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};

use common::{Memory, in_the_kernel, join, start, wait_for};
use nt_abi::NtStatus;
use nt_abi::dispatcher::{Mutant, Semaphore};
use nt_dispatcher::wait::{self, WaitType};

fn rounds() -> u64 {
    std::env::var("DISPATCHER_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(4_000)
}

/// A short time, of which a wait sometimes ends just when its object is signalled.
const INSTANT: i64 = -200;

/// What a thread of a test shares with the others.
struct Shared {
    objects: Vec<u64>,
    /// Signals made and signals taken.
    made: AtomicU64,
    taken: AtomicU64,
    /// Threads that still make signals.
    makers: AtomicU64,
}

impl Shared {
    fn new(objects: Vec<u64>, makers: u64) -> &'static Self {
        let (made, taken) = (AtomicU64::new(0), AtomicU64::new(0));
        Box::leak(Box::new(Self { objects, made, taken, makers: AtomicU64::new(makers) }))
    }

    fn of(context: u64) -> &'static Self {
        // SAFETY: tests pass the address of a leaked one.
        unsafe { &*(context as *const Self) }
    }

    fn address(&self) -> u64 {
        std::ptr::from_ref(self) as u64
    }

    /// Takes what is left and compares.
    fn settle(&self) {
        for &object in &self.objects {
            while wait_for(object, Some(0)) == NtStatus::SUCCESS {
                self.taken.fetch_add(1, Ordering::Relaxed);
            }
        }
        assert_eq!(self.made.load(Ordering::Relaxed), self.taken.load(Ordering::Relaxed));
    }

    fn is_over(&self) -> bool {
        self.makers.load(Ordering::Acquire) == 0
    }
}

fn new_events(count: usize) -> Vec<u64> {
    let make = |_| {
        let event = Memory::<nt_abi::KernelEvent>::new().address();
        call!("KeInitializeEvent", event, 1, 0);
        event
    };
    (0..count).map(make).collect()
}

fn new_semaphore() -> u64 {
    let semaphore = Memory::<Semaphore>::new().address();
    call!("KeInitializeSemaphore", semaphore, 0, i32::MAX);
    semaphore
}

/// Sets all events in turn; a set of one that is signalled already makes no signal.
fn set_in_turn(context: u64) {
    let shared = Shared::of(context);
    for round in 0..rounds() {
        let event = shared.objects[round as usize % shared.objects.len()];
        if call!("KeSetEvent", event, 0, 0) as i32 == 0 {
            shared.made.fetch_add(1, Ordering::Relaxed);
        }
    }
    shared.makers.fetch_sub(1, Ordering::AcqRel);
}

#[test]
fn signals_raced_by_timeouts_are_taken_exactly_once() {
    fn take(context: u64) {
        let shared = Shared::of(context);
        while !shared.is_over() {
            if wait_for(shared.objects[0], Some(INSTANT)) == NtStatus::SUCCESS {
                shared.taken.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    in_the_kernel(|| {
        let shared = Shared::new(new_events(1), 1);
        [take as fn(u64), take, set_in_turn].map(|life| start(life, shared.address())).into_iter().for_each(join);
        shared.settle();
    });
}

#[test]
fn signals_of_several_events_are_taken_exactly_once_by_waits_for_any() {
    fn take_any(context: u64) {
        let shared = Shared::of(context);
        while !shared.is_over() {
            // SAFETY: initialised events that are never freed.
            let status = unsafe { wait::wait_multiple(&shared.objects, WaitType::Any, Some(INSTANT)) };
            if status != NtStatus::TIMEOUT {
                assert!((status.0 as usize) < shared.objects.len());
                shared.taken.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    in_the_kernel(|| {
        let shared = Shared::new(new_events(3), 2);
        let lives = [take_any as fn(u64), take_any, set_in_turn, set_in_turn];
        lives.map(|life| start(life, shared.address())).into_iter().for_each(join);
        shared.settle();
    });
}

#[test]
fn waits_for_all_take_all_or_none_beside_waits_for_one() {
    fn release(context: u64) {
        let shared = Shared::of(context);
        for round in 0..rounds() {
            call!("KeReleaseSemaphore", shared.objects[round as usize % 2], 0, 1, 0);
            shared.made.fetch_add(1, Ordering::Relaxed);
        }
        shared.makers.fetch_sub(1, Ordering::AcqRel);
    }
    fn take_both(context: u64) {
        let shared = Shared::of(context);
        while !shared.is_over() {
            // SAFETY: initialised semaphores that are never freed.
            let status = unsafe { wait::wait_multiple(&shared.objects, WaitType::All, Some(INSTANT)) };
            if status == NtStatus::SUCCESS {
                shared.taken.fetch_add(2, Ordering::Relaxed);
            }
        }
    }
    fn take_one(context: u64) {
        let shared = Shared::of(context);
        while !shared.is_over() {
            if wait_for(shared.objects[1], Some(INSTANT)) == NtStatus::SUCCESS {
                shared.taken.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    in_the_kernel(|| {
        let shared = Shared::new(vec![new_semaphore(), new_semaphore()], 1);
        let lives = [release as fn(u64), take_both, take_both, take_one];
        lives.map(|life| start(life, shared.address())).into_iter().for_each(join);
        shared.settle();
    });
}

#[test]
fn mutex_is_held_by_one_thread_though_others_give_up_waiting() {
    fn count(context: u64) {
        let shared = Shared::of(context);
        for round in 0..rounds() / 4 {
            let timeout = if round % 3 == 0 { Some(INSTANT) } else { None };
            if wait_for(shared.objects[0], timeout) == NtStatus::SUCCESS {
                // Not atomic as a whole: right only while the mutex is held.
                shared.made.store(shared.made.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                shared.taken.fetch_add(1, Ordering::Relaxed);
                call!("KeReleaseMutex", shared.objects[0], 0);
            }
        }
    }
    in_the_kernel(|| {
        let mutex = Memory::<Mutant>::new().address();
        call!("KeInitializeMutex", mutex, 0);
        let shared = Shared::new(vec![mutex], 0);
        [count as fn(u64); 3].map(|life| start(life, shared.address())).into_iter().for_each(join);
        assert_eq!(shared.made.load(Ordering::Relaxed), shared.taken.load(Ordering::Relaxed));
    });
}

#[test]
fn threads_that_hand_a_token_round_lose_no_wake_up() {
    const THREADS: usize = 3;
    static NEXT: AtomicU64 = AtomicU64::new(0);
    fn pass_on(context: u64) {
        let shared = Shared::of(context);
        let me = NEXT.fetch_add(1, Ordering::Relaxed) as usize;
        for _ in 0..rounds() {
            assert_eq!(wait_for(shared.objects[me], None), NtStatus::SUCCESS);
            call!("KeSetEvent", shared.objects[(me + 1) % THREADS], 0, 0);
        }
    }
    in_the_kernel(|| {
        let shared = Shared::new(new_events(THREADS), 0);
        let threads = [(); THREADS].map(|()| start(pass_on, shared.address()));
        call!("KeSetEvent", shared.objects[0], 0, 0);
        threads.into_iter().for_each(join);
        assert_eq!(wait_for(shared.objects[0], Some(0)), NtStatus::SUCCESS, "the token came back");
    });
}
