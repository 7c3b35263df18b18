//! One end of a TCP connection: a smoltcp socket in a set of its own, and what smoltcp does not keep.
//!
//! smoltcp neither says why a connection is over nor gives up on a silent remote side as hosts do; both are
//! done here.

use std::net::SocketAddr;
use std::time::Duration;

use net_api::{Key, NetError, Readiness};
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};

use crate::host::Tuple;
use crate::link::{Time, nanoseconds};
use crate::network_file::Limits;
use crate::packet::{self, WindowUpdate};
use crate::peer::Play;
use crate::retransmission::Retransmission;
use crate::slab::Id;
use crate::stack::Stack;
use crate::urgent::Urgent;

/// How long a connection with keep-alive is idle before it is probed, and how often and in what intervals then.
const KEEP_ALIVE_IDLE: Time = 7_200_000_000_000;
const KEEP_ALIVE_INTERVAL: Time = 1_000_000_000;
const KEEP_ALIVE_PROBES: Time = 10;

/// When and how a connection is probed, if it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeepAlive {
    pub(crate) idle: Time,
    pub(crate) interval: Time,
}

impl KeepAlive {
    /// How long the remote side may be silent.
    fn limit(self) -> Time {
        self.idle.saturating_add(self.interval.saturating_mul(KEEP_ALIVE_PROBES))
    }
}

pub(crate) struct Connection {
    pub(crate) host: usize,
    /// Which of the host's stacks it uses.
    pub(crate) mtu: usize,
    pub(crate) set: SocketSet<'static>,
    socket: SocketHandle,
    pub(crate) tuple: Tuple,
    pub(crate) owner: Owner,
    pub(crate) key: Option<Key>,
    /// Why it is over, if it did not end in an orderly way.
    pub(crate) failure: Option<NetError>,
    pub(crate) is_established: bool,
    /// The remote side has ended its direction.
    pub(crate) has_remote_ended: bool,
    /// An offer that nobody has answered: the remote side waits, and can still be refused.
    pub(crate) is_paused: bool,
    pub(crate) retransmission: Retransmission,
    pub(crate) urgent: Urgent,
    /// How far the socket's clock is ahead: see [`Retransmission`].
    ahead: Time,
    /// Nothing more is to be sent. The socket may not know yet: see [`Self::end`].
    has_ended: bool,
    /// The newest word of the remote side about its window.
    pub(crate) window: Option<WindowUpdate>,
    /// The last packet sent when both sides had ended.
    pub(crate) last_frame: Vec<u8>,
    /// Whether packets still reach the socket.
    pub(crate) is_attached: bool,
    /// What the owner was not told yet.
    pub(crate) news: Readiness,
    pub(crate) is_queued: bool,
    /// Waits for its socket to be polled.
    pub(crate) is_dirty: bool,
    /// Whether a send was not taken in full.
    pub(crate) wants_room: bool,
    /// Received bytes that the owner knows of.
    pub(crate) known_bytes: usize,
    pub(crate) keeps_alive: bool,
    pub(crate) keep_alive: KeepAlive,
    /// For when the timer is set that counts.
    pub(crate) timer_at: Option<Time>,
    patience: Option<Patience>,
}

/// Whose connection it is.
pub(crate) enum Owner {
    /// Somebody behind a network handle holds it.
    User,
    /// It waits in the queue of this local address; nobody has answered the remote side yet.
    Offer(Id),
    /// A scripted peer's.
    Peer(Box<Play>),
    /// Nobody's any more; it ends by itself.
    Nobody,
}

/// How long the remote side may be silent.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Patience {
    limit: Time,
    since: Time,
}

/// When patience begins to be tried.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begins {
    Now,
    /// With the first packet that wants an answer.
    WhenSent,
}

impl Connection {
    pub(crate) fn new(host: usize, mtu: usize, tuple: Tuple, owner: Owner, limits: &Limits) -> Self {
        let buffer = |bytes| SocketBuffer::new(vec![0; bytes]);
        let mut socket = Socket::new(buffer(limits.receive_buffer), buffer(limits.send_buffer));
        socket.set_congestion_control(CongestionControl::Reno);
        let mut set = SocketSet::new(Vec::with_capacity(1));
        let socket = set.add(socket);
        Self {
            host,
            mtu,
            set,
            socket,
            tuple,
            owner,
            key: None,
            failure: None,
            is_established: false,
            has_remote_ended: false,
            is_paused: false,
            retransmission: Retransmission::default(),
            urgent: Urgent::default(),
            ahead: 0,
            has_ended: false,
            window: None,
            last_frame: Vec::new(),
            is_attached: true,
            news: Readiness::NONE,
            is_queued: false,
            is_dirty: false,
            wants_room: false,
            known_bytes: 0,
            keeps_alive: false,
            keep_alive: KeepAlive { idle: KEEP_ALIVE_IDLE, interval: KEEP_ALIVE_INTERVAL },
            timer_at: None,
            patience: None,
        }
    }

    pub(crate) fn remote(&self) -> SocketAddr {
        self.tuple.remote
    }

