//! What an image offers to others.

use std::collections::BTreeMap;

use crate::ImageError;
use crate::headers::{Headers, directory};
use crate::view::View;

/// Longest name of an import or export that is read.
pub const NAME_MAX: usize = 512;

/// Most exports: ordinals have 16 bits.
const COUNT_MAX: u32 = 1 << 16;

/// Exported functions and variables, as offsets in the image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exports {
    /// By name.
    pub named: BTreeMap<String, u32>,
    /// By ordinal, also those with a name.
    pub numbered: BTreeMap<u32, u32>,
    /// Those that another module has, by name and, as `#n`, by ordinal.
    pub forwarded: BTreeMap<String, Forwarder>,
}

/// Where a forwarded export is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarder {
    /// The module, mostly without `.sys` or the like.
    pub module: String,
    /// The name there, or `#n` for an ordinal.
    pub name: String,
}

impl Forwarder {
    /// From `module.name`.
    fn read(text: &[u8]) -> Option<Self> {
        let (module, name) = std::str::from_utf8(text).ok()?.rsplit_once('.')?;
        Some(Self { module: module.to_owned(), name: name.to_owned() })
    }
}

impl Exports {
    /// The offset of the export called `name`, or `#n` for an ordinal.
    pub fn get(&self, name: &str) -> Option<u32> {
        match name.strip_prefix('#').and_then(|ordinal| ordinal.parse().ok()) {
            Some(ordinal) => self.numbered.get(&ordinal).copied(),
            None => self.named.get(name).copied(),
        }
    }
}

/// Reads the table of exports. A forwarded one that does not say where to is left out.
///
/// # Errors
/// When a part of the table lies outside of the image.
pub fn read(image: View<'_>, headers: &Headers) -> Result<Exports, ImageError> {
    let table = headers.directory(directory::EXPORT);
    let mut exports = Exports::default();
    if table.size == 0 {
        return Ok(exports);
    }
    let unreadable = || ImageError::BadTable("export table");
    let field = |offset: u32| image.u32(table.offset.checked_add(offset)?);
    let header = || Some((field(0x10)?, field(0x14)?, field(0x18)?, field(0x1C)?, field(0x20)?, field(0x24)?));
    let (first, functions, names, functions_at, names_at, ordinals_at) = header().ok_or_else(unreadable)?;

    if functions > COUNT_MAX || names > COUNT_MAX {
        return Err(unreadable());
    }
    let list = |at: u32, count: u32, size: u32| image.bytes(at, count.checked_mul(size)?);
    let functions = list(functions_at, functions, 4).ok_or_else(unreadable)?.as_chunks::<4>().0;
    let name_offsets = list(names_at, names, 4).ok_or_else(unreadable)?.as_chunks::<4>().0;
    let ordinals = list(ordinals_at, names, 2).ok_or_else(unreadable)?.as_chunks::<2>().0;

    // An offset inside the table itself leads to the name of somebody else's export.
    let is_forwarded = |offset: u32| offset.wrapping_sub(table.offset) < table.size;
    let is_export = |offset: u32| offset != 0 && image.bytes(offset, 1).is_some();
    let forwarder = |offset: u32| image.c_string(offset, NAME_MAX).and_then(Forwarder::read);
    for (number, offset) in functions.iter().enumerate() {
        let (ordinal, offset) = (first.wrapping_add(number as u32), u32::from_le_bytes(*offset));
        if is_forwarded(offset) {
            exports.forwarded.extend(forwarder(offset).map(|to| (format!("#{ordinal}"), to)));
        } else if is_export(offset) {
            exports.numbered.insert(ordinal, offset);
        }
    }
    for (name, ordinal) in name_offsets.iter().zip(ordinals) {
        let name = image.c_string(u32::from_le_bytes(*name), NAME_MAX).ok_or_else(unreadable)?;
        let name = || String::from_utf8_lossy(name).into_owned();
        let offset = functions.get(usize::from(u16::from_le_bytes(*ordinal))).ok_or_else(unreadable)?;
        let offset = u32::from_le_bytes(*offset);
        if is_forwarded(offset) {
            exports.forwarded.extend(forwarder(offset).map(|to| (name(), to)));
        } else if is_export(offset) {
            exports.named.insert(name(), offset);
        }
    }
    Ok(exports)
}
