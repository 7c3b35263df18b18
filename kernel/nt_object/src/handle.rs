//! The handle table.
//!
//! Entries are handed out in chunks to shards, so that threads that open and close at once rarely meet;
//! looking a handle up takes no lock at all: the entry is read, the object referenced if its count is above
//! zero (object memory is type-stable, so a stale address is harmless), and the entry read again.

use std::sync::{OnceLock, PoisonError};

use arena::{Region, plan};
use host_lock::{Mutex, MutexGuard};
use nt_abi::{Handle, NtStatus};
use trace::Event;

use crate::entry::Entry;
use crate::object;

/// Most handles at a time.
const HANDLES_MAX: u32 = 1 << 22;
/// Entries a shard takes at once.
const CHUNK: u32 = 256;
/// Independent free lists.
const SHARDS: usize = 16;
/// What a kernel handle's value is combined with (K-159).
const KERNEL_BITS: u64 = 0xFFFF_FFFF_8000_0000;

/// One open handle, as reports see it.
#[derive(Clone, Copy, Debug)]
pub struct HandleEntry {
    /// Its value.
    pub handle: Handle,
    /// The object's body.
    pub body: u64,
    /// The driver instruction that opened it, 0 for the host.
    pub caller: u64,
    /// The access it was opened with.
    pub access: u32,
}

/// On cache lines of its own: shards are there so that processors need not share any.
#[repr(align(128))]
struct Shard(Mutex<Vec<u32>>);

struct Table {
    region: Region,
    chunks: Mutex<u32>,
    shards: [Shard; SHARDS],
}

static TABLE: OnceLock<Option<Table>> = OnceLock::new();

fn table() -> Option<&'static Table> {
    let make = || {
        let length = HANDLES_MAX as usize * size_of::<Entry>();
        let region = Region::reserve(plan::OBJECTS + (3 << 34), length).ok()?;
        let shards = std::array::from_fn(|_| Shard(Mutex::new(Vec::new())));
        Some(Table { region, chunks: Mutex::new(0), shards })
    };
    TABLE.get_or_init(make).as_ref()
}

impl Table {
    /// The entry with this number, if it was ever in use.
    fn entry(&self, number: u32) -> Option<&'static Entry> {
        let address = self.region.base() + u64::from(number) * size_of::<Entry>() as u64;
        if number >= HANDLES_MAX || !self.region.contains(address) {
            return None;
        }
        // SAFETY: committed memory of our own region, aligned, never unmapped; all fields are atomics.
        Some(unsafe { &*(address as *const Entry) })
    }

    fn free_entries(&self, number: usize) -> MutexGuard<'_, Vec<u32>> {
        self.shards[number % SHARDS].0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_entry(&self) -> Option<u32> {
        // SAFETY: reads a number of the calling thread's own block.
        let own = unsafe { (*gate::current()).processor } as usize;
        let mut free = self.free_entries(own);
        if free.is_empty() {
            let mut used = self.chunks.lock().unwrap_or_else(PoisonError::into_inner);
            let end = used.checked_add(CHUNK).filter(|&end| end <= HANDLES_MAX)?;
            self.region.commit(u64::from(end) * size_of::<Entry>() as u64).ok()?;
            // Reversed: lower numbers go out first. Number 0 would be the null handle.
            free.extend((*used..end).rev().filter(|&number| number != 0));
            *used = end;
        }
        free.pop()
    }

    fn give_entry(&self, number: u32) {
        // SAFETY: reads a number of the calling thread's own block.
        let own = unsafe { (*gate::current()).processor } as usize;
        self.free_entries(own).push(number);
    }
}

/// The high bits of a handle's value.
pub const fn tag_bits(kernel: bool) -> u64 {
    if kernel { KERNEL_BITS } else { 0 }
}

/// The entry a handle's value names, if the value is well formed and in use.
fn named(handle: Handle) -> Option<(&'static Table, u32, &'static Entry)> {
    let kernel = handle.0 & KERNEL_BITS == KERNEL_BITS;
    let rest = handle.0 & !tag_bits(kernel);
    let table = table()?;
    // The low two bits are the opener's to use; NT ignores them.
    let number = u32::try_from(rest >> 2).ok()?;
    let entry = table.entry(number)?;
    (entry.is_kernel() == kernel).then_some((table, number, entry))
}

