//! In which pages set timers and their DPCs lie, for those who free memory all the time and must not take a lock for
//! it. Several pages share a counter, so that one above zero only says that it is worth a look.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

const COUNTERS: usize = 1024;
/// Bits of an address below its page.
const PAGE_SHIFT: u32 = 12;
/// Most pages of a range that are looked at one by one.
const PAGES_MAX: u64 = 8;

static COUNTS: [AtomicU32; COUNTERS] = [const { AtomicU32::new(0) }; COUNTERS];

fn counter(page: u64) -> &'static AtomicU32 {
    // The multiplication spreads neighbours; the top ten bits choose.
    &COUNTS[(page.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54) as usize]
}

/// Counts the page of something that begins at `address` in or out. Under the queue's lock, so that counters match it.
pub fn count(address: u64, by: i32) {
    counter(address >> PAGE_SHIFT).fetch_add(by as u32, Ordering::Relaxed);
}

/// Whether something that was counted in may begin in the range. Whoever frees memory knows of what was done to it
/// before, so nothing more than a load is needed.
pub fn might_hold(range: &Range<u64>) -> bool {
    if range.is_empty() {
        return false;
    }
    let (first, last) = (range.start >> PAGE_SHIFT, (range.end - 1) >> PAGE_SHIFT);
    last - first >= PAGES_MAX || (first..=last).any(|page| counter(page).load(Ordering::Relaxed) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_is_worth_a_look_from_the_first_thing_counted_in_to_the_last_counted_out() {
        let (page, end) = (0x1234_5000, 0x1234_6000);
        assert!(!might_hold(&(page..end)));
        count(page + 0xFF8, 1);
        count(page, 1);
        count(page, -1);
        assert!(might_hold(&(page..end)));
        assert!(might_hold(&(page - 0x800..page + 1)), "a range that only reaches into it");
        assert!(!might_hold(&(page..page)), "an empty one");
        count(page + 0xFF8, -1);
        assert!(!might_hold(&(page..end)));
    }

    #[test]
    fn large_range_is_always_worth_a_look() {
        assert!(might_hold(&(0x5000_0000..0x5001_0000)));
    }
}
