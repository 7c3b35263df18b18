//! What drivers ask of plug and play, WMI and file systems on a machine that has none of them.
//!
//! Nothing arrives and nothing is removed here, nobody asks for WMI and no file system registers itself: so whoever
//! registers to be told is registered, and told of nothing. No bus enumerates devices either, so no device of a driver is
//! a physical one: what asks for one is refused, or ends the run where NT's does.

use std::collections::BTreeSet;
use std::ptr;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering};

use gate::memory::{self, Fault, put, touch};
use host_lock::{Mutex, MutexGuard};
use nt_abi::exception::BugCheck;
use nt_abi::{DeviceObject, DriverObject, NtStatus};

use crate::buffers::services;
use crate::device::DEVICE;

gate::exports! {
    /// What ntoskrnl exports of plug and play, WMI and file systems.
    pub(crate) static TABLE in "ntoskrnl.exe";
    "IoRegisterPlugPlayNotification" = io_register_plug_play_notification(category: u32, flags: u32, data: u64, driver: *mut DriverObject, routine: u64, context: u64, entry: *mut u64) -> NtStatus, irql <= PASSIVE, rules "K-200";
    "IoUnregisterPlugPlayNotification" | "IoUnregisterPlugPlayNotificationEx" = io_unregister_plug_play_notification(entry: u64) -> NtStatus, irql <= PASSIVE, rules "K-200";
    "IoWMIRegistrationControl" = io_wmi_registration_control(device: *mut DeviceObject, action: u32) -> NtStatus, irql <= PASSIVE, rules "K-200";
    "IoRegisterFsRegistrationChange" | "IoRegisterFsRegistrationChangeEx" = io_register_fs_registration_change(driver: *mut DriverObject, routine: u64) -> NtStatus, irql <= PASSIVE, rules "K-200";
    "IoUnregisterFsRegistrationChange" = io_unregister_fs_registration_change(driver: *mut DriverObject, routine: u64), irql <= PASSIVE, rules "K-200";
    "IoRegisterDeviceInterface" = io_register_device_interface(device: *mut DeviceObject, class: u64, reference: u64, link: u64) -> NtStatus, irql <= PASSIVE, rules "K-200";
    "IoSetDeviceInterfaceState" = io_set_device_interface_state(link: u64, enable: u8) -> NtStatus, irql <= PASSIVE, rules "K-200";
    "IoGetDeviceInterfaces" = io_get_device_interfaces(class: u64, device: *mut DeviceObject, flags: u32, list: u64) -> NtStatus, irql <= PASSIVE, rules "K-200";
    "IoGetDeviceInterfaceAlias" = io_get_device_interface_alias(link: u64, class: u64, alias: u64) -> NtStatus, irql <= PASSIVE, rules "K-200";
    "IoGetDeviceProperty" = io_get_device_property(device: *mut DeviceObject, property: u32, length: u32, buffer: u64, needed: u64) -> NtStatus, irql <= PASSIVE, rules "K-200";
    "IoOpenDeviceRegistryKey" = io_open_device_registry_key(device: *mut DeviceObject, kind: u32, access: u32, handle: u64) -> NtStatus, irql <= PASSIVE, rules "K-200";
    "IoInvalidateDeviceRelations" = io_invalidate_device_relations(device: *mut DeviceObject, relation: u32), irql <= DISPATCH, rules "K-200";
    "IoInvalidateDeviceState" = io_invalidate_device_state(device: *mut DeviceObject), irql <= DISPATCH, rules "K-200";
    "IoRequestDeviceEject" = io_request_device_eject(device: *mut DeviceObject), irql <= DISPATCH, rules "K-200";
    "IoGetConfigurationInformation" = io_get_configuration_information() -> u64, irql <= PASSIVE, rules "K-200";
}

/// Who is to be told: entries given to drivers, which are numbers, and pairs of driver and routine.
struct Registered {
    entries: BTreeSet<u64>,
    last_entry: u64,
    file_systems: BTreeSet<(u64, u64)>,
}

