//! What the child tells the supervisor beside the trace: results that are no events.
//!
//! One JSON object a line on a pipe, written between driver calls. The supervisor reads it as hostile
//! input (a driver can write to any descriptor of its process): a line it cannot read is ignored, and
//! lines and their number are bounded.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

/// Longest line the supervisor accepts: an action's output in hex fits.
const LINE_MAX: u64 = 4 << 20;
/// Most lines the supervisor accepts.
const LINES_MAX: usize = 10_000;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// A driver could not be loaded or refused to start; the run ends.
    DriverFailed {
        /// File name.
        driver: String,
        /// What is wrong and what to do.
        why: String,
    },
    /// What an action came to.
    Done {
        /// Which of the plan's.
        index: usize,
        /// Final NTSTATUS.
        status: u32,
        /// `IoStatus.Information`.
        information: u64,
        /// Output in hex.
        out: String,
    },
    /// The run came to its end: everything was unloaded and looked over.
    Finished,
}

/// The child's end of the pipe.
#[allow(dead_code, reason = "the child does not run drivers yet")]
#[derive(Debug)]
pub struct Sender(File);

impl Sender {
    /// Sends on `descriptor`.
    pub fn new(descriptor: OwnedFd) -> Self {
        Self(File::from(descriptor))
    }

    /// Sends a message. A supervisor that is gone is no reason to fail: the child dies with it.
    #[allow(dead_code, reason = "the child does not run drivers yet")]
    pub fn send(&mut self, message: &Message) {
        if let Ok(mut line) = serde_json::to_vec(message) {
            line.push(b'\n');
            let _ = self.0.write_all(&line);
        }
    }
}

/// Reads messages until the pipe ends.
pub fn receive_all(descriptor: OwnedFd) -> Vec<Message> {
    let mut reader = BufReader::new(File::from(descriptor));
    let mut messages = Vec::new();
    for _ in 0..LINES_MAX {
        let mut line = Vec::new();
        match reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => messages.extend(serde_json::from_slice(&line).ok()),
        }
    }
    // Keep the pipe drained, so that a child that writes without end blocks nobody but itself.
    let _ = std::io::copy(&mut reader, &mut std::io::sink());
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_between_messages_is_ignored() {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let mut sender = Sender::new(writer.into());
        sender.send(&Message::Finished);
        sender.0.write_all(b"\xFF\x00{not json\n").expect("room in the pipe");
        let failed = Message::DriverFailed { driver: "a.sys".into(), why: "no".into() };
        sender.send(&failed);
        drop(sender);
        assert_eq!(receive_all(reader.into()), [Message::Finished, failed]);
    }
}
