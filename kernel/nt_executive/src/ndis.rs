//! What drivers take from ndis.sys without being NDIS drivers: buffer descriptors, which are MDLs, memory and strings.
//!
//! TDI clients and filters include ndis.h for its macros, and on x64 some of those are calls. Left out: adapters,
//! protocols, packets and everything else that needs a network card; a call of those stops the driver by name.

use gate::export::Export;
use gate::memory::{self, put, touch};
use nt_abi::mdl::mdl_flags;
use nt_abi::{Mdl, NtStatus};

use crate::mdl;
use crate::pool::{self, Kind, Tag};

/// The module that drivers name.
const MODULE: &str = "ndis.sys";

gate::exports! {
    /// What ndis.sys exports.
    pub static TABLE in "ndis.sys";
    "NdisQueryBuffer" = ndis_query_buffer(buffer: *mut Mdl, address: *mut u64, length: *mut u32), irql <= DISPATCH, rules "K-110 K-205";
    "NdisQueryBufferSafe" = ndis_query_buffer_safe(buffer: *mut Mdl, address: *mut u64, length: *mut u32, priority: u32), irql <= DISPATCH, rules "K-110";
    "NdisQueryBufferOffset" = ndis_query_buffer_offset(buffer: *const Mdl, offset: *mut u32, length: *mut u32), irql <= DISPATCH, rules "K-105";
    "NdisBufferLength" = ndis_buffer_length(buffer: *const Mdl) -> u32, irql <= DISPATCH, rules "K-105";
    "NdisBufferVirtualAddress" = ndis_buffer_virtual_address(buffer: *mut Mdl) -> u64, irql <= DISPATCH, rules "K-110";
    "NdisAdjustBufferLength" = ndis_adjust_buffer_length(buffer: *mut Mdl, length: u32), irql <= DISPATCH, rules "K-105";
    "NdisAllocateBufferPool" = ndis_allocate_buffer_pool(status: *mut NtStatus, pool: *mut u64, count: u32), irql <= DISPATCH, rules "K-105";
    "NdisFreeBufferPool" = ndis_free_buffer_pool(pool: u64), irql <= DISPATCH, rules "K-105";
    "NdisAllocateBuffer" = ndis_allocate_buffer(status: *mut NtStatus, buffer: *mut *mut Mdl, pool: u64, address: u64, length: u32), irql <= DISPATCH, rules "K-105 K-107";
    "NdisFreeBuffer" = ndis_free_buffer(buffer: *mut Mdl), irql <= DISPATCH, rules "K-111";
    "NdisAllocateMemoryWithTag" = ndis_allocate_memory_with_tag(address: *mut u64, length: u32, tag: Tag) -> NtStatus, irql <= DISPATCH, rules "K-146";
    "NdisFreeMemory" = ndis_free_memory(address: u64, length: u32, flags: u32), irql <= DISPATCH, rules "K-147";
    "NdisEqualString" = ndis_equal_string(first: u64, second: u64, ignore_case: u8) -> u8, irql <= PASSIVE, rules "K-201";
    "NdisGetVersion" = ndis_get_version() -> u32, rules "K-207";
}

/// NDIS 6.83, that of the build that [`crate::system`] claims to be.
const VERSION: u32 = 6 << 16 | 83;

/// What `module!name` is bound to, if `module` is this one and somebody implements the name.
pub fn resolve(module: &str, name: &str) -> Option<&'static Export> {
    let is_ours = module.eq_ignore_ascii_case(MODULE);
    TABLE.iter().find(|export| is_ours && export.name == name)
}

/// The address that the system reads the buffer at, mapping it if need be.
///
/// # Safety
/// `buffer` is the driver's MDL.
unsafe fn system_address(buffer: *mut Mdl) -> u64 {
    const HAS_ADDRESS: u16 = mdl_flags::MAPPED_TO_SYSTEM_VA | mdl_flags::SOURCE_IS_NONPAGED_POOL;
    // SAFETY: the caller's promise.
    unsafe {
        if (*buffer).flags & HAS_ADDRESS != 0 { (*buffer).mapped_system_va } else { mdl::map(buffer, gate::caller()) }
    }
}

unsafe extern "win64" fn ndis_query_buffer(buffer: *mut Mdl, address: *mut u64, length: *mut u32) {
    // SAFETY: what drivers pass is theirs to answer for; a bad pointer faults and is blamed on them. The same
    // holds for every function of this module.
    unsafe {
        if !address.is_null() {
            put(address, system_address(buffer));
        }
        put(length, (*buffer).byte_count);
    }
}

