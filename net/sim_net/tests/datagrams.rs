//! Datagrams across a simulated network.

mod common;

use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::World;
use net_api::{
    Arrival, Cast, DatagramAddress, DatagramOption, DatagramReceived, DatagramSent, Interface, Key, Membership,
    NetError, NetTime, Network, Readiness, Sharing,
};

fn open(world: &World, host: usize, local: &str) -> Arc<dyn DatagramAddress> {
    world.host(host).open_datagram_address(local.parse().unwrap(), Sharing::Exclusive).unwrap()
}

fn send(address: &Arc<dyn DatagramAddress>, bytes: &[u8], remote: &str) -> DatagramSent {
    address.send_to(&[IoSlice::new(bytes)], remote.parse().unwrap())
}

#[track_caller]
fn receive(world: &mut World, address: &Arc<dyn DatagramAddress>) -> (Arrival, Vec<u8>) {
    let mut bytes = vec![0; 70_000];
    let arrival = world.until("datagram", |_| match address.receive_from(&mut [IoSliceMut::new(&mut bytes)]) {
        DatagramReceived::WouldBlock => None,
        DatagramReceived::Got(arrival) => Some(arrival),
        other => panic!("{other:?}"),
    });
    bytes.truncate(arrival.stored);
    (arrival, bytes)
}

fn nothing(address: &Arc<dyn DatagramAddress>) -> bool {
    address.receive_from(&mut [IoSliceMut::new(&mut [0])]) == DatagramReceived::WouldBlock
}

#[test]
fn datagrams_cross_with_boundaries_source_and_destination() {
    let mut world = World::two("");
    for (local, remote) in [("10.0.0.1:5", "10.0.0.2:6"), ("[fd00::1]:5", "[fd00::2]:6")] {
        let (near, far) = (open(&world, 0, local), open(&world, 1, remote));
        far.watch(Key(3)).unwrap();
        assert_eq!(
            near.send_to(&[IoSlice::new(b"o"), IoSlice::new(b"ne")], remote.parse().unwrap()),
            DatagramSent::Taken
        );
        assert_eq!(send(&near, b"", remote), DatagramSent::Taken);
        world.forget(1, Key(3));
        world.until("event", |world| world.seen(1, Key(3)).contains(Readiness::READABLE).then_some(()));
        let (arrival, bytes) = receive(&mut world, &far);
        assert_eq!((bytes.as_slice(), arrival.cast), (&b"one"[..], Cast::Unicast));
        assert_eq!(arrival.source, local.parse().unwrap());
        assert_eq!(arrival.destination, remote.parse::<SocketAddr>().unwrap().ip());
        assert_eq!(receive(&mut world, &far).1, b"");
        assert!(nothing(&far));
    }
}

#[test]
fn long_datagram_travels_in_pieces_and_a_longer_one_not_at_all() {
    let mut world = World::two("");
    let (near, far) = (open(&world, 0, "10.0.0.1:0"), open(&world, 1, "10.0.0.2:6"));
    let data: Vec<u8> = (0..65_507_u32).map(|index| (index / 11) as u8).collect();
    assert_eq!(send(&near, &data, "10.0.0.2:6"), DatagramSent::Taken);
    assert!(world.sim.frames().sent > 40);
    assert_eq!(receive(&mut world, &far).1, data);
    let longer = vec![0; 65_508];
    assert_eq!(send(&near, &longer, "10.0.0.2:6"), DatagramSent::Failed(NetError::TooLong));
    near.set(DatagramOption::DontFragment(true)).unwrap();
    assert_eq!(send(&near, &data[..2000], "10.0.0.2:6"), DatagramSent::Failed(NetError::TooLong));
}

#[test]
fn datagram_longer_than_the_room_is_cut() {
    let mut world = World::two("");
    let (near, far) = (open(&world, 0, "10.0.0.1:0"), open(&world, 1, "10.0.0.2:6"));
    send(&near, b"0123456789", "10.0.0.2:6");
    world.pass(Duration::from_secs(1));
    let mut room = [0; 4];
    let DatagramReceived::Got(arrival) = far.receive_from(&mut [IoSliceMut::new(&mut room)]) else { panic!() };
    assert_eq!((arrival.length, arrival.stored, &room), (10, 4, b"0123"));
    assert!(nothing(&far));
}

