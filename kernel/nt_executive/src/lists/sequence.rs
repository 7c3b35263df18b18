//! The steps of a list that several processors share without a lock: an SLIST.
//!
//! A header is two words that change together: a depth and a sequence number, and the first entry's address. The sequence
//! number changes with every step, so an entry that was taken and put back is not mistaken for one that never went.
//!
//! Where the words are is told by [`Words`]; `tests/models` runs the same steps over words of its own.

/// A header's value.
#[derive(Clone, Copy)]
pub struct Header {
    /// How many entries there are, modulo 2^16.
    pub depth: u16,
    sequence: u64,
    /// The first entry's address, 0 for none.
    pub first: u64,
}

/// Entries are 16-byte aligned; the low bits of the second word are not part of the address.
const ADDRESS: u64 = !0xF;
const SEQUENCE_MASK: u64 = (1 << 48) - 1;

impl Header {
    /// What a header's words say.
    pub fn of(words: u128) -> Self {
        let (low, high) = (words as u64, (words >> 64) as u64);
        Self { depth: low as u16, sequence: low >> 16, first: high & ADDRESS }
    }

    fn words(self) -> u128 {
        u128::from(self.depth) | u128::from(self.sequence & SEQUENCE_MASK) << 16 | u128::from(self.first) << 64
    }
}

/// One list's header and the entries' links.
pub trait Words {
    /// Why a link cannot be read.
    type Fault;
    /// The header as it may be; half of it may be newer than the other half, which the exchange then finds out.
    fn glance(&self) -> u128;
    /// Swaps the header for another if nobody changed it; gives what was there.
    fn exchange(&self, old: u128, new: u128) -> u128;
    /// The link of an entry, which may be another's by now, or gone.
    fn link(&self, entry: u64) -> Result<u64, Self::Fault>;
    /// Sets the link of an entry that is on no list.
    fn set_link(&self, entry: u64, link: u64);
}

/// Puts an entry first; gives the one that was, or 0.
pub fn push(list: &impl Words, entry: u64) -> u64 {
    let mut seen = list.glance();
    loop {
        let old = Header::of(seen);
        list.set_link(entry, old.first);
        let new = Header { depth: old.depth.wrapping_add(1), sequence: old.sequence.wrapping_add(1), first: entry };
        match list.exchange(seen, new.words()) {
            now if now == seen => return old.first,
            now => seen = now,
        }
    }
}

/// Takes the first entry, or gives 0.
///
/// # Errors
/// The first entry's link cannot be read, and it is the first entry still.
pub fn pop<W: Words>(list: &W) -> Result<u64, W::Fault> {
    let mut seen = list.glance();
    loop {
        let old = Header::of(seen);
        if old.first == 0 {
            return Ok(0);
        }
        // Another processor may take the entry and free its memory meanwhile; then the exchange fails.
        let link = list.link(old.first);
        let unchanged = match &link {
            Ok(link) => {
                let (depth, sequence) = (old.depth.wrapping_sub(1), old.sequence.wrapping_add(1));
                list.exchange(seen, Header { depth, sequence, first: link & ADDRESS }.words())
            }
            Err(_) => list.glance(),
        };
        if unchanged == seen {
            return link.map(|_| old.first);
        }
        seen = unchanged;
    }
}

/// Takes all entries; gives the first.
pub fn flush(list: &impl Words) -> u64 {
    let mut seen = list.glance();
    loop {
        let old = Header::of(seen);
        let new = Header { depth: 0, sequence: old.sequence.wrapping_add(1), first: 0 };
        match list.exchange(seen, new.words()) {
            now if now == seen => return old.first,
            now => seen = now,
        }
    }
}
