//! Bitmaps.
//!
//! The bits are the driver's words; index 0 is the lowest bit of the first.

use std::mem::{offset_of, size_of};

use gate::memory::put;

gate::exports! {
    /// Bitmaps.
    pub static TABLE in "ntoskrnl.exe";
    "RtlInitializeBitMap" = rtl_initialize_bit_map(map: *mut Bitmap, words: *mut u32, bits: u32), rules "K-200";
    "RtlClearAllBits" = rtl_clear_all_bits(map: *const Bitmap), rules "K-200";
    "RtlSetAllBits" = rtl_set_all_bits(map: *const Bitmap), rules "K-200";
    "RtlSetBit" = rtl_set_bit(map: *const Bitmap, bit: u32), rules "K-200";
    "RtlClearBit" = rtl_clear_bit(map: *const Bitmap, bit: u32), rules "K-200";
    "RtlTestBit" = rtl_test_bit(map: *const Bitmap, bit: u32) -> u8, rules "K-200";
    "RtlSetBits" = rtl_set_bits(map: *const Bitmap, start: u32, count: u32), rules "K-200";
    "RtlClearBits" = rtl_clear_bits(map: *const Bitmap, start: u32, count: u32), rules "K-200";
    "RtlAreBitsSet" = rtl_are_bits_set(map: *const Bitmap, start: u32, count: u32) -> u8, rules "K-200";
    "RtlAreBitsClear" = rtl_are_bits_clear(map: *const Bitmap, start: u32, count: u32) -> u8, rules "K-200";
    "RtlNumberOfSetBits" = rtl_number_of_set_bits(map: *const Bitmap) -> u32, rules "K-200";
    "RtlNumberOfClearBits" = rtl_number_of_clear_bits(map: *const Bitmap) -> u32, rules "K-200";
    "RtlFindSetBits" = rtl_find_set_bits(map: *const Bitmap, count: u32, hint: u32) -> u32, rules "K-200";
    "RtlFindClearBits" = rtl_find_clear_bits(map: *const Bitmap, count: u32, hint: u32) -> u32, rules "K-200";
    "RtlFindSetBitsAndClear" = rtl_find_set_bits_and_clear(map: *const Bitmap, count: u32, hint: u32) -> u32, rules "K-200";
    "RtlFindClearBitsAndSet" = rtl_find_clear_bits_and_set(map: *const Bitmap, count: u32, hint: u32) -> u32, rules "K-200";
    "RtlFindClearRuns" = rtl_find_clear_runs(map: *const Bitmap, runs: *mut Run, most: u32, longest: u8) -> u32, rules "K-200";
    "RtlFindLongestRunClear" = rtl_find_longest_run_clear(map: *const Bitmap, start: *mut u32) -> u32, rules "K-200";
    "RtlFindFirstRunClear" = rtl_find_first_run_clear(map: *const Bitmap, start: *mut u32) -> u32, rules "K-200";
    "RtlFindNextForwardRunClear" = rtl_find_next_forward_run_clear(map: *const Bitmap, from: u32, start: *mut u32) -> u32, rules "K-200";
    "RtlFindLastBackwardRunClear" = rtl_find_last_backward_run_clear(map: *const Bitmap, from: u32, start: *mut u32) -> u32, rules "K-200";
    "RtlFindLeastSignificantBit" = rtl_find_least_significant_bit(word: u64) -> i8, rules "K-200";
    "RtlFindMostSignificantBit" = rtl_find_most_significant_bit(word: u64) -> i8, rules "K-200";
}

/// `RTL_BITMAP`.
#[doc(alias = "RTL_BITMAP")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Bitmap {
    bits: u32,
    _pad: u32,
    words: *mut u32,
}

const _: () = assert!(size_of::<Bitmap>() == 0x10 && offset_of!(Bitmap, words) == 8);

/// `RTL_BITMAP_RUN`.
#[doc(alias = "RTL_BITMAP_RUN")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Run {
    start: u32,
    count: u32,
}

/// What a search gives that finds nothing.
const NOT_FOUND: u32 = u32::MAX;

// Bitmaps are the driver's, and so are all pointers of this module; a bad one faults and is blamed on the driver. That
// is what every SAFETY note below refers to.

impl Bitmap {
    /// The word that a bit lies in, and its mask there.
    fn word(self, bit: u32) -> (*mut u32, u32) {
        (self.words.wrapping_add(bit as usize / 32), 1 << (bit % 32))
    }

    unsafe fn get(self, bit: u32) -> bool {
        let (word, mask) = self.word(bit);
        // SAFETY: the driver's words.
        unsafe { word.read_unaligned() & mask != 0 }
    }

