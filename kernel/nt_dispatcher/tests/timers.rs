//! Timers and deferred procedure calls, called as drivers call them.

mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{Memory, in_the_kernel, join, start, wait_for};
use nt_abi::dispatcher::{Dpc, Timer};
use nt_abi::exception::BugCheck;
use nt_abi::{Irql, KernelEvent, NtStatus};
use nt_dispatcher::{clock, irql, timer};
use proves::proves;

const MILLISECOND: i64 = -10_000;
/// Far enough for never.
const HOUR: i64 = MILLISECOND * 3_600_000;

/// What a DPC was called with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Call {
    dpc: u64,
    context: u64,
    arguments: [u64; 2],
    irql: Irql,
}

/// A log that a DPC routine writes its calls to; the DPC's context is its address.
#[derive(Default)]
struct Log(Mutex<Vec<Call>>);

impl Log {
    fn new() -> &'static Self {
        Box::leak(Box::default())
    }

    fn calls(&self) -> Vec<Call> {
        self.0.lock().expect("no panic").clone()
    }
}

extern "win64" fn log_call(dpc: u64, context: u64, argument1: u64, argument2: u64) {
    // SAFETY: DPCs of these tests have the address of a log as context.
    let log = unsafe { &*(context as *const Log) };
    let call = Call { dpc, context, arguments: [argument1, argument2], irql: gate::irql() };
    log.0.lock().expect("no panic").push(call);
}

extern "win64" fn count_call(_: u64, context: u64, _: u64, _: u64) {
    // SAFETY: DPCs with this routine have the address of a counter as context.
    unsafe { &*(context as *const AtomicU64) }.fetch_add(1, Ordering::SeqCst);
}

fn new_dpc(routine: extern "win64" fn(u64, u64, u64, u64), context: u64) -> u64 {
    let dpc = Memory::<Dpc>::new().address();
    call!("KeInitializeDpc", dpc, routine as usize, context);
    dpc
}

fn logging_dpc() -> (u64, &'static Log) {
    let log = Log::new();
    (new_dpc(log_call, std::ptr::from_ref(log) as u64), log)
}

fn new_timer(kind: u32) -> u64 {
    let timer = Memory::<Timer>::new().address();
    call!("KeInitializeTimerEx", timer, kind);
    timer
}

fn new_event() -> u64 {
    let event = Memory::<KernelEvent>::new().address();
    call!("KeInitializeEvent", event, 0, 0);
    event
}

#[proves("K-133", "K-131")]
#[test]
fn dpc_queued_at_passive_level_runs_at_dispatch_level_before_the_call_returns() {
    in_the_kernel(|| {
        let (dpc, log) = logging_dpc();
        assert_eq!(call!("KeInsertQueueDpc", dpc, 7, 8) as u8, 1);
        let context = std::ptr::from_ref(log) as u64;
        assert_eq!(log.calls(), [Call { dpc, context, arguments: [7, 8], irql: Irql::DISPATCH }]);
        assert_eq!(gate::irql(), Irql::PASSIVE);
    });
}

#[proves("K-131")]
#[test]
fn dpc_queued_at_dispatch_level_keeps_its_first_arguments_and_runs_when_the_level_drops() {
    in_the_kernel(|| {
        let (dpc, log) = logging_dpc();
        let lock = Memory::<u64>::new().address();
        let old = call!("KeAcquireSpinLockRaiseToDpc", lock);
        assert_eq!(call!("KeInsertQueueDpc", dpc, 1, 2) as u8, 1);
        assert_eq!(call!("KeInsertQueueDpc", dpc, 3, 4) as u8, 0);
        assert_eq!(log.calls(), []);
        call!("KeReleaseSpinLock", lock, old);
        assert_eq!(log.calls().len(), 1);
        assert_eq!(log.calls()[0].arguments, [1, 2]);
    });
}

#[proves("K-131")]
#[test]
fn dpc_runs_where_its_thread_lowers_its_level_without_a_call() {
    in_the_kernel(|| {
        let (dpc, log) = logging_dpc();
        gate::set_irql(Irql::DISPATCH);
        call!("KeInsertQueueDpc", dpc, 0, 0);
        // The clock's thread looks in vain meanwhile.
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert_eq!(log.calls(), []);
        gate::set_irql(Irql::PASSIVE);
        // SAFETY: what the loader puts behind a write to CR8; it keeps all registers.
        unsafe { gate::lowering::lowered() };
        // Whether the clock's thread was quicker does not matter, but one of them has taken it off the queue.
        assert_eq!(call!("KeRemoveQueueDpc", dpc) as u8, 0);
        call!("KeFlushQueuedDpcs");
        assert_eq!(log.calls().len(), 1);
    });
}

