//! Drivers on several hosts of a simulated network.

mod scenario;

use std::fs;

use scenario::{CLIENT_AND_SERVER, Ran, Run, folder, sample, simulated};

const REQUEST: &[u8] = b"GET / HTTP/1.0\r\nHost: 10.0.0.2\r\nConnection: close\r\n\r\n";

/// The sample client, which takes back the request that the sample server sends back.
fn client_and_server(name: &str, more: impl FnOnce(Run) -> Run) -> Ran {
    let run = Run::sample("tdi_server.sys").arg(sample("tdi_client.sys"));
    let run = run.set("Port", 80).set("Host", "10.0.0.2").set("StopAfter", REQUEST.len());
    more(run.args(["--net", &simulated(name, CLIENT_AND_SERVER)])).run().expect_clean()
}

#[test]
fn client_on_one_host_reaches_the_server_on_another() {
    let ran = client_and_server("two-hosts", |run| run);
    ran.line("10.0.0.2:80 is connected to endpoint #");
    ran.line(&format!("tdi_client: connection 0: {} bytes", REQUEST.len()));
    ran.line(&format!("tdi_server: done: 1 connections, {} bytes sent back", REQUEST.len()));
}

#[test]
fn capture_holds_what_crossed_the_wire_and_is_the_same_for_the_same_seed() {
    let captured = |file: &str| {
        let file = folder("captures").join(file);
        client_and_server("captured", |run| run.args(["--seed", "3"]).arg("--pcap").arg(&file));
        fs::read(file).expect("the capture")
    };
    let capture = captured("first.pcapng");
    assert!(capture.starts_with(&[0x0A, 0x0D, 0x0D, 0x0A]), "it begins as pcapng does: {capture:?}");
    let crossings = capture.windows(REQUEST.len()).filter(|bytes| *bytes == REQUEST).count();
    assert_eq!(crossings, 2, "there and back");
    assert_eq!(captured("second.pcapng"), capture);
}

#[test]
fn servers_on_different_hosts_have_the_same_port() {
    let second = folder("drivers").join("second_server.sys");
    fs::copy(sample("tdi_server.sys"), &second).expect("a copy");
    let network = format!(
        "{CLIENT_AND_SERVER}[[host]]\nname = \"c\"\naddress = [\"10.0.0.3\"]\ndriver = \"second_server.sys\"\n"
    );
    for host in ["10.0.0.2", "10.0.0.3"] {
        let run = Run::sample("tdi_server.sys").arg(&second).arg(sample("tdi_client.sys"));
        let run = run.args(["--net", &simulated("two-servers", &network)]).set("Timeout", 1000).set("Port", 80);
        let ran = run.set("Host", host).set("StopAfter", REQUEST.len()).run().expect_clean();
        let done: Vec<&str> = ran.account.lines().filter(|line| line.contains("tdi_server: done: ")).collect();
        let served =
            |bytes: usize| done.iter().filter(|line| line.contains(&format!(" {bytes} bytes sent back"))).count();
        assert_eq!((served(REQUEST.len()), served(0)), (1, 1), "{host}: {done:?}");
    }
}

/// Of the clients, one every 300 ms, some come before the server's host crashes, some while it is down, most when it is back.
#[test]
fn server_whose_host_has_crashed_serves_again_when_it_is_back() {
    let network = r#"
        [[host]]
        name = "server"
        address = ["10.0.0.1"]
        [[host]]
        name = "client"
        address = ["10.0.0.2"]
        [[fault]]
        at = "1s"
        until = "2s"
        crash = "server"
        [[peer]]
        host = "client"
        kind = "client"
        to = "10.0.0.1:80"
        count = 20
        every = "300ms"
        text = "hello"
    "#;
    for accept in ["event", "listen"] {
        let run = Run::sample("tdi_server.sys").args(["--net", &simulated("crashing", network)]);
        let run = run.set("Port", 80).set("Accept", accept).set("Connections", 20).set("Timeout", 60_000);
        let ran = run.run().expect_clean();
        ran.line("tdi_server: done: 20 connections, 100 bytes sent back");
    }
}

/// Connections of one thread end one after the other, so that most have enough, and refuse more, while an earlier one waits.
#[test]
fn account_notes_once_that_refused_data_is_not_indicated_again() {
    let files = "[[peer]]\nhost = \"b\"\nkind = \"http\"\nport = 80\nfiles = { \"/\" = 1000000 }\n";
    let network = format!(
        "[default_link]\nlatency = \"20ms\"\nloss = \"5%\"\n[[host]]\nname = \"a\"\naddress = [\"10.0.0.1\"]\n\
         [[host]]\nname = \"b\"\naddress = [\"10.0.0.2\"]\n{files}"
    );
    let run = |stop_after: u32| {
        let run = Run::sample("tdi_client.sys").args(["--net", &simulated("refused", &network)]);
        let run = run.set("Host", "10.0.0.2").set("Port", 80).set("Receive", "event").set("Timeout", 600_000);
        run.set("Endpoints", 8).set("StopAfter", stop_after).set("Close", "abort").run().expect_clean()
    };
    let notes = |ran: &Ran| ran.account.matches("a receive handler has refused data, and more has come").count();
    assert_eq!((notes(&run(100_000)), notes(&run(0))), (1, 0));
}
