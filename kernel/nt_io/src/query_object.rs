//! `ZwQueryObject`: what is known of the object behind a handle.

use gate::memory::{self, Fault};
use nt_abi::{Handle, NtStatus, UnicodeString};

use crate::exports::reference_by_handle;
use crate::names;

gate::exports! {
    /// What ntoskrnl exports of objects' descriptions.
    pub(crate) static TABLE in "ntoskrnl.exe";
    "ZwQueryObject" | "NtQueryObject" = zw_query_object(handle: Handle, class: u32, buffer: u64, length: u32, needed: u64) -> NtStatus, irql <= PASSIVE, rules "K-155 K-158";
}

/// Of `OBJECT_INFORMATION_CLASS`.
mod class {
    pub const BASIC: u32 = 0;
    pub const NAME: u32 = 1;
    pub const TYPE: u32 = 2;
}

/// Counts as they are without the reference that asking takes; no attributes, quotas or times.
fn basic(body: u64, granted: u32) -> Vec<u8> {
    const BYTES: usize = 0x38;
    let handles = nt_object::handle_count(body).unwrap_or(0) as u32;
    let pointers = nt_object::pointer_count(body).unwrap_or(1) as u32 - 1;
    let mut bytes: Vec<u8> = [0, granted, handles, pointers].into_iter().flat_map(u32::to_le_bytes).collect();
    bytes.resize(BYTES, 0);
    bytes
}

/// A counted string at the beginning of a structure of `bytes` bytes that will lie at `at`, with its text behind.
fn with_text(text: &[u16], bytes: usize, at: u64) -> Vec<u8> {
    let mut all = vec![0; bytes];
    if !text.is_empty() {
        let length = text.len() as u16 * 2;
        all[..2].copy_from_slice(&length.to_le_bytes());
        all[2..4].copy_from_slice(&(length + 2).to_le_bytes());
        all[8..16].copy_from_slice(&(at + bytes as u64).to_le_bytes());
        all.extend(text.iter().chain(&[0]).flat_map(|unit| unit.to_le_bytes()));
    }
    all
}

/// The type's name; how many objects and handles there are of it nobody counts here.
fn type_of(body: u64, at: u64) -> Vec<u8> {
    const BYTES: usize = 0x68;
    let name: Vec<u16> = nt_object::type_of(body).map_or("", |kind| kind.name).encode_utf16().collect();
    with_text(&name, BYTES, at)
}

fn give(bytes: &[u8], buffer: u64, length: u32, needed: u64) -> Result<NtStatus, Fault> {
    if needed != 0 {
        memory::write_value(needed, bytes.len() as u32)?;
    }
    if (length as usize) < bytes.len() {
        return Ok(NtStatus::INFO_LENGTH_MISMATCH);
    }
    memory::write(buffer, bytes)?;
    Ok(NtStatus::SUCCESS)
}

unsafe extern "win64" fn zw_query_object(
    handle: Handle,
    class: u32,
    buffer: u64,
    length: u32,
    needed: u64,
) -> NtStatus {
    /// What a UNICODE_STRING can hold besides its terminator.
    const TEXT_MAX: usize = 0x7FFE;
    let (body, granted) = match reference_by_handle(handle, 0) {
        Ok(referenced) => referenced,
        Err(status) => return status,
    };
    let answer = match class {
        class::BASIC => Some(basic(body, granted)),
        class::NAME => {
            let mut name = names::name_of(body);
            name.truncate(TEXT_MAX);
            Some(with_text(&name, size_of::<UnicodeString>(), buffer))
        }
        class::TYPE => Some(type_of(body, buffer)),
        _ => None,
    };
    nt_object::dereference(body);
    let Some(bytes) = answer else { return NtStatus::INVALID_INFO_CLASS };
    give(&bytes, buffer, length, needed).unwrap_or(NtStatus::ACCESS_VIOLATION)
}