unsafe extern "win64" fn ndis_query_buffer_safe(buffer: *mut Mdl, address: *mut u64, length: *mut u32, _priority: u32) {
    // SAFETY: see `ndis_query_buffer`. Mapping never fails for want of room here.
    unsafe { ndis_query_buffer(buffer, address, length) }
}

unsafe extern "win64" fn ndis_query_buffer_offset(buffer: *const Mdl, offset: *mut u32, length: *mut u32) {
    // SAFETY: see `ndis_query_buffer`.
    unsafe {
        put(offset, (*buffer).byte_offset);
        put(length, (*buffer).byte_count);
    }
}

unsafe extern "win64" fn ndis_buffer_length(buffer: *const Mdl) -> u32 {
    // SAFETY: see `ndis_query_buffer`.
    unsafe { (*buffer).byte_count }
}

unsafe extern "win64" fn ndis_buffer_virtual_address(buffer: *mut Mdl) -> u64 {
    // SAFETY: see `ndis_query_buffer`.
    unsafe { system_address(buffer) }
}

unsafe extern "win64" fn ndis_adjust_buffer_length(buffer: *mut Mdl, length: u32) {
    // SAFETY: see `ndis_query_buffer`.
    unsafe { (*buffer).byte_count = length }
}

/// A pool of descriptors has been a name only since NDIS 5: they come from the system's pool, without a limit.
unsafe extern "win64" fn ndis_allocate_buffer_pool(status: *mut NtStatus, pool: *mut u64, _count: u32) {
    // SAFETY: see `ndis_query_buffer`.
    unsafe {
        put(pool, 0);
        put(status, NtStatus::SUCCESS);
    }
}

unsafe extern "win64" fn ndis_free_buffer_pool(_pool: u64) {}

unsafe extern "win64" fn ndis_allocate_buffer(
    status: *mut NtStatus,
    buffer: *mut *mut Mdl,
    _pool: u64,
    address: u64,
    length: u32,
) {
    let caller = gate::caller();
    // SAFETY: see `ndis_query_buffer`.
    unsafe {
        touch(status);
        touch(buffer);
        let made = mdl::allocate(address, length, caller);
        if let Some(made) = made {
            mdl::build_for_nonpaged_pool(made, caller);
            put(buffer, made);
        }
        put(status, if made.is_some() { NtStatus::SUCCESS } else { NtStatus::INSUFFICIENT_RESOURCES });
    }
}

unsafe extern "win64" fn ndis_free_buffer(buffer: *mut Mdl) {
    // SAFETY: see `ndis_query_buffer`.
    unsafe { mdl::free(buffer, gate::caller()) }
}

unsafe extern "win64" fn ndis_allocate_memory_with_tag(address: *mut u64, length: u32, tag: Tag) -> NtStatus {
    /// `NDIS_STATUS_FAILURE`.
    const FAILURE: NtStatus = NtStatus::UNSUCCESSFUL;
    // SAFETY: see `ndis_query_buffer`.
    unsafe { touch(address) };
    let made = pool::allocate(length.into(), tag, Kind::NonPaged, gate::caller());
    // SAFETY: see `ndis_query_buffer`.
    unsafe { put(address, made.unwrap_or(0)) };
    if made.is_some() { NtStatus::SUCCESS } else { FAILURE }
}

unsafe extern "win64" fn ndis_free_memory(address: u64, _length: u32, _flags: u32) {
    pool::free(address, None, gate::caller());
}

unsafe extern "win64" fn ndis_equal_string(first: u64, second: u64, ignore_case: u8) -> u8 {
    let read = |string: u64| memory::read_unicode(string).map_err(crate::raise::access_violation);
    let (Ok(mut first), Ok(mut second)) = (read(first), read(second)) else { return 0 };
    if ignore_case != 0 {
        for unit in first.iter_mut().chain(&mut second) {
            *unit = crate::rtl::upper(*unit);
        }
    }
    (first == second).into()
}

