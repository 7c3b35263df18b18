//! Scripted peers.

mod common;

use std::io::{IoSlice, IoSliceMut};
use std::time::Duration;

use common::World;
use net_api::{Key, NetError, NetTime, Progress, Received, Sent};

fn with_peer(peer: &str) -> World {
    World::two(&format!("[[peer]]\nhost = \"b\"\nport = 9\n{peer}\n"))
}

#[test]
fn echo_returns_everything_and_ends_when_the_other_side_does() {
    let mut world = with_peer("kind = \"echo\"");
    let stream = world.connect(0, "10.0.0.2:9", Key(1)).unwrap();
    let data: Vec<u8> = (0..200_000_u32).map(|index| (index / 7) as u8).collect();
    let (mut sent, mut returned, mut bytes) = (0, Vec::new(), vec![0; 5000]);
    while returned.len() < data.len() {
        world.until("echo", |_| {
            let mut moved = 0;
            if let Sent::Taken(count) = stream.send(&[IoSlice::new(&data[sent..])]) {
                sent += count;
                moved += count;
            }
            if let Received::Got(count) = stream.receive(&mut [IoSliceMut::new(&mut bytes)]) {
                returned.extend_from_slice(&bytes[..count]);
                moved += count;
            }
            (moved > 0).then_some(())
        });
    }
    assert_eq!(returned, data);
    stream.shutdown_send().unwrap();
    assert_eq!(world.receive(&stream, 1).0, Received::EndOfStream);
    drop(stream);
    world.settle();
    assert_eq!(world.sim.live().connections, 0);
}

#[test]
fn source_sends_its_pattern_and_ends() {
    let mut world = with_peer("kind = \"source\"\nbytes = 100000");
    let stream = world.connect(0, "10.0.0.2:9", Key(1)).unwrap();
    let (outcome, bytes) = world.receive_all(&stream);
    assert_eq!(outcome, Received::EndOfStream);
    assert!(bytes.iter().copied().eq((0..100_000_u64).map(|offset| (offset % 251) as u8)));
}

#[test]
fn source_and_half_closing_peer_send_everything_to_who_has_half_closed() {
    // More than buffers hold.
    let text = "y".repeat(300_000);
    for peer in ["kind = \"source\"\nbytes = 300000".into(), format!("kind = \"half_close\"\ntext = \"{text}\"")] {
        let mut world = with_peer(&peer);
        let stream = world.connect(0, "10.0.0.2:9", Key(1)).unwrap();
        stream.shutdown_send().unwrap();
        let (outcome, bytes) = world.receive_all(&stream);
        assert_eq!((outcome, bytes.len()), (Received::EndOfStream, text.len()));
        drop(stream);
        world.settle();
        assert_eq!(world.sim.live().connections, 0);
    }
}

#[test]
fn sink_takes_everything() {
    let mut world = with_peer("kind = \"sink\"");
    let stream = world.connect(0, "10.0.0.2:9", Key(1)).unwrap();
    world.send_all(&stream, &[1; 1_000_000]);
    stream.shutdown_send().unwrap();
    assert_eq!(world.receive(&stream, 1).0, Received::EndOfStream);
}

#[test]
fn reset_comes_after_so_many_bytes() {
    let mut world = with_peer("kind = \"reset\"\nbytes = 5000");
    let stream = world.connect(0, "10.0.0.2:9", Key(1)).unwrap();
    world.send_all(&stream, &[1; 4999]);
    world.pass(Duration::from_secs(5));
    assert_eq!(stream.progress(), Ok(Progress::Established));
    world.send_all(&stream, &[1]);
    assert_eq!(world.receive(&stream, 1).0, Received::Failed(NetError::Reset));
}

#[test]
fn reset_after_nothing_comes_at_once() {
    let mut world = with_peer("kind = \"reset\"\nbytes = 0");
    let stream = world.connect(0, "10.0.0.2:9", Key(1)).unwrap();
    assert_eq!(world.receive(&stream, 1).0, Received::Failed(NetError::Reset));
}

