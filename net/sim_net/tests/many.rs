//! Ten thousand connections at once.

mod common;

use std::io::{IoSlice, IoSliceMut};

use common::World;
use net_api::{Key, Progress, Received, Sent};

#[test]
fn ten_thousand_connections_open_talk_and_leave_nothing() {
    const COUNT: u64 = 10_000;
    let small = "send_buffer = 1024\nreceive_buffer = 1024\n";
    let text = format!(
        "[[host]]\nname = \"a\"\naddress = [\"10.0.0.1\"]\n{small}[[host]]\nname = \"b\"\naddress = [\"10.0.0.2\"]\n{small}\
         [[peer]]\nhost = \"b\"\nkind = \"echo\"\nport = 7\n"
    );
    let mut world = World::new(&text, 1);
    let address = world.open(0, "0.0.0.0:0");
    let open = |key| address.connect("10.0.0.2:7".parse().unwrap(), Key(key)).unwrap().0;
    let streams: Vec<_> = (0..COUNT).map(open).collect();
    world.settle();
    assert_eq!(world.sim.live().connections, 2 * COUNT as usize);
    for stream in &streams {
        assert_eq!(stream.progress(), Ok(Progress::Established));
        assert_eq!(stream.send(&[IoSlice::new(b"hello")]), Sent::Taken(5));
    }
    world.settle();
    for stream in &streams {
        let mut bytes = [0; 8];
        assert_eq!(stream.receive(&mut [IoSliceMut::new(&mut bytes)]), Received::Got(5));
    }
    drop((streams, address));
    world.settle();
    assert_eq!(world.sim.live(), sim_net::Live::default());
}
