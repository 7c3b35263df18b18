//! What must survive beside the rings: the bugcheck record, findings, images, the end of the run.
//!
//! Invariants:
//! - Everything is append-only and bounded; what does not fit is counted.
//! - A place is claimed by one atomic operation, filled, and then marked ready, so that a writer that dies in
//!   between leaves a place that reads as absent (findings, images) or as incomplete (bugcheck).
//! - Writing takes no lock and allocates nothing: it happens in signal handlers.
//! - Reading bounds every length; the words may be anything.

use std::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use crate::layout::{BUGCHECK_LINES, END_LINES, FINDING_LINES, FINDINGS, Geometry, IMAGE_LINES, IMAGES};
use crate::memory::Line;
use crate::text::{cut, get_text, put_bytes};

/// Frame addresses a bugcheck record holds.
const FRAMES: usize = 32;
/// State of a place that nobody claimed.
const FREE: u64 = 0;
/// State of a place that is being filled.
const CLAIMED: u64 = 1;
/// State of a place that is filled.
const READY: u64 = 2;
/// `import` word of a bugcheck outside of imports.
const NO_IMPORT: u64 = u64::MAX;

/// What a child writes down when it dies. Texts are cut: names to 64 and 128 bytes, the message to 1024.
#[derive(Clone, Copy, Debug, Default)]
pub struct BugCheckReport<'a> {
    /// Windows' STOP code, or one of Drydock's own.
    pub code: u32,
    /// The four parameters.
    pub parameters: [u64; 4],
    /// The instruction that is to blame.
    pub rip: u64,
    /// Base of the image it lies in, 0 if unknown.
    pub image_base: u64,
    /// Offset of the instruction in that image.
    pub offset: u64,
    /// File name of that image, empty if unknown.
    pub driver: &'a str,
    /// `KTHREAD` address, or 0.
    pub thread: u64,
    /// Number of the import that was being served.
    pub import: Option<u32>,
    /// Its name.
    pub import_name: &'a str,
    /// rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15.
    pub registers: [u64; 16],
    /// RFLAGS.
    pub rflags: u64,
    /// Return addresses, innermost first; at most 32 are kept.
    pub frames: &'a [u64],
    /// What happened, in words.
    pub message: &'a str,
}

/// A [`BugCheckReport`] as the supervisor reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BugCheckRecord {
    /// Whether the child finished writing it; what is missing reads as 0 or empty.
    pub complete: bool,
    /// Windows' STOP code, or one of Drydock's own.
    pub code: u32,
    /// The four parameters.
    pub parameters: [u64; 4],
    /// The instruction that is to blame.
    pub rip: u64,
    /// Base of the image it lies in, 0 if unknown.
    pub image_base: u64,
    /// Offset of the instruction in that image.
    pub offset: u64,
    /// File name of that image, empty if unknown.
    pub driver: String,
    /// `KTHREAD` address, or 0.
    pub thread: u64,
    /// Number of the import that was being served.
    pub import: Option<u32>,
    /// Its name.
    pub import_name: String,
    /// rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15.
    pub registers: [u64; 16],
    /// RFLAGS.
    pub rflags: u64,
    /// Return addresses, innermost first.
    pub frames: Vec<u64>,
    /// What happened, in words.
    pub message: String,
}

/// A broken rule, or something left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FindingRecord {
    /// The rule's id, such as `C-133`; empty if none names it.
    pub rule: String,
    /// What happened and what to do about it.
    pub message: String,
    /// The driver's file name; empty if unknown.
    pub driver: String,
    /// Offset in the driver's image.
    pub offset: u64,
    /// How often it happened.
    pub times: u64,
}

/// A mapped image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageRecord {
    /// File name.
    pub name: String,
    /// Where it is mapped.
    pub base: u64,
    /// Its size in bytes.
    pub size: u64,
}

