//! SLISTs, which lookaside lists are made of: no entry is lost and none is had by two, whoever takes, puts back and flushes
//! meanwhile.

#[path = "../../../kernel/nt_executive/src/lists/sequence.rs"]
mod sequence;

use proves::proves;
use sequence::{Header, Words};
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::sync::{Arc, Mutex};
use shuttle::thread;

const ENTRIES: usize = 3;

/// A header, and entries 16, 32 and 48.
struct List {
    header: Mutex<u128>,
    links: [AtomicU64; ENTRIES],
    /// How many have the entry.
    holders: [AtomicU64; ENTRIES],
}

fn index(entry: u64) -> usize {
    entry as usize / 16 - 1
}

impl Words for List {
    type Fault = ();

    fn glance(&self) -> u128 {
        // One word after the other, as the real one.
        let low = *self.header.lock().expect("no panic") & u128::from(u64::MAX);
        low | *self.header.lock().expect("no panic") >> 64 << 64
    }

    fn exchange(&self, old: u128, new: u128) -> u128 {
        let mut header = self.header.lock().expect("no panic");
        let before = *header;
        if before == old {
            *header = new;
        }
        before
    }

    fn link(&self, entry: u64) -> Result<u64, ()> {
        Ok(self.links[index(entry)].load(Ordering::Relaxed))
    }

    fn set_link(&self, entry: u64, link: u64) {
        self.links[index(entry)].store(link, Ordering::Relaxed);
    }
}

impl List {
    /// With all entries on it.
    fn full() -> Arc<Self> {
        let new = || [const { AtomicU64::new(0) }; ENTRIES];
        let list = Arc::new(Self { header: Mutex::new(0), links: new(), holders: new() });
        (1..=ENTRIES as u64).for_each(|number| _ = sequence::push(&*list, number * 16));
        list
    }

    fn take(&self) -> Option<u64> {
        let entry = sequence::pop(self).expect("links can be read");
        if entry == 0 {
            return None;
        }
        assert_eq!(self.holders[index(entry)].fetch_add(1, Ordering::Relaxed), 0, "{entry} is had by two");
        Some(entry)
    }

    fn put(&self, entry: u64) {
        self.holders[index(entry)].fetch_sub(1, Ordering::Relaxed);
        sequence::push(self, entry);
    }

    /// Takes two and puts them back in the order that a list without a sequence number mistakes for no change.
    fn use_two(&self) {
        let taken: Vec<u64> = (0..2).filter_map(|_| self.take()).collect();
        taken.into_iter().for_each(|entry| self.put(entry));
    }

    /// The entries in order; nobody else uses the list.
    fn drain(&self) -> Vec<u64> {
        let depth = Header::of(self.glance()).depth;
        let entries: Vec<u64> = std::iter::from_fn(|| self.take()).collect();
        assert_eq!(usize::from(depth), entries.len());
        entries
    }
}

fn explore(model: impl Fn() + Send + Sync + Clone + 'static) {
    let schedules = std::env::var("MODEL_SCHEDULES").ok().and_then(|number| number.parse().ok()).unwrap_or(1000);
    shuttle::check_random(model.clone(), schedules);
    shuttle::check_pct(model, schedules, 3);
}

#[test]
#[proves("K-139")]
fn entries_that_come_back_between_a_look_and_its_exchange_are_noticed() {
    explore(|| {
        let list = List::full();
        let users: Vec<_> = (0..2)
            .map(|_| {
                let list = list.clone();
                thread::spawn(move || list.use_two())
            })
            .collect();
        list.use_two();
        users.into_iter().for_each(|user| user.join().expect("the thread ends"));
        let mut left = list.drain();
        left.sort_unstable();
        assert_eq!(left, [16, 32, 48]);
    });
}

#[test]
#[proves("K-139")]
fn flush_beside_a_push_and_a_pop_takes_what_is_there_once() {
    explore(|| {
        let list = List::full();
        let user = {
            let list = list.clone();
            thread::spawn(move || list.take().into_iter().for_each(|entry| list.put(entry)))
        };
        let mut entry = sequence::flush(&*list);
        let mut flushed = Vec::new();
        while entry != 0 {
            assert_eq!(list.holders[index(entry)].load(Ordering::Relaxed), 0, "{entry} is had by two");
            flushed.push(entry);
            entry = list.link(entry).expect("links can be read");
        }
        user.join().expect("the thread ends");
        flushed.extend(list.drain());
        flushed.sort_unstable();
        assert_eq!(flushed, [16, 32, 48]);
    });
}
