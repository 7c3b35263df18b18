//! How a network tells its user that something can go on.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// The user's name for a connection or a listening address; the network hands it back unchanged.
///
/// An event may be under way while its connection is closed, so a key should carry a generation and not
/// be reused for another connection. [`Key::RESERVED`] belongs to the networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub u64);

impl Key {
    /// The one value a user may not use.
    pub const RESERVED: Self = Self(u64::MAX);
}

/// What can be done now that could not be done before.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Readiness(u8);

impl Readiness {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// A receive has something to say; on a listening address, an accept has.
    pub const READABLE: Self = Self(1);
    /// A send would take bytes; while connecting, [`Connection::progress`](crate::Connection::progress)
    /// has something to say.
    pub const WRITABLE: Self = Self(2);
    /// The remote side has ended its direction; received bytes may still be waiting.
    pub const REMOTE_ENDED: Self = Self(4);
    /// The connection is over in both directions, or has failed.
    pub const BROKEN: Self = Self(8);
    /// The stream carries an urgent mark.
    pub const URGENT: Self = Self(16);

    /// Whether every bit of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether some bit of `other` is set.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether no bit is set.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Readiness {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Readiness {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [(Readiness, &str); 5] = [
            (Readiness::READABLE, "readable"),
            (Readiness::WRITABLE, "writable"),
            (Readiness::REMOTE_ENDED, "remote ended"),
            (Readiness::BROKEN, "broken"),
            (Readiness::URGENT, "urgent"),
        ];
        f.debug_set().entries(NAMES.iter().filter(|(bit, _)| self.contains(*bit)).map(|(_, name)| name)).finish()
    }
}

/// Receives events from [`Network::poll`](crate::Network::poll), on the polling thread.
///
/// No lock of the network is held during the call: it may use, close and open anything. It must not
/// call `poll`.
pub trait EventSink: Sync {
    /// `key` has become ready. The receiver passes `ready` on to the connection's
    /// [`handle_ready`](crate::Connection::handle_ready) before it uses the connection.
    fn handle_event(&self, key: Key, ready: Readiness);
}
