//! Prints `docs/exports.md`: every export with its rules and the test drivers that call it.
//!
//! For `cargo xtask exports`; the arguments are the drivers' images.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use drydock::DockError;
use gate::export::{Export, Irql};

fn main() -> Result<(), DockError> {
    let images: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    print!("{}", page(&callers(&images)?));
    Ok(())
}

/// Which drivers import a name.
type Callers = BTreeMap<String, BTreeSet<String>>;

fn callers(images: &[PathBuf]) -> Result<Callers, DockError> {
    let mut callers = Callers::new();
    for image in images {
        // One by one: together, later ones would be told of what earlier ones export.
        for report in drydock::inspect(&[image])? {
            let driver = report.name.trim_end_matches(".sys").to_owned();
            let imports = report.imports.iter().flat_map(|module| &module.imports);
            for import in imports {
                callers.entry(import.name.clone()).or_default().insert(driver.clone());
            }
        }
    }
    Ok(callers)
}

/// The rows by family, each family and its rows in order of names.
fn families() -> BTreeMap<&'static str, BTreeMap<&'static str, &'static Export>> {
    let mut families: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for export in nt_executive::table::all().chain(tdi_library::TABLES.iter().copied().flatten()) {
        families.entry(export.family).or_default().insert(export.name, export);
    }
    families
}

fn page(callers: &Callers) -> String {
    let families = families();
    let rows = families.values().flat_map(BTreeMap::values);
    let called = rows.clone().filter(|export| callers.contains_key(export.name)).count();
    let mut page = format!(
        "# Exports

What drivers can import, from the table that binds them. Written by `cargo xtask exports`; `cargo xtask test` fails when it is
not what the table says.

A family is the module that declares it. IRQL is the highest level to call at; no level is any. What the rules say and which
tests show them is in [rules.md](rules.md). Drivers are those in C that import the name and run in the tests: those of
`app/drydock_cli/tests/drivers` in `families.rs` beside them, `seh` in `tests/exceptions`, the samples in the other tests of
`app/drydock_cli`. What no driver imports stands in [undriven-exports.toml](undriven-exports.toml) with the reason.

{} exports in {} families; {called} are imported by a driver in C.
",
        rows.count(),
        families.len(),
    );
    for (family, exports) in families {
        page += &format!("\n## {family}\n\n| export | IRQL | rules | drivers |\n|---|---|---|---|\n");
        for (name, export) in exports {
            let drivers: Vec<_> = callers.get(name).into_iter().flatten().map(String::as_str).collect();
            page += &format!("| {name} | {} | {} | {} |\n", level(export.irql_max), export.rules, drivers.join(", "));
        }
    }
    page
}

fn level(level: Irql) -> &'static str {
    match level {
        Irql::PASSIVE => "PASSIVE",
        Irql::APC => "APC",
        Irql::DISPATCH => "DISPATCH",
        _ => "",
    }
}
