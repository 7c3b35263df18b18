//! Carrying out what an endpoint's state machine asks of the network, under the endpoint's lock and without
//! blocking.

use std::fmt::{self, Write};
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;

use net_api::{Connection, NetError, Progress as Attempt, Received, Sent};
use nt_abi::NtStatus;
use tdi_core::{ConnectionNumber, NetworkCommand, NetworkError, NetworkEvent, Progress, RequestId};
use trace::{Counter, Event, Farewell};

use crate::endpoint::{EndpointState, Link, Phase, Said, endpoint_key};
use crate::mdl::{self, Step};
use crate::status::network_error;
use crate::table::Locked;
use crate::transport::Transport;

type Endpoint<'a> = Locked<'a, EndpointState>;

/// What came of looking for urgent data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgent {
    /// The next byte, if there is one, is none.
    Nothing,
    /// The core has one more.
    Taken,
    /// The next byte is one, and stays where it is until the client has made room.
    Held,
}

impl Transport {
    /// Carries out one command and gives its answer to the core.
    pub(crate) fn carry_out(&self, endpoint: &mut Endpoint<'_>, command: NetworkCommand) {
        let now = endpoint.core.now();
        match command {
            NetworkCommand::Connect { connection, remote, deadline: _ } => self.connect(endpoint, connection, remote),
            NetworkCommand::Accept { connection } => {
                if let Some(link) = endpoint.link(connection) {
                    link.phase = Phase::Answered;
                    link.connection.answer();
                    self.tell_progress(endpoint);
                }
            }
            NetworkCommand::Transmit { id, offset, length, expedited } => {
                let progress = self.transmit(endpoint, id, offset, length, expedited);
                endpoint.core.handle_sent(now, id, progress);
            }
            NetworkCommand::Fill { id, offset, length } => {
                let urgent = self.take_urgent(endpoint);
                let progress = if urgent == Urgent::Nothing {
                    self.fill(endpoint, id, offset, length)
                } else {
                    Progress::WouldBlock
                };
                endpoint.core.handle_filled(now, id, progress);
                if urgent == Urgent::Taken {
                    self.read_again(endpoint);
                }
            }
            NetworkCommand::ReadAhead { length: _ } => {
                let urgent = self.take_urgent(endpoint);
                let progress = if urgent == Urgent::Nothing { self.read_ahead(endpoint) } else { Progress::WouldBlock };
                endpoint.core.handle_read_ahead(now, progress);
                if urgent == Urgent::Taken {
                    self.read_again(endpoint);
                }
            }
            NetworkCommand::CopyBuffered { id, offset, source, range } => {
                if let Some(irp) = self.requests.irp(id) {
                    // SAFETY: the endpoint is locked, so nobody else takes the request out. The chain was checked
                    // when it came in; if its driver has freed it since, the bytes are lost with it.
                    let _ = unsafe { mdl::store(irp, offset, endpoint.core.buffered(source, range)) };
                }
                endpoint.core.handle_copied(now, id);
            }
            NetworkCommand::ShutdownSend { connection } => {
                let file = endpoint.file;
                let Some(link) = endpoint.link(connection) else { return };
                // A failure shows again at the next receive, where the core hears of it.
                let _ = link.connection.shutdown_send();
                link.said.tell_fin(file);
                // The connection is over when the remote node releases too, though nobody may wait for that.
                self.watch(endpoint);
            }
            NetworkCommand::Abort { connection } => {
                if endpoint.link(connection).is_some() {
                    self.abort(endpoint);
                }
            }
            NetworkCommand::Close { connection } => {
                if endpoint.link(connection).is_some() {
                    self.close(endpoint);
                }
            }
        }
    }

