//! The allow-list of system calls.

use std::collections::BTreeMap;
use std::io;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use crate::{Policy, front};

/// What every run needs, by purpose.
pub const ALWAYS: &[(&str, &[(&str, c_long)])] = &[
    (
        "memory",
        &[
            ("munmap", libc::SYS_munmap),
            ("madvise", libc::SYS_madvise),
            ("mremap", libc::SYS_mremap),
            ("brk", libc::SYS_brk),
        ],
    ),
    (
        "threads, waiting and time",
        &[
            ("futex", libc::SYS_futex),
            ("set_robust_list", libc::SYS_set_robust_list),
            ("rseq", libc::SYS_rseq),
            ("sched_yield", libc::SYS_sched_yield),
            ("sched_getaffinity", libc::SYS_sched_getaffinity),
            ("clock_gettime", libc::SYS_clock_gettime),
            ("clock_getres", libc::SYS_clock_getres),
            ("clock_nanosleep", libc::SYS_clock_nanosleep),
            ("nanosleep", libc::SYS_nanosleep),
            ("gettimeofday", libc::SYS_gettimeofday),
            ("arch_prctl", libc::SYS_arch_prctl),
            ("getpid", libc::SYS_getpid),
            ("gettid", libc::SYS_gettid),
            ("exit", libc::SYS_exit),
            ("exit_group", libc::SYS_exit_group),
            ("getrandom", libc::SYS_getrandom),
        ],
    ),
    (
        "signals",
        &[
            ("rt_sigaction", libc::SYS_rt_sigaction),
            ("rt_sigprocmask", libc::SYS_rt_sigprocmask),
            ("rt_sigreturn", libc::SYS_rt_sigreturn),
            ("sigaltstack", libc::SYS_sigaltstack),
            ("restart_syscall", libc::SYS_restart_syscall),
        ],
    ),
    (
        "descriptors that are open, and events",
        &[
            ("read", libc::SYS_read),
            ("write", libc::SYS_write),
            ("writev", libc::SYS_writev),
            ("close", libc::SYS_close),
            ("fstat", libc::SYS_fstat),
            ("eventfd2", libc::SYS_eventfd2),
            ("epoll_create1", libc::SYS_epoll_create1),
            ("epoll_ctl", libc::SYS_epoll_ctl),
            ("epoll_wait", libc::SYS_epoll_wait),
            ("epoll_pwait", libc::SYS_epoll_pwait),
            ("epoll_pwait2", libc::SYS_epoll_pwait2),
            ("poll", libc::SYS_poll),
            ("ppoll", libc::SYS_ppoll),
        ],
    ),
];

/// What a network over the host's sockets needs.
pub const SOCKETS: &[(&str, c_long)] = &[
    ("bind", libc::SYS_bind),
    ("connect", libc::SYS_connect),
    ("listen", libc::SYS_listen),
    ("accept4", libc::SYS_accept4),
    ("sendto", libc::SYS_sendto),
    ("sendmsg", libc::SYS_sendmsg),
    ("recvfrom", libc::SYS_recvfrom),
    ("recvmsg", libc::SYS_recvmsg),
    ("shutdown", libc::SYS_shutdown),
    ("setsockopt", libc::SYS_setsockopt),
    ("getsockopt", libc::SYS_getsockopt),
    ("getsockname", libc::SYS_getsockname),
    ("getpeername", libc::SYS_getpeername),
];

/// What files in a folder need. Landlock says in which folder; those that take a name and that Landlock does not know
/// are not among them.
pub const FILES: &[(&str, c_long)] = &[
    ("openat2", libc::SYS_openat2),
    ("getdents64", libc::SYS_getdents64),
    ("pread64", libc::SYS_pread64),
    ("pwrite64", libc::SYS_pwrite64),
    ("ftruncate", libc::SYS_ftruncate),
    ("fsync", libc::SYS_fsync),
    ("fchmod", libc::SYS_fchmod),
    ("mkdirat", libc::SYS_mkdirat),
    ("unlinkat", libc::SYS_unlinkat),
    ("renameat2", libc::SYS_renameat2),
];

/// `clone3` hides its flags behind a pointer, where no filter can look: glibc falls back to `clone` on ENOSYS.
pub const ABSENT: &[(&str, c_long)] = &[("clone3", libc::SYS_clone3)];

