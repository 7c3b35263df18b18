//! Connections over real sockets, observed by a peer of the standard library.

mod common;

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use common::{End, World, end_of, listener};
use net_api::{Key, NetError, NetTime, Network, Policy, Progress, Readiness, Received, Sent, Wait};

const KEY: Key = Key(7);

#[test]
fn bytes_gathered_and_scattered_arrive_in_order() {
    let world = World::loopback();
    let (connection, mut peer) = world.pair(KEY);
    let sent = connection.send(&[IoSlice::new(b"one "), IoSlice::new(b""), IoSlice::new(b"two")]);
    assert_eq!(sent, Sent::Taken(7));
    let mut bytes = [0; 7];
    peer.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"one two");

    peer.write_all(b"three").unwrap();
    let (mut left, mut right) = ([0; 2], [0; 8]);
    let got = world.until("receive", || {
        match connection.receive(&mut [IoSliceMut::new(&mut left), IoSliceMut::new(&mut right)]) {
            Received::WouldBlock => None,
            other => Some(other),
        }
    });
    assert_eq!((got, &left, &right[..3]), (Received::Got(5), b"th", &b"ree"[..]));
}

#[test]
fn more_slices_than_the_host_takes_are_taken_in_part() {
    let world = World::loopback();
    let (connection, _peer) = world.pair(KEY);
    let slices = vec![IoSlice::new(b"x"); 3000];
    assert_eq!(connection.send(&slices), Sent::Taken(1024));
}

#[test]
fn nothing_to_send_and_no_room_say_nothing_about_the_connection() {
    let world = World::loopback();
    let (connection, peer) = world.pair(KEY);
    assert_eq!(connection.send(&[]), Sent::Taken(0));
    assert_eq!(connection.send(&[IoSlice::new(b"")]), Sent::Taken(0));
    assert_eq!(connection.receive(&mut []), Received::Got(0));
    drop(connection);
    assert_eq!(end_of(&peer), End::Orderly(0));
}

#[test]
fn dropped_connection_delivers_what_was_sent_then_ends_orderly() {
    let world = World::loopback();
    let (connection, peer) = world.pair(KEY);
    let mut taken = 0;
    // As much as the sockets hold: most of it is still on its way when the connection is dropped.
    while let Sent::Taken(count) = connection.send(&[IoSlice::new(&[9; 65_536])]) {
        taken += count;
    }
    drop(connection);
    assert_eq!(end_of(&peer), End::Orderly(taken));
}

#[test]
fn dropped_connection_with_unread_bytes_resets() {
    let world = World::loopback();
    let (connection, mut peer) = world.pair(KEY);
    peer.write_all(b"unread").unwrap();
    world.until("bytes", || connection.has_unread().then_some(()));
    drop(connection);
    assert_eq!(end_of(&peer), End::Reset(0));
}

#[test]
fn aborted_connection_resets_at_once_and_stays_aborted() {
    let world = World::loopback();
    let (connection, mut peer) = world.pair(KEY);
    peer.write_all(b"unread").unwrap();
    world.until("bytes", || connection.has_unread().then_some(()));
    connection.abort();
    // The peer hears of it while this end is still held.
    assert_eq!(end_of(&peer), End::Reset(0));
    for _ in 0..2 {
        let mut byte = [0];
        assert_eq!(connection.send(&[IoSlice::new(b"x")]), Sent::Failed(NetError::Aborted));
        assert_eq!(connection.send_urgent(1), Sent::Failed(NetError::Aborted));
        assert_eq!(connection.receive(&mut [IoSliceMut::new(&mut byte)]), Received::Failed(NetError::Aborted));
        assert_eq!(connection.peek(&mut [IoSliceMut::new(&mut byte)]), Received::Failed(NetError::Aborted));
        assert_eq!(connection.progress(), Err(NetError::Aborted));
        assert_eq!(connection.shutdown_send(), Err(NetError::Aborted));
        assert_eq!(connection.local(), Err(NetError::Aborted));
        assert_eq!(connection.set_no_delay(true), Err(NetError::Aborted));
        let times = connection.set_keep_alive_times(Duration::from_secs(1), Duration::from_secs(1));
        assert_eq!(times, Err(NetError::Aborted));
        assert!(!connection.has_unread());
    }
}

#[test]
fn abort_discards_what_was_not_delivered() {
    let world = World::loopback();
    let (connection, peer) = world.pair(KEY);
    let mut taken = 0;
    while let Sent::Taken(count) = connection.send(&[IoSlice::new(&[9; 65_536])]) {
        taken += count;
    }
    connection.abort();
    let End::Reset(received) = end_of(&peer) else { panic!("an abort looked orderly") };
    assert!(received < taken, "{received} of {taken} bytes");
}

#[test]
fn half_closed_connection_still_receives() {
    let world = World::loopback();
    let (connection, mut peer) = world.pair(KEY);
    connection.shutdown_send().unwrap();
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    assert_eq!(connection.send(&[IoSlice::new(b"late")]), Sent::Failed(NetError::NotConnected));

    peer.write_all(b"answer").unwrap();
    assert_eq!(world.receive(&connection, 64), (Received::Got(6), b"answer".to_vec()));
    drop(peer);
    for _ in 0..2 {
        assert_eq!(world.receive(&connection, 64).0, Received::EndOfStream);
    }
}

