//! TDI_ASSOCIATE_ADDRESS, TDI_DISASSOCIATE_ADDRESS, and what an address tells its endpoints.

use nt_abi::NtStatus;

use super::Endpoint;
use super::output::Waiting;
use super::state::{Association, State};
use crate::address::Address;
use crate::ids::AddressId;
use crate::indication::ConnectionHandlers;
use crate::status::{self, Cause};
use crate::table::{RequestKind, Verdict, verdict};
use crate::time::Instant;

impl Endpoint {
    /// The associated address, if there is one.
    pub fn address(&self) -> Option<AddressId> {
        self.association.as_ref().map(|association| association.address)
    }

    /// TDI_ASSOCIATE_ADDRESS (C-235 ff.). The caller has resolved the handle to one of its own
    /// addresses and holds both locks.
    ///
    /// SUCCESS; INVALID_CONNECTION if associated already or cleaned up (C-242, C-245);
    /// INVALID_HANDLE if the address is closed (C-240).
    pub fn tdi_associate_address(&mut self, address: &mut Address) -> NtStatus {
        let from = self.state();
        if let Verdict::Refused(situation) = verdict(RequestKind::Associate, from) {
            return situation.status();
        }
        if address.is_closed() {
            return status::ASSOCIATE_CLOSED_ADDRESS;
        }
        let seat = address.seat(self.id);
        self.association = Some(Association::new(address.id(), seat, address.connection_handlers()));
        self.check_step(from);
        NtStatus::SUCCESS
    }

    /// TDI_DISASSOCIATE_ADDRESS (C-250 ff.).
    ///
    /// SUCCESS; INVALID_CONNECTION if not associated; CONNECTION_ACTIVE unless idle.
    pub fn tdi_disassociate_address(&mut self) -> NtStatus {
        let from = self.state();
        if let Verdict::Refused(situation) = verdict(RequestKind::Disassociate, from) {
            return situation.status();
        }
        self.drop_leftovers();
        self.detach();
        self.check_step(from);
        NtStatus::SUCCESS
    }

    /// The handlers registered on `address` are now these (C-409, C-494).
    pub fn handle_handlers(&mut self, address: AddressId, handlers: ConnectionHandlers) {
        let Some(association) = &mut self.association else { return };
        if association.address != address || association.is_closed {
            return;
        }
        let before = association.handlers();
        association.set_handlers(handlers);
        // A new handler has not rejected anything yet.
        if before.normal() != handlers.normal() {
            self.normal.set_rejected(false);
        }
        if before.expedited() != handlers.expedited() {
            self.expedited.set_rejected(false);
        }
        self.settle();
    }

    /// The file object of the associated address was closed: listens and accepts end, established
    /// connections go on without handlers (C-176, C-178, C-570). Ignored if `address` is not
    /// the associated one.
    pub fn handle_address_closed(&mut self, now: Instant, address: AddressId) {
        self.now = now;
        let Some(association) = &mut self.association else { return };
        if association.address != address {
            return;
        }
        association.is_closed = true;
        association.set_handlers(ConnectionHandlers::default());
        match self.state {
            State::Listening { .. } | State::Offered { .. } | State::Accepting { .. } => {
                self.end_setup(Cause::AddressClosed);
            }
            State::Idle | State::Connecting { .. } | State::Connected(_) | State::CleanedUp => {}
        }
        self.settle();
    }

    /// Undoes the association, if there is one.
    pub(super) fn detach(&mut self) {
        if let Some(association) = self.association.take() {
            let Association { address, seat, .. } = association;
            self.outputs.push(Waiting::Detach { address, seat });
        }
        self.outputs.forget_disconnects();
    }
}
