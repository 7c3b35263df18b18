//! Clients that do what the sampled ones do, step by step (chapter 14).

mod client;
mod scripted;

use std::ptr;

use client::handlers::{Client, Seen};
use client::*;
use net_api::NetError;
use nt_abi::dispatcher::DispatcherType;
use nt_abi::io::control;
use nt_abi::tdi::{TdiEvent, TdiRequest, disconnect_flags, send_flags};
use nt_abi::{FileObject, IoStatusBlock, Irp, KernelEvent, MajorFunction, Mdl, NtStatus, ea};
use nt_dispatcher::{event, wait};
use proves::proves;
use scripted::{Farewell, remote, scripted};
use tdi_core::transport_address;

/// An event where it stays.
fn new_event() -> Box<KernelEvent> {
    // SAFETY: all bytes zero is a valid KernelEvent, and nobody else knows it yet.
    unsafe {
        let mut new: Box<KernelEvent> = Box::new(std::mem::zeroed());
        event::initialize(&raw mut *new, DispatcherType::NOTIFICATION_EVENT, false);
        new
    }
}

fn wait_for(event: &KernelEvent, timeout: Option<i64>) -> NtStatus {
    // SAFETY: an event of `new_event`.
    unsafe { wait::wait_single(ptr::from_ref(event) as u64, timeout) }
}

/// What the TdiBuildXxx macros write, without a completion routine.
unsafe fn build(irp: *mut Irp, file: &File, minor: TdiRequest, parameters: [u64; 4], mdl: *mut Mdl) {
    // SAFETY: the caller's packet, which was not sent yet.
    unsafe {
        let location = nt_io::irp::next_location(irp);
        (*location).major_function = MajorFunction::INTERNAL_DEVICE_CONTROL;
        (*location).minor_function = minor.0;
        (*location).parameters = parameters;
        (*location).device_object = file.device();
        (*location).file_object = file.object;
        (*location).completion_routine = 0;
        (*location).context = 0;
        (*location).control = 0;
        if !mdl.is_null() {
            (*irp).mdl_address = mdl;
        }
    }
}

/// TdiBuildInternalDeviceControlIrp, a build macro, IoCallDriver, and a wait if the answer is STATUS_PENDING.
fn ask_with_built_irp(file: &File, minor: TdiRequest, parameters: [u64; 4], mdl: *mut Mdl) -> (NtStatus, u64) {
    let event = new_event();
    let mut iosb = Box::new(IoStatusBlock::new(NtStatus(0xDEAD_BEEF), 0xDEAD_BEEF));
    let device = file.device() as u64;
    let places = [ptr::from_ref(&*event) as u64, &raw mut *iosb as u64];
    let irp = call("IoBuildDeviceIoControlRequest", &[3, device, 0, 0, 0, 0, 1, places[0], places[1]]) as *mut Irp;
    // SAFETY: the packet just made, which the I/O manager frees.
    unsafe { build(irp, file, minor, parameters, mdl) };
    let status = NtStatus(call("IofCallDriver", &[device, irp as u64]) as u32);
    if status == NtStatus::PENDING {
        assert_eq!(wait_for(&event, None), NtStatus::SUCCESS);
    }
    // An error at once reaches neither (C-572).
    let inline_error = status != NtStatus::PENDING && status.is_error();
    assert_eq!(wait_for(&event, Some(0)) == NtStatus::SUCCESS, !inline_error);
    if inline_error { (status, 0) } else { (iosb.status, iosb.information) }
}

