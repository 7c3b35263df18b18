//! Numbers as text, and back.

use gate::memory::put;
use nt_abi::{NtStatus, UnicodeString};

use super::{Bytes, Units};

gate::exports! {
    /// Conversions of integers.
    pub static TABLE in "ntoskrnl.exe";
    "RtlIntegerToUnicodeString" = rtl_integer_to_unicode_string(value: u32, base: u32, to: *mut UnicodeString) -> NtStatus, irql <= PASSIVE, rules "K-163";
    "RtlInt64ToUnicodeString" = rtl_int64_to_unicode_string(value: u64, base: u32, to: *mut UnicodeString) -> NtStatus, irql <= PASSIVE, rules "K-163";
    "RtlUnicodeStringToInteger" = rtl_unicode_string_to_integer(string: *const UnicodeString, base: u32, value: *mut u32) -> NtStatus, irql <= PASSIVE, rules "K-163";
    "RtlUnicodeStringToInt64" = rtl_unicode_string_to_int64(string: *const UnicodeString, base: u32, value: *mut u64, end: *mut *const u16) -> NtStatus, irql <= PASSIVE, rules "K-163";
    "RtlCharToInteger" = rtl_char_to_integer(text: *const u8, base: u32, value: *mut u32) -> NtStatus, rules "K-163";
    "RtlIntegerToChar" = rtl_integer_to_char(value: u32, base: u32, length: i32, to: *mut u8) -> NtStatus, rules "K-163";
}

/// A base that the kernel knows; 0 is ten.
fn radix(base: u32) -> Result<u64, NtStatus> {
    match base {
        0 => Ok(10),
        2 | 8 | 10 | 16 => Ok(base.into()),
        _ => Err(NtStatus::INVALID_PARAMETER),
    }
}

/// The digits of a number, capitals for those above nine.
fn digits(mut value: u64, base: u32) -> Result<Vec<u8>, NtStatus> {
    let radix = radix(base)?;
    let mut digits = Vec::new();
    loop {
        digits.push(b"0123456789ABCDEF"[(value % radix) as usize]);
        value /= radix;
        if value == 0 {
            break;
        }
    }
    digits.reverse();
    Ok(digits)
}

/// A number read from text: its value modulo 2^64, and how many characters it took.
#[derive(Debug, PartialEq, Eq)]
struct Parsed {
    value: u64,
    taken: usize,
}

/// Reads blanks, a sign, a prefix if the base is 0, and digits up to the first character that is none.
fn parse(text: impl Iterator<Item = u16> + Clone, base: u32) -> Result<Parsed, NtStatus> {
    let letter = |place: usize| text.clone().nth(place);
    let is_letter = |place: usize, wanted: u8| letter(place) == Some(wanted.into());
    let mut place = text.clone().take_while(|&unit| unit <= b' '.into() && unit != 0).count();
    let negative = is_letter(place, b'-');
    if negative || is_letter(place, b'+') {
        place += 1;
    }
    let mut radix = radix(base)?;
    if base == 0 && is_letter(place, b'0') {
        for (prefix, of_prefix) in [(b'b', 2), (b'o', 8), (b'x', 16)] {
            if is_letter(place + 1, prefix) {
                (radix, place) = (of_prefix, place + 2);
                break;
            }
        }
    }
    let digit = |unit: u16| char::from_u32(unit.into()).and_then(|letter| letter.to_digit(radix as u32));
    let mut value = 0u64;
    for digit in text.clone().skip(place).map_while(digit) {
        value = value.wrapping_mul(radix).wrapping_add(digit.into());
        place += 1;
    }
    Ok(Parsed { value: if negative { value.wrapping_neg() } else { value }, taken: place })
}

// Strings are the driver's, and so are all pointers of this module; a bad one faults and is blamed on the driver. That
// is what every SAFETY note below refers to.

