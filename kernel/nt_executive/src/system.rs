//! The system as a whole: its death, its version, its variables.
//!
//! The version is that of the page that drivers share with the kernel (`gate::shared_page`): they may read either.

use std::ptr;
use std::sync::OnceLock;

use gate::bugcheck::BugCheck;
use gate::memory::{self, Fault};
use nt_abi::{NtStatus, UnicodeString};
use nt_dispatcher::exports::number_of_processors;

use crate::raise::{Failure, finish};

pub mod information;
mod kernel_image;
pub mod routines;

gate::exports! {
    /// Bugchecks, system information and variables.
    pub static TABLE in "ntoskrnl.exe";
    "KeBugCheckEx" = ke_bug_check_ex(code: u32, a: u64, b: u64, c: u64, d: u64), rules "K-205";
    "KeBugCheck" = ke_bug_check(code: u32), rules "K-205";
    "RtlGetVersion" = rtl_get_version(version: u64) -> NtStatus, irql <= PASSIVE, rules "K-207";
    "PsGetVersion" = ps_get_version(major: u64, minor: u64, build: u64, service_pack: u64) -> u8, irql <= PASSIVE, rules "K-207";
    "RtlIsNtDdiVersionAvailable" = rtl_is_nt_ddi_version_available(version: u32) -> u8, rules "K-207";
    "MmGetSystemRoutineAddress" = mm_get_system_routine_address(name: u64) -> u64, irql <= PASSIVE, rules "K-208";
    "KeSaveFloatingPointState" = ke_save_floating_point_state(save: u64) -> NtStatus, irql <= DISPATCH, rules "K-200";
    "KeRestoreFloatingPointState" = ke_restore_floating_point_state(save: u64) -> NtStatus, irql <= DISPATCH, rules "K-200";
    "RtlGetEnabledExtendedFeatures" = rtl_get_enabled_extended_features(mask: u64) -> u64, rules "K-208";
    data "KeNumberProcessors" = processors_cell, rules "K-200";
    data "NtBuildNumber" = build_cell, rules "K-200";
    data "NtGlobalFlag" = zero_cell, rules "K-200";
    data "InitSafeBootMode" = zero_cell, rules "K-200";
    data "KdDebuggerEnabled" = zero_cell, rules "K-200";
    data "KdDebuggerNotPresent" = one_cell, rules "K-200";
    data "NlsMbCodePageTag" = zero_cell, rules "K-200";
    data "NlsMbOemCodePageTag" = zero_cell, rules "K-200";
    data "NlsAnsiCodePage" = code_page_cell, rules "K-200";
    data "MmUserProbeAddress" = user_probe_cell, rules "K-200";
    data "MmHighestUserAddress" = highest_user_cell, rules "K-200";
    data "MmSystemRangeStart" = system_range_cell, rules "K-200";
}

/// What version this is.
pub mod version {
    #![allow(missing_docs, reason = "names of the fields that hold them")]
    pub const MAJOR: u32 = 10;
    pub const MINOR: u32 = 0;
    pub const BUILD: u32 = 19_041;
    /// `VER_PLATFORM_WIN32_NT`.
    pub const PLATFORM_NT: u32 = 2;
    /// `VER_NT_WORKSTATION`.
    pub const WORKSTATION: u32 = 1;
}

use version::{BUILD, MAJOR, MINOR, PLATFORM_NT};

/// The build number's mark of a free build.
const FREE_BUILD: u32 = 0xF000_0000;
/// `NTDDI_WIN10_VB`.
const NTDDI: u32 = 0x0A00_0008;

unsafe extern "win64" fn ke_bug_check_ex(code: u32, a: u64, b: u64, c: u64, d: u64) {
    gate::bugcheck(BugCheck(code), [a, b, c, d]);
}

unsafe extern "win64" fn ke_bug_check(code: u32) {
    gate::bugcheck(BugCheck(code), [0; 4]);
}

fn get_version(version: u64) -> Result<NtStatus, Failure> {
    /// Bytes of RTL_OSVERSIONINFOW and of RTL_OSVERSIONINFOEXW.
    const SHORT: u32 = 0x114;
    const LONG: u32 = 0x11C;
    /// Where the kind of product stands, behind the service pack and the suites.
    const PRODUCT_SHIFT: u32 = 48;
    let size: u32 = memory::read_value(version)?;
    memory::write_value(version + 4, [MAJOR, MINOR, BUILD, PLATFORM_NT])?;
    memory::write_value(version + 0x14, 0u16)?;
    if size == LONG {
        memory::write_value(version + u64::from(SHORT), u64::from(version::WORKSTATION) << PRODUCT_SHIFT)?;
    }
    Ok(NtStatus::SUCCESS)
}

unsafe extern "win64" fn rtl_get_version(version: u64) -> NtStatus {
    finish(get_version(version))
}

/// Any of the results may be missing. Gives FALSE: this is no checked build.
unsafe extern "win64" fn ps_get_version(major: u64, minor: u64, build: u64, service_pack: u64) -> u8 {
    let stored = || -> Result<(), Fault> {
        for (into, value) in [(major, MAJOR), (minor, MINOR), (build, BUILD)] {
            if into != 0 {
                memory::write_value(into, value)?;
            }
        }
        if service_pack != 0 {
            memory::write_value(service_pack, UnicodeString::EMPTY)?;
        }
        Ok(())
    };
    finish(stored().map(|()| NtStatus::SUCCESS).map_err(Failure::from));
    0
}

