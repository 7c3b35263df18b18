//! Leaving a function from inside an epilog: what is left of it is carried out on the registers.
//!
//! An epilog is, in this order: an addition to rsp or its computation from the frame register (or neither), pops,
//! and a return or a jump out of the function. Version 1 does not say where epilogs are, so the instructions tell;
//! version 2 lists them.

use nt_abi::exception::Context;
use nt_abi::unwind::{NonvolatilePointers, UnwindOperation};

use super::{Broken, Code, Function, Info, RSP, leave, pop, primary};
use crate::{image, memory};

/// Most instructions of an epilog: one that frees the stack, 16 pops, the end.
const INSTRUCTIONS_MAX: usize = 18;

/// Carries out the rest of the epilog that `pc` lies in, if it lies in one.
pub(super) fn unwind(
    function: &Function,
    pc: u64,
    info: &Info,
    context: &mut Context,
    saved: &mut NonvolatilePointers,
) -> Result<bool, Broken> {
    let listed = match info.version() {
        1 => None,
        _ => Some(is_listed(function, pc, info)),
    };
    if listed == Some(false) || listed.is_none() && decode(pc).is_none() {
        return Ok(false);
    }
    let (mut after, mut places) = (*context, *saved);
    let is_carried_out = carry_out(function, pc, info, &mut after, &mut places)?;
    if is_carried_out {
        (*context, *saved) = (after, places);
    } else if listed == Some(true) {
        return Err(Broken::Epilog(pc));
    }
    Ok(is_carried_out)
}

/// Whether the codes at the front of version 2 information list an epilog that `pc` lies in. The first code
/// gives the size of each epilog, and whether one ends the function; the others give distances from its end.
fn is_listed(function: &Function, pc: u64, info: &Info) -> bool {
    let from_end = u64::from(function.range.end).wrapping_sub(pc.wrapping_sub(function.base));
    let codes = info.codes();
    let Some(first) = codes.first().map(|&code| Code::of(code)) else { return false };
    if first.operation != UnwindOperation::EPILOG {
        return false;
    }
    let size = u64::from(first.offset);
    // Distances are counted from the end, so an epilog is (distance - size, distance].
    let contains = |distance: u64| from_end <= distance && from_end > distance.saturating_sub(size);
    if first.info & 1 != 0 && contains(size) {
        return true;
    }
    let others = codes[1..].iter().map(|&code| Code::of(code));
    let mut others = others.take_while(|code| code.operation == UnwindOperation::EPILOG);
    others.any(|code| contains(u64::from(code.offset) | u64::from(code.info) << 8))
}

/// `false` if the instructions at `pc` are not those of an epilog.
fn carry_out(
    function: &Function,
    mut pc: u64,
    info: &Info,
    context: &mut Context,
    saved: &mut NonvolatilePointers,
) -> Result<bool, Broken> {
    let mut is_first = true;
    for _ in 0..INSTRUCTIONS_MAX {
        let Some((instruction, length)) = decode(pc) else { return Ok(false) };
        let next = pc.wrapping_add(length);
        match instruction {
            Instruction::Add(amount) if is_first => context.integer[RSP] = context.integer[RSP].wrapping_add(amount),
            Instruction::Compute { register, displacement } if is_first && is_frame(info, register) => {
                context.integer[RSP] = context.integer[register].wrapping_add(displacement);
            }
            Instruction::Pop(register) => {
                let place = context.integer[RSP];
                let value = pop(context)?;
                if register != RSP {
                    context.integer[register] = value;
                    saved.integer[register] = place;
                }
            }
            Instruction::Return(amount) => {
                leave(context)?;
                context.integer[RSP] = context.integer[RSP].wrapping_add(amount);
                return Ok(true);
            }
            Instruction::Jump(distance) if leads_out(function, next.wrapping_add(distance))? => {
                leave(context)?;
                return Ok(true);
            }
            Instruction::JumpThrough => {
                leave(context)?;
                return Ok(true);
            }
            _ => return Ok(false),
        }
        is_first = false;
        pc = next;
    }
    Ok(false)
}

fn is_frame(info: &Info, register: usize) -> bool {
    register != 0 && register == usize::from(info.fixed.frame & 0xF)
}

