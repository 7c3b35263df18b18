//! Clients that nobody here wrote, many at once.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::server::Process;

/// A client that sends what it reads and writes what it receives.
struct Talker {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Talker {
    fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (input, output) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        Self { child, input, output: BufReader::new(output) }
    }

    fn is_answered_with(&mut self, text: &str) {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        assert_eq!(line, text);
    }

    /// Ends what the client sends; nothing more may come back.
    fn end(self) {
        let Self { mut child, input, mut output } = self;
        drop(input);
        let mut rest = String::new();
        output.read_to_string(&mut rest).expect("its end");
        assert_eq!(rest, "");
        let status = child.wait().expect("its status");
        assert!(status.success(), "{status}");
    }
}

/// Starts so many clients, says something to each, takes it back from each, and only then ends them: all are connected at once.
pub fn talk_at_once(count: usize, command: impl Fn() -> Command) {
    allow_many_descriptors();
    let mut talkers: Vec<Talker> = (0..count).map(|_| Talker::start(&mut command())).collect();
    let text = |number: usize| format!("client {number} says this\n");
    for (number, talker) in talkers.iter_mut().enumerate() {
        talker.input.write_all(text(number).as_bytes()).expect("the client reads");
    }
    for (number, talker) in talkers.iter_mut().enumerate() {
        talker.is_answered_with(&text(number));
    }
    talkers.into_iter().for_each(Talker::end);
}

/// socat between its standard streams and `server`. It gives the server's end as long as it needs.
pub fn socat(server: SocketAddr) -> Command {
    let mut command = Command::new("socat");
    command.args(["-t", "60", "-", &format!("TCP:{server}")]);
    command
}

/// OpenSSL's client of a server that speaks TLS under `certificate`; it fails if that is not so.
pub fn s_client(server: SocketAddr, certificate: &Path) -> Command {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-quiet", "-no_ign_eof", "-verify_return_error", "-connect", &server.to_string()]);
    command.arg("-CAfile").arg(certificate);
    command
}

/// Bytes that OpenSSL's clients wrote to the network and read from it, in `count` connections at once to a server that does not
/// speak TLS.
pub fn s_clients_without_tls(server: SocketAddr, count: usize) -> Vec<[Vec<u8>; 2]> {
    allow_many_descriptors();
    let start = |_| {
        let mut command = Command::new("openssl");
        let command = command.args(["s_client", "-debug", "-connect", &server.to_string()]);
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn().expect("openssl can be started (apt-get install openssl)")
    };
    let clients: Vec<Child> = (0..count).map(start).collect();
    let dump = |client: Child| client.wait_with_output().expect("its output").stdout;
    clients.into_iter().map(|client| written_and_read(&String::from_utf8_lossy(&dump(client)))).collect()
}

/// What `-debug` printed: headings, each with lines of an offset, up to sixteen bytes in hexadecimal, and the same as text.
fn written_and_read(dump: &str) -> [Vec<u8>; 2] {
    let mut bytes = [Vec::new(), Vec::new()];
    let mut way = None;
    for line in dump.lines() {
        match line {
            _ if line.starts_with("write to") => way = Some(0),
            _ if line.starts_with("read from") => way = Some(1),
            _ => match (way, line.split_once(" - ")) {
                (Some(way), Some((offset, rest))) if u32::from_str_radix(offset, 16).is_ok() => {
                    let pairs = rest.get(..47).unwrap_or(rest).split([' ', '-']);
                    bytes[way].extend(pairs.filter_map(|pair| u8::from_str_radix(pair, 16).ok()));
                }
                _ => way = None,
            },
        }
    }
    bytes
}

/// A certificate for "localhost" and its key, in two files.
pub fn certificate(folder: &Path) -> [PathBuf; 2] {
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| folder.join(name));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    command.args(["-subj", "/CN=localhost", "-days", "2", "-out"]).arg(&certificate).arg("-keyout").arg(&key);
    let made = command.output().expect("openssl can be started (apt-get install openssl)");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    [certificate, key]
}

/// socat as a server that takes TLS off and passes what is in it on to `server`, in a process for each connection.
pub fn tls_in_front_of(server: SocketAddr, [certificate, key]: &[PathBuf; 2]) -> Process {
    let files = format!("cert={},key={}", certificate.display(), key.display());
    let listen = format!("OPENSSL-LISTEN:0,bind=127.0.0.1,reuseaddr,fork,backlog=1024,verify=0,{files}");
    let mut command = Command::new("socat");
    let command = command.args(["-d", "-d", "-t", "60", &listen, &format!("TCP:{server}")]).stderr(Stdio::piped());
    let mut child = command.spawn().expect("socat can be started (apt-get install socat)");
    let mut notices = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    let listening = notices.find(|line| line.contains("listening on")).expect("socat listens");
    let address = listening.rsplit(' ').next().and_then(|address| address.parse().ok());
    // Its processes would wait for somebody to read more.
    thread::spawn(move || notices.for_each(drop));
    Process { child, address: address.unwrap_or_else(|| panic!("no address: {listening}")) }
}

/// Opens so many connections from one Python process, all before the first byte is sent, and talks on each.
pub fn python_talks_at_once(server: SocketAddr, count: usize) {
    allow_many_descriptors();
    let script = "
import socket, sys
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def text(number):
    return (b'connection %d says this; ' % number) * (1 + number % 50)
connections = [socket.create_connection((host, port)) for _ in range(count)]
for number, connection in enumerate(connections):
    connection.sendall(text(number))
for number, connection in enumerate(connections):
    assert connection.recv(len(text(number)), socket.MSG_WAITALL) == text(number), number
for connection in connections:
    connection.shutdown(socket.SHUT_WR)
for number, connection in enumerate(connections):
    assert connection.recv(1) == b'', number
    connection.close()
";
    let mut python = Command::new("python3");
    python.args(["-c", script, &server.ip().to_string(), &server.port().to_string(), &count.to_string()]);
    let ended = python.output().expect("python3 can be started (apt-get install python3)");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

/// As many descriptors as the user may have, also for the processes that are started.
pub fn allow_many_descriptors() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limit");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("what is allowed");
}
