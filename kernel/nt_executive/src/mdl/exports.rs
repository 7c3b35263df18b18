//! The win64 faces of MDLs.

use std::ptr;

use nt_abi::object::ProcessorMode;
use nt_abi::{Irp, Mdl, NtStatus};

use super::{
    Access, advance, allocate, build_for_nonpaged_pool, build_partial, free, initialize, lock, map, size, unlock, unmap,
};
use crate::pool::{self, Kind};
use crate::raise;

gate::exports! {
    /// What ntoskrnl exports of MDLs and of memory as such.
    pub static TABLE in "ntoskrnl.exe";
    "IoAllocateMdl" = io_allocate_mdl(address: u64, bytes: u32, secondary: u8, quota: u8, irp: *mut Irp) -> *mut Mdl, irql <= DISPATCH, rules "K-105 K-106";
    "IoFreeMdl" = io_free_mdl(mdl: *mut Mdl), irql <= DISPATCH, rules "K-111 K-116";
    "IoBuildPartialMdl" = io_build_partial_mdl(source: *const Mdl, target: *mut Mdl, address: u64, bytes: u32), irql <= DISPATCH, rules "K-112";
    "MmBuildMdlForNonPagedPool" = mm_build_mdl_for_nonpaged_pool(mdl: *mut Mdl), irql <= DISPATCH, rules "K-107";
    "MmProbeAndLockPages" = mm_probe_and_lock_pages(mdl: *mut Mdl, mode: ProcessorMode, operation: u32), irql <= DISPATCH, rules "K-108 K-115";
    "MmUnlockPages" = mm_unlock_pages(mdl: *mut Mdl), irql <= DISPATCH, rules "K-109 K-115";
    "MmMapLockedPages" = mm_map_locked_pages(mdl: *mut Mdl, mode: ProcessorMode) -> u64, irql <= DISPATCH, rules "K-110";
    "MmMapLockedPagesSpecifyCache" = mm_map_locked_pages_specify_cache(mdl: *mut Mdl, mode: ProcessorMode, cache: u32, at: u64, bugcheck: u32, priority: u32) -> u64, irql <= DISPATCH, rules "K-110 K-114";
    "MmUnmapLockedPages" = mm_unmap_locked_pages(address: u64, mdl: *mut Mdl), irql <= DISPATCH, rules "K-110";
    "MmAdvanceMdl" = mm_advance_mdl(mdl: *mut Mdl, bytes: u32) -> NtStatus, irql <= DISPATCH, rules "K-105";
    "MmSizeOfMdl" = mm_size_of_mdl(address: u64, bytes: u64) -> u64, rules "K-105";
    "MmCreateMdl" = mm_create_mdl(mdl: *mut Mdl, address: u64, bytes: u64) -> *mut Mdl, irql <= DISPATCH, rules "K-105";
}

unsafe extern "win64" fn io_allocate_mdl(
    address: u64,
    bytes: u32,
    secondary: u8,
    _quota: u8,
    irp: *mut Irp,
) -> *mut Mdl {
    let Some(mdl) = allocate(address, bytes, gate::caller()) else { return ptr::null_mut() };
    if irp.is_null() {
        return mdl;
    }
    // SAFETY: what drivers pass here is theirs to answer for; a bad pointer faults and is blamed on them. The same
    // holds for every function of this module.
    unsafe {
        let mut link = &raw mut (*irp).mdl_address;
        if secondary != 0 {
            while !(*link).is_null() {
                link = &raw mut (**link).next;
            }
        }
        *link = mdl;
    }
    mdl
}

unsafe extern "win64" fn io_free_mdl(mdl: *mut Mdl) {
    // SAFETY: see `io_allocate_mdl`.
    unsafe { free(mdl, gate::caller()) }
}

unsafe extern "win64" fn io_build_partial_mdl(source: *const Mdl, target: *mut Mdl, address: u64, bytes: u32) {
    // SAFETY: see `io_allocate_mdl`.
    unsafe { build_partial(source, target, address, bytes, gate::caller()) }
}

unsafe extern "win64" fn mm_build_mdl_for_nonpaged_pool(mdl: *mut Mdl) {
    // SAFETY: see `io_allocate_mdl`.
    unsafe { build_for_nonpaged_pool(mdl, gate::caller()) }
}

unsafe extern "win64" fn mm_probe_and_lock_pages(mdl: *mut Mdl, _mode: ProcessorMode, operation: u32) {
    // LOCK_OPERATION: read, write, modify.
    let access = if operation == 0 { Access::Read } else { Access::Write };
    // SAFETY: see `io_allocate_mdl`.
    if let Err(fault) = unsafe { lock(mdl, access, gate::caller()) } {
        raise::access_violation(fault);
    }
}

unsafe extern "win64" fn mm_unlock_pages(mdl: *mut Mdl) {
    // SAFETY: see `io_allocate_mdl`.
    unsafe { unlock(mdl, gate::caller()) }
}

unsafe extern "win64" fn mm_map_locked_pages(mdl: *mut Mdl, _mode: ProcessorMode) -> u64 {
    // SAFETY: see `io_allocate_mdl`.
    unsafe { map(mdl, gate::caller()) }
}

unsafe extern "win64" fn mm_map_locked_pages_specify_cache(
    mdl: *mut Mdl,
    _mode: ProcessorMode,
    _cache: u32,
    _at: u64,
    _bugcheck: u32,
    _priority: u32,
) -> u64 {
    // SAFETY: see `io_allocate_mdl`.
    unsafe { map(mdl, gate::caller()) }
}

unsafe extern "win64" fn mm_unmap_locked_pages(_address: u64, mdl: *mut Mdl) {
    // SAFETY: see `io_allocate_mdl`.
    unsafe { unmap(mdl) }
}

unsafe extern "win64" fn mm_advance_mdl(mdl: *mut Mdl, bytes: u32) -> NtStatus {
    // SAFETY: see `io_allocate_mdl`.
    unsafe { advance(mdl, bytes) }
}

unsafe extern "win64" fn mm_size_of_mdl(address: u64, bytes: u64) -> u64 {
    size(address, bytes as u32)
}

/// In the caller's memory, or in pool, to be freed with ExFreePool.
unsafe extern "win64" fn mm_create_mdl(mdl: *mut Mdl, address: u64, bytes: u64) -> *mut Mdl {
    let bytes = bytes as u32;
    let mdl = if mdl.is_null() {
        let made = pool::allocate(size(address, bytes), super::TAG, Kind::NonPaged, gate::caller());
        let Some(made) = made else { return ptr::null_mut() };
        made as *mut Mdl
    } else {
        mdl
    };
    // SAFETY: see `io_allocate_mdl`.
    unsafe { initialize(mdl, address, bytes, 0) };
    mdl
}
