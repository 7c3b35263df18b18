//! What drivers import of exceptions and of the stack.

use nt_abi::NtStatus;
use nt_abi::exception::{CONTEXT_FULL, Context, Disposition, ExceptionRecord, exception_flag};
use nt_abi::unwind::{DispatcherContext, NonvolatilePointers, RuntimeFunction, unwind_flag};

use super::scope::{c_specific_handler, unwind_when_returned};
use super::switch::{self, capture_context};
use super::unwind::Target;
use super::{Action, Pending, Precedence, new_record, raise, raise_fault, raise_record, raise_with, read_record};
use crate::memory::{self, Fault};
use crate::unwind::{self, Broken, Function, RSP};
use crate::walk::{Step, Walk};
use crate::{image, thread};

crate::exports! {
    /// Exceptions, unwinding, and the stack.
    pub static TABLE in "ntoskrnl.exe";
    "__C_specific_handler" = c_specific_handler(record: *mut ExceptionRecord, frame: u64, context: *mut Context, dispatcher: *mut DispatcherContext) -> Disposition, rules "K-014";
    "_local_unwind" = local_unwind(frame: u64, ip: u64), rules "K-014";
    "ExRaiseStatus" | "RtlRaiseStatus" = ex_raise_status(status: NtStatus), rules "K-014";
    "ExRaiseAccessViolation" = ex_raise_access_violation(), rules "K-014";
    "ExRaiseDatatypeMisalignment" = ex_raise_datatype_misalignment(), rules "K-014";
    "RtlRaiseException" | "ExRaiseException" = rtl_raise_exception(record: u64), rules "K-014";
    "ProbeForRead" = probe_for_read(address: u64, length: u64, alignment: u32), irql <= APC, rules "K-014";
    "ProbeForWrite" = probe_for_write(address: u64, length: u64, alignment: u32), irql <= APC, rules "K-014";
    "RtlUnwind" = rtl_unwind(frame: u64, ip: u64, record: u64, value: u64), rules "K-014";
    "RtlUnwindEx" = rtl_unwind_ex(frame: u64, ip: u64, record: u64, value: u64, context: u64, history: u64), rules "K-014";
    "RtlLookupFunctionEntry" = rtl_lookup_function_entry(pc: u64, base: u64, history: u64) -> u64, rules "K-014";
    "RtlVirtualUnwind" = rtl_virtual_unwind(handler_type: u32, base: u64, pc: u64, function: u64, context: u64, handler_data: u64, establisher: u64, pointers: u64) -> u64, rules "K-014";
    "RtlCaptureContext" = capture_context(context: *mut Context), rules "K-014";
    "RtlRestoreContext" = rtl_restore_context(context: u64, record: u64), rules "K-014";
    "RtlCaptureStackBackTrace" = rtl_capture_stack_back_trace(skip: u32, count: u32, into: u64, hash: u64) -> u16, rules "K-014";
    "RtlWalkFrameChain" = rtl_walk_frame_chain(into: u64, count: u32, flags: u32) -> u32, rules "K-014";
    "RtlGetCallersAddress" = rtl_get_callers_address(caller: u64, its_caller: u64), rules "K-014";
    "RtlPcToFileHeader" = rtl_pc_to_file_header(pc: u64, base: u64) -> u64, rules "K-014";
}

unsafe extern "win64" fn ex_raise_status(status: NtStatus) {
    raise(status);
}

unsafe extern "win64" fn ex_raise_access_violation() {
    raise(NtStatus::ACCESS_VIOLATION);
}

unsafe extern "win64" fn ex_raise_datatype_misalignment() {
    raise(NtStatus::DATATYPE_MISALIGNMENT);
}

unsafe extern "win64" fn rtl_raise_exception(record: u64) {
    match read_record(record) {
        Ok(mut record) => {
            record.address = thread::caller();
            record.flags &= exception_flag::NONCONTINUABLE;
            raise_record(record);
        }
        Err(fault) => raise_fault(fault),
    }
}

/// Checks a range as ProbeForRead and ProbeForWrite do; the memory itself is not touched. Nothing is checked for
/// an empty range.
fn check_user_range(address: u64, length: u64, alignment: u32) -> Result<(), NtStatus> {
    if length == 0 {
        return Ok(());
    }
    if address & u64::from(alignment).saturating_sub(1) != 0 {
        return Err(NtStatus::DATATYPE_MISALIGNMENT);
    }
    match address.checked_add(length) {
        Some(end) if end <= memory::USER_PROBE_ADDRESS => Ok(()),
        _ => Err(NtStatus::ACCESS_VIOLATION),
    }
}

