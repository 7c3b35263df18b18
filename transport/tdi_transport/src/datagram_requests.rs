//! TDI_SEND_DATAGRAM, TDI_RECEIVE_DATAGRAM and the datagram handlers: the client's side of [`crate::datagram`].

use std::net::{IpAddr, SocketAddr};

use gate::call;
use net_api::Arrival;
use nt_abi::tdi::{TdiEvent, TdiRequest, receive_flags};
use nt_abi::{Irp, Irql, NtStatus};
use nt_dispatcher::irql::Raised;
use nt_io::{cancel, completion, irp};
use tdi_core::transport_address::{self, Family};
use tdi_core::{AddressId, Completion, Handler, RemoteFilter, RequestId};
use trace::Event;

use crate::address::AddressState;
use crate::adopt::{Adopted, blame, blame_request, is_request};
use crate::connection_information::Information;
use crate::datagram::{Outcome, Receive, Send, Step, cast_flag};
use crate::dispatch::Sent;
use crate::endpoint::Caller;
use crate::indicate::{Answer, call_receive_handler};
use crate::mdl::{self, Direction};
use crate::pump;
use crate::requests::{self, Owner};
use crate::table::Locked;
use crate::transport::Transport;

type LockedAddress<'a> = Locked<'a, AddressState>;

impl Transport {
    /// TDI_SEND_DATAGRAM (section 2): one request is one datagram.
    pub(crate) fn submit_send_datagram(&self, sent: &Sent) -> NtStatus {
        let [length, information, ..] = sent.location.parameters;
        let length = length as u32;
        self.submit_datagram(sent, |address, id| {
            let information = Information::read(information)?.ok_or(NtStatus::INVALID_PARAMETER)?;
            let remote = destination(&information, address.family)?;
            // SAFETY: a packet that was sent to us.
            unsafe {
                mdl::check(sent.irp, length, Direction::Out)?;
                Ok(address.send_datagram(sent.irp, Send { id, length, remote }))
            }
        })
    }

    /// TDI_RECEIVE_DATAGRAM (section 3).
    pub(crate) fn submit_receive_datagram(&self, sent: &Sent) -> NtStatus {
        let [length, information, _, flags] = sent.location.parameters;
        let is_peek = flags as u32 & receive_flags::PEEK != 0;
        self.submit_datagram(sent, |address, id| {
            let filter = source(information, address.family)?;
            // SAFETY: a packet that was sent to us.
            unsafe {
                let length = room(sent.irp, length as u32)?;
                Ok(address.receive_datagram(sent.irp, Receive { id, length, filter, is_peek }))
            }
        })
    }

