//! Events by handle, threads and work items, called as drivers call them.

mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{Memory, in_the_kernel, is_child, wait_for};
use nt_abi::dispatcher::WorkQueueItem;
use nt_abi::exception::BugCheck;
use nt_abi::object::attributes;
use nt_abi::{Handle, Irql, KernelEvent, NtStatus, ObjectAttributes, UnicodeString};
use nt_dispatcher::thread::THREAD;
use nt_dispatcher::work;
use proves::proves;

/// Object attributes with a name, as InitializeObjectAttributes makes them.
fn named(name: &str, flags: u32) -> u64 {
    let attributes = Memory::<ObjectAttributes>::new().address() as *mut ObjectAttributes;
    // SAFETY: new memory.
    unsafe {
        (*attributes).length = 0x30;
        (*attributes).object_name = string(name) as *mut UnicodeString;
        (*attributes).attributes = flags;
    }
    attributes as u64
}

fn string(text: &str) -> u64 {
    let units: &'static mut [u16] = Box::leak(text.encode_utf16().collect::<Vec<_>>().into_boxed_slice());
    let string = Memory::<UnicodeString>::new().address() as *mut UnicodeString;
    // SAFETY: new memory.
    unsafe {
        (*string).length = (units.len() * 2) as u16;
        (*string).maximum_length = (units.len() * 2) as u16;
        (*string).buffer = units.as_mut_ptr();
    }
    string as u64
}

/// The host's processors that the calling thread may use.
fn host_processors() -> Vec<usize> {
    // SAFETY: zeros are an empty set, which the call fills.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set), 0);
        (0..libc::CPU_SETSIZE as usize).filter(|&number| libc::CPU_ISSET(number, &set)).collect()
    }
}

#[proves("K-007")]
#[test]
fn thread_that_is_bound_to_a_processor_runs_on_that_of_the_host_and_new_threads_run_anywhere() {
    fn note(to: u64) {
        // SAFETY: the test's list, which outlives this thread.
        unsafe { *(to as *mut Vec<usize>) = host_processors() };
    }
    in_the_kernel(|| {
        let all = host_processors();
        for &number in all.iter().filter(|&&number| number < 64) {
            call!("KeSetSystemAffinityThread", 1u64 << number);
            assert_eq!(host_processors(), [number]);
            let mut of_new_thread = Vec::<usize>::new();
            common::join(common::start(note, &raw mut of_new_thread as u64));
            assert_eq!(of_new_thread, all);
        }
        // Of several that it may use, and of none.
        call!("KeSetSystemAffinityThread", u64::MAX);
        assert_eq!(host_processors(), all);
        if let Some(absent) = (0..64).find(|number| !all.contains(number)) {
            call!("KeSetSystemAffinityThread", 1u64 << all[0]);
            call!("KeSetSystemAffinityThread", 1u64 << absent);
            assert_eq!(host_processors(), all);
        }
        call!("KeSetSystemAffinityThread", 1u64 << all[0]);
        call!("KeRevertToUserAffinityThread");
        assert_eq!(host_processors(), all);
    });
}

/// Calls something that writes a handle first, and gives the status and the handle.
macro_rules! call_for_handle {
    ($name:literal $(, $argument:expr)*) => {{
        let mut handle = 0u64;
        let status = NtStatus(call!($name, &raw mut handle $(, $argument)*) as u32);
        (status, handle)
    }};
}

fn close(handle: u64) {
    nt_object::close(Handle(handle)).expect("an open handle");
}

fn wait_on_handle(handle: u64) -> NtStatus {
    let now = 0i64;
    NtStatus(call!("ZwWaitForSingleObject", handle, 0, &raw const now) as u32)
}

