//! IRP_MJ_CREATE: what an open creates, and the right to the address it names (chapter 5).

use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Weak};

use gate::memory;
use net_api::{Policy, Sharing};
use nt_abi::tdi::TdiObjectKind;
use nt_abi::{FileObject, NtStatus};
use tdi_core::open::{self, Open, Provider};
use tdi_core::sharing::{Claim, Protocol, Share};
use tdi_core::transport_address::Family;
use tdi_core::{Address, Endpoint};

use crate::address::{AddressState, BACKLOG};
use crate::control::ChannelState;
use crate::datagram::Datagrams;
use crate::dispatch::Sent;
use crate::endpoint::EndpointState;
use crate::status::address_status;
use crate::stream_address::StreamAddress;
use crate::table::{Locked, Name};
use crate::transport::{DeviceKind, Host, Transport};

/// EA lists up to this length are copied to the stack: every list with one address or context.
const SHORT_LIST: usize = 256;
/// Longest EA list that is looked at.
const LIST_MAX: usize = 64 << 10;

/// What an open of an address has got.
struct Opened {
    local: SocketAddr,
    network: Option<Arc<StreamAddress>>,
    datagrams: Option<Box<Datagrams>>,
    claim: Claim,
}

impl Transport {
    /// Serves a create. Nothing is left behind if it fails (C-081).
    pub(crate) fn create(&self, sent: &Sent) -> NtStatus {
        match self.open(sent) {
            Ok(()) => NtStatus::SUCCESS,
            Err(status) => status,
        }
    }

    fn open(&self, sent: &Sent) -> Result<(), NtStatus> {
        let file = sent.file();
        // A create that a driver has made up names whatever it likes.
        memory::probe_write(file as u64, size_of::<FileObject>()).map_err(|_| NtStatus::INVALID_PARAMETER)?;
        let family = sent.kind.family();
        let protocol = match sent.kind {
            DeviceKind::RawIp(_) => raw_protocol(file)?,
            _ => None,
        };
        let provider = Provider { family, connections: matches!(sent.kind, DeviceKind::Tcp(_)) };
        let (name, kind) = match with_ea_list(sent, |list| open::decide(list, provider))?? {
            Open::ControlChannel => {
                let channel = ChannelState { file: file as u64 };
                let name = self.channels.insert(|_| channel).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
                (name, TdiObjectKind::CONTROL_CHANNEL)
            }
            Open::ConnectionEndpoint(context) => {
                let endpoint =
                    |name: Name| EndpointState::new(Endpoint::new(name.into(), context, self.config), file, family);
                let name = self.endpoints.insert(endpoint).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
                (name, TdiObjectKind::CONNECTION)
            }
            Open::TransportAddress(local) => {
                let name = self.open_address(sent, local, family, protocol)?;
                (name, TdiObjectKind::TRANSPORT_ADDRESS)
            }
        };
        // SAFETY: the file object of a create is alive and not in use by anybody else yet; one that is none can be
        // written to.
        unsafe {
            (*file).fs_context = name.pack();
            (*file).fs_context2 = kind.0;
        }
        Ok(())
    }

    fn open_address(
        &self,
        sent: &Sent,
        local: SocketAddr,
        family: Family,
        protocol: Option<u8>,
    ) -> Result<Name, NtStatus> {
        let share = Share::from_share_access((sent.location.parameters[2] >> 16) as u16);
        let host = self.host_of(sent.file());
        let opened = match sent.kind {
            DeviceKind::Tcp(_) => self.open_stream_address(host, local, share)?,
            DeviceKind::Udp(_) => self.open_datagram_address(host, local, share)?,
            // No network here takes packets of whatever protocol; but an address is one of some protocol (C-004).
            DeviceKind::RawIp(_) if protocol.is_some() => return Err(NtStatus::NOT_SUPPORTED),
            DeviceKind::RawIp(_) => return Err(NtStatus::INVALID_PARAMETER),
            DeviceKind::Ip(_) | DeviceKind::Multicast => return Err(NtStatus::INVALID_DEVICE_REQUEST),
        };
        let mut opened = Some(opened);
        let inserted = self.addresses.insert(|name| {
            let Opened { local, network, datagrams, claim } = opened.take().expect("called once");
            let core = Address::new(name.into(), local, BACKLOG as usize);
            AddressState::new(core, sent.file(), network, datagrams, (claim, host.number), family)
        });
        if let Some(Opened { claim, .. }) = opened {
            self.claims().of(host.number).table.release(claim);
        }
        inserted.ok_or(NtStatus::INSUFFICIENT_RESOURCES)
    }

