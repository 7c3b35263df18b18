//! The system process: the only one, which all driver threads belong to (K-100).

use std::sync::OnceLock;

use nt_abi::DispatcherHeader;
use nt_abi::dispatcher::DispatcherType;
use nt_object::ObjectType;

/// Processes.
pub static PROCESS: ObjectType = ObjectType::simple("Process", |_| {});

/// The id of the system process.
pub const SYSTEM_ID: u64 = 4;

/// Bytes of a process object; drivers read nothing past the header.
const BODY_BYTES: u64 = 0x400;

/// The system process' object, which lives as long as the run.
///
/// # Panics
/// If there is no room for it, which only a run that cannot go on anyway has not.
pub fn system() -> u64 {
    static SYSTEM: OnceLock<u64> = OnceLock::new();
    *SYSTEM.get_or_init(|| {
        let body = nt_object::create(&PROCESS, BODY_BYTES, 0).expect("room for the system process");
        // SAFETY: a new body of our own.
        unsafe { (*(body as *mut DispatcherHeader)).kind = DispatcherType::PROCESS };
        body
    })
}
