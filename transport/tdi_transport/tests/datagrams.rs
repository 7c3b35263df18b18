//! Datagrams over loopback sockets.

mod client;
mod peer;

use std::cell::UnsafeCell;
use std::net::{SocketAddr, UdpSocket};
use std::ptr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use client::*;
use nt_abi::dispatcher::DispatcherType;
use nt_abi::tdi::private::*;
use nt_abi::tdi::{TdiEvent, TdiRequest, query, receive_flags};
use nt_abi::{Irp, Irql, KernelEvent, NtStatus};
use nt_dispatcher::{event, wait};
use peer::on_loopback;
use proves::proves;
use tdi_core::transport_address::{self, Family};

/// An address for datagrams and where its peers send to.
fn open_udp(local: &str) -> (File, SocketAddr) {
    let address = try_open(r"\Device\Udp", &address_ea(local.parse().expect("an address")), 0).expect("an address");
    let (status, answer) = address.query(query::ADDRESS_INFO, 26);
    assert_eq!(status, NtStatus::SUCCESS);
    let local = transport_address::parse(&answer[4..], Family::V4).expect("an address");
    assert_ne!(local.port(), 0, "C-097");
    (address, SocketAddr::from(([127, 0, 0, 1], local.port())))
}

fn peer() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    let address = socket.local_addr().expect("its address");
    (socket, address)
}

fn send(address: &File, buffer: &Buffer, length: usize, to: &Information) -> (NtStatus, u64) {
    address.request(TdiRequest::SEND_DATAGRAM, [length as u64, to.pointer(), 0, 0], buffer.mdl()).wait()
}

fn receive(address: &File, buffer: &Buffer, from: Option<&Information>, back: Option<&Information>) -> Request {
    receive_with(address, buffer, from, back, receive_flags::NORMAL)
}

fn receive_with(
    address: &File,
    buffer: &Buffer,
    from: Option<&Information>,
    back: Option<&Information>,
    flags: u32,
) -> Request {
    let pointer = |information: Option<&Information>| information.map_or(0, Information::pointer);
    let parameters = [buffer.bytes.len() as u64, pointer(from), pointer(back), flags.into()];
    address.request(TdiRequest::RECEIVE_DATAGRAM, parameters, buffer.mdl())
}

#[proves(
    "D-020", "D-021", "D-022", "D-023", "D-024", "D-026", "D-028", "D-030", "D-033", "D-036", "D-054", "D-055",
    "D-004", "D-007", "D-044"
)]
#[test]
fn query_client_sends_and_gets_its_answer() {
    on_loopback(|| {
        let (address, local) = open_udp("0.0.0.0:0");
        let (socket, remote) = peer();
        let to = Information::of(remote);
        let chain = Buffer::in_parts(b"a question too long".as_slice().into(), &[1, 0, 5, 13]);
        let back = Information::new(vec![0; 22].into());
        for round in [&b"first"[..], b"", b"third"] {
            let buffer = Buffer::zeroed(512);
            let answer = receive(&address, &buffer, None, Some(&back));
            assert_eq!(answer.returned, NtStatus::PENDING);
            assert_eq!(send(&address, &chain, 10, &to), (NtStatus::SUCCESS, 10));
            let mut got = [0; 100];
            let (count, from) = socket.recv_from(&mut got).expect("the question");
            assert_eq!((&got[..count], from), (&b"a question"[..], local));
            socket.send_to(round, from).expect("room");
            assert_eq!(answer.wait(), (NtStatus::SUCCESS, round.len() as u64));
            assert_eq!(&buffer.bytes[..round.len()], round);
            assert_eq!(transport_address::parse(&back.address, Family::V4), Ok(remote), "D-044");
        }
        // A sender's address that does not fit is cut to the room there is.
        let little = Information::new(vec![0; 12].into());
        let buffer = Buffer::zeroed(8);
        let cut = receive(&address, &buffer, None, Some(&little));
        socket.send_to(b"cut", local).expect("room");
        assert_eq!(cut.wait().1, 3);
        assert_eq!(*little.address, transport_address::encode(remote).as_bytes()[..12]);
        assert_eq!(send(&address, &chain, 0, &to), (NtStatus::SUCCESS, 0));
        assert_eq!(socket.recv(&mut [0; 1]).expect("an empty datagram"), 0);
        address.close(Order::HandleFirst);
    });
}

