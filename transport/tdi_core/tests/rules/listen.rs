//! Chapters 9.2, 9.3 and 10.2: TDI_LISTEN, TDI_ACCEPT, ClientEventConnect.

use std::net::SocketAddr;

use nt_abi::NtStatus;
use nt_abi::tdi::TdiEvent;
use proves::proves;
use tdi_core::time::SECOND;
use tdi_core::{NetworkError, NetworkEvent, Offer, OfferId, RemoteFilter, StateName};

use crate::world::{ABORT, RELEASE, Welcome, World, local, remote};

fn other() -> SocketAddr {
    "198.51.100.9:4000".parse().unwrap()
}

/// An address with that many associated endpoints.
fn server(endpoints: usize) -> World {
    let mut world = World::associated();
    for site in 1..endpoints {
        world.open_endpoint();
        assert_eq!(world.associate(site, 0), NtStatus::SUCCESS);
    }
    world
}

fn states(world: &World) -> Vec<StateName> {
    world.sites.iter().map(|site| site.endpoint.state()).collect()
}

#[proves("C-286", "C-293", "C-300")]
#[test]
fn a_listen_takes_one_offer_and_tells_who_it_is() {
    let mut world = World::associated();
    let listen = world.listen();
    world.expect("listening");
    world.offer(remote());
    world.expect("accept listen=SUCCESS");
    assert_eq!((world.state(), world.requests[&listen].peer), (StateName::Established, Some(remote())));
    assert_eq!(world.endpoint().remote(), Some(remote()));
    world.send(b"hello");
    world.expect("send=SUCCESS/5");
}

#[proves("C-288", "C-289")]
#[test]
fn listen_is_refused_unless_associated_and_idle() {
    for state in StateName::ALL {
        let mut world = World::in_state(state);
        let listen = world.listen();
        let expected = match state {
            StateName::Associated => None,
            StateName::CleanedUp => Some(NtStatus::CANCELLED),
            _ => Some(NtStatus::INVALID_CONNECTION),
        };
        assert_eq!(world.status(listen), expected, "{state:?}");
    }
}

#[proves("C-290", "C-291", "C-297")]
#[test]
fn only_an_offer_that_passes_the_filter_completes_the_listen() {
    let cases = [("198.51.100.9:4000", true), ("198.51.100.9:0", true), ("0.0.0.0:4000", true), ("0.0.0.0:0", true)];
    let misses = [("198.51.100.9:4001", false), ("198.51.100.8:0", false), ("0.0.0.0:1", false)];
    for query_accept in [false, true] {
        for (filter, passes) in cases.into_iter().chain(misses) {
            let mut world = World::associated();
            let filter = RemoteFilter { remote: Some(filter.parse().unwrap()) };
            let listen = world.listen_with(0, filter, query_accept);
            assert_eq!(world.addresses[0].has_listen_for(other()), passes, "{filter:?}");
            world.offer(other());
            assert_eq!(world.status(listen).is_some(), passes, "{filter:?}");
        }
    }
}

#[proves("C-301", "C-308")]
#[test]
fn listens_are_satisfied_in_order_subject_to_their_filters() {
    let mut world = server(3);
    let only_other = RemoteFilter { remote: Some(other()) };
    world.listen_with(0, only_other, false);
    world.listen_with(1, RemoteFilter::ANY, false);
    world.listen_with(2, RemoteFilter::ANY, false);
    world.offer(remote());
    world.offer(other());
    world.offer(other());
    world.expect("listening accept listen#2=SUCCESS accept listen=SUCCESS accept listen#3=SUCCESS");
}

#[proves("C-294", "C-309", "C-316", "C-319", "C-314")]
#[test]
fn with_query_accept_the_offer_is_held_until_accepted() {
    let mut world = World::associated();
    let listen = world.listen_with(0, RemoteFilter::ANY, true);
    world.offer(other());
    world.expect("listening listen=SUCCESS");
    assert_eq!((world.state(), world.requests[&listen].peer), (StateName::Offered, Some(other())));
    world.accepts_late = true;
    let accept = world.accept();
    assert_eq!(world.state(), StateName::Accepting);
    world.handshake(0);
    world.expect("accept accept=SUCCESS");
    assert_eq!(world.requests[&accept].completions, [(NtStatus::SUCCESS, 0)]);
    assert_eq!((world.state(), world.requests[&accept].peer), (StateName::Established, Some(remote())));
}

#[proves("C-337")]
#[test]
fn a_held_offer_is_rejected_by_disconnect() {
    for flags in [0, ABORT, RELEASE] {
        let mut world = World::in_state(StateName::Offered);
        world.disconnect(flags);
        world.expect("RST disconnect=SUCCESS");
        assert_eq!((world.state(), world.endpoint().poll_timeout()), (StateName::Associated, None));
    }
}