    fn open_stream_address(&self, host: Host<'_>, local: SocketAddr, share: Share) -> Result<Opened, NtStatus> {
        let (claim, network) = self.claim(host, Protocol::Tcp, local, share)?;
        Ok(Opened { local, network: Some(network), datagrams: None, claim })
    }

    /// The port is fixed now (C-097, D-036).
    fn open_datagram_address(&self, host: Host<'_>, local: SocketAddr, share: Share) -> Result<Opened, NtStatus> {
        let mut claims = self.claims();
        let claims = claims.of(host.number);
        let claim = claims.table.claim(Protocol::Udp, local, share)?;
        let sharing = match share {
            Share::Exclusive => Sharing::Exclusive,
            Share::Shared => Sharing::Shared,
        };
        match host.network.open_datagram_address(local, sharing) {
            Ok(network) => {
                let local = network.local();
                // A port that the network has chosen is this address's alone.
                let claim = claims.table.pin(claim, local).unwrap_or_else(|(floating, _)| floating);
                Ok(Opened { local, network: None, datagrams: Some(Box::new(Datagrams::new(network))), claim })
            }
            Err(error) => {
                claims.table.release(claim);
                Err(address_status(error))
            }
        }
    }

    /// The right to an address and the network's side of it. Shared opens of one address share that, too (C-104).
    fn claim(
        &self,
        host: Host<'_>,
        protocol: Protocol,
        local: SocketAddr,
        share: Share,
    ) -> Result<(Claim, Arc<StreamAddress>), NtStatus> {
        let mut claims = self.claims();
        let claims = claims.of(host.number);
        let claim = claims.table.claim(protocol, local, share)?;
        let is_same = |address: SocketAddr| match host.network.policy() {
            Policy::Loopback => on_loopback(address) == on_loopback(local),
            Policy::None | Policy::Host | Policy::Simulated => address == local,
        };
        let shared = claims.opened.iter().find(|(p, address, _)| *p == protocol && is_same(*address));
        if let Some(network) = shared.and_then(|(_, _, network)| Weak::upgrade(network)) {
            return Ok((claim, network));
        }
        let opened = match share {
            Share::Exclusive => host.network.open_address(local),
            Share::Shared => host.network.open_shared_address(local),
        };
        match opened {
            Ok(network) => {
                let network = StreamAddress::new(network);
                if local.port() != 0 && share == Share::Shared {
                    claims.opened.push((protocol, local, Arc::downgrade(&network)));
                }
                Ok((claim, network))
            }
            Err(error) => {
                claims.table.release(claim);
                Err(address_status(error))
            }
        }
    }

    /// An address has got its port from the network (C-098).
    pub(crate) fn pinned(&self, address: &mut Locked<'_, AddressState>, local: SocketAddr) {
        if address.local().port() != 0 {
            return;
        }
        address.core.set_local(local);
        if let Some(claim) = address.claim.take() {
            // The network gave the port to this address alone, so nobody else can have claimed it; whoever opens it from now
            // on, shared, shares the network's side, too (C-104).
            let mut claims = self.claims();
            let claims = claims.of(address.host);
            let was_floating = claim.local().port() == 0;
            let claim = claims.table.pin(claim, local).unwrap_or_else(|(floating, _)| floating);
            if was_floating
                && claim.is_shared()
                && let Some(network) = &address.network
            {
                claims.opened.push((Protocol::Tcp, local, Arc::downgrade(network)));
            }
            address.claim = Some(claim);
        }
    }
}

/// What an address comes to where nothing but loopback is reached.
fn on_loopback(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The protocol that the name of a file on the raw device ends with.
fn raw_protocol(file: *mut FileObject) -> Result<Option<u8>, NtStatus> {
    let place = file as u64 + offset_of!(FileObject, file_name) as u64;
    let suffix = memory::read_unicode(place).map_err(|_| NtStatus::ACCESS_VIOLATION)?;
    open::raw_protocol(&suffix)
}

/// Shows the create's EA list: the I/O manager's copy, read once more, because filters can write to it (C-036).
fn with_ea_list<R>(sent: &Sent, look: impl FnOnce(&[u8]) -> R) -> Result<R, NtStatus> {
    // SAFETY: a packet that was sent to us.
    let place = unsafe { (*sent.irp).system_buffer };
    let length = sent.location.parameters[3] as u32 as usize;
    if place == 0 || length == 0 {
        return Ok(look(&[]));
    }
    let mut short = [0; SHORT_LIST];
    let mut long = Vec::new();
    let list = match short.get_mut(..length) {
        Some(list) => list,
        None if length <= LIST_MAX => {
            long.resize(length, 0);
            &mut long
        }
        None => return Err(NtStatus::INVALID_PARAMETER),
    };
    memory::read(place, list).map_err(|_| NtStatus::ACCESS_VIOLATION)?;
    Ok(look(list))
}
