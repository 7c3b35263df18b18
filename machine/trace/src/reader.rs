//! The supervisor's side: takes events out of the rings and puts them in order.
//!
//! Everything in the file is hostile. Geometry and flags come from the [`TraceFile`]; heads, tags and texts are
//! checked; what does not check out is skipped and counted. A drain keeps at most what the rings hold, twice.
//!
//! # Order
//! A writer takes its stamp before it publishes, so an event may appear behind later ones of another ring.
//! [`TraceReader::drain`] therefore hands out only events stamped before the drain before it, a whole drain
//! later; [`TraceReader::finish`] hands out the rest. Within a ring, order is that of recording.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use crate::clock::{Calibration, Reading};
use crate::layout::{
    CONTROL_COUNTERS, CONTROL_READER, CONTROL_SHARED, CONTROL_WRITER, DROPPED, Geometry, HEAD, MARGIN, TAIL, WRITTEN,
};
use crate::memory::{Line, Memory, time_stamp};
use crate::records::{self, BugCheckRecord, EndOfRun, FindingRecord, ImageRecord};
use crate::text::{CONTINUATION, TEXT_BYTES_MAX, TEXT_LINE_BYTES};
use crate::{Counter, Event, TraceFile, window};

/// An event with its circumstances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Nanoseconds since the trace file was made; in a seeded run virtual time.
    pub time_ns: u64,
    /// The number of the thread that recorded it.
    pub thread: u16,
    /// What happened.
    pub event: Event,
    /// The event's text, empty for most.
    pub text: String,
}

/// Reads a trace file, while the child writes and after it is gone.
#[derive(Debug)]
pub struct TraceReader {
    memory: Memory,
    geometry: Geometry,
    virtual_time: bool,
    calibration: Calibration,
    rings: Vec<RingState>,
    /// Read but not yet old enough to be handed out; of each ring in its order.
    held: Vec<(u64, Record)>,
    /// The last time handed out, by thread.
    times: Vec<u64>,
}

/// How far a ring was read.
#[derive(Clone, Debug, Default)]
struct RingState {
    tail: u64,
    stamp: u64,
    /// Events handed out or held.
    read: u64,
    /// Places where no valid record was found although one should have been there.
    damaged: u64,
    /// Events that are missing and were said to be.
    announced: u64,
    /// Slots were overwritten or damaged: the next may be the rest of a record whose start is gone.
    lapped: bool,
    /// Of the last record.
    thread: u16,
    /// An [`Event::EventsLost`] was made, and no [`Event::EventsResumed`] yet.
    gap: bool,
}

impl TraceReader {
    /// Maps the file for reading.
    ///
    /// # Errors
    /// What `mmap` says.
    pub fn new(file: &TraceFile) -> io::Result<Self> {
        let geometry = file.geometry();
        Ok(Self {
            memory: Memory::map(file.fd(), geometry.bytes())?,
            geometry,
            virtual_time: file.is_virtual_time(),
            calibration: Calibration::new(file.started()),
            rings: vec![RingState::default(); geometry.rings()],
            held: Vec::new(),
            times: Vec::new(),
        })
    }

    /// Takes what was recorded up to the drain before this one, in order of time. Call it regularly: in
    /// lossless mode writers wait for it.
    pub fn drain(&mut self) -> Vec<Record> {
        self.drain_since(Reading::now())
    }

    /// A drain that began at `now`.
    fn drain_since(&mut self, now: Reading) -> Vec<Record> {
        let horizon = self.calibration.last().ticks;
        self.calibration.add(now);
        self.read_rings(horizon);
        if self.virtual_time {
            // One ring holds everything, in its one true order.
            return self.hand_out(u64::MAX);
        }
        self.hand_out(horizon)
    }

    /// Takes everything that is left, once the child is gone.
    pub fn finish(&mut self) -> Vec<Record> {
        let horizon = self.calibration.last().ticks;
        self.calibration.add(Reading::now());
        self.read_rings(horizon);
        self.calibration.add(Reading::now());
        self.hand_out(u64::MAX)
    }

    /// When [`TraceReader::finish`] was called, in nanoseconds since the start; `None` in virtual time, which stood still by then.
    pub fn end_ns(&self) -> Option<u64> {
        (!self.virtual_time).then(|| self.calibration.nanoseconds(self.calibration.last().ticks))
    }

    /// A counter, added up over all rings.
    pub fn count(&self, counter: Counter) -> u64 {
        self.sum(CONTROL_COUNTERS, counter as usize)
    }

