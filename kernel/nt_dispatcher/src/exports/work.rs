//! Work items in drivers' own memory.

use nt_abi::dispatcher::WorkQueueItem;

use crate::{executor, work};

gate::exports! {
    /// Work at PASSIVE_LEVEL.
    pub static TABLE in "ntoskrnl.exe";
    "ExQueueWorkItem" = ex_queue_work_item(item: *mut WorkQueueItem, queue: u32), irql <= DISPATCH, rules "K-136 K-137 K-152";
}

/// All queues are served by the same threads.
unsafe extern "win64" fn ex_queue_work_item(item: *mut WorkQueueItem, _queue: u32) {
    // SAFETY: see the module above.
    unsafe { work::queue_item(item, gate::caller()) };
    executor::point();
}
