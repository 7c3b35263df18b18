//! Options of datagram sockets, and what the policy has to say about them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::BorrowedFd;

use libc::c_int;
use net_api::{DatagramOption, Interface, Membership, NetError, Policy};
use nix::errno::Errno;

use crate::error::net_error;
use crate::reach::Reach;
use crate::socket;

/// The name of the loopback interface.
pub(crate) const LOOPBACK: &str = "lo";

/// Its number, which the kernel gives it in every network namespace.
const LOOPBACK_NUMBER: u32 = 1;

/// Sets `option` on a socket of the IPv4 or else the IPv6 family.
pub(crate) fn set(socket: BorrowedFd<'_>, is_ipv4: bool, reach: Reach, option: DatagramOption) -> Result<(), NetError> {
    let outcome = match option {
        DatagramOption::MulticastInterface(interface) => {
            set_multicast_interface(socket, is_ipv4, reach.allowed(interface)?)
        }
        DatagramOption::Join(membership) => change_membership(socket, is_ipv4, allowed(reach, membership)?, true),
        DatagramOption::Leave(membership) => change_membership(socket, is_ipv4, allowed(reach, membership)?, false),
        DatagramOption::Broadcast(on) => {
            socket::set_option(socket, libc::SOL_SOCKET, libc::SO_BROADCAST, &c_int::from(on))
        }
        _ => set_number(socket, is_ipv4, option),
    };
    outcome.map_err(|errno| match errno {
        // Says it of a membership that is there already.
        Errno::EADDRINUSE | Errno::EINVAL | Errno::ENODEV | Errno::ENXIO => NetError::AddressNotAvailable,
        Errno::ENOPROTOOPT => NetError::Unsupported,
        other => net_error(other),
    })
}

/// The options that are a number on both families.
fn set_number(socket: BorrowedFd<'_>, is_ipv4: bool, option: DatagramOption) -> nix::Result<()> {
    use libc::{
        IP_MTU_DISCOVER, IP_MULTICAST_LOOP, IP_MULTICAST_TTL, IP_TOS, IP_TTL, IPV6_MTU_DISCOVER, IPV6_MULTICAST_HOPS,
        IPV6_MULTICAST_LOOP, IPV6_TCLASS, IPV6_UNICAST_HOPS,
    };
    let discovery = |on| if on { libc::IP_PMTUDISC_DO } else { libc::IP_PMTUDISC_DONT };
    let (v4, v6, value) = match option {
        DatagramOption::HopLimit(0) => return Err(Errno::EINVAL),
        DatagramOption::HopLimit(hops) => (IP_TTL, IPV6_UNICAST_HOPS, c_int::from(hops)),
        DatagramOption::MulticastHopLimit(hops) => (IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS, c_int::from(hops)),
        DatagramOption::MulticastLoop(on) => (IP_MULTICAST_LOOP, IPV6_MULTICAST_LOOP, c_int::from(on)),
        DatagramOption::TypeOfService(value) => (IP_TOS, IPV6_TCLASS, c_int::from(value)),
        DatagramOption::DontFragment(on) => (IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, discovery(on)),
        DatagramOption::Broadcast(_)
        | DatagramOption::MulticastInterface(_)
        | DatagramOption::Join(_)
        | DatagramOption::Leave(_) => unreachable!("set elsewhere"),
    };
    if is_ipv4 {
        socket::set_option(socket, libc::IPPROTO_IP, v4, &value)
    } else {
        socket::set_option(socket, libc::IPPROTO_IPV6, v6, &value)
    }
}

fn set_multicast_interface(socket: BorrowedFd<'_>, is_ipv4: bool, interface: Interface) -> nix::Result<()> {
    if is_ipv4 {
        let request = request_v4(Ipv4Addr::UNSPECIFIED, interface)?;
        return socket::set_option(socket, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &request);
    }
    let number = c_int::try_from(number(interface)?).map_err(|_| Errno::ENODEV)?;
    socket::set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_IF, &number)
}

