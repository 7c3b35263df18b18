//! The run-time library (`Rtl...`).
//!
//! Most of it works on the driver's own structures directly: a bad pointer faults and is blamed on the call. Such code
//! holds nothing but memory while it can fault.

mod bitmap;
mod case;
mod conversion;
mod dos_errors;
mod ethernet;
mod file_names;
mod guid;
mod hash_table;
mod image;
mod inet;
mod integers;
mod misc;
mod oem;
mod strings;
mod tables;
mod text;
mod time;
mod utf8;
mod version;

pub(crate) use case::upper;
pub(crate) use guid::Guid;
pub(crate) use misc::{Altitude, altitude, map_generic};
pub(crate) use text::{Bytes, Units};

/// The tables of this module's parts.
pub(crate) fn tables() -> impl Iterator<Item = &'static [gate::export::Export]> {
    let own = [
        bitmap::TABLE,
        case::TABLE,
        conversion::TABLE,
        dos_errors::TABLE,
        ethernet::TABLE,
        file_names::TABLE,
        guid::TABLE,
        hash_table::TABLE,
        image::TABLE,
        inet::TABLE,
        integers::TABLE,
        misc::TABLE,
        oem::TABLE,
        strings::TABLE,
        time::TABLE,
        utf8::TABLE,
        version::TABLE,
    ];
    own.into_iter().chain(tables::TABLES)
}
