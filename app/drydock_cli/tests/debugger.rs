//! `--gdb`: the drivers wait for a debugger, and the user is told what to say to it.

mod scenario;

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use scenario::sample;

#[test]
fn drivers_wait_for_a_debugger_and_their_sections_are_named() {
    let image = sample("hello.sys");
    let mut command = Command::new(env!("CARGO_BIN_EXE_drydock"));
    command.arg("run").arg(&image).arg("--gdb").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut run = command.spawn().expect("drydock");
    let mut lines = BufReader::new(run.stderr.take().expect("a pipe")).lines().map(|line| line.expect("text"));
    let first = lines.next().expect("what to do");
    let id = first.split("gdb -p ").nth(1).and_then(|rest| rest.split('\'').next()).expect("a process");
    let id = Pid::from_raw(id.parse().expect("a number"));
    let symbols = lines.by_ref().find(|line| line.starts_with("add-symbol-file ")).expect("the driver's line");
    let whole = image.canonicalize().expect("the sample");
    assert!(symbols.starts_with(&format!("add-symbol-file \"{}\" -s .text 0x1400000", whole.display())), "{symbols}");
    assert!(lines.next().is_some_and(|line| line.contains("continue")));

    ptrace::seize(id, ptrace::Options::empty()).expect("the host process can be traced");
    // Whatever stops it on its way goes on.
    loop {
        match waitpid(id, Some(WaitPidFlag::__WALL)).expect("the traced process") {
            WaitStatus::Stopped(id, signal) => ptrace::cont(id, signal).expect("a stopped process"),
            WaitStatus::PtraceEvent(id, ..) => ptrace::cont(id, None).expect("a stopped process"),
            status => break assert_eq!(status, WaitStatus::Exited(id, 0)),
        }
    }
    let mut account = String::new();
    run.stdout.take().expect("a pipe").read_to_string(&mut account).expect("text");
    assert!(account.contains("calls DriverEntry of hello"), "{account}");
    assert_eq!(run.wait().expect("a child").code(), Some(0), "{account}");
}

#[test]
fn time_limit_holds_while_no_debugger_comes() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drydock"));
    command.arg("run").arg(sample("hello.sys")).args(["--gdb", "--timeout", "1", "--json"]);
    let output = command.current_dir(scenario::folder("no-debugger")).output().expect("drydock");
    let verdict: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a verdict");
    assert_eq!((output.status.code(), &verdict["verdict"]), (Some(2), &"host_failed".into()), "{verdict}");
    let why = verdict["failure"].as_str().expect("a reason");
    assert!(why.contains("no debugger was attached within the time limit"), "{why}");
}
