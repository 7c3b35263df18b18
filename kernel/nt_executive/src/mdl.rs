//! Memory descriptor lists (K-105 to K-117).
//!
//! Driver and host share one address space, so locking pins nothing and mapping moves nothing: what counts is that
//! flags, addresses and page numbers change as drivers and their inlined macros expect, and that misuse is told. A
//! page's number is its address divided by the page size.
//!
//! An MDL's fields are the driver's to read and write; that it was allocated here, and by whom, is known to the pool.

mod exports;
#[cfg(test)]
mod tests;

use std::ptr;

use arena::PAGE;
use gate::memory::{self, Fault};
use nt_abi::exception::BugCheck;
use nt_abi::mdl::mdl_flags;
use nt_abi::{Irp, Mdl, NtStatus};

pub use exports::TABLE;

use crate::pool::{self, Kind};

/// Longest buffer: 4 GiB less a page (K-105).
const BYTES_MAX: u32 = u32::MAX - (PAGE as u32 - 1);
/// Largest number of pages that the system keeps ready-made MDLs for.
const FIXED_PAGES_MAX: u64 = 23;
const TAG: pool::Tag = u32::from_le_bytes(*b"Mdl ");

/// What [`lock`] prepares for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A device will read the buffer.
    Read,
    /// A device will write to it.
    Write,
}

/// Pages that a buffer touches.
pub fn pages(address: u64, bytes: u32) -> u64 {
    let offset = address & (PAGE as u64 - 1);
    (offset + u64::from(bytes)).div_ceil(PAGE as u64)
}

/// Bytes of an MDL for a buffer (`MmSizeOfMdl`).
pub fn size(address: u64, bytes: u32) -> u64 {
    size_of::<Mdl>() as u64 + pages(address, bytes) * 8
}

/// Sets the fields of an MDL for a buffer (`MmInitializeMdl`).
///
/// # Safety
/// `mdl` is writable for `size_of::<Mdl>()` bytes.
unsafe fn initialize(mdl: *mut Mdl, address: u64, bytes: u32, flags: u16) {
    let offset = address & (PAGE as u64 - 1);
    // SAFETY: the caller's promise. The page array keeps what it holds until the buffer is locked.
    unsafe {
        *mdl = Mdl {
            next: ptr::null_mut(),
            // Sixteen bits do not hold the size of a very long one; nobody but the system would look.
            size: size(address, bytes) as i16,
            flags,
            _pad: 0,
            process: 0,
            mapped_system_va: 0,
            start_va: address - offset,
            byte_count: bytes,
            byte_offset: offset as u32,
        };
    }
}

/// `IoAllocateMdl` without a packet: an MDL that describes a buffer, not yet locked.
///
/// `None` when the buffer is too long (K-105) or memory is exhausted.
///
/// IRQL: up to DISPATCH_LEVEL.
pub fn allocate(address: u64, bytes: u32, caller: u64) -> Option<*mut Mdl> {
    if bytes > BYTES_MAX {
        return None;
    }
    let mdl = pool::allocate(size(address, bytes), TAG, Kind::Mdl, caller)? as *mut Mdl;
    let flags = if pages(address, bytes) <= FIXED_PAGES_MAX { mdl_flags::ALLOCATED_FIXED_SIZE } else { 0 };
    // SAFETY: a new block of that size.
    unsafe { initialize(mdl, address, bytes, flags) };
    Some(mdl)
}

/// An MDL in pool whose pages are locked already, for `MmAllocatePagesForMdl`.
pub(crate) fn create_locked(address: u64, bytes: u32, caller: u64) -> Option<*mut Mdl> {
    let mdl = pool::allocate(size(address, bytes), TAG, Kind::NonPaged, caller)? as *mut Mdl;
    // SAFETY: a new block of that size.
    unsafe {
        initialize(mdl, address, bytes, mdl_flags::PAGES_LOCKED);
        fill_pages(mdl);
    }
    Some(mdl)
}

/// `IoFreeMdl`: one MDL, not its chain (K-111).
///
/// Ends the run when `mdl` is not allocated.
///
/// # Safety
/// The caller holds the MDL.
///
/// IRQL: up to DISPATCH_LEVEL.
pub unsafe fn free(mdl: *mut Mdl, caller: u64) {
    if pool::find(mdl as u64).is_some() {
        // SAFETY: a live block is mapped.
        let flags = unsafe { (*mdl).flags };
        if flags & mdl_flags::PAGES_LOCKED != 0 {
            let message = "an MDL was freed while its pages were locked: MmUnlockPages must come first";
            gate::finding("K-116", message, caller);
        }
    }
    pool::free(mdl as u64, None, caller);
}

/// The buffer's address in the requester's address space.
///
/// # Safety
/// As [`free`].
pub unsafe fn virtual_address(mdl: *const Mdl) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { (*mdl).start_va.wrapping_add((*mdl).byte_offset.into()) }
}

