//! Events by handle and name, and waits on handles.

use gate::memory::{put, touch};
use nt_abi::dispatcher::{DispatcherType, Timer};
use nt_abi::object::attributes;
use nt_abi::{FileObject, Handle, KernelEvent, NtStatus, ObjectAttributes, UnicodeString};
use nt_object::ObjectType;

use super::timeout_of;
use crate::event_object::{self, EVENT, Kind};
use crate::named_object::{self, Wanted};
use crate::thread::THREAD;
use crate::timer_object::{self, TIMER};
use crate::wait::{self, WaitType};
use crate::{event, executor, timer};

gate::exports! {
    /// Dispatcher objects behind handles.
    pub static TABLE in "ntoskrnl.exe";
    "ZwCreateEvent" | "NtCreateEvent" = zw_create_event(handle: *mut Handle, access: u32, attributes: *const ObjectAttributes, kind: u32, signalled: u8) -> NtStatus, irql <= PASSIVE, rules "K-124 K-159";
    "ZwOpenEvent" | "NtOpenEvent" = zw_open_event(handle: *mut Handle, access: u32, attributes: *const ObjectAttributes) -> NtStatus, irql <= PASSIVE, rules "K-159";
    "ZwSetEvent" | "NtSetEvent" = zw_set_event(handle: Handle, old: *mut i32) -> NtStatus, irql <= PASSIVE, rules "K-124 K-155";
    "ZwResetEvent" | "NtResetEvent" = zw_reset_event(handle: Handle, old: *mut i32) -> NtStatus, irql <= PASSIVE, rules "K-124 K-155";
    "ZwClearEvent" | "NtClearEvent" = zw_clear_event(handle: Handle) -> NtStatus, irql <= PASSIVE, rules "K-124 K-155";
    "ZwPulseEvent" | "NtPulseEvent" = zw_pulse_event(handle: Handle, old: *mut i32) -> NtStatus, irql <= PASSIVE, rules "K-124 K-155";
    "IoCreateNotificationEvent" = io_create_notification_event(name: *const UnicodeString, handle: *mut Handle) -> u64, irql <= PASSIVE, rules "K-124";
    "IoCreateSynchronizationEvent" = io_create_synchronization_event(name: *const UnicodeString, handle: *mut Handle) -> u64, irql <= PASSIVE, rules "K-124";
    "ZwCreateTimer" = zw_create_timer(handle: *mut Handle, access: u32, attributes: *const ObjectAttributes, kind: u32) -> NtStatus, irql <= PASSIVE, rules "K-128 K-159";
    "ZwOpenTimer" = zw_open_timer(handle: *mut Handle, access: u32, attributes: *const ObjectAttributes) -> NtStatus, irql <= PASSIVE, rules "K-159";
    "ZwSetTimer" = zw_set_timer(handle: Handle, due: *const i64, routine: u64, context: u64, resume: u8, period_ms: i32, was_signalled: *mut u8) -> NtStatus, irql <= PASSIVE, rules "K-128 K-155";
    "ZwCancelTimer" = zw_cancel_timer(handle: Handle, is_signalled: *mut u8) -> NtStatus, irql <= PASSIVE, rules "K-129 K-155";
    "ZwWaitForSingleObject" | "NtWaitForSingleObject" = zw_wait_for_single_object(handle: Handle, alertable: u8, timeout: *const i64) -> NtStatus, irql <= PASSIVE, rules "K-125 K-155";
    "ZwWaitForMultipleObjects" | "NtWaitForMultipleObjects" = zw_wait_for_multiple_objects(count: u32, handles: *const Handle, wait_type: u32, alertable: u8, timeout: *const i64) -> NtStatus, irql <= PASSIVE, rules "K-126 K-155";
    data "ExEventObjectType" = event_type_cell, rules "K-157";
}

fn event_type_cell() -> u64 {
    static CELL: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    std::ptr::from_ref(CELL.get_or_init(|| EVENT.block())) as u64
}

