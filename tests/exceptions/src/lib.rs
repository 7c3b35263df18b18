//! A host just large enough for drivers that raise exceptions, and the drivers (`drivers/`, by clang).
//!
//! [`call()`] calls one of a driver's exports in this process. What ends in a bugcheck runs in a process of its own
//! ([`bugcheck`]): the test's own executable, started again for the test [`CHILD`].

mod child;

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use gate::call;
use gate::export::Export;
use gate::thread::{Block, host_stack};
use host_lock::Mutex;
use nt_abi::Irql;
use nt_abi::exception::BugCheck;
use pe_image::{Image, LoadOptions};

pub use child::{CHILD, bugcheck, bugcheck_in_system_thread, child};

gate::exports! {
    /// What the test drivers import beside the kernel's exports of exceptions.
    static TABLE in "ntoskrnl.exe";
    "HostCall" = host_call(routine: u64, context: u64) -> u64, rules "K-014";
    "HostCallApart" = host_call_apart(routine: u64, context: u64) -> u64, rules "K-014";
    "HostCallThenPeek" = host_call_then_peek(routine: u64, context: u64) -> u64, rules "K-014";
    "HostCopy" = host_copy(to: u64, from: u64, length: u64) -> u64, rules "K-014";
    "HostNote" = host_note(note: u64) -> u64, rules "K-014";
    "HostPeek" = host_peek(address: *const u32) -> u32, rules "K-014";
    "HostPeekHolding" = host_peek_holding(address: *const u32) -> u32, rules "K-014";
    "HostPeekInside" = host_peek_inside(address: *const u32) -> u32, rules "K-014";
    "HostStackLeft" = host_stack_left() -> u64, rules "K-014";
    "KeBugCheckEx" = ke_bug_check_ex(code: u32, a: u64, b: u64, c: u64, d: u64), rules "K-205";
    "HostSetIrql" = host_set_irql(level: Irql), rules "K-005";
}

thread_local! {
    static NOTES: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Noted when a host frame that called the driver is left.
pub const LEFT: u64 = 1000;

/// Something that a host frame holds. Its destructor notes [`LEFT`], and calls the driver if the test asks for it.
struct Held;

impl Drop for Held {
    fn drop(&mut self) {
        note(if gate::seh::is_leaving() { LEFT + 1 } else { LEFT });
        if let Some(routine) = CALLED_WHILE_LEAVING.get() {
            // SAFETY: an export of the driver that takes one argument.
            note(unsafe { call::call1(*routine, 0x5000) });
        }
    }
}

static CALLED_WHILE_LEAVING: OnceLock<u64> = OnceLock::new();

/// From now on, host frames that are left call the driver's export `name`.
pub fn call_while_leaving(name: &str) {
    CALLED_WHILE_LEAVING.get_or_init(|| address(name));
}

unsafe extern "win64" fn host_call(routine: u64, context: u64) -> u64 {
    let _held = Held;
    // SAFETY: a routine of the test driver, or a bad address on purpose.
    unsafe { call::call1(routine, context) }
}

unsafe extern "win64" fn host_call_apart(routine: u64, context: u64) -> u64 {
    // SAFETY: as above.
    call::apart(|| unsafe { call::call1(routine, context) })
}

unsafe extern "win64" fn host_call_then_peek(routine: u64, context: u64) -> u64 {
    // SAFETY: as above; null is the pointer of a host function that does not look whether its routine returned.
    unsafe { call::call1(routine, context) + u64::from(peek(std::ptr::null(), 3)) }
}

unsafe extern "win64" fn host_copy(to: u64, from: u64, length: u64) -> u64 {
    let mut bytes = vec![0; length as usize];
    if let Err(fault) = gate::memory::read(from, &mut bytes) {
        gate::seh::raise_fault(fault);
    } else if let Err(fault) = gate::memory::write(to, &bytes) {
        gate::seh::raise_fault(fault);
    }
    0
}

fn note(note: u64) {
    NOTES.with_borrow_mut(|notes| notes.push(note));
}

unsafe extern "win64" fn host_note(value: u64) -> u64 {
    note(value);
    value
}

unsafe extern "win64" fn host_peek(address: *const u32) -> u32 {
    let _lost = Held;
    // SAFETY: what drivers pass is theirs to answer for: a bad address is raised in the driver.
    unsafe { peek(address, 3) }
}

#[inline(never)]
unsafe fn peek(address: *const u32, depth: u32) -> u32 {
    if depth == 0 {
        // SAFETY: the caller's promise.
        return unsafe { address.read_volatile() };
    }
    // SAFETY: as above.
    std::hint::black_box(unsafe { peek(address, depth - 1) }) + depth
}

unsafe extern "win64" fn host_peek_holding(address: *const u32) -> u32 {
    static LOCK: Mutex<()> = Mutex::new(());
    let _held = LOCK.lock();
    // SAFETY: as above.
    unsafe { peek(address, 3) }
}

unsafe extern "win64" fn host_peek_inside(address: *const u32) -> u32 {
    // SAFETY: a routine that takes one argument, of the host as those of the transport are.
    unsafe { call::call1(host_peek as *const () as u64, address as u64) as u32 }
}

unsafe extern "win64" fn host_stack_left() -> u64 {
    // SAFETY: the calling thread's block.
    unsafe { (*gate::current()).entry - (*gate::current()).stack_low }
}

unsafe extern "win64" fn ke_bug_check_ex(code: u32, a: u64, b: u64, c: u64, d: u64) {
    gate::bugcheck(BugCheck(code), [a, b, c, d]);
}

unsafe extern "win64" fn host_set_irql(level: Irql) {
    gate::set_irql(level);
}

/// What the driver and the host noted on this thread since the last call of this.
pub fn notes() -> Vec<u64> {
    NOTES.take()
}

fn resolve(_: &str, name: &str) -> Option<&'static Export> {
    let own = TABLE.iter().find(|export| export.name == name);
    own.or_else(|| nt_executive::table::by_name(name))
}

