//! Remote nodes that do the same on the host's sockets and on a simulated network.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};

use super::simulated;

/// Where the near host's driver finds the far host on a simulated network.
pub const FAR: &str = "10.0.0.2";

/// A network file with two hosts, the far one at [`FAR`], and what else there is in it.
pub fn two_hosts(name: &str, more: &str) -> String {
    let hosts = format!(
        "[[host]]\nname = \"near\"\naddress = [\"10.0.0.1\"]\n[[host]]\nname = \"far\"\naddress = [\"{FAR}\"]\n"
    );
    simulated(name, &(hosts + more))
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The sample server, in the same run.
    Server,
    /// A host where nobody listens.
    Nobody,
    /// Accepts, and says nothing.
    Silent,
    /// Takes so many bytes, then resets the connection.
    Reset(usize),
    /// Says this and its end, and goes on taking.
    HalfClose(&'static str),
    /// Sends datagrams back.
    EchoDatagrams,
    /// Takes datagrams and says nothing.
    SilentDatagrams,
}

impl Peer {
    /// The port it has on a simulated network.
    pub const PORT: u16 = 80;

    /// As it stands in a network file.
    pub fn text(self) -> String {
        let (kind, keys) = match self {
            Self::Server | Self::Nobody => return String::new(),
            Self::Silent => ("silent", String::new()),
            Self::Reset(bytes) => ("reset", format!("bytes = {bytes}")),
            Self::HalfClose(text) => ("half_close", format!("text = \"{text}\"")),
            Self::EchoDatagrams => ("echo", "protocol = \"udp\"".into()),
            Self::SilentDatagrams => ("silent", "protocol = \"udp\"".into()),
        };
        format!("[[peer]]\nhost = \"far\"\nport = {}\nkind = \"{kind}\"\n{keys}\n", Self::PORT)
    }

    /// The same on a port of the loopback interface. A thread plays it until the test's process ends.
    pub fn on_host(self) -> SocketAddr {
        match self {
            Self::EchoDatagrams | Self::SilentDatagrams => {
                let socket = UdpSocket::bind("127.0.0.1:0").expect("a loopback port");
                let address = socket.local_addr().expect("its address");
                thread::spawn(move || self.play_datagrams(&socket));
                address
            }
            _ => {
                let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
                let address = listener.local_addr().expect("its address");
                // Of the others only the port is wanted: the listener is gone when this returns.
                if !matches!(self, Self::Server | Self::Nobody) {
                    thread::spawn(move || {
                        for stream in listener.incoming().map_while(Result::ok) {
                            thread::spawn(move || self.play(stream));
                        }
                    });
                }
                address
            }
        }
    }

    fn play(self, mut stream: TcpStream) {
        // What goes wrong is the other side's doing, and shows there.
        match self {
            Self::Reset(bytes) => {
                let _ = stream.read_exact(&mut vec![0; bytes]);
                let _ = setsockopt(&stream, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 });
                return;
            }
            Self::Silent => loop {
                // It does not even end when the other side does.
                thread::park();
            },
            Self::HalfClose(text) => {
                let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.shutdown(Shutdown::Write));
            }
            _ => {}
        }
        while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {}
    }

    fn play_datagrams(self, socket: &UdpSocket) {
        let mut bytes = [0; 65_536];
        while let Ok((count, from)) = socket.recv_from(&mut bytes) {
            if self == Self::EchoDatagrams {
                let _ = socket.send_to(&bytes[..count], from);
            }
        }
    }
}
