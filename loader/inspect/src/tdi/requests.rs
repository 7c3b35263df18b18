//! TDI requests that an image's code builds.
//!
//! The `TdiBuild...` macros are compiled into the driver: they write the major and minor function into the IRP's next
//! stack location, which lies 0x48 bytes in front of the one that the IRP points to at offset 0xB8 (D-001, K-001).
//! What registers hold is followed through straight code, as far as it is a constant or such a location; a request
//! whose code is computed is not seen, and branches are not followed, so this suggests and does not prove.

use std::collections::HashMap;

use iced_x86::{
    FlowControl, Instruction, InstructionInfoFactory, InstructionInfoOptions, Mnemonic, OpAccess, OpKind, Register,
};
use nt_abi::tdi::{TdiEvent, TdiRequest};
use pe_image::{Code, ImageFile};

/// `IRP_MJ_INTERNAL_DEVICE_CONTROL`.
const INTERNAL_DEVICE_CONTROL: u8 = 0x0F;
/// Offset of `CurrentStackLocation` in an IRP.
const CURRENT_LOCATION: u64 = 0xB8;
/// Where the next stack location lies, from the current one.
const MAJOR: i64 = -0x48;
const MINOR: i64 = MAJOR + 1;
/// Where its parameters lie; an event's type comes first.
const PARAMETERS: i64 = MAJOR + 8;
/// Most places on the stack that are followed.
const STACK_MAX: usize = 256;

/// A request that is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuiltRequest {
    /// Offset of the instruction that writes the major function.
    pub offset: u32,
    pub request: TdiRequest,
    /// For which event it sets a handler, if that is a constant.
    pub event: Option<TdiEvent>,
}

/// The requests that an image's code builds, by offset.
pub fn requests(layout: &ImageFile, code: &Code<'_>) -> Vec<BuiltRequest> {
    let mut follower = Follower::new(layout);
    let mut last = (u32::MAX, u32::MAX);
    for (offset, instruction) in code.instructions() {
        let here = (code.owner(offset), offset);
        if here != last {
            follower.forget();
        }
        follower.follow(offset, &instruction);
        last = (here.0, instruction.next_ip() as u32);
    }
    follower.forget();
    let mut found = follower.found;
    found.sort_by_key(|request| request.offset);
    found
}

/// What is known of a register or of a place on the stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Value {
    #[default]
    Unknown,
    Constant(u64),
    /// An IRP's current stack location, plus this.
    Location(i64),
}

struct Follower<'a> {
    layout: &'a ImageFile,
    info: InstructionInfoFactory,
    registers: [Value; 16],
    stack: HashMap<(Register, u64), Value>,
    /// Bytes written to the request being built, by their distance from the current stack location.
    written: HashMap<i64, u8>,
    /// Where its major function was written.
    started: u32,
    found: Vec<BuiltRequest>,
}

impl<'a> Follower<'a> {
    fn new(layout: &'a ImageFile) -> Self {
        Self {
            layout,
            info: InstructionInfoFactory::new(),
            registers: [Value::Unknown; 16],
            stack: HashMap::new(),
            written: HashMap::new(),
            started: 0,
            found: Vec::new(),
        }
    }

    /// Begins anew, in another function.
    fn forget(&mut self) {
        self.finish();
        self.registers = [Value::Unknown; 16];
        self.stack.clear();
    }

    /// Notes the request that was being built, if it is one.
    fn finish(&mut self) {
        let written = std::mem::take(&mut self.written);
        let request = written.get(&MINOR).copied().map(TdiRequest).filter(|request| is_request(*request));
        if let (Some(&INTERNAL_DEVICE_CONTROL), Some(request)) = (written.get(&MAJOR), request) {
            let event: Option<Vec<_>> = (0..4).map(|byte| written.get(&(PARAMETERS + byte)).copied()).collect();
            let event = event.and_then(|bytes| Some(TdiEvent(u32::from_le_bytes(bytes.try_into().ok()?))));
            let event = event.filter(|_| request == TdiRequest::SET_EVENT_HANDLER);
            self.found.push(BuiltRequest { offset: self.started, request, event });
        }
    }

