//! Networks that misbehave, the same way every time.

mod common;

use std::io::{IoSlice, IoSliceMut};
use std::time::Duration;

use common::{Packet, Stream, World};
use net_api::{Accepted, Key, NetError, NetTime, Progress, Readiness, Received, Sent};
use sim_net::Fate;

/// Everything that can go wrong with a packet, at once.
const BAD: &str = r#"
[[link]]
between = ["a", "b"]
latency = "20ms"
jitter = "15ms"
loss = "5%"
duplicate = "5%"
reorder = "10%"
reorder_delay = "40ms"
bandwidth = "2mbit"
queue = 4000
mtu = 600
"#;

const BAD_HOSTS: &str = r#"
[[host]]
name = "a"
address = ["10.0.0.1"]
[[host]]
name = "b"
address = ["10.0.0.2"]
"#;

/// Sends `data` from one end to the other and back while both read, and ends in an orderly way.
fn echo(world: &mut World, near: &Stream, far: &Stream, data: &[u8]) -> Vec<u8> {
    let (mut sent, mut back, mut returned) = (0, 0, Vec::new());
    let mut there: Vec<u8> = Vec::new();
    let mut bytes = vec![0; 8192];
    while returned.len() < data.len() {
        world.until("progress", |_| {
            let mut moved = 0;
            if let Sent::Taken(count) = near.send(&[IoSlice::new(&data[sent..])]) {
                sent += count;
                moved += count;
            }
            if let Received::Got(count) = far.receive(&mut [IoSliceMut::new(&mut bytes)]) {
                there.extend_from_slice(&bytes[..count]);
                moved += count;
            }
            if let Sent::Taken(count) = far.send(&[IoSlice::new(&there[back..])]) {
                back += count;
                moved += count;
            }
            if let Received::Got(count) = near.receive(&mut [IoSliceMut::new(&mut bytes)]) {
                returned.extend_from_slice(&bytes[..count]);
                moved += count;
            }
            (moved > 0).then_some(())
        });
    }
    returned
}

fn run(seed: u64) -> Vec<Packet> {
    let mut world = World::new(&format!("{BAD_HOSTS}{BAD}"), seed);
    let packets = world.record();
    let (near, far) = world.pair();
    let data: Vec<u8> = (0..100_000_u32).map(|index| (index * 7 / 5) as u8).collect();
    assert_eq!(echo(&mut world, &near, &far, &data), data, "seed {seed}");
    drop(near);
    assert_eq!(world.receive(&far, 1).0, Received::EndOfStream, "seed {seed}");
    drop(far);
    world.settle();
    assert_eq!(world.sim.live().connections, 0, "seed {seed}");
    let packets = packets.lock().unwrap().split_off(0);
    let frames = world.sim.frames();
    assert_eq!(frames.sent, packets.len() as u64);
    packets
}

#[test]
fn bytes_survive_everything_that_can_go_wrong_with_packets() {
    let mut fates = Vec::new();
    for seed in 1..=8 {
        let packets = run(seed);
        fates.extend(packets.iter().map(|packet| packet.fate));
        // No packet on this link was longer than it takes.
        assert!(packets.iter().all(|packet| packet.bytes.len() <= 600), "seed {seed}");
        assert!(packets.iter().any(|packet| packet.bytes.len() == 600), "seed {seed}");
    }
    for fate in [Fate::Lost, Fate::ArrivesTwice, Fate::ArrivesLate, Fate::Overflows] {
        assert!(fates.contains(&fate), "no packet {fate:?}");
    }
}

#[test]
fn same_seed_gives_the_same_packets_byte_for_byte_and_others_do_not() {
    let first = run(3);
    assert_eq!(first, run(3));
    assert_ne!(first, run(4));
}

#[test]
fn polling_more_often_changes_nothing() {
    let packets = |step: Duration| {
        let mut world = World::two("[[peer]]\nhost = \"b\"\nkind = \"source\"\nport = 9\nbytes = 300000\n");
        let packets = world.record();
        let stream = world.connect(0, "10.0.0.2:9", Key(1)).unwrap();
        for _ in 0..(Duration::from_secs(3).as_nanos() / step.as_nanos()) {
            world.pass(step);
        }
        drop(stream);
        packets.lock().unwrap().split_off(0)
    };
    assert_eq!(packets(Duration::from_millis(1)), packets(Duration::from_secs(3)));
}

