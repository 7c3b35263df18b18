//! Sleeping and waking: the one place where a thread of the free executor stops.

use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{clock, poller};

const AWAKE: u32 = 0;
const NOTIFIED: u32 = 1;
const ASLEEP: u32 = 2;
/// Asleep in the network's poll instead of the futex.
const POLLING: u32 = 3;

/// What one thread sleeps on. Lives as long as the process, because a waker may look at it late.
#[derive(Debug)]
pub struct Parker {
    state: AtomicU32,
}

impl Parker {
    /// A parker whose thread is awake.
    pub const fn new() -> Self {
        Self { state: AtomicU32::new(AWAKE) }
    }

    /// Sleeps until [`Parker::unpark`] or `deadline` (interrupt time); may also return for no reason. If
    /// network work is outstanding, the thread does that work while it waits instead of sleeping (leader).
    pub fn park(&self, deadline: Option<u64>) {
        if poller::lead(|max_wait| self.poll_once(deadline, max_wait)) {
            return;
        }
        self.sleep(deadline);
    }

    /// Wakes the thread, or lets its next park return at once.
    pub fn unpark(&self) {
        match self.state.swap(NOTIFIED, Ordering::AcqRel) {
            // SAFETY: waking a futex of our own; nothing is dereferenced.
            ASLEEP => unsafe {
                libc::syscall(libc::SYS_futex, self.state.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1);
            },
            POLLING => poller::wake(),
            _ => {}
        }
    }

    /// As leader: polls once unless the thread was notified. `true` when the park is over.
    fn poll_once(&self, deadline: Option<u64>, poll: &mut dyn FnMut(Option<u64>)) -> bool {
        if self.state.compare_exchange(AWAKE, POLLING, Ordering::AcqRel, Ordering::Acquire).is_err() {
            self.state.store(AWAKE, Ordering::Release);
            return true;
        }
        poll(deadline.map(|deadline| deadline.saturating_sub(clock::now_100ns())));
        let notified = self.state.swap(AWAKE, Ordering::AcqRel) == NOTIFIED;
        notified || deadline.is_some_and(|deadline| clock::now_100ns() >= deadline)
    }

    fn sleep(&self, deadline: Option<u64>) {
        if self.state.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            let left = deadline.map(|deadline| deadline.saturating_sub(clock::now_100ns()));
            let time = left.map(|left| libc::timespec {
                tv_sec: i64::try_from(left / 10_000_000).unwrap_or(i64::MAX),
                tv_nsec: (left % 10_000_000 * 100) as i64,
            });
            let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
            // SAFETY: the futex word and the time outlive the call.
            unsafe {
                let wait = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
                libc::syscall(libc::SYS_futex, self.state.as_ptr(), wait, ASLEEP, time);
            }
        }
        self.state.store(AWAKE, Ordering::Release);
        clock::refresh_shared_page();
    }
}

impl Default for Parker {
    fn default() -> Self {
        Self::new()
    }
}
