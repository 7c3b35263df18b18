//! Sleeping and waking: the one place where a thread of the free executor stops.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::executor::{self, seeded};
use crate::{clock, poller, thread};

const AWAKE: u32 = 0;
const NOTIFIED: u32 = 1;
const ASLEEP: u32 = 2;
/// Asleep in the network's poll instead of the futex.
const POLLING: u32 = 3;

/// What one thread sleeps on. Lives as long as the process, because a waker may look at it late.
#[derive(Debug)]
pub struct Parker {
    state: AtomicU32,
    /// Whether the thread is inside the network's poll, be it that a callback of that waits.
    is_polling: AtomicBool,
    /// What the thread waits for, 0 if for nothing that a driver knows. For reports.
    object: AtomicU64,
}

impl Parker {
    /// A parker whose thread is awake.
    pub const fn new() -> Self {
        Self { state: AtomicU32::new(AWAKE), is_polling: AtomicBool::new(false), object: AtomicU64::new(0) }
    }

    /// Sleeps until [`Parker::unpark`] or `deadline` (interrupt time); may also return for no reason. If
    /// network work is outstanding, the thread does that work while it waits instead of sleeping (leader).
    pub fn park(&'static self, deadline: Option<u64>) {
        if executor::is_seeded() || !poller::lead(self, |poll| self.poll_once(deadline, poll)) {
            self.rest(deadline);
        }
    }

    /// Wakes the thread, or lets its next park return at once.
    pub fn unpark(&self) {
        match self.state.swap(NOTIFIED, Ordering::AcqRel) {
            ASLEEP => futex_wake(&self.state),
            // What a thread's own poll completes needs no call to end that poll.
            POLLING if !thread::is_current(self) => poller::wake(),
            _ => {}
        }
    }

    /// Whether the next park returns at once.
    pub(crate) fn is_notified(&self) -> bool {
        self.state.load(Ordering::Acquire) == NOTIFIED
    }

    /// Notes what the thread waits for, 0 when it no longer does.
    pub(crate) fn note_object(&self, object: u64) {
        self.object.store(object, Ordering::Relaxed);
    }

    /// What the thread waits for.
    pub(crate) fn object(&self) -> u64 {
        self.object.load(Ordering::Relaxed)
    }

    /// Whether the thread is inside the network's poll.
    pub(crate) fn is_polling(&self) -> bool {
        self.is_polling.load(Ordering::Relaxed)
    }

    /// Runs the network's poll.
    pub(crate) fn while_polling(&self, poll: impl FnOnce()) {
        self.is_polling.store(true, Ordering::Relaxed);
        poll();
        self.is_polling.store(false, Ordering::Relaxed);
    }

    /// For the next thread, after one that may have ended inside the network's poll.
    pub(crate) fn reset(&self) {
        self.is_polling.store(false, Ordering::Relaxed);
        self.note_object(0);
        self.state.store(AWAKE, Ordering::Release);
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

    /// As [`Parker::park`], but never does network work: for threads that serve others.
    pub(crate) fn rest(&'static self, deadline: Option<u64>) {
        if executor::is_seeded() {
            if !self.is_notified() {
                seeded::wait(deadline);
            }
            self.state.store(AWAKE, Ordering::Release);
            return;
        }
        if self.is_polling() {
            // A callback of this thread's poll waits. The park around the poll looks again when that is over.
            let _ = self.state.compare_exchange(POLLING, AWAKE, Ordering::AcqRel, Ordering::Acquire);
        }
        if self.state.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            futex_wait(&self.state, ASLEEP, deadline);
        }
        self.state.store(AWAKE, Ordering::Release);
    }
}

/// Sleeps while `word` holds `value`, until [`futex_wake`] or `deadline` (interrupt time), or for no reason.
pub(crate) fn futex_wait(word: &AtomicU32, value: u32, deadline: Option<u64>) {
    let left = deadline.map(|deadline| deadline.saturating_sub(clock::now_100ns()));
    let time = left.map(|left| libc::timespec {
        tv_sec: i64::try_from(left / 10_000_000).unwrap_or(i64::MAX),
        tv_nsec: (left % 10_000_000 * 100) as i64,
    });
    let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the futex word and the time outlive the call.
    unsafe {
        let wait = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        libc::syscall(libc::SYS_futex, word.as_ptr(), wait, value, time);
    }
}

/// Wakes a thread that sleeps on `word`.
pub(crate) fn futex_wake(word: &AtomicU32) {
    // SAFETY: wakes sleepers on an address; nothing is dereferenced.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1);
    }
}

impl Default for Parker {
    fn default() -> Self {
        Self::new()
    }
}
