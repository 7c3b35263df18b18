//! The supervisor: starts the child, follows its trace, and judges.
//!
//! Nothing the child can write to is trusted: the trace reader and the message reader take hostile input,
//! and an end of the child that neither of them explains is reported as a crash.

use std::env;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use nix::sys::signal::Signal;
use nt_executive::registry;
use sim_net::{NetworkFile, Sim};
use trace::{TraceFile, TraceOptions, TraceReader};

use crate::frames;
use crate::host::{FRAME_DESCRIPTOR, FRAMES_VARIABLE, HOST_NAME, MESSAGE_DESCRIPTOR, TRACE_DESCRIPTOR};
use crate::limit::{End, Limited};
use crate::message::{self, Message};
use crate::outputs::{Outputs, Wanted};
use crate::plan::{Network, Plan};
use crate::{DockError, Verdict, debugger, judge, places};

/// How often the trace is read while the child runs.
const DRAIN_EVERY: Duration = Duration::from_millis(2);

/// How long what drivers registered for a bugcheck may take, once there is one.
const CALLBACKS: Duration = Duration::from_secs(1);

/// Set by `host_entry`: this executable can become the child.
pub static HOST_ENTRY_CALLED: OnceLock<()> = OnceLock::new();

/// How the child's life ended, beside what it recorded itself.
#[derive(Debug)]
pub struct ChildEnd {
    /// How the process ended.
    pub end: End,
    /// What it wrote to stderr: the panic message of a fault of ours, for example.
    pub last_words: String,
    /// It still waited for a debugger.
    pub undebugged: bool,
}

/// Runs the plan in a child process.
pub fn run(mut plan: Plan, wanted: Wanted, host_program: Option<PathBuf>) -> Result<Verdict, DockError> {
    let host_program = match host_program {
        Some(program) => program,
        None if HOST_ENTRY_CALLED.get().is_some() => {
            env::current_exe().map_err(DockError::setup("find this program"))?
        }
        None => return Err(DockError::NoHostProgram),
    };
    let simulation = match &plan.network {
        Network::Simulated(description) => Some(description.parse().map_err(DockError::Network)?),
        _ => None,
    };
    if let Some(file) = &simulation {
        // Virtual time has no other executor.
        plan.seed = plan.seed.or(file.seed()).or(Some(0));
        check_drivers(&plan, file)?;
    }
    let plan = &plan;
    check_inputs(plan)?;
    // Whoever asked for events gets all of them: then the child waits for the reader instead of overwriting.
    let lossless = wanted.needs_every_event() || plan.seed.is_some();
    let trace =
        TraceFile::create(&TraceOptions { lossless, virtual_time: plan.seed.is_some(), ..TraceOptions::default() });
    let trace = trace.map_err(DockError::setup("create the trace memory"))?;
    let mut reader = TraceReader::new(&trace).map_err(DockError::setup("map the trace memory"))?;
    let capture = wanted.capture.clone();
    let mut outputs = Outputs::open(wanted)?;

    let (messages, message_writer) = io::pipe().map_err(DockError::setup("make a pipe"))?;
    let capture = wanted_capture(capture, simulation.as_ref())?;
    let (frames, capture) = capture.map_or((None, None), |(frames, capture)| (Some(frames), Some(capture)));
    let debugger = outputs.take_debugger();
    let mut child = start(&host_program, plan, trace.try_clone_fd(), message_writer.into(), frames)?;
    let actions = plan.actions.clone();
    let messages = thread::spawn(move || message::receive_all(messages.into(), &actions));
    let last_words = child.stderr.take().map(|stderr| thread::spawn(move || tail(stderr)));
    let mut waiting = child.stdin.take().zip(debugger).map(|(go, to)| debugger::Waiting::new(child.id(), go, to));
    let child = Limited::new(child);
    // A debugger that never comes must not hold the run for ever either, if it has a limit at all.
    child.begin(plan.timeout);

    let mut has_ended = false;
    let end = loop {
        outputs.take(reader.drain());
        if let Some(end) = child.try_wait().map_err(DockError::setup("wait for the child"))? {
            break end;
        }
        if !has_ended && !plan.debugger && reader.bugcheck().is_some() {
            has_ended = true;
            child.begin(Some(CALLBACKS));
        }
        if waiting.as_mut().is_some_and(|waiting| waiting.look(plan, &reader)) {
            waiting = None;
            child.begin(plan.timeout);
        }
        thread::sleep(DRAIN_EVERY);
    };
    let messages = messages.join().unwrap_or_default();
    let last_words = last_words.and_then(|thread| thread.join().ok()).unwrap_or_default();
    outputs.take(reader.finish());
    if let Some(capture) = capture
        && let Err((path, error)) = capture.finish()
    {
        outputs.could_not_write(Some(path), &error);
    }

    let end = ChildEnd { end, last_words, undebugged: waiting.is_some() };
    let complete = messages.contains(&Message::Finished);
    let report = outputs.broken_rules(reader.lost(), complete);
    let (mut verdict, death) = judge::judge(plan, &reader, &messages, &end, report, outputs.take_prints());
    places::add(&mut verdict, plan, &host_program);
    outputs.finish(&reader, &mut verdict, death);
    Ok(verdict)
}

