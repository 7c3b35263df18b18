//! Drivers, devices and I/O request packets.

use core::mem::{offset_of, size_of};

use crate::dispatcher::{DeviceQueue, Dpc, KernelEvent, ListEntry};
use crate::{FileObject, Mdl, NtStatus, UnicodeString, open_enum};

open_enum! {
    /// `IRP_MJ_xxx` (C-013).
    #[doc(alias = "IRP_MJ")]
    pub enum MajorFunction : u8 {
        #[allow(missing_docs)] CREATE = 0x00,
        #[allow(missing_docs)] CREATE_NAMED_PIPE = 0x01,
        #[allow(missing_docs)] CLOSE = 0x02,
        #[allow(missing_docs)] READ = 0x03,
        #[allow(missing_docs)] WRITE = 0x04,
        #[allow(missing_docs)] QUERY_INFORMATION = 0x05,
        #[allow(missing_docs)] SET_INFORMATION = 0x06,
        #[allow(missing_docs)] FLUSH_BUFFERS = 0x09,
        #[allow(missing_docs)] DIRECTORY_CONTROL = 0x0C,
        #[allow(missing_docs)] FILE_SYSTEM_CONTROL = 0x0D,
        #[allow(missing_docs)] DEVICE_CONTROL = 0x0E,
        #[allow(missing_docs)] INTERNAL_DEVICE_CONTROL = 0x0F,
        #[allow(missing_docs)] SHUTDOWN = 0x10,
        #[allow(missing_docs)] CLEANUP = 0x12,
        #[allow(missing_docs)] POWER = 0x16,
        #[allow(missing_docs)] SYSTEM_CONTROL = 0x17,
        #[allow(missing_docs)] PNP = 0x1B,
    }
}

/// Entries in `DRIVER_OBJECT.MajorFunction`.
pub const MAJOR_FUNCTIONS: usize = 28;

/// `IO_STATUS_BLOCK`.
#[doc(alias = "IO_STATUS_BLOCK")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct IoStatusBlock {
    /// Outcome.
    pub status: NtStatus,
    /// The union with a pointer leaves four bytes.
    pub _pad: u32,
    /// Request-dependent, mostly a byte count.
    pub information: u64,
}

impl IoStatusBlock {
    /// A block with both members set.
    pub const fn new(status: NtStatus, information: u64) -> Self {
        Self { status, _pad: 0, information }
    }
}

/// Bits of `IoStackLocation::control`.
pub mod control {
    /// `SL_PENDING_RETURNED`.
    pub const PENDING_RETURNED: u8 = 0x01;
    /// `SL_ERROR_RETURNED`.
    pub const ERROR_RETURNED: u8 = 0x02;
    /// `SL_INVOKE_ON_CANCEL`.
    pub const INVOKE_ON_CANCEL: u8 = 0x20;
    /// `SL_INVOKE_ON_SUCCESS`.
    pub const INVOKE_ON_SUCCESS: u8 = 0x40;
    /// `SL_INVOKE_ON_ERROR`.
    pub const INVOKE_ON_ERROR: u8 = 0x80;
}

/// Bits of `Irp::flags`.
pub mod irp_flags {
    /// `IRP_ASSOCIATED_IRP`.
    pub const ASSOCIATED_IRP: u32 = 0x008;
    /// `IRP_SYNCHRONOUS_API`.
    pub const SYNCHRONOUS_API: u32 = 0x004;
    /// `IRP_PAGING_IO`.
    pub const PAGING_IO: u32 = 0x002;
    /// `IRP_SYNCHRONOUS_PAGING_IO`.
    pub const SYNCHRONOUS_PAGING_IO: u32 = 0x040;
    /// `IRP_CREATE_OPERATION`.
    pub const CREATE_OPERATION: u32 = 0x080;
    /// `IRP_BUFFERED_IO`.
    pub const BUFFERED_IO: u32 = 0x010;
    /// `IRP_DEALLOCATE_BUFFER`.
    pub const DEALLOCATE_BUFFER: u32 = 0x020;
    /// `IRP_INPUT_OPERATION`.
    pub const INPUT_OPERATION: u32 = 0x040;
    /// `IRP_READ_OPERATION`.
    pub const READ_OPERATION: u32 = 0x100;
    /// `IRP_WRITE_OPERATION`.
    pub const WRITE_OPERATION: u32 = 0x200;
    /// `IRP_CLOSE_OPERATION`.
    pub const CLOSE_OPERATION: u32 = 0x400;
}

