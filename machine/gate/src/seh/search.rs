//! The first phase: which handler wants the exception?

use nt_abi::exception::{BugCheck, Context, Disposition, ExceptionRecord, exception_flag};
use nt_abi::unwind::{DispatcherContext, unwind_flag};
use nt_abi::{Irql, NtStatus};

use super::{leave_imports, misplaced, new_record, switch, tame};
use crate::bugcheck::{self, Registers, Stop};
use crate::call::{self, Purpose};
use crate::fault::{Access, Place, Touched, WhileServing, caller_of, is_canonical, name_at};
use crate::stub::Import;
use crate::text::Text;
use crate::thread::{self, HostThread};
use crate::unwind::{Broken, RSP};
use crate::walk::{Frame, Step, Walk};
use crate::{block, image, memory};

/// A search that is calling a handler.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking {
    /// Registers where the exception happened.
    pub context: *const Context,
    /// The frame whose handler is called.
    pub frame: u64,
}

/// Where an exception comes from, for the report that nobody took it.
#[derive(Clone, Copy, Debug)]
struct Origin {
    /// The import that raised it or faulted; none for driver code.
    import: Option<&'static Import>,
    /// Where in the host's code it faulted, 0 if it did not.
    host: u64,
}

/// Where the fault handler lets a thread go on after a fault of driver code, on the stack below it, or after one at `host` in the
/// host's code that served `import`. Neither of the first two pointers is the driver's.
pub(crate) extern "C" fn fault(
    record: &mut ExceptionRecord,
    context: &mut Context,
    import: Option<&'static Import>,
    host: u64,
) -> ! {
    // Without an import the fourth register holds anything.
    let host = import.map_or(0, |_| host);
    run(record, context, Origin { import, host })
}

/// Goes on after `import` raised `record` at `context`.
pub(super) fn raised(record: &mut ExceptionRecord, context: &mut Context, import: Option<&'static Import>) -> ! {
    run(record, context, Origin { import, host: 0 })
}

fn run(record: &mut ExceptionRecord, context: &mut Context, origin: Origin) -> ! {
    let host = thread::current();
    leave_imports(host);
    // SAFETY: the calling thread's block.
    let walk = unsafe { Walk::from_fault(context, host) };
    let why = match walk.and_then(|mut walk| ask_all(&mut walk, record, context)) {
        Ok(Answer::Continue) => go_on(record, context, origin),
        Ok(Answer::Invalid) => again(NtStatus::INVALID_DISPOSITION, record, context, origin),
        Ok(Answer::Nobody) => None,
        Err(broken) => {
            record.flags |= exception_flag::STACK_INVALID;
            Some(broken)
        }
    };
    unhandled(host, record, context, origin, why)
}

enum Answer {
    /// The damage is repaired.
    Continue,
    /// A handler's answer makes no sense.
    Invalid,
    /// Nobody wants it.
    Nobody,
}

/// Asks the handlers of all frames. One that takes the exception does not return here.
fn ask_all(walk: &mut Walk, record: &mut ExceptionRecord, context: &mut Context) -> Result<Answer, Broken> {
    // The outermost frame that a handler of was being asked when this exception happened.
    let mut nested_in = 0;
    loop {
        match walk.step()? {
            Step::End => return Ok(Answer::Nobody),
            Step::Host(call) => {
                if !walk.cross(call)? {
                    return Ok(Answer::Nobody);
                }
                // SAFETY: linked records are alive.
                if let Purpose::Search(asking) = unsafe { (*call).purpose } {
                    record.flags |= exception_flag::NESTED_CALL;
                    // SAFETY: as above.
                    nested_in = nested_in.max(unsafe { (*asking).frame });
                }
            }
            Step::Frame(frame) => {
                if frame.unwound.establisher > nested_in {
                    record.flags &= !exception_flag::NESTED_CALL;
                }
                match ask(walk, &frame, record, context) {
                    Disposition::CONTINUE_EXECUTION => return Ok(Answer::Continue),
                    Disposition::CONTINUE_SEARCH => {}
                    Disposition::NESTED_EXCEPTION => record.flags |= exception_flag::NESTED_CALL,
                    _ => return Ok(Answer::Invalid),
                }
            }
        }
    }
}