#[proves("K-124")]
#[test]
fn event_by_handle_is_set_reset_and_waited_for() {
    in_the_kernel(|| {
        let (status, event) = call_for_handle!("ZwCreateEvent", 0x1F0003, 0, 1, 0);
        assert_eq!(status, NtStatus::SUCCESS);
        assert_eq!(wait_on_handle(event), NtStatus::TIMEOUT);
        let mut old = 7i32;
        assert_eq!(call!("ZwSetEvent", event, &raw mut old) as u32, 0);
        assert_eq!(old, 0);
        assert_eq!([wait_on_handle(event), wait_on_handle(event)], [NtStatus::SUCCESS, NtStatus::TIMEOUT]);
        call!("ZwSetEvent", event, 0);
        call!("ZwResetEvent", event, &raw mut old);
        assert_eq!((old, wait_on_handle(event)), (1, NtStatus::TIMEOUT));
        close(event);
        assert_eq!(wait_on_handle(event), NtStatus::INVALID_HANDLE);
    });
}

#[test]
fn named_event_is_shared_until_its_last_handle_goes() {
    in_the_kernel(|| {
        let name = r"\BaseNamedObjects\Shared";
        let (status, first) = call_for_handle!("ZwCreateEvent", 0, named(name, 0), 0, 0);
        assert_eq!(status, NtStatus::SUCCESS);
        let (status, _) = call_for_handle!("ZwCreateEvent", 0, named(name, 0), 0, 0);
        assert_eq!(status, NtStatus::OBJECT_NAME_COLLISION);
        let (status, second) = call_for_handle!("ZwCreateEvent", 0, named(name, attributes::OPENIF), 0, 0);
        assert_eq!(status, NtStatus::OBJECT_NAME_EXISTS);
        let (status, third) = call_for_handle!("ZwOpenEvent", 0, named(name, 0));
        assert_eq!(status, NtStatus::SUCCESS);
        call!("ZwSetEvent", first, 0);
        assert_eq!([wait_on_handle(second), wait_on_handle(third)], [NtStatus::SUCCESS; 2]);
        [first, second, third].into_iter().for_each(close);
        let (status, _) = call_for_handle!("ZwOpenEvent", 0, named(name, 0));
        assert_eq!(status, NtStatus::OBJECT_NAME_NOT_FOUND);
    });
}

#[test]
fn name_of_something_else_is_no_event() {
    in_the_kernel(|| {
        let (status, _) = call_for_handle!("ZwOpenEvent", 0, named(r"\Device", 0));
        assert_eq!(status, NtStatus::OBJECT_TYPE_MISMATCH);
        let (status, _) = call_for_handle!("ZwCreateEvent", 0, named(r"\Nowhere\Event", 0), 0, 0);
        assert_eq!(status, NtStatus::OBJECT_PATH_NOT_FOUND);
        let (status, _) = call_for_handle!("ZwCreateEvent", 0, 0, 2, 0);
        assert_eq!(status, NtStatus::INVALID_PARAMETER);
    });
}

#[proves("K-159")]
#[test]
fn kernel_handles_have_their_high_bits_set() {
    in_the_kernel(|| {
        let (_, plain) = call_for_handle!("ZwCreateEvent", 0, 0, 0, 0);
        let flags = named(r"\BaseNamedObjects\Kernel", attributes::KERNEL_HANDLE);
        let (_, kernel) = call_for_handle!("ZwCreateEvent", 0, flags, 0, 0);
        assert!(plain < 0x8000_0000 && kernel >= 0xFFFF_FFFF_8000_0000);
        close(plain);
        close(kernel);
    });
}

#[test]
fn event_that_the_io_manager_makes_begins_signalled_and_is_shared_by_name() {
    in_the_kernel(|| {
        let (mut handle, mut again) = (0u64, 0u64);
        let name = string(r"\BaseNamedObjects\Notify");
        let event = call!("IoCreateNotificationEvent", name, &raw mut handle);
        assert_eq!(wait_for(event, Some(0)), NtStatus::SUCCESS);
        call!("KeClearEvent", event);
        assert_eq!(call!("IoCreateNotificationEvent", name, &raw mut again), event);
        assert_eq!(wait_on_handle(again), NtStatus::TIMEOUT);
        close(handle);
        close(again);
        assert!(!nt_object::is_live(event));
    });
}

