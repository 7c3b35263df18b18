//! The sample drivers over sockets of the host and over a simulated network: one description of each scenario, and the same to be
//! seen of it. What drivers cannot show of how the networks differ is in `net_tests`.

mod scenario;

use std::collections::BTreeSet;

use scenario::peers::{FAR, Peer, two_hosts};
use scenario::{Ran, Run, sample};

/// What a driver does, whom it meets, and what is to be seen of it on every network.
struct Scenario {
    name: &'static str,
    driver: &'static str,
    peer: Peer,
    settings: &'static [(&'static str, &'static str)],
    /// The verdict, what drivers print, and of which ends the remote node was told.
    expected: &'static [&'static str],
}

const fn client(
    name: &'static str,
    peer: Peer,
    settings: &'static [(&'static str, &'static str)],
    expected: &'static [&'static str],
) -> Scenario {
    Scenario { name, driver: "tdi_client.sys", peer, settings, expected }
}

const REQUEST: &str = "GET / HTTP/1.0\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
/// What the server sends back is the request, which is all header.
const SERVED: &str = "tdi_client: connection 0: 54 bytes, body 0 bytes, fnv1a64 cbf29ce484222325";
const ANSWERED: &str = "tdi_client: connection 0: 11 bytes, body 0 bytes, fnv1a64 cbf29ce484222325";
const NOTHING: &str = "tdi_client: connection 0: 0 bytes, body 0 bytes, fnv1a64 cbf29ce484222325";
const DONE: &str = "tdi_client: done: 1 connections, 0 failed, 0 body bytes";
const FAILED: &str = "tdi_client: done: 1 connections, 1 failed, 0 body bytes";
const SERVER_DONE: &str = "tdi_server: done: 1 connections, 54 bytes sent back, 1 at once at most";
const FIN_1: &str = "FIN (orderly end), endpoint #1";
const FIN_2: &str = "FIN (orderly end), endpoint #2";
const RST_1: &str = "RST (abortive end), endpoint #1";
const RST_2: &str = "RST (abortive end), endpoint #2";
/// The server's endpoint is the first, the client's the second.
const BOTH_FIN: &[&str] = &["clean", SERVED, DONE, SERVER_DONE, FIN_1, FIN_2];
const BOTH_RST: &[&str] = &["clean", SERVED, DONE, SERVER_DONE, RST_1, RST_2];
const CLIENT_FIN: &[&str] = &["clean", ANSWERED, DONE, FIN_1];
const CLIENT_RST: &[&str] = &["clean", ANSWERED, DONE, RST_1];

