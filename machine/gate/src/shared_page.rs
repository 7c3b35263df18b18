//! The page that drivers read at 0xFFFFF780'00000000 (`KUSER_SHARED_DATA`).
//!
//! No Linux process can map that address, so there is a shadow elsewhere. Loads whose address is in the
//! instruction are redirected when an image is loaded; computed ones fault and are emulated (K-009, K-010).
//! Copies by the host are redirected in [`crate::memory`].
//!
//! Kept up to date: interrupt time, system time, tick count. Set once: version 10.0, one tick each 15.625 ms,
//! what this processor can do.
//! Everything else is zero.

use std::arch::asm;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering, fence};

use arena::{PAGE, Region, plan};

/// Where drivers look for it.
pub const ADDRESS: u64 = 0xFFFF_F780_0000_0000;

/// Offsets of the fields that are filled.
mod offset {
    pub const TICK_COUNT_MULTIPLIER: u64 = 0x004;
    pub const INTERRUPT_TIME: u64 = 0x008;
    pub const SYSTEM_TIME: u64 = 0x014;
    pub const NT_BUILD_NUMBER: u64 = 0x260;
    pub const NT_MAJOR_VERSION: u64 = 0x26C;
    pub const NT_MINOR_VERSION: u64 = 0x270;
    pub const PROCESSOR_FEATURES: u64 = 0x274;
    pub const TICK_COUNT: u64 = 0x320;
}

/// How many processor features the page has room for (`PROCESSOR_FEATURE_MAX`).
const PROCESSOR_FEATURES: u32 = 64;

/// 100 ns units in a clock tick.
pub const TICK_100NS: u64 = 156_250;

static SHADOW: LazyLock<Region> = LazyLock::new(|| {
    let region = Region::reserve(plan::SHARED, PAGE).expect("one page of address space");
    region.commit(PAGE as u64).expect("one page of memory");
    for (offset, value) in [
        // Milliseconds of a tick, as a fixed-point number with 24 bits behind the point.
        (offset::TICK_COUNT_MULTIPLIER, ((TICK_100NS << 24) / 10_000) as u32),
        (offset::NT_BUILD_NUMBER, 19_041),
        (offset::NT_MAJOR_VERSION, 10),
        (offset::NT_MINOR_VERSION, 0),
    ] {
        cell32(region.base() + offset).store(value, Ordering::Relaxed);
    }
    for number in 0..PROCESSOR_FEATURES {
        processor_feature(region.base(), number).store(has_processor_feature(number).into(), Ordering::Relaxed);
    }
    region
});

/// By the numbers of `PF_xxx`: what every x86-64 processor has, and what can be asked of this one.
fn has_processor_feature(number: u32) -> bool {
    match number {
        // CMPXCHG8B, MMX, SSE, RDTSC, PAE, SSE2, NX.
        2 | 3 | 6 | 8 | 9 | 10 | 12 => true,
        13 => is_x86_feature_detected!("sse3"),
        14 => is_x86_feature_detected!("cmpxchg16b"),
        17 => is_x86_feature_detected!("xsave"),
        36 => is_x86_feature_detected!("ssse3"),
        37 => is_x86_feature_detected!("sse4.1"),
        38 => is_x86_feature_detected!("sse4.2"),
        39 => is_x86_feature_detected!("avx"),
        40 => is_x86_feature_detected!("avx2"),
        _ => false,
    }
}

/// Whether the page says that the processor has a feature (`PF_xxx`): drivers may ask either, and hear the same.
pub fn is_processor_feature_present(number: u32) -> bool {
    number < PROCESSOR_FEATURES && processor_feature(shadow(), number).load(Ordering::Relaxed) != 0
}

fn processor_feature(page: u64, number: u32) -> &'static AtomicU8 {
    // SAFETY: callers pass the shadow page, as in `cell32`, and a number below `PROCESSOR_FEATURES`.
    unsafe { &*((page + offset::PROCESSOR_FEATURES + u64::from(number)) as *const AtomicU8) }
}

/// Where the shadow page is.
pub fn shadow() -> u64 {
    SHADOW.base()
}

/// Where the tick count is, for drivers that import it as a variable.
pub fn tick_count_cell() -> u64 {
    shadow() + offset::TICK_COUNT
}

/// Whether drivers look for the shared page at `address`.
pub fn contains(address: u64) -> bool {
    address.wrapping_sub(ADDRESS) < PAGE as u64
}

/// The place to read instead of `address`: somewhere in the shadow for an address in the shared page, else
/// `address` itself.
#[inline]
pub fn redirect(address: u64) -> u64 {
    let offset = address.wrapping_sub(ADDRESS);
    if offset < PAGE as u64 { shadow() + offset } else { address }
}

/// Sets the clocks that drivers read: system time in 100 ns since 1601, interrupt time in 100 ns since start, and
/// ticks since start. For the dispatcher's clock; one caller at a time.
pub fn set_times(system_100ns: u64, interrupt_100ns: u64, ticks: u64) {
    let page = shadow();
    set_system_time_field(page + offset::INTERRUPT_TIME, interrupt_100ns);
    set_system_time_field(page + offset::SYSTEM_TIME, system_100ns);
    set_system_time_field(page + offset::TICK_COUNT, ticks);
}

/// System time as drivers read it here: that of the last tick.
pub fn system_time_100ns() -> u64 {
    let address = shadow() + offset::SYSTEM_TIME;
    let value: u64;
    // SAFETY: as in `set_system_time_field`.
    unsafe { asm!("mov {}, [{}]", out(reg) value, in(reg) address, options(nostack, readonly, preserves_flags)) };
    value
}

/// Writes a `KSYSTEM_TIME`: the high half twice around the whole, so that a reader of 32-bit halves that sees the
/// same high half twice has one value. Most readers load both halves at once.
fn set_system_time_field(address: u64, value: u64) {
    cell32(address + 8).store((value >> 32) as u32, Ordering::Relaxed);
    fence(Ordering::Release);
    // SAFETY: eight bytes in the shadow page, at an address that is not always aligned, hence the instruction
    // itself: the processor makes it one access, because no field crosses a cache line.
    unsafe { asm!("mov [{}], {}", in(reg) address, in(reg) value, options(nostack, preserves_flags)) };
}

fn cell32(address: u64) -> &'static AtomicU32 {
    // SAFETY: callers pass aligned addresses in the shadow page, which is never unmapped; drivers may write
    // there, which is why it is an atomic.
    unsafe { &*(address as *const AtomicU32) }
}
