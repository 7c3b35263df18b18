//! Connections across a simulated network that behaves.

mod common;

use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;
use std::time::Duration;

use common::World;
use net_api::{
    Accepted, Key, LocalAddress, NetError, NetTime, Network, Policy, Progress, Readiness, Received, Sent, Wait,
};
use sim_net::Live;

const OFFERS: Key = Key(1000);
const RST: u8 = 4;
const FIN: u8 = 1;

#[test]
fn handshake_takes_one_round_trip_of_virtual_time() {
    let mut world = World::two("");
    let (near, far) = world.pair();
    assert_eq!((near.progress(), far.progress()), (Ok(Progress::Established), Ok(Progress::Established)));
    // The offer waited for nobody; the acknowledgement takes half a round trip more to arrive.
    assert_eq!(world.now, NetTime::from_nanoseconds(30_000_000));
    assert_eq!((near.remote(), far.remote()), (far.local().unwrap(), near.local().unwrap()));
}

#[test]
fn bytes_arrive_in_order_both_ways_and_ends_are_orderly() {
    let mut world = World::two("");
    let (near, far) = world.pair();
    let data: Vec<u8> = (0..500_000_u32).map(|index| (index / 3) as u8).collect();
    let (mut sent, mut received) = (0, Vec::new());
    while received.len() < data.len() {
        world.until("progress", |_| {
            let mut moved = false;
            if let Sent::Taken(count) = near.send(&[IoSlice::new(&data[sent..(sent + 7777).min(data.len())])]) {
                sent += count;
                moved |= count > 0;
            }
            let mut bytes = [0; 10_000];
            if let Received::Got(count) = far.receive(&mut [IoSliceMut::new(&mut bytes)]) {
                received.extend_from_slice(&bytes[..count]);
                moved = true;
            }
            moved.then_some(())
        });
    }
    assert_eq!(received, data);
    near.shutdown_send().unwrap();
    assert_eq!(near.send(&[IoSlice::new(b"late")]), Sent::Failed(NetError::NotConnected));
    assert_eq!(world.receive(&far, 10).0, Received::EndOfStream);
    world.send_all(&far, b"answer");
    assert_eq!(world.receive(&near, 10), (Received::Got(6), b"answer".to_vec()));
    drop(far);
    assert_eq!(world.receive(&near, 10).0, Received::EndOfStream);
    drop(near);
    world.settle();
    assert_eq!(world.sim.live().connections, 0);
}

#[test]
fn dropped_connection_delivers_what_was_sent_then_ends_orderly() {
    let mut world = World::two("");
    let (near, far) = world.pair();
    assert_eq!(near.send(&[IoSlice::new(&[9; 50_000])]), Sent::Taken(50_000));
    drop(near);
    let (outcome, bytes) = world.receive_all(&far);
    assert_eq!((outcome, bytes.len()), (Received::EndOfStream, 50_000));
}

#[test]
fn dropped_connection_with_unread_bytes_resets() {
    let mut world = World::two("");
    let (near, far) = world.pair();
    world.send_all(&far, b"unread");
    world.until("bytes", |_| near.has_unread().then_some(()));
    drop(near);
    assert_eq!(world.receive(&far, 10).0, Received::Failed(NetError::Reset));
    assert_eq!(far.send(&[IoSlice::new(b"x")]), Sent::Failed(NetError::Reset));
}

#[test]
fn bytes_that_arrive_after_the_drop_are_answered_by_a_reset() {
    let mut world = World::two("");
    let (near, far) = world.pair();
    drop(near);
    assert_eq!(world.receive(&far, 10).0, Received::EndOfStream);
    world.send_all(&far, b"too late");
    world.until("reset", |_| (far.progress() == Err(NetError::Reset)).then_some(()));
}

