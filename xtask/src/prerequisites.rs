//! System packages the commands need, installed where possible.
//!
//! A command names the tools it needs; those that are missing are installed with apt-get, when we are root or sudo asks no
//! password. Otherwise the user gets one line to copy.

use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context, Result, bail};

/// A program and the Debian or Ubuntu package it comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tool {
    program: &'static str,
    package: &'static str,
}

const MINGW: Tool = Tool { program: "x86_64-w64-mingw32-gcc", package: "gcc-mingw-w64-x86-64" };
const MAKE: Tool = Tool { program: "make", package: "make" };
const CLANG: Tool = Tool { program: "clang-19", package: "clang-19" };
const LLD: Tool = Tool { program: "lld-link-19", package: "lld-19" };
const GIT: Tool = Tool { program: "git", package: "git" };
const PYTHON: Tool = Tool { program: "python3", package: "python3" };
const NGINX: Tool = Tool { program: "nginx", package: "nginx-light" };
const OPENSSL: Tool = Tool { program: "openssl", package: "openssl" };
const SOCAT: Tool = Tool { program: "socat", package: "socat" };
const TSHARK: Tool = Tool { program: "tshark", package: "tshark" };

/// For building the sample drivers.
pub const SAMPLES: &[Tool] = &[MINGW, MAKE];

/// For building every driver: the samples', the test drivers, and those with structured exceptions.
pub const DRIVERS: &[Tool] = &[MINGW, MAKE, CLANG, LLD];

/// For all tests: the samples, drivers with structured exceptions, servers, clients and a packet reader that nobody here wrote, and
/// the list of tracked files.
pub const TESTS: &[Tool] = &[MINGW, MAKE, CLANG, LLD, GIT, PYTHON, NGINX, OPENSSL, SOCAT, TSHARK];

/// Makes sure that the tools are there.
///
/// # Errors
/// When some are missing and cannot be installed; the message holds the command that would.
pub fn install(tools: &[Tool]) -> Result<()> {
    let missing: Vec<Tool> = tools.iter().copied().filter(|tool| !is_installed(tool.program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    let by_hand = format!("sudo apt-get install --no-install-recommends {}", packages.join(" "));
    let Some(privilege) = privilege() else {
        bail!("missing system packages; install them with: {by_hand}");
    };
    println!("==> installing {}", packages.join(" "));
    // The package lists may be absent (containers) or old: they are fetched only if installing fails without.
    let installed = apt_get(privilege, &install_arguments(&packages)).is_ok()
        || (apt_get(privilege, &["update"]).is_ok() && apt_get(privilege, &install_arguments(&packages)).is_ok());
    if packages.contains(&NGINX.package) {
        keep_service_off(privilege, "nginx");
    }
    if !installed || missing.iter().any(|tool| !is_installed(tool.program)) {
        bail!("installing system packages failed; try: {by_hand}");
    }
    Ok(())
}

/// The parts of rustup's toolchain that its minimal profile leaves out.
pub fn install_components() -> Result<()> {
    let works = |component: &str| {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        let status = cargo.args([component, "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    if works("clippy") && works("fmt") {
        return Ok(());
    }
    let status = Command::new("rustup").args(["component", "add", "clippy", "rustfmt"]).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        _ => bail!("clippy and rustfmt are missing; install them with: rustup component add clippy rustfmt"),
    }
}

/// How to become root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Privilege {
    Root,
    Sudo,
}

fn privilege() -> Option<Privilege> {
    if !is_installed("apt-get") {
        return None;
    }
    if effective_user().is_some_and(|user| user == 0) {
        return Some(Privilege::Root);
    }
    let mut sudo = Command::new("sudo");
    let status = sudo.args(["-n", "true"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success()).then_some(Privilege::Sudo)
}

/// The effective user id, from the kernel's own table: the second of the four on the `Uid:` line.
fn effective_user() -> Option<u32> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn install_arguments<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    ["install", "--yes", "--quiet", "--no-install-recommends"].into_iter().chain(packages.iter().copied()).collect()
}

fn apt_get(privilege: Privilege, arguments: &[&str]) -> Result<()> {
    // Nobody is there to answer questions, and a package's service must not be started on a developer's machine.
    let mut command = as_root(privilege, &["env", "DEBIAN_FRONTEND=noninteractive", "SYSTEMD_OFFLINE=1", "apt-get"]);
    let status = command.args(arguments).stdin(Stdio::null()).status().context("cannot start apt-get")?;
    if status.success() { Ok(()) } else { bail!("apt-get {} ended with {status}", arguments.join(" ")) }
}

/// Tests start their own server; the package's must not come up at the next boot.
fn keep_service_off(privilege: Privilege, service: &str) {
    if Path::new("/run/systemd/system").exists() {
        let mut command = as_root(privilege, &["systemctl", "--quiet", "disable", service]);
        // Best effort: without systemd's help the service is not started either.
        let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

fn as_root(privilege: Privilege, words: &[&str]) -> Command {
    let words: Vec<&str> = match privilege {
        Privilege::Root => words.to_vec(),
        Privilege::Sudo => ["sudo", "-n"].iter().chain(words).copied().collect(),
    };
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

/// Whether a program is on the path. System administrators' folders are looked into as well: Debian leaves them off the
/// path of ordinary users, and nginx is there.
fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(Into::into);
    env::split_paths(&path).chain(system).any(|folder| folder.join(program).is_file())
}
