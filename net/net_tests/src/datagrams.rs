//! Datagrams.

use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use net_api::{DatagramAddress, DatagramOption, DatagramReceived, DatagramSent, Interface, Key, Membership, Sharing};

use crate::Case;
use crate::world::{Report, Side, World, words};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "datagrams",
        run: boundaries,
        expected: &[
            "has a port: true",
            "\"one\" of 3, Unicast",
            "\"\" of 0, Unicast",
            "\"th\" of 5, Unicast",
            "nothing",
        ],
    },
    Case {
        name: "length of datagrams",
        run: length,
        expected: &["longest: Taken", "arrives: true", "longer: Failed(TooLong)", "not reported twice: nothing"],
    },
    Case {
        name: "datagram to nobody",
        run: to_nobody,
        expected: &[
            "Taken",
            "undelivered to where it was sent: Refused",
            "nothing",
            "then another arrives: \"x\" of 1, Unicast",
        ],
    },
    Case {
        name: "datagram ports",
        run: ports,
        expected: &[
            "exclusive: the local address is in use",
            "shared beside it: the local address is in use",
            "both shared: done",
        ],
    },
    Case {
        name: "broadcast",
        run: broadcast,
        expected: &["Taken", "\"all\" of 3, Broadcast", "turned off: Failed(AddressNotAvailable)"],
    },
    Case {
        name: "group",
        run: group,
        expected: &[
            "join: done",
            "join again: the address is not available",
            "\"group\" of 5, Multicast",
            "leave: done",
            "leave again: the address is not available",
            "no group: the address is not available",
        ],
    },
    Case {
        name: "no address to send to",
        run: no_address,
        expected: &[
            "unspecified: Failed(AddressNotAvailable)",
            "port 0: Failed(AddressNotAvailable)",
            "another family: Failed(AddressNotAvailable)",
        ],
    },
];

fn open(side: &Side) -> Arc<dyn DatagramAddress> {
    let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
    let address = side.network.open_datagram_address(any, Sharing::Exclusive);
    let address = address.unwrap_or_else(|error| panic!("open: {error}"));
    address.watch(Key(50)).unwrap_or_else(|error| panic!("watch: {error}"));
    address
}

fn send(address: &Arc<dyn DatagramAddress>, bytes: &[u8], remote: SocketAddr) -> DatagramSent {
    address.send_to(&[IoSlice::new(bytes)], remote)
}

#[track_caller]
fn receive(world: &World, address: &Arc<dyn DatagramAddress>, room: usize) -> (DatagramReceived, Vec<u8>) {
    let mut bytes = vec![0; room];
    let outcome = world.until("datagram", || match address.receive_from(&mut [IoSliceMut::new(&mut bytes)]) {
        DatagramReceived::WouldBlock => None,
        other => Some(other),
    });
    (outcome, bytes)
}

/// The next datagram in words.
#[track_caller]
fn next(world: &World, address: &Arc<dyn DatagramAddress>, room: usize) -> String {
    match receive(world, address, room) {
        (DatagramReceived::Got(arrival), bytes) => {
            let text = String::from_utf8_lossy(&bytes[..arrival.stored]).into_owned();
            format!("{text:?} of {}, {:?}", arrival.length, arrival.cast)
        }
        (other, _) => format!("{other:?}"),
    }
}

fn now(address: &Arc<dyn DatagramAddress>) -> &'static str {
    match address.receive_from(&mut [IoSliceMut::new(&mut [0; 8])]) {
        DatagramReceived::WouldBlock => "nothing",
        _ => "something",
    }
}

fn boundaries(world: &mut World, report: &mut Report) {
    let (near, far) = (open(&world.near), open(&world.far));
    report.note(format!("has a port: {}", far.local().port() != 0));
    let remote = world.far.at(far.local().port());
    for text in ["one", "", "three"] {
        assert_eq!(send(&near, text.as_bytes(), remote), DatagramSent::Taken);
    }
    for room in [8, 8, 2] {
        report.note(next(world, &far, room));
    }
    report.note(now(&far));
}

