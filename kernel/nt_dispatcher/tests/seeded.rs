//! The seeded executor. Each scenario runs in a process of its own, whose output is what it saw.

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use arena::Region;
use common::{Memory, is_child, start, wait_for};
use gate::code::CodeArea;
use gate::image::LoadedImage;
use nt_abi::dispatcher::{Dpc, Timer};
use nt_abi::exception::BugCheck;
use nt_abi::{KernelEvent, NtStatus};
use nt_dispatcher::executor::{self, Mode};
use nt_dispatcher::poller::{self, Poller};
use nt_dispatcher::thread::{self, Start};
use nt_dispatcher::{TABLE, clock, wait};
use proves::proves;

const SECOND: i64 = -10_000_000;
const HOUR_100NS: u64 = 36_000_000_000;

/// Import stubs, as the loader makes them.
static STUBS: OnceLock<Vec<(&'static str, u64)>> = OnceLock::new();

fn bind_stubs() -> Vec<(&'static str, u64)> {
    let bytes = 4096 * 8;
    let region = Box::leak(Box::new(Region::reserve(0x1500_0000_0000, bytes).expect("address space")));
    region.commit(bytes as u64).expect("memory");
    // SAFETY: the region is new, page-aligned, and nobody else's.
    let mut code = unsafe { CodeArea::over(region.base(), bytes as u64) };
    let bound = TABLE
        .iter()
        .filter(|export| matches!(export.kind, gate::export::ExportKind::Function(_)))
        .map(|export| {
            let stub = gate::stub::bind(&mut code, "test.sys", export.module, export.name, Some(export));
            (export.name, stub.expect("room for a stub"))
        })
        .collect();
    code.seal().expect("executable memory");
    bound
}

/// Calls an export through its import stub, where threads are preempted.
fn import(name: &str, arguments: &[u64]) -> u64 {
    type Export = unsafe extern "win64" fn(u64, u64, u64, u64, u64, u64, u64, u64) -> u64;
    let stubs = STUBS.get().expect("bound by `run`");
    let (_, stub) = stubs.iter().find(|(bound, _)| *bound == name).expect("an export");
    let mut all = [0; 8];
    all[..arguments.len()].copy_from_slice(arguments);
    let [a, b, c, d, e, f, g, h] = all;
    // SAFETY: the test passes what the export takes.
    unsafe { std::mem::transmute::<u64, Export>(*stub)(a, b, c, d, e, f, g, h) }
}

macro_rules! import {
    ($name:literal $(, $argument:expr)*) => { import($name, &[$($argument as u64),*]) };
}

/// Runs a scenario with the seed that the parent chose, in the first fiber.
fn run(scenario: fn()) {
    let seed = std::env::var("SEED").map_or(1, |seed| seed.parse().expect("a number"));
    let host_thread = std::thread::spawn(move || {
        gate::fault::install().expect("fault handlers");
        executor::start(Mode::Seeded { seed }).expect("the seeded executor");
        STUBS.get_or_init(bind_stubs);
        // SAFETY: the context is the scenario.
        let main = |context: u64| unsafe { std::mem::transmute::<u64, fn()>(context)() };
        executor::drive(|| (), main, scenario as usize as u64).expect("a kernel thread");
    });
    host_thread.join().expect("the scenario");
}

/// What the scenario of the test `name` prints with a seed, between brackets.
#[track_caller]
fn outcome(name: &str, seed: u64) -> String {
    let output = common::again(name, &[("SEED", &seed.to_string())]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let begin = said.find('[').expect("an outcome");
    said[begin..=said.rfind(']').expect("an outcome")].to_owned()
}

fn driver_thread(routine: extern "win64" fn(u64), context: u64) -> u64 {
    thread::create(Start::Driver(routine as *const () as u64), context, 0).expect("a thread")
}

fn join(thread: u64) {
    assert_eq!(wait_for(thread, None), NtStatus::SUCCESS);
    nt_object::dereference(thread);
}

fn new_event(kind: u64) -> u64 {
    let event = Memory::<KernelEvent>::new().address();
    import!("KeInitializeEvent", event, kind, 0);
    event
}

static LOG: Mutex<Vec<(u64, u64)>> = Mutex::new(Vec::new());

fn log(entry: (u64, u64)) {
    LOG.lock().expect("no panic").push(entry);
}

fn logged() -> Vec<(u64, u64)> {
    LOG.lock().expect("no panic").clone()
}

extern "win64" fn log_between_kernel_calls(name: u64) {
    for step in 0..20 {
        import!("KeQueryTimeIncrement");
        log((name, step));
    }
}

#[test]
fn same_seed_gives_the_same_interleaving_and_seeds_differ() {
    let name = "same_seed_gives_the_same_interleaving_and_seeds_differ";
    if is_child() {
        return run(|| {
            let threads = [1, 2, 3].map(|name| driver_thread(log_between_kernel_calls, name));
            threads.into_iter().for_each(join);
            println!("{:?}", logged());
        });
    }
    let outcomes: Vec<String> = (0..8).map(|seed| outcome(name, seed)).collect();
    let again: Vec<String> = (0..8).map(|seed| outcome(name, seed)).collect();
    assert_eq!(outcomes, again);
    assert!(BTreeSet::from_iter(outcomes).len() >= 6);
}

#[test]
fn virtual_time_stands_still_while_threads_run_and_jumps_when_all_wait() {
    extern "win64" fn work(_context: u64) {
        for _ in 0..100 {
            import!("KeQueryTimeIncrement");
            assert_eq!(clock::now_100ns(), 0);
        }
        let hour = 3600 * SECOND;
        import!("KeDelayExecutionThread", 0, 0, &raw const hour);
        assert_eq!(clock::now_100ns(), HOUR_100NS);
    }
    if is_child() {
        return run(|| {
            join(driver_thread(work, 0));
            let (mut system, mut ticks) = (0u64, 0u64);
            import!("KeQuerySystemTime", &raw mut system);
            import!("KeQueryTickCount", &raw mut ticks);
            // SAFETY: the cell is eight aligned bytes.
            let on_page = unsafe { *(gate::shared_page::tick_count_cell() as *const u64) };
            println!("[{} {system} {ticks} {on_page}]", clock::now_100ns() / 10);
        });
    }
    let name = "virtual_time_stands_still_while_threads_run_and_jumps_when_all_wait";
    let expected = format!("[3600000000 {} 230400 230400]", 133_485_408_000_000_000 + HOUR_100NS + 1);
    assert_eq!(outcome(name, 1), expected);
    assert_eq!(outcome(name, 2), expected);
}

#[test]
fn time_passes_for_others_while_a_thread_looks_in_a_loop() {
    static IS_OVER: AtomicU64 = AtomicU64::new(0);
    extern "win64" fn look_until_over(how: u64) {
        let nothing = 0i64;
        let event = Memory::<KernelEvent>::new().address();
        import!("KeInitializeEvent", event, 0, 0);
        while IS_OVER.load(Ordering::Relaxed) == 0 {
            match how {
                0 => import!("ZwYieldExecution"),
                1 => import!("KeDelayExecutionThread", 0, 0, &raw const nothing),
                _ => import!("KeWaitForSingleObject", event, 0, 0, 0, &raw const nothing),
            };
        }
    }
    if is_child() {
        return run(|| {
            let threads = [0, 1, 2].map(|how| driver_thread(look_until_over, how));
            let millisecond = -10_000i64;
            import!("KeDelayExecutionThread", 0, 0, &raw const millisecond);
            IS_OVER.store(1, Ordering::Relaxed);
            threads.into_iter().for_each(join);
            println!("[{}]", clock::now_100ns() >= 10_000);
        });
    }
    for seed in 0..4 {
        assert_eq!(outcome("time_passes_for_others_while_a_thread_looks_in_a_loop", seed), "[true]");
    }
}

#[proves("K-130")]
#[test]
fn periodic_timer_fires_exactly_as_often_as_virtual_time_says() {
    extern "win64" fn count(_dpc: u64, _context: u64, _argument1: u64, _argument2: u64) {
        log((clock::now_100ns(), 0));
    }
    if is_child() {
        return run(|| {
            let (timer, dpc) = (Memory::<Timer>::new().address(), Memory::<Dpc>::new().address());
            import!("KeInitializeTimerEx", timer, 0);
            import!("KeInitializeDpc", dpc, count as *const () as u64, 0);
            import!("KeSetTimerEx", timer, SECOND, 1000, dpc);
            let time = 3600 * SECOND + SECOND / 2;
            import!("KeDelayExecutionThread", 0, 0, &raw const time);
            import!("KeCancelTimer", timer);
            let log = logged();
            assert!(log.iter().enumerate().all(|(index, (time, _))| *time == 10_000_000 * (index as u64 + 1)));
            println!("[{}]", log.len());
        });
    }
    assert_eq!(outcome("periodic_timer_fires_exactly_as_often_as_virtual_time_says", 3), "[3600]");
}

#[test]
fn loop_that_waits_for_the_clock_ends() {
    if is_child() {
        return run(|| {
            while import!("KeQueryPerformanceCounter", 0) < 1_000 {}
            import!("KeStallExecutionProcessor", 50);
            println!("[{}]", clock::now_100ns());
        });
    }
    assert_eq!(outcome("loop_that_waits_for_the_clock_ends", 1), "[1500]");
}

#[test]
fn deadlock_ends_the_run_and_names_who_waits_for_what() {
    extern "win64" fn wait_for_ever(event: u64) {
        import!("KeWaitForSingleObject", event, 0, 0, 0, 0);
    }
    if is_child() {
        return run(|| {
            let event = new_event(0);
            join(driver_thread(wait_for_ever, event));
        });
    }
    let name = "deadlock_ends_the_run_and_names_who_waits_for_what";
    let said = common::expect_bugcheck(name, BugCheck::DRYDOCK_DEADLOCK);
    assert!(said.contains("waits for the thread") && said.contains("waits for the event"), "{said}");
}

#[proves("K-121")]
#[test]
fn thread_that_spins_lets_the_holder_go_on() {
    static LOCK: AtomicU64 = AtomicU64::new(0);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    static SPUN: AtomicU64 = AtomicU64::new(0);
    extern "win64" fn count(_context: u64) {
        for _ in 0..50 {
            if LOCK.load(Ordering::Relaxed) != 0 {
                SPUN.fetch_add(1, Ordering::Relaxed);
            }
            // At PASSIVE_LEVEL, so that the holder can be preempted.
            import!("KeAcquireSpinLockAtDpcLevel", LOCK.as_ptr());
            let before = COUNT.load(Ordering::Relaxed);
            import!("KeQueryTimeIncrement");
            COUNT.store(before + 1, Ordering::Relaxed);
            import!("KeReleaseSpinLockFromDpcLevel", LOCK.as_ptr());
        }
    }
    if is_child() {
        return run(|| {
            [1, 2, 3].map(|name| driver_thread(count, name)).into_iter().for_each(join);
            assert!(SPUN.load(Ordering::Relaxed) > 0, "no thread met a lock that was taken");
            println!("[{}]", COUNT.load(Ordering::Relaxed));
        });
    }
    assert_eq!(outcome("thread_that_spins_lets_the_holder_go_on", 1), "[150]");
}

#[proves("K-153")]
#[test]
fn spin_lock_taken_twice_by_one_thread_ends_the_run() {
    if is_child() {
        return run(|| {
            let lock = Memory::<u64>::new().address();
            import!("KeAcquireSpinLockRaiseToDpc", lock);
            import!("KeAcquireSpinLockAtDpcLevel", lock);
        });
    }
    let name = "spin_lock_taken_twice_by_one_thread_ends_the_run";
    common::expect_bugcheck(name, BugCheck::SPIN_LOCK_ALREADY_OWNED);
}

#[test]
fn code_at_dispatch_level_is_not_preempted() {
    extern "win64" fn raise_and_call(name: u64) {
        let lock = Memory::<u64>::new().address();
        for _ in 0..20 {
            let old = import!("KeAcquireSpinLockRaiseToDpc", lock);
            log((name, 1));
            import!("KeQueryTimeIncrement");
            log((name, 2));
            import!("KeReleaseSpinLock", lock, old);
        }
    }
    if is_child() {
        return run(|| {
            [1, 2].map(|name| driver_thread(raise_and_call, name)).into_iter().for_each(join);
            assert!(logged().chunks(2).all(|pair| pair[0].0 == pair[1].0 && pair[1].1 == 2), "{:?}", logged());
            println!("[]");
        });
    }
    (0..4).for_each(|seed| drop(outcome("code_at_dispatch_level_is_not_preempted", seed)));
}

#[test]
fn planted_race_is_found_by_some_seeds_and_again_by_the_same() {
    static TAKEN: AtomicU64 = AtomicU64::new(0);
    static TAKERS: AtomicU64 = AtomicU64::new(0);
    extern "win64" fn check_then_act(_context: u64) {
        if TAKEN.load(Ordering::Relaxed) == 0 {
            import!("KeQueryTimeIncrement");
            TAKEN.store(1, Ordering::Relaxed);
            TAKERS.fetch_add(1, Ordering::Relaxed);
        }
    }
    let name = "planted_race_is_found_by_some_seeds_and_again_by_the_same";
    if is_child() {
        return run(|| {
            [1, 2].map(|name| driver_thread(check_then_act, name)).into_iter().for_each(join);
            println!("[{}]", TAKERS.load(Ordering::Relaxed));
        });
    }
    let takers: Vec<String> = (0..16).map(|seed| outcome(name, seed)).collect();
    let found = takers.iter().position(|takers| takers == "[2]").expect("a seed that finds the race");
    assert!(takers.iter().any(|takers| takers == "[1]"));
    assert_eq!(outcome(name, found as u64), "[2]");
}

#[test]
fn ended_threads_leave_their_stacks_to_others() {
    extern "win64" fn end(_context: u64) {
        let here = 0u64;
        log((&raw const here as u64, 0));
        import!("PsTerminateSystemThread", 0);
    }
    if is_child() {
        return run(|| {
            for _ in 0..200 {
                join(driver_thread(end, 0));
            }
            let places: BTreeSet<u64> = logged().iter().map(|(place, _)| *place).collect();
            println!("{:x?}", Vec::from_iter(places));
        });
    }
    let name = "ended_threads_leave_their_stacks_to_others";
    let places = outcome(name, 1);
    assert_eq!(places, outcome(name, 1));
    assert!(places.split(',').count() <= 3 && places.starts_with("[23"), "{places}");
}

#[test]
fn overflow_of_a_fiber_is_reported_as_one() {
    #[inline(never)]
    fn recurse(depth: u64) -> u64 {
        let padding = std::hint::black_box([depth; 64]);
        if depth == u64::MAX { 0 } else { recurse(depth + 1) + padding[3] }
    }
    if is_child() {
        return run(|| {
            let run = |context| {
                std::hint::black_box(recurse(context));
            };
            join(start(run, 0));
        });
    }
    common::expect_bugcheck("overflow_of_a_fiber_is_reported_as_one", BugCheck::UNEXPECTED_KERNEL_MODE_TRAP);
}

#[test]
fn time_stamp_counter_of_a_driver_is_virtual_and_the_hosts_is_real() {
    if is_child() {
        return run(|| {
            let region = Box::leak(Box::new(Region::reserve(0x1600_0000_0000, 4096).expect("address space")));
            region.commit(4096).expect("memory");
            // SAFETY: the region is new and nobody else's.
            let mut code = unsafe { CodeArea::over(region.base(), 4096) };
            // rdtsc; shl rdx, 32; or rax, rdx; ret
            let routine = code.append(&[0x0F, 0x31, 0x48, 0xC1, 0xE2, 0x20, 0x48, 0x09, 0xD0, 0xC3]).expect("room");
            code.seal().expect("executable memory");
            let text = std::iter::once(routine..routine + 10).collect();
            let image = LoadedImage::new("test.sys", region.base(), 4096, text, vec![]);
            gate::image::register(image).expect("room for an image");
            // SAFETY: the routine takes nothing and returns a number.
            let read = || unsafe { gate::call::driver(routine, []) };
            let stamps = [read(), read()];
            let before = std::time::Instant::now();
            assert!(before.elapsed() < std::time::Duration::from_secs(3600));
            println!("{stamps:?}");
        });
    }
    assert_eq!(outcome("time_stamp_counter_of_a_driver_is_virtual_and_the_hosts_is_real", 1), "[100, 200]");
}

#[proves("K-127", "K-124")]
#[test]
fn waits_work_as_in_the_free_executor() {
    static EVENT: AtomicU64 = AtomicU64::new(0);
    extern "win64" fn waiter(name: u64) {
        import!("KeWaitForSingleObject", EVENT.load(Ordering::Relaxed), 0, 0, 0, 0);
        log((name, 0));
    }
    if is_child() {
        return run(|| {
            let event = new_event(1);
            EVENT.store(event, Ordering::Relaxed);
            let threads = [1, 2, 3].map(|name| {
                let thread = driver_thread(waiter, name);
                while !wait::has_waiters(event, name as usize) {
                    import!("KeQueryTimeIncrement");
                }
                thread
            });
            for thread in threads {
                import!("KeSetEvent", event, 0, 0);
                join(thread);
            }
            assert_eq!(logged(), [(1, 0), (2, 0), (3, 0)]);
            let second = SECOND;
            let status = import!("KeWaitForSingleObject", event, 0, 0, 0, &raw const second) as u32;
            println!("[{status:#x} {}]", clock::now_100ns());
        });
    }
    for seed in 0..6 {
        assert_eq!(outcome("waits_work_as_in_the_free_executor", seed), "[0x102 10000000]");
    }
}

/// A network that delivers a callback each virtual second, or, if real, when polled for long enough.
struct Network {
    due: AtomicU64,
    is_real: bool,
}

static VIRTUAL: Network = Network { due: AtomicU64::new(0), is_real: false };
static REAL: Network = Network { due: AtomicU64::new(0), is_real: true };
static DELIVER: Mutex<Vec<fn()>> = Mutex::new(Vec::new());

impl Poller for Network {
    fn poll(&self, max_wait_100ns: Option<u64>) {
        if self.is_real {
            assert_eq!(max_wait_100ns, Some(20_000), "as far as the waiter's deadline");
        } else {
            assert_eq!((max_wait_100ns, clock::now_100ns()), (Some(0), self.due.load(Ordering::Relaxed)));
        }
        let next = DELIVER.lock().expect("no panic").pop();
        let is_more = !DELIVER.lock().expect("no panic").is_empty();
        let due = if is_more { clock::now_100ns() + 10_000_000 } else { 0 };
        self.due.store(due, Ordering::Relaxed);
        if let Some(deliver) = next {
            deliver();
        }
    }
    fn wake(&self) {}
    fn has_outstanding(&self) -> bool {
        self.is_real && !DELIVER.lock().expect("no panic").is_empty()
    }
    fn next_deadline_100ns(&self) -> Option<u64> {
        Some(self.due.load(Ordering::Relaxed)).filter(|&due| due != 0)
    }
}

static EVENTS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

fn set_event(index: usize) {
    import!("KeSetEvent", EVENTS[index].load(Ordering::Relaxed), 0, 0);
}

#[test]
fn virtual_network_is_polled_when_due_even_while_a_callback_waits() {
    if is_child() {
        return run(|| {
            EVENTS.iter().for_each(|event| event.store(new_event(0), Ordering::Relaxed));
            // Last first: the first callback waits for what the second does.
            DELIVER.lock().expect("no panic").extend([(|| set_event(0)) as fn(), || {
                wait_for(EVENTS[0].load(Ordering::Relaxed), None);
                set_event(1);
            }]);
            VIRTUAL.due.store(5 * 10_000_000, Ordering::Relaxed);
            poller::set_poller(&VIRTUAL).expect("a network");
            wait_for(EVENTS[1].load(Ordering::Relaxed), None);
            println!("[{}]", clock::now_100ns());
        });
    }
    let name = "virtual_network_is_polled_when_due_even_while_a_callback_waits";
    assert_eq!(outcome(name, 1), "[60000000]");
}

#[test]
fn real_network_is_polled_before_time_jumps() {
    if is_child() {
        return run(|| {
            EVENTS.iter().for_each(|event| event.store(new_event(0), Ordering::Relaxed));
            DELIVER.lock().expect("no panic").push(|| set_event(0));
            poller::set_poller(&REAL).expect("a network");
            let timeout = Some(-20_000);
            let first = wait_for(EVENTS[0].load(Ordering::Relaxed), timeout);
            let second = wait_for(EVENTS[1].load(Ordering::Relaxed), timeout);
            println!("[{:#x} {:#x}]", first.0, second.0);
        });
    }
    assert_eq!(outcome("real_network_is_polled_before_time_jumps", 1), "[0x0 0x102]");
}
