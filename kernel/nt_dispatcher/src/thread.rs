//! System threads (K-134) and what the dispatcher keeps per thread.
//!
//! A thread's object (`KTHREAD` to drivers) is an `nt_object` body that begins with a dispatcher header, so
//! it can be waited on; what the host keeps lies in a [`Record`] of its own, reached through GS.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{OnceLock, PoisonError};

use gate::shared_page;
use gate::thread::{Block, host_stack};
use host_lock::{Mutex, MutexGuard};
use nt_abi::dispatcher::{DispatcherType, Mutant};
use nt_abi::exception::BugCheck;
use nt_abi::{DispatcherHeader, Irql, ListEntry, NtStatus};
use nt_object::ObjectType;
use trace::Event;

use crate::event::signal_state;
use crate::executor::{self, seeded};
use crate::park::Parker;
use crate::queue::{self, Membership};
use crate::{clock, clock_thread, describe, pin, poller, wait};

/// Stack of a driver thread. NT gives 24 KiB; host code below an import needs more.
pub(crate) const STACK_BYTES: usize = 512 << 10;
/// Most threads. Each takes Linux six mappings, of which a process has 65,530.
const THREADS_MAX: usize = 8192;
/// Bytes of a thread object; drivers read nothing past the header.
const BODY_BYTES: u64 = 0x400;
/// Where the thread's id lies in its object, its priority, and its base priority's increment.
const ID: u64 = 0x100;
const PRIORITY: u64 = 0x108;
const BASE_INCREMENT: u64 = 0x10C;
/// Where the number of mutexes lies that it holds.
const MUTEXES: u64 = 0x110;
/// Whether it wants hard errors kept from the user.
const NO_HARD_ERRORS: u64 = 0x114;
/// What it said when it ended itself, and where its routine begins.
const EXIT_STATUS: u64 = 0x118;
const START: u64 = 0x120;
/// When it was made and when it ended, by the clock that drivers read; how long it has run, known from its end on.
const CREATED: u64 = 0x128;
const ENDED: u64 = 0x130;
const RUN_TIME: u64 = 0x138;
/// Its number for Linux, 0 for a fiber.
const HOST_ID: u64 = 0x140;
/// Where it may run, and where for the time being, 0 without such a restriction.
const AFFINITY: u64 = 0x148;
const SYSTEM_AFFINITY: u64 = 0x150;
/// The number of its own processor, and one more than that of another that it has leased to run there, 0 without one.
const HOME: u64 = 0x158;
const VISITED: u64 = 0x15C;
/// The priority that system threads begin with.
pub(crate) const PRIORITY_AT_FIRST: i32 = 8;
/// Processor numbers handed out; drivers index arrays of KeNumberProcessors entries with them.
pub const PROCESSORS: u32 = 64;

/// A bit for each of them.
pub(crate) const ALL_PROCESSORS: u64 = u64::MAX >> (64 - PROCESSORS);

/// Threads.
pub static THREAD: ObjectType = ObjectType::simple("Thread", |_| {});

/// What the host keeps of a thread. Never freed, because a waker may look at a parker late; used again.
#[derive(Debug)]
struct Record {
    parker: Parker,
    /// Critical and guarded regions the thread is in (K-145).
    regions: AtomicI32,
    /// Alerted, and no alertable wait has ended for that yet (K-125).
    is_alerted: AtomicBool,
    /// Whether it runs a driver's routine, which may end it (K-134).
    is_drivers: AtomicBool,
    /// DPCs that run on it, one inside another.
    dpcs: AtomicU32,
    /// The queue that it took from last. Only the thread itself comes here.
    queue: Cell<Membership>,
}

// SAFETY: words of several threads are atomic; the cell is its own thread's.
unsafe impl Sync for Record {}

