//! What is open on the volume: creates, cleanups and closes (C-070, K-099, K-160).

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError};

use host_lock::{Mutex, MutexGuard};
use nt_abi::{DeviceObject, FileObject, NtStatus};
use nt_io::stacks::ShareAccess;
use rustix::fs;

use crate::directory::Scan;
use crate::folder::{self, FileId, Folder, Metadata, Resolved};
use crate::{name, status};

/// Bits of an access mask.
pub mod access {
    pub const WRITE_DATA: u32 = 0x2;
    pub const APPEND_DATA: u32 = 0x4;
    pub const DELETE: u32 = 0x1_0000;
}

/// `FILE_DIRECTORY_FILE`, `FILE_NON_DIRECTORY_FILE` and `FILE_DELETE_ON_CLOSE`.
const DIRECTORY_FILE: u32 = 0x1;
const NON_DIRECTORY_FILE: u32 = 0x40;
const DELETE_ON_CLOSE: u32 = 0x1000;
/// `FILE_ATTRIBUTE_READONLY`.
const ATTRIBUTE_READ_ONLY: u32 = 0x1;

/// The volume.
pub struct Volume {
    pub folder: Folder,
    /// The address of its device.
    pub device: u64,
    tables: Mutex<Tables>,
}

/// What is open.
#[derive(Default)]
pub struct Tables {
    /// By file object. A file object of the volume itself is not here.
    pub open: HashMap<u64, Open>,
    pub nodes: HashMap<FileId, Node>,
}

/// One open.
pub struct Open {
    pub node: FileId,
    pub file: Arc<OwnedFd>,
    pub is_directory: bool,
    pub access: u32,
    /// CLEANUP has come.
    pub is_clean: bool,
    deletes_on_close: bool,
    /// How far a folder has been listed.
    pub scan: Option<Scan>,
}

/// A file or folder with opens, whatever their number.
pub struct Node {
    pub path: PathBuf,
    pub delete_pending: bool,
    shared: ShareAccess,
    /// Opens without CLEANUP.
    opens: u32,
}

/// What a create asks for.
pub struct Create {
    /// The new file object, and the one that the name is relative to, or null.
    pub file: *mut FileObject,
    pub related: *mut FileObject,
    pub name: Vec<u16>,
    pub access: u32,
    pub disposition: u32,
    pub options: u32,
    pub attributes: u32,
    pub share: u32,
}

static VOLUME: OnceLock<Volume> = OnceLock::new();

/// Puts the volume into service; only the first call counts.
pub fn set(folder: OwnedFd, device: *mut DeviceObject) {
    let new = || Volume { folder: Folder::new(folder), device: device as u64, tables: Mutex::default() };
    VOLUME.get_or_init(new);
}

/// The volume that the dispatch routines serve.
pub fn current() -> Option<&'static Volume> {
    VOLUME.get()
}

/// What a create does, by what is there.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Disposition {
    /// `None`: fails; otherwise whether the content goes.
    existing: Option<Existing>,
    makes_missing: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Existing {
    Opened,
    Overwritten,
    Superseded,
}

/// `FILE_CREATED` of a create's information.
const CREATED: u64 = 2;

impl Existing {
    /// `FILE_SUPERSEDED`, `FILE_OPENED`, `FILE_OVERWRITTEN`.
    fn information(self) -> u64 {
        match self {
            Self::Superseded => 0,
            Self::Opened => 1,
            Self::Overwritten => 3,
        }
    }
}

impl Disposition {
    fn of(number: u32) -> Result<Self, NtStatus> {
        let (existing, makes_missing) = match number {
            0 => (Some(Existing::Superseded), true),
            1 => (Some(Existing::Opened), false),
            2 => (None, true),
            3 => (Some(Existing::Opened), true),
            4 => (Some(Existing::Overwritten), false),
            5 => (Some(Existing::Overwritten), true),
            _ => return Err(NtStatus::INVALID_PARAMETER),
        };
        Ok(Self { existing, makes_missing })
    }

    fn discards(self) -> bool {
        matches!(self.existing, Some(Existing::Overwritten | Existing::Superseded))
    }
}

