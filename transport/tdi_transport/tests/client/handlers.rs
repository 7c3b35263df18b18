//! Event handlers as drivers have them: win64 routines with a context, called at DISPATCH_LEVEL.
//!
//! The event context is a [`Client`], which answers from a script and notes what it saw.

use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nt_abi::dispatcher::DispatcherType;
use nt_abi::tdi::TdiEvent;
use nt_abi::{Irp, Irql, KernelEvent, Mdl, NtStatus};
use nt_dispatcher::{event, wait};
use tdi_library::chain;

use super::{File, LONG};

/// What a handler saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// ClientEventReceive or ClientEventReceiveExpedited.
    Received { event: TdiEvent, context: u64, flags: u32, bytes: Vec<u8> },
    /// ClientEventChainedReceive.
    Chained { context: u64, flags: u32, bytes: Vec<u8>, descriptor: u64 },
    /// ClientEventDisconnect.
    Disconnected { context: u64, flags: u32 },
    /// ClientEventConnect, with the length and bytes of the remote address.
    Offered { address: Vec<u8> },
}

/// What a handler answers.
pub struct Answer {
    pub status: NtStatus,
    /// BytesTaken; `None` takes what was indicated.
    pub taken: Option<u32>,
    /// The IRP it returns.
    pub irp: *mut Irp,
    /// What else it does before it returns.
    pub then: Option<Box<dyn FnOnce()>>,
}

// SAFETY: what tests do with it on other threads is what drivers do.
unsafe impl Send for Answer {}

impl Answer {
    pub fn take_all() -> Self {
        Self { status: NtStatus::SUCCESS, taken: None, irp: ptr::null_mut(), then: None }
    }

    pub fn take(count: u32) -> Self {
        Self { taken: Some(count), ..Self::take_all() }
    }

    pub fn status(status: NtStatus) -> Self {
        Self { status, taken: Some(0), ..Self::take_all() }
    }

    pub fn irp(taken: u32, irp: *mut Irp) -> Self {
        Self { status: NtStatus::MORE_PROCESSING_REQUIRED, taken: Some(taken), irp, then: None }
    }

    pub fn then(self, then: impl FnOnce() + 'static) -> Self {
        Self { then: Some(Box::new(then)), ..self }
    }
}

#[derive(Default)]
struct Notes {
    seen: Vec<Seen>,
    answers: VecDeque<Answer>,
}

/// A client with event handlers.
pub struct Client {
    notes: Mutex<Notes>,
    changed: UnsafeCell<KernelEvent>,
}

// SAFETY: the event is touched through the dispatcher only.
unsafe impl Sync for Client {}

impl Client {
    pub fn new() -> Box<Self> {
        // SAFETY: all bytes zero is a valid KernelEvent; it is initialised where it stays.
        unsafe {
            let client = Box::new(Self { notes: Mutex::default(), changed: UnsafeCell::new(std::mem::zeroed()) });
            event::initialize(client.changed.get(), DispatcherType::SYNCHRONIZATION_EVENT, false);
            client
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn context(&self) -> u64 {
        ptr::from_ref(self) as u64
    }

    /// The next receive or connect handler answers this; without a script it takes everything, or refuses.
    pub fn script(&self, answer: Answer) {
        self.notes().answers.push_back(answer);
    }

    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.notes().seen)
    }

    /// Waits until `enough` says so of what was seen, and takes that.
    #[track_caller]
    pub fn wait_for(&self, enough: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        loop {
            {
                let mut notes = self.notes();
                if enough(&notes.seen) {
                    return std::mem::take(&mut notes.seen);
                }
            }
            // SAFETY: initialised in `new`.
            let status = unsafe { wait::wait_single(self.changed.get() as u64, Some(LONG)) };
            assert_eq!(status, NtStatus::SUCCESS, "seen only {:?}", self.notes().seen);
        }
    }

    /// Waits until so many bytes were shown.
    #[track_caller]
    pub fn wait_for_bytes(&self, count: usize) -> Vec<u8> {
        bytes_of(&self.wait_for(|seen| bytes_of(seen).len() >= count))
    }

    fn saw(&self, seen: Seen, default: impl FnOnce() -> Answer) -> Answer {
        let answer = {
            let mut notes = self.notes();
            notes.seen.push(seen);
            notes.answers.pop_front()
        };
        let mut answer = answer.unwrap_or_else(default);
        if let Some(then) = answer.then.take() {
            then();
        }
        // SAFETY: initialised in `new`.
        unsafe { event::set(self.changed.get()) };
        answer
    }

    /// Registers for an event of an address.
    #[track_caller]
    pub fn listen_to(&self, address: &File, events: &[TdiEvent]) {
        for &event in events {
            let routine = match event {
                TdiEvent::RECEIVE => receive as *const () as u64,
                TdiEvent::RECEIVE_EXPEDITED => receive_expedited as *const () as u64,
                TdiEvent::CHAINED_RECEIVE => receive_chain as *const () as u64,
                TdiEvent::DISCONNECT => disconnect as *const () as u64,
                TdiEvent::CONNECT => connect as *const () as u64,
                other => panic!("no handler for {other:?}"),
            };
            assert_eq!(address.set_handler(event, routine, self.context()), NtStatus::SUCCESS, "{event:?}");
        }
    }
}

