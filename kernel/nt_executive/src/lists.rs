//! Lists that several processors share: SLISTs, lists under a spin lock, and lookaside lists made of the former.

mod interlocked;
pub mod lookaside;
mod sequence;
mod slist;

/// The tables of this module's parts.
pub(crate) static TABLES: [&[gate::export::Export]; 3] = [interlocked::TABLE, lookaside::TABLE, slist::TABLE];