/// The records of threads that have not ended, by their objects.
static RUNNING: Mutex<BTreeMap<u64, &'static Record>> = Mutex::new(BTreeMap::new());
static FREE_RECORDS: Mutex<Vec<&'static Record>> = Mutex::new(Vec::new());
static NUMBERS: AtomicU16 = AtomicU16::new(0);
/// Thread ids are multiples of 4; the first is behind the system process'.
static LAST_ID: AtomicU64 = AtomicU64::new(4);
/// One bit for each leased processor number.
static LEASED: AtomicU64 = AtomicU64::new(0);
/// Threads that are signalled and still have their own reference.
static ENDING: AtomicU32 = AtomicU32::new(0);
static ON_END: OnceLock<fn(thread: u64)> = OnceLock::new();
static OBSERVER: OnceLock<fn(thread: u64, change: Change)> = OnceLock::new();

/// What a thread runs.
#[derive(Clone, Copy, Debug)]
pub enum Start {
    /// A driver's routine: `void (void *context)`.
    Driver(u64),
    /// A function of the host.
    Host(fn(context: u64)),
}

/// What happens to a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was made and is about to run. Told in its creator's thread.
    Created,
    /// Its routine is over. Told in itself.
    Ended,
}

/// Sets what is told of drivers' threads, without locks, so that it may call drivers (`PsSetCreateThreadNotifyRoutine`).
/// Set once.
pub fn set_observer(observer: fn(thread: u64, change: Change)) {
    let _ = OBSERVER.set(observer);
}

fn observe(thread: u64, start: Start, change: Change) {
    if let (Start::Driver(_), Some(observer)) = (start, OBSERVER.get()) {
        observer(thread, change);
    }
}

/// Sets what is told of each thread that ends, before its object is signalled (K-067). Set once.
pub fn set_on_end(on_end: fn(thread: u64)) {
    let _ = ON_END.set(on_end);
}

fn running() -> MutexGuard<'static, BTreeMap<u64, &'static Record>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn current_record() -> &'static Record {
    // SAFETY: `Identity::prepare` stored the address of a record that is never freed.
    unsafe { &*((*gate::current()).dispatcher as *const Record) }
}

/// The calling thread's parker.
pub(crate) fn current_parker() -> &'static Parker {
    &current_record().parker
}

/// Which queue the calling thread belongs to.
pub(crate) fn queue_membership() -> Membership {
    current_record().queue.get()
}

/// Notes that it belongs to another, or otherwise.
pub(crate) fn set_queue_membership(membership: Membership) {
    current_record().queue.set(membership);
}

/// Enters a critical or guarded region. Nothing is delivered to threads here that a region would hold up; that it
/// was entered is checked where drivers must have done it (K-145).
pub(crate) fn enter_region() {
    current_record().regions.fetch_add(1, Ordering::Relaxed);
}

/// Leaves a critical or guarded region. `false` if the thread was in none.
pub(crate) fn leave_region() -> bool {
    let regions = &current_record().regions;
    let was_inside = regions.load(Ordering::Relaxed) > 0;
    if was_inside {
        regions.fetch_sub(1, Ordering::Relaxed);
    }
    was_inside
}

/// Does `work`, which calls a driver's routine, and sees to it that the routine left the critical and guarded regions that it
/// entered, and no others. NT ends with APC_INDEX_MISMATCH when a thread leaves the kernel so.
pub fn keeping_regions<R>(routine: u64, work: impl FnOnce() -> R) -> R {
    let regions = &current_record().regions;
    let before = regions.load(Ordering::Relaxed);
    let result = work();
    let after = regions.swap(before, Ordering::Relaxed);
    if after != before {
        gate::finding(
            "K-145",
            format_args!(
                "A routine began inside of {before} critical or guarded regions and returned inside of {after}: Windows ends so with \
                 APC_INDEX_MISMATCH (1). The {before} were restored."
            ),
            // Places of findings are read as return addresses: the function is looked up one byte before.
            routine.wrapping_add(1),
        );
    }
    result
}

/// Whether normal kernel APCs are disabled for the calling thread.
pub(crate) fn is_in_region() -> bool {
    gate::irql() >= Irql::APC || current_record().regions.load(Ordering::Relaxed) > 0
}

/// Says what the thread with this record waits for, if it does. For signal handlers.
fn describe_wait(record: u64, to: &mut dyn std::fmt::Write) {
    // SAFETY: blocks name records, which are never freed, or none.
    let object = unsafe { (record as *const Record).as_ref() }.map_or(0, |record| record.parker.object());
    if object != 0 {
        describe::wait_on(object, to);
    }
}

