//! Incoming connections over loopback sockets: TDI_LISTEN, TDI_ACCEPT, ClientEventConnect.

mod client;
mod peer;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ptr;
use std::sync::Arc;

use client::handlers::{Answer, Client, Seen, bytes_of};
use client::*;
use host_net::HostNetwork;
use nt_abi::NtStatus;
use nt_abi::tdi::{QUERY_ACCEPT, TdiEvent, TdiRequest, disconnect_flags, query};
use peer::*;
use proves::proves;
use sim_net::{NetworkFile, Sim};
use tdi_core::transport_address::{self, Family};

/// An address of the loopback interface and where its peers connect to.
fn open_listener() -> (File, SocketAddr) {
    let address = open_address("127.0.0.1:0");
    let (status, answer) = address.query(query::ADDRESS_INFO, 100);
    assert_eq!((status, answer.len()), (NtStatus::SUCCESS, 26), "D-130");
    let local = transport_address::parse(&answer[4..], Family::V4).expect("an address");
    assert_ne!(local.port(), 0, "D-132");
    (address, local)
}

fn associated(address: &File, context: u64) -> File {
    let endpoint = open_endpoint(context);
    assert_eq!(endpoint.associate(address), NtStatus::SUCCESS);
    endpoint
}

/// Room for the remote address of an IPv4 connection.
fn room() -> Information {
    Information::new(vec![0; 22].into())
}

fn listen(endpoint: &File, flags: u64, filter: Option<&Information>, returned: Option<&Information>) -> Request {
    let pointer = |information: Option<&Information>| information.map_or(0, Information::pointer);
    let parameters = [flags, pointer(filter), pointer(returned), 0xDEAD_BEEF];
    endpoint.request(TdiRequest::LISTEN, parameters, ptr::null_mut())
}

fn accept_irp(endpoint: &File, returned: Option<&Information>) -> Request {
    let parameters = [0, returned.map_or(0, Information::pointer), 0, 0];
    Request::new(endpoint, TdiRequest::ACCEPT, parameters, ptr::null_mut()).into_current()
}

/// A handshake that is reset at once shows in connecting or in the first read, as the two happen to meet.
fn is_refused(peer: std::io::Result<TcpStream>) -> bool {
    let refused = |error: &std::io::Error| {
        matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
    };
    match peer.and_then(|mut stream| stream.read(&mut [0])) {
        Ok(_) => false,
        Err(error) => refused(&error),
    }
}

#[proves("C-293", "C-300", "C-301", "C-281")]
#[test]
fn listens_take_offers_in_the_order_they_were_posted() {
    on_loopback(|| {
        let (address, local) = open_listener();
        let endpoints = [associated(&address, 1), associated(&address, 2)];
        let returned = [room(), room()];
        let listens = [0, 1].map(|at| listen(&endpoints[at], 0, None, Some(&returned[at])));
        for (at, text) in [b"one", b"two"].into_iter().enumerate() {
            let mut stream = TcpStream::connect(local).expect("accepted");
            assert_eq!(listens[at].wait(), (NtStatus::SUCCESS, 0));
            let remote = transport_address::parse(&returned[at].address, Family::V4).expect("an address");
            assert_eq!(remote, stream.local_addr().expect("an address"));
            stream.write_all(text).expect("room");
            assert_eq!(endpoints[at].receive(10).as_deref(), Ok(text.as_slice()));
            assert_eq!(endpoints[at].send(text), (NtStatus::SUCCESS, 3));
            let mut answer = [0; 3];
            stream.read_exact(&mut answer).expect("the answer");
            assert_eq!(&answer, text);
        }
        for file in endpoints.iter().chain([&address]) {
            file.close(Order::ReferenceFirst);
        }
    });
}

