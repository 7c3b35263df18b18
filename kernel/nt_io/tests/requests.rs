//! Packets built for drivers, requests by handle, names and stacks, called as a driver calls them.

mod calling;

use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use calling::{call, on_kernel_thread};
use nt_abi::dispatcher::DispatcherType;
use nt_abi::io::{MAJOR_FUNCTIONS, control, device_flags};
use nt_abi::object::attributes;
use nt_abi::{
    DeviceObject, Handle, IoStatusBlock, Irp, KernelEvent, MajorFunction, NtStatus, ObjectAttributes, UnicodeString,
};
use nt_dispatcher::event;
use nt_io::device::{self, NewDevice};
use nt_io::file::{self, Open};
use nt_io::{completion, irp};
use proves::proves;

/// What a request looked like to the device.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    major: u8,
    parameters: [u64; 4],
    input: Vec<u8>,
    user_buffer: u64,
}

static SEEN: Mutex<Vec<Seen>> = Mutex::new(Vec::new());
/// What the device answers; PENDING keeps the packet.
static ANSWER: AtomicU32 = AtomicU32::new(0);
static KEPT: Mutex<Vec<u64>> = Mutex::new(Vec::new());

unsafe extern "win64" fn dispatch(_device: *mut DeviceObject, irp: *mut Irp) -> NtStatus {
    // SAFETY: called as a dispatch routine.
    unsafe {
        let location = *irp::current_location(irp);
        let status = NtStatus(ANSWER.load(Ordering::SeqCst));
        let ordinary = [MajorFunction::CREATE, MajorFunction::CLEANUP, MajorFunction::CLOSE];
        if ordinary.contains(&location.major_function) {
            return completion::complete_with(irp, NtStatus::SUCCESS, 0);
        }
        let buffer = (*irp).system_buffer as *mut u8;
        let input = match location.major_function {
            MajorFunction::WRITE => location.parameters[0],
            _ => location.parameters[1],
        };
        let input = if buffer.is_null() { vec![] } else { std::slice::from_raw_parts(buffer, input as usize).to_vec() };
        SEEN.lock().expect("no panic").push(Seen {
            major: location.major_function.0,
            parameters: location.parameters,
            input,
            user_buffer: (*irp).user_buffer,
        });
        if status == NtStatus::PENDING {
            irp::mark_pending(irp);
            KEPT.lock().expect("no panic").push(irp as u64);
            return status;
        }
        if !buffer.is_null() && !status.is_error() {
            buffer.copy_from_nonoverlapping(b"answer".as_ptr(), 6);
        }
        completion::complete_with(irp, status, 6)
    }
}

fn with_device(test: fn(*mut DeviceObject)) {
    static TEST: Mutex<Option<fn(*mut DeviceObject)>> = Mutex::new(None);
    // Held from here to the end, so that `TEST` is this test's.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    *TEST.lock().expect("no panic") = Some(test);
    on_kernel_thread(|| {
        ANSWER.store(0, Ordering::SeqCst);
        SEEN.lock().expect("no panic").clear();
        let device = calling::device(r"\Device\Requests");
        // SAFETY: a live device of the test.
        unsafe {
            (*(*device).driver_object).major_function = [dispatch as *const () as u64; MAJOR_FUNCTIONS];
            (*device).flags &= !device_flags::DEVICE_INITIALIZING;
        }
        let test = TEST.lock().expect("no panic").take().expect("set above");
        test(device);
        calling::delete(device);
        let mut left = 0;
        irp::for_each_live(|_, _| left += 1);
        assert_eq!(left, 0, "packets are left");
    });
}

fn seen() -> Seen {
    SEEN.lock().expect("no panic").pop().expect("a request")
}

fn utf16(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}

fn open(options: u32) -> Handle {
    let name = utf16(r"\Device\Requests");
    let open = Open {
        name: &name,
        attributes: attributes::KERNEL_HANDLE,
        access: 0,
        options,
        file_attributes: 0,
        share: 0,
        ea: (0, 0),
    };
    let opened = file::open(&open, 0);
    assert_eq!(opened.status, NtStatus::SUCCESS);
    opened.handle
}

/// An event and a status block, as senders have them on their stacks.
struct Reply {
    event: Box<KernelEvent>,
    iosb: Box<IoStatusBlock>,
}

