//! Turns the file into a file, or says what does not fit together.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::error::NetworkFileError;
use super::file::{FaultTable, File, FileContent, HostTable, Kind, PeerTable, Protocol, Settings, Then};
use super::units::Size;
use super::{
    After, Client, Content, Fault, FaultKind, HOSTS_MAX, Host, Limits, Link, LinkChange, NetworkFile, Peer, Script,
    broadcast, host_of_others, pair,
};

/// The stack keeps eight addresses per host, two of which are its loopback addresses.
const ADDRESSES_MAX: usize = 6;
/// The smallest MTU that IPv6 allows, and the largest there is.
const MTU: Range<u64> = 1280..65_536;
/// For IPv4 alone.
const MTU_IPV4_MIN: u64 = 576;
const BUFFER: Range<u64> = 256..(1 << 24) + 1;
const BUFFER_USUAL: usize = 65_536;
/// More text than this is no greeting but a file.
const TEXT_MAX: usize = 1 << 20;

type Checked<T> = Result<T, NetworkFileError>;

/// What checks need to say where.
struct Checker<'a> {
    text: &'a str,
    hosts: Vec<Host>,
}

pub(super) fn check(text: &str, file: File) -> Checked<NetworkFile> {
    let mut checker = Checker { text, hosts: Vec::new() };
    for host in &file.host {
        let checked = checker.host(host)?;
        checker.hosts.push(checked);
    }
    if checker.hosts.is_empty() {
        return Err(checker.error(text.len()..text.len(), "no host; expected at least one `[[host]]` table"));
    }
    let links = checker.links(&file)?;
    let faults = file.fault.iter().map(|fault| checker.fault(fault)).collect::<Checked<Vec<_>>>()?;
    let mut peers: Vec<Peer> = Vec::new();
    for table in &file.peer {
        let peer = checker.peer(table)?;
        let taken = |other: &Peer| (other.host, other.is_udp, other.port) == (peer.host, peer.is_udp, peer.port);
        if peer.port != 0 && peers.iter().any(taken) {
            let message = format!("another peer of `{}` has port {} already", checker.name(peer.host), peer.port);
            return Err(checker.error(table.span(), message));
        }
        peers.push(peer);
    }
    for (peer, table) in peers.iter().zip(&file.peer) {
        checker.check_own_target(peer, table.get_ref(), &peers)?;
    }
    Ok(NetworkFile { seed: file.seed, hosts: checker.hosts, links, faults, peers })
}