static REGISTERED: Mutex<Registered> =
    Mutex::new(Registered { entries: BTreeSet::new(), last_entry: 0, file_systems: BTreeSet::new() });

fn registered() -> MutexGuard<'static, Registered> {
    REGISTERED.lock().unwrap_or_else(PoisonError::into_inner)
}

unsafe extern "win64" fn io_register_plug_play_notification(
    category: u32,
    _flags: u32,
    data: u64,
    _driver: *mut DriverObject,
    routine: u64,
    _context: u64,
    entry: *mut u64,
) -> NtStatus {
    /// Of `IO_NOTIFICATION_EVENT_CATEGORY`: changes of hardware profiles, interfaces of a class, a device.
    const HARDWARE_PROFILE: u32 = 1;
    const INTERFACES: u32 = 2;
    const DEVICE: u32 = 3;
    let is_complete = match category {
        HARDWARE_PROFILE => true,
        // The class, or the file object of the device.
        INTERFACES | DEVICE => data != 0,
        _ => false,
    };
    if !is_complete || routine == 0 {
        return NtStatus::INVALID_PARAMETER;
    }
    // SAFETY: what drivers pass is theirs to answer for; a bad pointer faults and is blamed on them.
    unsafe { touch(entry) };
    let mut registered = registered();
    registered.last_entry += 1;
    let number = registered.last_entry;
    registered.entries.insert(number);
    drop(registered);
    // SAFETY: as above.
    unsafe { put(entry, number) };
    NtStatus::SUCCESS
}

unsafe extern "win64" fn io_unregister_plug_play_notification(entry: u64) -> NtStatus {
    if registered().entries.remove(&entry) { NtStatus::SUCCESS } else { NtStatus::INVALID_PARAMETER }
}

