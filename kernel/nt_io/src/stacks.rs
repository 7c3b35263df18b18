//! Exports around device stacks and driver objects beyond the basic ones (K-092, K-097), and error-log entries (K-176).

use std::collections::{BTreeMap, HashMap};
use std::ptr;
use std::sync::PoisonError;

use gate::memory::{put, touch};
use host_lock::{Mutex, MutexGuard};
use nt_abi::{DeviceObject, DriverObject, FileObject, NtStatus};
use trace::Event;

use crate::{buffers, device, driver};

/// `ERROR_LOG_MAXIMUM_SIZE`: bytes of the largest entry.
const ERROR_LOG_ENTRY_MAX: u8 = 0xF0;
/// Offset of `ErrorCode` in an `IO_ERROR_LOG_PACKET`.
const ERROR_CODE_OFFSET: u64 = 0x0C;

gate::exports! {
    /// What ntoskrnl exports of stacks, extensions, share access and the error log.
    pub(crate) static TABLE in "ntoskrnl.exe";
    "IoGetAttachedDevice" = io_get_attached_device(device: *mut DeviceObject) -> *mut DeviceObject, irql <= DISPATCH, rules "K-096";
    "IoGetAttachedDeviceReference" = io_get_attached_device_reference(device: *mut DeviceObject) -> *mut DeviceObject, irql <= DISPATCH, rules "K-097";
    "IoGetLowerDeviceObject" = io_get_lower_device_object(device: *mut DeviceObject) -> *mut DeviceObject, irql <= DISPATCH, rules "K-092";
    "IoGetDeviceAttachmentBaseRef" = io_get_device_attachment_base_ref(device: *mut DeviceObject) -> *mut DeviceObject, irql <= DISPATCH, rules "K-092";
    "IoGetBaseFileSystemDeviceObject" = io_get_base_file_system_device_object(file: *mut FileObject) -> *mut DeviceObject, irql <= DISPATCH, rules "K-096";
    "IoAttachDeviceToDeviceStackSafe" = io_attach_device_to_device_stack_safe(source: *mut DeviceObject, target: *mut DeviceObject, below: *mut *mut DeviceObject) -> NtStatus, irql <= DISPATCH, rules "K-092";
    "IoEnumerateDeviceObjectList" = io_enumerate_device_object_list(driver: *mut DriverObject, list: *mut *mut DeviceObject, bytes: u32, count: *mut u32) -> NtStatus, irql <= DISPATCH, rules "K-085";
    "IoAllocateDriverObjectExtension" = io_allocate_driver_object_extension(driver: u64, id: u64, bytes: u32, extension: *mut u64) -> NtStatus, irql <= APC, rules "K-089";
    "IoGetDriverObjectExtension" = io_get_driver_object_extension(driver: u64, id: u64) -> u64, irql <= DISPATCH, rules "K-089";
    "IoCheckShareAccess" = io_check_share_access(access: u32, share: u32, file: *mut FileObject, shared: *mut ShareAccess, update: u8) -> NtStatus, irql <= PASSIVE, rules "K-099";
    "IoSetShareAccess" = io_set_share_access(access: u32, share: u32, file: *mut FileObject, shared: *mut ShareAccess), irql <= PASSIVE, rules "K-099";
    "IoUpdateShareAccess" = io_update_share_access(file: *mut FileObject, shared: *mut ShareAccess), irql <= PASSIVE, rules "K-099";
    "IoRemoveShareAccess" = io_remove_share_access(file: *mut FileObject, shared: *mut ShareAccess), irql <= PASSIVE, rules "K-099";
    "IoAllocateErrorLogEntry" = io_allocate_error_log_entry(object: u64, bytes: u8) -> u64, irql <= DISPATCH, rules "K-176";
    "IoWriteErrorLogEntry" = io_write_error_log_entry(entry: u64), irql <= DISPATCH, rules "K-176";
    "IoFreeErrorLogEntry" = io_free_error_log_entry(entry: u64), irql <= DISPATCH, rules "K-176";
}

