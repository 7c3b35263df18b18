//! Random numbers of the host, for services that hand some out.
//!
//! A seeded run sets the seed and gets the same numbers again.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

static STATE: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(RandomState::new().build_hasher().finish()));

/// Makes all numbers from now on depend on `seed` alone.
pub fn set_seed(seed: u64) {
    STATE.store(seed, Ordering::Relaxed);
}

/// The next number (SplitMix64).
pub fn next() -> u64 {
    const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut number = STATE.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
    number = (number ^ number >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    number = (number ^ number >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ number >> 31
}
