//! Two networks that reach each other, run until something has happened.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use host_net::HostNetwork;
use net_api::{
    Accepted, Connection, EventSink, Key, LocalAddress, NetError, NetTime, Network, Progress, Readiness, Received,
    Sent, Wait,
};
use sim_net::{NetworkFile, Sim};

/// Nothing takes anything like it; a case that gets there hangs, and says so.
const HANG: Duration = Duration::from_secs(60);
/// The same in virtual time.
const VIRTUAL_HANG: NetTime = NetTime::from_nanoseconds(100_000_000_000_000);

const SIMULATED: &str = r#"
[[host]]
name = "near"
address = ["10.0.0.1"]
[[host]]
name = "far"
address = ["10.0.0.2"]
"#;

/// A connection, whichever network it is on.
pub(crate) type Stream = Arc<dyn Connection>;

/// What a case has seen, line by line.
#[derive(Debug, Default)]
pub struct Report {
    /// The lines.
    pub lines: Vec<String>,
}

impl Report {
    pub(crate) fn note(&mut self, line: impl Display) {
        self.lines.push(line.to_string());
    }
}

/// Two networks that reach each other.
pub struct World {
    pub(crate) near: Side,
    pub(crate) far: Side,
    now: Cell<NetTime>,
}

/// One of them.
pub(crate) struct Side {
    pub(crate) network: Arc<dyn Network>,
    pub(crate) ip: IpAddr,
    seen: Seen,
}

#[derive(Default)]
struct Seen {
    ready: Mutex<BTreeMap<Key, Readiness>>,
    streams: Mutex<BTreeMap<Key, Weak<dyn Connection>>>,
}

impl EventSink for Seen {
    fn handle_event(&self, key: Key, ready: Readiness) {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = streams.get(&key).and_then(Weak::upgrade);
        drop(streams);
        if let Some(stream) = stream {
            stream.handle_ready(ready);
        }
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() |= ready;
    }
}

impl Side {
    fn new(network: Arc<dyn Network>, ip: IpAddr) -> Self {
        Self { network, ip, seen: Seen::default() }
    }

    /// This side's IP address with a port.
    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, port)
    }

    pub(crate) fn open(&self, port: u16) -> Arc<dyn LocalAddress> {
        self.network.open_address(self.at(port)).unwrap_or_else(|error| panic!("open: {error}"))
    }

    /// An address that takes offers, under the key 1000.
    pub(crate) fn listening(&self, backlog: u32) -> Arc<dyn LocalAddress> {
        let address = self.open(0);
        address.listen(backlog, Key(1000)).unwrap_or_else(|error| panic!("listen: {error}"));
        address
    }

    /// Watches a stream and passes events on to it.
    pub(crate) fn watch(&self, stream: &Stream, key: Key) {
        self.seen.streams.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::downgrade(stream));
        stream.watch(key).unwrap_or_else(|error| panic!("watch: {error}"));
    }

    /// Accepts an offer, watched under `key`.
    pub(crate) fn answer(&self, offer: &Stream, key: Key) {
        self.watch(offer, key);
        offer.answer();
    }

    /// What was said of `key` since the last time this was asked.
    pub(crate) fn take_seen(&self, key: Key) -> Readiness {
        self.seen.ready.lock().unwrap_or_else(PoisonError::into_inner).remove(&key).unwrap_or_default()
    }

    fn poll(&self, now: NetTime, wait: Wait) -> usize {
        self.network.poll(now, wait, &self.seen)
    }
}

impl World {
    /// Two networks on the host's loopback interface.
    ///
    /// # Panics
    /// If the host gives none.
    pub fn host() -> Self {
        let side = || -> Side {
            let network = HostNetwork::loopback().unwrap_or_else(|error| panic!("{error}"));
            Side::new(Arc::new(network), [127, 0, 0, 1].into())
        };
        Self { near: side(), far: side(), now: Cell::default() }
    }

    /// Two hosts of a simulated network that misbehaves in no way.
    ///
    /// # Panics
    /// If there is no such network.
    pub fn simulated() -> Self {
        let file = NetworkFile::parse(SIMULATED).unwrap_or_else(|error| panic!("{error}"));
        let sim = Sim::new(&file, 1);
        let side = |name, ip: [u8; 4]| match sim.network(name) {
            Some(network) => Side::new(Arc::new(network), ip.into()),
            None => panic!("no host {name}"),
        };
        Self { near: side("near", [10, 0, 0, 1]), far: side("far", [10, 0, 0, 2]), now: Cell::default() }
    }

