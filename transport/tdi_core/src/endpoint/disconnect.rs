//! TDI_DISCONNECT, and the ends that the network brings.

use nt_abi::NtStatus;
use nt_abi::tdi::disconnect_flags;

use super::Endpoint;
use super::output::{End, Waiting};
use super::receive::Receive;
use super::state::{Connected, Release, Remote, State};
use crate::ids::RequestId;
use crate::network::{DataKind, NetworkError};
use crate::request::Outcome;
use crate::status::{Cause, During, fate};
use crate::table::RequestKind;
use crate::time::Instant;

/// A TDI_DISCONNECT with WAIT that waits for the remote node (C-335).
#[derive(Debug)]
pub(super) struct Wait {
    pub(super) id: RequestId,
    pub(super) deadline: Option<Instant>,
}

impl Endpoint {
    /// ABORT or 0 in any active state; RELEASE before there is a connection.
    pub(super) fn on_abort(&mut self, id: RequestId) -> Outcome {
        self.outputs.forget_disconnects();
        if self.connected().is_some() {
            self.end_connection(Cause::LocalAbort);
        } else {
            self.end_setup(Cause::LocalAbort);
        }
        // Behind those of the requests it has ended (C-326).
        self.complete(id, NtStatus::SUCCESS);
        Outcome::Taken
    }

    pub(super) fn on_release(&mut self, id: RequestId, timeout: Option<u64>) -> Outcome {
        if self.connected().is_none() {
            return self.on_abort(id);
        }
        let deadline = timeout.map(|ticks| self.now.after(ticks));
        self.release(Release::new(Some(id), deadline, false));
        Outcome::Taken
    }

    /// Never ends anything (C-336).
    pub(super) fn on_wait(&mut self, id: RequestId, timeout: Option<u64>) -> Outcome {
        if self.connected().is_some_and(|connected| connected.remote == Remote::Reported) {
            return Outcome::Done(NtStatus::SUCCESS);
        }
        self.waits.push_back(Wait { id, deadline: timeout.map(|ticks| self.now.after(ticks)) });
        Outcome::Taken
    }

    pub(super) fn release(&mut self, release: Release) {
        let from = self.state();
        if let Some(connected) = self.connected_mut() {
            connected.release = Some(release);
        }
        self.check_step(from);
    }

    /// Returns whether the core had this DISCONNECT. A RELEASE that has begun goes on without its
    /// request, but also without its time limit (C-230).
    pub(super) fn cancel_disconnect(&mut self, id: RequestId) -> bool {
        let release = self.connected_mut().and_then(|connected| connected.release.as_mut());
        let is_release = match release.filter(|release| release.request == Some(id)) {
            Some(release) => {
                release.request = None;
                release.limit = Instant::NEVER;
                true
            }
            None => self.waits.remove(|wait| wait.id == id).is_some(),
        };
        if is_release {
            self.complete(id, fate(Cause::Cancelled, During::Releasing));
        }
        is_release
    }

    /// Carries on whatever the last input has made possible.
    pub(super) fn settle(&mut self) {
        self.end_early();
        self.report_end();
        self.advance_release();
        self.watch_patience();
    }

    /// Once all data is delivered: the remote node has released (C-397, C-450).
    fn report_end(&mut self) {
        let Some(connected) = self.connected() else { return };
        if connected.remote == Remote::Open || !self.normal.is_drained() {
            // Receives for expedited data alone do not wait for the client to take what a release has left.
            if self.has_leftovers() {
                self.finish_receives();
            }
            return;
        }
        // After a RELEASE has completed nobody is told any more (C-348).
        let is_silent = connected.release.as_ref().is_some_and(|release| release.is_silent || release.is_told);
        let is_first = connected.remote == Remote::Ended && !self.owes_expedited();
        self.finish_receives();
        if !is_first {
            return;
        }
        self.end_waits();
        if let Some(connected) = self.connected_mut() {
            connected.remote = Remote::Reported;
        }
        if !is_silent {
            self.outputs.push(Waiting::Disconnected { flags: disconnect_flags::RELEASE });
        }
    }

