//! A file server that speaks as much HTTP/1.1 as any client needs for GET and HEAD.

use crate::network_file::{Content, Script};

use super::{Act, Moved, PIECE, Stream, pattern};

/// A longer request is not answered.
const HEAD_MAX: usize = 8192;

/// One connection to the server.
pub(crate) struct Http {
    peer: usize,
    /// What has come of the next request.
    request: Vec<u8>,
    answer: Option<Answer>,
    has_ended: bool,
}

struct Answer {
    head: Vec<u8>,
    body: Content,
    /// Bytes sent of head and body together.
    sent: u64,
    length: u64,
    is_last: bool,
}

impl Http {
    pub(super) fn new(peer: usize) -> Self {
        Self { peer, request: Vec::new(), answer: None, has_ended: false }
    }

    pub(super) fn act(&mut self, stream: &mut Stream<'_>) -> Act {
        loop {
            if let Some(answer) = &mut self.answer {
                match answer.send(stream) {
                    Moved::All if answer.is_last => return Act::Close,
                    Moved::All => self.answer = None,
                    Moved::Blocked => return Act::Wait,
                    Moved::Ended | Moved::Gone => return Act::Close,
                }
            } else if let Some(end) = end_of_head(&self.request) {
                let head: Vec<u8> = self.request.drain(..end).collect();
                let Script::Http(files) = &stream.world.peers[self.peer].script else { return Act::Close };
                self.answer = Some(Answer::to(&head, |path| files.get(path).cloned()));
            } else if self.request.len() > HEAD_MAX {
                self.request.clear();
                self.answer = Some(Answer::refusal("431 Request Header Fields Too Large", true));
            } else if self.has_ended {
                return Act::Close;
            } else {
                let mut piece = [0; PIECE];
                let (moved, count) = stream.receive(&mut piece);
                self.request.extend_from_slice(&piece[..count]);
                match moved {
                    Moved::All => {}
                    Moved::Blocked => return Act::Wait,
                    Moved::Ended => self.has_ended = true,
                    Moved::Gone => return Act::Close,
                }
            }
        }
    }
}

/// Where the empty line ends that ends the head of a request.
fn end_of_head(request: &[u8]) -> Option<usize> {
    let end = request.windows(4).take(HEAD_MAX).position(|window| window == b"\r\n\r\n")?;
    Some(end + 4)
}

impl Answer {
    fn to(head: &[u8], file: impl FnOnce(&str) -> Option<Content>) -> Self {
        let head = String::from_utf8_lossy(head);
        let mut lines = head.split("\r\n");
        let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
        let [method, path, version @ ("HTTP/1.1" | "HTTP/1.0")] = words[..] else {
            return Self::refusal("400 Bad Request", true);
        };
        let wish = lines.filter_map(|line| line.split_once(':'));
        let wish = wish.filter(|(name, _)| name.eq_ignore_ascii_case("connection")).map(|(_, value)| value.trim());
        let keeps_open = wish.last().map(|value| value.eq_ignore_ascii_case("keep-alive"));
        let is_last = !keeps_open.unwrap_or(version == "HTTP/1.1");
        if method != "GET" && method != "HEAD" {
            // Its body, if it has one, would be taken for the next request.
            return Self::refusal("405 Method Not Allowed", true);
        }
        match file(path) {
            Some(body) => Self::new("200 OK", body, method == "HEAD", is_last),
            None => Self::new("404 Not Found", Content::Text("not found\n".into()), method == "HEAD", is_last),
        }
    }

    fn refusal(status: &str, is_last: bool) -> Self {
        Self::new(status, Content::Text(String::new()), false, is_last)
    }

    fn new(status: &str, body: Content, is_head_only: bool, is_last: bool) -> Self {
        let (kind, length) = match &body {
            Content::Text(text) => ("text/plain; charset=utf-8", text.len() as u64),
            Content::Length(length) => ("application/octet-stream", *length),
        };
        let connection = if is_last { "close" } else { "keep-alive" };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\r\n"
        );
        let body_length = if is_head_only { 0 } else { length };
        let length = head.len() as u64 + body_length;
        Self { head: head.into_bytes(), body, sent: 0, length, is_last }
    }

    fn send(&mut self, stream: &mut Stream<'_>) -> Moved {
        while self.sent < self.length {
            let piece = self.piece();
            let (moved, count) = stream.send(&piece);
            self.sent += count as u64;
            if !matches!(moved, Moved::All) {
                return moved;
            }
        }
        Moved::All
    }

    /// The next bytes to be sent.
    fn piece(&self) -> Vec<u8> {
        let head = self.head.len() as u64;
        if self.sent < head {
            return self.head[self.sent as usize..].to_vec();
        }
        let from = self.sent - head;
        let to = (from + PIECE as u64).min(self.length - head);
        match &self.body {
            Content::Text(text) => text.as_bytes()[from as usize..to as usize].to_vec(),
            Content::Length(_) => (from..to).map(pattern).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head_of(request: &str) -> String {
        let answer = Answer::to(request.as_bytes(), |path| (path == "/").then(|| Content::Text("hello".into())));
        String::from_utf8(answer.head).unwrap()
    }

    #[test]
    fn requests_are_answered_by_method_path_and_version() {
        assert!(head_of("GET / HTTP/1.1\r\n\r\n").contains("200 OK\r\n"));
        assert!(head_of("GET / HTTP/1.1\r\n\r\n").contains("Connection: keep-alive\r\n"));
        assert!(head_of("GET / HTTP/1.0\r\n\r\n").contains("Connection: close\r\n"));
        assert!(head_of("GET / HTTP/1.1\r\nConnection: close\r\n\r\n").contains("Connection: close\r\n"));
        assert!(head_of("GET /x HTTP/1.1\r\n\r\n").contains("404 Not Found\r\n"));
        assert!(head_of("POST / HTTP/1.1\r\n\r\n").contains("405 Method Not Allowed\r\n"));
        assert!(head_of("nonsense\r\n\r\n").contains("400 Bad Request\r\n"));
    }

    #[test]
    fn head_request_names_the_length_and_sends_no_body() {
        let answer = Answer::to(b"HEAD / HTTP/1.1\r\n\r\n", |_| Some(Content::Length(1000)));
        assert!(String::from_utf8_lossy(&answer.head).contains("Content-Length: 1000\r\n"));
        assert_eq!(answer.length, answer.head.len() as u64);
    }
}
