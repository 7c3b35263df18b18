//! Sections of memory, as far as no file is behind them.
//!
//! Driver and host share one address space, so all views of a section lie in one place: its pages. Left out, and seen
//! by a driver that looks: a view is nowhere else than another one, is writable whatever protection it asked for, and
//! an unmapped one can be touched until the section is gone. Files of the host cannot be mapped, nor images.
//!
//! Invariant: a view holds a reference to its section, and the section owns the pages.

use std::ptr;
use std::sync::PoisonError;

use arena::PAGE;
use gate::memory;
use host_lock::{Mutex, MutexGuard};
use nt_abi::object::attributes;
use nt_abi::{Handle, NtStatus, ObjectAttributes};
use nt_io::file::FILE;
use nt_object::ObjectType;

use crate::pool::{self, Kind};
use crate::raise::{Failure, finish};
use crate::{handles, process};

gate::exports! {
    /// What ntoskrnl exports of sections.
    pub static TABLE in "ntoskrnl.exe";
    "ZwCreateSection" = zw_create_section(handle: u64, access: u32, attributes: u64, size: u64, protection: u32, allocation: u32, file: Handle) -> NtStatus, irql <= PASSIVE, rules "K-200";
    "ZwMapViewOfSection" = zw_map_view_of_section(section: Handle, process: Handle, base: u64, zero_bits: u64, commit: u64, offset: u64, size: u64, inherit: u32, allocation: u32, protection: u32) -> NtStatus, irql <= PASSIVE, rules "K-200";
    "ZwUnmapViewOfSection" = zw_unmap_view_of_section(process: Handle, base: u64) -> NtStatus, irql <= PASSIVE, rules "K-200";
    "MmMapViewInSystemSpace" = mm_map_view_in_system_space(section: u64, base: u64, size: u64) -> NtStatus, irql <= APC, rules "K-200";
    "MmUnmapViewInSystemSpace" = mm_unmap_view_in_system_space(base: u64) -> NtStatus, irql <= APC, rules "K-200";
}

/// Sections. Their body is a [`Pages`].
static SECTION: ObjectType = ObjectType::simple("Section", delete);

/// The memory of a section.
#[derive(Clone, Copy)]
#[repr(C)]
struct Pages {
    address: u64,
    bytes: u64,
}

fn delete(body: u64) {
    // SAFETY: the body of a section on its way out.
    let pages = unsafe { *(body as *const Pages) };
    if pages.bytes != 0 {
        pool::free(pages.address, Some(TAG), 0);
    }
}

const TAG: pool::Tag = u32::from_le_bytes(*b"MmSt");
/// Views begin at multiples of this in their section.
const GRANULARITY: u64 = 64 << 10;

/// A mapped part of a section.
#[derive(Clone, Copy)]
struct View {
    base: u64,
    bytes: u64,
    /// Referenced.
    section: u64,
}

static VIEWS: Mutex<Vec<View>> = Mutex::new(Vec::new());

fn views() -> MutexGuard<'static, Vec<View>> {
    VIEWS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bits of an allocation type.
mod section_flags {
    pub const IMAGE: u32 = 0x0100_0000;
    pub const RESERVE: u32 = 0x0400_0000;
    pub const COMMIT: u32 = 0x0800_0000;
}

const INVALID_VIEW_SIZE: NtStatus = NtStatus(0xC000_001F);
const CONFLICTING_ADDRESSES: NtStatus = NtStatus(0xC000_0018);
const NOT_MAPPED_VIEW: NtStatus = NtStatus(0xC000_0019);
const INVALID_FILE_FOR_SECTION: NtStatus = NtStatus(0xC000_0020);
const INVALID_PARAMETER_6: NtStatus = NtStatus(0xC000_00F4);
const MAPPED_ALIGNMENT: NtStatus = NtStatus(0xC000_0220);

/// A section with pages of its own and one reference, the caller's.
fn create(bytes: u64, caller: u64) -> Option<u64> {
    let bytes = bytes.checked_next_multiple_of(PAGE as u64)?;
    let body = nt_object::create(&SECTION, size_of::<Pages>() as u64, caller)?;
    let address = pool::allocate(bytes, TAG, Kind::NonPaged, caller);
    // SAFETY: a new body of this size, and new pages if there are any.
    unsafe {
        let Some(address) = address else {
            *(body as *mut Pages) = Pages { address: 0, bytes: 0 };
            nt_object::dereference(body);
            return None;
        };
        ptr::write_bytes(address as *mut u8, 0, bytes as usize);
        *(body as *mut Pages) = Pages { address, bytes };
    }
    Some(body)
}

