//! The report when every thread waits for something that nobody is left to do.

use std::fmt::Write;

use gate::memory::read_value;
use nt_abi::dispatcher::{DispatcherType, Mutant};
use nt_abi::exception::BugCheck;

use super::seeded::{Fiber, State};

/// Ends the run, naming who waits for what. Blamed on the first driver thread that waits.
pub(super) fn report(fibers: &[Fiber]) -> ! {
    let mut message = String::from("Deadlock: every thread waits, and neither a timer nor the network can wake one.");
    let mut blame = 0;
    let mut count = 0;
    for fiber in fibers {
        // SAFETY: blocks are never unmapped, and nothing runs on this one now.
        let (caller, id) = unsafe { ((*fiber.block.host()).caller, (*fiber.block.host()).id) };
        let what = match fiber.state {
            State::Spinning { lock, .. } => format!("spins on the lock at {lock:#x}"),
            State::Waiting { .. } if fiber.parker.object() != 0 => name(fiber.parker.object()),
            // Threads of the host that serve others have nothing to do.
            _ => continue,
        };
        count += 1;
        // A string takes any text.
        let _ = write!(message, " Thread {id} ({:#x}) {what}", fiber.thread);
        if let Some((image, offset)) = gate::image::place(caller) {
            let _ = write!(message, ", called from {}+{offset:#x}", image.name);
        }
        message.push('.');
        if blame == 0 {
            blame = caller;
        }
    }
    gate::bugcheck::with_message(BugCheck::DRYDOCK_DEADLOCK, [count, 0, 0, 0], blame, message)
}

/// What a thread that waits on `object` does, in words.
fn name(object: u64) -> String {
    let kind = read_value::<u8>(object).map(DispatcherType);
    let kind = match kind {
        Ok(DispatcherType::NOTIFICATION_EVENT | DispatcherType::SYNCHRONIZATION_EVENT) => "event",
        Ok(DispatcherType::MUTANT) => {
            let owner = object + std::mem::offset_of!(Mutant, owner_thread) as u64;
            let owner = read_value::<u64>(owner).unwrap_or(0);
            return format!("waits for the mutex {object:#x}, which thread {owner:#x} owns");
        }
        Ok(DispatcherType::SEMAPHORE) => "semaphore",
        Ok(DispatcherType::THREAD) => "thread",
        Ok(DispatcherType::QUEUE) => "queue",
        Ok(DispatcherType::NOTIFICATION_TIMER | DispatcherType::SYNCHRONIZATION_TIMER) => "timer, which is not set",
        _ => "object",
    };
    format!("waits for the {kind} {object:#x}")
}
