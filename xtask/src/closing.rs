//! The test runner's closing line: `cargo test` prints one per test binary, and nobody adds them up.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// Sums over all test binaries of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closing {
    pub passed: u64,
    pub failed: u64,
    /// Test binaries that ended without a closing line of their own.
    pub broken: u64,
}

impl Closing {
    /// Whether every test passed.
    pub fn is_success(&self) -> bool {
        self.failed + self.broken == 0
    }

    /// Adds a line of the runner's output, if it is a closing line.
    fn add_line(&mut self, line: &str) {
        let Some(counts) = line.strip_prefix("test result: ") else {
            // What cargo says of a binary that crashed, was killed, or did not compile.
            self.broken += u64::from(line.contains("process didn't exit successfully") && line.contains("signal:"));
            return;
        };
        let count = |what: &str| {
            let words = counts.split([';', '.']).map(str::trim).find_map(|part| part.strip_suffix(what));
            words.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or_default()
        };
        self.passed += count("passed");
        self.failed += count("failed");
    }
}

impl fmt::Display for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed + self.broken)
    }
}

/// Runs a test command, shows its output as it comes, and adds it up.
pub fn run(command: &mut Command) -> Result<Closing> {
    // One pipe for both streams, so that lines keep their order.
    let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    command.stdout(writer.try_clone().context("cannot share a pipe")?).stderr(writer).stdin(Stdio::null());
    let mut child = command.spawn().context("cannot start cargo")?;
    // The command keeps its ends of the pipe open until it is told to use others.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut closing = Closing::default();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.context("reading the output of cargo")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        closing.add_line(&line);
    }
    let succeeded = child.wait().context("waiting for cargo")?.success();
    if !succeeded && closing.failed == 0 {
        // Tests that did not compile have no closing line, but they did not pass either.
        closing.broken = closing.broken.max(1);
    }
    Ok(closing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_of_all_binaries_are_added_up() {
        let mut closing = Closing::default();
        for line in [
            "running 3 tests",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.08s",
            "test result: FAILED. 10 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.50s",
            "all doctests ran in 0.19s; merged doctests compilation took 0.18s",
        ] {
            closing.add_line(line);
        }
        assert_eq!(closing, Closing { passed: 13, failed: 2, broken: 0 });
        assert_eq!(closing.to_string(), "13 passed, 2 failed");
    }

    #[test]
    fn binary_that_was_killed_counts_as_failed() {
        let mut closing = Closing::default();
        closing.add_line(
            "  process didn't exit successfully: `gate-0123` (signal: 11, SIGSEGV: invalid memory reference)",
        );
        assert_eq!(closing.to_string(), "0 passed, 1 failed");
    }

    #[test]
    fn output_of_both_streams_is_read_and_the_status_seen() {
        let script =
            "echo 'test result: ok. 2 passed; 0 failed;'; echo 'test result: ok. 1 passed; 0 failed;' >&2; exit 1";
        let closing = run(Command::new("sh").args(["-c", script])).expect("sh can be started");
        assert_eq!(closing, Closing { passed: 3, failed: 0, broken: 1 });
        assert!(!closing.is_success());
    }
}
