//! The border with driver code.
//!
//! Everything that crosses between the host (this process's Rust code) and a driver goes through here:
//! calls into the driver ([`call`]), calls out of it (import stubs, [`stub`]), the per-thread structures
//! it reads through GS ([`thread`]), its faults and privileged instructions ([`fault`]), memory it names
//! ([`memory`]) and its death ([`bugcheck`]).
//!
//! Invariants:
//! - The current thread is found through GS, never through a Rust thread-local: fibers share threads.
//! - Every import is entered through a stub that notes the driver's return address and the import's
//!   number, so whatever goes wrong below is blamed on the right instruction.
//! - After a bugcheck nothing more runs in this process.

pub mod bugcheck;
pub mod call;
pub mod image;
pub mod memory;
pub mod thread;

pub use bugcheck::bugcheck;
pub use thread::{caller, current, irql, record, record_with_text, set_irql};