#[test]
fn aborted_connection_resets_at_once_and_stays_aborted() {
    let mut world = World::two("");
    let (near, far) = world.pair();
    world.send_all(&far, b"unread");
    world.until("bytes", |_| near.has_unread().then_some(()));
    let packets = world.record();
    near.abort();
    assert_eq!(packets.lock().unwrap()[0].flags() & RST, RST);
    for _ in 0..2 {
        let mut byte = [0];
        assert_eq!(near.send(&[IoSlice::new(b"x")]), Sent::Failed(NetError::Aborted));
        assert_eq!(near.receive(&mut [IoSliceMut::new(&mut byte)]), Received::Failed(NetError::Aborted));
        assert_eq!(near.peek(&mut [IoSliceMut::new(&mut byte)]), Received::Failed(NetError::Aborted));
        assert_eq!(near.send_urgent(1), Sent::Failed(NetError::Aborted));
        assert_eq!(near.progress(), Err(NetError::Aborted));
        assert_eq!(near.shutdown_send(), Err(NetError::Aborted));
        assert_eq!(near.local(), Err(NetError::Aborted));
        assert!(!near.has_unread());
    }
    assert_eq!(world.receive(&far, 10).0, Received::Failed(NetError::Reset));
}

#[test]
fn peeked_bytes_stay_and_scatter() {
    let mut world = World::two("");
    let (near, far) = world.pair();
    world.send_all(&far, b"look");
    world.until("bytes", |_| near.has_unread().then_some(()));
    let (mut one, mut two) = ([0; 1], [0; 8]);
    for _ in 0..2 {
        let seen = near.peek(&mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)]);
        assert_eq!((seen, &one, &two[..3]), (Received::Got(4), b"l", &b"ook"[..]));
    }
    let got = near.receive(&mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)]);
    assert_eq!((got, &one, &two[..3]), (Received::Got(4), b"l", &b"ook"[..]));
    assert_eq!(near.receive(&mut [IoSliceMut::new(&mut two)]), Received::WouldBlock);
    assert_eq!(near.receive(&mut []), Received::Got(0));
}

#[test]
fn every_event_is_told_once_it_is_true() {
    let mut world = World::two("");
    let (near, far) = world.pair();
    assert!(world.seen(0, Key(1)).contains(Readiness::WRITABLE));
    world.forget(0, Key(1));
    world.send_all(&far, b"x");
    world.until("readable", |world| world.seen(0, Key(1)).contains(Readiness::READABLE).then_some(()));
    far.shutdown_send().unwrap();
    world.until("end", |world| world.seen(0, Key(1)).contains(Readiness::REMOTE_ENDED).then_some(()));
    assert!(!world.seen(0, Key(1)).contains(Readiness::BROKEN));
    // Once the other end's buffer is full, so is ours.
    for _ in 0..3 {
        while let Sent::Taken(_) = near.send(&[IoSlice::new(&[0; 1000])]) {}
        world.forget(0, Key(1));
        world.pass(Duration::from_secs(1));
    }
    // The other end takes nothing, so its window and our buffer stay full.
    assert!(world.seen(0, Key(1)).is_none());
    let mut bytes = vec![0; 100_000];
    assert!(matches!(far.receive(&mut [IoSliceMut::new(&mut bytes)]), Received::Got(_)));
    world.until("room", |world| world.seen(0, Key(1)).contains(Readiness::WRITABLE).then_some(()));
    far.abort();
    world.until("broken", |world| world.seen(0, Key(1)).contains(Readiness::BROKEN).then_some(()));
}

#[test]
fn connection_is_refused_where_nobody_listens() {
    let mut world = World::two("");
    assert_eq!(world.connect(0, "10.0.0.2:9", Key(1)).err(), Some(NetError::Refused));
    assert_eq!(world.connect(0, "[fd00::2]:9", Key(1)).err(), Some(NetError::Refused));
    assert_eq!(world.connect(0, "127.0.0.1:9", Key(1)).err(), Some(NetError::Refused));
    assert_eq!(world.connect(0, "10.0.0.9:9", Key(1)).err(), Some(NetError::NetworkUnreachable));
    assert_eq!(world.connect(0, "0.0.0.0:9", Key(1)).err(), Some(NetError::AddressNotAvailable));
    assert_eq!(world.connect(0, "10.0.0.2:0", Key(1)).err(), Some(NetError::AddressNotAvailable));
    assert_eq!(world.sim.live(), Live::default());
}

