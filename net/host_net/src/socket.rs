//! The system calls, as functions of a descriptor. All `unsafe` of this crate is here.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    self as sys, AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrLike, SockaddrStorage,
    sockopt,
};

/// More slices than this the host refuses; the rest waits for the next call.
const SLICES_MAX: usize = 1024;

/// A new TCP socket for addresses of `like`'s family.
pub(crate) fn stream_like(like: SocketAddr) -> nix::Result<OwnedFd> {
    new_like(like, SockType::Stream)
}

/// A new UDP socket for addresses of `like`'s family.
pub(crate) fn datagram_like(like: SocketAddr) -> nix::Result<OwnedFd> {
    new_like(like, SockType::Datagram)
}

fn new_like(like: SocketAddr, kind: SockType) -> nix::Result<OwnedFd> {
    let family = if like.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = sys::socket(family, kind, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
    if like.is_ipv6() {
        // The IPv6 transport is one of its own: a wildcard of it must not take the IPv4 port too.
        sys::setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    Ok(socket)
}

pub(crate) fn bind(socket: BorrowedFd<'_>, address: SocketAddr) -> nix::Result<()> {
    sys::bind(socket.as_raw_fd(), &SockaddrStorage::from(address))
}

/// Lets a socket share its port with the reservation of an address, before `bind` or after, and lets a later reservation of
/// the port look past what remains of this socket.
pub(crate) fn share_port(socket: BorrowedFd<'_>) -> nix::Result<()> {
    sys::setsockopt(&socket, sockopt::ReusePort, &true)?;
    sys::setsockopt(&socket, sockopt::ReuseAddr, &true)
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

/// One datagram, or none at all, to `remote`.
pub(crate) fn send_to(socket: BorrowedFd<'_>, data: &[IoSlice<'_>], remote: SocketAddr) -> nix::Result<usize> {
    let remote = SockaddrStorage::from(remote);
    match data {
        [] => sys::sendto(socket.as_raw_fd(), &[], &remote, MsgFlags::empty()),
        [only] => sys::sendto(socket.as_raw_fd(), only, &remote, MsgFlags::empty()),
        // What cannot be sent in one piece cannot be sent.
        many if many.len() > SLICES_MAX => Err(Errno::EMSGSIZE),
        many => sys::sendmsg(socket.as_raw_fd(), many, &[], MsgFlags::empty(), Some(&remote)),
    }
}

/// A datagram as the kernel describes it.
pub(crate) struct Message {
    /// Bytes it has, whatever room there was for them.
    pub(crate) length: usize,
    pub(crate) source: SocketAddr,
    pub(crate) destination: Option<IpAddr>,
    /// The address of ours by which it got here; IPv4 only.
    pub(crate) reached: Option<IpAddr>,
    pub(crate) interface: u32,
}

/// Room for the control messages of one datagram, aligned for their headers.
#[repr(align(8))]
struct Control([u8; 256]);

pub(crate) fn receive_from(socket: BorrowedFd<'_>, into: &mut [IoSliceMut<'_>]) -> nix::Result<Message> {
    let mut control = Control([0; 256]);
    let count = into.len().min(SLICES_MAX);
    let into = &mut into[..count];
    let flags = MsgFlags::MSG_TRUNC;
    let message = sys::recvmsg::<SockaddrStorage>(socket.as_raw_fd(), into, Some(&mut control.0), flags)?;
    let source = message.address.ok_or(Errno::EAFNOSUPPORT).and_then(to_std)?;
    let mut whole = Message { length: message.bytes, source, destination: None, reached: None, interface: 0 };
    for one in message.cmsgs()? {
        match one {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                whole.destination = Some(ip_v4(info.ipi_addr));
                whole.reached = Some(ip_v4(info.ipi_spec_dst));
                whole.interface = u32::try_from(info.ipi_ifindex).unwrap_or(0);
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                whole.destination = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                whole.interface = info.ipi6_ifindex;
            }
            _ => {}
        }
    }
    Ok(whole)
}

fn ip_v4(address: libc::in_addr) -> IpAddr {
    Ipv4Addr::from(address.s_addr.to_ne_bytes()).into()
}

/// Takes a report of a datagram that did not arrive: where it was sent, and what became of it. `None` if
/// it was this host that would not send it.
pub(crate) fn receive_report(socket: BorrowedFd<'_>) -> nix::Result<Option<(SocketAddr, Errno)>> {
    let mut control = Control([0; 256]);
    let flags = MsgFlags::MSG_ERRQUEUE;
    let message = sys::recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut [], Some(&mut control.0), flags)?;
    for one in message.cmsgs()? {
        if let ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _) = one {
            if error.ee_origin == libc::SO_EE_ORIGIN_LOCAL {
                return Ok(None);
            }
            let remote = message.address.ok_or(Errno::EAFNOSUPPORT).and_then(to_std)?;
            return Ok(Some((remote, Errno::from_raw(error.ee_errno.cast_signed()))));
        }
    }
    Ok(None)
}

/// Sets an option that nix has no type for. `T` is what the kernel reads for it.
pub(crate) fn set_option<T: Copy>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> nix::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the call reads `length` bytes of `value`, which has as many and outlives it, and keeps none
    // of them; the borrowed descriptor stays open during it.
    let outcome = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const *value).cast(), length) };
    Errno::result(outcome).map(drop)
}

/// `address` as the kernel's structures hold it.
pub(crate) fn storage(address: SocketAddr) -> libc::sockaddr_storage {
    let address = SockaddrStorage::from(address);
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let length = address.len() as usize;
    // SAFETY: `address` holds an address of `length` bytes, no address is longer than a `sockaddr_storage`,
    // and the two do not overlap. All of the storage was zeroed, and any bytes make a valid one.
    unsafe {
        std::ptr::copy_nonoverlapping(address.as_ptr().cast::<u8>(), storage.as_mut_ptr().cast::<u8>(), length);
        storage.assume_init()
    }
}
