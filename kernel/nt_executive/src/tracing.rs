//! Event tracing (ETW, WPP) as on a machine where nobody traces.
//!
//! Providers are registered and told of no session; events go nowhere, and no logger has a handle. Only what a driver would
//! see of that is kept: its registrations, which it must take back before it goes, and its threads' activity identifiers.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use gate::memory::{self, put};
use host_lock::{Mutex, MutexGuard};
use nt_abi::NtStatus;
use nt_dispatcher::thread;

use crate::pool;
use crate::raise::{Failure, finish};
use crate::rtl::Guid;

gate::exports! {
    /// Event tracing.
    pub static TABLE in "ntoskrnl.exe";
    "EtwRegister" = etw_register(provider: *const Guid, routine: u64, context: u64, registration: *mut u64) -> NtStatus, irql <= PASSIVE, rules "K-200";
    "EtwRegisterClassicProvider" = etw_register_classic_provider(provider: *const Guid, kind: u32, routine: u64, context: u64, registration: *mut u64) -> NtStatus, irql <= PASSIVE, rules "K-200";
    "EtwUnregister" = etw_unregister(registration: u64) -> NtStatus, irql <= PASSIVE, rules "K-200";
    "EtwSetInformation" = etw_set_information(registration: u64, class: u32, information: u64, length: u32) -> NtStatus, irql <= PASSIVE, rules "K-200";
    "EtwEventEnabled" | "EtwProviderEnabled" = etw_enabled(registration: u64) -> u8, rules "K-200";
    "EtwWrite" | "EtwWriteEx" | "EtwWriteTransfer" | "EtwWriteString" = etw_write(registration: u64) -> NtStatus, rules "K-200";
    "EtwActivityIdControl" = etw_activity_id_control(control: u32, id: *mut Guid) -> NtStatus, rules "K-200";
    variadic "WmiTraceMessage" = wmi_trace_message(arguments: *const u64) -> NtStatus, rules "K-200";
    "WmiTraceMessageVa" = wmi_trace_message_va(logger: u64, flags: u32, message: u64, number: u16, arguments: u64) -> NtStatus, rules "K-200";
    "WmiQueryTraceInformation" = wmi_query_trace_information(class: u32, information: u64, length: u32, needed: *mut u32, buffer: u64) -> NtStatus, irql <= PASSIVE, rules "K-200";
    "IoWMIWriteEvent" = io_wmi_write_event(event: u64) -> NtStatus, rules "K-200";
}

/// A provider that a driver has registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// The handle that the driver was given.
    pub registration: u64,
    /// The provider's GUID as text.
    pub id: String,
    /// The driver instruction that registered it.
    pub caller: u64,
}

struct Tracing {
    providers: BTreeMap<u64, (Guid, u64)>,
    /// By the thread's number. A thread that has none has a GUID of zeros.
    activities: BTreeMap<u64, Guid>,
}

static TRACING: Mutex<Tracing> = Mutex::new(Tracing { providers: BTreeMap::new(), activities: BTreeMap::new() });

fn tracing() -> MutexGuard<'static, Tracing> {
    TRACING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Visits the providers that are still registered.
pub fn for_each_registered(visit: impl FnMut(Provider)) {
    let describe =
        |(&registration, &(id, caller)): (&u64, &(Guid, u64))| Provider { registration, id: id.text(), caller };
    // A copy: the visitor may look at anything.
    let all: Vec<_> = tracing().providers.iter().map(describe).collect();
    all.into_iter().for_each(visit);
}

/// A thread has ended, and its activity with it.
pub(crate) fn forget_thread(id: u64) {
    tracing().activities.remove(&id);
}

unsafe extern "win64" fn etw_register(
    provider: *const Guid,
    _routine: u64,
    _context: u64,
    registration: *mut u64,
) -> NtStatus {
    static LAST: AtomicU64 = AtomicU64::new(0);
    if provider.is_null() || registration.is_null() {
        return NtStatus::INVALID_PARAMETER;
    }
    // A number that nobody mistakes for an address that can be touched.
    let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    // SAFETY: what drivers pass is theirs to answer for; a bad pointer faults and is blamed on them. The same holds for every
    // function of this module.
    let id = unsafe {
        put(registration, number);
        provider.read_unaligned()
    };
    let caller = gate::caller();
    tracing().providers.insert(number, (id, caller));
    NtStatus::SUCCESS
}

