//! What becomes of an associated packet at its end. The executive's services are the test's own, so this is a binary
//! of its own.

mod calling;

use std::ptr;
use std::sync::Mutex;

use calling::{call, on_kernel_thread};
use nt_abi::{Irp, Mdl, NtStatus};
use nt_io::irp::{self, Owner};
use nt_io::{Services, completion};
use proves::proves;

static FREED: Mutex<Vec<(u64, u64)>> = Mutex::new(Vec::new());

/// Notes whose MDLs are freed.
unsafe fn note_mdls(irp: *mut Irp) {
    // SAFETY: a live packet.
    let mdl = unsafe { std::mem::replace(&mut (*irp).mdl_address, ptr::null_mut()) };
    FREED.lock().expect("no panic").push((irp as u64, mdl as u64));
}

/// Steps onto the packet's first location, as sending it does.
unsafe fn step_in(irp: *mut Irp) {
    // SAFETY: the caller's new packet.
    unsafe {
        (*irp).current_stack_location = irp::next_location(irp);
        (*irp).current_location -= 1;
    }
}

#[proves("K-064")]
#[test]
fn mdls_of_associated_packets_are_freed_with_them() {
    nt_io::set_services(Services {
        allocate: |_, _| None,
        free: |_| {},
        lock: |_, _, _, _, _| Err(NtStatus::INSUFFICIENT_RESOURCES),
        free_mdls: note_mdls,
        key_name: |_| None,
    });
    on_kernel_thread(|| {
        let master = irp::allocate(1, Owner::Driver, 0).expect("a packet");
        // SAFETY: all bytes zero is an MDL; it and the packets outlive their use.
        unsafe {
            let mut mdl: Mdl = std::mem::zeroed();
            step_in(master);
            let parts: [_; 2] = std::array::from_fn(|_| call("IoMakeAssociatedIrp", &[master as u64, 1]) as *mut Irp);
            (*master).system_buffer = 2;
            (*parts[0]).mdl_address = &raw mut mdl;
            for part in parts {
                step_in(part);
                completion::complete_with(part, NtStatus::SUCCESS, 0);
            }
            assert_eq!(*FREED.lock().expect("no panic"), [(parts[0] as u64, &raw const mdl as u64)]);
            irp::free(master);
        }
    });
}
