//! Opaque names that the caller gives to the things the core keeps apart.
//!
//! The core compares them and hands them back; it never looks inside. Every one carries a
//! generation (or counts upwards), so a name that outlived its thing is told apart from its
//! successor.

/// A request in the caller's table of pending requests.
///
/// Given with [`crate::Endpoint::handle_request`], handed back in exactly one
/// [`crate::Completion`] (C-210).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId {
    /// Slot in the caller's table.
    pub index: u32,
    /// Which use of that slot.
    pub generation: u32,
}

/// A connection endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId {
    /// Slot in the caller's table.
    pub index: u32,
    /// Which use of that slot.
    pub generation: u32,
}

/// The transport's state of one opened transport address (one per file object).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressId {
    /// Slot in the caller's table.
    pub index: u32,
    /// Which use of that slot.
    pub generation: u32,
}

/// One connection of an endpoint: the endpoint counts them, so that an event of an earlier
/// connection that arrives late is recognised and ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionNumber(pub u32);

/// An incoming connection that nobody has accepted or refused yet, as the caller's network
/// names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OfferId(pub u64);
