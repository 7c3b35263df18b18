//! System calls from drivers' own code: reported with their place.
//!
//! A few instructions look at the instruction pointer. seccompiler has no condition on it, so they are written out here.

use std::io;

use arena::plan;
use nt_abi::exception::BugCheck;
use seccompiler::sock_filter;

use crate::front::{JUMP_IF_AT_LEAST, LOAD, RETURN, instruction};

/// Where `seccomp_data` holds the high half of the instruction pointer.
const INSTRUCTION_POINTER_HIGH: u32 = 12;

/// The high halves of addresses given to drivers: images, objects, packets, pool, stacks, thread blocks, the shared page.
const DRIVERS_FIRST: u32 = (plan::IMAGES >> 32) as u32;
const DRIVERS_END: u32 = (plan::SHARED >> 32) as u32 + 0x100;

/// The part of the filter that traps system calls from there and goes on behind itself for others.
pub(crate) fn check() -> [sock_filter; 4] {
    [
        instruction(LOAD, INSTRUCTION_POINTER_HIGH, 0, 0),
        instruction(JUMP_IF_AT_LEAST, DRIVERS_FIRST, 0, 2),
        instruction(JUMP_IF_AT_LEAST, DRIVERS_END, 1, 0),
        instruction(RETURN, libc::SECCOMP_RET_TRAP, 0, 0),
    ]
}

/// Installs the handler that makes a report of the trap.
pub fn install_report() -> io::Result<()> {
    // SAFETY: all-zero is a valid `sigaction`.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_trap as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: a handler of the right type; it stays in the program.
    if unsafe { libc::sigaction(libc::SIGSYS, &action, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The part of `siginfo_t` that a trapped system call fills.
#[repr(C)]
struct TrapInformation {
    _signal: [i32; 4],
    /// Behind the instruction.
    call_address: u64,
    number: i32,
    _architecture: u32,
}

extern "C" fn on_trap(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel's information about a trapped system call, which is longer than this.
    let info = unsafe { &*info.cast::<TrapInformation>() };
    /// Bytes of the `syscall` instruction.
    const INSTRUCTION: u64 = 2;
    let place = info.call_address.wrapping_sub(INSTRUCTION);
    gate::bugcheck::with_message(
        BugCheck::DRYDOCK_RAW_SYSTEM_CALL,
        [info.number as u64, place, 0, 0],
        place,
        format_args!("The driver made Linux system call {} itself; a Windows driver has no use for one.", info.number),
    )
}
