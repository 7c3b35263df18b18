//! Rules about the life of file objects.
//!
//! A file is judged from its create request on, and stays known after its deletion until its address is used
//! for another: what happens to it then is a finding too.

use std::collections::HashMap;

use trace::OpenKind;

use crate::{Findings, Sent};

/// Most event handlers of one file that are followed at once; there is a thread for each.
const HANDLERS_MAX: usize = 256;

/// The files that are watched.
#[derive(Debug, Default)]
pub struct Files {
    known: HashMap<u64, File>,
    /// The last handle that each thread closed: its file, and how many were left. What a cleanup is for stands right in front of
    /// it on its own thread, but among the events of others perhaps in front of the file's very beginning.
    closed: HashMap<u16, (u64, u32)>,
}

#[derive(Debug, Default)]
struct File {
    kind: Option<OpenKind>,
    path: String,
    /// The create request failed.
    refused: bool,
    cleanups: u32,
    /// Event number of the first cleanup request.
    cleanup_at: u64,
    /// The cleanup request was completed, and every thread can know it.
    cleaned: bool,
    closes: u32,
    /// Threads in event handlers of this file.
    handlers: Vec<u16>,
}

impl Files {
    /// How many there are.
    pub fn watched(&self) -> usize {
        self.known.len()
    }

    /// A request was sent to the file's device.
    pub fn requested(&mut self, sent: &Sent, findings: &mut Findings) {
        let Sent { number, thread, file, functions, .. } = *sent;
        if functions.is_create() {
            self.known.insert(file, File::default());
            return;
        }
        let left = match self.closed.get(&thread) {
            Some(&(closed, left)) if closed == file && functions.is_cleanup() => {
                self.closed.remove(&thread);
                Some(left)
            }
            _ => None,
        };
        let Some(entry) = self.known.get_mut(&file) else { return };
        if entry.closes == 0 && !functions.is_cleanup() && !functions.is_close() {
            return;
        }
        let name = entry.name(file);
        if functions.is_cleanup() {
            entry.cleanups += 1;
            match entry {
                File { refused: true, .. } => {
                    findings.add("C-081", number, format!("IRP_MJ_CLEANUP for {name} whose open failed"))
                }
                File { closes: 1.., .. } => {
                    findings.add("C-135", number, format!("IRP_MJ_CLEANUP for {name} after its IRP_MJ_CLOSE"))
                }
                // A further handle, made from the pointer, brings a further cleanup when it is closed (C-567).
                File { cleanups: 2.., .. } if left != Some(0) => {
                    findings.add("C-133", number, format!("a second IRP_MJ_CLEANUP for {name}"))
                }
                File { .. } if left > Some(0) => {
                    findings.add("C-139", number, format!("IRP_MJ_CLEANUP for {name} while handles to it are open"));
                    entry.cleanup_at = number;
                }
                File { cleanups: 2.., .. } => {}
                _ => entry.cleanup_at = number,
            }
        } else if functions.is_close() {
            entry.closes += 1;
            match entry {
                File { refused: true, .. } => {
                    findings.add("C-081", number, format!("IRP_MJ_CLOSE for {name} whose open failed"))
                }
                File { closes: 2.., .. } => findings.add("C-134", number, format!("a second IRP_MJ_CLOSE for {name}")),
                File { cleanups: 0, .. } => {
                    findings.add("C-135", number, format!("IRP_MJ_CLOSE for {name} without IRP_MJ_CLEANUP before it"))
                }
                _ => {}
            }
        } else {
            let message = format!("a request was sent to {name} after its IRP_MJ_CLOSE");
            findings.add_running("C-172", number, message, thread);
        }
    }

    /// The create request failed.
    pub fn refused(&mut self, file: u64) {
        if let Some(entry) = self.known.get_mut(&file) {
            entry.refused = true;
        }
    }

    /// Begins anew.
    pub fn forget_all(&mut self) {
        self.known.clear();
    }

    /// It cannot be told what becomes of it.
    pub fn forget(&mut self, file: u64) {
        self.known.remove(&file);
    }

    /// The open succeeded.
    pub fn opened(&mut self, file: u64, kind: OpenKind, path: &str) {
        // Its create request may lie before a gap; cleanup and close are still to come, or there would be no file.
        let entry = self.known.entry(file).or_default();
        if entry.closes > 0 {
            *entry = File::default();
        }
        entry.kind = Some(kind);
        entry.path = path.into();
    }

    /// One of its handles was closed, and `remaining` are left.
    pub fn handle_closed(&mut self, file: u64, thread: u16, remaining: u32) {
        self.closed.insert(thread, (file, remaining));
    }

    /// The file object is gone.
    pub fn deleted(&mut self, number: u64, file: u64, findings: &mut Findings) {
        let Some(entry) = self.known.get(&file) else { return };
        if !entry.refused && entry.closes == 0 {
            findings.add("C-134", number, format!("{} was deleted without IRP_MJ_CLOSE", entry.name(file)));
        }
    }

    /// Its cleanup was completed by `thread`. Returns the number of the event that began it, if requests must be over
    /// now.
    pub fn cleaned(&mut self, file: u64, thread: u16, findings: &mut Findings) -> Option<u64> {
        let entry = self.known.get_mut(&file)?;
        entry.cleaned = true;
        // The return of a handler stands in the events no later than it was: it is certainly still running. On the
        // thread of the cleanup itself there is nothing to wait for.
        if entry.handlers.iter().any(|&handler| handler != thread) {
            let message = format!("an event handler of {} still ran when its cleanup completed", entry.name(file));
            findings.add("C-569", None, message);
        }
        // Devices that are no transports may let requests outlive the cleanup.
        matches!(entry.kind, Some(kind) if kind != OpenKind::Device).then_some(entry.cleanup_at)
    }

    /// An event handler is called for it.
    pub fn indicated(&mut self, number: u64, file: u64, thread: u16, findings: &mut Findings) {
        let Some(entry) = self.known.get_mut(&file) else { return };
        if entry.handlers.len() < HANDLERS_MAX {
            entry.handlers.push(thread);
        }
        if !entry.cleaned {
            return;
        }
        let rule = if entry.kind == Some(OpenKind::TransportAddress) { "C-162" } else { "C-163" };
        findings.add(
            rule,
            number,
            format!("an event handler is called for {} after its cleanup completed", entry.name(file)),
        );
    }

    /// The event handler returned.
    pub fn indication_returned(&mut self, file: u64, thread: u16) {
        let Some(entry) = self.known.get_mut(&file) else { return };
        if let Some(index) = entry.handlers.iter().rposition(|&handler| handler == thread) {
            entry.handlers.remove(index);
        }
    }

    /// The remote node was told of its end.
    pub fn remote_told(&self, number: u64, file: u64, findings: &mut Findings) {
        let Some(entry) = self.known.get(&file).filter(|entry| entry.closes > 0) else { return };
        let name = entry.name(file);
        findings.add(
            "C-171",
            number,
            format!("the remote node was told of the end of {name} only after its IRP_MJ_CLOSE"),
        );
    }
}

impl File {
    fn name(&self, file: u64) -> String {
        let kind = match self.kind {
            Some(OpenKind::TransportAddress) => "transport address",
            Some(OpenKind::ConnectionEndpoint) => "connection endpoint",
            Some(OpenKind::ControlChannel) => "control channel",
            Some(OpenKind::Device) | None => "file object",
        };
        match self.path.as_str() {
            "" => format!("{kind} {file:#x}"),
            path => format!("{kind} {file:#x} ({path})"),
        }
    }
}
