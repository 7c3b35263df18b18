//! Opens, sharing, queries, and filters in front of the devices.

mod client;
mod filter;
mod peer;
mod scripted;

use std::ptr;

use client::*;
use filter::Filter;
use net_api::NetError;
use nt_abi::tdi::{TdiRequest, query};
use nt_abi::{DeviceObject, DriverObject, FileObject, Irp, MajorFunction, NtStatus, UnicodeString, ea};
use nt_io::{completion, irp};
use peer::on_loopback;
use proves::proves;
use scripted::{Script, scripted};
use tdi_core::transport_address::{self, Family};

const SHARE_READ: u16 = 1;
const SHARE_WRITE: u16 = 2;

fn open(list: &[u8]) -> Result<File, NtStatus> {
    try_open(r"\Device\Tcp", list, 0)
}

fn address_list(address: &str, share: u16) -> Result<File, NtStatus> {
    try_open(r"\Device\Tcp", &address_ea(address.parse().expect("an address")), share)
}

fn kind(file: &File) -> u64 {
    // SAFETY: an open file.
    unsafe { (*file.object).fs_context2 }
}

#[proves("C-001", "C-002", "C-003", "C-006", "C-009", "C-010", "C-070", "C-090")]
#[test]
fn every_device_opens_as_a_control_channel() {
    scripted(|_| {
        for name in [
            r"\Device\Tcp",
            r"\device\tcp6",
            r"\DEVICE\UDP",
            r"\Device\Udp6",
            r"\Device\RawIp",
            r"\Device\RawIp6",
            r"\Device\Ip",
            r"\Device\Ip6",
            r"\Device\IPMULTICAST",
        ] {
            let channel = try_open(name, &[], 3).expect(name);
            assert_eq!(kind(&channel), 3);
            channel.close(Order::HandleFirst);
        }
    });
}

#[test]
fn create_that_a_driver_has_made_up_fails_without_a_file_object() {
    scripted(|_| {
        let channel = open(&[]).expect("a control channel");
        for object in [0, 8, u64::MAX - 7] {
            let request = Request::new(&channel, TdiRequest(0), nothing(), ptr::null_mut());
            // SAFETY: a packet of our own that was not sent yet.
            unsafe {
                let location = nt_io::irp::next_location(request.irp);
                (*location).major_function = MajorFunction::CREATE;
                (*location).file_object = object as *mut _;
            }
            assert_eq!(request.send(&channel).wait(), (NtStatus::INVALID_PARAMETER, 0), "{object:#x}");
        }
        channel.close(Order::HandleFirst);
    });
}

#[proves("C-004", "C-005")]
#[test]
fn name_of_a_raw_file_ends_with_its_protocol() {
    scripted(|_| {
        let any = address_ea("0.0.0.0:0".parse().expect("an address"));
        for name in [r"\Device\RawIp\17", r"\device\rawip\0", r"\Device\RawIp6\58"] {
            let channel = try_open(name, &[], 3).expect(name);
            assert_eq!(kind(&channel), 3);
            channel.close(Order::HandleFirst);
        }
        for name in [r"\Device\RawIp\udp", r"\Device\RawIp\256", r"\Device\RawIp6\1\2"] {
            for list in [&[][..], &any] {
                assert_eq!(try_open(name, list, 3).err(), Some(NtStatus::INVALID_PARAMETER), "{name}");
            }
        }
        assert_eq!(try_open(r"\Device\RawIp", &any, 3).err(), Some(NtStatus::INVALID_PARAMETER), "of no protocol");
        // No network here carries other protocols.
        assert_eq!(try_open(r"\Device\RawIp\17", &any, 3).err(), Some(NtStatus::NOT_SUPPORTED));
    });
}

