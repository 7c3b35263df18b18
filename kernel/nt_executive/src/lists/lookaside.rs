//! Lookaside lists (K-139).
//!
//! Allocating and freeing is inlined into drivers: they pop from and push on the SLIST in the structure, count in it,
//! and call its two routines when it is empty or full. So the routines are real addresses of functions here, and the
//! structure is the driver's; what the host remembers is only which lists exist, for the report of those left behind.

use std::collections::BTreeMap;
use std::mem::offset_of;
use std::sync::PoisonError;

use host_lock::{Mutex, MutexGuard};
use nt_abi::NtStatus;

use super::slist;
use crate::pool::{self, Tag};

gate::exports! {
    /// Lookaside lists.
    pub static TABLE in "ntoskrnl.exe";
    "ExInitializeNPagedLookasideList" = ex_initialize_npaged_lookaside_list(list: *mut Lookaside, allocate: u64, free: u64, flags: u32, bytes: u64, tag: Tag, depth: u16), irql <= DISPATCH, rules "K-139";
    "ExDeleteNPagedLookasideList" = ex_delete_lookaside_list(list: *mut Lookaside), irql <= DISPATCH, rules "K-139";
    "ExInitializePagedLookasideList" = ex_initialize_paged_lookaside_list(list: *mut Lookaside, allocate: u64, free: u64, flags: u32, bytes: u64, tag: Tag, depth: u16), irql <= APC, rules "K-139";
    "ExDeletePagedLookasideList" = ex_delete_lookaside_list(list: *mut Lookaside), irql <= APC, rules "K-139";
    "ExAllocateFromPagedLookasideList" = ex_allocate_from_paged_lookaside_list(list: *mut Lookaside) -> u64, irql <= APC, rules "K-139";
    "ExFreeToPagedLookasideList" = ex_free_to_paged_lookaside_list(list: *mut Lookaside, entry: u64), irql <= APC, rules "K-139";
    "ExInitializeLookasideListEx" = ex_initialize_lookaside_list_ex(list: *mut Lookaside, allocate: u64, free: u64, pool: u32, flags: u32, bytes: u64, tag: Tag, depth: u16) -> NtStatus, irql <= DISPATCH, rules "K-139";
    "ExDeleteLookasideListEx" = ex_delete_lookaside_list_ex(list: *mut Lookaside), irql <= DISPATCH, rules "K-139";
    "ExFlushLookasideListEx" = ex_flush_lookaside_list_ex(list: *mut Lookaside), irql <= DISPATCH, rules "K-139";
}

/// `GENERAL_LOOKASIDE`, as far as drivers' inlined code touches it and a little further.
#[doc(alias = "GENERAL_LOOKASIDE")]
#[derive(Debug)]
#[repr(C, align(16))]
pub struct Lookaside {
    list_head: u128,
    /// How many entries inlined code keeps.
    depth: u16,
    maximum_depth: u16,
    total_allocates: u32,
    allocate_misses: u32,
    total_frees: u32,
    free_misses: u32,
    pool_type: u32,
    tag: Tag,
    size: u32,
    allocate: u64,
    free: u64,
    list_entry: [u64; 2],
    last_totals: [u32; 2],
    future: [u32; 2],
}

const _: () = {
    assert!(size_of::<Lookaside>() == 0x60 && offset_of!(Lookaside, depth) == 0x10);
    assert!(offset_of!(Lookaside, total_allocates) == 0x14 && offset_of!(Lookaside, pool_type) == 0x24);
    assert!(offset_of!(Lookaside, tag) == 0x28 && offset_of!(Lookaside, size) == 0x2C);
    assert!(offset_of!(Lookaside, allocate) == 0x30 && offset_of!(Lookaside, free) == 0x38);
};

