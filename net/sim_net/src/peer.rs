//! Scripted peers: what stands at the other end when no driver does.

mod http;

use std::io::{IoSlice, IoSliceMut};

use net_api::{Received, Sent};

use crate::connection::Owner;
use crate::link::nanoseconds;
use crate::network_file::{After, Client, Script};
use crate::slab::Id;
use crate::world::{Event, World};

pub(crate) use http::Http;

/// Bytes moved at a time.
const PIECE: usize = 16_384;

/// The byte at `offset` of everything that a source sends and of files that are given by length.
pub(crate) fn pattern(offset: u64) -> u8 {
    (offset % 251) as u8
}

/// What a peer does on one connection.
pub(crate) enum Play {
    Echo { bytes: Vec<u8>, sent: usize, has_ended: bool },
    Sink,
    Source { offset: u64, length: u64 },
    Http(Http),
    Reset { left: u64 },
    Silent,
    HalfClose { text: Vec<u8>, sent: usize },
    Client { text: Vec<u8>, sent: usize, received: usize, then: After, has_ended: bool },
}

/// What becomes of the connection.
pub(crate) enum Act {
    Wait,
    Close,
    Reset,
}

/// What became of moving bytes.
enum Moved {
    All,
    /// Waits for room, or for bytes.
    Blocked,
    /// The remote side has ended its direction.
    Ended,
    /// The connection is gone.
    Gone,
}

impl Play {
    pub(crate) fn new(peer: usize, script: &Script) -> Self {
        match script {
            Script::Echo => Self::Echo { bytes: Vec::new(), sent: 0, has_ended: false },
            Script::Sink => Self::Sink,
            Script::Source(length) => Self::Source { offset: 0, length: *length },
            Script::Http(_) => Self::Http(Http::new(peer)),
            Script::Reset(left) => Self::Reset { left: *left },
            Script::Silent | Script::Ignore => Self::Silent,
            Script::HalfClose(text) => Self::HalfClose { text: text.clone().into_bytes(), sent: 0 },
            Script::Client(Client { text, then, .. }) => {
                let text = text.clone().into_bytes();
                Self::Client { text, sent: 0, received: 0, then: *then, has_ended: false }
            }
        }
    }

    /// Does what can be done now.
    pub(crate) fn act(&mut self, stream: &mut Stream<'_>) -> Act {
        match self {
            Self::Echo { bytes, sent, has_ended } => act_echo(stream, bytes, sent, has_ended),
            Self::Sink => drain_to_end(stream),
            Self::Source { offset, length } => act_source(stream, offset, *length),
            Self::Http(http) => http.act(stream),
            Self::Reset { left } => act_reset(stream, left),
            Self::Silent => {
                if stream.is_over() {
                    Act::Close
                } else {
                    Act::Wait
                }
            }
            Self::HalfClose { text, sent } => match send_rest(stream, text, sent) {
                Moved::All => {
                    stream.shutdown();
                    drain_to_end(stream)
                }
                Moved::Blocked => drain(stream),
                Moved::Ended | Moved::Gone => Act::Close,
            },
            Self::Client { text, sent, received, then, has_ended } => {
                act_client(stream, text, sent, received, *then, has_ended)
            }
        }
    }
}

fn act_echo(stream: &mut Stream<'_>, bytes: &mut Vec<u8>, sent: &mut usize, has_ended: &mut bool) -> Act {
    loop {
        match send_rest(stream, bytes, sent) {
            Moved::All if *has_ended => return Act::Close,
            Moved::All => {}
            Moved::Blocked => return Act::Wait,
            Moved::Ended | Moved::Gone => return Act::Close,
        }
        bytes.resize(PIECE, 0);
        *sent = 0;
        let (moved, count) = stream.receive(bytes);
        bytes.truncate(count);
        match moved {
            Moved::All => {}
            Moved::Blocked => return Act::Wait,
            Moved::Ended => *has_ended = true,
            Moved::Gone => return Act::Close,
        }
    }
}

fn act_source(stream: &mut Stream<'_>, offset: &mut u64, length: u64) -> Act {
    while *offset < length {
        let count = (length - *offset).min(PIECE as u64);
        let piece: Vec<u8> = (*offset..*offset + count).map(pattern).collect();
        let (moved, count) = stream.send(&piece);
        *offset += count as u64;
        match moved {
            Moved::All => {}
            Moved::Blocked => return drain(stream),
            Moved::Ended | Moved::Gone => return Act::Close,
        }
    }
    stream.shutdown();
    drain_to_end(stream)
}

