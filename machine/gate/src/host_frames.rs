//! Steps up the stack through the host's own functions.
//!
//! Between a driver's import and the driver code that the host calls on its behalf lie frames of Rust code. They
//! are never unwound over a fault: they return. But whoever looks for an exception's handler, or lists the
//! drivers' frames, has to know the registers of the driver code below them, and Rust's code says in
//! `.eh_frame` where it saved them, also with `panic = "abort"`.
//!
//! Invariants: no allocation and no lock, because signal handlers come here too; the stack is read by guarded
//! copies. The modules are looked up once, by [`prepare`].

use std::sync::OnceLock;

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, EndianSlice, LittleEndian, ParsedEhFrameHdr, Register, RegisterRule,
    UnwindContext, UnwindContextStorage, UnwindSection, UnwindTableRow,
};
use nt_abi::exception::Context;

use crate::unwind::{Broken, RSP, read, vector};

/// Most frames between an import and a call into a driver.
const FRAMES_MAX: usize = 4096;

type Bytes = EndianSlice<'static, LittleEndian>;

/// A loaded ELF file.
struct Module {
    start: u64,
    end: u64,
    bases: BaseAddresses,
    frames: EhFrame<Bytes>,
    header: ParsedEhFrameHdr<Bytes>,
}

static MODULES: OnceLock<Vec<Module>> = OnceLock::new();

/// Looks up where the loaded files keep their unwind tables. Later calls do nothing.
pub(crate) fn prepare() {
    MODULES.get_or_init(|| {
        let mut modules: Vec<Module> = Vec::new();
        // SAFETY: the callback gets `modules`, which outlives the call.
        unsafe { libc::dl_iterate_phdr(Some(add_module), (&raw mut modules).cast()) };
        modules
    });
}

extern "C" fn add_module(info: *mut libc::dl_phdr_info, _: libc::size_t, modules: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the loader's description is valid during the call; `prepare` passed its vector.
    let (info, modules) = unsafe { (&*info, &mut *modules.cast::<Vec<Module>>()) };
    // SAFETY: as the loader says.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    modules.extend(module(info.dlpi_addr, headers));
    0
}

fn module(base: u64, headers: &[libc::Elf64_Phdr]) -> Option<Module> {
    let range = |header: &libc::Elf64_Phdr| {
        let start = base + header.p_vaddr;
        (start, start + header.p_memsz)
    };
    let loaded = || headers.iter().filter(|header| header.p_type == libc::PT_LOAD).map(range);
    let bytes = |(start, end): (u64, u64)| {
        // SAFETY: part of a loaded segment, which stays mapped and unchanged: nothing here unloads libraries.
        let bytes = unsafe { std::slice::from_raw_parts(start as *const u8, (end - start) as usize) };
        EndianSlice::new(bytes, LittleEndian)
    };
    let table = headers.iter().find(|header| header.p_type == libc::PT_GNU_EH_FRAME).map(range)?;
    let (start, end) = (loaded().map(|(start, _)| start).min()?, loaded().map(|(_, end)| end).max()?);
    let bases = BaseAddresses::default().set_eh_frame_hdr(table.0);
    let header = EhFrameHdr::from(bytes(table)).parse(&bases, 8).ok()?;
    let gimli::Pointer::Direct(frames) = header.eh_frame_ptr() else { return None };
    let (_, segment_end) = loaded().find(|(start, end)| (*start..*end).contains(&frames))?;
    let bases = bases.set_eh_frame(frames);
    Some(Module { start, end, bases, frames: EhFrame::from(bytes((frames, segment_end))), header })
}

fn module_of(pc: u64) -> Option<&'static Module> {
    MODULES.get()?.iter().find(|module| (module.start..module.end).contains(&pc))
}

/// Whether `pc` lies in the host's code.
pub(crate) fn covers(pc: u64) -> bool {
    module_of(pc).is_some()
}

/// Room for one function's rules; the default would be on the heap.
struct OnStack;

