//! Calls that end their process.

use std::env;
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Command, Stdio};

use command_fds::{CommandFdExt, FdMapping};
use gate::bugcheck::BUGCHECK_EXIT;
use gate::call;
use trace::{BugCheckRecord, TraceFile, TraceOptions, TraceReader, TraceWriter};

/// The name that every test executable using [`bugcheck`] must give to a test that calls [`child`].
pub const CHILD: &str = "child";
const CASE: &str = "EXCEPTIONS_CASE";
const TRACE: i32 = 3;

/// The record that a process leaves in which the export `name` was called with `argument`, on the main thread.
///
/// # Panics
/// If it leaves none.
pub fn bugcheck(name: &str, argument: u64) -> BugCheckRecord {
    run(name, argument, "main")
}

/// [`bugcheck`] on a thread that the kernel started.
///
/// # Panics
/// If it leaves none.
pub fn bugcheck_in_system_thread(name: &str, argument: u64) -> BugCheckRecord {
    run(name, argument, "system")
}

fn run(name: &str, argument: u64, thread: &str) -> BugCheckRecord {
    // Build first: only one process does.
    crate::driver();
    let file = TraceFile::create(&TraceOptions::default()).expect("a trace file");
    let mut reader = TraceReader::new(&file).expect("a reader");
    let mapping = FdMapping { parent_fd: file.try_clone_fd().expect("a descriptor"), child_fd: TRACE };
    let output = Command::new(env::current_exe().expect("this executable"))
        .args([CHILD, "--exact", "--nocapture", "--test-threads=1"])
        .env(CASE, format!("{name} {argument} {thread}"))
        .stdin(Stdio::null())
        .fd_mappings(vec![mapping])
        .expect("one mapping")
        .output()
        .expect("a child");
    reader.drain();
    let Some(record) = reader.bugcheck() else {
        panic!("{name} left no record: {} {}", output.status, String::from_utf8_lossy(&output.stderr))
    };
    assert_eq!(output.status.code(), Some(BUGCHECK_EXIT), "{record:?}");
    assert!(record.complete, "{record:?}");
    record
}

/// In a child, does what the parent asked for and does not return; elsewhere does nothing.
pub fn child() {
    let Ok(case) = env::var(CASE) else { return };
    let mut words = case.split(' ');
    let (Some(name), Some(Ok(argument)), Some(thread)) =
        (words.next(), words.next().map(str::parse::<u64>), words.next())
    else {
        panic!("{case} is no case")
    };
    // SAFETY: the parent has mapped this descriptor for us, and nothing else here owns it.
    let trace = unsafe { OwnedFd::from_raw_fd(TRACE) };
    gate::set_trace(TraceWriter::map(trace).expect("the parent's trace"));
    gate::bugcheck::install_panic_hook();
    crate::driver();
    crate::enter_kernel();
    if thread == "system" {
        let job = (crate::address(name), argument);
        call::enter(start, std::ptr::from_ref(&job) as u64);
    } else {
        crate::call(name, argument);
    }
    panic!("{name} came back, having noted {:?}", crate::notes());
}

extern "C" fn start(job: u64) {
    // SAFETY: `child` passes the address of its own pair and waits for us.
    let (routine, argument) = unsafe { *(job as *const (u64, u64)) };
    // SAFETY: an export of the driver that takes one argument.
    unsafe { call::call1(routine, argument) };
}
