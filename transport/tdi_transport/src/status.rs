//! What the network's failures are called: the one place where [`NetError`] becomes something of TDI.

use std::sync::atomic::{AtomicBool, Ordering};

use net_api::{NetError, Policy};
use nt_abi::NtStatus;
use tdi_core::NetworkError;
use trace::Event;

/// For connections; `tdi_core` chooses the status.
pub(crate) fn network_error(error: NetError) -> NetworkError {
    match error {
        NetError::Refused => NetworkError::Refused,
        NetError::NetworkUnreachable => NetworkError::NetworkUnreachable,
        NetError::HostUnreachable => NetworkError::HostUnreachable,
        NetError::TimedOut => NetworkError::TimedOut,
        NetError::Reset => NetworkError::Reset,
        NetError::AddressInUse => NetworkError::AddressInUse,
        NetError::AddressNotAvailable => NetworkError::AddressNotAvailable,
        NetError::OutOfDescriptors | NetError::OutOfMemory => NetworkError::NoResources,
        NetError::Denied(policy) => {
            tell_refusal(policy);
            NetworkError::AccessDenied
        }
        NetError::Aborted | NetError::NotConnected | NetError::TooLong | NetError::Unsupported | NetError::Other(_) => {
            NetworkError::Aborted
        }
    }
}

/// For addresses that cannot be opened or pinned (C-095, C-101).
pub(crate) fn address_status(error: NetError) -> NtStatus {
    match error {
        NetError::AddressInUse => NtStatus::ADDRESS_ALREADY_EXISTS,
        // No interface of a network that is restricted to loopback has another address (C-095).
        NetError::AddressNotAvailable | NetError::Denied(net_api::Policy::Loopback) => NtStatus::INVALID_ADDRESS,
        NetError::Denied(_) => NtStatus::ACCESS_DENIED,
        NetError::Unsupported => NtStatus::NOT_SUPPORTED,
        NetError::OutOfDescriptors | NetError::OutOfMemory | NetError::Other(_) => NtStatus::INSUFFICIENT_RESOURCES,
        NetError::Refused
        | NetError::NetworkUnreachable
        | NetError::HostUnreachable
        | NetError::TimedOut
        | NetError::Reset
        | NetError::Aborted
        | NetError::TooLong
        | NetError::NotConnected => NtStatus::UNSUCCESSFUL,
    }
}

/// For a datagram that was not sent, or did not arrive (D-025, D-035).
pub(crate) fn datagram_status(error: NetError) -> NtStatus {
    match error {
        NetError::TooLong => NtStatus::INVALID_BUFFER_SIZE,
        NetError::Refused => NtStatus::PORT_UNREACHABLE,
        NetError::NetworkUnreachable => NtStatus::NETWORK_UNREACHABLE,
        NetError::HostUnreachable => NtStatus::HOST_UNREACHABLE,
        NetError::TimedOut => NtStatus::IO_TIMEOUT,
        NetError::AddressNotAvailable => NtStatus::INVALID_ADDRESS,
        NetError::AddressInUse => NtStatus::ADDRESS_ALREADY_EXISTS,
        NetError::Denied(policy) => {
            tell_refusal(policy);
            NtStatus::ACCESS_DENIED
        }
        NetError::Unsupported => NtStatus::NOT_SUPPORTED,
        NetError::OutOfDescriptors | NetError::OutOfMemory => NtStatus::INSUFFICIENT_RESOURCES,
        NetError::Reset | NetError::Aborted | NetError::NotConnected | NetError::Other(_) => NtStatus::UNSUCCESSFUL,
    }
}

/// Says once why the network refuses: no driver can know that the user has chosen it.
fn tell_refusal(policy: Policy) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    let why = match policy {
        Policy::None => {
            "this run has no network (--net none): whatever drivers connect to, listen for or send is refused"
        }
        Policy::Loopback => {
            "this run's network reaches this machine only (--net loopback): everything else is refused; --net host does not"
        }
        Policy::Host | Policy::Simulated => return,
    };
    if !TOLD.swap(true, Ordering::Relaxed) {
        gate::record_with_text(Event::HostNote {}, why);
    }
}
