//! Threads as fibers on one host thread, in virtual time.
//!
//! The adopted thread stays on its own stack; while it waits, or is preempted, the scheduler runs there and resumes
//! fibers, which come back to it when they wait or are preempted themselves. Nothing here depends on anything but
//! the seed and what the threads do.
//!
//! Virtual time stands still while any thread can run, but for those that only ask whether it has passed: a thread that yields,
//! or looks at the clock, moves it a little, or such a loop would never end. When none can run, it jumps to the earliest deadline; if events
//! from a real network could come, that network is polled first, for as long in real time as the jump is far. When
//! there is neither, the run has come to a deadlock, and ends with a report.
//!
//! Invariants: no lock is held across a switch, neither of this crate nor of the rest of the host; code at DISPATCH_LEVEL is not preempted, because on one processor nothing could; GS is
//! switched with the stack.

use std::io;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use corosensei::{Coroutine, CoroutineResult, Yielder};
use gate::thread::Block;
use host_lock::{Mutex, MutexGuard};
use nt_abi::Irql;

use super::Random;
use super::deadlock;
use super::stack::FiberStack;
use crate::park::Parker;
use crate::{clock, poller};

/// The fiber that is no fiber: the adopted thread on its own stack.
const MAIN: usize = 0;
/// Real time that passed while a real network was waited for becomes virtual in steps of this size.
const REAL_STEP_100NS: u64 = clock::TICK_100NS;

/// What a look without a wait takes.
const LOOK_100NS: u64 = 10;
/// After how many looks the network is polled, although there are threads that can run.
const LOOKS_PER_POLL: u64 = 1000;

static SCHEDULER: Mutex<Scheduler> = Mutex::new(Scheduler { fibers: Vec::new(), real_100ns: 0, pollers_starting: 0 });
static CURRENT: AtomicUsize = AtomicUsize::new(MAIN);
static RANDOM: Random = Random::new(0);
/// One kernel call in how many lets another thread run.
static RATE: AtomicU64 = AtomicU64::new(1);
/// The fiber that was preempted right now, [`NOBODY`] if the last one waits.
static PREEMPTED: AtomicUsize = AtomicUsize::new(NOBODY);
const NOBODY: usize = usize::MAX;
/// Looks without a wait since the network was last polled for them.
static LOOKS: AtomicU64 = AtomicU64::new(0);
/// Interrupt time.
static NOW: AtomicU64 = AtomicU64::new(0);

/// What a fiber does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It can go on.
    Ready,
    /// Until its parker is notified, or interrupt time has come.
    Waiting { deadline: Option<u64> },
    /// Until these bits of the lock at this address are clear.
    Spinning { lock: u64, mask: u32 },
    /// Until the network is to be polled.
    Idle,
    /// The slot is free.
    Ended,
}

/// A thread of the seeded executor.
pub(super) struct Fiber {
    pub(super) state: State,
    pub(super) block: &'static Block,
    pub(super) parker: &'static Parker,
    /// `KTHREAD`.
    pub(super) thread: u64,
    /// Taken out while it runs; none for [`MAIN`].
    coroutine: Option<Coroutine<(), (), (), FiberStack>>,
    /// Leads back to the scheduler; null until the fiber has begun.
    yielder: *const Yielder<(), ()>,
    /// For how long the network is to be polled, for a fiber that does that.
    max_wait: Option<u64>,
    /// Whether it is one of those.
    is_poller: bool,
}

// SAFETY: fibers are made and resumed on the one host thread that `adopt` was called on, which it checks.
unsafe impl Send for Fiber {}

struct Scheduler {
    fibers: Vec<Fiber>,
    /// Real time that passed and is not virtual yet.
    real_100ns: u64,
    /// Fibers that will poll and did not run yet.
    pollers_starting: usize,
}

fn scheduler() -> MutexGuard<'static, Scheduler> {
    SCHEDULER.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn start(seed: u64) -> io::Result<()> {
    RANDOM.seed(seed);
    // Each run draws how often threads are preempted: some races need many switches, others few.
    RATE.store(1 << (2 * RANDOM.below(4)), Ordering::Relaxed);
    gate::stub::set_preemption_hook(hook);
    set_now(0);
    gate::fault::set_time_stamp_clock(time_stamp)
}

/// Makes the calling host thread the one that all fibers run on.
pub(crate) fn adopt(block: &'static Block, parker: &'static Parker, thread: u64) {
    let main = Fiber {
        state: State::Ready,
        block,
        parker,
        thread,
        coroutine: None,
        yielder: std::ptr::null(),
        max_wait: None,
        is_poller: false,
    };
    let mut scheduler = scheduler();
    assert!(scheduler.fibers.is_empty(), "the seeded executor has one host thread");
    scheduler.fibers.push(main);
}

