//! Locks that many may hold to read and one to write: reader-writer spin locks and push locks. The words are the
//! drivers', 0 when free.

use std::hint;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::bell::Bell;
use crate::{executor, spin, thread};

/// Of an EX_SPIN_LOCK: somebody writes, or waits for readers to leave. The rest counts readers.
const WRITER: u32 = 1 << 31;
/// Turns before a spinning thread lets others run.
const TURNS_MAX: u32 = 200;

/// # Safety
/// `lock` is a driver's EX_SPIN_LOCK that stays mapped during the use.
unsafe fn spin_word<'a>(lock: *mut u32) -> &'a AtomicU32 {
    // SAFETY: the caller's promise.
    unsafe { AtomicU32::from_ptr(lock) }
}

/// How a thread notes that it holds the lock.
fn noted(lock: *mut u32) -> u64 {
    lock as u64 | spin::READER_WRITER
}

fn spin_until_clear(word: &AtomicU32, mask: u32) {
    let mut turns = 0;
    while word.load(Ordering::Relaxed) & mask != 0 {
        turns += 1;
        if turns == TURNS_MAX || executor::is_seeded() {
            turns = 0;
            executor::spin(word.as_ptr(), mask);
        } else {
            hint::spin_loop();
        }
    }
}

/// Takes a reader-writer spin lock to read.
///
/// # Safety
/// `lock` is a driver's EX_SPIN_LOCK.
///
/// IRQL: DISPATCH_LEVEL.
pub unsafe fn spin_shared(lock: *mut u32) {
    // SAFETY: the caller's promise.
    let word = unsafe { spin_word(lock) };
    let add = |value: u32| (value & WRITER == 0).then(|| value + 1);
    while word.fetch_update(Ordering::Acquire, Ordering::Relaxed, add).is_err() {
        spin_until_clear(word, WRITER);
    }
    spin::note_taken(noted(lock));
}

/// Gives it back.
///
/// # Safety
/// As [`spin_shared`].
pub unsafe fn release_spin_shared(lock: *mut u32) {
    spin::note_released(noted(lock));
    let subtract = |value: u32| (value & !WRITER != 0).then(|| value - 1);
    // SAFETY: the caller's promise.
    if unsafe { spin_word(lock) }.fetch_update(Ordering::Release, Ordering::Relaxed, subtract).is_err() {
        report_free();
    }
}

/// Takes a reader-writer spin lock to write. Readers that come later wait behind.
///
/// # Safety
/// As [`spin_shared`].
///
/// IRQL: DISPATCH_LEVEL.
pub unsafe fn spin_exclusive(lock: *mut u32) {
    // SAFETY: the caller's promise.
    let word = unsafe { spin_word(lock) };
    while word.fetch_or(WRITER, Ordering::Acquire) & WRITER != 0 {
        spin_until_clear(word, WRITER);
    }
    spin_until_clear(word, !WRITER);
    // The readers' releases are before this.
    word.load(Ordering::Acquire);
    spin::note_taken(noted(lock));
}

/// Gives it back.
///
/// # Safety
/// As [`spin_shared`].
pub unsafe fn release_spin_exclusive(lock: *mut u32) {
    spin::note_released(noted(lock));
    // SAFETY: the caller's promise.
    if unsafe { spin_word(lock) }.fetch_and(!WRITER, Ordering::Release) & WRITER == 0 {
        report_free();
    }
}

/// Makes the only reader the writer. `false` if there are others.
///
/// # Safety
/// As [`spin_shared`].
pub unsafe fn try_convert(lock: *mut u32) -> bool {
    // SAFETY: the caller's promise.
    unsafe { spin_word(lock) }.compare_exchange(1, WRITER, Ordering::Acquire, Ordering::Relaxed).is_ok()
}

fn report_free() {
    gate::finding("K-153", "A reader-writer spin lock was released that nobody held that way.", gate::caller());
}

/// Of an EX_PUSH_LOCK: the rest of the word is the writer. Else it is twice the number of readers.
const PUSH_WRITER: u64 = 1;
const PUSH_READER: u64 = 2;

/// One bell for all: push locks are held shortly, and rung only when somebody waits.
static PUSH_FREED: Bell = Bell::new();

/// # Safety
/// `lock` is a driver's EX_PUSH_LOCK that stays mapped during the use.
unsafe fn push_word<'a>(lock: *mut u64) -> &'a AtomicU64 {
    // SAFETY: the caller's promise.
    unsafe { AtomicU64::from_ptr(lock) }
}

/// Takes a push lock to write. A thread that writes already ends the run: it would wait for itself.
///
/// # Safety
/// `lock` is a driver's EX_PUSH_LOCK.
///
/// IRQL: up to APC_LEVEL.
pub unsafe fn push_exclusive(lock: *mut u64) {
    // SAFETY: the caller's promise.
    let word = unsafe { push_word(lock) };
    let me = gate::thread::current_thread_object() | PUSH_WRITER;
    let take = || word.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed).is_ok();
    if !take() {
        if word.load(Ordering::Relaxed) == me {
            thread::wait_for_self(lock as u64, "a push lock");
        }
        PUSH_FREED.wait_for(lock as u64, take);
    }
}

/// Takes a push lock to read.
///
/// # Safety
/// As [`push_exclusive`].
///
/// IRQL: up to APC_LEVEL.
pub unsafe fn push_shared(lock: *mut u64) {
    // SAFETY: the caller's promise.
    let word = unsafe { push_word(lock) };
    let add = |value: u64| (value & PUSH_WRITER == 0).then(|| value + PUSH_READER);
    let take = || word.fetch_update(Ordering::Acquire, Ordering::Relaxed, add).is_ok();
    if !take() {
        if word.load(Ordering::Relaxed) == gate::thread::current_thread_object() | PUSH_WRITER {
            thread::wait_for_self(lock as u64, "a push lock");
        }
        PUSH_FREED.wait_for(lock as u64, take);
    }
}

/// Gives a push lock back, however it was taken. One that nobody holds is a finding.
///
/// # Safety
/// As [`push_exclusive`].
pub unsafe fn release_push(lock: *mut u64) {
    let release = |value: u64| match value {
        0 => None,
        writer if writer & PUSH_WRITER != 0 => Some(0),
        readers => Some(readers - PUSH_READER),
    };
    // SAFETY: the caller's promise.
    match unsafe { push_word(lock) }.fetch_update(Ordering::Release, Ordering::Relaxed, release) {
        Ok(before) if before == PUSH_READER || before & PUSH_WRITER != 0 => PUSH_FREED.ring(),
        Ok(_) => {}
        Err(_) => gate::finding("K-145", "A push lock was released that nobody held.", gate::caller()),
    }
}
