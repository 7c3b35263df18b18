//! What happens when: the queue of everything that is to come.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::link::Time;

/// Things to come, in the order of time; of two at the same time, the one that was planned first.
pub(crate) struct Agenda<T> {
    heap: BinaryHeap<Entry<T>>,
    planned: u64,
}

struct Entry<T> {
    at: Time,
    number: u64,
    what: T,
}

impl<T> Agenda<T> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), planned: 0 }
    }

    pub(crate) fn plan(&mut self, at: Time, what: T) {
        self.planned += 1;
        self.heap.push(Entry { at, number: self.planned, what });
    }

    /// When the next thing happens.
    pub(crate) fn next_at(&self) -> Option<Time> {
        self.heap.peek().map(|entry| entry.at)
    }

    /// Takes the next thing, if it happens no later than `until`.
    pub(crate) fn take_due(&mut self, until: Time) -> Option<(Time, T)> {
        if self.next_at()? > until {
            return None;
        }
        self.heap.pop().map(|entry| (entry.at, entry.what))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives out its greatest, and the earliest is wanted.
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_happen_in_order_of_time_and_then_of_planning() {
        let mut agenda = Agenda::new();
        for (at, what) in [(5, 'c'), (1, 'a'), (5, 'd'), (3, 'b')] {
            agenda.plan(at, what);
        }
        assert_eq!(agenda.next_at(), Some(1));
        assert_eq!(agenda.take_due(0), None);
        let order: Vec<char> = std::iter::from_fn(|| agenda.take_due(9)).map(|(_, what)| what).collect();
        assert_eq!(order, ['a', 'b', 'c', 'd']);
    }
}
