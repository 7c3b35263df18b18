//! Memory that a driver named: read and written only through copies that survive a bad address.
//!
//! The copies are a few hand-written instructions whose addresses the fault handler knows; a fault there goes on
//! behind them instead of ending the run ([`crate::fault::install`] must have been called). Nothing is cached
//! and nothing is referenced: a driver may change or unmap the memory between two calls.
//!
//! Invariant: no Rust reference to driver memory is ever made here.

use std::arch::{asm, global_asm};
use std::sync::atomic::{Ordering, compiler_fence};

use nt_abi::exception::BugCheck;
use nt_abi::{
    AnsiString, DeviceObject, DispatcherHeader, DriverObject, FileObject, Handle, IoStackLocation, IoStatusBlock, Irp,
    KernelEvent, ListEntry, Mdl, NtStatus, ObjectAttributes, UnicodeString,
};

use crate::shared_page;

/// First address that is not user memory (`MmUserProbeAddress`): drivers probe buffers of programs against it.
pub const USER_PROBE_ADDRESS: u64 = arena::plan::IMAGES;

/// An access to driver memory failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// First address that could not be touched.
    pub address: u64,
    /// Whether it was to be written.
    pub is_write: bool,
}

impl Fault {
    /// Nothing can be read at `address`.
    pub const fn reading(address: u64) -> Self {
        Self { address, is_write: false }
    }

    /// Nothing can be written at `address`.
    pub const fn writing(address: u64) -> Self {
        Self { address, is_write: true }
    }
}

/// Types of which every bit pattern is a value and no copy has a side effect.
///
/// # Safety
/// Both must hold: no references, no `bool`, no Rust enum, no niche anywhere inside.
pub unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($ty:ty),* $(,)?) => {
        // SAFETY: integers, raw pointers and `repr(C)` structures of nothing else.
        $(unsafe impl Plain for $ty {})*
    };
}

plain!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, isize);
plain!(
    AnsiString,
    UnicodeString,
    ObjectAttributes,
    Handle,
    NtStatus,
    IoStatusBlock,
    ListEntry,
    DispatcherHeader,
    KernelEvent
);
plain!(Irp, IoStackLocation, DeviceObject, DriverObject, FileObject, Mdl);
plain!(nt_abi::dispatcher::Timer, nt_abi::dispatcher::Dpc, nt_abi::dispatcher::Semaphore, nt_abi::dispatcher::Mutant);
plain!(nt_abi::dispatcher::WorkQueueItem, nt_abi::dispatcher::FastMutex);

plain!(nt_abi::unwind::RuntimeFunction, nt_abi::unwind::UnwindInfo, nt_abi::unwind::ScopeRecord);
plain!(nt_abi::unwind::NonvolatilePointers, nt_abi::unwind::DispatcherContext);
plain!(nt_abi::exception::ExceptionRecord, nt_abi::exception::ExceptionPointers, nt_abi::exception::Context);

// SAFETY: an array is its elements.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}
// SAFETY: a raw pointer is a number.
unsafe impl<T> Plain for *mut T {}
// SAFETY: a raw pointer is a number.
unsafe impl<T> Plain for *const T {}

/// Fills `into` from `address` on.
///
/// # Errors
/// [`Fault`] when something in the range cannot be read; `into` then holds garbage.
pub fn read(address: u64, into: &mut [u8]) -> Result<(), Fault> {
    let from = shared_page::redirect(address);
    // SAFETY: `into` is ours; reading `from` may fault and is fixed up.
    let outcome = unsafe { gate_guard_copy(into.as_mut_ptr() as u64, from, into.len() as u64) };
    done(address, into.len(), outcome)
}

/// Copies `from` to `address`.
///
/// # Errors
/// [`Fault`] when something in the range cannot be written; what lies before that place was.
pub fn write(address: u64, from: &[u8]) -> Result<(), Fault> {
    // SAFETY: `from` is ours; writing to `address` may fault and is fixed up. That the driver owns what it names
    // cannot be checked: driver and host share an address space, and a driver could write there itself.
    let outcome = unsafe { gate_guard_copy(address, from.as_ptr() as u64, from.len() as u64) };
    done(address, from.len(), outcome).map_err(|fault| Fault::writing(fault.address))
}

