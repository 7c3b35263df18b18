//! Where a process turns into the child.

use std::env;
use std::io::{self, Read};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process;

use crate::child;
use crate::plan::Plan;
use crate::supervisor::HOST_ENTRY_CALLED;

/// Set in the child's environment.
pub const HOST_VARIABLE: &str = "DRYDOCK_HOST";
/// Where the child finds the trace memory.
pub const TRACE_DESCRIPTOR: i32 = 3;
/// Where the child writes messages.
pub const MESSAGE_DESCRIPTOR: i32 = 4;
/// Where the child writes the packets of a simulated network, if they are wanted.
pub const FRAME_DESCRIPTOR: i32 = 5;
/// Set in the child's environment if they are.
pub const FRAMES_VARIABLE: &str = "DRYDOCK_FRAMES";

/// The place where a child turns off from `main`. Call it first: in a process that [`crate::Dock::run`]
/// started it does not return; in any other it only remembers that this program can be started so.
pub fn host_entry() {
    if env::var_os(HOST_VARIABLE).is_none() {
        HOST_ENTRY_CALLED.get_or_init(|| ());
        return;
    }
    let status = match serve() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("drydock host: {error}");
            1
        }
    };
    process::exit(status);
}

fn serve() -> io::Result<()> {
    let mut text = Vec::new();
    io::stdin().read_to_end(&mut text)?;
    let plan: Plan = serde_json::from_slice(&text)?;
    // SAFETY: the supervisor mapped exactly these two descriptors for us, and nothing else here owns them.
    let (trace, messages) =
        unsafe { (OwnedFd::from_raw_fd(TRACE_DESCRIPTOR), OwnedFd::from_raw_fd(MESSAGE_DESCRIPTOR)) };
    // SAFETY: as above; the variable says that there is a third.
    let frames = env::var_os(FRAMES_VARIABLE).map(|_| unsafe { OwnedFd::from_raw_fd(FRAME_DESCRIPTOR) });
    child::run(plan, trace, messages, frames)
}
