//! Copies between processes, of which there is one, and other requests that a machine would make more of.

use arena::PAGE;
use gate::memory;
use nt_abi::NtStatus;

use super::{allocate_pages, mm_free_contiguous_memory};
use crate::raise::{Failure, finish};

gate::exports! {
    /// Copies, memory of a kind, the verifier.
    pub static TABLE in "ntoskrnl.exe";
    "MmCopyVirtualMemory" = mm_copy_virtual_memory(from_process: u64, from: u64, to_process: u64, to: u64, bytes: u64, mode: u8, copied: u64) -> NtStatus, irql <= APC, rules "K-200";
    "MmCopyMemory" = mm_copy_memory(to: u64, from: u64, bytes: u64, flags: u32, copied: u64) -> NtStatus, irql <= APC, rules "K-200";
    "MmGetVirtualForPhysical" = mm_get_virtual_for_physical(address: u64) -> u64, rules "K-200";
    "MmAllocateContiguousMemorySpecifyCache" = mm_allocate_contiguous_memory_specify_cache(bytes: u64, lowest: u64, highest: u64, boundary: u64, cache: u32) -> u64, irql <= DISPATCH, rules "K-200";
    "MmAllocateContiguousMemorySpecifyCacheNode" = mm_allocate_contiguous_memory_specify_cache(bytes: u64, lowest: u64, highest: u64, boundary: u64, cache: u32) -> u64, irql <= DISPATCH, rules "K-200";
    "MmFreeContiguousMemorySpecifyCache" = mm_free_contiguous_memory(address: u64), irql <= DISPATCH, rules "K-200";
    "MmIsDriverVerifying" | "MmIsDriverVerifyingByAddress" = mm_is_driver_verifying() -> u32, rules "K-200";
    "MmIsVerifierEnabled" = mm_is_verifier_enabled(flags: u64) -> NtStatus, irql <= DISPATCH, rules "K-200";
    "MmIsThisAnNtAsSystem" = mm_is_this_an_nt_as_system() -> u8, rules "K-207";
    "MmLockPagableSectionByHandle" = mm_lock_pagable_section_by_handle(section: u64), irql <= APC, rules "K-151";
}

/// Copies page by page up to the first that is not there.
fn copy(to: u64, from: u64, bytes: u64, copied: u64) -> Result<NtStatus, Failure> {
    let mut done = 0;
    while done < bytes {
        // To the end of the page that either lies in.
        let left_in = |address: u64| PAGE as u64 - (address + done) % PAGE as u64;
        let part = (bytes - done).min(left_in(from)).min(left_in(to));
        let (Some(to), Some(from)) = (to.checked_add(done), from.checked_add(done)) else { break };
        if memory::copy(to, from, part as usize).is_err() {
            break;
        }
        done += part;
    }
    memory::write_value(copied, done)?;
    Ok(if done == bytes { NtStatus::SUCCESS } else { NtStatus::PARTIAL_COPY })
}

unsafe extern "win64" fn mm_copy_virtual_memory(
    _from_process: u64,
    from: u64,
    _to_process: u64,
    to: u64,
    bytes: u64,
    _mode: u8,
    copied: u64,
) -> NtStatus {
    finish(copy(to, from, bytes, copied))
}

/// A physical address is the address.
unsafe extern "win64" fn mm_copy_memory(to: u64, from: u64, bytes: u64, flags: u32, copied: u64) -> NtStatus {
    /// `MM_COPY_MEMORY_PHYSICAL` and `MM_COPY_MEMORY_VIRTUAL`.
    const PHYSICAL: u32 = 1;
    const VIRTUAL: u32 = 2;
    if !matches!(flags, PHYSICAL | VIRTUAL) {
        return NtStatus::INVALID_PARAMETER_4;
    }
    finish(copy(to, from, bytes, copied))
}

/// 0 for what is not mapped.
unsafe extern "win64" fn mm_get_virtual_for_physical(address: u64) -> u64 {
    if memory::probe_read(address, 1).is_ok() { address } else { 0 }
}

/// A boundary that must not be crossed, and limits, are of physical addresses, which mean nothing here.
unsafe extern "win64" fn mm_allocate_contiguous_memory_specify_cache(
    bytes: u64,
    _lowest: u64,
    _highest: u64,
    _boundary: u64,
    _cache: u32,
) -> u64 {
    allocate_pages(bytes, super::CONTIGUOUS).unwrap_or(0)
}

/// The verifier of Windows is not what looks here.
unsafe extern "win64" fn mm_is_driver_verifying() -> u32 {
    0
}

unsafe extern "win64" fn mm_is_verifier_enabled(flags: u64) -> NtStatus {
    finish(memory::write_value(flags, 0u32).map(|()| NtStatus::NOT_SUPPORTED).map_err(Failure::from))
}

/// A workstation.
unsafe extern "win64" fn mm_is_this_an_nt_as_system() -> u8 {
    0
}

/// Images are never paged out.
unsafe extern "win64" fn mm_lock_pagable_section_by_handle(_section: u64) {}
