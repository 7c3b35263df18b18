//! Single characters. The kernel's C run-time knows no locale: only ASCII has a class or a case.

gate::exports! {
    /// `is...` and `to...`.
    pub static TABLE in "ntoskrnl.exe";
    "tolower" = tolower(letter: i32) -> i32, rules "K-201";
    "toupper" = toupper(letter: i32) -> i32, rules "K-201";
    "towlower" = towlower(letter: u16) -> u16, rules "K-201";
    "towupper" = towupper(letter: u16) -> u16, rules "K-201";
    "isalpha" = isalpha(letter: i32) -> i32, rules "K-201";
    "isalnum" = isalnum(letter: i32) -> i32, rules "K-201";
    "isdigit" = isdigit(letter: i32) -> i32, rules "K-201";
    "isxdigit" = isxdigit(letter: i32) -> i32, rules "K-201";
    "isspace" = isspace(letter: i32) -> i32, rules "K-201";
    "isupper" = isupper(letter: i32) -> i32, rules "K-201";
    "islower" = islower(letter: i32) -> i32, rules "K-201";
    "isprint" = isprint(letter: i32) -> i32, rules "K-201";
    "ispunct" = ispunct(letter: i32) -> i32, rules "K-201";
    "iscntrl" = iscntrl(letter: i32) -> i32, rules "K-201";
    "iswalpha" = iswalpha(letter: u16) -> i32, rules "K-201";
    "iswalnum" = iswalnum(letter: u16) -> i32, rules "K-201";
    "iswdigit" = iswdigit(letter: u16) -> i32, rules "K-201";
    "iswxdigit" = iswxdigit(letter: u16) -> i32, rules "K-201";
    "iswspace" = iswspace(letter: u16) -> i32, rules "K-201";
}

/// What Microsoft's functions return for a member of each class: its bit in their table.
mod class {
    pub const UPPER: i32 = 0x1;
    pub const LOWER: i32 = 0x2;
    pub const DIGIT: i32 = 0x4;
    pub const SPACE: i32 = 0x8;
    pub const PUNCT: i32 = 0x10;
    pub const CONTROL: i32 = 0x20;
    pub const BLANK: i32 = 0x40;
    pub const HEX: i32 = 0x80;
}

/// The classes of a character; none for what is not ASCII, EOF included.
fn classes(letter: i32) -> i32 {
    let Some(letter) = u8::try_from(letter).ok().filter(u8::is_ascii) else { return 0 };
    let hex = if letter.is_ascii_hexdigit() { class::HEX } else { 0 };
    hex | match letter {
        b'A'..=b'Z' => class::UPPER,
        b'a'..=b'z' => class::LOWER,
        b'0'..=b'9' => class::DIGIT,
        b' ' => class::SPACE | class::BLANK,
        b'\t'..=b'\r' => class::SPACE | class::CONTROL,
        0..=0x1F | 0x7F => class::CONTROL,
        _ => class::PUNCT,
    }
}

macro_rules! members {
    ($($name:ident($ty:ty) = $classes:expr;)*) => {
        $(unsafe extern "win64" fn $name(letter: $ty) -> i32 {
            classes(letter.into()) & ($classes)
        })*
    };
}

const ALPHA: i32 = class::UPPER | class::LOWER;
const ALNUM: i32 = ALPHA | class::DIGIT;

members! {
    isalpha(i32) = ALPHA;
    isalnum(i32) = ALNUM;
    isdigit(i32) = class::DIGIT;
    isxdigit(i32) = class::HEX;
    isspace(i32) = class::SPACE;
    isupper(i32) = class::UPPER;
    islower(i32) = class::LOWER;
    isprint(i32) = ALNUM | class::PUNCT | class::BLANK;
    ispunct(i32) = class::PUNCT;
    iscntrl(i32) = class::CONTROL;
    iswalpha(u16) = ALPHA;
    iswalnum(u16) = ALNUM;
    iswdigit(u16) = class::DIGIT;
    iswxdigit(u16) = class::HEX;
    iswspace(u16) = class::SPACE;
}

unsafe extern "win64" fn tolower(letter: i32) -> i32 {
    if classes(letter) & class::UPPER != 0 { letter + 0x20 } else { letter }
}

unsafe extern "win64" fn toupper(letter: i32) -> i32 {
    if classes(letter) & class::LOWER != 0 { letter - 0x20 } else { letter }
}

unsafe extern "win64" fn towlower(letter: u16) -> u16 {
    if classes(letter.into()) & class::UPPER != 0 { letter + 0x20 } else { letter }
}

unsafe extern "win64" fn towupper(letter: u16) -> u16 {
    if classes(letter.into()) & class::LOWER != 0 { letter - 0x20 } else { letter }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_agree_with_the_language() {
        for letter in 0..=0xFFu8 {
            let is = |mask| classes(letter.into()) & mask != 0;
            assert_eq!(is(ALPHA), letter.is_ascii_alphabetic(), "{letter:#x}");
            assert_eq!(is(class::HEX), letter.is_ascii_hexdigit(), "{letter:#x}");
            assert_eq!(is(class::CONTROL), letter.is_ascii_control(), "{letter:#x}");
            assert_eq!(is(class::PUNCT), letter.is_ascii_punctuation(), "{letter:#x}");
            let space = letter.is_ascii_whitespace() || letter == 0x0B;
            assert_eq!(is(class::SPACE), space, "{letter:#x}");
        }
    }

    #[test]
    fn case_changes_for_ascii_letters_only() {
        // SAFETY: these take no pointers.
        unsafe {
            assert_eq!((tolower(65), tolower(97), tolower(-1), toupper(0xE4)), (97, 97, -1, 0xE4));
            assert_eq!((towupper(0x7A), towlower(0xC4)), (0x5A, 0xC4));
        }
    }
}
