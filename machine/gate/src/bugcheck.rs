//! The end of a run: a record of what happened, and out.
//!
//! Invariants: the first bugcheck of a process is the one that is recorded; the process is gone right after it,
//! since host locks may be held; nothing here takes a lock or allocates, because it runs in signal handlers.
//!
//! In between, the thread that recorded it calls what drivers registered for bugchecks. Nothing that such a routine
//! does can change the record any more: a fault in it ends the process, and so does the supervisor after a while.

use std::fmt::Display;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::{panic, thread};

use nt_abi::Irql;
pub use nt_abi::exception::BugCheck;
use nt_abi::exception::Context;
use trace::{BugCheckReport, Event};

use crate::block::Block;
use crate::text::Text;
use crate::thread::HostThread;
use crate::{block, call, fault, frames, image, recorder, seh, stub};

/// Exit status of a child that left a bugcheck record.
pub const BUGCHECK_EXIT: i32 = 70;

/// Ends the run, blamed on the driver instruction that called the import being served.
///
/// `parameters` are those of the STOP code. IRQL: any. For a reason in words use [`with_message`].
#[cold]
pub fn bugcheck(code: BugCheck, parameters: [u64; 4]) -> ! {
    at(code, parameters, crate::caller())
}

/// Ends the run, blamed on the instruction at `rip`.
#[cold]
pub fn at(code: BugCheck, parameters: [u64; 4], rip: u64) -> ! {
    with_message(code, parameters, rip, "")
}

/// Ends the run, blamed on the instruction at `rip`, with a sentence that says what happened and what to do.
#[cold]
pub fn with_message(code: BugCheck, parameters: [u64; 4], rip: u64, message: impl Display) -> ! {
    let mut text = Text::<1024>::new();
    text.push(format_args!("{message}"));
    stop(&Stop { code, parameters, rip, import: serving(), registers: None, on: None, message: text.as_str() })
}

/// Ends the run because Drydock does not have `what` (a service, an information class, a flag), which the driver
/// asked for through the import being served.
#[cold]
pub fn unimplemented(what: impl Display) -> ! {
    let caller = crate::caller();
    let import = serving().map_or(0, |import| u64::from(import.number));
    with_message(
        BugCheck::DRYDOCK_UNIMPLEMENTED_IMPORT,
        [import, caller, 0, 0],
        caller,
        format_args!("Drydock does not implement {what}."),
    )
}

/// Makes a panic of the host leave a record (code `DRYDOCK_INTERNAL_ERROR`) and end the process, before anything
/// could unwind into driver frames.
pub fn install_panic_hook() {
    panic::set_hook(Box::new(|info| {
        let here = 0_u8;
        if let Some(block) = block::put_right() {
            fault::gone_astray(block, 0, &raw const here as u64, None);
        }
        let payload = info.payload();
        let reason = payload.downcast_ref::<&str>().copied();
        let reason =
            reason.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason given");
        let mut text = Text::<1024>::new();
        text.push(format_args!("Drydock failed: {reason}"));
        if let Some(place) = info.location() {
            text.push(format_args!(" ({}:{})", place.file(), place.line()));
        }
        let caller = block::installed().map_or(0, |_| crate::caller());
        stop(&Stop {
            code: BugCheck::DRYDOCK_INTERNAL_ERROR,
            parameters: [0; 4],
            rip: caller,
            import: serving(),
            registers: None,
            on: None,
            message: text.as_str(),
        })
    }));
}

/// What ends the run.
pub(crate) struct Stop<'a> {
    pub code: BugCheck,
    pub parameters: [u64; 4],
    /// Who is to blame, 0 if nobody in particular.
    pub rip: u64,
    /// The import that was being served.
    pub import: Option<&'static stub::Import>,
    /// Of the interrupted code, if this comes from a signal.
    pub registers: Option<Registers>,
    /// The thread that is to blame, if not the calling one. It is inside an import and stays there.
    pub on: Option<&'static Block>,
    pub message: &'a str,
}

/// Registers at a fault.
#[derive(Clone, Copy)]
pub(crate) struct Registers {
    /// rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15.
    pub integer: [u64; 16],
    pub rip: u64,
    pub rflags: u64,
}

impl Registers {
    /// Those of `context`.
    pub fn of(context: &Context) -> Self {
        Self { integer: context.integer, rip: context.rip, rflags: u64::from(context.eflags) }
    }

    /// As the unwinder takes them. Vector registers are missing; no stack is found by them.
    fn context(&self) -> Context {
        // SAFETY: integers, for which zero is a value.
        let mut context: Context = unsafe { std::mem::zeroed() };
        (context.integer, context.rip) = (self.integer, self.rip);
        context
    }
}

/// Thread that writes the record, 0 while none does.
static OWNER: AtomicU32 = AtomicU32::new(0);
/// What that thread is to record, null again once it does.
static STOP: AtomicPtr<Stop<'static>> = AtomicPtr::new(std::ptr::null_mut());