    unsafe fn put(self, bit: u32, set: bool) {
        let (word, mask) = self.word(bit);
        // SAFETY: the driver's words.
        unsafe {
            let value = word.read_unaligned();
            word.write_unaligned(if set { value | mask } else { value & !mask });
        }
    }

    /// Sets or clears a range; what lies beyond the map is left alone.
    unsafe fn fill(self, start: u32, count: u32, set: bool) {
        let end = start.saturating_add(count).min(self.bits);
        let mut bit = start;
        while bit < end {
            let whole = bit.is_multiple_of(32) && end - bit >= 32;
            // SAFETY: the driver's words.
            unsafe {
                if whole {
                    self.word(bit).0.write_unaligned(if set { u32::MAX } else { 0 });
                } else {
                    self.put(bit, set);
                }
            }
            bit += if whole { 32 } else { 1 };
        }
    }

    /// The first bit from `from` on that is `set`, or the map's size.
    unsafe fn next(self, from: u32, set: bool) -> u32 {
        let boring = if set { 0 } else { u32::MAX };
        let mut bit = from.min(self.bits);
        while bit < self.bits {
            // SAFETY: the driver's words.
            unsafe {
                if bit.is_multiple_of(32) && self.bits - bit >= 32 && self.word(bit).0.read_unaligned() == boring {
                    bit += 32;
                    continue;
                }
                if self.get(bit) == set {
                    break;
                }
            }
            bit += 1;
        }
        bit
    }

    /// The first run of bits that are `set`, from `from` on; empty at the end of the map.
    unsafe fn run(self, from: u32, set: bool) -> Run {
        // SAFETY: the driver's words.
        unsafe {
            let start = self.next(from, set);
            Run { start, count: self.next(start, !set) - start }
        }
    }

    /// All runs, in order.
    unsafe fn runs(self, set: bool) -> impl Iterator<Item = Run> {
        let mut from = 0;
        std::iter::from_fn(move || {
            // SAFETY: the driver's words.
            let run = unsafe { self.run(from, set) };
            from = run.start.saturating_add(run.count);
            (run.count > 0).then_some(run)
        })
    }

    unsafe fn are(self, start: u32, count: u32, set: bool) -> bool {
        let end = start.checked_add(count).filter(|&end| end <= self.bits && count > 0);
        // SAFETY: the driver's words.
        end.is_some_and(|end| unsafe { self.next(start, !set) } >= end)
    }

    /// Finds `count` bits in a row from `hint` on, then from the beginning.
    unsafe fn find(self, count: u32, hint: u32, set: bool) -> u32 {
        let hint = if hint < self.bits { hint } else { 0 };
        if count == 0 {
            // NT searches by bytes, and finds nothing in the byte of the hint.
            return hint & !7;
        }
        for (from, end) in [(hint, self.bits), (0, hint.saturating_add(count - 1).min(self.bits))] {
            let mut start = from;
            while start < end {
                // SAFETY: the driver's words.
                let run = unsafe { self.run(start, set) };
                if run.count.min(end.saturating_sub(run.start)) >= count {
                    return run.start;
                }
                start = run.start.saturating_add(run.count.max(1));
            }
        }
        NOT_FOUND
    }

    unsafe fn count(self, set: bool) -> u32 {
        // SAFETY: the driver's words.
        unsafe { self.runs(set) }.map(|run| run.count).sum()
    }
}

unsafe extern "win64" fn rtl_initialize_bit_map(map: *mut Bitmap, words: *mut u32, bits: u32) {
    // SAFETY: the driver's map.
    unsafe { *map = Bitmap { bits, _pad: 0, words } };
}

unsafe extern "win64" fn rtl_clear_all_bits(map: *const Bitmap) {
    // SAFETY: the driver's map. Whole words, as NT does.
    unsafe { (*map).words.write_bytes(0, (*map).bits.div_ceil(32) as usize) };
}

unsafe extern "win64" fn rtl_set_all_bits(map: *const Bitmap) {
    // SAFETY: the driver's map. Whole words, as NT does.
    unsafe { (*map).words.write_bytes(0xFF, (*map).bits.div_ceil(32) as usize) };
}

unsafe extern "win64" fn rtl_set_bit(map: *const Bitmap, bit: u32) {
    // SAFETY: the driver's map.
    unsafe { (*map).fill(bit, 1, true) };
}

unsafe extern "win64" fn rtl_clear_bit(map: *const Bitmap, bit: u32) {
    // SAFETY: the driver's map.
    unsafe { (*map).fill(bit, 1, false) };
}

unsafe extern "win64" fn rtl_test_bit(map: *const Bitmap, bit: u32) -> u8 {
    // SAFETY: the driver's map.
    unsafe { (bit < (*map).bits && (*map).get(bit)).into() }
}

