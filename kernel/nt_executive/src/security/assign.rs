//! Security descriptors as objects have them: made from an explicit one, a parent's and the creator's defaults, and set
//! on objects part by part.
//!
//! The creator is the local system account always, whatever subject is named. What is set on an object is told again by
//! its address or handle, and nobody is refused by it. Generic rights in what is set on an object stay generic: which
//! rights they stand for is known of none of the types here.

use gate::memory;
use nt_abi::{Handle, NtStatus};

use super::descriptor::{Descriptor, Parts, RELATIVE_BYTES, REVISION, acl_bytes, control, is_valid, sid_bytes};
use super::sid;
use crate::pool::{self, Kind};
use crate::raise::{Failure, finish};
use crate::rtl::map_generic;

gate::exports! {
    /// Descriptors of new objects and of those there are.
    pub static TABLE in "ntoskrnl.exe";
    "SeAssignSecurity" = se_assign_security(parent: *const Descriptor, explicit: *const Descriptor, new: u64, is_directory: u8, subject: u64, mapping: u64, pool_type: u32) -> NtStatus, irql <= PASSIVE, rules "K-177";
    "SeAssignSecurityEx" = se_assign_security_ex(parent: *const Descriptor, explicit: *const Descriptor, new: u64, object_type: u64, is_directory: u8, flags: u32, subject: u64, mapping: u64, pool_type: u32) -> NtStatus, irql <= PASSIVE, rules "K-177";
    "SeDeassignSecurity" = se_deassign_security(descriptor: u64) -> NtStatus, irql <= PASSIVE, rules "K-177";
    "ObSetSecurityObjectByPointer" = ob_set_security_object_by_pointer(object: u64, parts: u32, descriptor: *const Descriptor) -> NtStatus, irql <= PASSIVE, rules "K-177";
    "ObGetObjectSecurity" = ob_get_object_security(object: u64, descriptor: u64, is_allocated: u64) -> NtStatus, irql <= PASSIVE, rules "K-177";
    "ObReleaseObjectSecurity" = ob_release_object_security(descriptor: u64, is_allocated: u8), irql <= PASSIVE, rules "K-177";
    "ZwQuerySecurityObject" | "NtQuerySecurityObject" = zw_query_security_object(handle: Handle, parts: u32, buffer: u64, length: u32, needed: u64) -> NtStatus, irql <= PASSIVE, rules "K-177";
    "ZwSetSecurityObject" | "NtSetSecurityObject" = zw_set_security_object(handle: Handle, parts: u32, descriptor: *const Descriptor) -> NtStatus, irql <= PASSIVE, rules "K-177";
}

const TAG: pool::Tag = u32::from_le_bytes(*b"SeSd");

/// Bits of `SECURITY_INFORMATION`.
mod part {
    pub const OWNER: u32 = 1;
    pub const GROUP: u32 = 2;
    pub const DACL: u32 = 4;
    pub const SACL: u32 = 8;
}

/// `SEF_DACL_AUTO_INHERIT` and `SEF_SACL_AUTO_INHERIT`.
const AUTO_INHERIT: [u32; 2] = [1, 2];

/// A descriptor, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Security {
    owner: Option<Vec<u8>>,
    group: Option<Vec<u8>>,
    dacl: List,
    sacl: List,
}

/// A list of a descriptor, with what the descriptor's `control` says about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct List {
    is_present: bool,
    is_defaulted: bool,
    /// Nothing is inherited besides.
    is_protected: bool,
    is_auto_inherited: bool,
    /// `None` in a present one is the null list, which grants everything.
    acl: Option<Vec<u8>>,
}

/// The bits of `control` for a list: present, defaulted, auto-inherited, protected.
type Bits = [u16; 4];

const DACL: Bits = [control::DACL_PRESENT, control::DACL_DEFAULTED, 0x400, 0x1000];
const SACL: Bits = [control::SACL_PRESENT, control::SACL_DEFAULTED, 0x800, 0x2000];

impl List {
    fn new(control: u16, [present, defaulted, auto_inherited, protected]: Bits, acl: Option<Vec<u8>>) -> Self {
        let has = |bit: u16| control & bit != 0;
        Self {
            is_present: has(present),
            is_defaulted: has(defaulted),
            is_protected: has(protected),
            is_auto_inherited: has(auto_inherited),
            acl,
        }
    }

