//! One measurement by the sample driver `bench.sys` in a dock.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use drydock::{Action, Dock, Network, Outcome};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::clock::ticks;
use crate::pin::Shepherd;

/// What `bench.sys` can measure: its control codes in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Work {
    /// Nothing.
    Nothing = 0,
    /// KeSetEvent and KeWaitForSingleObject on a signalled event.
    Event = 1,
    /// Two threads that wake each other.
    PingPong = 2,
    /// ObReferenceObjectByHandle and ObDereferenceObject.
    Reference = 3,
    /// IoAllocateIrp, IoCallDriver, IoCompleteRequest, IoFreeIrp.
    Irp = 4,
    /// Open, associate and close of an endpoint.
    OpenClose = 5,
    /// The whole life of a connection.
    Connect = 6,
    /// A byte there and back.
    Echo = 7,
    /// Sends of 64 KiB.
    Send = 8,
    /// Receives of 64 KiB.
    Receive = 9,
    /// Connections that wait.
    Idle = 10,
}

/// A measurement in the making.
#[derive(Clone, Debug)]
pub struct Measurement<'a> {
    image: &'a Path,
    work: Work,
    count: u32,
    threads: u32,
    port: u16,
    ports: u16,
    cpus: &'static [usize],
}

/// What came out.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Ticks of all operations together.
    pub ticks: u64,
    /// Ticks of the middle operation, where each is timed.
    pub median: u64,
    /// Ticks of the last tenth of the operations, where each is timed.
    pub last_tenth: u64,
    /// Processor time of the whole child.
    pub cpu_ns: f64,
    /// Ticks from before the child's start to the first instruction of DriverEntry.
    pub start_ticks: u64,
    /// Most anonymous memory of the child.
    pub anonymous_kib: u64,
}

/// Time for the child's threads to be pinned before they are measured.
const SETTLE_MS: u32 = 60;

impl<'a> Measurement<'a> {
    /// One thread on processor 0, no peer.
    pub fn new(image: &'a Path, work: Work, count: u32) -> Self {
        Self { image, work, count, threads: 1, port: 7, ports: 1, cpus: &[0] }
    }

    /// Two threads on two processors.
    pub fn on_two_cpus(self) -> Self {
        Self { threads: 2, cpus: &[0, 1], ..self }
    }

    /// Two threads on one processor.
    pub fn with_two_threads(self) -> Self {
        Self { threads: 2, ..self }
    }

    /// Connects to a peer's ports in turn.
    pub fn to(self, port: u16, ports: u16) -> Self {
        Self { port, ports, ..self }
    }

    /// Runs it.
    pub fn run(&self) -> Result<Measured> {
        let input = [self.count.to_le_bytes(), self.threads.to_le_bytes()].concat();
        let code = 0x22_2000 + 4 * self.work as u32;
        let dock = Dock::new()
            .network(Network::Loopback)
            .timeout(Duration::from_secs(300))
            .set("Port", self.port.to_string())
            .set("Ports", self.ports.to_string())
            .set("Settle", SETTLE_MS.to_string())
            .load(self.image)
            .action(Action::ioctl(r"\Device\Bench", code, input, 64));
        let shepherd = Shepherd::start(self.cpus);
        let (cpu_before, started) = (children_cpu_ns()?, ticks());
        let verdict = dock.run();
        let (cpu_ns, anonymous_kib) = (children_cpu_ns()? - cpu_before, shepherd.end());
        let verdict = verdict.map_err(|error| anyhow::anyhow!("{error}"))?;
        if verdict.outcome != Outcome::Clean {
            let first = verdict.findings.first().map(|finding| format!(", first {finding}")).unwrap_or_default();
            bail!("{:?} ended {:?} with {} findings{first}", self.work, verdict.outcome, verdict.findings.len());
        }
        let answer = verdict.actions.first().context("no answer to the control code")?;
        let words = words(&answer.out).with_context(|| format!("{:?} answered {answer}", self.work))?;
        let [ticks, median, last_tenth, failures, entered] = words;
        ensure!(failures == 0, "{:?}: {failures} of {} operations failed", self.work, self.count);
        let start_ticks = entered.saturating_sub(started);
        Ok(Measured { ticks, median, last_tenth, cpu_ns, start_ticks, anonymous_kib })
    }
}

fn words(hex: &str) -> Option<[u64; 5]> {
    let mut words = [0; 5];
    for (word, digits) in words.iter_mut().zip(hex.as_bytes().chunks_exact(16)) {
        *word = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?.swap_bytes();
    }
    (hex.len() == 80).then_some(words)
}

/// Processor time of all children that have ended, and of theirs.
fn children_cpu_ns() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    Ok((usage.user_time() + usage.system_time()).num_microseconds() as f64 * 1000.0)
}
