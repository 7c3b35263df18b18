//! Chapters 10.1 and 10.5: receive handlers.

use nt_abi::NtStatus;
use nt_abi::tdi::TdiEvent;
use proves::proves;
use tdi_core::{ClientFault, Handler, NetworkError, NetworkEvent};

use crate::world::{ABORT, Answer, World, handler};

/// A world whose next handler answers that.
fn answering(answer: Answer) -> World {
    let mut world = World::with_handlers();
    world.answers.push_back(answer);
    world
}

#[proves("C-465", "C-467", "C-468", "C-470", "C-471")]
#[test]
fn arriving_data_is_shown_to_the_handler() {
    let mut world = World::with_handlers();
    world.peer_sends(b"hello");
    world.peer_sends(b"again");
    world.expect("<hello> <again>");
}

#[proves("C-476", "C-477", "C-586")]
#[test]
fn what_the_handler_leaves_is_shown_again() {
    let mut world = answering(Answer::takes(2));
    world.answers.push_back(Answer::takes(1));
    world.peer_sends(b"abcdef");
    world.expect("<abcdef> <cdef> <def>");
}

#[proves("C-479", "C-480", "C-472")]
#[test]
fn an_irp_that_the_handler_returns_gets_the_bytes_after_those_taken() {
    for (taken, bytes) in [(0, &b"abcdef"[..]), (2, b"cdef")] {
        let mut world = answering(Answer::takes_and_returns(taken, 100));
        world.peer_sends(b"abcdef");
        world.expect(&format!("<abcdef> returned=SUCCESS/{}", bytes.len()));
        let returned = *world.requests.keys().last().unwrap();
        assert_eq!(&world.bytes(returned)[..bytes.len()], bytes);
    }
}

#[proves("C-479")]
#[test]
fn a_returned_irp_waits_for_data_if_the_handler_took_all() {
    let mut world = answering(Answer::takes_and_returns(3, 100));
    world.peer_sends(b"abc");
    world.expect("<abc>");
    world.peer_sends(b"def");
    world.expect("returned=SUCCESS/3");
}

#[proves("C-220", "C-481", "C-482", "C-423")]
#[test]
fn a_returned_irp_completes_before_the_remainder_is_shown() {
    let mut world = answering(Answer::takes_and_returns(1, 2));
    world.during("returned", |world| world.tell("routine"));
    world.peer_sends(b"abcdef");
    world.expect("<abcdef> returned=SUCCESS/2 routine <def>");
}

#[proves("C-483")]
#[test]
fn a_returned_irp_goes_before_receives_posted_inside_the_handler() {
    let mut world = answering(Answer::takes_and_returns(1, 2));
    world.during("<abcdef>", |world| _ = world.receive(2));
    world.peer_sends(b"abcdef");
    world.expect("<abcdef> returned=SUCCESS/2 receive=SUCCESS/2 <f>");
}

#[proves("C-484", "C-486")]
#[test]
fn rejected_data_is_kept_and_not_shown_again_until_a_receive_is_posted() {
    let mut world = answering(Answer { taken: 5, ..Answer::rejects() });
    assert!(!world.endpoint().has_refused());
    world.peer_sends(b"abc");
    assert!(world.endpoint().has_refused());
    for _ in 0..5 {
        world.peer_sends(b"def");
    }
    world.expect("<abc>");
    world.receive(2);
    world.expect("receive=SUCCESS/2 <c> <defdefdefdefdef>");
    assert!(!world.endpoint().has_refused());
}

#[proves("C-488")]
#[test]
fn any_other_status_is_a_rejection() {
    for status in [NtStatus::UNSUCCESSFUL, NtStatus::PENDING, NtStatus::CONNECTION_ABORTED, NtStatus::CANCELLED] {
        let mut world = answering(Answer { status, taken: 2, receive: None });
        world.peer_sends(b"abc");
        world.peer_sends(b"d");
        world.expect("<abc>");
        let receive = world.receive(3);
        assert_eq!(world.bytes(receive), b"abc");
    }
}

#[proves("C-587")]
#[test]
fn success_without_taking_anything_is_a_rejection() {
    let mut world = answering(Answer::takes(0));
    world.peer_sends(b"abc");
    world.expect("<abc>");
    let receive = world.receive(3);
    assert_eq!(world.bytes(receive), b"abc");
}

