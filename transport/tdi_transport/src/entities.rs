//! What IOCTL_TCP_QUERY_INFORMATION_EX tells of interfaces, addresses and routes (sections 9.1 and 9.2 of
//! tdi-datagrams-and-services.md), as pure functions of what the network says of its host.
//!
//! The tables are IPv4's. Counters are 0 and there is no translation of addresses to tell of: networks do not count, and
//! the kernel below them translates. Routes are those that follow from the addresses; whoever asks for a route to
//! elsewhere finds none, though the host may have one. Left out: tables and statistics of TCP and UDP.

use std::net::{IpAddr, Ipv4Addr};

use net_api::InterfaceEntry;
use nt_abi::NtStatus;
use nt_abi::tdi::private::{
    AT_ENTITY, CL_NL_ENTITY, CL_TL_ENTITY, CO_TL_ENTITY, ER_ENTITY, GENERIC_ENTITY, IF_ENTITY, INFO_CLASS_GENERIC,
    INFO_CLASS_PROTOCOL, INFO_TYPE_PROVIDER, entity_id, entity_type,
};

/// `MIB_IF_TYPE_ETHERNET` and `MIB_IF_TYPE_LOOPBACK`.
const TYPE_ETHERNET: u32 = 6;
const TYPE_LOOPBACK: u32 = 24;
/// Bits per second that an interface claims: networks do not know theirs.
const SPEED: u32 = 1_000_000_000;
/// `IF_ADMIN_STATUS_UP`, and the two ends of `IF_OPER_STATUS`.
const ADMIN_UP: u32 = 1;
const NOT_OPERATIONAL: u32 = 0;
const OPERATIONAL: u32 = 5;
/// Packets are not forwarded, and live so long.
const NO_FORWARDING: u32 = 2;
const DEFAULT_TTL: u32 = 128;
/// Bytes of a datagram that is put together from fragments.
const REASSEMBLY_MAX: u32 = 65_535;
/// `IRE_TYPE_DIRECT`, and a route that came with an address (`IRE_PROTO_LOCAL`).
const ROUTE_DIRECT: u32 = 3;
const PROTOCOL_LOCAL: u32 = 2;
const NO_METRIC: u32 = u32::MAX;

/// A TDIObjectID (D-179).
#[derive(Clone, Copy, Debug)]
pub(crate) struct ObjectId {
    pub(crate) entity: u32,
    pub(crate) instance: u32,
    pub(crate) class: u32,
    pub(crate) kind: u32,
    pub(crate) id: u32,
}

/// Answers a query about the network's host. `context` is what the query brings with it; only the query for an address's
/// interface reads it.
///
/// # Errors
/// NOT_SUPPORTED for what is not served, INVALID_PARAMETER for an instance that is not there.
pub(crate) fn answer(object: ObjectId, context: [u8; 4], interfaces: &[InterfaceEntry]) -> Result<Vec<u8>, NtStatus> {
    let ObjectId { entity, instance, class, kind, id } = object;
    if kind != INFO_TYPE_PROVIDER {
        return Err(NtStatus::NOT_SUPPORTED);
    }
    match (class, entity, id) {
        (INFO_CLASS_GENERIC, GENERIC_ENTITY, entity_id::LIST) => {
            Ok(words(entities(interfaces).into_iter().flat_map(|(entity, instance)| [entity, instance])))
        }
        (INFO_CLASS_GENERIC, _, entity_id::TYPE) => {
            let is_listed = entities(interfaces).contains(&(entity, instance));
            is_listed.then(|| words(type_of(entity))).ok_or(NtStatus::INVALID_PARAMETER)
        }
        (INFO_CLASS_PROTOCOL, IF_ENTITY, entity_id::ENTRY) => {
            let interface = interfaces.get(instance as usize).ok_or(NtStatus::INVALID_PARAMETER)?;
            Ok(interface_entry(interface))
        }
        (INFO_CLASS_PROTOCOL, AT_ENTITY, entity_id::ENTRY) if instance == 0 => Ok(words([0, 0])),
        (INFO_CLASS_PROTOCOL, AT_ENTITY, entity_id::TABLE) if instance == 0 => Ok(Vec::new()),
        (INFO_CLASS_PROTOCOL, CL_NL_ENTITY, _) if instance == 0 => ip_answer(id, context, interfaces),
        _ => Err(NtStatus::NOT_SUPPORTED),
    }
}

/// All entities with their instances (D-190, D-191).
fn entities(interfaces: &[InterfaceEntry]) -> Vec<(u32, u32)> {
    let numbers = (0..).take(interfaces.len()).map(|instance| (IF_ENTITY, instance));
    let others = [AT_ENTITY, CL_NL_ENTITY, ER_ENTITY, CO_TL_ENTITY, CL_TL_ENTITY];
    numbers.chain(others.map(|entity| (entity, 0))).collect()
}

