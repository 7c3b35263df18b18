//! `cargo xtask mutants`: whether the tests of a crate notice when its code is changed.
//!
//! cargo-mutants changes one thing at a time and runs the crate's tests. What no test notices is printed, to be looked at: some
//! changes only cost time or memory, or give code that does the same.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::workspace::Workspace;

/// What `cargo xtask mutants` can be told.
#[derive(Debug, Args)]
pub struct Options {
    /// The crate whose code is changed
    #[arg(long, value_name = "CRATE", default_value = "tdi_core")]
    package: String,

    /// The least share of changes, in percent, that tests must notice
    #[arg(long, value_name = "PERCENT", default_value_t = 90)]
    at_least: usize,
}

/// Runs cargo-mutants and judges what it found.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let mut version = workspace.cargo(["mutants", "--version"]);
    if !version.output().is_ok_and(|output| output.status.success()) {
        bail!("cargo-mutants is missing; install it with: cargo install --locked cargo-mutants");
    }
    let folder = workspace.target()?.join("mutants");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut mutants = workspace.cargo(["mutants", "--package", &options.package, "--timeout", "60", "--output"]);
    // Each change is compiled once and tested for a second or two: optimising costs many times what it saves.
    mutants.env("CARGO_PROFILE_DEV_OPT_LEVEL", "0").env("CARGO_PROFILE_DEV_DEBUG", "0");
    let status = mutants.arg(&folder).status().context("cannot start cargo-mutants")?;
    // 2: some were missed; 3: some ended by the time limit, which is as good as a failed test.
    ensure!(matches!(status.code(), Some(0 | 2 | 3)), "cargo-mutants ended with {status}");
    let count = |list: &str| -> Result<usize> {
        let path = folder.join("mutants.out").join(list);
        Ok(fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?.lines().count())
    };
    let (noticed, missed) = (count("caught.txt")? + count("timeout.txt")?, count("missed.txt")?);
    let viable = noticed + missed;
    ensure!(viable > 0, "cargo-mutants found nothing to change in {}", options.package);
    println!("{noticed} of {viable} changes were noticed ({:.1} %)", 100.0 * noticed as f64 / viable as f64);
    ensure!(100 * noticed >= options.at_least * viable, "fewer than {} % were noticed", options.at_least);
    Ok(())
}
