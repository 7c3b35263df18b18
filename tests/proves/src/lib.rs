//! Marks tests with the rules they prove.
//!
//! ```
//! # // `#[test]` functions are not compiled into doc tests; this one is called by hand.
//! use proves::proves;
//!
//! #[proves("C-000")]
//! fn cleanup_precedes_close() {
//!     assert!(1 < 2);
//! }
//! # cleanup_precedes_close();
//! ```
//!
//! A marked test that passes appends a line `rule <tab> crate <tab> test path` per rule to the file that the environment
//! variable [`PROOFS`] names, and writes nothing where it is unset. `cargo xtask rules` makes the rule table from that file, so
//! a rule counts as proven only if a test that names it ran and passed.
//!
//! Invariants: a test that panics or returns `Err` is not recorded; the lines of one test are written by one append, so that
//! test processes running side by side share the file.

#![forbid(unsafe_code)]

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

pub use proves_macro::proves;

/// The environment variable that names the file proofs are appended to.
pub const PROOFS: &str = "DRYDOCK_PROOFS";

/// What a test function may return.
pub trait Outcome {
    /// Whether returning this value means that the test passed.
    fn passed(&self) -> bool;
}

impl Outcome for () {
    fn passed(&self) -> bool {
        true
    }
}

impl<T: Outcome, E> Outcome for Result<T, E> {
    fn passed(&self) -> bool {
        self.as_ref().is_ok_and(T::passed)
    }
}

/// Notes that `test` of `package` returned `outcome`. Called by the code that [`macro@proves`] generates.
///
/// # Panics
/// Where the file named by [`PROOFS`] cannot be written: a proof must not get lost in silence.
pub fn record(rules: &[&str], package: &str, test: &str, outcome: &impl Outcome) {
    let Some(file) = std::env::var_os(PROOFS) else { return };
    if outcome.passed() {
        append(Path::new(&file), rules, package, test)
            .unwrap_or_else(|error| panic!("{PROOFS}={}: {error}", file.display()));
    }
}

fn append(file: &Path, rules: &[&str], package: &str, test: &str) -> io::Result<()> {
    let lines: String = rules.iter().map(|rule| format!("{rule}\t{package}\t{test}\n")).collect();
    OpenOptions::new().create(true).append(true).open(file)?.write_all(lines.as_bytes())
}
