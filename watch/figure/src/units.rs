//! Times, sizes and texts as people read them.

use trace::printable;

/// Longest text that is taken over from an event, in characters.
const TEXT_MAX: usize = 240;

/// A unit in which all times of a figure are given, so that they can be compared at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// With three decimals, for runs under ten seconds: requests take microseconds.
    Millis,
    /// With three decimals.
    Seconds,
}

impl TimeUnit {
    /// The unit for a figure whose last time this is.
    pub fn for_times_up_to(last_ns: u64) -> Self {
        match last_ns {
            0..10_000_000_000 => Self::Millis,
            _ => Self::Seconds,
        }
    }

    /// A time with its unit.
    pub fn format(self, time_ns: u64) -> String {
        match self {
            Self::Millis => format!("{}.{:03} ms", grouped(time_ns / 1_000_000), time_ns / 1000 % 1000),
            Self::Seconds => format!("{}.{:03} s", grouped(time_ns / 1_000_000_000), time_ns / 1_000_000 % 1000),
        }
    }
}

/// A duration with three digits that matter.
pub fn duration(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..10_000 => format!("{}.{} µs", ns / 1000, ns / 100 % 10),
        10_000..1_000_000 => format!("{} µs", ns / 1000),
        1_000_000..10_000_000 => format!("{}.{:02} ms", ns / 1_000_000, ns / 10_000 % 100),
        10_000_000..100_000_000 => format!("{}.{} ms", ns / 1_000_000, ns / 100_000 % 10),
        100_000_000..10_000_000_000 => format!("{} ms", grouped(ns / 1_000_000)),
        _ => format!("{}.{} s", grouped(ns / 1_000_000_000), ns / 100_000_000 % 10),
    }
}

/// A number of bytes: exact below a mebibyte, since drivers are debugged by exact numbers.
pub fn bytes(count: u64) -> String {
    match count {
        1 => "1 byte".into(),
        0..0x10_0000 => format!("{} bytes", grouped(count)),
        0x10_0000..0x4000_0000 => format!("{}.{} MiB", count >> 20, ((count & 0xF_FFFF) * 10) >> 20),
        _ => format!("{}.{:02} GiB", grouped(count >> 30), ((count & 0x3FFF_FFFF) * 100) >> 30),
    }
}

/// `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A driver's text on one line, without characters that steer a terminal or a reader's eye, of bounded length.
pub fn clean(text: &str) -> String {
    // Cut before it is escaped, so that an escape stays whole.
    let text = text.trim_end_matches(['\r', '\n', '\0']);
    match text.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}…", printable(&text[..end])),
        None => printable(text).into_owned(),
    }
}

/// The text with its runs of spaces held together by no-break spaces, which neither wrapping nor SVG collapses. The last of a
/// run stays, so that lines can break there.
pub fn hold_spaces(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let held = character == ' ' && (out.is_empty() || characters.peek().is_none_or(|next| *next == ' '));
        out.push(if held { '\u{A0}' } else { character });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_one_figure_share_a_unit() {
        assert_eq!(TimeUnit::for_times_up_to(999_999_999).format(1_234_567), "1.234 ms");
        assert_eq!(TimeUnit::for_times_up_to(9_000_000_000).format(1_234_567_890), "1,234.567 ms");
        assert_eq!(TimeUnit::for_times_up_to(u64::MAX).format(61_500_000_000), "61.500 s");
    }

    #[test]
    fn durations_keep_three_digits() {
        let durations = [999, 9_990, 99_900, 999_000, 9_990_000, 99_900_000, 9_990_000_000, 99_900_000_000];
        let expected = ["999 ns", "9.9 µs", "99 µs", "999 µs", "9.99 ms", "99.9 ms", "9,990 ms", "99.9 s"];
        assert_eq!(durations.map(duration), expected);
    }

    #[test]
    fn byte_counts_are_exact_until_they_are_large() {
        let counts = [0, 1, 91, 65_536, 0x10_0000, 64 << 20, 5 << 29, u64::MAX];
        let expected = [
            "0 bytes",
            "1 byte",
            "91 bytes",
            "65,536 bytes",
            "1.0 MiB",
            "64.0 MiB",
            "2.50 GiB",
            "17,179,869,183.99 GiB",
        ];
        assert_eq!(counts.map(bytes), expected);
    }

    #[test]
    fn text_of_a_driver_becomes_one_short_line() {
        assert_eq!(clean(" two\r\n lines\t\u{1b}[31m \r\n"), r" two\r\n lines\t\u{1b}[31m ");
        assert_eq!(clean("name\u{202E}sys.exe"), r"name\u{202e}sys.exe");
        assert_eq!(clean("port    80  tcp\n"), "port    80  tcp");
        let long = clean(&"word ".repeat(1000));
        assert!(long.chars().count() <= TEXT_MAX + 1 && long.ends_with('…'), "{long}");
    }

    #[test]
    fn runs_of_spaces_are_held_and_single_spaces_break() {
        assert_eq!(hold_spaces("a b   c"), "a b\u{A0}\u{A0} c");
        assert_eq!(hold_spaces("  a "), "\u{A0} a\u{A0}");
    }
}
