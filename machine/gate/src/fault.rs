//! Faults: the signals that driver code, or host code on its behalf, runs into.
//!
//! An alignment check is none: kernels never see one, so the flag is cleared and the access goes on. In this order a
//! fault is:
//! 1. an expected one of a guarded copy ([`crate::memory`]), which goes on behind it;
//! 2. a privileged instruction or an access to the shared page that can be emulated (K-006, K-010);
//! 3. an exception of the driver code that it happened in, which goes on in [`crate::seh`], on its own stack;
//! 4. the end of the run, blamed on the driver instruction that did it, or, for host code that serves an import,
//!    on the one that called the import.
//!
//! Invariants: nothing here takes a lock or allocates while host code is interrupted; the handlers run on the
//! thread block's alternate stack, so a stack overflow can be told; a fault inside a handler ends the run.

mod emulate;
mod shared_load;
mod time_stamp;
mod watchdog;

use std::arch::asm;
use std::io;
use std::mem::offset_of;

use iced_x86::Mnemonic;
use nt_abi::NtStatus;
use nt_abi::exception::{CONTEXT_FULL, Context, EXCEPTION_PARAMETERS_MAX, ExceptionRecord, exception_flag};

use crate::block::Block;
use crate::bugcheck::{self, BugCheck, Registers, Stop};
use crate::call::CallRecord;
use crate::image::LoadedImage;
use crate::seh::{self, access_bugcheck, is_fatal_access};
use crate::stub::Import;
use crate::text::Text;
use crate::thread::HostThread;
use crate::{block, frames, host_frames, image, memory, shared_page, stub};

pub(crate) use emulate::name_at;
pub use time_stamp::set_time_stamp_clock;
pub use watchdog::{Stage, WATCHDOG_SIGNAL, routine_of_stage, set_stage, set_wait_description};

/// How far below a stack's lowest address an access still counts as its overflow.
const GUARD_BYTES: u64 = 64 << 10;

/// Processor exceptions as Linux numbers them in a signal's context.
mod trap {
    pub const DIVIDE: u64 = 0;
    pub const DEBUG: u64 = 1;
    pub const BREAKPOINT: u64 = 3;
    pub const INVALID_OPCODE: u64 = 6;
    pub const PROTECTION: u64 = 13;
    pub const PAGE_FAULT: u64 = 14;
    pub const ALIGNMENT: u64 = 17;
    pub const VECTOR_ARITHMETIC: u64 = 19;
}

/// Where the half of the addresses begins that is Linux's.
const LINUX_HALF: u64 = 0x8000_0000_0000;

/// Bits of a page fault's error code.
mod page_fault {
    pub const PRESENT: u64 = 1;
    pub const WRITE: u64 = 1 << 1;
    pub const FETCH: u64 = 1 << 4;
}

/// Installs the handlers for SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP and [`WATCHDOG_SIGNAL`]. Once per process,
/// before any driver code runs; threads that run driver code must install their [`crate::thread::Block`].
///
/// # Errors
/// What `sigaction` says.
pub fn install() -> io::Result<()> {
    // What handlers use is made now, not in a handler: the shadow page and the decoder's tables.
    shared_page::shadow();
    emulate::warm_up();
    host_frames::prepare();
    for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP] {
        // NODEFER: handlers use guarded copies themselves.
        handle(signal, on_fault, libc::SA_NODEFER)?;
    }
    handle(WATCHDOG_SIGNAL, watchdog::on_signal, 0)
}

type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

fn handle(signal: libc::c_int, handler: Handler, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: all-zero is a valid `sigaction`.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | flags;
    // SAFETY: a handler of the right type; it stays in the program.
    if unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The interrupted code, as the kernel keeps it; what is changed here it goes on with.
struct Interrupted<'a> {
    context: &'a mut libc::mcontext_t,
}

/// Where general registers lie in a context, by their number in instructions.
const REGISTERS: [libc::c_int; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];
const RAX: usize = 0;
const RCX: usize = 1;
const RDX: usize = 2;
const RSP: usize = 4;
const RSI: usize = 6;
const RDI: usize = 7;