impl Reply {
    fn new() -> Self {
        // SAFETY: all zero is a value; the event is initialised before anybody sees it.
        let mut event: Box<KernelEvent> = Box::new(unsafe { std::mem::zeroed() });
        // SAFETY: the event was just made.
        unsafe { event::initialize(&mut *event, DispatcherType::NOTIFICATION_EVENT, false) };
        Self { event, iosb: Box::new(IoStatusBlock::new(NtStatus(0xDEAD_BEEF), 0)) }
    }

    fn is_set(&mut self) -> bool {
        // SAFETY: initialised in `new`.
        unsafe { event::read(&mut *self.event) != 0 }
    }

    fn event(&mut self) -> u64 {
        ptr::from_mut(&mut *self.event) as u64
    }

    fn iosb(&mut self) -> u64 {
        ptr::from_mut(&mut *self.iosb) as u64
    }
}

fn build_control(device: *mut DeviceObject, code: u32, input: &[u8], output: &mut [u8], reply: &mut Reply) -> *mut Irp {
    let arguments = [
        u64::from(code),
        device as u64,
        input.as_ptr() as u64,
        input.len() as u64,
        output.as_mut_ptr() as u64,
        output.len() as u64,
        0,
        reply.event(),
        reply.iosb(),
    ];
    call("IoBuildDeviceIoControlRequest", &arguments) as *mut Irp
}

#[proves("K-060", "K-061", "K-062", "K-066")]
#[test]
fn buffered_control_copies_in_and_out_and_signals() {
    with_device(|device| {
        let (mut reply, mut output) = (Reply::new(), [0xEE; 9]);
        let irp = build_control(device, 0x22_2000, b"question", &mut output, &mut reply);
        assert_eq!(call("IofCallDriver", &[device as u64, irp as u64]) as u32, 0);
        let seen = seen();
        assert_eq!(seen.input, b"question");
        assert_eq!(seen.parameters, [9, 8, 0x22_2000, 0]);
        assert_eq!(&output, b"answer\xEE\xEE\xEE", "as much as Information says");
        assert_eq!((reply.iosb.status, reply.iosb.information, reply.is_set()), (NtStatus::SUCCESS, 6, true));
    });
}

#[test]
fn buffered_output_never_exceeds_the_sender_s_buffer() {
    with_device(|device| {
        let (mut reply, mut output) = (Reply::new(), [0xEE; 8]);
        let irp = build_control(device, 0x22_2000, b"longer question", &mut output[..3], &mut reply);
        call("IofCallDriver", &[device as u64, irp as u64]);
        assert_eq!(&output, b"ans\xEE\xEE\xEE\xEE\xEE");
    });
}

#[proves("K-066")]
#[test]
fn neither_control_passes_the_sender_s_addresses() {
    with_device(|device| {
        let (mut reply, mut output) = (Reply::new(), [0; 4]);
        let input = *b"in";
        let irp = build_control(device, 0x22_2003, &input, &mut output, &mut reply);
        call("IofCallDriver", &[device as u64, irp as u64]);
        let seen = seen();
        assert_eq!(seen.parameters[3], input.as_ptr() as u64);
        assert_eq!(seen.user_buffer, output.as_ptr() as u64);
    });
}

#[proves("C-572", "K-063", "K-065")]
#[test]
fn error_at_once_touches_neither_event_nor_block() {
    with_device(|device| {
        ANSWER.store(NtStatus::INVALID_PARAMETER.0, Ordering::SeqCst);
        let mut reply = Reply::new();
        let irp = build_control(device, 0x22_2003, b"", &mut [], &mut reply);
        let status = call("IofCallDriver", &[device as u64, irp as u64]) as u32;
        assert_eq!(NtStatus(status), NtStatus::INVALID_PARAMETER);
        assert_eq!((reply.iosb.status, reply.is_set()), (NtStatus(0xDEAD_BEEF), false));
    });
}

#[proves("C-572")]
#[test]
fn error_after_pending_reaches_event_and_block() {
    with_device(|device| {
        ANSWER.store(NtStatus::PENDING.0, Ordering::SeqCst);
        let mut reply = Reply::new();
        let irp = build_control(device, 0x22_2003, b"", &mut [], &mut reply);
        assert_eq!(NtStatus(call("IofCallDriver", &[device as u64, irp as u64]) as u32), NtStatus::PENDING);
        assert!(!reply.is_set());
        let kept = KEPT.lock().expect("no panic").pop().expect("the packet");
        // SAFETY: the device holds the packet.
        unsafe { completion::complete_with(kept as *mut Irp, NtStatus::CONNECTION_RESET, 0) };
        assert_eq!((reply.iosb.status, reply.is_set()), (NtStatus::CONNECTION_RESET, true));
    });
}

