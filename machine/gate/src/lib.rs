//! The border with driver code.
//!
//! Everything that crosses between the host (this process's Rust code) and a driver goes through here:
//! calls into the driver ([`call`]), calls out of it (import stubs, [`mod@stub`]), the table rows they are made
//! from ([`export`]), the per-thread structures it reads through GS ([`thread`]), its faults and privileged
//! instructions ([`fault`]), memory it names ([`memory`]), its findings ([`finding`]) and its death
//! ([`mod@bugcheck`]).
//!
//! Invariants:
//! - The current thread is found through GS, never through a Rust thread-local: fibers share threads.
//! - Every import is entered through a stub that notes the driver's return address and the import's
//!   number, so whatever goes wrong below is blamed on the right instruction.
//! - After a bugcheck nothing more runs in this process but what drivers registered for that.

mod block;
pub mod bugcheck;
pub mod call;
pub mod code;
pub mod export;
pub mod fault;
mod frames;
mod host_frames;
pub mod image;
pub mod lowering;
pub mod memory;
mod recorder;
pub mod seh;
pub mod shared_page;
pub mod stub;
mod text;
pub mod thread;
mod unwind;
mod walk;

pub use bugcheck::bugcheck;
pub use bugcheck::unimplemented;
pub use recorder::{finding, set_trace, trace};
pub use thread::{caller, count, current, irql, record, record_with_text, set_irql, stay};
