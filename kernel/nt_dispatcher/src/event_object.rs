//! Events behind handles and names (`ZwCreateEvent`, `IoCreateNotificationEvent`).

use std::collections::BTreeMap;
use std::sync::PoisonError;

use host_lock::Mutex;
use nt_abi::dispatcher::DispatcherType;
use nt_abi::object::attributes;
use nt_abi::{Handle, KernelEvent, NtStatus};
use nt_object::ObjectType;

use crate::event;

/// Events.
pub static EVENT: ObjectType = ObjectType::new("Event", |_| {}, handle_closed);

/// The names of named events, for when their last handle goes.
static NAMES: Mutex<BTreeMap<u64, Vec<u16>>> = Mutex::new(BTreeMap::new());

/// What a new event is like.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Notification or synchronization event.
    pub kind: DispatcherType,
    /// Whether it begins signalled.
    pub signalled: bool,
}

/// Makes an event, or opens the one that has the name already if `flags` (OBJ_xxx) allow it; gives a handle, the
/// event's body, and whether it was there before.
///
/// # Errors
/// STATUS_OBJECT_NAME_COLLISION, STATUS_OBJECT_TYPE_MISMATCH for another object of that name,
/// STATUS_INSUFFICIENT_RESOURCES, or what the namespace says about the name.
///
/// IRQL: PASSIVE_LEVEL.
pub fn create(
    name: Option<&[u16]>,
    kind: Kind,
    access: u32,
    flags: u32,
    caller: u64,
) -> Result<(Handle, u64, bool), NtStatus> {
    if let Some(name) = name
        && let Ok(body) = referenced(name)
    {
        if flags & attributes::OPENIF == 0 {
            nt_object::dereference(body);
            return Err(NtStatus::OBJECT_NAME_COLLISION);
        }
        return Ok((handle_for(body, access, flags, caller)?, body, true));
    }
    let body = nt_object::create(&EVENT, size_of::<KernelEvent>() as u64, caller);
    let body = body.ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
    // SAFETY: a new body that is large enough.
    unsafe { event::initialize(body as *mut KernelEvent, kind.kind, kind.signalled) };
    if let Some(name) = name {
        if let Err(status) = nt_object::insert_object(name, body) {
            nt_object::dereference(body);
            return Err(status);
        }
        NAMES.lock().unwrap_or_else(PoisonError::into_inner).insert(body, name.to_vec());
    }
    Ok((handle_for(body, access, flags, caller)?, body, false))
}

/// Opens the event with a name.
///
/// # Errors
/// As [`create`], and what the namespace says if there is no such name.
///
/// IRQL: PASSIVE_LEVEL.
pub fn open(name: &[u16], access: u32, flags: u32, caller: u64) -> Result<Handle, NtStatus> {
    handle_for(referenced(name)?, access, flags, caller)
}

/// The event of a name, referenced.
fn referenced(name: &[u16]) -> Result<u64, NtStatus> {
    let found = nt_object::lookup(name)?;
    if !found.rest.is_empty() {
        return Err(NtStatus::OBJECT_PATH_NOT_FOUND);
    }
    if !nt_object::try_reference(found.body) {
        return Err(NtStatus::OBJECT_NAME_NOT_FOUND);
    }
    if !nt_object::type_of(found.body).is_some_and(|kind| std::ptr::eq(kind, &EVENT)) {
        nt_object::dereference(found.body);
        return Err(NtStatus::OBJECT_TYPE_MISMATCH);
    }
    Ok(found.body)
}

/// A handle for an event, which takes over the caller's reference.
fn handle_for(body: u64, access: u32, flags: u32, caller: u64) -> Result<Handle, NtStatus> {
    let handle = nt_object::insert(body, access, flags & attributes::KERNEL_HANDLE != 0, caller);
    if handle.is_none() && nt_object::handle_count(body) == Some(0) {
        forget_name(body);
    }
    nt_object::dereference(body);
    handle.ok_or(NtStatus::INSUFFICIENT_RESOURCES)
}

/// A named event has its name as long as there are handles.
fn handle_closed(body: u64, remaining: i64) {
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
