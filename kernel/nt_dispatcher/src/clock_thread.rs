//! The clock's thread: what Windows does in its clock interrupt.
//!
//! It expires timers, runs DPCs whose thread lowered its level without a call, and keeps the shared page's clocks
//! going for drivers that watch them in a loop.

use std::sync::Once;

use crate::bell::Bell;
use crate::thread::{self, Start};
use crate::{clock, dpc, executor, timer};

/// How often a DPC that waits for its thread's level is looked at.
const LEVEL_LOOK_100NS: u64 = 2_000;

static BELL: Bell = Bell::new();
static STARTED: Once = Once::new();

/// Starts the thread, once. The calling thread must be one of the kernel.
pub(crate) fn start() {
    STARTED.call_once(|| {
        gate::lowering::set_hook(dpc::run_owned);
        // Without it no timer would ever fire: nothing that could be reported later makes up for that.
        let thread = thread::create(Start::Host(life), 0, 0).expect("room for the clock's thread");
        nt_object::dereference(thread);
    });
}

/// Lets the thread look at the timers and DPCs again.
pub(crate) fn ring() {
    BELL.ring();
}

fn life(_context: u64) {
    loop {
        timer::expire();
        dpc::run_orphans();
        clock::refresh_shared_page();
        let next = next_look();
        BELL.wait_once(|| next_look() < next, Some(next).filter(|&next| next != u64::MAX));
    }
}

/// When there is something to do, `u64::MAX` for never.
fn next_look() -> u64 {
    let now = clock::now_100ns();
    // Virtual time is on the shared page whenever it moves.
    let tick = if executor::is_seeded() { u64::MAX } else { (now / clock::TICK_100NS + 1) * clock::TICK_100NS };
    let level = if dpc::is_any_queued() { now + LEVEL_LOOK_100NS } else { u64::MAX };
    timer::next_due().min(tick).min(level)
}
