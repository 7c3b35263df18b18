//! `__C_specific_handler`: what `__try` blocks compile to.
//!
//! The compiler lists a function's blocks innermost first ([`ScopeRecord`]); several entries may stand for one
//! block whose code was split.

use nt_abi::exception::{Context, Disposition, ExceptionPointers, ExceptionRecord, exception_flag};
use nt_abi::unwind::{DispatcherContext, ScopeRecord};

use super::unwind::Target;
use super::{Action, Pending, Precedence, is_leaving, read_record};
use crate::memory::{self, Fault};
use crate::{call, thread};

/// Most entries of a function; a table that claims more is broken.
const SCOPES_MAX: u32 = 0x1000;
/// A filter that always says `EXCEPTION_EXECUTE_HANDLER`.
const ALWAYS: u32 = 1;

/// The handler itself. IRQL: any. K-014.
pub(super) unsafe extern "win64" fn c_specific_handler(
    record: *mut ExceptionRecord,
    frame: u64,
    context: *mut Context,
    dispatcher: *mut DispatcherContext,
) -> Disposition {
    let call = Call { record, frame, context, dispatcher };
    match call.answer() {
        Ok(answer) => answer,
        // Arguments or a table that cannot be read: on Windows the handler itself would fault here.
        Err(fault) => {
            super::raise_fault(fault);
            Disposition::CONTINUE_SEARCH
        }
    }
}

struct Call {
    record: *mut ExceptionRecord,
    frame: u64,
    context: *mut Context,
    dispatcher: *mut DispatcherContext,
}

/// A function's blocks.
struct Scopes {
    base: u64,
    table: u64,
    count: u32,
    /// Offset of where execution is.
    pc: u64,
}

impl Scopes {
    fn get(&self, index: u32) -> Result<ScopeRecord, Fault> {
        memory::read_value(self.table.wrapping_add(4 + u64::from(index) * size_of::<ScopeRecord>() as u64))
    }

    /// Entries from `first` on that execution is in.
    fn around(&self, first: u32) -> impl Iterator<Item = Result<(u32, ScopeRecord), Fault>> {
        let all = (first..self.count).map(|index| self.get(index).map(|scope| (index, scope)));
        all.filter(|scope| scope.is_err() || scope.as_ref().is_ok_and(|(_, scope)| contains(scope, self.pc)))
    }

    /// Whether the block that `scope` is a part of contains `offset`.
    fn block_contains(&self, scope: &ScopeRecord, offset: u64) -> Result<bool, Fault> {
        for index in 0..self.count {
            let part = self.get(index)?;
            if (part.handler, part.target) == (scope.handler, scope.target) && contains(&part, offset) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn contains(scope: &ScopeRecord, offset: u64) -> bool {
    (u64::from(scope.begin)..u64::from(scope.end)).contains(&offset)
}

impl Call {
    fn answer(&self) -> Result<Disposition, Fault> {
        let dispatcher: DispatcherContext = memory::read_value(self.dispatcher as u64)?;
        let record = read_record(self.record as u64)?;
        let count: u32 = memory::read_value(dispatcher.handler_data)?;
        let scopes = Scopes {
            base: dispatcher.image_base,
            table: dispatcher.handler_data,
            count: count.min(SCOPES_MAX),
            pc: dispatcher.control_pc.wrapping_sub(dispatcher.image_base),
        };
        if record.flags & exception_flag::UNWINDING == 0 {
            return self.filter(&scopes, &dispatcher, &record);
        }
        self.clean_up(&scopes, &dispatcher, &record)?;
        Ok(Disposition::CONTINUE_SEARCH)
    }

    /// Asks the filters of the blocks around.
    fn filter(
        &self,
        scopes: &Scopes,
        dispatcher: &DispatcherContext,
        record: &ExceptionRecord,
    ) -> Result<Disposition, Fault> {
        for scope in scopes.around(dispatcher.scope_index) {
            let (_, scope) = scope?;
            if scope.target == 0 {
                continue;
            }
            let wants = if scope.handler == ALWAYS { 1 } else { self.ask(scopes, &scope) };
            if is_leaving() {
                break;
            }
            if wants < 0 {
                return Ok(Disposition::CONTINUE_EXECUTION);
            }
            if wants > 0 {
                let ip = scopes.base.wrapping_add(u64::from(scope.target));
                let value = u64::from(record.code.0);
                unwind_when_returned(Target { frame: self.frame, ip, record: *record, value });
                break;
            }
        }
        Ok(Disposition::CONTINUE_SEARCH)
    }

    fn ask(&self, scopes: &Scopes, scope: &ScopeRecord) -> i32 {
        let pointers = ExceptionPointers { record: self.record, context: self.context };
        let filter = scopes.base.wrapping_add(u64::from(scope.handler));
        // SAFETY: the driver's scope table says that this is a filter.
        unsafe { call::call2(filter, &raw const pointers as u64, self.frame) as i32 }
    }

    /// Calls the `__finally` blocks that are left for good.
    fn clean_up(&self, scopes: &Scopes, dispatcher: &DispatcherContext, record: &ExceptionRecord) -> Result<(), Fault> {
        const ABNORMALLY: u64 = 1;
        let is_target = record.flags & exception_flag::TARGET_UNWIND != 0;
        let target = dispatcher.target_ip.wrapping_sub(dispatcher.image_base);
        for scope in scopes.around(dispatcher.scope_index) {
            let (index, scope) = scope?;
            // Blocks around the place where execution goes on are not left.
            let leads_here = scope.target != 0 && u64::from(scope.target) == target;
            if is_target && (leads_here || scopes.block_contains(&scope, target)?) {
                return Ok(());
            }
            if scope.target != 0 {
                continue;
            }
            // Done before it runs: should it unwind itself, it must not be called again.
            let done = self.dispatcher as u64 + std::mem::offset_of!(DispatcherContext, scope_index) as u64;
            memory::write_value(done, index + 1)?;
            let block = scopes.base.wrapping_add(u64::from(scope.handler));
            // SAFETY: the driver's scope table says that this is a `__finally` block.
            unsafe { call::call2(block, ABNORMALLY, self.frame) };
            if is_leaving() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Unwinds to `target` when the import being served returns.
pub(super) fn unwind_when_returned(target: Target) {
    // SAFETY: the calling thread's block.
    let (host, entry) = unsafe { (thread::current(), (*thread::current()).entry) };
    assert_ne!(entry, 0, "unwinding outside of an import");
    // SAFETY: the import entered at `entry` is being served.
    unsafe { Pending::put(host, entry, Action::Unwind(target), Precedence::Last) };
}
