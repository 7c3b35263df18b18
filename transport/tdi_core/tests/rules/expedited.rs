//! Expedited data: C-384, C-391, C-491, C-492.

use nt_abi::tdi::{TdiEvent, receive_flags, send_flags};
use proves::proves;
use tdi_core::{Config, StateName};

use crate::world::{Answer, EXPEDITED, NORMAL, RELEASE, World};

#[proves("C-384")]
#[test]
fn receives_take_the_kinds_they_ask_for() {
    for (flags, kinds) in [(0, "ne"), (NORMAL | EXPEDITED, "ne"), (NORMAL, "n"), (EXPEDITED, "e")] {
        let mut world = World::connected();
        world.receive_with(10, flags);
        world.peer_sends_urgent(b"!");
        world.expect(if kinds.contains('e') { "receive=SUCCESS/1" } else { "" });
        let mut world = World::connected();
        world.receive_with(10, flags);
        world.peer_sends(b"abc");
        world.expect(if kinds.contains('n') { "receive=SUCCESS/3" } else { "" });
    }
}

#[proves("C-385")]
#[test]
fn receives_of_one_kind_do_not_wait_for_the_other() {
    let mut world = World::connected();
    world.receive_with(10, NORMAL);
    world.receive_with(10, EXPEDITED);
    world.receive_with(10, NORMAL);
    world.peer_sends_urgent(b"!");
    world.expect("receive#2=SUCCESS/1");
    world.peer_sends(b"a");
    world.peer_sends(b"b");
    world.expect("receive=SUCCESS/1 receive#3=SUCCESS/1");
}

#[proves("C-391")]
#[test]
fn expedited_data_ends_a_normal_receive_early_if_it_holds_something() {
    let mut world = World::connected();
    world.receive_with(10, NORMAL | receive_flags::NO_PUSH);
    world.receive_with(10, NORMAL);
    world.peer_sends(b"abc");
    world.peer_sends_urgent(b"!");
    world.expect("receive=SUCCESS/3");
    let urgent = world.receive_with(10, EXPEDITED);
    world.expect("receive#3=SUCCESS/1");
    assert_eq!(world.bytes(urgent)[0], b'!');
}

#[test]
fn one_receive_never_mixes_the_two_kinds() {
    let mut world = World::connected();
    world.receive_with(10, receive_flags::NO_PUSH);
    world.receive_with(10, receive_flags::NO_PUSH);
    world.peer_sends(b"abc");
    world.peer_sends_urgent(b"!");
    world.peer_sends(b"def");
    world.expect("receive=SUCCESS/3 receive#2=SUCCESS/1");
}

#[proves("C-491")]
#[test]
fn expedited_data_goes_to_its_handler_or_else_to_the_normal_one() {
    let mut world = World::connected();
    world.register(TdiEvent::RECEIVE);
    world.peer_sends_urgent(b"a");
    world.register(TdiEvent::RECEIVE_EXPEDITED);
    world.peer_sends_urgent(b"b");
    world.deregister(TdiEvent::RECEIVE);
    world.peer_sends_urgent(b"c");
    world.peer_sends(b"normal");
    world.expect("!<a> !<b> !<c>");
}

#[proves("C-492")]
#[test]
fn expedited_data_is_indicated_first_and_blocked_by_itself() {
    let mut world = World::with_handlers();
    world.receive(10);
    world.during("receive=", |world| {
        world.sites[0].wire.inbound.extend(b"normal");
        world.network(0, tdi_core::NetworkEvent::Readable);
        world.peer_sends_urgent(b"1");
        world.answers.push_back(Answer::rejects());
    });
    world.peer_sends(b"x");
    world.expect("receive=SUCCESS/1 !<1> <normal>");
    world.peer_sends_urgent(b"2");
    world.expect("");
    world.receive_with(1, EXPEDITED);
    world.expect("receive#2=SUCCESS/1 !<2>");
}

#[proves("C-492", "C-479")]
#[test]
fn an_irp_returned_by_the_expedited_handler_takes_expedited_data() {
    let mut world = World::with_handlers();
    world.answers.push_back(Answer::takes_and_returns(1, 10));
    world.peer_sends_urgent(b"ab");
    world.expect("!<ab> returned=SUCCESS/1");
}

#[test]
fn an_irp_of_the_expedited_handler_does_not_tear_a_receive_apart() {
    let mut world = World::with_handlers();
    world.answers.push_back(Answer::takes_and_returns(1, 4));
    world.during("!<x>", |world| {
        world.receive_with(6, NORMAL | receive_flags::NO_PUSH);
        world.peer_sends(b"abc");
    });
    world.peer_sends_urgent(b"x");
    world.peer_sends(b"def");
    // The handler's IRP steps in front and takes either kind, so the other ends with what it holds.
    world.expect("!<x> receive=SUCCESS/3 returned=SUCCESS/3");
}

#[test]
fn urgent_data_that_arrives_during_the_handler_follows_what_was_shown() {
    let mut world = World::with_handlers();
    world.during("!<ab>", |world| {
        world.peer_sends_urgent(b"cd");
        world.answers.push_back(Answer::takes(1));
    });
    world.peer_sends_urgent(b"ab");
    world.expect("!<ab> !<bcd>");
}

#[test]
fn the_end_is_told_after_expedited_data_on_its_way_to_a_handler() {
    let mut world = World::with_handlers();
    world.receive(10);
    world.during("receive=", |world| {
        world.peer_sends_urgent(b"!");
        world.peer_releases();
    });
    world.peer_sends(b"x");
    world.expect("receive=SUCCESS/1 !<!> gone:RELEASE");
}

