//! The one table from the host's errors to NTSTATUS.

use nt_abi::NtStatus;
use rustix::io::Errno;

/// What a driver is told of an error of the host.
pub fn of(error: Errno) -> NtStatus {
    match error {
        Errno::NOENT => NtStatus::OBJECT_NAME_NOT_FOUND,
        Errno::EXIST => NtStatus::OBJECT_NAME_COLLISION,
        Errno::NOTDIR => NtStatus::NOT_A_DIRECTORY,
        Errno::ISDIR => NtStatus::FILE_IS_A_DIRECTORY,
        Errno::NOTEMPTY => NtStatus::DIRECTORY_NOT_EMPTY,
        Errno::NAMETOOLONG | Errno::ILSEQ => NtStatus::OBJECT_NAME_INVALID,
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => NtStatus::DISK_FULL,
        Errno::ROFS => NtStatus::MEDIA_WRITE_PROTECTED,
        Errno::BUSY => NtStatus::SHARING_VIOLATION,
        Errno::NOMEM | Errno::MFILE | Errno::NFILE => NtStatus::INSUFFICIENT_RESOURCES,
        Errno::INVAL => NtStatus::INVALID_PARAMETER,
        // A descriptor that was not opened for this, a name that would lead out of the folder, and all the other ways in
        // which the host refuses.
        Errno::BADF | Errno::XDEV | Errno::LOOP | Errno::ACCESS | Errno::PERM => NtStatus::ACCESS_DENIED,
        _ => NtStatus::UNSUCCESSFUL,
    }
}
