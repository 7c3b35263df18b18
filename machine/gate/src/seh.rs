//! Structured exceptions: `__try`, `__except` and `__finally` of drivers, and everything that raises.
//!
//! An exception is looked after in two phases, as on Windows. [`search`] asks the handlers of the driver frames
//! up the stack, innermost first, until one wants it; nothing has been unwound yet, so a filter may also repair
//! the damage and let execution go on. [`unwind`] then calls the termination handlers of the frames below the one
//! that wanted it, and execution goes on there.
//!
//! **How a host function raises.** It says so ([`raise`]) and returns like any other time, with all destructors:
//! its return address was exchanged for [`switch::resume`], which goes on in the driver's place. Import stubs
//! note where that address lies, so raising needs no thunk, no saved registers and costs imports nothing.
//!
//! **How an exception crosses the host.** The search reads the registers of the driver code below host frames
//! from the host's own unwind tables ([`crate::host_frames`]). Unwinding then lets the host return: the call into
//! the driver returns [`NtStatus::UNHANDLED_EXCEPTION`], the host does what it does when that routine fails, and
//! when the import it serves returns, unwinding goes on below. So destructors run, and a host function that
//! called a driver is never cut off. A function that calls several routines in turn asks [`is_leaving`] whether
//! to go on.
//!
//! Where no import is being served, nobody can have a handler below, and the search has told before anything
//! was unwound: the run ends as it does on Windows, by a bugcheck.
//!
//! **A fault of host code** that serves an import (an unguarded access on the driver's behalf) is raised in the driver as if
//! the driver had touched the memory itself, and the interrupted function is left for good: its destructors do not run. What it
//! has of the host's memory is lost, which a driver can do no harm with. Where it would be harm, because a lock is held
//! (`host_lock`), another driver's or the transport's frames would be cut off, or a library was called, the fault ends the run.
//!
//! Rules: K-014. Not modelled: C++ exceptions (STATUS_UNWIND_CONSOLIDATE), which drivers cannot use on Windows
//! without bringing a run-time of their own.

mod exports;
mod scope;
mod search;
mod switch;
mod unwind;

use nt_abi::NtStatus;
use nt_abi::exception::{Context, EXCEPTION_PARAMETERS_MAX, ExceptionRecord, exception_flag};

use crate::fault::Place;
use crate::memory::{self, Fault};
use crate::stub::Import;
use crate::text::Text;
use crate::thread::{self, HostThread};
use crate::unwind::RSP;
use crate::{bugcheck, image};

pub use exports::TABLE;
pub(crate) use search::{Asking, access_bugcheck, fault, is_fatal_access};
pub(crate) use switch::{SEGMENTS, capture};
use unwind::Target;

/// Raises an exception in the driver that called the import being served, when the import's function returns;
/// what it returns does not matter. It cannot be continued.
///
/// The first exception counts; a second one is ignored. Outside of imports the run ends here.
pub fn raise(status: NtStatus) {
    raise_with(status, &[]);
}

/// [`raise`] with parameters, of which at most 15 are kept.
pub fn raise_with(status: NtStatus, parameters: &[u64]) {
    let mut record = new_record(status, thread::caller(), parameters);
    record.flags = exception_flag::NONCONTINUABLE;
    raise_record(record);
}

/// Raises what the driver would have raised, had it touched the memory itself: an access violation, or the
/// bugcheck that such an access is at its IRQL or for its address (K-151).
pub fn raise_fault(fault: Fault) {
    let operation = u64::from(fault.is_write);
    if search::is_fatal_access(fault.address) {
        search::end_at_access(fault.address, operation);
    }
    raise_with(NtStatus::ACCESS_VIOLATION, &[operation, fault.address]);
}

