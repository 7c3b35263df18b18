//! Timers that the system allocates (`ExAllocateTimer`): objects that call a routine, and that drivers may wait for.
//!
//! A timer lives until it is deleted and its routine does not run any more. Whatever has still to come back to one, a call
//! that the clock owes or a thread that waits for the end, holds a reference, so no address is used again too early.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use gate::memory::read_value;
use host_lock::{Mutex, MutexGuard};
use nt_abi::KernelEvent;
use nt_abi::dispatcher::DispatcherType;
use nt_abi::exception::BugCheck;
use nt_object::ObjectType;

use crate::bell::Bell;
use crate::timer::{self, HostTimer};
use crate::{clock, dpc, event};

static EX_TIMER: ObjectType = ObjectType::simple("ExTimer", |_| {});

/// Room for what a waiter looks at; drivers read nothing of it.
const BODY_BYTES: u64 = 0x40;
/// A shorter period is this long: what the best clock of a PC gives.
const PERIOD_MIN_100NS: u64 = 5_000;

/// A time that a timer is set for.
#[derive(Clone, Copy)]
struct Setting {
    /// Tells it from those before.
    number: u64,
    due: u64,
    /// 0 for once.
    period_100ns: u64,
    /// What the clock has been given; not yet, while it is being given.
    host: Option<HostTimer>,
    /// Who set it.
    caller: u64,
}

/// What is called when a timer is gone, if anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deletion {
    /// A routine of the driver's, or 0.
    pub routine: u64,
    /// Its argument.
    pub context: u64,
}

struct ExTimer {
    routine: u64,
    context: u64,
    /// Who allocated it.
    caller: u64,
    setting: Option<Setting>,
    /// Calls of the routine that have not returned.
    running: u32,
    /// It goes as soon as it is neither set nor running, and is never set again.
    deletion: Option<Deletion>,
    /// Its end is being told.
    is_ending: bool,
}

struct Timers {
    by_address: BTreeMap<u64, ExTimer>,
    last_number: u64,
}

static TIMERS: Mutex<Timers> = Mutex::new(Timers { by_address: BTreeMap::new(), last_number: 0 });
/// Rings when a timer is gone.
static GONE: Bell = Bell::new();

fn timers() -> MutexGuard<'static, Timers> {
    TIMERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Visits the timers whose end has not come, with the driver instruction that allocated each. One whose end is being told is
/// no driver's any more, who may go as soon as it has heard of it.
pub fn for_each_live(mut visit: impl FnMut(u64, u64)) {
    let describe = |(&timer, one): (&u64, &ExTimer)| (!one.is_ending).then_some((timer, one.caller));
    let all: Vec<_> = timers().by_address.iter().filter_map(describe).collect();
    all.into_iter().for_each(|(timer, caller)| visit(timer, caller));
}

/// Makes a timer that is not set; its routine may be 0.
///
/// IRQL: up to DISPATCH_LEVEL.
pub fn allocate(kind: DispatcherType, routine: u64, context: u64, caller: u64) -> Option<u64> {
    let timer = nt_object::create(&EX_TIMER, BODY_BYTES, caller)?;
    // SAFETY: a new body that is large enough; a timer begins like an event.
    unsafe { event::initialize(timer as *mut KernelEvent, kind, false) };
    let made = ExTimer { routine, context, caller, setting: None, running: 0, deletion: None, is_ending: false };
    timers().by_address.insert(timer, made);
    Some(timer)
}

/// Answers for an address that is no timer's: the exception of whoever follows it, or the end of the run.
fn none(timer: u64, caller: u64) {
    if let Err(fault) = read_value::<u64>(timer) {
        gate::seh::raise_fault(fault);
        return;
    }
    gate::bugcheck::with_message(
        BugCheck::TIMER_OR_DPC_INVALID,
        [0, timer, timer, timer.wrapping_add(BODY_BYTES)],
        caller,
        "This is no timer that ExAllocateTimer gave, or it has been deleted (ExDeleteTimer).",
    );
}

/// Sets the timer. Gives whether it was set before; `due` is as drivers give it (K-125).
///
/// IRQL: up to DISPATCH_LEVEL.
pub fn set(timer: u64, due: i64, period_100ns: u64, caller: u64) -> bool {
    let due = clock::deadline(due);
    let period_100ns = if period_100ns == 0 { 0 } else { period_100ns.max(PERIOD_MIN_100NS) };
    let mut all = timers();
    all.last_number += 1;
    let number = all.last_number;
    let Some(one) = all.by_address.get_mut(&timer) else {
        drop(all);
        none(timer, caller);
        return false;
    };
    if one.deletion.is_some() {
        return false;
    }
    let before = one.setting.replace(Setting { number, due, period_100ns, host: None, caller });
    // SAFETY: a live timer's body. Under the lock, so that an expiry on another thread comes before or after.
    unsafe { event::signal_state(timer) }.store(0, Ordering::SeqCst);
    drop(all);
    disarm(timer, before);
    arm(timer, number, due);
    before.is_some()
}

