//! System threads, and the one process they belong to.

use gate::memory::{put, touch};
use nt_abi::{Handle, NtStatus, ObjectAttributes};

use super::thread_information;
use crate::thread::{self, Start, THREAD};
use crate::{executor, process};

gate::exports! {
    /// Threads and what they are.
    pub static TABLE in "ntoskrnl.exe";
    "PsCreateSystemThread" = ps_create_system_thread(handle: *mut Handle, access: u32, attributes: u64, process: Handle, client_id: *mut [u64; 2], routine: u64, context: u64) -> NtStatus, irql <= PASSIVE, rules "K-134";
    "PsTerminateSystemThread" = ps_terminate_system_thread(status: NtStatus) -> NtStatus, irql <= PASSIVE, rules "K-134";
    "PsGetCurrentProcessId" | "PsGetCurrentThreadProcessId" = ps_get_current_process_id() -> u64, rules "K-100 K-169";
    "PsGetCurrentThreadId" = ps_get_current_thread_id() -> u64, rules "K-100";
    "KeGetCurrentThread" | "PsGetCurrentThread" = ke_get_current_thread() -> u64, rules "K-007";
    "IoGetCurrentProcess" | "PsGetCurrentProcess" | "PsGetThreadProcess" | "PsGetCurrentThreadProcess" = io_get_current_process() -> u64, rules "K-100";
    "PsGetProcessId" = ps_get_process_id(process: u64) -> u64, rules "K-100";
    "PsGetThreadId" = ps_get_thread_id(thread: u64) -> u64, rules "K-100";
    "PsGetThreadProcessId" = ps_get_thread_process_id(thread: u64) -> u64, rules "K-100";
    "PsLookupThreadByThreadId" = ps_lookup_thread_by_thread_id(id: u64, thread: *mut u64) -> NtStatus, irql <= APC, rules "K-100";
    "PsLookupProcessByProcessId" = ps_lookup_process_by_process_id(id: u64, process: *mut u64) -> NtStatus, irql <= APC, rules "K-100";
    "PsIsSystemThread" | "IoIsSystemThread" = ps_is_system_thread(thread: u64) -> u8, rules "K-100";
    "PsGetCurrentThreadTeb" | "PsGetCurrentThreadWin32Thread" = ps_get_current_thread_teb() -> u64, rules "K-100";
    "ExGetPreviousMode" | "KeGetPreviousMode" | "PsGetCurrentThreadPreviousMode" = ex_get_previous_mode() -> u8, rules "K-155";
    "IoGetStackLimits" = io_get_stack_limits(low: *mut u64, high: *mut u64), irql <= DISPATCH, rules "K-100";
    "IoGetRemainingStackSize" = io_get_remaining_stack_size() -> u64, rules "K-100";
    "PsGetCurrentThreadStackLimit" = ps_get_current_thread_stack_limit() -> u64, rules "K-100";
    "PsGetCurrentThreadStackBase" | "IoGetInitialStack" = ps_get_current_thread_stack_base() -> u64, rules "K-100";
    "IoWithinStackLimits" = io_within_stack_limits(start: u64, bytes: u64) -> u32, rules "K-100";
    "PsIsThreadTerminating" = ps_is_thread_terminating(thread: u64) -> u8, rules "K-134";
    "PsLookupProcessThreadByCid" = ps_lookup_process_thread_by_cid(id: *const [u64; 2], process: *mut u64, thread: *mut u64) -> NtStatus, irql <= APC, rules "K-100";
    "ZwOpenThread" = zw_open_thread(handle: *mut Handle, access: u32, attributes: *const ObjectAttributes, client_id: *const [u64; 2]) -> NtStatus, irql <= PASSIVE, rules "K-100 K-159";
    "ZwSetInformationThread" = zw_set_information_thread(thread: Handle, class: u32, information: u64, length: u32) -> NtStatus, irql <= PASSIVE, rules "K-205";
    "ZwYieldExecution" | "NtYieldExecution" = zw_yield_execution() -> NtStatus, irql <= APC, rules "K-135";
    "KeSetPriorityThread" = ke_set_priority_thread(thread: u64, priority: i32) -> i32, irql <= DISPATCH, rules "K-205";
    "KeQueryPriorityThread" = ke_query_priority_thread(thread: u64) -> i32, irql <= DISPATCH, rules "K-205";
    "KeSetBasePriorityThread" = ke_set_base_priority_thread(thread: u64, increment: i32) -> i32, irql <= DISPATCH, rules "K-205";
    "KeAlertThread" = ke_alert_thread(thread: u64, mode: u8) -> u8, irql <= DISPATCH, rules "K-125";
    "KeTestAlertThread" = ke_test_alert_thread(mode: u8) -> u8, irql <= APC, rules "K-125";
    "ZwAlertThread" | "NtAlertThread" = zw_alert_thread(thread: Handle) -> NtStatus, irql <= PASSIVE, rules "K-125";
    "KeSaveExtendedProcessorState" = ke_save_extended_processor_state(mask: u64, save: u64) -> NtStatus, irql <= DISPATCH, rules "K-208";
    "KeRestoreExtendedProcessorState" = ke_restore_extended_processor_state(save: u64), irql <= DISPATCH, rules "K-208";
    data "PsThreadType" = thread_type_cell, rules "K-157";
    data "PsProcessType" = process_type_cell, rules "K-157";
    data "PsInitialSystemProcess" = initial_system_process_cell, rules "K-100";
}