fn change_membership(socket: BorrowedFd<'_>, is_ipv4: bool, wanted: Membership, join: bool) -> nix::Result<()> {
    if let Some(source) = wanted.source {
        return change_source_membership(socket, is_ipv4, wanted, source, join);
    }
    match wanted.group {
        IpAddr::V4(group) if is_ipv4 => {
            let option = if join { libc::IP_ADD_MEMBERSHIP } else { libc::IP_DROP_MEMBERSHIP };
            socket::set_option(socket, libc::IPPROTO_IP, option, &request_v4(group, wanted.interface)?)
        }
        IpAddr::V6(group) if !is_ipv4 => {
            let option = if join { libc::IPV6_ADD_MEMBERSHIP } else { libc::IPV6_DROP_MEMBERSHIP };
            let request =
                libc::ipv6_mreq { ipv6mr_multiaddr: in6_addr(group), ipv6mr_interface: number(wanted.interface)? };
            socket::set_option(socket, libc::IPPROTO_IPV6, option, &request)
        }
        IpAddr::V4(_) | IpAddr::V6(_) => Err(Errno::EINVAL),
    }
}

fn change_source_membership(
    socket: BorrowedFd<'_>,
    is_ipv4: bool,
    wanted: Membership,
    source: IpAddr,
    join: bool,
) -> nix::Result<()> {
    let level = if is_ipv4 { libc::IPPROTO_IP } else { libc::IPPROTO_IPV6 };
    if wanted.group.is_ipv4() != is_ipv4 || source.is_ipv4() != is_ipv4 {
        return Err(Errno::EINVAL);
    }
    if let (IpAddr::V4(group), IpAddr::V4(source)) = (wanted.group, source)
        && !matches!(wanted.interface, Interface::Numbered(_))
    {
        let option = if join { libc::IP_ADD_SOURCE_MEMBERSHIP } else { libc::IP_DROP_SOURCE_MEMBERSHIP };
        let request = libc::ip_mreq_source {
            imr_multiaddr: in_addr(group),
            imr_interface: request_v4(group, wanted.interface)?.imr_address,
            imr_sourceaddr: in_addr(source),
        };
        return socket::set_option(socket, level, option, &request);
    }
    let option = if join { libc::MCAST_JOIN_SOURCE_GROUP } else { libc::MCAST_LEAVE_SOURCE_GROUP };
    let request = libc::group_source_req {
        gsr_interface: number(wanted.interface)?,
        gsr_group: socket::storage(SocketAddr::new(wanted.group, 0)),
        gsr_source: socket::storage(SocketAddr::new(source, 0)),
    };
    socket::set_option(socket, level, option, &request)
}

fn request_v4(group: Ipv4Addr, interface: Interface) -> nix::Result<libc::ip_mreqn> {
    let (address, number) = match interface {
        Interface::Routed => (Ipv4Addr::UNSPECIFIED, 0),
        Interface::WithAddress(address) => (address, 0),
        Interface::Numbered(number) => (Ipv4Addr::UNSPECIFIED, number),
    };
    let imr_ifindex = c_int::try_from(number).map_err(|_| Errno::ENODEV)?;
    Ok(libc::ip_mreqn { imr_multiaddr: in_addr(group), imr_address: in_addr(address), imr_ifindex })
}

/// The interface's number, 0 for the routed one. Options of IPv6 know interfaces by number alone.
fn number(interface: Interface) -> nix::Result<u32> {
    match interface {
        Interface::Routed => Ok(0),
        Interface::Numbered(number) => Ok(number),
        Interface::WithAddress(_) => Err(Errno::EINVAL),
    }
}

fn in_addr(address: Ipv4Addr) -> libc::in_addr {
    libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) }
}

fn in6_addr(address: Ipv6Addr) -> libc::in6_addr {
    libc::in6_addr { s6_addr: address.octets() }
}

fn allowed(reach: Reach, wanted: Membership) -> Result<Membership, NetError> {
    Ok(Membership { interface: reach.allowed(wanted.interface)?, ..wanted })
}

impl Reach {
    /// The interface to use for the one wanted: under the loopback policy there is only one.
    fn allowed(self, wanted: Interface) -> Result<Interface, NetError> {
        if self == Self::Everything {
            return Ok(wanted);
        }
        match wanted {
            Interface::WithAddress(address) if address.is_loopback() => Ok(wanted),
            Interface::WithAddress(address) if !address.is_unspecified() => Err(NetError::Denied(Policy::Loopback)),
            Interface::Numbered(number) if number != LOOPBACK_NUMBER => Err(NetError::Denied(Policy::Loopback)),
            Interface::Routed | Interface::Numbered(_) | Interface::WithAddress(_) => {
                Ok(Interface::Numbered(LOOPBACK_NUMBER))
            }
        }
    }
}
