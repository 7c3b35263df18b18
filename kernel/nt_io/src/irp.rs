//! I/O request packets: making, sending, freeing (K-020 to K-049, K-060 to K-066).
//!
//! A packet's fields are the driver's to read and write. What only the host may know about it lies in the
//! slot header in front of it: who built it, and whether the I/O manager or a driver frees it.

use std::sync::atomic::{AtomicU32, Ordering};

use arena::{SlotArena, SlotHeader, plan};
use gate::memory::{aligned, touch};
use gate::thread::cache;
use nt_abi::exception::BugCheck;
use nt_abi::io::{MAJOR_FUNCTIONS, allocation_flags, control};
use nt_abi::{DeviceObject, IoStackLocation, Irp, ListEntry, MajorFunction, NtStatus};
use trace::{Counter, Event};

use crate::{cancel, requests};

/// Most locations at all: `StackCount` is a signed byte. `CurrentLocation`, which begins one higher, is one too and
/// wraps then, as on NT; so it is read as unsigned here.
const LOCATIONS_MAX: i8 = i8::MAX;

/// Packets of up to so many locations, with the number of the arena's per-thread cache. A pending receive keeps its
/// packet, so the sizes that transports and their filters ask for waste nothing.
struct Class {
    locations: i8,
    arena: SlotArena,
    cache: usize,
}

impl Class {
    const fn new(number: u64, locations: i8, slots_max: u64, cache: usize) -> Self {
        let arena = SlotArena::new(plan::IRPS + (number << 34), size_of_irp(locations), slots_max);
        Self { locations, arena, cache }
    }
}

static CLASSES: [Class; 4] = [
    Class::new(0, 1, 1 << 20, cache::IRPS),
    Class::new(3, 2, 1 << 20, cache::FILTERED_IRPS),
    Class::new(4, 4, 1 << 20, cache::MIDDLE_IRPS),
    Class::new(1, LOCATIONS_MAX, 1 << 14, cache::LARGE_IRPS),
];

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
    /// A master packet, which completes when the last one associated with it has.
    Associated = 4,
}

impl Owner {
    fn of(word: u32) -> Self {
        match word {
            2 => Self::Thread,
            3 => Self::Manager,
            4 => Self::Associated,
            _ => Self::Driver,
        }
    }
}

/// Bytes of a packet with this many locations (K-023).
pub const fn size_of_irp(locations: i8) -> u64 {
    (size_of::<Irp>() + locations as usize * size_of::<IoStackLocation>()) as u64
}

/// The arena that `irp` lies in, whether or not it is a packet.
fn class_around(irp: *mut Irp) -> Option<&'static Class> {
    CLASSES.iter().find(|class| class.arena.contains(irp as u64))
}

/// The header in front of a live packet of ours.
fn header(irp: *mut Irp) -> Option<*mut SlotHeader> {
    class_around(irp)?.arena.live_header(irp as u64)
}

/// The driver instruction that a packet was allocated by; 0 for one that lies in a driver's own memory.
pub(crate) fn allocator_of(irp: *mut Irp) -> u64 {
    // SAFETY: slot headers are never unmapped.
    header(irp).map_or(0, |header| unsafe { (*header).caller })
}

/// The word of a header that says whose packet it is.
fn owner_word<'a>(header: *mut SlotHeader) -> &'a AtomicU32 {
    // SAFETY: slot headers are never unmapped; the word is only touched atomically.
    unsafe { AtomicU32::from_ptr(&raw mut (*header).kind) }
}

/// Who owns a packet, `None` for one that lies in a driver's own memory (`IoInitializeIrp`) or was freed.
pub fn owner_of(irp: *mut Irp) -> Option<Owner> {
    header(irp).map(|header| Owner::of(owner_word(header).load(Ordering::Relaxed)))
}

/// Whether `irp` is no packet that a driver may name: of another type, or freed.
///
/// # Safety
/// `irp` is what a driver named; a bad address faults and is blamed on the importing driver.
pub(crate) unsafe fn is_none(irp: *mut Irp) -> bool {
    // SAFETY: the caller's promise; read byte by byte, since nothing is known of the alignment.
    unsafe {
        (&raw const (*irp).kind).read_unaligned() != Irp::TYPE || !(irp as u64).is_multiple_of(8) || is_stale(irp)
    }
}

/// Whether `irp` lies in memory for packets and is none at the moment: it was freed.
pub(crate) fn is_stale(irp: *mut Irp) -> bool {
    class_around(irp).is_some_and(|class| !class.arena.is_live(irp as u64))
}

/// What the I/O manager keeps for the end of a request, where drivers cannot change it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    /// Bytes that the sender's output buffer has room for.
    pub output_room: u64,
    /// The body of an event object that was referenced for the request, or 0.
    pub event: u64,
    /// The body of a file object that was referenced for the request, or 0.
    pub file: u64,
}

impl Held {
    /// Lets go of the objects.
    pub fn release(self) {
        for body in [self.event, self.file] {
            if body != 0 {
                nt_object::dereference(body);
            }
        }
    }
}

