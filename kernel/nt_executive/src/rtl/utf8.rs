//! Between UTF-8 and UTF-16.

use std::borrow::Cow;

use gate::memory::put;
use nt_abi::{AnsiString, NtStatus, UnicodeString};

use super::strings::find_room;
use super::{Bytes, Units};

gate::exports! {
    /// UTF-8.
    pub static TABLE in "ntoskrnl.exe";
    "RtlUnicodeToUTF8N" = rtl_unicode_to_utf8_n(to: *mut u8, room: u32, written: *mut u32, from: *const u16, bytes: u32) -> NtStatus, irql <= PASSIVE, rules "K-165";
    "RtlUTF8ToUnicodeN" = rtl_utf8_to_unicode_n(to: *mut u16, room: u32, written: *mut u32, from: *const u8, bytes: u32) -> NtStatus, irql <= PASSIVE, rules "K-165";
    "RtlUnicodeStringToUTF8String" = rtl_unicode_string_to_utf8_string(to: *mut AnsiString, from: *const UnicodeString, allocate: u8) -> NtStatus, irql <= PASSIVE, rules "K-165";
    "RtlUTF8StringToUnicodeString" = rtl_utf8_string_to_unicode_string(to: *mut UnicodeString, from: *const AnsiString, allocate: u8) -> NtStatus, irql <= PASSIVE, rules "K-165";
}

/// Text, and whether something in it had to be replaced.
struct Converted {
    text: String,
    status: NtStatus,
}

fn status(exact: bool) -> NtStatus {
    if exact { NtStatus::SUCCESS } else { NtStatus::SOME_NOT_MAPPED }
}

/// UTF-8 of UTF-16; a lone surrogate becomes U+FFFD.
fn narrow(units: Units) -> Converted {
    let mut exact = true;
    let text = char::decode_utf16(units.iter())
        .map(|unit| {
            unit.unwrap_or_else(|_| {
                exact = false;
                char::REPLACEMENT_CHARACTER
            })
        })
        .collect();
    Converted { text, status: status(exact) }
}

/// The text of UTF-8; each part that is no UTF-8 becomes U+FFFD.
fn wide(bytes: Bytes) -> Converted {
    let bytes: Vec<u8> = bytes.iter().collect();
    let text = String::from_utf8_lossy(&bytes);
    // Only what had to be mended is a copy.
    let status = status(matches!(text, Cow::Borrowed(_)));
    Converted { text: text.into_owned(), status }
}

// All pointers of this module are the driver's; a bad one faults and is blamed on it. That is what every SAFETY note
// below refers to.

/// A null `to` asks for the size only. Whole characters are stored as far as they fit.
unsafe extern "win64" fn rtl_unicode_to_utf8_n(
    to: *mut u8,
    room: u32,
    written: *mut u32,
    from: *const u16,
    bytes: u32,
) -> NtStatus {
    if from.is_null() {
        return NtStatus::INVALID_PARAMETER_4;
    }
    if written.is_null() {
        return NtStatus::INVALID_PARAMETER;
    }
    if !to.is_null() && !bytes.is_multiple_of(2) {
        return NtStatus::INVALID_PARAMETER_5;
    }
    // SAFETY: the driver's buffers.
    unsafe {
        let Converted { text, status } = narrow(Units::new(from, bytes as usize / 2));
        if to.is_null() {
            put(written, text.len() as u32);
            return status;
        }
        let fits = text.floor_char_boundary(room as usize);
        text.bytes().take(fits).enumerate().for_each(|(place, byte)| to.add(place).write(byte));
        put(written, fits as u32);
        if fits < text.len() { NtStatus::BUFFER_TOO_SMALL } else { status }
    }
}

/// As `RtlUnicodeToUTF8N`, the other way.
unsafe extern "win64" fn rtl_utf8_to_unicode_n(
    to: *mut u16,
    room: u32,
    written: *mut u32,
    from: *const u8,
    bytes: u32,
) -> NtStatus {
    if from.is_null() {
        return NtStatus::INVALID_PARAMETER_4;
    }
    if written.is_null() {
        return NtStatus::INVALID_PARAMETER;
    }
    // SAFETY: the driver's buffers.
    unsafe {
        let Converted { text, status } = wide(Bytes::new(from, bytes as usize));
        let room = if to.is_null() { usize::MAX } else { room as usize / 2 };
        let mut count = 0;
        for character in text.chars() {
            let mut pair = [0; 2];
            let units = character.encode_utf16(&mut pair);
            if count + units.len() > room {
                put(written, count as u32 * 2);
                return NtStatus::BUFFER_TOO_SMALL;
            }
            for &unit in units.iter() {
                if !to.is_null() {
                    to.add(count).write_unaligned(unit);
                }
                count += 1;
            }
        }
        put(written, count as u32 * 2);
        status
    }
}

