//! Datagrams over real sockets.

mod common;

use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use common::World;
use net_api::{
    Arrival, Cast, DatagramAddress, DatagramOption, DatagramReceived, DatagramSent, Interface, Key, Membership,
    NetError, Network, Policy, Readiness, Sharing,
};

const KEY: Key = Key(7);

fn open(world: &World, local: &str, sharing: Sharing) -> Arc<dyn DatagramAddress> {
    world.network.open_datagram_address(local.parse().unwrap(), sharing).unwrap()
}

/// An exclusive address at the loopback address, watched.
fn opened(world: &World) -> Arc<dyn DatagramAddress> {
    let address = open(world, "127.0.0.1:0", Sharing::Exclusive);
    address.watch(KEY).unwrap();
    address
}

fn at_loopback(address: &Arc<dyn DatagramAddress>) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.local().port())
}

#[track_caller]
fn receive(world: &World, address: &Arc<dyn DatagramAddress>, room: usize) -> (DatagramReceived, Vec<u8>) {
    let mut bytes = vec![0; room];
    let outcome = world.until("datagram", || match address.receive_from(&mut [IoSliceMut::new(&mut bytes)]) {
        DatagramReceived::WouldBlock => None,
        other => Some(other),
    });
    bytes.truncate(if let DatagramReceived::Got(arrival) = outcome { arrival.stored } else { 0 });
    (outcome, bytes)
}

#[track_caller]
fn arrival(world: &World, address: &Arc<dyn DatagramAddress>) -> Arrival {
    match receive(world, address, 64).0 {
        DatagramReceived::Got(arrival) => arrival,
        other => panic!("{other:?}"),
    }
}

#[test]
fn datagrams_keep_their_boundaries_order_and_source() {
    let world = World::loopback();
    let address = opened(&world);
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    for text in ["one", "", "three"] {
        peer.send_to(text.as_bytes(), address.local()).unwrap();
    }
    for text in ["one", "", "three"] {
        let (outcome, bytes) = receive(&world, &address, 64);
        let DatagramReceived::Got(arrival) = outcome else { panic!("{outcome:?}") };
        assert_eq!((bytes.as_slice(), arrival.length), (text.as_bytes(), text.len()));
        assert_eq!(arrival.source, peer.local_addr().unwrap());
        assert_eq!((arrival.destination, arrival.cast), (IpAddr::V4(Ipv4Addr::LOCALHOST), Cast::Unicast));
        assert_ne!(arrival.interface, 0);
    }
    assert_eq!(address.receive_from(&mut []), DatagramReceived::WouldBlock);
}

#[test]
fn gathered_datagram_arrives_as_one_and_answers_reach_the_port() {
    let world = World::loopback();
    let address = open(&world, "0.0.0.0:0", Sharing::Exclusive);
    address.watch(KEY).unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let pieces = [IoSlice::new(b"ga"), IoSlice::new(b"the"), IoSlice::new(b"red")];
    assert_eq!(address.send_to(&pieces, peer.local_addr().unwrap()), DatagramSent::Taken);
    let mut bytes = [0; 64];
    let (length, from) = peer.recv_from(&mut bytes).unwrap();
    assert_eq!((&bytes[..length], from), (&b"gathered"[..], at_loopback(&address)));
    peer.send_to(b"answer", from).unwrap();
    assert_eq!(receive(&world, &address, 64).1, b"answer");
}

#[test]
fn datagram_longer_than_the_room_is_cut_and_says_how_long_it_was() {
    let world = World::loopback();
    let address = opened(&world);
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.send_to(&[5; 1000], address.local()).unwrap();
    peer.send_to(b"next", address.local()).unwrap();
    let (outcome, bytes) = receive(&world, &address, 10);
    let DatagramReceived::Got(arrival) = outcome else { panic!("{outcome:?}") };
    assert_eq!((arrival.length, arrival.stored, bytes.len()), (1000, 10, 10));
    assert_eq!(receive(&world, &address, 64).1, b"next");
}

#[test]
fn longest_datagram_arrives_and_a_longer_one_is_refused() {
    let world = World::loopback();
    let address = opened(&world);
    let longest = vec![7; world.network.capabilities().datagram_bytes_max as usize];
    assert_eq!(address.send_to(&[IoSlice::new(&longest)], address.local()), DatagramSent::Taken);
    assert_eq!(receive(&world, &address, 65_536).1, longest);
    let longer = vec![7; longest.len() + 1];
    let outcome = address.send_to(&[IoSlice::new(&longer)], address.local());
    assert_eq!(outcome, DatagramSent::Failed(NetError::TooLong));
    // What this host refused by itself is not reported a second time.
    assert_eq!(address.receive_from(&mut []), DatagramReceived::WouldBlock);
}

