//! Calling the event handlers of connections, at DISPATCH_LEVEL and without a lock (C-421, C-428).

use gate::call;
use nt_abi::tdi::{TdiEvent, TdiRequest, receive_flags};
use nt_abi::{Irql, NtStatus};
use nt_dispatcher::irql::Raised;
use nt_io::completion;
use tdi_core::{ClientFault, Handler, Indication, IndicationResult, ReturnedReceive};
use trace::Event;

use crate::adopt::{Adopted, blame, blame_request, is_request};
use crate::decode;
use crate::endpoint::{Caller, EndpointState};
use crate::mdl::{self, Direction};
use crate::requests::{self, Owner};
use crate::table::Locked;
use crate::transport::Transport;

/// What a handler for received data did.
pub(crate) struct Answer {
    pub status: NtStatus,
    pub taken: u32,
    pub irp: u64,
}

/// Calls a handler for received data at DISPATCH_LEVEL. `arguments` is told where the handler stores the number of
/// bytes that it took and its IRP.
pub(crate) fn call_receive_handler<const COUNT: usize>(
    routine: u64,
    arguments: impl FnOnce(u64, u64) -> [u64; COUNT],
) -> Answer {
    let (mut taken, mut irp) = (0u32, 0u64);
    let (taken_at, irp_at) = (&raw mut taken, &raw mut irp);
    let arguments = arguments(taken_at as u64, irp_at as u64);
    let _raised = Raised::to(Irql::DISPATCH);
    // SAFETY: a routine that a driver registered for this event; its outputs lie on this stack, and are read as
    // what foreign code left there.
    unsafe {
        let status = NtStatus(call::call_n(routine, &arguments) as u32);
        Answer { status, taken: taken_at.read_volatile(), irp: irp_at.read_volatile() }
    }
}

