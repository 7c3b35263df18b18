//! What has no family: random numbers, byte swaps, access masks, one-time initialisation.

use std::sync::atomic::{AtomicU64, Ordering};

use gate::memory::put;
use nt_abi::NtStatus;
use nt_abi::exception::BugCheck;

gate::exports! {
    /// Odds and ends.
    pub static TABLE in "ntoskrnl.exe";
    "RtlCompareAltitudes" = rtl_compare_altitudes(a: u64, b: u64) -> i32, irql <= PASSIVE, rules "K-200";
    "RtlRandom" | "RtlRandomEx" | "RtlUniform" = rtl_random(seed: *mut u32) -> u32, rules "K-200";
    "RtlUshortByteSwap" = rtl_ushort_byte_swap(value: u16) -> u16, rules "K-200";
    "RtlUlongByteSwap" = rtl_ulong_byte_swap(value: u32) -> u32, rules "K-200";
    "RtlUlonglongByteSwap" = rtl_ulonglong_byte_swap(value: u64) -> u64, rules "K-200";
    "RtlMapGenericMask" = rtl_map_generic_mask(mask: *mut u32, mapping: *const [u32; 4]), rules "K-200";
    "RtlAreAllAccessesGranted" = rtl_are_all_accesses_granted(granted: u32, desired: u32) -> u8, rules "K-200";
    "RtlAreAnyAccessesGranted" = rtl_are_any_accesses_granted(granted: u32, desired: u32) -> u8, rules "K-200";
    "RtlRunOnceInitialize" = rtl_run_once_initialize(once: *mut u64), rules "K-200";
    "RtlRunOnceExecuteOnce" = rtl_run_once_execute_once(once: *mut u64, routine: u64, parameter: u64, context: *mut u64) -> NtStatus, irql <= APC, rules "K-200";
    "RtlRunOnceBeginInitialize" = rtl_run_once_begin_initialize(once: *mut u64, flags: u32, context: *mut u64) -> NtStatus, irql <= APC, rules "K-200";
    "RtlRunOnceComplete" = rtl_run_once_complete(once: *mut u64, flags: u32, context: u64) -> NtStatus, irql <= APC, rules "K-200";
    "RtlComputeCrc32" = rtl_compute_crc32(before: u32, bytes: *const u8, count: u32) -> u32, rules "K-200";
    "RtlCopyLuid" = rtl_copy_luid(to: *mut u64, from: *const u64), rules "K-200";
    "RtlEqualLuid" = rtl_equal_luid(a: *const u64, b: *const u64) -> u8, rules "K-200";
    "RtlAssert" = rtl_assert(text: u64, file: u64, line: u32, message: u64), rules "K-200";
}

/// A linear congruential generator over the driver's seed, below 2^31: a run with the same seed gets the same numbers.
unsafe extern "win64" fn rtl_random(seed: *mut u32) -> u32 {
    const MODULUS: u64 = 0x7FFF_FFFF;
    // SAFETY: the driver's pointer; a bad one faults and is blamed on it. The same holds for the whole module.
    unsafe {
        let next = (u64::from(seed.read_unaligned()) * 0x7FFF_FFED + 0x7FFF_FFC3) % MODULUS;
        put(seed, next as u32);
        next as u32
    }
}

unsafe extern "win64" fn rtl_ushort_byte_swap(value: u16) -> u16 {
    value.swap_bytes()
}

unsafe extern "win64" fn rtl_ulong_byte_swap(value: u32) -> u32 {
    value.swap_bytes()
}

unsafe extern "win64" fn rtl_ulonglong_byte_swap(value: u64) -> u64 {
    value.swap_bytes()
}

/// A decimal number of any length as digits: how many stand in front of the point, those without leading zeros, those behind it
/// without trailing ones. So they compare.
pub type Altitude = (usize, Vec<u16>, Vec<u16>);

