//! The time stamp counter where time is virtual.
//!
//! `rdtsc` and `rdtscp` are made to fault on the calling host thread. In driver code they are answered from the
//! virtual clock. Elsewhere (the C library's clocks, by way of the kernel's vDSO) they are answered truly, so that
//! a library that looks at the time works; only it must not let what it saw decide anything that a driver can see.

use std::arch::x86_64::_rdtsc;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Interrupted, RAX, RCX, RDX};
use crate::{image, memory};

static CLOCK: AtomicUsize = AtomicUsize::new(0);

const PR_SET_TSC: libc::c_int = 26;
const PR_TSC_ENABLE: libc::c_ulong = 1;
const PR_TSC_SIGSEGV: libc::c_ulong = 2;

/// Lets `clock` answer what driver code reads from the time stamp counter, on the calling host thread and those it
/// starts. The clock is called in a signal handler: it must not lock or allocate.
///
/// # Errors
/// What `prctl` says.
pub fn set_time_stamp_clock(clock: fn() -> u64) -> io::Result<()> {
    CLOCK.store(clock as usize, Ordering::Release);
    set(PR_TSC_SIGSEGV)
}

fn set(mode: libc::c_ulong) -> io::Result<()> {
    // SAFETY: changes whether an instruction faults; the handler answers it from now on.
    if unsafe { libc::prctl(PR_SET_TSC, mode, 0, 0, 0) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Answers the interrupted instruction if it reads the counter.
pub(super) fn answer(interrupted: &mut Interrupted<'_>) -> bool {
    let clock = CLOCK.load(Ordering::Acquire);
    if clock == 0 {
        return false;
    }
    let rip = interrupted.rip();
    let (length, has_processor) = match memory::read_value::<[u8; 2]>(rip) {
        Ok([0x0F, 0x31]) => (2, false),
        Ok([0x0F, 0x01]) if memory::read_value::<u8>(rip + 2) == Ok(0xF9) => (3, true),
        _ => return false,
    };
    let value = if image::find(rip).is_some() {
        // SAFETY: `set_time_stamp_clock` is the only writer and stores such a function.
        unsafe { std::mem::transmute::<usize, fn() -> u64>(clock)() }
    } else {
        true_value()
    };
    interrupted.set(RAX, value & 0xFFFF_FFFF);
    interrupted.set(RDX, value >> 32);
    if has_processor {
        interrupted.set(RCX, 0);
    }
    interrupted.set_rip(rip + length);
    true
}

fn true_value() -> u64 {
    // What cannot be allowed is answered with a standstill: the sandbox forbids it, and nobody could tell here.
    if set(PR_TSC_ENABLE).is_err() {
        return 0;
    }
    // SAFETY: allowed by the line above.
    let value = unsafe { _rdtsc() };
    let _ = set(PR_TSC_SIGSEGV);
    value
}
