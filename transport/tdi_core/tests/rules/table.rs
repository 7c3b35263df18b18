//! Tables 11.1 and 12.1: every request in every state.

use nt_abi::NtStatus;
use proves::proves;
use tdi_core::table::{self, EVENTS, EventKind, REQUESTS, RequestKind, Verdict, verdict};
use tdi_core::{NetworkError, Offer, OfferId, Outcome, RemoteFilter, StateName};

use crate::world::{ABORT, RELEASE, WAIT, World, local, remote};

/// Does to the world what the row says. Returns the status of a request that is over, and whether one is
/// still pending.
fn apply(world: &mut World, kind: RequestKind) -> (Option<NtStatus>, bool) {
    let id = match kind {
        RequestKind::Associate => return (Some(world.associate(0, 0)), false),
        RequestKind::Disassociate => return (Some(world.disassociate(0)), false),
        RequestKind::Cleanup => {
            world.cleanup();
            return (None, false);
        }
        RequestKind::AcceptIrp => return accept_irp(world),
        RequestKind::Connect => world.connect(),
        RequestKind::Listen => world.listen(),
        RequestKind::Accept => {
            world.accepts_late = true;
            world.accept()
        }
        RequestKind::DisconnectAbort => world.disconnect(ABORT),
        RequestKind::DisconnectRelease => world.disconnect(RELEASE),
        RequestKind::DisconnectWait => world.disconnect(WAIT),
        RequestKind::Send => world.send(b"x"),
        RequestKind::SendAndDisconnect => world.send_and_disconnect(b"x"),
        RequestKind::Receive => world.receive(10),
    };
    (world.status(id), world.status(id).is_none())
}

fn accept_irp(world: &mut World) -> (Option<NtStatus>, bool) {
    let now = world.now;
    let offer = Offer { id: OfferId(99), remote: remote(), local: local() };
    let address = world.addresses[0].id();
    let id = world.issue(0, "acceptirp", Vec::new());
    world.accepts_late = true;
    let outcome = world.endpoint().handle_accept_irp(now, id, address, &offer);
    world.run();
    match outcome {
        Outcome::Done(status) => (Some(status), false),
        Outcome::Taken => (None, true),
    }
}

/// With nothing queued a RELEASE is over at once where the remote node has released before.
fn passes_through(kind: RequestKind, state: StateName) -> bool {
    matches!(kind, RequestKind::DisconnectRelease | RequestKind::SendAndDisconnect)
        && state == StateName::RemotelyReleased
}

fn check_cell(kind: RequestKind, state: StateName) {
    let mut world = World::in_state(state);
    let context = format!("{kind:?} in {state:?}");
    let (status, is_pending) = apply(&mut world, kind);
    let after = world.state();
    match verdict(kind, state) {
        Verdict::Refused(situation) => {
            assert_eq!((status, is_pending), (Some(situation.status()), false), "{context}");
            assert!(!situation.status().is_success() && after == state, "{context}");
        }
        Verdict::NoEffect => assert!(after == state && status.is_none_or(NtStatus::is_success), "{context}"),
        Verdict::Stays => assert!(after == state && (is_pending || status == Some(NtStatus::SUCCESS)), "{context}"),
        Verdict::Becomes(next) => {
            assert!(after == next && !is_pending, "{context}");
            assert!(status.is_none_or(|status| status == NtStatus::SUCCESS), "{context}");
        }
        Verdict::Pends(_) if passes_through(kind, state) => {
            assert!(after == StateName::Associated && status == Some(NtStatus::SUCCESS), "{context}");
        }
        Verdict::Pends(next) => {
            let is_sent = kind == RequestKind::SendAndDisconnect && status == Some(NtStatus::SUCCESS);
            assert!(after == next && (is_pending || is_sent), "{context}: {after:?}, {status:?}");
        }
    }
}

