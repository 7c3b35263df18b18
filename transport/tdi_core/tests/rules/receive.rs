//! Chapter 9.6: TDI_RECEIVE.

use nt_abi::NtStatus;
use nt_abi::tdi::{TdiEvent, receive_flags};
use proves::proves;
use tdi_core::{NetworkError, NetworkEvent, StateName};

use crate::world::{Answer, RELEASE, World};

#[proves("C-381", "C-383", "C-387", "C-386")]
#[test]
fn a_receive_takes_what_is_there_before_it_waits() {
    let mut world = World::connected();
    world.peer_sends(b"waiting");
    let receive = world.receive(100);
    world.expect("receive=SUCCESS/7");
    assert_eq!(&world.bytes(receive)[..8], b"waiting\0");
    let next = world.receive(100);
    world.expect("");
    world.peer_sends(b"new");
    world.expect("receive#2=SUCCESS/3");
    assert_eq!(&world.bytes(next)[..3], b"new");
}

#[proves("C-385", "C-402")]
#[test]
fn pending_receives_are_satisfied_in_order() {
    let mut world = World::connected();
    let ids: Vec<_> = (0..5).map(|_| world.receive(2)).collect();
    world.peer_sends(b"aabbccd");
    world.expect("receive=SUCCESS/2 receive#2=SUCCESS/2 receive#3=SUCCESS/2 receive#4=SUCCESS/1");
    let bytes: Vec<&[u8]> = ids.iter().map(|id| world.bytes(*id)).collect();
    assert_eq!(bytes, [b"aa", b"bb", b"cc", b"d\0", b"\0\0"]);
}

#[proves("C-389")]
#[test]
fn a_no_push_receive_waits_until_it_is_full() {
    let mut world = World::connected();
    let receive = world.receive_with(6, receive_flags::NO_PUSH);
    world.peer_sends(b"abc");
    world.peer_sends(b"de");
    world.expect("");
    world.peer_sends(b"fgh");
    world.expect("receive=SUCCESS/6");
    let rest = world.receive(10);
    assert_eq!((world.bytes(receive), &world.bytes(rest)[..2]), (&b"abcdef"[..], &b"gh"[..]));
}

#[proves("C-389", "C-397")]
#[test]
fn a_no_push_receive_ends_with_the_stream() {
    let mut world = World::connected();
    world.receive_with(6, receive_flags::NO_PUSH);
    world.peer_sends(b"abc");
    world.peer_releases();
    world.expect("receive=SUCCESS/3");
}

#[proves("C-390")]
#[test]
fn a_peek_leaves_what_it_shows() {
    let mut world = World::connected();
    let peek = world.receive_with(4, receive_flags::PEEK);
    world.expect("");
    world.peer_sends(b"abcdef");
    let again = world.receive_with(10, receive_flags::PEEK | receive_flags::NO_PUSH);
    let take = world.receive(10);
    world.expect("receive=SUCCESS/4 receive#2=SUCCESS/6 receive#3=SUCCESS/6");
    assert_eq!((world.bytes(peek), &world.bytes(again)[..6]), (&b"abcd"[..], &b"abcdef"[..]));
    assert_eq!(&world.bytes(take)[..6], b"abcdef");
}

#[proves("C-390")]
#[test]
fn the_next_indication_sees_what_was_peeked() {
    let mut world = World::connected();
    world.receive_with(4, receive_flags::PEEK);
    world.register(TdiEvent::RECEIVE);
    world.peer_sends(b"abcdef");
    world.expect("receive=SUCCESS/4 <abcdef>");
}

#[proves("C-390")]
#[test]
fn a_peek_at_the_end_of_the_stream_ends_like_a_receive() {
    let mut world = World::connected();
    world.receive_with(4, receive_flags::PEEK);
    world.peer_releases();
    world.expect("receive=SUCCESS");
}

#[proves("C-392")]
#[test]
fn no_handler_is_called_while_a_receive_is_pending() {
    let mut world = World::with_handlers();
    world.receive(3);
    world.peer_sends(b"abcdef");
    world.expect("receive=SUCCESS/3 <def>");
    world.receive(3);
    world.peer_sends(b"g");
    world.expect("receive#2=SUCCESS/1");
}

#[proves("C-393", "C-487")]
#[test]
fn a_receive_after_a_rejection_gets_the_data_and_then_indications_resume() {
    let mut world = World::with_handlers();
    world.answers.push_back(Answer::rejects());
    world.peer_sends(b"abcdef");
    world.peer_sends(b"gh");
    world.expect("<abcdef>");
    let receive = world.receive(4);
    world.expect("receive=SUCCESS/4 <ef> <gh>");
    assert_eq!(world.bytes(receive), b"abcd");
}

#[proves("C-394")]
#[test]
fn force_indication_brings_rejected_data_to_the_handler_again() {
    let mut world = World::with_handlers();
    world.answers.push_back(Answer::rejects());
    world.peer_sends(b"again");
    world.receive_with(4, receive_flags::EXPEDITED);
    world.expect("<again>");
    world.receive_with(4, receive_flags::EXPEDITED | receive_flags::FORCE_INDICATION);
    world.expect("<again>");
}