#[proves("C-546", "C-547", "C-548", "C-549", "C-181", "C-184", "C-565")]
#[test]
fn client_that_builds_its_requests_waits_for_them_and_never_disconnects() {
    scripted(|network| {
        const OPEN_IF: u32 = 3;
        let any = transport_address::encode("0.0.0.0:0".parse().expect("an address"));
        let mut value = any.as_bytes().to_vec();
        value.resize(26, 0);
        let mut list = ea_entry(ea::TRANSPORT_ADDRESS, &value);
        list.resize(308, 0);
        let open = |list: &[u8], access: u32| {
            let how = How { access: 0x18, share: 0, disposition: OPEN_IF, ..How::USUAL };
            let (status, _, handle) = zw_create_file(r"\Device\Tcp", list, how);
            assert_eq!(status, NtStatus::SUCCESS);
            let mut object = ptr::null_mut::<FileObject>();
            let arguments = [handle.0, access.into(), 0, 0, &raw mut object as u64, 0];
            assert_eq!(NtStatus(call("ObReferenceObjectByHandle", &arguments) as u32), NtStatus::SUCCESS);
            File { handle, object }
        };
        let (address, endpoint) = (open(&list, 0xC000_0000), open(&endpoint_ea(0), 0));
        let ask = |minor, parameters| ask_with_built_irp(&endpoint, minor, parameters, ptr::null_mut());
        let success = (NtStatus::SUCCESS, 0);
        assert_eq!(ask(TdiRequest::ASSOCIATE_ADDRESS, [address.handle.0, 0, 0, 0]), success);
        let again = ask(TdiRequest::ASSOCIATE_ADDRESS, [address.handle.0, 0, 0, 0]);
        assert_eq!(again, (NtStatus::INVALID_CONNECTION, 0));
        let to = Information::of(remote());
        assert_eq!(ask(TdiRequest::CONNECT, [0, to.pointer(), 0, 0]), success);
        let (out, into) = (Buffer::new(*b"question"), Buffer::zeroed(100));
        assert_eq!(ask_with_built_irp(&endpoint, TdiRequest::SEND, [8, 0, 0, 0], out.mdl()), (NtStatus::SUCCESS, 8));
        let line = network.line(0);
        let answering = line.clone();
        // Answered only when the receive is there.
        line.meanwhile(move || answering.deliver(b"answer"));
        let received = ask_with_built_irp(&endpoint, TdiRequest::RECEIVE, [100, 0, 0, 0], into.mdl());
        assert_eq!((received, &into.bytes[..6]), ((NtStatus::SUCCESS, 6), &b"answer"[..]));
        // It takes no notice of what this says.
        ask(TdiRequest::DISASSOCIATE_ADDRESS, [0; 4]);
        for file in [endpoint, address] {
            file.close(Order::ReferenceFirst);
        }
        assert_eq!((line.sent(), line.farewell()), (b"question".to_vec(), Some(Farewell::Fin)));
    });
}

unsafe extern "win64" fn keep_and_signal(_device: u64, _irp: *mut Irp, done: *mut KernelEvent) -> NtStatus {
    // SAFETY: the test's event.
    unsafe { event::set(done) };
    NtStatus::MORE_PROCESSING_REQUIRED
}

/// IoAllocateIrp, a macro with a NULL routine, IoSetCompletionRoutine afterwards. The event is set at the end.
fn start_allocated(
    file: &File,
    minor: TdiRequest,
    parameters: [u64; 4],
    mdl: *mut Mdl,
    done: &KernelEvent,
) -> (*mut Irp, NtStatus) {
    let device = file.device();
    // SAFETY: a packet of the test's own.
    unsafe {
        let irp = call("IoAllocateIrp", &[(*device).stack_size as u64, 0]) as *mut Irp;
        build(irp, file, minor, parameters, mdl);
        let location = nt_io::irp::next_location(irp);
        (*location).completion_routine = keep_and_signal as *const () as u64;
        (*location).context = ptr::from_ref(done) as u64;
        (*location).control = control::INVOKE_ON_SUCCESS | control::INVOKE_ON_ERROR | control::INVOKE_ON_CANCEL;
        (irp, NtStatus(call("IofCallDriver", &[device as u64, irp as u64]) as u32))
    }
}

fn ask_with_allocated_irp(file: &File, minor: TdiRequest, parameters: [u64; 4], mdl: *mut Mdl) -> (NtStatus, u64) {
    let done = new_event();
    let (irp, _) = start_allocated(file, minor, parameters, mdl, &done);
    assert_eq!(wait_for(&done, None), NtStatus::SUCCESS);
    // SAFETY: the packet is ours again.
    unsafe {
        assert!((*irp).original_file_object.is_null());
        let outcome = (*irp).io_status;
        call("IoFreeIrp", &[irp as u64]);
        (outcome.status, outcome.information)
    }
}