/// Of `THREADINFOCLASS`.
mod information {
    pub const PRIORITY: u32 = 2;
    pub const BASE_PRIORITY: u32 = 3;
    pub const AFFINITY_MASK: u32 = 4;
}

fn thread_type_cell() -> u64 {
    static CELL: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    std::ptr::from_ref(CELL.get_or_init(|| THREAD.block())) as u64
}

fn process_type_cell() -> u64 {
    static CELL: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    std::ptr::from_ref(CELL.get_or_init(|| process::PROCESS.block())) as u64
}

fn initial_system_process_cell() -> u64 {
    static CELL: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    std::ptr::from_ref(CELL.get_or_init(process::system)) as u64
}

unsafe extern "win64" fn ps_create_system_thread(
    handle: *mut Handle,
    access: u32,
    _attributes: u64,
    _process: Handle,
    client_id: *mut [u64; 2],
    routine: u64,
    context: u64,
) -> NtStatus {
    let caller = gate::caller();
    // Before there is a thread: they may be bad pointers.
    // SAFETY: see the module above.
    unsafe {
        put(handle, Handle(0));
        if !client_id.is_null() {
            put(client_id, [0; 2]);
        }
    }
    let thread = match thread::create(Start::Driver(routine), context, caller) {
        Ok(thread) => thread,
        Err(status) => return status,
    };
    let opened = nt_object::insert(thread, access, true, caller);
    if let Some(opened) = opened {
        // SAFETY: see the module above.
        unsafe {
            put(handle, opened);
            if !client_id.is_null() {
                put(client_id, [process::SYSTEM_ID, thread::id(thread)]);
            }
        }
    }
    nt_object::dereference(thread);
    executor::point();
    if opened.is_some() { NtStatus::SUCCESS } else { NtStatus::INSUFFICIENT_RESOURCES }
}

unsafe extern "win64" fn ps_terminate_system_thread(status: NtStatus) -> NtStatus {
    if !thread::is_drivers() {
        gate::finding("K-134", "PsTerminateSystemThread was called on a thread of the system's.", gate::caller());
        return NtStatus::INVALID_PARAMETER;
    }
    thread::set_exit_status(status);
    // SAFETY: this frame holds nothing, and imports on the way here are done (the driver was in control).
    unsafe { gate::call::leave() }
}

unsafe extern "win64" fn ps_get_current_process_id() -> u64 {
    process::SYSTEM_ID
}

unsafe extern "win64" fn ps_get_current_thread_id() -> u64 {
    thread::id(gate::thread::current_thread_object())
}