/// What the run is made of must be there and make sense, before anything is written or started.
fn check_inputs(plan: &Plan) -> Result<(), DockError> {
    for path in &plan.drivers {
        let metadata = path.metadata().map_err(DockError::input(path))?;
        if !metadata.is_file() {
            let why = io::Error::other("it is no regular file; name the driver's .sys file");
            return Err(DockError::input(path)(why));
        }
        File::open(path).map_err(DockError::input(path))?;
    }
    match plan.registry.as_ref().map(|text| registry::check(text)) {
        Some(Err(error)) => Err(DockError::Registry(error.to_string())),
        _ => Ok(()),
    }
}

/// Every driver that a network file gives a host must be loaded: a slip in its name would put it on another host.
fn check_drivers(plan: &Plan, file: &NetworkFile) -> Result<(), DockError> {
    let loaded = |name: &str| plan.drivers.iter().any(|path| path.file_name().is_some_and(|file| file == name));
    match file.drivers().find(|(_, driver)| !loaded(driver)) {
        None => Ok(()),
        Some((host, driver)) => {
            Err(DockError::NoSuchDriver { host: host.into(), driver: driver.into(), loaded: plan.driver_names() })
        }
    }
}

/// A capture file being written by a thread of its own.
struct Capture {
    path: PathBuf,
    thread: thread::JoinHandle<io::Result<()>>,
}

impl Capture {
    /// Waits for the last packet.
    fn finish(self) -> Result<(), (PathBuf, io::Error)> {
        let written = self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the capture's thread panicked")));
        written.map_err(|error| (self.path, error))
    }
}

/// Opens the capture file and gives the descriptor for the child to write packets to.
fn wanted_capture(
    path: Option<PathBuf>,
    simulation: Option<&NetworkFile>,
) -> Result<Option<(OwnedFd, Capture)>, DockError> {
    let Some(path) = path else { return Ok(None) };
    let Some(simulation) = simulation else { return Err(DockError::NothingToCapture) };
    let wires = Sim::new(simulation, 0).wires();
    let file = File::create(&path).map_err(DockError::file(&path))?;
    let (reader, writer) = io::pipe().map_err(DockError::setup("make a pipe"))?;
    let thread = thread::spawn(move || frames::capture(reader.into(), file, &wires));
    Ok(Some((writer.into(), Capture { path, thread })))
}

/// Starts the child with the trace, the message pipe and the plan in its hands.
fn start(
    program: &PathBuf,
    plan: &Plan,
    trace: io::Result<OwnedFd>,
    messages: OwnedFd,
    frames: Option<OwnedFd>,
) -> Result<Child, DockError> {
    let trace = trace.map_err(DockError::setup("hand over the trace memory"))?;
    let waits = plan.debugger;
    let mut plan = serde_json::to_vec(plan).map_err(|error| DockError::setup("write down the plan")(error.into()))?;
    plan.push(b'\n');
    let mut command = Command::new(program);
    // A driver has no business with the user's environment; and a signal to the terminal's programs is for the supervisor, which
    // ends the child in good order.
    command.env_clear().envs(env::vars_os().filter(|(name, _)| name == "RUST_BACKTRACE")).process_group(0);
    command.arg0(HOST_NAME).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut mappings = vec![
        FdMapping { parent_fd: trace, child_fd: TRACE_DESCRIPTOR },
        FdMapping { parent_fd: messages, child_fd: MESSAGE_DESCRIPTOR },
    ];
    if let Some(frames) = frames {
        command.env(FRAMES_VARIABLE, "1");
        mappings.push(FdMapping { parent_fd: frames, child_fd: FRAME_DESCRIPTOR });
    }
    command
        .fd_mappings(mappings)
        .map_err(|error| DockError::setup("hand over descriptors")(io::Error::other(error)))?;
    let mut child = command.spawn().map_err(DockError::setup("start the host program"))?;
    if let Some(stdin) = &mut child.stdin {
        // A child that is gone already will be explained by its end.
        let _ = stdin.write_all(&plan);
    }
    if !waits {
        // The plan ends here.
        child.stdin = None;
    }
    Ok(child)
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
    /// The signal of the host's that ended it, if no fault of the driver's can be behind it.
    pub fn signal_from_outside(&self) -> Option<Signal> {
        let signal = Signal::try_from(self.end.status.signal()?).ok()?;
        let from_outside = match signal {
            Signal::SIGKILL => !self.end.killed,
            Signal::SIGTERM | Signal::SIGINT | Signal::SIGHUP | Signal::SIGQUIT | Signal::SIGXCPU | Signal::SIGXFSZ => {
                true
            }
            _ => false,
        };
        from_outside.then_some(signal)
    }

    /// Whether it could get no more memory: Rust says so before it aborts.
    pub fn ran_out_of_memory(&self) -> bool {
        self.end.status.signal() == Some(Signal::SIGABRT as i32) && self.last_words.contains("memory allocation of ")
    }
    /// The end in words, for a child that recorded nothing itself.
    pub fn in_words(&self) -> String {
        match (self.end.status.signal(), self.end.status.code()) {
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
