//! The child's side of the trace file.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};

use crate::layout::{self, CONTROL_LINES, FLAG_LOSSLESS, FLAG_VIRTUAL_TIME, Geometry, header};
use crate::memory::{Line, Memory};
use crate::records::{self, BugCheckReport, EndOfRun};
use crate::ring::RingWriter;

/// The trace file as the child sees it. Made once, before any driver code runs, and never unmapped.
#[derive(Debug)]
pub struct TraceWriter {
    lines: &'static [Line],
    geometry: Geometry,
    flags: u64,
    /// Rings that a thread has for itself. Kept in this process: only it hands rings out.
    taken: Box<[AtomicBool]>,
}

impl TraceWriter {
    /// Maps the file behind `fd`, which may be closed afterwards.
    ///
    /// # Errors
    /// `InvalidData` if it is no trace file of this version or not sealed against shrinking; else what the
    /// system calls say.
    pub fn map(fd: impl AsFd) -> io::Result<&'static Self> {
        let fd = fd.as_fd();
        let seals = SealFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GET_SEALS)?);
        let length = File::from(fd.try_clone_to_owned()?).metadata()?.len();
        if !seals.contains(SealFlag::F_SEAL_SHRINK) {
            return Err(invalid(format!("descriptor {} is not sealed against shrinking", fd.as_raw_fd())));
        }
        let length = usize::try_from(length).map_err(|_| invalid("the trace file is too long".into()))?;
        // Leaked: threads of the child record until the process is gone.
        let memory: &'static Memory = Box::leak(Box::new(Memory::map(fd, length)?));
        let lines = memory.lines();
        let (geometry, flags) =
            read_header(lines).ok_or_else(|| invalid("this is no trace file of this version".into()))?;
        if length < geometry.bytes() {
            return Err(invalid("the trace file is shorter than its header says".into()));
        }
        let taken = (0..geometry.rings()).map(|_| AtomicBool::new(false)).collect();
        Ok(Box::leak(Box::new(Self { lines, geometry, flags, taken })))
    }

    /// Takes a ring for the calling thread, whose events carry `thread`. The first free one; when none is
    /// free, or the order of all events matters (virtual time), the shared one.
    pub fn take_ring(&'static self, thread: u16) -> RingWriter {
        let shared = self.geometry.rings() - 1;
        if self.flags & FLAG_VIRTUAL_TIME == 0 {
            for (index, taken) in self.taken.iter().enumerate().take(shared) {
                // Acquire: what the ring's last user stored is seen before we go on from it.
                if !taken.load(Relaxed) && taken.compare_exchange(false, true, Acquire, Relaxed).is_ok() {
                    return RingWriter::new(self, index, thread, false);
                }
            }
        }
        RingWriter::new(self, shared, thread, true)
    }

    /// Sets the virtual time in units of 100 ns. Without effect unless the file was made for virtual time.
    pub fn set_virtual_time(&self, now_100ns: u64) {
        self.lines[0].0[header::VIRTUAL_NOW].store(now_100ns, Relaxed);
    }

    /// Whether stamps are virtual time.
    pub fn is_virtual_time(&self) -> bool {
        self.flags & FLAG_VIRTUAL_TIME != 0
    }

    /// Whether writers wait for the reader.
    pub fn is_lossless(&self) -> bool {
        self.flags & FLAG_LOSSLESS != 0
    }

    /// Writes the bugcheck record; only the first of a run is kept. Returns whether this was the first.
    ///
    /// Safe in a signal handler: no lock, no allocation, no system call.
    pub fn bugcheck(&self, report: &BugCheckReport<'_>) -> bool {
        records::write_bugcheck(self.lines, self.geometry, report)
    }

    /// Notes a broken rule. `rule` is its id (`C-133`), `driver` the image's name (empty if unknown) and
    /// `offset` the place in it. Returns whether it is the first with this rule, driver and offset; the others
    /// are counted only, so record [`crate::Event::Finding`] just for the first.
    ///
    /// Safe in a signal handler.
    pub fn finding(&self, rule: &str, message: &str, driver: &str, offset: u64) -> bool {
        records::write_finding(self.lines, self.geometry, rule, message, driver, offset)
    }

    /// Notes a mapped image, so that the supervisor can name addresses after a crash.
    pub fn image(&self, name: &str, base: u64, size: u64) {
        records::write_image(self.lines, self.geometry, name, base, size);
    }

    /// Says that the run came to its end in good order.
    pub fn end_of_run(&self, end: EndOfRun) {
        records::write_end(self.lines, self.geometry, end);
    }

    /// A ring's slots and control block.
    pub(crate) fn ring(&'static self, index: usize) -> Option<(&'static [Line], &'static [Line; CONTROL_LINES])> {
        let first = self.geometry.ring(index);
        let slots = self.lines.get(first..first + self.geometry.slots())?;
        let control = self.geometry.control(index);
        Some((slots, self.lines.get(control..control + CONTROL_LINES)?.try_into().ok()?))
    }

    /// The virtual clock, if there is one.
    pub(crate) fn clock(&'static self) -> Option<&'static AtomicU64> {
        self.is_virtual_time().then(|| &self.lines[0].0[header::VIRTUAL_NOW])
    }

    /// Lets another thread have a ring.
    pub(crate) fn give_back(&self, index: usize) {
        if let Some(taken) = self.taken.get(index) {
            taken.store(false, Release);
        }
    }
}

fn read_header(lines: &[Line]) -> Option<(Geometry, u64)> {
    let word = |index: usize| lines.first().map(|line| line.0[index].load(Relaxed));
    if word(header::MAGIC)? != layout::MAGIC || word(header::VERSION)? != layout::VERSION {
        return None;
    }
    Some((Geometry::named(word(header::RINGS)?, word(header::SLOTS)?)?, word(header::FLAGS)?))
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
