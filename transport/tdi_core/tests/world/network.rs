//! One endpoint's end of a network that does what it is told.

use std::collections::VecDeque;

use tdi_core::{DataKind, NetworkCommand, NetworkError, Progress};

use super::World;

#[derive(Debug)]
pub struct Wire {
    /// Bytes that have arrived and were not read.
    pub inbound: VecDeque<u8>,
    /// A FIN stands behind them.
    pub has_ended: bool,
    /// What reading and writing fail with.
    pub broken: Option<NetworkError>,
    /// Bytes sent, and those of them sent as urgent data.
    pub outbound: Vec<u8>,
    pub urgent: Vec<u8>,
    /// Bytes the network takes before it would block.
    pub window: usize,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            inbound: VecDeque::new(),
            has_ended: false,
            broken: None,
            outbound: Vec::new(),
            urgent: Vec::new(),
            window: usize::MAX,
        }
    }
}

impl Wire {
    pub fn read(&mut self, into: &mut [u8]) -> Progress {
        if let Some(error) = self.broken {
            return Progress::Broken(error);
        }
        let count = into.len().min(self.inbound.len());
        if count == 0 {
            return if self.has_ended { Progress::Ended } else { Progress::WouldBlock };
        }
        for (to, from) in into.iter_mut().zip(self.inbound.drain(..count)) {
            *to = from;
        }
        let exhausted = self.inbound.is_empty() && !self.has_ended;
        Progress::Moved { count: count as u32, exhausted }
    }

    pub fn write(&mut self, bytes: &[u8], expedited: bool) -> Progress {
        if let Some(error) = self.broken {
            return Progress::Broken(error);
        }
        let count = bytes.len().min(self.window);
        if count == 0 {
            return Progress::WouldBlock;
        }
        self.window -= count;
        self.outbound.extend(&bytes[..count]);
        if expedited {
            self.urgent.extend(&bytes[..count]);
        }
        Progress::Moved { count: count as u32, exhausted: self.window == 0 }
    }
}

impl World {
    /// Carries out a network command of `site`.
    pub fn do_network(&mut self, at: usize, command: &NetworkCommand) {
        let now = self.now;
        let site = &mut self.sites[at];
        let endpoint = &mut site.endpoint;
        match command {
            NetworkCommand::Connect { connection, .. } => {
                assert_eq!(endpoint.connection(), Some(*connection));
                site.wire = super::Wire::default();
                self.tell("SYN");
            }
            NetworkCommand::Accept { connection } => {
                assert_eq!(endpoint.connection(), Some(*connection));
                site.wire = super::Wire::default();
                self.tell("accept");
                if !self.accepts_late {
                    self.handshake(at);
                }
            }
            NetworkCommand::Transmit { id, offset, length, expedited } => {
                let issued = &self.requests[id];
                let from = *offset as usize;
                assert_ne!(*length, 0);
                let progress = site.wire.write(&issued.buffer[from..from + *length as usize], *expedited);
                endpoint.handle_sent(now, *id, progress);
            }
            NetworkCommand::Fill { id, offset, length } => {
                let issued = self.requests.get_mut(id).expect("an issued receive");
                let from = *offset as usize;
                assert_ne!(*length, 0);
                let progress = site.wire.read(&mut issued.buffer[from..from + *length as usize]);
                endpoint.handle_filled(now, *id, progress);
            }
            NetworkCommand::ReadAhead { length } => {
                let space = endpoint.read_ahead_space();
                assert!(*length == space.len() && !space.is_empty());
                let progress = site.wire.read(space);
                endpoint.handle_read_ahead(now, progress);
            }
            NetworkCommand::CopyBuffered { id, offset, source, range } => {
                let issued = self.requests.get_mut(id).expect("an issued receive");
                let bytes = endpoint.buffered(*source, range.clone());
                assert!(!bytes.is_empty() && bytes.len() == range.len());
                let from = *offset as usize;
                issued.buffer[from..from + bytes.len()].copy_from_slice(bytes);
                endpoint.handle_copied(now, *id);
            }
            NetworkCommand::ShutdownSend { .. } => self.tell("FIN"),
            NetworkCommand::Abort { .. } => self.tell("RST"),
            NetworkCommand::Close { .. } => self.tell("close"),
        }
    }
}

/// How the story spells bytes.
pub fn spell(kind: DataKind, bytes: &[u8]) -> String {
    let mark = if kind == DataKind::Expedited { "!" } else { "" };
    if bytes.len() > 20 {
        return format!("{mark}<{} bytes>", bytes.len());
    }
    format!("{mark}<{}>", String::from_utf8_lossy(bytes))
}