/// What Windows begins with; it then adapts the depth to the traffic, which here stays.
const DEPTH: u16 = 4;
const DEPTH_MAX: u16 = 256;
/// Smallest entry: one link.
const BYTES_MIN: u64 = 16;
const PAGED: u32 = 1;
/// `POOL_RAISE_IF_ALLOCATION_FAILURE`.
const RAISE: u32 = 16;

/// Flags of `ExInitializeLookasideListEx`.
const EX_RAISE_ON_FAIL: u32 = 1;
const EX_FAIL_NO_RAISE: u32 = 2;

/// Lists that were initialised and not deleted, with the driver instruction that did.
static LISTS: Mutex<BTreeMap<u64, u64>> = Mutex::new(BTreeMap::new());

fn lists() -> MutexGuard<'static, BTreeMap<u64, u64>> {
    LISTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Visits lists that were not deleted, with the driver instruction that initialised each.
pub fn for_each_live(mut visit: impl FnMut(u64, u64)) {
    let all = lists().clone();
    all.into_iter().for_each(|(list, caller)| visit(list, caller));
}

/// How a list is set up.
struct New {
    allocate: u64,
    free: u64,
    pool_type: u32,
    bytes: u64,
    tag: Tag,
}

/// # Safety
/// The driver's list; a bad pointer faults and is blamed on it. The same holds for the whole module.
unsafe fn initialize(list: *mut Lookaside, new: New) {
    // SAFETY: see above.
    unsafe {
        list.write(Lookaside {
            list_head: 0,
            depth: DEPTH,
            maximum_depth: DEPTH_MAX,
            total_allocates: 0,
            allocate_misses: 0,
            total_frees: 0,
            free_misses: 0,
            pool_type: new.pool_type,
            tag: new.tag,
            size: new.bytes.max(BYTES_MIN) as u32,
            allocate: new.allocate,
            free: new.free,
            list_entry: [0; 2],
            last_totals: [0; 2],
            future: [0; 2],
        });
    }
    lists().insert(list as u64, gate::caller());
}

fn or_default(routine: u64, default: u64) -> u64 {
    if routine == 0 { default } else { routine }
}

unsafe extern "win64" fn ex_initialize_npaged_lookaside_list(
    list: *mut Lookaside,
    allocate: u64,
    free: u64,
    flags: u32,
    bytes: u64,
    tag: Tag,
    _depth: u16,
) {
    let (allocate, free) = (
        or_default(allocate, default_allocate as *const () as u64),
        or_default(free, default_free as *const () as u64),
    );
    // SAFETY: see `initialize`.
    unsafe { initialize(list, New { allocate, free, pool_type: flags, bytes, tag }) };
}

unsafe extern "win64" fn ex_initialize_paged_lookaside_list(
    list: *mut Lookaside,
    allocate: u64,
    free: u64,
    flags: u32,
    bytes: u64,
    tag: Tag,
    _depth: u16,
) {
    let (allocate, free) = (
        or_default(allocate, default_allocate as *const () as u64),
        or_default(free, default_free as *const () as u64),
    );
    // SAFETY: see `initialize`.
    unsafe { initialize(list, New { allocate, free, pool_type: flags | PAGED, bytes, tag }) };
}

#[allow(clippy::too_many_arguments, reason = "NT's signature")]
unsafe extern "win64" fn ex_initialize_lookaside_list_ex(
    list: *mut Lookaside,
    allocate: u64,
    free: u64,
    pool: u32,
    flags: u32,
    bytes: u64,
    tag: Tag,
    depth: u16,
) -> NtStatus {
    let both = EX_RAISE_ON_FAIL | EX_FAIL_NO_RAISE;
    if flags & !both != 0 || flags & both == both {
        return NtStatus::INVALID_PARAMETER_5;
    }
    if depth != 0 {
        return NtStatus::INVALID_PARAMETER_8;
    }
    let (allocate, free) = (
        or_default(allocate, default_allocate_ex as *const () as u64),
        or_default(free, default_free_ex as *const () as u64),
    );
    let pool_type = if flags & EX_RAISE_ON_FAIL != 0 { pool | RAISE } else { pool };
    // SAFETY: see `initialize`.
    unsafe { initialize(list, New { allocate, free, pool_type, bytes, tag }) };
    NtStatus::SUCCESS
}

