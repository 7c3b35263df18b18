//! Security descriptors that were set on objects, in self-relative form. They are kept and told; nobody is refused by one.
//!
//! Invariant: what was set on an object goes with it, before its address can be another's.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use host_lock::{Mutex, MutexGuard};

static DESCRIPTORS: Mutex<BTreeMap<u64, Arc<[u8]>>> = Mutex::new(BTreeMap::new());
/// Whether there ever was one: most runs have none, and need no lock for each object that goes.
static ANY: AtomicBool = AtomicBool::new(false);

fn descriptors() -> MutexGuard<'static, BTreeMap<u64, Arc<[u8]>>> {
    DESCRIPTORS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Changes the descriptor of an object that the caller holds a reference to: `change` gets the one before, if one was
/// set, and gives the new one.
pub fn change_descriptor(body: u64, change: impl FnOnce(Option<&[u8]>) -> Vec<u8>) {
    ANY.store(true, Ordering::Release);
    let mut descriptors = descriptors();
    let new = change(descriptors.get(&body).map(|old| &**old));
    descriptors.insert(body, new.into());
}

/// The descriptor that was set on an object.
pub fn descriptor(body: u64) -> Option<Arc<[u8]>> {
    descriptors().get(&body).cloned()
}

/// Forgets the descriptor of an object that goes.
pub(crate) fn forget(body: u64) {
    if ANY.load(Ordering::Acquire) {
        descriptors().remove(&body);
    }
}