unsafe extern "win64" fn stop(_device: *mut DeviceObject, _irp: *mut Irp, _context: u64) -> NtStatus {
    NtStatus::MORE_PROCESSING_REQUIRED
}

#[proves("K-064b", "K-041")]
#[test]
fn sender_that_stopped_its_request_finishes_it_by_completing_it_again() {
    with_device(|device| {
        let mut reply = Reply::new();
        let irp = build_control(device, 0x22_2003, b"", &mut [], &mut reply);
        // SAFETY: the test's packet.
        unsafe {
            let location = irp::next_location(irp);
            (*location).completion_routine = stop as *const () as u64;
            (*location).control = control::INVOKE_ON_SUCCESS | control::INVOKE_ON_ERROR | control::INVOKE_ON_CANCEL;
        }
        call("IofCallDriver", &[device as u64, irp as u64]);
        assert!(!reply.is_set(), "the sender has it");
        assert_eq!(call("IoCancelIrp", &[irp as u64]) as u8, 0, "it surely exists");
        call("IofCompleteRequest", &[irp as u64, 0]);
        assert!(reply.is_set());
    });
}

#[proves("K-024", "K-025")]
#[test]
fn packet_built_for_a_write_is_the_driver_s_to_free() {
    with_device(|device| {
        // SAFETY: the test's device.
        unsafe { (*device).flags |= device_flags::BUFFERED_IO };
        let offset = 0x1_2345_6789u64;
        let arguments =
            [4, device as u64, b"data".as_ptr() as u64, 4, ptr::from_ref(&offset) as u64, 0].map(|word: u64| word);
        let irp = call("IoBuildAsynchronousFsdRequest", &arguments) as *mut Irp;
        // SAFETY: the test's packet; its routine keeps it.
        unsafe {
            let location = irp::next_location(irp);
            (*location).completion_routine = stop as *const () as u64;
            (*location).control = control::INVOKE_ON_SUCCESS;
        }
        call("IofCallDriver", &[device as u64, irp as u64]);
        let seen = seen();
        assert_eq!((seen.major, seen.input.as_slice()), (MajorFunction::WRITE.0, &b"data"[..]));
        assert_eq!(seen.parameters, [4, 0, offset, 0]);
        call("IoFreeIrp", &[irp as u64]);
    });
}

#[test]
fn requests_by_handle_wait_on_a_synchronous_file() {
    with_device(|device| {
        // SAFETY: the test's device.
        unsafe { (*device).flags |= device_flags::BUFFERED_IO };
        let handle = open(0x20);
        let mut iosb = IoStatusBlock::new(NtStatus::PENDING, 0);
        let mut buffer = [0u8; 6];
        let (iosb_at, buffer_at) = (ptr::from_mut(&mut iosb) as u64, buffer.as_mut_ptr() as u64);
        let status = call("ZwReadFile", &[handle.0, 0, 0, 0, iosb_at, buffer_at, 6, 0, 0]) as u32;
        assert_eq!((NtStatus(status), iosb.information, &buffer), (NtStatus::SUCCESS, 6, b"answer"));
        let control = [handle.0, 0, 0, 0, iosb_at, 0x22_2000, b"q".as_ptr() as u64, 1, buffer_at, 6];
        assert_eq!(call("ZwDeviceIoControlFile", &control) as u32, 0);
        assert_eq!(seen().input, b"q");
        assert_eq!(file::close(handle), NtStatus::SUCCESS);
    });
}

#[proves("C-143")]
#[test]
fn asynchronous_request_by_handle_keeps_the_file_until_it_is_complete() {
    with_device(|_device| {
        let handle = open(0);
        ANSWER.store(NtStatus::PENDING.0, Ordering::SeqCst);
        let mut iosb = Box::new(IoStatusBlock::new(NtStatus::PENDING, 0));
        let iosb_at = ptr::from_mut(&mut *iosb) as u64;
        let status = call("ZwReadFile", &[handle.0, 0, 0, 0, iosb_at, 0, 0, 0, 0]) as u32;
        assert_eq!(NtStatus(status), NtStatus::PENDING);
        let kept = KEPT.lock().expect("no panic").pop().expect("the packet") as *mut Irp;
        // SAFETY: the device holds the packet.
        let file = unsafe { (*irp::current_location(kept)).file_object };
        assert_eq!(file::close(handle), NtStatus::SUCCESS);
        assert!(nt_object::is_live(file as u64), "the request holds the file");
        // SAFETY: as above.
        unsafe { completion::complete_with(kept, NtStatus::SUCCESS, 0) };
        assert!(!nt_object::is_live(file as u64));
        assert_eq!(iosb.status, NtStatus::SUCCESS);
    });
}

