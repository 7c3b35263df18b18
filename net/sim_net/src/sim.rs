//! One run of a network file.

use std::sync::Arc;

use net_api::NetTime;

use crate::frame::{FrameCount, FrameSink};
use crate::network::{Shared, SimNetwork};
use crate::network_file::NetworkFile;
use crate::world::World;

/// A simulated network, running.
pub struct Sim {
    shared: Arc<Shared>,
}

/// What exists in a simulation, for whoever looks for leaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Ends of connections: users', peers', and those that are still coming to their end by themselves.
    pub connections: usize,
    /// Local addresses.
    pub addresses: usize,
    /// Datagram addresses.
    pub datagram_addresses: usize,
}

impl Sim {
    /// Begins at time 0. `seed` determines everything that happens by chance; the file's own seed is for
    /// callers that have none.
    pub fn new(file: &NetworkFile, seed: u64) -> Self {
        Self { shared: Arc::new(Shared::new(World::new(file, seed))) }
    }

    /// The network as `host` sees it; `None` if the file has no such host.
    pub fn network(&self, host: &str) -> Option<SimNetwork> {
        let number = self.shared.lock().hosts.iter().position(|known| known.name == host)?;
        Some(SimNetwork::new(Arc::clone(&self.shared), number))
    }

    /// The names of the wires that packets cross, by their numbers.
    pub fn wires(&self) -> Vec<String> {
        self.shared.lock().wires()
    }

    /// Tells `sink` of every packet from now on.
    pub fn record(&self, sink: Box<dyn FrameSink>) {
        self.shared.lock().sink = Some(sink);
    }

    /// Lets time go on to `until`, as a poll would, without telling anybody.
    pub fn advance(&self, until: NetTime) {
        self.shared.lock().advance(until.as_nanoseconds());
    }

    /// What time it is.
    pub fn now(&self) -> NetTime {
        NetTime::from_nanoseconds(self.shared.lock().now)
    }

    /// When something happens next.
    pub fn next_deadline(&self) -> Option<NetTime> {
        self.shared.lock().agenda.next_at().map(NetTime::from_nanoseconds)
    }

    /// Counts of packets so far.
    pub fn frames(&self) -> FrameCount {
        self.shared.lock().count
    }

    /// What exists now.
    pub fn live(&self) -> Live {
        let world = self.shared.lock();
        Live {
            connections: world.connections.len(),
            addresses: world.addresses.len(),
            datagram_addresses: world.datagrams.len(),
        }
    }
}
