//! A transport address, one per file object.
//!
//! Offers of remote nodes go to the first pending listen whose filter they pass, else to the connect
//! handler, else, if the last listen was used up by an offer, into a bounded queue for the next one, so
//! that a client which posts its listens anew loses none; else they are refused. A client that takes its
//! last listen or handler back wants no more offers, and those that wait are refused, too (C-305).
//!
//! One handler of the address's own is called at a time. An offer is in exactly one place: waiting,
//! on its way to a listen, out at the handler, or gone.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::SocketAddr;

use nt_abi::NtStatus;
use nt_abi::tdi::TdiEvent;

use crate::endpoint::AddressMessage;
use crate::ids::{AddressId, EndpointId, OfferId, RequestId};
use crate::indication::{ConnectionHandlers, Handler};
use crate::network::Offer;
use crate::queue::Queue;
use crate::request::RemoteFilter;

/// What the caller has to do for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressOutput {
    /// Lock that endpoint (not the address) and call [`crate::Endpoint::handle_offer`]; if it
    /// answers `Returned`, [`Address::handle_offer_returned`].
    Deliver {
        /// Whose listen matches.
        endpoint: EndpointId,
        /// The pending TDI_LISTEN.
        listen: RequestId,
        /// The incoming connection.
        offer: Offer,
    },
    /// Call ClientEventConnect with no lock held, let the endpoint of the returned IRP take the offer
    /// ([`crate::Endpoint::handle_accept_irp`]), then [`Address::handle_connect_result`].
    IndicateConnect {
        /// Whom to call.
        handler: Handler,
        /// The incoming connection.
        offer: Offer,
    },
    /// Refuse that offer on the network (C-305, C-437, C-445).
    Refuse(OfferId),
    /// The address has been closed: lock that endpoint and call
    /// [`crate::Endpoint::handle_address_closed`].
    TellClosed(EndpointId),
    /// Call ClientEventError, and ClientEventErrorEx with a null buffer if that is the event, with no
    /// lock held, then [`Address::handle_error_indicated`] (C-459, C-461).
    IndicateError {
        /// ERROR or ERROR_EX.
        event: TdiEvent,
        /// Whom to call.
        handler: Handler,
        /// What failed.
        status: NtStatus,
    },
    /// Start (true) or stop taking connections from the network.
    Listen(bool),
}

/// What became of an offer that was indicated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectAnswer {
    /// An endpoint owns the connection now.
    Accepted,
    /// Rejected, or what was returned could not be honoured (C-437 to C-442).
    Rejected,
}

/// The state of one opened transport address.
#[derive(Debug)]
pub struct Address {
    id: AddressId,
    local: SocketAddr,
    backlog: usize,
    is_closed: bool,
    handlers: [Handler; EVENTS],
    /// Associated endpoints, each in its seat; [`NOBODY`] in those that are vacant.
    seats: Vec<EndpointId>,
    vacant: Vec<u32>,
    listens: VecDeque<Listen>,
    /// Offers that nobody has been told of, oldest first.
    waiting: VecDeque<Offer>,
    /// Something other than the handler takes offers: they may wait for it.
    has_listened: bool,
    is_listening: bool,
    call: Option<Call>,
    failures: VecDeque<(TdiEvent, NtStatus)>,
    outputs: Queue<AddressOutput>,
}

/// Event codes up to ERROR_EX.
const EVENTS: usize = 11;

/// Marks a vacant seat. No table has so many endpoints.
const NOBODY: EndpointId = EndpointId { index: u32::MAX, generation: u32::MAX };

#[derive(Debug)]
struct Listen {
    endpoint: EndpointId,
    id: RequestId,
    filter: RemoteFilter,
}

/// The handler that is running.
#[derive(Debug, PartialEq, Eq)]
enum Call {
    Connect(OfferId),
    Error,
}

impl Address {
    /// An address as an open leaves it: no handler, no endpoint (C-110).
    ///
    /// `backlog` bounds the offers that wait for the next listen or for the connect handler.
    pub fn new(id: AddressId, local: SocketAddr, backlog: usize) -> Self {
        Self {
            id,
            local,
            backlog,
            is_closed: false,
            handlers: [Handler::NONE; EVENTS],
            seats: Vec::new(),
            vacant: Vec::new(),
            listens: VecDeque::new(),
            waiting: VecDeque::new(),
            has_listened: false,
            is_listening: false,
            call: None,
            failures: VecDeque::new(),
            outputs: Queue::new(),
        }
    }

    /// The caller's name for it.
    pub fn id(&self) -> AddressId {
        self.id
    }

    /// The local transport address; port 0 while it floats (C-097, C-098).
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The network has chosen the port or IP address (C-100).
    pub fn set_local(&mut self, local: SocketAddr) {
        self.local = local;
    }