#[proves("C-588", "C-478")]
#[test]
fn taking_more_than_there_is_takes_all_and_is_reported() {
    let mut world = answering(Answer::takes(9));
    world.peer_sends(b"abc");
    world.peer_sends(b"def");
    world.expect("<abc> <def>");
    assert_eq!(world.faults, [ClientFault::TookMoreThanAvailable { taken: 9, available: 3 }]);
    let mut world = answering(Answer { taken: 9, ..Answer::rejects() });
    world.peer_sends(b"abc");
    assert_eq!(world.faults, [], "BytesTaken does not count then");
}

#[proves("C-589")]
#[test]
fn more_processing_without_an_irp_is_success_with_the_same_count() {
    let more = |taken| Answer { status: NtStatus::MORE_PROCESSING_REQUIRED, taken, receive: None };
    let mut world = answering(more(2));
    world.answers.push_back(more(0));
    world.peer_sends(b"abc");
    world.expect("<abc> <c>");
    world.receive(5);
    world.expect("receive=SUCCESS/1");
}

#[test]
fn a_returned_irp_without_room_fails_and_the_data_is_kept() {
    let mut world = answering(Answer::takes_and_returns(1, 0));
    world.answers.push_back(Answer::rejects());
    world.peer_sends(b"abc");
    world.expect("<abc> returned=INVALID_PARAMETER <bc>");
    let receive = world.receive(5);
    assert_eq!(&world.bytes(receive)[..2], b"bc");
}

#[test]
fn a_receive_posted_inside_a_handler_that_rejects_gets_the_data() {
    let mut world = answering(Answer::rejects());
    world.during("<abc>", |world| _ = world.receive(2));
    world.peer_sends(b"abc");
    world.expect("<abc> receive=SUCCESS/2 <c>");
}

#[proves("C-423", "C-424")]
#[test]
fn indications_of_one_connection_come_one_at_a_time_and_in_stream_order() {
    let mut world = World::with_handlers();
    world.during("<one>", |world| {
        world.peer_sends(b"two");
        world.peer_sends(b"three");
        world.tell("handler-returns");
    });
    world.peer_sends(b"one");
    world.expect("<one> handler-returns <twothree>");
}

#[proves("C-493", "C-494")]
#[test]
fn waiting_data_is_shown_to_a_handler_registered_later() {
    let mut world = World::connected();
    world.peer_sends(b"early");
    world.expect("");
    world.register(TdiEvent::RECEIVE);
    world.expect("<early>");
}

#[proves("C-494", "C-411")]
#[test]
fn a_new_handler_is_shown_what_the_old_one_rejected() {
    let mut world = answering(Answer::rejects());
    world.peer_sends(b"abc");
    world.register(TdiEvent::DISCONNECT);
    world.expect("<abc>");
    world.set_handler(0, TdiEvent::RECEIVE, Handler { routine: 0x1003, context: 0x3000 });
    world.expect("<abc>");
}

#[proves("C-410", "C-416", "C-560")]
#[test]
fn handlers_can_be_withdrawn_on_a_live_connection() {
    let mut world = World::with_handlers();
    world.peer_sends(b"one");
    for event in [TdiEvent::RECEIVE, TdiEvent::DISCONNECT, TdiEvent::RECEIVE_EXPEDITED] {
        world.deregister(event);
    }
    world.peer_sends(b"two");
    world.peer_sends_urgent(b"!");
    world.expect("<one>");
    let receive = world.receive_with(10, crate::world::NORMAL);
    assert_eq!(&world.bytes(receive)[..3], b"two");
    world.disconnect(ABORT);
    world.expect("receive=SUCCESS/3 RST disconnect=SUCCESS");
}

