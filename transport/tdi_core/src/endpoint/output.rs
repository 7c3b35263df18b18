//! What an endpoint wants done, and the one client call at a time.

use alloc::boxed::Box;
use core::net::SocketAddr;

use super::state::State;
use super::{AddressMessage, Endpoint, Output};
use crate::ids::{AddressId, ConnectionNumber, RequestId};
use crate::indication::Indication;
use crate::network::{DataKind, NetworkCommand, NetworkError};
use crate::queue::Queue;
use crate::request::{Completion, RemoteFilter};
use crate::short_address::ShortAddress;
use nt_abi::NtStatus;
use nt_abi::tdi::disconnect_flags;

#[derive(Debug, Default)]
pub(super) struct Outputs {
    /// One queue for all, because it is nearly always empty. It is in the order of the turns, so that what the network is
    /// to do is not looked for behind thousands of completions.
    waiting: Queue<Waiting>,
    pub(super) busy: Option<Busy>,
    /// How the last connection ended, as far as a request that comes afterwards is told.
    pub(super) unlearnt: Option<End>,
    /// The [`NetworkCommand::CopyBuffered`] that is not answered yet.
    pub(super) copying: Option<Copying>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// Both sides had released, and the client had taken all that came.
    InOrder,
    /// It was lost, and no request and no handler has told the client (C-457).
    Lost(NetworkError),
}

/// An output that waits to be polled. Receive indications do not wait here: whether one is due is
/// seen when its turn comes.
#[derive(Debug)]
pub(super) enum Waiting {
    Connect {
        connection: ConnectionNumber,
        remote: ShortAddress,
    },
    Accept(ConnectionNumber),
    ShutdownSend(ConnectionNumber),
    Abort(ConnectionNumber),
    Close(ConnectionNumber),
    Listen {
        address: AddressId,
        id: RequestId,
        filter: Option<Box<SocketAddr>>,
    },
    WithdrawListen {
        address: AddressId,
        id: RequestId,
    },
    Detach {
        address: AddressId,
        seat: u32,
    },
    Complete {
        id: RequestId,
        status: NtStatus,
        bytes: u32,
        peer: Option<ShortAddress>,
    },
    /// ClientEventDisconnect with these flags, if a handler is registered when its turn comes.
    Disconnected {
        flags: u32,
    },
}

/// What an output is for, in the order of their turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Network,
    Address,
    Client,
}

impl Waiting {
    fn turn(&self) -> Turn {
        match self {
            Self::Connect { .. } | Self::Accept(_) | Self::ShutdownSend(_) | Self::Abort(_) | Self::Close(_) => {
                Turn::Network
            }
            Self::Listen { .. } | Self::WithdrawListen { .. } | Self::Detach { .. } => Turn::Address,
            Self::Complete { .. } | Self::Disconnected { .. } => Turn::Client,
        }
    }
}

/// The client call that is out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Busy {
    Completion(RequestId),
    Disconnect,
    Receive {
        kind: DataKind,
        /// So many bytes were shown.
        shown: u32,
        connection: ConnectionNumber,
    },
}

#[derive(Debug)]
pub(super) struct Copying {
    pub(super) source: DataKind,
    pub(super) count: u32,
}

impl Outputs {
    pub(super) fn push(&mut self, waiting: Waiting) {
        match waiting.turn() {
            Turn::Client => self.waiting.push_back(waiting),
            turn => self.waiting.insert_before(waiting, |other| other.turn() > turn),
        }
    }

    /// The client needs no word about the end of its last connection any more.
    pub(super) fn forget_disconnects(&mut self) {
        self.unlearnt = None;
        self.waiting.retain(|waiting| !matches!(waiting, Waiting::Disconnected { .. }));
    }

    pub(super) fn is_indicating(&self) -> bool {
        matches!(self.busy, Some(Busy::Receive { .. } | Busy::Disconnect))
    }

    /// Does a client call wait, other than a receive indication?
    pub(super) fn owes_call(&self) -> bool {
        self.waiting.iter().any(|waiting| waiting.turn() == Turn::Client)
    }

    fn next(&mut self, turn: Turn) -> Option<Waiting> {
        self.waiting.remove_before(|waiting| waiting.turn() == turn, |waiting| waiting.turn() > turn)
    }

