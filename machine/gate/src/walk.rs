//! The stack of a thread, as drivers would see it on Windows: their own frames, one below the other.
//!
//! Drivers and the host call each other, so their frames alternate. Driver frames are gone through by their
//! unwind information ([`crate::unwind`]). Where driver code was called by the host, the chain of
//! [`CallRecord`]s says on whose behalf, and the walk goes on in that driver ([`Walk::cross`]):
//! - below an import, where the import returns;
//! - below the search for an exception's handler, where the exception happened;
//! - below an unwinding, in the frame that is being unwound, whose first scopes are done.
//!
//! Every step must lead up the thread's stack, so a walk ends whatever a driver has done to it.

use nt_abi::exception::Context;
use nt_abi::unwind::{DispatcherContext, NonvolatilePointers};

use crate::call::{CallRecord, Purpose};
use crate::image::{self, LoadedImage};
use crate::thread::HostThread;
use crate::unwind::{self, Broken, Function, RSP, Unwound, read};
use crate::{host_frames, seh};

/// Furthest that a call's record lies above the stack pointer of its call.
const RECORD_DISTANCE_MAX: u64 = 64 << 10;

/// An unwinding that is calling a handler.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// Registers of the frame whose handler is called.
    pub context: *const Context,
    /// What the handler was given; it counts the finished scopes in there.
    pub dispatcher: *const DispatcherContext,
}

/// A walk up a thread's stack.
pub(crate) struct Walk {
    /// Registers of the frame that [`Walk::step`] looks at next.
    pub context: Context,
    host: *mut HostThread,
    /// The host-to-driver call whose driver frames are being gone through, null if no record says so.
    record: *mut CallRecord,
    /// Scopes of the next frame that are done.
    scope: u32,
}

/// What a step found.
pub(crate) enum Step {
    /// A driver frame; the walk's context is now its caller's.
    Frame(Frame),
    /// The host's call of the frame before. [`Walk::cross`] goes on, or the walk ends.
    Host(*mut CallRecord),
    /// Nothing more of drivers.
    End,
}

/// A driver frame.
pub(crate) struct Frame {
    /// Where execution is in it.
    pub pc: u64,
    pub image: &'static LoadedImage,
    /// `None` for a leaf function.
    pub function: Option<Function>,
    pub unwound: Unwound,
    /// Scopes of `__C_specific_handler` that are done.
    pub scope: u32,
}

impl Walk {
    /// A walk from `context`, which is driver code, or the place in the host that its import returns to.
    ///
    /// # Safety
    /// `host` is the calling thread's.
    pub unsafe fn new(context: &Context, host: *mut HostThread) -> Self {
        // SAFETY: the caller's promise.
        Self { context: *context, host, record: unsafe { (*host).innermost }, scope: 0 }
    }

    /// A walk from a fault of driver code, or of a call of something that is no code.
    ///
    /// # Errors
    /// [`Broken`] when whoever called cannot be told.
    ///
    /// # Safety
    /// `host` is the calling thread's.
    pub unsafe fn from_fault(context: &Context, host: *mut HostThread) -> Result<Self, Broken> {
        // SAFETY: the caller's promise.
        let mut walk = unsafe { Self::new(context, host) };
        walk.leave_nowhere()?;
        Ok(walk)
    }

    /// Goes to whoever called, if execution is where no code is.
    fn leave_nowhere(&mut self) -> Result<(), Broken> {
        let rip = self.context.rip;
        if image::find(rip).is_none() && !host_frames::covers(rip) {
            unwind::leave(&mut self.context)?;
        }
        Ok(())
    }

    /// A walk from wherever `context` is: driver code, host code that serves an import, or a place without code
    /// that something called. `is_interrupted` as in [`host_frames::unwind_to`].
    ///
    /// # Safety
    /// `host` is the calling thread's.
    ///
    /// # Errors
    /// [`Broken`] when the driver code below cannot be told.
    pub unsafe fn from_anywhere(
        context: &Context,
        host: *mut HostThread,
        is_interrupted: bool,
    ) -> Result<Self, Broken> {
        // SAFETY: the caller's promise.
        let mut walk = unsafe { Self::new(context, host) };
        if image::find(context.rip).is_some() || !host_frames::covers(context.rip) {
            // SAFETY: the caller's promise.
            return unsafe { Self::from_fault(context, host) };
        }
        // SAFETY: the caller's promise.
        let entry = unsafe { (*host).entry };
        if entry == 0 {
            walk.record = std::ptr::null_mut();
        } else {
            walk.leave_import(entry, is_interrupted)?;
        }
        Ok(walk)
    }

