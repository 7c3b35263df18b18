//! Work at PASSIVE_LEVEL on threads of the host (K-136): deferred deletions and drivers' work items.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};

use crate::thread::{self, Start};

/// Worker threads. Two, so that one work item may wait for another.
const WORKERS: usize = 2;

/// One piece of work.
pub type Work = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queue {
    work: VecDeque<Work>,
    /// Pieces taken and not finished.
    running: usize,
}

static QUEUE: Mutex<Queue> = Mutex::new(Queue { work: VecDeque::new(), running: 0 });
static CHANGED: Condvar = Condvar::new();
static WORKERS_STARTED: OnceLock<()> = OnceLock::new();

/// Queues a piece of work; it starts in the order of queueing.
///
/// IRQL: up to DISPATCH_LEVEL. Allocates: work is queued rarely, and never on a transfer's path.
pub fn queue(work: Work) {
    WORKERS_STARTED.get_or_init(|| {
        for _ in 0..WORKERS {
            if let Ok(thread) = thread::create(Start::Host(worker), 0, 0) {
                nt_object::dereference(thread);
            }
        }
    });
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner).work.push_back(work);
    CHANGED.notify_one();
}

/// Waits until nothing is queued or running. For the end of a run; not from a worker.
pub fn drain() {
    let mut queue = QUEUE.lock().unwrap_or_else(PoisonError::into_inner);
    while !queue.work.is_empty() || queue.running > 0 {
        queue = CHANGED.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
}

fn worker(_context: u64) {
    let mut queue = QUEUE.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        match queue.work.pop_front() {
            Some(work) => {
                queue.running += 1;
                drop(queue);
                work();
                queue = QUEUE.lock().unwrap_or_else(PoisonError::into_inner);
                queue.running -= 1;
                CHANGED.notify_all();
            }
            None => queue = CHANGED.wait(queue).unwrap_or_else(PoisonError::into_inner),
        }
    }
}
