//! The level, critical and guarded regions.

use nt_abi::Irql;

use crate::{executor, irql, thread};

gate::exports! {
    /// What a thread raises and holds off.
    pub static TABLE in "ntoskrnl.exe";
    "KeGetCurrentIrql" = ke_get_current_irql() -> Irql, rules "K-120";
    "KfRaiseIrql" = kf_raise_irql(level: Irql) -> Irql, rules "K-120";
    "KeRaiseIrql" = ke_raise_irql(level: Irql, old: *mut Irql), rules "K-120";
    "KeRaiseIrqlToDpcLevel" = ke_raise_irql_to_dpc_level() -> Irql, rules "K-120";
    "KeLowerIrql" | "KfLowerIrql" = ke_lower_irql(level: Irql), rules "K-120 K-131";
    "KeEnterCriticalRegion" | "KeEnterGuardedRegion" | "FsRtlEnterFileSystem" = ke_enter_critical_region(), irql <= APC, rules "K-145";
    "KeLeaveCriticalRegion" | "KeLeaveGuardedRegion" | "FsRtlExitFileSystem" = ke_leave_critical_region(), irql <= APC, rules "K-145";
    "KeAreApcsDisabled" | "KeAreAllApcsDisabled" = ke_are_apcs_disabled() -> u8, rules "K-145";
}

unsafe extern "win64" fn ke_get_current_irql() -> Irql {
    gate::irql()
}

unsafe extern "win64" fn kf_raise_irql(level: Irql) -> Irql {
    let old = gate::irql();
    if level < old {
        gate::finding(
            "K-120",
            format_args!("The level was raised to {} from {}: that is lower.", level.0, old.0),
            gate::caller(),
        );
    }
    gate::set_irql(level)
}

unsafe extern "win64" fn ke_raise_irql(level: Irql, old: *mut Irql) {
    // SAFETY: see the module above.
    unsafe { old.write(kf_raise_irql(level)) };
}

unsafe extern "win64" fn ke_raise_irql_to_dpc_level() -> Irql {
    irql::raise_to_dispatch()
}

unsafe extern "win64" fn ke_lower_irql(level: Irql) {
    let old = gate::irql();
    if level > old {
        gate::finding(
            "K-120",
            format_args!("The level was lowered to {} from {}: that is higher.", level.0, old.0),
            gate::caller(),
        );
    }
    irql::lower(level);
    executor::point();
}

unsafe extern "win64" fn ke_enter_critical_region() {
    thread::enter_region();
}

unsafe extern "win64" fn ke_leave_critical_region() {
    if !thread::leave_region() {
        gate::finding("K-145", "A critical or guarded region was left that was not entered.", gate::caller());
    }
}

unsafe extern "win64" fn ke_are_apcs_disabled() -> u8 {
    thread::is_in_region().into()
}
