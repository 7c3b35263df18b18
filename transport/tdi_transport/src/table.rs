//! Tables of things that have a lock and a name with a generation.
//!
//! A name that outlived its thing finds nothing, whatever the slot holds by then; so names may lie in memory
//! that drivers can write to (`FsContext`) and in queues that are worked off late.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tdi_core::{AddressId, EndpointId};

use crate::slab::Slab;

/// A name of something in a [`Table`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl Name {
    /// As one word. Never 0.
    pub(crate) const fn pack(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    /// The inverse of [`Name::pack`], for any word.
    pub(crate) const fn unpack(word: u64) -> Self {
        Self { index: word as u32, generation: (word >> 32) as u32 }
    }
}

impl From<EndpointId> for Name {
    fn from(id: EndpointId) -> Self {
        Self { index: id.index, generation: id.generation }
    }
}

impl From<Name> for EndpointId {
    fn from(name: Name) -> Self {
        Self { index: name.index, generation: name.generation }
    }
}

impl From<AddressId> for Name {
    fn from(id: AddressId) -> Self {
        Self { index: id.index, generation: id.generation }
    }
}

impl From<Name> for AddressId {
    fn from(name: Name) -> Self {
        Self { index: name.index, generation: name.generation }
    }
}

#[derive(Debug)]
struct Cell<T> {
    /// Of the thing that is here now or comes next. Never 0.
    generation: u32,
    value: Option<T>,
}

#[derive(Debug)]
struct Slot<T>(Mutex<Cell<T>>);

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(Mutex::new(Cell { generation: 1, value: None }))
    }
}

/// Things by name, each under its own lock.
#[derive(Debug)]
pub(crate) struct Table<T> {
    slots: Slab<Slot<T>>,
}

impl<T> Table<T> {
    pub(crate) const fn new() -> Self {
        Self { slots: Slab::new() }
    }

    /// Puts something in, made with the name it gets. `None` when the table is full.
    pub(crate) fn insert(&self, make: impl FnOnce(Name) -> T) -> Option<Name> {
        let index = self.slots.take()?;
        let mut cell = lock(self.slots.get(index)?);
        let name = Name { index, generation: cell.generation };
        cell.value = Some(make(name));
        Some(name)
    }

    /// Locks what has this name, if it is still there.
    #[inline]
    pub(crate) fn lock(&self, name: impl Into<Name>) -> Option<Locked<'_, T>> {
        let name = name.into();
        let cell = lock(self.slots.get(name.index)?);
        (cell.generation == name.generation && cell.value.is_some()).then_some(Locked { cell, name })
    }

    /// Locks what is in this slot now, for names that carry another mark than the generation.
    pub(crate) fn lock_slot(&self, index: u32) -> Option<Locked<'_, T>> {
        let cell = lock(self.slots.get(index)?);
        let name = Name { index, generation: cell.generation };
        cell.value.is_some().then_some(Locked { cell, name })
    }

    /// Takes it out. What comes back should be dropped without locks.
    pub(crate) fn remove(&self, mut locked: Locked<'_, T>) -> Option<T> {
        let value = locked.cell.value.take();
        locked.cell.generation = locked.cell.generation.wrapping_add(1).max(1);
        let index = locked.name.index;
        drop(locked);
        self.slots.give_back(index);
        value
    }

    /// Visits everything, each under its lock.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(Name, &T)) {
        self.slots.for_each(|index, slot| {
            let cell = lock(slot);
            if let Some(value) = &cell.value {
                visit(Name { index, generation: cell.generation }, value);
            }
        });
    }
}

/// Something of a table, locked.
#[derive(Debug)]
pub(crate) struct Locked<'a, T> {
    /// Invariant: its value is there.
    cell: MutexGuard<'a, Cell<T>>,
    name: Name,
}

impl<T> Locked<'_, T> {
    pub(crate) fn name(&self) -> Name {
        self.name
    }
}

impl<T> Deref for Locked<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.cell.value.as_ref().expect("the invariant of `Locked`")
    }
}

impl<T> DerefMut for Locked<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.cell.value.as_mut().expect("the invariant of `Locked`")
    }
}

fn lock<T>(slot: &Slot<T>) -> MutexGuard<'_, Cell<T>> {
    slot.0.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_a_kernel_thread(test: impl FnOnce() + Send) {
        std::thread::scope(|scope| {
            let run = || {
                nt_dispatcher::thread::adopt_current().expect("a kernel thread");
                test();
            };
            scope.spawn(run).join().expect("the test's thread");
        });
    }

    #[test]
    fn stale_name_finds_nothing_though_its_slot_is_used_again() {
        on_a_kernel_thread(|| {
            let table = Table::new();
            let first = table.insert(|_| 'a').expect("room");
            assert_eq!(table.remove(table.lock(first).expect("there")), Some('a'));
            let second = table.insert(|_| 'b').expect("room");
            assert_eq!(second.index, first.index);
            assert!(table.lock(first).is_none());
            assert_eq!(*table.lock(second).expect("there"), 'b');
            assert!(table.lock(Name::unpack(0)).is_none() && table.lock(Name::unpack(u64::MAX)).is_none());
        });
    }

    #[test]
    fn every_one_of_many_has_a_name_of_its_own() {
        on_a_kernel_thread(|| {
            let table = Table::new();
            let names: Vec<_> = (0..1000).map(|number| table.insert(|_| number).expect("room")).collect();
            for (number, &name) in names.iter().enumerate() {
                assert_eq!(*table.lock(name).expect("there"), number);
            }
            let mut seen = 0;
            table.for_each(|_, _| seen += 1);
            assert_eq!(seen, 1000);
            for name in names {
                table.remove(table.lock(name).expect("there"));
            }
            table.for_each(|_, _| seen -= 1);
            assert_eq!(seen, 1000);
        });
    }
}
