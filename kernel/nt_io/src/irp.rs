//! I/O request packets: making, sending, freeing (K-020 to K-049, K-060 to K-066).
//!
//! A packet's fields are the driver's to read and write. What only the host may know about it lies in the
//! slot header in front of it: who built it, and whether the I/O manager or a driver frees it.

use std::sync::atomic::{AtomicU32, Ordering};

use arena::{SlotArena, plan};
use gate::thread::cache;
use nt_abi::exception::BugCheck;
use nt_abi::io::{MAJOR_FUNCTIONS, allocation_flags, control, irp_flags};
use nt_abi::{DeviceObject, IoStackLocation, IoStatusBlock, Irp, KernelEvent, ListEntry, MajorFunction, NtStatus};
use trace::{Counter, Event};

/// Locations of a packet from the small arena; drivers rarely need more.
const SMALL_LOCATIONS: i8 = 4;
/// Most locations at all: `StackCount` is a signed byte, and its successor must fit too.
const LOCATIONS_MAX: i8 = 126;

static SMALL: SlotArena = SlotArena::new(plan::IRPS, size_of_irp(SMALL_LOCATIONS), 1 << 20);
static LARGE: SlotArena = SlotArena::new(plan::IRPS + (1 << 34), size_of_irp(LOCATIONS_MAX), 1 << 14);

/// Who a packet belongs to once its last completion routine has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Owner {
    /// The driver that allocated it (K-024).
    Driver = 1,
    /// The I/O manager, for the thread that built it (K-061).
    Thread = 2,
    /// The I/O manager itself: create, cleanup, close, requests of the command line.
    Manager = 3,
}

impl Owner {
    fn of(word: u32) -> Self {
        match word {
            2 => Self::Thread,
            3 => Self::Manager,
            _ => Self::Driver,
        }
    }
}

/// Bytes of a packet with this many locations (K-023).
pub const fn size_of_irp(locations: i8) -> u64 {
    (size_of::<Irp>() + locations as usize * size_of::<IoStackLocation>()) as u64
}

fn arena_of(locations: i8) -> (&'static SlotArena, usize) {
    if locations <= SMALL_LOCATIONS { (&SMALL, cache::IRPS) } else { (&LARGE, cache::LARGE_IRPS) }
}

fn owner_word(irp: *mut Irp) -> Option<&'static AtomicU32> {
    let arena = [&SMALL, &LARGE].into_iter().find(|arena| arena.is_live(irp as u64))?;
    let header = arena.header(irp as u64)?;
    // SAFETY: slot headers are never unmapped; the word is only touched atomically.
    Some(unsafe { AtomicU32::from_ptr(&raw mut (*header).kind) })
}

/// Who owns a packet, `None` for one that lies in a driver's own memory (`IoInitializeIrp`) or was freed.
pub fn owner_of(irp: *mut Irp) -> Option<Owner> {
    owner_word(irp).map(|word| Owner::of(word.load(Ordering::Relaxed)))
}

/// Sets every field of a packet as `IoInitializeIrp` does (K-020, K-021).
///
/// # Safety
/// `irp` is `size` writable bytes, 8-aligned, at least [`size_of_irp`]`(locations)`.
pub unsafe fn initialize(irp: *mut Irp, size: u16, locations: i8) {
    // SAFETY: the caller's promise.
    unsafe {
        irp.cast::<u8>().write_bytes(0, size_of_irp(locations) as usize);
        let list = &raw mut (*irp).thread_list_entry;
        (*irp).kind = Irp::TYPE;
        (*irp).size = size;
        (*irp).stack_count = locations;
        (*irp).current_location = locations + 1;
        (*irp).current_stack_location = first_location(irp).add(locations as usize);
        *list = ListEntry { flink: list, blink: list };
    }
}

/// The location that lies directly behind the packet: the lowest driver's.
fn first_location(irp: *mut Irp) -> *mut IoStackLocation {
    irp.wrapping_add(1).cast()
}

