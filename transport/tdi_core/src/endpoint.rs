//! A connection endpoint: one machine, a file per concern.
//!
//! Every input changes the state at once, queues network commands and completions, and ends in
//! `settle`, which carries on what has become possible. Whether a request is legal is asked of
//! [`crate::table`], which status it fails with of [`crate::status`], and nowhere else. What needs no
//! queue is worked out when its turn comes: the next transfer, the next receive indication.
//!
//! Invariants: there is a link exactly in C, O, P, E, R and W, and in A while it has leftovers; the network is
//! told the end of every connection exactly once, by an Abort or a Close; sends exist only in E, R and W, receives
//! there and beside leftovers, waits in every active state.

mod associate;
mod cleanup;
mod connect;
mod disconnect;
mod indicate;
mod lane;
mod output;
mod receive;
mod send;
mod state;
mod timeout;

use core::net::SocketAddr;

use nt_abi::tdi::{disconnect_flags, send_flags};

use self::disconnect::Wait;
use self::lane::Lane;
use self::output::Outputs;
use self::receive::Receives;
use self::send::Sends;
use self::state::{Association, Link, State};
use crate::ids::{AddressId, ConnectionNumber, EndpointId, RequestId};
use crate::indication::Indication;
use crate::network::{NetworkCommand, NetworkEvent};
use crate::queue::RareQueue;
use crate::request::{Completion, Outcome, RemoteFilter, Request};
use crate::status::{self, Cause, Situation};
use crate::table::RequestKind;
use crate::time::{Instant, SECOND};

/// What a transport decides for all its endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long a CONNECT without a timeout waits, in 100-ns units (C-273: 21 s).
    pub connect_timeout: u64,
    /// How long an offer held for a TDI_ACCEPT waits for the client (C-295).
    pub offer_timeout: u64,
    /// How long a RELEASE without a timeout waits while all that keeps it from ending is received
    /// data that no receive and no handler takes although the remote node has released. The data is kept.
    pub unread_patience: u64,
    /// Bytes read ahead for receive indications and peeks.
    pub lookahead: usize,
}

impl Config {
    /// What clients are used to.
    pub const DEFAULT: Self = Self {
        connect_timeout: 21 * SECOND,
        offer_timeout: 10 * SECOND,
        unread_patience: SECOND,
        lookahead: 16 * 1024,
    };
}

/// What the caller has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Carry out under the endpoint's lock.
    Network(NetworkCommand),
    /// Tell this address (`Address::handle_message`). The endpoint's lock may be held or not,
    /// but messages keep their order.
    Address(AddressId, AddressMessage),
    /// Complete a request with the lock released, then
    /// [`Endpoint::handle_completion_delivered`].
    Complete(Completion),
    /// Call an event handler with the lock released, then [`Endpoint::handle_indication_result`].
    Indicate(Indication),
}

/// What an endpoint tells the address it is associated with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressMessage {
    /// A listen is pending on the endpoint.
    Listen {
        /// The TDI_LISTEN.
        id: RequestId,
        /// Which offers it takes.
        filter: RemoteFilter,
    },
    /// That listen is over without an offer.
    WithdrawListen {
        /// The TDI_LISTEN.
        id: RequestId,
    },
    /// The association is undone and no handler of the address runs for this endpoint any more.
    Detach {
        /// The endpoint's place in the address's list.
        seat: u32,
    },
}

/// Has an endpoint taken the offer it was given?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an offer that was not taken has to be offered again or refused"]
pub enum OfferAnswer {
    /// The endpoint owns the connection now, under this number.
    Taken(ConnectionNumber),
    /// The listen is no longer pending: `Address::handle_offer_returned`.
    Returned,
}

/// A connection endpoint; see the crate's documentation for how to drive it.
///
/// There may be a hundred thousand that wait for something, so it is small: what few endpoints need is boxed.
#[derive(Debug)]
pub struct Endpoint {
    id: EndpointId,
    context: u64,
    config: &'static Config,
    /// The latest time that was handed in.
    now: Instant,
    association: Option<Association>,
    state: State,
    link: Option<Link>,
    last_number: u32,
    sends: Sends,
    receives: Receives,
    waits: RareQueue<Wait>,
    normal: Lane,
    expedited: Lane,
    outputs: Outputs,
    /// After a cleanup: the connection whose end waits for the receive handler that is running.
    parting: Option<ConnectionNumber>,
}

impl Endpoint {
    /// An endpoint as an open leaves it: not associated, idle (C-114).
    ///
    /// `context` is the value of the ConnectionContext EA, any 64-bit value (C-112, C-113).
    pub fn new(id: EndpointId, context: u64, config: &'static Config) -> Self {
        Self {
            id,
            context,
            config,
            now: Instant(0),
            association: None,
            state: State::Idle,
            link: None,
            last_number: 0,
            sends: Sends::default(),
            receives: Receives::new(),
            waits: RareQueue::new(),
            normal: Lane::default(),
            expedited: Lane::default(),
            outputs: Outputs::default(),
            parting: None,
        }
    }

