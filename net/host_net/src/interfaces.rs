//! The host's interfaces. They are read once, when the network is made: the sandbox leaves no way to ask later.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;

use net_api::InterfaceEntry;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sys::socket::SockaddrStorage;

use crate::reach::Reach;

/// The MTU of an interface whose file cannot be read.
const USUAL_MTU: u32 = 1500;

/// The interfaces that the policy lets drivers see, by number. None where the host does not tell.
pub(crate) fn interfaces(reach: Reach) -> Vec<InterfaceEntry> {
    let mut found = BTreeMap::new();
    for one in getifaddrs().into_iter().flatten() {
        let is_loopback = one.flags.contains(InterfaceFlags::IFF_LOOPBACK);
        if reach == Reach::Loopback && !is_loopback {
            continue;
        }
        // Gone meanwhile.
        let Ok(number) = if_nametoindex(one.interface_name.as_str()) else { continue };
        let entry = found.entry(number).or_insert_with(|| InterfaceEntry {
            number,
            mtu: mtu(&one.interface_name),
            is_loopback,
            is_up: one.flags.contains(InterfaceFlags::IFF_RUNNING),
            hardware_address: None,
            addresses: Vec::new(),
            name: one.interface_name.clone(),
        });
        add(entry, &one);
    }
    found.into_values().collect()
}

fn add(entry: &mut InterfaceEntry, one: &InterfaceAddress) {
    if let Some(ip) = one.address.as_ref().and_then(ip) {
        entry.addresses.push((ip, one.netmask.as_ref().and_then(ip_bits).unwrap_or(0)));
    } else if let Some(link) = one.address.as_ref().and_then(SockaddrStorage::as_link_addr) {
        // The loopback interface has zeros, which is no address.
        entry.hardware_address = link.addr().filter(|address| *address != [0; 6]);
    }
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = || address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4().or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

/// How many bits a mask has.
fn ip_bits(mask: &SockaddrStorage) -> Option<u8> {
    Some(match ip(mask)? {
        IpAddr::V4(mask) => mask.to_bits().count_ones() as u8,
        IpAddr::V6(mask) => mask.to_bits().count_ones() as u8,
    })
}

fn mtu(name: &str) -> u32 {
    let read = fs::read_to_string(format!("/sys/class/net/{name}/mtu"));
    read.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(USUAL_MTU)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_policy_shows_the_loopback_interface_alone() {
        let all = interfaces(Reach::Loopback);
        let [entry] = all.as_slice() else { panic!("{all:?}") };
        assert!(entry.is_loopback && entry.number > 0 && entry.mtu > 0, "{entry:?}");
        assert_eq!(entry.hardware_address, None);
        assert!(entry.addresses.contains(&([127, 0, 0, 1].into(), 8)), "{entry:?}");
    }

    #[test]
    fn host_policy_shows_it_too_each_by_its_own_number() {
        let all = interfaces(Reach::Everything);
        assert!(all.is_sorted_by(|one, next| one.number < next.number), "{all:?}");
        let loopback = interfaces(Reach::Loopback);
        assert!(loopback.iter().all(|entry| all.contains(entry)), "{all:?}");
    }
}