#[proves("K-155")]
#[test]
fn handle_of_another_type_is_told() {
    extern "win64" fn nothing(_context: u64) {}
    in_the_kernel(|| {
        let routine = nothing as *const () as u64;
        let (status, thread) = call_for_handle!("PsCreateSystemThread", 0, 0, 0, 0, routine, 0);
        assert_eq!(status, NtStatus::SUCCESS);
        assert_eq!(call!("ZwSetEvent", thread, 0) as u32, NtStatus::OBJECT_TYPE_MISMATCH.0);
        assert_eq!(call!("ZwSetEvent", 0x7FFF_FFF0u64, 0) as u32, NtStatus::INVALID_HANDLE.0);
        assert_eq!(call!("ZwWaitForSingleObject", thread, 0, 0) as u32, 0, "a thread can be waited for");
        close(thread);
    });
}

#[proves("K-126")]
#[test]
fn wait_for_handles_tells_which_was_signalled() {
    in_the_kernel(|| {
        let events = [0, 1, 2].map(|_| call_for_handle!("ZwCreateEvent", 0, 0, 0, 0).1);
        call!("ZwSetEvent", events[2], 0);
        let now = 0i64;
        let wait = |kind: u64| call!("ZwWaitForMultipleObjects", 3, events.as_ptr(), kind, 0, &raw const now) as u32;
        assert_eq!((wait(1), wait(0)), (2, NtStatus::TIMEOUT.0));
        events.into_iter().for_each(close);
        assert_eq!(wait(1), NtStatus::INVALID_HANDLE.0);
    });
}

#[proves("K-157")]
#[test]
fn type_exports_are_pointers_to_the_types() {
    in_the_kernel(|| {
        for (name, block) in [
            ("ExEventObjectType", nt_dispatcher::event_object::EVENT.block()),
            ("PsThreadType", THREAD.block()),
            ("PsProcessType", nt_dispatcher::process::PROCESS.block()),
        ] {
            // SAFETY: the export is a pointer variable.
            assert_eq!(unsafe { *(common::export(name) as *const u64) }, block, "{name}");
        }
    });
}

#[proves("K-100")]
#[test]
fn threads_have_ids_and_belong_to_the_system_process() {
    in_the_kernel(|| {
        let (id, me) = (call!("PsGetCurrentThreadId"), call!("KeGetCurrentThread"));
        assert_eq!((id % 4, call!("PsGetThreadId", me)), (0, id));
        let mut found = 0u64;
        assert_eq!(call!("PsLookupThreadByThreadId", id, &raw mut found) as u32, 0);
        assert_eq!(found, me);
        nt_object::dereference(found);
        assert_eq!(call!("PsLookupThreadByThreadId", 3, &raw mut found) as u32, NtStatus::INVALID_PARAMETER.0);
        let process = call!("IoGetCurrentProcess");
        assert_eq!((call!("PsGetCurrentProcessId"), call!("PsGetProcessId", process)), (4, 4));
        // SAFETY: the export is a pointer variable.
        assert_eq!(unsafe { *(common::export("PsInitialSystemProcess") as *const u64) }, process);
        let client_id = [4u64, id];
        let (status, handle) = call_for_handle!("ZwOpenThread", 0, 0, client_id.as_ptr());
        assert_eq!(status, NtStatus::SUCCESS);
        close(handle);
        let (status, _) = call_for_handle!("ZwOpenThread", 0, 0, [4u64, 2].as_ptr());
        assert_eq!(status, NtStatus::INVALID_CID);
    });
}

#[test]
fn priorities_are_kept() {
    in_the_kernel(|| {
        let me = call!("KeGetCurrentThread");
        assert_eq!(call!("KeSetPriorityThread", me, 16) as i32, 8);
        assert_eq!(call!("KeQueryPriorityThread", me) as i32, 16);
        let priority = 12i32;
        let current = -2i64;
        assert_eq!(call!("ZwSetInformationThread", current, 2, &raw const priority, 4) as u32, 0);
        assert_eq!(call!("KeSetPriorityThread", me, 8) as i32, 12);
        let status = |class: u64, length: u64| {
            NtStatus(call!("ZwSetInformationThread", current, class, &raw const priority, length) as u32)
        };
        assert_eq!([status(2, 8), status(99, 4)], [NtStatus::INFO_LENGTH_MISMATCH, NtStatus::INVALID_INFO_CLASS]);
    });
}

