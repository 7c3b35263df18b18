//! Memory descriptor lists.

use core::mem::{offset_of, size_of};

/// Bits of `Mdl::flags` (K-015, K-107 to K-110).
pub mod mdl_flags {
    /// `MDL_MAPPED_TO_SYSTEM_VA`.
    pub const MAPPED_TO_SYSTEM_VA: u16 = 0x0001;
    /// `MDL_PAGES_LOCKED`.
    pub const PAGES_LOCKED: u16 = 0x0002;
    /// `MDL_SOURCE_IS_NONPAGED_POOL`.
    pub const SOURCE_IS_NONPAGED_POOL: u16 = 0x0004;
    /// `MDL_ALLOCATED_FIXED_SIZE`.
    pub const ALLOCATED_FIXED_SIZE: u16 = 0x0008;
    /// `MDL_PARTIAL`.
    pub const PARTIAL: u16 = 0x0010;
    /// `MDL_PARTIAL_HAS_BEEN_MAPPED`.
    pub const PARTIAL_HAS_BEEN_MAPPED: u16 = 0x0020;
    /// `MDL_WRITE_OPERATION`.
    pub const WRITE_OPERATION: u16 = 0x0080;
}

/// `MDL`; the page array follows it.
#[doc(alias = "MDL")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Mdl {
    /// Next member of the chain, or null.
    pub next: *mut Mdl,
    /// Bytes including the page array.
    pub size: i16,
    /// See [`mdl_flags`].
    pub flags: u16,
    /// Unused.
    pub _pad: u32,
    /// Unused.
    pub process: u64,
    /// Where the buffer can be touched, if mapped.
    pub mapped_system_va: u64,
    /// The buffer's page-aligned start.
    pub start_va: u64,
    /// Bytes described.
    pub byte_count: u32,
    /// Offset of the buffer in its first page.
    pub byte_offset: u32,
}

const _: () = {
    assert!(size_of::<Mdl>() == 0x30 && offset_of!(Mdl, size) == 8 && offset_of!(Mdl, flags) == 0xA);
    assert!(offset_of!(Mdl, process) == 0x10 && offset_of!(Mdl, mapped_system_va) == 0x18);
    assert!(offset_of!(Mdl, start_va) == 0x20 && offset_of!(Mdl, byte_count) == 0x28);
    assert!(offset_of!(Mdl, byte_offset) == 0x2C);
};
