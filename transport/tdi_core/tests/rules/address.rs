//! Chapters 6.5, 9.8 and 10.4: addresses, their handlers, and their end.

use nt_abi::NtStatus;
use nt_abi::tdi::TdiEvent;
use proves::proves;
use tdi_core::{
    Address, AddressId, AddressMessage, AddressOutput, ConnectAnswer, Handler, NetworkError, NetworkEvent, Offer,
    OfferId, RemoteFilter, RequestId, StateName,
};

use crate::world::{RELEASE, Welcome, World, handler, local, remote};

#[proves("C-110", "D-107")]
#[test]
fn a_new_address_has_no_handler_and_no_endpoint() {
    let world = World::new();
    let address = &world.addresses[0];
    assert!((0..20).all(|event| address.handler(TdiEvent(event)) == Handler::NONE));
    assert!(address.endpoints().next().is_none() && address.is_quiet() && !address.is_finished());
}

#[proves("C-411", "C-410", "C-412", "D-108", "D-109")]
#[test]
fn registering_again_replaces_and_null_deregisters() {
    let mut world = World::new();
    let address = &mut world.addresses[0];
    let new = Handler { routine: 1, context: 2 };
    for handler in [handler(TdiEvent::RECEIVE), new, Handler::NONE] {
        assert_eq!(address.tdi_set_event_handler(TdiEvent::RECEIVE, handler), NtStatus::SUCCESS);
        assert_eq!(address.connection_handlers().receive, handler);
    }
}

#[proves("C-413", "C-414", "D-112", "D-113", "D-117")]
#[test]
fn events_this_transport_never_calls_are_refused() {
    let mut world = World::new();
    let refused: Vec<u32> = (0..14)
        .chain([0x8000_0000, u32::MAX])
        .filter(|event| {
            let status = world.addresses[0].tdi_set_event_handler(TdiEvent(*event), handler(TdiEvent(*event)));
            assert!(matches!(status, NtStatus::SUCCESS | NtStatus::INVALID_PARAMETER));
            status != NtStatus::SUCCESS
        })
        .collect();
    assert_eq!(refused, [6, 9, 11, 12, 13, 0x8000_0000, u32::MAX]);
}

#[proves("C-154", "C-162", "C-165")]
#[test]
fn a_closed_address_has_no_handlers_and_takes_none() {
    let mut world = World::with_handlers();
    world.register(TdiEvent::ERROR);
    world.close_address(0);
    assert!((0..11).all(|event| world.addresses[0].handler(TdiEvent(event)) == Handler::NONE));
    let status = world.addresses[0].tdi_set_event_handler(TdiEvent::RECEIVE, handler(TdiEvent::RECEIVE));
    assert_eq!(status, NtStatus::CANCELLED);
    world.peer_sends(b"data");
    world.breaks(NetworkError::Reset);
    world.expect("RST");
}

#[proves("C-169", "C-175", "C-176", "C-174")]
#[test]
fn connections_outlive_the_closing_of_their_address() {
    let mut world = World::connected();
    world.close_address(0);
    world.send(b"still here");
    world.receive(10);
    world.peer_sends(b"me too");
    world.expect("send=SUCCESS/10 receive=SUCCESS/6");
    assert!(!world.addresses[0].is_finished());
    world.cleanup();
    world.expect("close");
    assert!(world.addresses[0].is_finished());
}

#[proves("C-178", "C-570")]
#[test]
fn closing_an_address_ends_listens_and_accepts_through_it() {
    let cases = [
        (StateName::Listening, "deaf listen=ADDRESS_CLOSED"),
        (StateName::Offered, "deaf RST"),
        (StateName::Accepting, "deaf RST listen=ADDRESS_CLOSED"),
        (StateName::Connecting, ""),
        (StateName::Established, ""),
        (StateName::LocallyReleased, ""),
        (StateName::RemotelyReleased, ""),
        (StateName::Associated, ""),
    ];
    for (state, story) in cases {
        let mut world = World::in_state(state);
        world.close_address(0);
        world.expect(story);
        let stays = !matches!(state, StateName::Listening | StateName::Offered | StateName::Accepting);
        assert_eq!(world.state(), if stays { state } else { StateName::Associated });
    }
}

#[proves("C-178")]
#[test]
fn no_offer_is_accepted_through_a_closed_address() {
    let mut world = World::associated();
    world.listen();
    world.close_address(0);
    world.skip();
    world.offer(remote());
    world.listen();
    world.expect("refuse listen#2=ADDRESS_CLOSED");
    let id = world.issue(0, "acceptirp", Vec::new());
    let (now, address) = (world.now, world.addresses[0].id());
    let offer = Offer { id: OfferId(9), remote: remote(), local: local() };
    let outcome = world.endpoint().handle_accept_irp(now, id, address, &offer);
    assert_eq!(outcome, tdi_core::Outcome::Done(NtStatus::INVALID_CONNECTION));
}

