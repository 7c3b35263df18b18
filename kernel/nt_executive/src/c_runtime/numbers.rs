//! Numbers to text and back, the C run-time's way.

use std::sync::atomic::{AtomicU32, Ordering};

use gate::memory::put;

gate::exports! {
    /// Conversions and pseudo-random numbers.
    pub static TABLE in "ntoskrnl.exe";
    "atoi" | "atol" = atoi(text: *const u8) -> i32, rules "K-201";
    "_atoi64" = atoi64(text: *const u8) -> i64, rules "K-201";
    "_wtoi" | "_wtol" = wtoi(text: *const u16) -> i32, rules "K-201";
    "_wtoi64" = wtoi64(text: *const u16) -> i64, rules "K-201";
    "strtol" = strtol(text: *const u8, end: *mut *const u8, base: i32) -> i32, rules "K-201";
    "strtoul" = strtoul(text: *const u8, end: *mut *const u8, base: i32) -> u32, rules "K-201";
    "wcstol" = wcstol(text: *const u16, end: *mut *const u16, base: i32) -> i32, rules "K-201";
    "wcstoul" = wcstoul(text: *const u16, end: *mut *const u16, base: i32) -> u32, rules "K-201";
    "_itoa" = itoa(value: i32, to: *mut u8, base: i32) -> *mut u8, rules "K-201";
    "_itow" = itow(value: i32, to: *mut u16, base: i32) -> *mut u16, rules "K-201";
    "_ultoa" = ultoa(value: u32, to: *mut u8, base: i32) -> *mut u8, rules "K-201";
    "_i64toa" = i64toa(value: i64, to: *mut u8, base: i32) -> *mut u8, rules "K-201";
    "_i64tow" = i64tow(value: i64, to: *mut u16, base: i32) -> *mut u16, rules "K-201";
    "_ui64toa" = ui64toa(value: u64, to: *mut u8, base: i32) -> *mut u8, rules "K-201";
    "abs" | "labs" = abs(value: i32) -> i32, rules "K-201";
    "rand" = rand() -> i32, rules "K-201";
    "srand" = srand(seed: u32), rules "K-201";
}

/// A number read from text.
struct Parsed {
    negative: bool,
    magnitude: u64,
    /// The magnitude does not fit 64 bits.
    overflow: bool,
    /// Characters up to the end of the number; 0 if there was none.
    taken: usize,
}

/// Reads blanks, a sign, a prefix (base 16, or 0 for any) and digits. `letter` gives the character at a place; it is
/// not asked for any behind the first that is no part of the number.
fn parse(letter: impl Fn(usize) -> u32, base: u32) -> Parsed {
    let is_space = |unit: u32| unit == 32 || (9..=13).contains(&unit);
    let digit_at = |place, radix| char::from_u32(letter(place)).and_then(|letter| letter.to_digit(radix));
    let mut place = (0..).find(|&place| !is_space(letter(place))).unwrap_or(0);
    let sign = letter(place);
    let negative = sign == u32::from(b'-');
    if negative || sign == u32::from(b'+') {
        place += 1;
    }
    let mut radix = base;
    if (base == 0 || base == 16) && letter(place) == u32::from(b'0') {
        let hex = matches!(letter(place + 1), 0x58 | 0x78) && digit_at(place + 2, 16).is_some();
        if hex {
            (radix, place) = (16, place + 2);
        } else if base == 0 {
            radix = 8;
        }
    } else if base == 0 {
        radix = 10;
    }
    let (mut magnitude, mut overflow, first) = (0u64, false, place);
    while let Some(digit) = digit_at(place, radix) {
        let next = magnitude.checked_mul(radix.into()).and_then(|value| value.checked_add(digit.into()));
        overflow |= next.is_none();
        magnitude = next.unwrap_or(u64::MAX);
        place += 1;
    }
    Parsed { negative, magnitude, overflow, taken: if place == first { 0 } else { place } }
}

/// A base that C knows; others give no number.
fn base_of(base: i32) -> Option<u32> {
    u32::try_from(base).ok().filter(|&base| base == 0 || (2..=36).contains(&base))
}

impl Parsed {
    fn none() -> Self {
        Self { negative: false, magnitude: 0, overflow: false, taken: 0 }
    }

    /// Cut to what a `long` holds, as strtol does.
    fn clamped(&self) -> i32 {
        let magnitude = i64::try_from(self.magnitude).unwrap_or(i64::MAX);
        let value = if self.negative { -magnitude } else { magnitude };
        value.clamp(i32::MIN.into(), i32::MAX.into()) as i32
    }

