//! The host's folder: names to files, and nothing outside.
//!
//! Every path is walked by the kernel from the folder's descriptor with RESOLVE_BENEATH: a symbolic link that leads out, by
//! `..` or by an absolute path, fails with EXDEV wherever on the way it stands, also when somebody puts it there
//! meanwhile. What changes a folder (making, removing, renaming) takes the parent's descriptor and a single component, which
//! those calls do not follow.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nt_abi::NtStatus;
use rustix::fs::{
    self, AtFlags, FileType, Mode, OFlags, RawDir, RenameFlags, ResolveFlags, Stat, Timespec, Timestamps,
};
use rustix::io::Errno;

use crate::name::{is_same, is_spellable};
use crate::status;

/// Most entries of a folder that are looked at.
const ENTRIES_MAX: usize = 1 << 18;
/// How often a look-up is tried again that somebody renaming things has disturbed.
const TRIES: usize = 16;
/// Seconds from 1601 to 1970.
const EPOCH_SECONDS: i64 = 11_644_473_600;
const UNITS_PER_SECOND: i64 = 10_000_000;

/// One file, whatever it is called.
pub type FileId = (u64, u64);

/// The folder.
pub struct Folder {
    root: OwnedFd,
}

/// What is known of a file.
#[derive(Clone, Copy, Debug)]
pub struct Metadata {
    pub id: FileId,
    pub is_directory: bool,
    pub is_read_only: bool,
    pub size: u64,
    pub allocated: u64,
    pub links: u32,
    /// 100 ns since 1601.
    pub accessed: i64,
    pub written: i64,
    pub changed: i64,
}

impl Metadata {
    /// `None` for what is neither file nor folder: drivers get no pipe, socket or device of the host.
    fn of(stat: &Stat) -> Option<Self> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::RegularFile && kind != FileType::Directory {
            return None;
        }
        let time = |seconds: i64, nanoseconds: i64| {
            seconds.saturating_add(EPOCH_SECONDS).saturating_mul(UNITS_PER_SECOND).saturating_add(nanoseconds / 100)
        };
        let is_directory = kind == FileType::Directory;
        Some(Self {
            id: (stat.st_dev, stat.st_ino),
            is_directory,
            is_read_only: stat.st_mode & 0o222 == 0,
            size: if is_directory { 0 } else { stat.st_size as u64 },
            allocated: if is_directory { 0 } else { stat.st_blocks as u64 * 512 },
            links: stat.st_nlink as u32,
            accessed: time(stat.st_atime, stat.st_atime_nsec as i64),
            written: time(stat.st_mtime, stat.st_mtime_nsec as i64),
            changed: time(stat.st_ctime, stat.st_ctime_nsec as i64),
        })
    }
}

/// What a name led to.
#[derive(Debug)]
pub enum Resolved {
    /// A file or folder, in the host's spelling.
    Found(PathBuf, Metadata),
    /// Nothing, in a folder that exists.
    Missing(PathBuf),
}

impl Folder {
    /// The folder behind a descriptor.
    pub fn new(root: OwnedFd) -> Self {
        Self { root }
    }

