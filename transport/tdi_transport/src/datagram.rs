//! Datagrams on transport addresses (sections 2 to 4 of tdi-datagrams-and-services.md): what waits, and what comes
//! next.
//!
//! The network's queue is read only for somebody: for the first pending receive, straight into its buffer, or for the
//! handler, into a buffer of the address. What finds neither is discarded (D-051), and so is what came before
//! there was anybody. A datagram that has to be looked at first (a receive with a filter, or one that peeks) is
//! held.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::sync::Arc;

use net_api::{Arrival, Cast, DatagramAddress, DatagramReceived, DatagramSent, Key, NetError};
use nt_abi::tdi::{TdiEvent, receive_flags};
use nt_abi::{Irp, NtStatus};
use tdi_core::{Completion, Handler, RemoteFilter, RequestId};
use trace::{Counter, Event};

use crate::address::AddressState;
use crate::endpoint::address_key;
use crate::mdl;
use crate::requests::Requests;
use crate::status::datagram_status;

/// Longest datagram there is.
pub(crate) const DATAGRAM_MAX: usize = 65_535;
/// Datagrams discarded in one go; a flood that nobody wants goes on later.
const DISCARDS_MAX: u32 = 256;
/// Reports that wait for the error handler; more are dropped.
const UNDELIVERED_MAX: usize = 16;

/// The datagram side of an address.
pub(crate) struct Datagrams {
    pub(crate) network: Arc<dyn DatagramAddress>,
    /// Sends that the network had no room for, in order (D-030).
    sends: VecDeque<Send>,
    receives: VecDeque<Receive>,
    completions: VecDeque<Completion>,
    /// Datagrams that did not arrive, to be told of.
    undelivered: VecDeque<(SocketAddr, NtStatus)>,
    /// Where datagrams are looked at. Empty until one is, and while a handler looks.
    buffer: Vec<u8>,
    /// The datagram in the buffer.
    held: Option<Arrival>,
    /// The network may have something.
    is_readable: bool,
    is_watched: bool,
    /// Indications carry a control message (D-077).
    pub(crate) has_packet_information: bool,
}

/// A TDI_SEND_DATAGRAM.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Send {
    pub(crate) id: RequestId,
    pub(crate) length: u32,
    pub(crate) remote: SocketAddr,
}

/// A TDI_RECEIVE_DATAGRAM.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Receive {
    pub(crate) id: RequestId,
    /// Room in its buffer.
    pub(crate) length: u32,
    pub(crate) filter: RemoteFilter,
    pub(crate) is_peek: bool,
}

/// What to do next, with the address unlocked.
pub(crate) enum Step {
    /// Complete a request.
    Complete(Completion),
    /// Show a datagram to the handler, then [`Datagrams::take_back`] the buffer.
    Indicate { handler: Handler, arrival: Arrival, buffer: Vec<u8>, with_packet_information: bool },
    /// Tell of one that did not arrive (D-097).
    IndicateUndelivered { handler: Handler, remote: SocketAddr, status: NtStatus },
    /// Look again later.
    Later,
}

/// What became of a transfer at once.
pub(crate) enum Outcome {
    /// It is over.
    Done(NtStatus, u64, Option<SocketAddr>),
    /// It waits.
    Waits,
}

impl Datagrams {
    pub(crate) fn new(network: Arc<dyn DatagramAddress>) -> Self {
        Self {
            network,
            sends: VecDeque::new(),
            receives: VecDeque::new(),
            completions: VecDeque::new(),
            undelivered: VecDeque::new(),
            buffer: Vec::new(),
            held: None,
            is_readable: true,
            is_watched: false,
            has_packet_information: false,
        }
    }

    /// Nothing waits for its turn at the client.
    pub(crate) fn is_quiet(&self) -> bool {
        self.completions.is_empty()
    }

    /// The network says that it should be tried again.
    pub(crate) fn handle_event(&mut self) {
        self.is_readable = true;
    }

    /// The handler has returned.
    pub(crate) fn take_back(&mut self, buffer: Vec<u8>) {
        self.buffer = buffer;
    }

