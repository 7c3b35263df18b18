//! A network that does what the test says, for everything that sockets cannot be made to do at will.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use net_api::{
    Accepted, Capabilities, Connection, DatagramAddress, EventSink, InterfaceEntry, Key, LocalAddress, NetError,
    NetTime, Network, Policy, Progress, Readiness, Received, Sent, Sharing, Wait,
};

use crate::client::with_transport;

/// How a connection attempt begins.
pub type Attempt = Result<Progress, NetError>;

#[derive(Default)]
struct Inner {
    events: VecDeque<(Key, Readiness)>,
    woken: bool,
    attempts: VecDeque<Attempt>,
    opens: VecDeque<NetError>,
    listens: VecDeque<NetError>,
    lines: Vec<Line>,
    /// The key of the address that listens, and what waits to be accepted there.
    listener: Option<Key>,
    offers: VecDeque<Line>,
}

/// The network. Addresses can always be opened, unless told otherwise.
#[derive(Default)]
pub struct Script {
    inner: Mutex<Inner>,
    wake: Condvar,
    this: Weak<Self>,
}

/// Runs a test over a transport on a network that it scripts.
pub fn scripted(test: impl FnOnce(&Script) + Send) {
    let network = Script::new();
    let shared = Arc::clone(&network);
    with_transport(network, move |_| test(&shared));
}

/// Whom endpoints are connected to.
pub fn remote() -> SocketAddr {
    "10.0.0.2:80".parse().expect("an address")
}

impl Script {
    pub fn new() -> Arc<Self> {
        Arc::new_cyclic(|this| Self { this: this.clone(), ..Self::default() })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the next connection attempt says at once; without a script it succeeds.
    pub fn attempt(&self, attempt: Attempt) {
        self.inner().attempts.push_back(attempt);
    }

    /// Nobody has taken what [`Script::attempt`] said, and nobody shall.
    pub fn forget_attempts(&self) {
        self.inner().attempts.clear();
    }

    /// The next open of an address fails.
    pub fn fail_open(&self, error: NetError) {
        self.inner().opens.push_back(error);
    }

    /// The next address that is to listen fails to.
    pub fn fail_listen(&self, error: NetError) {
        self.inner().listens.push_back(error);
    }

    /// A remote node connects to the address that listens.
    pub fn offer(&self, remote: SocketAddr) -> Line {
        self.offer_as(remote, Ok(Progress::Established))
    }

    /// A remote node connects, and the handshake is this far.
    pub fn offer_as(&self, remote: SocketAddr, progress: Attempt) -> Line {
        let line = Line::new(self.this.clone(), remote, progress, None);
        let mut inner = self.inner();
        inner.lines.push(line.clone());
        inner.offers.push_back(line.clone());
        let listener = inner.listener;
        drop(inner);
        self.event(listener, Readiness::READABLE);
        line
    }

    /// The connection attempt or offer number `index`, from 0.
    pub fn line(&self, index: usize) -> Line {
        self.inner().lines[index].clone()
    }

    pub fn lines(&self) -> usize {
        self.inner().lines.len()
    }

    fn event(&self, key: Option<Key>, ready: Readiness) {
        if let Some(key) = key {
            self.inner().events.push_back((key, ready));
            self.wake.notify_all();
        }
    }
}

/// The other end of a connection, for the test to play.
#[derive(Clone)]
pub struct Line {
    network: Weak<Script>,
    state: Arc<Mutex<State>>,
}

struct State {
    key: Option<Key>,
    remote: SocketAddr,
    progress: Attempt,
    incoming: VecDeque<u8>,
    ended: bool,
    failure: Option<NetError>,
    room: usize,
    sent: Vec<u8>,
    farewell: Option<Farewell>,
    options: Vec<String>,
    /// What happens when the transport next asks for something.
    meanwhile: Option<Box<dyn FnOnce() + Send>>,
}

/// How the transport ended the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// It has ended its direction.
    Fin,
    /// It has aborted.
    Rst,
}