    /// Events that were recorded and never came out: overwritten, torn, or given up by the writer. Exact once
    /// [`TraceReader::finish`] was called; unless a driver wrote over the counts.
    pub fn lost(&self) -> u64 {
        let read: u64 = self.rings.iter().map(|ring| ring.read).sum();
        self.sum(CONTROL_WRITER, WRITTEN).saturating_sub(read).saturating_add(self.sum(CONTROL_SHARED, DROPPED))
    }

    /// Places in rings where something else than a record was found. Not 0 only if a driver wrote there.
    pub fn damaged(&self) -> u64 {
        self.rings.iter().map(|ring| ring.damaged).sum()
    }

    /// The bugcheck record, if the child wrote one.
    pub fn bugcheck(&self) -> Option<BugCheckRecord> {
        records::read_bugcheck(self.memory.lines(), self.geometry)
    }

    /// The findings so far, in the order of their first appearance.
    pub fn findings(&self) -> Vec<FindingRecord> {
        records::read_findings(self.memory.lines(), self.geometry)
    }

    /// Findings beyond those that the file has place for.
    pub fn findings_overflow(&self) -> u64 {
        records::read_findings_overflow(self.memory.lines(), self.geometry)
    }

    /// The images that were mapped.
    pub fn images(&self) -> Vec<ImageRecord> {
        records::read_images(self.memory.lines(), self.geometry)
    }

    /// Set once the run came to its end in good order.
    pub fn end_of_run(&self) -> Option<EndOfRun> {
        records::read_end(self.memory.lines(), self.geometry)
    }

    fn sum(&self, line: usize, word: usize) -> u64 {
        let cells =
            (0..self.geometry.rings()).filter_map(|ring| self.memory.lines().get(self.geometry.control(ring) + line));
        cells.fold(0, |sum: u64, line| sum.saturating_add(line.0[word].load(Relaxed)))
    }

    /// Moves what is new from the rings to `held`. `horizon` is when they were last read.
    fn read_rings(&mut self, horizon: u64) {
        let lines = self.memory.lines();
        let mut copies = Vec::with_capacity(self.rings.len());
        for (index, state) in self.rings.iter_mut().enumerate() {
            let first = self.geometry.ring(index);
            let control = self.geometry.control(index);
            let (Some(slots), Some(writer), Some(reader)) = (
                lines.get(first..first + self.geometry.slots()),
                lines.get(control + CONTROL_WRITER),
                lines.get(control + CONTROL_READER),
            ) else {
                continue;
            };
            // Before the head: what is counted here and not read below is lost, or written meanwhile.
            let written = writer.0[WRITTEN].load(Acquire);
            let copied = state.copy_new(slots, &writer.0[HEAD]);
            reader.0[TAIL].store(state.tail, Release);
            copies.push((state, copied, written));
        }
        // Read behind all copies: no true stamp is later, and a reader that was kept from running meanwhile takes none
        // of the honest ones for lies.
        let latest = time_stamp();
        let stamps = if self.virtual_time { Stamps::Virtual } else { Stamps::Ticks { horizon, latest } };
        for (state, copied, written) in copies {
            state.parse(&copied, stamps, written, &mut self.held);
        }
    }

    /// Takes the held records that are not younger than `horizon`, in order.
    fn hand_out(&mut self, horizon: u64) -> Vec<Record> {
        // Stable: records of one ring keep their order, since stamps never fall within a ring.
        self.held.sort_by_key(|(stamp, _)| *stamp);
        let ready = self.held.partition_point(|(stamp, _)| *stamp <= horizon);
        let taken = self.held.drain(..ready);
        let (calibration, virtual_time, times) = (&self.calibration, self.virtual_time, &mut self.times);
        taken
            .map(|(stamp, mut record)| {
                let thread = usize::from(record.thread);
                times.resize(times.len().max(thread + 1), 0);
                let time = if virtual_time { stamp.saturating_mul(100) } else { calibration.nanoseconds(stamp) };
                // A record that was published late may be older than all readings that are kept, and is then placed
                // more coarsely than the one before it was.
                times[thread] = times[thread].max(time);
                record.time_ns = times[thread];
                record
            })
            .collect()
    }
}

/// How stamps are to be understood.
#[derive(Clone, Copy, Debug)]
enum Stamps {
    Virtual,
    Ticks { horizon: u64, latest: u64 },
}

/// Slots copied out of a ring.
type Copied = window::Copied<[u64; 8]>;