/// Raises `record` at the caller of the import being served.
pub(crate) fn raise_record(record: ExceptionRecord) {
    // SAFETY: the calling thread's block.
    let (host, entry) = unsafe { (thread::current(), (*thread::current()).entry) };
    if entry == 0 {
        search::unhandled_in_host(&record);
    }
    // SAFETY: the import entered at `entry` is being served, so its return address is there.
    unsafe { Pending::put(host, entry, Action::Raise(record), Precedence::First) };
}

/// Whether the import being served will not return to its caller, because an exception passes it or it raised
/// one. What it still has to do is to let go of what it holds.
pub fn is_leaving() -> bool {
    // SAFETY: the calling thread's block.
    let host = unsafe { &*thread::current().cast_const() };
    host.entry != 0 && Pending::find(host, host.entry).is_some()
}

/// Whether an import that returns to `address` goes on with something pending.
pub(crate) fn is_resumption(address: u64) -> bool {
    address == switch::resume as *const () as u64
}

fn new_record(code: NtStatus, address: u64, parameters: &[u64]) -> ExceptionRecord {
    let count = parameters.len().min(EXCEPTION_PARAMETERS_MAX);
    let mut information = [0; EXCEPTION_PARAMETERS_MAX];
    information[..count].copy_from_slice(&parameters[..count]);
    ExceptionRecord { code, flags: 0, record: 0, address, parameters: count as u32, _pad: 0, information }
}

/// Something that goes on in the driver when an import returns.
pub(crate) struct Pending {
    next: *mut Pending,
    /// Where the import's return address was.
    entry: u64,
    /// What it was.
    original: u64,
    /// The import that raised.
    import: Option<&'static Import>,
    action: Action,
}

enum Action {
    Raise(ExceptionRecord),
    Unwind(Target),
    /// Go on with other registers.
    Restore(Box<Context>),
}

/// What becomes of an action when the import has one already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Precedence {
    /// The old one stays.
    First,
    /// An unwinding that passes takes over.
    Last,
}

impl Pending {
    /// Exchanges the return address at `entry`.
    ///
    /// # Safety
    /// `host` is the calling thread's, and a served import's return address lies at `entry`.
    unsafe fn put(host: *mut HostThread, entry: u64, action: Action, precedence: Precedence) {
        // SAFETY: the calling thread's block.
        let list = unsafe { &raw mut (*host).pending };
        // SAFETY: as above; entries of the list are boxes of this thread alone.
        if let Some(old) = unsafe { Self::find_in(*list, entry) } {
            if precedence == Precedence::Last {
                // SAFETY: as above.
                unsafe { (*old).action = action };
            }
            return;
        }
        let slot = entry as *mut u64;
        // SAFETY: the caller's promise: a word of this thread's stack that only the import's `ret` reads.
        let original = unsafe { slot.replace(switch::resume as *const () as u64) };
        let import = bugcheck::serving();
        // SAFETY: as above.
        unsafe { *list = Box::into_raw(Box::new(Self { next: *list, entry, original, import, action })) };
    }

    /// Takes the action of the import that was entered at `entry`.
    ///
    /// # Safety
    /// `host` is the calling thread's.
    unsafe fn take(host: *mut HostThread, entry: u64) -> Option<Box<Self>> {
        // SAFETY: the calling thread's block, whose list nobody else has.
        let mut link = unsafe { &raw mut (*host).pending };
        loop {
            // SAFETY: the list's links are this thread's boxes, or the head in its block.
            let pending = unsafe { *link };
            if pending.is_null() {
                return None;
            }
            // SAFETY: as above.
            unsafe {
                if (*pending).entry == entry {
                    *link = (*pending).next;
                    return Some(Box::from_raw(pending));
                }
                link = &raw mut (*pending).next;
            }
        }
    }

    fn find(host: &HostThread, entry: u64) -> Option<&Self> {
        // SAFETY: the list's entries live until this thread takes them.
        unsafe { Self::find_in(host.pending, entry).map(|pending| &*pending) }
    }

