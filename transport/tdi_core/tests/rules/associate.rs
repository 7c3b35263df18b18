//! Chapter 8, and chapter 5 as far as it is about endpoints.

use nt_abi::NtStatus;
use nt_abi::tdi::TdiEvent;
use proves::proves;
use tdi_core::{Config, Endpoint, EndpointId, Handler, StateName};

use crate::world::{ABORT, RELEASE, World, handler, remote};

#[proves("C-114", "C-116")]
#[test]
fn a_new_endpoint_is_idle_and_silent_and_refuses_everything_but_associate() {
    let mut world = World::new();
    assert_eq!((world.state(), world.endpoint().address()), (StateName::Unassociated, None));
    let ids = [world.connect(), world.listen(), world.accept(), world.send(b"x"), world.receive(1)];
    for id in ids {
        assert_eq!(world.status(id), Some(NtStatus::INVALID_CONNECTION));
    }
    let words = "connect=INVALID_CONNECTION listen=INVALID_CONNECTION accept=INVALID_CONNECTION";
    world.expect(&format!("{words} send=INVALID_CONNECTION receive=INVALID_CONNECTION"));
}

#[proves("C-112", "C-113")]
#[test]
fn any_context_survives() {
    let id = EndpointId { index: 0, generation: 0 };
    for context in [0, 1, u64::MAX, 0x8000_0000_0000_0000, 0x0123_4567_89AB_CDEF] {
        assert_eq!(Endpoint::new(id, context, &Config::DEFAULT).context(), context);
    }
}

#[proves("C-235", "C-236", "C-239", "C-246")]
#[test]
fn associate_binds_to_that_address_at_once_and_tells_the_network_nothing() {
    let mut world = World::new();
    let second = world.open_address();
    assert_eq!(world.associate(0, second), NtStatus::SUCCESS);
    assert_eq!(world.state(), StateName::Associated);
    assert_eq!(world.sites[0].endpoint.address(), Some(world.addresses[second].id()));
    assert_eq!(world.addresses[second].endpoints().count(), 1);
    assert_eq!(world.addresses[0].endpoints().count(), 0);
    world.expect("");
}

#[proves("C-240", "C-179")]
#[test]
fn associate_with_a_closed_address_fails() {
    let mut world = World::new();
    world.close_address(0);
    assert_eq!(world.associate(0, 0), NtStatus::INVALID_HANDLE);
    assert_eq!((world.state(), world.endpoint().address()), (StateName::Unassociated, None));
}

#[proves("C-242", "C-243")]
#[test]
fn a_second_associate_fails_and_leaves_the_first_intact() {
    let mut world = World::associated();
    let second = world.open_address();
    for address in [0, second] {
        assert_eq!(world.associate(0, address), NtStatus::INVALID_CONNECTION);
    }
    assert_eq!(world.sites[0].endpoint.address(), Some(world.addresses[0].id()));
    assert_eq!((world.addresses[0].endpoints().count(), world.addresses[second].endpoints().count()), (1, 0));
}

#[proves("C-244", "C-250", "C-251", "C-252")]
#[test]
fn an_endpoint_is_associated_again_with_the_same_or_another_address() {
    let mut world = World::associated();
    let second = world.open_address();
    for address in [0, second, 0] {
        assert_eq!(world.disassociate(0), NtStatus::SUCCESS);
        assert_eq!(world.state(), StateName::Unassociated);
        assert_eq!(world.addresses.iter().map(|address| address.endpoints().count()).sum::<usize>(), 0);
        assert_eq!(world.associate(0, address), NtStatus::SUCCESS);
        assert_eq!(world.addresses[address].endpoints().count(), 1);
    }
    world.make_connection(0);
}

#[proves("C-245")]
#[test]
fn associate_after_the_cleanup_fails() {
    let mut world = World::in_state(StateName::CleanedUp);
    assert_eq!(world.associate(0, 0), NtStatus::INVALID_CONNECTION);
    assert_eq!(world.addresses[0].endpoints().count(), 0);
}

#[proves("C-247", "C-409")]
#[test]
fn handlers_registered_before_and_after_association_apply() {
    let mut world = World::new();
    world.register(TdiEvent::RECEIVE);
    assert_eq!(world.associate(0, 0), NtStatus::SUCCESS);
    world.make_connection(0);
    world.register(TdiEvent::DISCONNECT);
    world.peer_sends(b"early");
    world.peer_releases();
    world.expect("<early> gone:RELEASE");
}

#[proves("C-111", "C-249", "C-260")]
#[test]
fn endpoints_of_one_address_live_side_by_side() {
    let mut world = World::connected();
    for site in 1..4 {
        world.open_endpoint();
        assert_eq!(world.associate(site, 0), NtStatus::SUCCESS);
    }
    world.listen_with(1, tdi_core::RemoteFilter::ANY, false);
    world.make_connection(2);
    assert_eq!(world.disassociate(3), NtStatus::SUCCESS);
    let states: Vec<StateName> = world.sites.iter().map(|site| site.endpoint.state()).collect();
    let [established, listening] = [StateName::Established, StateName::Listening];
    assert_eq!(states, [established, listening, established, StateName::Unassociated]);
    assert_eq!(world.addresses[0].endpoints().count(), 3);
}