#[test]
fn partition_delays_and_heals() {
    let mut world = World::two("[[fault]]\nat = \"1s\"\nuntil = \"9s\"\npartition = [\"b\"]\n");
    let (near, far) = world.pair();
    world.pass(Duration::from_secs(2));
    world.send_all(&near, b"through");
    let begin = world.now;
    assert_eq!(world.receive(&far, 10).1, b"through");
    assert!(world.now > NetTime::from_nanoseconds(9_000_000_000));
    assert!(begin < NetTime::from_nanoseconds(3_000_000_000));
}

#[test]
fn partition_that_outlasts_patience_breaks_the_connection() {
    let mut world = World::two("[[fault]]\nat = \"1s\"\npartition = [\"b\"]\n");
    let (near, far) = world.pair();
    world.pass(Duration::from_secs(2));
    assert_eq!(near.send(&[IoSlice::new(b"into nothing")]), Sent::Taken(12));
    world.until("time-out", |_| (near.progress() == Err(NetError::TimedOut)).then_some(()));
    assert_eq!(world.receive(&near, 1).0, Received::Failed(NetError::TimedOut));
    assert_eq!(world.now, NetTime::from_nanoseconds(62_030_000_000));
    // Whoever waits for nothing hears of nothing.
    assert_eq!(far.progress(), Ok(Progress::Established));
}

#[test]
fn unanswered_attempt_ends_with_the_hosts_patience() {
    let host = "[[host]]\nname = \"c\"\naddress = [\"10.0.0.3\"]\nconnect_timeout = \"3s\"\n";
    let mut world = World::two(&format!("{host}[[link]]\nbetween = [\"c\", \"b\"]\ndown = true\n"));
    let outcome = world.connect(2, "10.0.0.2:80", Key(1)).err();
    assert_eq!((outcome, world.now), (Some(NetError::TimedOut), NetTime::from_nanoseconds(3_000_000_000)));
}

#[test]
fn hosts_on_one_side_of_a_partition_reach_each_other() {
    let more = "[[host]]\nname = \"c\"\naddress = [\"10.0.0.3\"]\n[[fault]]\nat = \"0s\"\npartition = [\"b\", \"c\"]\n\
                [[peer]]\nhost = \"b\"\nkind = \"echo\"\nport = 7\n";
    let mut world = World::two(more);
    world.connect(2, "10.0.0.2:7", Key(1)).unwrap();
    assert_eq!(world.connect(0, "10.0.0.2:7", Key(2)).err(), Some(NetError::TimedOut));
}

#[test]
fn crashed_host_answers_nobody_and_has_forgotten_everything_when_it_is_back() {
    let crash =
        "[[fault]]\nat = \"1s\"\nuntil = \"5s\"\ncrash = \"b\"\n[[peer]]\nhost = \"b\"\nkind = \"echo\"\nport = 7\n";
    let mut world = World::two(crash);
    let stream = world.connect(0, "10.0.0.2:7", Key(1)).unwrap();
    world.send_all(&stream, b"before");
    assert_eq!(world.receive(&stream, 10).1, b"before");
    world.pass(Duration::from_secs(2));
    world.send_all(&stream, b"into nothing");
    world.pass(Duration::from_millis(500));
    assert_eq!(stream.progress(), Ok(Progress::Established));
    // Back, it does not know the connection, and says so.
    world.until("reset", |_| (stream.progress() == Err(NetError::Reset)).then_some(()));
    assert!(world.now > NetTime::from_nanoseconds(5_000_000_000));
    world.connect(0, "10.0.0.2:7", Key(2)).unwrap();
}

#[test]
fn users_of_a_crashed_host_lose_their_connections() {
    let mut world = World::two("[[fault]]\nat = \"1s\"\ncrash = \"a\"\n");
    let (near, _far) = world.pair();
    world.pass(Duration::from_secs(1));
    assert_eq!(near.progress(), Err(NetError::Aborted));
    assert_eq!(world.connect(0, "10.0.0.2:80", Key(5)).err(), Some(NetError::NetworkUnreachable));
}

