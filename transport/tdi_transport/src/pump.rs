//! Working off what endpoints have to say: the loop around `tdi_core`.
//!
//! One thread at a time is out at the client for an endpoint; others that come meanwhile do what concerns the
//! network and leave the rest to it (`tdi_core`'s documentation). No lock is held while client code runs, and
//! what is touched afterwards is found again by name: the client may have closed everything.
//!
//! An exception of client code that passes the transport does not end the loop: the other requests are as due as before, and
//! their client may not hear of them any more once its ZwClose is left (C-568).

use std::sync::atomic::Ordering;

use nt_abi::{Irp, Irql, NtStatus};
use nt_dispatcher::irql::Raised;
use nt_dispatcher::poller;
use nt_io::{completion, irp};
use tdi_core::{AddressId, AddressMessage, Completion, NetworkCommand, OfferId, Output, RequestId, StateName};
use trace::Event;

use crate::carry_out::Urgent;
use crate::connection_information;
use crate::endpoint::{Awaited, Caller, EndpointState};
use crate::requests::{self, Owner};
use crate::table::{Locked, Name};
use crate::transport::Transport;

/// Client calls of one turn; an endpoint that has more goes to the back of the queue, so that a client that
/// posts receive after receive from its completion routine does not keep the thread for ever.
const CALLS_MAX: u32 = 256;

/// A request whose dispatch routine is running: if it ends before anything else concerns the client, it is
/// completed there and then, without having been pending.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own {
    pub(crate) id: RequestId,
    pub(crate) irp: *mut Irp,
}

/// How an endpoint was left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pumped {
    /// What the caller's own request was completed with, if it was; otherwise it is pending now.
    pub(crate) status: Option<NtStatus>,
    /// After a cleanup: nothing is out at the client and nothing waits.
    pub(crate) is_quiet: bool,
}

/// What was left to do so that it does not keep a thread for ever.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Later {
    /// An endpoint has more to say.
    Endpoint(Name),
    /// There are more offers.
    Offers(Name),
    /// An address has more to say.
    Address(AddressId),
    /// An offer has waited for too long.
    Overdue(AddressId, OfferId),
}

/// What a turn leaves to do without the endpoint's lock.
#[derive(Default)]
struct After {
    /// Addresses that got messages. An endpoint has one, or one after the other.
    addresses: [Option<AddressId>; 2],
}

impl After {
    fn note(&mut self, id: AddressId) {
        if !self.addresses.contains(&Some(id)) {
            self.addresses = [Some(id), self.addresses[0]];
        }
    }
}