#[proves("C-395")]
#[test]
fn partial_and_unknown_receive_flags_mean_nothing() {
    for flags in [receive_flags::PARTIAL, 0x8000_0000, receive_flags::NO_RESPONSE_EXPECTED, 0x0F] {
        let mut world = World::connected();
        world.receive_with(10, flags);
        world.peer_sends(b"abc");
        world.expect("receive=SUCCESS/3");
    }
}

#[proves("C-396")]
#[test]
fn success_without_bytes_means_the_end_and_nothing_else() {
    let mut world = World::connected();
    world.receive(0);
    world.expect("receive=INVALID_PARAMETER");
    world.receive(5);
    world.network(0, NetworkEvent::Readable);
    world.expect("");
    world.peer_releases();
    world.receive(5);
    world.expect("receive#2=SUCCESS receive#3=SUCCESS");
}

#[proves("C-398", "C-525")]
#[test]
fn receives_fail_with_the_connection() {
    let cases = [
        (NetworkError::Reset, NtStatus::CONNECTION_RESET),
        (NetworkError::TimedOut, NtStatus::CONNECTION_ABORTED),
        (NetworkError::Aborted, NtStatus::CONNECTION_ABORTED),
    ];
    for (error, status) in cases {
        let mut world = World::connected();
        world.receive(5);
        world.receive(5);
        world.sites[0].wire.broken = Some(error);
        world.network(0, NetworkEvent::Readable);
        world.expect(&format!("RST receive={status:?} receive#2={status:?}"));
    }
}

#[proves("C-400")]
#[test]
fn receives_are_legal_while_data_may_come() {
    for state in StateName::ALL {
        let mut world = World::in_state(state);
        let receive = world.receive(5);
        let expected = match state {
            StateName::Established | StateName::LocallyReleased => None,
            StateName::RemotelyReleased => Some(NtStatus::SUCCESS),
            StateName::CleanedUp => Some(NtStatus::CANCELLED),
            _ => Some(NtStatus::INVALID_CONNECTION),
        };
        assert_eq!(world.status(receive), expected, "{state:?}");
    }
}

#[proves("C-400")]
#[test]
fn undelivered_data_can_be_received_after_the_remote_release() {
    let mut world = World::connected();
    world.sites[0].wire.inbound.extend(b"leftover");
    world.peer_releases();
    assert_eq!(world.state(), StateName::RemotelyReleased);
    world.receive(4);
    world.receive(40);
    world.receive(40);
    world.expect("receive=SUCCESS/4 receive#2=SUCCESS/4 receive#3=SUCCESS");
}

#[proves("C-553", "C-209")]
#[test]
fn a_receive_posted_in_the_routine_of_a_receive_gets_what_follows() {
    let mut world = World::connected();
    for word in ["receive=", "receive#2"] {
        world.during(word, |world| _ = world.receive(3));
    }
    world.receive(3);
    world.peer_sends(b"abcdefghi");
    world.expect("receive=SUCCESS/3 receive#2=SUCCESS/3 receive#3=SUCCESS/3");
}

#[proves("C-527")]
#[test]
fn a_receive_that_holds_bytes_when_the_connection_breaks_reports_them() {
    for local in [false, true] {
        let mut world = World::connected();
        world.receive_with(10, receive_flags::NO_PUSH);
        world.receive(10);
        world.peer_sends(b"some");
        if local {
            world.disconnect(crate::world::ABORT);
            world.expect("RST receive=SUCCESS/4 receive#2=CONNECTION_ABORTED disconnect=SUCCESS");
        } else {
            world.breaks(NetworkError::Reset);
            world.expect("RST receive=SUCCESS/4 receive#2=CONNECTION_RESET");
        }
    }
}

#[test]
fn large_amounts_come_through_the_read_ahead_whole_and_in_order() {
    let all: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    let mut world = World::with_handlers();
    world.answers.push_back(Answer::rejects());
    world.peer_sends(&all);
    let mut got = Vec::new();
    while got.len() < all.len() {
        world.answers.push_back(Answer::rejects());
        let receive = world.receive(7001);
        let count = world.requests[&receive].completions[0].1 as usize;
        got.extend_from_slice(&world.bytes(receive)[..count]);
    }
    assert!(got == all);
}

#[test]
fn the_end_is_found_although_nobody_reads() {
    let mut world = World::connected();
    world.register(TdiEvent::DISCONNECT);
    world.peer_releases();
    world.expect("gone:RELEASE");
    let mut world = World::connected();
    world.register(TdiEvent::DISCONNECT);
    world.sites[0].wire.inbound.extend([7; 5000]);
    world.peer_releases();
    assert_eq!(world.state(), StateName::RemotelyReleased);
    world.disconnect(RELEASE);
    world.receive(9000);
    world.expect("FIN close receive=SUCCESS/5000 gone:RELEASE disconnect=SUCCESS");
}
