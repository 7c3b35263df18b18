//! Leader and followers: a thread that waits while network work is outstanding does that work itself.
//!
//! A request and its answer then need no hop between threads: the thread that waits for the answer is the
//! one that polls for it. One thread at a time leads; the others sleep and are woken by what the leader
//! completes. A leader that leaves wakes nobody; the fallback thread of the host sees to it within a bounded
//! grace ([`GRACE`]) that somebody leads: a thread that found the lead taken, or itself.
//!
//! Why nothing is left lying: the fallback thread sleeps without bound only after it said so ([`DOZING`]) and
//! then saw that somebody leads or that there is nothing to do. A leader that leaves, and a poller that gets
//! something to do ([`changed`]), look at that word afterwards. Both sides fence between the two steps, so one
//! of them sees the other. In the same way [`POLLING_UNTIL`] and the poller's deadline meet.

use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};
use std::time::Duration;

use nt_abi::{Irql, NtStatus};

use crate::clock;
use crate::executor::{self, seeded};
use crate::park::{Parker, futex_wait, futex_wake};
use crate::thread::{self, Start};

/// How long outstanding work may go unpolled before the fallback thread sees to it.
const GRACE: Duration = Duration::from_millis(1);

/// The network's event loop, as the dispatcher needs it.
pub trait Poller: Sync {
    /// Waits for events for at most `max_wait_100ns` (`None`: until woken), handles those that came together
    /// and what is due, and returns: whoever waits for one of them waits in here.
    ///
    /// Called at PASSIVE_LEVEL, without locks, by one thread at a time; what it completes may run driver code.
    /// Such code may wait, and then another thread polls while this call is still in its callback: no lock may
    /// be held across callbacks, and the events of one call belong to that call alone.
    ///
    /// Under the seeded executor a `max_wait_100ns` other than 0 is real time: it is given only while
    /// [`Poller::has_outstanding`], and no thread can run before this returns.
    fn poll(&self, max_wait_100ns: Option<u64>);
    /// Makes a running or the next [`Poller::poll`] return.
    fn wake(&self);
    /// Whether events from outside could come: from a real network, never from a virtual one. Asked at every wait that blocks: a load or two.
    fn has_outstanding(&self) -> bool;
    /// The interrupt time ([`clock::now_100ns`]) from which on polling brings something without any event from
    /// outside: a request's timeout, a virtual network's next packet. Asked as often as
    /// [`Poller::has_outstanding`].
    fn next_deadline_100ns(&self) -> Option<u64>;
}

static POLLER: OnceLock<&'static dyn Poller> = OnceLock::new();
/// Who leads, by the address of its parker.
static LEADER: AtomicPtr<Parker> = AtomicPtr::new(ptr::null_mut());
/// The fallback thread's parker.
static FALLBACK: AtomicPtr<Parker> = AtomicPtr::new(ptr::null_mut());
/// A thread that found the lead taken and would take it over. It may have left meanwhile: waking it is harmless.
static CLAIMANT: AtomicPtr<Parker> = AtomicPtr::new(ptr::null_mut());
/// Counts leaderships, so that the fallback thread can tell whether anybody led since it last looked.
static TURNS: AtomicU64 = AtomicU64::new(0);
/// 1 while the fallback thread sleeps, or is about to, until somebody wakes it.
static DOZING: AtomicU32 = AtomicU32::new(0);
/// The poller's deadline that the leader's poll heeds, `u64::MAX` if it has none or did not ask yet, 0 if nobody
/// polls.
static POLLING_UNTIL: AtomicU64 = AtomicU64::new(0);

/// Sets the poller and, in the free executor, starts the fallback thread. Once; later calls are ignored.
///
/// # Errors
/// STATUS_INSUFFICIENT_RESOURCES if there is no room for the thread.
pub fn set_poller(poller: &'static dyn Poller) -> Result<(), NtStatus> {
    // In the seeded executor the scheduler makes a fiber for it when it is needed.
    if POLLER.set(poller).is_ok() && !executor::is_seeded() { start_fallback() } else { Ok(()) }
}

/// Whether events from outside could come.
pub(crate) fn has_outstanding() -> bool {
    POLLER.get().is_some_and(|poller| poller.has_outstanding())
}

