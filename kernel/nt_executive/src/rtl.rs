//! The run-time library (`Rtl...`).

mod strings;

/// The tables of this module's parts.
pub(crate) static TABLES: [&[gate::export::Export]; 1] = [strings::TABLE];
