//! What a thread that runs driver code carries: the KPCR page that drivers read through GS, and behind
//! it, out of their sight, what the host keeps per thread.
//!
//! Rules: K-005, K-007, K-008. Threads of the host inherit their creator's GS base, so every thread that
//! may run driver code installs a block of its own first.

use std::arch::asm;
use std::cell::UnsafeCell;
use std::mem::offset_of;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use arena::SlotCache;
use nt_abi::Irql;
use trace::{Counter, Event, RingWriter};

pub use crate::block::{Block, host_stack};

/// The page behind the GS base, as far as drivers look at it.
#[doc(alias = "KPCR")]
#[repr(C, align(4096))]
pub struct Kpcr {
    _tib: [u8; 0x18],
    /// Its own address.
    pub(crate) self_address: u64,
    /// `KPRCB`.
    pub(crate) current_prcb: u64,
    _before_irql: [u8; 0x50 - 0x28],
    /// The current IRQL: what CR8 accesses of drivers are rewritten to.
    pub(crate) irql: u8,
    _before_processor: [u8; 0x184 - 0x51],
    /// Processor number as mingw-w64's inline code reads it (two bytes).
    pub(crate) processor: u16,
    _pad: u16,
    /// `KTHREAD`.
    pub(crate) current_thread: u64,
    _before_processor2: [u8; 0x1A4 - 0x190],
    /// Processor number as Microsoft's inline code reads it.
    pub(crate) processor_index: u32,
    _rest: [u8; 0x1000 - 0x1A8],
}

const _: () = assert!(size_of::<Kpcr>() == 0x1000 && offset_of!(Kpcr, irql) == 0x50);
const _: () = assert!(offset_of!(Kpcr, processor) == 0x184 && offset_of!(Kpcr, current_thread) == 0x188);
const _: () = assert!(offset_of!(Kpcr, processor_index) == 0x1A4);

/// How many spin locks are noted of a thread; drivers rarely hold more than two at a time.
pub const SPIN_LOCKS: usize = 4;

/// How many arenas can have a cache in every thread.
pub const CACHES: usize = 16;

/// The host's part of a thread.
#[repr(C)]
pub struct HostThread {
    /// Where the driver called the import that is being served; 0 outside of imports.
    pub caller: u64,
    /// Number of that import in the run's import list.
    pub import: u64,
    /// The stack pointer when that import was entered: where its return address lies; 0 outside of imports.
    pub entry: u64,
    /// A short number for events.
    pub id: u16,
    /// The leased processor number.
    pub processor: u16,
    /// The innermost host-to-driver call.
    pub innermost: *mut crate::call::CallRecord,
    /// Exceptions and unwindings that go on when imports return.
    pub(crate) pending: *mut crate::seh::Pending,
    /// Where [`crate::call::leave`] goes, or null.
    pub escape: *mut crate::call::EscapePoint,
    /// Lowest usable address of the stack; the page below it is a guard.
    pub stack_low: u64,
    /// One past the highest address of the stack.
    pub stack_high: u64,
    /// Where this thread records.
    pub ring: RingWriter,
    /// Free slots, by the arena user's cache number ([`cache`]).
    pub caches: [SlotCache; CACHES],
    /// How many host functions of this thread must not be left where they are ([`stay`]).
    pub(crate) stays: u32,
    /// For the dispatcher: its own record of this thread.
    pub dispatcher: u64,
    /// For the pool: this thread's free slots. Stays with a recycled block, as the slot caches do; 0 at first.
    pub pool: u64,
    /// For the dispatcher: the spin locks that this thread took last and did not give back, and how many those are.
    pub spin_locks: [u64; SPIN_LOCKS],
    /// How many of [`HostThread::spin_locks`] mean something.
    pub spin_lock_count: usize,
    /// How many DPCs wait for this thread's level; the dispatcher counts them.
    pub deferred: AtomicU64,
    /// The Linux thread that runs on this block now, 0 if none does.
    pub host_id: AtomicU32,
    /// Whether a signal handler runs on this thread.
    pub in_handler: bool,
    /// Whether this thread has answered the watchdog.
    pub(crate) has_answered: AtomicBool,
}

/// The two pages of a thread that GS leads to.
///
/// Cells, because driver code and nested activations of the host write behind every reference.
#[repr(C)]
pub(crate) struct Pages {
    pub(crate) kpcr: UnsafeCell<Kpcr>,
    pub(crate) host: UnsafeCell<HostThread>,
}

/// Offset of the noted return address from the GS base, for import stubs.
pub const CALLER_OFFSET: usize = offset_of!(Pages, host) + offset_of!(HostThread, caller);
/// Offset of the noted stack pointer from the GS base, for import stubs.
pub const ENTRY_OFFSET: usize = offset_of!(Pages, host) + offset_of!(HostThread, entry);
/// Offset of the noted import number from the GS base, for import stubs.
pub const IMPORT_OFFSET: usize = offset_of!(Pages, host) + offset_of!(HostThread, import);
/// Offset of the IRQL from the GS base, for rewritten CR8 accesses.
pub const IRQL_OFFSET: usize = offset_of!(Kpcr, irql);

/// Offset of the number of DPCs that wait for the thread's level from the GS base, for lowered levels.
pub const DEFERRED_OFFSET: usize = offset_of!(Pages, host) + offset_of!(HostThread, deferred);

