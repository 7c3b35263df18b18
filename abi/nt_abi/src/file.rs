//! File objects: one per open.

use core::mem::{offset_of, size_of};

use crate::dispatcher::{KernelEvent, ListEntry};
use crate::{DeviceObject, NtStatus, UnicodeString};

/// Bits of `FileObject::flags`.
pub mod file_flags {
    /// `FO_SYNCHRONOUS_IO`.
    pub const SYNCHRONOUS_IO: u32 = 0x0000_0002;
    /// `FO_ALERTABLE_IO`.
    pub const ALERTABLE_IO: u32 = 0x0000_0004;
    /// `FO_CLEANUP_COMPLETE`.
    pub const CLEANUP_COMPLETE: u32 = 0x0000_4000;
    /// `FO_HANDLE_CREATED`.
    pub const HANDLE_CREATED: u32 = 0x0004_0000;
}

/// `FILE_OBJECT`.
#[doc(alias = "FILE_OBJECT")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct FileObject {
    /// [`FileObject::TYPE`].
    pub kind: i16,
    /// Bytes.
    pub size: i16,
    /// Unused.
    pub _pad: u32,
    /// The device that was opened (not the top of its stack).
    pub device_object: *mut DeviceObject,
    /// Unused.
    pub vpb: u64,
    /// The transport's state (C-088).
    pub fs_context: u64,
    /// By convention the object kind (C-089).
    pub fs_context2: u64,
    /// Unused.
    pub section_object_pointer: u64,
    /// Unused.
    pub private_cache_map: u64,
    /// Unused.
    pub final_status: NtStatus,
    /// Unused.
    pub _pad2: u32,
    /// The file this open was relative to, or null.
    pub related_file_object: *mut FileObject,
    /// Lock operation.
    pub lock_operation: u8,
    /// Delete pending.
    pub delete_pending: u8,
    /// Read access granted.
    pub read_access: u8,
    /// Write access granted.
    pub write_access: u8,
    /// Delete access granted.
    pub delete_access: u8,
    /// Opened with FILE_SHARE_READ.
    pub shared_read: u8,
    /// Opened with FILE_SHARE_WRITE.
    pub shared_write: u8,
    /// Opened with FILE_SHARE_DELETE.
    pub shared_delete: u8,
    /// See [`file_flags`].
    pub flags: u32,
    /// Unused.
    pub _pad3: u32,
    /// What followed the device's name in the path.
    pub file_name: UnicodeString,
    /// Byte offset.
    pub current_byte_offset: i64,
    /// Unused.
    pub waiters: u32,
    /// Unused.
    pub busy: u32,
    /// Unused.
    pub last_lock: u64,
    /// Synchronization event.
    pub lock: KernelEvent,
    /// Notification event.
    pub event: KernelEvent,
    /// Completion port.
    pub completion_context: u64,
    /// Unused.
    pub irp_list_lock: u64,
    /// Unused.
    pub irp_list: ListEntry,
    /// Unused.
    pub file_object_extension: u64,
}

impl FileObject {
    /// Value of `FileObject::kind`.
    pub const TYPE: i16 = 5;
}

const _: () = {
    assert!(size_of::<FileObject>() == 0xD8 && offset_of!(FileObject, device_object) == 8);
    assert!(offset_of!(FileObject, fs_context) == 0x18 && offset_of!(FileObject, fs_context2) == 0x20);
    assert!(offset_of!(FileObject, final_status) == 0x38 && offset_of!(FileObject, related_file_object) == 0x40);
    assert!(offset_of!(FileObject, lock_operation) == 0x48 && offset_of!(FileObject, flags) == 0x50);
    assert!(offset_of!(FileObject, file_name) == 0x58 && offset_of!(FileObject, current_byte_offset) == 0x68);
    assert!(offset_of!(FileObject, lock) == 0x80 && offset_of!(FileObject, event) == 0x98);
    assert!(
        offset_of!(FileObject, completion_context) == 0xB0 && offset_of!(FileObject, file_object_extension) == 0xD0
    );
};
