//! Calls exports as a driver does: by name, through win64, on a thread of the kernel.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::{Mutex, PoisonError};

use gate::export::{Export, ExportKind};
use nt_abi::DeviceObject;
use nt_io::device::{self, NewDevice};
use nt_io::driver::{self, NewDriver};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs `test` on a kernel thread of its own; tests of one binary take turns, since they share the namespace.
pub fn on_kernel_thread(test: fn()) {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let run = move || {
        nt_dispatcher::thread::adopt_current().expect("a kernel thread");
        test();
    };
    std::thread::spawn(run).join().expect("the test's thread");
}

fn export(name: &str) -> &'static Export {
    let rows = nt_io::TABLES.iter().copied().flatten();
    rows.into_iter().find(|row| row.name == name).unwrap_or_else(|| panic!("{name} is not exported"))
}

/// Calls an exported function.
#[track_caller]
pub fn call(name: &str, arguments: &[u64]) -> u64 {
    let export = export(name);
    assert!(matches!(export.kind, ExportKind::Function(_)), "{name} is no function");
    // SAFETY: tests pass what the function's row in the table says.
    unsafe { gate::call::call_n(export.address(), arguments) }
}

/// A driver of the test with one device; both go with [`delete`].
pub fn device(name: &str) -> *mut DeviceObject {
    let driver = driver::create(&NewDriver { name: "calling", image: (0, 0), entry: 0 }).expect("a driver object");
    let name: Vec<u16> = name.encode_utf16().collect();
    let new =
        NewDevice { driver, extension: 0, name: Some(&name), device_type: 0x12, characteristics: 0, exclusive: false };
    // SAFETY: the driver object just made.
    unsafe { device::create(&new, 0).expect("a device") }
}

/// Takes a device and its driver away.
pub fn delete(device: *mut DeviceObject) {
    // SAFETY: both are alive.
    unsafe {
        let driver = (*device).driver_object;
        device::delete(device);
        let name: Vec<u16> = r"\Driver\calling".encode_utf16().collect();
        nt_object::remove(&name).expect("the driver's name");
        nt_object::dereference(driver as u64);
    }
}