impl Transport {
    /// Works off an endpoint's outputs.
    pub(crate) fn pump<'a>(&'a self, endpoint: Locked<'a, EndpointState>, own: Option<Own>) -> Pumped {
        let mut after = After::default();
        let pumped = self.turn(endpoint, own, &mut after);
        for id in after.addresses.into_iter().flatten() {
            self.pump_address(id);
        }
        pumped
    }

    fn turn<'a>(&'a self, mut endpoint: Locked<'a, EndpointState>, mut own: Option<Own>, after: &mut After) -> Pumped {
        let name = endpoint.name();
        let mut status = None;
        let mut calls = 0;
        // Behind what was read, or where there was no room before, an urgent byte may be next that no event tells of any more.
        let mut looks_for_urgent = false;
        loop {
            if calls == CALLS_MAX {
                self.leave_for_later(Later::Endpoint(name));
                break;
            }
            match endpoint.core.poll_output() {
                Some(Output::Network(command)) => {
                    looks_for_urgent |= matches!(
                        command,
                        NetworkCommand::Fill { .. }
                            | NetworkCommand::ReadAhead { .. }
                            | NetworkCommand::CopyBuffered { .. }
                    );
                    self.carry_out(&mut endpoint, command);
                }
                Some(Output::Address(id, message)) => {
                    if self.pass(&endpoint, id, message) {
                        after.note(id);
                    }
                }
                Some(Output::Complete(completion)) => {
                    calls += 1;
                    let inline = own.take_if(|own| own.id == completion.id).is_some();
                    if let Some(own) = own.take() {
                        self.pend(&mut endpoint, own);
                    }
                    let ended_with;
                    (endpoint, ended_with) = self.deliver(endpoint, completion, inline);
                    status = status.or(inline.then_some(ended_with));
                }
                Some(Output::Indicate(indication)) => {
                    calls += 1;
                    if let Some(own) = own.take() {
                        self.pend(&mut endpoint, own);
                    }
                    endpoint = self.indicate(endpoint, indication);
                    looks_for_urgent = true;
                }
                None if std::mem::take(&mut looks_for_urgent) && self.take_urgent(&mut endpoint) == Urgent::Taken => {
                    looks_for_urgent = true;
                    self.read_again(&mut endpoint);
                }
                None => match own.take() {
                    // Cancelled meanwhile: its completion comes next.
                    Some(own) if self.pend(&mut endpoint, own) => {}
                    _ => break,
                },
            }
        }
        if let Some(own) = own.take() {
            self.pend(&mut endpoint, own);
        }
        Pumped { status, is_quiet: self.leave(endpoint) }
    }

    /// Gives an endpoint's message to its address. Returns whether there is something to do for that now.
    fn pass(&self, endpoint: &Locked<'_, EndpointState>, id: AddressId, message: AddressMessage) -> bool {
        if matches!(message, AddressMessage::Detach { .. }) {
            gate::record(Event::EndpointDisassociated { endpoint: endpoint.file });
        }
        let Some(mut address) = self.addresses.lock(id) else { return false };
        address.core.handle_message(endpoint.core.id(), message);
        address.is_closed || !address.core.is_quiet()
    }

    /// Marks a request pending and makes it cancellable (C-203). `true` if it was cancelled before that (C-575).
    fn pend(&self, endpoint: &mut Locked<'_, EndpointState>, own: Own) -> bool {
        // SAFETY: the endpoint is locked, so nobody else has completed the request.
        let cancellable = unsafe {
            irp::mark_pending(own.irp);
            requests::make_cancellable(own.irp)
        };
        if !cancellable {
            let now = endpoint.core.now();
            endpoint.core.handle_cancel(now, own.id);
        }
        // Whatever it waits for, the network has to tell.
        self.watch(endpoint);
        !cancellable
    }

    /// Completes a request with the lock released. Gives the endpoint back, locked, and the final status.
    fn deliver<'a>(
        &'a self,
        mut endpoint: Locked<'_, EndpointState>,
        completion: Completion,
        inline: bool,
    ) -> (Locked<'a, EndpointState>, NtStatus) {
        let name = endpoint.name();
        let irp = self.requests.take(completion.id).expect("the core completes each request once");
        endpoint.caller = Caller::here(!inline || gate::irql() > Irql::PASSIVE);
        drop(endpoint);
        // SAFETY: taken out of the table just now, so it is ours to complete.
        let status = unsafe {
            if inline {
                finish(irp, completion)
            } else {
                requests::settle(irp);
                let _raised = Raised::to(Irql::DISPATCH);
                finish(irp, completion)
            }
        };
        let mut endpoint = self.lock_again(name);
        endpoint.core.handle_completion_delivered(completion.id);
        (endpoint, status)
    }

    /// Locks an endpoint again after a client call.
    pub(crate) fn lock_again(&self, name: Name) -> Locked<'_, EndpointState> {
        let mut endpoint = self.endpoints.lock(name).expect("an endpoint stays while something is out at its client");
        endpoint.caller = Caller::default();
        endpoint
    }

    /// The end of a turn: the deadline, and whatever waited until nothing is out at the client. Returns whether
    /// nothing is, if anybody could want to know: otherwise false.
    pub(crate) fn leave(&self, mut endpoint: Locked<'_, EndpointState>) -> bool {
        let name = endpoint.name();
        let deadline = endpoint.core.poll_timeout().map_or(u64::MAX, |deadline| deadline.0);
        if deadline != endpoint.timer {
            endpoint.timer = deadline;
            if deadline != u64::MAX {
                self.timers.set(deadline, name);
                poller::changed();
            }
        }
        let is_of_interest =
            endpoint.awaited.is_some() || endpoint.is_closed || endpoint.core.state() == StateName::CleanedUp;
        if !is_of_interest || !endpoint.core.is_quiet() {
            return false;
        }
        let Awaited { cleanup, address: awaited_by } =
            endpoint.awaited.take().map(|awaited| *awaited).unwrap_or_default();
        if endpoint.is_closed && cleanup == 0 {
            let removed = self.endpoints.remove(endpoint);
            drop(removed);
        } else {
            drop(endpoint);
        }
        if let Some(address) = awaited_by {
            self.endpoint_is_quiet(address);
        }
        if cleanup != 0 {
            // SAFETY: the CLEANUP that was stored when it was marked pending; taken out just now.
            unsafe { completion::complete_with(cleanup as *mut Irp, NtStatus::SUCCESS, 0) };
        }
        true
    }

    /// Has the poller go on with this.
    pub(crate) fn leave_for_later(&self, later: Later) {
        self.ready().push(later);
        self.has_ready.store(true, Ordering::Release);
        poller::changed();
    }

    /// Goes on with what was left for later.
    pub(crate) fn run_ready(&self) {
        if !self.has_ready.swap(false, Ordering::Acquire) {
            return;
        }
        let ready = std::mem::take(&mut *self.ready());
        for later in ready {
            match later {
                Later::Endpoint(name) => self.pump_by_name(name),
                Later::Offers(listener) => self.take_offers(listener),
                Later::Address(address) => self.pump_address(address),
                Later::Overdue(address, offer) => self.end_patience(address, offer),
            }
        }
    }

    /// A client cancels a request that the core has, or had.
    pub(crate) fn cancel(&self, owner: Owner, id: RequestId) {
        match owner {
            Owner::Endpoint(endpoint) => {
                if let Some(mut endpoint) = self.endpoints.lock(endpoint) {
                    let now = endpoint.tick();
                    endpoint.core.handle_cancel(now, id);
                    self.pump(endpoint, None);
                }
            }
            Owner::Address(address) => {
                if let Some(mut locked) = self.addresses.lock(address) {
                    if let Some(datagrams) = &mut locked.datagrams {
                        datagrams.cancel(id);
                    }
                    drop(locked);
                    self.pump_address(address);
                }
            }
        }
    }

    /// Works off an endpoint's outputs, if it is still there.
    pub(crate) fn pump_by_name(&self, name: impl Into<Name>) {
        if let Some(endpoint) = self.endpoints.lock(name) {
            self.pump(endpoint, None);
        }
    }
}

/// Fills in what the client asked to have returned, and completes.
///
/// # Safety
/// `irp` is the transport's to complete.
pub(crate) unsafe fn finish(irp: *mut Irp, completion: Completion) -> NtStatus {
    let Completion { id: _, mut status, information, peer } = completion;
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(peer) = peer {
            let returned = connection_information::return_peer(irp, peer);
            if status == NtStatus::SUCCESS {
                status = returned;
            }
        }
        completion::complete_with(irp, status, information)
    }
}
