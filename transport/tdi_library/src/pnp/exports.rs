//! The win64 faces.

use gate::memory;
use nt_abi::{Handle, NtStatus, UnicodeString};

use super::power;
use super::{Handlers, Registration};

gate::exports! {
    /// Plug and play of transports.
    pub static TABLE in "tdi.sys";
    "TdiInitialize" = tdi_initialize(), irql <= PASSIVE, rules "D-228";
    "CTEInitialize" = cte_initialize() -> u32, irql <= PASSIVE, rules "D-228";
    "CTESystemUpTime" = cte_system_up_time() -> u32, irql <= DISPATCH, rules "D-228";
    "TdiRegisterPnPHandlers" = tdi_register_pnp_handlers(information: *const ClientInterfaceInfo, size: u32, handle: *mut Handle) -> NtStatus, irql <= APC, rules "D-240 D-241 D-242 D-243";
    "TdiDeregisterPnPHandlers" = tdi_deregister_pnp_handlers(handle: Handle) -> NtStatus, irql <= APC, rules "D-254";
    "TdiEnumerateAddresses" = tdi_enumerate_addresses(handle: Handle) -> NtStatus, irql <= APC, rules "D-228";
    "TdiRegisterNotificationHandler" = tdi_register_notification_handler(bind: u64, unbind: u64, handle: *mut Handle) -> NtStatus, irql <= APC, rules "D-243";
    "TdiDeregisterNotificationHandler" = tdi_deregister_pnp_handlers(handle: Handle) -> NtStatus, irql <= APC, rules "D-254";
    "TdiRegisterAddressChangeHandler" = tdi_register_address_change_handler(add: u64, delete: u64, handle: *mut Handle) -> NtStatus, irql <= APC, rules "D-243";
    "TdiDeregisterAddressChangeHandler" = tdi_deregister_pnp_handlers(handle: Handle) -> NtStatus, irql <= APC, rules "D-254";
    "TdiRegisterProvider" = tdi_register_provider(name: *const UnicodeString, handle: *mut Handle) -> NtStatus, irql <= APC, rules "D-255";
    "TdiDeregisterProvider" = tdi_deregister_provider(handle: Handle) -> NtStatus, irql <= APC, rules "D-255";
    "TdiProviderReady" = tdi_provider_ready(handle: Handle) -> NtStatus, irql <= APC, rules "D-246 D-255";
    "TdiRegisterDeviceObject" = tdi_register_device_object(name: *const UnicodeString, handle: *mut Handle) -> NtStatus, irql <= APC, rules "D-245 D-255";
    "TdiDeregisterDeviceObject" = tdi_deregister_device_object(handle: Handle) -> NtStatus, irql <= APC, rules "D-244";
    "TdiRegisterNetAddress" = tdi_register_net_address(address: u64, device: *const UnicodeString, context: u64, handle: *mut Handle) -> NtStatus, irql <= APC, rules "D-247";
    "TdiDeregisterNetAddress" = tdi_deregister_net_address(handle: Handle) -> NtStatus, irql <= APC, rules "D-251";
    "TdiPnPPowerRequest" = tdi_pnp_power_request(device: u64, event: u64, first: u64, second: u64, completion: u64) -> NtStatus, irql <= PASSIVE, rules "D-252 D-253";
    "TdiPnPPowerComplete" = tdi_pnp_power_complete(handle: Handle, event: u64, status: NtStatus), irql <= DISPATCH, rules "D-252";
}

/// `TDI_STATUS_BAD_VERSION` (D-242).
const BAD_VERSION: NtStatus = NtStatus(0xC001_0004);
/// `TDI_STATUS_BAD_CHARACTERISTICS` (D-242).
const BAD_CHARACTERISTICS: NtStatus = NtStatus(0xC001_0005);
/// `MajorTdiVersion`.
const VERSION: u8 = 2;
/// Longest TA_ADDRESS or TDI_PNP_CONTEXT that is looked at.
const BYTES_MAX: usize = 512;

/// `TDI20_CLIENT_INTERFACE_INFO`.
#[repr(C)]
struct ClientInterfaceInfo {
    major_version: u8,
    minor_version: u8,
    _unused: u16,
    _pad: u32,
    /// Invented paths are passed here; nobody looks (D-241).
    _client_name: *const UnicodeString,
    power: u64,
    /// Or, of the older form, the bind handler.
    binding: u64,
    /// Of the older form, the unbind handler.
    _unbind: u64,
    add_address: u64,
    delete_address: u64,
}

const _: () = assert!(size_of::<ClientInterfaceInfo>() == 56);

unsafe extern "win64" fn tdi_initialize() {}

unsafe extern "win64" fn cte_initialize() -> u32 {
    1
}

unsafe extern "win64" fn cte_system_up_time() -> u32 {
    (nt_dispatcher::clock::now_100ns() / 10_000) as u32
}

/// Registers, and stores the handle; until then it is 0. A bad place for it faults before anything is registered.
///
/// # Safety
/// `to` is the driver's.
unsafe fn store(to: *mut Handle, register: impl FnOnce() -> Registration) -> NtStatus {
    // SAFETY: what drivers pass is theirs to answer for; a bad pointer faults and is blamed on them. The same holds
    // for every function of this module.
    unsafe {
        memory::put(to, Handle(0));
        memory::put(to, Handle(register().0));
    }
    NtStatus::SUCCESS
}

