//! Received bytes of one kind that no receive has taken yet.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;

/// The first read ahead asks for this much at most; a connection that fills it gets twice as much the
/// next time, up to `Config::lookahead`. So thousands of quiet connections stay small.
const FIRST_SPACE: usize = 2048;

/// Bytes held back for a client, and whether it has said that it does not want them now.
///
/// Clients that only send receives need none of it. Once used, the memory is kept from one connection of the
/// endpoint to the next: a connection with receive handlers then costs no allocation.
#[derive(Debug, Default)]
pub(super) struct Lane(Option<Box<Buffer>>);

#[derive(Debug, Default)]
struct Buffer {
    /// Bytes `start..end` of it are held.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// What the next read ahead makes room for; 0 before the first.
    size: usize,
    /// The bytes are out at a receive handler.
    is_lent: bool,
    /// The handler did not want them; it is not asked again until a receive takes some (C-485).
    is_rejected: bool,
}

impl Lane {
    /// Nothing is held and nothing is out at a handler.
    pub(super) fn is_drained(&self) -> bool {
        self.held() == 0 && !self.is_lent()
    }

    /// Are there bytes that can be handed out now?
    pub(super) fn is_ready(&self) -> bool {
        self.held() != 0 && !self.is_lent()
    }

    pub(super) fn is_lent(&self) -> bool {
        self.0.as_ref().is_some_and(|buffer| buffer.is_lent)
    }

    pub(super) fn is_rejected(&self) -> bool {
        self.0.as_ref().is_some_and(|buffer| buffer.is_rejected)
    }

    pub(super) fn set_rejected(&mut self, is_rejected: bool) {
        match &mut self.0 {
            Some(buffer) => buffer.is_rejected = is_rejected,
            None if is_rejected => self.buffer().is_rejected = true,
            None => {}
        }
    }

    /// Bytes held, those out at a handler included.
    pub(super) fn held(&self) -> usize {
        self.0.as_ref().map_or(0, |buffer| buffer.held())
    }

    /// Bytes held, those that were pushed while others are out included.
    pub(super) fn total(&self) -> usize {
        self.0.as_ref().map_or(0, |buffer| buffer.held() + if buffer.is_lent { buffer.bytes.len() } else { 0 })
    }

    /// The first `room` bytes held, or as many as there are.
    pub(super) fn first(&self, room: u32) -> Range<usize> {
        let count = self.held().min(usize::try_from(room).unwrap_or(usize::MAX));
        let start = self.0.as_ref().map_or(0, |buffer| buffer.start);
        start..start + count
    }

    pub(super) fn get(&self, range: Range<usize>) -> &[u8] {
        self.0.as_ref().and_then(|buffer| buffer.bytes.get(range)).unwrap_or_default()
    }

    pub(super) fn consume(&mut self, count: usize) {
        if let Some(buffer) = &mut self.0 {
            buffer.start = buffer.end.min(buffer.start.saturating_add(count));
        }
    }

    /// Forgets what is held. What is out at a handler is forgotten too, and comes back as spare memory.
    pub(super) fn clear(&mut self) {
        if let Some(buffer) = &mut self.0 {
            buffer.start = 0;
            buffer.end = 0;
            buffer.is_lent = false;
            buffer.is_rejected = false;
        }
    }

    /// Gives the memory back.
    pub(super) fn free(&mut self) {
        self.0 = None;
    }

    /// Bytes that a read ahead may bring now.
    pub(super) fn room(&self, limit: usize) -> usize {
        self.0.as_ref().map_or_else(
            || Buffer::default().next_size(limit),
            |buffer| if buffer.is_lent { 0 } else { buffer.next_size(limit) - buffer.held() },
        )
    }

    /// The space for a read ahead, as long as [`Lane::room`].
    pub(super) fn space(&mut self, limit: usize) -> &mut [u8] {
        let buffer = self.buffer();
        let size = buffer.next_size(limit);
        buffer.bytes.copy_within(buffer.start..buffer.end, 0);
        buffer.end -= buffer.start;
        buffer.start = 0;
        buffer.size = size;
        if buffer.bytes.len() < size {
            buffer.bytes.resize(size, 0);
        }
        buffer.bytes.get_mut(buffer.end..size).unwrap_or_default()
    }

    /// `count` bytes were read into [`Lane::space`].
    pub(super) fn fill(&mut self, count: usize, limit: usize) {
        let buffer = self.buffer();
        buffer.end = buffer.size.min(buffer.end.saturating_add(count));
        if buffer.end == buffer.size {
            buffer.size = buffer.size.saturating_mul(2).min(limit.max(1));
        }
    }

    /// Adds bytes that the network pushed.
    pub(super) fn push(&mut self, data: &[u8]) {
        let buffer = self.buffer();
        if buffer.is_lent {
            // They join the others in `take_back`.
            buffer.bytes.extend_from_slice(data);
            return;
        }
        buffer.bytes.truncate(buffer.end);
        buffer.bytes.extend_from_slice(data);
        buffer.end = buffer.bytes.len();
    }

    /// The bytes for a handler, from the returned index on to the end.
    pub(super) fn lend(&mut self) -> (Vec<u8>, usize) {
        let buffer = self.buffer();
        buffer.is_lent = true;
        let mut bytes = core::mem::take(&mut buffer.bytes);
        bytes.truncate(buffer.end);
        (bytes, buffer.start)
    }

    /// The handler has returned, on the same connection, and has taken `taken` of them.
    pub(super) fn take_back(&mut self, bytes: Vec<u8>, taken: usize) {
        let buffer = self.buffer();
        // What was pushed meanwhile stands in the lane's own memory and comes after what was lent.
        let pushed = core::mem::replace(&mut buffer.bytes, bytes);
        let lent = buffer.bytes.len().min(buffer.end);
        buffer.bytes.extend_from_slice(&pushed);
        buffer.start = buffer.start.min(lent);
        buffer.end = lent + pushed.len();
        buffer.is_lent = false;
        self.consume(taken);
    }

    /// The handler has returned, on the same connection, and keeps what it was lent.
    pub(super) fn give_away(&mut self) {
        let buffer = self.buffer();
        buffer.start = 0;
        // What was pushed meanwhile.
        buffer.end = buffer.bytes.len();
        buffer.is_lent = false;
    }

    /// Memory of a handler whose connection has ended meanwhile.
    pub(super) fn recycle(&mut self, bytes: Vec<u8>) {
        let buffer = self.buffer();
        if buffer.bytes.is_empty() && buffer.held() == 0 && !buffer.is_lent {
            buffer.bytes = bytes;
        }
    }

    fn buffer(&mut self) -> &mut Buffer {
        self.0.get_or_insert_default()
    }
}

impl Buffer {
    fn held(&self) -> usize {
        self.end - self.start
    }

    fn next_size(&self, limit: usize) -> usize {
        let first = FIRST_SPACE.min(limit.max(1));
        self.size.max(first).max(self.held())
    }
}

#[cfg(test)]
mod tests;
