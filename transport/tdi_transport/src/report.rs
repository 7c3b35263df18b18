//! What drivers left open, for the run's report.

use crate::requests::Owner;
use crate::transport::Transport;

/// Something that is still alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftover {
    /// A connection endpoint.
    Endpoint {
        /// Its file object.
        file: u64,
        /// Is it still connected?
        connected: bool,
        /// Has its CLOSE come, so that only the transport itself holds it?
        closed: bool,
    },
    /// A transport address.
    Address {
        /// Its file object.
        file: u64,
        /// Has its CLOSE come, so that only associated endpoints hold it?
        closed: bool,
    },
    /// A control channel.
    ControlChannel {
        /// Its file object.
        file: u64,
    },
    /// Received data that a chained handler has kept.
    Chain {
        /// The file object of the endpoint it was received on.
        file: u64,
        /// That handler's routine.
        handler: u64,
    },
    /// A pending request.
    Request {
        /// Its IRP.
        irp: u64,
        /// The file object it was sent to, 0 if that is gone.
        file: u64,
    },
}

impl Transport {
    /// Visits everything that is still alive.
    pub fn for_each_leftover(&self, mut visit: impl FnMut(Leftover)) {
        let mut requests = Vec::new();
        self.requests.for_each(|irp, owner| requests.push((irp as u64, owner)));
        for (irp, owner) in requests {
            let file = match owner {
                Owner::Endpoint(id) => self.endpoints.lock(id).map(|endpoint| endpoint.file),
                Owner::Address(id) => self.addresses.lock(id).map(|address| address.file),
            };
            visit(Leftover::Request { irp, file: file.unwrap_or(0) });
        }
        self.endpoints.for_each(|_, endpoint| {
            let connected = endpoint.link.is_some();
            visit(Leftover::Endpoint { file: endpoint.file, connected, closed: endpoint.is_closed });
        });
        self.addresses.for_each(|_, address| {
            visit(Leftover::Address { file: address.file, closed: address.is_closed });
        });
        self.chains.for_each(|_, chain| visit(Leftover::Chain { file: chain.file, handler: chain.handler }));
        self.channels.for_each(|_, channel| visit(Leftover::ControlChannel { file: channel.file }));
    }

    /// Visits the event handlers that are registered, each with the file object of its address.
    pub fn for_each_handler(&self, mut visit: impl FnMut(u64, u64)) {
        self.addresses.for_each(|_, address| {
            address.core.handlers().for_each(|handler| visit(address.file, handler.routine));
        });
    }
}
