//! Which NTSTATUS a failure gets: the two tables of chapter 12.
//!
//! [`Situation`] is table 12.1 with its column "rec"; [`fate`] is table 12.2. Nothing else in this
//! crate picks a status for an illegal request or for a request that ends without success.

use nt_abi::NtStatus;

use crate::network::NetworkError;

/// A request in a state where it is illegal (table 12.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Situation {
    /// ASSOCIATE on an associated endpoint (C-242, C-243).
    AlreadyAssociated,
    /// ASSOCIATE after the cleanup (C-245).
    AssociateCleanedUp,
    /// DISASSOCIATE without an association (C-254), also after the cleanup, which undid it.
    NotAssociated,
    /// DISASSOCIATE while active (C-255).
    StillActive,
    /// CONNECT or LISTEN without an association (C-265, C-288).
    SetupNotAssociated,
    /// CONNECT or LISTEN while active (C-266, C-289).
    SetupNotIdle,
    /// ACCEPT with nothing offered, or with an offer that is answered already (C-311).
    NothingOffered,
    /// An AcceptIrp whose endpoint is not associated and idle (C-312).
    AcceptIrpNotIdle,
    /// DISCONNECT without any connection activity (C-341).
    NoConnection,
    /// DISCONNECT RELEASE when the local side has released already (C-342).
    AlreadyReleased,
    /// SEND without a connection (C-376).
    SendNotConnected,
    /// SEND after the local release (C-330, C-377).
    SendAfterRelease,
    /// RECEIVE without a connection (C-401).
    ReceiveNotConnected,
    /// A cancellable request after the cleanup of its endpoint (C-165).
    CleanedUp,
}

impl Situation {
    /// All of them, for the exported table.
    pub const ALL: [Self; 14] = [
        Self::AlreadyAssociated,
        Self::AssociateCleanedUp,
        Self::NotAssociated,
        Self::StillActive,
        Self::SetupNotAssociated,
        Self::SetupNotIdle,
        Self::NothingOffered,
        Self::AcceptIrpNotIdle,
        Self::NoConnection,
        Self::AlreadyReleased,
        Self::SendNotConnected,
        Self::SendAfterRelease,
        Self::ReceiveNotConnected,
        Self::CleanedUp,
    ];

    /// The status that the request completes with.
    pub const fn status(self) -> NtStatus {
        match self {
            Self::StillActive => NtStatus::CONNECTION_ACTIVE,
            Self::CleanedUp => NtStatus::CANCELLED,
            Self::AlreadyAssociated
            | Self::AssociateCleanedUp
            | Self::NotAssociated
            | Self::SetupNotAssociated
            | Self::SetupNotIdle
            | Self::NothingOffered
            | Self::AcceptIrpNotIdle
            | Self::NoConnection
            | Self::AlreadyReleased
            | Self::SendNotConnected
            | Self::SendAfterRelease
            | Self::ReceiveNotConnected => NtStatus::INVALID_CONNECTION,
        }
    }

    /// In words, as in the first column of table 12.1.
    pub const fn words(self) -> &'static str {
        match self {
            Self::AlreadyAssociated => "ASSOCIATE, already associated",
            Self::AssociateCleanedUp => "ASSOCIATE after CLEANUP",
            Self::NotAssociated => "DISASSOCIATE, not associated",
            Self::StillActive => "DISASSOCIATE, active",
            Self::SetupNotAssociated => "CONNECT / LISTEN, not associated",
            Self::SetupNotIdle => "CONNECT / LISTEN, not idle",
            Self::NothingOffered => "ACCEPT, nothing offered",
            Self::AcceptIrpNotIdle => "AcceptIrp, endpoint not associated and idle",
            Self::NoConnection => "DISCONNECT, no connection",
            Self::AlreadyReleased => "DISCONNECT, RELEASE already given",
            Self::SendNotConnected => "SEND, not connected",
            Self::SendAfterRelease => "SEND, after local release",
            Self::ReceiveNotConnected => "RECEIVE, not connected",
            Self::CleanedUp => "any cancellable request after CLEANUP",
        }
    }
}

