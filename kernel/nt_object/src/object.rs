//! Headers, counts and the life of an object.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use arena::{SlotArena, SlotHeader, plan};
use gate::thread::cache;
use nt_abi::Irql;
use nt_abi::exception::BugCheck;

use crate::{ObjectType, security};

/// Bodies up to a file object: one size for the busiest type.
const FILE_BODY: u64 = 0xE0;
/// Drivers, events, threads, keys.
const SMALL_BODY: u64 = 0x400;
/// Devices with large extensions.
const LARGE_BODY: u64 = 0x1_0200;
/// Devices whose size `DEVICE_OBJECT.Size` does not hold. NT's limit is its pool.
const HUGE_BODY: u64 = 1 << 20;

/// The arenas by body size, with the number of each one's per-thread cache.
static ARENAS: [(u64, SlotArena, usize); 4] = [
    (FILE_BODY, SlotArena::new(plan::OBJECTS, FILE_BODY, 1 << 20), cache::FILES),
    (SMALL_BODY, SlotArena::new(plan::OBJECTS + (1 << 34), SMALL_BODY, 1 << 18), cache::OBJECTS),
    (LARGE_BODY, SlotArena::new(plan::OBJECTS + (2 << 34), LARGE_BODY, 1 << 12), cache::LARGE_OBJECTS),
    (HUGE_BODY, SlotArena::new(plan::OBJECTS + (4 << 34), HUGE_BODY, 1 << 8), cache::HUGE_OBJECTS),
];

/// Arranges for its second argument to be called with the first at PASSIVE_LEVEL.
type Defer = fn(body: u64, delete_now: fn(u64));

static DEFER: OnceLock<Defer> = OnceLock::new();

/// The words of a slot header as this crate uses them.
struct Header(*mut SlotHeader);

impl Header {
    fn pointer_count(&self) -> &AtomicI64 {
        // SAFETY: slot headers are never unmapped, and this crate touches the word only atomically.
        unsafe { AtomicI64::from_ptr((&raw mut (*self.0).user[0]).cast()) }
    }

    fn handle_count(&self) -> &AtomicI64 {
        // SAFETY: as in `pointer_count`.
        unsafe { AtomicI64::from_ptr((&raw mut (*self.0).user[1]).cast()) }
    }

    fn type_word(&self) -> &AtomicU64 {
        // SAFETY: as in `pointer_count`.
        unsafe { AtomicU64::from_ptr(&raw mut (*self.0).user[2]) }
    }

    fn object_type(&self) -> Option<&'static ObjectType> {
        let address = self.type_word().load(Ordering::Acquire) as *const ObjectType;
        // SAFETY: `create` is the only writer and stores the address of a static.
        unsafe { address.as_ref() }
    }
}

/// The header in front of `body`, if that is the body of a live object.
fn header(body: u64) -> Option<Header> {
    ARENAS.iter().find_map(|(_, arena, _)| arena.live_header(body)).map(Header)
}

/// Makes an object with one reference, no handle and a body of `bytes` zero bytes.
///
/// `caller` is the driver instruction to name if it leaks, 0 for the host. `None` when memory is exhausted
/// or no body can be that large: the caller answers STATUS_INSUFFICIENT_RESOURCES.
///
/// IRQL: up to DISPATCH_LEVEL.
pub fn create(object_type: &'static ObjectType, bytes: u64, caller: u64) -> Option<u64> {
    let (size, arena, number) = ARENAS.iter().find(|(size, ..)| bytes <= *size)?;
    // SAFETY: only this thread uses its caches, and the arena does not call back.
    let slot = unsafe { arena.allocate(&mut (*gate::current()).caches[*number], caller)? };
    let body = slot.as_ptr() as u64;
    // SAFETY: the slot is ours alone and its body has `size` bytes; small objects are cleared by what was
    // asked for, not by what the slot holds.
    unsafe { slot.as_ptr().write_bytes(0, bytes.min(*size) as usize) };
    let header = Header(arena.header(body)?);
    header.handle_count().store(0, Ordering::Relaxed);
    header.type_word().store(std::ptr::from_ref(object_type) as u64, Ordering::Relaxed);
    // Release: whoever finds the count above zero sees a finished object.
    header.pointer_count().store(1, Ordering::Release);
    Some(body)
}

/// What the count of an object that is being deleted has been moved by, so that [`try_reference`] leaves it alone while
/// those who see its last request take and drop references of their own.
const DYING: i64 = i64::MIN / 2;

/// A count as others are told of it.
fn told(count: i64) -> i64 {
    if count < DYING / 2 { count - DYING } else { count }
}

