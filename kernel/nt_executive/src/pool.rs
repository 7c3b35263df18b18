//! Pool: memory that drivers allocate by size, tag and type.
//!
//! Invariants:
//! - Blocks are 16-byte aligned, page-aligned from a page upwards, and never cross a page when they fit in one
//!   (K-146). Addresses depend on nothing but the order of calls.
//! - What the host knows of a block (size, tag, who allocated it) lies outside of drivers' reach ([`slab`]); in front
//!   of and behind each block lie guard bytes whose change tells of an overrun when the block is freed.
//! - Freeing anything but a live block ends the run with BAD_POOL_CALLER; damaged guards with BAD_POOL_HEADER.
//! - A free block's first bytes are filled; if they have changed by the time it is used again, somebody wrote to it
//!   after it was freed, which is a finding.
//!
//! All pool is resident: paged pool differs only in the level it may be used at (K-147). Left out: quotas (nobody
//! whose quota it could be) and NUMA.

mod exports;
mod slab;
pub mod special;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};

use arena::plan;
use nt_abi::Irql;
use nt_abi::exception::BugCheck;
use nt_dispatcher::timer::{self, Pending};
use trace::Event;

pub use exports::{TABLE, allocate_typed};
use slab::{FreeList, Record, SLABS, Slab, TAIL, state};

/// Bytes checked on either side of a block, at most.
const GUARD_MAX: usize = 64;
/// What guard bytes hold.
const GUARD: u8 = 0xB9;
/// What the first bytes of a freed block hold.
const FREED: u8 = 0xF4;

/// A four-character tag, the first character in the lowest byte.
pub type Tag = u32;

/// The tag of `ExAllocatePool`, which takes none: `None`.
pub const NO_TAG: Tag = u32::from_le_bytes(*b"None");
/// The bit of a tag that makes it needed for freeing (`PROTECTED_POOL`).
const PROTECTED: Tag = 1 << 31;

/// What a block was allocated as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Nonpaged pool of a driver.
    NonPaged = 0,
    /// Paged pool of a driver.
    Paged = 1,
    /// An MDL: not pool in a driver's eyes.
    Mdl = 2,
    /// A work item, a lookaside list's head or other opaque structure that the host handed out.
    Opaque = 3,
}

impl Kind {
    fn of(word: u32) -> Self {
        match word {
            1 => Self::Paged,
            2 => Self::Mdl,
            3 => Self::Opaque,
            _ => Self::NonPaged,
        }
    }
}

/// A live block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its address.
    pub address: u64,
    /// Bytes asked for.
    pub bytes: u64,
    /// The tag given.
    pub tag: Tag,
    /// What it is.
    pub kind: Kind,
    /// The driver instruction that allocated it, 0 for the host.
    pub caller: u64,
}

impl Block {
    fn new(address: u64, record: &Record) -> Self {
        Self {
            address,
            bytes: record.bytes.load(Ordering::Relaxed).into(),
            tag: record.tag.load(Ordering::Relaxed),
            kind: Kind::of(record.kind_or_next.load(Ordering::Relaxed)),
            caller: record.caller.load(Ordering::Relaxed),
        }
    }
}

macro_rules! slabs {
    ($($number:literal)*) => { [$(Slab::new($number)),*] };
}

static SLAB: [Slab; SLABS] =
    slabs!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);

static RECORDS_EVENTS: AtomicBool = AtomicBool::new(false);

/// Switches the events PoolAllocated and PoolFreed on.
pub fn record_events(on: bool) {
    RECORDS_EVENTS.store(on, Ordering::Relaxed);
}

/// A thread's free slots.
#[derive(Default)]
struct ThreadCache([FreeList; SLABS]);

/// The calling thread's cache. Stays with a recycled thread block, so nothing has to give it back.
#[inline]
fn thread_cache() -> *mut ThreadCache {
    let host = gate::current();
    // SAFETY: the installed block; only this thread uses its pool word.
    unsafe {
        if (*host).pool == 0 {
            (*host).pool = Box::into_raw(Box::<ThreadCache>::default()) as u64;
        }
        (*host).pool as *mut ThreadCache
    }
}

/// The slab that `address` lies in.
#[inline]
fn slab_of(address: u64) -> Option<(usize, &'static Slab)> {
    let guess = (address.wrapping_sub(plan::POOL) >> 34) as usize;
    match SLAB.get(guess) {
        Some(slab) if slab.contains(address) => Some((guess, slab)),
        // The operating system may have put a range elsewhere.
        _ => SLAB.iter().enumerate().find(|(_, slab)| slab.contains(address)),
    }
}

