//! What a client asks of an endpoint, and how a request ends.

use core::net::SocketAddr;

use nt_abi::NtStatus;

use crate::ids::RequestId;

/// A TDI request on a connection endpoint that may pend.
///
/// ASSOCIATE and DISASSOCIATE never pend (C-233) and have methods of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// TDI_CONNECT (C-262 ff.). `RequestFlags` of the IRP is garbage (C-190) and not asked for.
    Connect {
        /// The first usable element of the remote address; see
        /// [`crate::transport_address::parse_remote`], whose error completes the request.
        remote: SocketAddr,
        /// 100-ns units to wait, or `None` for [`crate::Config::connect_timeout`].
        timeout: Option<u64>,
    },
    /// TDI_LISTEN (C-286 ff.).
    Listen {
        /// Only an offer from here completes the listen; see [`RemoteFilter`] (C-290).
        filter: RemoteFilter,
        /// `TDI_QUERY_ACCEPT`: hold the offer for a TDI_ACCEPT (C-294).
        query_accept: bool,
    },
    /// TDI_ACCEPT after a listen with `query_accept` (C-309).
    Accept,
    /// TDI_DISCONNECT (C-322 ff.).
    Disconnect {
        /// `nt_abi::tdi::disconnect_flags`, exactly as the client gave them (low 32 bits).
        flags: u32,
        /// 100-ns units to wait for the remote node, or `None` for no limit (C-343, C-584).
        timeout: Option<u64>,
    },
    /// TDI_SEND, or IRP_MJ_WRITE with flags 0 (C-357 ff., C-216).
    Send {
        /// Bytes; the caller has checked that the MDL chain holds them.
        length: u32,
        /// `nt_abi::tdi::send_flags`.
        flags: u32,
    },
    /// TDI_RECEIVE, or IRP_MJ_READ with flags NORMAL (C-381 ff., C-216).
    Receive {
        /// Bytes; the caller has checked that the MDL chain has room for them.
        length: u32,
        /// `nt_abi::tdi::receive_flags`.
        flags: u32,
    },
}

/// From whom a listen takes an offer (C-290, C-291): each part that is given must match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoteFilter {
    /// `None` takes any remote. An unspecified IP address or port 0 in it takes any.
    pub remote: Option<SocketAddr>,
}

impl RemoteFilter {
    /// Takes any remote.
    pub const ANY: Self = Self { remote: None };

    /// Does an offer from `remote` pass?
    pub fn matches(self, remote: SocketAddr) -> bool {
        self.remote.is_none_or(|wanted| {
            (wanted.ip().is_unspecified() || wanted.ip() == remote.ip())
                && (wanted.port() == 0 || wanted.port() == remote.port())
        })
    }
}

/// What became of a request at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "complete the request if it is done"]
pub enum Outcome {
    /// It is over: the caller completes it with this status and Information 0. The core has not
    /// kept the id and will not name it again.
    Done(NtStatus),
    /// The core has it. Exactly one [`Completion`] with its id will come out of
    /// [`crate::Endpoint::poll_output`], perhaps at the next call.
    Taken,
}

/// The end of a request the core had taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Which.
    pub id: RequestId,
    /// For `IoStatus.Status`.
    pub status: NtStatus,
    /// For `IoStatus.Information`: bytes for SEND and RECEIVE, otherwise 0 (C-211).
    pub information: u64,
    /// The remote transport address for `ReturnConnectionInformation`, on success of CONNECT,
    /// LISTEN and ACCEPT (C-277, C-300, C-314). The caller encodes it with
    /// [`crate::transport_address::encode_into`] and completes with that function's status.
    pub peer: Option<SocketAddr>,
}
