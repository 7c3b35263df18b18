//! Singly linked lists without a lock, in drivers' memory ([`sequence`]). Drivers' inlined code reads the depth and the
//! first entry and clears a header to initialise it; everything else comes here.

use std::arch::asm;
use std::ptr;

use gate::memory;
use nt_abi::NtStatus;

use super::sequence::{self, Header, Words};
use crate::raise;

gate::exports! {
    /// SLISTs.
    pub static TABLE in "ntoskrnl.exe";
    "InitializeSListHead" | "RtlInitializeSListHead" = initialize_slist_head(header: *mut u128), rules "K-207";
    "ExpInterlockedPushEntrySList" | "InterlockedPushEntrySList" = push_entry(header: *mut u128, entry: u64) -> u64, irql <= DISPATCH, rules "K-139";
    "ExpInterlockedPopEntrySList" | "InterlockedPopEntrySList" = pop_entry(header: *mut u128) -> u64, irql <= DISPATCH, rules "K-139";
    "ExpInterlockedFlushSList" | "InterlockedFlushSList" = flush_entries(header: *mut u128) -> u64, irql <= DISPATCH, rules "K-139";
    "ExInterlockedPushEntrySList" = push_entry_locked(header: *mut u128, entry: u64, lock: u64) -> u64, irql <= DISPATCH, rules "K-139";
    "ExInterlockedPopEntrySList" = pop_entry_locked(header: *mut u128, lock: u64) -> u64, irql <= DISPATCH, rules "K-139";
    "ExInterlockedFlushSList" = flush_entries(header: *mut u128) -> u64, irql <= DISPATCH, rules "K-139";
    "ExQueryDepthSList" = query_depth(header: *const u128) -> u16, rules "K-139";
    "FirstEntrySList" | "RtlFirstEntrySList" = first_entry(header: *const u128) -> u64, rules "K-139";
}

/// A driver's header, which it must have aligned, and entries of the driver's; bad ones fault and are blamed on it. The
/// same holds for every SAFETY note of this module.
struct InDriver(*mut u128);

impl Words for InDriver {
    type Fault = memory::Fault;

    fn glance(&self) -> u128 {
        // SAFETY: see above. Two words, each read at once.
        unsafe {
            let words = self.0.cast::<u64>();
            let low = words.read_volatile();
            u128::from(low) | u128::from(words.add(1).read_volatile()) << 64
        }
    }

    fn exchange(&self, old: u128, new: u128) -> u128 {
        let (low, high): (u64, u64);
        // Every processor that a 64-bit Windows since 8.1 runs on has the instruction, and drivers rely on it. Rust's own
        // 128-bit exchange may become a call to a library that is not there.
        // SAFETY: see above. rbx is put back, because the compiler may need it.
        unsafe {
            asm!(
                "xchg rbx, rsi",
                "lock cmpxchg16b xmmword ptr [rdi]",
                "mov rbx, rsi",
                in("rdi") self.0,
                inout("rsi") new as u64 => _,
                in("rcx") (new >> 64) as u64,
                inout("rax") old as u64 => low,
                inout("rdx") (old >> 64) as u64 => high,
                options(nostack),
            );
        }
        u128::from(low) | u128::from(high) << 64
    }

    fn link(&self, entry: u64) -> Result<u64, memory::Fault> {
        memory::read_value(entry)
    }

    fn set_link(&self, entry: u64, link: u64) {
        // SAFETY: see above.
        unsafe { (entry as *mut u64).write(link) };
    }
}

/// Puts an entry first; gives the one that was, or 0.
///
/// # Safety
/// The driver's header and entry. The same holds for the whole module.
pub(super) unsafe fn push(header: *mut u128, entry: u64) -> u64 {
    sequence::push(&InDriver(header), entry)
}

/// Takes the first entry, or gives 0.
pub(super) unsafe fn pop(header: *mut u128) -> u64 {
    sequence::pop(&InDriver(header)).unwrap_or_else(|fault| {
        raise::access_violation(fault);
        0
    })
}

/// Takes all entries; gives the first.
pub(super) unsafe fn flush(header: *mut u128) -> u64 {
    sequence::flush(&InDriver(header))
}

