//! Event types and the shared-memory rings they are recorded in.

pub mod event;

pub use event::{Event, Farewell, OpenKind};