#[test]
fn stack_limits_enclose_the_stack() {
    in_the_kernel(|| {
        let (mut low, mut high) = (0u64, 0u64);
        call!("IoGetStackLimits", &raw mut low, &raw mut high);
        let here = &raw const low as u64;
        assert!((low..high).contains(&here));
        assert!(call!("IoGetRemainingStackSize") < here - low);
    });
}

#[proves("K-134")]
#[test]
fn thread_of_the_system_cannot_be_terminated_by_a_driver() {
    if is_child() {
        return in_the_kernel(|| {
            assert_eq!(call!("PsTerminateSystemThread", 0) as u32, NtStatus::INVALID_PARAMETER.0);
        });
    }
    assert_eq!(common::findings("thread_of_the_system_cannot_be_terminated_by_a_driver"), ["K-134"]);
}

#[proves("K-134")]
#[test]
fn worker_that_a_driver_tries_to_end_goes_on() {
    if is_child() {
        return in_the_kernel(|| {
            work::queue(Box::new(|| {
                assert_eq!(call!("PsTerminateSystemThread", 0) as u32, NtStatus::INVALID_PARAMETER.0);
            }));
            work::drain();
        });
    }
    assert_eq!(common::findings("worker_that_a_driver_tries_to_end_goes_on"), ["K-134"]);
}

/// What work item routines saw: the item's `flink` and the level.
static SEEN: Mutex<Vec<(u64, Irql)>> = Mutex::new(Vec::new());

fn new_item(routine: extern "win64" fn(u64), parameter: u64) -> u64 {
    let item = Memory::<WorkQueueItem>::new().address();
    // SAFETY: new memory, filled as ExInitializeWorkItem does inline.
    unsafe {
        (*(item as *mut WorkQueueItem)).worker_routine = routine as *const () as u64;
        (*(item as *mut WorkQueueItem)).parameter = parameter;
    }
    item
}

#[proves("K-136")]
#[test]
fn work_item_is_off_the_queue_when_its_routine_runs_and_may_be_queued_again_there() {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    extern "win64" fn routine(item: u64) {
        // SAFETY: the item of this test.
        let flink = unsafe { (*(item as *const WorkQueueItem)).list.flink } as u64;
        SEEN.lock().expect("no panic").push((flink, gate::irql()));
        if RUNS.fetch_add(1, Ordering::SeqCst) < 2 {
            call!("ExQueueWorkItem", item, 1);
        }
    }
    in_the_kernel(|| {
        let item = new_item(routine, 0);
        // SAFETY: not queued yet.
        unsafe { (*(item as *mut WorkQueueItem)).parameter = item };
        call!("ExQueueWorkItem", item, 1);
        work::drain();
        assert_eq!(*SEEN.lock().expect("no panic"), [(0, Irql::PASSIVE); 3]);
        work::for_each_item(|item, _| panic!("{item:#x} is queued"));
    });
}

#[proves("K-136")]
#[test]
fn work_items_may_wait_for_later_ones() {
    static EVENTS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
    extern "win64" fn wait_then_set(index: u64) {
        wait_for(EVENTS[0].load(Ordering::SeqCst), None);
        if index == 0 {
            call!("KeSetEvent", EVENTS[1].load(Ordering::SeqCst), 0, 0);
        }
    }
    extern "win64" fn set(_parameter: u64) {
        call!("KeSetEvent", EVENTS[0].load(Ordering::SeqCst), 0, 0);
    }
    in_the_kernel(|| {
        for event in &EVENTS {
            let memory = Memory::<KernelEvent>::new().address();
            call!("KeInitializeEvent", memory, 0, 0);
            event.store(memory, Ordering::SeqCst);
        }
        for index in 0..8 {
            call!("ExQueueWorkItem", new_item(wait_then_set, index), 0);
        }
        call!("ExQueueWorkItem", new_item(set, 0), 0);
        assert_eq!(wait_for(EVENTS[1].load(Ordering::SeqCst), None), NtStatus::SUCCESS);
    });
}

