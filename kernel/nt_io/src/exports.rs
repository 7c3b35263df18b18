//! The win64 faces of objects, handles, devices, files and requests.

use std::ptr;
use std::sync::OnceLock;

use gate::memory::{put, touch};
use nt_abi::io::allocation_flags;
use nt_abi::object::ProcessorMode;
use nt_abi::{
    DeviceObject, DriverObject, FileObject, Handle, IoStatusBlock, Irp, Irql, KernelEvent, MajorFunction, NtStatus,
    ObjectAttributes, UnicodeString,
};
use nt_dispatcher::{process, spin};
use nt_object::ObjectType;

use crate::build::{self, DeviceControl, Reply};
use crate::device::{self, DEVICE, NewDevice};
use crate::driver::DRIVER;
use crate::file::{self, FILE, Open};
use crate::irp::{self, Owner};
use crate::{cancel, completion, names};

/// `FILE_OPEN`, in the place where the create parameters hold the disposition.
const FILE_OPEN: u32 = 1 << 24;
/// `FILE_READ_ATTRIBUTES`.
const FILE_READ_ATTRIBUTES: u32 = 0x80;

gate::exports! {
    /// What ntoskrnl exports of objects and I/O.
    pub static TABLE in "ntoskrnl.exe";
    "ZwCreateFile" | "NtCreateFile" = zw_create_file(handle: *mut Handle, access: u32, attributes: *const ObjectAttributes, iosb: *mut IoStatusBlock, allocation: *const i64, file_attributes: u32, share: u32, disposition: u32, options: u32, ea: u64, ea_length: u32) -> NtStatus, irql <= PASSIVE, rules "C-032 C-033 C-070 C-081 K-161";
    "IoCreateFile" = io_create_file(handle: *mut Handle, access: u32, attributes: *const ObjectAttributes, iosb: *mut IoStatusBlock, allocation: *const i64, file_attributes: u32, share: u32, disposition: u32, options: u32, ea: u64, ea_length: u32, kind: u32, parameters: u64, flags: u32) -> NtStatus, irql <= PASSIVE, rules "C-032 C-070";
    "IoCreateFileEx" = io_create_file_ex(handle: *mut Handle, access: u32, attributes: *const ObjectAttributes, iosb: *mut IoStatusBlock, allocation: *const i64, file_attributes: u32, share: u32, disposition: u32, options: u32, ea: u64, ea_length: u32, kind: u32, parameters: u64, flags: u32, context: *const DriverCreateContext) -> NtStatus, irql <= PASSIVE, rules "C-032 C-070";
    "ZwOpenFile" | "NtOpenFile" = zw_open_file(handle: *mut Handle, access: u32, attributes: *const ObjectAttributes, iosb: *mut IoStatusBlock, share: u32, options: u32) -> NtStatus, irql <= PASSIVE, rules "C-070";
    "ZwDeleteFile" | "NtDeleteFile" = zw_delete_file(attributes: *const ObjectAttributes) -> NtStatus, irql <= PASSIVE, rules "K-160";
    "ZwClose" | "NtClose" = zw_close(handle: Handle) -> NtStatus, rules "C-124 C-129 C-133";
    "ObReferenceObjectByHandle" = ob_reference_object_by_handle(handle: Handle, access: u32, object_type: u64, mode: ProcessorMode, object: *mut u64, information: *mut HandleInformation) -> NtStatus, irql <= PASSIVE, rules "C-122 C-126 C-127 C-128 K-155";
    "ObReferenceObjectByHandleWithTag" = ob_reference_object_by_handle_with_tag(handle: Handle, access: u32, object_type: u64, mode: ProcessorMode, tag: u32, object: *mut u64, information: *mut HandleInformation) -> NtStatus, irql <= PASSIVE, rules "C-126 K-155";
    "ObReferenceObjectByPointer" | "ObReferenceObjectByPointerWithTag" = ob_reference_object_by_pointer(object: u64, access: u32, object_type: u64, mode: ProcessorMode) -> NtStatus, irql <= DISPATCH, rules "C-120";
    "ObfReferenceObject" | "ObReferenceObject" | "ObfReferenceObjectWithTag" = ob_reference_object(object: u64) -> i64, irql <= DISPATCH, rules "C-120 K-156";
    "ObfDereferenceObject" | "ObDereferenceObject" | "ObfDereferenceObjectWithTag" = ob_dereference_object(object: u64) -> i64, irql <= DISPATCH, rules "C-123 C-142 K-156";
    "IoCreateDevice" = io_create_device(driver: *mut DriverObject, extension: u32, name: *const UnicodeString, device_type: u32, characteristics: u32, exclusive: u8, device: *mut *mut DeviceObject) -> NtStatus, irql <= APC, rules "K-085 K-086";
    "IoDeleteDevice" = io_delete_device(device: *mut DeviceObject), irql <= APC, rules "K-088 K-104";
    "IoCreateSymbolicLink" = io_create_symbolic_link(name: *const UnicodeString, target: *const UnicodeString) -> NtStatus, irql <= PASSIVE, rules "K-098";
    "IoDeleteSymbolicLink" = io_delete_symbolic_link(name: *const UnicodeString) -> NtStatus, irql <= PASSIVE, rules "K-098";
    "IoGetRelatedDeviceObject" = io_get_related_device_object(file: *mut FileObject) -> *mut DeviceObject, irql <= DISPATCH, rules "K-096";
    "IoGetDeviceObjectPointer" = io_get_device_object_pointer(name: *const UnicodeString, access: u32, file: *mut *mut FileObject, device: *mut *mut DeviceObject) -> NtStatus, irql <= PASSIVE, rules "C-087 C-146 K-095";
    "IoAttachDevice" = io_attach_device(source: *mut DeviceObject, name: *const UnicodeString, below: *mut *mut DeviceObject) -> NtStatus, irql <= PASSIVE, rules "K-093";
    "IoAttachDeviceToDeviceStack" = io_attach_device_to_device_stack(source: *mut DeviceObject, target: *mut DeviceObject) -> *mut DeviceObject, irql <= DISPATCH, rules "K-092";
    "IoDetachDevice" = io_detach_device(below: *mut DeviceObject), irql <= PASSIVE, rules "K-094";
    "IoAllocateIrp" = io_allocate_irp(locations: i8, quota: u8) -> *mut Irp, irql <= DISPATCH, rules "K-020 K-024";
    "IoFreeIrp" = io_free_irp(irp: *mut Irp), irql <= DISPATCH, rules "K-025 K-028";
    "IoInitializeIrp" = io_initialize_irp(irp: *mut Irp, size: u16, locations: i8), irql <= DISPATCH, rules "K-021";
    "IoReuseIrp" = io_reuse_irp(irp: *mut Irp, status: NtStatus), irql <= DISPATCH, rules "K-026 K-027";
    "IoBuildDeviceIoControlRequest" = io_build_device_io_control_request(code: u32, device: *mut DeviceObject, input: u64, input_length: u32, output: u64, output_length: u32, internal: u8, event: *mut KernelEvent, iosb: *mut IoStatusBlock) -> *mut Irp, irql <= PASSIVE, rules "K-060 K-063 K-066 C-182";
    "IofCallDriver" | "IoCallDriver" = iof_call_driver(device: *mut DeviceObject, irp: *mut Irp) -> NtStatus, irql <= DISPATCH, rules "K-035 K-047 K-049";
    "IofCompleteRequest" | "IoCompleteRequest" = iof_complete_request(irp: *mut Irp, boost: i8), irql <= DISPATCH, rules "K-038 K-041 K-043 K-049";
    "IoCancelIrp" = io_cancel_irp(irp: *mut Irp) -> u8, irql <= DISPATCH, rules "K-070 K-079";
    "IoAcquireCancelSpinLock" = io_acquire_cancel_spin_lock(level: *mut Irql), irql <= DISPATCH, rules "K-081";
    "IoReleaseCancelSpinLock" = io_release_cancel_spin_lock(level: Irql), irql <= DISPATCH, rules "K-081";
    data "IoFileObjectType" = file_type_cell, rules "K-157";
    data "IoDriverObjectType" = driver_type_cell, rules "K-157";
    data "IoDeviceObjectType" = device_type_cell, rules "K-157";
}

