//! Cleanup and close with a live connection, from other threads, and from inside handlers.

mod client;
mod filter;
mod peer;
mod scripted;

use std::io::Write;
use std::net::TcpListener;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use client::handlers::{Answer, Client};
use client::*;
use filter::Filter;
use net_api::Progress;
use nt_abi::tdi::{TdiEvent, TdiRequest, disconnect_flags, query, receive_flags};
use nt_abi::{FileObject, Irp, Irql, MajorFunction, NtStatus};
use nt_dispatcher::irql::Raised;
use nt_io::cancel;
use peer::*;
use proves::proves;
use scripted::{Farewell, remote, scripted};

#[proves("C-151", "C-155", "C-166")]
#[test]
fn cleanup_resets_a_connection_whose_received_bytes_nobody_took() {
    on_loopback(|| {
        let (peer, stream) = stream_peer();
        let (address, endpoint) = open_pair(1);
        assert_eq!(endpoint.connect(peer), NtStatus::SUCCESS);
        let mut stream = stream();
        stream.write_all(b"never taken").expect("room");
        // One byte taken: the rest is there.
        assert_eq!(endpoint.receive(1).as_deref(), Ok(b"n".as_slice()));
        endpoint.close_handle();
        assert_eq!(drain(&stream).1, End::Rst);
        endpoint.dereference();
        address.close(Order::HandleFirst);
    });
}

#[proves("C-329", "C-155")]
#[test]
fn cleanup_delivers_what_was_sent_and_releases() {
    on_loopback(|| {
        let peer = Peer::new(|stream| drain(&stream));
        let (address, endpoint) = open_pair(1);
        assert_eq!(endpoint.connect(peer.address), NtStatus::SUCCESS);
        // Less than the sockets hold, so it completes though the peer may not have read yet.
        let bytes: Vec<u8> = (0..100_000_u32).map(|number| number as u8).collect();
        assert_eq!(endpoint.send(&bytes), (NtStatus::SUCCESS, 100_000));
        let buffer = Buffer::zeroed(10);
        let receive = endpoint.start_receive(&buffer, receive_flags::NORMAL);
        endpoint.close_handle();
        assert_eq!(receive.wait(), (NtStatus::CANCELLED, 0));
        let (got, end) = peer.join();
        assert_eq!((got.len(), end), (bytes.len(), End::Fin));
        assert!(got == bytes);
        endpoint.dereference();
        address.close(Order::HandleFirst);
    });
}

#[proves("C-162", "C-163", "C-164", "C-569")]
#[test]
fn no_handler_is_called_after_cleanup_though_data_keeps_coming() {
    for round in 0..20 {
        on_loopback(|| {
            let (peer, stream) = stream_peer();
            let address = open_address("0.0.0.0:0");
            let client = Client::new();
            client.listen_to(&address, &[TdiEvent::RECEIVE, TdiEvent::DISCONNECT]);
            let endpoint = open_endpoint(1);
            assert_eq!(endpoint.associate(&address), NtStatus::SUCCESS);
            assert_eq!(endpoint.connect(peer), NtStatus::SUCCESS);
            let mut stream = stream();
            let flood = thread::spawn(move || while stream.write_all(&[1; 4096]).is_ok() {});
            client.wait_for(|seen| !seen.is_empty());
            // Either of the two closes has to silence the handlers.
            if round % 2 == 0 {
                endpoint.close_handle()
            } else {
                address.close_handle()
            }
            client.seen();
            thread::sleep(Duration::from_millis(2));
            assert_eq!(client.seen(), []);
            if round % 2 == 0 {
                address.close_handle()
            } else {
                endpoint.close_handle()
            }
            endpoint.dereference();
            address.dereference();
            flood.join().expect("the peer");
        });
    }
}