/// Allocates a block; its contents are whatever was there. `caller` is the driver instruction to name if it leaks.
///
/// `None` when it is larger than 128 MiB or memory is exhausted.
///
/// IRQL: up to DISPATCH_LEVEL.
#[inline]
pub fn allocate(bytes: u64, tag: Tag, kind: Kind, caller: u64) -> Option<u64> {
    let number = slab::slab_for(bytes)?;
    if special::is_on()
        && let Some(address) = special::allocate(bytes, tag, kind, caller)
    {
        note_allocation(address, bytes, tag);
        return Some(address);
    }
    let slab = &SLAB[number];
    // SAFETY: only this thread uses its cache, and nothing below calls back.
    let list = unsafe { &mut (&mut *thread_cache()).0[number] };
    let index = match slab.pop(list) {
        Some(index) => index,
        None => {
            slab.refill(list)?;
            slab.pop(list)?
        }
    };
    let (record, address) = (slab.record(index), slab.address(index));
    if record.state.load(Ordering::Relaxed) == state::FREED {
        check_freed(address, record);
    }
    record.tag.store(tag, Ordering::Relaxed);
    record.bytes.store(bytes as u32, Ordering::Relaxed);
    record.caller.store(caller, Ordering::Relaxed);
    record.kind_or_next.store(kind as u32, Ordering::Relaxed);
    // SAFETY: the slot is ours alone: `lead` bytes in front of the block, the rest of the slot behind it.
    unsafe {
        ((address - u64::from(slab.lead)) as *mut u8).write_bytes(GUARD, slab.lead as usize);
        let (end, room) = guard_behind(slab, address, bytes);
        (end as *mut u8).write_bytes(GUARD, room);
    }
    // Release: whoever finds the state live sees the rest.
    record.state.store(state::LIVE, Ordering::Release);
    note_allocation(address, bytes, tag);
    Some(address)
}

#[inline]
fn note_allocation(address: u64, bytes: u64, tag: Tag) {
    if RECORDS_EVENTS.load(Ordering::Relaxed) {
        gate::record(Event::PoolAllocated { address, bytes, tag });
    }
}

#[inline]
fn note_free(address: u64) {
    if RECORDS_EVENTS.load(Ordering::Relaxed) {
        gate::record(Event::PoolFreed { address });
    }
}

/// Where the guard behind a block begins and how long it is.
#[inline]
fn guard_behind(slab: &Slab, address: u64, bytes: u64) -> (u64, usize) {
    let room = u64::from(slab.slot - slab.lead) - bytes;
    debug_assert!(room >= u64::from(TAIL));
    (address + bytes, (room as usize).min(GUARD_MAX))
}

/// The live block at exactly `address`.
pub fn find(address: u64) -> Option<Block> {
    if special::contains(address) {
        return special::find_around(address).filter(|block| block.address == address);
    }
    let (_, slab) = slab_of(address)?;
    let record = slab.record(slab.index(address)?);
    (record.state.load(Ordering::Acquire) == state::LIVE).then(|| Block::new(address, record))
}

/// The live block that `address` lies in, guards included, for reports.
pub fn find_around(address: u64) -> Option<Block> {
    if special::contains(address) {
        return special::find_around(address);
    }
    let (_, slab) = slab_of(address)?;
    let index = slab.index_around(address)?;
    let record = slab.record(index);
    (record.state.load(Ordering::Acquire) == state::LIVE).then(|| Block::new(slab.address(index), record))
}

/// Frees a block. `tag`, if given, is what the driver says the tag is. `caller` is the driver instruction that frees.
///
/// Ends the run when `address` is not a live block's or its guards have changed.
///
/// IRQL: up to DISPATCH_LEVEL; paged pool up to APC_LEVEL (K-147).
#[inline]
pub fn free(address: u64, tag: Option<Tag>, caller: u64) {
    if special::contains(address) {
        let block = special::free(address, caller);
        check_use(&block, tag, caller);
        expect_nothing_pending(address, block.bytes, caller);
        note_free(address);
        return;
    }
    let Some((number, slab)) = slab_of(address) else { not_pool(address, caller) };
    let Some(index) = slab.index(address) else { not_a_block(slab, address, caller) };
    let record = slab.record(index);
    if record.state.compare_exchange(state::LIVE, state::FREED, Ordering::AcqRel, Ordering::Acquire).is_err() {
        freed_twice(address, record, caller);
    }
    check(slab, address, record, tag, caller);
    let bytes = record.bytes.load(Ordering::Relaxed);
    expect_nothing_pending(address, bytes.into(), caller);
    record.caller.store(caller, Ordering::Relaxed);
    // SAFETY: nobody has the block any more; it has at least `bytes` bytes.
    unsafe { (address as *mut u8).write_bytes(FREED, (bytes as usize).min(GUARD_MAX)) };
    note_free(address);
    // SAFETY: only this thread uses its cache, and nothing below calls back.
    let list = unsafe { &mut (&mut *thread_cache()).0[number] };
    slab.push(list, index);
    if list.count > 2 * slab.batch() {
        slab.spill(list);
    }
}

