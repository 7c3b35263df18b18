//! Remove locks (K-143, K-144): a count that keeps a device from going while it is in use.

use std::mem::{offset_of, size_of};
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};

use nt_abi::dispatcher::DispatcherType;
use nt_abi::{KernelEvent, NtStatus};
use nt_dispatcher::{event, wait};

gate::exports! {
    /// What ntoskrnl exports of remove locks; drivers call them through macros (K-202).
    pub(crate) static TABLE in "ntoskrnl.exe";
    "IoInitializeRemoveLockEx" = io_initialize_remove_lock_ex(lock: *mut RemoveLock, tag: u32, minutes: u32, high_water: u32, size: u32), irql <= PASSIVE, rules "K-143";
    "IoAcquireRemoveLockEx" = io_acquire_remove_lock_ex(lock: *mut RemoveLock, tag: u64, file: u64, line: u32, size: u32) -> NtStatus, irql <= DISPATCH, rules "K-143";
    "IoReleaseRemoveLockEx" = io_release_remove_lock_ex(lock: *mut RemoveLock, tag: u64, size: u32), irql <= DISPATCH, rules "K-143";
    "IoReleaseRemoveLockAndWaitEx" = io_release_remove_lock_and_wait_ex(lock: *mut RemoveLock, tag: u64, size: u32), irql <= PASSIVE, rules "K-143";
}

/// `IO_REMOVE_LOCK`; checked builds append more, which nobody but they reads.
#[doc(alias = "IO_REMOVE_LOCK")]
#[repr(C)]
pub struct RemoveLock {
    removed: AtomicU8,
    _reserved: [u8; 3],
    /// Acquisitions, and one more until the removal.
    count: AtomicI32,
    event: KernelEvent,
}

const _: () = assert!(size_of::<RemoveLock>() == 0x20 && offset_of!(RemoveLock, event) == 8);

unsafe extern "win64" fn io_initialize_remove_lock_ex(
    lock: *mut RemoveLock,
    _tag: u32,
    _minutes: u32,
    _high_water: u32,
    _size: u32,
) {
    // SAFETY: what drivers pass is theirs to answer for; a bad pointer faults and is blamed on them. The same
    // holds for every function of this module.
    unsafe {
        (*lock).removed = AtomicU8::new(0);
        (*lock).count = AtomicI32::new(1);
        event::initialize(&raw mut (*lock).event, DispatcherType::SYNCHRONIZATION_EVENT, false);
    }
}

unsafe extern "win64" fn io_acquire_remove_lock_ex(
    lock: *mut RemoveLock,
    _tag: u64,
    _file: u64,
    _line: u32,
    _size: u32,
) -> NtStatus {
    // SAFETY: see `io_initialize_remove_lock_ex`.
    unsafe {
        // Counted first and looked at afterwards, so that a removal either sees the count or is seen.
        (*lock).count.fetch_add(1, Ordering::SeqCst);
        if (*lock).removed.load(Ordering::SeqCst) == 0 {
            return NtStatus::SUCCESS;
        }
        release(lock);
        NtStatus::DELETE_PENDING
    }
}

unsafe extern "win64" fn io_release_remove_lock_ex(lock: *mut RemoveLock, _tag: u64, _size: u32) {
    // SAFETY: see `io_initialize_remove_lock_ex`.
    unsafe { release(lock) };
}

/// Counts one acquisition out and gives what is left.
unsafe fn release(lock: *mut RemoveLock) -> i32 {
    // SAFETY: see `io_initialize_remove_lock_ex`.
    unsafe {
        let left = (*lock).count.fetch_sub(1, Ordering::SeqCst) - 1;
        if left == 0 {
            event::set(&raw mut (*lock).event);
        }
        if left < 0 {
            gate::finding("K-143", "a remove lock was released more often than it was acquired", gate::caller());
        }
        left
    }
}

unsafe extern "win64" fn io_release_remove_lock_and_wait_ex(lock: *mut RemoveLock, _tag: u64, _size: u32) {
    // SAFETY: see `io_initialize_remove_lock_ex`.
    unsafe {
        (*lock).removed.store(1, Ordering::SeqCst);
        // The caller's own acquisition, then the one that stood for the device.
        release(lock);
        if release(lock) > 0 {
            wait::wait_single(&raw mut (*lock).event as u64, None);
        }
    }
}
