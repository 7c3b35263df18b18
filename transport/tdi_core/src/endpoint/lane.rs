//! Received bytes of one kind that no receive has taken yet.

use alloc::vec::Vec;
use core::ops::Range;

/// The first read ahead asks for this much at most; a connection that fills it gets twice as much the
/// next time, up to `Config::lookahead`. So thousands of quiet connections stay small.
const FIRST_SPACE: usize = 2048;

/// Bytes held back for a client, and whether it has said that it does not want them now.
///
/// The memory is kept from one connection of the endpoint to the next: a connection with receive
/// handlers then costs no allocation.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Bytes `start..end` of it are held.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// What the next read ahead makes room for; 0 before the first.
    size: usize,
    /// The bytes are out at a receive handler.
    is_lent: bool,
    /// The handler did not want them; it is not asked again until a receive takes some (C-485).
    pub(super) is_rejected: bool,
}

impl Lane {
    /// Nothing is held and nothing is out at a handler.
    pub(super) fn is_drained(&self) -> bool {
        self.held() == 0 && !self.is_lent
    }

    /// Are there bytes that can be handed out now?
    pub(super) fn is_ready(&self) -> bool {
        self.held() != 0 && !self.is_lent
    }

    pub(super) fn is_lent(&self) -> bool {
        self.is_lent
    }

    /// Bytes held, those out at a handler included.
    pub(super) fn held(&self) -> usize {
        self.end - self.start
    }

    /// Bytes held, those that were pushed while others are out included.
    pub(super) fn total(&self) -> usize {
        self.held() + if self.is_lent { self.bytes.len() } else { 0 }
    }

    /// The first `room` bytes held, or as many as there are.
    pub(super) fn first(&self, room: u32) -> Range<usize> {
        let count = self.held().min(usize::try_from(room).unwrap_or(usize::MAX));
        self.start..self.start + count
    }

    pub(super) fn get(&self, range: Range<usize>) -> &[u8] {
        self.bytes.get(range).unwrap_or_default()
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.start = self.end.min(self.start.saturating_add(count));
    }

    /// Forgets what is held. What is out at a handler is forgotten too, and comes back as spare memory.
    pub(super) fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
        self.is_lent = false;
        self.is_rejected = false;
    }

    /// Gives the memory back.
    pub(super) fn free(&mut self) {
        *self = Self::default();
    }

    /// Bytes that a read ahead may bring now.
    pub(super) fn room(&self, limit: usize) -> usize {
        if self.is_lent { 0 } else { self.next_size(limit) - self.held() }
    }

    /// The space for a read ahead, as long as [`Lane::room`].
    pub(super) fn space(&mut self, limit: usize) -> &mut [u8] {
        let size = self.next_size(limit);
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        self.size = size;
        if self.bytes.len() < size {
            self.bytes.resize(size, 0);
        }
        self.bytes.get_mut(self.end..size).unwrap_or_default()
    }

    /// `count` bytes were read into [`Lane::space`].
    pub(super) fn fill(&mut self, count: usize, limit: usize) {
        self.end = self.size.min(self.end.saturating_add(count));
        if self.end == self.size {
            self.size = self.size.saturating_mul(2).min(limit.max(1));
        }
    }

    /// Adds bytes that the network pushed.
    pub(super) fn push(&mut self, data: &[u8]) {
        if self.is_lent {
            // They join the others in `take_back`.
            self.bytes.extend_from_slice(data);
            return;
        }
        self.bytes.truncate(self.end);
        self.bytes.extend_from_slice(data);
        self.end = self.bytes.len();
    }

    /// The bytes for a handler, from the returned index on to the end.
    pub(super) fn lend(&mut self) -> (Vec<u8>, usize) {
        self.is_lent = true;
        let mut bytes = core::mem::take(&mut self.bytes);
        bytes.truncate(self.end);
        (bytes, self.start)
    }

    /// The handler has returned, on the same connection, and has taken `taken` of them.
    pub(super) fn take_back(&mut self, bytes: Vec<u8>, taken: usize) {
        // What was pushed meanwhile stands in the lane's own memory and comes after what was lent.
        let pushed = core::mem::replace(&mut self.bytes, bytes);
        let lent = self.bytes.len().min(self.end);
        self.bytes.extend_from_slice(&pushed);
        self.start = self.start.min(lent);
        self.end = lent + pushed.len();
        self.is_lent = false;
        self.consume(taken);
    }

    /// The handler has returned, on the same connection, and keeps what it was lent.
    pub(super) fn give_away(&mut self) {
        self.start = 0;
        // What was pushed meanwhile.
        self.end = self.bytes.len();
        self.is_lent = false;
    }

    /// Memory of a handler whose connection has ended meanwhile.
    pub(super) fn recycle(&mut self, bytes: Vec<u8>) {
        if self.bytes.is_empty() && self.held() == 0 && !self.is_lent {
            self.bytes = bytes;
        }
    }

    fn next_size(&self, limit: usize) -> usize {
        let first = FIRST_SPACE.min(limit.max(1));
        self.size.max(first).max(self.held())
    }
}

#[cfg(test)]
mod tests;
