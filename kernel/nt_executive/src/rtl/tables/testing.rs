//! A driver's routines and elements, for the tests of both kinds of table.

use crate::pool::{self, Kind};

unsafe extern "win64" fn compare(_table: u64, a: *const u32, b: *const u32) -> u32 {
    // SAFETY: called with elements of the test.
    match unsafe { (*a).cmp(&*b) } {
        std::cmp::Ordering::Less => 0,
        std::cmp::Ordering::Greater => 1,
        std::cmp::Ordering::Equal => 2,
    }
}

unsafe extern "win64" fn allocate(_table: u64, bytes: u32) -> u64 {
    pool::allocate(bytes.into(), 1, Kind::NonPaged, 0).unwrap_or(0)
}

unsafe extern "win64" fn free(_table: u64, node: u64) {
    pool::free(node, None, 0);
}

/// The routines to compare, allocate and free, in the order of the functions that initialise tables.
pub fn routines() -> [u64; 3] {
    [compare as *const () as u64, allocate as *const () as u64, free as *const () as u64]
}

/// # Safety
/// `element` is an element of the test.
pub unsafe fn value(element: u64) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { *(element as *const u32) }
}
