//! Hot paths allocate nothing: a counting allocator watches whole rounds of work on one endpoint.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use nt_abi::NtStatus;
use nt_abi::tdi::{TdiEvent, disconnect_flags};
use tdi_core::{
    Address, AddressId, Config, Endpoint, EndpointId, Handler, IndicationResult, Instant, NetworkCommand, NetworkEvent,
    Offer, OfferId, Outcome, Output, Progress, RemoteFilter, Request, RequestId, StateName,
};

struct Counting;

thread_local! {
    /// Of this thread: the test harness has one of its own.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is left to the system allocator; counting changes nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const NOW: Instant = Instant(0);

/// An endpoint whose network does at once what it is told; each read brings 5 bytes, then the end.
struct Fast {
    endpoint: Endpoint,
    address: Address,
    next: u32,
    completed: u32,
    unread: u32,
    ended: bool,
}

impl Fast {
    fn new(handlers: bool) -> Self {
        let id = AddressId { index: 0, generation: 0 };
        let mut address = Address::new(id, "192.0.2.1:80".parse().unwrap(), 4);
        if handlers {
            for event in [TdiEvent::RECEIVE, TdiEvent::DISCONNECT] {
                let status = address.tdi_set_event_handler(event, Handler { routine: 1, context: 2 });
                assert_eq!(status, NtStatus::SUCCESS);
            }
        }
        let id = EndpointId { index: 0, generation: 0 };
        let mut endpoint = Endpoint::new(id, 0, &Config::DEFAULT);
        assert_eq!(endpoint.tdi_associate_address(&mut address), NtStatus::SUCCESS);
        Self { endpoint, address, next: 0, completed: 0, unread: 0, ended: false }
    }

    fn request(&mut self, request: Request) {
        self.next += 1;
        let id = RequestId { index: self.next, generation: 0 };
        assert_eq!(self.endpoint.handle_request(NOW, id, request), Outcome::Taken);
        self.run();
    }

    fn tell(&mut self, event: NetworkEvent) {
        let connection = self.endpoint.connection().unwrap();
        self.endpoint.handle_network(NOW, connection, event);
        self.run();
    }

    fn read(&mut self) -> Progress {
        match std::mem::take(&mut self.unread) {
            0 if self.ended => Progress::Ended,
            0 => Progress::WouldBlock,
            count => Progress::Moved { count, exhausted: false },
        }
    }

    fn run(&mut self) {
        while let Some(output) = self.endpoint.poll_output() {
            match output {
                Output::Network(command) => self.carry_out(command),
                Output::Address(_, message) => self.address.handle_message(self.endpoint.id(), message),
                Output::Complete(completion) => {
                    assert_eq!(completion.status, NtStatus::SUCCESS);
                    self.completed += 1;
                    self.endpoint.handle_completion_delivered(completion.id);
                }
                Output::Indicate(tdi_core::Indication::Receive { data, start, .. }) => {
                    let (status, taken) = (NtStatus::SUCCESS, (data.len() - start) as u32);
                    let result = IndicationResult::Receive { status, taken, receive: None, data };
                    assert_eq!(self.endpoint.handle_indication_result(NOW, result), None);
                }
                Output::Indicate(_) => {
                    assert_eq!(self.endpoint.handle_indication_result(NOW, IndicationResult::Disconnect), None);
                }
            }
        }
    }

    fn carry_out(&mut self, command: NetworkCommand) {
        match command {
            NetworkCommand::Connect { connection, remote, .. } => {
                let event = NetworkEvent::Connected { remote };
                self.endpoint.handle_network(NOW, connection, event);
            }
            NetworkCommand::Accept { connection } => {
                let remote = self.endpoint.remote().unwrap();
                self.endpoint.handle_network(NOW, connection, NetworkEvent::Connected { remote });
            }
            NetworkCommand::Transmit { id, length, .. } => {
                self.endpoint.handle_sent(NOW, id, Progress::Moved { count: length, exhausted: false });
            }
            NetworkCommand::Fill { id, .. } => {
                let progress = self.read();
                self.endpoint.handle_filled(NOW, id, progress);
            }
            NetworkCommand::ReadAhead { .. } => {
                let progress = self.read();
                assert!(!self.endpoint.read_ahead_space().is_empty());
                self.endpoint.handle_read_ahead(NOW, progress);
            }
            NetworkCommand::CopyBuffered { id, .. } => self.endpoint.handle_copied(NOW, id),
            NetworkCommand::ShutdownSend { .. } | NetworkCommand::Abort { .. } | NetworkCommand::Close { .. } => {}
        }
    }

    fn connect(&mut self) {
        self.ended = false;
        self.request(Request::Connect { remote: "192.0.2.7:80".parse().unwrap(), timeout: None });
    }

    fn exchange(&mut self) {
        self.request(Request::Send { length: 100, flags: 0 });
        self.unread = 5;
        if self.address.handler(TdiEvent::RECEIVE).is_registered() {
            self.tell(NetworkEvent::Readable);
        } else {
            self.request(Request::Receive { length: 100, flags: 0 });
        }
    }

    fn part(&mut self) {
        self.request(Request::Disconnect { flags: disconnect_flags::RELEASE, timeout: None });
        self.ended = true;
        self.tell(NetworkEvent::PeerReleased);
        assert_eq!(self.endpoint.state(), StateName::Associated);
    }

    fn listen(&mut self) {
        self.request(Request::Listen { filter: RemoteFilter::ANY, query_accept: false });
        let remote = "192.0.2.7:80".parse().unwrap();
        self.address.handle_offer(Offer { id: OfferId(1), remote, local: remote });
        while let Some(output) = self.address.poll_output() {
            if let tdi_core::AddressOutput::Deliver { listen, offer, .. } = output {
                assert_ne!(self.endpoint.handle_offer(NOW, listen, &offer), tdi_core::OfferAnswer::Returned);
            }
        }
        self.ended = false;
        self.run();
    }
}

/// Allocations of `rounds` of `work`, after one round that may allocate what is kept.
fn allocations(fast: &mut Fast, rounds: u32, work: fn(&mut Fast)) -> usize {
    work(fast);
    let before = ALLOCATIONS.get();
    for _ in 0..rounds {
        work(fast);
    }
    ALLOCATIONS.get() - before
}

#[test]
fn sends_receives_connections_and_offers_allocate_nothing() {
    for handlers in [false, true] {
        let mut fast = Fast::new(handlers);
        fast.connect();
        assert_eq!(allocations(&mut fast, 1000, Fast::exchange), 0, "send and receive, handlers {handlers}");
        fast.part();
        let whole = |fast: &mut Fast| {
            fast.connect();
            fast.exchange();
            fast.part();
        };
        assert_eq!(allocations(&mut fast, 1000, whole), 0, "connect, exchange, part, handlers {handlers}");
        let accept = |fast: &mut Fast| {
            fast.listen();
            fast.exchange();
            fast.part();
        };
        assert_eq!(allocations(&mut fast, 1000, accept), 0, "listen, exchange, part, handlers {handlers}");
        assert!(fast.completed > 3000);
        let life = |fast: &mut Fast| {
            fast.endpoint.handle_cleanup(NOW);
            fast.run();
            assert!(fast.endpoint.is_quiet());
            fast.endpoint = Endpoint::new(fast.endpoint.id(), 0, &Config::DEFAULT);
            assert_eq!(fast.endpoint.tdi_associate_address(&mut fast.address), NtStatus::SUCCESS);
            fast.connect();
            fast.exchange();
            fast.part();
        };
        // A new endpoint's queue behind the first output and its lane, each with its space, and what it knows of handlers.
        let each = 4 + usize::from(handlers);
        assert_eq!(allocations(&mut fast, 100, life), 100 * each, "a new endpoint, handlers {handlers}");
    }
}
