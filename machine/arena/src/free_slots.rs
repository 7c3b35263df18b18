//! Free slots: each thread's own cache in front of those that all threads share.
//!
//! A free slot is in one list, and a list belongs to one thread or is under the shared lock. The one word that threads compare and
//! exchange is a slot's state: of two that give the same slot back, one does.

use crate::sync::{Mutex, MutexGuard, PoisonError};

/// The slots' memory; 0 is no slot.
pub(crate) trait Slots {
    /// Slots that move between a cache and the shared list at once.
    const BATCH: u32;

    /// The slot behind a free one in its list.
    fn link(&self, slot: u64) -> u64;
    /// Sets that.
    fn set_link(&self, slot: u64, link: u64);
    /// Marks a slot in use as free. `false` if it is none, or no more.
    fn end_use(&self, slot: u64) -> bool;
    /// How many slots there can be if there are `made` now: up to a batch more, as many if memory is exhausted.
    fn grow(&self, made: u64) -> u64;
    /// Makes the slot of a number, a free one.
    fn make(&self, number: u64) -> u64;
    /// What all threads share.
    fn shared(&self) -> &Mutex<Shared>;
}

/// What all threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    free: u64,
    /// Slots that were ever made.
    pub made: u64,
}

impl Shared {
    /// No slots.
    pub(crate) const fn none() -> Self {
        Self { free: 0, made: 0 }
    }
}

/// A thread's own free slots of one arena. All zero is an empty cache.
#[derive(Debug, Default)]
#[repr(C)]
pub struct SlotCache {
    head: u64,
    count: u32,
}

impl SlotCache {
    /// A cache without slots.
    pub const fn empty() -> Self {
        Self { head: 0, count: 0 }
    }
}

pub(crate) fn lock<S: Slots>(slots: &S) -> MutexGuard<'_, Shared> {
    slots.shared().lock().unwrap_or_else(PoisonError::into_inner)
}

/// A free slot, which is in no list any more. `None` when there is none.
#[inline]
pub(crate) fn take<S: Slots>(slots: &S, cache: &mut SlotCache) -> Option<u64> {
    if cache.count == 0 {
        refill(slots, cache)?;
    }
    let slot = cache.head;
    cache.head = slots.link(slot);
    cache.count -= 1;
    Some(slot)
}

/// Gives a slot back. `false` (and no effect) if it is not in use.
#[inline]
pub(crate) fn give_back<S: Slots>(slots: &S, cache: &mut SlotCache, slot: u64) -> bool {
    if !slots.end_use(slot) {
        return false;
    }
    slots.set_link(slot, cache.head);
    cache.head = slot;
    cache.count += 1;
    if cache.count > 2 * S::BATCH {
        move_to_shared(slots, cache, S::BATCH);
    }
    true
}

/// Moves all of a thread's slots back.
pub(crate) fn release<S: Slots>(slots: &S, cache: &mut SlotCache) {
    move_to_shared(slots, cache, cache.count);
}

#[cold]
fn refill<S: Slots>(slots: &S, cache: &mut SlotCache) -> Option<()> {
    let mut shared = lock(slots);
    while cache.count < S::BATCH {
        if shared.free == 0 {
            let end = slots.grow(shared.made);
            if end == shared.made {
                break;
            }
            for number in shared.made..end {
                let slot = slots.make(number);
                slots.set_link(slot, shared.free);
                shared.free = slot;
            }
            shared.made = end;
        }
        move_one(slots, &mut shared.free, &mut cache.head);
        cache.count += 1;
    }
    (cache.count > 0).then_some(())
}

#[cold]
fn move_to_shared<S: Slots>(slots: &S, cache: &mut SlotCache, count: u32) {
    let mut shared = lock(slots);
    for _ in 0..count {
        move_one(slots, &mut cache.head, &mut shared.free);
        cache.count -= 1;
    }
}

/// Moves the first slot of one list to another; the caller has both.
fn move_one<S: Slots>(slots: &S, from: &mut u64, to: &mut u64) {
    let slot = *from;
    *from = slots.link(slot);
    slots.set_link(slot, *to);
    *to = slot;
}