#[proves("C-032", "C-071", "C-072", "C-089", "C-093", "C-113", "C-116", "C-550", "C-556", "D-005")]
#[test]
fn kind_of_open_is_decided_by_the_ea_list_alone() {
    scripted(|network| {
        for context in [0, 1, u64::MAX, 0xDEAD_BEEF_0000_0000] {
            let endpoint = open(&endpoint_ea(context)).expect("an endpoint");
            assert_eq!(kind(&endpoint), 2);
            endpoint.close(Order::ReferenceFirst);
        }
        let any = transport_address::encode("0.0.0.0:0".parse().expect("an address"));
        // 26 bytes for a 22-byte address, in a buffer of 300 bytes (C-546).
        let mut value = any.as_bytes().to_vec();
        value.resize(26, 0);
        let mut list = ea_entry(ea::TRANSPORT_ADDRESS, &value);
        list.resize(300, 0xEE);
        let address = open(&list).expect("an address");
        assert_eq!(kind(&address), 1);
        address.close(Order::HandleFirst);
        assert_eq!(network.lines(), 0);
    });
}

#[proves("C-073", "C-074", "C-081", "C-086", "C-094", "C-115")]
#[test]
fn unusable_ea_lists_are_refused_and_leave_nothing() {
    scripted(|network| {
        let address = address_ea("0.0.0.0:0".parse().expect("an address"));
        let mut both = endpoint_ea(1);
        both.resize(36, 0);
        both[0] = 36;
        both.extend(&address);
        assert_eq!(open(&both).err(), Some(NtStatus::INVALID_PARAMETER));
        assert_eq!(open(&ea_entry(b"Transportaddress", &[0; 22])).err(), Some(NtStatus::INVALID_EA_NAME));
        assert_eq!(open(&ea_entry(ea::CONNECTION_CONTEXT, &[0; 7])).err(), Some(NtStatus::INVALID_PARAMETER));
        let on = |device, list: &[u8]| try_open(device, list, 0).err();
        assert_eq!(on(r"\Device\Udp", &endpoint_ea(1)), Some(NtStatus::INVALID_PARAMETER));
        assert_eq!(on(r"\Device\Ip", &address), Some(NtStatus::INVALID_DEVICE_REQUEST));
        let ip6 = transport_address::encode("[::]:0".parse().expect("an address"));
        assert_eq!(
            open(&ea_entry(ea::TRANSPORT_ADDRESS, ip6.as_bytes())).err(),
            Some(NtStatus::INVALID_ADDRESS_COMPONENT)
        );
        let ip4 = transport_address::encode("0.0.0.0:0".parse().expect("an address"));
        for length in 0..22 {
            let short = ea_entry(ea::TRANSPORT_ADDRESS, &ip4.as_bytes()[..length]);
            assert_eq!(open(&short).err(), Some(NtStatus::NONEXISTENT_EA_ENTRY), "{length} bytes");
        }
        network.fail_open(NetError::AddressNotAvailable);
        assert_eq!(open(&address).err(), Some(NtStatus::INVALID_ADDRESS), "C-095");
    });
}

#[proves("C-101", "C-103", "C-104", "C-109", "C-168", "D-131")]
#[test]
fn sharing_is_what_the_first_opener_agreed_to() {
    scripted(|_| {
        let exclusive = address_list("0.0.0.0:4000", 0).expect("a free port");
        for share in [0, SHARE_READ] {
            assert_eq!(address_list("0.0.0.0:4000", share).err(), Some(NtStatus::SHARING_VIOLATION));
        }
        exclusive.close(Order::HandleFirst);
        // Either bit is enough, and there may be any number.
        let share = |number: u16| [SHARE_READ, SHARE_WRITE, SHARE_READ | SHARE_WRITE][usize::from(number) % 3];
        let shared = (0..100).map(|number| address_list("0.0.0.0:4000", share(number)).expect("shared"));
        let shared: Vec<_> = shared.collect();
        assert_eq!(address_list("0.0.0.0:4000", 0).err(), Some(NtStatus::ADDRESS_ALREADY_EXISTS));
        let (status, answer) = shared[0].query(query::ADDRESS_INFO, 100);
        assert_eq!((status, &answer[..4]), (NtStatus::SUCCESS, &100_u32.to_le_bytes()[..]));
        let floating = [0, 1].map(|_| address_list("0.0.0.0:0", 0).expect("a port of its own"));
        for file in &floating {
            file.close(Order::HandleFirst);
        }
        // Until the last of them is gone.
        for file in &shared {
            assert_eq!(address_list("0.0.0.0:4000", 0).err(), Some(NtStatus::ADDRESS_ALREADY_EXISTS));
            file.close(Order::HandleFirst);
        }
        address_list("0.0.0.0:4000", 0).expect("free again").close(Order::HandleFirst);
    });
}

