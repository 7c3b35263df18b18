//! Hash tables whose entries lie in the driver's structures (`RTL_DYNAMIC_HASH_TABLE`).
//!
//! The header's counts are read by inline code, and so are the contexts' fields; where the buckets lie is ours. A chain is
//! sorted by signature, so that those of one signature stand side by side. The driver keeps others away meanwhile; an
//! enumeration stands in the chains as an entry of its own, so that entries may come and go between its steps.

use std::ptr;

use gate::memory::touch;

use crate::pool::{self, Kind};

gate::exports! {
    /// Hash tables.
    pub static TABLE in "ntoskrnl.exe";
    "RtlCreateHashTable" = rtl_create_hash_table(table: *mut *mut Table, shift: u32, flags: u32) -> u8, irql <= DISPATCH, rules "K-200";
    "RtlDeleteHashTable" = rtl_delete_hash_table(table: *mut Table), irql <= DISPATCH, rules "K-200";
    "RtlInsertEntryHashTable" = rtl_insert_entry_hash_table(table: *mut Table, entry: *mut Entry, signature: u64, context: *mut Context) -> u8, rules "K-200";
    "RtlRemoveEntryHashTable" = rtl_remove_entry_hash_table(table: *mut Table, entry: *mut Entry, context: *mut Context) -> u8, rules "K-200";
    "RtlLookupEntryHashTable" = rtl_lookup_entry_hash_table(table: *mut Table, signature: u64, context: *mut Context) -> *mut Entry, rules "K-200";
    "RtlGetNextEntryHashTable" = rtl_get_next_entry_hash_table(table: *mut Table, context: *mut Context) -> *mut Entry, rules "K-200";
    "RtlInitEnumerationHashTable" = rtl_init_enumeration_hash_table(table: *mut Table, enumeration: *mut Enumeration) -> u8, rules "K-200";
    "RtlEnumerateEntryHashTable" = rtl_enumerate_entry_hash_table(table: *mut Table, enumeration: *mut Enumeration) -> *mut Entry, rules "K-200";
    "RtlEndEnumerationHashTable" = rtl_end_enumeration_hash_table(table: *mut Table, enumeration: *mut Enumeration), rules "K-200";
    "RtlExpandHashTable" = rtl_expand_hash_table(table: *mut Table) -> u8, irql <= DISPATCH, rules "K-200";
    "RtlContractHashTable" = rtl_contract_hash_table(table: *mut Table) -> u8, irql <= DISPATCH, rules "K-200";
}

/// `RTL_DYNAMIC_HASH_TABLE`.
#[doc(alias = "RTL_DYNAMIC_HASH_TABLE")]
#[derive(Debug)]
#[repr(C)]
pub struct Table {
    flags: u32,
    shift: u32,
    buckets: u32,
    pivot: u32,
    divisor_mask: u32,
    entries: u32,
    non_empty: u32,
    enumerations: u32,
    directory: *mut Link,
}

/// `LIST_ENTRY`: a bucket, or the first part of an entry.
#[derive(Debug)]
#[repr(C)]
pub struct Link {
    next: *mut Link,
    previous: *mut Link,
}

/// `RTL_DYNAMIC_HASH_TABLE_ENTRY`.
#[doc(alias = "RTL_DYNAMIC_HASH_TABLE_ENTRY")]
#[derive(Debug)]
#[repr(C)]
pub struct Entry {
    link: Link,
    signature: u64,
}

/// `RTL_DYNAMIC_HASH_TABLE_CONTEXT`: what stands in front of an entry that was found.
#[doc(alias = "RTL_DYNAMIC_HASH_TABLE_CONTEXT")]
#[derive(Debug)]
#[repr(C)]
pub struct Context {
    bucket: *mut Link,
    previous: *mut Link,
    signature: u64,
}

/// `RTL_DYNAMIC_HASH_TABLE_ENUMERATOR`.
#[doc(alias = "RTL_DYNAMIC_HASH_TABLE_ENUMERATOR")]
#[derive(Debug)]
#[repr(C)]
pub struct Enumeration {
    entry: Entry,
    bucket: *mut Link,
    index: u32,
}

const _: () = assert!(size_of::<Table>() == 0x28 && size_of::<Entry>() == 0x18);
const _: () = assert!(size_of::<Context>() == 0x18 && size_of::<Enumeration>() == 0x28);

const TAG: pool::Tag = u32::from_le_bytes(*b"RtHt");
/// The bit in `flags` for a header that the host has allocated.
const ALLOCATED: u32 = 1;
/// The signature of enumerations; an entry with it gets the one behind.
const RESERVED: u64 = 0;
const BUCKETS_AT_FIRST: u32 = 128;
const BUCKETS_MAX: u32 = 1 << 16;

// All pointers of this module are the driver's; a bad one faults and is blamed on it. That is what every SAFETY note
// below refers to.

fn usable(signature: u64) -> u64 {
    if signature == RESERVED { RESERVED + 1 } else { signature }
}