#[test]
fn datagram_to_nobody_is_reported_with_its_destination() {
    let mut world = World::two("");
    for (local, remote) in [("0.0.0.0:0", "10.0.0.2:9"), ("[::]:0", "[fd00::2]:9")] {
        let near = open(&world, 0, local);
        near.watch(Key(1)).unwrap();
        assert_eq!(send(&near, b"lost", remote), DatagramSent::Taken);
        let report = world.until("report", |_| match near.receive_from(&mut []) {
            DatagramReceived::WouldBlock => None,
            other => Some(other),
        });
        let remote = remote.parse().unwrap();
        assert_eq!(report, DatagramReceived::Undelivered { remote, error: NetError::Refused });
    }
    let near = open(&world, 0, "0.0.0.0:0");
    assert_eq!(send(&near, b"x", "10.9.9.9:9"), DatagramSent::Failed(NetError::NetworkUnreachable));
    assert_eq!(send(&near, b"x", "0.0.0.0:9"), DatagramSent::Failed(NetError::AddressNotAvailable));
}

#[test]
fn broadcast_reaches_every_host_and_can_be_turned_off() {
    let mut world = World::two("[[host]]\nname = \"c\"\naddress = [\"10.0.0.3\"]\n");
    let all: Vec<_> = (0..3).map(|host| open(&world, host, "0.0.0.0:7")).collect();
    for remote in ["255.255.255.255:7", "10.0.0.255:7"] {
        assert_eq!(send(&all[0], b"all", remote), DatagramSent::Taken);
        for address in &all {
            let (arrival, _) = receive(&mut world, address);
            assert_eq!((arrival.cast, arrival.source), (Cast::Broadcast, "10.0.0.1:7".parse().unwrap()));
        }
    }
    all[0].set(DatagramOption::Broadcast(false)).unwrap();
    let outcome = send(&all[0], b"all", "255.255.255.255:7");
    assert_eq!(outcome, DatagramSent::Failed(NetError::AddressNotAvailable));
}

#[test]
fn group_reaches_its_members_and_nobody_else() {
    let mut world = World::two("[[host]]\nname = \"c\"\naddress = [\"10.0.0.3\"]\n");
    let all: Vec<_> = (0..3).map(|host| open(&world, host, "0.0.0.0:7")).collect();
    let group = "239.1.1.1".parse().unwrap();
    let member = |source: Option<&str>| Membership {
        group,
        interface: Interface::Routed,
        source: source.map(|source| source.parse().unwrap()),
    };
    all[0].set(DatagramOption::Join(member(None))).unwrap();
    all[1].set(DatagramOption::Join(member(Some("10.0.0.9")))).unwrap();
    all[2].set(DatagramOption::Join(member(Some("10.0.0.1")))).unwrap();
    assert_eq!(all[2].set(DatagramOption::Join(member(Some("10.0.0.1")))), Err(NetError::AddressNotAvailable));
    assert_eq!(send(&all[0], b"group", "239.1.1.1:7"), DatagramSent::Taken);
    assert_eq!(receive(&mut world, &all[0]).0.cast, Cast::Multicast);
    assert_eq!(receive(&mut world, &all[2]).0.destination, group);
    assert!(nothing(&all[1]));

    all[0].set(DatagramOption::MulticastLoop(false)).unwrap();
    all[2].set(DatagramOption::Leave(member(Some("10.0.0.1")))).unwrap();
    send(&all[0], b"group", "239.1.1.1:7");
    world.pass(Duration::from_secs(1));
    assert!(all.iter().all(nothing));
    all[0].set(DatagramOption::MulticastLoop(true)).unwrap();
    all[0].set(DatagramOption::MulticastHopLimit(0)).unwrap();
    let before = world.sim.frames().sent;
    send(&all[0], b"group", "239.1.1.1:7");
    assert_eq!(world.sim.frames().sent, before + 1);
}

