//! `qsort` and `bsearch`, which call the driver's comparison.

use std::{mem, ptr};

gate::exports! {
    /// Sorting and searching.
    pub static TABLE in "ntoskrnl.exe";
    "qsort" = qsort(base: *mut u8, count: usize, width: usize, compare: u64), rules "K-201";
    "bsearch" = bsearch(key: *const u8, base: *const u8, count: usize, width: usize, compare: u64) -> *const u8, rules "K-201";
}

/// An array in driver memory.
#[derive(Clone, Copy)]
struct Elements {
    base: *mut u8,
    width: usize,
    compare: u64,
}

impl Elements {
    fn at(self, index: usize) -> *mut u8 {
        self.base.wrapping_add(index.wrapping_mul(self.width))
    }

    /// Whether one element comes before another, in the driver's opinion.
    unsafe fn less(self, a: usize, b: usize) -> bool {
        if gate::seh::is_leaving() {
            // An exception has passed a comparison: the driver is not asked again.
            return false;
        }
        // SAFETY: the driver says that its routine takes two elements.
        unsafe { (gate::call::call2(self.compare, self.at(a) as u64, self.at(b) as u64) as i32) < 0 }
    }

    unsafe fn swap(self, a: usize, b: usize) {
        if a != b {
            // SAFETY: the driver's array; a bad one faults and is blamed on it.
            unsafe { ptr::swap_nonoverlapping(self.at(a), self.at(b), self.width) };
        }
    }

    /// Lets an element of a heap sink to its place.
    unsafe fn sink(self, mut place: usize, count: usize) {
        loop {
            let mut child = 2 * place + 1;
            if child >= count {
                return;
            }
            // SAFETY: as in `less` and `swap`.
            unsafe {
                if child + 1 < count && self.less(child, child + 1) {
                    child += 1;
                }
                if !self.less(place, child) {
                    return;
                }
                self.swap(place, child);
            }
            place = child;
        }
    }
}

/// A heap sort: it needs no memory and ends after a bounded number of comparisons, whatever these say.
unsafe extern "win64" fn qsort(base: *mut u8, count: usize, width: usize, compare: u64) {
    if count < 2 || width == 0 {
        return;
    }
    let elements = Elements { base, width, compare };
    // SAFETY: the driver's array and routine.
    unsafe {
        for place in (0..count / 2).rev() {
            elements.sink(place, count);
            if gate::seh::is_leaving() {
                return;
            }
        }
        for end in (1..count).rev() {
            elements.swap(0, end);
            elements.sink(0, end);
            if gate::seh::is_leaving() {
                return;
            }
        }
    }
}

unsafe extern "win64" fn bsearch(
    key: *const u8,
    base: *const u8,
    count: usize,
    width: usize,
    compare: u64,
) -> *const u8 {
    let (mut low, mut high) = (0, count);
    while low < high && !gate::seh::is_leaving() {
        let middle = low + (high - low) / 2;
        let element = base.wrapping_add(middle.wrapping_mul(width));
        // SAFETY: the driver says that its routine takes a key and an element.
        match unsafe { gate::call::call2(compare, key as u64, element as u64) } as i32 {
            0 => return element,
            ..0 => high = middle,
            _ => low = middle + 1,
        }
    }
    ptr::null()
}

const _: () = assert!(mem::size_of::<usize>() == 8);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::kernel_thread;
    use proptest::prelude::*;

    unsafe extern "win64" fn by_value(a: *const [u8; 3], b: *const [u8; 3]) -> i32 {
        // SAFETY: called with elements of the test's array.
        unsafe { (*a).cmp(&*b) as i32 }
    }

    proptest! {
        #[test]
        fn sorting_agrees_with_the_language(mut elements: Vec<[u8; 3]>) {
            kernel_thread();
            let mut expected = elements.clone();
            expected.sort_unstable();
            let compare = by_value as *const () as u64;
            // SAFETY: an array of this test.
            unsafe { qsort(elements.as_mut_ptr().cast(), elements.len(), 3, compare) };
            prop_assert_eq!(&elements, &expected);
            for key in &expected {
                // SAFETY: as above.
                let found = unsafe { bsearch(key.as_ptr(), elements.as_ptr().cast(), elements.len(), 3, compare) };
                // SAFETY: `bsearch` gives an element.
                prop_assert_eq!(unsafe { *found.cast::<[u8; 3]>() }, *key);
            }
            let missing = [1, 2, 3];
            if !expected.contains(&missing) {
                // SAFETY: as above.
                let found = unsafe { bsearch(missing.as_ptr(), elements.as_ptr().cast(), elements.len(), 3, compare) };
                prop_assert!(found.is_null());
            }
        }
    }

    #[test]
    fn contradicting_comparison_still_ends() {
        unsafe extern "win64" fn always_less(_a: u64, _b: u64) -> i32 {
            -1
        }
        kernel_thread();
        let mut elements: Vec<u32> = (0..1000).collect();
        // SAFETY: an array of this test.
        unsafe { qsort(elements.as_mut_ptr().cast(), 1000, 4, always_less as *const () as u64) };
        elements.sort_unstable();
        assert!(elements.into_iter().eq(0..1000), "nothing is lost");
    }
}
