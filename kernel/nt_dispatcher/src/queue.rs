//! Kernel queues (`KQUEUE`): entries that threads wait for.
//!
//! The signal state is the number of entries that no thread was granted. The list is the driver's memory; only this
//! module touches it, under one lock. NT also holds threads back while as many as the queue was made for are busy with
//! entries: drivers cannot rely on that, since a thread that waits for anything else lets another go, and it is not done
//! here.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use host_lock::{Mutex, MutexGuard};
use nt_abi::dispatcher::DispatcherType;
use nt_abi::{DispatcherHeader, ListEntry, NtStatus};

use crate::event::{self, signal_state};
use crate::thread::PROCESSORS;
use crate::wait;

/// `KQUEUE`.
#[doc(alias = "KQUEUE")]
#[derive(Debug)]
#[repr(C)]
pub struct Queue {
    header: DispatcherHeader,
    entries: ListEntry,
    current_count: u32,
    maximum_count: u32,
    threads: ListEntry,
}

const _: () = assert!(size_of::<Queue>() == 0x40);

static LISTS: Mutex<()> = Mutex::new(());

fn lists() -> MutexGuard<'static, ()> {
    LISTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the memory at `queue` an empty queue; `count` is how many threads are to be busy at once, 0 as many as there
/// are processors.
///
/// # Safety
/// `queue` is a driver's KQUEUE that no thread waits on.
pub unsafe fn initialize(queue: *mut Queue, count: u32) {
    // SAFETY: the caller's promise; a queue begins like an event.
    unsafe {
        event::initialize(queue.cast(), DispatcherType::QUEUE, false);
        (*queue).header.size = (size_of::<Queue>() / 4) as u8;
        for list in [&raw mut (*queue).entries, &raw mut (*queue).threads] {
            *list = ListEntry { flink: list, blink: list };
        }
        (*queue).current_count = 0;
        (*queue).maximum_count = if count == 0 { PROCESSORS } else { count };
    }
}

/// Puts an entry in, at the end or in front, and gives how many there were.
///
/// # Safety
/// `queue` is an initialised queue, `entry` a driver's LIST_ENTRY in no list.
///
/// IRQL: up to DISPATCH_LEVEL.
pub unsafe fn insert(queue: *mut Queue, entry: *mut ListEntry, in_front: bool) -> i32 {
    let guard = lists();
    // SAFETY: the caller's promise; the list is changed under the lock only.
    let old = unsafe {
        let head = &raw mut (*queue).entries;
        let before = if in_front { head } else { (*head).blink };
        let behind = (*before).flink;
        *entry = ListEntry { flink: behind, blink: before };
        (*before).flink = entry;
        (*behind).blink = entry;
        signal_state(queue as u64).fetch_add(1, Ordering::SeqCst)
    };
    drop(guard);
    wait::wake(queue as u64);
    old
}

/// Takes the first entry out; null if there is none.
///
/// # Safety
/// `queue` is an initialised queue.
unsafe fn pop(queue: *mut Queue) -> *mut ListEntry {
    let _guard = lists();
    // SAFETY: the caller's promise; the list is changed under the lock only.
    unsafe {
        let head = &raw mut (*queue).entries;
        let first = (*head).flink;
        if first == head {
            return std::ptr::null_mut();
        }
        let behind = (*first).flink;
        (*head).flink = behind;
        (*behind).blink = head;
        first
    }
}

/// Waits for an entry and takes it out.
///
/// # Errors
/// STATUS_TIMEOUT, or STATUS_ALERTED if `alertable`.
///
/// # Safety
/// As [`insert`].
///
/// IRQL: up to APC_LEVEL, with a timeout of 0 up to DISPATCH_LEVEL.
pub unsafe fn remove(queue: *mut Queue, timeout: Option<i64>, alertable: bool) -> Result<*mut ListEntry, NtStatus> {
    loop {
        // SAFETY: the caller's promise.
        match unsafe { wait::wait_single_alertable(queue as u64, timeout, alertable) } {
            NtStatus::SUCCESS => {}
            status => return Err(status),
        }
        // SAFETY: the caller's promise.
        let entry = unsafe { pop(queue) };
        // Whoever runs a queue down takes what others were granted a moment ago.
        if !entry.is_null() {
            return Ok(entry);
        }
    }
}

/// Takes all entries out: gives the first of a circle of them, null if there are none.
///
/// # Safety
/// As [`insert`].
pub unsafe fn run_down(queue: *mut Queue) -> *mut ListEntry {
    let _guard = lists();
    // SAFETY: the caller's promise; the list is changed under the lock only.
    unsafe {
        let head = &raw mut (*queue).entries;
        signal_state(queue as u64).store(0, Ordering::SeqCst);
        let (first, last) = ((*head).flink, (*head).blink);
        *head = ListEntry { flink: head, blink: head };
        if first == head {
            return std::ptr::null_mut();
        }
        (*first).blink = last;
        (*last).flink = first;
        first
    }
}