/// Adds a reference to an object that the caller knows to be alive and returns the new count.
///
/// A pointer to anything else ends the run with REFERENCE_BY_POINTER.
///
/// IRQL: up to DISPATCH_LEVEL.
pub fn reference(body: u64) -> i64 {
    match header(body) {
        Some(header) => told(header.pointer_count().fetch_add(1, Ordering::Relaxed) + 1),
        None => stale(body, 0),
    }
}

/// Adds a reference unless the object is on its way out. For addresses that may be stale.
pub fn try_reference(body: u64) -> bool {
    let Some(header) = header(body) else { return false };
    let counter = header.pointer_count();
    let mut count = counter.load(Ordering::Relaxed);
    while count > 0 {
        match counter.compare_exchange_weak(count, count + 1, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return true,
            Err(now) => count = now,
        }
    }
    false
}

/// Removes a reference and returns how many are left; the last one deletes the object (C-123), at
/// PASSIVE_LEVEL or through the hook of [`set_deferred_delete`].
///
/// A pointer to anything but a live object ends the run with REFERENCE_BY_POINTER (K-153).
///
/// IRQL: up to DISPATCH_LEVEL.
pub fn dereference(body: u64) -> i64 {
    let Some(header) = header(body) else { stale(body, 1) };
    // AcqRel: what others did to the object before their last use happens before its deletion.
    let left = header.pointer_count().fetch_sub(1, Ordering::AcqRel) - 1;
    match left {
        0 => last_reference_gone(body),
        1.. => {}
        _ if told(left) > 0 => {}
        _ => stale(body, 2),
    }
    told(left)
}

/// Sets who deletes objects whose last reference goes above PASSIVE_LEVEL: a function that arranges for its
/// second argument to be called with the body at PASSIVE_LEVEL. Only the first call counts; before it,
/// deletion happens in place.
pub fn set_deferred_delete(defer: fn(body: u64, delete_now: fn(u64))) {
    let _ = DEFER.set(defer);
}

#[cold]
fn last_reference_gone(body: u64) {
    // A handler that runs at DISPATCH_LEVEL may drop the last reference of the very endpoint it was called for.
    match DEFER.get() {
        Some(defer) if gate::irql() > Irql::PASSIVE => defer(body, delete_now),
        _ => delete_now(body),
    }
}

fn delete_now(body: u64) {
    let Some(header) = header(body) else { return };
    if let Some(object_type) = header.object_type() {
        // One reference stands meanwhile: drivers that see the object's last request may take and drop their own. Nobody
        // else can: a name may still lead here.
        header.pointer_count().store(DYING + 1, Ordering::Release);
        (object_type.delete)(body);
        header.pointer_count().store(0, Ordering::Release);
    }
    security::forget(body);
    header.type_word().store(0, Ordering::Release);
    for (_, arena, number) in &ARENAS {
        // SAFETY: only this thread uses its caches, and the arena does not call back.
        if unsafe { arena.free(&mut (*gate::current()).caches[*number], body) } {
            return;
        }
    }
}

#[cold]
fn stale(body: u64, why: u64) -> ! {
    gate::bugcheck(BugCheck::REFERENCE_BY_POINTER, [0, body, why, 0])
}

/// Whether `body` is the body of a live object.
pub fn is_live(body: u64) -> bool {
    header(body).is_some()
}

/// The type of a live object.
pub fn type_of(body: u64) -> Option<&'static ObjectType> {
    header(body)?.object_type()
}

/// References on a live object, handles included.
pub fn pointer_count(body: u64) -> Option<i64> {
    Some(told(header(body)?.pointer_count().load(Ordering::Relaxed)))
}

/// Open handles of a live object.
pub fn handle_count(body: u64) -> Option<i64> {
    Some(header(body)?.handle_count().load(Ordering::Relaxed))
}

/// Counts a handle in or out; gives the new number.
pub(crate) fn count_handle(body: u64, by: i64) -> i64 {
    match header(body) {
        Some(header) => header.handle_count().fetch_add(by, Ordering::AcqRel) + by,
        None => stale(body, 3),
    }
}

/// The driver instruction that made a live object, 0 for the host.
pub fn allocating_caller(body: u64) -> u64 {
    // SAFETY: headers of live slots are readable and `caller` does not change while they live.
    header(body).map_or(0, |header| unsafe { (*header.0).caller })
}

/// Visits the bodies of all live objects of a type.
pub fn for_each_live(object_type: &'static ObjectType, mut visit: impl FnMut(u64)) {
    for (_, arena, _) in &ARENAS {
        arena.for_each_live(|body, slot| {
            if slot.user[2] == std::ptr::from_ref(object_type) as u64 {
                visit(body);
            }
        });
    }
}

/// Gives the calling thread's cached slots back, before it ends.
pub fn release_thread_caches() {
    for (_, arena, number) in &ARENAS {
        // SAFETY: only this thread uses its caches, and the arena does not call back.
        unsafe { arena.release_cache(&mut (*gate::current()).caches[*number]) };
    }
}
