//! `RtlQueryRegistryValues`: a table of what a driver wants to know, answered entry by entry (K-166).
//!
//! Values are copied out of the registry before the driver's routine is called with them, so the routine may use the
//! registry itself.

use gate::memory;
use nt_abi::{NtStatus, UnicodeString};

use super::tree::{KeyId, Value};
use super::{lock, now, paths, value_type};
use crate::pool::{self, Kind};
use crate::raise::{Failure, finish};

gate::exports! {
    /// Queries by table.
    pub static TABLE in "ntoskrnl.exe";
    "RtlQueryRegistryValues" | "RtlQueryRegistryValuesEx" = rtl_query_registry_values(relative: u32, path: u64, table: u64, context: u64, environment: u64) -> NtStatus, irql <= PASSIVE, rules "K-166";
}

/// Flags of an entry.
mod flags {
    pub const SUBKEY: u32 = 0x1;
    pub const TOPKEY: u32 = 0x2;
    pub const REQUIRED: u32 = 0x4;
    pub const NOVALUE: u32 = 0x8;
    pub const NOEXPAND: u32 = 0x10;
    pub const DIRECT: u32 = 0x20;
    pub const DELETE: u32 = 0x40;
    pub const TYPECHECK: u32 = 0x100;
}

/// Where the type that TYPECHECK expects lies in an entry's default type.
const TYPECHECK_SHIFT: u32 = 24;
/// Most entries of a table: one without an end must not keep the host busy.
const ENTRIES_MAX: u64 = 4096;
/// Longest name read from a driver.
const NAME_MAX: usize = 0x7FFF;
const ENTRY_BYTES: u64 = 0x38;

/// `RTL_QUERY_REGISTRY_TABLE`.
#[derive(Clone, Copy, Debug)]
struct Entry {
    routine: u64,
    flags: u32,
    name: u64,
    entry_context: u64,
    default_type: u32,
    default_data: u64,
    default_length: u32,
}

impl Entry {
    fn read(address: u64) -> Result<Self, Failure> {
        let words: [u64; 7] = memory::read_value(address)?;
        Ok(Self {
            routine: words[0],
            flags: words[1] as u32,
            name: words[2],
            entry_context: words[3],
            default_type: words[4] as u32,
            default_data: words[5],
            default_length: words[6] as u32,
        })
    }

    fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    fn is_end(&self) -> bool {
        self.routine == 0 && !self.has(flags::SUBKEY | flags::DIRECT)
    }

    /// The default's type, without what TYPECHECK put there.
    fn default_kind(&self) -> u32 {
        if self.has(flags::TYPECHECK) { self.default_type & ((1 << TYPECHECK_SHIFT) - 1) } else { self.default_type }
    }
}

unsafe extern "win64" fn rtl_query_registry_values(
    relative: u32,
    path: u64,
    table: u64,
    context: u64,
    _environment: u64,
) -> NtStatus {
    finish(query(relative, path, table, context))
}

fn query(relative: u32, path: u64, table: u64, context: u64) -> Result<NtStatus, Failure> {
    let top = paths::open(relative, path)?;
    let mut key = top;
    for number in 0..ENTRIES_MAX {
        let entry = Entry::read(table.wrapping_add(number * ENTRY_BYTES))?;
        if entry.is_end() {
            return Ok(NtStatus::SUCCESS);
        }
        let names_nothing = entry.has(flags::SUBKEY | flags::DIRECT) && entry.name == 0;
        if names_nothing || (entry.has(flags::DIRECT) && (entry.has(flags::SUBKEY) || entry.routine != 0)) {
            return Err(NtStatus::INVALID_PARAMETER.into());
        }
        if entry.has(flags::SUBKEY | flags::TOPKEY) {
            key = top;
        }
        answer(&entry, &mut key, context)?;
    }
    Err(NtStatus::INVALID_PARAMETER.into())
}

