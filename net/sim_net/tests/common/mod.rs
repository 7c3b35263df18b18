//! What the tests of simulations share: a simulation that is run until something has happened.

use std::collections::BTreeMap;
use std::io::{IoSlice, IoSliceMut};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use net_api::{
    Accepted, Connection, EventSink, Key, LocalAddress, NetError, NetTime, Network, Progress, Readiness, Received,
    Sent, Wait,
};
use sim_net::{Fate, Frame, FrameSink, NetworkFile, Sim, SimNetwork};

/// A simulation, the networks of its hosts, and what they have said.
pub struct World {
    pub sim: Sim,
    hosts: Vec<(SimNetwork, Seen)>,
    pub now: NetTime,
}

#[derive(Default)]
struct Seen {
    by_key: Mutex<BTreeMap<Key, Vec<Readiness>>>,
}

impl EventSink for Seen {
    fn handle_event(&self, key: Key, ready: Readiness) {
        self.by_key.lock().unwrap().entry(key).or_default().push(ready);
    }
}

/// The hosts that most tests have, with an ideal link of 10 ms between them.
pub const TWO: &str = r#"
[default_link]
latency = "10ms"
[[host]]
name = "a"
address = ["10.0.0.1", "fd00::1"]
[[host]]
name = "b"
address = ["10.0.0.2", "fd00::2"]
"#;

pub type Stream = Arc<dyn Connection>;

#[allow(dead_code, reason = "each test file uses its share")]
impl World {
    pub fn new(text: &str, seed: u64) -> Self {
        let file = NetworkFile::parse(text).unwrap_or_else(|error| panic!("{error}"));
        let sim = Sim::new(&file, seed);
        let hosts = file.hosts().map(|name| (sim.network(name).unwrap(), Seen::default())).collect();
        Self { sim, hosts, now: NetTime::ZERO }
    }

    /// The two hosts of [`TWO`], and what `more` says.
    pub fn two(more: &str) -> Self {
        Self::new(&format!("{TWO}{more}"), 7)
    }

    pub fn host(&self, number: usize) -> &SimNetwork {
        &self.hosts[number].0
    }

    pub fn open(&self, host: usize, local: &str) -> Arc<dyn LocalAddress> {
        self.host(host).open_address(local.parse().unwrap()).unwrap()
    }

    fn poll(&self) -> usize {
        self.hosts.iter().map(|(network, seen)| network.poll(self.now, Wait::No, seen)).sum()
    }

    /// Lets virtual time go on from event to event until `happened` has an answer.
    #[track_caller]
    pub fn until<T>(&mut self, what: &str, mut happened: impl FnMut(&Self) -> Option<T>) -> T {
        loop {
            while self.poll() > 0 {}
            if let Some(answer) = happened(self) {
                return answer;
            }
            let next = self.hosts[0].0.next_deadline();
            self.now = next.unwrap_or_else(|| panic!("nothing will happen any more: {what}")).max(self.now);
            assert!(self.now < NetTime::from_nanoseconds(100_000_000_000_000), "takes for ever: {what}");
        }
    }