#[proves("C-160", "C-161", "C-569")]
#[test]
fn cleanup_waits_for_a_handler_that_runs_on_another_thread() {
    scripted(|network| {
        let filter = Filter::on(r"\Device\Tcp");
        let address = open_address("0.0.0.0:0");
        let client = Client::new();
        client.listen_to(&address, &[TdiEvent::RECEIVE]);
        let endpoint = open_endpoint(1);
        assert_eq!(endpoint.associate(&address), NtStatus::SUCCESS);
        assert_eq!(endpoint.connect(remote()), NtStatus::SUCCESS);
        let (inside, leave, left) = <(Arc<AtomicBool>, Arc<AtomicBool>, Arc<AtomicBool>)>::default();
        let flags = (Arc::clone(&inside), Arc::clone(&leave), Arc::clone(&left));
        client.script(Answer::take_all().then(move || {
            flags.0.store(true, Ordering::SeqCst);
            while !flags.1.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            flags.2.store(true, Ordering::SeqCst);
        }));
        network.line(0).deliver(b"data");
        while !inside.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(5));
                leave.store(true, Ordering::SeqCst);
            });
            endpoint.close_handle();
        });
        assert!(left.load(Ordering::SeqCst), "the close returned while the handler ran");
        let passed = filter.passed();
        let cleanup = passed.iter().find(|passed| passed.major == MajorFunction::CLEANUP).expect("a cleanup");
        let ended = cleanup.ended.expect("complete");
        assert_eq!((ended.status, ended.information), (NtStatus::SUCCESS, 0), "also when it had to wait");
        assert_eq!(network.line(0).farewell(), Some(Farewell::Fin));
        endpoint.dereference();
        address.close(Order::HandleFirst);
    });
}

#[proves("C-142")]
#[test]
fn handler_may_drop_the_last_reference_and_the_last_handle_of_its_own_endpoint() {
    for order in [Order::HandleFirst, Order::ReferenceFirst] {
        scripted(|network| {
            let address = open_address("0.0.0.0:0");
            let client = Client::new();
            client.listen_to(&address, &[TdiEvent::RECEIVE]);
            let endpoint = open_endpoint(1);
            assert_eq!(endpoint.associate(&address), NtStatus::SUCCESS);
            assert_eq!(endpoint.connect(remote()), NtStatus::SUCCESS);
            client.script(Answer::take_all().then(move || endpoint.close(order)));
            network.line(0).deliver(b"data");
            client.wait_for(|seen| !seen.is_empty());
            address.close(Order::HandleFirst);
            // The rest follows when the handler has returned and deferred deletions have run.
            while network.line(0).farewell().is_none() {
                thread::yield_now();
            }
            nt_dispatcher::work::drain();
        });
    }
}

#[test]
fn handlers_that_close_each_others_endpoint_do_not_wait_for_each_other() {
    scripted(|network| {
        let client = Client::new();
        let pairs = [1, 2].map(|context| {
            let (address, endpoint) = open_pair(context);
            assert_eq!(endpoint.connect(remote()), NtStatus::SUCCESS);
            (address, endpoint)
        });
        // Both handlers are in before either closes the other's.
        let inside = Arc::new(AtomicUsize::new(0));
        for other in [pairs[1].1, pairs[0].1] {
            let inside = Arc::clone(&inside);
            client.script(Answer::take_all().then(move || {
                inside.fetch_add(1, Ordering::SeqCst);
                while inside.load(Ordering::SeqCst) < 2 {
                    thread::yield_now();
                }
                other.close_handle();
            }));
        }
        // Data that waits is indicated by the registration itself, on the registering thread (C-494).
        network.line(0).deliver(b"first");
        network.line(1).deliver(b"second");
        thread::scope(|scope| {
            scope.spawn(|| {
                nt_dispatcher::thread::adopt_current().expect("a kernel thread");
                while inside.load(Ordering::SeqCst) == 0 {
                    thread::yield_now();
                }
                client.listen_to(&pairs[1].0, &[TdiEvent::RECEIVE]);
            });
            client.listen_to(&pairs[0].0, &[TdiEvent::RECEIVE]);
        });
        assert_eq!(client.seen().len(), 2);
        for (address, endpoint) in pairs {
            endpoint.dereference();
            address.close(Order::HandleFirst);
        }
    });
}