/// Fills the page array.
///
/// # Safety
/// As [`free`]; the array is as long as the buffer asks for.
unsafe fn fill_pages(mdl: *mut Mdl) {
    // SAFETY: the caller's promise.
    unsafe {
        let first = (*mdl).start_va / PAGE as u64;
        let array = mdl.add(1).cast::<u64>();
        for page in 0..pages((*mdl).byte_offset.into(), (*mdl).byte_count) {
            *array.add(page as usize) = first + page;
        }
    }
}

/// `MmBuildMdlForNonPagedPool` (K-107).
///
/// # Safety
/// As [`free`].
///
/// IRQL: up to DISPATCH_LEVEL.
pub unsafe fn build_for_nonpaged_pool(mdl: *mut Mdl, caller: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        let address = virtual_address(mdl);
        if (*mdl).flags & mdl_flags::PAGES_LOCKED != 0 {
            let message = "MmBuildMdlForNonPagedPool was called for an MDL whose pages are locked";
            gate::finding("K-115", message, caller);
        }
        if pool::find_around(address).is_some_and(|block| block.kind == Kind::Paged) {
            let message = "MmBuildMdlForNonPagedPool was called for paged pool: that must be locked instead";
            gate::finding("K-107", message, caller);
        }
        (*mdl).process = 0;
        (*mdl).mapped_system_va = address;
        (*mdl).flags |= mdl_flags::SOURCE_IS_NONPAGED_POOL;
        fill_pages(mdl);
    }
}

/// `MmProbeAndLockPages` (K-108, K-115).
///
/// # Errors
/// The first address of the buffer that cannot be accessed so; nothing is locked then.
///
/// # Safety
/// As [`free`].
///
/// IRQL: up to DISPATCH_LEVEL for nonpaged memory.
pub unsafe fn lock(mdl: *mut Mdl, access: Access, caller: u64) -> Result<(), Fault> {
    // SAFETY: the caller's promise.
    unsafe {
        let fixed = mdl_flags::PAGES_LOCKED | mdl_flags::SOURCE_IS_NONPAGED_POOL | mdl_flags::PARTIAL;
        if (*mdl).flags & fixed != 0 {
            let message = "MmProbeAndLockPages was called for an MDL that is locked already, or that describes nonpaged pool or a part of another";
            gate::finding("K-115", message, caller);
        }
        let (address, bytes) = (virtual_address(mdl), (*mdl).byte_count as usize);
        match access {
            Access::Read => memory::probe_read(address, bytes)?,
            Access::Write => memory::probe_write(address, bytes)?,
        }
        let written = if access == Access::Write { mdl_flags::WRITE_OPERATION } else { 0 };
        (*mdl).flags = (*mdl).flags & !mdl_flags::WRITE_OPERATION | mdl_flags::PAGES_LOCKED | written;
        fill_pages(mdl);
    }
    Ok(())
}

/// `MmUnlockPages` (K-109, K-115).
///
/// # Safety
/// As [`free`].
///
/// IRQL: up to DISPATCH_LEVEL.
pub unsafe fn unlock(mdl: *mut Mdl, caller: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        let flags = (*mdl).flags;
        if flags & mdl_flags::PAGES_LOCKED == 0 || flags & mdl_flags::SOURCE_IS_NONPAGED_POOL != 0 {
            gate::finding("K-115", "MmUnlockPages was called for an MDL whose pages are not locked", caller);
        }
        let cleared = mdl_flags::PAGES_LOCKED | mdl_flags::MAPPED_TO_SYSTEM_VA | mdl_flags::WRITE_OPERATION;
        (*mdl).flags &= !cleared;
    }
}

/// `MmMapLockedPagesSpecifyCache`: where the buffer can be touched (K-110, K-114).
///
/// # Safety
/// As [`free`].
pub unsafe fn map(mdl: *mut Mdl, caller: u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        let flags = (*mdl).flags;
        let ready = mdl_flags::PAGES_LOCKED | mdl_flags::PARTIAL | mdl_flags::SOURCE_IS_NONPAGED_POOL;
        if flags & ready == 0 {
            gate::finding("K-110", "an MDL was mapped whose pages are not locked", caller);
        }
        if flags & mdl_flags::MAPPED_TO_SYSTEM_VA != 0 {
            return (*mdl).mapped_system_va;
        }
        let mapped = virtual_address(mdl);
        let partial = if flags & mdl_flags::PARTIAL != 0 { mdl_flags::PARTIAL_HAS_BEEN_MAPPED } else { 0 };
        (*mdl).mapped_system_va = mapped;
        (*mdl).flags |= mdl_flags::MAPPED_TO_SYSTEM_VA | partial;
        mapped
    }
}

/// `MmUnmapLockedPages` (K-110).
///
/// # Safety
/// As [`free`].
pub unsafe fn unmap(mdl: *mut Mdl) {
    // SAFETY: the caller's promise.
    unsafe { (*mdl).flags &= !(mdl_flags::MAPPED_TO_SYSTEM_VA | mdl_flags::PARTIAL_HAS_BEEN_MAPPED) };
}