fn type_of(entity: u32) -> Option<u32> {
    Some(match entity {
        IF_ENTITY => entity_type::IF_MIB,
        AT_ENTITY => entity_type::AT_ARP,
        CL_NL_ENTITY => entity_type::CL_NL_IP,
        ER_ENTITY => entity_type::ER_ICMP,
        CO_TL_ENTITY => entity_type::CO_TL_TCP,
        CL_TL_ENTITY => entity_type::CL_TL_UDP,
        _ => return None,
    })
}

fn ip_answer(id: u32, context: [u8; 4], interfaces: &[InterfaceEntry]) -> Result<Vec<u8>, NtStatus> {
    let addresses = || interfaces.iter().flat_map(|interface| ipv4_of(interface).map(move |one| (interface, one)));
    Ok(match id {
        entity_id::ENTRY => {
            let mut all = [0; 23];
            all[..2].copy_from_slice(&[NO_FORWARDING, DEFAULT_TTL]);
            let count = addresses().count() as u32;
            all[20..].copy_from_slice(&[interfaces.len() as u32, count, count]);
            words(all)
        }
        entity_id::TABLE => addresses().flat_map(|(interface, address)| route(interface.number, address)).collect(),
        entity_id::ADDRESSES => {
            addresses().flat_map(|(interface, address)| address_entry(interface.number, address)).collect()
        }
        entity_id::INTERFACE_OF_ADDRESS => {
            let wanted = Ipv4Addr::from(context);
            let found = addresses().find(|(_, address)| address.ip == wanted);
            let (interface, _) = found.ok_or(NtStatus::INVALID_PARAMETER)?;
            let hardware = hardware_address(interface);
            let mut bytes = words([0, interface.mtu, SPEED, hardware.len() as u32]);
            bytes.extend(hardware);
            bytes
        }
        _ => return Err(NtStatus::NOT_SUPPORTED),
    })
}

/// An IPv4 address with its mask.
#[derive(Clone, Copy)]
struct Address {
    ip: Ipv4Addr,
    mask: Ipv4Addr,
}

fn ipv4_of(interface: &InterfaceEntry) -> impl Iterator<Item = Address> + '_ {
    interface.addresses.iter().filter_map(|&(ip, prefix)| match ip {
        IpAddr::V4(ip) => {
            let host_bits = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            Some(Address { ip, mask: Ipv4Addr::from_bits(!host_bits) })
        }
        IpAddr::V6(_) => None,
    })
}

/// An IPAddrEntry: 24 bytes, addresses as they go over the network (D-195, D-197).
fn address_entry(number: u32, Address { ip, mask }: Address) -> Vec<u8> {
    let mut bytes = ip.octets().to_vec();
    bytes.extend(number.to_le_bytes());
    bytes.extend(mask.octets());
    // The host bits of the broadcast address, as a number: all ones.
    bytes.extend(words([1, REASSEMBLY_MAX, 0]));
    bytes
}

/// The IPRouteEntry of an address's own network: 52 bytes (D-196).
fn route(number: u32, Address { ip, mask }: Address) -> Vec<u8> {
    let mut bytes = (ip & mask).octets().to_vec();
    bytes.extend(words([number, 1, NO_METRIC, NO_METRIC, NO_METRIC]));
    bytes.extend(ip.octets());
    bytes.extend(words([ROUTE_DIRECT, PROTOCOL_LOCAL, 0]));
    bytes.extend(mask.octets());
    bytes.extend(words([NO_METRIC, 0]));
    bytes
}

/// An IFEntry: 92 bytes and the name, which no NUL ends (D-199).
fn interface_entry(interface: &InterfaceEntry) -> Vec<u8> {
    let hardware = hardware_address(interface);
    let kind = if interface.is_loopback { TYPE_LOOPBACK } else { TYPE_ETHERNET };
    let mut bytes = words([interface.number, kind, interface.mtu, SPEED, hardware.len() as u32]);
    let mut room = [0; 8];
    room[..hardware.len()].copy_from_slice(hardware);
    bytes.extend(room);
    let state = if interface.is_up { OPERATIONAL } else { NOT_OPERATIONAL };
    bytes.extend(words([ADMIN_UP, state, 0]));
    // Octets, packets, discards and errors of both directions, unknown protocols, the queue.
    bytes.extend(words([0; 12]));
    bytes.extend(words([interface.name.len() as u32]));
    bytes.extend(interface.name.as_bytes());
    bytes
}

fn hardware_address(interface: &InterfaceEntry) -> &[u8] {
    interface.hardware_address.as_ref().map_or(&[], |address| address.as_slice())
}

fn words(words: impl IntoIterator<Item = u32>) -> Vec<u8> {
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}

#[cfg(test)]
mod tests;
