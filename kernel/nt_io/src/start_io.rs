//! StartIo and device queues: one request at a time for drivers that want it so.
//!
//! A `KDEVICE_QUEUE` is the driver's memory; its lock word keeps two processors apart, and its entries are walked with a
//! bound because the driver can write to the links.

use std::mem::{offset_of, size_of};
use std::ptr;

use nt_abi::dispatcher::DeviceQueue;
use nt_abi::{DeviceObject, Irp, Irql, ListEntry};
use nt_dispatcher::{irql::Raised, spin};

use crate::{cancel, device};

/// `KOBJECTS`: the type of a device queue.
const DEVICE_QUEUE_TYPE: u16 = 0x14;
/// Most entries of one queue that are looked at.
const ENTRIES_MAX: usize = 1 << 20;

gate::exports! {
    /// What ntoskrnl exports of StartIo.
    pub(crate) static TABLE in "ntoskrnl.exe";
    "IoStartPacket" = io_start_packet(device: *mut DeviceObject, irp: *mut Irp, key: *const u32, cancel: u64), irql <= DISPATCH, rules "K-080";
    "IoStartNextPacket" = io_start_next_packet(device: *mut DeviceObject, cancelable: u8), irql <= DISPATCH, rules "K-080";
    "IoStartNextPacketByKey" = io_start_next_packet_by_key(device: *mut DeviceObject, cancelable: u8, key: u32), irql <= DISPATCH, rules "K-080";
    "KeInitializeDeviceQueue" = ke_initialize_device_queue(queue: *mut DeviceQueue), rules "K-148";
    "KeInsertDeviceQueue" = ke_insert_device_queue(queue: *mut DeviceQueue, entry: *mut QueueEntry) -> u8, irql <= DISPATCH, rules "K-148";
    "KeInsertByKeyDeviceQueue" = ke_insert_by_key_device_queue(queue: *mut DeviceQueue, entry: *mut QueueEntry, key: u32) -> u8, irql <= DISPATCH, rules "K-148";
    "KeRemoveDeviceQueue" = ke_remove_device_queue(queue: *mut DeviceQueue) -> *mut QueueEntry, irql <= DISPATCH, rules "K-148";
    "KeRemoveByKeyDeviceQueue" = ke_remove_by_key_device_queue(queue: *mut DeviceQueue, key: u32) -> *mut QueueEntry, irql <= DISPATCH, rules "K-148";
    "KeRemoveEntryDeviceQueue" = ke_remove_entry_device_queue(queue: *mut DeviceQueue, entry: *mut QueueEntry) -> u8, irql <= DISPATCH, rules "K-148";
}

/// `KDEVICE_QUEUE_ENTRY`; in an IRP it lies where the driver context is.
#[doc(alias = "KDEVICE_QUEUE_ENTRY")]
#[repr(C)]
pub struct QueueEntry {
    list: ListEntry,
    sort_key: u32,
    inserted: u8,
    _pad: [u8; 3],
}

const _: () = assert!(size_of::<QueueEntry>() == 0x18 && offset_of!(QueueEntry, sort_key) == 0x10);

/// Makes an empty, idle queue.
///
/// # Safety
/// `queue` is writable memory of this size.
pub(crate) unsafe fn initialize(queue: *mut DeviceQueue) {
    // SAFETY: the caller's promise.
    unsafe {
        let head = &raw mut (*queue).device_list_head;
        *head = ListEntry { flink: head, blink: head };
        (*queue).kind = DEVICE_QUEUE_TYPE;
        (*queue).size = size_of::<DeviceQueue>() as u16;
        (*queue).lock = 0;
        (*queue).busy = 0;
    }
}

/// A locked queue.
struct Locked {
    queue: *mut DeviceQueue,
    _raised: Raised,
}

impl Locked {
    unsafe fn new(queue: *mut DeviceQueue) -> Self {
        let raised = Raised::to(Irql::DISPATCH);
        // SAFETY: what drivers pass is theirs to answer for; a bad pointer faults and is blamed on them. The same
        // holds for every function of this module.
        unsafe { spin::acquire(&raw mut (*queue).lock) };
        Self { queue, _raised: raised }
    }