    /// Cut to what an `unsigned long` holds; a minus sign negates in that range, as strtoul does.
    fn unsigned(&self) -> u32 {
        match u32::try_from(self.magnitude) {
            Ok(value) if !self.overflow => {
                if self.negative {
                    value.wrapping_neg()
                } else {
                    value
                }
            }
            _ => u32::MAX,
        }
    }

    fn wide(&self) -> i64 {
        let limit = if self.negative { i64::MIN } else { i64::MAX };
        match i64::try_from(self.magnitude) {
            Ok(value) if !self.overflow => {
                if self.negative {
                    -value
                } else {
                    value
                }
            }
            _ => limit,
        }
    }
}

// All pointers of this module are the driver's; a bad one faults and is blamed on it. That is what every SAFETY note
// below refers to.

unsafe fn narrow(text: *const u8, base: i32) -> Parsed {
    // SAFETY: the driver's text, read up to its NUL at most.
    base_of(base).map_or_else(Parsed::none, |base| parse(|place| unsafe { (*text.add(place)).into() }, base))
}

unsafe fn wide(text: *const u16, base: i32) -> Parsed {
    // SAFETY: the driver's text, read up to its NUL at most.
    let letter = |place| unsafe { text.add(place).read_unaligned() }.into();
    base_of(base).map_or_else(Parsed::none, |base| parse(letter, base))
}

unsafe extern "win64" fn atoi(text: *const u8) -> i32 {
    // SAFETY: the driver's text.
    unsafe { narrow(text, 10) }.clamped()
}

unsafe extern "win64" fn atoi64(text: *const u8) -> i64 {
    // SAFETY: the driver's text.
    unsafe { narrow(text, 10) }.wide()
}

unsafe extern "win64" fn wtoi(text: *const u16) -> i32 {
    // SAFETY: the driver's text.
    unsafe { wide(text, 10) }.clamped()
}

unsafe extern "win64" fn wtoi64(text: *const u16) -> i64 {
    // SAFETY: the driver's text.
    unsafe { wide(text, 10) }.wide()
}

/// Tells where the number ended.
unsafe fn store_end<T>(end: *mut *const T, text: *const T, parsed: &Parsed) {
    if !end.is_null() {
        // SAFETY: the driver's result.
        unsafe { put(end, text.add(parsed.taken)) };
    }
}

unsafe extern "win64" fn strtol(text: *const u8, end: *mut *const u8, base: i32) -> i32 {
    // SAFETY: the driver's text and result.
    unsafe {
        let parsed = narrow(text, base);
        store_end(end, text, &parsed);
        parsed.clamped()
    }
}

unsafe extern "win64" fn strtoul(text: *const u8, end: *mut *const u8, base: i32) -> u32 {
    // SAFETY: the driver's text and result.
    unsafe {
        let parsed = narrow(text, base);
        store_end(end, text, &parsed);
        parsed.unsigned()
    }
}

unsafe extern "win64" fn wcstol(text: *const u16, end: *mut *const u16, base: i32) -> i32 {
    // SAFETY: the driver's text and result.
    unsafe {
        let parsed = wide(text, base);
        store_end(end, text, &parsed);
        parsed.clamped()
    }
}

unsafe extern "win64" fn wcstoul(text: *const u16, end: *mut *const u16, base: i32) -> u32 {
    // SAFETY: the driver's text and result.
    unsafe {
        let parsed = wide(text, base);
        store_end(end, text, &parsed);
        parsed.unsigned()
    }
}

/// Stores a number with a terminator. A base that C does not know stores an empty text.
unsafe fn store<T: From<u8>>(value: u64, negative: bool, to: *mut T, base: i32) -> *mut T {
    let mut digits = vec![0u8];
    if let Some(base) = base_of(base).filter(|&base| base != 0) {
        let mut rest = value;
        loop {
            let digit = char::from_digit((rest % u64::from(base)) as u32, base).unwrap_or('?');
            digits.push(digit as u8);
            rest /= u64::from(base);
            if rest == 0 {
                break;
            }
        }
        if negative {
            digits.push(b'-');
        }
    }
    for (place, &digit) in digits.iter().rev().enumerate() {
        // SAFETY: the driver's buffer.
        unsafe { to.add(place).write_unaligned(digit.into()) };
    }
    to
}

/// Only numbers to base ten have a sign; others are the bits.
fn parts(value: i64, bits: u64, base: i32) -> (u64, bool) {
    if base == 10 && value < 0 { (value.unsigned_abs(), true) } else { (bits, false) }
}

unsafe extern "win64" fn itoa(value: i32, to: *mut u8, base: i32) -> *mut u8 {
    let (value, negative) = parts(value.into(), (value as u32).into(), base);
    // SAFETY: the driver's buffer.
    unsafe { store(value, negative, to, base) }
}

