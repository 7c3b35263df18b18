//! Groups and nodes of processors, what runs on this one, and its stack.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nt_abi::NtStatus;

use crate::thread::PROCESSORS;
use crate::{thread, wait};

gate::exports! {
    /// Processors and stacks.
    pub static TABLE in "ntoskrnl.exe";
    "KeQueryGroupAffinity" = ke_query_group_affinity(group: u16) -> u64, rules "K-007";
    "KeQueryActiveGroupCount" | "KeQueryMaximumGroupCount" = ke_query_group_count() -> u16, rules "K-007";
    "KeGetCurrentNodeNumber" | "KeQueryHighestNodeNumber" = ke_get_current_node_number() -> u16, rules "K-007";
    "KeIsExecutingDpc" = ke_is_executing_dpc() -> u32, rules "K-133";
    "KeIsAttachedProcess" = ke_is_attached_process() -> u8, rules "K-100";
    "KeIsWaitListEmpty" = ke_is_wait_list_empty(object: u64) -> u8, irql <= DISPATCH, rules "K-127";
    "KeExpandKernelStackAndCallout" = ke_expand_kernel_stack_and_callout(callout: u64, parameter: u64, bytes: u64) -> NtStatus, irql <= DISPATCH, rules "K-100";
    "KeExpandKernelStackAndCalloutEx" = ke_expand_kernel_stack_and_callout_ex(callout: u64, parameter: u64, bytes: u64, wait: u8, context: u64) -> NtStatus, irql <= DISPATCH, rules "K-100";
    "KeRegisterNmiCallback" = ke_register_nmi_callback(routine: u64, context: u64) -> u64, irql <= APC, rules "K-177";
    "KeDeregisterNmiCallback" = ke_deregister_nmi_callback(registration: u64) -> NtStatus, irql <= APC, rules "K-177";
}

unsafe extern "win64" fn ke_query_group_affinity(group: u16) -> u64 {
    if group == 0 { u64::MAX >> (64 - PROCESSORS) } else { 0 }
}

unsafe extern "win64" fn ke_query_group_count() -> u16 {
    1
}

unsafe extern "win64" fn ke_get_current_node_number() -> u16 {
    0
}

unsafe extern "win64" fn ke_is_executing_dpc() -> u32 {
    thread::is_in_dpc().into()
}

/// There is no process but its own that a thread could be attached to.
unsafe extern "win64" fn ke_is_attached_process() -> u8 {
    0
}

unsafe extern "win64" fn ke_is_wait_list_empty(object: u64) -> u8 {
    (!wait::has_waiters(object, 1)).into()
}

/// Stacks are larger here than those that NT changes to: the routine runs on the one there is, if enough of it is left.
fn call_out(callout: u64, parameter: u64, bytes: u64) -> NtStatus {
    /// What a large stack of NT's holds.
    const BYTES_MAX: u64 = 0x1_2000;
    let here = 0u8;
    // SAFETY: the calling thread's block.
    let left = (&raw const here as u64).saturating_sub(unsafe { (*gate::current()).stack_low });
    if bytes > BYTES_MAX {
        return NtStatus::INVALID_PARAMETER_3;
    }
    if left < bytes {
        return NtStatus::NO_MEMORY;
    }
    // SAFETY: the driver asked for this routine to be called so.
    unsafe { gate::call::call1(callout, parameter) };
    NtStatus::SUCCESS
}

unsafe extern "win64" fn ke_expand_kernel_stack_and_callout(callout: u64, parameter: u64, bytes: u64) -> NtStatus {
    call_out(callout, parameter, bytes)
}

unsafe extern "win64" fn ke_expand_kernel_stack_and_callout_ex(
    callout: u64,
    parameter: u64,
    bytes: u64,
    _wait: u8,
    _context: u64,
) -> NtStatus {
    call_out(callout, parameter, bytes)
}

/// Registrations for an interrupt that never comes.
static NMI_CALLBACKS: Mutex<Vec<u64>> = Mutex::new(Vec::new());

fn nmi_callbacks() -> MutexGuard<'static, Vec<u64>> {
    NMI_CALLBACKS.lock().unwrap_or_else(PoisonError::into_inner)
}

unsafe extern "win64" fn ke_register_nmi_callback(_routine: u64, _context: u64) -> u64 {
    static LAST: AtomicI32 = AtomicI32::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed) as u64 + 1;
    nmi_callbacks().push(number);
    number
}

unsafe extern "win64" fn ke_deregister_nmi_callback(registration: u64) -> NtStatus {
    let mut all = nmi_callbacks();
    let Some(place) = all.iter().position(|&one| one == registration) else { return NtStatus::INVALID_HANDLE };
    all.remove(place);
    NtStatus::SUCCESS
}
