//! Cancel-safe queues, remove locks and work items, called as a driver calls them.

mod calling;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use calling::{call, on_kernel_thread};
use nt_abi::io::control;
use nt_abi::{Irp, Irql, NtStatus};
use nt_dispatcher::work;
use nt_io::irp::{self, Owner};
use nt_io::{cancel, completion};
use proves::proves;

/// The driver's queue and its lock, and what the routines were told.
static QUEUE: Mutex<Vec<u64>> = Mutex::new(Vec::new());
static CANCELLED: Mutex<Vec<u64>> = Mutex::new(Vec::new());
static LOCK: AtomicU64 = AtomicU64::new(0);

fn queue() -> std::sync::MutexGuard<'static, Vec<u64>> {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

unsafe extern "win64" fn insert(_csq: u64, irp: u64) {
    queue().push(irp);
}

unsafe extern "win64" fn insert_unless_full(_csq: u64, irp: u64, limit: u64) -> NtStatus {
    let mut queue = queue();
    if queue.len() as u64 >= limit {
        return NtStatus::INSUFFICIENT_RESOURCES;
    }
    queue.push(irp);
    NtStatus::SUCCESS
}

unsafe extern "win64" fn remove(_csq: u64, irp: u64) {
    queue().retain(|&queued| queued != irp);
}

unsafe extern "win64" fn peek_next(_csq: u64, irp: u64, _context: u64) -> u64 {
    let queue = queue();
    let after = queue.iter().position(|&queued| queued == irp).map_or(0, |at| at + 1);
    queue.get(after).copied().unwrap_or(0)
}

unsafe extern "win64" fn acquire(_csq: u64, level: *mut Irql) {
    // SAFETY: a static lock word, and the level's place is the caller's.
    unsafe { *level = nt_dispatcher::spin::acquire_raise(LOCK.as_ptr()) };
}

unsafe extern "win64" fn release(_csq: u64, level: Irql) {
    // SAFETY: a static lock word.
    unsafe { nt_dispatcher::spin::release_lower(LOCK.as_ptr(), level) };
}

unsafe extern "win64" fn complete_canceled(_csq: u64, irp: u64) {
    assert_eq!(LOCK.load(Ordering::SeqCst), 0, "the queue's lock is free when a cancelled request completes");
    CANCELLED.lock().expect("no panic").push(irp);
}

/// An `IO_CSQ` and room for one `IO_CSQ_IRP_CONTEXT`.
struct Queue {
    csq: Box<[u64; 8]>,
    context: Box<[u64; 3]>,
}

impl Queue {
    fn new(initialize: &str, insert: u64) -> Self {
        queue().clear();
        CANCELLED.lock().expect("no panic").clear();
        let mut csq = Box::new([0; 8]);
        let routines = [remove as *const () as u64, peek_next as *const () as u64, acquire as *const () as u64];
        let more = [release as *const () as u64, complete_canceled as *const () as u64];
        call(initialize, &[&[csq.as_mut_ptr() as u64, insert][..], &routines[..], &more[..]].concat());
        Self { csq, context: Box::new([0; 3]) }
    }

    fn plain() -> Self {
        Self::new("IoCsqInitialize", insert as *const () as u64)
    }

    fn address(&mut self) -> u64 {
        self.csq.as_mut_ptr() as u64
    }

    fn context(&mut self) -> u64 {
        self.context.as_mut_ptr() as u64
    }
}

/// A request that a driver holds: sent once, so that it has a current location.
fn held() -> *mut Irp {
    let irp = irp::allocate(1, Owner::Driver, 0).expect("a packet");
    // SAFETY: a new packet with one location.
    unsafe {
        (*irp).current_location -= 1;
        (*irp).current_stack_location = irp::next_location(irp);
    }
    irp
}

#[proves("K-075", "K-076", "K-077")]
#[test]
fn queued_request_is_pending_and_comes_out_once() {
    on_kernel_thread(|| {
        let mut queue = Queue::plain();
        let irp = held();
        let context = queue.context();
        call("IoCsqInsertIrp", &[queue.address(), irp as u64, context]);
        // SAFETY: the test holds the packet.
        unsafe {
            assert_eq!((*irp::current_location(irp)).control & control::PENDING_RETURNED, control::PENDING_RETURNED);
            assert_eq!((*irp).driver_context[3], context);
            assert_ne!((*irp).cancel_routine, 0);
        }
        assert_eq!(call("IoCsqRemoveIrp", &[queue.address(), context]), irp as u64);
        assert_eq!(call("IoCsqRemoveIrp", &[queue.address(), context]), 0, "it came out already");
        // SAFETY: as above.
        assert_eq!(unsafe { ((*irp).cancel_routine, (*irp).driver_context[3]) }, (0, 0));
        irp::free(irp);
    });
}

#[proves("K-077")]
#[test]
fn requests_come_out_in_order_and_cancelled_ones_never() {
    on_kernel_thread(|| {
        let mut queue = Queue::plain();
        let irps: [_; 3] = std::array::from_fn(|_| held());
        for irp in irps {
            call("IoCsqInsertIrp", &[queue.address(), irp as u64, 0]);
        }
        // SAFETY: the test holds the packets.
        assert!(unsafe { cancel::cancel(irps[0]) });
        assert_eq!(*CANCELLED.lock().expect("no panic"), [irps[0] as u64]);
        assert_eq!(call("IoCsqRemoveNextIrp", &[queue.address(), 0]), irps[1] as u64);
        assert_eq!(call("IoCsqRemoveNextIrp", &[queue.address(), 0]), irps[2] as u64);
        assert_eq!(call("IoCsqRemoveNextIrp", &[queue.address(), 0]), 0);
        irps.into_iter().for_each(irp::free);
    });
}