    pub(crate) fn socket(&self) -> &Socket<'static> {
        self.set.get(self.socket)
    }

    pub(crate) fn socket_mut(&mut self) -> &mut Socket<'static> {
        self.set.get_mut(self.socket)
    }

    /// Lets the socket take a packet, and send what it has to by the host's time `now`.
    pub(crate) fn poll(
        &mut self,
        stack: &mut Stack,
        now: Time,
        mut incoming: Option<Vec<u8>>,
        outgoing: &mut Vec<Vec<u8>>,
    ) {
        let heard = incoming.is_some();
        let end = incoming.as_mut().and_then(|frame| packet::take_end(frame));
        stack.poll(now + self.ahead, incoming, &mut self.set, outgoing);
        if end.is_some() {
            stack.poll(now + self.ahead, end, &mut self.set, outgoing);
        }
        if self.is_end_due() {
            self.socket_mut().close();
            stack.poll(now + self.ahead, None, &mut self.set, outgoing);
        }
        for frame in outgoing.iter_mut() {
            let carries = packet::number_by_next(frame, self.retransmission.next, self.window);
            self.retransmission.sent(now, carries, heard);
        }
        self.urgent.mark(outgoing);
        let is_shut = self.window.is_some_and(WindowUpdate::is_shut) && self.socket().send_queue() > 0;
        self.retransmission.run(now, is_shut);
    }

    /// By the host's time, when the socket has something to do by itself.
    pub(crate) fn poll_at(&self, stack: &mut Stack, now: Time) -> Option<Time> {
        Some(stack.poll_at(now + self.ahead, &self.set)?.saturating_sub(self.ahead))
    }

    /// Puts the socket's clock forward to when it has something to do by itself.
    pub(crate) fn skip(&mut self, stack: &mut Stack, now: Time) {
        if let Some(at) = self.poll_at(stack, now) {
            self.ahead += at.saturating_sub(now);
        }
    }

    /// Ends this side's direction, after what is to be sent yet.
    pub(crate) fn end(&mut self) {
        self.has_ended = true;
        // All other states can say so at once.
        if self.socket().state() != State::CloseWait {
            self.socket_mut().close();
        }
    }

    /// Whether this side has ended its direction.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether the socket can be told now of an end that it was not told of.
    ///
    /// If the remote side has ended before, smoltcp answers an acknowledgement of nothing new from then on, and looks
    /// no further: neither at the window that it opens, nor whether it tells of a loss. So the end, which needs
    /// neither, goes when all bytes have arrived.
    fn is_end_due(&self) -> bool {
        self.has_ended && self.socket().state() == State::CloseWait && self.socket().send_queue() == 0
    }

    /// Whether both directions have ended, or it has failed.
    pub(crate) fn is_over(&self) -> bool {
        self.failure.is_some() || !self.is_attached
    }

    /// Room for bytes to be sent.
    pub(crate) fn room(&self) -> usize {
        self.socket().send_capacity() - self.socket().send_queue()
    }

    /// Whether there is room enough that it is worth telling.
    pub(crate) fn has_worthy_room(&self) -> bool {
        self.room() >= self.socket().send_capacity() / 3
    }

    /// All that is true of it now, for somebody who begins to watch.
    pub(crate) fn readiness(&self) -> Readiness {
        let mut ready = Readiness::NONE;
        if self.socket().can_recv() || self.has_remote_ended {
            ready |= Readiness::READABLE;
        }
        if self.is_established && self.room() > 0 {
            ready |= Readiness::WRITABLE;
        }
        if self.has_remote_ended {
            ready |= Readiness::REMOTE_ENDED;
        }
        if self.is_over() {
            ready |= Readiness::BROKEN | Readiness::READABLE | Readiness::WRITABLE;
        }
        ready
    }

    /// Notes that the remote side was heard, or something sent to it. Returns when patience ends, if it is
    /// being tried.
    pub(crate) fn be_patient(&mut self, now: Time, heard: bool, sent: bool, limits: &Limits) -> Option<Time> {
        let earlier = if heard { None } else { self.patience };
        self.patience = self.limit(limits).and_then(|(limit, begins)| match earlier {
            Some(earlier) if earlier.limit == limit => Some(earlier),
            _ if begins == Begins::Now || sent => Some(Patience { limit, since: now }),
            _ => None,
        });
        if heard {
            self.socket_mut().set_keep_alive(None);
        }
        let patience = self.patience?;
        let idle = patience.since + self.keep_alive.idle;
        if patience.limit == self.keep_alive.limit() && now < idle {
            return Some(idle);
        }
        Some(patience.since + patience.limit)
    }

    /// Whether the remote side has been silent for too long. Begins to probe it when that is all it takes.
    pub(crate) fn is_patience_over(&mut self, now: Time) -> bool {
        let Some(patience) = self.patience else { return false };
        let silence = now - patience.since;
        let is_probing = patience.limit == self.keep_alive.limit() && silence >= self.keep_alive.idle;
        if is_probing && self.socket().keep_alive().is_none() {
            let interval = smoltcp::time::Duration::from_micros(self.keep_alive.interval.div_ceil(1000));
            self.socket_mut().set_keep_alive(Some(interval));
        }
        silence >= patience.limit
    }

    /// How long the remote side may be silent, and from when on.
    fn limit(&self, limits: &Limits) -> Option<(Time, Begins)> {
        let socket = self.socket();
        // A remote side whose window is closed owes an answer to every probe, not one a minute.
        let answer = |limit: Duration| Some((nanoseconds(limit), Begins::WhenSent));
        match socket.state() {
            State::SynSent => answer(limits.connect_timeout),
            State::SynReceived if !self.is_paused => answer(limits.connect_timeout),
            State::FinWait1 | State::Closing | State::LastAck => answer(limits.data_timeout),
            // The remote side owes an end, and nobody is here to wait for it for ever.
            State::FinWait2 if matches!(self.owner, Owner::Nobody) => {
                Some((nanoseconds(limits.data_timeout), Begins::Now))
            }
            State::Established | State::CloseWait if socket.send_queue() > 0 => answer(limits.data_timeout),
            State::Established | State::CloseWait if self.keeps_alive => Some((self.keep_alive.limit(), Begins::Now)),
            State::Established
            | State::CloseWait
            | State::FinWait2
            | State::SynReceived
            | State::Closed
            | State::Listen
            | State::TimeWait => None,
        }
    }
}