/// The specific rights behind generic ones.
fn specific(access: u32) -> u32 {
    let mut specific = access & 0x00FF_FFFF;
    for (generic, rights) in
        [(1 << 31, 0x12_0089), (1 << 30, 0x12_0116), (1 << 29, 0x12_00A0), (1 << 28, 0x1F_01FF), (1 << 25, 0x1F_01FF)]
    {
        if access & generic != 0 {
            specific |= rights;
        }
    }
    specific
}

impl Volume {
    pub fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens or makes what a create names; gives the create's information.
    ///
    /// # Errors
    /// The create's status.
    pub fn create(&self, create: &Create) -> Result<u64, NtStatus> {
        let disposition = Disposition::of(create.disposition)?;
        let access = specific(create.access);
        let wants_directory = create.options & DIRECTORY_FILE != 0;
        if wants_directory && (create.options & NON_DIRECTORY_FILE != 0 || disposition.discards())
            || create.options & DELETE_ON_CLOSE != 0 && access & access::DELETE == 0
        {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let mut tables = self.tables();
        let above = tables.open.get(&(create.related as u64)).map(|open| tables.nodes[&open.node].path.clone());
        if create.name.is_empty() && above.is_none() {
            // The volume itself: nothing but its handle.
            return Ok(Existing::Opened.information());
        }
        if !create.related.is_null() && create.name.first() == Some(&u16::from(b'\\')) {
            return Err(NtStatus::OBJECT_NAME_INVALID);
        }
        let name = name::parse(&create.name)?;
        let mut components: Vec<String> = above.as_deref().map(spelling).unwrap_or_default();
        components.extend(name.components);
        let only_directory =
            wants_directory || (name.names_a_directory && !components.is_empty() && !create.name.is_empty());
        match self.folder.resolve(&components)? {
            Resolved::Found(path, metadata) => {
                let existing = disposition.existing.ok_or(NtStatus::OBJECT_NAME_COLLISION)?;
                check_kind(&metadata, create.options, only_directory, wants_directory)?;
                self.open_existing(&mut tables, create, path, metadata, access, existing)
            }
            Resolved::Missing(_) if !disposition.makes_missing => Err(NtStatus::OBJECT_NAME_NOT_FOUND),
            Resolved::Missing(_) if only_directory && !wants_directory => Err(NtStatus::OBJECT_NAME_INVALID),
            Resolved::Missing(path) => self.make(&mut tables, create, path, access),
        }
    }

    fn open_existing(
        &self,
        tables: &mut Tables,
        create: &Create,
        path: PathBuf,
        metadata: Metadata,
        access: u32,
        existing: Existing,
    ) -> Result<u64, NtStatus> {
        let discards = existing != Existing::Opened;
        let writes = discards || access & (access::WRITE_DATA | access::APPEND_DATA) != 0;
        if metadata.is_directory && discards {
            return Err(NtStatus::OBJECT_NAME_COLLISION);
        }
        if metadata.is_read_only && !metadata.is_directory {
            if create.options & DELETE_ON_CLOSE != 0 {
                return Err(NtStatus::CANNOT_DELETE);
            }
            // Everything but writing is what asking for all that is allowed means.
            if writes && create.access & 1 << 25 == 0 {
                return Err(NtStatus::ACCESS_DENIED);
            }
        }
        let claimed = access | if discards { access::WRITE_DATA } else { 0 };
        tables.claim(create, metadata.id, &path, claimed)?;
        let opened =
            self.folder.open(&path, metadata.is_directory, writes && !metadata.is_read_only).and_then(|file| {
                if discards {
                    fs::ftruncate(&file, 0).map_err(status::of)?;
                }
                Ok(file)
            });
        match opened {
            Ok(file) => {
                tables.opened(create, metadata, file, access);
                Ok(existing.information())
            }
            Err(status) => {
                tables.release(create.file, metadata.id);
                Err(status)
            }
        }
    }

    fn make(&self, tables: &mut Tables, create: &Create, path: PathBuf, access: u32) -> Result<u64, NtStatus> {
        let file = if create.options & DIRECTORY_FILE != 0 {
            self.folder.create_directory(&path)?
        } else {
            self.folder.create_file(&path, create.attributes & ATTRIBUTE_READ_ONLY != 0)?
        };
        let metadata = folder::metadata(file.as_fd())?;
        tables.claim(create, metadata.id, &path, access)?;
        tables.opened(create, metadata, file, access);
        Ok(CREATED)
    }

    /// The last handle is closed: others may have what this open kept from them, and a file that was to be deleted goes
    /// with the last open.
    pub fn cleanup(&self, file: *mut FileObject) {
        let mut tables = self.tables();
        let tables = &mut *tables;
        let Some(open) = tables.open.get_mut(&(file as u64)).filter(|open| !open.is_clean) else { return };
        open.is_clean = true;
        let (id, is_directory) = (open.node, open.is_directory);
        if open.deletes_on_close
            && let Some(node) = tables.nodes.get_mut(&id)
        {
            node.delete_pending = true;
        }
        if let Some(node) = tables.release(file, id)
            && node.delete_pending
        {
            // Whoever closes is not told of what the host refuses; a folder that has been filled stays.
            let _ = self.folder.remove(&node.path, is_directory);
        }
    }

    /// The file object goes.
    pub fn close(&self, file: *mut FileObject) {
        let open = self.tables().open.remove(&(file as u64));
        drop(open);
    }

    /// The host's file behind a file object.
    ///
    /// # Errors
    /// STATUS_INVALID_DEVICE_REQUEST for the volume itself.
    pub fn host_file(&self, file: *mut FileObject) -> Result<(Arc<OwnedFd>, bool), NtStatus> {
        let tables = self.tables();
        let open = tables.open.get(&(file as u64)).ok_or(NtStatus::INVALID_DEVICE_REQUEST)?;
        Ok((open.file.clone(), open.is_directory))
    }
}

/// A path's components. Paths come from names that drivers can spell.
fn spelling(path: &Path) -> Vec<String> {
    path.iter().map(|component| component.to_string_lossy().into_owned()).collect()
}

/// A path as a driver sees it.
pub fn nt_name(path: &Path) -> Vec<u16> {
    format!(r"\{}", spelling(path).join(r"\")).encode_utf16().collect()
}

fn check_kind(metadata: &Metadata, options: u32, only_directory: bool, asked: bool) -> Result<(), NtStatus> {
    match metadata.is_directory {
        true if options & NON_DIRECTORY_FILE != 0 => Err(NtStatus::FILE_IS_A_DIRECTORY),
        false if asked => Err(NtStatus::NOT_A_DIRECTORY),
        false if only_directory => Err(NtStatus::OBJECT_NAME_INVALID),
        _ => Ok(()),
    }
}

impl Tables {
    /// Counts an open in, unless it and those that are there exclude one another.
    fn claim(&mut self, create: &Create, id: FileId, path: &Path, access: u32) -> Result<(), NtStatus> {
        let new = || Node { path: path.into(), delete_pending: false, shared: ShareAccess::default(), opens: 0 };
        let node = self.nodes.entry(id).or_insert_with(new);
        if node.delete_pending {
            return Err(NtStatus::DELETE_PENDING);
        }
        // SAFETY: the file object of a create, which is its device's until the request ends.
        let status = unsafe { node.shared.claim(create.file, access, create.share) };
        if status.is_success() {
            node.opens += 1;
        }
        if status.is_success() { Ok(()) } else { Err(status) }
    }

    fn opened(&mut self, create: &Create, metadata: Metadata, file: OwnedFd, access: u32) {
        let open = Open {
            node: metadata.id,
            file: Arc::new(file),
            is_directory: metadata.is_directory,
            access,
            is_clean: false,
            deletes_on_close: create.options & DELETE_ON_CLOSE != 0,
            scan: None,
        };
        self.open.insert(create.file as u64, open);
    }

    /// Counts an open out; gives the node if that was its last.
    fn release(&mut self, file: *mut FileObject, id: FileId) -> Option<Node> {
        let node = self.nodes.get_mut(&id)?;
        // SAFETY: the file object of a create or a cleanup.
        unsafe { node.shared.release(file) };
        node.opens -= 1;
        if node.opens == 0 { self.nodes.remove(&id) } else { None }
    }

    /// Whether something below a folder is open.
    pub fn has_open_below(&self, folder: &Path) -> bool {
        self.nodes.values().any(|node| node.path != folder && node.path.starts_with(folder))
    }
}
