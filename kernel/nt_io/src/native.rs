//! `ZwReadFile` and its family: requests on a file by handle.
//!
//! A file opened for synchronous I/O has its requests waited for; otherwise the caller waits on its event, or on the
//! file itself, whose event is signalled when no event was given. Left out: completion routines as APCs, which need
//! a user thread to be delivered to.

use gate::memory::{put, write_value};
use nt_abi::io::irp_flags;
use nt_abi::{
    DeviceObject, FileObject, Handle, IoStatusBlock, Irp, KernelEvent, MajorFunction, NtStatus, UnicodeString,
};
use nt_dispatcher::event;
use nt_dispatcher::event_object::EVENT;

use crate::build::{self, DeviceControl, Reply, Transfer};
use crate::file::{self, FILE};
use crate::irp::{self, Owner};
use crate::{buffers, device};
use nt_abi::file::file_flags;

gate::exports! {
    /// What ntoskrnl exports of requests by handle.
    pub(crate) static TABLE in "ntoskrnl.exe";
    "ZwReadFile" | "NtReadFile" = zw_read_file(file: Handle, event: Handle, apc: u64, apc_context: u64, iosb: *mut IoStatusBlock, buffer: u64, length: u32, offset: *const u64, key: *const u32) -> NtStatus, irql <= PASSIVE, rules "K-160 K-162";
    "ZwWriteFile" | "NtWriteFile" = zw_write_file(file: Handle, event: Handle, apc: u64, apc_context: u64, iosb: *mut IoStatusBlock, buffer: u64, length: u32, offset: *const u64, key: *const u32) -> NtStatus, irql <= PASSIVE, rules "K-160 K-162";
    "ZwDeviceIoControlFile" | "NtDeviceIoControlFile" = zw_device_io_control_file(file: Handle, event: Handle, apc: u64, apc_context: u64, iosb: *mut IoStatusBlock, code: u32, input: u64, input_length: u32, output: u64, output_length: u32) -> NtStatus, irql <= PASSIVE, rules "K-066";
    "ZwFsControlFile" | "NtFsControlFile" = zw_fs_control_file(file: Handle, event: Handle, apc: u64, apc_context: u64, iosb: *mut IoStatusBlock, code: u32, input: u64, input_length: u32, output: u64, output_length: u32) -> NtStatus, irql <= PASSIVE, rules "K-066";
    "ZwQueryInformationFile" | "NtQueryInformationFile" = zw_query_information_file(file: Handle, iosb: *mut IoStatusBlock, buffer: u64, length: u32, class: u32) -> NtStatus, irql <= PASSIVE, rules "K-160";
    "ZwSetInformationFile" | "NtSetInformationFile" = zw_set_information_file(file: Handle, iosb: *mut IoStatusBlock, buffer: u64, length: u32, class: u32) -> NtStatus, irql <= PASSIVE, rules "K-160";
    "ZwQueryDirectoryFile" | "NtQueryDirectoryFile" = zw_query_directory_file(file: Handle, event: Handle, apc: u64, apc_context: u64, iosb: *mut IoStatusBlock, buffer: u64, length: u32, class: u32, single: u8, pattern: *const UnicodeString, restart: u8) -> NtStatus, irql <= PASSIVE, rules "K-160";
    "ZwFlushBuffersFile" | "NtFlushBuffersFile" = zw_flush_buffers_file(file: Handle, iosb: *mut IoStatusBlock) -> NtStatus, irql <= PASSIVE, rules "K-160";
}

/// How an asynchronous caller is told.
#[derive(Clone, Copy)]
struct Caller {
    event: Handle,
    apc: u64,
    iosb: *mut IoStatusBlock,
}

/// References an event object by handle; 0 for none.
fn reference_event(handle: Handle) -> Result<u64, NtStatus> {
    if handle.0 == 0 {
        return Ok(0);
    }
    nt_object::reference_by_handle(handle, Some(EVENT.block())).map(|(body, _)| body)
}