#[proves("K-137")]
#[test]
fn work_item_queued_twice_ends_the_run() {
    extern "win64" fn wait_for_ever(event: u64) {
        wait_for(event, None);
    }
    if is_child() {
        return in_the_kernel(|| {
            let event = Memory::<KernelEvent>::new().address();
            call!("KeInitializeEvent", event, 0, 0);
            // All workers are busy, so that the next item stays queued.
            for _ in 0..16 {
                call!("ExQueueWorkItem", new_item(wait_for_ever, event), 0);
            }
            let item = new_item(wait_for_ever, event);
            call!("ExQueueWorkItem", item, 0);
            call!("ExQueueWorkItem", item, 0);
        });
    }
    common::expect_bugcheck("work_item_queued_twice_ends_the_run", BugCheck::WORKER_INVALID);
}

#[proves("K-152")]
#[test]
fn work_item_that_returns_at_a_raised_level_ends_the_run() {
    extern "win64" fn raise(_parameter: u64) {
        call!("KeRaiseIrqlToDpcLevel");
    }
    if is_child() {
        return in_the_kernel(|| {
            call!("ExQueueWorkItem", new_item(raise, 0), 0);
            work::drain();
        });
    }
    let name = "work_item_that_returns_at_a_raised_level_ends_the_run";
    common::expect_bugcheck(name, BugCheck::WORKER_THREAD_RETURNED_AT_BAD_IRQL);
}

#[proves("K-152")]
#[test]
fn work_item_whose_memory_is_reused_while_it_is_queued_ends_the_run() {
    extern "win64" fn wait_for_ever(event: u64) {
        wait_for(event, None);
    }
    extern "win64" fn wait_once(event: u64) {
        wait_for(event, None);
    }
    if is_child() {
        return in_the_kernel(|| {
            let [never, once] = [0, 1].map(|_| {
                let event = Memory::<KernelEvent>::new().address();
                call!("KeInitializeEvent", event, 0, 0);
                event
            });
            for _ in 0..15 {
                call!("ExQueueWorkItem", new_item(wait_for_ever, never), 0);
            }
            call!("ExQueueWorkItem", new_item(wait_once, once), 0);
            let item = new_item(wait_once, once);
            call!("ExQueueWorkItem", item, 0);
            // SAFETY: the item of this test.
            unsafe { (item as *mut WorkQueueItem).cast::<u8>().write_bytes(0, size_of::<WorkQueueItem>()) };
            call!("KeSetEvent", once, 0, 0);
            wait_for(never, None);
        });
    }
    let name = "work_item_whose_memory_is_reused_while_it_is_queued_ends_the_run";
    common::expect_bugcheck(name, BugCheck::WORKER_INVALID);
}

/// Starts a driver's thread and gives its object, referenced.
fn driver_thread(routine: extern "win64" fn(u64), context: u64) -> u64 {
    let routine = nt_dispatcher::thread::Start::Driver(routine as *const () as u64);
    nt_dispatcher::thread::create(routine, context, 0).expect("a thread")
}

#[proves("K-125")]
#[test]
fn alert_ends_alertable_waits_only() {
    static STATUS: AtomicU64 = AtomicU64::new(0);
    extern "win64" fn wait_alertably(event: u64) {
        let status = call!("KeWaitForSingleObject", event, 0, 0, 1, 0) as u32;
        STATUS.store(status.into(), Ordering::SeqCst);
    }
    in_the_kernel(|| {
        let event = Memory::<KernelEvent>::new().address();
        call!("KeInitializeEvent", event, 0, 0);
        let thread = driver_thread(wait_alertably, event);
        while !nt_dispatcher::wait::has_waiters(event, 1) {
            std::thread::yield_now();
        }
        assert_eq!(call!("KeAlertThread", thread, 0) as u8, 0);
        common::join(thread);
        assert_eq!(STATUS.load(Ordering::SeqCst), u64::from(NtStatus::ALERTED.0));
        // An alert that comes before is kept for the next alertable wait.
        let me = call!("KeGetCurrentThread");
        call!("KeAlertThread", me, 0);
        assert_eq!(call!("KeAlertThread", me, 0) as u8, 1);
        let short = -10_000i64;
        let wait =
            |alertable: u64| NtStatus(call!("KeWaitForSingleObject", event, 0, 0, alertable, &raw const short) as u32);
        assert_eq!([wait(0), wait(1), wait(1)], [NtStatus::TIMEOUT, NtStatus::ALERTED, NtStatus::TIMEOUT]);
        call!("KeAlertThread", me, 0);
        let hour = -36_000_000_000i64;
        assert_eq!(call!("KeDelayExecutionThread", 0, 1, &raw const hour) as u32, NtStatus::ALERTED.0);
        call!("KeAlertThread", me, 0);
        assert_eq!([call!("KeTestAlertThread", 0) as u8, call!("KeTestAlertThread", 0) as u8], [1, 0]);
    });
}