    fn control(&self, [present, defaulted, auto_inherited, protected]: Bits) -> u16 {
        let bit = |is_set: bool, bit: u16| if is_set { bit } else { 0 };
        bit(self.is_present, present)
            | bit(self.is_defaulted, defaulted)
            | bit(self.is_auto_inherited, auto_inherited)
            | bit(self.is_protected, protected)
    }
}

impl Security {
    /// # Safety
    /// A descriptor that can be read with its parts, in either form.
    unsafe fn read(descriptor: *const Descriptor) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let (parts, control) = (Parts::of(descriptor), Parts::control(descriptor));
            let copy =
                |at: u64, bytes: usize| (at != 0).then(|| std::slice::from_raw_parts(at as *const u8, bytes).to_vec());
            Self {
                owner: copy(parts.owner, sid_bytes(parts.owner)),
                group: copy(parts.group, sid_bytes(parts.group)),
                dacl: List::new(control, DACL, copy(parts.dacl, acl_bytes(parts.dacl))),
                sacl: List::new(control, SACL, copy(parts.sacl, acl_bytes(parts.sacl))),
            }
        }
    }

    /// The driver's descriptor, checked; `None` for a null pointer.
    ///
    /// # Safety
    /// What drivers pass is theirs to answer for; a bad pointer faults and is blamed on them.
    unsafe fn of_driver(descriptor: *const Descriptor) -> Result<Option<Self>, NtStatus> {
        if descriptor.is_null() {
            return Ok(None);
        }
        // SAFETY: the caller's promise.
        unsafe {
            if !is_valid(descriptor) {
                return Err(NtStatus::INVALID_SECURITY_DESCR);
            }
            Ok(Some(Self::read(descriptor)))
        }
    }

    /// What was set on an object, or what it has from its creation.
    fn of_object(body: u64) -> Self {
        nt_object::descriptor(body).map_or_else(Self::at_first, |bytes| Self::from_relative(&bytes))
    }

    /// That of an object which nothing was set on.
    fn at_first() -> Self {
        assign(None, None, false, None, [false; 2])
    }

    fn from_relative(bytes: &[u8]) -> Self {
        // Where a descriptor may lie.
        let mut words = vec![0u64; bytes.len().div_ceil(8)];
        // SAFETY: `to_relative` has made it; the words are at least as many bytes.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), words.as_mut_ptr().cast(), bytes.len());
            Self::read(words.as_ptr().cast())
        }
    }

    /// In self-relative form, laid out as `RtlAbsoluteToSelfRelativeSD` does.
    fn to_relative(&self) -> Vec<u8> {
        const HEAD_OFFSETS: [usize; 4] = [16, 12, 4, 8];
        let mut bytes = vec![0; RELATIVE_BYTES];
        let control = self.dacl.control(DACL) | self.sacl.control(SACL) | control::SELF_RELATIVE;
        bytes[0] = REVISION;
        bytes[2..4].copy_from_slice(&control.to_le_bytes());
        for (at, part) in HEAD_OFFSETS.into_iter().zip([&self.dacl.acl, &self.sacl.acl, &self.owner, &self.group]) {
            if let Some(part) = part {
                let offset = bytes.len() as u32;
                bytes[at..at + 4].copy_from_slice(&offset.to_le_bytes());
                bytes.extend(part);
                bytes.resize(bytes.len().next_multiple_of(4), 0);
            }
        }
        bytes
    }

    /// Takes on the named parts of another.
    fn take_parts(&mut self, parts: u32, from: &Self) -> Result<(), NtStatus> {
        if parts & part::OWNER != 0 {
            self.owner = Some(from.owner.clone().ok_or(NtStatus::INVALID_OWNER)?);
        }
        if parts & part::GROUP != 0 {
            self.group = Some(from.group.clone().ok_or(NtStatus::INVALID_PRIMARY_GROUP)?);
        }
        if parts & part::DACL != 0 {
            self.dacl = from.dacl.clone();
        }
        if parts & part::SACL != 0 {
            self.sacl = from.sacl.clone();
        }
        Ok(())
    }

    /// Only the named parts.
    fn only(&self, parts: u32) -> Self {
        let mut only = Self::default();
        // Parts that are not there are left out.
        let there = |bit: u32, is_there: bool| if is_there { bit } else { 0 };
        let present = there(part::OWNER, self.owner.is_some()) | there(part::GROUP, self.group.is_some());
        let _ = only.take_parts(parts & (present | part::DACL | part::SACL), self);
        only
    }
}

