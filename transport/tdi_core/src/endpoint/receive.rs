//! TDI_RECEIVE, and what is read from the network for whom.
//!
//! A waiting receive is filled by the network directly. Bytes are read ahead into the lane only for
//! a handler, for a peek, and to find the end of the stream when nobody wants data; a receive takes
//! what is in the lane first. While bytes are out at a handler, nothing is read: they may come back.

use core::ops::Range;

use nt_abi::NtStatus;
use nt_abi::tdi::receive_flags;

use super::Endpoint;
use super::state::Remote;
use crate::ids::{ConnectionNumber, RequestId};
use crate::network::{DataKind, NetworkCommand, NetworkError, Progress};
use crate::queue::Queue;
use crate::request::Outcome;
use crate::status::{self, Cause, During, fate};
use crate::time::Instant;

/// A TDI_RECEIVE that is not full enough yet.
#[derive(Debug)]
pub(super) struct Receive {
    pub(super) id: RequestId,
    length: u32,
    filled: u32,
    takes_normal: bool,
    takes_expedited: bool,
    /// Leaves what it shows (C-390).
    is_peek: bool,
    /// Waits until it is full (C-389).
    is_no_push: bool,
}

impl Receive {
    /// PARTIAL and everything unknown are ignored (C-395).
    pub(super) fn new(id: RequestId, length: u32, flags: u32) -> Self {
        let kinds = flags & (receive_flags::NORMAL | receive_flags::EXPEDITED);
        Self {
            id,
            length,
            filled: 0,
            takes_normal: kinds != receive_flags::EXPEDITED,
            takes_expedited: kinds != receive_flags::NORMAL,
            is_peek: flags & receive_flags::PEEK != 0,
            is_no_push: flags & receive_flags::NO_PUSH != 0,
        }
    }

    /// One that a handler returned takes what the handler was shown, whatever its flags say (C-479).
    pub(super) fn taking_also(mut self, kind: DataKind) -> Self {
        match kind {
            DataKind::Normal => self.takes_normal = true,
            DataKind::Expedited => self.takes_expedited = true,
        }
        self
    }

    pub(super) fn takes(&self, kind: DataKind) -> bool {
        match kind {
            DataKind::Normal => self.takes_normal,
            DataKind::Expedited => self.takes_expedited,
        }
    }

    /// Does it make room for further bytes of that kind (C-485, C-487)?
    pub(super) fn consumes(&self, kind: DataKind) -> bool {
        self.takes(kind) && !self.is_peek
    }

    /// Does it hold no byte yet?
    pub(super) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    fn room(&self) -> u32 {
        self.length - self.filled
    }
}

pub(super) type Receives = Queue<Receive>;

impl Endpoint {
    pub(super) fn on_receive(&mut self, id: RequestId, length: u32, flags: u32) -> Outcome {
        if length == 0 {
            return Outcome::Done(status::EMPTY_RECEIVE);
        }
        let receive = Receive::new(id, length, flags);
        // FORCE_INDICATION asks for what was rejected, of whatever kind (C-394).
        let is_forced = flags & receive_flags::FORCE_INDICATION != 0;
        for kind in [DataKind::Normal, DataKind::Expedited] {
            if is_forced || receive.consumes(kind) {
                self.lane_mut(kind).set_rejected(false);
            }
        }
        self.receives.push_back(receive);
        Outcome::Taken
    }

    /// The next transfer that can make progress, if any.
    pub(super) fn next_transfer(&self) -> Option<NetworkCommand> {
        self.connected()?;
        self.next_transmit().or_else(|| self.next_expedited_copy()).or_else(|| self.next_read())
    }

    fn next_expedited_copy(&self) -> Option<NetworkCommand> {
        if !self.expedited.is_ready() {
            return None;
        }
        let receive = self.receives.iter().find(|receive| receive.takes_expedited && receive.filled == 0)?;
        Some(self.copy(receive, DataKind::Expedited))
    }

    fn next_read(&self) -> Option<NetworkCommand> {
        let link = self.link.as_ref()?;
        let can_read = link.is_readable && self.connected()?.remote == Remote::Open && !self.normal.is_lent();
        let Some(receive) = self.receives.iter().find(|receive| receive.takes_normal) else {
            return (can_read && self.wants_read_ahead()).then(|| self.read_ahead());
        };
        if self.normal.is_ready() {
            return Some(self.copy(receive, DataKind::Normal));
        }
        if !can_read {
            return None;
        }
        if receive.is_peek {
            return Some(self.read_ahead());
        }
        Some(NetworkCommand::Fill { id: receive.id, offset: receive.filled, length: receive.room() })
    }

    /// With no receive waiting: is there a handler to be shown something, or an end to be found? Not
    /// while a client call is due, which may bring a receive that the network can fill directly.
    fn wants_read_ahead(&self) -> bool {
        if self.outputs.busy.is_some() || self.outputs.owes_call() {
            return false;
        }
        let for_handler =
            self.handlers().normal().is_registered() && !self.normal.is_rejected() && self.normal.held() == 0;
        let for_end = self.link.as_ref().is_some_and(|link| link.has_peer_released);
        for_handler || (for_end && self.normal.room(self.config.lookahead) > 0)
    }

    fn read_ahead(&self) -> NetworkCommand {
        NetworkCommand::ReadAhead { length: self.normal.room(self.config.lookahead) }
    }

    fn copy(&self, receive: &Receive, source: DataKind) -> NetworkCommand {
        let range = self.lane(source).first(receive.room());
        NetworkCommand::CopyBuffered { id: receive.id, offset: receive.filled, source, range }
    }