unsafe extern "win64" fn close_inline(_device: u64, _irp: *mut Irp, file: *const File) -> NtStatus {
    // SAFETY: the test's file.
    unsafe { (*file).close_handle() };
    NtStatus::MORE_PROCESSING_REQUIRED
}

#[test]
fn completion_routine_may_close_its_own_endpoint() {
    scripted(|network| {
        let (address, endpoint) = open_pair(1);
        assert_eq!(endpoint.connect(remote()), NtStatus::SUCCESS);
        let buffer = Buffer::new(*b"last words");
        let file = endpoint;
        let send = Request::new(&endpoint, nt_abi::tdi::TdiRequest::SEND, [10, 0, 0, 0], buffer.mdl());
        let send = send.on_completion(close_inline as *const () as u64, &raw const file as u64);
        let send = send.send(&endpoint);
        assert_eq!(send.returned, NtStatus::SUCCESS);
        assert_eq!(network.line(0).farewell(), Some(Farewell::Fin));
        assert_eq!(endpoint.send(b"late").0, NtStatus::CANCELLED);
        endpoint.dereference();
        address.close(Order::HandleFirst);
    });
}

#[proves("C-133", "C-567")]
#[test]
fn second_cleanup_of_an_endpoint_does_nothing() {
    scripted(|network| {
        let (address, endpoint) = open_pair(1);
        assert_eq!(endpoint.connect(remote()), NtStatus::SUCCESS);
        endpoint.close_handle();
        let again = nt_object::insert(endpoint.object as u64, 0, true, 0).expect("a handle");
        assert_eq!(nt_io::file::close(again), NtStatus::SUCCESS);
        assert_eq!(network.line(0).farewell(), Some(Farewell::Fin));
        endpoint.dereference();
        address.close(Order::HandleFirst);
    });
}

/// What a completion routine finds in its packet.
#[derive(Default)]
struct Found {
    runs: AtomicU32,
    status: AtomicU32,
    cancel_routine: AtomicU64,
    /// Cancelling it there called a cancel routine.
    was_cancelled: AtomicBool,
}

impl Found {
    fn seen(&self) -> (u32, NtStatus, u64, bool) {
        let status = NtStatus(self.status.load(Ordering::SeqCst));
        let routine = self.cancel_routine.load(Ordering::SeqCst);
        (self.runs.load(Ordering::SeqCst), status, routine, self.was_cancelled.load(Ordering::SeqCst))
    }
}

unsafe extern "win64" fn look_and_cancel(_device: u64, irp: *mut Irp, found: *const Found) -> NtStatus {
    // SAFETY: called as a completion routine with the test's context; the packet is the test's own.
    unsafe {
        (*found).runs.fetch_add(1, Ordering::SeqCst);
        (*found).status.store((*irp).io_status.status.0, Ordering::SeqCst);
        (*found).cancel_routine.store((*irp).cancel_routine, Ordering::SeqCst);
        (*found).was_cancelled.store(cancel::cancel(irp), Ordering::SeqCst);
    }
    NtStatus::MORE_PROCESSING_REQUIRED
}

fn three_endpoints(address: &File) -> [File; 3] {
    [1, 2, 3].map(|context| {
        let endpoint = open_endpoint(context);
        assert_eq!(endpoint.associate(address), NtStatus::SUCCESS);
        endpoint
    })
}

/// Sends a request whose completion routine notes what it finds.
fn send_watched(file: &File, minor: TdiRequest, parameters: [u64; 4], buffer: &Buffer, found: &Found) -> Request {
    let request = Request::new(file, minor, parameters, buffer.mdl());
    request.on_completion(look_and_cancel as *const () as u64, ptr::from_ref(found) as u64).send(file)
}