const SCENARIOS: &[Scenario] = &[
    client("disconnect", Peer::Server, &[("Close", "disconnect")], BOTH_FIN),
    client("disconnect, by events", Peer::Server, &[("Close", "disconnect"), ("Receive", "event")], BOTH_FIN),
    client("disconnect, accepted by listen", Peer::Server, &[("Close", "disconnect"), ("Accept", "listen")], BOTH_FIN),
    client("no disconnect", Peer::Server, &[("Close", "no-disconnect")], BOTH_FIN),
    client(
        "no disconnect, address first",
        Peer::Server,
        &[("Close", "no-disconnect"), ("AddressFirst", "1")],
        BOTH_FIN,
    ),
    client(
        "no disconnect, a receive pending",
        Peer::Server,
        &[("Close", "no-disconnect"), ("PendingReceive", "1")],
        &[
            "clean",
            "tdi_client: connection 0: pending receive ended with status c0000120, 0 bytes",
            SERVED,
            DONE,
            SERVER_DONE,
            FIN_1,
            FIN_2,
        ],
    ),
    client("disassociate", Peer::Server, &[("Close", "disassociate")], BOTH_FIN),
    client("reassociate", Peer::Server, &[("Close", "reassociate")], BOTH_FIN),
    client("handle first", Peer::Server, &[("Close", "handle-first")], BOTH_FIN),
    client("reference first", Peer::Server, &[("Close", "reference-first")], BOTH_FIN),
    client("abort", Peer::Server, &[("Close", "abort")], BOTH_RST),
    client("abort, accepted by listen", Peer::Server, &[("Close", "abort"), ("Accept", "listen")], BOTH_RST),
    client("peer ended first, disconnect", Peer::HalfClose("that is all"), &[("Close", "disconnect")], CLIENT_FIN),
    client(
        "peer ended first, disconnect, by events",
        Peer::HalfClose("that is all"),
        &[("Close", "disconnect"), ("Receive", "event")],
        CLIENT_FIN,
    ),
    client(
        "peer ended first, no disconnect",
        Peer::HalfClose("that is all"),
        &[("Close", "no-disconnect")],
        CLIENT_FIN,
    ),
    client(
        "peer ended first, no disconnect, by events",
        Peer::HalfClose("that is all"),
        &[("Close", "no-disconnect"), ("Receive", "event")],
        CLIENT_FIN,
    ),
    client("peer ended first, disassociate", Peer::HalfClose("that is all"), &[("Close", "disassociate")], CLIENT_FIN),
    client(
        "peer ended first, disassociate, by events",
        Peer::HalfClose("that is all"),
        &[("Close", "disassociate"), ("Receive", "event")],
        CLIENT_FIN,
    ),
    client("peer ended first, abort", Peer::HalfClose("that is all"), &[("Close", "abort")], CLIENT_RST),
    client(
        "peer ended first, abort, by events",
        Peer::HalfClose("that is all"),
        &[("Close", "abort"), ("Receive", "event")],
        CLIENT_RST,
    ),
    client(
        "refused",
        Peer::Nobody,
        &[],
        &["driver_failed", "tdi_client: connection 0: connect failed with status c0000236", NOTHING, FAILED],
    ),
    client(
        "reset",
        Peer::Reset(10),
        &[],
        &[
            "driver_failed",
            "tdi_client: connection 0: receive failed with status c000020d",
            "tdi_client: connection 0: disconnect failed with status c0000140",
            NOTHING,
            FAILED,
            RST_1,
        ],
    ),
    client(
        "reset, by events",
        Peer::Reset(10),
        &[("Receive", "event")],
        &[
            "driver_failed",
            "tdi_client: connection 0: receive failed with status c000020d",
            "tdi_client: connection 0: disconnect failed with status c0000140",
            NOTHING,
            FAILED,
            RST_1,
        ],
    ),
    client(
        "silent",
        Peer::Silent,
        &[("Timeout", "300")],
        &[
            "driver_failed",
            "tdi_client: connection 0: receive failed with status c0000120",
            "tdi_client: connection 0: disconnect failed with status c00000b5",
            NOTHING,
            FAILED,
            FIN_1,
            RST_1,
        ],
    ),
    client(
        "silent, by events",
        Peer::Silent,
        &[("Receive", "event"), ("Timeout", "300")],
        &[
            "driver_failed",
            "tdi_client: connection 0: receive failed with status c00000b5",
            "tdi_client: connection 0: disconnect failed with status c00000b5",
            NOTHING,
            FAILED,
            FIN_1,
            RST_1,
        ],
    ),
    client(
        "no release from the peer",
        Peer::Silent,
        &[("Path", ""), ("Timeout", "300")],
        &[
            "driver_failed",
            "tdi_client: connection 0: disconnect failed with status c00000b5",
            NOTHING,
            FAILED,
            FIN_1,
            RST_1,
        ],
    ),
    Scenario {
        name: "datagrams by request",
        driver: "tdi_datagram.sys",
        peer: Peer::EchoDatagrams,
        settings: &[("Receive", "request"), ("Queries", "5"), ("Timeout", "30000")],
        expected: &["clean", "tdi_datagram: done: 5 of 5 queries answered, 0 sent again, 0 other datagrams"],
    },
    Scenario {
        name: "datagrams without an answer by request",
        driver: "tdi_datagram.sys",
        peer: Peer::SilentDatagrams,
        settings: &[("Receive", "request"), ("Attempts", "2"), ("Timeout", "50")],
        expected: &[
            "driver_failed",
            "tdi_datagram: query 0: no answer: status c00000b5",
            "tdi_datagram: done: 0 of 1 queries answered, 1 sent again, 0 other datagrams",
        ],
    },
    Scenario {
        name: "datagrams by event",
        driver: "tdi_datagram.sys",
        peer: Peer::EchoDatagrams,
        settings: &[("Receive", "event"), ("Queries", "5"), ("Timeout", "30000")],
        expected: &["clean", "tdi_datagram: done: 5 of 5 queries answered, 0 sent again, 0 other datagrams"],
    },
    Scenario {
        name: "datagrams without an answer by event",
        driver: "tdi_datagram.sys",
        peer: Peer::SilentDatagrams,
        settings: &[("Receive", "event"), ("Attempts", "2"), ("Timeout", "50")],
        expected: &[
            "driver_failed",
            "tdi_datagram: query 0: no answer: status c00000b5",
            "tdi_datagram: done: 0 of 1 queries answered, 1 sent again, 0 other datagrams",
        ],
    },
    Scenario {
        name: "datagrams by handover",
        driver: "tdi_datagram.sys",
        peer: Peer::EchoDatagrams,
        settings: &[("Receive", "handover"), ("Queries", "5"), ("Timeout", "30000")],
        expected: &["clean", "tdi_datagram: done: 5 of 5 queries answered, 0 sent again, 0 other datagrams"],
    },
    Scenario {
        name: "datagrams without an answer by handover",
        driver: "tdi_datagram.sys",
        peer: Peer::SilentDatagrams,
        settings: &[("Receive", "handover"), ("Attempts", "2"), ("Timeout", "50")],
        expected: &[
            "driver_failed",
            "tdi_datagram: query 0: no answer: status c00000b5",
            "tdi_datagram: done: 0 of 1 queries answered, 1 sent again, 0 other datagrams",
        ],
    },
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Network {
    Host,
    Simulated,
}

impl Scenario {
    fn run(&self, network: Network) -> Vec<String> {
        let run = match self.peer {
            Peer::Server => Run::sample("tdi_server.sys").arg(sample(self.driver)).set("StopAfter", REQUEST.len()),
            _ => Run::sample(self.driver),
        };
        let (run, host, port) = match network {
            Network::Host => {
                let address = self.peer.on_host();
                (run, address.ip().to_string(), address.port())
            }
            Network::Simulated => {
                let file = two_hosts(&self.name.replace([' ', ','], "-"), &self.peer.text());
                // The server is on the client's host.
                let host = if self.peer == Peer::Server { "127.0.0.1" } else { FAR };
                (run.args(["--net", &file]), host.to_owned(), Peer::PORT)
            }
        };
        let run = run.set("Host", host).set("Port", port).set("Endpoints", 1);
        let run = self.settings.iter().fold(run, |run, (name, value)| run.set(name, value));
        seen(&run.run())
    }
}

/// The verdict, what drivers print, and of which ends the remote node was told.
fn seen(ran: &Ran) -> Vec<String> {
    let mut seen = vec![ran.verdict["verdict"].as_str().unwrap_or_default().to_owned()];
    seen.extend(ran.findings().into_iter().map(str::to_owned));
    if ran.count("opens") != ran.count("closes") {
        seen.push("something is left".into());
    }
    for line in ran.account.lines() {
        if let Some((_, printed)) = line.split_once("prints “") {
            let printed = printed.trim_end_matches('”');
            // Which port is free is up to the machine.
            if !printed.contains(": port ") {
                seen.push(printed.into());
            }
        }
    }
    // Two ends are told of at their own time each.
    let told = ran.account.lines().filter_map(|line| line.split_once("tells the remote node: "));
    let told: BTreeSet<_> = told.map(|(_, told)| told.replace('\u{a0}', " ")).collect();
    seen.extend(told);
    seen
}

fn check(network: Network) {
    for scenario in SCENARIOS {
        assert_eq!(scenario.run(network), scenario.expected, "{}", scenario.name);
    }
}

#[test]
fn drivers_do_over_host_sockets_what_they_do_over_every_network() {
    check(Network::Host);
}

#[test]
fn drivers_do_over_a_simulated_network_what_they_do_over_every_network() {
    check(Network::Simulated);
}