fn status(outcome: Result<(), NtStatus>) -> NtStatus {
    outcome.err().unwrap_or(NtStatus::SUCCESS)
}

fn name_at(name: *const UnicodeString) -> Result<Vec<u16>, NtStatus> {
    memory::read_unicode(name as u64).map_err(|_| NtStatus::ACCESS_VIOLATION)
}

unsafe extern "win64" fn tdi_register_pnp_handlers(
    information: *const ClientInterfaceInfo,
    size: u32,
    handle: *mut Handle,
) -> NtStatus {
    if size as usize != size_of::<ClientInterfaceInfo>() {
        return BAD_CHARACTERISTICS;
    }
    // SAFETY: see `store`.
    unsafe {
        let ClientInterfaceInfo { major_version, power, binding, add_address, delete_address, .. } =
            information.read_unaligned();
        if major_version != VERSION {
            return BAD_VERSION;
        }
        let handlers = Handlers { power, binding, add_address, delete_address, ..Handlers::default() };
        store(handle, || super::register_client(handlers))
    }
}

unsafe extern "win64" fn tdi_deregister_pnp_handlers(handle: Handle) -> NtStatus {
    status(super::deregister_client(Registration(handle.0)))
}

unsafe extern "win64" fn tdi_enumerate_addresses(handle: Handle) -> NtStatus {
    super::enumerate_addresses(Registration(handle.0));
    NtStatus::SUCCESS
}

unsafe extern "win64" fn tdi_register_notification_handler(bind: u64, unbind: u64, handle: *mut Handle) -> NtStatus {
    // SAFETY: see `store`.
    unsafe { store(handle, || super::register_client(Handlers { bind, unbind, ..Handlers::default() })) }
}

unsafe extern "win64" fn tdi_register_address_change_handler(add: u64, delete: u64, handle: *mut Handle) -> NtStatus {
    let handlers = Handlers { add_address: add, delete_address: delete, ..Handlers::default() };
    // SAFETY: see `store`.
    unsafe { store(handle, || super::register_client(handlers)) }
}

unsafe extern "win64" fn tdi_register_provider(name: *const UnicodeString, handle: *mut Handle) -> NtStatus {
    match name_at(name) {
        // SAFETY: see `store`.
        Ok(name) => unsafe { store(handle, || super::register_provider(&name)) },
        Err(status) => status,
    }
}

unsafe extern "win64" fn tdi_deregister_provider(handle: Handle) -> NtStatus {
    status(super::deregister_provider(Registration(handle.0)))
}

unsafe extern "win64" fn tdi_provider_ready(handle: Handle) -> NtStatus {
    status(super::provider_ready(Registration(handle.0)))
}

unsafe extern "win64" fn tdi_register_device_object(name: *const UnicodeString, handle: *mut Handle) -> NtStatus {
    match name_at(name) {
        // SAFETY: see `store`.
        Ok(name) => unsafe { store(handle, || super::register_device(&name)) },
        Err(status) => status,
    }
}

unsafe extern "win64" fn tdi_deregister_device_object(handle: Handle) -> NtStatus {
    status(super::deregister_device(Registration(handle.0)))
}

unsafe extern "win64" fn tdi_register_net_address(
    address: u64,
    device: *const UnicodeString,
    context: u64,
    handle: *mut Handle,
) -> NtStatus {
    // A TA_ADDRESS: length of the rest behind its four bytes; a TDI_PNP_CONTEXT: its whole size in front.
    let parts = name_at(device).and_then(|device| {
        let length: u16 = memory::read_value(address).map_err(|_| NtStatus::ACCESS_VIOLATION)?;
        let address = bytes_at(address, usize::from(length) + 4)?;
        let context = match context {
            0 => Vec::new(),
            place => {
                let size: u16 = memory::read_value(place).map_err(|_| NtStatus::ACCESS_VIOLATION)?;
                bytes_at(place, usize::from(size))?
            }
        };
        Ok((device, address, context))
    });
    match parts {
        // SAFETY: see `store`.
        Ok((device, address, context)) => unsafe {
            store(handle, || super::register_address(&device, &address, &context))
        },
        Err(status) => status,
    }
}

fn bytes_at(place: u64, length: usize) -> Result<Vec<u8>, NtStatus> {
    if length > BYTES_MAX {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let mut bytes = vec![0; length];
    memory::read(place, &mut bytes).map_err(|_| NtStatus::ACCESS_VIOLATION)?;
    Ok(bytes)
}

unsafe extern "win64" fn tdi_deregister_net_address(handle: Handle) -> NtStatus {
    status(super::deregister_address(Registration(handle.0)))
}

unsafe extern "win64" fn tdi_pnp_power_request(
    device: u64,
    event: u64,
    first: u64,
    second: u64,
    completion: u64,
) -> NtStatus {
    power::request(power::Request { device, event, contexts: [first, second], completion })
}

unsafe extern "win64" fn tdi_pnp_power_complete(handle: Handle, event: u64, status: NtStatus) {
    power::complete(handle.0, event, status);
}