#[proves("C-295")]
#[test]
fn a_held_offer_is_rejected_when_the_client_is_silent_too_long() {
    let mut world = World::in_state(StateName::Offered);
    world.wait(10 * SECOND - 1);
    world.expect("");
    world.wait(1);
    world.expect("RST");
    assert_eq!(world.state(), StateName::Associated);
    world.accept();
    world.expect("accept=INVALID_CONNECTION");
}

#[proves("C-310", "C-311")]
#[test]
fn accept_without_an_offer_is_refused() {
    for state in StateName::ALL.into_iter().filter(|state| *state != StateName::Offered) {
        let mut world = World::in_state(state);
        let accept = world.accept();
        let expected = if state == StateName::CleanedUp { NtStatus::CANCELLED } else { NtStatus::INVALID_CONNECTION };
        assert_eq!((world.status(accept), world.state()), (Some(expected), state));
    }
}

#[proves("C-318")]
#[test]
fn when_the_offer_has_gone_the_accept_fails_and_the_endpoint_serves_the_next() {
    let mut world = World::in_state(StateName::Accepting);
    world.breaks(NetworkError::Reset);
    world.expect("RST listen=CONNECTION_RESET");
    assert_eq!(world.state(), StateName::Associated);
    let mut world = World::in_state(StateName::Offered);
    world.breaks(NetworkError::Reset);
    world.accept();
    world.expect("RST accept=INVALID_CONNECTION");
    world.listen();
    world.offer(other());
    world.expect("accept listen#2=SUCCESS");
}

#[proves("C-304")]
#[test]
fn disconnect_ends_a_listen() {
    for flags in [0, ABORT, RELEASE] {
        let mut world = World::in_state(StateName::Listening);
        world.disconnect(flags);
        world.expect("listen=CONNECTION_ABORTED disconnect=SUCCESS deaf");
        assert_eq!(world.state(), StateName::Associated);
        world.listen();
        world.offer(remote());
        world.expect("listening accept listen#2=SUCCESS");
    }
}

#[proves("C-553", "C-554")]
#[test]
fn a_listen_posted_anew_in_its_routine_loses_no_offer() {
    let mut world = server(3);
    world.listen();
    for (word, site) in [("listen=", 1), ("listen#2", 2)] {
        world.during(word, move |world| _ = world.listen_with(site, RemoteFilter::ANY, false));
    }
    for _ in 0..3 {
        world.offer(remote());
    }
    world.expect("listening accept listen=SUCCESS accept listen#2=SUCCESS accept listen#3=SUCCESS");
    // Between two listens offers wait, as many as the backlog holds.
    for _ in 0..6 {
        world.offer(other());
    }
    world.expect("refuse refuse");
    for site in 0..3 {
        world.sites[site].endpoint.handle_cleanup(world.now);
        let fresh = world.open_endpoint();
        world.associate(fresh, 0);
        world.listen_with(fresh, RemoteFilter::ANY, false);
    }
    world.offer(other());
    world.offer(other());
    let word = "close accept listen#4=SUCCESS close accept listen#5=SUCCESS close accept listen#6=SUCCESS";
    world.expect(word);
}

#[test]
fn an_offer_after_the_last_listen_or_handler_was_taken_back_is_refused() {
    let mut world = World::associated();
    let listen = world.listen();
    world.cancel(listen);
    world.expect("listening listen=CANCELLED deaf");
    world.offer(remote());
    world.expect("refuse");
    world.register(TdiEvent::CONNECT);
    let listen = world.listen();
    world.cancel(listen);
    world.expect("listening listen#2=CANCELLED");
    world.deregister(TdiEvent::CONNECT);
    world.expect("deaf");
}

#[test]
fn an_offer_that_waits_for_the_next_listen_is_refused_when_none_will_come() {
    let mut world = World::associated();
    world.listen();
    world.offer(remote());
    world.offer(remote());
    world.expect("listening accept listen=SUCCESS");
    world.register(TdiEvent::CONNECT);
    world.expect("offered refuse");
    world.offer(remote());
    world.deregister(TdiEvent::CONNECT);
    world.expect("offered refuse deaf");
    // A listen of another endpoint keeps the address listening.
    let (one, other) = (world.open_endpoint(), world.open_endpoint());
    world.associate(one, 0);
    world.associate(other, 0);
    world.listen_with(one, RemoteFilter::ANY, false);
    world.listen_with(other, RemoteFilter { remote: Some("192.0.2.200:0".parse().unwrap()) }, false);
    world.offer(remote());
    world.offer(remote());
    world.expect("listening accept listen#2=SUCCESS");
    world.cleanup_of(other);
    world.expect("listen#3=CANCELLED deaf refuse");
}

