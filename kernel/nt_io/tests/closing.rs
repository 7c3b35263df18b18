//! Opens, cleanup and close against a driver of the test, through real win64 dispatch routines.

use std::cell::UnsafeCell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use nt_abi::io::control;
use nt_abi::object::attributes;
use nt_abi::{DeviceObject, DriverObject, Handle, Irp, Irql, MajorFunction, NtStatus};
use nt_dispatcher::work;
use nt_io::device::NewDevice;
use nt_io::driver::NewDriver;
use nt_io::file::{self, FILE, Open};
use nt_io::irp::Owner;
use nt_io::{cancel, completion, device, driver, irp};
use proves::proves;

/// What the test's driver saw, in order.
static SEEN: Mutex<Vec<MajorFunction>> = Mutex::new(Vec::new());
static CREATE_STATUS: AtomicU32 = AtomicU32::new(0);
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

unsafe extern "win64" fn dispatch(_device: *mut DeviceObject, irp: *mut Irp) -> NtStatus {
    // SAFETY: called as a dispatch routine.
    unsafe {
        let major = (*irp::current_location(irp)).major_function;
        assert_eq!(gate::irql(), Irql::PASSIVE, "{major:?}");
        SEEN.lock().expect("no panic").push(major);
        let status = if major == MajorFunction::CREATE {
            NtStatus(CREATE_STATUS.load(Ordering::SeqCst))
        } else {
            NtStatus::SUCCESS
        };
        completion::complete_with(irp, status, 0)
    }
}

fn utf16(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}

/// A driver with one device, `\Device\Test`.
struct Driver {
    driver: *mut DriverObject,
    device: *mut DeviceObject,
}

impl Driver {
    fn new() -> Self {
        let new = NewDriver { name: "test", image: (0, 0), entry: 0 };
        let driver = driver::create(&new).expect("a driver object");
        let name = utf16(r"\Device\Test");
        // SAFETY: the driver object just made.
        unsafe {
            for major in
                [MajorFunction::CREATE, MajorFunction::CLEANUP, MajorFunction::CLOSE, MajorFunction::DEVICE_CONTROL]
            {
                (*driver).major_function[usize::from(major.0)] = dispatch as *const () as u64;
            }
            let new = NewDevice {
                driver,
                extension: 0,
                name: Some(&name),
                device_type: 0x12,
                characteristics: 0,
                exclusive: false,
            };
            let device = device::create(&new, 0).expect("a device");
            Self { driver, device }
        }
    }

    fn open(&self) -> file::Opened {
        let name = utf16(r"\device\TEST");
        let open = Open {
            name: &name,
            attributes: attributes::KERNEL_HANDLE,
            access: 0,
            options: 0,
            file_attributes: 0,
            share: 0,
            ea: (0, 0),
        };
        file::open(&open, 0)
    }

    /// A handle and a reference, as TDI clients hold them.
    fn open_and_reference(&self) -> (Handle, u64) {
        let opened = self.open();
        assert_eq!(opened.status, NtStatus::SUCCESS);
        let (body, _) = nt_object::reference_by_handle(opened.handle, Some(FILE.block())).expect("the file object");
        (opened.handle, body)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // SAFETY: both are alive.
        unsafe {
            device::delete(self.device);
            nt_object::remove(&utf16(r"\Driver\test")).expect("the driver's name");
            nt_object::dereference(self.driver as u64);
        }
    }
}

fn seen() -> Vec<MajorFunction> {
    std::mem::take(&mut *SEEN.lock().expect("no panic"))
}

fn with_driver(test: fn(&Driver)) {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let run = move || {
        nt_dispatcher::thread::adopt_current().expect("a kernel thread");
        CREATE_STATUS.store(0, Ordering::SeqCst);
        seen();
        let driver = Driver::new();
        test(&driver);
    };
    std::thread::spawn(run).join().expect("the test's thread");
}

#[proves("C-121", "C-133", "C-134", "C-136")]
#[test]
fn handle_first_sends_cleanup_in_close_and_close_in_dereference() {
    with_driver(|driver| {
        let opened = driver.open();
        let handle = opened.handle;
        let (file, _) = nt_object::reference_by_handle(handle, Some(FILE.block())).expect("the file object");
        assert_eq!((nt_object::handle_count(file), nt_object::pointer_count(file)), (Some(1), Some(2)), "one is ours");
        assert_eq!(seen(), [MajorFunction::CREATE]);
        assert_eq!(file::close(handle), NtStatus::SUCCESS);
        assert_eq!(seen(), [MajorFunction::CLEANUP]);
        nt_object::dereference(file);
        assert_eq!(seen(), [MajorFunction::CLOSE]);
        assert!(!nt_object::is_live(file));
    });
}

#[proves("C-135", "C-137", "K-160")]
#[test]
fn reference_first_sends_cleanup_then_close_in_close() {
    with_driver(|driver| {
        let (handle, file) = driver.open_and_reference();
        seen();
        nt_object::dereference(file);
        assert_eq!(seen(), []);
        assert_eq!(file::close(handle), NtStatus::SUCCESS);
        assert_eq!(seen(), [MajorFunction::CLEANUP, MajorFunction::CLOSE]);
    });
}

