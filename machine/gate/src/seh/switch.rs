//! Registers: saved, and loaded.

use std::arch::naked_asm;
use std::mem::offset_of;

use nt_abi::exception::{CONTEXT_FULL, Context};

use crate::unwind::{RSP, vector};

/// What drivers' functions preserve for their callers, and where execution goes on.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub(super) struct Preserved {
    vectors: [u128; 10],
    rbx: u64,
    rbp: u64,
    rsi: u64,
    rdi: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    rsp: u64,
    rip: u64,
    rax: u64,
    mx_csr: u32,
    _pad: u32,
}

const _: () = assert!(size_of::<Preserved>() == 256);

impl Preserved {
    pub(super) fn context(&self) -> Context {
        // SAFETY: integers, for which zero is a value.
        let mut context: Context = unsafe { std::mem::zeroed() };
        context.context_flags = CONTEXT_FULL;
        context.mx_csr = self.mx_csr;
        context.segments = SEGMENTS;
        context.eflags = 0x202;
        let Self { rax, rbx, rbp, rsi, rdi, r12, r13, r14, r15, rsp, .. } = *self;
        context.integer = [rax, 0, 0, rbx, rsp, rbp, rsi, rdi, 0, 0, 0, 0, r12, r13, r14, r15];
        context.rip = self.rip;
        context.float_save[vector(6)..=vector(15)].copy_from_slice(&self.vectors);
        context
    }
}

/// cs, ds, es, fs, gs, ss of kernel code on Windows.
pub(crate) const SEGMENTS: [u16; 6] = [0x10, 0x2B, 0x2B, 0x53, 0x2B, 0x18];

/// The address that a raising import returns to, with the stack pointer behind its return address. Saves what it
/// preserved and goes on in [`super::resumed`].
#[unsafe(naked)]
pub(super) unsafe extern "C" fn resume() {
    naked_asm!(
        "mov r11, rsp",
        "sub rsp, {bytes} + 64",
        "and rsp, -64",
        "mov [rsp + {rsp}], r11",
        "mov qword ptr [rsp + {rip}], 0",
        "mov [rsp + {rax}], rax",
        "mov [rsp + {rbx}], rbx",
        "mov [rsp + {rbp}], rbp",
        "mov [rsp + {rsi}], rsi",
        "mov [rsp + {rdi}], rdi",
        "mov [rsp + {r12}], r12",
        "mov [rsp + {r13}], r13",
        "mov [rsp + {r14}], r14",
        "mov [rsp + {r15}], r15",
        "movaps [rsp], xmm6",
        "movaps [rsp + 16], xmm7",
        "movaps [rsp + 32], xmm8",
        "movaps [rsp + 48], xmm9",
        "movaps [rsp + 64], xmm10",
        "movaps [rsp + 80], xmm11",
        "movaps [rsp + 96], xmm12",
        "movaps [rsp + 112], xmm13",
        "movaps [rsp + 128], xmm14",
        "movaps [rsp + 144], xmm15",
        "stmxcsr [rsp + {mx_csr}]",
        "cld",
        "mov rdi, rsp",
        "call {resumed}",
        "ud2",
        bytes = const size_of::<Preserved>(),
        rsp = const offset_of!(Preserved, rsp),
        rip = const offset_of!(Preserved, rip),
        rax = const offset_of!(Preserved, rax),
        rbx = const offset_of!(Preserved, rbx),
        rbp = const offset_of!(Preserved, rbp),
        rsi = const offset_of!(Preserved, rsi),
        rdi = const offset_of!(Preserved, rdi),
        r12 = const offset_of!(Preserved, r12),
        r13 = const offset_of!(Preserved, r13),
        r14 = const offset_of!(Preserved, r14),
        r15 = const offset_of!(Preserved, r15),
        mx_csr = const offset_of!(Preserved, mx_csr),
        resumed = sym super::resumed,
    )
}

/// The registers of host code behind the call of this function.
pub(crate) fn capture() -> Context {
    let mut preserved = std::mem::MaybeUninit::<Preserved>::uninit();
    // SAFETY: fills the structure.
    let mut context = unsafe {
        preserve(preserved.as_mut_ptr());
        preserved.assume_init().context()
    };
    // What the call returned, which is not a register of anybody.
    context.integer[0] = 0;
    context
}

