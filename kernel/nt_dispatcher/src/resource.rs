//! ERESOURCE: locks with owners, many to read or one to write, recursive for each thread (K-145, K-153).
//!
//! A resource's memory is opaque to drivers, so nothing lies in it: all is kept here, by address. Threads are let
//! in in the order they came, but a thread that holds the resource already does not wait behind others.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use host_lock::{Mutex, MutexGuard};
use nt_abi::exception::BugCheck;

use crate::bell::Bell;
use crate::thread;

/// Bytes of an ERESOURCE.
pub const BYTES: usize = 0x68;

/// How a thread wants to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Behind threads that wait to write, unless it reads already.
    Usual,
    /// Before threads that wait to write (`ExAcquireSharedStarveExclusive`).
    StarveExclusive,
    /// Behind threads that wait to write, even if it reads already (`ExAcquireSharedWaitForExclusive`).
    WaitForExclusive,
}

#[derive(Clone, Copy)]
struct Owner {
    thread: u64,
    count: u32,
}

struct Waiter {
    thread: u64,
    is_exclusive: bool,
    is_granted: Arc<AtomicBool>,
}

#[derive(Default)]
struct Resource {
    writer: Option<Owner>,
    readers: Vec<Owner>,
    waiters: VecDeque<Waiter>,
    /// Who initialised it.
    caller: u64,
}

static RESOURCES: Mutex<BTreeMap<u64, Resource>> = Mutex::new(BTreeMap::new());
static GRANTED: Bell = Bell::new();

fn resources() -> MutexGuard<'static, BTreeMap<u64, Resource>> {
    RESOURCES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Resource {
    fn reader(&mut self, thread: u64) -> Option<&mut Owner> {
        self.readers.iter_mut().find(|owner| owner.thread == thread)
    }

    fn waits_exclusive(&self) -> bool {
        self.waiters.iter().any(|waiter| waiter.is_exclusive)
    }

    fn try_exclusive(&mut self, thread: u64) -> bool {
        match &mut self.writer {
            Some(owner) if owner.thread == thread => owner.count += 1,
            None if self.readers.is_empty() => self.writer = Some(Owner { thread, count: 1 }),
            _ => return false,
        }
        true
    }

    fn try_shared(&mut self, thread: u64, sharing: Sharing) -> bool {
        if let Some(owner) = &mut self.writer {
            let is_mine = owner.thread == thread;
            owner.count += u32::from(is_mine);
            return is_mine;
        }
        let waits_exclusive = self.waits_exclusive();
        if let Some(owner) = self.reader(thread) {
            let may = !waits_exclusive || sharing != Sharing::WaitForExclusive;
            owner.count += u32::from(may);
            return may;
        }
        let may = !waits_exclusive || sharing == Sharing::StarveExclusive;
        if may {
            self.readers.push(Owner { thread, count: 1 });
        }
        may
    }

    /// Lets in who may come in now, in order.
    fn grant(&mut self) {
        while let Some(first) = self.waiters.pop_front() {
            let granted = if first.is_exclusive {
                self.writer.is_none() && self.try_exclusive(first.thread)
            } else {
                // No longer behind itself.
                self.writer.is_none() && self.try_shared(first.thread, Sharing::StarveExclusive)
            };
            if !granted {
                self.waiters.push_front(first);
                break;
            }
            first.is_granted.store(true, Ordering::Release);
        }
        GRANTED.ring();
    }

    /// Gives one acquisition of `thread` back. `false` if it has none.
    fn release(&mut self, thread: u64) -> bool {
        if let Some(owner) = self.writer.as_mut().filter(|owner| owner.thread == thread) {
            owner.count -= 1;
            if owner.count == 0 {
                self.writer = None;
            }
        } else if let Some(index) = self.readers.iter().position(|owner| owner.thread == thread) {
            self.readers[index].count -= 1;
            if self.readers[index].count == 0 {
                self.readers.remove(index);
            }
        } else {
            return false;
        }
        self.grant();
        true
    }
}

/// Makes the memory at `resource` one that nobody owns.
pub fn initialize(resource: u64, caller: u64) {
    let old = resources().insert(resource, Resource { caller, ..Resource::default() });
    if old.is_some_and(|old| old.writer.is_some() || !old.readers.is_empty() || !old.waiters.is_empty()) {
        gate::finding("K-150", "A resource was initialised again while threads own it or wait for it.", caller);
    }
}