/// What is written over a file object once it is gone.
const POISON: u8 = 0xDD;

/// What `drop_last_reference` is given, and what it notes.
struct Dropping {
    file: File,
    level: Mutex<Option<Irql>>,
    /// The packet as it was.
    packet: Mutex<Vec<u8>>,
}

impl Dropping {
    fn new(file: File) -> Self {
        Self { file, level: Mutex::default(), packet: Mutex::default() }
    }
}

unsafe extern "win64" fn drop_last_reference(_device: u64, irp: *mut Irp, dropping: *const Dropping) -> NtStatus {
    // SAFETY: called as a completion routine with the test's context, for the test's packet. A file object that is gone leaves its
    // memory unused until another is opened, and none is.
    unsafe {
        let Dropping { file, level, packet } = &*dropping;
        *level.lock().expect("no panic") = Some(gate::irql());
        file.dereference();
        if !nt_object::is_live(file.object as u64) {
            ptr::write_bytes(file.object.cast::<u8>(), POISON, size_of::<FileObject>());
        }
        *packet.lock().expect("no panic") = bytes(irp).to_vec();
        ptr::write_bytes(irp.cast::<u8>(), POISON, size_of::<Irp>());
    }
    NtStatus::MORE_PROCESSING_REQUIRED
}

/// What lies there now.
unsafe fn bytes<T>(at: *mut T) -> &'static [u8] {
    // SAFETY: the caller's memory, which stays readable.
    unsafe { std::slice::from_raw_parts(at.cast(), size_of::<T>()) }
}

/// Sends a request that ends at once, whose completion routine drops the last reference.
fn send_dropping(dropping: &Dropping) {
    let Dropping { file, level, packet } = dropping;
    let buffer = Buffer::new(*b"late");
    let request = Request::new(file, TdiRequest::SEND, [4, 0, 0, 0], buffer.mdl());
    let context = ptr::from_ref(dropping) as u64;
    let request = request.on_completion(drop_last_reference as *const () as u64, context).send(file);
    assert_eq!(request.returned, NtStatus::CANCELLED);
    assert!(level.lock().expect("no panic").is_some());
    // SAFETY: the test's packet, put back before it is freed.
    unsafe {
        assert!(bytes(request.irp).iter().all(|&byte| byte == POISON), "the packet was touched");
        let packet = packet.lock().expect("no panic");
        ptr::copy_nonoverlapping(packet.as_ptr(), request.irp.cast(), packet.len());
    }
}

#[proves("C-574", "C-142")]
#[test]
fn completion_routine_may_drop_the_last_reference_and_free_the_packet() {
    scripted(|_| {
        let (address, endpoint) = open_pair(1);
        assert_eq!(endpoint.connect(remote()), NtStatus::SUCCESS);
        endpoint.close_handle();
        let dropping = Dropping::new(endpoint);
        send_dropping(&dropping);
        // It ran at PASSIVE_LEVEL, so the file was gone when it returned.
        assert_eq!(*dropping.level.lock().expect("no panic"), Some(Irql::PASSIVE));
        // SAFETY: nothing else was opened meanwhile.
        let left = unsafe { bytes(endpoint.object) };
        assert!(left.iter().all(|&byte| byte == POISON), "the file object was touched");

        let filter = Filter::on(r"\Device\Tcp");
        let endpoint = open_endpoint(2);
        endpoint.close_handle();
        filter.passed();
        let dropping = Dropping::new(endpoint);
        let raised = Raised::to(Irql::DISPATCH);
        send_dropping(&dropping);
        assert_eq!(*dropping.level.lock().expect("no panic"), Some(Irql::DISPATCH));
        drop(raised);
        nt_dispatcher::work::drain();
        let passed: Vec<_> = filter.passed().iter().map(|passed| (passed.major, passed.level)).collect();
        let expected =
            [(MajorFunction::INTERNAL_DEVICE_CONTROL, Irql::DISPATCH), (MajorFunction::CLOSE, Irql::PASSIVE)];
        assert_eq!(passed, expected);
        address.close(Order::HandleFirst);
    });
}

