//! Transfers over links that lose a packet in ten: they take their time, and arrive.

mod common;

use std::io::{IoSlice, IoSliceMut};
use std::time::Duration;

use common::{Stream, World};
use net_api::{Key, Received, Sent};

const LENGTH: usize = 300_000;

fn lossy(mtu: usize, seed: u64) -> World {
    let file = format!(
        r#"
[default_link]
latency = "20ms"
loss = "10%"
duplicate = "15%"
reorder = "10%"
mtu = {mtu}
[[host]]
name = "a"
address = ["10.0.0.1"]
[[host]]
name = "b"
address = ["10.0.0.2"]
[[peer]]
host = "b"
kind = "source"
port = 9
bytes = {LENGTH}
"#
    );
    World::new(&file, seed)
}

/// Sends [`LENGTH`] bytes from `from` to `to`, which reads all that there is and then pauses.
fn transfer(world: &mut World, from: &Stream, to: &Stream, pause: Duration, case: &str) {
    let data: Vec<u8> = (0..LENGTH).map(|index| (index * 7 / 5) as u8).collect();
    let (mut sent, mut arrived, mut bytes) = (0, Vec::new(), vec![0; 65_536]);
    while arrived.len() < data.len() {
        let has_arrived = world.until("progress", |world| {
            let before = (sent, arrived.len());
            match from.send(&[IoSlice::new(&data[sent..])]) {
                Sent::Taken(count) => sent += count,
                Sent::WouldBlock => {}
                Sent::Failed(error) => panic!("{case}: {error} at {:?} after {sent} bytes", world.now),
            }
            match to.receive(&mut [IoSliceMut::new(&mut bytes)]) {
                Received::Got(count) => arrived.extend_from_slice(&bytes[..count]),
                Received::WouldBlock => {}
                other => panic!("{case}: {other:?} at {:?} after {} bytes", world.now, arrived.len()),
            }
            ((sent, arrived.len()) != before).then_some(arrived.len() > before.1)
        });
        if has_arrived {
            world.pass(pause);
        }
    }
    assert!(arrived == data, "{case}");
}

/// Seeds of links of two MTUs. Those after the first thirty were the end of transfers once.
fn cases() -> impl Iterator<Item = (usize, u64)> {
    let ended_once = [(1500, 32), (1500, 33), (1500, 123), (1500, 164), (1281, 172), (1281, 506), (1281, 1339)];
    [1281, 1500].into_iter().flat_map(|mtu| (1..=30).map(move |seed| (mtu, seed))).chain(ended_once)
}

#[test]
fn tenth_of_all_packets_lost_ends_no_transfer() {
    for (mtu, seed) in cases() {
        // The last of these shuts the window again and again.
        for pause in [0, 300, 2500] {
            let mut world = lossy(mtu, seed);
            let (near, far) = world.pair();
            let case = format!("MTU {mtu}, seed {seed}, pauses of {pause} ms");
            transfer(&mut world, &near, &far, Duration::from_millis(pause), &case);
        }
    }
}

#[test]
fn tenth_of_all_packets_lost_ends_no_transfer_to_who_has_half_closed() {
    for (mtu, seed) in cases() {
        let mut world = lossy(mtu, seed);
        let near = world.connect(0, "10.0.0.2:9", Key(1)).unwrap();
        near.shutdown_send().unwrap();
        world.pass(Duration::from_millis(2500));
        let (outcome, bytes) = world.receive_all(&near);
        assert_eq!((outcome, bytes.len()), (Received::EndOfStream, LENGTH), "MTU {mtu}, seed {seed}");
    }
}

#[test]
fn peer_that_ended_second_sends_on_as_soon_as_the_window_opens() {
    let source = format!("[[peer]]\nhost = \"b\"\nkind = \"source\"\nport = 9\nbytes = {}\n", 65_536 + 30_000);
    let mut world = World::two(&source);
    let near = world.connect(0, "10.0.0.2:9", Key(1)).unwrap();
    near.shutdown_send().unwrap();
    // It has said all it has to say, a third of which does not fit.
    world.pass(Duration::from_secs(100));
    let begin = world.now;
    let (outcome, bytes) = world.receive_all(&near);
    assert_eq!((outcome, bytes.len()), (Received::EndOfStream, 65_536 + 30_000));
    // Its next question about the window would come half a minute later.
    assert!(world.now.saturating_since(begin) < Duration::from_secs(1), "{:?}", world.now);
}