unsafe extern "win64" fn rtl_set_bits(map: *const Bitmap, start: u32, count: u32) {
    // SAFETY: the driver's map.
    unsafe { (*map).fill(start, count, true) };
}

unsafe extern "win64" fn rtl_clear_bits(map: *const Bitmap, start: u32, count: u32) {
    // SAFETY: the driver's map.
    unsafe { (*map).fill(start, count, false) };
}

unsafe extern "win64" fn rtl_are_bits_set(map: *const Bitmap, start: u32, count: u32) -> u8 {
    // SAFETY: the driver's map.
    unsafe { (*map).are(start, count, true).into() }
}

unsafe extern "win64" fn rtl_are_bits_clear(map: *const Bitmap, start: u32, count: u32) -> u8 {
    // SAFETY: the driver's map.
    unsafe { (*map).are(start, count, false).into() }
}

unsafe extern "win64" fn rtl_number_of_set_bits(map: *const Bitmap) -> u32 {
    // SAFETY: the driver's map.
    unsafe { (*map).count(true) }
}

unsafe extern "win64" fn rtl_number_of_clear_bits(map: *const Bitmap) -> u32 {
    // SAFETY: the driver's map.
    unsafe { (*map).count(false) }
}

unsafe extern "win64" fn rtl_find_set_bits(map: *const Bitmap, count: u32, hint: u32) -> u32 {
    // SAFETY: the driver's map.
    unsafe { (*map).find(count, hint, true) }
}

unsafe extern "win64" fn rtl_find_clear_bits(map: *const Bitmap, count: u32, hint: u32) -> u32 {
    // SAFETY: the driver's map.
    unsafe { (*map).find(count, hint, false) }
}

unsafe extern "win64" fn rtl_find_set_bits_and_clear(map: *const Bitmap, count: u32, hint: u32) -> u32 {
    // SAFETY: the driver's map.
    unsafe {
        let found = (*map).find(count, hint, true);
        if found != NOT_FOUND {
            (*map).fill(found, count, false);
        }
        found
    }
}

unsafe extern "win64" fn rtl_find_clear_bits_and_set(map: *const Bitmap, count: u32, hint: u32) -> u32 {
    // SAFETY: the driver's map.
    unsafe {
        let found = (*map).find(count, hint, false);
        if found != NOT_FOUND {
            (*map).fill(found, count, true);
        }
        found
    }
}

/// The first runs, or the longest, longest first.
unsafe extern "win64" fn rtl_find_clear_runs(map: *const Bitmap, runs: *mut Run, most: u32, longest: u8) -> u32 {
    // SAFETY: the driver's map and array.
    unsafe {
        let mut stored = 0;
        for run in (*map).runs(false) {
            let full = stored == most;
            if longest == 0 {
                if full {
                    break;
                }
                put(runs.add(stored as usize), run);
                stored += 1;
                continue;
            }
            // Insertion into the sorted array; what no longer fits falls off its end.
            let mut place = stored;
            while place > 0 && runs.add(place as usize - 1).read_unaligned().count < run.count {
                if place < most {
                    put(runs.add(place as usize), runs.add(place as usize - 1).read_unaligned());
                }
                place -= 1;
            }
            if place < most {
                put(runs.add(place as usize), run);
            }
            stored += u32::from(!full);
        }
        stored
    }
}

unsafe extern "win64" fn rtl_find_longest_run_clear(map: *const Bitmap, start: *mut u32) -> u32 {
    let mut longest = Run { start: 0, count: 0 };
    // SAFETY: the driver's map and result.
    unsafe {
        (*map).runs(false).for_each(|run| {
            if run.count > longest.count {
                longest = run;
            }
        });
        put(start, longest.start);
    }
    longest.count
}

unsafe extern "win64" fn rtl_find_first_run_clear(map: *const Bitmap, start: *mut u32) -> u32 {
    // SAFETY: the driver's map and result.
    unsafe { rtl_find_next_forward_run_clear(map, 0, start) }
}

unsafe extern "win64" fn rtl_find_next_forward_run_clear(map: *const Bitmap, from: u32, start: *mut u32) -> u32 {
    // SAFETY: the driver's map and result.
    unsafe {
        let run = (*map).run(from, false);
        put(start, run.start);
        run.count
    }
}

/// The last run that begins at or before `from`, as far as it reaches up to there.
unsafe extern "win64" fn rtl_find_last_backward_run_clear(map: *const Bitmap, from: u32, start: *mut u32) -> u32 {
    // SAFETY: the driver's map and result.
    unsafe {
        let last = (*map).runs(false).take_while(|run| run.start <= from).last();
        let run = last.unwrap_or(Run { start: 0, count: 0 });
        put(start, run.start);
        run.count.min((from - run.start.min(from)).saturating_add(1))
    }
}

