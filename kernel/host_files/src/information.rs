//! What drivers ask about files and set: sizes, times, names (K-160).

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use gate::memory;
use nt_abi::{FileObject, Handle, NtStatus};
use nt_io::file::FILE;
use rustix::fs;

use crate::dispatch::{Outcome, Request, fault};
use crate::folder::{self, Metadata, Resolved};
use crate::volume::{self, Tables, Volume, access};
use crate::{name, status};

/// `FILE_xxx_INFORMATION` classes.
mod class {
    pub const BASIC: u32 = 4;
    pub const STANDARD: u32 = 5;
    pub const INTERNAL: u32 = 6;
    pub const EA: u32 = 7;
    pub const ACCESS: u32 = 8;
    pub const NAME: u32 = 9;
    pub const RENAME: u32 = 10;
    pub const DISPOSITION: u32 = 13;
    pub const POSITION: u32 = 14;
    pub const ALL: u32 = 18;
    pub const ALLOCATION: u32 = 19;
    pub const END_OF_FILE: u32 = 20;
    pub const NETWORK_OPEN: u32 = 34;
    pub const ATTRIBUTE_TAG: u32 = 35;
}

/// `FILE_ATTRIBUTE_xxx`.
const READ_ONLY: u32 = 0x01;
const DIRECTORY: u32 = 0x10;
const ARCHIVE: u32 = 0x20;

/// The attributes that a file shows.
pub fn attributes(metadata: &Metadata) -> u32 {
    let kind = if metadata.is_directory { DIRECTORY } else { ARCHIVE };
    kind | if metadata.is_read_only { READ_ONLY } else { 0 }
}

/// A structure in the making, little endian and packed as it is written.
#[derive(Default)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub fn zeros(mut self, count: usize) -> Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }

    pub fn units(mut self, units: &[u16]) -> Self {
        self.0.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
        self
    }

    /// The four times. The host does not say when a file was made: the earliest that it says is as near as can be.
    pub fn times(self, metadata: &Metadata) -> Self {
        let Metadata { accessed, written, changed, .. } = *metadata;
        let made = accessed.min(written).min(changed);
        [made, accessed, written, changed].into_iter().fold(self, |bytes, time| bytes.u64(time as u64))
    }

    fn basic(self, metadata: &Metadata) -> Self {
        self.times(metadata).u32(attributes(metadata)).zeros(4)
    }

    fn standard(self, metadata: &Metadata, delete_pending: bool) -> Self {
        let mut bytes = self.u64(metadata.allocated).u64(metadata.size).u32(metadata.links);
        bytes.0.extend([delete_pending.into(), metadata.is_directory.into(), 0, 0]);
        bytes
    }

    fn name(self, name: &[u16]) -> Self {
        self.u32(name.len() as u32 * 2).units(name)
    }
}

impl Volume {
    /// Whether a file object may only append.
    pub fn only_appends(&self, file: *mut FileObject) -> bool {
        let tables = self.tables();
        let access = tables.open.get(&(file as u64)).map_or(0, |open| open.access);
        access & (access::WRITE_DATA | access::APPEND_DATA) == access::APPEND_DATA
    }

    /// IRP_MJ_QUERY_INFORMATION.
    ///
    /// # Errors
    /// STATUS_INVALID_INFO_CLASS, STATUS_INFO_LENGTH_MISMATCH for a buffer without room for the fixed part,
    /// STATUS_INVALID_DEVICE_REQUEST for the volume itself, STATUS_FILE_CLOSED after cleanup.
    pub fn query_information(&self, request: &Request) -> Result<Outcome, NtStatus> {
        let tables = self.tables();
        let file = request.file();
        let open = tables.open.get(&(file as u64)).ok_or(NtStatus::INVALID_DEVICE_REQUEST)?;
        let node = tables.nodes.get(&open.node).filter(|_| !open.is_clean).ok_or(NtStatus::FILE_CLOSED)?;
        let metadata = &folder::metadata(open.file.as_fd())?;
        let name = volume::nt_name(&node.path);
        // SAFETY: the request's file object.
        let position = unsafe { (*file).current_byte_offset } as u64;
        let new = Bytes::default();
        // What is there, and how much of it a buffer must hold at least.
        let (bytes, least) = match request.parameter(1) {
            class::BASIC => (new.basic(metadata), 40),
            class::STANDARD => (new.standard(metadata, node.delete_pending), 24),
            class::INTERNAL => (new.u64(metadata.id.1), 8),
            class::EA => (new.u32(0), 4),
            class::ACCESS => (new.u32(open.access), 4),
            class::NAME => (new.name(&name), 8),
            class::POSITION => (new.u64(position), 8),
            class::ALL => {
                let fixed = new.basic(metadata).standard(metadata, node.delete_pending).u64(metadata.id.1);
                // EAs, access, place, mode, alignment.
                (fixed.u32(0).u32(open.access).u64(position).u32(0).u32(0).name(&name), 104)
            }
            class::NETWORK_OPEN => {
                let sized = new.times(metadata).u64(metadata.allocated).u64(metadata.size);
                (sized.u32(attributes(metadata)).zeros(4), 56)
            }
            class::ATTRIBUTE_TAG => (new.u32(attributes(metadata)).u32(0), 8),
            _ => return Err(NtStatus::INVALID_INFO_CLASS),
        };
        let room = request.parameter(0) as usize;
        if room < least {
            return Err(NtStatus::INFO_LENGTH_MISMATCH);
        }
        let written = bytes.0.len().min(room);
        // SAFETY: the packet that the dispatch routine holds.
        let buffer = unsafe { (*request.irp).system_buffer };
        memory::write(buffer, &bytes.0[..written]).map_err(fault)?;
        let status = if written < bytes.0.len() { NtStatus::BUFFER_OVERFLOW } else { NtStatus::SUCCESS };
        Ok(Outcome { status, information: written as u64 })
    }

