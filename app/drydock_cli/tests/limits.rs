//! What the host does to a run: nobody reads its output, memory and files have limits, somebody kills the child. No driver is
//! blamed for it.

mod scenario;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use scenario::sample;
use serde_json::Value;

/// Looks at something until it is there.
#[track_caller]
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..6000 {
        if let Some(found) = look() {
            return found;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{what} never came");
}

/// The process that hosts the drivers of a `drydock run`.
fn host_of(drydock: u32) -> Pid {
    let path = format!("/proc/{drydock}/task/{drydock}/children");
    let id = wait_for("the child", || fs::read_to_string(&path).ok()?.split_whitespace().next()?.parse().ok());
    Pid::from_raw(id)
}

/// Whether a process is there and no zombie.
fn is_alive(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z') && !rest.is_empty())
}

fn drydock() -> Command {
    Command::new(env!("CARGO_BIN_EXE_drydock"))
}

/// A run of `crashing.sys` that never ends by itself.
fn endless(folder: &Path) -> Command {
    let mut command = drydock();
    command.arg("run").arg(sample("crashing.sys")).args(["--ioctl", r"\Device\Crashing", "0x222018"]);
    command.arg("--crash-dir").arg(folder);
    command
}

/// An empty folder.
fn empty(name: &str) -> std::path::PathBuf {
    let folder = scenario::folder(name);
    fs::remove_dir_all(&folder).and_then(|()| fs::create_dir_all(&folder)).expect("an empty folder");
    folder
}

/// Runs a sample under a limit of the shell's.
fn limited(limit: &str, driver: &str, arguments: &str) -> Output {
    let line = format!("ulimit {limit}; exec \"$0\" run \"$1\" {arguments}");
    let mut command = Command::new("sh");
    command.args(["-c", &line, env!("CARGO_BIN_EXE_drydock")]).arg(sample(driver));
    command.current_dir(scenario::folder("limited")).output().expect("a shell")
}

#[test]
fn time_limit_ends_the_driver_while_nobody_reads_the_account() {
    let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("a pipe's flag");
    while writer.write(&[b'.'; 4096]).is_ok() {}
    while writer.write(b".").is_ok() {}
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).expect("a pipe's flag");
    let mut run = endless(&empty("unread")).args(["--timeout", "1"]).stdout(writer).spawn().expect("drydock");
    let host = host_of(run.id());
    wait_for("the end of the driver", || (!is_alive(host)).then_some(()));
    // Still held up by its reader, who comes only now.
    assert_eq!(run.try_wait().expect("a child"), None);
    let mut text = String::new();
    // The command, which holds the other end, is gone already.
    reader.read_to_string(&mut text).expect("text");
    assert_eq!(run.wait().expect("a child").code(), Some(2));
    assert!(text.contains("0x00000133 DPC_WATCHDOG_VIOLATION"), "{text}");
}

#[test]
fn run_that_was_stopped_from_outside_is_not_blamed_on_the_driver() {
    let mut run = endless(&empty("stopped")).arg("--json").stdout(Stdio::piped()).spawn().expect("drydock");
    host_of(run.id());
    kill(Pid::from_raw(run.id() as i32), Signal::SIGINT).expect("a process");
    let mut text = String::new();
    run.stdout.take().expect("a pipe").read_to_string(&mut text).expect("text");
    assert_eq!(run.wait().expect("a child").code(), Some(130), "{text}");
    let verdict: Value = serde_json::from_str(text.lines().last().unwrap_or_default()).expect("a verdict");
    assert_eq!((&verdict["verdict"], &verdict["bugcheck"]), (&"host_failed".into(), &Value::Null), "{verdict}");
    assert!(verdict["failure"].as_str().is_some_and(|why| why.contains("SIGINT")), "{verdict}");
}

#[test]
fn lack_of_memory_at_the_start_is_the_hosts_failure() {
    let output = limited("-v 1000000", "hello.sys", "--json");
    let verdict: Value = serde_json::from_slice(&output.stdout).expect("a verdict");
    assert_eq!((output.status.code(), &verdict["verdict"]), (Some(2), &"host_failed".into()), "{verdict}");
    assert_eq!(verdict["bugcheck"], Value::Null);
    assert!(verdict["failure"].as_str().is_some_and(|why| why.contains("memory")), "{verdict}");
}

