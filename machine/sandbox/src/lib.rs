//! What the process that hosts drivers may ask of Linux.
//!
//! Three layers, applied before any driver code runs and never taken back:
//! - **Files** ([`files`]): Landlock refuses every file and folder, where the kernel has it, but those in a folder that the
//!   user allowed.
//! - **The allow-list** ([`calls`]): system calls that the host needs; every other fails with EPERM. This is the boundary. Without
//!   sockets in the policy there is no `socket` in the list, so no driver can reach a network by any means.
//! - **The place** ([`place`]): a system call made from where drivers' code and data lie ends the run, by driver and offset. A
//!   report, not a boundary: a driver can jump to the host's own system call instructions, and then the list holds it.
//!
//! The last two are one filter, whose front ([`front`]) keeps frequent calls cheap.
//!
//! What only honest drivers are held by, such as the loopback policy, is not here: `host_net` checks it.
//!
//! Left out: limits on memory and processor time; the supervisor's time limit ends a run that takes too long.

mod calls;
mod files;
mod front;
mod place;
mod text;

use std::io;

pub use files::{Files, forbid_files, is_only_thread};
pub use text::describe;

/// What a run needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether sockets can be made at all.
    pub sockets: bool,
    /// Whether files can be opened at all. Which, is Landlock's to say ([`forbid_files`]).
    pub files: bool,
}

/// Applies the allow-list and the place check to all threads of this process. Images must be mapped by now: from here on
/// no memory becomes executable.
///
/// # Errors
/// What the kernel says; nothing or only a part is applied then, so the caller must not go on.
pub fn restrict_calls(policy: Policy) -> io::Result<()> {
    place::install_report()?;
    calls::apply(policy)
}