#[proves("C-294", "C-309", "C-316", "C-337")]
#[test]
fn query_accept_holds_the_offer_for_accept_or_rejection() {
    on_loopback(|| {
        let (address, local) = open_listener();
        let endpoint = associated(&address, 1);
        for accepts in [true, false] {
            let request = listen(&endpoint, QUERY_ACCEPT, None, None);
            let mut stream = TcpStream::connect(local).expect("a handshake");
            assert_eq!(request.wait(), (NtStatus::SUCCESS, 0));
            assert_eq!(endpoint.send(b"early").0, NtStatus::INVALID_CONNECTION);
            if accepts {
                let accept = endpoint.request(TdiRequest::ACCEPT, [0; 4], ptr::null_mut());
                assert_eq!(accept.wait(), (NtStatus::SUCCESS, 0));
                stream.write_all(b"data").expect("room");
                assert_eq!(endpoint.receive(10).as_deref(), Ok(b"data".as_slice()));
            }
            assert_eq!(endpoint.abort(), NtStatus::SUCCESS);
            assert_eq!(drain(&stream).1, End::Rst);
        }
        let nothing_offered = endpoint.request(TdiRequest::ACCEPT, [0; 4], ptr::null_mut());
        assert_eq!(nothing_offered.wait().0, NtStatus::INVALID_CONNECTION);
        endpoint.close(Order::HandleFirst);
        address.close(Order::HandleFirst);
    });
}

/// A client and a server in one driver, whose handshakes take no time.
fn on_simulated(test: impl FnOnce() + Send) {
    let file = NetworkFile::parse("[[host]]\nname = \"a\"\naddress = [\"10.0.0.1\"]\n").expect("a network file");
    let network = Sim::new(&file, 1).network("a").expect("its host");
    with_transport(Arc::new(network), |_| test());
}

/// The outcome of a connect and of what comes after it, when the listener looks at the offer and then accepts or rejects it;
/// `is_early` if the connect has ended before that.
fn held_offer(is_early: bool, accepts: bool) -> (NtStatus, Result<Vec<u8>, NtStatus>) {
    let (address, local) = open_listener();
    let (other, other_local) = open_listener();
    let client = open_address("127.0.0.1:0");
    let (serving, calling) = (associated(&address, 1), associated(&client, 2));
    let (other_serving, other_calling) = (associated(&other, 3), associated(&client, 4));

    let offered = listen(&serving, QUERY_ACCEPT, None, None);
    let connect = calling.start_connect(&Information::of(local), None);
    assert_eq!(offered.wait().0, NtStatus::SUCCESS);
    // A whole handshake that begins later: what the network says to the first one by itself, it has said by then.
    let accepted = listen(&other_serving, 0, None, None);
    assert_eq!(other_calling.connect(other_local), NtStatus::SUCCESS);
    assert_eq!(accepted.wait().0, NtStatus::SUCCESS);
    assert_eq!(connect.is_done(), is_early);

    let outcome = if accepts {
        assert_eq!(serving.request(TdiRequest::ACCEPT, [0; 4], ptr::null_mut()).wait(), (NtStatus::SUCCESS, 0));
        let connected = connect.wait().0;
        assert_eq!(serving.send(b"welcome").0, NtStatus::SUCCESS);
        (connected, calling.receive(10))
    } else {
        assert_eq!(serving.abort(), NtStatus::SUCCESS);
        (connect.wait().0, calling.receive(10))
    };
    for endpoint in [serving, calling, other_serving, other_calling] {
        endpoint.close(Order::HandleFirst);
    }
    for address in [address, other, client] {
        address.close(Order::HandleFirst);
    }
    outcome
}

#[proves("C-294", "C-309")]
#[test]
fn held_offer_is_answered_by_the_accept_where_the_network_can_refuse() {
    let welcome = || Ok(b"welcome".to_vec());
    on_simulated(|| {
        assert_eq!(held_offer(false, true), (NtStatus::SUCCESS, welcome()));
        assert_eq!(held_offer(false, false), (NtStatus::CONNECTION_REFUSED, Err(NtStatus::INVALID_CONNECTION)));
    });
    // The host's kernel has shaken hands already, so a rejection is a reset (C-445).
    on_loopback(|| {
        assert_eq!(held_offer(true, true), (NtStatus::SUCCESS, welcome()));
        assert_eq!(held_offer(true, false), (NtStatus::SUCCESS, Err(NtStatus::CONNECTION_RESET)));
    });
}