#[proves("C-585", "C-411", "C-419")]
#[test]
fn routine_and_context_of_one_registration_go_together() {
    use tdi_core::{Indication, Output};
    let mut world = World::with_handlers();
    let new = Handler { routine: 0xAAAA, context: 0xBBBB };
    for expected in [handler(TdiEvent::RECEIVE), new] {
        world.set_handler(0, TdiEvent::RECEIVE, expected);
        let number = world.endpoint().connection().unwrap();
        world.sites[0].wire.inbound.extend(b"x");
        let now = world.now;
        world.endpoint().handle_network(now, number, NetworkEvent::Readable);
        let called = loop {
            match world.endpoint().poll_output().unwrap() {
                Output::Indicate(Indication::Receive { handler, data, .. }) => break (handler, data),
                Output::Network(command) => world.do_network(0, &command),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(called.0, expected);
        let result =
            tdi_core::IndicationResult::Receive { status: NtStatus::SUCCESS, taken: 1, receive: None, data: called.1 };
        assert_eq!(world.endpoint().handle_indication_result(now, result), None);
    }
}

#[test]
fn a_returned_irp_of_a_connection_that_ended_meanwhile_fails() {
    for locally in [false, true] {
        let mut world = answering(Answer::takes_and_returns(0, 100));
        world.during("<abc>", move |world| {
            if locally {
                world.disconnect(ABORT);
            } else {
                world.breaks(NetworkError::Reset);
            }
        });
        world.peer_sends(b"abc");
        world.expect(if locally {
            "<abc> RST disconnect=SUCCESS returned=CONNECTION_ABORTED"
        } else {
            "<abc> RST gone:ABORT returned=CONNECTION_ABORTED"
        });
    }
}

#[test]
fn an_answer_to_an_old_connection_leaves_the_new_one_alone() {
    let mut world = answering(Answer::takes_and_returns(2, 100));
    world.during("<abc>", |world| {
        world.disconnect(ABORT);
        world.connect();
        world.handshake(0);
        world.peer_sends(b"fresh");
    });
    world.peer_sends(b"abc");
    world.expect("<abc> RST SYN disconnect=SUCCESS connect#2=SUCCESS returned=CONNECTION_ABORTED <fresh>");
}

fn keeps() -> Answer {
    Answer { status: NtStatus::PENDING, ..Answer::rejects() }
}

#[proves("C-503")]
#[test]
fn normal_data_goes_to_the_chained_handler_alone_if_there_is_one() {
    let mut world = World::with_handlers();
    world.register(TdiEvent::CHAINED_RECEIVE);
    world.peer_sends(b"abc");
    world.answers.push_back(Answer::rejects());
    world.peer_sends(b"def");
    world.peer_sends(b"g");
    world.peer_sends_urgent(b"!");
    world.expect("chain:<abc> chain:<def> !<!>");
    // A request takes what it refused.
    let receive = world.receive(2);
    world.expect("receive=SUCCESS/2 chain:<f> chain:<g>");
    assert_eq!(world.bytes(receive), b"de");
    world.deregister(TdiEvent::CHAINED_RECEIVE);
    world.peer_sends(b"h");
    world.expect("<h>");
}

#[proves("C-500")]
#[test]
fn what_a_chained_handler_keeps_is_consumed() {
    let mut world = World::with_handlers();
    world.register(TdiEvent::CHAINED_RECEIVE);
    for bytes in [b"abc", b"def"] {
        world.answers.push_back(keeps());
        world.peer_sends(bytes);
    }
    world.peer_sends(b"ghi");
    world.expect("chain:<abc> chain:<def> chain:<ghi>");
    world.answers.push_back(keeps());
    world.during("chain:<jkl>", |world| world.peer_releases());
    world.peer_sends(b"jkl");
    world.expect("chain:<jkl> gone:RELEASE");
    world.cleanup();
    world.expect("close");
}

#[proves("C-500", "C-163")]
#[test]
fn what_a_chained_handler_keeps_is_its_own_even_if_the_connection_ends_meanwhile() {
    type Deed = fn(&mut World);
    let deeds: [(Deed, &str); 3] = [
        (|world| _ = world.disconnect(ABORT), "RST disconnect=SUCCESS"),
        (|world| world.breaks(NetworkError::Reset), "RST gone:ABORT"),
        (|world| world.cleanup(), "close"),
    ];
    for (deed, story) in deeds {
        let mut world = World::with_handlers();
        world.register(TdiEvent::CHAINED_RECEIVE);
        world.answers.push_back(keeps());
        world.during("chain:<abc>", deed);
        world.peer_sends(b"abc");
        world.expect(&format!("chain:<abc> {story}"));
    }
}

#[proves("C-453")]
#[test]
fn a_disconnect_handler_that_does_nothing_leaves_the_endpoint_reusable() {
    let mut world = World::with_handlers();
    world.breaks(NetworkError::TimedOut);
    world.expect("RST gone:ABORT");
    world.make_connection(0);
}
