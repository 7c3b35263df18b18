//! The time stamp counter, which driver and floors share.

use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

/// The counter now.
pub fn ticks() -> u64 {
    // SAFETY: the instruction exists on every x86-64 processor and reads a register.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Nanoseconds of so many ticks.
pub fn nanoseconds(ticks: f64) -> f64 {
    static PER_TICK: OnceLock<f64> = OnceLock::new();
    ticks * PER_TICK.get_or_init(calibrate)
}

/// Nanoseconds in a tick, against the monotonic clock over a tenth of a second.
fn calibrate() -> f64 {
    let (started, from) = (Instant::now(), ticks());
    thread::sleep(Duration::from_millis(100));
    let (elapsed, until) = (started.elapsed(), ticks());
    elapsed.as_nanos() as f64 / (until - from) as f64
}

/// Ticks that `body` takes.
pub fn time(body: impl FnOnce()) -> u64 {
    let from = ticks();
    body();
    ticks() - from
}
