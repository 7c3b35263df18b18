//! Waiting for a debugger: the drivers are mapped, none has run, and the user is told how to attach.
//!
//! The child stands in a read of its standard input. It gets its byte once a debugger is attached, and reads it once that
//! lets it go on.

use std::io::Write;
use std::path::Path;
use std::process::ChildStdin;

use pe_image::Headers;
use trace::{ImageRecord, TraceReader};

use crate::plan::Plan;

/// Signals that drivers' code may cause in good order, since the host serves them. Not SIGTRAP, which is gdb's own.
const SERVED: &str = "handle SIGSEGV SIGBUS SIGILL SIGFPE SIGSYS SIGUSR2 nostop noprint pass";

/// A child that waits for its debugger.
pub struct Waiting {
    id: u32,
    go: ChildStdin,
    to: Box<dyn Write>,
    told: bool,
}

impl Waiting {
    /// The child `id` goes on when it can read from `go`.
    pub fn new(id: u32, go: ChildStdin, to: Box<dyn Write>) -> Self {
        Self { id, go, to, told: false }
    }

    /// Says how to attach once all drivers are mapped, and lets the child go on once a debugger is there. Whether it is.
    pub fn look(&mut self, plan: &Plan, reader: &TraceReader) -> bool {
        if !self.told {
            let images = reader.images();
            if images.len() < plan.drivers.len() {
                return false;
            }
            self.told = true;
            // Nobody who reads it is nobody who attaches; there is still Ctrl-C.
            let _ = self.to.write_all(in_words(self.id, plan, &images).as_bytes()).and_then(|()| self.to.flush());
        }
        let attached = is_traced(self.id);
        if attached {
            // A child that is gone will be explained by its end.
            let _ = self.go.write_all(b"\n");
        }
        attached
    }
}

/// Whether a debugger is attached to the process.
fn is_traced(id: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_some_and(|tracer| tracer.trim() != "0")
}

fn in_words(id: u32, plan: &Plan, images: &[ImageRecord]) -> String {
    let mut text = format!(
        "gdb: the drivers are mapped and none has run. Start 'gdb -p {id}' in another terminal and say there:\n{SERVED}\n"
    );
    for (path, image) in plan.drivers.iter().zip(images) {
        text.push_str(&symbol_line(path, image.base));
    }
    text.push_str("Then set breakpoints and say 'continue': DriverEntry is called.\n");
    text
}

/// Tells gdb where the sections of an image lie.
fn symbol_line(path: &Path, base: u64) -> String {
    let whole = path.canonicalize().unwrap_or_else(|_| path.into());
    let headers = std::fs::read(path).ok().and_then(|bytes| Headers::read(&bytes).ok());
    let sections = headers.map(|headers| headers.sections).unwrap_or_default();
    let mut line = format!("add-symbol-file \"{}\"", whole.display());
    // Debug information is not loaded, and gdb takes section names without spaces only.
    let loaded = |name: &str| !name.starts_with(".debug") && !name.starts_with('/') && !name.is_empty();
    let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_graphic());
    for section in sections.iter().filter(|section| loaded(&section.name) && plain(&section.name)) {
        line.push_str(&format!(" -s {} {:#x}", section.name, base + u64::from(section.offset)));
    }
    line.push('\n');
    line
}
