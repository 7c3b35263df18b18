//! Working off what addresses have to say: offers of remote nodes, errors, the end of an address.

use std::mem;
use std::ptr;
use std::sync::Arc;

use gate::call;
use net_api::{Accepted, Connection};
use nt_abi::tdi::{TdiEvent, TdiRequest};
use nt_abi::{Irp, Irql, NtStatus};
use nt_dispatcher::clock;
use nt_dispatcher::irql::Raised;
use nt_io::completion;
use tdi_core::{
    AddressId, AddressOutput, ConnectAnswer, EndpointId, Handler, Offer, OfferAnswer, OfferId, Outcome, RequestId,
    transport_address,
};
use trace::Event;

use crate::address::{AddressState, BACKLOG};
use crate::adopt::{Adopted, blame, blame_request, is_request};
use crate::datagram::Step;
use crate::decode;
use crate::endpoint::{Caller, EndpointState, Link, Phase, Said};
use crate::pump::Later;
use crate::requests::{self, Owner};
use crate::stream_address::StreamAddress;
use crate::table::{Locked, Name};
use crate::transport::{self, Transport};

/// Offers taken from the network in one go, so that a flood of them does not keep the thread.
const OFFERS_MAX: u32 = 2 * BACKLOG;
/// How long an offer waits for the next listen, behind one that an offer has used up. NT refuses it at once, and its own
/// clients try again then; a socket's tell their users.
const OFFER_PATIENCE_100NS: u64 = 10 * 10_000_000;
/// Outputs worked off in one go, likewise.
const STEPS_MAX: u32 = 256;

type Endpoint<'a> = Locked<'a, EndpointState>;

impl Transport {
    /// Works off an address's outputs, unless somebody does so already: then that thread goes on with what there
    /// is now when it comes back from its client call.
    pub(crate) fn pump_address(&self, id: AddressId) {
        for _ in 0..STEPS_MAX {
            let Some(mut address) = self.addresses.lock(id) else { return };
            if address.is_pumped {
                return;
            }
            let Some(output) = address.core.poll_output() else {
                match address.next_datagram_step(&self.requests) {
                    Some(Step::Later) => return self.leave_for_later(Later::Address(id)),
                    Some(step) => {
                        address.is_pumped = true;
                        self.take_datagram_step(address, step);
                        self.end_step(id);
                        continue;
                    }
                    None => return self.leave_address(address),
                }
            };
            address.is_pumped = true;
            match output {
                AddressOutput::Listen(on) => listen(self, address, on),
                AddressOutput::Refuse(offer) => refuse(address, offer),
                AddressOutput::TellClosed(endpoint) => {
                    drop(address);
                    self.tell_closed(endpoint, id);
                }
                AddressOutput::Deliver { endpoint, listen, offer } => {
                    let connection = address.take_offer(offer.id);
                    drop(address);
                    self.offer_to(endpoint, listen, id, &offer, connection);
                }
                AddressOutput::IndicateConnect { handler, offer } => self.indicate_connect(address, handler, offer),
                AddressOutput::IndicateError { event, handler, status } => {
                    self.indicate_error(address, event, handler, status);
                }
            }
            self.end_step(id);
        }
        self.leave_for_later(Later::Address(id));
    }

    fn end_step(&self, id: AddressId) {
        if let Some(mut address) = self.addresses.lock(id) {
            address.is_pumped = false;
        }
    }

    /// Nothing is left to do for an address: what waited for that goes on.
    pub(crate) fn leave_address(&self, mut address: Locked<'_, AddressState>) {
        if !address.is_quiet() || address.awaits > 0 {
            return;
        }
        let cleanup = mem::take(&mut address.cleanup);
        if address.is_closed && address.core.is_finished() {
            let id = address.core.id();
            let removed = self.addresses.remove(address);
            if let Some(mut removed) = removed {
                self.release(id, &mut removed);
            }
        } else {
            drop(address);
        }
        if cleanup != 0 {
            // SAFETY: the CLEANUP that was stored when it was marked pending; taken out just now.
            unsafe { completion::complete_with(cleanup as *mut Irp, NtStatus::SUCCESS, 0) };
        }
    }

