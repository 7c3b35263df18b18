//! Symbolic links as objects (K-098): made, opened and asked by handle.
//!
//! A link is a name, and each handle to it stands for an object of its own. One that is not permanent goes with the last of
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use gate::memory::{self, put};
use host_lock::{Mutex, MutexGuard};
use nt_abi::object::attributes;
use nt_abi::{Handle, NtStatus, ObjectAttributes, UnicodeString};
use nt_object::ObjectType;

use crate::exports::name_at;

gate::exports! {
    /// What ntoskrnl exports of symbolic links.
    pub(crate) static TABLE in "ntoskrnl.exe";
    "ZwCreateSymbolicLinkObject" = zw_create_symbolic_link_object(handle: u64, access: u32, attributes: *const ObjectAttributes, target: *const UnicodeString) -> NtStatus, irql <= PASSIVE, rules "K-098";
    "ZwOpenSymbolicLinkObject" = zw_open_symbolic_link_object(handle: u64, access: u32, attributes: *const ObjectAttributes) -> NtStatus, irql <= PASSIVE, rules "K-098";
    "ZwQuerySymbolicLinkObject" = zw_query_symbolic_link_object(handle: Handle, target: *mut UnicodeString, needed: *mut u32) -> NtStatus, irql <= PASSIVE, rules "K-098";
    "ZwMakeTemporaryObject" = zw_make_temporary_object(handle: Handle) -> NtStatus, irql <= PASSIVE, rules "K-098";
}

static LINK: ObjectType = ObjectType::new("SymbolicLink", delete, closed);

/// What the body of an open link points to.
struct Link {
    /// Where it stands in the namespace.
    place: Vec<u16>,
    /// Where it led when it was opened.
    target: Vec<u16>,
}

/// By place.
struct Links {
    /// How many objects with handles stand for a link.
    open: BTreeMap<Vec<u16>, u32>,
    /// Those that go with the last of these.
    temporary: BTreeSet<Vec<u16>>,
}

static LINKS: Mutex<Links> = Mutex::new(Links { open: BTreeMap::new(), temporary: BTreeSet::new() });

fn links() -> MutexGuard<'static, Links> {
    LINKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// # Safety
/// `body` is a live link's.
unsafe fn link_of<'a>(body: u64) -> &'a Link {
    // SAFETY: the caller's promise; the pointer is set before anybody knows of the body, and drivers do not read it.
    unsafe { &**(body as *const *const Link) }
}

fn delete(body: u64) {
    // SAFETY: the body of a link, which nobody has any more; the box was made with it.
    drop(unsafe { Box::from_raw(*(body as *const *mut Link)) });
}

fn closed(body: u64, remaining: i64) {
    if remaining != 0 {
        return;
    }
    // SAFETY: told of a live link.
    let place = unsafe { &link_of(body).place };
    let mut links = links();
    let left = links.open.get_mut(place).map_or(0, |count| {
        *count -= 1;
        *count
    });
    if left == 0 {
        links.open.remove(place);
        if links.temporary.remove(place) {
            let _ = nt_object::remove(place);
        }
    }
}

/// Opens a handle to the link at a place, and gives it to the driver.
fn open_at(into: u64, place: Vec<u16>, access: u32, flags: u32, caller: u64) -> Result<NtStatus, NtStatus> {
    let (target, _) = nt_object::lookup_link(&place)?;
    let body = nt_object::create(&LINK, size_of::<*mut Link>() as u64, caller);
    let body = body.ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
    let link = Box::into_raw(Box::new(Link { place: place.clone(), target }));
    // SAFETY: a new body of this size; `delete` takes the box back.
    unsafe { (body as *mut *mut Link).write(link) };
    *links().open.entry(place).or_insert(0) += 1;
    let handle = nt_object::insert(body, access, flags & attributes::KERNEL_HANDLE != 0, caller);
    if handle.is_none() {
        closed(body, 0);
    }
    nt_object::dereference(body);
    let handle = handle.ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
    if let Err(fault) = memory::write_value(into, handle) {
        // Nobody would ever learn of the handle.
        let _ = nt_object::close(handle);
        gate::seh::raise_fault(fault);
        return Err(NtStatus::ACCESS_VIOLATION);
    }
    Ok(NtStatus::SUCCESS)
}