/// Copies `length` bytes between two places that drivers named. The ranges may not overlap.
///
/// # Errors
/// [`Fault`] with the address in the source where the copy stopped, as if it could not be read, whichever side
/// was at fault.
pub fn copy(to: u64, from: u64, length: usize) -> Result<(), Fault> {
    // SAFETY: both sides may fault and are fixed up.
    let outcome = unsafe { gate_guard_copy(to, shared_page::redirect(from), length as u64) };
    done(from, length, outcome)
}

/// Reads a value, from any alignment.
///
/// # Errors
/// [`Fault`] when it cannot be read.
#[inline]
pub fn read_value<T: Plain>(address: u64) -> Result<T, Fault> {
    let mut value = std::mem::MaybeUninit::<T>::uninit();
    if matches!(size_of::<T>(), 1 | 2 | 4 | 8) {
        let from = shared_page::redirect(address);
        // SAFETY: loads that are fixed up when they fault.
        let loaded = unsafe {
            match size_of::<T>() {
                1 => gate_guard_load1(from),
                2 => gate_guard_load2(from),
                4 => gate_guard_load4(from),
                _ => gate_guard_load8(from),
            }
        };
        if loaded.failed != 0 {
            return Err(Fault::reading(address));
        }
        // SAFETY: little endian: the first bytes of the word are the value, and every bit pattern is a `T`.
        return Ok(unsafe {
            std::ptr::copy_nonoverlapping(
                (&raw const loaded.value).cast::<u8>(),
                value.as_mut_ptr().cast(),
                size_of::<T>(),
            );
            value.assume_init()
        });
    }
    // SAFETY: as in `read`; the destination is `value`.
    let outcome =
        unsafe { gate_guard_copy(value.as_mut_ptr() as u64, shared_page::redirect(address), size_of::<T>() as u64) };
    done(address, size_of::<T>(), outcome)?;
    // SAFETY: all bytes were written, and every bit pattern is a `T`.
    Ok(unsafe { value.assume_init() })
}

/// Writes a value, to any alignment. One, two, four and eight bytes are written at once.
///
/// # Errors
/// [`Fault`] when it cannot be written.
#[inline]
pub fn write_value<T: Plain>(address: u64, value: T) -> Result<(), Fault> {
    let from = &raw const value;
    // SAFETY: reads `value` as an integer of its size; stores are fixed up when they fault.
    let outcome = unsafe {
        match size_of::<T>() {
            1 => gate_guard_store1(address, from.cast::<u8>().read().into()),
            2 => gate_guard_store2(address, from.cast::<u16>().read_unaligned().into()),
            4 => gate_guard_store4(address, from.cast::<u32>().read_unaligned().into()),
            8 => gate_guard_store8(address, from.cast::<u64>().read_unaligned()),
            bytes => gate_guard_copy(address, from as u64, bytes as u64),
        }
    };
    if outcome.failed == 0 { Ok(()) } else { Err(Fault::writing(address)) }
}

/// Writes a result where a driver wants it, which may be anywhere: a field of a packed structure, too, since x64 code stores to any
/// alignment. For results of imports; a bad place faults, and the driver that named it gets the exception. Whatever stands before it
/// has happened then and what stands behind it has not: the compiler may not move the store.
///
/// # Safety
/// `to` is the driver's, and room for a `T`.
#[inline(always)]
pub unsafe fn put<T>(to: *mut T, value: T) {
    compiler_fence(Ordering::SeqCst);
    // SAFETY: the caller's promise.
    unsafe { to.write_unaligned(value) }
    compiler_fence(Ordering::SeqCst);
}

/// Writes what is there already to where a driver wants a result. A bad place faults here, while nothing has been done yet that would be
/// lost with the call: for imports that open, register or reference something before they have the result.
///
/// # Safety
/// `to` is the driver's to answer for.
#[inline]
pub unsafe fn touch<T>(to: *mut T) {
    let first = to.cast::<u8>();
    let last = first.wrapping_add(size_of::<T>() - 1);
    for byte in [first, last] {
        // At once, since somebody may be writing there; not an atomic of Rust's, whose or with nothing is compiled to a load.
        // SAFETY: the caller's promise.
        unsafe { asm!("lock or byte ptr [{}], 0", in(reg) byte, options(nostack)) };
    }
}