    /// Lets this much time pass.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now.saturating_add(time);
        while let Some(next) = self.hosts[0].0.next_deadline()
            && next <= end
        {
            self.now = next.max(self.now);
            while self.poll() > 0 {}
        }
        self.now = end;
        self.poll();
    }

    /// Lets everything happen that happens by itself.
    pub fn settle(&mut self) {
        while let Some(next) = self.hosts[0].0.next_deadline() {
            self.now = next.max(self.now);
            while self.poll() > 0 {}
        }
    }

    pub fn seen(&self, host: usize, key: Key) -> Readiness {
        let by_key = self.hosts[host].1.by_key.lock().unwrap();
        by_key.get(&key).into_iter().flatten().fold(Readiness::NONE, |all, one| all | *one)
    }

    pub fn forget(&self, host: usize, key: Key) {
        self.hosts[host].1.by_key.lock().unwrap().remove(&key);
    }

    /// A connection from a floating address of `host`, as soon as it is established or has failed.
    #[track_caller]
    pub fn connect(&mut self, host: usize, remote: &str, key: Key) -> Result<Stream, NetError> {
        let address = self.open(host, if remote.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" });
        let (stream, _) = address.connect(remote.parse().unwrap(), key)?;
        self.until("connect", |_| match stream.progress() {
            Ok(Progress::Pending) => None,
            Ok(Progress::Established) => Some(Ok(())),
            Err(error) => Some(Err(error)),
        })?;
        Ok(stream)
    }

    /// The next offer, watched and answered.
    #[track_caller]
    pub fn accept(&mut self, address: &Arc<dyn LocalAddress>, key: Key) -> Stream {
        let stream = self.until("accept", |_| match address.accept() {
            Accepted::Connection(stream) => Some(stream),
            Accepted::WouldBlock => None,
            Accepted::Failed(error) => panic!("{error}"),
            Accepted::NotListening => panic!("does not listen"),
        });
        stream.watch(key).unwrap();
        stream.answer();
        stream
    }

    /// A connection from the first host to the second, with both ends.
    #[track_caller]
    pub fn pair(&mut self) -> (Stream, Stream) {
        let listening = self.open(1, "10.0.0.2:0");
        listening.listen(4, Key(1000)).unwrap();
        let address = self.open(0, "0.0.0.0:0");
        let (near, _) = address.connect(listening.local(), Key(1)).unwrap();
        let far = self.accept(&listening, Key(2));
        for end in [&near, &far] {
            self.until("handshake", |_| (end.progress().unwrap() == Progress::Established).then_some(()));
        }
        (near, far)
    }

    #[track_caller]
    pub fn send_all(&mut self, stream: &Stream, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = self.until("send", |_| match stream.send(&[IoSlice::new(bytes)]) {
                Sent::Taken(count) => Some(count),
                Sent::WouldBlock => None,
                Sent::Failed(error) => panic!("send failed: {error}"),
            });
            bytes = &bytes[taken..];
        }
    }

    /// Receives whatever comes next.
    #[track_caller]
    pub fn receive(&mut self, stream: &Stream, room: usize) -> (Received, Vec<u8>) {
        let mut bytes = vec![0; room];
        let outcome = self.until("receive", |_| match stream.receive(&mut [IoSliceMut::new(&mut bytes)]) {
            Received::WouldBlock => None,
            other => Some(other),
        });
        bytes.truncate(if let Received::Got(length) = outcome { length } else { 0 });
        (outcome, bytes)
    }

    /// Receives to the end.
    #[track_caller]
    pub fn receive_all(&mut self, stream: &Stream) -> (Received, Vec<u8>) {
        let mut all = Vec::new();
        loop {
            let (outcome, bytes) = self.receive(stream, 65_536);
            all.extend(bytes);
            if !matches!(outcome, Received::Got(_)) {
                return (outcome, all);
            }
        }
    }

    /// Remembers every packet from now on.
    pub fn record(&self) -> Arc<Mutex<Vec<Packet>>> {
        let packets = Arc::new(Mutex::new(Vec::new()));
        self.sim.record(Box::new(Recorder(Arc::clone(&packets))));
        packets
    }
}

/// A packet on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub at: NetTime,
    pub wire: usize,
    pub bytes: Vec<u8>,
    pub fate: Fate,
}

#[allow(dead_code, reason = "each test file uses its share")]
impl Packet {
    /// The flags of a TCP segment over IPv4.
    pub fn flags(&self) -> u8 {
        self.bytes[20 + 13] & 0x3f
    }
}

struct Recorder(Arc<Mutex<Vec<Packet>>>);

impl FrameSink for Recorder {
    fn record(&mut self, frame: &Frame<'_>) {
        let Frame { at, wire, bytes, fate } = *frame;
        self.0.lock().unwrap().push(Packet { at, wire, bytes: bytes.to_vec(), fate });
    }
}