/// What an entry's flags say of inheritance.
mod flag {
    pub const FOR_OBJECTS: u8 = 1;
    pub const FOR_CONTAINERS: u8 = 2;
    pub const NO_PROPAGATE: u8 = 4;
    pub const INHERIT_ONLY: u8 = 8;
    pub const INHERITED: u8 = 0x10;
    pub const ALL: u8 = 0x1F;
}

/// Bytes in front of an entry's identifier, of the types that are an access mask and an identifier.
const MASK_AND_SID: usize = 8;

/// The entries of a list, as far as they lie within it.
fn entries(acl: &[u8]) -> Vec<&[u8]> {
    let count = acl.get(4..6).map_or(0, |count| u16::from_le_bytes([count[0], count[1]]));
    let mut rest = acl.get(8..).unwrap_or_default();
    let mut entries = Vec::new();
    for _ in 0..count {
        let Some(bytes) = rest.get(2..4) else { break };
        let bytes = usize::from(u16::from_le_bytes([bytes[0], bytes[1]])).max(4);
        let Some((entry, behind)) = rest.split_at_checked(bytes) else { break };
        entries.push(entry);
        rest = behind;
    }
    entries
}

/// A list of these entries.
fn list_of(entries: &[Vec<u8>]) -> Vec<u8> {
    const ACL_REVISION: u8 = 2;
    let bytes = (8 + entries.iter().map(Vec::len).sum::<usize>()) as u16;
    let ([bytes_low, bytes_high], [count_low, count_high]) =
        (bytes.to_le_bytes(), (entries.len() as u16).to_le_bytes());
    let head = vec![ACL_REVISION, 0, bytes_low, bytes_high, count_low, count_high, 0, 0];
    entries.iter().fold(head, |mut all, entry| {
        all.extend(entry);
        all
    })
}

/// An entry that allows.
fn allow(mask: u32, sid: &[u8]) -> Vec<u8> {
    let mut entry = vec![0, 0];
    entry.extend(((MASK_AND_SID + sid.len()) as u16).to_le_bytes());
    entry.extend(mask.to_le_bytes());
    entry.extend(sid);
    entry
}

/// Whether an entry is an access mask and an identifier: it allows, denies or audits.
fn has_mask_and_sid(entry: &[u8]) -> bool {
    entry[0] <= 3 && entry.len() >= MASK_AND_SID
}

/// An entry with generic rights replaced, unless it is only there to be inherited.
fn mapped(entry: &[u8], mapping: Option<&[u32; 4]>) -> Vec<u8> {
    let mut entry = entry.to_vec();
    if let Some(mapping) = mapping
        && has_mask_and_sid(&entry)
        && entry[1] & flag::INHERIT_ONLY == 0
    {
        let mask = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        entry[4..8].copy_from_slice(&map_generic(mask, mapping).to_le_bytes());
    }
    entry
}

/// Who makes an object, and of what kind it is.
struct Creation<'a> {
    owner: &'a [u8],
    group: &'a [u8],
    is_directory: bool,
    mapping: Option<&'a [u32; 4]>,
}

