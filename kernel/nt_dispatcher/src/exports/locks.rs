//! Locks that wait: fast and guarded mutexes, resources, push locks, run-down protection.

use nt_abi::Irql;
use nt_abi::dispatcher::{DispatcherType, FastMutex};

use crate::resource::{self, Sharing};
use crate::{event, executor, fast_mutex, irql, rundown, shared_lock, thread};

gate::exports! {
    /// Locks that wait.
    pub static TABLE in "ntoskrnl.exe";
    "ExAcquireFastMutex" = ex_acquire_fast_mutex(mutex: *mut FastMutex), irql <= APC, rules "K-145";
    "ExReleaseFastMutex" = ex_release_fast_mutex(mutex: *mut FastMutex), irql <= APC, rules "K-145";
    "ExTryToAcquireFastMutex" = ex_try_to_acquire_fast_mutex(mutex: *mut FastMutex) -> u8, irql <= APC, rules "K-145";
    "ExAcquireFastMutexUnsafe" = ex_acquire_fast_mutex_unsafe(mutex: *mut FastMutex), irql <= APC, rules "K-145";
    "ExReleaseFastMutexUnsafe" = ex_release_fast_mutex_unsafe(mutex: *mut FastMutex), irql <= APC, rules "K-145";
    "ExEnterCriticalRegionAndAcquireFastMutexUnsafe" = ex_enter_critical_region_and_acquire_fast_mutex_unsafe(mutex: *mut FastMutex), irql <= APC, rules "K-145";
    "ExReleaseFastMutexUnsafeAndLeaveCriticalRegion" = ex_release_fast_mutex_unsafe_and_leave_critical_region(mutex: *mut FastMutex), irql <= APC, rules "K-145";
    "KeInitializeGuardedMutex" = ke_initialize_guarded_mutex(mutex: *mut FastMutex), rules "K-145";
    "KeAcquireGuardedMutex" = ex_enter_critical_region_and_acquire_fast_mutex_unsafe(mutex: *mut FastMutex), irql <= APC, rules "K-145";
    "KeReleaseGuardedMutex" = ex_release_fast_mutex_unsafe_and_leave_critical_region(mutex: *mut FastMutex), irql <= APC, rules "K-145";
    "KeTryToAcquireGuardedMutex" = ke_try_to_acquire_guarded_mutex(mutex: *mut FastMutex) -> u8, irql <= APC, rules "K-145";
    "KeAcquireGuardedMutexUnsafe" = ex_acquire_fast_mutex_unsafe(mutex: *mut FastMutex), irql <= APC, rules "K-145";
    "KeReleaseGuardedMutexUnsafe" = ex_release_fast_mutex_unsafe(mutex: *mut FastMutex), irql <= APC, rules "K-145";
    "ExInitializeResourceLite" = ex_initialize_resource_lite(resource: u64) -> u32, irql <= DISPATCH, rules "K-145 K-150";
    "ExReinitializeResourceLite" = ex_initialize_resource_lite(resource: u64) -> u32, irql <= DISPATCH, rules "K-145 K-150";
    "ExDeleteResourceLite" = ex_delete_resource_lite(resource: u64) -> u32, irql <= DISPATCH, rules "K-145";
    "ExAcquireResourceExclusiveLite" = ex_acquire_resource_exclusive_lite(resource: u64, wait: u8) -> u8, irql <= APC, rules "K-145";
    "ExAcquireResourceSharedLite" = ex_acquire_resource_shared_lite(resource: u64, wait: u8) -> u8, irql <= APC, rules "K-145";
    "ExAcquireSharedStarveExclusive" = ex_acquire_shared_starve_exclusive(resource: u64, wait: u8) -> u8, irql <= APC, rules "K-145";
    "ExAcquireSharedWaitForExclusive" = ex_acquire_shared_wait_for_exclusive(resource: u64, wait: u8) -> u8, irql <= APC, rules "K-145";
    "ExEnterCriticalRegionAndAcquireResourceExclusive" = ex_enter_critical_region_and_acquire_resource_exclusive(resource: u64) -> u64, irql <= APC, rules "K-145";
    "ExEnterCriticalRegionAndAcquireResourceShared" = ex_enter_critical_region_and_acquire_resource_shared(resource: u64) -> u64, irql <= APC, rules "K-145";
    "ExReleaseResourceLite" = ex_release_resource_lite(resource: u64), irql <= DISPATCH, rules "K-145 K-153";
    "ExReleaseResourceForThreadLite" = ex_release_resource_for_thread_lite(resource: u64, thread: u64), irql <= DISPATCH, rules "K-145 K-153";
    "ExReleaseResourceAndLeaveCriticalRegion" = ex_release_resource_and_leave_critical_region(resource: u64), irql <= DISPATCH, rules "K-145 K-153";
    "ExConvertExclusiveToSharedLite" = ex_convert_exclusive_to_shared_lite(resource: u64), irql <= DISPATCH, rules "K-145 K-153";
    "ExIsResourceAcquiredExclusiveLite" = ex_is_resource_acquired_exclusive_lite(resource: u64) -> u8, irql <= DISPATCH, rules "K-145";
    "ExIsResourceAcquiredSharedLite" = ex_is_resource_acquired_shared_lite(resource: u64) -> u32, irql <= DISPATCH, rules "K-145";
    "ExGetExclusiveWaiterCount" = ex_get_exclusive_waiter_count(resource: u64) -> u32, irql <= DISPATCH, rules "K-145";
    "ExGetSharedWaiterCount" = ex_get_shared_waiter_count(resource: u64) -> u32, irql <= DISPATCH, rules "K-145";
    "ExInitializePushLock" = ex_initialize_push_lock(lock: *mut u64), rules "K-145";
    "ExAcquirePushLockExclusiveEx" = ex_acquire_push_lock_exclusive_ex(lock: *mut u64, flags: u32), irql <= APC, rules "K-145";
    "ExAcquirePushLockSharedEx" = ex_acquire_push_lock_shared_ex(lock: *mut u64, flags: u32), irql <= APC, rules "K-145";
    "ExReleasePushLockExclusiveEx" | "ExReleasePushLockSharedEx" | "ExReleasePushLockEx" = ex_release_push_lock_ex(lock: *mut u64, flags: u32), irql <= APC, rules "K-145";
    "ExfAcquirePushLockExclusive" = exf_acquire_push_lock_exclusive(lock: *mut u64), irql <= APC, rules "K-145";
    "ExfAcquirePushLockShared" = exf_acquire_push_lock_shared(lock: *mut u64), irql <= APC, rules "K-145";
    "ExfReleasePushLock" | "ExfReleasePushLockExclusive" | "ExfReleasePushLockShared" = exf_release_push_lock(lock: *mut u64), irql <= APC, rules "K-145";
    "ExInitializeRundownProtection" | "ExReInitializeRundownProtection" | "ExReInitializeRundownProtectionCacheAware" = ex_initialize_rundown_protection(reference: *mut u64), rules "K-142";
    "ExAcquireRundownProtection" | "ExAcquireRundownProtectionCacheAware" = ex_acquire_rundown_protection(reference: *mut u64) -> u8, irql <= DISPATCH, rules "K-142";
    "ExAcquireRundownProtectionEx" | "ExAcquireRundownProtectionCacheAwareEx" = ex_acquire_rundown_protection_ex(reference: *mut u64, count: u32) -> u8, irql <= DISPATCH, rules "K-142";
    "ExReleaseRundownProtection" | "ExReleaseRundownProtectionCacheAware" = ex_release_rundown_protection(reference: *mut u64), irql <= DISPATCH, rules "K-142";
    "ExReleaseRundownProtectionEx" | "ExReleaseRundownProtectionCacheAwareEx" = ex_release_rundown_protection_ex(reference: *mut u64, count: u32), irql <= DISPATCH, rules "K-142";
    "ExWaitForRundownProtectionRelease" | "ExWaitForRundownProtectionReleaseCacheAware" = ex_wait_for_rundown_protection_release(reference: *mut u64), irql <= APC, rules "K-142";
    "ExRundownCompleted" | "ExRundownCompletedCacheAware" = ex_rundown_completed(reference: *mut u64), irql <= DISPATCH, rules "K-142";
}

