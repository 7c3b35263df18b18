//! `cargo xtask soak`: what takes too long for every change.
//!
//! All of it is built with the profile `soak`: a release in whatever matters here, which the workspace's tests are compiled for in
//! minutes. Property tests with many more cases, endpoints against their model, waits from several threads, drivers on random
//! networks and with many thousand connections at once, connections over networks that do their worst, and every closing path of the
//! sample client over and over, in one thread and in many, with requests and with events; and every image of Debian's wine package
//! through inspection and the loader.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::workspace::{Workspace, run as run_command, step};
use crate::{http_server, prerequisites, samples};

const CLOSING_PATHS: &[&str] =
    &["disconnect", "no-disconnect", "disassociate", "reassociate", "handle-first", "reference-first", "abort"];
/// Endpoints, threads and rounds of one run.
const SHAPES: &[(u32, u32, u32)] = &[(1, 0, 1000), (64, 8, 4), (7, 3, 50)];
const BODY_BYTES: usize = 100_000;

/// What `cargo xtask soak` can be told.
#[derive(Debug, Args)]
pub struct Options {
    /// How long to go on closing connections
    #[arg(long, value_name = "N", default_value_t = 10)]
    minutes: u64,

    /// Cases of each property test
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    cases: u32,

    /// Random steps of the endpoints' state machine against its model
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    steps: u64,

    /// Rounds of each test that hammers the dispatcher from several threads
    #[arg(long, value_name = "N", default_value_t = 3_000_000)]
    rounds: u64,

    /// Rounds of a driver's two threads at each primitive
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    hammer_rounds: u64,

    /// Most switches between threads in a model that is explored completely
    #[arg(long, value_name = "N", default_value_t = 4)]
    preemptions: u64,

    /// Schedules of each model that is explored at random
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    schedules: u64,

    /// Simulated runs of the sample drivers that differ in everything
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    swarm: u64,

    /// Simulated connections whose ends do as they please
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    storms: u32,

    /// Connections at once between two processes, over sockets of the host
    #[arg(long, value_name = "N", default_value_t = 9000)]
    sockets: u32,

    /// Connections at once between drivers on simulated hosts
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    simulated: u32,
}

/// Runs until the time is over or something is not as it should be.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    prerequisites::install(prerequisites::TESTS)?;
    step("property tests", || {
        let mut tests = workspace.cargo(["test", "--workspace", "--profile", "soak"]);
        run_command(tests.env("PROPTEST_CASES", options.cases.to_string()))
    })?;
    step("endpoints against their model", || {
        let mut model = workspace.cargo([
            "test",
            "--profile",
            "soak",
            "--package",
            "tdi_core",
            "--test",
            "model",
            "--",
            "--nocapture",
        ]);
        model.env("TDI_CORE_MODEL_STEPS", options.steps.to_string());
        run_command(model.env("TDI_CORE_MODEL_SEED", new_seed().to_string()))
    })?;
    step("waits from several threads", || {
        let mut hammer =
            workspace.cargo(["test", "--profile", "soak", "--package", "nt_dispatcher", "--test", "hammer"]);
        run_command(hammer.env("DISPATCHER_ROUNDS", options.rounds.to_string()))
    })?;
    step("images that others compiled", || {
        let corpus = unpack_corpus(workspace)?;
        let mut judge = workspace.cargo(["test", "--profile", "soak", "--package", "inspect", "--test", "corpus"]);
        run_command(judge.args(["--", "--nocapture"]).env("DRYDOCK_CORPUS", corpus))
    })?;
    step("models of the lock-free parts", || {
        let mut models = workspace.cargo(["test", "--profile", "soak", "--package", "models"]);
        models.env("MODEL_PREEMPTIONS", options.preemptions.to_string());
        run_command(models.env("MODEL_SCHEDULES", options.schedules.to_string()))
    })?;
    step("two threads at each primitive", || {
        let mut hammer =
            workspace.cargo(["test", "--profile", "soak", "--package", "drydock_cli", "--test", "families"]);
        run_command(hammer.env("HAMMER_ROUNDS", options.hammer_rounds.to_string()).args([
            "two_threads",
            "--",
            "--nocapture",
        ]))
    })?;
    step("swarm of simulated runs", || {
        let mut swarm = workspace.cargo(["test", "--profile", "soak", "--package", "drydock_cli", "--test", "swarm"]);
        swarm.args(["--", "--nocapture"]).env("SWARM_RUNS", options.swarm.to_string());
        run_command(swarm.env("SWARM_SEED", new_seed().to_string()))
    })?;
    step("storm of connections", || {
        let mut storm = workspace.cargo(["test", "--profile", "soak", "--package", "sim_net", "--test", "storm"]);
        storm.args(["whatever", "--", "--nocapture"]).env("STORM_CASES", options.storms.to_string());
        run_command(storm.env("STORM_FIRST", new_seed().to_string()))
    })?;
    step("many connections at once", || {
        let mut scale = workspace.cargo(["test", "--profile", "soak", "--package", "drydock_cli", "--test", "scale"]);
        scale.env("SCALE_SOCKETS", options.sockets.to_string());
        run_command(scale.env("SCALE_SIMULATED", options.simulated.to_string()))
    })?;
    let mut build = workspace.cargo(["build", "--profile", "soak", "--package", "drydock_cli"]);
    step("drydock", || run_command(&mut build))?;
    step("samples", || samples::build(workspace))?;
    let end = Instant::now() + Duration::from_secs(60 * options.minutes);
    step("closing paths", || close_until(workspace, end))
}