#[proves("D-025", "D-027", "D-010")]
#[test]
fn sends_that_cannot_be_are_refused() {
    on_loopback(|| {
        let (address, _) = open_udp("127.0.0.1:0");
        let big = Buffer::zeroed(65_508);
        let to = Information::of("127.0.0.1:9".parse().expect("an address"));
        assert_eq!(send(&address, &big, 65_508, &to), (NtStatus::INVALID_BUFFER_SIZE, 0));
        assert_eq!(send(&address, &big, 65_509, &to), (NtStatus::INVALID_PARAMETER, 0));
        let away = Information::of("8.8.8.8:53".parse().expect("an address"));
        assert_eq!(send(&address, &big, 4, &away), (NtStatus::ACCESS_DENIED, 0), "the policy is loopback");
        let nowhere = Information::of("127.0.0.1:0".parse().expect("an address"));
        assert_eq!(send(&address, &big, 4, &nowhere), (NtStatus::INVALID_ADDRESS, 0));
        let none = address.request(TdiRequest::SEND_DATAGRAM, [4, 0, 0, 0], big.mdl()).wait();
        assert_eq!(none, (NtStatus::INVALID_PARAMETER, 0));
        let stream = open_address("0.0.0.0:0");
        assert_eq!(send(&stream, &big, 4, &to), (NtStatus::INVALID_DEVICE_REQUEST, 0));
        let endpoint = open_endpoint(1);
        assert_eq!(endpoint.associate(&address), NtStatus::INVALID_HANDLE);
        for file in [endpoint, stream, address] {
            file.close(Order::HandleFirst);
        }
    });
}

#[proves("D-040", "D-042", "D-043", "D-045", "D-046", "D-052", "D-053", "D-041", "D-048")]
#[test]
fn receives_are_satisfied_in_order_by_filter_and_room() {
    on_loopback(|| {
        let (address, local) = open_udp("127.0.0.1:0");
        let ((one, _), (other, other_address)) = (peer(), peer());
        let only_other = Information::of(other_address);
        let buffers: Vec<_> = [100, 3, 100, 100].map(Buffer::zeroed).into();
        let filtered = receive(&address, &buffers[0], Some(&only_other), None);
        let short = receive(&address, &buffers[1], None, None);
        let cancelled = receive(&address, &buffers[2], None, None);
        assert!(cancelled.cancel());
        assert_eq!(cancelled.wait(), (NtStatus::CANCELLED, 0));
        one.send_to(b"longer", local).expect("room");
        assert_eq!(short.wait(), (NtStatus::BUFFER_OVERFLOW, 3));
        assert_eq!(&*buffers[1].bytes, b"lon");
        other.send_to(b"wanted", local).expect("room");
        assert_eq!(filtered.wait(), (NtStatus::SUCCESS, 6));
        let peek = receive_with(&address, &buffers[2], None, None, receive_flags::NORMAL | receive_flags::PEEK);
        // ReceiveLength 0 stands for the whole chain.
        let parameters = [0, 0, 0, receive_flags::NORMAL.into()];
        let after = address.request(TdiRequest::RECEIVE_DATAGRAM, parameters, buffers[3].mdl());
        one.send_to(b"peeked", local).expect("room");
        assert_eq!(peek.wait(), (NtStatus::SUCCESS, 6));
        assert_eq!(after.wait(), (NtStatus::SUCCESS, 6));
        assert_eq!((&buffers[2].bytes[..6], &buffers[3].bytes[..6]), (&b"peeked"[..], &b"peeked"[..]));
        address.close(Order::HandleFirst);
    });
}

#[proves("D-051")]
#[test]
fn datagram_that_nobody_waits_for_is_gone() {
    on_loopback(|| {
        let (address, local) = open_udp("127.0.0.1:0");
        let (socket, _) = peer();
        socket.send_to(b"early", local).expect("room");
        let buffer = Buffer::zeroed(10);
        let request = receive(&address, &buffer, None, None);
        assert_eq!(request.returned, NtStatus::PENDING);
        socket.send_to(b"in time", local).expect("room");
        assert_eq!(request.wait(), (NtStatus::SUCCESS, 7));
        address.close(Order::HandleFirst);
    });
}

