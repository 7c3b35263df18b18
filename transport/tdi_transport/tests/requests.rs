//! Requests over a scripted network: pending, cancelled, timed out, broken, closed.

mod client;
mod scripted;

use std::net::SocketAddr;
use std::ptr;
use std::sync::Arc;

use client::handlers::Client;
use client::*;
use net_api::{NetError, Progress};
use nt_abi::tdi::{TdiEvent, TdiRequest, disconnect_flags, receive_flags};
use nt_abi::{MajorFunction, NtStatus};
use nt_io::{cancel, irp};
use proves::proves;
use scripted::{Farewell, Line, Script};

fn scripted(test: impl FnOnce(&Script) + Send) {
    let network = Script::new();
    let shared = Arc::clone(&network);
    with_transport(network, move |_| test(&shared));
}

fn remote() -> SocketAddr {
    "10.0.0.2:80".parse().expect("an address")
}

/// A connected endpoint, its address, and the other end.
fn connected(network: &Script) -> (File, File, Line) {
    let (address, endpoint) = open_pair(1);
    let index = network.lines();
    assert_eq!(endpoint.connect(remote()), NtStatus::SUCCESS);
    (address, endpoint, network.line(index))
}

fn close(files: [File; 2]) {
    for file in files {
        file.close(Order::ReferenceFirst);
    }
}

#[proves("C-224", "C-228", "C-283", "C-285", "C-576")]
#[test]
fn cancelled_connect_ends_as_cancelled_and_leaves_the_endpoint_idle() {
    scripted(|network| {
        network.attempt(Ok(Progress::Pending));
        let (address, endpoint) = open_pair(1);
        let to = Information::of(remote());
        let connect = endpoint.start_connect(&to, None);
        assert_eq!(connect.returned, NtStatus::PENDING);
        assert!(connect.cancel());
        assert!(connect.is_done());
        assert_eq!(connect.wait(), (NtStatus::CANCELLED, 0));
        assert_eq!(network.line(0).farewell(), Some(Farewell::Rst), "C-577");
        assert_eq!(endpoint.connect(remote()), NtStatus::SUCCESS);
        close([endpoint, address]);
    });
}

#[proves("C-271", "C-272", "C-194")]
#[test]
fn connect_that_nobody_answers_times_out() {
    scripted(|network| {
        network.attempt(Ok(Progress::Pending));
        let (address, endpoint) = open_pair(1);
        let to = Information::of(remote());
        let connect = {
            // The limit is read at once, since it often lies on the client's stack.
            let timeout = -300_000;
            endpoint.start_connect(&to, Some(&timeout))
        };
        assert_eq!(connect.wait(), (NtStatus::IO_TIMEOUT, 0));
        assert_eq!(endpoint.disassociate(), NtStatus::SUCCESS, "C-257");
        close([endpoint, address]);
    });
}

#[proves("C-203", "C-207", "C-269", "C-268", "C-284")]
#[test]
fn failed_connects_have_the_status_of_their_reason() {
    let reasons = [
        (NetError::Refused, NtStatus::CONNECTION_REFUSED),
        (NetError::NetworkUnreachable, NtStatus::NETWORK_UNREACHABLE),
        (NetError::HostUnreachable, NtStatus::HOST_UNREACHABLE),
        (NetError::TimedOut, NtStatus::IO_TIMEOUT),
        (NetError::OutOfDescriptors, NtStatus::INSUFFICIENT_RESOURCES),
        (NetError::Denied(net_api::Policy::Loopback), NtStatus::ACCESS_DENIED),
    ];
    scripted(|network| {
        let (address, endpoint) = open_pair(1);
        let client = Client::new();
        client.listen_to(&address, &[TdiEvent::DISCONNECT]);
        for (error, status) in reasons {
            network.attempt(Err(error));
            assert_eq!(endpoint.connect(remote()), status, "at once");
            network.attempt(Ok(Progress::Pending));
            let to = Information::of(remote());
            let connect = endpoint.start_connect(&to, None);
            network.line(network.lines() - 1).finish(Err(error));
            assert_eq!(connect.wait(), (status, 0), "later");
        }
        assert_eq!(client.seen(), []);
        close([endpoint, address]);
    });
}

