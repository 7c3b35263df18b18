//! Time as an argument: the core reads no clock.

/// 100-ns units in one second.
pub const SECOND: u64 = 10_000_000;

/// A point in time, in 100-ns units since a start that only the caller knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Instant(pub u64);

impl Instant {
    /// The end of time.
    pub const NEVER: Self = Self(u64::MAX);

    /// The instant `ticks` 100-ns units later; the end of time if that overflows.
    #[must_use]
    pub const fn after(self, ticks: u64) -> Self {
        Self(self.0.saturating_add(ticks))
    }
}

/// Reads the `LARGE_INTEGER` a client passes as timeout (C-271, C-343).
///
/// Returns the time to wait in 100-ns units, or `None` for the transport's default. Only a
/// negative value is a relative time; what 0 or an absolute time means is not documented, so
/// both select the default.
pub const fn relative_timeout(value: i64) -> Option<u64> {
    if value < 0 { Some(value.unsigned_abs()) } else { None }
}

#[cfg(test)]
mod tests {
    use proves::proves;

    use super::{Instant, relative_timeout};

    #[proves("C-271", "C-343")]
    #[test]
    fn only_a_negative_value_is_a_time_to_wait() {
        let cases = [(-1, Some(1)), (i64::MIN, Some(1 << 63)), (-30_000_000, Some(30_000_000)), (0, None), (5, None)];
        for (value, ticks) in cases {
            assert_eq!(relative_timeout(value), ticks);
        }
    }

    #[test]
    fn time_ends_but_does_not_wrap() {
        assert_eq!(Instant(5).after(7), Instant(12));
        assert_eq!(Instant(5).after(u64::MAX), Instant(u64::MAX));
    }
}
