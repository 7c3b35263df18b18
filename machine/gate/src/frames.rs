//! Driver return addresses on a stack, for reports.
//!
//! They are found by unwinding ([`Walk`]). Where that is not possible, because a driver has damaged its stack or
//! says nonsense about its functions, the rest is found by looking at every word: that needs nothing but the
//! words, but a stale return address in a frame's unused part is reported too.

use nt_abi::exception::Context;

use crate::block::Block;
use crate::thread::HostThread;
use crate::unwind::RSP;
use crate::walk::{Step, Walk};
use crate::{block, image, memory};

/// Most words looked at: enough for deep stacks, and an end for damaged ones.
const WORDS_MAX: usize = 64 << 10;

/// Collects return addresses into driver code, innermost first, from where `context` is on. Returns their number.
/// `is_interrupted` says that execution is at `context.rip`, instead of having to return there.
pub(crate) fn collect(context: &Context, is_interrupted: bool, into: &mut [u64]) -> usize {
    let Some(block) = block::installed() else { return 0 };
    let mut frames = Frames { into, found: 0 };
    let rest = unwound(context, block.host(), is_interrupted, &mut frames);
    if let Some(stack) = rest {
        // SAFETY: the calling thread's block.
        let (low, high) = unsafe { ((*block.host()).stack_low, (*block.host()).stack_high) };
        // After an overflow the stack pointer lies below what can be read.
        frames.scan(if stack < high { stack.max(low) } else { stack }, high);
    }
    frames.found
}

/// [`collect`] for another thread, which is inside an import and stays there. Its registers are unknown, so its stack is looked
/// through word by word, from where the import returns.
pub(crate) fn collect_of(block: &Block, into: &mut [u64]) -> usize {
    // SAFETY: blocks are never unmapped.
    let (entry, high) = unsafe { ((*block.host()).entry, (*block.host()).stack_high) };
    let mut frames = Frames { into, found: 0 };
    if entry != 0 {
        frames.scan(entry, high);
    }
    frames.found
}

/// The innermost return address into driver code that lies on the stack from `low` on, 0 if there is none.
pub(crate) fn innermost(low: u64, high: u64) -> u64 {
    let mut one = [0];
    Frames { into: &mut one, found: 0 }.scan(low, high);
    one[0]
}

/// Unwinds, and gives the stack pointer from which on that was not possible.
fn unwound(context: &Context, host: *mut HostThread, is_interrupted: bool, frames: &mut Frames<'_>) -> Option<u64> {
    // SAFETY: the calling thread's block.
    let Ok(mut walk) = (unsafe { Walk::from_anywhere(context, host, is_interrupted) }) else {
        return Some(context.integer[RSP]);
    };
    // Where execution was is told elsewhere.
    let mut is_told = is_interrupted && image::find(context.rip).is_some();
    while frames.has_room() {
        if !std::mem::take(&mut is_told) {
            frames.add(walk.context.rip);
        }
        match walk.step() {
            Ok(Step::Frame(_)) => {}
            Ok(Step::End) => break,
            Ok(Step::Host(call)) => match walk.cross(call) {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => return Some(walk.context.integer[RSP]),
            },
            Err(_) => return Some(walk.context.integer[RSP]),
        }
    }
    None
}

struct Frames<'a> {
    into: &'a mut [u64],
    found: usize,
}

impl Frames<'_> {
    fn has_room(&self) -> bool {
        self.found < self.into.len()
    }

    /// Adds an address if it is driver code.
    fn add(&mut self, address: u64) {
        if let Some(image) = image::find(address)
            && let Some(place) = self.into.get_mut(self.found)
        {
            *place = image.unmoved(address);
            self.found += 1;
        }
    }

    fn scan(&mut self, low: u64, high: u64) {
        let mut place = low.next_multiple_of(8);
        for _ in 0..WORDS_MAX {
            if place >= high || !self.has_room() {
                break;
            }
            let Ok(word) = memory::read_value::<u64>(place) else { break };
            if is_return_address(word) {
                self.add(word);
            }
            place += 8;
        }
    }
}

/// Whether `address` lies in driver code right behind a call instruction.
fn is_return_address(address: u64) -> bool {
    let Some(image) = image::find(address) else { return false };
    if !image.is_code(address) {
        return false;
    }
    let mut before = [0u8; 7];
    if memory::read(address.wrapping_sub(7), &mut before).is_err() {
        return false;
    }
    // call rel32; call r/m64 (FF /2) of two to seven bytes.
    let is_indirect = |length: usize| before[7 - length] == 0xFF && before[8 - length] & 0x38 == 0x10;
    before[2] == 0xE8 || [2, 3, 4, 6, 7].into_iter().any(is_indirect)
}