#[test]
fn offer_that_is_refused_looks_refused_to_the_other_side() {
    let mut world = World::two("");
    let listening = world.open(1, "10.0.0.2:80");
    listening.listen(4, OFFERS).unwrap();
    let address = world.open(0, "0.0.0.0:0");
    let (stream, progress) = address.connect(listening.local(), Key(1)).unwrap();
    assert_eq!(progress, Progress::Pending);
    world.until("offer", |world| world.seen(1, OFFERS).contains(Readiness::READABLE).then_some(()));
    let Accepted::Connection(offer) = listening.accept() else { panic!() };
    offer.watch(Key(2)).unwrap();
    world.pass(Duration::from_secs(10));
    // Nobody has answered yet, and nobody has given up.
    assert_eq!((stream.progress(), offer.progress()), (Ok(Progress::Pending), Ok(Progress::Pending)));
    offer.abort();
    world.until("refusal", |_| (stream.progress() == Err(NetError::Refused)).then_some(()));
}

#[test]
fn offer_is_established_when_it_is_answered_however_late() {
    let mut world = World::two("");
    let listening = world.open(1, "10.0.0.2:80");
    listening.listen(4, OFFERS).unwrap();
    let address = world.open(0, "0.0.0.0:0");
    let (stream, _) = address.connect(listening.local(), Key(1)).unwrap();
    world.pass(Duration::from_secs(10));
    let Accepted::Connection(offer) = listening.accept() else { panic!() };
    offer.watch(Key(2)).unwrap();
    world.pass(Duration::from_secs(10));
    assert!(world.seen(1, Key(2)).is_none(), "an offer that waits has no news");
    offer.answer();
    offer.answer();
    world.until("handshake", |world| world.seen(1, Key(2)).contains(Readiness::WRITABLE).then_some(()));
    assert_eq!((stream.progress(), offer.progress()), (Ok(Progress::Established), Ok(Progress::Established)));
    world.send_all(&stream, b"late");
    assert_eq!(world.receive(&offer, 10).1, b"late");
}

#[test]
fn offer_whose_maker_has_lost_patience_fails_when_it_is_answered() {
    let mut world = World::two("");
    let listening = world.open(1, "10.0.0.2:80");
    listening.listen(4, OFFERS).unwrap();
    let address = world.open(0, "0.0.0.0:0");
    let (stream, _) = address.connect(listening.local(), Key(1)).unwrap();
    world.pass(Duration::from_secs(22));
    assert_eq!(stream.progress(), Err(NetError::TimedOut));
    let Accepted::Connection(offer) = listening.accept() else { panic!() };
    offer.watch(Key(2)).unwrap();
    offer.answer();
    world.until("reset", |world| world.seen(1, Key(2)).contains(Readiness::BROKEN).then_some(()));
    assert_eq!(offer.progress(), Err(NetError::Reset));
}

#[test]
fn offer_dropped_without_an_answer_is_refused() {
    let mut world = World::two("");
    let listening = world.open(1, "10.0.0.2:80");
    listening.listen(4, OFFERS).unwrap();
    let address = world.open(0, "0.0.0.0:0");
    let (stream, _) = address.connect(listening.local(), Key(1)).unwrap();
    drop(world.until("offer", |_| match listening.accept() {
        Accepted::Connection(offer) => Some(offer),
        _ => None,
    }));
    world.until("refusal", |_| (stream.progress() == Err(NetError::Refused)).then_some(()));
}