    /// Whether the queue was busy; it is from now on.
    unsafe fn make_busy(&self) -> bool {
        // SAFETY: see `new`. The first byte is the flag.
        unsafe { ptr::replace((&raw mut (*self.queue).busy).cast::<u8>(), 1) != 0 }
    }

    unsafe fn make_idle(&self) {
        // SAFETY: see `new`.
        unsafe { (&raw mut (*self.queue).busy).cast::<u8>().write(0) };
    }

    /// The first entry for which `wanted` holds.
    unsafe fn find(&self, wanted: impl Fn(*mut QueueEntry) -> bool) -> Option<*mut QueueEntry> {
        // SAFETY: see `new`.
        unsafe {
            let head = &raw mut (*self.queue).device_list_head;
            let mut link = (*head).flink;
            for _ in 0..ENTRIES_MAX {
                if link == head {
                    return None;
                }
                if wanted(link.cast()) {
                    return Some(link.cast());
                }
                link = (*link).flink;
            }
        }
        None
    }

    /// Links an entry in front of another link.
    unsafe fn insert_before(&self, next: *mut ListEntry, entry: *mut QueueEntry) {
        // SAFETY: see `new`.
        unsafe {
            let link = &raw mut (*entry).list;
            let before = (*next).blink;
            *link = ListEntry { flink: next, blink: before };
            (*before).flink = link;
            (*next).blink = link;
            (*entry).inserted = 1;
        }
    }

    unsafe fn unlink(&self, entry: *mut QueueEntry) {
        // SAFETY: see `new`.
        unsafe {
            let ListEntry { flink, blink } = (*entry).list;
            (*blink).flink = flink;
            (*flink).blink = blink;
            (*entry).inserted = 0;
        }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // SAFETY: taken in `new`.
        unsafe { spin::release(&raw mut (*self.queue).lock) };
    }
}

unsafe extern "win64" fn ke_initialize_device_queue(queue: *mut DeviceQueue) {
    // SAFETY: see `Locked::new`.
    unsafe { initialize(queue) };
}

/// Queues an entry if the queue is busy; else makes it busy and leaves the entry to the caller. `key`: in front of the
/// first entry with a higher one.
unsafe fn insert(queue: *mut DeviceQueue, entry: *mut QueueEntry, key: Option<u32>) -> bool {
    // SAFETY: see `Locked::new`.
    unsafe {
        let locked = Locked::new(queue);
        (*entry).inserted = 0;
        (*entry).sort_key = key.unwrap_or((*entry).sort_key);
        if !locked.make_busy() {
            return false;
        }
        let head = &raw mut (*queue).device_list_head;
        let next = key.and_then(|key| locked.find(|queued| (*queued).sort_key > key)).map_or(head, |next| next.cast());
        locked.insert_before(next, entry);
        true
    }
}

/// Takes the next entry out, or makes the queue idle. `key`: the first entry with at least this key, or the first.
unsafe fn remove(queue: *mut DeviceQueue, key: Option<u32>) -> *mut QueueEntry {
    // SAFETY: see `Locked::new`.
    unsafe {
        let locked = Locked::new(queue);
        let by_key = key.and_then(|key| locked.find(|queued| (*queued).sort_key >= key));
        match by_key.or_else(|| locked.find(|_| true)) {
            Some(entry) => {
                locked.unlink(entry);
                entry
            }
            None => {
                locked.make_idle();
                ptr::null_mut()
            }
        }
    }
}

unsafe extern "win64" fn ke_insert_device_queue(queue: *mut DeviceQueue, entry: *mut QueueEntry) -> u8 {
    // SAFETY: see `Locked::new`.
    unsafe { insert(queue, entry, None).into() }
}

