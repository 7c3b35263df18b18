//! The transport over the host's sockets, with peers that are plain sockets.

mod client;
mod peer;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use client::*;
use nt_abi::NtStatus;
use peer::*;
use proves::proves;

#[test]
fn client_sends_receives_and_releases() {
    on_loopback(|| {
        let peer = Peer::new(|mut stream| {
            let mut question = [0; 4];
            stream.read_exact(&mut question).expect("the question");
            stream.write_all(b"answer").expect("room");
            drop(stream);
            question
        });
        let (address, endpoint) = open_pair(1);
        assert_eq!(endpoint.connect(peer.address), NtStatus::SUCCESS);
        assert_eq!(endpoint.send(b"ask?"), (NtStatus::SUCCESS, 4));
        assert_eq!(endpoint.receive_all().as_deref(), Ok(b"answer".as_slice()));
        assert_eq!(endpoint.release(), NtStatus::SUCCESS);
        assert_eq!(endpoint.disassociate(), NtStatus::SUCCESS);
        endpoint.close(Order::ReferenceFirst);
        address.close(Order::HandleFirst);
        assert_eq!(&peer.join(), b"ask?");
    });
}

#[proves("C-269", "C-270")]
#[test]
fn connect_succeeds_only_where_somebody_listens() {
    on_loopback(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let peer = listener.local_addr().expect("its address");
        let (address, endpoint) = open_pair(1);
        assert_eq!(endpoint.connect(peer), NtStatus::SUCCESS);
        let (stream, _) = listener.accept().expect("a connection");
        assert_eq!(endpoint.abort(), NtStatus::SUCCESS);
        assert_eq!(drain(&stream).1, End::Rst);
        drop(listener);
        assert_eq!(endpoint.connect(peer), NtStatus::CONNECTION_REFUSED);
        // A TDI client that listens is as good a peer, and only while it does.
        let (server_address, server) = open_pair(2);
        let local = {
            let (status, answer) = server_address.query(nt_abi::tdi::query::ADDRESS_INFO, 26);
            assert_eq!(status, NtStatus::SUCCESS);
            let family = tdi_core::transport_address::Family::V4;
            let port = tdi_core::transport_address::parse(&answer[4..], family).expect("an address").port();
            SocketAddr::from(([127, 0, 0, 1], port))
        };
        assert_eq!(endpoint.connect(local), NtStatus::CONNECTION_REFUSED);
        let listen = server.request(nt_abi::tdi::TdiRequest::LISTEN, [0; 4], std::ptr::null_mut());
        assert_eq!(endpoint.connect(local), NtStatus::SUCCESS);
        assert_eq!(listen.wait(), (NtStatus::SUCCESS, 0));
        assert_eq!(server.send(b"hello"), (NtStatus::SUCCESS, 5));
        assert_eq!(endpoint.receive(10).as_deref(), Ok(b"hello".as_slice()));
        for file in [endpoint, server, address, server_address] {
            file.close(Order::HandleFirst);
        }
    });
}

/// The ways to end a connection of issue 2, and what the peer sees of each.
#[derive(Clone, Copy, Debug)]
enum Path {
    Disconnect,
    NoDisconnect,
    Disassociate,
    Reassociate,
    HandleFirst,
    ReferenceFirst,
    Abort,
}

impl Path {
    const ALL: [Self; 7] = [
        Self::Disconnect,
        Self::NoDisconnect,
        Self::Disassociate,
        Self::Reassociate,
        Self::HandleFirst,
        Self::ReferenceFirst,
        Self::Abort,
    ];

    fn end(self) -> End {
        if matches!(self, Self::Abort) { End::Rst } else { End::Fin }
    }
}

/// Opens, connects, sends, ends the connection as the path says, closes.
fn walk(path: Path, peer: SocketAddr) {
    let (address, endpoint) = open_pair(7);
    assert_eq!(endpoint.connect(peer), NtStatus::SUCCESS);
    assert_eq!(endpoint.send(b"farewell"), (NtStatus::SUCCESS, 8));
    let mut order = Order::ReferenceFirst;
    let mut second = None;
    match path {
        Path::Disconnect => {
            assert_eq!(endpoint.release(), NtStatus::SUCCESS);
            assert_eq!(endpoint.disassociate(), NtStatus::SUCCESS);
        }
        Path::NoDisconnect => {}
        Path::Disassociate => assert_eq!(endpoint.disassociate(), NtStatus::CONNECTION_ACTIVE),
        Path::Reassociate => {
            assert_eq!(endpoint.release(), NtStatus::SUCCESS);
            assert_eq!(endpoint.disassociate(), NtStatus::SUCCESS);
            let other = open_address("0.0.0.0:0");
            assert_eq!(endpoint.associate(&other), NtStatus::SUCCESS);
            second = Some(other);
        }
        Path::HandleFirst => {
            assert_eq!(endpoint.release(), NtStatus::SUCCESS);
            order = Order::HandleFirst;
        }
        Path::ReferenceFirst => assert_eq!(endpoint.release(), NtStatus::SUCCESS),
        Path::Abort => assert_eq!(endpoint.abort(), NtStatus::SUCCESS),
    }
    endpoint.close(order);
    if let Some(second) = second {
        second.close(order);
    }
    address.close(order);
}

#[proves("C-155", "C-166", "C-167", "C-171", "C-256", "C-258", "C-259")]
#[test]
fn every_closing_path_tells_the_peer_and_leaves_nothing() {
    for path in Path::ALL {
        on_loopback(|| {
            let peer = Peer::new(|stream| drain(&stream));
            walk(path, peer.address);
            let (bytes, end) = peer.join();
            assert_eq!(end, path.end(), "{path:?}");
            if end == End::Fin {
                assert_eq!(bytes, b"farewell", "{path:?}");
            }
        });
    }
}

#[proves("C-168", "C-522")]
#[test]
fn ten_thousand_endpoints_in_sequence_leave_nothing() {
    on_loopback(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let peer = listener.local_addr().expect("its address");
        let server = thread::spawn(move || {
            (0..10_000).filter(|_| drain(&listener.accept().expect("a connection").0).1 == End::Fin).count()
        });
        for number in 0..10_000 {
            let path = [Path::NoDisconnect, Path::Disconnect, Path::HandleFirst, Path::Reassociate][number % 4];
            walk(path, peer);
        }
        assert_eq!(server.join().expect("the server"), 10_000);
    });
}
