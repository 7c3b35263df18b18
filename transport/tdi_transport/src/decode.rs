//! Stack locations to requests: what a client asks for, in the core's words.

use gate::memory;
use nt_abi::tdi::{self, TdiRequest, disconnect_flags, receive_flags};
use nt_abi::{IoStackLocation, Irp, MajorFunction, NtStatus};
use tdi_core::transport_address::{self, Family};
use tdi_core::{RemoteFilter, Request, relative_timeout};

use crate::connection_information::Information;
use crate::mdl::{self, Direction};

/// Decodes a request on a connection endpoint that may pend. The error completes it.
///
/// # Safety
/// `irp` is a packet the transport holds, `location` a copy of its current location.
pub(crate) unsafe fn endpoint_request(
    irp: *mut Irp,
    location: &IoStackLocation,
    family: Family,
) -> Result<Request, NtStatus> {
    // SAFETY: the caller's promise.
    unsafe {
        match location.major_function {
            // C-216.
            MajorFunction::READ => receive(irp, location.parameters[0] as u32, receive_flags::NORMAL),
            MajorFunction::WRITE => send(irp, location.parameters[0] as u32, 0),
            _ => match TdiRequest(location.minor_function) {
                TdiRequest::CONNECT => connect(location, family),
                TdiRequest::LISTEN => listen(location, family),
                TdiRequest::ACCEPT => accept(location),
                TdiRequest::DISCONNECT => disconnect(location),
                TdiRequest::SEND => {
                    let (length, flags) = transfer(location);
                    send(irp, length, flags)
                }
                TdiRequest::RECEIVE => {
                    let (length, flags) = transfer(location);
                    receive(irp, length, flags)
                }
                _ => Err(NtStatus::INVALID_DEVICE_REQUEST),
            },
        }
    }
}

/// SendLength or ReceiveLength and the flags (C-057, C-058).
pub(crate) fn transfer(location: &IoStackLocation) -> (u32, u32) {
    let word = location.parameters[0];
    (word as u32, (word >> 32) as u32)
}

unsafe fn send(irp: *mut Irp, length: u32, flags: u32) -> Result<Request, NtStatus> {
    // SAFETY: the caller's promise.
    unsafe { mdl::check(irp, length, Direction::Out)? };
    Ok(Request::Send { length, flags })
}

unsafe fn receive(irp: *mut Irp, length: u32, flags: u32) -> Result<Request, NtStatus> {
    // SAFETY: the caller's promise.
    unsafe { mdl::check(irp, length, Direction::In)? };
    Ok(Request::Receive { length, flags })
}

/// The time a client is ready to wait: read now, since it often lies on its stack (C-194, C-271).
fn timeout(pointer: u64) -> Result<Option<u64>, NtStatus> {
    if pointer == 0 {
        return Ok(None);
    }
    let value = memory::read_value::<i64>(pointer).map_err(|_| NtStatus::ACCESS_VIOLATION)?;
    Ok(relative_timeout(value))
}

/// `RequestFlags` is garbage here and not looked at (C-190).
fn connect(location: &IoStackLocation, family: Family) -> Result<Request, NtStatus> {
    let [_, request, returned, specific] = location.parameters;
    Information::check_return(returned)?;
    let information = Information::read(request)?.ok_or(NtStatus::INVALID_ADDRESS_COMPONENT)?;
    if information.has_user_data() {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let remote = information.with_remote_address(|bytes| transport_address::parse_remote(bytes, family))??;
    Ok(Request::Connect { remote, timeout: timeout(specific)? })
}

/// `RequestSpecific` is garbage here (C-191).
fn listen(location: &IoStackLocation, family: Family) -> Result<Request, NtStatus> {
    let [flags, request, returned, _] = location.parameters;
    Information::check_return(returned)?;
    let mut query_accept = flags & tdi::QUERY_ACCEPT != 0;
    let mut filter = RemoteFilter::ANY;
    if let Some(information) = Information::read(request)? {
        query_accept |= information.option_word().is_some_and(|word| u64::from(word) & tdi::QUERY_ACCEPT != 0);
        if information.has_user_data() {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        if information.has_remote_address() {
            let parse = |bytes: &[u8]| transport_address::parse_filter(bytes, family);
            filter.remote = Some(information.with_remote_address(parse)??);
        }
    }
    Ok(Request::Listen { filter, query_accept })
}

/// Also of the request that a connect handler returned.
pub(crate) fn accept(location: &IoStackLocation) -> Result<Request, NtStatus> {
    Information::check_return(location.parameters[1])?;
    match Information::read(location.parameters[0])? {
        Some(information) if information.has_user_data() => Err(NtStatus::INVALID_PARAMETER),
        _ => Ok(Request::Accept),
    }
}

/// Data can go with a RELEASE only, and this transport carries none (C-214, C-346): it must not be lost in silence. Whatever
/// else the information holds, or whether it is there at all, keeps no client from ending its connection.
fn disconnect(location: &IoStackLocation) -> Result<Request, NtStatus> {
    let [flags, information, _, specific] = location.parameters;
    if flags as u32 == disconnect_flags::RELEASE
        && Information::read(information).is_ok_and(|given| given.is_some_and(|given| given.has_user_data()))
    {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    Ok(Request::Disconnect { flags: flags as u32, timeout: timeout(specific)? })
}
