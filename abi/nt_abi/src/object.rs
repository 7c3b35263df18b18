//! Object attributes and handles.

use core::mem::{offset_of, size_of};

use crate::{UnicodeString, open_enum};

/// A handle value. Kernel handles have their high bits set (K-159).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Handle(pub u64);

/// `OBJ_xxx` attributes.
pub mod attributes {
    /// `OBJ_INHERIT`.
    pub const INHERIT: u32 = 0x002;
    /// `OBJ_PERMANENT`.
    pub const PERMANENT: u32 = 0x010;
    /// `OBJ_EXCLUSIVE`.
    pub const EXCLUSIVE: u32 = 0x020;
    /// `OBJ_CASE_INSENSITIVE`.
    pub const CASE_INSENSITIVE: u32 = 0x040;
    /// `OBJ_OPENIF`.
    pub const OPENIF: u32 = 0x080;
    /// `OBJ_KERNEL_HANDLE`.
    pub const KERNEL_HANDLE: u32 = 0x200;
}

open_enum! {
    /// `KPROCESSOR_MODE`.
    pub enum ProcessorMode : u8 {
        #[allow(missing_docs)] KERNEL = 0,
        #[allow(missing_docs)] USER = 1,
    }
}

/// `OBJECT_ATTRIBUTES`.
#[doc(alias = "OBJECT_ATTRIBUTES")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ObjectAttributes {
    /// 0x30.
    pub length: u32,
    /// Unused.
    pub _pad: u32,
    /// The directory or file the name is relative to, or 0.
    pub root_directory: Handle,
    /// The name, or null.
    pub object_name: *mut UnicodeString,
    /// See [`attributes`].
    pub attributes: u32,
    /// Unused.
    pub _pad2: u32,
    /// Security descriptor, or 0.
    pub security_descriptor: u64,
    /// Quality of service, or 0.
    pub security_quality_of_service: u64,
}

const _: () = {
    assert!(size_of::<ObjectAttributes>() == 0x30 && offset_of!(ObjectAttributes, root_directory) == 8);
    assert!(offset_of!(ObjectAttributes, object_name) == 0x10 && offset_of!(ObjectAttributes, attributes) == 0x18);
};