impl RingState {
    /// Copies what was published since the last time and cannot have been overwritten while being copied.
    fn copy_new(&mut self, ring: &[Line], head: &AtomicU64) -> Copied {
        let until = window::published(head);
        let new = until.wrapping_sub(self.tail);
        if new.cast_signed() < 0 {
            // Heads only move forward; this one was written over.
            self.damaged += 1;
            self.tail = until;
            return Copied { first: until, slots: Vec::new() };
        }
        let copied = window::copy(ring, MARGIN, head, (self.tail, until), copy_line);
        self.lapped |= copied.first != self.tail;
        self.tail = until;
        copied
    }

    /// Turns slots into records, with an [`Event::EventsLost`] where the first is missing and an [`Event::EventsResumed`]
    /// behind the last that is. `written` is how many events the ring has seen.
    fn parse(&mut self, copied: &Copied, stamps: Stamps, written: u64, to: &mut Vec<(u64, Record)>) {
        let mut rest = copied.slots.as_slice();
        let mut lost = None;
        while let Some(slot) = rest.first() {
            if self.lapped && !self.gap {
                self.gap = true;
                lost = Some(to.len());
                // Other rings go on meanwhile: what they tell in between is told without what is missing here.
                to.push((stamps.after(self.stamp), self.note(Event::EventsLost { count: 0 })));
            }
            let number = copied.first.wrapping_add((copied.slots.len() - rest.len()) as u64);
            let (taken, record) = parse_record(rest, number);
            rest = rest.get(taken..).unwrap_or_default();
            match record {
                Some(record) => {
                    self.read += 1;
                    self.stamp = self.stamp.max(stamps.of(slot[0], &record.event));
                    self.thread = record.thread;
                    self.lapped = false;
                    if std::mem::take(&mut self.gap) {
                        to.push((self.stamp, self.note(Event::EventsResumed {})));
                    }
                    to.push((self.stamp, record));
                }
                None if self.lapped && slot[0] == CONTINUATION => {}
                None => {
                    self.damaged += 1;
                    self.lapped = true;
                }
            }
        }
        if let Some((_, record)) = lost.and_then(|lost| to.get_mut(lost)) {
            let count = written.saturating_sub(self.read).saturating_sub(self.announced).max(1);
            self.announced = self.announced.saturating_add(count);
            record.event = Event::EventsLost { count };
        }
    }

    /// An event of the reader's own making.
    fn note(&self, event: Event) -> Record {
        Record { time_ns: 0, thread: self.thread, event, text: String::new() }
    }
}

impl Stamps {
    /// When what follows the record stamped `stamp` was recorded at the earliest: not before the ring was last read.
    fn after(self, stamp: u64) -> u64 {
        match self {
            Self::Virtual => stamp,
            Self::Ticks { horizon, latest } => stamp.max(horizon).min(latest),
        }
    }

    fn of(self, stamp: u64, event: &Event) -> u64 {
        match self {
            // Without a stamp of its own it bears that of the event before it.
            _ if !event.is_stamped() => self.after(stamp),
            Self::Virtual => stamp,
            Self::Ticks { latest, .. } => stamp.min(latest),
        }
    }
}

fn copy_line(line: &Line) -> [u64; 8] {
    let mut words = [0; 8];
    for (word, cell) in words.iter_mut().zip(&line.0) {
        *word = cell.load(Relaxed);
    }
    words
}

/// Reads the record at the start of `slots`, whose first has this number. Returns how many slots it takes; one
/// if it is none.
fn parse_record(slots: &[[u64; 8]], number: u64) -> (usize, Option<Record>) {
    const NONE: (usize, Option<Record>) = (1, None);
    let Some(&[stamp, tag, ref words @ ..]) = slots.first() else { return NONE };
    let length = (tag >> 32 & 0xFFFF) as usize;
    if stamp == CONTINUATION || tag >> 48 != number & 0xFFFF || length > TEXT_BYTES_MAX {
        return NONE;
    }
    let taken = 1 + length.div_ceil(TEXT_LINE_BYTES);
    let Some(texts) = slots.get(1..taken) else { return NONE };
    if texts.iter().any(|text| text[0] != CONTINUATION) {
        return NONE;
    }
    let Some(event) = Event::from_words(tag as u16, *words) else { return NONE };
    let mut text: Vec<u8> = texts.iter().flat_map(|text| &text[1..]).flat_map(|word| word.to_le_bytes()).collect();
    text.truncate(length);
    let text = String::from_utf8_lossy(&text).into_owned();
    (taken, Some(Record { time_ns: 0, thread: (tag >> 16) as u16, event, text }))
}

#[cfg(test)]
mod tests;
