//! Time as the networks see it.

use std::time::Duration;

/// A point in time: nanoseconds since some start that only the caller knows. Virtual or real.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetTime {
    nanoseconds: u64,
}

impl NetTime {
    /// The start.
    pub const ZERO: Self = Self { nanoseconds: 0 };

    /// The point `nanoseconds` after the start.
    pub const fn from_nanoseconds(nanoseconds: u64) -> Self {
        Self { nanoseconds }
    }

    /// Nanoseconds since the start.
    pub const fn as_nanoseconds(self) -> u64 {
        self.nanoseconds
    }

    /// The point `later` after this one; the last representable one if there is none.
    pub fn saturating_add(self, later: Duration) -> Self {
        let nanoseconds = u64::try_from(later.as_nanos()).unwrap_or(u64::MAX);
        Self { nanoseconds: self.nanoseconds.saturating_add(nanoseconds) }
    }

    /// How long after `earlier` this is; zero if it is not.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanoseconds.saturating_sub(earlier.nanoseconds))
    }
}

/// How long a poll may block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// Until then at the latest.
    Until(NetTime),
    /// Until there is an event or a wake.
    Forever,
}

impl Wait {
    /// The longest time to block from `now` on; `None` is for ever.
    pub fn longest(self, now: NetTime) -> Option<Duration> {
        match self {
            Self::No => Some(Duration::ZERO),
            Self::Until(deadline) => Some(deadline.saturating_since(now)),
            Self::Forever => None,
        }
    }
}
