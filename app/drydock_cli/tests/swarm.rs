//! Many simulated runs of the sample drivers that differ in everything: who talks to whom, how it is closed, which faults the
//! network has and how bad they are. Each is one seed. `SWARM_RUNS` says how many (200), `SWARM_SEED` which is the first (1); a
//! failure prints the seed, which repeats it.

mod scenario;

use std::fmt::Write;
use std::{env, fs};

use scenario::{Ran, Run, folder, sample, simulated};

/// Longer than anything takes that the network lets come to its end.
const PATIENCE: &str = "1h";
const PATIENCE_MS: u64 = 3_600_000;

/// Choices, all from one seed (SplitMix64).
struct Choices(u64);

impl Choices {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.next().is_multiple_of(count)
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[(self.next() % all.len() as u64) as usize]
    }
}

/// One run: its network, its drivers with their settings, and what must come of it.
struct Plan {
    network: String,
    drivers: Vec<&'static str>,
    settings: Vec<(&'static str, String)>,
    /// Texts that must be printed, if nothing on the way is without remedy.
    prints: Vec<String>,
}

impl Plan {
    fn set(&mut self, name: &'static str, value: impl ToString) {
        self.settings.push((name, value.to_string()));
    }

    /// Whatever the network does to packets, TCP gets over it, if everybody has the patience.
    fn of(seed: u64) -> Self {
        let mut choices = Choices(seed);
        let mut plan = Self { network: String::new(), drivers: Vec::new(), settings: Vec::new(), prints: Vec::new() };
        let kind = choices.between(0, 3);
        let is_patient = plan.add_network(&mut choices, kind == 0 || kind == 2);
        plan.set("Timeout", if is_patient { PATIENCE_MS } else { choices.between(1, 5000) });
        match kind {
            0 => plan.client_and_server(&mut choices),
            1 => plan.client_and_peer(&mut choices),
            2 => plan.server_and_peers(&mut choices),
            _ => plan.datagrams(&mut choices),
        }
        if !is_patient {
            plan.prints.clear();
        }
        plan
    }

    /// Two hosts, on one of which the server may run, and a link on which each thing goes wrong in half of all runs. Whether
    /// everything comes to its end on it.
    fn add_network(&mut self, choices: &mut Choices, has_server: bool) -> bool {
        let text = &mut self.network;
        *text += "[default_link]\n";
        let faults = [
            ("latency", 0, 200, "ms"),
            ("jitter", 1, 50, "ms"),
            ("loss", 1, 15, "%"),
            ("duplicate", 1, 20, "%"),
            ("reorder", 1, 20, "%"),
            ("bandwidth", 200, 20_000, "kbit"),
            ("mtu", 1280, 1500, "B"),
        ];
        for (key, low, high, unit) in faults {
            if choices.one_in(2) {
                add(text, format_args!("{key} = \"{}{unit}\"", choices.between(low, high)));
            }
        }
        let is_patient = choices.one_in(2);
        for (name, address) in [("near", "10.0.0.1"), ("far", "10.0.0.2")] {
            add(text, format_args!("[[host]]\nname = \"{name}\"\naddress = [\"{address}\"]"));
            if choices.one_in(2) {
                let (send, receive) = (choices.between(512, 8192), choices.between(512, 8192));
                add(text, format_args!("send_buffer = {send}\nreceive_buffer = {receive}"));
            }
            if is_patient {
                add(text, format_args!("connect_timeout = \"{PATIENCE}\"\ndata_timeout = \"{PATIENCE}\""));
            }
            if has_server && name == "far" {
                *text += "driver = \"tdi_server.sys\"\n";
            }
        }
        if choices.one_in(2) {
            let at = choices.between(0, 3000);
            let until = at + choices.between(1, 5000);
            add(text, format_args!("[[fault]]\nat = \"{at}ms\"\nuntil = \"{until}ms\"\npartition = [\"far\"]"));
        }
        // A host that forgets everything cannot be got over.
        if !is_patient && choices.one_in(3) {
            let at = choices.between(0, 2000);
            let until = at + choices.between(1, 3000);
            add(text, format_args!("[[fault]]\nat = \"{at}ms\"\nuntil = \"{until}ms\"\ncrash = \"far\""));
        }
        is_patient
    }