#[test]
fn datagram_to_nobody_is_reported_with_its_destination_and_hurts_no_other() {
    let world = World::loopback();
    let address = opened(&world);
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    // The report of the first is here before the second is sent.
    assert_eq!(address.send_to(&[IoSlice::new(b"lost")], nobody), DatagramSent::Taken);
    assert_eq!(address.send_to(&[IoSlice::new(b"found")], peer.local_addr().unwrap()), DatagramSent::Taken);
    let mut bytes = [0; 64];
    let length = peer.recv(&mut bytes).unwrap();
    assert_eq!(&bytes[..length], b"found");
    world.until("event", || (!world.seen(KEY).is_none()).then_some(()));
    let report = DatagramReceived::Undelivered { remote: nobody, error: NetError::Refused };
    assert_eq!(receive(&world, &address, 64).0, report);
    assert_eq!(address.receive_from(&mut []), DatagramReceived::WouldBlock);
}

#[test]
fn report_taken_away_by_a_send_causes_another_event() {
    let world = World::loopback();
    let address = opened(&world);
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(address.send_to(&[IoSlice::new(b"lost")], nobody), DatagramSent::Taken);
    world.until("first event", || world.seen(KEY).contains(Readiness::BROKEN).then_some(()));
    while world.poll() != 0 {}
    world.forget(KEY);
    assert_eq!(address.send_to(&[IoSlice::new(b"self")], address.local()), DatagramSent::Taken);
    world.until("second event", || world.seen(KEY).contains(Readiness::BROKEN).then_some(()));
    let report = DatagramReceived::Undelivered { remote: nobody, error: NetError::Refused };
    assert_eq!(receive(&world, &address, 64).0, report);
    assert_eq!(receive(&world, &address, 64).1, b"self");
}

#[test]
fn every_arrival_after_draining_is_an_event() {
    let world = World::loopback();
    let address = opened(&world);
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..50 {
        peer.send_to(b"x", address.local()).unwrap();
        world.until("event", || world.seen(KEY).contains(Readiness::READABLE).then_some(()));
        arrival(&world, &address);
        assert_eq!(address.receive_from(&mut []), DatagramReceived::WouldBlock);
        world.forget(KEY);
    }
}

#[test]
fn broadcast_is_told_from_unicast_and_can_be_turned_off() {
    let world = World::loopback();
    let address = open(&world, "0.0.0.0:0", Sharing::Exclusive);
    let broadcast = SocketAddr::new([127, 255, 255, 255].into(), address.local().port());
    assert_eq!(address.send_to(&[IoSlice::new(b"all")], broadcast), DatagramSent::Taken);
    let got = arrival(&world, &address);
    assert_eq!((got.cast, got.destination), (Cast::Broadcast, broadcast.ip()));
    address.set(DatagramOption::Broadcast(false)).unwrap();
    let outcome = address.send_to(&[IoSlice::new(b"all")], broadcast);
    assert_eq!(outcome, DatagramSent::Failed(NetError::AddressNotAvailable));
}

#[test]
fn member_of_a_group_gets_its_datagrams_until_it_leaves() {
    let world = World::loopback();
    let address = open(&world, "0.0.0.0:0", Sharing::Exclusive);
    let group: IpAddr = "239.1.2.3".parse().unwrap();
    let remote = SocketAddr::new(group, address.local().port());
    let membership = Membership { group, interface: Interface::Routed, source: None };
    address.set(DatagramOption::Join(membership)).unwrap();
    assert_eq!(address.set(DatagramOption::Join(membership)), Err(NetError::AddressNotAvailable));
    address.set(DatagramOption::MulticastHopLimit(1)).unwrap();
    address.set(DatagramOption::MulticastInterface(Interface::Routed)).unwrap();
    assert_eq!(address.send_to(&[IoSlice::new(b"group")], remote), DatagramSent::Taken);
    let got = arrival(&world, &address);
    assert_eq!((got.cast, got.destination, got.length), (Cast::Multicast, group, 5));
    address.set(DatagramOption::Leave(membership)).unwrap();
    assert_eq!(address.set(DatagramOption::Leave(membership)), Err(NetError::AddressNotAvailable));
}

/// Sending to one needs a route of the host that most loopback interfaces do not have.
#[test]
fn ipv6_groups_can_be_joined_and_left() {
    let world = World::loopback();
    let address = open(&world, "[::]:0", Sharing::Exclusive);
    let group = "ff05::1:3".parse().unwrap();
    let membership = Membership { group, interface: Interface::Routed, source: None };
    address.set(DatagramOption::Join(membership)).unwrap();
    assert_eq!(address.set(DatagramOption::Join(membership)), Err(NetError::AddressNotAvailable));
    address.set(DatagramOption::MulticastInterface(Interface::Routed)).unwrap();
    address.set(DatagramOption::Leave(membership)).unwrap();
    assert_eq!(address.set(DatagramOption::Leave(membership)), Err(NetError::AddressNotAvailable));
}

