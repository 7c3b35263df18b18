//! Completing requests (K-038 to K-049, K-062 to K-064, C-572).

use nt_abi::exception::BugCheck;
use nt_abi::io::{control, irp_flags};
use nt_abi::{DeviceObject, Irp, NtStatus};
use nt_dispatcher::event;
use std::ptr;
use std::sync::OnceLock;
use trace::Event;

use crate::irp::{self, Owner};

/// Unlocks and frees the MDL chain of a threaded request that ended (K-064). Set by whoever owns MDLs.
static FREE_MDLS: OnceLock<unsafe fn(irp: *mut Irp)> = OnceLock::new();

/// Sets who unlocks and frees the MDLs of threaded requests. Set once.
pub fn set_free_mdls(free: unsafe fn(irp: *mut Irp)) {
    let _ = FREE_MDLS.set(free);
}

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
        let status = (*irp).io_status.status;
        if (*irp).kind != Irp::TYPE || (*irp).current_location > (*irp).stack_count {
            gate::bugcheck(BugCheck::MULTIPLE_IRP_COMPLETE_REQUESTS, [irp as u64, 0, 0, 0]);
        }
        if status == NtStatus::PENDING || status.0 == u32::MAX {
            gate::bugcheck(BugCheck::DRIVER_VERIFIER_IOMANAGER_VIOLATION, [6, irp as u64, status.0.into(), 0]);
        }
        if (*irp).cancel_routine != 0 {
            gate::finding("K-048", "a request was completed while its cancel routine was still set", gate::caller());
        }
        note(irp);
        loop {
            if !step(irp) {
                return;
            }
            if (*irp).current_location > (*irp).stack_count {
                break;
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
        let pending = (*(*irp).current_stack_location).control & control::PENDING_RETURNED != 0;
        let irp = irp as u64;
        gate::record(match pending {
            true => Event::IrpCompletedLater { irp, status, information },
            false => Event::IrpCompleted { irp, status, information },
        });
    }
}

/// Leaves one location. `false` if its completion routine kept the packet.
unsafe fn step(irp: *mut Irp) -> bool {
    // SAFETY: as in `complete`.
    unsafe {
        let left = (*irp).current_stack_location;
        (*irp).current_location += 1;
        (*irp).current_stack_location = left.add(1);
        let has_upper = (*irp).current_location <= (*irp).stack_count;
        let pending = (*left).control & control::PENDING_RETURNED != 0;
        (*irp).pending_returned = pending.into();
        let (routine, context, conditions) = ((*left).completion_routine, (*left).context, (*left).control);
        // Cleared, so that a packet that is sent again does not call it once more by accident.
        (*left).control = 0;
        (*left).completion_routine = 0;
        if routine != 0 && wanted(irp, conditions) {
            let upper: *mut DeviceObject =
                if has_upper { (*(*irp).current_stack_location).device_object } else { ptr::null_mut() };
            let answer = gate::call::call3(routine, upper as u64, irp as u64, context);
            return NtStatus(answer as u32) != NtStatus::MORE_PROCESSING_REQUIRED;
        }
        if pending && has_upper {
            // Without a routine of its own the upper driver cannot pass the mark on (K-046).
            (*(*irp).current_stack_location).control |= control::PENDING_RETURNED;
        }
        true
    }
}

/// Whether a completion routine wants to hear of this outcome (K-038).
unsafe fn wanted(irp: *mut Irp, conditions: u8) -> bool {
    // SAFETY: as in `complete`.
    let (status, cancelled) = unsafe { ((*irp).io_status.status, (*irp).cancel != 0) };
    let outcome = if status.is_success() { control::INVOKE_ON_SUCCESS } else { control::INVOKE_ON_ERROR };
    conditions & outcome != 0 || (cancelled && conditions & control::INVOKE_ON_CANCEL != 0)
}

/// Past the last location: the owner gets the outcome.
unsafe fn finish(irp: *mut Irp) {
    // SAFETY: as in `complete`; a finished packet is the I/O manager's unless a driver allocated it.
    unsafe {
        let (iosb, event, outcome) = ((*irp).user_iosb, (*irp).user_event, (*irp).io_status);
        match irp::owner_of(irp) {
            Some(Owner::Thread) => {
                let inline_error = outcome.status.is_error() && (*irp).pending_returned == 0;
                release_buffers(irp);
                if let Some(free) = FREE_MDLS.get() {
                    free(irp);
                }
                irp::free(irp);
                if inline_error {
                    // The return value of IoCallDriver is all the sender gets (C-572).
                    return;
                }
            }
            Some(Owner::Manager) => release_buffers(irp),
            Some(Owner::Driver) | None => {
                let message = "a request that a driver allocated completed to its end: a completion routine must \
                               stop it with STATUS_MORE_PROCESSING_REQUIRED";
                gate::finding("K-029", message, gate::caller());
            }
        }
        if !iosb.is_null() {
            *iosb = outcome;
        }
        if !event.is_null() {
            event::set(event);
        }
    }
}

/// Copies METHOD_BUFFERED output back and frees the system buffer.
unsafe fn release_buffers(irp: *mut Irp) {
    // SAFETY: the flag is set by `irp::build_device_control` only, together with a boxed buffer of this length.
    unsafe {
        if (*irp).flags & irp_flags::DEALLOCATE_BUFFER == 0 {
            return;
        }
        let length = (*irp).overlay[0] as usize;
        let buffer = Box::from_raw(ptr::slice_from_raw_parts_mut((*irp).system_buffer as *mut u8, length));
        if (*irp).flags & irp_flags::INPUT_OPERATION != 0 && !(*irp).io_status.status.is_error() {
            let count = ((*irp).io_status.information as usize).min(length);
            if gate::memory::write((*irp).user_buffer, &buffer[..count]).is_err() {
                gate::finding("K-066", "the output buffer of a buffered request cannot be written", gate::caller());
            }
        }
        (*irp).flags &= !irp_flags::DEALLOCATE_BUFFER;
    }
}