    /// How many connections the client makes together, and how often.
    fn client(&mut self, choices: &mut Choices) -> [u64; 2] {
        self.drivers.push("tdi_client.sys");
        let endpoints = choices.between(1, 8);
        let rounds = choices.between(1, 3);
        self.set("Endpoints", endpoints);
        self.set("Rounds", rounds);
        self.set("Threads", choices.between(0, endpoints.min(4)));
        self.set("Receive", choices.of(&["request", "event"]));
        let paths = ["disconnect", "no-disconnect", "disassociate", "reassociate", "handle-first", "abort"];
        self.set("Close", choices.of(&paths));
        self.set("Order", choices.of(&["", "handle-first", "reference-first"]));
        self.set("AddressFirst", choices.between(0, 1));
        self.set("PendingReceive", choices.between(0, 1));
        self.set("Host", "10.0.0.2");
        self.set("Port", 80);
        [endpoints, rounds]
    }

    fn client_and_server(&mut self, choices: &mut Choices) {
        self.drivers.push("tdi_server.sys");
        let [endpoints, rounds] = self.client(choices);
        let connections = endpoints * rounds;
        let request = "GET / HTTP/1.0\r\nHost: 10.0.0.2\r\nConnection: close\r\n\r\n".len();
        self.set("StopAfter", request);
        self.set("Connections", connections);
        self.set("Accept", choices.of(&["event", "listen"]));
        // The server has as many endpoints. In the second round they may not be free again, and it refuses.
        if rounds == 1 {
            self.prints.push(format!("tdi_client: done: {connections} connections, 0 failed"));
            self.prints.push(format!("tdi_server: done: {connections} connections, "));
        }
    }

    fn client_and_peer(&mut self, choices: &mut Choices) {
        let [endpoints, rounds] = self.client(choices);
        let connections = endpoints * rounds;
        let bytes = choices.between(0, 60_000);
        let mut kinds = vec![("http", format!("files = {{ \"/\" = {bytes} }}"))];
        if !choices.one_in(2) {
            let reset = format!("bytes = {}", choices.between(0, 60));
            kinds = vec![
                ("silent", String::new()),
                ("ignore", String::new()),
                ("sink", String::new()),
                ("source", format!("bytes = {bytes}")),
                ("reset", reset),
                ("half_close", "text = \"that is all\"".into()),
            ];
        }
        let (kind, keys) = &kinds[choices.next() as usize % kinds.len()];
        add(&mut self.network, format_args!("[[peer]]\nhost = \"far\"\nkind = \"{kind}\"\nport = 80\n{keys}"));
        if *kind == "http" {
            self.prints.push(format!("done: {connections} connections, 0 failed, {} body bytes", connections * bytes));
        }
    }

    fn server_and_peers(&mut self, choices: &mut Choices) {
        self.drivers.push("tdi_server.sys");
        self.set("Accept", choices.of(&["event", "listen"]));
        self.set("Endpoints", choices.between(1, 8));
        self.set("Port", 80);
        let mut connections = 0;
        for _ in 0..choices.between(1, 3) {
            let (count, every) = (choices.between(1, 6), choices.between(0, 300));
            connections += count;
            let text = "x".repeat(choices.between(1, 20_000) as usize);
            let then = choices.of(&["close", "reset", "stay"]);
            let peer = format_args!(
                "[[peer]]\nhost = \"near\"\nkind = \"client\"\nto = \"10.0.0.2:80\"\ncount = {count}\n\
                 every = \"{every}ms\"\nthen = \"{then}\"\ntext = \"{text}\""
            );
            add(&mut self.network, peer);
        }
        self.set("Connections", connections);
    }