/// STATUS_SUCCESS, where the row's result is a plain number.
const SUCCESS: u32 = 0;

/// Raises to APC_LEVEL and gives the level before.
fn raise_to_apc() -> Irql {
    let old = gate::irql();
    if old < Irql::APC {
        gate::set_irql(Irql::APC);
    }
    old
}

unsafe extern "win64" fn ex_acquire_fast_mutex(mutex: *mut FastMutex) {
    let old = raise_to_apc();
    // SAFETY: see the module above.
    unsafe {
        fast_mutex::acquire(mutex);
        (*mutex).old_irql = old.0.into();
    }
}

unsafe extern "win64" fn ex_release_fast_mutex(mutex: *mut FastMutex) {
    // SAFETY: see the module above.
    unsafe {
        let old = Irql((*mutex).old_irql as u8);
        fast_mutex::release(mutex);
        irql::lower(old);
    }
    executor::point();
}

unsafe extern "win64" fn ex_try_to_acquire_fast_mutex(mutex: *mut FastMutex) -> u8 {
    let old = raise_to_apc();
    // SAFETY: see the module above.
    unsafe {
        let taken = fast_mutex::try_acquire(mutex);
        if taken {
            (*mutex).old_irql = old.0.into();
        } else {
            gate::set_irql(old);
        }
        taken.into()
    }
}

