//! The win64 faces of this crate's services.

use nt_abi::dispatcher::{DispatcherType, Mutant, Semaphore};
use nt_abi::{Handle, Irql, KernelEvent, ListEntry, NtStatus};

use crate::event::{self, signal_state};
use crate::thread::{self, PROCESSORS, Start, THREAD};
use crate::wait::{self, WaitType};
use crate::{clock, spin};
use std::sync::atomic::Ordering;

gate::exports! {
    /// What ntoskrnl exports of threads, waits and locks.
    pub static TABLE in "ntoskrnl.exe";
    "KeInitializeEvent" = ke_initialize_event(event: *mut KernelEvent, kind: u32, state: u8), rules "K-124";
    "KeSetEvent" = ke_set_event(event: *mut KernelEvent, increment: i32, wait: u8) -> i32, irql <= DISPATCH, rules "K-124 K-149";
    "KeResetEvent" = ke_reset_event(event: *mut KernelEvent) -> i32, irql <= DISPATCH, rules "K-124";
    "KeClearEvent" = ke_clear_event(event: *mut KernelEvent), irql <= DISPATCH, rules "K-124";
    "KeReadStateEvent" = ke_read_state(object: u64) -> i32, rules "K-124";
    "KeWaitForSingleObject" = ke_wait_for_single_object(object: u64, reason: u32, mode: u8, alertable: u8, timeout: *const i64) -> NtStatus, irql <= DISPATCH, rules "K-123 K-125 K-151";
    "KeWaitForMultipleObjects" = ke_wait_for_multiple_objects(count: u32, objects: *const u64, wait_type: u32, reason: u32, mode: u8, alertable: u8, timeout: *const i64, blocks: u64) -> NtStatus, irql <= DISPATCH, rules "K-126";
    "KeDelayExecutionThread" = ke_delay_execution_thread(mode: u8, alertable: u8, interval: *const i64) -> NtStatus, irql <= APC, rules "K-135";
    "KeInitializeSemaphore" = ke_initialize_semaphore(semaphore: *mut Semaphore, count: i32, limit: i32), rules "K-148";
    "KeReleaseSemaphore" = ke_release_semaphore(semaphore: *mut Semaphore, increment: i32, adjustment: i32, wait: u8) -> i32, irql <= DISPATCH, rules "K-148";
    "KeReadStateSemaphore" | "KeReadStateMutex" = ke_read_state(object: u64) -> i32, rules "K-148";
    "KeInitializeMutex" = ke_initialize_mutex(mutex: *mut Mutant, level: u32), rules "K-153";
    "KeReleaseMutex" = ke_release_mutex(mutex: *mut Mutant, wait: u8) -> i32, irql <= DISPATCH, rules "K-153";
    "KeAcquireSpinLockRaiseToDpc" = ke_acquire_spin_lock_raise_to_dpc(lock: *mut u64) -> Irql, irql <= DISPATCH, rules "K-121";
    "KeReleaseSpinLock" = ke_release_spin_lock(lock: *mut u64, level: Irql), irql <= DISPATCH, rules "K-121 K-153";
    "KeAcquireSpinLockAtDpcLevel" = ke_acquire_spin_lock_at_dpc_level(lock: *mut u64), rules "K-121";
    "KeReleaseSpinLockFromDpcLevel" = ke_release_spin_lock_from_dpc_level(lock: *mut u64), rules "K-121 K-153";
    "PsCreateSystemThread" = ps_create_system_thread(handle: *mut Handle, access: u32, attributes: u64, process: Handle, client_id: *mut [u64; 2], routine: u64, context: u64) -> NtStatus, irql <= PASSIVE, rules "K-134";
    "PsTerminateSystemThread" = ps_terminate_system_thread(status: NtStatus) -> NtStatus, irql <= PASSIVE, rules "K-134";
    "PsGetCurrentProcessId" = ps_get_current_process_id() -> u64, rules "K-100";
    "PsGetCurrentThreadId" = ps_get_current_thread_id() -> u64, rules "K-100";
    "KeGetCurrentThread" | "PsGetCurrentThread" = ke_get_current_thread() -> u64, rules "K-007";
    "KeQueryTimeIncrement" = ke_query_time_increment() -> u32, rules "K-009";
    "KeQueryInterruptTime" = ke_query_interrupt_time() -> u64, rules "K-009";
    "KeEnterCriticalRegion" = ke_enter_critical_region(), irql <= APC, rules "K-145";
    "KeLeaveCriticalRegion" = ke_leave_critical_region(), irql <= APC, rules "K-145";
    data "PsThreadType" = thread_type_cell, rules "K-157";
}