#[test]
fn failed_open_on_the_network_gives_the_claim_back() {
    scripted(|network| {
        network.fail_open(NetError::AddressInUse);
        assert_eq!(address_list("0.0.0.0:4001", 0).err(), Some(NtStatus::ADDRESS_ALREADY_EXISTS));
        address_list("0.0.0.0:4001", 0).expect("the claim is free").close(Order::HandleFirst);
    });
}

#[proves("C-100", "C-280", "C-564", "D-128", "D-130", "D-132", "D-133")]
#[test]
fn address_query_shows_the_port_on_addresses_and_connections() {
    on_loopback(|| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
        let (address, endpoint) = open_pair(1);
        let of = |file: &File| {
            let (status, answer) = file.query(query::ADDRESS_INFO, 26);
            assert_eq!(status, NtStatus::SUCCESS);
            transport_address::parse(&answer[4..], Family::V4).expect("an address")
        };
        assert_ne!(of(&address).port(), 0);
        assert_eq!(of(&endpoint), of(&address));
        let pinned = of(&address).port();
        assert_eq!(endpoint.connect(listener.local_addr().expect("an address")), NtStatus::SUCCESS);
        let (_stream, peer_sees) = listener.accept().expect("a connection");
        assert_eq!(of(&endpoint), peer_sees);
        assert_eq!(peer_sees.port(), pinned);
        endpoint.close(Order::HandleFirst);
        address.close(Order::HandleFirst);
    });
}

#[proves(
    "C-011", "C-012", "D-122", "D-124", "D-125", "D-126", "D-127", "D-129", "D-136", "D-137", "D-138", "D-139",
    "D-140", "D-120"
)]
#[test]
fn queries_answer_what_they_know_and_how_much_fits() {
    scripted(|_| {
        let channel = try_open(r"\Device\Tcp", &[], 0).expect("a control channel");
        let (status, info) = channel.query(query::PROVIDER_INFO, 40);
        assert_eq!((status, info.len()), (NtStatus::SUCCESS, 40));
        let word = |at: usize| u32::from_le_bytes(info[at..at + 4].try_into().expect("four bytes"));
        let expected = [0x0100, u32::MAX, 0, 65_507, 0x007B_89AF, 1, 65_535, 0];
        assert_eq!([0, 4, 8, 12, 16, 20, 24, 28].map(word), expected);
        let (status, part) = channel.query(query::PROVIDER_INFO, 10);
        assert_eq!((status, part.as_slice()), (NtStatus::BUFFER_OVERFLOW, &info[..10]));
        let no_mdl = channel.request(TdiRequest::QUERY_INFORMATION, [2, 0, 0, 0], ptr::null_mut());
        assert_eq!(no_mdl.wait(), (NtStatus::INVALID_PARAMETER, 0));
        assert_eq!(channel.query(0x77, 10), (NtStatus::NOT_IMPLEMENTED, vec![]));
        assert_eq!(channel.query(query::ADDRESS_INFO, 100).0, NtStatus::INVALID_DEVICE_REQUEST);
        assert_eq!(channel.query(query::MAX_DATAGRAM_INFO, 4), (NtStatus::SUCCESS, 65_507_u32.to_le_bytes().to_vec()));
        assert_eq!(channel.query(query::PROVIDER_STATISTICS, 300).1.len(), 216);
        let ip = try_open(r"\Device\Ip", &[], 0).expect("a control channel");
        assert_eq!(ip.query(query::PROVIDER_INFO, 40), (NtStatus::NOT_IMPLEMENTED, vec![]));
        let multicast = try_open(r"\Device\IPMULTICAST", &[], 0).expect("a control channel");
        assert_eq!(multicast.query(query::PROVIDER_INFO, 40), (NtStatus::INVALID_PARAMETER, vec![]));
        let endpoint = open_endpoint(1);
        assert_eq!(endpoint.query(query::ADDRESS_INFO, 100), (NtStatus::INVALID_CONNECTION, vec![]));
        assert_eq!(channel.query(query::CONNECTION_INFO, 100), (NtStatus::INVALID_DEVICE_REQUEST, vec![]));
        for file in [channel, ip, multicast, endpoint] {
            file.close(Order::HandleFirst);
        }
    });
}

