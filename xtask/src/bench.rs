//! `cargo xtask bench`: what a driver pays for its kernel, as a table of ratios.

use anyhow::Result;
use clap::Args;

use crate::workspace::{Workspace, run as run_command, step};
use crate::{prerequisites, samples};

/// What `cargo xtask bench` can be told.
#[derive(Debug, Args)]
pub struct Options {
    /// Rows to measure, such as 1 or 5; all without
    #[arg(value_name = "ROW")]
    rows: Vec<String>,
}

/// Builds everything for speed and prints the table.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    prerequisites::install(prerequisites::SAMPLES)?;
    step("samples", || samples::build(workspace))?;
    step("benches, release build", || {
        run_command(&mut workspace.cargo(["build", "--release", "--quiet", "--package", "benches"]))
    })?;
    let mut benches = workspace.command(workspace.target()?.join("release/benches"));
    run_command(benches.arg("samples/out/bench.sys").args(&options.rows))
}