impl<'a> Interrupted<'a> {
    /// # Safety
    /// `context` is what the kernel gave to the running handler.
    unsafe fn new(context: *mut libc::c_void) -> Self {
        // SAFETY: the caller's promise.
        Self { context: unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext } }
    }

    fn get(&self, register: usize) -> u64 {
        self.context.gregs[REGISTERS[register] as usize] as u64
    }

    fn set(&mut self, register: usize, value: u64) {
        self.context.gregs[REGISTERS[register] as usize] = value as i64;
    }

    fn rip(&self) -> u64 {
        self.context.gregs[libc::REG_RIP as usize] as u64
    }

    fn set_rip(&mut self, rip: u64) {
        self.context.gregs[libc::REG_RIP as usize] = rip as i64;
    }

    fn rflags(&self) -> u64 {
        self.context.gregs[libc::REG_EFL as usize] as u64
    }

    fn set_rflags(&mut self, rflags: u64) {
        self.context.gregs[libc::REG_EFL as usize] = rflags as i64;
    }

    fn trap(&self) -> u64 {
        self.context.gregs[libc::REG_TRAPNO as usize] as u64
    }

    fn error_code(&self) -> u64 {
        self.context.gregs[libc::REG_ERR as usize] as u64
    }

    /// The address of a page fault.
    fn address(&self) -> u64 {
        self.context.gregs[libc::REG_CR2 as usize] as u64
    }

    /// Whether there is memory at the address of a page fault. Linux says so of its own half, too, to tell nothing of it.
    fn is_present(&self) -> bool {
        self.error_code() & page_fault::PRESENT != 0 && self.address() < LINUX_HALF
    }

    /// Whether it is a page fault taken to fetch an instruction.
    fn is_fetch(&self) -> bool {
        self.trap() == trap::PAGE_FAULT && self.error_code() & page_fault::FETCH != 0
    }

    /// What a page fault tried to do, as exceptions count it: 0 to read, 1 to write, 8 to execute.
    fn operation(&self) -> u64 {
        match self.error_code() {
            _ if self.trap() != trap::PAGE_FAULT => 0,
            error if error & page_fault::FETCH != 0 => 8,
            error if error & page_fault::WRITE != 0 => 1,
            _ => 0,
        }
    }

    fn registers(&self) -> Registers {
        Registers {
            integer: std::array::from_fn(|register| self.get(register)),
            rip: self.rip(),
            rflags: self.rflags(),
        }
    }

    /// Goes on with the integer and vector registers of `context`.
    fn go_on_at(&mut self, context: &Context) {
        (0..REGISTERS.len()).for_each(|register| self.set(register, context.integer[register]));
        self.set_rip(context.rip);
        self.set_rflags(self.rflags() & !UNWANTED_FLAGS);
        let vectors = self.context.fpregs;
        if !vectors.is_null() {
            // SAFETY: as in `context`.
            unsafe { vectors.cast::<[u128; 32]>().write_unaligned(context.float_save) };
        }
    }

    /// All that drivers know of.
    fn context(&self) -> Context {
        // SAFETY: integers, for which zero is a value.
        let mut context: Context = unsafe { std::mem::zeroed() };
        context.context_flags = CONTEXT_FULL;
        context.segments = seh::SEGMENTS;
        context.integer = std::array::from_fn(|register| self.get(register));
        context.rip = self.rip();
        context.eflags = self.rflags() as u32;
        let vectors = self.context.fpregs;
        if !vectors.is_null() {
            // SAFETY: the kernel's save area for the interrupted thread, in the format of FXSAVE, as are both sides.
            unsafe {
                context.mx_csr = (*vectors).mxcsr;
                context.float_save = vectors.cast::<[u128; 32]>().read_unaligned();
            }
        }
        context
    }
}

