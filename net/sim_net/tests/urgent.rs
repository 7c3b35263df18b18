//! Urgent bytes: each keeps its place and its mark, whatever becomes of the packets.

mod common;

use std::io::{IoSlice, IoSliceMut};
use std::time::Duration;

use common::{Stream, World};
use net_api::{Key, NetError, Network, Readiness, Received, Sent};
use proptest::prelude::*;

/// A byte, and whether it is urgent.
type Byte = (u8, bool);

/// What is here, byte by byte as it was marked.
fn take(stream: &Stream, room: usize, got: &mut Vec<Byte>) {
    let mut bytes = vec![0; room];
    loop {
        let is_urgent = stream.is_at_urgent_mark();
        // With an urgent byte those behind it may come, too.
        let room = if is_urgent { 1 } else { room };
        match stream.receive(&mut [IoSliceMut::new(&mut bytes[..room])]) {
            Received::Got(count) => got.extend(bytes[..count].iter().map(|byte| (*byte, is_urgent))),
            Received::WouldBlock => return,
            other => panic!("the connection broke: {other:?}"),
        }
    }
}

fn bytes(text: &str) -> Vec<Byte> {
    text.bytes().map(|byte| (byte, byte.is_ascii_uppercase())).collect()
}

/// Sends `text`, of which the capital letters are urgent, one send for each of them and for what is between them.
fn send(world: &mut World, stream: &Stream, text: &str) {
    for piece in text.as_bytes().chunk_by(|one, other| !one.is_ascii_uppercase() && !other.is_ascii_uppercase()) {
        if piece[0].is_ascii_uppercase() {
            assert_eq!(stream.send_urgent(piece[0]), Sent::Taken(1));
        } else {
            world.send_all(stream, piece);
        }
    }
}

#[test]
fn several_urgent_bytes_at_once_each_arrive_as_such() {
    for text in ["ABC", "XaY", "aXbYc", "abc", "aABCd"] {
        let mut world = World::two("");
        let (near, far) = world.pair();
        send(&mut world, &near, text);
        let mut got = Vec::new();
        world.until(text, |_| {
            take(&far, 100, &mut got);
            (got.len() == text.len()).then_some(())
        });
        assert_eq!(got, bytes(text));
        assert_eq!(world.seen(1, Key(2)).contains(Readiness::URGENT), text != "abc", "{text}");
        assert!(!far.is_at_urgent_mark());
        // A side is told nothing of its own bytes.
        assert!(!near.is_at_urgent_mark() && !world.seen(0, Key(1)).contains(Readiness::URGENT));
    }
}

#[test]
fn receive_begins_with_the_urgent_byte_and_stops_before_the_next() {
    let mut world = World::two("");
    let (near, far) = world.pair();
    send(&mut world, &near, "abXcdYef");
    world.pass(Duration::from_secs(1));
    let mut room = [0; 100];
    for (expected, is_at_mark) in [(&b"ab"[..], false), (b"Xcd", true), (b"Yef", true)] {
        assert_eq!(far.is_at_urgent_mark(), is_at_mark);
        for _ in 0..2 {
            assert_eq!(far.peek(&mut [IoSliceMut::new(&mut room)]), Received::Got(expected.len()));
        }
        assert_eq!(far.receive(&mut [IoSliceMut::new(&mut room)]), Received::Got(expected.len()));
        assert_eq!(&room[..expected.len()], expected);
    }
}

#[test]
fn urgent_byte_waits_for_room_and_fails_as_others_do() {
    let hosts = "\n[[host]]\nname = \"c\"\naddress = [\"10.0.0.3\"]\nsend_buffer = 4096\n";
    let mut world = World::two(hosts);
    let address = world.open(1, "10.0.0.2:9");
    address.listen(1, Key(9)).unwrap();
    let (near, _) = world.open(2, "0.0.0.0:0").connect(address.local(), Key(1)).unwrap();
    assert_eq!(near.send_urgent(1), Sent::WouldBlock);
    let far = world.accept(&address, Key(2));
    world.until("handshake", |world| world.seen(2, Key(1)).contains(Readiness::WRITABLE).then_some(()));
    let mut taken = 0;
    while let Sent::Taken(count) = near.send(&[IoSlice::new(&[b'a'; 4096])]) {
        taken += count;
        world.pass(Duration::from_secs(1));
    }
    assert_eq!(near.send_urgent(b'X'), Sent::WouldBlock);
    let mut got = Vec::new();
    world.until("all before it", |_| {
        take(&far, 100, &mut got);
        (got.len() == taken).then_some(())
    });
    world.until("room", |_| (near.send_urgent(b'Y') == Sent::Taken(1)).then_some(()));
    world.until("the byte", |_| {
        take(&far, 100, &mut got);
        (got.len() > taken).then_some(())
    });
    assert_eq!(got[taken..], [(b'Y', true)]);
    near.abort();
    assert_eq!(near.send_urgent(1), Sent::Failed(NetError::Aborted));
    assert_eq!(world.host(0).capabilities().urgent_bytes, u32::MAX);
}