/// Writes the record and ends the process.
pub(crate) fn stop(stop: &Stop<'_>) -> ! {
    // SAFETY: gettid has no preconditions.
    let id = unsafe { libc::gettid() } as u32;
    match OWNER.compare_exchange(0, id, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {
            STOP.store(std::ptr::from_ref(stop).cast_mut().cast(), Ordering::Relaxed);
            record(stop, true);
            call_back(stop.code);
        }
        // Looking at the stack failed itself, or there was no room for it. The first reason counts, without frames;
        // if it was being written already, what is there must do.
        Err(owner) if owner == id => {
            // SAFETY: this thread's own call of `record` is interrupted and does not go on, so its argument is there.
            match unsafe { STOP.load(Ordering::Relaxed).as_ref() } {
                Some(first) => record(first, false),
                None => tell_callback_failed(stop),
            }
        }
        // Another thread is writing; it ends the process when it is done. Bounded, should it have died.
        Err(_) => (0..1000).for_each(|_| thread::sleep(std::time::Duration::from_millis(1))),
    }
    // SAFETY: ends the process without running anything of it, which is the point.
    unsafe { libc::_exit(BUGCHECK_EXIT) }
}

static CALLBACKS: OnceLock<fn()> = OnceLock::new();

/// Sets what calls the routines that drivers registered for bugchecks. It is called at HIGH_LEVEL after a bugcheck of
/// Windows' is recorded, perhaps in a signal handler that interrupted anything, so it waits for no lock and allocates
/// nothing. Set once.
pub fn set_callbacks(call: fn()) {
    let _ = CALLBACKS.set(call);
}

/// Calls what drivers registered for a bugcheck, if this is one: Windows knows neither the codes of our own nor a time
/// limit, whose thread is somewhere in the middle of something.
fn call_back(code: BugCheck) {
    /// Ours begin here.
    const FIRST_OF_OURS: u32 = 0xD0C0_0000;
    let (Some(call), Some(block)) = (CALLBACKS.get(), block::installed()) else { return };
    if code.0 >= FIRST_OF_OURS || code == BugCheck::DPC_WATCHDOG_VIOLATION {
        return;
    }
    crate::set_irql(Irql::HIGH);
    // SAFETY: the calling thread's block. What comes now is no longer the fault that is being handled.
    unsafe { (*block.host()).in_handler = false };
    call::apart(call);
}

/// Says something about what happens after the bugcheck, in the account. Takes no lock and allocates nothing.
pub fn tell(what: impl Display) {
    let mut text = Text::<256>::new();
    text.push(format_args!("{what}"));
    match (recorder::trace(), block::installed()) {
        (Some(_), Some(_)) => crate::record_with_text(Event::HostNote {}, text.as_str()),
        _ => recorder::eprint_raw(format_args!("{}\n", text.as_str())),
    }
}

/// Says where a routine that was called for the bugcheck failed itself, or was when its time was up.
fn tell_callback_failed(stop: &Stop<'_>) {
    match image::place(stop.rip) {
        Some((image, offset)) => {
            let name = image.name;
            tell(format_args!("It did not come back from {name}+{offset:#x}; callbacks behind it are not called."));
        }
        None => tell("It did not come back; callbacks behind it are not called."),
    }
}

fn record(stop: &Stop<'_>, with_frames: bool) {
    let import = stop.import;
    let mut buffer = [0; 32];
    let frames = match &stop.registers {
        _ if !with_frames => 0,
        Some(registers) => frames::collect(&registers.context(), true, &mut buffer),
        None if let Some(on) = stop.on => frames::collect_of(on, &mut buffer),
        None => frames::collect(&seh::capture(), false, &mut buffer),
    };
    STOP.store(std::ptr::null_mut(), Ordering::Relaxed);
    let place = image::place(stop.rip);
    let mut import_name = Text::<128>::new();
    if let Some(import) = import {
        import_name.push(format_args!("{}!{}", import.module, import.name));
    }
    let report = BugCheckReport {
        code: stop.code.0,
        parameters: stop.parameters,
        rip: stop.rip,
        image_base: place.map_or(0, |(image, _)| image.base),
        offset: place.map_or(0, |(_, offset)| offset),
        driver: place.map_or("", |(image, _)| image.name),
        thread: stop.on.or_else(block::installed).map_or(0, Block::thread_object),
        import: import.map(|import| import.number),
        import_name: import_name.as_str(),
        registers: stop.registers.map_or([0; 16], |registers| registers.integer),
        rflags: stop.registers.map_or(0, |registers| registers.rflags),
        frames: &buffer[..frames],
        message: stop.message,
    };
    match recorder::trace() {
        Some(trace) => drop(trace.bugcheck(&report)),
        None => recorder::eprint_raw(format_args!(
            "bugcheck {:?} {:#x?} at {}+{:#x} in {}: {}\n",
            stop.code, stop.parameters, report.driver, report.offset, report.import_name, stop.message
        )),
    }
}

/// The import that the calling thread is serving.
pub(crate) fn serving() -> Option<&'static stub::Import> {
    let host: *mut HostThread = block::installed()?.host();
    // SAFETY: the calling thread's block.
    let (caller, import) = unsafe { ((*host).caller, (*host).import) };
    if caller == 0 { None } else { stub::import(import) }
}

/// The calling thread's IRQL, PASSIVE_LEVEL without a block: for handlers.
pub(crate) fn irql() -> Irql {
    block::installed().map_or(Irql::PASSIVE, |_| crate::irql())
}
