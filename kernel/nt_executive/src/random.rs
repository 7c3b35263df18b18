//! Random numbers of the host, for services that hand some out.
//!
//! A seeded run sets the seed and gets the same numbers again.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;

use nt_dispatcher::executor::Random;

static NUMBERS: LazyLock<Random> = LazyLock::new(|| Random::new(RandomState::new().build_hasher().finish()));

/// Makes all numbers from now on depend on `seed` alone.
pub fn set_seed(seed: u64) {
    NUMBERS.seed(seed);
}

/// The next number.
pub fn next() -> u64 {
    NUMBERS.next()
}