#[test]
fn peers_orderly_end_comes_after_its_bytes_and_leaves_this_direction_open() {
    let world = World::loopback();
    let (connection, mut peer) = world.pair(KEY);
    peer.write_all(b"last").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    world.until("end", || world.seen(KEY).contains(Readiness::REMOTE_ENDED).then_some(()));
    assert_eq!(world.receive(&connection, 64), (Received::Got(4), b"last".to_vec()));
    assert_eq!(world.receive(&connection, 64).0, Received::EndOfStream);

    world.send_all(&connection, b"still here");
    let mut bytes = [0; 10];
    peer.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"still here");
    drop(connection);
    assert_eq!(end_of(&peer), End::Orderly(0));
}

#[test]
fn peers_reset_is_reported_the_same_way_by_every_later_operation() {
    let world = World::loopback();
    let (connection, peer) = world.pair(KEY);
    world.send_all(&connection, b"unread by the peer");
    peer.peek(&mut [0]).unwrap();
    drop(peer);
    world.until("reset", || world.seen(KEY).contains(Readiness::BROKEN).then_some(()));
    for _ in 0..2 {
        assert_eq!(world.receive(&connection, 64).0, Received::Failed(NetError::Reset));
        assert_eq!(connection.send(&[IoSlice::new(b"x")]), Sent::Failed(NetError::Reset));
        assert_eq!(connection.shutdown_send(), Err(NetError::Reset));
    }
}

#[test]
fn reset_first_noticed_by_a_send_is_no_orderly_end_to_the_next_receive() {
    let world = World::loopback();
    let (connection, peer) = world.pair(KEY);
    world.send_all(&connection, b"unread by the peer");
    peer.peek(&mut [0]).unwrap();
    drop(peer);
    let failure = world.until("reset", || match connection.send(&[IoSlice::new(b"x")]) {
        Sent::Failed(error) => Some(error),
        _ => None,
    });
    assert_eq!(failure, NetError::Reset);
    assert_eq!(world.receive(&connection, 64).0, Received::Failed(NetError::Reset));
}

#[test]
fn shutdown_after_an_unnoticed_reset_says_reset() {
    let world = World::loopback();
    let (connection, peer) = world.pair(KEY);
    world.send_all(&connection, b"unread by the peer");
    peer.peek(&mut [0]).unwrap();
    drop(peer);
    world.until("reset", || connection.shutdown_send().err().map(|error| assert_eq!(error, NetError::Reset)));
    assert_eq!(world.receive(&connection, 64).0, Received::Failed(NetError::Reset));
}

#[test]
fn peeked_bytes_stay() {
    let world = World::loopback();
    let (connection, mut peer) = world.pair(KEY);
    peer.write_all(b"look").unwrap();
    world.until("bytes", || connection.has_unread().then_some(()));
    let mut bytes = [0; 8];
    for _ in 0..2 {
        assert_eq!(connection.peek(&mut [IoSliceMut::new(&mut bytes)]), Received::Got(4));
    }
    assert_eq!(world.receive(&connection, 8), (Received::Got(4), b"look".to_vec()));
    assert_eq!(connection.peek(&mut [IoSliceMut::new(&mut bytes)]), Received::WouldBlock);
    assert!(!connection.has_unread());
}

#[test]
fn urgent_byte_keeps_its_place_and_is_marked() {
    let world = World::loopback();
    let (connection, peer) = world.pair(KEY);
    let listening = world.open("127.0.0.1:0");
    listening.listen(1, Key(1)).unwrap();
    let sender = world.connect(listening.local(), Key(2));
    let receiver = world.accept(&listening);
    world.watch(&receiver, Key(3));
    drop((connection, peer));

    world.send_all(&sender, b"before");
    assert_eq!(sender.send_urgent(b'!'), Sent::Taken(1));
    world.send_all(&sender, b"after");
    world.until("mark", || world.seen(Key(3)).contains(Readiness::URGENT).then_some(()));
    assert_eq!(world.receive(&receiver, 64), (Received::Got(6), b"before".to_vec()));
    assert!(receiver.is_at_urgent_mark());
    assert_eq!(world.receive(&receiver, 1), (Received::Got(1), b"!".to_vec()));
    assert!(!receiver.is_at_urgent_mark());
    assert_eq!(world.receive(&receiver, 64), (Received::Got(5), b"after".to_vec()));
}