/// What [`spawn`] needs of the thread that the fiber becomes.
pub(crate) struct Seed {
    pub(crate) block: &'static Block,
    pub(crate) parker: &'static Parker,
    pub(crate) thread: u64,
}

/// Makes a fiber. `prepare` gets its stack's range and makes the thread's block; `run` is its life.
///
/// # Errors
/// No room for a stack, or what `prepare` says.
pub(crate) fn spawn<T: 'static>(
    prepare: impl FnOnce(std::ops::Range<u64>) -> io::Result<(Seed, T)>,
    run: impl FnOnce(T) + 'static,
) -> io::Result<()> {
    let stack = FiberStack::take()?;
    let (seed, identity) = prepare(stack.range())?;
    let coroutine = Coroutine::with_stack(stack, move |yielder: &Yielder<(), ()>, ()| {
        scheduler().fibers[CURRENT.load(Ordering::Relaxed)].yielder = yielder;
        run(identity);
    });
    let Seed { block, parker, thread } = seed;
    let fiber = Fiber {
        state: State::Ready,
        block,
        parker,
        thread,
        coroutine: Some(coroutine),
        yielder: std::ptr::null(),
        max_wait: None,
        is_poller: false,
    };
    let mut scheduler = scheduler();
    match scheduler.fibers.iter().position(|fiber| fiber.state == State::Ended) {
        Some(free) => scheduler.fibers[free] = fiber,
        None => scheduler.fibers.push(fiber),
    }
    Ok(())
}

/// Interrupt time.
pub(crate) fn now() -> u64 {
    NOW.load(Ordering::Relaxed)
}

/// Interrupt time for somebody who asks: it moves a little, or a loop that waits for the clock would never end.
pub(crate) fn read_clock() -> u64 {
    set_now(now() + 1);
    now()
}

/// A thousand million ticks a second. In a signal handler.
fn time_stamp() -> u64 {
    read_clock() * 100
}

/// Moves virtual time to `time`, never back.
pub(crate) fn set_now(time: u64) {
    let now = NOW.fetch_max(time, Ordering::Relaxed).max(time);
    if let Some(trace) = gate::trace() {
        trace.set_virtual_time(now);
    }
    clock::refresh_shared_page();
}

/// What every import stub calls first.
extern "win64" fn hook() {
    preempt();
}

/// Lets another thread run, if the seed says so and the level allows it.
pub(crate) fn preempt() {
    if gate::irql() < Irql::DISPATCH && RANDOM.below(RATE.load(Ordering::Relaxed)) == 0 {
        give_way();
    }
}

/// Lets another thread run. The calling one goes on at once only if nobody else can.
pub(super) fn give_way() {
    PREEMPTED.store(CURRENT.load(Ordering::Relaxed), Ordering::Relaxed);
    switch(State::Ready);
}

/// Lets others run, and a little time pass: the calling thread has looked for something and does not wait for it.
pub(super) fn look_in_vain() {
    LOOKS.fetch_add(1, Ordering::Relaxed);
    set_now(now() + LOOK_100NS);
    if gate::irql() < Irql::DISPATCH {
        give_way();
    }
}

/// Waits until the calling thread's parker is notified or `deadline` has come.
pub(crate) fn wait(deadline: Option<u64>) {
    switch(State::Waiting { deadline });
}

/// Lets others run until the bits `mask` of the lock are clear.
pub(super) fn spin(lock: *const u32, mask: u32) {
    switch(State::Spinning { lock: lock as u64, mask });
}

/// The life of a thread that polls the network when the scheduler says so.
pub(crate) fn poll_when_told(poller: &dyn poller::Poller) {
    let me = CURRENT.load(Ordering::Relaxed);
    {
        let mut scheduler = scheduler();
        scheduler.fibers[me].is_poller = true;
        scheduler.pollers_starting -= 1;
    }
    loop {
        switch(State::Idle);
        let max_wait = scheduler().fibers[me].max_wait;
        let before = clock::real_100ns();
        let parker = scheduler().fibers[me].parker;
        parker.while_polling(|| poller.poll(max_wait));
        if max_wait != Some(0) {
            let passed = clock::real_100ns().saturating_sub(before);
            real_time_passed(passed, max_wait);
        }
    }
}

/// Makes virtual what a wait for a real network took: all of it if that was as long as it was allowed to, else in
/// steps, so that short waits leave no trace.
fn real_time_passed(passed: u64, max_wait: Option<u64>) {
    let mut scheduler = scheduler();
    scheduler.real_100ns += passed;
    let moved = match max_wait {
        Some(max_wait) if passed >= max_wait => max_wait,
        _ => scheduler.real_100ns / REAL_STEP_100NS * REAL_STEP_100NS,
    };
    scheduler.real_100ns = scheduler.real_100ns.saturating_sub(moved);
    drop(scheduler);
    set_now(now() + moved);
}