/// Frees all entries a list holds, each by its free routine; `ex`: that takes the list, too. Where an exception passes the
/// routine, the rest stays in the list.
unsafe fn drain(list: *mut Lookaside, ex: bool) {
    // SAFETY: see `initialize`. The routine is the driver's, or one of this module.
    unsafe {
        while !gate::seh::is_leaving() {
            let entry = slist::pop(&raw mut (*list).list_head);
            if entry == 0 {
                return;
            }
            let routine = (*list).free;
            if routine == default_free as *const () as u64 || routine == default_free_ex as *const () as u64 {
                pool::free(entry, None, gate::caller());
            } else if ex {
                gate::call::call2(routine, entry, list as u64);
            } else {
                gate::call::call1(routine, entry);
            }
        }
    }
}

/// What headers of other processors import; those of this one have it inline.
unsafe extern "win64" fn ex_allocate_from_paged_lookaside_list(list: *mut Lookaside) -> u64 {
    // SAFETY: see `initialize`; the routine is the list's own.
    unsafe {
        (*list).total_allocates += 1;
        let entry = slist::pop(&raw mut (*list).list_head);
        if entry != 0 {
            return entry;
        }
        (*list).allocate_misses += 1;
        gate::call::call3((*list).allocate, (*list).pool_type.into(), (*list).size.into(), (*list).tag.into())
    }
}

unsafe extern "win64" fn ex_free_to_paged_lookaside_list(list: *mut Lookaside, entry: u64) {
    // SAFETY: see `initialize`; the routine is the list's own.
    unsafe {
        (*list).total_frees += 1;
        // The low half of the head counts what is in the list.
        if (*list).list_head as u16 >= (*list).depth {
            (*list).free_misses += 1;
            gate::call::call1((*list).free, entry);
        } else {
            slist::push(&raw mut (*list).list_head, entry);
        }
    }
}

unsafe extern "win64" fn ex_delete_lookaside_list(list: *mut Lookaside) {
    lists().remove(&(list as u64));
    // SAFETY: see `initialize`.
    unsafe { drain(list, false) };
}

unsafe extern "win64" fn ex_delete_lookaside_list_ex(list: *mut Lookaside) {
    lists().remove(&(list as u64));
    // SAFETY: see `initialize`.
    unsafe { drain(list, true) };
}

unsafe extern "win64" fn ex_flush_lookaside_list_ex(list: *mut Lookaside) {
    // SAFETY: see `initialize`.
    unsafe { drain(list, true) };
}

// The four routines below are called by inlined code of drivers through the structure, not through an import; the
// import served last was the pop or push right before, so its caller is the place to name.

unsafe extern "win64" fn default_allocate(pool_type: u32, bytes: u64, tag: Tag) -> u64 {
    pool::allocate_typed(pool_type, bytes, tag)
}

unsafe extern "win64" fn default_free(entry: u64) {
    pool::free(entry, None, gate::caller());
}

unsafe extern "win64" fn default_allocate_ex(pool_type: u32, bytes: u64, tag: Tag, _list: u64) -> u64 {
    pool::allocate_typed(pool_type, bytes, tag)
}

