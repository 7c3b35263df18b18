//! Lists and counters under a spin lock of the driver's (K-140, K-141).
//!
//! The lock is taken at the highest level, because these may be called at any.

use nt_abi::exception::BugCheck;
use nt_abi::{Irql, ListEntry};
use nt_dispatcher::irql::Raised;
use nt_dispatcher::spin;
use std::ptr;

gate::exports! {
    /// `ExInterlocked...`.
    pub static TABLE in "ntoskrnl.exe";
    "ExInterlockedInsertHeadList" | "ExfInterlockedInsertHeadList" = ex_interlocked_insert_head_list(head: *mut ListEntry, entry: *mut ListEntry, lock: *mut u64) -> *mut ListEntry, rules "K-140 K-141";
    "ExInterlockedInsertTailList" | "ExfInterlockedInsertTailList" = ex_interlocked_insert_tail_list(head: *mut ListEntry, entry: *mut ListEntry, lock: *mut u64) -> *mut ListEntry, rules "K-140 K-141";
    "ExInterlockedRemoveHeadList" | "ExfInterlockedRemoveHeadList" = ex_interlocked_remove_head_list(head: *mut ListEntry, lock: *mut u64) -> *mut ListEntry, rules "K-140 K-141";
    "ExInterlockedPushEntryList" | "ExfInterlockedPushEntryList" = ex_interlocked_push_entry_list(head: *mut u64, entry: *mut u64, lock: *mut u64) -> u64, rules "K-141";
    "ExInterlockedPopEntryList" | "ExfInterlockedPopEntryList" = ex_interlocked_pop_entry_list(head: *mut u64, lock: *mut u64) -> u64, rules "K-141";
    "ExInterlockedAddUlong" | "ExfInterlockedAddUlong" = ex_interlocked_add_ulong(addend: *mut u32, increment: u32, lock: *mut u64) -> u32, rules "K-141";
    "ExInterlockedAddLargeInteger" = ex_interlocked_add_large_integer(addend: *mut u64, increment: u64, lock: *mut u64) -> u64, rules "K-141";
    "ExInterlockedAddLargeStatistic" = ex_interlocked_add_large_statistic(addend: *mut u64, increment: u32), rules "K-141";
    "ExInterlockedCompareExchange64" = ex_interlocked_compare_exchange64(to: *mut i64, new: *const i64, old: *const i64, lock: *mut u64) -> i64, rules "K-141";
}

/// Runs `change` with the lock held.
///
/// # Safety
/// The lock and whatever `change` touches are the driver's; a bad pointer faults and is blamed on it. The same holds for
/// the whole module.
unsafe fn locked<T>(lock: *mut u64, change: impl FnOnce() -> T) -> T {
    let _high = Raised::to(Irql::HIGH);
    // SAFETY: see above.
    unsafe {
        spin::acquire(lock);
        let result = change();
        spin::release(lock);
        result
    }
}

/// Ends the run for a list whose links do not agree (`FAST_FAIL_CORRUPT_LIST_ENTRY`), instead of writing through
/// them.
unsafe fn check(entry: *mut ListEntry) {
    // SAFETY: see `locked`.
    unsafe {
        if (*(*entry).flink).blink != entry || (*(*entry).blink).flink != entry {
            gate::bugcheck(BugCheck::KERNEL_SECURITY_CHECK_FAILURE, [3, entry as u64, 0, 0]);
        }
    }
}

unsafe fn insert(before: *mut ListEntry, entry: *mut ListEntry, after: *mut ListEntry) {
    // SAFETY: see `locked`.
    unsafe {
        *entry = ListEntry { flink: after, blink: before };
        (*before).flink = entry;
        (*after).blink = entry;
    }
}

/// An entry, or null if it is the head: the list was empty.
fn unless_head(entry: *mut ListEntry, head: *mut ListEntry) -> *mut ListEntry {
    if entry == head { ptr::null_mut() } else { entry }
}

unsafe extern "win64" fn ex_interlocked_insert_head_list(
    head: *mut ListEntry,
    entry: *mut ListEntry,
    lock: *mut u64,
) -> *mut ListEntry {
    // SAFETY: see `locked`.
    unsafe {
        locked(lock, || {
            check(head);
            let first = (*head).flink;
            insert(head, entry, first);
            unless_head(first, head)
        })
    }
}

unsafe extern "win64" fn ex_interlocked_insert_tail_list(
    head: *mut ListEntry,
    entry: *mut ListEntry,
    lock: *mut u64,
) -> *mut ListEntry {
    // SAFETY: see `locked`.
    unsafe {
        locked(lock, || {
            check(head);
            let last = (*head).blink;
            insert(last, entry, head);
            unless_head(last, head)
        })
    }
}