/// What WPP registers since Vista; the kinds differ in what their routine is told of sessions.
unsafe extern "win64" fn etw_register_classic_provider(
    provider: *const Guid,
    _kind: u32,
    routine: u64,
    context: u64,
    registration: *mut u64,
) -> NtStatus {
    // SAFETY: see `etw_register`.
    unsafe { etw_register(provider, routine, context, registration) }
}

unsafe extern "win64" fn etw_unregister(registration: u64) -> NtStatus {
    match tracing().providers.remove(&registration) {
        Some(_) => NtStatus::SUCCESS,
        None => NtStatus::INVALID_HANDLE,
    }
}

fn expect_registered(registration: u64) -> Result<(), NtStatus> {
    if tracing().providers.contains_key(&registration) { Ok(()) } else { Err(NtStatus::INVALID_HANDLE) }
}

fn set_information(registration: u64, class: u32, information: u64, length: u32) -> Result<NtStatus, Failure> {
    /// `EventProviderBinaryTrackInfo`, `EventProviderSetTraits`, `EventProviderUseDescriptorType`.
    const TRACK: u32 = 0;
    const TRAITS: u32 = 2;
    const DESCRIPTOR_TYPE: u32 = 3;
    expect_registered(registration)?;
    let is_right = match class {
        TRACK => length == 0,
        // They begin with their size, and a terminated name follows.
        TRAITS => length > 2 && u32::from(memory::read_value::<u16>(information)?) == length,
        DESCRIPTOR_TYPE => length == 1,
        _ => return Ok(NtStatus::NOT_SUPPORTED),
    };
    Ok(if is_right { NtStatus::SUCCESS } else { NtStatus::INVALID_PARAMETER })
}

unsafe extern "win64" fn etw_set_information(registration: u64, class: u32, information: u64, length: u32) -> NtStatus {
    finish(set_information(registration, class, information, length))
}

/// No session has enabled any provider.
unsafe extern "win64" fn etw_enabled(_registration: u64) -> u8 {
    0
}

/// What nobody has asked for is not even looked at. Drivers that care about time ask [`etw_enabled`] first.
unsafe extern "win64" fn etw_write(registration: u64) -> NtStatus {
    expect_registered(registration).err().unwrap_or(NtStatus::SUCCESS)
}

unsafe extern "win64" fn etw_activity_id_control(control: u32, id: *mut Guid) -> NtStatus {
    /// `EVENT_ACTIVITY_CTRL_GET_ID` and its like: the thread's, or a new one.
    const GET: u32 = 1;
    const SET: u32 = 2;
    const CREATE: u32 = 3;
    const GET_AND_SET: u32 = 4;
    const CREATE_AND_SET: u32 = 5;
    if id.is_null() {
        return NtStatus::INVALID_PARAMETER;
    }
    let thread = thread::id(gate::thread::current_thread_object());
    // SAFETY: see `etw_register`. All memory of the driver's is touched before the lock is taken.
    let given = unsafe { id.read_unaligned() };
    let of_thread = || tracing().activities.get(&thread).copied().unwrap_or(Guid::NONE);
    let (told, set) = match control {
        GET => (Some(of_thread()), None),
        SET => (None, Some(given)),
        CREATE => (Some(Guid::random()), None),
        GET_AND_SET => (Some(of_thread()), Some(given)),
        CREATE_AND_SET => (Some(of_thread()), Some(Guid::random())),
        _ => return NtStatus::INVALID_PARAMETER,
    };
    if let Some(told) = told {
        // SAFETY: see `etw_register`.
        unsafe { put(id, told) };
    }
    if let Some(set) = set {
        tracing().activities.insert(thread, set);
    }
    NtStatus::SUCCESS
}

/// No logger has a handle.
unsafe extern "win64" fn wmi_trace_message(_arguments: *const u64) -> NtStatus {
    NtStatus::INVALID_HANDLE
}

unsafe extern "win64" fn wmi_trace_message_va(
    _logger: u64,
    _flags: u32,
    _message: u64,
    _number: u16,
    _arguments: u64,
) -> NtStatus {
    NtStatus::INVALID_HANDLE
}