#[proves("C-234", "C-517", "C-523")]
#[test]
fn every_request_in_every_state_does_what_the_table_says() {
    for (kind, _) in REQUESTS {
        for state in StateName::ALL {
            check_cell(kind, state);
        }
    }
}

/// Table 11.1 as the reference has it, so that the table the code runs on cannot be wrong together with the code: the
/// letter of the next state, `-` for an error. In P nothing was indicated yet (C-581, C-582).
#[proves("C-517")]
#[test]
fn the_table_that_the_code_runs_on_is_the_reference_s() {
    const STATES: [(char, StateName); 10] = [
        ('U', StateName::Unassociated),
        ('A', StateName::Associated),
        ('C', StateName::Connecting),
        ('L', StateName::Listening),
        ('O', StateName::Offered),
        ('P', StateName::Accepting),
        ('E', StateName::Established),
        ('R', StateName::LocallyReleased),
        ('W', StateName::RemotelyReleased),
        ('Z', StateName::CleanedUp),
    ];
    let reference = [
        (RequestKind::Associate, "A---------"),
        (RequestKind::Disassociate, "-U--------"),
        (RequestKind::Connect, "-C--------"),
        (RequestKind::Listen, "-L--------"),
        (RequestKind::Accept, "----P-----"),
        (RequestKind::AcceptIrp, "-P--------"),
        (RequestKind::DisconnectAbort, "--AAAAAAA-"),
        (RequestKind::DisconnectRelease, "--AAAAR-A-"),
        (RequestKind::DisconnectWait, "--CLOPERW-"),
        (RequestKind::Send, "------E-W-"),
        (RequestKind::Receive, "------ERW-"),
        (RequestKind::Cleanup, "ZZZZZZZZZZ"),
    ];
    let letter = |name| STATES.iter().find(|(_, state)| *state == name).map_or('?', |(letter, _)| *letter);
    for (kind, row) in reference {
        let code = |(own, state)| match verdict(kind, state) {
            Verdict::Refused(_) => '-',
            Verdict::Stays | Verdict::NoEffect => own,
            // The state meanwhile; when the queued sends are out it is A, which the walk through the table shows.
            Verdict::Pends(_) if passes_through(kind, state) => 'A',
            Verdict::Becomes(next) | Verdict::Pends(next) => letter(next),
        };
        assert_eq!(STATES.map(code).iter().collect::<String>(), row, "{kind:?}");
    }
}

/// The columns "D" or "rec" of table 12.1, spelled out independently of the table.
#[proves("C-524")]
#[test]
fn refusals_have_the_recommended_statuses() {
    use RequestKind::*;
    use StateName::*;
    let invalid = NtStatus::INVALID_CONNECTION;
    let cases = [
        (Associate, Associated, invalid),
        (Associate, Established, invalid),
        (Associate, CleanedUp, invalid),
        (Disassociate, Unassociated, invalid),
        (Disassociate, Established, NtStatus::CONNECTION_ACTIVE),
        (Connect, Unassociated, invalid),
        (Connect, Connecting, invalid),
        (Connect, Established, invalid),
        (Listen, Unassociated, invalid),
        (Listen, Listening, invalid),
        (Listen, LocallyReleased, invalid),
        (Accept, Associated, invalid),
        (Accept, Established, invalid),
        (DisconnectAbort, Unassociated, invalid),
        (DisconnectAbort, Associated, invalid),
        (DisconnectRelease, Associated, invalid),
        (DisconnectRelease, LocallyReleased, invalid),
        (Send, Associated, invalid),
        (Send, Connecting, invalid),
        (Send, LocallyReleased, invalid),
        (Receive, Unassociated, invalid),
        (Receive, Listening, invalid),
        (Connect, CleanedUp, NtStatus::CANCELLED),
        (Listen, CleanedUp, NtStatus::CANCELLED),
        (Send, CleanedUp, NtStatus::CANCELLED),
        (Receive, CleanedUp, NtStatus::CANCELLED),
        (DisconnectAbort, CleanedUp, NtStatus::CANCELLED),
    ];
    for (kind, state, status) in cases {
        let mut world = World::in_state(state);
        assert_eq!(apply(&mut world, kind), (Some(status), false), "{kind:?} in {state:?}");
    }
}

