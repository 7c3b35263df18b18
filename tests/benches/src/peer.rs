//! The other end of connections: this program started again, so that it can be pinned and its processor time is not ours.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::pin;

/// Room for a transfer.
const TRANSFER_BYTES: usize = 0x10000;

/// What a peer does with each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads to the end, one connection of a port after the other.
    Drain,
    /// Reads to the end.
    Sink,
    /// Sends back every byte.
    Echo,
    /// Sends without end.
    Source,
    /// Keeps it and never looks at it.
    Keep,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Sink => "sink",
            Self::Echo => "echo",
            Self::Source => "source",
            Self::Keep => "keep",
        }
    }
}

/// A peer process that ends with this value.
pub struct Peer {
    child: Child,
    /// The first of its ports, which follow each other.
    pub port: u16,
}

impl Peer {
    /// Starts one on a processor, with so many ports in a row.
    pub fn start(role: Role, cpu: usize, ports: u16) -> Result<Self> {
        let mut command = Command::new(env::current_exe().context("this program")?);
        command.args(["peer", role.name(), &cpu.to_string(), &ports.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start a peer")?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("a peer without stdout")?;
        BufReader::new(stdout).read_line(&mut line).context("a peer's port")?;
        let port = line.trim().parse().with_context(|| format!("a peer's port is {line:?}"));
        let mut peer = Self { child, port: 0 };
        peer.port = port?;
        Ok(peer)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The life of a peer process: prints its first port and serves until its stdin ends, which it does with whoever started it.
pub fn serve(role: &str, cpu: usize, ports: u16) -> Result<()> {
    // Short connections are over before a thread of their own would have begun.
    let (handle, at_once): (fn(TcpStream) -> io::Result<()>, bool) = match role {
        "drain" => (sink, true),
        "sink" => (sink, false),
        "echo" => (echo, false),
        "source" => (source, false),
        "keep" => (keep, true),
        _ => bail!("no such role: {role}"),
    };
    pin::this_thread(&[cpu])?;
    let listeners = listen(ports)?;
    println!("{}", listeners[0].local_addr()?.port());
    for listener in listeners {
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if at_once {
                    let _ = handle(stream);
                } else {
                    thread::spawn(move || handle(stream));
                }
            }
        });
    }
    let _ = io::stdin().read(&mut [0]);
    Ok(())
}

/// Ports in a row that nobody else has. They are not those that the host gives to clients: where many connections were
/// made, any of these may still be in TIME_WAIT.
fn listen(ports: u16) -> Result<Vec<TcpListener>> {
    for first in (10_000..30_000).step_by(usize::from(ports)) {
        let bound = (first..first + ports).map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
        if let Ok(listeners) = bound.collect::<io::Result<Vec<_>>>() {
            return Ok(listeners);
        }
    }
    bail!("no {ports} ports in a row are free")
}

fn sink(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; TRANSFER_BYTES];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 1];
    while stream.read(&mut buffer)? > 0 {
        stream.write_all(&buffer)?;
    }
    Ok(())
}

fn source(mut stream: TcpStream) -> io::Result<()> {
    let buffer = [0x5A; TRANSFER_BYTES];
    loop {
        stream.write_all(&buffer)?;
    }
}

fn keep(stream: TcpStream) -> io::Result<()> {
    std::mem::forget(stream);
    Ok(())
}
