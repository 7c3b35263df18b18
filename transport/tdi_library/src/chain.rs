//! MDL chains, walked where they lie.
//!
//! A chain is driver memory: its members are read by guarded copies, and their number is bounded.

use std::mem::offset_of;

use gate::memory::{self, Fault};
use nt_abi::mdl::mdl_flags;
use nt_abi::{Mdl, NtStatus};

/// Most members of a chain; a longer one is a circle.
pub const MEMBERS_MAX: u32 = 4096;

/// A piece of a chain: bytes that lie together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where they can be touched. Not 0.
    pub address: u64,
    /// How many; at least 1.
    pub length: usize,
}

/// The pieces of a part of a chain, in order.
#[derive(Debug)]
pub struct Pieces {
    next: u64,
    skip: u64,
    left: u64,
    members: u32,
}

impl Pieces {
    /// `length` bytes of the chain that begins with `head`, from `offset` on.
    pub fn of(head: *const Mdl, offset: u64, length: u64) -> Self {
        Self { next: head as u64, skip: offset, left: length, members: 0 }
    }

    /// Bytes that have not come out yet.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The next piece; `None` once all bytes have come out.
    ///
    /// # Errors
    /// INVALID_PARAMETER if the chain ends before that or goes in a circle, ACCESS_VIOLATION if a member is not
    /// there.
    pub fn advance(&mut self) -> Result<Option<Piece>, NtStatus> {
        while self.left > 0 {
            let Some(member) = self.member()? else { return Err(NtStatus::INVALID_PARAMETER) };
            let count = u64::from(member.byte_count);
            if self.skip >= count {
                self.skip -= count;
                continue;
            }
            let length = (count - self.skip).min(self.left);
            let start = member.start;
            let address = start.checked_add(self.skip).filter(|_| start != 0).ok_or(NtStatus::ACCESS_VIOLATION)?;
            self.skip = 0;
            self.left -= length;
            return Ok(Some(Piece { address, length: length as usize }));
        }
        Ok(None)
    }

    fn member(&mut self) -> Result<Option<Member>, NtStatus> {
        if self.next == 0 {
            return Ok(None);
        }
        self.members += 1;
        if self.members > MEMBERS_MAX {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let member = Member::read(self.next).map_err(|_| NtStatus::ACCESS_VIOLATION)?;
        self.next = member.next;
        Ok(Some(member))
    }
}

/// What counts of an MDL.
struct Member {
    next: u64,
    /// Where its bytes can be touched.
    start: u64,
    byte_count: u32,
}

impl Member {
    /// Word by word: a guarded copy of the whole costs more than the loads that are needed.
    fn read(mdl: u64) -> Result<Self, Fault> {
        let word = |offset: usize| memory::read_value::<u64>(mdl.wrapping_add(offset as u64));
        let next = word(offset_of!(Mdl, next))?;
        let flags = (word(offset_of!(Mdl, size))? >> 16) as u16;
        let counts = word(offset_of!(Mdl, byte_count))?;
        let start = if flags & (mdl_flags::MAPPED_TO_SYSTEM_VA | mdl_flags::SOURCE_IS_NONPAGED_POOL) != 0 {
            word(offset_of!(Mdl, mapped_system_va))?
        } else {
            // Locked pages that nobody mapped: drivers share one address space here, so they are where they were.
            word(offset_of!(Mdl, start_va))?.wrapping_add(counts >> 32)
        };
        Ok(Self { next, start, byte_count: counts as u32 })
    }
}

/// All bytes that a chain has.
///
/// # Errors
/// As [`Pieces::advance`].
pub fn length(head: *const Mdl) -> Result<u64, NtStatus> {
    let mut pieces = Pieces::of(head, 0, 0);
    let mut bytes = 0;
    while let Some(member) = pieces.member()? {
        bytes += u64::from(member.byte_count);
    }
    Ok(bytes)
}