#[test]
fn silent_peer_accepts_and_says_nothing() {
    let mut world = with_peer("kind = \"silent\"");
    let stream = world.connect(0, "10.0.0.2:9", Key(1)).unwrap();
    world.send_all(&stream, b"anybody?");
    world.pass(Duration::from_secs(1000));
    assert_eq!(stream.progress(), Ok(Progress::Established));
    assert_eq!(stream.receive(&mut [IoSliceMut::new(&mut [0])]), Received::WouldBlock);
    drop(stream);
    world.settle();
    assert_eq!(world.sim.live().connections, 0);
}

#[test]
fn ignoring_peer_does_not_even_answer_the_handshake() {
    let mut world = with_peer("kind = \"ignore\"");
    assert_eq!(world.connect(0, "10.0.0.2:9", Key(1)).err(), Some(NetError::TimedOut));
    assert_eq!(world.now, NetTime::from_nanoseconds(21_000_000_000));
}

#[test]
fn half_closing_peer_says_its_words_ends_and_goes_on_taking() {
    let mut world = with_peer("kind = \"half_close\"\ntext = \"220 ready\"");
    let stream = world.connect(0, "10.0.0.2:9", Key(1)).unwrap();
    assert_eq!(world.receive_all(&stream), (Received::EndOfStream, b"220 ready".to_vec()));
    world.send_all(&stream, &[1; 300_000]);
    drop(stream);
    world.settle();
    assert_eq!(world.sim.live().connections, 0);
}

#[test]
fn http_peer_serves_its_files_over_one_connection() {
    let mut world = with_peer("kind = \"http\"\nfiles = { \"/\" = \"hello\", \"/big\" = 70000 }");
    let stream = world.connect(0, "10.0.0.2:9", Key(1)).unwrap();
    world.send_all(&stream, b"GET / HTTP/1.1\r\nHost: b\r\n\r\nGET /nothing HTTP/1.1\r\n\r\n");
    world.send_all(&stream, b"GET /big HTTP/1.1\r\nConnection: close\r\n\r\n");
    let (outcome, bytes) = world.receive_all(&stream);
    assert_eq!(outcome, Received::EndOfStream);
    let text = String::from_utf8_lossy(&bytes);
    let answers: Vec<&str> = text.split("HTTP/1.1 ").collect();
    assert!(answers[1].starts_with("200 OK\r\n") && answers[1].ends_with("\r\n\r\nhello"), "{}", answers[1]);
    assert!(answers[2].starts_with("404 Not Found\r\n"), "{}", answers[2]);
    assert!(answers[3].starts_with("200 OK\r\n"), "{}", answers[3]);
    let body = bytes.windows(4).rposition(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert!(bytes[body..].iter().copied().eq((0..70_000_u64).map(|offset| (offset % 251) as u8)));
}

#[test]
fn http_peer_refuses_a_head_without_end() {
    let mut world = with_peer("kind = \"http\"");
    let stream = world.connect(0, "10.0.0.2:9", Key(1)).unwrap();
    world.send_all(&stream, &[b'x'; 9000]);
    let (_, bytes) = world.receive_all(&stream);
    assert!(bytes.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&bytes));
}

#[test]
fn scripted_client_calls_as_often_as_it_is_told() {
    let client =
        "[[peer]]\nhost = \"b\"\nkind = \"client\"\nto = \"10.0.0.1:80\"\nat = \"1s\"\nevery = \"2s\"\ncount = 3\n";
    for (then, expected) in [("close", Received::EndOfStream), ("reset", Received::Failed(NetError::Reset))] {
        let mut world = World::two(&format!("{client}text = \"knock\"\nthen = \"{then}\"\n"));
        let listening = world.open(0, "0.0.0.0:80");
        listening.listen(4, Key(1000)).unwrap();
        for number in 0..3 {
            let stream = world.accept(&listening, Key(number));
            let due = 1_000_000_000 + number * 2_000_000_000 + 10_000_000;
            assert_eq!(world.now, NetTime::from_nanoseconds(due));
            assert_eq!(world.receive(&stream, 20).1, b"knock");
            world.send_all(&stream, b"knock");
            assert_eq!(world.receive(&stream, 20).0, expected, "{then}");
        }
        world.settle();
        drop(listening);
        assert_eq!(world.sim.live().connections, 0);
    }
}
