//! The supervisor: starts the child, follows its trace, and judges.
//!
//! Nothing the child can write to is trusted: the trace reader and the message reader take hostile input,
//! and an end of the child that neither of them explains is reported as a crash.

use std::env;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use trace::{TraceFile, TraceOptions, TraceReader};

use crate::host::{HOST_VARIABLE, MESSAGE_DESCRIPTOR, TRACE_DESCRIPTOR};
use crate::message::{self, Message};
use crate::outputs::{Outputs, Wanted};
use crate::plan::Plan;
use crate::{DockError, Verdict, judge};

/// How often the trace is read while the child runs.
const DRAIN_EVERY: Duration = Duration::from_millis(2);
/// How long a child may take to record its own death after the time limit.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Set by `host_entry`: this executable can become the child.
pub static HOST_ENTRY_CALLED: OnceLock<()> = OnceLock::new();

/// How the child's life ended, beside what it recorded itself.
#[derive(Debug)]
pub struct ChildEnd {
    /// Its exit status.
    pub status: ExitStatus,
    /// Whether the time limit ended it.
    pub timed_out: bool,
    /// What it wrote to stderr: the panic message of a fault of ours, for example.
    pub last_words: String,
}

/// Runs the plan in a child process.
pub fn run(plan: &Plan, wanted: Wanted, host_program: Option<PathBuf>) -> Result<Verdict, DockError> {
    let host_program = match host_program {
        Some(program) => program,
        None if HOST_ENTRY_CALLED.get().is_some() => {
            env::current_exe().map_err(DockError::setup("find this program"))?
        }
        None => return Err(DockError::NoHostProgram),
    };
    // Whoever asked for events gets all of them: then the child waits for the reader instead of overwriting.
    let lossless = wanted.needs_every_event() || plan.seed.is_some();
    let trace =
        TraceFile::create(&TraceOptions { lossless, virtual_time: plan.seed.is_some(), ..TraceOptions::default() });
    let trace = trace.map_err(DockError::setup("create the trace memory"))?;
    let mut reader = TraceReader::new(&trace).map_err(DockError::setup("map the trace memory"))?;
    let mut outputs = Outputs::open(wanted)?;

    let (messages, message_writer) = io::pipe().map_err(DockError::setup("make a pipe"))?;
    let mut child = start(&host_program, plan, trace.try_clone_fd(), message_writer.into())?;
    let messages = thread::spawn(move || message::receive_all(messages.into()));
    let last_words = child.stderr.take().map(|stderr| thread::spawn(move || tail(stderr)));

    let (status, timed_out) = follow(&mut child, plan.timeout, &mut reader, &mut outputs)?;
    let messages = messages.join().unwrap_or_default();
    let last_words = last_words.and_then(|thread| thread.join().ok()).unwrap_or_default();
    outputs.take(reader.finish())?;

    let end = ChildEnd { status, timed_out, last_words };
    let complete = messages.contains(&Message::Finished);
    let broken = outputs.broken_rules(reader.lost(), complete);
    let verdict = judge::judge(plan, &reader, &messages, &end, broken, outputs.take_prints());
    outputs.finish(&reader, &verdict)?;
    Ok(verdict)
}

/// Starts the child with the trace, the message pipe and the plan in its hands.
fn start(program: &PathBuf, plan: &Plan, trace: io::Result<OwnedFd>, messages: OwnedFd) -> Result<Child, DockError> {
    let trace = trace.map_err(DockError::setup("hand over the trace memory"))?;
    let mut command = Command::new(program);
    command.env(HOST_VARIABLE, "1").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mappings = vec![
        FdMapping { parent_fd: trace, child_fd: TRACE_DESCRIPTOR },
        FdMapping { parent_fd: messages, child_fd: MESSAGE_DESCRIPTOR },
    ];
    command
        .fd_mappings(mappings)
        .map_err(|error| DockError::setup("hand over descriptors")(io::Error::other(error)))?;
    let mut child = command.spawn().map_err(DockError::setup("start the host program"))?;
    let plan = serde_json::to_vec(plan).map_err(|error| DockError::setup("write down the plan")(error.into()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A child that is gone already will be explained by its end.
        let _ = stdin.write_all(&plan);
    }
    Ok(child)
}

/// Reads the trace until the child has ended; ends it when its time is up.
fn follow(
    child: &mut Child,
    timeout: Option<Duration>,
    reader: &mut TraceReader,
    outputs: &mut Outputs,
) -> Result<(ExitStatus, bool), DockError> {
    let started = Instant::now();
    let mut asked = None;
    loop {
        outputs.take(reader.drain())?;
        if let Some(status) = child.try_wait().map_err(DockError::setup("wait for the child"))? {
            return Ok((status, asked.is_some()));
        }
        match asked {
            None if timeout.is_some_and(|timeout| started.elapsed() > timeout) => {
                // The child's handler records where the driver is before it exits.
                let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGUSR2);
                asked = Some(Instant::now());
            }
            Some(since) if since.elapsed() > LAST_WORDS => {
                child.kill().map_err(DockError::setup("stop the child"))?;
            }
            _ => {}
        }
        thread::sleep(DRAIN_EVERY);
    }
}

/// The last few kilobytes of a stream.
fn tail(mut stream: impl io::Read) -> String {
    const KEEP: usize = 8 << 10;
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..count]);
        if kept.len() > 2 * KEEP {
            kept.drain(..kept.len() - KEEP);
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

impl ChildEnd {
    /// The end in words, for a child that recorded nothing itself.
    pub fn in_words(&self) -> String {
        match (self.status.signal(), self.status.code()) {
            (Some(signal), _) => {
                let name =
                    Signal::try_from(signal).map_or_else(|_| format!("signal {signal}"), |signal| signal.to_string());
                format!("was killed by {name}")
            }
            (None, Some(code)) => format!("exited with status {code}"),
            (None, None) => "ended".into(),
        }
    }
}
