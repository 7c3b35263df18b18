//! Who runs when: two executors behind one question.
//!
//! *Free*: threads are host threads and really run at once; time is the host's. *Seeded*: threads are fibers on one
//! host thread, a generator seeded by the run's seed chooses at every kernel call and every wait who runs next, and
//! time is virtual ([`seeded`]). The same seed gives the same run.
//!
//! All that differs is asked here: one load and a branch that always goes the same way.

mod deadlock;
mod random;
pub(crate) mod seeded;
mod stack;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

pub use random::Random;

use crate::thread::{self, Start};
use crate::wait;

static SEEDED: AtomicBool = AtomicBool::new(false);

/// An executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Host threads and the host's time.
    Free,
    /// Fibers, virtual time, and a seed that decides.
    Seeded {
        /// What the run is repeated by.
        seed: u64,
    },
}

/// Chooses the executor. Once, before [`drive`] or the first [`thread::adopt_current`] and before an image is bound, on
/// the host thread that will be adopted. Without a call the executor is free.
///
/// Seeded: from here on this process has one host thread that has to do with the kernel, and this thread's time
/// stamp counter faults ([`gate::fault::set_time_stamp_clock`]), for which the fault handlers must be installed.
///
/// # Errors
/// What the operating system says to trapping the time stamp counter.
pub fn start(mode: Mode) -> io::Result<()> {
    if let Mode::Seeded { seed } = mode {
        seeded::start(seed)?;
        SEEDED.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// Runs `main(context)`, which loads and drives drivers, as a thread of the kernel: on the calling host thread in the
/// free executor, in a fiber of its own in the seeded one, so that what drivers see of its stack lies at the same
/// place in every run. For a host thread that was not adopted. `alone` runs before the kernel starts threads of its own.
///
/// # Errors
/// What [`thread::adopt_current`] says, or `OutOfMemory` without room for the fiber.
pub fn drive(alone: impl FnOnce(), main: fn(u64), context: u64) -> io::Result<()> {
    thread::adopt_current_and(alone)?;
    if !is_seeded() {
        main(context);
        return Ok(());
    }
    let thread = thread::create(Start::Host(main), context, 0).map_err(|_| io::ErrorKind::OutOfMemory)?;
    // SAFETY: referenced by `create`.
    unsafe { wait::wait_single(thread, None) };
    nt_object::dereference(thread);
    Ok(())
}

/// Whether threads are fibers and time is virtual.
#[inline(always)]
pub fn is_seeded() -> bool {
    SEEDED.load(Ordering::Relaxed)
}

/// A place where another thread may go on, for exports that just let one: as at every kernel call. No lock may be
/// held. Nothing happens at DISPATCH_LEVEL, or in the free executor.
#[inline(always)]
pub(crate) fn point() {
    if is_seeded() {
        seeded::preempt();
    }
}

/// The calling thread has looked whether something has happened, and does not wait for it: in virtual time a little of it
/// passes, or a loop of looks would never end.
pub(crate) fn looked_in_vain() {
    if is_seeded() {
        seeded::look_in_vain();
    }
}

/// Lets another thread run, if one can (`ZwYieldExecution`), and in virtual time a little of it pass. For threads that look
/// whether something has happened and do not wait for it.
pub(crate) fn give_way() {
    if is_seeded() {
        seeded::look_in_vain();
    } else {
        std::thread::yield_now();
    }
}

/// Lets others run while the calling thread spins until the bits `mask` of `word` are clear, which somebody else has
/// to see to.
pub(crate) fn spin(word: *const u32, mask: u32) {
    if is_seeded() {
        seeded::spin(word, mask);
    } else {
        std::thread::yield_now();
    }
}