/// Builds a request for the file's device stack and sends it.
///
/// # Safety
/// What `make` puts into the packet, and the caller's status block, are the driver's to answer for.
unsafe fn send(
    handle: Handle,
    caller: Caller,
    make: impl FnOnce(*mut FileObject, *mut DeviceObject, Reply, Owner) -> Result<*mut Irp, NtStatus>,
) -> NtStatus {
    if caller.apc != 0 {
        return NtStatus::NOT_SUPPORTED;
    }
    let outcome = nt_object::reference_by_handle(handle, Some(FILE.block())).and_then(|(file, _)| {
        let event = reference_event(caller.event).inspect_err(|_| {
            nt_object::dereference(file);
        })?;
        Ok((file, event))
    });
    let (body, event) = match outcome {
        Ok(referenced) => referenced,
        Err(status) => return status,
    };
    let file = body as *mut FileObject;
    // SAFETY: the caller's promise; both objects are referenced, by us or later by the packet.
    unsafe {
        let told = if event != 0 { event as *mut KernelEvent } else { &raw mut (*file).event };
        event::reset(told);
        let device = device::related(file);
        if (*file).flags & file_flags::SYNCHRONOUS_IO != 0 {
            let outcome = file::send_and_wait_on(file, |device, reply| make(file, device, reply, Owner::Manager));
            let mut told_where = Ok(());
            let status = outcome.map_or_else(
                |status| status,
                |outcome| {
                    told_where = write_value(caller.iosb as u64, outcome);
                    event::set(told);
                    outcome.status
                },
            );
            irp::Held { output_room: 0, event, file: body }.release();
            // A bad status block is the exception of its driver, but only when the objects are let go of.
            if let Err(fault) = told_where {
                gate::seh::raise_fault(fault);
            }
            return status;
        }
        match make(file, device, Reply { event: told, iosb: caller.iosb }, Owner::Thread) {
            Ok(irp) => {
                (*irp::next_location(irp)).file_object = file;
                (*irp).original_file_object = file;
                irp::hold(irp, event, body);
                irp::call_driver(device, irp)
            }
            Err(status) => {
                irp::Held { output_room: 0, event, file: body }.release();
                status
            }
        }
    }
}

/// An optional argument behind a pointer.
///
/// # Safety
/// As for [`send`].
unsafe fn optional<T: Copy + Default>(address: *const T) -> T {
    if address.is_null() {
        return T::default();
    }
    // SAFETY: the caller's promise.
    unsafe { address.read_unaligned() }
}

/// Where a transfer begins: a file whose requests are waited for has a place of its own, which counts when the caller
/// gives none.
///
/// # Safety
/// `file` is a referenced file object.
unsafe fn offset_of(file: *mut FileObject, given: Option<u64>) -> u64 {
    /// `FILE_USE_FILE_POINTER_POSITION`.
    const OWN_PLACE: u64 = -2_i64 as u64;
    // SAFETY: the caller's promise.
    let (flags, place) = unsafe { ((*file).flags, (*file).current_byte_offset) };
    match given {
        None | Some(OWN_PLACE) if flags & file_flags::SYNCHRONOUS_IO != 0 => place as u64,
        given => given.unwrap_or_default(),
    }
}

#[allow(clippy::too_many_arguments, reason = "NT's signature")]
unsafe fn transfer(
    major: MajorFunction,
    file: Handle,
    caller: Caller,
    buffer: (u64, u32),
    offset: *const u64,
    key: *const u32,
) -> NtStatus {
    let at = gate::caller();
    // SAFETY: what drivers pass is theirs to answer for; a bad pointer faults and is blamed on them. The same
    // holds for every function of this module.
    unsafe {
        let (given, key) = (if offset.is_null() { None } else { Some(optional(offset)) }, optional(key));
        send(file, caller, |file, device, reply, owner| {
            let request = Transfer { major, buffer, offset: offset_of(file, given), key };
            build::transfer(device, request, reply, owner, at)
        })
    }
}