#[test]
fn thread_that_ends_with_a_mutex_ends_the_run() {
    extern "win64" fn take_and_end(mutex: u64) {
        call!("KeWaitForSingleObject", mutex, 0, 0, 0, 0);
    }
    if is_child() {
        return in_the_kernel(|| {
            let mutex = Memory::<nt_abi::dispatcher::Mutant>::new().address();
            call!("KeInitializeMutex", mutex, 0);
            common::join(driver_thread(take_and_end, mutex));
        });
    }
    common::expect_bugcheck("thread_that_ends_with_a_mutex_ends_the_run", BugCheck::THREAD_TERMINATE_HELD_MUTEX);
}

#[proves("K-123", "K-151")]
#[test]
fn wait_that_would_block_at_dispatch_level_ends_the_run() {
    if is_child() {
        return in_the_kernel(|| {
            let event = Memory::<KernelEvent>::new().address();
            call!("KeInitializeEvent", event, 0, 0);
            call!("KeRaiseIrqlToDpcLevel");
            let now = 0i64;
            assert_eq!(call!("KeWaitForSingleObject", event, 0, 0, 0, &raw const now) as u32, NtStatus::TIMEOUT.0);
            call!("KeWaitForSingleObject", event, 0, 0, 0, 0);
        });
    }
    let name = "wait_that_would_block_at_dispatch_level_ends_the_run";
    common::expect_bugcheck(name, BugCheck::ATTEMPTED_SWITCH_FROM_DPC);
}

#[proves("K-148")]
#[test]
fn memory_is_used_for_one_kind_of_object_after_another() {
    in_the_kernel(|| {
        let memory = Memory::<[u64; 16]>::new().address();
        let soon = -10_000i64;
        for _ in 0..3 {
            call!("KeInitializeEvent", memory, 1, 1);
            assert_eq!([wait_for(memory, Some(0)), wait_for(memory, Some(0))], [NtStatus::SUCCESS, NtStatus::TIMEOUT]);
            call!("KeInitializeTimer", memory);
            call!("KeSetTimer", memory, soon, 0);
            assert_eq!(wait_for(memory, None), NtStatus::SUCCESS);
            call!("KeInitializeSemaphore", memory, 2, 2);
            assert_eq!(
                [0; 3].map(|_| wait_for(memory, Some(0))),
                [NtStatus::SUCCESS, NtStatus::SUCCESS, NtStatus::TIMEOUT]
            );
            call!("KeInitializeMutex", memory, 0);
            assert_eq!(wait_for(memory, Some(0)), NtStatus::SUCCESS);
            call!("KeReleaseMutex", memory, 0);
            call!("ExInitializeRundownProtection", memory);
            assert_eq!(call!("ExAcquireRundownProtection", memory) as u8, 1);
        }
    });
}