    /// Lets time go on until `happened` has an answer.
    #[track_caller]
    pub(crate) fn until<T>(&self, what: &str, mut happened: impl FnMut() -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            while self.near.poll(self.now.get(), Wait::No) + self.far.poll(self.now.get(), Wait::No) > 0 {}
            if let Some(answer) = happened() {
                return answer;
            }
            if self.near.network.capabilities().virtual_time {
                let next = self.near.network.next_deadline();
                self.now.set(next.unwrap_or_else(|| panic!("nothing happens any more: {what}")).max(self.now.get()));
                assert!(self.now.get() < VIRTUAL_HANG, "takes for ever: {what}");
            } else {
                assert!(begin.elapsed() < HANG, "hangs: {what}");
                self.near.poll(NetTime::ZERO, Wait::Until(NetTime::from_nanoseconds(1_000_000)));
            }
        }
    }

    /// Starts to connect from a floating address of the near side.
    pub(crate) fn start(&self, remote: SocketAddr, key: Key) -> Result<Stream, NetError> {
        let (stream, progress) = self.near.open(0).connect(remote, key)?;
        if progress == Progress::Pending {
            self.near.seen.streams.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::downgrade(&stream));
        }
        Ok(stream)
    }

    /// Waits until the stream is established or has failed.
    #[track_caller]
    pub(crate) fn outcome(&self, stream: &Stream) -> Result<(), NetError> {
        self.until("connect", || match stream.progress() {
            Ok(Progress::Pending) => None,
            Ok(Progress::Established) => Some(Ok(())),
            Err(error) => Some(Err(error)),
        })
    }

    /// The next offer, not watched yet.
    #[track_caller]
    pub(crate) fn offer(&self, address: &Arc<dyn LocalAddress>) -> Stream {
        self.until("offer", || match address.accept() {
            Accepted::Connection(stream) => Some(stream),
            Accepted::WouldBlock => None,
            Accepted::Failed(error) => panic!("accept: {error}"),
            Accepted::NotListening => panic!("does not listen"),
        })
    }

    /// Both ends of a connection, watched under the keys 1 and 2.
    #[track_caller]
    pub(crate) fn pair(&self) -> (Stream, Stream) {
        let address = self.far.listening(4);
        let near = self.start(address.local(), Key(1)).unwrap_or_else(|error| panic!("connect: {error}"));
        let far = self.offer(&address);
        self.far.answer(&far, Key(2));
        for end in [&near, &far] {
            self.outcome(end).unwrap_or_else(|error| panic!("handshake: {error}"));
        }
        self.near.watch(&near, Key(1));
        (near, far)
    }

    #[track_caller]
    pub(crate) fn send_all(&self, stream: &Stream, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = self.until("send", || match stream.send(&[IoSlice::new(bytes)]) {
                Sent::Taken(count) => Some(count),
                Sent::WouldBlock => None,
                Sent::Failed(error) => panic!("send: {error}"),
            });
            bytes = &bytes[taken..];
        }
    }

    /// What the next receive says that does not block, in words.
    #[track_caller]
    pub(crate) fn receive(&self, stream: &Stream, room: usize) -> String {
        let mut bytes = vec![0; room];
        match self.next(stream, &mut bytes) {
            Received::Got(count) => format!("{:?}", String::from_utf8_lossy(&bytes[..count])),
            Received::EndOfStream => "end".into(),
            Received::Failed(error) => error.to_string(),
            Received::WouldBlock => unreachable!("waited for something else"),
        }
    }

    /// Counts what comes until the end, and says what the end is.
    #[track_caller]
    pub(crate) fn receive_all(&self, stream: &Stream) -> (Vec<u8>, String) {
        let mut all = Vec::new();
        let mut bytes = vec![0; 65_536];
        loop {
            match self.next(stream, &mut bytes) {
                Received::Got(count) => all.extend_from_slice(&bytes[..count]),
                Received::EndOfStream => return (all, "end".into()),
                Received::Failed(error) => return (all, error.to_string()),
                Received::WouldBlock => unreachable!("waited for something else"),
            }
        }
    }

    #[track_caller]
    fn next(&self, stream: &Stream, bytes: &mut [u8]) -> Received {
        self.until("receive", || match stream.receive(&mut [IoSliceMut::new(bytes)]) {
            Received::WouldBlock => None,
            other => Some(other),
        })
    }
}

/// An outcome in words.
pub(crate) fn words<T>(outcome: &Result<T, NetError>) -> String {
    match outcome {
        Ok(_) => "done".into(),
        Err(error) => error.to_string(),
    }
}

/// A send's outcome in words.
pub(crate) fn sent(outcome: Sent) -> String {
    match outcome {
        Sent::Taken(count) => format!("took {count}"),
        Sent::WouldBlock => "would block".into(),
        Sent::Failed(error) => error.to_string(),
    }
}