fn ask(walk: &Walk, frame: &Frame, record: &mut ExceptionRecord, context: &mut Context) -> Disposition {
    let Some(handler) = frame.unwound.handler.filter(|handler| handler.flags & unwind_flag::EXCEPTION_HANDLER != 0)
    else {
        return Disposition::CONTINUE_SEARCH;
    };
    let mut frame_context = walk.context;
    let mut dispatcher = DispatcherContext {
        control_pc: frame.image.unmoved(frame.pc),
        image_base: frame.image.base,
        function_entry: frame.function.map_or(0, |function| function.entry),
        establisher_frame: frame.unwound.establisher,
        target_ip: 0,
        context: &mut frame_context,
        language_handler: handler.routine,
        handler_data: handler.data,
        history_table: 0,
        scope_index: frame.scope,
        fill: 0,
    };
    let asking = Asking { context, frame: frame.unwound.establisher };
    let arguments = [
        std::ptr::from_mut(record) as u64,
        frame.unwound.establisher,
        std::ptr::from_mut(context) as u64,
        &raw mut dispatcher as u64,
    ];
    // SAFETY: what the driver's unwind information names as this frame's handler is called as one. The frames of
    // this function and its callers up to `run` may be abandoned by an unwinding: they hold nothing.
    Disposition(unsafe { call::driver_for(Purpose::Search(&asking), handler.routine, arguments) } as u32)
}

/// Execution goes on, as a filter wanted.
fn go_on(record: &ExceptionRecord, context: &mut Context, origin: Origin) -> ! {
    if record.flags & exception_flag::NONCONTINUABLE != 0 {
        again(NtStatus::NONCONTINUABLE_EXCEPTION, record, context, origin);
    }
    tame(context);
    if let Some(message) = misplaced(context) {
        end(BugCheck::KMODE_EXCEPTION_NOT_HANDLED, record, context, origin, message.as_str());
    }
    // SAFETY: driver code on its own stack; the frames of the search hold nothing.
    unsafe { switch::restore(context) }
}

/// Another exception in the place of one that was handled wrongly.
fn again(code: NtStatus, record: &ExceptionRecord, context: &mut Context, origin: Origin) -> ! {
    let mut nested = new_record(code, record.address, &[]);
    nested.flags = exception_flag::NONCONTINUABLE;
    nested.record = std::ptr::from_ref(record) as u64;
    run(&mut nested, context, Origin { host: 0, ..origin })
}

/// Whether touching `address` now is the end whatever handlers there are (K-151): above APC_LEVEL no page fault
/// is allowed, and addresses of the system's half either exist or are a bug. The host's own addresses are the
/// system's half here; they are not negative, as no address of a Linux process is.
pub(crate) fn is_fatal_access(address: u64) -> bool {
    bugcheck::irql() >= Irql::DISPATCH || is_system_address(address)
}

fn is_system_address(address: u64) -> bool {
    address >= arena::plan::IMAGES && address != u64::MAX
}

/// The bugcheck for an access to memory. `operation` is 0 for reads, 1 for writes, 8 for fetches; `is_present`
/// says that memory is there, but not for this.
pub(crate) fn access_bugcheck(address: u64, operation: u64, is_present: bool, rip: u64) -> (BugCheck, [u64; 4]) {
    let irql = bugcheck::irql();
    if irql >= Irql::DISPATCH {
        return (BugCheck::DRIVER_IRQL_NOT_LESS_OR_EQUAL, [address, u64::from(irql.0), operation, rip]);
    }
    match operation {
        1 if is_present => (BugCheck::ATTEMPTED_WRITE_TO_READONLY_MEMORY, [address, 0, rip, 10]),
        8 if is_present => (BugCheck::ATTEMPTED_EXECUTE_OF_NOEXECUTE_MEMORY, [address, 0, rip, 2]),
        // Reads are 0 here too, writes 2, fetches 16.
        _ => (BugCheck::PAGE_FAULT_IN_NONPAGED_AREA, [address, operation * 2, rip, 0]),
    }
}

/// Ends the run because the host, on behalf of the import being served, touched memory that it may not.
pub(super) fn end_at_access(address: u64, operation: u64) -> ! {
    let caller = thread::caller();
    let (code, parameters) = access_bugcheck(address, operation, false, caller);
    let name = bugcheck::serving().map_or("Drydock", |import| import.name);
    let (access, place) = (Access(operation), Place(address));
    bugcheck::with_message(
        code,
        parameters,
        caller,
        format_args!("The driver let {name} touch memory: it {access} {place}."),
    )
}

/// Ends the run because host code that serves no import raised.
pub(super) fn unhandled_in_host(record: &ExceptionRecord) -> ! {
    let code = record.code;
    bugcheck::with_message(
        BugCheck::KMODE_EXCEPTION_NOT_HANDLED,
        [u64::from(code.0), record.address, record.information[0], record.information[1]],
        0,
        format_args!("Drydock raised {code:?} where no driver was calling."),
    )
}

