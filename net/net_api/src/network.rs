//! The traits: network, local address, connection.

use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::{DatagramAddress, EventSink, InterfaceEntry, Key, NetError, NetTime, Policy, Readiness, Sharing, Wait};

/// What a network can and cannot do; a scenario that needs more is expected to differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Bytes of urgent data that can be outstanding at once. TCP has one: the next one that is sent before it was received makes it
    /// a byte like any other. `u32::MAX` means that each one keeps its mark, 0 that there is none.
    pub urgent_bytes: u32,
    /// Whether an offer can be refused before the remote side sees the handshake done (C-445), and a full
    /// backlog refuses instead of keeping the remote side waiting.
    pub refuses_before_handshake: bool,
    /// Whether IPv6 addresses can be opened.
    pub ipv6: bool,
    /// Whether the network's time is what [`Network::poll`] is told, not the host's clock.
    pub virtual_time: bool,
    /// The longest datagram that can be sent over IPv4, in bytes.
    pub datagram_bytes_max: u32,
    /// Whether groups can be joined and sent to.
    pub multicast: bool,
    /// Whether a sender hears of datagrams that found nobody.
    pub delivery_errors: bool,
}

/// How far a connection attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The remote side has not answered yet. An event will follow.
    Pending,
    /// The connection is established.
    Established,
}

/// What became of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The network has taken the first so many bytes and no longer needs the buffer.
    Taken(usize),
    /// It can take none now. A watched connection gets [`Readiness::WRITABLE`] when it can.
    WouldBlock,
    /// The connection is over.
    Failed(NetError),
}

/// What became of a receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes were stored; 0 only if no room was given.
    Got(usize),
    /// None is here now. A watched connection gets [`Readiness::READABLE`] when one is.
    WouldBlock,
    /// The remote side has ended its direction and everything before the end was received.
    EndOfStream,
    /// The connection is over.
    Failed(NetError),
}

/// What became of an accept.
pub enum Accepted {
    /// An offer was taken. It is not yet watched. It is established; or, on a network that
    /// [refuses before the handshake](Capabilities::refuses_before_handshake), its handshake waits for
    /// [`Connection::answer`]: until then [`Connection::progress`] is pending and [`Connection::abort`]
    /// refuses it, and [`Readiness::WRITABLE`] tells when it is established.
    Connection(Arc<dyn Connection>),
    /// No offer waits. A later one causes [`Readiness::READABLE`] for the address's key.
    WouldBlock,
    /// One offer was lost or refused, for instance for want of a descriptor; others may be waiting, so
    /// call again until [`Accepted::WouldBlock`].
    Failed(NetError),
    /// The address does not listen.
    NotListening,
}

/// A network.
pub trait Network: Send + Sync {
    /// What may be reached.
    fn policy(&self) -> Policy;

    /// What can be done.
    fn capabilities(&self) -> Capabilities;

    /// The host on which code at `opener` runs: its number and its network, where one process has several hosts. Each of
    /// them has all addresses and ports of its own.
    fn host_of(&self, opener: u64) -> Option<(u16, &dyn Network)> {
        let _ = opener;
        None
    }

    /// Opens a local address for TCP.
    ///
    /// With port 0 the address *floats*: each connection made from it takes an ephemeral port of its
    /// own, until [`LocalAddress::pin`] or [`LocalAddress::listen`] gives it one for all. With any other
    /// port it is pinned from the start, and the port is held until the address is dropped.
    ///
    /// # Errors
    /// [`NetError::AddressInUse`], [`NetError::AddressNotAvailable`] (not an address of this host),
    /// [`NetError::Denied`], [`NetError::OutOfDescriptors`].
    fn open_address(&self, local: SocketAddr) -> Result<Arc<dyn LocalAddress>, NetError>;

