//! Local addresses: floating, pinned, listening.
//!
//! The lock protects which of these the address is. It is held across system calls that never block,
//! and never while anybody else's code runs.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use net_api::{Accepted, Connection, Key, LocalAddress, NetError, Progress, Sharing};
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
    sharing: Sharing,
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
    /// For a shared address: lets others know that they may overlap it.
    _entry: Option<Entry>,
    listener: Option<Arc<Listener>>,
}

/// A line of [`Shared::shared_bindings`].
struct Entry {
    network: Arc<Shared>,
    bound: SocketAddr,
}

impl Entry {
    fn new(network: &Arc<Shared>, bound: SocketAddr) -> Self {
        Self::lines(network).push(bound);
        Self { network: Arc::clone(network), bound }
    }

    /// Whether a shared address of this network has the port, and another IP address than `wanted`. Two that are bound to the
    /// very same (so are "any" and 127.0.0.1 where only loopback is reached) the kernel does not tell apart: they need one
    /// address between them.
    fn is_overlapped(network: &Shared, wanted: SocketAddr) -> bool {
        let overlaps = |bound: &SocketAddr| bound.port() == wanted.port() && bound.is_ipv4() == wanted.is_ipv4();
        let lines = Self::lines(network);
        lines.iter().any(overlaps) && !lines.contains(&wanted)
    }

    fn lines(network: &Shared) -> MutexGuard<'_, Vec<SocketAddr>> {
        // As for the state of an address.
        network.shared_bindings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut lines = Self::lines(&self.network);
        if let Some(at) = lines.iter().position(|bound| *bound == self.bound) {
            lines.swap_remove(at);
        }
    }
}

impl HostAddress {
    pub(crate) fn open(network: &Arc<Shared>, wanted: SocketAddr, sharing: Sharing) -> Result<Self, NetError> {
        let bindable = network.reach.bindable(wanted)?;
        let state = if wanted.port() != 0 {
            State::Pinned(Pinned::reserve(network, bindable, sharing).map_err(net_error)?)
        } else {
            // A wildcard and 127.0.0.0/8 are every host's.
            let is_everybodys = bindable.ip().is_unspecified() || bindable.is_ipv4() && bindable.ip().is_loopback();
            if !is_everybodys {
                check_is_ours(bindable).map_err(net_error)?;
            }
            State::Floating
        };
        Ok(Self { network: Arc::clone(network), wanted, bindable, sharing, state: Mutex::new(state) })
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
                socket::share_port(socket.as_fd())?;
                socket::bind(socket.as_fd(), pinned.bound)?;
                remote.port() == pinned.bound.port()
            }
        };
        Ok((socket, may_meet_itself))
    }

    fn pinned<'a>(&self, state: &'a mut State) -> nix::Result<&'a mut Pinned> {
        if let State::Floating = state {
            *state = State::Pinned(Pinned::reserve(&self.network, self.bindable, self.sharing)?);
        }
        match state {
            State::Pinned(pinned) => Ok(pinned),
            State::Floating => unreachable!("pinned just now"),
        }
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
        let pinned = self.pinned(&mut state).map_err(net_error)?;
        Ok(self.with_port(pinned.bound.port()))
    }

    fn pin_to(&self, port: u16) -> Result<SocketAddr, NetError> {
        let mut state = self.lock();
        if let State::Floating = &*state {
            let wanted = SocketAddr::new(self.bindable.ip(), port);
            // Somebody else may hold it on another IP address: then a port of its own has to do.
            if let Ok(pinned) = Pinned::reserve(&self.network, wanted, self.sharing) {
                *state = State::Pinned(pinned);
            }
        }
        let pinned = self.pinned(&mut state).map_err(net_error)?;
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
        let pinned = self.pinned(&mut state).map_err(net_error)?;
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

impl Pinned {
    /// Takes the port for this address alone, then opens it to this address's own sockets; and to those of other shared
    /// addresses of this network, if it is shared.
    fn reserve(network: &Arc<Shared>, wanted: SocketAddr, sharing: Sharing) -> nix::Result<Self> {
        let reservation = socket::stream_like(wanted)?;
        let is_shared = sharing == Sharing::Shared;
        if is_shared && Entry::is_overlapped(network, wanted) {
            // No other process gets in by that: the sockets that hold the port have the option, and are ours.
            sys::setsockopt(&reservation, sockopt::ReusePort, &true)?;
        }
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
        let entry = is_shared.then(|| Entry::new(network, bound));
        Ok(Self { bound, _reservation: reservation, _entry: entry, listener: None })
    }
}

fn new_listener(bound: SocketAddr, backlog: u32) -> nix::Result<OwnedFd> {
    let listener = socket::stream_like(bound)?;
    socket::share_port(listener.as_fd())?;
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
