//! tdi.sys: the export driver that TDI clients and transports import their helpers from (section 11 of
//! tdi-datagrams-and-services.md).
//!
//! A driver object and a dispatch routine it has none (D-226): drivers link to it by name.
//!
//! Left out, so that an import of it is bound to a stub that stops the driver by name: the CTE routines whose
//! structures no public header describes, and TdiGet9FTriageBlock.

pub mod chain;
mod chained;
mod copy;
mod default_handlers;
mod map_user_request;
mod netbios;
pub mod pnp;

use gate::export::Export;

pub use chained::{TakeBack, set_take_back};
pub use map_user_request::map_user_request;

/// All of this crate's tables of exports.
pub static TABLES: &[&[Export]] =
    &[chained::TABLE, copy::TABLE, default_handlers::TABLE, map_user_request::TABLE, netbios::TABLE, pnp::TABLE];

/// The module that drivers name.
const MODULE: &str = "tdi.sys";

/// What `module!name` is bound to, if `module` is this one and somebody implements the name.
pub fn resolve(module: &str, name: &str) -> Option<&'static Export> {
    let is_ours = module.eq_ignore_ascii_case(MODULE);
    TABLES.iter().copied().flatten().find(|export| is_ours && export.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[proves::proves("D-226")]
    #[test]
    fn every_name_is_found_once_in_any_case_of_the_module() {
        let names: Vec<_> = TABLES.iter().copied().flatten().map(|export| export.name).collect();
        for name in &names {
            assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{name}");
            assert!(resolve("TDI.SYS", name).is_some());
            assert!(resolve("ntoskrnl.exe", name).is_none());
        }
        assert!(resolve("tdi.sys", "CTEBlock").is_none());
    }
}
