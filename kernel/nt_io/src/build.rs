//! Packets built for a sender: device control, reads and writes (K-060 to K-067).

use nt_abi::io::{device_flags, irp_flags};
use nt_abi::{DeviceObject, IoStatusBlock, Irp, KernelEvent, MajorFunction, NtStatus};

use crate::buffers;
use crate::irp::{self, Owner};

/// Arguments of [`device_control`].
#[derive(Clone, Copy, Debug)]
pub struct DeviceControl {
    /// IOCTL code.
    pub code: u32,
    /// Input buffer and its length.
    pub input: (u64, u32),
    /// Output buffer and its length.
    pub output: (u64, u32),
    /// IRP_MJ_DEVICE_CONTROL, IRP_MJ_INTERNAL_DEVICE_CONTROL or IRP_MJ_FILE_SYSTEM_CONTROL.
    pub major: MajorFunction,
}

/// Where a sender wants the outcome; either may be null (K-063).
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    /// Set at the end.
    pub event: *mut KernelEvent,
    /// Gets status and information.
    pub iosb: *mut IoStatusBlock,
}

/// `METHOD_xxx`, the low two bits of a control code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Buffered,
    InDirect,
    OutDirect,
    Neither,
}

impl Method {
    fn of(code: u32) -> Self {
        match code & 3 {
            0 => Self::Buffered,
            1 => Self::InDirect,
            2 => Self::OutDirect,
            _ => Self::Neither,
        }
    }
}

/// A new packet for `device` that belongs to the current thread, its next location set to `major`.
///
/// # Safety
/// `device` is a device.
unsafe fn new_packet(
    device: *mut DeviceObject,
    major: MajorFunction,
    reply: Reply,
    owner: Owner,
    caller: u64,
) -> Option<*mut Irp> {
    // SAFETY: the caller's promise; the packet is new.
    unsafe {
        let irp = irp::allocate((*device).stack_size, owner, caller)?;
        (*irp::next_location(irp)).major_function = major;
        (*irp).user_event = reply.event;
        (*irp).user_iosb = reply.iosb;
        (*irp).thread = gate::thread::current_thread_object();
        Some(irp)
    }
}

/// Frees a packet that could not be finished.
fn discard<T>(irp: *mut Irp) -> impl FnOnce(NtStatus) -> Result<T, NtStatus> {
    move |status| {
        irp::free(irp);
        Err(status)
    }
}

/// `IoBuildDeviceIoControlRequest` and its like: METHOD_BUFFERED has one system buffer for both directions, the direct
/// methods a system buffer for the input and a locked output buffer, METHOD_NEITHER the sender's addresses (K-066).
///
/// # Errors
/// STATUS_INSUFFICIENT_RESOURCES, or STATUS_ACCESS_VIOLATION for a buffer that cannot be used.
///
/// # Safety
/// `device` is a device; the buffers, the event and the block stay valid until the request is complete.
///
/// IRQL: PASSIVE_LEVEL.
pub unsafe fn device_control(
    device: *mut DeviceObject,
    request: DeviceControl,
    reply: Reply,
    owner: Owner,
    caller: u64,
) -> Result<*mut Irp, NtStatus> {
    // SAFETY: the caller's promise.
    unsafe {
        let irp = new_packet(device, request.major, reply, owner, caller).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
        let location = irp::next_location(irp);
        let DeviceControl { code, input, output, .. } = request;
        (*location).parameters = [output.1.into(), input.1.into(), code.into(), 0];
        (*irp).user_buffer = output.0;
        irp::set_output_room(irp, output.1.into());
        let method = Method::of(code);
        let buffered = match method {
            Method::Buffered => input.1.max(output.1),
            Method::InDirect | Method::OutDirect if input.0 != 0 => input.1,
            Method::InDirect | Method::OutDirect => 0,
            Method::Neither => {
                (*location).parameters[3] = input.0;
                return Ok(irp);
            }
        };
        if buffered > 0 {
            let filling = if input.0 == 0 { (0, 0) } else { input };
            buffers::attach_system_buffer(irp, buffered, filling, caller).or_else(discard(irp))?;
        }
        match method {
            Method::Buffered if output.1 > 0 => (*irp).flags |= irp_flags::INPUT_OPERATION,
            Method::InDirect | Method::OutDirect if output.1 > 0 && output.0 != 0 => {
                let write = method == Method::OutDirect;
                (buffers::services().lock)(irp, output.0, output.1, write, caller).or_else(|status| {
                    buffers::release_system_buffer(irp, 0);
                    discard(irp)(status)
                })?;
            }
            _ => {}
        }
        Ok(irp)
    }
}

/// Arguments of [`transfer`].
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// IRP_MJ_READ, IRP_MJ_WRITE, or one without a buffer: IRP_MJ_FLUSH_BUFFERS, IRP_MJ_SHUTDOWN, IRP_MJ_PNP,
    /// IRP_MJ_POWER.
    pub major: MajorFunction,
    /// The sender's buffer and its length.
    pub buffer: (u64, u32),
    /// Byte offset.
    pub offset: u64,
    /// `Key` of the parameters.
    pub key: u32,
}

/// `IoBuildAsynchronousFsdRequest` and its like: the buffer is passed as the device's flags say.
///
/// # Errors
/// As [`device_control`].
///
/// # Safety
/// As [`device_control`].
pub unsafe fn transfer(
    device: *mut DeviceObject,
    request: Transfer,
    reply: Reply,
    owner: Owner,
    caller: u64,
) -> Result<*mut Irp, NtStatus> {
    // SAFETY: the caller's promise.
    unsafe {
        let irp = new_packet(device, request.major, reply, owner, caller).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
        let reads = request.major == MajorFunction::READ;
        if !reads && request.major != MajorFunction::WRITE {
            return Ok(irp);
        }
        let location = irp::next_location(irp);
        let (address, length) = request.buffer;
        (*location).parameters = [length.into(), request.key.into(), request.offset, 0];
        (*irp).user_buffer = address;
        irp::set_output_room(irp, length.into());
        if length == 0 {
            return Ok(irp);
        }
        if (*device).flags & device_flags::BUFFERED_IO != 0 {
            let input = if reads { (0, 0) } else { request.buffer };
            buffers::attach_system_buffer(irp, length, input, caller).or_else(discard(irp))?;
            if reads {
                (*irp).flags |= irp_flags::INPUT_OPERATION;
            }
        } else if (*device).flags & device_flags::DIRECT_IO != 0 {
            (buffers::services().lock)(irp, address, length, reads, caller).or_else(discard(irp))?;
        }
        Ok(irp)
    }
}
