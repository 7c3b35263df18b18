//! Physical memory that a driver maps by its address.
//!
//! There is no device here, so no device's memory: a physical address is that of ordinary memory, which lies there
//! already ([`super`]), or of nothing. What is nothing cannot be mapped. That is no fault of the driver's, which gets the
//! null pointer that it has to expect, and a note says which address it asked for.

use std::sync::PoisonError;

use gate::memory;
use host_lock::{Mutex, MutexGuard};
use trace::Event;

gate::exports! {
    /// Physical memory by its address.
    pub static TABLE in "ntoskrnl.exe";
    "MmMapIoSpace" = mm_map_io_space(physical: u64, bytes: u64, cache: u32) -> u64, irql <= DISPATCH, rules "K-200";
    "MmMapIoSpaceEx" = mm_map_io_space_ex(physical: u64, bytes: u64, protection: u32) -> u64, irql <= DISPATCH, rules "K-200";
    "MmUnmapIoSpace" = mm_unmap_io_space(address: u64, bytes: u64), irql <= DISPATCH, rules "K-200";
}

/// What a driver has mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Where.
    pub address: u64,
    /// How much.
    pub bytes: u64,
    /// The driver instruction that mapped it.
    pub caller: u64,
}

static MAPPINGS: Mutex<Vec<Mapping>> = Mutex::new(Vec::new());

fn mappings() -> MutexGuard<'static, Vec<Mapping>> {
    MAPPINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Visits what is still mapped.
pub fn for_each_mapping(visit: impl FnMut(Mapping)) {
    // A copy: the visitor may look at anything.
    let all = mappings().clone();
    all.into_iter().for_each(visit);
}

fn map(physical: u64, bytes: u64, service: &str) -> u64 {
    if bytes == 0 {
        return 0;
    }
    if memory::probe_write(physical, bytes as usize).is_err() {
        let text = format!(
            "{service} gives NULL: no memory lies at physical address {physical:#x} ({bytes:#x} bytes), and Drydock has no \
             devices"
        );
        gate::record_with_text(Event::HostNote {}, &text);
        return 0;
    }
    mappings().push(Mapping { address: physical, bytes, caller: gate::caller() });
    physical
}

unsafe extern "win64" fn mm_map_io_space(physical: u64, bytes: u64, cache: u32) -> u64 {
    /// `MmMaximumCacheType`
    const CACHE_TYPES: u32 = 6;
    if cache < CACHE_TYPES { map(physical, bytes, "MmMapIoSpace") } else { 0 }
}

unsafe extern "win64" fn mm_map_io_space_ex(physical: u64, bytes: u64, protection: u32) -> u64 {
    /// `PAGE_NOCACHE` and `PAGE_WRITECOMBINE`, of which at most one goes with any of the others.
    const CACHING: [u32; 3] = [0, 0x200, 0x400];
    /// `PAGE_READONLY`, `_READWRITE`, `_EXECUTE`, `_EXECUTE_READ`, `_EXECUTE_READWRITE`.
    const ACCESS: [u32; 5] = [0x02, 0x04, 0x10, 0x20, 0x40];
    let is_one = CACHING.iter().any(|caching| ACCESS.iter().any(|access| access | caching == protection));
    if is_one { map(physical, bytes, "MmMapIoSpaceEx") } else { 0 }
}

unsafe extern "win64" fn mm_unmap_io_space(address: u64, bytes: u64) {
    let mut all = mappings();
    let found = all.iter().position(|one| one.address == address && one.bytes == bytes);
    if let Some(place) = found {
        all.remove(place);
        return;
    }
    drop(all);
    gate::finding(
        "K-200",
        format_args!(
            "MmUnmapIoSpace was given {bytes:#x} bytes at {address:#x}, which MmMapIoSpace has not mapped so."
        ),
        gate::caller(),
    );
}
