//! Thousands of connections at once, opened and closed with nothing left behind. `SCALE_SOCKETS` and `SCALE_SIMULATED` say how
//! many; `cargo xtask soak` takes 9,000 and 100,000.

mod scenario;

use std::env;
use std::ffi::OsStr;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use scenario::{Ran, Run, folder, sample, simulated};

/// How many connections, if the environment does not say.
const FEW: usize = 2000;

fn setting(name: &str) -> usize {
    env::var(name).map_or(FEW, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// A registry file in which each of these drivers has so many endpoints.
fn registry(name: &str, endpoints: &[(&str, usize)]) -> PathBuf {
    let mut text = "Windows Registry Editor Version 5.00\n".to_owned();
    for (driver, endpoints) in endpoints {
        let key = format!(r"HKEY_LOCAL_MACHINE\System\CurrentControlSet\Services\{driver}\Parameters");
        write!(text, "\n[{key}]\n\"Endpoints\"=dword:{endpoints:08x}\n").expect("a string takes text");
    }
    let file = folder("registry").join(name).with_extension("reg");
    fs::write(&file, text).expect("a registry file");
    file
}

/// What holds for every run here: small buffers, no hurry, every event judged.
fn at_scale(driver: impl AsRef<OsStr>) -> Run {
    let run = Run::of(driver).args(["--trace", "/dev/null", "--timeout", "3000"]);
    run.set("Buffer", 1024).set("Timeout", 3_000_000)
}

fn request_bytes(host: &str) -> usize {
    format!("GET / HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n").len()
}

/// Nothing was left behind of so many files, and no event went unjudged.
#[track_caller]
fn expect_clean(ran: Ran, files: usize) -> Ran {
    let ran = ran.expect_clean();
    assert_eq!(ran.count("closes"), files as u64, "{:#?}", ran.verdict);
    assert_eq!(ran.verdict["events_lost"], 0, "{:#?}", ran.verdict);
    ran
}

/// The client sends only when all of its connections are open, and closes none before all have been answered.
#[test]
fn drivers_of_two_processes_have_thousands_of_connections_over_host_sockets() {
    let connections = setting("SCALE_SOCKETS");
    for accept in ["event", "listen"] {
        let server = at_scale(sample("tdi_server.sys")).set("Port", 0).set("Accept", accept);
        let mut serving = server.set("Endpoints", connections).set("Connections", connections).start();
        let address = serving.served_at();
        let client = at_scale(sample("tdi_client.sys")).set("Host", address.ip()).set("Port", address.port());
        let client = client.set("StopAfter", request_bytes("127.0.0.1")).set("Endpoints", connections);
        // An address and an endpoint each.
        expect_clean(client.arg("--quiet").run(), 2 * connections);
        let served = expect_clean(serving.end(), connections + 1);
        let line = served.line("tdi_server: done: ");
        assert!(line.contains(&format!("{connections} at once at most")), "{line}");
    }
}

const HOSTS: [(&str, &str, &str); 3] = [
    ("server", "10.0.0.9", "tdi_server.sys"),
    ("first client", "10.0.0.1", "tdi_client.sys"),
    ("second client", "10.0.0.2", "tdi_client_2.sys"),
];

/// Two clients, since a host has not ports enough for one. The server answers nobody before all are connected, and the clients
/// close nothing before they are answered: each byte that came back is of a time when all connections were open.
#[test]
fn drivers_on_simulated_hosts_have_thousands_of_connections() {
    let connections = setting("SCALE_SIMULATED");
    let each = connections / 2;
    let second = folder("drivers").join("tdi_client_2.sys");
    fs::copy(sample("tdi_client.sys"), &second).expect("a second client");
    let host = |(name, address, driver): (&str, &str, &str)| {
        let small = "send_buffer = 512\nreceive_buffer = 512";
        format!("[[host]]\nname = \"{name}\"\naddress = [\"{address}\"]\ndriver = \"{driver}\"\n{small}\n")
    };
    let network = simulated("scale", &HOSTS.map(host).concat());
    let endpoints = registry("scale", &[("tdi_server", 2 * each), ("tdi_client", each), ("tdi_client_2", each)]);
    let request = request_bytes(HOSTS[0].1);
    for accept in ["event", "listen"] {
        let run = at_scale(sample("tdi_server.sys")).arg(sample("tdi_client.sys")).arg(&second).arg("--quiet");
        let run = run.args(["--net", &network, "--registry"]).arg(&endpoints).set("Accept", accept);
        let run = run.set("Connections", 2 * each).set("Together", 2 * each).set("StopAfter", request);
        let run = run.set("Host", HOSTS[0].1).set("Port", 80).set("Threads", 1);
        // Addresses and endpoints of the clients; the server's endpoints and its address.
        let ran = expect_clean(run.run(), 6 * each + 1);
        // There and back.
        assert_eq!(ran.count("bytes_received"), (2 * 2 * each * request) as u64, "{:#?}", ran.verdict);
    }
}