/// Opens a handle to a live object, which gains a reference and a handle. `kernel`: OBJ_KERNEL_HANDLE was
/// given. `caller` is the driver instruction to name if the handle leaks.
///
/// `None` when the table is full: the caller answers STATUS_INSUFFICIENT_RESOURCES.
///
/// IRQL: PASSIVE_LEVEL.
pub fn insert(body: u64, access: u32, kernel: bool, caller: u64) -> Option<Handle> {
    let table = table()?;
    let number = table.take_entry()?;
    let entry = table.entry(number)?;
    object::reference(body);
    object::count_handle(body, 1);
    entry.publish(body, access, kernel, caller);
    Some(Handle(tag_bits(kernel) | u64::from(number) << 2))
}

/// References the object behind a handle and gives its body and the access it was opened with.
///
/// # Errors
/// STATUS_INVALID_HANDLE, or STATUS_OBJECT_TYPE_MISMATCH if `object_type` is given and differs (C-126).
///
/// IRQL: PASSIVE_LEVEL by contract; nothing here depends on it.
pub fn reference_by_handle(handle: Handle, object_type: Option<u64>) -> Result<(u64, u32), NtStatus> {
    let (_, _, entry) = named(handle).ok_or(NtStatus::INVALID_HANDLE)?;
    let dereference = |body| {
        object::dereference(body);
    };
    let (body, access) = entry.reference(object::try_reference, dereference).ok_or(NtStatus::INVALID_HANDLE)?;
    let fits = object_type.is_none_or(|wanted| object::type_of(body).is_some_and(|found| found.block() == wanted));
    if !fits {
        object::dereference(body);
        return Err(NtStatus::OBJECT_TYPE_MISMATCH);
    }
    Ok((body, access))
}

/// The body that a handle names at this moment, which is **not** referenced: it may be gone a moment later. For who finds
/// out by other means whether it is still what it was, and asks again then.
///
/// # Errors
/// As [`reference_by_handle`].
pub fn peek_by_handle(handle: Handle, object_type: u64) -> Result<u64, NtStatus> {
    let (_, _, entry) = named(handle).ok_or(NtStatus::INVALID_HANDLE)?;
    let body = entry.body().ok_or(NtStatus::INVALID_HANDLE)?;
    match object::type_of(body) {
        Some(found) if found.block() == object_type => Ok(body),
        Some(_) => Err(NtStatus::OBJECT_TYPE_MISMATCH),
        None => Err(NtStatus::INVALID_HANDLE),
    }
}

/// Closes a handle: its type is told, then the handle's reference goes (C-124, C-135).
///
/// Gives the body the handle was for (it may be gone) and how many handles are left.
///
/// # Errors
/// STATUS_INVALID_HANDLE; nothing happens then.
///
/// IRQL: PASSIVE_LEVEL.
pub fn close(handle: Handle) -> Result<(u64, i64), NtStatus> {
    let (table, number, entry) = named(handle).ok_or(NtStatus::INVALID_HANDLE)?;
    // One closer wins; the entry is free for reuse only when everything about this handle is over.
    let body = entry.take().ok_or(NtStatus::INVALID_HANDLE)?;
    table.give_entry(number);
    let left = object::count_handle(body, -1);
    // Before its type is told: cleanup and close are consequences.
    gate::record(Event::HandleClosed { handle: handle.0, object: body, remaining: left.max(0) as u32 });
    if let Some(object_type) = object::type_of(body) {
        (object_type.handle_closed)(body, left);
    }
    object::dereference(body);
    Ok((body, left))
}

/// Visits all open handles, for the report at the end of a run.
pub fn for_each_open(mut visit: impl FnMut(HandleEntry)) {
    let Some(table) = table() else { return };
    let used = *table.chunks.lock().unwrap_or_else(PoisonError::into_inner);
    for number in 0..used {
        let Some(entry) = table.entry(number) else { return };
        if let Some(body) = entry.body() {
            let handle = Handle(tag_bits(entry.is_kernel()) | u64::from(number) << 2);
            visit(HandleEntry { handle, body, caller: entry.caller(), access: entry.access() });
        }
    }
}