#[test]
fn full_backlog_refuses_at_once() {
    let mut world = World::two("");
    let listening = world.open(1, "10.0.0.2:80");
    listening.listen(3, OFFERS).unwrap();
    let address = world.open(0, "0.0.0.0:0");
    let streams: Vec<_> = (0..5).map(|key| address.connect(listening.local(), Key(key)).unwrap().0).collect();
    world.pass(Duration::from_secs(1));
    let refused = streams.iter().filter(|stream| stream.progress() == Err(NetError::Refused)).count();
    assert_eq!(refused, 2);
    for key in 0..3 {
        let offer = world.accept(&listening, Key(key));
        assert_eq!(offer.remote(), streams[key as usize].local().unwrap());
    }
    assert!(matches!(listening.accept(), Accepted::WouldBlock));
}

#[test]
fn offer_whose_maker_gives_up_leaves_the_queue() {
    let mut world = World::two("");
    let listening = world.open(1, "10.0.0.2:80");
    listening.listen(1, OFFERS).unwrap();
    let address = world.open(0, "0.0.0.0:0");
    let (stream, _) = address.connect(listening.local(), Key(1)).unwrap();
    world.until("offer", |world| world.seen(1, OFFERS).contains(Readiness::READABLE).then_some(()));
    assert_eq!(world.sim.live().connections, 2);
    stream.abort();
    drop(stream);
    // Nobody was told; the next attempt from the same port says it all.
    world.pass(Duration::from_secs(60));
    listening.stop_listening();
    assert_eq!(world.sim.live().connections, 0);
}

#[test]
fn withdrawn_and_dropped_listeners_refuse_what_waits() {
    let mut world = World::two("");
    let listening = world.open(1, "10.0.0.2:80");
    let address = world.open(0, "0.0.0.0:0");
    for turn in 0..2 {
        listening.listen(4, OFFERS).unwrap();
        let (stream, _) = address.connect(listening.local(), Key(1)).unwrap();
        world.pass(Duration::from_millis(15));
        if turn == 0 {
            listening.stop_listening();
            assert!(matches!(listening.accept(), Accepted::NotListening));
            world.until("refusal", |_| (stream.progress() == Err(NetError::Refused)).then_some(()));
        } else {
            drop(listening);
            world.until("refusal", |_| (stream.progress() == Err(NetError::Refused)).then_some(()));
            break;
        }
    }
}

#[test]
fn ports_float_pin_and_conflict_as_on_a_host() {
    let mut world = World::new(common::TWO, 1);
    let b = world.open(1, "0.0.0.0:80");
    b.listen(8, OFFERS).unwrap();
    let floating = world.open(0, "10.0.0.1:0");
    let (one, _) = floating.connect("10.0.0.2:80".parse().unwrap(), Key(1)).unwrap();
    let (two, _) = floating.connect("10.0.0.2:80".parse().unwrap(), Key(2)).unwrap();
    assert_eq!(floating.local().port(), 0);
    assert_ne!(one.local().unwrap(), two.local().unwrap());
    let pinned = floating.pin().unwrap();
    assert_ne!(pinned.port(), 0);
    assert_ne!(pinned.port(), one.local().unwrap().port());
    let (three, _) = floating.connect("10.0.0.2:80".parse().unwrap(), Key(3)).unwrap();
    assert_eq!(three.local().unwrap(), pinned);
    let again = floating.connect("10.0.0.2:80".parse().unwrap(), Key(4)).err();
    assert_eq!(again, Some(NetError::AddressNotAvailable));
    assert_eq!(floating.connect(pinned, Key(5)).err(), Some(NetError::Refused));
    assert_eq!(world.host(0).open_address(pinned).err(), Some(NetError::AddressInUse));
    let any = format!("0.0.0.0:{}", pinned.port());
    assert_eq!(world.host(0).open_address(any.parse().unwrap()).err(), Some(NetError::AddressInUse));
    drop(floating);
    world.host(0).open_address(pinned).unwrap();
    let foreign = world.host(0).open_address("10.0.0.2:0".parse().unwrap()).err();
    assert_eq!(foreign, Some(NetError::AddressNotAvailable));
    world.settle();
}

