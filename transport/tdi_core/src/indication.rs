//! Calls of a client's event handlers, and what the handlers answer.

use alloc::vec::Vec;

use nt_abi::NtStatus;

use crate::ids::RequestId;

/// A registered event handler. Routine and context always travel together (C-585).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handler {
    /// The driver's routine, never called by the core; 0 for none.
    pub routine: u64,
    /// `TdiEventContext` (C-419).
    pub context: u64,
}

impl Handler {
    /// No handler.
    pub const NONE: Self = Self { routine: 0, context: 0 };

    /// Is there a routine?
    pub const fn is_registered(self) -> bool {
        self.routine != 0
    }
}

/// The handlers of an address that are called for connections of its endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionHandlers {
    /// TDI_EVENT_DISCONNECT.
    pub disconnect: Handler,
    /// TDI_EVENT_RECEIVE.
    pub receive: Handler,
    /// TDI_EVENT_RECEIVE_EXPEDITED.
    pub receive_expedited: Handler,
    /// TDI_EVENT_CHAINED_RECEIVE: shown all normal data, in place of the plain handler (C-503).
    pub chained_receive: Handler,
}

/// A handler to call with no lock held, at DISPATCH_LEVEL. The next client call of the endpoint is
/// withheld until [`crate::Endpoint::handle_indication_result`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Indication {
    /// ClientEventReceive, ClientEventReceiveExpedited or ClientEventChainedReceive.
    Receive {
        /// Whom to call.
        handler: Handler,
        /// ClientEventChainedReceive, which may keep the bytes.
        is_chained: bool,
        /// `ReceiveFlags`: NORMAL or EXPEDITED, and ENTIRE_MESSAGE; the caller adds
        /// AT_DISPATCH_LEVEL and whatever else it knows (C-470, C-474).
        flags: u32,
        /// The bytes, from `start` on; stable until they are given back with the result.
        data: Vec<u8>,
        /// Where the bytes to indicate begin in `data`. `BytesIndicated` and `BytesAvailable` both
        /// are `data.len() - start`, at least 1.
        start: usize,
    },
    /// ClientEventDisconnect.
    Disconnect {
        /// Whom to call.
        handler: Handler,
        /// `nt_abi::tdi::disconnect_flags::RELEASE` or `ABORT` (C-448, C-449).
        flags: u32,
    },
}

/// What a handler did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndicationResult {
    /// Answer to [`Indication::Receive`]. A chained handler has taken everything or nothing.
    Receive {
        /// What the handler returned.
        status: NtStatus,
        /// `BytesTaken` after the call.
        taken: u32,
        /// The IRP it returned with MORE_PROCESSING_REQUIRED, adopted by the caller, or `None` if
        /// it returned none, or one that is not a TDI_RECEIVE on this endpoint (the caller
        /// completes that with an error, C-589).
        receive: Option<ReturnedReceive>,
        /// The indication's `data`.
        data: Vec<u8>,
    },
    /// Answer to a chained [`Indication::Receive`]: all of it is taken, and the client keeps the bytes (C-500).
    Kept,
    /// Answer to [`Indication::Disconnect`]; the status is ignored (C-453).
    Disconnect,
}

/// A TDI_RECEIVE that a receive handler returned (C-479). It is a request like any other and is
/// completed through a [`crate::Completion`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReturnedReceive {
    /// The caller's id for it.
    pub id: RequestId,
    /// `ReceiveLength`.
    pub length: u32,
    /// `ReceiveFlags`.
    pub flags: u32,
}

/// A rule the client broke, for the verdict; the core has already coped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFault {
    /// BytesTaken above BytesAvailable; the value was cut (C-588).
    TookMoreThanAvailable {
        /// What the handler claimed.
        taken: u32,
        /// What it was shown.
        available: u32,
    },
}