/// Ends the run if a timer is set or a DPC queued in a block that is being freed (K-150). Two loads if there are none.
#[inline]
fn expect_nothing_pending(address: u64, bytes: u64, caller: u64) {
    if let Some(pending) = timer::pending_in(address..address + bytes) {
        something_pending(&pending, address, bytes, caller);
    }
}

#[cold]
#[inline(never)]
fn something_pending(pending: &Pending, address: u64, bytes: u64, caller: u64) -> ! {
    let (what, done) = if pending.is_timer { ("timer", "set") } else { ("DPC", "queued, or its timer set") };
    let (image, offset) = place(pending.caller);
    let message = format_args!(
        "Pool at {address:#x} was freed while the {what} in it ({:#x}) is still {done}, by the call that returns to {image}+{offset:#x}.",
        pending.address
    );
    let parameters = [u64::from(!pending.is_timer), pending.address, address, bytes];
    gate::bugcheck::with_message(BugCheck::TIMER_OR_DPC_INVALID, parameters, caller, message)
}

/// Looks at the level and the tag that a block is being freed with.
#[inline]
fn check_use(block: &Block, tag: Option<Tag>, caller: u64) {
    if block.tag != tag.unwrap_or(block.tag) || (tag.is_none() && block.tag & PROTECTED != 0) {
        wrong_tag(block, tag, caller);
    }
    if block.kind == Kind::Paged && gate::irql() > Irql::APC {
        let message = format_args!("paged pool was freed at {:?}: it may be at APC_LEVEL at most", gate::irql());
        gate::finding("K-147", message, caller);
    }
}

/// Looks at the level, the tag and the guards of a block that is being freed.
#[inline]
fn check(slab: &Slab, address: u64, record: &Record, tag: Option<Tag>, caller: u64) {
    check_use(&Block::new(address, record), tag, caller);
    let own = record.tag.load(Ordering::Relaxed);
    let bytes = record.bytes.load(Ordering::Relaxed).into();
    let (behind, room) = guard_behind(slab, address, bytes);
    let front = address - u64::from(slab.lead);
    // SAFETY: the guards are parts of the slot, which nobody else has.
    let (front_damage, damage) =
        unsafe { (first_other(front, slab.lead as usize, GUARD), first_other(behind, room, GUARD)) };
    if let Some((place, value)) = front_damage {
        let message = format_args!(
            "The 16 bytes in front of the pool block at {address:#x} ({bytes} bytes, tag {}) have changed (at offset -{:#x}): somebody wrote below it, or past the end of the block before it.",
            Text(own),
            address - place
        );
        let parameters = [0x20, address, place, value.into()];
        gate::bugcheck::with_message(BugCheck::BAD_POOL_HEADER, parameters, caller, message);
    }
    if let Some((place, value)) = damage {
        let message = format_args!(
            "The memory behind the pool block at {address:#x} ({bytes} bytes, tag {}) has changed at offset {:#x}: somebody wrote past its end.",
            Text(own),
            place - address
        );
        let parameters = [0x21, address, bytes, value.into()];
        gate::bugcheck::with_message(BugCheck::BAD_POOL_HEADER, parameters, caller, message);
    }
}

/// The first of `count` bytes that is not `expected`.
///
/// # Safety
/// The bytes are committed pool.
#[inline]
unsafe fn first_other(start: u64, count: usize, expected: u8) -> Option<(u64, u8)> {
    // SAFETY: the caller's promise. A driver that writes there meanwhile tears bytes at worst; volatile, because it
    // may at any time.
    let differs = |place: u64| unsafe { (place as *const u8).read_volatile() };
    let end = start + count as u64;
    let mut place = start;
    while place < end {
        if place.is_multiple_of(8) && end - place >= 8 {
            // SAFETY: as above; aligned.
            if unsafe { (place as *const u64).read_volatile() } == u64::from_ne_bytes([expected; 8]) {
                place += 8;
                continue;
            }
        }
        let value = differs(place);
        if value != expected {
            return Some((place, value));
        }
        place += 1;
    }
    None
}

