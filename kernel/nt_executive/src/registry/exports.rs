//! The win64 faces of the registry.

use gate::memory;
use nt_abi::object::attributes;
use nt_abi::{Handle, NtStatus, ObjectAttributes};

use super::callbacks::{self, Classes, Notice};
use super::information::{self, Answer};
use super::tree::{KeyId, Value};
use super::{KEY, key_object, key_of, lock, now, read_data, root_object, start};
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
    given: ObjectAttributes,
    from: KeyId,
    path: Vec<u16>,
}

/// Reads object attributes and finds where their path starts.
fn named(attributes: u64) -> Result<Named, Failure> {
    let given: ObjectAttributes = memory::read_value(attributes)?;
    let name = if given.object_name.is_null() { Vec::new() } else { memory::read_unicode(given.object_name as u64)? };
    let (from, path) = start(given.root_directory, &name)?;
    let path = path.to_vec();
    Ok(Named { given, from, path })
}

/// What is asked of an open or create beside the key's name.
struct Asked {
    classes: Classes,
    access: u32,
    options: u32,
    class: u64,
    disposition: u64,
}

/// Opens the key that `find` finds or makes, tells whoever is to be told, and gives the driver a handle.
fn open_found(
    into: u64,
    attributes: u64,
    asked: &Asked,
    find: impl FnOnce(&Named) -> Result<KeyId, Failure>,
) -> Result<NtStatus, Failure> {
    let name = named(attributes)?;
    let caller = gate::caller();
    // A routine that opens the key itself leaves its object here.
    let mut body = 0u64;
    let result = &raw mut body;
    let open = || -> Result<NtStatus, Failure> {
        let made = key_object(find(&name)?, caller)?;
        // SAFETY: this frame's word.
        unsafe { result.write(made) };
        Ok(NtStatus::SUCCESS)
    };
    let outcome = if callbacks::is_any() { told(&name, asked, result as u64, open) } else { open() };
    // SAFETY: this frame's word.
    let body = unsafe { result.read() };
    let is_key = nt_object::type_of(body).is_some_and(|kind| std::ptr::eq(kind, &KEY));
    let opened = outcome.and_then(|status| match status {
        _ if !status.is_success() => Ok(status),
        _ if is_key => {
            let kernel = name.given.attributes & attributes::KERNEL_HANDLE != 0;
            let handle = nt_object::insert(body, asked.access, kernel, caller);
            handles::store(into, handle.ok_or(NtStatus::INSUFFICIENT_RESOURCES)?)
        }
        _ => Err(NtStatus::UNSUCCESSFUL.into()),
    });
    if is_key {
        nt_object::dereference(body);
    }
    opened
}

/// Does an open or create and tells of it.
fn told(
    name: &Named,
    asked: &Asked,
    result: u64,
    open: impl FnOnce() -> Result<NtStatus, Failure>,
) -> Result<NtStatus, Failure> {
    let given = &name.given;
    let root = match given.root_directory {
        Handle(0) => {
            let root = root_object()?;
            nt_object::reference(root);
            root
        }
        handle => nt_object::reference_by_handle(handle, Some(KEY.block()))?.0,
    };
    // REG_CREATE_KEY_INFORMATION
    let fields = [
        given.object_name as u64,
        root,
        KEY.block(),
        asked.options.into(),
        asked.class,
        given.security_descriptor,
        given.security_quality_of_service,
        pair(asked.access, asked.access),
        asked.disposition,
        result,
    ];
    let outcome = callbacks::around(Notice::new(asked.classes, &fields), open);
    nt_object::dereference(root);
    outcome
}

/// Two fields of 32 bits, as they lie in a word.
fn pair(first: u32, second: u32) -> u64 {
    u64::from(first) | u64::from(second) << 32
}

