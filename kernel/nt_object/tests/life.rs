//! The life of objects and handles, on a thread with a gate block.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use gate::thread::{Block, host_stack};
use nt_abi::{Handle, Irql, NtStatus};
use nt_object::ObjectType;
use proves::proves;

/// Counters are shared by all tests of this file: one at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
static CLOSED: AtomicI64 = AtomicI64::new(0);
static DELETED: AtomicU64 = AtomicU64::new(0);
static KIND: ObjectType = ObjectType::new(
    "Test",
    |_| {
        DELETED.fetch_add(1, Ordering::Relaxed);
    },
    |_, remaining| CLOSED.store(remaining + 100, Ordering::Relaxed),
);
static OTHER: ObjectType = ObjectType::simple("Other", |_| {});

/// Runs `test` on a thread of its own with a gate block.
fn on_a_driver_thread(test: fn()) {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let run = move || {
        let stack = host_stack().expect("this thread's stack");
        Block::new(stack, 0, 1, 0).expect("a block").install();
        CLOSED.store(0, Ordering::Relaxed);
        DELETED.store(0, Ordering::Relaxed);
        test();
        nt_object::release_thread_caches();
    };
    std::thread::spawn(run).join().expect("the test's thread");
}

fn new_object() -> u64 {
    nt_object::create(&KIND, 0xD8, 0).expect("memory")
}

#[proves("C-120", "C-122", "C-124")]
#[test]
fn handle_accounts_for_one_reference() {
    on_a_driver_thread(|| {
        let body = new_object();
        let handle = nt_object::insert(body, 0, true, 0).expect("room");
        assert_eq!((nt_object::pointer_count(body), nt_object::handle_count(body)), (Some(2), Some(1)));
        let (found, _) = nt_object::reference_by_handle(handle, None).expect("the object");
        assert_eq!((found, nt_object::pointer_count(body), nt_object::handle_count(body)), (body, Some(3), Some(1)));
        assert_eq!(nt_object::close(handle), Ok((body, 0)));
        assert_eq!((nt_object::pointer_count(body), nt_object::handle_count(body)), (Some(2), Some(0)));
    });
}

#[proves("C-123", "C-125")]
#[test]
fn object_lives_until_its_last_reference_goes() {
    on_a_driver_thread(|| {
        let body = new_object();
        let handle = nt_object::insert(body, 0, true, 0).expect("room");
        nt_object::dereference(body);
        nt_object::reference(body);
        nt_object::close(handle).expect("an open handle");
        assert_eq!((CLOSED.load(Ordering::Relaxed), DELETED.load(Ordering::Relaxed)), (100, 0));
        assert_eq!(nt_object::dereference(body), 0);
        assert_eq!(DELETED.load(Ordering::Relaxed), 1);
        assert!(!nt_object::is_live(body));
        assert!(!nt_object::try_reference(body), "a deleted object cannot be revived");
    });
}

#[proves("C-126", "K-155")]
#[test]
fn bad_handles_and_wrong_types_are_refused() {
    on_a_driver_thread(|| {
        let body = new_object();
        let handle = nt_object::insert(body, 0, true, 0).expect("room");
        let refused = |handle, kind| nt_object::reference_by_handle(handle, kind).expect_err("a refusal");
        assert_eq!(refused(handle, Some(OTHER.block())), NtStatus::OBJECT_TYPE_MISMATCH);
        assert!(nt_object::reference_by_handle(handle, Some(KIND.block())).is_ok());
        for bad in [0, 4, 0x1234_5678, handle.0 + 4, handle.0 & 0x7FFF_FFFF, u64::MAX, i64::MAX as u64] {
            assert_eq!(refused(Handle(bad), None), NtStatus::INVALID_HANDLE, "{bad:#x}");
        }
        nt_object::close(handle).expect("an open handle");
        assert_eq!(refused(handle, None), NtStatus::INVALID_HANDLE);
        assert_eq!(nt_object::close(handle), Err(NtStatus::INVALID_HANDLE));
    });
}

