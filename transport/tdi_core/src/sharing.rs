//! Who may open which transport address: share modes and exclusive opens (C-101 to C-109, C-168).
//!
//! A [`Claim`] is held from a successful open until the address's state is gone, that is after its
//! file object and its last endpoint (C-176). Two addresses are the same to this policy if protocol
//! and port are and their IP addresses are equal or one of them is "any". Port 0 is nobody's:
//! such an address floats, conflicts with nothing, and enters the table when it is pinned (C-109).
//! Left out: security descriptors of the first opener (C-108).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use nt_abi::NtStatus;

/// A protocol has its own ports (C-102).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    #[allow(missing_docs)]
    Tcp,
    #[allow(missing_docs)]
    Udp,
    /// Raw IP with its protocol number in place of a port.
    Raw(u8),
}

/// The `ShareAccess` of an open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Neither FILE_SHARE_READ nor FILE_SHARE_WRITE.
    Exclusive,
    /// Either of them.
    Shared,
}

impl Share {
    /// Reads the create parameters' ShareAccess (C-103).
    pub const fn from_share_access(share_access: u16) -> Self {
        const FILE_SHARE_READ: u16 = 1;
        const FILE_SHARE_WRITE: u16 = 2;
        if share_access & (FILE_SHARE_READ | FILE_SHARE_WRITE) == 0 { Self::Exclusive } else { Self::Shared }
    }
}

/// The right to use a transport address. Give it back with [`AddressTable::release`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "release it when the address's state is gone"]
pub struct Claim {
    protocol: Protocol,
    local: SocketAddr,
    share: Share,
    /// Distinguishes claims on the same address; 0 while floating.
    number: u64,
}

impl Claim {
    /// What is claimed; port 0 while it floats.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Whether others may hold the address, too.
    pub fn is_shared(&self) -> bool {
        self.share == Share::Shared
    }
}

/// All claims of a transport.
#[derive(Debug, Default)]
pub struct AddressTable {
    claims: BTreeMap<(Protocol, u16), Vec<Holder>>,
    last_number: u64,
}

#[derive(Debug)]
struct Holder {
    number: u64,
    ip: IpAddr,
    share: Share,
}

impl AddressTable {
    /// No claims. Usable in a static.
    pub const fn new() -> Self {
        Self { claims: BTreeMap::new(), last_number: 0 }
    }

    /// An open of `local` wants in.
    ///
    /// SHARING_VIOLATION if the address is held exclusively, or a broadcast address is wanted
    /// exclusively (C-103, C-105); ADDRESS_ALREADY_EXISTS if it is shared by others and wanted
    /// exclusively (C-101, C-104).
    pub fn claim(&mut self, protocol: Protocol, local: SocketAddr, share: Share) -> Result<Claim, NtStatus> {
        if is_broadcast(local.ip()) && share == Share::Exclusive {
            return Err(NtStatus::SHARING_VIOLATION);
        }
        let floating = Claim { protocol, local, share, number: 0 };
        if local.port() == 0 && !matches!(protocol, Protocol::Raw(_)) {
            return Ok(floating);
        }
        self.enter(floating, local)
    }

    /// A floating address has got its port from the network; a claim that has one is left as it is.
    ///
    /// Fails as [`AddressTable::claim`] does and then gives the claim back, still floating.
    pub fn pin(&mut self, claim: Claim, local: SocketAddr) -> Result<Claim, (Claim, NtStatus)> {
        if claim.number != 0 {
            return Ok(claim);
        }
        let floating = Claim { ..claim };
        self.enter(claim, local).map_err(|status| (floating, status))
    }

    /// The address's state is gone.
    pub fn release(&mut self, claim: Claim) {
        let key = (claim.protocol, claim.local.port());
        if let Some(holders) = self.claims.get_mut(&key) {
            holders.retain(|holder| holder.number != claim.number);
            if holders.is_empty() {
                self.claims.remove(&key);
            }
        }
    }

    /// How many opens hold this very address (D-131); at least 1 for a claim that exists.
    pub fn holders(&self, claim: &Claim) -> usize {
        let holders = self.claims.get(&(claim.protocol, claim.local.port()));
        let same = |holder: &&Holder| holder.ip == claim.local.ip();
        holders.map_or(0, |all| all.iter().filter(same).count()).max(1)
    }

    fn enter(&mut self, claim: Claim, local: SocketAddr) -> Result<Claim, NtStatus> {
        let holders = self.claims.entry((claim.protocol, local.port())).or_default();
        for holder in holders.iter().filter(|holder| overlap(holder.ip, local.ip())) {
            match (holder.share, claim.share) {
                (Share::Exclusive, _) => return Err(NtStatus::SHARING_VIOLATION),
                (Share::Shared, Share::Exclusive) => return Err(NtStatus::ADDRESS_ALREADY_EXISTS),
                (Share::Shared, Share::Shared) => {}
            }
        }
        self.last_number += 1;
        holders.push(Holder { number: self.last_number, ip: local.ip(), share: claim.share });
        Ok(Claim { local, number: self.last_number, ..claim })
    }
}

fn overlap(one: IpAddr, other: IpAddr) -> bool {
    one.is_ipv4() == other.is_ipv4() && (one == other || one.is_unspecified() || other.is_unspecified())
}

fn is_broadcast(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(v4) if v4.is_broadcast())
}

#[cfg(test)]
mod tests;
