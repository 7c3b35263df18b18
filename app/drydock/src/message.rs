//! What the child tells the supervisor beside the trace: results that are no events.
//!
//! One JSON object a line on a pipe, written between driver calls. The supervisor reads it as hostile
//! input (a driver can write to any descriptor of its process): a line it cannot read is ignored, and
//! lines and their number are bounded.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use crate::plan::Action;

/// Bytes of a line beside an action's output.
const LINE_BASE: u64 = 64 << 10;
/// Lines beside one for each action.
const LINES_BASE: usize = 16;

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
#[derive(Debug)]
pub struct Sender(File);

impl Sender {
    /// Sends on `descriptor`.
    pub fn new(descriptor: OwnedFd) -> Self {
        Self(File::from(descriptor))
    }

    /// Sends a message. A supervisor that is gone is no reason to fail: the child dies with it.
    pub fn send(&mut self, message: &Message) {
        if let Ok(mut line) = serde_json::to_vec(message) {
            line.push(b'\n');
            let _ = self.0.write_all(&line);
        }
    }
}

/// Reads messages until the pipe ends. No more and no longer lines are kept than a child that carries out `actions` sends,
/// and one answer to each.
pub fn receive_all(descriptor: OwnedFd, actions: &[Action]) -> Vec<Message> {
    let mut reader = BufReader::new(File::from(descriptor));
    let mut messages = Vec::new();
    let mut answered = vec![false; actions.len()];
    // Output is told in hex: two characters a byte.
    let line_max = LINE_BASE + 2 * actions.iter().map(Action::output_max).max().unwrap_or(0);
    for _ in 0..actions.len() + LINES_BASE {
        let mut line = Vec::new();
        match reader.by_ref().take(line_max).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {
                messages.extend(serde_json::from_slice(&line).ok().filter(|message| is_first(message, &mut answered)))
            }
        }
    }
    // Keep the pipe drained, so that a child that writes without end blocks nobody but itself.
    let _ = std::io::copy(&mut reader, &mut std::io::sink());
    messages
}

/// Whether a message is no second answer to an action.
fn is_first(message: &Message, answered: &mut [bool]) -> bool {
    match message {
        Message::Done { index, .. } => {
            answered.get_mut(*index).is_some_and(|answered| !std::mem::replace(answered, true))
        }
        Message::DriverFailed { .. } | Message::Finished => true,
    }
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
        assert_eq!(receive_all(reader.into(), &[]), [Message::Finished, failed]);
    }

    #[test]
    fn output_of_the_largest_action_fits_and_a_second_answer_does_not_count() {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let mut sender = Sender::new(writer.into());
        let out = "00".repeat(300_000);
        let done = Message::Done { index: 0, status: 0, information: 300_000, out };
        let (sent, forged) = (done.clone(), Message::Done { index: 0, status: 1, information: 0, out: String::new() });
        let sending = std::thread::spawn(move || {
            sender.send(&sent);
            sender.send(&forged);
            sender.send(&Message::Done { index: 7, status: 0, information: 0, out: String::new() });
        });
        let actions = [Action::ioctl(r"\Device\A", 0, vec![], 300_000)];
        assert_eq!(receive_all(reader.into(), &actions), [done]);
        sending.join().expect("everything was read");
    }
}
