//! The handle table's entry: look-ups beside closes and opens, as the memory model allows.

#![allow(dead_code, reason = "the source holds what reports need, too")]

#[path = "../../../kernel/nt_object/src/entry.rs"]
mod entry;

/// What the source shares words by.
mod sync {
    pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

    pub const IS_MODEL: bool = true;
}

use entry::Entry;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicI64, Ordering};
use loom::thread;
use proves::proves;

fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    let bound = std::env::var("MODEL_PREEMPTIONS").ok().and_then(|bound| bound.parse().ok());
    builder.preemption_bound = Some(bound.unwrap_or(3));
    builder.check(model);
}

/// An entry and the reference counts of bodies 1 and 2.
struct Shared {
    entry: Entry,
    counts: [AtomicI64; 2],
}

impl Shared {
    fn new() -> Self {
        Self { entry: Entry::free(), counts: [AtomicI64::new(0), AtomicI64::new(0)] }
    }

    fn count(&self, body: u64) -> &AtomicI64 {
        &self.counts[body as usize - 1]
    }

    /// As `object::try_reference`.
    fn try_reference(&self, body: u64) -> bool {
        let mut count = self.count(body).load(Ordering::Relaxed);
        while count > 0 {
            match self.count(body).compare_exchange(count, count + 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => count = now,
            }
        }
        false
    }

    fn dereference(&self, body: u64) -> i64 {
        let left = self.count(body).fetch_sub(1, Ordering::AcqRel) - 1;
        assert!(left >= 0, "a reference was given back twice");
        left
    }

    /// Opens a handle to a new object; the access tells which.
    fn open(&self, body: u64) {
        self.count(body).store(1, Ordering::Release);
        self.entry.publish(body, body as u32 * 10, true, 0);
    }

    fn close(&self) -> bool {
        self.entry.take().map(|body| self.dereference(body)).is_some()
    }

    fn look_up(&self) -> Option<(u64, u32)> {
        let dereference = |body| {
            self.dereference(body);
        };
        self.entry.reference(|body| self.try_reference(body), dereference)
    }
}

#[test]
#[proves("C-126")]
fn look_up_beside_reuse_gives_one_handles_object_with_its_access() {
    explore(|| {
        let shared = Arc::new(Shared::new());
        shared.open(1);
        let user = {
            let shared = shared.clone();
            thread::spawn(move || {
                if let Some((body, access)) = shared.look_up() {
                    assert_eq!(access, body as u32 * 10, "the access is another handle's");
                    assert!(shared.count(body).load(Ordering::Relaxed) > 0, "the object is gone under its reference");
                    shared.dereference(body);
                }
            })
        };
        assert!(shared.close());
        shared.open(2);
        user.join().expect("the thread ends");
        assert!(shared.close());
        assert!(shared.counts.iter().all(|count| count.load(Ordering::Relaxed) == 0), "every reference came back");
    });
}

#[test]
fn of_two_closers_one_succeeds() {
    explore(|| {
        let shared = Arc::new(Shared::new());
        shared.open(1);
        let other = {
            let shared = shared.clone();
            thread::spawn(move || shared.close())
        };
        let mine = shared.close();
        assert!(mine != other.join().expect("the thread ends"));
        assert_eq!(shared.count(1).load(Ordering::Relaxed), 0);
    });
}