#[test]
fn offers_wait_for_the_next_listen_only_so_long_and_then_none_does() {
    let mut world = World::associated();
    world.listen();
    world.offer(remote());
    let (late, later) = (world.offer(remote()), world.offer(other()));
    world.expect("listening accept listen=SUCCESS");
    world.overdue(late);
    world.expect("refuse deaf refuse");
    world.overdue(later);
    world.offer(remote());
    world.expect("refuse");
    // The next listen begins anew.
    let next = world.open_endpoint();
    world.associate(next, 0);
    world.listen_with(next, RemoteFilter::ANY, false);
    world.offer(remote());
    world.expect("listening accept listen#2=SUCCESS");
}

#[proves("C-301")]
#[test]
fn an_offer_that_no_listen_matches_is_refused_when_it_has_waited_and_the_others_go_on() {
    let mut world = World::associated();
    world.listen_with(0, RemoteFilter { remote: Some("192.0.2.200:0".parse().unwrap()) }, false);
    let offer = world.offer(remote());
    world.overdue(offer);
    world.expect("listening refuse");
    // Behind the connect handler nothing is overdue: it is busy, and takes the next one then.
    world.register(TdiEvent::CONNECT);
    let offer = world.offer(remote());
    world.overdue(offer);
    world.expect("offered refuse");
}

#[test]
fn an_offer_to_an_address_that_never_listened_is_refused() {
    let mut world = World::associated();
    world.offer(remote());
    world.expect("refuse");
}

#[proves("C-302", "C-432")]
#[test]
fn a_pending_listen_goes_before_the_connect_handler() {
    let mut world = server(2);
    world.register(TdiEvent::CONNECT);
    world.listen_with(0, RemoteFilter { remote: Some(other()) }, false);
    world.welcomes.push_back(Welcome::With(1));
    world.offer(remote());
    world.offer(other());
    world.expect("listening offered accept acceptirp=SUCCESS accept listen=SUCCESS");
}

#[proves("C-435")]
#[test]
fn a_connect_handler_accepts_with_an_irp() {
    let mut world = server(2);
    world.register(TdiEvent::CONNECT);
    world.register(TdiEvent::RECEIVE);
    world.welcomes.push_back(Welcome::With(1));
    world.accepts_late = true;
    world.offer(remote());
    assert_eq!(states(&world), [StateName::Associated, StateName::Accepting]);
    world.handshake(1);
    world.expect("listening offered accept acceptirp=SUCCESS");
    assert_eq!(states(&world), [StateName::Associated, StateName::Established]);
}

#[proves("C-437", "C-438", "C-439", "C-446")]
#[test]
fn a_connect_handler_refuses_and_is_called_for_the_next_offer() {
    let mut world = World::associated();
    world.register(TdiEvent::CONNECT);
    for welcome in [Welcome::Refuse, Welcome::With(0)] {
        world.welcomes.push_back(welcome);
        world.offer(remote());
    }
    world.expect("listening offered refuse offered accept acceptirp=SUCCESS");
}

#[proves("C-446")]
#[test]
fn the_connect_handler_is_called_again_while_earlier_accepts_are_in_progress() {
    let mut world = server(2);
    world.register(TdiEvent::CONNECT);
    world.accepts_late = true;
    for site in 0..2 {
        world.welcomes.push_back(Welcome::With(site));
        world.offer(remote());
    }
    assert_eq!(states(&world), [StateName::Accepting, StateName::Accepting]);
}

#[proves("C-312", "C-222")]
#[test]
fn an_accept_irp_needs_an_idle_endpoint_of_that_address() {
    for state in StateName::ALL {
        let mut world = World::in_state(state);
        world.register(TdiEvent::CONNECT);
        world.skip();
        let address = world.addresses[0].id();
        let offer = Offer { id: OfferId(77), remote: other(), local: local() };
        let id = world.issue(0, "acceptirp", Vec::new());
        let now = world.now;
        let outcome = world.endpoint().handle_accept_irp(now, id, address, &offer);
        assert_eq!(outcome == tdi_core::Outcome::Taken, state == StateName::Associated, "{state:?}");
    }
    let mut world = World::associated();
    let foreign = world.open_address();
    let address = world.addresses[foreign].id();
    let id = world.issue(0, "acceptirp", Vec::new());
    let offer = Offer { id: OfferId(77), remote: other(), local: local() };
    let now = world.now;
    let outcome = world.endpoint().handle_accept_irp(now, id, address, &offer);
    assert_eq!(outcome, tdi_core::Outcome::Done(NtStatus::INVALID_CONNECTION));
    assert_eq!(world.state(), StateName::Associated);
}

