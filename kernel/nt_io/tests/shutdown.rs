//! IRP_MJ_SHUTDOWN for devices that asked for it.

mod calling;

use std::sync::Mutex;

use calling::{call, delete, device, on_kernel_thread};
use nt_abi::io::device_flags;
use nt_abi::{DeviceObject, Irp, MajorFunction, NtStatus};
use nt_io::device::{self as devices, NewDevice};
use nt_io::{completion, irp, shutdown};

/// The devices that got IRP_MJ_SHUTDOWN, in order.
static TOLD: Mutex<Vec<u64>> = Mutex::new(Vec::new());

unsafe extern "win64" fn dispatch_shutdown(device: *mut DeviceObject, irp: *mut Irp) -> NtStatus {
    // SAFETY: called as a dispatch routine.
    unsafe {
        assert_eq!((*irp::current_location(irp)).major_function, MajorFunction::SHUTDOWN);
        TOLD.lock().expect("no panic").push(device as u64);
        completion::complete_with(irp, NtStatus::SUCCESS, 0)
    }
}

/// A driver with two devices.
fn two_devices() -> [*mut DeviceObject; 2] {
    TOLD.lock().expect("no panic").clear();
    let first = device(r"\Device\First");
    // SAFETY: a device and a driver that the test made.
    unsafe {
        let driver = (*first).driver_object;
        (*driver).major_function[usize::from(MajorFunction::SHUTDOWN.0)] = dispatch_shutdown as *const () as u64;
        let new =
            NewDevice { driver, extension: 0, name: None, device_type: 0x12, characteristics: 0, exclusive: false };
        [first, devices::create(&new, 0).expect("a device")]
    }
}

fn told() -> Vec<u64> {
    std::mem::take(&mut TOLD.lock().expect("no panic"))
}

fn register(device: *mut DeviceObject) {
    assert_eq!(call("IoRegisterShutdownNotification", &[device as u64]) as u32, NtStatus::SUCCESS.0);
}

fn is_registered(device: *mut DeviceObject) -> bool {
    let mut found = false;
    shutdown::for_each_registered(|one, _| found |= one == device);
    found
}

#[test]
fn shutdown_goes_to_the_last_registered_first_and_once() {
    on_kernel_thread(|| {
        let [first, second] = two_devices();
        register(first);
        register(second);
        shutdown::notify(|_| true);
        assert_eq!(told(), [second as u64, first as u64]);
        shutdown::notify(|_| true);
        assert!(told().is_empty());
        // SAFETY: the test's device.
        unsafe { devices::delete(second) };
        delete(first);
    });
}

#[test]
fn last_chance_comes_after_all_others() {
    on_kernel_thread(|| {
        let [first, second] = two_devices();
        register(first);
        assert_eq!(call("IoRegisterLastChanceShutdownNotification", &[second as u64]) as u32, 0);
        shutdown::notify(|_| true);
        assert_eq!(told(), [first as u64, second as u64]);
        // SAFETY: the test's device.
        unsafe { devices::delete(second) };
        delete(first);
    });
}

#[test]
fn shutdown_is_not_sent_to_who_unregistered_or_is_gone() {
    on_kernel_thread(|| {
        let [first, second] = two_devices();
        register(first);
        register(second);
        // SAFETY: the test's device.
        assert_ne!(unsafe { (*first).flags } & device_flags::SHUTDOWN_REGISTERED, 0);
        call("IoUnregisterShutdownNotification", &[first as u64]);
        // SAFETY: the test's device.
        assert_eq!(unsafe { (*first).flags } & device_flags::SHUTDOWN_REGISTERED, 0);
        shutdown::notify(|_| false);
        assert!(told().is_empty());
        assert!(is_registered(second), "its driver is not loaded, so it is left behind");
        // SAFETY: the test's device.
        unsafe { devices::delete(second) };
        assert!(!is_registered(second), "a deleted device is told nothing");
        assert!(!nt_object::is_live(second as u64), "and nothing keeps it");
        delete(first);
    });
}