    /// The next message to an address. It is told that we are gone only when no handler of it runs for
    /// us any more (C-569).
    fn next_message(&mut self) -> Option<Waiting> {
        let is_held = self.is_indicating()
            && matches!(
                self.waiting.iter().find(|waiting| waiting.turn() > Turn::Network),
                Some(Waiting::Detach { .. })
            );
        if is_held { None } else { self.next(Turn::Address) }
    }
}

impl Endpoint {
    /// What to do next, or `None`: nothing until something is handed in.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(waiting) = self.outputs.next(Turn::Network).or_else(|| self.outputs.next_message()) {
            return Some(self.output(waiting));
        }
        if let Some(transfer) = self.next_transfer() {
            if let NetworkCommand::CopyBuffered { source, range, .. } = &transfer {
                // A receive has room for no more than 32 bits count.
                let count = u32::try_from(range.len()).unwrap_or(u32::MAX);
                self.outputs.copying = Some(Copying { source: *source, count });
            }
            return Some(Output::Network(transfer));
        }
        if self.outputs.busy.is_some() {
            return None;
        }
        self.next_call()
    }

    /// As the caller sees it.
    fn output(&self, waiting: Waiting) -> Output {
        let network = Output::Network;
        match waiting {
            Waiting::Connect { connection, remote } => {
                // Without a connect it is followed by its Abort, and its limit does not matter any more.
                let deadline = if let State::Connecting { deadline, .. } = self.state { deadline } else { self.now };
                network(NetworkCommand::Connect { connection, remote: remote.get(), deadline })
            }
            Waiting::Accept(connection) => network(NetworkCommand::Accept { connection }),
            Waiting::ShutdownSend(connection) => network(NetworkCommand::ShutdownSend { connection }),
            Waiting::Abort(connection) => network(NetworkCommand::Abort { connection }),
            Waiting::Close(connection) => network(NetworkCommand::Close { connection }),
            Waiting::Listen { address, id, filter } => {
                let filter = RemoteFilter { remote: filter.map(|remote| *remote) };
                Output::Address(address, AddressMessage::Listen { id, filter })
            }
            Waiting::WithdrawListen { address, id } => Output::Address(address, AddressMessage::WithdrawListen { id }),
            Waiting::Detach { address, seat } => Output::Address(address, AddressMessage::Detach { seat }),
            Waiting::Complete { id, status, bytes, peer } => {
                let peer = peer.map(|peer| peer.get());
                Output::Complete(Completion { id, status, information: bytes.into(), peer })
            }
            Waiting::Disconnected { flags } => {
                Output::Indicate(Indication::Disconnect { handler: self.handlers().disconnect, flags })
            }
        }
    }

    /// Nothing is out at the client (no completion, no indication) and nothing waits to be polled.
    /// After a cleanup this means that the CLEANUP may complete and, when the last reference has
    /// gone, the endpoint may be dropped.
    pub fn is_quiet(&self) -> bool {
        self.outputs.busy.is_none()
            && self.outputs.waiting.is_empty()
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
        self.outputs.push(Waiting::Complete { id, status, bytes, peer: None });
    }

    /// SUCCESS of CONNECT, LISTEN or ACCEPT.
    pub(super) fn complete_setup(&mut self, id: RequestId) {
        let peer = self.link.as_ref().map(|link| link.remote.clone());
        self.outputs.push(Waiting::Complete { id, status: NtStatus::SUCCESS, bytes: 0, peer });
    }

    fn next_call(&mut self) -> Option<Output> {
        while let Some(call) = self.outputs.next(Turn::Client) {
            self.outputs.busy = Some(match &call {
                Waiting::Disconnected { .. } if !self.handlers().disconnect.is_registered() => continue,
                Waiting::Disconnected { flags } => {
                    if *flags == disconnect_flags::ABORT {
                        self.outputs.unlearnt = None;
                    }
                    Busy::Disconnect
                }
                Waiting::Complete { id, .. } => Busy::Completion(*id),
                other => unreachable!("{other:?} is no client call"),
            });
            return Some(self.output(call));
        }
        self.next_indication().and_then(|kind| self.indicate(kind))
    }
}
