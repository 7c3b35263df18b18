//! The run-time library (`Rtl...`).
//!
//! Most of it works on the driver's own structures directly: a bad pointer faults and is blamed on the call. Such code
//! holds nothing but memory while it can fault.

mod case;
mod conversion;
mod integers;
mod strings;
mod text;
mod utf8;

pub(crate) use text::{Bytes, Units};

/// The tables of this module's parts.
pub(crate) static TABLES: [&[gate::export::Export]; 5] =
    [case::TABLE, conversion::TABLE, integers::TABLE, strings::TABLE, utf8::TABLE];
