//! Chapter 9.4: TDI_DISCONNECT, and the ends of connections in table 11.2.

use nt_abi::NtStatus;
use nt_abi::tdi::{TdiEvent, receive_flags};
use proves::proves;
use tdi_core::time::SECOND;
use tdi_core::{Config, Instant, NetworkError, NetworkEvent, StateName};

use crate::world::{ABORT, Answer, RELEASE, WAIT, World, remote};

#[proves("C-324", "C-326", "C-327", "C-328", "C-351", "C-399")]
#[test]
fn abort_ends_the_connection_and_everything_pending_at_once() {
    for flags in [0, ABORT] {
        let mut world = World::with_handlers();
        world.closes_window();
        world.send(b"unsent");
        world.receive(10);
        let abort = world.disconnect(flags);
        world.expect("RST send=CONNECTION_ABORTED receive=CONNECTION_ABORTED disconnect=SUCCESS");
        assert_eq!((world.state(), world.requests[&abort].completions[0].1), (StateName::Associated, 0));
        world.send(b"x");
        world.expect("send#2=INVALID_CONNECTION");
    }
}

#[proves("C-327")]
#[test]
fn abort_is_legal_in_every_active_state() {
    for state in StateName::ALL.into_iter().filter(|state| state.is_active()) {
        let mut world = World::in_state(state);
        let abort = world.disconnect(ABORT);
        assert_eq!((world.status(abort), world.state()), (Some(NtStatus::SUCCESS), StateName::Associated));
        assert!(world.requests.values().all(|issued| issued.completions.len() == 1), "{state:?}");
    }
}

#[proves("C-327", "C-525")]
#[test]
fn abort_forces_a_pending_release_to_end() {
    let mut world = World::connected();
    world.disconnect(RELEASE);
    world.disconnect(ABORT);
    world.expect("FIN RST disconnect=CONNECTION_ABORTED disconnect#2=SUCCESS");
}

#[proves("C-322", "C-329", "C-330", "C-377")]
#[test]
fn release_follows_the_sends_queued_before_it() {
    let mut world = World::connected();
    world.closes_window();
    world.send(b"first");
    world.send(b"second");
    world.disconnect(RELEASE);
    world.expect("");
    world.send(b"late");
    world.expect("send#3=INVALID_CONNECTION");
    world.opens_window(5);
    world.expect("send=SUCCESS/5");
    world.opens_window(100);
    world.expect("FIN send#2=SUCCESS/6");
    assert_eq!((world.sent(), world.state()), (&b"firstsecond"[..], StateName::LocallyReleased));
}

#[proves("C-330", "C-331", "C-584", "C-592")]
#[test]
fn after_a_release_the_whole_answer_of_a_slow_peer_arrives() {
    let mut world = World::connected();
    world.register(TdiEvent::RECEIVE);
    world.register(TdiEvent::DISCONNECT);
    world.send(b"request");
    world.disconnect(RELEASE);
    world.expect("send=SUCCESS/7 FIN");
    for _ in 0..3 {
        world.wait_seconds(3600);
        world.peer_sends(b"part");
        world.expect("<part>");
    }
    world.peer_releases();
    world.expect("close gone:RELEASE disconnect=SUCCESS");
    assert_eq!(world.state(), StateName::Associated);
}

#[proves("C-331", "C-356", "C-520", "C-525")]
#[test]
fn release_completes_when_the_remote_node_has_released() {
    let mut world = World::connected();
    world.receive(10);
    world.disconnect(RELEASE);
    world.expect("FIN");
    world.peer_sends(b"bye");
    world.receive(10);
    world.peer_releases();
    world.expect("receive=SUCCESS/3 close receive#2=SUCCESS disconnect=SUCCESS");
    assert_eq!(world.state(), StateName::Associated);
}

#[proves("C-332", "C-397", "C-450", "C-520")]
#[test]
fn a_remote_release_comes_after_its_data_and_leaves_sending_open() {
    let mut world = World::connected();
    world.register(TdiEvent::DISCONNECT);
    world.receive(3);
    world.receive(10);
    world.receive(10);
    world.sites[0].wire.inbound.extend(b"1234");
    world.peer_releases();
    world.expect("receive=SUCCESS/3 receive#2=SUCCESS/1 receive#3=SUCCESS gone:RELEASE");
    assert_eq!(world.state(), StateName::RemotelyReleased);
    world.send(b"still");
    world.receive(10);
    world.expect("send=SUCCESS/5 receive#4=SUCCESS");
}