    /// The caller's name for this endpoint.
    pub fn id(&self) -> EndpointId {
        self.id
    }

    /// The ConnectionContext, for every handler called for this endpoint (C-420).
    pub fn context(&self) -> u64 {
        self.context
    }

    /// The remote transport address, while there is a connection.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.link.as_ref().map(|link| link.remote.get())
    }

    /// The latest time that was handed in.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// It is this late now: for a caller whose next inputs belong together.
    pub fn set_now(&mut self, now: Instant) {
        self.now = now;
    }

    /// The number of the current connection, while there is one (also while it is only offered).
    pub fn connection(&self) -> Option<ConnectionNumber> {
        self.link.as_ref().map(|link| link.number)
    }

    /// A request that may pend. The caller has found its cancel flag clear (C-223).
    pub fn handle_request(&mut self, now: Instant, id: RequestId, request: Request) -> Outcome {
        self.now = now;
        let Some(kind) = request.kind() else {
            let is_gone = matches!(self.state, State::CleanedUp);
            return Outcome::Done(if is_gone { Situation::CleanedUp.status() } else { status::BAD_DISCONNECT_FLAGS });
        };
        let takes_leftovers = kind == RequestKind::Receive && self.has_leftovers();
        if matches!(kind, RequestKind::Connect | RequestKind::Listen | RequestKind::DisconnectAbort) {
            self.drop_leftovers();
        }
        if !takes_leftovers && let Some(status) = self.learn(kind).or_else(|| self.refuse(kind)) {
            self.settle();
            return Outcome::Done(status);
        }
        let outcome = match request {
            Request::Connect { remote, timeout } => self.on_connect(id, remote, timeout),
            Request::Listen { filter, query_accept } => self.on_listen(id, filter, query_accept),
            Request::Accept => self.on_accept(id),
            Request::Disconnect { timeout, .. } => match kind {
                RequestKind::DisconnectRelease => self.on_release(id, timeout),
                RequestKind::DisconnectWait => self.on_wait(id, timeout),
                _ => self.on_abort(id),
            },
            Request::Send { length, flags } => self.on_send(id, length, flags),
            Request::Receive { length, flags } => self.on_receive(id, length, flags),
        };
        self.settle();
        outcome
    }

    /// The client cancels a request (C-224 ff.). Returns whether the core still had it; if not, its
    /// [`Completion`] has come out already or waits to be polled (C-226). Nothing is completed by
    /// this call itself: the completion comes out of `poll_output` as always.
    pub fn handle_cancel(&mut self, now: Instant, id: RequestId) -> bool {
        self.now = now;
        let had_it = match self.state {
            State::Connecting { connect: request, .. }
            | State::Listening { listen: request, .. }
            | State::Accepting { request }
                if request == id =>
            {
                self.end_setup(Cause::Cancelled);
                true
            }
            State::Connected(_) => self.cancel_send(id) || self.cancel_receive(id) || self.cancel_disconnect(id),
            State::Connecting { .. } | State::Listening { .. } | State::Accepting { .. } | State::Offered { .. } => {
                self.cancel_disconnect(id)
            }
            State::Idle | State::CleanedUp => false,
        };
        self.settle();
        had_it
    }

    /// Something happened on the network. Ignored unless `connection` is the current one.
    pub fn handle_network(&mut self, now: Instant, connection: ConnectionNumber, event: NetworkEvent) {
        self.now = now;
        let Some(link) = self.link.as_mut().filter(|link| link.number == connection) else { return };
        match event {
            NetworkEvent::Connected { remote } => self.on_connected(remote),
            NetworkEvent::Readable => link.is_readable = true,
            NetworkEvent::Writable => link.is_writable = true,
            NetworkEvent::PeerReleased => {
                link.is_readable = true;
                link.has_peer_released = true;
            }
            NetworkEvent::Broken(error) => self.on_broken(error),
        }
        self.settle();
    }
}

impl Request {
    /// Its row in the table; `None` for a DISCONNECT whose flags name no kind.
    fn kind(&self) -> Option<RequestKind> {
        Some(match self {
            Self::Connect { .. } => RequestKind::Connect,
            Self::Listen { .. } => RequestKind::Listen,
            Self::Accept => RequestKind::Accept,
            Self::Disconnect { flags, .. } => return disconnect_of(*flags),
            Self::Send { flags, .. } if flags & send_flags::AND_DISCONNECT != 0 => RequestKind::SendAndDisconnect,
            Self::Send { .. } => RequestKind::Send,
            Self::Receive { .. } => RequestKind::Receive,
        })
    }
}

/// At most one flag may be given, and 0 means ABORT (C-324, C-325).
fn disconnect_of(flags: u32) -> Option<RequestKind> {
    match flags {
        0 | disconnect_flags::ABORT => Some(RequestKind::DisconnectAbort),
        disconnect_flags::RELEASE => Some(RequestKind::DisconnectRelease),
        disconnect_flags::WAIT => Some(RequestKind::DisconnectWait),
        _ => None,
    }
}