/// The altitude that is written so.
pub fn altitude(units: &[u16]) -> Altitude {
    const ZERO: u16 = b'0' as u16;
    const POINT: u16 = b'.' as u16;
    let point = units.iter().position(|unit| *unit == POINT).unwrap_or(units.len());
    let whole: Vec<u16> = units[..point].iter().copied().skip_while(|unit| *unit == ZERO).collect();
    let mut rest = units.get(point + 1..).unwrap_or_default().to_vec();
    while rest.last() == Some(&ZERO) {
        rest.pop();
    }
    (whole.len(), whole, rest)
}

/// Below, at or above 0 as `a` is below, at or above `b`.
unsafe extern "win64" fn rtl_compare_altitudes(a: u64, b: u64) -> i32 {
    let read = || Ok((gate::memory::read_unicode(a)?, gate::memory::read_unicode(b)?));
    match read() {
        Ok((a, b)) => altitude(&a).cmp(&altitude(&b)) as i32,
        Err(fault) => {
            crate::raise::access_violation(fault);
            0
        }
    }
}

/// Replaces the generic rights (read, write, execute, all) by those a mapping gives for them.
pub fn map_generic(mask: u32, mapping: &[u32; 4]) -> u32 {
    const GENERIC: [u32; 4] = [0x8000_0000, 0x4000_0000, 0x2000_0000, 0x1000_0000];
    let specific = GENERIC.iter().zip(mapping).filter(|&(generic, _)| mask & generic != 0);
    specific.fold(mask & 0x0FFF_FFFF, |mask, (_, mapped)| mask | mapped)
}

/// The CRC that Ethernet and ZIP use; `before` is that of what went before, 0 for nothing.
unsafe extern "win64" fn rtl_compute_crc32(before: u32, bytes: *const u8, count: u32) -> u32 {
    const POLYNOMIAL: u32 = 0xEDB8_8320;
    let step = |crc: u32| if crc & 1 != 0 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
    let rest = (0..count as usize).fold(!before, |crc, place| {
        // SAFETY: see `rtl_random`.
        let byte = unsafe { *bytes.add(place) };
        (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc))
    });
    !rest
}

unsafe extern "win64" fn rtl_copy_luid(to: *mut u64, from: *const u64) {
    // SAFETY: see `rtl_random`. Identifiers are aligned as their halves are.
    unsafe { to.write_unaligned(from.read_unaligned()) };
}

unsafe extern "win64" fn rtl_equal_luid(a: *const u64, b: *const u64) -> u8 {
    // SAFETY: as in `rtl_copy_luid`.
    unsafe { a.read_unaligned() == b.read_unaligned() }.into()
}

unsafe extern "win64" fn rtl_map_generic_mask(mask: *mut u32, mapping: *const [u32; 4]) {
    // SAFETY: see `rtl_random`.
    unsafe { put(mask, map_generic(mask.read_unaligned(), &mapping.read_unaligned())) };
}

unsafe extern "win64" fn rtl_are_all_accesses_granted(granted: u32, desired: u32) -> u8 {
    (desired & !granted == 0).into()
}

unsafe extern "win64" fn rtl_are_any_accesses_granted(granted: u32, desired: u32) -> u8 {
    (desired & granted != 0).into()
}

/// States of a one-time initialisation, in the low bits of its word; the rest is the context.
mod once {
    pub const FRESH: u64 = 0;
    pub const RUNNING: u64 = 1;
    pub const DONE: u64 = 2;
    pub const STATE: u64 = 3;
}

/// Flags of the calls.
const CHECK_ONLY: u32 = 1;
const ASYNC: u32 = 2;
const INIT_FAILED: u32 = 4;

unsafe fn word<'a>(once: *mut u64) -> &'a AtomicU64 {
    // SAFETY: the driver's word, which must be aligned; see `rtl_random`.
    unsafe { AtomicU64::from_ptr(once) }
}