#[proves("K-159")]
#[test]
fn kernel_handles_have_their_high_bits_set() {
    on_a_driver_thread(|| {
        let body = new_object();
        let kernel = nt_object::insert(body, 0, true, 0).expect("room");
        let plain = nt_object::insert(body, 0, false, 0).expect("room");
        assert_eq!(kernel.0 >> 31, 0x1_FFFF_FFFF);
        assert!(plain.0 < 1 << 31 && plain.0.is_multiple_of(4));
        nt_object::close(kernel).expect("an open handle");
        nt_object::close(plain).expect("an open handle");
    });
}

#[proves("C-142")]
#[test]
fn last_reference_dropped_at_dispatch_level_is_deleted_later() {
    type Deletion = (u64, fn(u64));
    static LATER: Mutex<Vec<Deletion>> = Mutex::new(Vec::new());
    on_a_driver_thread(|| {
        nt_object::set_deferred_delete(|body, delete| LATER.lock().expect("no panic").push((body, delete)));
        let body = new_object();
        gate::set_irql(Irql::DISPATCH);
        nt_object::dereference(body);
        gate::set_irql(Irql::PASSIVE);
        assert_eq!(DELETED.load(Ordering::Relaxed), 0);
        let (deferred, delete) = LATER.lock().expect("no panic").pop().expect("the deferred deletion");
        assert_eq!(deferred, body);
        delete(deferred);
        assert_eq!(DELETED.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn threads_that_open_look_up_and_close_at_once_lose_nothing() {
    on_a_driver_thread(|| {
        let rounds = |number: u16| {
            move || {
                let stack = host_stack().expect("this thread's stack");
                Block::new(stack, 0, number, number).expect("a block").install();
                for _ in 0..20_000 {
                    let body = new_object();
                    let handle = nt_object::insert(body, 0, true, 0).expect("room");
                    nt_object::dereference(body);
                    let (found, _) = nt_object::reference_by_handle(handle, None).expect("the object");
                    assert_eq!(found, body);
                    nt_object::close(handle).expect("an open handle");
                    nt_object::dereference(body);
                }
                nt_object::release_thread_caches();
            }
        };
        let threads: Vec<_> = (1..=4).map(|number| std::thread::spawn(rounds(number))).collect();
        threads.into_iter().for_each(|thread| thread.join().expect("a thread"));
        assert_eq!(DELETED.load(Ordering::Relaxed), 80_000);
    });
}

/// Otherwise the kernel places one of them, elsewhere in every run, and runs with one seed differ.
#[test]
fn huge_object_and_handle_table_both_lie_where_the_plan_puts_them() {
    on_a_driver_thread(|| {
        let small = new_object();
        let handle = nt_object::insert(small, 0, true, 0).expect("room");
        let huge = nt_object::create(&KIND, 1 << 20, 0).expect("memory");
        let first = arena::plan::OBJECTS + (4 << 34);
        assert!((first..first + 4096).contains(&huge), "{huge:#x}");
        nt_object::dereference(huge);
        nt_object::close(handle).expect("an open handle");
        nt_object::dereference(small);
    });
}

/// A name may still lead to it; what found it would be left with a stale pointer.
#[test]
fn object_that_is_being_deleted_is_given_to_nobody_new() {
    static FOUND: AtomicI64 = AtomicI64::new(-1);
    static MOVING: ObjectType = ObjectType::simple("Moving", |body| {
        FOUND.store(i64::from(nt_object::try_reference(body)), Ordering::Relaxed);
        // Those who see its last request are free to.
        assert_eq!((nt_object::reference(body), nt_object::pointer_count(body)), (2, Some(2)));
        assert_eq!(nt_object::dereference(body), 1);
    });
    on_a_driver_thread(|| {
        let body = nt_object::create(&MOVING, 16, 0).expect("memory");
        assert_eq!(nt_object::dereference(body), 0);
        assert_eq!(FOUND.load(Ordering::Relaxed), 0);
        assert!(!nt_object::is_live(body));
    });
}
