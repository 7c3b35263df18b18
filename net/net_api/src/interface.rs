//! What a network tells of the host it is the network of.

use std::net::IpAddr;

/// One of the host's interfaces, as it was when the network was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceEntry {
    /// Its number, from 1: that of [`Interface::Numbered`](crate::Interface::Numbered).
    pub number: u32,
    /// What the host calls it.
    pub name: String,
    /// It leads back to this host.
    pub is_loopback: bool,
    /// It carries packets.
    pub is_up: bool,
    /// The longest packet that it carries, in bytes.
    pub mtu: u32,
    /// Its address on the link, if it has one.
    pub hardware_address: Option<[u8; 6]>,
    /// The host's IP addresses there, each with the bits that all addresses on the link share.
    pub addresses: Vec<(IpAddr, u8)>,
}