#[allow(clippy::too_many_arguments, reason = "NT's signature")]
unsafe extern "win64" fn zw_read_file(
    file: Handle,
    event: Handle,
    apc: u64,
    _apc_context: u64,
    iosb: *mut IoStatusBlock,
    buffer: u64,
    length: u32,
    offset: *const u64,
    key: *const u32,
) -> NtStatus {
    // SAFETY: see `transfer`.
    unsafe { transfer(MajorFunction::READ, file, Caller { event, apc, iosb }, (buffer, length), offset, key) }
}

#[allow(clippy::too_many_arguments, reason = "NT's signature")]
unsafe extern "win64" fn zw_write_file(
    file: Handle,
    event: Handle,
    apc: u64,
    _apc_context: u64,
    iosb: *mut IoStatusBlock,
    buffer: u64,
    length: u32,
    offset: *const u64,
    key: *const u32,
) -> NtStatus {
    // SAFETY: see `transfer`.
    unsafe { transfer(MajorFunction::WRITE, file, Caller { event, apc, iosb }, (buffer, length), offset, key) }
}

unsafe fn control(file: Handle, caller: Caller, request: DeviceControl) -> NtStatus {
    let at = gate::caller();
    // SAFETY: see `transfer`.
    unsafe { send(file, caller, |_, device, reply, owner| build::device_control(device, request, reply, owner, at)) }
}

#[allow(clippy::too_many_arguments, reason = "NT's signature")]
unsafe extern "win64" fn zw_device_io_control_file(
    file: Handle,
    event: Handle,
    apc: u64,
    _apc_context: u64,
    iosb: *mut IoStatusBlock,
    code: u32,
    input: u64,
    input_length: u32,
    output: u64,
    output_length: u32,
) -> NtStatus {
    let (input, output) = ((input, input_length), (output, output_length));
    let request = DeviceControl { code, input, output, major: MajorFunction::DEVICE_CONTROL };
    // SAFETY: see `transfer`.
    unsafe { control(file, Caller { event, apc, iosb }, request) }
}

#[allow(clippy::too_many_arguments, reason = "NT's signature")]
unsafe extern "win64" fn zw_fs_control_file(
    file: Handle,
    event: Handle,
    apc: u64,
    _apc_context: u64,
    iosb: *mut IoStatusBlock,
    code: u32,
    input: u64,
    input_length: u32,
    output: u64,
    output_length: u32,
) -> NtStatus {
    let (input, output) = ((input, input_length), (output, output_length));
    let request = DeviceControl { code, input, output, major: MajorFunction::FILE_SYSTEM_CONTROL };
    // SAFETY: see `transfer`.
    unsafe { control(file, Caller { event, apc, iosb }, request) }
}

/// Asks for or sets information about the file; always waited for, as callers have no event to give.
unsafe fn information(
    major: MajorFunction,
    handle: Handle,
    iosb: *mut IoStatusBlock,
    buffer: (u64, u32),
    class: u32,
) -> NtStatus {
    let (file, _) = match nt_object::reference_by_handle(handle, Some(FILE.block())) {
        Ok(referenced) => referenced,
        Err(status) => return status,
    };
    // SAFETY: see `transfer`; the file is referenced.
    let outcome = unsafe { information_on(major, file as *mut FileObject, buffer, class) };
    nt_object::dereference(file);
    match outcome {
        Ok(outcome) => {
            // SAFETY: see `transfer`.
            unsafe { put(iosb, outcome) };
            outcome.status
        }
        Err(status) => status,
    }
}

/// `IoQueryFileInformation`: as [`zw_query_information_file`], for a file object that the caller holds.
///
/// # Safety
/// `file` is a referenced file object; the buffer is the driver's.
///
/// # Errors
/// Why no request could be made.
pub(crate) unsafe fn query_information(
    file: *mut FileObject,
    buffer: (u64, u32),
    class: u32,
) -> Result<IoStatusBlock, NtStatus> {
    // SAFETY: the caller's promise.
    unsafe { information_on(MajorFunction::QUERY_INFORMATION, file, buffer, class) }
}

