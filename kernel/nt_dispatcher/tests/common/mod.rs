//! What the tests of this crate share: driver memory, kernel threads, exports by name, and runs in a process of
//! their own.

#![allow(dead_code, reason = "each test program uses a part")]

use std::cell::UnsafeCell;
use std::mem::zeroed;
use std::process::{Command, Output};

use nt_abi::NtStatus;
use nt_dispatcher::thread::{self, Start};
use nt_dispatcher::{TABLE, wait};

/// The address of the export `name`, as an import of a driver is bound to it.
#[track_caller]
pub fn export(name: &str) -> u64 {
    TABLE.iter().find(|export| export.name == name).unwrap_or_else(|| panic!("{name} is exported")).address()
}

/// Calls an export by name as a driver would: `call!("KeSetEvent", event, 0, 0)`. Arguments are words.
#[macro_export]
macro_rules! call {
    ($name:literal $(, $argument:expr)*) => {
        $crate::common::call_export($name, &[$($argument as u64),*])
    };
}

/// See [`call!`]. Not one of gate's calls into drivers, which put the level back.
#[track_caller]
pub fn call_export(name: &str, arguments: &[u64]) -> u64 {
    type Export = unsafe extern "win64" fn(u64, u64, u64, u64, u64, u64, u64, u64) -> u64;
    let mut all = [0; 8];
    all[..arguments.len()].copy_from_slice(arguments);
    let [a, b, c, d, e, f, g, h] = all;
    // SAFETY: the test passes what the export takes; words that the export does not take are ignored by it.
    unsafe { std::mem::transmute::<u64, Export>(export(name))(a, b, c, d, e, f, g, h) }
}

/// Memory of a driver: zero at first, at one address for ever.
pub struct Memory<T>(UnsafeCell<T>);

// SAFETY: only exports and driver routines touch it, and they answer for that among themselves.
unsafe impl<T> Sync for Memory<T> {}
// SAFETY: as above.
unsafe impl<T> Send for Memory<T> {}

impl<T: Copy> Memory<T> {
    pub fn new() -> &'static Self {
        // SAFETY: only for structures of integers and raw pointers.
        Box::leak(Box::new(Self(UnsafeCell::new(unsafe { zeroed() }))))
    }

    pub fn address(&self) -> u64 {
        self.0.get() as u64
    }

    pub fn get(&self) -> T {
        // SAFETY: see `new`; a torn value would fail a test, no more.
        unsafe { self.0.get().read_volatile() }
    }
}

/// Runs `test` on a thread of the kernel.
pub fn in_the_kernel(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let run = || {
            thread::adopt_current().expect("a kernel thread");
            test();
        };
        scope.spawn(run).join().expect("the test's thread");
    });
}

/// Starts a host function as a kernel thread and gives its object.
pub fn start(function: fn(u64), context: u64) -> u64 {
    thread::create(Start::Host(function), context, 0).expect("a thread")
}

pub fn join(thread: u64) {
    assert_eq!(wait_for(thread, None), NtStatus::SUCCESS);
    nt_object::dereference(thread);
}

pub fn wait_for(object: u64, timeout: Option<i64>) -> NtStatus {
    // SAFETY: tests pass initialised objects that are never freed.
    unsafe { wait::wait_single(object, timeout) }
}

/// Whether this process was started by [`again`] for the test `name`.
pub fn is_child() -> bool {
    std::env::var_os("DRYDOCK_TEST_CHILD").is_some()
}

/// Runs the test `name` of this program in a process of its own, where [`is_child`] is true.
pub fn again(name: &str, variables: &[(&str, &str)]) -> Output {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env("DRYDOCK_TEST_CHILD", "1")
        .envs(variables.iter().copied())
        .output()
        .expect("this program can be started again")
}

/// Runs the test `name` again and gives the findings' rules, in order.
#[track_caller]
pub fn findings(name: &str) -> Vec<String> {
    let output = again(name, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let rule = |line: &str| Some(line.strip_prefix("finding ")?.split(' ').next()?.to_owned());
    said.lines().filter_map(rule).collect()
}

/// Runs the test `name` again and expects that it ends the run with `code`; gives what was said.
#[track_caller]
pub fn expect_bugcheck(name: &str, code: nt_abi::exception::BugCheck) -> String {
    let output = again(name, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(gate::bugcheck::BUGCHECK_EXIT), "{said}");
    assert!(said.contains(&format!("bugcheck {code:?} ")), "{said}");
    said
}