    /// Gives up what an address has of the network and of the claims.
    fn release(&self, id: AddressId, address: &mut AddressState) {
        if mem::take(&mut address.is_listening) {
            if let Some(shared) = &address.network {
                shared.end(self, id);
            }
            self.watch_less();
        }
        if address.datagrams.take().is_some_and(|mut datagrams| datagrams.unwatch()) {
            self.watch_less();
        }
        address.network = None;
        let mut claims = self.claims();
        let claims = claims.of(address.host);
        if let Some(claim) = address.claim.take() {
            claims.table.release(claim);
        }
        claims.opened.retain(|(_, _, opened)| opened.strong_count() > 0);
    }

    /// Tells an endpoint that its address is closed. If it is out at the client on another thread, the address's
    /// CLEANUP waits for it (C-568, C-569).
    fn tell_closed(&self, id: EndpointId, closed: AddressId) {
        let Some(mut endpoint) = self.endpoints.lock(id) else { return };
        let now = endpoint.tick();
        endpoint.core.handle_address_closed(now, closed);
        self.pump(endpoint, None);
        let Some(mut endpoint) = self.endpoints.lock(id) else { return };
        if endpoint.core.is_quiet() || endpoint.caller.is_here() || endpoint.awaited_by().is_some() {
            return;
        }
        endpoint.awaited.get_or_insert_default().address = Some(closed);
        if let Some(mut address) = self.addresses.lock(closed) {
            address.awaits += 1;
        }
    }

    /// An endpoint that an address waited for has nothing out at the client any more.
    pub(crate) fn endpoint_is_quiet(&self, id: AddressId) {
        if let Some(mut address) = self.addresses.lock(id) {
            address.awaits = address.awaits.saturating_sub(1);
        }
        self.pump_address(id);
    }

    /// The network has offers for those that share an address.
    pub(crate) fn take_offers(&self, name: Name) {
        for _ in 0..OFFERS_MAX {
            let Some(shared) = self.listeners.lock(name).map(|listener| Arc::clone(&listener)) else { return };
            match shared.network.accept() {
                Accepted::Connection(connection) => self.take_offer(&shared, connection),
                Accepted::WouldBlock | Accepted::NotListening => return,
                // That one is lost; its remote node knows.
                Accepted::Failed(_) => {}
            }
        }
        self.leave_for_later(Later::Offers(name));
    }

    fn take_offer(&self, shared: &StreamAddress, connection: Arc<dyn Connection>) {
        let remote = connection.remote();
        let Some(mut address) = self.open_for_offer(shared, remote) else { return connection.abort() };
        let id = address.core.id();
        let local = connection.local().unwrap_or(address.local());
        let number = self.offers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let offer = Offer { id: OfferId(number), remote, local };
        address.offers.push((offer.id, connection));
        address.core.handle_offer(offer);
        let waits = address.core.is_waiting(offer.id);
        drop(address);
        self.pump_address(id);
        if waits {
            self.set_patience(id, offer.id);
        }
    }

    /// An offer that no listen takes waits only so long.
    fn set_patience(&self, id: AddressId, offer: OfferId) {
        let transport = ptr::from_ref(self) as usize;
        // Boxed: an offer between two listens is the exception.
        nt_dispatcher::timer::at(clock::now_100ns() + OFFER_PATIENCE_100NS, move || {
            if let Some(current) = transport::current().filter(|current| ptr::from_ref(*current) as usize == transport)
            {
                current.leave_for_later(Later::Overdue(id, offer));
            }
        });
    }

    /// An offer's patience is over.
    pub(crate) fn end_patience(&self, id: AddressId, offer: OfferId) {
        let Some(mut address) = self.addresses.lock(id) else { return };
        address.core.handle_offer_overdue(offer);
        drop(address);
        self.pump_address(id);
    }

    /// Gives an offer to an endpoint whose listen matches.
    fn offer_to(
        &self,
        endpoint: EndpointId,
        listen: RequestId,
        id: AddressId,
        offer: &Offer,
        connection: Option<Arc<dyn Connection>>,
    ) {
        let Some(connection) = connection else { return };
        if let Some(mut endpoint) = self.endpoints.lock(endpoint)
            && let now = endpoint.tick()
            && let OfferAnswer::Taken(_) = endpoint.core.handle_offer(now, listen, offer)
        {
            self.take_link(&mut endpoint, connection);
            self.pump(endpoint, None);
            return;
        }
        if let Some(mut address) = self.addresses.lock(id) {
            address.offers.push((offer.id, connection));
            address.core.handle_offer_returned(*offer);
        }
    }

