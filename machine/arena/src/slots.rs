//! Type-stable slots with per-thread caches.

use std::io;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::free_slots::{self, Shared, SlotCache, Slots};
use crate::sync::Mutex;
use crate::{PAGE, Region};

const LIVE: u32 = 0x4556_494C;
const FREE: u32 = 0x4545_5246;

/// What the host keeps in front of every slot body. Drivers do not know it is there.
#[derive(Debug)]
#[repr(C)]
pub struct SlotHeader {
    state: AtomicU32,
    /// Free for the arena's user.
    pub kind: u32,
    /// Return address in the driver that allocated the slot; while it is free, the next free slot. Not one of the words
    /// below: who holds a stale pointer may still look at those.
    pub caller: u64,
    /// Free for the arena's user.
    pub user: [u64; 4],
}

/// Bytes of [`SlotHeader`]; bodies are 16-byte aligned.
const HEADER: u64 = size_of::<SlotHeader>() as u64;
const _: () = assert!(size_of::<SlotHeader>() == 48);

/// Bytes from one slot to the next, and what tells their multiples without a division: headers are looked for dozens of
/// times in the life of a file object.
#[derive(Clone, Copy, Debug)]
struct Stride {
    bytes: u64,
    /// Trailing zero bits of `bytes`.
    zeros: u32,
    /// What the odd part of `bytes` has to be multiplied with to give 1, in 64 bits.
    inverse: u64,
    /// The largest multiple, divided by `bytes`.
    most: u64,
}

impl Stride {
    const fn new(bytes: u64) -> Self {
        let zeros = bytes.trailing_zeros();
        let odd = bytes >> zeros;
        // Newton's iteration: right in 3 bits at first, and in twice as many after each step.
        let mut inverse = odd;
        let mut bits = 3;
        while bits < 64 {
            inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
            bits *= 2;
        }
        Self { bytes, zeros, inverse, most: u64::MAX / bytes }
    }

    /// Multiplying by the inverse maps the multiples, and only those, to their quotients; a bit of the even part that is
    /// set makes the number too large.
    #[inline]
    const fn divides(self, number: u64) -> bool {
        number.wrapping_mul(self.inverse).rotate_right(self.zeros) <= self.most
    }
}

/// Slots of one size in a region of their own.
///
/// A slot's memory is never given to anything else, so reading the header of a stale pointer is always
/// safe and says that it is stale.
#[derive(Debug)]
pub struct SlotArena {
    place: u64,
    stride: Stride,
    slots_max: u64,
    region: OnceLock<Region>,
    shared: Mutex<Shared>,
}

impl SlotArena {
    /// An arena at `place` (see [`crate::plan`]) of at most `slots_max` bodies of `body` bytes.
    pub const fn new(place: u64, body: u64, slots_max: u64) -> Self {
        let shared = Mutex::new(Shared::none());
        let stride = Stride::new(HEADER + body.next_multiple_of(16));
        Self { place, stride, slots_max, region: OnceLock::new(), shared }
    }

    fn stride(&self) -> u64 {
        self.stride.bytes
    }

    fn region(&self) -> io::Result<&Region> {
        if let Some(region) = self.region.get() {
            return Ok(region);
        }
        let region =
            Region::reserve(self.place, (self.stride() * self.slots_max).next_multiple_of(PAGE as u64) as usize)?;
        Ok(self.region.get_or_init(|| region))
    }

    /// Takes a slot; its body holds whatever was there before. `None` when the arena is exhausted.
    #[inline]
    pub fn allocate(&self, cache: &mut SlotCache, caller: u64) -> Option<NonNull<u8>> {
        let header = free_slots::take(self, cache)? as *mut SlotHeader;
        // SAFETY: free slots are committed slots of this arena, and this one is in no list any more.
        unsafe {
            (*header).caller = caller;
            (*header).state.store(LIVE, Ordering::Release);
            NonNull::new((header as *mut u8).add(HEADER as usize))
        }
    }

    /// Gives a slot back. `false` (and no effect) if `body` is not a live slot of this arena.
    #[inline]
    pub fn free(&self, cache: &mut SlotCache, body: u64) -> bool {
        self.header(body).is_some_and(|header| free_slots::give_back(self, cache, header as u64))
    }

    /// The header of the slot whose body is at `body`, if that is a slot of this arena, live or not.
    #[inline]
    pub fn header(&self, body: u64) -> Option<*mut SlotHeader> {
        let region = self.region.get()?;
        let start = body.wrapping_sub(HEADER);
        (region.contains(start) && self.stride.divides(start - region.base())).then_some(start as *mut SlotHeader)
    }

    /// The header of the slot in use whose body is at `body`.
    #[inline]
    pub fn live_header(&self, body: u64) -> Option<*mut SlotHeader> {
        // SAFETY: headers of committed slots are always readable.
        self.header(body).filter(|&header| unsafe { (*header).state.load(Ordering::Acquire) } == LIVE)
    }