#[proves("K-131")]
#[test]
fn dpc_runs_where_host_code_lowers_the_level_it_raised() {
    in_the_kernel(|| {
        let (dpc, log) = logging_dpc();
        let raised = irql::Raised::to(Irql::DISPATCH);
        call!("KeInsertQueueDpc", dpc, 0, 0);
        drop(raised);
        assert_eq!(log.calls().len(), 1);
    });
}

#[proves("K-132")]
#[test]
fn removed_dpc_does_not_run() {
    in_the_kernel(|| {
        let (dpc, log) = logging_dpc();
        let lock = Memory::<u64>::new().address();
        let old = call!("KeAcquireSpinLockRaiseToDpc", lock);
        call!("KeInsertQueueDpc", dpc, 0, 0);
        assert_eq!(call!("KeRemoveQueueDpc", dpc) as u8, 1);
        assert_eq!(call!("KeRemoveQueueDpc", dpc) as u8, 0);
        call!("KeReleaseSpinLock", lock, old);
        assert_eq!(log.calls(), []);
    });
}

#[test]
fn dpc_that_queues_itself_runs_again_after_it_returned() {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    extern "win64" fn again(dpc: u64, _context: u64, argument1: u64, _argument2: u64) {
        assert_eq!(RUNS.fetch_add(1, Ordering::SeqCst), argument1, "not inside its own call");
        if argument1 < 3 {
            assert_eq!(call!("KeInsertQueueDpc", dpc, argument1 + 1, 0) as u8, 1);
            assert_eq!(RUNS.load(Ordering::SeqCst), argument1 + 1);
        }
    }
    in_the_kernel(|| {
        let dpc = new_dpc(again, 0);
        call!("KeInsertQueueDpc", dpc, 0, 0);
        assert_eq!(RUNS.load(Ordering::SeqCst), 4);
    });
}

#[test]
fn important_dpc_runs_before_those_queued_earlier() {
    in_the_kernel(|| {
        let log = Log::new();
        let context = std::ptr::from_ref(log) as u64;
        let dpcs: Vec<u64> = (0..3).map(|_| new_dpc(log_call, context)).collect();
        call!("KeSetImportanceDpc", dpcs[2], 2);
        let lock = Memory::<u64>::new().address();
        let old = call!("KeAcquireSpinLockRaiseToDpc", lock);
        for &dpc in &dpcs {
            call!("KeInsertQueueDpc", dpc, 0, 0);
        }
        call!("KeReleaseSpinLock", lock, old);
        let order: Vec<u64> = log.calls().iter().map(|call| call.dpc).collect();
        assert_eq!(order, [dpcs[2], dpcs[0], dpcs[1]]);
    });
}

#[proves("K-128")]
#[test]
fn timer_wakes_its_waiter_when_due_and_queues_its_dpc() {
    in_the_kernel(|| {
        let (timer, (dpc, log)) = (new_timer(0), logging_dpc());
        let before = clock::now_100ns();
        assert_eq!(call!("KeSetTimer", timer, 2 * MILLISECOND, dpc) as u8, 0);
        assert_eq!(call!("KeReadStateTimer", timer) as u8, 0);
        assert_eq!(wait_for(timer, None), NtStatus::SUCCESS);
        assert!(clock::now_100ns() >= before + 20_000);
        // The DPC is queued right after the waiters are released; a later one shows that it has run.
        while log.calls().is_empty() {
            std::thread::yield_now();
        }
        assert_eq!((log.calls()[0].dpc, log.calls()[0].irql), (dpc, Irql::DISPATCH));
        assert_eq!(call!("KeReadStateTimer", timer) as u8, 1, "a notification timer stays signalled");
        assert_eq!(call!("KeCancelTimer", timer) as u8, 0, "it is no longer queued");
    });
}

