use std::vec::Vec;

use core::net::SocketAddr;

use nt_abi::NtStatus;
use proptest::prelude::*;
use proves::proves;

use super::Share::{Exclusive, Shared};
use super::{AddressTable, Claim, Protocol, Share};

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[proves("C-103")]
#[test]
fn neither_share_bit_means_exclusive() {
    let wanted = [(0, Exclusive), (1, Shared), (2, Shared), (3, Shared), (4, Exclusive), (7, Shared)];
    for (access, share) in wanted {
        assert_eq!(Share::from_share_access(access), share);
    }
}

#[proves("C-101", "C-103", "C-168")]
#[test]
fn an_exclusive_open_keeps_others_out_until_it_is_released() {
    for later in [Exclusive, Shared] {
        let mut table = AddressTable::new();
        let first = table.claim(Protocol::Tcp, at("0.0.0.0:80"), Exclusive).unwrap();
        for text in ["0.0.0.0:80", "127.0.0.1:80"] {
            assert_eq!(table.claim(Protocol::Tcp, at(text), later), Err(NtStatus::SHARING_VIOLATION));
        }
        table.release(first);
        assert!(table.claim(Protocol::Tcp, at("127.0.0.1:80"), Exclusive).is_ok());
    }
}

#[proves("C-104", "C-101")]
#[test]
fn shared_opens_join_and_an_exclusive_one_fails() {
    let mut table = AddressTable::new();
    let claims: Vec<Claim> =
        (0..5).map(|_| table.claim(Protocol::Udp, at("10.0.0.1:53"), Shared).expect("shared")).collect();
    assert_eq!(claims.iter().map(|claim| table.holders(claim)).collect::<Vec<usize>>(), [5; 5]);
    assert!(claims.iter().all(Claim::is_shared));
    let alone = table.claim(Protocol::Udp, at("10.0.0.2:53"), Exclusive).unwrap();
    assert!(!alone.is_shared());
    table.release(alone);
    let wildcard = table.claim(Protocol::Udp, at("0.0.0.0:53"), Shared).unwrap();
    assert_eq!((table.holders(&wildcard), table.holders(&claims[0])), (1, 5));
    table.release(wildcard);
    for claim in claims {
        let exclusive = table.claim(Protocol::Udp, at("10.0.0.1:53"), Exclusive);
        assert_eq!(exclusive, Err(NtStatus::ADDRESS_ALREADY_EXISTS));
        table.release(claim);
    }
    assert!(table.claim(Protocol::Udp, at("10.0.0.1:53"), Exclusive).is_ok());
}

#[proves("C-102")]
#[test]
fn protocols_ports_and_distinct_ip_addresses_are_independent() {
    let mut table = AddressTable::new();
    let wanted = [
        (Protocol::Tcp, "10.0.0.1:80"),
        (Protocol::Udp, "10.0.0.1:80"),
        (Protocol::Tcp, "10.0.0.1:81"),
        (Protocol::Tcp, "10.0.0.2:80"),
        (Protocol::Tcp, "[::]:80"),
        (Protocol::Raw(1), "0.0.0.0:0"),
        (Protocol::Raw(2), "0.0.0.0:0"),
    ];
    for (protocol, text) in wanted {
        assert!(table.claim(protocol, at(text), Exclusive).is_ok(), "{text}");
    }
    assert_eq!(table.claim(Protocol::Raw(1), at("0.0.0.0:0"), Exclusive), Err(NtStatus::SHARING_VIOLATION));
}

#[proves("C-105")]
#[test]
fn a_broadcast_address_is_never_exclusive() {
    let mut table = AddressTable::new();
    let broadcast = at("255.255.255.255:67");
    assert_eq!(table.claim(Protocol::Udp, broadcast, Exclusive), Err(NtStatus::SHARING_VIOLATION));
    assert!(table.claim(Protocol::Udp, broadcast, Shared).is_ok());
}

#[proves("C-109", "C-097")]
#[test]
fn floating_addresses_never_conflict_until_they_are_pinned() {
    let mut table = AddressTable::new();
    let mut floating: Vec<Claim> =
        (0..3).map(|_| table.claim(Protocol::Tcp, at("0.0.0.0:0"), Exclusive).expect("floats")).collect();
    assert!(floating.iter().all(|claim| claim.local().port() == 0 && table.holders(claim) == 1));
    let pinned = table.pin(floating.pop().unwrap(), at("0.0.0.0:2000")).unwrap();
    assert_eq!(pinned.local(), at("0.0.0.0:2000"));
    let (back, status) = table.pin(floating.pop().unwrap(), at("0.0.0.0:2000")).unwrap_err();
    assert_eq!((back.local().port(), status), (0, NtStatus::SHARING_VIOLATION));
    table.release(back);
    // Pinning again changes nothing.
    let pinned = table.pin(pinned, at("0.0.0.0:3000")).unwrap();
    assert_eq!(pinned.local(), at("0.0.0.0:2000"));
    table.release(pinned);
    assert!(table.pin(floating.pop().unwrap(), at("0.0.0.0:2000")).is_ok());
}

proptest! {
    /// What the table admits is what a plain list of holders would.
    #[test]
    fn claims_agree_with_a_list(steps in prop::collection::vec((any::<bool>(), 0_u16..3, 0_u8..3, any::<bool>(), any::<prop::sample::Index>()), 1..60)) {
        let mut table = AddressTable::new();
        let mut held: Vec<(Claim, u8, Share)> = Vec::new();
        for (releases, port, ip, exclusive, pick) in steps {
            if releases && !held.is_empty() {
                let (claim, ..) = held.swap_remove(pick.index(held.len()));
                table.release(claim);
                continue;
            }
            let share = if exclusive { Exclusive } else { Shared };
            let local = SocketAddr::from(([0, 0, 0, ip], port + 1));
            let rivals = held.iter().filter(|(claim, other, _)| {
                claim.local().port() == local.port() && (*other == ip || *other == 0 || ip == 0)
            });
            let shares: Vec<Share> = rivals.map(|(.., share)| *share).collect();
            let expected = shares.is_empty() || (share == Shared && shares.iter().all(|other| *other == Shared));
            let claim = table.claim(Protocol::Tcp, local, share);
            prop_assert_eq!(claim.is_ok(), expected);
            held.extend(claim.ok().map(|claim| (claim, ip, share)));
        }
    }
}
