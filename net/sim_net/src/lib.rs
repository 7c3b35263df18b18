//! [`net_api`] over a simulated network: hosts, links and peers in this process, in virtual time, from one seed.
//!
//! A [`NetworkFile`] says what there is; a [`Sim`] is one run of it. [`Sim::network`] is the network as one of
//! the hosts sees it, so that two drivers on two hosts talk to each other. smoltcp is each host's TCP/IP
//! stack; which packet is for which connection is decided here, and so is what happens on the way. What smoltcp does
//! otherwise than hosts do, so that transfers over bad links would end, is put right in `packet`, `retransmission`
//! and `connection`; urgent data, which it does not know, is added in `urgent`.
//!
//! Invariants:
//! - The same file and seed, and the same calls at the same virtual times, give the same packets, byte
//!   for byte. There is no clock here, no thread, and no table whose order depends on addresses.
//! - Time goes on in [`Network::poll`](net_api::Network::poll) alone, to where the caller says it is. A call
//!   never blocks unless it is told to wait in real time.
//! - An offer is answered by [`Connection::answer`](net_api::Connection::answer). Until then the remote side waits,
//!   and an abort is a refusal to it. A full backlog refuses at once.
//! - Everything is bounded: queues, backlogs, reassembly, what is remembered of finished connections.
//!
//! Left out: selective acknowledgement by the sender (smoltcp has none); path MTU discovery (a connection knows the
//! MTU of its link when it begins, and a link that shrinks swallows packets); ICMP but for echoes and unreachable
//! ports; raw IP; a host's forwarding of packets.

#![forbid(unsafe_code)]

mod address;
mod agenda;
mod calls;
mod connection;
mod datagram;
mod frame;
mod host;
mod link;
mod network;
mod network_file;
mod packet;
mod peer;
mod random;
mod retransmission;
mod sim;
mod slab;
mod stack;
mod tcp;
mod urgent;
mod world;

pub use frame::{Fate, Frame, FrameCount, FrameSink};
pub use network::SimNetwork;
pub use network_file::{HOSTS_MAX, NetworkFile, NetworkFileError};
pub use sim::{Live, Sim};
