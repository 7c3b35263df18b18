//! Slots of one size in a range of their own, with what the host knows of each kept out of drivers' reach.
//!
//! A slot's record lies in another region, found by the slot's number, so nothing a driver writes beside its blocks
//! can make the host follow a wrong pointer or free the wrong thing.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{OnceLock, PoisonError};

use arena::{PAGE, Region, plan};
use host_lock::{Mutex, MutexGuard};

/// From one slab's range to the next; two ranges per slab lie in the plan's terabyte.
const RANGE: u64 = 1 << 34;
/// Slabs.
pub(super) const SLABS: usize = SMALL.len() + LARGE_CLASSES;

/// Slot sizes that several share a page of, so that no block crosses one (K-146).
const SMALL: [u32; 16] = [48, 64, 96, 128, 160, 192, 256, 320, 400, 512, 672, 816, 1024, 1360, 2048, 4096];
/// Powers of two in pages, for blocks of a page and more.
const LARGE_CLASSES: usize = 16;

/// Bytes in front of a small block, and at least so many behind every block, whose change tells of an overrun.
pub(super) const LEAD: u32 = 16;
pub(super) const TAIL: u32 = 16;

/// Largest block.
pub(super) const BYTES_MAX: u64 = ((PAGE as u64) << (LARGE_CLASSES - 1)) - TAIL as u64;
/// Most memory that all slabs together take from the host, so that a leaking driver gets NULL and not the host's end.
const COMMITTED_MAX: u64 = 4 << 30;

/// States of a record.
pub(super) mod state {
    /// Never used.
    pub const FRESH: u32 = 0;
    /// In a driver's hands.
    pub const LIVE: u32 = 0x4556_494C;
    /// Given back.
    pub const FREED: u32 = 0x4545_5246;
}

/// What the host knows of a slot. All zero is a slot that was never used.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Record {
    pub state: AtomicU32,
    pub tag: AtomicU32,
    /// Bytes asked for.
    pub bytes: AtomicU32,
    /// Of a live block its pool type or purpose; of a free one the number of the next free slot plus one.
    pub kind_or_next: AtomicU32,
    /// The driver instruction that allocated it, or that freed it.
    pub caller: AtomicU64,
}

const RECORD: u64 = size_of::<Record>() as u64;
const _: () = assert!(size_of::<Record>() == 24);

/// A chain of free slots.
#[derive(Debug, Default)]
pub(super) struct FreeList {
    /// Number of the first plus one, 0 if empty.
    head: u32,
    pub count: u32,
}

#[derive(Debug)]
struct Shared {
    free: FreeList,
    used: u32,
}

/// Slots of one size.
#[derive(Debug)]
pub(super) struct Slab {
    number: usize,
    /// Bytes of a slot.
    pub slot: u32,
    /// Bytes in front of the block.
    pub lead: u32,
    /// Slots lie in spans of this many bytes (as a power of two) and do not cross them.
    span_shift: u32,
    per_span: u32,
    /// `65536 / slot`, rounded up: division by multiplication for offsets within a page.
    inverse: u32,
    ranges: OnceLock<(Region, Region)>,
    shared: Mutex<Shared>,
}

static COMMITTED: AtomicU64 = AtomicU64::new(0);

impl Slab {
    pub const fn new(number: usize) -> Self {
        let (slot, lead, span_shift) = if number < SMALL.len() {
            (SMALL[number], LEAD, PAGE.trailing_zeros())
        } else {
            let shift = PAGE.trailing_zeros() + (number - SMALL.len()) as u32;
            (1 << shift, 0, shift)
        };
        let shared = Shared { free: FreeList { head: 0, count: 0 }, used: 0 };
        Self {
            number,
            slot,
            lead,
            span_shift,
            per_span: (1 << span_shift) / slot,
            inverse: (1u32 << 16).div_ceil(slot),
            ranges: OnceLock::new(),
            shared: Mutex::new(shared),
        }
    }

