//! What drivers ask of plug and play, WMI and file systems on a machine that has none of them.
//!
//! Nothing arrives and nothing is removed here, nobody asks for WMI and no file system registers itself: so whoever
//! registers to be told is registered, and told of nothing.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nt_abi::{DeviceObject, DriverObject, NtStatus};

gate::exports! {
    /// What ntoskrnl exports of plug and play, WMI and file systems.
    pub(crate) static TABLE in "ntoskrnl.exe";
    "IoRegisterPlugPlayNotification" = io_register_plug_play_notification(category: u32, flags: u32, data: u64, driver: *mut DriverObject, routine: u64, context: u64, entry: *mut u64) -> NtStatus, irql <= PASSIVE, rules "K-200";
    "IoUnregisterPlugPlayNotification" | "IoUnregisterPlugPlayNotificationEx" = io_unregister_plug_play_notification(entry: u64) -> NtStatus, irql <= PASSIVE, rules "K-200";
    "IoWMIRegistrationControl" = io_wmi_registration_control(device: *mut DeviceObject, action: u32) -> NtStatus, irql <= PASSIVE, rules "K-200";
    "IoRegisterFsRegistrationChange" | "IoRegisterFsRegistrationChangeEx" = io_register_fs_registration_change(driver: *mut DriverObject, routine: u64) -> NtStatus, irql <= PASSIVE, rules "K-200";
    "IoUnregisterFsRegistrationChange" = io_unregister_fs_registration_change(driver: *mut DriverObject, routine: u64), irql <= PASSIVE, rules "K-200";
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
    let mut registered = registered();
    registered.last_entry += 1;
    let number = registered.last_entry;
    registered.entries.insert(number);
    drop(registered);
    // SAFETY: what drivers pass is theirs to answer for; a bad pointer faults and is blamed on them.
    unsafe { *entry = number };
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

/// `CONFIGURATION_INFORMATION`: how many disks and ports there are. Drivers of such devices count theirs in.
unsafe extern "win64" fn io_get_configuration_information() -> u64 {
    const BYTES: u32 = 0x28;
    const SIZE_INDEX: usize = 8;
    // Seven counts, two flags, the structure's own size, one more count. Drivers write to them; ours never looks.
    static INFORMATION: [AtomicU32; 10] = [const { AtomicU32::new(0) }; 10];
    INFORMATION[SIZE_INDEX].store(BYTES, Ordering::Relaxed);
    INFORMATION.as_ptr() as u64
}
