//! Handles of objects of any type: opened by name or with a tag, duplicated, found and told apart (K-155, K-158, K-159).

use std::ptr;

use gate::memory::{put, touch};
use nt_abi::object::{ProcessorMode, attributes};
use nt_abi::{Handle, NtStatus, ObjectAttributes};
use nt_dispatcher::process::{PROCESS, system};

use crate::device::DEVICE;
use crate::exports::{name_at, reference_by_handle};
use crate::file;
use crate::names;

gate::exports! {
    /// What ntoskrnl exports of handles of any object.
    pub(crate) static TABLE in "ntoskrnl.exe";
    "ObOpenObjectByName" = ob_open_object_by_name(attributes: *const ObjectAttributes, object_type: u64, mode: ProcessorMode, access_state: u64, access: u32, parse_context: u64, handle: *mut Handle) -> NtStatus, irql <= PASSIVE, rules "K-158";
    "ObOpenObjectByPointerWithTag" = ob_open_object_by_pointer_with_tag(object: u64, attributes: u32, access_state: u64, access: u32, object_type: u64, mode: ProcessorMode, tag: u32, handle: *mut Handle) -> NtStatus, irql <= PASSIVE, rules "K-155";
    "ObCloseHandle" = ob_close_handle(handle: Handle, mode: ProcessorMode) -> NtStatus, irql <= PASSIVE, rules "C-124 C-133";
    "ObGetObjectType" = ob_get_object_type(object: u64) -> u64, irql <= APC, rules "K-157";
    "ObIsKernelHandle" = ob_is_kernel_handle(handle: Handle) -> u8, irql <= APC, rules "K-159";
    "ObFindHandleForObject" = ob_find_handle_for_object(process: u64, object: u64, object_type: u64, information: u64, handle: *mut Handle) -> u8, irql <= PASSIVE, rules "K-155";
    "ZwDuplicateObject" | "NtDuplicateObject" = zw_duplicate_object(from: Handle, source: Handle, to: Handle, target: *mut Handle, access: u32, attributes: u32, options: u32) -> NtStatus, irql <= PASSIVE, rules "K-155 K-159";
}

unsafe extern "win64" fn ob_open_object_by_name(
    attributes: *const ObjectAttributes,
    object_type: u64,
    _mode: ProcessorMode,
    _access_state: u64,
    access: u32,
    _parse_context: u64,
    handle: *mut Handle,
) -> NtStatus {
    // SAFETY: what drivers pass is theirs to answer for; a bad pointer faults and is blamed on them. The same
    // holds for every function of this module.
    let (name, flags, root) =
        unsafe { (name_at((*attributes).object_name), (*attributes).attributes, (*attributes).root_directory) };
    // Directories are no objects here that a handle could lead to.
    if root.0 != 0 {
        return NtStatus::OBJECT_TYPE_MISMATCH;
    }
    let found = match name.and_then(|name| nt_object::lookup(&name)) {
        Ok(found) if !found.rest.is_empty() => return NtStatus::OBJECT_TYPE_MISMATCH,
        Ok(found) => found.body,
        Err(status) => return status,
    };
    if !nt_object::try_reference(found) {
        return NtStatus::OBJECT_NAME_NOT_FOUND;
    }
    // A device's name is opened as a file, by whoever makes files.
    let is_device = nt_object::type_of(found).is_some_and(|kind| ptr::eq(kind, &DEVICE));
    let status = if is_device || !names::fits(found, object_type) {
        NtStatus::OBJECT_TYPE_MISMATCH
    } else {
        // SAFETY: as above.
        unsafe { open(found, access, flags, handle) }
    };
    nt_object::dereference(found);
    status
}

/// Opens a handle to a live object and stores it.
///
/// # Safety
/// `handle` is the driver's.
unsafe fn open(object: u64, access: u32, flags: u32, handle: *mut Handle) -> NtStatus {
    // SAFETY: the caller's promise.
    unsafe { touch(handle) };
    match nt_object::insert(object, access, flags & attributes::KERNEL_HANDLE != 0, gate::caller()) {
        Some(opened) => {
            // SAFETY: the caller's promise.
            unsafe { put(handle, opened) };
            NtStatus::SUCCESS
        }
        None => NtStatus::INSUFFICIENT_RESOURCES,
    }
}

