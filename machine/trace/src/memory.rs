//! The mapping of the trace file, as lines of atomic words: the only `unsafe` of this crate.

use std::arch::x86_64::_rdtsc;
use std::io;
use std::os::fd::BorrowedFd;
use std::slice;
use std::sync::atomic::AtomicU64;

use memmap2::{MmapOptions, MmapRaw};
use std::os::fd::AsRawFd;

/// Bytes in a [`Line`].
pub const LINE_BYTES: usize = 64;

/// One cache line of shared memory. Words of both processes meet here, so they are atomics throughout.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Line(pub [AtomicU64; 8]);

/// A trace file mapped into this process.
#[derive(Debug)]
pub struct Memory {
    map: MmapRaw,
}

impl Memory {
    /// Maps `bytes` of a file that cannot shrink (the caller made it or checked its seals).
    ///
    /// # Errors
    /// What `mmap` says.
    pub fn map(file: BorrowedFd<'_>, bytes: usize) -> io::Result<Self> {
        Ok(Self { map: MmapOptions::new().len(bytes).map_raw(file.as_raw_fd())? })
    }

    /// The whole file.
    pub fn lines(&self) -> &[Line] {
        let count = self.map.len() / LINE_BYTES;
        // SAFETY: 1. The mapping is `count` lines long or more, readable and writable, and lives as long as
        //            `self`; it starts at a page, so lines are aligned.
        //         2. A file that shrank would fault; `TraceFile::create` seals it and `TraceWriter::map` checks.
        //         3. Other threads and the other process write to it at any time: every byte is part of an
        //            atomic, for which each bit pattern is valid and concurrent access is defined.
        unsafe { slice::from_raw_parts(self.map.as_ptr().cast::<Line>(), count) }
    }
}

/// The processor's time stamp counter.
#[inline(always)]
pub fn time_stamp() -> u64 {
    // SAFETY: every x86-64 processor has the instruction. Where it is made to fault for driver threads
    // (the seeded executor), stamps are virtual and this is not called.
    unsafe { _rdtsc() }
}