    /// Answer to [`NetworkCommand::Fill`].
    pub fn handle_filled(&mut self, now: Instant, id: RequestId, progress: Progress) {
        self.now = now;
        if let Progress::Moved { count, .. } = progress {
            self.add(id, DataKind::Normal, count);
        }
        self.on_read(progress);
        self.settle();
    }

    /// Where [`NetworkCommand::ReadAhead`] reads to.
    pub fn read_ahead_space(&mut self) -> &mut [u8] {
        self.normal.space(self.config.lookahead)
    }

    /// Answer to [`NetworkCommand::ReadAhead`].
    pub fn handle_read_ahead(&mut self, now: Instant, progress: Progress) {
        self.now = now;
        if let Progress::Moved { count, .. } = progress {
            self.normal.fill(usize::try_from(count).unwrap_or(usize::MAX), self.config.lookahead);
        }
        self.on_read(progress);
        self.settle();
    }

    /// The bytes that [`NetworkCommand::CopyBuffered`] copies.
    pub fn buffered(&self, source: DataKind, range: Range<usize>) -> &[u8] {
        self.lane(source).get(range)
    }

    /// Answer to [`NetworkCommand::CopyBuffered`].
    pub fn handle_copied(&mut self, now: Instant, id: RequestId) {
        self.now = now;
        let Some(copying) = self.outputs.copying.take() else { return };
        if !self.receives.iter().any(|receive| receive.id == id && receive.is_peek) {
            self.lane_mut(copying.source).consume(usize::try_from(copying.count).unwrap_or(usize::MAX));
        }
        self.add(id, copying.source, copying.count);
        self.settle();
    }

    /// Urgent data arrived. Ignored unless `connection` is the current one.
    ///
    /// At most [`Endpoint::expedited_room`] bytes may be handed in: a network that brings more has to
    /// hold it back. More than that ends the connection, so that memory stays bounded and nothing is
    /// lost in silence.
    pub fn handle_expedited(&mut self, now: Instant, connection: ConnectionNumber, data: &[u8]) {
        self.now = now;
        if self.connection() != Some(connection) || self.connected().is_none() {
            return;
        }
        if data.len() > self.expedited_room() {
            self.on_broken(NetworkError::NoResources);
        } else {
            self.expedited.push(data);
        }
        self.settle();
    }

    /// Has a handler refused data, so that none is indicated until the client posts a receive (C-485)?
    pub fn has_refused(&self) -> bool {
        self.normal.is_rejected()
    }

    /// Bytes of urgent data that can be handed in now.
    pub fn expedited_room(&self) -> usize {
        self.config.lookahead.saturating_sub(self.expedited.total())
    }

    /// Takes out a receive. Bytes it holds are the client's: then it has succeeded (C-527, C-578).
    pub(super) fn cancel_receive(&mut self, id: RequestId) -> bool {
        let Some(receive) = self.receives.remove_only(|receive| receive.id == id) else { return false };
        self.end_receive(&receive, Cause::Cancelled);
        true
    }

    pub(super) fn fail_receives(&mut self, cause: Cause) {
        while let Some(receive) = self.receives.pop_front() {
            self.end_receive(&receive, cause);
        }
    }

    fn end_receive(&mut self, receive: &Receive, cause: Cause) {
        let status = if receive.filled > 0 { NtStatus::SUCCESS } else { fate(cause, During::Receiving) };
        self.complete_transfer(receive.id, status, receive.filled);
    }

    /// Ends the receives that nothing more can come for, the remote node having released (C-396, C-397).
    pub(super) fn finish_receives(&mut self) {
        let is_open = self.connected().is_some_and(|connected| connected.remote == Remote::Open);
        let (has_normal, has_expedited) = (is_open || !self.normal.is_drained(), !self.expedited.is_drained());
        let is_awaiting =
            |receive: &Receive| has_normal && receive.takes_normal || has_expedited && receive.takes_expedited;
        while let Some(receive) = self.receives.remove(|receive| !is_awaiting(receive)) {
            self.complete_transfer(receive.id, NtStatus::SUCCESS, receive.filled);
        }
    }

    /// Expedited data ends the wait of a receive that holds normal data already (C-391).
    pub(super) fn end_early(&mut self) {
        if self.expedited.is_ready() {
            self.end_partial();
        }
    }

    /// Completes the receives that hold bytes but wait for more.
    pub(super) fn end_partial(&mut self) {
        while let Some(receive) = self.receives.remove(|receive| receive.filled > 0) {
            self.complete_transfer(receive.id, NtStatus::SUCCESS, receive.filled);
        }
    }

    /// A receive has got bytes: it completes with them unless it wants to be full (C-387, C-389). One
    /// that took expedited data does not go on with normal data.
    fn add(&mut self, id: RequestId, kind: DataKind, count: u32) {
        let Some(receive) = self.receives.find_mut(|receive| receive.id == id) else { return };
        receive.filled += count.min(receive.room());
        let filled = receive.filled;
        if receive.room() == 0 || !receive.is_no_push || receive.is_peek || kind == DataKind::Expedited {
            self.receives.remove(|receive| receive.id == id);
            self.complete_transfer(id, NtStatus::SUCCESS, filled);
        }
    }

    fn on_read(&mut self, progress: Progress) {
        match progress {
            Progress::Moved { exhausted, .. } => self.set_readable(!exhausted),
            Progress::WouldBlock => self.set_readable(false),
            Progress::Ended => {
                let from = self.state();
                if let Some(connected) = self.connected_mut().filter(|connected| connected.remote == Remote::Open) {
                    connected.remote = Remote::Ended;
                }
                self.check_step(from);
            }
            Progress::Broken(error) => self.on_broken(error),
        }
    }

    fn set_readable(&mut self, is_readable: bool) {
        if let Some(link) = &mut self.link {
            link.is_readable = is_readable;
        }
    }
}