    /// How many slots move between a thread and the slab at once: as many as 16 KiB hold.
    pub fn batch(&self) -> u32 {
        (16384 / self.slot).clamp(1, 32)
    }

    fn slots_max(&self) -> u32 {
        (((RANGE >> self.span_shift) * u64::from(self.per_span)).min(1 << 28)) as u32
    }

    fn ranges(&self) -> io::Result<&(Region, Region)> {
        if let Some(ranges) = self.ranges.get() {
            return Ok(ranges);
        }
        let data = Region::reserve(plan::POOL + self.number as u64 * RANGE, RANGE as usize)?;
        let bytes = u64::from(self.slots_max()) * RECORD;
        let place = plan::POOL + (SLABS + self.number) as u64 * RANGE;
        let records = Region::reserve(place, bytes.next_multiple_of(PAGE as u64) as usize)?;
        // A racing thread's ranges are given back again.
        Ok(self.ranges.get_or_init(|| (data, records)))
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `address` lies in a part of the slab that was handed out once.
    #[inline]
    pub fn contains(&self, address: u64) -> bool {
        self.ranges.get().is_some_and(|(data, _)| data.contains(address))
    }

    /// The number of the slot whose block is at `address`.
    #[inline]
    pub fn index(&self, address: u64) -> Option<u32> {
        let (data, _) = self.ranges.get()?;
        if !data.contains(address) {
            return None;
        }
        let offset = address - data.base();
        let within = (offset & ((1 << self.span_shift) - 1)).checked_sub(self.lead.into())?;
        let span = (offset >> self.span_shift) * u64::from(self.per_span);
        if self.per_span == 1 {
            return (within == 0).then_some(span as u32);
        }
        // `within` is below a page, for which the multiplication is exact.
        let place = (within as u32 * self.inverse) >> 16;
        (place * self.slot == within as u32 && place < self.per_span).then_some(span as u32 + place)
    }

    /// The slot that `address` lies somewhere in, for reports.
    pub fn index_around(&self, address: u64) -> Option<u32> {
        let (data, _) = self.ranges.get()?;
        if !data.contains(address) {
            return None;
        }
        let offset = address - data.base();
        let place = (offset & ((1 << self.span_shift) - 1)) as u32 / self.slot;
        (place < self.per_span).then(|| (offset >> self.span_shift) as u32 * self.per_span + place)
    }

    /// The address of a slot's block.
    #[inline]
    pub fn address(&self, index: u32) -> u64 {
        let base = self.ranges.get().map_or(0, |(data, _)| data.base());
        if self.per_span == 1 {
            return base + (u64::from(index) << self.span_shift) + u64::from(self.lead);
        }
        let (span, place) = (index / self.per_span, index % self.per_span);
        base + (u64::from(span) << self.span_shift) + u64::from(place * self.slot + self.lead)
    }

    /// A slot's record; `index` is of a slot that was handed out once.
    #[inline]
    pub fn record(&self, index: u32) -> &Record {
        let (_, records) = self.ranges.get().expect("a slot's index comes from its slab's ranges");
        let address = records.base() + u64::from(index) * RECORD;
        assert!(records.contains(address + RECORD - 1), "a slot beyond its slab");
        // SAFETY: committed with the slot, never unmapped, and all its fields are atomic.
        unsafe { &*(address as *const Record) }
    }

    /// Takes a slot off a free list.
    #[inline]
    pub fn pop(&self, list: &mut FreeList) -> Option<u32> {
        let index = list.head.checked_sub(1)?;
        list.head = self.record(index).kind_or_next.load(Ordering::Relaxed);
        list.count -= 1;
        Some(index)
    }

    /// Puts a slot on a free list.
    #[inline]
    pub fn push(&self, list: &mut FreeList, index: u32) {
        self.record(index).kind_or_next.store(list.head, Ordering::Relaxed);
        list.head = index + 1;
        list.count += 1;
    }

    /// Fills a thread's empty list. `None` when memory is exhausted.
    #[cold]
    pub fn refill(&self, list: &mut FreeList) -> Option<()> {
        self.ranges().ok()?;
        let mut shared = self.shared();
        while list.count < self.batch() {
            if shared.free.count == 0 && self.grow(&mut shared).is_none() {
                break;
            }
            let index = self.pop(&mut shared.free)?;
            self.push(list, index);
        }
        (list.count > 0).then_some(())
    }

    /// Gives half of a thread's list back.
    #[cold]
    pub fn spill(&self, list: &mut FreeList) {
        let mut shared = self.shared();
        for _ in 0..self.batch() {
            if let Some(index) = self.pop(list) {
                self.push(&mut shared.free, index);
            }
        }
    }

    /// Makes another batch of slots, on whole spans.
    fn grow(&self, shared: &mut Shared) -> Option<()> {
        let (data, records) = self.ranges.get()?;
        let spans = self.batch().div_ceil(self.per_span);
        let end = shared.used.checked_add(spans * self.per_span).filter(|&end| end <= self.slots_max())?;
        let bytes = u64::from(spans) << self.span_shift;
        let within = |committed: u64| committed.checked_add(bytes).filter(|&sum| sum <= COMMITTED_MAX);
        COMMITTED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).ok()?;
        let spans_used = u64::from(end / self.per_span);
        let committed =
            data.commit(spans_used << self.span_shift).and_then(|()| records.commit(u64::from(end) * RECORD));
        if committed.is_err() {
            // No slot came of it: the next try asks for the same bytes.
            COMMITTED.fetch_sub(bytes, Ordering::Relaxed);
            return None;
        }
        // Backwards, so that the lowest is handed out first.
        for index in (shared.used..end).rev() {
            self.push(&mut shared.free, index);
        }
        shared.used = end;
        Some(())
    }