/// The signals that may be sent.
pub const SIGNALS: &[i32] =
    &[libc::SIGABRT, libc::SIGUSR2, libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP];

/// Installs the filter on all threads of the process.
pub fn apply(policy: Policy) -> io::Result<()> {
    seccompiler::apply_filter_all_threads(&program(policy)?).map_err(io::Error::other)
}

/// The whole filter. Jumps are relative, so the list can stand behind anything.
pub(crate) fn program(policy: Policy) -> io::Result<BpfProgram> {
    let mut program = front::program(policy);
    program.extend(list(policy)?);
    Ok(program)
}

/// The list alone. It refuses with one error only; what is absent the front answers.
pub(crate) fn list(policy: Policy) -> io::Result<BpfProgram> {
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(allowed(policy)?, refused, SeccompAction::Allow, TargetArch::x86_64);
    filter.and_then(BpfProgram::try_from).map_err(io::Error::other)
}

fn allowed(policy: Policy) -> io::Result<BTreeMap<i64, Vec<SeccompRule>>> {
    let mut rules = BTreeMap::new();
    let always = ALWAYS.iter().flat_map(|(_, calls)| calls.iter());
    let sockets = SOCKETS.iter().filter(|_| policy.sockets);
    let files = FILES.iter().filter(|_| policy.files);
    for (_, number) in always.chain(sockets).chain(files) {
        rules.insert(*number, Vec::new());
    }
    // No memory becomes executable any more.
    for number in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(number, vec![rule(&[has_bits(2, libc::PROT_EXEC as u64, 0)?])?]);
    }
    // Threads of this process, no other kind of child.
    let thread = libc::CLONE_THREAD as u64;
    rules.insert(libc::SYS_clone, vec![rule(&[has_bits(0, thread, thread)?])?]);
    // Signals to this process alone, and only those that the host sends: the watchdog asks threads what they do, abort ends the
    // process, and a handler lets a fault that somebody else sent have its effect. None can end it as if from outside.
    for (number, signal) in [(libc::SYS_kill, 1), (libc::SYS_tgkill, 2)] {
        let own = SIGNALS.iter().map(|value| rule(&[equal(0, std::process::id())?, equal(signal, *value as u32)?]));
        rules.insert(number, own.collect::<io::Result<Vec<_>>>()?);
    }
    // The calling thread alone: where another runs is nobody's business.
    rules.insert(libc::SYS_sched_setaffinity, vec![rule(&[equal(0, 0)?])?]);
    // Nothing that makes the kernel send signals to others, and no socket but to the network.
    rules.insert(libc::SYS_fcntl, one_of(1, &[libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_DUPFD_CLOEXEC])?);
    rules.insert(libc::SYS_prctl, one_of(0, &[libc::PR_SET_NAME, libc::PR_SET_TSC, libc::PR_SET_VMA])?);
    if policy.files {
        // Times of an open file. With a name it would reach every file of this user: Landlock does not know the call.
        let no_name =
            SeccompCondition::new(1, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0).map_err(io::Error::other)?;
        rules.insert(libc::SYS_utimensat, vec![rule(&[no_name])?]);
    }
    if policy.sockets {
        rules.insert(libc::SYS_socket, one_of(0, &[libc::AF_INET, libc::AF_INET6])?);
        rules.insert(libc::SYS_ioctl, one_of(1, &[libc::FIONREAD as i32, libc::FIONBIO as i32, SIOCATMARK])?);
    }
    Ok(rules)
}

/// Asks whether a socket's next byte is an urgent one.
const SIOCATMARK: i32 = 0x8905;

/// A rule for each of the values that an argument may have.
fn one_of(argument: u8, values: &[i32]) -> io::Result<Vec<SeccompRule>> {
    values.iter().map(|value| rule(&[equal(argument, *value as u32)?])).collect()
}

/// That the argument's low half is `value`.
fn equal(argument: u8, value: u32) -> io::Result<SeccompCondition> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value.into()).map_err(io::Error::other)
}

/// That the argument, seen through `mask`, is `value`.
fn has_bits(argument: u8, mask: u64, value: u64) -> io::Result<SeccompCondition> {
    let operator = SeccompCmpOp::MaskedEq(mask);
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operator, value).map_err(io::Error::other)
}

fn rule(conditions: &[SeccompCondition]) -> io::Result<SeccompRule> {
    SeccompRule::new(conditions.to_vec()).map_err(io::Error::other)
}
