//! Ports and listeners over real sockets.

mod common;

use std::net::{SocketAddr, TcpListener, TcpStream};

use common::{End, World, end_of, listener};
use net_api::{Accepted, Key, NetError, Network, Readiness};

const OFFERS: Key = Key(100);
const KEY: Key = Key(7);

#[test]
fn floating_address_has_no_port_and_gives_each_connection_one() {
    let world = World::loopback();
    let (_peer, remote) = listener();
    let address = world.open("127.0.0.1:0");
    let one = world.connect_from(&address, remote, KEY).unwrap();
    let two = world.connect_from(&address, remote, KEY).unwrap();
    assert_eq!(address.local().port(), 0);
    assert_ne!(one.local().unwrap(), two.local().unwrap());
}

#[test]
fn pinned_address_shares_its_port_with_connections_made_later() {
    let world = World::loopback();
    let ((_one, first), (_two, second)) = (listener(), listener());
    let address = world.open("0.0.0.0:0");
    let before = world.connect_from(&address, first, KEY).unwrap();
    let pinned = address.pin().unwrap();
    assert!(pinned.ip().is_unspecified());
    assert_eq!(address.pin().unwrap(), pinned);
    assert_eq!(address.local(), pinned);
    assert_ne!(before.local().unwrap().port(), pinned.port());
    for remote in [first, second] {
        let connection = world.connect_from(&address, remote, KEY).unwrap();
        assert_eq!(connection.local().unwrap().port(), pinned.port());
        std::mem::forget(connection);
    }
    // The pair of port and remote address is taken.
    assert_eq!(world.connect_from(&address, first, KEY).err(), Some(NetError::AddressNotAvailable));
}

#[test]
fn pinned_port_is_held_against_every_other_opener() {
    let world = World::loopback();
    let address = world.open("127.0.0.1:0");
    let pinned = address.pin().unwrap();
    assert_eq!(world.network.open_address(pinned).err(), Some(NetError::AddressInUse));
    assert!(TcpListener::bind(pinned).is_err());
    // Nor does listening, with its own socket on the port, open it to others.
    address.listen(4, OFFERS).unwrap();
    assert_eq!(world.network.open_address(pinned).err(), Some(NetError::AddressInUse));
    assert!(TcpListener::bind(pinned).is_err());
    address.stop_listening();
    assert!(TcpListener::bind(pinned).is_err());
    drop(address);
    TcpListener::bind(pinned).unwrap();
}

#[test]
fn shared_addresses_overlap_and_offers_go_to_the_exact_one_that_listens() {
    let mut world = World::loopback();
    world.network = host_net::HostNetwork::host().unwrap();
    let open = |local: SocketAddr| world.network.open_shared_address(local);
    for any_first in [true, false] {
        let ips = if any_first { [[0, 0, 0, 0], [127, 0, 0, 1]] } else { [[127, 0, 0, 1], [0, 0, 0, 0]] };
        let first = open((ips[0], 0).into()).unwrap();
        let port = first.pin().unwrap().port();
        let second = open((ips[1], port).into()).unwrap();
        let (any, one) = if any_first { (first, second) } else { (second, first) };
        // Neither whoever shares nothing nor another network gets in, nor a second with the same address.
        for local in
            [SocketAddr::from(([127, 0, 0, 1], port)), ([0, 0, 0, 0], port).into(), ([127, 0, 0, 2], port).into()]
        {
            assert_eq!(world.network.open_address(local).err(), Some(NetError::AddressInUse), "{local}");
            let other = host_net::HostNetwork::host().unwrap();
            assert_eq!(other.open_shared_address(local).err(), Some(NetError::AddressInUse), "{local}");
        }
        assert_eq!(open(([127, 0, 0, 1], port).into()).err(), Some(NetError::AddressInUse));
        any.listen(4, Key(1)).unwrap();
        let visit = |ip: [u8; 4]| TcpStream::connect(SocketAddr::from((ip, port))).unwrap();
        let _before = visit([127, 0, 0, 1]);
        assert_eq!(world.accept(&any).local().unwrap().ip().to_string(), "127.0.0.1", "the other does not listen yet");
        one.listen(4, Key(2)).unwrap();
        for _ in 0..8 {
            let _visitors = (visit([127, 0, 0, 1]), visit([127, 0, 0, 2]));
            assert_eq!(world.accept(&one).local().unwrap().ip().to_string(), "127.0.0.1");
            assert_eq!(world.accept(&any).local().unwrap().ip().to_string(), "127.0.0.2");
        }
    }
}

#[test]
fn port_of_others_is_in_use() {
    let world = World::loopback();
    let (_peer, taken) = listener();
    assert_eq!(world.network.open_address(taken).err(), Some(NetError::AddressInUse));
}

