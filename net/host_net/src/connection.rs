//! Connections.
//!
//! Two things are remembered beside the socket:
//! - *Why it is over.* The kernel reports an error once, to whoever asks first, and afterwards a broken
//!   connection looks like one that ended in an orderly way.
//! - *That it is drained.* A receive that got less than it asked for has emptied the socket, and until the
//!   next event another one would only cost a system call to learn that. The numbers of the events seen
//!   and of the last draining receive tell; a new event makes them differ.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use net_api::{Connection, Key, NetError, Progress, Readiness, Received, Sent};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SetSockOpt, Shutdown, setsockopt, shutdown, sockopt};

use crate::error::net_error;
use crate::network::Shared;
use crate::socket;

pub(crate) struct HostConnection {
    network: Arc<Shared>,
    /// `None` only while it is being dropped.
    socket: Option<OwnedFd>,
    remote: Remote,
    /// Whether the attempt is still pending. The lock orders asking after it and giving it up: asking is
    /// done by connecting again, which would begin a new attempt on a socket that was reset.
    pending: Mutex<bool>,
    /// The error number that ended the connection; 0 while it lives.
    failure: AtomicI32,
    watched: AtomicBool,
    /// Whether this side has ended its direction: a send is then a mistake of the caller's, and its error
    /// says nothing about the connection.
    send_is_ended: AtomicBool,
    /// Whether urgent bytes are kept in the stream; asked for with the first receive or watch.
    urgent_inline: AtomicBool,
    /// Events that concern receiving, counted from 1.
    events: AtomicU32,
    /// What `events` was when a receive emptied the socket.
    drained_at: AtomicU32,
    /// Set by the first event after which a short receive no longer proves that the socket is empty: the
    /// end of the stream may be behind it, or an urgent mark.
    short_is_not_empty: AtomicBool,
    /// Whether an urgent byte can only be next after an event: the socket was emptied, and nothing stopped at a mark since.
    mark_needs_event: AtomicBool,
}

// A connection that waits keeps little.
const _: () = assert!(size_of::<HostConnection>() <= 56);

/// Where a connection leads. There may be many, most of them to IPv4 addresses, which need the least room.
enum Remote {
    V4(SocketAddrV4),
    V6(Box<SocketAddrV6>),
}

impl From<SocketAddr> for Remote {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Self::V4(address),
            SocketAddr::V6(address) => Self::V6(Box::new(address)),
        }
    }
}

impl HostConnection {
    /// Connects `socket` to `remote`.
    ///
    /// The second `connect` is the probe: on the loopback device, and with peers near by, the answer is
    /// here when the first one returns, but only the second says so. A socket that has to be registered
    /// and waited for costs a third more.
    pub(crate) fn start(
        network: &Arc<Shared>,
        socket: OwnedFd,
        remote: SocketAddr,
        may_meet_itself: bool,
        key: Key,
    ) -> Result<(Self, Progress), NetError> {
        let mut outcome = socket::connect(socket.as_fd(), remote);
        if outcome == Err(Errno::EINPROGRESS) {
            outcome = socket::connect(socket.as_fd(), remote);
        }
        let progress = progress_of(outcome).map_err(net_error)?;
        if progress == Progress::Established && may_meet_itself && socket::local(socket.as_fd()) == Ok(remote) {
            socket::reset(socket.as_fd());
            return Err(NetError::Refused);
        }
        let connection = Self::new(network, socket, remote, progress);
        if progress == Progress::Pending {
            connection.watch(key)?;
        }
        Ok((connection, progress))
    }

    pub(crate) fn accepted(network: &Arc<Shared>, socket: OwnedFd, remote: SocketAddr) -> Self {
        Self::new(network, socket, remote, Progress::Established)
    }

    fn new(network: &Arc<Shared>, socket: OwnedFd, remote: SocketAddr, progress: Progress) -> Self {
        Self {
            network: Arc::clone(network),
            socket: Some(socket),
            remote: remote.into(),
            pending: Mutex::new(progress == Progress::Pending),
            failure: AtomicI32::new(0),
            watched: AtomicBool::new(false),
            send_is_ended: AtomicBool::new(false),
            urgent_inline: AtomicBool::new(false),
            events: AtomicU32::new(1),
            drained_at: AtomicU32::new(0),
            short_is_not_empty: AtomicBool::new(false),
            mark_needs_event: AtomicBool::new(false),
        }
    }

    fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_ref().expect("taken by drop alone").as_fd()
    }

    fn failure(&self) -> Option<NetError> {
        match self.failure.load(Ordering::Acquire) {
            0 => None,
            number => Some(net_error(Errno::from_raw(number))),
        }
    }

    /// Remembers the first error; returns the one that counts.
    fn fail(&self, errno: Errno) -> NetError {
        match self.failure.compare_exchange(0, errno as i32, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => net_error(errno),
            Err(earlier) => net_error(Errno::from_raw(earlier)),
        }
    }

    fn sent(&self, outcome: nix::Result<usize>) -> Sent {
        match outcome {
            Ok(bytes) => Sent::Taken(bytes),
            Err(Errno::EAGAIN) => Sent::WouldBlock,
            Err(Errno::EPIPE) if self.send_is_ended.load(Ordering::Acquire) => Sent::Failed(NetError::NotConnected),
            Err(errno) if is_about_the_call(errno) => Sent::Failed(net_error(errno)),
            Err(errno) => Sent::Failed(self.fail(errno)),
        }
    }

    fn set<T>(&self, option: impl SetSockOpt<Val = T>, value: T) -> Result<(), NetError> {
        match self.failure() {
            Some(failure) => Err(failure),
            None => setsockopt(&self.socket(), option, &value).map_err(net_error),
        }
    }

    /// Until this is on, the kernel takes urgent bytes out of the stream as they are read over. It counts
    /// at the time of reading, so connections that never receive need not pay for it.
    fn keep_urgent_inline(&self) {
        if !self.urgent_inline.swap(true, Ordering::Relaxed) {
            // A TCP socket takes this option in every state.
            let _ = setsockopt(&self.socket(), sockopt::OobInline, &true);
        }
    }

    /// A receive that began after the event with this number has emptied the socket.
    fn note_drained(&self, events: u32) {
        self.drained_at.store(events, Ordering::Relaxed);
        self.mark_needs_event.store(true, Ordering::Release);
    }

    fn receive_with(&self, into: &mut [IoSliceMut<'_>], flags: MsgFlags) -> Received {
        let wanted: usize = into.iter().map(|slice| slice.len()).sum();
        if wanted == 0 {
            return Received::Got(0);
        }
        let events = self.events.load(Ordering::Acquire);
        if self.drained_at.load(Ordering::Relaxed) == events {
            return Received::WouldBlock;
        }
        self.keep_urgent_inline();
        // Unless events were to come, nothing would ever undo it.
        let can_note_drained = self.watched.load(Ordering::Acquire);
        match socket::receive(self.socket(), into, flags) {
            // What arrived before a failure is still delivered; a broken connection's end is not one.
            Ok(0) => self.failure().map_or(Received::EndOfStream, Received::Failed),
            Ok(bytes) => {
                let is_short = bytes < wanted && !flags.contains(MsgFlags::MSG_PEEK);
                if is_short && can_note_drained && !self.short_is_not_empty.load(Ordering::Acquire) {
                    self.note_drained(events);
                } else {
                    self.mark_needs_event.store(false, Ordering::Release);
                }
                Received::Got(bytes)
            }
            Err(Errno::EAGAIN) => {
                if can_note_drained {
                    self.note_drained(events);
                }
                Received::WouldBlock
            }
            Err(errno) if is_about_the_call(errno) => Received::Failed(net_error(errno)),
            Err(errno) => Received::Failed(self.fail(errno)),
        }
    }
}

