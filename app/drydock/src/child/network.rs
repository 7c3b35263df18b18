//! Which network the transport stands on.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use host_net::HostNetwork;
use net_api::{NetError, NoNetwork};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tdi_transport::Transport;

use super::simulated;
use crate::plan::{Network, Plan};

/// The network that the plan names. The packets of a simulated one go to `frames`.
///
/// # Errors
/// A sentence that says what is wrong with the network, or what the host refused.
pub fn make(plan: &Plan, frames: Option<OwnedFd>) -> Result<Arc<dyn net_api::Network>, String> {
    let refused = |error: NetError| format!("the host gives no network: {error}");
    Ok(match &plan.network {
        Network::None => Arc::new(NoNetwork::new()),
        Network::Loopback => {
            allow_many_sockets();
            Arc::new(HostNetwork::loopback().map_err(refused)?)
        }
        Network::Host => {
            allow_many_sockets();
            Arc::new(HostNetwork::host().map_err(refused)?)
        }
        Network::Simulated(description) => {
            let file = description.parse().map_err(|error| error.to_string())?;
            Arc::new(simulated::Hosts::new(&file, plan.seed.unwrap_or_default(), frames))
        }
    })
}

/// Raises the limit of descriptors to what the user allows: each connection takes one, and the usual limit of 1024 is there for
/// programs that use `select`, which this one does not.
fn allow_many_sockets() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // If it cannot be raised, drivers run out of descriptors sooner, and are told so.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

/// Starts the transport over a network.
///
/// # Errors
/// A sentence that says why it did not start.
pub fn start(network: Arc<dyn net_api::Network>) -> Result<&'static Transport, String> {
    tdi_transport::start(network, &tdi_core::Config::DEFAULT)
        .map_err(|status| format!("the transport did not start: {}", crate::names::status(status.0)))
}