#[proves("C-339", "C-455")]
#[test]
fn release_in_answer_to_a_release_completes_promptly_even_inside_the_handler() {
    let mut world = World::with_handlers();
    world.during("gone:RELEASE", |world| {
        world.disconnect(RELEASE);
        assert_eq!(world.state(), StateName::Associated);
    });
    world.peer_releases();
    world.expect("gone:RELEASE close disconnect=SUCCESS");
}

#[proves("C-329", "C-520")]
#[test]
fn release_after_the_remote_release_waits_for_queued_sends() {
    let mut world = World::in_state(StateName::RemotelyReleased);
    world.closes_window();
    world.send(b"tail");
    world.disconnect(RELEASE);
    assert_eq!(world.state(), StateName::LocallyReleased);
    world.opens_window(10);
    world.expect("close send=SUCCESS/4 disconnect=SUCCESS");
    assert_eq!(world.sent(), b"tail");
}

#[proves("C-340", "C-521")]
#[test]
fn abort_in_answer_to_an_abort_completes_and_the_endpoint_is_reusable() {
    let mut world = World::with_handlers();
    world.breaks(NetworkError::Reset);
    world.expect("RST gone:ABORT");
    let abort = world.disconnect(ABORT);
    assert!(world.status(abort).is_some());
    assert_eq!(world.disassociate(0), NtStatus::SUCCESS);
    assert_eq!(world.associate(0, 0), NtStatus::SUCCESS);
    world.make_connection(0);
    world.breaks(NetworkError::Reset);
    world.skip();
    world.listen();
    world.offer(crate::world::remote());
    world.expect("listening accept listen=SUCCESS");
}

#[proves("C-338", "C-256")]
#[test]
fn the_answer_to_a_disconnect_may_come_much_later() {
    let mut world = World::with_handlers();
    world.peer_releases();
    world.wait_seconds(100_000);
    assert_eq!(world.state(), StateName::RemotelyReleased);
    world.disconnect(RELEASE);
    world.expect("gone:RELEASE close disconnect=SUCCESS");
    world.make_connection(0);
    world.breaks(NetworkError::Reset);
    world.wait_seconds(100_000);
    let late = world.disconnect(ABORT);
    assert!(world.status(late).is_some());
    assert_eq!(world.disassociate(0), NtStatus::SUCCESS);
}

#[proves("C-323", "C-341")]
#[test]
fn disconnect_without_activity_is_refused() {
    for state in [StateName::Unassociated, StateName::Associated] {
        for flags in [0, ABORT, RELEASE, WAIT] {
            let mut world = World::in_state(state);
            world.disconnect(flags);
            world.expect("disconnect=INVALID_CONNECTION");
        }
    }
}

#[proves("C-342")]
#[test]
fn a_second_release_fails_and_does_not_disturb_the_first() {
    let mut world = World::connected();
    world.disconnect(RELEASE);
    world.disconnect(RELEASE);
    world.expect("FIN disconnect#2=INVALID_CONNECTION");
    world.peer_releases();
    world.expect("close disconnect=SUCCESS");
}

#[proves("C-343", "C-345", "C-520")]
#[test]
fn a_release_gives_up_at_its_own_time_and_the_connection_is_gone() {
    let mut world = World::with_handlers();
    world.receive(10);
    world.disconnect_within(RELEASE, 2 * SECOND);
    assert_eq!(world.endpoint().poll_timeout(), Some(Instant(1000).after(2 * SECOND)));
    world.wait(2 * SECOND - 1);
    world.expect("FIN");
    world.wait(1);
    world.expect("RST receive=CONNECTION_ABORTED disconnect=IO_TIMEOUT");
    assert_eq!(world.state(), StateName::Associated);
}

#[proves("C-345")]
#[test]
fn a_release_whose_time_runs_out_before_its_sends_are_gone_fails_them() {
    let mut world = World::connected();
    world.closes_window();
    world.send(b"stuck");
    world.disconnect_within(RELEASE, SECOND);
    world.wait_seconds(1);
    world.expect("RST send=CONNECTION_ABORTED disconnect=IO_TIMEOUT");
}

