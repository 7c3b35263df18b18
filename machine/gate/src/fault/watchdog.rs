//! The end of a run that takes too long.
//!
//! The supervisor sends [`WATCHDOG_SIGNAL`] to the process, and the kernel picks any thread for it. That thread
//! asks all others with the same signal; one that is interrupted in driver code is the culprit. If none is, drivers
//! wait for something: then every driver thread is named with the place that it called from and what it waits for, and
//! one is blamed: the thread that drives the drivers, else the routine that a request was given to, else any other. The
//! blamed thread makes the record itself where it can, because only it knows its registers; a fiber that was switched
//! away from cannot, and its stack is read instead.

use std::fmt::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::Interrupted;
use crate::block::Block;
use crate::bugcheck::{self, BugCheck, Stop};
use crate::text::Text;
use crate::{block, image, stub};

/// Ends the run with DPC_WATCHDOG_VIOLATION (0x133), naming what the driver was doing.
pub const WATCHDOG_SIGNAL: libc::c_int = libc::SIGUSR2;

/// How long other threads get to say what they do, and one to record it.
const PATIENCE_MS: u32 = 100;
/// Most waiting threads that are named; the rest is counted.
const THREADS_MAX: usize = 8;

/// What the thread that drives the drivers has asked of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// Nothing.
    Between,
    /// Its DriverEntry runs.
    Entry,
    /// It was given a request.
    Request,
    /// Its Unload routine runs.
    Unload,
}

static STAGE: AtomicU8 = AtomicU8::new(Stage::Between as u8);
/// The driver's routine that was called for it, 0 if unknown.
static ROUTINE: AtomicU64 = AtomicU64::new(0);
/// The block of the thread that drives the drivers, 0 while none does.
static DRIVING: AtomicU64 = AtomicU64::new(0);
static DESCRIBE: OnceLock<fn(dispatcher: u64, to: &mut dyn Write)> = OnceLock::new();
/// The Linux thread that is to record the end.
static CHOSEN: AtomicU32 = AtomicU32::new(0);

/// Notes how far the run has got, for the report of one that gets no further. For the thread that drives the drivers.
pub fn set_stage(stage: Stage, routine: u64) {
    DRIVING.store(block::installed().map_or(0, Block::address), Ordering::Relaxed);
    ROUTINE.store(routine, Ordering::Relaxed);
    STAGE.store(stage as u8, Ordering::Relaxed);
}

/// The driver's routine that was called for the present stage, 0 if unknown.
pub fn routine_of_stage() -> u64 {
    ROUTINE.load(Ordering::Relaxed)
}

/// Sets what says what a thread waits for (nothing for one that does not): it gets [`crate::thread::HostThread::dispatcher`].
/// Called in signal handlers, so it takes no lock and allocates nothing. Set once.
pub fn set_wait_description(describe: fn(dispatcher: u64, to: &mut dyn Write)) {
    let _ = DESCRIBE.set(describe);
}

pub(super) extern "C" fn on_signal(_: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: both come from the kernel.
    let (interrupted, code) = unsafe { (Interrupted::new(context), (*info).si_code) };
    // A driver that loads GS and loops is told at its place, too.
    block::put_right();
    stop_if_in_driver(&interrupted);
    if let Some(block) = block::installed() {
        // SAFETY: the calling thread's block.
        unsafe { (*block.host()).has_answered.store(true, Ordering::Relaxed) };
    }
    // SAFETY: no preconditions.
    let this = unsafe { libc::gettid() } as u32;
    if code != libc::SI_TKILL {
        ask_others();
        choose(&interrupted, this);
    } else if CHOSEN.load(Ordering::Acquire) == this {
        end(blamed(), Some(&interrupted));
    }
}

fn stop_if_in_driver(interrupted: &Interrupted<'_>) {
    let rip = interrupted.rip();
    if image::find(rip).is_none() {
        return;
    }
    let mut text = Text::<256>::new();
    tell_stage(&mut text);
    text.push(format_args!(" The driver was running here."));
    bugcheck::stop(&Stop {
        code: BugCheck::DPC_WATCHDOG_VIOLATION,
        parameters: [1, u64::from(bugcheck::irql().0), 0, 0],
        rip,
        import: None,
        registers: Some(interrupted.registers()),
        on: None,
        message: text.as_str(),
    })
}

fn ask_others() {
    // SAFETY: no preconditions.
    let this = unsafe { libc::gettid() } as u32;
    for block in block::all() {
        let id = host_id(block);
        if id != 0 && id != this {
            ask(id);
        }
    }
    nap();
}

fn ask(id: u32) {
    // SAFETY: signals a thread of this process; one that has ended meanwhile is an error to ignore.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), id as libc::pid_t, WATCHDOG_SIGNAL) };
}

fn nap() {
    (0..PATIENCE_MS).for_each(|_| thread::sleep(Duration::from_millis(1)));
}

fn host_id(block: &Block) -> u32 {
    // SAFETY: a committed block; the field is atomic.
    unsafe { (*block.host()).host_id.load(Ordering::Relaxed) }
}

