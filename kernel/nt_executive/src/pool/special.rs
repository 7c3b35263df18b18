//! Special pool (`--special-pool`): every block on pages of its own, up against a page that nobody may touch.
//!
//! Reading or writing past a block's end faults at once, at the instruction that does it; so does every use of a block
//! that was freed, because its pages are taken away and never used again. What can go wrong inside the last 16 bytes (the
//! alignment) and in front of the block is found when it is freed.
//!
//! Costs a system call for each allocation and each freeing, and address space for ever; when that or the host's number
//! of mappings runs out, blocks come from ordinary pool again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{OnceLock, PoisonError};

use arena::{PAGE, Region, plan};
use host_lock::{Mutex, MutexGuard};
use nt_abi::exception::BugCheck;

use super::{Block, GUARD, Kind, Tag, Text, first_other, freed_before};

/// Address space for all blocks of a run together.
const BYTES: usize = 64 << 30;
/// Most blocks that live at a time: each takes two of the host's 65,530 mappings.
const BLOCKS_MAX: usize = 30_000;
const ALIGNMENT: u64 = 16;

static ON: AtomicBool = AtomicBool::new(false);
static REGION: OnceLock<Option<Region>> = OnceLock::new();
/// Where the next block's pages begin, counted from the region's base.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// All blocks ever made.
struct Blocks {
    /// By the address of their first page, in order.
    entries: Vec<Entry>,
    live: usize,
}

static BLOCKS: Mutex<Blocks> = Mutex::new(Blocks { entries: Vec::new(), live: 0 });

#[derive(Clone, Copy)]
struct Entry {
    pages: u64,
    block: Block,
    /// The driver instruction that freed it, if it was freed.
    freed_by: Option<u64>,
}

fn blocks() -> MutexGuard<'static, Blocks> {
    BLOCKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Switches special pool on. Before the first driver runs.
pub fn switch_on() {
    ON.store(true, Ordering::Relaxed);
}

/// Whether new blocks are to come from here.
#[inline]
pub(super) fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

fn region() -> Option<&'static Region> {
    REGION.get_or_init(|| Region::reserve(plan::SPECIAL_POOL, BYTES).ok()).as_ref()
}

/// Bytes of a block's pages, without the guard page behind them.
fn page_bytes(bytes: u64) -> u64 {
    bytes.max(1).next_multiple_of(PAGE as u64)
}

/// Allocates a block. `None` when it must come from ordinary pool.
pub(super) fn allocate(bytes: u64, tag: Tag, kind: Kind, caller: u64) -> Option<u64> {
    let region = region()?;
    let mut blocks = blocks();
    if blocks.live >= BLOCKS_MAX {
        return None;
    }
    let (pages, with_guard) = (page_bytes(bytes), page_bytes(bytes).checked_add(PAGE as u64)?);
    let place = NEXT.load(Ordering::Relaxed);
    let end = place.checked_add(with_guard).filter(|&end| end <= region.length())?;
    region.commit(end).ok()?;
    let start = region.base() + place;
    region.protect(start + pages, PAGE, false).ok()?;
    NEXT.store(end, Ordering::Relaxed);
    // Against the guard page, unless a page-aligned address is asked for by the size (K-146).
    let offset = if bytes >= PAGE as u64 { 0 } else { pages - bytes.next_multiple_of(ALIGNMENT) };
    let address = start + offset;
    // SAFETY: pages just committed, which nobody else has.
    unsafe {
        (start as *mut u8).write_bytes(GUARD, offset as usize);
        ((address + bytes) as *mut u8).write_bytes(GUARD, (pages - offset - bytes) as usize);
    }
    blocks.live += 1;
    blocks.entries.push(Entry { pages: start, block: Block { address, bytes, tag, kind, caller }, freed_by: None });
    Some(address)
}

/// Whether `address` lies in special pool, live or not.
#[inline]
pub(super) fn contains(address: u64) -> bool {
    REGION.get().and_then(Option::as_ref).is_some_and(|region| region.contains(address))
}

/// The entry whose pages, or whose guard page, hold `address`.
fn entry_at(blocks: &[Entry], address: u64) -> Option<usize> {
    blocks.partition_point(|entry| entry.pages <= address).checked_sub(1)
}

/// The live block that `address` lies in or beside.
pub(super) fn find_around(address: u64) -> Option<Block> {
    let blocks = blocks();
    let entry = blocks.entries[entry_at(&blocks.entries, address)?];
    entry.freed_by.is_none().then_some(entry.block)
}

/// Gives a live block back, after looking at what lies around it.
pub(super) fn free(address: u64, caller: u64) -> Block {
    let Some((entry, freed_by)) = take(address, caller) else {
        let message = format_args!("{address:#x} was freed, which is not the start of a pool block.");
        gate::bugcheck::with_message(BugCheck::BAD_POOL_CALLER, [0x46, address, 0, 0], caller, message)
    };
    let block = entry.block;
    if let Some(freer) = freed_by {
        freed_before(address, block.tag, freer, caller);
    }
    let (end, pages_end) = (address + block.bytes, entry.pages + page_bytes(block.bytes));
    let around = [(entry.pages, address - entry.pages), (end, pages_end - end)];
    for (start, count) in around {
        // SAFETY: pages of a live block, which was just taken out of use.
        if let Some((place, value)) = unsafe { first_other(start, count as usize, GUARD) } {
            let message = format_args!(
                "The memory beside the pool block at {address:#x} ({} bytes, tag {}) has changed at {place:#x}: somebody wrote past its bounds.",
                block.bytes,
                Text(block.tag),
            );
            let parameters = [address, place, value.into(), 0x24];
            gate::bugcheck::with_message(
                BugCheck::SPECIAL_POOL_DETECTED_MEMORY_CORRUPTION,
                parameters,
                caller,
                message,
            );
        }
    }
    if let Some(region) = region() {
        // If the host refuses, the block stays readable; nothing else changes.
        let _ = region.protect(entry.pages, page_bytes(block.bytes) as usize, false);
    }
    block
}

/// Marks the block at `address` as freed; gives its entry and who had freed it before.
fn take(address: u64, caller: u64) -> Option<(Entry, Option<u64>)> {
    let mut blocks = blocks();
    let index = entry_at(&blocks.entries, address)?;
    let entry = &mut blocks.entries[index];
    if entry.block.address != address {
        return None;
    }
    let (found, before) = (*entry, entry.freed_by);
    entry.freed_by = before.or(Some(caller));
    blocks.live -= usize::from(before.is_none());
    Some((found, before))
}

/// What a fault at `address` was about, in words: a block's end, or a block that was freed. For reports.
pub fn explain(address: u64) -> Option<String> {
    if !contains(address) {
        return None;
    }
    let blocks = blocks();
    let Entry { block, freed_by, .. } = blocks.entries[entry_at(&blocks.entries, address)?];
    let offset = address.wrapping_sub(block.address) as i64;
    let what = format!(
        "offset {offset:#x} of the pool block at {:#x} ({} bytes, tag {})",
        block.address,
        block.bytes,
        Text(block.tag)
    );
    Some(match freed_by {
        Some(_) => format!("{what}, which was freed"),
        None => format!("{what}, past its end"),
    })
}

/// Visits all live blocks.
pub(super) fn for_each_live(mut visit: impl FnMut(Block)) {
    let all = blocks().entries.clone();
    all.into_iter().filter(|entry| entry.freed_by.is_none()).for_each(|entry| visit(entry.block));
}