unsafe extern "win64" fn rtl_run_once_initialize(once: *mut u64) {
    // SAFETY: see `rtl_random`.
    unsafe { once.write(once::FRESH) };
}

unsafe fn store_context(context: *mut u64, state: u64) {
    if !context.is_null() {
        // SAFETY: see `rtl_random`.
        unsafe { put(context, state & !once::STATE) };
    }
}

/// STATUS_SUCCESS when the work is done, STATUS_PENDING for the thread that is to do it. Another thread waits.
unsafe extern "win64" fn rtl_run_once_begin_initialize(once: *mut u64, flags: u32, context: *mut u64) -> NtStatus {
    if flags & !(CHECK_ONLY | ASYNC) != 0 || flags == CHECK_ONLY | ASYNC {
        return NtStatus::INVALID_PARAMETER;
    }
    // SAFETY: see `rtl_random`.
    unsafe {
        let once = word(once);
        loop {
            let state = once.load(Ordering::Acquire);
            match state & once::STATE {
                once::DONE => {
                    store_context(context, state);
                    return NtStatus::SUCCESS;
                }
                _ if flags & CHECK_ONLY != 0 => return NtStatus::UNSUCCESSFUL,
                once::FRESH if flags & ASYNC != 0 => return NtStatus::PENDING,
                once::FRESH => {
                    if once.compare_exchange(state, once::RUNNING, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                        return NtStatus::PENDING;
                    }
                }
                // Initialisations are short and rare; a wait queue would live longer than they do.
                _ => nt_dispatcher::wait::delay(-10_000),
            }
        }
    }
}

unsafe extern "win64" fn rtl_run_once_complete(once: *mut u64, flags: u32, context: u64) -> NtStatus {
    let failed = flags & INIT_FAILED != 0;
    if flags & !(ASYNC | INIT_FAILED) != 0 || (failed && (flags & ASYNC != 0 || context != 0)) {
        return NtStatus::INVALID_PARAMETER;
    }
    if context & once::STATE != 0 {
        return NtStatus::INVALID_PARAMETER;
    }
    let (from, to) = match (failed, flags & ASYNC != 0) {
        (true, _) => (once::RUNNING, once::FRESH),
        (false, true) => (once::FRESH, context | once::DONE),
        (false, false) => (once::RUNNING, context | once::DONE),
    };
    // SAFETY: see `rtl_random`.
    match unsafe { word(once) }.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => NtStatus::SUCCESS,
        // Of several that ran side by side another one was first.
        Err(_) if flags & ASYNC != 0 => NtStatus::OBJECT_NAME_COLLISION,
        Err(_) => NtStatus::UNSUCCESSFUL,
    }
}

unsafe extern "win64" fn rtl_run_once_execute_once(
    once: *mut u64,
    routine: u64,
    parameter: u64,
    context: *mut u64,
) -> NtStatus {
    // SAFETY: see `rtl_random`; the routine is the driver's.
    unsafe {
        if rtl_run_once_begin_initialize(once, 0, context) != NtStatus::PENDING {
            return NtStatus::SUCCESS;
        }
        let mut made = 0u64;
        let done = gate::call::call3(routine, once as u64, parameter, &raw mut made as u64) as u32;
        // An exception that passes the routine is a failure, too.
        if done == 0 || gate::seh::is_leaving() {
            rtl_run_once_complete(once, INIT_FAILED, 0);
            return NtStatus::UNSUCCESSFUL;
        }
        let status = rtl_run_once_complete(once, 0, made);
        if status == NtStatus::SUCCESS {
            store_context(context, made);
        } else {
            // A context with the reserved bits set. Whoever waits would wait for ever: let the next one try.
            rtl_run_once_complete(once, INIT_FAILED, 0);
        }
        status
    }
}

