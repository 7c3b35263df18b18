//! The private codes of TCP/IP: options of connections and addresses.

mod client;
mod peer;
mod scripted;

use std::net::SocketAddr;

use client::*;
use net_api::{NetError, Progress};
use nt_abi::NtStatus;
use nt_abi::tdi::private::*;
use peer::on_loopback;
use proves::proves;
use scripted::{remote, scripted};

const CODES: [u32; 2] = [IOCTL_TCP_SET_INFORMATION_EX, IOCTL_TCP_SET_INFORMATION_EX_ANY];
const CONNECTION: [u32; 3] = [CO_TL_ENTITY, INFO_CLASS_PROTOCOL, INFO_TYPE_CONNECTION];
const ADDRESS: [u32; 3] = [CL_TL_ENTITY, INFO_CLASS_PROTOCOL, INFO_TYPE_ADDRESS_OBJECT];

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A TCP_REQUEST_SET_INFORMATION_EX.
fn input([entity, class, kind]: [u32; 3], id: u32, value: &[u8]) -> Vec<u8> {
    let mut bytes = words(&[entity, 0, class, kind, id, value.len() as u32]);
    bytes.extend(value);
    bytes
}

#[track_caller]
fn set(file: &File, object: [u32; 3], id: u32, value: &[u8]) -> NtStatus {
    let (status, information) = file.control(CODES[0], &input(object, id, value), &mut []);
    assert_eq!(information, 0);
    status
}

#[track_caller]
fn get(file: &File, id: u32) -> Result<u32, NtStatus> {
    let [entity, class, kind] = CONNECTION;
    let mut request = words(&[entity, 0, class, kind, id]);
    request.resize(40, 0);
    let mut answer = [0xFF; 8];
    match file.control(IOCTL_TCP_QUERY_INFORMATION_EX, &request, &mut answer) {
        (NtStatus::SUCCESS, 4) => Ok(u32::from_le_bytes(answer[..4].try_into().expect("four bytes"))),
        (status, 0) => Err(status),
        other => panic!("{other:?}"),
    }
}

#[proves("D-177", "D-178", "D-180", "D-201", "D-202", "D-176")]
#[test]
fn option_of_a_connection_reaches_the_connection_there_is_and_those_to_come() {
    scripted(|network| {
        let (address, endpoint) = open_pair(1);
        assert_eq!(set(&endpoint, CONNECTION, tcp_socket::NODELAY, &words(&[1])), NtStatus::SUCCESS);
        assert_eq!(endpoint.connect(remote()), NtStatus::SUCCESS);
        assert_eq!(network.line(0).options(), ["no delay true"]);
        for (code, on) in CODES.into_iter().zip([1, 0]) {
            let request = input(CONNECTION, tcp_socket::KEEPALIVE, &words(&[on]));
            assert_eq!(endpoint.control(code, &request, &mut []), (NtStatus::SUCCESS, 0));
            assert_eq!(network.line(0).options(), [format!("keep alive {}", on == 1)]);
        }
        let values = words(&[1, 60_000, 5_500]);
        assert_eq!(set(&endpoint, CONNECTION, tcp_socket::KEEPALIVE_VALS, &values), NtStatus::SUCCESS);
        let times = ["keep alive after 60s every 5.5s", "keep alive true"];
        assert_eq!(network.line(0).options(), times);
        assert_eq!(endpoint.abort(), NtStatus::SUCCESS);
        assert_eq!(endpoint.connect(remote()), NtStatus::SUCCESS);
        assert_eq!(network.line(1).options(), ["no delay true", times[0], times[1]]);
        for file in [endpoint, address] {
            file.close(Order::HandleFirst);
        }
    });
}

#[proves("D-207")]
#[test]
fn option_of_a_connection_is_read_back() {
    scripted(|_| {
        let endpoint = open_endpoint(1);
        assert_eq!([tcp_socket::NODELAY, tcp_socket::KEEPALIVE].map(|id| get(&endpoint, id)), [Ok(0), Ok(0)]);
        assert_eq!(set(&endpoint, CONNECTION, tcp_socket::NODELAY, &words(&[7])), NtStatus::SUCCESS);
        assert_eq!([tcp_socket::NODELAY, tcp_socket::KEEPALIVE].map(|id| get(&endpoint, id)), [Ok(1), Ok(0)]);
        assert_eq!(get(&endpoint, 99), Err(NtStatus::NOT_SUPPORTED));
        endpoint.close(Order::HandleFirst);
    });
}

