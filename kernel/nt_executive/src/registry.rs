//! The registry, in memory.
//!
//! It begins with the keys that drivers expect to be there and holds nothing of the host; the services' parameters
//! come from the user ([`set_value`]). Keys are objects with handles, so a key left open is reported like any handle.
//!
//! Which key an open object stands for is kept here by the object's address, not in its body. One lock guards it all:
//! nothing on a transfer's path looks into the registry (K-167).
//!
//! Left out: hives and saving, security, notification, transactions, symbolic links made by drivers.

pub mod callbacks;
mod exports;
mod information;
mod paths;
mod query_table;
pub mod reg_file;
mod tree;

use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock, PoisonError};

use gate::memory;
use host_lock::{Mutex, MutexGuard};
use nt_abi::{Handle, NtStatus};
use nt_dispatcher::clock;
use nt_object::ObjectType;

use crate::pool;
use crate::raise::Failure;
use callbacks::{Classes, Notice};
use reg_file::Change;
use tree::{DATA_MAX, KeyId, Tree};

pub use tree::Value;

/// The tables of this module's parts.
pub(crate) static TABLES: [&[gate::export::Export]; 4] =
    [callbacks::TABLE, exports::TABLE, paths::TABLE, query_table::TABLE];

/// Open keys.
pub static KEY: ObjectType = ObjectType::new("Key", forget, closed);

/// Bytes of a key object's body, of which nothing means anything.
const BODY_BYTES: u64 = 16;

/// The tag of strings that are allocated for drivers.
const TAG: pool::Tag = u32::from_le_bytes(*b"RegV");

/// Where services have their keys.
const SERVICES: &str = r"Machine\System\CurrentControlSet\Services";

/// Types of values.
pub mod value_type {
    /// `REG_NONE`.
    pub const NONE: u32 = 0;
    /// `REG_SZ`.
    pub const SZ: u32 = 1;
    /// `REG_EXPAND_SZ`.
    pub const EXPAND_SZ: u32 = 2;
    /// `REG_BINARY`.
    pub const BINARY: u32 = 3;
    /// `REG_DWORD`.
    pub const DWORD: u32 = 4;
    /// `REG_MULTI_SZ`.
    pub const MULTI_SZ: u32 = 7;
    /// `REG_QWORD`.
    pub const QWORD: u32 = 11;
}

struct Registry {
    tree: Tree,
    /// Open key objects.
    open: HashMap<u64, KeyId>,
}

static REGISTRY: LazyLock<Mutex<Registry>> = LazyLock::new(|| {
    let mut tree = Tree::new();
    populate(&mut tree).expect("an empty tree takes these");
    Mutex::new(Registry { tree, open: HashMap::new() })
});

fn populate(tree: &mut Tree) -> Result<(), NtStatus> {
    let root = tree.root();
    let mut make = |path: &str| tree.create_all(root, &utf16(path), 0);
    for path in [
        SERVICES,
        r"Machine\System\CurrentControlSet\Control\Class",
        r"Machine\System\CurrentControlSet\Enum",
        r"Machine\Hardware\DeviceMap",
        r"Machine\Software\Microsoft\Windows NT\CurrentVersion",
        r"User\.Default",
    ] {
        make(path)?;
    }
    let current = make(r"Machine\System\CurrentControlSet")?;
    tree.link(&utf16(r"Machine\System\ControlSet001"), current)
}

fn utf16(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}

fn lock() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now() -> i64 {
    clock::system_time_100ns() as i64
}

/// A typed value, as the command line gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// `REG_SZ`.
    Text(String),
    /// `REG_EXPAND_SZ`.
    ExpandText(String),
    /// `REG_MULTI_SZ`.
    Texts(Vec<String>),
    /// `REG_DWORD`.
    Number(u32),
    /// `REG_QWORD`.
    LongNumber(u64),
    /// `REG_BINARY`.
    Binary(Vec<u8>),
}

impl Data {
    /// The type's number and the bytes that drivers read.
    fn bytes(&self) -> (u32, Vec<u8>) {
        let text = |text: &str| text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        match self {
            Self::Text(value) => (value_type::SZ, text(value)),
            Self::ExpandText(value) => (value_type::EXPAND_SZ, text(value)),
            Self::Texts(values) => {
                let texts = values.iter().flat_map(|value| text(value));
                (value_type::MULTI_SZ, texts.chain([0, 0]).collect())
            }
            Self::Number(number) => (value_type::DWORD, number.to_le_bytes().to_vec()),
            Self::LongNumber(number) => (value_type::QWORD, number.to_le_bytes().to_vec()),
            Self::Binary(bytes) => (value_type::BINARY, bytes.clone()),
        }
    }
}

/// Makes a service's key; `path` is below it, empty for the key itself or such as `Parameters`.
///
/// # Errors
/// STATUS_INVALID_PARAMETER for a name that is too long.
pub fn create_service_key(service: &str, path: &str) -> Result<(), NtStatus> {
    let mut registry = lock();
    let root = registry.tree.root();
    registry.tree.create_all(root, &utf16(&format!(r"{SERVICES}\{service}\{path}")), now()).map(drop)
}

/// Sets a value of a service's `Parameters` key, which is made if need be.
///
/// # Errors
/// STATUS_INVALID_PARAMETER for a name that is too long, STATUS_INSUFFICIENT_RESOURCES for data of more than 1 MiB.
pub fn set_value(service: &str, name: &str, data: &Data) -> Result<(), NtStatus> {
    set_value_at(&format!(r"\Registry\{SERVICES}\{service}\Parameters"), name, data)
}

