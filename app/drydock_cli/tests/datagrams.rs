//! The sample datagram client, against a UDP server that nobody here wrote, and on simulated networks.

mod scenario;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use scenario::peers::{FAR, Peer, two_hosts};
use scenario::server::python_datagrams;
use scenario::{Ran, Run};

const WAYS: [&str; 3] = ["request", "event", "handover"];

fn client(server: SocketAddr, receive: &str) -> Run {
    let run = Run::sample("tdi_datagram.sys").set("Host", server.ip()).set("Port", server.port());
    run.set("Receive", receive)
}

/// The counts of the last line: queries answered, asked, sent again; other datagrams.
#[track_caller]
fn counts(ran: &Ran) -> [u32; 4] {
    let line = ran.line("tdi_datagram: done: ");
    let (_, text) = line.split_once("done: ").expect("what was looked for");
    let numbers: Vec<u32> = text.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect();
    numbers.try_into().unwrap_or_else(|_| panic!("not four numbers: {line}"))
}

#[test]
fn python_server_answers_queries_of_every_length_by_every_way_to_receive() {
    let server = python_datagrams(1);
    for receive in WAYS {
        for bytes in [4, 1472, 65_507] {
            let ran = client(server.address, receive).set("Queries", 20).set("Bytes", bytes).run().expect_clean();
            let [answered, asked, again, _] = counts(&ran);
            assert_eq!((answered, asked), (20, 20), "{receive}, {bytes} bytes: {ran:#?}");
            assert_eq!(ran.count("bytes_sent"), u64::from(asked + again) * bytes, "{receive}: {ran:#?}");
        }
    }
}

#[test]
fn answers_that_come_twice_are_not_taken_for_the_next_one() {
    let server = python_datagrams(2);
    for receive in WAYS {
        let ran = client(server.address, receive).set("Queries", 50).run().expect_clean();
        assert_eq!(counts(&ran)[..2], [50, 50], "{receive}: {ran:#?}");
    }
}

#[test]
fn silent_server_ends_the_client_with_timeout_and_nothing_left_behind() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
    let address = silent.local_addr().expect("its address");
    for receive in WAYS {
        let run = client(address, receive).set("Attempts", 3).set("Timeout", 20);
        let ran = run.run().expect("driver_failed", 2);
        ran.line("query 0: no answer: status c00000b5");
        assert_eq!(counts(&ran), [0, 1, 2, 0], "{receive}: {ran:#?}");
        assert_eq!(ran.findings(), Vec::<&str>::new(), "{ran:#?}");
        assert_eq!((ran.count("opens"), ran.count("closes")), (1, 1), "{ran:#?}");
    }
}

/// A network of two hosts whose links have these properties, and what reaches a UDP echo server across it.
fn echo_across(name: &str, link: &str, more: &str) -> (String, SocketAddr) {
    let text = format!("[default_link]\n{link}\n{}{more}\n", Peer::EchoDatagrams.text());
    (two_hosts(name, &text), SocketAddr::new(FAR.parse().expect("an address"), Peer::PORT))
}

#[test]
fn lost_and_doubled_datagrams_of_a_simulated_network_are_got_over() {
    let (network, server) = echo_across("lossy", "loss = \"20%\"\nduplicate = \"50%\"\njitter = \"5ms\"", "");
    for receive in WAYS {
        let run = client(server, receive).args(["--net", &network, "--seed", "7"]);
        let ran = run.set("Queries", 50).set("Attempts", 20).run().expect_clean();
        let [answered, asked, again, others] = counts(&ran);
        assert_eq!((answered, asked), (50, 50), "{receive}: {ran:#?}");
        assert!(again > 0 && others > 0, "{receive}: {ran:#?}");
    }
}

#[test]
fn longest_datagram_crosses_a_simulated_network_in_fragments() {
    let (network, server) = echo_across("plain", "latency = \"3ms\"", "");
    for receive in WAYS {
        let run = client(server, receive).args(["--net", &network]).set("Bytes", 65_507);
        assert_eq!(counts(&run.run().expect_clean()), [1, 1, 0, 0], "{receive}");
    }
}

/// A driver that waits for its own time limit lets virtual time go on without the network's doing anything.
#[test]
fn datagram_sent_after_a_silence_takes_as_long_as_any_other() {
    let silence = "[[fault]]\nat = \"0s\"\nuntil = \"1500ms\"\npartition = [\"far\"]";
    let (network, server) = echo_across("silence", "latency = \"10ms\"", silence);
    let ran = client(server, "request").args(["--net", &network]).run().expect_clean();
    assert_eq!(counts(&ran), [1, 1, 2, 0], "{ran:#?}");
    ran.line("completes TDI_RECEIVE_DATAGRAM, address #1 after 20.0 ms → STATUS_SUCCESS, 64 bytes");
}