#[proves("C-582", "C-426")]
#[test]
fn no_handler_is_called_for_an_accepted_connection_before_the_accept_has_completed() {
    let mut world = World::associated();
    for event in [TdiEvent::CONNECT, TdiEvent::RECEIVE, TdiEvent::DISCONNECT] {
        world.register(event);
    }
    world.accepts_late = true;
    world.welcomes.push_back(Welcome::With(0));
    world.offer(remote());
    world.sites[0].wire.inbound.extend(b"eager");
    world.sites[0].wire.has_ended = true;
    world.network(0, NetworkEvent::PeerReleased);
    world.expect("listening offered accept");
    world.during("acceptirp", |world| world.tell("routine"));
    world.handshake(0);
    world.expect("acceptirp=SUCCESS routine <eager> gone:RELEASE");
}

#[proves("C-582")]
#[test]
fn a_connection_lost_before_the_accept_completed_is_told_by_its_status_alone() {
    let mut world = World::associated();
    for event in [TdiEvent::CONNECT, TdiEvent::DISCONNECT] {
        world.register(event);
    }
    world.accepts_late = true;
    world.welcomes.push_back(Welcome::With(0));
    world.offer(remote());
    world.breaks(NetworkError::TimedOut);
    world.expect("listening offered accept RST acceptirp=IO_TIMEOUT");
}

#[proves("C-593", "C-559")]
#[test]
fn endpoints_are_reused_for_the_next_accept_after_disconnect() {
    let mut world = server(2);
    world.register(TdiEvent::CONNECT);
    world.register(TdiEvent::DISCONNECT);
    for site in [0, 1] {
        world.welcomes.push_back(Welcome::With(site));
        world.offer(remote());
    }
    world.offer(other());
    world.skip();
    world.disconnect(ABORT);
    world.welcomes.push_back(Welcome::With(0));
    world.offer(other());
    world.expect("RST disconnect=SUCCESS offered accept acceptirp#3=SUCCESS");
    assert_eq!(world.endpoint().remote(), Some(remote()), "the network's word is the last");
}

#[test]
fn offers_wait_for_the_running_handler_in_bounded_number() {
    let mut world = World::associated();
    world.register(TdiEvent::CONNECT);
    world.during("offered", |world| {
        for _ in 0..7 {
            world.offer(remote());
        }
        world.tell("handler-returns");
    });
    world.offer(remote());
    // One is out at the handler; the backlog of four holds the oldest.
    world.expect("listening offered refuse refuse refuse handler-returns refuse offered refuse offered refuse offered refuse offered refuse");
}

#[test]
fn an_offer_that_is_withdrawn_while_it_waits_is_forgotten() {
    let mut world = World::in_state(StateName::Listening);
    world.offer(remote());
    world.disconnect(ABORT);
    world.skip();
    let gone = world.offer(remote());
    let kept = world.offer(other());
    assert!(world.addresses[0].is_quiet());
    assert!(world.addresses[0].handle_offer_withdrawn(gone.id));
    assert!(!world.addresses[0].handle_offer_withdrawn(gone.id));
    let listen = world.listen();
    assert_eq!(world.requests[&listen].peer, Some(remote()), "as the network confirms it");
    assert_ne!(gone.id, kept.id);
    world.expect("accept listen#2=SUCCESS");
    world.open_endpoint();
    world.associate(1, 0);
    world.listen_with(1, RemoteFilter::ANY, false);
    world.expect("");
}

#[test]
fn an_offer_returned_by_an_endpoint_goes_to_the_next_listen() {
    let mut world = server(2);
    world.listen();
    world.listen_with(1, RemoteFilter::ANY, false);
    world.skip();
    // The offer is on its way when the first listen is cancelled.
    let offer = Offer { id: OfferId(5), remote: other(), local: local() };
    world.addresses[0].handle_offer(offer);
    let listen = *world.requests.keys().next().unwrap();
    let now = world.now;
    assert!(world.endpoint().handle_cancel(now, listen));
    world.run();
    world.expect("listen=CANCELLED accept listen#2=SUCCESS");
}

#[test]
fn an_address_stops_listening_when_its_only_reason_is_gone() {
    let mut world = World::associated();
    world.register(TdiEvent::CONNECT);
    world.deregister(TdiEvent::CONNECT);
    world.expect("listening deaf");
    world.listen();
    world.disconnect(ABORT);
    world.expect("listening listen=CONNECTION_ABORTED disconnect=SUCCESS deaf");
    world.listen();
    world.offer(remote());
    world.disconnect(ABORT);
    world.expect("listening accept listen#2=SUCCESS RST disconnect#2=SUCCESS");
    world.close_address(0);
    world.expect("deaf");
}

#[test]
fn offers_that_wait_reach_a_connect_handler_registered_later() {
    let mut world = World::in_state(StateName::Listening);
    world.offer(remote());
    world.disconnect(ABORT);
    world.offer(remote());
    world.skip();
    world.welcomes.push_back(Welcome::With(0));
    world.register(TdiEvent::CONNECT);
    world.expect("offered accept acceptirp=SUCCESS");
}