    /// # Safety
    /// The list is the calling thread's.
    unsafe fn find_in(mut pending: *mut Self, entry: u64) -> Option<*mut Self> {
        while !pending.is_null() {
            // SAFETY: the caller's promise.
            unsafe {
                if (*pending).entry == entry {
                    return Some(pending);
                }
                pending = (*pending).next;
            }
        }
        None
    }
}

/// What the return address at `entry` was, if it was exchanged.
///
/// # Safety
/// `host` is the calling thread's.
pub(crate) unsafe fn original_return(host: *mut HostThread, entry: u64) -> Option<u64> {
    // SAFETY: the caller's promise.
    Pending::find(unsafe { &*host.cast_const() }, entry).map(|pending| pending.original)
}

/// Forgets what was to go on in frames below `stack`, which are abandoned.
///
/// # Safety
/// `host` is the calling thread's, and nothing runs in those frames any more.
pub(crate) unsafe fn forget_below(host: *mut HostThread, stack: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut link = &raw mut (*host).pending;
        while !(*link).is_null() {
            let pending = *link;
            if (*pending).entry < stack {
                *link = (*pending).next;
                drop(Box::from_raw(pending));
            } else {
                link = &raw mut (*pending).next;
            }
        }
    }
}

/// Where imports with an exchanged return address return to: `context` holds what they preserved.
extern "C" fn resumed(preserved: &switch::Preserved) -> ! {
    let host = thread::current();
    let mut context = preserved.context();
    let entry = context.integer[RSP] - 8;
    // SAFETY: the calling thread's block.
    let Some(pending) = (unsafe { Pending::take(host, entry) }) else {
        panic!("an import returned to an unwinding that is not there")
    };
    let Pending { original, import, action, .. } = *pending;
    context.rip = original;
    // The walk compares the address with what a call left on the stack.
    // SAFETY: the word below the caller's stack pointer, where the return address was; nobody else uses it.
    unsafe { (entry as *mut u64).write(original) };
    match action {
        Action::Raise(mut record) => search::raised(&mut record, &mut context, import),
        Action::Unwind(target) => unwind::run(&target, &context),
        Action::Restore(registers) => unwind::restore(*registers),
    }
}

/// Drivers' code is not served by any import while exceptions are looked after.
fn leave_imports(host: *mut HostThread) {
    // SAFETY: the calling thread's block.
    unsafe { ((*host).caller, (*host).import, (*host).entry) = (0, 0, 0) };
}

/// Reads a record that a driver named.
fn read_record(address: u64) -> Result<ExceptionRecord, Fault> {
    let mut record: ExceptionRecord = memory::read_value(address)?;
    record.parameters = record.parameters.min(EXCEPTION_PARAMETERS_MAX as u32);
    Ok(record)
}

/// Why execution cannot go on there, if it cannot: it must be driver code, with a stack pointer on this thread's
/// stack.
fn misplaced(context: &Context) -> Option<Text<256>> {
    let host = thread::current();
    let stack = context.integer[RSP];
    // SAFETY: the calling thread's block. Loading the registers takes two words below the stack pointer.
    let is_on_stack = unsafe { ((*host).stack_low + 16..=(*host).stack_high).contains(&stack) };
    let is_code = image::find(context.rip).is_some_and(|image| image.is_code(context.rip));
    if is_on_stack && is_code {
        return None;
    }
    let mut text = Text::new();
    text.push(format_args!(
        "The driver let execution go on at {} with stack pointer {stack:#x}, which cannot be.",
        Place(context.rip)
    ));
    Some(text)
}

/// Takes out of registers that a driver may have changed what user code may not, or had better not, have.
fn tame(context: &mut Context) {
    /// Status flags and direction.
    const FLAGS: u32 = 0xCD5;
    /// Interrupts enabled, and the bit that is always one.
    const ALWAYS: u32 = 0x202;
    context.eflags = context.eflags & FLAGS | ALWAYS;
    context.mx_csr &= 0xFFFF;
}