#[proves("C-223")]
#[test]
fn request_that_is_cancelled_before_it_is_sent_has_no_effect() {
    scripted(|network| {
        let (address, endpoint, line) = connected(network);
        let buffer = Buffer::new(*b"data");
        let send = Request::new(&endpoint, TdiRequest::SEND, [4, 0, 0, 0], buffer.mdl());
        assert!(!send.cancel());
        assert_eq!(send.send(&endpoint).wait(), (NtStatus::CANCELLED, 0));
        assert_eq!(line.sent(), b"");
        close([endpoint, address]);
    });
}

#[proves("C-224", "C-404", "C-578", "C-385")]
#[test]
fn cancelled_receive_consumes_nothing_and_the_others_keep_their_order() {
    scripted(|network| {
        let (address, endpoint, line) = connected(network);
        let buffers = [Buffer::zeroed(10), Buffer::zeroed(10), Buffer::zeroed(10)];
        let [first, second, third] = [0, 1, 2].map(|at| endpoint.start_receive(&buffers[at], receive_flags::NORMAL));
        assert!(second.cancel());
        assert_eq!(second.wait(), (NtStatus::CANCELLED, 0));
        line.deliver(b"one");
        assert_eq!(first.wait(), (NtStatus::SUCCESS, 3));
        line.deliver(b"three");
        assert_eq!(third.wait(), (NtStatus::SUCCESS, 5));
        assert_eq!((&buffers[0].bytes[..3], &buffers[2].bytes[..5]), (&b"one"[..], &b"three"[..]));
        close([endpoint, address]);
    });
}

#[proves("C-359", "C-361", "C-364", "C-203")]
#[test]
fn send_over_a_chain_goes_on_as_the_network_makes_room() {
    scripted(|network| {
        let (address, endpoint, line) = connected(network);
        line.shut_window();
        let bytes: Vec<u8> = (0..200).map(|number| number as u8).collect();
        let parts = [0, 1, 99, 0, 50, 30, 20];
        let chain = Buffer::in_parts(bytes.clone().into(), &parts);
        let send = endpoint.start_send(&chain, 190, 0);
        let behind = Buffer::new(*b"behind");
        let second = endpoint.start_send(&behind, 6, 0);
        assert_eq!((send.returned, second.returned), (NtStatus::PENDING, NtStatus::PENDING));
        for _ in 0..19 {
            line.open_window(10);
        }
        assert_eq!(send.wait(), (NtStatus::SUCCESS, 190));
        assert_eq!(line.sent(), bytes[..190], "C-360");
        line.open_window(100);
        assert_eq!(second.wait(), (NtStatus::SUCCESS, 6));
        assert!(line.sent().ends_with(b"behind"));
        close([endpoint, address]);
    });
}

#[proves("C-387", "C-402", "C-403")]
#[test]
fn receive_scatters_over_its_chain() {
    scripted(|network| {
        let (address, endpoint, line) = connected(network);
        let chain = Buffer::in_parts(vec![0; 40].into(), &[1, 2, 0, 3, 34]);
        let receive = endpoint.start_receive(&chain, 0);
        line.deliver(b"scattered over members");
        assert_eq!(receive.wait(), (NtStatus::SUCCESS, 22));
        assert_eq!(&chain.bytes[..22], b"scattered over members");
        close([endpoint, address]);
    });
}

#[proves("C-154", "C-157", "C-160", "C-568", "C-525", "C-526")]
#[test]
fn cleanup_ends_every_pending_request_before_it_returns() {
    scripted(|network| {
        let (address, endpoint, line) = connected(network);
        line.shut_window();
        let (into, from) = (Buffer::zeroed(10), Buffer::new(*b"stuck"));
        let receive = endpoint.start_receive(&into, receive_flags::NORMAL);
        let send = endpoint.start_send(&from, 5, 0);
        let release = endpoint.start_disconnect(disconnect_flags::RELEASE, None);
        endpoint.close_handle();
        for request in [&receive, &send, &release] {
            assert!(request.is_done());
            assert_eq!(request.wait(), (NtStatus::CANCELLED, 0));
        }
        assert_eq!(line.farewell(), Some(Farewell::Rst), "a send was pending");
        endpoint.dereference();
        address.close(Order::HandleFirst);
    });
}