/// All bytes that were shown, in order.
pub fn bytes_of(seen: &[Seen]) -> Vec<u8> {
    let bytes = |seen: &Seen| match seen {
        Seen::Received { bytes, .. } | Seen::Chained { bytes, .. } => bytes.clone(),
        _ => Vec::new(),
    };
    seen.iter().flat_map(bytes).collect()
}

#[allow(clippy::too_many_arguments, reason = "TDI's signature")]
unsafe fn note_receive(
    event: TdiEvent,
    client: *const Client,
    context: u64,
    flags: u32,
    indicated: u32,
    available: u32,
    taken: *mut u32,
    tsdu: *const u8,
    irp: *mut *mut Irp,
) -> NtStatus {
    // SAFETY: called as a receive handler.
    unsafe {
        assert_eq!(gate::irql(), Irql::DISPATCH);
        assert_eq!((*taken, *irp), (0, ptr::null_mut()), "C-475");
        assert!(1 <= indicated && indicated <= available, "C-467");
        let bytes = std::slice::from_raw_parts(tsdu, indicated as usize).to_vec();
        let answer = (*client).saw(Seen::Received { event, context, flags, bytes }, Answer::take_all);
        *taken = answer.taken.unwrap_or(indicated);
        *irp = answer.irp;
        answer.status
    }
}

#[allow(clippy::too_many_arguments, reason = "TDI's signature")]
unsafe extern "win64" fn receive(
    client: *const Client,
    context: u64,
    flags: u32,
    indicated: u32,
    available: u32,
    taken: *mut u32,
    tsdu: *const u8,
    irp: *mut *mut Irp,
) -> NtStatus {
    // SAFETY: called as a receive handler.
    unsafe { note_receive(TdiEvent::RECEIVE, client, context, flags, indicated, available, taken, tsdu, irp) }
}

#[allow(clippy::too_many_arguments, reason = "TDI's signature")]
unsafe extern "win64" fn receive_expedited(
    client: *const Client,
    context: u64,
    flags: u32,
    indicated: u32,
    available: u32,
    taken: *mut u32,
    tsdu: *const u8,
    irp: *mut *mut Irp,
) -> NtStatus {
    let event = TdiEvent::RECEIVE_EXPEDITED;
    // SAFETY: called as a receive handler.
    unsafe { note_receive(event, client, context, flags, indicated, available, taken, tsdu, irp) }
}

unsafe extern "win64" fn receive_chain(
    client: *const Client,
    context: u64,
    flags: u32,
    length: u32,
    offset: u32,
    tsdu: *mut Mdl,
    descriptor: u64,
) -> NtStatus {
    assert_eq!(gate::irql(), Irql::DISPATCH, "C-506");
    let mut bytes = Vec::new();
    let mut pieces = chain::Pieces::of(tsdu, offset.into(), length.into());
    while let Some(piece) = pieces.advance().expect("a chain that long (C-496)") {
        // SAFETY: bytes of the chain.
        bytes.extend(unsafe { std::slice::from_raw_parts(piece.address as *const u8, piece.length) });
    }
    // SAFETY: called as a chained receive handler.
    unsafe { (*client).saw(Seen::Chained { context, flags, bytes, descriptor }, Answer::take_all).status }
}

unsafe extern "win64" fn disconnect(
    client: *const Client,
    context: u64,
    data_length: i32,
    data: u64,
    information_length: i32,
    information: u64,
    flags: u32,
) -> NtStatus {
    assert_eq!(gate::irql(), Irql::DISPATCH);
    assert_eq!((data_length, data, information_length, information), (0, 0, 0, 0), "C-452");
    // SAFETY: called as a disconnect handler; what it returns means nothing (C-453).
    unsafe { (*client).saw(Seen::Disconnected { context, flags }, Answer::take_all) };
    NtStatus::UNSUCCESSFUL
}

#[allow(clippy::too_many_arguments, reason = "TDI's signature")]
unsafe extern "win64" fn connect(
    client: *const Client,
    address_length: i32,
    address: *const u8,
    data_length: i32,
    data: u64,
    options_length: i32,
    options: u64,
    context: *mut u64,
    irp: *mut *mut Irp,
) -> NtStatus {
    assert_eq!(gate::irql(), Irql::DISPATCH, "C-443");
    assert_eq!((data_length, data, options_length, options), (0, 0, 0, 0), "C-434");
    // SAFETY: called as a connect handler.
    unsafe {
        assert_eq!((*context, *irp), (0, ptr::null_mut()), "C-441");
        let address = std::slice::from_raw_parts(address, address_length as usize).to_vec();
        let refuse = || Answer::status(NtStatus::CONNECTION_REFUSED);
        let answer = (*client).saw(Seen::Offered { address }, refuse);
        *irp = answer.irp;
        answer.status
    }
}
