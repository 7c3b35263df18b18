//! Events, semaphores, mutexes and waits.

use std::ptr;
use std::sync::atomic::Ordering;

use nt_abi::dispatcher::{DispatcherType, Mutant, Semaphore};
use nt_abi::exception::BugCheck;
use nt_abi::{KernelEvent, ListEntry, NtStatus};

use super::timeout_of;
use crate::event::{self, signal_state};
use crate::wait::{self, WaitType};
use crate::{executor, process, thread};

gate::exports! {
    /// What threads wait on.
    pub static TABLE in "ntoskrnl.exe";
    "KeInitializeEvent" = ke_initialize_event(event: *mut KernelEvent, kind: u32, state: u8), rules "K-124";
    "KeSetEvent" = ke_set_event(event: *mut KernelEvent, increment: i32, wait: u8) -> i32, irql <= DISPATCH, rules "K-124 K-149";
    "KeResetEvent" = ke_reset_event(event: *mut KernelEvent) -> i32, irql <= DISPATCH, rules "K-124";
    "KeClearEvent" = ke_clear_event(event: *mut KernelEvent), irql <= DISPATCH, rules "K-124";
    "KePulseEvent" = ke_pulse_event(event: *mut KernelEvent, increment: i32, wait: u8) -> i32, irql <= DISPATCH, rules "K-124 K-149";
    "KeReadStateEvent" = ke_read_state(object: u64) -> i32, rules "K-124";
    "KeWaitForSingleObject" | "KeWaitForMutexObject" = ke_wait_for_single_object(object: u64, reason: u32, mode: u8, alertable: u8, timeout: *const i64) -> NtStatus, irql <= DISPATCH, rules "K-123 K-125 K-151";
    "KeWaitForMultipleObjects" = ke_wait_for_multiple_objects(count: u32, objects: *const u64, wait_type: u32, reason: u32, mode: u8, alertable: u8, timeout: *const i64, blocks: u64) -> NtStatus, irql <= DISPATCH, rules "K-126";
    "KeInitializeSemaphore" = ke_initialize_semaphore(semaphore: *mut Semaphore, count: i32, limit: i32), rules "K-148";
    "KeReleaseSemaphore" = ke_release_semaphore(semaphore: *mut Semaphore, increment: i32, adjustment: i32, wait: u8) -> i32, irql <= DISPATCH, rules "K-148";
    "KeReadStateSemaphore" | "KeReadStateMutex" | "KeReadStateMutant" = ke_read_state(object: u64) -> i32, rules "K-148";
    "KeInitializeMutex" = ke_initialize_mutex(mutex: *mut Mutant, level: u32), rules "K-153";
    "KeReleaseMutex" = ke_release_mutex(mutex: *mut Mutant, wait: u8) -> i32, irql <= DISPATCH, rules "K-153";
}

unsafe extern "win64" fn ke_initialize_event(event: *mut KernelEvent, kind: u32, state: u8) {
    // SAFETY: see the module above.
    unsafe { event::initialize(event, DispatcherType(kind as u8), state != 0) }
}

unsafe extern "win64" fn ke_set_event(event: *mut KernelEvent, _increment: i32, _wait: u8) -> i32 {
    // SAFETY: see the module above.
    let old = unsafe { event::set(event) };
    executor::point();
    old
}

unsafe extern "win64" fn ke_reset_event(event: *mut KernelEvent) -> i32 {
    // SAFETY: see the module above.
    unsafe { event::reset(event) }
}

unsafe extern "win64" fn ke_clear_event(event: *mut KernelEvent) {
    // SAFETY: see the module above.
    unsafe { event::reset(event) };
}

unsafe extern "win64" fn ke_pulse_event(event: *mut KernelEvent, _increment: i32, _wait: u8) -> i32 {
    // SAFETY: see the module above.
    let old = unsafe { event::pulse(event) };
    executor::point();
    old
}

unsafe extern "win64" fn ke_read_state(object: u64) -> i32 {
    // SAFETY: see the module above.
    unsafe { signal_state(object) }.load(Ordering::Acquire)
}

