//! Why a network operation failed.

use std::fmt;

/// What a run may reach; the `--net` choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Policy {
    /// No network at all.
    None,
    /// The host's loopback addresses only; wildcard binds become 127.0.0.1 or ::1.
    Loopback,
    /// Everything the host can reach.
    Host,
    /// An in-process network.
    Simulated,
}

impl Policy {
    /// The name used on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Loopback => "loopback",
            Self::Host => "host",
            Self::Simulated => "sim",
        }
    }
}

/// Why a network operation failed. The space is closed: a transport can map every member to an
/// NTSTATUS, and whatever the host reports beyond it keeps its number in [`NetError::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NetError {
    /// Nobody listens at the remote address.
    Refused,
    /// No route to the remote network.
    NetworkUnreachable,
    /// The remote host does not answer.
    HostUnreachable,
    /// The remote side stopped answering, during the handshake or later.
    TimedOut,
    /// The remote side aborted the connection.
    Reset,
    /// This side aborted the connection, see [`Connection::abort`](crate::Connection::abort).
    Aborted,
    /// The operation needs a connection that is established.
    NotConnected,
    /// The local address is in use.
    AddressInUse,
    /// The address is not one of this host's, is no address to connect to
    /// ([`is_connectable`](crate::is_connectable)), or the pair of local port and remote address is already taken by another connection.
    AddressNotAvailable,
    /// No descriptor is left in this process or on the host.
    OutOfDescriptors,
    /// The host is short of memory for network buffers.
    OutOfMemory,
    /// A datagram longer than the network, or the way to the remote host, can carry.
    TooLong,
    /// The policy forbids it.
    Denied(Policy),
    /// This network has no such service, see [`Capabilities`](crate::Capabilities).
    Unsupported,
    /// Anything else, as the host's error number.
    Other(i32),
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Refused => "connection refused: nobody listens at the remote address",
            Self::NetworkUnreachable => "no route to the remote network",
            Self::HostUnreachable => "the remote host cannot be reached",
            Self::TimedOut => "the remote side does not answer",
            Self::Reset => "connection reset by the remote side",
            Self::Aborted => "connection aborted by this side",
            Self::NotConnected => "not connected",
            Self::AddressInUse => "the local address is in use",
            Self::AddressNotAvailable => "the address is not available",
            Self::OutOfDescriptors => "no descriptor left; raise the limit (ulimit -n)",
            Self::OutOfMemory => "the host is short of network memory",
            Self::TooLong => "the datagram is too long for the network",
            Self::Denied(Policy::None) => "denied: this run has no network (`--net none`)",
            Self::Denied(Policy::Loopback) => {
                "denied: `--net loopback` reaches only 127.0.0.0/8 and ::1; `--net host` reaches other hosts"
            }
            Self::Denied(policy) => return write!(f, "denied by the network policy `{}`", policy.name()),
            Self::Unsupported => "not supported by this network",
            Self::Other(number) => return write!(f, "host error {number}"),
        };
        f.write_str(text)
    }
}

impl std::error::Error for NetError {}
