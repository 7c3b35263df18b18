//! Objects to wait for behind handles and names, whichever type they are of.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use host_lock::Mutex;
use nt_abi::object::attributes;
use nt_abi::{Handle, NtStatus};
use nt_object::ObjectType;

/// The names of named objects, for when their last handle goes.
static NAMES: Mutex<BTreeMap<u64, Vec<u16>>> = Mutex::new(BTreeMap::new());

/// What an object is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// Its type, whose `handle_closed` is [`handle_closed`].
    pub kind: &'static ObjectType,
    /// Its full name, if it is to have one.
    pub name: Option<&'a [u16]>,
    /// The rights of the handle.
    pub access: u32,
    /// `OBJ_xxx`.
    pub flags: u32,
    /// The driver instruction that asks for it.
    pub caller: u64,
}

/// Makes an object of `bytes` bytes that `initialize` fills, or opens the one that has the name already if the flags allow it; gives a
/// handle, the body, and whether it was there before.
///
/// # Errors
/// STATUS_OBJECT_NAME_COLLISION, STATUS_OBJECT_TYPE_MISMATCH for an object of another type, STATUS_INSUFFICIENT_RESOURCES, or
/// what the namespace says about the name.
///
/// IRQL: PASSIVE_LEVEL.
pub(crate) fn create(
    wanted: Wanted<'_>,
    bytes: usize,
    initialize: impl FnOnce(u64),
) -> Result<(Handle, u64, bool), NtStatus> {
    if let Some(name) = wanted.name
        && let Ok(body) = referenced(name, wanted.kind)
    {
        if wanted.flags & attributes::OPENIF == 0 {
            nt_object::dereference(body);
            return Err(NtStatus::OBJECT_NAME_COLLISION);
        }
        return Ok((handle_for(body, wanted)?, body, true));
    }
    let body = nt_object::create(wanted.kind, bytes as u64, wanted.caller).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
    initialize(body);
    if let Some(name) = wanted.name {
        if let Err(status) = nt_object::insert_object(name, body) {
            nt_object::dereference(body);
            return Err(status);
        }
        NAMES.lock().unwrap_or_else(PoisonError::into_inner).insert(body, name.to_vec());
    }
    Ok((handle_for(body, wanted)?, body, false))
}

/// Opens the object that has the name.
///
/// # Errors
/// As [`create`], STATUS_OBJECT_PATH_SYNTAX_BAD without a name, and what the namespace says if there is none of that name.
///
/// IRQL: PASSIVE_LEVEL.
pub(crate) fn open(wanted: Wanted<'_>) -> Result<Handle, NtStatus> {
    let name = wanted.name.ok_or(NtStatus::OBJECT_PATH_SYNTAX_BAD)?;
    handle_for(referenced(name, wanted.kind)?, wanted)
}

/// The object of a name, referenced.
fn referenced(name: &[u16], wanted: &'static ObjectType) -> Result<u64, NtStatus> {
    let found = nt_object::lookup(name)?;
    if !found.rest.is_empty() {
        return Err(NtStatus::OBJECT_PATH_NOT_FOUND);
    }
    if !nt_object::try_reference(found.body) {
        return Err(NtStatus::OBJECT_NAME_NOT_FOUND);
    }
    if !nt_object::type_of(found.body).is_some_and(|kind| std::ptr::eq(kind, wanted)) {
        nt_object::dereference(found.body);
        return Err(NtStatus::OBJECT_TYPE_MISMATCH);
    }
    Ok(found.body)
}

/// A handle for an object, which takes over the caller's reference.
fn handle_for(body: u64, wanted: Wanted<'_>) -> Result<Handle, NtStatus> {
    let is_kernels = wanted.flags & attributes::KERNEL_HANDLE != 0;
    let handle = nt_object::insert(body, wanted.access, is_kernels, wanted.caller);
    if handle.is_none() && nt_object::handle_count(body) == Some(0) {
        forget_name(body);
    }
    nt_object::dereference(body);
    handle.ok_or(NtStatus::INSUFFICIENT_RESOURCES)
}

/// A named object has its name as long as there are handles.
pub(crate) fn handle_closed(body: u64, remaining: i64) {
    if remaining == 0 {
        forget_name(body);
    }
}

fn forget_name(body: u64) {
    let name = NAMES.lock().unwrap_or_else(PoisonError::into_inner).remove(&body);
    if let Some(name) = name {
        // Somebody may have removed the name already; either way it is gone.
        let _ = nt_object::remove(&name);
    }
}
