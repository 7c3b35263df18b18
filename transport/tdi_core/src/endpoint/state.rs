//! Where an endpoint stands, with what each state owns.

use alloc::boxed::Box;
use core::net::SocketAddr;

use super::Endpoint;
use crate::ids::{AddressId, ConnectionNumber, RequestId};
use crate::indication::ConnectionHandlers;
use crate::short_address::ShortAddress;
use crate::table::{self, StateName};
use crate::time::Instant;

#[derive(Debug)]
pub(super) enum State {
    /// U or A, as there is an association or not.
    Idle,
    /// C.
    Connecting { connect: RequestId, deadline: Instant },
    /// L.
    Listening { listen: RequestId, query_accept: bool },
    /// O.
    Offered { deadline: Instant },
    /// P; the request is the LISTEN, ACCEPT or AcceptIrp to complete.
    Accepting { request: RequestId },
    /// E, R or W.
    Connected(Connected),
    /// Z.
    CleanedUp,
}

/// What the two ends of a connection have said about ending it.
#[derive(Debug)]
pub(super) struct Connected {
    /// The local side has released.
    pub(super) release: Option<Release>,
    pub(super) remote: Remote,
}

/// The remote side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remote {
    /// May send more.
    Open,
    /// Its FIN was read; bytes in front of it may still be in the lanes.
    Ended,
    /// ... and the client has taken all of them and is told (its receives, its handler).
    Reported,
}

/// A local RELEASE, by TDI_DISCONNECT or TDI_SEND_AND_DISCONNECT.
#[derive(Debug)]
pub(super) struct Release {
    /// The TDI_DISCONNECT, unless it was cancelled or there was none.
    pub(super) request: Option<RequestId>,
    /// When the client's own limit runs out, [`Instant::NEVER`] without one.
    pub(super) limit: Instant,
    /// When `Config::unread_patience` ends, `NEVER` while it does not run.
    pub(super) patience: Instant,
    /// FIN has been ordered.
    pub(super) is_shut: bool,
    /// It is over for the client, and what nobody took of the connection is kept for receives that still come.
    pub(super) is_done: bool,
    /// ... and its request has told the client so: no handler is called any more (C-348). Without a request, the client having
    /// cancelled it, the handlers still tell (C-583).
    pub(super) is_told: bool,
    /// After TDI_SEND_AND_DISCONNECT the remote node's disconnect is not indicated (C-373).
    pub(super) is_silent: bool,
}

/// The association with an address.
#[derive(Debug)]
pub(super) struct Association {
    pub(super) address: AddressId,
    /// Our place in the address's list.
    pub(super) seat: u32,
    /// The address's file object has been cleaned up.
    pub(super) is_closed: bool,
    /// `None` for no handlers at all.
    handlers: Option<Box<ConnectionHandlers>>,
}

/// The network's connection, from the first packet of its handshake on.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) number: ConnectionNumber,
    pub(super) remote: ShortAddress,
    /// Reading may succeed: nothing said yet that it would block.
    pub(super) is_readable: bool,
    pub(super) is_writable: bool,
    /// The network says that a FIN has arrived; reading will find it.
    pub(super) has_peer_released: bool,
}

impl Release {
    pub(super) fn new(request: Option<RequestId>, deadline: Option<Instant>, is_silent: bool) -> Self {
        let limit = deadline.unwrap_or(Instant::NEVER);
        let patience = Instant::NEVER;
        Self { request, limit, patience, is_shut: false, is_done: false, is_told: false, is_silent }
    }

    /// When there is something to do about it.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let first = self.limit.min(self.patience);
        (first != Instant::NEVER).then_some(first)
    }
}

impl Association {
    pub(super) fn new(address: AddressId, seat: u32, handlers: ConnectionHandlers) -> Self {
        let mut association = Self { address, seat, is_closed: false, handlers: None };
        association.set_handlers(handlers);
        association
    }

    pub(super) fn handlers(&self) -> ConnectionHandlers {
        self.handlers.as_deref().copied().unwrap_or_default()
    }

    pub(super) fn set_handlers(&mut self, handlers: ConnectionHandlers) {
        self.handlers = (handlers != ConnectionHandlers::default()).then(|| Box::new(handlers));
    }
}

impl State {
    pub(super) fn established() -> Self {
        Self::Connected(Connected { release: None, remote: Remote::Open })
    }
}

impl Endpoint {
    /// The state of chapter 11.
    pub fn state(&self) -> StateName {
        match &self.state {
            State::Idle if self.association.is_none() => StateName::Unassociated,
            State::Idle => StateName::Associated,
            State::Connected(Connected { release: Some(Release { is_done: true, .. }), .. }) => StateName::Associated,
            State::Connecting { .. } => StateName::Connecting,
            State::Listening { .. } => StateName::Listening,
            State::Offered { .. } => StateName::Offered,
            State::Accepting { .. } => StateName::Accepting,
            State::Connected(Connected { release: Some(_), .. }) => StateName::LocallyReleased,
            State::Connected(Connected { remote: Remote::Open, .. }) => StateName::Established,
            State::Connected(_) => StateName::RemotelyReleased,
            State::CleanedUp => StateName::CleanedUp,
        }
    }

    /// Goes to another state and returns the one left.
    pub(super) fn enter(&mut self, next: State) -> State {
        let from = self.state();
        let left = core::mem::replace(&mut self.state, next);
        self.check_step(from);
        left
    }

    /// Every step has to be in one of the two tables.
    pub(super) fn check_step(&self, from: StateName) {
        debug_assert!(table::leads(from, self.state()), "{from:?} to {:?} is in no table", self.state());
    }

    pub(super) fn connected(&self) -> Option<&Connected> {
        if let State::Connected(connected) = &self.state { Some(connected) } else { None }
    }

    pub(super) fn connected_mut(&mut self) -> Option<&mut Connected> {
        if let State::Connected(connected) = &mut self.state { Some(connected) } else { None }
    }

    /// The handlers to call for a connection of this endpoint.
    pub(super) fn handlers(&self) -> ConnectionHandlers {
        self.association.as_ref().map(Association::handlers).unwrap_or_default()
    }

    /// A new connection, whose commands and events carry a new number.
    pub(super) fn begin_link(&mut self, remote: SocketAddr) -> ConnectionNumber {
        self.last_number = self.last_number.wrapping_add(1);
        let number = ConnectionNumber(self.last_number);
        let remote = remote.into();
        self.link = Some(Link { number, remote, is_readable: true, is_writable: true, has_peer_released: false });
        // Whoever begins anew needs no word about the end of the connection before.
        self.outputs.forget_disconnects();
        number
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;
    use crate::endpoint::Config;
    use crate::ids::EndpointId;

    #[test]
    #[should_panic(expected = "Unassociated to Established is in no table")]
    fn a_step_that_is_in_no_table_is_caught_in_debug_builds() {
        let mut endpoint = Endpoint::new(EndpointId { index: 0, generation: 1 }, 0, &Config::DEFAULT);
        endpoint.enter(State::established());
    }
}
