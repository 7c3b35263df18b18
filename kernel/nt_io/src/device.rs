//! Devices and stacks of them (K-085 to K-099, K-104).

use std::collections::HashMap;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicI32, Ordering};

use gate::memory::{aligned, touch};
use host_lock::{Mutex, MutexGuard};
use nt_abi::dispatcher::DispatcherType;
use nt_abi::io::device_flags;
use nt_abi::{DeviceObject, DriverObject, FileObject, NtStatus};
use nt_dispatcher::event;
use nt_object::ObjectType;
use trace::Event;

use crate::{device_timer, shutdown, start_io};

/// Most devices in one stack; a longer chain is a driver's scribble.
const STACK_MAX: usize = 64;

/// Devices.
pub static DEVICE: ObjectType = ObjectType::simple("Device", |_| {});

/// Names of named devices, by body. Cold: touched when devices come and go.
static NAMES: Mutex<Option<HashMap<u64, Vec<u16>>>> = Mutex::new(None);

fn names() -> MutexGuard<'static, Option<HashMap<u64, Vec<u16>>>> {
    NAMES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The full name of a device, if it has one.
pub fn name(device: *mut DeviceObject) -> Option<Vec<u16>> {
    names().as_ref()?.get(&(device as u64)).cloned()
}

/// What `IoCreateDevice` is told.
#[derive(Clone, Copy, Debug)]
pub struct NewDevice<'a> {
    /// The owning driver.
    pub driver: *mut DriverObject,
    /// Bytes of the device extension.
    pub extension: u32,
    /// Full name, or `None`.
    pub name: Option<&'a [u16]>,
    /// `FILE_DEVICE_xxx`.
    pub device_type: u32,
    /// `FILE_xxx` characteristics.
    pub characteristics: u32,
    /// Refuse a second open while the first lasts.
    pub exclusive: bool,
}

/// Makes a device (K-085).
///
/// # Errors
/// STATUS_INSUFFICIENT_RESOURCES, or why the name cannot be had (STATUS_OBJECT_NAME_COLLISION,
/// STATUS_OBJECT_PATH_NOT_FOUND, K-086).
///
/// # Safety
/// `driver` is a live driver object.
///
/// IRQL: up to APC_LEVEL.
pub unsafe fn create(new: &NewDevice<'_>, caller: u64) -> Result<*mut DeviceObject, NtStatus> {
    // Before anybody can find the device: it may be a bad pointer.
    // SAFETY: the caller's promise.
    unsafe { touch(&raw mut (*new.driver).device_object) };
    let header = size_of::<DeviceObject>() as u64;
    let bytes = header + u64::from(new.extension);
    let body = nt_object::create(&DEVICE, bytes, caller).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
    if let Some(name) = new.name {
        if let Err(status) = nt_object::insert_object(name, body) {
            nt_object::dereference(body);
            return Err(status);
        }
        names().get_or_insert_default().insert(body, name.to_vec());
    }
    let device = body as *mut DeviceObject;
    // SAFETY: a new body of this size, and the caller's driver.
    unsafe {
        (*device).kind = DeviceObject::TYPE;
        // The field has 16 bits, and NT too lets a large extension wrap it.
        (*device).size = bytes as u16;
        (*device).driver_object = new.driver;
        (*device).flags = device_flags::DEVICE_INITIALIZING;
        if new.name.is_some() {
            (*device).flags |= device_flags::DEVICE_HAS_NAME;
        }
        if new.exclusive {
            (*device).flags |= device_flags::EXCLUSIVE;
        }
        (*device).characteristics = new.characteristics;
        (*device).device_type = new.device_type;
        (*device).stack_size = 1;
        (*device).device_extension = if new.extension > 0 { body + header } else { 0 };
        event::initialize(&raw mut (*device).device_lock, DispatcherType::SYNCHRONIZATION_EVENT, true);
        start_io::initialize(&raw mut (*device).device_queue);
        (*device).next_device = (*new.driver).device_object;
        (*new.driver).device_object = device;
    }
    let text = new.name.map(String::from_utf16_lossy).unwrap_or_default();
    gate::record_with_text(Event::DeviceCreated { device: body, driver: new.driver as u64 }, &text);
    Ok(device)
}

/// Deletes a device: its name goes at once, the object when its last file object does (K-088, K-104).
///
/// # Safety
/// `device` is a live device.
///
/// IRQL: up to APC_LEVEL.
pub unsafe fn delete(device: *mut DeviceObject) {
    let body = device as u64;
    // SAFETY: the caller's promise.
    unsafe { shutdown::unregister(device) };
    device_timer::forget(device);
    if let Some(name) = names().as_mut().and_then(|names| names.remove(&body)) {
        let _ = nt_object::remove(&name);
    }
    // SAFETY: the caller's promise; the list is walked with a bound, since drivers can write to it.
    unsafe {
        let mut link = &raw mut (*driver(device)).device_object;
        for _ in 0..STACK_MAX * STACK_MAX {
            let next = aligned(*link, "DEVICE_OBJECT.NextDevice");
            if next.is_null() {
                break;
            }
            if next == device {
                *link = (*device).next_device;
                break;
            }
            link = &raw mut (*next).next_device;
        }
    }
    gate::record(Event::DeviceDeleted { device: body });
    nt_object::dereference(body);
}

