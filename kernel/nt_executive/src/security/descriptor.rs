//! Security descriptors and access control lists.

use std::ptr;

use gate::memory::put;
use nt_abi::NtStatus;

use super::sid;

gate::exports! {
    /// Descriptors and lists.
    pub static TABLE in "ntoskrnl.exe";
    "RtlCreateSecurityDescriptor" = rtl_create_security_descriptor(descriptor: *mut Descriptor, revision: u32) -> NtStatus, rules "K-177";
    "RtlValidSecurityDescriptor" = rtl_valid_security_descriptor(descriptor: *const Descriptor) -> u8, rules "K-177";
    "RtlLengthSecurityDescriptor" = rtl_length_security_descriptor(descriptor: *const Descriptor) -> u32, rules "K-177";
    "RtlSetDaclSecurityDescriptor" = rtl_set_dacl_security_descriptor(descriptor: *mut Descriptor, present: u8, dacl: u64, defaulted: u8) -> NtStatus, rules "K-177";
    "RtlGetDaclSecurityDescriptor" = rtl_get_dacl_security_descriptor(descriptor: *const Descriptor, present: *mut u8, dacl: *mut u64, defaulted: *mut u8) -> NtStatus, rules "K-177";
    "RtlSetOwnerSecurityDescriptor" = rtl_set_owner_security_descriptor(descriptor: *mut Descriptor, owner: u64, defaulted: u8) -> NtStatus, rules "K-177";
    "RtlGetOwnerSecurityDescriptor" = rtl_get_owner_security_descriptor(descriptor: *const Descriptor, owner: *mut u64, defaulted: *mut u8) -> NtStatus, rules "K-177";
    "RtlSetGroupSecurityDescriptor" = rtl_set_group_security_descriptor(descriptor: *mut Descriptor, group: u64, defaulted: u8) -> NtStatus, rules "K-177";
    "RtlGetGroupSecurityDescriptor" = rtl_get_group_security_descriptor(descriptor: *const Descriptor, group: *mut u64, defaulted: *mut u8) -> NtStatus, rules "K-177";
    "RtlAbsoluteToSelfRelativeSD" = rtl_absolute_to_self_relative_sd(absolute: *const Descriptor, relative: *mut u8, room: *mut u32) -> NtStatus, rules "K-177";
    "RtlCreateAcl" = rtl_create_acl(acl: *mut Acl, bytes: u32, revision: u32) -> NtStatus, rules "K-177";
    "RtlAddAccessAllowedAce" = rtl_add_access_allowed_ace(acl: *mut Acl, revision: u32, mask: u32, sid: *const u8) -> NtStatus, rules "K-177";
    "RtlAddAccessAllowedAceEx" = rtl_add_access_allowed_ace_ex(acl: *mut Acl, revision: u32, flags: u32, mask: u32, sid: *const u8) -> NtStatus, rules "K-177";
    "RtlAddAce" = rtl_add_ace(acl: *mut Acl, revision: u32, index: u32, list: *const u8, bytes: u32) -> NtStatus, rules "K-177";
    "RtlDeleteAce" = rtl_delete_ace(acl: *mut Acl, index: u32) -> NtStatus, rules "K-177";
    "SeValidSecurityDescriptor" = se_valid_security_descriptor(bytes: u32, descriptor: *const u8) -> u8, rules "K-177";
    "RtlGetAce" = rtl_get_ace(acl: *const Acl, index: u32, ace: *mut *const u8) -> NtStatus, rules "K-177";
}

/// `SECURITY_DESCRIPTOR` in absolute form.
#[doc(alias = "SECURITY_DESCRIPTOR")]
#[derive(Debug)]
#[repr(C)]
pub struct Descriptor {
    revision: u8,
    _sbz: u8,
    control: u16,
    _pad: u32,
    owner: u64,
    group: u64,
    sacl: u64,
    dacl: u64,
}

const _: () = assert!(size_of::<Descriptor>() == 0x28);

/// `ACL`; its entries follow.
#[doc(alias = "ACL")]
#[derive(Debug)]
#[repr(C)]
pub struct Acl {
    revision: u8,
    _sbz: u8,
    bytes: u16,
    count: u16,
    _sbz2: u16,
}

const _: () = assert!(size_of::<Acl>() == 8);

