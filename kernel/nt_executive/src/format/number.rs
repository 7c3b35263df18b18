//! Digits of integers and floating-point numbers.

use super::directive::{Conversion, Directive, Size};

/// More digits than any double has; a precision beyond prints no more.
const FLOAT_PRECISION_MAX: usize = 512;

/// A number's parts, so that padding can go between them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Text {
    /// Sign, or `0x`.
    pub prefix: String,
    /// Zeros the precision asks for in front of the digits.
    pub zeros: usize,
    pub digits: String,
    /// Whether the flag `0` applies: not for an integer with a precision.
    pub may_be_zero_padded: bool,
}

/// The text of an argument word.
pub(super) fn text(directive: &Directive, word: u64) -> Text {
    match directive.conversion {
        Conversion::Float(letter) => float(directive, letter, f64::from_bits(word)),
        Conversion::Pointer => Text { digits: format!("{word:016X}"), may_be_zero_padded: true, ..Text::default() },
        Conversion::Unsigned { base, upper } => {
            let value = unsigned(directive.size, word);
            let mut digits = match base {
                8 => format!("{value:o}"),
                16 if upper => format!("{value:X}"),
                16 => format!("{value:x}"),
                _ => value.to_string(),
            };
            let prefix = match base {
                16 if directive.alternate && value != 0 => if upper { "0X" } else { "0x" }.to_owned(),
                _ => String::new(),
            };
            if base == 8 && directive.alternate && value != 0 {
                digits.insert(0, '0');
            }
            integer(directive, prefix, digits)
        }
        _ => {
            let value = signed(directive.size, word);
            integer(directive, sign(directive, value < 0), value.unsigned_abs().to_string())
        }
    }
}

fn signed(size: Size, word: u64) -> i64 {
    match size {
        Size::Byte => i64::from(word as i8),
        Size::Short => i64::from(word as i16),
        Size::Quad => word as i64,
        Size::Default | Size::Long | Size::Wide => i64::from(word as i32),
    }
}

fn unsigned(size: Size, word: u64) -> u64 {
    match size {
        Size::Byte => u64::from(word as u8),
        Size::Short => u64::from(word as u16),
        Size::Quad => word,
        Size::Default | Size::Long | Size::Wide => u64::from(word as u32),
    }
}

fn sign(directive: &Directive, is_negative: bool) -> String {
    match (is_negative, directive.plus, directive.space) {
        (true, ..) => "-",
        (_, true, _) => "+",
        (_, _, true) => " ",
        _ => "",
    }
    .to_owned()
}

fn integer(directive: &Directive, prefix: String, mut digits: String) -> Text {
    if directive.precision == Some(0) && digits == "0" {
        digits.clear();
    }
    let zeros = directive.precision.unwrap_or(0).saturating_sub(digits.len());
    Text { prefix, zeros, digits, may_be_zero_padded: directive.precision.is_none() }
}

fn float(directive: &Directive, letter: u8, value: f64) -> Text {
    let prefix = sign(directive, value.is_sign_negative());
    let magnitude = value.abs();
    if !magnitude.is_finite() {
        // The spelling of Microsoft's C run-time of that time.
        let digits = if magnitude.is_nan() { "1.#QNAN" } else { "1.#INF" }.to_owned();
        return Text { prefix, digits, ..Text::default() };
    }
    let precision = directive.precision.unwrap_or(6).min(FLOAT_PRECISION_MAX);
    let mut digits = match letter.to_ascii_lowercase() {
        b'f' => fixed(magnitude, precision, directive.alternate),
        b'e' => scientific(magnitude, precision, directive.alternate),
        _ => shortest(magnitude, precision.max(1), directive.alternate),
    };
    if letter.is_ascii_uppercase() {
        digits.make_ascii_uppercase();
    }
    Text { prefix, digits, may_be_zero_padded: true, ..Text::default() }
}

fn fixed(value: f64, precision: usize, keep_point: bool) -> String {
    let point = if precision == 0 && keep_point { "." } else { "" };
    format!("{value:.precision$}{point}")
}

/// `1.5e+003`: at least three digits in the exponent, as Microsoft prints it.
fn scientific(value: f64, precision: usize, keep_point: bool) -> String {
    let (mantissa, exponent) = parts(value, precision);
    let point = if precision == 0 && keep_point { "." } else { "" };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}{point}e{sign}{:03}", exponent.unsigned_abs())
}

/// `%g`: the shorter of the two, without trailing zeros unless they are asked for.
fn shortest(value: f64, precision: usize, keep_zeros: bool) -> String {
    let (_, exponent) = parts(value, precision - 1);
    let is_fixed = (-4..precision as i32).contains(&exponent);
    let text = if is_fixed {
        fixed(value, (precision as i32 - 1 - exponent).max(0) as usize, keep_zeros)
    } else {
        scientific(value, precision - 1, keep_zeros)
    };
    if keep_zeros {
        return text;
    }
    let (mantissa, exponent) = match text.find('e') {
        Some(place) => text.split_at(place),
        None => (text.as_str(), ""),
    };
    if !mantissa.contains('.') {
        return text;
    }
    format!("{}{exponent}", mantissa.trim_end_matches('0').trim_end_matches('.'))
}

/// Mantissa and decimal exponent after rounding to `precision` digits behind the point.
fn parts(value: f64, precision: usize) -> (String, i32) {
    let text = format!("{value:.precision$e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => (mantissa.to_owned(), exponent.parse().unwrap_or(0)),
        None => (text, 0),
    }
}