impl ImageRecord {
    /// The offset of `address` in this image, if it lies in it.
    pub fn offset_of(&self, address: u64) -> Option<u64> {
        address.checked_sub(self.base).filter(|&offset| offset < self.size)
    }
}

/// The end of a run in good order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndOfRun {
    /// Drivers that were started.
    pub started: u32,
    /// Drivers that were unloaded.
    pub unloaded: u32,
}

/// Words of a bugcheck record.
mod bugcheck {
    use std::ops::Range;

    pub const STATE: usize = 0;
    pub const CODE: usize = 1;
    pub const PARAMETERS: Range<usize> = 2..6;
    pub const RIP: usize = 6;
    pub const IMAGE_BASE: usize = 7;
    pub const OFFSET: usize = 8;
    pub const THREAD: usize = 9;
    pub const IMPORT: usize = 10;
    /// Lengths in 16 bits each: driver, import, message; then the number of frames.
    pub const LENGTHS: usize = 11;
    pub const REGISTERS: Range<usize> = 12..28;
    pub const RFLAGS: usize = 28;
    pub const FRAMES: Range<usize> = 32..64;
    pub const DRIVER: Range<usize> = 64..72;
    pub const IMPORT_NAME: Range<usize> = 72..88;
    pub const MESSAGE: Range<usize> = 88..216;
    /// Words in all.
    pub const WORDS: usize = 216;
}

/// Words of a finding.
mod finding {
    use std::ops::Range;

    /// Hash of rule, driver and offset; claims the place.
    pub const KEY: usize = 0;
    pub const STATE: usize = 1;
    pub const TIMES: usize = 2;
    pub const OFFSET: usize = 3;
    /// Lengths in 16 bits each: rule, driver, message.
    pub const LENGTHS: usize = 4;
    pub const RULE: Range<usize> = 8..12;
    pub const DRIVER: Range<usize> = 12..20;
    pub const MESSAGE: Range<usize> = 20..128;
    /// Words in all.
    pub const WORDS: usize = 128;
}

/// Words of an image.
mod image {
    use std::ops::Range;

    pub const STATE: usize = 0;
    pub const BASE: usize = 1;
    pub const SIZE: usize = 2;
    pub const LENGTH: usize = 3;
    pub const NAME: Range<usize> = 4..16;
    /// Words in all.
    pub const WORDS: usize = 16;
}

const _: () = assert!(bugcheck::WORDS <= BUGCHECK_LINES * 8 && bugcheck::FRAMES.end - bugcheck::FRAMES.start == FRAMES);
const _: () = assert!(finding::WORDS == FINDING_LINES * 8 && image::WORDS == IMAGE_LINES * 8);

/// A record in shared memory: `lines` lines seen as words.
#[derive(Clone, Copy)]
struct Words<'a>(&'a [Line]);

impl<'a> Words<'a> {
    fn at(lines: &'a [Line], first: usize, count: usize) -> Option<Self> {
        lines.get(first..first + count).map(Self)
    }

    /// A word, which the asserted layouts keep inside.
    fn cell(self, index: usize) -> &'a AtomicU64 {
        &self.0[index / 8].0[index % 8]
    }

    fn get(self, index: usize) -> u64 {
        self.cell(index).load(Relaxed)
    }

    fn set(self, index: usize, value: u64) {
        self.cell(index).store(value, Relaxed);
    }

    fn set_all(self, range: std::ops::Range<usize>, values: &[u64]) {
        for (index, &value) in range.zip(values) {
            self.set(index, value);
        }
    }

    fn get_all<const N: usize>(self, range: std::ops::Range<usize>) -> [u64; N] {
        let mut values = [0; N];
        for (value, index) in values.iter_mut().zip(range) {
            *value = self.get(index);
        }
        values
    }

    /// Writes a text and returns how many bytes of it fit.
    fn put_text(self, range: std::ops::Range<usize>, text: &str) -> u64 {
        let bytes = cut(text, range.len() * 8);
        for (index, chunk) in range.zip(bytes.chunks(8)) {
            put_bytes(std::slice::from_ref(self.cell(index)), chunk);
        }
        bytes.len() as u64
    }

    fn text(self, range: std::ops::Range<usize>, length: u64) -> String {
        get_text(range.map(|index| self.cell(index)), length)
    }
}