/// The place and the flags that object attributes name.
///
/// # Safety
/// What drivers pass is theirs to answer for; a bad pointer faults and is blamed on them.
unsafe fn place_at(attributes: *const ObjectAttributes) -> Result<(Vec<u16>, u32), NtStatus> {
    // SAFETY: the caller's promise.
    let (name, flags) = unsafe { ((*attributes).object_name, (*attributes).attributes) };
    Ok((nt_object::place(&name_at(name)?)?, flags))
}

unsafe extern "win64" fn zw_open_symbolic_link_object(
    handle: u64,
    access: u32,
    attributes: *const ObjectAttributes,
) -> NtStatus {
    let caller = gate::caller();
    // SAFETY: the driver's pointers. The same holds for every function of this module.
    let found = unsafe { place_at(attributes) };
    let opened = found.and_then(|(place, flags)| open_at(handle, place, access, flags, caller));
    opened.unwrap_or_else(|status| status)
}

/// A link that is there is opened if the attributes allow it, whatever it leads to.
unsafe extern "win64" fn zw_create_symbolic_link_object(
    handle: u64,
    access: u32,
    attributes: *const ObjectAttributes,
    target: *const UnicodeString,
) -> NtStatus {
    let caller = gate::caller();
    let create = || {
        // SAFETY: see `zw_open_symbolic_link_object`.
        let (place, flags) = unsafe { place_at(attributes) }?;
        let made = nt_object::insert_link(&place, &name_at(target)?, caller);
        let is_there = made == Err(NtStatus::OBJECT_NAME_COLLISION) && flags & attributes::OPENIF != 0;
        if is_there {
            return open_at(handle, place, access, flags, caller).map(|_| NtStatus::OBJECT_NAME_EXISTS);
        }
        made?;
        let opened = open_at(handle, place.clone(), access, flags, caller);
        if opened.is_err() {
            let _ = nt_object::remove(&place);
        } else if flags & attributes::PERMANENT == 0 {
            links().temporary.insert(place);
        }
        opened
    };
    create().unwrap_or_else(|status| status)
}

unsafe extern "win64" fn zw_query_symbolic_link_object(
    handle: Handle,
    target: *mut UnicodeString,
    needed: *mut u32,
) -> NtStatus {
    let body = match nt_object::reference_by_handle(handle, Some(LINK.block())) {
        Ok((body, _)) => body,
        Err(status) => return status,
    };
    // SAFETY: a referenced link; for the rest see `zw_open_symbolic_link_object`.
    let status = unsafe {
        let link = link_of(body);
        let bytes = link.target.len() as u32 * 2;
        if !needed.is_null() {
            put(needed, bytes);
        }
        if u32::from((*target).maximum_length) < bytes {
            NtStatus::BUFFER_TOO_SMALL
        } else if memory::copy((*target).buffer as u64, link.target.as_ptr() as u64, bytes as usize).is_err() {
            NtStatus::ACCESS_VIOLATION
        } else {
            (*target).length = bytes as u16;
            NtStatus::SUCCESS
        }
    };
    nt_object::dereference(body);
    status
}

/// Of what has handles, links alone are ever permanent here; anything else goes with its last handle anyway.
unsafe extern "win64" fn zw_make_temporary_object(handle: Handle) -> NtStatus {
    let (body, _) = match nt_object::reference_by_handle(handle, None) {
        Ok(found) => found,
        Err(status) => return status,
    };
    if nt_object::type_of(body).is_some_and(|kind| std::ptr::eq(kind, &LINK)) {
        // SAFETY: a referenced link.
        links().temporary.insert(unsafe { link_of(body) }.place.clone());
    }
    nt_object::dereference(body);
    NtStatus::SUCCESS
}
