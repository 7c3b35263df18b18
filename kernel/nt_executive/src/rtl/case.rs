//! Capital and small letters.
//!
//! Capitals are the namespace's, so that a comparison here and a look-up there never disagree.

use crate::code_page;

gate::exports! {
    /// Case of single characters.
    pub static TABLE in "ntoskrnl.exe";
    "RtlUpcaseUnicodeChar" = rtl_upcase_unicode_char(unit: u16) -> u16, rules "K-163";
    "RtlDowncaseUnicodeChar" = rtl_downcase_unicode_char(unit: u16) -> u16, rules "K-163";
    "RtlUpperChar" = rtl_upper_char(byte: u8) -> u8, rules "K-163";
    "RtlAnsiCharToUnicodeChar" = rtl_ansi_char_to_unicode_char(source: *mut *const u8) -> u16, rules "K-163";
}

/// A character's capital.
pub fn upper(unit: u16) -> u16 {
    nt_object::upcase(unit)
}

/// A character's small letter: the one whose capital it is.
pub fn lower(unit: u16) -> u16 {
    let mut small = char::from_u32(unit.into()).into_iter().flat_map(char::to_lowercase);
    match (small.next().map(u32::from).and_then(|small| u16::try_from(small).ok()), small.next()) {
        (Some(small), None) if upper(small) == unit => small,
        _ => unit,
    }
}

/// A byte's capital in the ANSI code page; itself if that has none there.
pub fn upper_byte(byte: u8) -> u8 {
    let unit = upper(code_page::to_wide(byte));
    let capital = code_page::to_narrow(unit);
    if code_page::to_wide(capital) == unit { capital } else { byte }
}

unsafe extern "win64" fn rtl_upcase_unicode_char(unit: u16) -> u16 {
    upper(unit)
}

unsafe extern "win64" fn rtl_downcase_unicode_char(unit: u16) -> u16 {
    lower(unit)
}

unsafe extern "win64" fn rtl_upper_char(byte: u8) -> u8 {
    upper_byte(byte)
}

unsafe extern "win64" fn rtl_ansi_char_to_unicode_char(source: *mut *const u8) -> u16 {
    // SAFETY: the driver's pointers; bad ones fault and are blamed on it.
    unsafe {
        let byte = **source;
        *source = (*source).add(1);
        code_page::to_wide(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_latin_and_greek_change_their_case() {
        assert_eq!(upper(u16::from(b'z')), u16::from(b'Z'));
        assert_eq!(lower(0xC4), 0xE4);
        assert_eq!(lower(0x3A9), 0x3C9);
        assert_eq!(upper_byte(0xE4), 0xC4);
        // Its capital is two characters, or none in the code page.
        assert_eq!((upper(0xDF), upper_byte(0xDF), upper_byte(0xFF)), (0xDF, 0xDF, 0x9F));
        assert_eq!(upper_byte(0xB5), 0xB5, "a capital my is not in the code page");
    }

    #[test]
    fn small_letters_come_from_their_capitals() {
        for unit in 0..=u16::MAX {
            assert!(lower(unit) == unit || upper(lower(unit)) == unit, "{unit:#x}");
        }
    }
}
