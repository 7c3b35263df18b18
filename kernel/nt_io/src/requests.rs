//! Exports around packets beyond the basic ones of [`crate::exports`]: reads and writes for a driver, protected completion
//! routines, forwarding, the top-level packet of a thread.

use std::collections::HashMap;
use std::ptr;
use std::sync::PoisonError;

use gate::memory::touch;
use host_lock::Mutex;
use nt_abi::dispatcher::DispatcherType;
use nt_abi::io::control;
use nt_abi::{DeviceObject, IoStatusBlock, Irp, KernelEvent, MajorFunction, NtStatus};
use nt_dispatcher::{event, wait};

use crate::build::{self, Reply, Transfer};
use crate::irp::{self, Owner};
use crate::{completion, device};

gate::exports! {
    /// What ntoskrnl exports of rarer requests.
    pub(crate) static TABLE in "ntoskrnl.exe";
    "IoBuildAsynchronousFsdRequest" = io_build_asynchronous_fsd_request(major: u32, device: *mut DeviceObject, buffer: u64, length: u32, offset: *const u64, iosb: *mut IoStatusBlock) -> *mut Irp, irql <= DISPATCH, rules "K-020 K-024";
    "IoBuildSynchronousFsdRequest" = io_build_synchronous_fsd_request(major: u32, device: *mut DeviceObject, buffer: u64, length: u32, offset: *const u64, event: *mut KernelEvent, iosb: *mut IoStatusBlock) -> *mut Irp, irql <= APC, rules "K-061 K-062";
    "IoMakeAssociatedIrp" = io_make_associated_irp(master: *mut Irp, locations: i8) -> *mut Irp, irql <= DISPATCH, rules "K-020";
    "IoSetCompletionRoutineEx" = io_set_completion_routine_ex(device: *mut DeviceObject, irp: *mut Irp, routine: u64, context: u64, success: u8, error: u8, cancel: u8) -> NtStatus, irql <= DISPATCH, rules "K-002 K-038";
    "IoForwardIrpSynchronously" | "IoForwardAndCatchIrp" = io_forward_irp_synchronously(device: *mut DeviceObject, irp: *mut Irp) -> u8, irql <= APC, rules "K-037 K-041";
    "IoSynchronousCallDriver" = io_synchronous_call_driver(device: *mut DeviceObject, irp: *mut Irp) -> NtStatus, irql <= APC, rules "K-037 K-041";
    "PoCallDriver" = po_call_driver(device: *mut DeviceObject, irp: *mut Irp) -> NtStatus, irql <= DISPATCH, rules "K-035";
    "PoStartNextPowerIrp" = po_start_next_power_irp(irp: *mut Irp), irql <= DISPATCH, rules "K-035";
    "IoGetFileObjectGenericMapping" = io_get_file_object_generic_mapping() -> *const u32, rules "C-127";
    "IoIs32bitProcess" = io_is_32bit_process(irp: *mut Irp) -> u8, irql <= DISPATCH, rules "K-200";
    "IoGetTopLevelIrp" = io_get_top_level_irp() -> u64, irql <= APC, rules "K-044";
    "IoSetTopLevelIrp" = io_set_top_level_irp(irp: u64), irql <= APC, rules "K-044";
}

/// # Safety
/// As for the exports.
unsafe fn transfer(major: u32, buffer: (u64, u32), offset: *const u64) -> Transfer {
    // SAFETY: what drivers pass is theirs to answer for; a bad pointer faults and is blamed on them. The same
    // holds for every function of this module.
    let offset = if offset.is_null() { 0 } else { unsafe { offset.read_unaligned() } };
    Transfer { major: MajorFunction(major as u8), buffer, offset, key: 0 }
}

unsafe extern "win64" fn io_build_asynchronous_fsd_request(
    major: u32,
    device: *mut DeviceObject,
    buffer: u64,
    length: u32,
    offset: *const u64,
    iosb: *mut IoStatusBlock,
) -> *mut Irp {
    let reply = Reply { event: ptr::null_mut(), iosb };
    // SAFETY: see `transfer`. The packet is the driver's: its completion routine frees it, and the buffers too.
    unsafe {
        let request = transfer(major, (buffer, length), offset);
        build::transfer(device, request, reply, Owner::Driver, gate::caller()).unwrap_or(ptr::null_mut())
    }
}