/// One entry; a subkey entry changes the key that those behind it are about.
fn answer(entry: &Entry, key: &mut KeyId, context: u64) -> Result<(), Failure> {
    if entry.has(flags::SUBKEY) {
        let path = memory::read_wide_c_string(entry.name, NAME_MAX)?;
        let found = lock().tree.open(*key, &path);
        match found {
            Ok(found) => *key = found,
            Err(NtStatus::OBJECT_NAME_NOT_FOUND) if !entry.has(flags::REQUIRED) => return Ok(()),
            Err(status) => return Err(status.into()),
        }
        return if entry.routine == 0 { Ok(()) } else { every_value(entry, *key, context) };
    }
    if entry.has(flags::NOVALUE) {
        return call(entry, None, value_type::NONE, &[], context);
    }
    if entry.name == 0 {
        return every_value(entry, *key, context);
    }
    one_value(entry, *key, context)
}

/// Hands every value of the key to the routine.
fn every_value(entry: &Entry, key: KeyId, context: u64) -> Result<(), Failure> {
    let values = lock().tree.key(key)?.values.clone();
    if values.is_empty() && entry.has(flags::REQUIRED) {
        return Err(NtStatus::OBJECT_NAME_NOT_FOUND.into());
    }
    for value in values {
        deliver(entry, &value, context)?;
        if entry.has(flags::DELETE) {
            // Somebody else may have deleted it meanwhile.
            let _ = lock().tree.delete_value(key, &value.name, now());
        }
    }
    Ok(())
}

fn one_value(entry: &Entry, key: KeyId, context: u64) -> Result<(), Failure> {
    let name = memory::read_wide_c_string(entry.name, NAME_MAX)?;
    let found = lock().tree.value(key, &name).cloned();
    match found {
        Ok(value) => {
            deliver(entry, &value, context)?;
            if entry.has(flags::DELETE) {
                // As in `every_value`.
                let _ = lock().tree.delete_value(key, &name, now());
            }
            Ok(())
        }
        Err(NtStatus::OBJECT_NAME_NOT_FOUND) => missing(entry, name, context),
        Err(status) => Err(status.into()),
    }
}

/// A value that is not there: the default, if the entry has one.
fn missing(entry: &Entry, name: Vec<u16>, context: u64) -> Result<(), Failure> {
    let kind = entry.default_kind();
    if kind == value_type::NONE {
        return match entry.has(flags::REQUIRED) {
            true => Err(NtStatus::OBJECT_NAME_NOT_FOUND.into()),
            false => Ok(()),
        };
    }
    let data = default_data(entry, kind)?;
    deliver(entry, &Value { name, kind, data }, context)
}

/// The default's bytes. The length of text may be left out.
fn default_data(entry: &Entry, kind: u32) -> Result<Vec<u8>, Failure> {
    if entry.default_length != 0 || !is_text(kind) {
        let mut data = vec![0; (entry.default_length as usize).min(super::tree::DATA_MAX)];
        memory::read(entry.default_data, &mut data)?;
        return Ok(data);
    }
    let mut units = Vec::new();
    if entry.default_data != 0 {
        loop {
            let place = entry.default_data.wrapping_add(units.len() as u64 * 2);
            let text = memory::read_wide_c_string(place, NAME_MAX)?;
            let ends = text.is_empty() || kind != value_type::MULTI_SZ;
            units.extend(text);
            units.push(0);
            if ends {
                break;
            }
        }
    }
    Ok(units.into_iter().flat_map(u16::to_le_bytes).collect())
}

fn is_text(kind: u32) -> bool {
    matches!(kind, value_type::SZ | value_type::EXPAND_SZ | value_type::MULTI_SZ)
}

/// Characters of data, without the terminator that text may have.
fn text_of(data: &[u8]) -> Vec<u16> {
    let mut units: Vec<u16> = data.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    if units.last() == Some(&0) {
        units.pop();
    }
    units
}

/// Hands a value to the routine, or stores it, after expanding it.
fn deliver(entry: &Entry, value: &Value, context: u64) -> Result<(), Failure> {
    if entry.has(flags::TYPECHECK) && entry.default_type >> TYPECHECK_SHIFT != value.kind {
        return Err(NtStatus::OBJECT_TYPE_MISMATCH.into());
    }
    let expand = !entry.has(flags::NOEXPAND);
    match value.kind {
        value_type::MULTI_SZ if expand && !entry.has(flags::DIRECT) => {
            let all = text_of(&value.data);
            for text in all.split(|&unit| unit == 0).take_while(|text| !text.is_empty()) {
                call(entry, Some(&value.name), value_type::SZ, &terminated(text), context)?;
            }
            Ok(())
        }
        value_type::EXPAND_SZ if expand => {
            let text = terminated(&expanded(&text_of(&value.data)));
            give(entry, &Value { name: value.name.clone(), kind: value_type::SZ, data: text }, context)
        }
        _ => give(entry, value, context),
    }
}