#[proves("K-128")]
#[test]
fn timer_set_again_is_not_signalled_and_tells_that_it_was_set() {
    in_the_kernel(|| {
        let timer = new_timer(0);
        assert_eq!(call!("KeSetTimer", timer, 0, 0) as u8, 0);
        assert_eq!(call!("KeReadStateTimer", timer) as u8, 1, "due at once");
        assert_eq!(call!("KeSetTimer", timer, HOUR, 0) as u8, 0);
        assert_eq!(call!("KeReadStateTimer", timer) as u8, 0);
        assert_eq!(call!("KeSetTimer", timer, MILLISECOND, 0) as u8, 1);
        assert_eq!(wait_for(timer, None), NtStatus::SUCCESS, "the hour was replaced");
    });
}

#[proves("K-129")]
#[test]
fn cancelled_timer_neither_signals_nor_queues() {
    in_the_kernel(|| {
        let (timer, (dpc, log)) = (new_timer(0), logging_dpc());
        call!("KeSetTimer", timer, 20 * MILLISECOND, dpc);
        assert_eq!(call!("KeCancelTimer", timer) as u8, 1);
        assert_eq!(call!("KeCancelTimer", timer) as u8, 0);
        // Longer than the timer would have taken: another one that was set later.
        let later = new_timer(0);
        call!("KeSetTimer", later, 30 * MILLISECOND, 0);
        wait_for(later, None);
        assert_eq!((call!("KeReadStateTimer", timer) as u8, log.calls()), (0, vec![]));
    });
}

#[proves("K-129")]
#[test]
fn dpc_that_is_queued_already_runs_though_its_timer_is_cancelled() {
    in_the_kernel(|| {
        let (timer, (dpc, log)) = (new_timer(0), logging_dpc());
        let lock = Memory::<u64>::new().address();
        let old = call!("KeAcquireSpinLockRaiseToDpc", lock);
        // Due at once: it expires in this call, and its DPC waits for the level.
        call!("KeSetTimer", timer, 0, dpc);
        assert_eq!(call!("KeCancelTimer", timer) as u8, 0);
        call!("KeReleaseSpinLock", lock, old);
        assert_eq!(log.calls().len(), 1);
    });
}

#[proves("K-130")]
#[test]
fn periodic_timer_fires_until_it_is_cancelled() {
    in_the_kernel(|| {
        let (timer, (dpc, log)) = (new_timer(1), logging_dpc());
        call!("KeSetTimerEx", timer, MILLISECOND, 1, dpc);
        for _ in 0..5 {
            assert_eq!(wait_for(timer, None), NtStatus::SUCCESS, "a synchronization timer releases one wait a time");
        }
        assert_eq!(call!("KeCancelTimer", timer) as u8, 1);
        call!("KeFlushQueuedDpcs");
        assert!(log.calls().len() >= 4);
    });
}

#[proves("K-130")]
#[test]
fn dpc_may_free_a_timer_that_fires_once() {
    extern "win64" fn wipe(_dpc: u64, timer: u64, _argument1: u64, _argument2: u64) {
        // SAFETY: the timer of this test, which nobody else uses any more.
        unsafe { (timer as *mut u8).write_bytes(0xDD, size_of::<Timer>()) };
        WIPED.store(1, Ordering::SeqCst);
    }
    static WIPED: AtomicU64 = AtomicU64::new(0);
    in_the_kernel(|| {
        let timer = new_timer(0);
        call!("KeSetTimer", timer, MILLISECOND, new_dpc(wipe, timer));
        while WIPED.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        assert_eq!(timer::pending_in(timer..timer + 1), None);
    });
}

#[proves("K-128")]
#[test]
fn notification_timer_releases_all_waiters_and_synchronization_timer_one() {
    static TIMER: AtomicU64 = AtomicU64::new(0);
    static RELEASED: AtomicU64 = AtomicU64::new(0);
    fn waiter(event: u64) {
        wait_for(TIMER.load(Ordering::SeqCst), None);
        RELEASED.fetch_add(1, Ordering::SeqCst);
        call!("KeSetEvent", event, 0, 0);
    }
    in_the_kernel(|| {
        for (kind, expected) in [(0, 2), (1, 1)] {
            let timer = new_timer(kind);
            TIMER.store(timer, Ordering::SeqCst);
            RELEASED.store(0, Ordering::SeqCst);
            let event = new_event();
            let threads = [start(waiter, event), start(waiter, event)];
            while !nt_dispatcher::wait::has_waiters(timer, 2) {
                std::thread::yield_now();
            }
            call!("KeSetTimer", timer, MILLISECOND, 0);
            wait_for(event, None);
            if expected == 1 {
                assert!(nt_dispatcher::wait::has_waiters(timer, 1));
                assert_eq!(RELEASED.load(Ordering::SeqCst), 1);
                call!("KeSetTimer", timer, MILLISECOND, 0);
            }
            threads.into_iter().for_each(join);
        }
    });
}