#[proves("C-178")]
#[test]
fn offers_that_wait_or_are_on_their_way_are_refused_when_the_address_is_closed() {
    let mut world = World::in_state(StateName::Listening);
    let offer = |id| Offer { id: OfferId(id), remote: remote(), local: local() };
    world.addresses[0].handle_offer(offer(1));
    world.addresses[0].handle_offer(offer(2));
    world.close_address(0);
    world.expect("refuse deaf refuse listen=ADDRESS_CLOSED");
    assert!(world.addresses[0].is_quiet());
}

#[proves("C-180")]
#[test]
fn an_endpoint_of_a_closed_address_moves_to_another() {
    let mut world = World::connected();
    world.disconnect(crate::world::ABORT);
    world.close_address(0);
    assert_eq!(world.disassociate(0), NtStatus::SUCCESS);
    assert!(world.addresses[0].is_finished());
    let other = world.open_address();
    assert_eq!(world.associate(0, other), NtStatus::SUCCESS);
    world.make_connection(0);
}

#[proves("C-567")]
#[test]
fn a_second_cleanup_of_an_address_does_nothing() {
    let mut world = World::in_state(StateName::Listening);
    world.close_address(0);
    world.skip();
    world.close_address(0);
    world.expect("");
}

#[proves("C-173", "C-168")]
#[test]
fn in_the_documented_order_the_address_is_finished_when_closed() {
    let mut world = World::connected();
    world.cleanup();
    assert!(!world.addresses[0].is_finished());
    world.close_address(0);
    assert!(world.addresses[0].is_finished());
}

#[proves("C-569")]
#[test]
fn a_closed_address_is_not_quiet_while_a_handler_runs() {
    let mut world = World::associated();
    world.register(TdiEvent::CONNECT);
    world.welcomes.push_back(Welcome::With(0));
    world.during("offered", |world| {
        world.close_address(0);
        assert!(world.addresses[0].is_closed() && !world.addresses[0].is_quiet());
    });
    world.offer(remote());
    world.expect("listening offered deaf acceptirp=INVALID_CONNECTION refuse");
    assert!(world.addresses[0].is_quiet());
}

#[proves("C-569")]
#[test]
fn an_endpoint_of_a_closed_address_says_when_its_handler_has_returned() {
    let mut world = World::with_handlers();
    world.during("<data>", |world| {
        world.close_address(0);
        assert!(world.endpoint().is_indicating());
    });
    world.peer_sends(b"data");
    assert!(!world.endpoint().is_indicating());
    world.peer_sends(b"more");
    world.expect("<data>");
}

#[proves("C-570")]
#[test]
fn an_accept_in_progress_ends_with_its_address_although_other_endpoints_live() {
    let mut world = World::connected();
    world.open_endpoint();
    world.associate(1, 0);
    world.accepts_late = true;
    world.listen_with(1, RemoteFilter::ANY, false);
    world.offer(remote());
    world.close_address(0);
    world.expect("listening accept deaf RST listen=ADDRESS_CLOSED");
    world.send(b"x");
    world.expect("send=SUCCESS/1");
}

#[proves("C-459", "C-460", "C-462", "D-096")]
#[test]
fn a_failure_of_the_transport_calls_each_registered_error_handler_once() {
    let mut world = World::new();
    world.addresses[0].handle_failure(NtStatus::INSUFFICIENT_RESOURCES);
    world.run();
    world.expect("");
    world.register(TdiEvent::ERROR);
    world.register(TdiEvent::ERROR_EX);
    world.during("ERROR", |world| assert!(!world.addresses[0].is_quiet()));
    world.addresses[0].handle_failure(NtStatus::INSUFFICIENT_RESOURCES);
    world.run();
    world.expect("ERROR:INSUFFICIENT_RESOURCES ERROR_EX:INSUFFICIENT_RESOURCES");
    assert!(world.addresses[0].is_quiet());
}

#[test]
fn an_error_handler_withdrawn_meanwhile_is_not_called() {
    let mut world = World::new();
    world.register(TdiEvent::ERROR);
    world.register(TdiEvent::ERROR_EX);
    world.during("ERROR", |world| world.deregister(TdiEvent::ERROR_EX));
    world.addresses[0].handle_failure(NtStatus::UNSUCCESSFUL);
    world.run();
    world.expect("ERROR:UNSUCCESSFUL");
}

