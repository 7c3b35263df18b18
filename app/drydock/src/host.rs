//! Where a process turns into the child, or into a reader of debug information.

use std::env;
use std::io::{self, BufRead};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process;

use crate::child;
use crate::plan::Plan;
use crate::supervisor::HOST_ENTRY_CALLED;
use crate::symbol_reader;

/// What the child is called: its `argv[0]`. Not a variable of the environment, which a user could have set for good.
pub const HOST_NAME: &str = "drydock host";
/// Where the child finds the trace memory.
pub const TRACE_DESCRIPTOR: i32 = 3;
/// Where the child writes messages.
pub const MESSAGE_DESCRIPTOR: i32 = 4;
/// Where the child writes the packets of a simulated network, if they are wanted.
pub const FRAME_DESCRIPTOR: i32 = 5;
/// Exit status of a child that could not be brought up, or that the host gave no network; what it was stands on stderr.
/// No driver has run then. `EX_OSERR` of sysexits.h.
pub const HOST_FAILED_EXIT: i32 = 71;
/// Set in the child's environment if they are.
pub const FRAMES_VARIABLE: &str = "DRYDOCK_FRAMES";

/// The place where a child turns off from `main`. Call it first: in a process that [`crate::Dock::run`]
/// started it does not return; in any other it only remembers that this program can be started so.
pub fn host_entry() {
    if symbol_reader::is_asked_for() {
        // The supervisor tells of a reader that gave no answer.
        process::exit(symbol_reader::serve().map_or(1, |()| 0));
    }
    if env::args_os().next().is_none_or(|name| name != HOST_NAME) {
        HOST_ENTRY_CALLED.get_or_init(|| ());
        return;
    }
    let status = match serve() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            HOST_FAILED_EXIT
        }
    };
    process::exit(status);
}

fn serve() -> io::Result<()> {
    // The supervisor's end is ours, whatever ended it. One that is gone already shows in an empty plan.
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    close_inherited();
    let mut text = Vec::new();
    io::stdin().lock().read_until(b'\n', &mut text)?;
    let plan: Plan = serde_json::from_slice(&text)?;
    // SAFETY: the supervisor mapped exactly these two descriptors for us, and nothing else here owns them.
    let (trace, messages) =
        unsafe { (OwnedFd::from_raw_fd(TRACE_DESCRIPTOR), OwnedFd::from_raw_fd(MESSAGE_DESCRIPTOR)) };
    // SAFETY: as above; the variable says that there is a third.
    let frames = env::var_os(FRAMES_VARIABLE).map(|_| unsafe { OwnedFd::from_raw_fd(FRAME_DESCRIPTOR) });
    child::run(plan, trace, messages, frames)
}

/// Closes what the user's shell had open: a driver could write to it.
fn close_inherited() {
    let ours = if env::var_os(FRAMES_VARIABLE).is_some() { FRAME_DESCRIPTOR } else { MESSAGE_DESCRIPTOR };
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else { return };
    let number = |entry: io::Result<std::fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse::<i32>().ok();
    // Collected first: the folder being read is one of them, and closed by then.
    let foreign: Vec<i32> = open.filter_map(number).filter(|number| *number > ours).collect();
    for descriptor in foreign {
        // An error means that it is closed already, as the folder's own is.
        let _ = nix::unistd::close(descriptor);
    }
}
