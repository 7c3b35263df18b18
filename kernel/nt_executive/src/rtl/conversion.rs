//! Between the ANSI code page and UTF-16 (K-165).
//!
//! The ANSI code page is [`crate::code_page`]'s; a character that has no byte there becomes a question mark.

use gate::memory::put;
use nt_abi::{AnsiString, NtStatus, UnicodeString};

use super::case::upper;
use super::strings::find_room;
use super::{Bytes, Units};
use crate::code_page;

gate::exports! {
    /// Conversions of character sets.
    pub static TABLE in "ntoskrnl.exe";
    "RtlAnsiStringToUnicodeString" = rtl_ansi_string_to_unicode_string(to: *mut UnicodeString, from: *const AnsiString, allocate: u8) -> NtStatus, irql <= PASSIVE, rules "K-165";
    "RtlUnicodeStringToAnsiString" = rtl_unicode_string_to_ansi_string(to: *mut AnsiString, from: *const UnicodeString, allocate: u8) -> NtStatus, irql <= PASSIVE, rules "K-165";
    "RtlxAnsiStringToUnicodeSize" | "RtlxOemStringToUnicodeSize" = rtlx_ansi_string_to_unicode_size(string: *const AnsiString) -> u32, irql <= PASSIVE, rules "K-165";
    "RtlxUnicodeStringToAnsiSize" | "RtlxUnicodeStringToOemSize" = rtlx_unicode_string_to_ansi_size(string: *const UnicodeString) -> u32, irql <= PASSIVE, rules "K-165";
    "RtlMultiByteToUnicodeN" = rtl_multi_byte_to_unicode_n(to: *mut u16, room: u32, written: *mut u32, from: *const u8, bytes: u32) -> NtStatus, irql <= PASSIVE, rules "K-165";
    "RtlUnicodeToMultiByteN" = rtl_unicode_to_multi_byte_n(to: *mut u8, room: u32, written: *mut u32, from: *const u16, bytes: u32) -> NtStatus, irql <= PASSIVE, rules "K-165";
    "RtlUpcaseUnicodeToMultiByteN" = rtl_upcase_unicode_to_multi_byte_n(to: *mut u8, room: u32, written: *mut u32, from: *const u16, bytes: u32) -> NtStatus, irql <= PASSIVE, rules "K-165";
    "RtlMultiByteToUnicodeSize" = rtl_multi_byte_to_unicode_size(size: *mut u32, from: *const u8, bytes: u32) -> NtStatus, irql <= PASSIVE, rules "K-165";
    "RtlUnicodeToMultiByteSize" = rtl_unicode_to_multi_byte_size(size: *mut u32, from: *const u16, bytes: u32) -> NtStatus, irql <= PASSIVE, rules "K-165";
}

// Strings are the driver's, and so are all pointers of this module; a bad one faults and is blamed on the driver. That
// is what every SAFETY note below refers to.