    /// What sends and receives have in common: one that is not over at once waits, cancellable.
    fn submit_datagram(
        &self,
        sent: &Sent,
        begin: impl FnOnce(&mut LockedAddress<'_>, RequestId) -> Result<Outcome, NtStatus>,
    ) -> NtStatus {
        let irp = sent.irp;
        let Some(mut address) = self.address_of(sent.file()).filter(|address| address.datagrams.is_some()) else {
            return sent.complete(NtStatus::INVALID_DEVICE_REQUEST, 0);
        };
        let id: AddressId = address.core.id();
        // SAFETY: a packet that was sent to us and that nobody else completes before it waits.
        let entered = unsafe {
            if address.core.is_closed() || cancel::is_cancelled(irp) {
                Err(NtStatus::CANCELLED)
            } else {
                self.requests.insert(irp, Owner::Address(id)).ok_or(NtStatus::INSUFFICIENT_RESOURCES)
            }
        };
        let request = match entered {
            Ok(request) => request,
            Err(status) => {
                drop(address);
                return sent.complete(status, 0);
            }
        };
        match begin(&mut address, request) {
            Ok(Outcome::Waits) => {
                // SAFETY: in the table, and its owner is locked.
                let cancellable = unsafe {
                    irp::mark_pending(irp);
                    requests::make_cancellable(irp)
                };
                if !cancellable && let Some(datagrams) = &mut address.datagrams {
                    datagrams.cancel(request);
                }
                drop(address);
                self.pump_address(id);
                NtStatus::PENDING
            }
            Ok(Outcome::Done(status, count, source)) => {
                self.requests.take(request);
                drop(address);
                let completion = Completion { id: request, status, information: count, peer: source };
                // SAFETY: taken out of the table just now, so it is ours to complete.
                unsafe { pump::finish(irp, completion) }
            }
            Err(status) => {
                self.requests.take(request);
                drop(address);
                sent.complete(status, 0)
            }
        }
    }

    /// Does what an address wants done, without its lock.
    pub(crate) fn take_datagram_step(&self, mut address: LockedAddress<'_>, step: Step) {
        let id = address.core.id();
        let file = address.file;
        address.caller = Caller::here(true);
        drop(address);
        let mut returned = None;
        match step {
            Step::Complete(completion) => {
                let irp = self.requests.take(completion.id).expect("each request completes once");
                // SAFETY: taken out of the table just now, so it is ours to complete.
                unsafe {
                    requests::settle(irp);
                    let _raised = Raised::to(Irql::DISPATCH);
                    pump::finish(irp, completion);
                }
            }
            Step::Indicate { handler, arrival, buffer, with_packet_information } => {
                self.indicate_datagram(file, handler, &arrival, &buffer, with_packet_information);
                returned = Some(buffer);
            }
            Step::IndicateUndelivered { handler, remote, status } => {
                indicate_undelivered(file, handler, remote, status);
            }
            Step::Later => {}
        }
        if let Some(mut address) = self.addresses.lock(id) {
            address.caller = Caller::default();
            if let (Some(buffer), Some(datagrams)) = (returned, &mut address.datagrams) {
                datagrams.take_back(buffer);
            }
        }
    }

    /// Calls ClientEventReceiveDatagram (4.1). Whatever it leaves of the datagram is lost (D-065, D-067).
    fn indicate_datagram(&self, file: u64, handler: Handler, arrival: &Arrival, buffer: &[u8], with_control: bool) {
        let shown = buffer.get(..arrival.stored).unwrap_or_default();
        let answer = call_datagram_handler(file, handler, arrival, shown, with_control);
        if answer.status != NtStatus::MORE_PROCESSING_REQUIRED {
            return;
        }
        if answer.irp == 0 {
            const NO_IRP: &str = "a datagram handler returned STATUS_MORE_PROCESSING_REQUIRED without an IRP; what it \
                                  did not take of the datagram is lost";
            return blame(handler.routine, "D-080", NO_IRP);
        }
        let Some(Adopted { irp, location }) = self.adopt(answer.irp, handler.routine) else { return };
        let is_ours = is_request(&location, TdiRequest::RECEIVE_DATAGRAM)
            && self.address_of(location.file_object).is_some_and(|address| address.datagrams.is_some());
        let rest = shown.get(answer.taken as usize..).unwrap_or_default();
        if !is_ours {
            blame_request(handler.routine, &location, "TDI_RECEIVE_DATAGRAM on an address");
        }
        // SAFETY: adopted: a packet that the transport holds now, and that is completed once.
        unsafe {
            let _raised = Raised::to(Irql::DISPATCH);
            if is_ours {
                pump::finish(irp, fill(irp, location.parameters[0] as u32, rest, arrival.source));
            } else {
                completion::complete_with(irp, NtStatus::INVALID_DEVICE_REQUEST, 0);
            }
        }
    }
}

/// Fills a returned receive (D-050, D-080).
///
/// # Safety
/// `irp` is a packet the transport holds.
unsafe fn fill(irp: *mut Irp, length: u32, rest: &[u8], source: SocketAddr) -> Completion {
    // SAFETY: the caller's promise.
    let stored =
        unsafe { room(irp, length).and_then(|length| mdl::store(irp, 0, rest.get(..length as usize).unwrap_or(rest))) };
    let (status, count) = match stored {
        Ok(count) if count < rest.len() => (NtStatus::BUFFER_OVERFLOW, count as u64),
        Ok(count) => (NtStatus::SUCCESS, count as u64),
        Err(status) => (status, 0),
    };
    Completion { id: RequestId { index: 0, generation: 0 }, status, information: count, peer: Some(source) }
}

/// The room in a receive's buffer: ReceiveLength, of which 0 means the whole chain (D-042).
///
/// # Safety
/// `irp` is a packet the transport holds.
unsafe fn room(irp: *mut Irp, length: u32) -> Result<u32, NtStatus> {
    // SAFETY: the caller's promise.
    unsafe {
        let length = if length == 0 { mdl::length(irp)? } else { length };
        mdl::check(irp, length, Direction::In)?;
        Ok(length)
    }
}

/// Where a datagram goes (D-022).
fn destination(information: &Information, family: Family) -> Result<SocketAddr, NtStatus> {
    let parse = |bytes: &[u8]| transport_address::parse_destination(bytes, family);
    information.with_remote_address(parse)?
}

/// From whom a receive takes datagrams (D-043).
fn source(information: u64, family: Family) -> Result<RemoteFilter, NtStatus> {
    match Information::read(information)? {
        Some(information) if information.has_remote_address() => {
            let parse = |bytes: &[u8]| transport_address::parse_filter(bytes, family);
            let remote = information.with_remote_address(parse)?.map_err(|_| NtStatus::INVALID_ADDRESS)?;
            Ok(RemoteFilter { remote: Some(remote) })
        }
        _ => Ok(RemoteFilter::ANY),
    }
}

fn call_datagram_handler(file: u64, handler: Handler, arrival: &Arrival, shown: &[u8], with_control: bool) -> Answer {
    let source = transport_address::encode(arrival.source);
    let source = source.as_bytes();
    let control = if with_control { packet_information(arrival) } else { Control::NONE };
    let mut flags = receive_flags::NORMAL | receive_flags::AT_DISPATCH_LEVEL | cast_flag(arrival.cast);
    if arrival.stored == arrival.length {
        flags |= receive_flags::ENTIRE_MESSAGE;
    }
    if control.length > 0 {
        flags |= receive_flags::CONTROL_INFO;
    }
    let event = TdiEvent::RECEIVE_DATAGRAM.0;
    gate::record(Event::Indicated { endpoint: file, event, context: 0, bytes: shown.len() as u64 });
    let answer = call_receive_handler(handler.routine, |taken, irp| {
        [
            handler.context,
            source.len() as u64,
            source.as_ptr() as u64,
            control.length as u64,
            if control.length > 0 { control.bytes.as_ptr() as u64 } else { 0 },
            flags.into(),
            shown.len() as u64,
            arrival.length as u64,
            taken,
            shown.as_ptr() as u64,
            irp,
        ]
    });
    gate::record(Event::IndicationReturned {
        endpoint: file,
        status: answer.status.0,
        taken: answer.taken.min(shown.len() as u32).into(),
    });
    answer
}

/// Calls ClientEventErrorEx for a datagram that did not arrive. The buffer is its destination, as a
/// TRANSPORT_ADDRESS: the layout is the transport's own (D-097, D-353).
fn indicate_undelivered(file: u64, handler: Handler, remote: SocketAddr, status: NtStatus) {
    let remote = transport_address::encode(remote);
    let event = TdiEvent::ERROR_EX.0;
    gate::record(Event::Indicated { endpoint: file, event, context: 0, bytes: 0 });
    let raised = Raised::to(Irql::DISPATCH);
    // SAFETY: a routine that a driver registered for this event.
    let answer =
        unsafe { call::call3(handler.routine, handler.context, status.0.into(), remote.as_bytes().as_ptr() as u64) };
    drop(raised);
    gate::record(Event::IndicationReturned { endpoint: file, status: answer as u32, taken: 0 });
}

/// Control messages of an indication, aligned as clients read them (D-075, D-076).
#[repr(C, align(8))]
struct Control {
    bytes: [u8; 40],
    length: usize,
}

impl Control {
    const NONE: Self = Self { bytes: [0; 40], length: 0 };
}

/// To which address and on which interface it arrived (D-077).
fn packet_information(arrival: &Arrival) -> Control {
    const IPPROTO_IP: u32 = 0;
    const IPPROTO_IPV6: u32 = 41;
    const PKTINFO: u32 = 19;
    let mut control = Control::NONE;
    let mut put = |at: usize, part: &[u8]| {
        if let Some(room) = control.bytes.get_mut(at..at + part.len()) {
            room.copy_from_slice(part);
        }
    };
    let (length, level) = match arrival.destination {
        IpAddr::V4(ip) => {
            put(16, &ip.octets());
            put(20, &arrival.interface.to_le_bytes());
            (24_u64, IPPROTO_IP)
        }
        IpAddr::V6(ip) => {
            put(16, &ip.octets());
            put(32, &arrival.interface.to_le_bytes());
            (36, IPPROTO_IPV6)
        }
    };
    put(0, &length.to_le_bytes());
    put(8, &level.to_le_bytes());
    put(12, &PKTINFO.to_le_bytes());
    control.length = length as usize;
    control
}