impl Creation<'_> {
    /// The entries that a parent's list gives to the new object.
    fn inherited(&self, parent: &List, mark: u8) -> Vec<Vec<u8>> {
        let entries = parent.acl.as_deref().map(entries).unwrap_or_default();
        entries.into_iter().flat_map(|entry| self.inherited_entry(entry, mark)).collect()
    }

    /// What becomes of one: an entry that is in force, one to be inherited further, both or neither.
    fn inherited_entry(&self, entry: &[u8], mark: u8) -> Vec<Vec<u8>> {
        let with_flags = |flags: u8| {
            let mut entry = entry.to_vec();
            entry[1] = entry[1] & !flag::ALL | flags | mark;
            entry
        };
        let flags = entry[1];
        let passed_on = match flags & (flag::FOR_OBJECTS | flag::FOR_CONTAINERS) {
            on if self.is_directory && flags & flag::NO_PROPAGATE == 0 => on,
            _ => 0,
        };
        let wanted = if self.is_directory { flag::FOR_CONTAINERS } else { flag::FOR_OBJECTS };
        if flags & wanted == 0 {
            let only_further = passed_on != 0;
            return only_further.then(|| with_flags(passed_on | flag::INHERIT_ONLY)).into_iter().collect();
        }
        match self.stand_in(entry) {
            None => vec![mapped(&with_flags(passed_on), self.mapping)],
            Some(sid) => {
                let mut own = with_flags(0)[..MASK_AND_SID].to_vec();
                own.extend(sid);
                let bytes = (own.len() as u16).to_le_bytes();
                own[2..4].copy_from_slice(&bytes);
                let mut all = vec![mapped(&own, self.mapping)];
                all.extend((passed_on != 0).then(|| with_flags(passed_on | flag::INHERIT_ONLY)));
                all
            }
        }
    }

    /// The owner or group, for an entry of the creator's owner (S-1-3-0) or group (S-1-3-1).
    fn stand_in(&self, entry: &[u8]) -> Option<&[u8]> {
        let sid = entry.get(MASK_AND_SID..).filter(|_| has_mask_and_sid(entry))?;
        [(0, self.owner), (1, self.group)].into_iter().find_map(|(number, is)| {
            let creator = sid::make(3, &[number]);
            sid.starts_with(&creator).then_some(is)
        })
    }

    /// The list of the new object: the explicit one, with what is inherited behind it if that is wanted; or else what is
    /// inherited; or else the default.
    fn list(&self, parent: Option<&List>, explicit: Option<&List>, auto: bool, default: Option<Vec<u8>>) -> List {
        let mark = if auto { flag::INHERITED } else { 0 };
        let inherited = parent.map(|parent| self.inherited(parent, mark)).unwrap_or_default();
        let own = explicit.filter(|list| list.is_present);
        match own {
            Some(list) if !list.is_defaulted || inherited.is_empty() => {
                let acl = list.acl.as_ref().map(|acl| {
                    let mut all: Vec<_> = entries(acl).into_iter().map(|entry| mapped(entry, self.mapping)).collect();
                    if auto && !list.is_protected {
                        all.extend(inherited);
                    }
                    list_of(&all)
                });
                List { is_auto_inherited: auto && !list.is_protected, acl, ..list.clone() }
            }
            _ if !inherited.is_empty() => {
                List { is_present: true, is_auto_inherited: auto, acl: Some(list_of(&inherited)), ..List::default() }
            }
            _ => match default {
                Some(acl) => List { is_present: true, is_defaulted: true, acl: Some(acl), ..List::default() },
                None => List::default(),
            },
        }
    }
}

/// The default list of the local system's token: everything for itself, reading and executing for administrators.
fn default_dacl(mapping: Option<&[u32; 4]>) -> Vec<u8> {
    const ALL: u32 = 0x1000_0000;
    const READ_AND_EXECUTE: u32 = 0x8000_0000 | 0x2000_0000 | READ_CONTROL;
    const READ_CONTROL: u32 = 0x2_0000;
    let own = [allow(ALL, &sid::system()), allow(READ_AND_EXECUTE, &sid::administrators())];
    list_of(&own.map(|entry| mapped(&entry, mapping)))
}

/// The descriptor of a new object. `auto` is for the discretionary and for the system list.
fn assign(
    parent: Option<&Security>,
    explicit: Option<&Security>,
    is_directory: bool,
    mapping: Option<&[u32; 4]>,
    auto: [bool; 2],
) -> Security {
    let owner = explicit.and_then(|explicit| explicit.owner.clone()).unwrap_or_else(sid::administrators);
    let group = explicit.and_then(|explicit| explicit.group.clone()).unwrap_or_else(sid::system);
    let creation = Creation { owner: &owner, group: &group, is_directory, mapping };
    let of = |pick: fn(&Security) -> &List| (parent.map(pick), explicit.map(pick));
    let ((parent_dacl, dacl), (parent_sacl, sacl)) = (of(|one| &one.dacl), of(|one| &one.sacl));
    let dacl = creation.list(parent_dacl, dacl, auto[0], Some(default_dacl(mapping)));
    let sacl = creation.list(parent_sacl, sacl, auto[1], None);
    Security { owner: Some(owner), group: Some(group), dacl, sacl }
}

/// A copy in pool for a driver.
fn in_pool(bytes: &[u8], kind: Kind) -> Result<u64, NtStatus> {
    let address =
        pool::allocate(bytes.len() as u64, TAG, kind, gate::caller()).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
    // SAFETY: a new block of that size.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), address as *mut u8, bytes.len()) };
    Ok(address)
}