#[proves("C-290", "C-302")]
#[test]
fn filter_of_a_listen_leaves_other_offers_to_the_handler() {
    on_loopback(|| {
        let (address, local) = open_listener();
        let client = Client::new();
        client.listen_to(&address, &[TdiEvent::CONNECT]);
        let endpoint = associated(&address, 1);
        let elsewhere = Information::of("127.0.0.2:0".parse().expect("an address"));
        let request = listen(&endpoint, 0, Some(&elsewhere), None);
        assert!(is_refused(TcpStream::connect(local)));
        assert_eq!(client.seen().len(), 1);
        assert!(!request.is_done());
        let from_there = socket_from("127.0.0.2:0", local);
        assert_eq!(request.wait().0, NtStatus::SUCCESS);
        assert_eq!(client.seen(), []);
        drop(from_there);
        endpoint.close(Order::HandleFirst);
        address.close(Order::HandleFirst);
    });
}

/// A stream from a local address of the peer's choice.
fn socket_from(local: &str, remote: SocketAddr) -> TcpStream {
    use std::os::fd::{FromRawFd, IntoRawFd};
    let SocketAddr::V4(local) = local.parse().expect("an address") else { panic!("not IPv4") };
    let SocketAddr::V4(remote) = remote else { panic!("not IPv4") };
    let raw = |address: std::net::SocketAddrV4| libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
        sin_zero: [0; 8],
    };
    let (local, remote) = (raw(local), raw(remote));
    let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: system calls on a socket of our own with addresses of this length.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        assert!(socket >= 0);
        let stream = TcpStream::from_raw_fd(socket);
        let fd = stream.into_raw_fd();
        assert_eq!(libc::bind(fd, ptr::from_ref(&local).cast(), length), 0);
        assert_eq!(libc::connect(fd, ptr::from_ref(&remote).cast(), length), 0);
        TcpStream::from_raw_fd(fd)
    }
}

#[proves("C-312", "C-314", "C-432", "C-433", "C-435", "C-446", "C-559", "C-217", "C-320", "C-434", "C-441", "C-443")]
#[test]
fn connect_handler_accepts_with_a_returned_request() {
    on_loopback(|| {
        let (address, local) = open_listener();
        let client = Client::new();
        let events = [TdiEvent::CONNECT, TdiEvent::RECEIVE, TdiEvent::DISCONNECT];
        client.listen_to(&address, &events);
        let endpoints = [associated(&address, 11), associated(&address, 12)];
        let returned = room();
        let accepts = [accept_irp(&endpoints[0], Some(&returned)), accept_irp(&endpoints[1], None)];
        let mut streams = Vec::new();
        for accept in &accepts {
            client.script(Answer::irp(0, accept.irp));
            streams.push(TcpStream::connect(local).expect("accepted"));
            assert_eq!(accept.wait(), (NtStatus::SUCCESS, 0));
        }
        let first = streams[0].local_addr().expect("an address");
        assert_eq!(transport_address::parse(&returned.address, Family::V4), Ok(first));
        let seen = client.seen();
        assert_eq!(seen[0], Seen::Offered { address: transport_address::encode(first).as_bytes().to_vec() });
        // A third finds nobody who answers for it.
        assert!(is_refused(TcpStream::connect(local)));
        client.seen();
        streams[1].write_all(b"for the second").expect("room");
        let seen = client.wait_for(|seen| bytes_of(seen).len() >= 14);
        assert!(matches!(&seen[0], Seen::Received { context: 12, bytes, .. } if bytes == b"for the second"));
        drop(streams.remove(0));
        let released = Seen::Disconnected { context: 11, flags: disconnect_flags::RELEASE };
        assert_eq!(client.wait_for(|seen| !seen.is_empty()), [released]);
        for file in endpoints.iter().chain([&address]) {
            file.close(Order::ReferenceFirst);
        }
        assert_eq!(drain(&streams[0]).1, End::Fin);
    });
}

