//! Statuses as the error numbers that the user mode of Windows knows them by.

use nt_abi::NtStatus;

gate::exports! {
    /// Statuses and errors.
    pub static TABLE in "ntoskrnl.exe";
    "RtlNtStatusToDosError" | "RtlNtStatusToDosErrorNoTeb" = rtl_nt_status_to_dos_error(status: NtStatus) -> u32, rules "K-200";
}

/// `ERROR_MR_MID_NOT_FOUND`: there is no number for the status.
const NONE: u32 = 317;

/// By status. Those of networks first, which drivers translate most.
const ERRORS: [(NtStatus, u32); 85] = [
    (NtStatus::REMOTE_NOT_LISTENING, 51),
    (NtStatus::BAD_NETWORK_PATH, 53),
    (NtStatus::LOCAL_DISCONNECT, 64),
    (NtStatus::REMOTE_DISCONNECT, 64),
    (NtStatus::INVALID_ADDRESS_COMPONENT, 1214),
    (NtStatus::TOO_MANY_ADDRESSES, 68),
    (NtStatus::ADDRESS_ALREADY_EXISTS, 52),
    (NtStatus::ADDRESS_CLOSED, 64),
    (NtStatus::CONNECTION_DISCONNECTED, 64),
    (NtStatus::CONNECTION_RESET, 64),
    (NtStatus::CONNECTION_REFUSED, 1225),
    (NtStatus::GRACEFUL_DISCONNECT, 1226),
    (NtStatus::ADDRESS_ALREADY_ASSOCIATED, 1227),
    (NtStatus::ADDRESS_NOT_ASSOCIATED, 1228),
    (NtStatus::CONNECTION_INVALID, 1229),
    (NtStatus::CONNECTION_ACTIVE, 1230),
    (NtStatus::NETWORK_UNREACHABLE, 1231),
    (NtStatus::HOST_UNREACHABLE, 1232),
    (NtStatus::PROTOCOL_UNREACHABLE, 1233),
    (NtStatus::PORT_UNREACHABLE, 1234),
    (NtStatus::REQUEST_ABORTED, 1235),
    (NtStatus::CONNECTION_ABORTED, 1236),
    (NtStatus::SUCCESS, 0),
    (NtStatus::TIMEOUT, 1460),
    (NtStatus::PENDING, 997),
    (NtStatus::BUFFER_OVERFLOW, 234),
    (NtStatus::NO_MORE_FILES, 18),
    (NtStatus::NO_MORE_ENTRIES, 259),
    (NtStatus::UNSUCCESSFUL, 31),
    (NtStatus::NOT_IMPLEMENTED, 1),
    (NtStatus::INVALID_INFO_CLASS, 87),
    (NtStatus::INFO_LENGTH_MISMATCH, 24),
    (NtStatus::ACCESS_VIOLATION, 998),
    (NtStatus::INVALID_HANDLE, 6),
    (NtStatus::INVALID_CID, 87),
    (NtStatus::INVALID_PARAMETER, 87),
    (NtStatus::INVALID_PARAMETER_1, 87),
    (NtStatus::INVALID_PARAMETER_2, 87),
    (NtStatus::INVALID_PARAMETER_3, 87),
    (NtStatus::INVALID_PARAMETER_4, 87),
    (NtStatus::INVALID_PARAMETER_5, 87),
    (NtStatus::INVALID_PARAMETER_8, 87),
    (NtStatus::INVALID_PARAMETER_MIX, 87),
    (NtStatus::NO_SUCH_DEVICE, 2),
    (NtStatus::NO_SUCH_FILE, 2),
    (NtStatus::INVALID_DEVICE_REQUEST, 1),
    (NtStatus::END_OF_FILE, 38),
    (NtStatus::MORE_PROCESSING_REQUIRED, 234),
    (NtStatus::NO_MEMORY, 8),
    (NtStatus::ACCESS_DENIED, 5),
    (NtStatus::BUFFER_TOO_SMALL, 122),
    (NtStatus::OBJECT_TYPE_MISMATCH, 6),
    (NtStatus::OBJECT_NAME_INVALID, 123),
    (NtStatus::OBJECT_NAME_NOT_FOUND, 2),
    (NtStatus::OBJECT_NAME_COLLISION, 183),
    (NtStatus::OBJECT_PATH_INVALID, 161),
    (NtStatus::OBJECT_PATH_NOT_FOUND, 3),
    (NtStatus::OBJECT_PATH_SYNTAX_BAD, 161),
    (NtStatus::SHARING_VIOLATION, 32),
    (NtStatus::MUTANT_NOT_OWNED, 288),
    (NtStatus::SEMAPHORE_LIMIT_EXCEEDED, 298),
    (NtStatus::EAS_NOT_SUPPORTED, 282),
    (NtStatus::DELETE_PENDING, 5),
    (NtStatus::PRIVILEGE_NOT_HELD, 1314),
    (NtStatus::INVALID_ACL, 1336),
    (NtStatus::INVALID_SID, 1337),
    (NtStatus::INVALID_SECURITY_DESCR, 1338),
    (NtStatus::PROCEDURE_NOT_FOUND, 127),
    (NtStatus::NO_TOKEN, 1008),
    (NtStatus::DISK_FULL, 112),
    (NtStatus::FILE_INVALID, 1006),
    (NtStatus::INSUFFICIENT_RESOURCES, 1450),
    (NtStatus::MEDIA_WRITE_PROTECTED, 19),
    (NtStatus::DEVICE_NOT_READY, 21),
    (NtStatus::IO_TIMEOUT, 121),
    (NtStatus::FILE_IS_A_DIRECTORY, 5),
    (NtStatus::NOT_SUPPORTED, 50),
    (NtStatus::NOT_SAME_DEVICE, 17),
    (NtStatus::INTERNAL_ERROR, 1359),
    (NtStatus::DIRECTORY_NOT_EMPTY, 145),
    (NtStatus::NOT_A_DIRECTORY, 267),
    (NtStatus::CANCELLED, 995),
    (NtStatus::CANNOT_DELETE, 5),
    (NtStatus::FILE_CLOSED, 6),
    (NtStatus::NOT_FOUND, 1168),
];

/// Statuses that a customer made up are their own number; those made from an error give it back.
unsafe extern "win64" fn rtl_nt_status_to_dos_error(status: NtStatus) -> u32 {
    const CUSTOMERS: u32 = 0x2000_0000;
    /// `FACILITY_NTWIN32`, with the severities of an error and of a failed HRESULT.
    const WIN32: [u32; 2] = [0xC007, 0x8007];
    if status.0 & CUSTOMERS != 0 {
        return status.0;
    }
    if WIN32.contains(&(status.0 >> 16)) {
        return status.0 & 0xFFFF;
    }
    ERRORS.iter().find(|(known, _)| *known == status).map_or(NONE, |(_, error)| *error)
}