/// Notes that the calling thread runs a DPC from now on.
pub(crate) fn enter_dpc() {
    current_record().dpcs.fetch_add(1, Ordering::Relaxed);
}

/// Notes that it does so no more.
pub(crate) fn leave_dpc() {
    current_record().dpcs.fetch_sub(1, Ordering::Relaxed);
}

/// Whether the calling thread runs a DPC.
pub(crate) fn is_in_dpc() -> bool {
    current_record().dpcs.load(Ordering::Relaxed) > 0
}

/// Whether the calling thread runs a driver's routine. Others are the host's and serve everybody.
pub(crate) fn is_drivers() -> bool {
    current_record().is_drivers.load(Ordering::Relaxed)
}

/// Alerts a thread: its alertable wait, this or the next, ends with STATUS_ALERTED. Gives whether it was alerted
/// already.
///
/// IRQL: up to DISPATCH_LEVEL.
pub fn alert(thread: u64) -> bool {
    let running = running().get(&thread).copied();
    let Some(record) = running else { return false };
    let was_alerted = record.is_alerted.swap(true, Ordering::AcqRel);
    record.parker.unpark();
    was_alerted
}

/// Takes the calling thread's alert, if there is one.
pub(crate) fn take_alert() -> bool {
    let is_alerted = &current_record().is_alerted;
    is_alerted.load(Ordering::Acquire) && is_alerted.swap(false, Ordering::AcqRel)
}

/// Ends the run because the calling thread waits for `object`, which it holds itself.
#[cold]
pub(crate) fn wait_for_self(object: u64, what: &str) -> ! {
    gate::bugcheck::with_message(
        BugCheck::DRYDOCK_DEADLOCK,
        [1, gate::thread::current_thread_object(), object, 0],
        gate::caller(),
        format_args!("The thread waits for {what} ({object:#x}) that it holds itself: it would wait for ever."),
    )
}

/// Whether `parker` is the calling thread's.
pub(crate) fn is_current(parker: &Parker) -> bool {
    // SAFETY: the installed block; what it names, if anything, is a record that is never freed.
    unsafe {
        let record = (*gate::current()).dispatcher as *const Record;
        !record.is_null() && std::ptr::eq(&raw const (*record).parker, parker)
    }
}

/// A thread's object, block and record, taken on by the host thread or fiber that becomes it.
struct Identity {
    body: u64,
    block: &'static Block,
    record: &'static Record,
    processor: u32,
}

impl Identity {
    /// For a thread that will run on `stack`; `OutOfMemory` if there are too many.
    fn prepare(body: u64, stack: Range<u64>) -> std::io::Result<Self> {
        if running().len() >= THREADS_MAX {
            return Err(std::io::ErrorKind::OutOfMemory.into());
        }
        let processor = lease();
        word(body, HOME).store(processor as i32, Ordering::Relaxed);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let block = Block::new(stack, body, number, processor as u16)?;
        let free = FREE_RECORDS.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let record = free.unwrap_or_else(|| {
            Box::leak(Box::new(Record {
                parker: Parker::new(),
                regions: AtomicI32::new(0),
                is_alerted: AtomicBool::new(false),
                is_drivers: AtomicBool::new(false),
                dpcs: AtomicU32::new(0),
                queue: Cell::default(),
            }))
        });
        record.regions.store(0, Ordering::Relaxed);
        record.is_alerted.store(false, Ordering::Relaxed);
        record.is_drivers.store(false, Ordering::Relaxed);
        record.dpcs.store(0, Ordering::Relaxed);
        record.queue.set(Membership::default());
        // SAFETY: the block is new, and nobody runs on it yet.
        unsafe { (*block.host()).dispatcher = std::ptr::from_ref(record) as u64 };
        running().insert(body, record);
        Ok(Self { body, block, record, processor })
    }

    /// For the calling host thread.
    fn take_on(body: u64) -> std::io::Result<Self> {
        let identity = Self::prepare(body, host_stack()?)?;
        identity.block.install();
        Ok(identity)
    }

