//! Locks and levels, called as drivers call them.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};

use common::{Memory, in_the_kernel, is_child, join, start, wait_for};
use nt_abi::dispatcher::{DispatcherType, FastMutex};
use nt_abi::exception::BugCheck;
use nt_abi::{Irql, KernelEvent, NtStatus};
use nt_dispatcher::{event, resource, spin, wait};
use proves::proves;

/// A fast mutex as the inline initialiser makes it.
fn new_fast_mutex() -> u64 {
    let mutex = Memory::<FastMutex>::new().address() as *mut FastMutex;
    // SAFETY: new memory.
    unsafe {
        (*mutex).count = 1;
        event::initialize(&raw mut (*mutex).event, DispatcherType::SYNCHRONIZATION_EVENT, false);
    }
    mutex as u64
}

fn new_resource() -> u64 {
    let resource = Memory::<[u64; 13]>::new().address();
    assert_eq!(call!("ExInitializeResourceLite", resource) as u32, 0);
    resource
}

fn new_word() -> u64 {
    Memory::<u64>::new().address()
}

fn new_event() -> u64 {
    let event = Memory::<KernelEvent>::new().address();
    call!("KeInitializeEvent", event, 0, 0);
    event
}

/// What a thread is to call, and what that gave.
struct Errand {
    call: Box<dyn Fn() -> u64 + Send + Sync>,
    result: AtomicU64,
}

/// Calls something on another kernel thread and gives its result.
fn elsewhere(call: impl Fn() -> u64 + Send + Sync + 'static) -> u64 {
    let (thread, errand) = begin_elsewhere(call);
    finish(thread, errand)
}

fn begin_elsewhere(call: impl Fn() -> u64 + Send + Sync + 'static) -> (u64, &'static Errand) {
    let errand: &'static Errand = Box::leak(Box::new(Errand { call: Box::new(call), result: AtomicU64::new(0) }));
    let run = |errand: u64| {
        // SAFETY: the leaked errand.
        let errand = unsafe { &*(errand as *const Errand) };
        errand.result.store((errand.call)(), Ordering::SeqCst);
    };
    (start(run, std::ptr::from_ref(errand) as u64), errand)
}

fn finish(thread: u64, errand: &Errand) -> u64 {
    join(thread);
    errand.result.load(Ordering::SeqCst)
}

/// Runs `round` many times on two threads at once; it counts, with what it is given, under the lock that it takes.
fn hammer(round: impl Fn(&dyn Fn()) + Send + Sync + Copy + 'static) {
    const ROUNDS: u64 = 5_000;
    let counter: &'static AtomicU64 = Box::leak(Box::default());
    let life = move || {
        // Not atomic as a whole: right only under a lock.
        let count = || counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        (0..ROUNDS).for_each(|_| round(&count));
        0
    };
    for (thread, errand) in [begin_elsewhere(life), begin_elsewhere(life)] {
        finish(thread, errand);
    }
    assert_eq!(counter.load(Ordering::SeqCst), 2 * ROUNDS);
}

#[proves("K-120")]
#[test]
fn nested_raises_are_restored_in_reverse_and_raising_to_the_same_level_changes_nothing() {
    in_the_kernel(|| {
        let first = call!("KfRaiseIrql", 1) as u8;
        let second = call!("KeRaiseIrqlToDpcLevel") as u8;
        let third = call!("KfRaiseIrql", 2) as u8;
        assert_eq!((first, second, third, call!("KeGetCurrentIrql") as u8), (0, 1, 2, 2));
        for level in [third, second, first] {
            call!("KeLowerIrql", level);
            assert_eq!(gate::irql(), Irql(level));
        }
    });
}