    /// The connection of an offer belongs to this endpoint now.
    fn take_link(&self, endpoint: &mut Endpoint<'_>, connection: Arc<dyn Connection>) {
        let Some(number) = endpoint.core.connection() else { return };
        // What was left of the last connection is dropped, and the core's word about it has not been polled yet.
        self.close(endpoint);
        let serial = self.next_serial();
        let phase = Phase::Offered;
        endpoint.link = Some(Link { connection, number, serial, phase, said: Said::default() });
        // So that a remote node that withdraws its offer is noticed. It is answered when the core accepts it.
        self.watch(endpoint);
    }

    /// Calls ClientEventConnect and lets the endpoint of the IRP it returns take the offer (10.2).
    fn indicate_connect(&self, mut address: Locked<'_, AddressState>, handler: Handler, offer: Offer) {
        let id: AddressId = address.name().into();
        let file = address.file;
        let connection = address.take_offer(offer.id);
        address.caller = Caller::here(true);
        drop(address);
        let answer = match (connection, call_connect_handler(file, handler, &offer)) {
            (Some(connection), Some(irp)) => self.accept(irp, handler, id, &offer, connection),
            (Some(connection), None) => {
                connection.abort();
                ConnectAnswer::Rejected
            }
            (None, irp) => {
                if let Some(adopted) = irp.and_then(|irp| self.adopt(irp, handler.routine)) {
                    // SAFETY: adopted: a packet that the transport holds now.
                    unsafe { completion::complete_with(adopted.irp, NtStatus::CONNECTION_ABORTED, 0) };
                }
                ConnectAnswer::Rejected
            }
        };
        if let Some(mut address) = self.addresses.lock(id) {
            address.caller = Caller::default();
            address.core.handle_connect_result(offer.id, answer);
        }
    }

    /// Lets the endpoint that the returned TDI_ACCEPT names take the offer. What cannot be honoured is refused, and
    /// the IRP completes with an error (C-222, C-312).
    fn accept(
        &self,
        irp: u64,
        handler: Handler,
        id: AddressId,
        offer: &Offer,
        connection: Arc<dyn Connection>,
    ) -> ConnectAnswer {
        let Some(adopted) = self.adopt(irp, handler.routine) else {
            connection.abort();
            return ConnectAnswer::Rejected;
        };
        let Adopted { irp, location } = adopted;
        let status = if !is_request(&location, TdiRequest::ACCEPT) {
            blame_request(handler.routine, &location, "TDI_ACCEPT");
            NtStatus::INVALID_DEVICE_REQUEST
        } else if let Err(status) = decode::accept(&location) {
            // One that could not tell who connects must not leave a connection behind.
            status
        } else {
            match self.endpoint_of(adopted.file()) {
                Some(endpoint) => {
                    let address = endpoint.core.address();
                    // SAFETY: adopted: a packet that the transport holds now.
                    match unsafe { self.hand_over(endpoint, irp, id, offer, &connection) } {
                        Ok(()) => return ConnectAnswer::Accepted,
                        Err(status) => {
                            // One that is not idle, or not associated any more, may have lost a race.
                            if address.is_some_and(|address| address != id) {
                                blame_request(handler.routine, &location, "TDI_ACCEPT on an endpoint of the address");
                            }
                            status
                        }
                    }
                }
                None => {
                    blame_request(handler.routine, &location, "TDI_ACCEPT on an endpoint");
                    NtStatus::INVALID_CONNECTION
                }
            }
        };
        connection.abort();
        // SAFETY: as above.
        unsafe { completion::complete_with(irp, status, 0) };
        ConnectAnswer::Rejected
    }

