//! What a transport needs from a network.
//!
//! A transport opens [`LocalAddress`]es on a [`Network`], makes [`Connection`]s from them or accepts
//! connections that arrive at them, opens [`DatagramAddress`]es, and learns through an [`EventSink`] when
//! one of them has become ready. Two kinds of network stand behind these traits: the host's sockets (`host_net`) and an
//! in-process one with virtual time. [`NoNetwork`] is the one that refuses everything.
//!
//! Invariants every implementation keeps:
//! - Nothing here blocks except [`Network::poll`].
//! - Readiness is edge-triggered: after `WouldBlock` on a watched connection, a later event says when
//!   to try again. Events may be spurious and may arrive after a connection was closed; they are
//!   never lost.
//! - The sink is called with no lock of the network held, so it may call back into every object.
//! - A failure is final and repeatable: a connection that has failed once fails the same way from then
//!   on, so that a reset seen by a send is not mistaken for an orderly end by the next receive.
//! - Time is an argument ([`NetTime`]); a network that lives in virtual time has no other clock.
//!
//! Deliberately absent: descriptors, names (DNS), raw IP, and everything of NT.

#![forbid(unsafe_code)]

mod datagram;
mod error;
mod interface;
mod network;
mod none;
mod readiness;
mod time;

pub use datagram::{
    Arrival, Cast, DatagramAddress, DatagramOption, DatagramReceived, DatagramSent, Interface, Membership, Sharing,
};
pub use error::{NetError, Policy};
pub use interface::InterfaceEntry;
pub use network::{
    Accepted, Capabilities, Connection, LocalAddress, Network, Progress, Received, Sent, is_connectable,
};
pub use none::NoNetwork;
pub use readiness::{EventSink, Key, Readiness};
pub use time::{NetTime, Wait};