pub(super) const REVISION: u8 = 1;
/// Bytes of a self-relative descriptor's head: the four parts as offsets of 32 bits.
pub(super) const RELATIVE_BYTES: usize = 20;

/// Bits of `control`.
pub(super) mod control {
    pub const OWNER_DEFAULTED: u16 = 0x1;
    pub const GROUP_DEFAULTED: u16 = 0x2;
    pub const DACL_PRESENT: u16 = 0x4;
    pub const DACL_DEFAULTED: u16 = 0x8;
    pub const SACL_PRESENT: u16 = 0x10;
    pub const SACL_DEFAULTED: u16 = 0x20;
    pub const SELF_RELATIVE: u16 = 0x8000;
}

// All pointers of this module are the driver's; a bad one faults and is blamed on it. That is what every SAFETY note
// below refers to.

/// A descriptor's four parts, of either form; 0 for one that is missing.
pub(super) struct Parts {
    pub owner: u64,
    pub group: u64,
    pub sacl: u64,
    pub dacl: u64,
}

impl Parts {
    pub(super) unsafe fn control(descriptor: *const Descriptor) -> u16 {
        // SAFETY: the driver's descriptor.
        unsafe { (*descriptor).control }
    }

    pub(super) unsafe fn of(descriptor: *const Descriptor) -> Self {
        // SAFETY: the driver's descriptor.
        unsafe {
            let has = |bit: u16| (*descriptor).control & bit != 0;
            let (owner, group, sacl, dacl) = if has(control::SELF_RELATIVE) {
                let offsets = descriptor.cast::<u32>();
                let part = |index: usize| match offsets.add(index).read_unaligned() {
                    0 => 0,
                    offset => descriptor as u64 + u64::from(offset),
                };
                (part(1), part(2), part(3), part(4))
            } else {
                ((*descriptor).owner, (*descriptor).group, (*descriptor).sacl, (*descriptor).dacl)
            };
            Self {
                owner,
                group,
                sacl: if has(control::SACL_PRESENT) { sacl } else { 0 },
                dacl: if has(control::DACL_PRESENT) { dacl } else { 0 },
            }
        }
    }
}

pub(super) unsafe fn sid_bytes(sid: u64) -> usize {
    // SAFETY: the driver's identifier.
    if sid == 0 { 0 } else { sid::length(unsafe { *((sid + 1) as *const u8) }).next_multiple_of(4) }
}

pub(super) unsafe fn acl_bytes(acl: u64) -> usize {
    // SAFETY: the driver's list.
    if acl == 0 { 0 } else { usize::from(unsafe { (*(acl as *const Acl)).bytes }).next_multiple_of(4) }
}