unsafe extern "win64" fn probe_for_read(address: u64, length: u64, alignment: u32) {
    if let Err(status) = check_user_range(address, length, alignment) {
        raise(status);
    }
}

unsafe extern "win64" fn probe_for_write(address: u64, length: u64, alignment: u32) {
    const WRITE: u64 = 1;
    if let Err(status) = check_user_range(address, length, alignment) {
        return raise(status);
    }
    if let Err(fault) = memory::probe_write(address, length as usize) {
        raise_with(NtStatus::ACCESS_VIOLATION, &[WRITE, fault.address]);
    }
}

/// The record that handlers see when the driver gave none.
fn unwind_record(record: u64) -> Result<ExceptionRecord, Fault> {
    match record {
        0 => Ok(new_record(NtStatus::UNWIND, thread::caller(), &[])),
        record => read_record(record),
    }
}

unsafe extern "win64" fn rtl_unwind_ex(frame: u64, ip: u64, record: u64, value: u64, _context: u64, _history: u64) {
    match unwind_record(record) {
        Ok(record) => unwind_when_returned(Target { frame, ip, record, value }),
        Err(fault) => raise_fault(fault),
    }
}

unsafe extern "win64" fn rtl_unwind(frame: u64, ip: u64, record: u64, value: u64) {
    // SAFETY: the same import in all but its last two arguments.
    unsafe { rtl_unwind_ex(frame, ip, record, value, 0, 0) }
}

unsafe extern "win64" fn local_unwind(frame: u64, ip: u64) {
    // SAFETY: as above.
    unsafe { rtl_unwind_ex(frame, ip, 0, 0, 0, 0) }
}

unsafe extern "win64" fn rtl_lookup_function_entry(pc: u64, base: u64, _history: u64) -> u64 {
    let found = image::find(pc).and_then(|image| unwind::function_at(image, pc).map(|function| (image, function)));
    let Some((image, function)) = found else { return 0 };
    match memory::write_value(base, image.base) {
        Ok(()) => function.entry,
        Err(fault) => {
            raise_fault(fault);
            0
        }
    }
}

/// Why a service of this module did not do what it was asked for.
enum Failure {
    Fault(Fault),
    Broken(Broken),
}

impl Failure {
    fn raise(self) {
        match self {
            Self::Fault(fault) => raise_fault(fault),
            Self::Broken(Broken::Unreadable(address)) => raise_fault(Fault::reading(address)),
            Self::Broken(_) => raise(NtStatus::BAD_STACK),
        }
    }
}

fn get<T: memory::Plain>(address: u64) -> Result<T, Failure> {
    memory::read_value(address).map_err(Failure::Fault)
}

fn put<T: memory::Plain>(address: u64, value: T) -> Result<(), Failure> {
    memory::write_value(address, value).map_err(Failure::Fault)
}

#[allow(clippy::too_many_arguments, reason = "NT's signature")]
unsafe extern "win64" fn rtl_virtual_unwind(
    handler_type: u32,
    base: u64,
    pc: u64,
    function: u64,
    context: u64,
    handler_data: u64,
    establisher: u64,
    pointers: u64,
) -> u64 {
    let step = || {
        let mut registers: Context = get(context)?;
        let mut saved = if pointers == 0 { NonvolatilePointers::default() } else { get(pointers)? };
        let stack = registers.integer[RSP];
        let unwound = if function == 0 {
            unwind::leave(&mut registers).map_err(Failure::Broken)?;
            unwind::Unwound { establisher: stack, handler: None }
        } else {
            let function = Function { entry: function, base, range: get::<RuntimeFunction>(function)? };
            unwind::unwind(&function, pc, &mut registers, &mut saved).map_err(Failure::Broken)?
        };
        put(context, registers)?;
        put(establisher, unwound.establisher)?;
        if pointers != 0 {
            put(pointers, saved)?;
        }
        let wanted = handler_type as u8 & (unwind_flag::EXCEPTION_HANDLER | unwind_flag::TERMINATION_HANDLER);
        let Some(handler) = unwound.handler.filter(|handler| handler.flags & wanted != 0) else { return Ok(0) };
        put(handler_data, handler.data)?;
        Ok(handler.routine)
    };
    step().unwrap_or_else(|failure: Failure| {
        failure.raise();
        0
    })
}

