//! Timers of devices (`IoInitializeTimer`): once a second, at DISPATCH_LEVEL, for as long as they are started.

use std::collections::HashMap;
use std::mem::offset_of;
use std::ptr;
use std::sync::PoisonError;

use gate::memory::put;
use host_lock::{Mutex, MutexGuard};
use nt_abi::dispatcher::{DispatcherType, Dpc, Timer};
use nt_abi::{DeviceObject, ListEntry, NtStatus};
use nt_dispatcher::{dpc, timer};

gate::exports! {
    /// What ntoskrnl exports of devices' timers.
    pub(crate) static TABLE in "ntoskrnl.exe";
    "IoInitializeTimer" = io_initialize_timer(device: *mut DeviceObject, routine: u64, context: u64) -> NtStatus, irql <= PASSIVE, rules "K-128";
    "IoStartTimer" = io_start_timer(device: *mut DeviceObject), irql <= DISPATCH, rules "K-128";
    "IoStopTimer" = io_stop_timer(device: *mut DeviceObject), irql <= DISPATCH, rules "K-129";
}

/// `DEVICE_OBJECT.Timer` of a device that has one: no address, for what a timer is no driver may know.
const HAS_TIMER: u64 = 1;
const SECOND_MS: u32 = 1000;
const SECOND_100NS: i64 = 10_000_000;

/// What the dispatcher is given for a device. Never freed, since it may look at a timer or a DPC that was just taken back, but used
/// again for another device.
struct Clock {
    timer: Timer,
    dpc: Dpc,
}

#[derive(Clone, Copy)]
struct DeviceTimer {
    clock: *mut Clock,
    routine: u64,
    context: u64,
}

// SAFETY: the clock is touched by the dispatcher alone, whose queues have locks of their own.
unsafe impl Send for DeviceTimer {}

static TIMERS: Mutex<Option<HashMap<u64, DeviceTimer>>> = Mutex::new(None);
/// Addresses of clocks whose devices are gone.
static FREE: Mutex<Vec<u64>> = Mutex::new(Vec::new());

fn free() -> MutexGuard<'static, Vec<u64>> {
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn timers() -> MutexGuard<'static, Option<HashMap<u64, DeviceTimer>>> {
    TIMERS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn timer_of(device: *mut DeviceObject) -> Option<DeviceTimer> {
    timers().as_ref()?.get(&(device as u64)).copied()
}

fn new_clock(device: *mut DeviceObject) -> *mut Clock {
    let list = ListEntry { flink: ptr::null_mut(), blink: ptr::null_mut() };
    let dpc = Dpc {
        kind: dpc::KIND,
        importance: dpc::MEDIUM_IMPORTANCE,
        number: 0,
        _pad: 0,
        dpc_list_entry: list,
        deferred_routine: tick as *const () as u64,
        deferred_context: device as u64,
        system_argument1: 0,
        system_argument2: 0,
        dpc_data: 0,
    };
    // SAFETY: zeros are a timer that was not initialised; it is initialised below.
    let new = || Box::into_raw(Box::new(Clock { timer: unsafe { std::mem::zeroed() }, dpc }));
    let used = free().pop();
    let clock = used.map_or_else(new, |clock| clock as *mut Clock);
    // SAFETY: memory that is never freed and that no device has; its timer is not set and its DPC not queued.
    unsafe {
        (*clock).dpc = dpc;
        timer::initialize(&raw mut (*clock).timer, DispatcherType::NOTIFICATION_TIMER, 0);
    }
    clock
}

/// Made again, a timer has another routine.
unsafe extern "win64" fn io_initialize_timer(device: *mut DeviceObject, routine: u64, context: u64) -> NtStatus {
    // Drivers look whether a device has one; it means nothing else. First of all, and without the lock: here a bad pointer
    // faults and is blamed on the driver.
    // SAFETY: the driver's device.
    unsafe { put((device as usize + offset_of!(DeviceObject, timer)) as *mut u64, HAS_TIMER) };
    let mut timers = timers();
    let entry = timers.get_or_insert_default().entry(device as u64);
    let made = entry.or_insert_with(|| DeviceTimer { clock: new_clock(device), routine, context });
    (made.routine, made.context) = (routine, context);
    NtStatus::SUCCESS
}

fn none(device: *mut DeviceObject) {
    gate::finding(
        "K-128",
        format_args!("The device {device:p} has no timer: IoInitializeTimer makes it."),
        gate::caller(),
    );
}

unsafe extern "win64" fn io_start_timer(device: *mut DeviceObject) {
    let Some(DeviceTimer { clock, .. }) = timer_of(device) else { return none(device) };
    // SAFETY: an initialised timer of ours.
    unsafe { timer::set(&raw mut (*clock).timer, -SECOND_100NS, SECOND_MS, &raw mut (*clock).dpc, gate::caller()) };
}

unsafe extern "win64" fn io_stop_timer(device: *mut DeviceObject) {
    if timer_of(device).is_none() {
        none(device);
    }
    stop(device);
}

fn stop(device: *mut DeviceObject) {
    if let Some(DeviceTimer { clock, .. }) = timer_of(device) {
        // SAFETY: only the address is taken.
        let (timer, dpc) = unsafe { (&raw mut (*clock).timer as u64, &raw mut (*clock).dpc as u64) };
        timer::cancel(timer);
        dpc::remove(dpc);
    }
}

/// For a device that is being deleted: its timer goes with it.
pub(crate) fn forget(device: *mut DeviceObject) {
    stop(device);
    let gone = timers().as_mut().and_then(|timers| timers.remove(&(device as u64)));
    free().extend(gone.map(|timer| timer.clock as u64));
}

/// The device that a timer is of, if it is one of a device's.
pub fn device_of(timer: u64) -> Option<*mut DeviceObject> {
    let timers = timers();
    // SAFETY: only the address is taken.
    let is_of = |one: &DeviceTimer| unsafe { &raw mut (*one.clock).timer as u64 } == timer;
    timers.as_ref()?.iter().find(|(_, one)| is_of(one)).map(|(&device, _)| device as *mut DeviceObject)
}

/// The DPC of every device's timer.
unsafe extern "win64" fn tick(_dpc: u64, device: u64, _argument1: u64, _argument2: u64) {
    // A device that was deleted a moment ago has none any more.
    if let Some(DeviceTimer { routine, context, .. }) = timer_of(device as *mut DeviceObject) {
        // SAFETY: the driver asked for this routine to be called so.
        unsafe { gate::call::call2(routine, device, context) };
    }
}
