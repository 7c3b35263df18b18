//! Slots and their caches: none is lost, none is had by two, and of two that give one back, one does.

#![allow(dead_code, reason = "the source holds what its arena needs, too")]

#[path = "../../../machine/arena/src/free_slots.rs"]
mod free_slots;

/// What the source locks by.
mod sync {
    pub use shuttle::sync::{Mutex, MutexGuard};
    pub use std::sync::PoisonError;
}

use free_slots::{Shared, SlotCache, Slots};
use shuttle::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use shuttle::sync::{Arc, Mutex, mpsc};
use shuttle::thread;

const SLOTS: usize = 6;

/// Slots 1 to 6.
struct Arena {
    links: [AtomicU64; SLOTS],
    in_use: [AtomicBool; SLOTS],
    shared: Mutex<Shared>,
}

fn index(slot: u64) -> usize {
    slot as usize - 1
}

impl Slots for Arena {
    // A thread keeps two at most, and so moves them often.
    const BATCH: u32 = 1;

    fn link(&self, slot: u64) -> u64 {
        self.links[index(slot)].load(Ordering::Relaxed)
    }

    fn set_link(&self, slot: u64, link: u64) {
        self.links[index(slot)].store(link, Ordering::Relaxed);
    }

    fn end_use(&self, slot: u64) -> bool {
        self.in_use[index(slot)].compare_exchange(true, false, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn grow(&self, made: u64) -> u64 {
        (made + 1).min(SLOTS as u64)
    }

    fn make(&self, number: u64) -> u64 {
        number + 1
    }

    fn shared(&self) -> &Mutex<Shared> {
        &self.shared
    }
}

impl Arena {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            links: [const { AtomicU64::new(0) }; SLOTS],
            in_use: [const { AtomicBool::new(false) }; SLOTS],
            shared: Mutex::new(Shared::none()),
        })
    }

    fn take(&self, cache: &mut SlotCache) -> Option<u64> {
        let slot = free_slots::take(self, cache)?;
        assert!(!self.in_use[index(slot)].swap(true, Ordering::Release), "{slot} is had by two");
        Some(slot)
    }

    /// Every slot that is not in use. Nobody else uses the arena, and no cache holds any.
    fn all(&self) -> Vec<u64> {
        let mut cache = SlotCache::empty();
        let mut all: Vec<u64> = std::iter::from_fn(|| self.take(&mut cache)).collect();
        all.sort_unstable();
        all
    }
}

fn explore(model: impl Fn() + Send + Sync + Clone + 'static) {
    let schedules = std::env::var("MODEL_SCHEDULES").ok().and_then(|number| number.parse().ok()).unwrap_or(1000);
    shuttle::check_random(model.clone(), schedules);
    shuttle::check_pct(model, schedules, 3);
}

#[test]
fn slots_that_move_between_caches_are_had_by_one_and_all_come_back() {
    explore(|| {
        let arena = Arena::new();
        let users: Vec<_> = (0..2)
            .map(|_| {
                let arena = arena.clone();
                thread::spawn(move || {
                    let mut cache = SlotCache::empty();
                    for _ in 0..2 {
                        // More than a cache keeps.
                        let taken: Vec<u64> = (0..3).filter_map(|_| arena.take(&mut cache)).collect();
                        for slot in taken {
                            assert!(free_slots::give_back(&*arena, &mut cache, slot));
                        }
                    }
                    free_slots::release(&*arena, &mut cache);
                })
            })
            .collect();
        users.into_iter().for_each(|user| user.join().expect("the thread ends"));
        assert_eq!(arena.all(), [1, 2, 3, 4, 5, 6]);
    });
}

#[test]
fn slot_that_another_thread_gives_back_is_its_own_from_then_on() {
    explore(|| {
        let arena = Arena::new();
        let (sender, receiver) = mpsc::channel();
        let taker = {
            let arena = arena.clone();
            thread::spawn(move || {
                let mut cache = SlotCache::empty();
                for _ in 0..4 {
                    arena
                        .take(&mut cache)
                        .into_iter()
                        .for_each(|slot| sender.send(slot).expect("the other thread listens"));
                }
                free_slots::release(&*arena, &mut cache);
            })
        };
        let mut cache = SlotCache::empty();
        while let Ok(slot) = receiver.recv() {
            assert!(free_slots::give_back(&*arena, &mut cache, slot));
        }
        taker.join().expect("the thread ends");
        free_slots::release(&*arena, &mut cache);
        assert_eq!(arena.all(), [1, 2, 3, 4, 5, 6]);
    });
}

#[test]
fn slot_that_two_threads_give_back_is_given_back_once() {
    explore(|| {
        let arena = Arena::new();
        let slot = arena.take(&mut SlotCache::empty()).expect("a slot");
        let users: Vec<_> = (0..2)
            .map(|_| {
                let arena = arena.clone();
                thread::spawn(move || {
                    let mut cache = SlotCache::empty();
                    let given = free_slots::give_back(&*arena, &mut cache, slot);
                    free_slots::release(&*arena, &mut cache);
                    given
                })
            })
            .collect();
        let given = users.into_iter().filter_map(|user| user.join().expect("the thread ends").then_some(())).count();
        assert_eq!(given, 1);
        assert_eq!(arena.all(), [1, 2, 3, 4, 5, 6]);
    });
}