/// Lets the blamed thread end the run; does it itself if that is this one or does not answer.
fn choose(interrupted: &Interrupted<'_>, this: u32) -> ! {
    let blamed = blamed();
    if let Blamed::Thread(waiting) = &blamed {
        let id = host_id(waiting.block);
        if id == this {
            end(blamed, Some(interrupted));
        }
        if id != 0 {
            CHOSEN.store(id, Ordering::Release);
            ask(id);
            nap();
        }
    }
    end(blamed, None)
}

/// A driver thread inside an import.
struct Waiting {
    block: &'static Block,
    caller: u64,
    import: Option<&'static stub::Import>,
    /// Its number in events.
    id: u16,
}

impl Waiting {
    fn is_driving(&self) -> bool {
        self.block.address() == DRIVING.load(Ordering::Relaxed)
    }
}

/// Who keeps the run from ending.
enum Blamed {
    Thread(Waiting),
    /// Was given a request that nobody completed.
    Routine(u64),
    Nobody,
}

/// The driver threads that are inside imports, the driving one first.
fn waiting() -> impl Iterator<Item = Waiting> {
    let all = || {
        block::all().filter_map(|block| {
            // SAFETY: blocks are never unmapped. The words may change under our eyes, which a report can live with.
            let (caller, import, id) = unsafe { ((*block.host()).caller, (*block.host()).import, (*block.host()).id) };
            image::find(caller).map(|_| Waiting { block, caller, import: stub::import(import), id })
        })
    };
    all().filter(Waiting::is_driving).chain(all().filter(|waiting| !waiting.is_driving()))
}

fn blamed() -> Blamed {
    let routine = ROUTINE.load(Ordering::Relaxed);
    match waiting().next() {
        Some(waiting) if waiting.is_driving() => Blamed::Thread(waiting),
        _ if image::find(routine).is_some() => Blamed::Routine(routine),
        Some(waiting) => Blamed::Thread(waiting),
        None => Blamed::Nobody,
    }
}

/// Says that time is up, and what it was up for.
fn tell_stage<const N: usize>(text: &mut Text<N>) {
    text.push(format_args!("The run took longer than its time limit"));
    let name = image::find(ROUTINE.load(Ordering::Relaxed)).map_or("a driver", |image| image.name);
    match STAGE.load(Ordering::Relaxed) {
        stage if stage == Stage::Entry as u8 => text.push(format_args!(" in DriverEntry of {name}.")),
        stage if stage == Stage::Request as u8 => text.push(format_args!(" over a request to {name}.")),
        stage if stage == Stage::Unload as u8 => text.push(format_args!(" in the Unload routine of {name}.")),
        _ => text.push(format_args!(".")),
    }
}

/// Names the driver threads that wait, with their places and what for.
fn tell_threads<const N: usize>(text: &mut Text<N>) {
    for waiting in waiting().take(THREADS_MAX) {
        let Some((image, offset)) = image::place(waiting.caller) else { continue };
        let name = waiting.import.map_or("an import", |import| import.name);
        // SAFETY: blocks are never unmapped.
        let (dispatcher, has_answered) = unsafe {
            let host = waiting.block.host();
            ((*host).dispatcher, (*host).has_answered.load(Ordering::Relaxed))
        };
        if host_id(waiting.block) != 0 && !has_answered {
            text.push(format_args!(
                " Thread {} answers no signal, as if it had blocked them; it last called {name} at {}+{offset:#x}.",
                waiting.id, image.name
            ));
            continue;
        }
        text.push(format_args!(" Thread {} called {name} at {}+{offset:#x}", waiting.id, image.name));
        let mut what = Text::<128>::new();
        if let Some(describe) = DESCRIBE.get() {
            describe(dispatcher, &mut what);
        }
        match what.as_str() {
            "" => text.push(format_args!(" and did not come back.")),
            what => text.push(format_args!(" and {what}.")),
        }
    }
    let more = waiting().skip(THREADS_MAX).count();
    if more > 0 {
        text.push(format_args!(" {more} more threads wait."));
    }
}

fn end(blamed: Blamed, interrupted: Option<&Interrupted<'_>>) -> ! {
    let mut text = Text::<1024>::new();
    tell_stage(&mut text);
    let (rip, import, on) = match &blamed {
        Blamed::Thread(waiting) => (waiting.caller, waiting.import, Some(waiting.block)),
        Blamed::Routine(routine) => {
            text.push(format_args!(" This routine was given a request that nobody has completed."));
            (*routine, None, None)
        }
        Blamed::Nobody => {
            text.push(format_args!(" No driver code was running, and no thread of a driver waits."));
            (0, None, None)
        }
    };
    tell_threads(&mut text);
    bugcheck::stop(&Stop {
        code: BugCheck::DPC_WATCHDOG_VIOLATION,
        parameters: [0; 4],
        rip,
        import,
        registers: interrupted.map(Interrupted::registers),
        // A thread that is to blame itself has said so with its registers.
        on: on.filter(|_| interrupted.is_none()),
        message: text.as_str(),
    })
}
