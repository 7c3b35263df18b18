//! What the sandbox refuses, tried in processes of their own: each test starts this binary again with the name of an act.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sandbox::{Files, Policy};

/// Names the act that a started-again process carries out.
const ACT: &str = "SANDBOX_ACT";

/// What a started-again process does; prints "refused" or "done".
fn act(name: &str) {
    let policy = Policy { sockets: name.ends_with("with sockets"), files: name.starts_with("folder") };

    let files = match name.split_once(':') {
        _ if name == "file" => sandbox::forbid_files(None),
        Some(_) => sandbox::forbid_files(Some(File::open(own_folder()).expect("the folder").as_fd())),
        None => Files::NoLandlock,
    };
    if name.starts_with("folder") {
        assert_ne!(files, Files::NoLandlock, "this test needs a kernel with Landlock");
    }
    sandbox::restrict_calls(policy).expect("a kernel with seccomp");
    let outcome: io::Result<()> = match name {
        "fork" => system_call(libc::SYS_fork),
        "vfork as clone" => system_call(libc::SYS_clone),
        "exec" => Err(io::Error::last_os_error()).or_else(|_: io::Error| system_call(libc::SYS_execve)),
        "io_uring" => system_call(libc::SYS_io_uring_setup),
        "ptrace" => system_call(libc::SYS_ptrace),
        "clone3" => system_call(libc::SYS_clone3),
        "file" => std::fs::File::open("/etc/passwd").map(drop),
        // What a driver could do that has taken over the host's code: everything by a plain name, without the
        // host's look-up in between.
        "folder: write in it" => open_by_name(&own_folder().join("file"), libc::O_RDWR | libc::O_CREAT),
        "folder: read beside it" => open_by_name(&own_folder().join("../secret"), libc::O_RDONLY),
        "folder: write beside it" => open_by_name(&own_folder().join("../new"), libc::O_RDWR | libc::O_CREAT),
        "folder: remove beside it" => by_name(libc::SYS_unlinkat, &own_folder().join("../secret"), 0),
        "folder: make a folder beside it" => by_name(libc::SYS_mkdirat, &own_folder().join("../another"), 0o777),
        "folder: run a file in it" => by_name(libc::SYS_execve, &own_folder().join("file"), 0),
        "folder: set times by name" => by_name(libc::SYS_utimensat, &own_folder().join("../secret"), 0),
        "socket" => TcpListener::bind("127.0.0.1:0").map(drop),
        "socket with sockets" => TcpListener::bind("127.0.0.1:0").map(drop),
        "kill another" => {
            // SAFETY: no preconditions; the parent is told of signal 0, which is none.
            match unsafe { libc::kill(libc::getppid(), 0) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        }
        "executable memory" => {
            let (protection, flags) = (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            // SAFETY: a new mapping of the kernel's choice.
            let mapped = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
            if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
        }
        "thread" => std::thread::spawn(|| ()).join().map_err(|_| io::Error::other("the thread panicked")),
        other => panic!("no act {other}"),
    };
    let _ = files;
    match outcome {
        Ok(()) => println!("\nact: done"),
        Err(error) => println!("\nact: refused {}", error.raw_os_error().unwrap_or(0)),
    }
}

/// The folder that the acts named `folder` may use.
fn own_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("sandbox/folder")
}

fn open_by_name(path: &Path, flags: i32) -> io::Result<()> {
    let how: [u64; 3] = [flags as u64, if flags & libc::O_CREAT != 0 { 0o600 } else { 0 }, 0];
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a string and a structure of this size, as openat2 wants them.
    let opened =
        unsafe { libc::syscall(libc::SYS_openat2, libc::AT_FDCWD, path.as_ptr(), how.as_ptr(), size_of_val(&how)) };
    if opened == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes a system call that takes a folder, a name and a number.
fn by_name(number: libc::c_long, path: &Path, last: u64) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a string, and otherwise numbers.
    let outcome = unsafe { libc::syscall(number, libc::AT_FDCWD, path.as_ptr(), last, 0) };
    if outcome == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes a system call whose arguments are all zero.
fn system_call(number: libc::c_long) -> io::Result<()> {
    // SAFETY: with these arguments none of the calls that are tried here touches this process's memory.
    if unsafe { libc::syscall(number, 0, 0, 0, 0, 0, 0) } == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[track_caller]
fn try_act(name: &str) -> String {
    let program = std::env::current_exe().expect("this binary");
    let Output { stdout, stderr, .. } = Command::new(program)
        .args(["--exact", "started_again", "--nocapture", "--test-threads=1"])
        .env(ACT, name)
        .output()
        .expect("this binary starts");
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    let found = stdout.lines().find_map(|line| line.strip_prefix("act: ")).map(str::to_owned);
    found.unwrap_or_else(|| panic!("{name}: {stdout}{}", String::from_utf8_lossy(&stderr)))
}

/// Does something only in a process that was started again.
#[test]
fn started_again() {
    if let Ok(name) = std::env::var(ACT) {
        act(&name);
        // The test harness would go on to do things that are forbidden now.
        std::process::exit(0);
    }
}

#[test]
fn other_processes_cannot_be_made_or_touched() {
    let refused = format!("refused {}", libc::EPERM);
    for name in ["fork", "vfork as clone", "exec", "io_uring", "ptrace", "kill another"] {
        assert_eq!(try_act(name), refused, "{name}");
    }
    assert_eq!(try_act("clone3"), format!("refused {}", libc::ENOSYS));
}

#[test]
fn files_cannot_be_opened() {
    assert_eq!(try_act("file"), format!("refused {}", libc::EPERM));
}

#[test]
fn files_of_the_folder_can_be_used_and_no_others() {
    std::fs::create_dir_all(own_folder()).expect("a folder");
    std::fs::write(own_folder().join("../secret"), "secret").expect("a file");
    assert_eq!(try_act("folder: write in it"), "done");
    for name in ["read beside it", "write beside it", "remove beside it", "make a folder beside it"] {
        assert_eq!(try_act(&format!("folder: {name}")), format!("refused {}", libc::EACCES), "{name}");
    }
    for name in ["run a file in it", "set times by name"] {
        assert_eq!(try_act(&format!("folder: {name}")), format!("refused {}", libc::EPERM), "{name}");
    }
}

#[test]
fn sockets_exist_only_where_the_policy_has_them() {
    assert_eq!(try_act("socket"), format!("refused {}", libc::EPERM));
    assert_eq!(try_act("socket with sockets"), "done");
}

#[test]
fn memory_does_not_become_executable_and_threads_still_start() {
    assert_eq!(try_act("executable memory"), format!("refused {}", libc::EPERM));
    assert_eq!(try_act("thread"), "done");
}
