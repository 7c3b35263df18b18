//! System threads.

use nt_abi::{Handle, NtStatus};

use crate::executor;
use crate::thread::{self, Start, THREAD};

gate::exports! {
    /// Threads and what they are.
    pub static TABLE in "ntoskrnl.exe";
    "PsCreateSystemThread" = ps_create_system_thread(handle: *mut Handle, access: u32, attributes: u64, process: Handle, client_id: *mut [u64; 2], routine: u64, context: u64) -> NtStatus, irql <= PASSIVE, rules "K-134";
    "PsTerminateSystemThread" = ps_terminate_system_thread(status: NtStatus) -> NtStatus, irql <= PASSIVE, rules "K-134";
    "PsGetCurrentProcessId" = ps_get_current_process_id() -> u64, rules "K-100";
    "PsGetCurrentThreadId" = ps_get_current_thread_id() -> u64, rules "K-100";
    "KeGetCurrentThread" | "PsGetCurrentThread" = ke_get_current_thread() -> u64, rules "K-007";
    data "PsThreadType" = thread_type_cell, rules "K-157";
}

fn thread_type_cell() -> u64 {
    static CELL: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    std::ptr::from_ref(CELL.get_or_init(|| THREAD.block())) as u64
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
    let thread = match thread::create(Start::Driver(routine), context, caller) {
        Ok(thread) => thread,
        Err(status) => return status,
    };
    let opened = nt_object::insert(thread, access, true, caller);
    if let Some(opened) = opened {
        // SAFETY: see the module above.
        unsafe {
            *handle = opened;
            if !client_id.is_null() {
                *client_id = [SYSTEM_PROCESS_ID, thread_id(thread)];
            }
        }
    }
    nt_object::dereference(thread);
    executor::point();
    if opened.is_some() { NtStatus::SUCCESS } else { NtStatus::INSUFFICIENT_RESOURCES }
}

unsafe extern "win64" fn ps_terminate_system_thread(_status: NtStatus) -> NtStatus {
    // SAFETY: this frame holds nothing, and imports on the way here are done (the driver was in control).
    unsafe { gate::call::leave() }
}

/// The id of the system process, which all driver threads belong to.
const SYSTEM_PROCESS_ID: u64 = 4;

/// Ids are multiples of 4 in NT; the object's place is as good as any number.
fn thread_id(thread: u64) -> u64 {
    thread >> 4 & 0xFFFF_FFFC
}

unsafe extern "win64" fn ps_get_current_process_id() -> u64 {
    SYSTEM_PROCESS_ID
}

unsafe extern "win64" fn ps_get_current_thread_id() -> u64 {
    thread_id(gate::thread::current_thread_object())
}

unsafe extern "win64" fn ke_get_current_thread() -> u64 {
    gate::thread::current_thread_object()
}
