//! What happens to a file object's own requests, from the create to the close, as a filter above the transport sees it.

mod client;
mod filter;
mod scripted;

use std::ptr;
use std::sync::Arc;

use client::*;
use filter::{Ended, Filter, Passed};
use net_api::NetError;
use nt_abi::object::attributes;
use nt_abi::tdi::{TdiRequest, query, receive_flags};
use nt_abi::{MajorFunction, NtStatus, ea};
use nt_io::file::FILE;
use proves::proves;
use scripted::{Farewell, Script, remote};
use tdi_transport::Transport;

const TCP: &str = r"\Device\Tcp";

fn scripted(test: impl FnOnce(&'static Transport, &Script) + Send) {
    let network = Script::new();
    let shared = Arc::clone(&network);
    with_transport(network, move |transport| test(transport, &shared));
}

fn address_of(text: &str) -> Vec<u8> {
    address_ea(text.parse().expect("an address"))
}

/// The EA lists of the three kinds of file, with what FsContext2 holds for each.
fn kinds() -> [(u64, Vec<u8>); 3] {
    [(1, address_of("0.0.0.0:0")), (2, endpoint_ea(7)), (3, Vec::new())]
}

fn only(passed: Vec<Passed>, major: MajorFunction) -> Vec<Passed> {
    passed.into_iter().filter(|passed| passed.major == major).collect()
}

#[proves("C-076", "C-036", "D-280")]
#[test]
fn create_brings_a_copy_of_the_ea_list_and_its_length() {
    scripted(|_, _| {
        let filter = Filter::on(TCP);
        let mut padded = address_of("0.0.0.0:0");
        padded.resize(300, 0xEE);
        for list in kinds().map(|(_, list)| list).into_iter().chain([padded]) {
            let file = try_open(TCP, &list, 0).expect("opened");
            let passed = filter.passed();
            let [create] = &passed[..] else { panic!("{passed:?}") };
            assert_eq!((create.major, create.file), (MajorFunction::CREATE, file.object as u64));
            assert_eq!(create.parameters[3], list.len() as u64, "EaLength");
            assert_eq!(create.ea, list);
            assert_ne!(create.system_buffer, list.as_ptr() as u64, "a copy");
            assert_eq!(create.system_buffer == 0, list.is_empty(), "NULL for a control channel, and only there");
            file.close(Order::HandleFirst);
            filter.passed();
        }
    });
}

#[proves("C-033", "C-034")]
#[test]
fn malformed_ea_list_does_not_reach_the_transport() {
    scripted(|_, _| {
        let filter = Filter::on(TCP);
        let good = address_of("0.0.0.0:0");
        let mut no_nul = good.clone();
        no_nul[8 + 16] = b'x';
        let mut long_name = good.clone();
        long_name[5] += 1;
        let mut long_value = good.clone();
        long_value[6] += 1;
        // Drivers are checked as user programs are.
        for list in [&good[..46], &good[..20], &good[..8], &no_nul, &long_name, &long_value] {
            let (status, iosb, handle) = zw_create_file(TCP, list, How::USUAL);
            let inconsistent = NtStatus::EA_LIST_INCONSISTENT;
            assert_eq!((status, iosb.status, handle), (inconsistent, inconsistent, nt_abi::Handle(0)));
        }
        assert!(filter.passed().is_empty());
        try_open(TCP, &good, 0).expect("opened").close(Order::HandleFirst);
    });
}

#[proves("C-077")]
#[test]
fn every_open_yields_a_file_object_of_its_own() {
    scripted(|_, _| {
        let shared = [address_of("0.0.0.0:4000"), endpoint_ea(7), Vec::new()];
        for list in shared {
            let mut files: Vec<_> = (0..4).map(|_| try_open(TCP, &list, 1).expect("shared")).collect();
            for (at, file) in files.iter().enumerate() {
                for other in &files[..at] {
                    // SAFETY: open files.
                    let contexts = unsafe { ((*file.object).fs_context, (*other.object).fs_context) };
                    assert_ne!(file.object, other.object);
                    assert_ne!(file.handle, other.handle);
                    assert_ne!(contexts.0, contexts.1);
                }
            }
            // Each has a life of its own, too.
            while let Some(file) = files.pop() {
                file.close(Order::HandleFirst);
                for left in &files {
                    assert_eq!(left.query(query::PROVIDER_INFO, 40).0, NtStatus::SUCCESS);
                }
            }
        }
    });
}

#[proves("C-078", "C-079", "C-573")]
#[test]
fn create_is_complete_when_its_dispatch_routine_returns_the_same_status() {
    scripted(|_, network| {
        let filter = Filter::on(TCP);
        let taken = try_open(TCP, &address_of("0.0.0.0:4000"), 0).expect("a free port");
        filter.passed();
        let mut both = endpoint_ea(1);
        both.resize(36, 0);
        both[0] = 36;
        both.extend(address_of("0.0.0.0:0"));
        let mut cases = kinds().map(|(_, list)| (list, NtStatus::SUCCESS)).to_vec();
        cases.extend([
            (both, NtStatus::INVALID_PARAMETER),
            (ea_entry(b"Neither", &[0; 8]), NtStatus::INVALID_EA_NAME),
            (ea_entry(ea::TRANSPORT_ADDRESS, &address_of("0.0.0.0:0")[25..46]), NtStatus::NONEXISTENT_EA_ENTRY),
            (address_of("0.0.0.0:4000"), NtStatus::SHARING_VIOLATION),
        ]);
        let network_says = [
            (NetError::AddressNotAvailable, NtStatus::INVALID_ADDRESS),
            (NetError::OutOfDescriptors, NtStatus::INSUFFICIENT_RESOURCES),
        ];
        for (error, status) in network_says {
            network.fail_open(error);
            check_create(&filter, &address_of("0.0.0.0:4001"), status);
        }
        for (list, status) in cases {
            check_create(&filter, &list, status);
        }
        taken.close(Order::HandleFirst);
    });
}

#[track_caller]
fn check_create(filter: &Filter, list: &[u8], expected: NtStatus) {
    let (status, iosb, handle) = zw_create_file(TCP, list, How::USUAL);
    assert_eq!((status, iosb.status, iosb.information), (expected, expected, 0));
    let passed = filter.passed();
    let [create] = &passed[..] else { panic!("{passed:?}") };
    let ended = create.ended.expect("complete");
    assert_eq!((create.returned, ended.status, ended.information), (Some(expected), expected, 0));
    assert!(ended.before_return && !ended.was_pending, "{create:?}");
    if status.is_success() {
        assert_eq!(nt_io::file::close(handle), NtStatus::SUCCESS);
        filter.passed();
    }
}

#[proves("C-082", "C-083", "C-084")]
#[test]
fn disposition_access_options_and_attributes_change_nothing() {
    // What a client may give together: FILE_SYNCHRONOUS_IO_xxx needs SYNCHRONIZE, FILE_DELETE_ON_CLOSE needs DELETE.
    const GENERIC: u32 = 0xC010_0000;
    const DATA: u32 = 0x0010_0003;
    const EA_ONLY: u32 = 0x0000_0018;
    const ALL: u32 = 0x001F_01FF;
    const HIDDEN_SYSTEM_NORMAL: u32 = 0x86;
    let mut ways: Vec<How> = (0..=5).map(|disposition| How { disposition, ..How::USUAL }).collect();
    ways.extend([GENERIC, DATA, EA_ONLY, ALL, 0x8000_0000, 0x0200_0000].map(|access| How { access, ..How::USUAL }));
    ways.extend(
        [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x200, 0x800, 0x1000, 0x4000, 0x20_0000].map(|options| How {
            access: ALL,
            options,
            ..How::USUAL
        }),
    );
    ways.extend([0, 0x01, 0x20, HIDDEN_SYSTEM_NORMAL].map(|file_attributes| How { file_attributes, ..How::USUAL }));
    scripted(|_, network| {
        for how in ways {
            let open = |list: &[u8]| try_open_as(TCP, list, how);
            let channel = open(&[]).unwrap_or_else(|status| panic!("{status:?}: {how:x?}"));
            let endpoint = open(&endpoint_ea(1)).unwrap_or_else(|status| panic!("{status:?}: {how:x?}"));
            let address = open(&address_of("0.0.0.0:4000")).unwrap_or_else(|status| panic!("{status:?}: {how:x?}"));
            for (file, kind) in [(&address, 1), (&endpoint, 2), (&channel, 3)] {
                // SAFETY: an open file.
                assert_eq!(unsafe { (*file.object).fs_context2 }, kind, "{how:x?}");
            }
            // Nor do they open what is taken.
            assert_eq!(open(&address_of("0.0.0.0:4000")).err(), Some(NtStatus::SHARING_VIOLATION), "{how:x?}");
            // And the files do what files do.
            assert_eq!(channel.query(query::PROVIDER_INFO, 40).0, NtStatus::SUCCESS);
            assert_eq!(endpoint.associate(&address), NtStatus::SUCCESS, "{how:x?}");
            assert_eq!(endpoint.connect(remote()), NtStatus::SUCCESS, "{how:x?}");
            assert_eq!(endpoint.send(b"usual"), (NtStatus::SUCCESS, 5), "{how:x?}");
            let line = network.line(network.lines() - 1);
            line.deliver(b"answer");
            assert_eq!(endpoint.receive(10).as_deref(), Ok(b"answer".as_slice()), "{how:x?}");
            for file in [channel, endpoint, address] {
                file.close(Order::HandleFirst);
            }
        }
    });
}

#[proves("C-091", "C-144")]
#[test]
fn contexts_are_set_by_the_create_and_stay_until_the_close() {
    scripted(|_, _| {
        let filter = Filter::on(TCP);
        let other = open_address("0.0.0.0:0");
        for (kind, list) in kinds() {
            filter.passed();
            let file = try_open(TCP, &list, 0).expect("opened");
            let at_create = filter.passed();
            assert_eq!(at_create[0].contexts, [0, 0], "nothing is there before");
            // What the create's completion saw is what everybody sees from then on.
            let contexts = at_create[0].ended.expect("complete").contexts;
            assert_ne!(contexts[0], 0);
            assert_eq!(contexts[1], kind);
            if kind == 2 {
                assert_eq!(file.associate(&other), NtStatus::SUCCESS);
                assert_eq!(file.connect(remote()), NtStatus::SUCCESS);
                assert_eq!(file.abort(), NtStatus::SUCCESS);
                assert_eq!(file.disassociate(), NtStatus::SUCCESS);
            }
            assert_eq!(file.query(query::PROVIDER_INFO, 40).0, NtStatus::SUCCESS);
            file.close_handle();
            file.query(query::PROVIDER_INFO, 40);
            // SAFETY: the reference still holds the file.
            assert_eq!(unsafe { [(*file.object).fs_context, (*file.object).fs_context2] }, contexts);
            file.dereference();
            let passed = filter.passed();
            let majors: Vec<_> = passed.iter().map(|passed| passed.major).collect();
            let last = [MajorFunction::CLEANUP, MajorFunction::INTERNAL_DEVICE_CONTROL, MajorFunction::CLOSE];
            assert!(majors.ends_with(&last), "{majors:?}");
            for (at, request) in passed.iter().enumerate() {
                assert_eq!(request.contexts, contexts, "{request:?}");
                if at + 1 < passed.len() {
                    assert_eq!(request.ended.expect("complete").contexts, contexts, "{request:?}");
                }
            }
        }
        other.close(Order::HandleFirst);
    });
}

#[proves("C-161", "C-170")]
#[test]
fn cleanup_and_close_succeed_with_information_0_and_leave_nothing() {
    scripted(|transport, _| {
        let filter = Filter::on(TCP);
        let good = |passed: Vec<Passed>, major, count| {
            let found = only(passed, major);
            assert_eq!(found.len(), count);
            for request in found {
                let Ended { status, information, .. } = request.ended.expect("complete");
                assert_eq!((status, information), (NtStatus::SUCCESS, 0), "{request:?}");
            }
        };
        // Idle files.
        for (_, list) in kinds() {
            let file = try_open(TCP, &list, 0).expect("opened");
            assert_eq!(leftovers(transport).len(), 1);
            filter.passed();
            file.close_handle();
            good(filter.passed(), MajorFunction::CLEANUP, 1);
            assert_eq!(leftovers(transport).len(), 1, "its state stays until the close");
            file.dereference();
            good(filter.passed(), MajorFunction::CLOSE, 1);
            assert_eq!(leftovers(transport), [], "the close has released it");
        }
        // Files in use: an endpoint with a connection and a request, its address, a channel.
        let (address, endpoint) = open_pair(1);
        let channel = try_open(TCP, &[], 0).expect("a control channel");
        assert_eq!(endpoint.connect(remote()), NtStatus::SUCCESS);
        let buffer = Buffer::zeroed(10);
        let receive = endpoint.start_receive(&buffer, receive_flags::NORMAL);
        for file in [&address, &endpoint, &channel] {
            file.close_handle();
        }
        assert_eq!(receive.wait(), (NtStatus::CANCELLED, 0));
        good(filter.passed(), MajorFunction::CLEANUP, 3);
        for file in [address, endpoint, channel] {
            file.dereference();
        }
        good(filter.passed(), MajorFunction::CLOSE, 3);
        assert_eq!(leftovers(transport), []);
    });
}

#[proves("C-171", "C-166")]
#[test]
fn close_does_nothing_that_the_peer_could_see() {
    scripted(|_, network| {
        type Prepare = fn(&File, &scripted::Line);
        let ways: [(Prepare, Farewell); 5] = [
            (|_, _| {}, Farewell::Fin),
            (|endpoint, _| assert_eq!(endpoint.send(b"sent").0, NtStatus::SUCCESS), Farewell::Fin),
            (|_, line| line.end(), Farewell::Fin),
            (|endpoint, _| assert_eq!(endpoint.abort(), NtStatus::SUCCESS), Farewell::Rst),
            (
                |endpoint, line| {
                    line.deliver(b"taken and not");
                    assert_eq!(endpoint.receive(5).as_deref(), Ok(b"taken".as_slice()));
                },
                Farewell::Rst,
            ),
        ];
        for (prepare, farewell) in ways {
            for address_first in [false, true] {
                let (address, endpoint) = open_pair(1);
                assert_eq!(endpoint.connect(remote()), NtStatus::SUCCESS);
                let line = network.line(network.lines() - 1);
                prepare(&endpoint, &line);
                if address_first {
                    address.close_handle();
                }
                endpoint.close_handle();
                let told = (line.farewell(), line.sent(), network.lines());
                assert_eq!(told.0, Some(farewell), "the cleanup tells everything");
                endpoint.dereference();
                assert_eq!((line.farewell(), line.sent(), network.lines()), told);
                if !address_first {
                    address.close_handle();
                }
                address.dereference();
                assert_eq!((line.farewell(), line.sent(), network.lines()), told);
            }
        }
    });
}

#[proves("C-172", "C-125")]
#[test]
fn closed_handle_reaches_nothing_and_a_reference_still_does() {
    scripted(|_, network| {
        let (address, endpoint) = open_pair(1);
        let other = open_endpoint(2);
        let channel = try_open(TCP, &[], 0).expect("a control channel");
        for file in [&address, &endpoint, &channel] {
            file.close_handle();
            let by_handle = nt_object::reference_by_handle(file.handle, Some(FILE.block()));
            assert_eq!(by_handle.err(), Some(NtStatus::INVALID_HANDLE));
            let control = nt_io::file::device_control(file.handle, 0, &[], &mut []);
            assert_eq!(control.err(), Some(NtStatus::INVALID_HANDLE));
            assert_eq!(nt_io::file::close(file.handle), NtStatus::INVALID_HANDLE);
        }
        assert_eq!(other.associate(&address), NtStatus::INVALID_HANDLE);
        // Through the pointer every request still gets an answer.
        assert_eq!(endpoint.connect(remote()), NtStatus::CANCELLED);
        assert_eq!(endpoint.disassociate(), NtStatus::INVALID_CONNECTION);
        assert_eq!(channel.query(query::PROVIDER_INFO, 40).0, NtStatus::SUCCESS);
        assert_eq!(address.query(query::PROVIDER_INFO, 40).0, NtStatus::SUCCESS);
        assert_eq!(network.lines(), 0);
        for file in [address, endpoint, channel] {
            file.dereference();
        }
        other.close(Order::HandleFirst);
    });
}

#[proves("C-118")]
#[test]
fn control_channel_carries_provider_wide_requests_only() {
    scripted(|_, network| {
        for device in [TCP, r"\Device\Udp", r"\Device\RawIp", r"\Device\Ip"] {
            let channel = try_open(device, &[], 0).expect("a control channel");
            let buffer = Buffer::new(*b"data");
            let ask = |major: MajorFunction, minor: TdiRequest| {
                let request = Request::new(&channel, minor, [4, 0, 0, 0], buffer.mdl());
                // SAFETY: a packet of our own that was not sent yet.
                unsafe { (*irp_location(&request)).major_function = major };
                let request = request.send(&channel);
                assert_ne!(request.returned, NtStatus::PENDING, "{major:?} {minor:?}");
                request.wait()
            };
            for minor in (0..=u8::MAX).map(TdiRequest) {
                let carried =
                    [TdiRequest::QUERY_INFORMATION, TdiRequest::SET_INFORMATION, TdiRequest::ACTION].contains(&minor);
                if !carried {
                    let outcome = ask(MajorFunction::INTERNAL_DEVICE_CONTROL, minor);
                    assert_eq!(outcome, (NtStatus::INVALID_DEVICE_REQUEST, 0), "{minor:?}");
                }
            }
            for major in [MajorFunction::READ, MajorFunction::WRITE] {
                assert_eq!(ask(major, TdiRequest(0)), (NtStatus::INVALID_DEVICE_REQUEST, 0));
            }
            // Those three are judged by what they ask for, not by the kind of file.
            let unknown = NtStatus::NOT_IMPLEMENTED;
            for minor in [TdiRequest::QUERY_INFORMATION, TdiRequest::SET_INFORMATION, TdiRequest::ACTION] {
                let outcome = channel.request(minor, [0x77, 0, 0, 0], buffer.mdl()).wait();
                assert_eq!(outcome, (unknown, 0), "{minor:?}");
            }
            channel.close(Order::HandleFirst);
        }
        let channel = try_open(TCP, &[], 0).expect("a control channel");
        assert_eq!(channel.query(query::PROVIDER_INFO, 40).0, NtStatus::SUCCESS);
        channel.close(Order::HandleFirst);
        assert_eq!(network.lines(), 0);
    });
}

/// The location that a request takes when it is sent.
fn irp_location(request: &Request) -> *mut nt_abi::IoStackLocation {
    // SAFETY: a packet that was not sent yet.
    unsafe { nt_io::irp::next_location(request.irp) }
}

#[proves("C-179", "C-237", "C-240")]
#[test]
fn address_handle_is_resolved_at_once_whatever_its_access() {
    scripted(|_, _| {
        // Handles of the process and of the system, with every kind of access that clients ask for.
        for object_attributes in
            [attributes::CASE_INSENSITIVE, attributes::CASE_INSENSITIVE | attributes::KERNEL_HANDLE]
        {
            for access in [0, 0x8, 0x18, 0xC010_0000] {
                let how = How { access, object_attributes, ..How::USUAL };
                let address = try_open_as(TCP, &address_of("0.0.0.0:0"), how).expect("an address");
                let endpoint = open_endpoint(1);
                let parameters = [address.handle.0, 0, 0, 0];
                let associate = endpoint.request(TdiRequest::ASSOCIATE_ADDRESS, parameters, ptr::null_mut());
                assert_eq!(associate.returned, NtStatus::SUCCESS, "resolved by the thread that asked: {how:x?}");
                // From here on the handle means nothing to the endpoint.
                address.close_handle();
                assert_eq!(endpoint.disassociate(), NtStatus::SUCCESS);
                assert_eq!(endpoint.associate(&address), NtStatus::INVALID_HANDLE);
                // Nor is there an address any more where a new handle leads to the file that was cleaned up.
                let late = nt_object::insert(address.object as u64, access, true, 0).expect("a handle");
                assert_eq!(endpoint.associate(&File { handle: late, ..address }), NtStatus::INVALID_HANDLE);
                assert_eq!(nt_io::file::close(late), NtStatus::SUCCESS);
                address.dereference();
                endpoint.close(Order::HandleFirst);
            }
        }
        // A file's number without a handle behind it, and a handle of something that is no file.
        let (address, endpoint) = (open_address("0.0.0.0:0"), open_endpoint(1));
        let thread = gate::thread::current_thread_object();
        let handle = nt_object::insert(thread, 0, true, 0).expect("a handle");
        for (handle, status) in
            [(handle.0, NtStatus::OBJECT_TYPE_MISMATCH), (address.object as u64, NtStatus::INVALID_HANDLE)]
        {
            let outcome = endpoint.request(TdiRequest::ASSOCIATE_ADDRESS, [handle, 0, 0, 0], ptr::null_mut()).wait();
            assert_eq!(outcome, (status, 0));
        }
        assert_eq!(nt_object::close(handle).map(drop), Ok(()));
        endpoint.close(Order::HandleFirst);
        address.close(Order::HandleFirst);
    });
}

unsafe extern "win64" fn count_references(_device: u64, irp: *mut nt_abi::Irp, counted: *mut [u64; 2]) -> NtStatus {
    // SAFETY: the test's context: the address's file object, and where its count goes.
    unsafe {
        let [file, count] = &mut *counted;
        *count = nt_object::pointer_count(*file).expect("alive") as u64;
        assert_eq!((*irp).io_status.information, 0);
    }
    NtStatus::MORE_PROCESSING_REQUIRED
}

#[proves("C-235", "C-236", "C-244", "C-246", "C-250", "C-251", "C-252", "C-180")]
#[test]
fn association_is_made_and_undone_at_once_and_both_files_stay_usable() {
    scripted(|_, network| {
        let filter = Filter::on(TCP);
        let port_of = |file: &File| {
            let (status, answer) = file.query(query::ADDRESS_INFO, 26);
            (status == NtStatus::SUCCESS).then(|| u16::from_be_bytes([answer[12], answer[13]]))
        };
        let addresses = ["0.0.0.0:4000", "0.0.0.0:4001"].map(open_address);
        let endpoint = open_endpoint(1);
        let inline = |passed: Vec<Passed>| {
            let last = passed.last().expect("a request");
            let ended = last.ended.expect("complete");
            let outcome = (last.returned, ended.status, ended.information, ended.was_pending, ended.before_return);
            assert_eq!(outcome, (Some(NtStatus::SUCCESS), NtStatus::SUCCESS, 0, false, true));
        };
        for (address, port) in [(&addresses[0], 4000), (&addresses[0], 4000), (&addresses[1], 4001)] {
            assert_eq!(port_of(&endpoint), None);
            assert_eq!(endpoint.associate(address), NtStatus::SUCCESS);
            inline(filter.passed());
            assert_eq!(port_of(&endpoint), Some(port), "bound to that address");
            assert_eq!(network.lines(), 0, "nothing is sent");
            assert_eq!(endpoint.disassociate(), NtStatus::SUCCESS);
            inline(filter.passed());
            assert_eq!((port_of(&endpoint), port_of(address)), (None, Some(port)), "the address is as it was");
        }
        // An address that is closed under its endpoint can still be left for another.
        assert_eq!(endpoint.associate(&addresses[0]), NtStatus::SUCCESS);
        addresses[0].close(Order::HandleFirst);
        assert_eq!(endpoint.disassociate(), NtStatus::SUCCESS);
        assert_eq!(endpoint.associate(&addresses[1]), NtStatus::SUCCESS);
        assert_eq!(endpoint.connect(remote()), NtStatus::SUCCESS);
        endpoint.close(Order::HandleFirst);
        addresses[1].close(Order::HandleFirst);
    });
}

#[proves("C-238", "C-174")]
#[test]
fn associate_gives_its_reference_back_before_it_completes() {
    scripted(|_, _| {
        let address = open_address("0.0.0.0:0");
        let (fresh, associated) = (open_endpoint(1), open_endpoint(2));
        assert_eq!(associated.associate(&address), NtStatus::SUCCESS);
        let channel = try_open(TCP, &[], 0).expect("a control channel");
        // Whether it succeeds, the endpoint is not free, or the handle is no address's.
        let cases = [
            (&fresh, &address, NtStatus::SUCCESS),
            (&associated, &address, NtStatus::INVALID_CONNECTION),
            (&associated, &channel, NtStatus::INVALID_HANDLE),
            (&channel, &address, NtStatus::INVALID_DEVICE_REQUEST),
        ];
        for (endpoint, target, status) in cases {
            let before = nt_object::pointer_count(target.object as u64).expect("alive") as u64;
            let mut counted = [target.object as u64, 0];
            let parameters = [target.handle.0, 0, 0, 0];
            let request = Request::new(endpoint, TdiRequest::ASSOCIATE_ADDRESS, parameters, ptr::null_mut());
            let request = request.on_completion(count_references as *const () as u64, &raw mut counted as u64);
            assert_eq!(request.send(endpoint).returned, status);
            assert_eq!(counted[1], before);
            let after = nt_object::pointer_count(target.object as u64).expect("alive") as u64;
            assert_eq!(after, before, "nor does the association hold the file");
        }
        for file in [fresh, associated, channel, address] {
            file.close(Order::HandleFirst);
        }
    });
}

#[proves("C-248")]
#[test]
fn endpoint_can_be_asked_before_it_is_associated() {
    scripted(|_, _| {
        let (address, endpoint) = (open_address("0.0.0.0:0"), open_endpoint(1));
        let set = |kind: u32| {
            let buffer = Buffer::zeroed(60);
            endpoint.request(TdiRequest::SET_INFORMATION, [kind.into(), 0, 0, 0], buffer.mdl()).wait()
        };
        let ask = || {
            let (provider, connection) =
                (endpoint.query(query::PROVIDER_INFO, 40), endpoint.query(query::CONNECTION_INFO, 56));
            (provider, connection, [query::CONNECTION_INFO, query::PROVIDER_INFO, 0x77].map(set))
        };
        let before = ask();
        assert_eq!((before.0.0, before.0.1.len()), (NtStatus::SUCCESS, 40));
        assert_eq!(before.1, (NtStatus::SUCCESS, vec![0; 56]), "nothing is known");
        let no_address = endpoint.query(query::ADDRESS_INFO, 26);
        assert_eq!(no_address, (NtStatus::INVALID_CONNECTION, vec![]), "there is no address to tell");
        // It is as idle as before, and no answer depends on the association.
        assert_eq!(endpoint.associate(&address), NtStatus::SUCCESS);
        assert_eq!(ask(), before);
        assert_eq!(endpoint.query(query::ADDRESS_INFO, 26).0, NtStatus::SUCCESS);
        endpoint.close(Order::HandleFirst);
        address.close(Order::HandleFirst);
    });
}
