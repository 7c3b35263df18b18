//! Spin locks of all kinds.

use nt_abi::Irql;

use crate::{executor, irql, shared_lock, spin};

gate::exports! {
    /// Locks that spin.
    pub static TABLE in "ntoskrnl.exe";
    "KeAcquireSpinLockRaiseToDpc" | "KfAcquireSpinLock" = ke_acquire_spin_lock_raise_to_dpc(lock: *mut u64) -> Irql, irql <= DISPATCH, rules "K-121";
    "KeAcquireSpinLock" = ke_acquire_spin_lock(lock: *mut u64, old: *mut Irql), irql <= DISPATCH, rules "K-121";
    "KeReleaseSpinLock" | "KfReleaseSpinLock" = ke_release_spin_lock(lock: *mut u64, level: Irql), irql <= DISPATCH, rules "K-121 K-153";
    "KeAcquireSpinLockAtDpcLevel" | "KefAcquireSpinLockAtDpcLevel" = ke_acquire_spin_lock_at_dpc_level(lock: *mut u64), rules "K-121";
    "KeReleaseSpinLockFromDpcLevel" | "KefReleaseSpinLockFromDpcLevel" = ke_release_spin_lock_from_dpc_level(lock: *mut u64), rules "K-121 K-153";
    "KeTryToAcquireSpinLockAtDpcLevel" = ke_try_to_acquire_spin_lock_at_dpc_level(lock: *mut u64) -> u8, rules "K-121";
    "KeTestSpinLock" = ke_test_spin_lock(lock: *mut u64) -> u8, rules "K-121";
    "KeAcquireSpinLockForDpc" = ke_acquire_spin_lock_raise_to_dpc(lock: *mut u64) -> Irql, irql <= DISPATCH, rules "K-121";
    "KeReleaseSpinLockForDpc" = ke_release_spin_lock(lock: *mut u64, level: Irql), irql <= DISPATCH, rules "K-121 K-153";
    "KeAcquireInStackQueuedSpinLock" | "KeAcquireInStackQueuedSpinLockForDpc" = ke_acquire_in_stack_queued_spin_lock(lock: *mut u64, handle: *mut LockQueueHandle), irql <= DISPATCH, rules "K-121";
    "KeReleaseInStackQueuedSpinLock" | "KeReleaseInStackQueuedSpinLockForDpc" = ke_release_in_stack_queued_spin_lock(handle: *mut LockQueueHandle), irql <= DISPATCH, rules "K-121 K-153";
    "KeAcquireInStackQueuedSpinLockAtDpcLevel" = ke_acquire_in_stack_queued_spin_lock_at_dpc_level(lock: *mut u64, handle: *mut LockQueueHandle), rules "K-121";
    "KeReleaseInStackQueuedSpinLockFromDpcLevel" = ke_release_in_stack_queued_spin_lock_from_dpc_level(handle: *mut LockQueueHandle), rules "K-121 K-153";
    "ExAcquireSpinLockShared" = ex_acquire_spin_lock_shared(lock: *mut u32) -> Irql, irql <= DISPATCH, rules "K-121";
    "ExReleaseSpinLockShared" = ex_release_spin_lock_shared(lock: *mut u32, level: Irql), irql <= DISPATCH, rules "K-121 K-153";
    "ExAcquireSpinLockSharedAtDpcLevel" = ex_acquire_spin_lock_shared_at_dpc_level(lock: *mut u32), rules "K-121";
    "ExReleaseSpinLockSharedFromDpcLevel" = ex_release_spin_lock_shared_from_dpc_level(lock: *mut u32), rules "K-121 K-153";
    "ExAcquireSpinLockExclusive" = ex_acquire_spin_lock_exclusive(lock: *mut u32) -> Irql, irql <= DISPATCH, rules "K-121";
    "ExReleaseSpinLockExclusive" = ex_release_spin_lock_exclusive(lock: *mut u32, level: Irql), irql <= DISPATCH, rules "K-121 K-153";
    "ExAcquireSpinLockExclusiveAtDpcLevel" = ex_acquire_spin_lock_exclusive_at_dpc_level(lock: *mut u32), rules "K-121";
    "ExReleaseSpinLockExclusiveFromDpcLevel" = ex_release_spin_lock_exclusive_from_dpc_level(lock: *mut u32), rules "K-121 K-153";
    "ExTryConvertSharedSpinLockExclusive" = ex_try_convert_shared_spin_lock_exclusive(lock: *mut u32) -> u32, rules "K-121";
}

