//! Rewriting the instructions of an image that only a kernel may execute, or that read where no process can.
//!
//! Reads and writes of the IRQL (CR8) are replaced by accesses to the byte that stands for it in the thread's block
//! (K-005); behind a write DPCs run that waited for it (K-131). They are longer, so a jump takes the place of the access and of a neighbour, and both are done
//! elsewhere. Addresses in the shared page at 0xFFFFF780'00000000 (K-009) that are whole operands get the address
//! of its shadow. Only what is certainly right is done; the rest faults, and `gate` emulates it.

mod code_map;

use gate::code::CodeArea;
use gate::image::MovedInstruction;
use gate::lowering;
use gate::shared_page;
use gate::thread::IRQL_OFFSET;
use iced_x86::{
    BlockEncoder, BlockEncoderOptions, Code, Decoder, DecoderOptions, Instruction, InstructionBlock, MemoryOperand,
    OpKind, Register,
};

pub use code_map::CodeMap;
use code_map::is_movable;

use crate::view::put_u64;

/// Bytes of a jump with a 32-bit distance.
const JUMP: u32 = 5;
/// Most bytes that a moved access and its neighbour take, with what follows a write, the jump back, and addresses.
const MOVED_MAX: u64 = 80;
/// What fills the rest of a range behind the jump: a breakpoint, since nothing is to go there.
const FILLER: u8 = 0xCC;

/// How much of an image's code was rewritten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PatchCounts {
    /// Accesses to the IRQL that were rewritten.
    pub irql: u32,
    /// Accesses to the IRQL that were seen and are emulated.
    pub irql_emulated: u32,
    /// Addresses in the shared page that were redirected.
    pub shared_page: u32,
}

/// What is to be rewritten in an image.
#[derive(Debug, Default)]
pub struct Plan {
    windows: Vec<Window>,
    addresses: Vec<Address>,
    irql_emulated: u32,
}

/// An access to the IRQL and a neighbour that go elsewhere together.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// Offsets of the two instructions, and behind them.
    first: u32,
    second: u32,
    end: u32,
}

/// An address in the shared page, eight bytes.
#[derive(Clone, Copy, Debug)]
struct Address {
    instruction: u32,
    /// Offset of the eight bytes.
    offset: u32,
    value: u64,
}

impl Plan {
    /// What can be rewritten in an image. `relocated` are the offsets of addresses in it, in order.
    pub fn make(map: &CodeMap<'_>, relocated: &[u32]) -> Self {
        let mut plan = Self::default();
        for (offset, instruction) in map.instructions() {
            if is_irql_access(&instruction) {
                plan.irql_access(map, offset, &instruction);
            } else if let Some(address) = shared_address(map, offset, &instruction)
                && !is_relocated(relocated, address.offset)
            {
                plan.addresses.push(address);
            }
        }
        plan
    }

    fn irql_access(&mut self, map: &CodeMap<'_>, offset: u32, access: &Instruction) {
        let free_from = self.windows.last().map_or(0, |window| window.end);
        if offset < free_from {
            // The neighbour of the access before, and rewritten with it.
            return;
        }
        let end = access.next_ip() as u32;
        let with_next =
            map.at(end).map(|next| (next, Window { first: offset, second: end, end: next.next_ip() as u32 }));
        let with_last = map.before(offset).map(|last| (last, Window { first: last.ip() as u32, second: offset, end }));
        let window = [with_next, with_last].into_iter().flatten().find(|(neighbour, window)| {
            let range = window.first..window.end;
            window.first >= free_from
                && window.end - window.first >= JUMP
                && (is_irql_access(neighbour) || is_movable(neighbour))
                && map.is_certain(range.clone(), &[window.first, window.second])
                && !map.may_be_entered(range)
        });
        match window {
            Some((_, window)) => self.windows.push(window),
            None => self.irql_emulated += 1,
        }
    }

    /// Bytes of code that [`Plan::apply`] can take.
    pub fn code_bytes(&self) -> u64 {
        self.windows.len() as u64 * MOVED_MAX
    }

    /// Offsets of instructions that are rewritten.
    pub fn rewritten(&self) -> impl Iterator<Item = u32> {
        let windows = self.windows.iter().flat_map(|window| [window.first, window.second]);
        windows.chain(self.addresses.iter().map(|address| address.instruction))
    }

    /// Rewrites the image at `base`. Also gives the instructions that are now in `code`, in order.
    pub fn apply(&self, base: u64, image: &mut [u8], code: &mut CodeArea) -> (PatchCounts, Vec<MovedInstruction>) {
        let mut counts = PatchCounts { irql_emulated: self.irql_emulated, ..PatchCounts::default() };
        let mut moved = Vec::new();
        for window in &self.windows {
            let accesses = window.instructions(base, image).iter().filter(|access| is_irql_access(access)).count();
            match window.apply(base, image, code, &mut moved) {
                Some(()) => counts.irql += accesses as u32,
                None => counts.irql_emulated += accesses as u32,
            }
        }
        for address in &self.addresses {
            let shadow = address.value - shared_page::ADDRESS + shared_page::shadow();
            counts.shared_page += u32::from(put_u64(image, address.offset, shadow));
        }
        (counts, moved)
    }
}

