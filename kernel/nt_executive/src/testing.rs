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
