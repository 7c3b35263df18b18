//! Receive handlers: when one is called, and what its answer means.

use nt_abi::NtStatus;
use nt_abi::tdi::receive_flags;

use super::lane::Lane;
use super::output::Busy;
use super::receive::Receive;
use super::state::State;
use super::{Endpoint, Output};
use crate::ids::ConnectionNumber;
use crate::indication::{ClientFault, ConnectionHandlers, Handler, Indication, IndicationResult, ReturnedReceive};
use crate::network::DataKind;
use crate::status::{self, Cause, During, fate};
use crate::time::Instant;

impl ConnectionHandlers {
    /// Who is shown expedited data (C-491).
    pub(super) fn expedited(&self) -> Handler {
        if self.receive_expedited.is_registered() { self.receive_expedited } else { self.receive }
    }

    /// Who is shown normal data: the chained handler if there is one, since its client is ready for chains and gets
    /// its bytes without a copy (C-503, C-504).
    pub fn normal(&self) -> Handler {
        if self.chained_receive.is_registered() { self.chained_receive } else { self.receive }
    }

    pub(super) fn of(&self, kind: DataKind) -> Handler {
        match kind {
            DataKind::Normal => self.normal(),
            DataKind::Expedited => self.expedited(),
        }
    }
}

/// What a receive handler answered.
struct Answer {
    status: NtStatus,
    taken: u32,
    receive: Option<ReturnedReceive>,
    data: alloc::vec::Vec<u8>,
}

impl Endpoint {
    pub(super) fn lane(&self, kind: DataKind) -> &Lane {
        match kind {
            DataKind::Normal => &self.normal,
            DataKind::Expedited => &self.expedited,
        }
    }

    pub(super) fn lane_mut(&mut self, kind: DataKind) -> &mut Lane {
        match kind {
            DataKind::Normal => &mut self.normal,
            DataKind::Expedited => &mut self.expedited,
        }
    }

    /// Is a receive handler to be called now (C-392, C-465)? Expedited data first (C-492).
    pub(super) fn next_indication(&self) -> Option<DataKind> {
        self.connected()?;
        [DataKind::Expedited, DataKind::Normal]
            .into_iter()
            .find(|&kind| self.lane(kind).is_ready() && self.has_taker(kind))
    }

    /// Is there a handler that would be shown data of this kind, now or when its turn comes?
    pub(super) fn has_taker(&self, kind: DataKind) -> bool {
        let release = self.connected().and_then(|connected| connected.release.as_ref());
        self.handlers().of(kind).is_registered()
            // Nothing is indicated on a connection after its RELEASE has completed (C-348).
            && !release.is_some_and(|release| release.is_told)
            && !self.lane(kind).is_rejected()
            && !self.receives.iter().any(|receive| receive.takes(kind))
    }

    pub(super) fn indicate(&mut self, kind: DataKind) -> Option<Output> {
        let connection = self.connection()?;
        let handlers = self.handlers();
        let handler = handlers.of(kind);
        let is_chained = kind == DataKind::Normal && handlers.chained_receive.is_registered();
        let (data, start) = self.lane_mut(kind).lend();
        let flags = match kind {
            DataKind::Normal => receive_flags::NORMAL,
            DataKind::Expedited => receive_flags::EXPEDITED,
        };
        // A lane holds at most `Config::lookahead` bytes.
        let shown = u32::try_from(data.len() - start).unwrap_or(u32::MAX);
        self.outputs.busy = Some(Busy::Receive { kind, shown, connection });
        // Everything at hand is shown, so it always is entire (C-471, C-472).
        let flags = flags | receive_flags::ENTIRE_MESSAGE;
        Some(Output::Indicate(Indication::Receive { handler, is_chained, flags, data, start }))
    }

    /// The handler of the last [`Output::Indicate`] has returned. Returns what the client did wrong.
    pub fn handle_indication_result(&mut self, now: Instant, result: IndicationResult) -> Option<ClientFault> {
        self.now = now;
        let fault = match (self.outputs.busy.take(), result) {
            (
                Some(Busy::Receive { kind, shown, connection }),
                IndicationResult::Receive { status, taken, receive, data },
            ) => self.on_answer(kind, shown, connection, Answer { status, taken, receive, data }),
            (Some(Busy::Receive { kind, shown, connection }), IndicationResult::Kept) => {
                self.on_kept(kind, shown, connection);
                None
            }
            (Some(Busy::Disconnect), IndicationResult::Disconnect) => None,
            (busy, _) => {
                debug_assert!(false, "an answer to {busy:?} that is none");
                self.outputs.busy = busy;
                None
            }
        };
        self.settle();
        fault
    }

    fn on_answer(
        &mut self,
        kind: DataKind,
        shown: u32,
        connection: ConnectionNumber,
        answer: Answer,
    ) -> Option<ClientFault> {
        let counts = matches!(answer.status, NtStatus::SUCCESS | NtStatus::MORE_PROCESSING_REQUIRED);
        let claimed = if counts { answer.taken } else { 0 };
        let taken = claimed.min(shown);
        if self.connected().is_some() && self.connection() == Some(connection) {
            self.lane_mut(kind).take_back(answer.data, usize::try_from(taken).unwrap_or(usize::MAX));
            self.on_taken(kind, taken, answer.receive);
        } else {
            self.on_late_answer(connection, answer.receive, taken == shown);
            if !matches!(self.state, State::CleanedUp) {
                self.lane_mut(kind).recycle(answer.data);
            }
        }
        (claimed > shown).then_some(ClientFault::TookMoreThanAvailable { taken: answer.taken, available: shown })
    }

    fn on_kept(&mut self, kind: DataKind, shown: u32, connection: ConnectionNumber) {
        if self.connected().is_some() && self.connection() == Some(connection) {
            self.lane_mut(kind).give_away();
            self.on_taken(kind, shown, None);
        } else {
            self.on_late_answer(connection, None, true);
        }
    }

    fn on_taken(&mut self, kind: DataKind, taken: u32, receive: Option<ReturnedReceive>) {
        let is_pending = match receive {
            Some(returned) if returned.length == 0 => {
                self.complete(returned.id, status::EMPTY_RECEIVE);
                false
            }
            // It gets the bytes that follow those taken, before any receive queued meanwhile (C-483). One
            // that holds bytes already would have a gap where this one steps in front of it.
            Some(returned) => {
                self.end_partial();
                let receive = Receive::new(returned.id, returned.length, returned.flags).taking_also(kind);
                self.receives.push_front(receive);
                true
            }
            None => false,
        };
        // SUCCESS without having taken anything is a rejection, too, or this would go round and round
        // (C-587). Receives that came while the handler ran lift it as later ones do.
        let is_wanted = is_pending || taken > 0 || self.receives.iter().any(|receive| receive.consumes(kind));
        self.lane_mut(kind).set_rejected(!is_wanted);
    }

    /// The connection ended while the handler ran.
    fn on_late_answer(&mut self, connection: ConnectionNumber, receive: Option<ReturnedReceive>, took_all: bool) {
        if let Some(returned) = receive {
            let cause = if matches!(self.state, State::CleanedUp) { Cause::CleanedUp } else { Cause::LocalAbort };
            self.complete(returned.id, fate(cause, During::Receiving));
        }
        if self.parting == Some(connection) {
            self.parting = None;
            self.leave(connection, took_all);
        }
    }
}
