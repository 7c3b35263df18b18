//! Requests over a scripted network: pending, cancelled, timed out, broken, closed.

mod client;
mod scripted;

use std::net::SocketAddr;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use client::handlers::Client;
use client::*;
use net_api::{NetError, Progress};
use nt_abi::tdi::{ConnectionInformation, QUERY_ACCEPT, TdiEvent, TdiRequest, disconnect_flags, receive_flags};
use nt_abi::{Irql, MajorFunction, NtStatus};
use nt_dispatcher::irql::Raised;
use nt_io::{cancel, irp};
use proves::proves;
use scripted::{Farewell, Line, Script, remote, scripted};

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
            let mut timeout = -300_000;
            let connect = endpoint.start_connect(&to, Some(&timeout));
            // The limit is read at once, since it often lies on the client's stack, where soon something else is: an hour here.
            *std::hint::black_box(&mut timeout) = -36_000_000_000;
            connect
        };
        assert_eq!(connect.wait(), (NtStatus::IO_TIMEOUT, 0));
        assert_eq!(endpoint.disassociate(), NtStatus::SUCCESS, "C-257");
        close([endpoint, address]);
    });
}

#[proves("C-203", "C-269", "C-268", "C-284", "D-009")]
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

type Levels = std::sync::Mutex<Vec<(Irql, std::thread::ThreadId)>>;

unsafe extern "win64" fn note_level(_device: u64, _irp: *mut nt_abi::Irp, levels: *const Levels) -> NtStatus {
    // SAFETY: the context that the test set.
    unsafe { (*levels).lock().expect("no panic").push((gate::irql(), std::thread::current().id())) };
    NtStatus::MORE_PROCESSING_REQUIRED
}