impl Table {
    unsafe fn bucket(&self, index: u32) -> *mut Link {
        // SAFETY: the directory has that many buckets.
        unsafe { self.directory.add(index as usize) }
    }

    unsafe fn bucket_of(&self, signature: u64) -> *mut Link {
        /// 2 to the 64 by the golden ratio: numbers side by side go to buckets far apart.
        const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
        let spread = (signature >> self.shift.min(63)).wrapping_mul(SPREAD) >> 32;
        // SAFETY: the mask is one less than the number of buckets.
        unsafe { self.bucket(spread as u32 & self.divisor_mask) }
    }
}

unsafe fn insert_behind(previous: *mut Link, link: *mut Link) {
    // SAFETY: links of the driver's or of a directory.
    unsafe {
        let next = (*previous).next;
        (*link).next = next;
        (*link).previous = previous;
        (*next).previous = link;
        (*previous).next = link;
    }
}

unsafe fn take_out(link: *mut Link) {
    // SAFETY: as in `insert_behind`.
    unsafe {
        (*(*link).previous).next = (*link).next;
        (*(*link).next).previous = (*link).previous;
    }
}

/// The signature of an entry, by its link.
unsafe fn signature_of(link: *mut Link) -> u64 {
    // SAFETY: an entry's link, which is its beginning.
    unsafe { (*link.cast::<Entry>()).signature }
}

/// The first entry of a chain behind `link`, enumerations left out; null at its end.
unsafe fn next_entry(bucket: *mut Link, link: *mut Link) -> *mut Link {
    // SAFETY: links of a chain.
    unsafe {
        let mut next = (*link).next;
        while next != bucket && signature_of(next) == RESERVED {
            next = (*next).next;
        }
        if next == bucket { ptr::null_mut() } else { next }
    }
}

/// The place of a signature: the link behind which its first entry is, or would be.
unsafe fn place_of(table: &Table, signature: u64) -> Context {
    // SAFETY: the table's chains.
    unsafe {
        let bucket = table.bucket_of(signature);
        let mut previous = bucket;
        loop {
            let next = next_entry(bucket, previous);
            if next.is_null() || signature_of(next) >= signature {
                return Context { bucket, previous, signature };
            }
            previous = next;
        }
    }
}

/// Empty buckets.
fn directory(buckets: u32) -> Option<*mut Link> {
    let bytes = u64::from(buckets) * size_of::<Link>() as u64;
    let directory = pool::allocate(bytes, TAG, Kind::NonPaged, gate::caller())? as *mut Link;
    for index in 0..buckets as usize {
        // SAFETY: a new block of that many links.
        unsafe {
            let bucket = directory.add(index);
            bucket.write(Link { next: bucket, previous: bucket });
        }
    }
    Some(directory)
}

unsafe extern "win64" fn rtl_create_hash_table(table: *mut *mut Table, shift: u32, flags: u32) -> u8 {
    if flags != 0 {
        return 0;
    }
    // SAFETY: the driver's result, and a header of its own.
    unsafe {
        touch(table);
        if !(*table).is_null() {
            touch(*table);
        }
    }
    let Some(directory) = directory(BUCKETS_AT_FIRST) else { return 0 };
    // SAFETY: the driver's result, and a header of its own or a new one.
    unsafe {
        let (header, flags) = match *table {
            header if header.is_null() => {
                match pool::allocate(size_of::<Table>() as u64, TAG, Kind::NonPaged, gate::caller()) {
                    Some(header) => (header as *mut Table, ALLOCATED),
                    None => {
                        pool::free(directory as u64, Some(TAG), gate::caller());
                        return 0;
                    }
                }
            }
            header => (header, 0),
        };
        header.write(Table {
            flags,
            shift,
            buckets: BUCKETS_AT_FIRST,
            pivot: 0,
            divisor_mask: BUCKETS_AT_FIRST - 1,
            entries: 0,
            non_empty: 0,
            enumerations: 0,
            directory,
        });
        *table = header;
    }
    1
}

unsafe extern "win64" fn rtl_delete_hash_table(table: *mut Table) {
    // SAFETY: the driver's table.
    unsafe {
        pool::free((*table).directory as u64, Some(TAG), gate::caller());
        if (*table).flags & ALLOCATED != 0 {
            pool::free(table as u64, Some(TAG), gate::caller());
        }
    }
}

unsafe extern "win64" fn rtl_insert_entry_hash_table(
    table: *mut Table,
    entry: *mut Entry,
    signature: u64,
    context: *mut Context,
) -> u8 {
    let signature = usable(signature);
    // SAFETY: the driver's table, entry and context.
    unsafe {
        let place = place_of(&*table, signature);
        (*table).non_empty += u32::from(next_entry(place.bucket, place.bucket).is_null());
        (*table).entries += 1;
        (*entry).signature = signature;
        insert_behind(place.previous, &raw mut (*entry).link);
        if !context.is_null() {
            context.write(place);
        }
    }
    1
}