impl Connection for HostConnection {
    fn progress(&self) -> Result<Progress, NetError> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        if !*pending {
            return Ok(Progress::Established);
        }
        let mut outcome = progress_of(socket::connect(self.socket(), self.remote()));
        if outcome == Ok(Progress::Established) && socket::local(self.socket()) == Ok(self.remote()) {
            socket::reset(self.socket());
            outcome = Err(Errno::ECONNREFUSED);
        }
        *pending = outcome == Ok(Progress::Pending);
        outcome.map_err(|errno| self.fail(errno))
    }

    fn watch(&self, key: Key) -> Result<(), NetError> {
        if self.watched.load(Ordering::Relaxed) || self.watched.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.keep_urgent_inline();
        self.network.watch(self.socket(), key).map_err(|errno| {
            self.watched.store(false, Ordering::Release);
            // A receive on another thread may have counted on events in the meantime.
            self.events.fetch_add(1, Ordering::AcqRel);
            net_error(errno)
        })
    }

    fn handle_ready(&self, ready: Readiness) {
        let ending = Readiness::REMOTE_ENDED | Readiness::BROKEN | Readiness::URGENT;
        if ready.intersects(ending) {
            self.short_is_not_empty.store(true, Ordering::Release);
        }
        if ready.intersects(ending | Readiness::READABLE) {
            self.events.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn share_port(&self) -> Option<u16> {
        let port = socket::local(self.socket()).ok()?.port();
        socket::share_port(self.socket()).ok()?;
        Some(port)
    }

    fn send(&self, data: &[IoSlice<'_>]) -> Sent {
        if let Some(failure) = self.failure() {
            return Sent::Failed(failure);
        }
        if data.iter().all(|slice| slice.is_empty()) {
            return Sent::Taken(0);
        }
        self.sent(socket::send(self.socket(), data))
    }

    fn send_urgent(&self, byte: u8) -> Sent {
        if let Some(failure) = self.failure() {
            return Sent::Failed(failure);
        }
        self.sent(socket::send_urgent(self.socket(), byte))
    }

    fn receive(&self, into: &mut [IoSliceMut<'_>]) -> Received {
        self.receive_with(into, MsgFlags::empty())
    }

    fn peek(&self, into: &mut [IoSliceMut<'_>]) -> Received {
        self.receive_with(into, MsgFlags::MSG_PEEK)
    }

    fn is_at_urgent_mark(&self) -> bool {
        // Asked before every receive; most connections never see an urgent byte, and answer from memory. An event with one is among
        // those after which a short receive proves nothing.
        let is_possible =
            !self.mark_needs_event.load(Ordering::Acquire) || self.short_is_not_empty.load(Ordering::Acquire);
        is_possible && socket::is_at_urgent_mark(self.socket()).unwrap_or(false)
    }

    fn has_unread(&self) -> bool {
        // The kernel's word, not what is remembered: the answer decides how a connection ends.
        let mut byte = [0];
        let into = &mut [IoSliceMut::new(&mut byte)];
        self.keep_urgent_inline();
        match socket::receive(self.socket(), into, MsgFlags::MSG_PEEK) {
            Ok(bytes) => bytes != 0,
            Err(Errno::EAGAIN) => false,
            Err(errno) => {
                self.fail(errno);
                false
            }
        }
    }

    fn shutdown_send(&self) -> Result<(), NetError> {
        // To a pending attempt the kernel would do something else: give it up.
        if self.progress()? == Progress::Pending {
            return Err(NetError::NotConnected);
        }
        self.send_is_ended.store(true, Ordering::Release);
        match shutdown(self.socket().as_raw_fd(), Shutdown::Write) {
            Ok(()) => Ok(()),
            Err(Errno::ENOTCONN) => {
                Err(socket::take_error(self.socket()).map_or(NetError::NotConnected, |why| self.fail(why)))
            }
            Err(errno) => Err(net_error(errno)),
        }
    }

    fn abort(&self) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        *pending = false;
        // First the reason, so that an operation on another thread does not report what it sees next.
        self.failure.store(Errno::ECONNABORTED as i32, Ordering::Release);
        self.handle_ready(Readiness::BROKEN);
        socket::reset(self.socket());
    }

    fn local(&self) -> Result<SocketAddr, NetError> {
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        match socket::local(self.socket()) {
            Ok(address) if address.port() != 0 => Ok(address),
            Ok(_) => Err(NetError::NotConnected),
            Err(errno) => Err(net_error(errno)),
        }
    }

    fn remote(&self) -> SocketAddr {
        match &self.remote {
            Remote::V4(address) => SocketAddr::V4(*address),
            Remote::V6(address) => SocketAddr::V6(**address),
        }
    }

    fn set_no_delay(&self, on: bool) -> Result<(), NetError> {
        self.set(sockopt::TcpNoDelay, on)
    }

    fn set_keep_alive(&self, on: bool) -> Result<(), NetError> {
        self.set(sockopt::KeepAlive, on)
    }

    fn set_keep_alive_times(&self, idle: Duration, interval: Duration) -> Result<(), NetError> {
        self.set(sockopt::TcpKeepIdle, seconds(idle))?;
        self.set(sockopt::TcpKeepInterval, seconds(interval))
    }
}

impl Drop for HostConnection {
    fn drop(&mut self) {
        drop(self.socket.take());
        self.network.descriptor_was_closed();
    }
}

/// In whole seconds, of which the kernel takes 1 to 32767.
fn seconds(time: Duration) -> u32 {
    const SECONDS_MAX: u32 = 32_767;
    u32::try_from(time.as_millis().div_ceil(1000)).unwrap_or(SECONDS_MAX).clamp(1, SECONDS_MAX)
}

fn progress_of(outcome: nix::Result<()>) -> nix::Result<Progress> {
    match outcome {
        Ok(()) => Ok(Progress::Established),
        Err(Errno::EINPROGRESS | Errno::EALREADY) => Ok(Progress::Pending),
        Err(errno) => Err(errno),
    }
}

/// Errors that say something about the buffer or the moment, not about the connection.
fn is_about_the_call(errno: Errno) -> bool {
    matches!(errno, Errno::EFAULT | Errno::EINVAL | Errno::EMSGSIZE | Errno::ENOMEM | Errno::ENOBUFS | Errno::EINTR)
}