impl Window {
    /// The two instructions of an image at `base`.
    fn instructions(self, base: u64, image: &[u8]) -> [Instruction; 2] {
        [self.first, self.second].map(|offset| {
            let bytes = image.get(offset as usize..self.end as usize).unwrap_or_default();
            Decoder::with_ip(64, bytes, base + u64::from(offset), DecoderOptions::NONE).decode()
        })
    }

    /// Moves the instructions to `code`; `None` and no effect if that cannot be.
    fn apply(self, base: u64, image: &mut [u8], code: &mut CodeArea, moved: &mut Vec<MovedInstruction>) -> Option<()> {
        let place = image.get_mut(self.first as usize..self.end as usize)?.len();
        let start = base + u64::from(self.first);
        let end = base + u64::from(self.end);
        // What each instruction is to the driver's compiler: what follows a write is between two of its instructions.
        let mut was = Vec::with_capacity(5);
        let mut block = Vec::with_capacity(5);
        for (instruction, next) in self.instructions(base, image).into_iter().zip([base + u64::from(self.second), end])
        {
            was.push(instruction.ip());
            block.push(if is_irql_access(&instruction) { thread_access(&instruction)? } else { instruction });
            if is_irql_write(&instruction) {
                was.push(next);
                block.push(Instruction::with_branch(Code::Call_rel32_64, lowering::lowered as *const () as u64).ok()?);
            }
        }
        was.push(end);
        block.push(Instruction::with_branch(Code::Jmp_rel32_64, end).ok()?);
        let now = code.next();
        let options = BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
        let encoded = BlockEncoder::encode(64, InstructionBlock::new(&block, now), options).ok()?;
        let distance = i32::try_from(now.wrapping_sub(start + u64::from(JUMP)) as i64).ok()?;
        if encoded.code_buffer.len() as u64 > MOVED_MAX || code.append(&encoded.code_buffer)? != now {
            return None;
        }
        let offsets = encoded.new_instruction_offsets.iter().zip(was);
        moved.extend(offsets.map(|(&offset, was)| MovedInstruction { now: now + u64::from(offset), was }));
        let mut jump = vec![FILLER; place];
        jump[0] = 0xE9;
        jump[1..JUMP as usize].copy_from_slice(&distance.to_le_bytes());
        image[self.first as usize..self.end as usize].copy_from_slice(&jump);
        Some(())
    }
}

/// Whether an instruction reads or writes CR8.
pub fn is_irql_access(instruction: &Instruction) -> bool {
    match instruction.code() {
        Code::Mov_r64_cr => instruction.op1_register() == Register::CR8,
        Code::Mov_cr_r64 => instruction.op0_register() == Register::CR8,
        _ => false,
    }
}

/// Whether an access to the IRQL writes it.
fn is_irql_write(access: &Instruction) -> bool {
    access.code() == Code::Mov_cr_r64
}

/// The access to the thread's block that does what an access to CR8 would.
fn thread_access(instruction: &Instruction) -> Option<Instruction> {
    let displacement = IRQL_OFFSET as i64;
    let irql = MemoryOperand::new(Register::None, Register::None, 1, displacement, 4, false, Register::GS);
    match instruction.code() {
        Code::Mov_r64_cr => {
            Instruction::with2(Code::Movzx_r32_rm8, instruction.op0_register().full_register32(), irql).ok()
        }
        _ => {
            let number = instruction.op1_register().number();
            Instruction::with2(Code::Mov_rm8_r8, irql, *LOW_BYTES.get(number)?).ok()
        }
    }
}

/// The low bytes of the general registers, by their number in instructions.
const LOW_BYTES: [Register; 16] = [
    Register::AL,
    Register::CL,
    Register::DL,
    Register::BL,
    Register::SPL,
    Register::BPL,
    Register::SIL,
    Register::DIL,
    Register::R8L,
    Register::R9L,
    Register::R10L,
    Register::R11L,
    Register::R12L,
    Register::R13L,
    Register::R14L,
    Register::R15L,
];

/// The address in the shared page that an instruction has as an eight-byte operand.
fn shared_address(map: &CodeMap<'_>, offset: u32, instruction: &Instruction) -> Option<Address> {
    let has_immediate = (0..instruction.op_count()).any(|index| instruction.op_kind(index) == OpKind::Immediate64);
    let value = if has_immediate {
        instruction.immediate64()
    } else if instruction.memory_displ_size() == 8 && instruction.memory_base() == Register::None {
        instruction.memory_displacement64()
    } else {
        return None;
    };
    let end = instruction.next_ip() as u32;
    if !shared_page::contains(value) || !map.is_certain(offset..end, &[offset]) {
        return None;
    }
    // Nothing follows an eight-byte operand in either kind of instruction.
    let at = end.checked_sub(8)?;
    (map.word(at)? == value).then_some(Address { instruction: offset, offset: at, value })
}

/// Whether one of the addresses at the offsets `relocated` lies over the eight bytes at an offset.
fn is_relocated(relocated: &[u32], offset: u32) -> bool {
    let first = relocated.partition_point(|&at| u64::from(at) + 8 <= offset.into());
    relocated.get(first).is_some_and(|&at| u64::from(at) < u64::from(offset) + 8)
}