/// DISCONNECT with more than one flag, or an unknown one (C-325, table 12.1).
pub const BAD_DISCONNECT_FLAGS: NtStatus = NtStatus::INVALID_PARAMETER;
/// ASSOCIATE with an address that is being closed (C-240, table 12.1).
pub const ASSOCIATE_CLOSED_ADDRESS: NtStatus = NtStatus::INVALID_HANDLE;
/// LISTEN through an address whose file object is closed: no offer would ever come (C-178).
pub const LISTEN_CLOSED_ADDRESS: NtStatus = NtStatus::ADDRESS_CLOSED;
/// A TDI_RECEIVE without room: nothing it could complete with would be true (C-396).
pub const EMPTY_RECEIVE: NtStatus = NtStatus::INVALID_PARAMETER;

/// What a pending request was for: the columns of table 12.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum During {
    /// CONNECT.
    Connecting,
    /// LISTEN, or ACCEPT.
    Accepting,
    /// SEND.
    Sending,
    /// RECEIVE.
    Receiving,
    /// DISCONNECT with RELEASE or WAIT.
    Releasing,
}

impl During {
    /// All of them, for the exported table.
    pub const ALL: [Self; 5] = [Self::Connecting, Self::Accepting, Self::Sending, Self::Receiving, Self::Releasing];
}

/// Why a pending request ends without having succeeded: the rows of table 12.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The client cancelled it.
    Cancelled,
    /// DISCONNECT with ABORT or 0, or another request was cancelled that takes the connection along
    /// (C-579).
    LocalAbort,
    /// The network lost the connection, or could not make it.
    Broken(NetworkError),
    /// The time limit of a CONNECT, RELEASE or WAIT ran out.
    TimedOut,
    /// The endpoint's last handle was closed.
    CleanedUp,
    /// The address's last handle was closed.
    AddressClosed,
}

/// Table 12.2 (C-525): the status of a request that ends that way. C-066, C-268, C-269, C-272, C-345,
/// C-378, C-398 and C-399 are cells of it.
pub const fn fate(cause: Cause, during: During) -> NtStatus {
    match cause {
        Cause::Cancelled | Cause::CleanedUp => NtStatus::CANCELLED,
        Cause::LocalAbort => NtStatus::CONNECTION_ABORTED,
        Cause::AddressClosed => NtStatus::ADDRESS_CLOSED,
        Cause::TimedOut => match during {
            During::Connecting | During::Accepting | During::Releasing => NtStatus::IO_TIMEOUT,
            During::Sending | During::Receiving => NtStatus::CONNECTION_ABORTED,
        },
        Cause::Broken(error) => match (during, error) {
            (During::Connecting, _) => not_connected(error),
            (_, NetworkError::Refused | NetworkError::Reset) => NtStatus::CONNECTION_RESET,
            (During::Accepting | During::Sending | During::Releasing, NetworkError::TimedOut) => NtStatus::IO_TIMEOUT,
            (_, _) => NtStatus::CONNECTION_ABORTED,
        },
    }
}

const fn not_connected(error: NetworkError) -> NtStatus {
    match error {
        NetworkError::Refused | NetworkError::Reset => NtStatus::CONNECTION_REFUSED,
        NetworkError::TimedOut => NtStatus::IO_TIMEOUT,
        NetworkError::NetworkUnreachable => NtStatus::NETWORK_UNREACHABLE,
        NetworkError::HostUnreachable => NtStatus::HOST_UNREACHABLE,
        NetworkError::ProtocolUnreachable => NtStatus::PROTOCOL_UNREACHABLE,
        NetworkError::PortUnreachable => NtStatus::PORT_UNREACHABLE,
        NetworkError::AddressInUse => NtStatus::ADDRESS_ALREADY_EXISTS,
        NetworkError::AddressNotAvailable => NtStatus::INVALID_ADDRESS,
        NetworkError::AccessDenied => NtStatus::ACCESS_DENIED,
        NetworkError::NoResources => NtStatus::INSUFFICIENT_RESOURCES,
        NetworkError::Aborted => NtStatus::CONNECTION_ABORTED,
    }
}