#[proves("D-049", "D-081", "C-154", "C-158", "C-159", "C-568")]
#[test]
fn cleanup_cancels_pending_receives_of_its_own_address() {
    on_loopback(|| {
        let (address, _) = open_udp("127.0.0.1:0");
        let (other, local) = open_udp("127.0.0.1:0");
        let buffers = [Buffer::zeroed(10), Buffer::zeroed(10), Buffer::zeroed(10)];
        let requests = [0, 1].map(|at| receive(&address, &buffers[at], None, None));
        let untouched = receive(&other, &buffers[2], None, None);
        // SAFETY: the test's packets, which are pending or its own again.
        let cancel_routine = |request: &Request| unsafe { (*request.irp).cancel_routine };
        assert!(requests.iter().all(|request| cancel_routine(request) != 0));
        address.close_handle();
        for request in &requests {
            assert!(request.is_done());
            assert_eq!((request.wait(), cancel_routine(request)), ((NtStatus::CANCELLED, 0), 0));
            assert!(!request.cancel(), "no cancel routine is left to run");
        }
        assert!(!untouched.is_done());
        let (socket, _) = peer();
        socket.send_to(b"for it", local).expect("room");
        assert_eq!(untouched.wait(), (NtStatus::SUCCESS, 6));
        other.close(Order::HandleFirst);
        let late = receive(&address, &buffers[0], None, None);
        assert_eq!(late.wait(), (NtStatus::CANCELLED, 0));
        address.dereference();
    });
}

/// A client with a datagram handler.
struct Client {
    seen: Mutex<Vec<(Vec<u8>, SocketAddr, u32)>>,
    errors: Mutex<Vec<(NtStatus, SocketAddr)>>,
    answer: Mutex<Option<(NtStatus, u32, *mut Irp)>>,
    /// The control messages that came with datagrams.
    controls: Mutex<Vec<Vec<u8>>>,
    changed: UnsafeCell<KernelEvent>,
}

impl Client {
    fn new() -> Box<Self> {
        // SAFETY: all bytes zero is a valid KernelEvent; it is initialised where it stays.
        unsafe {
            let changed = UnsafeCell::new(std::mem::zeroed());
            let client = Box::new(Self {
                seen: Mutex::default(),
                errors: Mutex::default(),
                answer: Mutex::new(None),
                controls: Mutex::default(),
                changed,
            });
            event::initialize(client.changed.get(), DispatcherType::SYNCHRONIZATION_EVENT, false);
            client
        }
    }

    fn register(&self, address: &File) {
        let context = ptr::from_ref(self) as u64;
        let handlers = [
            (TdiEvent::RECEIVE_DATAGRAM, received as *const () as u64),
            (TdiEvent::ERROR_EX, not_delivered as *const () as u64),
        ];
        for (event, routine) in handlers {
            assert_eq!(address.set_handler(event, routine, context), NtStatus::SUCCESS);
        }
    }

    #[track_caller]
    fn wait(&self) {
        // SAFETY: initialised in `new`.
        let status = unsafe { wait::wait_single(self.changed.get() as u64, Some(LONG)) };
        assert_eq!(status, NtStatus::SUCCESS);
    }

