//! Between the OEM code page and UTF-16: as for the ANSI one (K-165).

use gate::memory::put;
use nt_abi::{AnsiString, NtStatus, UnicodeString};

use super::case::upper;
use super::conversion::{bytes_to_units, string_to_unicode, to_bytes, unicode_to_string};
use super::strings::find_room;
use super::{Bytes, Units};
use crate::code_page::oem;

gate::exports! {
    /// Conversions of the OEM character set.
    pub static TABLE in "ntoskrnl.exe";
    "RtlOemStringToUnicodeString" = rtl_oem_string_to_unicode_string(to: *mut UnicodeString, from: *const AnsiString, allocate: u8) -> NtStatus, irql <= PASSIVE, rules "K-165";
    "RtlOemStringToCountedUnicodeString" = rtl_oem_string_to_counted_unicode_string(to: *mut UnicodeString, from: *const AnsiString, allocate: u8) -> NtStatus, irql <= PASSIVE, rules "K-165";
    "RtlUnicodeStringToOemString" = rtl_unicode_string_to_oem_string(to: *mut AnsiString, from: *const UnicodeString, allocate: u8) -> NtStatus, irql <= PASSIVE, rules "K-165";
    "RtlUpcaseUnicodeStringToOemString" = rtl_upcase_unicode_string_to_oem_string(to: *mut AnsiString, from: *const UnicodeString, allocate: u8) -> NtStatus, irql <= PASSIVE, rules "K-165";
    "RtlUnicodeStringToCountedOemString" = rtl_unicode_string_to_counted_oem_string(to: *mut AnsiString, from: *const UnicodeString, allocate: u8) -> NtStatus, irql <= PASSIVE, rules "K-165";
    "RtlUpcaseUnicodeStringToCountedOemString" = rtl_upcase_unicode_string_to_counted_oem_string(to: *mut AnsiString, from: *const UnicodeString, allocate: u8) -> NtStatus, irql <= PASSIVE, rules "K-165";
    "RtlOemToUnicodeN" = rtl_oem_to_unicode_n(to: *mut u16, room: u32, written: *mut u32, from: *const u8, bytes: u32) -> NtStatus, irql <= PASSIVE, rules "K-165";
    "RtlUnicodeToOemN" = rtl_unicode_to_oem_n(to: *mut u8, room: u32, written: *mut u32, from: *const u16, bytes: u32) -> NtStatus, irql <= PASSIVE, rules "K-165";
    "RtlUpcaseUnicodeToOemN" = rtl_upcase_unicode_to_oem_n(to: *mut u8, room: u32, written: *mut u32, from: *const u16, bytes: u32) -> NtStatus, irql <= PASSIVE, rules "K-165";
}

// Strings are the driver's, and so are all pointers of this module; a bad one faults and is blamed on the driver. That
// is what every SAFETY note below refers to.

fn to_upper_narrow(unit: u16) -> u8 {
    oem::to_narrow(upper(unit))
}

unsafe extern "win64" fn rtl_oem_string_to_unicode_string(
    to: *mut UnicodeString,
    from: *const AnsiString,
    allocated: u8,
) -> NtStatus {
    // SAFETY: the driver's strings.
    unsafe { string_to_unicode(to, from, allocated, oem::to_wide) }
}

/// Without a terminator; an empty string has no buffer.
unsafe extern "win64" fn rtl_oem_string_to_counted_unicode_string(
    to: *mut UnicodeString,
    from: *const AnsiString,
    allocated: u8,
) -> NtStatus {
    // SAFETY: the driver's strings.
    unsafe {
        let from = Bytes::of(from);
        if from.count() == 0 {
            put(to, UnicodeString::EMPTY);
            return NtStatus::SUCCESS;
        }
        let needed = from.count() * 2;
        if let Err(status) = find_room(&raw mut (*to).maximum_length, &raw mut (*to).buffer, needed, allocated) {
            return status;
        }
        (*to).length = needed as u16;
        for (place, byte) in from.iter().enumerate() {
            (*to).buffer.add(place).write_unaligned(oem::to_wide(byte));
        }
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn rtl_unicode_string_to_oem_string(
    to: *mut AnsiString,
    from: *const UnicodeString,
    allocated: u8,
) -> NtStatus {
    // SAFETY: the driver's strings.
    unsafe { unicode_to_string(to, from, allocated, oem::to_narrow) }
}

unsafe extern "win64" fn rtl_upcase_unicode_string_to_oem_string(
    to: *mut AnsiString,
    from: *const UnicodeString,
    allocated: u8,
) -> NtStatus {
    // SAFETY: the driver's strings.
    unsafe { unicode_to_string(to, from, allocated, to_upper_narrow) }
}

/// Without a terminator; an empty string has no buffer. What has no byte is an error here.
unsafe fn counted(to: *mut AnsiString, from: *const UnicodeString, allocated: u8, change: fn(u16) -> u16) -> NtStatus {
    // SAFETY: the driver's strings.
    unsafe {
        let from = Units::of(from);
        if from.count() == 0 {
            put(to, AnsiString { length: 0, maximum_length: 0, _pad: 0, buffer: std::ptr::null_mut() });
            return NtStatus::SUCCESS;
        }
        if from.iter().any(|unit| !oem::has_byte(change(unit))) {
            return NtStatus::UNMAPPABLE_CHARACTER;
        }
        let needed = from.count();
        if let Err(status) = find_room(&raw mut (*to).maximum_length, &raw mut (*to).buffer, needed, allocated) {
            return status;
        }
        (*to).length = needed as u16;
        for (place, unit) in from.iter().enumerate() {
            (*to).buffer.add(place).write(oem::to_narrow(change(unit)));
        }
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn rtl_unicode_string_to_counted_oem_string(
    to: *mut AnsiString,
    from: *const UnicodeString,
    allocated: u8,
) -> NtStatus {
    // SAFETY: the driver's strings.
    unsafe { counted(to, from, allocated, |unit| unit) }
}

unsafe extern "win64" fn rtl_upcase_unicode_string_to_counted_oem_string(
    to: *mut AnsiString,
    from: *const UnicodeString,
    allocated: u8,
) -> NtStatus {
    // SAFETY: the driver's strings.
    unsafe { counted(to, from, allocated, upper) }
}

unsafe extern "win64" fn rtl_oem_to_unicode_n(
    to: *mut u16,
    room: u32,
    written: *mut u32,
    from: *const u8,
    bytes: u32,
) -> NtStatus {
    // SAFETY: the driver's buffers.
    unsafe { bytes_to_units(to, room, written, from, bytes, oem::to_wide) }
}

unsafe extern "win64" fn rtl_unicode_to_oem_n(
    to: *mut u8,
    room: u32,
    written: *mut u32,
    from: *const u16,
    bytes: u32,
) -> NtStatus {
    // SAFETY: the driver's buffers.
    unsafe { to_bytes(to, room, written, from, bytes, oem::to_narrow) }
}

unsafe extern "win64" fn rtl_upcase_unicode_to_oem_n(
    to: *mut u8,
    room: u32,
    written: *mut u32,
    from: *const u16,
    bytes: u32,
) -> NtStatus {
    // SAFETY: the driver's buffers.
    unsafe { to_bytes(to, room, written, from, bytes, to_upper_narrow) }
}