impl Transport {
    /// Calls a handler with the endpoint's lock released, and hands its answer to the core.
    pub(crate) fn indicate<'a>(
        &'a self,
        mut endpoint: Locked<'_, EndpointState>,
        indication: Indication,
    ) -> Locked<'a, EndpointState> {
        let name = endpoint.name();
        let (file, context) = (endpoint.file, endpoint.core.context());
        endpoint.caller = Caller::here(true);
        drop(endpoint);
        match indication {
            Indication::Disconnect { handler, flags } => {
                indicate_disconnect(file, context, handler, flags);
                let mut endpoint = self.lock_again(name);
                self.hand_in(&mut endpoint, handler, IndicationResult::Disconnect);
                endpoint
            }
            Indication::Receive { handler, is_chained: true, flags, data, start } => {
                let result = self.indicate_chain((file, context), handler, flags, data, start);
                let mut endpoint = self.lock_again(name);
                self.hand_in(&mut endpoint, handler, result);
                endpoint
            }
            Indication::Receive { handler, is_chained: false, flags, data, start } => {
                let shown = data.get(start..).unwrap_or_default();
                let Answer { status, taken, irp } = indicate_receive(file, context, handler, flags, shown);
                let adopted = match status {
                    NtStatus::MORE_PROCESSING_REQUIRED if irp != 0 => self.adopt(irp, handler.routine),
                    NtStatus::MORE_PROCESSING_REQUIRED => {
                        const NO_IRP: &str = "a receive handler returned STATUS_MORE_PROCESSING_REQUIRED without an \
                                              IRP; it was taken for STATUS_SUCCESS";
                        blame(handler.routine, "C-589", NO_IRP);
                        None
                    }
                    _ => None,
                };
                let owner = Owner::Endpoint(name.into());
                let receive = adopted.and_then(|adopted| self.adopt_receive(adopted, handler.routine, file, owner));
                let mut endpoint = self.lock_again(name);
                self.hand_in(&mut endpoint, handler, IndicationResult::Receive { status, taken, receive, data });
                if let Some(receive) = receive {
                    self.let_cancel(&mut endpoint, receive);
                }
                endpoint
            }
        }
    }

    fn hand_in(&self, endpoint: &mut Locked<'_, EndpointState>, handler: Handler, result: IndicationResult) {
        let now = endpoint.tick();
        let fault = endpoint.core.handle_indication_result(now, result);
        if let Some(ClientFault::TookMoreThanAvailable { taken, available }) = fault {
            let message = format_args!("a receive handler took {taken} bytes of {available}; the number was cut");
            blame(handler.routine, "C-588", message);
        }
    }

    /// Enters the TDI_RECEIVE that a receive handler returned. What is not one, on this very endpoint, with a
    /// buffer that is there, completes with an error and the data is kept (C-222, C-589).
    fn adopt_receive(
        &self,
        adopted: Adopted,
        routine: u64,
        endpoint_file: u64,
        owner: Owner,
    ) -> Option<ReturnedReceive> {
        let Adopted { irp, location } = adopted;
        let (length, flags) = decode::transfer(&location);
        let status = if !is_request(&location, TdiRequest::RECEIVE) {
            blame_request(routine, &location, "TDI_RECEIVE");
            NtStatus::INVALID_DEVICE_REQUEST
        } else if adopted.file() as u64 != endpoint_file {
            blame_request(routine, &location, "TDI_RECEIVE on the endpoint that it was called for");
            NtStatus::INVALID_CONNECTION
        } else {
            // SAFETY: adopted: a packet that the transport holds now. Entering it is the last step that can fail.
            let entered = unsafe {
                mdl::check(irp, length, Direction::In)
                    .and_then(|()| self.requests.insert(irp, owner).ok_or(NtStatus::INSUFFICIENT_RESOURCES))
            };
            match entered {
                Ok(id) => return Some(ReturnedReceive { id, length, flags }),
                Err(status) => status,
            }
        };
        // SAFETY: as above.
        unsafe { completion::complete_with(irp, status, 0) };
        None
    }

    /// Makes an adopted request cancellable. It is not marked pending: nobody returned STATUS_PENDING for it
    /// (C-221).
    fn let_cancel(&self, endpoint: &mut Locked<'_, EndpointState>, receive: ReturnedReceive) {
        let Some(irp) = self.requests.irp(receive.id) else { return };
        // SAFETY: in the table, and its owner is locked.
        if !unsafe { requests::make_cancellable(irp) } {
            let now = endpoint.core.now();
            endpoint.core.handle_cancel(now, receive.id);
        }
    }
}

/// Calls ClientEventDisconnect; what it returns is ignored (C-453).
fn indicate_disconnect(file: u64, context: u64, handler: Handler, flags: u32) {
    let event = TdiEvent::DISCONNECT.0;
    gate::record(Event::Indicated { endpoint: file, event, context, bytes: flags.into() });
    let raised = Raised::to(Irql::DISPATCH);
    // SAFETY: a routine that a driver registered for this event (10.3).
    let status = unsafe {
        let arguments = [handler.context, context, 0, 0, 0, 0, flags.into()];
        NtStatus(call::call_n(handler.routine, &arguments) as u32)
    };
    drop(raised);
    gate::record(Event::IndicationReturned { endpoint: file, status: status.0, taken: 0 });
}

/// Calls ClientEventReceive or ClientEventReceiveExpedited (10.5).
fn indicate_receive(file: u64, context: u64, handler: Handler, flags: u32, shown: &[u8]) -> Answer {
    let expedited = flags & receive_flags::EXPEDITED != 0;
    let event = if expedited { TdiEvent::RECEIVE_EXPEDITED } else { TdiEvent::RECEIVE };
    let length = shown.len() as u64;
    gate::record(Event::Indicated { endpoint: file, event: event.0, context, bytes: length });
    let answer = call_receive_handler(handler.routine, |taken, irp| {
        let flags = flags | receive_flags::AT_DISPATCH_LEVEL;
        [handler.context, context, flags.into(), length, length, taken, shown.as_ptr() as u64, irp]
    });
    let used = if answer.status == NtStatus::DATA_NOT_ACCEPTED { 0 } else { answer.taken };
    gate::record(Event::IndicationReturned { endpoint: file, status: answer.status.0, taken: used.into() });
    answer
}
