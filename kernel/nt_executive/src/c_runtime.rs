//! The C run-time functions that ntoskrnl exports (K-201).
//!
//! Memory and string functions work on the driver's own memory directly: a bad pointer faults and is blamed on the
//! call, as it would be in a function of the driver. They hold nothing while they can fault.

mod characters;
mod conversion;
mod memory;
mod numbers;
mod printf;
mod secure;
mod sorting;
mod stack;
mod strings;

/// The tables of this module's parts.
pub(crate) static TABLES: [&[gate::export::Export]; 9] = [
    characters::TABLE,
    conversion::TABLE,
    memory::TABLE,
    numbers::TABLE,
    printf::TABLE,
    secure::TABLE,
    sorting::TABLE,
    stack::TABLE,
    strings::TABLE,
];