/// Bits of `Irp::allocation_flags`.
pub mod allocation_flags {
    /// `IRP_QUOTA_CHARGED`.
    pub const QUOTA_CHARGED: u8 = 0x01;
    /// `IRP_ALLOCATED_FIXED_SIZE`.
    pub const FIXED_SIZE: u8 = 0x04;
    /// `IRP_LOOKASIDE_ALLOCATION`.
    pub const LOOKASIDE: u8 = 0x08;
}

/// One driver's view of a request.
///
/// `parameters` is the 32-byte union as four words; accessors for each request live with its user.
#[doc(alias = "IO_STACK_LOCATION")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct IoStackLocation {
    /// Which dispatch routine.
    pub major_function: MajorFunction,
    /// For TDI, which request (C-014).
    pub minor_function: u8,
    /// `SL_xxx` request flags.
    pub flags: u8,
    /// Pending mark and completion-routine conditions, see [`control`].
    pub control: u8,
    /// Unused.
    pub _pad: u32,
    /// The parameters union.
    pub parameters: [u64; 4],
    /// The device this location was sent to.
    pub device_object: *mut DeviceObject,
    /// The file the request is for.
    pub file_object: *mut FileObject,
    /// `NTSTATUS (DEVICE_OBJECT*, IRP*, void *context)`, or 0.
    pub completion_routine: u64,
    /// Its last argument.
    pub context: u64,
}

/// An I/O request packet; its stack locations follow it in memory.
#[doc(alias = "IRP")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Irp {
    /// [`Irp::TYPE`].
    pub kind: i16,
    /// Bytes including the stack locations.
    pub size: u16,
    /// Unused.
    pub _pad: u32,
    /// Head of the MDL chain.
    pub mdl_address: *mut Mdl,
    /// See [`irp_flags`].
    pub flags: u32,
    /// Unused.
    pub _pad2: u32,
    /// `AssociatedIrp.SystemBuffer`.
    pub system_buffer: u64,
    /// Link in the building thread's list.
    pub thread_list_entry: ListEntry,
    /// Outcome.
    pub io_status: IoStatusBlock,
    /// 0 kernel, 1 user.
    pub requestor_mode: u8,
    /// The pending mark, as the completion routine sees it (K-039).
    pub pending_returned: u8,
    /// Number of stack locations.
    pub stack_count: i8,
    /// Index of the current one, `stack_count + 1` before the first send.
    pub current_location: i8,
    /// Set once cancelled.
    pub cancel: u8,
    /// The level to give to `IoReleaseCancelSpinLock`.
    pub cancel_irql: u8,
    /// Unused.
    pub apc_environment: i8,
    /// See [`allocation_flags`].
    pub allocation_flags: u8,
    /// Where the sender wants the outcome, or null.
    pub user_iosb: *mut IoStatusBlock,
    /// Set when the request is complete, or null.
    pub user_event: *mut KernelEvent,
    /// `Overlay`: APC routine and context, or allocation size.
    pub overlay: [u64; 2],
    /// `void (DEVICE_OBJECT*, IRP*)`, exchanged atomically by inlined code (K-003).
    pub cancel_routine: u64,
    /// The sender's buffer.
    pub user_buffer: u64,
    /// Four words for the driver that holds the request.
    pub driver_context: [u64; 4],
    /// `KTHREAD` of the builder.
    pub thread: u64,
    /// Unused.
    pub auxiliary_buffer: u64,
    /// A list link for the driver that holds the request.
    pub list_entry: ListEntry,
    /// The current stack location.
    pub current_stack_location: *mut IoStackLocation,
    /// The file object, for requests built by the I/O manager (C-571).
    pub original_file_object: *mut FileObject,
    /// Rest of the `Tail` union.
    pub tail_rest: u64,
}

impl Irp {
    /// Value of `Irp::kind`.
    pub const TYPE: i16 = 6;
}

