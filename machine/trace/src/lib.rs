//! Event types and the shared-memory rings they are recorded in.
//!
//! The supervisor makes a [`TraceFile`] (a sealed memfd) before the child starts, and reads it through a
//! [`TraceReader`]. The child maps it as a [`TraceWriter`]; each of its threads takes a [`RingWriter`] and
//! records [`Event`]s with a few plain stores. Beside the rings lie the records that must survive whatever
//! the child does: a bugcheck record, findings, the list of images, and the word that the end was reached.
//! The layout is described in `docs/trace-format.md`.
//!
//! Invariants:
//! - Recording takes no lock and allocates nothing, except on a ring that threads share ([`RingWriter`]).
//! - The reader believes nothing: geometry comes from its own options, every index is checked, and what it
//!   keeps in memory is bounded by that geometry, whatever a driver wrote over the file.
//! - Shared memory is only ever seen as atomic words, so a torn record is garbage but never undefined.

mod clock;
pub mod event;
mod file;
mod functions;
mod layout;
mod memory;
mod printable;
mod reader;
mod records;
mod ring;
mod text;
mod window;
mod writer;

/// What `window` shares words by; `tests/models` puts loom in its place.
mod sync {
    pub use std::sync::atomic::{AtomicU64, Ordering, fence};
}

pub use event::{Event, Farewell, OpenKind};
pub use file::{TraceFile, TraceOptions};
pub use functions::{Functions, STATUS_PENDING, STATUS_UNHANDLED_EXCEPTION};
pub use printable::printable;
pub use reader::{Record, TraceReader};
pub use records::{BugCheckRecord, BugCheckReport, EndOfRun, FindingRecord, ImageRecord};
pub use ring::{Counter, RingWriter};
pub use text::TEXT_BYTES_MAX;
pub use writer::TraceWriter;