#[test]
fn a_connect_through_a_closed_address_still_works() {
    // The address's state with its port lives as long as an endpoint has it (C-176).
    let mut world = World::associated();
    world.close_address(0);
    world.connect();
    world.handshake(0);
    world.peer_releases();
    world.disconnect(RELEASE);
    world.expect("SYN connect=SUCCESS close disconnect=SUCCESS");
}

#[test]
fn news_of_an_address_that_is_not_ours_is_ignored() {
    let mut world = World::in_state(StateName::Listening);
    let other = world.open_address();
    let (now, id) = (world.now, world.addresses[other].id());
    world.endpoint().handle_address_closed(now, id);
    assert_eq!(world.state(), StateName::Listening);
    world.network(0, NetworkEvent::Readable);
    world.expect("");
}

#[test]
fn the_local_address_is_what_the_network_chose() {
    let mut world = World::new();
    assert_eq!(world.addresses[0].local(), local());
    world.addresses[0].set_local(remote());
    assert_eq!(world.addresses[0].local(), remote());
}

#[proves("C-178")]
#[test]
fn a_listen_that_reaches_a_closed_address_takes_no_offer() {
    // Its endpoint has not been told of the closing yet.
    let mut world = World::associated();
    world.addresses[0].handle_cleanup();
    let endpoint = world.sites[0].endpoint.id();
    let address = &mut world.addresses[0];
    let id = RequestId { index: 9, generation: 1 };
    address.handle_message(endpoint, AddressMessage::Listen { id, filter: RemoteFilter::ANY });
    assert!(!address.has_listen_for(remote()));
    address.handle_offer(Offer { id: OfferId(1), remote: remote(), local: local() });
    let outputs: Vec<_> = std::iter::from_fn(|| address.poll_output()).collect();
    assert_eq!(outputs, [AddressOutput::TellClosed(endpoint), AddressOutput::Refuse(OfferId(1))]);
}

/// An address that nobody polls but the test.
fn alone() -> Address {
    Address::new(AddressId { index: 0, generation: 1 }, local(), 4)
}

#[test]
fn a_failure_that_nobody_was_told_of_keeps_its_address_from_being_quiet() {
    let mut address = alone();
    address.handle_failure(NtStatus::UNSUCCESSFUL);
    assert!(address.is_quiet(), "nobody is to be told");
    let handler = handler(TdiEvent::ERROR);
    assert_eq!(address.tdi_set_event_handler(TdiEvent::ERROR, handler), NtStatus::SUCCESS);
    address.handle_failure(NtStatus::UNSUCCESSFUL);
    assert!(!address.is_quiet(), "due");
    let told = AddressOutput::IndicateError { event: TdiEvent::ERROR, handler, status: NtStatus::UNSUCCESSFUL };
    assert_eq!(address.poll_output(), Some(told));
    assert!(!address.is_quiet(), "running");
    address.handle_error_indicated();
    assert!(address.is_quiet());
}

#[test]
fn an_offer_for_the_connect_handler_keeps_its_address_from_being_quiet() {
    let offer = |id| Offer { id: OfferId(id), remote: remote(), local: local() };
    let mut address = alone();
    let handler = handler(TdiEvent::CONNECT);
    assert_eq!(address.tdi_set_event_handler(TdiEvent::CONNECT, handler), NtStatus::SUCCESS);
    assert!(!address.is_quiet(), "listening is to begin");
    assert_eq!(address.poll_output(), Some(AddressOutput::Listen(true)));
    assert!(address.is_quiet());
    address.handle_offer(offer(1));
    assert!(!address.is_quiet(), "due");
    assert_eq!(address.poll_output(), Some(AddressOutput::IndicateConnect { handler, offer: offer(1) }));
    assert!(!address.is_quiet(), "running");
    address.handle_connect_result(OfferId(1), ConnectAnswer::Accepted);
    assert!(address.is_quiet());
}

#[test]
fn an_offer_that_waits_for_the_next_listen_leaves_its_address_quiet() {
    let offer = |id| Offer { id: OfferId(id), remote: remote(), local: local() };
    let (mut address, endpoint) = (alone(), tdi_core::EndpointId { index: 0, generation: 1 });
    let id = RequestId { index: 9, generation: 1 };
    address.handle_message(endpoint, AddressMessage::Listen { id, filter: RemoteFilter::ANY });
    address.handle_offer(offer(1));
    address.handle_offer(offer(2));
    let outputs: Vec<_> = std::iter::from_fn(|| address.poll_output()).collect();
    let deliver = AddressOutput::Deliver { endpoint, listen: id, offer: offer(1) };
    assert_eq!(outputs, [AddressOutput::Listen(true), deliver]);
    assert!(address.is_quiet());
    assert!(address.handle_offer_withdrawn(OfferId(2)), "it waits");
}
