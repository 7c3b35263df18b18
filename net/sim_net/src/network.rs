//! The network as a host's users see it: [`net_api`] over the world.

use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use net_api::{
    Accepted, Capabilities, Connection, DatagramAddress, DatagramOption, DatagramReceived, DatagramSent, EventSink,
    InterfaceEntry, Key, LocalAddress, NetError, NetTime, Network, Policy, Progress, Readiness, Received, Sent,
    Sharing, Wait,
};

use crate::connection::{KeepAlive, Owner};
use crate::datagram::LENGTH_MAX_V4;
use crate::host::News;
use crate::link::nanoseconds;
use crate::slab::Id;
use crate::world::World;

/// Events told in one poll at most. More only means one more call.
const EVENTS_PER_POLL: usize = 256;

/// The world, and those who wait for it to go on.
pub(crate) struct Shared {
    world: Mutex<World>,
    /// Told when something happens that a poll in real time may wait for.
    changed: Condvar,
}

impl Shared {
    pub(crate) fn new(world: World) -> Self {
        Self { world: Mutex::new(world), changed: Condvar::new() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, World> {
        // A panic is a bug of ours and ends the process in release builds; in tests the world is whole.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls into the world, and lets everything happen that follows from that at the same time.
    fn call<T>(&self, call: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.lock();
        let outcome = call(&mut world);
        world.settle();
        if world.waiting > 0 {
            self.changed.notify_all();
        }
        outcome
    }
}

/// One host's network.
#[derive(Clone)]
pub struct SimNetwork {
    shared: Arc<Shared>,
    host: usize,
}

impl SimNetwork {
    pub(crate) fn new(shared: Arc<Shared>, host: usize) -> Self {
        Self { shared, host }
    }
}

impl Network for SimNetwork {
    fn policy(&self) -> Policy {
        Policy::Simulated
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            urgent_bytes: u32::MAX,
            refuses_before_handshake: true,
            ipv6: true,
            virtual_time: true,
            datagram_bytes_max: LENGTH_MAX_V4 as u32,
            multicast: true,
            delivery_errors: true,
        }
    }

    fn open_address(&self, local: SocketAddr) -> Result<Arc<dyn LocalAddress>, NetError> {
        let id = self.shared.call(|world| world.open_address(self.host, plain(local), false))?;
        Ok(Arc::new(SimAddress { shared: Arc::clone(&self.shared), id }))
    }

    fn open_shared_address(&self, local: SocketAddr) -> Result<Arc<dyn LocalAddress>, NetError> {
        let id = self.shared.call(|world| world.open_address(self.host, plain(local), true))?;
        Ok(Arc::new(SimAddress { shared: Arc::clone(&self.shared), id }))
    }

    fn open_datagram_address(&self, local: SocketAddr, sharing: Sharing) -> Result<Arc<dyn DatagramAddress>, NetError> {
        let mut world = self.shared.lock();
        let id = world.open_datagrams(self.host, plain(local), sharing)?;
        let local = world.datagrams.get(id).map_or(local, |one| one.local);
        Ok(Arc::new(SimDatagrams { shared: Arc::clone(&self.shared), id, local }))
    }

    fn interfaces(&self) -> Vec<InterfaceEntry> {
        self.shared.lock().interfaces(self.host)
    }

    fn advance(&self, now: NetTime) {
        self.shared.call(|world| world.advance(now.as_nanoseconds()));
    }

    /// With [`Wait::No`] time goes on to `now` and nothing else is waited for; that is how virtual time is
    /// meant to be used, with [`Network::next_deadline`] as the next `now`. Any other wait sleeps for real,
    /// for callers whose clock is the real one.
    fn poll(&self, now: NetTime, wait: Wait, sink: &dyn EventSink) -> usize {
        let mut world = self.shared.lock();
        world.advance(now.as_nanoseconds());
        let is_idle = world.hosts[self.host].news.is_empty() && !world.wakes[self.host];
        if is_idle && let Some(longest) = self.longest(&world, now, wait) {
            world.waiting += 1;
            world = match longest {
                Some(longest) => {
                    self.shared.changed.wait_timeout(world, longest).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.shared.changed.wait(world).unwrap_or_else(PoisonError::into_inner),
            };
            world.waiting -= 1;
        }
        world.wakes[self.host] = false;
        let mut events = Vec::new();
        while events.len() < EVENTS_PER_POLL
            && let Some(news) = world.hosts[self.host].news.pop_front()
        {
            events.extend(take_news(&mut world, news));
        }
        drop(world);
        for (key, ready) in &events {
            sink.handle_event(*key, *ready);
        }
        events.len()
    }

    fn wake(&self) {
        self.shared.lock().wakes[self.host] = true;
        self.shared.changed.notify_all();
    }

    fn next_deadline(&self) -> Option<NetTime> {
        let world = self.shared.lock();
        if !world.hosts[self.host].news.is_empty() {
            return Some(NetTime::from_nanoseconds(world.now));
        }
        world.agenda.next_at().map(NetTime::from_nanoseconds)
    }
}

impl SimNetwork {
    /// How long to sleep at most; `None` not at all, `Some(None)` until something changes.
    fn longest(&self, world: &World, now: NetTime, wait: Wait) -> Option<Option<Duration>> {
        let next = world.agenda.next_at().map(|at| NetTime::from_nanoseconds(at).saturating_since(now));
        match (wait.longest(now), next) {
            (Some(Duration::ZERO), _) => None,
            (Some(longest), Some(next)) => Some(Some(longest.min(next))),
            (longest, next) => Some(longest.or(next)),
        }
    }
}

/// What is to be told; `None` if whoever it is about is gone.
fn take_news(world: &mut World, news: News) -> Option<(Key, Readiness)> {
    match news {
        News::Connection(id) => {
            let connection = world.connections.get_mut(id)?;
            connection.is_queued = false;
            let ready = std::mem::take(&mut connection.news);
            connection.key.map(|key| (key, ready))
        }
        News::Listener(id) => world.listener_news(id).map(|key| (key, Readiness::READABLE)),
        News::Datagrams(id) => {
            let one = world.datagrams.get_mut(id)?;
            one.is_queued = false;
            let ready = std::mem::take(&mut one.news);
            one.key.map(|key| (key, ready))
        }
    }
}

/// Without the parts of an IPv6 address that mean nothing here: two that differ in them are the same.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}

struct SimAddress {
    shared: Arc<Shared>,
    id: Id,
}

impl LocalAddress for SimAddress {
    fn local(&self) -> SocketAddr {
        let world = self.shared.lock();
        world.addresses.get(self.id).expect("it is there until this is dropped").local
    }

    fn pin(&self) -> Result<SocketAddr, NetError> {
        self.shared.call(|world| world.pin(self.id))
    }

    fn pin_to(&self, port: u16) -> Result<SocketAddr, NetError> {
        self.shared.call(|world| world.pin_to(self.id, port))
    }

    fn connect(&self, remote: SocketAddr, key: Key) -> Result<(Arc<dyn Connection>, Progress), NetError> {
        let remote = plain(remote);
        let id = self.shared.call(|world| {
            let address = world.addresses.get(self.id).ok_or(NetError::NotConnected)?;
            let (host, local) = (address.host, address.local);
            world.connect(host, local, remote, Owner::User, Some(key))
        })?;
        let connection = SimConnection { shared: Arc::clone(&self.shared), id, remote };
        Ok((Arc::new(connection), Progress::Pending))
    }

    fn listen(&self, backlog: u32, key: Key) -> Result<(), NetError> {
        self.shared.call(|world| world.listen(self.id, backlog, key))
    }

    fn stop_listening(&self) {
        self.shared.call(|world| world.stop_listening(self.id));
    }

    fn accept(&self) -> Accepted {
        match self.shared.call(|world| world.accept(self.id)) {
            Ok(Some((id, remote))) => {
                Accepted::Connection(Arc::new(SimConnection { shared: Arc::clone(&self.shared), id, remote }))
            }
            Ok(None) => Accepted::WouldBlock,
            Err(()) => Accepted::NotListening,
        }
    }
}

impl Drop for SimAddress {
    fn drop(&mut self) {
        self.shared.call(|world| world.close_address(self.id));
    }
}

struct SimConnection {
    shared: Arc<Shared>,
    id: Id,
    remote: SocketAddr,
}

impl SimConnection {
    /// Calls with the connection itself, unless it has failed.
    fn with<T>(&self, call: impl FnOnce(&mut crate::connection::Connection) -> T) -> Result<T, NetError> {
        self.shared.call(|world| {
            let connection = world.connections.get_mut(self.id).ok_or(NetError::NotConnected)?;
            match connection.failure {
                Some(failure) => Err(failure),
                None => Ok(call(connection)),
            }
        })
    }
}

impl Connection for SimConnection {
    fn progress(&self) -> Result<Progress, NetError> {
        self.shared.lock().progress(self.id)
    }

    fn watch(&self, key: Key) -> Result<(), NetError> {
        self.shared.call(|world| world.watch(self.id, key));
        Ok(())
    }

    fn answer(&self) {
        self.shared.call(|world| world.answer(self.id));
    }

    fn handle_ready(&self, _ready: Readiness) {
        // Nothing is remembered beside the world itself.
    }

    fn share_port(&self) -> Option<u16> {
        self.local().ok().map(|local| local.port())
    }

    fn send(&self, data: &[IoSlice<'_>]) -> Sent {
        self.shared.call(|world| world.send(self.id, data))
    }

    fn send_urgent(&self, byte: u8) -> Sent {
        self.shared.call(|world| world.send_urgent(self.id, byte))
    }

    fn receive(&self, into: &mut [IoSliceMut<'_>]) -> Received {
        self.shared.call(|world| world.receive(self.id, into))
    }

    fn peek(&self, into: &mut [IoSliceMut<'_>]) -> Received {
        self.shared.call(|world| world.peek(self.id, into))
    }

    fn is_at_urgent_mark(&self) -> bool {
        let world = self.shared.lock();
        world.connections.get(self.id).is_some_and(|one| one.urgent.is_at_mark())
    }

    fn has_unread(&self) -> bool {
        let world = self.shared.lock();
        let connection = world.connections.get(self.id);
        connection.is_some_and(|one| one.failure != Some(NetError::Aborted) && one.socket().can_recv())
    }

    fn shutdown_send(&self) -> Result<(), NetError> {
        self.shared.call(|world| world.shutdown_send(self.id))
    }

    fn abort(&self) {
        self.shared.call(|world| world.abort(self.id));
    }

    fn local(&self) -> Result<SocketAddr, NetError> {
        self.with(|connection| connection.tuple.local)
    }

    fn remote(&self) -> SocketAddr {
        self.remote
    }

    fn set_no_delay(&self, on: bool) -> Result<(), NetError> {
        self.with(|connection| connection.socket_mut().set_nagle_enabled(!on))
    }

    fn set_keep_alive(&self, on: bool) -> Result<(), NetError> {
        self.shared.call(|world| world.set_keep_alive(self.id, on))
    }

    fn set_keep_alive_times(&self, idle: Duration, interval: Duration) -> Result<(), NetError> {
        let times = KeepAlive { idle: nanoseconds(idle), interval: nanoseconds(interval).max(1) };
        self.shared.call(|world| world.set_keep_alive_times(self.id, times))
    }
}

impl Drop for SimConnection {
    fn drop(&mut self) {
        self.shared.call(|world| world.close(self.id));
    }
}

struct SimDatagrams {
    shared: Arc<Shared>,
    id: Id,
    local: SocketAddr,
}

impl DatagramAddress for SimDatagrams {
    fn local(&self) -> SocketAddr {
        self.local
    }

    fn watch(&self, key: Key) -> Result<(), NetError> {
        self.shared.call(|world| world.watch_datagrams(self.id, key));
        Ok(())
    }

    fn send_to(&self, data: &[IoSlice<'_>], remote: SocketAddr) -> DatagramSent {
        self.shared.call(|world| world.send_datagram(self.id, data, plain(remote)))
    }

    fn receive_from(&self, into: &mut [IoSliceMut<'_>]) -> DatagramReceived {
        self.shared.call(|world| world.receive_datagram(self.id, into))
    }

    fn set(&self, option: DatagramOption) -> Result<(), NetError> {
        self.shared.call(|world| world.set_datagram_option(self.id, option))
    }
}

impl Drop for SimDatagrams {
    fn drop(&mut self) {
        self.shared.call(|world| world.close_datagrams(self.id));
    }
}
