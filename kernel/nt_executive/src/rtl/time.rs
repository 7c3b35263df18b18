//! Calendars and clocks: system time is 100 ns units since the year 1601, UTC.
//!
//! Local time is UTC: a run must not depend on where it happens.

use gate::memory::put;
use nt_abi::NtStatus;

gate::exports! {
    /// Conversions of times.
    pub static TABLE in "ntoskrnl.exe";
    "RtlTimeToTimeFields" = rtl_time_to_time_fields(time: *const i64, fields: *mut TimeFields), rules "K-200";
    "RtlTimeToElapsedTimeFields" = rtl_time_to_elapsed_time_fields(time: *const i64, fields: *mut TimeFields), rules "K-200";
    "RtlTimeFieldsToTime" = rtl_time_fields_to_time(fields: *const TimeFields, time: *mut i64) -> u8, rules "K-200";
    "RtlTimeToSecondsSince1970" = rtl_time_to_seconds_since_1970(time: *const i64, seconds: *mut u32) -> u8, rules "K-200";
    "RtlTimeToSecondsSince1980" = rtl_time_to_seconds_since_1980(time: *const i64, seconds: *mut u32) -> u8, rules "K-200";
    "RtlSecondsSince1970ToTime" = rtl_seconds_since_1970_to_time(seconds: u32, time: *mut i64), rules "K-200";
    "RtlSecondsSince1980ToTime" = rtl_seconds_since_1980_to_time(seconds: u32, time: *mut i64), rules "K-200";
    "ExSystemTimeToLocalTime" = copy_time(from: *const i64, to: *mut i64), rules "K-200";
    "ExLocalTimeToSystemTime" = copy_time(from: *const i64, to: *mut i64), rules "K-200";
    "RtlLocalTimeToSystemTime" = rtl_copy_time(from: *const i64, to: *mut i64) -> NtStatus, rules "K-200";
    "RtlSystemTimeToLocalTime" = rtl_copy_time(from: *const i64, to: *mut i64) -> NtStatus, rules "K-200";
}

/// `TIME_FIELDS`.
#[doc(alias = "TIME_FIELDS")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TimeFields {
    year: i16,
    month: i16,
    day: i16,
    hour: i16,
    minute: i16,
    second: i16,
    milliseconds: i16,
    /// Sunday is 0.
    weekday: i16,
}

const _: () = assert!(size_of::<TimeFields>() == 16);

const SECOND_100NS: i64 = 10_000_000;
const MILLISECOND_100NS: i64 = 10_000;
const DAY_SECONDS: i64 = 86_400;
/// Days from 1601 to 1970 and to 1980.
const DAYS_TO_1970: i64 = 134_774;
const DAYS_TO_1980: i64 = 138_426;
/// Days in 400 years.
const ERA_DAYS: i64 = 146_097;
/// The first of January 1601 was a Monday.
const FIRST_WEEKDAY: i64 = 1;
/// Last year that a time can be given as fields for.
const YEAR_MAX: i16 = 30_827;

/// Year, month and day of a day counted from 1601.
fn date_of(days: i64) -> (i64, i64, i64) {
    // Years begin in March here, so that the day a leap year has more is its last.
    let days = days + DAYS_TO_1601;
    let era = days.div_euclid(ERA_DAYS);
    let of_era = days.rem_euclid(ERA_DAYS);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Days from the first of March of the year 0 to the first of January 1601.
const DAYS_TO_1601: i64 = days_from_march_0(1601, 1, 1);

const fn days_from_march_0(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month = if month > 2 { month - 3 } else { month + 9 };
    era * ERA_DAYS + of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 + day - 1
}

/// Days from 1601.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    days_from_march_0(year, month, day) - DAYS_TO_1601
}

/// A span of time: days, and the rest of the last one.
unsafe extern "win64" fn rtl_time_to_elapsed_time_fields(time: *const i64, fields: *mut TimeFields) {
    // SAFETY: the driver's time and result; a bad pointer faults and is blamed on it.
    unsafe {
        let time = time.read_unaligned();
        let of_day = fields_of(time);
        let day = time.div_euclid(DAY_SECONDS * SECOND_100NS) as i16;
        put(fields, TimeFields { year: 0, month: 0, day, weekday: 0, ..of_day });
    }
}

fn fields_of(time: i64) -> TimeFields {
    let seconds = time.div_euclid(SECOND_100NS);
    let (days, of_day) = (seconds.div_euclid(DAY_SECONDS), seconds.rem_euclid(DAY_SECONDS));
    let (year, month, day) = date_of(days);
    TimeFields {
        year: year as i16,
        month: month as i16,
        day: day as i16,
        hour: (of_day / 3600) as i16,
        minute: (of_day / 60 % 60) as i16,
        second: (of_day % 60) as i16,
        milliseconds: (time.rem_euclid(SECOND_100NS) / MILLISECOND_100NS) as i16,
        weekday: (days + FIRST_WEEKDAY).rem_euclid(7) as i16,
    }
}

