//! `ZwReadFile` and its family: requests on a file by handle.
//!
//! A file opened for synchronous I/O has its requests waited for; otherwise the caller waits on its event, or on the
//! file itself, whose event is signalled when no event was given. Left out: completion routines as APCs, which need
//! a user thread to be delivered to.

use nt_abi::io::irp_flags;
use nt_abi::{DeviceObject, FileObject, Handle, IoStatusBlock, Irp, KernelEvent, MajorFunction, NtStatus};
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
    "ZwFlushBuffersFile" = zw_flush_buffers_file(file: Handle, iosb: *mut IoStatusBlock) -> NtStatus, irql <= PASSIVE, rules "K-160";
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
    make: impl FnOnce(*mut DeviceObject, Reply, Owner) -> Result<*mut Irp, NtStatus>,
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
            let outcome = file::send_and_wait_on(file, |device, reply| make(device, reply, Owner::Manager));
            let status = outcome.map_or_else(
                |status| status,
                |outcome| {
                    *caller.iosb = outcome;
                    event::set(told);
                    outcome.status
                },
            );
            irp::Held { output_room: 0, event, file: body }.release();
            return status;
        }
        match make(device, Reply { event: told, iosb: caller.iosb }, Owner::Thread) {
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
        let request = Transfer { major, buffer, offset: optional(offset), key: optional(key) };
        send(file, caller, |device, reply, owner| build::transfer(device, request, reply, owner, at))
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
    unsafe { send(file, caller, |device, reply, owner| build::device_control(device, request, reply, owner, at)) }
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
    file: Handle,
    iosb: *mut IoStatusBlock,
    (buffer, length): (u64, u32),
    class: u32,
) -> NtStatus {
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
    match file::send_and_wait(file, make) {
        Ok(outcome) => {
            // SAFETY: see `transfer`.
            unsafe { *iosb = outcome };
            outcome.status
        }
        Err(status) => status,
    }
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