/// Allocates a packet. `None` for a silly number of locations or when memory is exhausted.
///
/// IRQL: up to DISPATCH_LEVEL (K-024).
pub fn allocate(locations: i8, owner: Owner, caller: u64) -> Option<*mut Irp> {
    if !(1..=LOCATIONS_MAX).contains(&locations) {
        return None;
    }
    let (arena, number) = arena_of(locations);
    // SAFETY: only this thread uses its caches; the slot is ours alone and large enough.
    unsafe {
        let irp = arena.allocate(&mut (*gate::current()).caches[number], caller)?.as_ptr().cast::<Irp>();
        initialize(irp, size_of_irp(locations) as u16, locations);
        (*irp).allocation_flags = allocation_flags::FIXED_SIZE;
        if let Some(word) = owner_word(irp) {
            word.store(owner as u32, Ordering::Relaxed);
        }
        Some(irp)
    }
}

/// Frees a packet, not its MDLs (K-025). One that is no packet of ours, or was freed, ends the run (K-028).
///
/// IRQL: up to DISPATCH_LEVEL.
pub fn free(irp: *mut Irp) {
    // SAFETY: only this thread uses its caches.
    let freed = [(&SMALL, cache::IRPS), (&LARGE, cache::LARGE_IRPS)]
        .into_iter()
        .any(|(arena, number)| unsafe { arena.free(&mut (*gate::current()).caches[number], irp as u64) });
    if !freed {
        gate::bugcheck(BugCheck::DRIVER_VERIFIER_IOMANAGER_VIOLATION, [1, irp as u64, 0, 0]);
    }
}

/// A driver frees a packet of its own; one that is tied to a thread ends the run (K-028, K-061).
pub fn free_by_driver(irp: *mut Irp) {
    if matches!(owner_of(irp), Some(Owner::Thread | Owner::Manager)) {
        gate::bugcheck(BugCheck::DRIVER_VERIFIER_IOMANAGER_VIOLATION, [2, irp as u64, 0, 0]);
    }
    free(irp);
}

/// Visits packets that are still allocated, with the driver instruction that allocated each.
pub fn for_each_live(mut visit: impl FnMut(u64, u64)) {
    for arena in [&SMALL, &LARGE] {
        arena.for_each_live(|irp, header| visit(irp, header.caller));
    }
}

/// The current driver's location.
///
/// # Safety
/// `irp` is a packet that was sent to a driver.
pub unsafe fn current_location(irp: *mut Irp) -> *mut IoStackLocation {
    // SAFETY: the caller's promise.
    unsafe { (*irp).current_stack_location }
}

/// The next lower driver's location, for filling in before [`call_driver`].
///
/// # Safety
/// `irp` is a packet with a location left.
pub unsafe fn next_location(irp: *mut Irp) -> *mut IoStackLocation {
    // SAFETY: the caller's promise.
    unsafe { (*irp).current_stack_location.sub(1) }
}

/// Marks a packet pending in the current location (K-050).
///
/// # Safety
/// As [`current_location`].
pub unsafe fn mark_pending(irp: *mut Irp) {
    // SAFETY: the caller's promise.
    unsafe { (*current_location(irp)).control |= control::PENDING_RETURNED }
}

/// Sends a packet to a device: one location down, then the dispatch routine of the device's driver, as its
/// table says at this moment (K-035). Returns what the routine returned, unchanged (K-047).
///
/// Ends the run with NO_MORE_IRP_STACK_LOCATIONS when no location is left (K-049).
///
/// # Safety
/// `device` and `irp` are a device and a packet as drivers hold them; bad pointers fault and are blamed on
/// the import's caller.
///
/// IRQL: up to DISPATCH_LEVEL.
pub unsafe fn call_driver(device: *mut DeviceObject, irp: *mut Irp) -> NtStatus {
    // SAFETY: the caller's promise.
    unsafe {
        if (*irp).current_location <= 1 {
            gate::bugcheck(BugCheck::NO_MORE_IRP_STACK_LOCATIONS, [irp as u64, 0, 0, 0]);
        }
        (*irp).current_location -= 1;
        let location = (*irp).current_stack_location.sub(1);
        (*irp).current_stack_location = location;
        (*location).device_object = device;
        let major = (*location).major_function;
        let index = usize::from(major.0).min(MAJOR_FUNCTIONS - 1);
        let routine = (*(*device).driver_object).major_function[index];
        count(major);
        gate::record(Event::IrpDispatched {
            irp: irp as u64,
            device: device as u64,
            file: (*location).file_object as u64,
            functions: u32::from(major.0) << 8 | u32::from((*location).minor_function),
            detail: detail(&*location),
        });
        let status = NtStatus(gate::call::call2(routine, device as u64, irp as u64) as u32);
        gate::record(Event::IrpReturned { irp: irp as u64, status: status.0 });
        status
    }
}

