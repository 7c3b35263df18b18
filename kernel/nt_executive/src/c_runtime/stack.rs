//! `__chkstk`, which compilers call in front of frames larger than a page.

use std::arch::naked_asm;

gate::exports! {
    /// The stack probe.
    pub static TABLE in "ntoskrnl.exe";
    "__chkstk" = chkstk(), rules "K-201";
}

/// Touches every page from the caller's stack pointer down by the number of bytes in rax, so that a frame that does not
/// fit runs into the guard page and not past it. Changes r10 and r11 only.
#[unsafe(naked)]
unsafe extern "win64" fn chkstk() {
    naked_asm!(
        "lea r11, [rsp + 8]",
        "mov r10, r11",
        "sub r10, rax",
        "jb 4f",
        "3:",
        "sub r11, 4096",
        "cmp r11, r10",
        "jb 2f",
        "test byte ptr [r11], al",
        "jmp 3b",
        // A frame larger than the address space ends at its very beginning.
        "4:",
        "xor r10d, r10d",
        "2:",
        "test byte ptr [r10], al",
        "ret",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::arch::asm;

    #[test]
    fn probe_keeps_every_register_but_two() {
        let (mut rax, mut rcx, mut rdx, mut r8, mut r9) = (0x5000u64, 1u64, 2u64, 3u64, 4u64);
        // SAFETY: the probe touches 20 KiB of this thread's stack and changes r10 and r11 only.
        unsafe {
            asm!(
                "call {probe}",
                probe = sym chkstk,
                inout("rax") rax, inout("rcx") rcx, inout("rdx") rdx, inout("r8") r8, inout("r9") r9,
                out("r10") _, out("r11") _,
            );
        }
        assert_eq!([rax, rcx, rdx, r8, r9], [0x5000, 1, 2, 3, 4]);
    }
}