#[proves("D-175", "D-181", "D-182")]
#[test]
fn query_without_input_or_room_is_an_invalid_parameter() {
    scripted(|_| {
        let channel = try_open(r"\Device\Tcp", &[], 0).expect("a control channel");
        let query = IOCTL_TCP_QUERY_INFORMATION_EX;
        let bad = (NtStatus::INVALID_PARAMETER, 0);
        assert_eq!(channel.control(query, &[], &mut [0; 64]), bad);
        assert_eq!(channel.control(query, &[0; 39], &mut [0; 64]), bad);
        assert_eq!(channel.control(query, &[0; 40], &mut []), bad);
        channel.close(Order::HandleFirst);
    });
}

#[proves("D-180")]
#[test]
fn request_that_cannot_be_honoured_is_refused_and_sets_nothing() {
    scripted(|network| {
        let (address, endpoint) = open_pair(1);
        let good = input(CONNECTION, tcp_socket::NODELAY, &words(&[1]));
        let mut long = good.clone();
        long[20] = 5;
        for bytes in [&good[..0], &good[..23], &good[..27], &long] {
            assert_eq!(endpoint.control(CODES[1], bytes, &mut []), (NtStatus::INVALID_PARAMETER, 0));
        }
        // A count without value bytes.
        assert_eq!(set(&endpoint, CONNECTION, tcp_socket::NODELAY, &[]), NtStatus::INVALID_PARAMETER);
        let half = words(&[1, 2]);
        assert_eq!(set(&endpoint, CONNECTION, tcp_socket::KEEPALIVE_VALS, &half), NtStatus::INVALID_PARAMETER);
        for id in [0, 3, 4, 5, 8, 10, u32::MAX] {
            assert_eq!(set(&endpoint, CONNECTION, id, &words(&[1])), NtStatus::NOT_SUPPORTED);
        }
        let wrong = NtStatus::INVALID_DEVICE_REQUEST;
        assert_eq!(set(&address, CONNECTION, tcp_socket::NODELAY, &words(&[1])), wrong, "D-010");
        assert_eq!(set(&endpoint, ADDRESS, ao_option::PROTECT, &words(&[10])), wrong, "D-010");
        assert_eq!(set(&address, ADDRESS, ao_option::TTL, &words(&[4])), NtStatus::NOT_SUPPORTED);
        assert_eq!(set(&address, ADDRESS, ao_option::PROTECT, &words(&[10])), NtStatus::SUCCESS, "D-205");
        assert_eq!(endpoint.connect(remote()), NtStatus::SUCCESS);
        assert_eq!(network.line(0).options(), [""; 0]);
        network.line(0).fail(NetError::Reset);
        let broken = set(&endpoint, CONNECTION, tcp_socket::NODELAY, &words(&[1]));
        assert_eq!(broken, NtStatus::INVALID_CONNECTION);
        assert_eq!(endpoint.control(0x0012_0FFF, &[], &mut []), (wrong, 0));
        for file in [endpoint, address] {
            file.close(Order::HandleFirst);
        }
    });
}

#[test]
fn option_waits_until_a_pending_attempt_has_succeeded() {
    scripted(|network| {
        let (address, endpoint) = open_pair(1);
        network.attempt(Ok(Progress::Pending));
        let to = Information::of(remote());
        let connect = endpoint.start_connect(&to, None);
        assert_eq!(set(&endpoint, CONNECTION, tcp_socket::NODELAY, &words(&[1])), NtStatus::SUCCESS);
        assert_eq!(network.line(0).options(), [""; 0]);
        network.line(0).finish(Ok(Progress::Established));
        assert_eq!(connect.wait().0, NtStatus::SUCCESS);
        assert_eq!(network.line(0).options(), ["no delay true"]);
        for file in [endpoint, address] {
            file.close(Order::HandleFirst);
        }
    });
}

