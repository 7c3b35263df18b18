//! Chapter 6.3: the last handle of an endpoint.

use nt_abi::NtStatus;
use nt_abi::tdi::{TdiEvent, receive_flags};
use proves::proves;
use tdi_core::{NetworkEvent, RemoteFilter, StateName};

use crate::world::{Answer, RELEASE, WAIT, Welcome, World, remote};

#[proves("C-157", "C-526")]
#[test]
fn cleanup_ends_every_pending_request_with_cancelled() {
    let mut world = World::connected();
    world.closes_window();
    world.send(b"queued");
    world.receive(10);
    world.receive_with(10, receive_flags::EXPEDITED);
    world.disconnect(WAIT);
    world.disconnect(RELEASE);
    world.cleanup();
    world
        .expect("RST send=CANCELLED receive=CANCELLED receive#2=CANCELLED disconnect=CANCELLED disconnect#2=CANCELLED");
    assert!(world.endpoint().is_quiet());
}

#[proves("C-157", "C-570")]
#[test]
fn cleanup_ends_what_is_being_set_up() {
    let cases = [
        (StateName::Connecting, "RST connect=CANCELLED"),
        (StateName::Listening, "listen=CANCELLED deaf"),
        (StateName::Offered, "RST"),
        (StateName::Accepting, "RST listen=CANCELLED"),
    ];
    for (state, story) in cases {
        let mut world = World::in_state(state);
        world.cleanup();
        world.expect(story);
        assert_eq!((world.state(), world.addresses[0].endpoints().count()), (StateName::CleanedUp, 0));
    }
}

#[proves("C-155", "C-166", "C-171")]
#[test]
fn cleanup_of_connected_endpoint_sends_fin_and_completed_sends_arrive() {
    let mut world = World::connected();
    world.send(b"last words");
    world.cleanup();
    world.expect("send=SUCCESS/10 close");
    assert_eq!(world.sent(), b"last words");
    assert_eq!(world.addresses[0].endpoints().count(), 0);
    assert_eq!(world.endpoint().poll_output(), None);
}

#[proves("C-155")]
#[test]
fn cleanup_with_a_pending_send_sends_rst() {
    let mut world = World::connected();
    world.closes_window();
    world.send(b"never");
    world.cleanup();
    world.expect("RST send=CANCELLED");
}

#[proves("C-155")]
#[test]
fn cleanup_with_data_that_the_client_refused_sends_rst() {
    let mut world = World::with_handlers();
    world.answers.push_back(Answer::rejects());
    world.peer_sends(b"unwanted");
    world.cleanup();
    world.expect("<unwanted> RST");
}

#[proves("C-155")]
#[test]
fn cleanup_with_urgent_data_that_nobody_took_sends_rst() {
    let mut world = World::connected();
    world.peer_sends_urgent(b"!");
    world.cleanup();
    world.expect("RST");
}

#[test]
fn cleanup_after_both_or_one_release_sends_fin() {
    for state in [StateName::LocallyReleased, StateName::RemotelyReleased] {
        let mut world = World::in_state(state);
        world.cleanup();
        world.expect(if state == StateName::LocallyReleased { "close disconnect=CANCELLED" } else { "close" });
    }
}

#[proves("C-164", "C-163")]
#[test]
fn no_handler_is_called_for_the_clients_own_close() {
    let mut world = World::with_handlers();
    let number = world.endpoint().connection().unwrap();
    world.cleanup();
    let now = world.now;
    world.endpoint().handle_network(now, number, NetworkEvent::PeerReleased);
    world.endpoint().handle_expedited(now, number, b"!");
    world.run();
    world.expect("close");
}

#[proves("C-163")]
#[test]
fn an_indication_that_waits_for_its_turn_is_not_made_after_the_cleanup() {
    let mut world = World::with_handlers();
    world.receive(10);
    world.during("receive=", |world| {
        world.breaks(tdi_core::NetworkError::Reset);
        world.cleanup();
    });
    world.peer_sends(b"x");
    world.expect("receive=SUCCESS/1 RST");
}

#[proves("C-165")]
#[test]
fn requests_after_the_cleanup_are_cancelled() {
    let mut world = World::in_state(StateName::CleanedUp);
    for id in [world.connect(), world.listen(), world.accept(), world.send(b"x"), world.receive(1), world.disconnect(0)]
    {
        assert_eq!(world.status(id), Some(NtStatus::CANCELLED));
    }
}

