//! TDI_SEND: two queues, the expedited one first.

use nt_abi::NtStatus;
use nt_abi::tdi::send_flags;

use super::Endpoint;
use super::state::Release;
use crate::ids::RequestId;
use crate::network::{NetworkCommand, Progress};
use crate::queue::{Queue, RareQueue};
use crate::request::Outcome;
use crate::status::{Cause, During, fate};
use crate::time::Instant;

/// A TDI_SEND that the network has not taken whole.
#[derive(Debug)]
pub(super) struct Send {
    id: RequestId,
    length: u32,
    /// Bytes the network has taken.
    sent: u32,
}

/// Invariant, between two inputs: the first send of each queue has bytes left.
#[derive(Debug, Default)]
pub(super) struct Sends {
    expedited: RareQueue<Send>,
    normal: Queue<Send>,
}

impl Sends {
    pub(super) fn is_empty(&self) -> bool {
        self.expedited.is_empty() && self.normal.is_empty()
    }

    /// What to transmit next (C-364, C-365).
    fn next(&self) -> Option<(&Send, bool)> {
        let expedited = self.expedited.front().map(|send| (send, true));
        expedited.or_else(|| self.normal.front().map(|send| (send, false)))
    }

    fn pop(&mut self) -> Option<Send> {
        self.expedited.pop_front().or_else(|| self.normal.pop_front())
    }

    fn find_mut(&mut self, id: RequestId) -> Option<&mut Send> {
        let expedited = self.expedited.find_mut(|send| send.id == id);
        expedited.or_else(|| self.normal.find_mut(|send| send.id == id))
    }

    fn remove(&mut self, id: RequestId) -> Option<Send> {
        self.expedited.remove_only(|send| send.id == id).or_else(|| self.normal.remove_only(|send| send.id == id))
    }

    /// Takes out a send at a front of which nothing is left to transmit. An empty one ends only when its
    /// turn comes, so that completions keep their order.
    fn pop_done(&mut self) -> Option<Send> {
        let is_done = |send: &Send| send.sent == send.length;
        if self.expedited.front().is_some_and(is_done) {
            return self.expedited.pop_front();
        }
        if self.normal.front().is_some_and(is_done) { self.normal.pop_front() } else { None }
    }
}

impl Endpoint {
    /// PARTIAL, NO_RESPONSE_EXPECTED and NON_BLOCKING mean nothing on a stream without internal
    /// buffering (C-368, C-369, C-372), and unknown bits nothing at all (C-380).
    pub(super) fn on_send(&mut self, id: RequestId, length: u32, flags: u32) -> Outcome {
        let send = Send { id, length, sent: 0 };
        if flags & send_flags::EXPEDITED != 0 {
            self.sends.expedited.push_back(send);
        } else {
            self.sends.normal.push_back(send);
        }
        if flags & send_flags::AND_DISCONNECT != 0 {
            self.release(Release::new(None, None, true));
        }
        self.complete_sends();
        Outcome::Taken
    }

    /// Answer to [`NetworkCommand::Transmit`].
    pub fn handle_sent(&mut self, now: Instant, id: RequestId, progress: Progress) {
        self.now = now;
        let Some(link) = &mut self.link else { return };
        match progress {
            Progress::Moved { count, exhausted } => {
                link.is_writable = !exhausted;
                if let Some(send) = self.sends.find_mut(id) {
                    send.sent += count.min(send.length - send.sent);
                }
                self.complete_sends();
            }
            // A sender is not told of an end; if it is, the network takes no more for now.
            Progress::WouldBlock | Progress::Ended => link.is_writable = false,
            Progress::Broken(error) => self.on_broken(error),
        }
        self.settle();
    }

    pub(super) fn next_transmit(&self) -> Option<NetworkCommand> {
        if !self.link.as_ref()?.is_writable {
            return None;
        }
        let (send, expedited) = self.sends.next()?;
        let length = send.length - send.sent;
        Some(NetworkCommand::Transmit { id: send.id, offset: send.sent, length, expedited })
    }

    /// Returns whether the core had this send. One that was partly transmitted leaves a gap in the
    /// stream that nothing may close: it takes the connection along (C-579).
    pub(super) fn cancel_send(&mut self, id: RequestId) -> bool {
        let Some(send) = self.sends.remove(id) else { return false };
        self.complete(id, fate(Cause::Cancelled, During::Sending));
        if send.sent > 0 {
            self.end_connection(Cause::LocalAbort);
        }
        self.complete_sends();
        true
    }

    pub(super) fn fail_sends(&mut self, cause: Cause) {
        while let Some(send) = self.sends.pop() {
            self.complete(send.id, fate(cause, During::Sending));
        }
    }

    fn complete_sends(&mut self) {
        while let Some(send) = self.sends.pop_done() {
            self.complete_transfer(send.id, NtStatus::SUCCESS, send.sent);
        }
    }
}
