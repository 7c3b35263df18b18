//! The table that is printed.

use std::fmt;

/// One line: what was measured, against what.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The row of performance figures it belongs to.
    pub row: &'static str,
    /// What was done.
    pub work: &'static str,
    /// What the driver took, per operation.
    pub ours: Quantity,
    /// What the floor took.
    pub floor: Quantity,
    /// The middle of the ratios of all turns; without a floor the figure itself counts.
    pub ratio: Option<f64>,
    /// What the ratio, or the figure, must not exceed (or, for rates, fall below).
    pub bound: Bound,
}

/// A figure with its unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quantity {
    /// Nanoseconds.
    Nanoseconds(f64),
    /// Bytes.
    Bytes(f64),
    /// There is none.
    None,
}

/// What a line is held to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// The ratio is at most this.
    RatioAtMost(f64),
    /// The ratio is at least this.
    RatioAtLeast(f64),
    /// The figure in nanoseconds is at most this.
    NanosecondsAtMost(f64),
}

impl Line {
    /// Whether the bound is kept.
    pub fn is_kept(&self) -> bool {
        match (self.bound, self.ratio, self.ours) {
            (Bound::RatioAtMost(bound), Some(ratio), _) => ratio <= bound,
            (Bound::RatioAtLeast(bound), Some(ratio), _) => ratio >= bound,
            (Bound::NanosecondsAtMost(bound), _, Quantity::Nanoseconds(figure)) => figure <= bound,
            _ => false,
        }
    }
}

/// The middle of some figures.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The head of the table, in Markdown.
pub const HEAD: &str = "| row | work | ours | floor | ratio | must be | |\n|---|---|---:|---:|---:|---|---|";

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { row, work, ours, floor, ratio, bound } = self;
        let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
        let kept = if self.is_kept() { "" } else { "missed" };
        write!(f, "| {row} | {work} | {ours} | {floor} | {ratio} | {bound} | {kept} |")
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Nanoseconds(value) => nanoseconds(f, value),
            Self::Bytes(value) => write!(f, "{value:.0} B"),
            Self::None => Ok(()),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::RatioAtMost(bound) => write!(f, "≤ {bound}"),
            Self::RatioAtLeast(bound) => write!(f, "≥ {bound}"),
            Self::NanosecondsAtMost(bound) => {
                f.write_str("≤ ")?;
                nanoseconds(f, bound)
            }
        }
    }
}

fn nanoseconds(f: &mut fmt::Formatter<'_>, value: f64) -> fmt::Result {
    match value {
        0.0..100.0 => write!(f, "{value:.1} ns"),
        100.0..10_000.0 => write!(f, "{value:.0} ns"),
        10_000.0..1e6 => write!(f, "{:.1} µs", value / 1e3),
        _ => write!(f, "{:.2} ms", value / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(ratio: f64, bound: Bound) -> Line {
        let (ours, floor) = (Quantity::Nanoseconds(25.0), Quantity::Nanoseconds(10.0));
        Line { row: "5", work: "IRP", ours, floor, ratio: Some(ratio), bound }
    }

    #[test]
    fn line_that_misses_its_bound_says_so() {
        assert_eq!(line(2.5, Bound::RatioAtMost(3.0)).to_string(), "| 5 | IRP | 25.0 ns | 10.0 ns | 2.50 | ≤ 3 |  |");
        assert!(line(3.5, Bound::RatioAtMost(3.0)).to_string().ends_with("| missed |"));
        assert!(!line(0.8, Bound::RatioAtLeast(0.9)).is_kept());
        assert!(line(9.0, Bound::NanosecondsAtMost(25.0)).is_kept());
    }

    #[test]
    fn figures_are_given_in_units_that_can_be_read() {
        let print = |value| Quantity::Nanoseconds(value).to_string();
        assert_eq!([8.66, 346.4, 10_800.0, 2_700_000.0].map(print), ["8.7 ns", "346 ns", "10.8 µs", "2.70 ms"]);
    }

    #[test]
    fn median_is_the_middle_figure() {
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
    }
}
