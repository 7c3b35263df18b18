//! Reserved address ranges.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes in a page.
pub const PAGE: usize = 4096;

/// Where each kind of memory lies. Fixed, so that runs with one seed see the same addresses; far from
/// where Linux puts executables, libraries, heaps and thread stacks.
pub mod plan {
    /// Driver images.
    pub const IMAGES: u64 = 0x1400_0000_0000;
    /// Kernel objects (bodies with their headers).
    pub const OBJECTS: u64 = 0x2000_0000_0000;
    /// I/O request packets.
    pub const IRPS: u64 = 0x2100_0000_0000;
    /// Pool.
    pub const POOL: u64 = 0x2200_0000_0000;
    /// Stacks of driver threads.
    pub const STACKS: u64 = 0x2300_0000_0000;
    /// Per-thread control blocks (KPCR and what the host keeps beside it).
    pub const THREADS: u64 = 0x2400_0000_0000;
    /// The shadow of the page that the kernel shares with everybody (`KUSER_SHARED_DATA`).
    pub const SHARED: u64 = 0x2500_0000_0000;
    /// Pool blocks on pages of their own.
    pub const SPECIAL_POOL: u64 = 0x2600_0000_0000;
    /// What imports are bound to that nobody implements. Nothing is ever mapped here.
    pub const MISSING_IMPORTS: u64 = 0x2700_0000_0000;
    /// The page that stands for the kernel's image.
    pub const KERNEL_IMAGE: u64 = 0x2800_0000_0000;
    /// Stubs of exports that drivers look up by name.
    pub const LOOKED_UP: u64 = 0x2900_0000_0000;
}

/// A reserved range whose front part is readable and writable.
///
/// Invariant: `base..base + committed` is mapped read-write and zero until written; the rest of
/// `base..base + length` is reserved and faults on access.
#[derive(Debug)]
pub struct Region {
    base: u64,
    length: u64,
    committed: AtomicU64,
}

impl Region {
    /// Reserves `length` bytes at `at`, or anywhere if that place is taken.
    ///
    /// # Errors
    /// The operating system's error when no such range can be reserved.
    pub fn reserve(at: u64, length: usize) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let mut base = libc::MAP_FAILED;
        for (hint, extra) in [(at, libc::MAP_FIXED_NOREPLACE), (0, 0)] {
            // SAFETY: an anonymous mapping that replaces nothing (NOREPLACE, or the kernel's choice).
            base = unsafe { libc::mmap(hint as *mut _, length, libc::PROT_NONE, flags | extra, -1, 0) };
            if base != libc::MAP_FAILED {
                break;
            }
        }
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { base: base as u64, length: length as u64, committed: AtomicU64::new(0) })
    }

    /// First address.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Reserved bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether `address` lies in the part that is mapped.
    pub fn contains(&self, address: u64) -> bool {
        address.wrapping_sub(self.base) < self.committed.load(Ordering::Relaxed)
    }

    /// Makes the first `bytes` bytes usable. Callers serialise growth; a smaller value than before is a no-op.
    ///
    /// # Errors
    /// `OutOfMemory` past the reserved length, or the operating system's error.
    pub fn commit(&self, bytes: u64) -> io::Result<()> {
        let done = self.committed.load(Ordering::Relaxed);
        let wanted = bytes.next_multiple_of(PAGE as u64);
        if wanted <= done {
            return Ok(());
        }
        if wanted > self.length {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let (start, length) = (self.base + done, (wanted - done) as usize);
        // SAFETY: the range lies inside our own reservation, which nothing else maps.
        if unsafe { libc::mprotect(start as *mut _, length, libc::PROT_READ | libc::PROT_WRITE) } != 0 {
            return Err(io::Error::last_os_error());
        }
        self.committed.store(wanted, Ordering::Release);
        Ok(())
    }

    /// Takes access away from (or gives it back to) whole pages inside the committed part, for guard pages.
    ///
    /// # Errors
    /// `InvalidInput` if the range is not page-aligned or not committed, or the operating system's error.
    pub fn protect(&self, address: u64, length: usize, accessible: bool) -> io::Result<()> {
        let inside =
            address >= self.base && address + length as u64 <= self.base + self.committed.load(Ordering::Relaxed);
        if !inside || !address.is_multiple_of(PAGE as u64) || !length.is_multiple_of(PAGE) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let protection = if accessible { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_NONE };
        // SAFETY: the range lies inside our own reservation, which nothing else maps.
        if unsafe { libc::mprotect(address as *mut _, length, protection) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the range is ours and, by ownership of the region, no longer used.
        unsafe { libc::munmap(self.base as *mut _, self.length as usize) };
    }
}