    /// The header of a slot that was just taken, without a look at anything.
    ///
    /// # Safety
    /// `body` came from [`SlotArena::allocate`].
    #[inline]
    pub unsafe fn header_of_taken(body: NonNull<u8>) -> *mut SlotHeader {
        // SAFETY: the caller's promise: the header lies in front of the body.
        unsafe { body.as_ptr().sub(HEADER as usize).cast() }
    }

    /// Whether `body` is the body of a slot in use.
    #[inline]
    pub fn is_live(&self, body: u64) -> bool {
        self.live_header(body).is_some()
    }

    /// Whether `address` lies in the arena's memory, in a slot or not.
    pub fn contains(&self, address: u64) -> bool {
        self.region.get().is_some_and(|region| region.contains(address))
    }

    /// Visits the body and header of every slot in use. Slots allocated or freed meanwhile may be missed.
    pub fn for_each_live(&self, mut visit: impl FnMut(u64, &SlotHeader)) {
        let Some(region) = self.region.get() else { return };
        let used = free_slots::lock(self).made;
        for index in 0..used {
            let body = region.base() + index * self.stride() + HEADER;
            if self.is_live(body) {
                // SAFETY: as in `is_live`.
                visit(body, unsafe { &*((body - HEADER) as *const SlotHeader) });
            }
        }
    }

    /// Moves all of a thread's slots back, for a thread that ends.
    pub fn release_cache(&self, cache: &mut SlotCache) {
        free_slots::release(self, cache);
    }
}

/// Slots are named by where their headers lie, and linked through the word that notes the allocating driver while they are in use.
impl Slots for SlotArena {
    const BATCH: u32 = 32;

    #[inline]
    fn link(&self, slot: u64) -> u64 {
        // SAFETY: free slots are committed ones of this arena, and whoever asks has the list that the slot is in.
        unsafe { (*(slot as *mut SlotHeader)).caller }
    }

    #[inline]
    fn set_link(&self, slot: u64, link: u64) {
        // SAFETY: as in `link`.
        unsafe { (*(slot as *mut SlotHeader)).caller = link };
    }

    #[inline]
    fn end_use(&self, slot: u64) -> bool {
        // SAFETY: `header` checked that the slot is one of ours; headers are never unmapped.
        let state = unsafe { &(*(slot as *mut SlotHeader)).state };
        state.compare_exchange(LIVE, FREE, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn grow(&self, made: u64) -> u64 {
        let end = (made + u64::from(Self::BATCH)).min(self.slots_max);
        let committed = self.region().and_then(|region| region.commit(end * self.stride()));
        if committed.is_ok() { end } else { made }
    }

    fn make(&self, number: u64) -> u64 {
        let base = self.region.get().expect("`grow` reserved it").base();
        let header = (base + number * self.stride()) as *mut SlotHeader;
        // SAFETY: just committed, zero, and not handed out yet.
        unsafe { (*header).state = AtomicU32::new(FREE) };
        header as u64
    }

    fn shared(&self) -> &Mutex<Shared> {
        &self.shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static ARENA: SlotArena = SlotArena::new(0x2F00_0000_0000, 100, 256);

    #[test]
    fn freed_slot_is_no_longer_live_and_cannot_be_freed_twice() {
        let mut cache = SlotCache::default();
        let slot = ARENA.allocate(&mut cache, 7).expect("a slot").as_ptr() as u64;
        assert!(ARENA.is_live(slot));
        assert!(!ARENA.is_live(slot + 16), "the middle of a slot is no slot");
        assert!(ARENA.free(&mut cache, slot));
        assert!(!ARENA.is_live(slot));
        assert!(!ARENA.free(&mut cache, slot));
        ARENA.release_cache(&mut cache);
    }

    #[test]
    fn exhausted_arena_returns_none() {
        static SMALL: SlotArena = SlotArena::new(0x2F10_0000_0000, 16, 40);
        let mut cache = SlotCache::default();
        let slots: Vec<_> = std::iter::from_fn(|| SMALL.allocate(&mut cache, 0)).collect();
        assert_eq!(slots.len(), 40);
    }

    #[test]
    fn stride_divides_its_multiples_and_nothing_else() {
        for bytes in [16, 48, 64, 272, 336, 544, 1072, 9408, 66_112] {
            let stride = Stride::new(bytes);
            for number in (0..3 * bytes).chain((1 << 40)..(1 << 40) + 2 * bytes) {
                assert_eq!(stride.divides(number), number % bytes == 0, "{number} by {bytes}");
            }
        }
    }

    #[test]
    fn slots_lie_next_to_each_other_without_gaps() {
        static TIGHT: SlotArena = SlotArena::new(0x2F20_0000_0000, 280, 64);
        let mut cache = SlotCache::default();
        let mut slots: Vec<_> =
            std::iter::from_fn(|| TIGHT.allocate(&mut cache, 0)).map(|slot| slot.as_ptr() as u64).collect();
        slots.sort_unstable();
        assert!(slots.windows(2).all(|pair| pair[1] - pair[0] == HEADER + 288), "a pending receive keeps such a slot");
    }
}