unsafe extern "win64" fn ndis_get_version() -> u32 {
    VERSION
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{kernel_thread, utf16};
    use nt_abi::UnicodeString;
    use proves::proves;

    fn call(name: &str, arguments: &[u64]) -> u64 {
        kernel_thread();
        let export = resolve("NDIS.SYS", name).unwrap_or_else(|| panic!("{name} is no export"));
        // SAFETY: the tests pass what the export takes.
        unsafe { gate::call::call_n(export.address(), arguments) }
    }

    #[test]
    fn kernel_does_not_have_the_names_of_ndis() {
        assert!(crate::table::resolve("ndis.sys", "NdisQueryBuffer").is_some());
        assert!(crate::table::resolve("ntoskrnl.exe", "NdisQueryBuffer").is_none());
        assert!(crate::table::by_name("NdisQueryBuffer").is_none(), "nor does MmGetSystemRoutineAddress");
        assert!(crate::table::resolve("ndis.sys", "IofCallDriver").is_none());
    }

    #[proves("K-205")]
    #[test]
    fn query_buffer_gives_address_and_length_of_an_mdl() {
        let bytes = [7u8; 100];
        let (mut status, mut buffer) = (NtStatus::PENDING, std::ptr::null_mut::<Mdl>());
        let results = [&raw mut status as u64, &raw mut buffer as u64];
        call("NdisAllocateBuffer", &[results[0], results[1], 0, bytes.as_ptr() as u64, 100]);
        assert_eq!(status, NtStatus::SUCCESS);
        let (mut address, mut length) = (0u64, 0u32);
        call("NdisQueryBuffer", &[buffer as u64, &raw mut address as u64, &raw mut length as u64]);
        assert_eq!((address, length), (bytes.as_ptr() as u64, 100));
        call("NdisAdjustBufferLength", &[buffer as u64, 60]);
        call("NdisQueryBuffer", &[buffer as u64, 0, &raw mut length as u64]);
        assert_eq!((length, call("NdisBufferLength", &[buffer as u64]) as u32), (60, 60));
        call("NdisFreeBuffer", &[buffer as u64]);
        assert!(pool::find(buffer as u64).is_none());
    }

    #[test]
    fn results_are_written_to_any_alignment() {
        let bytes = [7u8; 100];
        let mut room = [0u64; 4];
        let [first, second] = [1, 17].map(|offset| room.as_mut_ptr() as u64 + offset);
        // SAFETY: both places have room for eight bytes behind them.
        let result = |place: u64| unsafe { (place as *const u64).read_unaligned() };
        call("NdisAllocateBufferPool", &[first, second, 1]);
        call("NdisAllocateBuffer", &[first, second, 0, bytes.as_ptr() as u64, 100]);
        let buffer = result(second);
        call("NdisQueryBuffer", &[buffer, first, second]);
        assert_eq!((result(first), result(second) as u32), (bytes.as_ptr() as u64, 100));
        call("NdisQueryBufferOffset", &[buffer, first, second]);
        assert_eq!(result(first) as u32, bytes.as_ptr() as u32 & 0xFFF);
        call("NdisFreeBuffer", &[buffer]);
        call("NdisAllocateMemoryWithTag", &[first, 16, 0x7473_6574]);
        call("NdisFreeMemory", &[result(first), 16, 0]);
    }

    #[test]
    fn query_buffer_maps_a_locked_buffer_first() {
        kernel_thread();
        let bytes = [7u8; 10];
        let buffer = mdl::allocate(bytes.as_ptr() as u64, 10, 0).expect("memory");
        // SAFETY: an MDL of this test.
        unsafe {
            mdl::lock(buffer, mdl::Access::Read, 0).expect("mapped memory");
            let (mut address, mut length) = (0u64, 0u32);
            call("NdisQueryBufferSafe", &[buffer as u64, &raw mut address as u64, &raw mut length as u64, 0]);
            assert_eq!((address, length), (bytes.as_ptr() as u64, 10));
            assert_ne!((*buffer).flags & mdl_flags::MAPPED_TO_SYSTEM_VA, 0);
            mdl::unlock(buffer, 0);
            mdl::free(buffer, 0);
        }
    }

    #[test]
    fn memory_is_pool_and_strings_compare_with_and_without_case() {
        let mut address = 0u64;
        let tag = u64::from(u32::from_le_bytes(*b"test"));
        assert_eq!(call("NdisAllocateMemoryWithTag", &[&raw mut address as u64, 64, tag]), 0);
        assert_eq!(pool::find(address).map(|block| block.bytes), Some(64));
        call("NdisFreeMemory", &[address, 64, 0]);
        assert!(pool::find(address).is_none());
        let (mut upper, mut lower) = (utf16("\\DEVICE"), utf16("\\Device"));
        let string = |units: &mut Vec<u16>| {
            let length = units.len() as u16 * 2;
            UnicodeString { length, maximum_length: length, _pad: 0, buffer: units.as_mut_ptr() }
        };
        let (first, second) = (string(&mut upper), string(&mut lower));
        let equal =
            |ignore| call("NdisEqualString", &[&raw const first as u64, &raw const second as u64, ignore]) as u8;
        assert_eq!((equal(1), equal(0)), (1, 0));
    }
}
