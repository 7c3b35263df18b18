//! Pinning threads to processors.

use std::fs;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, gettid};

/// How often the child is looked for, and looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Pins the calling thread.
pub fn this_thread(cpus: &[usize]) -> Result<()> {
    thread_to(Pid::from_raw(0), cpus).context("cannot pin a thread; two processors are needed")
}

fn thread_to(thread: Pid, cpus: &[usize]) -> nix::Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu)?;
    }
    sched_setaffinity(thread, &set)
}

/// Follows the child that the calling thread is about to start: pins all its threads, which the supervisor's own pinning would
/// keep on its processor, and notes the most memory it has.
pub struct Shepherd {
    over: Arc<AtomicBool>,
    anonymous_kib: Arc<Mutex<u64>>,
    thread: JoinHandle<()>,
}

impl Shepherd {
    /// Begins to look for a child of this thread.
    pub fn start(cpus: &'static [usize]) -> Self {
        let (over, anonymous_kib) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(0)));
        let children = format!("/proc/{}/task/{}/children", process::id(), gettid());
        let (is_over, most) = (Arc::clone(&over), Arc::clone(&anonymous_kib));
        let thread = thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                for child in fs::read_to_string(&children).unwrap_or_default().split_whitespace() {
                    pin_process(child, cpus);
                    if let (Some(kib), Ok(mut most)) = (anonymous_memory(child), most.lock()) {
                        *most = kib.max(*most);
                    }
                }
                thread::sleep(LOOK_EVERY);
            }
        });
        Self { over, anonymous_kib, thread }
    }

    /// The child has ended. Returns the most anonymous memory it had, in KiB.
    pub fn end(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
        self.anonymous_kib.lock().map(|most| *most).unwrap_or_default()
    }
}

fn pin_process(process: &str, cpus: &[usize]) {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return };
    for thread in threads.flatten() {
        if let Some(thread) = thread.file_name().to_str().and_then(|name| name.parse().ok()) {
            // A thread that has ended needs no processor.
            let _ = thread_to(Pid::from_raw(thread), cpus);
        }
    }
}

fn anonymous_memory(process: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.split_whitespace().next()?.parse().ok()
}