/// A hundred connections at once under this limit of descriptors.
fn connected_under(limit: &str) -> (Option<i32>, Value, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let port = listener.local_addr().expect("its address").port();
    // All of them fit into the listener's queue, and nothing is sent.
    let output = limited(
        limit,
        "tdi_client.sys",
        &format!("--json --set Port={port} --set Path= --set Close=abort --set Endpoints=100"),
    );
    let verdict = serde_json::from_slice(&output.stdout).expect("a verdict");
    (output.status.code(), verdict, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn soft_limit_of_descriptors_does_not_limit_connections() {
    let (status, verdict, account) = connected_under("-S -n 64");
    assert_eq!((status, &verdict["verdict"]), (Some(0), &"clean".into()), "{verdict}");
    assert!(account.contains("done: 100 connections, 0 failed"), "{account}");
}

#[test]
fn hard_limit_of_descriptors_fails_connects_with_insufficient_resources_and_leaves_nothing_behind() {
    let (status, verdict, account) = connected_under("-n 64");
    assert_eq!((status, &verdict["verdict"]), (Some(2), &"driver_failed".into()), "{verdict}");
    assert_eq!(verdict["findings"], Value::Array(Vec::new()));
    assert_eq!(verdict["counts"]["opens"], verdict["counts"]["closes"]);
    assert!(account.contains("connect failed with status c000009a"), "{account}");
}

#[test]
fn limit_of_file_size_is_told_and_kills_nobody() {
    let output = limited("-f 1", "hello.sys", "--quiet --trace small.jsonl");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("ulimit -f"), "{error}");
}

#[test]
fn killed_host_process_leaves_a_crash_file_and_is_not_blamed_on_the_driver() {
    let folder = empty("killed");
    let run = endless(&folder).arg("--json").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut run = run.expect("drydock");
    let host = host_of(run.id());
    // Once the driver runs.
    let mut account = std::io::BufReader::new(run.stderr.take().expect("a pipe"));
    let mut line = String::new();
    while !line.contains("opens ") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut account, &mut line).expect("text") > 0, "no open was told");
    }
    kill(host, Signal::SIGKILL).expect("the host process");
    let output = run.wait_with_output().expect("a verdict");
    let verdict: Value = serde_json::from_slice(&output.stdout).expect("a verdict");
    assert_eq!((output.status.code(), &verdict["verdict"]), (Some(2), &"host_failed".into()), "{verdict}");
    assert!(verdict["failure"].as_str().is_some_and(|why| why.contains("SIGKILL")), "{verdict}");
    let file = folder.join("drydock-crash-1.txt");
    assert_eq!(verdict["crash_file"], file.display().to_string());
    let text = fs::read_to_string(file).expect("the crash file");
    let last: Value = serde_json::from_str(text.lines().last().expect("lines")).expect("JSON");
    assert_eq!(last["bugcheck"]["code"], "0xd0c00005");
    assert!(last["events"].as_array().is_some_and(|events| !events.is_empty()), "{last}");
}

#[test]
fn crashes_beside_each_other_leave_a_file_each() {
    let folder = empty("crashes-beside");
    let run = || {
        let mut command = drydock();
        command.arg("run").arg(sample("crashing.sys")).args(["--quiet", "--ioctl", r"\Device\Crashing", "0x22200C"]);
        command.arg("--crash-dir").arg(&folder).stdout(Stdio::null()).spawn().expect("drydock")
    };
    for mut run in [run(), run(), run()] {
        assert_eq!(run.wait().expect("a child").code(), Some(2));
    }
    for number in 1..=3 {
        let text = fs::read_to_string(folder.join(format!("drydock-crash-{number}.txt"))).expect("a crash file");
        assert!(text.contains("Bugcheck 0x000000e2"), "{text}");
    }
}