#[proves("C-253", "C-255")]
#[test]
fn disassociate_of_an_active_endpoint_is_refused_and_disturbs_nothing() {
    for state in StateName::ALL.into_iter().filter(|state| state.is_active()) {
        let mut world = World::in_state(state);
        assert_eq!(world.disassociate(0), NtStatus::CONNECTION_ACTIVE);
        assert_eq!(world.state(), state);
        world.expect("");
    }
}

#[proves("C-254")]
#[test]
fn disassociate_without_association_fails() {
    let mut world = World::new();
    assert_eq!(world.disassociate(0), NtStatus::INVALID_CONNECTION);
    assert_eq!(world.associate(0, 0), NtStatus::SUCCESS);
    assert_eq!(world.disassociate(0), NtStatus::SUCCESS);
    assert_eq!(world.disassociate(0), NtStatus::INVALID_CONNECTION);
}

#[proves("C-256")]
#[test]
fn disassociate_succeeds_after_every_kind_of_end() {
    let mut released = World::connected();
    released.peer_releases();
    released.disconnect(RELEASE);
    let mut aborted = World::connected();
    aborted.disconnect(ABORT);
    let mut lost = World::with_handlers();
    lost.breaks(tdi_core::NetworkError::Reset);
    lost.disconnect(ABORT);
    for mut world in [released, aborted, lost] {
        assert_eq!(world.disassociate(0), NtStatus::SUCCESS);
    }
}

#[proves("C-257", "C-283")]
#[test]
fn after_a_failed_connect_everything_starts_anew() {
    let mut world = World::associated();
    world.connect();
    world.breaks(tdi_core::NetworkError::Refused);
    assert_eq!(world.disassociate(0), NtStatus::SUCCESS);
    assert_eq!(world.associate(0, 0), NtStatus::SUCCESS);
    world.listen();
    world.disconnect(ABORT);
    world.connect();
    world.handshake(0);
    world.expect(
        "SYN RST connect=CONNECTION_REFUSED listening listen=CONNECTION_ABORTED disconnect=SUCCESS deaf SYN connect#2=SUCCESS",
    );
}

#[proves("C-258", "C-167", "C-259")]
#[test]
fn a_client_that_ignores_a_refused_disassociate_just_closes() {
    let mut world = World::connected();
    assert_eq!(world.disassociate(0), NtStatus::CONNECTION_ACTIVE);
    world.cleanup();
    world.expect("close");
    assert_eq!(world.addresses[0].endpoints().count(), 0);
    assert!(world.endpoint().is_quiet());
}

#[proves("C-569")]
#[test]
fn an_address_keeps_an_endpoint_while_a_handler_of_it_runs() {
    let mut world = World::with_handlers();
    world.during("gone:ABORT", |world| {
        assert_eq!(world.disassociate(0), NtStatus::SUCCESS);
        assert!(world.endpoint().is_indicating());
        assert_eq!(world.addresses[0].endpoints().count(), 1, "the handler still runs");
    });
    world.breaks(tdi_core::NetworkError::Reset);
    assert!(!world.endpoint().is_indicating());
    assert_eq!(world.addresses[0].endpoints().count(), 0);
}

#[test]
fn seats_are_used_again() {
    let mut world = World::new();
    for site in 1..10 {
        world.open_endpoint();
        assert_eq!(world.associate(site, 0), NtStatus::SUCCESS);
    }
    for _ in 0..3 {
        for site in [3, 5, 7] {
            assert_eq!(world.disassociate(site), NtStatus::SUCCESS);
        }
        assert_eq!(world.addresses[0].endpoints().count(), 6);
        for site in [7, 3, 5] {
            assert_eq!(world.associate(site, 0), NtStatus::SUCCESS);
        }
        let mut all: Vec<u32> = world.addresses[0].endpoints().map(|id| id.index).collect();
        all.sort_unstable();
        assert_eq!(all, (1..10).collect::<Vec<u32>>());
    }
    for site in 1..10 {
        world.cleanup_of(site);
    }
    world.close_address(0);
    assert!(world.addresses[0].is_finished());
}

#[test]
fn a_handler_of_another_address_is_not_taken_over() {
    let mut world = World::connected();
    let other = world.open_address();
    let id = world.addresses[other].id();
    let receive = tdi_core::ConnectionHandlers { receive: handler(TdiEvent::RECEIVE), ..Default::default() };
    world.endpoint().handle_handlers(id, receive);
    world.peer_sends(b"data");
    world.expect("");
    assert_ne!(handler(TdiEvent::RECEIVE), Handler::NONE);
    assert_eq!(world.endpoint().remote(), Some(remote()));
}
