//! What the requests of a file object's life look like to the device, and what the counts hold.

mod calling;

use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use calling::{call, on_kernel_thread};
use nt_abi::dispatcher::DispatcherType;
use nt_abi::io::{MAJOR_FUNCTIONS, control, device_flags, irp_flags};
use nt_abi::object::attributes;
use nt_abi::{DeviceObject, Handle, IoStatusBlock, Irp, Irql, KernelEvent, MajorFunction, NtStatus};
use nt_dispatcher::{event, work};
use nt_io::file::{self, FILE, Open};
use nt_io::{completion, irp};
use proves::proves;

/// A request as the device saw it.
#[derive(Clone, Debug)]
struct Seen {
    major: MajorFunction,
    parameters: [u64; 4],
    mdl: u64,
    flags: u32,
    has_event: bool,
    iosb_is_its_own: bool,
    thread: u64,
    file: u64,
    original_file: u64,
    running_on: u64,
    level: Irql,
}

static SEEN: Mutex<Vec<Seen>> = Mutex::new(Vec::new());
static KEPT: Mutex<Vec<u64>> = Mutex::new(Vec::new());
/// Whether CLEANUP and CLOSE are pended and completed by a worker, with an error.
static PENDS: AtomicBool = AtomicBool::new(false);

unsafe extern "win64" fn dispatch(_device: *mut DeviceObject, irp: *mut Irp) -> NtStatus {
    // SAFETY: called as a dispatch routine.
    unsafe {
        let location = *irp::current_location(irp);
        let major = location.major_function;
        SEEN.lock().expect("no panic").push(Seen {
            major,
            parameters: location.parameters,
            mdl: (*irp).mdl_address as u64,
            flags: (*irp).flags,
            has_event: !(*irp).user_event.is_null(),
            iosb_is_its_own: ptr::eq((*irp).user_iosb, &raw const (*irp).io_status),
            thread: (*irp).thread,
            file: location.file_object as u64,
            original_file: (*irp).original_file_object as u64,
            running_on: gate::thread::current_thread_object(),
            level: gate::irql(),
        });
        if major == MajorFunction::DEVICE_CONTROL || major == MajorFunction::INTERNAL_DEVICE_CONTROL {
            irp::mark_pending(irp);
            KEPT.lock().expect("no panic").push(irp as u64);
            return NtStatus::PENDING;
        }
        if major != MajorFunction::CREATE && PENDS.load(Ordering::SeqCst) {
            irp::mark_pending(irp);
            let irp = irp as u64;
            work::queue(Box::new(move || {
                completion::complete_with(irp as *mut Irp, NtStatus::UNSUCCESSFUL, 7);
            }));
            return NtStatus::PENDING;
        }
        completion::complete_with(irp, NtStatus::SUCCESS, 0)
    }
}

fn with_device(test: fn(*mut DeviceObject)) {
    static TEST: Mutex<Option<fn(*mut DeviceObject)>> = Mutex::new(None);
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    *TEST.lock().expect("no panic") = Some(test);
    on_kernel_thread(|| {
        SEEN.lock().expect("no panic").clear();
        PENDS.store(false, Ordering::SeqCst);
        let device = calling::device(r"\Device\FileRules");
        // SAFETY: a live device of the test.
        unsafe {
            (*(*device).driver_object).major_function = [dispatch as *const () as u64; MAJOR_FUNCTIONS];
            (*device).flags &= !device_flags::DEVICE_INITIALIZING;
        }
        let test = TEST.lock().expect("no panic").take().expect("set above");
        test(device);
        calling::delete(device);
    });
}

fn open(access: u32) -> Handle {
    let name: Vec<u16> = r"\Device\FileRules".encode_utf16().collect();
    let open = Open {
        name: &name,
        attributes: attributes::KERNEL_HANDLE,
        access,
        options: 0,
        file_attributes: 0,
        share: 0,
        ea: (0, 0),
    };
    let opened = file::open(&open, 0);
    assert_eq!(opened.status, NtStatus::SUCCESS);
    opened.handle
}

