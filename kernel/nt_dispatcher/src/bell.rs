//! What threads of the host wait on: an address-free condition under either executor.
//!
//! Why no ring is lost: a waiter puts itself on the list and then looks at its condition; a ringer changes what the
//! condition looks at and then takes the list. Both go through the list's lock.

use std::sync::{Mutex, PoisonError};

use crate::park::Parker;
use crate::thread;

/// Threads that wait for something about the host to change.
#[derive(Debug)]
pub(crate) struct Bell {
    waiting: Mutex<Vec<&'static Parker>>,
}

impl Bell {
    /// A bell nobody waits on.
    pub(crate) const fn new() -> Self {
        Self { waiting: Mutex::new(Vec::new()) }
    }

    /// Waits until `ready` says so. `ready` may change what it looks at.
    pub(crate) fn wait(&self, mut ready: impl FnMut() -> bool) {
        while !self.wait_once(&mut ready, None) {}
    }

    /// Waits until `ready` says so, the bell rings, `deadline` (interrupt time) passes, or for no reason; gives what
    /// `ready` said.
    pub(crate) fn wait_once(&self, ready: impl FnOnce() -> bool, deadline: Option<u64>) -> bool {
        let parker = thread::current_parker();
        self.list().push(parker);
        let is_ready = ready();
        if !is_ready {
            parker.rest(deadline);
        }
        self.list().retain(|waiting| !std::ptr::eq(*waiting, parker));
        is_ready
    }

    /// Lets everybody who waits look again.
    pub(crate) fn ring(&self) {
        for parker in self.list().drain(..) {
            parker.unpark();
        }
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<&'static Parker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
