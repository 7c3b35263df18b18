//! Timers that the system allocates.

use nt_abi::dispatcher::DispatcherType;

use crate::ex_timer::{self, Deletion};

gate::exports! {
    /// Timers that the system allocates.
    pub static TABLE in "ntoskrnl.exe";
    "ExAllocateTimer" = ex_allocate_timer(routine: u64, context: u64, attributes: u32) -> u64, irql <= DISPATCH, rules "K-128";
    "ExSetTimer" = ex_set_timer(timer: u64, due: i64, period: i64, parameters: u64) -> u8, irql <= DISPATCH, rules "K-125 K-128";
    "ExCancelTimer" = ex_cancel_timer(timer: u64, parameters: u64) -> u8, irql <= DISPATCH, rules "K-129";
    "ExDeleteTimer" = ex_delete_timer(timer: u64, cancel: u8, wait: u8, parameters: *const DeleteParameters) -> u8, irql <= DISPATCH, rules "K-129";
}

/// `EXT_DELETE_PARAMETERS`
#[derive(Clone, Copy)]
#[repr(C)]
struct DeleteParameters {
    version: u32,
    _reserved: u32,
    routine: u64,
    context: u64,
}

/// This clock is as exact as any, and wakes nobody up.
unsafe extern "win64" fn ex_allocate_timer(routine: u64, context: u64, attributes: u32) -> u64 {
    /// `EX_TIMER_NOTIFICATION`
    const NOTIFICATION: u32 = 0x8000_0000;
    let kind = match attributes & NOTIFICATION {
        0 => DispatcherType::SYNCHRONIZATION_TIMER,
        _ => DispatcherType::NOTIFICATION_TIMER,
    };
    ex_timer::allocate(kind, routine, context, gate::caller()).unwrap_or(0)
}

/// The parameters allow a timer to be late, which this clock makes no use of.
unsafe extern "win64" fn ex_set_timer(timer: u64, due: i64, period: i64, _parameters: u64) -> u8 {
    ex_timer::set(timer, due, period.max(0) as u64, gate::caller()).into()
}

unsafe extern "win64" fn ex_cancel_timer(timer: u64, _parameters: u64) -> u8 {
    ex_timer::cancel(timer, gate::caller()).into()
}

unsafe extern "win64" fn ex_delete_timer(timer: u64, cancel: u8, wait: u8, parameters: *const DeleteParameters) -> u8 {
    let deletion = if parameters.is_null() {
        Deletion::default()
    } else {
        // SAFETY: see the module above.
        let parameters = unsafe { parameters.read_unaligned() };
        Deletion { routine: parameters.routine, context: parameters.context }
    };
    ex_timer::delete(timer, cancel != 0, wait != 0, deletion, gate::caller()).into()
}
