//! IP packets, taken apart and put together. The formats themselves are smoltcp's.
//!
//! Every packet of a simulation was made by one of its own stacks; what cannot be read is nobody's packet and
//! is dropped, as a host does.

use std::net::{IpAddr, SocketAddr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, Icmpv6DstUnreachable, Icmpv6Packet, Icmpv6Repr, IpAddress,
    IpProtocol, IpVersion, Ipv4Packet, Ipv4Repr, Ipv6FragmentHeader, Ipv6Packet, Ipv6Repr, TcpPacket, TcpSeqNumber,
    UdpPacket,
};

/// Bytes of an IPv4 header without options.
const IPV4_HEADER: usize = 20;
/// Bytes of an IPv6 header.
const IPV6_HEADER: usize = 40;
/// Bytes of an IPv6 fragment header.
const FRAGMENT_HEADER: usize = 8;
/// Bytes of a UDP header.
pub(crate) const UDP_HEADER: usize = 8;
/// Bytes of an unreachable packet that are sent back; enough for both headers of any UDP packet.
const QUOTE_MAX: usize = 512;

/// Where a packet comes from and goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Route {
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
}

/// What a packet is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Packet<'a> {
    Tcp(Segment),
    Udp {
        route: Route,
        datagram: &'a [u8],
    },
    /// A part of a UDP datagram that was too long for one packet.
    Fragment {
        route: Route,
        piece: Piece<'a>,
    },
    /// A node says that a UDP datagram sent from here did not arrive.
    Unreachable {
        from: SocketAddr,
        to: SocketAddr,
    },
    /// Something the stack itself answers, or drops.
    Other,
}

/// What demultiplexing needs of a TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    /// A SYN without ACK: somebody wants to connect.
    pub(crate) is_offer: bool,
    pub(crate) is_reset: bool,
    /// Whether it takes up sequence numbers, so that its sender waits for an answer.
    pub(crate) wants_answer: bool,
}

/// A part of a datagram.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    pub(crate) ident: u32,
    pub(crate) offset: usize,
    pub(crate) is_last: bool,
    pub(crate) bytes: &'a [u8],
}

/// How a datagram is to travel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Envelope {
    pub(crate) route: Route,
    pub(crate) hops: u8,
    pub(crate) service: u8,
    pub(crate) dont_fragment: bool,
    pub(crate) ident: u32,
}

fn version(frame: &[u8]) -> Option<IpVersion> {
    // The empty packet is of no version.
    if frame.is_empty() { None } else { IpVersion::of_packet(frame).ok() }
}

pub(crate) fn destination(frame: &[u8]) -> Option<IpAddr> {
    match version(frame)? {
        IpVersion::Ipv4 => Some(Ipv4Packet::new_checked(frame).ok()?.dst_addr().into()),
        IpVersion::Ipv6 => Some(Ipv6Packet::new_checked(frame).ok()?.dst_addr().into()),
    }
}

pub(crate) fn parse(frame: &[u8]) -> Option<Packet<'_>> {
    match version(frame)? {
        IpVersion::Ipv4 => {
            let ip = Ipv4Packet::new_checked(frame).ok()?;
            let route = Route { from: ip.src_addr().into(), to: ip.dst_addr().into() };
            if ip.more_frags() || ip.frag_offset() != 0 {
                let offset = usize::from(ip.frag_offset());
                let (ident, is_last) = (u32::from(ip.ident()), !ip.more_frags());
                return Some(Packet::Fragment { route, piece: Piece { ident, offset, is_last, bytes: ip.payload() } });
            }
            if ip.next_header() == IpProtocol::Icmp {
                return Some(unreachable_v4(ip.payload()).unwrap_or(Packet::Other));
            }
            above(route, ip.next_header(), ip.payload())
        }
        IpVersion::Ipv6 => {
            let ip = Ipv6Packet::new_checked(frame).ok()?;
            let route = Route { from: ip.src_addr().into(), to: ip.dst_addr().into() };
            match ip.next_header() {
                IpProtocol::Ipv6Frag => fragment_v6(route, ip.payload()),
                IpProtocol::Icmpv6 => Some(unreachable_v6(ip.payload()).unwrap_or(Packet::Other)),
                protocol => above(route, protocol, ip.payload()),
            }
        }
    }
}