/// The name and flags of object attributes, both of which may be missing.
///
/// # Safety
/// `attributes` is null or a driver's OBJECT_ATTRIBUTES.
unsafe fn name_and_flags(attributes: *const ObjectAttributes) -> Result<(Option<Vec<u16>>, u32), NtStatus> {
    if attributes.is_null() {
        return Ok((None, 0));
    }
    // SAFETY: the caller's promise.
    let ObjectAttributes { root_directory, object_name, attributes: flags, .. } = unsafe { *attributes };
    if object_name.is_null() {
        return Ok((None, flags));
    }
    // Directories are no objects here that a handle could lead to.
    if root_directory != Handle(0) {
        return Err(NtStatus::OBJECT_TYPE_MISMATCH);
    }
    let name = gate::memory::read_unicode(object_name as u64).map_err(|_| NtStatus::ACCESS_VIOLATION)?;
    Ok((Some(name), flags))
}

/// # Safety
/// As the export.
unsafe fn create_event(
    handle: *mut Handle,
    access: u32,
    attributes: *const ObjectAttributes,
    kind: Kind,
) -> Result<NtStatus, NtStatus> {
    // SAFETY: the caller's promise.
    let (name, flags) = unsafe {
        touch(handle);
        name_and_flags(attributes)
    }?;
    let wanted = Wanted { kind: &EVENT, name: name.as_deref(), access, flags, caller: gate::caller() };
    let (opened, _, was_there) = event_object::create(wanted, kind)?;
    // SAFETY: the caller's promise.
    unsafe { put(handle, opened) };
    Ok(if was_there { NtStatus::OBJECT_NAME_EXISTS } else { NtStatus::SUCCESS })
}

/// # Safety
/// As the exports.
unsafe fn open(
    kind: &'static ObjectType,
    handle: *mut Handle,
    access: u32,
    attributes: *const ObjectAttributes,
) -> NtStatus {
    // SAFETY: the caller's promise.
    let given = unsafe {
        touch(handle);
        name_and_flags(attributes)
    };
    let opened = given.and_then(|(name, flags)| {
        named_object::open(Wanted { kind, name: name.as_deref(), access, flags, caller: gate::caller() })
    });
    match opened {
        Ok(opened) => {
            // SAFETY: the caller's promise.
            unsafe { put(handle, opened) };
            NtStatus::SUCCESS
        }
        Err(status) => status,
    }
}

fn kind_of(kind: u32) -> DispatcherType {
    if kind == 0 { DispatcherType::NOTIFICATION_EVENT } else { DispatcherType::SYNCHRONIZATION_EVENT }
}

unsafe extern "win64" fn zw_create_event(
    handle: *mut Handle,
    access: u32,
    attributes: *const ObjectAttributes,
    kind: u32,
    signalled: u8,
) -> NtStatus {
    if kind > 1 {
        return NtStatus::INVALID_PARAMETER;
    }
    let kind = Kind { kind: kind_of(kind), signalled: signalled != 0 };
    // SAFETY: see the module above.
    unsafe { create_event(handle, access, attributes, kind) }.unwrap_or_else(|status| status)
}

unsafe extern "win64" fn zw_open_event(
    handle: *mut Handle,
    access: u32,
    attributes: *const ObjectAttributes,
) -> NtStatus {
    // SAFETY: see the module above.
    unsafe { open(&EVENT, handle, access, attributes) }
}

/// Does something to the event behind a handle, and gives its state before.
fn with_event(handle: Handle, change: unsafe fn(*mut KernelEvent) -> i32) -> Result<i32, NtStatus> {
    let (body, _) = nt_object::reference_by_handle(handle, Some(EVENT.block()))?;
    // SAFETY: a live event.
    let old = unsafe { change(body as *mut KernelEvent) };
    nt_object::dereference(body);
    executor::point();
    Ok(old)
}

