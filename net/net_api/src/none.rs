//! The network that is not there.

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::{
    Accepted, Capabilities, Connection, EventSink, Key, LocalAddress, NetError, NetTime, Network, Policy, Progress,
    Wait,
};

/// For `--net none`: addresses can be opened, since a driver may do that without ever using them, but
/// nothing connects and nothing listens.
#[derive(Debug, Default)]
pub struct NoNetwork {
    woken: Mutex<bool>,
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
        Capabilities { urgent_bytes: 0, refuses_before_handshake: true, ipv6: true, virtual_time: false }
    }

    fn open_address(&self, local: SocketAddr) -> Result<Arc<dyn LocalAddress>, NetError> {
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