fn seen() -> Vec<Seen> {
    std::mem::take(&mut *SEEN.lock().expect("no panic"))
}

fn majors() -> Vec<MajorFunction> {
    seen().iter().map(|request| request.major).collect()
}

fn reference(handle: Handle, access: u32, kind: u64, mode: u64) -> (NtStatus, u64) {
    let mut object = 0u64;
    let arguments = [handle.0, access.into(), kind, mode, ptr::from_mut(&mut object) as u64, 0];
    (NtStatus(call("ObReferenceObjectByHandle", &arguments) as u32), object)
}

#[proves("C-126", "C-127", "C-128")]
#[test]
fn kernel_mode_reference_checks_neither_access_nor_a_type_that_is_null() {
    with_device(|device| {
        const READ_EA: u32 = 0x8;
        const WRITE_EA: u32 = 0x10;
        let handle = open(READ_EA | WRITE_EA);
        for access in [0, READ_EA, 0xC000_0000] {
            for kind in [0, FILE.block()] {
                let (status, object) = reference(handle, access, kind, 0);
                assert_eq!(status, NtStatus::SUCCESS);
                nt_object::dereference(object);
            }
        }
        for mode in [0, 1] {
            let device_type = nt_io::device::DEVICE.block();
            assert_eq!(reference(handle, 0, device_type, mode).0, NtStatus::OBJECT_TYPE_MISMATCH);
            assert_eq!(reference(Handle(device as u64), 0, FILE.block(), mode).0, NtStatus::INVALID_HANDLE);
        }
        assert_eq!(reference(handle, 0xC000_0000, FILE.block(), 1).0, NtStatus::ACCESS_DENIED, "for user mode it does");
        assert_eq!(file::close(handle), NtStatus::SUCCESS);
        assert_eq!(reference(handle, 0, 0, 0).0, NtStatus::INVALID_HANDLE);
    });
}

#[proves("C-080", "C-129")]
#[test]
fn files_are_opened_and_closed_and_handles_resolved_at_passive_level() {
    let limit = |name: &str| {
        let mut rows = nt_io::TABLES.iter().copied().flatten();
        rows.find(|row| row.name == name).map(|row| row.irql_max)
    };
    // The import stubs report a call above these levels (`gate::stub`).
    let at_passive = ["ZwCreateFile", "ZwOpenFile", "IoGetDeviceObjectPointer", "ObReferenceObjectByHandle"].map(limit);
    assert_eq!(at_passive, [Some(Irql::PASSIVE); 4]);
    assert_eq!(limit("ObfDereferenceObject"), Some(Irql::DISPATCH));
    with_device(|_device| {
        let handle = open(0);
        let (status, object) = reference(handle, 0, 0, 0);
        assert_eq!(status, NtStatus::SUCCESS);
        file::close(handle);
        gate::set_irql(Irql::DISPATCH);
        nt_object::reference(object);
        call("ObfDereferenceObject", &[object]);
        gate::set_irql(Irql::PASSIVE);
        nt_object::dereference(object);
        let levels: Vec<_> = seen().iter().map(|request| (request.major, request.level)).collect();
        let passive = |major| (major, Irql::PASSIVE);
        assert_eq!(levels, [MajorFunction::CREATE, MajorFunction::CLEANUP, MajorFunction::CLOSE].map(passive));
    });
}

#[proves("C-129", "C-141")]
#[test]
fn handle_closed_at_dispatch_level_is_cleaned_up_at_passive_level() {
    with_device(|_device| {
        let handle = open(0);
        seen();
        gate::set_irql(Irql::DISPATCH);
        assert_eq!(NtStatus(call("ZwClose", &[handle.0]) as u32), NtStatus::SUCCESS);
        assert_eq!(gate::irql(), Irql::DISPATCH, "the caller's level is restored");
        gate::set_irql(Irql::PASSIVE);
        let levels: Vec<_> = seen().iter().map(|request| request.level).collect();
        assert_eq!(levels, [Irql::PASSIVE; 2], "cleanup and close");
    });
}

