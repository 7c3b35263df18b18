//! Events (K-124): the signal state is the driver's memory, and the only truth.

use std::sync::atomic::{AtomicI32, Ordering};

use nt_abi::dispatcher::DispatcherType;
use nt_abi::{KernelEvent, ListEntry};

use crate::wait;

/// The signal state of any dispatcher object.
///
/// # Safety
/// `object` points to a dispatcher header that stays mapped during the call.
pub(crate) unsafe fn signal_state<'a>(object: u64) -> &'a AtomicI32 {
    // SAFETY: the caller's promise; offset 4 is `DISPATCHER_HEADER.SignalState`, aligned with its header.
    unsafe { AtomicI32::from_ptr((object + 4) as *mut i32) }
}

/// Makes the memory at `event` an event.
///
/// # Safety
/// `event` is 24 writable bytes, 8-aligned, that no thread waits on.
pub unsafe fn initialize(event: *mut KernelEvent, kind: DispatcherType, signalled: bool) {
    if wait::might_have_waiters(event as u64) {
        wait::report_waiters(event as u64);
    }
    // SAFETY: the caller's promise.
    unsafe {
        let list = &raw mut (*event).header.wait_list_head;
        (*event).header.kind = kind;
        (*event).header.absolute = 0;
        (*event).header.size = (size_of::<KernelEvent>() / 4) as u8;
        (*event).header.inserted = 0;
        *list = ListEntry { flink: list, blink: list };
        signal_state(event as u64).store(signalled.into(), Ordering::Release);
    }
}

/// Signals the event and gives its state before. Not touched any more once a waiter is released (K-149).
///
/// # Safety
/// `event` is an initialised event.
///
/// IRQL: up to DISPATCH_LEVEL.
pub unsafe fn set(event: *mut KernelEvent) -> i32 {
    // SAFETY: the caller's promise. SeqCst: ordered before the look at the waiters (see `wait::wake`).
    let old = unsafe { signal_state(event as u64) }.swap(1, Ordering::SeqCst);
    wait::wake(event as u64);
    old
}

/// Releases who waits now and leaves the event not signalled: all of them for a notification event, the first for a
/// synchronization event. Gives the state before. A wait for all of several objects ends if the others are signalled.
///
/// # Safety
/// `event` is an initialised event.
///
/// IRQL: up to DISPATCH_LEVEL.
pub unsafe fn pulse(event: *mut KernelEvent) -> i32 {
    // SAFETY: the caller's promise. The event is not signalled in between, so nobody has to be undone, and it is not
    // touched once a waiter is released (K-149).
    let (old, kind) = unsafe { (signal_state(event as u64).swap(0, Ordering::SeqCst), (*event).header.kind) };
    let count = if kind == DispatcherType::SYNCHRONIZATION_EVENT { 1 } else { usize::MAX };
    wait::release_waiters(event as u64, count);
    old
}

/// Gives the event's state.
///
/// # Safety
/// `event` is an initialised event.
pub unsafe fn read(event: *mut KernelEvent) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { signal_state(event as u64) }.load(Ordering::Acquire)
}

/// Makes the event not signalled and gives its state before.
///
/// # Safety
/// `event` is an initialised event.
pub unsafe fn reset(event: *mut KernelEvent) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { signal_state(event as u64) }.swap(0, Ordering::SeqCst)
}
