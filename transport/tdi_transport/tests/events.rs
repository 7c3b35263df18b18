//! Event handlers of connections over loopback sockets.

mod client;
mod peer;

use std::io::Write;

use client::handlers::{Answer, Client, Seen, bytes_of};
use client::*;
use nt_abi::tdi::{TdiEvent, TdiRequest, disconnect_flags, receive_flags};
use nt_abi::{Irql, NtStatus};
use peer::*;
use proves::proves;

const CONTEXT: u64 = 0xFEED_0000_0000_0001;
const STREAM: [TdiEvent; 2] = [TdiEvent::RECEIVE, TdiEvent::DISCONNECT];

/// Connected, with handlers.
struct Connected {
    address: File,
    endpoint: File,
    client: Box<Client>,
    stream: std::net::TcpStream,
}

impl Connected {
    fn new() -> Self {
        let (peer, stream) = stream_peer();
        let address = open_address("0.0.0.0:0");
        let client = Client::new();
        client.listen_to(&address, &STREAM);
        let endpoint = open_endpoint(CONTEXT);
        assert_eq!(endpoint.associate(&address), NtStatus::SUCCESS);
        assert_eq!(endpoint.connect(peer), NtStatus::SUCCESS);
        Self { address, endpoint, client, stream: stream() }
    }

    fn close(self) {
        self.endpoint.close(Order::ReferenceFirst);
        self.address.close(Order::ReferenceFirst);
    }
}

#[proves("C-112", "C-113")]
#[test]
fn every_handler_gets_the_endpoint_s_context_whatever_its_value() {
    on_loopback(|| {
        for context in [0, 1, u64::MAX, 0x8000_0000_0000_0000, 0xDEAD_BEEF_0000_0001] {
            let (peer, stream) = stream_peer();
            let (address, client) = (open_address("0.0.0.0:0"), Client::new());
            client.listen_to(&address, &STREAM);
            // Two endpoints of one address are told apart by it.
            let endpoints = [context, 7].map(|context| {
                let endpoint = open_endpoint(context);
                assert_eq!(endpoint.associate(&address), NtStatus::SUCCESS);
                endpoint
            });
            assert_eq!(endpoints[0].connect(peer), NtStatus::SUCCESS);
            let mut stream = stream();
            stream.write_all(b"data").expect("room");
            drop(stream);
            let seen = client.wait_for(|seen| matches!(seen.last(), Some(Seen::Disconnected { .. })));
            assert_eq!(bytes_of(&seen), b"data");
            for event in seen {
                let (Seen::Received { context: told, .. } | Seen::Disconnected { context: told, .. }) = event else {
                    panic!("{event:?}")
                };
                assert_eq!(told, context);
            }
            for file in endpoints.iter().chain([&address]) {
                file.close(Order::HandleFirst);
            }
        }
    });
}