fn above(route: Route, protocol: IpProtocol, payload: &[u8]) -> Option<Packet<'_>> {
    match protocol {
        IpProtocol::Tcp => {
            let tcp = TcpPacket::new_checked(payload).ok()?;
            Some(Packet::Tcp(Segment {
                from: SocketAddr::new(route.from, tcp.src_port()),
                to: SocketAddr::new(route.to, tcp.dst_port()),
                is_offer: tcp.syn() && !tcp.ack() && !tcp.rst(),
                is_reset: tcp.rst(),
                wants_answer: tcp.segment_len() != 0,
            }))
        }
        IpProtocol::Udp => Some(Packet::Udp { route, datagram: payload }),
        _ => Some(Packet::Other),
    }
}

fn fragment_v6(route: Route, payload: &[u8]) -> Option<Packet<'_>> {
    let bytes = payload.get(FRAGMENT_HEADER..)?;
    let &[next, _, ref rest @ ..] = payload else { return None };
    if IpProtocol::from(next) != IpProtocol::Udp {
        return Some(Packet::Other);
    }
    let header = Ipv6FragmentHeader::new_checked(rest).ok()?;
    let offset = usize::from(header.frag_offset()) * 8;
    let piece = Piece { ident: header.ident(), offset, is_last: !header.more_frags(), bytes };
    Some(Packet::Fragment { route, piece })
}

fn unreachable_v4(payload: &[u8]) -> Option<Packet<'_>> {
    let icmp = Icmpv4Packet::new_checked(payload).ok()?;
    let Icmpv4Repr::DstUnreachable { header, data, .. } =
        Icmpv4Repr::parse(&icmp, &ChecksumCapabilities::default()).ok()?
    else {
        return None;
    };
    let route = Route { from: header.src_addr.into(), to: header.dst_addr.into() };
    quoted_ports(route, header.next_header, data)
}

fn unreachable_v6(payload: &[u8]) -> Option<Packet<'_>> {
    // Type 1; then four unused bytes, and the packet that did not arrive.
    let &[1, ..] = payload else { return None };
    let quote = Ipv6Packet::new_unchecked(payload.get(8..8 + IPV6_HEADER)?);
    let route = Route { from: quote.src_addr().into(), to: quote.dst_addr().into() };
    quoted_ports(route, quote.next_header(), payload.get(8 + IPV6_HEADER..)?)
}

fn quoted_ports(route: Route, protocol: IpProtocol, data: &[u8]) -> Option<Packet<'static>> {
    let &[from_high, from_low, to_high, to_low, ..] = data else { return None };
    let from = SocketAddr::new(route.from, u16::from_be_bytes([from_high, from_low]));
    let to = SocketAddr::new(route.to, u16::from_be_bytes([to_high, to_low]));
    (protocol == IpProtocol::Udp).then_some(Packet::Unreachable { from, to })
}

/// What of its stream a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carries {
    Nothing,
    /// Something that was sent before.
    Old,
    /// Something new; the number after it.
    New(TcpSeqNumber),
    /// Something new that only asks whether the window is still shut: the other end drops it if so, and expects its
    /// number again. The number after it.
    Question(TcpSeqNumber),
}

/// Says what a packet carries that a socket has just made, and gives it, if it is an acknowledgement or a reset, the
/// sequence number it ought to have: that of the next new byte. `next` is that number as far as the earlier packets told.
///
/// After a time-out smoltcp goes back to what was not acknowledged, and numbers these packets by that, too. The
/// other end takes them for old ones. It does not look at what they acknowledge; if both ends are in that state at
/// once, neither ever gets out of it. And it drops a reset, so that it never learns that the connection is over.
///
/// Bytes may have been sent that do not fit into the window: it was rounded down since, or smoltcp repeated a whole
/// packet after three acknowledgements. Once it is shut, what has a number after them is dropped likewise, so it gets
/// the only number that the other end takes then: that of the byte that it waits for.
pub(crate) fn number_by_next(frame: &mut [u8], next: Option<TcpSeqNumber>, window: Option<WindowUpdate>) -> Carries {
    let Some((header, from, to)) = ends_of_tcp(frame) else { return Carries::Nothing };
    let Ok(mut tcp) = TcpPacket::new_checked(&mut frame[header..]) else { return Carries::Nothing };
    // A reset that acknowledges nothing answers a packet of no connection, with the number that this one asked for.
    if tcp.rst() && !tcp.ack() {
        return Carries::Nothing;
    }
    let length = tcp.segment_len();
    let end = tcp.seq_number() + length;
    let is_shut = window.is_some_and(WindowUpdate::is_shut);
    match next {
        Some(next) if length == 0 => {
            let number = match window {
                Some(window) if is_shut && window.acknowledgement < next => window.acknowledgement,
                _ => end.max(next),
            };
            if number != tcp.seq_number() {
                tcp.set_seq_number(number);
                tcp.fill_checksum(&from, &to);
            }
            Carries::Nothing
        }
        None if length == 0 => Carries::Nothing,
        Some(next) if end <= next => Carries::Old,
        // An end without bytes is taken at a shut window, too. And if bytes were missing, the window did not look shut to
        // the socket: it takes this as sent.
        Some(next)
            if !tcp.payload_mut().is_empty() && is_shut && window.is_some_and(|one| one.acknowledgement >= next) =>
        {
            Carries::Question(end)
        }
        Some(_) | None => Carries::New(end),
    }
}

