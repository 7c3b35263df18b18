//! The network that is not there.

use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::{
    Accepted, Capabilities, Connection, DatagramAddress, DatagramOption, DatagramReceived, DatagramSent, EventSink,
    Key, LocalAddress, NetError, NetTime, Network, Policy, Progress, Sharing, Wait,
};

/// For `--net none`: addresses can be opened, since a driver may do that without ever using them, but
/// nothing connects, nothing listens and no datagram leaves.
#[derive(Debug, Default)]
pub struct NoNetwork {
    woken: Mutex<bool>,
    /// Datagram addresses given a port so far.
    ports_given: AtomicU16,
    wake: Condvar,
}

impl NoNetwork {
    /// A network that refuses everything.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Network for NoNetwork {
    fn policy(&self) -> Policy {
        Policy::None
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            urgent_bytes: 0,
            refuses_before_handshake: true,
            ipv6: true,
            virtual_time: false,
            datagram_bytes_max: 0,
            multicast: false,
            delivery_errors: false,
        }
    }

    fn open_address(&self, local: SocketAddr) -> Result<Arc<dyn LocalAddress>, NetError> {
        Ok(Arc::new(NoAddress { local }))
    }

    fn open_datagram_address(
        &self,
        mut local: SocketAddr,
        _sharing: Sharing,
    ) -> Result<Arc<dyn DatagramAddress>, NetError> {
        if local.port() == 0 {
            // Nobody can be in the way, so wherever the numbers come round again is as good as any.
            local.set_port(49_152 + self.ports_given.fetch_add(1, Ordering::Relaxed) % 16_384);
        }
        Ok(Arc::new(NoAddress { local }))
    }

    fn poll(&self, now: NetTime, wait: Wait, _sink: &dyn EventSink) -> usize {
        let woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut woken = match wait.longest(now) {
            Some(longest) => {
                let outcome = self.wake.wait_timeout_while(woken, longest, |woken| !*woken);
                outcome.unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.wake.wait_while(woken, |woken| !*woken).unwrap_or_else(PoisonError::into_inner),
        };
        *woken = false;
        0
    }

    fn wake(&self) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.wake.notify_one();
    }

    fn next_deadline(&self) -> Option<NetTime> {
        None
    }
}

/// An address on no network.
struct NoAddress {
    local: SocketAddr,
}

impl LocalAddress for NoAddress {
    fn local(&self) -> SocketAddr {
        self.local
    }

    fn pin(&self) -> Result<SocketAddr, NetError> {
        Ok(self.local)
    }

    fn connect(&self, _remote: SocketAddr, _key: Key) -> Result<(Arc<dyn Connection>, Progress), NetError> {
        Err(NetError::Denied(Policy::None))
    }

    fn listen(&self, _backlog: u32, _key: Key) -> Result<(), NetError> {
        Err(NetError::Denied(Policy::None))
    }

    fn stop_listening(&self) {}

    fn accept(&self) -> Accepted {
        Accepted::NotListening
    }
}

impl DatagramAddress for NoAddress {
    fn local(&self) -> SocketAddr {
        self.local
    }

    fn watch(&self, _key: Key) -> Result<(), NetError> {
        Ok(())
    }

    fn send_to(&self, _data: &[IoSlice<'_>], _remote: SocketAddr) -> DatagramSent {
        DatagramSent::Failed(NetError::Denied(Policy::None))
    }

    fn receive_from(&self, _into: &mut [IoSliceMut<'_>]) -> DatagramReceived {
        DatagramReceived::WouldBlock
    }

    fn set(&self, option: DatagramOption) -> Result<(), NetError> {
        match option {
            DatagramOption::Join(_) | DatagramOption::Leave(_) => Err(NetError::Denied(Policy::None)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Silence;
    impl EventSink for Silence {
        fn handle_event(&self, key: Key, ready: crate::Readiness) {
            panic!("an event from nowhere: {key:?} {ready:?}");
        }
    }

    #[test]
    fn address_opens_but_neither_connects_nor_listens() {
        let address = NoNetwork::new().open_address("0.0.0.0:0".parse().unwrap()).unwrap();
        let refused = address.connect("127.0.0.1:80".parse().unwrap(), Key(1)).err();
        assert_eq!(refused, Some(NetError::Denied(Policy::None)));
        assert_eq!(address.listen(1, Key(1)), Err(NetError::Denied(Policy::None)));
        assert!(matches!(address.accept(), Accepted::NotListening));
    }

    #[test]
    fn datagram_address_has_a_port_and_sends_nothing() {
        let network = NoNetwork::new();
        let address = network.open_datagram_address("[::]:0".parse().unwrap(), Sharing::Exclusive).unwrap();
        assert_ne!(address.local().port(), 0);
        let denied = DatagramSent::Failed(NetError::Denied(Policy::None));
        assert_eq!(address.send_to(&[IoSlice::new(b"x")], "[::1]:53".parse().unwrap()), denied);
        assert_eq!(address.receive_from(&mut []), DatagramReceived::WouldBlock);
    }

    #[test]
    fn wake_ends_the_poll_that_has_no_deadline() {
        let network = NoNetwork::new();
        network.wake();
        assert_eq!(network.poll(NetTime::ZERO, Wait::Forever, &Silence), 0);
        assert_eq!(network.poll(NetTime::ZERO, Wait::No, &Silence), 0);
    }

    #[test]
    fn wake_from_another_thread_ends_the_running_poll() {
        let network = NoNetwork::new();
        std::thread::scope(|scope| {
            let poller = scope.spawn(|| network.poll(NetTime::ZERO, Wait::Forever, &Silence));
            network.wake();
            assert_eq!(poller.join().unwrap(), 0);
        });
    }
}
