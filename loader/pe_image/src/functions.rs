//! The functions that an image lists for unwinding (`.pdata`).

use crate::ImageError;
use crate::headers::{Headers, directory};
use crate::view::View;

/// Bytes of an entry of the table.
const ENTRY: usize = 12;
/// Most links from a part of a function to the one it is a part of.
const CHAIN_MAX: usize = 32;

/// Bits of the unwind information's first byte, above the version.
mod flag {
    pub const EXCEPTION_HANDLER: u8 = 1;
    pub const TERMINATION_HANDLER: u8 = 2;
    pub const CHAINED: u8 = 4;
}

/// A function, or a part of one that lies elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// Offset of its first instruction.
    pub begin: u32,
    /// Offset behind its last.
    pub end: u32,
    /// Offset of its unwind information.
    pub unwind: u32,
    /// `begin` of the function that this is a part of; its own if it is whole.
    pub whole: u32,
    /// Offset of the handler of exceptions that pass through it, if it has one.
    pub handler: Option<u32>,
}

/// Reads the table. Entries that lie over others or outside of the image are left out: nothing here depends on
/// finding all.
///
/// # Errors
/// When the table itself lies outside of the image.
pub fn read(image: View<'_>, headers: &Headers) -> Result<Vec<Function>, ImageError> {
    let table = headers.directory(directory::EXCEPTION);
    let table = image.bytes(table.offset, table.size).ok_or(ImageError::BadTable("table of functions (.pdata)"))?;
    let mut functions: Vec<_> = table.as_chunks::<ENTRY>().0.iter().filter_map(Entry::of).collect();
    functions.sort_by_key(|entry| entry.begin);
    let mut end = 0;
    functions.retain(|entry| {
        let is_sound = entry.begin >= end && (entry.end as usize) <= image.0.len();
        end = if is_sound { entry.end } else { end };
        is_sound
    });
    Ok(functions.into_iter().map(|entry| entry.function(image)).collect())
}

#[derive(Clone, Copy)]
struct Entry {
    begin: u32,
    end: u32,
    unwind: u32,
}

impl Entry {
    fn of(bytes: &[u8; ENTRY]) -> Option<Self> {
        let word = |at| View(bytes).u32(at);
        let entry = Self { begin: word(0)?, end: word(4)?, unwind: word(8)? };
        (entry.begin < entry.end).then_some(entry)
    }

    fn function(self, image: View<'_>) -> Function {
        let (mut whole, mut handler) = (self, None);
        for _ in 0..CHAIN_MAX {
            // An odd offset leads to another entry of the table instead of to unwind information.
            let next = if whole.unwind & 1 != 0 {
                Some(whole.unwind & !1)
            } else {
                let Some(&[first, _, codes, _]) = image.bytes(whole.unwind, 4) else { break };
                // Codes are two bytes each, and their number is rounded up to an even one.
                let trailer = whole.unwind.wrapping_add(4 + 2 * (u32::from(codes) + u32::from(codes) % 2));
                let flags = first >> 3;
                if flags & (flag::EXCEPTION_HANDLER | flag::TERMINATION_HANDLER) != 0 && handler.is_none() {
                    handler = image.u32(trailer);
                }
                (flags & flag::CHAINED != 0).then_some(trailer)
            };
            let Some(next) = next else { break };
            let Some(entry) = image.bytes(next, ENTRY as u32).and_then(|bytes| Entry::of(bytes.try_into().ok()?))
            else {
                break;
            };
            whole = entry;
        }
        Function { begin: self.begin, end: self.end, unwind: self.unwind, whole: whole.begin, handler }
    }
}