/// As [`with_event`], and gives the state before.
///
/// # Safety
/// `to` is null or a driver's place for the state.
unsafe fn change_and_tell(handle: Handle, to: *mut i32, change: unsafe fn(*mut KernelEvent) -> i32) -> NtStatus {
    // SAFETY: the caller's promise.
    unsafe {
        if !to.is_null() {
            touch(to);
        }
        match with_event(handle, change) {
            Ok(old) if !to.is_null() => put(to, old),
            Ok(_) => {}
            Err(status) => return status,
        }
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn zw_set_event(handle: Handle, old: *mut i32) -> NtStatus {
    // SAFETY: see the module above.
    unsafe { change_and_tell(handle, old, event::set) }
}

unsafe extern "win64" fn zw_reset_event(handle: Handle, old: *mut i32) -> NtStatus {
    // SAFETY: see the module above.
    unsafe { change_and_tell(handle, old, event::reset) }
}

unsafe extern "win64" fn zw_pulse_event(handle: Handle, old: *mut i32) -> NtStatus {
    // SAFETY: see the module above.
    unsafe { change_and_tell(handle, old, event::pulse) }
}

unsafe extern "win64" fn zw_clear_event(handle: Handle) -> NtStatus {
    with_event(handle, event::reset).map_or_else(|status| status, |_| NtStatus::SUCCESS)
}

/// An event that is shared by name: made signalled if there is none yet. Null if that fails.
///
/// # Safety
/// As the exports.
unsafe fn io_create_event(name: *const UnicodeString, handle: *mut Handle, kind: DispatcherType) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { touch(handle) };
    let name = if name.is_null() { None } else { gate::memory::read_unicode(name as u64).ok() };
    let kind = Kind { kind, signalled: true };
    let flags = attributes::OPENIF | attributes::KERNEL_HANDLE;
    let wanted = Wanted { kind: &EVENT, name: name.as_deref(), access: 0, flags, caller: gate::caller() };
    match event_object::create(wanted, kind) {
        Ok((opened, body, _)) => {
            // SAFETY: the caller's promise.
            unsafe { put(handle, opened) };
            body
        }
        Err(_) => 0,
    }
}

unsafe extern "win64" fn io_create_notification_event(name: *const UnicodeString, handle: *mut Handle) -> u64 {
    // SAFETY: see the module above.
    unsafe { io_create_event(name, handle, DispatcherType::NOTIFICATION_EVENT) }
}

unsafe extern "win64" fn io_create_synchronization_event(name: *const UnicodeString, handle: *mut Handle) -> u64 {
    // SAFETY: see the module above.
    unsafe { io_create_event(name, handle, DispatcherType::SYNCHRONIZATION_EVENT) }
}

unsafe extern "win64" fn zw_create_timer(
    handle: *mut Handle,
    access: u32,
    attributes: *const ObjectAttributes,
    kind: u32,
) -> NtStatus {
    let kind = match kind {
        0 => DispatcherType::NOTIFICATION_TIMER,
        1 => DispatcherType::SYNCHRONIZATION_TIMER,
        _ => return NtStatus::INVALID_PARAMETER_4,
    };
    // SAFETY: see the module above.
    let given = unsafe {
        touch(handle);
        name_and_flags(attributes)
    };
    let created = given.and_then(|(name, flags)| {
        let wanted = Wanted { kind: &TIMER, name: name.as_deref(), access, flags, caller: gate::caller() };
        timer_object::create(wanted, kind)
    });
    match created {
        Ok((opened, _, was_there)) => {
            // SAFETY: see the module above.
            unsafe { put(handle, opened) };
            if was_there { NtStatus::OBJECT_NAME_EXISTS } else { NtStatus::SUCCESS }
        }
        Err(status) => status,
    }
}

unsafe extern "win64" fn zw_open_timer(
    handle: *mut Handle,
    access: u32,
    attributes: *const ObjectAttributes,
) -> NtStatus {
    // SAFETY: see the module above.
    unsafe { open(&TIMER, handle, access, attributes) }
}

/// Does something to the timer behind a handle, and tells whether it was signalled before.
///
/// # Safety
/// `to` is null or a driver's place for the state.
unsafe fn with_timer(handle: Handle, to: *mut u8, change: impl FnOnce(*mut Timer)) -> NtStatus {
    if !to.is_null() {
        // SAFETY: the caller's promise.
        unsafe { touch(to) };
    }
    let body = match nt_object::reference_by_handle(handle, Some(TIMER.block())) {
        Ok((body, _)) => body,
        Err(status) => return status,
    };
    // SAFETY: a live timer.
    let was_signalled = unsafe { event::signal_state(body) }.load(std::sync::atomic::Ordering::Acquire) > 0;
    change(body as *mut Timer);
    nt_object::dereference(body);
    if !to.is_null() {
        // SAFETY: the caller's promise.
        unsafe { put(to, was_signalled.into()) };
    }
    executor::point();
    NtStatus::SUCCESS
}

/// No machine is woken here, which is what a timer that is to do so is told. Routines to be called in the thread that set the timer
/// are left out: nothing is delivered to threads.
unsafe extern "win64" fn zw_set_timer(
    handle: Handle,
    due: *const i64,
    routine: u64,
    _context: u64,
    resume: u8,
    period_ms: i32,
    was_signalled: *mut u8,
) -> NtStatus {
    let Ok(period_ms) = u32::try_from(period_ms) else { return NtStatus::INVALID_PARAMETER_6 };
    if routine != 0 {
        gate::bugcheck::unimplemented("ZwSetTimer with a routine (an APC)");
    }
    // SAFETY: see the module above.
    let due = unsafe { due.read_unaligned() };
    // SAFETY: see the module above; the timer is alive.
    let status = unsafe {
        with_timer(handle, was_signalled, |timer| {
            timer::set(timer, due, period_ms, std::ptr::null_mut(), gate::caller());
        })
    };
    if status == NtStatus::SUCCESS && resume != 0 { NtStatus::TIMER_RESUME_IGNORED } else { status }
}

unsafe extern "win64" fn zw_cancel_timer(handle: Handle, is_signalled: *mut u8) -> NtStatus {
    // SAFETY: see the module above.
    unsafe { with_timer(handle, is_signalled, |timer| _ = timer::cancel(timer as u64)) }
}

/// An object behind a handle, referenced, and what of it can be waited on.
fn waitable(handle: Handle) -> Result<(u64, u64), NtStatus> {
    let (body, _) = nt_object::reference_by_handle(handle, None)?;
    match nt_object::type_of(body) {
        Some(kind) if [&EVENT, &THREAD, &TIMER].into_iter().any(|one| std::ptr::eq(kind, one)) => Ok((body, body)),
        // The type belongs to the I/O manager, but the event is in a layout that everybody knows.
        Some(kind) if kind.name == "File" => Ok((body, body + std::mem::offset_of!(FileObject, event) as u64)),
        _ => {
            nt_object::dereference(body);
            Err(NtStatus::OBJECT_TYPE_MISMATCH)
        }
    }
}

unsafe extern "win64" fn zw_wait_for_single_object(handle: Handle, alertable: u8, timeout: *const i64) -> NtStatus {
    let (body, object) = match waitable(handle) {
        Ok(found) => found,
        Err(status) => return status,
    };
    // SAFETY: a live dispatcher object; for the timeout see the module above.
    let status = unsafe { wait::wait_single_alertable(object, timeout_of(timeout), alertable != 0) };
    nt_object::dereference(body);
    status
}

unsafe extern "win64" fn zw_wait_for_multiple_objects(
    count: u32,
    handles: *const Handle,
    wait_type: u32,
    alertable: u8,
    timeout: *const i64,
) -> NtStatus {
    if count == 0 || count as usize > wait::OBJECTS_MAX {
        return NtStatus::INVALID_PARAMETER;
    }
    let wait_type = if wait_type == 0 { WaitType::All } else { WaitType::Any };
    let mut bodies = Vec::with_capacity(count as usize);
    let mut objects = Vec::with_capacity(count as usize);
    let mut status = NtStatus::SUCCESS;
    for index in 0..count as usize {
        // SAFETY: see the module above.
        match waitable(unsafe { handles.add(index).read_unaligned() }) {
            Ok((body, object)) => {
                bodies.push(body);
                objects.push(object);
            }
            Err(error) => {
                status = error;
                break;
            }
        }
    }
    if status == NtStatus::SUCCESS {
        // SAFETY: live dispatcher objects; for the timeout see the module above.
        status = unsafe { wait::wait_multiple_alertable(&objects, wait_type, timeout_of(timeout), alertable != 0) };
    }
    bodies.into_iter().for_each(|body| {
        nt_object::dereference(body);
    });
    status
}
