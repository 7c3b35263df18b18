//! Cancel-safe queues (K-075 to K-078): the queue is the driver's, the cancel routine is the system's.
//!
//! A queued request's `DriverContext[3]` leads to its queue, or to the `IO_CSQ_IRP_CONTEXT` that leads there; the
//! type field at both places tells them apart.

use std::mem::{offset_of, size_of};
use std::ptr;

use nt_abi::{DeviceObject, Irp, Irql, NtStatus};

use crate::{cancel, irp};

/// `IO_TYPE_CSQ_IRP_CONTEXT`.
const TYPE_CONTEXT: u32 = 1;
/// `IO_TYPE_CSQ`.
const TYPE_QUEUE: u32 = 2;
/// `IO_TYPE_CSQ_EX`: inserting returns a status.
const TYPE_QUEUE_EX: u32 = 3;
/// The word of `DriverContext` that belongs to the queue (K-076).
const CONTEXT_WORD: usize = 3;

gate::exports! {
    /// What ntoskrnl exports of cancel-safe queues.
    pub(crate) static TABLE in "ntoskrnl.exe";
    "IoCsqInitialize" = io_csq_initialize(csq: *mut Csq, insert: u64, remove: u64, peek_next: u64, acquire: u64, release: u64, complete_canceled: u64) -> NtStatus, irql <= DISPATCH, rules "K-075";
    "IoCsqInitializeEx" = io_csq_initialize_ex(csq: *mut Csq, insert: u64, remove: u64, peek_next: u64, acquire: u64, release: u64, complete_canceled: u64) -> NtStatus, irql <= DISPATCH, rules "K-075";
    "IoCsqInsertIrp" = io_csq_insert_irp(csq: *mut Csq, irp: *mut Irp, context: *mut CsqIrpContext), irql <= DISPATCH, rules "K-076 K-077";
    "IoCsqInsertIrpEx" = io_csq_insert_irp_ex(csq: *mut Csq, irp: *mut Irp, context: *mut CsqIrpContext, insert_context: u64) -> NtStatus, irql <= DISPATCH, rules "K-076 K-077";
    "IoCsqRemoveIrp" = io_csq_remove_irp(csq: *mut Csq, context: *mut CsqIrpContext) -> *mut Irp, irql <= DISPATCH, rules "K-077";
    "IoCsqRemoveNextIrp" = io_csq_remove_next_irp(csq: *mut Csq, peek_context: u64) -> *mut Irp, irql <= DISPATCH, rules "K-077";
}

/// `IO_CSQ`.
#[doc(alias = "IO_CSQ")]
#[repr(C)]
pub struct Csq {
    kind: u32,
    _pad: u32,
    insert: u64,
    remove: u64,
    peek_next: u64,
    acquire: u64,
    release: u64,
    complete_canceled: u64,
    reserve: u64,
}

/// `IO_CSQ_IRP_CONTEXT`.
#[doc(alias = "IO_CSQ_IRP_CONTEXT")]
#[repr(C)]
pub struct CsqIrpContext {
    kind: u32,
    _pad: u32,
    irp: *mut Irp,
    csq: *mut Csq,
}

const _: () = assert!(size_of::<Csq>() == 0x40 && offset_of!(Csq, complete_canceled) == 0x30);
const _: () = assert!(size_of::<CsqIrpContext>() == 0x18 && offset_of!(CsqIrpContext, irp) == 8);

