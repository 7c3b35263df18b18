//! Leader and followers: a thread that waits while network work is outstanding does that work itself.
//!
//! A request and its answer then need no hop between threads: the thread that waits for the answer is the
//! one that polls for it. One thread at a time leads; the others sleep and are woken by what the leader
//! completes. A leader that leaves wakes nobody; a fallback thread of the host takes over when nobody has
//! led for a bounded grace ([`GRACE`]).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

/// How long outstanding work may go unpolled before the fallback thread polls.
const GRACE: Duration = Duration::from_millis(1);
/// How long the fallback thread polls before it looks whether a driver thread wants to lead.
const FALLBACK_POLL_100NS: u64 = 10_000;

/// The network's event loop, as the dispatcher needs it.
pub trait Poller: Sync {
    /// Waits for events for at most `max_wait_100ns` (`None`: until woken) and handles them. Called by one
    /// thread at a time, at PASSIVE_LEVEL, without locks; what it completes may run driver code.
    fn poll(&self, max_wait_100ns: Option<u64>);
    /// Makes a running or the next [`Poller::poll`] return.
    fn wake(&self);
    /// Whether polling could bring anything.
    fn has_outstanding(&self) -> bool;
}

static POLLER: OnceLock<&'static dyn Poller> = OnceLock::new();
static LED: AtomicBool = AtomicBool::new(false);
/// Counts leaderships, so that the fallback thread can tell whether anybody led since it last looked.
static TURNS: AtomicU64 = AtomicU64::new(0);

/// Sets the poller and starts the fallback thread with `start_thread`, which gives it a gate block.
pub fn set_poller(poller: &'static dyn Poller, start_thread: impl FnOnce(fn())) {
    if POLLER.set(poller).is_ok() {
        start_thread(fallback);
    }
}

/// Makes the leader's poll return.
pub(crate) fn wake() {
    if let Some(poller) = POLLER.get() {
        poller.wake();
    }
}

/// Leads if there is outstanding work and nobody leads yet: calls `step` with a function that polls once,
/// until it says that the park is over. `false` if the caller must sleep instead.
pub(crate) fn lead(mut step: impl FnMut(&mut dyn FnMut(Option<u64>)) -> bool) -> bool {
    let Some(poller) = POLLER.get() else { return false };
    if !poller.has_outstanding() {
        return false;
    }
    if LED.swap(true, Ordering::AcqRel) {
        return false;
    }
    TURNS.fetch_add(1, Ordering::Relaxed);
    let over = loop {
        if step(&mut |max_wait| poller.poll(max_wait)) {
            break true;
        }
        if !poller.has_outstanding() {
            break false;
        }
    };
    LED.store(false, Ordering::Release);
    over
}

/// The fallback thread's life.
fn fallback() {
    let Some(poller) = POLLER.get() else { return };
    // A channel that never delivers is a sleep that the process's end does not have to interrupt.
    let (_keep, never) = mpsc::channel::<()>();
    let mut seen = TURNS.load(Ordering::Relaxed);
    loop {
        let _ = never.recv_timeout(GRACE);
        let turns = TURNS.load(Ordering::Relaxed);
        let idle = turns == seen && poller.has_outstanding();
        seen = turns;
        if idle && !LED.swap(true, Ordering::AcqRel) {
            poller.poll(Some(FALLBACK_POLL_100NS));
            LED.store(false, Ordering::Release);
        }
    }
}
