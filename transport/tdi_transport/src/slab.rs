//! Numbered slots that never move and are never freed: where the transport's tables live.
//!
//! Slots come in chunks that are made on demand, so an index leads to its slot by three loads and no lock.
//! Free indices lie in one list per processor number, as in the handle table: threads that open and close at
//! once rarely meet.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Slots of one chunk.
const CHUNK: u32 = 64;
/// Chunks of one group.
const GROUP: u32 = 256;
/// Groups; their product with the above bounds the number of slots (1,048,576).
const GROUPS: usize = 64;
/// Lists of free indices.
const SHARDS: usize = 16;
/// Indices that may pile up in a shard before half of them are given to the others.
const PILE_MAX: usize = 1024;

/// Free indices, on cache lines of their own: shards are there so that processors need not share any.
#[derive(Debug)]
#[repr(align(128))]
struct Shard(Mutex<Vec<u32>>);

type Chunk<S> = OnceLock<Box<[S]>>;

/// Slots of `S`, made by `S::default()` in chunks and used again for ever.
#[derive(Debug)]
pub(crate) struct Slab<S> {
    groups: [OnceLock<Box<[Chunk<S>]>>; GROUPS],
    shards: [Shard; SHARDS],
    common: Mutex<Common>,
}

/// What shards fall back on.
#[derive(Debug)]
struct Common {
    /// Indices below this have slots.
    used: u32,
    free: Vec<u32>,
}

impl<S: Default> Slab<S> {
    /// A slab without slots.
    pub(crate) const fn new() -> Self {
        Self {
            groups: [const { OnceLock::new() }; GROUPS],
            shards: [const { Shard(Mutex::new(Vec::new())) }; SHARDS],
            common: Mutex::new(Common { used: 0, free: Vec::new() }),
        }
    }

    /// The slot with this index, if it was ever given out.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&S> {
        let group = self.groups.get((index / (CHUNK * GROUP)) as usize)?.get()?;
        let chunk = group.get((index / CHUNK % GROUP) as usize)?.get()?;
        chunk.get((index % CHUNK) as usize)
    }

    /// Takes a free index. `None` when all slots are in use.
    pub(crate) fn take(&self) -> Option<u32> {
        let mut shard = self.own_shard();
        if shard.is_empty() {
            self.refill(&mut shard)?;
        }
        shard.pop()
    }

    /// Gives an index back that [`Slab::take`] gave.
    pub(crate) fn give_back(&self, index: u32) {
        let mut shard = self.own_shard();
        shard.push(index);
        if shard.len() > PILE_MAX {
            // One thread may close what another one opens.
            let half = shard.split_off(PILE_MAX / 2);
            lock(&self.common).free.extend(half);
        }
    }

    /// Visits the slots that exist, used or not.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(u32, &S)) {
        let used = lock(&self.common).used;
        for index in 0..used {
            if let Some(slot) = self.get(index) {
                visit(index, slot);
            }
        }
    }

    fn own_shard(&self) -> MutexGuard<'_, Vec<u32>> {
        // SAFETY: reads a number of the calling thread's own block.
        let own = unsafe { (*gate::current()).processor } as usize;
        lock(&self.shards[own % SHARDS].0)
    }

    #[cold]
    fn refill(&self, shard: &mut Vec<u32>) -> Option<()> {
        let mut common = lock(&self.common);
        if !common.free.is_empty() {
            let keep = common.free.len().saturating_sub(CHUNK as usize);
            shard.extend(common.free.drain(keep..));
            return Some(());
        }
        let first = common.used;
        let group = self.groups.get((first / (CHUNK * GROUP)) as usize)?;
        let group = group.get_or_init(|| (0..GROUP).map(|_| OnceLock::new()).collect());
        let chunk = group.get((first / CHUNK % GROUP) as usize)?;
        chunk.get_or_init(|| (0..CHUNK).map(|_| S::default()).collect());
        common.used = first + CHUNK;
        // Reversed: lower indices go out first.
        shard.extend((first..first + CHUNK).rev());
        Some(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
