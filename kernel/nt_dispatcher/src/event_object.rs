//! Events behind handles and names (`ZwCreateEvent`, `IoCreateNotificationEvent`).

use nt_abi::dispatcher::DispatcherType;
use nt_abi::{Handle, KernelEvent, NtStatus};
use nt_object::ObjectType;

use crate::event;
use crate::named_object::{self, Wanted};

/// Events.
pub static EVENT: ObjectType = ObjectType::new("Event", |_| {}, named_object::handle_closed);

/// What a new event is like.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Notification or synchronization event.
    pub kind: DispatcherType,
    /// Whether it begins signalled.
    pub signalled: bool,
}

/// Makes an event, or opens the one that has the name; see [`named_object::create`].
///
/// # Errors
/// As there.
///
/// IRQL: PASSIVE_LEVEL.
pub(crate) fn create(wanted: Wanted<'_>, kind: Kind) -> Result<(Handle, u64, bool), NtStatus> {
    named_object::create(wanted, size_of::<KernelEvent>(), |body| {
        // SAFETY: a new body that is large enough.
        unsafe { event::initialize(body as *mut KernelEvent, kind.kind, kind.signalled) };
    })
}
