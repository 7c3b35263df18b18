//! A capture of a simulated network, read by tshark.

use std::process::Command;
use std::sync::{Arc, Mutex};

use export::Pcapng;
use net_api::NetTime;
use sim_net::{Frame, FrameSink, NetworkFile, Sim};

/// TCP and its retransmissions, over both families.
const FILE: &str = r#"
[default_link]
loss = "3%"
[[host]]
name = "client"
address = ["10.0.0.1", "fd00::1"]
[[host]]
name = "server"
address = ["10.0.0.2", "fd00::2"]
[[peer]]
host = "server"
kind = "http"
port = 80
files = { "/" = 50000 }
[[peer]]
host = "client"
kind = "client"
to = "10.0.0.2:80"
text = "GET / HTTP/1.1\r\nConnection: close\r\n\r\n"
then = "stay"
[[peer]]
host = "client"
kind = "client"
to = "[fd00::2]:80"
text = "GET / HTTP/1.1\r\nConnection: close\r\n\r\n"
then = "stay"
"#;

struct Capture(Arc<Mutex<Pcapng<Vec<u8>>>>);

impl FrameSink for Capture {
    fn record(&mut self, frame: &Frame<'_>) {
        let wire = u32::try_from(frame.wire).unwrap();
        let at = frame.at.as_nanoseconds();
        self.0.lock().unwrap().add(wire, at, frame.bytes, frame.fate.comment()).unwrap();
    }
}

fn tshark(file: &str, arguments: &[&str]) -> String {
    let output = Command::new("tshark").args(["-r", file]).args(arguments).output();
    let output = output.expect("tshark; install it with: apt-get install tshark");
    let complaints = String::from_utf8_lossy(&output.stderr);
    // As root it says that it had better not be.
    let complaints: Vec<&str> = complaints.lines().filter(|line| !line.contains("Running as user")).collect();
    assert!(output.status.success() && complaints.is_empty(), "{complaints:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn capture_is_read_without_complaint() {
    let sim = Sim::new(&NetworkFile::parse(FILE).unwrap(), 3);
    let capture = Arc::new(Mutex::new(Pcapng::new(Vec::new(), &sim.wires()).unwrap()));
    sim.record(Box::new(Capture(Arc::clone(&capture))));
    sim.advance(NetTime::from_nanoseconds(600_000_000_000));
    let frames = sim.frames();
    drop(sim);
    let bytes = Arc::into_inner(capture).unwrap().into_inner().unwrap().finish().unwrap();
    let file = format!("{}/simulated.pcapng", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(&file, bytes).unwrap();

    assert!(frames.lost > 0);
    assert_eq!(tshark(&file, &[]).lines().count() as u64, frames.sent);
    // Every checksum is right, and no packet is malformed.
    let checks = ["-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-Y"];
    let wrong = "ip.checksum.status == 0 || tcp.checksum.status == 0 || _ws.malformed";
    assert_eq!(tshark(&file, &[&checks[..], &[wrong]].concat()), "");
    let answers = tshark(&file, &["-Y", "http.response.code == 200"]);
    assert_eq!(answers.lines().count(), 2, "{answers}");
    let lost = tshark(&file, &["-Y", "frame.comment == \"lost\""]);
    assert_eq!(lost.lines().count() as u64, frames.lost);
}