unsafe extern "win64" fn ex_interlocked_remove_head_list(head: *mut ListEntry, lock: *mut u64) -> *mut ListEntry {
    // SAFETY: see `locked`.
    unsafe {
        locked(lock, || {
            let first = (*head).flink;
            if first == head {
                return ptr::null_mut();
            }
            check(first);
            let second = (*first).flink;
            (*head).flink = second;
            (*second).blink = head;
            first
        })
    }
}

unsafe extern "win64" fn ex_interlocked_push_entry_list(head: *mut u64, entry: *mut u64, lock: *mut u64) -> u64 {
    // SAFETY: see `locked`.
    unsafe {
        locked(lock, || {
            let first = *head;
            *entry = first;
            *head = entry as u64;
            first
        })
    }
}

unsafe extern "win64" fn ex_interlocked_pop_entry_list(head: *mut u64, lock: *mut u64) -> u64 {
    // SAFETY: see `locked`.
    unsafe {
        locked(lock, || {
            let first = *head;
            if first != 0 {
                *head = *(first as *const u64);
            }
            first
        })
    }
}

unsafe extern "win64" fn ex_interlocked_add_ulong(addend: *mut u32, increment: u32, lock: *mut u64) -> u32 {
    // SAFETY: see `locked`.
    unsafe { locked(lock, || std::mem::replace(&mut *addend, (*addend).wrapping_add(increment))) }
}

unsafe extern "win64" fn ex_interlocked_add_large_integer(addend: *mut u64, increment: u64, lock: *mut u64) -> u64 {
    // SAFETY: see `locked`.
    unsafe { locked(lock, || std::mem::replace(&mut *addend, (*addend).wrapping_add(increment))) }
}

unsafe extern "win64" fn ex_interlocked_add_large_statistic(addend: *mut u64, increment: u32) {
    // SAFETY: see `locked`; aligned by the driver.
    unsafe {
        std::sync::atomic::AtomicU64::from_ptr(addend).fetch_add(increment.into(), std::sync::atomic::Ordering::SeqCst)
    };
}

unsafe extern "win64" fn ex_interlocked_compare_exchange64(
    to: *mut i64,
    new: *const i64,
    old: *const i64,
    lock: *mut u64,
) -> i64 {
    // SAFETY: see `locked`.
    unsafe {
        locked(lock, || {
            let value = *to;
            if value == *old {
                *to = *new;
            }
            value
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::kernel_thread;
    use proves::proves;

    fn entry() -> ListEntry {
        ListEntry { flink: ptr::null_mut(), blink: ptr::null_mut() }
    }

    #[proves("K-140")]
    #[test]
    fn inserting_gives_the_previous_end_and_removing_gives_null_when_empty() {
        kernel_thread();
        let (mut head, mut a, mut b, mut c, mut lock) = (entry(), entry(), entry(), entry(), 0);
        let head = &raw mut head;
        let (a, b, c) = (&raw mut a, &raw mut b, &raw mut c);
        // SAFETY: a list of this test.
        unsafe {
            *head = ListEntry { flink: head, blink: head };
            assert!(ex_interlocked_remove_head_list(head, &mut lock).is_null());
            assert!(ex_interlocked_insert_head_list(head, a, &mut lock).is_null());
            assert_eq!(ex_interlocked_insert_head_list(head, b, &mut lock), a);
            assert_eq!(ex_interlocked_insert_tail_list(head, c, &mut lock), a);
            for expected in [b, a, c, ptr::null_mut()] {
                assert_eq!(ex_interlocked_remove_head_list(head, &mut lock), expected);
            }
        }
        assert_eq!(lock, 0);
        assert_eq!(gate::irql(), Irql::PASSIVE);
    }

    #[proves("K-141")]
    #[test]
    fn lists_may_be_changed_at_any_level_which_is_restored() {
        kernel_thread();
        let (mut head, mut one, mut lock) = (0u64, 0u64, 0);
        let _raised = Raised::to(Irql::CLOCK);
        // SAFETY: a list of this test.
        unsafe {
            assert_eq!(ex_interlocked_push_entry_list(&mut head, &mut one, &mut lock), 0);
            assert_eq!(ex_interlocked_pop_entry_list(&mut head, &mut lock), &raw mut one as u64);
            assert_eq!(ex_interlocked_pop_entry_list(&mut head, &mut lock), 0);
        }
        assert_eq!(gate::irql(), Irql::CLOCK);
    }

    #[test]
    fn additions_give_the_value_before() {
        kernel_thread();
        let (mut small, mut large, mut lock) = (u32::MAX, 7u64, 0);
        // SAFETY: counters of this test.
        unsafe {
            assert_eq!(ex_interlocked_add_ulong(&mut small, 2, &mut lock), u32::MAX);
            assert_eq!(ex_interlocked_add_large_integer(&mut large, 3, &mut lock), 7);
            ex_interlocked_add_large_statistic(&mut large, 5);
        }
        assert_eq!((small, large), (1, 15));
    }
}