#[test]
fn shared_addresses_overlap_and_offers_go_to_the_exact_one_that_listens() {
    let mut world = World::two("");
    let open = |world: &World, local: &str| world.host(1).open_shared_address(local.parse().unwrap());
    let any = open(&world, "0.0.0.0:80").unwrap();
    let one = open(&world, "10.0.0.2:80").unwrap();
    for local in ["0.0.0.0:80", "10.0.0.2:80", "127.0.0.1:80"] {
        let outcome = world.host(1).open_address(local.parse().unwrap()).err();
        assert_eq!(outcome, Some(NetError::AddressInUse), "{local}");
    }
    any.listen(4, Key(1)).unwrap();
    let caller = world.open(0, "0.0.0.0:0");
    let call = |world: &mut World, taker: &Arc<dyn LocalAddress>| {
        let (near, _) = caller.connect("10.0.0.2:80".parse().unwrap(), Key(7)).unwrap();
        assert_eq!(world.accept(taker, Key(8)).local().unwrap().to_string(), "10.0.0.2:80");
        drop(near);
    };
    call(&mut world, &any);
    one.listen(4, Key(2)).unwrap();
    call(&mut world, &one);
    one.stop_listening();
    call(&mut world, &any);
}

#[test]
fn host_reaches_itself_by_each_of_its_addresses() {
    let mut world = World::two("");
    let listening = world.open(0, "0.0.0.0:80");
    listening.listen(8, OFFERS).unwrap();
    for (remote, source) in [("127.0.0.1:80", "127.0.0.1"), ("10.0.0.1:80", "10.0.0.1")] {
        let address = world.open(0, "0.0.0.0:0");
        let (near, _) = address.connect(remote.parse().unwrap(), Key(1)).unwrap();
        let far = world.accept(&listening, Key(2));
        assert_eq!(far.remote().ip().to_string(), source);
        world.send_all(&far, b"to myself");
        assert_eq!(world.receive(&near, 20).1, b"to myself");
    }
}

#[test]
fn finished_connection_answers_a_repeated_end_and_lets_its_port_go() {
    // The last acknowledgement is lost; the other end says its end again until it gets one.
    let mut world = World::two("[[fault]]\nat = \"5s\"\nuntil = \"7s\"\nlink = [\"a\", \"b\"]\nloss = 1.0\n");
    let (near, far) = world.pair();
    near.shutdown_send().unwrap();
    assert_eq!(world.receive(&far, 1).0, Received::EndOfStream);
    world.pass(Duration::from_millis(4995) - Duration::from_nanos(world.now.as_nanoseconds()));
    far.shutdown_send().unwrap();
    drop(far);
    let packets = world.record();
    // It gets through, and what acknowledges it does not.
    world.until("end", |_| (near.receive(&mut [IoSliceMut::new(&mut [0])]) == Received::EndOfStream).then_some(()));
    drop(near);
    world.pass(Duration::from_secs(8));
    let packets = packets.lock().unwrap();
    let ends = packets.iter().filter(|packet| packet.flags() & FIN == FIN).count();
    let resets = packets.iter().filter(|packet| packet.flags() & RST == RST).count();
    assert!(ends >= 2, "the end was not repeated");
    assert_eq!((resets, world.sim.live().connections), (0, 0));
}

#[test]
fn wake_ends_a_poll_that_sleeps_for_real() {
    let world = World::two("");
    struct Silence;
    impl net_api::EventSink for Silence {
        fn handle_event(&self, key: Key, ready: Readiness) {
            panic!("an event from nowhere: {key:?} {ready:?}");
        }
    }
    let network = world.host(0);
    network.wake();
    assert_eq!(network.poll(NetTime::ZERO, Wait::Forever, &Silence), 0);
    std::thread::scope(|scope| {
        let poller = scope.spawn(|| network.poll(NetTime::ZERO, Wait::Forever, &Silence));
        network.wake();
        assert_eq!(poller.join().unwrap(), 0);
    });
    assert_eq!(network.policy(), Policy::Simulated);
}
