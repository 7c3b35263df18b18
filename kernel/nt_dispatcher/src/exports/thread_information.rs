//! What is asked of a thread by its handle.

use gate::memory;
use nt_abi::{Handle, NtStatus};

use crate::process;
use crate::thread::{self, THREAD};

gate::exports! {
    /// What threads tell of themselves.
    pub static TABLE in "ntoskrnl.exe";
    "ZwQueryInformationThread" | "NtQueryInformationThread" = zw_query_information_thread(thread: Handle, class: u32, buffer: u64, length: u32, needed: u64) -> NtStatus, irql <= PASSIVE, rules "K-134";
}

/// Of `THREADINFOCLASS`. Those that can only be set, and those about users' threads, there is no answer to.
mod class {
    pub const BASIC: u32 = 0;
    pub const TIMES: u32 = 1;
    pub const START_ADDRESS: u32 = 9;
    pub const IS_LAST: u32 = 12;
    pub const IS_TERMINATED: u32 = 20;
    pub const GROUP: u32 = 30;
}

/// The thread of a handle, referenced.
pub(super) fn by_handle(handle: Handle) -> Result<u64, NtStatus> {
    /// `ZwCurrentThread()`.
    const CURRENT: Handle = Handle(-2i64 as u64);
    if handle == CURRENT {
        let current = gate::thread::current_thread_object();
        nt_object::reference(current);
        return Ok(current);
    }
    nt_object::reference_by_handle(handle, Some(THREAD.block())).map(|(body, _)| body)
}

/// How long the answer of a class is; `None` for those that there is none to.
fn length_of(class: u32) -> Option<usize> {
    Some(match class {
        class::BASIC => 0x30,
        class::TIMES => 0x20,
        class::START_ADDRESS => 8,
        class::GROUP => 0x10,
        class::IS_LAST | class::IS_TERMINATED => 4,
        _ => return None,
    })
}

/// The answer of a class that has one.
fn answer(class: u32, thread: u64) -> Vec<u8> {
    let words = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect();
    match class {
        class::BASIC => {
            let (priority, increment) = (thread::priority(thread), thread::base_increment(thread));
            let base = thread::PRIORITY_AT_FIRST + increment;
            let priorities = u64::from(priority as u32) | u64::from(base as u32) << 32;
            let status = thread::exit_status(thread).0.into();
            words(&[status, 0, process::SYSTEM_ID, thread::id(thread), thread::affinity(thread), priorities])
        }
        class::TIMES => {
            let (created, ended) = thread::life_span(thread);
            // Drivers run in kernel mode only.
            words(&[created, ended, thread::run_time(thread), 0])
        }
        class::START_ADDRESS => words(&[thread::start_of(thread)]),
        class::GROUP => words(&[thread::affinity(thread), 0]),
        class::IS_TERMINATED => u32::from(thread::has_ended(thread)).to_le_bytes().to_vec(),
        // The system process always has another.
        _ => vec![0; 4],
    }
}

unsafe extern "win64" fn zw_query_information_thread(
    thread: Handle,
    class: u32,
    buffer: u64,
    length: u32,
    needed: u64,
) -> NtStatus {
    let Some(bytes) = length_of(class) else { return NtStatus::INVALID_INFO_CLASS };
    if length as usize != bytes {
        return NtStatus::INFO_LENGTH_MISMATCH;
    }
    let thread = match by_handle(thread) {
        Ok(thread) => thread,
        Err(status) => return status,
    };
    let answer = answer(class, thread);
    nt_object::dereference(thread);
    let written = memory::write(buffer, &answer);
    let told = if needed == 0 { Ok(()) } else { memory::write_value(needed, length) };
    if written.and(told).is_err() { NtStatus::ACCESS_VIOLATION } else { NtStatus::SUCCESS }
}
