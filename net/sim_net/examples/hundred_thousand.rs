//! Opens 100,000 connections between simulated hosts at once, says a word on each, closes them, and prints how
//! long each step took: `cargo run --release -p sim_net --example hundred_thousand [COUNT]`.

use std::io::{IoSlice, IoSliceMut};
use std::time::Instant;

use net_api::{EventSink, Key, NetTime, Network, Progress, Readiness, Received, Sent, Wait};
use sim_net::{Live, NetworkFile, Sim, SimNetwork};

/// As many as one address has ports for one remote address.
const PER_PORT: u64 = 50_000;

struct Ignore;

impl EventSink for Ignore {
    fn handle_event(&self, _key: Key, _ready: Readiness) {}
}

/// Lets everything happen that happens by itself.
fn settle(network: &SimNetwork) {
    let mut now = NetTime::ZERO;
    while let Some(next) = network.next_deadline() {
        now = now.max(next);
        while network.poll(now, Wait::No, &Ignore) > 0 {}
    }
}

fn main() {
    let count: u64 = std::env::args().nth(1).map_or(100_000, |count| count.parse().expect("a number of connections"));
    let small = "send_buffer = 512\nreceive_buffer = 512\n";
    let mut text = format!(
        "[[host]]\nname = \"client\"\naddress = [\"10.0.0.1\"]\n{small}\
         [[host]]\nname = \"server\"\naddress = [\"10.0.0.2\"]\n{small}"
    );
    for port in 0..count.div_ceil(PER_PORT) {
        text += &format!("[[peer]]\nhost = \"server\"\nkind = \"echo\"\nport = {}\n", 1 + port);
    }
    let file = NetworkFile::parse(&text).expect("the file above");
    let sim = Sim::new(&file, 1);
    let network = sim.network("client").expect("a host of the file above");
    let address = network.open_address(([0, 0, 0, 0], 0).into()).expect("an address");

    let begin = Instant::now();
    let streams: Vec<_> = (0..count)
        .map(|number| {
            let port = 1 + u16::try_from(number / PER_PORT).expect("fewer ports than that");
            address.connect(([10, 0, 0, 2], port).into(), Key(number)).expect("a connection").0
        })
        .collect();
    settle(&network);
    assert!(streams.iter().all(|stream| stream.progress() == Ok(Progress::Established)));
    println!("{count} connections open after {:?}", begin.elapsed());

    let begin = Instant::now();
    for stream in &streams {
        assert_eq!(stream.send(&[IoSlice::new(b"hello")]), Sent::Taken(5));
    }
    settle(&network);
    for stream in &streams {
        assert_eq!(stream.receive(&mut [IoSliceMut::new(&mut [0; 8])]), Received::Got(5));
    }
    println!("a word and its echo on each after {:?}", begin.elapsed());

    let begin = Instant::now();
    drop((streams, address));
    settle(&network);
    assert_eq!(sim.live(), Live::default());
    println!("closed after {:?}; {:?}", begin.elapsed(), sim.frames());
}
