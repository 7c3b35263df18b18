//! What a thread waits for, in words, for reports of runs that do not end.
//!
//! Takes no lock and allocates nothing, because signal handlers come here; driver memory is read by guarded copies.

use std::fmt::Write;

use gate::memory::read_value;
use nt_abi::dispatcher::{DispatcherType, Mutant};

/// What a thread that waits on `object` does.
pub(crate) fn wait_on(object: u64, to: &mut dyn Write) {
    let kind = match read_value::<u8>(object).map(DispatcherType) {
        Ok(DispatcherType::NOTIFICATION_EVENT | DispatcherType::SYNCHRONIZATION_EVENT) => "event",
        Ok(DispatcherType::MUTANT) => {
            let owner = object + std::mem::offset_of!(Mutant, owner_thread) as u64;
            let owner = read_value::<u64>(owner).unwrap_or(0);
            // What does not fit is cut.
            let _ = write!(to, "waits for the mutex {object:#x}, which thread {owner:#x} owns");
            return;
        }
        Ok(DispatcherType::SEMAPHORE) => "semaphore",
        Ok(DispatcherType::THREAD) => "thread",
        Ok(DispatcherType::QUEUE) => "queue",
        Ok(DispatcherType::NOTIFICATION_TIMER | DispatcherType::SYNCHRONIZATION_TIMER) => "timer, which is not set",
        _ => "object",
    };
    let _ = write!(to, "waits for the {kind} {object:#x}");
}