fn thread_type_cell() -> u64 {
    static CELL: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    std::ptr::from_ref(CELL.get_or_init(|| THREAD.block())) as u64
}

/// A driver's optional timeout.
///
/// # Safety
/// `timeout` is null or points to a LARGE_INTEGER.
unsafe fn timeout_of(timeout: *const i64) -> Option<i64> {
    // SAFETY: the caller's promise; a bad pointer faults here and is blamed on the importing driver.
    (!timeout.is_null()).then(|| unsafe { timeout.read_unaligned() })
}

unsafe extern "win64" fn ke_initialize_event(event: *mut KernelEvent, kind: u32, state: u8) {
    // SAFETY: what drivers pass here is theirs to answer for; a bad pointer faults and is blamed on them. The
    // same holds for every function of this module.
    unsafe { event::initialize(event, DispatcherType(kind as u8), state != 0) }
}

unsafe extern "win64" fn ke_set_event(event: *mut KernelEvent, _increment: i32, _wait: u8) -> i32 {
    // SAFETY: see `ke_initialize_event`.
    unsafe { event::set(event) }
}

unsafe extern "win64" fn ke_reset_event(event: *mut KernelEvent) -> i32 {
    // SAFETY: see `ke_initialize_event`.
    unsafe { event::reset(event) }
}

unsafe extern "win64" fn ke_clear_event(event: *mut KernelEvent) {
    // SAFETY: see `ke_initialize_event`.
    unsafe { event::reset(event) };
}

unsafe extern "win64" fn ke_read_state(object: u64) -> i32 {
    // SAFETY: see `ke_initialize_event`.
    unsafe { signal_state(object) }.load(Ordering::Acquire)
}

unsafe extern "win64" fn ke_wait_for_single_object(
    object: u64,
    _reason: u32,
    _mode: u8,
    _alertable: u8,
    timeout: *const i64,
) -> NtStatus {
    // SAFETY: see `ke_initialize_event`.
    unsafe { wait::wait_single(object, timeout_of(timeout)) }
}

#[allow(clippy::too_many_arguments, reason = "NT's signature")]
unsafe extern "win64" fn ke_wait_for_multiple_objects(
    count: u32,
    objects: *const u64,
    wait_type: u32,
    _reason: u32,
    _mode: u8,
    _alertable: u8,
    timeout: *const i64,
    _blocks: u64,
) -> NtStatus {
    if count as usize > wait::OBJECTS_MAX {
        return NtStatus::INVALID_PARAMETER;
    }
    let wait_type = if wait_type == 0 { WaitType::All } else { WaitType::Any };
    // SAFETY: see `ke_initialize_event`; the count was bounded above.
    unsafe {
        let objects = std::slice::from_raw_parts(objects, count as usize);
        wait::wait_multiple(objects, wait_type, timeout_of(timeout))
    }
}