/// The newest word of a remote side about its window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WindowUpdate {
    acknowledgement: TcpSeqNumber,
    window: u16,
}

impl WindowUpdate {
    pub(crate) fn is_shut(self) -> bool {
        self.window == 0
    }

    /// What decides which of two is newer, by weight. Nobody here takes back what he has granted, so of two that
    /// acknowledge the same the wider one is newer. The numbers of segments say nothing: what is sent again has an old one.
    fn parts(self) -> (TcpSeqNumber, u16) {
        (self.acknowledgement, self.window)
    }
}

/// Gives a segment that was overtaken by others the window that the newest of them told. `newest` is kept up
/// to date. `next` is the number of the next new byte to the remote side.
///
/// smoltcp believes every segment. An old one that closes the window again stops a sender whose last packet
/// was lost for ever: what it would send again does not fit, and nothing makes it probe.
///
/// And with a shut window it asks with the byte after those that it has sent. If one of those did not fit any more
/// (a scaled window is told rounded down), that byte is never sent again. So a window never looks shut before all
/// that was sent has arrived: then what is sent again is the question.
pub(crate) fn refresh_window(frame: &mut [u8], newest: &mut Option<WindowUpdate>, next: Option<TcpSeqNumber>) {
    let Some((header, from, to)) = ends_of_tcp(frame) else { return };
    let Ok(mut tcp) = TcpPacket::new_checked(&mut frame[header..]) else { return };
    // The window of a SYN counts in other units, and a reset has none.
    if tcp.syn() || tcp.rst() || !tcp.ack() {
        return;
    }
    let told = WindowUpdate { acknowledgement: tcp.ack_number(), window: tcp.window_len() };
    let known = match *newest {
        Some(known) if told.parts() < known.parts() => known,
        Some(_) | None => *newest.insert(told),
    };
    let is_missing_some = next.is_some_and(|next| told.acknowledgement < next);
    let window = if is_missing_some { known.window.max(1) } else { known.window };
    if window != told.window {
        tcp.set_window_len(window);
        tcp.fill_checksum(&from, &to);
    }
}

/// Takes the end of a stream off the last bytes of it, if a packet has both, and gives a packet with the end alone.
///
/// If not all of the bytes fit into its window, smoltcp takes those that do and then the end, as if there were no others.
pub(crate) fn take_end(frame: &mut [u8]) -> Option<Vec<u8>> {
    let (header, from, to) = ends_of_tcp(frame)?;
    let mut tcp = TcpPacket::new_checked(&mut frame[header..]).ok()?;
    let length = tcp.payload_mut().len();
    if !tcp.fin() || length == 0 {
        return None;
    }
    tcp.set_fin(false);
    tcp.fill_checksum(&from, &to);
    let (number, tcp_header) = (tcp.seq_number() + length, usize::from(tcp.header_len()));
    let mut end = frame[..header + tcp_header].to_vec();
    refit(&mut end);
    let mut tcp = TcpPacket::new_unchecked(&mut end[header..]);
    tcp.set_seq_number(number);
    tcp.set_fin(true);
    tcp.set_psh(false);
    tcp.fill_checksum(&from, &to);
    Some(end)
}