fn attributes_of(name: &mut [u16], root: Handle) -> (Box<UnicodeString>, ObjectAttributes) {
    let bytes = (name.len() * 2) as u16;
    let mut string =
        Box::new(UnicodeString { length: bytes, maximum_length: bytes, _pad: 0, buffer: name.as_mut_ptr() });
    let object_name = &raw mut *string;
    let attributes = ObjectAttributes {
        length: 0x30,
        _pad: 0,
        root_directory: root,
        object_name,
        attributes: attributes::KERNEL_HANDLE | attributes::CASE_INSENSITIVE,
        _pad2: 0,
        security_descriptor: 0,
        security_quality_of_service: 0,
    };
    (string, attributes)
}

#[test]
fn file_is_opened_relative_to_another() {
    with_device(|_device| {
        let root = open(0);
        let mut name = utf16("below");
        let (_string, attributes) = attributes_of(&mut name, root);
        let (mut handle, mut iosb) = (Handle(0), IoStatusBlock::new(NtStatus::PENDING, 0));
        let (handle_at, iosb_at) = (ptr::from_mut(&mut handle) as u64, ptr::from_mut(&mut iosb) as u64);
        let status = call("ZwOpenFile", &[handle_at, 0, ptr::from_ref(&attributes) as u64, iosb_at, 0, 0]) as u32;
        assert_eq!(NtStatus(status), NtStatus::SUCCESS);
        let (file, _) = nt_object::reference_by_handle(handle, None).expect("the file");
        let mut buffer = [0u64; 64];
        let mut needed = 0u32;
        let at = buffer.as_mut_ptr() as u64;
        let needed_at = ptr::from_mut(&mut needed) as u64;
        assert_eq!(call("ObQueryNameString", &[file, at, 512, needed_at]) as u32, 0);
        let name = gate::memory::read_unicode(at).expect("the name");
        assert_eq!(String::from_utf16_lossy(&name), r"\Device\Requestsbelow");
        let status = call("ObQueryNameString", &[file, at, 8, needed_at]) as u32;
        assert_eq!((NtStatus(status), needed), (NtStatus::INFO_LENGTH_MISMATCH, 16 + (21 + 1) * 2));
        nt_object::dereference(file);
        file::close(handle);
        file::close(root);
    });
}

#[test]
fn names_of_files_survive_what_filters_write_into_them() {
    with_device(|_device| {
        let handle = open(0);
        let (body, _) = nt_object::reference_by_handle(handle, None).expect("the file");
        let file = body as *mut nt_abi::FileObject;
        let (mut buffer, mut needed) = ([0u64; 64], 0u32);
        let at = [body, buffer.as_mut_ptr() as u64, 512, ptr::from_mut(&mut needed) as u64];
        let query = || NtStatus(call("ObQueryNameString", &at) as u32);
        let mut long = vec![u16::from(b'n'); 0x7FFE];
        // SAFETY: the test's file object; both fields are put back.
        unsafe {
            let (device, name) = ((*file).device_object, (*file).file_name);
            (*file).device_object = file.cast();
            assert_eq!((query(), needed), (NtStatus::SUCCESS, 16), "a file is no device and has no name");
            (*file).device_object = device;
            (*file).file_name =
                UnicodeString { length: 0xFFFC, maximum_length: 0xFFFC, buffer: long.as_mut_ptr(), ..name };
            assert_eq!(query(), NtStatus::NAME_TOO_LONG);
            (*file).file_name = name;
        }
        nt_object::dereference(body);
        file::close(handle);
    });
}

#[test]
fn circle_of_devices_has_a_lowest_one() {
    with_device(|device| {
        let address = device as u64;
        assert_eq!(call("IoAttachDeviceToDeviceStack", &[address, address]), address);
        assert_eq!(call("IoGetDeviceAttachmentBaseRef", &[address]), address);
        nt_object::dereference(address);
        call("IoDetachDevice", &[address]);
    });
}

