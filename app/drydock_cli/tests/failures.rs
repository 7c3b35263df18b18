//! Connections that do not come about or break: the documented status, nothing left behind, never a hang.

mod scenario;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, connect, getsockname, listen, socket,
};
use scenario::peers::{FAR, Peer, two_hosts};
use scenario::server::{After, Observer};
use scenario::{Ran, Run};

const ANSWER: &[u8] = b"HTTP/1.0 200 OK\r\nContent-Length: 1000000\r\n\r\nonly this much";

/// The client's DriverEntry must have failed with this status after this step, and nothing be left behind.
#[track_caller]
fn assert_failed(ran: Ran, step: &str, status: u32) {
    let ran = ran.expect("driver_failed", 2);
    ran.line(&format!("{step} failed with status {status:08x}"));
    assert_eq!(ran.findings(), Vec::<&str>::new(), "{ran:#?}");
    assert_eq!(ran.count("opens"), ran.count("closes"), "{ran:#?}");
}

fn closed_port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).expect("a loopback port")
}

#[test]
fn refused_connect_fails_with_connection_refused() {
    assert_failed(Run::client(closed_port()).run(), "connect", 0xC000_0236);
}

#[test]
fn connect_without_a_network_is_denied() {
    assert_failed(Run::client(closed_port()).args(["--net", "none"]).run(), "connect", 0xC000_0022);
}

#[test]
fn connect_that_nobody_answers_fails_with_timeout() {
    // A listener whose queue is full drops what else arrives.
    let full = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).expect("a socket");
    bind(full.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).expect("a loopback port");
    listen(&full, Backlog::new(0).expect("zero is allowed")).expect("listening");
    let address: SockaddrIn = getsockname(full.as_raw_fd()).expect("its address");
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_NONBLOCK, None);
            let socket = socket.expect("a socket");
            let _ = connect(socket.as_raw_fd(), &address);
            socket
        })
        .collect();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()));
    assert_failed(Run::client(address).set("Timeout", 300).run(), "connect", 0xC000_00B5);
    drop(waiting);
}

#[test]
fn address_outside_of_loopback_is_denied_under_the_loopback_policy() {
    let address = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 80));
    assert_failed(Run::client(address).run(), "connect", 0xC000_0022);
}

#[test]
fn reset_in_mid_body_ends_the_receive_with_connection_reset() {
    let observer = Observer::answering(ANSWER.into(), After::Reset);
    for receive in ["request", "event"] {
        let ran = Run::client(observer.address).set("Receive", receive).run();
        // Whether the reset meets a receive (C-398) or comes between two (C-457) is up to the machine.
        assert_failed(ran, "receive", 0xC000_020D);
    }
}

/// Virtual time goes on only when the client waits: this reset always meets a pending receive.
#[test]
fn reset_under_a_pending_receive_ends_it_with_connection_reset() {
    let network = two_hosts("reset", &Peer::Reset(10).text());
    let server = SocketAddr::new(FAR.parse().expect("an address"), Peer::PORT);
    for receive in ["request", "event"] {
        let ran = Run::client(server).args(["--net", &network]).set("Receive", receive).run();
        ran.line("10.0.0.2:80 is connected to endpoint #1");
        assert_failed(ran, "receive", 0xC000_020D);
    }
}

#[test]
fn server_that_never_answers_ends_with_a_cancelled_receive() {
    let observer = Observer::answering(Vec::new(), After::Wait);
    let ran = Run::client(observer.address).set("Timeout", 300).run();
    assert_failed(ran, "receive", 0xC000_0120);
}

#[test]
fn silent_server_ends_an_event_client_with_timeout() {
    let observer = Observer::answering(Vec::new(), After::Wait);
    let ran = Run::client(observer.address).set("Receive", "event").set("Timeout", 300).run();
    assert_failed(ran, "receive", 0xC000_00B5);
}

#[test]
fn failing_connects_on_many_threads_leave_nothing_behind() {
    let ran = Run::client(closed_port()).set("Endpoints", 64).set("Threads", 8).run().expect_clean();
    ran.line("done: 64 connections, 64 failed, 0 body bytes");
}