#[test]
fn port_can_be_opened_again_while_connections_made_from_it_live_on() {
    let world = World::loopback();
    let (peer, remote) = listener();
    let address = world.open("127.0.0.1:0");
    let pinned = address.pin().unwrap();
    let connection = world.connect_from(&address, remote, KEY).unwrap();
    drop(address);
    let again = world.open(&pinned.to_string());
    again.listen(1, OFFERS).unwrap();
    let visitor = TcpStream::connect(pinned).unwrap();
    let accepted = world.accept(&again);
    assert_eq!(accepted.remote(), visitor.local_addr().unwrap());
    // The old connection is none the worse for it.
    drop(connection);
    assert_eq!(end_of(&peer.accept().unwrap().0), End::Orderly(0));
}

#[test]
fn address_of_another_host_is_not_available() {
    let network = host_net::HostNetwork::host().unwrap();
    for local in ["192.0.2.1:0", "192.0.2.1:4711", "[2001:db8::1]:0"] {
        let outcome = network.open_address(local.parse().unwrap()).err();
        assert_eq!(outcome, Some(NetError::AddressNotAvailable), "{local}");
    }
}

#[test]
fn offers_are_reported_and_taken_in_order() {
    let world = World::loopback();
    let address = world.open("127.0.0.1:0");
    assert!(matches!(address.accept(), Accepted::NotListening));
    address.listen(8, OFFERS).unwrap();
    assert!(matches!(address.accept(), Accepted::WouldBlock));
    let visitors: Vec<_> = (0..5).map(|_| TcpStream::connect(address.local()).unwrap()).collect();
    world.until("offers", || world.seen(OFFERS).contains(Readiness::READABLE).then_some(()));
    for visitor in &visitors {
        let connection = world.accept(&address);
        assert_eq!(connection.remote(), visitor.local_addr().unwrap());
        assert_eq!(connection.local().unwrap(), address.local());
    }
    assert!(matches!(address.accept(), Accepted::WouldBlock));
}

#[test]
fn each_offer_after_the_queue_was_drained_is_reported_again() {
    let world = World::loopback();
    let address = world.open("127.0.0.1:0");
    address.listen(8, OFFERS).unwrap();
    for _ in 0..50 {
        let visitor = TcpStream::connect(address.local()).unwrap();
        world.until("offer", || world.seen(OFFERS).contains(Readiness::READABLE).then_some(()));
        drop(world.accept(&address));
        assert!(matches!(address.accept(), Accepted::WouldBlock));
        world.forget(OFFERS);
        assert_eq!(end_of(&visitor), End::Orderly(0));
    }
}

#[test]
fn refused_offer_is_reset() {
    let world = World::loopback();
    let address = world.open("127.0.0.1:0");
    address.listen(1, OFFERS).unwrap();
    let visitor = TcpStream::connect(address.local()).unwrap();
    world.accept(&address).abort();
    assert_eq!(end_of(&visitor), End::Reset(0));
}

#[test]
fn withdrawn_listener_refuses_offers_waiting_and_coming_and_can_come_back() {
    let world = World::loopback();
    let address = world.open("127.0.0.1:0");
    address.listen(4, OFFERS).unwrap();
    let waiting = TcpStream::connect(address.local()).unwrap();
    address.stop_listening();
    assert!(matches!(address.accept(), Accepted::NotListening));
    assert_eq!(end_of(&waiting), End::Reset(0));
    assert_eq!(TcpStream::connect(address.local()).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);

    let port = address.local().port();
    address.listen(4, OFFERS).unwrap();
    assert_eq!(address.local().port(), port);
    let visitor = TcpStream::connect(address.local()).unwrap();
    assert_eq!(world.accept(&address).remote(), visitor.local_addr().unwrap());
}

#[test]
fn dropped_address_refuses_offers_and_leaves_accepted_connections_alone() {
    let world = World::loopback();
    let address = world.open("127.0.0.1:0");
    address.listen(4, OFFERS).unwrap();
    let taken = TcpStream::connect(address.local()).unwrap();
    let connection = world.accept(&address);
    let waiting = TcpStream::connect(address.local()).unwrap();
    drop(address);
    assert_eq!(end_of(&waiting), End::Reset(0));
    world.send_all(&connection, b"alive");
    drop(connection);
    assert_eq!(end_of(&taken), End::Orderly(5));
}

#[test]
fn wildcard_under_loopback_listens_on_the_loopback_address_of_its_family() {
    let world = World::loopback();
    for (wildcard, loopback) in [("0.0.0.0:0", "127.0.0.1"), ("[::]:0", "::1")] {
        let address = world.open(wildcard);
        address.listen(1, OFFERS).unwrap();
        let port = address.local().port();
        let visitor = TcpStream::connect((loopback, port)).unwrap();
        let connection = world.accept(&address);
        assert_eq!(connection.local().unwrap(), visitor.peer_addr().unwrap());
    }
}

#[test]
fn wildcards_of_both_families_can_have_one_port() {
    let world = World::loopback();
    let four = world.open("0.0.0.0:0");
    let port = four.pin().unwrap().port();
    let six = world.open(&format!("[::]:{port}"));
    four.listen(1, OFFERS).unwrap();
    six.listen(1, OFFERS).unwrap();
}