fn length(world: &mut World, report: &mut Report) {
    let (near, far) = (open(&world.near), open(&world.far));
    let remote = world.far.at(far.local().port());
    let longest = vec![7; world.near.network.capabilities().datagram_bytes_max as usize];
    report.note(format!("longest: {:?}", send(&near, &longest, remote)));
    report.note(format!("arrives: {}", receive(world, &far, 65_536).1.starts_with(&longest)));
    report.note(format!("longer: {:?}", send(&near, &vec![7; longest.len() + 1], remote)));
    report.note(format!("not reported twice: {}", now(&near)));
}

fn to_nobody(world: &mut World, report: &mut Report) {
    let (near, far) = (open(&world.near), open(&world.far));
    let gone = open(&world.far);
    let nobody = world.far.at(gone.local().port());
    drop(gone);
    report.note(format!("{:?}", send(&near, b"lost", nobody)));
    match receive(world, &near, 8).0 {
        DatagramReceived::Undelivered { remote, error } if remote == nobody => {
            report.note(format!("undelivered to where it was sent: {error:?}"));
        }
        other => report.note(format!("{other:?}")),
    }
    report.note(now(&near));
    send(&near, b"x", world.far.at(far.local().port()));
    report.note(format!("then another arrives: {}", next(world, &far, 8)));
}

fn ports(world: &mut World, report: &mut Report) {
    let open = |local, sharing| world.near.network.open_datagram_address(local, sharing);
    let at = world.near.at(0);
    let alone = open(at, Sharing::Exclusive).unwrap_or_else(|error| panic!("open: {error}"));
    report.note(format!("exclusive: {}", words(&open(alone.local(), Sharing::Exclusive))));
    report.note(format!("shared beside it: {}", words(&open(alone.local(), Sharing::Shared))));
    let shared = open(at, Sharing::Shared).unwrap_or_else(|error| panic!("open: {error}"));
    report.note(format!("both shared: {}", words(&open(shared.local(), Sharing::Shared))));
}

fn broadcast(world: &mut World, report: &mut Report) {
    let address = open(&world.near);
    let IpAddr::V4(own) = world.near.ip else { panic!("an IPv4 address") };
    let bits = if own.is_loopback() { 0x00ff_ffff } else { 0xff };
    let all = SocketAddr::new(Ipv4Addr::from_bits(own.to_bits() | bits).into(), address.local().port());
    report.note(format!("{:?}", send(&address, b"all", all)));
    report.note(next(world, &address, 8));
    address.set(DatagramOption::Broadcast(false)).unwrap_or_else(|error| panic!("option: {error}"));
    report.note(format!("turned off: {:?}", send(&address, b"all", all)));
}

fn group(world: &mut World, report: &mut Report) {
    let address = open(&world.near);
    let membership = |group: [u8; 4]| Membership { group: group.into(), interface: Interface::Routed, source: None };
    let ours = membership([239, 7, 7, 7]);
    report.note(format!("join: {}", words(&address.set(DatagramOption::Join(ours)))));
    report.note(format!("join again: {}", words(&address.set(DatagramOption::Join(ours)))));
    send(&address, b"group", SocketAddr::new(ours.group, address.local().port()));
    report.note(next(world, &address, 8));
    report.note(format!("leave: {}", words(&address.set(DatagramOption::Leave(ours)))));
    report.note(format!("leave again: {}", words(&address.set(DatagramOption::Leave(ours)))));
    let none = DatagramOption::Join(membership([10, 0, 0, 1]));
    report.note(format!("no group: {}", words(&address.set(none))));
}

fn no_address(world: &mut World, report: &mut Report) {
    let address = open(&world.near);
    for (what, remote) in [("unspecified", "0.0.0.0:9"), ("port 0", "127.0.0.1:0"), ("another family", "[::1]:9")] {
        let remote = remote.parse().unwrap_or_else(|error| panic!("{remote}: {error}"));
        report.note(format!("{what}: {:?}", send(&address, b"x", remote)));
    }
}
