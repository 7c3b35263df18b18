//! A filter above a device of the transport: it passes everything down and notes what it saw on the way, both ways.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::{Mutex, MutexGuard, PoisonError};

use nt_abi::io::control;
use nt_abi::{DeviceObject, DriverObject, FileObject, Irp, Irql, MajorFunction, NtStatus};
use nt_io::device::{self, NewDevice};
use nt_io::driver::{self, NewDriver};
use nt_io::irp;

/// A request on its way through the filter.
#[derive(Clone, Debug)]
pub struct Passed {
    pub major: MajorFunction,
    /// The level on the way down.
    pub level: Irql,
    pub file: u64,
    pub parameters: [u64; 4],
    /// `AssociatedIrp.SystemBuffer`, and what lies there for a create's EaLength.
    pub system_buffer: u64,
    pub ea: Vec<u8>,
    /// FsContext and FsContext2 on the way down.
    pub contexts: [u64; 2],
    /// What the transport's dispatch routine returned.
    pub returned: Option<NtStatus>,
    pub ended: Option<Ended>,
}

/// How a request came back to the filter's completion routine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub status: NtStatus,
    pub information: u64,
    /// `PendingReturned`.
    pub was_pending: bool,
    /// The dispatch routine had not returned yet.
    pub before_return: bool,
    pub contexts: [u64; 2],
}

/// One filter at a time: its completion routine gets the request's number here as its context.
static PASSED: Mutex<Vec<Passed>> = Mutex::new(Vec::new());

fn notes() -> MutexGuard<'static, Vec<Passed>> {
    PASSED.lock().unwrap_or_else(PoisonError::into_inner)
}

unsafe fn contexts(file: *mut FileObject) -> [u64; 2] {
    // SAFETY: the caller's file object.
    unsafe { [(*file).fs_context, (*file).fs_context2] }
}

unsafe extern "win64" fn pass_down(device: *mut DeviceObject, irp: *mut Irp) -> NtStatus {
    // SAFETY: called as a dispatch routine: passes a copy of the location on, to the device whose address `over` put
    // into the extension.
    unsafe {
        let below = *((*device).device_extension as *const u64) as *mut DeviceObject;
        let current = irp::current_location(irp);
        let next = irp::next_location(irp);
        *next = *current;
        let is_create = (*current).major_function == MajorFunction::CREATE;
        let system_buffer = (*irp).system_buffer;
        let ea = match (*current).parameters[3] as u32 as usize {
            length if is_create && system_buffer != 0 => {
                std::slice::from_raw_parts(system_buffer as *const u8, length).to_vec()
            }
            _ => Vec::new(),
        };
        let passed = Passed {
            major: (*current).major_function,
            level: gate::irql(),
            file: (*current).file_object as u64,
            parameters: (*current).parameters,
            system_buffer,
            ea,
            contexts: contexts((*current).file_object),
            returned: None,
            ended: None,
        };
        let number = {
            let mut notes = notes();
            notes.push(passed);
            notes.len() - 1
        };
        (*next).completion_routine = come_back as *const () as u64;
        (*next).context = number as u64;
        (*next).control = control::INVOKE_ON_SUCCESS | control::INVOKE_ON_ERROR | control::INVOKE_ON_CANCEL;
        let returned = irp::call_driver(below, irp);
        notes()[number].returned = Some(returned);
        returned
    }
}

unsafe extern "win64" fn come_back(_device: *mut DeviceObject, irp: *mut Irp, number: u64) -> NtStatus {
    // SAFETY: called as a completion routine.
    unsafe {
        let was_pending = (*irp).pending_returned != 0;
        if was_pending {
            irp::mark_pending(irp);
        }
        let passed = &mut notes()[number as usize];
        assert_eq!(passed.ended, None, "completed twice");
        passed.ended = Some(Ended {
            status: (*irp).io_status.status,
            information: (*irp).io_status.information,
            was_pending,
            before_return: passed.returned.is_none(),
            contexts: contexts(passed.file as *mut FileObject),
        });
    }
    NtStatus::SUCCESS
}

/// A driver whose device passes everything to the one below it.
pub struct Filter {
    driver: *mut DriverObject,
    pub device: *mut DeviceObject,
    below: *mut DeviceObject,
}

impl Filter {
    /// A filter above the device of this name.
    pub fn on(name: &str) -> Self {
        let name: Vec<u16> = name.encode_utf16().collect();
        Self::over(nt_object::lookup(&name).expect("the device").body as *mut DeviceObject)
    }

    /// A filter above this device.
    pub fn over(target: *mut DeviceObject) -> Self {
        notes().clear();
        let driver = driver::create(&NewDriver { name: "filter", image: (0, 0), entry: 0 }).expect("a driver object");
        let new = NewDevice {
            driver,
            extension: size_of::<u64>() as u32,
            name: None,
            device_type: 0x12,
            characteristics: 0,
            exclusive: false,
        };
        // SAFETY: the driver object just made and a live device.
        unsafe {
            (*driver).major_function.fill(pass_down as *const () as u64);
            let device = device::create(&new, 0).expect("a device");
            let extension = (*device).device_extension as *mut u64;
            let below = device::attach(device, target, |below| *extension = below as u64);
            assert!(!below.is_null(), "attached");
            Self { driver, device, below }
        }
    }

    /// What has gone through since the last call, in order. Nothing may be under way.
    pub fn passed(&self) -> Vec<Passed> {
        let passed = std::mem::take(&mut *notes());
        assert!(passed.iter().all(|passed| passed.ended.is_some()), "{passed:?}");
        passed
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        let name: Vec<u16> = r"\Driver\filter".encode_utf16().collect();
        // SAFETY: all are alive.
        unsafe {
            device::detach(self.below);
            device::delete(self.device);
            nt_object::remove(&name).expect("the driver's name");
            nt_object::dereference(self.driver as u64);
        }
    }
}
