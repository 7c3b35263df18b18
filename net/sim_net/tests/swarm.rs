//! Many simulations that differ in everything: which faults are on and how bad they are, how much is sent, who
//! ends and how. `PROPTEST_CASES` says how many; a failure prints all of its choices, the seed among them.

mod common;

use std::io::{IoSlice, IoSliceMut};

use common::{Stream, World};
use net_api::{NetTime, Received, Sent};
use proptest::prelude::*;
use sim_net::FrameCount;

/// A link on which each thing goes wrong in half of all simulations.
fn link() -> impl Strategy<Value = String> {
    let sometimes = |key: &'static str, values: std::ops::Range<u32>, unit: &'static str| {
        proptest::option::of(values).prop_map(move |value| match value {
            Some(value) => format!("{key} = \"{value}{unit}\"\n"),
            None => String::new(),
        })
    };
    let faults = (
        sometimes("latency", 0..200, "ms"),
        sometimes("jitter", 1..50, "ms"),
        sometimes("loss", 1..15, "%"),
        sometimes("duplicate", 1..20, "%"),
        sometimes("reorder", 1..20, "%"),
        sometimes("bandwidth", 200..20_000, "kbit"),
        sometimes("mtu", 1280..1500, "B"),
    );
    faults.prop_map(|(a, b, c, d, e, f, g)| format!("[default_link]\n{a}{b}{c}{d}{e}{f}{g}"))
}

/// A partition that is shorter than anybody's patience.
fn partition() -> impl Strategy<Value = String> {
    proptest::option::of((0_u32..3000, 1_u32..5000)).prop_map(|times| match times {
        Some((at, long)) => {
            format!("[[fault]]\nat = \"{at}ms\"\nuntil = \"{}ms\"\npartition = [\"b\"]\n", at + long)
        }
        None => String::new(),
    })
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    NearFirst,
    FarFirst,
    Both,
    Abort,
}

fn ending() -> impl Strategy<Value = Ending> {
    prop_oneof![Just(Ending::NearFirst), Just(Ending::FarFirst), Just(Ending::Both), Just(Ending::Abort)]
}

/// Small buffers, and patience for a stack whose time-outs double with each loss up to a minute.
const HOSTS: &str = r#"
[[host]]
name = "a"
address = ["10.0.0.1"]
send_buffer = 4096
connect_timeout = "1h"
data_timeout = "1h"
[[host]]
name = "b"
address = ["10.0.0.2"]
receive_buffer = 2048
connect_timeout = "1h"
data_timeout = "1h"
"#;

/// The byte that direction `way` sends at `offset`.
fn byte(way: usize, offset: usize) -> u8 {
    ((offset * 31 + way * 7) % 253) as u8
}

/// Sends so many bytes each way at once. Whatever arrives is what was sent.
fn exchange(world: &mut World, ends: [&Stream; 2], lengths: [usize; 2]) {
    let (mut sent, mut got) = ([0; 2], [0; 2]);
    let mut bytes = [0; 3000];
    while got != lengths {
        world.until("bytes", |_| {
            let mut moved = 0;
            for (way, (from, to)) in [(ends[0], ends[1]), (ends[1], ends[0])].into_iter().enumerate() {
                let end = (sent[way] + 1500).min(lengths[way]);
                let piece: Vec<u8> = (sent[way]..end).map(|offset| byte(way, offset)).collect();
                if let Sent::Taken(count) = from.send(&[IoSlice::new(&piece)]) {
                    sent[way] += count;
                    moved += count;
                }
                match to.receive(&mut [IoSliceMut::new(&mut bytes)]) {
                    Received::Got(count) => {
                        let expected = (got[way]..got[way] + count).map(|offset| byte(way, offset));
                        assert!(bytes[..count].iter().copied().eq(expected), "other bytes than were sent");
                        got[way] += count;
                        moved += count;
                    }
                    Received::WouldBlock => {}
                    other => panic!("the connection broke: {other:?}"),
                }
            }
            (moved > 0).then_some(())
        });
    }
}

fn run(file: &str, seed: u64, lengths: [usize; 2], ending: Ending) -> (FrameCount, NetTime) {
    let mut world = World::new(file, seed);
    let (near, far) = world.pair();
    exchange(&mut world, [&near, &far], lengths);
    match ending {
        Ending::NearFirst => {
            near.shutdown_send().unwrap();
            assert_eq!(world.receive(&far, 1).0, Received::EndOfStream);
            drop((near, far));
        }
        Ending::FarFirst => {
            drop(far);
            assert_eq!(world.receive(&near, 1).0, Received::EndOfStream);
            drop(near);
        }
        Ending::Both => drop((near, far)),
        Ending::Abort => {
            near.abort();
            drop((near, far));
        }
    }
    world.settle();
    assert_eq!(world.sim.live().connections, 0, "something is left");
    (world.sim.frames(), world.now)
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_network_delivers_what_was_sent_ends_and_leaves_nothing(
        link in link(),
        partition in partition(),
        seed in any::<u64>(),
        lengths in [0_usize..20_000, 0_usize..20_000],
        ending in ending(),
    ) {
        let file = format!("{link}{HOSTS}{partition}");
        let once = run(&file, seed, lengths, ending);
        prop_assert_eq!(once, run(&file, seed, lengths, ending), "the same seed gave something else");
    }
}