fn create_section(
    into: u64,
    access: u32,
    attributes: u64,
    size: u64,
    allocation: u32,
    file: Handle,
) -> Result<NtStatus, Failure> {
    if file.0 != 0 {
        // What drivers can open are devices, and those have nothing to map.
        let (file, _) = nt_object::reference_by_handle(file, Some(FILE.block()))?;
        nt_object::dereference(file);
        return Err(INVALID_FILE_FOR_SECTION.into());
    }
    if allocation & section_flags::IMAGE != 0 {
        return Err(INVALID_FILE_FOR_SECTION.into());
    }
    if allocation & (section_flags::COMMIT | section_flags::RESERVE) == 0 {
        return Err(INVALID_PARAMETER_6.into());
    }
    let bytes: u64 = if size == 0 { 0 } else { memory::read_value(size)? };
    if bytes == 0 {
        return Err(NtStatus::INVALID_PARAMETER_4.into());
    }
    // A name is for other processes, and there are none.
    let kernel = attributes != 0 && {
        let given: ObjectAttributes = memory::read_value(attributes)?;
        given.attributes & attributes::KERNEL_HANDLE != 0
    };
    let caller = gate::caller();
    let section = create(bytes, caller).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
    let handle = nt_object::insert(section, access, kernel, caller);
    // The handle has a reference of its own.
    nt_object::dereference(section);
    handles::store(into, handle.ok_or(NtStatus::INSUFFICIENT_RESOURCES)?)
}

/// Adds a view of `bytes` bytes from `offset`, to the section's end if that is 0.
fn map(section: u64, offset: u64, bytes: u64) -> Result<View, NtStatus> {
    // SAFETY: the body of a section that the caller has a reference to.
    let pages = unsafe { *(section as *const Pages) };
    let left = pages.bytes.checked_sub(offset).filter(|&left| left > 0).ok_or(INVALID_VIEW_SIZE)?;
    let bytes = if bytes == 0 { left } else { bytes };
    if bytes > left {
        return Err(INVALID_VIEW_SIZE);
    }
    nt_object::reference(section);
    let view = View { base: pages.address + offset, bytes: bytes.next_multiple_of(PAGE as u64), section };
    views().push(view);
    Ok(view)
}

/// Takes away the view that `address` lies in, the last mapped of several.
fn unmap(address: u64) -> NtStatus {
    let mut views = views();
    let Some(place) = views.iter().rposition(|view| (view.base..view.base + view.bytes).contains(&address)) else {
        return NOT_MAPPED_VIEW;
    };
    let view = views.remove(place);
    // Not under the lock: the section can go with it.
    drop(views);
    nt_object::dereference(view.section);
    NtStatus::SUCCESS
}

/// Maps and says where and how much.
fn map_into(section: u64, base: u64, offset: u64, size: u64) -> Result<NtStatus, Failure> {
    let wanted: u64 = memory::read_value(size)?;
    memory::probe_write(base, 8)?;
    let view = map(section, offset, wanted)?;
    memory::write_value(base, view.base)?;
    memory::write_value(size, view.bytes)?;
    Ok(NtStatus::SUCCESS)
}

fn map_view(section: Handle, process: Handle, base: u64, offset: u64, size: u64) -> Result<NtStatus, Failure> {
    nt_object::dereference(process::by_handle(process)?);
    let offset: u64 = if offset == 0 { 0 } else { memory::read_value(offset)? };
    if !offset.is_multiple_of(GRANULARITY) {
        return Err(MAPPED_ALIGNMENT.into());
    }
    let at: u64 = memory::read_value(base)?;
    let (section, _) = nt_object::reference_by_handle(section, Some(SECTION.block()))?;
    // Nobody chooses where.
    let outcome = if at == 0 { map_into(section, base, offset, size) } else { Err(CONFLICTING_ADDRESSES.into()) };
    nt_object::dereference(section);
    outcome
}

unsafe extern "win64" fn zw_create_section(
    handle: u64,
    access: u32,
    attributes: u64,
    size: u64,
    _protection: u32,
    allocation: u32,
    file: Handle,
) -> NtStatus {
    finish(create_section(handle, access, attributes, size, allocation, file))
}

