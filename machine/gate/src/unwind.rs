//! One step up the stack, through a function of an x64 PE image.
//!
//! An image says for each function how its prolog changed stack and registers ([`nt_abi::unwind`]); undoing that
//! leads to the caller. Versions 1 and 2 are understood, with chained information, odd numbers of codes,
//! machine frames and places inside prologs and epilogs.
//!
//! Everything read here, information, code and stack, is the driver's: it is read by guarded copies, every loop
//! is bounded, and what makes no sense is an error ([`Broken`]), never a guess.
//!
//! Source: Microsoft's description of x64 exception handling. Left out: version 3, which only images for
//! processors with APX use.

mod epilog;
#[cfg(test)]
mod tests;

use std::fmt;

use nt_abi::exception::Context;
use nt_abi::unwind::{NonvolatilePointers, RuntimeFunction, UnwindInfo, UnwindOperation, unwind_flag};

use crate::image::LoadedImage;
use crate::memory::{self, Plain};

/// Number of rsp in instructions and in [`Context::integer`].
pub(crate) const RSP: usize = 4;
/// xmm0 in [`Context::float_save`].
const VECTORS: usize = 10;
/// Entry of [`Context::float_save`] that a vector register is in.
pub(crate) const fn vector(number: usize) -> usize {
    VECTORS + number
}

/// Most links from a part of a function to its beginning.
const CHAIN_MAX: usize = 32;
/// Most 16-bit codes of a function.
const CODES_MAX: usize = 255;

/// Why a step up the stack is not possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Something that is needed cannot be read.
    Unreadable(u64),
    /// Information of an unknown version.
    Version(u8),
    /// An unknown code.
    Code(u8),
    /// A code whose operand lies behind the last code.
    CutShort,
    /// Links that do not end.
    Chain,
    /// The information says that this is an epilog, but the instructions are those of none.
    Epilog(u64),
    /// A stack pointer that is none: unaligned, outside of the stack, or not above the one before.
    Stack(u64),
    /// The return address into the host, or to the import's caller, is not where it has to be.
    Return(u64),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Unreadable(address) => write!(f, "address {address:#x} cannot be read"),
            Self::Version(version) => write!(f, "unwind information of unknown version {version}"),
            Self::Code(code) => write!(f, "unknown unwind code {code}"),
            Self::CutShort => f.write_str("unwind codes that are cut short"),
            Self::Chain => f.write_str("chained unwind information without an end"),
            Self::Epilog(pc) => write!(f, "no epilog at {pc:#x}, where unwind information has one"),
            Self::Stack(pointer) => write!(f, "{pointer:#x} cannot be a stack pointer there"),
            Self::Return(address) => write!(f, "{address:#x} cannot be the return address there"),
        }
    }
}

/// Reads something of the driver's.
pub(crate) fn read<T: Plain>(address: u64) -> Result<T, Broken> {
    memory::read_value(address).map_err(|fault| Broken::Unreadable(fault.address))
}

/// A function, or a part of one, as an image's table lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Function {
    /// Address of the table's entry.
    pub entry: u64,
    /// Base of the image.
    pub base: u64,
    /// The entry.
    pub range: RuntimeFunction,
}

/// The function that `pc` lies in. `None` for leaf functions, which have no entry, and for tables that are out of
/// order or cannot be read.
pub(crate) fn function_at(image: &LoadedImage, pc: u64) -> Option<Function> {
    let offset = u32::try_from(image.unmoved(pc).checked_sub(image.base)?).ok()?;
    let entry_size = size_of::<RuntimeFunction>() as u64;
    let entry_at = |index: u64| image.functions.start + index * entry_size;
    let count = image.functions.end.saturating_sub(image.functions.start) / entry_size;
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        let range = memory::read_value::<RuntimeFunction>(entry_at(middle)).ok()?;
        if offset < range.begin {
            high = middle;
        } else if offset >= range.end {
            low = middle + 1;
        } else {
            return direct(Function { entry: entry_at(middle), base: image.base, range });
        }
    }
    None
}

/// Follows an entry that only says which other entry counts.
fn direct(mut function: Function) -> Option<Function> {
    for _ in 0..CHAIN_MAX {
        if function.range.unwind & RuntimeFunction::INDIRECT == 0 {
            return Some(function);
        }
        function.entry = function.base.wrapping_add(u64::from(function.range.unwind & !RuntimeFunction::INDIRECT));
        function.range = memory::read_value(function.entry).ok()?;
    }
    None
}

/// What a function wants called for its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handler {
    /// Address of the language handler.
    pub routine: u64,
    /// Address of its data.
    pub data: u64,
    /// When: [`unwind_flag`].
    pub flags: u8,
}

/// What a step through a function told about its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unwound {
    /// The frame, as language handlers know it.
    pub establisher: u64,
    /// Its handler; none in a prolog or an epilog.
    pub handler: Option<Handler>,
}

