//! The second phase: termination handlers, up to the frame that wants to go on.

use nt_abi::NtStatus;
use nt_abi::exception::{BugCheck, Context, Disposition, ExceptionRecord, exception_flag};
use nt_abi::unwind::{DispatcherContext, unwind_flag};

use super::{Action, Pending, Precedence, leave_imports, misplaced, switch, tame};
use crate::bugcheck::{self, Registers, Stop};
use crate::call::{self, CallRecord, Purpose};
use crate::text::Text;
use crate::thread::{self, HostThread};
use crate::unwind::{Broken, RSP};
use crate::walk::{Frame, Progress, Step, Walk};

/// Where an unwinding leads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// The frame that goes on; 0 for none.
    pub frame: u64,
    /// Where in it.
    pub ip: u64,
    /// What termination handlers are shown.
    pub record: ExceptionRecord,
    /// Goes into rax.
    pub value: u64,
}

/// Unwinds from `start`, where an import returns to, to the target.
///
/// What it takes along is a copy, because it may leave by way of host frames ([`through_host`]), which run where
/// its own were.
pub(super) fn run(target: &Target, start: &Context) -> ! {
    let host = thread::current();
    leave_imports(host);
    // SAFETY: the calling thread's block.
    let mut walk = unsafe { Walk::new(start, host) };
    let mut record = target.record;
    record.flags |= exception_flag::UNWINDING;
    if target.frame == 0 {
        record.flags |= exception_flag::EXIT_UNWIND;
    }
    loop {
        let before = walk.context;
        let call = walk.record();
        let frame = match walk.step() {
            Ok(Step::Frame(frame)) => frame,
            Ok(Step::Host(call)) => {
                // SAFETY: linked records are alive.
                if let Purpose::Unwind(_) = unsafe { (*call).purpose } {
                    record.flags |= exception_flag::COLLIDED_UNWIND;
                }
                cross(host, &mut walk, call, target);
                continue;
            }
            Ok(Step::End) => lost(target, &before, None),
            Err(broken) => lost(target, &before, Some(broken)),
        };
        let is_target = target.frame != 0 && frame.unwound.establisher == target.frame;
        if target.frame != 0 && frame.unwound.establisher > target.frame {
            lost(target, &before, None);
        }
        if is_target {
            record.flags |= exception_flag::TARGET_UNWIND;
        }
        clean_up(&frame, &before, &mut record, target);
        record.flags &= !exception_flag::COLLIDED_UNWIND;
        if is_target {
            arrive(host, call, before, target);
        }
    }
}

/// Goes below the host's call: at once where only exceptions are looked after, else by letting the host return.
fn cross(host: *mut HostThread, walk: &mut Walk, call: *mut CallRecord, target: &Target) {
    // SAFETY: linked records are alive.
    let (purpose, entry) = unsafe { ((*call).purpose, (*call).entry) };
    match purpose {
        Purpose::Service if entry == 0 => lost(target, &walk.context, None),
        Purpose::Service => through_host(host, call, entry, walk.context, target),
        Purpose::Search(_) | Purpose::Unwind(_) => match walk.cross(call) {
            Ok(_) => {}
            Err(broken) => lost(target, &walk.context, Some(broken)),
        },
    }
}

/// Lets the host function behind `call` return, from its call of the driver on; `context` is there. Unwinding
/// goes on when the import that was entered at `entry` returns.
fn through_host(host: *mut HostThread, call: *mut CallRecord, entry: u64, mut context: Context, target: &Target) -> ! {
    // SAFETY: the import that `call` was made for has not returned, so its return address is at `entry`.
    unsafe { Pending::put(host, entry, Action::Unwind(*target), Precedence::Last) };
    // SAFETY: the calling thread's block.
    unsafe { (*host).innermost = call };
    context.integer[0] = u64::from(NtStatus::UNHANDLED_EXCEPTION.0);
    tame(&mut context);
    // SAFETY: a call of the host's, whose frame is intact, with the registers that its callee had to preserve;
    // the walk has checked the place. The frames below it are the driver's, unwound, and this module's.
    unsafe { switch::restore(&context) }
}