#[proves("C-222", "C-437", "C-439", "C-440", "C-442")]
#[test]
fn request_that_cannot_accept_completes_with_an_error_and_the_peer_is_refused() {
    on_loopback(|| {
        let (address, local) = open_listener();
        let client = Client::new();
        client.listen_to(&address, &[TdiEvent::CONNECT]);
        let strange = open_endpoint(5);
        let accept = accept_irp(&strange, None);
        client.script(Answer::irp(0, accept.irp));
        assert!(is_refused(TcpStream::connect(local)), "not associated");
        assert_eq!(accept.wait().0, NtStatus::INVALID_CONNECTION);
        // Where the remote address is to be returned there is nothing, or there is user data to send (C-214).
        let endpoint = associated(&address, 6);
        let mut talkative = Information::of(local);
        talkative.block.user_data_length = 4;
        for (parameters, status) in [
            ([0, 0x10, 0, 0], NtStatus::ACCESS_VIOLATION),
            ([talkative.pointer(), 0, 0, 0], NtStatus::INVALID_PARAMETER),
        ] {
            let accept = Request::new(&endpoint, TdiRequest::ACCEPT, parameters, ptr::null_mut()).into_current();
            client.script(Answer::irp(0, accept.irp));
            assert!(is_refused(TcpStream::connect(local)), "{parameters:?}");
            assert_eq!(accept.wait(), (status, 0));
            assert_eq!(endpoint.abort(), NtStatus::INVALID_CONNECTION, "idle");
        }
        endpoint.close(Order::HandleFirst);
        client.script(Answer::irp(0, ptr::null_mut()));
        assert!(is_refused(TcpStream::connect(local)), "no IRP");
        client.script(Answer::status(NtStatus::INSUFFICIENT_RESOURCES));
        assert!(is_refused(TcpStream::connect(local)), "no resources");
        // With a rejection the outputs mean nothing, be it a request that could accept.
        let endpoint = associated(&address, 6);
        let good = accept_irp(&endpoint, None);
        for irp in [0x10 as *mut _, good.irp] {
            client.script(Answer { irp, ..Answer::status(NtStatus::CONNECTION_REFUSED) });
            assert!(is_refused(TcpStream::connect(local)), "rejected");
        }
        assert!(!good.is_done(), "it is still the client's");
        assert_eq!(endpoint.disassociate(), NtStatus::SUCCESS);
        endpoint.close(Order::HandleFirst);
        strange.close(Order::HandleFirst);
        address.close(Order::HandleFirst);
    });
}

#[proves("C-180", "C-178", "C-174", "C-175", "C-176")]
#[test]
fn closed_address_ends_listens_and_refuses_while_its_connections_go_on() {
    on_loopback(|| {
        let (address, local) = open_listener();
        let (taken, waiting) = (associated(&address, 1), associated(&address, 2));
        let first = listen(&taken, 0, None, None);
        let mut stream = TcpStream::connect(local).expect("accepted");
        assert_eq!(first.wait().0, NtStatus::SUCCESS);
        let second = listen(&waiting, 0, None, None);
        address.close(Order::HandleFirst);
        assert!(second.is_done(), "C-568");
        assert_eq!(second.wait(), (NtStatus::ADDRESS_CLOSED, 0));
        assert!(is_refused(TcpStream::connect(local)));
        stream.write_all(b"still here").expect("room");
        assert_eq!(taken.receive(20).as_deref(), Ok(b"still here".as_slice()));
        // The endpoint can go to another address (C-180).
        assert_eq!(waiting.disassociate(), NtStatus::SUCCESS);
        let other = open_address("0.0.0.0:0");
        assert_eq!(waiting.associate(&other), NtStatus::SUCCESS);
        for file in [&taken, &waiting, &other] {
            file.close(Order::ReferenceFirst);
        }
    });
}

#[test]
fn offers_between_two_listens_wait_for_the_second() {
    on_loopback(|| {
        let (address, local) = open_listener();
        let endpoints = [associated(&address, 1), associated(&address, 2)];
        let first = listen(&endpoints[0], 0, None, None);
        let mut streams = [TcpStream::connect(local), TcpStream::connect(local)].map(|stream| stream.expect("taken"));
        assert_eq!(first.wait().0, NtStatus::SUCCESS);
        streams[1].write_all(b"patient").expect("room");
        let second = listen(&endpoints[1], 0, None, None);
        assert_eq!(second.wait().0, NtStatus::SUCCESS);
        assert_eq!(endpoints[1].receive(20).as_deref(), Ok(b"patient".as_slice()));
        for file in endpoints.iter().chain([&address]) {
            file.close(Order::HandleFirst);
        }
    });
}

