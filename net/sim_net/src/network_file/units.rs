//! Values with units, as a network file writes them.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// No simulated time is longer: ten years, in nanoseconds.
const TIME_MAX: f64 = 10.0 * 365.0 * 86_400.0 * 1e9;

/// `"20ms"`, `"1.5s"`, `"2m"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(pub(crate) Duration);

/// `0.01` or `"1%"`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Chance(pub(crate) f64);

/// `"10mbit"`, `"64kbit"`: bits per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate(pub(crate) u64);

/// `65536` or `"64KiB"`: bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

/// Splits `"1.5 s"` into 1.5 and "s".
fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    Some((number, text[end..].trim_start()))
}

fn time(text: &str) -> Option<Time> {
    let (number, unit) = number_and_unit(text)?;
    let nanoseconds = number
        * match unit {
            "ns" => 1.0,
            "us" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3_600e9,
            _ => return None,
        };
    (nanoseconds <= TIME_MAX).then(|| Time(Duration::from_nanos(nanoseconds.round() as u64)))
}

fn chance(text: &str) -> Option<Chance> {
    let (number, unit) = number_and_unit(text)?;
    let share = if unit == "%" { number / 100.0 } else { return None };
    (share <= 1.0).then_some(Chance(share))
}

fn rate(text: &str) -> Option<Rate> {
    let (number, unit) = number_and_unit(text)?;
    let bits = number
        * match unit {
            "bit" => 1.0,
            "kbit" => 1e3,
            "mbit" => 1e6,
            "gbit" => 1e9,
            _ => return None,
        };
    (1.0..=1e12).contains(&bits).then_some(Rate(bits as u64))
}

fn size(text: &str) -> Option<Size> {
    let (number, unit) = number_and_unit(text)?;
    let bytes = number
        * match unit {
            "B" => 1.0,
            "KiB" => 1024.0,
            "MiB" => 1_048_576.0,
            "GiB" => 1_073_741_824.0,
            _ => return None,
        };
    (bytes <= 1e12).then_some(Size(bytes as u64))
}

/// Deserializes by a function of text, and perhaps one of a number.
struct Text<T> {
    expected: &'static str,
    from_text: fn(&str) -> Option<T>,
    from_number: fn(f64) -> Option<T>,
}

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        let value = (self.from_text)(text);
        value.ok_or_else(|| E::custom(format_args!("`{text}`, expected {}", self.expected)))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        let value = (self.from_number)(number);
        value.ok_or_else(|| E::custom(format_args!("`{number}`, expected {}", self.expected)))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        self.visit_f64(number as f64)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let expected = "a time with its unit, such as \"20ms\" (ns, us, ms, s, m, h; ten years at most)";
        source.deserialize_any(Text { expected, from_text: time, from_number: |_| None })
    }
}

impl<'de> Deserialize<'de> for Chance {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let expected = "a share of all packets between 0 and 1, such as 0.01 or \"1%\"";
        let from_number = |number: f64| (0.0..=1.0).contains(&number).then_some(Self(number));
        source.deserialize_any(Text { expected, from_text: chance, from_number })
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let expected = "a rate with its unit, such as \"10mbit\" (bit, kbit, mbit, gbit)";
        source.deserialize_any(Text { expected, from_text: rate, from_number: |_| None })
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let expected = "a number of bytes, such as 65536 or \"64KiB\" (B, KiB, MiB, GiB)";
        let from_number =
            |number: f64| (number.fract() == 0.0 && (0.0..=1e12).contains(&number)).then_some(Self(number as u64));
        source.deserialize_any(Text { expected, from_text: size, from_number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_scale_their_numbers() {
        assert_eq!(time("20ms"), Some(Time(Duration::from_millis(20))));
        assert_eq!(time("1.5 s"), Some(Time(Duration::from_millis(1500))));
        assert_eq!(time("2h"), Some(Time(Duration::from_secs(7200))));
        assert_eq!(rate("10mbit"), Some(Rate(10_000_000)));
        assert_eq!(size("64KiB"), Some(Size(65_536)));
        assert_eq!(chance("1%"), Some(Chance(0.01)));
    }

    #[test]
    fn values_without_unit_or_sense_are_refused() {
        for text in ["", "20", "ms", "-1s", "1e3s", "1..5s", "20 parsecs", "99999999999999h"] {
            assert_eq!(time(text), None, "{text}");
        }
        for text in ["", "10", "0bit", "10mb", "99999gbit"] {
            assert_eq!(rate(text), None, "{text}");
        }
        assert_eq!(chance("101%"), None);
        assert_eq!(chance("1"), None);
        assert_eq!(size("1kb"), None);
    }
}