    /// For a thread that could not be started.
    fn give_back(self) {
        running().remove(&self.body);
        LEASED.fetch_and(!(1 << self.processor), Ordering::Relaxed);
        FREE_RECORDS.lock().unwrap_or_else(PoisonError::into_inner).push(self.record);
        // SAFETY: nobody has run on it.
        unsafe { self.block.release() };
    }

    /// Ends the thread: tells whom it concerns, signals the object, gives everything back.
    fn put_off(self) {
        queue::leave();
        if let Some(on_end) = ON_END.get() {
            on_end(self.body);
        }
        // A driver that ended its thread inside a completion routine did so inside the network's poll, perhaps.
        poller::abandon(&self.record.parker);
        running().remove(&self.body);
        let mutexes = word(self.body, MUTEXES).load(Ordering::Acquire);
        if mutexes > 0 {
            gate::bugcheck::with_message(
                BugCheck::THREAD_TERMINATE_HELD_MUTEX,
                [self.body, 0, 0, 0],
                nt_object::allocating_caller(self.body),
                format_args!("A thread that was created here ended while it held {mutexes} mutex(es)."),
            );
        }
        gate::record(Event::ThreadEnded { thread: self.body });
        long_word(self.body, RUN_TIME).store(run_time(self.body), Ordering::Relaxed);
        long_word(self.body, ENDED).store(shared_page::system_time_100ns(), Ordering::Relaxed);
        word(self.body, HOST_ID).store(0, Ordering::Relaxed);
        leave_visited(self.body);
        ENDING.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the object is alive: this thread holds a reference until the next lines.
        unsafe { signal_state(self.body) }.store(1, Ordering::SeqCst);
        wait::wake(self.body);
        nt_object::dereference(self.body);
        ENDING.fetch_sub(1, Ordering::SeqCst);
        nt_object::release_thread_caches();
        LEASED.fetch_and(!(1 << self.processor), Ordering::Relaxed);
        self.record.parker.reset();
        FREE_RECORDS.lock().unwrap_or_else(PoisonError::into_inner).push(self.record);
        // SAFETY: the last use of this thread's block.
        unsafe { self.block.release() };
    }
}

/// A processor number of its own for each thread, as long as there are any: no two threads at
/// DISPATCH_LEVEL may share one. Beyond 64 threads the last number is shared.
fn lease() -> u32 {
    let free = |leased: u64| (leased != u64::MAX).then(|| leased | (leased + 1));
    match LEASED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free) {
        Ok(before) => before.trailing_ones(),
        Err(_) => PROCESSORS - 1,
    }
}

/// Leases one of the processors in a mask, if one is free.
fn lease_one_of(mask: u64) -> Option<u32> {
    let take = |leased: u64| match mask & !leased {
        0 => None,
        free => Some(leased | 1 << free.trailing_zeros()),
    };
    let before = LEASED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
    Some((mask & !before).trailing_zeros())
}

fn leave_visited(thread: u64) {
    let visited = word(thread, VISITED).swap(0, Ordering::Relaxed);
    if visited != 0 {
        LEASED.fetch_and(!(1 << (visited - 1)), Ordering::Relaxed);
    }
}

/// Where a thread may run: a bit for each processor.
pub(crate) fn affinity(thread: u64) -> u64 {
    match long_word(thread, SYSTEM_AFFINITY).load(Ordering::Relaxed) {
        0 => long_word(thread, AFFINITY).load(Ordering::Relaxed),
        system => system,
    }
}

/// Sets where a thread may run for good.
pub(crate) fn set_affinity(thread: u64, mask: u64) {
    long_word(thread, AFFINITY).store(mask, Ordering::Relaxed);
    if thread == gate::thread::current_thread_object() {
        settle(thread);
    }
}

/// Sets where the calling thread may run for the time being, 0 for where it may for good. Gives what was set before.
pub(crate) fn set_system_affinity(mask: u64) -> u64 {
    let thread = gate::thread::current_thread_object();
    let before = long_word(thread, SYSTEM_AFFINITY).swap(mask, Ordering::Relaxed);
    settle(thread);
    before
}