extern "C" fn on_fault(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    stop_alignment_checks();
    // SAFETY: both come from the kernel.
    let (mut interrupted, code) = unsafe { (Interrupted::new(context), (*info).si_code) };
    if interrupted.trap() == trap::ALIGNMENT && code > 0 {
        // In the processor mode that drivers are written for, alignment is never checked, whatever they set.
        interrupted.set_rflags(interrupted.rflags() & !ALIGNMENT_CHECK);
        return;
    }
    if let Some(rip) = memory::fix_up(interrupted.rip()) {
        interrupted.set_rip(rip);
        return;
    }
    if code <= 0 {
        return sent_by_hand(signal);
    }
    if let Some(block) = block::put_right() {
        gone_astray(block, interrupted.rip(), interrupted.get(RSP), Some(interrupted.registers()));
    }
    let Some(block) = block::installed() else { host_fault(&interrupted, None) };
    let host = block.host();
    // SAFETY: the calling thread's block.
    unsafe {
        // As a byte: who writes over this record leaves what is no truth value.
        match (&raw const (*host).in_handler).cast::<u8>().read_volatile() {
            0 => {}
            1 => internal(
                &interrupted,
                format_args!("A fault inside the fault handler, at host address {:#x}.", interrupted.rip()),
            ),
            _ => overwritten(&interrupted),
        }
        (*host).in_handler = true;
    }
    handle_fault(&mut interrupted, host);
    // SAFETY: as above.
    unsafe { (*host).in_handler = false };
}

/// Clears the flag that a driver may have set and that signal handlers inherit: compiled code accesses misaligned
/// memory at will.
fn stop_alignment_checks() {
    // SAFETY: changes nothing but this flag, of which the compiler knows nothing.
    unsafe {
        asm!("pushfq", "and qword ptr [rsp], {kept}", "popfq", kept = const !(ALIGNMENT_CHECK as i32));
    }
}