/// Writes the registers that [`capture_context`] has saved to the driver's structure.
pub(super) unsafe extern "win64" fn write_captured(context: u64, registers: *const Context) {
    // SAFETY: integers, for which zero is a value.
    let mut captured: Context = unsafe { std::mem::zeroed() };
    captured.context_flags = CONTEXT_FULL;
    captured.segments = switch::SEGMENTS;
    // SAFETY: the thunk's own structure, of which it has filled these fields.
    unsafe {
        captured.integer = (*registers).integer;
        captured.rip = (*registers).rip;
        captured.eflags = (*registers).eflags;
        captured.mx_csr = (*registers).mx_csr;
        for number in 0..16 {
            captured.float_save[unwind::vector(number)] = (*registers).float_save[unwind::vector(number)];
        }
    }
    if let Err(failure) = put(context, captured) {
        failure.raise();
    }
}

unsafe extern "win64" fn rtl_restore_context(context: u64, _record: u64) {
    match get(context) {
        Ok(context) => {
            // SAFETY: the calling thread's block; this import is being served.
            unsafe {
                let host = thread::current();
                Pending::put(host, (*host).entry, Action::Restore(Box::new(context)), Precedence::Last);
            }
        }
        Err(failure) => failure.raise(),
    }
}

/// Gives the addresses in driver code that the stack leads through to `take`, from the caller of the import on,
/// until it wants no more. A stack that cannot be followed further ends.
fn each_frame(mut take: impl FnMut(u64) -> bool) {
    let context = switch::capture();
    // SAFETY: the calling thread's block.
    let Ok(mut walk) = (unsafe { Walk::from_anywhere(&context, thread::current(), false) }) else { return };
    loop {
        let pc = walk.context.rip;
        if let Some(image) = image::find(pc)
            && !take(image.unmoved(pc))
        {
            return;
        }
        match walk.step() {
            Ok(Step::Frame(_)) => {}
            Ok(Step::Host(call)) if matches!(walk.cross(call), Ok(true)) => {}
            _ => return,
        }
    }
}

/// Writes up to `count` addresses behind the first `skip` to the driver's array and gives their number.
fn capture_frames(skip: u32, count: u32, into: u64) -> Result<(u32, u32), Failure> {
    let (mut seen, mut taken, mut hash) = (0, 0, 0u32);
    let mut failure = None;
    each_frame(|pc| {
        seen += 1;
        if seen <= skip {
            return true;
        }
        if taken == count {
            return false;
        }
        if let Err(failed) = put(into.wrapping_add(u64::from(taken) * 8), pc) {
            failure = Some(failed);
            return false;
        }
        taken += 1;
        hash = hash.wrapping_add(pc as u32);
        true
    });
    failure.map_or(Ok((taken, hash)), Err)
}

unsafe extern "win64" fn rtl_capture_stack_back_trace(skip: u32, count: u32, into: u64, hash: u64) -> u16 {
    let captured = capture_frames(skip, count.min(u32::from(u16::MAX)), into);
    let done = captured.and_then(|(taken, sum)| {
        if hash != 0 {
            put(hash, sum)?;
        }
        Ok(taken as u16)
    });
    done.unwrap_or_else(|failure| {
        failure.raise();
        0
    })
}

unsafe extern "win64" fn rtl_walk_frame_chain(into: u64, count: u32, flags: u32) -> u32 {
    // The upper bits say how many frames to leave out.
    capture_frames(flags >> 8, count, into).map_or(0, |(taken, _)| taken)
}

unsafe extern "win64" fn rtl_get_callers_address(caller: u64, its_caller: u64) {
    let mut frames = [0; 3];
    let mut found = 0;
    each_frame(|pc| {
        frames[found] = pc;
        found += 1;
        found < frames.len()
    });
    // The first is in the function that asks.
    let written = put(caller, frames[1]).and_then(|()| put(its_caller, frames[2]));
    if let Err(failure) = written {
        failure.raise();
    }
}

unsafe extern "win64" fn rtl_pc_to_file_header(pc: u64, base: u64) -> u64 {
    let found = image::find(pc).map_or(0, |image| image.base);
    if let Err(failure) = put(base, found) {
        failure.raise();
    }
    found
}
