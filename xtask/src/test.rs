//! `cargo xtask test`: everything CI runs.
//!
//! Ends with the sum over all test binaries on the last line, `N passed, N failed`, whatever happened before.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::closing::{self, Closing};
use crate::workspace::{Workspace, run as run_command, step};
use crate::{exports, lints, prerequisites, rules, samples, tiers};

/// Runs every step, also after one that failed. On the last line stand the sums, in which a failed step counts as one.
pub fn run(workspace: &Workspace) -> Result<()> {
    let mut checks = Checks::default();
    let prepared = prerequisites::install(prerequisites::TESTS).and_then(|()| prerequisites::install_components());
    match prepared {
        Ok(()) => steps(workspace, &mut checks),
        Err(error) => checks.failures.push(format!("{error:#}")),
    }
    checks.report()
}

/// What came out so far.
#[derive(Debug, Default)]
struct Checks {
    tests: Closing,
    failures: Vec<String>,
}

impl Checks {
    fn step(&mut self, title: &str, body: impl FnOnce() -> Result<()>) {
        if let Err(error) = step(title, body) {
            println!("==> {error:#}");
            self.failures.push(format!("{error:#}"));
        }
    }

    fn report(self) -> Result<()> {
        let Self { tests, failures } = self;
        let sums = Closing { failed: tests.failed + failures.len() as u64, ..tests };
        if failures.is_empty() && tests.is_success() {
            println!("{sums}");
            return Ok(());
        }
        // Said again where the terminal stands now. The sums go with it, so that they stay the last line.
        let failures: Vec<String> = failures.into_iter().map(|failure| format!("==> {failure}\n")).collect();
        bail!("{}{sums}", failures.concat())
    }
}

fn steps(workspace: &Workspace, checks: &mut Checks) {
    checks.step("format", || run_command(&mut workspace.cargo(["fmt", "--all", "--check"])));
    checks.step("tiers", || tiers::run(workspace));
    checks.step("house lints", || lints::run(workspace));
    checks.step("clippy", || {
        run_command(&mut workspace.cargo([
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ]))
    });
    checks.step("samples", || samples::build(workspace));

    let mut tests = None;
    checks.step("tests", || {
        tests = Some(record(workspace)?);
        Ok(())
    });
    checks.step("table of exports", || exports::check(workspace));
    if let Some((proofs, sums)) = tests {
        checks.tests = sums;
        checks.step("rule table", || rules::check(workspace, &proofs));
    }
    checks.step("documentation", || {
        let mut doc = workspace.cargo(["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"]);
        // A module's introduction may point at what is private: these pages show that too.
        run_command(doc.env("RUSTDOCFLAGS", "--deny warnings --allow rustdoc::private_intra_doc_links"))
    });
}

/// Runs all tests. Returns the file to which they have appended what they prove, and their sums.
pub fn record(workspace: &Workspace) -> Result<(PathBuf, Closing)> {
    let folder = workspace.target()?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let proofs = folder.join("proofs.txt");
    fs::write(&proofs, "").with_context(|| format!("cannot write {}", proofs.display()))?;
    let mut tests = workspace.cargo(["test", "--workspace", "--no-fail-fast"]);
    let sums = closing::run(tests.env(rules::PROOFS_VARIABLE, &proofs))?;
    Ok((proofs, sums))
}
