//! TRANSPORT_ADDRESS bytes to IP addresses and back (chapter 3.2).
//!
//! Input is hostile: every length is checked, nothing panics, elements are read unaligned (C-029).
//! Of several elements the first usable one counts (C-048), if none, before it or behind it, runs past the buffer: then whoever
//! wrote the list meant something else than what is there, and it is unusable (C-050).
//! Not here: whether a local IP address belongs to an interface (C-095) is known to the network.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use nt_abi::NtStatus;
use nt_abi::tdi::{AddressType, TA_IP_ADDRESS_LENGTH, TDI_ADDRESS_IP_LENGTH, TDI_ADDRESS_IP6_LENGTH};

/// Bytes of a TA_IP6_ADDRESS (C-043).
pub const TA_IP6_ADDRESS_LENGTH: usize = 34;
/// Bytes of the TDI_ADDRESS_IP6 of old headers, without a scope id (C-044).
pub const OLD_TDI_ADDRESS_IP6_LENGTH: usize = 22;
/// Bytes of the count in front of the elements (C-039).
const COUNT_LENGTH: usize = 4;
/// Bytes of an element's header: AddressLength, AddressType (C-039).
const ELEMENT_HEADER_LENGTH: usize = 4;

/// Which addresses a device uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `\Device\Tcp` and friends.
    V4,
    /// `\Device\Tcp6` and friends (C-006).
    V6,
}

/// Why there is no address in the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// A length runs past the buffer, or there is not even a count.
    Truncated,
    /// No element has a type and length this device uses.
    NoneUsable,
}

/// Finds the first element of `family` in a TRANSPORT_ADDRESS.
pub fn parse(bytes: &[u8], family: Family) -> Result<SocketAddr, AddressError> {
    let count = i32::from_le_bytes(array_at(bytes, 0).ok_or(AddressError::Truncated)?);
    let mut offset = COUNT_LENGTH;
    let mut found = None;
    for _ in 0..count {
        let length = u16::from_le_bytes(array_at(bytes, offset).ok_or(AddressError::Truncated)?);
        let kind = AddressType(u16::from_le_bytes(array_at(bytes, offset + 2).ok_or(AddressError::Truncated)?));
        let start = offset + ELEMENT_HEADER_LENGTH;
        let end = start + usize::from(length);
        let element = bytes.get(start..end).ok_or(AddressError::Truncated)?;
        found = found.or_else(|| parse_element(kind, element, family));
        offset = end;
    }
    found.ok_or(AddressError::NoneUsable)
}

/// The remote address of a TDI_CONNECT (C-267). The error completes the request.
///
/// An address that cannot be connected to (port 0; or "any", everybody or a group as IP address) is as bad as none:
/// tdistat.h calls both TDI_BAD_ADDR (C-065), and no network need be asked.
pub fn parse_remote(bytes: &[u8], family: Family) -> Result<SocketAddr, NtStatus> {
    match parse(bytes, family) {
        Ok(remote) if remote.port() != 0 && is_one_node(remote.ip()) => Ok(remote),
        Ok(_) | Err(_) => Err(NtStatus::INVALID_ADDRESS_COMPONENT),
    }
}

/// Where a TDI_SEND_DATAGRAM goes to: everybody's and groups' addresses are as good as one node's.
pub fn parse_destination(bytes: &[u8], family: Family) -> Result<SocketAddr, NtStatus> {
    match parse(bytes, family) {
        Ok(remote) if remote.port() != 0 && !remote.ip().is_unspecified() => Ok(remote),
        Ok(_) | Err(_) => Err(NtStatus::INVALID_ADDRESS),
    }
}

fn is_one_node(ip: IpAddr) -> bool {
    !ip.is_unspecified() && !ip.is_multicast() && ip != IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// The filter address of a TDI_LISTEN (C-290, C-292); parts may be 0 for "any" (C-291).
pub fn parse_filter(bytes: &[u8], family: Family) -> Result<SocketAddr, NtStatus> {
    parse(bytes, family).map_err(|_| NtStatus::INVALID_ADDRESS_COMPONENT)
}

/// The value of the `TransportAddress` EA (C-092 to C-094). The error fails the open.
///
/// NONEXISTENT_EA_ENTRY if the value is too short for what it says; INVALID_ADDRESS_COMPONENT if it
/// holds nothing this device uses.
pub fn parse_local(bytes: &[u8], family: Family) -> Result<SocketAddr, NtStatus> {
    parse(bytes, family).map_err(|error| match error {
        AddressError::Truncated => NtStatus::NONEXISTENT_EA_ENTRY,
        AddressError::NoneUsable => NtStatus::INVALID_ADDRESS_COMPONENT,
    })
}

/// May an address be opened with this local IP address (C-095, C-096)?
///
/// `is_local` says whether an interface has it. INVALID_ADDRESS if none has.
pub fn check_local(local: SocketAddr, is_local: impl FnOnce(IpAddr) -> bool) -> Result<(), NtStatus> {
    if local.ip().is_unspecified() || is_local(local.ip()) { Ok(()) } else { Err(NtStatus::INVALID_ADDRESS) }
}

/// A TRANSPORT_ADDRESS with one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    bytes: [u8; TA_IP6_ADDRESS_LENGTH],
    length: usize,
}

