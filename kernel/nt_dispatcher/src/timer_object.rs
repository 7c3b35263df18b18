//! Timers behind handles and names (`ZwCreateTimer`).

use nt_abi::dispatcher::{DispatcherType, Timer};
use nt_abi::{Handle, NtStatus};
use nt_object::ObjectType;

use crate::named_object::{self, Wanted};
use crate::timer;

/// Timers.
pub static TIMER: ObjectType = ObjectType::new("Timer", delete, named_object::handle_closed);

/// One that is set is so no more.
fn delete(body: u64) {
    timer::cancel(body);
}

/// Makes a timer, or opens the one that has the name; see [`named_object::create`].
///
/// # Errors
/// As there.
///
/// IRQL: PASSIVE_LEVEL.
pub(crate) fn create(wanted: Wanted<'_>, kind: DispatcherType) -> Result<(Handle, u64, bool), NtStatus> {
    named_object::create(wanted, size_of::<Timer>(), |body| {
        // SAFETY: a new body that is large enough.
        unsafe { timer::initialize(body as *mut Timer, kind, wanted.caller) };
    })
}
