//! The host's error numbers as [`NetError`]: the one table.

use net_api::NetError;
use nix::errno::Errno;

/// What `errno` means for a connection or an address.
///
/// `EPIPE` is a reset: sends stop being made once this side has ended its direction, so only the remote
/// side can have caused it.
pub(crate) fn net_error(errno: Errno) -> NetError {
    match errno {
        Errno::ECONNREFUSED => NetError::Refused,
        Errno::ENETUNREACH | Errno::ENETDOWN => NetError::NetworkUnreachable,
        Errno::EHOSTUNREACH | Errno::EHOSTDOWN => NetError::HostUnreachable,
        Errno::ETIMEDOUT => NetError::TimedOut,
        Errno::ECONNRESET | Errno::EPIPE => NetError::Reset,
        Errno::ECONNABORTED => NetError::Aborted,
        Errno::ENOTCONN => NetError::NotConnected,
        Errno::EADDRINUSE => NetError::AddressInUse,
        Errno::EADDRNOTAVAIL | Errno::EAFNOSUPPORT => NetError::AddressNotAvailable,
        Errno::EMFILE | Errno::ENFILE => NetError::OutOfDescriptors,
        Errno::ENOMEM | Errno::ENOBUFS | Errno::ENOSPC => NetError::OutOfMemory,
        Errno::EMSGSIZE => NetError::TooLong,
        other => NetError::Other(other as i32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_number_is_kept() {
        assert_eq!(net_error(Errno::EPROTO), NetError::Other(nix::libc::EPROTO));
    }
}