#[proves("D-203", "D-204", "D-206")]
#[test]
fn option_of_a_datagram_address_reaches_the_network() {
    on_loopback(|| {
        let local: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let address = try_open(r"\Device\Udp", &address_ea(local), 0).expect("an address");
        // One byte or a ULONG.
        for value in [&[5][..], &words(&[5])] {
            for id in [ao_option::TTL, ao_option::MCASTTTL, ao_option::TOS, ao_option::MCASTLOOP, ao_option::BROADCAST]
            {
                assert_eq!(set(&address, ADDRESS, id, value), NtStatus::SUCCESS, "{id}");
            }
        }
        assert_eq!(set(&address, ADDRESS, ao_option::TTL, &words(&[256])), NtStatus::INVALID_PARAMETER);
        let [group, here] = [[239, 1, 2, 3], [127, 0, 0, 1]];
        assert_eq!(set(&address, ADDRESS, ao_option::MCASTIF, &here), NtStatus::SUCCESS);
        let membership = [group, here].concat();
        assert_eq!(set(&address, ADDRESS, ao_option::ADD_MCAST, &membership), NtStatus::SUCCESS);
        assert_eq!(set(&address, ADDRESS, ao_option::ADD_MCAST, &membership), NtStatus::INVALID_ADDRESS, "a member");
        assert_eq!(set(&address, ADDRESS, ao_option::DEL_MCAST, &membership), NtStatus::SUCCESS);
        assert_eq!(set(&address, ADDRESS, ao_option::DEL_MCAST, &membership), NtStatus::INVALID_ADDRESS, "no member");
        assert_eq!(set(&address, ADDRESS, ao_option::DEL_MCAST, &membership[..6]), NtStatus::INVALID_PARAMETER);
        assert_eq!(set(&address, ADDRESS, 12, &words(&[1])), NtStatus::NOT_SUPPORTED, "header include");
        address.close(Order::HandleFirst);
    });
}

#[proves("D-175", "D-178", "D-183", "D-184", "D-188", "D-197")]
#[test]
fn tables_of_the_host_are_told_on_any_file_of_any_device() {
    on_loopback(|| {
        let (address, endpoint) = open_pair(1);
        let channels =
            [r"\Device\Ip", r"\Device\Tcp", r"\Device\Udp"].map(|name| try_open(name, &[], 0).expect("a channel"));
        for file in channels.iter().chain([&address, &endpoint]) {
            let ask = |object: [u32; 5], room: usize| {
                let mut request = words(&object);
                request.resize(40, 0);
                let mut answer = vec![0xEE; room];
                let (status, count) = file.control(IOCTL_TCP_QUERY_INFORMATION_EX, &request, &mut answer);
                answer.truncate(count as usize);
                (status, answer)
            };
            let list = [GENERIC_ENTITY, 0, INFO_CLASS_GENERIC, INFO_TYPE_PROVIDER, entity_id::LIST];
            // The loopback interface, and five entities for the protocols.
            assert_eq!(ask(list, 47), (NtStatus::BUFFER_TOO_SMALL, Vec::new()));
            let (status, entities) = ask(list, 1000);
            assert_eq!((status, entities.len()), (NtStatus::SUCCESS, 48));
            assert_eq!(entities[..8], words(&[IF_ENTITY, 0]));
            let ip = |id| [CL_NL_ENTITY, 0, INFO_CLASS_PROTOCOL, INFO_TYPE_PROVIDER, id];
            let (status, counts) = ask(ip(entity_id::ENTRY), 92);
            assert_eq!((status, counts.len()), (NtStatus::SUCCESS, 92));
            let count = u32::from_le_bytes(counts[84..88].try_into().expect("four bytes")) as usize;
            let (status, addresses) = ask(ip(entity_id::ADDRESSES), count * 24);
            assert_eq!((status, addresses.len()), (NtStatus::SUCCESS, count * 24));
            assert!(addresses.chunks(24).any(|entry| entry[..4] == [127, 0, 0, 1] && entry[8..12] == [255, 0, 0, 0]));
        }
        for file in channels.into_iter().chain([endpoint, address]) {
            file.close(Order::ReferenceFirst);
        }
    });
}
