//! Loads from the shared page whose address the driver computed at run time.
//!
//! Emulated: moves into registers, with or without extension, also into SSE registers, and comparisons, tests
//! and the arithmetic that compilers fold a load into. Stores are not: Windows maps the page read-only for
//! everybody but the kernel's clock.

use std::arch::asm;

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use super::Interrupted;
use super::emulate;
use crate::{memory, shared_page};

/// Carry, parity, adjust, zero, sign, overflow.
const STATUS_FLAGS: u64 = 0x8D5;

/// Carries out the load that faulted and skips it; `false` (and no effect) if it is not one of those above.
pub(super) fn emulate(interrupted: &mut Interrupted<'_>) -> bool {
    let instruction = emulate::decode(interrupted.rip());
    let from = shared_page::redirect(interrupted.address());
    let bytes = instruction.memory_size().size();
    if instruction.is_invalid()
        || instruction.has_rep_prefix()
        || instruction.has_repne_prefix()
        || !matches!(bytes, 1 | 2 | 4 | 8 | 16)
    {
        return false;
    }
    let mut loaded = [0; 16];
    if memory::read(from, &mut loaded[..bytes]).is_err() {
        return false;
    }
    let done = if bytes <= 8 && instruction.op0_register().is_gpr() || instruction.op0_kind() == OpKind::Memory {
        let value = u64::from_le_bytes(loaded[..8].try_into().unwrap_or_default());
        general(interrupted, &instruction, value, bytes)
    } else {
        vector(interrupted, &instruction, u128::from_le_bytes(loaded))
    };
    if done {
        interrupted.set_rip(interrupted.rip() + instruction.len() as u64);
    }
    done
}

fn general(interrupted: &mut Interrupted<'_>, instruction: &Instruction, value: u64, bytes: usize) -> bool {
    let to_register = instruction.op0_kind() == OpKind::Register;
    match instruction.mnemonic() {
        Mnemonic::Mov | Mnemonic::Movzx if to_register => {
            write_register(interrupted, instruction.op0_register(), value)
        }
        Mnemonic::Movsx | Mnemonic::Movsxd if to_register => {
            write_register(interrupted, instruction.op0_register(), sign_extended(value, bytes));
        }
        mnemonic @ (Mnemonic::Cmp
        | Mnemonic::Test
        | Mnemonic::Add
        | Mnemonic::Sub
        | Mnemonic::And
        | Mnemonic::Or
        | Mnemonic::Xor) => {
            let compares = matches!(mnemonic, Mnemonic::Cmp | Mnemonic::Test);
            let Some(second) = operand(interrupted, instruction, 1, value) else { return false };
            let Some(first) = operand(interrupted, instruction, 0, value) else { return false };
            if !to_register && !compares {
                return false;
            }
            let (result, flags) = arithmetic(mnemonic, bytes, first, second);
            interrupted.set_rflags(interrupted.rflags() & !STATUS_FLAGS | flags & STATUS_FLAGS);
            if !compares {
                write_register(interrupted, instruction.op0_register(), result);
            }
        }
        _ => return false,
    }
    true
}

/// The value of an operand: the loaded one, a register's, or an immediate.
fn operand(interrupted: &Interrupted<'_>, instruction: &Instruction, index: u32, loaded: u64) -> Option<u64> {
    match instruction.op_kind(index) {
        OpKind::Memory => Some(loaded),
        OpKind::Register => Some(read_register(interrupted, instruction.op_register(index))),
        OpKind::Immediate8 | OpKind::Immediate8to16 | OpKind::Immediate8to32 | OpKind::Immediate8to64 => {
            Some(instruction.immediate(index))
        }
        OpKind::Immediate16 | OpKind::Immediate32 | OpKind::Immediate32to64 => Some(instruction.immediate(index)),
        _ => None,
    }
}