/// Stores digits with a terminator if there is room for it.
unsafe fn store(value: u64, base: u32, to: *mut UnicodeString) -> NtStatus {
    let digits = match digits(value, base) {
        Ok(digits) => digits,
        Err(status) => return status,
    };
    // SAFETY: the driver's string.
    unsafe {
        let bytes = digits.len() * 2;
        if bytes > (*to).maximum_length.into() {
            return NtStatus::BUFFER_OVERFLOW;
        }
        let terminated = bytes + 2 <= (*to).maximum_length.into();
        let units = digits.iter().map(|&digit| u16::from(digit)).chain(terminated.then_some(0));
        units.enumerate().for_each(|(place, unit)| (*to).buffer.add(place).write_unaligned(unit));
        (*to).length = bytes as u16;
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn rtl_integer_to_unicode_string(value: u32, base: u32, to: *mut UnicodeString) -> NtStatus {
    // SAFETY: the driver's string.
    unsafe { store(value.into(), base, to) }
}

unsafe extern "win64" fn rtl_int64_to_unicode_string(value: u64, base: u32, to: *mut UnicodeString) -> NtStatus {
    // SAFETY: the driver's string.
    unsafe { store(value, base, to) }
}

unsafe extern "win64" fn rtl_unicode_string_to_integer(
    string: *const UnicodeString,
    base: u32,
    value: *mut u32,
) -> NtStatus {
    // SAFETY: the driver's string.
    match unsafe { parse(Units::of(string).iter(), base) } {
        Ok(parsed) => {
            // SAFETY: the driver's result.
            unsafe { put(value, parsed.value as u32) };
            NtStatus::SUCCESS
        }
        Err(status) => status,
    }
}

unsafe extern "win64" fn rtl_unicode_string_to_int64(
    string: *const UnicodeString,
    base: u32,
    value: *mut u64,
    end: *mut *const u16,
) -> NtStatus {
    // SAFETY: the driver's string and results.
    unsafe {
        let text = Units::of(string);
        match parse(text.iter(), base) {
            Ok(parsed) => {
                put(value, parsed.value);
                if !end.is_null() {
                    put(end, text.start().add(parsed.taken));
                }
                NtStatus::SUCCESS
            }
            Err(status) => status,
        }
    }
}

unsafe extern "win64" fn rtl_char_to_integer(text: *const u8, base: u32, value: *mut u32) -> NtStatus {
    // SAFETY: the driver's text.
    let text = unsafe { Bytes::terminated(text, usize::MAX) };
    match parse(text.iter().map(u16::from), base) {
        Ok(_) if value.is_null() => NtStatus::ACCESS_VIOLATION,
        Ok(parsed) => {
            // SAFETY: the driver's result.
            unsafe { put(value, parsed.value as u32) };
            NtStatus::SUCCESS
        }
        Err(status) => status,
    }
}

/// A negative length fills up with zeros to that width.
unsafe extern "win64" fn rtl_integer_to_char(value: u32, base: u32, length: i32, to: *mut u8) -> NtStatus {
    let mut digits = match digits(value.into(), base) {
        Ok(digits) => digits,
        Err(status) => return status,
    };
    let room = length.unsigned_abs() as usize;
    if digits.len() > room {
        return NtStatus::BUFFER_OVERFLOW;
    }
    if to.is_null() {
        return NtStatus::ACCESS_VIOLATION;
    }
    if length < 0 {
        // Bounded by what a number of 32 bits could fill; the rest of a huge width is zeros as well.
        let zeros = room - digits.len();
        // SAFETY: the driver's buffer.
        unsafe {
            to.write_bytes(b'0', zeros);
            digits.iter().enumerate().for_each(|(place, &digit)| to.add(zeros + place).write(digit));
        }
        return NtStatus::SUCCESS;
    }
    if digits.len() < room {
        digits.push(0);
    }
    // SAFETY: the driver's buffer.
    digits.iter().enumerate().for_each(|(place, &digit)| unsafe { to.add(place).write(digit) });
    NtStatus::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::utf16;
    use proptest::prelude::*;

    fn read(text: &str, base: u32) -> Result<Parsed, NtStatus> {
        parse(utf16(text).into_iter(), base)
    }

    #[test]
    fn blanks_sign_and_prefix_are_understood() {
        for (text, base, value, taken) in [
            ("12", 10, 12, 2),
            ("  -7x", 10, (-7i64) as u64, 4),
            ("+0x1F", 0, 31, 5),
            ("0b101", 0, 5, 5),
            ("0o17", 0, 15, 4),
            ("0x1F", 16, 0, 1),
            ("ff", 16, 255, 2),
            ("129", 8, 10, 2),
            ("", 0, 0, 0),
            ("x", 10, 0, 0),
            ("4294967297", 10, 4_294_967_297, 10),
        ] {
            assert_eq!(read(text, base), Ok(Parsed { value, taken }), "{text} to base {base}");
        }
        assert_eq!(read("1", 7), Err(NtStatus::INVALID_PARAMETER));
    }

    #[test]
    fn number_that_does_not_fit_stores_nothing() {
        let mut buffer = [9u16; 4];
        let mut to = UnicodeString { length: 2, maximum_length: 6, _pad: 0, buffer: buffer.as_mut_ptr() };
        // SAFETY: a string of this test.
        unsafe {
            assert_eq!(rtl_integer_to_unicode_string(0xABCD, 16, &mut to), NtStatus::BUFFER_OVERFLOW);
            assert_eq!((to.length, buffer), (2, [9; 4]));
            assert_eq!(rtl_integer_to_unicode_string(0xABC, 16, &mut to), NtStatus::SUCCESS);
            assert_eq!((to.length, buffer), (6, [0x41, 0x42, 0x43, 9]), "no room for a terminator");
            assert_eq!(rtl_integer_to_unicode_string(7, 0, &mut to), NtStatus::SUCCESS);
            assert_eq!((to.length, buffer), (2, [0x37, 0, 0x43, 9]));
            assert_eq!(rtl_integer_to_unicode_string(7, 3, &mut to), NtStatus::INVALID_PARAMETER);
        }
    }

    #[test]
    fn negative_length_fills_up_with_zeros() {
        let mut buffer = [b'#'; 6];
        // SAFETY: a buffer of this test.
        unsafe {
            assert_eq!(rtl_integer_to_char(42, 10, -5, buffer.as_mut_ptr()), NtStatus::SUCCESS);
            assert_eq!(&buffer, b"00042#");
            assert_eq!(rtl_integer_to_char(42, 10, 3, buffer.as_mut_ptr()), NtStatus::SUCCESS);
            assert_eq!(&buffer, b"42\x0042#");
            assert_eq!(rtl_integer_to_char(123, 10, 2, buffer.as_mut_ptr()), NtStatus::BUFFER_OVERFLOW);
        }
    }

    proptest! {
        #[test]
        fn numbers_survive_the_round_trip(value: u64, base in prop::sample::select(vec![2u32, 8, 10, 16])) {
            let text = String::from_utf8(digits(value, base).expect("a base")).expect("digits");
            prop_assert_eq!(read(&text, base).map(|parsed| parsed.value), Ok(value));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text: String, base in 0u32..20) {
            let _ = read(&text, base);
        }
    }
}