/// A tag as its characters.
struct Text(Tag);

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for byte in (self.0 & !PROTECTED).to_le_bytes() {
            let shown = if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '.' };
            write!(f, "{shown}")?;
        }
        Ok(())
    }
}

/// Tells of a write to a block after it was freed.
#[inline]
fn check_freed(address: u64, record: &Record) {
    let bytes = (record.bytes.load(Ordering::Relaxed) as usize).min(GUARD_MAX);
    // SAFETY: the block is free and in this thread's hands.
    if let Some((place, _)) = unsafe { first_other(address, bytes, FREED) } {
        written_after_free(place - address, record);
    }
}

#[cold]
#[inline(never)]
fn written_after_free(offset: u64, record: &Record) {
    let message = format_args!(
        "A pool block ({} bytes, tag {}) was written to after it had been freed: its bytes at offset {offset:#x} have changed since. This instruction freed it.",
        record.bytes.load(Ordering::Relaxed),
        Text(record.tag.load(Ordering::Relaxed)),
    );
    gate::finding("K-146", message, record.caller.load(Ordering::Relaxed));
}

#[cold]
#[inline(never)]
fn wrong_tag(block: &Block, tag: Option<Tag>, caller: u64) {
    let own = block.tag;
    if own & PROTECTED != 0 {
        let given = tag.unwrap_or(0);
        let message =
            format_args!("A pool block with the protected tag {} was freed with tag {}.", Text(own), Text(given));
        let parameters = [0xA, block.address, own.into(), given.into()];
        gate::bugcheck::with_message(BugCheck::BAD_POOL_CALLER, parameters, caller, message);
    }
    let given = tag.unwrap_or(own);
    // Free builds of Windows do not look at the tag; pool tracking does.
    let message = format_args!("a pool block allocated with tag {} was freed with tag {}", Text(own), Text(given));
    gate::finding("K-146", message, caller);
}

#[cold]
#[inline(never)]
fn freed_twice(address: u64, record: &Record, caller: u64) -> ! {
    if record.state.load(Ordering::Relaxed) == state::FRESH {
        let message = format_args!("{address:#x} was freed but never allocated.");
        gate::bugcheck::with_message(BugCheck::BAD_POOL_CALLER, [0x46, address, 0, 0], caller, message);
    }
    freed_before(address, record.tag.load(Ordering::Relaxed), record.caller.load(Ordering::Relaxed), caller)
}

#[cold]
#[inline(never)]
fn freed_before(address: u64, tag: Tag, freer: u64, caller: u64) -> ! {
    let (image, offset) = place(freer);
    let message = format_args!(
        "The pool block at {address:#x} (tag {}) was freed twice; the first time by the call that returns to {image}+{offset:#x}.",
        Text(tag),
    );
    gate::bugcheck::with_message(BugCheck::BAD_POOL_CALLER, [7, 0, tag.into(), address], caller, message)
}

/// A driver's instruction for messages: its image and the offset in it.
fn place(address: u64) -> (&'static str, u64) {
    gate::image::place(address).map_or(("the host", 0), |(image, offset)| (image.name, offset))
}

#[cold]
#[inline(never)]
fn not_pool(address: u64, caller: u64) -> ! {
    let message = format_args!("{address:#x} was freed, which is not an address of pool.");
    gate::bugcheck::with_message(BugCheck::BAD_POOL_CALLER, [0x46, address, 0, 0], caller, message)
}

#[cold]
#[inline(never)]
fn not_a_block(slab: &Slab, address: u64, caller: u64) -> ! {
    let block = slab.index_around(address).map_or(0, |index| slab.address(index));
    let message =
        format_args!("{address:#x} was freed, which is not the start of a pool block: that would be {block:#x}.");
    gate::bugcheck::with_message(BugCheck::BAD_POOL_CALLER, [0x46, address, block, 0], caller, message)
}

/// Visits all blocks that are still allocated, for the report at the end of a run.
pub fn for_each_live(mut visit: impl FnMut(Block)) {
    special::for_each_live(&mut visit);
    for slab in &SLAB {
        slab.for_each_live(|address, record| visit(Block::new(address, record)));
    }
}