    /// A request is cancelled. It has consumed nothing (D-053).
    pub(crate) fn cancel(&mut self, id: RequestId) {
        let before = self.sends.len() + self.receives.len();
        self.sends.retain(|send| send.id != id);
        self.receives.retain(|receive| receive.id != id);
        if self.sends.len() + self.receives.len() < before {
            self.end(id, NtStatus::CANCELLED);
        }
    }

    /// The last handle was closed (D-049).
    pub(crate) fn cleanup(&mut self) {
        let sends = std::mem::take(&mut self.sends);
        let receives = std::mem::take(&mut self.receives);
        for id in sends.iter().map(|send| send.id).chain(receives.iter().map(|receive| receive.id)) {
            self.end(id, NtStatus::CANCELLED);
        }
        self.held = None;
    }

    fn end(&mut self, id: RequestId, status: NtStatus) {
        self.completions.push_back(Completion { id, status, information: 0, peer: None });
    }

    fn note_undelivered(&mut self, remote: SocketAddr, error: NetError) {
        if self.undelivered.len() < UNDELIVERED_MAX {
            self.undelivered.push_back((remote, datagram_status(error)));
        }
    }

    fn wants_datagrams(&self, handler: Handler) -> bool {
        !self.receives.is_empty() || handler.is_registered()
    }
}

impl AddressState {
    /// Sends a datagram now, or puts it behind those that wait.
    ///
    /// # Safety
    /// `irp` is a packet the transport holds, whose chain was checked for `send.length` bytes.
    pub(crate) unsafe fn send_datagram(&mut self, irp: *mut Irp, send: Send) -> Outcome {
        let file = self.file;
        let key = address_key(self.core.id());
        let Some(datagrams) = &mut self.datagrams else {
            return Outcome::Done(NtStatus::INVALID_DEVICE_REQUEST, 0, None);
        };
        if datagrams.sends.is_empty() {
            // SAFETY: the caller's promise.
            if let Some((status, bytes)) = unsafe { transmit(datagrams, file, irp, &send) } {
                return Outcome::Done(status, bytes, None);
            }
        }
        if let Err(status) = watch(datagrams, key) {
            return Outcome::Done(status, 0, None);
        }
        datagrams.sends.push_back(send);
        Outcome::Waits
    }

    /// Fills a receive from what is here for it, or lets it wait.
    ///
    /// # Safety
    /// As [`AddressState::send_datagram`].
    pub(crate) unsafe fn receive_datagram(&mut self, irp: *mut Irp, receive: Receive) -> Outcome {
        let handler = self.core.handler(TdiEvent::RECEIVE_DATAGRAM);
        let key = address_key(self.core.id());
        let file = self.file;
        let Some(datagrams) = &mut self.datagrams else {
            return Outcome::Done(NtStatus::INVALID_DEVICE_REQUEST, 0, None);
        };
        if !datagrams.wants_datagrams(handler) {
            // What arrived before there was anybody to take it is gone (D-051).
            datagrams.held = None;
            discard(datagrams);
        } else if datagrams.receives.is_empty() && datagrams.held.is_none() && is_plain(&receive) {
            // Nobody is in front, and what is here has not been shown to the handler.
            // SAFETY: the caller's promise.
            if let Some((status, count, source)) = unsafe { receive_into(datagrams, file, irp, &receive) } {
                return Outcome::Done(status, count, Some(source));
            }
        }
        if let Err(status) = watch(datagrams, key) {
            return Outcome::Done(status, 0, None);
        }
        datagrams.receives.push_back(receive);
        Outcome::Waits
    }

    /// A handler for datagrams is registered now.
    pub(crate) fn begin_indications(&mut self) {
        let key = address_key(self.core.id());
        if let Some(datagrams) = self.datagrams.as_mut().filter(|datagrams| !datagrams.is_watched) {
            discard(datagrams);
            // Without memory for it nothing is indicated; a receive that is posted will say so.
            let _ = watch(datagrams, key);
        }
    }

