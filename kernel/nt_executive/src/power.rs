//! What drivers ask of power: nothing sleeps here and nothing wakes; the machine is on mains and its screen, if any, on.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use gate::memory;
use host_lock::{Mutex, MutexGuard};
use nt_abi::NtStatus;

use crate::raise::{Failure, finish};

gate::exports! {
    /// Power.
    pub static TABLE in "ntoskrnl.exe";
    "PoRegisterSystemState" = po_register_system_state(registration: u64, flags: u32) -> u64, irql <= DISPATCH, rules "K-200";
    "PoUnregisterSystemState" = po_unregister_system_state(registration: u64), irql <= DISPATCH, rules "K-200";
    "PoSetSystemState" = po_set_system_state(flags: u32), irql <= DISPATCH, rules "K-200";
    "PoRegisterDeviceForIdleDetection" = po_register_device_for_idle_detection(device: u64, conservation: u32, performance: u32, state: u32) -> u64, irql <= DISPATCH, rules "K-200";
    "PoRegisterPowerSettingCallback" = po_register_power_setting_callback(device: u64, setting: u64, callback: u64, context: u64, registration: u64) -> NtStatus, irql <= PASSIVE, rules "K-177";
    "PoUnregisterPowerSettingCallback" = po_unregister_power_setting_callback(registration: u64) -> NtStatus, irql <= PASSIVE, rules "K-177";
}

type Guid = [u64; 2];

/// Settings that have a value, and the value: the source of power (mains), the monitor, the display (both on).
const SETTINGS: [(Guid, u32); 3] = [
    (guid(0x5D3E_9A59, 0xE9D5, 0x4B00, 0xA6BD_FF34_FF51_6548), 0),
    (guid(0x0273_1015, 0x4510, 0x4526, 0x99E6_E5A1_7EBD_1AEA), 1),
    (guid(0x6FE6_9556, 0x704A, 0x47A0, 0x8F24_C28D_936F_DA47), 1),
];

/// A GUID as two words of memory, from its parts as they are written.
const fn guid(a: u64, b: u64, c: u64, rest: u64) -> Guid {
    [a | b << 32 | c << 48, rest.swap_bytes()]
}

/// Registrations of either kind, by number.
struct Registered {
    numbers: BTreeSet<u64>,
    last: u64,
}

static REGISTERED: Mutex<Registered> = Mutex::new(Registered { numbers: BTreeSet::new(), last: 0 });

fn registered() -> MutexGuard<'static, Registered> {
    REGISTERED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn register() -> u64 {
    let mut registered = registered();
    registered.last += 1;
    let number = registered.last;
    registered.numbers.insert(number);
    number
}

fn unregister(number: u64) -> bool {
    registered().numbers.remove(&number)
}

/// A registration that is there already is kept.
unsafe extern "win64" fn po_register_system_state(registration: u64, _flags: u32) -> u64 {
    if registration != 0 { registration } else { register() }
}

unsafe extern "win64" fn po_unregister_system_state(registration: u64) {
    unregister(registration);
}

/// Nothing sleeps, so nothing is to be kept awake.
unsafe extern "win64" fn po_set_system_state(_flags: u32) {}

/// NULL: nobody looks whether a device is idle, and its driver need not say that it is busy.
unsafe extern "win64" fn po_register_device_for_idle_detection(
    _device: u64,
    _conservation: u32,
    _performance: u32,
    _state: u32,
) -> u64 {
    0
}

/// Tells the value there is at once, as NT does, and never another.
fn register_setting(setting: u64, callback: u64, context: u64, registration: u64) -> Result<NtStatus, Failure> {
    let wanted: Guid = memory::read_value(setting)?;
    if callback == 0 {
        return Ok(NtStatus::INVALID_PARAMETER);
    }
    let number = register();
    if registration != 0
        && let Err(fault) = memory::write_value(registration, number)
    {
        unregister(number);
        return Err(fault.into());
    }
    if let Some((_, value)) = SETTINGS.iter().find(|(known, _)| *known == wanted) {
        let value = *value;
        // SAFETY: the driver asked for this routine to be called so; the value lives until it returns.
        unsafe { gate::call::call4(callback, setting, &raw const value as u64, size_of_val(&value) as u64, context) };
    }
    Ok(NtStatus::SUCCESS)
}

unsafe extern "win64" fn po_register_power_setting_callback(
    _device: u64,
    setting: u64,
    callback: u64,
    context: u64,
    registration: u64,
) -> NtStatus {
    finish(register_setting(setting, callback, context, registration))
}

unsafe extern "win64" fn po_unregister_power_setting_callback(registration: u64) -> NtStatus {
    if unregister(registration) { NtStatus::SUCCESS } else { NtStatus::INVALID_PARAMETER }
}