/// Bits of `DeviceObject::flags`.
pub mod device_flags {
    /// `DO_BUFFERED_IO`.
    pub const BUFFERED_IO: u32 = 0x04;
    /// `DO_EXCLUSIVE`.
    pub const EXCLUSIVE: u32 = 0x08;
    /// `DO_DIRECT_IO`.
    pub const DIRECT_IO: u32 = 0x10;
    /// `DO_DEVICE_HAS_NAME`.
    pub const DEVICE_HAS_NAME: u32 = 0x40;
    /// `DO_DEVICE_INITIALIZING`.
    pub const DEVICE_INITIALIZING: u32 = 0x80;
    /// It wants IRP_MJ_SHUTDOWN.
    pub const SHUTDOWN_REGISTERED: u32 = 0x800;
}

/// `DEVICE_OBJECT`. mingw-w64's is 8 bytes shorter; the device extension starts at `device_extension`.
#[doc(alias = "DEVICE_OBJECT")]
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub struct DeviceObject {
    /// [`DeviceObject::TYPE`].
    pub kind: i16,
    /// Bytes including the extension.
    pub size: u16,
    /// Open file objects and other users.
    pub reference_count: i32,
    /// The owning driver.
    pub driver_object: *mut DriverObject,
    /// The driver's next device.
    pub next_device: *mut DeviceObject,
    /// The device attached above, or null.
    pub attached_device: *mut DeviceObject,
    /// For StartIo.
    pub current_irp: *mut Irp,
    /// Unused.
    pub timer: u64,
    /// See [`device_flags`].
    pub flags: u32,
    /// `FILE_DEVICE_xxx` characteristics.
    pub characteristics: u32,
    /// Unused.
    pub vpb: u64,
    /// The driver's own memory, behind this structure.
    pub device_extension: u64,
    /// `FILE_DEVICE_xxx`.
    pub device_type: u32,
    /// Stack locations an IRP for this device needs.
    pub stack_size: i8,
    /// Unused.
    pub _pad: [u8; 3],
    /// `Queue`: list entry or wait context block.
    pub queue: [u64; 9],
    /// Buffer alignment.
    pub alignment_requirement: u32,
    /// Unused.
    pub _pad2: u32,
    /// For StartIo.
    pub device_queue: DeviceQueue,
    /// For `IoRequestDpc`.
    pub dpc: Dpc,
    /// Unused.
    pub active_thread_count: u32,
    /// Unused.
    pub _pad3: u32,
    /// Security descriptor.
    pub security_descriptor: u64,
    /// Synchronization event.
    pub device_lock: KernelEvent,
    /// Unused.
    pub sector_size: u16,
    /// Unused.
    pub spare: u16,
    /// Unused.
    pub _pad4: u32,
    /// `DEVOBJ_EXTENSION`.
    pub device_object_extension: u64,
    /// Unused.
    pub reserved: u64,
}

impl DeviceObject {
    /// Value of `DeviceObject::kind`.
    pub const TYPE: i16 = 3;
}

/// `DRIVER_EXTENSION`.
#[doc(alias = "DRIVER_EXTENSION")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct DriverExtension {
    /// Back pointer.
    pub driver_object: *mut DriverObject,
    /// `AddDevice`.
    pub add_device: u64,
    /// How often the driver was called back after it started.
    pub count: u32,
    /// Unused.
    pub _pad: u32,
    /// The service key's last component.
    pub service_key_name: UnicodeString,
}

/// `DRIVER_OBJECT`.
#[doc(alias = "DRIVER_OBJECT")]
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub struct DriverObject {
    /// [`DriverObject::TYPE`].
    pub kind: i16,
    /// Bytes.
    pub size: u16,
    /// Unused.
    pub _pad: u32,
    /// First of the driver's devices.
    pub device_object: *mut DeviceObject,
    /// `DRVO_xxx`.
    pub flags: u32,
    /// Unused.
    pub _pad2: u32,
    /// Image base.
    pub driver_start: u64,
    /// Image size.
    pub driver_size: u32,
    /// Unused.
    pub _pad3: u32,
    /// Unused.
    pub driver_section: u64,
    /// Behind this structure (K-089).
    pub driver_extension: *mut DriverExtension,
    /// `\Driver\Name`.
    pub driver_name: UnicodeString,
    /// Unused.
    pub hardware_database: u64,
    /// `FAST_IO_DISPATCH`, or 0.
    pub fast_io_dispatch: u64,
    /// `DriverEntry`.
    pub driver_init: u64,
    /// StartIo, or 0.
    pub driver_start_io: u64,
    /// Unload, or 0.
    pub driver_unload: u64,
    /// Dispatch routines, read at every call because filters hook them.
    pub major_function: [u64; MAJOR_FUNCTIONS],
}