/// From when on polling brings something by itself.
pub(crate) fn next_deadline() -> Option<u64> {
    POLLER.get().and_then(|poller| poller.next_deadline_100ns())
}

/// Starts a thread that polls when the seeded executor tells it to.
pub(crate) fn start_polling_fiber() -> Result<(), NtStatus> {
    let life = |_| {
        if let Some(&poller) = POLLER.get() {
            seeded::poll_when_told(poller);
        }
    };
    nt_object::dereference(thread::create(Start::Host(life), 0, 0)?);
    Ok(())
}

/// Tells that the poller got something to do: [`Poller::has_outstanding`] became true, or
/// [`Poller::next_deadline_100ns`] earlier. The poller calls it right after such a change, from any thread. Costs
/// a fence and two loads unless the fallback thread sleeps or a poll must be cut short.
///
/// IRQL: up to DISPATCH_LEVEL.
pub fn changed() {
    let Some(poller) = POLLER.get() else { return };
    // Between the poller's change and the looks below: see the module's comment.
    fence(Ordering::SeqCst);
    let until = POLLING_UNTIL.load(Ordering::Relaxed);
    if until != 0 && poller.next_deadline_100ns().is_some_and(|deadline| deadline < until) {
        poller.wake();
    }
    rouse();
}

/// Makes the leader's poll return.
pub(crate) fn wake() {
    if let Some(poller) = POLLER.get() {
        poller.wake();
    }
}

/// Leads if the poller has something to do and nobody leads yet: polls again and again for the thread of `parker`,
/// which `step` decides: it gets a function that polls once, for at most a time, and says whether the park is
/// over. `false` if the caller must sleep instead.
pub(crate) fn lead(parker: &'static Parker, mut step: impl FnMut(&mut dyn FnMut(Option<u64>)) -> bool) -> bool {
    let Some(&poller) = POLLER.get() else { return false };
    if parker.is_polling() {
        // A callback of this thread's own poll waits. Others poll meanwhile, lest polls pile up on this stack.
        abandon(parker);
        return false;
    }
    // What a poll completes must find the level that `Poller::poll` promises.
    if !has_work(poller) || gate::irql() > Irql::PASSIVE {
        return false;
    }
    if let Err(leader) = LEADER.compare_exchange(ptr::null_mut(), name(parker), Ordering::AcqRel, Ordering::Relaxed) {
        claim(poller, parker, leader);
        return false;
    }
    TURNS.fetch_add(1, Ordering::Relaxed);
    loop {
        let over = step(&mut |max_wait| poll_once(poller, parker, max_wait));
        if !leads(parker) {
            // A callback waited and left the lead; a wake-up meant for this park may have ended that wait.
            return true;
        }
        if over || !has_work(poller) {
            leave(poller);
            return over;
        }
    }
}

/// Gives up the lead if the thread of `parker` has it, though it is not done with its poll.
pub(crate) fn abandon(parker: &'static Parker) {
    if let Some(&poller) = POLLER.get()
        && leads(parker)
    {
        leave(poller);
        if FALLBACK.load(Ordering::Relaxed) == name(parker) {
            FALLBACK.store(ptr::null_mut(), Ordering::Relaxed);
            // Who should look after outstanding work now is stuck in a callback itself. Should there be no room
            // for a successor, threads that wait still lead.
            let _ = start_fallback();
        }
    }
}

fn name(parker: &'static Parker) -> *mut Parker {
    ptr::from_ref(parker).cast_mut()
}

/// Whether the thread of `parker` leads. Nobody else can change the answer to yes, or from yes.
fn leads(parker: &'static Parker) -> bool {
    LEADER.load(Ordering::Relaxed) == name(parker)
}

fn has_work(poller: &dyn Poller) -> bool {
    poller.has_outstanding() || poller.next_deadline_100ns().is_some()
}

/// Polls until `max_wait` is over or the poller's own deadline comes.
fn poll_once(poller: &dyn Poller, parker: &'static Parker, max_wait: Option<u64>) {
    POLLING_UNTIL.store(u64::MAX, Ordering::Relaxed);
    // Before the deadline is read: see `changed`.
    fence(Ordering::SeqCst);
    let deadline = poller.next_deadline_100ns();
    if let Some(deadline) = deadline {
        POLLING_UNTIL.store(deadline.max(1), Ordering::Relaxed);
    }
    let due = deadline.map(|deadline| deadline.saturating_sub(clock::now_100ns()));
    let wait = [max_wait, due].into_iter().flatten().min();
    // What the network brings is not the doing of the driver that waits here.
    parker.while_polling(|| gate::call::apart(|| poller.poll(wait)));
    if leads(parker) {
        POLLING_UNTIL.store(0, Ordering::Relaxed);
    }
}