    /// As [`Network::open_address`], for an address that others may overlap which are opened so, too: one of them is
    /// unspecified, the other is not, and the port is the same. An offer goes to the one that is exactly the address
    /// that was called, if that one listens. A network that cannot do this refuses the second.
    ///
    /// # Errors
    /// As [`Network::open_address`].
    fn open_shared_address(&self, local: SocketAddr) -> Result<Arc<dyn LocalAddress>, NetError> {
        self.open_address(local)
    }

    /// Opens a local address for UDP. It gets its port now, whether or not one is asked for.
    ///
    /// # Errors
    /// As [`Network::open_address`].
    fn open_datagram_address(&self, local: SocketAddr, sharing: Sharing) -> Result<Arc<dyn DatagramAddress>, NetError>;

    /// The interfaces of the host whose network this is, as far as the policy shows them, by number. None by default.
    fn interfaces(&self) -> Vec<InterfaceEntry> {
        Vec::new()
    }

    /// Says what time it is, for networks in virtual time: calls from now on happen then. Whoever lets time
    /// go on without a [`Network::poll`] says so before the next call.
    fn advance(&self, _now: NetTime) {}

    /// Lets the network work: delivers events to `sink` on this thread, blocking as long as `wait`
    /// allows for the first. Returns how many were delivered; 0 means that the time is up or that
    /// [`Network::wake`] was called.
    ///
    /// One thread polls at a time, and the caller sees to that: two would deliver events of one
    /// connection side by side, and a wake reaches only one of them.
    fn poll(&self, now: NetTime, wait: Wait, sink: &dyn EventSink) -> usize;

    /// Makes the running [`Network::poll`], or else the next one, return soon. Any thread, any time.
    fn wake(&self);

    /// When the network has something to do without outside cause, for networks in virtual time: the
    /// caller polls then at the latest. `None` if nothing is due.
    fn next_deadline(&self) -> Option<NetTime>;
}

/// A local address: where connections come from and where offers arrive.
///
/// Connections outlive it. Dropping the last reference gives the port back and refuses offers that
/// nobody accepted.
pub trait LocalAddress: Send + Sync {
    /// The address as opened, with the port it has now: 0 while it floats.
    fn local(&self) -> SocketAddr;

    /// Gives a floating address a port of its own and returns the address; does nothing to a pinned one.
    /// Connections made before keep their ports.
    ///
    /// # Errors
    /// [`NetError::AddressInUse`] (no ephemeral port is free), [`NetError::OutOfDescriptors`].
    fn pin(&self) -> Result<SocketAddr, NetError>;

    /// As [`LocalAddress::pin`], to `port`, which one of the address's connections has and
    /// [shares](Connection::share_port); to another one if that cannot be.
    ///
    /// # Errors
    /// As [`LocalAddress::pin`].
    fn pin_to(&self, port: u16) -> Result<SocketAddr, NetError> {
        let _ = port;
        self.pin()
    }

    /// Starts a connection to `remote`. Many connections complete, or fail, before this returns. One
    /// that is [`Progress::Pending`] is watched under `key`; one that is established is not
    /// watched yet.
    ///
    /// # Errors
    /// Whatever made the attempt fail at once. Nothing is left behind then.
    fn connect(&self, remote: SocketAddr, key: Key) -> Result<(Arc<dyn Connection>, Progress), NetError>;

    /// Begins to take offers, up to `backlog` unaccepted ones; pins the address. An event for `key`
    /// says that [`LocalAddress::accept`] has something to say. Listening again changes nothing.
    ///
    /// # Errors
    /// [`NetError::AddressInUse`], [`NetError::OutOfDescriptors`].
    fn listen(&self, backlog: u32, key: Key) -> Result<(), NetError>;

    /// Stops taking offers; those not accepted are refused. The port stays.
    fn stop_listening(&self);

    /// Takes the oldest offer. To refuse one, [`Connection::abort`] it.
    fn accept(&self) -> Accepted;
}