/// A link on which each thing goes wrong in half of all simulations.
fn link() -> impl Strategy<Value = String> {
    let sometimes = |key: &'static str, values: std::ops::Range<u32>, unit: &'static str| {
        proptest::option::of(values)
            .prop_map(move |value| value.map(|value| format!("{key} = \"{value}{unit}\"\n")).unwrap_or_default())
    };
    let faults = (
        sometimes("latency", 0..200, "ms"),
        sometimes("jitter", 1..50, "ms"),
        sometimes("loss", 1..15, "%"),
        sometimes("duplicate", 1..30, "%"),
        sometimes("reorder", 1..30, "%"),
        sometimes("mtu", 1280..1500, "B"),
    );
    faults.prop_map(|(a, b, c, d, e, f)| format!("[default_link]\n{a}{b}{c}{d}{e}{f}"))
}

/// Small buffers, so that windows shut, and patience for a stack whose time-outs double.
const HOSTS: &str = r#"
[[host]]
name = "a"
address = ["10.0.0.1", "fd00::1"]
send_buffer = 4096
connect_timeout = "1h"
data_timeout = "1h"
[[host]]
name = "b"
address = ["10.0.0.2", "fd00::2"]
receive_buffer = 2048
connect_timeout = "1h"
data_timeout = "1h"
"#;

/// What one side sends: so many bytes, and an urgent one, again and again.
fn stream() -> impl Strategy<Value = Vec<Byte>> {
    let lengths = prop_oneof![Just(0_usize), 0_usize..10, 0_usize..3000];
    proptest::collection::vec(lengths, 0..12).prop_map(|lengths| {
        let mut bytes = Vec::new();
        for length in lengths {
            bytes.extend((0..length).map(|index| (index as u8, false)));
            bytes.push((length as u8, true));
        }
        bytes
    })
}

/// Sends as much as goes of what is left of `bytes`.
fn push(stream: &Stream, bytes: &[Byte]) -> usize {
    let mut sent = 0;
    while let Some((byte, is_urgent)) = bytes.get(sent) {
        let outcome = if *is_urgent {
            stream.send_urgent(*byte)
        } else {
            let normal: Vec<u8> =
                bytes[sent..].iter().take_while(|(_, is_urgent)| !is_urgent).map(|(byte, _)| *byte).collect();
            stream.send(&[IoSlice::new(&normal)])
        };
        match outcome {
            Sent::Taken(count) => sent += count,
            Sent::WouldBlock => break,
            Sent::Failed(error) => panic!("{error}"),
        }
    }
    sent
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_network_delivers_urgent_bytes_in_their_places_and_marked(
        link in link(),
        seed in any::<u64>(),
        streams in [stream(), stream()],
        room in 1_usize..2000,
    ) {
        let mut world = World::new(&format!("{link}{HOSTS}"), seed);
        let (near, far) = world.pair();
        let (mut sent, mut got) = ([0; 2], [Vec::new(), Vec::new()]);
        while got[0].len() < streams[0].len() || got[1].len() < streams[1].len() {
            world.until("bytes", |_| {
                let mut moved = 0;
                for (way, (from, to)) in [(&near, &far), (&far, &near)].into_iter().enumerate() {
                    let count = push(from, &streams[way][sent[way]..]);
                    sent[way] += count;
                    let before = got[way].len();
                    take(to, room, &mut got[way]);
                    moved += count + got[way].len() - before;
                }
                (moved > 0).then_some(())
            });
        }
        prop_assert!(got == streams, "other bytes or marks than were sent");
        drop((near, far));
        world.settle();
        prop_assert_eq!(world.sim.live().connections, 0, "something is left");
    }
}
