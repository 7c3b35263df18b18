//! Spin locks (K-004, K-121, K-122, K-153). The lock word is the driver's; 0 is free.

use std::hint;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use nt_abi::Irql;

use crate::dpc;

/// Turns before a spinning thread lets others run: the holder may be preempted by Linux.
const TURNS_MAX: u32 = 200;

/// The lock at `address`.
///
/// # Safety
/// `address` is a driver's KSPIN_LOCK: eight aligned bytes that stay mapped during the call.
unsafe fn word<'a>(address: *mut u64) -> &'a AtomicU64 {
    // SAFETY: the caller's promise; a bad address faults here and is blamed on the importing driver.
    unsafe { AtomicU64::from_ptr(address) }
}

/// Takes the lock without touching the level (`KeAcquireSpinLockAtDpcLevel`).
///
/// # Safety
/// As for [`release`]: `lock` is a driver's lock word.
pub unsafe fn acquire(lock: *mut u64) {
    // SAFETY: the caller's promise.
    let lock = unsafe { word(lock) };
    let mut turns = 0;
    while lock.swap(1, Ordering::Acquire) != 0 {
        while lock.load(Ordering::Relaxed) != 0 {
            turns += 1;
            if turns % TURNS_MAX == 0 {
                thread::yield_now();
            } else {
                hint::spin_loop();
            }
        }
    }
}

/// Gives the lock back without touching the level. Releasing a free lock is a finding (K-153).
///
/// # Safety
/// `lock` is a driver's lock word.
pub unsafe fn release(lock: *mut u64) {
    // SAFETY: the caller's promise.
    if unsafe { word(lock) }.swap(0, Ordering::Release) == 0 {
        gate::finding("K-153", "a spin lock was released that nobody held", gate::caller());
    }
}

/// Raises to DISPATCH_LEVEL and takes the lock; gives the level to restore.
///
/// # Safety
/// As for [`release`].
pub unsafe fn acquire_raise(lock: *mut u64) -> Irql {
    let old = gate::irql();
    if old < Irql::DISPATCH {
        gate::set_irql(Irql::DISPATCH);
    }
    // SAFETY: the caller's promise.
    unsafe { acquire(lock) };
    old
}

/// Gives the lock back, restores the level, and runs the DPCs that waited for that.
///
/// # Safety
/// As for [`release`].
pub unsafe fn release_lower(lock: *mut u64, old: Irql) {
    // SAFETY: the caller's promise.
    unsafe { release(lock) };
    gate::set_irql(old);
    dpc::after_lowering(old);
}
