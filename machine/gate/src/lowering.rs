//! Lowering the level without a call (K-005, K-131).
//!
//! A driver lowers its level by writing to CR8, which no import sees. Whatever stands for that write is followed by
//! [`lowered`], so that DPCs which wait for this thread's level run there, as behind the interrupt that Windows would
//! take at this instruction. To the driver that is one instruction: no register and no flag changes.

use std::arch::naked_asm;
use std::sync::atomic::{AtomicUsize, Ordering};

use nt_abi::Irql;

use crate::thread::{DEFERRED_OFFSET, HostThread, IRQL_OFFSET};

static HOOK: AtomicUsize = AtomicUsize::new(0);

/// Sets what runs the DPCs that wait for the calling thread's level, which is below DISPATCH_LEVEL.
pub fn set_hook(hook: fn()) {
    HOOK.store(hook as usize, Ordering::Release);
}

/// Whether [`lowered`] would do anything on a thread.
pub(crate) fn is_wanted(host: *const HostThread) -> bool {
    // SAFETY: a thread's block, which is never unmapped.
    let deferred = unsafe { (*host).deferred.load(Ordering::Relaxed) };
    deferred != 0 && crate::irql() < Irql::DISPATCH
}

/// Called behind what stands for a write to CR8. Keeps every register and the flags; the DPCs it runs keep what win64
/// preserves, and the vector registers are saved up to their 128 bits, as Windows saves them around an interrupt.
///
/// # Safety
/// No lock of the host is held.
#[unsafe(naked)]
pub unsafe extern "win64" fn lowered() {
    naked_asm!(
        ".cfi_startproc",
        // The flags in a way that is quicker than pushfq and popfq.
        "push rax",
        ".cfi_adjust_cfa_offset 8",
        "lahf",
        "seto al",
        "cmp qword ptr gs:[{deferred}], 0",
        "jne 3f",
        "2:",
        "add al, 0x7F",
        "sahf",
        "pop rax",
        ".cfi_adjust_cfa_offset -8",
        "ret",
        "3:",
        ".cfi_adjust_cfa_offset 8",
        "cmp byte ptr gs:[{irql}], {dispatch}",
        "jae 2b",
        "push rax",
        ".cfi_adjust_cfa_offset 8",
        "push rcx",
        ".cfi_adjust_cfa_offset 8",
        "push rdx",
        ".cfi_adjust_cfa_offset 8",
        "push r8",
        ".cfi_adjust_cfa_offset 8",
        "push r9",
        ".cfi_adjust_cfa_offset 8",
        "push r10",
        ".cfi_adjust_cfa_offset 8",
        "push r11",
        ".cfi_adjust_cfa_offset 8",
        "push rbp",
        ".cfi_adjust_cfa_offset 8",
        ".cfi_rel_offset rbp, 0",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "sub rsp, 512 + 32",
        "and rsp, -64",
        "fxsave64 [rsp + 32]",
        "cld",
        "call {run}",
        "fxrstor64 [rsp + 32]",
        "mov rsp, rbp",
        ".cfi_def_cfa_register rsp",
        "pop rbp",
        ".cfi_adjust_cfa_offset -8",
        "pop r11",
        ".cfi_adjust_cfa_offset -8",
        "pop r10",
        ".cfi_adjust_cfa_offset -8",
        "pop r9",
        ".cfi_adjust_cfa_offset -8",
        "pop r8",
        ".cfi_adjust_cfa_offset -8",
        "pop rdx",
        ".cfi_adjust_cfa_offset -8",
        "pop rcx",
        ".cfi_adjust_cfa_offset -8",
        "pop rax",
        ".cfi_adjust_cfa_offset -8",
        "jmp 2b",
        ".cfi_endproc",
        deferred = const DEFERRED_OFFSET,
        irql = const IRQL_OFFSET,
        dispatch = const Irql::DISPATCH.0,
        run = sym run,
    )
}

extern "win64" fn run() {
    let hook = HOOK.load(Ordering::Acquire);
    if hook != 0 {
        // SAFETY: only `set_hook` stores there.
        unsafe { std::mem::transmute::<usize, fn()>(hook)() }
    }
}