/// Two opens of one address, and where their peers connect to.
fn open_shared() -> ([File; 2], SocketAddr) {
    const FILE_SHARE_READ: u16 = 1;
    let open = |local: SocketAddr| try_open(r"\Device\Tcp", &address_ea(local), FILE_SHARE_READ).expect("an address");
    let first = open("127.0.0.1:0".parse().expect("an address"));
    let (_, answer) = first.query(query::ADDRESS_INFO, 100);
    let local = transport_address::parse(&answer[4..], Family::V4).expect("an address");
    ([first, open(local)], local)
}

#[proves("C-104")]
#[test]
fn each_open_of_a_shared_address_listens_until_it_stops_itself() {
    on_loopback(|| {
        let ([first, second], local) = open_shared();
        let endpoints = [associated(&first, 1), associated(&second, 2), associated(&second, 3)];
        let requests = [0, 1].map(|at| listen(&endpoints[at], 0, None, None));
        // The first gives up; the network goes on listening for the second.
        assert!(requests[0].cancel());
        assert_eq!(requests[0].wait().0, NtStatus::CANCELLED);
        let mut stream = TcpStream::connect(local).expect("accepted");
        assert_eq!(requests[1].wait().0, NtStatus::SUCCESS);
        stream.write_all(b"to the second").expect("room");
        assert_eq!(endpoints[1].receive(20).as_deref(), Ok(b"to the second".as_slice()));
        // So it does when the file object is closed.
        let request = listen(&endpoints[2], 0, None, None);
        first.close(Order::ReferenceFirst);
        let _other = TcpStream::connect(local).expect("accepted");
        assert_eq!(request.wait().0, NtStatus::SUCCESS);
        for file in endpoints.iter().chain([&second]) {
            file.close(Order::ReferenceFirst);
        }
        assert!(is_refused(TcpStream::connect(local)));
    });
}

#[proves("C-104", "C-101")]
#[test]
fn shared_opens_of_any_and_of_one_ip_address_have_the_port_together() {
    for one_first in [true, false] {
        with_transport(Arc::new(HostNetwork::host().expect("a network")), |_| share_a_port([127, 0, 0, 2], one_first));
    }
    // On the network of loopback alone "any" is 127.0.0.1 itself: its turn comes when the other has gone.
    for one_first in [true, false] {
        on_loopback(|| share_a_port([127, 0, 0, 1], one_first));
    }
}

/// Opens both in one order or the other, has the exact one called while both listen, and then the other at `called_any`.
fn share_a_port(called_any: [u8; 4], one_first: bool) {
    const FILE_SHARE_WRITE: u16 = 2;
    let ips = if one_first { [[127, 0, 0, 1], [0; 4]] } else { [[0; 4], [127, 0, 0, 1]] };
    let open = |ip: [u8; 4], port, share| try_open(r"\Device\Tcp", &address_ea((ip, port).into()), share);
    let first = open(ips[0], 0, FILE_SHARE_WRITE).expect("an address");
    let (_, answer) = first.query(query::ADDRESS_INFO, 100);
    let port = transport_address::parse(&answer[4..], Family::V4).expect("an address").port();
    let second = open(ips[1], port, FILE_SHARE_WRITE).expect("the same port");
    for ip in ips {
        assert_eq!(open(ip, port, 0).err(), Some(NtStatus::ADDRESS_ALREADY_EXISTS));
    }
    let (one, any) = if one_first { (first, second) } else { (second, first) };
    let endpoints = [associated(&one, 1), associated(&any, 2)];
    let requests = endpoints.each_ref().map(|endpoint| listen(endpoint, 0, None, None));
    let call = |ip: [u8; 4], request: &Request| {
        let _stream = TcpStream::connect(SocketAddr::from((ip, port))).expect("accepted");
        assert_eq!(request.wait().0, NtStatus::SUCCESS, "{ip:?}");
    };
    call([127, 0, 0, 1], &requests[0]);
    for file in [&endpoints[0], &one] {
        file.close(Order::ReferenceFirst);
    }
    call(called_any, &requests[1]);
    for file in [&endpoints[1], &any] {
        file.close(Order::ReferenceFirst);
    }
}

