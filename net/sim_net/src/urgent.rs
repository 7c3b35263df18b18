//! Urgent data, of which smoltcp knows nothing: each end of a connection keeps the numbers of urgent bytes beside its
//! socket.
//!
//! A packet has room for one of them, in its urgent pointer. The sender's packets are therefore cut behind each urgent
//! byte, whenever they are sent; each tells of the next one that is in it or comes after it. So none is lost that
//! arrives, in whatever order.

use std::collections::VecDeque;

use smoltcp::wire::TcpSeqNumber;

use crate::packet;

/// What one end of a connection knows of urgent bytes, both ways.
#[derive(Debug, Default)]
pub(crate) struct Urgent {
    sending: Marks,
    receiving: Marks,
}

/// The urgent bytes of one direction, as one of its ends sees them.
#[derive(Debug, Default)]
struct Marks {
    /// The number of the byte that this end hands over next: for sending, or to its user. None is known before the handshake.
    next: Option<TcpSeqNumber>,
    /// The numbers of urgent bytes that are not acknowledged, or not received by the user; in order.
    numbers: VecDeque<TcpSeqNumber>,
}

impl Marks {
    fn begin(&mut self, next: TcpSeqNumber) {
        self.next.get_or_insert(next);
    }

    /// So many bytes were handed over.
    fn advance(&mut self, count: usize) {
        if let Some(next) = &mut self.next {
            *next += count;
        }
    }

    /// Forgets what is before `number`.
    fn forget_before(&mut self, number: TcpSeqNumber) {
        while self.numbers.front().is_some_and(|first| *first < number) {
            self.numbers.pop_front();
        }
    }

    /// The first one that is not before `number`.
    fn first_from(&self, number: TcpSeqNumber) -> Option<TcpSeqNumber> {
        self.numbers.get(self.numbers.partition_point(|one| *one < number)).copied()
    }
}

impl Urgent {
    /// The remote side's first byte will have this number.
    pub(crate) fn begin_to_receive(&mut self, first: TcpSeqNumber) {
        self.receiving.begin(first);
    }

    /// The socket has taken so many bytes to be sent.
    pub(crate) fn taken(&mut self, count: usize) {
        self.sending.advance(count);
    }

    /// The last byte that the socket has taken is urgent.
    pub(crate) fn last_is_urgent(&mut self) {
        if let Some(next) = self.sending.next {
            self.sending.numbers.push_back(next - 1);
        }
    }

    /// All bytes up to before `number` have arrived.
    pub(crate) fn acknowledge(&mut self, number: TcpSeqNumber) {
        self.sending.forget_before(number);
    }

    /// Cuts and marks the packets that a socket has just made.
    pub(crate) fn mark(&mut self, frames: &mut Vec<Vec<u8>>) {
        if self.sending.next.is_none()
            && let Some(first) = frames.iter().find_map(|frame| packet::first_of_stream(frame))
        {
            self.sending.begin(first);
        }
        if self.sending.numbers.is_empty() {
            return;
        }
        for frame in std::mem::take(frames) {
            let mut rest = Some(frame);
            while let Some(mut frame) = rest.take() {
                let number = packet::sequence(&frame).and_then(|from| self.sending.first_from(from));
                rest = number.and_then(|number| packet::mark_urgent(&mut frame, number));
                frames.push(frame);
            }
        }
    }

    /// Notes what a packet of the remote side tells, which has been granted room for so many bytes at most. Whether it is new.
    pub(crate) fn note(&mut self, frame: &[u8], room: usize) -> bool {
        let (Some(next), Some(number)) = (self.receiving.next, packet::urgent_byte(frame)) else { return false };
        let numbers = &mut self.receiving.numbers;
        let at = numbers.partition_point(|one| *one < number);
        // A packet of an earlier connection of the same ends tells nothing.
        if number < next || number - next > room + usize::from(u16::MAX) || numbers.get(at) == Some(&number) {
            return false;
        }
        numbers.insert(at, number);
        true
    }

    /// How many bytes can be received before an urgent one that is not the first of them.
    pub(crate) fn bytes_before_mark(&self) -> usize {
        let Some(next) = self.receiving.next else { return usize::MAX };
        self.receiving.first_from(next + 1).map_or(usize::MAX, |mark| mark - next)
    }

    /// Whether the byte that is received next is urgent.
    pub(crate) fn is_at_mark(&self) -> bool {
        self.receiving.next.is_some() && self.receiving.numbers.front().copied() == self.receiving.next
    }

    /// The user has received so many bytes.
    pub(crate) fn received(&mut self, count: usize) {
        self.receiving.advance(count);
        if let Some(next) = self.receiving.next {
            self.receiving.forget_before(next);
        }
    }
}