    /// # Safety
    /// `irp` is a packet the transport holds.
    unsafe fn hand_over(
        &self,
        mut endpoint: Endpoint<'_>,
        irp: *mut Irp,
        id: AddressId,
        offer: &Offer,
        connection: &Arc<dyn Connection>,
    ) -> Result<(), NtStatus> {
        // SAFETY: the caller's promise.
        let request = unsafe { self.requests.insert(irp, Owner::Endpoint(endpoint.core.id())) };
        let request = request.ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
        let now = endpoint.tick();
        match endpoint.core.handle_accept_irp(now, request, id, offer) {
            Outcome::Done(status) => {
                self.requests.take(request);
                Err(status)
            }
            Outcome::Taken => {
                self.take_link(&mut endpoint, Arc::clone(connection));
                // SAFETY: in the table, and its owner is locked.
                if !unsafe { requests::make_cancellable(irp) } {
                    endpoint.core.handle_cancel(now, request);
                }
                self.pump(endpoint, None);
                Ok(())
            }
        }
    }

    fn indicate_error(
        &self,
        mut address: Locked<'_, AddressState>,
        event: TdiEvent,
        handler: Handler,
        status: NtStatus,
    ) {
        let name = address.name();
        let file = address.file;
        address.caller = Caller::here(true);
        drop(address);
        gate::record(Event::Indicated { endpoint: file, event: event.0, context: 0, bytes: 0 });
        let raised = Raised::to(Irql::DISPATCH);
        // SAFETY: a routine that a driver registered for this event (10.4); ErrorEx has a third argument.
        let answer = unsafe { call::call3(handler.routine, handler.context, status.0.into(), 0) };
        drop(raised);
        gate::record(Event::IndicationReturned { endpoint: file, status: answer as u32, taken: 0 });
        if let Some(mut address) = self.addresses.lock(name) {
            address.caller = Caller::default();
            address.core.handle_error_indicated();
        }
    }
}

/// Starts or stops taking offers.
fn listen(transport: &Transport, mut address: Locked<'_, AddressState>, on: bool) {
    let id = address.name().into();
    let Some(shared) = address.network.clone() else { return };
    if on == address.is_listening {
        return;
    }
    if !on {
        shared.end(transport, id);
        address.is_listening = false;
        transport.watch_less();
        return;
    }
    match shared.begin(transport, id) {
        Ok(()) => {
            address.is_listening = true;
            transport.watch_more();
            transport.pinned(&mut address, shared.network.local());
        }
        Err(error) => address.core.handle_failure(crate::status::address_status(error)),
    }
}

/// Refuses an offer on the network.
fn refuse(mut address: Locked<'_, AddressState>, offer: OfferId) {
    let connection = address.take_offer(offer);
    drop(address);
    if let Some(connection) = connection {
        connection.abort();
    }
}

/// Calls ClientEventConnect. Returns the IRP it accepts with; only MORE_PROCESSING_REQUIRED accepts, and only then
/// are the outputs looked at (C-435 to C-442).
fn call_connect_handler(file: u64, handler: Handler, offer: &Offer) -> Option<u64> {
    let remote = transport_address::encode(offer.remote);
    let bytes = remote.as_bytes();
    let (mut context, mut irp) = (0u64, 0u64);
    let (context_at, irp_at) = (&raw mut context, &raw mut irp);
    gate::record(Event::Indicated { endpoint: file, event: TdiEvent::CONNECT.0, context: 0, bytes: 0 });
    let raised = Raised::to(Irql::DISPATCH);
    let arguments =
        [handler.context, bytes.len() as u64, bytes.as_ptr() as u64, 0, 0, 0, 0, context_at as u64, irp_at as u64];
    // SAFETY: a routine that a driver registered for this event (10.2); its outputs lie on this stack, and are
    // read as what foreign code left there.
    let (status, irp) = unsafe {
        let status = NtStatus(call::call_n(handler.routine, &arguments) as u32);
        (status, irp_at.read_volatile())
    };
    drop(raised);
    gate::record(Event::IndicationReturned { endpoint: file, status: status.0, taken: 0 });
    let fault = match status {
        NtStatus::MORE_PROCESSING_REQUIRED if irp != 0 => return Some(irp),
        NtStatus::MORE_PROCESSING_REQUIRED => ("C-442", "STATUS_MORE_PROCESSING_REQUIRED without an IRP"),
        status if status.is_success() => ("C-439", "a success, but STATUS_MORE_PROCESSING_REQUIRED accepts"),
        _ => return None,
    };
    let (rule, what) = fault;
    let message = format_args!("a connect handler returned {what} ({:#010x}); the offer was refused", status.0);
    blame(handler.routine, rule, message);
    None
}
