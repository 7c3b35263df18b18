//! Calls from the host into driver code, and the way out of a thread from deep inside.
//!
//! Every call is chained ([`CallRecord`]), keeps what the host noted about the import it is serving,
//! and checks that the driver came back at the IRQL it was called at (K-056; of a routine that an exception passes, the level
//! is put back without a word). A driver routine is an address
//! that a driver supplied: if it leads nowhere, the fault handler tells so with the routine's address.
//!
//! No host lock may be held across these calls; host functions that make them must not keep values with
//! destructors that matter on their stack, because [`leave`] abandons frames.

use std::arch::naked_asm;
use std::mem::offset_of;

use nt_abi::Irql;

use crate::finding;
use crate::seh::{self, Asking};
use crate::thread::{self, HostThread};
use crate::walk::Progress;

/// An open call from the host into a driver.
#[derive(Debug)]
#[repr(C)]
pub struct CallRecord {
    /// The call around it, or null.
    pub(crate) previous: *mut CallRecord,
    /// What was called.
    pub(crate) routine: u64,
    /// What [`thread::caller`] was before.
    pub(crate) caller: u64,
    /// What the noted import was before.
    pub(crate) import: u64,
    /// Where the stack pointer was when that import was entered, 0 outside of imports.
    pub(crate) entry: u64,
    /// On whose behalf.
    pub(crate) purpose: Purpose,
}

/// On whose behalf the host calls a driver routine: where the stack goes on below the call, for exceptions.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// The driver's whose import is being served, if one is.
    Service,
    /// A handler is asked whether it wants an exception.
    Search(*const Asking),
    /// A termination handler cleans up a frame.
    Unwind(*const Progress),
}

/// Most arguments of [`call_n`].
pub const ARGUMENTS_MAX: usize = 11;

/// Calls a driver routine with up to four arguments and returns what it left in rax; routines that return
/// less than 64 bits leave garbage in the rest.
///
/// # Safety
/// `routine` must take these arguments in win64 fashion; what it then does is the driver's responsibility.
#[inline(always)]
pub unsafe fn driver<const N: usize>(routine: u64, arguments: [u64; N]) -> u64 {
    const { assert!(N <= 4, "use call_n") };
    let mut four = [0; 4];
    four[..N].copy_from_slice(&arguments);
    // SAFETY: the caller's promise. Registers beyond the routine's parameters are volatile in win64.
    unsafe {
        around(routine, || {
            let routine: unsafe extern "win64" fn(u64, u64, u64, u64) -> u64 = std::mem::transmute(routine);
            routine(four[0], four[1], four[2], four[3])
        })
    }
}

/// [`driver`] with one argument.
///
/// # Safety
/// As [`driver`].
#[inline(always)]
pub unsafe fn call1(routine: u64, a: u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { driver(routine, [a]) }
}

/// [`call1`] that also tells at which level the routine returned, for callers with a report of their own about
/// that. The level before is restored.
///
/// # Safety
/// As [`driver`].
pub unsafe fn call1_telling_level(routine: u64, a: u64) -> (u64, Irql) {
    let before = thread::irql();
    let mut after = before;
    // SAFETY: the caller's promise.
    let result = unsafe {
        around(routine, || {
            let routine: unsafe extern "win64" fn(u64, u64, u64, u64) -> u64 = std::mem::transmute(routine);
            let result = routine(a, 0, 0, 0);
            after = thread::set_irql(before);
            result
        })
    };
    (result, after)
}

/// [`driver`] with two arguments.
///
/// # Safety
/// As [`driver`].
#[inline(always)]
pub unsafe fn call2(routine: u64, a: u64, b: u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { driver(routine, [a, b]) }
}

/// [`driver`] with three arguments.
///
/// # Safety
/// As [`driver`].
#[inline(always)]
pub unsafe fn call3(routine: u64, a: u64, b: u64, c: u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { driver(routine, [a, b, c]) }
}

/// [`driver`] with four arguments.
///
/// # Safety
/// As [`driver`].
#[inline(always)]
pub unsafe fn call4(routine: u64, a: u64, b: u64, c: u64, d: u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { driver(routine, [a, b, c, d]) }
}

