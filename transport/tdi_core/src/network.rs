//! What the core asks of a network, and what a network tells the core.
//!
//! Commands are carried out by the caller under the endpoint's lock, without blocking, in the
//! order they come. The transfer commands ([`NetworkCommand::Transmit`], [`NetworkCommand::Fill`],
//! [`NetworkCommand::ReadAhead`], [`NetworkCommand::CopyBuffered`]) are answered by exactly one
//! `handle_*` call before the next [`crate::Endpoint::poll_output`]; the others are not answered.
//!
//! Every connection that was begun by `Connect`, or belongs to an endpoint since it took an offer, is
//! ended by exactly one `Abort` or `Close`, also after [`NetworkEvent::Broken`]: that is when the
//! caller lets go of it.

use core::net::SocketAddr;
use core::ops::Range;

use crate::ids::{ConnectionNumber, RequestId};
use crate::time::Instant;

/// One thing the network is to do for an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkCommand {
    /// Start a connection from the associated address to `remote`. The answer is
    /// [`NetworkEvent::Connected`] or [`NetworkEvent::Broken`], at once or later. The core gives
    /// up by itself at `deadline`, through [`crate::Endpoint::handle_timeout`].
    Connect {
        /// Which connection of this endpoint events have to name.
        connection: ConnectionNumber,
        /// Where to.
        remote: SocketAddr,
        /// When the core gives up.
        deadline: Instant,
    },
    /// Put the offered connection into use. Answer as for `Connect`; a network whose offers are
    /// complete connections answers at once.
    Accept {
        /// The number that the offer's connection has from now on.
        connection: ConnectionNumber,
    },
    /// Write bytes of the request's MDL chain; answer with [`crate::Endpoint::handle_sent`].
    Transmit {
        /// Whose bytes.
        id: RequestId,
        /// First byte, counted from the start of the chain.
        offset: u32,
        /// Bytes; never 0.
        length: u32,
        /// As urgent data (C-365).
        expedited: bool,
    },
    /// Read from the network directly into the request's MDL chain; answer with
    /// [`crate::Endpoint::handle_filled`].
    Fill {
        /// Whose buffer.
        id: RequestId,
        /// First free byte, counted from the start of the chain.
        offset: u32,
        /// Room; never 0.
        length: u32,
    },
    /// Read from the network into [`crate::Endpoint::read_ahead_space`]; answer with
    /// [`crate::Endpoint::handle_read_ahead`].
    ReadAhead {
        /// Length of that space; never 0.
        length: usize,
    },
    /// Copy [`crate::Endpoint::buffered`]`(source, range)` into the request's MDL chain; answer with
    /// [`crate::Endpoint::handle_copied`].
    CopyBuffered {
        /// Whose buffer.
        id: RequestId,
        /// First free byte, counted from the start of the chain.
        offset: u32,
        /// Normal or expedited data.
        source: DataKind,
        /// Which buffered bytes; never empty.
        range: Range<usize>,
    },
    /// Send FIN after everything written so far; go on receiving.
    ShutdownSend {
        /// Of which connection.
        connection: ConnectionNumber,
    },
    /// Send RST, discard what is queued, forget the connection. An offer that was not yet
    /// accepted is refused that way.
    Abort {
        /// Which connection.
        connection: ConnectionNumber,
    },
    /// Forget the connection in an orderly way: everything written so far still arrives, then
    /// FIN (if it has not been sent). Nothing more is received.
    Close {
        /// Which connection.
        connection: ConnectionNumber,
    },
}

/// The two kinds of data on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataKind {
    /// The stream.
    Normal,
    /// Urgent data, which does not wait for the stream.
    Expedited,
}

/// What happened on the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkEvent {
    /// The connection is up: answer to `Connect` and `Accept`.
    Connected {
        /// The remote transport address.
        remote: SocketAddr,
    },
    /// Reading may succeed again. May be told too often; must be told after each
    /// [`Progress::WouldBlock`] or `exhausted` answer once there is something. Telling it before
    /// a receive is handed in makes the core try the network at once.
    Readable,
    /// Writing may succeed again; as `Readable`.
    Writable,
    /// The remote node's FIN has arrived, though data in front of it may be unread. A hint: the
    /// core finds the end itself by reading, but without the hint it does not read when nobody
    /// wants data. So the caller watches a connection from the start, not from the first
    /// [`Progress::WouldBlock`] on.
    PeerReleased,
    /// The connection is gone, or never came to be. An [`NetworkCommand::Abort`] for it follows.
    Broken(NetworkError),
}

/// How much a transfer command moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Some bytes.
    Moved {
        /// How many; 1 up to the command's length.
        count: u32,
        /// The network would block now (it said so, or the transfer was short and that is proof
        /// enough on this network): the core waits for an event before it tries again.
        exhausted: bool,
    },
    /// None now; an event will tell when to try again.
    WouldBlock,
    /// Reading only: the remote node has released and everything before that has been read.
    Ended,
    /// The connection is gone.
    Broken(NetworkError),
}

/// Why a connection does not exist any more or could not be made. The caller maps what its
/// network says to one of these in one place; [`crate::status`] maps them to NTSTATUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkError {
    /// The remote node has no listener (RST in answer to SYN).
    Refused,
    /// The remote node reset the connection.
    Reset,
    /// No answer: connect attempts or retransmissions ran out.
    TimedOut,
    /// No route to the network.
    NetworkUnreachable,
    /// No route to the host.
    HostUnreachable,
    /// The host does not speak the protocol.
    ProtocolUnreachable,
    /// The host does not serve the port.
    PortUnreachable,
    /// The local address is in use.
    AddressInUse,
    /// The address cannot be used from here.
    AddressNotAvailable,
    /// Policy forbids the destination.
    AccessDenied,
    /// Memory, descriptors or ports ran out.
    NoResources,
    /// Anything else: the network itself ended the connection.
    Aborted,
}

/// An incoming connection (C-432).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The caller's name for it.
    pub id: OfferId,
    /// Who wants to connect.
    pub remote: SocketAddr,
    /// To which local transport address.
    pub local: SocketAddr,
}

pub use crate::ids::OfferId;
