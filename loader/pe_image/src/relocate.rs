//! Adjusting an image to the place it lies at.

use crate::ImageError;
use crate::headers::{Headers, directory};
use crate::view::{View, put_u64};

/// Kinds of relocations.
mod kind {
    pub const NONE: u16 = 0;
    pub const ADDRESS_64: u16 = 10;
}

const UNREADABLE: ImageError = ImageError::BadTable("relocation table");
/// Bytes in front of a block's entries: the page and the block's size.
const BLOCK_HEADER: u32 = 8;

/// Adds the distance from the preferred base to every address the image has in it. Returns the offsets of those, in order.
///
/// # Errors
/// When relocations are missing or lead out of the image, or are of a kind that no 64-bit image has.
pub fn relocate(base: u64, image: &mut [u8], headers: &Headers) -> Result<Vec<u32>, ImageError> {
    let distance = base.wrapping_sub(headers.preferred_base);
    if headers.is_fixed() && distance != 0 {
        return Err(ImageError::RelocationsStripped);
    }
    let offsets = offsets(View(image), headers)?;
    for &offset in &offsets {
        let address = View(image).u64(offset).ok_or(UNREADABLE)?;
        put_u64(image, offset, address.wrapping_add(distance));
    }
    Ok(offsets)
}

/// Takes back what [`relocate`] did at the offsets it gave.
pub fn undo(base: u64, image: &mut [u8], headers: &Headers, offsets: &[u32]) {
    let distance = base.wrapping_sub(headers.preferred_base);
    // The other way around, since addresses of a hostile image may lie over each other.
    for &offset in offsets.iter().rev() {
        if let Some(address) = View(image).u64(offset) {
            put_u64(image, offset, address.wrapping_sub(distance));
        }
    }
}

/// Where the addresses lie, in order.
pub fn offsets(image: View<'_>, headers: &Headers) -> Result<Vec<u32>, ImageError> {
    let table = headers.directory(directory::RELOCATION);
    let table = image.bytes(table.offset, table.size).ok_or(UNREADABLE)?;
    let mut offsets = Vec::new();
    let mut at = 0;
    while let (Some(page), Some(size)) = (View(table).u32(at), View(table).u32(at + 4)) {
        if page == 0 && size == 0 {
            // Some linkers fill the table up with zeros.
            break;
        }
        if size < BLOCK_HEADER || !size.is_multiple_of(2) {
            return Err(UNREADABLE);
        }
        let entries = View(table).bytes(at + BLOCK_HEADER, size - BLOCK_HEADER).ok_or(UNREADABLE)?;
        for entry in entries.as_chunks::<2>().0 {
            let entry = u16::from_le_bytes(*entry);
            let (kind, offset) = (entry >> 12, u64::from(page) + u64::from(entry & 0xFFF));
            let bad = ImageError::BadRelocation { offset, kind };
            match kind {
                kind::NONE => {}
                kind::ADDRESS_64 => match u32::try_from(offset) {
                    Ok(offset) if image.u64(offset).is_some() => offsets.push(offset),
                    _ => return Err(bad),
                },
                _ => return Err(bad),
            }
        }
        at += size;
    }
    offsets.sort_unstable();
    Ok(offsets)
}