/// `KLOCK_QUEUE_HANDLE`. Windows queues processors through it; here spinning threads do not queue.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct LockQueueHandle {
    next: u64,
    lock: *mut u64,
    old_irql: Irql,
    _pad: [u8; 7],
}

const _: () = assert!(size_of::<LockQueueHandle>() == 0x18);

unsafe extern "win64" fn ke_acquire_spin_lock_raise_to_dpc(lock: *mut u64) -> Irql {
    // SAFETY: see the module above.
    unsafe { spin::acquire_raise(lock) }
}

unsafe extern "win64" fn ke_acquire_spin_lock(lock: *mut u64, old: *mut Irql) {
    // SAFETY: see the module above.
    unsafe { old.write(spin::acquire_raise(lock)) };
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

unsafe extern "win64" fn ke_try_to_acquire_spin_lock_at_dpc_level(lock: *mut u64) -> u8 {
    // SAFETY: see the module above.
    unsafe { spin::try_acquire(lock) }.into()
}

unsafe extern "win64" fn ke_test_spin_lock(lock: *mut u64) -> u8 {
    // SAFETY: see the module above.
    unsafe { spin::is_free(lock) }.into()
}

unsafe extern "win64" fn ke_acquire_in_stack_queued_spin_lock(lock: *mut u64, handle: *mut LockQueueHandle) {
    // SAFETY: see the module above.
    unsafe {
        let old_irql = spin::acquire_raise(lock);
        handle.write(LockQueueHandle { next: 0, lock, old_irql, _pad: [0; 7] });
    }
}

unsafe extern "win64" fn ke_release_in_stack_queued_spin_lock(handle: *mut LockQueueHandle) {
    // SAFETY: see the module above.
    unsafe { spin::release_lower((*handle).lock, (*handle).old_irql) };
    executor::point();
}

unsafe extern "win64" fn ke_acquire_in_stack_queued_spin_lock_at_dpc_level(
    lock: *mut u64,
    handle: *mut LockQueueHandle,
) {
    // SAFETY: see the module above.
    unsafe {
        spin::acquire(lock);
        handle.write(LockQueueHandle { next: 0, lock, old_irql: gate::irql(), _pad: [0; 7] });
    }
}

unsafe extern "win64" fn ke_release_in_stack_queued_spin_lock_from_dpc_level(handle: *mut LockQueueHandle) {
    // SAFETY: see the module above.
    unsafe { spin::release((*handle).lock) }
}

unsafe extern "win64" fn ex_acquire_spin_lock_shared(lock: *mut u32) -> Irql {
    let old = irql::raise_to_dispatch();
    // SAFETY: see the module above.
    unsafe { shared_lock::spin_shared(lock) };
    old
}

unsafe extern "win64" fn ex_release_spin_lock_shared(lock: *mut u32, level: Irql) {
    // SAFETY: see the module above.
    unsafe { shared_lock::release_spin_shared(lock) };
    irql::lower(level);
    executor::point();
}

unsafe extern "win64" fn ex_acquire_spin_lock_shared_at_dpc_level(lock: *mut u32) {
    // SAFETY: see the module above.
    unsafe { shared_lock::spin_shared(lock) }
}

unsafe extern "win64" fn ex_release_spin_lock_shared_from_dpc_level(lock: *mut u32) {
    // SAFETY: see the module above.
    unsafe { shared_lock::release_spin_shared(lock) }
}

unsafe extern "win64" fn ex_acquire_spin_lock_exclusive(lock: *mut u32) -> Irql {
    let old = irql::raise_to_dispatch();
    // SAFETY: see the module above.
    unsafe { shared_lock::spin_exclusive(lock) };
    old
}

unsafe extern "win64" fn ex_release_spin_lock_exclusive(lock: *mut u32, level: Irql) {
    // SAFETY: see the module above.
    unsafe { shared_lock::release_spin_exclusive(lock) };
    irql::lower(level);
    executor::point();
}

unsafe extern "win64" fn ex_acquire_spin_lock_exclusive_at_dpc_level(lock: *mut u32) {
    // SAFETY: see the module above.
    unsafe { shared_lock::spin_exclusive(lock) }
}

unsafe extern "win64" fn ex_release_spin_lock_exclusive_from_dpc_level(lock: *mut u32) {
    // SAFETY: see the module above.
    unsafe { shared_lock::release_spin_exclusive(lock) }
}

/// A LOGICAL, so all 32 bits count.
unsafe extern "win64" fn ex_try_convert_shared_spin_lock_exclusive(lock: *mut u32) -> u32 {
    // SAFETY: see the module above.
    unsafe { shared_lock::try_convert(lock) }.into()
}