    /// Opens a path below the folder; an empty one is the folder.
    fn open_beneath(&self, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let mut flags = flags | OFlags::CLOEXEC;
        if !flags.contains(OFlags::PATH) {
            flags |= OFlags::NOCTTY | OFlags::NONBLOCK;
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let mut outcome = Err(Errno::AGAIN);
        for _ in 0..TRIES {
            outcome = fs::openat2(&self.root, path, flags, mode, resolve);
            if !matches!(outcome, Err(Errno::AGAIN | Errno::INTR)) {
                break;
            }
        }
        outcome
    }

    fn metadata_of(&self, path: &Path) -> Result<Metadata, NtStatus> {
        let file = self.open_beneath(path, OFlags::PATH, Mode::empty()).map_err(status::of)?;
        metadata(file.as_fd())
    }

    /// Follows a name from the folder down.
    ///
    /// # Errors
    /// STATUS_OBJECT_PATH_NOT_FOUND when something on the way is missing or no folder, STATUS_ACCESS_DENIED when the name
    /// leads out of the folder or to what is neither file nor folder.
    pub fn resolve(&self, components: &[String]) -> Result<Resolved, NtStatus> {
        let mut path = PathBuf::new();
        let mut found = self.metadata_of(&path)?;
        for (index, component) in components.iter().enumerate() {
            if !found.is_directory {
                return Err(NtStatus::OBJECT_PATH_NOT_FOUND);
            }
            match self.step(&path, component)? {
                Some((next, metadata)) => (path, found) = (next, metadata),
                None if index + 1 == components.len() => return Ok(Resolved::Missing(path.join(component))),
                None => return Err(NtStatus::OBJECT_PATH_NOT_FOUND),
            }
        }
        Ok(Resolved::Found(path, found))
    }

    /// One component: as it is spelled, or else the first in order that differs by case alone.
    fn step(&self, folder: &Path, component: &str) -> Result<Option<(PathBuf, Metadata)>, NtStatus> {
        let exact = folder.join(component);
        match self.metadata_of(&exact) {
            Ok(metadata) => return Ok(Some((exact, metadata))),
            Err(NtStatus::OBJECT_NAME_NOT_FOUND) => {}
            Err(status) => return Err(status),
        }
        let spelled = self.list(folder)?.into_iter().find(|name| is_same(name, component));
        let Some(spelled) = spelled else { return Ok(None) };
        let path = folder.join(spelled);
        match self.metadata_of(&path) {
            Ok(metadata) => Ok(Some((path, metadata))),
            Err(NtStatus::OBJECT_NAME_NOT_FOUND) => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// The names in a folder in order, without `.` and `..` and those that drivers cannot spell.
    ///
    /// # Errors
    /// What the host says.
    pub fn list(&self, folder: &Path) -> Result<Vec<String>, NtStatus> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = self.open_beneath(folder, flags, Mode::empty()).map_err(status::of)?;
        let mut buffer = vec![MaybeUninit::uninit(); 32 << 10];
        let mut entries = RawDir::new(directory, &mut buffer);
        let mut names = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(status::of)?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if is_spellable(name) && names.len() < ENTRIES_MAX {
                names.push(name.to_owned());
            }
        }
        names.sort_by_cached_key(|name| (name.encode_utf16().map(nt_object::upcase).collect::<Vec<_>>(), name.clone()));
        Ok(names)
    }

    /// What is known of an entry of a folder.
    ///
    /// # Errors
    /// As [`Folder::resolve`].
    pub fn entry(&self, folder: &Path, name: &str) -> Result<Metadata, NtStatus> {
        self.metadata_of(&folder.join(name))
    }

    /// Opens what [`Folder::resolve`] found.
    ///
    /// # Errors
    /// What the host says.
    pub fn open(&self, path: &Path, is_directory: bool, writes: bool) -> Result<OwnedFd, NtStatus> {
        let flags = match (is_directory, writes) {
            (true, _) => OFlags::RDONLY | OFlags::DIRECTORY,
            (false, true) => OFlags::RDWR,
            (false, false) => OFlags::RDONLY,
        };
        self.open_beneath(path, flags, Mode::empty()).map_err(status::of)
    }

    /// Makes a file that is not there.
    ///
    /// # Errors
    /// What the host says.
    pub fn create_file(&self, path: &Path, is_read_only: bool) -> Result<OwnedFd, NtStatus> {
        let mode = Mode::from_raw_mode(if is_read_only { 0o444 } else { 0o666 });
        self.open_beneath(path, OFlags::CREATE | OFlags::EXCL | OFlags::RDWR, mode).map_err(status::of)
    }

    /// Makes a folder that is not there.
    ///
    /// # Errors
    /// What the host says.
    pub fn create_directory(&self, path: &Path) -> Result<OwnedFd, NtStatus> {
        let (parent, name) = self.parent(path)?;
        fs::mkdirat(&parent, name, Mode::from_raw_mode(0o777)).map_err(status::of)?;
        self.open(path, true, false)
    }

    /// Removes a file or an empty folder.
    ///
    /// # Errors
    /// What the host says.
    pub fn remove(&self, path: &Path, is_directory: bool) -> Result<(), NtStatus> {
        let (parent, name) = self.parent(path)?;
        let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        fs::unlinkat(&parent, name, flags).map_err(status::of)
    }

    /// Gives a file another name.
    ///
    /// # Errors
    /// STATUS_OBJECT_NAME_COLLISION if it is taken and must not be replaced, or what the host says.
    pub fn rename(&self, from: &Path, to: &Path, replaces: bool) -> Result<(), NtStatus> {
        let (old_parent, old_name) = self.parent(from)?;
        let (new_parent, new_name) = self.parent(to)?;
        let flags = if replaces { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        fs::renameat_with(&old_parent, old_name, &new_parent, new_name, flags).map_err(status::of)
    }

    /// The folder that something lies in, and what it is called there. The root lies in nothing that could be changed.
    fn parent<'a>(&self, path: &'a Path) -> Result<(OwnedFd, &'a OsStr), NtStatus> {
        let name = path.file_name().ok_or(NtStatus::ACCESS_DENIED)?;
        let parent = path.parent().unwrap_or(Path::new(""));
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let parent = self.open_beneath(parent, flags, Mode::empty()).map_err(status::of)?;
        debug_assert!(!name.as_bytes().contains(&b'/'), "a single component");
        Ok((parent, name))
    }
}

/// What is known of an open file.
///
/// # Errors
/// STATUS_ACCESS_DENIED for what is neither file nor folder.
pub fn metadata(file: BorrowedFd<'_>) -> Result<Metadata, NtStatus> {
    let stat = fs::fstat(file).map_err(status::of)?;
    Metadata::of(&stat).ok_or(NtStatus::ACCESS_DENIED)
}

/// Sets the times of last access and last writing, in 100 ns since 1601; `None` leaves one as it is.
///
/// # Errors
/// What the host says.
pub fn set_times(file: BorrowedFd<'_>, accessed: Option<i64>, written: Option<i64>) -> Result<(), NtStatus> {
    let time = |time: Option<i64>| match time {
        None => Timespec { tv_sec: 0, tv_nsec: fs::UTIME_OMIT as _ },
        Some(time) => Timespec {
            tv_sec: time.div_euclid(UNITS_PER_SECOND) - EPOCH_SECONDS,
            tv_nsec: (time.rem_euclid(UNITS_PER_SECOND) * 100) as _,
        },
    };
    let times = Timestamps { last_access: time(accessed), last_modification: time(written) };
    fs::futimens(file, &times).map_err(status::of)
}

/// Makes a file one that may or may not be written to.
///
/// # Errors
/// What the host says.
pub fn set_read_only(file: BorrowedFd<'_>, is_read_only: bool) -> Result<(), NtStatus> {
    let mode = fs::fstat(file).map_err(status::of)?.st_mode & 0o777;
    let mode = if is_read_only { mode & !0o222 } else { mode | 0o200 };
    fs::fchmod(file, Mode::from_raw_mode(mode)).map_err(status::of)
}
