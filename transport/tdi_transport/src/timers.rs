//! Deadlines of endpoints.
//!
//! A heap with lazy deletion: setting a deadline is one push, dropping one costs nothing, since an entry counts
//! only if its endpoint still waits for exactly that deadline. A connect that succeeds at once sets none.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::table::Name;

/// Entries below this are not worth tidying.
const TIDY_MIN: usize = 4096;

/// A deadline in interrupt time and whose it is.
pub(crate) type Entry = (u64, Name);

#[derive(Debug)]
struct Heap {
    entries: BinaryHeap<Reverse<Entry>>,
    /// Tidied when it has grown to this.
    tidy_at: usize,
}

/// All deadlines.
#[derive(Debug)]
pub(crate) struct Timers {
    heap: Mutex<Heap>,
    /// The first deadline, `u64::MAX` for none; readable without the lock.
    earliest: AtomicU64,
}

impl Timers {
    pub(crate) const fn new() -> Self {
        let heap = Heap { entries: BinaryHeap::new(), tidy_at: TIDY_MIN };
        Self { heap: Mutex::new(heap), earliest: AtomicU64::new(u64::MAX) }
    }

    /// Enters a deadline.
    pub(crate) fn set(&self, deadline: u64, name: Name) {
        let mut heap = self.lock();
        heap.entries.push(Reverse((deadline, name)));
        self.note_earliest(&heap);
    }

    /// The first deadline.
    pub(crate) fn earliest(&self) -> Option<u64> {
        Some(self.earliest.load(Ordering::SeqCst)).filter(|&earliest| earliest != u64::MAX)
    }

    /// Takes out a deadline that is reached.
    pub(crate) fn take_due(&self, now: u64) -> Option<Entry> {
        if self.earliest.load(Ordering::Relaxed) > now {
            return None;
        }
        let mut heap = self.lock();
        let due = heap.entries.peek().is_some_and(|Reverse((deadline, _))| *deadline <= now);
        let entry = if due { heap.entries.pop() } else { None };
        self.note_earliest(&heap);
        entry.map(|Reverse(entry)| entry)
    }

    /// Drops the entries that do not count any more, once there are many. `counts` may lock endpoints.
    pub(crate) fn tidy(&self, mut counts: impl FnMut(Entry) -> bool) {
        let mut heap = self.lock();
        if heap.entries.len() < heap.tidy_at {
            return;
        }
        // Looked at without the lock, since `set` is called with an endpoint locked.
        let entries = std::mem::take(&mut heap.entries);
        drop(heap);
        let kept: BinaryHeap<_> = entries.into_iter().filter(|Reverse(entry)| counts(*entry)).collect();
        let mut heap = self.lock();
        heap.entries.extend(kept);
        heap.tidy_at = TIDY_MIN.max(heap.entries.len() * 2);
        self.note_earliest(&heap);
    }

    fn note_earliest(&self, heap: &Heap) {
        let earliest = heap.entries.peek().map_or(u64::MAX, |Reverse((deadline, _))| *deadline);
        self.earliest.store(earliest, Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, Heap> {
        self.heap.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(index: u32) -> Name {
        Name { index, generation: 1 }
    }

    #[test]
    fn deadlines_come_out_in_order_and_not_before_their_time() {
        let timers = Timers::new();
        for (deadline, index) in [(30, 3), (10, 1), (20, 2)] {
            timers.set(deadline, name(index));
        }
        assert_eq!(timers.earliest(), Some(10));
        assert_eq!(timers.take_due(9), None);
        assert_eq!(timers.take_due(25), Some((10, name(1))));
        assert_eq!(timers.take_due(25), Some((20, name(2))));
        assert_eq!(timers.take_due(25), None);
        assert_eq!(timers.earliest(), Some(30));
    }

    #[test]
    fn tidying_keeps_what_counts() {
        let timers = Timers::new();
        for index in 0..TIDY_MIN as u32 {
            timers.set(u64::from(index), name(index));
        }
        timers.tidy(|(deadline, _)| deadline % 1024 == 7);
        let kept: Vec<_> = std::iter::from_fn(|| timers.take_due(u64::MAX - 1)).map(|(deadline, _)| deadline).collect();
        assert_eq!(kept, [7, 1031, 2055, 3079]);
        assert_eq!(timers.earliest(), None);
    }
}