#[allow(clippy::too_many_arguments, reason = "NT's signature")]
unsafe extern "win64" fn zw_map_view_of_section(
    section: Handle,
    process: Handle,
    base: u64,
    _zero_bits: u64,
    _commit: u64,
    offset: u64,
    size: u64,
    _inherit: u32,
    _allocation: u32,
    _protection: u32,
) -> NtStatus {
    finish(map_view(section, process, base, offset, size))
}

unsafe extern "win64" fn zw_unmap_view_of_section(process: Handle, base: u64) -> NtStatus {
    match process::by_handle(process) {
        Ok(process) => {
            nt_object::dereference(process);
            unmap(base)
        }
        Err(status) => status,
    }
}

/// Takes the section's object, not a handle.
unsafe extern "win64" fn mm_map_view_in_system_space(section: u64, base: u64, size: u64) -> NtStatus {
    if !nt_object::type_of(section).is_some_and(|kind| ptr::eq(kind, &SECTION)) {
        return NtStatus::INVALID_PARAMETER_1;
    }
    finish(map_into(section, base, 0, size))
}

unsafe extern "win64" fn mm_unmap_view_in_system_space(base: u64) -> NtStatus {
    unmap(base)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::service;

    const CURRENT_PROCESS: u64 = u64::MAX;

    fn create(bytes: u64, allocation: u32) -> (NtStatus, u64) {
        let mut handle = 0u64;
        let places = [&raw mut handle as u64, &raw const bytes as u64];
        let status = service("ZwCreateSection").call(&[places[0], 0xF001F, 0, places[1], 4, u64::from(allocation), 0]);
        (status, handle)
    }

    fn map(handle: u64, offset: u64, size: u64) -> (NtStatus, u64, u64) {
        let (mut base, mut size) = (0u64, size);
        let places = [&raw mut base as u64, &raw const offset as u64, &raw mut size as u64];
        let arguments = [handle, CURRENT_PROCESS, places[0], 0, 0, places[1], places[2], 2, 0, 4];
        (service("ZwMapViewOfSection").call(&arguments), base, size)
    }

    fn unmap(base: u64) -> NtStatus {
        service("ZwUnmapViewOfSection").call(&[CURRENT_PROCESS, base])
    }

    #[test]
    fn views_of_a_section_show_the_same_zeroed_memory_until_the_last_is_unmapped() {
        let (status, handle) = create(0x1_8000, section_flags::COMMIT);
        assert_eq!(status, NtStatus::SUCCESS);
        let (first, second) = (map(handle, 0, 0), map(handle, GRANULARITY, 100));
        assert_eq!((first.0, first.2), (NtStatus::SUCCESS, 0x1_8000));
        assert_eq!((second.0, second.2), (NtStatus::SUCCESS, PAGE as u64));
        assert_eq!(service("ZwClose").call(&[handle]), NtStatus::SUCCESS);
        // SAFETY: mapped views.
        unsafe {
            let (through_first, through_second) = ((first.1 + GRANULARITY) as *mut u8, second.1 as *mut u8);
            assert_eq!(*through_second, 0);
            *through_first = 7;
            assert_eq!(*through_second, 7);
        }
        assert_eq!(unmap(first.1 + 5), NtStatus::SUCCESS, "any address of the view will do");
        assert!(pool::find(first.1).is_some(), "the other view keeps the section");
        assert_eq!(unmap(second.1), NtStatus::SUCCESS);
        assert!(pool::find(first.1).is_none());
        assert_eq!(unmap(second.1), NOT_MAPPED_VIEW);
    }

    #[test]
    fn sections_and_views_that_cannot_be_are_refused() {
        assert_eq!(create(0, section_flags::COMMIT).0, NtStatus::INVALID_PARAMETER_4);
        assert_eq!(create(10, 0).0, INVALID_PARAMETER_6);
        assert_eq!(create(10, section_flags::IMAGE).0, INVALID_FILE_FOR_SECTION);
        let (_, handle) = create(10, section_flags::COMMIT);
        assert_eq!(map(handle, 0x1000, 0).0, MAPPED_ALIGNMENT);
        assert_eq!(map(handle, GRANULARITY, 0).0, INVALID_VIEW_SIZE);
        assert_eq!(map(handle, 0, 0x1001).0, INVALID_VIEW_SIZE);
        assert_eq!(map(0x1234, 0, 0).0, NtStatus::INVALID_HANDLE);
        assert_eq!(service("ZwClose").call(&[handle]), NtStatus::SUCCESS);
    }
}
