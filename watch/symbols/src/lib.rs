//! Which function and line an offset in a driver image belongs to.
//!
//! Read from DWARF inside the image (mingw-w64, clang for the gnu target) or from a PDB beside it (Microsoft's
//! compiler, clang for the msvc target). Nothing is known of an image with neither; reports then have offsets only.
//!
//! Pure: bytes in, places out. A file that makes no sense gives no places; but the crates that read the formats panic on some, so
//! strangers' files are read in a process of its own (`drydock`'s `symbol_reader`).

#![forbid(unsafe_code)]

mod dwarf;
mod pdb;

use std::path::Path;
use std::{fs, io};

use dwarf::Dwarf;
use pdb::Pdb;

/// Largest file that is read; debug information of drivers is far smaller.
const BYTES_MAX: u64 = 1 << 30;

/// A place in a source file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourcePlace {
    /// The function; with inlining, the innermost.
    pub function: Option<String>,
    /// The source file as the compiler named it.
    pub file: Option<String>,
    /// The line, from 1 on.
    pub line: Option<u32>,
}

/// What is known of an image's places.
pub struct Symbols {
    source: Source,
}

enum Source {
    Dwarf(Box<Dwarf>),
    Pdb(Pdb),
}

impl Symbols {
    /// Looks into an image, and into the PDB that lies beside it. `None` if neither tells anything, or the PDB belongs to another
    /// build.
    pub fn new(image: &[u8], pdb: Option<Vec<u8>>) -> Option<Self> {
        let from_pdb = pdb.and_then(|pdb| Pdb::read(pdb, image)).map(Source::Pdb);
        let source = from_pdb.or_else(|| Dwarf::read(image).map(|dwarf| Source::Dwarf(Box::new(dwarf))))?;
        Some(Self { source })
    }

    /// The place that the instruction at `offset` from the image's base comes from. For a return address, ask for
    /// the byte before it: the call is what is wanted.
    pub fn place(&self, offset: u64) -> Option<SourcePlace> {
        match &self.source {
            Source::Dwarf(dwarf) => dwarf.place(offset),
            Source::Pdb(pdb) => pdb.place(offset),
        }
    }
}

/// The image at `path`, and what lies beside it under the name of its PDB.
///
/// # Errors
/// When the image cannot be read, is no file, or is larger than 1 GiB.
pub fn files(path: &Path) -> io::Result<(Vec<u8>, Option<Vec<u8>>)> {
    Ok((read(path)?, read(&path.with_extension("pdb")).ok()))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    // A pipe would be waited for without end.
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} is no file", path.display())));
    }
    if metadata.len() > BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{} is too large", path.display())));
    }
    fs::read(path)
}
