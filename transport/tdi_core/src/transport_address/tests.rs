use std::vec::Vec;

use core::net::{IpAddr, SocketAddr, SocketAddrV6};

use nt_abi::NtStatus;
use proptest::prelude::*;
use proves::proves;

use super::{
    AddressError, Family, Returned, check_local, encode, encode_into, parse, parse_destination, parse_filter,
    parse_local, parse_remote,
};

fn v4() -> SocketAddr {
    "10.1.2.3:80".parse().unwrap()
}

fn v6() -> SocketAddr {
    SocketAddrV6::new("fe80::1:2".parse().unwrap(), 0x1234, 0x0102_0304, 9).into()
}

/// A TRANSPORT_ADDRESS of elements of type and bytes.
fn list(elements: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = i32::try_from(elements.len()).unwrap().to_le_bytes().to_vec();
    for (kind, address) in elements {
        bytes.extend(u16::try_from(address.len()).unwrap().to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(*address);
    }
    bytes
}

const IP: &[u8] = &[0, 80, 10, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0];

#[proves("C-039", "C-040", "C-042", "C-278", "C-433", "D-166")]
#[test]
fn an_ipv4_address_is_22_bytes() {
    let expected = [1, 0, 0, 0, 14, 0, 2, 0, 0, 80, 10, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(encode(v4()).as_bytes(), expected);
    assert_eq!(parse(&expected, Family::V4), Ok(v4()));
}

#[proves("C-043")]
#[test]
fn an_ipv6_address_is_34_bytes() {
    let encoded = encode(v6());
    let bytes = encoded.as_bytes();
    assert_eq!(bytes.len(), 34);
    assert_eq!(bytes[..14], [1, 0, 0, 0, 26, 0, 23, 0, 0x12, 0x34, 1, 2, 3, 4]);
    assert_eq!(bytes[14..30], [0xFE, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2]);
    assert_eq!(bytes[30..], [9, 0, 0, 0]);
    assert_eq!(parse(bytes, Family::V6), Ok(v6()));
}

#[proves("C-044")]
#[test]
fn an_old_ipv6_address_has_no_scope() {
    let mut old = encode(v6()).as_bytes()[..30].to_vec();
    old[4] = 22;
    let SocketAddr::V6(mut expected) = v6() else { unreachable!() };
    expected.set_scope_id(0);
    assert_eq!(parse(&old, Family::V6), Ok(expected.into()));
    old.pop();
    old[4] = 21;
    assert_eq!(parse(&old, Family::V6), Err(AddressError::NoneUsable));
}

#[proves("C-048")]
#[test]
fn the_first_usable_element_counts_and_others_are_skipped() {
    let other: &[u8] = &[0, 81, 10, 9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0];
    let ip6 = &encode(v6()).as_bytes()[8..].to_vec();
    let mixed = list(&[(17, &[1; 18]), (2, &IP[..13]), (23, ip6), (2, IP), (2, other)]);
    assert_eq!(parse(&mixed, Family::V4), Ok(v4()));
    assert_eq!(parse(&mixed, Family::V6), Ok(v6()));
}

#[proves("C-049", "C-267", "C-292")]
#[test]
fn without_a_usable_element_there_is_an_address_error() {
    for bytes in [list(&[]), list(&[(17, &[0; 18])]), list(&[(2, &IP[..13])]), (-1_i32).to_le_bytes().to_vec()] {
        assert_eq!(parse(&bytes, Family::V4), Err(AddressError::NoneUsable));
        assert_eq!(parse_remote(&bytes, Family::V4), Err(NtStatus::INVALID_ADDRESS_COMPONENT));
        assert_eq!(parse_filter(&bytes, Family::V4), Err(NtStatus::INVALID_ADDRESS_COMPONENT));
    }
}

#[proves("C-050", "C-041")]
#[test]
fn an_element_that_runs_past_the_buffer_makes_the_list_unusable() {
    let whole = list(&[(17, &[0; 18]), (2, IP)]);
    for length in 0..whole.len() {
        assert_eq!(parse(&whole[..length], Family::V4), Err(AddressError::Truncated), "{length}");
        assert_eq!(parse_local(&whole[..length], Family::V4), Err(NtStatus::NONEXISTENT_EA_ENTRY));
    }
    for one in [list(&[(17, &[0; 18])]), list(&[(2, IP)])] {
        let mut more = one;
        more[0] = 2;
        assert_eq!(parse(&more, Family::V4), Err(AddressError::Truncated));
        assert_eq!(parse_local(&more, Family::V4), Err(NtStatus::NONEXISTENT_EA_ENTRY));
        assert_eq!(parse_remote(&more, Family::V4), Err(NtStatus::INVALID_ADDRESS_COMPONENT));
        assert_eq!(parse_destination(&more, Family::V4), Err(NtStatus::INVALID_ADDRESS));
        // What stands behind the one element, as clients' buffers do (C-093), is read as another.
        more.extend([0, 0, 17, 0]);
        assert!(!matches!(parse(&more, Family::V4), Err(AddressError::Truncated)));
    }
}

#[proves("C-267", "D-031")]
#[test]
fn nobody_connects_to_port_0_or_to_the_address_of_any_everybody_or_a_group() {
    let texts = ["10.0.0.1:0", "0.0.0.0:80", "0.0.0.0:0", "255.255.255.255:80", "224.0.0.1:80", "239.255.255.255:80"];
    for text in texts.into_iter().chain(["[::1]:0", "[::]:80", "[ff02::1]:80"]) {
        let address: SocketAddr = text.parse().unwrap();
        let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
        let bytes = encode(address);
        assert_eq!(parse_remote(bytes.as_bytes(), family), Err(NtStatus::INVALID_ADDRESS_COMPONENT), "{text}");
        assert_eq!(parse_filter(bytes.as_bytes(), family), Ok(address));
        assert_eq!(parse_local(bytes.as_bytes(), family), Ok(address));
    }
    for text in ["10.0.0.1:0", "0.0.0.0:80"] {
        let address = encode(text.parse().unwrap());
        assert_eq!(parse_destination(address.as_bytes(), Family::V4), Err(NtStatus::INVALID_ADDRESS));
    }
    for text in ["255.255.255.255:80", "224.0.0.1:80", "10.0.0.1:80"] {
        let address: SocketAddr = text.parse().unwrap();
        assert_eq!(parse_destination(encode(address).as_bytes(), Family::V4), Ok(address));
    }
    // An address like any other to whoever connects, though it may be some network's broadcast address.
    for remote in [v4(), "10.0.0.255:80".parse().unwrap(), "240.0.0.1:80".parse().unwrap()] {
        assert_eq!(parse_remote(encode(remote).as_bytes(), Family::V4), Ok(remote));
    }
}

#[proves("C-095", "C-096")]
#[test]
fn a_local_address_is_any_or_an_interfaces_own() {
    let own = |ip: IpAddr| ip == v4().ip();
    assert_eq!(check_local(v4(), own), Ok(()));
    assert_eq!(check_local("0.0.0.0:0".parse().unwrap(), own), Ok(()));
    assert_eq!(check_local("[::]:5".parse().unwrap(), own), Ok(()));
    assert_eq!(check_local("10.1.2.4:80".parse().unwrap(), own), Err(NtStatus::INVALID_ADDRESS));
}

#[proves("C-213", "C-061")]
#[test]
fn an_address_that_does_not_fit_is_cut_with_a_warning() {
    let whole = encode(v4());
    for room in 0..40 {
        let mut out = std::vec![0xEE; room];
        let Returned { written, status } = encode_into(v4(), &mut out);
        assert_eq!(written, room.min(22));
        assert_eq!(out[..written], whole.as_bytes()[..written]);
        assert!(out[written..].iter().all(|byte| *byte == 0xEE));
        let fits = room == 0 || room >= 22;
        assert_eq!(status, if fits { NtStatus::SUCCESS } else { NtStatus::BUFFER_OVERFLOW }, "{room}");
    }
}

proptest! {
    #[test]
    fn what_is_encoded_is_read_back(ip in any::<[u8; 4]>(), ip6 in any::<[u8; 16]>(), port: u16, flow: u32, scope: u32) {
        let v4 = SocketAddr::new(ip.into(), port);
        let v6: SocketAddr = SocketAddrV6::new(ip6.into(), port, flow, scope).into();
        prop_assert_eq!(parse(encode(v4).as_bytes(), Family::V4), Ok(v4));
        prop_assert_eq!(parse(encode(v6).as_bytes(), Family::V6), Ok(v6));
        prop_assert_eq!(parse(encode(v6).as_bytes(), Family::V4), Err(AddressError::NoneUsable));
    }

    #[test]
    fn any_bytes_give_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        for family in [Family::V4, Family::V6] {
            let _ = parse(&bytes, family);
        }
    }

    #[test]
    fn a_damaged_address_gives_an_answer(at in 0_usize..22, byte: u8) {
        let mut bytes = encode(v4()).as_bytes().to_vec();
        bytes[at] = byte;
        let _ = parse(&bytes, Family::V4);
    }
}