    /// Has the file object been cleaned up?
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Associated endpoints, in no particular order: whom to tell about new handlers (C-111).
    pub fn endpoints(&self) -> impl Iterator<Item = EndpointId> + '_ {
        self.seats.iter().copied().filter(|&endpoint| endpoint != NOBODY)
    }

    /// An endpoint takes a seat, until it sends [`AddressMessage::Detach`].
    pub(crate) fn seat(&mut self, endpoint: EndpointId) -> u32 {
        if let Some(seat) = self.vacant.pop() {
            if let Some(free) = self.seats.get_mut(seat as usize) {
                *free = endpoint;
            }
            return seat;
        }
        self.seats.push(endpoint);
        u32::try_from(self.seats.len() - 1).expect("fewer endpoints than 32 bits can name")
    }

    /// A message of an associated endpoint ([`crate::Output::Address`]).
    pub fn handle_message(&mut self, endpoint: EndpointId, message: AddressMessage) {
        match message {
            AddressMessage::Listen { id, filter } if !self.is_closed => {
                self.has_listened = true;
                self.listens.push_back(Listen { endpoint, id, filter });
            }
            // The endpoint is being told that the address is closed and ends its listen itself.
            AddressMessage::Listen { .. } => {}
            AddressMessage::WithdrawListen { id } => {
                // There is one of it. Servers end theirs in the order in which they began: mostly it is near the front.
                let at = self.listens.iter().position(|listen| (listen.endpoint, listen.id) == (endpoint, id));
                at.and_then(|at| self.listens.remove(at));
                self.note_withdrawal();
            }
            AddressMessage::Detach { seat } => {
                if let Some(taken) = self.seats.get_mut(seat as usize).filter(|taken| **taken == endpoint) {
                    *taken = NOBODY;
                    self.vacant.push(seat);
                }
            }
        }
        self.settle();
    }

    /// TDI_SET_EVENT_HANDLER (C-409 ff.); [`Handler::NONE`] deregisters.
    ///
    /// SUCCESS, or INVALID_PARAMETER for an event this transport does not know (C-413, C-414),
    /// CANCELLED after the cleanup. On success the caller tells [`Address::connection_handlers`] to each of
    /// [`Address::endpoints`] with [`crate::Endpoint::handle_handlers`], re-reading it under both locks,
    /// before it completes the request (C-418).
    pub fn tdi_set_event_handler(&mut self, event: TdiEvent, handler: Handler) -> NtStatus {
        if self.is_closed {
            return NtStatus::CANCELLED;
        }
        if matches!(event, TdiEvent::SEND_POSSIBLE | TdiEvent::CHAINED_RECEIVE_EXPEDITED) {
            return NtStatus::INVALID_PARAMETER;
        }
        let Some(registered) = self.handlers.get_mut(event.0 as usize) else {
            return NtStatus::INVALID_PARAMETER;
        };
        *registered = handler;
        if !handler.is_registered() {
            self.note_withdrawal();
        }
        self.settle();
        NtStatus::SUCCESS
    }

    /// The registered handler of any event, [`Handler::NONE`] if there is none.
    pub fn handler(&self, event: TdiEvent) -> Handler {
        self.handlers.get(event.0 as usize).copied().unwrap_or_default()
    }

    /// All registered handlers.
    pub fn handlers(&self) -> impl Iterator<Item = Handler> {
        self.handlers.iter().copied().filter(|handler| handler.is_registered())
    }

    /// What endpoints need to know of the registered handlers.
    pub fn connection_handlers(&self) -> ConnectionHandlers {
        ConnectionHandlers {
            disconnect: self.handler(TdiEvent::DISCONNECT),
            receive: self.handler(TdiEvent::RECEIVE),
            receive_expedited: self.handler(TdiEvent::RECEIVE_EXPEDITED),
            chained_receive: self.handler(TdiEvent::CHAINED_RECEIVE),
        }
    }

    /// Would a pending listen take an offer from there?
    pub fn has_listen_for(&self, remote: SocketAddr) -> bool {
        self.listens.iter().any(|listen| listen.filter.matches(remote))
    }

    /// A remote node wants to connect.
    pub fn handle_offer(&mut self, offer: Offer) {
        self.waiting.push_back(offer);
        self.settle();
    }

    /// The endpoint an offer was delivered to did not want it any more.
    pub fn handle_offer_returned(&mut self, offer: Offer) {
        self.waiting.push_front(offer);
        self.settle();
    }

    /// Does an offer wait here that nobody has been told of?
    pub fn is_waiting(&self, offer: OfferId) -> bool {
        self.waiting.iter().any(|waiting| waiting.id == offer)
    }

    /// The remote node has withdrawn an offer. Returns whether it was waiting here; if not, it is on its way
    /// to an endpoint or to the connect handler, or over.
    pub fn handle_offer_withdrawn(&mut self, offer: OfferId) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| waiting.id != offer);
        self.waiting.len() < before
    }

    /// An offer has waited for as long as the caller lets one wait for the next listen. If it still does, it is refused;
    /// and unless another listen or the connect handler is left, no next listen is expected any more (C-305).
    pub fn handle_offer_overdue(&mut self, offer: OfferId) {
        // The handler is busy, and takes it next.
        let has_handler = self.handler(TdiEvent::CONNECT).is_registered();
        if !has_handler && self.handle_offer_withdrawn(offer) {
            self.outputs.push_back(AddressOutput::Refuse(offer));
            self.note_withdrawal();
            self.settle();
        }
    }

    /// The connect handler has returned and its answer is worked off.
    pub fn handle_connect_result(&mut self, offer: OfferId, answer: ConnectAnswer) {
        if self.call != Some(Call::Connect(offer)) {
            return;
        }
        self.call = None;
        match answer {
            ConnectAnswer::Accepted => {}
            ConnectAnswer::Rejected => self.outputs.push_back(AddressOutput::Refuse(offer)),
        }
        self.settle();
    }

    /// The transport below the address has failed: its error handlers are to be called (C-459).
    pub fn handle_failure(&mut self, status: NtStatus) {
        for event in [TdiEvent::ERROR, TdiEvent::ERROR_EX] {
            if self.handler(event).is_registered() {
                self.failures.push_back((event, status));
            }
        }
    }

    /// An error handler has returned.
    pub fn handle_error_indicated(&mut self) {
        if self.call == Some(Call::Error) {
            self.call = None;
        }
    }

    /// The last handle was closed (C-154, C-162, C-178). A second call does nothing.
    ///
    /// The CLEANUP may complete once this address and each endpoint told by
    /// [`AddressOutput::TellClosed`] is quiet.
    pub fn handle_cleanup(&mut self) {
        if self.is_closed {
            return;
        }
        self.is_closed = true;
        self.handlers = [Handler::NONE; EVENTS];
        self.failures.clear();
        self.listens.clear();
        self.recall();
        self.settle();
        for &endpoint in self.seats.iter().filter(|&&endpoint| endpoint != NOBODY) {
            self.outputs.push_back(AddressOutput::TellClosed(endpoint));
        }
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<AddressOutput> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        if self.call.is_some() {
            return None;
        }
        if let Some(output) = self.next_failure() {
            return Some(output);
        }
        let handler = self.handler(TdiEvent::CONNECT);
        if !handler.is_registered() {
            return None;
        }
        let offer = self.waiting.pop_front()?;
        self.call = Some(Call::Connect(offer.id));
        Some(AddressOutput::IndicateConnect { handler, offer })
    }

    /// No handler of this address runs on its own account and no output waits.
    pub fn is_quiet(&self) -> bool {
        let has_call =
            !self.failures.is_empty() || (!self.waiting.is_empty() && self.handler(TdiEvent::CONNECT).is_registered());
        self.call.is_none() && self.outputs.is_empty() && !has_call
    }

    /// Closed, quiet, and the last endpoint gone: the state may be dropped and its
    /// [`crate::sharing::Claim`] released (C-176).
    pub fn is_finished(&self) -> bool {
        self.is_closed && self.is_quiet() && self.vacant.len() == self.seats.len()
    }

    /// The client has taken a listen or a handler back, or lets offers wait too long. Without any left it wants no offers
    /// (C-305); only behind a listen that an offer has used up does the next one count as to come.
    fn note_withdrawal(&mut self) {
        if self.listens.is_empty() && !self.handler(TdiEvent::CONNECT).is_registered() {
            self.has_listened = false;
        }
    }

    /// Gives waiting offers to listens (C-301, C-302), refuses those that nobody will take, and starts or
    /// stops listening.
    fn settle(&mut self) {
        let may_listen = self.has_listened || self.handler(TdiEvent::CONNECT).is_registered();
        let wants_offers = may_listen && !self.is_closed;
        if wants_offers != self.is_listening {
            self.is_listening = wants_offers;
            self.outputs.push_back(AddressOutput::Listen(wants_offers));
        }
        let mut at = 0;
        while let Some(offer) = self.waiting.get(at).copied() {
            if let Some(listen) = self.take_listen(offer.remote) {
                self.waiting.remove(at);
                let Listen { endpoint, id: listen, .. } = listen;
                self.outputs.push_back(AddressOutput::Deliver { endpoint, listen, offer });
            } else if !wants_offers || at >= self.backlog {
                self.waiting.remove(at);
                self.outputs.push_back(AddressOutput::Refuse(offer.id));
            } else {
                at += 1;
            }
        }
    }

    fn take_listen(&mut self, remote: SocketAddr) -> Option<Listen> {
        let at = self.listens.iter().position(|listen| listen.filter.matches(remote))?;
        self.listens.remove(at)
    }

    /// Offers on their way to a listen are refused instead: nothing is accepted any more (C-178).
    fn recall(&mut self) {
        let mut kept = Queue::new();
        while let Some(output) = self.outputs.pop_front() {
            kept.push_back(match output {
                AddressOutput::Deliver { offer, .. } => AddressOutput::Refuse(offer.id),
                other => other,
            });
        }
        self.outputs = kept;
    }

    fn next_failure(&mut self) -> Option<AddressOutput> {
        while let Some((event, status)) = self.failures.pop_front() {
            let handler = self.handler(event);
            // It may have been withdrawn meanwhile.
            if handler.is_registered() {
                self.call = Some(Call::Error);
                return Some(AddressOutput::IndicateError { event, handler, status });
            }
        }
        None
    }
}
