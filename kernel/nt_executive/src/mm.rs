//! Memory as such: validity, physical addresses, pages without an address.
//!
//! A page's physical address is its address: driver and host share one address space, and no device looks at memory.

use std::ptr;

use arena::PAGE;
use gate::memory;
use nt_abi::Mdl;
use nt_abi::mdl::mdl_flags;

use crate::mdl;
use crate::pool::{self, Kind};

pub mod copies;
pub mod io_space;

gate::exports! {
    /// What ntoskrnl exports of memory management beyond MDLs.
    pub static TABLE in "ntoskrnl.exe";
    "MmIsAddressValid" = mm_is_address_valid(address: u64) -> u8, irql <= DISPATCH, rules "K-200";
    "MmIsNonPagedSystemAddressValid" = mm_is_address_valid(address: u64) -> u8, irql <= DISPATCH, rules "K-200";
    "MmGetPhysicalAddress" = mm_get_physical_address(address: u64) -> u64, rules "K-200";
    "MmAllocateContiguousMemory" = mm_allocate_contiguous_memory(bytes: u64, highest: u64) -> u64, irql <= DISPATCH, rules "K-200";
    "MmFreeContiguousMemory" = mm_free_contiguous_memory(address: u64), irql <= DISPATCH, rules "K-200";
    "MmAllocateNonCachedMemory" = mm_allocate_non_cached_memory(bytes: u64) -> u64, irql <= APC, rules "K-200";
    "MmFreeNonCachedMemory" = mm_free_non_cached_memory(address: u64, bytes: u64), irql <= APC, rules "K-200";
    "MmAllocatePagesForMdl" = mm_allocate_pages_for_mdl(low: u64, high: u64, skip: u64, bytes: u64) -> *mut Mdl, irql <= DISPATCH, rules "K-108";
    "MmAllocatePagesForMdlEx" = mm_allocate_pages_for_mdl_ex(low: u64, high: u64, skip: u64, bytes: u64, cache: u32, flags: u32) -> *mut Mdl, irql <= DISPATCH, rules "K-108";
    "MmFreePagesFromMdl" = mm_free_pages_from_mdl(mdl: *mut Mdl), irql <= APC, rules "K-109";
    "MmLockPagableDataSection" | "MmLockPagableImageSection" = mm_lock_pagable_section(address: u64) -> u64, irql <= APC, rules "K-151";
    "MmUnlockPagableImageSection" = mm_unlock_pagable_section(section: u64), irql <= APC, rules "K-151";
    "MmPageEntireDriver" = mm_page_entire_driver(address: u64) -> u64, irql <= APC, rules "K-151";
    "MmResetDriverPaging" = mm_reset_driver_paging(address: u64), irql <= APC, rules "K-151";
    "MmQuerySystemSize" = mm_query_system_size() -> u32, rules "K-200";
}

const CONTIGUOUS: pool::Tag = u32::from_le_bytes(*b"MmCm");
const PAGES: pool::Tag = u32::from_le_bytes(*b"MmPg");

unsafe extern "win64" fn mm_is_address_valid(address: u64) -> u8 {
    memory::probe_read(address, 1).is_ok().into()
}

/// 0 for what is not mapped.
unsafe extern "win64" fn mm_get_physical_address(address: u64) -> u64 {
    if memory::probe_read(address, 1).is_ok() { address } else { 0 }
}

/// Whole pages, page-aligned. The highest address is a physical one, and those mean nothing here.
fn allocate_pages(bytes: u64, tag: pool::Tag) -> Option<u64> {
    let bytes = bytes.checked_next_multiple_of(PAGE as u64).filter(|&bytes| bytes > 0)?;
    pool::allocate(bytes, tag, Kind::NonPaged, gate::caller())
}

unsafe extern "win64" fn mm_allocate_contiguous_memory(bytes: u64, _highest: u64) -> u64 {
    allocate_pages(bytes, CONTIGUOUS).unwrap_or(0)
}

unsafe extern "win64" fn mm_free_contiguous_memory(address: u64) {
    pool::free(address, Some(CONTIGUOUS), gate::caller());
}