/// What a packet acknowledges: the number of the byte that it asks for.
pub(crate) fn acknowledgement(frame: &[u8]) -> Option<TcpSeqNumber> {
    let tcp = tcp_in(frame)?;
    (tcp.ack() && !tcp.rst()).then(|| tcp.ack_number())
}

/// Whether a packet only acknowledges, and not everything: not the byte before `next`, the number of the next new byte.
///
/// If nothing but the end of a stream is on its way, smoltcp must not see these. It takes the third of them in a row
/// for a sign of loss, has no bytes to repeat, and forgets that the end was to be repeated when its time is over.
/// Only where this side ended first: in LAST-ACK smoltcp 0.14 answers an acknowledgement of nothing new at once and
/// counts none.
pub(crate) fn only_acknowledges_before(frame: &[u8], next: Option<TcpSeqNumber>) -> bool {
    let Some(tcp) = tcp_in(frame) else { return false };
    let is_plain = tcp.segment_len() == 0 && tcp.ack() && !tcp.rst();
    is_plain && next.is_some_and(|next| tcp.ack_number() < next)
}

/// The number of the first byte of a stream, if this packet is the one that begins it.
pub(crate) fn first_of_stream(frame: &[u8]) -> Option<TcpSeqNumber> {
    let tcp = tcp_in(frame)?;
    (tcp.syn() && !tcp.rst()).then(|| tcp.seq_number() + 1)
}

/// The number of the first byte that a packet carries, if it carries any.
pub(crate) fn sequence(frame: &[u8]) -> Option<TcpSeqNumber> {
    let tcp = tcp_in(frame)?;
    (!tcp.payload().is_empty() && !tcp.syn()).then(|| tcp.seq_number())
}

/// The number of the urgent byte that a packet tells of: its pointer leads to the byte behind it (RFC 6093).
pub(crate) fn urgent_byte(frame: &[u8]) -> Option<TcpSeqNumber> {
    let tcp = tcp_in(frame)?;
    let is_told = tcp.urg() && tcp.urgent_at() > 0 && !tcp.syn() && !tcp.rst();
    is_told.then(|| tcp.seq_number() + usize::from(tcp.urgent_at()) - 1)
}

/// Has a packet, which carries bytes, tell of the urgent byte `number`, which is one of them or comes later. It ends with that
/// byte; the packet with what was behind it is returned.
pub(crate) fn mark_urgent(frame: &mut Vec<u8>, number: TcpSeqNumber) -> Option<Vec<u8>> {
    let (header, from, to) = ends_of_tcp(frame)?;
    let tcp = TcpPacket::new_checked(&frame[header..]).ok()?;
    let (begin, length) = (header + usize::from(tcp.header_len()), tcp.payload().len());
    let pointer = number - tcp.seq_number() + 1;
    let behind = (pointer < length).then(|| {
        let mut behind = frame.clone();
        behind.drain(begin..begin + pointer);
        refit(&mut behind);
        let mut tcp = TcpPacket::new_unchecked(&mut behind[header..]);
        tcp.set_seq_number(number + 1);
        tcp.fill_checksum(&from, &to);
        behind
    });
    if behind.is_some() {
        frame.truncate(begin + pointer);
        refit(frame);
    }
    let mut tcp = TcpPacket::new_unchecked(&mut frame[header..]);
    if behind.is_some() {
        tcp.set_fin(false);
        tcp.set_psh(false);
    }
    // Of one that is farther ahead a later packet tells.
    if let Ok(pointer) = u16::try_from(pointer) {
        tcp.set_urg(true);
        tcp.set_urgent_at(pointer);
    }
    tcp.fill_checksum(&from, &to);
    behind
}

/// Sets the length in the header of an IP packet to what it is.
fn refit(frame: &mut [u8]) {
    let length = frame.len();
    let fits = "it was longer before";
    match version(frame) {
        Some(IpVersion::Ipv4) => {
            let mut ip = Ipv4Packet::new_unchecked(frame);
            ip.set_total_len(u16::try_from(length).expect(fits));
            ip.fill_checksum();
        }
        Some(IpVersion::Ipv6) => {
            Ipv6Packet::new_unchecked(frame).set_payload_len(u16::try_from(length - IPV6_HEADER).expect(fits));
        }
        None => {}
    }
}

