//! Control channels, and the requests every kind of file takes: query, set, action (sections 6 and 7 of
//! tdi-datagrams-and-services.md).

use std::net::SocketAddr;

use nt_abi::tdi::{self, query};
use nt_abi::{FileObject, NtStatus};
use nt_io::irp;
use tdi_core::AddressId;
use tdi_core::transport_address::{self, Family};

use crate::dispatch::{Sent, name_in};
use crate::mdl;
use crate::status::address_status;
use crate::table::Locked;
use crate::transport::{DeviceKind, Transport};

/// One per file object that is neither address nor endpoint.
#[derive(Debug)]
pub(crate) struct ChannelState {
    /// The file object, to tell it from others. Never followed.
    pub(crate) file: u64,
}

/// Longest answer; see D-136 and D-143.
const ANSWER_MAX: usize = 256;
/// `MaxSendSize` (C-012).
const SEND_MAX: u32 = u32::MAX;
/// `MaxDatagramSize` (D-138).
const DATAGRAM_MAX: u32 = 65_507;
/// `MaximumLookaheadData` (C-012).
const LOOKAHEAD_MAX: u32 = 65_535;
/// `Version` 1.0 (D-137).
const VERSION: u32 = 0x0100;
/// Bytes of PROVIDER_STATISTICS with one resource entry, and where the number of them lies (D-143).
const STATISTICS_LENGTH: usize = 216;
const NUMBER_OF_RESOURCES: usize = 196;
/// Bytes of CONNECTION_INFO (D-134), and where `Unreliable` lies.
const CONNECTION_INFO_LENGTH: usize = 56;

/// An answer in the making.
struct Answer {
    bytes: [u8; ANSWER_MAX],
    length: usize,
}

impl Answer {
    fn new() -> Self {
        Self { bytes: [0; ANSWER_MAX], length: 0 }
    }

    fn zeroed(length: usize) -> Self {
        Self { length, ..Self::new() }
    }

    fn put(mut self, part: &[u8]) -> Self {
        let end = self.length + part.len();
        if let Some(room) = self.bytes.get_mut(self.length..end) {
            room.copy_from_slice(part);
            self.length = end;
        }
        self
    }

    fn word(self, word: u32) -> Self {
        self.put(&word.to_le_bytes())
    }