fn sign_extended(value: u64, bytes: usize) -> u64 {
    let shift = 64 - 8 * bytes as u32;
    ((value << shift) as i64 >> shift) as u64
}

/// ah, ch, dh, bh: the second byte of the first four registers.
fn is_high_byte(register: Register) -> bool {
    matches!(register, Register::AH | Register::CH | Register::DH | Register::BH)
}

fn read_register(interrupted: &Interrupted<'_>, register: Register) -> u64 {
    let whole = interrupted.get(register.full_register().number());
    if is_high_byte(register) { whole >> 8 & 0xFF } else { whole }
}

fn write_register(interrupted: &mut Interrupted<'_>, register: Register, value: u64) {
    let number = register.full_register().number();
    let old = interrupted.get(number);
    let new = match register.size() {
        1 if is_high_byte(register) => old & !0xFF00 | (value & 0xFF) << 8,
        1 => old & !0xFF | value & 0xFF,
        2 => old & !0xFFFF | value & 0xFFFF,
        // Writing 32 bits clears the upper half.
        4 => value & 0xFFFF_FFFF,
        _ => value,
    };
    interrupted.set(number, new);
}

/// Carries out one operation of a given width on the processor itself, for its flags.
macro_rules! operate {
    ($name:literal, $modifier:literal, $first:expr, $second:expr) => {{
        let mut first: u64 = $first;
        let flags: u64;
        // SAFETY: arithmetic on two registers; the flags are read through the stack.
        unsafe {
            asm!(
                concat!($name, " {first:", $modifier, "}, {second:", $modifier, "}"),
                "pushfq",
                "pop {flags}",
                first = inout(reg_abcd) first,
                second = in(reg_abcd) $second,
                flags = out(reg) flags,
            );
        }
        (first, flags)
    }};
}

macro_rules! of_every_width {
    ($name:literal, $bytes:expr, $first:expr, $second:expr) => {
        match $bytes {
            1 => operate!($name, "l", $first, $second),
            2 => operate!($name, "x", $first, $second),
            4 => operate!($name, "e", $first, $second),
            _ => operate!($name, "r", $first, $second),
        }
    };
}

/// Result and flags of an operation on the low `bytes` of its operands.
fn arithmetic(mnemonic: Mnemonic, bytes: usize, first: u64, second: u64) -> (u64, u64) {
    match mnemonic {
        Mnemonic::Cmp => of_every_width!("cmp", bytes, first, second),
        Mnemonic::Test => of_every_width!("test", bytes, first, second),
        Mnemonic::Add => of_every_width!("add", bytes, first, second),
        Mnemonic::Sub => of_every_width!("sub", bytes, first, second),
        Mnemonic::And => of_every_width!("and", bytes, first, second),
        Mnemonic::Or => of_every_width!("or", bytes, first, second),
        _ => of_every_width!("xor", bytes, first, second),
    }
}

/// Moves into an SSE register. The scalar ones clear the rest of the register, which `value` has done already.
fn vector(interrupted: &mut Interrupted<'_>, instruction: &Instruction, value: u128) -> bool {
    let is_move = matches!(
        instruction.mnemonic(),
        Mnemonic::Movq
            | Mnemonic::Movd
            | Mnemonic::Movsd
            | Mnemonic::Movss
            | Mnemonic::Movups
            | Mnemonic::Movupd
            | Mnemonic::Movdqu
            | Mnemonic::Movaps
            | Mnemonic::Movapd
            | Mnemonic::Movdqa
    );
    let register = instruction.op0_register();
    if !is_move || !register.is_xmm() || register.number() > 15 || interrupted.context.fpregs.is_null() {
        return false;
    }
    let words: [u32; 4] = std::array::from_fn(|index| (value >> (32 * index)) as u32);
    // SAFETY: the kernel's save area for the interrupted thread, which lies in the signal frame.
    unsafe { (*interrupted.context.fpregs)._xmm[register.number()].element = words };
    true
}