/// Calls a driver routine with up to [`ARGUMENTS_MAX`] arguments, such as a receive-datagram event handler.
///
/// # Panics
/// With more arguments; their number is the host's choice.
///
/// # Safety
/// As [`driver`].
pub unsafe fn call_n(routine: u64, arguments: &[u64]) -> u64 {
    let mut all = [0; ARGUMENTS_MAX];
    all[..arguments.len()].copy_from_slice(arguments);
    let [a, b, c, d, e, f, g, h, i, j, k] = all;
    type Routine = unsafe extern "win64" fn(u64, u64, u64, u64, u64, u64, u64, u64, u64, u64, u64) -> u64;
    // SAFETY: the caller's promise. Stack words beyond the routine's parameters are ours and not read by it.
    unsafe {
        around(routine, || {
            let routine: Routine = std::mem::transmute(routine);
            routine(a, b, c, d, e, f, g, h, i, j, k)
        })
    }
}

/// [`call2`] for a cancel routine, which is called at DISPATCH_LEVEL and returns at `level` (K-082).
///
/// # Safety
/// As [`driver`].
pub unsafe fn call2_leaving_at(routine: u64, a: u64, b: u64, level: Irql) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        around_leaving_at(routine, Some(level), || {
            let routine: unsafe extern "win64" fn(u64, u64) -> u64 = std::mem::transmute(routine);
            routine(a, b)
        })
    }
}

/// [`call2`] for a routine that takes or gives back a lock and so may change the level.
///
/// # Safety
/// As [`driver`].
pub unsafe fn call2_changing_irql(routine: u64, a: u64, b: u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        around_leaving_at(routine, None, || {
            let routine: unsafe extern "win64" fn(u64, u64) -> u64 = std::mem::transmute(routine);
            routine(a, b)
        })
    }
}

/// Runs `work` as if this thread was serving no import: for what happens on a driver's stack but not on its
/// behalf, such as the network's events. An exception in there is not shown to the driver below (on
/// Windows it would have happened on another stack), and nothing in there is blamed on it.
pub fn apart<R>(work: impl FnOnce() -> R) -> R {
    on_behalf(0, work)
}

/// [`apart`] for what a driver asked for at `place`, such as a DPC: that is blamed where nothing nearer to a fault is known.
pub fn on_behalf<R>(place: u64, work: impl FnOnce() -> R) -> R {
    let thread = thread::current();
    // SAFETY: the installed block, as in `around_leaving_at`.
    let (caller, import, entry) = unsafe { ((*thread).caller, (*thread).import, (*thread).entry) };
    let note = |caller, import, entry| {
        let thread = thread::current();
        // SAFETY: as above.
        unsafe { ((*thread).caller, (*thread).import, (*thread).entry) = (caller, import, entry) };
    };
    note(place, 0, 0);
    let result = work();
    note(caller, import, entry);
    result
}

/// [`driver`] for a language handler.
///
/// # Safety
/// As [`driver`]; what `purpose` names outlives the call.
pub(crate) unsafe fn driver_for(purpose: Purpose, routine: u64, [a, b, c, d]: [u64; 4]) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        around_for(purpose, routine, Some(thread::irql()), || {
            let routine: unsafe extern "win64" fn(u64, u64, u64, u64) -> u64 = std::mem::transmute(routine);
            routine(a, b, c, d)
        })
    }
}

/// What surrounds every call.
///
/// # Safety
/// `call` calls `routine` and nothing else.
#[inline(always)]
unsafe fn around(routine: u64, call: impl FnOnce() -> u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { around_leaving_at(routine, Some(thread::irql()), call) }
}

/// [`around`] for a routine that returns at `expected` instead of the level it was called at.
///
/// # Safety
/// As [`around`].
#[inline(always)]
unsafe fn around_leaving_at(routine: u64, expected: Option<Irql>, call: impl FnOnce() -> u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { around_for(Purpose::Service, routine, expected, call) }
}

/// [`around_leaving_at`] on somebody's behalf.
///
/// # Safety
/// As [`around`].
#[inline(always)]
unsafe fn around_for(purpose: Purpose, routine: u64, expected: Option<Irql>, call: impl FnOnce() -> u64) -> u64 {
    let thread = thread::current();
    // SAFETY: the installed block; raw accesses only, because the call below comes back to the same block.
    let mut record = unsafe {
        CallRecord {
            previous: (*thread).innermost,
            routine,
            caller: noted(&raw const (*thread).caller),
            import: noted(&raw const (*thread).import),
            entry: noted(&raw const (*thread).entry),
            purpose,
        }
    };
    // SAFETY: as above. The record outlives the call; a `leave` below resets the chain to the escape point's.
    unsafe { (*thread).innermost = &mut record };
    let result = call();
    // A driver thread never moves to another block, but read it again: a fiber may go on on another host thread.
    let thread = thread::current();
    // SAFETY: as above.
    unsafe {
        (*thread).innermost = record.previous;
        (*thread).caller = record.caller;
        (*thread).import = record.import;
        (*thread).entry = record.entry;
    }
    if let Some(expected) = expected
        && thread::irql() != expected
    {
        irql_changed(routine, expected);
    }
    result
}

