//! Many connections, and many events: what shows only in numbers.

mod common;

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::World;
use net_api::{Connection, EventSink, Key, NetTime, Network, Progress, Readiness, Received, Sent, Wait};

/// More than the kernel has ephemeral ports.
const CONNECTS: usize = 30_000;

#[test]
fn floating_address_connects_more_often_than_there_are_ports() {
    let world = World::loopback();
    let address = world.open("0.0.0.0:0");
    let listeners: Vec<_> = (0..16).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let remotes: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
    std::thread::scope(|scope| {
        for listener in listeners {
            scope.spawn(move || {
                for _ in 0..CONNECTS.div_ceil(16) {
                    drop(listener.accept().unwrap());
                }
            });
        }
        for number in 0..CONNECTS {
            let (connection, progress) = match address.connect(remotes[number % 16], Key(number as u64)) {
                Ok(started) => started,
                Err(error) => panic!("connect {number}: {error}"),
            };
            if progress == Progress::Pending {
                world.until("connect", || (connection.progress().unwrap() == Progress::Established).then_some(()));
            }
            drop(connection);
        }
    });
}

/// Echoes whatever its connection has, driven by events alone.
struct Echo {
    connection: Arc<dyn Connection>,
    pending: std::sync::Mutex<Vec<u8>>,
    is_over: AtomicBool,
}

impl Echo {
    fn work(&self) {
        let mut pending = self.pending.lock().unwrap();
        let mut bytes = [0; 1500];
        // The peer's own end is one more event.
        while !self.is_over.load(Ordering::Acquire) {
            while !pending.is_empty() {
                match self.connection.send(&[IoSlice::new(&pending)]) {
                    Sent::Taken(count) => drop(pending.drain(..count)),
                    Sent::WouldBlock => return,
                    Sent::Failed(error) => panic!("{error}"),
                }
            }
            match self.connection.receive(&mut [IoSliceMut::new(&mut bytes)]) {
                Received::Got(count) => pending.extend_from_slice(&bytes[..count]),
                Received::WouldBlock => return,
                Received::EndOfStream => {
                    self.connection.shutdown_send().unwrap();
                    self.is_over.store(true, Ordering::Release);
                }
                Received::Failed(error) => panic!("{error}"),
            }
        }
    }
}

struct Echoes(Vec<Echo>);

impl EventSink for Echoes {
    fn handle_event(&self, key: Key, ready: Readiness) {
        let echo = &self.0[usize::try_from(key.0).unwrap()];
        echo.connection.handle_ready(ready);
        echo.work();
    }
}

/// Peers that write in random pieces, and stop only when everything came back, against a side that does
/// something only after an event: a lost event hangs one of them.
#[test]
fn edge_triggered_events_are_never_lost() {
    const PEERS: u64 = 8;
    const BYTES: usize = 200_000;
    let world = World::loopback();
    let address = world.open("127.0.0.1:0");
    address.listen(PEERS as u32, Key(PEERS)).unwrap();
    let remote = address.local();
    let peers: Vec<_> = (0..PEERS)
        .map(|seed| {
            let stream = std::net::TcpStream::connect(remote).unwrap();
            std::thread::spawn(move || ping(stream, seed, BYTES))
        })
        .collect();
    let new_echo = |_| Echo {
        connection: world.accept(&address),
        pending: std::sync::Mutex::default(),
        is_over: AtomicBool::new(false),
    };
    let echoes = Echoes((0..PEERS).map(new_echo).collect());
    // Events that came during the accepts were for the listener.
    address.stop_listening();
    for (number, echo) in echoes.0.iter().enumerate() {
        echo.connection.watch(Key(number as u64)).unwrap();
    }
    while !echoes.0.iter().all(|echo| echo.is_over.load(Ordering::Acquire)) {
        world.network.poll(NetTime::ZERO, Wait::Forever, &echoes);
    }
    for peer in peers {
        peer.join().unwrap();
    }
}

fn ping(mut stream: std::net::TcpStream, seed: u64, total: usize) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    let mut left = total;
    while left > 0 {
        let size = (1 + next() % 3000).min(left);
        let piece: Vec<u8> = (0..size).map(|index| (index ^ left) as u8).collect();
        let (front, back) = piece.split_at(next() % size);
        stream.write_all(front).unwrap();
        stream.write_all(back).unwrap();
        let mut echoed = vec![0; size];
        stream.read_exact(&mut echoed).unwrap();
        assert_eq!(echoed, piece);
        left -= size;
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}