    fn end_waits(&mut self) {
        while let Some(wait) = self.waits.pop_front() {
            self.complete(wait.id, NtStatus::SUCCESS);
        }
    }

    /// Is expedited data on its way to somebody?
    fn owes_expedited(&self) -> bool {
        let is_awaited = || self.receives.iter().any(|receive| receive.takes(DataKind::Expedited));
        !self.expedited.is_drained()
            && (self.expedited.is_lent() || is_awaited() || self.has_taker(DataKind::Expedited))
    }

    /// FIN goes out behind the last send (C-329). The connection is over when both sides have
    /// released and all data is delivered.
    fn advance_release(&mut self) {
        if !self.sends.is_empty() {
            return;
        }
        let (is_awaited, is_drained) = (!self.receives.is_empty(), self.expedited.is_drained());
        let Some(Connected { release: Some(release), remote }) = self.connected_mut() else { return };
        let is_over = *remote == Remote::Reported && !is_awaited;
        if is_over && is_drained {
            return self.finish_release();
        }
        let is_done = release.is_done;
        if !release.is_shut {
            release.is_shut = true;
            if let Some(connection) = self.connection() {
                self.outputs.push(Waiting::ShutdownSend(connection));
            }
        }
        if is_over && !is_done {
            self.keep_leftovers();
        }
    }

    /// Both sides have released, and the client has taken all: back to A.
    fn finish_release(&mut self) {
        let left = self.enter(State::Idle);
        self.outputs.unlearnt = Some(End::InOrder);
        if let Some(link) = self.link.take() {
            self.outputs.push(Waiting::Close(link.number));
        }
        self.normal.clear();
        self.expedited.clear();
        self.finish_receives();
        self.end_waits();
        if let State::Connected(Connected { release: Some(Release { request: Some(id), .. }), .. }) = left {
            self.complete(id, NtStatus::SUCCESS);
        }
    }

    /// Both sides have released, but nobody has taken all that came. The client is in A, and may be one that reads
    /// slowly: receives find the rest of the stream, and then its end, as long as it begins nothing else.
    pub(super) fn keep_leftovers(&mut self) {
        let from = self.state();
        let Some(Connected { release: Some(release), .. }) = self.connected_mut() else { return };
        release.is_done = true;
        release.limit = Instant::NEVER;
        release.patience = Instant::NEVER;
        let request = release.request.take();
        release.is_told = request.is_some();
        self.check_step(from);
        self.finish_receives();
        self.end_waits();
        if let Some(id) = request {
            self.complete(id, NtStatus::SUCCESS);
        }
    }

    /// Is the release over for the client, with data left that receives can still take?
    pub(super) fn has_leftovers(&self) -> bool {
        self.connected().is_some_and(|connected| connected.release.as_ref().is_some_and(|release| release.is_done))
    }

    /// The client begins something else: what it has not taken it does not want.
    pub(super) fn drop_leftovers(&mut self) {
        self.drop_leftovers_for(Cause::LocalAbort);
    }

    pub(super) fn drop_leftovers_for(&mut self, cause: Cause) {
        if !self.has_leftovers() {
            return;
        }
        self.enter(State::Idle);
        if let Some(link) = self.link.take() {
            self.outputs.push(Waiting::Close(link.number));
        }
        self.fail_requests(cause);
    }