unsafe extern "win64" fn rtl_find_least_significant_bit(word: u64) -> i8 {
    if word == 0 { -1 } else { word.trailing_zeros() as i8 }
}

unsafe extern "win64" fn rtl_find_most_significant_bit(word: u64) -> i8 {
    if word == 0 { -1 } else { 63 - word.leading_zeros() as i8 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Words(Vec<u32>, u32);

    impl Words {
        fn map(&mut self) -> Bitmap {
            Bitmap { bits: self.1, _pad: 0, words: self.0.as_mut_ptr() }
        }
    }

    fn of(bits: &[bool]) -> Words {
        let mut words = Words(vec![0xAAAA_AAAA; bits.len().div_ceil(32)], bits.len() as u32);
        let map = words.map();
        // SAFETY: the words of this test.
        bits.iter().enumerate().for_each(|(place, &bit)| unsafe { map.put(place as u32, bit) });
        words
    }

    #[test]
    fn ranges_beyond_the_map_are_neither_set_nor_clear() {
        let mut words = of(&[false; 40]);
        let map = words.map();
        // SAFETY: the map of this test.
        unsafe {
            assert_eq!((rtl_are_bits_clear(&map, 30, 10), rtl_are_bits_clear(&map, 30, 11)), (1, 0));
            rtl_set_bits(&map, 35, 100);
            assert_eq!(rtl_number_of_set_bits(&map), 5);
            assert_eq!(rtl_are_bits_clear(&map, 0, 0), 0);
        }
        assert_eq!(words.0[1] >> 8, 0xAA_AAAA, "what lies behind is left alone");
    }

    #[test]
    fn search_begins_at_the_hint_and_wraps() {
        let mut words = of(&[false; 64]);
        let map = words.map();
        // SAFETY: the map of this test.
        unsafe {
            rtl_set_bits(&map, 10, 50);
            assert_eq!(rtl_find_clear_bits(&map, 4, 20), 60);
            assert_eq!(rtl_find_clear_bits(&map, 5, 20), 0);
            assert_eq!(rtl_find_clear_bits(&map, 11, 0), NOT_FOUND);
            assert_eq!(rtl_find_clear_bits(&map, 0, 13), 8);
            assert_eq!(rtl_find_clear_bits_and_set(&map, 10, 63), 0);
            assert_eq!(rtl_are_bits_set(&map, 0, 60), 1);
        }
    }

    #[test]
    fn longest_runs_come_longest_first() {
        let mut words = of(&[false; 32]);
        let map = words.map();
        let mut runs = [Run { start: 9, count: 9 }; 2];
        // SAFETY: the map and the array of this test.
        unsafe {
            rtl_set_bits(&map, 2, 1);
            rtl_set_bits(&map, 10, 2);
            // Clear: 0..2, 3..10, 12..32.
            assert_eq!(rtl_find_clear_runs(&map, runs.as_mut_ptr(), 2, 1), 2);
            assert_eq!(runs, [Run { start: 12, count: 20 }, Run { start: 3, count: 7 }]);
            assert_eq!(rtl_find_clear_runs(&map, runs.as_mut_ptr(), 2, 0), 2);
            assert_eq!(runs, [Run { start: 0, count: 2 }, Run { start: 3, count: 7 }]);
            let mut start = 0;
            assert_eq!((rtl_find_longest_run_clear(&map, &mut start), start), (20, 12));
            assert_eq!((rtl_find_next_forward_run_clear(&map, 4, &mut start), start), (6, 4));
            assert_eq!((rtl_find_last_backward_run_clear(&map, 5, &mut start), start), (3, 3));
        }
    }

    proptest! {
        #[test]
        fn searches_agree_with_a_naive_one(bits in proptest::collection::vec(any::<bool>(), 1..150), count in 1u32..20, hint in 0u32..160, set: bool) {
            let mut words = of(&bits);
            let map = words.map();
            let size = bits.len() as u32;
            let fits = |start: u32| (start..start + count).all(|bit| bit < size && bits[bit as usize] == set);
            let hint_used = if hint < size { hint } else { 0 };
            let expected = (hint_used..size).chain(0..hint_used).find(|&start| fits(start)).unwrap_or(NOT_FOUND);
            // SAFETY: the map of this test.
            unsafe {
                prop_assert_eq!(map.find(count, hint, set), expected);
                prop_assert_eq!(map.count(set) as usize, bits.iter().filter(|&&bit| bit == set).count());
            }
        }
    }
}