/// `MmAdvanceMdl`: takes `bytes` bytes off the front of a locked buffer. Its address moves on, and the page array with it.
///
/// # Safety
/// As [`free`].
pub unsafe fn advance(mdl: *mut Mdl, bytes: u32) -> NtStatus {
    // SAFETY: the caller's promise; the array had a place for each page, of which none are added.
    unsafe {
        if (*mdl).flags & (mdl_flags::PAGES_LOCKED | mdl_flags::PARTIAL) == 0 {
            return NtStatus::INVALID_PARAMETER_1;
        }
        if bytes > (*mdl).byte_count {
            return NtStatus::INVALID_PARAMETER_2;
        }
        let address = virtual_address(mdl).wrapping_add(bytes.into());
        let offset = address & (PAGE as u64 - 1);
        (*mdl).start_va = address - offset;
        (*mdl).byte_offset = offset as u32;
        (*mdl).byte_count -= bytes;
        if (*mdl).flags & mdl_flags::MAPPED_TO_SYSTEM_VA != 0 {
            (*mdl).mapped_system_va = (*mdl).mapped_system_va.wrapping_add(bytes.into());
        }
        fill_pages(mdl);
    }
    NtStatus::SUCCESS
}

/// `IoBuildPartialMdl`: makes `target` describe `bytes` bytes (0: all the rest) of `source` from `address` on (K-112).
///
/// Ends the run with TARGET_MDL_TOO_SMALL when the target's page array is too short.
///
/// # Safety
/// As [`free`], for both.
///
/// IRQL: up to DISPATCH_LEVEL.
pub unsafe fn build_partial(source: *const Mdl, target: *mut Mdl, address: u64, bytes: u32, caller: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        let offset = address.wrapping_sub(virtual_address(source));
        let rest = u64::from((*source).byte_count).saturating_sub(offset) as u32;
        if offset > (*source).byte_count.into() || bytes > rest {
            let message = "IoBuildPartialMdl was asked for a range that the source MDL does not describe";
            gate::finding("K-112", message, caller);
        }
        let bytes = if bytes == 0 { rest } else { bytes };
        let needed = size(address, bytes);
        if needed > u64::from((*target).size as u16) {
            let parameters = [target as u64, needed, u64::from((*target).size as u16), 0];
            gate::bugcheck(BugCheck::TARGET_MDL_TOO_SMALL, parameters);
        }
        let kept = (*target).flags & mdl_flags::ALLOCATED_FIXED_SIZE;
        let shared = mdl_flags::SOURCE_IS_NONPAGED_POOL | mdl_flags::MAPPED_TO_SYSTEM_VA;
        let size = (*target).size;
        initialize(target, address, bytes, kept | mdl_flags::PARTIAL | (*source).flags & shared);
        (*target).size = size;
        (*target).process = (*source).process;
        (*target).mapped_system_va = (*source).mapped_system_va.wrapping_add(offset);
        fill_pages(target);
    }
}

/// Makes an MDL over a range, locks it and hangs it on a packet. For [`nt_io::Services`].
///
/// # Errors
/// STATUS_INSUFFICIENT_RESOURCES, or STATUS_ACCESS_VIOLATION if the range cannot be accessed so; nothing is left then.
///
/// # Safety
/// `irp` is a packet under construction.
pub unsafe fn attach_locked(
    irp: *mut Irp,
    address: u64,
    length: u32,
    write: bool,
    caller: u64,
) -> Result<(), NtStatus> {
    let mdl = allocate(address, length, caller).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
    // SAFETY: a new MDL, and the caller's packet.
    unsafe {
        if lock(mdl, if write { Access::Write } else { Access::Read }, caller).is_err() {
            free(mdl, caller);
            return Err(NtStatus::ACCESS_VIOLATION);
        }
        (*irp).mdl_address = mdl;
    }
    Ok(())
}

/// What the I/O manager does with the chain on a threaded request that ended: unlocks what is locked and frees
/// every MDL (K-064, K-064a, K-117). For [`nt_io::Services`].
///
/// # Safety
/// The packet is complete and the I/O manager's.
pub unsafe fn release_chain(irp: *mut Irp) {
    // SAFETY: the caller's promise. An MDL that is not allocated any more ends the run in `free` before its link is
    // followed twice.
    unsafe {
        let mut mdl = std::mem::replace(&mut (*irp).mdl_address, ptr::null_mut());
        while !mdl.is_null() {
            mdl = memory::aligned(mdl, "The chain of MDLs at IRP.MdlAddress");
            let next = (*mdl).next;
            if (*mdl).flags & mdl_flags::PAGES_LOCKED != 0 {
                unlock(mdl, gate::caller());
            }
            free(mdl, gate::caller());
            mdl = next;
        }
    }
}

/// Visits the MDLs that are still allocated, with the driver instruction that allocated each.
pub fn for_each_live(mut visit: impl FnMut(u64, u64)) {
    pool::for_each_live(|block| {
        if block.kind == Kind::Mdl {
            visit(block.address, block.caller);
        }
    });
}
