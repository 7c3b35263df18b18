//! Locks of the host of which the calling thread knows whether it holds one.
//!
//! A host function that touches a driver's memory may fault there, and is then left where it is: the exception goes to the
//! driver that called it, and nothing of the function runs any more. That is no harm while it holds nothing but memory, but a
//! lock that is never given back would stop everybody. So what runs below imports locks with these, and whoever wants to leave
//! it asks [`is_holding`] first.
//!
//! Invariants: a guard is given back by the thread that took it, which std's guards ensure already; none is held while a fiber of
//! the seeded executor is switched away from, so a thread-local count is right for fibers, too.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};

thread_local! {
    // Constant and without a destructor: a signal handler may read it at any time.
    static HELD: Cell<u32> = const { Cell::new(0) };
}

/// Whether the calling thread holds a [`Mutex`].
pub fn is_holding() -> bool {
    HELD.get() != 0
}

/// std's mutex, counted.
#[derive(Debug, Default)]
pub struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    /// As std's.
    pub const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    /// As std's.
    ///
    /// # Errors
    /// As std's; a panic ends the process here, so nobody meets a poisoned one.
    #[inline]
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        match self.0.lock() {
            Ok(guard) => Ok(MutexGuard::of(guard)),
            Err(poisoned) => Err(PoisonError::new(MutexGuard::of(poisoned.into_inner()))),
        }
    }

    /// As std's.
    ///
    /// # Errors
    /// As std's.
    #[inline]
    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Ok(MutexGuard::of(guard)),
            Err(TryLockError::WouldBlock) => Err(TryLockError::WouldBlock),
            Err(TryLockError::Poisoned(poisoned)) => {
                Err(TryLockError::Poisoned(PoisonError::new(MutexGuard::of(poisoned.into_inner()))))
            }
        }
    }
}

/// std's guard, counted.
#[derive(Debug)]
pub struct MutexGuard<'a, T>(std::sync::MutexGuard<'a, T>);

impl<'a, T> MutexGuard<'a, T> {
    #[inline]
    fn of(guard: std::sync::MutexGuard<'a, T>) -> Self {
        HELD.set(HELD.get() + 1);
        Self(guard)
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        HELD.set(HELD.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_knows_whether_it_holds_any_lock() {
        let (a, b) = (Mutex::new(1), Mutex::new(2));
        assert!(!is_holding());
        let first = a.lock().expect("no panic");
        let second = b.try_lock().expect("nobody has it");
        drop(first);
        assert!(is_holding(), "one is left");
        assert!(b.try_lock().is_err());
        assert!(!std::thread::scope(|scope| scope.spawn(is_holding).join()).expect("no panic"), "others hold none");
        drop(second);
        assert!(!is_holding());
    }
}
