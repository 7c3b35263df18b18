//! Spin locks.

use nt_abi::Irql;

use crate::{executor, spin};

gate::exports! {
    /// Locks that spin.
    pub static TABLE in "ntoskrnl.exe";
    "KeAcquireSpinLockRaiseToDpc" = ke_acquire_spin_lock_raise_to_dpc(lock: *mut u64) -> Irql, irql <= DISPATCH, rules "K-121";
    "KeReleaseSpinLock" = ke_release_spin_lock(lock: *mut u64, level: Irql), irql <= DISPATCH, rules "K-121 K-153";
    "KeAcquireSpinLockAtDpcLevel" = ke_acquire_spin_lock_at_dpc_level(lock: *mut u64), rules "K-121";
    "KeReleaseSpinLockFromDpcLevel" = ke_release_spin_lock_from_dpc_level(lock: *mut u64), rules "K-121 K-153";
}

unsafe extern "win64" fn ke_acquire_spin_lock_raise_to_dpc(lock: *mut u64) -> Irql {
    // SAFETY: see the module above.
    unsafe { spin::acquire_raise(lock) }
}

unsafe extern "win64" fn ke_release_spin_lock(lock: *mut u64, level: Irql) {
    // SAFETY: see the module above.
    unsafe { spin::release_lower(lock, level) };
    executor::point();
}

unsafe extern "win64" fn ke_acquire_spin_lock_at_dpc_level(lock: *mut u64) {
    // SAFETY: see the module above.
    unsafe { spin::acquire(lock) }
}

unsafe extern "win64" fn ke_release_spin_lock_from_dpc_level(lock: *mut u64) {
    // SAFETY: see the module above.
    unsafe { spin::release(lock) }
}
