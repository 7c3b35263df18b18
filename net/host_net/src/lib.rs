//! [`net_api`] over the host's TCP and UDP sockets.
//!
//! Sockets are non-blocking from birth, are registered with one `epoll` instance at most once, edge
//! triggered, and leave it by being closed. A connection that is established before
//! [`LocalAddress::connect`](net_api::LocalAddress::connect) returns is not registered until somebody
//! would have to wait for it, so opening and closing one costs little more than the three system
//! calls nobody can avoid.
//!
//! **Ports.** An address with port 0 floats: its connections are bound by the kernel while connecting,
//! when the remote address is known, so that one local port serves many remote ones. Binding earlier
//! walks the port table (a millisecond each) and fails after 28,000 connections. A pinned address holds
//! a *reservation*: a socket bound exclusively and then marked `SO_REUSEPORT`, so that its own listener
//! and connections can share the port while no other opener can take it. The reservation itself never
//! listens: a listener that has been withdrawn loses a port that it had not named itself.
//!
//! **Policy.** The loopback policy is checked here, for drivers that go through the transport. It is a
//! seat belt, not a boundary: only a system-call filter stops a driver that makes system calls itself.
//!
//! **Datagrams.** An address is one socket, bound from the start. Under the loopback policy a wildcard stays
//! a wildcard that the kernel keeps to the loopback interface, so that groups can be joined there; a group
//! of IPv6 can be sent to only where the host has a route for it.
//!
//! **System calls**, for whoever writes that filter: `socket`, `bind`, `connect`, `listen`, `accept4`,
//! `sendto`, `sendmsg`, `recvfrom`, `recvmsg`, `shutdown`, `setsockopt`, `getsockname`,
//! `getsockopt`, `ioctl(SIOCATMARK)`, `epoll_create1`, `epoll_ctl`, `epoll_wait`, `eventfd2`, `write`, `close`.
//!
//! Left out: more than one urgent byte (TCP on this host has no more); refusing an offer
//! before its handshake (the kernel answers SYNs by itself).

mod accept;
mod address;
mod connection;
mod datagram;
mod error;
mod interfaces;
mod network;
mod options;
mod reach;
mod socket;

pub use network::HostNetwork;
