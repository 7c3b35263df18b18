//! Listing a folder: IRP_MN_QUERY_DIRECTORY.

use std::os::fd::AsFd;
use std::path::Path;

use gate::memory;
use nt_abi::NtStatus;

use crate::dispatch::{Outcome, Request, fault};
use crate::folder::{self, Metadata};
use crate::information::{Bytes, attributes};
use crate::name;
use crate::volume::Volume;

/// `IRP_MN_QUERY_DIRECTORY`.
const QUERY_DIRECTORY: u8 = 1;
/// `SL_RESTART_SCAN` and `SL_RETURN_SINGLE_ENTRY`.
const RESTART_SCAN: u8 = 1;
const SINGLE_ENTRY: u8 = 2;

/// Entries begin at multiples of this.
const ALIGNMENT: usize = 8;

/// How far a folder has been listed. The names are those that were there when the listing began.
pub struct Scan {
    /// That of the first request; later ones have no say.
    pattern: Vec<u16>,
    names: Vec<String>,
    next: usize,
}

/// `FILE_xxx_INFORMATION` of folders' entries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    Directory,
    Full,
    Both,
    Names,
    IdBoth,
    IdFull,
}

impl Layout {
    fn of(class: u32) -> Result<Self, NtStatus> {
        Ok(match class {
            1 => Self::Directory,
            2 => Self::Full,
            3 => Self::Both,
            12 => Self::Names,
            37 => Self::IdBoth,
            38 => Self::IdFull,
            _ => return Err(NtStatus::INVALID_INFO_CLASS),
        })
    }

    /// Everything in front of the name; where the next entry begins is filled in later.
    fn fixed(self, metadata: &Metadata, name_bytes: u32) -> Bytes {
        // No next entry, no index.
        let new = Bytes::default().u32(0).u32(0);
        if self == Self::Names {
            return new.u32(name_bytes);
        }
        let common = new.times(metadata).u64(metadata.size).u64(metadata.allocated).u32(attributes(metadata));
        let common = common.u32(name_bytes);
        /// Length of a short name, and the name.
        const NO_SHORT_NAME: usize = 2 + 24;
        match self {
            Self::Directory | Self::Names => common,
            Self::Full => common.u32(0),
            Self::Both => common.u32(0).zeros(NO_SHORT_NAME),
            Self::IdBoth => common.u32(0).zeros(NO_SHORT_NAME + 2).u64(metadata.id.1),
            Self::IdFull => common.u32(0).zeros(4).u64(metadata.id.1),
        }
    }
}

impl Volume {
    /// IRP_MJ_DIRECTORY_CONTROL: fills the buffer with as many entries as it holds.
    ///
    /// # Errors
    /// STATUS_NO_SUCH_FILE when nothing fits the pattern from the start, STATUS_NO_MORE_FILES at the end,
    /// STATUS_INFO_LENGTH_MISMATCH for a buffer that cannot hold the fixed part of an entry,
    /// STATUS_INVALID_PARAMETER for what is no folder.
    pub fn directory_control(&self, request: &Request) -> Result<Outcome, NtStatus> {
        if request.location.minor_function != QUERY_DIRECTORY {
            return Err(NtStatus::INVALID_DEVICE_REQUEST);
        }
        let layout = Layout::of(request.parameter(2))?;
        let pattern = request.location.parameters[1];
        let mut tables = self.tables();
        let tables = &mut *tables;
        let open = tables.open.get_mut(&(request.file() as u64)).ok_or(NtStatus::INVALID_DEVICE_REQUEST)?;
        if !open.is_directory {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let node = tables.nodes.get(&open.node).filter(|_| !open.is_clean).ok_or(NtStatus::FILE_CLOSED)?;
        let room = request.parameter(0) as usize;
        let is_first = open.scan.is_none();
        if is_first || request.location.flags & RESTART_SCAN != 0 {
            let pattern = match open.scan.take() {
                Some(scan) => scan.pattern,
                None => read_pattern(pattern)?,
            };
            let names = self.names(&node.path, &pattern)?;
            open.scan = Some(Scan { pattern, names, next: 0 });
        }
        let scan = open.scan.as_mut().ok_or(NtStatus::NO_MORE_FILES)?;
        let own = folder::metadata(open.file.as_fd())?;
        let mut filled: Vec<u8> = Vec::new();
        let (mut last, mut status) = (0, NtStatus::SUCCESS);
        while let Some(entry) = scan.names.get(scan.next) {
            let is_dots = entry == "." || entry == "..";
            // One that went meanwhile is left out, like what drivers could not open.
            let metadata = if is_dots { Ok(own) } else { self.folder.entry(&node.path, entry) };
            let Ok(metadata) = metadata else {
                scan.next += 1;
                continue;
            };
            let units: Vec<u16> = entry.encode_utf16().collect();
            let bytes = layout.fixed(&metadata, units.len() as u32 * 2);
            let fixed = bytes.0.len();
            let bytes = bytes.units(&units).0;
            let start = filled.len().next_multiple_of(ALIGNMENT);
            if start + bytes.len() > room {
                if !filled.is_empty() {
                    break;
                }
                if room < fixed {
                    return Err(NtStatus::INFO_LENGTH_MISMATCH);
                }
                // The first entry is given in part, so that its length is seen.
                filled.extend(&bytes[..room]);
                status = NtStatus::BUFFER_OVERFLOW;
                break;
            }
            if !filled.is_empty() {
                filled.resize(start, 0);
                filled[last..last + 4].copy_from_slice(&((start - last) as u32).to_le_bytes());
            }
            filled.extend(bytes);
            last = start;
            scan.next += 1;
            if request.location.flags & SINGLE_ENTRY != 0 {
                break;
            }
        }
        if filled.is_empty() {
            return Err(if is_first { NtStatus::NO_SUCH_FILE } else { NtStatus::NO_MORE_FILES });
        }
        memory::write(request.buffer(), &filled).map_err(fault)?;
        Ok(Outcome { status, information: filled.len() as u64 })
    }

    /// The names that fit.
    fn names(&self, path: &Path, pattern: &[u16]) -> Result<Vec<String>, NtStatus> {
        let dots = if path.as_os_str().is_empty() { &[][..] } else { &[".", ".."][..] };
        let mut names: Vec<String> = dots.iter().map(|&name| name.to_owned()).collect();
        names.extend(self.folder.list(path)?);
        if !pattern.is_empty() {
            names.retain(|name| name::matches(pattern, &name.encode_utf16().collect::<Vec<_>>()));
        }
        Ok(names)
    }
}

fn read_pattern(address: u64) -> Result<Vec<u16>, NtStatus> {
    if address == 0 { Ok(Vec::new()) } else { memory::read_unicode(address).map_err(fault) }
}