#[unsafe(naked)]
unsafe extern "C" fn preserve(into: *mut Preserved) {
    naked_asm!(
        "lea rax, [rsp + 8]",
        "mov [rdi + {rsp}], rax",
        "mov rax, [rsp]",
        "mov [rdi + {rip}], rax",
        "mov [rdi + {rax}], rax",
        "mov [rdi + {rbx}], rbx",
        "mov [rdi + {rbp}], rbp",
        "mov [rdi + {rsi}], rsi",
        "mov [rdi + {rdi}], rdi",
        "mov [rdi + {r12}], r12",
        "mov [rdi + {r13}], r13",
        "mov [rdi + {r14}], r14",
        "mov [rdi + {r15}], r15",
        "movups [rdi], xmm6",
        "movups [rdi + 16], xmm7",
        "movups [rdi + 32], xmm8",
        "movups [rdi + 48], xmm9",
        "movups [rdi + 64], xmm10",
        "movups [rdi + 80], xmm11",
        "movups [rdi + 96], xmm12",
        "movups [rdi + 112], xmm13",
        "movups [rdi + 128], xmm14",
        "movups [rdi + 144], xmm15",
        "stmxcsr [rdi + {mx_csr}]",
        "ret",
        rsp = const offset_of!(Preserved, rsp),
        rip = const offset_of!(Preserved, rip),
        rax = const offset_of!(Preserved, rax),
        rbx = const offset_of!(Preserved, rbx),
        rbp = const offset_of!(Preserved, rbp),
        rsi = const offset_of!(Preserved, rsi),
        rdi = const offset_of!(Preserved, rdi),
        r12 = const offset_of!(Preserved, r12),
        r13 = const offset_of!(Preserved, r13),
        r14 = const offset_of!(Preserved, r14),
        r15 = const offset_of!(Preserved, r15),
        mx_csr = const offset_of!(Preserved, mx_csr),
    )
}

const INTEGER: usize = offset_of!(Context, integer);
const VECTORS: usize = offset_of!(Context, float_save) + 16 * vector(0);

/// Goes on with the registers in `context`: all of them but x87 and the upper halves of ymm registers. Uses two
/// words below its stack pointer.
///
/// # Safety
/// Whatever runs there may run, and its frames are intact. The frames of the caller are abandoned.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn restore(context: *const Context) -> ! {
    naked_asm!(
        "mov rax, [rdi + {integer} + 8 * {RSP}]",
        "sub rax, 16",
        "mov ecx, [rdi + {eflags}]",
        "mov [rax], rcx",
        "mov rcx, [rdi + {rip}]",
        "mov [rax + 8], rcx",
        "movaps xmm0, [rdi + {vectors}]",
        "movaps xmm1, [rdi + {vectors} + 16]",
        "movaps xmm2, [rdi + {vectors} + 32]",
        "movaps xmm3, [rdi + {vectors} + 48]",
        "movaps xmm4, [rdi + {vectors} + 64]",
        "movaps xmm5, [rdi + {vectors} + 80]",
        "movaps xmm6, [rdi + {vectors} + 96]",
        "movaps xmm7, [rdi + {vectors} + 112]",
        "movaps xmm8, [rdi + {vectors} + 128]",
        "movaps xmm9, [rdi + {vectors} + 144]",
        "movaps xmm10, [rdi + {vectors} + 160]",
        "movaps xmm11, [rdi + {vectors} + 176]",
        "movaps xmm12, [rdi + {vectors} + 192]",
        "movaps xmm13, [rdi + {vectors} + 208]",
        "movaps xmm14, [rdi + {vectors} + 224]",
        "movaps xmm15, [rdi + {vectors} + 240]",
        "ldmxcsr [rdi + {mx_csr}]",
        "mov rcx, [rdi + {integer} + 8]",
        "mov rdx, [rdi + {integer} + 16]",
        "mov rbx, [rdi + {integer} + 24]",
        "mov rbp, [rdi + {integer} + 40]",
        "mov rsi, [rdi + {integer} + 48]",
        "mov r8, [rdi + {integer} + 64]",
        "mov r9, [rdi + {integer} + 72]",
        "mov r10, [rdi + {integer} + 80]",
        "mov r11, [rdi + {integer} + 88]",
        "mov r12, [rdi + {integer} + 96]",
        "mov r13, [rdi + {integer} + 104]",
        "mov r14, [rdi + {integer} + 112]",
        "mov r15, [rdi + {integer} + 120]",
        "mov rsp, rax",
        "mov rax, [rdi + {integer}]",
        "mov rdi, [rdi + {integer} + 56]",
        "popfq",
        "ret",
        integer = const INTEGER,
        RSP = const RSP,
        eflags = const offset_of!(Context, eflags),
        rip = const offset_of!(Context, rip),
        vectors = const VECTORS,
        mx_csr = const offset_of!(Context, mx_csr),
    )
}