/// Claims and fills the bugcheck record.
pub fn write_bugcheck(lines: &[Line], geometry: Geometry, report: &BugCheckReport<'_>) -> bool {
    use bugcheck::*;
    let Some(words) = Words::at(lines, geometry.bugcheck(), BUGCHECK_LINES) else { return false };
    if words.cell(STATE).compare_exchange(FREE, CLAIMED, AcqRel, Relaxed).is_err() {
        return false;
    }
    words.set(CODE, u64::from(report.code));
    words.set_all(PARAMETERS, &report.parameters);
    words.set(RIP, report.rip);
    words.set(IMAGE_BASE, report.image_base);
    words.set(OFFSET, report.offset);
    words.set(THREAD, report.thread);
    words.set(IMPORT, report.import.map_or(NO_IMPORT, u64::from));
    words.set_all(REGISTERS, &report.registers);
    words.set(RFLAGS, report.rflags);
    words.set_all(FRAMES, report.frames);
    let driver = words.put_text(DRIVER, report.driver);
    let import = words.put_text(IMPORT_NAME, report.import_name);
    let message = words.put_text(MESSAGE, report.message);
    let frames = report.frames.len().min(FRAMES.len()) as u64;
    words.set(LENGTHS, driver | import << 16 | message << 32 | frames << 48);
    words.cell(STATE).store(READY, Release);
    true
}

/// Reads the bugcheck record, if there is one.
pub fn read_bugcheck(lines: &[Line], geometry: Geometry) -> Option<BugCheckRecord> {
    use bugcheck::*;
    let words = Words::at(lines, geometry.bugcheck(), BUGCHECK_LINES)?;
    let state = words.cell(STATE).load(Acquire);
    // What was written over is no record.
    if ![CLAIMED, READY].contains(&state) || words.get(CODE) > u64::from(u32::MAX) {
        return None;
    }
    let lengths = words.get(LENGTHS);
    let import = words.get(IMPORT);
    let mut frames = words.get_all::<32>(FRAMES).to_vec();
    frames.truncate((lengths >> 48) as usize);
    Some(BugCheckRecord {
        complete: state == READY,
        code: words.get(CODE) as u32,
        parameters: words.get_all(PARAMETERS),
        rip: words.get(RIP),
        image_base: words.get(IMAGE_BASE),
        offset: words.get(OFFSET),
        driver: words.text(DRIVER, lengths & 0xFFFF),
        thread: words.get(THREAD),
        import: u32::try_from(import).ok(),
        import_name: words.text(IMPORT_NAME, lengths >> 16 & 0xFFFF),
        registers: words.get_all(REGISTERS),
        rflags: words.get(RFLAGS),
        frames,
        message: words.text(MESSAGE, lengths >> 32 & 0xFFFF),
    })
}

/// Counts a finding, in the place of an equal one or in a new place. Returns whether it is new.
pub fn write_finding(lines: &[Line], geometry: Geometry, rule: &str, message: &str, driver: &str, offset: u64) -> bool {
    use finding::*;
    let key = hash(&[rule.as_bytes(), &[0], driver.as_bytes(), &[0], &offset.to_le_bytes()]);
    for index in 0..FINDINGS {
        let Some(words) = finding_at(lines, geometry, index) else { return false };
        match words.cell(KEY).compare_exchange(FREE, key, AcqRel, Acquire) {
            Ok(_) => {
                words.set(OFFSET, offset);
                let rule = words.put_text(RULE, rule);
                let driver = words.put_text(DRIVER, driver);
                let message = words.put_text(MESSAGE, message);
                words.set(LENGTHS, rule | driver << 16 | message << 32);
                words.cell(TIMES).fetch_add(1, Relaxed);
                words.cell(STATE).store(READY, Release);
                return true;
            }
            Err(taken) if taken == key => {
                words.cell(TIMES).fetch_add(1, Relaxed);
                return false;
            }
            Err(_) => {}
        }
    }
    if let Some(overflow) = lines.get(geometry.findings()) {
        overflow.0[0].fetch_add(1, Relaxed);
    }
    false
}