/// The test driver, built and loaded once per process.
pub fn driver() -> &'static Image {
    static DRIVER: OnceLock<Image> = OnceLock::new();
    DRIVER.get_or_init(|| {
        gate::fault::install().expect("fault handlers");
        let file = fs::read(build()).expect("a built driver");
        let mut image = pe_image::load(&file, "seh.sys", &LoadOptions::new(&resolve)).expect("a driver image");
        assert_eq!(image.missing(), [], "every import is there");
        image.register().expect("room for an image");
        image
    })
}

fn build() -> std::path::PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = root.join("../../target/exceptions");
    // Test executables of one run take turns: the second finds everything built.
    static BUILT: std::sync::Once = std::sync::Once::new();
    BUILT.call_once(|| {
        let mut make = Command::new("flock");
        fs::create_dir_all(&out).expect("the output folder");
        make.arg(out.join("lock")).args(["make", "-s", "-C"]).arg(root.join("drivers"));
        let made = make.arg(format!("OUT={}", out.display())).output().expect("flock and make can be started");
        assert!(
            made.status.success(),
            "the test drivers cannot be built (apt-get install clang-19 lld-19): {}",
            String::from_utf8_lossy(&made.stderr)
        );
    });
    out.join("seh.sys")
}

/// The address of an export of the driver.
///
/// # Panics
/// If there is none of this name.
pub fn address(name: &str) -> u64 {
    driver().export(name).unwrap_or_else(|| panic!("the driver exports no {name}"))
}

/// Makes the calling thread one that may run driver code, for good.
pub fn enter_kernel() {
    thread_local!(static ENTERED: () = Block::new(host_stack().expect("a stack"), 0, 1, 0).expect("a block").install());
    ENTERED.with(|()| ());
}

/// Calls an export of the driver with one argument on this thread.
///
/// # Panics
/// If the driver has no such export.
pub fn call(name: &str, argument: u64) -> u64 {
    enter_kernel();
    let routine = address(name);
    // SAFETY: the driver's exports but `DriverEntry` take one argument and return a word.
    let result = unsafe { call::call1(routine, argument) };
    assert_eq!(gate::irql(), Irql::PASSIVE);
    result
}