/// Another one each time.
fn new_seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_secs())
}

/// The hundreds of PE images in Debian's wine package, unpacked but not installed.
fn unpack_corpus(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.target()?.join("corpus");
    let images = folder.join("images");
    if !images.is_dir() {
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        run_command(Command::new("apt-get").args(["download", "libwine"]).current_dir(&folder))?;
        let packages = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let package = packages.flatten().map(|entry| entry.path());
        let package = package.filter(|path| path.extension().is_some_and(|extension| extension == "deb")).max();
        let package = package.context("apt-get downloaded no package")?;
        run_command(Command::new("dpkg-deb").arg("--extract").args([&package, &images]))?;
    }
    Ok(images)
}

fn close_until(workspace: &Workspace, end: Instant) -> Result<()> {
    let body: Vec<u8> = (0..BODY_BYTES).map(|index| (index % 251) as u8).collect();
    let server = http_server::serve(&body).context("cannot listen on loopback")?;
    let program = workspace.target()?.join("soak/drydock");
    let mut runs = 0;
    for seed in 0.. {
        for path in CLOSING_PATHS {
            for shape in SHAPES {
                for receive in ["request", "event"] {
                    if Instant::now() >= end {
                        println!("    {runs} runs");
                        return Ok(());
                    }
                    let drydock = workspace.command(&program);
                    run_once(drydock, server.port(), path, receive, *shape)
                        .with_context(|| format!("pass {seed}: Close={path} Receive={receive}, {shape:?}"))?;
                    runs += 1;
                }
            }
        }
    }
    Ok(())
}

fn run_once(mut drydock: Command, port: u16, path: &str, receive: &str, shape: (u32, u32, u32)) -> Result<()> {
    let (endpoints, threads, rounds) = shape;
    drydock.args(["run", "samples/out/tdi_client.sys", "--quiet", "--json", "--timeout", "600"]);
    for setting in [
        format!("Port={port}"),
        format!("Close={path}"),
        format!("Receive={receive}"),
        format!("Endpoints={endpoints}"),
        format!("Threads={threads}"),
        format!("Rounds={rounds}"),
    ] {
        drydock.args(["--set", &setting]);
    }
    let output = drydock.output().context("cannot start drydock")?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let last = stdout.lines().last().unwrap_or_default();
    let verdict: Value = serde_json::from_str(last).with_context(|| format!("no verdict: {last:?}"))?;
    let counts = &verdict["counts"];
    let balanced = counts["opens"] == counts["cleanups"] && counts["opens"] == counts["closes"];
    if !output.status.success() || verdict["verdict"] != "clean" || !balanced {
        bail!("{}: {last}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
