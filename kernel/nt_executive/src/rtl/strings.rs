//! Counted strings (K-163, K-164): initialising, copying, appending, comparing.

use std::ptr;

use gate::memory::{put, touch};
use nt_abi::{AnsiString, NtStatus, UnicodeString};

use super::case::{lower, upper, upper_byte};
use super::{Bytes, Units};
use crate::code_page;
use crate::pool::{self, Kind};

gate::exports! {
    /// Strings.
    pub static TABLE in "ntoskrnl.exe";
    "RtlInitUnicodeString" = rtl_init_unicode_string(string: *mut UnicodeString, text: *const u16), rules "K-164";
    "RtlInitUnicodeStringEx" = rtl_init_unicode_string_ex(string: *mut UnicodeString, text: *const u16) -> NtStatus, rules "K-164";
    "RtlInitAnsiString" | "RtlInitString" | "RtlInitUTF8String" = rtl_init_ansi_string(string: *mut AnsiString, text: *const u8), rules "K-164";
    "RtlInitAnsiStringEx" | "RtlInitStringEx" | "RtlInitUTF8StringEx" = rtl_init_ansi_string_ex(string: *mut AnsiString, text: *const u8) -> NtStatus, rules "K-164";
    "RtlCopyUnicodeString" = rtl_copy_unicode_string(to: *mut UnicodeString, from: *const UnicodeString), rules "K-163";
    "RtlCopyString" = rtl_copy_string(to: *mut AnsiString, from: *const AnsiString), rules "K-163";
    "RtlAppendUnicodeStringToString" = rtl_append_unicode_string_to_string(to: *mut UnicodeString, from: *const UnicodeString) -> NtStatus, rules "K-163";
    "RtlAppendUnicodeToString" = rtl_append_unicode_to_string(to: *mut UnicodeString, text: *const u16) -> NtStatus, rules "K-163";
    "RtlAppendStringToString" = rtl_append_string_to_string(to: *mut AnsiString, from: *const AnsiString) -> NtStatus, rules "K-163";
    "RtlAppendAsciizToString" = rtl_append_asciiz_to_string(to: *mut AnsiString, text: *const u8) -> NtStatus, rules "K-163";
    "RtlCompareUnicodeString" = rtl_compare_unicode_string(a: *const UnicodeString, b: *const UnicodeString, insensitive: u8) -> i32, rules "K-163";
    "RtlCompareUnicodeStrings" = rtl_compare_unicode_strings(a: *const u16, a_count: usize, b: *const u16, b_count: usize, insensitive: u8) -> i32, rules "K-163";
    "RtlEqualUnicodeString" = rtl_equal_unicode_string(a: *const UnicodeString, b: *const UnicodeString, insensitive: u8) -> u8, rules "K-163";
    "RtlPrefixUnicodeString" = rtl_prefix_unicode_string(prefix: *const UnicodeString, of: *const UnicodeString, insensitive: u8) -> u8, rules "K-163";
    "RtlSuffixUnicodeString" = rtl_suffix_unicode_string(suffix: *const UnicodeString, of: *const UnicodeString, insensitive: u8) -> u8, rules "K-163";
    "RtlCompareString" = rtl_compare_string(a: *const AnsiString, b: *const AnsiString, insensitive: u8) -> i32, rules "K-163";
    "RtlEqualString" = rtl_equal_string(a: *const AnsiString, b: *const AnsiString, insensitive: u8) -> u8, rules "K-163";
    "RtlPrefixString" = rtl_prefix_string(prefix: *const AnsiString, of: *const AnsiString, insensitive: u8) -> u8, rules "K-163";
    "RtlUpperString" = rtl_upper_string(to: *mut AnsiString, from: *const AnsiString), rules "K-163";
    "RtlUpcaseUnicodeString" = rtl_upcase_unicode_string(to: *mut UnicodeString, from: *const UnicodeString, allocate: u8) -> NtStatus, irql <= PASSIVE, rules "K-165";
    "RtlDowncaseUnicodeString" = rtl_downcase_unicode_string(to: *mut UnicodeString, from: *const UnicodeString, allocate: u8) -> NtStatus, irql <= PASSIVE, rules "K-165";
    "RtlCreateUnicodeString" = rtl_create_unicode_string(to: *mut UnicodeString, text: *const u16) -> u8, irql <= PASSIVE, rules "K-165";
    "RtlCreateUnicodeStringFromAsciiz" = rtl_create_unicode_string_from_asciiz(to: *mut UnicodeString, text: *const u8) -> u8, irql <= PASSIVE, rules "K-165";
    "RtlDuplicateUnicodeString" = rtl_duplicate_unicode_string(flags: u32, from: *const UnicodeString, to: *mut UnicodeString) -> NtStatus, irql <= PASSIVE, rules "K-165";
    "RtlValidateUnicodeString" = rtl_validate_unicode_string(flags: u32, string: *const UnicodeString) -> NtStatus, rules "K-163";
    "RtlFreeUnicodeString" = rtl_free_unicode_string(string: *mut UnicodeString), irql <= APC, rules "K-165";
    "RtlFreeAnsiString" | "RtlFreeOemString" | "RtlFreeUTF8String" = rtl_free_ansi_string(string: *mut AnsiString), irql <= APC, rules "K-165";
    "RtlHashUnicodeString" = rtl_hash_unicode_string(string: *const UnicodeString, insensitive: u8, algorithm: u32, hash: *mut u32) -> NtStatus, rules "K-163";
}