/// Gives up the lead.
fn leave(poller: &dyn Poller) {
    LEADER.store(ptr::null_mut(), Ordering::Release);
    // Between giving up and the look at the fallback thread: see the module's comment.
    fence(Ordering::SeqCst);
    if has_work(poller) {
        rouse();
    }
}

/// Wakes the fallback thread if it sleeps.
fn rouse() {
    if DOZING.load(Ordering::Relaxed) != 0 && DOZING.swap(0, Ordering::AcqRel) != 0 {
        futex_wake(&DOZING);
    }
}

/// Notes that the thread of `parker` would lead. The fallback thread makes room at once, others when they leave.
fn claim(poller: &dyn Poller, parker: &'static Parker, leader: *mut Parker) {
    CLAIMANT.store(name(parker), Ordering::Release);
    if leader == FALLBACK.load(Ordering::Relaxed) {
        poller.wake();
    }
}

/// Lets a thread that claimed the lead try again. `false` if none did.
fn hand_over() -> bool {
    let claimant = CLAIMANT.swap(ptr::null_mut(), Ordering::AcqRel);
    // SAFETY: claimants are the parkers of threads, which live as long as the process.
    let Some(claimant) = (unsafe { claimant.as_ref() }) else { return false };
    claimant.unpark();
    true
}

fn start_fallback() -> Result<(), NtStatus> {
    let thread = thread::create(Start::Host(|_| fallback()), 0, 0)?;
    nt_object::dereference(thread);
    Ok(())
}

/// The fallback thread's life. Ends when a successor was started.
fn fallback() {
    let Some(&poller) = POLLER.get() else { return };
    let me = thread::current_parker();
    FALLBACK.store(name(me), Ordering::Relaxed);
    let mut seen = TURNS.load(Ordering::Relaxed);
    while FALLBACK.load(Ordering::Relaxed) == name(me) {
        if doze(poller) == Reason::Outstanding {
            // While leaders come and go this thread looks on, so that none of them has to wake it.
            loop {
                std::thread::sleep(GRACE);
                let turns = TURNS.load(Ordering::Relaxed);
                if turns == seen {
                    break;
                }
                seen = turns;
            }
        }
        if LEADER.load(Ordering::Relaxed).is_null() && has_work(poller) && !hand_over() {
            poll_as_fallback(poller, me);
        }
    }
}

/// Why the fallback thread got up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// There is outstanding work, which a driver thread may yet lead for.
    Outstanding,
    /// The poller's deadline has come.
    Due,
}

/// Sleeps until there is something to do that nobody does.
fn doze(poller: &dyn Poller) -> Reason {
    loop {
        DOZING.store(1, Ordering::Relaxed);
        // Before the looks below: see the module's comment.
        fence(Ordering::SeqCst);
        let mut due = None;
        let mut reason = None;
        if LEADER.load(Ordering::Relaxed).is_null() {
            due = poller.next_deadline_100ns();
            if due.is_some_and(|due| clock::now_100ns() >= due) {
                reason = Some(Reason::Due);
            } else if poller.has_outstanding() {
                reason = Some(Reason::Outstanding);
            }
        }
        if let Some(reason) = reason {
            DOZING.store(0, Ordering::Relaxed);
            return reason;
        }
        futex_wait(&DOZING, 1, due);
    }
}

/// Leads for as long as nobody else wants to.
fn poll_as_fallback(poller: &dyn Poller, me: &'static Parker) {
    if LEADER.compare_exchange(ptr::null_mut(), name(me), Ordering::AcqRel, Ordering::Relaxed).is_err() {
        return;
    }
    loop {
        poll_once(poller, me, None);
        if !leads(me) {
            return;
        }
        if !CLAIMANT.load(Ordering::Acquire).is_null() || !has_work(poller) {
            break;
        }
    }
    LEADER.store(ptr::null_mut(), Ordering::Release);
    hand_over();
}