/// Sets a value of the key at a full path (`\Registry\...`), which is made if need be.
///
/// # Errors
/// As [`set_value`], and STATUS_OBJECT_PATH_SYNTAX_BAD for a path that does not begin with `\Registry`.
pub fn set_value_at(path: &str, name: &str, data: &Data) -> Result<(), NtStatus> {
    let path = utf16(path);
    let path = below_root(&path)?;
    let (kind, data) = data.bytes();
    let mut registry = lock();
    let root = registry.tree.root();
    let id = registry.tree.create_all(root, path, now())?;
    registry.tree.set_value(id, Value { name: utf16(name), kind, data }, now())
}

/// Whether a registry file makes sense, without doing what it says.
///
/// # Errors
/// The first line that makes none.
pub fn check(file: &[u8]) -> Result<(), reg_file::Error> {
    reg_file::parse(file).map(drop)
}

/// Does what a registry file says; gives how many changes that were.
///
/// # Errors
/// The first line that makes no sense; nothing is changed then. A change that the registry refuses (a name or data that
/// is too long, deleting what is not there) is left out.
pub fn load(file: &[u8]) -> Result<usize, reg_file::Error> {
    let changes = reg_file::parse(file)?;
    let mut registry = lock();
    Ok(changes.into_iter().filter(|change| apply(&mut registry.tree, change).is_ok()).count())
}

fn apply(tree: &mut Tree, change: &Change) -> Result<(), NtStatus> {
    let root = tree.root();
    match change {
        Change::Create { key } => tree.create_all(root, &utf16(key), now()).map(drop),
        Change::Delete { key } => {
            let id = tree.open(root, &utf16(key))?;
            tree.delete_all(id, now())
        }
        Change::Set { key, name, kind, data } => {
            let id = tree.create_all(root, &utf16(key), now())?;
            tree.set_value(id, Value { name: utf16(name), kind: *kind, data: data.clone() }, now())
        }
        Change::Unset { key, name } => {
            let id = tree.open(root, &utf16(key))?;
            tree.delete_value(id, &utf16(name), now())
        }
    }
}

/// What follows `\Registry` in a full path.
fn below_root(path: &[u16]) -> Result<&[u16], NtStatus> {
    const ROOT: &str = r"\REGISTRY";
    if path.first() != Some(&u16::from(b'\\')) {
        return Err(NtStatus::OBJECT_PATH_SYNTAX_BAD);
    }
    let (root, rest) = path.split_at_checked(ROOT.len()).ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
    let is_root = root.iter().map(|&unit| nt_object::upcase(unit)).eq(ROOT.encode_utf16());
    if !is_root || rest.first().is_some_and(|&unit| unit != u16::from(b'\\')) {
        return Err(NtStatus::OBJECT_NAME_NOT_FOUND);
    }
    Ok(rest)
}

/// The last reference to an open key is gone.
fn forget(body: u64) {
    lock().open.remove(&body);
    callbacks::forget_name(body);
}

/// A handle was closed. Whoever is to be told of that is told before and after at once: nobody can forbid it.
fn closed(body: u64, _remaining: i64) {
    if callbacks::is_any() {
        let _ = callbacks::around(Notice::new(Classes::CLOSE, &[body]), || Ok(NtStatus::SUCCESS));
    }
}

/// The full name of the key that an object stands for, if it is an open key.
pub fn name_of(object: u64) -> Option<Vec<u16>> {
    let registry = lock();
    registry.open.get(&object).map(|&id| registry.tree.path(id))
}

/// The key behind a handle. Numbers are never reused, so it is safe to use without the handle.
fn key_of(handle: Handle) -> Result<KeyId, NtStatus> {
    let (body, _) = nt_object::reference_by_handle(handle, Some(KEY.block()))?;
    let id = lock().open.get(&body).copied();
    // Not under the lock: the last reference comes back to `forget`.
    nt_object::dereference(body);
    id.ok_or(NtStatus::INVALID_HANDLE)
}

/// Where a path starts, and what is left of it.
fn start(root: Handle, path: &[u16]) -> Result<(KeyId, &[u16]), NtStatus> {
    if root.0 == 0 {
        return Ok((lock().tree.root(), below_root(path)?));
    }
    if path.first() == Some(&u16::from(b'\\')) {
        return Err(NtStatus::OBJECT_PATH_SYNTAX_BAD);
    }
    Ok((key_of(root)?, path))
}

/// Makes an object that stands for a key. `caller` is the driver instruction to name if it is left open.
fn key_object(id: KeyId, caller: u64) -> Result<u64, NtStatus> {
    let body = nt_object::create(&KEY, BODY_BYTES, caller).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
    lock().open.insert(body, id);
    Ok(body)
}

/// The object that stands for the whole registry, for those who are told where a full path begins.
fn root_object() -> Result<u64, NtStatus> {
    static ROOT: OnceLock<u64> = OnceLock::new();
    if let Some(&body) = ROOT.get() {
        return Ok(body);
    }
    let id = lock().tree.root();
    let body = key_object(id, 0)?;
    Ok(*ROOT.get_or_init(|| body))
}

/// Reads a value's data from a driver.
fn read_data(address: u64, bytes: u32) -> Result<Vec<u8>, Failure> {
    if bytes as usize > DATA_MAX {
        return Err(NtStatus::INSUFFICIENT_RESOURCES.into());
    }
    let mut data = vec![0; bytes as usize];
    memory::read(address, &mut data)?;
    Ok(data)
}

#[cfg(test)]
mod tests;
