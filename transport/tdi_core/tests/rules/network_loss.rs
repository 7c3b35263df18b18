//! Table 12.2: the fate of pending requests, and chapter 10.3.

use nt_abi::NtStatus;
use nt_abi::tdi::TdiEvent;
use proves::proves;
use tdi_core::status::{Cause, During, fate};
use tdi_core::{NetworkError, StateName};

use crate::world::{RELEASE, WAIT, World};

#[proves("C-449", "C-456", "C-520", "C-525", "C-526")]
#[test]
fn a_loss_ends_every_pending_request_and_is_indicated() {
    let mut world = World::with_handlers();
    world.closes_window();
    world.send(b"one");
    world.send(b"two");
    world.receive(5);
    world.receive_with(5, crate::world::EXPEDITED);
    world.disconnect(WAIT);
    world.breaks(NetworkError::Aborted);
    let aborted = "send=CONNECTION_ABORTED send#2=CONNECTION_ABORTED receive=CONNECTION_ABORTED";
    let more = "receive#2=CONNECTION_ABORTED disconnect=CONNECTION_ABORTED gone:ABORT";
    world.expect(&format!("RST {aborted} {more}"));
    assert_eq!(world.state(), StateName::Associated);
}

#[proves("C-520", "C-525")]
#[test]
fn a_loss_while_releasing_fails_the_release_last() {
    for (error, status) in [
        (NetworkError::Reset, NtStatus::CONNECTION_RESET),
        (NetworkError::TimedOut, NtStatus::IO_TIMEOUT),
        (NetworkError::Aborted, NtStatus::CONNECTION_ABORTED),
    ] {
        let mut world = World::with_handlers();
        world.disconnect(RELEASE);
        world.breaks(error);
        world.expect(&format!("FIN RST gone:ABORT disconnect={status:?}"));
        assert_eq!(world.state(), StateName::Associated);
    }
}

#[proves("C-464")]
#[test]
fn the_loss_of_one_connection_is_no_error_of_the_address() {
    let mut world = World::with_handlers();
    world.register(TdiEvent::ERROR);
    world.breaks(NetworkError::Reset);
    world.expect("RST gone:ABORT");
}

/// Table 12.2 by rows, as far as it leaves no choice.
#[proves("C-525", "C-066")]
#[test]
fn fates_have_the_statuses_of_the_table() {
    use During::*;
    for during in During::ALL {
        assert_eq!(fate(Cause::Cancelled, during), NtStatus::CANCELLED);
        assert_eq!(fate(Cause::CleanedUp, during), NtStatus::CANCELLED);
        assert_eq!(fate(Cause::LocalAbort, during), NtStatus::CONNECTION_ABORTED);
        assert_eq!(fate(Cause::AddressClosed, during), NtStatus::ADDRESS_CLOSED);
    }
    let reset = [CONNECTION_REFUSED, CONNECTION_RESET, CONNECTION_RESET, CONNECTION_RESET, CONNECTION_RESET];
    assert_eq!(During::ALL.map(|during| fate(Cause::Broken(NetworkError::Reset), during)), reset);
    let lost = [IO_TIMEOUT, IO_TIMEOUT, IO_TIMEOUT, CONNECTION_ABORTED, IO_TIMEOUT];
    assert_eq!(During::ALL.map(|during| fate(Cause::Broken(NetworkError::TimedOut), during)), lost);
    let late = [IO_TIMEOUT, IO_TIMEOUT, CONNECTION_ABORTED, CONNECTION_ABORTED, IO_TIMEOUT];
    assert_eq!(During::ALL.map(|during| fate(Cause::TimedOut, during)), late);
    assert_eq!(fate(Cause::Broken(NetworkError::Aborted), Accepting), CONNECTION_ABORTED);
    assert_eq!(fate(Cause::Broken(NetworkError::Aborted), Sending), CONNECTION_ABORTED);
}

const CONNECTION_REFUSED: NtStatus = NtStatus::CONNECTION_REFUSED;
const CONNECTION_RESET: NtStatus = NtStatus::CONNECTION_RESET;
const CONNECTION_ABORTED: NtStatus = NtStatus::CONNECTION_ABORTED;
const IO_TIMEOUT: NtStatus = NtStatus::IO_TIMEOUT;