    /// Goes one frame up.
    ///
    /// # Errors
    /// [`Broken`] when the stack cannot be followed further.
    pub fn step(&mut self) -> Result<Step, Broken> {
        let (pc, stack) = (self.context.rip, self.context.integer[RSP]);
        let Some(image) = image::find(pc) else { return self.host_code(pc, stack) };
        let scope = std::mem::take(&mut self.scope);
        let function = unwind::function_at(image, pc);
        let unwound = match &function {
            Some(function) => {
                let mut saved = NonvolatilePointers::default();
                unwind::unwind(function, image.unmoved(pc), &mut self.context, &mut saved)?
            }
            None => {
                unwind::leave(&mut self.context)?;
                Unwound { establisher: stack, handler: None }
            }
        };
        self.check(self.context.integer[RSP], stack + 1)?;
        if unwound.handler.is_some() {
            self.check(unwound.establisher, 0)?;
        }
        Ok(Step::Frame(Frame { pc, image, function, unwound, scope }))
    }

    /// Goes on below the host's call `record`: `false` if no driver is there.
    ///
    /// # Errors
    /// [`Broken`] when the host's own frames cannot be followed.
    pub fn cross(&mut self, record: *mut CallRecord) -> Result<bool, Broken> {
        // SAFETY: linked records are alive.
        let (previous, entry, purpose) = unsafe { ((*record).previous, (*record).entry, (*record).purpose) };
        self.record = previous;
        match purpose {
            Purpose::Service if entry == 0 => return Ok(false),
            Purpose::Service => self.leave_import(entry, false)?,
            Purpose::Search(asking) => {
                // SAFETY: the exception's registers outlive the search that made the call.
                self.context = unsafe { *(*asking).context };
                self.leave_nowhere()?;
            }
            Purpose::Unwind(progress) => {
                // SAFETY: both outlive the call that the record stands for.
                unsafe {
                    self.context = *(*progress).context;
                    self.scope = (*(*progress).dispatcher).scope_index;
                }
            }
        }
        self.drop_records_below();
        Ok(true)
    }

    /// Forgets calls that were made from frames below the one that the walk has got to.
    fn drop_records_below(&mut self) {
        while !self.record.is_null() && (self.record as u64) < self.context.integer[RSP] {
            // SAFETY: linked records are alive.
            self.record = unsafe { (*self.record).previous };
        }
    }

    /// The call whose driver frames are being gone through.
    pub fn record(&self) -> *mut CallRecord {
        self.record
    }

    /// Goes from host code to where the import entered at `entry` returns.
    fn leave_import(&mut self, entry: u64, is_interrupted: bool) -> Result<(), Broken> {
        host_frames::unwind_to(&mut self.context, entry, is_interrupted)?;
        // SAFETY: the walk's thread is the calling one.
        if let Some(original) = unsafe { seh::original_return(self.host, entry) } {
            self.context.rip = original;
        }
        self.drop_records_below();
        Ok(())
    }

    /// Driver code returns to `pc`, which is in no image: to the call that the innermost record stands for, or
    /// the stack is not what it seems.
    fn host_code(&self, pc: u64, stack: u64) -> Result<Step, Broken> {
        if self.record.is_null() {
            return Ok(Step::End);
        }
        let is_near = (stack..stack + RECORD_DISTANCE_MAX).contains(&(self.record as u64));
        if !is_near || !host_frames::covers(pc) || read::<u64>(stack - 8)? != pc {
            return Err(Broken::Return(pc));
        }
        Ok(Step::Host(self.record))
    }

    /// Whether `pointer` can be a stack pointer of this thread above `low`.
    fn check(&self, pointer: u64, low: u64) -> Result<(), Broken> {
        // SAFETY: the walk's thread is the calling one.
        let (bottom, top) = unsafe { ((*self.host).stack_low, (*self.host).stack_high) };
        let is_fine = pointer.is_multiple_of(8) && pointer >= low.max(bottom) && pointer <= top;
        if is_fine { Ok(()) } else { Err(Broken::Stack(pointer)) }
    }
}