impl Line {
    fn new(network: Weak<Script>, remote: SocketAddr, progress: Attempt, key: Option<Key>) -> Self {
        let state = State {
            key,
            remote,
            progress,
            incoming: VecDeque::new(),
            ended: false,
            failure: None,
            room: usize::MAX,
            sent: Vec::new(),
            farewell: None,
            options: Vec::new(),
            meanwhile: None,
        };
        Self { network, state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, ready: Readiness, change: impl FnOnce(&mut State)) {
        let key = {
            let mut state = self.state();
            change(&mut state);
            state.key
        };
        if let Some(network) = self.network.upgrade() {
            network.event(key, ready);
        }
    }

    /// The pending attempt, or the handshake of an offer, ends so.
    pub fn finish(&self, attempt: Attempt) {
        self.change(Readiness::WRITABLE, |state| state.progress = attempt);
    }

    pub fn deliver(&self, bytes: &[u8]) {
        self.change(Readiness::READABLE, |state| state.incoming.extend(bytes));
    }

    /// The remote node releases.
    pub fn end(&self) {
        self.change(Readiness::READABLE | Readiness::REMOTE_ENDED, |state| state.ended = true);
    }

    /// The connection breaks.
    pub fn fail(&self, error: NetError) {
        self.change(Readiness::READABLE | Readiness::WRITABLE | Readiness::BROKEN, |state| {
            state.failure = Some(error);
        });
    }

    /// So many bytes more can be sent.
    pub fn open_window(&self, bytes: usize) {
        self.change(Readiness::WRITABLE, |state| state.room = state.room.saturating_add(bytes));
    }

    /// Nothing more can be sent until [`Line::open_window`].
    pub fn shut_window(&self) {
        self.state().room = 0;
    }

    /// Does this while the transport is next sending or receiving, in the middle of its work.
    pub fn meanwhile(&self, work: impl FnOnce() + Send + 'static) {
        self.state().meanwhile = Some(Box::new(work));
    }

    fn run_meanwhile(&self) {
        let work = self.state().meanwhile.take();
        if let Some(work) = work {
            work();
        }
    }

    /// Whom the transport wanted to reach, or who has connected.
    pub fn remote(&self) -> SocketAddr {
        self.state().remote
    }

    pub fn sent(&self) -> Vec<u8> {
        self.state().sent.clone()
    }

    /// What was set on the connection since the last time.
    pub fn options(&self) -> Vec<String> {
        std::mem::take(&mut self.state().options)
    }

    pub fn farewell(&self) -> Option<Farewell> {
        self.state().farewell
    }
}

impl Network for Script {
    fn policy(&self) -> Policy {
        Policy::Simulated
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            urgent_bytes: 0,
            refuses_before_handshake: false,
            ipv6: true,
            virtual_time: false,
            datagram_bytes_max: 0,
            multicast: false,
            delivery_errors: false,
        }
    }

    fn open_address(&self, local: SocketAddr) -> Result<Arc<dyn LocalAddress>, NetError> {
        match self.inner().opens.pop_front() {
            Some(error) => Err(error),
            None => Ok(Arc::new(Address { local: Mutex::new(local), network: self.this.clone() })),
        }
    }

    fn open_datagram_address(&self, _: SocketAddr, _: Sharing) -> Result<Arc<dyn DatagramAddress>, NetError> {
        Err(NetError::Unsupported)
    }

    fn interfaces(&self) -> Vec<InterfaceEntry> {
        let entry = |number, name: &str, is_loopback, addresses| InterfaceEntry {
            number,
            name: name.into(),
            is_loopback,
            is_up: true,
            mtu: 1500,
            hardware_address: None,
            addresses,
        };
        let wire = [("10.0.0.1", 8), ("fd00::1", 64)].map(|(ip, prefix)| (ip.parse().expect("an address"), prefix));
        vec![entry(1, "lo", true, vec![([127, 0, 0, 1].into(), 8)]), entry(0x1A, "wire", false, wire.to_vec())]
    }

