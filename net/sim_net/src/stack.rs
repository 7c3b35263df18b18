//! smoltcp's interface as a host's TCP/IP stack for the wires of one MTU.
//!
//! A stack knows no sockets: each connection brings its own set of one, with the packet that our tables say
//! is for it. A set for all would be searched from one end to the other for every packet.

use std::net::IpAddr;

use smoltcp::iface::{Config, Context, Interface, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr};

use crate::link::Time;

pub(crate) struct Stack {
    interface: Interface,
    mtu: usize,
}

impl Stack {
    /// `seed` determines its initial sequence numbers.
    pub(crate) fn new(addresses: &[(IpAddr, u8)], mtu: usize, seed: u64) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut wire = Wire { mtu, incoming: None, outgoing: &mut Vec::new() };
        let mut interface = Interface::new(config, &mut wire, Instant::ZERO);
        interface.update_ip_addrs(|list| {
            for (ip, prefix) in addresses {
                // Files have no more addresses than there is room for.
                let _ = list.push(IpCidr::new((*ip).into(), *prefix));
            }
        });
        Self { interface, mtu }
    }

    /// Hands `incoming` to the socket of `set`, and lets it send what it has to.
    pub(crate) fn poll(
        &mut self,
        now: Time,
        incoming: Option<Vec<u8>>,
        set: &mut SocketSet<'static>,
        outgoing: &mut Vec<Vec<u8>>,
    ) {
        let mut wire = Wire { mtu: self.mtu, incoming, outgoing };
        self.interface.poll(instant(now), &mut wire, set);
    }

    /// When that socket has something to do by itself.
    pub(crate) fn poll_at(&mut self, now: Time, set: &SocketSet<'static>) -> Option<Time> {
        let at = self.interface.poll_at(instant(now), set)?;
        Some(u64::try_from(at.total_micros()).unwrap_or(0).saturating_mul(1000))
    }

    pub(crate) fn context(&mut self, now: Time) -> &mut Context {
        // Nothing is due on a stack without sockets; this only tells it the time.
        self.interface.poll_maintenance(instant(now));
        self.interface.context()
    }
}

/// smoltcp counts microseconds. Rounded down, so that what is due at a time it named is due then.
fn instant(now: Time) -> Instant {
    Instant::from_micros(i64::try_from(now / 1000).unwrap_or(i64::MAX))
}

struct Wire<'a> {
    mtu: usize,
    incoming: Option<Vec<u8>>,
    outgoing: &'a mut Vec<Vec<u8>>,
}

struct Incoming(Vec<u8>);

struct Outgoing<'a>(&'a mut Vec<Vec<u8>>);

impl Device for Wire<'_> {
    type RxToken<'a>
        = Incoming
    where
        Self: 'a;
    type TxToken<'a>
        = Outgoing<'a>
    where
        Self: 'a;

    fn receive(&mut self, _now: Instant) -> Option<(Incoming, Outgoing<'_>)> {
        let frame = self.incoming.take()?;
        Some((Incoming(frame), Outgoing(self.outgoing)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Outgoing<'_>> {
        Some(Outgoing(self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

impl RxToken for Incoming {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut frame = vec![0; length];
        let outcome = write(&mut frame);
        self.0.push(frame);
        outcome
    }
}
