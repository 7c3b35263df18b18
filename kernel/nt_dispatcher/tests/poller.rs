//! Who polls the network, over a network made of closures.

use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::mem::zeroed;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use nt_abi::dispatcher::DispatcherType;
use nt_abi::{KernelEvent, NtStatus};
use nt_dispatcher::poller::{self, Poller};
use nt_dispatcher::{clock, event, thread, wait};

type Callback = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    events: VecDeque<Callback>,
    woken: bool,
    /// Threads inside `poll`.
    polling: Vec<u64>,
}

/// A network: what happens on it is what the tests post.
struct Closures {
    state: Mutex<State>,
    changed: Condvar,
    outstanding: AtomicU64,
    /// Interrupt time, 0 for none. Due work counts itself in `due_handled`.
    deadline: AtomicU64,
    due_handled: AtomicU64,
    asked: AtomicU64,
}

static NETWORK: Closures = Closures {
    state: Mutex::new(State { events: VecDeque::new(), woken: false, polling: Vec::new() }),
    changed: Condvar::new(),
    outstanding: AtomicU64::new(0),
    deadline: AtomicU64::new(0),
    due_handled: AtomicU64::new(0),
    asked: AtomicU64::new(0),
};

impl Closures {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is expected from outside.
    fn begin(&self) {
        self.outstanding.fetch_add(1, Ordering::SeqCst);
        poller::changed();
    }

    /// It happens.
    fn post(&self, callback: impl FnOnce() + Send + 'static) {
        let callback = move || {
            NETWORK.outstanding.fetch_sub(1, Ordering::SeqCst);
            callback();
        };
        self.lock().events.push_back(Box::new(callback));
        self.changed.notify_all();
    }

    fn set_deadline(&self, deadline: u64) {
        self.deadline.store(deadline, Ordering::SeqCst);
        poller::changed();
    }

    fn is_polled_by(&self, thread: u64) -> bool {
        self.lock().polling.contains(&thread)
    }
}

impl Poller for Closures {
    fn poll(&self, max_wait_100ns: Option<u64>) {
        let me = gate::thread::current_thread_object();
        let until = max_wait_100ns.map(|wait| clock::now_100ns() + wait);
        let mut state = self.lock();
        state.polling.push(me);
        let callback = loop {
            if let Some(callback) = state.events.pop_front() {
                break Some(callback);
            }
            let left = until.map(|until| until.saturating_sub(clock::now_100ns()));
            if state.woken || left == Some(0) {
                break None;
            }
            let wait = Duration::from_nanos(left.unwrap_or(600_000_000).saturating_mul(100));
            state = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        };
        state.woken = false;
        drop(state);
        if let Some(callback) = callback {
            callback();
        }
        let deadline = self.deadline.load(Ordering::SeqCst);
        if deadline != 0 && clock::now_100ns() >= deadline {
            self.deadline.store(0, Ordering::SeqCst);
            self.due_handled.fetch_add(1, Ordering::SeqCst);
        }
        self.lock().polling.retain(|&thread| thread != me);
    }

    fn wake(&self) {
        self.lock().woken = true;
        self.changed.notify_all();
    }

    fn has_outstanding(&self) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.outstanding.load(Ordering::SeqCst) != 0
    }

    fn next_deadline_100ns(&self) -> Option<u64> {
        Some(self.deadline.load(Ordering::SeqCst)).filter(|&deadline| deadline != 0)
    }
}

struct Event(UnsafeCell<KernelEvent>);

// SAFETY: the signal state is touched atomically only; the rest does not change after `new`.
unsafe impl Sync for Event {}

impl Event {
    fn new() -> &'static Self {
        // SAFETY: all bytes zero is a valid KernelEvent, and nobody else knows it yet.
        unsafe {
            let event: &'static Self = Box::leak(Box::new(Self(UnsafeCell::new(zeroed()))));
            event::initialize(event.0.get(), DispatcherType::NOTIFICATION_EVENT, false);
            event
        }
    }

    fn set(&self) {
        // SAFETY: initialised in `new`, never freed.
        unsafe { event::set(self.0.get()) };
    }

    fn wait(&self) {
        // SAFETY: as in `set`.
        assert_eq!(unsafe { wait::wait_single(self.0.get() as u64, None) }, NtStatus::SUCCESS);
    }
}

