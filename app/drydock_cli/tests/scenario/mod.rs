//! The vocabulary of the whole-process tests: sample drivers, the `drydock` command, servers and an
//! observer that sees how a connection really ended.

#![allow(dead_code, reason = "each test binary uses its part of the vocabulary")]

pub mod clients;
pub mod peers;
pub mod server;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use nix::unistd::Pid;
use serde_json::Value;

/// The folder with the built samples; builds them once per test binary.
pub fn samples() -> &'static Path {
    static SAMPLES: OnceLock<PathBuf> = OnceLock::new();
    SAMPLES.get_or_init(|| built("../../samples", "samples"))
}

/// A folder of this test binary's own with what the Makefile in `source`, a folder of this crate's, builds. One per test binary:
/// make runs of parallel binaries must not meet.
pub fn built(source: &str, name: &str) -> PathBuf {
    let out = folder(name);
    let mut make = Command::new("make");
    make.arg("-s").arg("-C").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(source));
    let made = make.arg(format!("OUT={}", out.display())).output().expect("make can be started (apt-get install make)");
    assert!(made.status.success(), "{source}: {}", String::from_utf8_lossy(&made.stderr));
    out
}

/// One sample driver's image.
pub fn sample(name: &str) -> PathBuf {
    samples().join(name)
}

/// A folder of this test binary's own, empty but for what its tests wrote.
pub fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", env!("CARGO_CRATE_NAME")));
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Two simulated hosts: the sample client has one, the sample server the other.
pub const CLIENT_AND_SERVER: &str = r#"
    [default_link]
    latency = "10ms"
    jitter = "3ms"
    [[host]]
    name = "a"
    address = ["10.0.0.1"]
    driver = "tdi_client.sys"
    [[host]]
    name = "b"
    address = ["10.0.0.2"]
    driver = "tdi_server.sys"
"#;

/// A network file of this test binary's, as `--net` takes it.
pub fn simulated(name: &str, text: &str) -> String {
    let file = folder("networks").join(name).with_extension("toml");
    // Tests run side by side, and another may be reading the file of this name.
    let draft = file.with_extension(format!("{:?}", std::thread::current().id()));
    std::fs::write(&draft, text).and_then(|()| std::fs::rename(&draft, &file)).expect("a network file");
    format!("sim:{}", file.display())
}

/// A `drydock run` in the making.
pub struct Run {
    command: Command,
    crash_folder: PathBuf,
}

/// What a run printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub status: Option<i32>,
    pub account: String,
    pub verdict: Value,
}

impl Run {
    pub fn of(driver: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_drydock"));
        command.arg("run").arg(driver).arg("--json");
        Self { command, crash_folder: folder("crashes") }
    }

    /// Where a crash file goes.
    pub fn crash_folder(self, crash_folder: PathBuf) -> Self {
        Self { crash_folder, ..self }
    }

    /// The sample client, against this server.
    pub fn client(server: SocketAddr) -> Self {
        Self::sample("tdi_client.sys").set("Host", server.ip()).set("Port", server.port())
    }

    pub fn sample(name: &str) -> Self {
        Self::of(sample(name))
    }

    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    pub fn args<const N: usize>(self, arguments: [&str; N]) -> Self {
        arguments.into_iter().fold(self, |run, argument| run.arg(argument))
    }

    pub fn set(self, name: &str, value: impl std::fmt::Display) -> Self {
        self.arg("--set").arg(format!("{name}={value}"))
    }

    pub fn ioctl(self, device: &str, code: u32) -> Self {
        self.arg("--ioctl").arg(device).arg(format!("{code:#x}"))
    }

    /// Runs it; the last line of stdout must be the verdict.
    #[track_caller]
    pub fn run(mut self) -> Ran {
        self.command.arg("--crash-dir").arg(&self.crash_folder);
        let Output { status, stdout, stderr } = self.command.output().expect("drydock can be started");
        Ran::new(status.code(), &stdout, String::from_utf8_lossy(&stderr).into_owned())
    }

    /// Runs it beside the test.
    pub fn start(mut self) -> Running {
        self.command.arg("--crash-dir").arg(&self.crash_folder);
        let command = self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("drydock can be started");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let (sender, lines) = mpsc::channel();
        // Whether or not the test looks: a full pipe would hold the run up.
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Running { child, lines, account: String::new() }
    }
}

/// A `drydock run` under way; it ends with this value.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    account: String,
}

impl Running {
    /// The next line of the account that contains `text`, as soon as it is there.
    #[track_caller]
    pub fn line(&mut self, text: &str) -> String {
        for line in &self.lines {
            self.account += &line;
            self.account.push('\n');
            if line.contains(text) {
                return line;
            }
        }
        panic!("the run ended without a line with {text:?}:\n{}", self.account);
    }

    /// The process that hosts the drivers.
    pub fn host(&self) -> Pid {
        let path = format!("/proc/{0}/task/{0}/children", self.child.id());
        let children = std::fs::read_to_string(path).expect("a process");
        Pid::from_raw(children.trim().parse().expect("one child"))
    }

    /// Where the sample server listens, as soon as it does.
    #[track_caller]
    pub fn served_at(&mut self) -> SocketAddr {
        let line = self.line("tdi_server: port ");
        let port = line.rsplit(' ').next().map(|port| port.trim_end_matches('”'));
        let port = port.and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("no port: {line}"));
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(mut self) -> Ran {
        let mut stdout = Vec::new();
        let pipe = self.child.stdout.take().expect("a pipe");
        BufReader::new(pipe).read_to_end(&mut stdout).expect("its output");
        let status = self.child.wait().expect("its end");
        for line in &self.lines {
            self.account += &line;
            self.account.push('\n');
        }
        Ran::new(status.code(), &stdout, std::mem::take(&mut self.account))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After its end these do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ran {
    #[track_caller]
    fn new(status: Option<i32>, stdout: &[u8], account: String) -> Self {
        let stdout = String::from_utf8_lossy(stdout);
        let last = stdout.lines().last().unwrap_or_default();
        let verdict = serde_json::from_str(last)
            .unwrap_or_else(|error| panic!("last line of stdout is no JSON ({error}): {last:?}\n{account}"));
        Self { status, account, verdict }
    }

    /// The run must have been clean, with every open matched by one cleanup and one close.
    #[track_caller]
    pub fn expect_clean(self) -> Self {
        assert_eq!((self.status, &self.verdict["verdict"]), (Some(0), &"clean".into()), "{self:#?}");
        let counts = &self.verdict["counts"];
        assert_eq!(counts["opens"], counts["cleanups"], "{self:#?}");
        assert_eq!(counts["opens"], counts["closes"], "{self:#?}");
        self
    }

    /// The run must have ended with this outcome and exit status.
    #[track_caller]
    pub fn expect(self, outcome: &str, status: i32) -> Self {
        assert_eq!((self.status, &self.verdict["verdict"]), (Some(status), &outcome.into()), "{self:#?}");
        self
    }

    /// A line of the account that contains `text`.
    #[track_caller]
    pub fn line(&self, text: &str) -> &str {
        let line = self.account.lines().find(|line| line.contains(text));
        line.unwrap_or_else(|| panic!("no line with {text:?} in\n{}", self.account))
    }

    pub fn count(&self, name: &str) -> u64 {
        self.verdict["counts"][name].as_u64().unwrap_or_else(|| panic!("no count {name}: {}", self.verdict))
    }

    /// Messages of all findings.
    pub fn findings(&self) -> Vec<&str> {
        let findings = self.verdict["findings"].as_array().expect("findings is an array");
        findings.iter().filter_map(|finding| finding["message"].as_str()).collect()
    }
}