unsafe extern "win64" fn ke_insert_by_key_device_queue(
    queue: *mut DeviceQueue,
    entry: *mut QueueEntry,
    key: u32,
) -> u8 {
    // SAFETY: see `Locked::new`.
    unsafe { insert(queue, entry, Some(key)).into() }
}

unsafe extern "win64" fn ke_remove_device_queue(queue: *mut DeviceQueue) -> *mut QueueEntry {
    // SAFETY: see `Locked::new`.
    unsafe { remove(queue, None) }
}

unsafe extern "win64" fn ke_remove_by_key_device_queue(queue: *mut DeviceQueue, key: u32) -> *mut QueueEntry {
    // SAFETY: see `Locked::new`.
    unsafe { remove(queue, Some(key)) }
}

unsafe extern "win64" fn ke_remove_entry_device_queue(queue: *mut DeviceQueue, entry: *mut QueueEntry) -> u8 {
    // SAFETY: see `Locked::new`.
    unsafe {
        let locked = Locked::new(queue);
        let found = locked.find(|queued| queued == entry).is_some();
        if found {
            locked.unlink(entry);
        }
        found.into()
    }
}

/// The queue entry inside a packet.
fn entry_of(irp: *mut Irp) -> *mut QueueEntry {
    (irp as usize + offset_of!(Irp, driver_context)) as *mut QueueEntry
}

/// The packet around a queue entry.
fn irp_of(entry: *mut QueueEntry) -> *mut Irp {
    (entry as usize - offset_of!(Irp, driver_context)) as *mut Irp
}

unsafe extern "win64" fn io_start_packet(device: *mut DeviceObject, irp: *mut Irp, key: *const u32, routine: u64) {
    let _raised = Raised::to(Irql::DISPATCH);
    // SAFETY: see `Locked::new`.
    unsafe {
        let cancelable = routine != 0;
        let level = cancelable.then(cancel::acquire_lock);
        if cancelable {
            cancel::set_routine(irp, routine);
        }
        let key = (!key.is_null()).then(|| key.read_unaligned());
        let queued = insert(&raw mut (*device).device_queue, entry_of(irp), key);
        if !queued {
            (*device).current_irp = irp;
        }
        // Cancelled before it was queued: the routine is called here, since IoCancelIrp has come too early.
        let early = queued && cancelable && cancel::is_cancelled(irp) && cancel::set_routine(irp, 0) != 0;
        match level {
            Some(level) if early => {
                cancel::call_routine(routine, device as u64, irp, level);
            }
            Some(level) => cancel::release_lock(level),
            None => {}
        }
        if !queued {
            call_start_io(device, irp);
        }
    }
}

unsafe fn call_start_io(device: *mut DeviceObject, irp: *mut Irp) {
    let _raised = Raised::to(Irql::DISPATCH);
    // SAFETY: see `Locked::new`.
    unsafe { gate::call::call2((*device::driver(device)).driver_start_io, device as u64, irp as u64) };
}

unsafe fn start_next(device: *mut DeviceObject, cancelable: bool, key: Option<u32>) {
    let _raised = Raised::to(Irql::DISPATCH);
    // SAFETY: see `Locked::new`.
    unsafe {
        let level = cancelable.then(cancel::acquire_lock);
        let entry = remove(&raw mut (*device).device_queue, key);
        let irp = if entry.is_null() { ptr::null_mut() } else { irp_of(entry) };
        (*device).current_irp = irp;
        if let Some(level) = level {
            cancel::release_lock(level);
        }
        if !irp.is_null() {
            call_start_io(device, irp);
        }
    }
}

unsafe extern "win64" fn io_start_next_packet(device: *mut DeviceObject, cancelable: u8) {
    // SAFETY: see `Locked::new`.
    unsafe { start_next(device, cancelable != 0, None) };
}

unsafe extern "win64" fn io_start_next_packet_by_key(device: *mut DeviceObject, cancelable: u8, key: u32) {
    // SAFETY: see `Locked::new`.
    unsafe { start_next(device, cancelable != 0, Some(key)) };
}