/// Calls the termination handler of a frame, whose own registers are in `before`.
fn clean_up(frame: &Frame, before: &Context, record: &mut ExceptionRecord, target: &Target) {
    let Some(handler) = frame.unwound.handler.filter(|handler| handler.flags & unwind_flag::TERMINATION_HANDLER != 0)
    else {
        return;
    };
    let mut context = *before;
    let mut dispatcher = DispatcherContext {
        control_pc: frame.image.unmoved(frame.pc),
        image_base: frame.image.base,
        function_entry: frame.function.map_or(0, |function| function.entry),
        establisher_frame: frame.unwound.establisher,
        target_ip: target.ip,
        context: &mut context,
        language_handler: handler.routine,
        handler_data: handler.data,
        history_table: 0,
        scope_index: frame.scope,
        fill: 0,
    };
    let of_frame = dispatcher.context as u64;
    let dispatcher = &raw mut dispatcher;
    let progress = Progress { context: before, dispatcher };
    let arguments = [std::ptr::from_mut(record) as u64, frame.unwound.establisher, of_frame, dispatcher as u64];
    // SAFETY: what the driver's unwind information names as this frame's handler is called as one. The frames of
    // this function and of `run` may be abandoned by another unwinding: they hold nothing.
    let answer = unsafe { call::driver_for(Purpose::Unwind(&progress), handler.routine, arguments) };
    if Disposition(answer as u32) != Disposition::CONTINUE_SEARCH {
        let mut text = Text::<128>::new();
        text.push(format_args!(
            "A termination handler of the driver answered {:?}; only CONTINUE_SEARCH makes sense.",
            Disposition(answer as u32)
        ));
        end(NtStatus::INVALID_DISPOSITION, before, text.as_str());
    }
}

/// Goes on in the target frame, whose registers are `context`; `call` is the host's call that it runs in.
fn arrive(host: *mut HostThread, call: *mut CallRecord, mut context: Context, target: &Target) -> ! {
    context.rip = target.ip;
    context.integer[0] = target.value;
    tame(&mut context);
    // SAFETY: the calling thread's block.
    unsafe { (*host).innermost = call };
    // SAFETY: a driver's frame that the walk has found intact, at the place that its driver named. Everything
    // below it is unwound; frames of this module hold nothing.
    unsafe { switch::restore(&context) }
}

/// `RtlRestoreContext`: goes on with registers that the driver made up, or took earlier. Frames are left without
/// a word, but only the driver's own: a host function that called it must return.
pub(super) fn restore(mut context: Context) -> ! {
    let host = thread::current();
    let stack = context.integer[RSP];
    // SAFETY: the calling thread's block; linked records are alive.
    unsafe {
        let mut call = (*host).innermost;
        while !call.is_null() && (call as u64) < stack {
            if matches!((*call).purpose, Purpose::Service) && (*call).entry != 0 {
                end(
                    NtStatus::INVALID_UNWIND_TARGET,
                    &context,
                    "The driver went on in a frame (RtlRestoreContext) from which it was called by way of the kernel.",
                );
            }
            call = (*call).previous;
        }
        (*host).innermost = call;
    }
    if let Some(message) = misplaced(&context) {
        end(NtStatus::INVALID_UNWIND_TARGET, &context, message.as_str());
    }
    tame(&mut context);
    // SAFETY: driver code on its own stack; what lies below is this module's or abandoned by the driver.
    unsafe { switch::restore(&context) }
}

/// The target is not where unwinding leads.
fn lost(target: &Target, context: &Context, why: Option<Broken>) -> ! {
    let mut text = Text::<256>::new();
    match (target.frame, why) {
        (_, Some(broken)) => text.push(format_args!("The stack cannot be unwound: {broken}.")),
        (0, None) => {
            text.push(format_args!("The driver unwound its whole stack, which ends the thread; Drydock ends the run."))
        }
        (frame, None) => {
            text.push(format_args!("The driver unwound to a frame at {frame:#x}, but there is none on its stack."))
        }
    }
    let code = if why.is_some() { NtStatus::BAD_STACK } else { NtStatus::INVALID_UNWIND_TARGET };
    end(code, context, text.as_str())
}

fn end(code: NtStatus, context: &Context, message: &str) -> ! {
    bugcheck::stop(&Stop {
        code: BugCheck::KMODE_EXCEPTION_NOT_HANDLED,
        parameters: [u64::from(code.0), context.rip, context.integer[RSP], 0],
        rip: context.rip,
        import: None,
        registers: Some(Registers::of(context)),
        on: None,
        message,
    })
}