/// A string of bytes as UTF-16, with a terminator.
///
/// # Safety
/// The driver's strings.
pub(super) unsafe fn string_to_unicode(
    to: *mut UnicodeString,
    from: *const AnsiString,
    allocated: u8,
    to_wide: fn(u8) -> u16,
) -> NtStatus {
    // SAFETY: the driver's strings.
    unsafe {
        let from = Bytes::of(from);
        let needed = (from.count() + 1) * 2;
        if let Err(status) = find_room(&raw mut (*to).maximum_length, &raw mut (*to).buffer, needed, allocated) {
            return status;
        }
        (*to).length = needed as u16 - 2;
        let units = from.iter().map(to_wide).chain([0]);
        units.enumerate().for_each(|(place, unit)| (*to).buffer.add(place).write_unaligned(unit));
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn rtl_ansi_string_to_unicode_string(
    to: *mut UnicodeString,
    from: *const AnsiString,
    allocated: u8,
) -> NtStatus {
    // SAFETY: the driver's strings and buffers.
    unsafe { string_to_unicode(to, from, allocated, code_page::to_wide) }
}

/// A string of UTF-16 as bytes, with a terminator.
///
/// # Safety
/// The driver's strings.
pub(super) unsafe fn unicode_to_string(
    to: *mut AnsiString,
    from: *const UnicodeString,
    allocated: u8,
    to_narrow: fn(u16) -> u8,
) -> NtStatus {
    // SAFETY: the driver's strings.
    unsafe {
        let from = Units::of(from);
        let needed = from.count() + 1;
        let mut length = from.count();
        let status = match find_room(&raw mut (*to).maximum_length, &raw mut (*to).buffer, needed, allocated) {
            Ok(()) => NtStatus::SUCCESS,
            // Unlike the other direction, this one stores what fits.
            Err(NtStatus::BUFFER_OVERFLOW) => {
                let Some(room) = (*to).maximum_length.checked_sub(1) else { return NtStatus::BUFFER_OVERFLOW };
                length = room.into();
                NtStatus::BUFFER_OVERFLOW
            }
            Err(status) => return status,
        };
        (*to).length = length as u16;
        let bytes = from.first(length).iter().map(to_narrow).chain([0]);
        bytes.enumerate().for_each(|(place, byte)| (*to).buffer.add(place).write(byte));
        status
    }
}

unsafe extern "win64" fn rtl_unicode_string_to_ansi_string(
    to: *mut AnsiString,
    from: *const UnicodeString,
    allocated: u8,
) -> NtStatus {
    // SAFETY: the driver's strings and buffers.
    unsafe { unicode_to_string(to, from, allocated, code_page::to_narrow) }
}

unsafe extern "win64" fn rtlx_ansi_string_to_unicode_size(string: *const AnsiString) -> u32 {
    // SAFETY: the driver's string.
    unsafe { (u32::from((*string).length) + 1) * 2 }
}

unsafe extern "win64" fn rtlx_unicode_string_to_ansi_size(string: *const UnicodeString) -> u32 {
    // SAFETY: the driver's string.
    unsafe { u32::from((*string).length / 2) + 1 }
}

/// Cuts what does not fit, silently.
///
/// # Safety
/// The driver's buffers.
pub(super) unsafe fn bytes_to_units(
    to: *mut u16,
    room: u32,
    written: *mut u32,
    from: *const u8,
    bytes: u32,
    to_wide: fn(u8) -> u16,
) -> NtStatus {
    // SAFETY: the driver's buffers.
    unsafe {
        let from = Bytes::new(from, bytes.min(room / 2) as usize);
        for (place, byte) in from.iter().enumerate() {
            to.add(place).write_unaligned(to_wide(byte));
        }
        store(written, from.count() * 2);
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn rtl_multi_byte_to_unicode_n(
    to: *mut u16,
    room: u32,
    written: *mut u32,
    from: *const u8,
    bytes: u32,
) -> NtStatus {
    // SAFETY: the driver's strings and buffers.
    unsafe { bytes_to_units(to, room, written, from, bytes, code_page::to_wide) }
}

unsafe fn store(into: *mut u32, value: usize) {
    if !into.is_null() {
        // SAFETY: the driver's result.
        unsafe { put(into, value as u32) };
    }
}

/// Cuts what does not fit, silently.
///
/// # Safety
/// The driver's buffers.
pub(super) unsafe fn to_bytes(
    to: *mut u8,
    room: u32,
    written: *mut u32,
    from: *const u16,
    bytes: u32,
    to_narrow: fn(u16) -> u8,
) -> NtStatus {
    // SAFETY: the driver's buffers.
    unsafe {
        let from = Units::new(from, (bytes / 2).min(room) as usize);
        for (place, unit) in from.iter().enumerate() {
            to.add(place).write(to_narrow(unit));
        }
        store(written, from.count());
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn rtl_unicode_to_multi_byte_n(
    to: *mut u8,
    room: u32,
    written: *mut u32,
    from: *const u16,
    bytes: u32,
) -> NtStatus {
    // SAFETY: the driver's buffers.
    unsafe { to_bytes(to, room, written, from, bytes, code_page::to_narrow) }
}

unsafe extern "win64" fn rtl_upcase_unicode_to_multi_byte_n(
    to: *mut u8,
    room: u32,
    written: *mut u32,
    from: *const u16,
    bytes: u32,
) -> NtStatus {
    // SAFETY: the driver's buffers.
    unsafe { to_bytes(to, room, written, from, bytes, |unit| code_page::to_narrow(upper(unit))) }
}

unsafe extern "win64" fn rtl_multi_byte_to_unicode_size(size: *mut u32, _from: *const u8, bytes: u32) -> NtStatus {
    // SAFETY: the driver's result. Every byte is one character.
    unsafe { put(size, bytes.saturating_mul(2)) };
    NtStatus::SUCCESS
}

unsafe extern "win64" fn rtl_unicode_to_multi_byte_size(size: *mut u32, _from: *const u16, bytes: u32) -> NtStatus {
    // SAFETY: the driver's result.
    unsafe { put(size, bytes / 2) };
    NtStatus::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool;
    use crate::testing::{kernel_thread, utf16};
    use proves::proves;
    use std::ptr;

    fn ansi(text: &mut [u8]) -> AnsiString {
        let length = text.len() as u16;
        AnsiString { length, maximum_length: length, _pad: 0, buffer: text.as_mut_ptr() }
    }

    fn unicode(text: &mut [u16]) -> UnicodeString {
        let length = text.len() as u16 * 2;
        UnicodeString { length, maximum_length: length, _pad: 0, buffer: text.as_mut_ptr() }
    }

    #[proves("K-165")]
    #[test]
    fn allocated_unicode_string_replaces_the_buffer_and_is_pool() {
        kernel_thread();
        let mut bytes = *b"a\x80z";
        let mut to = UnicodeString { length: 9, maximum_length: 9, _pad: 0, buffer: ptr::dangling_mut() };
        // SAFETY: strings of this test.
        unsafe {
            assert_eq!(rtl_ansi_string_to_unicode_string(&mut to, &ansi(&mut bytes), 1), NtStatus::SUCCESS);
            assert_eq!((to.length, to.maximum_length), (6, 8));
            let units: Vec<u16> = Units::new(to.buffer, 4).iter().collect();
            assert_eq!(units, [0x61, 0x20AC, 0x7A, 0]);
            assert_eq!(pool::find(to.buffer as u64).map(|block| block.bytes), Some(8));
            pool::free(to.buffer as u64, None, 0);
        }
    }

    #[test]
    fn unicode_needs_room_for_the_terminator_and_stores_nothing_without() {
        let (mut bytes, mut buffer) = (*b"abc", [7u16; 4]);
        let mut to = unicode(&mut buffer);
        // SAFETY: strings of this test.
        unsafe {
            to.maximum_length = 6;
            let status = rtl_ansi_string_to_unicode_string(&mut to, &ansi(&mut bytes), 0);
            assert_eq!((status, buffer), (NtStatus::BUFFER_OVERFLOW, [7; 4]));
            to.maximum_length = 8;
            let status = rtl_ansi_string_to_unicode_string(&mut to, &ansi(&mut bytes), 0);
            assert_eq!((status, to.length, buffer), (NtStatus::SUCCESS, 6, [97, 98, 99, 0]));
        }
    }

    #[test]
    fn ansi_stores_what_fits_and_tells_of_the_rest() {
        let (mut units, mut buffer) = (utf16("abcd"), [b'#'; 5]);
        let mut to = ansi(&mut buffer);
        let from = unicode(&mut units);
        // SAFETY: strings of this test.
        unsafe {
            to.maximum_length = 3;
            assert_eq!(rtl_unicode_string_to_ansi_string(&mut to, &from, 0), NtStatus::BUFFER_OVERFLOW);
            assert_eq!((to.length, &buffer), (2, b"ab\0##"));
            to.maximum_length = 0;
            to.length = 9;
            assert_eq!(rtl_unicode_string_to_ansi_string(&mut to, &from, 0), NtStatus::BUFFER_OVERFLOW);
            assert_eq!(to.length, 9);
            to.maximum_length = 5;
            assert_eq!(rtl_unicode_string_to_ansi_string(&mut to, &from, 0), NtStatus::SUCCESS);
            assert_eq!((to.length, &buffer), (4, b"abcd\0"));
        }
    }

    #[test]
    fn too_long_a_string_is_refused() {
        let (mut bytes, mut units) = (vec![b'a'; 0x7FFF], vec![b'a'.into(); 10]);
        let mut to = unicode(&mut units);
        // SAFETY: strings of this test.
        let status = unsafe { rtl_ansi_string_to_unicode_string(&mut to, &ansi(&mut bytes), 1) };
        assert_eq!(status, NtStatus::INVALID_PARAMETER_2);
    }

    #[test]
    fn counted_conversions_cut_and_count() {
        let (mut units, mut bytes, mut written) = ([9u16; 4], [9u8; 4], 0);
        // SAFETY: buffers of this test.
        unsafe {
            rtl_multi_byte_to_unicode_n(units.as_mut_ptr(), 5, &mut written, b"abc".as_ptr(), 3);
            assert_eq!((units, written), ([97, 98, 9, 9], 4));
            rtl_upcase_unicode_to_multi_byte_n(bytes.as_mut_ptr(), 4, &mut written, utf16("aäx").as_ptr(), 6);
            assert_eq!((bytes, written), ([b'A', 0xC4, b'X', 9], 3));
        }
    }
}
