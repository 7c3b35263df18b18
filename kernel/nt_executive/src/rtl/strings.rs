//! Counted strings (K-163, K-164).

use nt_abi::{NtStatus, UnicodeString};
use std::ptr;

gate::exports! {
    /// Strings.
    pub static TABLE in "ntoskrnl.exe";
    "RtlInitUnicodeString" = rtl_init_unicode_string(string: *mut UnicodeString, text: *const u16), rules "K-164";
    "RtlAppendUnicodeToString" = rtl_append_unicode_to_string(to: *mut UnicodeString, text: *const u16) -> NtStatus, rules "K-163";
}

/// Most bytes that a length can say and still be followed by a terminator.
const BYTES_MAX: usize = 0xFFFC;

/// Bytes of a NUL-terminated text, without the terminator, cut where a string's length ends.
///
/// # Safety
/// The driver's string; a bad one faults and is blamed on it. The same holds for the whole module.
unsafe fn bytes_of(text: *const u16) -> usize {
    let mut units = 0;
    // SAFETY: see above.
    while units < BYTES_MAX / 2 && unsafe { text.add(units).read_unaligned() } != 0 {
        units += 1;
    }
    units * 2
}

unsafe extern "win64" fn rtl_init_unicode_string(string: *mut UnicodeString, text: *const u16) {
    // SAFETY: see `bytes_of`.
    unsafe {
        let (length, maximum_length) = match text.is_null() {
            true => (0, 0),
            false => (bytes_of(text) as u16, bytes_of(text) as u16 + 2),
        };
        (*string).length = length;
        (*string).maximum_length = maximum_length;
        (*string).buffer = text.cast_mut();
    }
}

unsafe extern "win64" fn rtl_append_unicode_to_string(to: *mut UnicodeString, text: *const u16) -> NtStatus {
    if text.is_null() {
        return NtStatus::SUCCESS;
    }
    // SAFETY: see `bytes_of`.
    unsafe {
        let (length, added) = (usize::from((*to).length), bytes_of(text));
        let room = usize::from((*to).maximum_length);
        if length + added > room {
            return NtStatus::BUFFER_TOO_SMALL;
        }
        let end = (*to).buffer.cast::<u8>().add(length);
        ptr::copy(text.cast::<u8>(), end, added);
        (*to).length = (length + added) as u16;
        if length + added + 2 <= room {
            end.add(added).cast::<u16>().write_unaligned(0);
        }
    }
    NtStatus::SUCCESS
}
