//! `cargo xtask test`: everything CI runs.
//!
//! Ends with the sum over all test binaries on the last line, `N passed, N failed`, whatever happened before.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail};

use crate::closing::{self, Closing};
use crate::workspace::{Workspace, run as run_command, step};
use crate::{lints, prerequisites, rules, samples, tiers};

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

    let proofs = workspace.target().join("proofs.txt");
    let mut tests = workspace.cargo(["test", "--workspace", "--no-fail-fast"]);
    let mut sums = Closing::default();
    checks.step("tests", || {
        sums = record_tests(&mut tests, &proofs)?;
        Ok(())
    });
    checks.tests = sums;
    checks.step("rule table", || rules::check(workspace, &proofs));
    checks.step("documentation", || {
        let mut doc = workspace.cargo(["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"]);
        // A module's introduction may point at what is private: these pages show that too.
        run_command(doc.env("RUSTDOCFLAGS", "--deny warnings --allow rustdoc::private_intra_doc_links"))
    });
}

/// Runs tests that append what they prove to the file `proofs`, which starts out empty. Returns their sums.
pub fn record_tests(tests: &mut Command, proofs: &Path) -> Result<Closing> {
    if let Some(folder) = proofs.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(proofs, "").with_context(|| format!("cannot write {}", proofs.display()))?;
    closing::run(tests.env(rules::PROOFS_VARIABLE, proofs).env("PATH", path_with_servers()))
}

/// Debian keeps nginx where ordinary users' paths do not look.
fn path_with_servers() -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/local/sbin".into(), "/usr/sbin".into()]);
    env::join_paths(folders).unwrap_or(path)
}