fn terminated(text: &[u16]) -> Vec<u8> {
    text.iter().copied().chain([0]).flat_map(u16::to_le_bytes).collect()
}

/// Replaces `%SystemRoot%`, the one variable that there is.
fn expanded(text: &[u16]) -> Vec<u16> {
    let text = String::from_utf16_lossy(text);
    let name = "%systemroot%";
    let mut result = String::new();
    let mut rest = text.as_str();
    while let Some(place) = rest.to_ascii_lowercase().find(name) {
        result.push_str(&rest[..place]);
        result.push_str(r"\SystemRoot");
        rest = &rest[place + name.len()..];
    }
    result.push_str(rest);
    result.encode_utf16().collect()
}

fn give(entry: &Entry, value: &Value, context: u64) -> Result<(), Failure> {
    if entry.has(flags::DIRECT) {
        store(entry, value)
    } else {
        call(entry, Some(&value.name), value.kind, &value.data, context)
    }
}

/// Calls the driver's routine; a failure of it ends the query.
fn call(entry: &Entry, name: Option<&[u16]>, kind: u32, data: &[u8], context: u64) -> Result<(), Failure> {
    let name = name.map(terminated);
    let name = name.as_ref().map_or(entry.name, |name| name.as_ptr() as u64);
    let place = if data.is_empty() { 0 } else { data.as_ptr() as u64 };
    let arguments = [name, kind.into(), place, data.len() as u64, context, entry.entry_context];
    // SAFETY: the driver's table says that its routine takes these.
    let status = NtStatus(unsafe { gate::call::call_n(entry.routine, &arguments) } as u32);
    // A buffer of the routine's that is too small for one of several values is no reason to stop.
    if status.is_success() || status == NtStatus::BUFFER_TOO_SMALL { Ok(()) } else { Err(status.into()) }
}

/// Stores a value where the entry's context points.
fn store(entry: &Entry, value: &Value) -> Result<(), Failure> {
    let into = entry.entry_context;
    if is_text(value.kind) {
        return store_text(into, &value.data);
    }
    if value.data.len() <= 4 {
        return Ok(memory::write(into, &value.data)?);
    }
    // What the driver put there says how much fits: a negative number means data alone.
    let room: i32 = memory::read_value(into)?;
    if room < 0 {
        if room.unsigned_abs() < value.data.len() as u32 {
            return Err(NtStatus::BUFFER_TOO_SMALL.into());
        }
        return Ok(memory::write(into, &value.data)?);
    }
    if (room as usize) < 8 + value.data.len() {
        return Err(NtStatus::BUFFER_TOO_SMALL.into());
    }
    memory::write_value(into, value.data.len() as u32)?;
    memory::write_value(into + 4, value.kind)?;
    Ok(memory::write(into + 8, &value.data)?)
}

/// Stores text in the UNICODE_STRING at `into`, whose buffer is allocated if it has none.
fn store_text(into: u64, data: &[u8]) -> Result<(), Failure> {
    let bytes = terminated(&text_of(data));
    let Ok(maximum) = u16::try_from(bytes.len()) else { return Err(NtStatus::BUFFER_TOO_SMALL.into()) };
    let mut string: UnicodeString = memory::read_value(into)?;
    if string.buffer.is_null() {
        let made = pool::allocate(maximum.into(), super::TAG, Kind::Paged, gate::caller());
        string.buffer = made.ok_or(NtStatus::NO_MEMORY)? as *mut u16;
        string.maximum_length = maximum;
    } else if maximum > string.maximum_length {
        return Err(NtStatus::BUFFER_TOO_SMALL.into());
    }
    memory::write(string.buffer as u64, &bytes)?;
    string.length = maximum - 2;
    Ok(memory::write_value(into, string)?)
}

#[cfg(test)]
mod tests;
