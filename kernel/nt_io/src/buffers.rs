//! Buffers of requests: system buffers of buffered requests, locked buffers of direct ones.
//!
//! Pool and MDLs belong to the executive, which stands above this crate and hands its services down once, before
//! the first driver runs. A system buffer is pool, because drivers that send a request of
//! `IoBuildAsynchronousFsdRequest` free it themselves.

use std::alloc::{self, Layout};
use std::sync::OnceLock;

use nt_abi::io::irp_flags;
use nt_abi::{Irp, NtStatus};

/// What the executive lends.
#[derive(Clone, Copy, Debug)]
pub struct Services {
    /// Allocates nonpaged pool of that many bytes for the driver instruction `caller`.
    pub allocate: fn(bytes: u64, caller: u64) -> Option<u64>,
    /// Frees it.
    pub free: fn(address: u64),
    /// Makes an MDL over a range, locks it and hangs it on the request; `write`: the device will write there.
    pub lock: unsafe fn(irp: *mut Irp, address: u64, length: u32, write: bool, caller: u64) -> Result<(), NtStatus>,
    /// Unlocks and frees the MDL chain of a request that ended (K-064, K-064a).
    pub free_mdls: unsafe fn(irp: *mut Irp),
    /// The full name of an open key; `None` for any other object.
    pub key_name: fn(object: u64) -> Option<Vec<u16>>,
}

static SERVICES: OnceLock<Services> = OnceLock::new();

/// Lends the executive's services; only the first call counts.
pub fn set_services(services: Services) {
    let _ = SERVICES.set(services);
}

/// What there is without an executive, for tests of this crate: memory of the host, no MDLs.
const HOST_ONLY: Services = Services {
    allocate: host_allocate,
    free: host_free,
    lock: |_, _, _, _, _| Err(NtStatus::INSUFFICIENT_RESOURCES),
    free_mdls: |_| {},
    key_name: |_| None,
};

/// The executive's services.
pub(crate) fn services() -> &'static Services {
    SERVICES.get().unwrap_or(&HOST_ONLY)
}

/// Bytes in front of a host allocation that hold its length.
const PREFIX: u64 = 16;

fn host_layout(bytes: u64) -> Option<Layout> {
    Layout::from_size_align((bytes + PREFIX) as usize, PREFIX as usize).ok()
}

fn host_allocate(bytes: u64, _caller: u64) -> Option<u64> {
    let layout = host_layout(bytes)?;
    // SAFETY: the layout is not empty.
    let place = unsafe { alloc::alloc(layout) };
    if place.is_null() {
        return None;
    }
    // SAFETY: the prefix belongs to the allocation and is aligned.
    unsafe { place.cast::<u64>().write(bytes) };
    Some(place as u64 + PREFIX)
}

fn host_free(address: u64) {
    let place = (address - PREFIX) as *mut u8;
    // SAFETY: `host_allocate` made it and wrote its length in front.
    unsafe {
        if let Some(layout) = host_layout(place.cast::<u64>().read()) {
            alloc::dealloc(place, layout);
        }
    }
}

/// Gives a packet a system buffer of `length` bytes, filled from `input`.
///
/// # Errors
/// STATUS_INSUFFICIENT_RESOURCES, or STATUS_ACCESS_VIOLATION if the input cannot be read; the packet has no buffer
/// then.
///
/// # Safety
/// `irp` is a packet under construction.
pub(crate) unsafe fn attach_system_buffer(
    irp: *mut Irp,
    length: u32,
    input: (u64, u32),
    caller: u64,
) -> Result<(), NtStatus> {
    let services = services();
    let buffer = (services.allocate)(length.into(), caller).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
    let filled = input.1.min(length);
    if gate::memory::copy(buffer, input.0, filled as usize).is_err() {
        (services.free)(buffer);
        return Err(NtStatus::ACCESS_VIOLATION);
    }
    // SAFETY: the buffer is ours alone; what the input does not fill must not tell what was there before.
    unsafe {
        ((buffer + u64::from(filled)) as *mut u8).write_bytes(0, (length - filled) as usize);
        (*irp).flags |= irp_flags::BUFFERED_IO | irp_flags::DEALLOCATE_BUFFER;
        (*irp).system_buffer = buffer;
    }
    Ok(())
}

/// Copies the output of a buffered request back and frees its system buffer (K-066).
///
/// `Information` says how much; `room` is what the sender's buffer holds.
///
/// # Safety
/// `irp` is a packet at its end. The flag was set by [`attach_system_buffer`] only, or by a driver, whose pool it
/// is then.
pub(crate) unsafe fn release_system_buffer(irp: *mut Irp, room: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        if (*irp).flags & irp_flags::DEALLOCATE_BUFFER == 0 {
            return;
        }
        let buffer = (*irp).system_buffer;
        if (*irp).flags & irp_flags::INPUT_OPERATION != 0 && !(*irp).io_status.status.is_error() {
            let count = (*irp).io_status.information.min(room) as usize;
            if gate::memory::copy((*irp).user_buffer, buffer, count).is_err() {
                gate::finding("K-066", "the output buffer of a buffered request cannot be written", gate::caller());
            }
        }
        (*irp).flags &= !irp_flags::DEALLOCATE_BUFFER;
        (services().free)(buffer);
    }
}
