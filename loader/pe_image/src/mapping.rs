//! The memory of an image: its pages at a fixed place, generated code behind them.
//!
//! Images lie one after the other in the address plan, at multiples of 1 MiB in the order they were loaded, so a
//! run repeated sees the same addresses. A place where code may have run is never used again.

use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use arena::{PAGE, plan};
use gate::code::CodeArea;

use crate::ImageError;

/// Images begin at multiples of this.
const ALIGNMENT: u64 = 1 << 20;

/// Where the next image goes.
static NEXT: Mutex<u64> = Mutex::new(plan::IMAGES);

/// The right to map the next image. Only one image is loaded at a time.
#[derive(Debug)]
pub struct Place(MutexGuard<'static, u64>);

impl Place {
    /// Waits for another load to end.
    pub fn next() -> Self {
        Self(NEXT.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Maps zeroed pages for an image of `size` bytes.
    pub fn map(&self, size: u32) -> Result<Mapping, ImageError> {
        let (base, image_size) = (*self.0, u64::from(size).next_multiple_of(PAGE as u64));
        if base + image_size > plan::OBJECTS {
            return Err(ImageError::TooManyImages);
        }
        map(base, image_size)?;
        Ok(Mapping { base, image_size, code_size: 0, is_kept: false, is_placed: false })
    }

    /// Gives the place to `mapping` for as long as it exists.
    pub fn take(mut self, mapping: &mut Mapping) {
        mapping.is_placed = true;
        *self.0 = mapping.next();
    }
}

/// A mapped image.
#[derive(Debug)]
pub struct Mapping {
    base: u64,
    /// Bytes of the image's own pages.
    image_size: u64,
    /// Bytes of generated code behind them.
    code_size: u64,
    is_kept: bool,
    /// Whether [`NEXT`] counts it.
    is_placed: bool,
}

/// Access that pages can be given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    pub read: bool,
    pub write: bool,
    pub execute: bool,
}

impl Mapping {
    /// First address.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Bytes of the image and the code behind it.
    pub fn size(&self) -> u64 {
        self.image_size + self.code_size
    }

    /// Where an image loaded right after this one goes.
    fn next(&self) -> u64 {
        (self.base + self.size()).next_multiple_of(ALIGNMENT)
    }

    /// The image's pages.
    ///
    /// # Safety
    /// No code of the image has run, `protect` has not been called, and no other slice of it is alive.
    pub unsafe fn image(&mut self) -> &mut [u8] {
        // SAFETY: mapped readable and writable; by the function's contract nobody else looks at it.
        unsafe { std::slice::from_raw_parts_mut(self.base as *mut u8, self.image_size as usize) }
    }

    /// Maps writable memory for `bytes` bytes of generated code right behind the image. Once.
    pub fn add_code(&mut self, bytes: u64) -> Result<CodeArea, ImageError> {
        // At least a page, so that there is something to seal.
        let bytes = bytes.max(1).next_multiple_of(PAGE as u64);
        let start = self.base + self.image_size;
        map(start, bytes)?;
        self.code_size = bytes;
        // SAFETY: just mapped for nobody else; `image` ends before it.
        Ok(unsafe { CodeArea::over(start, bytes) })
    }

    /// Gives pages of the image, counted from its start, their final access.
    pub fn protect(&self, pages: Range<u64>, access: Access) -> io::Result<()> {
        let bits =
            [(access.read, libc::PROT_READ), (access.write, libc::PROT_WRITE), (access.execute, libc::PROT_EXEC)];
        let bits = bits.iter().filter(|(wanted, _)| *wanted).fold(libc::PROT_NONE, |bits, (_, bit)| bits | bit);
        set_access(self.base + pages.start * PAGE as u64, (pages.end - pages.start) * PAGE as u64, bits)
    }

    /// Takes away all access.
    pub fn close(&self) -> io::Result<()> {
        set_access(self.base, self.size(), libc::PROT_NONE)
    }

    /// Keeps the image mapped until the process ends.
    pub fn keep(&mut self) {
        self.is_kept = true;
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        // SAFETY: our own mapping, in which no code ever ran, so nobody has its address.
        unsafe { libc::munmap(self.base as *mut _, self.size() as usize) };
        if self.is_placed {
            let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
            if *next == self.next() {
                *next = self.base;
            }
        }
    }
}

fn map(at: u64, bytes: u64) -> io::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: an anonymous mapping that replaces nothing.
    let place = unsafe { libc::mmap(at as *mut _, bytes as usize, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if place == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn set_access(start: u64, bytes: u64, access: libc::c_int) -> io::Result<()> {
    // SAFETY: pages of our own mapping, of which no slice is alive any more.
    if unsafe { libc::mprotect(start as *mut _, bytes as usize, access) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