unsafe extern "win64" fn mm_allocate_non_cached_memory(bytes: u64) -> u64 {
    allocate_pages(bytes, CONTIGUOUS).unwrap_or(0)
}

unsafe extern "win64" fn mm_free_non_cached_memory(address: u64, _bytes: u64) {
    pool::free(address, Some(CONTIGUOUS), gate::caller());
}

/// Zeroed pages, described by an MDL that the driver frees with ExFreePool.
unsafe extern "win64" fn mm_allocate_pages_for_mdl(_low: u64, _high: u64, _skip: u64, bytes: u64) -> *mut Mdl {
    let Ok(length) = u32::try_from(bytes) else { return ptr::null_mut() };
    let Some(address) = allocate_pages(bytes, PAGES) else { return ptr::null_mut() };
    // SAFETY: new pages of that size.
    unsafe { (address as *mut u8).write_bytes(0, bytes.next_multiple_of(PAGE as u64) as usize) };
    let Some(mdl) = mdl::create_locked(address, length, gate::caller()) else {
        pool::free(address, Some(PAGES), gate::caller());
        return ptr::null_mut();
    };
    mdl
}

unsafe extern "win64" fn mm_allocate_pages_for_mdl_ex(
    low: u64,
    high: u64,
    skip: u64,
    bytes: u64,
    _cache: u32,
    _flags: u32,
) -> *mut Mdl {
    // SAFETY: passes the arguments on.
    unsafe { mm_allocate_pages_for_mdl(low, high, skip, bytes) }
}

unsafe extern "win64" fn mm_free_pages_from_mdl(mdl: *mut Mdl) {
    // SAFETY: the driver's MDL; a bad pointer faults and is blamed on it.
    unsafe {
        let address = (*mdl).start_va;
        (*mdl).flags &= !(mdl_flags::PAGES_LOCKED | mdl_flags::MAPPED_TO_SYSTEM_VA);
        pool::free(address, Some(PAGES), gate::caller());
    }
}

/// Images are never paged out. The handle is only handed back.
unsafe extern "win64" fn mm_lock_pagable_section(address: u64) -> u64 {
    address
}

unsafe extern "win64" fn mm_unlock_pagable_section(_section: u64) {}

unsafe extern "win64" fn mm_page_entire_driver(address: u64) -> u64 {
    gate::image::find(address).map_or(0, |image| image.base)
}

unsafe extern "win64" fn mm_reset_driver_paging(_address: u64) {}

/// `MmLargeSystem`
unsafe extern "win64" fn mm_query_system_size() -> u32 {
    2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::service;

    #[test]
    fn addresses_are_valid_where_something_is_mapped() {
        gate::fault::install().expect("handlers");
        let here = 5u32;
        let address = &raw const here as u64;
        assert_eq!(service("MmIsAddressValid").call_word(&[address]) as u8, 1);
        assert_eq!(service("MmIsAddressValid").call_word(&[0x10]) as u8, 0);
        assert_eq!(service("MmGetPhysicalAddress").call_word(&[address]), address);
        assert_eq!(service("MmGetPhysicalAddress").call_word(&[0x10]), 0);
    }

    #[test]
    fn pages_of_an_mdl_are_zero_locked_and_freed_with_it() {
        let mdl = service("MmAllocatePagesForMdl").call_word(&[0, u64::MAX, 0, 5000]) as *mut Mdl;
        // SAFETY: an MDL of this test.
        unsafe {
            assert_eq!(((*mdl).byte_count, (*mdl).flags & mdl_flags::PAGES_LOCKED), (5000, mdl_flags::PAGES_LOCKED));
            let mapped = service("MmMapLockedPagesSpecifyCache").call_word(&[mdl as u64, 0, 0, 0, 0, 0]);
            assert!((0..5000).all(|place| *((mapped + place) as *const u8) == 0));
            service("MmFreePagesFromMdl").call_word(&[mdl as u64]);
            assert!(pool::find(mapped).is_none());
        }
        service("ExFreePool").call_word(&[mdl as u64]);
    }
}