/// Forgets a resource. One that is owned is a finding.
pub fn delete(resource: u64, caller: u64) {
    match resources().remove(&resource) {
        Some(old) if old.writer.is_none() && old.readers.is_empty() && old.waiters.is_empty() => {}
        Some(_) => gate::finding("K-145", "A resource was deleted while threads own it or wait for it.", caller),
        None => gate::finding("K-145", "A resource was deleted that was never initialised, or twice.", caller),
    }
}

/// Takes the resource to write. `false` only if it is not free and `wait` is not set.
///
/// IRQL: up to APC_LEVEL.
pub fn acquire_exclusive(resource: u64, wait: bool) -> bool {
    let thread = gate::thread::current_thread_object();
    acquire(resource, wait, true, |state| {
        let taken = state.try_exclusive(thread);
        if !taken && wait && state.reader(thread).is_some() {
            thread::wait_for_self(resource, "a resource that it holds to read and wants to write");
        }
        taken
    })
}

/// Takes the resource to read. `false` only if that is not possible now and `wait` is not set.
///
/// IRQL: up to APC_LEVEL.
pub fn acquire_shared(resource: u64, wait: bool, sharing: Sharing) -> bool {
    let thread = gate::thread::current_thread_object();
    acquire(resource, wait, false, |state| state.try_shared(thread, sharing))
}

fn acquire(resource: u64, wait: bool, is_exclusive: bool, take: impl FnOnce(&mut Resource) -> bool) -> bool {
    if !thread::is_in_region() {
        gate::finding(
            "K-145",
            "A resource was acquired with normal kernel APCs enabled: call KeEnterCriticalRegion first.",
            gate::caller(),
        );
    }
    let mut resources = resources();
    let state = resources.entry(resource).or_insert_with(|| {
        gate::finding("K-145", "A resource was acquired that was never initialised.", gate::caller());
        Resource { caller: gate::caller(), ..Resource::default() }
    });
    if take(state) {
        return true;
    }
    if !wait {
        return false;
    }
    let is_granted = Arc::new(AtomicBool::new(false));
    let thread = gate::thread::current_thread_object();
    state.waiters.push_back(Waiter { thread, is_exclusive, is_granted: Arc::clone(&is_granted) });
    drop(resources);
    GRANTED.wait_for(resource, || is_granted.load(Ordering::Acquire));
    true
}

/// Gives one acquisition of `thread` back. One that it does not have ends the run (K-153).
///
/// IRQL: up to DISPATCH_LEVEL.
pub fn release(resource: u64, thread: u64) {
    let released = resources().get_mut(&resource).is_some_and(|state| state.release(thread));
    if !released {
        gate::bugcheck(BugCheck::RESOURCE_NOT_OWNED, [resource, thread, 0, 0]);
    }
}

/// Makes the calling thread, which writes, one that reads.
pub fn convert_to_shared(resource: u64) {
    let thread = gate::thread::current_thread_object();
    let mut resources = resources();
    let state = resources.get_mut(&resource).filter(|state| state.writer.is_some_and(|owner| owner.thread == thread));
    let Some(state) = state else {
        gate::bugcheck(BugCheck::RESOURCE_NOT_OWNED, [resource, thread, 0, 0]);
    };
    state.readers.extend(state.writer.take());
    state.grant();
}

/// How often the calling thread has the resource, to write or at all.
pub fn acquisitions(resource: u64, only_exclusive: bool) -> u32 {
    let thread = gate::thread::current_thread_object();
    let mut resources = resources();
    let Some(state) = resources.get_mut(&resource) else { return 0 };
    if let Some(owner) = state.writer.filter(|owner| owner.thread == thread) {
        return owner.count;
    }
    if only_exclusive { 0 } else { state.reader(thread).map_or(0, |owner| owner.count) }
}

/// Threads that wait to write, or to read.
pub fn waiters(resource: u64, exclusive: bool) -> u32 {
    let resources = resources();
    let Some(state) = resources.get(&resource) else { return 0 };
    state.waiters.iter().filter(|waiter| waiter.is_exclusive == exclusive).count() as u32
}

/// Visits resources that were not deleted, with the driver instruction that initialised each.
pub fn for_each_live(mut visit: impl FnMut(u64, u64)) {
    let all: Vec<_> = resources().iter().map(|(&resource, state)| (resource, state.caller)).collect();
    all.into_iter().for_each(|(resource, caller)| visit(resource, caller));
}

/// The first resource in a range of addresses that was not deleted, with the driver instruction that initialised it:
/// for whoever is about to free the memory.
pub fn left_in(range: Range<u64>) -> Option<(u64, u64)> {
    resources().range(range).next().map(|(&address, state)| (address, state.caller))
}
