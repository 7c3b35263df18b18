//! The sample filter and firewall, between the sample clients and servers and the transport.

mod scenario;

use std::collections::BTreeMap;

use proves::proves;
use scenario::server::python_datagrams;
use scenario::{Ran, Run, sample, simulated};

/// What the sample client asks with.
const REQUEST_BYTES: u64 = 53;
const CONNECTIONS: u64 = 3;

const HOSTS: &str = r#"
    [default_link]
    latency = "10ms"
    [[host]]
    name = "a"
    address = ["10.0.0.1"]
    [[host]]
    name = "b"
    address = ["10.0.0.2"]
"#;
const WEB: &str = r#"
    [[peer]]
    host = "b"
    kind = "http"
    port = 80
    files = { "/" = 100000 }
"#;

/// The sample client behind `filter`, several connections one after the other.
fn client_behind(filter: &str) -> Run {
    let network = simulated("web", &format!("{HOSTS}{WEB}"));
    let run = Run::sample(filter).arg(sample("tdi_client.sys")).args(["--net", &network]);
    run.set("Host", "10.0.0.2").set("Port", 80).set("Rounds", CONNECTIONS)
}

/// The filter's counts: how many of each request it saw, how many of them were completed, and how many failed.
fn counts(ran: &Ran) -> BTreeMap<&str, [u64; 3]> {
    let lines = ran.account.lines().filter_map(|line| line.split_once("“tdi_filter: ")?.1.split_once(' '));
    let counted = lines.filter(|(_, counts)| counts.contains(", completed "));
    let numbers = |text: &str| -> Vec<u64> {
        text.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
    };
    counted.map(|(name, counts)| (name, numbers(counts).try_into().expect("three numbers"))).collect()
}

#[proves("K-093", "D-277")]
#[test]
fn filter_sees_every_request_of_the_client_once_in_every_mode() {
    for mode in ["attach", "defer", "hook"] {
        for receive in ["request", "event"] {
            let ran = client_behind("tdi_filter.sys").set("Mode", mode).set("Receive", receive).run().expect_clean();
            ran.line("tdi_client: done: 3 connections, 0 failed");
            ran.line("tdi_filter: 0 outstanding");
            let counts = counts(&ran);
            let each = [CONNECTIONS, CONNECTIONS, 0];
            for request in
                ["TDI_ASSOCIATE_ADDRESS", "TDI_CONNECT", "TDI_SEND", "TDI_DISCONNECT", "TDI_DISASSOCIATE_ADDRESS"]
            {
                assert_eq!(counts.get(request), Some(&each), "{mode}, {receive}, {request}: {ran:#?}");
            }
            // What is attached gets the end of the files that it was attached by, on both devices.
            let own = if mode == "hook" { 0 } else { 2 };
            let files = 2 * CONNECTIONS;
            for (request, count) in
                [("IRP_MJ_CREATE", files), ("IRP_MJ_CLEANUP", files + own), ("IRP_MJ_CLOSE", files + own)]
            {
                assert_eq!(counts.get(request), Some(&[count, count, 0]), "{mode}, {request}: {ran:#?}");
            }
            assert_eq!(counts.contains_key("TDI_SET_EVENT_HANDLER"), receive == "event", "{mode}: {ran:#?}");
        }
    }
}

#[test]
fn closing_behind_a_filter_that_defers_cleanup_and_close_leaves_nothing() {
    for close in
        ["disconnect", "no-disconnect", "disassociate", "reassociate", "handle-first", "reference-first", "abort"]
    {
        let run = client_behind("tdi_filter.sys").set("Mode", "defer").set("Close", close);
        let ran = run.set("PendingReceive", 1).run().expect_clean();
        ran.line("tdi_filter: 0 outstanding");
    }
}

#[test]
#[proves("D-279", "D-281")]
fn firewall_counts_what_crosses_it_and_lets_everything_go() {
    for receive in ["request", "event"] {
        let ran = client_behind("tdi_firewall.sys").set("Receive", receive).run().expect_clean();
        ran.line("tdi_firewall: 6 files, 3 connects, 0 accepts, 0 offers, ");
        ran.line(" 0 blocked; 0 files left, 0 requests left");
        let sent = format!("{REQUEST_BYTES} out");
        assert_eq!(ran.account.matches("tdi_firewall: connection: ").count(), 3, "{ran:#?}");
        assert_eq!(ran.account.matches(&sent).count(), 3, "{ran:#?}");
        ran.line("tdi_firewall: address, port ");
        // What it prints is its own, also where it runs in the transport's place.
        assert!(!ran.line("tdi_firewall: connection: ").contains(" transport "), "{ran:#?}");
    }
}

#[test]
#[proves("D-282a")]
fn firewall_refuses_a_blocked_port_before_the_transport_sees_it() {
    let run = client_behind("tdi_firewall.sys").set("Block", 80).set("Timeout", 100);
    let ran = run.run().expect("driver_failed", 2);
    ran.line("STATUS_REMOTE_NOT_LISTENING");
    ran.line("1 blocked; 0 files left, 0 requests left");
    assert!(!ran.account.contains("is connected"), "{ran:#?}");
}

#[test]
fn firewall_before_a_server_sees_offers_and_accepted_endpoints() {
    // The client has a host of its own; what is not named there, firewall and server, runs on the first.
    let network = format!("{HOSTS}driver = \"tdi_client.sys\"");
    for (accept, offers) in [("event", CONNECTIONS), ("listen", 0)] {
        let run = Run::sample("tdi_firewall.sys").arg(sample("tdi_server.sys")).arg(sample("tdi_client.sys"));
        let run = run.args(["--net", &simulated("guarded-server", &network)]).set("Port", 80).set("Host", "10.0.0.1");
        let run = run.set("Rounds", CONNECTIONS).set("Connections", CONNECTIONS).set("StopAfter", REQUEST_BYTES);
        let ran = run.set("Accept", accept).run().expect_clean();
        // All hosts have one transport: the client's requests cross the hook, too.
        ran.line(&format!(" 3 connects, 3 accepts, {offers} offers, "));
        ran.line("0 files left, 0 requests left");
    }
}

#[test]
#[proves("D-282")]
fn datagrams_cross_filter_and_firewall_by_every_way_to_receive() {
    let server = python_datagrams(1);
    for filter in ["tdi_filter.sys", "tdi_firewall.sys"] {
        for receive in ["request", "event", "handover"] {
            let run = Run::sample(filter).arg(sample("tdi_datagram.sys")).set("Mode", "defer");
            let run = run.set("Host", server.address.ip()).set("Port", server.address.port()).set("Receive", receive);
            let ran = run.set("Queries", 20).run().expect_clean();
            ran.line("tdi_datagram: done: 20 ");
        }
    }
}
