//! Characters in driver memory, counted.

use nt_abi::{AnsiString, UnicodeString};

/// Characters of two bytes, from any alignment.
#[derive(Clone, Copy, Debug)]
pub struct Units {
    start: *const u16,
    count: usize,
}

impl Units {
    /// `count` characters from `start` on.
    ///
    /// # Safety
    /// They are the driver's; a bad pointer faults when a character is read, and is blamed on the import's caller.
    pub unsafe fn new(start: *const u16, count: usize) -> Self {
        Self { start, count }
    }

    /// The characters of a counted string (K-163); an odd last byte is left out.
    ///
    /// # Safety
    /// As [`Units::new`].
    pub unsafe fn of(string: *const UnicodeString) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self { start: (*string).buffer, count: usize::from((*string).length) / 2 } }
    }

    /// The characters up to a NUL, `most` at most.
    ///
    /// # Safety
    /// As [`Units::new`].
    pub unsafe fn terminated(start: *const u16, most: usize) -> Self {
        let mut count = 0;
        // SAFETY: the caller's promise.
        while count < most && unsafe { start.add(count).read_unaligned() } != 0 {
            count += 1;
        }
        Self { start, count }
    }

    /// How many.
    pub fn count(self) -> usize {
        self.count
    }

    /// Where.
    pub fn start(self) -> *const u16 {
        self.start
    }

    /// The first `count`, or all.
    pub fn first(self, count: usize) -> Self {
        Self { count: self.count.min(count), ..self }
    }

    /// One by one.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = u16> + ExactSizeIterator + Clone {
        // SAFETY: `new`'s promise.
        (0..self.count).map(move |place| unsafe { self.start.add(place).read_unaligned() })
    }
}

/// Characters of one byte.
#[derive(Clone, Copy, Debug)]
pub struct Bytes {
    start: *const u8,
    count: usize,
}

impl Bytes {
    /// `count` characters from `start` on.
    ///
    /// # Safety
    /// As [`Units::new`].
    pub unsafe fn new(start: *const u8, count: usize) -> Self {
        Self { start, count }
    }

    /// The characters of a counted string.
    ///
    /// # Safety
    /// As [`Units::new`].
    pub unsafe fn of(string: *const AnsiString) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self { start: (*string).buffer, count: (*string).length.into() } }
    }

    /// The characters up to a NUL, `most` at most.
    ///
    /// # Safety
    /// As [`Units::new`].
    pub unsafe fn terminated(start: *const u8, most: usize) -> Self {
        let mut count = 0;
        // SAFETY: the caller's promise.
        while count < most && unsafe { *start.add(count) } != 0 {
            count += 1;
        }
        Self { start, count }
    }

    /// How many.
    pub fn count(self) -> usize {
        self.count
    }

    /// The first `count`, or all.
    pub fn first(self, count: usize) -> Self {
        Self { count: self.count.min(count), ..self }
    }

    /// One by one.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = u8> + ExactSizeIterator + Clone {
        // SAFETY: `new`'s promise.
        (0..self.count).map(move |place| unsafe { *self.start.add(place) })
    }
}
