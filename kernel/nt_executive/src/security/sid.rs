//! Security identifiers: a revision, a count, an authority of six bytes and that many numbers of four.

use std::ptr;
use std::sync::OnceLock;

use gate::memory::touch;
use nt_abi::{NtStatus, UnicodeString};

use crate::pool::{self, Kind};

gate::exports! {
    /// SIDs.
    pub static TABLE in "ntoskrnl.exe";
    "RtlLengthSid" = rtl_length_sid(sid: *const u8) -> u32, rules "K-177";
    "RtlLengthRequiredSid" = rtl_length_required_sid(count: u32) -> u32, rules "K-177";
    "RtlValidSid" = rtl_valid_sid(sid: *const u8) -> u8, rules "K-177";
    "RtlEqualSid" = rtl_equal_sid(a: *const u8, b: *const u8) -> u8, rules "K-177";
    "RtlCopySid" = rtl_copy_sid(room: u32, to: *mut u8, from: *const u8) -> NtStatus, rules "K-177";
    "RtlInitializeSid" = rtl_initialize_sid(sid: *mut u8, authority: *const [u8; 6], count: u8) -> NtStatus, rules "K-177";
    "RtlSubAuthoritySid" = rtl_sub_authority_sid(sid: *mut u8, index: u32) -> *mut u32, rules "K-177";
    "RtlSubAuthorityCountSid" = rtl_sub_authority_count_sid(sid: *mut u8) -> *mut u8, rules "K-177";
    "RtlConvertSidToUnicodeString" = rtl_convert_sid_to_unicode_string(to: *mut UnicodeString, sid: *const u8, allocate: u8) -> NtStatus, irql <= PASSIVE, rules "K-177";
    data "SeExports" = exports_cell, rules "K-177";
}

const REVISION: u8 = 1;
const SUB_AUTHORITIES_MAX: u8 = 15;
const TAG: pool::Tag = u32::from_le_bytes(*b"SeSd");

/// Bytes of an identifier with this many numbers.
pub const fn length(count: u8) -> usize {
    8 + 4 * count as usize
}

/// An identifier's bytes. `authority` is below 256 for all that are well known.
pub fn make(authority: u8, numbers: &[u32]) -> Vec<u8> {
    let mut sid = vec![REVISION, numbers.len() as u8, 0, 0, 0, 0, 0, authority];
    sid.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    sid
}

/// The local system account, S-1-5-18.
pub fn system() -> Vec<u8> {
    make(5, &[18])
}

/// The administrators, S-1-5-32-544.
pub fn administrators() -> Vec<u8> {
    make(5, &[32, 544])
}

/// `SE_EXPORTS`: where its privileges and its identifiers begin.
const PRIVILEGES: usize = 23;

/// The well-known identifiers in the order of the structure.
fn well_known() -> Vec<Vec<u8>> {
    let mut sids = vec![
        make(0, &[0]),
        make(1, &[0]),
        make(2, &[0]),
        make(3, &[0]),
        make(3, &[1]),
        make(5, &[]),
        make(5, &[1]),
        make(5, &[2]),
        make(5, &[3]),
        make(5, &[4]),
        system(),
    ];
    // The built-in aliases: administrators, users, guests, power users, account, system, print and backup operators.
    sids.extend([544, 545, 546, 547, 548, 549, 550, 551].map(|alias| make(5, &[32, alias])));
    // Authenticated users, restricted, anonymous, local service, network service.
    sids.extend([11, 12, 7, 19, 20].map(|number| make(5, &[number])));
    sids
}

/// A structure of privileges (by number, from 2 on) and pointers to identifiers that live as long as the run.
fn exports_cell() -> u64 {
    static CELL: OnceLock<u64> = OnceLock::new();
    ptr::from_ref(CELL.get_or_init(|| {
        let privileges = (0..PRIVILEGES as u64).map(|index| index + 2);
        let sids = well_known().into_iter().map(|sid| Box::leak(sid.into_boxed_slice()).as_ptr() as u64);
        let words: Vec<u64> = privileges.chain(sids).collect();
        Box::leak(words.into_boxed_slice()).as_ptr() as u64
    })) as u64
}

// All pointers of this module are the driver's; a bad one faults and is blamed on it. That is what every SAFETY note
// below refers to.

/// The bytes of the identifier at `sid`.
///
/// # Safety
/// The driver's identifier.
pub unsafe fn read(sid: *const u8) -> Vec<u8> {
    // SAFETY: the caller's promise.
    unsafe {
        let bytes = length(*sid.add(1));
        let mut copy = vec![0; bytes];
        ptr::copy(sid, copy.as_mut_ptr(), bytes);
        copy
    }
}

/// Whether revision and count of the identifier at `sid` are such as there are.
///
/// # Safety
/// The driver's identifier.
pub unsafe fn is_valid(sid: *const u8) -> bool {
    // SAFETY: the caller's promise.
    unsafe { *sid & 0xF == REVISION && *sid.add(1) <= SUB_AUTHORITIES_MAX }
}

unsafe extern "win64" fn rtl_length_sid(sid: *const u8) -> u32 {
    // SAFETY: the driver's identifier.
    length(unsafe { *sid.add(1) }) as u32
}

