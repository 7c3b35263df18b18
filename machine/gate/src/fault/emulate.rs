//! Instructions that only a kernel may execute.
//!
//! The IRQL (CR8) is read and written; interrupts are enabled and disabled to no effect, since nothing
//! interrupts a driver here; ports read as if nothing was behind them. What cannot be made up is an exception.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, Register};
use nt_abi::{Irql, NtStatus};

use super::{Interrupted, RAX, RCX, RDX, RSP, raise};
use crate::bugcheck::{self, BugCheck, Stop};
use crate::text::Text;
use crate::thread::HostThread;
use crate::{lowering, memory, thread};

/// Longest instruction of the architecture.
const INSTRUCTION_MAX: usize = 15;
/// GS base: the only model-specific register that means something here.
const MSR_GS_BASE: u32 = 0xC000_0101;

/// Makes the decoder build its tables, which allocates.
pub(super) fn warm_up() {
    let _ = Decoder::new(64, &[0x90], DecoderOptions::NONE).decode();
}

/// Decodes the instruction at `rip`, invalid if it cannot be read.
pub(super) fn decode(rip: u64) -> Instruction {
    let mut bytes = [0; INSTRUCTION_MAX];
    // The instruction may end right before a page that cannot be read.
    let readable = match memory::read(rip, &mut bytes) {
        Ok(()) => INSTRUCTION_MAX,
        Err(fault) => (fault.address.wrapping_sub(rip) as usize).min(INSTRUCTION_MAX),
    };
    Decoder::with_ip(64, &bytes[..readable], rip, DecoderOptions::NONE).decode()
}

/// The mnemonic of the instruction at `rip`, for messages.
pub(crate) fn name_at(rip: u64) -> impl std::fmt::Display {
    struct Name(Mnemonic);
    impl std::fmt::Display for Name {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{:?}", self.0)
        }
    }
    Name(decode(rip).mnemonic())
}

/// Emulates the instruction behind a general protection fault, or raises what it is on Windows.
pub(super) fn privileged(interrupted: &mut Interrupted<'_>, host: *mut HostThread) {
    if !irql_access(interrupted, host) {
        other(interrupted, host);
    }
}

/// `mov r64, cr8` and `mov cr8, r64` as compilers write them, decoded by hand because they are many.
fn irql_access(interrupted: &mut Interrupted<'_>, host: *mut HostThread) -> bool {
    let Ok([rex, 0x0F, opcode @ (0x20 | 0x22), mod_rm]) = memory::read_value::<[u8; 4]>(interrupted.rip()) else {
        return false;
    };
    // REX.R set (CR8 and not CR0), REX.X clear; register operand, control register 0 (+8).
    if rex & 0xF6 != 0x44 || mod_rm & 0xF8 != 0xC0 {
        return false;
    }
    let register = usize::from(mod_rm & 7 | (rex & 1) << 3);
    match opcode {
        0x20 => {
            interrupted.set(register, u64::from(thread::irql().0));
            interrupted.set_rip(interrupted.rip() + 4);
        }
        _ => set_irql(interrupted, host, register, 4),
    }
    true
}

/// Sets the level from a register and goes on behind the instruction of `length` bytes, by way of the DPCs that wait
/// for that (K-131): they cannot run in a signal handler.
fn set_irql(interrupted: &mut Interrupted<'_>, host: *mut HostThread, register: usize, length: u64) {
    thread::set_irql(Irql(interrupted.get(register) as u8));
    let next = interrupted.rip() + length;
    let top = interrupted.get(RSP) - 8;
    // A stack without room for a return address is for the driver's next access to it to report; the clock's thread
    // runs the DPCs then.
    if lowering::is_wanted(host) && memory::write_value(top, next).is_ok() {
        interrupted.set(RSP, top);
        interrupted.set_rip(lowering::lowered as *const () as u64);
    } else {
        interrupted.set_rip(next);
    }
}

