//! Local addresses: floating, pinned, listening.
//!
//! The lock protects which of these the address is. It is held across system calls that never block,
//! and never while anybody else's code runs.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use net_api::{Accepted, Connection, Key, LocalAddress, NetError, Progress};
use nix::errno::Errno;
use nix::sys::socket::{self as sys, Backlog, sockopt};

use crate::accept::{self, Listener};
use crate::connection::HostConnection;
use crate::error::net_error;
use crate::network::Shared;
use crate::socket;

pub(crate) struct HostAddress {
    network: Arc<Shared>,
    /// As the driver asked for it, which the loopback policy does not change.
    wanted: SocketAddr,
    /// What is bound for it; the port is the wanted one.
    bindable: SocketAddr,
    state: Mutex<State>,
}

enum State {
    /// Connections take a port each.
    Floating,
    Pinned(Pinned),
}

struct Pinned {
    /// `HostAddress::bindable` with the port all share.
    bound: SocketAddr,
    /// Holds the port against others and does nothing else.
    _reservation: OwnedFd,
    listener: Option<Arc<Listener>>,
}

impl HostAddress {
    pub(crate) fn open(network: &Arc<Shared>, wanted: SocketAddr) -> Result<Self, NetError> {
        let bindable = network.reach.bindable(wanted)?;
        let state = if wanted.port() != 0 {
            State::Pinned(Pinned::reserve(bindable).map_err(net_error)?)
        } else {
            // A wildcard and 127.0.0.0/8 are every host's.
            let is_everybodys = bindable.ip().is_unspecified() || bindable.is_ipv4() && bindable.ip().is_loopback();
            if !is_everybodys {
                check_is_ours(bindable).map_err(net_error)?;
            }
            State::Floating
        };
        Ok(Self { network: Arc::clone(network), wanted, bindable, state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic is a bug of ours and ends the process in release builds; in tests the state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A socket bound as this address demands, ready to connect to `remote`, and whether it could meet
    /// itself there: a connection from a port to the same port of the same host is established by one
    /// socket alone.
    fn socket_for(&self, remote: SocketAddr) -> nix::Result<(OwnedFd, bool)> {
        let socket = socket::stream_like(remote)?;
        let may_meet_itself = match &*self.lock() {
            State::Floating => {
                // A wildcard needs no binding: the kernel chooses source and port when it knows the remote
                // side.
                if !self.wanted.ip().is_unspecified() {
                    sys::setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
                    socket::bind(socket.as_fd(), self.bindable)?;
                }
                self.network.ephemeral_ports.contains(&remote.port())
            }
            State::Pinned(pinned) => {
                share_port(socket.as_fd())?;
                socket::bind(socket.as_fd(), pinned.bound)?;
                remote.port() == pinned.bound.port()
            }
        };
        Ok((socket, may_meet_itself))
    }

    /// The address as the driver knows it, with the port it has.
    fn with_port(&self, port: u16) -> SocketAddr {
        let mut address = self.wanted;
        address.set_port(port);
        address
    }
}

impl LocalAddress for HostAddress {
    fn local(&self) -> SocketAddr {
        let port = match &*self.lock() {
            State::Floating => 0,
            State::Pinned(pinned) => pinned.bound.port(),
        };
        self.with_port(port)
    }

    fn pin(&self) -> Result<SocketAddr, NetError> {
        let mut state = self.lock();
        let pinned = state.pin(self.bindable).map_err(net_error)?;
        Ok(self.with_port(pinned.bound.port()))
    }

    fn connect(&self, remote: SocketAddr, key: Key) -> Result<(Arc<dyn Connection>, Progress), NetError> {
        self.network.reach.check_remote(remote)?;
        if remote.is_ipv4() != self.wanted.is_ipv4() {
            return Err(NetError::AddressNotAvailable);
        }
        let (socket, may_meet_itself) = self.socket_for(remote).map_err(net_error)?;
        let (connection, progress) = HostConnection::start(&self.network, socket, remote, may_meet_itself, key)?;
        Ok((Arc::new(connection), progress))
    }

    fn listen(&self, backlog: u32, key: Key) -> Result<(), NetError> {
        let mut state = self.lock();
        let pinned = state.pin(self.bindable).map_err(net_error)?;
        if pinned.listener.is_none() {
            let socket = new_listener(pinned.bound, backlog).map_err(net_error)?;
            let listener = Listener { socket, key };
            self.network.watch_offers(&listener).map_err(net_error)?;
            pinned.listener = Some(Arc::new(listener));
        }
        Ok(())
    }

    fn stop_listening(&self) {
        if let State::Pinned(pinned) = &mut *self.lock() {
            // Closing the listener resets the offers in its queue.
            pinned.listener = None;
        }
    }

    fn accept(&self) -> Accepted {
        match &*self.lock() {
            State::Pinned(Pinned { listener: Some(listener), .. }) => accept::accept(&self.network, listener),
            State::Pinned(_) | State::Floating => Accepted::NotListening,
        }
    }
}

impl State {
    fn pin(&mut self, bindable: SocketAddr) -> nix::Result<&mut Pinned> {
        if let Self::Floating = self {
            *self = Self::Pinned(Pinned::reserve(bindable)?);
        }
        match self {
            Self::Pinned(pinned) => Ok(pinned),
            Self::Floating => unreachable!("pinned just now"),
        }
    }
}

impl Pinned {
    /// Takes the port for this address alone, then opens it to this address's own sockets.
    fn reserve(wanted: SocketAddr) -> nix::Result<Self> {
        let reservation = socket::stream_like(wanted)?;
        match socket::bind(reservation.as_fd(), wanted) {
            Err(Errno::EADDRINUSE) if wanted.port() != 0 => {
                // Perhaps only ended connections remember the port; the option looks past those. It must
                // not stay: it would let others look past this reservation, too.
                sys::setsockopt(&reservation, sockopt::ReuseAddr, &true)?;
                socket::bind(reservation.as_fd(), wanted)?;
                sys::setsockopt(&reservation, sockopt::ReuseAddr, &false)?;
            }
            outcome => outcome?,
        }
        sys::setsockopt(&reservation, sockopt::ReusePort, &true)?;
        let bound = socket::local(reservation.as_fd())?;
        Ok(Self { bound, _reservation: reservation, listener: None })
    }
}

/// Before `bind`: lets a socket share the port of the reservation, and lets a later reservation of the
/// port look past what remains of this socket.
fn share_port(socket: BorrowedFd<'_>) -> nix::Result<()> {
    sys::setsockopt(&socket, sockopt::ReusePort, &true)?;
    sys::setsockopt(&socket, sockopt::ReuseAddr, &true)
}

fn new_listener(bound: SocketAddr, backlog: u32) -> nix::Result<OwnedFd> {
    let listener = socket::stream_like(bound)?;
    share_port(listener.as_fd())?;
    socket::bind(listener.as_fd(), bound)?;
    let backlog = i32::try_from(backlog).ok().and_then(|backlog| Backlog::new(backlog).ok());
    sys::listen(&listener, backlog.unwrap_or(Backlog::MAXCONN))?;
    Ok(listener)
}

/// Whether `address` belongs to this host (C-095), asked without taking a port.
fn check_is_ours(address: SocketAddr) -> nix::Result<()> {
    let probe = socket::stream_like(address)?;
    sys::setsockopt(&probe, sockopt::IpBindAddressNoPort, &true)?;
    socket::bind(probe.as_fd(), address)
}