fn count(major: MajorFunction) {
    gate::count(Counter::Irps, 1);
    match major {
        MajorFunction::CLEANUP => gate::count(Counter::Cleanups, 1),
        MajorFunction::CLOSE => gate::count(Counter::Closes, 1),
        _ => {}
    }
}

/// The one word of a request's parameters that says most about it.
fn detail(location: &IoStackLocation) -> u64 {
    match location.major_function {
        MajorFunction::DEVICE_CONTROL => location.parameters[2] & 0xFFFF_FFFF,
        MajorFunction::CREATE => location.parameters[3] & 0xFFFF_FFFF,
        MajorFunction::INTERNAL_DEVICE_CONTROL | MajorFunction::READ | MajorFunction::WRITE => {
            location.parameters[0] & 0xFFFF_FFFF
        }
        _ => 0,
    }
}

/// Arguments of [`build_device_control`].
#[derive(Clone, Copy, Debug)]
pub struct DeviceControl {
    /// IOCTL code.
    pub code: u32,
    /// Input buffer and its length.
    pub input: (u64, u32),
    /// Output buffer and its length.
    pub output: (u64, u32),
    /// IRP_MJ_INTERNAL_DEVICE_CONTROL instead of IRP_MJ_DEVICE_CONTROL.
    pub internal: bool,
}

/// `IoBuildDeviceIoControlRequest`: a packet tied to the current thread (K-060, K-066). Either of `event` and
/// `iosb` may be null (K-063).
///
/// # Safety
/// `device` is a device; the buffers, the event and the block stay valid until the request is complete.
///
/// IRQL: PASSIVE_LEVEL.
pub unsafe fn build_device_control(
    device: *mut DeviceObject,
    request: DeviceControl,
    event: *mut KernelEvent,
    iosb: *mut IoStatusBlock,
    owner: Owner,
    caller: u64,
) -> Option<*mut Irp> {
    // SAFETY: the caller's promise.
    unsafe {
        let irp = allocate((*device).stack_size, owner, caller)?;
        let location = next_location(irp);
        let major =
            if request.internal { MajorFunction::INTERNAL_DEVICE_CONTROL } else { MajorFunction::DEVICE_CONTROL };
        (*location).major_function = major;
        (*location).parameters[0] = request.output.1.into();
        (*location).parameters[1] = request.input.1.into();
        (*location).parameters[2] = request.code.into();
        (*irp).user_event = event;
        (*irp).user_iosb = iosb;
        (*irp).thread = gate::thread::current_thread_object();
        match request.code & 3 {
            0 => buffer(irp, request)?,
            // METHOD_NEITHER; and for the direct methods an MDL would be needed, which drivers build themselves.
            3 => {
                (*location).parameters[3] = request.input.0;
                (*irp).user_buffer = request.output.0;
            }
            _ => buffer(irp, DeviceControl { output: (0, 0), ..request })?,
        }
        Some(irp)
    }
}

/// METHOD_BUFFERED: one system buffer for both directions; the output is copied back on completion.
unsafe fn buffer(irp: *mut Irp, request: DeviceControl) -> Option<()> {
    let length = request.input.1.max(request.output.1) as usize;
    if length == 0 {
        return Some(());
    }
    let mut system_buffer = vec![0; length].into_boxed_slice();
    let filled = gate::memory::read(request.input.0, &mut system_buffer[..request.input.1 as usize]).is_ok();
    if !filled {
        free(irp);
        return None;
    }
    // SAFETY: the caller's packet.
    unsafe {
        (*irp).flags |= irp_flags::BUFFERED_IO | irp_flags::DEALLOCATE_BUFFER;
        if request.output.1 > 0 {
            (*irp).flags |= irp_flags::INPUT_OPERATION;
        }
        (*irp).user_buffer = request.output.0;
        (*irp).overlay[0] = length as u64;
        (*irp).system_buffer = Box::into_raw(system_buffer) as *mut u8 as u64;
    }
    Some(())
}
