//! Chapter 9.1: TDI_CONNECT.

use nt_abi::NtStatus;
use nt_abi::tdi::TdiEvent;
use proves::proves;
use tdi_core::time::SECOND;
use tdi_core::{Instant, NetworkError, NetworkEvent, StateName};

use crate::world::{ABORT, World, remote};

#[proves("C-262", "C-279", "C-281")]
#[test]
fn connect_completes_when_the_handshake_is_done() {
    let mut world = World::associated();
    let connect = world.connect();
    world.expect("SYN");
    assert_eq!(world.state(), StateName::Connecting);
    world.handshake(0);
    world.expect("connect=SUCCESS");
    assert_eq!(world.state(), StateName::Established);
    assert_eq!(world.requests[&connect].completions, [(NtStatus::SUCCESS, 0)]);
    world.send(b"x");
    world.expect("send=SUCCESS/1");
}

#[proves("C-277")]
#[test]
fn a_successful_connect_tells_the_peer() {
    let mut world = World::associated();
    let connect = world.connect();
    world.handshake(0);
    assert_eq!(world.requests[&connect].peer, Some(remote()));
}

#[test]
fn the_remote_address_is_known_while_there_is_a_connection() {
    let mut world = World::associated();
    world.connect();
    world.handshake(0);
    assert_eq!(world.endpoint().remote(), Some(remote()));
    world.disconnect(ABORT);
    assert_eq!(world.endpoint().remote(), None);
}

#[proves("C-263", "C-266")]
#[test]
fn connect_on_an_active_endpoint_disturbs_nothing() {
    for state in StateName::ALL.into_iter().filter(|state| state.is_active()) {
        let mut world = World::in_state(state);
        let connect = world.connect();
        let label = world.requests[&connect].label.clone();
        world.expect(&format!("{label}=INVALID_CONNECTION"));
        assert_eq!(world.state(), state);
    }
}

#[proves("C-265")]
#[test]
fn connect_without_association_is_refused() {
    let mut world = World::new();
    world.connect();
    world.expect("connect=INVALID_CONNECTION");
}

#[proves("C-264", "C-268", "C-269", "C-284")]
#[test]
fn each_reason_for_a_failed_connect_has_its_status_and_no_handler_is_called() {
    let cases = [
        (NetworkError::Refused, NtStatus::CONNECTION_REFUSED),
        (NetworkError::Reset, NtStatus::CONNECTION_REFUSED),
        (NetworkError::TimedOut, NtStatus::IO_TIMEOUT),
        (NetworkError::NetworkUnreachable, NtStatus::NETWORK_UNREACHABLE),
        (NetworkError::HostUnreachable, NtStatus::HOST_UNREACHABLE),
        (NetworkError::ProtocolUnreachable, NtStatus::PROTOCOL_UNREACHABLE),
        (NetworkError::PortUnreachable, NtStatus::PORT_UNREACHABLE),
        (NetworkError::AddressInUse, NtStatus::ADDRESS_ALREADY_EXISTS),
        (NetworkError::AddressNotAvailable, NtStatus::INVALID_ADDRESS),
        (NetworkError::AccessDenied, NtStatus::ACCESS_DENIED),
        (NetworkError::NoResources, NtStatus::INSUFFICIENT_RESOURCES),
        (NetworkError::Aborted, NtStatus::CONNECTION_ABORTED),
    ];
    for (error, status) in cases {
        let mut world = World::associated();
        world.register(TdiEvent::DISCONNECT);
        world.connect();
        world.skip();
        world.breaks(error);
        world.expect(&format!("RST connect={status:?}"));
        assert_eq!(world.state(), StateName::Associated);
    }
}

#[proves("C-271", "C-272")]
#[test]
fn a_connect_gives_up_at_its_own_time() {
    let mut world = World::associated();
    world.connect_within(3 * SECOND);
    assert_eq!(world.endpoint().poll_timeout(), Some(Instant(1000).after(3 * SECOND)));
    world.wait(3 * SECOND - 1);
    world.expect("SYN");
    world.wait(1);
    world.expect("RST connect=IO_TIMEOUT");
    assert_eq!((world.state(), world.endpoint().poll_timeout()), (StateName::Associated, None));
}

#[proves("C-273")]
#[test]
fn a_connect_without_a_limit_gives_up_after_21_seconds() {
    let mut world = World::associated();
    world.connect();
    world.wait_seconds(20);
    world.expect("SYN");
    world.wait_seconds(1);
    world.expect("RST connect=IO_TIMEOUT");
}

#[proves("C-282")]
#[test]
fn the_connecting_side_has_no_connect_handler_called() {
    let mut world = World::associated();
    world.register(TdiEvent::CONNECT);
    world.connect();
    world.handshake(0);
    world.expect("listening SYN connect=SUCCESS");
}

#[proves("C-580")]
#[test]
fn no_handler_is_called_before_the_connect_routine_has_returned() {
    let mut world = World::associated();
    world.register(TdiEvent::RECEIVE);
    world.register(TdiEvent::DISCONNECT);
    world.connect();
    world.sites[0].wire.inbound.extend(b"greeting");
    world.sites[0].wire.has_ended = true;
    world.during("connect=", |world| {
        world.network(0, NetworkEvent::PeerReleased);
        world.tell("routine-returns");
    });
    world.handshake(0);
    world.expect("SYN connect=SUCCESS routine-returns <greeting> gone:RELEASE");
}

#[proves("C-522", "C-350")]
#[test]
fn any_number_of_connections_follow_one_another() {
    let mut world = World::associated();
    for round in 0..50 {
        world.make_connection(0);
        world.send(b"ping");
        world.receive(10);
        world.peer_sends(b"pong");
        assert_eq!(world.sent(), b"ping");
        if round % 2 == 0 {
            world.disconnect(ABORT);
        } else {
            world.peer_releases();
            world.disconnect(0);
        }
        assert_eq!(world.state(), StateName::Associated);
    }
}

#[test]
fn events_of_an_earlier_connection_are_ignored() {
    let mut world = World::connected();
    let old = world.endpoint().connection().unwrap();
    world.disconnect(ABORT);
    world.connect();
    world.skip();
    let now = world.now;
    for event in [
        NetworkEvent::Connected { remote: remote() },
        NetworkEvent::Broken(NetworkError::Reset),
        NetworkEvent::PeerReleased,
    ] {
        world.endpoint().handle_network(now, old, event);
        world.run();
    }
    world.endpoint().handle_expedited(now, old, b"late");
    world.expect("");
    assert_eq!(world.state(), StateName::Connecting);
}