#[proves("C-557", "C-558", "C-188", "C-181", "C-571")]
#[test]
fn client_that_allocates_its_requests_closes_with_the_connection_up() {
    scripted(|network| {
        let (address, endpoint) = (open_address("0.0.0.0:0"), open_endpoint(0x1234_5678_9ABC_DEF0));
        let counts = || [&address, &endpoint].map(|file| nt_object::pointer_count(file.object as u64));
        let before = counts();
        let ask = |minor, parameters| ask_with_allocated_irp(&endpoint, minor, parameters, ptr::null_mut());
        assert_eq!(ask(TdiRequest::ASSOCIATE_ADDRESS, [address.handle.0, 0, 0, 0]), (NtStatus::SUCCESS, 0));
        let to = Information::of(remote());
        assert_eq!(ask(TdiRequest::CONNECT, [0xDEAD_BEEF, to.pointer(), 0, 0]), (NtStatus::SUCCESS, 0));
        let out = Buffer::new(*b"bytes");
        let sent = ask_with_allocated_irp(&endpoint, TdiRequest::SEND, [5, 0, 0, 0], out.mdl());
        assert_eq!(sent, (NtStatus::SUCCESS, 5));
        assert_eq!(counts(), before, "no request holds a file");
        endpoint.dereference();
        endpoint.close_handle();
        assert_eq!(network.line(0).farewell(), Some(Farewell::Fin));
        address.close(Order::HandleFirst);
    });
}

#[proves("C-551", "C-552", "C-555", "C-396", "C-398")]
#[test]
fn receive_tells_a_graceful_close_from_an_abnormal_one() {
    for graceful in [true, false] {
        scripted(|network| {
            let (address, endpoint) = open_pair(0);
            let both = Information::of(remote());
            let connect = [0, both.pointer(), both.pointer(), 0];
            let connected = endpoint.request(TdiRequest::CONNECT, connect, ptr::null_mut()).wait();
            assert_eq!(connected, (NtStatus::SUCCESS, 0));
            let line = network.line(0);
            line.deliver(b"last");
            assert_eq!(endpoint.receive(100).as_deref(), Ok(b"last".as_slice()));
            if graceful {
                line.end()
            } else {
                line.fail(NetError::Reset)
            }
            let end = endpoint.receive(100);
            assert_eq!(end.as_deref() == Ok(b"".as_slice()), graceful, "{end:?}");
            assert_eq!(end.is_err(), !graceful, "{end:?}");
            for file in [endpoint, address] {
                file.close(Order::HandleFirst);
            }
        });
    }
}

#[proves("C-256", "C-561", "C-563", "C-566")]
#[test]
fn client_answers_a_disconnect_from_a_worker_and_drops_its_references_in_any_order() {
    for (abort, flags) in [(false, disconnect_flags::RELEASE), (true, disconnect_flags::ABORT)] {
        scripted(|network| {
            let address = open_address("0.0.0.0:0");
            let client = Client::new();
            client.listen_to(&address, &[TdiEvent::RECEIVE, TdiEvent::DISCONNECT]);
            let endpoints = [1, 2, 3].map(|context| {
                let endpoint = open_endpoint(context);
                assert_eq!(endpoint.associate(&address), NtStatus::SUCCESS);
                assert_eq!(endpoint.connect(remote()), NtStatus::SUCCESS);
                // One more reference on the address for each.
                nt_object::reference(address.object as u64);
                endpoint
            });
            let line = network.line(1);
            if abort {
                line.fail(NetError::Reset)
            } else {
                line.end()
            }
            let seen = client.wait_for(|seen| !seen.is_empty());
            assert_eq!(seen, [Seen::Disconnected { context: 2, flags }]);
            let endpoint = endpoints[1];
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    nt_dispatcher::thread::adopt_current().expect("a kernel thread");
                    let answered = endpoint.disconnect(flags);
                    assert!(answered.is_success() || abort, "{answered:?}");
                    assert_eq!(endpoint.disassociate(), NtStatus::SUCCESS);
                });
            });
            address.close_handle();
            address.dereference();
            for at in [1, 0, 2] {
                endpoints[at].close(Order::HandleFirst);
                nt_object::dereference(address.object as u64);
            }
            assert_eq!(client.seen(), []);
        });
    }
}