impl Checker<'_> {
    fn error(&self, span: Range<usize>, message: impl Into<String>) -> NetworkFileError {
        NetworkFileError::new(self.text, span, message)
    }

    fn name(&self, host: usize) -> &str {
        &self.hosts[host].name
    }

    fn host(&self, table: &Spanned<HostTable>) -> Checked<Host> {
        let head = table.span();
        let table = table.get_ref();
        let name = table.name.get_ref();
        if name.is_empty() {
            return Err(self.error(table.name.span(), "empty, expected a name"));
        }
        if self.hosts.iter().any(|host| host.name == *name) {
            return Err(self.error(table.name.span(), format!("a second host `{name}`, expected another name")));
        }
        if self.hosts.len() == HOSTS_MAX {
            return Err(self.error(head, format!("one host too many, expected at most {HOSTS_MAX}")));
        }
        let list = table.address.get_ref();
        if list.is_empty() || list.len() > ADDRESSES_MAX {
            let message = format!("expected 1 to {ADDRESSES_MAX} addresses");
            return Err(self.error(table.address.span(), message));
        }
        let mut addresses = Vec::new();
        for text in list {
            let address = self.address(text)?;
            let known = self.hosts.iter().flat_map(|host| &host.addresses).chain(&addresses);
            if known.into_iter().any(|(ip, _)| *ip == address.0) {
                return Err(self.error(text.span(), format!("{} belongs to a host already", address.0)));
            }
            if Some(address.0) == broadcast(address) {
                let message =
                    format!("{0} means all hosts of its network, {0}/{1}; expected one host's", address.0, address.1);
                return Err(self.error(text.span(), message));
            }
            addresses.push(address);
        }
        if let Some(driver) = &table.driver
            && let Some(other) = self.hosts.iter().find(|host| host.driver.as_ref() == Some(driver.get_ref()))
        {
            let message =
                format!("`{}` runs on host `{}` already, expected another driver", driver.get_ref(), other.name);
            return Err(self.error(driver.span(), message));
        }
        let buffer = |size: &Option<Spanned<Size>>| {
            size.as_ref().map_or(Ok(BUFFER_USUAL), |size| self.size(size, BUFFER).map(|bytes| bytes as usize))
        };
        let limits = Limits {
            send_buffer: buffer(&table.send_buffer)?,
            receive_buffer: buffer(&table.receive_buffer)?,
            // What the systems these drivers were written for do.
            connect_timeout: table.connect_timeout.map_or(Duration::from_secs(21), |time| time.0),
            data_timeout: table.data_timeout.map_or(Duration::from_secs(60), |time| time.0),
        };
        Ok(Host {
            name: name.clone(),
            addresses,
            driver: table.driver.as_ref().map(|driver| driver.get_ref().clone()),
            limits,
        })
    }

    /// `10.0.0.1`, `10.0.0.1/8`, `fd00::1/64`.
    fn address(&self, text: &Spanned<String>) -> Checked<(IpAddr, u8)> {
        let written = text.get_ref().as_str();
        let (ip, prefix) = written.split_once('/').map_or((written, None), |(ip, prefix)| (ip, Some(prefix)));
        let wrong = || {
            let message =
                format!("`{written}`, expected an IP address of a host, such as \"10.0.0.1\" or \"fd00::1/64\"");
            self.error(text.span(), message)
        };
        let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
        let is_usual = match ip {
            IpAddr::V4(v4) => !(v4.is_broadcast() || v4.octets()[0] == 0 || v4.octets()[0] >= 240),
            IpAddr::V6(v6) => v6.to_ipv4_mapped().is_none(),
        };
        if !is_usual || ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() {
            return Err(wrong());
        }
        let (usual, longest) = if ip.is_ipv4() { (24, 32) } else { (64, 128) };
        let prefix = prefix.map_or(Ok(usual), |prefix| prefix.parse::<u8>().map_err(|_| wrong()))?;
        if (1..=longest).contains(&prefix) { Ok((ip, prefix)) } else { Err(wrong()) }
    }

    fn size(&self, size: &Spanned<Size>, range: Range<u64>) -> Checked<u64> {
        if range.contains(&size.get_ref().0) {
            return Ok(size.get_ref().0);
        }
        let message = format!("{}, expected {} to {}", size.get_ref().0, range.start, range.end - 1);
        Err(self.error(size.span(), message))
    }

    fn host_named(&self, name: &Spanned<String>) -> Checked<usize> {
        let found = self.hosts.iter().position(|host| host.name == *name.get_ref());
        found.ok_or_else(|| {
            let names: Vec<&str> = self.hosts.iter().map(|host| host.name.as_str()).collect();
            let message = format!("no host `{}`, expected one of: {}", name.get_ref(), names.join(", "));
            self.error(name.span(), message)
        })
    }

    fn link_between(&self, names: &Spanned<Vec<Spanned<String>>>) -> Checked<usize> {
        if let [one, other] = names.get_ref().as_slice() {
            let (one, other) = (self.host_named(one)?, self.host_named(other)?);
            if one != other {
                return Ok(pair(self.hosts.len(), one, other));
            }
        }
        Err(self.error(names.span(), "expected the names of two hosts, such as [\"a\", \"b\"]"))
    }

    fn links(&self, file: &File) -> Checked<Vec<Link>> {
        let usual = Link {
            latency: Duration::from_millis(1),
            jitter: Duration::ZERO,
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            reorder_delay: Duration::from_millis(10),
            bandwidth: None,
            queue: 262_144,
            mtu: 1500,
            down: false,
        };
        let usual = self.change(&file.default_link.settings())?.of(usual);
        let count = self.hosts.len();
        let mut links = vec![usual; count * (count - 1) / 2];
        let mut named = vec![false; links.len()];
        for table in &file.link {
            let link = self.link_between(&table.between)?;
            if std::mem::replace(&mut named[link], true) {
                return Err(self.error(table.between.span(), "a second link between these hosts, expected one"));
            }
            links[link] = self.change(&table.settings())?.of(usual);
        }
        Ok(links)
    }

    /// What `settings` names.
    fn change(&self, settings: &Settings) -> Checked<LinkChange> {
        let has_ipv6 = self.hosts.iter().flat_map(|host| &host.addresses).any(|(ip, _)| ip.is_ipv6());
        let mtu = if has_ipv6 { MTU } else { MTU_IPV4_MIN..MTU.end };
        Ok(LinkChange {
            latency: settings.latency.map(|time| time.0),
            jitter: settings.jitter.map(|time| time.0),
            loss: settings.loss.map(|chance| chance.0),
            duplicate: settings.duplicate.map(|chance| chance.0),
            reorder: settings.reorder.map(|chance| chance.0),
            reorder_delay: settings.reorder_delay.map(|time| time.0),
            bandwidth: settings.bandwidth.map(|rate| rate.0),
            queue: settings.queue.as_ref().map(|queue| self.size(queue, 1500..(1 << 40))).transpose()?,
            mtu: settings.mtu.as_ref().map(|bytes| self.size(bytes, mtu)).transpose()?.map(|bytes| bytes as usize),
            down: settings.down,
        })
    }

    fn fault(&self, table: &Spanned<FaultTable>) -> Checked<Fault> {
        let head = table.span();
        let table = table.get_ref();
        let at = table.at.0;
        if let Some(until) = &table.until
            && until.get_ref().0 <= at
        {
            return Err(self.error(until.span(), "expected a time after `at`"));
        }
        let change = self.change(&table.settings())?;
        let what = match (&table.partition, &table.link, &table.crash) {
            (Some(_), None, None) | (None, None, Some(_)) if !change.is_none() => {
                let message = "properties of a link, which this fault has none of; expected them beside `link`";
                return Err(self.error(head, message));
            }
            (Some(hosts), None, None) => {
                let list = hosts.get_ref().iter().map(|name| self.host_named(name)).collect::<Checked<Vec<_>>>()?;
                for (at, name) in hosts.get_ref().iter().enumerate() {
                    if list[..at].contains(&list[at]) {
                        let message = format!("`{}` is named twice, expected each host once", name.get_ref());
                        return Err(self.error(name.span(), message));
                    }
                }
                if list.is_empty() {
                    return Err(self.error(hosts.span(), "expected the names of the hosts to be cut off"));
                }
                if (0..self.hosts.len()).all(|host| list.contains(&host)) {
                    return Err(
                        self.error(hosts.span(), "expected that some host is not named, to be cut off from these")
                    );
                }
                FaultKind::Partition(list)
            }
            (None, Some(between), None) => {
                let link = self.link_between(between)?;
                if change.is_none() {
                    return Err(self.error(head, "expected at least one property that the link has meanwhile"));
                }
                FaultKind::Link { link, change }
            }
            (None, None, Some(host)) => FaultKind::Crash(self.host_named(host)?),
            _ => return Err(self.error(head, "expected one of the keys `partition`, `link` and `crash`")),
        };
        Ok(Fault { at, until: table.until.as_ref().map(|until| until.get_ref().0), what })
    }

    fn peer(&self, table: &Spanned<PeerTable>) -> Checked<Peer> {
        let head = table.span();
        let table = table.get_ref();
        self.check_keys(table)?;
        let host = self.host_named(&table.host)?;
        let is_udp = table.protocol == Protocol::Udp;
        if is_udp && !matches!(table.kind, Kind::Echo | Kind::Sink | Kind::Silent) {
            return Err(self.error(head, "this kind speaks TCP; expected `echo`, `sink` or `silent` for UDP"));
        }
        let port = match &table.port {
            Some(port) if *port.get_ref() == 0 => return Err(self.error(port.span(), "0, expected 1 to 65535")),
            Some(port) => *port.get_ref(),
            None if table.kind == Kind::Client => 0,
            None => return Err(self.error(head, "no `port`, expected the one where the peer waits")),
        };
        let need = |name: &str| self.error(head.clone(), format!("no `{name}`, which this kind of peer needs"));
        let bytes = || table.bytes.as_ref().map(|bytes| bytes.get_ref().0).ok_or_else(|| need("bytes"));
        let script = match table.kind {
            Kind::Echo => Script::Echo,
            Kind::Sink => Script::Sink,
            Kind::Silent => Script::Silent,
            Kind::Ignore => Script::Ignore,
            Kind::Source => Script::Source(bytes()?),
            Kind::Reset => Script::Reset(bytes()?),
            Kind::HalfClose => Script::HalfClose(self.words(table)?),
            Kind::Http => Script::Http(self.files(table)?),
            Kind::Client => Script::Client(self.client(table, host, need("to"))?),
        };
        Ok(Peer { host, is_udp, port, script })
    }

    /// A key that this kind of peer does not look at is a mistake of the writer's.
    fn check_keys(&self, table: &PeerTable) -> Checked<()> {
        let is_client = table.kind == Kind::Client;
        let sends_text = matches!(table.kind, Kind::HalfClose | Kind::Client);
        let counts = matches!(table.kind, Kind::Source | Kind::Reset);
        let spans = [
            ("port", table.port.as_ref().map(Spanned::span), !is_client),
            ("bytes", table.bytes.as_ref().map(Spanned::span), counts),
            ("text", table.text.as_ref().map(Spanned::span), sends_text),
            ("files", table.files.as_ref().map(Spanned::span), table.kind == Kind::Http),
            ("to", table.to.as_ref().map(Spanned::span), is_client),
            ("at", table.at.as_ref().map(Spanned::span), is_client),
            ("every", table.every.as_ref().map(Spanned::span), is_client),
            ("count", table.count.as_ref().map(Spanned::span), is_client),
            ("then", table.then.as_ref().map(Spanned::span), is_client),
        ];
        for (name, span, is_used) in spans {
            if let Some(span) = span
                && !is_used
            {
                return Err(self.error(span, format!("this kind of peer has no `{name}`")));
            }
        }
        Ok(())
    }

    /// A client that can reach nobody by this address is a mistake of the writer's, too.
    fn check_reach(&self, from: usize, ip: IpAddr, span: Range<usize>) -> Checked<()> {
        let all = || self.hosts.iter().flat_map(|host| &host.addresses).map(|(ip, _)| *ip);
        let own = |own: &(IpAddr, u8)| own.0.is_ipv4() == ip.is_ipv4();
        if !ip.is_loopback() && !all().any(|known| known == ip) {
            let known: Vec<String> = all().map(|ip| ip.to_string()).collect();
            let message = format!("no host has the address {ip}, expected one of: {}", known.join(", "));
            return Err(self.error(span, message));
        }
        if !ip.is_loopback() && !self.hosts[from].addresses.iter().any(own) {
            let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
            let message = format!("host `{}` has no {family} address; expected one of its own kind", self.name(from));
            return Err(self.error(span, message));
        }
        Ok(())
    }

    /// Nor does it reach anybody on its own host where no peer waits and no driver can run.
    fn check_own_target(&self, peer: &Peer, table: &PeerTable, peers: &[Peer]) -> Checked<()> {
        let (Script::Client(client), Some(to)) = (&peer.script, &table.to) else { return Ok(()) };
        let ip = client.to.ip();
        let host = &self.hosts[peer.host];
        let is_own = ip.is_loopback() || host.addresses.iter().any(|(own, _)| *own == ip);
        let is_served =
            peers.iter().any(|other| (other.host, other.is_udp, other.port) == (peer.host, false, client.to.port()));
        let runs_drivers = host.driver.is_some() || peer.host == host_of_others(&self.hosts);
        if !is_own || is_served || runs_drivers {
            return Ok(());
        }
        let message = format!(
            "`{}`, an address of the client's own host, where no TCP peer has this port and no driver runs",
            client.to
        );
        Err(self.error(to.span(), message))
    }

    fn words(&self, table: &PeerTable) -> Checked<String> {
        let Some(text) = &table.text else { return Ok(String::new()) };
        if text.get_ref().len() > TEXT_MAX {
            return Err(self.error(text.span(), format!("too long, expected at most {TEXT_MAX} bytes")));
        }
        Ok(text.get_ref().clone())
    }

    fn files(&self, table: &PeerTable) -> Checked<BTreeMap<String, Content>> {
        let Some(files) = &table.files else { return Ok(BTreeMap::new()) };
        let mut checked = BTreeMap::new();
        for (path, content) in files.get_ref() {
            if !path.starts_with('/') {
                return Err(self.error(files.span(), format!("`{path}`, expected paths that begin with a slash")));
            }
            let content = match content {
                FileContent::Text(text) => Content::Text(text.clone()),
                FileContent::Length(length) if *length <= 1 << 40 => Content::Length(*length),
                FileContent::Length(length) => {
                    return Err(self.error(files.span(), format!("{length} bytes, expected at most 2^40")));
                }
            };
            checked.insert(path.clone(), content);
        }
        Ok(checked)
    }

    fn client(&self, table: &PeerTable, host: usize, no_target: NetworkFileError) -> Checked<Client> {
        let to = table.to.as_ref().ok_or(no_target)?;
        let target: Option<SocketAddr> = to.get_ref().parse().ok();
        let target = target.filter(|target| target.port() != 0 && !target.ip().is_unspecified());
        let target = target.ok_or_else(|| {
            let message = format!("`{}`, expected an IP address and port, such as \"10.0.0.1:80\"", to.get_ref());
            self.error(to.span(), message)
        })?;
        self.check_reach(host, target.ip(), to.span())?;
        if let Some(count) = &table.count
            && *count.get_ref() == 0
        {
            return Err(
                self.error(count.span(), "0, expected the number of connections that the client makes, at least 1")
            );
        }
        let time = |time: &Option<Spanned<super::units::Time>>| time.as_ref().map(|time| time.get_ref().0);
        Ok(Client {
            to: target,
            at: time(&table.at).unwrap_or_default(),
            every: time(&table.every).unwrap_or(Duration::from_millis(100)),
            count: table.count.as_ref().map_or(1, |count| *count.get_ref()),
            text: self.words(table)?,
            then: match table.then.as_ref().map(Spanned::get_ref) {
                None | Some(Then::Close) => After::Close,
                Some(Then::Reset) => After::Reset,
                Some(Then::Stay) => After::Stay,
            },
        })
    }
}