unsafe extern "win64" fn io_wmi_registration_control(device: *mut DeviceObject, action: u32) -> NtStatus {
    /// `WMIREG_ACTION_REGISTER` to `WMIREG_ACTION_UPDATE_GUIDS`, and `WMIREG_ACTION_BLOCK_IRPS`.
    const FIRST: u32 = 1;
    const LAST: u32 = 5;
    if device.is_null() || !(FIRST..=LAST).contains(&action) {
        return NtStatus::INVALID_PARAMETER;
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn io_register_fs_registration_change(driver: *mut DriverObject, routine: u64) -> NtStatus {
    let is_new = registered().file_systems.insert((driver as u64, routine));
    if is_new { NtStatus::SUCCESS } else { NtStatus::DEVICE_ALREADY_ATTACHED }
}

unsafe extern "win64" fn io_unregister_fs_registration_change(driver: *mut DriverObject, routine: u64) {
    registered().file_systems.remove(&(driver as u64, routine));
}

/// Reads what a driver named as a device, if it is not NULL: an address without memory faults as it would on NT, and what is no device
/// there is a finding.
fn look_at(device: *mut DeviceObject, service: &str) -> Result<(), Fault> {
    if device.is_null() {
        return Ok(());
    }
    memory::read_value::<DeviceObject>(device as u64)?;
    if !nt_object::type_of(device as u64).is_some_and(|kind| ptr::eq(kind, &DEVICE)) {
        gate::finding("K-200", format_args!("{service} was given {device:p}, which is no device."), gate::caller());
    }
    Ok(())
}

/// An interface belongs to a physical device.
unsafe extern "win64" fn io_register_device_interface(
    device: *mut DeviceObject,
    _class: u64,
    _reference: u64,
    _link: u64,
) -> NtStatus {
    match look_at(device, "IoRegisterDeviceInterface") {
        Ok(()) => NtStatus::INVALID_DEVICE_REQUEST,
        Err(fault) => raise(fault),
    }
}

/// Properties are a physical device's.
unsafe extern "win64" fn io_get_device_property(
    _device: *mut DeviceObject,
    _property: u32,
    _length: u32,
    _buffer: u64,
    _needed: u64,
) -> NtStatus {
    NtStatus::INVALID_DEVICE_REQUEST
}

/// So are the keys for it and for its driver.
unsafe extern "win64" fn io_open_device_registry_key(
    _device: *mut DeviceObject,
    _kind: u32,
    _access: u32,
    _handle: u64,
) -> NtStatus {
    NtStatus::INVALID_DEVICE_REQUEST
}

/// The answer about a name that no interface has, once it is read.
fn no_such_interface(link: u64) -> NtStatus {
    match memory::read_unicode(link) {
        Ok(name) if name.is_empty() => NtStatus::INVALID_PARAMETER,
        Ok(_) => NtStatus::OBJECT_NAME_NOT_FOUND,
        Err(fault) => raise(fault),
    }
}

/// Raises the fault in the driver.
fn raise(fault: Fault) -> NtStatus {
    gate::seh::raise_fault(fault);
    NtStatus::ACCESS_VIOLATION
}

unsafe extern "win64" fn io_set_device_interface_state(link: u64, _enable: u8) -> NtStatus {
    no_such_interface(link)
}

unsafe extern "win64" fn io_get_device_interface_alias(link: u64, _class: u64, _alias: u64) -> NtStatus {
    no_such_interface(link)
}

/// Gives an empty list, which is one NUL in pool that the driver frees.
unsafe extern "win64" fn io_get_device_interfaces(
    _class: u64,
    device: *mut DeviceObject,
    _flags: u32,
    list: u64,
) -> NtStatus {
    if !device.is_null() {
        return match look_at(device, "IoGetDeviceInterfaces") {
            Ok(()) => NtStatus::INVALID_DEVICE_REQUEST,
            Err(fault) => raise(fault),
        };
    }
    let Some(empty) = (services().allocate)(size_of::<u16>() as u64, gate::caller()) else {
        return NtStatus::INSUFFICIENT_RESOURCES;
    };
    // SAFETY: a new block of that size, which has at least the alignment of any pool.
    unsafe { *(empty as *mut u16) = 0 };
    match memory::write_value(list, empty) {
        Ok(()) => NtStatus::SUCCESS,
        Err(fault) => {
            (services().free)(empty);
            raise(fault)
        }
    }
}

/// Ends the run as NT does when a device that is no physical one is named where it must be one.
fn no_physical_device(device: *mut DeviceObject, service: &str) -> ! {
    /// The first parameter: the device is none.
    const INVALID_DEVICE: u64 = 2;
    gate::bugcheck::with_message(
        BugCheck::PNP_DETECTED_FATAL_ERROR,
        [INVALID_DEVICE, device as u64, 0, 0],
        gate::caller(),
        format_args!("{service} was given a device ({:#x}) that no bus has enumerated.", device as u64),
    )
}

unsafe extern "win64" fn io_invalidate_device_relations(device: *mut DeviceObject, _relation: u32) {
    no_physical_device(device, "IoInvalidateDeviceRelations")
}

unsafe extern "win64" fn io_invalidate_device_state(device: *mut DeviceObject) {
    no_physical_device(device, "IoInvalidateDeviceState")
}

unsafe extern "win64" fn io_request_device_eject(device: *mut DeviceObject) {
    no_physical_device(device, "IoRequestDeviceEject")
}

/// `CONFIGURATION_INFORMATION`: how many disks and ports there are. Drivers of such devices count theirs in.
unsafe extern "win64" fn io_get_configuration_information() -> u64 {
    const BYTES: u32 = 0x28;
    const SIZE_INDEX: usize = 8;
    // Seven counts, two flags, the structure's own size, one more count. Drivers write to them; ours never looks.
    static INFORMATION: [AtomicU32; 10] = [const { AtomicU32::new(0) }; 10];
    INFORMATION[SIZE_INDEX].store(BYTES, Ordering::Relaxed);
    INFORMATION.as_ptr() as u64
}
