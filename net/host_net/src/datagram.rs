//! Datagram addresses: one UDP socket each.
//!
//! The kernel is asked to queue what it hears about datagrams that did not arrive. Each such report also
//! becomes the socket's error, which the next operation returns, whichever it is: a send fails because an
//! earlier one to somebody else found nobody. So a send is tried again after an error, and whoever gets
//! one sees to it that a receive looks into the queue.

use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use net_api::{
    Arrival, Cast, DatagramAddress, DatagramOption, DatagramReceived, DatagramSent, Key, NetError, Policy, Sharing,
};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};

use crate::error::net_error;
use crate::network::Shared;
use crate::options;
use crate::reach::Reach;
use crate::socket::{self, Message};

/// The error of an earlier datagram can hide another one's, but each try takes one away; what comes back
/// this often is the send's own.
const SENDS_MAX: usize = 3;

/// Reports dropped in one receive because they concern sends that failed in their own call.
const OWN_REPORTS_MAX: usize = 64;

pub(crate) struct HostDatagramAddress {
    network: Arc<Shared>,
    socket: OwnedFd,
    /// As the driver knows it, which the loopback policy does not change.
    local: SocketAddr,
    /// [`Key::RESERVED`] until somebody watches.
    key: AtomicU64,
    /// Whether the queue of reports may have something.
    has_reports: AtomicBool,
}

impl HostDatagramAddress {
    pub(crate) fn open(network: &Arc<Shared>, wanted: SocketAddr, sharing: Sharing) -> Result<Self, NetError> {
        let bindable = network.reach.bindable(wanted)?;
        let socket = Self::new_socket(network.reach, wanted, bindable, sharing).map_err(net_error)?;
        let mut local = wanted;
        local.set_port(socket::local(socket.as_fd()).map_err(net_error)?.port());
        Ok(Self {
            network: Arc::clone(network),
            socket,
            local,
            key: AtomicU64::new(Key::RESERVED.0),
            has_reports: AtomicBool::new(false),
        })
    }

    fn new_socket(reach: Reach, wanted: SocketAddr, bindable: SocketAddr, sharing: Sharing) -> nix::Result<OwnedFd> {
        let socket = socket::datagram_like(wanted)?;
        setsockopt(&socket, sockopt::Broadcast, &true)?;
        if wanted.is_ipv4() {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
            setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
        }
        if sharing == Sharing::Shared {
            setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        }
        // A socket bound to 127.0.0.1 gets nothing that is sent to a group. So a wildcard stays one as long
        // as the kernel keeps it to the loopback interface; where it does not, groups are out of reach.
        let is_kept = reach == Reach::Loopback && wanted.ip().is_unspecified() && bind_to_loopback(&socket).is_ok();
        socket::bind(socket.as_fd(), if is_kept { wanted } else { bindable })?;
        Ok(socket)
    }

    fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// A send has taken away the error by which a receive would have heard of a report.
    fn has_met_report(&self) {
        self.has_reports.store(true, Ordering::Release);
        let key = Key(self.key.load(Ordering::Acquire));
        if key != Key::RESERVED {
            // Only a descriptor that is not registered could fail.
            let _ = self.network.watch_again(self.socket(), key);
        }
    }

    /// The oldest report of a datagram that did not arrive.
    fn take_report(&self) -> Option<DatagramReceived> {
        for _ in 0..OWN_REPORTS_MAX {
            match socket::receive_report(self.socket()) {
                Ok(Some((remote, errno))) => {
                    self.has_reports.store(true, Ordering::Release);
                    return Some(DatagramReceived::Undelivered { remote, error: net_error(errno) });
                }
                // This host's own word, which the send has returned already.
                Ok(None) => {}
                Err(_) => return None,
            }
        }
        None
    }
}

fn bind_to_loopback(socket: &OwnedFd) -> nix::Result<()> {
    setsockopt(socket, sockopt::BindToDevice, &options::LOOPBACK.into())
}

