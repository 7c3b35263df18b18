//! How a ring's reader tells what its writer did not overwrite meanwhile.
//!
//! The writer begins each record with a fence, stores its words, and publishes the head behind it. The reader takes the
//! head, copies, and looks at the head again: slots within a ring's length of it, less a margin for the record in the
//! making, are whole. A reader that copied a word of a record in the making also sees, through the fences, the head
//! published before it. `tests/models` runs this file in every order of its steps.

use crate::sync::{AtomicU64, Ordering, fence};

/// Slots copied out of a ring.
#[derive(Debug)]
pub(crate) struct Copied<T> {
    /// Number of the first slot since the start of the ring.
    pub first: u64,
    pub slots: Vec<T>,
}

/// The writer: begins a record. Its words are stored after this.
#[inline]
pub(crate) fn begin() {
    fence(Ordering::Release);
}

/// The writer: shows the reader everything in front of `next`.
#[inline]
pub(crate) fn publish(head: &AtomicU64, next: u64) {
    head.store(next, Ordering::Release);
}

/// The reader: the head.
pub(crate) fn published(head: &AtomicU64) -> u64 {
    head.load(Ordering::Acquire)
}

/// The reader: copies the slots from `tail` to `until`, a head that was published, but for those that may have been
/// overwritten before they were copied. Records take at most `margin` slots.
pub(crate) fn copy<S, T>(
    ring: &[S],
    margin: u64,
    head: &AtomicU64,
    (tail, until): (u64, u64),
    copy_slot: impl Fn(&S) -> T,
) -> Copied<T> {
    let capacity = ring.len() as u64;
    let keep = until.wrapping_sub(tail).min(capacity - margin);
    let mut first = until.wrapping_sub(keep);
    let copy = |number: u64| ring.get((number % capacity) as usize).map(&copy_slot);
    let mut slots: Vec<_> = (0..keep).filter_map(|offset| copy(first.wrapping_add(offset))).collect();
    // What we copied of a record in the making tells us, through this fence, the head before it.
    fence(Ordering::Acquire);
    let overwritten = head.load(Ordering::Relaxed).wrapping_add(margin).wrapping_sub(capacity);
    let torn = overwritten.wrapping_sub(first);
    if torn.cast_signed() > 0 {
        let torn = torn.min(keep);
        slots.drain(..torn as usize);
        first = first.wrapping_add(torn);
    }
    Copied { first, slots }
}
