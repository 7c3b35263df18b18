//! Where things are in the trace file. All numbers are counted in lines of 64 bytes.
//!
//! ```text
//! line 0            header
//! line 64           one control block of four lines per ring
//! page-aligned      bugcheck record, end of run, images, findings
//! page-aligned      the rings' slots, one line each
//! ```

use crate::file::TraceOptions;
use crate::memory::LINE_BYTES;

/// First header word.
pub const MAGIC: u64 = u64::from_le_bytes(*b"DRYTRACE");
/// Second header word. Raised with every change of the layout.
pub const VERSION: u64 = 1;

/// Words of the header line.
pub mod header {
    /// [`super::MAGIC`].
    pub const MAGIC: usize = 0;
    /// [`super::VERSION`].
    pub const VERSION: usize = 1;
    /// [`super::FLAG_LOSSLESS`] and [`super::FLAG_VIRTUAL_TIME`].
    pub const FLAGS: usize = 2;
    /// Number of rings.
    pub const RINGS: usize = 3;
    /// Slots per ring.
    pub const SLOTS: usize = 4;
    /// Virtual time in 100 ns.
    pub const VIRTUAL_NOW: usize = 5;
}

/// Writers wait for the reader when a ring is full.
pub const FLAG_LOSSLESS: u64 = 1;
/// Stamps are virtual time in 100 ns, not time stamp counter ticks.
pub const FLAG_VIRTUAL_TIME: u64 = 2;

/// Lines of a ring's control block: the writer's, the counters', the reader's, and the sharers'.
pub const CONTROL_LINES: usize = 4;
/// Control line written with every record.
pub const CONTROL_WRITER: usize = 0;
/// Control line of [`crate::Counter`]s.
pub const CONTROL_COUNTERS: usize = 1;
/// Control line written by the reader.
pub const CONTROL_READER: usize = 2;
/// Control line of threads that share the ring.
pub const CONTROL_SHARED: usize = 3;

/// Word of the writer's line: slots written since the start; the next is this one modulo the ring's size.
pub const HEAD: usize = 0;
/// Word of the writer's line: events written since the start.
pub const WRITTEN: usize = 1;
/// Word of the reader's line: slots that may be overwritten without loss.
pub const TAIL: usize = 0;
/// Word of the sharers' line: nonzero while one of them records.
pub const LOCK: usize = 0;
/// Word of the sharers' line: the last stamp.
pub const LAST_STAMP: usize = 1;
/// Word of the sharers' line: events given up because the lock could not be had.
pub const DROPPED: usize = 2;

/// Slots a record can take, and so the most that a writer can have overwritten behind the reader's back
/// since it last published its head.
pub const MARGIN: u64 = 1 + crate::text::TEXT_LINES_MAX as u64;

/// Lines of the bugcheck record.
pub const BUGCHECK_LINES: usize = 64;
/// Lines of the end-of-run block.
pub const END_LINES: usize = 64;
/// Images that are kept.
pub const IMAGES: usize = 128;
/// Lines of one image.
pub const IMAGE_LINES: usize = 2;
/// Findings that are kept; more are only counted.
pub const FINDINGS: usize = 256;
/// Lines of one finding.
pub const FINDING_LINES: usize = 16;

const LINES_PER_PAGE: usize = 4096 / LINE_BYTES;

/// The sizes from which every place follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    rings: usize,
    slots: usize,
}

impl Geometry {
    /// Most rings of a file.
    pub const RINGS_MAX: usize = 1024;
    /// Fewest and most slots of a ring.
    pub const SLOTS_RANGE: std::ops::RangeInclusive<usize> = 64..=1 << 20;

    /// The geometry that `options` ask for, moved into the permitted range.
    pub fn of(options: &TraceOptions) -> Self {
        let slots = options.ring_records.clamp(*Self::SLOTS_RANGE.start(), *Self::SLOTS_RANGE.end());
        Self { rings: options.rings.clamp(1, Self::RINGS_MAX), slots: slots.next_power_of_two() }
    }

    /// The geometry named in a header, if it is one that [`Geometry::of`] can give.
    pub fn named(rings: u64, slots: u64) -> Option<Self> {
        let geometry = Self { rings: rings.try_into().ok()?, slots: slots.try_into().ok()? };
        let plausible = (1..=Self::RINGS_MAX).contains(&geometry.rings)
            && Self::SLOTS_RANGE.contains(&geometry.slots)
            && geometry.slots.is_power_of_two();
        plausible.then_some(geometry)
    }

    /// Number of rings.
    pub fn rings(self) -> usize {
        self.rings
    }

    /// Slots per ring, a power of two.
    pub fn slots(self) -> usize {
        self.slots
    }

    /// First line of a ring's control block.
    pub fn control(self, ring: usize) -> usize {
        LINES_PER_PAGE + ring * CONTROL_LINES
    }

    /// First line of the bugcheck record.
    pub fn bugcheck(self) -> usize {
        self.control(self.rings).next_multiple_of(LINES_PER_PAGE)
    }

    /// First line of the end-of-run block.
    pub fn end_of_run(self) -> usize {
        self.bugcheck() + BUGCHECK_LINES
    }

    /// First line of the image list: the line with its count, then [`IMAGES`] images.
    pub fn images(self) -> usize {
        self.end_of_run() + END_LINES
    }

    /// First line of the findings: the line with the overflow count, then [`FINDINGS`] findings.
    pub fn findings(self) -> usize {
        self.images() + 1 + IMAGES * IMAGE_LINES
    }

    /// First slot of a ring.
    pub fn ring(self, ring: usize) -> usize {
        let first = (self.findings() + 1 + FINDINGS * FINDING_LINES).next_multiple_of(LINES_PER_PAGE);
        first + ring * self.slots
    }

    /// Size of the file in bytes.
    pub fn bytes(self) -> usize {
        self.ring(self.rings) * LINE_BYTES
    }
}