#[proves("C-139", "C-567")]
#[test]
fn further_handle_delays_cleanup() {
    with_driver(|driver| {
        let (handle, file) = driver.open_and_reference();
        let second = nt_object::insert(file, 0, true, 0).expect("room");
        seen();
        file::close(handle);
        assert_eq!(seen(), []);
        file::close(second);
        assert_eq!(seen(), [MajorFunction::CLEANUP]);
        nt_object::dereference(file);
        assert_eq!(seen(), [MajorFunction::CLOSE]);
    });
}

#[proves("C-081")]
#[test]
fn failed_create_sends_neither_cleanup_nor_close() {
    with_driver(|driver| {
        CREATE_STATUS.store(NtStatus::SHARING_VIOLATION.0, Ordering::SeqCst);
        let opened = driver.open();
        assert_eq!((opened.status, opened.handle), (NtStatus::SHARING_VIOLATION, Handle(0)));
        assert_eq!(seen(), [MajorFunction::CREATE]);
    });
}

#[proves("C-142", "C-141")]
#[test]
fn last_reference_dropped_at_dispatch_level_closes_later_at_passive_level() {
    with_driver(|driver| {
        nt_object::set_deferred_delete(|body, delete| work::queue(Box::new(move || delete(body))));
        let (handle, file) = driver.open_and_reference();
        file::close(handle);
        seen();
        let raised = nt_dispatcher::irql::Raised::to(Irql::DISPATCH);
        nt_object::dereference(file);
        drop(raised);
        work::drain();
        assert_eq!(seen(), [MajorFunction::CLOSE]);
    });
}

#[proves("K-088", "K-104")]
#[test]
fn deleted_device_lives_until_its_last_file_is_closed() {
    with_driver(|driver| {
        let (handle, file) = driver.open_and_reference();
        nt_object::reference(driver.device as u64);
        // SAFETY: alive; `Driver::drop` deletes it once more, for which the reference above stands in.
        unsafe { device::delete(driver.device) };
        assert_eq!(driver.open().status, NtStatus::OBJECT_NAME_NOT_FOUND);
        seen();
        nt_object::dereference(file);
        file::close(handle);
        assert_eq!(seen(), [MajorFunction::CLEANUP, MajorFunction::CLOSE]);
    });
}

/// A completion routine that keeps the packet and counts.
struct Keeper {
    calls: UnsafeCell<u32>,
}

unsafe extern "win64" fn keep(_device: *mut DeviceObject, irp: *mut Irp, context: *const Keeper) -> NtStatus {
    // SAFETY: the test's own context, used on one thread.
    unsafe {
        *(*context).calls.get() += 1;
        assert_eq!((*irp).io_status.status, NtStatus::SUCCESS);
    }
    NtStatus::MORE_PROCESSING_REQUIRED
}

#[proves("K-020", "K-024", "K-035", "K-038", "K-041", "C-208")]
#[test]
fn packet_kept_by_its_completion_routine_can_be_sent_again_and_freed() {
    with_driver(|driver| {
        let keeper = Keeper { calls: UnsafeCell::new(0) };
        // SAFETY: a packet of our own, sent to our own device.
        unsafe {
            let packet = irp::allocate((*driver.device).stack_size, Owner::Driver, 0).expect("a packet");
            assert_eq!(((*packet).stack_count, (*packet).current_location), (1, 2));
            for round in 1..=2 {
                let location = irp::next_location(packet);
                (*location).major_function = MajorFunction::DEVICE_CONTROL;
                (*location).completion_routine = keep as *const () as u64;
                (*location).context = &raw const keeper as u64;
                (*location).control = control::INVOKE_ON_SUCCESS | control::INVOKE_ON_ERROR | control::INVOKE_ON_CANCEL;
                assert_eq!(irp::call_driver(driver.device, packet), NtStatus::SUCCESS);
                assert_eq!((*keeper.calls.get(), (*packet).current_location), (round, 2));
            }
            irp::free_by_driver(packet);
        }
        let mut left = 0;
        irp::for_each_live(|_, _| left += 1);
        assert_eq!(left, 0);
    });
}

unsafe extern "win64" fn cancel_routine(_device: *mut DeviceObject, irp: *mut Irp) {
    assert_eq!(gate::irql(), Irql::DISPATCH);
    // SAFETY: called as a cancel routine.
    unsafe {
        assert_eq!((*irp).cancel_routine, 0, "the routine was taken out before the call");
        cancel::release_lock(Irql((*irp).cancel_irql));
        (*irp).io_status.information = 77;
    }
}

#[proves("K-070", "K-079", "C-225")]
#[test]
fn cancel_calls_the_routine_once_with_the_lock_held() {
    with_driver(|driver| {
        // SAFETY: a packet of our own whose current location names our device.
        unsafe {
            let packet = irp::allocate(1, Owner::Driver, 0).expect("a packet");
            (*packet).current_location -= 1;
            (*packet).current_stack_location = irp::next_location(packet);
            (*irp::current_location(packet)).device_object = driver.device;
            assert!(!cancel::cancel(packet), "no routine, no call");
            assert!(cancel::is_cancelled(packet));
            cancel::set_routine(packet, cancel_routine as *const () as u64);
            assert!(cancel::cancel(packet));
            assert_eq!(((*packet).io_status.information, gate::irql()), (77, Irql::PASSIVE));
            irp::free_by_driver(packet);
        }
    });
}