impl DatagramAddress for HostDatagramAddress {
    fn local(&self) -> SocketAddr {
        self.local
    }

    fn watch(&self, key: Key) -> Result<(), NetError> {
        if self.key.compare_exchange(Key::RESERVED.0, key.0, Ordering::AcqRel, Ordering::Acquire).is_err() {
            return Ok(());
        }
        self.network.watch(self.socket(), key).map_err(|errno| {
            self.key.store(Key::RESERVED.0, Ordering::Release);
            net_error(errno)
        })
    }

    fn send_to(&self, data: &[IoSlice<'_>], remote: SocketAddr) -> DatagramSent {
        if let Err(error) = self.network.reach.check_datagram_remote(remote) {
            return DatagramSent::Failed(error);
        }
        if remote.is_ipv4() != self.local.is_ipv4() {
            return DatagramSent::Failed(NetError::AddressNotAvailable);
        }
        let mut outcome = socket::send_to(self.socket(), data, remote);
        for _ in 1..SENDS_MAX {
            match outcome {
                Ok(_) | Err(Errno::EAGAIN) => break,
                Err(_) => {
                    self.has_met_report();
                    outcome = socket::send_to(self.socket(), data, remote);
                }
            }
        }
        match outcome {
            Ok(_) => DatagramSent::Taken,
            Err(Errno::EAGAIN) => DatagramSent::WouldBlock,
            // A broadcast that is turned off.
            Err(Errno::EACCES) => DatagramSent::Failed(NetError::AddressNotAvailable),
            Err(errno) => DatagramSent::Failed(net_error(errno)),
        }
    }

    fn receive_from(&self, into: &mut [IoSliceMut<'_>]) -> DatagramReceived {
        if self.has_reports.load(Ordering::Relaxed)
            && self.has_reports.swap(false, Ordering::AcqRel)
            && let Some(report) = self.take_report()
        {
            return report;
        }
        let room: usize = into.iter().map(|slice| slice.len()).sum();
        for _ in 1..SENDS_MAX {
            match socket::receive_from(self.socket(), into) {
                Ok(message) => return DatagramReceived::Got(arrival(&message, room)),
                Err(Errno::EAGAIN) => return DatagramReceived::WouldBlock,
                Err(errno @ (Errno::EFAULT | Errno::ENOMEM | Errno::ENOBUFS)) => {
                    return DatagramReceived::Failed(net_error(errno));
                }
                Err(_) => {
                    if let Some(report) = self.take_report() {
                        return report;
                    }
                }
            }
        }
        DatagramReceived::WouldBlock
    }

    fn set(&self, option: DatagramOption) -> Result<(), NetError> {
        options::set(self.socket(), self.local.is_ipv4(), self.network.reach, option)
    }
}

impl Drop for HostDatagramAddress {
    fn drop(&mut self) {
        // The descriptor itself is still to be closed; the next poll or close makes up for that.
        self.network.descriptor_was_closed();
    }
}

fn arrival(message: &Message, room: usize) -> Arrival {
    let destination = message.destination.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    // A broadcast reaches an address of ours that is not the one it was sent to.
    let cast = if destination.is_multicast() {
        Cast::Multicast
    } else if message.reached.is_some_and(|reached| reached != destination) {
        Cast::Broadcast
    } else {
        Cast::Unicast
    };
    Arrival {
        length: message.length,
        stored: message.length.min(room),
        source: message.source,
        destination,
        interface: message.interface,
        cast,
    }
}

impl Reach {
    /// Whether a datagram may be sent to `remote`. Under the loopback policy groups are reached on the
    /// loopback interface.
    fn check_datagram_remote(self, remote: SocketAddr) -> Result<(), NetError> {
        match self.check_destination(remote) {
            Err(NetError::Denied(Policy::Loopback)) if remote.ip().is_multicast() => Ok(()),
            outcome => outcome,
        }
    }
}