/// The TCP segment of a packet, to be read.
fn tcp_in(frame: &[u8]) -> Option<TcpPacket<&[u8]>> {
    let (header, ..) = ends_of_tcp(frame)?;
    TcpPacket::new_checked(&frame[header..]).ok()
}

/// Where the TCP segment of a packet begins, and the addresses that its checksum covers.
fn ends_of_tcp(frame: &[u8]) -> Option<(usize, IpAddress, IpAddress)> {
    match version(frame)? {
        IpVersion::Ipv4 => {
            let ip = Ipv4Packet::new_checked(frame).ok()?;
            let is_tcp = ip.next_header() == IpProtocol::Tcp;
            is_tcp.then(|| (usize::from(ip.header_len()), ip.src_addr().into(), ip.dst_addr().into()))
        }
        IpVersion::Ipv6 => {
            let ip = Ipv6Packet::new_checked(frame).ok()?;
            let is_tcp = ip.next_header() == IpProtocol::Tcp;
            is_tcp.then(|| (IPV6_HEADER, ip.src_addr().into(), ip.dst_addr().into()))
        }
    }
}

/// The ports and the data of a UDP datagram whose checksum is right.
pub(crate) fn open_datagram(route: Route, datagram: &[u8]) -> Option<(SocketAddr, SocketAddr, &[u8])> {
    let udp = UdpPacket::new_checked(datagram).ok()?;
    if !udp.verify_checksum(&route.from.into(), &route.to.into()) {
        return None;
    }
    let from = SocketAddr::new(route.from, udp.src_port());
    Some((from, SocketAddr::new(route.to, udp.dst_port()), udp.payload()))
}

/// A UDP datagram. Its data must not be longer than a UDP length can say.
pub(crate) fn datagram(from: SocketAddr, to: SocketAddr, data: &[&[u8]]) -> Vec<u8> {
    let length = UDP_HEADER + data.iter().map(|piece| piece.len()).sum::<usize>();
    let mut bytes = vec![0; length];
    let mut udp = UdpPacket::new_unchecked(&mut bytes);
    udp.set_src_port(from.port());
    udp.set_dst_port(to.port());
    udp.set_len(u16::try_from(length).expect("the caller has checked the length"));
    let mut rest = udp.payload_mut();
    for piece in data {
        let (now, later) = rest.split_at_mut(piece.len());
        now.copy_from_slice(piece);
        rest = later;
    }
    udp.fill_checksum(&from.ip().into(), &to.ip().into());
    bytes
}

/// The packets that carry `datagram` over a wire of this MTU.
pub(crate) fn packets(envelope: Envelope, datagram: &[u8], mtu: usize) -> Vec<Vec<u8>> {
    let header = if envelope.route.from.is_ipv4() { IPV4_HEADER } else { IPV6_HEADER };
    if header + datagram.len() <= mtu {
        return vec![packet(envelope, IpProtocol::Udp, datagram, None)];
    }
    let own = if envelope.route.from.is_ipv4() { 0 } else { FRAGMENT_HEADER };
    let room = (mtu - header - own) / 8 * 8;
    let count = datagram.len().div_ceil(room);
    let part = |(number, bytes)| {
        let part = Part { offset: number * room, is_last: number + 1 == count };
        packet(envelope, IpProtocol::Udp, bytes, Some(part))
    };
    datagram.chunks(room).enumerate().map(part).collect()
}

#[derive(Clone, Copy)]
struct Part {
    offset: usize,
    is_last: bool,
}