#[proves("C-158", "C-157", "C-568")]
#[test]
fn requests_that_cleanup_ends_have_no_cancel_routine_any_more() {
    scripted(|network| {
        let address = open_address("0.0.0.0:0");
        let endpoints = three_endpoints(&address);
        let [connected, connecting, listening] = &endpoints;
        assert_eq!(connected.connect(remote()), NtStatus::SUCCESS);
        network.line(0).shut_window();
        network.attempt(Ok(Progress::Pending));
        let (to, buffer) = (Information::of(remote()), Buffer::zeroed(4));
        let found: [Found; 5] = Default::default();
        let cases = [
            (connected, TdiRequest::RECEIVE, [4, 0, 0, 0]),
            (connected, TdiRequest::SEND, [4, 0, 0, 0]),
            (connected, TdiRequest::DISCONNECT, [disconnect_flags::RELEASE.into(), 0, 0, 0]),
            (connecting, TdiRequest::CONNECT, [0, to.pointer(), 0, 0]),
            (listening, TdiRequest::LISTEN, [0; 4]),
        ];
        let send = |at: usize| send_watched(cases[at].0, cases[at].1, cases[at].2, &buffer, &found[at]);
        let requests = [0, 1, 2, 3, 4].map(send);
        for (request, (_, minor, _)) in requests.iter().zip(cases) {
            assert_eq!(request.returned, NtStatus::PENDING, "{minor:?}");
            // SAFETY: the test's packet, which is pending.
            assert_ne!(unsafe { (*request.irp).cancel_routine }, 0, "{minor:?} can be cancelled");
        }
        for endpoint in &endpoints {
            endpoint.close_handle();
        }
        for (found, (_, minor, _)) in found.iter().zip(cases) {
            assert_eq!(found.seen(), (1, NtStatus::CANCELLED, 0, false), "{minor:?}");
        }
        for endpoint in &endpoints {
            endpoint.dereference();
        }
        address.close(Order::HandleFirst);
    });
}

#[proves("C-158", "C-226", "C-210")]
#[test]
fn request_that_is_cancelled_while_its_endpoint_is_cleaned_up_completes_once() {
    scripted(|_| {
        for _ in 0..500 {
            let (address, endpoint) = open_pair(1);
            assert_eq!(endpoint.connect(remote()), NtStatus::SUCCESS);
            let (buffer, found) = (Buffer::zeroed(4), Found::default());
            let receive = send_watched(&endpoint, TdiRequest::RECEIVE, [4, 0, 0, 0], &buffer, &found);
            assert_eq!(receive.returned, NtStatus::PENDING);
            // Both begin when both are there.
            let here = AtomicUsize::new(0);
            let meet = || {
                here.fetch_add(1, Ordering::SeqCst);
                while here.load(Ordering::SeqCst) < 2 {
                    thread::yield_now();
                }
            };
            thread::scope(|scope| {
                scope.spawn(|| {
                    nt_dispatcher::thread::adopt_current().expect("a kernel thread");
                    meet();
                    receive.cancel();
                });
                meet();
                endpoint.close_handle();
                assert_eq!(found.seen(), (1, NtStatus::CANCELLED, 0, false), "the close waits for it, whoever ends it");
            });
            assert_eq!(found.seen().0, 1);
            endpoint.dereference();
            address.close(Order::HandleFirst);
        }
    });
}

