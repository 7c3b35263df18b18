//! The private codes of TCP/IP, IRP_MJ_DEVICE_CONTROL on any file of any device (section 9 of
//! tdi-datagrams-and-services.md).
//!
//! Options of connections and addresses are set and asked for here; [`crate::entities`] tells of interfaces, addresses and
//! routes. None of those can be set.

use gate::memory;
use nt_abi::NtStatus;
use nt_abi::tdi::private::{self, CL_TL_ENTITY, CO_TL_ENTITY, INFO_CLASS_PROTOCOL};
use tdi_core::StateName;

use crate::dispatch::Sent;
use crate::endpoint::Phase;
use crate::entities::{self, ObjectId};
use crate::options;
use crate::transport::Transport;

/// Bytes of a TCP_REQUEST_QUERY_INFORMATION_EX: the id, padding, and 16 bytes of context (D-179).
const QUERY_BYTES: u32 = 40;
/// Where that context lies.
const CONTEXT_AT: u64 = 24;
/// Where the byte count and the value of a TCP_REQUEST_SET_INFORMATION_EX lie (D-180).
const COUNT_AT: u64 = 20;
const VALUE_AT: u64 = 24;
/// Longest value that is looked at: KEEPALIVE_VALS.
const VALUE_MAX: usize = 12;

/// What a TDIObjectID names that is served here, with the number of the option.
enum Object {
    Connection(u32),
    Address(u32),
    /// Something of the host, or nothing that is served.
    Other(ObjectId),
}

impl Object {
    /// Reads the five numbers: entity, instance, class, type, id (D-179).
    fn read(at: u64) -> Result<Self, NtStatus> {
        let numbers: [u32; 5] = memory::read_value(at).map_err(|_| NtStatus::ACCESS_VIOLATION)?;
        let [entity, instance, class, kind, id] = numbers;
        Ok(match (entity, class, kind) {
            (CO_TL_ENTITY, INFO_CLASS_PROTOCOL, private::INFO_TYPE_CONNECTION) => Self::Connection(id),
            // Clients name the datagram layer also for addresses of connections, or the layer that is theirs.
            (CO_TL_ENTITY | CL_TL_ENTITY, INFO_CLASS_PROTOCOL, private::INFO_TYPE_ADDRESS_OBJECT) => Self::Address(id),
            _ => Self::Other(ObjectId { entity, instance, class, kind, id }),
        })
    }
}

impl Transport {
    /// A code that is none of a user program's TDI requests. The direct handlers would bypass every filter and are
    /// refused, like everything unknown (D-217, D-218).
    pub(crate) fn private_control(&self, sent: &Sent) -> NtStatus {
        let [_, _, code, _] = sent.location.parameters;
        let outcome = match code as u32 {
            private::IOCTL_TCP_QUERY_INFORMATION_EX => self.query_information_ex(sent),
            private::IOCTL_TCP_SET_INFORMATION_EX | private::IOCTL_TCP_SET_INFORMATION_EX_ANY => {
                self.set_information_ex(sent).map(|()| 0)
            }
            _ => Err(NtStatus::INVALID_DEVICE_REQUEST),
        };
        match outcome {
            Ok(bytes) => sent.complete(NtStatus::SUCCESS, bytes),
            Err(status) => sent.complete(status, 0),
        }
    }

    /// IOCTL_TCP_QUERY_INFORMATION_EX: METHOD_NEITHER, so both buffers are where the client has them (D-175, D-181,
    /// D-182). Returns how many bytes were stored.
    fn query_information_ex(&self, sent: &Sent) -> Result<u64, NtStatus> {
        let [room, length, _, input] = sent.location.parameters;
        // SAFETY: a packet that was sent to us.
        let output = unsafe { (*sent.irp).user_buffer };
        if input == 0 || (length as u32) < QUERY_BYTES || output == 0 || room as u32 == 0 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let value = match Object::read(input)? {
            Object::Connection(id) => {
                let endpoint = self.endpoint_of(sent.file()).ok_or(NtStatus::INVALID_DEVICE_REQUEST)?;
                endpoint.options.get(id)?.to_le_bytes().to_vec()
            }
            Object::Address(_) => return Err(NtStatus::NOT_SUPPORTED),
            Object::Other(object) => {
                let context = memory::read_value(input + CONTEXT_AT).map_err(|_| NtStatus::ACCESS_VIOLATION)?;
                entities::answer(object, context, &self.host_of(sent.file()).network.interfaces())?
            }
        };
        // Part of a table is never returned: whoever asked makes more room (D-183).
        if (room as u32 as usize) < value.len() {
            return Err(NtStatus::BUFFER_TOO_SMALL);
        }
        memory::write(output, &value).map_err(|_| NtStatus::ACCESS_VIOLATION)?;
        Ok(value.len() as u64)
    }

    /// The two codes that set: METHOD_BUFFERED (D-176, D-177, D-180).
    fn set_information_ex(&self, sent: &Sent) -> Result<(), NtStatus> {
        let length = u64::from(sent.location.parameters[1] as u32);
        // SAFETY: a packet that was sent to us.
        let input = unsafe { (*sent.irp).system_buffer };
        if input == 0 || length < VALUE_AT {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let fault = |_| NtStatus::ACCESS_VIOLATION;
        let object = Object::read(input)?;
        let count: u32 = memory::read_value(input + COUNT_AT).map_err(fault)?;
        if u64::from(count) > length - VALUE_AT {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let mut bytes = [0; VALUE_MAX];
        let value = bytes.get_mut(..VALUE_MAX.min(count as usize)).unwrap_or_default();
        memory::read(input + VALUE_AT, value).map_err(fault)?;
        match object {
            Object::Connection(id) => self.set_on_connection(sent, id, value),
            Object::Address(id) => {
                let mut address = self.address_of(sent.file()).ok_or(NtStatus::INVALID_DEVICE_REQUEST)?;
                if address.core.is_closed() {
                    return Err(NtStatus::ADDRESS_CLOSED);
                }
                options::set_on_address(id, value, address.datagrams.as_deref_mut())
            }
            Object::Other(_) => Err(NtStatus::NOT_SUPPORTED),
        }
    }

    fn set_on_connection(&self, sent: &Sent, id: u32, value: &[u8]) -> Result<(), NtStatus> {
        let mut endpoint = self.endpoint_of(sent.file()).ok_or(NtStatus::INVALID_DEVICE_REQUEST)?;
        if endpoint.core.state() == StateName::CleanedUp {
            return Err(NtStatus::INVALID_CONNECTION);
        }
        let endpoint = &mut *endpoint;
        let link = endpoint.link.as_ref().filter(|link| link.phase == Phase::Established);
        endpoint.options.set(id, value, link.map(|link| &*link.connection))
    }
}
