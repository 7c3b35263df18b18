//! StartIo and device queues, called as a driver calls them.

mod calling;

use std::ptr;
use std::sync::Mutex;

use calling::{call, on_kernel_thread};
use nt_abi::{DeviceObject, Irp, Irql};
use nt_io::cancel;
use nt_io::irp::{self, Owner};

static STARTED: Mutex<Vec<u64>> = Mutex::new(Vec::new());
static CANCELLED: Mutex<Vec<u64>> = Mutex::new(Vec::new());

unsafe extern "win64" fn start_io(_device: *mut DeviceObject, irp: u64) {
    assert_eq!(gate::irql(), Irql::DISPATCH);
    STARTED.lock().expect("no panic").push(irp);
}

unsafe extern "win64" fn cancel_routine(_device: *mut DeviceObject, irp: *mut Irp) {
    // SAFETY: called as a cancel routine.
    cancel::release_lock(Irql(unsafe { (*irp).cancel_irql }));
    CANCELLED.lock().expect("no panic").push(irp as u64);
}

fn with_device(test: fn(*mut DeviceObject)) {
    static TEST: Mutex<Option<fn(*mut DeviceObject)>> = Mutex::new(None);
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    *TEST.lock().expect("no panic") = Some(test);
    on_kernel_thread(|| {
        STARTED.lock().expect("no panic").clear();
        CANCELLED.lock().expect("no panic").clear();
        let device = calling::device(r"\Device\Starting");
        // SAFETY: a live device of the test.
        unsafe { (*(*device).driver_object).driver_start_io = start_io as *const () as u64 };
        let test = TEST.lock().expect("no panic").take().expect("set above");
        test(device);
        calling::delete(device);
    });
}

fn started() -> Vec<u64> {
    std::mem::take(&mut *STARTED.lock().expect("no panic"))
}

/// A packet that was sent to the device.
fn sent() -> *mut Irp {
    let irp = irp::allocate(1, Owner::Driver, 0).expect("a packet");
    // SAFETY: a new packet with one location.
    unsafe {
        (*irp).current_location -= 1;
        (*irp).current_stack_location = irp::next_location(irp);
    }
    irp
}

#[test]
fn packets_start_one_at_a_time_in_order() {
    with_device(|device| {
        let irps: [_; 3] = std::array::from_fn(|_| sent());
        for irp in irps {
            call("IoStartPacket", &[device as u64, irp as u64, 0, 0]);
        }
        assert_eq!(started(), [irps[0] as u64], "the others wait");
        for irp in &irps[1..] {
            call("IoStartNextPacket", &[device as u64, 0]);
            assert_eq!(started(), [*irp as u64]);
        }
        call("IoStartNextPacket", &[device as u64, 0]);
        assert!(started().is_empty(), "the device is idle");
        call("IoStartPacket", &[device as u64, irps[0] as u64, 0, 0]);
        assert_eq!(started(), [irps[0] as u64]);
        call("IoStartNextPacket", &[device as u64, 0]);
        irps.into_iter().for_each(irp::free);
    });
}

#[test]
fn packets_with_keys_start_in_the_order_of_their_keys() {
    with_device(|device| {
        let irps: [_; 4] = std::array::from_fn(|_| sent());
        for (irp, key) in irps.into_iter().zip([0u32, 30, 10, 20]) {
            call("IoStartPacket", &[device as u64, irp as u64, ptr::from_ref(&key) as u64, 0]);
        }
        started();
        call("IoStartNextPacketByKey", &[device as u64, 0, 15]);
        assert_eq!(started(), [irps[3] as u64], "20 is the first from 15 on");
        call("IoStartNextPacketByKey", &[device as u64, 0, 99]);
        assert_eq!(started(), [irps[2] as u64], "there is none from 99 on: the first");
        call("IoStartNextPacket", &[device as u64, 0]);
        assert_eq!(started(), [irps[1] as u64]);
        call("IoStartNextPacket", &[device as u64, 0]);
        irps.into_iter().for_each(irp::free);
    });
}

#[test]
fn packet_cancelled_before_it_is_queued_goes_to_its_cancel_routine() {
    with_device(|device| {
        let (first, second) = (sent(), sent());
        call("IoStartPacket", &[device as u64, first as u64, 0, 0]);
        call("IoCancelIrp", &[second as u64]);
        call("IoStartPacket", &[device as u64, second as u64, 0, cancel_routine as *const () as u64]);
        assert_eq!(*CANCELLED.lock().expect("no panic"), [second as u64]);
        assert_eq!(gate::irql(), Irql::PASSIVE);
        // The routine takes the packet out of the queue.
        let queue = device as u64 + std::mem::offset_of!(DeviceObject, device_queue) as u64;
        let entry = second as u64 + std::mem::offset_of!(Irp, driver_context) as u64;
        assert_eq!(call("KeRemoveEntryDeviceQueue", &[queue, entry]) as u8, 1);
        assert_eq!(call("KeRemoveEntryDeviceQueue", &[queue, entry]) as u8, 0);
        call("IoStartNextPacket", &[device as u64, 1]);
        assert_eq!(started(), [first as u64], "nothing waited");
        irp::free(first);
        irp::free(second);
    });
}