#[proves("C-165", "C-144", "C-125", "C-245")]
#[test]
fn requests_after_cleanup_are_cancelled_at_once() {
    scripted(|network| {
        let (address, endpoint, _line) = connected(network);
        endpoint.close_handle();
        assert_eq!(endpoint.send(b"late"), (NtStatus::CANCELLED, 0));
        assert_eq!(endpoint.receive(10), Err(NtStatus::CANCELLED));
        assert_eq!(endpoint.connect(remote()), NtStatus::CANCELLED);
        assert_eq!(endpoint.abort(), NtStatus::CANCELLED);
        assert_eq!(endpoint.associate(&address), NtStatus::INVALID_CONNECTION, "C-245");
        endpoint.dereference();
        address.close_handle();
        let handler = Client::new();
        let parameters = [TdiEvent::RECEIVE.0.into(), 1, handler.context(), 0];
        let late = address.request(TdiRequest::SET_EVENT_HANDLER, parameters, ptr::null_mut());
        assert_eq!(late.wait().0, NtStatus::CANCELLED);
        address.dereference();
    });
}

#[proves("C-378", "C-398", "C-456", "C-457")]
#[test]
fn broken_connection_fails_what_is_pending() {
    scripted(|network| {
        let (address, endpoint, line) = connected(network);
        line.shut_window();
        let (into, from) = (Buffer::zeroed(10), Buffer::new(*b"stuck"));
        let receive = endpoint.start_receive(&into, receive_flags::NORMAL);
        let send = endpoint.start_send(&from, 5, 0);
        line.fail(NetError::Reset);
        assert_eq!(receive.wait(), (NtStatus::CONNECTION_RESET, 0));
        assert_eq!(send.wait(), (NtStatus::CONNECTION_RESET, 0));
        assert_eq!(endpoint.disassociate(), NtStatus::SUCCESS);
        close([endpoint, address]);
    });
}

#[proves("C-343", "C-345")]
#[test]
fn release_that_the_peer_does_not_answer_times_out() {
    scripted(|network| {
        let (address, endpoint, line) = connected(network);
        let timeout = -300_000;
        let release = endpoint.start_disconnect(disconnect_flags::RELEASE, Some(&timeout));
        assert_eq!(release.wait(), (NtStatus::IO_TIMEOUT, 0));
        assert_eq!(line.farewell(), Some(Farewell::Rst));
        assert_eq!(endpoint.connect(remote()), NtStatus::SUCCESS);
        close([endpoint, address]);
    });
}

#[proves("C-216")]
#[test]
fn write_and_read_requests_send_and_receive() {
    scripted(|network| {
        let (address, endpoint, line) = connected(network);
        let plain = |major: MajorFunction, buffer: &Buffer| {
            let request = Request::new(&endpoint, TdiRequest(0), [buffer.bytes.len() as u64, 0, 0, 0], buffer.mdl());
            // SAFETY: a packet of our own that was not sent yet.
            unsafe { (*irp::next_location(request.irp)).major_function = major };
            request.send(&endpoint)
        };
        let out = Buffer::new(*b"written");
        assert_eq!(plain(MajorFunction::WRITE, &out).wait(), (NtStatus::SUCCESS, 7));
        assert_eq!(line.sent(), b"written");
        let into = Buffer::zeroed(10);
        let read = plain(MajorFunction::READ, &into);
        line.deliver(b"read");
        assert_eq!(read.wait(), (NtStatus::SUCCESS, 4));
        close([endpoint, address]);
    });
}