unsafe extern "win64" fn itow(value: i32, to: *mut u16, base: i32) -> *mut u16 {
    let (value, negative) = parts(value.into(), (value as u32).into(), base);
    // SAFETY: the driver's buffer.
    unsafe { store(value, negative, to, base) }
}

unsafe extern "win64" fn ultoa(value: u32, to: *mut u8, base: i32) -> *mut u8 {
    // SAFETY: the driver's buffer.
    unsafe { store(value.into(), false, to, base) }
}

unsafe extern "win64" fn i64toa(value: i64, to: *mut u8, base: i32) -> *mut u8 {
    let (value, negative) = parts(value, value as u64, base);
    // SAFETY: the driver's buffer.
    unsafe { store(value, negative, to, base) }
}

unsafe extern "win64" fn i64tow(value: i64, to: *mut u16, base: i32) -> *mut u16 {
    let (value, negative) = parts(value, value as u64, base);
    // SAFETY: the driver's buffer.
    unsafe { store(value, negative, to, base) }
}

unsafe extern "win64" fn ui64toa(value: u64, to: *mut u8, base: i32) -> *mut u8 {
    // SAFETY: the driver's buffer.
    unsafe { store(value, false, to, base) }
}

unsafe extern "win64" fn abs(value: i32) -> i32 {
    value.wrapping_abs()
}

/// One sequence for all, as in the kernel; it begins as if seeded with 1.
static SEED: AtomicU32 = AtomicU32::new(1);

fn advance(seed: u32) -> u32 {
    seed.wrapping_mul(214_013).wrapping_add(2_531_011)
}

unsafe extern "win64" fn rand() -> i32 {
    let before = SEED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |seed| Some(advance(seed)));
    let (Ok(before) | Err(before)) = before;
    (advance(before) >> 16 & 0x7FFF) as i32
}

unsafe extern "win64" fn srand(seed: u32) {
    SEED.store(seed, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn signed(text: &str, base: i32) -> (i32, usize) {
        let text = format!("{text}\0");
        let mut end = std::ptr::null();
        // SAFETY: a text of this test.
        let value = unsafe { strtol(text.as_ptr(), &mut end, base) };
        (value, end as usize - text.as_ptr() as usize)
    }

    #[test]
    fn strtol_stops_at_the_first_character_that_is_no_digit() {
        assert_eq!(signed("  -12ab", 10), (-12, 5));
        assert_eq!(signed("0x1Fg", 0), (31, 4));
        assert_eq!(signed("0x1F", 16), (31, 4));
        assert_eq!(signed("0xg", 16), (0, 1), "an x without digits is none");
        assert_eq!(signed("017", 0), (15, 3));
        assert_eq!(signed("zz", 36), (35 * 36 + 35, 2));
        assert_eq!(signed("x", 10), (0, 0));
        assert_eq!(signed("12", 1), (0, 0));
    }

    #[test]
    fn numbers_that_do_not_fit_are_cut_to_the_limits() {
        assert_eq!(signed("99999999999", 10).0, i32::MAX);
        assert_eq!(signed("-99999999999999999999999", 10).0, i32::MIN);
        // SAFETY: texts of this test.
        unsafe {
            assert_eq!(strtoul(c"-1".as_ptr().cast(), std::ptr::null_mut(), 10), u32::MAX);
            assert_eq!(strtoul(c"4294967296".as_ptr().cast(), std::ptr::null_mut(), 10), u32::MAX);
            assert_eq!(atoi64(c"-9223372036854775808".as_ptr().cast()), i64::MIN);
        }
    }

    #[test]
    fn only_base_ten_has_a_sign() {
        let mut buffer = [0u8; 40];
        let mut text = |value: i32, base| {
            // SAFETY: a buffer of this test.
            unsafe { itoa(value, buffer.as_mut_ptr(), base) };
            String::from_utf8_lossy(&buffer).split('\0').next().map(str::to_owned).unwrap_or_default()
        };
        assert_eq!(text(-1, 10), "-1");
        assert_eq!(text(-1, 16), "ffffffff");
        assert_eq!(text(5, 2), "101");
        assert_eq!(text(5, 1), "");
    }

    proptest! {
        #[test]
        fn numbers_survive_the_round_trip(value: i64, base in 2i32..=36) {
            let mut buffer = [0u8; 80];
            // SAFETY: a buffer of this test.
            let parsed = unsafe {
                i64toa(value, buffer.as_mut_ptr(), base);
                narrow(buffer.as_ptr(), base)
            };
            let bits = if parsed.negative { parsed.magnitude.wrapping_neg() } else { parsed.magnitude };
            prop_assert_eq!(bits, value as u64);
        }
    }
}