#[test]
fn packet_past_its_127th_location_has_none_left_to_complete() {
    with_device(|_device| {
        let bytes = size_of::<Irp>() + 128 * size_of::<nt_abi::IoStackLocation>();
        let mut memory = vec![0u64; bytes / 8];
        let irp = memory.as_mut_ptr().cast::<Irp>();
        call("IoInitializeIrp", &[irp as u64, bytes as u64, 127]);
        // SAFETY: the memory above; a location's worth lies behind the packet's last.
        unsafe {
            let behind = (*irp).current_stack_location;
            (*behind).control = control::PENDING_RETURNED;
            (*irp).current_location = (*irp).current_location.wrapping_sub(1);
            (*irp).current_stack_location = behind.sub(1);
            (*irp).io_status = IoStatusBlock::new(NtStatus::SUCCESS, 0);
            completion::complete(irp);
            assert_eq!((*irp).current_stack_location, behind);
            assert_eq!((*behind).control, control::PENDING_RETURNED, "what lies behind is nobody's location");
        }
    });
}

#[proves("K-158")]
#[test]
fn driver_is_referenced_by_name_in_any_case_and_by_type() {
    with_device(|device| {
        let mut name = utf16(r"\DRIVER\Calling");
        let (string, _) = attributes_of(&mut name, Handle(0));
        let string = ptr::from_ref(&*string) as u64;
        let mut object = 0u64;
        let at = ptr::from_mut(&mut object) as u64;
        let driver_type = nt_io::driver::DRIVER.block();
        let by_name =
            |kind: u64| NtStatus(call("ObReferenceObjectByName", &[string, 0x40, 0, 0, kind, 0, 0, at]) as u32);
        assert_eq!(by_name(driver_type), NtStatus::SUCCESS);
        // SAFETY: the test's device.
        assert_eq!(object, unsafe { (*device).driver_object } as u64);
        assert_eq!(nt_object::pointer_count(object), Some(2));
        nt_object::dereference(object);
        assert_eq!(by_name(nt_io::file::FILE.block()), NtStatus::OBJECT_TYPE_MISMATCH);
        assert_eq!(nt_object::pointer_count(object), Some(1));
    });
}

#[proves("K-092", "K-094", "K-096", "K-097")]
#[test]
fn attached_device_is_found_from_both_sides_until_it_is_detached() {
    with_device(|lower| {
        // SAFETY: live devices of the test.
        unsafe {
            let new = nt_io::device::NewDevice {
                driver: (*lower).driver_object,
                extension: 0,
                name: None,
                device_type: 0x12,
                characteristics: 0,
                exclusive: false,
            };
            let upper = nt_io::device::create(&new, 0).expect("a device");
            assert_eq!(call("IoAttachDeviceToDeviceStack", &[upper as u64, lower as u64]), lower as u64);
            assert_eq!((*upper).stack_size, (*lower).stack_size + 1);
            assert_eq!(call("IoGetAttachedDeviceReference", &[lower as u64]), upper as u64);
            assert_eq!(nt_object::pointer_count(upper as u64), Some(2));
            nt_object::dereference(upper as u64);
            assert_eq!(call("IoGetLowerDeviceObject", &[upper as u64]), lower as u64);
            nt_object::dereference(lower as u64);
            call("IoDetachDevice", &[lower as u64]);
            assert_eq!(call("IoGetAttachedDevice", &[lower as u64]), lower as u64);
            assert_eq!(call("IoGetLowerDeviceObject", &[upper as u64]), 0);
            nt_io::device::delete(upper);
        }
    });
}

#[test]
fn link_is_opened_and_tells_its_target() {
    with_device(|_device| {
        let (mut link, target) = (utf16(r"\??\RequestsLink"), utf16(r"\Device\Requests"));
        nt_object::insert_link(&link, &target, 1).expect("a free name");
        let (_string, attributes) = attributes_of(&mut link, Handle(0));
        let mut handle = Handle(0);
        let arguments = [ptr::from_mut(&mut handle) as u64, 1, ptr::from_ref(&attributes) as u64];
        assert_eq!(call("ZwOpenSymbolicLinkObject", &arguments) as u32, 0);
        let mut room = [0u16; 40];
        let (mut string, _) = attributes_of(&mut room, Handle(0));
        let at = ptr::from_mut(&mut *string) as u64;
        assert_eq!(call("ZwQuerySymbolicLinkObject", &[handle.0, at, 0]) as u32, 0);
        assert_eq!(gate::memory::read_unicode(at), Ok(target));
        string.maximum_length = 4;
        let status = call("ZwQuerySymbolicLinkObject", &[handle.0, at, 0]) as u32;
        assert_eq!(NtStatus(status), NtStatus::BUFFER_TOO_SMALL);
        file::close(handle);
        nt_object::remove(&link).expect("the link");
    });
}