#[proves("C-145", "C-144", "C-576", "C-210")]
#[test]
fn cleanup_while_other_threads_use_the_file_ends_every_request() {
    scripted(|network| {
        for _ in 0..50 {
            let (address, endpoint) = open_pair(1);
            assert_eq!(endpoint.connect(remote()), NtStatus::SUCCESS);
            let line = network.line(network.lines() - 1);
            let started = AtomicUsize::new(0);
            thread::scope(|scope| {
                for kind in 0..3 {
                    let (started, line) = (&started, &line);
                    scope.spawn(move || {
                        nt_dispatcher::thread::adopt_current().expect("a kernel thread");
                        // Until the first answer that only a file after its cleanup gives.
                        loop {
                            started.fetch_add(1, Ordering::SeqCst);
                            let status = match kind {
                                0 => endpoint.send(b"x").0,
                                1 => endpoint.receive(1).err().unwrap_or(NtStatus::SUCCESS),
                                _ => {
                                    line.deliver(b"y");
                                    let (status, _) = endpoint.query(query::PROVIDER_INFO, 40);
                                    assert_eq!(status, NtStatus::SUCCESS, "a query works before and after");
                                    endpoint.associate(&address)
                                }
                            };
                            let goes_on = match kind {
                                0 | 1 => status == NtStatus::SUCCESS,
                                _ => line.farewell().is_none(),
                            };
                            if !goes_on {
                                let last = if kind == 2 { NtStatus::INVALID_CONNECTION } else { NtStatus::CANCELLED };
                                assert_eq!(status, last);
                                break;
                            }
                        }
                    });
                }
                while started.load(Ordering::SeqCst) < 20 {
                    thread::yield_now();
                }
                endpoint.close_handle();
            });
            endpoint.dereference();
            address.close(Order::HandleFirst);
        }
    });
}

#[proves("C-159", "C-260")]
#[test]
fn cleanup_ends_the_requests_of_its_own_file_and_no_others() {
    scripted(|network| {
        let address = open_address("0.0.0.0:0");
        let endpoints = three_endpoints(&address);
        let [closed, other, listening] = &endpoints;
        for endpoint in [closed, other] {
            assert_eq!(endpoint.connect(remote()), NtStatus::SUCCESS);
        }
        let lines = [0, 1].map(|index| network.line(index));
        let from = Buffer::new(*b"stuck");
        let into = [Buffer::zeroed(10), Buffer::zeroed(10)];
        for line in &lines {
            line.shut_window();
        }
        let receives = [(closed, &into[0]), (other, &into[1])].map(|(file, into)| file.start_receive(into, 0));
        let sends = [closed, other].map(|file| file.start_send(&from, 5, 0));
        let listen = listening.request(TdiRequest::LISTEN, [0; 4], ptr::null_mut());
        closed.close_handle();
        assert_eq!((receives[0].wait(), sends[0].wait()), ((NtStatus::CANCELLED, 0), (NtStatus::CANCELLED, 0)));
        assert!(!receives[1].is_done() && !sends[1].is_done() && !listen.is_done());
        assert_eq!((lines[0].farewell(), lines[1].farewell()), (Some(Farewell::Rst), None));
        // The address's own cleanup ends what waits on the address (C-178), but no request of a connection (C-176).
        address.close_handle();
        assert!(listen.is_done());
        assert!(!receives[1].is_done() && !sends[1].is_done());
        lines[1].deliver(b"answer");
        lines[1].open_window(5);
        assert_eq!((receives[1].wait(), sends[1].wait()), ((NtStatus::SUCCESS, 6), (NtStatus::SUCCESS, 5)));
        assert_eq!((&into[1].bytes[..6], lines[1].sent()), (&b"answer"[..], b"stuck".to_vec()));
        for file in [other, listening] {
            file.close(Order::HandleFirst);
        }
        closed.dereference();
        address.dereference();
    });
}