unsafe extern "win64" fn rtl_create_security_descriptor(descriptor: *mut Descriptor, revision: u32) -> NtStatus {
    if revision != REVISION.into() {
        return NtStatus::UNKNOWN_REVISION;
    }
    // SAFETY: the driver's descriptor.
    unsafe {
        descriptor.write(Descriptor {
            revision: REVISION,
            _sbz: 0,
            control: 0,
            _pad: 0,
            owner: 0,
            group: 0,
            sacl: 0,
            dacl: 0,
        });
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn rtl_valid_security_descriptor(descriptor: *const Descriptor) -> u8 {
    // SAFETY: the driver's descriptor and its parts.
    unsafe { is_valid(descriptor) }.into()
}

pub(super) unsafe fn is_valid(descriptor: *const Descriptor) -> bool {
    // SAFETY: the driver's descriptor and its parts.
    unsafe {
        if descriptor.is_null() || (*descriptor).revision != REVISION {
            return false;
        }
        let parts = Parts::of(descriptor);
        let valid_sid = |sid: u64| sid == 0 || sid::is_valid(sid as *const u8);
        let valid_acl = |acl: u64| acl == 0 || (2..=4).contains(&(*(acl as *const Acl)).revision);
        valid_sid(parts.owner) && valid_sid(parts.group) && valid_acl(parts.sacl) && valid_acl(parts.dacl)
    }
}

unsafe extern "win64" fn rtl_length_security_descriptor(descriptor: *const Descriptor) -> u32 {
    // SAFETY: the driver's descriptor and its parts.
    unsafe {
        let relative = (*descriptor).control & control::SELF_RELATIVE != 0;
        let head = if relative { RELATIVE_BYTES } else { size_of::<Descriptor>() };
        let parts = Parts::of(descriptor);
        let rest = sid_bytes(parts.owner) + sid_bytes(parts.group) + acl_bytes(parts.sacl) + acl_bytes(parts.dacl);
        (head + rest) as u32
    }
}

/// Checks that a descriptor's parts may be set.
unsafe fn settable(descriptor: *const Descriptor) -> Result<(), NtStatus> {
    // SAFETY: the driver's descriptor.
    unsafe {
        if (*descriptor).revision != REVISION {
            return Err(NtStatus::UNKNOWN_REVISION);
        }
        if (*descriptor).control & control::SELF_RELATIVE != 0 {
            return Err(NtStatus::INVALID_SECURITY_DESCR);
        }
    }
    Ok(())
}

unsafe fn mark(descriptor: *mut Descriptor, bit: u16, on: bool) {
    // SAFETY: the driver's descriptor.
    unsafe {
        let control = (*descriptor).control;
        (*descriptor).control = if on { control | bit } else { control & !bit };
    }
}

unsafe extern "win64" fn rtl_set_dacl_security_descriptor(
    descriptor: *mut Descriptor,
    present: u8,
    dacl: u64,
    defaulted: u8,
) -> NtStatus {
    // SAFETY: the driver's descriptor.
    unsafe {
        if let Err(status) = settable(descriptor) {
            return status;
        }
        mark(descriptor, control::DACL_PRESENT, present != 0);
        if present != 0 {
            (*descriptor).dacl = dacl;
            mark(descriptor, control::DACL_DEFAULTED, defaulted != 0);
        }
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn rtl_get_dacl_security_descriptor(
    descriptor: *const Descriptor,
    present: *mut u8,
    dacl: *mut u64,
    defaulted: *mut u8,
) -> NtStatus {
    // SAFETY: the driver's descriptor and results.
    unsafe {
        if (*descriptor).revision != REVISION {
            return NtStatus::UNKNOWN_REVISION;
        }
        let control = (*descriptor).control;
        let is_present = control & control::DACL_PRESENT != 0;
        present.write(is_present.into());
        if is_present {
            put(dacl, Parts::of(descriptor).dacl);
            defaulted.write((control & control::DACL_DEFAULTED != 0).into());
        }
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn rtl_set_owner_security_descriptor(
    descriptor: *mut Descriptor,
    owner: u64,
    defaulted: u8,
) -> NtStatus {
    // SAFETY: the driver's descriptor.
    unsafe {
        if let Err(status) = settable(descriptor) {
            return status;
        }
        (*descriptor).owner = owner;
        mark(descriptor, control::OWNER_DEFAULTED, defaulted != 0);
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn rtl_get_owner_security_descriptor(
    descriptor: *const Descriptor,
    owner: *mut u64,
    defaulted: *mut u8,
) -> NtStatus {
    // SAFETY: the driver's descriptor and results.
    unsafe {
        if (*descriptor).revision != REVISION {
            return NtStatus::UNKNOWN_REVISION;
        }
        put(owner, Parts::of(descriptor).owner);
        defaulted.write(((*descriptor).control & control::OWNER_DEFAULTED != 0).into());
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn rtl_set_group_security_descriptor(
    descriptor: *mut Descriptor,
    group: u64,
    defaulted: u8,
) -> NtStatus {
    // SAFETY: the driver's descriptor.
    unsafe {
        if let Err(status) = settable(descriptor) {
            return status;
        }
        (*descriptor).group = group;
        mark(descriptor, control::GROUP_DEFAULTED, defaulted != 0);
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn rtl_get_group_security_descriptor(
    descriptor: *const Descriptor,
    group: *mut u64,
    defaulted: *mut u8,
) -> NtStatus {
    // SAFETY: the driver's descriptor and results.
    unsafe {
        if (*descriptor).revision != REVISION {
            return NtStatus::UNKNOWN_REVISION;
        }
        put(group, Parts::of(descriptor).group);
        defaulted.write(((*descriptor).control & control::GROUP_DEFAULTED != 0).into());
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn rtl_absolute_to_self_relative_sd(
    absolute: *const Descriptor,
    relative: *mut u8,
    room: *mut u32,
) -> NtStatus {
    // SAFETY: the driver's descriptor, buffer and length.
    unsafe {
        if (*absolute).control & control::SELF_RELATIVE != 0 {
            return NtStatus::BAD_DESCRIPTOR_FORMAT;
        }
        let parts = Parts::of(absolute);
        // In the order Windows lays them out: lists first, then identifiers.
        let sized = [
            (4, parts.dacl, acl_bytes(parts.dacl)),
            (3, parts.sacl, acl_bytes(parts.sacl)),
            (1, parts.owner, sid_bytes(parts.owner)),
            (2, parts.group, sid_bytes(parts.group)),
        ];
        let needed = RELATIVE_BYTES + sized.iter().map(|(_, _, bytes)| bytes).sum::<usize>();
        let given = room.read_unaligned() as usize;
        put(room, needed as u32);
        if given < needed {
            return NtStatus::BUFFER_TOO_SMALL;
        }
        relative.write_bytes(0, needed);
        relative.write(REVISION);
        relative.add(2).cast::<u16>().write_unaligned((*absolute).control | control::SELF_RELATIVE);
        let mut end = RELATIVE_BYTES;
        for (index, part, bytes) in sized {
            if part != 0 {
                relative.cast::<u32>().add(index).write_unaligned(end as u32);
                ptr::copy(part as *const u8, relative.add(end), bytes);
                end += bytes;
            }
        }
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn rtl_create_acl(acl: *mut Acl, bytes: u32, revision: u32) -> NtStatus {
    if (bytes as usize) < size_of::<Acl>() {
        return NtStatus::BUFFER_TOO_SMALL;
    }
    let Ok(bytes) = u16::try_from(bytes & !3) else { return NtStatus::INVALID_PARAMETER };
    if !(2..=4).contains(&revision) {
        return NtStatus::INVALID_PARAMETER;
    }
    // SAFETY: the driver's list.
    unsafe { acl.write(Acl { revision: revision as u8, _sbz: 0, bytes, count: 0, _sbz2: 0 }) };
    NtStatus::SUCCESS
}

/// Where the entry at an index begins, counted from the list; `None` if the list does not hold it.
unsafe fn entry(acl: *const Acl, index: u16) -> Option<usize> {
    let mut place = size_of::<Acl>();
    // SAFETY: the driver's list; every step stays within the length it says it has.
    unsafe {
        let end = usize::from((*acl).bytes);
        for _ in 0..index {
            if place + 4 > end {
                return None;
            }
            let bytes = acl.cast::<u8>().add(place + 2).cast::<u16>().read_unaligned();
            place += usize::from(bytes).max(4);
        }
        (place <= end).then_some(place)
    }
}

unsafe extern "win64" fn rtl_add_access_allowed_ace(
    acl: *mut Acl,
    revision: u32,
    mask: u32,
    sid: *const u8,
) -> NtStatus {
    // SAFETY: the driver's list and identifier.
    unsafe { rtl_add_access_allowed_ace_ex(acl, revision, 0, mask, sid) }
}

unsafe extern "win64" fn rtl_add_access_allowed_ace_ex(
    acl: *mut Acl,
    revision: u32,
    flags: u32,
    mask: u32,
    sid: *const u8,
) -> NtStatus {
    /// `VALID_INHERIT_FLAGS`
    const INHERITANCE: u32 = 0x1F;
    if flags & !INHERITANCE != 0 {
        return NtStatus::INVALID_PARAMETER;
    }
    // SAFETY: the driver's list and identifier.
    unsafe {
        if *sid & 0xF != 1 || *sid.add(1) > 15 {
            return NtStatus::INVALID_SID;
        }
        if u32::from((*acl).revision) > 4 || revision > 4 {
            return NtStatus::REVISION_MISMATCH;
        }
        let Some(place) = entry(acl, (*acl).count) else { return NtStatus::INVALID_ACL };
        let sid_bytes = sid::length(*sid.add(1));
        let bytes = 8 + sid_bytes;
        if place + bytes > (*acl).bytes.into() {
            return NtStatus::ALLOTTED_SPACE_EXCEEDED;
        }
        let into = acl.cast::<u8>().add(place);
        // ACCESS_ALLOWED_ACE_TYPE is 0; the flags follow.
        into.cast::<u16>().write_unaligned((flags << 8) as u16);
        into.add(2).cast::<u16>().write_unaligned(bytes as u16);
        into.add(4).cast::<u32>().write_unaligned(mask);
        ptr::copy(sid, into.add(8), sid_bytes);
        (*acl).count += 1;
        (*acl).revision = (*acl).revision.max(revision as u8);
    }
    NtStatus::SUCCESS
}

/// How many entries a run of them holds; `None` if they do not end with it.
unsafe fn count_entries(list: *const u8, bytes: usize) -> Option<u16> {
    let (mut place, mut count) = (0, 0);
    while place < bytes {
        if bytes - place < 4 {
            return None;
        }
        // SAFETY: the driver's entries; the head lies within them.
        let size = usize::from(unsafe { list.add(place + 2).cast::<u16>().read_unaligned() });
        if size < 4 {
            return None;
        }
        place += size;
        count += 1;
    }
    (place == bytes).then_some(count)
}

/// Puts entries in front of the one at an index, or behind all (`MAXULONG`, and whatever is too high).
unsafe extern "win64" fn rtl_add_ace(
    acl: *mut Acl,
    revision: u32,
    index: u32,
    list: *const u8,
    bytes: u32,
) -> NtStatus {
    // SAFETY: the driver's list and entries.
    unsafe {
        let (count, bytes) = ((*acl).count, bytes as usize);
        let (Some(end), Some(added)) = (entry(acl, count), count_entries(list, bytes)) else {
            return NtStatus::INVALID_PARAMETER;
        };
        if !(2..=4).contains(&(*acl).revision) || revision > 4 {
            return NtStatus::INVALID_PARAMETER;
        }
        if end + bytes > (*acl).bytes.into() {
            return NtStatus::BUFFER_TOO_SMALL;
        }
        let place = entry(acl, u16::try_from(index).map_or(count, |index| index.min(count))).unwrap_or(end);
        let at = acl.cast::<u8>().add(place);
        ptr::copy(at, at.add(bytes), end - place);
        ptr::copy(list, at, bytes);
        (*acl).count += added;
        (*acl).revision = (*acl).revision.max(revision as u8);
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn rtl_delete_ace(acl: *mut Acl, index: u32) -> NtStatus {
    // SAFETY: the driver's list.
    unsafe {
        let count = (*acl).count;
        if index >= count.into() {
            return NtStatus::INVALID_PARAMETER;
        }
        let index = index as u16;
        let places = (entry(acl, index), entry(acl, index + 1), entry(acl, count));
        let (Some(place), Some(next), Some(end)) = places else { return NtStatus::INVALID_PARAMETER };
        let list = acl.cast::<u8>();
        ptr::copy(list.add(next), list.add(place), end - next);
        list.add(place + end - next).write_bytes(0, next - place);
        (*acl).count -= 1;
    }
    NtStatus::SUCCESS
}

/// Whether this is a self-relative descriptor whose parts lie within its bytes. It has an owner.
unsafe extern "win64" fn se_valid_security_descriptor(bytes: u32, descriptor: *const u8) -> u8 {
    let bytes = bytes as usize;
    if bytes < RELATIVE_BYTES {
        return 0;
    }
    // SAFETY: the driver's descriptor, of which no more is read than it says that there is.
    unsafe {
        let control = descriptor.add(2).cast::<u16>().read_unaligned();
        if *descriptor != REVISION || control & control::SELF_RELATIVE == 0 {
            return 0;
        }
        let offset = |index: usize| descriptor.cast::<u32>().add(index).read_unaligned() as usize;
        let has = |at: usize, head: usize| at.is_multiple_of(4) && at >= RELATIVE_BYTES && at + head <= bytes;
        let is_sid = |at: usize| {
            let sid = descriptor.wrapping_add(at);
            has(at, 8) && sid::is_valid(sid) && has(at, sid::length(*sid.add(1)))
        };
        let is_acl = |at: usize| {
            let acl = descriptor.wrapping_add(at).cast::<Acl>();
            let holds = |acl: *const Acl| {
                let size = usize::from((*acl).bytes);
                (2..=4).contains(&(*acl).revision)
                    && size >= size_of::<Acl>()
                    && has(at, size)
                    && entry(acl, (*acl).count).is_some()
            };
            has(at, size_of::<Acl>()) && holds(acl)
        };
        let optional = |at: usize, is: &dyn Fn(usize) -> bool| at == 0 || is(at);
        let list = |bit: u16, index: usize| control & bit == 0 || optional(offset(index), &is_acl);
        (is_sid(offset(1))
            && optional(offset(2), &is_sid)
            && list(control::SACL_PRESENT, 3)
            && list(control::DACL_PRESENT, 4))
        .into()
    }
}

unsafe extern "win64" fn rtl_get_ace(acl: *const Acl, index: u32, ace: *mut *const u8) -> NtStatus {
    // SAFETY: the driver's list and result.
    unsafe {
        if index >= (*acl).count.into() {
            return NtStatus::INVALID_PARAMETER;
        }
        match entry(acl, index as u16) {
            Some(place) => {
                put(ace, acl.cast::<u8>().add(place));
                NtStatus::SUCCESS
            }
            None => NtStatus::INVALID_PARAMETER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_added_until_the_list_is_full() {
        let mut room = [0u32; 12];
        let acl = room.as_mut_ptr().cast::<Acl>();
        let (system, administrators) = (sid::system(), sid::administrators());
        // SAFETY: a list of this test.
        unsafe {
            assert_eq!(rtl_create_acl(acl, 48, 2), NtStatus::SUCCESS);
            assert_eq!(rtl_add_access_allowed_ace(acl, 2, 0x1F, system.as_ptr()), NtStatus::SUCCESS);
            let full = rtl_add_access_allowed_ace(acl, 2, 1, administrators.as_ptr());
            assert_eq!(full, NtStatus::ALLOTTED_SPACE_EXCEEDED, "8 + 20 of 48 bytes are taken, 24 are wanted");
            let mut ace = ptr::null();
            assert_eq!(rtl_get_ace(acl, 0, &mut ace), NtStatus::SUCCESS);
            assert_eq!((*ace.add(2), *ace.add(4), sid::read(ace.add(8))), (20, 0x1F, system));
            assert_eq!(rtl_get_ace(acl, 1, &mut ace), NtStatus::INVALID_PARAMETER);
        }
    }

    #[test]
    fn descriptor_survives_becoming_self_relative() {
        let (owner, mut room) = (sid::administrators(), [0u32; 12]);
        let acl = room.as_mut_ptr().cast::<Acl>();
        let mut relative = [0u32; 32];
        // SAFETY: structures of this test.
        unsafe {
            rtl_create_acl(acl, 48, 2);
            rtl_add_access_allowed_ace(acl, 2, 7, sid::system().as_ptr());
            let mut descriptor: Descriptor = std::mem::zeroed();
            assert_eq!(rtl_create_security_descriptor(&mut descriptor, 2), NtStatus::UNKNOWN_REVISION);
            assert_eq!(rtl_create_security_descriptor(&mut descriptor, 1), NtStatus::SUCCESS);
            rtl_set_owner_security_descriptor(&mut descriptor, owner.as_ptr() as u64, 0);
            rtl_set_dacl_security_descriptor(&mut descriptor, 1, acl as u64, 0);
            assert_eq!(rtl_length_security_descriptor(&descriptor), 0x28 + 16 + 48);
            let (into, mut bytes) = (relative.as_mut_ptr().cast::<u8>(), 83);
            assert_eq!(rtl_absolute_to_self_relative_sd(&descriptor, into, &mut bytes), NtStatus::BUFFER_TOO_SMALL);
            assert_eq!(bytes, 84);
            assert_eq!(rtl_absolute_to_self_relative_sd(&descriptor, into, &mut bytes), NtStatus::SUCCESS);
            let made = into.cast::<Descriptor>().cast_const();
            assert_eq!((rtl_valid_security_descriptor(made), rtl_length_security_descriptor(made)), (1, 84));
            let (mut found, mut defaulted) = (0u64, 9);
            rtl_get_owner_security_descriptor(made, &mut found, &mut defaulted);
            assert_eq!((sid::read(found as *const u8), defaulted), (owner, 0));
            let status = rtl_set_owner_security_descriptor(made.cast_mut(), 0, 0);
            assert_eq!(status, NtStatus::INVALID_SECURITY_DESCR);
        }
    }
}
