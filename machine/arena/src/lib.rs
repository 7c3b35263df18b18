//! Address ranges handed to drivers: reserved at fixed places, committed as they grow, cut into slots.
//!
//! Everything a driver may hold a pointer to (object bodies, IRPs, pool, stacks, images) comes from a
//! [`Region`], so that "is this one of ours?" is a range check, and a run repeated with the same seed
//! sees the same addresses. [`SlotArena`] adds type-stable slots with a header that says whether a slot
//! is in use: a stale pointer is told from a live one without following it anywhere.

mod free_slots;
mod region;
mod slots;

/// What `free_slots` locks by; `tests/models` puts shuttle in its place.
mod sync {
    pub use std::sync::PoisonError;

    pub use host_lock::{Mutex, MutexGuard};
}

pub use free_slots::SlotCache;
pub use region::{PAGE, Region, plan};
pub use slots::{SlotArena, SlotHeader};