/// Gives the calling thread the number of a processor that it may run on: its own, or else one that no other thread has, or
/// else one that another has, which at DISPATCH_LEVEL then keeps nobody out, as with more threads than processors.
///
/// At DISPATCH_LEVEL a thread stays where it is; it moves with the next change below that.
fn settle(thread: u64) {
    if gate::irql() >= Irql::DISPATCH {
        return;
    }
    let (wanted, home) = (affinity(thread), word(thread, HOME).load(Ordering::Relaxed));
    pin::to(wanted);
    let visited = word(thread, VISITED).load(Ordering::Relaxed);
    if wanted & 1 << home != 0 {
        leave_visited(thread);
        gate::thread::set_processor(home as u16);
    } else if visited == 0 || wanted & 1 << (visited - 1) == 0 {
        leave_visited(thread);
        let leased = lease_one_of(wanted);
        word(thread, VISITED).store(leased.map_or(0, |number| number as i32 + 1), Ordering::Relaxed);
        gate::thread::set_processor(leased.unwrap_or_else(|| wanted.trailing_zeros()) as u16);
    }
}

/// Makes the calling host thread a thread of the kernel, for good: the one that loads and drives drivers.
///
/// # Errors
/// What the operating system says, or `OutOfMemory`.
pub fn adopt_current() -> std::io::Result<()> {
    adopt_current_and(|| ())
}

/// As [`adopt_current`]; `alone` runs when that is done and before the kernel starts a thread of its own.
///
/// # Errors
/// As [`adopt_current`].
pub(crate) fn adopt_current_and(alone: impl FnOnce()) -> std::io::Result<()> {
    // The object needs this thread's caches, and those need a block: a first one serves until the second.
    gate::fault::set_wait_description(describe_wait);
    let first = Block::new(host_stack()?, 0, NUMBERS.load(Ordering::Relaxed), 0)?;
    first.install();
    let body = new_object(0).ok_or(std::io::ErrorKind::OutOfMemory)?;
    // Never put off: this thread loads and drives drivers until the process ends.
    let identity = Identity::take_on(body)?;
    // SAFETY: the thread runs on its second block now.
    unsafe { first.release() };
    note_host_id(body);
    if executor::is_seeded() {
        seeded::adopt(identity.block, &identity.record.parker, body);
    }
    gate::record(Event::ThreadStarted { thread: body, start: 0 });
    alone();
    clock_thread::start();
    Ok(())
}

fn new_object(caller: u64) -> Option<u64> {
    let body = nt_object::create(&THREAD, BODY_BYTES, caller)?;
    let header = body as *mut DispatcherHeader;
    // SAFETY: a new body of our own, large enough for a header.
    unsafe {
        (*header).kind = DispatcherType::THREAD;
        let list = &raw mut (*header).wait_list_head;
        *list = ListEntry { flink: list, blink: list };
        ((body + ID) as *mut u64).write(LAST_ID.fetch_add(4, Ordering::Relaxed) + 4);
        ((body + PRIORITY) as *mut i32).write(PRIORITY_AT_FIRST);
        ((body + AFFINITY) as *mut u64).write(ALL_PROCESSORS);
        ((body + CREATED) as *mut u64).write(shared_page::system_time_100ns());
    }
    Some(body)
}

/// The id of a thread, 0 if `thread` is none.
pub fn id(thread: u64) -> u64 {
    // SAFETY: a live thread's body; the id does not change while it lives.
    if is_thread(thread) { unsafe { *((thread + ID) as *const u64) } } else { 0 }
}

/// The thread with an id, referenced.
pub fn lookup(wanted: u64) -> Option<u64> {
    let mut found = None;
    nt_object::for_each_live(&THREAD, |body| {
        if found.is_none() && nt_object::try_reference(body) {
            if id(body) == wanted {
                found = Some(body);
            } else {
                nt_object::dereference(body);
            }
        }
    });
    found
}

fn is_thread(body: u64) -> bool {
    nt_object::type_of(body).is_some_and(|kind| std::ptr::eq(kind, &THREAD))
}

/// A word of a thread's object; what is no thread ends the run.
fn word<'a>(thread: u64, offset: u64) -> &'a AtomicI32 {
    if !is_thread(thread) {
        gate::bugcheck(BugCheck::REFERENCE_BY_POINTER, [0, thread, 0, 0]);
    }
    // SAFETY: a thread's body, whose memory stays mapped whatever happens to it.
    unsafe { AtomicI32::from_ptr((thread + offset) as *mut i32) }
}

