//! Requests that `tdi_core` has: who holds which IRP.
//!
//! An IRP's name lies in its DriverContext, where its driver can overwrite it; the truth is this table. Whoever
//! takes a request out of it completes the IRP, so there is exactly one who does (C-210, C-226).
//!
//! Cancelling: the cancel routine is entered with the cancel spin lock held, reads the IRP's name under it and
//! never touches the IRP afterwards; it only tells the core, whose completion then comes as any other. Whoever
//! completes an IRP first takes the cancel routine back and, if it is gone, waits for that lock once
//! ([`settle`]): then the routine has read what it needs (C-158, C-225).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use nt_abi::exception::BugCheck;
use nt_abi::{DeviceObject, Irp, Irql};
use nt_io::cancel;
use tdi_core::{AddressId, EndpointId, RequestId};

use crate::slab::Slab;
use crate::table::Name;
use crate::transport;

/// The word of `Irp::driver_context` that holds the name.
const NAME_WORD: usize = 0;

/// Whose request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A connection endpoint's.
    Endpoint(EndpointId),
    /// A transport address's.
    Address(AddressId),
}

/// Bit of the packed index that tells addresses from endpoints.
const ADDRESS_BIT: u32 = 1 << 31;

impl Owner {
    fn pack(self) -> u64 {
        match self {
            Self::Endpoint(id) => Name::from(id).pack(),
            Self::Address(id) => Name { index: id.index | ADDRESS_BIT, generation: id.generation }.pack(),
        }
    }

    fn unpack(word: u64) -> Self {
        let Name { index, generation } = Name::unpack(word);
        if index & ADDRESS_BIT == 0 {
            Self::Endpoint(EndpointId { index, generation })
        } else {
            Self::Address(AddressId { index: index & !ADDRESS_BIT, generation })
        }
    }
}

#[derive(Debug, Default)]
struct Slot {
    /// Odd while a request is here; the request's generation then.
    generation: AtomicU32,
    irp: AtomicU64,
    owner: AtomicU64,
}

/// The table of pending requests.
#[derive(Debug)]
pub(crate) struct Requests {
    slots: Slab<Slot>,
}

impl Requests {
    pub(crate) const fn new() -> Self {
        Self { slots: Slab::new() }
    }

    /// Enters an IRP and writes its name into it. `None` when a million are pending. One that is here already, which its
    /// driver has sent again, ends the run: it could only be completed twice.
    ///
    /// # Safety
    /// `irp` is a packet the transport holds.
    pub(crate) unsafe fn insert(&self, irp: *mut Irp, owner: Owner) -> Option<RequestId> {
        // SAFETY: the caller's promise.
        if unsafe { self.holds(irp) } {
            sent_again(irp);
        }
        let index = self.slots.take()?;
        let slot = self.slots.get(index)?;
        let generation = slot.generation.load(Ordering::Relaxed) | 1;
        let id = RequestId { index, generation };
        slot.irp.store(irp as u64, Ordering::Relaxed);
        slot.owner.store(owner.pack(), Ordering::Relaxed);
        slot.generation.store(generation, Ordering::Release);
        // SAFETY: the caller's promise.
        unsafe { (*irp).driver_context[NAME_WORD] = pack(id) };
        Some(id)
    }

    /// The IRP of a request that is still here. It stays valid as long as the caller keeps others from taking it,
    /// that is under its owner's lock.
    pub(crate) fn irp(&self, id: RequestId) -> Option<*mut Irp> {
        let slot = self.slots.get(id.index)?;
        (slot.generation.load(Ordering::Acquire) == id.generation).then(|| slot.irp.load(Ordering::Relaxed) as *mut Irp)
    }

    /// Takes a request out: the caller completes its IRP. `None` if somebody was quicker.
    pub(crate) fn take(&self, id: RequestId) -> Option<*mut Irp> {
        let slot = self.slots.get(id.index)?;
        let irp = slot.irp.load(Ordering::Relaxed);
        let next = id.generation.wrapping_add(1);
        slot.generation.compare_exchange(id.generation, next, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        self.slots.give_back(id.index);
        Some(irp as *mut Irp)
    }

    /// The request that an IRP says it is, if that is true.
    ///
    /// # Safety
    /// `irp` is readable.
    unsafe fn find(&self, irp: *mut Irp) -> Option<(RequestId, Owner)> {
        // SAFETY: the caller's promise.
        let id = unpack(unsafe { (*irp).driver_context[NAME_WORD] });
        if self.irp(id)? != irp {
            return None;
        }
        let owner = self.slots.get(id.index)?.owner.load(Ordering::Relaxed);
        Some((id, Owner::unpack(owner)))
    }

    /// Whether the transport has this IRP already.
    ///
    /// # Safety
    /// `irp` is readable.
    pub(crate) unsafe fn holds(&self, irp: *mut Irp) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.find(irp) }.is_some()
    }

    /// Visits all requests with their IRPs.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(*mut Irp, Owner)) {
        self.slots.for_each(|_, slot| {
            if slot.generation.load(Ordering::Acquire) & 1 == 1 {
                let owner = Owner::unpack(slot.owner.load(Ordering::Relaxed));
                visit(slot.irp.load(Ordering::Relaxed) as *mut Irp, owner);
            }
        });
    }
}

#[cold]
fn sent_again(irp: *mut Irp) -> ! {
    let message = format_args!(
        "IoCallDriver was given the IRP {irp:p}, whose last request is still pending: it would be completed twice. Wait for \
         its completion before it is used again."
    );
    let code = BugCheck::MULTIPLE_IRP_COMPLETE_REQUESTS;
    gate::bugcheck::with_message(code, [irp as u64, 0, 0, 0], gate::caller(), message)
}

fn pack(id: RequestId) -> u64 {
    Name { index: id.index, generation: id.generation }.pack()
}

fn unpack(word: u64) -> RequestId {
    let Name { index, generation } = Name::unpack(word);
    RequestId { index, generation }
}

/// Makes a request cancellable. `false` if it was cancelled before and the caller has to tell the core (C-575).
///
/// # Safety
/// `irp` is a packet of the table that nobody can complete meanwhile: its owner is locked.
pub(crate) unsafe fn make_cancellable(irp: *mut Irp) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        cancel::set_routine(irp, cancel_routine as *const () as u64);
        !cancel::is_cancelled(irp) || cancel::set_routine(irp, 0) == 0
    }
}

/// Makes sure that no cancel routine will touch the IRP any more.
///
/// # Safety
/// `irp` was taken out of the table and is not completed yet. No lock is held.
pub(crate) unsafe fn settle(irp: *mut Irp) {
    // SAFETY: the caller's promise.
    if unsafe { cancel::set_routine(irp, 0) } == 0 {
        let level = cancel::acquire_lock();
        cancel::release_lock(level);
    }
}

unsafe extern "win64" fn cancel_routine(_device: *mut DeviceObject, irp: *mut Irp) {
    let transport = transport::current();
    // SAFETY: called as a cancel routine, with the cancel spin lock held: `settle` keeps the packet alive until it
    // is released.
    let (found, level) =
        unsafe { (transport.and_then(|transport| transport.requests.find(irp)), Irql((*irp).cancel_irql)) };
    cancel::release_lock(level);
    if let (Some(transport), Some((id, owner))) = (transport, found) {
        transport.cancel(owner, id);
    }
}
