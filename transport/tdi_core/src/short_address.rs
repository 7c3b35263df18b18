//! Socket addresses in half the space: endpoints keep a few of them.

use alloc::boxed::Box;
use core::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

/// A socket address. Only one of IPv6 costs an allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ShortAddress {
    V4(SocketAddrV4),
    V6(Box<SocketAddrV6>),
}

impl ShortAddress {
    pub(crate) fn get(&self) -> SocketAddr {
        match self {
            Self::V4(address) => SocketAddr::V4(*address),
            Self::V6(address) => SocketAddr::V6(**address),
        }
    }
}

impl From<SocketAddr> for ShortAddress {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Self::V4(address),
            SocketAddr::V6(address) => Self::V6(Box::new(address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_comes_out_as_it_went_in() {
        for text in ["192.0.2.7:80", "0.0.0.0:0", "[2001:db8::1]:443", "[fe80::1%3]:65535"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(ShortAddress::from(address).get(), address);
        }
    }
}
