//! Fast and guarded mutexes (K-145): one structure, whose initialiser drivers carry inline.

use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use nt_abi::dispatcher::FastMutex;

use crate::{event, thread, wait};

/// The words of a mutex that several threads touch.
struct Words<'a> {
    /// 1 when free, 0 when held, less by one for each thread that waits.
    count: &'a AtomicI32,
    owner: &'a AtomicU64,
    contention: &'a AtomicU32,
}

/// # Safety
/// `mutex` is an initialised fast mutex that stays mapped during the use.
unsafe fn words<'a>(mutex: *mut FastMutex) -> Words<'a> {
    // SAFETY: the caller's promise; the fields are aligned.
    unsafe {
        Words {
            count: AtomicI32::from_ptr(&raw mut (*mutex).count),
            owner: AtomicU64::from_ptr(&raw mut (*mutex).owner),
            contention: AtomicU32::from_ptr(&raw mut (*mutex).contention),
        }
    }
}

/// Takes the mutex. The level is the caller's business. A thread that holds it already ends the run: it would wait
/// for itself.
///
/// # Safety
/// `mutex` is an initialised fast mutex that stays mapped until it is released.
///
/// IRQL: up to APC_LEVEL.
pub unsafe fn acquire(mutex: *mut FastMutex) {
    // SAFETY: the caller's promise.
    let Words { count, owner, contention } = unsafe { words(mutex) };
    let me = gate::thread::current_thread_object();
    if owner.load(Ordering::Relaxed) == me {
        thread::wait_for_self(mutex as u64, "a fast mutex");
    }
    if count.fetch_sub(1, Ordering::Acquire) != 1 {
        contention.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the event is part of the mutex.
        unsafe { wait::wait_single(&raw mut (*mutex).event as u64, None) };
    }
    owner.store(me, Ordering::Relaxed);
}

/// Takes the mutex if nobody has it.
///
/// # Safety
/// As [`acquire`].
pub unsafe fn try_acquire(mutex: *mut FastMutex) -> bool {
    // SAFETY: the caller's promise.
    let Words { count, owner, .. } = unsafe { words(mutex) };
    let taken = count.compare_exchange(1, 0, Ordering::Acquire, Ordering::Relaxed).is_ok();
    if taken {
        owner.store(gate::thread::current_thread_object(), Ordering::Relaxed);
    }
    taken
}

/// Gives the mutex back. From a thread that does not hold it that is a finding (K-145).
///
/// # Safety
/// As [`acquire`].
///
/// IRQL: up to APC_LEVEL.
pub unsafe fn release(mutex: *mut FastMutex) {
    // SAFETY: the caller's promise.
    let Words { count, owner, .. } = unsafe { words(mutex) };
    if owner.swap(0, Ordering::Relaxed) != gate::thread::current_thread_object() {
        gate::finding("K-145", "A fast mutex was released by a thread that does not hold it.", gate::caller());
    }
    if count.fetch_add(1, Ordering::Release) < 0 {
        // SAFETY: a thread waits, so the mutex is still there.
        unsafe { event::set(&raw mut (*mutex).event) };
    }
}