unsafe extern "win64" fn rtl_is_nt_ddi_version_available(version: u32) -> u8 {
    (version <= NTDDI).into()
}

/// The address behind a name; 0 if nobody implements it, which is also how drivers find out.
unsafe extern "win64" fn mm_get_system_routine_address(name: u64) -> u64 {
    let name = match memory::read_unicode(name) {
        Ok(name) => String::from_utf16_lossy(&name),
        Err(fault) => {
            crate::raise::access_violation(fault);
            return 0;
        }
    };
    let Some(export) = crate::table::by_name(&name) else { return 0 };
    routines::address(export)
}

/// Linux keeps these registers for every thread, and the host keeps nothing in them across a call.
unsafe extern "win64" fn ke_save_floating_point_state(_save: u64) -> NtStatus {
    NtStatus::SUCCESS
}

unsafe extern "win64" fn ke_restore_floating_point_state(_save: u64) -> NtStatus {
    NtStatus::SUCCESS
}

/// Which of the processor's state components in `mask` the system saves for every thread. Linux says it in the same bits.
unsafe extern "win64" fn rtl_get_enabled_extended_features(mask: u64) -> u64 {
    if !is_x86_feature_detected!("xsave") {
        return 0;
    }
    let (low, high): (u32, u32);
    // SAFETY: reads a register that exists where XSAVE is enabled.
    unsafe { std::arch::asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack)) };
    (u64::from(high) << 32 | u64::from(low)) & mask
}

macro_rules! cells {
    ($($name:ident = $value:expr;)*) => {
        $(fn $name() -> u64 {
            static CELL: OnceLock<u64> = OnceLock::new();
            ptr::from_ref(CELL.get_or_init(|| $value)) as u64
        })*
    };
}

cells! {
    processors_cell = number_of_processors().into();
    build_cell = u64::from(FREE_BUILD | BUILD);
    zero_cell = 0;
    one_cell = 1;
    code_page_cell = 1252;
    user_probe_cell = memory::USER_PROBE_ADDRESS;
    highest_user_cell = memory::USER_PROBE_ADDRESS - 1;
    // Not NT's: drivers ask whether an address is the system's, and those are ours.
    system_range_cell = memory::USER_PROBE_ADDRESS;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool;
    use crate::testing::{kernel_thread, service, utf16};

    #[test]
    fn version_fills_the_structure_that_its_size_names() {
        let mut info = [0xEEu8; 0x120];
        info[..4].copy_from_slice(&0x114u32.to_le_bytes());
        assert_eq!(service("RtlGetVersion").call(&[info.as_mut_ptr() as u64]), NtStatus::SUCCESS);
        assert_eq!(
            (info[4], info[8], info[12..16].to_vec(), info[0x114]),
            (10, 0, 19_041u32.to_le_bytes().to_vec(), 0xEE)
        );
        info[..4].copy_from_slice(&0x11Cu32.to_le_bytes());
        assert_eq!(service("RtlGetVersion").call(&[info.as_mut_ptr() as u64]), NtStatus::SUCCESS);
        assert_eq!((info[0x11A], info[0x11C]), (1, 0xEE));
        assert_eq!(service("PsGetVersion").call_word(&[0, 0, 0, 0]) as u8, 0);
    }

    #[test]
    fn routines_are_found_by_name_or_not_at_all() {
        let find = |name: &str| {
            let mut units = utf16(name);
            let length = units.len() as u16 * 2;
            let string = UnicodeString { length, maximum_length: length, _pad: 0, buffer: units.as_mut_ptr() };
            service("MmGetSystemRoutineAddress").call_word(&[&raw const string as u64])
        };
        let expected = crate::table::by_name("IofCallDriver").map_or(0, |export| export.address());
        assert_eq!(find("IofCallDriver"), expected);
        assert_eq!(find("NoSuchRoutine"), 0);
    }

    #[test]
    fn legacy_floating_point_state_is_among_the_enabled_features() {
        // Bits 0 and 1: x87 and SSE, which every x86-64 processor has; bit 62 is no feature.
        let enabled = |mask: u64| service("RtlGetEnabledExtendedFeatures").call_word(&[mask]);
        if is_x86_feature_detected!("xsave") {
            assert_eq!((enabled(3), enabled(1), enabled(1 << 62)), (3, 1, 0));
        }
    }

    #[test]
    fn probing_by_variable_and_by_routine_draw_the_same_border() {
        kernel_thread();
        let value = |name: &str| {
            let export = crate::table::by_name(name).expect("exported");
            // SAFETY: a variable of eight bytes.
            unsafe { *(export.address() as *const u64) }
        };
        let border = value("MmUserProbeAddress");
        assert_eq!(border, memory::USER_PROBE_ADDRESS, "by which ProbeForRead and ProbeForWrite judge");
        assert_eq!((value("MmHighestUserAddress"), value("MmSystemRangeStart")), (border - 1, border));
        let ours = pool::allocate(8, u32::from_le_bytes(*b"test"), pool::Kind::NonPaged, 0).expect("memory");
        assert!(ours >= border, "pool is the system's");
        pool::free(ours, None, 0);
    }

    #[test]
    fn versions_up_to_this_one_are_available() {
        let available = |version: u64| service("RtlIsNtDdiVersionAvailable").call_word(&[version]) as u8;
        assert_eq!((available(0x0601_0000), available(0x0A00_0000), available(0x0A00_000B)), (1, 1, 0));
    }
}