#[proves("C-302")]
#[test]
fn listen_of_one_open_comes_before_the_handler_of_another() {
    on_loopback(|| {
        let ([first, second], local) = open_shared();
        let client = Client::new();
        client.listen_to(&first, &[TdiEvent::CONNECT]);
        let endpoint = associated(&second, 2);
        let request = listen(&endpoint, 0, None, None);
        let _stream = TcpStream::connect(local).expect("accepted");
        assert_eq!(request.wait().0, NtStatus::SUCCESS);
        assert_eq!(client.seen(), []);
        assert!(is_refused(TcpStream::connect(local)), "by the handler");
        assert_eq!(client.wait_for(|seen| !seen.is_empty()).len(), 1);
        for file in [endpoint, second, first] {
            file.close(Order::ReferenceFirst);
        }
    });
}

#[proves("D-106")]
#[test]
fn handlers_are_those_of_one_open_of_a_shared_address() {
    on_loopback(|| {
        let (files, local) = open_shared();
        let clients = [Client::new(), Client::new()];
        for (client, file) in clients.iter().zip(&files) {
            client.listen_to(file, &[TdiEvent::CONNECT]);
        }
        assert!(is_refused(TcpStream::connect(local)), "by the first");
        clients[0].wait_for(|seen| !seen.is_empty());
        assert_eq!(clients[1].seen(), []);
        // What is withdrawn of one stays with the other.
        assert_eq!(files[0].set_handler(TdiEvent::CONNECT, 0, 0), NtStatus::SUCCESS);
        assert!(is_refused(TcpStream::connect(local)), "by the second");
        clients[1].wait_for(|seen| !seen.is_empty());
        assert_eq!(clients[0].seen(), []);
        for file in files {
            file.close(Order::ReferenceFirst);
        }
    });
}

#[proves("C-280", "D-132")]
#[test]
fn address_query_after_connecting_shows_the_port_that_the_remote_node_sees() {
    on_loopback(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let port = |file: &File| {
            let (status, answer) = file.query(query::ADDRESS_INFO, 26);
            assert_eq!(status, NtStatus::SUCCESS);
            transport_address::parse(&answer[4..], Family::V4).expect("an address").port()
        };
        // An IP address that nobody else uses: on a common one the port may be held by what remains of somebody's connection
        // (TIME_WAIT), and then the address gets another one.
        let address = open_address("127.0.0.77:0");
        let endpoint = associated(&address, 1);
        assert_eq!(endpoint.connect(listener.local_addr().expect("an address")), NtStatus::SUCCESS);
        let (_stream, peer_sees) = listener.accept().expect("a connection");
        assert_eq!([port(&address), port(&endpoint)], [peer_sees.port(); 2]);
        // It is reached there, too, and further connections come from there.
        let (listening, calling) = (associated(&address, 2), associated(&address, 3));
        let request = listen(&listening, 0, None, None);
        let _caller = TcpStream::connect(peer_sees).expect("accepted");
        assert_eq!(request.wait().0, NtStatus::SUCCESS);
        let other = TcpListener::bind("127.0.0.1:0").expect("a listener");
        assert_eq!(calling.connect(other.local_addr().expect("an address")), NtStatus::SUCCESS);
        assert_eq!(other.accept().expect("a connection").1, peer_sees);
        for file in [listening, calling, endpoint, address] {
            file.close(Order::HandleFirst);
        }
    });
}

#[test]
fn peer_is_refused_once_the_last_listen_was_taken_back() {
    on_loopback(|| {
        let (address, local) = open_listener();
        let endpoint = associated(&address, 1);
        let request = listen(&endpoint, 0, None, None);
        assert!(request.cancel());
        assert_eq!(request.wait().0, NtStatus::CANCELLED);
        assert!(is_refused(TcpStream::connect(local)));
        // The address can listen again.
        let request = listen(&endpoint, 0, None, None);
        let _stream = TcpStream::connect(local).expect("accepted");
        assert_eq!(request.wait().0, NtStatus::SUCCESS);
        for file in [endpoint, address] {
            file.close(Order::ReferenceFirst);
        }
    });
}