/// Puts the calling thread into `state` and comes back when it was chosen again.
fn switch(state: State) {
    let current = CURRENT.load(Ordering::Relaxed);
    let mut scheduler = scheduler();
    scheduler.fibers[current].state = state;
    let yielder = scheduler.fibers[current].yielder;
    drop(scheduler);
    if current == MAIN {
        run_others();
    } else {
        // SAFETY: this fiber runs, so its coroutine's body, which the yielder belongs to, is on the stack below us.
        unsafe { (*yielder).suspend(()) };
    }
}

/// The scheduler's loop, on the adopted thread's stack, until that thread is chosen.
fn run_others() {
    loop {
        let Some(next) = choose() else {
            add_poller();
            continue;
        };
        CURRENT.store(next, Ordering::Relaxed);
        if next == MAIN {
            return;
        }
        resume(next);
    }
}

/// Runs a fiber until it waits, is preempted or ends.
fn resume(fiber: usize) {
    let mut scheduler = scheduler();
    let (block, main) = (scheduler.fibers[fiber].block, scheduler.fibers[MAIN].block);
    let coroutine = scheduler.fibers[fiber].coroutine.take();
    drop(scheduler);
    let mut coroutine = coroutine.expect("a fiber that was chosen is not running");
    block.switch_to();
    let result = coroutine.resume(());
    main.switch_to();
    CURRENT.store(MAIN, Ordering::Relaxed);
    let mut scheduler = self::scheduler();
    match result {
        CoroutineResult::Yield(()) => scheduler.fibers[fiber].coroutine = Some(coroutine),
        CoroutineResult::Return(()) => scheduler.fibers[fiber].state = State::Ended,
    }
}

/// Chooses who runs next, and marks it ready. Moves time if nobody can run. `None` if the network is to be polled
/// and there is no fiber to do that.
fn choose() -> Option<usize> {
    loop {
        let mut scheduler = scheduler();
        let now = now();
        let mut ready: Vec<usize> = Vec::with_capacity(scheduler.fibers.len());
        ready.extend((0..scheduler.fibers.len()).filter(|&fiber| scheduler.fibers[fiber].can_run(now)));
        let is_polling = scheduler.pollers_starting > 0 || ready.iter().any(|&fiber| scheduler.fibers[fiber].is_poller);
        let is_due = poller::next_deadline().is_some_and(|due| due <= now);
        let is_looked_for = LOOKS.load(Ordering::Relaxed) >= LOOKS_PER_POLL && poller::has_outstanding();
        if (is_due || is_looked_for) && !is_polling {
            ready.push(scheduler.tell_poller(Some(0))?);
            LOOKS.store(0, Ordering::Relaxed);
        }
        let preempted = PREEMPTED.swap(NOBODY, Ordering::Relaxed);
        if ready.len() > 1 {
            ready.retain(|&fiber| fiber != preempted);
        }
        if !ready.is_empty() {
            let next = ready[RANDOM.below(ready.len() as u64) as usize];
            scheduler.choose(next);
            return Some(next);
        }
        let deadlines = scheduler.fibers.iter().filter_map(Fiber::deadline);
        let next = deadlines.chain(poller::next_deadline()).min();
        if poller::has_outstanding() {
            let next = scheduler.tell_poller(next.map(|next| next - now))?;
            scheduler.choose(next);
            return Some(next);
        }
        match next {
            Some(next) => {
                drop(scheduler);
                set_now(next);
            }
            None => deadlock::report(&scheduler.fibers),
        }
    }
}

impl Scheduler {
    /// Notes for how long the network is to be polled, with a fiber that is there for that.
    fn tell_poller(&mut self, max_wait: Option<u64>) -> Option<usize> {
        let idle = self.fibers.iter().position(|fiber| fiber.state == State::Idle)?;
        self.fibers[idle].max_wait = max_wait;
        Some(idle)
    }

    fn choose(&mut self, next: usize) {
        self.fibers[next].state = State::Ready;
    }
}

/// Makes a fiber that polls. Called on the adopted thread's stack and block.
fn add_poller() {
    scheduler().pollers_starting += 1;
    // There is none yet, or all are in callbacks that wait. Without room for another the run cannot go on.
    poller::start_polling_fiber().expect("room for a fiber that polls the network");
}

impl Fiber {
    fn can_run(&self, now: u64) -> bool {
        match self.state {
            State::Ready => true,
            State::Waiting { deadline } => {
                self.parker.is_notified() || deadline.is_some_and(|deadline| deadline <= now)
            }
            // What cannot be read is no lock any more; its spinner will fault on it and be blamed.
            State::Spinning { lock, mask } => gate::memory::read_value::<u32>(lock).unwrap_or(0) & mask == 0,
            State::Idle | State::Ended => false,
        }
    }

    fn deadline(&self) -> Option<u64> {
        if let State::Waiting { deadline } = self.state { deadline } else { None }
    }
}