#[proves("K-122")]
#[test]
fn spin_locks_of_a_thread_are_known_until_they_are_given_back_in_any_order() {
    in_the_kernel(|| {
        let [first, second] = [(); 2].map(|()| Memory::<u64>::new());
        let old = call!("KeAcquireSpinLockRaiseToDpc", first.address());
        assert_eq!(call!("KeTryToAcquireSpinLockAtDpcLevel", second.address()) as u8, 1);
        call!("KeReleaseSpinLockFromDpcLevel", first.address());
        assert_eq!(spin::held(), Some(second.address()));
        call!("KeReleaseSpinLock", second.address(), old);
        assert_eq!(spin::held(), None);
        // Beyond what there is room to note, and given back by nobody but this thread.
        let many = [(); 6].map(|()| Memory::<u64>::new().address());
        many.iter().for_each(|lock| _ = call!("KeAcquireSpinLockAtDpcLevel", *lock));
        assert_eq!(spin::held(), Some(many[0]));
        many.iter().for_each(|lock| _ = call!("KeReleaseSpinLockFromDpcLevel", *lock));
        assert_eq!(spin::held(), None);
    });
}

#[proves("K-043")]
#[test]
fn reader_writer_spin_locks_of_a_thread_are_known_while_it_holds_them() {
    in_the_kernel(|| {
        let lock = Memory::<u64>::new();
        let old = call!("ExAcquireSpinLockShared", lock.address());
        assert_eq!(spin::held(), Some(lock.address()));
        call!("ExReleaseSpinLockShared", lock.address(), old);
        assert_eq!(spin::held(), None);
        let old = call!("ExAcquireSpinLockExclusive", lock.address());
        assert_eq!(spin::held(), Some(lock.address()));
        call!("ExReleaseSpinLockExclusive", lock.address(), old);
        assert_eq!(spin::held(), None);
    });
}

#[proves("K-120")]
#[test]
fn raising_to_a_lower_level_and_lowering_to_a_higher_one_are_findings() {
    if is_child() {
        return in_the_kernel(|| {
            call!("KfRaiseIrql", 2);
            call!("KfRaiseIrql", 1);
            call!("KeLowerIrql", 2);
        });
    }
    let name = "raising_to_a_lower_level_and_lowering_to_a_higher_one_are_findings";
    assert_eq!(common::findings(name), ["K-120", "K-120"]);
}

#[proves("K-145")]
#[test]
fn fast_mutex_raises_to_apc_level_and_excludes() {
    in_the_kernel(|| {
        let mutex = new_fast_mutex();
        call!("ExAcquireFastMutex", mutex);
        assert_eq!(gate::irql(), Irql::APC);
        assert_eq!(elsewhere(move || call!("ExTryToAcquireFastMutex", mutex) & 0xFF), 0);
        call!("ExReleaseFastMutex", mutex);
        assert_eq!(gate::irql(), Irql::PASSIVE);
        hammer(move |count| {
            call!("ExAcquireFastMutex", mutex);
            count();
            call!("ExReleaseFastMutex", mutex);
        });
    });
}

#[proves("K-145")]
#[test]
fn fast_mutex_taken_twice_ends_the_run() {
    if is_child() {
        return in_the_kernel(|| {
            let mutex = new_fast_mutex();
            call!("ExAcquireFastMutex", mutex);
            call!("ExAcquireFastMutex", mutex);
        });
    }
    common::expect_bugcheck("fast_mutex_taken_twice_ends_the_run", BugCheck::DRYDOCK_DEADLOCK);
}

#[proves("K-145")]
#[test]
fn unsafe_locks_want_a_critical_region() {
    if is_child() {
        return in_the_kernel(|| {
            let (mutex, resource) = (new_fast_mutex(), new_resource());
            for _ in 0..2 {
                call!("ExAcquireFastMutexUnsafe", mutex);
                assert_eq!(gate::irql(), Irql::PASSIVE);
                call!("ExReleaseFastMutexUnsafe", mutex);
                call!("ExAcquireResourceExclusiveLite", resource, 1);
                call!("ExReleaseResourceLite", resource);
                // The second time inside of one.
                call!("KeEnterCriticalRegion");
            }
            call!("KeLeaveCriticalRegion");
            call!("KeLeaveCriticalRegion");
            call!("KeLeaveCriticalRegion");
        });
    }
    assert_eq!(common::findings("unsafe_locks_want_a_critical_region"), ["K-145", "K-145", "K-145"]);
}