/// A failed assertion of a checked driver.
unsafe extern "win64" fn rtl_assert(text: u64, file: u64, line: u32, message: u64) {
    let read = |address| {
        let bytes = if address == 0 { Ok(Vec::new()) } else { gate::memory::read_c_string(address, 256) };
        String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
    };
    let (text, file, message) = (read(text), read(file), read(message));
    let caller = gate::caller();
    let said = format!("The driver's assertion failed: {text} {message} ({file}:{line}).");
    let parameters = [NtStatus::BREAKPOINT.0.into(), caller, 0, 0];
    gate::bugcheck::with_message(BugCheck::KMODE_EXCEPTION_NOT_HANDLED, parameters, caller, said);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::kernel_thread;

    #[test]
    fn random_numbers_depend_on_the_seed_alone() {
        let draw = |mut seed: u32| -> Vec<u32> {
            // SAFETY: a seed of this test.
            (0..5).map(|_| unsafe { rtl_random(&mut seed) }).collect()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!(draw(7).iter().all(|&number| number < 0x7FFF_FFFF));
    }

    #[test]
    fn generic_rights_are_mapped() {
        assert_eq!(map_generic(0xC000_0001, &[0x10, 0x20, 0x40, 0x80]), 0x31);
    }

    #[test]
    fn initialisation_runs_once_and_hands_out_its_context() {
        unsafe extern "win64" fn initialise(_once: u64, parameter: u64, context: *mut u64) -> u32 {
            // SAFETY: called with a place for the context.
            unsafe { *context = parameter };
            u32::from(parameter != 0)
        }
        kernel_thread();
        let (mut once, mut context) = (0u64, 0u64);
        let routine = initialise as *const () as u64;
        // SAFETY: words of this test.
        unsafe {
            assert_eq!(rtl_run_once_execute_once(&mut once, routine, 0, &mut context), NtStatus::UNSUCCESSFUL);
            assert_eq!(rtl_run_once_execute_once(&mut once, routine, 0x40, &mut context), NtStatus::SUCCESS);
            assert_eq!(context, 0x40);
            context = 0;
            assert_eq!(rtl_run_once_execute_once(&mut once, routine, 0x80, &mut context), NtStatus::SUCCESS);
            assert_eq!(context, 0x40);
            assert_eq!(rtl_run_once_begin_initialize(&mut once, CHECK_ONLY, &mut context), NtStatus::SUCCESS);
        }
    }

    #[test]
    fn initialisation_with_a_context_that_has_reserved_bits_fails_and_can_be_tried_again() {
        unsafe extern "win64" fn initialise(_once: u64, parameter: u64, context: *mut u64) -> u32 {
            // SAFETY: called with a place for the context.
            unsafe { *context = parameter };
            1
        }
        kernel_thread();
        let (mut once, mut context) = (0u64, 0u64);
        let routine = initialise as *const () as u64;
        // SAFETY: words of this test.
        unsafe {
            assert_eq!(rtl_run_once_execute_once(&mut once, routine, 0x41, &mut context), NtStatus::INVALID_PARAMETER);
            assert_eq!((once, context), (once::FRESH, 0));
            assert_eq!(rtl_run_once_execute_once(&mut once, routine, 0x40, &mut context), NtStatus::SUCCESS);
        }
        assert_eq!(context, 0x40);
    }

    #[test]
    fn of_two_that_initialise_side_by_side_the_first_wins() {
        let mut once = 0u64;
        // SAFETY: a word of this test.
        unsafe {
            let null = std::ptr::null_mut();
            assert_eq!(rtl_run_once_begin_initialize(&mut once, ASYNC, null), NtStatus::PENDING);
            assert_eq!(rtl_run_once_begin_initialize(&mut once, ASYNC, null), NtStatus::PENDING);
            assert_eq!(rtl_run_once_complete(&mut once, ASYNC, 0x100), NtStatus::SUCCESS);
            assert_eq!(rtl_run_once_complete(&mut once, ASYNC, 0x200), NtStatus::OBJECT_NAME_COLLISION);
        }
    }
}
