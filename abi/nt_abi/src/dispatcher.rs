//! Dispatcher objects: what a thread can wait on, and what lies beside them.

use core::mem::{offset_of, size_of};

use crate::open_enum;

/// A doubly linked list head or link.
#[doc(alias = "LIST_ENTRY")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ListEntry {
    /// Next entry.
    pub flink: *mut ListEntry,
    /// Previous entry.
    pub blink: *mut ListEntry,
}

open_enum! {
    /// `DISPATCHER_HEADER.Type`.
    pub enum DispatcherType : u8 {
        /// Releases every waiter and stays signalled.
        NOTIFICATION_EVENT = 0,
        /// Releases one waiter and resets.
        SYNCHRONIZATION_EVENT = 1,
        #[allow(missing_docs)] MUTANT = 2,
        #[allow(missing_docs)] PROCESS = 3,
        #[allow(missing_docs)] QUEUE = 4,
        #[allow(missing_docs)] SEMAPHORE = 5,
        #[allow(missing_docs)] THREAD = 6,
        #[allow(missing_docs)] NOTIFICATION_TIMER = 8,
        #[allow(missing_docs)] SYNCHRONIZATION_TIMER = 9,
    }
}

/// The first member of everything a thread can wait on.
///
/// `signal_state` is the one truth about being signalled: drivers may read it, and `KeInitializeEvent`
/// of a driver compiled with inlining may write it. Waiters are kept outside, keyed by address.
#[doc(alias = "DISPATCHER_HEADER")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct DispatcherHeader {
    /// What kind of object this heads.
    pub kind: DispatcherType,
    /// `Absolute` / `Signalling` and other flags.
    pub absolute: u8,
    /// Size in 32-bit words.
    pub size: u8,
    /// `Inserted`, `Hand` and other flags.
    pub inserted: u8,
    /// Greater than zero when signalled (mutants: 1 free, 0 or below owned).
    pub signal_state: i32,
    /// Kept empty; waiters live in the dispatcher's own queues.
    pub wait_list_head: ListEntry,
}

/// `KEVENT`.
#[doc(alias = "KEVENT")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct KernelEvent {
    /// Kind is `NOTIFICATION_EVENT` or `SYNCHRONIZATION_EVENT`.
    pub header: DispatcherHeader,
}

/// `KSEMAPHORE`.
#[doc(alias = "KSEMAPHORE")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Semaphore {
    /// `signal_state` is the count.
    pub header: DispatcherHeader,
    /// Highest count.
    pub limit: i32,
    /// Unused.
    pub _pad: u32,
}

/// `KMUTANT` / `KMUTEX`.
#[doc(alias = "KMUTANT")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Mutant {
    /// `signal_state` 1 when free.
    pub header: DispatcherHeader,
    /// Unused: ownership is kept by the dispatcher.
    pub mutant_list_entry: ListEntry,
    /// The owning thread's `KTHREAD`, or null.
    pub owner_thread: u64,
    /// Non-zero when its last owner abandoned it.
    pub abandoned: u8,
    /// 1 if owning it disables kernel APCs.
    pub apc_disable: u8,
    /// Unused.
    pub _pad: [u8; 6],
}

/// `KDPC`.
#[doc(alias = "KDPC")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Dpc {
    /// 0x13.
    pub kind: u8,
    /// Importance.
    pub importance: u8,
    /// Target processor.
    pub number: u16,
    /// Unused.
    pub _pad: u32,
    /// Unused: queues are kept by the dispatcher.
    pub dpc_list_entry: ListEntry,
    /// `void (KDPC*, void *context, void *argument1, void *argument2)`.
    pub deferred_routine: u64,
    /// First argument after the DPC.
    pub deferred_context: u64,
    /// Given at queueing time.
    pub system_argument1: u64,
    /// Given at queueing time.
    pub system_argument2: u64,
    /// Non-null while queued.
    pub dpc_data: u64,
}

/// `KTIMER`.
#[doc(alias = "KTIMER")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Timer {
    /// Kind is one of the timer kinds.
    pub header: DispatcherHeader,
    /// Absolute due time in 100 ns.
    pub due_time: u64,
    /// Unused.
    pub timer_list_entry: ListEntry,
    /// Queued on expiry, or null.
    pub dpc: *mut Dpc,
    /// Unused.
    pub processor: u32,
    /// Milliseconds, 0 for a one-shot timer.
    pub period_ms: u32,
}

/// `FAST_MUTEX`; its initialiser is inlined into drivers.
#[doc(alias = "FAST_MUTEX")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct FastMutex {
    /// 1 when free.
    pub count: i32,
    /// Unused.
    pub _pad: u32,
    /// Owning thread, or null.
    pub owner: u64,
    /// How often a thread had to wait.
    pub contention: u32,
    /// Unused.
    pub _pad2: u32,
    /// Synchronization event for waiters.
    pub event: KernelEvent,
    /// The level to restore.
    pub old_irql: u32,
    /// Unused.
    pub _pad3: u32,
}

/// `WORK_QUEUE_ITEM`.
#[doc(alias = "WORK_QUEUE_ITEM")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct WorkQueueItem {
    /// `flink` is null when not queued.
    pub list: ListEntry,
    /// `void (void *parameter)`.
    pub worker_routine: u64,
    /// Its argument.
    pub parameter: u64,
}

/// `KDEVICE_QUEUE`.
#[doc(alias = "KDEVICE_QUEUE")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct DeviceQueue {
    /// 0x14.
    pub kind: u16,
    /// Size.
    pub size: u16,
    /// Unused.
    pub _pad: u32,
    /// Queued entries.
    pub device_list_head: ListEntry,
    /// Spin lock.
    pub lock: u64,
    /// Busy flag and hint.
    pub busy: u64,
}

const _: () = assert!(size_of::<DispatcherHeader>() == 0x18 && offset_of!(DispatcherHeader, signal_state) == 4);
const _: () = assert!(size_of::<KernelEvent>() == 0x18 && size_of::<Semaphore>() == 0x20);
const _: () = assert!(size_of::<Mutant>() == 0x38 && size_of::<Dpc>() == 0x40);
const _: () = assert!(offset_of!(Dpc, deferred_routine) == 0x18 && offset_of!(Dpc, dpc_data) == 0x38);
const _: () =
    assert!(size_of::<Timer>() == 0x40 && offset_of!(Timer, dpc) == 0x30 && offset_of!(Timer, period_ms) == 0x3C);
const _: () = assert!(size_of::<FastMutex>() == 0x38 && offset_of!(FastMutex, event) == 0x18);
const _: () = assert!(size_of::<WorkQueueItem>() == 0x20 && size_of::<DeviceQueue>() == 0x28);