unsafe extern "win64" fn ex_acquire_fast_mutex_unsafe(mutex: *mut FastMutex) {
    if !thread::is_in_region() {
        gate::finding(
            "K-145",
            "A mutex was acquired the unsafe way with normal kernel APCs enabled: enter a critical region first.",
            gate::caller(),
        );
    }
    // SAFETY: see the module above.
    unsafe { fast_mutex::acquire(mutex) }
}

unsafe extern "win64" fn ex_release_fast_mutex_unsafe(mutex: *mut FastMutex) {
    // SAFETY: see the module above.
    unsafe { fast_mutex::release(mutex) };
    executor::point();
}

unsafe extern "win64" fn ex_enter_critical_region_and_acquire_fast_mutex_unsafe(mutex: *mut FastMutex) {
    thread::enter_region();
    // SAFETY: see the module above.
    unsafe { fast_mutex::acquire(mutex) }
}

unsafe extern "win64" fn ex_release_fast_mutex_unsafe_and_leave_critical_region(mutex: *mut FastMutex) {
    // SAFETY: see the module above.
    unsafe { fast_mutex::release(mutex) };
    thread::leave_region();
    executor::point();
}

unsafe extern "win64" fn ke_initialize_guarded_mutex(mutex: *mut FastMutex) {
    // SAFETY: see the module above.
    unsafe {
        (*mutex).count = 1;
        (*mutex).owner = 0;
        (*mutex).contention = 0;
        (*mutex).old_irql = 0;
        event::initialize(&raw mut (*mutex).event, DispatcherType::SYNCHRONIZATION_EVENT, false);
    }
}

unsafe extern "win64" fn ke_try_to_acquire_guarded_mutex(mutex: *mut FastMutex) -> u8 {
    // SAFETY: see the module above.
    let taken = unsafe { fast_mutex::try_acquire(mutex) };
    if taken {
        thread::enter_region();
    }
    taken.into()
}

unsafe extern "win64" fn ex_initialize_resource_lite(resource: u64) -> u32 {
    // SAFETY: see the module above.
    unsafe { (resource as *mut u8).write_bytes(0, resource::BYTES) };
    resource::initialize(resource, gate::caller());
    SUCCESS
}

unsafe extern "win64" fn ex_delete_resource_lite(resource: u64) -> u32 {
    resource::delete(resource, gate::caller());
    SUCCESS
}

unsafe extern "win64" fn ex_acquire_resource_exclusive_lite(resource: u64, wait: u8) -> u8 {
    resource::acquire_exclusive(resource, wait != 0).into()
}

unsafe extern "win64" fn ex_acquire_resource_shared_lite(resource: u64, wait: u8) -> u8 {
    resource::acquire_shared(resource, wait != 0, Sharing::Usual).into()
}

unsafe extern "win64" fn ex_acquire_shared_starve_exclusive(resource: u64, wait: u8) -> u8 {
    resource::acquire_shared(resource, wait != 0, Sharing::StarveExclusive).into()
}

unsafe extern "win64" fn ex_acquire_shared_wait_for_exclusive(resource: u64, wait: u8) -> u8 {
    resource::acquire_shared(resource, wait != 0, Sharing::WaitForExclusive).into()
}

unsafe extern "win64" fn ex_enter_critical_region_and_acquire_resource_exclusive(resource: u64) -> u64 {
    thread::enter_region();
    resource::acquire_exclusive(resource, true);
    gate::thread::current_thread_object()
}

unsafe extern "win64" fn ex_enter_critical_region_and_acquire_resource_shared(resource: u64) -> u64 {
    thread::enter_region();
    resource::acquire_shared(resource, true, Sharing::Usual);
    gate::thread::current_thread_object()
}

unsafe extern "win64" fn ex_release_resource_lite(resource: u64) {
    resource::release(resource, gate::thread::current_thread_object());
    executor::point();
}