/// The words of a live packet's header that hold [`Held`].
fn held_words(irp: *mut Irp) -> Option<*mut [u64; 4]> {
    // SAFETY: slot headers are never unmapped; only the packet's holder calls this.
    header(irp).map(|header| unsafe { &raw mut (*header).user })
}

/// Notes how much room the sender has for output.
pub(crate) fn set_output_room(irp: *mut Irp, bytes: u64) {
    if let Some(words) = held_words(irp) {
        // SAFETY: see `held_words`.
        unsafe { (*words)[0] = bytes };
    }
}

/// Hands referenced objects to a packet, which lets go of them at its end; 0 for none.
pub(crate) fn hold(irp: *mut Irp, event: u64, file: u64) {
    if let Some(words) = held_words(irp) {
        // SAFETY: see `held_words`.
        unsafe {
            (*words)[1] = event;
            (*words)[2] = file;
        }
    }
}

/// What a packet holds.
pub(crate) fn held(irp: *mut Irp) -> Held {
    // SAFETY: see `held_words`.
    held_words(irp).map(|words| unsafe { *words }).map_or(Held::default(), |[output_room, event, file, _]| Held {
        output_room,
        event,
        file,
    })
}

/// Sets every field of a packet as `IoInitializeIrp` does (K-020, K-021).
///
/// # Safety
/// `irp` is `size` writable bytes, 8-aligned, at least [`size_of_irp`]`(locations)`.
pub unsafe fn initialize(irp: *mut Irp, size: u16, locations: i8) {
    // SAFETY: the caller's promise.
    unsafe {
        irp.cast::<u8>().write_bytes(0, usize::from(size).max(size_of_irp(locations) as usize));
        let list = &raw mut (*irp).thread_list_entry;
        (*irp).kind = Irp::TYPE;
        (*irp).size = size;
        (*irp).stack_count = locations;
        // See `LOCATIONS_MAX`.
        (*irp).current_location = locations.wrapping_add(1);
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
    let class = CLASSES.iter().find(|class| locations <= class.locations)?;
    // SAFETY: only this thread uses its caches; the slot is ours alone and large enough.
    unsafe {
        let body = class.arena.allocate(&mut (*gate::current()).caches[class.cache], caller)?;
        let header = SlotArena::header_of_taken(body);
        owner_word(header).store(owner as u32, Ordering::Relaxed);
        (*header).user = [0; 4];
        let irp = body.as_ptr().cast::<Irp>();
        initialize(irp, size_of_irp(locations) as u16, locations);
        (*irp).allocation_flags = allocation_flags::FIXED_SIZE;
        Some(irp)
    }
}

/// Frees a packet, not its MDLs (K-025). One that is no packet of ours, or was freed, ends the run (K-028).
///
/// IRQL: up to DISPATCH_LEVEL.
pub fn free(irp: *mut Irp) {
    // SAFETY: only this thread uses its caches.
    let is_freed = class_around(irp)
        .is_some_and(|class| unsafe { class.arena.free(&mut (*gate::current()).caches[class.cache], irp as u64) });
    if !is_freed {
        gate::bugcheck(BugCheck::DRIVER_VERIFIER_IOMANAGER_VIOLATION, [1, irp as u64, 0, 0]);
    }
}

/// A driver frees a packet of its own. What is none ends the run, and so does one that is tied to a thread (K-028, K-061).
///
/// # Safety
/// `irp` is what a driver named; a bad address faults and is blamed on the importing driver.
pub unsafe fn free_by_driver(irp: *mut Irp) {
    // SAFETY: the caller's promise.
    if unsafe { is_none(irp) } {
        gate::bugcheck(BugCheck::DRIVER_VERIFIER_IOMANAGER_VIOLATION, [1, irp as u64, 0, 0]);
    }
    if matches!(owner_of(irp), Some(Owner::Thread | Owner::Manager)) {
        gate::bugcheck(BugCheck::DRIVER_VERIFIER_IOMANAGER_VIOLATION, [2, irp as u64, 0, 0]);
    }
    free(irp);
}

/// A thread ends: the requests it built and sent that are still on their way are cancelled and waited for, since
/// their outcome would be written to its stack (K-067, K-068). For [`nt_dispatcher::thread::set_on_end`].
pub fn end_of_thread(thread: u64) {
    requests::forget_top_level(thread);
    let mut outstanding = Vec::new();
    for_each_live(|irp, caller| {
        let irp = irp as *mut Irp;
        // SAFETY: a packet that was live a moment ago; its memory stays mapped.
        let sent = unsafe { (*irp).thread == thread && is_at_a_location(irp) };
        if sent && owner_of(irp) == Some(Owner::Thread) {
            outstanding.push((irp, caller));
        }
    });
    for (irp, caller) in outstanding {
        gate::finding("K-068", "a thread ended while a request that it had built was outstanding", caller);
        // SAFETY: as above; whoever completes it meanwhile takes the cancel routine out first.
        unsafe { cancel::cancel(irp) };
        let mut waits = THREAD_END_WAITS;
        while owner_of(irp).is_some() && waits > 0 {
            nt_dispatcher::wait::delay(-10_000);
            waits -= 1;
        }
    }
}

/// Milliseconds that an ending thread waits for each request. NT waits five minutes, and reports it then.
const THREAD_END_WAITS: u32 = 2000;

/// Visits packets that are still allocated, with the driver instruction that allocated each.
pub fn for_each_live(mut visit: impl FnMut(u64, u64)) {
    for class in &CLASSES {
        class.arena.for_each_live(|irp, header| visit(irp, header.caller));
    }
}

/// Visits the completion routines that packets have still before them: the packet, who allocated it, the routine. For the report
/// when a driver is unloaded (K-102, D-291).
pub fn for_each_completion_routine(mut visit: impl FnMut(u64, u64, u64)) {
    for class in &CLASSES {
        class.arena.for_each_live(|irp, header| {
            let packet = irp as *mut Irp;
            // SAFETY: slots stay mapped; what drivers write meanwhile is read as it stands.
            let (current, count) = unsafe {
                (
                    (&raw const (*packet).current_location).read_volatile(),
                    (&raw const (*packet).stack_count).read_volatile(),
                )
            };
            // A packet that is at none of its locations is past the last one.
            for number in current.max(1)..=count.min(class.locations) {
                // SAFETY: as above; a slot of this class has room for so many locations.
                let routine = unsafe {
                    let location = first_location(packet).add(number as usize - 1);
                    (&raw const (*location).completion_routine).read_volatile()
                };
                if routine != 0 {
                    visit(irp, header.caller, routine);
                }
            }
        });
    }
}

/// Whether the packet is at one of its locations and not past the last one.
///
/// # Safety
/// `irp` is a packet.
pub(crate) unsafe fn is_at_a_location(irp: *mut Irp) -> bool {
    // SAFETY: the caller's promise.
    unsafe { ((*irp).current_location as u8).wrapping_sub(1) < (*irp).stack_count as u8 }
}

/// Whether the packet has a location left for a lower driver.
///
/// # Safety
/// `irp` is a packet.
pub(crate) unsafe fn has_next_location(irp: *mut Irp) -> bool {
    // SAFETY: the caller's promise.
    unsafe { (*irp).current_location as u8 > 1 }
}

/// The current driver's location.
///
/// # Safety
/// `irp` is a packet that was sent to a driver.
pub unsafe fn current_location(irp: *mut Irp) -> *mut IoStackLocation {
    // SAFETY: the caller's promise.
    unsafe { aligned((*irp).current_stack_location, "IRP.Tail.Overlay.CurrentStackLocation") }
}

/// The next lower driver's location, for filling in before [`call_driver`].
///
/// # Safety
/// `irp` is a packet with a location left.
pub unsafe fn next_location(irp: *mut Irp) -> *mut IoStackLocation {
    // SAFETY: the caller's promise.
    unsafe { current_location(irp).wrapping_sub(1) }
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
        // All that is read of the device is read before the packet moves: what is no device is the exception of its driver, which
        // has its packet still. Its address may be anything.
        if !device.is_aligned() {
            touch(device);
            aligned(device, "The device that IoCallDriver was given");
        }
        let driver = (*device).driver_object;
        if !has_next_location(irp) {
            gate::bugcheck(BugCheck::NO_MORE_IRP_STACK_LOCATIONS, [irp as u64, 0, 0, 0]);
        }
        let location = next_location(irp);
        let major = (*location).major_function;
        let index = usize::from(major.0).min(MAJOR_FUNCTIONS - 1);
        // What is no device leads to what is no driver, and that can lie anywhere.
        let table = &raw const (*driver).major_function;
        let routine = table.cast::<u64>().add(index).read_unaligned();
        (*irp).current_location = (*irp).current_location.wrapping_sub(1);
        (*irp).current_stack_location = location;
        (*location).device_object = device;
        gate::count(Counter::Irps, 1);
        gate::record(Event::IrpDispatched {
            irp: irp as u64,
            device: device as u64,
            file: (*location).file_object as u64,
            functions: u32::from(major.0) << 8 | u32::from((*location).minor_function),
            detail: detail(&*location),
            routine: of_driver(routine),
        });
        let returned = NtStatus(gate::call::call2(routine, device as u64, irp as u64) as u32);
        // The transport's routine returns even if an exception passes it, of a completion routine that it has called. Its
        // word still counts for senders of the host: a packet that is pending must not be freed.
        let status = if gate::seh::is_leaving() { NtStatus::UNHANDLED_EXCEPTION } else { returned };
        gate::record(Event::IrpReturned { irp: irp as u64, status: status.0 });
        returned
    }
}

/// The address of a driver's routine, 0 for one of the host's: where those lie differs from run to run, and the trace of
/// a seed must not.
fn of_driver(routine: u64) -> u64 {
    if routine < plan::KERNEL_IMAGE { routine } else { 0 }
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