#[proves("C-360", "C-362")]
#[test]
fn buffer_that_is_too_short_or_not_there_fails_the_request_and_nothing_else() {
    scripted(|network| {
        let (address, endpoint, line) = connected(network);
        let short = Buffer::zeroed(4);
        let word = |length: u64| [length, 0, 0, 0];
        for minor in [TdiRequest::SEND, TdiRequest::RECEIVE] {
            let request = |length, mdl| endpoint.request(minor, word(length), mdl).wait();
            assert_eq!(request(5, short.mdl()), (NtStatus::INVALID_PARAMETER, 0));
            assert_eq!(request(1, ptr::null_mut()), (NtStatus::INVALID_PARAMETER, 0));
            assert_eq!(request(1, 0x1000 as *mut _), (NtStatus::ACCESS_VIOLATION, 0));
            let gone = Buffer::zeroed(4);
            // SAFETY: a member of our own.
            unsafe { (*gone.mdl()).mapped_system_va = 0x1000 };
            assert_eq!(request(4, gone.mdl()), (NtStatus::ACCESS_VIOLATION, 0));
            // SAFETY: as above.
            unsafe { (*short.mdl()).next = short.mdl() };
            assert_eq!(request(1 << 20, short.mdl()), (NtStatus::INVALID_PARAMETER, 0));
            // SAFETY: as above.
            unsafe { (*short.mdl()).next = ptr::null_mut() };
        }
        assert_eq!(line.sent(), b"");
        assert_eq!(endpoint.send(b"fine"), (NtStatus::SUCCESS, 4));
        close([endpoint, address]);
    });
}

#[proves("C-198", "C-199", "C-200", "C-408")]
#[test]
fn requests_on_the_wrong_kind_of_file_are_refused() {
    scripted(|_| {
        let (address, endpoint) = open_pair(1);
        let channel = try_open(r"\Device\Tcp", &[], 0).expect("a control channel");
        let refused = |file: &File, minor: TdiRequest| {
            let status = file.request(minor, [0; 4], ptr::null_mut()).wait();
            assert_eq!(status, (NtStatus::INVALID_DEVICE_REQUEST, 0), "{minor:?}");
        };
        for minor in (TdiRequest::ASSOCIATE_ADDRESS.0..=TdiRequest::RECEIVE.0).map(TdiRequest) {
            if minor == TdiRequest::ASSOCIATE_ADDRESS {
                continue;
            }
            refused(&address, minor);
            refused(&channel, minor);
        }
        for file in [&address, &channel] {
            assert_eq!(file.associate(&address), NtStatus::INVALID_DEVICE_REQUEST);
        }
        refused(&endpoint, TdiRequest::SET_EVENT_HANDLER);
        refused(&channel, TdiRequest::SET_EVENT_HANDLER);
        for minor in [0, 0x0F, 0x26, 0x27, 0x28, 0x29, 0x2A, 0xFF] {
            for file in [&address, &endpoint, &channel] {
                refused(file, TdiRequest(minor));
            }
        }
        for file in [endpoint, address, channel] {
            file.close(Order::HandleFirst);
        }
    });
}

#[proves("C-239", "C-240", "C-241")]
#[test]
fn only_an_open_address_of_the_same_device_can_be_associated() {
    scripted(|_| {
        let (address, other) = open_pair(1);
        let endpoint = open_endpoint(2);
        let with =
            |handle: u64| endpoint.request(TdiRequest::ASSOCIATE_ADDRESS, [handle, 0, 0, 0], ptr::null_mut()).wait();
        for handle in [0, 0x1234, u64::MAX, other.handle.0] {
            assert_eq!(with(handle), (NtStatus::INVALID_HANDLE, 0));
        }
        let address6 = try_open(r"\Device\Tcp6", &address_ea("[::]:0".parse().expect("an address")), 0);
        let address6 = address6.expect("an address");
        assert_eq!(endpoint.associate(&address6), NtStatus::INVALID_HANDLE);
        assert_eq!(endpoint.associate(&address), NtStatus::SUCCESS);
        for file in [endpoint, other, address, address6] {
            file.close(Order::HandleFirst);
        }
    });
}

#[proves("C-226", "C-210")]
#[test]
fn cancelling_what_is_over_does_nothing() {
    scripted(|network| {
        let (address, endpoint, line) = connected(network);
        let buffer = Buffer::zeroed(10);
        let receive = endpoint.start_receive(&buffer, receive_flags::NORMAL);
        line.deliver(b"done");
        assert_eq!(receive.wait(), (NtStatus::SUCCESS, 4));
        assert!(!receive.cancel());
        // SAFETY: the packet is ours.
        assert!(unsafe { cancel::is_cancelled(receive.irp) });
        assert_eq!(receive.wait(), (NtStatus::SUCCESS, 4));
        close([endpoint, address]);
    });
}
