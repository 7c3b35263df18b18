//! First-in-first-out queues for endpoints, of which there are many that wait for little.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

/// A queue that is nearly always empty: one word then. Once used it keeps its memory.
#[derive(Debug)]
#[expect(clippy::box_collection, reason = "one word instead of four while it is empty, which it nearly always is")]
pub(crate) struct RareQueue<T>(Option<Box<VecDeque<T>>>);

impl<T> RareQueue<T> {
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|items| items.is_empty())
    }

    pub(crate) fn push_back(&mut self, item: T) {
        self.0.get_or_insert_default().push_back(item);
    }

    pub(crate) fn front(&self) -> Option<&T> {
        self.0.as_ref()?.front()
    }

    pub(crate) fn pop_front(&mut self) -> Option<T> {
        self.0.as_mut()?.pop_front()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flat_map(|items| items.iter())
    }

    pub(crate) fn find_mut(&mut self, wanted: impl Fn(&T) -> bool) -> Option<&mut T> {
        self.0.as_mut()?.iter_mut().find(|item| wanted(item))
    }

    /// Takes out the first entry that is `wanted`.
    pub(crate) fn remove(&mut self, wanted: impl Fn(&T) -> bool) -> Option<T> {
        let items = self.0.as_mut()?;
        items.remove(items.iter().position(wanted)?)
    }
}

impl<T> Default for RareQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// A queue whose first entry needs no allocation.
///
/// An endpoint nearly always has at most one send, one receive and one output waiting; only what
/// queues behind them goes to the heap.
///
/// Invariant: `rest` is empty if `head` is.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    head: Option<T>,
    rest: RareQueue<T>,
}

impl<T> Queue<T> {
    pub(crate) const fn new() -> Self {
        Self { head: None, rest: RareQueue::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    pub(crate) fn push_back(&mut self, item: T) {
        if self.head.is_none() {
            self.head = Some(item);
        } else {
            self.rest.push_back(item);
        }
    }

    pub(crate) fn push_front(&mut self, item: T) {
        if let Some(second) = self.head.replace(item) {
            self.rest.0.get_or_insert_default().push_front(second);
        }
    }

    pub(crate) fn front(&self) -> Option<&T> {
        self.head.as_ref()
    }

    pub(crate) fn pop_front(&mut self) -> Option<T> {
        let first = self.head.take();
        self.head = self.rest.pop_front();
        first
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.head.iter().chain(self.rest.iter())
    }

    pub(crate) fn find_mut(&mut self, wanted: impl Fn(&T) -> bool) -> Option<&mut T> {
        match &mut self.head {
            Some(head) if wanted(head) => Some(head),
            _ => self.rest.find_mut(wanted),
        }
    }

    /// Takes out the first entry that is `wanted`.
    pub(crate) fn remove(&mut self, wanted: impl Fn(&T) -> bool) -> Option<T> {
        if self.head.as_ref().is_some_and(&wanted) {
            return self.pop_front();
        }
        self.rest.remove(wanted)
    }

    /// Drops every entry that is not `wanted`.
    pub(crate) fn retain(&mut self, wanted: impl Fn(&T) -> bool) {
        if let Some(rest) = &mut self.rest.0 {
            rest.retain(|item| wanted(item));
        }
        if self.head.as_ref().is_some_and(|item| !wanted(item)) {
            self.pop_front();
        }
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::Queue;

    fn queue(items: &[u32]) -> Queue<u32> {
        let mut queue = Queue::new();
        items.iter().for_each(|&item| queue.push_back(item));
        queue
    }

    fn items(queue: &Queue<u32>) -> Vec<u32> {
        queue.iter().copied().collect()
    }

    #[test]
    fn entries_leave_in_the_order_they_came() {
        let mut queue = queue(&[1, 2, 3]);
        assert_eq!(queue.front(), Some(&1));
        assert_eq!([queue.pop_front(), queue.pop_front(), queue.pop_front()], [Some(1), Some(2), Some(3)]);
        assert!(queue.is_empty() && queue.pop_front().is_none());
    }

    #[test]
    fn an_entry_pushed_to_the_front_leaves_first() {
        let mut queue = queue(&[1, 2]);
        queue.push_front(0);
        assert_eq!(items(&queue), [0, 1, 2]);
        let mut empty = Queue::new();
        empty.push_front(7);
        assert_eq!(items(&empty), [7]);
    }

    #[test]
    fn removal_takes_the_first_match_and_keeps_the_order() {
        let mut one = queue(&[1, 2, 3, 4]);
        assert_eq!(one.remove(|&item| item > 1), Some(2));
        assert_eq!(one.remove(|&item| item == 1), Some(1));
        assert_eq!(one.remove(|&item| item == 9), None);
        assert_eq!(items(&one), [3, 4]);
    }

    #[test]
    fn retain_drops_head_and_tail_alike() {
        let mut one = queue(&[1, 2, 3, 4]);
        one.retain(|&item| item % 2 == 0);
        assert_eq!(items(&one), [2, 4]);
        one.retain(|_| false);
        assert!(one.is_empty());
    }

    #[test]
    fn an_entry_is_found_wherever_it_stands() {
        let mut one = queue(&[1, 2, 3]);
        *one.find_mut(|&item| item == 1).unwrap() = 10;
        *one.find_mut(|&item| item == 3).unwrap() = 30;
        assert_eq!(items(&one), [10, 2, 30]);
        assert!(one.find_mut(|&item| item == 1).is_none());
    }
}
