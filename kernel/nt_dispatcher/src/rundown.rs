//! Run-down protection (K-142). The word is the driver's: twice the number of acquisitions, plus 1 once the owner
//! waits for them to end.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::bell::Bell;

/// The owner waits, or has waited: no more acquisitions.
const RUN_DOWN: u64 = 1;
const ONE: u64 = 2;

/// One bell for all: owners wait once in an object's life.
static RELEASED: Bell = Bell::new();

/// # Safety
/// `reference` is a driver's EX_RUNDOWN_REF that stays mapped during the use.
unsafe fn word<'a>(reference: *mut u64) -> &'a AtomicU64 {
    // SAFETY: the caller's promise.
    unsafe { AtomicU64::from_ptr(reference) }
}

/// Makes the reference one that can be acquired.
///
/// # Safety
/// `reference` is a driver's EX_RUNDOWN_REF.
pub unsafe fn initialize(reference: *mut u64) {
    // SAFETY: the caller's promise.
    unsafe { word(reference) }.store(0, Ordering::Release);
}

/// Acquires `count` times. `false` once the owner waits.
///
/// # Safety
/// As [`initialize`].
///
/// IRQL: up to DISPATCH_LEVEL.
pub unsafe fn acquire(reference: *mut u64, count: u32) -> bool {
    let add = |value: u64| (value & RUN_DOWN == 0).then(|| value + u64::from(count) * ONE);
    // SAFETY: the caller's promise.
    unsafe { word(reference) }.fetch_update(Ordering::Acquire, Ordering::Relaxed, add).is_ok()
}

/// Gives `count` acquisitions back; the reference may be gone once the last one is. More than were acquired is a
/// finding.
///
/// # Safety
/// As [`initialize`].
///
/// IRQL: up to DISPATCH_LEVEL.
pub unsafe fn release(reference: *mut u64, count: u32) {
    let subtract = |value: u64| value.checked_sub(u64::from(count) * ONE);
    // SAFETY: the caller's promise.
    match unsafe { word(reference) }.fetch_update(Ordering::Release, Ordering::Relaxed, subtract) {
        Ok(before) if before == u64::from(count) * ONE + RUN_DOWN => RELEASED.ring(),
        Ok(_) => {}
        Err(_) => {
            gate::finding("K-142", "Run-down protection was released more often than it was acquired.", gate::caller())
        }
    }
}

/// Lets no more acquisitions happen and waits until all are given back.
///
/// # Safety
/// As [`initialize`].
///
/// IRQL: up to APC_LEVEL.
pub unsafe fn wait_for_release(reference: *mut u64) {
    // SAFETY: the caller's promise.
    let word = unsafe { word(reference) };
    word.fetch_or(RUN_DOWN, Ordering::AcqRel);
    RELEASED.wait_for(reference as u64, || word.load(Ordering::Acquire) == RUN_DOWN);
}

/// Marks the reference as run down, once waiting is over.
///
/// # Safety
/// As [`initialize`].
pub unsafe fn complete(reference: *mut u64) {
    // SAFETY: the caller's promise.
    unsafe { word(reference) }.store(RUN_DOWN, Ordering::Release);
}
