//! The system calls, as functions of a descriptor. All `unsafe` of this crate is here.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    self as sys, AddressFamily, MsgFlags, SockFlag, SockType, SockaddrLike, SockaddrStorage, sockopt,
};

/// More slices than this the host refuses; the rest waits for the next call.
const SLICES_MAX: usize = 1024;

/// A new TCP socket for addresses of `like`'s family.
pub(crate) fn stream_like(like: SocketAddr) -> nix::Result<OwnedFd> {
    let family = if like.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = sys::socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
    if like.is_ipv6() {
        // The IPv6 transport is one of its own: a wildcard of it must not take the IPv4 port too.
        sys::setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    Ok(socket)
}

pub(crate) fn bind(socket: BorrowedFd<'_>, address: SocketAddr) -> nix::Result<()> {
    sys::bind(socket.as_raw_fd(), &SockaddrStorage::from(address))
}

/// Starts, or asks after, a connection: `Ok` is established, `EINPROGRESS` or `EALREADY` is not yet.
pub(crate) fn connect(socket: BorrowedFd<'_>, remote: SocketAddr) -> nix::Result<()> {
    match sys::connect(socket.as_raw_fd(), &SockaddrStorage::from(remote)) {
        Err(Errno::EISCONN) => Ok(()),
        other => other,
    }
}

pub(crate) fn local(socket: BorrowedFd<'_>) -> nix::Result<SocketAddr> {
    to_std(sys::getsockname(socket.as_raw_fd())?)
}

/// Takes an offer and learns in the same call who made it.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> nix::Result<(OwnedFd, SocketAddr)> {
    let mut remote = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: `remote` has room for `length` bytes, the kernel writes no more than that and stores how
    // many; both outlive the call, and the borrowed descriptor stays open during it.
    let accepted = unsafe { libc::accept4(listener.as_raw_fd(), remote.as_mut_ptr().cast(), &raw mut length, flags) };
    let accepted = Errno::result(accepted)?;
    // SAFETY: the call has just made this descriptor, and nobody else knows it.
    let socket = unsafe { OwnedFd::from_raw_fd(accepted) };
    // SAFETY: the storage was zeroed before the kernel wrote an address of `length` bytes into it, so all
    // of it is initialised, whatever the family.
    let remote = unsafe { SockaddrStorage::from_raw(remote.as_ptr().cast(), Some(length)) };
    Ok((socket, to_std(remote.ok_or(Errno::EAFNOSUPPORT)?)?))
}

fn to_std(address: SockaddrStorage) -> nix::Result<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Ok(SocketAddr::V4((*v4).into()));
    }
    address.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())).ok_or(Errno::EAFNOSUPPORT)
}

/// One slice goes by the shorter system call: the difference shows in a round trip of one byte.
pub(crate) fn send(socket: BorrowedFd<'_>, data: &[IoSlice<'_>]) -> nix::Result<usize> {
    // NOSIGNAL: a broken connection is an answer, not a signal to whatever process hosts the driver.
    match data {
        [only] => sys::send(socket.as_raw_fd(), only, MsgFlags::MSG_NOSIGNAL),
        many => {
            let many = &many[..many.len().min(SLICES_MAX)];
            sys::sendmsg::<()>(socket.as_raw_fd(), many, &[], MsgFlags::MSG_NOSIGNAL, None)
        }
    }
}

pub(crate) fn send_urgent(socket: BorrowedFd<'_>, byte: u8) -> nix::Result<usize> {
    sys::send(socket.as_raw_fd(), &[byte], MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_OOB)
}

pub(crate) fn receive(socket: BorrowedFd<'_>, into: &mut [IoSliceMut<'_>], flags: MsgFlags) -> nix::Result<usize> {
    match into {
        [only] => sys::recv(socket.as_raw_fd(), only, flags),
        many => {
            let count = many.len().min(SLICES_MAX);
            sys::recvmsg::<()>(socket.as_raw_fd(), &mut many[..count], None, flags).map(|message| message.bytes)
        }
    }
}

/// Tells the remote side of an abort, now, whoever else still holds the descriptor.
///
/// Connecting to nowhere is what closing with a linger time of zero does inside the kernel, without the
/// closing. Should it ever fail, that linger time makes the coming close do the same.
pub(crate) fn reset(socket: BorrowedFd<'_>) {
    let nowhere = libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };
    let length = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: `nowhere` is a `sockaddr` of `length` bytes that outlives the call, which only reads it,
    // and the borrowed descriptor stays open during it.
    let outcome = unsafe { libc::connect(socket.as_raw_fd(), &raw const nowhere, length) };
    if outcome != 0 {
        let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
        // A socket takes this option in every state.
        let _ = sys::setsockopt(&socket, sockopt::Linger, &at_once);
    }
}

/// What has broken the connection, if something has. The kernel tells it once.
pub(crate) fn take_error(socket: BorrowedFd<'_>) -> Option<Errno> {
    let number = sys::getsockopt(&socket, sockopt::SocketError).unwrap_or(0);
    (number != 0).then(|| Errno::from_raw(number))
}

/// Whether the next byte to be read is the urgent one.
pub(crate) fn is_at_urgent_mark(socket: BorrowedFd<'_>) -> nix::Result<bool> {
    /// From `asm-generic/sockios.h`; the libc crate does not have it.
    const SIOCATMARK: libc::Ioctl = 0x8905;
    let mut at_mark: libc::c_int = 0;
    // SAFETY: this request writes one `int` through its argument, which is one, and the borrowed
    // descriptor stays open during the call.
    let outcome = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCATMARK, &raw mut at_mark) };
    Errno::result(outcome).map(|_| at_mark != 0)
}
