//! Time as an argument: the core reads no clock.

/// 100-ns units in one second.
pub const SECOND: u64 = 10_000_000;

/// A point in time, in 100-ns units since a start that only the caller knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Instant(pub u64);

impl Instant {
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