#[proves("K-134")]
#[test]
fn driver_threads_begin_inside_a_critical_region() {
    static DISABLED: AtomicU64 = AtomicU64::new(0);
    extern "win64" fn routine(_context: u64) {
        DISABLED.store(call!("KeAreApcsDisabled") & 0xFF, Ordering::SeqCst);
    }
    in_the_kernel(|| {
        let routine = nt_dispatcher::thread::Start::Driver(routine as *const () as u64);
        join(nt_dispatcher::thread::create(routine, 0, 0).expect("a thread"));
        assert_eq!(DISABLED.load(Ordering::SeqCst), 1);
        assert_eq!(call!("KeAreApcsDisabled") as u8, 0);
    });
}

#[test]
fn guarded_mutex_excludes_and_enters_a_region() {
    in_the_kernel(|| {
        let mutex = Memory::<FastMutex>::new().address();
        call!("KeInitializeGuardedMutex", mutex);
        call!("KeAcquireGuardedMutex", mutex);
        assert_eq!((gate::irql(), call!("KeAreApcsDisabled") as u8), (Irql::PASSIVE, 1));
        assert_eq!(elsewhere(move || call!("KeTryToAcquireGuardedMutex", mutex) & 0xFF), 0);
        call!("KeReleaseGuardedMutex", mutex);
        assert_eq!(call!("KeAreApcsDisabled") as u8, 0);
        hammer(move |count| {
            call!("KeAcquireGuardedMutex", mutex);
            count();
            call!("KeReleaseGuardedMutex", mutex);
        });
    });
}

#[proves("K-145")]
#[test]
fn resource_is_recursive_for_its_writer_and_closed_to_others() {
    in_the_kernel(|| {
        call!("KeEnterCriticalRegion");
        let resource = new_resource();
        let exclusive = || call!("ExAcquireResourceExclusiveLite", resource, 0) as u8;
        assert_eq!([exclusive(), exclusive(), call!("ExAcquireResourceSharedLite", resource, 0) as u8], [1; 3]);
        assert_eq!(call!("ExIsResourceAcquiredExclusiveLite", resource) as u8, 1);
        assert_eq!(call!("ExIsResourceAcquiredSharedLite", resource) as u32, 3);
        let others = move || call!("ExAcquireResourceSharedLite", resource, 0) & 0xFF;
        for _ in 0..3 {
            assert_eq!(elsewhere(others), 0);
            call!("ExReleaseResourceLite", resource);
        }
        assert_eq!(call!("ExIsResourceAcquiredSharedLite", resource) as u32, 0);
        assert_eq!(exclusive(), 1);
    });
}

#[proves("K-145")]
#[test]
fn readers_share_a_resource_and_queue_behind_a_waiting_writer_unless_told_otherwise() {
    in_the_kernel(|| {
        call!("KeEnterCriticalRegion");
        let resource = new_resource();
        let shared = move || call!("ExAcquireResourceSharedLite", resource, 0) & 0xFF;
        assert_eq!(shared(), 1);
        let share_and_release = move || {
            let taken = shared();
            if taken == 1 {
                call!("ExReleaseResourceLite", resource);
            }
            taken
        };
        assert_eq!(elsewhere(share_and_release), 1);
        let (writer, written) = begin_elsewhere(move || {
            call!("ExAcquireResourceExclusiveLite", resource, 1);
            call!("ExReleaseResourceLite", resource);
            0
        });
        while call!("ExGetExclusiveWaiterCount", resource) as u32 == 0 {
            std::thread::yield_now();
        }
        assert_eq!(elsewhere(share_and_release), 0, "behind the writer");
        assert_eq!(shared(), 1, "this thread reads already");
        assert_eq!(call!("ExAcquireSharedWaitForExclusive", resource, 0) as u8, 0, "even so behind the writer");
        let starve = move || {
            let taken = call!("ExAcquireSharedStarveExclusive", resource, 0) & 0xFF;
            call!("ExReleaseResourceLite", resource);
            taken
        };
        assert_eq!(elsewhere(starve), 1, "before the writer");
        call!("ExReleaseResourceLite", resource);
        call!("ExReleaseResourceForThreadLite", resource, gate::thread::current_thread_object());
        finish(writer, written);
    });
}

