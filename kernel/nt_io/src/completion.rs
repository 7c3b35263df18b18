//! Completing requests (K-038 to K-049, K-062 to K-064, C-572).

use gate::memory::{aligned, probe_write, write_value};
use nt_abi::exception::BugCheck;
use nt_abi::io::control;
use nt_abi::{DeviceObject, Irp, KernelEvent, MajorFunction, NtStatus};
use nt_dispatcher::event;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};
use trace::Event;

use crate::buffers;
use crate::irp::{self, Owner};

/// Sets the outcome and completes: what a transport or other host driver calls.
///
/// # Safety
/// As [`complete`].
///
/// IRQL: up to DISPATCH_LEVEL.
pub unsafe fn complete_with(irp: *mut Irp, status: NtStatus, information: u64) -> NtStatus {
    // SAFETY: the caller's promise.
    unsafe {
        (*irp).io_status.status = status;
        (*irp).io_status.information = information;
        complete(irp);
    }
    status
}

/// `IoCompleteRequest`: walks the locations upwards and calls each completion routine whose conditions match;
/// one that returns STATUS_MORE_PROCESSING_REQUIRED keeps the packet (K-041). At the top the owner gets it.
///
/// A packet that was completed already, or never sent, ends the run (K-049).
///
/// # Safety
/// `irp` is a packet the calling driver holds; afterwards it does not any more.
///
/// IRQL: up to DISPATCH_LEVEL.
pub unsafe fn complete(irp: *mut Irp) {
    // SAFETY: the caller's promise; bad pointers fault and are blamed on the import's caller.
    unsafe {
        if irp::is_none(irp) {
            gate::bugcheck(BugCheck::MULTIPLE_IRP_COMPLETE_REQUESTS, [irp as u64, 0, 0, 0]);
        }
        let status = (*irp).io_status.status;
        // One past the last location is where a sender's completion routine stopped its own request (K-064b).
        let beyond = u16::from((*irp).current_location as u8) > u16::from((*irp).stack_count as u8) + 1;
        if beyond {
            gate::bugcheck(BugCheck::MULTIPLE_IRP_COMPLETE_REQUESTS, [irp as u64, 0, 0, 0]);
        }
        if status == NtStatus::PENDING || status.0 == u32::MAX {
            gate::bugcheck(BugCheck::DRIVER_VERIFIER_IOMANAGER_VIOLATION, [6, irp as u64, status.0.into(), 0]);
        }
        if (*irp).cancel_routine != 0 {
            gate::finding("K-048", "a request was completed while its cancel routine was still set", gate::caller());
        }
        if irp::is_at_a_location(irp) {
            note(irp);
        }
        // Routines move the location too, when they send the packet on.
        while irp::is_at_a_location(irp) {
            if !step(irp) {
                return;
            }
        }
        finish(irp);
    }
}

/// Records the completion, with a time of its own if the request had been pending.
unsafe fn note(irp: *mut Irp) {
    // SAFETY: as in `complete`.
    unsafe {
        let (status, information) = ((*irp).io_status.status.0, (*irp).io_status.information);
        let pending = (*irp::current_location(irp)).control & control::PENDING_RETURNED != 0;
        let irp = irp as u64;
        gate::record(match pending {
            true => Event::IrpCompletedLater { irp, status, information },
            false => Event::IrpCompleted { irp, status, information },
        });
    }
}

/// Leaves one location. `false` if its completion routine kept the packet, or an exception passed the routine.
unsafe fn step(irp: *mut Irp) -> bool {
    // SAFETY: as in `complete`.
    unsafe {
        let left = irp::current_location(irp);
        (*irp).current_location = (*irp).current_location.wrapping_add(1);
        (*irp).current_stack_location = left.wrapping_add(1);
        let has_upper = irp::is_at_a_location(irp);
        let pending = (*left).control & control::PENDING_RETURNED != 0;
        (*irp).pending_returned = pending.into();
        let (routine, context, conditions) = ((*left).completion_routine, (*left).context, (*left).control);
        // Cleared, so that a packet that is sent again does not call it once more by accident.
        (*left).control = 0;
        (*left).completion_routine = 0;
        if routine != 0 && wanted(irp, conditions) {
            let upper: *mut DeviceObject =
                if has_upper { (*irp::current_location(irp)).device_object } else { ptr::null_mut() };
            let has_opened = (*left).major_function == MajorFunction::CREATE && (*irp).io_status.status.is_success();
            let answer = gate::call::call3(routine, upper as u64, irp as u64, context);
            if NtStatus(answer as u32) == NtStatus::UNHANDLED_EXCEPTION && gate::seh::is_leaving() {
                // An exception passed this routine, not one before of the same import, after which a transport goes on. As
                // on NT, where it would have passed the walk, too, the packet stays uncompleted at this location: nobody
                // above hears of it, and its owner keeps it.
                return false;
            }
            if NtStatus(answer as u32) == NtStatus::MORE_PROCESSING_REQUIRED {
                return false;
            }
            if has_opened && (*irp).io_status.status.is_error() {
                // Whoever made the file hears nothing of it any more: no cleanup, no close (C-081).
                let message = "this completion routine made a failure of an open that the driver below had completed \
                               with success: what that one keeps for the file is never given back";
                // Places are read as return addresses, which lie behind a call.
                gate::finding("D-290", message, routine.wrapping_add(1));
            }
            return true;
        }
        if pending {
            propagate_pending(irp);
        }
        true
    }
}