/// Makes the descriptor of a new object where the driver wants it.
///
/// # Safety
/// As [`Security::of_driver`].
unsafe fn assign_to(
    [parent, explicit]: [*const Descriptor; 2],
    new: u64,
    is_directory: u8,
    flags: u32,
    mapping: u64,
    pool_type: u32,
) -> Result<NtStatus, Failure> {
    // SAFETY: the caller's promise.
    let (parent, explicit) = unsafe { (Security::of_driver(parent)?, Security::of_driver(explicit)?) };
    let mapping: [u32; 4] = memory::read_value(mapping)?;
    let auto = AUTO_INHERIT.map(|flag| flags & flag != 0);
    let made = assign(parent.as_ref(), explicit.as_ref(), is_directory != 0, Some(&mapping), auto);
    // `PagedPool` and its kin are odd.
    let address = in_pool(&made.to_relative(), if pool_type & 1 == 0 { Kind::NonPaged } else { Kind::Paged })?;
    if let Err(fault) = memory::write_value(new, address) {
        pool::free(address, Some(TAG), gate::caller());
        return Err(fault.into());
    }
    Ok(NtStatus::SUCCESS)
}

unsafe extern "win64" fn se_assign_security(
    parent: *const Descriptor,
    explicit: *const Descriptor,
    new: u64,
    is_directory: u8,
    _subject: u64,
    mapping: u64,
    pool_type: u32,
) -> NtStatus {
    // SAFETY: the driver's descriptors; see `Security::of_driver`. The same holds for every export of this module.
    finish(unsafe { assign_to([parent, explicit], new, is_directory, 0, mapping, pool_type) })
}

/// Entries for one type of object only are inherited by all.
#[allow(clippy::too_many_arguments, reason = "NT's signature")]
unsafe extern "win64" fn se_assign_security_ex(
    parent: *const Descriptor,
    explicit: *const Descriptor,
    new: u64,
    _object_type: u64,
    is_directory: u8,
    flags: u32,
    _subject: u64,
    mapping: u64,
    pool_type: u32,
) -> NtStatus {
    // SAFETY: see `se_assign_security`.
    finish(unsafe { assign_to([parent, explicit], new, is_directory, flags, mapping, pool_type) })
}

unsafe extern "win64" fn se_deassign_security(descriptor: u64) -> NtStatus {
    let deassign = || -> Result<NtStatus, Failure> {
        let address: u64 = memory::read_value(descriptor)?;
        if address != 0 {
            pool::free(address, Some(TAG), gate::caller());
            memory::write_value(descriptor, 0u64)?;
        }
        Ok(NtStatus::SUCCESS)
    };
    finish(deassign())
}

/// # Safety
/// As [`Security::of_driver`]; `object` is one that the driver holds a reference to.
unsafe fn set(object: u64, parts: u32, descriptor: *const Descriptor) -> NtStatus {
    // SAFETY: the caller's promise.
    let new = match unsafe { Security::of_driver(descriptor) } {
        Ok(Some(new)) => new,
        Ok(None) => return NtStatus::INVALID_SECURITY_DESCR,
        Err(status) => return status,
    };
    let mut outcome = Ok(());
    nt_object::change_descriptor(object, |old| {
        let before = old.map_or_else(Security::at_first, Security::from_relative);
        let mut after = before.clone();
        outcome = after.take_parts(parts, &new);
        if outcome.is_ok() { after } else { before }.to_relative()
    });
    outcome.err().unwrap_or(NtStatus::SUCCESS)
}

unsafe extern "win64" fn ob_set_security_object_by_pointer(
    object: u64,
    parts: u32,
    descriptor: *const Descriptor,
) -> NtStatus {
    // A pointer to no object ends the run here.
    nt_object::reference(object);
    // SAFETY: see `se_assign_security`.
    let status = unsafe { set(object, parts, descriptor) };
    nt_object::dereference(object);
    status
}

unsafe extern "win64" fn ob_get_object_security(object: u64, descriptor: u64, is_allocated: u64) -> NtStatus {
    nt_object::reference(object);
    let bytes = Security::of_object(object).to_relative();
    nt_object::dereference(object);
    let give = || -> Result<NtStatus, Failure> {
        memory::write_value(is_allocated, 1u8)?;
        memory::write_value(descriptor, 0u64)?;
        memory::write_value(descriptor, in_pool(&bytes, Kind::Paged)?)?;
        Ok(NtStatus::SUCCESS)
    };
    finish(give())
}

unsafe extern "win64" fn ob_release_object_security(descriptor: u64, is_allocated: u8) {
    if descriptor != 0 && is_allocated != 0 {
        pool::free(descriptor, Some(TAG), gate::caller());
    }
}