    fn at(mut self, offset: usize, part: &[u8]) -> Self {
        if let Some(room) = self.bytes.get_mut(offset..offset + part.len()) {
            room.copy_from_slice(part);
        }
        self
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Transport {
    /// The control channel behind a file object, locked.
    pub(crate) fn channel_of(&self, file: *mut FileObject) -> Option<Locked<'_, ChannelState>> {
        let channel = self.channels.lock(name_in(file)?)?;
        (channel.file == file as u64).then_some(channel)
    }

    /// TDI_QUERY_INFORMATION: answered inline, with as much as fits (D-125, D-127, D-128).
    pub(crate) fn query_information(&self, sent: &Sent) -> NtStatus {
        let kind = sent.location.parameters[0] as u32;
        let answer = match self.answer(sent, kind) {
            Ok(answer) => answer,
            Err(status) => return sent.complete(status, 0),
        };
        // SAFETY: a packet that was sent to us. Without an MDL there is no room at all (D-129).
        let stored = unsafe {
            if (*sent.irp).mdl_address.is_null() {
                Err(NtStatus::INVALID_PARAMETER)
            } else {
                mdl::store(sent.irp, 0, answer.as_bytes())
            }
        };
        match stored {
            Ok(stored) if stored == answer.length => sent.complete(NtStatus::SUCCESS, stored as u64),
            Ok(stored) => sent.complete(NtStatus::BUFFER_OVERFLOW, stored as u64),
            Err(status) => sent.complete(status, 0),
        }
    }

    fn answer(&self, sent: &Sent, kind: u32) -> Result<Answer, NtStatus> {
        let on_channel = self.channel_of(sent.file()).is_some();
        let on_address = !on_channel && self.address_of(sent.file()).is_some();
        match kind {
            query::ADDRESS_INFO => self.address_info(sent),
            query::CONNECTION_INFO => self.connection_info(sent),
            // Filters ask every kind of file, so every kind answers.
            query::PROVIDER_INFO => self.provider_info(sent),
            query::PROVIDER_STATISTICS if on_channel => Ok(statistics()),
            query::MAX_DATAGRAM_INFO if on_channel || on_address => Ok(Answer::new().word(DATAGRAM_MAX)),
            query::DATAGRAM_INFO if on_channel || on_address => Ok(Answer::new().word(DATAGRAM_MAX).word(1)),
            query::BROADCAST_ADDRESS if on_channel => Ok(broadcast(sent.kind.family())),
            query::PROVIDER_STATISTICS | query::MAX_DATAGRAM_INFO | query::DATAGRAM_INFO | query::BROADCAST_ADDRESS => {
                Err(NtStatus::INVALID_DEVICE_REQUEST)
            }
            _ => Err(NtStatus::NOT_IMPLEMENTED),
        }
    }

    /// ADDRESS_INFO (D-130 to D-133). On an address it pins the port: whoever asks wants to hear it from the
    /// remote node too.
    fn address_info(&self, sent: &Sent) -> Result<Answer, NtStatus> {
        let id = if let Some(endpoint) = self.endpoint_of(sent.file()) {
            let connected = endpoint.link.as_ref().and_then(|link| link.connection.local().ok());
            if let Some(local) = connected {
                return Ok(address_answer(1, local));
            }
            endpoint.core.address().ok_or(NtStatus::INVALID_CONNECTION)?
        } else {
            self.address_of(sent.file()).ok_or(NtStatus::INVALID_DEVICE_REQUEST)?.core.id()
        };
        self.pinned_answer(id)
    }

    fn pinned_answer(&self, id: AddressId) -> Result<Answer, NtStatus> {
        let lock = || self.addresses.lock(id).ok_or(NtStatus::INVALID_CONNECTION);
        let mut address = lock()?;
        if address.local().port() == 0
            && let Some(shared) = address.network.clone()
        {
            let endpoints: Vec<_> = address.core.endpoints().collect();
            // Endpoints are locked before addresses.
            drop(address);
            let port = endpoints.into_iter().find_map(|endpoint| self.endpoints.lock(endpoint)?.connected_port());
            address = lock()?;
            // A remote node may know a port of the address already (C-280).
            let local = port.map_or_else(|| shared.network.pin(), |port| shared.network.pin_to(port));
            self.pinned(&mut address, local.map_err(address_status)?);
        }
        let holders = address.claim.as_ref().map_or(1, |claim| self.claims().of(address.host).table.holders(claim));
        Ok(address_answer(u32::try_from(holders).unwrap_or(u32::MAX), address.local()))
    }

    /// CONNECTION_INFO (D-134, D-135): what is not known is 0. Any endpoint answers, connected or not (C-248, D-123).
    fn connection_info(&self, sent: &Sent) -> Result<Answer, NtStatus> {
        self.endpoint_of(sent.file()).ok_or(NtStatus::INVALID_DEVICE_REQUEST)?;
        Ok(Answer::zeroed(CONNECTION_INFO_LENGTH))
    }

    /// PROVIDER_INFO (D-136 to D-142).
    fn provider_info(&self, sent: &Sent) -> Result<Answer, NtStatus> {
        match sent.kind {
            DeviceKind::Ip(_) => return Err(NtStatus::NOT_IMPLEMENTED),
            DeviceKind::Multicast => return Err(NtStatus::INVALID_PARAMETER),
            DeviceKind::Tcp(_) | DeviceKind::Udp(_) | DeviceKind::RawIp(_) => {}
        }
        let words = [VERSION, SEND_MAX, 0, DATAGRAM_MAX, tdi::TCPIP_SERVICE_FLAGS, 1, LOOKAHEAD_MAX, 0];
        let answer = words.into_iter().fold(Answer::new(), Answer::word);
        Ok(answer.put(&self.start_time.to_le_bytes()))
    }

    /// TDI_SET_INFORMATION (D-155 to D-157): there is nothing here that a client may set.
    pub(crate) fn set_information(&self, sent: &Sent) -> NtStatus {
        let kind = sent.location.parameters[0] as u32;
        let settable = [query::ADDRESS_INFO, query::CONNECTION_INFO, query::PROVIDER_INFO, query::PROVIDER_STATISTICS];
        let status =
            if settable.contains(&kind) { NtStatus::INVALID_DEVICE_REQUEST } else { NtStatus::NOT_IMPLEMENTED };
        sent.complete(status, 0)
    }

    /// TDI_ACTION (D-158, D-159): there are no actions.
    pub(crate) fn action(&self, sent: &Sent) -> NtStatus {
        sent.complete(NtStatus::NOT_IMPLEMENTED, 0)
    }

    /// IRP_MJ_DEVICE_CONTROL: a request of a user program, or a private code, in this order (D-214, D-215).
    pub(crate) fn device_control(&self, sent: &Sent) -> NtStatus {
        // SAFETY: a packet that was sent to us.
        let mapped = unsafe {
            let location = irp::current_location(sent.irp);
            let status = tdi_library::map_user_request(sent.irp, location);
            (status, Sent { location: *location, ..*sent })
        };
        match mapped {
            (NtStatus::SUCCESS, mapped) => self.internal_device_control(&mapped),
            (NtStatus::NOT_IMPLEMENTED, _) => self.private_control(sent),
            (status, _) => sent.complete(status, 0),
        }
    }
}

/// ActivityCount, then the address (D-130).
fn address_answer(activity: u32, local: SocketAddr) -> Answer {
    Answer::new().word(activity).put(transport_address::encode(local).as_bytes())
}

fn statistics() -> Answer {
    Answer::zeroed(STATISTICS_LENGTH).at(0, &VERSION.to_le_bytes()).at(NUMBER_OF_RESOURCES, &1_u32.to_le_bytes())
}

fn broadcast(family: Family) -> Answer {
    let everybody: SocketAddr = match family {
        Family::V4 => (std::net::Ipv4Addr::BROADCAST, 0).into(),
        Family::V6 => (std::net::Ipv6Addr::new(0xFF02, 0, 0, 0, 0, 0, 0, 1), 0).into(),
    };
    Answer::new().put(transport_address::encode(everybody).as_bytes())
}
