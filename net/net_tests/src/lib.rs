//! One description of how a network behaves, held against every network behind [`net_api`].
//!
//! A [`Case`] uses two networks that reach each other and notes what it sees, line by line; it also says what
//! is to be seen. Where a network is known to differ, `differences.toml` has what it shows instead, and why. A
//! case that differs without being listed fails, and so does one that is listed and does not differ.

#![forbid(unsafe_code)]

mod connections;
mod datagrams;
mod differences;
mod listening;
mod world;

pub use differences::{Difference, differences};
pub use world::{Report, World};

/// One way to use a network.
pub struct Case {
    /// Its name, which the differences go by.
    pub name: &'static str,
    /// Does it.
    pub run: fn(&mut World, &mut Report),
    /// What is to be seen.
    pub expected: &'static [&'static str],
}

/// All of them.
pub fn cases() -> Vec<Case> {
    [connections::CASES, listening::CASES, datagrams::CASES]
        .into_iter()
        .flatten()
        .map(|case| Case { ..*case })
        .collect()
}