#[test]
fn writer_that_becomes_a_reader_lets_readers_in() {
    in_the_kernel(|| {
        call!("KeEnterCriticalRegion");
        let resource = new_resource();
        call!("ExAcquireResourceExclusiveLite", resource, 1);
        let (reader, read) = begin_elsewhere(move || {
            call!("ExAcquireResourceSharedLite", resource, 1);
            call!("ExReleaseResourceLite", resource);
            7
        });
        while call!("ExGetSharedWaiterCount", resource) as u32 == 0 {
            std::thread::yield_now();
        }
        call!("ExConvertExclusiveToSharedLite", resource);
        assert_eq!(finish(reader, read), 7);
        assert_eq!(call!("ExIsResourceAcquiredExclusiveLite", resource) as u8, 0);
        call!("ExReleaseResourceLite", resource);
        assert_eq!(resource::left_in(resource..resource + 1).map(|(left, _)| left), Some(resource));
        call!("ExDeleteResourceLite", resource);
        assert_eq!(resource::left_in(resource..resource + 1), None);
    });
}

#[test]
fn resource_excludes_writers_from_each_other() {
    in_the_kernel(|| {
        let resource = new_resource();
        hammer(move |count| {
            call!("ExEnterCriticalRegionAndAcquireResourceExclusive", resource);
            count();
            call!("ExReleaseResourceAndLeaveCriticalRegion", resource);
        });
    });
}

#[proves("K-153")]
#[test]
fn release_of_a_resource_by_another_thread_ends_the_run() {
    if is_child() {
        return in_the_kernel(|| {
            call!("KeEnterCriticalRegion");
            let resource = new_resource();
            call!("ExAcquireResourceExclusiveLite", resource, 1);
            elsewhere(move || call!("ExReleaseResourceLite", resource));
        });
    }
    let name = "release_of_a_resource_by_another_thread_ends_the_run";
    common::expect_bugcheck(name, BugCheck::RESOURCE_NOT_OWNED);
}

#[proves("K-121")]
#[test]
fn queued_spin_lock_raises_excludes_and_restores() {
    in_the_kernel(|| {
        let (lock, handle) = (new_word(), Memory::<[u64; 3]>::new().address());
        assert_eq!(call!("KeTestSpinLock", lock) as u8, 1);
        call!("KeAcquireInStackQueuedSpinLock", lock, handle);
        assert_eq!((gate::irql(), call!("KeTestSpinLock", lock) as u8), (Irql::DISPATCH, 0));
        assert_eq!(call!("KeTryToAcquireSpinLockAtDpcLevel", lock) as u8, 0);
        call!("KeReleaseInStackQueuedSpinLock", handle);
        assert_eq!(gate::irql(), Irql::PASSIVE);
        hammer(move |count| {
            let mut handle = [0u64; 3];
            call!("KeAcquireInStackQueuedSpinLock", lock, &raw mut handle);
            count();
            call!("KeReleaseInStackQueuedSpinLock", &raw mut handle);
        });
    });
}

#[proves("K-153")]
#[test]
fn release_of_a_free_spin_lock_is_a_finding() {
    if is_child() {
        return in_the_kernel(|| {
            call!("KeReleaseSpinLockFromDpcLevel", new_word());
            call!("ExReleaseSpinLockSharedFromDpcLevel", new_word());
            call!("ExReleaseSpinLockExclusiveFromDpcLevel", new_word());
        });
    }
    assert_eq!(common::findings("release_of_a_free_spin_lock_is_a_finding"), ["K-153"; 3]);
}

