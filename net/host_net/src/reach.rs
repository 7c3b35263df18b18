//! What the policy allows, as pure functions of addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use net_api::{NetError, Policy, is_connectable};

/// How far a host network reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Loopback,
    Everything,
}

impl Reach {
    pub(crate) fn policy(self) -> Policy {
        match self {
            Self::Loopback => Policy::Loopback,
            Self::Everything => Policy::Host,
        }
    }

    /// The address to bind when a driver asks for `wanted`.
    pub(crate) fn bindable(self, wanted: SocketAddr) -> Result<SocketAddr, NetError> {
        let ip = wanted.ip();
        if ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
            return Err(NetError::AddressNotAvailable);
        }
        match self {
            Self::Everything => Ok(wanted),
            Self::Loopback if ip.is_unspecified() => {
                let loopback = if wanted.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
                Ok(SocketAddr::new(loopback, wanted.port()))
            }
            Self::Loopback if ip.is_loopback() => Ok(wanted),
            Self::Loopback => Err(NetError::Denied(Policy::Loopback)),
        }
    }

    /// Whether `remote` may be connected to.
    ///
    /// The host would take the unspecified address for loopback and might look for a route to everybody; the systems
    /// drivers are written for refuse them, and so does this.
    pub(crate) fn check_remote(self, remote: SocketAddr) -> Result<(), NetError> {
        if !is_connectable(remote) {
            return Err(NetError::AddressNotAvailable);
        }
        self.check_destination(remote)
    }

    /// Whether a datagram may go to `remote`, which may be everybody's address.
    pub(crate) fn check_destination(self, remote: SocketAddr) -> Result<(), NetError> {
        if remote.ip().is_unspecified() || remote.port() == 0 {
            return Err(NetError::AddressNotAvailable);
        }
        match self {
            Self::Everything => Ok(()),
            Self::Loopback if remote.ip().to_canonical().is_loopback() => Ok(()),
            Self::Loopback => Err(NetError::Denied(Policy::Loopback)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DENIED: NetError = NetError::Denied(Policy::Loopback);

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    #[test]
    fn wildcard_under_loopback_becomes_the_loopback_address_of_its_family() {
        assert_eq!(Reach::Loopback.bindable(at("0.0.0.0:80")), Ok(at("127.0.0.1:80")));
        assert_eq!(Reach::Loopback.bindable(at("[::]:80")), Ok(at("[::1]:80")));
        assert_eq!(Reach::Everything.bindable(at("0.0.0.0:80")), Ok(at("0.0.0.0:80")));
    }

    #[test]
    fn foreign_addresses_are_denied_under_loopback_only() {
        assert_eq!(Reach::Loopback.bindable(at("192.0.2.1:0")), Err(DENIED));
        for remote in ["192.0.2.1:80", "[2001:db8::1]:80", "[::ffff:192.0.2.1]:80"] {
            assert_eq!(Reach::Loopback.check_remote(at(remote)), Err(DENIED), "{remote}");
            assert_eq!(Reach::Everything.check_remote(at(remote)), Ok(()), "{remote}");
        }
    }

    #[test]
    fn every_loopback_address_may_be_reached() {
        for remote in ["127.0.0.1:1", "127.255.255.254:65535", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
            assert_eq!(Reach::Loopback.check_remote(at(remote)), Ok(()), "{remote}");
        }
    }

    #[test]
    fn addresses_nobody_can_have_are_not_available() {
        for reach in [Reach::Loopback, Reach::Everything] {
            for remote in ["0.0.0.0:80", "[::]:80", "127.0.0.1:0"] {
                assert_eq!(reach.check_remote(at(remote)), Err(NetError::AddressNotAvailable), "{remote}");
                assert_eq!(reach.check_destination(at(remote)), Err(NetError::AddressNotAvailable), "{remote}");
            }
            for remote in ["255.255.255.255:80", "224.0.0.1:80", "[ff02::1]:80"] {
                assert_eq!(reach.check_remote(at(remote)), Err(NetError::AddressNotAvailable), "{remote}");
            }
            for local in ["255.255.255.255:0", "224.0.0.1:0", "[ff02::1]:0"] {
                assert_eq!(reach.bindable(at(local)), Err(NetError::AddressNotAvailable), "{local}");
            }
        }
    }
}
