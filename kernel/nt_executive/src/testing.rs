//! For this crate's tests.

use std::cell::Cell;

/// Makes the test's thread one of the kernel, so that services can be called on it.
pub fn kernel_thread() {
    thread_local!(static ADOPTED: Cell<bool> = const { Cell::new(false) });
    if !ADOPTED.replace(true) {
        nt_dispatcher::thread::adopt_current().expect("memory for a thread block");
    }
}

/// UTF-16.
pub fn utf16(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}

/// An export, to be called as a driver would.
#[derive(Clone, Copy)]
pub struct Service(u64);

/// The export of this name.
pub fn service(name: &str) -> Service {
    let export = crate::table::by_name(name).unwrap_or_else(|| panic!("{name} is no export"));
    Service(export.address())
}

impl Service {
    /// Calls it with up to ten arguments of a word each.
    pub fn call_word(self, arguments: &[u64]) -> u64 {
        kernel_thread();
        // SAFETY: the tests pass what the export takes.
        unsafe { gate::call::call_n(self.0, arguments) }
    }

    /// Calls one that returns a status.
    pub fn call(self, arguments: &[u64]) -> nt_abi::NtStatus {
        nt_abi::NtStatus(self.call_word(arguments) as u32)
    }
}