/// The numbers of per-thread caches, one per arena, so that two users never share one.
pub mod cache {
    /// File objects.
    pub const FILES: usize = 0;
    /// I/O request packets of one location: what a transport's client sends.
    pub const IRPS: usize = 1;
    /// Other kernel objects.
    pub const OBJECTS: usize = 2;
    /// The largest IRPs.
    pub const LARGE_IRPS: usize = 3;
    /// Objects with large bodies.
    pub const LARGE_OBJECTS: usize = 4;
    /// Objects with bodies that no 16 bits can count.
    pub const HUGE_OBJECTS: usize = 5;
    /// IRPs of two locations: one filter is in the way.
    pub const FILTERED_IRPS: usize = 6;
    /// IRPs of up to four locations.
    pub const MIDDLE_IRPS: usize = 7;
}

/// The calling thread's block.
///
/// Valid only on threads on which a block was installed. The pointer is not a reference because driver
/// callbacks nest: two activations of the host on one thread look at the same block.
#[inline(always)]
pub fn current() -> *mut HostThread {
    let base: u64;
    // SAFETY: reads the self address that `install` put at gs:[0x18]; no other effect. Not `pure`: after a
    // fiber switch the same code must read again.
    unsafe { asm!("mov {}, gs:[0x18]", out(reg) base, options(nostack, readonly, preserves_flags)) };
    (base + offset_of!(Pages, host) as u64) as *mut HostThread
}

/// Where a host function must not be left: see [`stay`].
#[derive(Debug)]
pub struct Stay(());

/// While the answer lives, a bad pointer that the calling thread follows for its import ends the run, instead of being raised in
/// the driver. For functions that others know of, such as a wait whose record on the stack is in a queue. Holding a
/// `host_lock` does the same, but does not outlast a wait.
#[inline]
pub fn stay() -> Stay {
    // SAFETY: the calling thread's block.
    unsafe { (*current()).stays += 1 };
    Stay(())
}

impl Drop for Stay {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the calling thread's block: a fiber keeps its own on whatever host thread it goes on.
        unsafe { (*current()).stays -= 1 };
    }
}

/// The current IRQL.
#[inline(always)]
pub fn irql() -> Irql {
    let level: u8;
    // SAFETY: a byte of the installed KPCR page.
    unsafe {
        asm!("mov {}, gs:[{irql}]", out(reg_byte) level, irql = const IRQL_OFFSET, options(nostack, readonly, preserves_flags));
    }
    Irql(level)
}

/// Sets the current IRQL and returns the one before.
#[inline(always)]
pub fn set_irql(level: Irql) -> Irql {
    let old = irql();
    // SAFETY: a byte of the installed KPCR page that no Rust reference covers.
    unsafe {
        asm!("mov gs:[{irql}], {}", in(reg_byte) level.0, irql = const IRQL_OFFSET, options(nostack, preserves_flags));
    }
    old
}

/// The IRQL of the thread on a block, which may be another one than the caller's.
///
/// # Safety
/// `host` is the host's part of a block, such as [`current`] gave. Blocks stay mapped until the process ends.
pub unsafe fn irql_of(host: *const HostThread) -> Irql {
    let offset = offset_of!(Pages, host) - offset_of!(Kpcr, irql);
    // SAFETY: a byte of the same block's first page; its owner changes it at any time.
    Irql(unsafe { AtomicU8::from_ptr(host.byte_sub(offset).cast::<u8>().cast_mut()) }.load(Ordering::Relaxed))
}

/// The driver's return address of the import being served (read it before calling into a driver again).
#[inline(always)]
pub fn caller() -> u64 {
    // SAFETY: the installed block outlives the thread's use of it.
    unsafe { (*current()).caller }
}

/// The calling driver thread's `KTHREAD` address.
#[inline(always)]
pub fn current_thread_object() -> u64 {
    let thread: u64;
    // SAFETY: a word of the installed KPCR page.
    unsafe { asm!("mov {}, gs:[0x188]", out(reg) thread, options(nostack, readonly, preserves_flags)) };
    thread
}

/// Leases processor number `processor` to the calling thread: what its driver code reads from now on.
pub fn set_processor(processor: u16) {
    let host = current();
    // SAFETY: the installed block outlives the thread's use of it; drivers only read these fields.
    unsafe {
        (*host).processor = processor;
        let kpcr = host.byte_sub(offset_of!(Pages, host)).cast::<Kpcr>();
        (*kpcr).processor = processor;
        (*kpcr).processor_index = u32::from(processor);
    }
}

/// Records an event in the calling thread's ring.
#[inline(always)]
pub fn record(event: Event) {
    // SAFETY: only this thread touches its ring, and recording does not call back.
    unsafe { (*current()).ring.record(event) }
}

/// Records an event with a text.
#[inline(always)]
pub fn record_with_text(event: Event, text: &str) {
    // SAFETY: as in `record`.
    unsafe { (*current()).ring.record_with_text(event, text) }
}

/// Adds to a counter of the verdict.
#[inline(always)]
pub fn count(counter: Counter, amount: u64) {
    // SAFETY: as in `record`.
    unsafe { (*current()).ring.count(counter, amount) }
}