fn act_reset(stream: &mut Stream<'_>, left: &mut u64) -> Act {
    let mut piece = [0; PIECE];
    while *left > 0 {
        let wanted = usize::try_from(*left).unwrap_or(usize::MAX).min(PIECE);
        let (moved, count) = stream.receive(&mut piece[..wanted]);
        *left -= count as u64;
        match moved {
            Moved::All => {}
            Moved::Blocked => return Act::Wait,
            Moved::Ended | Moved::Gone => return Act::Close,
        }
    }
    Act::Reset
}

fn act_client(
    stream: &mut Stream<'_>,
    text: &[u8],
    sent: &mut usize,
    received: &mut usize,
    then: After,
    has_ended: &mut bool,
) -> Act {
    if let Moved::Gone = send_rest(stream, text, sent) {
        return Act::Close;
    }
    let mut piece = [0; PIECE];
    while !*has_ended {
        let (moved, count) = stream.receive(&mut piece);
        *received += count;
        match moved {
            Moved::All => {}
            Moved::Blocked => break,
            Moved::Ended => *has_ended = true,
            Moved::Gone => return Act::Close,
        }
    }
    let is_done = *has_ended || *sent == text.len() && *received >= text.len();
    match then {
        After::Close if is_done => Act::Close,
        After::Reset if is_done => Act::Reset,
        After::Stay if *has_ended => Act::Close,
        After::Close | After::Reset | After::Stay => Act::Wait,
    }
}

/// Takes whatever comes, and has something to send yet: the end of the other direction changes nothing about that.
fn drain(stream: &mut Stream<'_>) -> Act {
    let mut piece = [0; PIECE];
    loop {
        match stream.receive(&mut piece).0 {
            Moved::All => {}
            Moved::Blocked | Moved::Ended => return Act::Wait,
            Moved::Gone => return Act::Close,
        }
    }
}

/// Takes whatever comes; closes when the remote side has ended.
fn drain_to_end(stream: &mut Stream<'_>) -> Act {
    let mut piece = [0; PIECE];
    loop {
        match stream.receive(&mut piece).0 {
            Moved::All => {}
            Moved::Blocked => return Act::Wait,
            Moved::Ended | Moved::Gone => return Act::Close,
        }
    }
}

fn send_rest(stream: &mut Stream<'_>, bytes: &[u8], sent: &mut usize) -> Moved {
    let (moved, count) = stream.send(&bytes[*sent..]);
    *sent += count;
    moved
}

/// A connection as a peer uses it.
pub(crate) struct Stream<'a> {
    pub(crate) world: &'a mut World,
    pub(crate) id: Id,
}

impl Stream<'_> {
    /// Sends as much as there is room for.
    fn send(&mut self, bytes: &[u8]) -> (Moved, usize) {
        match self.world.send(self.id, &[IoSlice::new(bytes)]) {
            Sent::Taken(count) if count == bytes.len() => (Moved::All, count),
            Sent::Taken(count) => (Moved::Blocked, count),
            Sent::WouldBlock => (Moved::Blocked, 0),
            Sent::Failed(_) => (Moved::Gone, 0),
        }
    }

    /// Receives once.
    fn receive(&mut self, into: &mut [u8]) -> (Moved, usize) {
        match self.world.receive(self.id, &mut [IoSliceMut::new(into)]) {
            Received::Got(count) => (Moved::All, count),
            Received::WouldBlock => (Moved::Blocked, 0),
            Received::EndOfStream => (Moved::Ended, 0),
            Received::Failed(_) => (Moved::Gone, 0),
        }
    }

    fn shutdown(&mut self) {
        // A connection that is gone has no direction to end.
        let _ = self.world.shutdown_send(self.id);
    }

    fn is_over(&self) -> bool {
        self.world.connections.get(self.id).is_none_or(|connection| connection.is_over())
    }
}

impl World {
    /// A scripted client's time has come.
    pub(crate) fn client_connects(&mut self, peer: usize, number: u32) {
        let script = &self.peers[peer].script;
        let host = self.peers[peer].host;
        let Script::Client(client) = script else { return };
        let (to, every, count) = (client.to, client.every, client.count);
        let play = Box::new(Play::new(peer, script));
        let any = if to.is_ipv4() { [0; 4].into() } else { std::net::IpAddr::from([0; 16]) };
        // Should the attempt fail at once, there is nobody to be told.
        let _ = self.connect(host, std::net::SocketAddr::new(any, 0), to, Owner::Peer(play), None);
        if number + 1 < count {
            // At least a nanosecond, or a client could stop time.
            let at = self.now + nanoseconds(every).max(1);
            self.agenda.plan(at, Event::Client { peer, number: number + 1 });
        }
    }
}