unsafe extern "win64" fn default_free_ex(entry: u64, _list: u64) {
    pool::free(entry, None, gate::caller());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::kernel_thread;
    use proves::proves;

    /// What ExAllocateFromNPagedLookasideList inlines.
    unsafe fn allocate(list: *mut Lookaside) -> u64 {
        // SAFETY: a list of the test.
        unsafe {
            (*list).total_allocates += 1;
            let entry = slist::pop(&raw mut (*list).list_head);
            if entry != 0 {
                return entry;
            }
            (*list).allocate_misses += 1;
            let routine: unsafe extern "win64" fn(u32, u64, u32) -> u64 = std::mem::transmute((*list).allocate);
            routine((*list).pool_type, (*list).size.into(), (*list).tag)
        }
    }

    /// What ExFreeToNPagedLookasideList inlines.
    unsafe fn free(list: *mut Lookaside, entry: u64) {
        // SAFETY: a list of the test.
        unsafe {
            (*list).total_frees += 1;
            if (*list).list_head as u16 >= (*list).depth {
                (*list).free_misses += 1;
                let routine: unsafe extern "win64" fn(u64) = std::mem::transmute((*list).free);
                routine(entry);
            } else {
                slist::push(&raw mut (*list).list_head, entry);
            }
        }
    }

    fn new_list() -> Box<Lookaside> {
        kernel_thread();
        // SAFETY: all zero is a list that is not initialised.
        let mut list: Box<Lookaside> = Box::new(unsafe { std::mem::zeroed() });
        // SAFETY: memory of the test.
        unsafe { ex_initialize_npaged_lookaside_list(&mut *list, 0, 0, 0, 100, u32::from_le_bytes(*b"Look"), 0) };
        list
    }

    #[proves("K-139")]
    #[test]
    fn freed_entries_are_kept_up_to_the_depth_and_given_out_again() {
        let mut list = new_list();
        // SAFETY: a list of the test.
        unsafe {
            let entries: Vec<u64> = (0..6).map(|_| allocate(&mut *list)).collect();
            for &entry in &entries {
                assert_eq!(pool::find(entry).map(|block| block.bytes), Some(100));
                free(&mut *list, entry);
            }
            assert_eq!((list.allocate_misses, list.free_misses), (6, 2));
            assert_eq!(allocate(&mut *list), entries[3], "the last one kept");
            free(&mut *list, entries[3]);
            ex_delete_lookaside_list(&mut *list);
            assert!(entries.iter().all(|&entry| pool::find(entry).is_none()));
        }
    }

    #[test]
    fn list_is_reported_until_it_is_deleted() {
        let mut list = new_list();
        let address = &raw mut *list;
        let is_live = || {
            let mut found = false;
            for_each_live(|list, _| found |= list == address as u64);
            found
        };
        assert!(is_live());
        // SAFETY: a list of the test.
        unsafe { ex_delete_lookaside_list(address) };
        assert!(!is_live());
    }

    #[test]
    fn own_free_routine_is_called_with_the_list() {
        use std::sync::atomic::{AtomicU64, Ordering};
        static FREED: AtomicU64 = AtomicU64::new(0);
        unsafe extern "win64" fn free_entry(entry: u64, list: u64) {
            FREED.store(entry ^ list, Ordering::Relaxed);
            pool::free(entry, None, 0);
        }
        kernel_thread();
        // SAFETY: all zero is a list that is not initialised; memory of the test.
        unsafe {
            let mut list: Box<Lookaside> = Box::new(std::mem::zeroed());
            let free = free_entry as *const () as u64;
            let status = ex_initialize_lookaside_list_ex(&mut *list, 0, free, 0, 0, 64, 1, 0);
            assert_eq!(status, NtStatus::SUCCESS);
            let entry = default_allocate_ex(0, 64, 1, 0);
            slist::push(&raw mut list.list_head, entry);
            ex_flush_lookaside_list_ex(&mut *list);
            assert_eq!(FREED.load(Ordering::Relaxed), entry ^ &raw const *list as u64);
            assert_eq!(
                ex_initialize_lookaside_list_ex(&mut *list, 0, 0, 0, 3, 64, 1, 0),
                NtStatus::INVALID_PARAMETER_5
            );
            ex_delete_lookaside_list_ex(&mut *list);
        }
    }
}