    fn follow(&mut self, offset: u32, instruction: &Instruction) {
        let result = self.result(instruction);
        if matches!(instruction.mnemonic(), Mnemonic::Mov | Mnemonic::Movups | Mnemonic::Movaps)
            && instruction.op0_kind() == OpKind::Memory
        {
            self.store(offset, instruction);
        }
        let used = self.info.info_options(instruction, InstructionInfoOptions::NO_MEMORY_USAGE).used_registers();
        let changes = |access| {
            matches!(access, OpAccess::Write | OpAccess::ReadWrite | OpAccess::CondWrite | OpAccess::ReadCondWrite)
        };
        for register in used.iter().filter(|used| changes(used.access())).map(|used| used.register()) {
            if let Some(number) = general(register) {
                self.registers[number] = Value::Unknown;
            }
        }
        if matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall) {
            // rax, rcx, rdx, and r8 to r11 are lost in a call.
            for number in [0, 1, 2, 8, 9, 10, 11] {
                self.registers[number] = Value::Unknown;
            }
        }
        if let Some((number, value)) = result {
            self.registers[number] = value;
        }
    }

    /// What an instruction leaves in a register, if that is known.
    fn result(&self, instruction: &Instruction) -> Option<(usize, Value)> {
        let to = instruction.op0_register();
        let number = general(to).filter(|_| instruction.op0_kind() == OpKind::Register && to.size() >= 4)?;
        let value = match (instruction.mnemonic(), instruction.op1_kind()) {
            (Mnemonic::Mov, OpKind::Register) => self.register(instruction.op1_register())?,
            (Mnemonic::Mov | Mnemonic::Movzx, OpKind::Memory) => self.load(instruction)?,
            (Mnemonic::Mov, _) => Value::Constant(instruction.immediate(1)),
            (Mnemonic::Xor, OpKind::Register) if instruction.op1_register() == to => Value::Constant(0),
            (Mnemonic::Lea, _) if instruction.memory_index() == Register::None => {
                let Value::Location(at) = self.register(instruction.memory_base())? else { return None };
                Value::Location(at.wrapping_add(instruction.memory_displacement64() as i64))
            }
            (Mnemonic::Add, kind) if kind != OpKind::Register && kind != OpKind::Memory => {
                let Value::Location(at) = self.registers[number] else { return None };
                Value::Location(at.wrapping_add(instruction.immediate(1) as i64))
            }
            (Mnemonic::Sub, kind) if kind != OpKind::Register && kind != OpKind::Memory => {
                let Value::Location(at) = self.registers[number] else { return None };
                Value::Location(at.wrapping_sub(instruction.immediate(1) as i64))
            }
            _ => return None,
        };
        Some((number, value))
    }

    fn register(&self, register: Register) -> Option<Value> {
        general(register).map(|number| self.registers[number])
    }

    fn load(&self, instruction: &Instruction) -> Option<Value> {
        let size = instruction.memory_size().size();
        if instruction.is_ip_rel_memory_operand() {
            let at = u32::try_from(instruction.ip_rel_memory_address()).ok()?;
            return self.constant(at, size).map(Value::Constant);
        }
        if instruction.memory_index() != Register::None || size != 8 {
            return None;
        }
        let (base, displacement) = (instruction.memory_base(), instruction.memory_displacement64());
        if let Some(value) = self.stack.get(&(base, displacement)) {
            return Some(*value);
        }
        (displacement == CURRENT_LOCATION && base != Register::RSP).then_some(Value::Location(0))
    }

    /// A constant that the driver cannot change.
    fn constant(&self, at: u32, size: usize) -> Option<u64> {
        let section = self
            .layout
            .sections()
            .iter()
            .find(|section| (section.offset..section.offset + section.size).contains(&at))?;
        let bytes = self.layout.bytes(at..at.checked_add(size as u32)?).filter(|bytes| bytes.len() <= 8)?;
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        (!section.is_writable()).then_some(u64::from_le_bytes(word))
    }

    fn store(&mut self, offset: u32, instruction: &Instruction) {
        let (base, displacement) = (instruction.memory_base(), instruction.memory_displacement64());
        let size = instruction.memory_size().size();
        let value = match instruction.op1_kind() {
            OpKind::Register => self.register(instruction.op1_register()).unwrap_or_default(),
            _ => Value::Constant(instruction.immediate(1)),
        };
        if instruction.memory_index() != Register::None {
            return;
        }
        if let Some(Value::Location(at)) = self.register(base) {
            let at = at.wrapping_add(displacement as i64);
            let range = at..at.wrapping_add(size as i64);
            // The one before is complete when another begins, whichever of the two codes is written first.
            let is_complete = self.written.contains_key(&MAJOR) && self.written.contains_key(&MINOR);
            if is_complete && (range.contains(&MAJOR) || range.contains(&MINOR)) {
                self.finish();
            }
            if range.contains(&MAJOR) {
                self.started = offset;
            }
            for (byte, place) in range.enumerate() {
                match value {
                    Value::Constant(value) if byte < 8 => self.written.insert(place, (value >> (8 * byte)) as u8),
                    _ => self.written.remove(&place),
                };
            }
        } else if matches!(base, Register::RSP | Register::RBP) && self.stack.len() < STACK_MAX {
            let value = if size == 8 { value } else { Value::Unknown };
            self.stack.insert((base, displacement), value);
        }
    }
}

fn is_request(request: TdiRequest) -> bool {
    matches!(request.0, 0x01..=0x0E | 0x27 | 0x29 | 0x2A)
}

/// The number of a general register, whatever part of it is named.
fn general(register: Register) -> Option<usize> {
    let full = register.full_register();
    full.is_gpr64().then(|| full.number())
}
