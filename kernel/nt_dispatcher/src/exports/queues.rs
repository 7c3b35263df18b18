//! Queues that threads wait on, and mutants.

use gate::memory::touch;
use nt_abi::dispatcher::Mutant;
use nt_abi::{ListEntry, NtStatus};

use super::timeout_of;
use crate::event::signal_state;
use crate::queue::{self, Queue};
use crate::{executor, thread};

gate::exports! {
    /// Queues and mutants.
    pub static TABLE in "ntoskrnl.exe";
    "KeInitializeQueue" = ke_initialize_queue(queue: *mut Queue, count: u32), rules "K-124";
    "KeInsertQueue" = ke_insert_queue(queue: *mut Queue, entry: *mut ListEntry) -> i32, irql <= DISPATCH, rules "K-124";
    "KeInsertHeadQueue" = ke_insert_head_queue(queue: *mut Queue, entry: *mut ListEntry) -> i32, irql <= DISPATCH, rules "K-124";
    "KeRemoveQueue" = ke_remove_queue(queue: *mut Queue, mode: u8, timeout: *const i64) -> u64, irql <= DISPATCH, rules "K-125";
    "KeRemoveQueueEx" = ke_remove_queue_ex(queue: *mut Queue, mode: u8, alertable: u8, timeout: *const i64, entries: *mut u64, count: u32) -> u32, irql <= DISPATCH, rules "K-125";
    "KeRundownQueue" = ke_rundown_queue(queue: *mut Queue) -> *mut ListEntry, irql <= DISPATCH, rules "K-124";
    "KeReadStateQueue" = ke_read_state_queue(queue: u64) -> i32, irql <= DISPATCH, rules "K-124";
    "KeInitializeMutant" = ke_initialize_mutant(mutant: *mut Mutant, owned: u8), rules "K-153";
    "KeReleaseMutant" = ke_release_mutant(mutant: *mut Mutant, increment: i32, abandoned: u8, wait: u8) -> i32, irql <= DISPATCH, rules "K-153";
}

unsafe extern "win64" fn ke_initialize_queue(queue: *mut Queue, count: u32) {
    // SAFETY: see the module above.
    unsafe { queue::initialize(queue, count) }
}

unsafe extern "win64" fn ke_insert_queue(queue: *mut Queue, entry: *mut ListEntry) -> i32 {
    // SAFETY: see the module above.
    let old = unsafe { queue::insert(queue, entry, false) };
    executor::point();
    old
}

unsafe extern "win64" fn ke_insert_head_queue(queue: *mut Queue, entry: *mut ListEntry) -> i32 {
    // SAFETY: see the module above.
    let old = unsafe { queue::insert(queue, entry, true) };
    executor::point();
    old
}

/// A status, where an entry is expected: no entry lies at so low an address.
unsafe extern "win64" fn ke_remove_queue(queue: *mut Queue, _mode: u8, timeout: *const i64) -> u64 {
    // SAFETY: see the module above.
    match unsafe { queue::remove(queue, timeout_of(timeout), false) } {
        Ok(entry) => entry as u64,
        Err(status) => status.0.into(),
    }
}

/// Gives how many entries were taken, at least one, or a status.
unsafe extern "win64" fn ke_remove_queue_ex(
    queue: *mut Queue,
    _mode: u8,
    alertable: u8,
    timeout: *const i64,
    entries: *mut u64,
    count: u32,
) -> u32 {
    for place in 0..count as usize {
        // SAFETY: see the module above.
        unsafe { touch(entries.add(place)) };
    }
    let mut taken = 0;
    while taken < count {
        // Once there is one, for the others nobody waits.
        // SAFETY: see the module above.
        let timeout = if taken == 0 { unsafe { timeout_of(timeout) } } else { Some(0) };
        // SAFETY: see the module above.
        match unsafe { queue::remove(queue, timeout, alertable != 0) } {
            // SAFETY: see the module above.
            Ok(entry) => unsafe { entries.add(taken as usize).write_unaligned(entry as u64) },
            Err(status) if taken == 0 => return status.0,
            Err(_) => break,
        }
        taken += 1;
    }
    taken
}

unsafe extern "win64" fn ke_rundown_queue(queue: *mut Queue) -> *mut ListEntry {
    // SAFETY: see the module above.
    unsafe { queue::run_down(queue) }
}

unsafe extern "win64" fn ke_read_state_queue(queue: u64) -> i32 {
    // SAFETY: see the module above.
    unsafe { signal_state(queue) }.load(std::sync::atomic::Ordering::Acquire)
}

/// As a mutex, but that owning it disables no APCs.
unsafe extern "win64" fn ke_initialize_mutant(mutant: *mut Mutant, owned: u8) {
    // SAFETY: see the module above.
    unsafe {
        super::events::ke_initialize_mutex(mutant, 0);
        (*mutant).apc_disable = 0;
        if owned != 0 {
            thread::take_mutant(mutant as u64, gate::thread::current_thread_object());
        }
    }
}

/// One that another thread owns raises STATUS_MUTANT_NOT_OWNED. An abandoned one is free, however often it was acquired, and
/// the next wait is told.
unsafe extern "win64" fn ke_release_mutant(mutant: *mut Mutant, _increment: i32, abandoned: u8, _wait: u8) -> i32 {
    let object = mutant as u64;
    // SAFETY: see the module above.
    unsafe {
        if !thread::owns_mutant(object, gate::thread::current_thread_object()) {
            gate::seh::raise(NtStatus::MUTANT_NOT_OWNED);
            return 0;
        }
        let old = if abandoned != 0 { thread::abandon_mutant(object) } else { thread::release_mutant(object) };
        executor::point();
        old
    }
}
