//! The smallest HTTP server that the demo can talk to: one page, on loopback, a thread per connection.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// What a client may take for its request, so that a stuck one does not keep a thread.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest request line or header accepted.
const LINE_BYTES_MAX: u64 = 8 * 1024;

/// Serves `body` for every path from a free port until the process ends. Returns the port's address.
pub fn serve(body: &[u8]) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let body: Arc<[u8]> = body.into();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let body = Arc::clone(&body);
            // A client that goes away early has only itself to blame.
            thread::spawn(move || answer(&client, &body));
        }
    });
    Ok(address)
}

fn answer(client: &TcpStream, body: &[u8]) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(client);
    let mut line = String::new();
    // The request ends with an empty line; what it asks for makes no difference.
    while io::Read::take(&mut reader, LINE_BYTES_MAX).read_line(&mut line)? > 0 && !line.trim_end().is_empty() {
        line.clear();
    }
    let head = format!(
        "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut client = client;
    client.write_all(head.as_bytes())?;
    client.write_all(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn request_is_answered_with_the_whole_body() {
        let body = vec![0x5A; 1 << 20];
        let mut client = TcpStream::connect(serve(&body).expect("loopback can be listened on")).expect("connect");
        client.write_all(b"GET / HTTP/1.0\r\nHost: here\r\n\r\n").expect("send");
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).expect("receive");
        let headers = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("end of headers") + 4;
        assert!(answer.starts_with(b"HTTP/1.0 200 OK\r\n"));
        assert_eq!(answer[headers..], body);
    }
}