#[allow(clippy::too_many_arguments, reason = "NT's signature")]
unsafe extern "win64" fn ob_open_object_by_pointer_with_tag(
    object: u64,
    attributes: u32,
    _access_state: u64,
    access: u32,
    object_type: u64,
    _mode: ProcessorMode,
    _tag: u32,
    handle: *mut Handle,
) -> NtStatus {
    if !names::fits(object, object_type) {
        return NtStatus::OBJECT_TYPE_MISMATCH;
    }
    // SAFETY: see `ob_open_object_by_name`.
    unsafe { open(object, access, attributes, handle) }
}

/// From user mode a kernel handle is none.
unsafe extern "win64" fn ob_close_handle(handle: Handle, mode: ProcessorMode) -> NtStatus {
    if mode != ProcessorMode::KERNEL && is_kernel(handle) {
        return NtStatus::INVALID_HANDLE;
    }
    file::close(handle)
}

/// What `*IoFileObjectType` and its like are compared with; 0 for what is no object.
unsafe extern "win64" fn ob_get_object_type(object: u64) -> u64 {
    nt_object::type_of(object).map_or(0, |kind| kind.block())
}

fn is_kernel(handle: Handle) -> bool {
    let bits = nt_object::tag_bits(true);
    // The two for the current process and thread have these bits too, and are none of the table's.
    handle.0 & bits == bits && handle.0 < -2i64 as u64
}

unsafe extern "win64" fn ob_is_kernel_handle(handle: Handle) -> u8 {
    is_kernel(handle).into()
}

/// A handle that is open to the object, the one of lowest value.
unsafe extern "win64" fn ob_find_handle_for_object(
    process: u64,
    object: u64,
    object_type: u64,
    _information: u64,
    handle: *mut Handle,
) -> u8 {
    let mut found: Option<Handle> = None;
    // Without an object, any of the type.
    let is_wanted =
        |body| if object != 0 { body == object } else { object_type != 0 && names::fits(body, object_type) };
    if process == system() {
        nt_object::for_each_open(|entry| {
            if found.is_none() && is_wanted(entry.body) {
                found = Some(entry.handle);
            }
        });
    }
    let Some(found) = found else { return 0 };
    // SAFETY: see `ob_open_object_by_name`.
    unsafe { *handle = found };
    1
}

/// Whether a handle leads to a process; there is one, whose handles are the only ones.
fn check_process(handle: Handle) -> Result<(), NtStatus> {
    let (body, _) = reference_by_handle(handle, PROCESS.block())?;
    nt_object::dereference(body);
    Ok(())
}

fn duplicate(
    (source, target): (Handle, *mut Handle),
    access: u32,
    flags: u32,
    options: u32,
) -> Result<NtStatus, NtStatus> {
    /// `DUPLICATE_SAME_ACCESS` and `DUPLICATE_SAME_ATTRIBUTES`.
    const SAME_ACCESS: u32 = 2;
    const SAME_ATTRIBUTES: u32 = 4;
    let (body, granted) = reference_by_handle(source, 0)?;
    let access = if options & SAME_ACCESS != 0 { granted } else { access };
    let same = if is_kernel(source) { attributes::KERNEL_HANDLE } else { 0 };
    // SAFETY: see `ob_open_object_by_name`.
    let status = unsafe { open(body, access, if options & SAME_ATTRIBUTES != 0 { same } else { flags }, target) };
    nt_object::dereference(body);
    Ok(status)
}

/// The source is closed, if that is asked for, whatever comes of the rest. Without a target that is all that happens.
unsafe extern "win64" fn zw_duplicate_object(
    from: Handle,
    source: Handle,
    to: Handle,
    target: *mut Handle,
    access: u32,
    attributes: u32,
    options: u32,
) -> NtStatus {
    /// `DUPLICATE_CLOSE_SOURCE`.
    const CLOSE_SOURCE: u32 = 1;
    let only_closes = target.is_null() && options & CLOSE_SOURCE != 0;
    if let Err(status) = check_process(from) {
        return status;
    }
    let outcome = if only_closes {
        Ok(NtStatus::SUCCESS)
    } else {
        check_process(to).and_then(|()| duplicate((source, target), access, attributes, options))
    };
    if options & CLOSE_SOURCE != 0 {
        let closed = file::close(source);
        if only_closes {
            return closed;
        }
    }
    outcome.unwrap_or_else(|status| status)
}