#[test]
fn urgent_byte_is_marked_before_an_event_tells_of_it() {
    let world = World::loopback();
    for is_watched in [false, true] {
        let listening = world.open("127.0.0.1:0");
        listening.listen(1, Key(1)).unwrap();
        let sender = world.connect(listening.local(), Key(2));
        let receiver = world.accept(&listening);
        if is_watched {
            world.watch(&receiver, Key(3));
            // It knows now that it is empty, and answers from memory.
            assert_eq!(receiver.receive(&mut [IoSliceMut::new(&mut [0; 8])]), Received::WouldBlock);
            assert!(!receiver.is_at_urgent_mark());
            world.send_all(&sender, b"ab");
            world.until("bytes", || world.seen(Key(3)).contains(Readiness::READABLE).then_some(()));
        } else {
            world.send_all(&sender, b"ab");
        }
        assert_eq!(sender.send_urgent(b'!'), Sent::Taken(1));
        // No event is handled from here on.
        let mut bytes = [0; 2];
        let mut at = 0;
        while at < 2 {
            if let Received::Got(count) = receiver.receive(&mut [IoSliceMut::new(&mut bytes[at..])]) {
                at += count;
            }
        }
        assert_eq!(&bytes, b"ab");
        while !receiver.is_at_urgent_mark() {
            std::thread::yield_now();
        }
        assert_eq!(receiver.receive(&mut [IoSliceMut::new(&mut bytes[..1])]), Received::Got(1));
        assert_eq!(bytes[0], b'!');
    }
}

#[test]
fn connect_to_a_closed_port_is_refused_every_time_it_is_asked() {
    let world = World::loopback();
    let (peer, remote) = listener();
    drop(peer);
    let address = world.open("127.0.0.1:0");
    assert_eq!(world.connect_from(&address, remote, KEY).err(), Some(NetError::Refused));
    // An attempt that failed leaves nothing behind.
    assert_eq!(world.connect_from(&address, remote, KEY).err(), Some(NetError::Refused));
}

#[test]
fn connection_from_a_port_to_itself_is_refused() {
    let world = World::loopback();
    let address = world.open("127.0.0.1:0");
    let own = address.pin().unwrap();
    assert_eq!(world.connect_from(&address, own, KEY).err(), Some(NetError::Refused));
}

#[test]
fn unanswered_attempt_is_pending_until_it_is_given_up() {
    let world = World::loopback();
    let full = world.open("127.0.0.1:0");
    full.listen(1, Key(1)).unwrap();
    // A full queue on this host drops further handshakes instead of refusing them.
    let address = world.open("127.0.0.1:0");
    let mut held = Vec::new();
    let pending = loop {
        let (connection, progress) = address.connect(full.local(), KEY).unwrap();
        if progress == Progress::Pending {
            break connection;
        }
        held.push(connection);
        assert!(held.len() < 100, "the queue never fills");
    };
    assert_eq!(pending.progress(), Ok(Progress::Pending));
    assert_eq!(pending.shutdown_send(), Err(NetError::NotConnected));
    assert_eq!(pending.progress(), Ok(Progress::Pending));
    assert_eq!(pending.send(&[IoSlice::new(b"x")]), Sent::WouldBlock);
    pending.abort();
    assert_eq!(pending.progress(), Err(NetError::Aborted));
    assert_eq!(pending.send(&[IoSlice::new(b"x")]), Sent::Failed(NetError::Aborted));
}

#[test]
fn loopback_policy_denies_foreign_addresses_before_any_packet() {
    let world = World::loopback();
    assert_eq!(world.network.policy(), Policy::Loopback);
    let denied = NetError::Denied(Policy::Loopback);
    let foreign: SocketAddr = "192.0.2.1:80".parse().unwrap();
    assert_eq!(world.network.open_address(foreign).err(), Some(denied));
    assert_eq!(world.open("0.0.0.0:0").connect(foreign, KEY).err(), Some(denied));
}

#[test]
fn family_of_the_remote_address_must_be_the_local_ones() {
    let world = World::loopback();
    let outcome = world.open("0.0.0.0:0").connect("[::1]:9".parse().unwrap(), KEY).err();
    assert_eq!(outcome, Some(NetError::AddressNotAvailable));
}

#[test]
fn addresses_of_both_ends_are_known() {
    let world = World::loopback();
    let (connection, peer) = world.pair(KEY);
    assert_eq!(connection.remote(), peer.local_addr().unwrap());
    assert_eq!(connection.local().unwrap(), peer.peer_addr().unwrap());
    connection.set_no_delay(true).unwrap();
    connection.set_keep_alive(true).unwrap();
    connection.set_keep_alive_times(Duration::from_millis(1), Duration::from_secs(u64::MAX)).unwrap();
}

#[test]
fn wake_ends_the_poll_that_has_no_deadline_each_time() {
    let world = World::loopback();
    struct Silence;
    impl net_api::EventSink for Silence {
        fn handle_event(&self, key: Key, ready: Readiness) {
            panic!("an event from nowhere: {key:?} {ready:?}");
        }
    }
    for _ in 0..100 {
        world.network.wake();
        assert_eq!(world.network.poll(NetTime::ZERO, Wait::Forever, &Silence), 0);
    }
    std::thread::scope(|scope| {
        let poller = scope.spawn(|| world.network.poll(NetTime::ZERO, Wait::Forever, &Silence));
        world.network.wake();
        assert_eq!(poller.join().unwrap(), 0);
    });
}