impl Encoded {
    /// 22 bytes for IPv4 (C-042), 34 for IPv6 (C-043).
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&self.bytes)
    }
}

/// Encodes an IP address and port as a TRANSPORT_ADDRESS.
pub fn encode(address: SocketAddr) -> Encoded {
    let mut writer = Writer { bytes: [0; TA_IP6_ADDRESS_LENGTH], length: 0 };
    writer.put(&1_i32.to_le_bytes());
    match address {
        SocketAddr::V4(v4) => {
            writer.header(TDI_ADDRESS_IP_LENGTH, AddressType::IP);
            writer.put(&v4.port().to_be_bytes());
            writer.put(&v4.ip().octets());
            writer.length = TA_IP_ADDRESS_LENGTH; // eight zero bytes
        }
        SocketAddr::V6(v6) => {
            writer.header(TDI_ADDRESS_IP6_LENGTH, AddressType::IP6);
            writer.put(&v6.port().to_be_bytes());
            writer.put(&v6.flowinfo().to_be_bytes());
            writer.put(&v6.ip().octets());
            writer.put(&v6.scope_id().to_le_bytes());
        }
    }
    Encoded { bytes: writer.bytes, length: writer.length }
}

/// What fitted of an address that is returned to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Returned {
    /// Bytes written.
    pub written: usize,
    /// SUCCESS, or BUFFER_OVERFLOW if not all of it fitted (C-213). The operation itself has
    /// happened in both cases.
    pub status: NtStatus,
}

/// Writes an address to the buffer a client gave for it (C-213, C-277).
///
/// An empty buffer counts as none (C-061): nothing is written and that is no overflow.
pub fn encode_into(address: SocketAddr, out: &mut [u8]) -> Returned {
    let encoded = encode(address);
    let bytes = encoded.as_bytes();
    let written = bytes.len().min(out.len());
    for (to, from) in out.iter_mut().zip(bytes) {
        *to = *from;
    }
    let fits = out.is_empty() || written == bytes.len();
    Returned { written, status: if fits { NtStatus::SUCCESS } else { NtStatus::BUFFER_OVERFLOW } }
}

fn parse_element(kind: AddressType, element: &[u8], family: Family) -> Option<SocketAddr> {
    match (kind, family) {
        (AddressType::IP, Family::V4) if element.len() >= TDI_ADDRESS_IP_LENGTH => {
            let port = u16::from_be_bytes(array_at(element, 0)?);
            let ip: [u8; 4] = array_at(element, 2)?;
            Some(SocketAddrV4::new(Ipv4Addr::from(ip), port).into())
        }
        (AddressType::IP6, Family::V6) => {
            let port = u16::from_be_bytes(array_at(element, 0)?);
            let flow = u32::from_be_bytes(array_at(element, 2)?);
            let ip: [u8; 16] = array_at(element, 6)?;
            let scope = array_at(element, OLD_TDI_ADDRESS_IP6_LENGTH).map_or(0, u32::from_le_bytes);
            Some(SocketAddrV6::new(Ipv6Addr::from(ip), port, flow, scope).into())
        }
        _ => None,
    }
}

fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk::<N>().copied()
}

struct Writer {
    bytes: [u8; TA_IP6_ADDRESS_LENGTH],
    length: usize,
}

impl Writer {
    fn put(&mut self, part: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(self.length).zip(part) {
            *to = *from;
        }
        self.length += part.len();
    }

    fn header(&mut self, length: usize, kind: AddressType) {
        self.put(&(length as u16).to_le_bytes());
        self.put(&kind.0.to_le_bytes());
    }
}

#[cfg(test)]
mod tests;