#[proves("K-129")]
#[test]
fn timer_that_could_not_be_cancelled_is_signalled_and_its_dpc_is_done_after_a_flush() {
    in_the_kernel(|| {
        let timer = new_timer(0);
        let runs = Box::leak(Box::new(AtomicU64::new(0)));
        let dpc = new_dpc(count_call, std::ptr::from_ref(runs) as u64);
        let mut expired = 0;
        // Due at about the time when it is cancelled, so that both meet.
        for round in 0..20_000_i64 {
            call!("KeSetTimer", timer, -(round % 64) * 10, dpc);
            for _ in 0..round % 1000 {
                std::hint::spin_loop();
            }
            if call!("KeCancelTimer", timer) as u8 == 1 {
                continue;
            }
            expired += 1;
            assert_eq!(call!("KeReadStateTimer", timer) as u8, 1, "in round {round}");
            call!("KeFlushQueuedDpcs");
            assert_eq!(runs.load(Ordering::SeqCst), expired, "in round {round}");
        }
        assert!(expired > 0);
    });
}

#[proves("K-130")]
#[test]
fn dpc_of_a_timer_is_done_for_whoever_waited_for_the_timer_and_flushes() {
    in_the_kernel(|| {
        let timer = new_timer(0);
        let runs = Box::leak(Box::new(AtomicU64::new(0)));
        let dpc = new_dpc(count_call, std::ptr::from_ref(runs) as u64);
        for round in 1..=3000_u64 {
            call!("KeSetTimer", timer, -200_i64, dpc);
            // Looks instead of waiting, so that it is as early as can be.
            while call!("KeReadStateTimer", timer) as u8 == 0 {
                std::hint::spin_loop();
            }
            if round % 2 == 0 {
                call!("KeFlushQueuedDpcs");
                assert_eq!(runs.load(Ordering::SeqCst), round, "in round {round}");
            } else {
                // It runs or has run; it is not yet to come.
                assert_eq!(call!("KeRemoveQueueDpc", dpc) as u8, 0);
                call!("KeFlushQueuedDpcs");
                assert_eq!(runs.load(Ordering::SeqCst), round, "in round {round}");
            }
        }
    });
}

#[test]
fn host_timers_run_in_order_and_can_be_taken_back() {
    static ORDER: Mutex<Vec<u32>> = Mutex::new(Vec::new());
    in_the_kernel(|| {
        let event = new_event();
        let now = clock::now_100ns();
        let note = |number| move || ORDER.lock().expect("no panic").push(number);
        timer::at(now + 20_000, note(2));
        timer::at(now + 10_000, note(1));
        let third = timer::at(now + 30_000, note(3));
        timer::at(now + 40_000, move || {
            call!("KeSetEvent", event, 0, 0);
        });
        assert!(timer::cancel_host(third));
        assert!(!timer::cancel_host(third));
        wait_for(event, None);
        assert_eq!(*ORDER.lock().expect("no panic"), [1, 2]);
    });
}

#[test]
fn what_is_pending_in_memory_is_found_before_it_is_freed() {
    in_the_kernel(|| {
        let (timer, (dpc, _)) = (new_timer(0), logging_dpc());
        assert_eq!(timer::pending_in(timer..timer + 64), None);
        call!("KeSetTimer", timer, HOUR, dpc);
        let found = timer::pending_in(timer - 7..timer + 1).expect("the timer");
        let routine = log_call as *const () as u64;
        assert_eq!((found.address, found.is_timer, found.routine), (timer, true, routine));
        let found = timer::pending_in(dpc..dpc + 1).expect("its DPC");
        assert_eq!((found.address, found.is_timer), (dpc, false));
        let mut all = Vec::new();
        timer::for_each_pending(|pending| all.push(pending.address));
        assert!(all.contains(&timer));
        call!("KeCancelTimer", timer);
        assert_eq!(timer::pending_in(timer..timer + 64), None);
    });
}

