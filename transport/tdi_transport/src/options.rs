//! Options of connections and addresses (section 9.3 of tdi-datagrams-and-services.md).
//!
//! An option is taken if the network does what it asks for; one that it does not is refused with
//! STATUS_NOT_SUPPORTED, so that no client believes in it. Of those that only ask for speed (windows) nothing has to
//! be done. A connection's options are its endpoint's: set at any time, they hold for every connection it makes.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use net_api::{Connection, DatagramOption, Interface, Membership, NetError};
use nt_abi::NtStatus;
use nt_abi::tdi::private::{ao_option, tcp_socket};

use crate::datagram::Datagrams;
use crate::status::datagram_status;

/// What an endpoint's connections are to be like. Most endpoints leave it at the defaults.
#[derive(Debug, Default)]
pub(crate) struct ConnectionOptions(Option<Box<Chosen>>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Chosen {
    no_delay: bool,
    keep_alive: bool,
    /// Idle time and interval in milliseconds.
    times: Option<(u32, u32)>,
}

impl ConnectionOptions {
    /// Sets one, and on the connection too, if there is one (D-201, D-202).
    ///
    /// INVALID_PARAMETER for a value that is none, NOT_SUPPORTED.
    pub(crate) fn set(&mut self, id: u32, value: &[u8], connection: Option<&dyn Connection>) -> Result<(), NtStatus> {
        self.0.get_or_insert_default().set(id, value, connection)
    }

    /// What was set (D-207).
    pub(crate) fn get(&self, id: u32) -> Result<u32, NtStatus> {
        self.0.as_deref().copied().unwrap_or_default().get(id)
    }

    /// Makes a new connection like this. One that is over already says so elsewhere.
    pub(crate) fn apply(&self, connection: &dyn Connection) {
        if let Some(chosen) = &self.0 {
            chosen.apply(connection);
        }
    }
}

impl Chosen {
    fn set(&mut self, id: u32, value: &[u8], connection: Option<&dyn Connection>) -> Result<(), NtStatus> {
        match id {
            tcp_socket::NODELAY => self.no_delay = word(value, 0)? != 0,
            tcp_socket::KEEPALIVE => self.keep_alive = word(value, 0)? != 0,
            tcp_socket::KEEPALIVE_VALS => {
                let (on, times) = (word(value, 0)?, (word(value, 4)?, word(value, 8)?));
                self.keep_alive = on != 0;
                self.times = Some(times);
            }
            tcp_socket::WINDOW | tcp_socket::SCALE_CWIN => word(value, 0).map(drop)?,
            _ => return Err(NtStatus::NOT_SUPPORTED),
        }
        let Some(connection) = connection else { return Ok(()) };
        let done = match id {
            tcp_socket::NODELAY => connection.set_no_delay(self.no_delay),
            tcp_socket::KEEPALIVE | tcp_socket::KEEPALIVE_VALS => self.apply_keep_alive(connection),
            _ => Ok(()),
        };
        // Whatever is wrong with the connection, its next request learns it.
        done.map_err(|_| NtStatus::INVALID_CONNECTION)
    }

    fn get(&self, id: u32) -> Result<u32, NtStatus> {
        match id {
            tcp_socket::NODELAY => Ok(self.no_delay.into()),
            tcp_socket::KEEPALIVE => Ok(self.keep_alive.into()),
            _ => Err(NtStatus::NOT_SUPPORTED),
        }
    }

    fn apply(&self, connection: &dyn Connection) {
        if self.no_delay {
            let _ = connection.set_no_delay(true);
        }
        if self.keep_alive {
            let _ = self.apply_keep_alive(connection);
        }
    }

    fn apply_keep_alive(&self, connection: &dyn Connection) -> Result<(), NetError> {
        if let (true, Some((idle, interval))) = (self.keep_alive, self.times) {
            let milliseconds = |count: u32| Duration::from_millis(count.into());
            connection.set_keep_alive_times(milliseconds(idle), milliseconds(interval))?;
        }
        connection.set_keep_alive(self.keep_alive)
    }
}

/// Sets one on an address (D-203, D-204). `datagrams` is `None` for an address of connections.
///
/// INVALID_PARAMETER for a value that is none, NOT_SUPPORTED, or what the network says.
pub(crate) fn set_on_address(id: u32, value: &[u8], datagrams: Option<&mut Datagrams>) -> Result<(), NtStatus> {
    // Who may reach the address through a tunnel (PROTECT) is no question: there is none.
    if matches!(id, ao_option::WINDOW | ao_option::SCALE_CWIN | ao_option::PROTECT) {
        return number(value).map(drop);
    }
    let datagrams = datagrams.ok_or(NtStatus::NOT_SUPPORTED)?;
    if id == ao_option::IP_PKTINFO {
        datagrams.has_packet_information = number(value)? != 0;
        return Ok(());
    }
    let small = || number(value).and_then(|number| u8::try_from(number).map_err(|_| NtStatus::INVALID_PARAMETER));
    let flag = || number(value).map(|number| number != 0);
    let option = match id {
        ao_option::TTL => DatagramOption::HopLimit(small()?),
        ao_option::MCASTTTL => DatagramOption::MulticastHopLimit(small()?),
        ao_option::MCASTIF => DatagramOption::MulticastInterface(interface(value, 0)?),
        ao_option::ADD_MCAST => DatagramOption::Join(membership(value)?),
        ao_option::DEL_MCAST => DatagramOption::Leave(membership(value)?),
        ao_option::TOS => DatagramOption::TypeOfService(small()?),
        ao_option::IP_DONTFRAGMENT => DatagramOption::DontFragment(flag()?),
        ao_option::MCASTLOOP => DatagramOption::MulticastLoop(flag()?),
        ao_option::BROADCAST => DatagramOption::Broadcast(flag()?),
        _ => return Err(NtStatus::NOT_SUPPORTED),
    };
    datagrams.network.set(option).map_err(datagram_status)
}

/// A ULONG at that offset.
fn word(value: &[u8], at: usize) -> Result<u32, NtStatus> {
    let bytes = value.get(at..).and_then(|rest| rest.first_chunk());
    bytes.copied().map(u32::from_le_bytes).ok_or(NtStatus::INVALID_PARAMETER)
}

/// A number as one byte or as a ULONG (D-204).
fn number(value: &[u8]) -> Result<u32, NtStatus> {
    match value {
        [byte] => Ok((*byte).into()),
        _ => word(value, 0),
    }
}

fn ip(value: &[u8], at: usize) -> Result<Ipv4Addr, NtStatus> {
    word(value, at).map(|word| Ipv4Addr::from(word.to_le_bytes()))
}

fn interface(value: &[u8], at: usize) -> Result<Interface, NtStatus> {
    ip(value, at).map(|ip| if ip.is_unspecified() { Interface::Routed } else { Interface::WithAddress(ip) })
}

/// Group and interface (D-204).
fn membership(value: &[u8]) -> Result<Membership, NtStatus> {
    Ok(Membership { group: IpAddr::V4(ip(value, 0)?), interface: interface(value, 4)?, source: None })
}
