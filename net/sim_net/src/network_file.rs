//! Network files: what hosts there are, what lies between them, what goes wrong and when, and who answers.
//!
//! A network file is TOML; `docs/network-file.md` describes every key. [`NetworkFile::parse`] checks all of it, so
//! that a simulation never meets a name that nobody has.

mod check;
mod error;
mod file;
#[cfg(test)]
mod tests;
mod units;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

pub use error::NetworkFileError;

/// More hosts than this make no network but a load; each pair of them has a link.
pub const HOSTS_MAX: usize = 64;

/// A checked network file.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkFile {
    pub(crate) seed: Option<u64>,
    pub(crate) hosts: Vec<Host>,
    /// One per pair of hosts, in the order of [`pair`].
    pub(crate) links: Vec<Link>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) peers: Vec<Peer>,
}

impl NetworkFile {
    /// Reads the text of a network file.
    ///
    /// # Errors
    /// The first mistake, with its place and what was expected there.
    pub fn parse(text: &str) -> Result<Self, NetworkFileError> {
        let file = toml::from_str(text).map_err(|error| NetworkFileError::from_toml(text, &error))?;
        check::check(text, file)
    }

    /// The seed that the file names, if it does.
    pub fn seed(&self) -> Option<u64> {
        self.seed
    }

    /// The names of the hosts, in the order of the file.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.hosts.iter().map(|host| host.name.as_str())
    }

    /// The drivers that hosts name, with the host.
    pub fn drivers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.hosts.iter().filter_map(|host| Some((host.name.as_str(), host.driver.as_deref()?)))
    }

    /// The host that runs the driver with the file name `image`: the one that names it, or else the first
    /// that names none.
    pub fn host_of_driver(&self, image: &str) -> &str {
        let names_it = |host: &&Host| host.driver.as_deref() == Some(image);
        let named = self.hosts.iter().find(names_it);
        &named.unwrap_or(&self.hosts[host_of_others(&self.hosts)]).name
    }
}

/// Where drivers run that no host names.
fn host_of_others(hosts: &[Host]) -> usize {
    hosts.iter().position(|host| host.driver.is_none()).unwrap_or(0)
}

/// The address that means every host on the network of this one.
pub(crate) fn broadcast((ip, prefix): (IpAddr, u8)) -> Option<IpAddr> {
    let IpAddr::V4(ip) = ip else { return None };
    let host_bits = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    // On a network of one or two addresses each is a host's.
    (host_bits > 1).then(|| Ipv4Addr::from_bits(ip.to_bits() | host_bits).into())
}

/// Where the link between hosts `one` and `other` stands among those of `count` hosts.
pub(crate) fn pair(count: usize, one: usize, other: usize) -> usize {
    let (low, high) = (one.min(other), one.max(other));
    debug_assert!(low < high && high < count);
    low * (2 * count - low - 1) / 2 + (high - low - 1)
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) addresses: Vec<(IpAddr, u8)>,
    pub(crate) driver: Option<String>,
    pub(crate) limits: Limits,
}

/// Sizes and patience of a host's transport.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Limits {
    pub(crate) send_buffer: usize,
    pub(crate) receive_buffer: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) data_timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Link {
    pub(crate) latency: Duration,
    pub(crate) jitter: Duration,
    pub(crate) loss: f64,
    pub(crate) duplicate: f64,
    pub(crate) reorder: f64,
    pub(crate) reorder_delay: Duration,
    /// Bits per second; `None` is without limit.
    pub(crate) bandwidth: Option<u64>,
    /// Bytes that wait for the bandwidth at most.
    pub(crate) queue: u64,
    pub(crate) mtu: usize,
    pub(crate) down: bool,
}

/// Properties of a link that are not what they usually are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct LinkChange {
    pub(crate) latency: Option<Duration>,
    pub(crate) jitter: Option<Duration>,
    pub(crate) loss: Option<f64>,
    pub(crate) duplicate: Option<f64>,
    pub(crate) reorder: Option<f64>,
    pub(crate) reorder_delay: Option<Duration>,
    pub(crate) bandwidth: Option<u64>,
    pub(crate) queue: Option<u64>,
    pub(crate) mtu: Option<usize>,
    pub(crate) down: Option<bool>,
}

impl LinkChange {
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// `link` with the properties that are named here.
    pub(crate) fn of(&self, link: Link) -> Link {
        Link {
            latency: self.latency.unwrap_or(link.latency),
            jitter: self.jitter.unwrap_or(link.jitter),
            loss: self.loss.unwrap_or(link.loss),
            duplicate: self.duplicate.unwrap_or(link.duplicate),
            reorder: self.reorder.unwrap_or(link.reorder),
            reorder_delay: self.reorder_delay.unwrap_or(link.reorder_delay),
            bandwidth: self.bandwidth.or(link.bandwidth),
            queue: self.queue.unwrap_or(link.queue),
            mtu: self.mtu.unwrap_or(link.mtu),
            down: self.down.unwrap_or(link.down),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) at: Duration,
    pub(crate) until: Option<Duration>,
    pub(crate) what: FaultKind,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum FaultKind {
    /// These hosts reach one another, and are reached by one another, alone.
    Partition(Vec<usize>),
    /// The link has other properties.
    Link { link: usize, change: LinkChange },
    /// The host forgets everything and answers nobody.
    Crash(usize),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Peer {
    pub(crate) host: usize,
    pub(crate) is_udp: bool,
    pub(crate) port: u16,
    pub(crate) script: Script,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Script {
    /// Sends back what it gets, and ends when the other side does.
    Echo,
    /// Takes everything and answers nothing.
    Sink,
    /// Sends so many bytes, then ends.
    Source(u64),
    /// Answers HTTP requests for these files.
    Http(std::collections::BTreeMap<String, Content>),
    /// Resets the connection when so many bytes have come.
    Reset(u64),
    /// Accepts, takes nothing, says nothing.
    Silent,
    /// Does not even answer the handshake.
    Ignore,
    /// Says this and ends its direction at once; goes on taking.
    HalfClose(String),
    /// Connects by itself.
    Client(Client),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Client {
    pub(crate) to: SocketAddr,
    pub(crate) at: Duration,
    pub(crate) every: Duration,
    pub(crate) count: u32,
    pub(crate) text: String,
    pub(crate) then: After,
}

/// What a client does when as many bytes have come back as it sent, or the other side has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    Close,
    Reset,
    Stay,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    Text(String),
    /// So many bytes of [`crate::peer::pattern`].
    Length(u64),
}
