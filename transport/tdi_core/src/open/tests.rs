use std::vec::Vec;

use core::net::SocketAddr;

use nt_abi::{NtStatus, ea};
use proptest::prelude::*;
use proves::proves;

use super::{Open, Provider, decide, entries, raw_protocol};
use crate::transport_address::{self, Family};

const TCP: Provider = Provider { family: Family::V4, connections: true };
const UDP: Provider = Provider { family: Family::V4, connections: false };

fn entry(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::from([0, 0, 0, 0, 0, u8::try_from(name.len()).unwrap()]);
    bytes.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
    bytes.extend(name);
    bytes.push(0);
    bytes.extend(value);
    bytes
}

/// Entries one behind the other, at multiples of 4.
fn chain(list: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (at, entry) in list.iter().enumerate() {
        let start = bytes.len();
        bytes.extend(entry);
        if at + 1 < list.len() {
            bytes.resize(bytes.len().next_multiple_of(4), 0xEE);
            let next = u32::try_from(bytes.len() - start).unwrap();
            bytes[start..start + 4].copy_from_slice(&next.to_le_bytes());
        }
    }
    bytes
}

fn local() -> SocketAddr {
    "127.0.0.1:80".parse().unwrap()
}

fn address_value() -> Vec<u8> {
    transport_address::encode(local()).as_bytes().to_vec()
}

#[proves("C-070")]
#[test]
fn an_open_without_attributes_makes_a_control_channel() {
    assert_eq!(decide(&[], TCP), Ok(Open::ControlChannel));
    assert_eq!(decide(&[], UDP), Ok(Open::ControlChannel));
}

#[proves("C-071", "C-025", "C-026", "C-027", "C-030", "C-092")]
#[test]
fn the_attribute_transport_address_makes_an_address() {
    let list = entry(b"TransportAddress", &address_value());
    assert_eq!(list.len(), 47);
    assert_eq!(list.iter().skip(25).take(4).copied().collect::<Vec<u8>>(), [1, 0, 0, 0]);
    for provider in [TCP, UDP] {
        assert_eq!(decide(&list, provider), Ok(Open::TransportAddress(local())));
    }
}

#[proves("C-072", "C-028", "C-031", "C-029", "C-113", "C-550")]
#[test]
fn the_attribute_connection_context_makes_an_endpoint_with_any_value() {
    for context in [0, 1, u64::MAX, 0x8000_0000_0000_0000] {
        let list = entry(b"ConnectionContext", &u64::to_le_bytes(context));
        assert_eq!(list.len(), 34);
        assert_eq!(decide(&list, TCP), Ok(Open::ConnectionEndpoint(context)));
    }
}

#[proves("C-073")]
#[test]
fn both_attributes_at_once_are_refused() {
    let both = [entry(b"TransportAddress", &address_value()), entry(b"ConnectionContext", &[0; 8])];
    let [address, endpoint] = both.clone();
    assert_eq!(decide(&chain(&both), TCP), Err(NtStatus::INVALID_PARAMETER));
    assert_eq!(decide(&chain(&[endpoint, address]), TCP), Err(NtStatus::INVALID_PARAMETER));
}

#[proves("C-074", "C-037")]
#[test]
fn a_name_that_is_neither_is_refused() {
    let names: [&[u8]; 6] =
        [b"", b"transportaddress", b"TransportAddres", b"TransportAddressX", b"Connectioncontext", b"Other"];
    for name in names {
        assert_eq!(decide(&entry(name, &address_value()), TCP), Err(NtStatus::INVALID_EA_NAME));
    }
}

#[proves("C-075", "C-035")]
#[test]
fn the_whole_list_is_searched() {
    let wanted = entry(b"ConnectionContext", &7_u64.to_le_bytes());
    let list = [entry(b"Other", b"abc"), entry(b"", b""), wanted.clone(), entry(b"Last", b"")];
    assert_eq!(decide(&chain(&list), TCP), Ok(Open::ConnectionEndpoint(7)));
    // Of two of a kind the first counts.
    let twice = [wanted, entry(b"ConnectionContext", &8_u64.to_le_bytes())];
    assert_eq!(decide(&chain(&twice), TCP), Ok(Open::ConnectionEndpoint(7)));
}

#[proves("C-115")]
#[test]
fn an_endpoint_needs_a_whole_pointer_and_a_connection_oriented_device() {
    for length in 0..8 {
        let list = entry(b"ConnectionContext", &[0; 8][..length]);
        assert_eq!(decide(&list, TCP), Err(NtStatus::INVALID_PARAMETER));
    }
    assert_eq!(decide(&entry(b"ConnectionContext", &[0; 8]), UDP), Err(NtStatus::INVALID_PARAMETER));
    assert_eq!(
        decide(&entry(b"ConnectionContext", &[1; 20]), TCP),
        Ok(Open::ConnectionEndpoint(0x0101_0101_0101_0101))
    );
}

#[proves("C-032", "C-093")]
#[test]
fn room_behind_the_value_and_behind_the_entry_does_no_harm() {
    let mut value = address_value();
    value.extend([0xEE; 4]);
    let mut list = entry(b"TransportAddress", &value);
    list.resize(300, 0xEE);
    assert_eq!(decide(&list, TCP), Ok(Open::TransportAddress(local())));
}