#[test]
#[proves("K-020", "K-035")]
fn packet_of_127_locations_goes_down_all_of_them_and_back() {
    unsafe extern "win64" fn pass_on(device: *mut DeviceObject, irp: *mut Irp) -> NtStatus {
        // SAFETY: a live device and a packet that was sent to it.
        unsafe {
            if (*irp).current_location == 1 {
                return completion::complete_with(irp, NtStatus::SUCCESS, 0);
            }
            *irp::next_location(irp) =
                nt_abi::IoStackLocation { control: 0, completion_routine: 0, ..*irp::current_location(irp) };
            irp::call_driver(device, irp)
        }
    }
    unsafe extern "win64" fn keep(_device: u64, _irp: u64, _context: u64) -> NtStatus {
        NtStatus::MORE_PROCESSING_REQUIRED
    }
    with_device(|device| {
        let irp = irp::allocate(127, irp::Owner::Driver, 0).expect("a packet");
        // SAFETY: a live device, and a packet of this test.
        unsafe {
            (*(*device).driver_object).major_function = [pass_on as *const () as u64; MAJOR_FUNCTIONS];
            assert_eq!(((*irp).stack_count, (*irp).current_location as u8), (127, 128));
            let location = irp::next_location(irp);
            (*location).completion_routine = keep as *const () as u64;
            (*location).control = nt_abi::io::control::INVOKE_ON_SUCCESS;
            assert_eq!(irp::call_driver(device, irp), NtStatus::SUCCESS);
            assert_eq!((*irp).current_location as u8, 128);
        }
        irp::free(irp);
    });
    assert!(irp::allocate(-1, irp::Owner::Driver, 0).is_none());
}

#[test]
#[proves("K-085")]
fn device_extension_may_be_larger_than_the_size_field_can_say() {
    with_device(|device| {
        const BYTES: u32 = 200_000;
        // SAFETY: the driver of a live device; the extension is the new device's.
        unsafe {
            let driver = (*device).driver_object;
            let (device_type, characteristics, exclusive) = (0x12, 0, false);
            let new = NewDevice { driver, extension: BYTES, name: None, device_type, characteristics, exclusive };
            let large = device::create(&new, 0).expect("a device");
            ((*large).device_extension as *mut u8).write_bytes(7, BYTES as usize);
            assert_eq!((*large).size, (size_of::<DeviceObject>() + BYTES as usize) as u16);
            device::delete(large);
        }
    });
}

#[test]
#[proves("K-043", "K-122")]
fn completion_while_a_spin_lock_is_held_is_a_finding() {
    const CHILD: &str = "DRYDOCK_TEST_CHILD";
    if std::env::var_os(CHILD).is_none() {
        let name = "completion_while_a_spin_lock_is_held_is_a_finding";
        let this = std::process::Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .output()
            .expect("this program can be started again");
        let said = String::from_utf8_lossy(&this.stderr);
        assert!(this.status.success(), "{said}");
        assert_eq!(said.matches("finding K-043 ").count(), 1, "{said}");
        return;
    }
    with_device(|device| {
        let mut lock = 0u64;
        let kept = || {
            ANSWER.store(NtStatus::PENDING.0, Ordering::SeqCst);
            let irp = irp::allocate(1, irp::Owner::Thread, 0).expect("a packet");
            // SAFETY: a live device and a new packet.
            unsafe {
                (*irp::next_location(irp)).major_function = MajorFunction::DEVICE_CONTROL;
                assert_eq!(irp::call_driver(device, irp), NtStatus::PENDING);
                (*irp).io_status.status = NtStatus::SUCCESS;
            }
            KEPT.lock().expect("no panic").pop().expect("the packet")
        };
        let [first, second] = [kept(), kept()];
        // SAFETY: a lock of this test.
        unsafe {
            let level = nt_dispatcher::spin::acquire_raise(&mut lock);
            call("IofCompleteRequest", &[first, 0]);
            nt_dispatcher::spin::release_lower(&mut lock, level);
        }
        call("IofCompleteRequest", &[second, 0]);
    });
}
