//! Instructions that a process cannot execute as they are, or that mean something else there.

use iced_x86::{Formatter, IntelFormatter, Mnemonic, OpKind, Register};
use pe_image::Code;

use crate::report::{Instruction, Treatment};

/// Most instructions that are listed.
const LISTED_MAX: usize = 4096;
/// Where drivers look for the page that the kernel shares with everybody.
const SHARED_PAGE: std::ops::Range<u64> = 0xFFFF_F780_0000_0000..0xFFFF_F780_0000_1000;
/// Fields of the processor's block that are filled in (K-007, K-008).
const BLOCK_FIELDS: [u64; 5] = [0x18, 0x20, 0x184, 0x188, 0x1A4];

/// The instructions of an image, by offset, and how many more there are.
pub fn instructions(code: &Code<'_>) -> (Vec<Instruction>, usize) {
    let mut rewritten: Vec<_> = code.rewritten().collect();
    rewritten.sort_unstable();
    let mut formatter = IntelFormatter::new();
    let (mut listed, mut left_out) = (Vec::new(), 0);
    for (offset, instruction) in code.instructions() {
        let Some((purpose, treatment)) = judge(&instruction) else { continue };
        if listed.len() == LISTED_MAX {
            left_out += 1;
            continue;
        }
        // The neighbour of a rewritten access moves too, but is none of those that are judged.
        let treatment = match treatment {
            Treatment::Emulated if rewritten.binary_search(&offset).is_ok() => Treatment::Rewritten,
            treatment => treatment,
        };
        let mut text = String::new();
        formatter.format(&instruction, &mut text);
        listed.push(Instruction { offset, text, purpose, treatment });
    }
    (listed, left_out)
}

/// What an instruction does and what becomes of it, unless it is an ordinary one.
fn judge(instruction: &iced_x86::Instruction) -> Option<(&'static str, Treatment)> {
    use Treatment::{Emulated, Exception, Executed};
    let judged = match instruction.mnemonic() {
        Mnemonic::Mov => return moved(instruction),
        Mnemonic::Cli | Mnemonic::Sti => ("disables or enables interrupts, of which there are none here", Emulated),
        Mnemonic::Hlt => ("waits for an interrupt, of which there are none here", Emulated),
        Mnemonic::Wbinvd | Mnemonic::Invlpg => ("empties caches, to no effect here", Emulated),
        Mnemonic::In => ("reads a port, at which no device answers", Emulated),
        Mnemonic::Out => ("writes to a port, to no effect", Emulated),
        Mnemonic::Rdmsr => ("reads a model-specific register; only the GS base can be read", Exception),
        Mnemonic::Int => return interrupt(instruction),
        Mnemonic::Rdtsc | Mnemonic::Rdtscp => ("reads the time stamp counter", Executed),
        Mnemonic::Rdrand | Mnemonic::Rdseed => {
            ("gets a random number, so a run with --seed cannot be repeated", Executed)
        }
        Mnemonic::Syscall | Mnemonic::Sysenter => ("makes a system call, which would be one of Linux", Executed),
        Mnemonic::Sgdt | Mnemonic::Sidt | Mnemonic::Sldt | Mnemonic::Str | Mnemonic::Smsw => {
            ("reads the processor's tables, which are those of Linux or made up", Executed)
        }
        _ if instruction.is_privileged() => ("needs the processor's highest privilege", Exception),
        _ => return touched(instruction),
    };
    Some(judged)
}

fn moved(instruction: &iced_x86::Instruction) -> Option<(&'static str, Treatment)> {
    let judged = match (instruction.op0_register(), instruction.op1_register()) {
        (Register::CR8, _) => ("sets the IRQL", Treatment::Emulated),
        (_, Register::CR8) => ("reads the IRQL", Treatment::Emulated),
        (to, from) if to.is_cr() || from.is_cr() => ("uses a control register", Treatment::Exception),
        (to, from) if to.is_dr() || from.is_dr() => ("uses a debug register", Treatment::Exception),
        _ => return touched(instruction),
    };
    Some(judged)
}

/// `int n`: what Windows means by it.
fn interrupt(instruction: &iced_x86::Instruction) -> Option<(&'static str, Treatment)> {
    let purpose = match instruction.immediate8() {
        0x29 => "fast fail (bugcheck 0x139)",
        0x2C => "an assertion that failed",
        0x2D => "asks for the debugger",
        _ => "a software interrupt without a meaning here",
    };
    Some((purpose, Treatment::Exception))
}

/// What memory at a fixed place an instruction touches.
fn touched(instruction: &iced_x86::Instruction) -> Option<(&'static str, Treatment)> {
    let has_immediate = (0..instruction.op_count()).any(|index| instruction.op_kind(index) == OpKind::Immediate64);
    let has_memory = (0..instruction.op_count()).any(|index| instruction.op_kind(index) == OpKind::Memory);
    let address = instruction.memory_displacement64();
    let is_absolute =
        has_memory && instruction.memory_base() == Register::None && instruction.memory_index() == Register::None;
    if has_immediate && SHARED_PAGE.contains(&instruction.immediate64())
        || is_absolute && SHARED_PAGE.contains(&address)
    {
        return Some(("uses the page that the kernel shares (clock, tick count, version)", Treatment::Emulated));
    }
    if is_absolute && instruction.memory_segment() == Register::GS && !BLOCK_FIELDS.contains(&address) {
        return Some(("reads a field of the processor's block that is not filled in", Treatment::Executed));
    }
    None
}