/// Reads one word of what a stub noted. Volatile, so that two of them are not loaded as one vector: the stub
/// wrote them one by one a moment ago, and such a load waits until both stores have left the processor's queue.
///
/// # Safety
/// `place` can be read.
#[inline(always)]
unsafe fn noted(place: *const u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { place.read_volatile() }
}

#[cold]
#[inline(never)]
fn irql_changed(routine: u64, before: Irql) {
    let after = thread::set_irql(before);
    if seh::is_leaving() {
        // The routine has not returned: an exception passed it, which may be before it could give back any lock.
        return;
    }
    finding(
        "K-056",
        format_args!(
            "A routine that had to return at {before:?} returned at {after:?}. A routine returns at the level it was called at (a cancel routine at Irp->CancelIrql); that level was restored."
        ),
        // Places of findings are read as return addresses: the function is looked up one byte before.
        routine.wrapping_add(1),
    );
}

/// Where [`leave`] goes.
#[derive(Debug)]
#[repr(C)]
pub struct EscapePoint {
    stack_pointer: u64,
    previous: *mut EscapePoint,
    innermost: *mut CallRecord,
    caller: u64,
    import: u64,
    entry: u64,
}

/// How [`enter`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// `f` returned.
    Returned,
    /// Something below called [`leave`].
    Abandoned,
}

/// Runs `f(argument)` on this stack, with this call as the place that [`leave`] goes back to.
pub fn enter(f: extern "C" fn(u64), argument: u64) -> Left {
    let thread = thread::current();
    // SAFETY: the installed block.
    let mut point = unsafe {
        EscapePoint {
            stack_pointer: 0,
            previous: (*thread).escape,
            innermost: (*thread).innermost,
            caller: (*thread).caller,
            import: (*thread).import,
            entry: (*thread).entry,
        }
    };
    // SAFETY: the point outlives `enter_raw`, and is taken back right after it.
    let abandoned = unsafe {
        (*thread).escape = &mut point;
        enter_raw(&mut point, f, argument)
    };
    let thread: *mut HostThread = thread::current();
    // SAFETY: the installed block.
    unsafe {
        if abandoned != 0 {
            seh::forget_below(thread, point.stack_pointer);
        }
        (*thread).escape = point.previous;
        (*thread).innermost = point.innermost;
        (*thread).caller = point.caller;
        (*thread).import = point.import;
        (*thread).entry = point.entry;
    }
    if abandoned == 0 { Left::Returned } else { Left::Abandoned }
}

/// Abandons every frame up to the innermost [`enter`], which returns [`Left::Abandoned`]. For
/// PsTerminateSystemThread. No destructor of an abandoned frame runs.
///
/// # Safety
/// No abandoned host frame holds a lock or anything else whose destructor must run.
///
/// # Panics
/// Outside of [`enter`].
pub unsafe fn leave() -> ! {
    // SAFETY: the installed block; the innermost escape point is alive as long as it is linked.
    unsafe {
        let point = (*thread::current()).escape;
        assert!(!point.is_null(), "leave outside of enter");
        leave_raw(point)
    }
}

/// Saves the non-volatile registers and the stack pointer, and calls `f`. Returns 0, or 1 from `leave_raw`.
#[unsafe(naked)]
unsafe extern "C" fn enter_raw(point: *mut EscapePoint, f: extern "C" fn(u64), argument: u64) -> u64 {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 8",
        "mov [rdi + {stack_pointer}], rsp",
        "mov rdi, rdx",
        "call rsi",
        "xor eax, eax",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
        stack_pointer = const offset_of!(EscapePoint, stack_pointer),
    )
}

/// Goes back into the frame of `enter_raw` and returns 1 from it.
#[unsafe(naked)]
unsafe extern "C" fn leave_raw(point: *mut EscapePoint) -> ! {
    naked_asm!(
        "cld",
        "mov rsp, [rdi + {stack_pointer}]",
        "mov eax, 1",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
        stack_pointer = const offset_of!(EscapePoint, stack_pointer),
    )
}
