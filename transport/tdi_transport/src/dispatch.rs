//! The dispatch routines of `\Driver\Tcpip`, win64 like any driver's: filters attach above them, or hook them in
//! the driver object (D-275, D-278).

use std::mem::offset_of;

use gate::memory;
use nt_abi::tdi::{TdiEvent, TdiRequest};
use nt_abi::{DeviceObject, DriverObject, FileObject, IoStackLocation, Irp, Irql, MajorFunction, NtStatus};
use nt_io::{cancel, completion, irp};
use tdi_core::{AddressId, EndpointId, Handler, Outcome};
use trace::Event;

use crate::address::AddressState;
use crate::decode;
use crate::endpoint::{EndpointState, Phase};
use crate::pump::Own;
use crate::requests::Owner;
use crate::table::{Locked, Name};
use crate::transport::{self, DeviceKind, Transport};

type Routine = unsafe extern "win64" fn(*mut DeviceObject, *mut Irp) -> NtStatus;

/// Fills in the driver object's dispatch table. Other requests stay refused.
///
/// # Safety
/// `driver` is a driver object of our own.
pub(crate) unsafe fn install(driver: *mut DriverObject) {
    const ROUTINES: [(MajorFunction, Routine); 7] = [
        (MajorFunction::CREATE, dispatch_create),
        (MajorFunction::CLEANUP, dispatch_cleanup),
        (MajorFunction::CLOSE, dispatch_close),
        (MajorFunction::READ, dispatch_transfer),
        (MajorFunction::WRITE, dispatch_transfer),
        (MajorFunction::DEVICE_CONTROL, dispatch_device_control),
        (MajorFunction::INTERNAL_DEVICE_CONTROL, dispatch_internal_device_control),
    ];
    for (major, routine) in ROUTINES {
        // SAFETY: the caller's promise.
        unsafe { (*driver).major_function[usize::from(major.0)] = routine as *const () as u64 };
    }
}

/// A request as its dispatch routine sees it.
#[derive(Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) irp: *mut Irp,
    pub(crate) kind: DeviceKind,
    /// A copy of the current location.
    pub(crate) location: IoStackLocation,
}

impl Sent {
    pub(crate) fn file(&self) -> *mut FileObject {
        self.location.file_object
    }
}

