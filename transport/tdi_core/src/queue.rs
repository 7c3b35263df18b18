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

    /// Takes out the only entry that is `wanted`. Looks from both ends, so that those who take all entries out in their
    /// order, or against it, find each at once.
    pub(crate) fn remove_only(&mut self, wanted: impl Fn(&T) -> bool) -> Option<T> {
        let items = self.0.as_mut()?;
        let last = items.len().checked_sub(1)?;
        let mut places = (0..=last / 2).flat_map(|near| [near, last - near]);
        let at = places.find(|at| items.get(*at).is_some_and(&wanted))?;
        items.remove(at)
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

    /// As [`RareQueue::remove_only`].
    pub(crate) fn remove_only(&mut self, wanted: impl Fn(&T) -> bool) -> Option<T> {
        if self.head.as_ref().is_some_and(&wanted) {
            return self.pop_front();
        }
        self.rest.remove_only(wanted)
    }

    /// Puts an entry in front of the first that is `later`.
    pub(crate) fn insert_before(&mut self, item: T, later: impl Fn(&T) -> bool) {
        match &self.head {
            None => self.head = Some(item),
            Some(head) if later(head) => self.push_front(item),
            Some(_) => {
                let rest = self.rest.0.get_or_insert_default();
                let at = rest.iter().position(later).unwrap_or(rest.len());
                rest.insert(at, item);
            }
        }
    }

    /// Takes out the first entry that is `wanted`, unless one that is `later` comes before it: behind that it does not look.
    pub(crate) fn remove_before(&mut self, wanted: impl Fn(&T) -> bool, later: impl Fn(&T) -> bool) -> Option<T> {
        let at = self.iter().position(|item| wanted(item) || later(item))?;
        if at == 0 {
            return if wanted(self.head.as_ref()?) { self.pop_front() } else { None };
        }
        let rest = self.rest.0.as_mut()?;
        if wanted(rest.get(at - 1)?) { rest.remove(at - 1) } else { None }
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

    use core::cell::Cell;

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
    fn the_only_match_is_found_from_either_end_at_once() {
        let mut one = queue(&(0..1000).collect::<Vec<_>>());
        let asked = Cell::new(0);
        let mut remove = |wanted| {
            one.remove_only(|&item| {
                asked.set(asked.get() + 1);
                item == wanted
            })
        };
        let ends: Vec<u32> = (0..500).flat_map(|near| [near, 999 - near]).collect();
        assert!(ends.iter().all(|&wanted| remove(wanted) == Some(wanted)));
        assert_eq!(remove(1), None);
        assert!(asked.get() <= 3 * 1000, "{} entries were looked at", asked.get());
    }

    #[test]
    fn the_only_match_is_found_wherever_it_stands_and_the_order_stays() {
        for count in 0..7 {
            let all: Vec<u32> = (0..count).collect();
            for wanted in 0..=count {
                let mut one = queue(&all);
                assert_eq!(one.remove_only(|&item| item == wanted), (wanted < count).then_some(wanted));
                assert!(items(&one).into_iter().eq(all.iter().copied().filter(|&item| item != wanted)));
            }
        }
    }

    #[test]
    fn an_entry_is_put_in_front_of_the_first_later_one() {
        let mut one = Queue::new();
        for item in [20, 10, 30, 11, 21, 31, 12] {
            one.insert_before(item, |&other| other / 10 > item / 10);
        }
        assert_eq!(items(&one), [10, 11, 12, 20, 21, 30, 31]);
    }

    #[test]
    fn nothing_is_looked_for_behind_a_later_entry() {
        let mut one = queue(&[10, 11, 20]);
        (30..1000).for_each(|item| one.push_back(item));
        one.push_back(12);
        let asked = Cell::new(0);
        let mut take = |ten: u32| {
            let wanted = |item: &u32| {
                asked.set(asked.get() + 1);
                item / 10 == ten
            };
            one.remove_before(wanted, |item| item / 10 > ten)
        };
        assert_eq!([take(2), take(1), take(1), take(1), take(2)], [Some(20), Some(10), Some(11), None, None]);
        assert_eq!([take(3), take(3)], [Some(30), Some(31)]);
        assert!(asked.get() <= 20, "{} entries were looked at", asked.get());
        assert_eq!(items(&one).last(), Some(&12));
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
