//! Telling tdi.sys, and through it the clients, which devices and addresses there are (D-255).
//!
//! The addresses of its loopback interface are always told: every policy reaches them. The others are those that the network
//! names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net_api::InterfaceEntry;
use tdi_core::transport_address;
use tdi_library::pnp::{self, Registration};

/// Offset of the TA_ADDRESS in a TRANSPORT_ADDRESS.
const FIRST_ELEMENT: usize = 4;
/// The loopback interface's number in the names of devices. Interfaces that the network names have theirs.
const LOOPBACK: u32 = 0x7F00_0001;
/// `TDI_PNP_CONTEXT_TYPE_PDO`.
const CONTEXT_TYPE_PDO: u16 = 3;
/// Bytes of a TDI_PNP_CONTEXT with a pointer, as Windows lays it out (D-168).
const CONTEXT_LENGTH: usize = 16;

/// What was announced, to be taken back.
#[derive(Debug)]
pub(crate) struct Announced {
    provider: Registration,
    devices: Vec<Registration>,
    addresses: Vec<Registration>,
}

/// Announces the transport, its devices, its addresses, and that it is ready. `device` is the one that clients are
/// shown as the interface's.
pub(crate) fn announce(service: &str, devices: &[&str], device: u64, interfaces: &[InterfaceEntry]) -> Announced {
    let provider = pnp::register_provider(&utf16(service));
    let devices = devices.iter().map(|name| pnp::register_device(&utf16(name))).collect();
    let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()].map(|ip| (LOOPBACK, ip));
    let named = interfaces.iter().filter(|interface| !interface.is_loopback).flat_map(|interface| {
        let number = interface.number;
        interface.addresses.iter().map(move |&(ip, _)| (number, ip))
    });
    let addresses = loopback.into_iter().chain(named).map(|(number, ip): (u32, IpAddr)| {
        let encoded = transport_address::encode((ip, 0).into());
        let address = encoded.as_bytes().get(FIRST_ELEMENT..).unwrap_or_default();
        pnp::register_address(&utf16(&name_of(number, ip)), address, &context(device))
    });
    let addresses = addresses.collect();
    // The provider was registered above.
    let _ = pnp::provider_ready(provider);
    Announced { provider, devices, addresses }
}

impl Announced {
    /// Takes everything back, in the reverse order.
    pub(crate) fn withdraw(self) {
        for address in self.addresses {
            let _ = pnp::deregister_address(address);
        }
        for device in self.devices {
            let _ = pnp::deregister_device(device);
        }
        let _ = pnp::deregister_provider(self.provider);
    }
}

/// What clients are told to be the device of an interface's addresses: they compare what it begins with and read the GUID
/// behind that, so both matter (D-248, D-249).
fn name_of(number: u32, ip: IpAddr) -> String {
    let prefix = if ip.is_ipv4() { "TCPIP" } else { "TCPIP6" };
    format!(r"\DEVICE\{prefix}_{{{number:08X}-0000-4000-8000-00AA00389B71}}")
}

/// A context that names a device object (D-247).
fn context(device: u64) -> [u8; CONTEXT_LENGTH] {
    let mut bytes = [0; CONTEXT_LENGTH];
    bytes[..2].copy_from_slice(&(CONTEXT_LENGTH as u16).to_le_bytes());
    bytes[2..4].copy_from_slice(&CONTEXT_TYPE_PDO.to_le_bytes());
    bytes[8..].copy_from_slice(&device.to_le_bytes());
    bytes
}

fn utf16(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}
