//! `cargo xtask demo`: an unmodified Windows driver fetches a page over real TCP, and the figure of it.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::process::Stdio;

use crate::workspace::{self, Workspace, step};
use crate::{http_server, prerequisites, samples};

const PAGE: &[u8] = b"Hello from the other side of a TDI connection endpoint.\n";
const FIGURE: &str = "out/close.svg";

/// What the demo needs of the run's verdict.
#[derive(Debug, Deserialize)]
struct Verdict {
    verdict: String,
    counts: Counts,
}

#[derive(Debug, Deserialize)]
struct Counts {
    opens: u64,
    cleanups: u64,
    closes: u64,
    bytes_sent: u64,
    bytes_received: u64,
}

/// Builds what is needed, runs the sample client, and succeeds only if its run was clean.
pub fn run(workspace: &Workspace) -> Result<()> {
    prerequisites::install(prerequisites::SAMPLES)?;
    // The profile of the tests: it is built sooner, and is there already if they have been run.
    let mut build = workspace.cargo(["build", "--package", "drydock_cli"]);
    step("drydock", || workspace::run(&mut build))?;
    step("samples", || samples::build(workspace))?;
    let server = http_server::serve(PAGE).context("cannot listen on loopback")?;
    std::fs::create_dir_all(workspace.path("out")).context("cannot make the folder out")?;
    println!("==> samples/out/tdi_client.sys, against a server on {server}");

    let mut drydock = workspace.command(workspace.target()?.join("debug/drydock"));
    drydock.args(["run", "samples/out/tdi_client.sys", "--net", "loopback", "--json", "--figure", FIGURE]);
    for setting in [format!("Host={}", server.ip()), format!("Port={}", server.port()), "Path=/".into()] {
        drydock.args(["--set", &setting]);
    }
    // The account goes to the terminal through stderr; stdout carries the verdict.
    let output = drydock.stderr(Stdio::inherit()).output().context("cannot start drydock")?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let last = stdout.lines().last().unwrap_or_default();
    let verdict: Verdict = serde_json::from_str(last)
        .with_context(|| format!("drydock ended with {} and without a verdict: {last:?}", output.status))?;
    if !output.status.success() || verdict.verdict != "clean" {
        bail!("the run was not clean: {last}");
    }
    let counts = verdict.counts;
    println!("==> clean: {} opens, {} cleanups, {} closes", counts.opens, counts.cleanups, counts.closes);
    println!("    {} bytes sent, {} bytes received", counts.bytes_sent, counts.bytes_received);
    println!("    figure: {}", workspace.path(FIGURE).display());
    Ok(())
}