    /// What to do next for datagrams.
    pub(crate) fn next_datagram_step(&mut self, requests: &Requests) -> Option<Step> {
        let handler = self.core.handler(TdiEvent::RECEIVE_DATAGRAM);
        let errors = self.core.handler(TdiEvent::ERROR_EX);
        let (file, is_closed) = (self.file, self.core.is_closed());
        let datagrams = self.datagrams.as_mut()?;
        advance_sends(datagrams, file, requests);
        loop {
            if let Some(completion) = datagrams.completions.pop_front() {
                return Some(Step::Complete(completion));
            }
            if is_closed {
                return None;
            }
            if let Some((remote, status)) = datagrams.undelivered.pop_front()
                && errors.is_registered()
            {
                return Some(Step::IndicateUndelivered { handler: errors, remote, status });
            }
            if let Some(arrival) = datagrams.held {
                if let Some(completion) = give_held(datagrams, arrival, requests) {
                    return Some(Step::Complete(completion));
                }
                if handler.is_registered() {
                    datagrams.held = None;
                    let buffer = std::mem::take(&mut datagrams.buffer);
                    let with_packet_information = datagrams.has_packet_information;
                    return Some(Step::Indicate { handler, arrival, buffer, with_packet_information });
                }
                // Only a peek that went on, or a filter, brings us here: nobody else wants it.
                datagrams.held = None;
            }
            if !datagrams.is_readable {
                return None;
            }
            if !datagrams.wants_datagrams(handler) {
                return if discard(datagrams) { None } else { Some(Step::Later) };
            }
            read_next(datagrams, file, requests);
        }
    }
}

/// Whether a receive takes the next datagram whoever sent it, and takes it out.
fn is_plain(receive: &Receive) -> bool {
    receive.filter == RemoteFilter::ANY && !receive.is_peek
}

/// Has the network report what becomes possible.
fn watch(datagrams: &mut Datagrams, key: Key) -> Result<(), NtStatus> {
    if !datagrams.is_watched {
        datagrams.network.watch(key).map_err(datagram_status)?;
        datagrams.is_watched = true;
        if let Some(transport) = crate::transport::current() {
            transport.watch_more();
        }
    }
    Ok(())
}

impl Datagrams {
    /// Takes note that the address is given up.
    pub(crate) fn unwatch(&mut self) -> bool {
        std::mem::take(&mut self.is_watched)
    }
}

/// Reads the next datagram: for the first receive if that takes any, else into the buffer.
fn read_next(datagrams: &mut Datagrams, file: u64, requests: &Requests) {
    let first = datagrams.receives.front().copied().filter(is_plain);
    if let Some(receive) = first
        && let Some(irp) = requests.irp(receive.id)
    {
        // SAFETY: the address is locked, so nobody else takes the request out; its chain was checked.
        if let Some((status, count, source)) = unsafe { receive_into(datagrams, file, irp, &receive) } {
            datagrams.receives.pop_front();
            let completion = Completion { id: receive.id, status, information: count, peer: Some(source) };
            datagrams.completions.push_back(completion);
        }
        return;
    }
    datagrams.buffer.resize(DATAGRAM_MAX, 0);
    match datagrams.network.receive_from(&mut [IoSliceMut::new(&mut datagrams.buffer)]) {
        DatagramReceived::Got(arrival) => {
            note_received(file, arrival.length);
            datagrams.held = Some(arrival);
        }
        DatagramReceived::Undelivered { remote, error } => datagrams.note_undelivered(remote, error),
        DatagramReceived::WouldBlock | DatagramReceived::Failed(_) => datagrams.is_readable = false,
    }
}

/// Receives straight into a request's buffer. Status, bytes and sender; `None` if nothing is here.
///
/// # Safety
/// As [`AddressState::send_datagram`].
unsafe fn receive_into(
    datagrams: &mut Datagrams,
    file: u64,
    irp: *mut Irp,
    receive: &Receive,
) -> Option<(NtStatus, u64, SocketAddr)> {
    loop {
        let network = &datagrams.network;
        // SAFETY: the caller's promise.
        let received = unsafe { mdl::with_room(irp, receive.length, |slices| network.receive_from(slices)) };
        match received {
            Ok(DatagramReceived::Got(arrival)) => {
                note_received(file, arrival.length);
                return Some((fit(arrival.length, arrival.stored), arrival.stored as u64, arrival.source));
            }
            Ok(DatagramReceived::Undelivered { remote, error }) => datagrams.note_undelivered(remote, error),
            Ok(DatagramReceived::WouldBlock | DatagramReceived::Failed(_)) => {
                datagrams.is_readable = false;
                return None;
            }
            Err(status) => return Some((status, 0, datagrams.network.local())),
        }
    }
}