unsafe extern "win64" fn rtl_length_required_sid(count: u32) -> u32 {
    count.saturating_mul(4).saturating_add(8)
}

unsafe extern "win64" fn rtl_valid_sid(sid: *const u8) -> u8 {
    // SAFETY: the driver's identifier.
    (!sid.is_null() && unsafe { is_valid(sid) }).into()
}

unsafe extern "win64" fn rtl_equal_sid(a: *const u8, b: *const u8) -> u8 {
    // SAFETY: the driver's identifiers; the counts are compared with the rest.
    unsafe {
        let bytes = length(*a.add(1));
        (0..bytes).all(|place| *a.add(place) == *b.add(place)).into()
    }
}

unsafe extern "win64" fn rtl_copy_sid(room: u32, to: *mut u8, from: *const u8) -> NtStatus {
    // SAFETY: the driver's identifiers.
    unsafe {
        let bytes = length(*from.add(1));
        if bytes > room as usize {
            return NtStatus::BUFFER_TOO_SMALL;
        }
        ptr::copy(from, to, bytes);
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn rtl_initialize_sid(sid: *mut u8, authority: *const [u8; 6], count: u8) -> NtStatus {
    if count > SUB_AUTHORITIES_MAX {
        return NtStatus::INVALID_PARAMETER;
    }
    // SAFETY: the driver's identifier.
    unsafe {
        sid.write(REVISION);
        sid.add(1).write(count);
        ptr::copy(authority.cast::<u8>(), sid.add(2), 6);
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn rtl_sub_authority_sid(sid: *mut u8, index: u32) -> *mut u32 {
    sid.wrapping_add(8 + 4 * index as usize).cast()
}

unsafe extern "win64" fn rtl_sub_authority_count_sid(sid: *mut u8) -> *mut u8 {
    sid.wrapping_add(1)
}

/// `S-1-5-18`
fn text(sid: &[u8]) -> String {
    let authority = sid[2..8].iter().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
    let mut text = match u32::try_from(authority) {
        Ok(authority) => format!("S-{}-{authority}", sid[0]),
        Err(_) => format!("S-{}-{authority:#x}", sid[0]),
    };
    for number in sid[8..].chunks_exact(4) {
        text.push_str(&format!("-{}", u32::from_le_bytes([number[0], number[1], number[2], number[3]])));
    }
    text
}

unsafe extern "win64" fn rtl_convert_sid_to_unicode_string(
    to: *mut UnicodeString,
    sid: *const u8,
    allocated: u8,
) -> NtStatus {
    // SAFETY: the driver's identifier and string.
    unsafe {
        if rtl_valid_sid(sid) == 0 {
            return NtStatus::INVALID_SID;
        }
        let units: Vec<u16> = text(&read(sid)).encode_utf16().collect();
        let bytes = units.len() as u16 * 2;
        if allocated != 0 {
            touch(to);
            let made = pool::allocate(u64::from(bytes) + 2, TAG, Kind::Paged, gate::caller());
            let Some(buffer) = made else { return NtStatus::NO_MEMORY };
            (*to).maximum_length = bytes + 2;
            (*to).buffer = buffer as *mut u16;
        } else if bytes > (*to).maximum_length {
            return NtStatus::BUFFER_OVERFLOW;
        }
        let terminated = bytes + 2 <= (*to).maximum_length;
        let units = units.into_iter().chain(terminated.then_some(0));
        units.enumerate().for_each(|(place, unit)| (*to).buffer.add(place).write_unaligned(unit));
        (*to).length = bytes;
    }
    NtStatus::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_have_the_usual_text() {
        assert_eq!(text(&system()), "S-1-5-18");
        assert_eq!(text(&administrators()), "S-1-5-32-544");
    }

    #[test]
    fn exported_structure_leads_to_identifiers() {
        // SAFETY: the structure holds leaked words and identifiers.
        unsafe {
            let words = *(exports_cell() as *const *const u64);
            let local_system = *words.add(PRIVILEGES + 10) as *const u8;
            assert_eq!(read(local_system), system());
            assert_eq!(rtl_equal_sid(local_system, system().as_ptr()), 1);
            let everyone = *words.add(PRIVILEGES + 1) as *const u8;
            assert_eq!(text(&read(everyone)), "S-1-1-0");
            assert_eq!(rtl_equal_sid(local_system, everyone), 0);
        }
    }

    #[test]
    fn copy_needs_room_and_validity_a_revision() {
        let (sid, mut room) = (administrators(), [0u8; 16]);
        // SAFETY: identifiers of this test.
        unsafe {
            assert_eq!(rtl_copy_sid(15, room.as_mut_ptr(), sid.as_ptr()), NtStatus::BUFFER_TOO_SMALL);
            assert_eq!(rtl_copy_sid(16, room.as_mut_ptr(), sid.as_ptr()), NtStatus::SUCCESS);
            assert_eq!((rtl_valid_sid(room.as_ptr()), rtl_length_sid(room.as_ptr())), (1, 16));
            room[0] = 2;
            assert_eq!(rtl_valid_sid(room.as_ptr()), 0);
            room[..2].copy_from_slice(&[1, 16]);
            assert_eq!(rtl_valid_sid(room.as_ptr()), 0);
        }
    }
}
