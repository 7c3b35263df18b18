//! What is asked of the one process beside its identity, which the dispatcher knows (`nt_dispatcher::process`).

use std::sync::OnceLock;

use gate::memory;
use nt_abi::{Handle, NtStatus, UnicodeString};
use nt_dispatcher::clock;
use nt_dispatcher::process::{PROCESS, system};

use crate::pool;
use crate::raise::{Failure, finish};

pub mod information;

gate::exports! {
    /// What ntoskrnl exports of processes, beside the dispatcher's.
    pub static TABLE in "ntoskrnl.exe";
    "IoThreadToProcess" = io_thread_to_process(thread: u64) -> u64, rules "K-100";
    "PsGetProcessImageFileName" = ps_get_process_image_file_name(process: u64) -> *const u8, rules "K-100";
    "PsGetCurrentProcessSessionId" | "PsGetProcessSessionId" = session_id() -> u32, rules "K-100";
    "PsIsSystemProcess" | "PsIsProtectedProcess" = ps_is_system_process(process: u64) -> u8, rules "K-100";
    "SeLocateProcessImageName" = se_locate_process_image_name(process: u64, name: u64) -> NtStatus, irql <= PASSIVE, rules "K-100";
    "PsIsProcessBeingDebugged" | "PsGetProcessExitProcessCalled" = no_flag(process: u64) -> u8, rules "K-100";
    "PsGetProcessPeb" | "PsGetProcessWow64Process" | "PsGetCurrentProcessWow64Process" | "PsGetProcessDebugPort" | "PsGetProcessJob" | "PsGetProcessSectionBaseAddress" | "PsGetProcessInheritedFromUniqueProcessId" | "PsGetProcessWin32Process" | "PsGetProcessExitTime" = nothing() -> u64, rules "K-100";
    "PsGetProcessCreateTimeQuadPart" = ps_get_process_create_time_quad_part(process: u64) -> u64, rules "K-100";
    "PsGetProcessExitStatus" = ps_get_process_exit_status(process: u64) -> NtStatus, rules "K-100";
    "KeAttachProcess" = ke_attach_process(process: u64), irql <= DISPATCH, rules "K-100";
    "KeDetachProcess" = ke_detach_process(), irql <= DISPATCH, rules "K-100";
    "KeStackAttachProcess" = ke_stack_attach_process(process: u64, state: u64), irql <= DISPATCH, rules "K-100";
    "KeUnstackDetachProcess" = ke_unstack_detach_process(state: u64), irql <= DISPATCH, rules "K-100";
}

/// The process behind a handle, referenced; -1 is the current one.
///
/// # Errors
/// As for other handles.
pub fn by_handle(handle: Handle) -> Result<u64, NtStatus> {
    const CURRENT: Handle = Handle(u64::MAX);
    if handle == CURRENT {
        nt_object::reference(system());
        return Ok(system());
    }
    nt_object::reference_by_handle(handle, Some(PROCESS.block())).map(|(process, _)| process)
}

unsafe extern "win64" fn io_thread_to_process(_thread: u64) -> u64 {
    system()
}

unsafe extern "win64" fn ps_get_process_image_file_name(_process: u64) -> *const u8 {
    // Fifteen characters and a terminator, as the structure in NT has.
    static NAME: [u8; 16] = *b"System\0\0\0\0\0\0\0\0\0\0";
    NAME.as_ptr()
}

unsafe extern "win64" fn session_id() -> u32 {
    0
}

/// The system process is a protected one, and the only one.
unsafe extern "win64" fn ps_is_system_process(process: u64) -> u8 {
    (process == system()).into()
}

/// The system process has no image: its name is empty, in pool that the driver frees, as other processes' are.
fn locate_image_name(name: u64) -> Result<NtStatus, Failure> {
    const TAG: pool::Tag = u32::from_le_bytes(*b"SeIm");
    const STRING_BYTES: u64 = size_of::<UnicodeString>() as u64;
    let made = pool::allocate(STRING_BYTES + 2, TAG, pool::Kind::NonPaged, gate::caller());
    let made = made.ok_or(NtStatus::NO_MEMORY)?;
    let text = (made + STRING_BYTES) as *mut u16;
    // SAFETY: a new block with room for both.
    unsafe {
        text.write(0);
        (made as *mut UnicodeString).write(UnicodeString { length: 0, maximum_length: 0, _pad: 0, buffer: text });
    }
    if let Err(fault) = memory::write_value(name, made) {
        pool::free(made, None, gate::caller());
        return Err(fault.into());
    }
    Ok(NtStatus::SUCCESS)
}

unsafe extern "win64" fn se_locate_process_image_name(_process: u64, name: u64) -> NtStatus {
    finish(locate_image_name(name))
}

unsafe extern "win64" fn no_flag(_process: u64) -> u8 {
    0
}

/// The system process has no part in user mode, no parent, no job and no debugger, and does not end.
unsafe extern "win64" fn nothing() -> u64 {
    0
}

/// When the run began, or when somebody asked first, if the host's clock was set since.
unsafe extern "win64" fn ps_get_process_create_time_quad_part(_process: u64) -> u64 {
    static CREATED: OnceLock<u64> = OnceLock::new();
    *CREATED.get_or_init(|| clock::system_time_100ns().saturating_sub(clock::now_100ns()))
}

/// It has none yet.
unsafe extern "win64" fn ps_get_process_exit_status(_process: u64) -> NtStatus {
    NtStatus::PENDING
}

/// There is one address space.
unsafe extern "win64" fn ke_attach_process(_process: u64) {}

unsafe extern "win64" fn ke_detach_process() {}

unsafe extern "win64" fn ke_stack_attach_process(_process: u64, _state: u64) {}

unsafe extern "win64" fn ke_unstack_detach_process(_state: u64) {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{kernel_thread, service};
    use proves::proves;

    #[proves("K-100")]
    #[test]
    fn current_process_and_its_id_agree() {
        kernel_thread();
        let process = service("IoGetCurrentProcess").call_word(&[]);
        assert_eq!(service("PsGetProcessId").call_word(&[process]), service("PsGetCurrentProcessId").call_word(&[]));
        assert_eq!(service("PsGetCurrentProcessId").call_word(&[]), 4);
        assert_eq!(service("IoThreadToProcess").call_word(&[0]), process);
        assert_eq!(by_handle(Handle(u64::MAX)), Ok(process));
        nt_object::dereference(process);
    }
}