#[test]
fn expedited_data_that_nobody_takes_does_not_hold_the_end_back() {
    let mut world = World::connected();
    world.register(TdiEvent::DISCONNECT);
    world.receive_with(10, NORMAL);
    world.peer_sends_urgent(b"!");
    world.peer_releases();
    world.expect("receive=SUCCESS gone:RELEASE");
    let late = world.receive_with(10, EXPEDITED);
    world.expect("receive#2=SUCCESS/1");
    assert_eq!(world.bytes(late)[0], b'!');
    world.receive_with(10, EXPEDITED);
    world.expect("receive#3=SUCCESS");
    world.disconnect(RELEASE);
    world.expect("close disconnect=SUCCESS");
}

#[test]
fn rejected_expedited_data_does_not_hold_the_end_back() {
    let mut world = World::with_handlers();
    world.answers.push_back(Answer::rejects());
    world.peer_sends_urgent(b"!");
    world.peer_releases();
    world.expect("!<!> gone:RELEASE");
    assert_eq!(world.state(), StateName::RemotelyReleased);
}

#[test]
fn more_urgent_data_than_there_is_room_for_ends_the_connection() {
    let limit = Config::DEFAULT.lookahead;
    let mut world = World::connected();
    assert_eq!(world.endpoint().expedited_room(), limit);
    world.peer_sends_urgent(&vec![1; limit]);
    assert_eq!(world.endpoint().expedited_room(), 0);
    world.expect("");
    world.peer_sends_urgent(b"!");
    world.expect("RST");
    assert_eq!(world.state(), StateName::Associated);
}

#[proves("C-450")]
#[test]
fn the_release_is_told_behind_expedited_data_that_somebody_is_to_get() {
    // Shown to its handler while the end of the stream is found.
    let mut world = World::with_handlers();
    world.during("!<x>", |world| {
        world.peer_releases();
        world.receive_with(10, NORMAL);
        world.tell("back");
    });
    world.peer_sends_urgent(b"x");
    world.expect("!<x> back receive=SUCCESS gone:RELEASE");
    // ... and comes back from there, though no handler is left, to a receive that came later.
    let mut world = World::with_handlers();
    world.answers.push_back(Answer::rejects());
    world.during("!<x>", |world| {
        world.deregister(TdiEvent::RECEIVE_EXPEDITED);
        world.deregister(TdiEvent::RECEIVE);
        world.peer_releases();
        world.receive_with(10, NORMAL);
        world.receive_with(10, EXPEDITED);
    });
    world.peer_sends_urgent(b"x");
    world.expect("!<x> receive=SUCCESS receive#2=SUCCESS/1 gone:RELEASE");
    // Its handler has not been called yet.
    let mut world = World::with_handlers();
    world.during("<data>", |world| {
        world.peer_sends_urgent(b"x");
        world.peer_releases();
    });
    world.peer_sends(b"data");
    world.expect("<data> !<x> gone:RELEASE");
    // A receive is to get what the handler refuses.
    let mut world = World::with_handlers();
    world.answers.push_back(Answer::rejects());
    world.during("!<x>", |world| {
        world.receive_with(10, EXPEDITED);
        world.peer_releases();
        world.receive_with(10, NORMAL);
    });
    world.peer_sends_urgent(b"x");
    world.expect("!<x> receive#2=SUCCESS receive=SUCCESS/1 gone:RELEASE");
}

#[test]
fn the_release_does_not_wait_for_expedited_data_that_nobody_takes() {
    let mut world = World::connected();
    world.register(TdiEvent::DISCONNECT);
    world.peer_sends_urgent(b"x");
    world.peer_releases();
    world.expect("gone:RELEASE");
}

#[proves("C-386", "C-486")]
#[test]
fn expedited_data_left_by_a_release_is_received_afterwards() {
    let mut world = World::connected();
    world.receive_with(10, NORMAL);
    world.disconnect(RELEASE);
    world.peer_sends_urgent(b"!");
    world.peer_releases();
    world.expect("FIN receive=SUCCESS disconnect=SUCCESS");
    assert_eq!(world.state(), StateName::Associated);
    world.receive_with(10, NORMAL);
    let late = world.receive_with(10, EXPEDITED);
    world.receive_with(10, EXPEDITED);
    world.expect("receive#2=SUCCESS close receive#3=SUCCESS/1 receive#4=SUCCESS");
    assert_eq!(world.bytes(late)[0], b'!');
    // The client's release is the second one, and nobody wants the byte.
    let mut world = World::with_handlers();
    world.answers.push_back(Answer::rejects());
    world.peer_sends_urgent(b"!");
    world.peer_releases();
    world.disconnect(RELEASE);
    world.expect("!<!> gone:RELEASE FIN disconnect=SUCCESS");
    world.connect();
    world.expect("close SYN");
}

#[proves("C-019")]
#[test]
fn a_bit_means_one_thing_to_a_send_and_another_to_a_receive() {
    assert_eq!((send_flags::EXPEDITED, send_flags::PARTIAL), (NORMAL, EXPEDITED));
    let mut world = World::connected();
    world.send_with(b"x", NORMAL);
    world.send_with(b"yz", EXPEDITED);
    assert_eq!((world.sent(), world.sites[0].wire.urgent.as_slice()), (b"xyz".as_slice(), b"x".as_slice()));
    world.receive_with(5, send_flags::EXPEDITED);
    world.receive_with(5, send_flags::PARTIAL);
    world.skip();
    world.peer_sends_urgent(b"!");
    world.expect("receive#2=SUCCESS/1");
    world.peer_sends(b"n");
    world.expect("receive=SUCCESS/1");
}
