//! Chained receives that a client kept and gives back.
//!
//! What a descriptor stands for only the transport knows that made it: it lends this crate a routine that takes them.

use std::sync::OnceLock;

use gate::memory;

gate::exports! {
    /// Chained receives.
    pub static TABLE in "tdi.sys";
    "TdiReturnChainedReceives" = tdi_return_chained_receives(descriptors: *const u64, count: u32), irql <= DISPATCH, rules "C-501 D-228";
    "TdiMatchPdoWithChainedReceiveContext" = tdi_match_pdo_with_chained_receive_context(descriptor: u64, pdo: u64) -> u8, irql <= DISPATCH, rules "D-228";
}

/// Takes a descriptor back. `false` if it stands for nothing that a client has kept.
pub type TakeBack = fn(descriptor: u64) -> bool;

static TAKE_BACK: OnceLock<TakeBack> = OnceLock::new();

/// Lends the transport's routine; only the first call counts.
pub fn set_take_back(take_back: TakeBack) {
    let _ = TAKE_BACK.set(take_back);
}

unsafe extern "win64" fn tdi_return_chained_receives(descriptors: *const u64, count: u32) {
    for at in 0..u64::from(count) {
        let Ok(descriptor) = memory::read_value::<u64>((descriptors as u64).wrapping_add(at * 8)) else {
            let message = "TdiReturnChainedReceives was given an array that is not there";
            gate::finding("C-501", message, gate::caller());
            return;
        };
        if !TAKE_BACK.get().is_some_and(|take_back| take_back(descriptor)) {
            let message = format_args!("TdiReturnChainedReceives was given {descriptor:#x}, which nobody keeps");
            gate::finding("C-501", message, gate::caller());
        }
    }
}

/// No chained receive comes from a device of a client's own.
unsafe extern "win64" fn tdi_match_pdo_with_chained_receive_context(_descriptor: u64, _pdo: u64) -> u8 {
    0
}

#[cfg(test)]
mod tests {
    use host_lock::Mutex;

    use super::*;

    static GIVEN: Mutex<Vec<u64>> = Mutex::new(Vec::new());

    fn take_back(descriptor: u64) -> bool {
        GIVEN.lock().expect("no panic").push(descriptor);
        descriptor < 10
    }

    #[proves::proves("C-501")]
    #[test]
    fn each_descriptor_of_the_array_goes_back_to_the_transport() {
        set_take_back(take_back);
        let descriptors = [1, 99, 2];
        let call = move || {
            nt_dispatcher::thread::adopt_current().expect("a kernel thread");
            // SAFETY: an array of the test; then one that is not there, of which nothing is read.
            unsafe {
                tdi_return_chained_receives(descriptors.as_ptr(), 3);
                tdi_return_chained_receives(std::ptr::null(), 0);
            }
        };
        std::thread::spawn(call).join().expect("no panic");
        assert_eq!(*GIVEN.lock().expect("no panic"), descriptors);
    }
}
