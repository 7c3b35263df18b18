//! The report when every thread waits for something that nobody is left to do.

use std::fmt::Write;

use nt_abi::exception::BugCheck;

use super::seeded::{Fiber, State};
use crate::describe;

/// Ends the run, naming who waits for what. Blamed on the first driver thread that waits, else on the routine that was given
/// the last request.
pub(super) fn report(fibers: &[Fiber]) -> ! {
    let mut message = String::from("Deadlock: every thread waits, and neither a timer nor the network can wake one.");
    let mut blame = 0;
    let mut count = 0;
    for fiber in fibers {
        // SAFETY: blocks are never unmapped, and nothing runs on this one now.
        let (caller, id) = unsafe { ((*fiber.block.host()).caller, (*fiber.block.host()).id) };
        let what = match fiber.state {
            State::Spinning { lock, .. } => format!("spins on the lock at {lock:#x}"),
            State::Waiting { .. } if fiber.parker.object() != 0 => {
                let mut what = String::new();
                describe::wait_on(fiber.parker.object(), &mut what);
                what
            }
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
    if blame == 0 && gate::fault::routine_of_stage() != 0 {
        blame = gate::fault::routine_of_stage();
        message.push_str(" The routine that is named was given a request that nobody has completed.");
    }
    gate::bugcheck::with_message(BugCheck::DRYDOCK_DEADLOCK, [count, 0, 0, 0], blame, message)
}