/// A pointer out of `field`, which drivers can write to. Where no `T` can lie it ends the run, as the access would have: the compiler
/// relies on the alignment.
#[inline]
pub fn aligned<T>(pointer: *mut T, field: &str) -> *mut T {
    if !pointer.is_aligned() {
        misaligned(pointer as u64, field);
    }
    pointer
}

#[cold]
fn misaligned(address: u64, field: &str) -> ! {
    let caller = crate::caller();
    crate::bugcheck::with_message(
        BugCheck::KMODE_EXCEPTION_NOT_HANDLED,
        [NtStatus::ACCESS_VIOLATION.0.into(), caller, 0, address],
        caller,
        format_args!("{field} was written over: it is {address:#x}, where no such structure can lie."),
    )
}

/// Reads the characters of the `UNICODE_STRING` at `address` (K-163); an odd last byte is left out.
///
/// # Errors
/// [`Fault`] when the structure or its buffer cannot be read.
pub fn read_unicode(address: u64) -> Result<Vec<u16>, Fault> {
    let string: UnicodeString = read_value(address)?;
    read_units(string.buffer as u64, usize::from(string.length / 2))
}

/// Reads `count` UTF-16 code units.
///
/// # Errors
/// [`Fault`] when something in the range cannot be read.
pub fn read_units(address: u64, count: usize) -> Result<Vec<u16>, Fault> {
    let mut units = vec![0_u16; count];
    // SAFETY: the vector's own memory; every bit pattern is a code unit, and the machine stores them as drivers do.
    let bytes = unsafe { std::slice::from_raw_parts_mut(units.as_mut_ptr().cast::<u8>(), count * 2) };
    read(address, bytes)?;
    Ok(units)
}

/// Reads bytes up to the first NUL, which is left out, or up to `bytes_max`.
///
/// # Errors
/// [`Fault`] when memory ends before a NUL.
pub fn read_c_string(address: u64, bytes_max: usize) -> Result<Vec<u8>, Fault> {
    read_terminated(address, bytes_max, |byte: u8| byte == 0)
}

/// Reads UTF-16 code units up to the first NUL, which is left out, or up to `units_max`.
///
/// # Errors
/// [`Fault`] when memory ends before a NUL.
pub fn read_wide_c_string(address: u64, units_max: usize) -> Result<Vec<u16>, Fault> {
    read_terminated(address, units_max, |unit: u16| unit == 0)
}

fn read_terminated<T: Plain>(address: u64, max: usize, is_end: impl Fn(T) -> bool) -> Result<Vec<T>, Fault> {
    let mut read = Vec::new();
    while read.len() < max {
        let value = read_value::<T>(address.wrapping_add((read.len() * size_of::<T>()) as u64))?;
        if is_end(value) {
            break;
        }
        read.push(value);
    }
    Ok(read)
}

/// Checks that every page of a range can be read.
///
/// # Errors
/// [`Fault`] with the first address that cannot.
pub fn probe_read(address: u64, length: usize) -> Result<(), Fault> {
    probe(address, length, |place| read_value::<u8>(place).map(drop))
}

/// Checks that every page of a range can be written, without changing it.
///
/// # Errors
/// [`Fault`] with the first address that cannot.
pub fn probe_write(address: u64, length: usize) -> Result<(), Fault> {
    probe(address, length, |place| {
        // SAFETY: a locked no-op that is fixed up when it faults.
        let outcome = unsafe { gate_guard_touch(place) };
        if outcome.failed == 0 { Ok(()) } else { Err(Fault::writing(place)) }
    })
}

fn probe(address: u64, length: usize, touch: impl Fn(u64) -> Result<(), Fault>) -> Result<(), Fault> {
    let Some(last) = (length as u64).checked_sub(1) else { return Ok(()) };
    let last = address.checked_add(last).ok_or(Fault::reading(address))?;
    let mut place = address;
    loop {
        touch(place)?;
        let next = (place | (arena::PAGE as u64 - 1)).wrapping_add(1);
        if next == 0 || next > last {
            return touch(last);
        }
        place = next;
    }
}