/// Goes from `pc` in `function` to its caller: `context` holds the registers before, and after it those of the
/// caller. Notes in `saved` where registers were read from.
///
/// # Errors
/// [`Broken`]; `context` is then half changed.
pub(crate) fn unwind(
    function: &Function,
    pc: u64,
    context: &mut Context,
    saved: &mut NonvolatilePointers,
) -> Result<Unwound, Broken> {
    let offset = pc.wrapping_sub(function.base).wrapping_sub(u64::from(function.range.begin));
    let mut info = Info::read(function.base, function.range.unwind)?;
    let mut prolog = (offset < u64::from(info.fixed.prolog_size)).then_some(offset);
    let is_in_prolog = prolog.is_some();
    let frame = info.frame(context, prolog)?;
    let establisher = frame.unwrap_or(context.integer[RSP]);
    if !is_in_prolog && epilog::unwind(function, pc, &info, context, saved)? {
        return Ok(Unwound { establisher, handler: None });
    }
    let mut interrupted = false;
    for _ in 0..CHAIN_MAX {
        interrupted |= info.undo(prolog, frame, context, saved)?;
        let Some(next) = info.chained()? else {
            if !interrupted {
                leave(context)?;
            }
            let handler = if is_in_prolog { None } else { info.handler()? };
            return Ok(Unwound { establisher, handler });
        };
        info = Info::read(function.base, next.unwind)?;
        prolog = None;
    }
    Err(Broken::Chain)
}

/// Returns: goes from a leaf function, or from the first instruction of any, to its caller.
pub(crate) fn leave(context: &mut Context) -> Result<(), Broken> {
    context.rip = pop(context)?;
    Ok(())
}

fn pop(context: &mut Context) -> Result<u64, Broken> {
    let word = read(context.integer[RSP])?;
    context.integer[RSP] = context.integer[RSP].wrapping_add(8);
    Ok(word)
}

/// Unwind information, copied.
struct Info {
    base: u64,
    /// Where it lies.
    address: u64,
    fixed: UnwindInfo,
    codes: [[u8; 2]; CODES_MAX],
}

/// A code, taken apart.
#[derive(Clone, Copy)]
struct Code {
    /// Offset behind the prolog's instruction that it undoes.
    offset: u8,
    operation: UnwindOperation,
    info: u8,
}

impl Code {
    fn of([offset, rest]: [u8; 2]) -> Self {
        Self { offset, operation: UnwindOperation(rest & 0xF), info: rest >> 4 }
    }

    /// How many places it takes.
    fn length(self) -> usize {
        match self.operation {
            UnwindOperation::ALLOCATE_LARGE if self.info == 0 => 2,
            UnwindOperation::SAVE_REGISTER | UnwindOperation::SAVE_VECTOR | UnwindOperation::EPILOG => 2,
            UnwindOperation::ALLOCATE_LARGE | UnwindOperation::SAVE_REGISTER_FAR | UnwindOperation::SAVE_VECTOR_FAR => {
                3
            }
            _ => 1,
        }
    }
}

impl Info {
    fn read(base: u64, offset: u32) -> Result<Self, Broken> {
        let address = base.wrapping_add(u64::from(offset));
        let fixed: UnwindInfo = read(address)?;
        let mut info = Self { base, address, fixed, codes: [[0; 2]; CODES_MAX] };
        match info.version() {
            1 | 2 => {}
            version => return Err(Broken::Version(version)),
        }
        let bytes = info.codes[..usize::from(fixed.codes)].as_flattened_mut();
        memory::read(address.wrapping_add(size_of::<UnwindInfo>() as u64), bytes)
            .map_err(|fault| Broken::Unreadable(fault.address))?;
        Ok(info)
    }

    fn version(&self) -> u8 {
        self.fixed.version_and_flags & 7
    }

    fn flags(&self) -> u8 {
        self.fixed.version_and_flags >> 3
    }

    fn codes(&self) -> &[[u8; 2]] {
        &self.codes[..usize::from(self.fixed.codes)]
    }

    /// The codes with their operands.
    fn each(&self) -> impl Iterator<Item = Result<(Code, &[[u8; 2]]), Broken>> {
        let mut index = 0;
        std::iter::from_fn(move || {
            let code = Code::of(*self.codes().get(index)?);
            let operands = self.codes().get(index + 1..index + code.length());
            index += code.length();
            Some(operands.map(|operands| (code, operands)).ok_or(Broken::CutShort))
        })
    }

    /// The frame that saved registers are counted from, if a register holds it: `prolog` is how far into the
    /// prolog execution is, `None` behind it.
    fn frame(&self, context: &Context, prolog: Option<u64>) -> Result<Option<u64>, Broken> {
        let register = usize::from(self.fixed.frame & 0xF);
        let mut is_set = register != 0;
        if let (true, Some(offset)) = (is_set, prolog) {
            for code in self.each() {
                let (code, _) = code?;
                if code.operation == UnwindOperation::SET_FRAME_REGISTER {
                    is_set = u64::from(code.offset) <= offset;
                }
            }
        }
        Ok(is_set.then(|| context.integer[register].wrapping_sub(self.frame_offset())))
    }