/// A double word of a thread's object.
fn long_word<'a>(thread: u64, offset: u64) -> &'a AtomicU64 {
    let low: *const AtomicI32 = word(thread, offset);
    // SAFETY: as in `word`; the double words lie at multiples of eight.
    unsafe { AtomicU64::from_ptr(low as *mut u64) }
}

/// Notes which of Linux' threads the calling one is, unless it is a fiber, which shares one.
fn note_host_id(body: u64) {
    if !executor::is_seeded() {
        // SAFETY: no preconditions.
        word(body, HOST_ID).store(unsafe { libc::gettid() }, Ordering::Relaxed);
    }
}

/// When a thread was made and when it ended, in system time as drivers read it; 0 for one that has not.
pub(crate) fn life_span(thread: u64) -> (u64, u64) {
    (long_word(thread, CREATED).load(Ordering::Relaxed), long_word(thread, ENDED).load(Ordering::Relaxed))
}

/// How long a thread has run. In virtual time nothing takes any.
pub(crate) fn run_time(thread: u64) -> u64 {
    match word(thread, HOST_ID).load(Ordering::Relaxed) {
        0 => long_word(thread, RUN_TIME).load(Ordering::Relaxed),
        // Between its last words and this it may have ended.
        host => clock::run_time_100ns(host).unwrap_or_else(|| long_word(thread, RUN_TIME).load(Ordering::Relaxed)),
    }
}

/// Where a thread's routine begins, 0 for the host's.
pub(crate) fn start_of(thread: u64) -> u64 {
    long_word(thread, START).load(Ordering::Relaxed)
}

/// What the calling thread ends with.
pub(crate) fn set_exit_status(status: NtStatus) {
    word(gate::thread::current_thread_object(), EXIT_STATUS).store(status.0 as i32, Ordering::Relaxed);
}

/// What a thread has ended with, STATUS_PENDING before.
pub(crate) fn exit_status(thread: u64) -> NtStatus {
    if has_ended(thread) {
        NtStatus(word(thread, EXIT_STATUS).load(Ordering::Relaxed) as u32)
    } else {
        NtStatus::PENDING
    }
}

/// How far a thread's base priority is from its process'.
pub(crate) fn base_increment(thread: u64) -> i32 {
    word(thread, BASE_INCREMENT).load(Ordering::Relaxed)
}

/// A thread's priority. Kept and told, but of no effect.
pub fn priority(thread: u64) -> i32 {
    word(thread, PRIORITY).load(Ordering::Relaxed)
}

/// Sets a thread's priority and gives the one before.
pub fn set_priority(thread: u64, priority: i32) -> i32 {
    word(thread, PRIORITY).swap(priority, Ordering::Relaxed)
}

/// Sets how far a thread's base priority is from its process', and gives the distance before.
pub fn set_base_increment(thread: u64, increment: i32) -> i32 {
    word(thread, BASE_INCREMENT).swap(increment, Ordering::Relaxed)
}

/// Sets whether the calling thread's hard errors are to be shown to a user, and gives what was set before.
pub fn set_hard_errors(are_shown: bool) -> bool {
    let current = gate::thread::current_thread_object();
    word(current, NO_HARD_ERRORS).swap((!are_shown).into(), Ordering::Relaxed) == 0
}

/// Starts a thread at PASSIVE_LEVEL and gives its object, referenced for the caller.
///
/// # Errors
/// STATUS_INSUFFICIENT_RESOURCES.
///
/// IRQL: PASSIVE_LEVEL.
pub fn create(start: Start, context: u64, caller: u64) -> Result<u64, NtStatus> {
    let body = new_object(caller).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
    nt_object::reference(body);
    observe(body, start, Change::Created);
    if spawn(body, start, context).is_err() {
        nt_object::dereference(body);
        nt_object::dereference(body);
        return Err(NtStatus::INSUFFICIENT_RESOURCES);
    }
    Ok(body)
}

