//! How a connection comes to be: TDI_CONNECT, TDI_LISTEN, TDI_ACCEPT, offers.

use alloc::boxed::Box;
use core::net::SocketAddr;

use nt_abi::NtStatus;

use super::output::Waiting;
use super::state::State;
use super::{Endpoint, OfferAnswer};
use crate::ids::{AddressId, RequestId};
use crate::network::Offer;
use crate::request::{Outcome, RemoteFilter};
use crate::status::{self, Cause, During, Situation, fate};
use crate::table::{RequestKind, Verdict, verdict};
use crate::time::Instant;

impl Endpoint {
    pub(super) fn on_connect(&mut self, id: RequestId, remote: SocketAddr, timeout: Option<u64>) -> Outcome {
        let deadline = self.now.after(timeout.unwrap_or(self.config.connect_timeout));
        let connection = self.begin_link(remote);
        self.enter(State::Connecting { connect: id, deadline });
        self.outputs.push(Waiting::Connect { connection, remote: remote.into() });
        Outcome::Taken
    }

    pub(super) fn on_listen(&mut self, id: RequestId, filter: RemoteFilter, query_accept: bool) -> Outcome {
        let Some(association) = &self.association else {
            return Outcome::Done(Situation::SetupNotAssociated.status());
        };
        if association.is_closed {
            return Outcome::Done(status::LISTEN_CLOSED_ADDRESS);
        }
        let filter = filter.remote.map(Box::new);
        self.outputs.push(Waiting::Listen { address: association.address, id, filter });
        self.outputs.forget_disconnects();
        self.enter(State::Listening { listen: id, query_accept });
        Outcome::Taken
    }

    pub(super) fn on_accept(&mut self, id: RequestId) -> Outcome {
        let Some(link) = &self.link else {
            return Outcome::Done(Situation::NothingOffered.status());
        };
        self.outputs.push(Waiting::Accept(link.number));
        self.enter(State::Accepting { request: id });
        Outcome::Taken
    }

    /// A TDI_ACCEPT that a connect handler returned for `offer`, which arrived on `address`
    /// (C-312, C-435).
    ///
    /// [`Outcome::Done`] is always an error: the caller completes the IRP with it and tells the address
    /// [`crate::ConnectAnswer::Rejected`] (C-222). After [`Outcome::Taken`] the offer's connection
    /// belongs to this endpoint under [`Endpoint::connection`]. The next output may be the Close of the last one, of
    /// which something was left.
    pub fn handle_accept_irp(&mut self, now: Instant, id: RequestId, address: AddressId, offer: &Offer) -> Outcome {
        self.now = now;
        if let Verdict::Refused(situation) = verdict(RequestKind::AcceptIrp, self.state()) {
            return Outcome::Done(situation.status());
        }
        let fits = |association: &super::state::Association| association.address == address && !association.is_closed;
        if !self.association.as_ref().is_some_and(fits) {
            return Outcome::Done(Situation::AcceptIrpNotIdle.status());
        }
        self.drop_leftovers();
        self.accept(id, offer);
        Outcome::Taken
    }

    /// An offer for the pending listen `listen`, from the address ([`crate::AddressOutput::Deliver`]).
    pub fn handle_offer(&mut self, now: Instant, listen: RequestId, offer: &Offer) -> OfferAnswer {
        self.now = now;
        let State::Listening { listen: pending, query_accept } = self.state else {
            return OfferAnswer::Returned;
        };
        if pending != listen {
            return OfferAnswer::Returned;
        }
        if query_accept {
            let number = self.begin_link(offer.remote);
            self.enter(State::Offered { deadline: now.after(self.config.offer_timeout) });
            self.complete_setup(listen);
            return OfferAnswer::Taken(number);
        }
        self.accept(listen, offer);
        match self.connection() {
            Some(number) => OfferAnswer::Taken(number),
            None => OfferAnswer::Returned,
        }
    }

    fn accept(&mut self, request: RequestId, offer: &Offer) {
        let connection = self.begin_link(offer.remote);
        self.outputs.push(Waiting::Accept(connection));
        self.enter(State::Accepting { request });
    }

    pub(super) fn on_connected(&mut self, remote: SocketAddr) {
        let (State::Connecting { connect: request, .. } | State::Accepting { request }) = self.state else {
            return;
        };
        if let Some(link) = &mut self.link {
            link.remote = remote.into();
        }
        self.enter(State::established());
        self.complete_setup(request);
    }

    /// Ends C, L, O or P without a connection: back to A.
    pub(super) fn end_setup(&mut self, cause: Cause) {
        match self.enter(State::Idle) {
            State::Connecting { connect, .. } => self.complete(connect, fate(cause, During::Connecting)),
            State::Accepting { request } => self.complete(request, fate(cause, During::Accepting)),
            State::Listening { listen, .. } => {
                if let Some(association) = &self.association {
                    let address = association.address;
                    self.outputs.push(Waiting::WithdrawListen { address, id: listen });
                }
                self.complete(listen, fate(cause, During::Accepting));
            }
            State::Offered { .. } | State::Idle | State::Connected(_) | State::CleanedUp => {}
        }
        self.fail_waits(cause);
        self.drop_link();
    }

    /// Gives the network's connection up, if there is one; what was queued for it is void.
    pub(super) fn drop_link(&mut self) {
        if let Some(link) = self.link.take() {
            self.outputs.push(Waiting::Abort(link.number));
        }
    }

    /// As the verdict says of a request that is over at once.
    pub(super) fn refuse(&self, kind: RequestKind) -> Option<NtStatus> {
        match verdict(kind, self.state()) {
            Verdict::Refused(situation) => Some(situation.status()),
            Verdict::NoEffect => Some(NtStatus::SUCCESS),
            Verdict::Stays | Verdict::Becomes(_) | Verdict::Pends(_) => None,
        }
    }
}