/// # Safety
/// As [`query_information`].
unsafe fn information_on(
    major: MajorFunction,
    file: *mut FileObject,
    (buffer, length): (u64, u32),
    class: u32,
) -> Result<IoStatusBlock, NtStatus> {
    let at = gate::caller();
    let make = |device: *mut DeviceObject, reply: Reply| {
        // SAFETY: see `transfer`.
        unsafe {
            let request = Transfer { major, buffer: (buffer, length), offset: 0, key: 0 };
            let irp = build::transfer(device, request, reply, Owner::Manager, at)?;
            (*irp::next_location(irp)).parameters = [length.into(), class.into(), 0, 0];
            let reads = major == MajorFunction::QUERY_INFORMATION;
            (*irp).user_buffer = buffer;
            irp::set_output_room(irp, length.into());
            if length > 0 {
                let input = if reads { (0, 0) } else { (buffer, length) };
                if let Err(status) = buffers::attach_system_buffer(irp, length, input, at) {
                    irp::free(irp);
                    return Err(status);
                }
            }
            if reads {
                (*irp).flags |= irp_flags::INPUT_OPERATION;
            }
            Ok(irp)
        }
    };
    // SAFETY: the caller's promise.
    unsafe { file::send_and_wait_on(file, make) }
}

unsafe extern "win64" fn zw_query_information_file(
    file: Handle,
    iosb: *mut IoStatusBlock,
    buffer: u64,
    length: u32,
    class: u32,
) -> NtStatus {
    // SAFETY: see `transfer`.
    unsafe { information(MajorFunction::QUERY_INFORMATION, file, iosb, (buffer, length), class) }
}

unsafe extern "win64" fn zw_set_information_file(
    file: Handle,
    iosb: *mut IoStatusBlock,
    buffer: u64,
    length: u32,
    class: u32,
) -> NtStatus {
    // SAFETY: see `transfer`.
    unsafe { information(MajorFunction::SET_INFORMATION, file, iosb, (buffer, length), class) }
}

unsafe extern "win64" fn zw_flush_buffers_file(file: Handle, iosb: *mut IoStatusBlock) -> NtStatus {
    // SAFETY: see `transfer`.
    unsafe { information(MajorFunction::FLUSH_BUFFERS, file, iosb, (0, 0), 0) }
}

#[allow(clippy::too_many_arguments, reason = "NT's signature")]
unsafe extern "win64" fn zw_query_directory_file(
    file: Handle,
    event: Handle,
    apc: u64,
    _apc_context: u64,
    iosb: *mut IoStatusBlock,
    buffer: u64,
    length: u32,
    class: u32,
    single: u8,
    pattern: *const UnicodeString,
    restart: u8,
) -> NtStatus {
    /// `IRP_MN_QUERY_DIRECTORY`.
    const QUERY_DIRECTORY: u8 = 1;
    /// `SL_RESTART_SCAN` and `SL_RETURN_SINGLE_ENTRY`.
    const RESTART_SCAN: u8 = 1;
    const SINGLE_ENTRY: u8 = 2;
    let at = gate::caller();
    // SAFETY: see `transfer`. The pattern is the caller's own: file systems read it before they return.
    unsafe {
        send(file, Caller { event, apc, iosb }, |_, device, reply, owner| {
            let request = Transfer { major: MajorFunction::DIRECTORY_CONTROL, buffer: (0, 0), offset: 0, key: 0 };
            let irp = build::transfer(device, request, reply, owner, at)?;
            let location = irp::next_location(irp);
            (*location).minor_function = QUERY_DIRECTORY;
            (*location).flags =
                if restart != 0 { RESTART_SCAN } else { 0 } | if single != 0 { SINGLE_ENTRY } else { 0 };
            (*location).parameters = [length.into(), pattern as u64, class.into(), 0];
            (*irp).user_buffer = buffer;
            Ok(irp)
        })
    }
}
