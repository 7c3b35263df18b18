//! Work at PASSIVE_LEVEL on threads of the host (K-136): deferred deletions and drivers' work items.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use crate::bell::Bell;
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
static WORK_CAME: Bell = Bell::new();
static WORK_DONE: Bell = Bell::new();
static WORKERS_STARTED: Once = Once::new();

/// Queues a piece of work; it starts in the order of queueing.
///
/// IRQL: up to DISPATCH_LEVEL. Allocates: work is queued rarely, and never on a transfer's path.
pub fn queue(work: Work) {
    WORKERS_STARTED.call_once(|| {
        for _ in 0..WORKERS {
            if let Ok(thread) = thread::create(Start::Host(worker), 0, 0) {
                nt_object::dereference(thread);
            }
        }
    });
    lock().work.push_back(work);
    WORK_CAME.ring();
}

/// Waits until nothing is queued or running. For the end of a run; not from a worker.
pub fn drain() {
    WORK_DONE.wait(|| {
        let queue = lock();
        queue.work.is_empty() && queue.running == 0
    });
}

fn lock() -> MutexGuard<'static, Queue> {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn worker(_context: u64) {
    loop {
        let mut taken = None;
        WORK_CAME.wait(|| {
            let mut queue = lock();
            taken = queue.work.pop_front();
            queue.running += usize::from(taken.is_some());
            taken.is_some()
        });
        if let Some(work) = taken {
            work();
            lock().running -= 1;
            WORK_DONE.ring();
        }
    }
}
