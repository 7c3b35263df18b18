//! Driver return addresses on a stack, found by looking at every word of it.
//!
//! Conservative: a stale return address in a frame's unused part is reported too. An unwinder over `.pdata`
//! will replace this; it needs nothing but the words, so it works on a stack that a driver has damaged.

use crate::{image, memory};

/// Most words looked at: enough for deep stacks, and an end for damaged ones.
const WORDS_MAX: usize = 64 << 10;

/// Collects return addresses into driver code between `low` and `high`, innermost first. Returns their number.
pub(crate) fn collect(low: u64, high: u64, into: &mut [u64]) -> usize {
    let mut found = 0;
    let mut place = low.next_multiple_of(8);
    for _ in 0..WORDS_MAX {
        if place >= high || found == into.len() {
            break;
        }
        let Ok(word) = memory::read_value::<u64>(place) else { break };
        if is_return_address(word) {
            into[found] = image::find(word).map_or(word, |image| image.unmoved(word));
            found += 1;
        }
        place += 8;
    }
    found
}

/// The innermost return address into driver code, 0 if there is none.
pub(crate) fn innermost(low: u64, high: u64) -> u64 {
    let mut one = [0];
    collect(low, high, &mut one);
    one[0]
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
