//! Received data as MDL chains that a client may keep (10.6).
//!
//! What is shown lies in the table of chains from before the handler runs until the client has given it back, since
//! it may do so from inside the handler, or when connection and address are long gone (C-501). The descriptor is the
//! name in that table, so a wrong one harms nobody.

use std::cell::UnsafeCell;
use std::ptr;

use gate::call;
use nt_abi::mdl::mdl_flags;
use nt_abi::tdi::{TdiEvent, receive_flags};
use nt_abi::{Irql, Mdl, NtStatus};
use nt_dispatcher::irql::Raised;
use tdi_core::{Handler, IndicationResult};
use trace::Event;

use crate::table::Name;
use crate::transport::{self, Transport};

/// Pages have this many bytes.
const PAGE: u64 = 0x1000;

/// Something that was shown to a chained handler.
pub(crate) struct Chain {
    /// The endpoint's file object, for reports. Never followed.
    pub(crate) file: u64,
    /// The routine it was shown to.
    pub(crate) handler: u64,
    bytes: Vec<u8>,
    /// An MDL with its page array, where the client sees it. Clients write into MDLs.
    mdl: Box<[UnsafeCell<u64>]>,
    /// The handler has not returned yet.
    is_shown: bool,
    /// It has given the chain back all the same.
    is_returned: bool,
}

// SAFETY: the cells are the client's to touch; this process only frees them.
unsafe impl Send for Chain {}

impl Chain {
    fn new(file: u64, handler: u64, bytes: Vec<u8>) -> Self {
        let at = bytes.as_ptr() as u64;
        let pages = (at % PAGE + bytes.len() as u64).div_ceil(PAGE) as usize;
        let words = size_of::<Mdl>() / 8 + pages;
        let mdl: Box<[UnsafeCell<u64>]> = (0..words).map(|_| UnsafeCell::new(0)).collect();
        let header = Mdl {
            next: ptr::null_mut(),
            size: (words * 8) as i16,
            flags: mdl_flags::SOURCE_IS_NONPAGED_POOL,
            _pad: 0,
            process: 0,
            mapped_system_va: at,
            start_va: at & !(PAGE - 1),
            byte_count: bytes.len() as u32,
            byte_offset: (at % PAGE) as u32,
        };
        // SAFETY: the words are as many and as aligned as an MDL needs.
        unsafe { mdl.as_ptr().cast_mut().cast::<Mdl>().write(header) };
        Self { file, handler, bytes, mdl, is_shown: true, is_returned: false }
    }

    fn mdl(&self) -> u64 {
        self.mdl.as_ptr() as u64
    }
}

impl Transport {
    /// Calls ClientEventChainedReceive. The table's slot and the MDL are memory per call: the client may keep them.
    pub(crate) fn indicate_chain(
        &self,
        (file, context): (u64, u64),
        handler: Handler,
        flags: u32,
        data: Vec<u8>,
        start: usize,
    ) -> IndicationResult {
        let shown = (data.len() - start) as u64;
        let taken = shown as u32;
        let mut chain = Some(Chain::new(file, handler.routine, data));
        let mdl = chain.as_ref().map_or(0, Chain::mdl);
        let Some(name) = self.chains.insert(|_| chain.take().expect("called once")) else {
            // As many are kept as there can be: the data waits for a receive.
            return refused(chain.map(|chain| chain.bytes).unwrap_or_default());
        };
        let event = TdiEvent::CHAINED_RECEIVE.0;
        gate::record(Event::Indicated { endpoint: file, event, context, bytes: shown });
        let raised = Raised::to(Irql::DISPATCH);
        // SAFETY: a routine that a driver registered for this event (10.6).
        let status = unsafe {
            let flags = flags | receive_flags::AT_DISPATCH_LEVEL;
            let arguments = [handler.context, context, flags.into(), shown, start as u64, mdl, name.pack()];
            NtStatus(call::call_n(handler.routine, &arguments) as u32)
        };
        drop(raised);
        let is_taken = matches!(status, NtStatus::SUCCESS | NtStatus::PENDING);
        let used = if is_taken { taken } else { 0 };
        gate::record(Event::IndicationReturned { endpoint: file, status: status.0, taken: used.into() });
        match self.chain_was_shown(name, status) {
            None => IndicationResult::Kept,
            Some(data) if is_taken => {
                IndicationResult::Receive { status: NtStatus::SUCCESS, taken, receive: None, data }
            }
            Some(data) => refused(data),
        }
    }

    /// The handler has returned. The bytes, unless the client keeps them.
    fn chain_was_shown(&self, name: Name, status: NtStatus) -> Option<Vec<u8>> {
        let mut chain = self.chains.lock(name)?;
        chain.is_shown = false;
        if status == NtStatus::PENDING && !chain.is_returned {
            return None;
        }
        self.chains.remove(chain).map(|chain| chain.bytes)
    }
}

fn refused(data: Vec<u8>) -> IndicationResult {
    IndicationResult::Receive { status: NtStatus::DATA_NOT_ACCEPTED, taken: 0, receive: None, data }
}

/// A client gives a descriptor back. Whether it stands for something that the client has.
pub(crate) fn take_back(descriptor: u64) -> bool {
    let Some(transport) = transport::current() else { return false };
    let Some(mut chain) = transport.chains.lock(Name::unpack(descriptor)) else { return false };
    if chain.is_shown {
        return !std::mem::replace(&mut chain.is_returned, true);
    }
    drop(transport.chains.remove(chain));
    true
}
