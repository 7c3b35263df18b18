//! Chapter 7.4: cancellation.

use nt_abi::NtStatus;
use nt_abi::tdi::{TdiEvent, receive_flags};
use proves::proves;
use tdi_core::time::SECOND;
use tdi_core::{Instant, RemoteFilter, StateName};

use crate::world::{RELEASE, WAIT, World, remote};

#[proves("C-228", "C-285", "C-577")]
#[test]
fn cancelling_a_connect_stops_the_attempt_and_leaves_the_endpoint_idle() {
    let mut world = World::associated();
    let connect = world.connect();
    assert!(world.cancel(connect));
    world.expect("SYN RST connect=CANCELLED");
    assert_eq!((world.state(), world.endpoint().poll_timeout()), (StateName::Associated, None));
    // The handshake that won on the wire finds nobody.
    world.handshake(0);
    world.expect("");
}

#[proves("C-229")]
#[test]
fn cancelling_a_listen_leaves_the_others_waiting() {
    let mut world = World::associated();
    for site in 1..3 {
        world.open_endpoint();
        world.associate(site, 0);
    }
    let listens: Vec<_> = (0..3).map(|site| world.listen_with(site, RemoteFilter::ANY, false)).collect();
    assert!(world.cancel(listens[0]));
    assert!(world.cancel(listens[1]));
    world.offer(remote());
    world.expect("listening listen=CANCELLED listen#2=CANCELLED accept listen#3=SUCCESS");
    assert_eq!(world.state(), StateName::Associated);
    assert_eq!(world.sites[2].endpoint.state(), StateName::Established);
}

#[proves("C-577")]
#[test]
fn cancelling_an_accept_ends_the_connection_for_the_peer() {
    let mut world = World::in_state(StateName::Accepting);
    let listen = *world.requests.keys().next().unwrap();
    assert!(world.cancel(listen));
    world.expect("RST listen=CANCELLED");
    assert_eq!(world.state(), StateName::Associated);
}

#[proves("C-224", "C-576")]
#[test]
fn every_pending_request_completes_at_once_when_cancelled() {
    let pending: [fn(&mut World) -> tdi_core::RequestId; 6] = [
        |world| world.receive(10),
        |world| world.receive_with(10, receive_flags::EXPEDITED),
        |world| world.disconnect(RELEASE),
        |world| world.disconnect(WAIT),
        |world| {
            world.closes_window();
            world.send(b"stuck")
        },
        |world| {
            world.closes_window();
            world.send_with(b"stuck", nt_abi::tdi::send_flags::EXPEDITED)
        },
    ];
    for issue in pending {
        let mut world = World::connected();
        let id = issue(&mut world);
        assert_eq!(world.status(id), None);
        assert!(world.cancel(id));
        assert_eq!(world.requests[&id].completions, [(NtStatus::CANCELLED, 0)]);
        assert!(!world.cancel(id), "the core has it no longer");
    }
}

#[proves("C-226")]
#[test]
fn a_cancel_that_comes_too_late_changes_nothing() {
    let mut world = World::connected();
    let receive = world.receive(10);
    world.during("receive=", move |world| assert!(!world.cancel(receive)));
    world.peer_sends(b"won");
    world.expect("receive=SUCCESS/3");
    assert!(!world.cancel(receive));
    world.expect("");
}

#[proves("C-226")]
#[test]
fn a_completion_that_waits_for_its_turn_cannot_be_cancelled_any_more() {
    let mut world = World::connected();
    world.receive(10);
    world.during("receive=", |world| {
        let second = world.receive(10);
        world.peer_sends(b"two");
        assert!(!world.cancel(second));
        assert_eq!(world.status(second), None, "one client call at a time");
    });
    world.peer_sends(b"one");
    world.expect("receive=SUCCESS/3 receive#2=SUCCESS/3");
}

#[proves("C-230")]
#[test]
fn cancelling_a_release_stops_its_timer_but_not_the_release() {
    let mut world = World::connected();
    world.register(TdiEvent::DISCONNECT);
    let release = world.disconnect_within(RELEASE, SECOND);
    world.cancel(release);
    assert_eq!(world.endpoint().poll_timeout(), None);
    world.wait_seconds(2);
    world.expect("FIN disconnect=CANCELLED");
    assert_eq!(world.state(), StateName::LocallyReleased);
    world.peer_releases();
    world.expect("close gone:RELEASE");
    assert_eq!(world.state(), StateName::Associated);
}

#[proves("C-230")]
#[test]
fn cancelling_a_wait_stops_its_timer() {
    let mut world = World::connected();
    let wait = world.disconnect_within(WAIT, SECOND);
    assert_eq!(world.endpoint().poll_timeout(), Some(Instant(1000).after(SECOND)));
    world.cancel(wait);
    assert_eq!(world.endpoint().poll_timeout(), None);
    world.expect("disconnect=CANCELLED");
}

#[proves("C-578", "C-404")]
#[test]
fn a_cancelled_receive_has_consumed_nothing() {
    let mut world = World::connected();
    let receive = world.receive(10);
    world.cancel(receive);
    let next = world.receive(10);
    world.peer_sends(b"all");
    world.expect("receive=CANCELLED receive#2=SUCCESS/3");
    assert_eq!(&world.bytes(next)[..3], b"all");
}

#[proves("C-527", "C-578")]
#[test]
fn a_cancelled_receive_that_holds_bytes_reports_them() {
    let mut world = World::connected();
    let receive = world.receive_with(10, receive_flags::NO_PUSH);
    world.peer_sends(b"some");
    world.expect("");
    world.cancel(receive);
    world.expect("receive=SUCCESS/4");
    assert_eq!(world.state(), StateName::Established);
}

#[proves("C-579")]
#[test]
fn cancelling_a_partly_sent_send_ends_the_connection() {
    let mut world = World::connected();
    world.closes_window();
    let send = world.send(b"half and half");
    world.send(b"behind it");
    world.receive(10);
    world.opens_window(4);
    world.cancel(send);
    world.expect("RST send=CANCELLED send#2=CONNECTION_ABORTED receive=CONNECTION_ABORTED");
    assert_eq!((world.state(), world.sent()), (StateName::Associated, &b"half"[..]));
}

#[proves("C-579")]
#[test]
fn cancelling_a_send_of_which_nothing_was_sent_leaves_no_gap() {
    let mut world = World::connected();
    world.closes_window();
    world.send(b"one ");
    let second = world.send(b"two ");
    world.send(b"three");
    world.cancel(second);
    world.opens_window(100);
    world.expect("send#2=CANCELLED send=SUCCESS/4 send#3=SUCCESS/5");
    assert_eq!(world.sent(), b"one three");
}

#[test]
fn nothing_is_cancelled_in_the_idle_states_or_by_a_foreign_name() {
    for state in StateName::ALL {
        let mut world = World::in_state(state);
        let stranger = world.issue(0, "stranger", Vec::new());
        assert!(!world.cancel(stranger));
        assert_eq!(world.state(), state);
        world.expect("");
    }
}