unsafe extern "win64" fn rtl_unicode_string_to_utf8_string(
    to: *mut AnsiString,
    from: *const UnicodeString,
    allocated: u8,
) -> NtStatus {
    // SAFETY: the driver's strings.
    unsafe {
        let Converted { text, status } = narrow(Units::of(from));
        let needed = text.len() + 1;
        if let Err(status) = find_room(&raw mut (*to).maximum_length, &raw mut (*to).buffer, needed, allocated) {
            return status;
        }
        (*to).length = text.len() as u16;
        text.bytes().chain([0]).enumerate().for_each(|(place, byte)| (*to).buffer.add(place).write(byte));
        status
    }
}

unsafe extern "win64" fn rtl_utf8_string_to_unicode_string(
    to: *mut UnicodeString,
    from: *const AnsiString,
    allocated: u8,
) -> NtStatus {
    // SAFETY: the driver's strings.
    unsafe {
        let Converted { text, status } = wide(Bytes::of(from));
        let needed = (text.encode_utf16().count() + 1) * 2;
        if let Err(status) = find_room(&raw mut (*to).maximum_length, &raw mut (*to).buffer, needed, allocated) {
            return status;
        }
        (*to).length = needed as u16 - 2;
        text.encode_utf16()
            .chain([0])
            .enumerate()
            .for_each(|(place, unit)| (*to).buffer.add(place).write_unaligned(unit));
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn to_utf8(units: &[u16], room: usize) -> (NtStatus, Vec<u8>) {
        let (mut buffer, mut written) = (vec![0u8; room], 0);
        // SAFETY: buffers of this test.
        let status = unsafe {
            rtl_unicode_to_utf8_n(
                buffer.as_mut_ptr(),
                room as u32,
                &mut written,
                units.as_ptr(),
                units.len() as u32 * 2,
            )
        };
        buffer.truncate(written as usize);
        (status, buffer)
    }

    fn to_utf16(bytes: &[u8], room: usize) -> (NtStatus, Vec<u16>) {
        let (mut buffer, mut written) = (vec![0u16; room], 0);
        // SAFETY: buffers of this test.
        let status = unsafe {
            rtl_utf8_to_unicode_n(
                buffer.as_mut_ptr(),
                room as u32 * 2,
                &mut written,
                bytes.as_ptr(),
                bytes.len() as u32,
            )
        };
        buffer.truncate(written as usize / 2);
        (status, buffer)
    }

    #[test]
    fn only_whole_characters_are_stored() {
        let euro: Vec<u16> = "a€".encode_utf16().collect();
        assert_eq!(to_utf8(&euro, 3), (NtStatus::BUFFER_TOO_SMALL, b"a".to_vec()));
        assert_eq!(to_utf8(&euro, 4), (NtStatus::SUCCESS, "a€".into()));
        assert_eq!(to_utf16("a😀".as_bytes(), 2), (NtStatus::BUFFER_TOO_SMALL, vec![0x61]));
    }

    #[test]
    fn what_is_no_character_is_replaced_and_told() {
        assert_eq!(to_utf8(&[0xD800, 0x61], 9), (NtStatus::SOME_NOT_MAPPED, "\u{FFFD}a".into()));
        assert_eq!(to_utf16(b"a\xFFb", 9), (NtStatus::SOME_NOT_MAPPED, vec![0x61, 0xFFFD, 0x62]));
    }

    #[test]
    fn missing_pointers_are_told_by_number() {
        let mut written = 0;
        // SAFETY: null pointers are what is tested.
        unsafe {
            let null = std::ptr::null_mut();
            assert_eq!(
                rtl_unicode_to_utf8_n(null, 0, &mut written, std::ptr::null(), 0),
                NtStatus::INVALID_PARAMETER_4
            );
            assert_eq!(rtl_unicode_to_utf8_n(null, 0, null.cast(), [0x61u16].as_ptr(), 2), NtStatus::INVALID_PARAMETER);
            assert_eq!(rtl_unicode_to_utf8_n(null, 0, &mut written, [0x20ACu16].as_ptr(), 2), NtStatus::SUCCESS);
        }
        assert_eq!(written, 3);
    }

    proptest! {
        #[test]
        fn text_survives_the_round_trip(text: String) {
            let units: Vec<u16> = text.encode_utf16().collect();
            let (status, bytes) = to_utf8(&units, text.len());
            prop_assert_eq!((status, &bytes[..]), (NtStatus::SUCCESS, text.as_bytes()));
            prop_assert_eq!(to_utf16(&bytes, units.len()), (NtStatus::SUCCESS, units));
        }

        #[test]
        fn any_bytes_and_any_room_are_answered(bytes: Vec<u8>, room in 0usize..40) {
            let (status, units) = to_utf16(&bytes, room);
            prop_assert!(units.len() <= room);
            let known = [NtStatus::SUCCESS, NtStatus::SOME_NOT_MAPPED, NtStatus::BUFFER_TOO_SMALL];
            prop_assert!(known.contains(&status));
        }
    }
}