/// Gives the clock what it has to do at `due`, unless the timer was set or cancelled meanwhile.
fn arm(timer: u64, number: u64, due: u64) {
    nt_object::reference(timer);
    let host = timer::at(due, move || expire(timer, number));
    let mut all = timers();
    let setting = all.by_address.get_mut(&timer).and_then(|one| one.setting.as_mut());
    match setting.filter(|setting| setting.number == number && setting.due == due) {
        Some(setting) => setting.host = Some(host),
        None => {
            drop(all);
            take_back(timer, host);
        }
    }
}

fn take_back(timer: u64, host: HostTimer) {
    if timer::cancel_host(host) {
        nt_object::dereference(timer);
    }
}

/// Takes back what the clock was given for a setting that is over.
fn disarm(timer: u64, setting: Option<Setting>) {
    if let Some(host) = setting.and_then(|setting| setting.host) {
        take_back(timer, host);
    }
}

/// The clock's thread has come to a setting's time.
fn expire(timer: u64, number: u64) {
    if let Some((one, next)) = begin(timer, number) {
        if let Some(due) = next {
            arm(timer, number, due);
        }
        dpc::at_dispatch_level(one.caller, || {
            // SAFETY: a live timer's body, which begins like an event.
            unsafe { event::set(timer as *mut KernelEvent) };
            if one.routine != 0 {
                // SAFETY: the driver asked for this routine to be called so.
                unsafe { gate::call::call2(one.routine, timer, one.context) };
            }
            if let Some(one) = timers().by_address.get_mut(&timer) {
                one.running -= 1;
            }
            // In the same DPC, so that who waits for all of these (KeFlushQueuedDpcs) waits for what this calls, too.
            end_if_over(timer);
        });
    }
    nt_object::dereference(timer);
}

/// What to call for a setting.
struct Call {
    routine: u64,
    context: u64,
    /// Who set the timer.
    caller: u64,
}

/// What to call for a setting, if it still stands, and when it comes next.
fn begin(timer: u64, number: u64) -> Option<(Call, Option<u64>)> {
    let mut all = timers();
    let one = all.by_address.get_mut(&timer)?;
    let setting = one.setting.as_mut().filter(|setting| setting.number == number)?;
    let caller = setting.caller;
    let next = (setting.period_100ns != 0).then(|| {
        // In step with when it was due, so that periods do not drift; what was missed stays missed.
        let now = clock::now_100ns().max(setting.due);
        setting.due = now + setting.period_100ns - (now - setting.due) % setting.period_100ns;
        setting.host = None;
        setting.due
    });
    if next.is_none() {
        one.setting = None;
    }
    one.running += 1;
    Some((Call { routine: one.routine, context: one.context, caller }, next))
}

/// Takes the timer's setting back. Gives whether it had one. A call that is under way goes on.
///
/// IRQL: up to DISPATCH_LEVEL.
pub fn cancel(timer: u64, caller: u64) -> bool {
    let mut all = timers();
    let Some(one) = all.by_address.get_mut(&timer) else {
        drop(all);
        none(timer, caller);
        return false;
    };
    let setting = one.setting.take();
    drop(all);
    disarm(timer, setting);
    // One that is to go when it has expired goes now.
    end_if_over(timer);
    setting.is_some()
}

/// Deletes the timer: at once with `cancels`, else when it has expired, a periodic one for the last time; in any case
/// not before its routine has returned, which `waits` waits for. Gives whether a setting was taken back.
///
/// IRQL: up to DISPATCH_LEVEL; APC_LEVEL to wait.
pub fn delete(timer: u64, cancels: bool, waits: bool, deletion: Deletion, caller: u64) -> bool {
    let mut all = timers();
    let one = all.by_address.get_mut(&timer).filter(|one| one.deletion.is_none());
    let Some(one) = one else {
        drop(all);
        none(timer, caller);
        return false;
    };
    one.deletion = Some(deletion);
    let setting = if cancels { one.setting.take() } else { None };
    if let Some(setting) = &mut one.setting {
        setting.period_100ns = 0;
    }
    // So that nobody else gets this address while it is waited for.
    nt_object::reference(timer);
    drop(all);
    disarm(timer, setting);
    end_if_over(timer);
    if waits {
        GONE.wait_for(timer, || !timers().by_address.contains_key(&timer));
    }
    nt_object::dereference(timer);
    setting.is_some()
}

/// Ends a deleted timer that is neither set nor running: tells the driver, then whoever waits.
fn end_if_over(timer: u64) {
    let mut all = timers();
    let Some(one) = all.by_address.get_mut(&timer) else { return };
    let Some(deletion) = one.deletion.filter(|_| one.setting.is_none() && one.running == 0 && !one.is_ending) else {
        return;
    };
    one.is_ending = true;
    drop(all);
    if deletion.routine != 0 {
        // SAFETY: the driver asked for this routine to be called so.
        unsafe { gate::call::call1(deletion.routine, deletion.context) };
    }
    timers().by_address.remove(&timer);
    GONE.ring();
    // The reference that the allocation gave.
    nt_object::dereference(timer);
}
