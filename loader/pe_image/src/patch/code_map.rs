//! Which bytes of an image are certainly instructions, and which of them something may jump to.
//!
//! Functions that the image lists for unwinding are decoded from end to end, since compilers put nothing but code
//! in them; others by following the flow from the entry point, exports and call targets. A place may be jumped to
//! if a branch leads there, if an instruction takes its address, if an address in the image is its, or, where the
//! function has a handler of exceptions, if any word of the image looks like its offset: tables of handlers hold
//! such. A function with a jump to a computed place, or with
//! bytes that are no instruction, is one about which this is not certain.

use std::collections::HashSet;
use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

use crate::functions::Function;
use crate::layout::Layout;
use crate::view::View;

/// Longest instruction of the architecture.
const INSTRUCTION_MAX: u32 = 15;

/// The instructions of an image, by offset.
#[derive(Debug)]
pub struct CodeMap<'a> {
    image: &'a [u8],
    areas: Vec<Area>,
    functions: &'a [Function],
    /// Functions, or gaps between them, with bytes that do not decode.
    garbled: HashSet<u32>,
    /// Functions, or gaps between them, with jumps to computed places.
    branching: HashSet<u32>,
}

/// An executable section as far as the file fills it.
#[derive(Debug)]
struct Area {
    range: Range<u32>,
    /// Bytes that an instruction starts at.
    starts: Bits,
    /// Bytes that something may jump to.
    entered: Bits,
}

#[derive(Debug)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(count: u32) -> Self {
        Self(vec![0; count.div_ceil(64) as usize])
    }

    fn get(&self, index: u32) -> bool {
        self.0[index as usize / 64] >> (index % 64) & 1 != 0
    }

    fn set(&mut self, index: u32) {
        self.0[index as usize / 64] |= 1 << (index % 64);
    }
}

impl<'a> CodeMap<'a> {
    /// Decodes an image. `roots` are offsets that are called from outside; `base` is what the addresses at the
    /// offsets `relocated` count from.
    pub fn of(
        image: &'a [u8],
        layout: &Layout,
        functions: &'a [Function],
        roots: impl IntoIterator<Item = u32>,
        base: u64,
        relocated: &[u32],
    ) -> Self {
        let areas = layout.code().map(Layout::filled).filter(|range| !range.is_empty());
        let areas = areas.map(|range| {
            let length = range.end - range.start;
            Area { range, starts: Bits::new(length), entered: Bits::new(length) }
        });
        let mut map =
            Self { image, areas: areas.collect(), functions, garbled: HashSet::new(), branching: HashSet::new() };
        let mut found = Vec::new();
        for function in functions {
            map.enter(function.begin);
            map.decode(function.begin..function.end, true, &mut found);
        }
        found.extend(roots);
        while let Some(at) = found.pop() {
            map.enter(at);
            let next = functions.partition_point(|function| function.begin <= at);
            let end = match functions[..next].last() {
                Some(function) if at < function.end => function.end,
                _ => functions.get(next).map_or(u32::MAX, |function| function.begin),
            };
            map.decode(at..end, false, &mut found);
        }
        map.enter_what_data_names(layout, base, relocated);
        map
    }

    /// Every instruction, in order, with its offset. Addresses in it are offsets too.
    pub fn instructions(&self) -> impl Iterator<Item = (u32, Instruction)> {
        let offsets = self
            .areas
            .iter()
            .flat_map(|area| area.range.clone().filter(|offset| area.starts.get(offset - area.range.start)));
        offsets.filter_map(|offset| Some((offset, self.at(offset)?)))
    }

    /// The instruction that starts at an offset, if one certainly does.
    pub fn at(&self, offset: u32) -> Option<Instruction> {
        let area = self.area(offset)?;
        if !area.starts.get(offset - area.range.start) {
            return None;
        }
        let bytes = &self.image[offset as usize..area.range.end as usize];
        let instruction = Decoder::with_ip(64, bytes, offset.into(), DecoderOptions::NONE).decode();
        (!instruction.is_invalid()).then_some(instruction)
    }