#[proves("C-518")]
#[test]
fn idle_means_unassociated_or_associated() {
    for state in StateName::ALL {
        let refuses_to_disassociate = World::in_state(state).disassociate(0) == NtStatus::CONNECTION_ACTIVE;
        assert_eq!(state.is_active(), refuses_to_disassociate, "{state:?}");
    }
}

#[proves("C-325")]
#[test]
fn two_disconnect_flags_are_refused_without_effect_in_every_state() {
    for state in StateName::ALL {
        let mut world = World::in_state(state);
        for flags in [ABORT | RELEASE, WAIT | ABORT, WAIT | RELEASE, 7, 8, ABORT | 8] {
            let id = world.disconnect(flags);
            let expected = match state {
                StateName::CleanedUp => NtStatus::CANCELLED,
                _ => NtStatus::INVALID_PARAMETER,
            };
            assert_eq!((world.status(id), world.state()), (Some(expected), state));
        }
    }
}

#[test]
fn the_drawn_table_is_the_one_the_code_runs_on() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/endpoint-states.md");
    let now = table::markdown();
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(path, &now).expect("docs can be written");
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(kept == now, "docs/endpoint-states.md is out of date: UPDATE_SNAPSHOTS=1 cargo test -p tdi_core");
}

/// Makes happen what the row of table 11.2 says.
fn happen(world: &mut World, event: EventKind) {
    match event {
        EventKind::HandshakeDone | EventKind::ConnectionReady => world.handshake(0),
        EventKind::ConnectFailed | EventKind::RemoteAbort | EventKind::OfferWithdrawn => {
            world.breaks(NetworkError::Reset);
        }
        EventKind::Offer => {
            world.accepts_late = true;
            world.offer(remote());
        }
        EventKind::OfferHeld => {
            world.disconnect(ABORT);
            world.listen_with(0, RemoteFilter::ANY, true);
            world.offer(remote());
        }
        EventKind::ClientSilent => world.wait_seconds(10),
        EventKind::RemoteRelease | EventKind::BothReleased => world.peer_releases(),
        EventKind::DisconnectTimeout => {
            world.disconnect(ABORT);
            world.make_connection(0);
            world.disconnect_within(RELEASE, 5);
            world.wait(5);
        }
        EventKind::Cancelled if world.state() == StateName::Established => cancel_partly_sent(world),
        EventKind::Cancelled if world.state().is_active() => {
            let pending = world.requests.iter().find(|(_, issued)| issued.completions.is_empty());
            let id = pending.map(|(id, _)| *id);
            world.cancel(id.expect("a pending request"));
        }
        EventKind::Cancelled => {}
        EventKind::AddressClosed => world.close_address(0),
    }
}

fn cancel_partly_sent(world: &mut World) {
    world.closes_window();
    let send = world.send(b"gap");
    world.opens_window(1);
    world.cancel(send);
}

#[proves("C-520")]
#[test]
fn every_event_leads_where_the_table_says() {
    for row in EVENTS {
        for from in row.from {
            let mut world = World::in_state(*from);
            match (row.event, from) {
                // Here a send is cancelled, in the middle of it.
                (EventKind::Cancelled, StateName::RemotelyReleased) => cancel_partly_sent(&mut world),
                (EventKind::Cancelled, StateName::LocallyReleased) => {
                    world = World::connected();
                    world.closes_window();
                    let send = world.send(b"gap");
                    world.disconnect(RELEASE);
                    world.opens_window(1);
                    world.cancel(send);
                }
                (event, _) => happen(&mut world, event),
            }
            assert_eq!(world.state(), row.to, "{:?} in {from:?}", row.event);
        }
    }
}