/// Ends the run by an exception that nobody wanted.
fn unhandled(
    host: *mut HostThread,
    record: &ExceptionRecord,
    context: &Context,
    origin: Origin,
    why: Option<Broken>,
) -> ! {
    let mut text = Text::<512>::new();
    describe(record, context, origin, &mut text);
    match why {
        Some(broken) => {
            text.push(format_args!(" Its handler cannot be found, because the stack cannot be unwound: {broken}."))
        }
        None if record.flags & exception_flag::NESTED_CALL != 0 => {
            text.push(format_args!(" It happened while a handler of another exception ran, and no handler took it."));
        }
        None => {}
    }
    // SAFETY: the calling thread's block. Threads that the kernel starts run inside of `call::enter`.
    let is_system_thread = unsafe { !(*host).escape.is_null() };
    let code = if is_system_thread {
        BugCheck::SYSTEM_THREAD_EXCEPTION_NOT_HANDLED
    } else {
        BugCheck::KMODE_EXCEPTION_NOT_HANDLED
    };
    end(code, record, context, origin, text.as_str())
}

fn end(code: BugCheck, record: &ExceptionRecord, context: &Context, origin: Origin, message: &str) -> ! {
    let parameters = if code == BugCheck::SYSTEM_THREAD_EXCEPTION_NOT_HANDLED {
        [
            u64::from(record.code.0),
            record.address,
            std::ptr::from_ref(record) as u64,
            std::ptr::from_ref(context) as u64,
        ]
    } else {
        [u64::from(record.code.0), record.address, record.information[0], record.information[1]]
    };
    bugcheck::stop(&Stop {
        code,
        parameters,
        rip: blame(record, context),
        import: origin.import,
        registers: Some(Registers::of(context)),
        on: None,
        message,
    })
}

/// The driver instruction that is responsible: where it happened, or what called or jumped to there.
fn blame(record: &ExceptionRecord, context: &Context) -> u64 {
    if image::find(record.address).is_some() {
        return record.address;
    }
    if image::find(context.rip).is_some() {
        return context.rip;
    }
    let stack = context.integer[RSP];
    let top = memory::read_value(stack).unwrap_or(0);
    if image::find(top).is_some() {
        return top;
    }
    // The host called there.
    block::installed().map_or(0, |block| caller_of(record.address, stack, block.host()))
}

fn describe<const N: usize>(record: &ExceptionRecord, context: &Context, origin: Origin, text: &mut Text<N>) {
    let [operation, address, ..] = record.information;
    match origin {
        Origin { import: Some(import), host: 0 } => {
            text.push(format_args!("{} raised {:?}, and no handler took it.", import.name, record.code));
            return;
        }
        Origin { import: Some(import), host } => {
            let what = Touched { operation, address };
            text.push(format_args!("{}", WhileServing { import, what, host }));
            return;
        }
        Origin { import: None, .. } => {}
    }
    match record.code {
        NtStatus::ACCESS_VIOLATION if operation == 8 => {
            let place = Place(address);
            let called = memory::read_value(context.integer[RSP]).ok().filter(|&top| image::find(top).is_some());
            match called {
                Some(_) => text.push(format_args!("The driver called or jumped to {place}.")),
                None => text.push(format_args!("A routine that the driver named was called, but it is {place}.")),
            }
        }
        NtStatus::ACCESS_VIOLATION if !is_canonical(record.address) => {
            let place = Place(record.address);
            text.push(format_args!("A routine that the driver named was called, but it is {place}."));
        }
        NtStatus::ACCESS_VIOLATION if address == u64::MAX => {
            text.push(format_args!("The driver used an address that no pointer can have."));
        }
        NtStatus::ACCESS_VIOLATION => {
            text.push(format_args!("The driver {} {}.", Access(operation), Place(address)));
        }
        NtStatus::PRIVILEGED_INSTRUCTION => text.push(format_args!(
            "The driver executed an instruction that Drydock neither executes nor emulates: {}.",
            name_at(record.address)
        )),
        code => text.push(format_args!("{}", explanation(code))),
    }
}

/// What the driver did to get an exception of the processor.
fn explanation(code: NtStatus) -> &'static str {
    match code {
        NtStatus::BREAKPOINT => "The driver stopped at a breakpoint, and no kernel debugger is attached.",
        NtStatus::SINGLE_STEP => "The driver set the trap flag or executed int 1.",
        NtStatus::ILLEGAL_INSTRUCTION => {
            "The driver executed an instruction that this processor does not have, or ud2."
        }
        NtStatus::INTEGER_DIVIDE_BY_ZERO => "The driver divided by zero, or the quotient was too large.",
        NtStatus::ASSERTION_FAILURE => "An assertion of the driver failed (int 2Ch).",
        NtStatus::NONCONTINUABLE_EXCEPTION => {
            "A filter let execution go on after an exception that cannot be continued."
        }
        NtStatus::INVALID_DISPOSITION => "A language handler of the driver gave an answer that does not exist.",
        _ => "The driver caused a floating-point or other exception of the processor.",
    }
}
