//! Remote nodes that are plain sockets of the host.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use host_net::HostNetwork;

use crate::client::with_transport;

/// How a connection ended for the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Fin,
    Rst,
}

/// A peer that takes one connection and serves it with `serve` on a thread of its own.
pub struct Peer<R> {
    pub address: SocketAddr,
    thread: JoinHandle<R>,
}

impl<R: Send + 'static> Peer<R> {
    pub fn new(serve: impl FnOnce(TcpStream) -> R + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("its address");
        let thread = thread::spawn(move || serve(listener.accept().expect("a connection").0));
        Self { address, thread }
    }

    pub fn join(self) -> R {
        self.thread.join().expect("the peer")
    }
}

/// A connection to a peer that the test itself plays: its stream comes once the client has connected.
pub fn stream_peer() -> (SocketAddr, impl FnOnce() -> TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address");
    (address, move || listener.accept().expect("a connection").0)
}

/// Reads to the end.
pub fn drain(mut stream: &TcpStream) -> (Vec<u8>, End) {
    let mut all = Vec::new();
    let end = match stream.read_to_end(&mut all) {
        Ok(_) => End::Fin,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => End::Rst,
        Err(error) => panic!("{error}"),
    };
    (all, end)
}

/// Ends a connection of the host by a reset.
pub fn reset(stream: TcpStream) {
    use std::os::fd::AsRawFd;
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: sets an option of a live socket from a structure of this size.
    let outcome = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            std::ptr::from_ref(&linger).cast(),
            size_of_val(&linger) as libc::socklen_t,
        )
    };
    assert_eq!(outcome, 0);
}

/// Runs a test over the host's loopback sockets.
pub fn on_loopback(test: impl FnOnce() + Send) {
    let network = HostNetwork::loopback().expect("sockets");
    with_transport(Arc::new(network), |_| test());
}