#[proves("C-148", "C-149")]
#[test]
fn cleanup_and_close_look_as_nt_builds_them() {
    with_device(|_device| {
        let handle = open(0);
        let (body, _) = nt_object::reference_by_handle(handle, None).expect("the file");
        seen();
        file::close(handle);
        nt_object::dereference(body);
        let requests = seen();
        assert_eq!(
            requests.iter().map(|seen| seen.major).collect::<Vec<_>>(),
            [MajorFunction::CLEANUP, MajorFunction::CLOSE]
        );
        for request in requests {
            assert_eq!(request.file, body, "{request:?}");
            assert_eq!(request.original_file, body, "{request:?}");
            assert_eq!((request.parameters, request.mdl), ([0; 4], 0), "{request:?}");
            let wanted = irp_flags::CLOSE_OPERATION | irp_flags::SYNCHRONOUS_API;
            assert_eq!(request.flags & wanted, wanted, "{request:?}");
            assert!(request.has_event && request.iosb_is_its_own, "{request:?}");
            assert_eq!(request.thread, request.running_on, "{request:?}");
        }
    });
}

#[proves("C-140")]
#[test]
fn cleanup_runs_on_the_thread_that_closed_the_last_handle() {
    with_device(|_device| {
        let handle = open(0);
        seen();
        let closing = std::thread::spawn(move || {
            nt_dispatcher::thread::adopt_current().expect("a kernel thread");
            file::close(handle);
            gate::thread::current_thread_object()
        });
        let closed_by = closing.join().expect("the closing thread");
        assert_eq!(seen()[0].running_on, closed_by);
    });
}

#[proves("C-150")]
#[test]
fn pended_cleanup_and_close_are_waited_for_and_their_status_is_ignored() {
    with_device(|_device| {
        let handle = open(0);
        seen();
        PENDS.store(true, Ordering::SeqCst);
        assert_eq!(file::close(handle), NtStatus::SUCCESS);
        assert_eq!(majors(), [MajorFunction::CLEANUP, MajorFunction::CLOSE]);
        let mut left = 0;
        irp::for_each_live(|_, _| left += 1);
        assert_eq!(left, 0, "the I/O manager freed both");
    });
}

/// Builds a control request for a device.
fn build_control(device: *mut DeviceObject, event: &mut KernelEvent, iosb: &mut IoStatusBlock) -> *mut Irp {
    // SAFETY: the event is the caller's.
    unsafe { event::initialize(event, DispatcherType::NOTIFICATION_EVENT, false) };
    let places = [ptr::from_mut(event) as u64, ptr::from_mut(iosb) as u64];
    let arguments = [0x3, device as u64, 0, 0, 0, 0, 1, places[0], places[1]];
    call("IoBuildDeviceIoControlRequest", &arguments) as *mut Irp
}

/// Builds a control request and sends it; the device keeps it.
fn send_control(device: *mut DeviceObject, event: &mut KernelEvent, iosb: &mut IoStatusBlock) -> *mut Irp {
    let irp = build_control(device, event, iosb);
    assert_eq!(NtStatus(call("IofCallDriver", &[device as u64, irp as u64]) as u32), NtStatus::PENDING);
    irp
}

static COMPLETED: AtomicU32 = AtomicU32::new(0);

unsafe extern "win64" fn count_and_keep(_device: *mut DeviceObject, _irp: *mut Irp, _context: u64) -> NtStatus {
    COMPLETED.fetch_add(1, Ordering::SeqCst);
    NtStatus::MORE_PROCESSING_REQUIRED
}

