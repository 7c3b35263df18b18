//! JSON Lines, packet captures and crash files.
//!
//! Formats are documented in `docs/trace-jsonl.md` and `docs/crash-file.md`. Nothing is printed that is not in
//! the records, except names for numbers that the caller supplies.

#![forbid(unsafe_code)]

mod crash;
mod json_lines;
mod pcapng;

pub use crash::Crash;
pub use json_lines::write_json_line;
pub use pcapng::Pcapng;