#[proves("K-150")]
#[test]
fn timer_in_memory_that_was_reused_ends_the_run_when_it_expires() {
    if !common::is_child() {
        let name = "timer_in_memory_that_was_reused_ends_the_run_when_it_expires";
        common::expect_bugcheck(name, BugCheck::TIMER_OR_DPC_INVALID);
        return;
    }
    in_the_kernel(|| {
        let timer = new_timer(0);
        call!("KeSetTimer", timer, MILLISECOND, 0);
        call!("KeInitializeEvent", timer, 0, 0);
        wait_for(new_event(), None);
    });
}

#[proves("K-150")]
#[test]
fn set_timer_that_is_initialised_again_ends_the_run() {
    if !common::is_child() {
        common::expect_bugcheck("set_timer_that_is_initialised_again_ends_the_run", BugCheck::TIMER_OR_DPC_INVALID);
        return;
    }
    in_the_kernel(|| {
        let timer = new_timer(0);
        call!("KeSetTimer", timer, HOUR, 0);
        call!("KeInitializeTimer", timer);
    });
}

#[proves("K-150")]
#[test]
fn set_timer_and_its_dpc_are_found_by_their_memory_until_it_is_cancelled() {
    in_the_kernel(|| {
        let ((dpc, _), timers) = (logging_dpc(), [new_timer(0), new_timer(0)]);
        let found_at = |address: u64| timer::pending_in(address..address + 64).map(|found| found.is_timer);
        for timer in timers {
            call!("KeSetTimer", timer, HOUR, dpc);
        }
        // Set again: the second place counts, not both.
        call!("KeSetTimer", timers[0], HOUR, dpc);
        assert_eq!([timers[0], timers[1], dpc].map(found_at), [Some(true), Some(true), Some(false)]);
        call!("KeCancelTimer", timers[0]);
        assert_eq!([timers[0], timers[1], dpc].map(found_at), [None, Some(true), Some(false)]);
        call!("KeCancelTimer", timers[1]);
        assert_eq!([timers[0], timers[1], dpc].map(found_at), [None, None, None]);
    });
}

#[proves("K-150")]
#[test]
fn queued_dpc_that_is_initialised_again_ends_the_run() {
    if !common::is_child() {
        common::expect_bugcheck("queued_dpc_that_is_initialised_again_ends_the_run", BugCheck::TIMER_OR_DPC_INVALID);
        return;
    }
    in_the_kernel(|| {
        let (dpc, _) = logging_dpc();
        let _raised = irql::Raised::to(Irql::DISPATCH);
        call!("KeInsertQueueDpc", dpc, 0, 0);
        call!("KeInitializeDpc", dpc, 0, 0);
    });
}

#[proves("K-151")]
#[test]
fn delay_at_dispatch_level_ends_the_run() {
    if !common::is_child() {
        common::expect_bugcheck("delay_at_dispatch_level_ends_the_run", BugCheck::ATTEMPTED_SWITCH_FROM_DPC);
        return;
    }
    in_the_kernel(|| {
        let _raised = irql::Raised::to(Irql::DISPATCH);
        let interval = HOUR;
        call!("KeDelayExecutionThread", 0, 0, &raw const interval);
    });
}

#[proves("K-135")]
#[test]
fn delay_lasts_at_least_as_long_as_asked() {
    in_the_kernel(|| {
        let (before, interval) = (clock::now_100ns(), 3 * MILLISECOND);
        assert_eq!(call!("KeDelayExecutionThread", 0, 0, &raw const interval) as u32, NtStatus::SUCCESS.0);
        assert!(clock::now_100ns() >= before + 30_000);
    });
}

#[proves("K-009")]
#[test]
fn shared_page_goes_on_while_a_driver_only_looks_at_it() {
    in_the_kernel(|| {
        let ticks = || {
            // SAFETY: the cell is eight aligned bytes of the shared page.
            unsafe { (gate::shared_page::tick_count_cell() as *const u64).read_volatile() }
        };
        let before = ticks();
        while ticks() < before + 2 {
            std::hint::spin_loop();
        }
        let mut told = 0u64;
        call!("KeQueryTickCount", &raw mut told);
        assert!(told >= before + 2);
    });
}