/// The time, `None` if there is no such moment. The weekday is not looked at.
fn time_of(fields: &TimeFields) -> Option<i64> {
    let in_range = (1601..=YEAR_MAX).contains(&fields.year)
        && (1..=12).contains(&fields.month)
        && fields.day >= 1
        && (0..24).contains(&fields.hour)
        && (0..60).contains(&fields.minute)
        && (0..60).contains(&fields.second)
        && (0..1000).contains(&fields.milliseconds);
    if !in_range {
        return None;
    }
    let days = days_of(fields.year.into(), fields.month.into(), fields.day.into());
    if date_of(days).1 != fields.month.into() {
        return None;
    }
    let seconds =
        days * DAY_SECONDS + i64::from(fields.hour) * 3600 + i64::from(fields.minute) * 60 + i64::from(fields.second);
    Some(seconds * SECOND_100NS + i64::from(fields.milliseconds) * MILLISECOND_100NS)
}

// All pointers of this module are the driver's; a bad one faults and is blamed on it. That is what every SAFETY note
// below refers to.

unsafe extern "win64" fn rtl_time_to_time_fields(time: *const i64, fields: *mut TimeFields) {
    // SAFETY: the driver's time and fields.
    unsafe { put(fields, fields_of(time.read_unaligned())) };
}

unsafe extern "win64" fn rtl_time_fields_to_time(fields: *const TimeFields, time: *mut i64) -> u8 {
    // SAFETY: the driver's fields and time.
    unsafe {
        let Some(found) = time_of(&*fields) else { return 0 };
        put(time, found);
    }
    1
}

/// Seconds since a day, if they fit.
fn seconds_since(time: i64, days: i64) -> Option<u32> {
    u32::try_from(time.div_euclid(SECOND_100NS) - days * DAY_SECONDS).ok()
}

unsafe fn store_seconds(time: *const i64, days: i64, seconds: *mut u32) -> u8 {
    // SAFETY: the driver's time and result.
    unsafe {
        let Some(found) = seconds_since(time.read_unaligned(), days) else { return 0 };
        put(seconds, found);
    }
    1
}

unsafe extern "win64" fn rtl_time_to_seconds_since_1970(time: *const i64, seconds: *mut u32) -> u8 {
    // SAFETY: the driver's time and result.
    unsafe { store_seconds(time, DAYS_TO_1970, seconds) }
}

unsafe extern "win64" fn rtl_time_to_seconds_since_1980(time: *const i64, seconds: *mut u32) -> u8 {
    // SAFETY: the driver's time and result.
    unsafe { store_seconds(time, DAYS_TO_1980, seconds) }
}

unsafe extern "win64" fn rtl_seconds_since_1970_to_time(seconds: u32, time: *mut i64) {
    // SAFETY: the driver's result.
    unsafe { put(time, (i64::from(seconds) + DAYS_TO_1970 * DAY_SECONDS) * SECOND_100NS) };
}

unsafe extern "win64" fn rtl_seconds_since_1980_to_time(seconds: u32, time: *mut i64) {
    // SAFETY: the driver's result.
    unsafe { put(time, (i64::from(seconds) + DAYS_TO_1980 * DAY_SECONDS) * SECOND_100NS) };
}

unsafe extern "win64" fn copy_time(from: *const i64, to: *mut i64) {
    // SAFETY: the driver's times.
    unsafe { put(to, from.read_unaligned()) };
}

unsafe extern "win64" fn rtl_copy_time(from: *const i64, to: *mut i64) -> NtStatus {
    // SAFETY: the driver's times.
    unsafe { put(to, from.read_unaligned()) };
    NtStatus::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_moments_have_their_fields() {
        let fields = |year, month, day, weekday| TimeFields { year, month, day, weekday, ..TimeFields::default() };
        assert_eq!(fields_of(0), fields(1601, 1, 1, 1));
        assert_eq!(fields_of(116_444_736_000_000_000), fields(1970, 1, 1, 4));
        assert_eq!(fields_of(DAYS_TO_1980 * DAY_SECONDS * SECOND_100NS), fields(1980, 1, 1, 2));
        let leap = time_of(&fields(2000, 2, 29, 0)).expect("a leap day");
        assert_eq!(fields_of(leap + 86_399_999 * MILLISECOND_100NS).hour, 23);
        assert_eq!(fields_of(leap), fields(2000, 2, 29, 2));
    }

    #[test]
    fn moments_that_do_not_exist_are_refused() {
        for (year, month, day) in
            [(1900, 2, 29), (2023, 2, 30), (2023, 13, 1), (1600, 12, 31), (2023, 4, 31), (2023, 1, 0)]
        {
            assert_eq!(
                time_of(&TimeFields { year, month, day, ..TimeFields::default() }),
                None,
                "{year}-{month}-{day}"
            );
        }
    }

    #[test]
    fn seconds_since_1970_end_in_2106() {
        let time = |seconds: i64| (DAYS_TO_1970 * DAY_SECONDS + seconds) * SECOND_100NS;
        assert_eq!(seconds_since(time(u32::MAX.into()), DAYS_TO_1970), Some(u32::MAX));
        assert_eq!(seconds_since(time(i64::from(u32::MAX) + 1), DAYS_TO_1970), None);
        assert_eq!(seconds_since(time(-1), DAYS_TO_1970), None);
    }

    proptest! {
        #[test]
        fn times_survive_the_round_trip(milliseconds in 0i64..900_000_000_000_000) {
            let time = milliseconds * MILLISECOND_100NS;
            prop_assert_eq!(time_of(&fields_of(time)), Some(time));
        }
    }
}
