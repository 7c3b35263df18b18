//! Texts of bytes to UTF-16 and back, in the ANSI code page.

use crate::code_page;

gate::exports! {
    /// Conversions.
    pub static TABLE in "ntoskrnl.exe";
    "mbstowcs" = mbstowcs(to: *mut u16, from: *const u8, count: usize) -> usize, rules "K-201";
    "wcstombs" = wcstombs(to: *mut u8, from: *const u16, count: usize) -> usize, rules "K-201";
}

/// Of both functions, for a character that has no counterpart.
const FAILED: usize = usize::MAX;

/// Copies up to and with the NUL, `count` characters at most, and gives how many there were in front of it. Without a
/// destination all are counted.
///
/// # Safety
/// Both texts are the driver's; a bad pointer faults and is blamed on it.
unsafe fn convert<F: Copy + Default + PartialEq, T>(
    to: *mut T,
    from: *const F,
    count: usize,
    counterpart: impl Fn(F) -> Option<T>,
) -> usize {
    let count = if to.is_null() { usize::MAX } else { count };
    for place in 0..count {
        // SAFETY: the caller's promise.
        let unit = unsafe { from.add(place).read_unaligned() };
        let Some(converted) = counterpart(unit) else { return FAILED };
        if !to.is_null() {
            // SAFETY: the caller's promise.
            unsafe { to.add(place).write_unaligned(converted) };
        }
        if unit == F::default() {
            return place;
        }
    }
    count
}

unsafe extern "win64" fn mbstowcs(to: *mut u16, from: *const u8, count: usize) -> usize {
    // SAFETY: the driver's texts.
    unsafe { convert(to, from, count, |byte| Some(code_page::to_wide(byte))) }
}

unsafe extern "win64" fn wcstombs(to: *mut u8, from: *const u16, count: usize) -> usize {
    let counterpart = |unit| Some(code_page::to_narrow(unit)).filter(|&byte| code_page::to_wide(byte) == unit);
    // SAFETY: the driver's texts.
    unsafe { convert(to, from, count, counterpart) }
}