    /// Data that nobody takes must not keep a RELEASE waiting for ever, nor until its limit, when the remote node has released.
    fn watch_patience(&mut self) {
        let until = self.now.after(self.config.unread_patience);
        let is_awaited = self.receives.iter().any(|receive| receive.takes(DataKind::Normal));
        let is_stuck = self.normal.is_ready() && !is_awaited && !self.has_taker(DataKind::Normal);
        let has_peer_released = self.link.as_ref().is_some_and(|link| link.has_peer_released);
        let is_sending = !self.sends.is_empty();
        let Some(Connected { release: Some(release), remote }) = self.connected_mut() else { return };
        let is_over = !release.is_done && (has_peer_released || *remote != Remote::Open);
        if !(is_stuck && is_over && !is_sending) {
            release.patience = Instant::NEVER;
        } else if release.patience == Instant::NEVER {
            release.patience = until;
        }
    }

    /// The network has lost the connection, or could not make it.
    pub(super) fn on_broken(&mut self, error: NetworkError) {
        match &self.state {
            State::Connected(_) => self.end_connection(Cause::Broken(error)),
            State::Connecting { .. } | State::Offered { .. } | State::Accepting { .. } => {
                self.end_setup(Cause::Broken(error));
            }
            State::Idle | State::Listening { .. } | State::CleanedUp => {}
        }
    }

    /// Ends E, R or W at once: every pending request of the connection ends (C-526), the client is told
    /// if it was not its own doing, a RELEASE comes last (C-348).
    pub(super) fn end_connection(&mut self, cause: Cause) {
        let State::Connected(connected) = self.enter(State::Idle) else { return };
        self.drop_link();
        let is_told = self.is_waiting() || connected.release.as_ref().is_some_and(|release| release.request.is_some());
        self.fail_requests(cause);
        let is_silent = connected.release.as_ref().is_some_and(|release| release.is_silent);
        if let Cause::Broken(error) = cause
            && !is_silent
        {
            self.outputs.unlearnt = (!is_told).then_some(End::Lost(error));
            // Nobody is told after a RELEASE has completed (C-348); a receive finds it out.
            if !connected.release.as_ref().is_some_and(|release| release.is_told) {
                self.outputs.push(Waiting::Disconnected { flags: disconnect_flags::ABORT });
            }
        }
        if let Some(id) = connected.release.and_then(|release| release.request) {
            self.complete(id, fate(cause, During::Releasing));
        }
    }

    /// Is there a request that would fail with the connection?
    fn is_waiting(&self) -> bool {
        !self.sends.is_empty() || !self.waits.is_empty() || self.receives.iter().any(Receive::is_empty)
    }

    /// The status of a request that comes after the end of a connection and still has to do with it.
    ///
    /// The first one after the connection was lost under no request and no handler learns why, once (C-457). An ABORT only
    /// confirms what has happened. After an end in order receives find the end of the stream, here as in W and as long as
    /// the client begins nothing else: one that reads until there is nothing more, and has released meanwhile, takes any
    /// failure for an end that was not orderly (C-555), and could not know that both sides were quicker than its receive.
    pub(super) fn learn(&mut self, kind: RequestKind) -> Option<NtStatus> {
        let error = match self.outputs.unlearnt? {
            End::InOrder => return (kind == RequestKind::Receive).then_some(NtStatus::SUCCESS),
            End::Lost(error) => error,
        };
        let during = match kind {
            RequestKind::Send | RequestKind::SendAndDisconnect => During::Sending,
            RequestKind::Receive => During::Receiving,
            RequestKind::DisconnectRelease | RequestKind::DisconnectWait => During::Releasing,
            RequestKind::DisconnectAbort => {
                self.outputs.unlearnt = None;
                return None;
            }
            _ => return None,
        };
        self.outputs.unlearnt = None;
        Some(fate(Cause::Broken(error), during))
    }

    /// Ends sends, receives and waits, and forgets received data.
    pub(super) fn fail_requests(&mut self, cause: Cause) {
        self.fail_sends(cause);
        self.fail_receives(cause);
        self.fail_waits(cause);
        self.normal.clear();
        self.expedited.clear();
    }

    pub(super) fn fail_waits(&mut self, cause: Cause) {
        while let Some(wait) = self.waits.pop_front() {
            self.complete(wait.id, fate(cause, During::Releasing));
        }
    }
}