fn packet(envelope: Envelope, protocol: IpProtocol, payload: &[u8], part: Option<Part>) -> Vec<u8> {
    match (envelope.route.from, envelope.route.to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut bytes = vec![0; IPV4_HEADER + payload.len()];
            let mut ip = Ipv4Packet::new_unchecked(&mut bytes);
            ip.set_version(4);
            ip.set_header_len(IPV4_HEADER as u8);
            ip.set_dscp(envelope.service >> 2);
            ip.set_ecn(envelope.service & 3);
            ip.set_total_len((IPV4_HEADER + payload.len()) as u16);
            ip.set_ident(envelope.ident as u16);
            ip.clear_flags();
            ip.set_dont_frag(envelope.dont_fragment);
            ip.set_more_frags(part.is_some_and(|part| !part.is_last));
            ip.set_frag_offset(part.map_or(0, |part| part.offset as u16));
            ip.set_hop_limit(envelope.hops);
            ip.set_next_header(protocol);
            ip.set_src_addr(from);
            ip.set_dst_addr(to);
            ip.payload_mut().copy_from_slice(payload);
            ip.fill_checksum();
            bytes
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let own = if part.is_some() { FRAGMENT_HEADER } else { 0 };
            let mut bytes = vec![0; IPV6_HEADER + own + payload.len()];
            let mut ip = Ipv6Packet::new_unchecked(&mut bytes);
            ip.set_version(6);
            ip.set_traffic_class(envelope.service);
            ip.set_payload_len((own + payload.len()) as u16);
            ip.set_hop_limit(envelope.hops);
            ip.set_next_header(if part.is_some() { IpProtocol::Ipv6Frag } else { protocol });
            ip.set_src_addr(from);
            ip.set_dst_addr(to);
            let rest = ip.payload_mut();
            if let Some(part) = part {
                let word = (part.offset as u16) | u16::from(!part.is_last);
                rest[0] = protocol.into();
                rest[2..4].copy_from_slice(&word.to_be_bytes());
                rest[4..8].copy_from_slice(&envelope.ident.to_be_bytes());
            }
            rest[own..].copy_from_slice(payload);
            bytes
        }
        _ => unreachable!("both ends of a route are of one family"),
    }
}

