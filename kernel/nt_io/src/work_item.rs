//! Work items of devices (K-136, K-137, K-152): a driver's routine on a system thread, while its device stays.
//!
//! An item from `IoAllocateWorkItem` is a slot of ours; one in a driver's own memory (`IoInitializeWorkItem`) holds
//! nothing that is trusted but the device, which is checked to be alive before it is used.

use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use arena::{SlotArena, SlotCache, plan};
use host_lock::Mutex;
use nt_abi::DeviceObject;
use nt_abi::exception::BugCheck;
use nt_dispatcher::{thread, work};

use crate::device;

/// What `IoSizeofWorkItem` says, and the body of an allocated item.
const ITEM_BYTES: u32 = 0x58;
/// First word of an idle item.
const IDLE: u64 = 0x4D45_5449_4C44_4901;
/// First word of an item that waits for a worker.
const QUEUED: u64 = 0x4D45_5449_5155_4501;

gate::exports! {
    /// What ntoskrnl exports of work items.
    pub(crate) static TABLE in "ntoskrnl.exe";
    "IoAllocateWorkItem" = io_allocate_work_item(device: *mut DeviceObject) -> u64, irql <= DISPATCH, rules "K-136";
    "IoFreeWorkItem" = io_free_work_item(item: u64), irql <= DISPATCH, rules "K-136 K-152";
    "IoSizeofWorkItem" = io_sizeof_work_item() -> u32, rules "K-136";
    "IoInitializeWorkItem" = io_initialize_work_item(object: *mut DeviceObject, item: u64), irql <= DISPATCH, rules "K-136";
    "IoUninitializeWorkItem" = io_uninitialize_work_item(item: u64), irql <= DISPATCH, rules "K-136 K-152";
    "IoQueueWorkItem" = io_queue_work_item(item: u64, routine: u64, queue: u32, context: u64), irql <= DISPATCH, rules "K-136 K-137";
    "IoQueueWorkItemEx" = io_queue_work_item_ex(item: u64, routine: u64, queue: u32, context: u64), irql <= DISPATCH, rules "K-136 K-137";
}

static ITEMS: SlotArena = SlotArena::new(plan::IRPS + (2 << 34), ITEM_BYTES as u64, 1 << 16);
/// Work items come and go rarely enough that one cache for all threads will do.
static CACHE: Mutex<SlotCache> = Mutex::new(SlotCache::empty());

/// An item's memory, as both kinds use it.
#[repr(C)]
struct WorkItem {
    state: u64,
    object: *mut DeviceObject,
}

/// The word that says whether an item is queued.
///
/// # Safety
/// `item` is an item's memory; a bad address faults and is blamed on the importing driver.
unsafe fn state<'a>(item: u64) -> &'a AtomicU64 {
    // SAFETY: the caller's promise.
    unsafe { AtomicU64::from_ptr(&raw mut (*(item as *mut WorkItem)).state) }
}

/// Visits allocated items with the driver instruction that allocated each, for the report at the end of a run.
pub fn for_each_live(mut visit: impl FnMut(u64, u64)) {
    ITEMS.for_each_live(|item, header| visit(item, header.caller));
}

unsafe extern "win64" fn io_allocate_work_item(device: *mut DeviceObject) -> u64 {
    let caller = gate::caller();
    let mut cache = CACHE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let Some(item) = ITEMS.allocate(&mut cache, caller) else { return 0 };
    drop(cache);
    let item = item.as_ptr() as u64;
    // SAFETY: a slot of ours of this size.
    unsafe { io_initialize_work_item(device, item) };
    item
}

unsafe extern "win64" fn io_free_work_item(item: u64) {
    // SAFETY: what drivers pass is theirs to answer for; a bad pointer faults and is blamed on them. The same
    // holds for every function of this module.
    unsafe { io_uninitialize_work_item(item) };
    let mut cache = CACHE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if !ITEMS.free(&mut cache, item) {
        drop(cache);
        gate::bugcheck(BugCheck::WORKER_INVALID, [1, item, 0, 0]);
    }
}

unsafe extern "win64" fn io_sizeof_work_item() -> u32 {
    ITEM_BYTES
}

unsafe extern "win64" fn io_initialize_work_item(object: *mut DeviceObject, item: u64) {
    // SAFETY: see `io_free_work_item`.
    unsafe { ptr::write(item as *mut WorkItem, WorkItem { state: IDLE, object }) };
}

unsafe extern "win64" fn io_uninitialize_work_item(item: u64) {
    // SAFETY: see `io_free_work_item`.
    let was = unsafe { state(item) }.swap(0, Ordering::AcqRel);
    if was != IDLE {
        gate::bugcheck(BugCheck::WORKER_INVALID, [u64::from(was != QUEUED), item, 0, 0]);
    }
}

unsafe extern "win64" fn io_queue_work_item(item: u64, routine: u64, _queue: u32, context: u64) {
    // SAFETY: see `io_free_work_item`.
    unsafe {
        enqueue(item, move |object| thread::keeping_regions(routine, || gate::call::call2(routine, object, context)))
    };
}

unsafe extern "win64" fn io_queue_work_item_ex(item: u64, routine: u64, _queue: u32, context: u64) {
    // SAFETY: see `io_free_work_item`.
    unsafe {
        let call = move |object| gate::call::call3(routine, object, context, item);
        enqueue(item, move |object| thread::keeping_regions(routine, || call(object)))
    };
}

/// Queues an item. An item that is queued already, freed, or no item at all ends the run (K-137).
///
/// # Safety
/// As for the exports.
unsafe fn enqueue(item: u64, call: impl FnOnce(u64) -> u64 + Send + 'static) {
    // SAFETY: see `io_free_work_item`.
    let (object, before) = unsafe {
        let before = state(item).compare_exchange(IDLE, QUEUED, Ordering::AcqRel, Ordering::Acquire);
        ((*(item as *mut WorkItem)).object as u64, before)
    };
    if let Err(was) = before {
        gate::bugcheck(BugCheck::WORKER_INVALID, [2 + u64::from(was != QUEUED), item, 0, 0]);
    }
    // A driver object stands in for a device in the newer routines; only devices count their users.
    let is_device = nt_object::type_of(object).is_some_and(|kind| ptr::eq(kind, &device::DEVICE));
    nt_object::reference(object);
    if is_device {
        // SAFETY: a live device, referenced just now.
        unsafe { device::count_open(object as *mut DeviceObject, 1) };
    }
    let caller = gate::caller();
    work::queue(Box::new(move || {
        // SAFETY: allocated items cannot be freed while they are queued; the memory of others is the driver's.
        // Taken off the queue before its routine runs, so that the routine may free it or queue it again.
        unsafe { state(item) }.store(IDLE, Ordering::Release);
        gate::call::on_behalf(caller, || call(object));
        if is_device {
            // SAFETY: referenced until the next line.
            unsafe { device::count_open(object as *mut DeviceObject, -1) };
        }
        nt_object::dereference(object);
    }));
}