unsafe extern "win64" fn zw_query_security_object(
    handle: Handle,
    parts: u32,
    buffer: u64,
    length: u32,
    needed: u64,
) -> NtStatus {
    let query = || -> Result<NtStatus, Failure> {
        let (object, _) = nt_object::reference_by_handle(handle, None)?;
        let bytes = Security::of_object(object).only(parts).to_relative();
        nt_object::dereference(object);
        memory::write_value(needed, bytes.len() as u32)?;
        if (length as usize) < bytes.len() {
            return Ok(NtStatus::BUFFER_TOO_SMALL);
        }
        memory::write(buffer, &bytes)?;
        Ok(NtStatus::SUCCESS)
    };
    finish(query())
}

unsafe extern "win64" fn zw_set_security_object(handle: Handle, parts: u32, descriptor: *const Descriptor) -> NtStatus {
    let object = match nt_object::reference_by_handle(handle, None) {
        Ok((object, _)) => object,
        Err(status) => return status,
    };
    // SAFETY: see `se_assign_security`.
    let status = unsafe { set(object, parts, descriptor) };
    nt_object::dereference(object);
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_flags(mut entry: Vec<u8>, flags: u8) -> Vec<u8> {
        entry[1] = flags;
        entry
    }

    fn present(entries: &[Vec<u8>]) -> List {
        List { is_present: true, acl: Some(list_of(entries)), ..List::default() }
    }

    #[test]
    fn entries_are_inherited_as_their_flags_say() {
        let (system, creator) = (sid::system(), sid::make(3, &[0]));
        let (both, objects) = (flag::FOR_OBJECTS | flag::FOR_CONTAINERS, flag::FOR_OBJECTS);
        let parent = Security {
            dacl: present(&[
                allow(1, &system),
                with_flags(allow(2, &system), both),
                with_flags(allow(4, &system), objects | flag::INHERIT_ONLY),
                with_flags(allow(8, &system), both | flag::NO_PROPAGATE),
                with_flags(allow(0x1000_0000, &creator), both),
            ]),
            ..Security::default()
        };
        let made = |is_directory| assign(Some(&parent), None, is_directory, Some(&[0, 0, 0, 0x70]), [false; 2]).dacl;
        let owner = sid::administrators();
        let of_object = [allow(2, &system), allow(4, &system), allow(8, &system), allow(0x70, &owner)];
        assert_eq!(made(false), present(&of_object));
        let of_directory = [
            with_flags(allow(2, &system), both),
            with_flags(allow(4, &system), objects | flag::INHERIT_ONLY),
            allow(8, &system),
            allow(0x70, &owner),
            with_flags(allow(0x1000_0000, &creator), both | flag::INHERIT_ONLY),
        ];
        assert_eq!(made(true), present(&of_directory));
    }

    #[test]
    fn explicit_list_stands_alone_unless_inheritance_is_wanted() {
        let system = sid::system();
        let parent =
            Security { dacl: present(&[with_flags(allow(2, &system), flag::FOR_OBJECTS)]), ..Security::default() };
        let explicit = Security { dacl: present(&[allow(1, &system)]), ..Security::default() };
        let made = |explicit: &Security, auto| assign(Some(&parent), Some(explicit), false, None, [auto, false]).dacl;
        assert_eq!(made(&explicit, false), explicit.dacl);
        let inherited = with_flags(allow(2, &system), flag::INHERITED);
        let both = List { is_auto_inherited: true, ..present(&[allow(1, &system), inherited]) };
        assert_eq!(made(&explicit, true), both);
        let dacl = List { is_protected: true, ..explicit.dacl.clone() };
        let protected = Security { dacl, ..Security::default() };
        assert_eq!(made(&protected, true), protected.dacl);
        let null = Security { dacl: List { is_present: true, ..List::default() }, ..Security::default() };
        assert_eq!(made(&null, false), null.dacl, "a null list grants everything and inherits nothing");
    }

    #[test]
    fn descriptor_survives_its_self_relative_form() {
        let made = assign(None, None, false, None, [false; 2]);
        assert_eq!(Security::from_relative(&made.to_relative()), made);
        assert!(made.dacl.is_defaulted && !made.sacl.is_present);
        assert_eq!(made.only(part::DACL | part::SACL), Security { dacl: made.dacl.clone(), ..Security::default() });
    }
}
