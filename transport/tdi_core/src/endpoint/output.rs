//! What an endpoint wants done, and the one client call at a time.

use super::{AddressMessage, Endpoint, Output};
use crate::ids::{AddressId, ConnectionNumber, RequestId};
use crate::indication::Indication;
use crate::network::{DataKind, NetworkCommand, NetworkError};
use crate::queue::Queue;
use crate::request::Completion;
use nt_abi::NtStatus;
use nt_abi::tdi::disconnect_flags;

#[derive(Debug, Default)]
pub(super) struct Outputs {
    pub(super) network: Queue<NetworkCommand>,
    pub(super) messages: Queue<(AddressId, AddressMessage)>,
    pub(super) calls: Queue<Call>,
    pub(super) busy: Option<Busy>,
    /// Why the last connection was lost, while no request and no handler has told the client (C-457).
    pub(super) unlearnt: Option<NetworkError>,
    /// The [`NetworkCommand::CopyBuffered`] that is not answered yet.
    pub(super) copying: Option<Copying>,
}

/// A client call that waits for its turn. Receive indications are not queued: whether one is due is
/// seen when its turn comes.
#[derive(Debug)]
pub(super) enum Call {
    Complete(Completion),
    /// ClientEventDisconnect with these flags, if a handler is registered when its turn comes.
    Disconnected {
        flags: u32,
    },
}

/// The client call that is out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Busy {
    Completion(RequestId),
    Disconnect,
    Receive {
        kind: DataKind,
        /// So many bytes were shown.
        shown: usize,
        connection: ConnectionNumber,
    },
}

#[derive(Debug)]
pub(super) struct Copying {
    pub(super) id: RequestId,
    pub(super) source: DataKind,
    pub(super) count: usize,
}

impl Outputs {
    /// The client needs no word about the end of its last connection any more.
    pub(super) fn forget_disconnects(&mut self) {
        self.unlearnt = None;
        self.calls.retain(|call| !matches!(call, Call::Disconnected { .. }));
    }

    pub(super) fn is_indicating(&self) -> bool {
        matches!(self.busy, Some(Busy::Receive { .. } | Busy::Disconnect))
    }

    /// The next message to an address. It is told that we are gone only when no handler of it runs for
    /// us any more (C-569).
    fn next_message(&mut self) -> Option<Output> {
        let is_held = matches!(self.messages.front(), Some((_, AddressMessage::Detach { .. }))) && self.is_indicating();
        if is_held {
            return None;
        }
        self.messages.pop_front().map(|(address, message)| Output::Address(address, message))
    }
}

impl Endpoint {
    /// What to do next, or `None`: nothing until something is handed in.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(command) = self.outputs.network.pop_front() {
            return Some(Output::Network(command));
        }
        if let Some(message) = self.outputs.next_message() {
            return Some(message);
        }
        if let Some(transfer) = self.next_transfer() {
            if let NetworkCommand::CopyBuffered { id, source, range, .. } = &transfer {
                self.outputs.copying = Some(Copying { id: *id, source: *source, count: range.len() });
            }
            return Some(Output::Network(transfer));
        }
        if self.outputs.busy.is_some() {
            return None;
        }
        self.next_call()
    }

    /// Nothing is out at the client (no completion, no indication) and nothing waits to be polled.
    /// After a cleanup this means that the CLEANUP may complete and, when the last reference has
    /// gone, the endpoint may be dropped.
    pub fn is_quiet(&self) -> bool {
        self.outputs.busy.is_none()
            && self.outputs.network.is_empty()
            && self.outputs.messages.is_empty()
            && self.outputs.calls.is_empty()
            && self.next_transfer().is_none()
            && self.next_indication().is_none()
    }

    /// Is a handler being called for this endpoint right now (C-569)?
    pub fn is_indicating(&self) -> bool {
        self.outputs.is_indicating()
    }

    /// The completion of `id` has been delivered: its completion routine has returned, or its event
    /// is signalled.
    pub fn handle_completion_delivered(&mut self, id: RequestId) {
        if self.outputs.busy == Some(Busy::Completion(id)) {
            self.outputs.busy = None;
        }
    }

    pub(super) fn complete(&mut self, id: RequestId, status: NtStatus) {
        self.complete_transfer(id, status, 0);
    }

    pub(super) fn complete_transfer(&mut self, id: RequestId, status: NtStatus, bytes: u32) {
        let completion = Completion { id, status, information: u64::from(bytes), peer: None };
        self.outputs.calls.push_back(Call::Complete(completion));
    }

    /// SUCCESS of CONNECT, LISTEN or ACCEPT.
    pub(super) fn complete_setup(&mut self, id: RequestId) {
        let completion = Completion { id, status: NtStatus::SUCCESS, information: 0, peer: self.remote() };
        self.outputs.calls.push_back(Call::Complete(completion));
    }

    fn next_call(&mut self) -> Option<Output> {
        while let Some(call) = self.outputs.calls.pop_front() {
            match call {
                Call::Complete(completion) => {
                    self.outputs.busy = Some(Busy::Completion(completion.id));
                    return Some(Output::Complete(completion));
                }
                Call::Disconnected { flags } => {
                    let handler = self.handlers().disconnect;
                    if handler.is_registered() {
                        if flags == disconnect_flags::ABORT {
                            self.outputs.unlearnt = None;
                        }
                        self.outputs.busy = Some(Busy::Disconnect);
                        return Some(Output::Indicate(Indication::Disconnect { handler, flags }));
                    }
                }
            }
        }
        self.next_indication().and_then(|kind| self.indicate(kind))
    }
}