#[test]
fn member_of_a_group_is_one_after_a_crash_and_lost_what_waited() {
    let mut world = World::two("[[fault]]\nat = \"1s\"\nuntil = \"2s\"\ncrash = \"b\"\n");
    let (from, member) = (open(&world, 0, "0.0.0.0:7"), open(&world, 1, "0.0.0.0:7"));
    let group = "239.1.1.1".parse().unwrap();
    member.set(DatagramOption::Join(Membership { group, interface: Interface::Routed, source: None })).unwrap();
    send(&from, b"before", "239.1.1.1:7");
    world.pass(Duration::from_millis(1500));
    send(&from, b"meanwhile", "239.1.1.1:7");
    world.pass(Duration::from_millis(1000));
    assert!(nothing(&member));
    send(&from, b"after", "239.1.1.1:7");
    assert_eq!(receive(&mut world, &member).1, b"after");
}

#[test]
fn ports_conflict_and_are_shared_as_on_a_host() {
    let world = World::two("[[peer]]\nhost = \"a\"\nkind = \"echo\"\nprotocol = \"udp\"\nport = 77\n");
    let shared = |local: &str| world.host(0).open_datagram_address(local.parse().unwrap(), Sharing::Shared);
    let exclusive = |local: &str| world.host(0).open_datagram_address(local.parse().unwrap(), Sharing::Exclusive);
    let one = shared("0.0.0.0:7").unwrap();
    let two = shared("10.0.0.1:7").unwrap();
    assert_eq!(exclusive("10.0.0.1:7").err(), Some(NetError::AddressInUse));
    drop((one, two));
    let alone = exclusive("10.0.0.1:7").unwrap();
    assert_eq!(shared("10.0.0.1:7").err(), Some(NetError::AddressInUse));
    drop(alone);
    assert_eq!(shared("10.0.0.1:77").err(), Some(NetError::AddressInUse));
    assert_eq!(exclusive("10.0.0.2:7").err(), Some(NetError::AddressNotAvailable));
    assert_ne!(exclusive("0.0.0.0:0").unwrap().local().port(), 0);
    assert_eq!(world.sim.live().datagram_addresses, 0);
}

#[test]
fn scripted_peer_echoes_datagrams() {
    let mut world = World::two("[[peer]]\nhost = \"b\"\nkind = \"echo\"\nprotocol = \"udp\"\nport = 7\n");
    let near = open(&world, 0, "0.0.0.0:0");
    send(&near, b"hello", "10.0.0.2:7");
    let (arrival, bytes) = receive(&mut world, &near);
    assert_eq!((bytes.as_slice(), arrival.source), (&b"hello"[..], "10.0.0.2:7".parse().unwrap()));
}

#[test]
fn queue_of_datagrams_is_bounded() {
    let mut world = World::two("");
    let (near, far) = (open(&world, 0, "10.0.0.1:0"), open(&world, 1, "10.0.0.2:6"));
    for _ in 0..10_000 {
        assert_eq!(send(&near, b"", "10.0.0.2:6"), DatagramSent::Taken);
    }
    world.pass(Duration::from_secs(1));
    let waiting = std::iter::from_fn(|| (!nothing(&far)).then_some(())).count();
    assert_eq!(waiting, 262_144 / 64);
}

#[test]
fn datagram_is_sent_at_the_time_that_was_shown_last() {
    let mut world = World::two("");
    let (near, far) = (open(&world, 0, "10.0.0.1:5"), open(&world, 1, "10.0.0.2:6"));
    world.host(0).advance(NetTime::from_nanoseconds(1_000_000_000));
    assert_eq!(send(&near, b"late", "10.0.0.2:6"), DatagramSent::Taken);
    assert_eq!(world.host(1).next_deadline(), Some(NetTime::from_nanoseconds(1_010_000_000)));
    assert_eq!(receive(&mut world, &far).1, b"late");
}
