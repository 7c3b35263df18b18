//! Objects by name and by pointer (K-157, K-158).

use std::mem::size_of;
use std::ptr;

use gate::memory::{put, touch};
use nt_abi::object::{ProcessorMode, attributes};
use nt_abi::{DeviceObject, FileObject, Handle, NtStatus, UnicodeString};

use crate::buffers::services;
use crate::device::{self, DEVICE};
use crate::driver::DRIVER;
use crate::exports::name_at;
use crate::file::FILE;

gate::exports! {
    /// What ntoskrnl exports of names.
    pub(crate) static TABLE in "ntoskrnl.exe";
    "ObReferenceObjectByName" = ob_reference_object_by_name(name: *const UnicodeString, attributes: u32, access_state: u64, access: u32, object_type: u64, mode: ProcessorMode, parse_context: u64, object: *mut u64) -> NtStatus, irql <= PASSIVE, rules "K-158";
    "ObOpenObjectByPointer" = ob_open_object_by_pointer(object: u64, attributes: u32, access_state: u64, access: u32, object_type: u64, mode: ProcessorMode, handle: *mut Handle) -> NtStatus, irql <= PASSIVE, rules "K-155";
    "ObQueryNameString" = ob_query_name_string(object: u64, information: u64, length: u32, needed: *mut u32) -> NtStatus, irql <= PASSIVE, rules "K-158";
    "ObfDereferenceObjectDeferDelete" | "ObDereferenceObjectDeferDelete" | "ObDereferenceObjectDeferDeleteWithTag" = ob_dereference_object_defer_delete(object: u64) -> i64, irql <= DISPATCH, rules "C-142";
}

/// Whether a live object is of the type that a driver named by its block; 0 takes any.
pub(crate) fn fits(object: u64, object_type: u64) -> bool {
    object_type == 0 || nt_object::type_of(object).is_some_and(|found| found.block() == object_type)
}

#[allow(clippy::too_many_arguments, reason = "NT's signature")]
unsafe extern "win64" fn ob_reference_object_by_name(
    name: *const UnicodeString,
    _attributes: u32,
    _access_state: u64,
    _access: u32,
    object_type: u64,
    _mode: ProcessorMode,
    _parse_context: u64,
    object: *mut u64,
) -> NtStatus {
    // SAFETY: what drivers pass is theirs to answer for; a bad pointer faults and is blamed on them. The same
    // holds for every function of this module.
    unsafe { touch(object) };
    let found = name_at(name).and_then(|name| nt_object::lookup(&name));
    let found = match found {
        // A name that goes on behind an object names something of the object's own, such as a file.
        Ok(found) if !found.rest.is_empty() => return NtStatus::OBJECT_TYPE_MISMATCH,
        Ok(found) => found,
        Err(status) => return status,
    };
    if !nt_object::try_reference(found.body) {
        return NtStatus::OBJECT_NAME_NOT_FOUND;
    }
    if !fits(found.body, object_type) {
        nt_object::dereference(found.body);
        return NtStatus::OBJECT_TYPE_MISMATCH;
    }
    // SAFETY: as above.
    unsafe { put(object, found.body) };
    NtStatus::SUCCESS
}

#[allow(clippy::too_many_arguments, reason = "NT's signature")]
unsafe extern "win64" fn ob_open_object_by_pointer(
    object: u64,
    attributes: u32,
    _access_state: u64,
    access: u32,
    object_type: u64,
    _mode: ProcessorMode,
    handle: *mut Handle,
) -> NtStatus {
    if !fits(object, object_type) {
        return NtStatus::OBJECT_TYPE_MISMATCH;
    }
    // SAFETY: see `ob_reference_object_by_name`.
    unsafe { touch(handle) };
    let kernel = attributes & attributes::KERNEL_HANDLE != 0;
    match nt_object::insert(object, access, kernel, gate::caller()) {
        Some(opened) => {
            // SAFETY: see `ob_reference_object_by_name`.
            unsafe { put(handle, opened) };
            NtStatus::SUCCESS
        }
        None => NtStatus::INSUFFICIENT_RESOURCES,
    }
}

/// The full name of an object; empty if it has none.
pub(crate) fn name_of(object: u64) -> Vec<u16> {
    let Some(kind) = nt_object::type_of(object) else { return Vec::new() };
    if ptr::eq(kind, &FILE) {
        // SAFETY: a live file object; its name is read with guarded copies, because filters replace it.
        let (device, rest) = unsafe {
            let file = object as *mut FileObject;
            ((*file).device_object, gate::memory::read_unicode(&raw const (*file).file_name as u64))
        };
        // Only as a device: a driver may have written anything there, even the file itself.
        return [device::name(device).unwrap_or_default(), rest.unwrap_or_default()].concat();
    }
    if ptr::eq(kind, &DEVICE) {
        return device::name(object as *mut DeviceObject).unwrap_or_default();
    }
    if ptr::eq(kind, &DRIVER) {
        let name = object + std::mem::offset_of!(nt_abi::DriverObject, driver_name) as u64;
        return gate::memory::read_unicode(name).unwrap_or_default();
    }
    (services().key_name)(object).or_else(|| nt_object::name_of(object)).unwrap_or_default()
}

unsafe extern "win64" fn ob_query_name_string(
    object: u64,
    information: u64,
    length: u32,
    needed: *mut u32,
) -> NtStatus {
    let name = name_of(object);
    // The structure, the name and a terminator; an object without a name needs the structure alone.
    let text = if name.is_empty() { 0 } else { (name.len() + 1) * 2 };
    // Filters give files names of any length.
    let Ok(text) = u16::try_from(text) else { return NtStatus::NAME_TOO_LONG };
    let whole = size_of::<UnicodeString>() as u32 + u32::from(text);
    // SAFETY: see `ob_reference_object_by_name`.
    unsafe { put(needed, whole) };
    if length < whole {
        return NtStatus::INFO_LENGTH_MISMATCH;
    }
    let behind = information + size_of::<UnicodeString>() as u64;
    let string = match text {
        0 => UnicodeString::EMPTY,
        _ => UnicodeString { length: text - 2, maximum_length: text, _pad: 0, buffer: behind as *mut u16 },
    };
    let bytes: Vec<u8> = name.iter().chain(&[0]).flat_map(|unit| unit.to_le_bytes()).collect();
    let written = gate::memory::write_value(information, string)
        .and_then(|()| gate::memory::write(behind, &bytes[..usize::from(text)]));
    written.map_or(NtStatus::ACCESS_VIOLATION, |()| NtStatus::SUCCESS)
}

/// Deletion above PASSIVE_LEVEL is always deferred here, so this is the same as any other.
unsafe extern "win64" fn ob_dereference_object_defer_delete(object: u64) -> i64 {
    nt_object::dereference(object)
}
