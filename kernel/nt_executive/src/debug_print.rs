//! `DbgPrint` and its relatives: a driver's messages go into the trace.
//!
//! A bad pointer among the arguments prints a note instead of ending the run: Windows catches the exception inside
//! DbgPrint too. Nothing is filtered by component or level; that is for who reads the trace.

use gate::memory;
use nt_abi::NtStatus;
use nt_abi::exception::BugCheck;
use trace::Event;

use crate::code_page;
use crate::format::{Flavour, format};
use crate::varargs::Words;

gate::exports! {
    /// What ntoskrnl exports of debug output.
    pub static TABLE in "ntoskrnl.exe";
    variadic "DbgPrint" = dbg_print(arguments: *const u64) -> NtStatus, rules "K-205";
    variadic "DbgPrintEx" = dbg_print_ex(arguments: *const u64) -> NtStatus, rules "K-207";
    variadic "DbgPrintReturnControlC" = dbg_print(arguments: *const u64) -> NtStatus, rules "K-205";
    "vDbgPrintEx" = v_dbg_print_ex(component: u32, level: u32, template: u64, arguments: u64) -> NtStatus, rules "K-207";
    "vDbgPrintExWithPrefix" = v_dbg_print_ex_with_prefix(prefix: u64, component: u32, level: u32, template: u64, arguments: u64) -> NtStatus, rules "K-207";
    "DbgQueryDebugFilterState" = dbg_query_debug_filter_state(component: u32, level: u32) -> NtStatus, rules "K-207";
    "DbgSetDebugFilterState" = dbg_set_debug_filter_state(component: u32, level: u32, state: u8) -> NtStatus, rules "K-207";
    "DbgBreakPoint" = dbg_break_point(), rules "K-206";
    "DbgBreakPointWithStatus" = dbg_break_point_with_status(status: u32), rules "K-206";
}

/// `DPFLTR_INFO_LEVEL`, which DbgPrint prints at.
const INFO_LEVEL: u32 = 3;
/// Most characters of one message: what the kernel's own buffer holds.
const UNITS_MAX: usize = 512;

/// Formats a message of a driver and records it.
pub fn print(prefix: &[u8], level: u32, template: u64, arguments: u64) -> NtStatus {
    let Ok(template) = memory::read_c_string(template, 0xFFFF) else { return NtStatus::ACCESS_VIOLATION };
    let template: Vec<u16> = template.into_iter().map(code_page::to_wide).collect();
    let mut text: Vec<u16> = prefix.iter().map(|&byte| code_page::to_wide(byte)).collect();
    format(Flavour::Narrow, &template, &mut Words::new(arguments), &mut |unit| {
        if text.len() < UNITS_MAX {
            text.push(unit);
        }
    });
    gate::record_with_text(Event::DebugPrint { level, caller: gate::caller() }, &String::from_utf16_lossy(&text));
    NtStatus::SUCCESS
}

unsafe extern "win64" fn dbg_print(arguments: *const u64) -> NtStatus {
    // SAFETY: the shim stored the four register arguments there.
    print(b"", INFO_LEVEL, unsafe { *arguments }, arguments as u64 + 8)
}

unsafe extern "win64" fn dbg_print_ex(arguments: *const u64) -> NtStatus {
    // SAFETY: as in `dbg_print`.
    let (level, template) = unsafe { (*arguments.add(1) as u32, *arguments.add(2)) };
    print(b"", level, template, arguments as u64 + 24)
}

unsafe extern "win64" fn v_dbg_print_ex(_component: u32, level: u32, template: u64, arguments: u64) -> NtStatus {
    print(b"", level, template, arguments)
}

unsafe extern "win64" fn v_dbg_print_ex_with_prefix(
    prefix: u64,
    _component: u32,
    level: u32,
    template: u64,
    arguments: u64,
) -> NtStatus {
    let prefix = memory::read_c_string(prefix, UNITS_MAX).unwrap_or_default();
    print(&prefix, level, template, arguments)
}

/// Everything is printed.
unsafe extern "win64" fn dbg_query_debug_filter_state(_component: u32, _level: u32) -> NtStatus {
    NtStatus(1)
}

unsafe extern "win64" fn dbg_set_debug_filter_state(_component: u32, _level: u32, _state: u8) -> NtStatus {
    NtStatus::SUCCESS
}

unsafe extern "win64" fn dbg_break_point() {
    break_point("DbgBreakPoint");
}

unsafe extern "win64" fn dbg_break_point_with_status(_status: u32) {
    break_point("DbgBreakPointWithStatus");
}

/// Without a kernel debugger a breakpoint is an unhandled exception.
fn break_point(name: &str) {
    let caller = gate::caller();
    let message = format_args!("The driver called {name}, and no debugger is attached.");
    let parameters = [NtStatus::BREAKPOINT.0.into(), caller, 0, 0];
    gate::bugcheck::with_message(BugCheck::KMODE_EXCEPTION_NOT_HANDLED, parameters, caller, message);
}
