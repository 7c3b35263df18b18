//! The win64 faces of the registry.

use gate::memory;
use nt_abi::object::attributes;
use nt_abi::{Handle, NtStatus, ObjectAttributes};

use super::information::{self, Answer};
use super::tree::{KeyId, Value};
use super::{key_of, lock, now, open_handle, read_data, start};
use crate::handles;
use crate::raise::{Failure, finish};

gate::exports! {
    /// What ntoskrnl exports of the registry.
    pub static TABLE in "ntoskrnl.exe";
    "ZwOpenKey" | "NtOpenKey" = zw_open_key(handle: u64, access: u32, attributes: u64) -> NtStatus, irql <= PASSIVE, rules "K-167";
    "ZwOpenKeyEx" | "NtOpenKeyEx" = zw_open_key_ex(handle: u64, access: u32, attributes: u64, options: u32) -> NtStatus, irql <= PASSIVE, rules "K-167";
    "ZwCreateKey" | "NtCreateKey" = zw_create_key(handle: u64, access: u32, attributes: u64, title: u32, class: u64, options: u32, disposition: u64) -> NtStatus, irql <= PASSIVE, rules "K-167";
    "ZwDeleteKey" | "NtDeleteKey" = zw_delete_key(handle: Handle) -> NtStatus, irql <= PASSIVE, rules "K-167";
    "ZwFlushKey" | "NtFlushKey" = zw_flush_key(handle: Handle) -> NtStatus, irql <= PASSIVE, rules "K-167";
    "ZwQueryKey" | "NtQueryKey" = zw_query_key(handle: Handle, class: u32, buffer: u64, length: u32, needed: u64) -> NtStatus, irql <= PASSIVE, rules "K-167";
    "ZwEnumerateKey" | "NtEnumerateKey" = zw_enumerate_key(handle: Handle, index: u32, class: u32, buffer: u64, length: u32, needed: u64) -> NtStatus, irql <= PASSIVE, rules "K-167";
    "ZwQueryValueKey" | "NtQueryValueKey" = zw_query_value_key(handle: Handle, name: u64, class: u32, buffer: u64, length: u32, needed: u64) -> NtStatus, irql <= PASSIVE, rules "K-167";
    "ZwEnumerateValueKey" | "NtEnumerateValueKey" = zw_enumerate_value_key(handle: Handle, index: u32, class: u32, buffer: u64, length: u32, needed: u64) -> NtStatus, irql <= PASSIVE, rules "K-167";
    "ZwSetValueKey" | "NtSetValueKey" = zw_set_value_key(handle: Handle, name: u64, title: u32, kind: u32, data: u64, bytes: u32) -> NtStatus, irql <= PASSIVE, rules "K-167";
    "ZwDeleteValueKey" | "NtDeleteValueKey" = zw_delete_value_key(handle: Handle, name: u64) -> NtStatus, irql <= PASSIVE, rules "K-167";
}

/// `REG_OPTION_VOLATILE`.
const VOLATILE: u32 = 1;

/// A key's name as an open or create gives it.
struct Named {
    from: KeyId,
    path: Vec<u16>,
    kernel: bool,
}

/// Reads object attributes and finds where their path starts.
fn named(attributes: u64) -> Result<Named, Failure> {
    let given: ObjectAttributes = memory::read_value(attributes)?;
    let name = if given.object_name.is_null() { Vec::new() } else { memory::read_unicode(given.object_name as u64)? };
    let (from, path) = start(given.root_directory, &name)?;
    let path = path.to_vec();
    Ok(Named { from, path, kernel: given.attributes & attributes::KERNEL_HANDLE != 0 })
}

fn open(into: u64, access: u32, attributes: u64) -> Result<NtStatus, Failure> {
    let name = named(attributes)?;
    let id = lock().tree.open(name.from, &name.path)?;
    handles::store(into, open_handle(id, access, name.kernel, gate::caller())?)
}

unsafe extern "win64" fn zw_open_key(handle: u64, access: u32, attributes: u64) -> NtStatus {
    finish(open(handle, access, attributes))
}

/// The options (backup, links) mean nothing here.
unsafe extern "win64" fn zw_open_key_ex(handle: u64, access: u32, attributes: u64, _options: u32) -> NtStatus {
    finish(open(handle, access, attributes))
}

fn create(
    into: u64,
    access: u32,
    attributes: u64,
    class: u64,
    options: u32,
    disposition: u64,
) -> Result<NtStatus, Failure> {
    let name = named(attributes)?;
    let class = if class == 0 { Vec::new() } else { memory::read_unicode(class)? };
    let (id, made) = {
        let mut registry = lock();
        let (id, made) = registry.tree.create(name.from, &name.path, options & VOLATILE != 0, now())?;
        if made {
            registry.tree.set_class(id, class)?;
        }
        (id, made)
    };
    if disposition != 0 {
        // REG_CREATED_NEW_KEY, REG_OPENED_EXISTING_KEY
        memory::write_value(disposition, if made { 1u32 } else { 2 })?;
    }
    handles::store(into, open_handle(id, access, name.kernel, gate::caller())?)
}

