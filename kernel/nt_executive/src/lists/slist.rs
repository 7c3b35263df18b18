//! Singly linked lists without a lock.
//!
//! A header is two words that change together: a depth and a sequence number, and the first entry's address. Drivers'
//! inlined code reads the depth and the first entry and clears a header to initialise it; everything else comes here.
//! The sequence number changes with every push and pop, so an entry that was taken and put back is not mistaken for
//! one that never went.

use std::arch::asm;
use std::ptr;

use gate::memory;
use nt_abi::NtStatus;

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

/// A header's value.
#[derive(Clone, Copy)]
struct Header {
    depth: u16,
    sequence: u64,
    first: u64,
}

/// Entries are 16-byte aligned; the low bits of the second word are not part of the address.
const ADDRESS: u64 = !0xF;
const SEQUENCE_MASK: u64 = (1 << 48) - 1;

impl Header {
    fn of(words: u128) -> Self {
        let (low, high) = (words as u64, (words >> 64) as u64);
        Self { depth: low as u16, sequence: low >> 16, first: high & ADDRESS }
    }

    fn words(self) -> u128 {
        u128::from(self.depth) | u128::from(self.sequence & SEQUENCE_MASK) << 16 | u128::from(self.first) << 64
    }
}

/// Swaps a header for another if nobody changed it; gives what was there.
///
/// # Safety
/// The driver's header, which it must have aligned; a bad one faults and is blamed on it. The same holds for the whole
/// module.
unsafe fn exchange(header: *mut u128, old: u128, new: u128) -> u128 {
    let (low, high): (u64, u64);
    // Every processor that a 64-bit Windows since 8.1 runs on has the instruction, and drivers rely on it. Rust's own
    // 128-bit exchange may become a call to a library that is not there.
    // SAFETY: see above. rbx is put back, because the compiler may need it.
    unsafe {
        asm!(
            "xchg rbx, rsi",
            "lock cmpxchg16b xmmword ptr [rdi]",
            "mov rbx, rsi",
            in("rdi") header,
            inout("rsi") new as u64 => _,
            in("rcx") (new >> 64) as u64,
            inout("rax") old as u64 => low,
            inout("rdx") (old >> 64) as u64 => high,
            options(nostack),
        );
    }
    u128::from(low) | u128::from(high) << 64
}

/// A header as it may be; half of it may be newer than the other half, which the exchange then finds out.
unsafe fn glance(header: *const u128) -> u128 {
    // SAFETY: see `exchange`. Two words, each read at once.
    unsafe {
        let words = header.cast::<u64>();
        let low = words.read_volatile();
        u128::from(low) | u128::from(words.add(1).read_volatile()) << 64
    }
}

/// Puts an entry first; gives the one that was, or 0.
pub(super) unsafe fn push(header: *mut u128, entry: u64) -> u64 {
    // SAFETY: see `exchange`; the entry is the driver's.
    unsafe {
        let mut seen = glance(header);
        loop {
            let old = Header::of(seen);
            (entry as *mut u64).write(old.first);
            let new = Header { depth: old.depth.wrapping_add(1), sequence: old.sequence.wrapping_add(1), first: entry };
            match exchange(header, seen, new.words()) {
                now if now == seen => return old.first,
                now => seen = now,
            }
        }
    }
}

/// Takes the first entry, or gives 0.
pub(super) unsafe fn pop(header: *mut u128) -> u64 {
    // SAFETY: see `exchange`.
    unsafe {
        let mut seen = glance(header);
        loop {
            let old = Header::of(seen);
            if old.first == 0 {
                return 0;
            }
            // Another processor may take the entry and free its memory meanwhile; then the exchange fails.
            let next = memory::read_value::<u64>(old.first);
            let new = Header {
                depth: old.depth.wrapping_sub(1),
                sequence: old.sequence.wrapping_add(1),
                first: next.unwrap_or(0) & ADDRESS,
            };
            let unchanged = match next {
                Ok(_) => exchange(header, seen, new.words()),
                Err(_) => glance(header),
            };
            match next {
                Ok(_) if unchanged == seen => return old.first,
                Err(fault) if unchanged == seen => {
                    raise::access_violation(fault);
                    return 0;
                }
                _ => seen = unchanged,
            }
        }
    }
}

/// Takes all entries; gives the first.
pub(super) unsafe fn flush(header: *mut u128) -> u64 {
    // SAFETY: see `exchange`.
    unsafe {
        let mut seen = glance(header);
        loop {
            let old = Header::of(seen);
            let new = Header { depth: 0, sequence: old.sequence.wrapping_add(1), first: 0 };
            match exchange(header, seen, new.words()) {
                now if now == seen => return old.first,
                now => seen = now,
            }
        }
    }
}

unsafe extern "win64" fn initialize_slist_head(header: *mut u128) {
    if !header.is_aligned() {
        raise::status(NtStatus::DATATYPE_MISALIGNMENT);
        return;
    }
    // SAFETY: see `exchange`.
    unsafe { header.write(0) };
}

unsafe extern "win64" fn push_entry(header: *mut u128, entry: u64) -> u64 {
    // SAFETY: see `exchange`.
    unsafe { push(header, entry) }
}

unsafe extern "win64" fn pop_entry(header: *mut u128) -> u64 {
    // SAFETY: see `exchange`.
    unsafe { pop(header) }
}

/// The lock is left alone: the list needs none.
unsafe extern "win64" fn push_entry_locked(header: *mut u128, entry: u64, _lock: u64) -> u64 {
    // SAFETY: see `exchange`.
    unsafe { push(header, entry) }
}

unsafe extern "win64" fn pop_entry_locked(header: *mut u128, _lock: u64) -> u64 {
    // SAFETY: see `exchange`.
    unsafe { pop(header) }
}

unsafe extern "win64" fn flush_entries(header: *mut u128) -> u64 {
    // SAFETY: see `exchange`.
    unsafe { flush(header) }
}

unsafe extern "win64" fn query_depth(header: *const u128) -> u16 {
    // SAFETY: see `exchange`.
    unsafe { Header::of(glance(header)).depth }
}

unsafe extern "win64" fn first_entry(header: *const u128) -> u64 {
    if header.is_null() {
        return ptr::null::<u8>() as u64;
    }
    // SAFETY: see `exchange`.
    unsafe { Header::of(glance(header)).first }
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
