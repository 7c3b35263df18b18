//! The writing end of a ring: what every thread of the child records with.
//!
//! A ring has one writer and one reader, which may lag behind; how it tells what it read in time is in
//! [`crate::window`].
//!
//! The last ring may have many writers. They take turns under a lock of one word; nobody waits for it without
//! bound, since its holder may be the very thread that a signal handler interrupted.

use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::thread;
use std::time::Duration;

use crate::Event;
use crate::layout::{
    CONTROL_COUNTERS, CONTROL_LINES, CONTROL_READER, CONTROL_SHARED, CONTROL_WRITER, DROPPED, HEAD, LAST_STAMP, LOCK,
    MARGIN, TAIL, WRITTEN,
};
use crate::memory::{Line, time_stamp};
use crate::text::{CONTINUATION, TEXT_BYTES_MAX, TEXT_LINE_BYTES, cut, put_bytes};
use crate::window;
use crate::writer::TraceWriter;

/// What the verdict counts. Kept beside the rings, so that it is right even when events were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Counter {
    /// Successful opens.
    Opens = 0,
    /// IRP_MJ_CLEANUP requests.
    Cleanups = 1,
    /// IRP_MJ_CLOSE requests.
    Closes = 2,
    /// Requests given to a driver.
    Irps = 3,
    /// Bytes the network took.
    BytesSent = 4,
    /// Bytes the network gave.
    BytesReceived = 5,
}

/// A thread's place to record in.
///
/// Lives in the thread's control block; an absent one ([`RingWriter::absent`]) drops events silently. All-zero
/// bytes are *not* a valid value: initialise the block with `absent()`. Dropping or [releasing](Self::release)
/// it returns the ring to the threads that come later.
#[derive(Debug)]
pub struct RingWriter {
    ring: Option<Ring>,
}

#[derive(Debug)]
struct Ring {
    slots: &'static [Line],
    control: &'static [Line; CONTROL_LINES],
    head: u64,
    written: u64,
    stamp: u64,
    thread: u16,
    /// Shared, or lossless: the short way is barred.
    careful: bool,
    shared: bool,
    lossless: bool,
    /// The tail at which a wait for the reader ended in vain: no use waiting again until it moves.
    given_up_at: Option<u64>,
    /// The virtual clock; without it the time stamp counter.
    clock: Option<&'static AtomicU64>,
    index: usize,
    owner: &'static TraceWriter,
}

impl RingWriter {
    /// One that drops everything.
    pub const fn absent() -> Self {
        Self { ring: None }
    }

    /// One that writes to the ring `index` of `owner`, of which it is the only user unless `shared`.
    pub(crate) fn new(owner: &'static TraceWriter, index: usize, thread: u16, shared: bool) -> Self {
        let Some((slots, control)) = owner.ring(index) else { return Self::absent() };
        let clock = owner.clock();
        let lossless = owner.is_lossless();
        let ring = Ring {
            slots,
            control,
            head: control[CONTROL_WRITER].0[HEAD].load(Relaxed),
            written: control[CONTROL_WRITER].0[WRITTEN].load(Relaxed),
            stamp: clock.map_or_else(time_stamp, |clock| clock.load(Relaxed)),
            thread,
            careful: shared || lossless,
            shared,
            lossless,
            given_up_at: None,
            clock,
            index,
            owner,
        };
        Self { ring: Some(ring) }
    }

    /// Records an event. A few stores; a stamped event also reads the clock.
    ///
    /// IRQL: any. In lossless mode waits for the reader when the ring is full, at most a few seconds.
    #[inline]
    pub fn record(&mut self, event: Event) {
        let Some(ring) = &mut self.ring else { return };
        if ring.careful {
            return ring.record_carefully(event, &[]);
        }
        if event.is_stamped() {
            ring.stamp = time_stamp();
        }
        ring.put(event, &[]);
    }

    /// Records an event with a text, of which the first [`TEXT_BYTES_MAX`] bytes are kept.
    ///
    /// IRQL: any.
    pub fn record_with_text(&mut self, event: Event, text: &str) {
        let Some(ring) = &mut self.ring else { return };
        let text = cut(text, TEXT_BYTES_MAX);
        if ring.careful {
            return ring.record_carefully(event, text);
        }
        if event.is_stamped() {
            ring.stamp = time_stamp();
        }
        ring.put(event, text);
    }

    /// Adds to a counter. Counters are added up over all rings by the reader.
    #[inline]
    pub fn count(&mut self, counter: Counter, amount: u64) {
        let Some(ring) = &self.ring else { return };
        let cell = &ring.control[CONTROL_COUNTERS].0[counter as usize];
        if ring.shared {
            cell.fetch_add(amount, Relaxed);
        } else {
            // The only writer of this cell: no need for a locked instruction.
            cell.store(cell.load(Relaxed).wrapping_add(amount), Relaxed);
        }
    }

