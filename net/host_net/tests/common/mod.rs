//! What the tests over real sockets share: a network that is polled until something has happened, and
//! peers made of the standard library, which tell an orderly end from an abort.

use std::collections::BTreeMap;
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use host_net::HostNetwork;
use net_api::{
    Accepted, Connection, EventSink, Key, LocalAddress, NetTime, Network, Progress, Readiness, Received, Sent, Wait,
};

/// Nothing here takes anything like it; a test that gets there hangs, and says so.
const HANG: Duration = Duration::from_secs(60);

/// A network and what it has said.
pub struct World {
    pub network: HostNetwork,
    seen: Seen,
}

#[derive(Default)]
struct Seen {
    by_key: Mutex<BTreeMap<Key, Vec<Readiness>>>,
    watched: Mutex<BTreeMap<Key, Weak<dyn Connection>>>,
}

impl EventSink for Seen {
    fn handle_event(&self, key: Key, ready: Readiness) {
        let connection = self.watched.lock().unwrap().get(&key).and_then(Weak::upgrade);
        if let Some(connection) = connection {
            connection.handle_ready(ready);
        }
        self.by_key.lock().unwrap().entry(key).or_default().push(ready);
    }
}

#[allow(dead_code, reason = "each test file uses its share")]
impl World {
    pub fn loopback() -> Self {
        Self { network: HostNetwork::loopback().unwrap(), seen: Seen::default() }
    }

    pub fn open(&self, local: &str) -> Arc<dyn LocalAddress> {
        self.network.open_address(local.parse().unwrap()).unwrap()
    }

    /// Polls once without blocking.
    pub fn poll(&self) -> usize {
        self.network.poll(NetTime::ZERO, Wait::No, &self.seen)
    }

    /// Polls until `happened` has an answer.
    #[track_caller]
    pub fn until<T>(&self, what: &str, mut happened: impl FnMut() -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(answer) = happened() {
                return answer;
            }
            assert!(begin.elapsed() < HANG, "hangs: {what}");
            let longest = NetTime::from_nanoseconds(10_000_000);
            self.network.poll(NetTime::ZERO, Wait::Until(longest), &self.seen);
        }
    }

    /// Watches `connection` under `key` and passes events on to it.
    pub fn watch(&self, connection: &Arc<dyn Connection>, key: Key) {
        self.seen.watched.lock().unwrap().insert(key, Arc::downgrade(connection));
        connection.watch(key).unwrap();
    }

    /// All that was said about `key` so far.
    pub fn seen(&self, key: Key) -> Readiness {
        let by_key = self.seen.by_key.lock().unwrap();
        by_key.get(&key).into_iter().flatten().fold(Readiness::NONE, |all, one| all | *one)
    }

    /// Forgets what was said about `key`.
    pub fn forget(&self, key: Key) {
        self.seen.by_key.lock().unwrap().remove(&key);
    }

    /// An established connection to `remote` from a floating address, watched under `key`.
    #[track_caller]
    pub fn connect(&self, remote: SocketAddr, key: Key) -> Arc<dyn Connection> {
        let address = self.open(if remote.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" });
        self.connect_from(&address, remote, key).unwrap()
    }

    #[track_caller]
    pub fn connect_from(
        &self,
        address: &Arc<dyn LocalAddress>,
        remote: SocketAddr,
        key: Key,
    ) -> Result<Arc<dyn Connection>, net_api::NetError> {
        let (connection, progress) = address.connect(remote, key)?;
        if progress == Progress::Pending {
            self.until("connect", || match connection.progress() {
                Ok(Progress::Pending) => None,
                Ok(Progress::Established) => Some(Ok(())),
                Err(error) => Some(Err(error)),
            })?;
        }
        self.watch(&connection, key);
        Ok(connection)
    }

    /// A connection and the standard library's end of it.
    #[track_caller]
    pub fn pair(&self, key: Key) -> (Arc<dyn Connection>, TcpStream) {
        let (listener, remote) = listener();
        let connection = self.connect(remote, key);
        (connection, listener.accept().unwrap().0)
    }

    /// Takes the next offer.
    #[track_caller]
    pub fn accept(&self, address: &Arc<dyn LocalAddress>) -> Arc<dyn Connection> {
        self.until("accept", || match address.accept() {
            Accepted::Connection(connection) => Some(connection),
            Accepted::WouldBlock => None,
            Accepted::Failed(error) => panic!("accept failed: {error}"),
            Accepted::NotListening => panic!("does not listen"),
        })
    }

    /// Receives whatever comes next.
    #[track_caller]
    pub fn receive(&self, connection: &Arc<dyn Connection>, room: usize) -> (Received, Vec<u8>) {
        let mut bytes = vec![0; room];
        let outcome = self.until("receive", || match connection.receive(&mut [IoSliceMut::new(&mut bytes)]) {
            Received::WouldBlock => None,
            other => Some(other),
        });
        bytes.truncate(if let Received::Got(length) = outcome { length } else { 0 });
        (outcome, bytes)
    }

    /// Sends all of `bytes`.
    #[track_caller]
    pub fn send_all(&self, connection: &Arc<dyn Connection>, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = self.until("send", || match connection.send(&[IoSlice::new(bytes)]) {
                Sent::Taken(count) => Some(count),
                Sent::WouldBlock => None,
                Sent::Failed(error) => panic!("send failed: {error}"),
            });
            bytes = &bytes[taken..];
        }
    }
}

/// A listener of the standard library and its address.
#[allow(dead_code, reason = "each test file uses its share")]
pub fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// How a stream ended for its peer.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// FIN, after so many bytes.
    Orderly(usize),
    /// RST, after so many bytes.
    Reset(usize),
}

/// Reads to the end.
#[allow(dead_code, reason = "each test file uses its share")]
pub fn end_of(mut peer: &TcpStream) -> End {
    peer.set_read_timeout(Some(HANG)).unwrap();
    let mut bytes = vec![0; 65_536];
    let mut total = 0;
    loop {
        match peer.read(&mut bytes) {
            Ok(0) => return End::Orderly(total),
            Ok(count) => total += count,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return End::Reset(total),
            Err(error) => panic!("{error}"),
        }
    }
}