    fn poll(&self, now: NetTime, wait: Wait, sink: &dyn EventSink) -> usize {
        let idle = |inner: &mut Inner| inner.events.is_empty() && !inner.woken;
        let inner = self.inner();
        let mut inner = match wait.longest(now) {
            Some(longest) => {
                self.wake.wait_timeout_while(inner, longest, idle).unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.wake.wait_while(inner, idle).unwrap_or_else(PoisonError::into_inner),
        };
        inner.woken = false;
        let events = std::mem::take(&mut inner.events);
        drop(inner);
        for (key, ready) in &events {
            sink.handle_event(*key, *ready);
        }
        events.len()
    }

    fn wake(&self) {
        self.inner().woken = true;
        self.wake.notify_all();
    }

    fn next_deadline(&self) -> Option<NetTime> {
        None
    }
}

struct Address {
    local: Mutex<SocketAddr>,
    network: Weak<Script>,
}

impl LocalAddress for Address {
    fn local(&self) -> SocketAddr {
        *self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pin(&self) -> Result<SocketAddr, NetError> {
        let mut local = self.local.lock().unwrap_or_else(PoisonError::into_inner);
        if local.port() == 0 {
            local.set_port(50_000);
        }
        Ok(*local)
    }

    fn connect(&self, remote: SocketAddr, key: Key) -> Result<(Arc<dyn Connection>, Progress), NetError> {
        let network = self.network.upgrade().expect("a network");
        let mut inner = network.inner();
        let progress = inner.attempts.pop_front().unwrap_or(Ok(Progress::Established));
        let begun = progress?;
        let key = (begun == Progress::Pending).then_some(key);
        let line = Line::new(self.network.clone(), remote, progress, key);
        inner.lines.push(line.clone());
        Ok((Arc::new(Scripted(line)), begun))
    }

    fn listen(&self, _backlog: u32, key: Key) -> Result<(), NetError> {
        let network = self.network.upgrade().expect("a network");
        if let Some(error) = network.inner().listens.pop_front() {
            return Err(error);
        }
        network.inner().listener = Some(key);
        self.pin().map(drop)
    }

    fn stop_listening(&self) {
        self.network.upgrade().expect("a network").inner().listener = None;
    }

    fn accept(&self) -> Accepted {
        match self.network.upgrade().expect("a network").inner().offers.pop_front() {
            Some(line) => Accepted::Connection(Arc::new(Scripted(line))),
            None => Accepted::WouldBlock,
        }
    }
}

/// The transport's end. Dropping it releases, as the trait says.
struct Scripted(Line);

impl Scripted {
    fn set(&self, option: String) -> Result<(), NetError> {
        let mut state = self.0.state();
        match state.failure {
            Some(error) => Err(error),
            None => {
                state.options.push(option);
                Ok(())
            }
        }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.0.state().farewell.get_or_insert(Farewell::Fin);
    }
}

impl Connection for Scripted {
    fn progress(&self) -> Attempt {
        self.0.state().progress
    }

    fn watch(&self, key: Key) -> Result<(), NetError> {
        let first = self.0.state().key.replace(key).is_none();
        if first {
            self.0.change(Readiness::READABLE | Readiness::WRITABLE, |_| {});
        }
        Ok(())
    }

    fn handle_ready(&self, _ready: Readiness) {}

    fn send(&self, data: &[IoSlice<'_>]) -> Sent {
        self.0.run_meanwhile();
        let mut state = self.0.state();
        if let Some(error) = state.failure {
            return Sent::Failed(error);
        }
        let all: Vec<u8> = data.iter().flat_map(|slice| slice.iter().copied()).collect();
        let count = all.len().min(state.room);
        if count == 0 && !all.is_empty() {
            return Sent::WouldBlock;
        }
        state.room = state.room.saturating_sub(count);
        state.sent.extend(&all[..count]);
        Sent::Taken(count)
    }

    fn send_urgent(&self, byte: u8) -> Sent {
        self.send(&[IoSlice::new(&[byte])])
    }

    fn receive(&self, into: &mut [IoSliceMut<'_>]) -> Received {
        self.0.run_meanwhile();
        let mut state = self.0.state();
        let mut count = 0;
        for slice in into.iter_mut() {
            let part = slice.len().min(state.incoming.len());
            for (to, from) in slice.iter_mut().zip(state.incoming.drain(..part)) {
                *to = from;
            }
            count += part;
        }
        match (count, state.failure, state.ended) {
            (1.., _, _) => Received::Got(count),
            (_, Some(error), _) => Received::Failed(error),
            (_, _, true) => Received::EndOfStream,
            _ => Received::WouldBlock,
        }
    }

    fn peek(&self, _into: &mut [IoSliceMut<'_>]) -> Received {
        unimplemented_peek()
    }

    fn is_at_urgent_mark(&self) -> bool {
        false
    }

    fn has_unread(&self) -> bool {
        !self.0.state().incoming.is_empty()
    }

    fn shutdown_send(&self) -> Result<(), NetError> {
        self.0.state().farewell.get_or_insert(Farewell::Fin);
        Ok(())
    }

    fn abort(&self) {
        let mut state = self.0.state();
        state.farewell = Some(Farewell::Rst);
        state.failure = Some(NetError::Aborted);
    }

    fn local(&self) -> Result<SocketAddr, NetError> {
        Ok("10.0.0.1:50001".parse().expect("an address"))
    }

    fn remote(&self) -> SocketAddr {
        self.0.state().remote
    }

    fn set_no_delay(&self, on: bool) -> Result<(), NetError> {
        self.set(format!("no delay {on}"))
    }

    fn set_keep_alive(&self, on: bool) -> Result<(), NetError> {
        self.set(format!("keep alive {on}"))
    }

    fn set_keep_alive_times(&self, idle: Duration, interval: Duration) -> Result<(), NetError> {
        self.set(format!("keep alive after {idle:?} every {interval:?}"))
    }
}

/// The transport keeps what it shows without consuming by itself.
fn unimplemented_peek() -> Received {
    panic!("the transport does not peek")
}