    /// Visits every live slot.
    pub fn for_each_live(&self, mut visit: impl FnMut(u64, &Record)) {
        let used = self.shared().used;
        for index in 0..used {
            let record = self.record(index);
            if record.state.load(Ordering::Acquire) == state::LIVE {
                visit(self.address(index), record);
            }
        }
    }
}

/// The slab for blocks of this many bytes.
#[inline]
pub(super) fn slab_for(bytes: u64) -> Option<usize> {
    let small = u64::from(SMALL[SMALL.len() - 1] - LEAD - TAIL);
    if bytes <= small {
        return Some(usize::from(BY_SIZE[bytes.div_ceil(16) as usize]));
    }
    if bytes > BYTES_MAX {
        return None;
    }
    let pages = (bytes + u64::from(TAIL)).div_ceil(PAGE as u64).next_power_of_two();
    Some(SMALL.len() + pages.trailing_zeros() as usize)
}

/// Small slabs by size in units of 16 bytes.
static BY_SIZE: [u8; 255] = {
    let mut table = [0; 255];
    let (mut units, mut number) = (0, 0);
    while units < 255 {
        while SMALL[number] < units as u32 * 16 + LEAD + TAIL {
            number += 1;
        }
        table[units] = number as u8;
        units += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_fits_its_slab_with_room_for_guards() {
        for bytes in 0..=70_000 {
            let slab = Slab::new(slab_for(bytes).expect("a slab"));
            assert!(bytes + u64::from(slab.lead + TAIL) <= slab.slot.into(), "{bytes}");
        }
        assert!(slab_for(BYTES_MAX).is_some());
        assert_eq!(slab_for(BYTES_MAX + 1), None);
    }

    #[test]
    fn multiplication_divides_exactly_within_a_page() {
        for slot in SMALL {
            let inverse = (1u32 << 16).div_ceil(slot);
            for within in 0..PAGE as u32 {
                let place = (within * inverse) >> 16;
                // Only exact multiples matter: everything else is refused.
                assert_eq!(place * slot == within, within % slot == 0, "{within} in slots of {slot}");
            }
        }
    }
}
