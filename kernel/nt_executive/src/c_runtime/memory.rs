//! Blocks of bytes.

use std::ptr;

gate::exports! {
    /// `mem...` and their Rtl names.
    pub static TABLE in "ntoskrnl.exe";
    "memcpy" | "RtlCopyMemory" | "RtlCopyMemoryNonTemporal" = memcpy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8, rules "K-201";
    "memmove" | "RtlMoveMemory" = memmove(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8, rules "K-201";
    "memset" = memset(to: *mut u8, value: i32, bytes: usize) -> *mut u8, rules "K-201";
    "memcmp" = memcmp(a: *const u8, b: *const u8, bytes: usize) -> i32, rules "K-201";
    "memchr" = memchr(bytes: *const u8, value: i32, count: usize) -> *const u8, rules "K-201";
    "RtlZeroMemory" = rtl_zero_memory(to: *mut u8, bytes: usize), rules "K-201";
    "RtlFillMemory" = rtl_fill_memory(to: *mut u8, bytes: usize, value: u8), rules "K-201";
    "RtlCompareMemory" = rtl_compare_memory(a: *const u8, b: *const u8, bytes: usize) -> usize, rules "K-201";
    "RtlCompareMemoryUlong" = rtl_compare_memory_ulong(source: *const u32, bytes: usize, pattern: u32) -> usize, rules "K-201";
    "RtlPrefetchMemoryNonTemporal" = rtl_prefetch_memory_nontemporal(source: u64, bytes: usize), rules "K-201";
}

/// Overlapping ranges are no error, as in Windows, whose memcpy is its memmove.
unsafe extern "win64" fn memcpy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    // SAFETY: the driver's ranges; a bad one faults and is blamed on it. The same holds for the whole module.
    unsafe { ptr::copy(from, to, bytes) };
    to
}

unsafe extern "win64" fn memmove(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    // SAFETY: see `memcpy`.
    unsafe { ptr::copy(from, to, bytes) };
    to
}

unsafe extern "win64" fn memset(to: *mut u8, value: i32, bytes: usize) -> *mut u8 {
    // SAFETY: see `memcpy`.
    unsafe { to.write_bytes(value as u8, bytes) };
    to
}

/// The place of the first difference, `bytes` if there is none.
unsafe fn common(a: *const u8, b: *const u8, bytes: usize) -> usize {
    // SAFETY: see `memcpy`.
    (0..bytes).find(|&place| unsafe { *a.add(place) != *b.add(place) }).unwrap_or(bytes)
}

unsafe extern "win64" fn memcmp(a: *const u8, b: *const u8, bytes: usize) -> i32 {
    // SAFETY: see `memcpy`.
    unsafe {
        let place = common(a, b, bytes);
        if place == bytes { 0 } else { i32::from(*a.add(place)) - i32::from(*b.add(place)) }
    }
}

unsafe extern "win64" fn memchr(bytes: *const u8, value: i32, count: usize) -> *const u8 {
    // SAFETY: see `memcpy`.
    let place = (0..count).find(|&place| unsafe { *bytes.add(place) } == value as u8);
    place.map_or(ptr::null(), |place| bytes.wrapping_add(place))
}

unsafe extern "win64" fn rtl_zero_memory(to: *mut u8, bytes: usize) {
    // SAFETY: see `memcpy`.
    unsafe { to.write_bytes(0, bytes) };
}

unsafe extern "win64" fn rtl_fill_memory(to: *mut u8, bytes: usize, value: u8) {
    // SAFETY: see `memcpy`.
    unsafe { to.write_bytes(value, bytes) };
}

unsafe extern "win64" fn rtl_compare_memory(a: *const u8, b: *const u8, bytes: usize) -> usize {
    // SAFETY: see `memcpy`.
    unsafe { common(a, b, bytes) }
}

/// Whole words only; the number of bytes that match.
unsafe extern "win64" fn rtl_compare_memory_ulong(source: *const u32, bytes: usize, pattern: u32) -> usize {
    let words = bytes / 4;
    // SAFETY: see `memcpy`.
    (0..words).find(|&place| unsafe { source.add(place).read_unaligned() } != pattern).unwrap_or(words) * 4
}

/// A hint.
unsafe extern "win64" fn rtl_prefetch_memory_nontemporal(_source: u64, _bytes: usize) {}