unsafe extern "win64" fn ex_release_resource_for_thread_lite(resource: u64, thread: u64) {
    resource::release(resource, thread);
    executor::point();
}

unsafe extern "win64" fn ex_release_resource_and_leave_critical_region(resource: u64) {
    resource::release(resource, gate::thread::current_thread_object());
    thread::leave_region();
    executor::point();
}

unsafe extern "win64" fn ex_convert_exclusive_to_shared_lite(resource: u64) {
    resource::convert_to_shared(resource);
    executor::point();
}

unsafe extern "win64" fn ex_is_resource_acquired_exclusive_lite(resource: u64) -> u8 {
    (resource::acquisitions(resource, true) > 0).into()
}

unsafe extern "win64" fn ex_is_resource_acquired_shared_lite(resource: u64) -> u32 {
    resource::acquisitions(resource, false)
}

unsafe extern "win64" fn ex_get_exclusive_waiter_count(resource: u64) -> u32 {
    resource::waiters(resource, true)
}

unsafe extern "win64" fn ex_get_shared_waiter_count(resource: u64) -> u32 {
    resource::waiters(resource, false)
}

unsafe extern "win64" fn ex_initialize_push_lock(lock: *mut u64) {
    // SAFETY: see the module above.
    unsafe { lock.write(0) };
}

/// Flag bit 0 of the `Ex` functions says that the caller did not enter a critical region; the macros enter one.
fn expect_region(flags: u32) {
    if flags & 1 == 0 && !thread::is_in_region() {
        gate::finding(
            "K-145",
            "A push lock was acquired with normal kernel APCs enabled: enter a critical region first.",
            gate::caller(),
        );
    }
}

unsafe extern "win64" fn ex_acquire_push_lock_exclusive_ex(lock: *mut u64, flags: u32) {
    expect_region(flags);
    // SAFETY: see the module above.
    unsafe { shared_lock::push_exclusive(lock) }
}

unsafe extern "win64" fn ex_acquire_push_lock_shared_ex(lock: *mut u64, flags: u32) {
    expect_region(flags);
    // SAFETY: see the module above.
    unsafe { shared_lock::push_shared(lock) }
}

unsafe extern "win64" fn ex_release_push_lock_ex(lock: *mut u64, _flags: u32) {
    // SAFETY: see the module above.
    unsafe { shared_lock::release_push(lock) };
    executor::point();
}

unsafe extern "win64" fn exf_acquire_push_lock_exclusive(lock: *mut u64) {
    expect_region(0);
    // SAFETY: see the module above.
    unsafe { shared_lock::push_exclusive(lock) }
}

unsafe extern "win64" fn exf_acquire_push_lock_shared(lock: *mut u64) {
    expect_region(0);
    // SAFETY: see the module above.
    unsafe { shared_lock::push_shared(lock) }
}

unsafe extern "win64" fn exf_release_push_lock(lock: *mut u64) {
    // SAFETY: see the module above.
    unsafe { shared_lock::release_push(lock) };
    executor::point();
}

unsafe extern "win64" fn ex_initialize_rundown_protection(reference: *mut u64) {
    // SAFETY: see the module above.
    unsafe { rundown::initialize(reference) }
}

unsafe extern "win64" fn ex_acquire_rundown_protection(reference: *mut u64) -> u8 {
    // SAFETY: see the module above.
    unsafe { rundown::acquire(reference, 1) }.into()
}

unsafe extern "win64" fn ex_acquire_rundown_protection_ex(reference: *mut u64, count: u32) -> u8 {
    // SAFETY: see the module above.
    unsafe { rundown::acquire(reference, count) }.into()
}

unsafe extern "win64" fn ex_release_rundown_protection(reference: *mut u64) {
    // SAFETY: see the module above.
    unsafe { rundown::release(reference, 1) };
    executor::point();
}

unsafe extern "win64" fn ex_release_rundown_protection_ex(reference: *mut u64, count: u32) {
    // SAFETY: see the module above.
    unsafe { rundown::release(reference, count) };
    executor::point();
}

unsafe extern "win64" fn ex_wait_for_rundown_protection_release(reference: *mut u64) {
    // SAFETY: see the module above.
    unsafe { rundown::wait_for_release(reference) }
}

unsafe extern "win64" fn ex_rundown_completed(reference: *mut u64) {
    // SAFETY: see the module above.
    unsafe { rundown::complete(reference) }
}