unsafe extern "win64" fn ke_delay_execution_thread(_mode: u8, _alertable: u8, interval: *const i64) -> NtStatus {
    // SAFETY: see `ke_initialize_event`.
    if let Some(interval) = unsafe { timeout_of(interval) } {
        wait::delay(interval);
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn ke_initialize_semaphore(semaphore: *mut Semaphore, count: i32, limit: i32) {
    // SAFETY: see `ke_initialize_event`.
    unsafe {
        event::initialize(semaphore.cast(), DispatcherType::SEMAPHORE, false);
        (*semaphore).header.size = (size_of::<Semaphore>() / 4) as u8;
        (*semaphore).limit = limit;
        signal_state(semaphore as u64).store(count, Ordering::Release);
    }
}

unsafe extern "win64" fn ke_release_semaphore(
    semaphore: *mut Semaphore,
    _increment: i32,
    adjustment: i32,
    _wait: u8,
) -> i32 {
    // SAFETY: see `ke_initialize_event`.
    let (state, limit) = unsafe { (signal_state(semaphore as u64), (*semaphore).limit) };
    let raise = |count: i32| count.checked_add(adjustment).filter(|&count| adjustment > 0 && count <= limit);
    match state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, raise) {
        Ok(old) => {
            wait::wake(semaphore as u64);
            old
        }
        Err(old) => {
            let message = format!(
                "a semaphore at {old} of {limit} was released by {adjustment}: NT raises STATUS_SEMAPHORE_LIMIT_EXCEEDED"
            );
            gate::finding("K-153", message, gate::caller());
            old
        }
    }
}

unsafe extern "win64" fn ke_initialize_mutex(mutex: *mut Mutant, _level: u32) {
    // SAFETY: see `ke_initialize_event`.
    unsafe {
        event::initialize(mutex.cast(), DispatcherType::MUTANT, true);
        let list = &raw mut (*mutex).mutant_list_entry;
        (*mutex).header.size = (size_of::<Mutant>() / 4) as u8;
        *list = ListEntry { flink: list, blink: list };
        (*mutex).owner_thread = 0;
        (*mutex).abandoned = 0;
        (*mutex).apc_disable = 1;
    }
}

unsafe extern "win64" fn ke_release_mutex(mutex: *mut Mutant, _wait: u8) -> i32 {
    // SAFETY: see `ke_initialize_event`.
    unsafe { thread::release_mutant(mutex as u64) }
}

unsafe extern "win64" fn ke_acquire_spin_lock_raise_to_dpc(lock: *mut u64) -> Irql {
    // SAFETY: see `ke_initialize_event`.
    unsafe { spin::acquire_raise(lock) }
}

unsafe extern "win64" fn ke_release_spin_lock(lock: *mut u64, level: Irql) {
    // SAFETY: see `ke_initialize_event`.
    unsafe { spin::release_lower(lock, level) }
}

unsafe extern "win64" fn ke_acquire_spin_lock_at_dpc_level(lock: *mut u64) {
    // SAFETY: see `ke_initialize_event`.
    unsafe { spin::acquire(lock) }
}

unsafe extern "win64" fn ke_release_spin_lock_from_dpc_level(lock: *mut u64) {
    // SAFETY: see `ke_initialize_event`.
    unsafe { spin::release(lock) }
}

unsafe extern "win64" fn ps_create_system_thread(
    handle: *mut Handle,
    access: u32,
    _attributes: u64,
    _process: Handle,
    client_id: *mut [u64; 2],
    routine: u64,
    context: u64,
) -> NtStatus {
    let caller = gate::caller();
    let thread = match thread::create(Start::Driver(routine), context, caller) {
        Ok(thread) => thread,
        Err(status) => return status,
    };
    let opened = nt_object::insert(thread, access, true, caller);
    if let Some(opened) = opened {
        // SAFETY: see `ke_initialize_event`.
        unsafe {
            *handle = opened;
            if !client_id.is_null() {
                *client_id = [SYSTEM_PROCESS_ID, thread_id(thread)];
            }
        }
    }
    nt_object::dereference(thread);
    if opened.is_some() { NtStatus::SUCCESS } else { NtStatus::INSUFFICIENT_RESOURCES }
}

unsafe extern "win64" fn ps_terminate_system_thread(_status: NtStatus) -> NtStatus {
    // SAFETY: this frame holds nothing, and imports on the way here are done (the driver was in control).
    unsafe { gate::call::leave() }
}

/// The id of the system process, which all driver threads belong to.
const SYSTEM_PROCESS_ID: u64 = 4;

/// Ids are multiples of 4 in NT; the object's place is as good as any number.
fn thread_id(thread: u64) -> u64 {
    thread >> 4 & 0xFFFF_FFFC
}

unsafe extern "win64" fn ps_get_current_process_id() -> u64 {
    SYSTEM_PROCESS_ID
}

unsafe extern "win64" fn ps_get_current_thread_id() -> u64 {
    thread_id(gate::thread::current_thread_object())
}

unsafe extern "win64" fn ke_get_current_thread() -> u64 {
    gate::thread::current_thread_object()
}

unsafe extern "win64" fn ke_query_time_increment() -> u32 {
    clock::TICK_100NS as u32
}

unsafe extern "win64" fn ke_query_interrupt_time() -> u64 {
    clock::now_100ns()
}

/// Kernel APCs are never delivered here, so there is nothing to hold up.
unsafe extern "win64" fn ke_enter_critical_region() {}

unsafe extern "win64" fn ke_leave_critical_region() {}

/// `KeNumberProcessors`, for the table of data exports.
pub fn number_of_processors() -> u32 {
    PROCESSORS
}
