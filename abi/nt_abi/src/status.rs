//! NTSTATUS values (C-063, C-065, K- rules).

use crate::open_enum;

open_enum! {
    /// An NTSTATUS. Not an error type: `PENDING` and `TIMEOUT` are successes (C-069).
    #[doc(alias = "NTSTATUS")]
    pub enum NtStatus : u32 {
        /// Also `STATUS_WAIT_0`.
        SUCCESS = 0x0000_0000,
        #[allow(missing_docs)] ABANDONED_WAIT_0 = 0x0000_0080,
        #[allow(missing_docs)] USER_APC = 0x0000_00C0,
        #[allow(missing_docs)] ALERTED = 0x0000_0101,
        #[allow(missing_docs)] TIMEOUT = 0x0000_0102,
        #[allow(missing_docs)] PENDING = 0x0000_0103,
        #[allow(missing_docs)] REPARSE = 0x0000_0104,
        #[allow(missing_docs)] MORE_ENTRIES = 0x0000_0105,
        #[allow(missing_docs)] OBJECT_NAME_EXISTS = 0x4000_0000,
        #[allow(missing_docs)] GUARD_PAGE_VIOLATION = 0x8000_0001,
        #[allow(missing_docs)] DATATYPE_MISALIGNMENT = 0x8000_0002,
        #[allow(missing_docs)] BREAKPOINT = 0x8000_0003,
        #[allow(missing_docs)] SINGLE_STEP = 0x8000_0004,
        #[allow(missing_docs)] BUFFER_OVERFLOW = 0x8000_0005,
        #[allow(missing_docs)] INVALID_EA_NAME = 0x8000_0013,
        #[allow(missing_docs)] EA_LIST_INCONSISTENT = 0x8000_0014,
        #[allow(missing_docs)] NO_MORE_ENTRIES = 0x8000_001A,
        #[allow(missing_docs)] UNSUCCESSFUL = 0xC000_0001,
        #[allow(missing_docs)] NOT_IMPLEMENTED = 0xC000_0002,
        #[allow(missing_docs)] INVALID_INFO_CLASS = 0xC000_0003,
        #[allow(missing_docs)] INFO_LENGTH_MISMATCH = 0xC000_0004,
        #[allow(missing_docs)] ACCESS_VIOLATION = 0xC000_0005,
        #[allow(missing_docs)] INVALID_HANDLE = 0xC000_0008,
        #[allow(missing_docs)] INVALID_PARAMETER = 0xC000_000D,
        #[allow(missing_docs)] NO_SUCH_DEVICE = 0xC000_000E,
        #[allow(missing_docs)] NO_SUCH_FILE = 0xC000_000F,
        #[allow(missing_docs)] INVALID_DEVICE_REQUEST = 0xC000_0010,
        #[allow(missing_docs)] END_OF_FILE = 0xC000_0011,
        #[allow(missing_docs)] MORE_PROCESSING_REQUIRED = 0xC000_0016,
        #[allow(missing_docs)] NO_MEMORY = 0xC000_0017,
        #[allow(missing_docs)] ILLEGAL_INSTRUCTION = 0xC000_001D,
        #[allow(missing_docs)] ACCESS_DENIED = 0xC000_0022,
        #[allow(missing_docs)] BUFFER_TOO_SMALL = 0xC000_0023,
        #[allow(missing_docs)] OBJECT_TYPE_MISMATCH = 0xC000_0024,
        #[allow(missing_docs)] NONCONTINUABLE_EXCEPTION = 0xC000_0025,
        #[allow(missing_docs)] INVALID_DISPOSITION = 0xC000_0026,
        #[allow(missing_docs)] UNWIND = 0xC000_0027,
        #[allow(missing_docs)] BAD_STACK = 0xC000_0028,
        #[allow(missing_docs)] INVALID_UNWIND_TARGET = 0xC000_0029,
        #[allow(missing_docs)] OBJECT_NAME_INVALID = 0xC000_0033,
        #[allow(missing_docs)] OBJECT_NAME_NOT_FOUND = 0xC000_0034,
        #[allow(missing_docs)] OBJECT_NAME_COLLISION = 0xC000_0035,
        #[allow(missing_docs)] OBJECT_PATH_INVALID = 0xC000_0039,
        #[allow(missing_docs)] OBJECT_PATH_NOT_FOUND = 0xC000_003A,
        #[allow(missing_docs)] OBJECT_PATH_SYNTAX_BAD = 0xC000_003B,
        #[allow(missing_docs)] SHARING_VIOLATION = 0xC000_0043,
        #[allow(missing_docs)] MUTANT_NOT_OWNED = 0xC000_0046,
        #[allow(missing_docs)] SEMAPHORE_LIMIT_EXCEEDED = 0xC000_0047,
        #[allow(missing_docs)] NONEXISTENT_EA_ENTRY = 0xC000_0051,
        #[allow(missing_docs)] DELETE_PENDING = 0xC000_0056,
        #[allow(missing_docs)] INSUFFICIENT_RESOURCES = 0xC000_009A,
        #[allow(missing_docs)] ARRAY_BOUNDS_EXCEEDED = 0xC000_008C,
        #[allow(missing_docs)] FLOAT_DENORMAL_OPERAND = 0xC000_008D,
        #[allow(missing_docs)] FLOAT_DIVIDE_BY_ZERO = 0xC000_008E,
        #[allow(missing_docs)] FLOAT_INEXACT_RESULT = 0xC000_008F,
        #[allow(missing_docs)] FLOAT_INVALID_OPERATION = 0xC000_0090,
        #[allow(missing_docs)] FLOAT_OVERFLOW = 0xC000_0091,
        #[allow(missing_docs)] FLOAT_UNDERFLOW = 0xC000_0093,
        #[allow(missing_docs)] INTEGER_DIVIDE_BY_ZERO = 0xC000_0094,
        #[allow(missing_docs)] INTEGER_OVERFLOW = 0xC000_0095,
        #[allow(missing_docs)] PRIVILEGED_INSTRUCTION = 0xC000_0096,
        #[allow(missing_docs)] DEVICE_NOT_READY = 0xC000_00A3,
        #[allow(missing_docs)] IO_TIMEOUT = 0xC000_00B5,
        #[allow(missing_docs)] NOT_SUPPORTED = 0xC000_00BB,
        #[allow(missing_docs)] REMOTE_NOT_LISTENING = 0xC000_00BC,
        #[allow(missing_docs)] BAD_NETWORK_PATH = 0xC000_00BE,
        #[allow(missing_docs)] INTERNAL_ERROR = 0xC000_00E5,
        #[allow(missing_docs)] IMAGE_ALREADY_LOADED = 0xC000_010E,
        #[allow(missing_docs)] CANCELLED = 0xC000_0120,
        #[allow(missing_docs)] FILE_CLOSED = 0xC000_0128,
        #[allow(missing_docs)] LOCAL_DISCONNECT = 0xC000_013B,
        #[allow(missing_docs)] REMOTE_DISCONNECT = 0xC000_013C,
        /// The documentation's "invalid connection" (C-064).
        INVALID_CONNECTION = 0xC000_0140,
        #[allow(missing_docs)] INVALID_ADDRESS = 0xC000_0141,
        #[allow(missing_docs)] UNHANDLED_EXCEPTION = 0xC000_0144,
        #[allow(missing_docs)] INVALID_DEVICE_STATE = 0xC000_0184,
        #[allow(missing_docs)] INVALID_BUFFER_SIZE = 0xC000_0206,
        #[allow(missing_docs)] INVALID_ADDRESS_COMPONENT = 0xC000_0207,
        #[allow(missing_docs)] TOO_MANY_ADDRESSES = 0xC000_0209,
        #[allow(missing_docs)] ADDRESS_ALREADY_EXISTS = 0xC000_020A,
        #[allow(missing_docs)] ADDRESS_CLOSED = 0xC000_020B,
        #[allow(missing_docs)] CONNECTION_DISCONNECTED = 0xC000_020C,
        #[allow(missing_docs)] CONNECTION_RESET = 0xC000_020D,
        #[allow(missing_docs)] DATA_NOT_ACCEPTED = 0xC000_021B,
        #[allow(missing_docs)] NOT_FOUND = 0xC000_0225,
        #[allow(missing_docs)] CONNECTION_REFUSED = 0xC000_0236,
        #[allow(missing_docs)] GRACEFUL_DISCONNECT = 0xC000_0237,
        #[allow(missing_docs)] ADDRESS_ALREADY_ASSOCIATED = 0xC000_0238,
        #[allow(missing_docs)] ADDRESS_NOT_ASSOCIATED = 0xC000_0239,
        /// tdistat.h's "invalid connection" (C-064).
        CONNECTION_INVALID = 0xC000_023A,
        #[allow(missing_docs)] CONNECTION_ACTIVE = 0xC000_023B,
        #[allow(missing_docs)] NETWORK_UNREACHABLE = 0xC000_023C,
        #[allow(missing_docs)] HOST_UNREACHABLE = 0xC000_023D,
        #[allow(missing_docs)] PROTOCOL_UNREACHABLE = 0xC000_023E,
        #[allow(missing_docs)] PORT_UNREACHABLE = 0xC000_023F,
        #[allow(missing_docs)] REQUEST_ABORTED = 0xC000_0240,
        #[allow(missing_docs)] CONNECTION_ABORTED = 0xC000_0241,
        #[allow(missing_docs)] FLOAT_MULTIPLE_TRAPS = 0xC000_02B5,
        #[allow(missing_docs)] ASSERTION_FAILURE = 0xC000_0420,
    }
}

impl NtStatus {
    /// `NT_SUCCESS`: success or information.
    pub const fn is_success(self) -> bool {
        self.0 < 0x8000_0000
    }

    /// `NT_ERROR`: severity error; warnings are neither success nor error (C-069).
    pub const fn is_error(self) -> bool {
        self.0 >= 0xC000_0000
    }
}