#[proves("C-207")]
#[test]
fn completion_routines_run_at_dispatch_level_at_most_on_whatever_thread() {
    scripted(|network| {
        let (address, endpoint, line) = connected(network);
        let buffer = Buffer::zeroed(10);
        let levels = Levels::default();
        let routine = (note_level as *const () as u64, ptr::from_ref(&levels) as u64);
        let start = |minor, parameters| {
            let request = Request::new(&endpoint, minor, parameters, buffer.mdl());
            request.on_completion(routine.0, routine.1).send(&endpoint)
        };
        let receive = || start(TdiRequest::RECEIVE, [10, receive_flags::NORMAL.into(), 0, 0]);
        let (send, bytes) = (TdiRequest::SEND, [10, 0, 0, 0]);
        let ended = |how: &str, level: Irql| {
            while levels.lock().expect("no panic").is_empty() {
                std::thread::yield_now();
            }
            let seen = std::mem::take(&mut *levels.lock().expect("no panic"));
            assert_eq!(seen.len(), 1, "{how}");
            assert!(seen[0].0 <= Irql::DISPATCH, "{how}: {seen:?}");
            assert_eq!(gate::irql(), level, "{how}: the caller's own is as it was");
            seen[0].1
        };
        let here = std::thread::current().id();
        let _at_once = start(send, bytes);
        assert_eq!(ended("at once", Irql::PASSIVE), here);
        let raised = Raised::to(Irql::DISPATCH);
        let _raised = start(send, bytes);
        ended("at once, sent at DISPATCH_LEVEL", Irql::DISPATCH);
        drop(raised);
        let _later = receive();
        line.deliver(b"data");
        assert_ne!(ended("by what arrived", Irql::PASSIVE), here);
        let cancelled = receive();
        assert!(cancelled.cancel());
        ended("by being cancelled", Irql::PASSIVE);
        line.shut_window();
        let full = start(send, bytes);
        line.open_window(100);
        ended("by room to send", Irql::PASSIVE);
        drop(full);
        let _left = receive();
        endpoint.close_handle();
        ended("by cleanup", Irql::PASSIVE);
        endpoint.dereference();
        address.close(Order::HandleFirst);
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

#[proves("C-382", "C-387", "C-402", "C-403")]
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

#[proves("C-358", "C-360", "C-362")]
#[test]
fn buffer_that_is_too_short_or_not_there_fails_the_request_and_nothing_else() {
    scripted(|network| {
        let (address, endpoint, line) = connected(network);
        let short = Buffer::zeroed(4);
        let word = |length: u64| [length, 0, 0, 0];
        for minor in [TdiRequest::SEND, TdiRequest::RECEIVE] {
            let request = |length, mdl| endpoint.request(minor, word(length), mdl).wait();
            let idle = open_endpoint(2);
            assert_eq!(idle.request(minor, word(4), short.mdl()).wait(), (NtStatus::INVALID_CONNECTION, 0));
            idle.close(Order::ReferenceFirst);
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

#[proves("C-190", "C-275", "C-276", "C-262")]
#[test]
fn connect_goes_to_the_address_of_its_information_and_ignores_its_flags() {
    scripted(|network| {
        let (address, endpoint) = open_pair(1);
        for (at, flags) in [0, 1, 7, u64::from(u32::MAX), u64::MAX].into_iter().enumerate() {
            let remote = SocketAddr::from(([10, 0, 1, at as u8], 1000 + at as u16));
            let to = Information::of(remote);
            let parameters = [flags, to.pointer(), 0, 0];
            let connect = endpoint.request(TdiRequest::CONNECT, parameters, ptr::null_mut());
            assert_eq!(connect.wait(), (NtStatus::SUCCESS, 0), "{flags:#x}");
            assert_eq!(network.line(at).remote(), remote);
            assert_eq!(endpoint.abort(), NtStatus::SUCCESS);
        }
        close([endpoint, address]);
    });
}

#[proves("C-062", "C-267")]
#[test]
fn remote_address_length_counts_the_whole_transport_address() {
    scripted(|network| {
        let (address, endpoint) = open_pair(1);
        let connect = |length: i32, address: &[u8]| {
            let mut to = Information::new(address.into());
            to.block.remote_address_length = length;
            endpoint.start_connect(&to, None).wait()
        };
        let good = tdi_core::transport_address::encode(remote());
        let mut unknown_type = good.as_bytes().to_vec();
        unknown_type[6] = 99;
        for (length, bytes) in [(0, good.as_bytes()), (14, good.as_bytes()), (21, good.as_bytes()), (22, &unknown_type)]
        {
            let (status, information) = connect(length, bytes);
            assert!(status.is_error() && information == 0, "{length}: {status:?}");
        }
        let none = endpoint.request(TdiRequest::CONNECT, [0; 4], ptr::null_mut()).wait();
        assert!(none.0.is_error(), "no information at all: {none:?}");
        assert_eq!(network.lines(), 0, "nothing is sent");
        let mut longer = good.as_bytes().to_vec();
        longer.resize(30, 0xEE);
        for (length, bytes) in [(22, good.as_bytes()), (30, &longer)] {
            assert_eq!(connect(length, bytes), (NtStatus::SUCCESS, 0));
            assert_eq!(network.line(network.lines() - 1).remote(), remote());
            assert_eq!(endpoint.abort(), NtStatus::SUCCESS);
        }
        close([endpoint, address]);
    });
}

#[proves("C-056", "C-191", "C-192", "C-320", "D-167")]
#[test]
fn parameters_that_no_macro_writes_are_not_read() {
    const GARBAGE: u64 = 0xDEAD_BEEF_DEAD_BEEF;
    scripted(|network| {
        let (address, endpoint) = (open_address("0.0.0.0:0"), open_endpoint(1));
        let ask = |minor, parameters| endpoint.request(minor, parameters, ptr::null_mut());
        let success = (NtStatus::SUCCESS, 0);
        let handle = address.handle.0;
        for _ in 0..2 {
            assert_eq!(ask(TdiRequest::ASSOCIATE_ADDRESS, [handle, GARBAGE, GARBAGE, GARBAGE]).wait(), success);
            assert_eq!(ask(TdiRequest::DISASSOCIATE_ADDRESS, [GARBAGE; 4]).wait(), success);
        }
        assert_eq!(ask(TdiRequest::ASSOCIATE_ADDRESS, [handle, GARBAGE, GARBAGE, GARBAGE]).wait(), success);
        let listen = ask(TdiRequest::LISTEN, [QUERY_ACCEPT, 0, 0, GARBAGE]);
        assert_eq!(listen.returned, NtStatus::PENDING);
        let line = network.offer(remote());
        assert_eq!(listen.wait(), success);
        // ACCEPT has two words and no flags in front: the second is where its results go.
        let returned = Information::new(vec![0; 22].into());
        assert_eq!(ask(TdiRequest::ACCEPT, [0, returned.pointer(), GARBAGE, GARBAGE]).wait(), success);
        assert_eq!(&*returned.address, tdi_core::transport_address::encode(remote()).as_bytes());
        let out = Buffer::new(*b"out");
        let send = endpoint.request(TdiRequest::SEND, [3, GARBAGE, GARBAGE, GARBAGE], out.mdl());
        assert_eq!(send.wait(), (NtStatus::SUCCESS, 3));
        // The flags of a disconnect are a number, no pointer to one; above 32 bits older macros write nothing.
        let flags = u64::from(disconnect_flags::ABORT) | GARBAGE << 32;
        assert_eq!(ask(TdiRequest::DISCONNECT, [flags, 0, 0, 0]).wait(), success);
        assert_eq!((line.sent(), line.farewell()), (b"out".to_vec(), Some(Farewell::Rst)));
        close([endpoint, address]);
    });
}

#[proves("C-293", "C-316", "C-318", "C-582", "C-520")]
#[test]
fn accepted_offer_is_a_connection_only_when_its_handshake_is_done() {
    scripted(|network| {
        let (address, endpoint) = open_pair(1);
        let client = Client::new();
        client.listen_to(&address, &[TdiEvent::DISCONNECT]);
        let ask = |minor, flags| endpoint.request(minor, [flags, 0, 0, 0], ptr::null_mut());
        let outcomes = [
            (Ok(Progress::Established), NtStatus::SUCCESS),
            (Err(NetError::Reset), NtStatus::CONNECTION_RESET),
            (Err(NetError::TimedOut), NtStatus::IO_TIMEOUT),
        ];
        for (attempt, status) in outcomes {
            let listen = ask(TdiRequest::LISTEN, QUERY_ACCEPT);
            let line = network.offer_as(remote(), Ok(Progress::Pending));
            assert_eq!(listen.wait(), (NtStatus::SUCCESS, 0));
            let accept = ask(TdiRequest::ACCEPT, 0);
            assert_eq!((accept.returned, accept.is_done()), (NtStatus::PENDING, false));
            line.finish(attempt);
            assert_eq!(accept.wait(), (status, 0));
            assert_eq!(endpoint.abort().is_success(), attempt.is_ok());
            // A listen that accepts by itself waits for the same.
            let listen = ask(TdiRequest::LISTEN, 0);
            network.offer_as(remote(), Ok(Progress::Pending)).finish(attempt);
            assert_eq!(listen.wait(), (status, 0));
            assert_eq!(endpoint.abort().is_success(), attempt.is_ok());
        }
        // What ends while it is answered is told to the remote node.
        let listen = ask(TdiRequest::LISTEN, QUERY_ACCEPT);
        let line = network.offer_as(remote(), Ok(Progress::Pending));
        assert_eq!(listen.wait(), (NtStatus::SUCCESS, 0));
        let accept = ask(TdiRequest::ACCEPT, 0);
        assert_eq!(endpoint.abort(), NtStatus::SUCCESS);
        assert_eq!((accept.wait(), line.farewell()), ((NtStatus::CONNECTION_ABORTED, 0), Some(Farewell::Rst)));
        assert_eq!(client.seen(), []);
        close([endpoint, address]);
    });
}

#[proves("C-195", "C-212", "C-552")]
#[test]
fn one_information_serves_as_request_and_return_and_is_written_at_the_end() {
    scripted(|network| {
        network.attempt(Ok(Progress::Pending));
        let (address, endpoint) = open_pair(1);
        let both = Information::of(remote());
        let parameters = [0, both.pointer(), both.pointer(), 0];
        let connect = endpoint.request(TdiRequest::CONNECT, parameters, ptr::null_mut());
        assert_eq!(connect.returned, NtStatus::PENDING);
        // The remote address was read when the request came: what lies there now shows who writes when.
        let address_at = both.address.as_ptr().cast_mut();
        // SAFETY: the test's buffer, which nobody else reads now.
        unsafe { ptr::write_bytes(address_at, 0xEE, both.address.len()) };
        let line = network.line(0);
        assert_eq!(line.remote(), remote());
        assert!(!connect.is_done());
        // SAFETY: as above.
        assert!((0..both.address.len()).all(|at| unsafe { address_at.add(at).read_volatile() } == 0xEE));
        line.finish(Ok(Progress::Established));
        assert_eq!(connect.wait(), (NtStatus::SUCCESS, 0));
        let expected = tdi_core::transport_address::encode(remote());
        // SAFETY: as above.
        let written = unsafe { std::slice::from_raw_parts(address_at, both.address.len()) };
        assert_eq!((written, both.block.remote_address_length), (expected.as_bytes(), 22));
        close([endpoint, address]);
    });
}

#[proves("C-197")]
#[test]
fn file_in_the_location_is_what_a_request_is_for() {
    scripted(|network| {
        let (address, endpoint, line) = connected(network);
        let (other_address, other, other_line) = connected(network);
        let channel = try_open(r"\Device\Udp", &[], 0).expect("a control channel");
        let buffer = Buffer::new(*b"data");
        // Built for one file and for another device, sent with the second file.
        for built_for in [&endpoint, &channel] {
            let send = Request::new(built_for, TdiRequest::SEND, [4, 0, 0, 0], buffer.mdl());
            // SAFETY: a packet of our own that was not sent yet.
            unsafe { (*irp::next_location(send.irp)).file_object = other.object };
            assert_eq!(send.send(&endpoint).wait(), (NtStatus::SUCCESS, 4));
        }
        assert_eq!((line.sent(), other_line.sent()), (vec![], b"datadata".to_vec()));
        close([endpoint, address]);
        close([other, other_address]);
        channel.close(Order::HandleFirst);
    });
}

#[proves("C-201", "C-205")]
#[test]
fn requests_are_served_at_dispatch_level() {
    scripted(|network| {
        let (address, endpoint) = open_pair(1);
        let (out, into, to) = (Buffer::new(*b"raised"), Buffer::zeroed(10), Information::of(remote()));
        let listening = open_endpoint(2);
        assert_eq!(listening.associate(&address), NtStatus::SUCCESS);
        network.attempt(Ok(Progress::Pending));
        let raised = Raised::to(Irql::DISPATCH);
        let connect = endpoint.start_connect(&to, None);
        let listen = listening.request(TdiRequest::LISTEN, [QUERY_ACCEPT, 0, 0, 0], ptr::null_mut());
        drop(raised);
        assert_eq!((connect.returned, listen.returned), (NtStatus::PENDING, NtStatus::PENDING));
        network.line(0).finish(Ok(Progress::Established));
        assert_eq!(connect.wait(), (NtStatus::SUCCESS, 0));
        network.offer(remote());
        assert_eq!(listen.wait(), (NtStatus::SUCCESS, 0));
        let raised = Raised::to(Irql::DISPATCH);
        // What can be done at once is: the completion routine has run when the call returns.
        let accept = listening.request(TdiRequest::ACCEPT, [0; 4], ptr::null_mut());
        let send = endpoint.start_send(&out, 6, 0);
        let receive = endpoint.start_receive(&into, receive_flags::NORMAL);
        let release = listening.start_disconnect(disconnect_flags::RELEASE, None);
        assert_eq!(gate::irql(), Irql::DISPATCH);
        assert!(send.is_done());
        drop(raised);
        assert_eq!((accept.wait(), send.wait()), ((NtStatus::SUCCESS, 0), (NtStatus::SUCCESS, 6)));
        assert_eq!((receive.returned, release.returned), (NtStatus::PENDING, NtStatus::PENDING));
        let raised = Raised::to(Irql::DISPATCH);
        let aborts = [&endpoint, &listening].map(|file| file.start_disconnect(disconnect_flags::ABORT, None));
        drop(raised);
        assert!(aborts.iter().all(|abort| abort.wait() == (NtStatus::SUCCESS, 0)));
        assert_eq!((receive.wait().0, release.wait().0), (NtStatus::CONNECTION_ABORTED, NtStatus::CONNECTION_ABORTED));
        listening.close(Order::HandleFirst);
        close([endpoint, address]);
    });
}

#[proves("C-214", "C-215", "C-299", "C-313", "C-298", "C-287")]
#[test]
fn user_data_fails_a_request_and_options_of_no_length_are_not_looked_at() {
    scripted(|network| {
        let (address, endpoint) = open_pair(1);
        let with = |change: fn(&mut ConnectionInformation)| {
            let mut information = Information::of(remote());
            change(&mut information.block);
            information
        };
        let data = with(|block| (block.user_data_length, block.user_data) = (4, 0x10));
        let ask = |minor, parameters| endpoint.request(minor, parameters, ptr::null_mut());
        let refused = (NtStatus::INVALID_PARAMETER, 0);
        assert_eq!(ask(TdiRequest::CONNECT, [0, data.pointer(), 0, 0]).wait(), refused);
        assert_eq!(ask(TdiRequest::LISTEN, [0, data.pointer(), 0, 0]).wait(), refused);
        assert_eq!(ask(TdiRequest::LISTEN, [QUERY_ACCEPT, data.pointer(), 0, 0]).wait(), refused);
        assert_eq!(network.lines(), 0);
        // Data of a release is not lost in silence, and nothing in the information keeps a connection from being ended.
        let line = network.lines();
        assert_eq!(endpoint.connect(remote()), NtStatus::SUCCESS);
        let ask_end = |flags: u32| ask(TdiRequest::DISCONNECT, [flags.into(), data.pointer(), 0, 0]).wait();
        assert_eq!(ask_end(disconnect_flags::RELEASE), refused);
        assert_eq!(network.line(line).farewell(), None, "the connection is as it was");
        assert_eq!(ask_end(disconnect_flags::ABORT), (NtStatus::SUCCESS, 0));
        assert_eq!(network.line(line).farewell(), Some(Farewell::Rst));
        // A listen's flags may also stand in its options, in four bytes.
        let flags = QUERY_ACCEPT as u32;
        let mut listens = with(|block| (block.options_length, block.remote_address_length) = (4, 0));
        listens.block.options = ptr::from_ref(&flags) as u64;
        let listen = ask(TdiRequest::LISTEN, [0, listens.pointer(), 0, 0]);
        assert_eq!(listen.returned, NtStatus::PENDING);
        network.offer(remote());
        assert_eq!(listen.wait(), (NtStatus::SUCCESS, 0));
        assert_eq!(endpoint.send(b"early").0, NtStatus::INVALID_CONNECTION, "it is offered only");
        assert_eq!(ask(TdiRequest::ACCEPT, [data.pointer(), 0, 0, 0]).wait(), refused);
        // The information of an accept is optional, and the offer is still there.
        assert_eq!(ask(TdiRequest::ACCEPT, [0; 4]).wait(), (NtStatus::SUCCESS, 0));
        assert_eq!(endpoint.send(b"now"), (NtStatus::SUCCESS, 3));
        assert_eq!(endpoint.abort(), NtStatus::SUCCESS);
        // Without a length a pointer counts as none, wherever it leads.
        let empty = with(|block| (block.options, block.user_data) = (0x10, 0x10));
        assert_eq!(ask(TdiRequest::CONNECT, [0, empty.pointer(), 0, 0]).wait(), (NtStatus::SUCCESS, 0));
        close([endpoint, address]);
    });
}

#[proves("C-233", "C-417", "C-236", "C-251", "D-116")]
#[test]
fn requests_that_never_pend_cannot_be_cancelled_either() {
    scripted(|_| {
        let (address, endpoint) = (open_address("0.0.0.0:0"), open_endpoint(1));
        let client = Client::new();
        let set = |routine| [TdiEvent::ERROR.0.into(), routine, client.context(), 0];
        let cases = [
            (&endpoint, TdiRequest::ASSOCIATE_ADDRESS, [address.handle.0, 0, 0, 0]),
            (&endpoint, TdiRequest::DISASSOCIATE_ADDRESS, [0; 4]),
            (&address, TdiRequest::SET_EVENT_HANDLER, set(0x1000)),
            (&address, TdiRequest::SET_EVENT_HANDLER, set(0)),
        ];
        for cancelled in [false, true] {
            for (file, minor, parameters) in cases {
                let request = Request::new(file, minor, parameters, ptr::null_mut());
                if cancelled {
                    assert!(!request.cancel());
                }
                let request = request.send(file);
                assert_eq!(request.returned, NtStatus::SUCCESS, "{minor:?}");
                assert_eq!(request.wait(), (NtStatus::SUCCESS, 0), "{minor:?}");
                // SAFETY: the packet is ours again.
                assert_eq!(unsafe { (*request.irp).cancel_routine }, 0);
            }
        }
        close([endpoint, address]);
    });
}

#[proves("C-204", "C-575", "C-576")]
#[test]
fn no_cancellation_is_lost_on_the_way_into_the_queue() {
    scripted(|network| {
        let (address, endpoint, line) = connected(network);
        line.shut_window();
        let buffer = Buffer::zeroed(4);
        for minor in [TdiRequest::RECEIVE, TdiRequest::SEND] {
            let request = Request::new(&endpoint, minor, [4, 0, 0, 0], buffer.mdl());
            // The dispatch routine has looked at the mark already and has not installed its cancel routine yet.
            let irp = request.irp as u64;
            line.meanwhile(move || {
                // SAFETY: the packet is pending at the transport.
                assert!(!unsafe { cancel::cancel(irp as *mut nt_abi::Irp) }, "there is no cancel routine yet");
            });
            let request = request.send(&endpoint);
            // The network never says anything.
            assert!(request.is_done(), "{minor:?}");
            assert_eq!(request.returned, NtStatus::PENDING, "it had been marked pending when it was completed");
            assert_eq!(request.wait(), (NtStatus::CANCELLED, 0), "{minor:?}");
        }
        assert_eq!(line.sent(), b"");
        // The next ones are not concerned.
        line.deliver(b"data");
        assert_eq!(endpoint.receive(4).as_deref(), Ok(b"data".as_slice()));
        line.open_window(100);
        assert_eq!(endpoint.send(b"data"), (NtStatus::SUCCESS, 4));
        close([endpoint, address]);
    });
}

#[proves("C-210", "C-223", "C-576", "D-008")]
#[test]
fn cancellation_from_another_thread_ends_a_request_whenever_it_comes() {
    scripted(|network| {
        let (address, endpoint, _line) = connected(network);
        for round in 0..500 {
            let buffer = Buffer::zeroed(4);
            let receive = Request::new(&endpoint, TdiRequest::RECEIVE, [4, 0, 0, 0], buffer.mdl());
            let (irp, go) = (receive.irp as u64, AtomicBool::new(false));
            let receive = std::thread::scope(|scope| {
                let go = &go;
                let canceller = scope.spawn(move || {
                    nt_dispatcher::thread::adopt_current().expect("a kernel thread");
                    while !go.load(Ordering::Acquire) {
                        std::hint::spin_loop();
                    }
                    // Round by round a little later.
                    (0..round % 50 * 20).for_each(|_| std::hint::spin_loop());
                    // SAFETY: the packet lives until both threads are done with it.
                    unsafe { cancel::cancel(irp as *mut nt_abi::Irp) }
                });
                go.store(true, Ordering::Release);
                let receive = receive.send(&endpoint);
                canceller.join().expect("the canceller");
                receive
            });
            assert_eq!(receive.wait(), (NtStatus::CANCELLED, 0));
        }
        close([endpoint, address]);
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

type Told = std::sync::Mutex<Vec<(NtStatus, Irql)>>;

unsafe extern "win64" fn address_failed(told: *const Told, status: NtStatus) -> NtStatus {
    // SAFETY: the context that the test registered.
    unsafe { (*told).lock().expect("no panic").push((status, gate::irql())) };
    NtStatus::UNSUCCESSFUL
}

/// Where `address_failed_ex` puts the pointers that it got.
type Buffers = std::sync::Mutex<Vec<u64>>;

unsafe extern "win64" fn address_failed_ex(buffers: *const Buffers, status: NtStatus, buffer: u64) -> NtStatus {
    assert_eq!(status, NtStatus::INSUFFICIENT_RESOURCES);
    // SAFETY: the context that the test registered.
    unsafe { (*buffers).lock().expect("no panic").push(buffer) };
    NtStatus::SUCCESS
}

#[proves("C-461")]
#[test]
fn error_handler_with_a_buffer_gets_none_where_the_transport_has_nothing_more_to_say() {
    scripted(|network| {
        let address = open_address("0.0.0.0:0");
        let buffers = Buffers::default();
        let (routine, context) = (address_failed_ex as *const () as u64, ptr::from_ref(&buffers) as u64);
        assert_eq!(address.set_handler(TdiEvent::ERROR_EX, routine, context), NtStatus::SUCCESS);
        network.fail_listen(NetError::OutOfDescriptors);
        Client::new().listen_to(&address, &[TdiEvent::CONNECT]);
        assert_eq!(*buffers.lock().expect("no panic"), [0]);
        address.close(Order::ReferenceFirst);
    });
}

#[proves("C-459", "C-462", "C-463", "D-095", "D-096", "D-099")]
#[test]
fn address_that_cannot_listen_tells_its_error_handler_and_can_try_again() {
    scripted(|network| {
        let address = open_address("0.0.0.0:0");
        let told = Told::default();
        let (routine, context) = (address_failed as *const () as u64, ptr::from_ref(&told) as u64);
        assert_eq!(address.set_handler(TdiEvent::ERROR, routine, context), NtStatus::SUCCESS);
        let client = Client::new();
        network.fail_listen(NetError::OutOfDescriptors);
        client.listen_to(&address, &[TdiEvent::CONNECT]);
        assert_eq!(*told.lock().expect("no panic"), [(NtStatus::INSUFFICIENT_RESOURCES, Irql::DISPATCH)]);
        // What the handler returned means nothing, and the connect handler can be registered anew.
        assert_eq!(address.set_handler(TdiEvent::CONNECT, 0, 0), NtStatus::SUCCESS);
        client.listen_to(&address, &[TdiEvent::CONNECT]);
        network.offer(remote());
        client.wait_for(|seen| !seen.is_empty());
        assert_eq!(told.lock().expect("no panic").len(), 1);
        address.close(Order::ReferenceFirst);
    });
}