#[proves("K-080")]
#[test]
fn request_cancelled_before_it_is_queued_is_completed_as_cancelled() {
    on_kernel_thread(|| {
        let mut queue = Queue::plain();
        let irp = held();
        // SAFETY: the test holds the packet.
        assert!(!unsafe { cancel::cancel(irp) }, "no routine was set");
        let context = queue.context();
        call("IoCsqInsertIrp", &[queue.address(), irp as u64, context]);
        assert_eq!(*CANCELLED.lock().expect("no panic"), [irp as u64]);
        assert_eq!(call("IoCsqRemoveIrp", &[queue.address(), context]), 0);
        irp::free(irp);
    });
}

#[proves("K-077")]
#[test]
fn insert_that_refuses_leaves_the_request_alone() {
    on_kernel_thread(|| {
        let mut queue = Queue::new("IoCsqInitializeEx", insert_unless_full as *const () as u64);
        let irp = held();
        let full = call("IoCsqInsertIrpEx", &[queue.address(), irp as u64, 0, 0]);
        assert_eq!(NtStatus(full as u32), NtStatus::INSUFFICIENT_RESOURCES);
        // SAFETY: the test holds the packet.
        unsafe {
            assert_eq!((*irp::current_location(irp)).control & control::PENDING_RETURNED, 0);
            assert_eq!((*irp).cancel_routine, 0);
            assert_eq!(call("IoCsqInsertIrpEx", &[queue.address(), irp as u64, 0, 1]) as u32, 0);
            assert_eq!(call("IoCsqRemoveNextIrp", &[queue.address(), 0]), irp as u64);
            (*irp).io_status.status = NtStatus::SUCCESS;
        }
        irp::free(irp);
    });
}

#[proves("K-143")]
#[test]
fn remove_lock_refuses_after_removal_and_waits_for_the_rest() {
    on_kernel_thread(|| {
        let mut lock = Box::new([0u64; 4]);
        let lock = lock.as_mut_ptr() as u64;
        let acquire = || NtStatus(call("IoAcquireRemoveLockEx", &[lock, 0, 0, 0, 0x20]) as u32);
        call("IoInitializeRemoveLockEx", &[lock, 0, 0, 0, 0x20]);
        assert_eq!((acquire(), acquire()), (NtStatus::SUCCESS, NtStatus::SUCCESS));
        let other = std::thread::spawn(move || {
            nt_dispatcher::thread::adopt_current().expect("a kernel thread");
            // Only once the removal has begun does an acquisition fail; then the wait for ours can be ended.
            while NtStatus(call("IoAcquireRemoveLockEx", &[lock, 0, 0, 0, 0x20]) as u32) == NtStatus::SUCCESS {
                call("IoReleaseRemoveLockEx", &[lock, 0, 0x20]);
                std::thread::yield_now();
            }
            call("IoReleaseRemoveLockEx", &[lock, 0, 0x20]);
        });
        call("IoReleaseRemoveLockAndWaitEx", &[lock, 0, 0x20]);
        other.join().expect("the other thread");
        assert_eq!(acquire(), NtStatus::DELETE_PENDING);
    });
}

static WORKED: Mutex<Vec<[u64; 3]>> = Mutex::new(Vec::new());

unsafe extern "win64" fn work_routine(device: u64, context: u64) {
    assert_eq!(gate::irql(), Irql::PASSIVE);
    WORKED.lock().expect("no panic").push([device, context, 0]);
}

/// Frees its own item, which is off the queue by then.
unsafe extern "win64" fn freeing_routine(device: u64, context: u64, item: u64) {
    call("IoFreeWorkItem", &[item]);
    WORKED.lock().expect("no panic").push([device, context, item]);
}

#[proves("K-136")]
#[test]
fn work_item_keeps_its_device_busy_until_its_routine_has_run() {
    on_kernel_thread(|| {
        let device = calling::device(r"\Device\Worker");
        let item = call("IoAllocateWorkItem", &[device as u64]);
        // SAFETY: a live device.
        unsafe {
            call("IoQueueWorkItem", &[item, work_routine as *const () as u64, 1, 0x77]);
            work::drain();
            call("IoQueueWorkItemEx", &[item, freeing_routine as *const () as u64, 1, 0x78]);
            work::drain();
            assert_eq!(nt_io::device::open_count(device), 0);
        }
        let worked = std::mem::take(&mut *WORKED.lock().expect("no panic"));
        assert_eq!(worked, [[device as u64, 0x77, 0], [device as u64, 0x78, item]]);
        let mut left = 0;
        nt_io::work_item::for_each_live(|_, _| left += 1);
        assert_eq!(left, 0, "the routine freed its item");
        calling::delete(device);
    });
}

#[test]
fn completed_request_of_a_queue_ends_as_usual() {
    on_kernel_thread(|| {
        let mut queue = Queue::plain();
        let irp = irp::allocate(1, Owner::Manager, 0).expect("a packet");
        // SAFETY: a new packet with one location.
        unsafe {
            (*irp).current_location -= 1;
            (*irp).current_stack_location = irp::next_location(irp);
            call("IoCsqInsertIrp", &[queue.address(), irp as u64, 0]);
            let out = call("IoCsqRemoveNextIrp", &[queue.address(), 0]) as *mut Irp;
            assert_eq!(completion::complete_with(out, NtStatus::SUCCESS, 0), NtStatus::SUCCESS);
        }
        irp::free(irp);
    });
}