    fn frame_offset(&self) -> u64 {
        u64::from(self.fixed.frame >> 4) * 16
    }

    /// Undoes what the prolog did, or what it did before its offset `prolog`. Returns whether a machine frame
    /// was left, so that no return address follows.
    fn undo(
        &self,
        prolog: Option<u64>,
        frame: Option<u64>,
        context: &mut Context,
        saved: &mut NonvolatilePointers,
    ) -> Result<bool, Broken> {
        let mut interrupted = false;
        for code in self.each() {
            let (code, operands) = code?;
            let is_done = prolog.is_none_or(|offset| u64::from(code.offset) <= offset);
            if is_done || code.operation == UnwindOperation::EPILOG {
                interrupted |= self.undo_one(code, operands, frame, context, saved)?;
            }
        }
        Ok(interrupted)
    }

    fn undo_one(
        &self,
        code: Code,
        operands: &[[u8; 2]],
        frame: Option<u64>,
        context: &mut Context,
        saved: &mut NonvolatilePointers,
    ) -> Result<bool, Broken> {
        let register = usize::from(code.info);
        // A 16-bit operand counts units, a 32-bit one bytes.
        let operand = |unit: u64| match *operands {
            [low] => u64::from(u16::from_le_bytes(low)) * unit,
            [low, high] => u64::from(u32::from_le_bytes([low[0], low[1], high[0], high[1]])),
            _ => 0,
        };
        let stack = context.integer[RSP];
        let saved_at = |unit| frame.unwrap_or(stack).wrapping_add(operand(unit));
        match code.operation {
            UnwindOperation::PUSH_REGISTER => {
                context.integer[register] = read(stack)?;
                saved.integer[register] = stack;
                // Also when it was rsp that was pushed, which no compiler does.
                context.integer[RSP] = stack.wrapping_add(8);
            }
            UnwindOperation::ALLOCATE_LARGE => context.integer[RSP] = stack.wrapping_add(operand(8)),
            UnwindOperation::ALLOCATE_SMALL => context.integer[RSP] = stack.wrapping_add(u64::from(code.info) * 8 + 8),
            UnwindOperation::SET_FRAME_REGISTER => {
                let register = usize::from(self.fixed.frame & 0xF);
                let place = frame.unwrap_or(context.integer[register].wrapping_sub(self.frame_offset()));
                context.integer[RSP] = place;
            }
            UnwindOperation::SAVE_REGISTER | UnwindOperation::SAVE_REGISTER_FAR => {
                let place = saved_at(8);
                context.integer[register] = read(place)?;
                saved.integer[register] = place;
            }
            UnwindOperation::SAVE_VECTOR | UnwindOperation::SAVE_VECTOR_FAR => {
                let place = saved_at(16);
                context.float_save[vector(register)] = read(place)?;
                saved.vector[register] = place;
            }
            UnwindOperation::PUSH_MACHINE_FRAME => {
                // rip, cs, eflags, rsp, ss; an error code below them if the operand says so.
                let place = stack.wrapping_add(8 * u64::from(code.info & 1));
                context.rip = read(place)?;
                context.integer[RSP] = read(place.wrapping_add(24))?;
                return Ok(true);
            }
            UnwindOperation::EPILOG if self.version() >= 2 => {}
            UnwindOperation(unknown) => return Err(Broken::Code(unknown)),
        }
        Ok(false)
    }

    /// Where what follows the codes lies.
    fn trailer(&self) -> u64 {
        let codes = u64::from(self.fixed.codes).next_multiple_of(2);
        self.address.wrapping_add(size_of::<UnwindInfo>() as u64 + 2 * codes)
    }

    fn chained(&self) -> Result<Option<RuntimeFunction>, Broken> {
        if self.flags() & unwind_flag::CHAINED == 0 {
            return Ok(None);
        }
        read(self.trailer()).map(Some)
    }

    fn handler(&self) -> Result<Option<Handler>, Broken> {
        let flags = self.flags() & (unwind_flag::EXCEPTION_HANDLER | unwind_flag::TERMINATION_HANDLER);
        if flags == 0 {
            return Ok(None);
        }
        let place = self.trailer();
        let routine = self.base.wrapping_add(u64::from(read::<u32>(place)?));
        Ok(Some(Handler { routine, data: place.wrapping_add(4), flags }))
    }
}

/// The entry that stands for the whole function that `function` is a part of.
fn primary(function: &Function) -> Result<RuntimeFunction, Broken> {
    let mut range = function.range;
    for _ in 0..CHAIN_MAX {
        match Info::read(function.base, range.unwind)?.chained()? {
            Some(next) => range = next,
            None => return Ok(range),
        }
    }
    Err(Broken::Chain)
}