#[proves("C-086", "C-094")]
#[test]
fn an_unusable_address_has_the_documented_status() {
    let value = address_value();
    for length in 0..value.len() {
        let short = entry(b"TransportAddress", &value[..length]);
        assert_eq!(decide(&short, TCP), Err(NtStatus::NONEXISTENT_EA_ENTRY), "{length}");
    }
    let mut foreign = value;
    foreign[6] = 17;
    assert_eq!(decide(&entry(b"TransportAddress", &foreign), TCP), Err(NtStatus::INVALID_ADDRESS_COMPONENT));
}

#[proves("C-085")]
#[test]
fn lengths_that_run_past_the_buffer_are_found() {
    let whole = entry(b"TransportAddress", &address_value());
    for length in 1..whole.len() {
        assert_eq!(decide(&whole[..length], TCP), Err(NtStatus::EA_LIST_INCONSISTENT), "{length}");
    }
    let mut no_nul = whole.clone();
    no_nul[24] = b'X';
    assert_eq!(decide(&no_nul, TCP), Err(NtStatus::EA_LIST_INCONSISTENT));
    let two = chain(&[whole.clone(), whole]);
    for (next, fits) in [(48_u32, true), (47, false), (4, false), (1 << 30, false), (u32::MAX, false), (2, false)] {
        let mut list = two.clone();
        list[..4].copy_from_slice(&next.to_le_bytes());
        assert_eq!(decide(&list, TCP).is_ok(), fits, "{next}");
    }
    // A next entry exactly at the end is an entry that is not there.
    let mut list = entry(b"Other", b"12");
    list.resize(16, 0);
    list[0] = 16;
    assert_eq!(decide(&list, TCP), Err(NtStatus::EA_LIST_INCONSISTENT));
}

#[test]
fn a_walk_ends_with_its_first_error() {
    let mut list = chain(&[entry(b"A", b"1"), entry(b"B", b"2"), entry(b"C", b"3")]);
    list[0] = 3;
    let walked: Vec<_> = entries(&list).collect();
    assert_eq!(walked, [Err(NtStatus::EA_LIST_INCONSISTENT)]);
    assert_eq!(ea::TRANSPORT_ADDRESS.len(), 16);
}

proptest! {
    #[test]
    fn any_bytes_give_an_answer_and_a_bounded_walk(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decide(&bytes, TCP);
        prop_assert!(entries(&bytes).count() <= bytes.len() / 8 + 1);
    }

    #[test]
    fn a_list_of_entries_is_read_back(list in prop::collection::vec(("[A-Za-z]{0,30}", prop::collection::vec(any::<u8>(), 0..40)), 1..6)) {
        let made: Vec<Vec<u8>> = list.iter().map(|(name, value)| entry(name.as_bytes(), value)).collect();
        let bytes = chain(&made);
        let read: Vec<_> = entries(&bytes).map(|entry| entry.expect("a sound list")).collect();
        prop_assert_eq!(read.len(), list.len());
        for (read, (name, value)) in read.iter().zip(&list) {
            prop_assert_eq!((read.name, read.value), (name.as_bytes(), &value[..]));
        }
    }

    #[test]
    fn a_damaged_list_gives_an_answer(at in 0_usize..47, byte in any::<u8>()) {
        let mut list = entry(b"TransportAddress", &address_value());
        list[at] = byte;
        let _ = decide(&list, TCP);
    }
}

#[proves("C-035")]
#[test]
fn an_entry_begins_behind_the_one_before_at_a_multiple_of_four() {
    // 17 bytes, and room for another wherever it is said to begin.
    let mut list = entry(b"abcd", b"1234");
    list.resize(40, 0);
    let is_refused = |next: u32| {
        let mut list = list.clone();
        list[..4].copy_from_slice(&next.to_le_bytes());
        entries(&list).next().expect("there is a first entry").is_err()
    };
    let accepted: Vec<u32> = (0..44).filter(|&next| !is_refused(next)).collect();
    assert_eq!(accepted, [0, 20, 24, 28, 32, 36, 40]);
}

fn protocol(suffix: &str) -> Result<Option<u8>, NtStatus> {
    raw_protocol(&suffix.encode_utf16().collect::<Vec<u16>>())
}

#[proves("C-004")]
#[test]
fn what_follows_the_name_of_the_raw_device_is_the_protocol() {
    assert_eq!(protocol(""), Ok(None));
    for (suffix, number) in [("\\1", 1), ("\\0", 0), ("\\006", 6), ("\\255", 255), ("\\0000000000017", 17)] {
        assert_eq!(protocol(suffix), Ok(Some(number)), "{suffix}");
    }
}

#[proves("C-005")]
#[test]
fn what_is_no_protocol_is_an_invalid_parameter() {
    for suffix in [
        "\\",
        "1",
        "\\256",
        "\\99999999999999999999",
        "\\-1",
        "\\+1",
        "\\ 1",
        "\\1 ",
        "\\1\\2",
        "\\0x1",
        "\\udp",
        "\\\u{661}",
    ] {
        assert_eq!(protocol(suffix), Err(NtStatus::INVALID_PARAMETER), "{suffix}");
    }
}

proptest! {
    #[test]
    fn any_suffix_is_judged(suffix in prop::collection::vec(any::<u16>(), 0..8)) {
        let named = raw_protocol(&suffix);
        prop_assert_eq!(named == Ok(None), suffix.is_empty());
    }
}
