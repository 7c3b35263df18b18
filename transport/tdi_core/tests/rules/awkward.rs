//! A caller or a network that says something odd: nothing is lost, nothing is counted twice.

use nt_abi::tdi::TdiEvent;
use tdi_core::table::leads;
use tdi_core::{ConnectionHandlers, Instant, NetworkCommand, Outcome, Output, Progress, Request, StateName};

use crate::world::{World, handler};

const MORE_THAN_ASKED: Progress = Progress::Moved { count: 1000, exhausted: false };

/// Hands in a request and gives back the transfer that follows.
fn begin(world: &mut World, kind: &'static str, request: Request) -> (tdi_core::RequestId, NetworkCommand) {
    let id = world.issue(0, kind, vec![0; 3]);
    let now = world.now;
    assert_eq!(world.endpoint().handle_request(now, id, request), Outcome::Taken);
    match world.endpoint().poll_output() {
        Some(Output::Network(command)) => (id, command),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_network_that_claims_to_have_sent_more_than_asked_has_sent_what_was_asked() {
    let mut world = World::connected();
    let (id, command) = begin(&mut world, "send", Request::Send { length: 3, flags: 0 });
    assert_eq!(command, NetworkCommand::Transmit { id, offset: 0, length: 3, expedited: false });
    let now = world.now;
    world.endpoint().handle_sent(now, id, MORE_THAN_ASKED);
    world.run();
    world.expect("send=SUCCESS/3");
}

#[test]
fn a_network_that_claims_to_have_sent_more_than_was_left_has_sent_what_was_left() {
    let mut world = World::connected();
    let (id, _) = begin(&mut world, "send", Request::Send { length: 3, flags: 0 });
    let now = world.now;
    world.endpoint().handle_sent(now, id, Progress::Moved { count: 1, exhausted: false });
    let rest = NetworkCommand::Transmit { id, offset: 1, length: 2, expedited: false };
    assert_eq!(world.endpoint().poll_output(), Some(Output::Network(rest)));
    world.endpoint().handle_sent(now, id, MORE_THAN_ASKED);
    world.run();
    world.expect("send=SUCCESS/3");
}

#[test]
fn a_network_that_claims_to_have_read_more_than_asked_has_read_what_was_asked() {
    let mut world = World::connected();
    let (id, command) = begin(&mut world, "receive", Request::Receive { length: 3, flags: 0 });
    assert_eq!(command, NetworkCommand::Fill { id, offset: 0, length: 3 });
    let now = world.now;
    world.endpoint().handle_filled(now, id, MORE_THAN_ASKED);
    world.run();
    world.expect("receive=SUCCESS/3");
}

#[test]
fn an_answer_that_names_no_request_moves_nothing() {
    let mut world = World::connected();
    let stranger = world.issue(0, "stranger", Vec::new());
    let (send, _) = begin(&mut world, "send", Request::Send { length: 3, flags: 0 });
    let now = world.now;
    world.endpoint().handle_sent(now, stranger, MORE_THAN_ASKED);
    world.endpoint().handle_copied(now, send);
    world.endpoint().handle_filled(now, stranger, MORE_THAN_ASKED);
    assert_eq!(world.status(send), None);
    world.run();
    world.expect("send=SUCCESS/3");
    assert_eq!(world.sent(), [0; 3]);
}

#[test]
fn a_sender_that_is_told_of_an_end_waits_for_room() {
    let mut world = World::connected();
    let (send, _) = begin(&mut world, "send", Request::Send { length: 3, flags: 0 });
    let now = world.now;
    world.endpoint().handle_sent(now, send, Progress::Ended);
    world.run();
    world.expect("");
    world.opens_window(0);
    world.expect("send=SUCCESS/3");
}

#[test]
fn only_the_delivery_of_the_completion_that_is_out_ends_the_clients_turn() {
    let mut world = World::connected();
    world.during("send=", |world| {
        let second = world.send(b"y");
        world.endpoint().handle_completion_delivered(second);
        assert_eq!(world.endpoint().poll_output(), None);
        assert!(!world.endpoint().is_quiet());
    });
    world.send(b"x");
    world.expect("send=SUCCESS/1 send#2=SUCCESS/1");
}

#[test]
fn handlers_told_after_the_address_was_closed_are_not_called() {
    let mut world = World::connected();
    world.close_address(0);
    let late = ConnectionHandlers { receive: handler(TdiEvent::RECEIVE), ..ConnectionHandlers::default() };
    let address = world.addresses[0].id();
    world.endpoint().handle_handlers(address, late);
    world.peer_sends(b"data");
    world.expect("");
}

#[test]
fn a_second_time_limit_does_not_come_early() {
    let mut world = World::connected();
    world.disconnect_within(crate::world::WAIT, 10);
    world.disconnect_within(crate::world::WAIT, 5);
    let start = world.now;
    assert_eq!(world.endpoint().poll_timeout(), Some(start.after(5)));
    world.wait(5);
    assert_eq!(world.endpoint().poll_timeout(), Some(start.after(10)));
    world.expect("disconnect#2=IO_TIMEOUT");
    world.endpoint().handle_timeout(Instant(0));
    world.run();
    world.expect("");
}

/// The check of every step in debug builds is only worth something if it knows what is wrong.
#[test]
fn the_tables_know_no_way_that_the_reference_does_not() {
    use StateName::*;
    let ways = [
        (Unassociated, "AZ"),
        (Associated, "UCLPZ"),
        (Connecting, "EAZ"),
        (Listening, "POAZ"),
        (Offered, "PAZ"),
        (Accepting, "EAZ"),
        (Established, "RWAZ"),
        (LocallyReleased, "AZ"),
        (RemotelyReleased, "RAZ"),
        (CleanedUp, ""),
    ];
    for (from, to) in ways {
        for state in StateName::ALL {
            let expected = from == state || to.contains(state.letter());
            assert_eq!(leads(from, state), expected, "{from:?} to {state:?}");
        }
    }
}