/// What every routine begins with. A request that comes after the transport has stopped ends at once: closing
/// succeeds, anything else fails.
///
/// # Safety
/// As a dispatch routine is called: `device` is a device of ours, `irp` a packet that was sent to it.
unsafe fn serve(
    device: *mut DeviceObject,
    irp: *mut Irp,
    serve: impl FnOnce(&'static Transport, Sent) -> NtStatus,
) -> NtStatus {
    // SAFETY: the caller's promise.
    unsafe {
        let location = *irp::current_location(irp);
        match transport::current().and_then(|transport| Some((transport, transport.kind_of(device)?))) {
            Some((transport, kind)) => {
                transport.tell_time();
                serve(transport, Sent { irp, kind, location })
            }
            None => {
                let closes = matches!(location.major_function, MajorFunction::CLEANUP | MajorFunction::CLOSE);
                let status = if closes { NtStatus::SUCCESS } else { NtStatus::DEVICE_NOT_READY };
                completion::complete_with(irp, status, 0)
            }
        }
    }
}

unsafe extern "win64" fn dispatch_create(device: *mut DeviceObject, irp: *mut Irp) -> NtStatus {
    // SAFETY: called as a dispatch routine; so in the others.
    unsafe { serve(device, irp, |transport, sent| sent.complete(transport.create(&sent), 0)) }
}

unsafe extern "win64" fn dispatch_cleanup(device: *mut DeviceObject, irp: *mut Irp) -> NtStatus {
    // SAFETY: see `dispatch_create`.
    unsafe { serve(device, irp, |transport, sent| transport.cleanup(&sent)) }
}

unsafe extern "win64" fn dispatch_close(device: *mut DeviceObject, irp: *mut Irp) -> NtStatus {
    // SAFETY: see `dispatch_create`.
    unsafe {
        serve(device, irp, |transport, sent| {
            transport.close_file(sent.file());
            sent.complete(NtStatus::SUCCESS, 0)
        })
    }
}

unsafe extern "win64" fn dispatch_transfer(device: *mut DeviceObject, irp: *mut Irp) -> NtStatus {
    // SAFETY: see `dispatch_create`.
    unsafe { serve(device, irp, |transport, sent| transport.submit(&sent)) }
}

unsafe extern "win64" fn dispatch_device_control(device: *mut DeviceObject, irp: *mut Irp) -> NtStatus {
    // SAFETY: see `dispatch_create`.
    unsafe { serve(device, irp, |transport, sent| transport.device_control(&sent)) }
}

unsafe extern "win64" fn dispatch_internal_device_control(device: *mut DeviceObject, irp: *mut Irp) -> NtStatus {
    // SAFETY: see `dispatch_create`.
    unsafe { serve(device, irp, |transport, sent| transport.internal_device_control(&sent)) }
}

impl Sent {
    /// Completes the request inline. Returns the status, for the dispatch routine to return (C-573).
    pub(crate) fn complete(&self, status: NtStatus, information: u64) -> NtStatus {
        // SAFETY: a `Sent` is made for a packet that the transport holds, and its dispatch routine completes it once.
        unsafe { completion::complete_with(self.irp, status, information) }
    }
}

impl Transport {
    /// A TDI request, in its kernel form (C-013, C-198).
    pub(crate) fn internal_device_control(&self, sent: &Sent) -> NtStatus {
        match TdiRequest(sent.location.minor_function) {
            TdiRequest::CONNECT
            | TdiRequest::LISTEN
            | TdiRequest::ACCEPT
            | TdiRequest::DISCONNECT
            | TdiRequest::SEND
            | TdiRequest::RECEIVE => self.submit(sent),
            TdiRequest::SEND_DATAGRAM => self.submit_send_datagram(sent),
            TdiRequest::RECEIVE_DATAGRAM => self.submit_receive_datagram(sent),
            TdiRequest::ASSOCIATE_ADDRESS => sent.complete(self.associate_address(sent), 0),
            TdiRequest::DISASSOCIATE_ADDRESS => sent.complete(self.disassociate_address(sent), 0),
            TdiRequest::SET_EVENT_HANDLER => sent.complete(self.set_event_handler(sent), 0),
            TdiRequest::QUERY_INFORMATION => self.query_information(sent),
            TdiRequest::SET_INFORMATION => self.set_information(sent),
            TdiRequest::ACTION => self.action(sent),
            _ => sent.complete(NtStatus::INVALID_DEVICE_REQUEST, 0),
        }
    }

    /// The endpoint behind a file object, locked. The pointer and what it leads to are believed nothing.
    pub(crate) fn endpoint_of(&self, file: *mut FileObject) -> Option<Locked<'_, EndpointState>> {
        let endpoint = self.endpoints.lock(name_in(file)?)?;
        (endpoint.file == file as u64).then_some(endpoint)
    }

    /// The address behind a file object, locked.
    pub(crate) fn address_of(&self, file: *mut FileObject) -> Option<Locked<'_, AddressState>> {
        let address = self.addresses.lock(name_in(file)?)?;
        (address.file == file as u64).then_some(address)
    }

    /// A request on an endpoint that may pend.
    fn submit(&self, sent: &Sent) -> NtStatus {
        let &Sent { irp, location, .. } = sent;
        let Some(mut endpoint) = self.endpoint_of(sent.file()) else {
            return sent.complete(NtStatus::INVALID_DEVICE_REQUEST, 0);
        };
        // SAFETY: a packet that was sent to us and that nobody else completes before we return or pend it.
        let entered = unsafe {
            if cancel::is_cancelled(irp) {
                Err(NtStatus::CANCELLED)
            } else {
                decode::endpoint_request(irp, &location, endpoint.family).and_then(|request| {
                    let owner = Owner::Endpoint(endpoint.core.id());
                    let id = self.requests.insert(irp, owner).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
                    Ok((id, request))
                })
            }
        };
        let (id, request) = match entered {
            Ok(entered) => entered,
            Err(status) => {
                drop(endpoint);
                return sent.complete(status, 0);
            }
        };
        let now = endpoint.tick();
        match endpoint.core.handle_request(now, id, request) {
            Outcome::Taken => self.pump(endpoint, Some(Own { id, irp })).status.unwrap_or(NtStatus::PENDING),
            Outcome::Done(status) => {
                self.requests.take(id);
                drop(endpoint);
                sent.complete(status, 0)
            }
        }
    }

    /// TDI_ASSOCIATE_ADDRESS (8.1): the handle is resolved here and now, in the sender's context (C-237).
    fn associate_address(&self, sent: &Sent) -> NtStatus {
        // The kind of file is judged first, as for every request: what is no endpoint has no use for a handle (C-199).
        let Some(mut endpoint) = self.endpoint_of(sent.file()) else { return NtStatus::INVALID_DEVICE_REQUEST };
        if gate::irql() > Irql::PASSIVE {
            const LATE: &str =
                "a TDI_ASSOCIATE_ADDRESS was sent above PASSIVE_LEVEL, where handles cannot be looked up";
            gate::finding("C-202", LATE, gate::caller());
        }
        // A reference of many endpoints to one address would be a word that all processors want. None is needed: only
        // what the table of addresses knows under this very file object is an address of ours (C-241), and as long as
        // that is locked the file object stays what it is. So the handle is asked again.
        let handle = nt_abi::Handle(sent.location.parameters[0]);
        let resolve = || nt_object::peek_by_handle(handle, nt_io::file::FILE.block());
        let address_file = match resolve() {
            Ok(body) => body,
            Err(status) => return status,
        };
        let Some(mut address) = self.address_of(address_file as *mut FileObject) else {
            return NtStatus::INVALID_HANDLE;
        };
        if resolve() != Ok(address_file) {
            return NtStatus::INVALID_HANDLE;
        }
        if address.network.is_none() || address.family != endpoint.family {
            return NtStatus::INVALID_HANDLE;
        }
        let status = endpoint.core.tdi_associate_address(&mut address.core);
        drop(address);
        if status.is_success() {
            gate::record(Event::EndpointAssociated { endpoint: endpoint.file, address: address_file });
        }
        status
    }

    /// TDI_DISASSOCIATE_ADDRESS (8.2).
    fn disassociate_address(&self, sent: &Sent) -> NtStatus {
        let Some(mut endpoint) = self.endpoint_of(sent.file()) else { return NtStatus::INVALID_DEVICE_REQUEST };
        endpoint.tick();
        let status = endpoint.core.tdi_disassociate_address();
        self.pump(endpoint, None);
        status
    }

    /// TDI_SET_EVENT_HANDLER (9.8).
    fn set_event_handler(&self, sent: &Sent) -> NtStatus {
        let [event, routine, context, _] = sent.location.parameters;
        let Some(mut address) = self.address_of(sent.file()) else { return NtStatus::INVALID_DEVICE_REQUEST };
        let id: AddressId = address.name().into();
        let event = TdiEvent(event as u32);
        let handler = if routine == 0 { Handler::NONE } else { Handler { routine, context } };
        let status = address.core.tdi_set_event_handler(event, handler);
        if status.is_success() && event == TdiEvent::RECEIVE_DATAGRAM && handler.is_registered() {
            address.begin_indications();
        }
        let endpoints: Vec<EndpointId> =
            if status.is_success() { address.core.endpoints().collect() } else { Vec::new() };
        drop(address);
        for endpoint in endpoints {
            self.tell_handlers(endpoint, id);
        }
        self.pump_address(id);
        status
    }

    /// Tells an endpoint which handlers its address has now.
    fn tell_handlers(&self, endpoint: EndpointId, id: AddressId) {
        let Some(mut endpoint) = self.endpoints.lock(endpoint) else { return };
        let Some(address) = self.addresses.lock(id) else { return };
        let handlers = address.core.connection_handlers();
        drop(address);
        endpoint.tick();
        endpoint.core.handle_handlers(id, handlers);
        if endpoint.link.as_ref().is_some_and(|link| link.phase == Phase::Established) {
            self.watch_for_handlers(&mut endpoint);
        }
        self.pump(endpoint, None);
    }
}

/// The name in a file object's FsContext. The pointer comes from a driver, and so may what it leads to.
pub(crate) fn name_in(file: *mut FileObject) -> Option<Name> {
    let place = (file as u64).checked_add(offset_of!(FileObject, fs_context) as u64)?;
    memory::read_value::<u64>(place).ok().map(Name::unpack)
}