#[proves("C-335", "C-336")]
#[test]
fn wait_waits_for_the_remote_node_and_ends_nothing() {
    let mut world = World::connected();
    world.disconnect(WAIT);
    world.disconnect_within(WAIT, SECOND);
    world.wait_seconds(1);
    world.expect("disconnect#2=IO_TIMEOUT");
    assert_eq!(world.state(), StateName::Established);
    world.peer_releases();
    world.disconnect(WAIT);
    world.expect("disconnect=SUCCESS disconnect#3=SUCCESS");
    assert_eq!(world.state(), StateName::RemotelyReleased);
}

#[proves("C-335")]
#[test]
fn wait_waits_for_the_data_in_front_of_a_release_and_fails_with_the_connection() {
    let mut world = World::connected();
    world.sites[0].wire.inbound.extend(b"unread");
    world.peer_releases();
    assert_eq!(world.state(), StateName::RemotelyReleased);
    world.disconnect(WAIT);
    world.expect("");
    world.receive(10);
    world.expect("receive=SUCCESS/6 disconnect=SUCCESS");
    let mut world = World::connected();
    world.disconnect(WAIT);
    world.breaks(NetworkError::Reset);
    world.expect("RST disconnect=CONNECTION_RESET");
}

#[proves("C-335", "C-336")]
#[test]
fn wait_that_comes_before_the_connection_waits_for_its_end() {
    for state in [StateName::Connecting, StateName::Listening, StateName::Offered, StateName::Accepting] {
        let mut world = World::in_state(state);
        let cancelled = world.disconnect(WAIT);
        let wait = world.disconnect(WAIT);
        world.expect("");
        assert!(world.cancel(cancelled));
        world.expect("disconnect=CANCELLED");
        assert_eq!(world.state(), state);
        match state {
            StateName::Listening => _ = world.offer(remote()),
            StateName::Offered => _ = world.accept(),
            _ => {}
        }
        world.handshake(0);
        assert_eq!((world.state(), world.status(wait)), (StateName::Established, None));
        world.peer_releases();
        assert_eq!((world.state(), world.status(wait)), (StateName::RemotelyReleased, Some(NtStatus::SUCCESS)));
    }
}

#[proves("C-335", "C-526")]
#[test]
fn wait_fails_with_the_connection_that_does_not_come_to_be() {
    for state in [StateName::Connecting, StateName::Listening, StateName::Offered, StateName::Accepting] {
        let mut world = World::in_state(state);
        let wait = world.disconnect(WAIT);
        world.disconnect(ABORT);
        assert_eq!((world.state(), world.status(wait)), (StateName::Associated, Some(NtStatus::CONNECTION_ABORTED)));
        let mut world = World::in_state(state);
        let late = world.disconnect_within(WAIT, SECOND);
        let wait = world.disconnect(WAIT);
        world.wait_seconds(1);
        assert_eq!((world.state(), world.status(late)), (state, Some(NtStatus::IO_TIMEOUT)));
        world.cleanup();
        assert_eq!(world.status(wait), Some(NtStatus::CANCELLED));
    }
    let mut world = World::in_state(StateName::Connecting);
    world.disconnect(WAIT);
    world.breaks(NetworkError::Refused);
    world.expect("RST connect=CONNECTION_REFUSED disconnect=CONNECTION_RESET");
}

#[proves("C-457")]
#[test]
fn the_next_request_after_an_unnoticed_loss_learns_why_once() {
    type Ask = fn(&mut World) -> tdi_core::RequestId;
    let asks: [(Ask, NtStatus); 4] = [
        (|world| world.receive(10), NtStatus::CONNECTION_ABORTED),
        (|world| world.send(b"x"), NtStatus::IO_TIMEOUT),
        (|world| world.disconnect(RELEASE), NtStatus::IO_TIMEOUT),
        (|world| world.disconnect(WAIT), NtStatus::IO_TIMEOUT),
    ];
    for (ask, lost) in asks {
        for (error, status) in [(NetworkError::Reset, NtStatus::CONNECTION_RESET), (NetworkError::TimedOut, lost)] {
            let mut world = World::connected();
            world.breaks(error);
            assert_eq!(world.state(), StateName::Associated);
            let (first, second) = (ask(&mut world), ask(&mut world));
            let told = (world.status(first), world.status(second));
            assert_eq!(told, (Some(status), Some(NtStatus::INVALID_CONNECTION)));
        }
    }
}