#[proves("C-151", "C-153", "C-143")]
#[test]
fn request_that_a_driver_built_neither_holds_its_file_nor_ends_with_it() {
    with_device(|device| {
        COMPLETED.store(0, Ordering::SeqCst);
        let handle = open(0);
        let (body, _) = nt_object::reference_by_handle(handle, None).expect("the file");
        let counted = nt_object::pointer_count(body);
        // One from IoAllocateIrp and one from IoBuildDeviceIoControlRequest, as TDI clients make them: the file
        // stands in the stack location alone.
        let mut event = Box::new(KernelEvent { header: unsafe_zeroed() });
        let mut iosb = Box::new(IoStatusBlock::new(NtStatus::PENDING, 0));
        let allocated = call("IoAllocateIrp", &[1, 0]) as *mut Irp;
        let built = build_control(device, &mut event, &mut iosb);
        for irp in [allocated, built] {
            // SAFETY: packets of the test's own.
            unsafe {
                let location = irp::next_location(irp);
                (*location).major_function = MajorFunction::INTERNAL_DEVICE_CONTROL;
                (*location).file_object = body as *mut nt_abi::FileObject;
                (*location).completion_routine = count_and_keep as *const () as u64;
                (*location).control = control::INVOKE_ON_SUCCESS | control::INVOKE_ON_ERROR | control::INVOKE_ON_CANCEL;
                assert!((*irp).original_file_object.is_null());
            }
            assert_eq!(NtStatus(call("IofCallDriver", &[device as u64, irp as u64]) as u32), NtStatus::PENDING);
        }
        assert_eq!(nt_object::pointer_count(body), counted, "they hold nothing");
        file::close(handle);
        nt_object::dereference(body);
        assert!(!nt_object::is_live(body));
        let majors: Vec<_> =
            majors().into_iter().filter(|&major| major != MajorFunction::INTERNAL_DEVICE_CONTROL).collect();
        assert_eq!(majors, [MajorFunction::CREATE, MajorFunction::CLEANUP, MajorFunction::CLOSE]);
        let kept = std::mem::take(&mut *KEPT.lock().expect("no panic"));
        assert_eq!(kept, [allocated as u64, built as u64]);
        for irp in kept {
            let irp = irp as *mut Irp;
            // SAFETY: the device holds the packets, and nobody has touched them.
            unsafe {
                assert!(!nt_io::cancel::is_cancelled(irp), "the I/O manager leaves them to the device");
                completion::complete_with(irp, NtStatus::SUCCESS, 0);
            }
        }
        assert_eq!(COMPLETED.load(Ordering::SeqCst), 2);
        call("IoFreeIrp", &[allocated as u64]);
        call("IofCompleteRequest", &[built as u64, 0]);
    });
}

fn unsafe_zeroed() -> nt_abi::DispatcherHeader {
    // SAFETY: all zero is a value of a header.
    unsafe { std::mem::zeroed() }
}

unsafe extern "win64" fn cancel_kept(_device: *mut DeviceObject, irp: *mut Irp) {
    // SAFETY: called as a cancel routine.
    unsafe {
        nt_io::cancel::release_lock(Irql((*irp).cancel_irql));
        completion::complete_with(irp, NtStatus::CANCELLED, 0);
    }
}

#[proves("C-152", "K-067")]
#[test]
fn thread_that_ends_has_its_requests_cancelled() {
    with_device(|device| {
        let device = device as u64;
        let mut event = Box::new(KernelEvent { header: unsafe_zeroed() });
        let mut iosb = Box::new(IoStatusBlock::new(NtStatus::PENDING, 0));
        let places = (ptr::from_mut(&mut *event) as u64, ptr::from_mut(&mut *iosb) as u64);
        let sending = std::thread::spawn(move || {
            nt_dispatcher::thread::adopt_current().expect("a kernel thread");
            // SAFETY: both outlive the thread.
            let (event, iosb) =
                unsafe { (&mut *(places.0 as *mut KernelEvent), &mut *(places.1 as *mut IoStatusBlock)) };
            let irp = send_control(device as *mut DeviceObject, event, iosb);
            // SAFETY: the device keeps the packet.
            unsafe { nt_io::cancel::set_routine(irp, cancel_kept as *const () as u64) };
            irp::end_of_thread(gate::thread::current_thread_object());
        });
        sending.join().expect("the sending thread");
        assert_eq!(KEPT.lock().expect("no panic").pop().map(|_| iosb.status), Some(NtStatus::CANCELLED));
        // SAFETY: initialised by the sender.
        assert_ne!(unsafe { event::read(&mut *event) }, 0);
    });
}