/// Lets a signal that somebody sent have its usual effect.
fn sent_by_hand(signal: libc::c_int) {
    // SAFETY: both calls are safe in handlers.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

fn handle_fault(interrupted: &mut Interrupted<'_>, host: *mut HostThread) {
    if interrupted.trap() == trap::PROTECTION && time_stamp::answer(interrupted) {
        return;
    }
    if interrupted.trap() == trap::PAGE_FAULT
        && let Some(import) = stub::missing_at(interrupted.address())
    {
        missing_import(interrupted, host, import);
    }
    let rip = interrupted.rip();
    let Some(image) = image::find(rip) else {
        if interrupted.is_fetch() || at_impossible_routine(interrupted, host) {
            return wild_call(interrupted, host);
        }
        if leave_import(interrupted, host).is_some() {
            return;
        }
        host_fault(interrupted, Some(host));
    };
    if image.is_unloaded() {
        ran_after_unload(interrupted, image);
    }
    if overflowed(interrupted, host) {
        stack_overflow(interrupted, rip);
    }
    let code = match interrupted.trap() {
        trap::PAGE_FAULT if interrupted.is_fetch() => return wild_call(interrupted, host),
        trap::PAGE_FAULT => return bad_access(interrupted, host),
        trap::PROTECTION => return emulate::privileged(interrupted, host),
        trap::BREAKPOINT => {
            // Execution is behind the instruction already; Windows shows it at the instruction.
            interrupted.set_rip(rip - 1);
            NtStatus::BREAKPOINT
        }
        trap::DEBUG => NtStatus::SINGLE_STEP,
        trap::INVALID_OPCODE => NtStatus::ILLEGAL_INSTRUCTION,
        trap::DIVIDE => NtStatus::INTEGER_DIVIDE_BY_ZERO,
        trap::VECTOR_ARITHMETIC => NtStatus::FLOAT_MULTIPLE_TRAPS,
        _ => NtStatus::UNSUCCESSFUL,
    };
    raise(interrupted, host, code, &[]);
}

/// Bytes that a driver's stack must have left for looking after an exception.
const ROOM: u64 = 32 << 10;
/// The flag that makes the processor check alignment in processes.
const ALIGNMENT_CHECK: u64 = 1 << 18;
/// Trap, direction, nested task and alignment check flags: they must not be set in host code.
const UNWANTED_FLAGS: u64 = 0x4_4500;

/// Lets the thread go on in [`seh::fault`], on its own stack, with an exception of the interrupted code.
fn raise(interrupted: &mut Interrupted<'_>, host: *mut HostThread, code: NtStatus, parameters: &[u64]) {
    let context = interrupted.context();
    raise_at(interrupted, host, &context, 0, code, parameters);
}

/// [`raise`] with an exception of the code that `context` is.
fn raise_at(
    interrupted: &mut Interrupted<'_>,
    host: *mut HostThread,
    context: &Context,
    flags: u32,
    code: NtStatus,
    parameters: &[u64],
) {
    let stack = context.integer[RSP];
    // SAFETY: the calling thread's block.
    let (low, high) = unsafe { ((*host).stack_low, (*host).stack_high) };
    if !(low + ROOM..=high).contains(&stack) {
        stack_overflow(interrupted, blame(interrupted));
    }
    let mut information = [0; EXCEPTION_PARAMETERS_MAX];
    information[..parameters.len()].copy_from_slice(parameters);
    let (address, count) = (context.rip, parameters.len() as u32);
    let record = ExceptionRecord { code, flags, record: 0, address, parameters: count, _pad: 0, information };
    let context_at = (stack - 128 - size_of::<Context>() as u64) & !63;
    let record_at = context_at - (size_of::<ExceptionRecord>() as u64).next_multiple_of(64);
    if memory::write_value(context_at, *context).and_then(|()| memory::write_value(record_at, record)).is_err() {
        stack_overflow(interrupted, blame(interrupted));
    }
    interrupted.set(RDI, record_at);
    interrupted.set(RSI, context_at);
    interrupted.set(RDX, 0);
    // As behind a call.
    interrupted.set(RSP, record_at - 8);
    interrupted.set_rip(seh::fault as *const () as u64);
    interrupted.set_rflags(interrupted.rflags() & !UNWANTED_FLAGS);
}

/// The driver instruction that the interrupted code is, or returns to.
fn blame(interrupted: &Interrupted<'_>) -> u64 {
    let rip = interrupted.rip();
    if image::find(rip).is_some() { rip } else { memory::read_value(interrupted.get(RSP)).unwrap_or(0) }
}

/// A page fault of driver code.
fn bad_access(interrupted: &mut Interrupted<'_>, host: *mut HostThread) {
    let (rip, address, operation) = (interrupted.rip(), interrupted.address(), interrupted.operation());
    if shared_page::contains(address) {
        if !shared_load::emulate(interrupted) {
            let what = emulate::name_at(rip);
            driver_fault(
                interrupted,
                rip,
                format_args!("Drydock cannot emulate this access to the shared page at {address:#x}: {what}."),
            );
        }
        return;
    }
    if is_fatal_access(address) {
        driver_fault(interrupted, rip, format_args!("The driver {} {}.", Access(operation), Place(address)));
    }
    raise(interrupted, host, NtStatus::ACCESS_VIOLATION, &[operation, address]);
}

/// Ends the run by a bad memory access for which `blame` is responsible. Which code depends on the level and the
/// address (K-151), as on Windows; only that its kernel addresses are ours, which are not negative.
fn driver_fault(interrupted: &Interrupted<'_>, blame: u64, message: std::fmt::Arguments<'_>) -> ! {
    let rip = interrupted.rip();
    let address = if interrupted.trap() == trap::PAGE_FAULT { interrupted.address() } else { u64::MAX };
    let (code, parameters) = if is_fatal_access(address) {
        access_bugcheck(address, interrupted.operation(), interrupted.is_present(), rip)
    } else {
        let parameters = [u64::from(NtStatus::ACCESS_VIOLATION.0), rip, interrupted.operation(), address];
        (BugCheck::KMODE_EXCEPTION_NOT_HANDLED, parameters)
    };
    let mut text = Text::<1024>::new();
    text.push(message);
    let import = if image::find(rip).is_some() { None } else { bugcheck::serving() };
    bugcheck::stop(&Stop {
        code,
        parameters,
        rip: blame,
        import,
        registers: Some(interrupted.registers()),
        on: None,
        message: text.as_str(),
    })
}

/// Whether the host called a routine whose address is none. A processor that refuses to go there leaves execution at the call;
/// it is then put where other wild calls are: at the routine, with the return address on the stack.
fn at_impossible_routine(interrupted: &mut Interrupted<'_>, host: *mut HostThread) -> bool {
    if interrupted.trap() != trap::PROTECTION {
        return false;
    }
    let rip = interrupted.rip();
    if !is_canonical(rip) {
        return true;
    }
    // SAFETY: the calling thread's block; the innermost record is alive while it is linked.
    let routine = unsafe { (*host).innermost.as_ref() }.map_or(0, |record| record.routine);
    if is_canonical(routine) {
        return false;
    }
    let instruction = emulate::decode(rip);
    let top = interrupted.get(RSP) - 8;
    if instruction.mnemonic() != Mnemonic::Call || memory::write_value(top, instruction.next_ip()).is_err() {
        return false;
    }
    interrupted.set(RSP, top);
    interrupted.set_rip(routine);
    true
}

/// Whether an address has one of the forms that the processor takes: its upper bits are copies of bit 47.
pub(crate) fn is_canonical(address: u64) -> bool {
    (address << 16) as i64 >> 16 == address as i64
}

/// A jump to a place without code: an exception of whoever called, or the end of the run.
fn wild_call(interrupted: &mut Interrupted<'_>, host: *mut HostThread) {
    const EXECUTE: u64 = 8;
    let rip = interrupted.rip();
    if !is_canonical(rip) {
        // No page fault, so it is an exception at any level; the processor does not tell the address.
        return raise(interrupted, host, NtStatus::ACCESS_VIOLATION, &[0, u64::MAX]);
    }
    if !is_fatal_access(rip) {
        return raise(interrupted, host, NtStatus::ACCESS_VIOLATION, &[EXECUTE, rip]);
    }
    let top = memory::read_value::<u64>(interrupted.get(RSP)).unwrap_or(0);
    let place = Place(rip);
    if image::find(top).is_some_and(|image| image.is_code(top)) {
        driver_fault(interrupted, top, format_args!("The driver called or jumped to {place}."));
    }
    // SAFETY: the calling thread's block; the innermost record is alive while it is linked.
    let routine = unsafe { (*host).innermost.as_ref() }.map_or(0, |record| record.routine);
    let blame = caller_of(rip, interrupted.get(RSP), host);
    if routine == rip {
        driver_fault(
            interrupted,
            blame,
            format_args!("A routine that the driver named was called, but it is {place}."),
        );
    }
    driver_fault(interrupted, blame, format_args!("Execution went to {place}; the innermost driver frame is named."));
}

/// The driver code on whose behalf the host called `routine`, 0 if unknown: what asked for it, the innermost driver frame on the
/// stack from `stack` on, or the entry point of a driver whose object names it.
pub(crate) fn caller_of(routine: u64, stack: u64, host: *mut HostThread) -> u64 {
    // SAFETY: the calling thread's block; the innermost record is alive while it is linked.
    let (innermost, high) = unsafe { ((*host).innermost.as_ref(), (*host).stack_high) };
    if let Some(record) = innermost.filter(|record| record.routine == routine && record.caller != 0) {
        return record.caller;
    }
    match frames::innermost(stack, high) {
        0 => image::naming(routine).map_or(0, |image| image.entry),
        frame => frame,
    }
}

/// An import that nobody implements was called or touched. Names the others of the driver too: whoever provides this
/// one, or does without it, wants to know what comes next.
fn missing_import(interrupted: &Interrupted<'_>, host: *mut HostThread, import: &'static Import) -> ! {
    let Import { image: importer, module, name, number, .. } = import;
    let rip = interrupted.rip();
    let mut text = Text::<1024>::new();
    let blame = if interrupted.is_fetch() {
        text.push(format_args!("The driver called {module}!{name}, which Drydock does not implement."));
        let top = memory::read_value::<u64>(interrupted.get(RSP)).unwrap_or(0);
        // SAFETY: the calling thread's block.
        let high = unsafe { (*host).stack_high };
        if image::find(top).is_some() { top } else { frames::innermost(interrupted.get(RSP), high) }
    } else {
        let verb = if interrupted.operation() == 1 { "wrote to" } else { "read" };
        text.push(format_args!("The driver {verb} the variable {module}!{name}, which Drydock does not implement."));
        // Host code does it for the driver that called it.
        if image::find(rip).is_some() { rip } else { bugcheck::serving().map_or(0, |_| crate::caller()) }
    };
    // The same import can be there twice, bound for another loading of the image.
    let others = || stub::missing_of(importer).filter(|other| (other.module, other.name) != (*module, *name));
    let count = others().count();
    if count > 0 {
        text.push(format_args!(" {importer} has {count} more that nobody implements: "));
    }
    for (index, other) in others().enumerate() {
        text.push(format_args!("{}{}!{}", if index == 0 { "" } else { ", " }, other.module, other.name));
    }
    bugcheck::stop(&Stop {
        code: BugCheck::DRYDOCK_UNIMPLEMENTED_IMPORT,
        parameters: [u64::from(*number), blame, interrupted.address(), interrupted.operation()],
        rip: blame,
        import: Some(import),
        registers: Some(interrupted.registers()),
        on: None,
        message: text.as_str(),
    })
}

fn ran_after_unload(interrupted: &Interrupted<'_>, image: &LoadedImage) -> ! {
    let rip = interrupted.rip();
    let mut text = Text::<256>::new();
    text.push(format_args!(
        "Code of {} ran after the driver was unloaded: a thread, timer, work item, callback or request was left behind.",
        image.name
    ));
    bugcheck::stop(&Stop {
        code: BugCheck::DRIVER_UNLOADED_WITHOUT_CANCELLING_PENDING_OPERATIONS,
        parameters: [interrupted.address(), 8, rip, 0],
        rip,
        import: None,
        registers: Some(interrupted.registers()),
        on: None,
        message: text.as_str(),
    })
}

/// Whether a page fault hit the guard below the thread's stack.
fn overflowed(interrupted: &Interrupted<'_>, host: *mut HostThread) -> bool {
    // SAFETY: the calling thread's block.
    let low = unsafe { (*host).stack_low };
    interrupted.trap() == trap::PAGE_FAULT && (low.saturating_sub(GUARD_BYTES)..low).contains(&interrupted.address())
}

fn stack_overflow(interrupted: &Interrupted<'_>, blame: u64) -> ! {
    let is_outside = block::installed().is_some_and(|block| {
        // SAFETY: the calling thread's block.
        let (low, high) = unsafe { ((*block.host()).stack_low, (*block.host()).stack_high) };
        !(low.saturating_sub(GUARD_BYTES)..=high).contains(&interrupted.get(RSP))
    });
    bugcheck::stop(&Stop {
        code: BugCheck::UNEXPECTED_KERNEL_MODE_TRAP,
        // 8: double fault, which is what Windows makes of it.
        parameters: [8, interrupted.address(), interrupted.get(RSP), interrupted.rip()],
        rip: blame,
        import: if image::find(interrupted.rip()).is_some() { None } else { bugcheck::serving() },
        registers: Some(interrupted.registers()),
        on: None,
        message: if is_outside {
            "The stack pointer led out of the thread's stack, so not even an exception could be raised there."
        } else {
            "The kernel stack overflowed: too deep a recursion, or too much on the stack."
        },
    })
}

/// Raises a fault of host code that serves an import in the driver that called it, as if it had touched the memory itself: the
/// function is left where it is, for good, so the exception cannot be continued. What it has taken of the host's memory is lost;
/// that is all it may have. `None` if this is no such fault, or more would be lost:
/// - a lock of the host is held, or others know of the function ([`crate::stay`]);
/// - the import has called a driver, or the transport, whose frames would be cut off;
/// - the C library's own functions are open, which lock too; one of them alone copies or compares.
fn leave_import(interrupted: &mut Interrupted<'_>, host: *mut HostThread) -> Option<()> {
    let import = bugcheck::serving()?;
    let is_page_fault = interrupted.trap() == trap::PAGE_FAULT;
    if !is_page_fault && interrupted.trap() != trap::PROTECTION || overflowed(interrupted, host) {
        return None;
    }
    let address = if is_page_fault { interrupted.address() } else { u64::MAX };
    if is_page_fault && is_fatal_access(address) || host_lock::is_holding() {
        return None;
    }
    // SAFETY: the calling thread's block.
    let (entry, stays) = unsafe { ((*host).entry, (*host).stays) };
    // SAFETY: as above.
    let (innermost, escape) = unsafe { ((*host).innermost as u64, (*host).escape as u64) };
    // Stacks grow down: what was opened since the import was entered lies below.
    let is_open_since = |record: u64| record != 0 && record < entry;
    if entry == 0 || stays != 0 || is_open_since(innermost) || is_open_since(escape) {
        return None;
    }
    let rip = interrupted.rip();
    let mut context = interrupted.context();
    host_frames::leave_to(&mut context, entry).ok()?;
    if seh::is_resumption(context.rip) {
        // An exception passes this import already, and its function fails over what that left undone. The first one counts.
        interrupted.go_on_at(&context);
        return Some(());
    }
    let parameters = [interrupted.operation(), address];
    let flags = exception_flag::NONCONTINUABLE;
    raise_at(interrupted, host, &context, flags, NtStatus::ACCESS_VIOLATION, &parameters);
    // The third and fourth argument of `seh::fault`.
    interrupted.set(RDX, std::ptr::from_ref(import) as u64);
    interrupted.set(RCX, rip);
    Some(())
}

/// Ends the run after a fault of host code: the fault of whoever called the import it serves, most likely.
fn host_fault(interrupted: &Interrupted<'_>, host: Option<*mut HostThread>) -> ! {
    let rip = interrupted.rip();
    let Some(host) = host else {
        internal(interrupted, format_args!("A fault at host address {rip:#x} on a thread that never runs driver code."))
    };
    // SAFETY: the calling thread's block.
    let high = unsafe { (*host).stack_high };
    if overflowed(interrupted, host) {
        let caller = crate::caller();
        stack_overflow(interrupted, if caller != 0 { caller } else { frames::innermost(interrupted.get(RSP), high) });
    }
    let what = Failed(interrupted);
    let Some(import) = bugcheck::serving() else {
        internal(interrupted, format_args!("Drydock {what} at host address {rip:#x}."))
    };
    driver_fault(interrupted, crate::caller(), format_args!("{}", WhileServing { import, what, host: rip }));
}

/// Ends the run because somebody wrote over what the host keeps of this thread. Nothing of it can be trusted, but a driver that
/// ran here is on the stack.
fn overwritten(interrupted: &Interrupted<'_>) -> ! {
    let rip = interrupted.rip();
    let stack = interrupted.get(RSP);
    let blame = if image::find(rip).is_some() { rip } else { frames::innermost(stack, u64::MAX) };
    bugcheck::stop(&Stop {
        code: BugCheck::DRYDOCK_INTERNAL_ERROR,
        parameters: [interrupted.trap(), interrupted.address(), rip, 0],
        rip: blame,
        import: None,
        registers: Some(interrupted.registers()),
        on: None,
        message: "What Drydock keeps of this thread was written over: a driver writes where it has nothing. The innermost driver \
                  frame is named; what wrote may be another.",
    })
}

/// Ends the run because GS, or the KPCR that it leads to, was the driver's to spoil, and was spoilt. Blamed is what runs inside of the
/// innermost call into a driver: the host finds out at the next import at the latest.
pub(crate) fn gone_astray(block: &Block, rip: u64, stack: u64, registers: Option<Registers>) -> ! {
    let host = block.host();
    // SAFETY: blocks are never unmapped.
    let (call, stack_high) = unsafe { ((*host).innermost, (*host).stack_high) };
    // Guarded, since the driver may have written over this, too.
    let routine = memory::read_value(call as u64 + offset_of!(CallRecord, routine) as u64).unwrap_or(0);
    let high = if call.is_null() { stack_high } else { call as u64 };
    // The stubs of imports, which are the first to need GS, lie in the image's range, too.
    let is_driver = image::find(rip).is_some_and(|image| image.is_code(rip));
    let blame = if is_driver { rip } else { frames::innermost(stack, high) };
    bugcheck::stop(&Stop {
        code: BugCheck::DRYDOCK_INTERNAL_ERROR,
        parameters: [0, 0, rip, 0],
        rip: if blame != 0 { blame } else { routine },
        import: None,
        registers,
        on: None,
        message: "GS no longer leads to what is kept of this thread: a driver loaded GS or its base, or wrote over its processor block \
                  (KPCR). The innermost driver frame is named; what did it ran before.",
    })
}

/// Ends the run by a fault of our own.
fn internal(interrupted: &Interrupted<'_>, message: std::fmt::Arguments<'_>) -> ! {
    let mut text = Text::<512>::new();
    text.push(message);
    bugcheck::stop(&Stop {
        code: BugCheck::DRYDOCK_INTERNAL_ERROR,
        parameters: [interrupted.trap(), interrupted.address(), interrupted.rip(), 0],
        rip: 0,
        import: bugcheck::serving(),
        registers: Some(interrupted.registers()),
        on: None,
        message: text.as_str(),
    })
}

/// What the interrupted code tried in vain. The processor tells no address but of page faults.
struct Failed<'a>(&'a Interrupted<'a>);

impl std::fmt::Display for Failed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(interrupted) = self;
        match interrupted.trap() {
            trap::PAGE_FAULT => {
                write!(f, "{} {}", Access(interrupted.operation()), Place(interrupted.address()))
            }
            trap::PROTECTION => Touched { operation: 0, address: u64::MAX }.fmt(f),
            trap::INVALID_OPCODE => f.write_str("came to an instruction that there is not"),
            trap => write!(f, "met processor exception {trap}"),
        }
    }
}

