//! Drivers, devices, files and I/O request packets.
//!
//! Invariants:
//! - CLEANUP is sent once, when the last handle of a file object goes; CLOSE once, when its last reference
//!   goes; CLOSE never precedes CLEANUP, and a failed create sends neither (C-081, C-133 to C-138).
//! - Dispatch tables and device stacks are read at every call, because filters hook them (C-147).
//! - No lock is held while a driver runs.
//! - Nothing here knows TDI: a disk driver could use it unchanged.
//!
//! Start reading at [`irp::call_driver`]. Left out: share access checks (a file system's business), power; of
//! plug and play there is only that nothing ever arrives.

mod buffers;
pub mod build;
pub mod cancel;
pub mod completion;
mod csq;
pub mod device;
pub mod device_timer;
pub mod driver;
pub mod ea;
pub mod exports;
pub mod file;
mod file_systems;
pub mod irp;
mod links;
mod names;
mod native;
mod objects;
mod plug_and_play;
mod query_object;
mod questions;
mod reinitialization;
mod remove_lock;
mod requests;
pub mod shutdown;
pub mod stacks;
mod start_io;
pub mod work_item;

pub use buffers::{Services, set_services};
pub use exports::TABLE;

/// All of this crate's tables of exports.
pub static TABLES: &[&[gate::export::Export]] = &[
    TABLE,
    csq::TABLE,
    device_timer::TABLE,
    file_systems::TABLE,
    links::TABLE,
    names::TABLE,
    native::TABLE,
    objects::TABLE,
    plug_and_play::TABLE,
    query_object::TABLE,
    questions::TABLE,
    reinitialization::TABLE,
    remove_lock::TABLE,
    requests::TABLE,
    shutdown::TABLE,
    stacks::TABLE,
    start_io::TABLE,
    work_item::TABLE,
];