fn spawn(body: u64, start: Start, context: u64) -> std::io::Result<()> {
    if executor::is_seeded() {
        let prepare = |stack| {
            let identity = Identity::prepare(body, stack)?;
            Ok((seeded::Seed { block: identity.block, parker: &identity.record.parker, thread: body }, identity))
        };
        return seeded::spawn(prepare, move |identity| live(identity, start, context));
    }
    // Here, where a lack of room can still be told.
    let identity = Identity::prepare(body, 0..0)?;
    let Identity { block, record, processor, .. } = identity;
    let run = move || {
        let stack = host_stack().expect("the C library knows the stack that it made");
        // SAFETY: nobody runs on the block yet.
        unsafe { block.set_stack(stack) };
        block.install();
        pin::nowhere();
        live(Identity { body, block, record, processor }, start, context);
    };
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn(run).map(drop).inspect_err(|_| identity.give_back())
}

fn live(identity: Identity, start: Start, context: u64) {
    let routine = if let Start::Driver(routine) = start { routine } else { 0 };
    long_word(identity.body, START).store(routine, Ordering::Relaxed);
    note_host_id(identity.body);
    // Drivers' threads begin inside a critical region (K-134).
    identity.record.regions.store(i32::from(routine != 0), Ordering::Relaxed);
    identity.record.is_drivers.store(matches!(start, Start::Driver(_)), Ordering::Relaxed);
    gate::record(Event::ThreadStarted { thread: identity.body, start: routine });
    let job = (start, context, nt_object::allocating_caller(identity.body));
    gate::call::enter(perform, std::ptr::from_ref(&job) as u64);
    let over = (identity.body, start);
    gate::call::enter(tell_end, std::ptr::from_ref(&over) as u64);
    identity.put_off();
}

/// Entered anew: a routine that is told may end the thread, which is over anyway.
extern "C" fn tell_end(over: u64) {
    // SAFETY: `live` passes the address of its own pair and waits for us.
    let (thread, start) = unsafe { *(over as *const (u64, Start)) };
    observe(thread, start, Change::Ended);
}

/// The body of a thread; `leave` comes back to the `enter` around it.
extern "C" fn perform(job: u64) {
    // SAFETY: `live` passes the address of its own pair and waits for us.
    let (start, context, creator) = unsafe { *(job as *const (Start, u64, u64)) };
    match start {
        Start::Driver(routine) => {
            // SAFETY: the driver asked for this routine to be called so.
            let call = || unsafe { gate::call::call1(routine, context) };
            gate::call::on_behalf(creator, || keeping_regions(routine, call));
        }
        Start::Host(function) => function(context),
    }
}

/// Whether a thread's routine is over. What is no thread ends the run.
pub fn has_ended(thread: u64) -> bool {
    word(thread, std::mem::offset_of!(DispatcherHeader, signal_state) as u64).load(Ordering::Acquire) != 0
}

/// Visits the threads that run driver code and have not ended.
pub fn for_each_running(mut visit: impl FnMut(u64, u64)) {
    nt_object::for_each_live(&THREAD, |body| {
        let caller = nt_object::allocating_caller(body);
        // SAFETY: the object was alive a moment ago, and its memory stays mapped whatever happens to it.
        if caller != 0 && unsafe { signal_state(body) }.load(Ordering::Acquire) == 0 {
            visit(body, caller);
        }
    });
}

/// Visits the threads that have ended and whose objects are there all the same, without a handle: somebody kept a
/// reference. With the driver instruction that created each.
pub fn for_each_ended(mut visit: impl FnMut(u64, u64)) {
    // A thread gives its own reference back a few instructions after whoever waits for it can know of its end.
    while ENDING.load(Ordering::SeqCst) != 0 {
        executor::give_way();
    }
    nt_object::for_each_live(&THREAD, |body| {
        // SAFETY: as in `for_each_running`.
        let has_ended = unsafe { signal_state(body) }.load(Ordering::Acquire) != 0;
        if has_ended && nt_object::handle_count(body) == Some(0) {
            visit(body, nt_object::allocating_caller(body));
        }
    });
}

