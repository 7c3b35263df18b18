//! The win64 faces of this crate's services.
//!
//! What drivers pass is theirs to answer for: a bad pointer faults in here and is blamed on the driver instruction
//! that called. That is the safety argument of every function below.

mod events;
mod ex_timers;
mod handles;
mod levels;
mod locks;
mod processors;
mod queues;
mod spin_locks;
mod thread_information;
mod threads;
mod time;
mod work;

use gate::export::{Export, count, flatten};

use crate::thread::PROCESSORS;

const TABLES: [&[Export]; 12] = [
    events::TABLE,
    ex_timers::TABLE,
    handles::TABLE,
    levels::TABLE,
    locks::TABLE,
    processors::TABLE,
    queues::TABLE,
    spin_locks::TABLE,
    thread_information::TABLE,
    threads::TABLE,
    time::TABLE,
    work::TABLE,
];

/// What ntoskrnl exports of threads, waits, locks and time.
pub static TABLE: &[Export] = &flatten::<{ count(&TABLES) }>(&TABLES);

/// A driver's optional timeout.
///
/// # Safety
/// `timeout` is null or points to a LARGE_INTEGER.
unsafe fn timeout_of(timeout: *const i64) -> Option<i64> {
    // SAFETY: the caller's promise; a bad pointer faults here and is blamed on the importing driver.
    (!timeout.is_null()).then(|| unsafe { timeout.read_unaligned() })
}

/// `KeNumberProcessors`, for the table of data exports.
pub fn number_of_processors() -> u32 {
    PROCESSORS
}