/// Reports what cannot be waited on. Structures of the I/O manager begin with a type, too, and have the numbers of some that can, so
/// the size must fit or the object be known.
unsafe fn look_at(object: u64) {
    // SAFETY: what drivers pass is theirs to answer for; see the module above.
    let (kind, size) = unsafe { (*(object as *const DispatcherType), *((object + 2) as *const u8)) };
    let is_object_of = |wanted| nt_object::type_of(object).is_some_and(|kind| ptr::eq(kind, wanted));
    let is_of = |bytes: usize| usize::from(size) * 4 == bytes;
    let is_waitable = match kind {
        DispatcherType::NOTIFICATION_EVENT
        | DispatcherType::SYNCHRONIZATION_EVENT
        | DispatcherType::NOTIFICATION_TIMER
        | DispatcherType::SYNCHRONIZATION_TIMER => true,
        DispatcherType::MUTANT => is_of(size_of::<Mutant>()),
        DispatcherType::SEMAPHORE => is_of(size_of::<Semaphore>()),
        DispatcherType::THREAD => is_object_of(&thread::THREAD),
        DispatcherType::PROCESS => is_object_of(&process::PROCESS),
        _ => false,
    };
    if !is_waitable {
        gate::finding(
            "K-124",
            format_args!("A wait for {object:#x}, which is nothing that can be waited on."),
            gate::caller(),
        );
    }
}

unsafe extern "win64" fn ke_wait_for_single_object(
    object: u64,
    _reason: u32,
    _mode: u8,
    alertable: u8,
    timeout: *const i64,
) -> NtStatus {
    // SAFETY: see the module above.
    unsafe {
        look_at(object);
        wait::wait_single_alertable(object, timeout_of(timeout), alertable != 0)
    }
}

#[allow(clippy::too_many_arguments, reason = "NT's signature")]
unsafe extern "win64" fn ke_wait_for_multiple_objects(
    count: u32,
    objects: *const u64,
    wait_type: u32,
    _reason: u32,
    _mode: u8,
    alertable: u8,
    timeout: *const i64,
    blocks: u64,
) -> NtStatus {
    // A thread has room of its own for few objects; for more the caller brings it along. Here both are waited for
    // without it.
    let most = if blocks == 0 { wait::THREAD_OBJECTS_MAX } else { wait::OBJECTS_MAX };
    if count as usize > most {
        gate::bugcheck::with_message(
            BugCheck::MAXIMUM_WAIT_OBJECTS_EXCEEDED,
            [0; 4],
            gate::caller(),
            format_args!(
                "KeWaitForMultipleObjects was called for {count} objects. It takes up to 3, or up to 64 with an array of wait blocks."
            ),
        );
    }
    let wait_type = if wait_type == 0 { WaitType::All } else { WaitType::Any };
    // SAFETY: see the module above; the count was bounded above.
    unsafe {
        let objects = std::slice::from_raw_parts(objects, count as usize);
        objects.iter().for_each(|&object| look_at(object));
        wait::wait_multiple_alertable(objects, wait_type, timeout_of(timeout), alertable != 0)
    }
}

unsafe extern "win64" fn ke_initialize_semaphore(semaphore: *mut Semaphore, count: i32, limit: i32) {
    // SAFETY: see the module above.
    unsafe {
        event::initialize(semaphore.cast(), DispatcherType::SEMAPHORE, false);
        (*semaphore).header.size = (size_of::<Semaphore>() / 4) as u8;
        (*semaphore).limit = limit;
        signal_state(semaphore as u64).store(count, Ordering::Release);
    }
}

/// What would take the count over its limit, or down, raises and leaves it as it is.
unsafe extern "win64" fn ke_release_semaphore(
    semaphore: *mut Semaphore,
    _increment: i32,
    adjustment: i32,
    _wait: u8,
) -> i32 {
    // SAFETY: see the module above.
    let (state, limit) = unsafe { (signal_state(semaphore as u64), (*semaphore).limit) };
    let raised = |count: i32| count.checked_add(adjustment).filter(|&count| adjustment >= 0 && count <= limit);
    match state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, raised) {
        Ok(old) => {
            wait::wake(semaphore as u64);
            executor::point();
            old
        }
        Err(old) => {
            gate::seh::raise(NtStatus::SEMAPHORE_LIMIT_EXCEEDED);
            old
        }
    }
}

pub(super) unsafe extern "win64" fn ke_initialize_mutex(mutex: *mut Mutant, _level: u32) {
    // SAFETY: see the module above.
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
    // SAFETY: see the module above.
    let old = unsafe { thread::release_mutant(mutex as u64) };
    executor::point();
    old
}
