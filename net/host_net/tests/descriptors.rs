//! What happens when descriptors run out. Alone in its process: the limit is the process's.

mod common;

use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};

use common::{End, World, end_of};
use net_api::{Accepted, Key, NetError, Readiness};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

const OFFERS: Key = Key(100);

/// Opens descriptors until there is none left.
fn take_all() -> Vec<OwnedFd> {
    let mut taken = Vec::new();
    while let Ok(one) = std::io::stdin().as_fd().try_clone_to_owned() {
        taken.push(one);
    }
    taken
}

#[test]
fn exhausted_descriptors_refuse_offers_without_spinning_and_recover() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 64.min(hard), hard).unwrap();

    let world = World::loopback();
    let address = world.open("127.0.0.1:0");
    address.listen(8, OFFERS).unwrap();
    let visitors: Vec<_> = (0..3).map(|_| TcpStream::connect(address.local()).unwrap()).collect();
    let mut taken = take_all();

    // Each offer is refused with the spare descriptor, once, and its visitor hears of it.
    for visitor in &visitors {
        assert!(matches!(address.accept(), Accepted::Failed(NetError::OutOfDescriptors)));
        assert_eq!(end_of(visitor), End::Reset(0));
    }
    assert!(matches!(address.accept(), Accepted::WouldBlock));
    let floating = world.open("0.0.0.0:0");
    assert_eq!(floating.connect(address.local(), Key(1)).err(), Some(NetError::OutOfDescriptors));
    assert_eq!(floating.pin(), Err(NetError::OutOfDescriptors));

    // One descriptor more, and the offer that comes with it is taken.
    taken.pop();
    taken.pop();
    let visitor = TcpStream::connect(address.local()).unwrap();
    let connection = world.accept(&address);
    assert_eq!(connection.remote(), visitor.local_addr().unwrap());

    // Everything is given back: nothing was lost on the way.
    drop(taken);
    let more: Vec<_> = (0..8).map(|_| TcpStream::connect(address.local()).unwrap()).collect();
    world.until("offers", || world.seen(OFFERS).contains(Readiness::READABLE).then_some(()));
    for visitor in &more {
        assert_eq!(world.accept(&address).remote(), visitor.local_addr().unwrap());
    }
}