/// The findings in the order of their first appearance.
pub fn read_findings(lines: &[Line], geometry: Geometry) -> Vec<FindingRecord> {
    use finding::*;
    let places = (0..FINDINGS).filter_map(|index| finding_at(lines, geometry, index));
    let ready = places.filter(|words| words.cell(STATE).load(Acquire) == READY);
    ready
        .map(|words| {
            let lengths = words.get(LENGTHS);
            FindingRecord {
                rule: words.text(RULE, lengths & 0xFFFF),
                message: words.text(MESSAGE, lengths >> 32 & 0xFFFF),
                driver: words.text(DRIVER, lengths >> 16 & 0xFFFF),
                offset: words.get(OFFSET),
                times: words.get(TIMES),
            }
        })
        .collect()
}

/// Findings for which there was no place.
pub fn read_findings_overflow(lines: &[Line], geometry: Geometry) -> u64 {
    lines.get(geometry.findings()).map_or(0, |line| line.0[0].load(Relaxed))
}

/// Appends an image; beyond the last place it is forgotten.
pub fn write_image(lines: &[Line], geometry: Geometry, name: &str, base: u64, size: u64) {
    use image::*;
    let Some(count) = lines.get(geometry.images()) else { return };
    let index = count.0[0].fetch_add(1, Relaxed);
    let Some(words) = usize::try_from(index).ok().and_then(|index| image_at(lines, geometry, index)) else { return };
    words.set(BASE, base);
    words.set(SIZE, size);
    words.set(LENGTH, words.put_text(NAME, name));
    words.cell(STATE).store(READY, Release);
}

/// The images in the order they were mapped.
pub fn read_images(lines: &[Line], geometry: Geometry) -> Vec<ImageRecord> {
    use image::*;
    let places = (0..IMAGES).filter_map(|index| image_at(lines, geometry, index));
    let ready = places.filter(|words| words.cell(STATE).load(Acquire) == READY);
    ready
        .map(|words| ImageRecord {
            name: words.text(NAME, words.get(LENGTH)),
            base: words.get(BASE),
            size: words.get(SIZE),
        })
        .collect()
}

/// Writes the end-of-run block.
pub fn write_end(lines: &[Line], geometry: Geometry, end: EndOfRun) {
    let Some(words) = Words::at(lines, geometry.end_of_run(), END_LINES) else { return };
    words.set(1, u64::from(end.started));
    words.set(2, u64::from(end.unloaded));
    words.cell(0).store(READY, Release);
}

/// Reads the end-of-run block, if it was written.
pub fn read_end(lines: &[Line], geometry: Geometry) -> Option<EndOfRun> {
    let words = Words::at(lines, geometry.end_of_run(), END_LINES)?;
    (words.cell(0).load(Acquire) == READY)
        .then(|| EndOfRun { started: words.get(1) as u32, unloaded: words.get(2) as u32 })
}

fn finding_at(lines: &[Line], geometry: Geometry, index: usize) -> Option<Words<'_>> {
    Words::at(lines, geometry.findings() + 1 + index * FINDING_LINES, FINDING_LINES)
}

fn image_at(lines: &[Line], geometry: Geometry, index: usize) -> Option<Words<'_>> {
    (index < IMAGES).then(|| Words::at(lines, geometry.images() + 1 + index * IMAGE_LINES, IMAGE_LINES)).flatten()
}

/// FNV-1a, never 0.
fn hash(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter());
    bytes.fold(0xCBF2_9CE4_8422_2325, |hash: u64, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)) | 1
}