    /// IRP_MJ_SET_INFORMATION.
    ///
    /// # Errors
    /// As [`Volume::query_information`], and what each class says.
    pub fn set_information(&self, request: &Request) -> Result<Outcome, NtStatus> {
        // SAFETY: the packet that the dispatch routine holds.
        let buffer = unsafe { (*request.irp).system_buffer };
        let length = request.parameter(0);
        let at_least = |least: u32| if length < least { Err(NtStatus::INFO_LENGTH_MISMATCH) } else { Ok(()) };
        let number = |offset: u64| memory::read_value::<i64>(buffer + offset).map_err(fault);
        let (file, is_directory) = self.host_file(request.file())?;
        match request.parameter(1) {
            class::BASIC => {
                at_least(40)?;
                // 0 and the two numbers below leave a time as it is; when a file was made cannot be set on the host.
                let time = |offset| number(offset).map(|time| (time > 0).then_some(time));
                folder::set_times(file.as_fd(), time(8)?, time(16)?)?;
                let wanted: u32 = memory::read_value(buffer + 32).map_err(fault)?;
                if wanted != 0 && !is_directory {
                    folder::set_read_only(file.as_fd(), wanted & READ_ONLY != 0)?;
                }
            }
            class::DISPOSITION => {
                at_least(1)?;
                let deletes: u8 = memory::read_value(buffer).map_err(fault)?;
                self.set_disposition(request.file(), deletes != 0)?;
            }
            class::POSITION => {
                at_least(8)?;
                let position = number(0)?;
                if position < 0 {
                    return Err(NtStatus::INVALID_PARAMETER);
                }
                // SAFETY: the request's file object.
                unsafe { (*request.file()).current_byte_offset = position };
            }
            class::END_OF_FILE | class::ALLOCATION if is_directory => return Err(NtStatus::INVALID_PARAMETER),
            class::END_OF_FILE => {
                at_least(8)?;
                let size = u64::try_from(number(0)?).map_err(|_| NtStatus::INVALID_PARAMETER)?;
                fs::ftruncate(&file, size).map_err(not_writable)?;
            }
            class::ALLOCATION => {
                at_least(8)?;
                let size = u64::try_from(number(0)?).map_err(|_| NtStatus::INVALID_PARAMETER)?;
                // Room in advance is the host's business; less than there is cuts the file.
                if size < folder::metadata(file.as_fd())?.size {
                    fs::ftruncate(&file, size).map_err(not_writable)?;
                }
            }
            class::RENAME => {
                /// Where the name begins.
                const NAME: u64 = 20;
                at_least(NAME as u32)?;
                let replaces: u8 = memory::read_value(buffer).map_err(fault)?;
                let root = Handle(memory::read_value(buffer + 8).map_err(fault)?);
                let bytes: u32 = memory::read_value(buffer + 16).map_err(fault)?;
                at_least((NAME as u32).saturating_add(bytes))?;
                let name = memory::read_units(buffer + NAME, bytes as usize / 2).map_err(fault)?;
                self.rename(request.file(), root, &name, replaces != 0)?;
            }
            _ => return Err(NtStatus::INVALID_INFO_CLASS),
        }
        Ok(Outcome::success(0))
    }