/// Takes a mutant for `thread` if it is free or its own (recursion).
///
/// # Safety
/// `object` is an initialised mutant.
pub(crate) unsafe fn take_mutant(object: u64, thread: u64) -> bool {
    // SAFETY: the caller's promise.
    let (state, owner, is_owner) = unsafe { (signal_state(object), owner(object), owns_mutant(object, thread)) };
    if is_owner {
        state.fetch_sub(1, Ordering::Relaxed);
        return true;
    }
    let taken = state.compare_exchange(1, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok();
    if taken {
        owner.store(thread, Ordering::Release);
        word(thread, MUTEXES).fetch_add(1, Ordering::Relaxed);
    }
    taken
}

/// Whether `thread` owns the mutant.
///
/// # Safety
/// `object` is an initialised mutant.
pub(crate) unsafe fn owns_mutant(object: u64, thread: u64) -> bool {
    // SAFETY: the caller's promise.
    unsafe { signal_state(object).load(Ordering::Acquire) <= 0 && owner(object).load(Ordering::Acquire) == thread }
}

/// Gives up one acquisition of a mutant; the last one frees it.
///
/// # Safety
/// `object` is an initialised mutant that `thread` owns.
pub(crate) unsafe fn return_mutant(object: u64, thread: u64) {
    // SAFETY: the caller's promise.
    let (state, owner) = unsafe { (signal_state(object), owner(object)) };
    if state.load(Ordering::Relaxed) == 0 {
        owner.store(0, Ordering::Release);
        word(thread, MUTEXES).fetch_sub(1, Ordering::Relaxed);
    }
    state.fetch_add(1, Ordering::SeqCst);
}

/// `KeReleaseMutex`: gives the signal state before. A mutant of another thread ends the run (K-153).
///
/// # Safety
/// `object` is an initialised mutant.
pub unsafe fn release_mutant(object: u64) -> i32 {
    let thread = gate::thread::current_thread_object();
    // SAFETY: the caller's promise.
    let (state, owner) = unsafe { (signal_state(object), owner(object)) };
    if owner.load(Ordering::Acquire) != thread {
        gate::bugcheck(BugCheck::THREAD_NOT_MUTEX_OWNER, [thread, owner.load(Ordering::Relaxed), object, 0]);
    }
    let old: i32 = AtomicI32::load(state, Ordering::Relaxed);
    // SAFETY: owned by this thread, as just checked.
    unsafe { return_mutant(object, thread) };
    wait::wake(object);
    old
}

/// Frees the mutant, however often the calling thread acquired it. The next wait that takes it is told (`STATUS_ABANDONED`).
/// Gives the signal state before.
///
/// # Safety
/// `object` is an initialised mutant that the calling thread owns.
pub unsafe fn abandon_mutant(object: u64) -> i32 {
    // SAFETY: the caller's promise.
    let (state, owner) = unsafe { (signal_state(object), owner(object)) };
    // SAFETY: as above.
    unsafe { abandoned(object) }.store(1, Ordering::Relaxed);
    owner.store(0, Ordering::Release);
    word(gate::thread::current_thread_object(), MUTEXES).fetch_sub(1, Ordering::Relaxed);
    let old = state.swap(1, Ordering::SeqCst);
    wait::wake(object);
    old
}

/// Forgets that the mutant was abandoned: whether it was, and `thread` owns it.
///
/// # Safety
/// `object` is an initialised mutant.
pub(crate) unsafe fn forget_abandonment(object: u64, thread: u64) -> bool {
    // SAFETY: the caller's promise.
    unsafe { owns_mutant(object, thread) && abandoned(object).swap(0, Ordering::Relaxed) != 0 }
}

unsafe fn abandoned<'a>(object: u64) -> &'a AtomicU8 {
    // SAFETY: the caller's promise: a mutant.
    unsafe { AtomicU8::from_ptr((object as usize + std::mem::offset_of!(Mutant, abandoned)) as *mut u8) }
}

unsafe fn owner<'a>(object: u64) -> &'a AtomicU64 {
    // SAFETY: the caller's promise: a mutant, whose owner word is aligned.
    unsafe { AtomicU64::from_ptr((object as usize + std::mem::offset_of!(Mutant, owner_thread)) as *mut u64) }
}
