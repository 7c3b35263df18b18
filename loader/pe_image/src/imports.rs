//! What an image needs of others, and binding it.

use gate::code::CodeArea;
use gate::stub::{self, IMPORTS_MAX, STUB_BYTES_MAX};

use crate::exports::NAME_MAX;
use crate::headers::{Headers, directory};
use crate::view::{View, put_u64};
use crate::{ImageError, LoadOptions, MissingImport};

/// Most bytes of names that are read: a hostile table can name one long string many times.
const NAME_BYTES_MAX: usize = 8 << 20;
/// Bytes of an entry of the list of modules.
const DESCRIPTOR: u32 = 20;

/// An import of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The module as the image names it.
    pub module: String,
    /// The name, or `#n` for an ordinal.
    pub name: String,
    /// Where in the image its address goes.
    pub slot: u32,
}

/// Reads the table of imports of a 32-bit or 64-bit image.
///
/// # Errors
/// When a part of the table lies outside of the image, or when there are more imports than a run can have.
pub fn read(image: View<'_>, headers: &Headers) -> Result<Vec<Import>, ImageError> {
    let table = headers.directory(directory::IMPORT);
    let mut imports = Vec::new();
    let mut name_bytes = 0;
    if table.size == 0 {
        return Ok(imports);
    }
    let unreadable = || ImageError::BadTable("import table");
    let mut at = table.offset;
    loop {
        let field = |offset: u32| image.u32(at.checked_add(offset)?);
        let descriptor = || Some((field(0)?, field(12)?, field(16)?));
        let (names, module, slots) = descriptor().ok_or_else(unreadable)?;
        if module == 0 || slots == 0 {
            return Ok(imports);
        }
        let module = image.c_string(module, NAME_MAX).ok_or_else(unreadable)?;
        let module = String::from_utf8_lossy(module).into_owned();
        // Without a list of names, the slots hold it until they are bound.
        let thunks =
            Thunks { image, is_64_bit: headers.is_64_bit, names: if names == 0 { slots } else { names }, slots };
        for index in 0.. {
            let (name, slot) = match thunks.get(index) {
                Some(Thunk::End) => break,
                Some(Thunk::Import { name, slot }) => (name, slot),
                None => return Err(unreadable()),
            };
            name_bytes += name.len() + module.len();
            if imports.len() == IMPORTS_MAX || name_bytes > NAME_BYTES_MAX {
                return Err(ImageError::TooManyImports);
            }
            imports.push(Import { module: module.clone(), name, slot });
        }
        at = at.checked_add(DESCRIPTOR).ok_or_else(unreadable)?;
    }
}

/// The imports from one module.
struct Thunks<'a> {
    image: View<'a>,
    is_64_bit: bool,
    names: u32,
    slots: u32,
}

enum Thunk {
    Import { name: String, slot: u32 },
    End,
}

impl Thunks<'_> {
    /// The import with a number, `None` if it lies outside of the image.
    fn get(&self, index: u32) -> Option<Thunk> {
        let width = if self.is_64_bit { 8 } else { 4 };
        let at = self.names.checked_add(index.checked_mul(width)?)?;
        let slot = self.slots.checked_add(index * width)?;
        self.image.bytes(slot, width)?;
        let (value, by_ordinal) = if self.is_64_bit {
            let value = self.image.u64(at)?;
            (value & !(1 << 63), value >> 63 == 1)
        } else {
            let value = self.image.u32(at)?;
            (u64::from(value & !(1 << 31)), value >> 31 == 1)
        };
        if value == 0 && !by_ordinal {
            return Some(Thunk::End);
        }
        let name = if by_ordinal {
            format!("#{}", value as u16)
        } else {
            // Two bytes of hint stand in front of the name.
            let name = self.image.c_string(u32::try_from(value).ok()?.checked_add(2)?, NAME_MAX)?;
            String::from_utf8_lossy(name).into_owned()
        };
        Some(Thunk::Import { name, slot })
    }
}

/// Bytes of code that binding these imports can take.
pub fn code_bytes(imports: &[Import]) -> u64 {
    imports.len() as u64 * STUB_BYTES_MAX
}

/// Writes the address of every import into its slot: a driver's export, or a stub that enters the kernel's, or a
/// place where every access ends the run. Returns those that nobody implements.
///
/// # Errors
/// When the run has no room for more imports.
pub fn bind(
    imports: &[Import],
    image: &mut [u8],
    code: &mut CodeArea,
    name: &'static str,
    options: &LoadOptions<'_>,
) -> Result<Vec<MissingImport>, ImageError> {
    let mut missing = Vec::new();
    for import in imports {
        let address = match (options.drivers)(&import.module, &import.name) {
            Some(address) => address,
            None => {
                let export = (options.resolver)(&import.module, &import.name);
                if export.is_none() {
                    missing.push(MissingImport { module: import.module.clone(), name: import.name.clone() });
                }
                stub::bind(code, name, &import.module, &import.name, export).ok_or(ImageError::TooManyImports)?
            }
        };
        put_u64(image, import.slot, address);
    }
    Ok(missing)
}