#[proves(
    "C-247", "C-419", "C-420", "C-421", "C-465", "C-470", "C-476", "C-495", "C-452", "C-458", "C-466", "C-474", "C-475"
)]
#[test]
fn arriving_data_is_indicated_and_the_release_follows_it() {
    on_loopback(|| {
        let mut at = Connected::new();
        at.stream.write_all(b"all of it").expect("room");
        assert_eq!(at.client.wait_for_bytes(9), b"all of it");
        at.stream.write_all(b"and more").expect("room");
        at.stream.shutdown(std::net::Shutdown::Write).expect("a live socket");
        let ended = |seen: &[Seen]| matches!(seen.last(), Some(Seen::Disconnected { .. }));
        let seen = at.client.wait_for(ended);
        assert_eq!(bytes_of(&seen), b"and more");
        for event in &seen {
            match event {
                Seen::Received { context, flags, .. } => {
                    assert_eq!(*context, CONTEXT);
                    assert_eq!(flags & (receive_flags::NORMAL | receive_flags::EXPEDITED), receive_flags::NORMAL);
                    assert_ne!(flags & receive_flags::AT_DISPATCH_LEVEL, 0);
                }
                Seen::Disconnected { context, flags } => {
                    assert_eq!((*context, *flags), (CONTEXT, disconnect_flags::RELEASE));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(at.endpoint.release(), NtStatus::SUCCESS);
        at.close();
    });
}

#[proves("C-449", "C-454", "C-521")]
#[test]
fn reset_by_the_peer_is_indicated_as_an_abort_and_the_endpoint_can_be_used_again() {
    on_loopback(|| {
        let Connected { address, endpoint, client, stream } = Connected::new();
        reset(stream);
        let ended = |seen: &[Seen]| !seen.is_empty();
        let abort = Seen::Disconnected { context: CONTEXT, flags: disconnect_flags::ABORT };
        assert_eq!(client.wait_for(ended), [abort]);
        let (peer, stream) = stream_peer();
        assert_eq!(endpoint.connect(peer), NtStatus::SUCCESS);
        let again = Connected { address, endpoint, client, stream: stream() };
        again.close();
    });
}

#[proves("C-477", "C-586")]
#[test]
fn what_a_handler_leaves_is_indicated_again() {
    on_loopback(|| {
        let mut at = Connected::new();
        at.client.script(Answer::take(2));
        at.stream.write_all(b"abcdef").expect("room");
        let seen = at.client.wait_for(|seen| bytes_of(seen).len() >= 10);
        assert_eq!(bytes_of(&seen), b"abcdefcdef");
        at.close();
    });
}

#[proves("C-393", "C-484", "C-486", "C-487", "C-587")]
#[test]
fn refused_data_waits_for_a_receive_and_indications_resume_after_it() {
    for refusal in [Answer::status(NtStatus::DATA_NOT_ACCEPTED), Answer::take(0)] {
        on_loopback(|| {
            let (mut at, mut later) = (Connected::new(), Connected::new());
            at.client.script(refusal);
            at.stream.write_all(b"first").expect("room");
            at.client.wait_for_bytes(5);
            at.stream.write_all(b"second").expect("room");
            // The network tells in the order of arrival: when this is indicated, the transport knows of the other, too.
            later.stream.write_all(b"x").expect("room");
            later.client.wait_for_bytes(1);
            later.close();
            assert_eq!(at.client.seen(), []);
            let mut got = Vec::new();
            while got.len() < 5 {
                got.extend(at.endpoint.receive(5 - got.len()).expect("the refused bytes"));
            }
            assert_eq!(got, b"first");
            assert_eq!(at.client.wait_for_bytes(6), b"second");
            at.close();
        });
    }
}

#[proves("C-218", "C-219", "C-220", "C-221", "C-479", "C-480", "C-481", "C-482")]
#[test]
fn receive_returned_by_a_handler_gets_the_bytes_that_follow() {
    on_loopback(|| {
        let mut at = Connected::new();
        let buffer = Buffer::zeroed(100);
        let word = 100 | u64::from(receive_flags::NORMAL) << 32;
        let receive = Request::new(&at.endpoint, TdiRequest::RECEIVE, [word, 0, 0, 0], buffer.mdl()).into_current();
        at.client.script(Answer::irp(3, receive.irp));
        at.stream.write_all(b"abcdefgh").expect("room");
        assert_eq!(receive.wait(), (NtStatus::SUCCESS, 5));
        assert_eq!(&buffer.bytes[..5], b"defgh");
        at.stream.write_all(b"next").expect("room");
        at.client.wait_for(|seen| bytes_of(seen).ends_with(b"next"));
        at.close();
    });
}

#[proves("C-217", "D-012")]
#[test]
fn returned_receive_may_have_more_locations_than_the_device_needs() {
    on_loopback(|| {
        let mut at = Connected::new();
        for spare in [0, 1, 3] {
            let buffer = Buffer::zeroed(4);
            let word = 4 | u64::from(receive_flags::NORMAL) << 32;
            let parameters = [word, 0, 0, 0];
            let receive =
                Request::with_spare_locations(&at.endpoint, TdiRequest::RECEIVE, parameters, buffer.mdl(), spare);
            let receive = receive.into_current();
            at.client.script(Answer::irp(0, receive.irp));
            at.stream.write_all(b"data").expect("room");
            assert_eq!(receive.wait(), (NtStatus::SUCCESS, 4));
            assert_eq!(&*buffer.bytes, b"data");
        }
        at.close();
    });
}

unsafe extern "win64" fn patched(
    _device: *mut nt_abi::DeviceObject,
    irp: *mut nt_abi::Irp,
    found: *mut (u64, *mut nt_abi::KernelEvent),
) -> NtStatus {
    // SAFETY: the context that the test has put into the location; the test waits for the event.
    unsafe {
        (*found).0 = (*irp).io_status.information;
        nt_dispatcher::event::set((*found).1);
    }
    NtStatus::MORE_PROCESSING_REQUIRED
}

#[proves("D-283")]
#[test]
fn completion_routine_of_a_returned_receive_is_read_when_it_completes() {
    on_loopback(|| {
        let mut at = Connected::new();
        // SAFETY: all bytes zero is a valid KernelEvent, initialised where it stays.
        let done: Box<std::cell::UnsafeCell<nt_abi::KernelEvent>> = Box::new(unsafe { std::mem::zeroed() });
        // SAFETY: as above.
        unsafe {
            let kind = nt_abi::dispatcher::DispatcherType::NOTIFICATION_EVENT;
            nt_dispatcher::event::initialize(done.get(), kind, false);
        }
        let mut found = (0, done.get());
        let buffer = Buffer::zeroed(9);
        let word = 9 | u64::from(receive_flags::NORMAL) << 32;
        let receive = Request::new(&at.endpoint, TdiRequest::RECEIVE, [word, 0, 0, 0], buffer.mdl()).into_current();
        // It waits: the handler takes what there is.
        at.client.script(Answer::irp(3, receive.irp));
        at.stream.write_all(b"one").expect("room");
        at.client.wait_for_bytes(3);
        // A filter changes the location that the client has filled.
        // SAFETY: the current location of a packet that is pending until more data comes.
        unsafe {
            let location = (*receive.irp).current_stack_location;
            (*location).completion_routine = patched as *const () as u64;
            (*location).context = &raw mut found as u64;
        }
        at.stream.write_all(b"the other").expect("room");
        // SAFETY: initialised above.
        assert_eq!(unsafe { nt_dispatcher::wait::wait_single(done.get() as u64, Some(LONG)) }, NtStatus::SUCCESS);
        assert_eq!((found.0, &*buffer.bytes), (9, b"the other".as_slice()));
        assert!(!receive.is_done(), "the routine that was replaced has not run");
        at.close();
    });
}

#[proves("C-418", "D-111", "D-115")]
#[test]
fn handler_that_withdraws_itself_is_not_called_again() {
    on_loopback(|| {
        let mut at = Connected::new();
        let address = at.address;
        at.client.script(Answer::take_all().then(move || {
            // Completes at once, though a call of the handler has not returned.
            // The event is a number of 32 bits, whatever lies beside it.
            let parameters = [u64::from(TdiEvent::RECEIVE.0) | 0xDEAD << 32, 0, 0, 0];
            let set = address.request(TdiRequest::SET_EVENT_HANDLER, parameters, std::ptr::null_mut());
            assert_eq!(set.returned, NtStatus::SUCCESS);
        }));
        at.stream.write_all(b"one").expect("room");
        at.client.wait_for_bytes(3);
        at.stream.write_all(b"two").expect("room");
        assert_eq!(at.endpoint.receive(3).as_deref(), Ok(b"two".as_slice()));
        assert_eq!(at.client.seen(), []);
        at.close();
    });
}

#[proves("C-222", "C-589")]
#[test]
fn wrong_request_returned_by_a_handler_completes_with_an_error_and_the_data_stays() {
    on_loopback(|| {
        let mut at = Connected::new();
        let send = Request::new(&at.endpoint, TdiRequest::SEND, [0; 4], std::ptr::null_mut()).into_current();
        at.client.script(Answer::irp(0, send.irp));
        at.stream.write_all(b"kept").expect("room");
        assert_eq!(send.wait(), (NtStatus::INVALID_DEVICE_REQUEST, 0));
        at.client.wait_for_bytes(4);
        assert_eq!(at.endpoint.receive(4).as_deref(), Ok(b"kept".as_slice()));
        at.close();
    });
}

#[test]
fn address_that_is_no_irp_is_left_alone_and_the_data_stays() {
    on_loopback(|| {
        let mut at = Connected::new();
        let unsent = Request::new(&at.endpoint, TdiRequest::RECEIVE, [1; 4], std::ptr::null_mut());
        for (bad, text) in [(0x10_u64 as *mut _, b"one"), (unsent.irp, b"two")] {
            at.client.script(Answer::irp(0, bad));
            at.stream.write_all(text).expect("room");
            at.client.wait_for_bytes(3);
            assert_eq!(at.endpoint.receive(3).as_deref(), Ok(text.as_slice()));
        }
        assert!(!unsent.is_done());
        at.close();
    });
}

#[proves("C-379", "C-427", "C-428")]
#[test]
fn handler_sends_on_its_own_connection() {
    on_loopback(|| {
        let mut at = Connected::new();
        let endpoint = at.endpoint;
        let sent = std::sync::Arc::new(std::sync::Mutex::new(None));
        let kept = std::sync::Arc::clone(&sent);
        at.client.script(Answer::take_all().then(move || {
            assert_eq!(gate::irql(), Irql::DISPATCH);
            let buffer = Buffer::new(*b"pong");
            let send = endpoint.start_send(&buffer, 4, 0);
            // Its completion follows when the handler has returned.
            assert_eq!((send.returned, send.is_done()), (NtStatus::PENDING, false));
            *kept.lock().expect("no panic") = Some((send, buffer));
        }));
        at.stream.write_all(b"ping").expect("room");
        let mut answer = [0; 4];
        std::io::Read::read_exact(&mut at.stream, &mut answer).expect("the answer");
        assert_eq!(&answer, b"pong");
        // The answer can be here before the handler has put its request down.
        let (send, _buffer) = loop {
            if let Some(kept) = sent.lock().expect("no panic").take() {
                break kept;
            }
            std::thread::yield_now();
        };
        assert_eq!(send.wait(), (NtStatus::SUCCESS, 4));
        at.close();
    });
}