#[test]
fn a_loss_that_was_told_is_not_told_again() {
    let told: [fn(&mut World); 6] = [
        |world| _ = world.receive(10),
        |world| {
            world.closes_window();
            world.send(b"x");
        },
        |world| _ = world.disconnect(WAIT),
        |world| _ = world.disconnect(RELEASE),
        |world| _ = world.send_and_disconnect(b"x"),
        |world| world.register(TdiEvent::DISCONNECT),
    ];
    let over: [fn(&mut World); 3] = [
        |world| _ = world.disconnect(ABORT),
        |world| {
            world.disassociate(0);
            world.associate(0, 0);
        },
        |world| {
            let connect = world.connect();
            world.cancel(connect);
        },
    ];
    let nothing: fn(&mut World) = |_| {};
    let before = told.into_iter().map(|deed| (deed, nothing));
    for (before, after) in before.chain(over.into_iter().map(|deed| (nothing, deed))) {
        let mut world = World::connected();
        before(&mut world);
        world.breaks(NetworkError::Reset);
        after(&mut world);
        let receive = world.receive(10);
        assert_eq!(world.status(receive), Some(NtStatus::INVALID_CONNECTION));
    }
}

#[proves("C-348", "C-425")]
#[test]
fn nothing_is_indicated_once_the_disconnect_has_completed() {
    let mut world = World::with_handlers();
    world.during("<late>", |world| {
        world.sites[0].wire.inbound.extend(b"later");
        world.network(0, NetworkEvent::Readable);
        world.disconnect(ABORT);
    });
    world.peer_sends(b"late");
    world.expect("<late> RST disconnect=SUCCESS");
}

#[proves("C-349")]
#[test]
fn the_clients_own_disconnect_is_not_indicated_to_it() {
    let mut world = World::with_handlers();
    world.disconnect(ABORT);
    world.expect("RST disconnect=SUCCESS");
    let mut world = World::with_handlers();
    // The indication is due when the client aborts.
    world.receive(10);
    world.during("receive=", |world| {
        world.peer_releases();
        world.disconnect(ABORT);
    });
    world.peer_sends(b"x");
    world.expect("receive=SUCCESS/1 RST disconnect=SUCCESS");
}

#[proves("C-583")]
#[test]
fn without_a_request_the_end_of_a_release_is_told_by_the_handler() {
    let mut world = World::with_handlers();
    let release = world.disconnect(RELEASE);
    world.cancel(release);
    world.receive(10);
    world.peer_releases();
    world.expect("FIN disconnect=CANCELLED close receive=SUCCESS gone:RELEASE");
}

#[proves("C-555", "C-583")]
#[test]
fn receive_that_comes_after_both_have_released_finds_the_end_of_the_stream_until_something_begins() {
    let mut world = World::connected();
    world.receive(10);
    world.disconnect(RELEASE);
    world.peer_sends(b"last");
    world.peer_releases();
    world.expect("FIN receive=SUCCESS/4 close disconnect=SUCCESS");
    assert_eq!(world.state(), StateName::Associated);
    world.receive(10);
    world.receive(10);
    world.send(b"x");
    world.expect("receive#2=SUCCESS receive#3=SUCCESS send=INVALID_CONNECTION");
    let mut listening = World::connected();
    listening.disconnect(RELEASE);
    listening.peer_releases();
    listening.listen();
    listening.disconnect(ABORT);
    listening.receive(10);
    listening.expect(
        "FIN close disconnect=SUCCESS listening listen=CONNECTION_ABORTED disconnect#2=SUCCESS deaf receive=INVALID_CONNECTION",
    );
}

#[test]
fn a_release_without_limit_does_not_wait_for_data_that_nobody_takes() {
    let patience = Config::DEFAULT.unread_patience;
    let mut world = World::connected();
    world.disconnect(RELEASE);
    world.peer_sends(b"unwanted");
    world.peer_releases();
    world.wait(patience - 1);
    world.expect("FIN");
    world.wait(1);
    world.expect("disconnect=SUCCESS");
    assert_eq!((world.state(), world.endpoint().poll_timeout()), (StateName::Associated, None));
    world.cleanup();
    world.expect("close");
}

