//! The `Rtl...Registry...` routines that name a key by a well-known root and a path (K-166).

use gate::memory;
use nt_abi::{Handle, NtStatus};

use super::tree::{KeyId, Value};
use super::{SERVICES, key_of, lock, now, read_data};
use crate::raise::{Failure, finish};

gate::exports! {
    /// Registry helpers.
    pub static TABLE in "ntoskrnl.exe";
    "RtlWriteRegistryValue" = rtl_write_registry_value(relative: u32, path: u64, name: u64, kind: u32, data: u64, bytes: u32) -> NtStatus, irql <= PASSIVE, rules "K-166";
    "RtlDeleteRegistryValue" = rtl_delete_registry_value(relative: u32, path: u64, name: u64) -> NtStatus, irql <= PASSIVE, rules "K-166";
    "RtlCheckRegistryKey" = rtl_check_registry_key(relative: u32, path: u64) -> NtStatus, irql <= PASSIVE, rules "K-166";
    "RtlCreateRegistryKey" = rtl_create_registry_key(relative: u32, path: u64) -> NtStatus, irql <= PASSIVE, rules "K-166";
}

/// `RTL_REGISTRY_HANDLE`: the path is a handle.
const HANDLE: u32 = 0x4000_0000;
/// `RTL_REGISTRY_OPTIONAL`.
const OPTIONAL: u32 = 0x8000_0000;
/// Longest path read from a driver.
const PATH_MAX: usize = 0x7FFF;

/// The keys that paths are relative to, below `\Registry`, by number. Number 0 is an absolute path.
const ROOTS: [&str; 5] = [
    SERVICES,
    r"Machine\System\CurrentControlSet\Control",
    r"Machine\Software\Microsoft\Windows NT\CurrentVersion",
    r"Machine\Hardware\DeviceMap",
    r"User\.Default",
];

/// The key that a path is relative to, and the path itself.
fn place(relative: u32, path: u64) -> Result<(KeyId, Vec<u16>), Failure> {
    if relative & HANDLE != 0 {
        return Ok((key_of(Handle(path))?, Vec::new()));
    }
    let path = name_at(path)?;
    let root = lock().tree.root();
    match relative & !OPTIONAL {
        0 => {
            let below = super::below_root(&path)?;
            Ok((root, below.to_vec()))
        }
        number => {
            let base = ROOTS.get(number as usize - 1).ok_or(NtStatus::INVALID_PARAMETER)?;
            let base = lock().tree.open(root, &super::utf16(base))?;
            Ok((base, path))
        }
    }
}

/// Opens the key that a routine of this family names.
pub(super) fn open(relative: u32, path: u64) -> Result<KeyId, Failure> {
    let (base, path) = place(relative, path)?;
    Ok(lock().tree.open(base, &path)?)
}

/// As [`open`], making what is missing.
fn create(relative: u32, path: u64) -> Result<KeyId, Failure> {
    let (base, path) = place(relative, path)?;
    Ok(lock().tree.create_all(base, &path, now())?)
}

/// A terminated string of a driver; null for an empty one.
fn name_at(name: u64) -> Result<Vec<u16>, Failure> {
    Ok(if name == 0 { Vec::new() } else { memory::read_wide_c_string(name, PATH_MAX)? })
}

fn write(relative: u32, path: u64, name: u64, kind: u32, data: u64, bytes: u32) -> Result<NtStatus, Failure> {
    let name = name_at(name)?;
    let data = read_data(data, bytes)?;
    let id = create(relative, path)?;
    lock().tree.set_value(id, Value { name, kind, data }, now())?;
    Ok(NtStatus::SUCCESS)
}

unsafe extern "win64" fn rtl_write_registry_value(
    relative: u32,
    path: u64,
    name: u64,
    kind: u32,
    data: u64,
    bytes: u32,
) -> NtStatus {
    finish(write(relative, path, name, kind, data, bytes))
}

fn delete(relative: u32, path: u64, name: u64) -> Result<NtStatus, Failure> {
    let name = name_at(name)?;
    let id = open(relative, path)?;
    lock().tree.delete_value(id, &name, now())?;
    Ok(NtStatus::SUCCESS)
}

unsafe extern "win64" fn rtl_delete_registry_value(relative: u32, path: u64, name: u64) -> NtStatus {
    finish(delete(relative, path, name))
}

unsafe extern "win64" fn rtl_check_registry_key(relative: u32, path: u64) -> NtStatus {
    finish(open(relative, path).map(|_| NtStatus::SUCCESS))
}

unsafe extern "win64" fn rtl_create_registry_key(relative: u32, path: u64) -> NtStatus {
    finish(create(relative, path).map(|_| NtStatus::SUCCESS))
}