#[test]
fn reader_writer_spin_lock_lets_readers_share_and_one_write() {
    in_the_kernel(|| {
        let lock = new_word();
        let read = move || {
            let old = call!("ExAcquireSpinLockShared", lock);
            assert_eq!((old as u8, gate::irql()), (0, Irql::DISPATCH));
            call!("ExReleaseSpinLockShared", lock, old);
            assert_eq!(gate::irql(), Irql::PASSIVE);
            1
        };
        // Below DISPATCH_LEVEL, because this thread then waits for another.
        call!("ExAcquireSpinLockSharedAtDpcLevel", lock);
        assert_eq!(elsewhere(read), 1);
        assert_eq!(call!("ExTryConvertSharedSpinLockExclusive", lock) as u8, 1, "nobody else reads");
        call!("ExReleaseSpinLockExclusiveFromDpcLevel", lock);
        hammer(move |count| {
            read();
            let old = call!("ExAcquireSpinLockExclusive", lock);
            count();
            call!("ExReleaseSpinLockExclusive", lock, old);
        });
    });
}

#[test]
fn push_lock_lets_readers_share_and_one_write() {
    in_the_kernel(|| {
        let lock = new_word();
        call!("ExInitializePushLock", lock);
        let read = move || {
            call!("ExAcquirePushLockSharedEx", lock, 1);
            call!("ExReleasePushLockSharedEx", lock, 1);
            1
        };
        call!("ExAcquirePushLockSharedEx", lock, 1);
        assert_eq!(elsewhere(read), 1);
        call!("ExReleasePushLockEx", lock, 1);
        hammer(move |count| {
            read();
            call!("ExAcquirePushLockExclusiveEx", lock, 1);
            count();
            call!("ExReleasePushLockExclusiveEx", lock, 1);
        });
    });
}

#[test]
fn push_lock_taken_twice_to_write_ends_the_run() {
    if is_child() {
        return in_the_kernel(|| {
            let lock = new_word();
            call!("ExAcquirePushLockExclusiveEx", lock, 1);
            call!("ExAcquirePushLockExclusiveEx", lock, 1);
        });
    }
    common::expect_bugcheck("push_lock_taken_twice_to_write_ends_the_run", BugCheck::DRYDOCK_DEADLOCK);
}

#[proves("K-142")]
#[test]
fn run_down_protection_refuses_once_its_owner_waits_and_lets_it_go_when_all_are_back() {
    in_the_kernel(|| {
        let reference = new_word();
        call!("ExInitializeRundownProtection", reference);
        let acquire = move || call!("ExAcquireRundownProtection", reference) as u8;
        assert_eq!([acquire(), acquire()], [1, 1]);
        let gone = new_event();
        let (owner, waited) = begin_elsewhere(move || {
            call!("ExWaitForRundownProtectionRelease", reference);
            call!("KeSetEvent", gone, 0, 0)
        });
        while acquire() == 1 {
            call!("ExReleaseRundownProtection", reference);
        }
        call!("ExReleaseRundownProtection", reference);
        assert_eq!(wait_for(gone, Some(0)), NtStatus::TIMEOUT);
        call!("ExReleaseRundownProtection", reference);
        finish(owner, waited);
        assert_eq!(wait_for(gone, Some(0)), NtStatus::SUCCESS);
        call!("ExRundownCompleted", reference);
        assert_eq!(acquire(), 0);
        call!("ExReInitializeRundownProtection", reference);
        assert_eq!(acquire(), 1);
    });
}

#[proves("K-150")]
#[test]
fn event_that_is_initialised_while_a_thread_waits_is_a_finding() {
    if is_child() {
        return in_the_kernel(|| {
            let event = new_event();
            let _waits_for_ever = begin_elsewhere(move || wait_for(event, None).0.into());
            while !wait::has_waiters(event, 1) {
                std::thread::yield_now();
            }
            call!("KeInitializeEvent", event, 0, 0);
        });
    }
    let name = "event_that_is_initialised_while_a_thread_waits_is_a_finding";
    assert_eq!(common::findings(name), ["K-150"]);
}