/// The remote node releases, too, behind bytes for which the client shows no interest: its RELEASE completes with them unread.
#[track_caller]
fn leave_unread(world: &mut World, bytes: &[u8]) {
    world.peer_sends(bytes);
    world.peer_releases();
    world.wait_seconds(2);
    world.expect("FIN disconnect=SUCCESS");
}

#[proves("C-331", "C-583")]
#[test]
fn data_left_by_a_release_is_received_afterwards_and_then_the_end_of_the_stream() {
    let mut world = World::connected();
    world.disconnect(RELEASE);
    leave_unread(&mut world, b"in two");
    world.send(b"x");
    world.receive(3);
    world.wait_seconds(2);
    world.receive(10);
    world.receive(10);
    world.expect("send=INVALID_CONNECTION receive=SUCCESS/3 close receive#2=SUCCESS/3 receive#3=SUCCESS");
    assert_eq!(world.state(), StateName::Associated);
}

#[proves("C-348")]
#[test]
fn nothing_is_indicated_once_the_release_has_completed_though_data_is_left() {
    let mut world = World::with_handlers();
    world.disconnect(RELEASE);
    world.deregister(TdiEvent::RECEIVE);
    leave_unread(&mut world, b"in two");
    world.register(TdiEvent::RECEIVE);
    world.receive(3);
    world.register(TdiEvent::RECEIVE);
    world.expect("receive=SUCCESS/3");
    world.receive(10);
    world.receive(10);
    world.expect("close receive#2=SUCCESS/3 receive#3=SUCCESS");

    let mut world = World::with_handlers();
    world.disconnect(RELEASE);
    world.deregister(TdiEvent::RECEIVE);
    leave_unread(&mut world, b"unwanted");
    world.breaks(NetworkError::Reset);
    world.receive(10);
    world.expect("RST receive=CONNECTION_RESET");
}

#[test]
fn data_left_by_a_release_is_dropped_by_what_begins_next() {
    let left = || {
        let mut world = World::connected();
        world.disconnect(RELEASE);
        leave_unread(&mut world, b"unwanted");
        world
    };
    let mut world = left();
    world.connect();
    world.expect("close SYN");
    let mut world = left();
    world.listen();
    world.expect("close listening");
    let mut world = left();
    assert_eq!(world.disassociate(0), NtStatus::SUCCESS);
    world.receive(10);
    world.expect("close receive=INVALID_CONNECTION");
    let mut world = left();
    world.disconnect(ABORT);
    world.receive(10);
    world.expect("disconnect#2=INVALID_CONNECTION close receive=INVALID_CONNECTION");
    let mut world = left();
    world.breaks(NetworkError::Reset);
    world.receive(10);
    world.expect("RST receive=CONNECTION_RESET");
}

#[proves("C-490")]
#[test]
fn patience_ends_when_the_data_is_wanted_again() {
    let patience = Config::DEFAULT.unread_patience;
    let mut world = World::with_handlers();
    world.disconnect(RELEASE);
    world.answers.push_back(Answer::rejects());
    world.peer_sends(b"in two");
    world.peer_releases();
    assert_eq!(world.endpoint().poll_timeout(), Some(world.now.after(patience)));
    world.wait(patience - 1);
    world.answers.push_back(Answer::rejects());
    world.receive(3);
    world.expect("FIN <in two> receive=SUCCESS/3 <two>");
    world.wait(patience - 1);
    world.expect("");
    world.receive(10);
    world.expect("close receive#2=SUCCESS/3 gone:RELEASE disconnect=SUCCESS");
}

#[proves("C-331", "C-343")]
#[test]
fn a_release_with_a_limit_waits_no_longer_for_unread_data_than_one_without() {
    let patience = Config::DEFAULT.unread_patience;
    let mut world = World::connected();
    world.disconnect_within(RELEASE, 30 * SECOND);
    world.peer_sends(b"unwanted");
    world.peer_releases();
    world.wait(patience - 1);
    world.expect("FIN");
    world.wait(1);
    world.expect("disconnect=SUCCESS");
}

