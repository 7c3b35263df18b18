//! Groups and nodes of processors, what runs on this one, and its stack.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicI32, Ordering};

use gate::memory::put;
use host_lock::{Mutex, MutexGuard};
use nt_abi::NtStatus;

use crate::thread::PROCESSORS;
use crate::{thread, wait};

gate::exports! {
    /// Processors and stacks.
    pub static TABLE in "ntoskrnl.exe";
    "KeQueryGroupAffinity" = ke_query_group_affinity(group: u16) -> u64, rules "K-007";
    "KeQueryActiveGroupCount" | "KeQueryMaximumGroupCount" = ke_query_group_count() -> u16, rules "K-007";
    "KeGetCurrentNodeNumber" | "KeQueryHighestNodeNumber" = ke_get_current_node_number() -> u16, rules "K-007";
    "KeSetSystemAffinityThread" = ke_set_system_affinity_thread(affinity: u64), irql <= DISPATCH, rules "K-007";
    "KeSetSystemAffinityThreadEx" = ke_set_system_affinity_thread_ex(affinity: u64) -> u64, irql <= DISPATCH, rules "K-007";
    "KeRevertToUserAffinityThread" = ke_revert_to_user_affinity_thread(), irql <= DISPATCH, rules "K-007";
    "KeRevertToUserAffinityThreadEx" = ke_revert_to_user_affinity_thread_ex(affinity: u64), irql <= DISPATCH, rules "K-007";
    "KeSetSystemGroupAffinityThread" = ke_set_system_group_affinity_thread(affinity: *const GroupAffinity, previous: *mut GroupAffinity), irql <= DISPATCH, rules "K-007";
    "KeRevertToUserGroupAffinityThread" = ke_revert_to_user_group_affinity_thread(previous: *const GroupAffinity), irql <= DISPATCH, rules "K-007";
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

/// `GROUP_AFFINITY`.
#[repr(C)]
#[derive(Clone, Copy)]
struct GroupAffinity {
    mask: u64,
    group: u16,
    reserved: [u16; 3],
}

impl GroupAffinity {
    /// In the one group there is, whose mask of none is also what stands for no affinity.
    fn of(mask: u64) -> Self {
        Self { mask, group: 0, reserved: [0; 3] }
    }

    /// The mask, if it is one of a group that there is.
    fn mask(self) -> Option<u64> {
        (self.group == 0 && self.reserved == [0; 3]).then_some(self.mask)
    }
}

/// Binds the calling thread to those of the processors that there are. A mask without any changes nothing.
fn bind(mask: u64) -> u64 {
    match mask & thread::ALL_PROCESSORS {
        0 => 0,
        active => thread::set_system_affinity(active),
    }
}

/// Unlike its other form it tells nothing of what became of it.
unsafe extern "win64" fn ke_set_system_affinity_thread(affinity: u64) {
    if affinity & thread::ALL_PROCESSORS == 0 {
        let message = format_args!(
            "KeSetSystemAffinityThread was given {affinity:#x}, which names no processor; nothing changed."
        );
        gate::finding("K-007", message, gate::caller());
    }
    bind(affinity);
}

/// Gives the affinity that was set in the same way before, 0 for none.
unsafe extern "win64" fn ke_set_system_affinity_thread_ex(affinity: u64) -> u64 {
    bind(affinity)
}

unsafe extern "win64" fn ke_revert_to_user_affinity_thread() {
    thread::set_system_affinity(0);
}

/// Takes what [`ke_set_system_affinity_thread_ex`] gave.
unsafe extern "win64" fn ke_revert_to_user_affinity_thread_ex(affinity: u64) {
    thread::set_system_affinity(affinity & thread::ALL_PROCESSORS);
}

unsafe extern "win64" fn ke_set_system_group_affinity_thread(
    affinity: *const GroupAffinity,
    previous: *mut GroupAffinity,
) {
    // SAFETY: the driver's structures; see the module above.
    let before = unsafe { affinity.read_unaligned() }.mask().map_or(0, bind);
    if !previous.is_null() {
        // SAFETY: as above.
        unsafe { put(previous, GroupAffinity::of(before)) };
    }
}

/// Takes what [`ke_set_system_group_affinity_thread`] gave.
unsafe extern "win64" fn ke_revert_to_user_group_affinity_thread(previous: *const GroupAffinity) {
    // SAFETY: as in `ke_set_system_group_affinity_thread`.
    if let Some(mask) = unsafe { previous.read_unaligned() }.mask() {
        thread::set_system_affinity(mask & thread::ALL_PROCESSORS);
    }
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