unsafe fn initialize(csq: *mut Csq, kind: u32, routines: [u64; 6]) -> NtStatus {
    let [insert, remove, peek_next, acquire, release, complete_canceled] = routines;
    // SAFETY: what drivers pass is theirs to answer for; a bad pointer faults and is blamed on them. The same
    // holds for every function of this module.
    unsafe {
        ptr::write(
            csq,
            Csq { kind, _pad: 0, insert, remove, peek_next, acquire, release, complete_canceled, reserve: 0 },
        );
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn io_csq_initialize(
    csq: *mut Csq,
    insert: u64,
    remove: u64,
    peek_next: u64,
    acquire: u64,
    release: u64,
    complete_canceled: u64,
) -> NtStatus {
    // SAFETY: see `initialize`.
    unsafe { initialize(csq, TYPE_QUEUE, [insert, remove, peek_next, acquire, release, complete_canceled]) }
}

unsafe extern "win64" fn io_csq_initialize_ex(
    csq: *mut Csq,
    insert: u64,
    remove: u64,
    peek_next: u64,
    acquire: u64,
    release: u64,
    complete_canceled: u64,
) -> NtStatus {
    // SAFETY: see `initialize`.
    unsafe { initialize(csq, TYPE_QUEUE_EX, [insert, remove, peek_next, acquire, release, complete_canceled]) }
}

/// The driver's lock, taken with its own routines.
struct Locked {
    csq: *mut Csq,
    level: Irql,
}

impl Locked {
    /// `None` if an exception passed the driver's routine: then nothing is locked.
    unsafe fn acquire(csq: *mut Csq) -> Option<Self> {
        let mut level = Irql::PASSIVE;
        // SAFETY: see `initialize`; the routine stores a level through its second argument.
        unsafe { gate::call::call2_changing_irql((*csq).acquire, csq as u64, &raw mut level as u64) };
        (!gate::seh::is_leaving()).then_some(Self { csq, level })
    }

    /// Calls one of the queue's routines. `None` if an exception passed it: nothing is left to do then but to release.
    unsafe fn call<const N: usize>(&self, routine: u64, arguments: [u64; N]) -> Option<u64> {
        // SAFETY: see `initialize`.
        let answer = unsafe { gate::call::driver(routine, arguments) };
        (!gate::seh::is_leaving()).then_some(answer)
    }

    unsafe fn remove(&self, irp: *mut Irp) {
        // SAFETY: see `initialize`.
        unsafe {
            self.call((*self.csq).remove, [self.csq as u64, irp as u64]);
            forget(irp);
        }
    }

    unsafe fn release(self) {
        // SAFETY: see `initialize`.
        unsafe { gate::call::call2_changing_irql((*self.csq).release, self.csq as u64, self.level.0.into()) };
    }
}

/// Gives a request that was cancelled and has left the queue to the driver, unless an exception passed one of the
/// queue's routines on the way here.
unsafe fn complete_canceled(csq: *mut Csq, irp: *mut Irp) {
    if !gate::seh::is_leaving() {
        // SAFETY: see `initialize`.
        unsafe { gate::call::call2((*csq).complete_canceled, csq as u64, irp as u64) };
    }
}

/// The word that leads from a request to its queue.
unsafe fn context_word(irp: *mut Irp) -> *mut u64 {
    // SAFETY: see `initialize`.
    unsafe { &raw mut (*irp).driver_context[CONTEXT_WORD] }
}

/// The request leaves the queue: neither it nor its context leads to the other any more.
unsafe fn forget(irp: *mut Irp) {
    // SAFETY: see `initialize`.
    unsafe {
        let context = *context_word(irp) as *mut CsqIrpContext;
        if !context.is_null() && (*context).kind == TYPE_CONTEXT {
            (*context).irp = ptr::null_mut();
        }
        *context_word(irp) = 0;
    }
}

unsafe extern "win64" fn io_csq_insert_irp(csq: *mut Csq, irp: *mut Irp, context: *mut CsqIrpContext) {
    // SAFETY: see `initialize`.
    unsafe { io_csq_insert_irp_ex(csq, irp, context, 0) };
}

unsafe extern "win64" fn io_csq_insert_irp_ex(
    csq: *mut Csq,
    irp: *mut Irp,
    context: *mut CsqIrpContext,
    insert_context: u64,
) -> NtStatus {
    // SAFETY: see `initialize`.
    unsafe {
        if context.is_null() {
            *context_word(irp) = csq as u64;
        } else {
            ptr::write(context, CsqIrpContext { kind: TYPE_CONTEXT, _pad: 0, irp, csq });
            *context_word(irp) = context as u64;
        }
        let Some(locked) = Locked::acquire(csq) else {
            forget(irp);
            return NtStatus::UNHANDLED_EXCEPTION;
        };
        let answer = match (*csq).kind {
            TYPE_QUEUE_EX => locked.call((*csq).insert, [csq as u64, irp as u64, insert_context]),
            _ => locked.call((*csq).insert, [csq as u64, irp as u64]).and(Some(0)),
        };
        let status = answer.map_or(NtStatus::UNHANDLED_EXCEPTION, |answer| NtStatus(answer as u32));
        if !status.is_success() {
            forget(irp);
            locked.release();
            return status;
        }
        irp::mark_pending(irp);
        cancel::set_routine(irp, cancel_queued as *const () as u64);
        // A cancel that came before the routine was set has to be noticed here; one that comes later finds it.
        if cancel::is_cancelled(irp) && cancel::set_routine(irp, 0) != 0 {
            locked.remove(irp);
            locked.release();
            complete_canceled(csq, irp);
        } else {
            locked.release();
        }
        status
    }
}

/// The cancel routine of every queued request.
unsafe extern "win64" fn cancel_queued(_device: *mut DeviceObject, irp: *mut Irp) {
    // SAFETY: called as a cancel routine, with the cancel lock held and a request that is in a queue.
    unsafe {
        cancel::release_lock(Irql((*irp).cancel_irql));
        let leads_to = *context_word(irp);
        let context = leads_to as *mut CsqIrpContext;
        let csq = if (*context).kind == TYPE_CONTEXT { (*context).csq } else { leads_to as *mut Csq };
        let Some(locked) = Locked::acquire(csq) else { return };
        locked.remove(irp);
        locked.release();
        complete_canceled(csq, irp);
    }
}

unsafe extern "win64" fn io_csq_remove_irp(csq: *mut Csq, context: *mut CsqIrpContext) -> *mut Irp {
    // SAFETY: see `initialize`.
    unsafe {
        let Some(locked) = Locked::acquire(csq) else { return ptr::null_mut() };
        let irp = (*context).irp;
        // Without its cancel routine the request is on its way out already.
        let ours = !irp.is_null() && cancel::set_routine(irp, 0) != 0;
        if ours {
            locked.remove(irp);
        }
        locked.release();
        if ours { irp } else { ptr::null_mut() }
    }
}

unsafe extern "win64" fn io_csq_remove_next_irp(csq: *mut Csq, peek_context: u64) -> *mut Irp {
    // SAFETY: see `initialize`.
    unsafe {
        let Some(locked) = Locked::acquire(csq) else { return ptr::null_mut() };
        let mut irp = ptr::null_mut::<Irp>();
        loop {
            let next = locked.call((*csq).peek_next, [csq as u64, irp as u64, peek_context]);
            irp = next.unwrap_or_default() as *mut Irp;
            if irp.is_null() {
                break;
            }
            if cancel::set_routine(irp, 0) != 0 {
                locked.remove(irp);
                break;
            }
        }
        locked.release();
        irp
    }
}