/// Runs `test` on a kernel thread with the network to itself.
fn with_network(test: impl FnOnce() + Send) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    static POLLER: OnceLock<()> = OnceLock::new();
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let run = || {
        thread::adopt_current().expect("a kernel thread");
        POLLER.get_or_init(|| poller::set_poller(&NETWORK).expect("a thread"));
        test();
    };
    std::thread::scope(|scope| scope.spawn(run).join().expect("the test's thread"));
}

fn until(condition: impl Fn() -> bool) {
    while !condition() {
        std::thread::sleep(Duration::from_micros(200));
    }
}

#[test]
fn thread_that_waits_does_the_outstanding_work_itself() {
    with_network(|| {
        let me = gate::thread::current_thread_object();
        let done = Event::new();
        NETWORK.begin();
        let network = std::thread::spawn(move || {
            until(|| NETWORK.is_polled_by(me));
            let (tell, told) = mpsc::channel();
            NETWORK.post(move || {
                tell.send(gate::thread::current_thread_object()).expect("the receiver");
                done.set();
            });
            told.recv().expect("the sender")
        });
        done.wait();
        assert_eq!(network.join().expect("no panic"), me);
    });
}

#[test]
fn outstanding_work_is_done_though_nobody_waits() {
    with_network(|| {
        let (tell, told) = mpsc::channel();
        NETWORK.begin();
        NETWORK.post(move || tell.send(()).expect("the receiver"));
        told.recv().expect("the fallback thread polls");
    });
}

#[test]
fn what_is_due_is_done_though_nothing_is_outstanding() {
    with_network(|| {
        let before = NETWORK.due_handled.load(Ordering::SeqCst);
        NETWORK.set_deadline(clock::now_100ns() + 20_000);
        until(|| NETWORK.due_handled.load(Ordering::SeqCst) == before + 1);
        // As long as a thread waits for something else, too.
        NETWORK.begin();
        let waiter = Event::new();
        let me = gate::thread::current_thread_object();
        let network = std::thread::spawn(move || {
            until(|| NETWORK.is_polled_by(me));
            NETWORK.set_deadline(clock::now_100ns() + 20_000);
            until(|| NETWORK.due_handled.load(Ordering::SeqCst) == before + 2);
            NETWORK.post(|| waiter.set());
        });
        waiter.wait();
        network.join().expect("no panic");
    });
}

#[test]
fn fallback_thread_leaves_the_lead_to_a_thread_that_waits() {
    with_network(|| {
        let me = gate::thread::current_thread_object();
        NETWORK.begin();
        until(|| !NETWORK.lock().polling.is_empty());
        assert!(!NETWORK.is_polled_by(me));
        let done = Event::new();
        let network = std::thread::spawn(move || {
            until(|| NETWORK.is_polled_by(me));
            NETWORK.post(|| done.set());
        });
        done.wait();
        network.join().expect("no panic");
    });
}

#[test]
fn callback_that_waits_lets_another_thread_poll() {
    with_network(|| {
        let me = gate::thread::current_thread_object();
        let (inner, outer) = (Event::new(), Event::new());
        NETWORK.begin();
        NETWORK.begin();
        let network = std::thread::spawn(move || {
            until(|| NETWORK.is_polled_by(me));
            NETWORK.post(move || {
                outer.set();
                inner.wait();
            });
            NETWORK.post(|| inner.set());
        });
        outer.wait();
        network.join().expect("no panic");
    });
}

#[test]
fn callback_of_the_fallback_thread_that_waits_has_a_successor() {
    with_network(|| {
        let inner = Event::new();
        let (tell, told) = mpsc::channel();
        NETWORK.begin();
        NETWORK.begin();
        NETWORK.post(move || {
            inner.wait();
            tell.send(()).expect("the receiver");
        });
        NETWORK.post(|| inner.set());
        told.recv().expect("the inner wait ended");
    });
}

#[test]
fn fallback_thread_sleeps_while_nothing_is_outstanding() {
    with_network(|| {
        let asked = || NETWORK.asked.load(Ordering::Relaxed);
        let is_still = |_| {
            let before = asked();
            std::thread::sleep(Duration::from_millis(20));
            asked() == before
        };
        assert!((0..500).any(is_still), "a thread that looks a thousand times a second is never still");
    });
}
