//! Cancelling requests (K-070 to K-084).

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use nt_abi::exception::BugCheck;
use nt_abi::{Irp, Irql};
use nt_dispatcher::spin;
use trace::Event;

use crate::irp;

/// The one cancel spin lock of the system (K-081).
static LOCK: AtomicU64 = AtomicU64::new(0);

/// Takes the cancel spin lock and gives the level to restore.
///
/// IRQL: up to DISPATCH_LEVEL.
pub fn acquire_lock() -> Irql {
    // SAFETY: a static lock word.
    unsafe { spin::acquire_raise(LOCK.as_ptr()) }
}

/// Gives the cancel spin lock back.
pub fn release_lock(level: Irql) {
    // SAFETY: a static lock word.
    unsafe { spin::release_lower(LOCK.as_ptr(), level) }
}

/// Exchanges a packet's cancel routine, as the inlined `IoSetCancelRoutine` does (K-003).
///
/// # Safety
/// `irp` is a packet the caller holds.
pub unsafe fn set_routine(irp: *mut Irp, routine: u64) -> u64 {
    // SAFETY: the caller's promise; drivers exchange the same word atomically.
    unsafe { AtomicU64::from_ptr(&raw mut (*irp).cancel_routine) }.swap(routine, Ordering::AcqRel)
}

/// Whether a packet was cancelled.
///
/// # Safety
/// `irp` is a packet the caller holds.
pub unsafe fn is_cancelled(irp: *mut Irp) -> bool {
    // SAFETY: the caller's promise.
    unsafe { AtomicU8::from_ptr(&raw mut (*irp).cancel) }.load(Ordering::Acquire) != 0
}

/// `IoCancelIrp`: sets the mark, then calls the cancel routine, if there is one, at DISPATCH_LEVEL with the
/// cancel spin lock held (K-070, K-079). Returns whether a routine was called.
///
/// # Safety
/// `irp` is a packet that surely exists (K-083).
///
/// IRQL: up to DISPATCH_LEVEL.
pub unsafe fn cancel(irp: *mut Irp) -> bool {
    // SAFETY: the caller's promise.
    if unsafe { irp::is_none(irp) } {
        gate::bugcheck(BugCheck::CANCEL_STATE_IN_COMPLETED_IRP, [irp as u64, 0, 0, 0]);
    }
    gate::record(Event::IrpCancelled { irp: irp as u64 });
    let level = acquire_lock();
    // SAFETY: the caller's promise.
    unsafe {
        AtomicU8::from_ptr(&raw mut (*irp).cancel).store(1, Ordering::Release);
        let routine = set_routine(irp, 0);
        if routine == 0 {
            release_lock(level);
            return false;
        }
        let device = (*irp::current_location(irp)).device_object;
        call_routine(routine, device as u64, irp, level);
    }
    true
}

/// Calls a cancel routine, which is to give back the cancel spin lock and with it `level`.
///
/// # Safety
/// The calling thread holds the lock; `routine` is what was set for `irp`.
pub(crate) unsafe fn call_routine(routine: u64, device: u64, irp: *mut Irp, level: Irql) {
    // SAFETY: the caller's promise.
    unsafe {
        (*irp).cancel_irql = level.0;
        // `call` would report the change of level as a fault, so the level it must return at is set for it.
        gate::call::call2_leaving_at(routine, device, irp as u64, level);
    }
    // An exception may have passed the routine before it gave the lock back, which NT would then keep for good.
    // SAFETY: a static lock word.
    if gate::seh::is_leaving() && unsafe { spin::is_own(LOCK.as_ptr()) } {
        release_lock(level);
    }
}
