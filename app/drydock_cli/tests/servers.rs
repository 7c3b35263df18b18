//! The sample server, against clients that nobody here wrote, and against the sample client.

mod scenario;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use scenario::{Ran, Run};

fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).expect("a loopback port")
}

/// Connects as soon as the server listens.
fn connect(address: SocketAddr) -> TcpStream {
    for _ in 0..6000 {
        match TcpStream::connect(address) {
            Ok(stream) => return stream,
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
    panic!("the server never listened on {address}");
}

/// Sends `bytes` and its end, and takes what comes back.
fn echoed(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let stream = connect(address);
    let mut reader = stream.try_clone().expect("a second handle");
    let reading = thread::spawn(move || {
        let mut back = Vec::new();
        reader.read_to_end(&mut back).map(|_| back)
    });
    (&stream).write_all(bytes).expect("the server takes bytes");
    stream.shutdown(Shutdown::Write).expect("the end");
    reading.join().expect("no panic").expect("the server's end")
}

/// The server, which ends by itself after so many connections.
fn server(address: SocketAddr, accept: &str, connections: usize) -> Run {
    let run = Run::sample("tdi_server.sys").set("Port", address.port()).set("Accept", accept);
    run.set("Connections", connections)
}

/// Runs it beside the test.
fn serve(run: Run) -> thread::JoinHandle<Ran> {
    thread::spawn(move || run.run())
}

#[test]
fn bytes_come_back_by_event_and_by_listen() {
    for accept in ["event", "listen"] {
        let address = free_address();
        let serving = serve(server(address, accept, 3));
        let bytes: Vec<u8> = (0..1_000_000u32).map(|index| (index % 251) as u8).collect();
        for size in [0, 1, bytes.len()] {
            assert_eq!(echoed(address, &bytes[..size]), bytes[..size], "{accept}, {size} bytes");
        }
        let ran = serving.join().expect("no panic").expect_clean();
        ran.line(&format!("done: 3 connections, {} bytes sent back", 1 + bytes.len()));
    }
}

#[test]
fn thousand_connections_are_served_by_event_and_by_listen() {
    const AT_ONCE: usize = 50;
    for accept in ["event", "listen"] {
        let address = free_address();
        let serving = serve(server(address, accept, 1000).set("Endpoints", AT_ONCE));
        let clients: Vec<_> = (0..AT_ONCE)
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
        serving.join().expect("no panic").expect_clean();
    }
}
