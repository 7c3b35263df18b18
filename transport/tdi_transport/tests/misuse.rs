//! Clients that do what no rule allows, in the event handlers of connections above all: each is a finding, and the
//! transport goes on. An IRP that completed twice would end the run by bugcheck 0x44.

mod client;
mod peer;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::ptr;

use client::handlers::{Answer, Client, Seen, bytes_of};
use client::*;
use nt_abi::tdi::{TdiEvent, TdiRequest};
use nt_abi::{Irql, NtStatus};
use peer::*;
use proves::proves;

/// Connected to a stream, with a receive handler.
fn connected() -> (File, File, Box<Client>, TcpStream) {
    let (peer, stream) = stream_peer();
    let (address, client) = (open_address("0.0.0.0:0"), Client::new());
    client.listen_to(&address, &[TdiEvent::RECEIVE]);
    let endpoint = open_endpoint(1);
    assert_eq!(endpoint.associate(&address), NtStatus::SUCCESS);
    assert_eq!(endpoint.connect(peer), NtStatus::SUCCESS);
    (address, endpoint, client, stream())
}

/// A listening address with a connect handler, and where peers connect to.
fn listening() -> (File, Box<Client>, SocketAddr) {
    let (address, client) = (open_address("127.0.0.1:0"), Client::new());
    let (_, answer) = address.query(nt_abi::tdi::query::ADDRESS_INFO, 100);
    let local = tdi_core::transport_address::parse(&answer[4..], tdi_core::transport_address::Family::V4);
    client.listen_to(&address, &[TdiEvent::CONNECT]);
    (address, client, local.expect("an address"))
}

/// Connects, and waits until the offer was refused.
fn connect_and_be_refused(local: SocketAddr, client: &Client) {
    let stream = TcpStream::connect(local);
    client.wait_for(|seen| matches!(seen.last(), Some(Seen::Offered { .. })));
    if let Ok(stream) = stream {
        assert_eq!(drain(&stream).1, End::Rst);
    }
}

#[proves("C-589")]
#[test]
fn more_processing_without_an_irp_is_a_finding_and_the_stream_goes_on() {
    if !is_child() {
        let said = findings_of("more_processing_without_an_irp_is_a_finding_and_the_stream_goes_on");
        assert_eq!(said, ["C-589"]);
        return;
    }
    on_loopback(|| {
        let (address, endpoint, client, mut stream) = connected();
        client.script(Answer::irp(2, ptr::null_mut()));
        stream.write_all(b"abcdef").expect("room");
        let seen = client.wait_for(|seen| bytes_of(seen).len() >= 10);
        assert_eq!(bytes_of(&seen), b"abcdefcdef");
        endpoint.close(Order::ReferenceFirst);
        address.close(Order::ReferenceFirst);
    });
}

#[proves("C-222")]
#[test]
fn wrong_irp_of_a_receive_handler_is_a_finding_and_completes_once() {
    if !is_child() {
        let said = findings_of("wrong_irp_of_a_receive_handler_is_a_finding_and_completes_once");
        assert_eq!(said, ["C-222", "C-222"]);
        return;
    }
    on_loopback(|| {
        let (address, endpoint, client, mut stream) = connected();
        let other = open_endpoint(2);
        let irps = [
            (Request::new(&endpoint, TdiRequest::SEND, [0; 4], ptr::null_mut()), NtStatus::INVALID_DEVICE_REQUEST),
            (Request::new(&other, TdiRequest::RECEIVE, [0; 4], ptr::null_mut()), NtStatus::INVALID_CONNECTION),
        ];
        for (request, status) in irps {
            let request = request.into_current();
            client.script(Answer::irp(0, request.irp));
            stream.write_all(b"kept").expect("room");
            assert_eq!(request.wait(), (status, 0));
            client.wait_for_bytes(4);
            assert_eq!(endpoint.receive(4).as_deref(), Ok(b"kept".as_slice()));
        }
        for file in [other, endpoint, address] {
            file.close(Order::ReferenceFirst);
        }
    });
}

