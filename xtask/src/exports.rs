//! `cargo xtask exports`: the table of exports in `docs/exports.md`.
//!
//! The rows come from the table that binds imports, and the drivers that call them from those drivers' images, so the page
//! cannot say what is not so.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::workspace::{Workspace, run as run_command};
use crate::{prerequisites, samples};

const PAGE: &str = "docs/exports.md";
const TEST_DRIVERS: &str = "app/drydock_cli/tests/drivers";

/// What `cargo xtask exports` can be told.
#[derive(Debug, Args)]
pub struct Options {
    /// Change nothing; fail if docs/exports.md is not what the table says
    #[arg(long)]
    check: bool,
}

/// Writes or checks the page.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    prerequisites::install(prerequisites::SAMPLES)?;
    samples::build(workspace)?;
    if options.check {
        return check(workspace);
    }
    fs::write(workspace.path(PAGE), render(workspace)?).with_context(|| format!("cannot write {PAGE}"))
}

/// Fails if the page is not what the table says. The samples are built.
pub fn check(workspace: &Workspace) -> Result<()> {
    if workspace.read(PAGE)? == render(workspace)? {
        return Ok(());
    }
    bail!("{PAGE} is not what the table of exports says; run cargo xtask exports")
}

fn render(workspace: &Workspace) -> Result<String> {
    let built = workspace.target()?.join("test-drivers");
    let out = format!("OUT={}", built.display());
    run_command(workspace.command("make").args(["--silent", "-C", TEST_DRIVERS]).arg(out))?;
    let mut images = images(&workspace.path("samples/out"))?;
    images.extend(self::images(&built)?);
    let mut example = workspace.cargo(["run", "--quiet", "--package", "drydock", "--example", "exports", "--"]);
    let output = example.args(images).output().context("cannot start cargo")?;
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
