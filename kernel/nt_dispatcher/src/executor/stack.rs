//! Stacks of fibers: at fixed places, each over a guard, used again.

use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::{OnceLock, PoisonError};

use arena::{Region, plan};
use corosensei::stack::{Stack, StackPointer};
use host_lock::Mutex;

use crate::thread::STACK_BYTES;

/// Below each stack: an access there is told as an overflow.
const GUARD_BYTES: usize = 64 << 10;
const STRIDE: u64 = (GUARD_BYTES + STACK_BYTES) as u64;
/// Most fibers at a time.
const STACKS_MAX: u64 = 1 << 14;

/// A fiber's stack.
#[derive(Debug)]
pub(super) struct FiberStack {
    /// Lowest usable address; the guard is below.
    low: u64,
}

#[derive(Debug, Default)]
struct Stacks {
    made: u64,
    free: Vec<u64>,
}

static REGION: OnceLock<Region> = OnceLock::new();
static STACKS: Mutex<Stacks> = Mutex::new(Stacks { made: 0, free: Vec::new() });

impl FiberStack {
    /// Takes a stack.
    ///
    /// # Errors
    /// `OutOfMemory` beyond 16,384 at a time, or what the operating system says.
    pub(super) fn take() -> io::Result<Self> {
        let mut stacks = STACKS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(low) = stacks.free.pop() {
            return Ok(Self { low });
        }
        let region = match REGION.get() {
            Some(region) => region,
            None => {
                let region = Region::reserve(plan::STACKS, (STACKS_MAX * STRIDE) as usize)?;
                REGION.get_or_init(|| region)
            }
        };
        let guard = region.base() + stacks.made * STRIDE;
        region.commit((stacks.made + 1) * STRIDE)?;
        region.protect(guard, GUARD_BYTES, false)?;
        stacks.made += 1;
        Ok(Self { low: guard + GUARD_BYTES as u64 })
    }

    /// The usable addresses.
    pub(super) fn range(&self) -> Range<u64> {
        self.low..self.low + STACK_BYTES as u64
    }
}

impl Drop for FiberStack {
    fn drop(&mut self) {
        STACKS.lock().unwrap_or_else(PoisonError::into_inner).free.push(self.low);
    }
}

// SAFETY: the range is committed, belongs to this value alone until it is dropped, lies over a guard of 64 KiB that
// always faults, and both ends are multiples of a page.
unsafe impl Stack for FiberStack {
    fn base(&self) -> StackPointer {
        NonZeroUsize::new(self.range().end as usize).expect("no stack ends at 0")
    }

    fn limit(&self) -> StackPointer {
        NonZeroUsize::new(self.low as usize - GUARD_BYTES).expect("no stack begins at 0")
    }
}
