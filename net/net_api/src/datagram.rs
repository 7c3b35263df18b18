//! Datagrams: an address that sends to and receives from any number of others.

use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

use crate::{Key, NetError};

/// Whether others may open the same port of the same address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Nobody may.
    Exclusive,
    /// Whoever also says `Shared` may. Each gets a copy of a broadcast or multicast datagram; which of
    /// them gets a unicast one is the network's choice.
    Shared,
}

/// What became of sending a datagram. A failure concerns this datagram only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatagramSent {
    /// The network has taken the whole datagram and no longer needs the buffer.
    Taken,
    /// It can take none now. A watched address gets [`Readiness::WRITABLE`](crate::Readiness::WRITABLE)
    /// when it can.
    WouldBlock,
    /// Nothing was sent: [`NetError::TooLong`], no route, [`NetError::Denied`] and the like;
    /// [`NetError::AddressNotAvailable`] for what is no address to send to, or a broadcast that is turned off.
    Failed(NetError),
}

/// What became of a receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatagramReceived {
    /// The oldest datagram was taken out of the queue and stored as far as there was room.
    Got(Arrival),
    /// None is here now. A watched address gets an event when one is.
    WouldBlock,
    /// A datagram sent to `remote` earlier did not arrive, says a node on the way or at the end. The
    /// address is none the worse for it; call again. A network that does not tell says so in
    /// [`Capabilities::delivery_errors`](crate::Capabilities::delivery_errors).
    Undelivered {
        /// Where it was sent.
        remote: SocketAddr,
        /// What became of it: [`NetError::Refused`] if nobody has that port.
        error: NetError,
    },
    /// This receive failed for want of memory or the like; the address is as it was.
    Failed(NetError),
}

/// A datagram that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Bytes of the datagram as it was sent.
    pub length: usize,
    /// Bytes that were stored, the first ones; the others are lost.
    pub stored: usize,
    /// Who sent it.
    pub source: SocketAddr,
    /// The address it was sent to: this host's, a broadcast address or a group.
    pub destination: IpAddr,
    /// The number of the interface it arrived at, from 1; 0 if unknown.
    pub interface: u32,
    /// Whom it was meant for.
    pub cast: Cast,
}

/// Whom a datagram was meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cast {
    /// This host alone.
    Unicast,
    /// Every host of a network.
    Broadcast,
    /// The members of a group.
    Multicast,
}

/// One of the host's interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// The one that the routes name.
    Routed,
    /// The one that has this IPv4 address.
    WithAddress(std::net::Ipv4Addr),
    /// The one with this number, from 1.
    Numbered(u32),
}

/// Something to be set on a datagram address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatagramOption {
    /// How many nodes a unicast datagram may pass, from 1.
    HopLimit(u8),
    /// How many nodes a multicast datagram may pass; 0 keeps it on this host. 1 at first.
    MulticastHopLimit(u8),
    /// Where multicast datagrams leave; [`Interface::Routed`] at first.
    MulticastInterface(Interface),
    /// Whether members on this host get what is sent to a group from here. On at first.
    MulticastLoop(bool),
    /// Whether broadcasts may be sent. On at first.
    Broadcast(bool),
    /// The type of service, or traffic class, of what is sent.
    TypeOfService(u8),
    /// Whether datagrams are to be dropped on the way rather than cut into fragments.
    DontFragment(bool),
    /// Become a member of a group.
    Join(Membership),
    /// Be none any longer.
    Leave(Membership),
}

/// Membership of a multicast group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The group; of the same family as the address.
    pub group: IpAddr,
    /// Where its datagrams are expected.
    pub interface: Interface,
    /// The only sender that is wanted; `None` wants all.
    pub source: Option<IpAddr>,
}

/// A local address for datagrams. Its port is fixed from the start, and the port is held until the last
/// reference is dropped.
///
/// Every operation may be called from any thread, and two at once.
pub trait DatagramAddress: Send + Sync {
    /// The address as opened, with the port that it was given if it was opened with none.
    fn local(&self) -> SocketAddr;

    /// Begins to report readiness under `key`, at once if there is any, until the address is dropped.
    /// The first key stays. On any event a receive or send that would have blocked should be tried again.
    ///
    /// # Errors
    /// [`NetError::OutOfMemory`]; the address is as it was.
    fn watch(&self, key: Key) -> Result<(), NetError>;

    /// Sends one datagram, gathered from `data`, to `remote`. An empty one is a datagram too.
    fn send_to(&self, data: &[IoSlice<'_>], remote: SocketAddr) -> DatagramSent;

    /// Receives one datagram, scattered into `into`, or hears of one that did not arrive.
    fn receive_from(&self, into: &mut [IoSliceMut<'_>]) -> DatagramReceived;

    /// Sets an option, or joins or leaves a group.
    ///
    /// # Errors
    /// [`NetError::Unsupported`]; [`NetError::AddressNotAvailable`] for a group or interface that is none,
    /// or a membership that is there already, or not there; [`NetError::Denied`].
    fn set(&self, option: DatagramOption) -> Result<(), NetError>;
}