impl DriverObject {
    /// Value of `DriverObject::kind`.
    pub const TYPE: i16 = 4;
    /// `DRVO_LEGACY_DRIVER`.
    pub const LEGACY_DRIVER: u32 = 2;
}

const _: () = assert!(size_of::<IoStatusBlock>() == 0x10 && offset_of!(IoStatusBlock, information) == 8);
const _: () = {
    assert!(size_of::<IoStackLocation>() == 0x48 && offset_of!(IoStackLocation, parameters) == 8);
    assert!(offset_of!(IoStackLocation, device_object) == 0x28 && offset_of!(IoStackLocation, file_object) == 0x30);
    assert!(offset_of!(IoStackLocation, completion_routine) == 0x38 && offset_of!(IoStackLocation, context) == 0x40);
};
const _: () = {
    assert!(size_of::<Irp>() == 0xD0 && offset_of!(Irp, mdl_address) == 8 && offset_of!(Irp, flags) == 0x10);
    assert!(offset_of!(Irp, system_buffer) == 0x18 && offset_of!(Irp, thread_list_entry) == 0x20);
    assert!(offset_of!(Irp, io_status) == 0x30 && offset_of!(Irp, requestor_mode) == 0x40);
    assert!(offset_of!(Irp, stack_count) == 0x42 && offset_of!(Irp, current_location) == 0x43);
    assert!(offset_of!(Irp, cancel) == 0x44 && offset_of!(Irp, cancel_irql) == 0x45);
    assert!(offset_of!(Irp, allocation_flags) == 0x47 && offset_of!(Irp, user_iosb) == 0x48);
    assert!(offset_of!(Irp, user_event) == 0x50 && offset_of!(Irp, overlay) == 0x58);
    assert!(offset_of!(Irp, cancel_routine) == 0x68 && offset_of!(Irp, user_buffer) == 0x70);
    assert!(offset_of!(Irp, driver_context) == 0x78 && offset_of!(Irp, thread) == 0x98);
    assert!(offset_of!(Irp, list_entry) == 0xA8 && offset_of!(Irp, current_stack_location) == 0xB8);
    assert!(offset_of!(Irp, original_file_object) == 0xC0);
};
const _: () = {
    assert!(size_of::<DeviceObject>() == 0x150 && offset_of!(DeviceObject, driver_object) == 8);
    assert!(offset_of!(DeviceObject, attached_device) == 0x18 && offset_of!(DeviceObject, flags) == 0x30);
    assert!(offset_of!(DeviceObject, device_extension) == 0x40 && offset_of!(DeviceObject, device_type) == 0x48);
    assert!(offset_of!(DeviceObject, stack_size) == 0x4C && offset_of!(DeviceObject, alignment_requirement) == 0x98);
    assert!(offset_of!(DeviceObject, device_queue) == 0xA0 && offset_of!(DeviceObject, dpc) == 0xC8);
    assert!(offset_of!(DeviceObject, security_descriptor) == 0x110 && offset_of!(DeviceObject, device_lock) == 0x118);
    assert!(offset_of!(DeviceObject, device_object_extension) == 0x138);
};
const _: () = {
    assert!(size_of::<DriverObject>() == 0x150 && offset_of!(DriverObject, device_object) == 8);
    assert!(offset_of!(DriverObject, driver_start) == 0x18 && offset_of!(DriverObject, driver_extension) == 0x30);
    assert!(offset_of!(DriverObject, driver_name) == 0x38 && offset_of!(DriverObject, fast_io_dispatch) == 0x50);
    assert!(offset_of!(DriverObject, driver_init) == 0x58 && offset_of!(DriverObject, driver_start_io) == 0x60);
    assert!(offset_of!(DriverObject, driver_unload) == 0x68 && offset_of!(DriverObject, major_function) == 0x70);
    assert!(size_of::<DriverExtension>() == 0x28);
};
