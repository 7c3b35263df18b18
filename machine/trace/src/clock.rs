//! From time stamp counter ticks to nanoseconds.
//!
//! The counter's frequency is not known; every drain reads both clocks, and a stamp is placed on the line
//! between the two readings around it. That is continuous, keeps the order of stamps, and errs by less
//! than one reading takes, however bad a single slope is.

use std::collections::VecDeque;

use nix::time::{ClockId, clock_gettime};

use crate::memory::time_stamp;

/// Readings that are kept: older stamps are placed by the oldest line.
const READINGS: usize = 1024;

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Time stamp counter.
    pub ticks: u64,
    /// CLOCK_MONOTONIC in nanoseconds.
    pub nanoseconds: u64,
}

impl Reading {
    /// Reads both, a few times, and takes the pair that lies closest together.
    pub fn now() -> Self {
        let mut best = Self::once();
        for _ in 0..2 {
            let next = Self::once();
            if next.0 < best.0 {
                best = next;
            }
        }
        best.1
    }

    /// A reading, and the ticks it took.
    fn once() -> (u64, Self) {
        let before = time_stamp();
        // CLOCK_MONOTONIC cannot fail; a zero would only shift times.
        let nanoseconds = clock_gettime(ClockId::CLOCK_MONOTONIC)
            .map_or(0, |time| (time.tv_sec() as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec() as u64));
        let took = time_stamp().wrapping_sub(before);
        (took, Self { ticks: before.wrapping_add(took / 2), nanoseconds })
    }
}

/// The readings of a run.
#[derive(Debug)]
pub struct Calibration {
    started: u64,
    readings: VecDeque<Reading>,
}

impl Calibration {
    /// Starts at the reading that is time 0.
    pub fn new(started: Reading) -> Self {
        Self { started: started.nanoseconds, readings: VecDeque::from([started]) }
    }

    /// Adds a reading. One that does not lie after the last is left out.
    pub fn add(&mut self, reading: Reading) {
        let last = self.last();
        if reading.ticks <= last.ticks || reading.nanoseconds < last.nanoseconds {
            return;
        }
        if self.readings.len() == READINGS {
            self.readings.pop_front();
        }
        self.readings.push_back(reading);
    }

    /// The newest reading.
    pub fn last(&self) -> Reading {
        self.readings.back().copied().unwrap_or(Reading { ticks: 0, nanoseconds: self.started })
    }

    /// Nanoseconds since the start at `ticks`; 0 before the start, and no later than the newest reading.
    pub fn nanoseconds(&self, ticks: u64) -> u64 {
        let after = self.readings.partition_point(|reading| reading.ticks <= ticks).max(1);
        let (Some(from), Some(to)) = (self.readings.get(after - 1), self.readings.get(after)) else {
            return self.last().nanoseconds.saturating_sub(self.started);
        };
        let span = i128::from(to.ticks) - i128::from(from.ticks);
        let rise = i128::from(to.nanoseconds) - i128::from(from.nanoseconds);
        let offset = (i128::from(ticks) - i128::from(from.ticks)) * rise / span;
        let time = i128::from(from.nanoseconds) - i128::from(self.started) + offset;
        u64::try_from(time).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calibration(readings: &[(u64, u64)]) -> Calibration {
        let mut all = readings.iter().map(|&(ticks, nanoseconds)| Reading { ticks, nanoseconds });
        let mut calibration = Calibration::new(all.next().expect("a first reading"));
        all.for_each(|reading| calibration.add(reading));
        calibration
    }

    #[test]
    fn stamp_between_two_readings_lies_on_their_line() {
        let calibration = calibration(&[(1000, 50), (3000, 1050), (4000, 2050)]);
        assert_eq!(calibration.nanoseconds(1000), 0);
        assert_eq!(calibration.nanoseconds(2000), 500);
        assert_eq!(calibration.nanoseconds(3000), 1000);
        assert_eq!(calibration.nanoseconds(3500), 1500);
    }

    #[test]
    fn stamp_outside_of_all_readings_is_kept_within_them() {
        let calibration = calibration(&[(1000, 50), (3000, 1050)]);
        assert_eq!(calibration.nanoseconds(0), 0);
        assert_eq!(calibration.nanoseconds(u64::MAX), 1000);
    }

    #[test]
    fn reading_that_goes_back_is_left_out() {
        let calibration = calibration(&[(1000, 50), (900, 60), (1100, 40), (2000, 1050)]);
        assert_eq!(calibration.nanoseconds(1500), 500);
    }

    #[test]
    fn readings_are_bounded() {
        let mut calibration = calibration(&[(0, 0)]);
        for n in 1..10_000 {
            calibration.add(Reading { ticks: n, nanoseconds: n });
        }
        assert_eq!(calibration.readings.len(), READINGS);
        assert_eq!(calibration.nanoseconds(9_000), 9_000);
    }
}