fn done(address: u64, length: usize, outcome: Outcome) -> Result<(), Fault> {
    if outcome.failed == 0 {
        return Ok(());
    }
    // Only copies leave a count; what other accesses leave there does not matter.
    let left = outcome.value.min(length as u64);
    Err(Fault::reading(address.wrapping_add(length as u64 - left)))
}

/// Where a fault at `rip` goes on, if that is a guarded instruction. For the fault handler.
pub(crate) fn fix_up(rip: u64) -> Option<u64> {
    let guarded = gate_guard_first as *const () as u64..gate_guard_failed as *const () as u64;
    guarded.contains(&rip).then_some(guarded.end)
}

/// What a guarded instruction came to, in rax and rdx.
#[repr(C)]
struct Outcome {
    /// A load's value; for a copy that failed, the bytes that are left.
    value: u64,
    /// 1 if the access faulted.
    failed: u64,
}

unsafe extern "C" {
    fn gate_guard_first();
    fn gate_guard_failed();
    fn gate_guard_copy(to: u64, from: u64, length: u64) -> Outcome;
    fn gate_guard_load1(address: u64) -> Outcome;
    fn gate_guard_load2(address: u64) -> Outcome;
    fn gate_guard_load4(address: u64) -> Outcome;
    fn gate_guard_load8(address: u64) -> Outcome;
    fn gate_guard_store1(address: u64, value: u64) -> Outcome;
    fn gate_guard_store2(address: u64, value: u64) -> Outcome;
    fn gate_guard_store4(address: u64, value: u64) -> Outcome;
    fn gate_guard_store8(address: u64, value: u64) -> Outcome;
    fn gate_guard_touch(address: u64) -> Outcome;
}

// Leaf functions without a frame, so that a fault anywhere between first and failed can go on at failed, which
// returns for them.
global_asm!(
    ".pushsection .text.gate_guard, \"ax\", @progbits",
    ".balign 16",
    "gate_guard_first:",
    "gate_guard_copy:",
    "mov rcx, rdx",
    "xor edx, edx",
    "rep movsb",
    "ret",
    "gate_guard_load1:",
    "xor edx, edx",
    "movzx eax, byte ptr [rdi]",
    "ret",
    "gate_guard_load2:",
    "xor edx, edx",
    "movzx eax, word ptr [rdi]",
    "ret",
    "gate_guard_load4:",
    "xor edx, edx",
    "mov eax, dword ptr [rdi]",
    "ret",
    "gate_guard_load8:",
    "xor edx, edx",
    "mov rax, qword ptr [rdi]",
    "ret",
    "gate_guard_store1:",
    "xor edx, edx",
    "mov byte ptr [rdi], sil",
    "ret",
    "gate_guard_store2:",
    "xor edx, edx",
    "mov word ptr [rdi], si",
    "ret",
    "gate_guard_store4:",
    "xor edx, edx",
    "mov dword ptr [rdi], esi",
    "ret",
    "gate_guard_store8:",
    "xor edx, edx",
    "mov qword ptr [rdi], rsi",
    "ret",
    "gate_guard_touch:",
    "xor edx, edx",
    "lock or byte ptr [rdi], 0",
    "ret",
    "gate_guard_failed:",
    "mov edx, 1",
    "mov rax, rcx",
    "ret",
    ".popsection",
    ".global gate_guard_first",
    ".hidden gate_guard_first",
    ".global gate_guard_failed",
    ".hidden gate_guard_failed",
    ".global gate_guard_copy",
    ".hidden gate_guard_copy",
    ".global gate_guard_load1",
    ".hidden gate_guard_load1",
    ".global gate_guard_load2",
    ".hidden gate_guard_load2",
    ".global gate_guard_load4",
    ".hidden gate_guard_load4",
    ".global gate_guard_load8",
    ".hidden gate_guard_load8",
    ".global gate_guard_store1",
    ".hidden gate_guard_store1",
    ".global gate_guard_store2",
    ".hidden gate_guard_store2",
    ".global gate_guard_store4",
    ".hidden gate_guard_store4",
    ".global gate_guard_store8",
    ".hidden gate_guard_store8",
    ".global gate_guard_touch",
    ".hidden gate_guard_touch",
);
