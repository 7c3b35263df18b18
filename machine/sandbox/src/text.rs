//! The policy in words.

use std::fmt::Write;

use crate::{Policy, calls};

/// What is allowed, what is refused, and what is only a check, for `drydock run --show-policy`.
pub fn describe(policy: Policy) -> String {
    let mut text = String::from(
        "The process that hosts drivers is held by:\n\
         \n\
         1. The allow-list of system calls (seccomp): the boundary. Every other call fails with EPERM.\n",
    );
    let names = |calls: &[(&str, libc::c_long)]| calls.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ");
    let mut group = |purpose: &str, calls: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "   {purpose}: {calls}");
    };
    for (purpose, calls) in calls::ALWAYS {
        group(purpose, names(calls));
    }
    group(
        "with conditions",
        "mmap mprotect (never executable), clone (threads only), sched_setaffinity (the calling thread), kill tgkill (this process only, no signal that ends or stops it as if from outside)".into(),
    );
    group("answered ENOSYS", names(calls::ABSENT));
    if policy.sockets {
        group("sockets", names(calls::SOCKETS));
        group("with conditions", "socket (IPv4 and IPv6 only), ioctl (a few requests)".into());
    } else {
        group("sockets", "none: this network cannot make a socket at all".into());
    }
    if policy.files {
        group("files", names(calls::FILES));
        group("with conditions", "utimensat (open files only)".into());
        text.push_str(
            "2. Landlock: files and folders can be read, written, made and removed in the folder of --files and nowhere else.\n   \
             A kernel without it does not run anything with --files. What it does not hide is which files exist elsewhere, from\n   \
             a driver that takes over the host's code.\n",
        );
    } else {
        group("files", "none: nothing can be opened by name".into());
        text.push_str(
            "2. Landlock, where the kernel has it: no file and no folder can be opened. The run says so when the kernel lacks it.\n",
        );
    }
    text.push_str(
        "3. The place of a system call (seccomp): one made from a driver's own pages ends the run with driver and offset. A report,\n   \
         not a boundary.\n\
         4. A time limit that the supervisor keeps (--timeout).\n",
    );
    if policy.sockets {
        text.push_str(
            "\n--net loopback is a check in the transport, for honest drivers: a hostile one that takes over the host's code can reach\n\
             whatever this machine reaches. --net none and --net sim are boundaries.\n",
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_without_sockets_says_so_and_names_no_socket_call() {
        let text = describe(Policy { sockets: false, files: false });
        assert!(text.contains("cannot make a socket at all") && !text.contains("accept4"), "{text}");
        let text = describe(Policy { sockets: true, files: false });
        assert!(text.contains("accept4") && text.contains("--net loopback is a check"), "{text}");
    }

    #[test]
    fn run_without_files_says_so_and_names_no_call_that_opens_one() {
        let text = describe(Policy { sockets: true, files: false });
        assert!(text.contains("nothing can be opened by name") && !text.contains("openat2"), "{text}");
        let text = describe(Policy { sockets: false, files: true });
        assert!(text.contains("openat2") && text.contains("in the folder of --files and nowhere else"), "{text}");
    }
}