/// A connection, from the first packet of its handshake to its end.
///
/// Dropping the last reference closes it: bytes already taken by [`Connection::send`] still arrive,
/// followed by an orderly end; but if received bytes are unread the remote side is told of an abort.
///
/// Every operation may be called from any thread, and two at once.
pub trait Connection: Send + Sync {
    /// How far the attempt is; to be asked after an event on a pending connection.
    ///
    /// # Errors
    /// Why the attempt failed; asking again gives the same answer.
    fn progress(&self) -> Result<Progress, NetError>;

    /// Begins to report readiness under `key`, at once if there is any. The first key stays; watching
    /// again costs next to nothing, so call it whenever an operation would block.
    ///
    /// # Errors
    /// [`NetError::OutOfMemory`]; the connection is as it was.
    fn watch(&self, key: Key) -> Result<(), NetError>;

    /// Accepts an offer: its handshake is answered. Does nothing where the network has answered by itself, and to all
    /// other connections. To be watched before, or its progress may go unnoticed.
    fn answer(&self) {}

    /// Hears what the sink was told. Without it an implementation may go on answering `WouldBlock`
    /// from memory.
    fn handle_ready(&self, ready: Readiness);

    /// Lets the floating address that the connection was made from have its port, too, and gives it: see
    /// [`LocalAddress::pin_to`]. `None` if it cannot.
    fn share_port(&self) -> Option<u16> {
        None
    }

    /// Sends bytes, gathered from `data`; as many as the network takes. Sending none takes none.
    fn send(&self, data: &[IoSlice<'_>]) -> Sent;

    /// Sends one urgent byte in its place in the stream.
    fn send_urgent(&self, byte: u8) -> Sent;

    /// Receives what is here, scattered into `into`. It stops before an urgent mark and begins again
    /// with the urgent byte.
    fn receive(&self, into: &mut [IoSliceMut<'_>]) -> Received;

    /// As [`Connection::receive`], but what was shown stays to be received.
    fn peek(&self, into: &mut [IoSliceMut<'_>]) -> Received;

    /// Whether the next byte to be received is an urgent one. Cheap enough to be asked before every receive.
    fn is_at_urgent_mark(&self) -> bool;

    /// Whether bytes are here that nobody received.
    fn has_unread(&self) -> bool;

    /// Ends this direction in an orderly way, after everything sent.
    ///
    /// # Errors
    /// [`NetError::NotConnected`], or why the connection is over.
    fn shutdown_send(&self) -> Result<(), NetError>;

    /// Ends the connection now: what was not delivered is discarded, the remote side is told of an
    /// abort, and every later operation fails with [`NetError::Aborted`]. A pending attempt is given up.
    fn abort(&self);

    /// This end's address.
    ///
    /// # Errors
    /// [`NetError::NotConnected`] while it has none.
    fn local(&self) -> Result<SocketAddr, NetError>;

    /// The other end's address.
    fn remote(&self) -> SocketAddr;

    /// Whether small sends go out at once instead of being collected.
    ///
    /// # Errors
    /// Why the connection is over.
    fn set_no_delay(&self, on: bool) -> Result<(), NetError>;

    /// Whether an idle connection is probed.
    ///
    /// # Errors
    /// Why the connection is over.
    fn set_keep_alive(&self, on: bool) -> Result<(), NetError>;

    /// How long a connection is idle before it is probed, and how long a probe waits for its answer. What the network
    /// cannot count exactly it rounds up.
    ///
    /// # Errors
    /// Why the connection is over.
    fn set_keep_alive_times(&self, idle: Duration, interval: Duration) -> Result<(), NetError>;
}

/// Whether `remote` is one node's address to connect to at all: not "any", not everybody's, and with a port.
pub fn is_connectable(remote: SocketAddr) -> bool {
    let ip = remote.ip();
    remote.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && ip != IpAddr::V4(Ipv4Addr::BROADCAST)
}