#[test]
fn address_of_a_crashed_host_listens_again_when_it_is_back_and_its_offers_are_lost() {
    let mut world = World::two("[[fault]]\nat = \"1s\"\nuntil = \"2s\"\ncrash = \"b\"\n");
    let listening = world.open(1, "10.0.0.2:80");
    listening.listen(1, Key(1)).unwrap();
    let floating = world.open(0, "0.0.0.0:0");
    let (accepted, _) = floating.connect(listening.local(), Key(2)).unwrap();
    let far = world.accept(&listening, Key(3));
    world.pass(Duration::from_millis(500));
    // The second one is not accepted before the crash, and fills the backlog.
    let (offered, _) = floating.connect(listening.local(), Key(4)).unwrap();
    world.pass(Duration::from_millis(1000));
    assert_eq!(far.progress(), Err(NetError::Aborted));
    assert!(world.seen(1, Key(3)).contains(Readiness::BROKEN));
    assert!(matches!(listening.accept(), Accepted::WouldBlock), "an offer has survived");
    // The others hear nothing.
    assert_eq!(accepted.progress(), Ok(Progress::Established));
    assert_eq!(offered.progress(), Ok(Progress::Pending));

    world.pass(Duration::from_millis(1000));
    world.forget(1, Key(1));
    let (again, _) = floating.connect(listening.local(), Key(5)).unwrap();
    let far = world.accept(&listening, Key(6));
    assert!(world.seen(1, Key(1)).contains(Readiness::READABLE), "nobody was told of the offer");
    world.until("handshake", |_| (again.progress().unwrap() == Progress::Established).then_some(()));
    world.send_all(&again, b"again");
    assert_eq!(world.receive(&far, 10).1, b"again");
}

#[test]
fn link_that_shrinks_swallows_long_packets() {
    let mut world = World::two("[[fault]]\nat = \"1s\"\nlink = [\"a\", \"b\"]\nmtu = 1280\n");
    let (near, far) = world.pair();
    world.pass(Duration::from_secs(1));
    let packets = world.record();
    world.send_all(&near, &[1; 100]);
    assert_eq!(world.receive(&far, 1000).0, Received::Got(100));
    world.send_all(&near, &[1; 5000]);
    world.until("time-out", |_| (near.progress() == Err(NetError::TimedOut)).then_some(()));
    assert!(packets.lock().unwrap().iter().any(|packet| packet.fate == Fate::TooLong));
}

#[test]
fn idle_connection_without_keep_alive_lives_for_ever_and_with_it_notices() {
    let crash = "[[fault]]\nat = \"1s\"\ncrash = \"b\"\n";
    let mut world = World::two(crash);
    let (near, _far) = world.pair();
    world.pass(Duration::from_secs(50_000));
    assert_eq!(near.progress(), Ok(Progress::Established));
    near.set_keep_alive(true).unwrap();
    let begin = world.now;
    world.until("time-out", |_| (near.progress() == Err(NetError::TimedOut)).then_some(()));
    assert_eq!(world.now.saturating_since(begin), Duration::from_secs(7210));
}

#[test]
fn keep_alive_keeps_the_times_it_is_given() {
    let crash = "[[fault]]\nat = \"1s\"\ncrash = \"b\"\n";
    let mut world = World::two(crash);
    let (near, _far) = world.pair();
    world.pass(Duration::from_secs(10));
    near.set_keep_alive_times(Duration::from_secs(60), Duration::from_secs(5)).unwrap();
    near.set_keep_alive(true).unwrap();
    let begin = world.now;
    world.until("time-out", |_| (near.progress() == Err(NetError::TimedOut)).then_some(()));
    assert_eq!(world.now.saturating_since(begin), Duration::from_secs(110));
}

#[test]
fn keep_alive_of_a_live_connection_hurts_nobody() {
    let mut world = World::two("");
    let (near, far) = world.pair();
    near.set_keep_alive(true).unwrap();
    world.pass(Duration::from_secs(30_000));
    world.send_all(&near, b"still here");
    assert_eq!(world.receive(&far, 20).1, b"still here");
}

#[test]
fn window_that_stays_closed_is_no_failure() {
    let mut world = World::two("");
    let (near, far) = world.pair();
    let mut sent = 0;
    for _ in 0..5 {
        while let Sent::Taken(count) = near.send(&[IoSlice::new(&[3; 4096])]) {
            sent += count;
        }
        world.pass(Duration::from_secs(500));
    }
    assert_eq!(near.progress(), Ok(Progress::Established));
    near.shutdown_send().unwrap();
    let (outcome, bytes) = world.receive_all(&far);
    assert_eq!((outcome, bytes.len()), (Received::EndOfStream, sent));
}

#[test]
fn unit_of_bandwidth_is_what_a_transfer_takes() {
    let slow = "[[link]]\nbetween = [\"a\", \"b\"]\nbandwidth = \"1mbit\"\n\
                [[peer]]\nhost = \"b\"\nkind = \"source\"\nport = 9\nbytes = 1000000\n";
    let mut world = World::two(slow);
    let stream = world.connect(0, "10.0.0.2:9", Key(1)).unwrap();
    let (outcome, bytes) = world.receive_all(&stream);
    assert_eq!((outcome, bytes.len()), (Received::EndOfStream, 1_000_000));
    // Eight million bits and their headers at a million a second.
    let seconds = world.now.as_nanoseconds() / 1_000_000_000;
    assert!((8..=9).contains(&seconds), "{seconds} s");
}