    fn connect(&self, endpoint: &mut Endpoint<'_>, number: ConnectionNumber, remote: SocketAddr) {
        let network = endpoint.core.address().and_then(|id| self.addresses.lock(id)?.network.clone());
        let serial = self.next_serial();
        gate::record_with_text(Event::ConnectStarted { endpoint: endpoint.file }, Text::of(remote).as_str());
        let outcome = match &network {
            Some(shared) => shared.network.connect(remote, endpoint_key(endpoint.core.id().index, serial)),
            None => Err(NetError::AddressNotAvailable),
        };
        match outcome {
            Ok((connection, attempt)) => {
                let phase = Phase::Attempt;
                endpoint.link = Some(Link { connection, number, serial, phase, said: Said::default() });
                if attempt == Attempt::Established {
                    self.established(endpoint);
                } else if let Some(link) = &mut endpoint.link {
                    // The network watches a pending attempt by itself.
                    link.said.watched = true;
                    self.watch_more();
                }
            }
            Err(error) => {
                let now = endpoint.core.now();
                endpoint.core.handle_network(now, number, NetworkEvent::Broken(network_error(error)));
            }
        }
    }

    /// The connection is up.
    pub(crate) fn established(&self, endpoint: &mut Endpoint<'_>) {
        let state = &mut **endpoint;
        let file = state.file;
        let Some(link) = &mut state.link else { return };
        link.phase = Phase::Established;
        state.options.apply(&*link.connection);
        let (number, remote) = (link.number, link.connection.remote());
        gate::record_with_text(Event::Connected { endpoint: file }, Text::of(remote).as_str());
        let now = endpoint.core.now();
        endpoint.core.handle_network(now, number, NetworkEvent::Connected { remote });
        self.watch_for_handlers(endpoint);
    }

    /// Without a request nothing would ever block on this connection and so have it watched; but its end and its
    /// data are to be indicated.
    pub(crate) fn watch_for_handlers(&self, endpoint: &mut Endpoint<'_>) {
        if endpoint.link.as_ref().is_none_or(|link| link.said.watched) {
            return;
        }
        let Some(address) = endpoint.core.address().and_then(|id| self.addresses.lock(id)) else { return };
        let handlers = address.core.connection_handlers();
        drop(address);
        let wanted = [handlers.disconnect, handlers.normal(), handlers.receive_expedited];
        if wanted.iter().any(|handler| handler.is_registered()) {
            self.watch(endpoint);
        }
    }

    /// Has the network report what happens to the connection. `false` if it cannot.
    pub(crate) fn watch(&self, endpoint: &mut Endpoint<'_>) -> bool {
        let index = endpoint.core.id().index;
        let Some(link) = &mut endpoint.link else { return false };
        if link.said.watched {
            return true;
        }
        link.said.watched = link.connection.watch(endpoint_key(index, link.serial)).is_ok();
        if link.said.watched {
            self.watch_more();
        }
        link.said.watched
    }

    fn transmit(
        &self,
        endpoint: &mut Endpoint<'_>,
        id: RequestId,
        offset: u32,
        length: u32,
        expedited: bool,
    ) -> Progress {
        let (Some(irp), Some(link)) = (self.requests.irp(id), &endpoint.link) else {
            return Progress::Broken(NetworkError::Aborted);
        };
        let connection = &*link.connection;
        let marks = if expedited { self.network.capabilities().urgent_bytes.min(length) } else { 0 };
        if marks > 0 {
            // SAFETY: as below.
            let sent = unsafe { send_expedited(irp, offset, length, marks, connection) };
            return self.sent(endpoint, length, sent);
        }
        let plain = |slices: &[IoSlice<'_>]| match connection.send(slices) {
            Sent::Taken(count) => Step::Moved(count),
            other => Step::Other(other),
        };
        // SAFETY: the endpoint is locked, so nobody else takes the request out; its chain was checked.
        let sent = unsafe { mdl::send(irp, offset, length, plain) };
        self.sent(endpoint, length, sent)
    }