/// `OBJECT_HANDLE_INFORMATION`.
#[repr(C)]
pub(crate) struct HandleInformation {
    attributes: u32,
    granted: u32,
}

fn cell(cell: &'static OnceLock<u64>, object_type: &'static ObjectType) -> u64 {
    ptr::from_ref(cell.get_or_init(|| object_type.block())) as u64
}

fn file_type_cell() -> u64 {
    static CELL: OnceLock<u64> = OnceLock::new();
    cell(&CELL, &FILE)
}

fn driver_type_cell() -> u64 {
    static CELL: OnceLock<u64> = OnceLock::new();
    cell(&CELL, &DRIVER)
}

fn device_type_cell() -> u64 {
    static CELL: OnceLock<u64> = OnceLock::new();
    cell(&CELL, &DEVICE)
}

/// The name behind a driver's pointer; a bad pointer is an access violation, as a status.
pub(crate) fn name_at(name: *const UnicodeString) -> Result<Vec<u16>, NtStatus> {
    gate::memory::read_unicode(name as u64).map_err(|_| NtStatus::ACCESS_VIOLATION)
}

/// Opens by object attributes and stores handle and status block.
///
/// # Safety
/// `handle` and `iosb` are the driver's.
unsafe fn open(
    handle: *mut Handle,
    iosb: *mut IoStatusBlock,
    attributes: *const ObjectAttributes,
    fill: impl FnOnce(&mut Open<'_>),
) -> NtStatus {
    let caller = gate::caller();
    // SAFETY: what drivers pass is theirs to answer for; a bad pointer faults and is blamed on them. The same
    // holds for every function of this module.
    unsafe {
        touch(handle);
        if !iosb.is_null() {
            touch(iosb);
        }
        let name = match name_at((*attributes).object_name) {
            Ok(name) => name,
            Err(status) => return status,
        };
        let (attributes, root) = ((*attributes).attributes, (*attributes).root_directory);
        let mut open =
            Open { name: &name, attributes, access: 0, options: 0, file_attributes: 0, share: 0, ea: (0, 0) };
        fill(&mut open);
        let opened = if root.0 == 0 { file::open(&open, caller) } else { file::open_relative(root, &open, caller) };
        if !iosb.is_null() {
            put(iosb, IoStatusBlock::new(opened.status, opened.information));
        }
        if opened.handle.0 != 0 {
            put(handle, opened.handle);
        }
        opened.status
    }
}

#[allow(clippy::too_many_arguments, reason = "NT's signature")]
unsafe extern "win64" fn zw_create_file(
    handle: *mut Handle,
    access: u32,
    attributes: *const ObjectAttributes,
    iosb: *mut IoStatusBlock,
    _allocation: *const i64,
    file_attributes: u32,
    share: u32,
    disposition: u32,
    options: u32,
    ea: u64,
    ea_length: u32,
) -> NtStatus {
    // SAFETY: see `open`.
    unsafe {
        open(handle, iosb, attributes, |open| {
            open.access = access;
            open.file_attributes = file_attributes as u16;
            open.share = share as u16;
            open.options = disposition << 24 | (options & 0x00FF_FFFF);
            open.ea = (ea, ea_length);
        })
    }
}

/// `IO_DRIVER_CREATE_CONTEXT`, as far as every version of it goes.
#[repr(C)]
struct DriverCreateContext {
    size: u16,
    extra_create_parameters: u64,
    device_hint: *mut DeviceObject,
}

/// Whether an open is of a kind that there is: pipes and mail slots are made by file systems that nobody has here.
fn check_kind(kind: u32) -> Result<(), NtStatus> {
    /// Of `CREATE_FILE_TYPE`.
    const NONE: u32 = 0;
    const NAMED_PIPE: u32 = 1;
    const MAILSLOT: u32 = 2;
    match kind {
        NONE => Ok(()),
        NAMED_PIPE | MAILSLOT => Err(NtStatus::NOT_SUPPORTED),
        _ => Err(NtStatus::INVALID_PARAMETER),
    }
}

/// As `ZwCreateFile`: what its flags turn off or on are checks that kernel mode does not get here either way.
#[allow(clippy::too_many_arguments, reason = "NT's signature")]
unsafe extern "win64" fn io_create_file(
    handle: *mut Handle,
    access: u32,
    attributes: *const ObjectAttributes,
    iosb: *mut IoStatusBlock,
    allocation: *const i64,
    file_attributes: u32,
    share: u32,
    disposition: u32,
    options: u32,
    ea: u64,
    ea_length: u32,
    kind: u32,
    _parameters: u64,
    _flags: u32,
) -> NtStatus {
    if let Err(status) = check_kind(kind) {
        return status;
    }
    // SAFETY: see `open`.
    unsafe {
        zw_create_file(
            handle,
            access,
            attributes,
            iosb,
            allocation,
            file_attributes,
            share,
            disposition,
            options,
            ea,
            ea_length,
        )
    }
}

/// A hint of a device and lists of extra parameters are between file systems and their filters; opens with either are
/// refused.
#[allow(clippy::too_many_arguments, reason = "NT's signature")]
unsafe extern "win64" fn io_create_file_ex(
    handle: *mut Handle,
    access: u32,
    attributes: *const ObjectAttributes,
    iosb: *mut IoStatusBlock,
    allocation: *const i64,
    file_attributes: u32,
    share: u32,
    disposition: u32,
    options: u32,
    ea: u64,
    ea_length: u32,
    kind: u32,
    parameters: u64,
    flags: u32,
    context: *const DriverCreateContext,
) -> NtStatus {
    // SAFETY: see `open`.
    unsafe {
        if !context.is_null() {
            if usize::from((*context).size) < size_of::<DriverCreateContext>() {
                return NtStatus::INVALID_PARAMETER;
            }
            if (*context).extra_create_parameters != 0 || !(*context).device_hint.is_null() {
                return NtStatus::NOT_SUPPORTED;
            }
        }
        io_create_file(
            handle,
            access,
            attributes,
            iosb,
            allocation,
            file_attributes,
            share,
            disposition,
            options,
            ea,
            ea_length,
            kind,
            parameters,
            flags,
        )
    }
}

unsafe extern "win64" fn zw_open_file(
    handle: *mut Handle,
    access: u32,
    attributes: *const ObjectAttributes,
    iosb: *mut IoStatusBlock,
    share: u32,
    options: u32,
) -> NtStatus {
    // SAFETY: see `open`.
    unsafe {
        open(handle, iosb, attributes, |open| {
            open.access = access;
            open.share = share as u16;
            open.options = FILE_OPEN | (options & 0x00FF_FFFF);
        })
    }
}

/// Deletes a file by name: opens it to be deleted, and closes it.
unsafe extern "win64" fn zw_delete_file(attributes: *const ObjectAttributes) -> NtStatus {
    const DELETE: u32 = 0x1_0000;
    const SHARE_ALL: u16 = 7;
    const DELETE_ON_CLOSE: u32 = 0x1000;
    let mut handle = Handle(0);
    // SAFETY: see `open`.
    let status = unsafe {
        open(&mut handle, ptr::null_mut(), attributes, |open| {
            open.access = DELETE;
            open.share = SHARE_ALL;
            open.options = FILE_OPEN | DELETE_ON_CLOSE;
        })
    };
    if handle.0 != 0 {
        file::close(handle);
    }
    status
}

unsafe extern "win64" fn zw_close(handle: Handle) -> NtStatus {
    file::close(handle)
}

/// NULL skips the type check (C-128).
fn wanted_type(object_type: u64) -> Option<u64> {
    (object_type != 0).then_some(object_type)
}

/// The object behind a handle, or behind one of the two that stand for the current process and thread, referenced, and
/// the access that was granted.
pub(crate) fn reference_by_handle(handle: Handle, object_type: u64) -> Result<(u64, u32), NtStatus> {
    /// `ZwCurrentProcess` and `ZwCurrentThread`.
    const CURRENT_PROCESS: Handle = Handle(-1i64 as u64);
    const CURRENT_THREAD: Handle = Handle(-2i64 as u64);
    const ALL_ACCESS: u32 = 0x1F_FFFF;
    let body = match handle {
        CURRENT_PROCESS => process::system(),
        CURRENT_THREAD => gate::thread::current_thread_object(),
        _ => return nt_object::reference_by_handle(handle, wanted_type(object_type)),
    };
    if !names::fits(body, object_type) {
        return Err(NtStatus::OBJECT_TYPE_MISMATCH);
    }
    nt_object::reference(body);
    Ok((body, ALL_ACCESS))
}

unsafe extern "win64" fn ob_reference_object_by_handle(
    handle: Handle,
    access: u32,
    object_type: u64,
    mode: ProcessorMode,
    object: *mut u64,
    information: *mut HandleInformation,
) -> NtStatus {
    // Null until it is found, as on NT.
    // SAFETY: see `open`.
    unsafe {
        put(object, 0);
        if !information.is_null() {
            touch(information);
        }
    }
    match reference_by_handle(handle, object_type) {
        // For kernel mode the granted access is not looked at (C-127).
        Ok((body, granted)) if mode != ProcessorMode::KERNEL && access & !granted != 0 => {
            nt_object::dereference(body);
            NtStatus::ACCESS_DENIED
        }
        Ok((body, granted)) => {
            // SAFETY: see `open`.
            unsafe {
                put(object, body);
                if !information.is_null() {
                    // Nobody inherits handles here, and none is protected from being closed.
                    put(information, HandleInformation { attributes: 0, granted });
                }
            }
            NtStatus::SUCCESS
        }
        Err(status) => status,
    }
}

/// Tags tell references apart in a debugger; there are no lists of them here.
unsafe extern "win64" fn ob_reference_object_by_handle_with_tag(
    handle: Handle,
    access: u32,
    object_type: u64,
    mode: ProcessorMode,
    _tag: u32,
    object: *mut u64,
    information: *mut HandleInformation,
) -> NtStatus {
    // SAFETY: see `open`.
    unsafe { ob_reference_object_by_handle(handle, access, object_type, mode, object, information) }
}

/// Those with a tag pass it behind the rest.
unsafe extern "win64" fn ob_reference_object_by_pointer(
    object: u64,
    _access: u32,
    object_type: u64,
    _mode: ProcessorMode,
) -> NtStatus {
    if !names::fits(object, object_type) {
        return NtStatus::OBJECT_TYPE_MISMATCH;
    }
    nt_object::reference(object);
    NtStatus::SUCCESS
}

unsafe extern "win64" fn ob_reference_object(object: u64) -> i64 {
    nt_object::reference(object)
}

unsafe extern "win64" fn ob_dereference_object(object: u64) -> i64 {
    nt_object::dereference(object)
}

unsafe extern "win64" fn io_create_device(
    driver: *mut DriverObject,
    extension: u32,
    name: *const UnicodeString,
    device_type: u32,
    characteristics: u32,
    exclusive: u8,
    device: *mut *mut DeviceObject,
) -> NtStatus {
    let caller = gate::caller();
    // Null until it is made, as on NT.
    // SAFETY: see `open`.
    unsafe { put(device, ptr::null_mut()) };
    let name = match (!name.is_null()).then(|| name_at(name)).transpose() {
        Ok(name) => name.filter(|name| !name.is_empty()),
        Err(status) => return status,
    };
    let name = name.as_deref();
    let new = NewDevice { driver, extension, name, device_type, characteristics, exclusive: exclusive != 0 };
    // SAFETY: see `open`.
    match unsafe { device::create(&new, caller) } {
        Ok(made) => {
            // SAFETY: see `open`.
            unsafe { put(device, made) };
            NtStatus::SUCCESS
        }
        Err(status) => status,
    }
}

unsafe extern "win64" fn io_delete_device(device: *mut DeviceObject) {
    // SAFETY: see `open`.
    unsafe { device::delete(device) }
}

unsafe extern "win64" fn io_create_symbolic_link(name: *const UnicodeString, target: *const UnicodeString) -> NtStatus {
    let caller = gate::caller();
    let made = name_at(name).and_then(|name| nt_object::insert_link(&name, &name_at(target)?, caller));
    made.err().unwrap_or(NtStatus::SUCCESS)
}

unsafe extern "win64" fn io_delete_symbolic_link(name: *const UnicodeString) -> NtStatus {
    name_at(name).and_then(|name| nt_object::remove(&name)).err().unwrap_or(NtStatus::SUCCESS)
}

unsafe extern "win64" fn io_get_related_device_object(file: *mut FileObject) -> *mut DeviceObject {
    // SAFETY: see `open`.
    unsafe { device::related(file) }
}

/// The file object behind a device's name, with a reference, and the handle that it was opened by.
fn open_by_name(
    name: *const UnicodeString,
    access: u32,
    caller: u64,
) -> Result<(*mut FileObject, nt_abi::Handle), NtStatus> {
    let name = name_at(name)?;
    let open =
        Open { name: &name, attributes: 0x240, access, options: FILE_OPEN, file_attributes: 0, share: 0, ea: (0, 0) };
    let opened = file::open(&open, caller);
    if opened.handle.0 == 0 {
        return Err(opened.status);
    }
    let file = nt_object::reference_by_handle(opened.handle, None);
    if file.is_err() {
        file::close(opened.handle);
    }
    file.map(|(file, _)| (file as *mut FileObject, opened.handle))
}

unsafe extern "win64" fn io_get_device_object_pointer(
    name: *const UnicodeString,
    access: u32,
    file: *mut *mut FileObject,
    device: *mut *mut DeviceObject,
) -> NtStatus {
    // SAFETY: see `open`.
    unsafe {
        touch(file);
        touch(device);
    }
    match open_by_name(name, access, gate::caller()) {
        // SAFETY: see `open`.
        Ok((opened, handle)) => unsafe {
            crate::file::close(handle);
            put(file, opened);
            put(device, device::related(opened));
            NtStatus::SUCCESS
        },
        Err(status) => status,
    }
}

unsafe extern "win64" fn io_attach_device(
    source: *mut DeviceObject,
    name: *const UnicodeString,
    below: *mut *mut DeviceObject,
) -> NtStatus {
    // SAFETY: see `open`.
    unsafe { touch(below) };
    match open_by_name(name, FILE_READ_ATTRIBUTES, gate::caller()) {
        // SAFETY: see `open`. The pointer is there before the new device gets its first requests, which are the CLEANUP and
        // the CLOSE of this very file (K-093, D-277).
        Ok((opened, handle)) => unsafe {
            let attached = device::attach(source, device::of_file(opened), |top| put(below, top));
            file::close(handle);
            nt_object::dereference(opened as u64);
            if attached.is_null() { NtStatus::NO_SUCH_DEVICE } else { NtStatus::SUCCESS }
        },
        Err(status) => status,
    }
}

unsafe extern "win64" fn io_attach_device_to_device_stack(
    source: *mut DeviceObject,
    target: *mut DeviceObject,
) -> *mut DeviceObject {
    // SAFETY: see `open`.
    unsafe { device::attach(source, target, |_| {}) }
}

unsafe extern "win64" fn io_detach_device(below: *mut DeviceObject) {
    // SAFETY: see `open`.
    unsafe { device::detach(below) }
}

unsafe extern "win64" fn io_allocate_irp(locations: i8, quota: u8) -> *mut Irp {
    let Some(irp) = irp::allocate(locations, Owner::Driver, gate::caller()) else { return ptr::null_mut() };
    if quota != 0 {
        // SAFETY: a new packet.
        unsafe { (*irp).allocation_flags |= allocation_flags::LOOKASIDE };
    }
    irp
}

unsafe extern "win64" fn io_free_irp(irp: *mut Irp) {
    // SAFETY: see `irp::free_by_driver`.
    unsafe { irp::free_by_driver(irp) };
}

unsafe extern "win64" fn io_initialize_irp(irp: *mut Irp, size: u16, locations: i8) {
    // SAFETY: see `open`.
    unsafe { irp::initialize(irp, size, locations.max(0)) }
}

unsafe extern "win64" fn io_reuse_irp(irp: *mut Irp, status: NtStatus) {
    // SAFETY: see `open`.
    unsafe {
        let (size, locations, flags) = ((*irp).size, (*irp).stack_count, (*irp).allocation_flags);
        irp::initialize(irp, size, locations.max(0));
        (*irp).allocation_flags = flags;
        (*irp).io_status.status = status;
    }
}

#[allow(clippy::too_many_arguments, reason = "NT's signature")]
unsafe extern "win64" fn io_build_device_io_control_request(
    code: u32,
    device: *mut DeviceObject,
    input: u64,
    input_length: u32,
    output: u64,
    output_length: u32,
    internal: u8,
    event: *mut KernelEvent,
    iosb: *mut IoStatusBlock,
) -> *mut Irp {
    let major = if internal != 0 { MajorFunction::INTERNAL_DEVICE_CONTROL } else { MajorFunction::DEVICE_CONTROL };
    let request = DeviceControl { code, input: (input, input_length), output: (output, output_length), major };
    let reply = Reply { event, iosb };
    // SAFETY: see `open`.
    let irp = unsafe { build::device_control(device, request, reply, Owner::Thread, gate::caller()) };
    irp.unwrap_or(ptr::null_mut())
}

unsafe extern "win64" fn iof_call_driver(device: *mut DeviceObject, irp: *mut Irp) -> NtStatus {
    // SAFETY: see `open`.
    unsafe { irp::call_driver(device, irp) }
}

unsafe extern "win64" fn iof_complete_request(irp: *mut Irp, _boost: i8) {
    // A completion routine above may call back in and want the same lock.
    if let Some(lock) = spin::held() {
        let message = format_args!(
            "a request ({irp:p}) was completed while the thread held a spin lock ({lock:#x}): give it back first"
        );
        gate::finding("K-043", message, gate::caller());
    }
    // SAFETY: see `open`.
    unsafe { completion::complete(irp) }
}

unsafe extern "win64" fn io_cancel_irp(irp: *mut Irp) -> u8 {
    // SAFETY: see `open`.
    unsafe { cancel::cancel(irp) }.into()
}

unsafe extern "win64" fn io_acquire_cancel_spin_lock(level: *mut Irql) {
    let old = cancel::acquire_lock();
    // SAFETY: see `open`.
    unsafe { *level = old }
}

unsafe extern "win64" fn io_release_cancel_spin_lock(level: Irql) {
    cancel::release_lock(level);
}
