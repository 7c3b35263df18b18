//! The trace of this process: where records go that belong to no thread's ring.

use std::fmt::{self, Display};
use std::sync::OnceLock;

use trace::{Event, TraceWriter};

use crate::text::Text;
use crate::{block, image};

static TRACE: OnceLock<&'static TraceWriter> = OnceLock::new();

/// Says where this process records. Once, before the first thread block is made; later calls are ignored.
pub fn set_trace(trace: &'static TraceWriter) {
    let _ = TRACE.set(trace);
}

/// The trace, if one was set.
pub fn trace() -> Option<&'static TraceWriter> {
    TRACE.get().copied()
}

/// Records that a rule was broken, blamed on the driver instruction at `address` (mostly [`crate::caller`]; 0 if
/// unknown). The run goes on.
///
/// `rule` is the rule's id such as `K-049`. `message` is a string or `format_args!`, one sentence that says what
/// happened and, where that is not plain, what to do; it is cut at 800 bytes. The same rule at the same place is
/// counted, not repeated. Without a trace (unit tests) it goes to stderr.
///
/// IRQL: any. Takes no lock and allocates nothing, so signal handlers may use it.
pub fn finding(rule: &str, message: impl Display, address: u64) {
    let mut text = Text::<800>::new();
    text.push(format_args!("{message}"));
    let place = image::place(address);
    let (driver, offset) = place.map_or(("", 0), |(image, offset)| (image.name, offset));
    let Some(trace) = trace() else {
        eprint_raw(format_args!("finding {rule} at {driver}+{offset:#x}: {}\n", text.as_str()));
        return;
    };
    if !trace.finding(rule, text.as_str(), driver, offset) {
        return;
    }
    let Some(block) = block::installed() else { return };
    let mut line = Text::<840>::new();
    line.push(format_args!("{rule}\t{}", text.as_str()));
    let event = Event::Finding { driver: place.map_or(0, |(image, _)| image.base), offset };
    // SAFETY: only this thread touches its ring, and recording does not call back.
    unsafe { (*block.host()).ring.record_with_text(event, line.as_str()) };
}

/// Writes to stderr without a lock or buffer, so that handlers may use it.
pub(crate) fn eprint_raw(message: fmt::Arguments<'_>) {
    let mut text = Text::<1024>::new();
    text.push(message);
    // SAFETY: writes from a live buffer. Nothing can be done about a failure.
    let _ = unsafe { libc::write(libc::STDERR_FILENO, text.as_str().as_ptr().cast(), text.as_str().len()) };
}
