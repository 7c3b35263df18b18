//! Ending a run from outside: SIGINT, SIGTERM and SIGHUP end it as its time limit would, so that what happened so far is told.

use std::io;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// The signal that asked for the end, 0 for none.
static ASKED: AtomicI32 = AtomicI32::new(0);

extern "C" fn on_signal(signal: i32) {
    ASKED.store(signal, Ordering::Relaxed);
}

/// Lets SIGINT, SIGTERM and SIGHUP end runs in good order. A second signal of a kind ends this process at once, and the
/// drivers with it. For programs; a library leaves signals to its program.
///
/// # Errors
/// What `sigaction` says.
pub fn stop_runs_on_signals() -> io::Result<()> {
    let action = SigAction::new(SigHandler::Handler(on_signal), SaFlags::SA_RESETHAND, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler does nothing but store to an atomic.
        unsafe { sigaction(signal, &action)? };
    }
    Ok(())
}

/// Lets a write beyond the limit of file size ('ulimit -f') fail with an error that is told, instead of ending this process.
pub fn report_file_size_limit() {
    // SAFETY: to ignore a signal takes no handler. The error would be that there is no such signal.
    let _ =
        unsafe { sigaction(Signal::SIGXFSZ, &SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty())) };
}

/// The signal that asked for the end of runs, if one did.
pub fn stop_signal() -> Option<i32> {
    match ASKED.load(Ordering::Relaxed) {
        0 => None,
        signal => Some(signal),
    }
}