/// Most bytes that a length can say and still be followed by a terminator.
const WIDE_BYTES_MAX: usize = 0xFFFC;
const NARROW_BYTES_MAX: usize = 0xFFFE;
/// The tag of strings that are allocated for drivers.
pub(super) const TAG: pool::Tag = u32::from_le_bytes(*b"Strg");

/// Allocates paged pool for a string's characters, as Windows does.
fn allocate(bytes: usize) -> Option<*mut u8> {
    pool::allocate(bytes as u64, TAG, Kind::Paged, gate::caller()).map(|address| address as *mut u8)
}

// Strings are the driver's, and so are all pointers of this module; a bad one faults and is blamed on the driver. That
// is what every SAFETY note below refers to.

/// Finds room for a converted string: allocates `needed` bytes, terminator included, where the driver asks for it, and
/// otherwise takes the buffer that the string has.
///
/// # Errors
/// STATUS_INVALID_PARAMETER_2 for more than a string can hold, STATUS_NO_MEMORY, STATUS_BUFFER_OVERFLOW for a buffer
/// that is too short.
pub(super) unsafe fn find_room<T>(
    maximum_length: *mut u16,
    buffer: *mut *mut T,
    needed: usize,
    allocated: u8,
) -> Result<(), NtStatus> {
    let Ok(length) = u16::try_from(needed) else { return Err(NtStatus::INVALID_PARAMETER_2) };
    // SAFETY: the driver's string.
    unsafe {
        if allocated != 0 {
            touch(maximum_length);
            touch(buffer);
            let new = allocate(needed).ok_or(NtStatus::NO_MEMORY)?;
            put(maximum_length, length);
            put(buffer, new.cast());
        } else if length > maximum_length.read_unaligned() {
            return Err(NtStatus::BUFFER_OVERFLOW);
        }
    }
    Ok(())
}

unsafe fn set_wide(string: *mut UnicodeString, bytes: usize, text: *const u16) {
    let maximum_length = if text.is_null() { 0 } else { bytes as u16 + 2 };
    // SAFETY: the driver's string.
    unsafe {
        put(&raw mut (*string).length, bytes as u16);
        put(&raw mut (*string).maximum_length, maximum_length);
        put(&raw mut (*string).buffer, text.cast_mut());
    }
}

unsafe fn wide_bytes(text: *const u16) -> usize {
    // SAFETY: the driver's text.
    if text.is_null() { 0 } else { unsafe { Units::terminated(text, usize::MAX) }.count() * 2 }
}