#[proves("C-222", "C-439", "C-440", "C-442")]
#[test]
fn connect_handler_that_accepts_wrongly_is_a_finding_and_the_peer_is_refused() {
    if !is_child() {
        let said = findings_of("connect_handler_that_accepts_wrongly_is_a_finding_and_the_peer_is_refused");
        assert_eq!(said, ["C-439", "C-442", "C-222"]);
        return;
    }
    on_loopback(|| {
        let (address, client, local) = listening();
        let endpoint = open_endpoint(3);
        assert_eq!(endpoint.associate(&address), NtStatus::SUCCESS);
        let accept = Request::new(&endpoint, TdiRequest::ACCEPT, [0; 4], ptr::null_mut()).into_current();
        client.script(Answer { irp: accept.irp, ..Answer::status(NtStatus::SUCCESS) });
        connect_and_be_refused(local, &client);
        assert!(!accept.is_done(), "it is still the client's");
        client.script(Answer::irp(0, ptr::null_mut()));
        connect_and_be_refused(local, &client);
        let send = Request::new(&endpoint, TdiRequest::SEND, [0; 4], ptr::null_mut()).into_current();
        client.script(Answer::irp(0, send.irp));
        connect_and_be_refused(local, &client);
        assert_eq!(send.wait(), (NtStatus::INVALID_DEVICE_REQUEST, 0));
        // The documented refusals are none.
        for status in [NtStatus::CONNECTION_REFUSED, NtStatus::INSUFFICIENT_RESOURCES] {
            client.script(Answer::status(status));
            connect_and_be_refused(local, &client);
        }
        // The endpoint is as it was.
        client.script(Answer::irp(0, accept.irp));
        let stream = TcpStream::connect(local).expect("accepted");
        assert_eq!(accept.wait(), (NtStatus::SUCCESS, 0));
        endpoint.close(Order::ReferenceFirst);
        address.close(Order::ReferenceFirst);
        assert_eq!(drain(&stream).1, End::Fin);
    });
}

#[proves("C-222", "C-312")]
#[test]
fn accept_irp_of_another_address_or_of_no_endpoint_is_a_finding_and_the_peer_is_refused() {
    if !is_child() {
        let said = findings_of("accept_irp_of_another_address_or_of_no_endpoint_is_a_finding_and_the_peer_is_refused");
        assert_eq!(said, ["C-222", "C-222"]);
        return;
    }
    on_loopback(|| {
        let (address, client, local) = listening();
        let (other, foreign) = (open_address("127.0.0.1:0"), open_endpoint(3));
        assert_eq!(foreign.associate(&other), NtStatus::SUCCESS);
        for file in [&foreign, &address] {
            let accept = Request::new(file, TdiRequest::ACCEPT, [0; 4], ptr::null_mut()).into_current();
            client.script(Answer::irp(0, accept.irp));
            connect_and_be_refused(local, &client);
            assert_eq!(accept.wait(), (NtStatus::INVALID_CONNECTION, 0));
        }
        // An endpoint that is not associated is refused as well, but may have been disassociated meanwhile.
        assert_eq!(foreign.disassociate(), NtStatus::SUCCESS);
        let accept = Request::new(&foreign, TdiRequest::ACCEPT, [0; 4], ptr::null_mut()).into_current();
        client.script(Answer::irp(0, accept.irp));
        connect_and_be_refused(local, &client);
        assert_eq!(accept.wait(), (NtStatus::INVALID_CONNECTION, 0));
        for file in [foreign, other, address] {
            file.close(Order::ReferenceFirst);
        }
    });
}

unsafe extern "win64" fn lower_and_signal(
    _device: *mut nt_abi::DeviceObject,
    _irp: *mut nt_abi::Irp,
    done: *mut nt_abi::KernelEvent,
) -> NtStatus {
    // SAFETY: the request's own event.
    unsafe { nt_dispatcher::event::set(done) };
    gate::set_irql(Irql::PASSIVE);
    NtStatus::MORE_PROCESSING_REQUIRED
}