#[proves("C-156", "C-119")]
#[test]
fn cleanup_of_a_control_channel_leaves_no_request_of_it_and_touches_nothing_else() {
    scripted(|network| {
        let client = Client::new();
        let (address, endpoint) = open_pair(1);
        client.listen_to(&address, &[TdiEvent::RECEIVE, TdiEvent::DISCONNECT]);
        assert_eq!(endpoint.connect(remote()), NtStatus::SUCCESS);
        let listening = open_endpoint(2);
        assert_eq!(listening.associate(&address), NtStatus::SUCCESS);
        let listen = listening.request(TdiRequest::LISTEN, [0; 4], ptr::null_mut());
        let buffer = Buffer::zeroed(4);
        let receive = endpoint.start_receive(&buffer, receive_flags::NORMAL);
        let channels = [0, 1].map(|_| try_open(r"\Device\Tcp", &[], 0).expect("a control channel"));
        // Whatever is asked of a channel is answered before the request returns, so a cleanup never finds anything.
        let room = Buffer::zeroed(300);
        for minor in (0..=u8::MAX).map(TdiRequest) {
            for kind in [query::PROVIDER_INFO, query::ADDRESS_INFO, query::PROVIDER_STATISTICS, 0x77] {
                let asked = channels[0].request(minor, [kind.into(), 0, 0, 0], room.mdl());
                assert!(asked.returned != NtStatus::PENDING && asked.is_done(), "{minor:?}");
            }
        }
        channels[0].close_handle();
        assert!(!receive.is_done() && !listen.is_done());
        assert_eq!((network.line(0).farewell(), client.seen()), (None, vec![]));
        assert_eq!(channels[1].query(query::PROVIDER_INFO, 40).0, NtStatus::SUCCESS);
        // The connection and the handlers go on.
        network.line(0).deliver(b"datamore");
        assert_eq!(receive.wait(), (NtStatus::SUCCESS, 4));
        assert_eq!(client.wait_for_bytes(4), b"more");
        assert_eq!(endpoint.send(b"still"), (NtStatus::SUCCESS, 5));
        assert!(!listen.is_done());
        channels[0].dereference();
        channels[1].close(Order::ReferenceFirst);
        listening.close(Order::HandleFirst);
        assert!(listen.is_done());
        endpoint.close(Order::HandleFirst);
        address.close(Order::HandleFirst);
    });
}

#[proves("C-591", "C-549", "C-568", "C-569")]
#[test]
fn unloading_client_with_a_receive_pending_finds_it_ended() {
    on_loopback(|| {
        let (peer, stream) = stream_peer();
        let address = open_address("0.0.0.0:0");
        let client = Client::new();
        let events = [TdiEvent::RECEIVE, TdiEvent::DISCONNECT];
        client.listen_to(&address, &events);
        let endpoint = open_endpoint(client.context());
        assert_eq!(endpoint.associate(&address), NtStatus::SUCCESS);
        assert_eq!(endpoint.connect(peer), NtStatus::SUCCESS);
        let stream = stream();
        let buffer = Buffer::zeroed(10);
        let receive = endpoint.start_receive(&buffer, receive_flags::NORMAL);
        for event in events {
            assert_eq!(address.set_handler(event, 0, 0), NtStatus::SUCCESS);
        }
        assert_eq!(endpoint.abort(), NtStatus::SUCCESS);
        assert!(receive.is_done());
        assert_eq!(receive.wait(), (NtStatus::CONNECTION_ABORTED, 0));
        endpoint.close(Order::ReferenceFirst);
        address.close(Order::ReferenceFirst);
        assert_eq!(client.seen(), []);
        assert_eq!(drain(&stream).1, End::Rst);
    });
}

