//! Chapter 9.5: TDI_SEND.

use nt_abi::NtStatus;
use nt_abi::tdi::send_flags;
use proves::proves;
use tdi_core::{NetworkError, StateName};

use crate::world::{RELEASE, World};

#[proves("C-357", "C-359", "C-211")]
#[test]
fn a_send_that_fits_completes_at_once_with_its_length() {
    let mut world = World::connected();
    let send = world.send(b"twelve bytes");
    assert_eq!(world.requests[&send].completions, [(NtStatus::SUCCESS, 12)]);
    assert_eq!(world.sent(), b"twelve bytes");
}

#[proves("C-364")]
#[test]
fn sends_are_transmitted_in_submission_order_however_little_the_network_takes() {
    let mut world = World::connected();
    world.closes_window();
    world.send(b"one");
    world.send(b"two");
    world.send(b"three");
    for _ in 0..11 {
        world.opens_window(1);
    }
    world.expect("send=SUCCESS/3 send#2=SUCCESS/3 send#3=SUCCESS/5");
    assert_eq!(world.sent(), b"onetwothree");
}

#[proves("C-365")]
#[test]
fn expedited_data_goes_ahead_of_queued_normal_sends_in_its_own_order() {
    let mut world = World::connected();
    world.closes_window();
    world.send(b"normal");
    world.send_with(b"1", send_flags::EXPEDITED);
    world.send_with(b"2", send_flags::EXPEDITED);
    world.opens_window(1);
    world.opens_window(100);
    world.expect("send#2=SUCCESS/1 send#3=SUCCESS/1 send=SUCCESS/6");
    assert_eq!(world.sent(), b"12normal");
    assert_eq!(world.sites[0].wire.urgent, b"12");
}

#[proves("C-368", "C-369", "C-372", "C-380")]
#[test]
fn partial_non_blocking_no_response_and_unknown_flags_change_nothing() {
    let all =
        [send_flags::PARTIAL, send_flags::NON_BLOCKING, send_flags::NO_RESPONSE_EXPECTED, 0x8000_0000, 0x1F, !0x220];
    for flags in all {
        let mut world = World::connected();
        world.closes_window();
        world.send_with(b"patient", flags);
        world.expect("");
        world.opens_window(3);
        world.expect("");
        world.opens_window(100);
        world.expect("send=SUCCESS/7");
        assert_eq!((world.sent(), world.sites[0].wire.urgent.len()), (&b"patient"[..], 0));
    }
}

#[proves("C-373")]
#[test]
fn send_and_disconnect_releases_behind_its_data_and_hides_the_remote_release() {
    let mut world = World::with_handlers();
    world.closes_window();
    world.send(b"first ");
    world.send_and_disconnect(b"last");
    assert_eq!(world.state(), StateName::LocallyReleased);
    world.opens_window(100);
    world.expect("FIN send=SUCCESS/6 send#2=SUCCESS/4");
    world.peer_sends(b"answer");
    world.peer_releases();
    world.expect("<answer> close");
    assert_eq!((world.sent(), world.state()), (&b"first last"[..], StateName::Associated));
}

#[proves("C-373")]
#[test]
fn after_send_and_disconnect_a_loss_is_not_indicated_either() {
    let mut world = World::with_handlers();
    world.send_and_disconnect(b"last");
    world.receive(10);
    world.breaks(NetworkError::Reset);
    world.expect("FIN send=SUCCESS/4 RST receive=CONNECTION_RESET");
}

#[proves("C-374")]
#[test]
fn an_empty_send_completes_in_its_turn() {
    let mut world = World::connected();
    world.closes_window();
    world.send(b"x");
    world.send(b"");
    world.expect("");
    world.opens_window(1);
    world.expect("send=SUCCESS/1 send#2=SUCCESS");
    world.send_and_disconnect(b"");
    world.expect("FIN send#3=SUCCESS");
    assert_eq!(world.sent(), b"x");
}

#[proves("C-375", "C-376")]
#[test]
fn sends_are_legal_while_the_local_side_has_not_released() {
    for state in StateName::ALL {
        let mut world = World::in_state(state);
        let send = world.send(b"x");
        let expected = match state {
            StateName::Established | StateName::RemotelyReleased => NtStatus::SUCCESS,
            StateName::CleanedUp => NtStatus::CANCELLED,
            _ => NtStatus::INVALID_CONNECTION,
        };
        assert_eq!(world.status(send), Some(expected), "{state:?}");
    }
}

#[proves("C-378")]
#[test]
fn sends_fail_with_the_connection() {
    let cases = [
        (NetworkError::Reset, NtStatus::CONNECTION_RESET),
        (NetworkError::TimedOut, NtStatus::IO_TIMEOUT),
        (NetworkError::Aborted, NtStatus::CONNECTION_ABORTED),
    ];
    for (error, status) in cases {
        let mut world = World::connected();
        world.closes_window();
        world.send(b"half");
        world.send(b"none");
        world.opens_window(2);
        world.sites[0].wire.broken = Some(error);
        world.opens_window(2);
        world.expect(&format!("RST send={status:?} send#2={status:?}"));
    }
}

#[proves("C-379", "C-427")]
#[test]
fn a_send_inside_a_receive_handler_reaches_the_network_before_the_handler_returns() {
    let mut world = World::with_handlers();
    world.during("<ask>", |world| {
        world.send(b"answer");
        assert_eq!(world.sent(), b"answer");
        world.tell("handler-returns");
    });
    world.peer_sends(b"ask");
    world.expect("<ask> handler-returns send=SUCCESS/6");
}

#[proves("C-209")]
#[test]
fn a_send_inside_the_routine_of_a_send_is_completed_after_it() {
    let mut world = World::connected();
    world.during("send=", |world| {
        world.send(b"two");
        world.tell("routine-returns");
    });
    world.send(b"one");
    world.expect("send=SUCCESS/3 routine-returns send#2=SUCCESS/3");
    assert_eq!(world.sent(), b"onetwo");
}

#[test]
fn a_short_transfer_is_followed_by_another_until_the_network_blocks() {
    let mut world = World::connected();
    world.closes_window();
    world.send(b"abcdef");
    world.opens_window(3);
    assert_eq!(world.sent(), b"abc");
    world.disconnect(RELEASE);
    world.opens_window(3);
    world.expect("FIN send=SUCCESS/6");
}