#[proves("K-149")]
#[test]
fn event_on_the_stack_of_its_waiter_may_vanish_as_soon_as_it_wakes() {
    static EVENT: AtomicU64 = AtomicU64::new(0);
    extern "win64" fn set_each(rounds: u64) {
        for _ in 0..rounds {
            let mut event = EVENT.swap(0, Ordering::SeqCst);
            while event == 0 {
                std::thread::yield_now();
                event = EVENT.swap(0, Ordering::SeqCst);
            }
            call!("KeSetEvent", event, 0, 0);
        }
    }
    in_the_kernel(|| {
        const ROUNDS: u64 = 3_000;
        let thread = driver_thread(set_each, ROUNDS);
        let mut region = Vec::new();
        for round in 0..ROUNDS {
            // Memory of its own each time, which no longer is the event's as soon as the wait is over.
            let mut event: Box<KernelEvent> = Box::new(Memory::<KernelEvent>::new().get());
            call!("KeInitializeEvent", &raw mut *event, round % 2, 0);
            EVENT.store(&raw const *event as u64, Ordering::SeqCst);
            assert_eq!(wait_for(&raw const *event as u64, None), NtStatus::SUCCESS);
            // SAFETY: the test's own event, which nobody else may touch any more.
            unsafe { (&raw mut *event).cast::<u8>().write_bytes(0xEE, size_of::<KernelEvent>()) };
            region.push(event);
        }
        common::join(thread);
        for event in region {
            // SAFETY: 24 bytes of the test's own.
            let bytes = unsafe { std::slice::from_raw_parts((&raw const *event).cast::<u8>(), 24) };
            assert!(bytes.iter().all(|&byte| byte == 0xEE), "touched after its waiter was released");
        }
    });
}

#[test]
fn observer_is_told_of_drivers_threads_only() {
    static TOLD: Mutex<Vec<(u64, nt_dispatcher::thread::Change)>> = Mutex::new(Vec::new());
    extern "win64" fn nothing(_context: u64) {}
    if is_child() {
        return in_the_kernel(|| {
            use nt_dispatcher::thread::Change;
            nt_dispatcher::thread::set_observer(|thread, change| TOLD.lock().expect("no panic").push((thread, change)));
            common::join(common::start(|_| {}, 0));
            let thread = driver_thread(nothing, 0);
            common::join(thread);
            assert_eq!(*TOLD.lock().expect("no panic"), [(thread, Change::Created), (thread, Change::Ended)]);
        });
    }
    let output = common::again("observer_is_told_of_drivers_threads_only", &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Waits for any of `count` events, the last of which is signalled, with an array of wait blocks or without.
fn wait_for_last_of(count: usize, blocks: u64) -> NtStatus {
    let objects: Vec<u64> = (0..count)
        .map(|index| {
            let event = Memory::<KernelEvent>::new().address();
            call!("KeInitializeEvent", event, 0, index == count - 1);
            event
        })
        .collect();
    const ANY: u64 = 1;
    NtStatus(call!("KeWaitForMultipleObjects", count, objects.as_ptr(), ANY, 0, 0, 0, 0, blocks) as u32)
}

#[proves("K-126")]
#[test]
fn three_objects_are_waited_for_without_wait_blocks_and_64_with_them() {
    in_the_kernel(|| {
        let blocks = Memory::<[u64; 6 * 64]>::new().address();
        assert_eq!(wait_for_last_of(3, 0), NtStatus(2));
        assert_eq!(wait_for_last_of(64, blocks), NtStatus(63));
    });
}

#[test]
fn wait_for_more_objects_than_there_are_wait_blocks_for_ends_the_run() {
    if !common::is_child() {
        for blocks in ["0", "1"] {
            let output = common::again(
                "wait_for_more_objects_than_there_are_wait_blocks_for_ends_the_run",
                &[("WAIT_BLOCKS", blocks)],
            );
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(gate::bugcheck::BUGCHECK_EXIT), "{said}");
            assert!(said.contains(&format!("bugcheck {:?} ", BugCheck::MAXIMUM_WAIT_OBJECTS_EXCEEDED)), "{said}");
        }
        return;
    }
    in_the_kernel(|| {
        let with_blocks = std::env::var_os("WAIT_BLOCKS").is_some_and(|value| value == "1");
        let blocks = Memory::<[u64; 6 * 65]>::new().address();
        if with_blocks {
            wait_for_last_of(65, blocks)
        } else {
            wait_for_last_of(4, 0)
        };
    });
}