#[proves("K-056")]
#[test]
fn handler_and_completion_routine_that_return_at_another_level_are_findings() {
    if !is_child() {
        let said = findings_of("handler_and_completion_routine_that_return_at_another_level_are_findings");
        assert_eq!(said, ["K-056", "K-056", "K-056"]);
        return;
    }
    on_loopback(|| {
        let (address, endpoint, client, mut stream) = connected();
        for level in [Irql::PASSIVE, Irql(5)] {
            // The handler checks the level at which it is called, so the one before is seen to be restored.
            client.script(Answer::take_all().then(move || {
                gate::set_irql(level);
            }));
            stream.write_all(b"data").expect("room");
            client.wait_for_bytes(4);
        }
        // SAFETY: all bytes zero is a valid KernelEvent.
        let done: Box<std::cell::UnsafeCell<nt_abi::KernelEvent>> = Box::new(unsafe { std::mem::zeroed() });
        // SAFETY: initialised where it stays.
        unsafe {
            let kind = nt_abi::dispatcher::DispatcherType::NOTIFICATION_EVENT;
            nt_dispatcher::event::initialize(done.get(), kind, false);
        }
        let buffer = Buffer::zeroed(4);
        let word = 4 | u64::from(nt_abi::tdi::receive_flags::NORMAL) << 32;
        let routine = lower_and_signal as *const () as u64;
        let request = Request::new(&endpoint, TdiRequest::RECEIVE, [word, 0, 0, 0], buffer.mdl());
        let request = request.on_completion(routine, done.get() as u64).send(&endpoint);
        assert_eq!(request.returned, NtStatus::PENDING);
        stream.write_all(b"more").expect("room");
        // SAFETY: initialised above.
        let status = unsafe { nt_dispatcher::wait::wait_single(done.get() as u64, Some(LONG)) };
        assert_eq!((status, buffer.bytes.as_ref()), (NtStatus::SUCCESS, b"more".as_slice()));
        endpoint.close(Order::ReferenceFirst);
        address.close(Order::ReferenceFirst);
    });
}

#[proves("C-202")]
#[test]
fn associating_above_passive_level_is_a_finding() {
    if !is_child() {
        assert_eq!(findings_of("associating_above_passive_level_is_a_finding"), ["C-202"]);
        return;
    }
    on_loopback(|| {
        let address = open_address("127.0.0.1:0");
        let endpoints = [open_endpoint(1), open_endpoint(2)];
        assert_eq!(endpoints[0].associate(&address), NtStatus::SUCCESS);
        let raised = nt_dispatcher::irql::Raised::to(Irql::DISPATCH);
        assert_eq!(endpoints[1].associate(&address), NtStatus::SUCCESS);
        drop(raised);
        for file in endpoints.iter().chain([&address]) {
            file.close(Order::ReferenceFirst);
        }
    });
}

#[proves("C-210")]
#[test]
fn request_that_is_sent_again_while_it_is_pending_ends_the_run() {
    if !is_child() {
        let output = again("request_that_is_sent_again_while_it_is_pending_ends_the_run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(gate::bugcheck::BUGCHECK_EXIT), "{said}");
        assert!(said.contains("bugcheck MULTIPLE_IRP_COMPLETE_REQUESTS "), "{said}");
        return;
    }
    on_loopback(|| {
        let (_address, endpoint, _client, _stream) = connected();
        let buffer = Buffer::zeroed(4);
        // SAFETY: a packet of our own with a location for each time.
        unsafe {
            let irp = nt_io::irp::allocate(4, nt_io::irp::Owner::Driver, 0).expect("a packet");
            (*irp).mdl_address = buffer.mdl();
            for _ in 0..2 {
                let location = nt_io::irp::next_location(irp);
                (*location).major_function = nt_abi::MajorFunction::INTERNAL_DEVICE_CONTROL;
                (*location).minor_function = TdiRequest::RECEIVE.0;
                (*location).parameters = [4 | u64::from(nt_abi::tdi::receive_flags::NORMAL) << 32, 0, 0, 0];
                (*location).file_object = endpoint.object;
                assert_eq!(nt_io::irp::call_driver(endpoint.device(), irp), NtStatus::PENDING);
            }
        }
    });
}