unsafe extern "win64" fn io_get_attached_device(device: *mut DeviceObject) -> *mut DeviceObject {
    // SAFETY: what drivers pass is theirs to answer for; a bad pointer faults and is blamed on them. The same
    // holds for every function of this module.
    unsafe { device::top_of_stack(device) }
}

fn referenced(device: *mut DeviceObject) -> *mut DeviceObject {
    if !device.is_null() {
        nt_object::reference(device as u64);
    }
    device
}

unsafe extern "win64" fn io_get_attached_device_reference(device: *mut DeviceObject) -> *mut DeviceObject {
    // SAFETY: see `io_get_attached_device`.
    referenced(unsafe { device::top_of_stack(device) })
}

unsafe extern "win64" fn io_get_lower_device_object(device: *mut DeviceObject) -> *mut DeviceObject {
    referenced(device::below(device).unwrap_or(ptr::null_mut()))
}

unsafe extern "win64" fn io_get_device_attachment_base_ref(device: *mut DeviceObject) -> *mut DeviceObject {
    referenced(device::bottom_of_stack(device))
}

unsafe extern "win64" fn io_get_base_file_system_device_object(file: *mut FileObject) -> *mut DeviceObject {
    // SAFETY: see `io_get_attached_device`.
    unsafe { (*file).device_object }
}

unsafe extern "win64" fn io_attach_device_to_device_stack_safe(
    source: *mut DeviceObject,
    target: *mut DeviceObject,
    below: *mut *mut DeviceObject,
) -> NtStatus {
    // SAFETY: see `io_get_attached_device`.
    let attached = unsafe {
        touch(below);
        device::attach(source, target, |top| put(below, top))
    };
    if attached.is_null() { NtStatus::NO_SUCH_DEVICE } else { NtStatus::SUCCESS }
}

unsafe extern "win64" fn io_enumerate_device_object_list(
    driver: *mut DriverObject,
    list: *mut *mut DeviceObject,
    bytes: u32,
    count: *mut u32,
) -> NtStatus {
    let mut devices = Vec::new();
    // SAFETY: see `io_get_attached_device`.
    unsafe {
        driver::for_each_device(driver, |device| devices.push(device));
        put(count, devices.len() as u32);
        if (bytes as usize) < devices.len() * size_of::<*mut DeviceObject>() {
            return NtStatus::BUFFER_TOO_SMALL;
        }
        for index in 0..devices.len() {
            touch(list.add(index));
        }
        for (index, device) in devices.into_iter().enumerate() {
            list.add(index).write_unaligned(referenced(device));
        }
    }
    NtStatus::SUCCESS
}

/// Extensions of driver objects, by driver and the address that identifies each.
static EXTENSIONS: Mutex<BTreeMap<(u64, u64), u64>> = Mutex::new(BTreeMap::new());

fn extensions() -> MutexGuard<'static, BTreeMap<(u64, u64), u64>> {
    EXTENSIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Frees what `IoAllocateDriverObjectExtension` gave a driver, which was unloaded.
pub fn free_driver_extensions(driver: u64) {
    let mut extensions = extensions();
    let of_driver: Vec<_> = extensions.range((driver, 0)..=(driver, u64::MAX)).map(|(key, _)| *key).collect();
    for key in of_driver {
        if let Some(extension) = extensions.remove(&key) {
            (buffers::services().free)(extension);
        }
    }
}