/// Does something with an open key, and tells whoever is to be told; `fields` are those behind the key's object.
fn on_key(
    handle: Handle,
    classes: Classes,
    fields: &[u64],
    operation: impl FnOnce() -> Result<NtStatus, Failure>,
) -> NtStatus {
    let tell = |operation| {
        let (body, _) = nt_object::reference_by_handle(handle, Some(KEY.block()))?;
        let fields: Vec<u64> = std::iter::once(body).chain(fields.iter().copied()).collect();
        let outcome = callbacks::around(Notice::new(classes, &fields), operation);
        nt_object::dereference(body);
        outcome
    };
    finish(if callbacks::is_any() { tell(operation) } else { operation() })
}

fn open(into: u64, access: u32, attributes: u64, options: u32) -> NtStatus {
    let asked = Asked { classes: Classes::OPEN, access, options, class: 0, disposition: 0 };
    finish(open_found(into, attributes, &asked, |name| Ok(lock().tree.open(name.from, &name.path)?)))
}

unsafe extern "win64" fn zw_open_key(handle: u64, access: u32, attributes: u64) -> NtStatus {
    open(handle, access, attributes, 0)
}

/// The options (backup, links) mean nothing here.
unsafe extern "win64" fn zw_open_key_ex(handle: u64, access: u32, attributes: u64, options: u32) -> NtStatus {
    open(handle, access, attributes, options)
}

/// Finds the key or makes it, and says which.
fn find_or_make(name: &Named, asked: &Asked) -> Result<KeyId, Failure> {
    let class = if asked.class == 0 { Vec::new() } else { memory::read_unicode(asked.class)? };
    let (id, made) = {
        let mut registry = lock();
        let (id, made) = registry.tree.create(name.from, &name.path, asked.options & VOLATILE != 0, now())?;
        if made {
            registry.tree.set_class(id, class)?;
        }
        (id, made)
    };
    if asked.disposition != 0 {
        // REG_CREATED_NEW_KEY, REG_OPENED_EXISTING_KEY
        memory::write_value(asked.disposition, if made { 1u32 } else { 2 })?;
    }
    Ok(id)
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
    let asked = Asked { classes: Classes::CREATE, access, options, class, disposition };
    finish(open_found(handle, attributes, &asked, |name| find_or_make(name, &asked)))
}

unsafe extern "win64" fn zw_delete_key(handle: Handle) -> NtStatus {
    on_key(handle, Classes::DELETE_KEY, &[], || {
        let id = key_of(handle)?;
        lock().tree.delete(id, now())?;
        Ok(NtStatus::SUCCESS)
    })
}

/// There is no disk.
unsafe extern "win64" fn zw_flush_key(handle: Handle) -> NtStatus {
    on_key(handle, Classes::FLUSH, &[], || {
        key_of(handle)?;
        Ok(NtStatus::SUCCESS)
    })
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
    on_key(handle, Classes::QUERY_KEY, &[class.into(), buffer, length.into(), needed], || {
        query_key(handle, class, buffer, length, needed)
    })
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
    on_key(handle, Classes::ENUMERATE_KEY, &[pair(index, class), buffer, length.into(), needed], || {
        enumerate_key(handle, index, class, buffer, length, needed)
    })
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
    on_key(handle, Classes::QUERY_VALUE, &[name, class.into(), buffer, length.into(), needed], || {
        query_value(handle, name, class, buffer, length, needed)
    })
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
    on_key(handle, Classes::ENUMERATE_VALUE, &[pair(index, class), buffer, length.into(), needed], || {
        enumerate_value(handle, index, class, buffer, length, needed)
    })
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
    title: u32,
    kind: u32,
    data: u64,
    bytes: u32,
) -> NtStatus {
    on_key(handle, Classes::SET_VALUE, &[name, pair(title, kind), data, bytes.into()], || {
        set_value(handle, name, kind, data, bytes)
    })
}

fn delete_value(handle: Handle, name: u64) -> Result<NtStatus, Failure> {
    let name = memory::read_unicode(name)?;
    let id = key_of(handle)?;
    lock().tree.delete_value(id, &name, now())?;
    Ok(NtStatus::SUCCESS)
}

unsafe extern "win64" fn zw_delete_value_key(handle: Handle, name: u64) -> NtStatus {
    on_key(handle, Classes::DELETE_VALUE, &[name], || delete_value(handle, name))
}
