//! What an open creates: the EA list of IRP_MJ_CREATE (chapters 3.1 and 5.1).
//!
//! The I/O manager has checked the list (C-033), but nothing here relies on that: lengths are
//! checked again (C-085) and a broken list is an error, never a panic.
//! Rules: C-025 to C-029, C-032, C-035, C-037, C-070 to C-075, C-085, C-086, C-112, C-113, C-115; C-004, C-005.

use core::net::SocketAddr;

use nt_abi::{NtStatus, ea};

use crate::transport_address::{self, Family};

/// What the opened device can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Which addresses it uses.
    pub family: Family,
    /// Has it connection endpoints (TCP), or none (UDP, raw IP; C-115)?
    pub connections: bool,
}

/// What an open creates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// No EA list (C-070).
    ControlChannel,
    /// A `TransportAddress` (C-071) with this local address; its IP address has still to be checked
    /// ([`transport_address::check_local`]) and claimed ([`crate::sharing`]).
    TransportAddress(SocketAddr),
    /// A `ConnectionContext` (C-072) with this value.
    ConnectionEndpoint(u64),
}

/// Decides what an open with this EA list (empty for none) creates. The error fails the open:
///
/// INVALID_PARAMETER for both names (C-073) or an unusable ConnectionContext (C-115);
/// INVALID_EA_NAME if neither name is there (C-074); NONEXISTENT_EA_ENTRY or
/// INVALID_ADDRESS_COMPONENT for an unusable address (C-094); EA_LIST_INCONSISTENT if an entry runs
/// past the buffer.
pub fn decide(list: &[u8], provider: Provider) -> Result<Open, NtStatus> {
    if list.is_empty() {
        return Ok(Open::ControlChannel);
    }
    let mut address = None;
    let mut context = None;
    for entry in entries(list) {
        let entry = entry?;
        if entry.name == ea::TRANSPORT_ADDRESS {
            address.get_or_insert(entry.value);
        } else if entry.name == ea::CONNECTION_CONTEXT {
            context.get_or_insert(entry.value);
        }
    }
    match (address, context) {
        (Some(_), Some(_)) => Err(NtStatus::INVALID_PARAMETER),
        (Some(value), None) => transport_address::parse_local(value, provider.family).map(Open::TransportAddress),
        (None, Some(value)) => decide_endpoint(value, provider).map(Open::ConnectionEndpoint),
        (None, None) => Err(NtStatus::INVALID_EA_NAME),
    }
}

/// The IP protocol that an open of `\Device\RawIp` names with what follows the device's name, in decimal behind a
/// backslash (C-004); `None` if nothing follows.
///
/// INVALID_PARAMETER for anything else (C-005).
pub fn raw_protocol(suffix: &[u16]) -> Result<Option<u8>, NtStatus> {
    let Some((&first, digits)) = suffix.split_first() else { return Ok(None) };
    if first != u16::from(b'\\') || digits.is_empty() {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let push = |number: u8, unit: &u16| {
        let digit = u8::try_from(*unit).ok().filter(u8::is_ascii_digit)? - b'0';
        number.checked_mul(10)?.checked_add(digit)
    };
    digits.iter().try_fold(0, push).map(Some).ok_or(NtStatus::INVALID_PARAMETER)
}

fn decide_endpoint(value: &[u8], provider: Provider) -> Result<u64, NtStatus> {
    match value.first_chunk() {
        Some(context) if provider.connections => Ok(u64::from_le_bytes(*context)),
        _ => Err(NtStatus::INVALID_PARAMETER),
    }
}

/// One FILE_FULL_EA_INFORMATION.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// EaName without its NUL.
    pub name: &'a [u8],
    /// EaValue, at whatever alignment (C-029).
    pub value: &'a [u8],
}

/// Walks an EA list. After an error the walk is over.
pub fn entries(list: &[u8]) -> impl Iterator<Item = Result<Entry<'_>, NtStatus>> {
    let mut rest = Some(list);
    core::iter::from_fn(move || {
        let at = rest.take()?;
        let Some((entry, next)) = entry_at(at) else {
            return Some(Err(NtStatus::EA_LIST_INCONSISTENT));
        };
        // A next entry that begins inside this one would let a list of n bytes hold more than n entries.
        let length = ea::EA_NAME + entry.name.len() + 1 + entry.value.len();
        if next != 0 {
            rest = at.get(next..).filter(|_| next >= length && next.is_multiple_of(4));
            if rest.is_none() {
                return Some(Err(NtStatus::EA_LIST_INCONSISTENT));
            }
        }
        Some(Ok(entry))
    })
}

fn entry_at(bytes: &[u8]) -> Option<(Entry<'_>, usize)> {
    let next = u32::from_le_bytes(*bytes.get(ea::NEXT_ENTRY_OFFSET..)?.first_chunk()?);
    let name_length = usize::from(*bytes.get(ea::EA_NAME_LENGTH)?);
    let value_length = usize::from(u16::from_le_bytes(*bytes.get(ea::EA_VALUE_LENGTH..)?.first_chunk()?));
    let value_at = ea::EA_NAME + name_length + 1;
    let name = bytes.get(ea::EA_NAME..ea::EA_NAME + name_length)?;
    if *bytes.get(ea::EA_NAME + name_length)? != 0 {
        return None;
    }
    let value = bytes.get(value_at..value_at + value_length)?;
    Some((Entry { name, value }, usize::try_from(next).ok()?))
}

#[cfg(test)]
mod tests;