impl UnwindContextStorage<usize> for OnStack {
    // rip, 6 integer and 10 vector registers are the most that a function preserves.
    type Rules = [(Register, RegisterRule<usize>); 32];
    type Stack = [UnwindTableRow<usize, Self>; 3];
}

/// Goes from host code up to where the import returns that was entered with its return address at `entry`:
/// `context` then holds the registers of the code that called it. `is_interrupted` says that execution is at
/// `context.rip`, instead of having to return there.
///
/// # Errors
/// [`Broken`] if the frames do not lead there; `context` is then half changed.
pub(crate) fn unwind_to(context: &mut Context, entry: u64, is_interrupted: bool) -> Result<(), Broken> {
    let pc = context.rip.wrapping_sub(u64::from(!is_interrupted));
    climb(context, entry, pc, |_| true)
}

/// [`unwind_to`] from an interruption, for frames that will not be returned to: those but the innermost must be of the host's
/// executable, since libraries may be in the middle of something.
///
/// # Errors
/// As [`unwind_to`], and if frames of a library are among them.
pub(crate) fn leave_to(context: &mut Context, entry: u64) -> Result<(), Broken> {
    let innermost = context.rip;
    let executable = MODULES.get().and_then(|modules| modules.first());
    let is_own = |pc: u64| executable.is_some_and(|module| (module.start..module.end).contains(&pc));
    climb(context, entry, innermost, |pc| pc == innermost || is_own(pc))
}

fn climb(context: &mut Context, entry: u64, mut pc: u64, may_pass: impl Fn(u64) -> bool) -> Result<(), Broken> {
    for _ in 0..FRAMES_MAX {
        if !may_pass(pc) {
            break;
        }
        let before = context.integer[RSP];
        if before > entry {
            break;
        }
        step(context, pc)?;
        let stack = context.integer[RSP];
        if stack == entry + 8 {
            return Ok(());
        }
        if stack <= before {
            return Err(Broken::Stack(stack));
        }
        pc = context.rip.wrapping_sub(1);
    }
    Err(Broken::Return(context.rip))
}

/// Where registers lie in a [`Context`], by their numbers in DWARF.
const INTEGER: [usize; 16] = [0, 2, 1, 3, 6, 7, 5, 4, 8, 9, 10, 11, 12, 13, 14, 15];
const RETURN_ADDRESS: u16 = 16;
const VECTORS: std::ops::Range<u16> = 17..33;

/// Goes from the function that `pc` lies in to its caller.
fn step(context: &mut Context, pc: u64) -> Result<(), Broken> {
    let unknown = Broken::Return(context.rip);
    let module = module_of(pc).ok_or(unknown)?;
    let mut rows = UnwindContext::<usize, OnStack>::new_in();
    let table = module.header.table().ok_or(unknown)?;
    let row = table
        .unwind_info_for_address(&module.frames, &module.bases, &mut rows, pc, EhFrame::cie_from_offset)
        .map_err(|_| unknown)?;
    let CfaRule::RegisterAndOffset { register, offset } = *row.cfa() else { return Err(unknown) };
    let register = *INTEGER.get(usize::from(register.0)).ok_or(unknown)?;
    let frame = context.integer[register].wrapping_add_signed(offset);
    let mut caller = *context;
    caller.integer[RSP] = frame;
    for &(Register(register), ref rule) in row.registers() {
        let place = match *rule {
            RegisterRule::Offset(offset) => frame.wrapping_add_signed(offset),
            RegisterRule::Undefined | RegisterRule::SameValue => continue,
            _ => return Err(unknown),
        };
        match register {
            RETURN_ADDRESS => caller.rip = read(place)?,
            number if VECTORS.contains(&number) => {
                caller.float_save[vector(usize::from(number - VECTORS.start))] = read(place)?;
            }
            number => {
                *INTEGER.get(usize::from(number)).map(|&at| &mut caller.integer[at]).ok_or(unknown)? = read(place)?
            }
        }
    }
    *context = caller;
    Ok(())
}
