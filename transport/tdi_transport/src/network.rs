//! Listening to the network: events, deadlines, and the dispatcher's poller.
//!
//! Events come on whatever thread waits (`nt_dispatcher::poller`): it finds the endpoint by the key, tells the
//! connection and the state machine, and works off what comes of it right there.

use std::sync::atomic::{AtomicBool, Ordering};

use net_api::{EventSink, Key, NetTime, Readiness, Wait};
use nt_dispatcher::clock;
use nt_dispatcher::poller::Poller;
use tdi_core::{AddressId, ConnectionNumber, NetworkError, NetworkEvent};
use trace::Event;

use crate::endpoint::{EndpointState, Named, Phase, named};
use crate::status::network_error;
use crate::table::{Locked, Name};
use crate::transport::{self, Transport, now};

/// The dispatcher's poller, which is set once and serves whichever transport runs.
pub(crate) struct Forward;

impl Poller for Forward {
    fn poll(&self, max_wait_100ns: Option<u64>) {
        if let Some(transport) = transport::current() {
            transport.poll(max_wait_100ns);
        }
    }

    fn wake(&self) {
        if let Some(transport) = transport::current() {
            transport.network.wake();
        }
    }

    fn has_outstanding(&self) -> bool {
        transport::current().is_some_and(Transport::is_watching)
    }

    fn next_deadline_100ns(&self) -> Option<u64> {
        let transport = transport::current()?;
        if transport.has_ready.load(Ordering::Relaxed) {
            return Some(0);
        }
        // Rounded up: polled a moment before it is due, the network would have nothing, again and again.
        let network = transport.network.next_deadline().map(|time| time.as_nanoseconds().div_ceil(100));
        [transport.timers.earliest(), network].into_iter().flatten().min()
    }
}

impl Transport {
    /// A network in virtual time knows it from the last poll; a driver may have waited since.
    pub(crate) fn tell_time(&self) {
        if self.is_virtual {
            self.network.advance(net_time(clock::now_100ns()));
        }
    }

    fn poll(&self, max_wait_100ns: Option<u64>) {
        // Only a network in virtual time looks at the clock it is shown; the others wait as long as they are told.
        let start = if self.is_virtual { clock::now_100ns() } else { 0 };
        let wait = match max_wait_100ns {
            Some(0) => Wait::No,
            Some(ticks) => Wait::Until(net_time(start.saturating_add(ticks))),
            None => Wait::Forever,
        };
        self.network.poll(net_time(start), wait, self);
        self.run_timers();
        self.run_ready();
    }

    /// An address has datagrams.
    fn handle_address_event(&self, id: AddressId) {
        let Some(mut address) = self.addresses.lock(id) else { return };
        if let Some(datagrams) = &mut address.datagrams {
            datagrams.handle_event();
            drop(address);
            self.pump_address(id);
        }
    }

    /// Tells endpoints whose deadline is reached.
    fn run_timers(&self) {
        if self.timers.earliest().is_none() {
            return;
        }
        let now = now();
        while let Some((deadline, name)) = self.timers.take_due(now.0) {
            let Some(mut endpoint) = self.endpoints.lock(name) else { continue };
            if endpoint.timer == deadline {
                endpoint.timer = u64::MAX;
                endpoint.core.handle_timeout(now);
                self.pump(endpoint, None);
            }
        }
        self.timers
            .tidy(|(deadline, name)| self.endpoints.lock(name).is_some_and(|endpoint| endpoint.timer == deadline));
    }

    fn handle_endpoint_event(&self, mut endpoint: Locked<'_, EndpointState>, serial: u32, ready: Readiness) {
        let Some(link) = endpoint.link.as_mut().filter(|link| link.serial == serial) else { return };
        link.connection.handle_ready(ready);
        let number = link.number;
        let phase = link.phase;
        endpoint.tick();
        match phase {
            Phase::Attempt | Phase::Answered => self.tell_progress(&mut endpoint),
            // A remote node that is gone takes its offer back; one that has only released does not.
            Phase::Offered if ready.contains(Readiness::BROKEN) => {
                let now = endpoint.core.now();
                endpoint.core.handle_network(now, number, NetworkEvent::Broken(NetworkError::Reset));
            }
            Phase::Offered => {}
            Phase::Established => self.tell_ready(&mut endpoint, number, ready),
        }
        self.pump(endpoint, None);
    }

    /// News of an established connection.
    fn tell_ready(&self, endpoint: &mut Locked<'_, EndpointState>, number: ConnectionNumber, ready: Readiness) {
        let now = endpoint.core.now();
        if endpoint.core.has_refused() && endpoint.link.as_ref().is_some_and(|link| link.connection.has_unread()) {
            tell_refusal();
        }
        self.take_urgent(endpoint);
        let mut tell = |event| endpoint.core.handle_network(now, number, event);
        // A broken connection shows why when it is read or written, in its place behind what arrived before.
        if ready.intersects(Readiness::READABLE | Readiness::BROKEN | Readiness::REMOTE_ENDED) {
            tell(NetworkEvent::Readable);
        }
        if ready.intersects(Readiness::WRITABLE | Readiness::BROKEN) {
            tell(NetworkEvent::Writable);
        }
        if ready.intersects(Readiness::REMOTE_ENDED | Readiness::BROKEN) {
            tell(NetworkEvent::PeerReleased);
        }
    }

    /// News of a connection attempt, or of the answer to one.
    pub(crate) fn tell_progress(&self, endpoint: &mut Locked<'_, EndpointState>) {
        let Some(link) = &endpoint.link else { return };
        match link.connection.progress() {
            Ok(net_api::Progress::Pending) => {}
            Ok(net_api::Progress::Established) => self.established(endpoint),
            Err(error) => {
                let number = link.number;
                self.drop_link(endpoint);
                let now = endpoint.core.now();
                endpoint.core.handle_network(now, number, NetworkEvent::Broken(network_error(error)));
            }
        }
    }
}

impl EventSink for Transport {
    fn handle_event(&self, key: Key, ready: Readiness) {
        match named(key) {
            Some(Named::Endpoint { index, serial }) => {
                if let Some(endpoint) = self.endpoints.lock_slot(index) {
                    self.handle_endpoint_event(endpoint, serial, ready);
                }
            }
            Some(Named::Address { index, generation }) => {
                self.handle_address_event(Name { index, generation }.into());
            }
            Some(Named::Listener { index, generation }) => self.take_offers(Name { index, generation }),
            None => {}
        }
    }
}

/// Says once that a refusal holds: by the documentation, whose word the driver's author may have taken, a handler that was shown
/// all there was is called again when more arrives (C-485).
fn tell_refusal() {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if !TOLD.swap(true, Ordering::Relaxed) {
        let why = "a receive handler has refused data, and more has come: nothing is indicated on that connection until its \
                   client posts a TDI_RECEIVE, which gets all of it in order (C-485)";
        gate::record_with_text(Event::HostNote {}, why);
    }
}

pub(crate) fn net_time(ticks_100ns: u64) -> NetTime {
    NetTime::from_nanoseconds(ticks_100ns.saturating_mul(100))
}