/// The answer to a datagram for a port that nobody has.
pub(crate) fn port_unreachable(route: Route, datagram: &[u8]) -> Vec<u8> {
    let data = &datagram[..datagram.len().min(QUOTE_MAX)];
    let checksum = ChecksumCapabilities::default();
    let hop_limit = 64;
    match (route.from, route.to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let next_header = IpProtocol::Udp;
            let header = Ipv4Repr { src_addr: from, dst_addr: to, next_header, payload_len: datagram.len(), hop_limit };
            let reason = Icmpv4DstUnreachable::PortUnreachable;
            let icmp = Icmpv4Repr::DstUnreachable { reason, header, data };
            let outer = Ipv4Repr {
                src_addr: to,
                dst_addr: from,
                next_header: IpProtocol::Icmp,
                payload_len: icmp.buffer_len(),
                hop_limit,
            };
            let mut bytes = vec![0; outer.buffer_len() + icmp.buffer_len()];
            outer.emit(&mut Ipv4Packet::new_unchecked(&mut bytes), &checksum);
            icmp.emit(&mut Icmpv4Packet::new_unchecked(&mut bytes[outer.buffer_len()..]), &checksum);
            bytes
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let next_header = IpProtocol::Udp;
            let header = Ipv6Repr { src_addr: from, dst_addr: to, next_header, payload_len: datagram.len(), hop_limit };
            let reason = Icmpv6DstUnreachable::PortUnreachable;
            let icmp = Icmpv6Repr::DstUnreachable { reason, header, data };
            let outer = Ipv6Repr {
                src_addr: to,
                dst_addr: from,
                next_header: IpProtocol::Icmpv6,
                payload_len: icmp.buffer_len(),
                hop_limit,
            };
            let mut bytes = vec![0; outer.buffer_len() + icmp.buffer_len()];
            outer.emit(&mut Ipv6Packet::new_unchecked(&mut bytes));
            icmp.emit(&to, &from, &mut Icmpv6Packet::new_unchecked(&mut bytes[outer.buffer_len()..]), &checksum);
            bytes
        }
        _ => unreachable!("both ends of a route are of one family"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn envelope(from: SocketAddr, to: SocketAddr) -> Envelope {
        let route = Route { from: from.ip(), to: to.ip() };
        Envelope { route, hops: 64, service: 0, dont_fragment: false, ident: 0x1234 }
    }

    fn ends(is_ipv6: bool) -> (SocketAddr, SocketAddr) {
        if is_ipv6 {
            ("[fd00::1]:1000".parse().unwrap(), "[fd00::2]:2000".parse().unwrap())
        } else {
            ("10.0.0.1:1000".parse().unwrap(), "10.0.0.2:2000".parse().unwrap())
        }
    }

    #[test]
    fn datagram_in_one_packet_is_read_back() {
        for is_ipv6 in [false, true] {
            let (from, to) = ends(is_ipv6);
            let whole = datagram(from, to, &[b"ab", b"", b"c"]);
            let packets = packets(envelope(from, to), &whole, 1500);
            assert_eq!((packets.len(), destination(&packets[0])), (1, Some(to.ip())));
            let Some(Packet::Udp { route, datagram }) = parse(&packets[0]) else { panic!() };
            assert_eq!(open_datagram(route, datagram), Some((from, to, &b"abc"[..])));
        }
    }

    #[test]
    fn long_datagram_is_cut_into_pieces_that_fit_and_cover_it() {
        for is_ipv6 in [false, true] {
            let (from, to) = ends(is_ipv6);
            let data: Vec<u8> = (0..60_000_u32).map(|index| index as u8).collect();
            let whole = datagram(from, to, &[&data]);
            let mut together = vec![0; whole.len()];
            let packets = packets(envelope(from, to), &whole, 1400);
            for (number, bytes) in packets.iter().enumerate() {
                assert!(bytes.len() <= 1400);
                let Some(Packet::Fragment { piece, .. }) = parse(bytes) else { panic!() };
                assert_eq!((piece.ident, piece.is_last), (0x1234, number + 1 == packets.len()));
                together[piece.offset..piece.offset + piece.bytes.len()].copy_from_slice(piece.bytes);
            }
            assert_eq!(together, whole);
        }
    }

    #[test]
    fn packet_is_cut_behind_an_urgent_byte_and_tells_of_one_ahead() {
        use smoltcp::wire::{IpRepr, TcpControl, TcpRepr};
        let checksum = ChecksumCapabilities::default();
        for is_ipv6 in [false, true] {
            let (from, to) = ends(is_ipv6);
            let (source, target): (IpAddress, IpAddress) = (from.ip().into(), to.ip().into());
            // The numbers wrap around within the packet.
            let begin = TcpSeqNumber(-2);
            let segment = TcpRepr {
                src_port: from.port(),
                dst_port: to.port(),
                control: TcpControl::Fin,
                seq_number: begin,
                ack_number: Some(TcpSeqNumber(7)),
                window_len: 100,
                window_scale: None,
                max_seg_size: None,
                sack_permitted: false,
                sack_ranges: [None; 3],
                timestamp: None,
                payload: b"abcde",
            };
            let outer = IpRepr::new(source, target, IpProtocol::Tcp, segment.buffer_len(), 64);
            let mut frame = vec![0; outer.header_len() + segment.buffer_len()];
            outer.emit(&mut frame, &checksum);
            segment.emit(&mut TcpPacket::new_unchecked(&mut frame[outer.header_len()..]), &source, &target, &checksum);

            let mut behind = mark_urgent(&mut frame, begin + 2).expect("bytes behind it");
            assert_eq!(mark_urgent(&mut behind, begin + 9), None);
            let parts = [(frame, 0, &b"abc"[..], 3, false), (behind, 3, &b"de"[..], 7, true)];
            for (frame, offset, payload, pointer, is_end) in parts {
                assert!(matches!(parse(&frame), Some(Packet::Tcp(_))));
                if !is_ipv6 {
                    assert!(Ipv4Packet::new_checked(&frame).unwrap().verify_checksum());
                }
                let tcp = TcpPacket::new_checked(&frame[outer.header_len()..]).unwrap();
                assert!(tcp.verify_checksum(&source, &target));
                assert_eq!((tcp.seq_number(), tcp.payload(), tcp.fin()), (begin + offset, payload, is_end));
                assert_eq!((tcp.urg(), tcp.urgent_at()), (true, pointer));
                assert_eq!(urgent_byte(&frame), Some(begin + offset + usize::from(pointer) - 1));
            }
        }
    }

    #[test]
    fn unreachable_names_both_ends_of_what_did_not_arrive() {
        for is_ipv6 in [false, true] {
            let (from, to) = ends(is_ipv6);
            let lost = datagram(from, to, &[b"lost"]);
            let answer = port_unreachable(Route { from: from.ip(), to: to.ip() }, &lost);
            assert_eq!(destination(&answer), Some(from.ip()));
            assert_eq!(parse(&answer), Some(Packet::Unreachable { from, to }));
        }
    }

    /// A packet of TCP from the first end to the second, without options.
    fn segment(is_ipv6: bool, flags: u8, number: u32, acknowledgement: u32, window: u16, payload: &[u8]) -> Vec<u8> {
        let (from, to) = ends(is_ipv6);
        let mut bytes = vec![0; 20];
        bytes[0..2].copy_from_slice(&from.port().to_be_bytes());
        bytes[2..4].copy_from_slice(&to.port().to_be_bytes());
        bytes[4..8].copy_from_slice(&number.to_be_bytes());
        bytes[8..12].copy_from_slice(&acknowledgement.to_be_bytes());
        bytes[12..14].copy_from_slice(&[5 << 4, flags]);
        bytes[14..16].copy_from_slice(&window.to_be_bytes());
        bytes.extend_from_slice(payload);
        TcpPacket::new_unchecked(&mut bytes).fill_checksum(&from.ip().into(), &to.ip().into());
        packet(envelope(from, to), IpProtocol::Tcp, &bytes, None)
    }

    const FIN: u8 = 1;
    const RST: u8 = 4;
    const ACK: u8 = 16;

    #[test]
    fn end_of_a_stream_is_taken_off_its_last_bytes() {
        for is_ipv6 in [false, true] {
            let mut frame = segment(is_ipv6, ACK | FIN, u32::MAX, 7, 100, b"last");
            let end = take_end(&mut frame);
            assert_eq!(frame, segment(is_ipv6, ACK, u32::MAX, 7, 100, b"last"));
            assert_eq!(end, Some(segment(is_ipv6, ACK | FIN, 3, 7, 100, b"")));
            assert_eq!(take_end(&mut frame), None);
            assert_eq!(take_end(&mut end.unwrap()), None, "there is nothing before it");
        }
    }

    #[test]
    fn acknowledgements_and_resets_have_the_number_that_a_shut_window_begins_with() {
        let (next, mut newest) = (Some(TcpSeqNumber(50)), None);
        let number = |flags, number, window| {
            let mut frame = segment(false, flags, number, 7, 100, b"");
            assert_eq!(number_by_next(&mut frame, next, window), Carries::Nothing);
            TcpPacket::new_checked(&frame[IPV4_HEADER..]).unwrap().seq_number().0
        };
        refresh_window(&mut segment(false, ACK, 1, 30, 5, b""), &mut newest, next);
        assert_eq!((number(ACK, 30, newest), number(ACK, 50, newest)), (50, 50));
        refresh_window(&mut segment(false, ACK, 1, 35, 0, b""), &mut newest, next);
        assert_eq!((number(ACK, 30, newest), number(ACK, 50, newest), number(ACK | RST, 50, newest)), (35, 35, 35));
        let mut bytes = segment(false, ACK, 48, 7, 100, b"four");
        assert_eq!(number_by_next(&mut bytes, next, newest), Carries::New(TcpSeqNumber(52)), "35 to 50 are missing");
        refresh_window(&mut segment(false, ACK, 1, 50, 0, b""), &mut newest, next);
        let mut bytes = segment(false, ACK, 50, 7, 100, b"?");
        assert_eq!(number_by_next(&mut bytes, next, newest), Carries::Question(TcpSeqNumber(51)));
    }

    #[test]
    fn window_is_as_new_as_what_was_acknowledged_with_it() {
        let (next, mut newest) = (Some(TcpSeqNumber(50)), None);
        let mut window = |number, acknowledgement, window| {
            let mut frame = segment(false, ACK, number, acknowledgement, window, b"");
            refresh_window(&mut frame, &mut newest, next);
            TcpPacket::new_checked(&frame[IPV4_HEADER..]).unwrap().window_len()
        };
        assert_eq!(window(100, 50, 0), 0);
        assert_eq!(window(90, 50, 20), 20, "a packet that was sent again, and later than the one before");
        assert_eq!(window(100, 50, 0), 20, "it was overtaken");
        assert_eq!(window(100, 40, 30), 20, "it was overtaken");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_packet_or_none(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 0_u8..3) {
            // Most of random bytes are no IP packet at all; help two thirds of them.
            if let (Some(first), 1..) = (bytes.first_mut(), version) {
                *first = if version == 1 { 0x45 } else { 0x60 };
            }
            if let Some(Packet::Udp { route, datagram }) = parse(&bytes) {
                let _ = open_datagram(route, datagram);
            }
            let _ = destination(&bytes);
        }
    }
}