/// `DEVICE_OBJECT.ReferenceCount`: open file objects, queued work items and whatever else keeps a device busy.
unsafe fn busy_count<'a>(device: *mut DeviceObject) -> &'a AtomicI32 {
    // SAFETY: the caller's live device; drivers only read the word.
    unsafe { AtomicI32::from_ptr(&raw mut (*device).reference_count) }
}

/// Counts a user of the device in or out, so that its driver is not unloaded meanwhile (K-101).
///
/// # Safety
/// `device` is a live device.
pub unsafe fn count_open(device: *mut DeviceObject, by: i32) {
    // SAFETY: the caller's promise.
    unsafe { busy_count(device) }.fetch_add(by, Ordering::AcqRel);
}

/// Users of the device at this moment.
///
/// # Safety
/// `device` is a live device.
pub unsafe fn open_count(device: *mut DeviceObject) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { busy_count(device) }.load(Ordering::Acquire)
}

/// The top of the stack over a device, looked up anew each time (K-096).
///
/// # Safety
/// `device` is a live device.
pub unsafe fn top_of_stack(mut device: *mut DeviceObject) -> *mut DeviceObject {
    for _ in 0..STACK_MAX {
        // SAFETY: the caller's promise; attached devices are alive while they are attached.
        let above = unsafe { aligned((*device).attached_device, "DEVICE_OBJECT.AttachedDevice") };
        if above.is_null() {
            break;
        }
        device = above;
    }
    device
}

/// The driver that a device is of.
///
/// # Safety
/// `device` is a live device.
pub(crate) unsafe fn driver(device: *mut DeviceObject) -> *mut DriverObject {
    // SAFETY: the caller's promise.
    unsafe { aligned((*device).driver_object, "DEVICE_OBJECT.DriverObject") }
}

/// The device that a file is open on.
///
/// # Safety
/// `file` is a live file object.
pub(crate) unsafe fn of_file(file: *mut FileObject) -> *mut DeviceObject {
    // SAFETY: the caller's promise.
    unsafe { aligned((*file).device_object, "FILE_OBJECT.DeviceObject") }
}

/// `IoGetRelatedDeviceObject`.
///
/// # Safety
/// `file` is a live file object.
pub unsafe fn related(file: *mut FileObject) -> *mut DeviceObject {
    // SAFETY: the caller's promise.
    unsafe { top_of_stack(of_file(file)) }
}

/// What each attached device lies on, by body. NT keeps this in the device object's extension; cold.
static BELOW: Mutex<Option<HashMap<u64, u64>>> = Mutex::new(None);

fn below_table() -> MutexGuard<'static, Option<HashMap<u64, u64>>> {
    BELOW.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The device that `device` was attached to.
pub fn below(device: *mut DeviceObject) -> Option<*mut DeviceObject> {
    below_table().as_ref()?.get(&(device as u64)).map(|&below| below as *mut DeviceObject)
}

/// The lowest device of the stack that a device lies in; the bound ends a circle that a driver made.
pub fn bottom_of_stack(mut device: *mut DeviceObject) -> *mut DeviceObject {
    for _ in 0..STACK_MAX {
        let Some(lower) = below(device) else { break };
        device = lower;
    }
    device
}

/// Puts `source` on top of the stack that `target` belongs to and gives the device below it, or null if that one is on
/// its way out (K-092). `tell` hears of the device below before `source` can get its first request (K-093).
///
/// # Safety
/// Both are live devices.
pub unsafe fn attach(
    source: *mut DeviceObject,
    target: *mut DeviceObject,
    tell: impl FnOnce(*mut DeviceObject),
) -> *mut DeviceObject {
    // Serialises attachments, so that two of them do not both find the same top.
    let mut table = below_table();
    // SAFETY: the caller's promise; the device below is referenced while something lies on it.
    unsafe {
        let below = top_of_stack(target);
        if (*below).flags & device_flags::DEVICE_INITIALIZING != 0 || !nt_object::try_reference(below as u64) {
            return std::ptr::null_mut();
        }
        (*source).stack_size = (*below).stack_size.saturating_add(1);
        (*source).alignment_requirement = (*below).alignment_requirement;
        table.get_or_insert_default().insert(source as u64, below as u64);
        tell(below);
        (*below).attached_device = source;
        gate::record(Event::DeviceAttached { device: source as u64, lower: below as u64 });
        below
    }
}

/// Takes away whatever is attached to `below` (K-094); a device that waits for its deletion goes then.
///
/// # Safety
/// `below` is a live device.
pub unsafe fn detach(below: *mut DeviceObject) {
    let mut table = below_table();
    // SAFETY: the caller's promise.
    let source = unsafe { std::mem::replace(&mut (*below).attached_device, std::ptr::null_mut()) };
    let known = table.as_mut().and_then(|table| table.remove(&(source as u64)));
    drop(table);
    match known {
        Some(known) if known == below as u64 => {
            nt_object::dereference(known);
        }
        _ => gate::finding("K-094", "IoDetachDevice was given a device that nothing is attached to", gate::caller()),
    }
}
