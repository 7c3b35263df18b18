//! Which network the transport stands on.

use std::sync::Arc;

use host_net::HostNetwork;
use net_api::{NetError, NoNetwork};
use tdi_transport::Transport;

use crate::plan::Network;

/// Starts the transport over the network that the plan names.
///
/// # Errors
/// A sentence that says what the host refused.
pub fn start(network: Network) -> Result<&'static Transport, String> {
    let refused = |error: NetError| format!("the host gives no network: {error}");
    let network: Arc<dyn net_api::Network> = match network {
        Network::None => Arc::new(NoNetwork::new()),
        Network::Loopback => Arc::new(HostNetwork::loopback().map_err(refused)?),
        Network::Host => Arc::new(HostNetwork::host().map_err(refused)?),
    };
    tdi_transport::start(network, tdi_core::Config::default())
        .map_err(|status| format!("the transport did not start: {status:?}"))
}