#[proves("C-592", "C-330", "C-583", "C-584")]
#[test]
fn half_closing_client_gets_the_whole_answer() {
    on_loopback(|| {
        let peer = Peer::new(|mut stream| {
            let (question, end) = drain(&stream);
            for part in 0..10 {
                stream.write_all(&[part; 5000]).expect("room");
                thread::sleep(Duration::from_millis(1));
            }
            (question, end)
        });
        let address = open_address("0.0.0.0:0");
        let client = Client::new();
        client.listen_to(&address, &[TdiEvent::RECEIVE, TdiEvent::DISCONNECT]);
        let endpoint = open_endpoint(1);
        assert_eq!(endpoint.associate(&address), NtStatus::SUCCESS);
        assert_eq!(endpoint.connect(peer.address), NtStatus::SUCCESS);
        assert_eq!(endpoint.send(b"question").0, NtStatus::SUCCESS);
        let release = endpoint.start_disconnect(disconnect_flags::RELEASE, None);
        let got = client.wait_for_bytes(50_000);
        let expected: Vec<u8> = (0..10).flat_map(|part| [part; 5000]).collect();
        assert!(got == expected);
        assert_eq!(release.wait(), (NtStatus::SUCCESS, 0));
        endpoint.close(Order::HandleFirst);
        address.close(Order::HandleFirst);
        assert_eq!(peer.join(), (b"question".to_vec(), End::Fin));
    });
}

#[proves("C-330", "C-331")]
#[test]
fn half_closing_client_that_reads_late_gets_the_whole_answer_after_its_release() {
    on_loopback(|| {
        let peer = Peer::new(|mut stream| {
            let question = drain(&stream);
            stream.write_all(&[7; 50_000]).expect("room");
            question
        });
        let address = open_address("0.0.0.0:0");
        let endpoint = open_endpoint(1);
        assert_eq!(endpoint.associate(&address), NtStatus::SUCCESS);
        assert_eq!(endpoint.connect(peer.address), NtStatus::SUCCESS);
        assert_eq!(endpoint.start_disconnect(disconnect_flags::RELEASE, None).wait(), (NtStatus::SUCCESS, 0));
        assert_eq!(endpoint.receive_all(), Ok(vec![7; 50_000]));
        // The connection is over and the endpoint idle, as after any other release.
        assert_eq!(endpoint.receive(1).as_deref(), Ok([].as_slice()));
        assert_eq!(endpoint.disassociate(), NtStatus::SUCCESS);
        endpoint.close(Order::HandleFirst);
        address.close(Order::HandleFirst);
        assert_eq!(peer.join().1, End::Fin);
    });
}

#[test]
fn sixty_four_endpoints_on_eight_threads_leave_nothing() {
    on_loopback(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let peer = listener.local_addr().expect("its address");
        let rounds = 10;
        let server = thread::spawn(move || {
            let serve = |_| {
                let (mut stream, _) = listener.accept().expect("a connection");
                thread::spawn(move || {
                    stream.write_all(b"welcome").expect("room");
                    drain(&stream)
                })
            };
            let threads: Vec<_> = (0..64 * rounds).map(serve).collect();
            threads.into_iter().map(|thread| thread.join().expect("a server")).collect::<Vec<_>>()
        });
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    nt_dispatcher::thread::adopt_current().expect("a kernel thread");
                    for _ in 0..rounds {
                        let pairs: Vec<_> = (0..8).map(|number| open_pair(number)).collect();
                        for (_, endpoint) in &pairs {
                            assert_eq!(endpoint.connect(peer), NtStatus::SUCCESS);
                            assert_eq!(endpoint.send(b"hello").0, NtStatus::SUCCESS);
                        }
                        for (_, endpoint) in &pairs {
                            let mut got = Vec::new();
                            while got.len() < 7 {
                                got.extend(endpoint.receive(7 - got.len()).expect("the welcome"));
                            }
                            assert_eq!(got, b"welcome");
                        }
                        for (address, endpoint) in pairs {
                            endpoint.close(Order::HandleFirst);
                            address.close(Order::ReferenceFirst);
                        }
                    }
                });
            }
        });
        let all = server.join().expect("the server");
        assert_eq!(all.len(), 64 * rounds);
        assert!(all.iter().all(|(bytes, end)| bytes == b"hello" && *end == End::Fin));
    });
}
