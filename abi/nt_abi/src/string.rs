//! Counted strings (K-163).

use core::mem::{offset_of, size_of};

/// A counted UTF-16 string; lengths in bytes, not necessarily terminated.
#[doc(alias = "UNICODE_STRING")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct UnicodeString {
    /// Bytes in use.
    pub length: u16,
    /// Bytes allocated.
    pub maximum_length: u16,
    /// Four bytes the compiler leaves.
    pub _pad: u32,
    /// First code unit.
    pub buffer: *mut u16,
}

impl UnicodeString {
    /// A string of length 0 without a buffer.
    pub const EMPTY: Self = Self { length: 0, maximum_length: 0, _pad: 0, buffer: core::ptr::null_mut() };
}

/// A counted byte string.
#[doc(alias = "ANSI_STRING")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct AnsiString {
    /// Bytes in use.
    pub length: u16,
    /// Bytes allocated.
    pub maximum_length: u16,
    /// Four bytes the compiler leaves.
    pub _pad: u32,
    /// First byte.
    pub buffer: *mut u8,
}

const _: () = assert!(size_of::<UnicodeString>() == 0x10 && offset_of!(UnicodeString, buffer) == 8);
const _: () = assert!(size_of::<AnsiString>() == 0x10 && offset_of!(AnsiString, buffer) == 8);