#[proves("D-123", "D-134", "D-135", "D-142", "D-143", "D-144", "D-145", "D-159")]
#[test]
fn each_query_is_answered_by_the_kinds_of_file_that_can() {
    scripted(|_| {
        let (address, endpoint) = open_pair(1);
        let channel = try_open(r"\Device\Tcp", &[], 0).expect("a control channel");
        let everybody = transport_address::encode("255.255.255.255:0".parse().expect("an address"));
        // What is asked, how long its answer is, and whether an address, an endpoint and a channel answer.
        let cases = [
            (query::ADDRESS_INFO, 26, [true, true, false]),
            (query::CONNECTION_INFO, 56, [false, true, false]),
            (query::PROVIDER_INFO, 40, [true, true, true]),
            (query::PROVIDER_STATISTICS, 216, [false, false, true]),
            (query::BROADCAST_ADDRESS, everybody.as_bytes().len(), [false, false, true]),
            (query::DATAGRAM_INFO, 8, [true, false, true]),
            (query::MAX_DATAGRAM_INFO, 4, [true, false, true]),
        ];
        for (kind, length, answers) in cases {
            for (file, answers) in [&address, &endpoint, &channel].into_iter().zip(answers) {
                let (status, answer) = file.query(kind, 300);
                let expected =
                    if answers { (NtStatus::SUCCESS, length) } else { (NtStatus::INVALID_DEVICE_REQUEST, 0) };
                assert_eq!((status, answer.len()), expected, "{kind:#x} of kind {}", self::kind(file));
                // It always says the same: the time of the provider's start, too.
                assert_eq!(file.query(kind, 300), (status, answer));
            }
        }
        assert_eq!(channel.query(query::BROADCAST_ADDRESS, 300).1, everybody.as_bytes());
        // Neither throughput nor delay is known.
        assert_eq!(endpoint.query(query::CONNECTION_INFO, 300).1, [0; 56]);
        assert_ne!(channel.query(query::PROVIDER_INFO, 40).1[32..], [0; 8]);
        let header = Buffer::zeroed(8);
        let action = |file: &File| file.request(TdiRequest::ACTION, [0; 4], header.mdl()).wait();
        for file in [&address, &endpoint, &channel] {
            assert_eq!(action(file), (NtStatus::NOT_IMPLEMENTED, 0));
        }
        for file in [channel, endpoint, address] {
            file.close(Order::HandleFirst);
        }
    });
}

#[proves("C-087", "C-146")]
#[test]
fn control_channel_of_a_device_pointer_works_between_cleanup_and_close() {
    scripted(|_| {
        let filter = Filter::on(r"\Device\Tcp");
        let majors = || filter.passed().iter().map(|passed| passed.major).collect::<Vec<_>>();
        let channel = device_pointer(r"\Device\Tcp");
        assert_eq!(majors(), [MajorFunction::CREATE, MajorFunction::CLEANUP]);
        assert_eq!((channel.device(), kind(&channel)), (filter.device, 3));
        for _ in 0..3 {
            assert_eq!(channel.query(query::PROVIDER_INFO, 40).0, NtStatus::SUCCESS);
        }
        majors();
        channel.dereference();
        assert_eq!(majors(), [MajorFunction::CLOSE]);
    });
}