unsafe extern "win64" fn ke_get_current_thread() -> u64 {
    gate::thread::current_thread_object()
}

unsafe extern "win64" fn io_get_current_process() -> u64 {
    process::system()
}

unsafe extern "win64" fn ps_get_process_id(_process: u64) -> u64 {
    process::SYSTEM_ID
}

unsafe extern "win64" fn ps_get_thread_id(thread: u64) -> u64 {
    thread::id(thread)
}

unsafe extern "win64" fn ps_get_thread_process_id(_thread: u64) -> u64 {
    process::SYSTEM_ID
}

unsafe extern "win64" fn ps_lookup_thread_by_thread_id(id: u64, thread: *mut u64) -> NtStatus {
    // SAFETY: see the module above.
    unsafe { touch(thread) };
    let Some(found) = thread::lookup(id) else { return NtStatus::INVALID_PARAMETER };
    // SAFETY: see the module above.
    unsafe { put(thread, found) };
    NtStatus::SUCCESS
}

unsafe extern "win64" fn ps_lookup_process_by_process_id(id: u64, process: *mut u64) -> NtStatus {
    if id != process::SYSTEM_ID {
        return NtStatus::INVALID_PARAMETER;
    }
    let system = process::system();
    // SAFETY: see the module above.
    unsafe { put(process, system) };
    nt_object::reference(system);
    NtStatus::SUCCESS
}

unsafe extern "win64" fn ps_is_system_thread(_thread: u64) -> u8 {
    1
}

/// No thread here has a part in user mode.
unsafe extern "win64" fn ps_get_current_thread_teb() -> u64 {
    0
}

/// `KernelMode`: nobody calls from any other.
unsafe extern "win64" fn ex_get_previous_mode() -> u8 {
    0
}

unsafe extern "win64" fn io_get_stack_limits(low: *mut u64, high: *mut u64) {
    // SAFETY: the calling thread's block; see the module above.
    unsafe {
        put(low, (*gate::current()).stack_low);
        put(high, (*gate::current()).stack_high);
    }
}

unsafe extern "win64" fn io_get_remaining_stack_size() -> u64 {
    let here = 0u8;
    // SAFETY: the calling thread's block.
    (&raw const here as u64).saturating_sub(unsafe { (*gate::current()).stack_low })
}

unsafe extern "win64" fn ps_get_current_thread_stack_limit() -> u64 {
    // SAFETY: the calling thread's block.
    unsafe { (*gate::current()).stack_low }
}

unsafe extern "win64" fn ps_get_current_thread_stack_base() -> u64 {
    // SAFETY: the calling thread's block.
    unsafe { (*gate::current()).stack_high }
}

unsafe extern "win64" fn io_within_stack_limits(start: u64, bytes: u64) -> u32 {
    // SAFETY: the calling thread's block.
    let (low, high) = unsafe { ((*gate::current()).stack_low, (*gate::current()).stack_high) };
    (start >= low && start.checked_add(bytes).is_some_and(|end| end <= high)).into()
}

/// A thread ends by its own doing; whoever can ask of another sees it end, or not.
unsafe extern "win64" fn ps_is_thread_terminating(thread: u64) -> u8 {
    thread::has_ended(thread).into()
}

