//! A trace ring's reader beside its writer, as the memory model allows.

#[path = "../../../machine/trace/src/window.rs"]
mod window;

/// What the source shares words by.
mod sync {
    pub use loom::sync::atomic::{AtomicU64, Ordering, fence};
}

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

/// Slots of the ring, and of the longest record.
const SLOTS: usize = 3;
const MARGIN: u64 = 1;
const WORDS: usize = 2;

struct Ring {
    slots: [[AtomicU64; WORDS]; SLOTS],
    head: AtomicU64,
}

impl Ring {
    fn new() -> Self {
        let slot = || std::array::from_fn(|_| AtomicU64::new(0));
        Self { slots: std::array::from_fn(|_| slot()), head: AtomicU64::new(0) }
    }

    /// Writes record `number`, each word of which is the number plus 1.
    fn write(&self, number: u64) {
        window::begin();
        for word in &self.slots[number as usize % SLOTS] {
            word.store(number + 1, Ordering::Relaxed);
        }
        window::publish(&self.head, number + 1);
    }

    /// Reads from `tail`; every record must be whole and in its place. Gives the new tail.
    fn read(&self, tail: u64) -> u64 {
        let until = window::published(&self.head);
        let copy = |slot: &[AtomicU64; WORDS]| slot.each_ref().map(|word| word.load(Ordering::Relaxed));
        let copied = window::copy(&self.slots, MARGIN, &self.head, (tail, until), copy);
        for (offset, slot) in copied.slots.iter().enumerate() {
            let number = copied.first + offset as u64;
            assert_eq!(*slot, [number + 1; WORDS], "record {number} is torn or another one");
        }
        assert!(copied.first + copied.slots.len() as u64 == until || copied.slots.is_empty());
        until
    }
}

#[test]
fn records_that_the_reader_keeps_are_whole() {
    let mut builder = loom::model::Builder::new();
    let bound = std::env::var("MODEL_PREEMPTIONS").ok().and_then(|bound| bound.parse().ok());
    builder.preemption_bound = Some(bound.unwrap_or(2));
    builder.check(|| {
        let ring = Arc::new(Ring::new());
        ring.write(0);
        let writer = {
            let ring = ring.clone();
            thread::spawn(move || (1..5).for_each(|number| ring.write(number)))
        };
        let tail = ring.read(0);
        ring.read(tail);
        writer.join().expect("the thread ends");
        assert_eq!(ring.read(5), 5, "nothing is left");
    });
}
