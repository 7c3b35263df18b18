//! Versions compared as drivers ask for it (`RtlVerifyVersionInfo`).

use std::cmp::Ordering;

use gate::memory::read_value;
use nt_abi::NtStatus;

use crate::raise::{Failure, finish};
use crate::system::version;

gate::exports! {
    /// Comparisons of versions.
    pub static TABLE in "ntoskrnl.exe";
    "RtlVerifyVersionInfo" = rtl_verify_version_info(version: u64, kinds: u32, conditions: u64) -> NtStatus, irql <= PASSIVE, rules "K-207";
    "VerSetConditionMask" = ver_set_condition_mask(conditions: u64, kind: u32, condition: u8) -> u64, rules "K-207";
}

/// Bits of a condition, for each kind in the order of their bits.
const CONDITION_BITS: u32 = 3;
const CONDITION: u64 = (1 << CONDITION_BITS) - 1;

/// The numbers of `VER_xxx` bits, and where in an `RTL_OSVERSIONINFOEXW` each lies.
mod kind {
    pub const MINOR: u32 = 0;
    pub const MAJOR: u32 = 1;
    pub const BUILD: u32 = 2;
    pub const PLATFORM: u32 = 3;
    pub const PACK_MINOR: u32 = 4;
    pub const PACK_MAJOR: u32 = 5;
    pub const SUITE: u32 = 6;
    pub const PRODUCT: u32 = 7;
    /// How many there are.
    pub const COUNT: u32 = 8;
}

/// Whether what is asked for holds of a number here, which is so many times as large as the one that was given.
fn holds(condition: u64, here: Ordering) -> bool {
    match condition {
        1 => here.is_eq(),
        2 => here.is_gt(),
        3 => here.is_ge(),
        4 => here.is_lt(),
        5 => here.is_le(),
        _ => false,
    }
}

/// The number of a kind that the driver gave.
fn given(version: u64, kind: u32) -> Result<u32, Failure> {
    let short = |at| read_value::<u16>(version + at).map(u32::from);
    Ok(match kind {
        kind::MAJOR => read_value(version + 0x04)?,
        kind::MINOR => read_value(version + 0x08)?,
        kind::BUILD => read_value(version + 0x0C)?,
        kind::PLATFORM => read_value(version + 0x10)?,
        kind::PACK_MAJOR => short(0x114)?,
        kind::PACK_MINOR => short(0x116)?,
        kind::SUITE => short(0x118)?,
        _ => read_value::<u8>(version + 0x11A)?.into(),
    })
}

/// The number of a kind here: no service pack, no suite.
fn here(kind: u32) -> u32 {
    match kind {
        kind::MAJOR => version::MAJOR,
        kind::MINOR => version::MINOR,
        kind::BUILD => version::BUILD,
        kind::PLATFORM => version::PLATFORM_NT,
        kind::PRODUCT => version::WORKSTATION,
        _ => 0,
    }
}

/// Version and service pack are one number of up to four places: the first place that differs decides.
fn verify(version: u64, kinds: u32, conditions: u64) -> Result<NtStatus, Failure> {
    const PLACES: [u32; 4] = [kind::MAJOR, kind::MINOR, kind::PACK_MAJOR, kind::PACK_MINOR];
    const ALL_SUITES: u64 = 6;
    let is_asked = |kind: u32| kinds & 1 << kind != 0;
    let condition = |kind: u32| conditions >> (kind * CONDITION_BITS) & CONDITION;
    if kinds & ((1 << kind::COUNT) - 1) == 0 {
        return Ok(NtStatus::INVALID_PARAMETER);
    }
    let mut is_so = true;
    let mut decided = None;
    for kind in PLACES.into_iter().filter(|&kind| is_asked(kind)) {
        let order = here(kind).cmp(&given(version, kind)?);
        decided = Some(holds(condition(kind), order));
        if order.is_ne() {
            break;
        }
    }
    is_so &= decided.unwrap_or(true);
    for kind in [kind::BUILD, kind::PLATFORM, kind::PRODUCT].into_iter().filter(|&kind| is_asked(kind)) {
        is_so &= holds(condition(kind), here(kind).cmp(&given(version, kind)?));
    }
    if is_asked(kind::SUITE) {
        let wanted = given(version, kind::SUITE)?;
        // All of them, or one of them; asking for none is asking for nothing.
        let found = here(kind::SUITE) & wanted;
        is_so &= if condition(kind::SUITE) == ALL_SUITES { found == wanted } else { wanted == 0 || found != 0 };
    }
    Ok(if is_so { NtStatus::SUCCESS } else { NtStatus::REVISION_MISMATCH })
}

unsafe extern "win64" fn rtl_verify_version_info(version: u64, kinds: u32, conditions: u64) -> NtStatus {
    finish(verify(version, kinds, conditions))
}

/// Adds the condition of one kind, or of all those that are named.
unsafe extern "win64" fn ver_set_condition_mask(conditions: u64, kind: u32, condition: u8) -> u64 {
    let condition = u64::from(condition) & CONDITION;
    let mut named = (0..kind::COUNT).filter(|number| kind & 1 << number != 0);
    // The highest counts, as in NT.
    named.next_back().map_or(conditions, |number| conditions | condition << (number * CONDITION_BITS))
}