    fn set_disposition(&self, file: *mut FileObject, deletes: bool) -> Result<(), NtStatus> {
        let mut tables = self.tables();
        let tables = &mut *tables;
        let (open, node) = opened(tables, file)?;
        let node = tables.nodes.get_mut(&node).ok_or(NtStatus::FILE_CLOSED)?;
        if deletes {
            let metadata = folder::metadata(tables.open[&open].file.as_fd())?;
            if metadata.is_read_only || node.path.as_os_str().is_empty() {
                return Err(NtStatus::CANNOT_DELETE);
            }
            if metadata.is_directory && !self.folder.list(&node.path)?.is_empty() {
                return Err(NtStatus::DIRECTORY_NOT_EMPTY);
            }
        }
        node.delete_pending = deletes;
        Ok(())
    }

    fn rename(&self, file: *mut FileObject, root: Handle, name: &[u16], replaces: bool) -> Result<(), NtStatus> {
        let full = self.name_below_volume(root, name)?;
        let mut tables = self.tables();
        let (_, id) = opened(&tables, file)?;
        let from = tables.nodes.get(&id).ok_or(NtStatus::FILE_CLOSED)?.path.clone();
        let (components, spelled) = match full {
            Target::Beside => beside(&from, name)?,
            Target::Below(folder) => {
                let above = tables.open.get(&folder).and_then(|open| tables.nodes.get(&open.node));
                below(&above.ok_or(NtStatus::INVALID_PARAMETER)?.path, name)?
            }
            Target::Full(rest) => below(Path::new(""), &rest)?,
        };
        if tables.has_open_below(&from) {
            return Err(NtStatus::ACCESS_DENIED);
        }
        let to = match self.folder.resolve(&components)? {
            Resolved::Missing(path) => path,
            Resolved::Found(found, metadata) => {
                let to = found.parent().unwrap_or(Path::new("")).join(&spelled);
                if metadata.id != id {
                    if !replaces {
                        return Err(NtStatus::OBJECT_NAME_COLLISION);
                    }
                    if metadata.is_directory || metadata.is_read_only || tables.nodes.contains_key(&metadata.id) {
                        return Err(NtStatus::ACCESS_DENIED);
                    }
                    if found != to {
                        self.folder.remove(&found, false)?;
                    }
                }
                to
            }
        };
        if to.starts_with(&from) && to != from {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        if to != from {
            self.folder.rename(&from, &to, replaces)?;
        }
        if let Some(node) = tables.nodes.get_mut(&id) {
            node.path = to;
        }
        Ok(())
    }

    /// What a rename's name is relative to.
    fn name_below_volume(&self, root: Handle, name: &[u16]) -> Result<Target, NtStatus> {
        if root.0 != 0 {
            let (body, _) = nt_object::reference_by_handle(root, Some(FILE.block()))?;
            nt_object::dereference(body);
            return Ok(Target::Below(body));
        }
        if name.first() != Some(&u16::from(b'\\')) {
            return Ok(Target::Beside);
        }
        let found = nt_object::lookup(name)?;
        if found.body == self.device { Ok(Target::Full(found.rest)) } else { Err(NtStatus::NOT_SAME_DEVICE) }
    }
}

/// Changing the size of a file that was not opened for writing: EINVAL to Linux.
fn not_writable(error: rustix::io::Errno) -> NtStatus {
    if error == rustix::io::Errno::INVAL { NtStatus::ACCESS_DENIED } else { status::of(error) }
}

/// Where a file goes.
enum Target {
    /// The folder that it is in.
    Beside,
    /// Below an open folder.
    Below(u64),
    /// Below the volume's root.
    Full(Vec<u16>),
}

/// The open of a file object that has not been cleaned up, and its node.
fn opened(tables: &Tables, file: *mut FileObject) -> Result<(u64, crate::folder::FileId), NtStatus> {
    let open = tables.open.get(&(file as u64)).ok_or(NtStatus::INVALID_DEVICE_REQUEST)?;
    if open.is_clean { Err(NtStatus::FILE_CLOSED) } else { Ok((file as u64, open.node)) }
}

fn beside(from: &Path, name: &[u16]) -> Result<(Vec<String>, String), NtStatus> {
    let (components, spelled) = below(from.parent().unwrap_or(Path::new("")), name)?;
    // A name with folders in it is no name beside this one.
    let depth = PathBuf::from_iter(&components).components().count();
    if depth == from.components().count() { Ok((components, spelled)) } else { Err(NtStatus::INVALID_PARAMETER) }
}

fn below(folder: &Path, name: &[u16]) -> Result<(Vec<String>, String), NtStatus> {
    let parsed = name::parse(name)?;
    let spelled = parsed.components.last().cloned().ok_or(NtStatus::OBJECT_NAME_INVALID)?;
    let above = folder.iter().map(|component| component.to_string_lossy().into_owned());
    Ok((above.chain(parsed.components).collect(), spelled))
}