/// `RtlCaptureContext`: writes all registers of its caller to the structure it names.
#[unsafe(naked)]
pub(super) unsafe extern "win64" fn capture_context(context: *mut Context) {
    naked_asm!(
        // A structure of our own first: the driver's is written by a guarded copy.
        ".cfi_startproc",
        "pushfq",
        "sub rsp, {bytes} + 48",
        ".cfi_adjust_cfa_offset {bytes} + 56",
        "mov [rsp + 32 + {integer}], rax",
        "mov [rsp + 32 + {integer} + 8], rcx",
        "mov [rsp + 32 + {integer} + 16], rdx",
        "mov [rsp + 32 + {integer} + 24], rbx",
        "lea rax, [rsp + {bytes} + 64]",
        "mov [rsp + 32 + {integer} + 32], rax",
        "mov [rsp + 32 + {integer} + 40], rbp",
        "mov [rsp + 32 + {integer} + 48], rsi",
        "mov [rsp + 32 + {integer} + 56], rdi",
        "mov [rsp + 32 + {integer} + 64], r8",
        "mov [rsp + 32 + {integer} + 72], r9",
        "mov [rsp + 32 + {integer} + 80], r10",
        "mov [rsp + 32 + {integer} + 88], r11",
        "mov [rsp + 32 + {integer} + 96], r12",
        "mov [rsp + 32 + {integer} + 104], r13",
        "mov [rsp + 32 + {integer} + 112], r14",
        "mov [rsp + 32 + {integer} + 120], r15",
        "mov rax, [rsp + {bytes} + 56]",
        "mov [rsp + 32 + {rip}], rax",
        "mov rax, [rsp + {bytes} + 48]",
        "mov [rsp + 32 + {eflags}], eax",
        "stmxcsr [rsp + 32 + {mx_csr}]",
        "movups [rsp + 32 + {vectors}], xmm0",
        "movups [rsp + 32 + {vectors} + 16], xmm1",
        "movups [rsp + 32 + {vectors} + 32], xmm2",
        "movups [rsp + 32 + {vectors} + 48], xmm3",
        "movups [rsp + 32 + {vectors} + 64], xmm4",
        "movups [rsp + 32 + {vectors} + 80], xmm5",
        "movups [rsp + 32 + {vectors} + 96], xmm6",
        "movups [rsp + 32 + {vectors} + 112], xmm7",
        "movups [rsp + 32 + {vectors} + 128], xmm8",
        "movups [rsp + 32 + {vectors} + 144], xmm9",
        "movups [rsp + 32 + {vectors} + 160], xmm10",
        "movups [rsp + 32 + {vectors} + 176], xmm11",
        "movups [rsp + 32 + {vectors} + 192], xmm12",
        "movups [rsp + 32 + {vectors} + 208], xmm13",
        "movups [rsp + 32 + {vectors} + 224], xmm14",
        "movups [rsp + 32 + {vectors} + 240], xmm15",
        "lea rdx, [rsp + 32]",
        "call {write}",
        "add rsp, {bytes} + 56",
        "ret",
        ".cfi_endproc",
        bytes = const size_of::<Context>(),
        integer = const INTEGER,
        rip = const offset_of!(Context, rip),
        eflags = const offset_of!(Context, eflags),
        mx_csr = const offset_of!(Context, mx_csr),
        vectors = const VECTORS,
        write = sym super::exports::write_captured,
    )
}