unsafe extern "win64" fn rtl_remove_entry_hash_table(
    table: *mut Table,
    entry: *mut Entry,
    context: *mut Context,
) -> u8 {
    // SAFETY: the driver's table, entry and context.
    unsafe {
        let (bucket, previous) = ((*table).bucket_of((*entry).signature), (*entry).link.previous);
        take_out(&raw mut (*entry).link);
        (*table).entries -= 1;
        (*table).non_empty -= u32::from(next_entry(bucket, bucket).is_null());
        if !context.is_null() {
            context.write(Context { bucket, previous, signature: (*entry).signature });
        }
    }
    1
}

unsafe extern "win64" fn rtl_lookup_entry_hash_table(
    table: *mut Table,
    signature: u64,
    context: *mut Context,
) -> *mut Entry {
    let signature = usable(signature);
    // SAFETY: the driver's table and context.
    unsafe {
        let place = place_of(&*table, signature);
        let found = next_entry(place.bucket, place.previous);
        if !context.is_null() {
            context.write(place);
        }
        if found.is_null() || signature_of(found) != signature { ptr::null_mut() } else { found.cast() }
    }
}

/// The next entry of the signature that was looked up.
unsafe extern "win64" fn rtl_get_next_entry_hash_table(_table: *mut Table, context: *mut Context) -> *mut Entry {
    // SAFETY: the driver's context, and the chain it was filled from.
    unsafe {
        let Context { bucket, previous, signature } = context.read();
        let current = next_entry(bucket, previous);
        if current.is_null() {
            return ptr::null_mut();
        }
        let next = next_entry(bucket, current);
        if next.is_null() || signature_of(next) != signature {
            return ptr::null_mut();
        }
        (*context).previous = current;
        next.cast()
    }
}

unsafe extern "win64" fn rtl_init_enumeration_hash_table(table: *mut Table, enumeration: *mut Enumeration) -> u8 {
    // SAFETY: the driver's table and enumeration.
    unsafe {
        let bucket = (*table).bucket(0);
        (*enumeration).entry.signature = RESERVED;
        (*enumeration).bucket = bucket;
        (*enumeration).index = 0;
        insert_behind(bucket, &raw mut (*enumeration).entry.link);
        (*table).enumerations += 1;
    }
    1
}

/// The next entry, null when there is none any more.
unsafe extern "win64" fn rtl_enumerate_entry_hash_table(
    table: *mut Table,
    enumeration: *mut Enumeration,
) -> *mut Entry {
    // SAFETY: the driver's table and enumeration, which stands in a chain.
    unsafe {
        let own = &raw mut (*enumeration).entry.link;
        let mut found = next_entry((*enumeration).bucket, own);
        let mut index = (*enumeration).index;
        while found.is_null() {
            index += 1;
            if index >= (*table).buckets {
                return ptr::null_mut();
            }
            let bucket = (*table).bucket(index);
            found = next_entry(bucket, bucket);
            if !found.is_null() {
                ((*enumeration).bucket, (*enumeration).index) = (bucket, index);
            }
        }
        take_out(own);
        insert_behind(found, own);
        found.cast()
    }
}

unsafe extern "win64" fn rtl_end_enumeration_hash_table(table: *mut Table, enumeration: *mut Enumeration) {
    // SAFETY: the driver's table and enumeration.
    unsafe {
        take_out(&raw mut (*enumeration).entry.link);
        (*enumeration).bucket = ptr::null_mut();
        (*table).enumerations -= 1;
    }
}

/// Whether the entries have moved to that many buckets. Not while an enumeration goes on, which would lose its place.
unsafe fn resize(table: *mut Table, buckets: u32) -> u8 {
    // SAFETY: the driver's table.
    unsafe {
        if (*table).enumerations != 0 || !(BUCKETS_AT_FIRST..=BUCKETS_MAX).contains(&buckets) {
            return 0;
        }
        let Some(new) = directory(buckets) else { return 0 };
        let (old, old_buckets) = ((*table).directory, (*table).buckets);
        ((*table).directory, (*table).buckets, (*table).divisor_mask) = (new, buckets, buckets - 1);
        ((*table).entries, (*table).non_empty) = (0, 0);
        for index in 0..old_buckets as usize {
            let bucket = old.add(index);
            // From behind: each is put in front of those of its signature.
            loop {
                let link = (*bucket).previous;
                if link == bucket {
                    break;
                }
                take_out(link);
                rtl_insert_entry_hash_table(table, link.cast(), signature_of(link), ptr::null_mut());
            }
        }
        pool::free(old as u64, Some(TAG), gate::caller());
    }
    1
}

unsafe extern "win64" fn rtl_expand_hash_table(table: *mut Table) -> u8 {
    // SAFETY: the driver's table.
    unsafe { resize(table, (*table).buckets.saturating_mul(2)) }
}

unsafe extern "win64" fn rtl_contract_hash_table(table: *mut Table) -> u8 {
    // SAFETY: the driver's table.
    unsafe { resize(table, (*table).buckets / 2) }
}