    /// Gives the ring back; from here on events are dropped.
    pub fn release(&mut self) {
        if let Some(ring) = self.ring.take()
            && !ring.shared
        {
            ring.owner.give_back(ring.index);
        }
    }
}

impl Drop for RingWriter {
    fn drop(&mut self) {
        self.release();
    }
}

impl Ring {
    /// Writes a record at the head and publishes it.
    #[inline]
    fn put(&mut self, event: Event, text: &[u8]) {
        let Some(slot) = self.slot(self.head) else { return };
        window::begin();
        let tag = u64::from(event.code())
            | u64::from(self.thread) << 16
            | (text.len() as u64) << 32
            | (self.head & 0xFFFF) << 48;
        slot.0[0].store(self.stamp, Relaxed);
        slot.0[1].store(tag, Relaxed);
        for (cell, word) in slot.0[2..].iter().zip(event.to_words()).take(event.word_count()) {
            cell.store(word, Relaxed);
        }
        self.head = self.head.wrapping_add(1);
        if !text.is_empty() {
            self.put_text(text);
        }
        self.written = self.written.wrapping_add(1);
        let line = &self.control[CONTROL_WRITER].0;
        line[WRITTEN].store(self.written, Relaxed);
        window::publish(&line[HEAD], self.head);
    }

    #[cold]
    fn put_text(&mut self, text: &[u8]) {
        for part in text.chunks(TEXT_LINE_BYTES) {
            let Some(slot) = self.slot(self.head) else { return };
            slot.0[0].store(CONTINUATION, Relaxed);
            put_bytes(&slot.0[1..], part);
            self.head = self.head.wrapping_add(1);
        }
    }

    #[inline]
    fn slot(&self, index: u64) -> Option<&'static Line> {
        self.slots.get(index as usize & self.slots.len().wrapping_sub(1))
    }

    /// The long way: waits for room, takes turns, and keeps stamps of all sharers in order.
    #[inline(never)]
    fn record_carefully(&mut self, event: Event, text: &[u8]) {
        if self.shared && !self.lock() {
            self.control[CONTROL_SHARED].0[DROPPED].fetch_add(1, Relaxed);
            return;
        }
        if self.shared {
            let line = &self.control[CONTROL_WRITER].0;
            self.head = line[HEAD].load(Relaxed);
            self.written = line[WRITTEN].load(Relaxed);
        }
        if self.lossless {
            self.wait_for_room();
        }
        match self.clock {
            Some(clock) => self.stamp = clock.load(Relaxed),
            None if event.is_stamped() => self.stamp = time_stamp(),
            None => {}
        }
        if self.shared {
            let last = &self.control[CONTROL_SHARED].0[LAST_STAMP];
            self.stamp = self.stamp.max(last.load(Relaxed));
            last.store(self.stamp, Relaxed);
        }
        self.put(event, text);
        if self.shared {
            self.control[CONTROL_SHARED].0[LOCK].store(0, Release);
        }
    }

    fn lock(&self) -> bool {
        let lock = &self.control[CONTROL_SHARED].0[LOCK];
        // A sharer may hold it while it waits for the reader itself, hence the longer patience.
        wait(2 * PATIENCE, || lock.compare_exchange_weak(0, 1, Acquire, Relaxed).is_ok())
    }

    /// Waits until the reader has left room for the longest record; gives up on a reader that stands still.
    fn wait_for_room(&mut self) {
        let room = self.slots.len() as u64 - 2 * MARGIN;
        let tail = &self.control[CONTROL_READER].0[TAIL];
        let now = tail.load(Acquire);
        if self.head.wrapping_sub(now) <= room || self.given_up_at == Some(now) {
            return;
        }
        let head = self.head;
        let there_is_room = wait(PATIENCE, || head.wrapping_sub(tail.load(Acquire)) <= room);
        self.given_up_at = if there_is_room { None } else { Some(tail.load(Relaxed)) };
    }
}

/// Naps before a waiter gives up: at least a second.
const PATIENCE: u32 = 10_000;
/// Length of a nap.
const NAP: Duration = Duration::from_micros(100);

/// Waits until `done`: a short spin, then naps, of which at most `naps`. Counted rather than timed, because the
/// clock may be the driver's virtual one.
fn wait(naps: u32, mut done: impl FnMut() -> bool) -> bool {
    for _ in 0..128 {
        if done() {
            return true;
        }
        std::hint::spin_loop();
    }
    for _ in 0..naps {
        if done() {
            return true;
        }
        thread::sleep(NAP);
    }
    done()
}