unsafe extern "win64" fn rtl_init_unicode_string(string: *mut UnicodeString, text: *const u16) {
    // SAFETY: the driver's string and text. A length that does not fit is cut.
    unsafe { set_wide(string, wide_bytes(text).min(WIDE_BYTES_MAX), text) };
}

unsafe extern "win64" fn rtl_init_unicode_string_ex(string: *mut UnicodeString, text: *const u16) -> NtStatus {
    // SAFETY: the driver's string and text.
    unsafe {
        let bytes = wide_bytes(text);
        if bytes > WIDE_BYTES_MAX {
            return NtStatus::NAME_TOO_LONG;
        }
        set_wide(string, bytes, text);
    }
    NtStatus::SUCCESS
}

unsafe fn set_narrow(string: *mut AnsiString, bytes: usize, text: *const u8) {
    let maximum_length = if text.is_null() { 0 } else { bytes as u16 + 1 };
    // SAFETY: the driver's string.
    unsafe {
        put(&raw mut (*string).length, bytes as u16);
        put(&raw mut (*string).maximum_length, maximum_length);
        put(&raw mut (*string).buffer, text.cast_mut());
    }
}

unsafe fn narrow_bytes(text: *const u8) -> usize {
    // SAFETY: the driver's text.
    if text.is_null() { 0 } else { unsafe { Bytes::terminated(text, usize::MAX) }.count() }
}

unsafe extern "win64" fn rtl_init_ansi_string(string: *mut AnsiString, text: *const u8) {
    // SAFETY: the driver's string and text.
    unsafe { set_narrow(string, narrow_bytes(text).min(NARROW_BYTES_MAX), text) };
}

