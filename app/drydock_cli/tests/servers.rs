//! The sample server, against clients that nobody here wrote, and against the sample client.

mod scenario;

use std::io::{Read, Write};
use std::iter;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use scenario::clients::{
    allow_many_descriptors, certificate, python_talks_at_once, s_client, s_clients_without_tls, socat, talk_at_once,
    tls_in_front_of,
};
use scenario::{CLIENT_AND_SERVER, Run, Running, folder, sample, simulated};

const WAYS: [&str; 2] = ["event", "listen"];
const AT_ONCE: usize = 1000;

/// A port of loopback that the server will find free, each time another one. It lies below those that Linux chooses from, so
/// that no other program gets it in the meantime.
fn free_port() -> u16 {
    static PASSED: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + (std::process::id() % 15_000) as u16;
    let ports = || Some(first + PASSED.fetch_add(1, Ordering::Relaxed));
    iter::from_fn(ports).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

/// Sends `bytes` and its end, and takes what comes back.
fn echoed(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let stream = TcpStream::connect(address).expect("a connection");
    let mut reader = stream.try_clone().expect("a second handle");
    let reading = thread::spawn(move || {
        let mut back = Vec::new();
        reader.read_to_end(&mut back).map(|_| back)
    });
    (&stream).write_all(bytes).expect("the server takes bytes");
    stream.shutdown(Shutdown::Write).expect("the end");
    reading.join().expect("no panic").expect("the server's end")
}

/// The server, which ends by itself after so many connections, and where it listens.
fn serve(accept: &str, connections: usize, more: impl FnOnce(Run) -> Run) -> (Running, SocketAddr) {
    let run = Run::sample("tdi_server.sys").set("Port", 0).set("Accept", accept).set("Connections", connections);
    let mut serving = more(run.set("Timeout", 300_000)).start();
    let address = serving.served_at();
    (serving, address)
}

/// The server with endpoints for so many connections at once.
fn serve_at_once(accept: &str, connections: usize) -> (Running, SocketAddr) {
    serve(accept, connections, |run| run.set("Endpoints", connections).arg("--timeout").arg("300"))
}

/// So many connections were served, and all of them were open at the same time.
#[track_caller]
fn assert_all_were_open_at_once(serving: Running, connections: usize) {
    let ran = serving.end().expect_clean();
    let line = ran.line("tdi_server: done: ");
    assert!(line.contains(&format!("done: {connections} connections, ")), "{line}");
    assert!(line.contains(&format!(", {connections} at once at most")), "{line}");
}

#[test]
fn bytes_come_back_by_event_and_by_listen() {
    for accept in WAYS {
        let (serving, address) = serve(accept, 3, |run| run);
        let bytes: Vec<u8> = (0..1_000_000u32).map(|index| (index % 251) as u8).collect();
        for size in [0, 1, bytes.len()] {
            assert_eq!(echoed(address, &bytes[..size]), bytes[..size], "{accept}, {size} bytes");
        }
        let ran = serving.end().expect_clean();
        ran.line(&format!("done: 3 connections, {} bytes sent back", 1 + bytes.len()));
    }
}

#[test]
fn fifty_endpoints_serve_a_thousand_connections_one_after_another() {
    const ENDPOINTS: usize = 50;
    for accept in WAYS {
        let (serving, address) = serve(accept, 1000, |run| run.set("Endpoints", ENDPOINTS));
        let clients: Vec<_> = (0..ENDPOINTS)
            .map(|client| {
                thread::spawn(move || {
                    for round in 0..20 {
                        let text = format!("client {client}, round {round}");
                        assert_eq!(echoed(address, text.as_bytes()), text.as_bytes());
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().expect("every byte came back");
        }
        serving.end().expect_clean();
    }
}

/// How long a connect takes when its handshake is not lost is nothing to this.
const LOST: Duration = Duration::from_secs(20);

#[test]
fn thousand_connections_wait_for_a_server_that_is_held_up() {
    allow_many_descriptors();
    let (serving, address) = serve_at_once("event", AT_ONCE);
    kill(serving.host(), Signal::SIGSTOP).expect("the host process");
    let connect = |_| TcpStream::connect_timeout(&address, LOST).expect("a connection");
    let streams: Vec<TcpStream> = (0..AT_ONCE).map(connect).collect();
    kill(serving.host(), Signal::SIGCONT).expect("the host process");
    for mut stream in &streams {
        stream.write_all(b"!").expect("the server takes a byte");
    }
    for mut stream in &streams {
        stream.read_exact(&mut [0]).expect("the byte comes back");
    }
    drop(streams);
    assert_all_were_open_at_once(serving, AT_ONCE);
}

#[test]
fn thousand_connections_of_python_at_once_are_served_by_event_and_by_listen() {
    for accept in WAYS {
        let (serving, address) = serve_at_once(accept, AT_ONCE);
        python_talks_at_once(address, AT_ONCE);
        assert_all_were_open_at_once(serving, AT_ONCE);
    }
}

#[test]
fn thousand_socats_at_once_are_served_by_event_and_by_listen() {
    for accept in WAYS {
        let (serving, address) = serve_at_once(accept, AT_ONCE);
        talk_at_once(AT_ONCE, || socat(address));
        assert_all_were_open_at_once(serving, AT_ONCE);
    }
}

/// The server sends nothing back before all are there. What comes back is no TLS, but it is what OpenSSL sent.
#[test]
fn thousand_s_clients_at_once_get_back_what_they_sent_by_event_and_by_listen() {
    for accept in WAYS {
        let more = |run: Run| run.set("Endpoints", AT_ONCE).set("Together", AT_ONCE).arg("--timeout").arg("300");
        let (serving, address) = serve(accept, AT_ONCE, more);
        for [written, read] in s_clients_without_tls(address, AT_ONCE) {
            assert!(read.len() > 200, "no hello of a client: {read:?}");
            assert_eq!(written[..read.len()], read);
        }
        assert_all_were_open_at_once(serving, AT_ONCE);
    }
}

#[test]
fn sessions_of_openssl_cross_the_server_once_socat_has_taken_their_tls_off() {
    const SESSIONS: usize = 100;
    let files = certificate(&folder("tls"));
    for accept in WAYS {
        let (serving, address) = serve_at_once(accept, SESSIONS);
        let front = tls_in_front_of(address, &files);
        talk_at_once(SESSIONS, || s_client(front.address, &files[0]));
        assert_all_were_open_at_once(serving, SESSIONS);
    }
}

/// Both samples in one process, or on hosts of one simulated network; all connections are open before the first is used.
fn both_drivers(accept: &str, receive: &str, connections: usize, network: &[&str], host: &str) -> Run {
    let request = format!("GET / HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let run =
        Run::sample("tdi_server.sys").arg(sample("tdi_client.sys")).args(["--trace", "/dev/null", "--timeout", "300"]);
    let run = network.iter().fold(run, |run, argument| run.arg(argument));
    let run = run.set("Accept", accept).set("Receive", receive).set("Host", host).set("StopAfter", request.len());
    run.set("Endpoints", connections).set("Connections", connections).set("Buffer", 1024)
}

fn assert_client_was_served(run: Run, connections: usize) {
    let ran = run.run().expect_clean();
    ran.line(&format!("tdi_client: done: {connections} connections, 0 failed"));
    let line = ran.line("tdi_server: done: ");
    assert!(line.contains(&format!("{connections} at once at most")), "{line}");
    assert_eq!(ran.verdict["events_lost"], 0, "not every event was judged");
}

#[test]
fn sample_client_is_served_by_the_sample_server_in_its_own_process() {
    for accept in WAYS {
        for receive in ["request", "event"] {
            // Chosen beforehand, since the client's settings are there before the server runs.
            let port = free_port();
            let run = both_drivers(accept, receive, AT_ONCE, &[], "127.0.0.1").set("Port", port);
            assert_client_was_served(run, AT_ONCE);
        }
    }
}

const ONE_HOST: &str = r#"
    [[host]]
    name = "both"
    address = ["10.0.0.1"]
"#;

#[test]
fn sample_client_is_served_by_the_sample_server_on_one_and_across_two_simulated_hosts() {
    for (name, text, host) in [("one-host", ONE_HOST, "127.0.0.1"), ("two-hosts", CLIENT_AND_SERVER, "10.0.0.2")] {
        let network = simulated(name, text);
        for accept in WAYS {
            for receive in ["request", "event"] {
                let run = both_drivers(accept, receive, AT_ONCE, &["--net", &network], host).set("Port", 80);
                assert_client_was_served(run, AT_ONCE);
            }
        }
    }
}