unsafe extern "win64" fn initialize_slist_head(header: *mut u128) {
    if !header.is_aligned() {
        raise::status(NtStatus::DATATYPE_MISALIGNMENT);
        return;
    }
    // SAFETY: see `InDriver`.
    unsafe { header.write(0) };
}

unsafe extern "win64" fn push_entry(header: *mut u128, entry: u64) -> u64 {
    // SAFETY: see `InDriver`.
    unsafe { push(header, entry) }
}

unsafe extern "win64" fn pop_entry(header: *mut u128) -> u64 {
    // SAFETY: see `InDriver`.
    unsafe { pop(header) }
}

/// The lock is left alone: the list needs none.
unsafe extern "win64" fn push_entry_locked(header: *mut u128, entry: u64, _lock: u64) -> u64 {
    // SAFETY: see `InDriver`.
    unsafe { push(header, entry) }
}

unsafe extern "win64" fn pop_entry_locked(header: *mut u128, _lock: u64) -> u64 {
    // SAFETY: see `InDriver`.
    unsafe { pop(header) }
}

unsafe extern "win64" fn flush_entries(header: *mut u128) -> u64 {
    // SAFETY: see `InDriver`.
    unsafe { flush(header) }
}

unsafe extern "win64" fn query_depth(header: *const u128) -> u16 {
    Header::of(InDriver(header.cast_mut()).glance()).depth
}

unsafe extern "win64" fn first_entry(header: *const u128) -> u64 {
    if header.is_null() {
        return ptr::null::<u8>() as u64;
    }
    Header::of(InDriver(header.cast_mut()).glance()).first
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::UnsafeCell;

    #[repr(align(16))]
    struct Entry(UnsafeCell<[u64; 2]>);
    struct Head(UnsafeCell<u128>);
    impl Head {
        fn get(&self) -> *mut u128 {
            self.0.get()
        }
    }
    // SAFETY: touched by SLIST operations only.
    unsafe impl Sync for Head {}
    // SAFETY: as above.
    unsafe impl Sync for Entry {}

    fn entry(entry: &Entry) -> u64 {
        entry.0.get() as u64
    }

    fn new_entries(count: usize) -> Vec<Entry> {
        (0..count).map(|_| Entry(UnsafeCell::new([0; 2]))).collect()
    }

    #[test]
    fn entries_come_back_last_first_and_are_counted() {
        let head = Head(UnsafeCell::new(0));
        let entries = new_entries(3);
        // SAFETY: a header and entries of this test.
        unsafe {
            let header = head.get();
            assert_eq!(pop(header), 0);
            assert_eq!(push(header, entry(&entries[0])), 0);
            assert_eq!(push(header, entry(&entries[1])), entry(&entries[0]));
            push(header, entry(&entries[2]));
            assert_eq!((query_depth(header), first_entry(header)), (3, entry(&entries[2])));
            assert_eq!(pop(header), entry(&entries[2]));
            assert_eq!(flush(header), entry(&entries[1]));
            assert_eq!((query_depth(header), pop(header)), (0, 0));
        }
    }

    #[test]
    fn no_entry_is_lost_or_given_twice_between_threads() {
        let head = Head(UnsafeCell::new(0));
        let entries = new_entries(64);
        for one in &entries {
            // SAFETY: a header and entries of this test.
            unsafe { push(head.get(), entry(one)) };
        }
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..50_000 {
                        // SAFETY: as above.
                        unsafe {
                            let (a, b) = (pop(head.get()), pop(head.get()));
                            assert!(a != b && a != 0 && b != 0);
                            push(head.get(), a);
                            push(head.get(), b);
                        }
                    }
                });
            }
        });
        // SAFETY: as above.
        let mut left: Vec<u64> = std::iter::from_fn(|| Some(unsafe { pop(head.get()) }).filter(|&e| e != 0)).collect();
        left.sort_unstable();
        let mut all: Vec<u64> = entries.iter().map(entry).collect();
        all.sort_unstable();
        assert_eq!(left, all);
    }
}