#[proves("C-567")]
#[test]
fn a_second_cleanup_does_nothing() {
    for state in StateName::ALL {
        let mut world = World::in_state(state);
        world.cleanup();
        world.skip();
        world.cleanup();
        world.expect("");
        assert!(world.endpoint().is_quiet());
    }
}

#[proves("C-160", "C-568")]
#[test]
fn the_cleanup_is_not_over_before_the_routines_it_caused_have_returned() {
    let mut world = World::connected();
    world.receive(10);
    world.receive(10);
    world.during("receive#2", |world| assert!(!world.endpoint().is_quiet(), "a routine runs"));
    world.during("receive=", |world| assert!(!world.endpoint().is_quiet(), "one runs, one waits"));
    world.cleanup();
    world.expect("close receive=CANCELLED receive#2=CANCELLED");
    assert!(world.endpoint().is_quiet());
}

#[proves("C-569")]
#[test]
fn an_endpoint_closed_inside_its_own_handler_is_quiet_when_the_handler_has_returned() {
    let mut world = World::with_handlers();
    world.during("gone:RELEASE", |world| {
        world.cleanup();
        assert!(world.endpoint().is_indicating() && !world.endpoint().is_quiet());
    });
    world.peer_releases();
    world.expect("gone:RELEASE close");
    assert!(world.endpoint().is_quiet());
}

#[test]
fn whether_data_was_taken_shows_when_the_handler_that_runs_at_the_cleanup_returns() {
    for (answer, end) in [(Answer::takes(4), "close"), (Answer::takes(3), "RST"), (Answer::rejects(), "RST")] {
        let mut world = World::with_handlers();
        world.answers.push_back(answer);
        world.during("<data>", |world| {
            world.cleanup();
            world.tell("...");
            assert!(!world.endpoint().is_quiet());
        });
        world.peer_sends(b"data");
        world.expect(&format!("<data> ... {end}"));
        assert!(world.endpoint().is_quiet());
    }
}

#[proves("C-222")]
#[test]
fn an_irp_returned_by_a_handler_after_the_cleanup_is_cancelled() {
    let mut world = World::with_handlers();
    world.answers.push_back(Answer::takes_and_returns(0, 100));
    world.during("<data>", World::cleanup);
    world.peer_sends(b"data");
    world.expect("<data> RST returned=CANCELLED");
    assert!(world.endpoint().is_quiet());
}

#[proves("C-222", "C-570")]
#[test]
fn an_accept_irp_for_a_cleaned_up_endpoint_is_cancelled_and_the_offer_refused() {
    let mut world = World::associated();
    world.register(TdiEvent::CONNECT);
    world.welcomes.push_back(Welcome::With(0));
    world.during("offered", World::cleanup);
    world.offer(remote());
    world.expect("listening offered acceptirp=CANCELLED refuse");
}

#[proves("C-527")]
#[test]
fn a_receive_that_holds_bytes_at_the_cleanup_reports_them() {
    let mut world = World::connected();
    world.receive_with(10, receive_flags::NO_PUSH);
    world.peer_sends(b"some");
    world.cleanup();
    world.expect("close receive=SUCCESS/4");
}

#[test]
fn an_unloading_client_hears_nothing_afterwards() {
    let mut world = World::with_handlers();
    world.receive(10);
    for event in [TdiEvent::DISCONNECT, TdiEvent::RECEIVE, TdiEvent::RECEIVE_EXPEDITED] {
        world.deregister(event);
    }
    world.disconnect(crate::world::ABORT);
    world.cleanup();
    world.close_address(0);
    world.expect("RST receive=CONNECTION_ABORTED disconnect=SUCCESS");
    assert!(world.endpoint().is_quiet() && world.addresses[0].is_finished());
}

#[test]
fn a_listen_that_is_cleaned_up_gets_no_offer() {
    let mut world = World::associated();
    world.open_endpoint();
    world.associate(1, 0);
    world.listen();
    world.listen_with(1, RemoteFilter::ANY, false);
    world.cleanup();
    world.offer(remote());
    world.expect("listening listen=CANCELLED accept listen#2=SUCCESS");
}