#[proves("C-562", "C-361")]
#[test]
fn one_non_blocking_send_at_a_time_over_a_long_chain_arrives_whole() {
    scripted(|network| {
        let (address, endpoint) = open_pair(1);
        assert_eq!(endpoint.connect(remote()), NtStatus::SUCCESS);
        let line = network.line(0);
        let parts = [4096, 1, 2048, 0, 4095, 16, 4096, 4096, 100, 4096, 4096, 3000];
        let length: usize = parts.iter().sum();
        let bytes: Vec<u8> = (0..length).map(|at| (at * 7) as u8).collect();
        let chain = Buffer::in_parts(bytes.clone().into(), &parts);
        for flags in [send_flags::NON_BLOCKING, send_flags::NON_BLOCKING | send_flags::PARTIAL] {
            let before = line.sent().len();
            line.shut_window();
            let send = endpoint.start_send(&chain, length, flags);
            while !send.is_done() {
                line.open_window(5000);
                std::thread::yield_now();
            }
            assert_eq!(send.wait(), (NtStatus::SUCCESS, length as u64));
            assert!(line.sent()[before..] == bytes);
        }
        endpoint.close(Order::HandleFirst);
        address.close(Order::HandleFirst);
    });
}

#[proves("C-590", "C-576")]
#[test]
fn client_that_waits_with_a_timeout_cancels_waits_again_and_leaves() {
    scripted(|network| {
        for is_built in [false, true] {
            let (address, endpoint) = open_pair(1);
            assert_eq!(endpoint.connect(remote()), NtStatus::SUCCESS);
            let line = network.line(network.lines() - 1);
            let (into, done) = (Buffer::zeroed(100), new_event());
            let (event, mut iosb) = (new_event(), Box::new(IoStatusBlock::new(NtStatus::PENDING, 0)));
            let irp = if is_built {
                // A request of the thread's, whose routine keeps it (K-064b).
                let device = endpoint.device() as u64;
                let places = [ptr::from_ref(&*event) as u64, &raw mut *iosb as u64];
                let arguments = [3, device, 0, 0, 0, 0, 1, places[0], places[1]];
                let irp = call("IoBuildDeviceIoControlRequest", &arguments) as *mut Irp;
                // SAFETY: the packet just made.
                unsafe {
                    build(irp, &endpoint, TdiRequest::RECEIVE, [100, 0, 0, 0], into.mdl());
                    let location = nt_io::irp::next_location(irp);
                    (*location).completion_routine = keep_and_signal as *const () as u64;
                    (*location).context = ptr::from_ref(&*done) as u64;
                    (*location).control =
                        control::INVOKE_ON_SUCCESS | control::INVOKE_ON_ERROR | control::INVOKE_ON_CANCEL;
                }
                assert_eq!(NtStatus(call("IofCallDriver", &[device, irp as u64]) as u32), NtStatus::PENDING);
                irp
            } else {
                let start = start_allocated(&endpoint, TdiRequest::RECEIVE, [100, 0, 0, 0], into.mdl(), &done);
                assert_eq!(start.1, NtStatus::PENDING);
                start.0
            };
            let first = wait_for(&done, Some(-10_000));
            assert!(first == NtStatus::TIMEOUT && first.is_success());
            assert_eq!(call("IoCancelIrp", &[irp as u64]) as u8, 1);
            assert_eq!(wait_for(&done, None), NtStatus::SUCCESS);
            // SAFETY: the packet is ours again.
            let outcome = unsafe { (*irp).io_status };
            assert_eq!((outcome.status, outcome.information), (NtStatus::CANCELLED, 0));
            if is_built {
                call("IofCompleteRequest", &[irp as u64, 0]);
                assert_eq!((wait_for(&event, Some(0)), iosb.status), (NtStatus::SUCCESS, NtStatus::CANCELLED));
            } else {
                call("IoFreeIrp", &[irp as u64]);
            }
            assert_eq!(endpoint.abort(), NtStatus::SUCCESS);
            assert_eq!(endpoint.disassociate(), NtStatus::SUCCESS);
            for file in [endpoint, address] {
                file.close(Order::HandleFirst);
            }
            assert_eq!(line.farewell(), Some(Farewell::Rst));
        }
    });
}
