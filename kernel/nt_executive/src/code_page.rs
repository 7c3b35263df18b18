//! The ANSI code page: Windows-1252.
//!
//! Every byte has a character and comes back from it, so strings survive the trip through UTF-16; the five bytes that
//! the code page leaves undefined map to the control characters of the same number, as Windows maps them.

pub mod oem;

/// Characters of the bytes 0x80 to 0x9F; the others are their own number.
const HIGH: [u16; 32] = [
    0x20AC, 0x0081, 0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0x008D,
    0x017D, 0x008F, 0x0090, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A,
    0x0153, 0x009D, 0x017E, 0x0178,
];

/// What stands for a character that has no byte.
const DEFAULT: u8 = b'?';

/// A byte's character.
pub fn to_wide(byte: u8) -> u16 {
    match byte {
        0x80..=0x9F => HIGH[usize::from(byte - 0x80)],
        _ => byte.into(),
    }
}

/// A character's byte; `?` if it has none.
pub fn to_narrow(unit: u16) -> u8 {
    match unit {
        0..=0x7F | 0xA0..=0xFF => unit as u8,
        _ => HIGH.iter().position(|&high| high == unit).map_or(DEFAULT, |index| 0x80 + index as u8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back_from_its_character() {
        for byte in 0..=u8::MAX {
            assert_eq!(to_narrow(to_wide(byte)), byte);
        }
    }

    #[test]
    fn character_without_a_byte_becomes_a_question_mark() {
        assert_eq!(to_narrow(0x4E2D), b'?');
        assert_eq!(to_narrow(0x20AC), 0x80, "the euro sign has one");
    }
}