fn other(interrupted: &mut Interrupted<'_>, host: *mut HostThread) {
    let rip = interrupted.rip();
    let instruction = decode(rip);
    match instruction.code() {
        Code::Mov_r64_cr if instruction.op1_register() == Register::CR8 => {
            interrupted.set(instruction.op0_register().number(), u64::from(thread::irql().0));
        }
        Code::Mov_cr_r64 if instruction.op0_register() == Register::CR8 => {
            let register = instruction.op1_register().number();
            return set_irql(interrupted, host, register, instruction.len() as u64);
        }
        Code::Int_imm8 => return software_interrupt(interrupted, host, instruction.immediate8()),
        _ => match instruction.mnemonic() {
            Mnemonic::Cli | Mnemonic::Sti | Mnemonic::Hlt | Mnemonic::Wbinvd | Mnemonic::Invlpg => {}
            Mnemonic::In => port_read(interrupted, instruction.op0_register()),
            Mnemonic::Out => {}
            Mnemonic::Rdmsr if interrupted.get(RCX) as u32 == MSR_GS_BASE => {
                let base = thread::current() as u64 & !(arena::PAGE as u64 - 1);
                let base = base - arena::PAGE as u64;
                interrupted.set(RAX, base & 0xFFFF_FFFF);
                interrupted.set(RDX, base >> 32);
            }
            _ => return refuse(interrupted, host, &instruction),
        },
    }
    interrupted.set_rip(rip + instruction.len() as u64);
}

/// Fills the register that a port is read into with ones: no device answers.
fn port_read(interrupted: &mut Interrupted<'_>, register: Register) {
    let value = match register.size() {
        1 => interrupted.get(RAX) | 0xFF,
        2 => interrupted.get(RAX) | 0xFFFF,
        // Writing 32 bits clears the upper half.
        _ => 0xFFFF_FFFF,
    };
    interrupted.set(RAX, value);
}

/// `int n`, which only has a meaning for some numbers on Windows.
fn software_interrupt(interrupted: &mut Interrupted<'_>, host: *mut HostThread, vector: u8) {
    let code = match vector {
        0x29 => fast_fail(interrupted),
        0x2C => NtStatus::ASSERTION_FAILURE,
        // The debugger's services, without a debugger.
        0x2D => NtStatus::BREAKPOINT,
        _ => NtStatus::PRIVILEGED_INSTRUCTION,
    };
    raise(interrupted, host, code, &[]);
}

/// `int 29h`: the driver, or its compiler's checks, asks for the end (K-013).
fn fast_fail(interrupted: &Interrupted<'_>) -> ! {
    let code = interrupted.get(RCX) & 0xFFFF_FFFF;
    let reason = match code {
        2 => " (a stack buffer overrun)",
        3 => " (a corrupt list entry)",
        4 => " (a corrupt stack)",
        5 => " (an invalid argument)",
        6 => " (the security cookie was not initialised)",
        7 => " (the program asked for it)",
        10 => " (an indirect call to an invalid address)",
        _ => "",
    };
    let mut text = Text::<128>::new();
    text.push(format_args!("Fast fail {code}{reason}."));
    bugcheck::stop(&Stop {
        code: BugCheck::KERNEL_SECURITY_CHECK_FAILURE,
        parameters: [code, 0, 0, 0],
        rip: interrupted.rip(),
        import: None,
        registers: Some(interrupted.registers()),
        on: None,
        message: text.as_str(),
    })
}

/// Raises what an instruction is that cannot be emulated.
fn refuse(interrupted: &mut Interrupted<'_>, host: *mut HostThread, instruction: &Instruction) {
    if instruction.is_invalid() || !instruction.is_privileged() {
        // An ordinary instruction with an address that is no address: a read of the last one, as on Windows.
        return raise(interrupted, host, NtStatus::ACCESS_VIOLATION, &[0, u64::MAX]);
    }
    raise(interrupted, host, NtStatus::PRIVILEGED_INSTRUCTION, &[]);
}
