//! Memory for generated code: written once, then executable, never both.

use std::io;

use arena::PAGE;

/// A range that takes generated code and is then sealed.
#[derive(Debug)]
pub struct CodeArea {
    base: u64,
    capacity: u64,
    used: u64,
}

impl CodeArea {
    /// An area over `base .. base + capacity`.
    ///
    /// # Safety
    /// The range is page-aligned, mapped readable and writable, and used by nobody else until it is sealed.
    pub unsafe fn over(base: u64, capacity: u64) -> Self {
        Self { base, capacity, used: 0 }
    }

    /// Where the next piece will lie.
    pub fn next(&self) -> u64 {
        self.base + self.used
    }

    /// Bytes that are left.
    pub fn room(&self) -> u64 {
        self.capacity - self.used
    }

    /// Appends code that was made for [`CodeArea::next`]; the piece behind it starts 16-byte aligned. Returns its
    /// address, or `None` if it does not fit.
    pub fn append(&mut self, code: &[u8]) -> Option<u64> {
        let address = self.next();
        let length = (code.len() as u64).next_multiple_of(16);
        if length > self.room() {
            return None;
        }
        // SAFETY: the piece lies in the area, which is writable and ours until it is sealed.
        unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), address as *mut u8, code.len()) };
        self.used += length;
        Some(address)
    }

    /// Makes the area executable and no longer writable.
    ///
    /// # Errors
    /// What `mprotect` says.
    pub fn seal(self) -> io::Result<()> {
        let length = (self.capacity as usize).next_multiple_of(PAGE);
        // SAFETY: the area is ours by the contract of `over`.
        if unsafe { libc::mprotect(self.base as *mut _, length, libc::PROT_READ | libc::PROT_EXEC) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}