/// Whether a jump to `target` leaves the function: neither into its range nor into another part of it.
fn leads_out(function: &Function, target: u64) -> Result<bool, Broken> {
    let offset = target.wrapping_sub(function.base);
    if (u64::from(function.range.begin)..u64::from(function.range.end)).contains(&offset) {
        // To its very beginning it calls itself.
        return Ok(offset == u64::from(function.range.begin) && primary(function)? == function.range);
    }
    match image::find(target).and_then(|image| super::function_at(image, target)) {
        Some(other) => Ok(primary(&other)? != primary(function)?),
        None => Ok(true),
    }
}

enum Instruction {
    /// `add rsp, amount`
    Add(u64),
    /// `lea rsp, [register + displacement]`
    Compute {
        register: usize,
        displacement: u64,
    },
    Pop(usize),
    /// `ret amount`
    Return(u64),
    /// `jmp` by a distance from the next instruction.
    Jump(u64),
    /// `jmp` to where a word or a register says, in the forms that compilers use at the end of functions.
    JumpThrough,
}

/// The instruction at `pc`, if it is one that epilogs have, and its length.
fn decode(pc: u64) -> Option<(Instruction, u64)> {
    let mut bytes = [0; 8];
    // An epilog may be the last thing before a page that cannot be read; zeros decode to nothing below.
    let readable = match memory::read(pc, &mut bytes) {
        Ok(()) => bytes.len(),
        Err(fault) => (fault.address.wrapping_sub(pc) as usize).min(bytes.len()),
    };
    bytes[readable..].fill(0);
    let signed8 = |byte: u8| i64::from(byte as i8) as u64;
    let signed32 = |bytes: [u8; 4]| i64::from(i32::from_le_bytes(bytes)) as u64;
    Some(match bytes {
        [0x48, 0x83, 0xC4, amount, ..] => (Instruction::Add(signed8(amount)), 4),
        [0x48, 0x81, 0xC4, a, b, c, d, _] => (Instruction::Add(signed32([a, b, c, d])), 7),
        // Base r12 takes another byte.
        [0x49, 0x8D, 0x64, 0x24, a, ..] => (Instruction::Compute { register: 12, displacement: signed8(a) }, 5),
        [0x49, 0x8D, 0xA4, 0x24, a, b, c, d] => {
            (Instruction::Compute { register: 12, displacement: signed32([a, b, c, d]) }, 8)
        }
        // REX.W, with REX.B for r8 to r15; the destination is rsp.
        [rex @ (0x48 | 0x49), 0x8D, mod_rm, a, b, c, d, _] if mod_rm & 0x38 == 0x20 && mod_rm & 7 != 4 => {
            let register = usize::from(mod_rm & 7 | (rex & 1) << 3);
            match mod_rm >> 6 {
                0 if mod_rm & 7 != 5 => (Instruction::Compute { register, displacement: 0 }, 3),
                1 => (Instruction::Compute { register, displacement: signed8(a) }, 4),
                2 => (Instruction::Compute { register, displacement: signed32([a, b, c, d]) }, 7),
                _ => return None,
            }
        }
        [opcode @ 0x58..=0x5F, ..] => (Instruction::Pop(usize::from(opcode & 7)), 1),
        [0x41, opcode @ 0x58..=0x5F, ..] => (Instruction::Pop(usize::from(opcode & 7 | 8)), 2),
        [0xC3, ..] => (Instruction::Return(0), 1),
        [0xF3, 0xC3, ..] => (Instruction::Return(0), 2),
        [0xC2, low, high, ..] => (Instruction::Return(u64::from(u16::from_le_bytes([low, high]))), 3),
        [0xEB, distance, ..] => (Instruction::Jump(signed8(distance)), 2),
        [0xE9, a, b, c, d, ..] => (Instruction::Jump(signed32([a, b, c, d])), 5),
        // Through the import table, or, marked by REX.W, through a register.
        [0xFF, 0x25, ..] => (Instruction::JumpThrough, 6),
        [0x48, 0xFF, 0x25, ..] => (Instruction::JumpThrough, 7),
        [0x48 | 0x49, 0xFF, 0xE0..=0xE7, ..] => (Instruction::JumpThrough, 3),
        _ => return None,
    })
}