unsafe extern "win64" fn io_allocate_driver_object_extension(
    driver: u64,
    id: u64,
    bytes: u32,
    extension: *mut u64,
) -> NtStatus {
    // Not under the lock: it may be a bad pointer.
    // SAFETY: see `io_get_attached_device`.
    unsafe { put(extension, 0) };
    let mut extensions = extensions();
    if extensions.contains_key(&(driver, id)) {
        return NtStatus::OBJECT_NAME_COLLISION;
    }
    // For the system: the driver does not free it.
    let Some(memory) = (buffers::services().allocate)(u64::from(bytes).max(1), 0) else {
        return NtStatus::INSUFFICIENT_RESOURCES;
    };
    extensions.insert((driver, id), memory);
    drop(extensions);
    // SAFETY: new pool of this size; for the rest see `io_get_attached_device`.
    unsafe {
        (memory as *mut u8).write_bytes(0, bytes as usize);
        put(extension, memory);
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn io_get_driver_object_extension(driver: u64, id: u64) -> u64 {
    extensions().get(&(driver, id)).copied().unwrap_or(0)
}

/// `SHARE_ACCESS`: how many opens of a file want what, and let others have it.
#[doc(alias = "SHARE_ACCESS")]
#[derive(Debug, Default)]
#[repr(C)]
pub struct ShareAccess {
    open: u32,
    readers: u32,
    writers: u32,
    deleters: u32,
    shared_read: u32,
    shared_write: u32,
    shared_delete: u32,
}

/// What one open wants and lets others have: read, write, delete.
struct Sharing {
    wants: [bool; 3],
    shares: [bool; 3],
}

impl Sharing {
    /// From an access mask and `FILE_SHARE_xxx`.
    fn asked(access: u32, share: u32) -> Self {
        const READ: u32 = 0x1 | 0x20;
        const WRITE: u32 = 0x2 | 0x4;
        const DELETE: u32 = 0x1_0000;
        Self {
            wants: [access & READ != 0, access & WRITE != 0, access & DELETE != 0],
            shares: [share & 1 != 0, share & 2 != 0, share & 4 != 0],
        }
    }

    /// As noted in the file object.
    unsafe fn of(file: *mut FileObject) -> Self {
        // SAFETY: see `io_get_attached_device`.
        unsafe {
            let file = &*file;
            Self {
                wants: [file.read_access, file.write_access, file.delete_access].map(|access| access != 0),
                shares: [file.shared_read, file.shared_write, file.shared_delete].map(|share| share != 0),
            }
        }
    }

    unsafe fn note(&self, file: *mut FileObject) {
        // SAFETY: see `io_get_attached_device`.
        unsafe {
            [(*file).read_access, (*file).write_access, (*file).delete_access] = self.wants.map(u8::from);
            [(*file).shared_read, (*file).shared_write, (*file).shared_delete] = self.shares.map(u8::from);
        }
    }

    /// An open that wants nothing of a file's content does not take part.
    fn takes_part(&self) -> bool {
        self.wants.contains(&true)
    }

    fn fits(&self, shared: &ShareAccess) -> bool {
        let others_share = [shared.shared_read, shared.shared_write, shared.shared_delete];
        let others_want = [shared.readers, shared.writers, shared.deleters];
        (0..3).all(|index| {
            (!self.wants[index] || others_share[index] == shared.open)
                && (self.shares[index] || others_want[index] == 0)
        })
    }

    fn count(&self, shared: &mut ShareAccess, by: i32) {
        let add = |counter: &mut u32, on: bool| {
            if on {
                *counter = counter.wrapping_add_signed(by);
            }
        };
        add(&mut shared.open, true);
        add(&mut shared.readers, self.wants[0]);
        add(&mut shared.writers, self.wants[1]);
        add(&mut shared.deleters, self.wants[2]);
        add(&mut shared.shared_read, self.shares[0]);
        add(&mut shared.shared_write, self.shares[1]);
        add(&mut shared.shared_delete, self.shares[2]);
    }
}

impl ShareAccess {
    /// Counts an open in and notes in its file object what it has, unless it and those before exclude one another:
    /// STATUS_SHARING_VIOLATION (K-099).
    ///
    /// # Safety
    /// `file` is a live file object.
    pub unsafe fn claim(&mut self, file: *mut FileObject, access: u32, share: u32) -> NtStatus {
        // SAFETY: the caller's promise.
        unsafe { self.check(file, access, share, true) }
    }

    /// Counts an open out.
    ///
    /// # Safety
    /// As [`ShareAccess::claim`].
    pub unsafe fn release(&mut self, file: *mut FileObject) {
        // SAFETY: the caller's promise.
        let noted = unsafe { Sharing::of(file) };
        if noted.takes_part() {
            noted.count(self, -1);
        }
    }

    unsafe fn check(&mut self, file: *mut FileObject, access: u32, share: u32, update: bool) -> NtStatus {
        let asked = Sharing::asked(access, share);
        // SAFETY: the caller's promise.
        unsafe { asked.note(file) };
        if asked.takes_part() {
            if !asked.fits(self) {
                return NtStatus::SHARING_VIOLATION;
            }
            if update {
                asked.count(self, 1);
            }
        }
        NtStatus::SUCCESS
    }
}

unsafe extern "win64" fn io_check_share_access(
    access: u32,
    share: u32,
    file: *mut FileObject,
    shared: *mut ShareAccess,
    update: u8,
) -> NtStatus {
    // SAFETY: see `io_get_attached_device`.
    unsafe { (*shared).check(file, access, share, update != 0) }
}

unsafe extern "win64" fn io_set_share_access(access: u32, share: u32, file: *mut FileObject, shared: *mut ShareAccess) {
    let asked = Sharing::asked(access, share);
    // SAFETY: see `io_get_attached_device`.
    unsafe {
        asked.note(file);
        shared.write_bytes(0, 1);
        if asked.takes_part() {
            asked.count(&mut *shared, 1);
        }
    }
}

unsafe extern "win64" fn io_update_share_access(file: *mut FileObject, shared: *mut ShareAccess) {
    // SAFETY: see `io_get_attached_device`.
    unsafe {
        let noted = Sharing::of(file);
        if noted.takes_part() {
            noted.count(&mut *shared, 1);
        }
    }
}

unsafe extern "win64" fn io_remove_share_access(file: *mut FileObject, shared: *mut ShareAccess) {
    // SAFETY: see `io_get_attached_device`.
    unsafe { (*shared).release(file) }
}

/// Entries that drivers hold, with the driver instruction that allocated each.
static ENTRIES: Mutex<Option<HashMap<u64, u64>>> = Mutex::new(None);

fn entries() -> MutexGuard<'static, Option<HashMap<u64, u64>>> {
    ENTRIES.lock().unwrap_or_else(PoisonError::into_inner)
}

unsafe extern "win64" fn io_allocate_error_log_entry(_object: u64, bytes: u8) -> u64 {
    // Smaller than its fixed part, or too large: NT has no entry then.
    if !(0x30..=ERROR_LOG_ENTRY_MAX).contains(&bytes) {
        return 0;
    }
    let Some(entry) = (buffers::services().allocate)(bytes.into(), 0) else { return 0 };
    // SAFETY: new memory of this size.
    unsafe { (entry as *mut u8).write_bytes(0, bytes.into()) };
    entries().get_or_insert_default().insert(entry, gate::caller());
    entry
}

/// Takes an entry back; reports one that is none.
fn take_entry(entry: u64) -> bool {
    let known = entries().as_mut().is_some_and(|entries| entries.remove(&entry).is_some());
    if !known {
        gate::finding("K-176", "an error-log entry was written or freed that is none, or twice", gate::caller());
    }
    known
}

unsafe extern "win64" fn io_write_error_log_entry(entry: u64) {
    if take_entry(entry) {
        let code = gate::memory::read_value::<u32>(entry + ERROR_CODE_OFFSET).unwrap_or(0);
        gate::record_with_text(Event::HostNote {}, &format!("the driver wrote an error-log entry: {code:#010x}"));
        (buffers::services().free)(entry);
    }
}

unsafe extern "win64" fn io_free_error_log_entry(entry: u64) {
    if take_entry(entry) {
        (buffers::services().free)(entry);
    }
}