unsafe extern "win64" fn rtl_init_ansi_string_ex(string: *mut AnsiString, text: *const u8) -> NtStatus {
    // SAFETY: the driver's string and text.
    unsafe {
        let bytes = narrow_bytes(text);
        if bytes > NARROW_BYTES_MAX {
            return NtStatus::NAME_TOO_LONG;
        }
        set_narrow(string, bytes, text);
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn rtl_copy_unicode_string(to: *mut UnicodeString, from: *const UnicodeString) {
    // SAFETY: the driver's strings.
    unsafe {
        if from.is_null() {
            (*to).length = 0;
            return;
        }
        let bytes = (*from).length.min((*to).maximum_length);
        ptr::copy((*from).buffer.cast::<u8>(), (*to).buffer.cast::<u8>(), bytes.into());
        (*to).length = bytes;
        terminate_wide(to);
    }
}

/// Puts a NUL behind a string if there is room.
unsafe fn terminate_wide(string: *mut UnicodeString) {
    // SAFETY: the driver's string.
    unsafe {
        let length = usize::from((*string).length);
        if length + 2 <= (*string).maximum_length.into() {
            (*string).buffer.byte_add(length).write_unaligned(0);
        }
    }
}

unsafe extern "win64" fn rtl_copy_string(to: *mut AnsiString, from: *const AnsiString) {
    // SAFETY: the driver's strings.
    unsafe {
        if from.is_null() {
            (*to).length = 0;
            return;
        }
        let bytes = (*from).length.min((*to).maximum_length);
        ptr::copy((*from).buffer, (*to).buffer, bytes.into());
        (*to).length = bytes;
    }
}

/// Appends bytes of UTF-16 if they fit.
unsafe fn append_wide(to: *mut UnicodeString, from: *const u8, bytes: usize) -> NtStatus {
    // SAFETY: the driver's strings.
    unsafe {
        let length = usize::from((*to).length);
        if length + bytes > (*to).maximum_length.into() {
            return NtStatus::BUFFER_TOO_SMALL;
        }
        ptr::copy(from, (*to).buffer.cast::<u8>().add(length), bytes);
        (*to).length = (length + bytes) as u16;
        terminate_wide(to);
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn rtl_append_unicode_string_to_string(
    to: *mut UnicodeString,
    from: *const UnicodeString,
) -> NtStatus {
    // SAFETY: the driver's strings.
    unsafe {
        if (*from).length == 0 {
            return NtStatus::SUCCESS;
        }
        append_wide(to, (*from).buffer.cast(), (*from).length.into())
    }
}

unsafe extern "win64" fn rtl_append_unicode_to_string(to: *mut UnicodeString, text: *const u16) -> NtStatus {
    if text.is_null() {
        return NtStatus::SUCCESS;
    }
    // SAFETY: the driver's string and text.
    unsafe { append_wide(to, text.cast(), wide_bytes(text)) }
}

unsafe fn append_narrow(to: *mut AnsiString, from: *const u8, bytes: usize) -> NtStatus {
    // SAFETY: the driver's strings.
    unsafe {
        let length = usize::from((*to).length);
        if length + bytes > (*to).maximum_length.into() {
            return NtStatus::BUFFER_TOO_SMALL;
        }
        ptr::copy(from, (*to).buffer.add(length), bytes);
        (*to).length = (length + bytes) as u16;
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn rtl_append_string_to_string(to: *mut AnsiString, from: *const AnsiString) -> NtStatus {
    // SAFETY: the driver's strings.
    unsafe { append_narrow(to, (*from).buffer, (*from).length.into()) }
}

unsafe extern "win64" fn rtl_append_asciiz_to_string(to: *mut AnsiString, text: *const u8) -> NtStatus {
    if text.is_null() {
        return NtStatus::SUCCESS;
    }
    // SAFETY: the driver's string and text.
    unsafe { append_narrow(to, text, narrow_bytes(text)) }
}

/// Compares character by character, then by length.
fn compare<T: Copy + Into<i32> + PartialEq>(
    a: impl ExactSizeIterator<Item = T>,
    b: impl ExactSizeIterator<Item = T>,
    fold: impl Fn(T) -> T,
) -> i32 {
    let by_length = a.len() as i32 - b.len() as i32;
    let differing = a.zip(b).map(|(a, b)| (fold(a), fold(b))).find(|(a, b)| a != b);
    differing.map_or(by_length, |(a, b)| a.into() - b.into())
}

fn fold_wide(insensitive: u8) -> fn(u16) -> u16 {
    if insensitive != 0 { upper } else { |unit| unit }
}

fn fold_narrow(insensitive: u8) -> fn(u8) -> u8 {
    if insensitive != 0 { upper_byte } else { |byte| byte }
}

fn compare_wide(a: Units, b: Units, insensitive: u8) -> i32 {
    compare(a.iter(), b.iter(), fold_wide(insensitive))
}

unsafe extern "win64" fn rtl_compare_unicode_string(
    a: *const UnicodeString,
    b: *const UnicodeString,
    insensitive: u8,
) -> i32 {
    // SAFETY: the driver's strings.
    unsafe { compare_wide(Units::of(a), Units::of(b), insensitive) }
}

unsafe extern "win64" fn rtl_compare_unicode_strings(
    a: *const u16,
    a_count: usize,
    b: *const u16,
    b_count: usize,
    insensitive: u8,
) -> i32 {
    // SAFETY: the driver's texts.
    unsafe { compare_wide(Units::new(a, a_count), Units::new(b, b_count), insensitive) }
}

unsafe extern "win64" fn rtl_equal_unicode_string(
    a: *const UnicodeString,
    b: *const UnicodeString,
    insensitive: u8,
) -> u8 {
    // SAFETY: the driver's strings.
    unsafe { ((*a).length == (*b).length && compare_wide(Units::of(a), Units::of(b), insensitive) == 0).into() }
}

unsafe extern "win64" fn rtl_prefix_unicode_string(
    prefix: *const UnicodeString,
    of: *const UnicodeString,
    insensitive: u8,
) -> u8 {
    // SAFETY: the driver's strings.
    let (prefix, of) = unsafe { (Units::of(prefix), Units::of(of)) };
    (prefix.count() <= of.count() && compare_wide(prefix, of.first(prefix.count()), insensitive) == 0).into()
}

unsafe extern "win64" fn rtl_suffix_unicode_string(
    suffix: *const UnicodeString,
    of: *const UnicodeString,
    insensitive: u8,
) -> u8 {
    // SAFETY: the driver's strings.
    let (suffix, of) = unsafe { (Units::of(suffix), Units::of(of)) };
    let fold = fold_wide(insensitive);
    let ends = suffix.iter().rev().map(fold).eq(of.iter().rev().take(suffix.count()).map(fold));
    (suffix.count() <= of.count() && ends).into()
}

unsafe extern "win64" fn rtl_compare_string(a: *const AnsiString, b: *const AnsiString, insensitive: u8) -> i32 {
    // SAFETY: the driver's strings.
    unsafe { compare(Bytes::of(a).iter(), Bytes::of(b).iter(), fold_narrow(insensitive)) }
}

unsafe extern "win64" fn rtl_equal_string(a: *const AnsiString, b: *const AnsiString, insensitive: u8) -> u8 {
    // SAFETY: the driver's strings.
    unsafe { (rtl_compare_string(a, b, insensitive) == 0).into() }
}

unsafe extern "win64" fn rtl_prefix_string(prefix: *const AnsiString, of: *const AnsiString, insensitive: u8) -> u8 {
    // SAFETY: the driver's strings.
    let (prefix, of) = unsafe { (Bytes::of(prefix), Bytes::of(of)) };
    let begins = || compare(prefix.iter(), of.first(prefix.count()).iter(), fold_narrow(insensitive)) == 0;
    (prefix.count() <= of.count() && begins()).into()
}

unsafe extern "win64" fn rtl_upper_string(to: *mut AnsiString, from: *const AnsiString) {
    // SAFETY: the driver's strings.
    unsafe {
        let from = Bytes::of(from).first((*to).maximum_length.into());
        for (place, byte) in from.iter().enumerate() {
            (*to).buffer.add(place).write(upper_byte(byte));
        }
        (*to).length = from.count() as u16;
    }
}

/// Copies with each character changed. The destination may be the source.
unsafe fn map_wide(
    to: *mut UnicodeString,
    from: *const UnicodeString,
    allocated: bool,
    change: fn(u16) -> u16,
) -> NtStatus {
    // SAFETY: the driver's strings.
    unsafe {
        let (from, bytes) = (Units::of(from), (*from).length & !1);
        if allocated {
            touch(to);
            let Some(buffer) = allocate(bytes.into()) else { return NtStatus::NO_MEMORY };
            (*to).maximum_length = bytes;
            (*to).buffer = buffer.cast();
        } else if bytes > (*to).maximum_length {
            return NtStatus::BUFFER_OVERFLOW;
        }
        for (place, unit) in from.iter().enumerate() {
            (*to).buffer.add(place).write_unaligned(change(unit));
        }
        (*to).length = bytes;
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn rtl_upcase_unicode_string(
    to: *mut UnicodeString,
    from: *const UnicodeString,
    allocate: u8,
) -> NtStatus {
    // SAFETY: the driver's strings.
    unsafe { map_wide(to, from, allocate != 0, upper) }
}

unsafe extern "win64" fn rtl_downcase_unicode_string(
    to: *mut UnicodeString,
    from: *const UnicodeString,
    allocate: u8,
) -> NtStatus {
    // SAFETY: the driver's strings.
    unsafe { map_wide(to, from, allocate != 0, lower) }
}

/// Makes an allocated, terminated string.
pub(super) unsafe fn create(to: *mut UnicodeString, units: impl ExactSizeIterator<Item = u16>) -> NtStatus {
    let bytes = units.len() * 2;
    if bytes > WIDE_BYTES_MAX {
        return NtStatus::NAME_TOO_LONG;
    }
    // SAFETY: the driver's string.
    unsafe { touch(to) };
    let Some(buffer) = allocate(bytes + 2) else { return NtStatus::NO_MEMORY };
    let buffer = buffer.cast::<u16>();
    // SAFETY: a new block of that size; the driver's string.
    unsafe {
        units.chain([0]).enumerate().for_each(|(place, unit)| buffer.add(place).write(unit));
        set_wide(to, bytes, buffer);
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn rtl_create_unicode_string(to: *mut UnicodeString, text: *const u16) -> u8 {
    // SAFETY: the driver's string and text.
    unsafe { create(to, Units::terminated(text, usize::MAX).iter()).is_success().into() }
}

unsafe extern "win64" fn rtl_create_unicode_string_from_asciiz(to: *mut UnicodeString, text: *const u8) -> u8 {
    // SAFETY: the driver's string and text.
    unsafe { create(to, Bytes::terminated(text, usize::MAX).iter().map(code_page::to_wide)).is_success().into() }
}

/// Flag 1 terminates the copy, flag 2 allocates even for an empty string.
unsafe extern "win64" fn rtl_duplicate_unicode_string(
    flags: u32,
    from: *const UnicodeString,
    to: *mut UnicodeString,
) -> NtStatus {
    const TERMINATE: u32 = 1;
    const ALLOCATE_EMPTY: u32 = 2;
    if flags & !(TERMINATE | ALLOCATE_EMPTY) != 0 || flags == ALLOCATE_EMPTY || from.is_null() || to.is_null() {
        return NtStatus::INVALID_PARAMETER;
    }
    // SAFETY: the driver's strings.
    unsafe {
        let length = usize::from((*from).length);
        if rtl_validate_unicode_string(0, from) != NtStatus::SUCCESS || length > WIDE_BYTES_MAX {
            return NtStatus::INVALID_PARAMETER;
        }
        if length == 0 && flags & ALLOCATE_EMPTY == 0 {
            put(to, UnicodeString::EMPTY);
            return NtStatus::SUCCESS;
        }
        let room = if flags & TERMINATE != 0 { length + 2 } else { length };
        touch(to);
        let Some(buffer) = allocate(room) else { return NtStatus::NO_MEMORY };
        ptr::copy((*from).buffer.cast::<u8>(), buffer, length);
        (*to).length = length as u16;
        (*to).maximum_length = room as u16;
        (*to).buffer = buffer.cast();
        terminate_wide(to);
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn rtl_validate_unicode_string(flags: u32, string: *const UnicodeString) -> NtStatus {
    if flags != 0 {
        return NtStatus::INVALID_PARAMETER;
    }
    if string.is_null() {
        return NtStatus::SUCCESS;
    }
    // SAFETY: the driver's string.
    let (length, maximum, buffer) = unsafe { ((*string).length, (*string).maximum_length, (*string).buffer) };
    let odd = length % 2 != 0 || maximum % 2 != 0;
    if odd || length > maximum || (buffer.is_null() && maximum != 0) {
        return NtStatus::INVALID_PARAMETER;
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn rtl_free_unicode_string(string: *mut UnicodeString) {
    // SAFETY: the driver's string.
    unsafe {
        if !(*string).buffer.is_null() {
            pool::free((*string).buffer as u64, None, gate::caller());
            *string = UnicodeString::EMPTY;
        }
    }
}

unsafe extern "win64" fn rtl_free_ansi_string(string: *mut AnsiString) {
    // SAFETY: the driver's string.
    unsafe {
        if !(*string).buffer.is_null() {
            pool::free((*string).buffer as u64, None, gate::caller());
            *string = AnsiString { length: 0, maximum_length: 0, _pad: 0, buffer: ptr::null_mut() };
        }
    }
}

unsafe extern "win64" fn rtl_hash_unicode_string(
    string: *const UnicodeString,
    insensitive: u8,
    algorithm: u32,
    hash: *mut u32,
) -> NtStatus {
    const X65599: u32 = 1;
    if string.is_null() || hash.is_null() || algorithm > X65599 {
        return NtStatus::INVALID_PARAMETER;
    }
    let fold = fold_wide(insensitive);
    // SAFETY: the driver's string.
    unsafe {
        let units = Units::of(string).iter().map(fold);
        put(hash, units.fold(0u32, |hash, unit| hash.wrapping_mul(65599).wrapping_add(unit.into())));
    }
    NtStatus::SUCCESS
}

#[cfg(test)]
mod tests;