/// A longer datagram fills the buffer, and what is left of it is lost (D-046).
fn fit(length: usize, stored: usize) -> NtStatus {
    if stored < length { NtStatus::BUFFER_OVERFLOW } else { NtStatus::SUCCESS }
}

/// Gives the datagram in the buffer to the first receive that takes it.
fn give_held(datagrams: &mut Datagrams, arrival: Arrival, requests: &Requests) -> Option<Completion> {
    let at = datagrams.receives.iter().position(|receive| receive.filter.matches(arrival.source))?;
    let receive = datagrams.receives.remove(at)?;
    if !receive.is_peek {
        datagrams.held = None;
    }
    let bytes = datagrams.buffer.get(..arrival.stored).unwrap_or_default();
    let bytes = bytes.get(..receive.length as usize).unwrap_or(bytes);
    let irp = requests.irp(receive.id)?;
    // SAFETY: the address is locked, so nobody else takes the request out.
    let (status, count) = match unsafe { mdl::store(irp, 0, bytes) } {
        Ok(count) => (fit(arrival.length, count), count as u64),
        Err(status) => (status, 0),
    };
    Some(Completion { id: receive.id, status, information: count, peer: Some(arrival.source) })
}

/// Throws away what is here. `false` if there may be more.
fn discard(datagrams: &mut Datagrams) -> bool {
    for _ in 0..DISCARDS_MAX {
        match datagrams.network.receive_from(&mut []) {
            DatagramReceived::Got(_) => {}
            DatagramReceived::Undelivered { remote, error } => datagrams.note_undelivered(remote, error),
            DatagramReceived::WouldBlock | DatagramReceived::Failed(_) => {
                datagrams.is_readable = false;
                return true;
            }
        }
    }
    false
}

/// Goes on with sends that wait.
fn advance_sends(datagrams: &mut Datagrams, file: u64, requests: &Requests) {
    while let Some(send) = datagrams.sends.front().copied() {
        let Some(irp) = requests.irp(send.id) else { return };
        // SAFETY: the address is locked, so nobody else takes the request out; its chain was checked.
        let Some((status, bytes)) = (unsafe { transmit(datagrams, file, irp, &send) }) else { return };
        datagrams.sends.pop_front();
        datagrams.completions.push_back(Completion { id: send.id, status, information: bytes, peer: None });
    }
}

/// Sends one datagram; `None` if the network has no room.
///
/// # Safety
/// As [`AddressState::send_datagram`].
unsafe fn transmit(datagrams: &Datagrams, file: u64, irp: *mut Irp, send: &Send) -> Option<(NtStatus, u64)> {
    // SAFETY: the caller's promise.
    let sent = unsafe { mdl::with_bytes(irp, send.length, |slices| datagrams.network.send_to(slices, send.remote)) };
    match sent {
        Ok(DatagramSent::Taken) => {
            gate::record(Event::BytesSent { endpoint: file, bytes: send.length.into() });
            gate::count(Counter::BytesSent, send.length.into());
            Some((NtStatus::SUCCESS, send.length.into()))
        }
        Ok(DatagramSent::WouldBlock) => None,
        Ok(DatagramSent::Failed(error)) => Some((datagram_status(error), 0)),
        Err(status) => Some((status, 0)),
    }
}

fn note_received(file: u64, bytes: usize) {
    gate::record(Event::BytesReceived { endpoint: file, bytes: bytes as u64 });
    gate::count(Counter::BytesReceived, bytes as u64);
}

/// The flag that tells whom a datagram was meant for (D-072).
pub(crate) fn cast_flag(cast: Cast) -> u32 {
    match cast {
        Cast::Unicast => 0,
        Cast::Broadcast => receive_flags::BROADCAST,
        Cast::Multicast => receive_flags::MULTICAST,
    }
}