    fn datagrams(&mut self, choices: &mut Choices) {
        self.drivers.push("tdi_datagram.sys");
        let queries = choices.between(1, 20);
        self.set("Host", "10.0.0.2");
        self.set("Port", 7);
        self.set("Receive", choices.of(&["request", "event", "handover"]));
        self.set("Queries", queries);
        self.set("Bytes", choices.between(4, 4000));
        self.set("Attempts", 200);
        self.settings.retain(|(name, _)| *name != "Timeout");
        self.set("Timeout", 5000);
        self.network += "[[peer]]\nhost = \"far\"\nkind = \"echo\"\nprotocol = \"udp\"\nport = 7\n";
        self.prints.push(format!("tdi_datagram: done: {queries} of {queries} queries answered"));
    }

    /// What came of it, and every event of it.
    fn run(&self, seed: u64) -> (Ran, String) {
        let network = simulated("swarm", &self.network);
        let trace = folder("swarm").join("trace.jsonl");
        let run = Run::sample(self.drivers[0]).args(["--net", &network]).arg("--seed").arg(seed.to_string());
        let run = self.drivers[1..].iter().fold(run.arg("--trace").arg(&trace), |run, driver| run.arg(sample(driver)));
        let ran = self.settings.iter().fold(run, |run, (name, value)| run.set(name, value)).run();
        (ran, fs::read_to_string(trace).expect("the trace"))
    }
}

fn add(text: &mut String, lines: std::fmt::Arguments<'_>) {
    writeln!(text, "{lines}").expect("a string takes text");
}

/// What is wrong with a run, if anything is.
fn judge(plan: &Plan, ran: &Ran) -> Result<(), String> {
    let counts = &ran.verdict["counts"];
    // A client without threads fails when a connection of its does.
    if !["clean", "driver_failed"].contains(&ran.verdict["verdict"].as_str().unwrap_or_default()) {
        return Err("ended otherwise than a driver may".into());
    }
    if !ran.findings().is_empty() || counts["opens"] != counts["cleanups"] || counts["opens"] != counts["closes"] {
        return Err("something is left".into());
    }
    if ran.account.contains("called after cleanup") {
        return Err("a handler was called after cleanup".into());
    }
    match plan.prints.iter().find(|text| !ran.account.contains(*text)) {
        Some(text) => Err(format!("nobody printed {text:?}")),
        None => Ok(()),
    }
}

fn first_difference(trace: &str, again: &str) -> String {
    let lines = trace.lines().zip(again.lines()).find(|(line, again)| line != again);
    format!("the same seed gave another trace, of {} and {} bytes, first in {lines:#?}", trace.len(), again.len())
}

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn any_drivers_on_any_network_leave_nothing_behind_and_do_the_same_again() {
    let (first, runs) = (setting("SWARM_SEED", 1), setting("SWARM_RUNS", 200));
    println!("seeds {first} to {}", first + runs - 1);
    let (mut failed, mut done) = (0, 0);
    for seed in first..first + runs {
        let plan = Plan::of(seed);
        let (ran, trace) = plan.run(seed);
        let (again, trace_again) = plan.run(seed);
        let wrong = judge(&plan, &ran).and_then(|()| match (again.account == ran.account, trace_again == trace) {
            (true, true) => Ok(()),
            (true, false) => Err(first_difference(&trace, &trace_again)),
            (false, _) => Err(format!("the same seed gave something else:\n{}", again.account)),
        });
        if let Err(wrong) = wrong {
            let repeat = format!("SWARM_SEED={seed} SWARM_RUNS=1 cargo test -p drydock_cli --test swarm");
            let Plan { network, drivers, settings, .. } = plan;
            panic!("seed {seed}: {wrong}\nrepeat: {repeat}\n{drivers:?} {settings:?}\n{network}\n{ran:#?}");
        }
        failed += u64::from(ran.verdict["verdict"] == "driver_failed");
        done += u64::from(!plan.prints.is_empty());
    }
    println!("{failed} runs in which a driver failed, {done} that had to succeed");
    // A swarm in which nothing goes wrong, or nothing works, shows little.
    assert!(runs < 200 || (failed * 100 >= runs && done * 10 >= runs), "{failed} failed, {done} succeeded");
}
