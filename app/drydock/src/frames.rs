//! The packets of a simulated network on their way from the child to a capture file.
//!
//! The child writes records to a pipe, the supervisor writes the file: what a driver can reach must not spoil it. Records
//! are read as hostile input: a length or a wire that cannot be ends the capture.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::OwnedFd;

use export::Pcapng;
use sim_net::{Frame, FrameSink};

/// Longest packet there is.
const PACKET_MAX: usize = 1 << 16;
/// Bytes in front of a packet: its length, its time in nanoseconds, its wire, the length of the comment.
const HEADER: usize = 4 + 8 + 4 + 4;
/// Longest comment.
const COMMENT_MAX: usize = 256;

/// The child's end.
pub struct Writer(BufWriter<File>);

impl Writer {
    /// Writes to `pipe`.
    pub fn new(pipe: OwnedFd) -> Self {
        Self(BufWriter::new(File::from(pipe)))
    }
}

impl FrameSink for Writer {
    fn record(&mut self, frame: &Frame<'_>) {
        let comment = frame.fate.comment().unwrap_or_default().as_bytes();
        let mut record = Vec::with_capacity(HEADER + comment.len() + frame.bytes.len());
        record.extend((frame.bytes.len() as u32).to_le_bytes());
        record.extend(frame.at.as_nanoseconds().to_le_bytes());
        record.extend((frame.wire as u32).to_le_bytes());
        record.extend((comment.len() as u32).to_le_bytes());
        record.extend(comment);
        record.extend(frame.bytes);
        // A supervisor that is gone is no reason to fail. Flushed at once: the child may end at any moment.
        let _ = self.0.write_all(&record).and_then(|()| self.0.flush());
    }
}

/// Reads records until the pipe ends and writes them to `output`, with an interface for each of `wires`.
///
/// # Errors
/// What writing says; InvalidData for a record that cannot be, after everything before it was written.
pub fn capture(pipe: OwnedFd, output: File, wires: &[String]) -> io::Result<()> {
    let mut pipe = BufReader::new(File::from(pipe));
    let mut capture = Pcapng::new(BufWriter::new(output), wires)?;
    let outcome = copy(&mut pipe, &mut capture);
    // Keeps the pipe drained, so that the child blocks nobody.
    let _ = io::copy(&mut pipe, &mut io::sink());
    capture.finish()?.flush()?;
    outcome
}

fn copy<W: Write>(pipe: &mut impl Read, capture: &mut Pcapng<W>) -> io::Result<()> {
    let mut header = [0; HEADER];
    let mut body = vec![0; COMMENT_MAX + PACKET_MAX];
    loop {
        match pipe.read_exact(&mut header) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        }
        let (length, at, wire, comment_length) = fields(&header);
        if length > PACKET_MAX || comment_length > COMMENT_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let body = &mut body[..comment_length + length];
        pipe.read_exact(body)?;
        let (comment, packet) = body.split_at(comment_length);
        let comment = String::from_utf8_lossy(comment);
        capture.add(wire, at, packet, (!comment.is_empty()).then_some(&comment))?;
    }
}

fn fields(header: &[u8; HEADER]) -> (usize, u64, u32, usize) {
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let at = u64::from(word(4)) | u64::from(word(8)) << 32;
    (word(0) as usize, at, word(12), word(16) as usize)
}

#[cfg(test)]
mod tests {
    use net_api::NetTime;
    use sim_net::Fate;

    use super::*;

    fn captured(write: impl FnOnce(&mut Writer, &mut File)) -> (io::Result<()>, Vec<u8>) {
        let (reader, writer) = io::pipe().expect("a pipe");
        let mut raw = File::from(OwnedFd::from(writer.try_clone().expect("a second end")));
        let mut sink = Writer::new(writer.into());
        write(&mut sink, &mut raw);
        drop((sink, raw));
        let path = std::env::temp_dir().join(format!("drydock-frames-{:?}", std::thread::current().id()));
        let outcome = capture(reader.into(), File::create(&path).expect("a file"), &["a-b".into()]);
        let bytes = std::fs::read(&path).expect("the capture");
        let _ = std::fs::remove_file(&path);
        (outcome, bytes)
    }

    fn frame(bytes: &[u8], fate: Fate) -> Frame<'_> {
        Frame { at: NetTime::from_nanoseconds(7), wire: 0, bytes, fate }
    }

    fn contains(all: &[u8], part: &[u8]) -> bool {
        all.windows(part.len()).any(|window| window == part)
    }

    #[test]
    fn packets_and_comments_arrive_in_the_file() {
        let (outcome, bytes) = captured(|sink, _| {
            sink.record(&frame(b"first packet", Fate::Arrives));
            sink.record(&frame(b"second packet", Fate::Lost));
        });
        outcome.expect("well formed records");
        assert!(contains(&bytes, b"first packet") && contains(&bytes, b"second packet") && contains(&bytes, b"lost"));
    }

    #[test]
    fn record_that_cannot_be_ends_the_capture_and_keeps_what_came_before() {
        let (outcome, bytes) = captured(|sink, raw| {
            sink.record(&frame(b"good packet", Fate::Arrives));
            raw.write_all(&[0xFF; HEADER]).expect("room in the pipe");
        });
        assert_eq!(outcome.map_err(|error| error.kind()), Err(io::ErrorKind::InvalidData));
        assert!(contains(&bytes, b"good packet"));
    }
}