/// Without a process, or with the one there is.
unsafe extern "win64" fn ps_lookup_process_thread_by_cid(
    id: *const [u64; 2],
    process: *mut u64,
    thread: *mut u64,
) -> NtStatus {
    // SAFETY: see the module above.
    let [process_id, thread_id] = unsafe {
        touch(thread);
        if !process.is_null() {
            touch(process);
        }
        id.read_unaligned()
    };
    let found = if process_id == process::SYSTEM_ID { thread::lookup(thread_id) } else { None };
    let Some(found) = found else { return NtStatus::INVALID_CID };
    // SAFETY: see the module above.
    unsafe {
        thread.write(found);
        if !process.is_null() {
            nt_object::reference(process::system());
            process.write(process::system());
        }
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn zw_open_thread(
    handle: *mut Handle,
    access: u32,
    _attributes: *const ObjectAttributes,
    client_id: *const [u64; 2],
) -> NtStatus {
    if client_id.is_null() {
        return NtStatus::INVALID_PARAMETER;
    }
    // SAFETY: see the module above.
    let [process, id] = unsafe {
        touch(handle);
        client_id.read_unaligned()
    };
    let found = if matches!(process, 0 | process::SYSTEM_ID) { thread::lookup(id) } else { None };
    let Some(thread) = found else { return NtStatus::INVALID_CID };
    let opened = nt_object::insert(thread, access, true, gate::caller());
    nt_object::dereference(thread);
    let Some(opened) = opened else { return NtStatus::INSUFFICIENT_RESOURCES };
    // SAFETY: see the module above.
    unsafe { put(handle, opened) };
    NtStatus::SUCCESS
}

/// Priorities are kept and told, but threads are scheduled by Linux, or by the seed.
unsafe extern "win64" fn zw_set_information_thread(
    thread: Handle,
    class: u32,
    information: u64,
    length: u32,
) -> NtStatus {
    let bytes = if class == information::AFFINITY_MASK { 8 } else { 4 };
    if !matches!(class, information::PRIORITY | information::BASE_PRIORITY | information::AFFINITY_MASK) {
        return NtStatus::INVALID_INFO_CLASS;
    }
    if length != bytes {
        return NtStatus::INFO_LENGTH_MISMATCH;
    }
    let read = match bytes {
        8 => gate::memory::read_value::<u64>(information),
        _ => gate::memory::read_value::<u32>(information).map(u64::from),
    };
    let Ok(value) = read else { return NtStatus::ACCESS_VIOLATION };
    if class == information::AFFINITY_MASK && value == 0 {
        return NtStatus::INVALID_PARAMETER;
    }
    let body = match thread_information::by_handle(thread) {
        Ok(body) => body,
        Err(status) => return status,
    };
    if class == information::PRIORITY {
        thread::set_priority(body, value as i32);
    } else if class == information::BASE_PRIORITY {
        thread::set_base_increment(body, value as i32);
    } else {
        thread::set_affinity(body, value);
    }
    nt_object::dereference(body);
    NtStatus::SUCCESS
}

unsafe extern "win64" fn zw_yield_execution() -> NtStatus {
    executor::give_way();
    NtStatus::SUCCESS
}

unsafe extern "win64" fn ke_set_priority_thread(thread: u64, priority: i32) -> i32 {
    if !(1..=31).contains(&priority) {
        gate::finding("K-205", format_args!("There is no thread priority {priority}: 1 to 31."), gate::caller());
    }
    thread::set_priority(thread, priority)
}

unsafe extern "win64" fn ke_query_priority_thread(thread: u64) -> i32 {
    thread::priority(thread)
}

unsafe extern "win64" fn ke_set_base_priority_thread(thread: u64, increment: i32) -> i32 {
    thread::set_base_increment(thread, increment)
}

/// There is one mode that matters here; the other has no waits.
unsafe extern "win64" fn ke_alert_thread(thread: u64, _mode: u8) -> u8 {
    let was_alerted = thread::alert(thread);
    executor::point();
    was_alerted.into()
}

unsafe extern "win64" fn ke_test_alert_thread(_mode: u8) -> u8 {
    thread::take_alert().into()
}

unsafe extern "win64" fn zw_alert_thread(thread: Handle) -> NtStatus {
    match nt_object::reference_by_handle(thread, Some(THREAD.block())) {
        Ok((body, _)) => {
            thread::alert(body);
            nt_object::dereference(body);
            executor::point();
            NtStatus::SUCCESS
        }
        Err(status) => status,
    }
}

/// Nothing that is interrupted has its registers in use here: what a driver may change it may change without
/// saving.
unsafe extern "win64" fn ke_save_extended_processor_state(_mask: u64, _save: u64) -> NtStatus {
    NtStatus::SUCCESS
}

unsafe extern "win64" fn ke_restore_extended_processor_state(_save: u64) {}