    /// The instruction in front of the one at an offset.
    pub fn before(&self, offset: u32) -> Option<Instruction> {
        (1..=INSTRUCTION_MAX.min(offset))
            .filter_map(|length| self.at(offset - length))
            .find(|instruction| instruction.next_ip() == u64::from(offset))
    }

    /// Whether the bytes of a range are these instructions, starting at `starts`, and nothing else: no other
    /// instruction lies over them, and the function they are in decodes throughout.
    pub fn is_certain(&self, range: Range<u32>, starts: &[u32]) -> bool {
        let owner = self.owner(range.start);
        if self.garbled.contains(&owner) || self.owner(range.end - 1) != owner {
            return false;
        }
        let overlapping = (1..INSTRUCTION_MAX)
            .filter_map(|back| self.at(range.start.checked_sub(back)?))
            .any(|instruction| instruction.next_ip() > u64::from(range.start));
        !overlapping && range.filter(|&offset| self.starts_at(offset)).eq(starts.iter().copied())
    }

    /// Whether something may jump to a place inside a range, other than to its beginning.
    pub fn may_be_entered(&self, range: Range<u32>) -> bool {
        self.branching.contains(&self.owner(range.start))
            || (range.start + 1..range.end)
                .any(|offset| self.area(offset).is_none_or(|area| area.entered.get(offset - area.range.start)))
    }

    /// The eight bytes at an offset.
    pub fn word(&self, offset: u32) -> Option<u64> {
        View(self.image).u64(offset)
    }

    fn area(&self, offset: u32) -> Option<&Area> {
        self.areas.iter().find(|area| area.range.contains(&offset))
    }

    fn starts_at(&self, offset: u32) -> bool {
        self.area(offset).is_some_and(|area| area.starts.get(offset - area.range.start))
    }

    /// The last function that begins at an offset or in front of it.
    fn last_function(&self, offset: u32) -> Option<&'a Function> {
        let next = self.functions.partition_point(|function| function.begin <= offset);
        self.functions[..next].last()
    }

    /// The function that an offset lies in.
    fn function(&self, offset: u32) -> Option<&'a Function> {
        self.last_function(offset).filter(|function| offset < function.end)
    }

    /// What an offset belongs to: a function by its first offset, or a gap between functions by its.
    pub fn owner(&self, offset: u32) -> u32 {
        match self.last_function(offset) {
            Some(function) if offset < function.end => function.whole,
            Some(function) => function.end,
            None => 0,
        }
    }

    /// Notes that something may jump to an offset.
    fn enter(&mut self, offset: u32) {
        if let Some(area) = self.areas.iter_mut().find(|area| area.range.contains(&offset)) {
            area.entered.set(offset - area.range.start);
        }
    }

    /// Decodes from the beginning of a range until its end, or, unless `throughout`, until the flow ends; adds
    /// branch targets to `found`. Stops at what was decoded before, so all decoding together is linear.
    fn decode(&mut self, range: Range<u32>, throughout: bool, found: &mut Vec<u32>) {
        let Some(area) = self.area(range.start) else { return };
        let end = range.end.min(area.range.end);
        let image = self.image;
        let bytes = &image[range.start as usize..end as usize];
        let mut decoder = Decoder::with_ip(64, bytes, range.start.into(), DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        while decoder.can_decode() {
            let at = decoder.ip() as u32;
            if self.starts_at(at) {
                break;
            }
            decoder.decode_out(&mut instruction);
            if instruction.is_invalid() {
                self.garbled.insert(self.owner(at));
                break;
            }
            self.start(at);
            self.follow(at, &instruction, found);
            if !throughout && ends_flow(&instruction) {
                break;
            }
        }
    }

    fn start(&mut self, offset: u32) {
        if let Some(area) = self.areas.iter_mut().find(|area| area.range.contains(&offset)) {
            area.starts.set(offset - area.range.start);
        }
    }

    /// Notes where an instruction can lead.
    fn follow(&mut self, at: u32, instruction: &Instruction, found: &mut Vec<u32>) {
        let target = match instruction.op0_kind() {
            OpKind::NearBranch64 => Some(instruction.near_branch_target()),
            _ if instruction.is_ip_rel_memory_operand() => Some(instruction.ip_rel_memory_address()),
            _ => None,
        };
        let is_branch = instruction.op0_kind() == OpKind::NearBranch64;
        if let Some(target) = target.and_then(|target| u32::try_from(target).ok()) {
            self.enter(target);
            if is_branch && !self.starts_at(target) && self.area(target).is_some() {
                found.push(target);
            }
        }
        // A jump through a fixed cell is the way into an import; any other may lead anywhere in its function.
        if instruction.flow_control() == FlowControl::IndirectBranch && !instruction.is_ip_rel_memory_operand() {
            self.branching.insert(self.owner(at));
        }
    }

    fn enter_what_data_names(&mut self, layout: &Layout, base: u64, relocated: &[u32]) {
        let image = View(self.image);
        // What Windows throws away after loading (debugging information, most of it) is not looked at by handlers.
        for section in layout.sections.iter().filter(|section| section.is_executable() || !section.is_discardable()) {
            let filled = Layout::filled(section);
            for offset in (filled.start.next_multiple_of(4)..filled.end).step_by(4) {
                if let Some(value) = image.u32(offset)
                    && self.area(value).is_some()
                    && self.function(value).is_none_or(|function| function.handler.is_some())
                {
                    self.enter(value);
                }
            }
        }
        for &offset in relocated {
            let value = image.u64(offset).map(|address| address.wrapping_sub(base));
            if let Some(value) = value.and_then(|value| u32::try_from(value).ok()) {
                self.enter(value);
            }
        }
    }
}

