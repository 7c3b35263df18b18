//! What is known to differ.

use serde::Deserialize;

/// A case that shows something else on one network.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// The network's name.
    pub network: String,
    /// The case's name.
    pub case: String,
    /// Why it differs, and why that is right.
    pub because: String,
    /// What is seen instead.
    pub seen: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    difference: Vec<Difference>,
}

/// The contents of `differences.toml`.
///
/// # Panics
/// If it is not what it should be.
pub fn differences() -> Vec<Difference> {
    let file: File = toml::from_str(include_str!("../differences.toml")).unwrap_or_else(|error| panic!("{error}"));
    file.difference
}
