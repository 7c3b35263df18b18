//! The memfd both processes share.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::clock::Reading;
use crate::layout::{self, FLAG_LOSSLESS, FLAG_VIRTUAL_TIME, Geometry, header};
use crate::memory::Memory;

/// How a trace is recorded.
#[derive(Clone, Copy, Debug)]
pub struct TraceOptions {
    /// Writers wait (bounded) for the reader when a ring is full, instead of overwriting the oldest events.
    pub lossless: bool,
    /// Stamps are virtual time ([`crate::TraceWriter::set_virtual_time`]) and all threads share one ring, so
    /// that the order of records is exactly the order of events. For the seeded executor.
    pub virtual_time: bool,
    /// Rings. The last is shared by the threads that find no other free.
    pub rings: usize,
    /// Slots of 64 bytes per ring, raised to a power of two. An event takes one, and one more for each 56
    /// bytes of its text.
    pub ring_records: usize,
}

impl Default for TraceOptions {
    /// A flight recorder on the real clock.
    fn default() -> Self {
        Self { lossless: false, virtual_time: false, rings: 64, ring_records: 4096 }
    }
}

/// A trace file, made by the supervisor before the child starts.
#[derive(Debug)]
pub struct TraceFile {
    file: File,
    geometry: Geometry,
    virtual_time: bool,
    started: Reading,
}

impl TraceFile {
    /// Makes the file, seals its size and writes its header.
    ///
    /// # Errors
    /// What `memfd_create`, `ftruncate`, `fcntl` or `mmap` say.
    pub fn create(options: &TraceOptions) -> io::Result<Self> {
        let geometry = Geometry::of(options);
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let file = File::from(memfd_create(c"drydock-trace", flags)?);
        file.set_len(geometry.bytes() as u64)?;
        // Shrinking would make every reader fault. Growing is of no use to anybody but an exhauster of memory.
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;

        let memory = Memory::map(file.as_fd(), geometry.bytes())?;
        let mut flags = 0;
        if options.lossless {
            flags |= FLAG_LOSSLESS;
        }
        if options.virtual_time {
            flags |= FLAG_VIRTUAL_TIME;
        }
        let words = &memory.lines()[0].0;
        words[header::MAGIC].store(layout::MAGIC, Relaxed);
        words[header::VERSION].store(layout::VERSION, Relaxed);
        words[header::FLAGS].store(flags, Relaxed);
        words[header::RINGS].store(geometry.rings() as u64, Relaxed);
        words[header::SLOTS].store(geometry.slots() as u64, Relaxed);
        Ok(Self { file, geometry, virtual_time: options.virtual_time, started: Reading::now() })
    }

    /// The descriptor to hand to the child.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// A descriptor of one's own.
    ///
    /// # Errors
    /// What `dup` says.
    pub fn try_clone_fd(&self) -> io::Result<OwnedFd> {
        self.fd().try_clone_to_owned()
    }

    /// The sizes; the reader takes them from here and not from the header, which the child can overwrite.
    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Whether stamps are virtual time.
    pub(crate) fn is_virtual_time(&self) -> bool {
        self.virtual_time
    }

    /// The clocks when the file was made: time 0 of the trace.
    pub(crate) fn started(&self) -> Reading {
        self.started
    }
}