/// What `IoGetDeviceObjectPointer` gives: a file without a handle.
fn device_pointer(name: &str) -> File {
    let mut name: Vec<u16> = name.encode_utf16().collect();
    let bytes = (name.len() * 2) as u16;
    let string = UnicodeString { length: bytes, maximum_length: bytes, _pad: 0, buffer: name.as_mut_ptr() };
    let (mut object, mut device) = (ptr::null_mut::<FileObject>(), ptr::null_mut::<DeviceObject>());
    let arguments = [&raw const string as u64, 0x12_019F, &raw mut object as u64, &raw mut device as u64];
    assert_eq!(NtStatus(call("IoGetDeviceObjectPointer", &arguments) as u32), NtStatus::SUCCESS);
    let file = File { handle: nt_abi::Handle(0), object };
    assert_eq!(file.device(), device);
    file
}

#[proves("C-097", "C-096", "C-095")]
#[test]
fn port_0_is_a_free_port_and_a_foreign_address_is_refused() {
    on_loopback(|| {
        let open = |device: &str, local: &str| try_open(device, &address_ea(local.parse().expect("an address")), 0);
        let port = |file: &File| {
            let (status, answer) = file.query(query::ADDRESS_INFO, 26);
            assert_eq!(status, NtStatus::SUCCESS);
            transport_address::parse(&answer[4..], Family::V4).expect("an address").port()
        };
        // The host agrees that the port is in use, and says so to its own programs.
        let udp = open(r"\Device\Udp", "127.0.0.1:0").expect("an address");
        let bound = std::net::UdpSocket::bind(("127.0.0.1", port(&udp))).expect_err("taken");
        assert_eq!(bound.kind(), std::io::ErrorKind::AddrInUse);
        let tcp = [0, 1].map(|_| open(r"\Device\Tcp", "127.0.0.1:0").expect("an address"));
        let ports = tcp.each_ref().map(port);
        assert!(ports[0] != 0 && ports[1] != 0 && ports[0] != ports[1], "{ports:?}");
        let any = open(r"\Device\Tcp", "0.0.0.0:0").expect("any local address");
        assert_ne!(port(&any), 0);
        // 192.0.2.0/24 is for documentation: no interface has it.
        for device in [r"\Device\Tcp", r"\Device\Udp"] {
            assert_eq!(open(device, "192.0.2.1:0").err(), Some(NtStatus::INVALID_ADDRESS), "{device}");
        }
        for file in tcp.iter().chain([&udp, &any]) {
            file.close(Order::HandleFirst);
        }
    });
}

#[proves("C-088")]
#[test]
fn scribbled_file_objects_find_nothing_and_break_nothing() {
    scripted(|_| {
        let (address, endpoint) = open_pair(1);
        // SAFETY: open files; a driver could write there, too.
        unsafe {
            let right = (*endpoint.object).fs_context;
            for wrong in [0, u64::MAX, right + 1, right ^ 1 << 32] {
                (*endpoint.object).fs_context = wrong;
                assert_eq!(endpoint.abort(), NtStatus::INVALID_DEVICE_REQUEST, "{wrong:#x}");
            }
            (*endpoint.object).fs_context = right;
        }
        let lost = File { handle: nt_abi::Handle(0), object: 0x10 as *mut FileObject };
        let request = Request::new(&endpoint, TdiRequest::SEND, [0; 4], ptr::null_mut());
        // SAFETY: a packet of our own that was not sent yet.
        unsafe { (*irp::next_location(request.irp)).file_object = lost.object };
        assert_eq!(request.send(&endpoint).wait().0, NtStatus::INVALID_DEVICE_REQUEST);
        endpoint.close(Order::HandleFirst);
        address.close(Order::HandleFirst);
    });
}