/// Carries the pending mark of the location that was just left up: without a routine of its own the upper driver
/// cannot do it (K-046).
///
/// # Safety
/// As [`complete`], from inside it.
pub(crate) unsafe fn propagate_pending(irp: *mut Irp) {
    // SAFETY: the caller's promise.
    unsafe {
        if (*irp).pending_returned != 0 && irp::is_at_a_location(irp) {
            (*irp::current_location(irp)).control |= control::PENDING_RETURNED;
        }
    }
}

/// Whether a completion routine wants to hear of this outcome (K-038).
pub(crate) unsafe fn wanted(irp: *mut Irp, conditions: u8) -> bool {
    // SAFETY: as in `complete`.
    let (status, cancelled) = unsafe { ((*irp).io_status.status, (*irp).cancel != 0) };
    let outcome = if status.is_success() { control::INVOKE_ON_SUCCESS } else { control::INVOKE_ON_ERROR };
    conditions & outcome != 0 || (cancelled && conditions & control::INVOKE_ON_CANCEL != 0)
}

/// Past the last location: the owner gets the outcome.
unsafe fn finish(irp: *mut Irp) {
    // SAFETY: as in `complete`; a finished packet is the I/O manager's unless a driver allocated it.
    unsafe {
        // One further than a completion routine of the sender leaves it: completing once more is a fault now.
        (*irp).current_location = (*irp).stack_count.wrapping_add(2);
        let (iosb, event, outcome) = ((*irp).user_iosb, (*irp).user_event, (*irp).io_status);
        let owner = irp::owner_of(irp);
        let mut held = irp::Held::default();
        // Before the packet is freed: who sent it.
        let sender = irp::allocator_of(irp);
        let mut inline_error = false;
        match owner {
            Some(Owner::Thread | Owner::Manager) => {
                inline_error =
                    owner == Some(Owner::Thread) && outcome.status.is_error() && (*irp).pending_returned == 0;
                held = irp::held(irp);
                buffers::release_system_buffer(irp, held.output_room);
                if !(*irp).mdl_address.is_null() {
                    (buffers::services().free_mdls)(irp);
                }
                if owner == Some(Owner::Thread) {
                    irp::free(irp);
                }
            }
            Some(Owner::Associated) => {
                finish_associated(irp);
                return;
            }
            Some(Owner::Driver) | None => {
                let message = "a request that a driver allocated completed to its end: a completion routine must \
                               stop it with STATUS_MORE_PROCESSING_REQUIRED";
                gate::finding("K-029", message, gate::caller());
            }
        }
        // After an error at once the return value of IoCallDriver is all the sender gets (C-572).
        if !inline_error {
            if !iosb.is_null() && write_value(iosb as u64, outcome).is_err() {
                gate::finding("K-062", "the status block of a request that was sent here is gone", sender);
            }
            if !event.is_null() && !set_event(event) {
                gate::finding("K-062", "the event of a request that was sent here is gone", sender);
            }
        }
        held.release();
    }
}

/// Signals the event of a sender. `false` if there is none: the driver that completes the request has no part in that, so it is no
/// exception there, and NT too keeps a bad status block from it.
///
/// # Safety
/// What is at `event`, if it is mapped, is an event.
unsafe fn set_event(event: *mut KernelEvent) -> bool {
    let event = aligned(event, "IRP.UserEvent");
    let is_there = probe_write(event as u64, size_of::<KernelEvent>()).is_ok();
    if is_there {
        // SAFETY: the caller's promise.
        unsafe { event::set(event) };
    }
    is_there
}

/// An associated packet is complete: the last one of its master completes the master, too.
unsafe fn finish_associated(irp: *mut Irp) {
    // SAFETY: as in `complete`; the driver that made the packets set the master's count.
    unsafe {
        let master = aligned((*irp).system_buffer as *mut Irp, "IRP.AssociatedIrp.MasterIrp");
        // What its driver hung on it, such as a part of the master's buffer, nobody else knows of (K-064).
        if !(*irp).mdl_address.is_null() {
            (buffers::services().free_mdls)(irp);
        }
        irp::free(irp);
        // `AssociatedIrp.IrpCount`: in the master the union holds the number of associated packets.
        let count = AtomicI32::from_ptr((&raw mut (*master).system_buffer).cast());
        if count.fetch_sub(1, Ordering::AcqRel) == 1 {
            complete(master);
        }
    }
}
