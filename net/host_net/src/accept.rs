//! Taking offers from a listener.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use net_api::{Accepted, Key, NetError};
use nix::errno::Errno;

use crate::connection::HostConnection;
use crate::error::net_error;
use crate::network::Shared;
use crate::socket;

/// A listening socket and the key its offers are reported under.
pub(crate) struct Listener {
    pub(crate) socket: OwnedFd,
    pub(crate) key: Key,
}

/// Takes the oldest offer.
pub(crate) fn accept(network: &Arc<Shared>, listener: &Arc<Listener>) -> Accepted {
    match socket::accept(listener.socket.as_fd()) {
        Ok((socket, remote)) => Accepted::Connection(Arc::new(HostConnection::accepted(network, socket, remote))),
        Err(Errno::EAGAIN) => Accepted::WouldBlock,
        Err(Errno::EMFILE | Errno::ENFILE) => refuse_for_want_of_descriptors(network, listener),
        // `accept` hands on errors of the offer it took out of the queue; the next offer is another one.
        Err(errno) => Accepted::Failed(net_error(errno)),
    }
}

/// Without this the offer stays in the queue, its remote side waits, and the listener is ready for ever.
fn refuse_for_want_of_descriptors(network: &Shared, listener: &Arc<Listener>) -> Accepted {
    let refused = network.with_spare_descriptor(|| {
        let (offer, _) = socket::accept(listener.socket.as_fd())?;
        socket::reset(offer.as_fd());
        Ok(())
    });
    match refused {
        Some(Ok(())) => Accepted::Failed(NetError::OutOfDescriptors),
        Some(Err(Errno::EAGAIN)) => Accepted::WouldBlock,
        // Another thread took the descriptor that was just freed. The caller must not be told to call
        // again at once, or both would go on like this; there is an event once there are descriptors.
        Some(Err(Errno::EMFILE | Errno::ENFILE)) | None => {
            network.listener_is_stuck(listener);
            Accepted::WouldBlock
        }
        Some(Err(errno)) => Accepted::Failed(net_error(errno)),
    }
}