#[proves("C-147", "D-275", "D-276", "D-284", "D-286")]
#[test]
fn filter_attached_to_the_device_sees_every_request() {
    scripted(|network| {
        let before = open_endpoint(0);
        let filter = Filter::over(before.device());
        assert_eq!(before.device(), filter.device);
        let (address, endpoint) = open_pair(1);
        assert_eq!(endpoint.connect("10.0.0.2:80".parse().expect("an address")), NtStatus::SUCCESS);
        assert_eq!(endpoint.send(b"through"), (NtStatus::SUCCESS, 7));
        assert_eq!(network.line(0).sent(), b"through");
        endpoint.close(Order::HandleFirst);
        address.close(Order::HandleFirst);
        before.close(Order::HandleFirst);
        let majors: Vec<_> = filter.passed().iter().map(|passed| passed.major).collect();
        let files = [MajorFunction::CLEANUP, MajorFunction::CLOSE].repeat(3);
        let opens = [MajorFunction::CREATE; 2];
        // Associate, connect, send.
        let requests = [MajorFunction::INTERNAL_DEVICE_CONTROL; 3];
        assert_eq!(majors, [&opens[..], &requests, &files].concat());
    });
}

unsafe extern "win64" fn refuse(_device: *mut DeviceObject, irp: *mut Irp) -> NtStatus {
    // SAFETY: called as a dispatch routine.
    unsafe { completion::complete_with(irp, NtStatus::ACCESS_DENIED, 0) }
}

#[proves("D-278")]
#[test]
fn dispatch_table_of_the_driver_object_can_be_hooked() {
    scripted(|_| {
        let name: Vec<u16> = r"\Driver\Tcpip".encode_utf16().collect();
        let body = nt_object::lookup(&name).expect("the driver object").body;
        let slot = usize::from(MajorFunction::INTERNAL_DEVICE_CONTROL.0);
        let (address, endpoint) = open_pair(1);
        // SAFETY: a live driver object.
        unsafe {
            let table = &mut (*(body as *mut DriverObject)).major_function;
            let original = std::mem::replace(&mut table[slot], refuse as *const () as u64);
            assert_eq!(endpoint.connect("10.0.0.2:80".parse().expect("an address")), NtStatus::ACCESS_DENIED);
            table[slot] = original;
        }
        assert_eq!(endpoint.connect("10.0.0.2:80".parse().expect("an address")), NtStatus::SUCCESS);
        endpoint.close(Order::HandleFirst);
        address.close(Order::HandleFirst);
    });
}

#[test]
fn leftovers_are_told_with_their_file_objects() {
    let network = Script::new();
    with_transport(network, |transport| {
        use tdi_transport::Leftover;
        let (address, endpoint) = open_pair(1);
        assert_eq!(endpoint.connect("10.0.0.2:80".parse().expect("an address")), NtStatus::SUCCESS);
        let buffer = Buffer::zeroed(4);
        let receive = endpoint.start_receive(&buffer, 0);
        let file = endpoint.object as u64;
        let expected = [
            Leftover::Request { irp: receive.irp as u64, file },
            Leftover::Endpoint { file, connected: true, closed: false },
            Leftover::Address { file: address.object as u64, closed: false },
        ];
        assert_eq!(leftovers(transport), expected);
        address.close(Order::HandleFirst);
        let held = Leftover::Address { file: address.object as u64, closed: true };
        assert_eq!(leftovers(transport)[2], held, "its endpoint holds it");
        endpoint.close(Order::HandleFirst);
        assert!(receive.is_done());
    });
}

static DEVICES: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());

unsafe extern "win64" fn bound(device: u64) {
    let name = String::from_utf16_lossy(&gate::memory::read_unicode(device).expect("a name"));
    DEVICES.lock().expect("no panic").push(name);
}

#[proves("D-245", "D-255")]
#[test]
fn devices_are_announced_by_names_that_can_be_opened() {
    scripted(|_| {
        let handlers = tdi_library::pnp::Handlers { bind: bound as *const () as u64, ..Default::default() };
        let client = tdi_library::pnp::register_client(handlers);
        let names = std::mem::take(&mut *DEVICES.lock().expect("no panic"));
        assert_eq!(names.len(), 6);
        for name in names {
            try_open(&name, &[], 0).expect(&name).close(Order::HandleFirst);
        }
        tdi_library::pnp::deregister_client(client).expect("a client");
    });
}

