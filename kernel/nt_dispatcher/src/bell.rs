//! What threads of the host wait on: an address-free condition under either executor.
//!
//! Why no ring is lost: a waiter counts itself and then looks at its condition; a ringer changes what the condition
//! looks at and then looks at the count. Both fence between the two, so one of them sees the other.

use std::sync::PoisonError;

use nt_abi::Irql;
use nt_abi::exception::BugCheck;

use crate::park::Parker;
use crate::sync::{AtomicUsize, Mutex, MutexGuard, Ordering, fence};
use crate::thread;

/// Threads that wait for something about the host to change.
#[derive(Debug)]
pub(crate) struct Bell {
    waiting: Mutex<Vec<&'static Parker>>,
    /// Threads between putting themselves on the list and having looked.
    count: AtomicUsize,
}

impl Bell {
    /// A bell nobody waits on.
    pub(crate) const fn new() -> Self {
        Self { waiting: Mutex::new(Vec::new()), count: AtomicUsize::new(0) }
    }

    /// Waits until `ready` says so. `ready` may change what it looks at.
    pub(crate) fn wait(&self, mut ready: impl FnMut() -> bool) {
        while !self.wait_once(&mut ready, None) {}
    }

    /// As [`Bell::wait`], for a driver's thread that waits for `object`, which reports then name. At DISPATCH_LEVEL
    /// that ends the run (K-151).
    pub(crate) fn wait_for(&self, object: u64, mut ready: impl FnMut() -> bool) {
        if ready() {
            return;
        }
        let level = gate::irql();
        if level >= Irql::DISPATCH {
            gate::bugcheck(BugCheck::ATTEMPTED_SWITCH_FROM_DPC, [object, level.0.into(), gate::caller(), 0]);
        }
        let parker = thread::current_parker();
        parker.note_object(object);
        self.wait(ready);
        parker.note_object(0);
    }

    /// Waits until `ready` says so, the bell rings, `deadline` (interrupt time) passes, or for no reason; gives what
    /// `ready` said.
    pub(crate) fn wait_once(&self, ready: impl FnOnce() -> bool, deadline: Option<u64>) -> bool {
        let parker = thread::current_parker();
        self.list().push(parker);
        self.count.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let is_ready = ready();
        if !is_ready {
            parker.rest(deadline);
        }
        self.list().retain(|waiting| !std::ptr::eq(*waiting, parker));
        self.count.fetch_sub(1, Ordering::Relaxed);
        is_ready
    }

    /// Lets everybody who waits look again. A fence and a load if nobody does.
    pub(crate) fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        for parker in self.list().drain(..) {
            parker.unpark();
        }
    }

    fn list(&self) -> MutexGuard<'_, Vec<&'static Parker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
