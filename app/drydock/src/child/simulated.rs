//! Several simulated hosts behind one transport: each driver's addresses lie on the host that runs the driver.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use net_api::{
    Capabilities, DatagramAddress, EventSink, InterfaceEntry, LocalAddress, NetError, NetTime, Network, Policy,
    Sharing, Wait,
};
use sim_net::{NetworkFile, Sim, SimNetwork};

use crate::frames;

/// The hosts of a simulation.
pub struct Hosts {
    file: NetworkFile,
    /// Host names with the network as each sees it.
    hosts: Vec<(String, SimNetwork)>,
}

impl Hosts {
    /// Begins a simulation. Its packets go to `frames`, if that is given.
    pub fn new(file: &NetworkFile, seed: u64, frames: Option<OwnedFd>) -> Self {
        let sim = Sim::new(file, seed);
        if let Some(frames) = frames {
            sim.record(Box::new(frames::Writer::new(frames)));
        }
        let network = |host: &str| Some((host.to_owned(), sim.network(host)?));
        Self { file: file.clone(), hosts: file.hosts().filter_map(network).collect() }
    }

    /// Any host's network, for what concerns all.
    fn any(&self) -> &SimNetwork {
        &self.hosts[0].1
    }
}

impl Network for Hosts {
    fn policy(&self) -> Policy {
        self.any().policy()
    }

    fn capabilities(&self) -> Capabilities {
        self.any().capabilities()
    }

    /// The first host runs what no driver's image holds.
    fn host_of(&self, opener: u64) -> Option<(u16, &dyn Network)> {
        let image = gate::image::find(opener).map_or("", |image| image.name);
        let wanted = self.file.host_of_driver(image);
        let number = self.hosts.iter().position(|(name, _)| name == wanted).unwrap_or(0);
        Some((u16::try_from(number).ok()?, &self.hosts[number].1))
    }

    fn open_address(&self, local: SocketAddr) -> Result<Arc<dyn LocalAddress>, NetError> {
        self.any().open_address(local)
    }

    fn open_shared_address(&self, local: SocketAddr) -> Result<Arc<dyn LocalAddress>, NetError> {
        self.any().open_shared_address(local)
    }

    fn open_datagram_address(&self, local: SocketAddr, sharing: Sharing) -> Result<Arc<dyn DatagramAddress>, NetError> {
        self.any().open_datagram_address(local, sharing)
    }

    fn interfaces(&self) -> Vec<InterfaceEntry> {
        self.any().interfaces()
    }

    fn advance(&self, now: NetTime) {
        self.any().advance(now);
    }

    fn poll(&self, now: NetTime, _wait: Wait, sink: &dyn EventSink) -> usize {
        // Each host has its own events. Nobody waits here: time is virtual and moves elsewhere.
        self.hosts.iter().map(|(_, network)| network.poll(now, Wait::No, sink)).sum()
    }

    fn wake(&self) {
        self.any().wake();
    }

    fn next_deadline(&self) -> Option<NetTime> {
        self.hosts.iter().filter_map(|(_, network)| network.next_deadline()).min()
    }
}