    fn seen(&self) -> Vec<(Vec<u8>, SocketAddr, u32)> {
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[allow(clippy::too_many_arguments, reason = "TDI's signature")]
unsafe extern "win64" fn received(
    client: *const Client,
    source_length: i32,
    source: *const u8,
    options_length: i32,
    options: *const u8,
    flags: u32,
    indicated: u32,
    available: u32,
    taken: *mut u32,
    tsdu: *const u8,
    irp: *mut *mut Irp,
) -> NtStatus {
    assert_eq!(gate::irql(), Irql::DISPATCH);
    assert_eq!(indicated, available);
    assert_eq!(options.is_null(), options_length == 0);
    assert_eq!(options.is_null(), flags & receive_flags::CONTROL_INFO == 0, "D-075");
    // SAFETY: called as a datagram handler.
    unsafe {
        assert_eq!((*taken, *irp), (0, ptr::null_mut()), "D-068");
        let source = std::slice::from_raw_parts(source, source_length as usize);
        let source = transport_address::parse(source, Family::V4).expect("an address");
        let bytes = std::slice::from_raw_parts(tsdu, indicated as usize).to_vec();
        let client = &*client;
        if !options.is_null() {
            let control = std::slice::from_raw_parts(options, options_length as usize).to_vec();
            client.controls.lock().unwrap_or_else(PoisonError::into_inner).push(control);
        }
        client.seen.lock().unwrap_or_else(PoisonError::into_inner).push((bytes, source, flags));
        let answer = client.answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (status, count, packet) = answer.unwrap_or((NtStatus::SUCCESS, indicated, ptr::null_mut()));
        (*taken, *irp) = (count, packet);
        event::set(client.changed.get());
        status
    }
}

unsafe extern "win64" fn not_delivered(client: *const Client, status: NtStatus, buffer: *const u8) -> NtStatus {
    assert!(gate::irql() <= nt_abi::Irql::DISPATCH, "C-463");
    // SAFETY: called as an error handler; the buffer is the destination (22 bytes for IPv4).
    unsafe {
        let remote = transport_address::parse(std::slice::from_raw_parts(buffer, 22), Family::V4);
        let remote = remote.expect("an address");
        (*client).errors.lock().unwrap_or_else(PoisonError::into_inner).push((status, remote));
        event::set((*client).changed.get());
    }
    NtStatus::SUCCESS
}

#[proves("D-060", "D-061", "D-062", "D-063", "D-064", "D-065", "D-068", "D-069", "D-072", "D-073", "D-047")]
#[test]
fn handler_sees_each_datagram_whole_unless_a_request_waits() {
    on_loopback(|| {
        let (address, local) = open_udp("127.0.0.1:0");
        let (socket, from) = peer();
        socket.send_to(b"before anybody listened", local).expect("room");
        let client = Client::new();
        client.register(&address);
        let flags = receive_flags::NORMAL | receive_flags::ENTIRE_MESSAGE | receive_flags::AT_DISPATCH_LEVEL;
        for size in [0, 1, 1000, 60_000] {
            let bytes = vec![size as u8; size];
            socket.send_to(&bytes, local).expect("room");
            client.wait();
            assert_eq!(client.seen(), [(bytes, from, flags)]);
        }
        let buffer = Buffer::zeroed(10);
        let request = receive(&address, &buffer, None, None);
        socket.send_to(b"request", local).expect("room");
        assert_eq!(request.wait(), (NtStatus::SUCCESS, 7));
        assert_eq!(client.seen(), []);
        address.close(Order::HandleFirst);
    });
}

#[proves("D-091", "D-117")]
#[test]
fn client_with_a_chained_handler_too_gets_datagrams_by_the_plain_one() {
    on_loopback(|| {
        let (address, local) = open_udp("127.0.0.1:0");
        let (socket, _) = peer();
        let client = Client::new();
        client.register(&address);
        // Nothing is there to be called.
        assert_eq!(address.set_handler(TdiEvent::CHAINED_RECEIVE_DATAGRAM, 0x10, 0), NtStatus::SUCCESS);
        socket.send_to(b"plain", local).expect("room");
        client.wait();
        let texts: Vec<_> = client.seen().into_iter().map(|(bytes, ..)| bytes).collect();
        assert_eq!(texts, [b"plain"]);
        address.close(Order::HandleFirst);
    });
}

#[proves("D-075", "D-076", "D-077")]
#[test]
fn packet_information_comes_with_each_datagram_while_it_is_asked_for() {
    on_loopback(|| {
        let (address, local) = open_udp("0.0.0.0:0");
        let (socket, _) = peer();
        let client = Client::new();
        client.register(&address);
        for (on, controls) in [(0, 0), (1, 1), (0, 0)] {
            let object = [CL_TL_ENTITY, 0, INFO_CLASS_PROTOCOL, INFO_TYPE_ADDRESS_OBJECT, ao_option::IP_PKTINFO, 4, on];
            let input: Vec<u8> = object.iter().flat_map(|word| word.to_le_bytes()).collect();
            let set = address.control(IOCTL_TCP_SET_INFORMATION_EX, &input, &mut []);
            assert_eq!(set, (NtStatus::SUCCESS, 0));
            socket.send_to(b"x", local).expect("room");
            client.wait();
            assert_eq!(client.seen().len(), 1);
            let seen = std::mem::take(&mut *client.controls.lock().expect("no panic"));
            assert_eq!(seen.len(), controls);
            for control in seen {
                // Length, level IPPROTO_IP, type IP_PKTINFO, the address it was sent to.
                let head = [24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 19, 0, 0, 0, 127, 0, 0, 1];
                assert_eq!((control.len(), &control[..20]), (24, head.as_slice()));
            }
        }
        address.close(Order::HandleFirst);
    });
}

#[proves("D-050", "D-066", "D-067", "D-079", "D-080", "D-011")]
#[test]
fn request_returned_by_the_handler_gets_the_rest_of_that_datagram() {
    on_loopback(|| {
        let (address, local) = open_udp("127.0.0.1:0");
        let (socket, from) = peer();
        let client = Client::new();
        client.register(&address);
        let answer = |answer| *client.answer.lock().expect("no panic") = Some(answer);
        for (room, outcome) in [(100, (NtStatus::SUCCESS, 4)), (3, (NtStatus::BUFFER_OVERFLOW, 3))] {
            let buffer = Buffer::zeroed(room);
            let back = Information::new(vec![0; 22].into());
            let parameters = [room as u64, 0, back.pointer(), receive_flags::NORMAL.into()];
            let request = Request::new(&address, TdiRequest::RECEIVE_DATAGRAM, parameters, buffer.mdl());
            let request = request.into_current();
            answer((NtStatus::MORE_PROCESSING_REQUIRED, 2, request.irp));
            socket.send_to(b"abcdef", local).expect("room");
            assert_eq!(request.wait(), outcome);
            assert_eq!(&buffer.bytes[..3], b"cde");
            assert_eq!(transport_address::parse(&back.address, Family::V4), Ok(from));
        }
        let wrong = Request::new(&address, TdiRequest::RECEIVE, [0; 4], ptr::null_mut()).into_current();
        answer((NtStatus::MORE_PROCESSING_REQUIRED, 0, wrong.irp));
        socket.send_to(b"lost", local).expect("room");
        assert_eq!(wrong.wait(), (NtStatus::INVALID_DEVICE_REQUEST, 0));
        client.seen();
        answer((NtStatus::DATA_NOT_ACCEPTED, 0, ptr::null_mut()));
        socket.send_to(b"refused", local).expect("room");
        socket.send_to(b"next", local).expect("room");
        while client.seen.lock().expect("no panic").len() < 2 {
            client.wait();
        }
        let texts: Vec<_> = client.seen().into_iter().map(|(bytes, ..)| bytes).collect();
        assert_eq!(texts, [b"refused".to_vec(), b"next".to_vec()]);
        address.close(Order::HandleFirst);
    });
}

#[proves("D-080")]
#[test]
fn misuse_of_the_datagram_handler_s_answer_is_a_finding() {
    if !is_child() {
        let said = findings_of("misuse_of_the_datagram_handler_s_answer_is_a_finding");
        assert_eq!(said, ["D-080", "C-222"]);
        return;
    }
    on_loopback(|| {
        let (address, local) = open_udp("127.0.0.1:0");
        let (socket, _) = peer();
        let client = Client::new();
        client.register(&address);
        let answer = |answer| *client.answer.lock().expect("no panic") = Some(answer);
        answer((NtStatus::MORE_PROCESSING_REQUIRED, 2, ptr::null_mut()));
        socket.send_to(b"without", local).expect("room");
        client.wait();
        let wrong = Request::new(&address, TdiRequest::SEND_DATAGRAM, [0; 4], ptr::null_mut()).into_current();
        answer((NtStatus::MORE_PROCESSING_REQUIRED, 0, wrong.irp));
        socket.send_to(b"wrong", local).expect("room");
        assert_eq!(wrong.wait(), (NtStatus::INVALID_DEVICE_REQUEST, 0));
        let texts: Vec<_> = client.seen().into_iter().map(|(bytes, ..)| bytes).collect();
        assert_eq!(texts, [b"without".to_vec(), b"wrong".to_vec()]);
        address.close(Order::HandleFirst);
    });
}

#[proves("C-461", "C-463", "D-035", "D-097", "D-098", "D-029", "D-099")]
#[test]
fn unreachable_port_is_reported_to_the_error_handler() {
    on_loopback(|| {
        let (address, _) = open_udp("127.0.0.1:0");
        let client = Client::new();
        client.register(&address);
        let (socket, closed) = peer();
        drop(socket);
        let to = Information::of(closed);
        let buffer = Buffer::new(*b"hello?");
        assert_eq!(send(&address, &buffer, 6, &to), (NtStatus::SUCCESS, 6));
        client.wait();
        let errors = std::mem::take(&mut *client.errors.lock().expect("no panic"));
        assert_eq!(errors, [(NtStatus::PORT_UNREACHABLE, closed)]);
        address.close(Order::HandleFirst);
    });
}

#[proves("C-102")]
#[test]
fn ports_of_tcp_and_udp_are_independent() {
    on_loopback(|| {
        // Another program may hold the TCP port of the number that UDP gave out, but not ten times in a row.
        let pair = (0..10).find_map(|_| {
            let (udp, local) = open_udp("127.0.0.1:0");
            match try_open(r"\Device\Tcp", &address_ea(local), 0) {
                Ok(tcp) => Some((udp, local, tcp)),
                Err(_) => {
                    udp.close(Order::HandleFirst);
                    None
                }
            }
        });
        let (udp, local, tcp) = pair.expect("a port free for both");
        let taken = try_open(r"\Device\Udp", &address_ea(local), 0).err();
        assert_eq!(taken, Some(NtStatus::SHARING_VIOLATION));
        udp.close(Order::HandleFirst);
        tcp.close(Order::HandleFirst);
    });
}

#[proves("C-117", "C-241")]
#[test]
fn endpoint_and_address_must_be_of_the_same_device() {
    on_loopback(|| {
        let open = |device: &str, any: &str| {
            try_open(device, &address_ea(any.parse().expect("an address")), 0).expect("an address")
        };
        let tcp = open(r"\Device\Tcp", "0.0.0.0:0");
        let tcp6 = open(r"\Device\Tcp6", "[::]:0");
        let udp = open(r"\Device\Udp", "127.0.0.1:0");
        let udp6 = open(r"\Device\Udp6", "[::1]:0");
        let all = [tcp, tcp6, udp, udp6];
        // The name's case makes no other device.
        for (device, own) in [(r"\Device\Tcp", &tcp), (r"\DEVICE\tcp", &tcp), (r"\Device\Tcp6", &tcp6)] {
            let endpoint = try_open(device, &endpoint_ea(1), 0).expect("an endpoint");
            for address in all.iter().filter(|address| address.object != own.object) {
                assert_ne!(address.device(), endpoint.device());
                assert_eq!(endpoint.associate(address), NtStatus::INVALID_HANDLE);
            }
            assert_eq!(own.device(), endpoint.device());
            assert_eq!(endpoint.associate(own), NtStatus::SUCCESS, "none of them left a trace");
            endpoint.close(Order::HandleFirst);
        }
        for file in all {
            file.close(Order::HandleFirst);
        }
    });
}

#[test]
fn datagrams_travel_over_ipv6() {
    on_loopback(|| {
        let any = "[::1]:0".parse().expect("an address");
        let address = try_open(r"\Device\Udp6", &address_ea(any), 0).expect("an address");
        let Ok(socket) = UdpSocket::bind("[::1]:0") else {
            // No IPv6 on this host.
            return address.close(Order::HandleFirst);
        };
        let to = Information::of(socket.local_addr().expect("an address"));
        let buffer = Buffer::new(*b"six");
        assert_eq!(send(&address, &buffer, 3, &to), (NtStatus::SUCCESS, 3));
        assert_eq!(socket.recv(&mut [0; 10]).expect("a datagram"), 3);
        address.close(Order::HandleFirst);
    });
}