unsafe extern "win64" fn zw_create_key(
    handle: u64,
    access: u32,
    attributes: u64,
    _title: u32,
    class: u64,
    options: u32,
    disposition: u64,
) -> NtStatus {
    finish(create(handle, access, attributes, class, options, disposition))
}

unsafe extern "win64" fn zw_delete_key(handle: Handle) -> NtStatus {
    let deleted = key_of(handle).and_then(|id| lock().tree.delete(id, now()));
    deleted.err().unwrap_or(NtStatus::SUCCESS)
}

/// There is no disk.
unsafe extern "win64" fn zw_flush_key(handle: Handle) -> NtStatus {
    key_of(handle).err().unwrap_or(NtStatus::SUCCESS)
}

/// Stores an answer, as far as it fits, and the length it needs.
fn answer(answer: &Answer, buffer: u64, length: u32, needed: u64) -> Result<NtStatus, Failure> {
    let (bytes, status) = answer.cut(length as usize);
    memory::write(buffer, bytes)?;
    memory::write_value(needed, answer.length())?;
    Ok(status)
}

fn query_key(handle: Handle, class: u32, buffer: u64, length: u32, needed: u64) -> Result<NtStatus, Failure> {
    let id = key_of(handle)?;
    let found = information::of_key(class, &lock().tree, id)?;
    answer(&found, buffer, length, needed)
}

unsafe extern "win64" fn zw_query_key(handle: Handle, class: u32, buffer: u64, length: u32, needed: u64) -> NtStatus {
    finish(query_key(handle, class, buffer, length, needed))
}

/// The key or value at an index; past the last one there are no more entries.
fn at<T>(entries: &[T], index: u32) -> Result<&T, NtStatus> {
    entries.get(index as usize).ok_or(NtStatus::NO_MORE_ENTRIES)
}

fn enumerate_key(
    handle: Handle,
    index: u32,
    class: u32,
    buffer: u64,
    length: u32,
    needed: u64,
) -> Result<NtStatus, Failure> {
    let id = key_of(handle)?;
    let found = {
        let registry = lock();
        let subkey = *at(&registry.tree.key(id)?.subkeys, index)?;
        // Only basic, node and full information of a subkey can be asked for.
        if class > 2 {
            return Err(NtStatus::INVALID_PARAMETER.into());
        }
        information::of_key(class, &registry.tree, subkey)?
    };
    answer(&found, buffer, length, needed)
}

unsafe extern "win64" fn zw_enumerate_key(
    handle: Handle,
    index: u32,
    class: u32,
    buffer: u64,
    length: u32,
    needed: u64,
) -> NtStatus {
    finish(enumerate_key(handle, index, class, buffer, length, needed))
}

fn query_value(
    handle: Handle,
    name: u64,
    class: u32,
    buffer: u64,
    length: u32,
    needed: u64,
) -> Result<NtStatus, Failure> {
    let name = memory::read_unicode(name)?;
    let id = key_of(handle)?;
    let found = information::of_value(class, lock().tree.value(id, &name)?)?;
    answer(&found, buffer, length, needed)
}

unsafe extern "win64" fn zw_query_value_key(
    handle: Handle,
    name: u64,
    class: u32,
    buffer: u64,
    length: u32,
    needed: u64,
) -> NtStatus {
    finish(query_value(handle, name, class, buffer, length, needed))
}

fn enumerate_value(
    handle: Handle,
    index: u32,
    class: u32,
    buffer: u64,
    length: u32,
    needed: u64,
) -> Result<NtStatus, Failure> {
    let id = key_of(handle)?;
    let found = information::of_value(class, at(&lock().tree.key(id)?.values, index)?)?;
    answer(&found, buffer, length, needed)
}

unsafe extern "win64" fn zw_enumerate_value_key(
    handle: Handle,
    index: u32,
    class: u32,
    buffer: u64,
    length: u32,
    needed: u64,
) -> NtStatus {
    finish(enumerate_value(handle, index, class, buffer, length, needed))
}

fn set_value(handle: Handle, name: u64, kind: u32, data: u64, bytes: u32) -> Result<NtStatus, Failure> {
    let name = memory::read_unicode(name)?;
    let id = key_of(handle)?;
    let data = read_data(data, bytes)?;
    lock().tree.set_value(id, Value { name, kind, data }, now())?;
    Ok(NtStatus::SUCCESS)
}

unsafe extern "win64" fn zw_set_value_key(
    handle: Handle,
    name: u64,
    _title: u32,
    kind: u32,
    data: u64,
    bytes: u32,
) -> NtStatus {
    finish(set_value(handle, name, kind, data, bytes))
}

fn delete_value(handle: Handle, name: u64) -> Result<NtStatus, Failure> {
    let name = memory::read_unicode(name)?;
    let id = key_of(handle)?;
    lock().tree.delete_value(id, &name, now())?;
    Ok(NtStatus::SUCCESS)
}

unsafe extern "win64" fn zw_delete_value_key(handle: Handle, name: u64) -> NtStatus {
    finish(delete_value(handle, name))
}