/// The report of what happened at `host` in the host's code while it served an import.
pub(crate) struct WhileServing<'a, W> {
    pub import: &'a Import,
    /// What Drydock did.
    pub what: W,
    pub host: u64,
}

impl<W: std::fmt::Display> std::fmt::Display for WhileServing<'_, W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { import, what, host } = self;
        let name = import.name;
        write!(
            f,
            "While serving {name}, Drydock {what}: the driver passed a bad pointer, or Drydock is wrong (host address {host:#x})."
        )
    }
}

/// An access as an exception tells it: its address is the last one if the processor told none.
pub(crate) struct Touched {
    pub operation: u64,
    pub address: u64,
}

impl std::fmt::Display for Touched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.address {
            u64::MAX => f.write_str("used an address that no memory can have"),
            address => write!(f, "{} {}", Access(self.operation), Place(address)),
        }
    }
}

/// What an access tried to do, as a verb; counted as in [`Interrupted::operation`].
pub(crate) struct Access(pub u64);

impl std::fmt::Display for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            1 => "wrote to",
            8 => "executed",
            _ => "read",
        })
    }
}

/// An address, with what is known about it.
pub(crate) struct Place(pub u64);

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(address) = *self;
        write!(f, "address {address:#x}")?;
        if let Some((image, offset)) = image::place(address) {
            return write!(f, " ({}+{offset:#x}, where that is not allowed)", image.name);
        }
        match address {
            0 => f.write_str(" (a null pointer)"),
            1..0x10000 => f.write_str(" (near a null pointer)"),
            _ if !is_canonical(address) => f.write_str(" (no address can be that)"),
            LINUX_HALF.. => f.write_str(" (no such address exists here)"),
            _ => f.write_str(" (not mapped)"),
        }
    }
}