unsafe extern "win64" fn wmi_query_trace_information(
    class: u32,
    _information: u64,
    length: u32,
    needed: *mut u32,
    buffer: u64,
) -> NtStatus {
    /// `TRACE_INFORMATION_CLASS`: what a logger's handle says, and whose handle it is.
    const ID: u32 = 0;
    const HANDLE: u32 = 1;
    const ENABLE_FLAGS: u32 = 2;
    const ENABLE_LEVEL: u32 = 3;
    const GLOBAL_LOGGER: u32 = 4;
    const EVENT_LOGGER: u32 = 5;
    const HANDLE_BY_NAME: u32 = 7;
    let (bytes, missing) = match class {
        ID | ENABLE_FLAGS | ENABLE_LEVEL => (size_of::<u32>(), NtStatus::INVALID_HANDLE),
        HANDLE => (size_of::<u64>(), NtStatus::INVALID_HANDLE),
        GLOBAL_LOGGER | EVENT_LOGGER | HANDLE_BY_NAME => (size_of::<u64>(), NtStatus::NOT_FOUND),
        _ => return NtStatus::INVALID_INFO_CLASS,
    };
    if !needed.is_null() {
        // SAFETY: see `etw_register`.
        unsafe { put(needed, bytes as u32) };
    }
    if (length as usize) < bytes {
        return NtStatus::INFO_LENGTH_MISMATCH;
    }
    // The logger's handle or name; the two that the system knows itself need neither.
    if buffer == 0 && !matches!(class, GLOBAL_LOGGER | EVENT_LOGGER) {
        return NtStatus::INVALID_PARAMETER_MIX;
    }
    missing
}

/// Takes the driver's block of an event and frees it: nobody has asked to be told. What is meant for a logger alone stays the
/// driver's, and has none here.
fn write_event(event: u64) -> Result<NtStatus, Failure> {
    /// `WNODE_HEADER.Flags`
    const FLAGS: u64 = 0x2C;
    /// `WNODE_FLAG_TRACED_GUID`
    const TRACED: u32 = 0x0002_0000;
    let flags: u32 = memory::read_value(event.wrapping_add(FLAGS))?;
    if flags & TRACED != 0 {
        return Ok(NtStatus::INVALID_HANDLE);
    }
    pool::free(event, None, gate::caller());
    Ok(NtStatus::SUCCESS)
}

unsafe extern "win64" fn io_wmi_write_event(event: u64) -> NtStatus {
    finish(write_event(event))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{kernel_thread, service};

    #[test]
    fn provider_is_known_from_its_registration_until_it_is_taken_back() {
        let (provider, mut registration) = (Guid::random(), 0u64);
        let arguments = [&raw const provider as u64, 0, 0, &raw mut registration as u64];
        assert_eq!(service("EtwRegister").call(&arguments), NtStatus::SUCCESS);
        let is_known = || {
            let mut found = false;
            for_each_registered(|one| found |= one.registration == registration && one.id == provider.text());
            found
        };
        assert!(is_known());
        assert_eq!(service("EtwWrite").call(&[registration, 0, 0, 0, 0]), NtStatus::SUCCESS);
        assert_eq!(service("EtwUnregister").call(&[registration]), NtStatus::SUCCESS);
        assert!(!is_known());
        assert_eq!(service("EtwUnregister").call(&[registration]), NtStatus::INVALID_HANDLE);
        assert_eq!(service("EtwWrite").call(&[registration, 0, 0, 0, 0]), NtStatus::INVALID_HANDLE);
    }

    #[test]
    fn activity_of_a_thread_ends_with_it() {
        kernel_thread();
        let body = gate::thread::current_thread_object();
        let control = |what: u64, mut id: Guid| {
            let status = service("EtwActivityIdControl").call(&[what, &raw mut id as u64]);
            assert_eq!(status, NtStatus::SUCCESS);
            id
        };
        let id = Guid::random();
        control(2, id);
        assert_eq!(control(1, Guid::NONE), id);
        crate::notifications::thread_changed(body, thread::Change::Ended);
        assert_eq!(control(1, id), Guid::NONE);
    }
}
