//! Spin locks (K-004, K-121, K-122, K-153). The lock word is the driver's; 0 is free.

use std::hint;
use std::sync::atomic::{AtomicU64, Ordering};

use gate::thread::SPIN_LOCKS;
use nt_abi::Irql;
use nt_abi::exception::BugCheck;

use crate::{executor, irql};

/// Turns before a spinning thread lets others run: the holder may be preempted by Linux.
const TURNS_MAX: u32 = 200;
/// A lock word that nobody holds: what drivers initialise it with, inline (K-004).
const FREE: u64 = 0;
/// Set in the word of a lock that is held; the rest is the holder's `KTHREAD`.
const HELD: u32 = 1;

/// Set in the note of a reader-writer spin lock, whose words are smaller and do not say who holds them.
pub(crate) const READER_WRITER: u64 = 1;

/// The lock at `address`.
///
/// # Safety
/// `address` is a driver's KSPIN_LOCK: eight aligned bytes that stay mapped during the call.
unsafe fn word<'a>(address: *mut u64) -> &'a AtomicU64 {
    // SAFETY: the caller's promise; a bad address faults here and is blamed on the importing driver.
    unsafe { AtomicU64::from_ptr(address) }
}

/// Takes the lock without touching the level (`KeAcquireSpinLockAtDpcLevel`). One that the calling thread holds
/// already ends the run (K-153).
///
/// # Safety
/// As for [`release`]: `lock` is a driver's lock word.
pub unsafe fn acquire(lock: *mut u64) {
    // SAFETY: the caller's promise.
    let lock = unsafe { word(lock) };
    if lock.compare_exchange(FREE, holder(), Ordering::Acquire, Ordering::Relaxed).is_err() {
        acquire_contended(lock);
    }
    note_taken(lock.as_ptr() as u64);
}

/// Notes a lock that the calling thread took, by its address. What finds no room is not noted: notes are for reports only.
pub(crate) fn note_taken(lock: u64) {
    let thread = gate::current();
    // SAFETY: only the calling thread uses these fields of its block.
    unsafe {
        let count = (*thread).spin_lock_count;
        if count < SPIN_LOCKS {
            (*thread).spin_locks[count] = lock;
            (*thread).spin_lock_count = count + 1;
        }
    }
}

/// Takes the note back, wherever it stands: locks need not be given back in reverse.
pub(crate) fn note_released(lock: u64) {
    let thread = gate::current();
    // SAFETY: as in `note_taken`.
    unsafe {
        let count = (*thread).spin_lock_count;
        for index in (0..count).rev() {
            if (*thread).spin_locks[index] == lock {
                (*thread).spin_locks[index] = (*thread).spin_locks[count - 1];
                (*thread).spin_lock_count = count - 1;
                break;
            }
        }
    }
}

/// A spin lock of any kind that the calling thread holds, if one is known. A note alone does not count: a lock may have
/// been given back by another thread, or its memory freed.
pub fn held() -> Option<u64> {
    let thread = gate::current();
    // SAFETY: as in `note_taken`.
    let noted = unsafe { &(&(*thread).spin_locks)[..(*thread).spin_lock_count] };
    let is_held = |note: u64| match note & READER_WRITER {
        0 => gate::memory::read_value(note) == Ok(holder()),
        _ => gate::memory::read_value::<u32>(note & !READER_WRITER).is_ok_and(|word| word != 0),
    };
    noted.iter().copied().find(|&note| is_held(note)).map(|note| note & !READER_WRITER)
}

/// What the lock word holds while the calling thread has the lock.
fn holder() -> u64 {
    gate::thread::current_thread_object() | u64::from(HELD)
}

#[cold]
fn acquire_contended(lock: &AtomicU64) {
    let me = holder();
    if lock.load(Ordering::Relaxed) == me {
        let address = lock.as_ptr() as u64;
        gate::bugcheck(BugCheck::SPIN_LOCK_ALREADY_OWNED, [address, 0, 0, 0]);
    }
    let mut turns = 0;
    while lock.compare_exchange_weak(FREE, me, Ordering::Acquire, Ordering::Relaxed).is_err() {
        while lock.load(Ordering::Relaxed) != FREE {
            turns += 1;
            if turns == TURNS_MAX || executor::is_seeded() {
                turns = 0;
                executor::spin(lock.as_ptr().cast(), HELD);
            } else {
                hint::spin_loop();
            }
        }
    }
}

/// Takes the lock if it is free, without touching the level.
///
/// # Safety
/// As for [`release`].
pub unsafe fn try_acquire(lock: *mut u64) -> bool {
    // SAFETY: the caller's promise.
    let taken = unsafe { word(lock) }.compare_exchange(FREE, holder(), Ordering::Acquire, Ordering::Relaxed).is_ok();
    if taken {
        note_taken(lock as u64);
    }
    taken
}

/// Whether nobody holds the lock (`KeTestSpinLock`).
///
/// # Safety
/// As for [`release`].
pub unsafe fn is_free(lock: *mut u64) -> bool {
    // SAFETY: the caller's promise.
    unsafe { word(lock) }.load(Ordering::Acquire) == FREE
}

/// Whether the calling thread has the lock.
///
/// # Safety
/// As for [`release`].
pub unsafe fn is_own(lock: *mut u64) -> bool {
    // SAFETY: the caller's promise.
    unsafe { word(lock) }.load(Ordering::Relaxed) == holder()
}

/// Gives the lock back without touching the level. Releasing a free lock is a finding (K-153).
///
/// # Safety
/// `lock` is a driver's lock word.
pub unsafe fn release(lock: *mut u64) {
    note_released(lock as u64);
    // SAFETY: the caller's promise.
    if unsafe { word(lock) }.swap(FREE, Ordering::Release) == FREE {
        gate::finding("K-153", "a spin lock was released that nobody held", gate::caller());
    }
}

/// Raises to DISPATCH_LEVEL and takes the lock; gives the level to restore.
///
/// # Safety
/// As for [`release`].
pub unsafe fn acquire_raise(lock: *mut u64) -> Irql {
    let old = irql::raise_to_dispatch();
    // SAFETY: the caller's promise.
    unsafe { acquire(lock) };
    old
}

/// Gives the lock back, restores the level, and runs the DPCs that waited for that.
///
/// # Safety
/// As for [`release`].
pub unsafe fn release_lower(lock: *mut u64, old: Irql) {
    // SAFETY: the caller's promise.
    unsafe { release(lock) };
    irql::lower(old);
}
