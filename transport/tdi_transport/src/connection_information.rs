//! `TDI_CONNECTION_INFORMATION`: what clients give with their requests and want returned.
//!
//! Everything here is client memory, read and written by guarded copies and believed nothing (C-060 to C-062).

use std::net::SocketAddr;

use gate::memory;
use nt_abi::tdi::TdiRequest;
use nt_abi::{IoStackLocation, Irp, NtStatus};
use nt_io::irp;
use tdi_core::transport_address;

/// Longest address list that is looked at; one address needs 34 bytes.
const ADDRESS_LIST_MAX: usize = 1024;

/// The structure's words, in order: each pair is a length and a pointer.
type Words = [u64; 6];

/// What a client gives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Information {
    user_data: (i32, u64),
    options: (i32, u64),
    remote_address: (i32, u64),
}

impl Information {
    /// Reads the structure at `address`; `None` for a null pointer.
    pub(crate) fn read(address: u64) -> Result<Option<Self>, NtStatus> {
        if address == 0 {
            return Ok(None);
        }
        let words: Words = memory::read_value(address).map_err(|_| NtStatus::ACCESS_VIOLATION)?;
        let pair = |first: usize| (words[first] as i32, words[first + 1]);
        Ok(Some(Self { user_data: pair(0), options: pair(2), remote_address: pair(4) }))
    }

    /// Whether a remote address can be returned where `address` says. Asked when a request comes in, so that one that cannot
    /// tell its outcome has no effect (C-283).
    pub(crate) fn check_return(address: u64) -> Result<(), NtStatus> {
        let Some(information) = Self::read(address)? else { return Ok(()) };
        let room = usize::try_from(information.remote_address.0).unwrap_or(0);
        match room.min(transport_address::TA_IP6_ADDRESS_LENGTH) {
            0 => Ok(()),
            room => memory::probe_write(information.remote_address.1, room).map_err(|_| NtStatus::ACCESS_VIOLATION),
        }
    }

    /// Is there user data, which this transport does not carry (C-012, C-214)?
    pub(crate) fn has_user_data(&self) -> bool {
        self.user_data.0 != 0
    }

    /// The first word of the options, if they have one (C-298).
    pub(crate) fn option_word(&self) -> Option<u32> {
        (self.options.0 == 4).then(|| memory::read_value(self.options.1).ok())?
    }

    /// Lets `parse` look at the remote address. A zero length counts as no address (C-061), and so does a length
    /// that cannot be.
    pub(crate) fn with_remote_address<R>(&self, parse: impl FnOnce(&[u8]) -> R) -> Result<R, NtStatus> {
        let mut buffer = [0; ADDRESS_LIST_MAX];
        let length = usize::try_from(self.remote_address.0).unwrap_or(0).min(ADDRESS_LIST_MAX);
        let bytes = buffer.get_mut(..length).unwrap_or_default();
        memory::read(self.remote_address.1, bytes).map_err(|_| NtStatus::ACCESS_VIOLATION)?;
        Ok(parse(bytes))
    }

    /// Is there a remote address?
    pub(crate) fn has_remote_address(&self) -> bool {
        self.remote_address.0 > 0
    }

    /// Writes an address to where the client wants the remote address (C-213, C-277, C-278: the lengths stay as
    /// they are).
    pub(crate) fn store_remote_address(&self, address: SocketAddr) -> NtStatus {
        let mut buffer = [0; transport_address::TA_IP6_ADDRESS_LENGTH];
        let room = usize::try_from(self.remote_address.0).unwrap_or(0).min(buffer.len());
        let bytes = buffer.get_mut(..room).unwrap_or_default();
        let returned = transport_address::encode_into(address, bytes);
        match memory::write(self.remote_address.1, bytes.get(..returned.written).unwrap_or_default()) {
            Ok(()) => returned.status,
            Err(_) => NtStatus::ACCESS_VIOLATION,
        }
    }
}

/// Gives the remote address to the client of a CONNECT, LISTEN or ACCEPT that has succeeded (C-277, C-300, C-314).
///
/// The operation has happened whatever the buffer is like: BUFFER_OVERFLOW for one that is too short.
///
/// # Safety
/// `irp` is a packet the transport holds.
pub(crate) unsafe fn return_peer(irp: *mut Irp, peer: SocketAddr) -> NtStatus {
    // SAFETY: the caller's promise.
    let location = unsafe { *irp::current_location(irp) };
    match Information::read(return_information(&location)) {
        Ok(Some(information)) => information.store_remote_address(peer),
        Ok(None) => NtStatus::SUCCESS,
        // It could be written when the request came in, and the operation has happened.
        Err(_) => NtStatus::BUFFER_OVERFLOW,
    }
}

/// Where a request wants its results; ACCEPT has no flags word in front (C-053, C-054).
fn return_information(location: &IoStackLocation) -> u64 {
    let is_accept = matches!(TdiRequest(location.minor_function), TdiRequest::ACCEPT | TdiRequest::DIRECT_ACCEPT);
    if is_accept { location.parameters[1] } else { location.parameters[2] }
}
