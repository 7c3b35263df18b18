//! Binds host threads to processors of the host, as drivers bind theirs.
//!
//! Drivers see 64 processors, and few hosts have as many: of a mask those count that this process may use. Where it may use none of
//! them the thread runs anywhere, and only the number it reads is the one it asked for. Virtual time has one host thread, which stays
//! where it is.

use std::sync::OnceLock;

use crate::executor;
use crate::thread::ALL_PROCESSORS;

/// What the process may use, asked for before the first thread is bound.
static OWN: OnceLock<libc::cpu_set_t> = OnceLock::new();

/// Keeps the calling host thread on the processors of `mask`.
pub(crate) fn to(mask: u64) {
    if executor::is_seeded() || mask == ALL_PROCESSORS && OWN.get().is_none() {
        return;
    }
    let own = OWN.get_or_init(current);
    // SAFETY: zeros are an empty set; the numbers lie in it.
    let (wanted, count) = unsafe {
        let mut wanted: libc::cpu_set_t = std::mem::zeroed();
        let named = (0..u64::BITS as usize).filter(|number| mask & 1 << number != 0);
        named.filter(|&number| libc::CPU_ISSET(number, own)).for_each(|number| libc::CPU_SET(number, &mut wanted));
        (wanted, libc::CPU_COUNT(&wanted))
    };
    let wanted = if count == 0 || mask == ALL_PROCESSORS { own } else { &wanted };
    // Where Linux refuses, the thread runs anywhere, as on a host without these processors.
    // SAFETY: a set of this size, for the calling thread.
    let _ = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), wanted) };
}

/// Lets a new thread run anywhere: Linux keeps it where its creator was.
pub(crate) fn nowhere() {
    to(ALL_PROCESSORS);
}

fn current() -> libc::cpu_set_t {
    // SAFETY: zeros are an empty set, which the call fills.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set);
        set
    }
}
