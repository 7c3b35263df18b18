//! Driver objects: making them, starting and unloading drivers (K-087 to K-090, K-101 to K-103).

use gate::fault::Stage;
use nt_abi::io::{DriverExtension, MAJOR_FUNCTIONS, device_flags};
use nt_abi::{DeviceObject, DriverObject, Irp, NtStatus, UnicodeString};
use nt_dispatcher::thread;
use nt_object::ObjectType;
use trace::Event;

use crate::{completion, reinitialization};

/// Most devices of one driver that are visited; more is a circle that the driver made.
const DEVICES_MAX: usize = 4096;

/// Drivers.
pub static DRIVER: ObjectType = ObjectType::simple("Driver", |_| {});

/// What a new driver object is made from.
#[derive(Clone, Copy, Debug)]
pub struct NewDriver<'a> {
    /// Service name, such as `tdi_client`: the object becomes `\Driver\tdi_client`.
    pub name: &'a str,
    /// Image base and size; 0 for a driver of the host.
    pub image: (u64, u32),
    /// `DriverEntry`, 0 for a driver of the host.
    pub entry: u64,
}

/// Makes a driver object whose dispatch routines all refuse (K-089, K-090).
///
/// # Errors
/// STATUS_INSUFFICIENT_RESOURCES, or STATUS_OBJECT_NAME_COLLISION for a driver that is loaded already.
///
/// IRQL: PASSIVE_LEVEL.
pub fn create(new: &NewDriver<'_>) -> Result<*mut DriverObject, NtStatus> {
    let bytes = (size_of::<DriverObject>() + size_of::<DriverExtension>()) as u64;
    let body = nt_object::create(&DRIVER, bytes, 0).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
    let name: Vec<u16> = format!(r"\Driver\{}", new.name).encode_utf16().collect();
    if let Err(status) = nt_object::insert_object(&name, body) {
        nt_object::dereference(body);
        return Err(status);
    }
    let driver = body as *mut DriverObject;
    // SAFETY: a new body of this size.
    unsafe {
        let extension = driver.add(1).cast::<DriverExtension>();
        (*extension).driver_object = driver;
        (*extension).service_key_name = leak(&new.name.encode_utf16().collect::<Vec<_>>());
        (*driver).kind = DriverObject::TYPE;
        (*driver).size = size_of::<DriverObject>() as u16;
        (*driver).flags = DriverObject::LEGACY_DRIVER;
        (*driver).driver_start = new.image.0;
        (*driver).driver_size = new.image.1;
        (*driver).driver_extension = extension;
        (*driver).driver_name = leak(&name);
        (*driver).driver_init = new.entry;
        (*driver).major_function = [invalid_device_request as *const () as u64; MAJOR_FUNCTIONS];
    }
    Ok(driver)
}

/// A string that stays valid whatever happens to its driver; there are a handful in a run.
fn leak(units: &[u16]) -> UnicodeString {
    let length = u16::try_from(units.len() * 2).unwrap_or(0);
    let buffer = Box::leak(units.to_vec().into_boxed_slice()).as_mut_ptr();
    UnicodeString { length, maximum_length: length, _pad: 0, buffer }
}

/// What every entry of a dispatch table is until the driver sets it.
unsafe extern "win64" fn invalid_device_request(_device: *mut DeviceObject, irp: *mut Irp) -> NtStatus {
    // SAFETY: called as a dispatch routine, with a packet that this routine then holds.
    unsafe { completion::complete_with(irp, NtStatus::INVALID_DEVICE_REQUEST, 0) }
}

/// Calls `DriverEntry` with the registry path of the driver's service key, which lies on a page of its own
/// behind its string (K-089); afterwards its devices are open for business (K-087).
///
/// # Safety
/// `driver` is a live driver object with an entry point in a mapped image.
///
/// IRQL: PASSIVE_LEVEL.
pub unsafe fn start(driver: *mut DriverObject, name: &str) -> NtStatus {
    let path = format!(r"\Registry\Machine\System\CurrentControlSet\Services\{name}");
    let path = Box::leak(Box::new(leak(&path.encode_utf16().collect::<Vec<_>>())));
    gate::record_with_text(Event::DriverEntryCalled { driver: driver as u64 }, name);
    // SAFETY: the caller's promise.
    gate::fault::set_stage(Stage::Entry, unsafe { (*driver).driver_init });
    // SAFETY: the caller's promise.
    let status = unsafe {
        let (entry, path) = ((*driver).driver_init, std::ptr::from_mut(path) as u64);
        let status = thread::keeping_regions(entry, || gate::call::call2(entry, driver as u64, path));
        for_each_device(driver, |device| (*device).flags &= !device_flags::DEVICE_INITIALIZING);
        NtStatus(status as u32)
    };
    gate::fault::set_stage(Stage::Between, 0);
    gate::record(Event::DriverEntryReturned { driver: driver as u64, status: status.0 });
    if status.is_success() {
        // SAFETY: the caller's promise.
        unsafe { reinitialization::run(driver) };
    } else {
        reinitialization::forget(driver);
    }
    status
}

/// Calls the driver's Unload routine. `false` if it has none: then it cannot be unloaded (K-091).
///
/// # Safety
/// `driver` is a live driver object whose image is mapped.
///
/// IRQL: PASSIVE_LEVEL.
pub unsafe fn unload(driver: *mut DriverObject) -> bool {
    // SAFETY: the caller's promise.
    let routine = unsafe { (*driver).driver_unload };
    if routine == 0 {
        return false;
    }
    gate::record(Event::UnloadCalled { driver: driver as u64 });
    gate::fault::set_stage(Stage::Unload, routine);
    // SAFETY: the caller's promise.
    thread::keeping_regions(routine, || unsafe { gate::call::call1(routine, driver as u64) });
    gate::fault::set_stage(Stage::Between, 0);
    gate::record(Event::UnloadReturned { driver: driver as u64 });
    true
}

/// Visits the devices in the driver's list, which the driver can write to.
///
/// # Safety
/// `driver` is a live driver object.
pub unsafe fn for_each_device(driver: *mut DriverObject, mut visit: impl FnMut(*mut DeviceObject)) {
    // SAFETY: the caller's promise; each link is checked to be a live object before it is followed.
    unsafe {
        let mut device = (*driver).device_object;
        for _ in 0..DEVICES_MAX {
            if device.is_null() || !nt_object::is_live(device as u64) {
                return;
            }
            visit(device);
            device = (*device).next_device;
        }
    }
}