unsafe extern "win64" fn io_build_synchronous_fsd_request(
    major: u32,
    device: *mut DeviceObject,
    buffer: u64,
    length: u32,
    offset: *const u64,
    event: *mut KernelEvent,
    iosb: *mut IoStatusBlock,
) -> *mut Irp {
    // SAFETY: see `transfer`.
    unsafe {
        let request = transfer(major, (buffer, length), offset);
        build::transfer(device, request, Reply { event, iosb }, Owner::Thread, gate::caller())
            .unwrap_or(ptr::null_mut())
    }
}

unsafe extern "win64" fn io_make_associated_irp(master: *mut Irp, locations: i8) -> *mut Irp {
    let Some(irp) = irp::allocate(locations, Owner::Associated, gate::caller()) else { return ptr::null_mut() };
    // SAFETY: see `transfer`; the packet is new.
    unsafe {
        (*irp).flags |= nt_abi::io::irp_flags::ASSOCIATED_IRP;
        (*irp).system_buffer = master as u64;
        (*irp).thread = (*master).thread;
    }
    irp
}

/// A completion routine whose device stays until it has run.
struct Protected {
    device: u64,
    routine: u64,
    context: u64,
}

unsafe extern "win64" fn io_set_completion_routine_ex(
    device: *mut DeviceObject,
    irp: *mut Irp,
    routine: u64,
    context: u64,
    success: u8,
    error: u8,
    cancel: u8,
) -> NtStatus {
    let conditions =
        [(success, control::INVOKE_ON_SUCCESS), (error, control::INVOKE_ON_ERROR), (cancel, control::INVOKE_ON_CANCEL)];
    let bits = conditions.iter().filter(|(wanted, _)| *wanted != 0).fold(0, |bits, (_, bit)| bits | bit);
    let protected = Box::new(Protected { device: device as u64, routine, context });
    // SAFETY: see `transfer`.
    unsafe {
        nt_object::reference(device as u64);
        device::count_open(device, 1);
        let location = irp::next_location(irp);
        (*location).completion_routine = run_protected as *const () as u64;
        (*location).context = Box::into_raw(protected) as u64;
        // Called whatever the outcome, or the device would stay for ever; the conditions are looked at here again.
        (*location).control = control::INVOKE_ON_SUCCESS | control::INVOKE_ON_ERROR | control::INVOKE_ON_CANCEL;
        (*location)._pad = u32::from(bits);
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn run_protected(device: *mut DeviceObject, irp: *mut Irp, context: *mut Protected) -> NtStatus {
    // SAFETY: `io_set_completion_routine_ex` boxed it, and a completion routine is called once. The location that was
    // left lies below the current one.
    unsafe {
        let Protected { device: kept, routine, context } = *Box::from_raw(context);
        let bits = (*irp::next_location(irp))._pad as u8;
        let status = if completion::wanted(irp, bits) {
            NtStatus(gate::call::call3(routine, device as u64, irp as u64, context) as u32)
        } else {
            completion::propagate_pending(irp);
            NtStatus::SUCCESS
        };
        device::count_open(kept as *mut DeviceObject, -1);
        nt_object::dereference(kept);
        status
    }
}

unsafe extern "win64" fn signal(_device: *mut DeviceObject, irp: *mut Irp, done: *mut KernelEvent) -> NtStatus {
    // SAFETY: a completion routine of `forward`, whose frame the event lies on.
    unsafe {
        if (*irp).pending_returned != 0 {
            event::set(done);
        }
    }
    NtStatus::MORE_PROCESSING_REQUIRED
}

/// Sends a packet whose next location is filled in, and takes it back when it is complete.
unsafe fn forward(device: *mut DeviceObject, irp: *mut Irp) -> NtStatus {
    // SAFETY: see `transfer`; the event outlives the request.
    unsafe {
        // What is no device is found out before the packet knows of this frame's event.
        touch(device);
        let mut done: KernelEvent = std::mem::zeroed();
        event::initialize(&mut done, DispatcherType::NOTIFICATION_EVENT, false);
        let location = irp::next_location(irp);
        (*location).completion_routine = signal as *const () as u64;
        (*location).context = &raw mut done as u64;
        (*location).control = control::INVOKE_ON_SUCCESS | control::INVOKE_ON_ERROR | control::INVOKE_ON_CANCEL;
        if irp::call_driver(device, irp) == NtStatus::PENDING {
            wait::wait_single(&raw mut done as u64, None);
        } else if gate::seh::is_leaving() {
            // Whoever completes the packet later finds nobody here.
            (*location).completion_routine = 0;
            (*location).control = 0;
        }
        (*irp).io_status.status
    }
}

unsafe extern "win64" fn io_forward_irp_synchronously(device: *mut DeviceObject, irp: *mut Irp) -> u8 {
    // SAFETY: see `transfer`.
    unsafe {
        if !irp::has_next_location(irp) {
            return 0;
        }
        let (current, next) = (irp::current_location(irp), irp::next_location(irp));
        *next = *current;
        (*next).control = 0;
        forward(device, irp);
    }
    1
}

unsafe extern "win64" fn io_synchronous_call_driver(device: *mut DeviceObject, irp: *mut Irp) -> NtStatus {
    // SAFETY: see `transfer`.
    unsafe { forward(device, irp) }
}

unsafe extern "win64" fn po_call_driver(device: *mut DeviceObject, irp: *mut Irp) -> NtStatus {
    // SAFETY: see `transfer`.
    unsafe { irp::call_driver(device, irp) }
}

/// Power requests are not serialised here, so there is never a next one to start.
unsafe extern "win64" fn po_start_next_power_irp(_irp: *mut Irp) {}

/// `FILE_GENERIC_READ`, `_WRITE`, `_EXECUTE` and `FILE_ALL_ACCESS`: a `GENERIC_MAPPING`.
static FILE_MAPPING: [u32; 4] = [0x0012_0089, 0x0012_0116, 0x0012_00A0, 0x001F_01FF];

unsafe extern "win64" fn io_get_file_object_generic_mapping() -> *const u32 {
    FILE_MAPPING.as_ptr()
}

/// Nobody here is a 32-bit process.
unsafe extern "win64" fn io_is_32bit_process(_irp: *mut Irp) -> u8 {
    0
}

/// What threads named as their top-level packet. Only file systems do that.
static TOP_LEVEL: Mutex<Option<HashMap<u64, u64>>> = Mutex::new(None);

unsafe extern "win64" fn io_get_top_level_irp() -> u64 {
    let top = TOP_LEVEL.lock().unwrap_or_else(PoisonError::into_inner);
    top.as_ref().and_then(|top| top.get(&gate::thread::current_thread_object()).copied()).unwrap_or(0)
}

unsafe extern "win64" fn io_set_top_level_irp(irp: u64) {
    let thread = gate::thread::current_thread_object();
    let mut top = TOP_LEVEL.lock().unwrap_or_else(PoisonError::into_inner);
    if irp == 0 {
        top.as_mut().map(|top| top.remove(&thread));
    } else {
        top.get_or_insert_default().insert(thread, irp);
    }
}

/// A thread ends: what it named is not for the next one that gets its object's memory.
pub(crate) fn forget_top_level(thread: u64) {
    if let Some(top) = TOP_LEVEL.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        top.remove(&thread);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::irp;

    #[test]
    fn top_level_packet_of_a_thread_is_forgotten_when_it_ends() {
        let run = || {
            nt_dispatcher::thread::adopt_current().expect("a kernel thread");
            // SAFETY: the value is never used as a packet.
            unsafe {
                io_set_top_level_irp(7);
                assert_eq!(io_get_top_level_irp(), 7);
                irp::end_of_thread(gate::thread::current_thread_object());
                // As another thread would find it whose object lies where this one's did.
                assert_eq!(io_get_top_level_irp(), 0);
            }
        };
        std::thread::spawn(run).join().expect("the test's thread");
    }
}