static ADDRESSES: std::sync::Mutex<Vec<(String, Vec<u8>)>> = std::sync::Mutex::new(Vec::new());

unsafe extern "win64" fn address_added(address: *const u8, device: u64, _context: u64) {
    let name = String::from_utf16_lossy(&gate::memory::read_unicode(device).expect("a name"));
    // SAFETY: a TA_ADDRESS: its length, its type, so many bytes.
    let address = unsafe {
        let length = u16::from_le_bytes([*address, *address.add(1)]);
        std::slice::from_raw_parts(address.add(4), length.into()).to_vec()
    };
    ADDRESSES.lock().expect("no panic").push((name, address));
}

#[proves("D-248", "D-249")]
#[test]
fn addresses_of_each_interface_are_announced_by_family_under_its_name() {
    scripted(|_| {
        let add_address = address_added as *const () as u64;
        let client =
            tdi_library::pnp::register_client(tdi_library::pnp::Handlers { add_address, ..Default::default() });
        let told = std::mem::take(&mut *ADDRESSES.lock().expect("no panic"));
        tdi_library::pnp::deregister_client(client).expect("a client");
        let name = |prefix, number| format!(r"\DEVICE\{prefix}_{{{number}-0000-4000-8000-00AA00389B71}}");
        let names: Vec<_> = told.iter().map(|(name, _)| name.clone()).collect();
        let expected = [("TCPIP", "7F000001"), ("TCPIP6", "7F000001"), ("TCPIP", "0000001A"), ("TCPIP6", "0000001A")];
        assert_eq!(names, expected.map(|(prefix, number)| name(prefix, number)));
        assert_eq!((told[2].1.len(), &told[2].1[..6]), (14, &[0, 0, 10, 0, 0, 1][..]));
        assert_eq!((told[3].1.len(), &told[3].1[6..8]), (26, &[0xFD, 0][..]));
    });
}

/// IOCTL_TDI_ASSOCIATE_ADDRESS.
const ASSOCIATE: u32 = 0x0021_002C;
/// IOCTL_TDI_QUERY_DIRECT_SEND_HANDLER.
const DIRECT_SEND: u32 = 0x0021_0203;

#[proves("D-214", "D-215", "D-217", "D-218", "D-285")]
#[test]
fn requests_of_user_programs_are_mapped_and_direct_handlers_refused() {
    scripted(|_| {
        let address = open_address("0.0.0.0:0");
        let endpoint = open_endpoint(1);
        let mut structure = [0; 40];
        structure[32..].copy_from_slice(&address.handle.0.to_le_bytes());
        let control = |code, input: &[u8]| {
            nt_io::file::device_control(endpoint.handle, code, input, &mut []).expect("sent").status
        };
        assert_eq!(control(ASSOCIATE, &structure[..39]), NtStatus::INVALID_PARAMETER);
        assert_eq!(control(ASSOCIATE, &structure), NtStatus::SUCCESS);
        assert_eq!(control(ASSOCIATE, &structure), NtStatus::INVALID_CONNECTION);
        assert_eq!(control(DIRECT_SEND, &[]), NtStatus::INVALID_DEVICE_REQUEST);
        for minor in [TdiRequest::DIRECT_SEND, TdiRequest::DIRECT_SEND_DATAGRAM, TdiRequest::DIRECT_ACCEPT] {
            for file in [&address, &endpoint] {
                let direct = file.request(minor, [0; 4], ptr::null_mut()).wait();
                assert_eq!(direct, (NtStatus::INVALID_DEVICE_REQUEST, 0), "{minor:?}");
            }
        }
        endpoint.close(Order::HandleFirst);
        address.close(Order::HandleFirst);
    });
}