#[test]
fn member_that_wants_one_sender_gets_no_other() {
    let world = World::loopback();
    let address = open(&world, "0.0.0.0:0", Sharing::Exclusive);
    let group = "232.1.2.3".parse().unwrap();
    let remote = SocketAddr::new(group, address.local().port());
    for interface in [Interface::WithAddress(Ipv4Addr::LOCALHOST), Interface::Routed] {
        let join = |source: &str| Membership { group, interface, source: Some(source.parse().unwrap()) };
        address.set(DatagramOption::Join(join("127.0.0.9"))).unwrap();
        for source in ["127.0.0.8", "127.0.0.9"] {
            let sender = open(&world, &format!("{source}:0"), Sharing::Exclusive);
            let lo = Interface::WithAddress(Ipv4Addr::LOCALHOST);
            sender.set(DatagramOption::MulticastInterface(lo)).unwrap();
            assert_eq!(sender.send_to(&[IoSlice::new(source.as_bytes())], remote), DatagramSent::Taken);
        }
        assert_eq!(receive(&world, &address, 64).1, b"127.0.0.9");
        address.set(DatagramOption::Leave(join("127.0.0.9"))).unwrap();
    }
    let six = open(&world, "[::]:0", Sharing::Exclusive);
    let interface = Interface::Routed;
    let group = "ff35::8000:1".parse().unwrap();
    let membership = Membership { group, interface, source: Some("::1".parse().unwrap()) };
    six.set(DatagramOption::Join(membership)).unwrap();
    six.set(DatagramOption::Leave(membership)).unwrap();
}

#[test]
fn shared_port_copies_group_datagrams_to_everybody_and_exclusive_port_is_exclusive() {
    let world = World::loopback();
    let one = open(&world, "0.0.0.0:0", Sharing::Shared);
    let local = one.local();
    let two = world.network.open_datagram_address(local, Sharing::Shared).unwrap();
    let in_use = world.network.open_datagram_address(local, Sharing::Exclusive).err();
    assert_eq!(in_use, Some(NetError::AddressInUse));
    let membership = Membership { group: "239.1.2.4".parse().unwrap(), interface: Interface::Routed, source: None };
    for member in [&one, &two] {
        member.set(DatagramOption::Join(membership)).unwrap();
    }
    let remote = SocketAddr::new(membership.group, local.port());
    assert_eq!(one.send_to(&[IoSlice::new(b"copy")], remote), DatagramSent::Taken);
    for member in [&one, &two] {
        assert_eq!(arrival(&world, member).cast, Cast::Multicast);
    }

    let alone = open(&world, "127.0.0.1:0", Sharing::Exclusive);
    let in_use = world.network.open_datagram_address(alone.local(), Sharing::Shared).err();
    assert_eq!(in_use, Some(NetError::AddressInUse));
}

#[test]
fn options_of_both_families_are_accepted() {
    let world = World::loopback();
    for local in ["127.0.0.1:0", "[::1]:0"] {
        let address = open(&world, local, Sharing::Exclusive);
        for option in [
            DatagramOption::HopLimit(64),
            DatagramOption::MulticastHopLimit(0),
            DatagramOption::MulticastLoop(false),
            DatagramOption::Broadcast(true),
            DatagramOption::TypeOfService(0x10),
            DatagramOption::DontFragment(true),
            DatagramOption::DontFragment(false),
        ] {
            assert_eq!(address.set(option), Ok(()), "{local} {option:?}");
        }
        assert_eq!(address.set(DatagramOption::HopLimit(0)), Err(NetError::AddressNotAvailable));
    }
}

#[test]
fn loopback_policy_denies_foreign_hosts_and_interfaces() {
    let world = World::loopback();
    let denied = NetError::Denied(Policy::Loopback);
    let address = opened(&world);
    let send = |remote: &str| address.send_to(&[IoSlice::new(b"x")], remote.parse().unwrap());
    assert_eq!(send("192.0.2.1:53"), DatagramSent::Failed(denied));
    assert_eq!(send("255.255.255.255:53"), DatagramSent::Failed(denied));
    assert_eq!(send("0.0.0.0:53"), DatagramSent::Failed(NetError::AddressNotAvailable));
    assert_eq!(send("[::1]:53"), DatagramSent::Failed(NetError::AddressNotAvailable));
    let foreign = Interface::WithAddress(Ipv4Addr::new(192, 0, 2, 1));
    for interface in [foreign, Interface::Numbered(4711)] {
        let group = "239.1.2.3".parse().unwrap();
        let join = DatagramOption::Join(Membership { group, interface, source: None });
        assert_eq!(address.set(join), Err(denied));
        assert_eq!(address.set(DatagramOption::MulticastInterface(interface)), Err(denied));
    }
}