#[proves("C-343")]
#[test]
fn a_release_keeps_its_limit_when_unread_data_is_taken_after_all() {
    let patience = Config::DEFAULT.unread_patience;
    let mut world = World::connected();
    world.disconnect_within(RELEASE, patience / 2);
    world.peer_sends(b"unwanted");
    world.peer_releases();
    world.wait(patience / 2 - 1);
    world.receive(3);
    world.expect("FIN receive=SUCCESS/3");
    world.wait(1);
    world.expect("RST disconnect=IO_TIMEOUT");
}

#[test]
fn an_expedited_receive_ends_when_a_release_runs_out_of_patience() {
    let mut world = World::connected();
    world.disconnect(RELEASE);
    world.receive_with(10, receive_flags::EXPEDITED);
    world.peer_sends(b"unwanted");
    world.peer_releases();
    world.wait_seconds(2);
    world.expect("FIN receive=SUCCESS disconnect=SUCCESS");
}

#[proves("C-396", "C-397")]
#[test]
fn an_expedited_receive_ends_beside_what_a_release_has_left() {
    let mut world = World::connected();
    world.disconnect(RELEASE);
    leave_unread(&mut world, b"unwanted");
    world.receive_with(10, receive_flags::EXPEDITED);
    world.expect("receive=SUCCESS");
    world.peer_sends_urgent(b"!");
    world.receive_with(10, receive_flags::EXPEDITED);
    world.receive_with(10, receive_flags::EXPEDITED);
    world.expect("receive#2=SUCCESS/1 receive#3=SUCCESS");
    world.receive(10);
    world.expect("close receive#4=SUCCESS/8");
}

#[test]
fn an_expedited_receive_ends_when_the_handler_takes_the_last_expedited_data_beside_leftovers() {
    let mut world = World::with_handlers();
    world.answers.push_back(Answer::rejects());
    world.peer_sends(b"unwanted");
    world.disconnect(RELEASE);
    world.peer_releases();
    world.during("!<x>", |world| {
        world.receive_with(10, receive_flags::EXPEDITED);
        world.wait_seconds(2);
    });
    world.peer_sends_urgent(b"x");
    world.expect("<unwanted> FIN !<x> disconnect=SUCCESS receive=SUCCESS");
}

#[proves("C-583", "C-487")]
#[test]
fn the_handlers_tell_the_rest_of_a_release_whose_request_was_cancelled() {
    let cancelled = || {
        let mut world = World::with_handlers();
        world.answers.push_back(Answer::rejects());
        world.peer_sends(b"in three");
        let release = world.disconnect(RELEASE);
        world.cancel(release);
        world.peer_releases();
        world.wait_seconds(2);
        world.expect("<in three> FIN disconnect=CANCELLED");
        assert_eq!(world.state(), StateName::Associated);
        world
    };
    let mut world = cancelled();
    world.receive(3);
    world.expect("receive=SUCCESS/3 <three> close gone:RELEASE");
    let mut world = cancelled();
    world.breaks(NetworkError::Reset);
    world.expect("RST gone:ABORT");
}

#[proves("C-447", "C-448", "C-451", "C-454")]
#[test]
fn a_release_may_be_followed_by_an_abort_and_then_nothing() {
    let mut world = World::with_handlers();
    world.peer_releases();
    world.breaks(NetworkError::Reset);
    world.breaks(NetworkError::Reset);
    world.expect("gone:RELEASE RST gone:ABORT");
    assert_eq!((world.state(), world.addresses[0].endpoints().count()), (StateName::Associated, 1));
}

#[proves("C-457")]
#[test]
fn without_a_handler_the_status_alone_tells_of_the_end() {
    let mut world = World::connected();
    world.receive(10);
    world.breaks(NetworkError::Reset);
    world.expect("RST receive=CONNECTION_RESET");
}

#[test]
fn an_indication_of_an_old_connection_is_dropped_when_a_new_one_begins() {
    let mut world = World::with_handlers();
    world.receive(10);
    world.during("receive=", |world| {
        world.breaks(NetworkError::Reset);
        world.connect();
    });
    world.peer_sends(b"x");
    world.expect("receive=SUCCESS/1 RST SYN");
    let mut world = World::with_handlers();
    world.receive(10);
    world.during("receive=", |world| {
        world.breaks(NetworkError::Reset);
        assert_eq!(world.disassociate(0), NtStatus::SUCCESS);
    });
    world.peer_sends(b"x");
    world.expect("receive=SUCCESS/1 RST");
}
