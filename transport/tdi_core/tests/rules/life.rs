//! The ordinary life of a connection endpoint.

use crate::world::{RELEASE, World};
use nt_abi::NtStatus;
use tdi_core::StateName;

#[test]
fn a_client_connects_sends_receives_and_closes() {
    let mut world = World::associated();
    world.connect();
    world.expect("SYN");
    world.handshake(0);
    world.expect("connect=SUCCESS");
    world.send(b"GET /");
    assert_eq!(world.sent(), b"GET /");
    let receive = world.receive(100);
    world.expect("send=SUCCESS/5");
    world.peer_sends(b"hello");
    world.expect("receive=SUCCESS/5");
    assert_eq!(&world.bytes(receive)[..5], b"hello");
    world.receive(100);
    world.peer_releases();
    world.expect("receive#2=SUCCESS");
    world.disconnect(RELEASE);
    world.expect("close disconnect=SUCCESS");
    assert_eq!(world.disassociate(0), NtStatus::SUCCESS);
    world.cleanup();
    world.expect("");
    assert_eq!(world.state(), StateName::CleanedUp);
    assert!(world.endpoint().is_quiet());
}
