//! Time as drivers see it, in units of 100 ns (K-125, K-135).

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::executor::{self, seeded};

/// Units of 100 ns between 1601 and 1970.
const UNIX_EPOCH_100NS: u64 = 116_444_736_000_000_000;
/// What `KeQueryTimeIncrement` says: 15.625 ms a tick.
pub const TICK_100NS: u64 = 156_250;

/// When a run in virtual time begins: the first of January 2024, in system time.
const VIRTUAL_START_100NS: u64 = 133_485_408_000_000_000;

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Interrupt time: since the start of the run.
pub fn now_100ns() -> u64 {
    if executor::is_seeded() {
        return seeded::now();
    }
    // Not through `as_nanos`: a division of 128 bits costs as much as reading the clock.
    let since = STARTED.elapsed();
    since.as_secs() * 10_000_000 + u64::from(since.subsec_nanos() / 100)
}

/// Interrupt time for a driver that asks for it.
pub fn read_100ns() -> u64 {
    if executor::is_seeded() { seeded::read_clock() } else { now_100ns() }
}

/// Real time in virtual runs, which must not decide anything but how far virtual time moves while a real network
/// is waited for. By system call: the C library's clock would read the time stamp counter, which faults there.
pub(crate) fn real_100ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec. CLOCK_MONOTONIC cannot fail.
    unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 10_000_000 + time.tv_nsec as u64 / 100
}

/// How long a thread of this process has run, by its number for Linux; `None` if there is none.
pub(crate) fn run_time_100ns(host_thread: i32) -> Option<u64> {
    /// In the low bits of a clock's number: all that a thread runs, by the scheduler's count.
    const THREAD_BY_SCHEDULER: i32 = 4 | 2;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec; a clock that is not there is an error.
    let failed = unsafe { libc::clock_gettime(!host_thread << 3 | THREAD_BY_SCHEDULER, &raw mut time) };
    (failed == 0).then(|| time.tv_sec as u64 * 10_000_000 + time.tv_nsec as u64 / 100)
}

/// Lets a time pass without giving up the processor (`KeStallExecutionProcessor`).
pub fn stall(time_100ns: u64) {
    let end = now_100ns() + time_100ns;
    if executor::is_seeded() {
        seeded::set_now(end);
    }
    while now_100ns() < end {
        std::hint::spin_loop();
    }
}

/// System time: since 1601, UTC.
pub fn system_time_100ns() -> u64 {
    if executor::is_seeded() {
        return VIRTUAL_START_100NS + seeded::now();
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_nanos() / 100) as u64 + UNIX_EPOCH_100NS
}

/// When a wait that is told to last `timeout` ends, in interrupt time. Negative values are relative, others
/// absolute system time (K-125).
pub fn deadline(timeout: i64) -> u64 {
    let now = now_100ns();
    if timeout < 0 {
        return now.saturating_add(timeout.unsigned_abs());
    }
    now.saturating_add((timeout as u64).saturating_sub(system_time_100ns()))
}

/// Brings the shared page's clocks up to date: at every tick, or whenever virtual time moves. By the clock's thread, and
/// before there is one by whoever starts a run.
pub fn refresh_shared_page() {
    let now = now_100ns();
    gate::shared_page::set_times(system_time_100ns(), now, now / TICK_100NS);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[proves::proves("K-125")]
    #[test]
    fn negative_timeouts_are_relative_and_positive_ones_absolute() {
        let before = now_100ns();
        assert!(deadline(-50_000_000) >= before + 50_000_000);
        assert!(deadline(1) <= now_100ns(), "the year 1601 is over");
        let absolute = deadline((system_time_100ns() + 600_000_000) as i64);
        assert!(absolute > before + 500_000_000, "a minute from now is still to come");
    }
}
