//! `cargo xtask exports`: the table of exports in `docs/exports.md`.
//!
//! The rows come from the table that binds imports, and the drivers that call them from those drivers' images, so the page
//! cannot say what is not so. An export that no driver imports is a mistake, unless `docs/undriven-exports.toml` says why.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::workspace::{Workspace, run as run_command};
use crate::{prerequisites, samples};

const PAGE: &str = "docs/exports.md";
/// Exports that no driver imports, with the reason for each.
const UNDRIVEN: &str = "docs/undriven-exports.toml";
/// Folders whose Makefiles build drivers beside the samples, and where to.
const TEST_DRIVERS: [(&str, &str); 2] =
    [("app/drydock_cli/tests/drivers", "test-drivers"), ("tests/exceptions/drivers", "exception-drivers")];

/// What `cargo xtask exports` can be told.
#[derive(Debug, Args)]
pub struct Options {
    /// Change nothing; fail if docs/exports.md is not what the table says
    #[arg(long)]
    check: bool,
}

/// Writes or checks the page.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    prerequisites::install(prerequisites::DRIVERS)?;
    samples::build(workspace)?;
    if options.check {
        return check(workspace);
    }
    fs::write(workspace.path(PAGE), render(workspace)?).with_context(|| format!("cannot write {PAGE}"))
}

/// Fails if the page is not what the table says, or if an export is exercised by no driver without a reason. The samples
/// are built.
pub fn check(workspace: &Workspace) -> Result<()> {
    let page = render(workspace)?;
    let problems = problems(&undriven(&page), &reasons(&workspace.read(UNDRIVEN)?)?);
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    if workspace.read(PAGE)? == page {
        return Ok(());
    }
    bail!("{PAGE} is not what the table of exports says; run cargo xtask exports")
}

/// The exports in whose row no driver stands.
fn undriven(page: &str) -> BTreeSet<&str> {
    let cells = page.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.split('|').map(str::trim).collect();
        Some((*cells.first()?, *cells.get(3)?))
    });
    cells.filter(|(_, drivers)| drivers.is_empty()).map(|(name, _)| name).collect()
}

fn reasons(file: &str) -> Result<BTreeMap<String, String>> {
    toml::from_str(file).with_context(|| format!("{UNDRIVEN} is not a list of exports with their reasons"))
}

fn problems(undriven: &BTreeSet<&str>, reasons: &BTreeMap<String, String>) -> Vec<String> {
    let missing = undriven.iter().filter(|&&name| !reasons.contains_key(name));
    let missing = missing.map(|name| format!("{name} is exercised by no driver, and {UNDRIVEN} does not say why"));
    let needless = reasons.keys().filter(|name| !undriven.contains(name.as_str()));
    let needless = needless.map(|name| format!("{UNDRIVEN} excuses {name}, which a driver imports or nobody exports"));
    missing.chain(needless).collect()
}

fn render(workspace: &Workspace) -> Result<String> {
    let mut images = images(&workspace.path("samples/out"))?;
    for (source, out) in TEST_DRIVERS {
        let built = workspace.target()?.join(out);
        let out = format!("OUT={}", built.display());
        run_command(workspace.command("make").args(["--silent", "-C", source]).arg(out))?;
        images.extend(self::images(&built)?);
    }
    // Of the whole workspace: of one package the dependencies would be built again, with fewer of their features.
    run_command(&mut workspace.cargo(["build", "--quiet", "--workspace", "--example", "exports"]))?;
    let mut example = workspace.command(workspace.target()?.join("debug/examples/exports"));
    let output = example.args(images).output().context("cannot start the example")?;
    if !output.status.success() {
        bail!("the table of exports was not printed: {}", String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).context("the page is no text")
}

/// The drivers in a folder, in order.
fn images(folder: &std::path::Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut images: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|end| end == "sys")).collect();
    images.sort();
    Ok(images)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Exports\n\n| export | IRQL | rules | drivers |\n|---|---|---|---|\n\
        | IoFreeIrp | DISPATCH | K-020 | hello |\n| IoNobodys |  | K-021 |  |\n";

    #[test]
    fn export_without_a_driver_needs_a_reason_and_no_other_has_one() {
        let undriven = undriven(PAGE);
        assert_eq!(undriven, BTreeSet::from(["IoNobodys"]));
        let with = |text: &str| problems(&undriven, &reasons(text).expect("a table"));
        assert!(with("IoNobodys = \"why\"").is_empty());
        assert_eq!(with("").len(), 1);
        assert_eq!(with("IoNobodys = \"why\"\nIoFreeIrp = \"why\"").len(), 1);
    }
}
