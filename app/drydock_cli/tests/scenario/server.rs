//! Servers to talk to: some that nobody here wrote, and one that watches how connections end.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

/// How long a server may take to come up, or a connection to end; only there so that a broken test ends.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server process that ends with this value.
pub struct Process {
    pub(super) child: Child,
    pub address: SocketAddr,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Python's http.server over `folder`.
pub fn python(folder: &Path) -> Process {
    let address = free_address();
    let child = Command::new("python3")
        .args(["-m", "http.server", "--bind", "127.0.0.1", &address.port().to_string(), "--directory"])
        .arg(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("python3 can be started (apt-get install python3)");
    wait_until_it_listens(Process { child, address })
}

/// A UDP server on Python's socketserver that sends back each datagram, `copies` times.
pub fn python_datagrams(copies: u32) -> Process {
    let script = format!(
        "import socketserver
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        data, socket = self.request
        for _ in range({copies}):
            socket.sendto(data, self.client_address)
server = socketserver.UDPServer(('127.0.0.1', 0), Echo)
server.max_packet_size = 65535
print(server.server_address[1], flush=True)
server.serve_forever()"
    );
    let child = Command::new("python3").arg("-c").arg(script).stdout(Stdio::piped()).spawn();
    let mut child = child.expect("python3 can be started (apt-get install python3)");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line of its output");
    let port = line.trim().parse().unwrap_or_else(|_| panic!("no port: {line:?}"));
    Process { child, address: (Ipv4Addr::LOCALHOST, port).into() }
}

/// nginx over `folder`.
pub fn nginx(folder: &Path) -> Process {
    let address = free_address();
    let work = folder.join("nginx-work");
    std::fs::create_dir_all(&work).expect("a folder for nginx");
    let work_text = work.display();
    let root = folder.display();
    let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
    let configuration = format!(
        "{user} daemon off; master_process off; pid {work_text}/pid; error_log {work_text}/error.log;
         events {{ worker_connections 512; }}
         http {{ access_log off; client_body_temp_path {work_text}/a; proxy_temp_path {work_text}/b;
                 fastcgi_temp_path {work_text}/c; uwsgi_temp_path {work_text}/d; scgi_temp_path {work_text}/e;
                 server {{ listen {address}; root {root}; }} }}"
    );
    // Without a master, as killing that would leave the worker behind, and with it the test runner's open pipe.
    let file = work.join("nginx.conf");
    std::fs::write(&file, configuration).expect("nginx's configuration");
    let child = Command::new(nginx_path())
        .args(["-e", "stderr", "-c"])
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nginx can be started (apt-get install nginx-light)");
    wait_until_it_listens(Process { child, address })
}

fn nginx_path() -> PathBuf {
    let sbin = Path::new("/usr/sbin/nginx");
    if sbin.exists() { sbin.into() } else { "nginx".into() }
}

/// How a connection ended, as the peer's socket saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Fin,
    Rst,
}

/// What an [`Observer`] saw of one connection.
#[derive(Clone, Debug)]
pub struct Seen {
    pub received: Vec<u8>,
    pub end: End,
}

/// A server in this process that answers each connection with fixed bytes and reports how it ended.
pub struct Observer {
    pub address: SocketAddr,
    seen: Receiver<Seen>,
}

/// What the observer does after it sent its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Keeps its side open and waits for the client's end.
    Wait,
    /// Sends FIN and waits for the client's end.
    Release,
    /// Sends RST.
    Reset,
}

impl Observer {
    /// Reads a request up to its empty line, writes `answer`, does `after`, and watches the connection end.
    pub fn answering(answer: Vec<u8>, after: After) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let (sender, seen) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, sender) = (answer.clone(), sender.clone());
                thread::spawn(move || {
                    let _ = sender.send(watch(stream, &answer, after));
                });
            }
        });
        Self { address, seen }
    }

    /// The next connection that ended.
    #[track_caller]
    pub fn next(&self) -> Seen {
        self.seen.recv_timeout(PATIENCE).expect("a connection that ended")
    }
}

fn watch(mut stream: TcpStream, answer: &[u8], after: After) -> Seen {
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    while !received.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(0) => return Seen { received, end: End::Fin },
            Ok(count) => received.extend_from_slice(&buffer[..count]),
            Err(_) => return Seen { received, end: End::Rst },
        }
    }
    let _ = stream.write_all(answer);
    match after {
        After::Wait => {}
        After::Release => drop(stream.shutdown(std::net::Shutdown::Write)),
        After::Reset => {
            nix::sys::socket::setsockopt(
                &stream,
                nix::sys::socket::sockopt::Linger,
                &nix::libc::linger { l_onoff: 1, l_linger: 0 },
            )
            .expect("linger");
            return Seen { received, end: End::Rst };
        }
    }
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Seen { received, end: End::Fin },
            Ok(count) => received.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Seen { received, end: End::Rst },
            Err(error) => panic!("the connection neither ended nor was reset: {error}"),
        }
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a loopback port")
}

#[track_caller]
fn wait_until_it_listens(mut process: Process) -> Process {
    let rounds = PATIENCE.as_millis() / 20;
    for _ in 0..rounds {
        if TcpStream::connect(process.address).is_ok() {
            return process;
        }
        if let Ok(Some(status)) = process.child.try_wait() {
            panic!("the server ended at once: {status}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("the server never listened on {}", process.address);
}