/// Whether nothing is known to follow an instruction.
fn ends_flow(instruction: &Instruction) -> bool {
    match instruction.flow_control() {
        FlowControl::Return
        | FlowControl::UnconditionalBranch
        | FlowControl::IndirectBranch
        | FlowControl::Exception => true,
        FlowControl::Interrupt => match instruction.mnemonic() {
            Mnemonic::Int3 => true,
            // Fast fail.
            _ => instruction.op0_kind() == OpKind::Immediate8 && instruction.immediate8() == 0x29,
        },
        _ => false,
    }
}

/// Whether an instruction does the same elsewhere, and cannot fault there (so no handler of exceptions ever sees
/// where it is): its memory operands are on the stack, in the thread's block, or read from the image.
pub fn is_movable(instruction: &Instruction) -> bool {
    let flow = match instruction.flow_control() {
        FlowControl::Next | FlowControl::Return | FlowControl::UnconditionalBranch => true,
        FlowControl::ConditionalBranch => instruction.is_jcc_short_or_near(),
        _ => false,
    };
    let excluded = instruction.is_privileged()
        || instruction.has_lock_prefix()
        || instruction.is_string_instruction()
        || matches!(
            instruction.mnemonic(),
            Mnemonic::Div | Mnemonic::Idiv | Mnemonic::Rdtsc | Mnemonic::Rdtscp | Mnemonic::Ud0 | Mnemonic::Ud1
        );
    flow && !excluded && (0..instruction.op_count()).all(|operand| is_safe_operand(instruction, operand))
}

fn is_safe_operand(instruction: &Instruction, operand: u32) -> bool {
    match instruction.op_kind(operand) {
        OpKind::Memory => {
            let is_on_stack =
                instruction.memory_base() == Register::RSP && instruction.memory_index() == Register::None;
            let is_of_thread = instruction.memory_segment() == Register::GS
                && instruction.memory_base() == Register::None
                && instruction.memory_index() == Register::None;
            let is_read_from_image = instruction.is_ip_rel_memory_operand() && operand != 0;
            instruction.mnemonic() == Mnemonic::Lea
                || instruction.memory_segment() != Register::FS && (is_on_stack || is_of_thread || is_read_from_image)
        }
        OpKind::FarBranch16 | OpKind::FarBranch32 => false,
        kind => !matches!(
            kind,
            OpKind::MemorySegSI
                | OpKind::MemorySegESI
                | OpKind::MemorySegRSI
                | OpKind::MemorySegDI
                | OpKind::MemorySegEDI
                | OpKind::MemorySegRDI
                | OpKind::MemoryESDI
                | OpKind::MemoryESEDI
                | OpKind::MemoryESRDI
        ),
    }
}