    fn sent(&self, endpoint: &mut Endpoint<'_>, length: u32, sent: Result<mdl::Transfer<Sent>, NtStatus>) -> Progress {
        let Ok(mdl::Transfer { count, end }) = sent else { return Progress::Broken(NetworkError::Aborted) };
        if count > 0 {
            gate::record(Event::BytesSent { endpoint: endpoint.file, bytes: count.into() });
            gate::count(Counter::BytesSent, count.into());
        }
        match end {
            // What was taken before is told first; the failure is repeatable.
            Some(Sent::Failed(error)) if count == 0 => self.broken(endpoint, error),
            _ if count == length => Progress::Moved { count, exhausted: false },
            _ if !self.watch(endpoint) => Progress::Broken(NetworkError::NoResources),
            _ if count > 0 => Progress::Moved { count, exhausted: !matches!(end, Some(Sent::Failed(_))) },
            _ => Progress::WouldBlock,
        }
    }

    fn fill(&self, endpoint: &mut Endpoint<'_>, id: RequestId, offset: u32, length: u32) -> Progress {
        let (Some(irp), Some(link)) = (self.requests.irp(id), &endpoint.link) else {
            return Progress::Broken(NetworkError::Aborted);
        };
        let connection = &*link.connection;
        let mut is_further = false;
        let step = |slices: &mut [IoSliceMut<'_>]| {
            // The caller has looked at the first byte.
            if std::mem::replace(&mut is_further, true) && connection.is_at_urgent_mark() {
                return Step::Other(Received::WouldBlock);
            }
            match connection.receive(slices) {
                Received::Got(count) => Step::Moved(count),
                other => Step::Other(other),
            }
        };
        // SAFETY: the endpoint is locked, so nobody else takes the request out; its chain was checked.
        match unsafe { mdl::fill(irp, offset, length, step) } {
            Ok(mdl::Transfer { count, end }) => self.received(endpoint, count, end),
            Err(_) => Progress::Broken(NetworkError::Aborted),
        }
    }

    fn read_ahead(&self, endpoint: &mut Endpoint<'_>) -> Progress {
        let state = &mut **endpoint;
        let Some(link) = &state.link else { return Progress::Broken(NetworkError::Aborted) };
        let received = link.connection.receive(&mut [IoSliceMut::new(state.core.read_ahead_space())]);
        match received {
            Received::Got(count) => self.received(endpoint, count as u32, None),
            other => self.received(endpoint, 0, Some(other)),
        }
    }

    fn received(&self, endpoint: &mut Endpoint<'_>, count: u32, end: Option<Received>) -> Progress {
        if count > 0 {
            gate::record(Event::BytesReceived { endpoint: endpoint.file, bytes: count.into() });
            gate::count(Counter::BytesReceived, count.into());
            // Whether more is here the network knows best: it answers from memory.
            return Progress::Moved { count, exhausted: false };
        }
        match end {
            Some(Received::EndOfStream) => {
                endpoint.remote_ended(Farewell::Fin);
                Progress::Ended
            }
            Some(Received::Failed(error)) => self.broken(endpoint, error),
            _ if self.watch(endpoint) => Progress::WouldBlock,
            _ => Progress::Broken(NetworkError::NoResources),
        }
    }

    fn broken(&self, endpoint: &mut Endpoint<'_>, error: NetError) -> Progress {
        if error == NetError::Reset {
            endpoint.remote_ended(Farewell::Rst);
        }
        Progress::Broken(network_error(error))
    }

    /// Takes an urgent byte out of the stream if it is next and the core has room for it. Then, and if it has no room, a receive
    /// that was to be filled is not filled now: the core may have ended it.
    pub(crate) fn take_urgent(&self, endpoint: &mut Endpoint<'_>) -> Urgent {
        let file = endpoint.file;
        // The event that tells of it may be on its way yet, so the network is asked each time.
        let Some(link) = endpoint.link.as_ref().filter(|link| link.connection.is_at_urgent_mark()) else {
            return Urgent::Nothing;
        };
        if endpoint.core.expedited_room() == 0 {
            return Urgent::Held;
        }
        let mut byte = [0];
        if link.connection.receive(&mut [IoSliceMut::new(&mut byte)]) != Received::Got(1) {
            return Urgent::Nothing;
        }
        let number = link.number;
        gate::record(Event::BytesReceived { endpoint: file, bytes: 1 });
        gate::count(Counter::BytesReceived, 1);
        let now = endpoint.core.now();
        endpoint.core.handle_expedited(now, number, &byte);
        Urgent::Taken
    }

