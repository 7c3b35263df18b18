//! The end of a run that takes too long.
//!
//! The supervisor sends [`WATCHDOG_SIGNAL`] to the process, and the kernel picks any thread for it. That thread
//! asks all others with the same signal; one that is interrupted in driver code is the culprit. If none is, the
//! driver waits for something: then a thread that serves an import is blamed, the main thread's call first.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::Interrupted;
use crate::bugcheck::{self, BugCheck, Stop};
use crate::text::Text;
use crate::{block, image, stub};

/// Ends the run with DPC_WATCHDOG_VIOLATION (0x133), naming what the driver was doing.
pub const WATCHDOG_SIGNAL: libc::c_int = libc::SIGUSR2;

/// How long other threads get to say what they do.
const PATIENCE_MS: u32 = 100;

/// The calls that threads were found in: caller and import, of the main thread and of any other.
static MAIN: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
static OTHER: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

pub(super) extern "C" fn on_signal(_: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: both come from the kernel.
    let (interrupted, code) = unsafe { (Interrupted::new(context), (*info).si_code) };
    answer(&interrupted);
    if code != libc::SI_TKILL {
        ask_others();
        end();
    }
}

/// Says what this thread does; ends the run if that is driver code.
fn answer(interrupted: &Interrupted<'_>) {
    let rip = interrupted.rip();
    if image::find(rip).is_some() {
        bugcheck::stop(&Stop {
            code: BugCheck::DPC_WATCHDOG_VIOLATION,
            parameters: [1, u64::from(bugcheck::irql().0), 0, 0],
            rip,
            import: None,
            registers: Some(interrupted.registers()),
            message: "The run took longer than its time limit; the driver was running here.",
        });
    }
    let Some(block) = block::installed() else { return };
    // SAFETY: the calling thread's block.
    let (caller, import) = unsafe { ((*block.host()).caller, (*block.host()).import) };
    // SAFETY: no preconditions.
    let is_main = unsafe { libc::getpid() == libc::gettid() };
    let [place, number] = if is_main { &MAIN } else { &OTHER };
    if caller != 0 && place.compare_exchange(0, caller, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        number.store(import, Ordering::Release);
    }
}

fn ask_others() {
    // SAFETY: no preconditions.
    let (process, this) = unsafe { (libc::getpid(), libc::gettid()) };
    for block in block::all() {
        // SAFETY: a committed block; the field is atomic.
        let id = unsafe { (*block.host()).host_id.load(Ordering::Relaxed) } as libc::pid_t;
        if id != 0 && id != this {
            // SAFETY: signals a thread of this process; one that has ended meanwhile is an error to ignore.
            unsafe { libc::syscall(libc::SYS_tgkill, process, id, WATCHDOG_SIGNAL) };
        }
    }
    (0..PATIENCE_MS).for_each(|_| thread::sleep(Duration::from_millis(1)));
}

fn end() -> ! {
    let found = [&MAIN, &OTHER].into_iter().find(|[caller, _]| caller.load(Ordering::Relaxed) != 0);
    let (caller, import) = found.map_or((0, None), |[caller, number]| {
        (caller.load(Ordering::Relaxed), stub::import(number.load(Ordering::Acquire)))
    });
    let mut text = Text::<256>::new();
    match import {
        Some(import) => text.push(format_args!(
            "The run took longer than its time limit; the driver had called {} and did not come back.",
            import.name
        )),
        None => text.push(format_args!("The run took longer than its time limit, though no driver code was running.")),
    }
    bugcheck::stop(&Stop {
        code: BugCheck::DPC_WATCHDOG_VIOLATION,
        parameters: [0; 4],
        rip: caller,
        import,
        registers: None,
        message: text.as_str(),
    })
}
