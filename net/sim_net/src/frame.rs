//! What crosses the wires, for whoever wants to write it down.

use net_api::NetTime;

/// One IP packet as its sender handed it to the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// When it was sent.
    pub at: NetTime,
    /// The number of the wire, an index of [`Sim::wires`](crate::Sim::wires).
    pub wire: usize,
    /// The packet, from its IP header on.
    pub bytes: &'a [u8],
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives.
    Arrives,
    /// It arrives twice.
    ArrivesTwice,
    /// It arrives after packets that were sent later.
    ArrivesLate,
    /// It is lost by chance.
    Lost,
    /// It finds the queue in front of the wire full.
    Overflows,
    /// It is longer than the wire's MTU.
    TooLong,
    /// The wire is down.
    WireDown,
    /// Sender and receiver are in different parts of the network.
    Partitioned,
}

impl Fate {
    /// What to write beside the packet; `None` if it simply arrives.
    pub const fn comment(self) -> Option<&'static str> {
        match self {
            Self::Arrives => None,
            Self::ArrivesTwice => Some("arrives twice"),
            Self::ArrivesLate => Some("arrives late"),
            Self::Lost => Some("lost"),
            Self::Overflows => Some("lost: the queue is full"),
            Self::TooLong => Some("lost: longer than the MTU"),
            Self::WireDown => Some("lost: the link is down"),
            Self::Partitioned => Some("lost: the network is partitioned"),
        }
    }

    /// Whether it arrives at all.
    pub const fn arrives(self) -> bool {
        matches!(self, Self::Arrives | Self::ArrivesTwice | Self::ArrivesLate)
    }
}

/// Is told of every packet, in the order of time.
pub trait FrameSink: Send {
    /// A packet was sent. Called while the simulation stands still; it must not call back.
    fn record(&mut self, frame: &Frame<'_>);
}

/// Counts of packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCount {
    /// Sent.
    pub sent: u64,
    /// Of those: never to arrive, for whatever reason.
    pub lost: u64,
    /// Of those: to arrive twice.
    pub duplicated: u64,
    /// Of those: to arrive late.
    pub late: u64,
}

impl FrameCount {
    pub(crate) fn count(&mut self, fate: Fate) {
        self.sent += 1;
        self.lost += u64::from(!fate.arrives());
        self.duplicated += u64::from(fate == Fate::ArrivesTwice);
        self.late += u64::from(fate == Fate::ArrivesLate);
    }
}