    /// There may be more behind an urgent byte.
    pub(crate) fn read_again(&self, endpoint: &mut Endpoint<'_>) {
        if let Some(number) = endpoint.link.as_ref().map(|link| link.number) {
            let now = endpoint.core.now();
            endpoint.core.handle_network(now, number, NetworkEvent::Readable);
        }
    }

    fn abort(&self, endpoint: &mut Endpoint<'_>) {
        let file = endpoint.file;
        let Some(link) = &mut endpoint.link else { return };
        link.connection.abort();
        if link.phase != Phase::Attempt {
            gate::record(Event::RemoteTold { endpoint: file, farewell: Farewell::Rst });
        }
        self.drop_link(endpoint);
    }

    pub(crate) fn close(&self, endpoint: &mut Endpoint<'_>) {
        let file = endpoint.file;
        let Some(link) = &mut endpoint.link else { return };
        if !link.said.told_fin {
            // The kernel ends a connection with unread bytes by a reset, whatever we say: then say that.
            if link.connection.has_unread() {
                return self.abort(endpoint);
            }
            link.said.tell_fin(file);
        }
        self.drop_link(endpoint);
    }

    /// Forgets the connection.
    pub(crate) fn drop_link(&self, endpoint: &mut Endpoint<'_>) {
        if endpoint.link.take().is_some_and(|link| link.said.watched) {
            self.watch_less();
        }
    }
}

impl Said {
    fn tell_fin(&mut self, file: u64) {
        if !std::mem::replace(&mut self.told_fin, true) {
            gate::record(Event::RemoteTold { endpoint: file, farewell: Farewell::Fin });
        }
    }
}

/// The last `marks` bytes as urgent data, which is as many as the network can mark; those before them as usual.
///
/// # Safety
/// As [`mdl::send`].
unsafe fn send_expedited(
    irp: *mut nt_abi::Irp,
    offset: u32,
    length: u32,
    marks: u32,
    connection: &dyn Connection,
) -> Result<mdl::Transfer<Sent>, NtStatus> {
    let plain = |slices: &[IoSlice<'_>]| match connection.send(slices) {
        Sent::Taken(count) => Step::Moved(count),
        other => Step::Other(other),
    };
    let urgent = |slices: &[IoSlice<'_>]| {
        let mut count = 0;
        for byte in slices.iter().flat_map(|slice| slice.iter()) {
            match connection.send_urgent(*byte) {
                Sent::Taken(taken) => count += taken,
                other if count == 0 => return Step::Other(other),
                _ => break,
            }
        }
        Step::Moved(count)
    };
    let before = length - marks;
    // SAFETY: the caller's promise.
    unsafe {
        let first = mdl::send(irp, offset, before, plain)?;
        if first.count < before {
            return Ok(first);
        }
        let last = mdl::send(irp, offset + before, marks, urgent)?;
        Ok(mdl::Transfer { count: before + last.count, end: last.end })
    }
}

/// A short text on the stack, for events on paths that do not allocate.
pub(crate) struct Text {
    bytes: [u8; 64],
    length: usize,
}

impl Text {
    pub(crate) fn of(value: impl fmt::Display) -> Self {
        let mut text = Self { bytes: [0; 64], length: 0 };
        // What does not fit is left out.
        let _ = write!(text, "{value}");
        text
    }

    pub(crate) fn as_str(&self) -> &str {
        self.bytes.get(..self.length).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

impl Write for Text {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let end = self.length + part.len();
        let room = self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?;
        room.copy_from_slice(part.as_bytes());
        self.length = end;
        Ok(())
    }
}
