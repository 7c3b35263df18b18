//! Threads, waits, events and what else threads meet at.
//!
//! What a driver may look at (signal states) lives in its own memory; everything else lives here: who waits
//! for what is kept in queues keyed by the object's address ([`wait`]), because events sit on driver stacks
//! and are simply forgotten by their owners (K-148).
//!
//! Invariants:
//! - Setting an event nobody waits for takes two atomic operations and no lock; a futex is woken only when
//!   a thread really sleeps.
//! - Waiters are released in the order they began to wait (K-127). A thread that never had to sleep may
//!   take a signal before those that are being woken.
//! - Nothing here touches an object after its waiter was released (K-149).
//!
//! Two executors run threads: the free one as host threads, the seeded one as fibers in virtual time
//! ([`executor`]). Nothing outside of [`Parker`] sleeps, and nothing outside of [`clock`] reads the time.

mod bell;
pub mod clock;
mod clock_thread;
mod describe;
pub mod dpc;
pub mod event;
pub mod event_object;
pub mod ex_timer;
pub mod executor;
pub mod exports;
pub mod fast_mutex;
pub mod irql;
mod named_object;
mod park;
mod pin;
pub mod poller;
pub mod process;
pub mod queue;
pub mod resource;
pub mod rundown;
pub mod shared_lock;
pub mod spin;
pub mod thread;
pub mod timer;
pub mod timer_object;
pub mod wait;
pub mod work;

/// What `wait` and `bell` share words and locks by; `tests/models` puts shuttle in its place.
mod sync {
    pub use host_lock::{Mutex, MutexGuard};
    pub use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};
    pub use std::thread::yield_now;
}

pub use exports::TABLE;
pub use park::Parker;
