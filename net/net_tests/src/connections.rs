//! Connections, from their handshake to their end.

use std::io::{IoSlice, IoSliceMut};

use net_api::{Key, Readiness, Received, Sent};

use crate::Case;
use crate::world::{Report, World, sent, words};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "refused",
        run: refused,
        expected: &["connection refused: nobody listens at the remote address", "the same again"],
    },
    Case {
        name: "no address to connect to",
        run: no_address,
        expected: &[
            "unspecified: the address is not available",
            "port 0: the address is not available",
            "everybody: the address is not available",
            "a group: the address is not available",
            "another family: the address is not available",
        ],
    },
    Case { name: "bytes both ways", run: both_ways, expected: &["100000 bytes there", "100000 bytes back, the same"] },
    Case {
        name: "orderly end",
        run: orderly_end,
        expected: &["\"last words\"", "end", "end", "took 50000", "50000 bytes, then end"],
    },
    Case {
        name: "half an end",
        run: half_end,
        expected: &["far: end", "near sends: not connected", "near again: done", "near: \"answer\"", "near: end"],
    },
    Case {
        name: "drop with unread bytes",
        run: drop_unread,
        expected: &["connection reset by the remote side", "connection reset by the remote side"],
    },
    Case {
        name: "bytes after the drop",
        run: bytes_after_drop,
        expected: &["end", "connection reset by the remote side"],
    },
    Case {
        name: "abort",
        run: abort,
        expected: &[
            "far: connection reset by the remote side",
            "send: connection aborted by this side",
            "urgent: connection aborted by this side",
            "receive: connection aborted by this side",
            "progress: connection aborted by this side",
            "shutdown: connection aborted by this side",
            "local: connection aborted by this side",
            "no delay: connection aborted by this side",
            "unread: false",
        ],
    },
    Case {
        name: "peek",
        run: peek,
        expected: &["l ook", "l ook", "unread: true", "\"look\"", "unread: false", "nothing: would block"],
    },
    Case { name: "nothing at all", run: nothing, expected: &["took 0", "took 0", "Got(0)"] },
    Case {
        name: "urgent byte",
        run: urgent,
        expected: &["took 1", "\"before\"", "at the mark: true", "\"!\"", "at the mark: false", "\"after\""],
    },
    Case {
        name: "several urgent bytes",
        run: several_urgent,
        expected: &["\"12\"", "urgent \"3\"", "\"after\"", "end"],
    },
    Case {
        name: "readiness",
        run: readiness,
        expected: &[
            "bytes: READABLE",
            "full, then drained: WRITABLE",
            "far has ended: READABLE REMOTE_ENDED",
            "far has gone: BROKEN",
        ],
    },
    Case {
        name: "addresses of both ends",
        run: addresses,
        expected: &["near's local is far's remote", "far's local is near's remote"],
    },
    Case {
        name: "interfaces",
        run: interfaces,
        expected: &[
            "this side's address: on one of them",
            "the loopback interface: one",
            "numbers: told apart, from 1",
        ],
    },
    Case {
        name: "capabilities",
        run: capabilities,
        expected: &[
            "urgent bytes: 1",
            "refuses before the handshake: false",
            "ipv6: true",
            "virtual time: false",
            "longest datagram: 65507",
            "groups: true",
            "delivery errors: true",
        ],
    },
];

fn refused(world: &mut World, report: &mut Report) {
    let gone = world.far.listening(1);
    let remote = gone.local();
    drop(gone);
    let attempt = |key| world.start(remote, key).and_then(|stream| world.outcome(&stream));
    let first = attempt(Key(1));
    report.note(words(&first));
    report.note(if attempt(Key(2)) == first { "the same again" } else { "something else" });
}

fn no_address(world: &mut World, report: &mut Report) {
    let mut attempt = |what: &str, remote: &str| {
        let remote = remote.parse().unwrap_or_else(|error| panic!("{remote}: {error}"));
        report.note(format!("{what}: {}", words(&world.start(remote, Key(1)))));
    };
    attempt("unspecified", "0.0.0.0:80");
    attempt("port 0", "127.0.0.1:0");
    attempt("everybody", "255.255.255.255:80");
    attempt("a group", "224.0.0.1:80");
    attempt("another family", "[::1]:80");
}

fn both_ways(world: &mut World, report: &mut Report) {
    let (near, far) = world.pair();
    let data: Vec<u8> = (0..100_000_u32).map(|index| (index / 7) as u8).collect();
    for (from, to, text) in [(&near, &far, "there"), (&far, &near, "back, the same")] {
        let (mut done, mut got, mut bytes) = (0, Vec::new(), vec![0; 3000]);
        while got.len() < data.len() {
            world.until("progress", || {
                let mut moved = 0;
                let end = (done + 7777).min(data.len());
                if let Sent::Taken(count) = from.send(&[IoSlice::new(&data[done..end])]) {
                    done += count;
                    moved += count;
                }
                if let Received::Got(count) = to.receive(&mut [IoSliceMut::new(&mut bytes)]) {
                    got.extend_from_slice(&bytes[..count]);
                    moved += count;
                }
                (moved > 0).then_some(())
            });
        }
        report.note(if got == data { format!("{} bytes {text}", got.len()) } else { "other bytes".into() });
    }
}

fn orderly_end(world: &mut World, report: &mut Report) {
    let (near, far) = world.pair();
    world.send_all(&near, b"last words");
    drop(near);
    for _ in 0..3 {
        report.note(world.receive(&far, 100));
    }
    // What was taken is delivered, though nobody is there any more.
    let (near, far) = world.pair();
    report.note(sent(near.send(&[IoSlice::new(&[1; 50_000])])));
    drop(near);
    let (bytes, end) = world.receive_all(&far);
    report.note(format!("{} bytes, then {end}", bytes.len()));
}

fn half_end(world: &mut World, report: &mut Report) {
    let (near, far) = world.pair();
    report.note(match near.shutdown_send() {
        Ok(()) => format!("far: {}", world.receive(&far, 10)),
        Err(error) => error.to_string(),
    });
    report.note(format!("near sends: {}", sent(near.send(&[IoSlice::new(b"late")]))));
    report.note(format!("near again: {}", words(&near.shutdown_send())));
    world.send_all(&far, b"answer");
    report.note(format!("near: {}", world.receive(&near, 10)));
    drop(far);
    report.note(format!("near: {}", world.receive(&near, 10)));
}

fn drop_unread(world: &mut World, report: &mut Report) {
    let (near, far) = world.pair();
    world.send_all(&far, b"unread");
    world.until("bytes", || near.has_unread().then_some(()));
    drop(near);
    report.note(world.receive(&far, 10));
    report.note(sent(far.send(&[IoSlice::new(b"x")])));
}

fn bytes_after_drop(world: &mut World, report: &mut Report) {
    let (near, far) = world.pair();
    drop(near);
    report.note(world.receive(&far, 10));
    world.send_all(&far, b"too late");
    let failure = world.until("reset", || match far.send(&[IoSlice::new(b"x")]) {
        Sent::Failed(error) => Some(error),
        Sent::Taken(_) | Sent::WouldBlock => None,
    });
    report.note(failure);
}

fn abort(world: &mut World, report: &mut Report) {
    let (near, far) = world.pair();
    world.send_all(&far, b"unread");
    world.until("bytes", || near.has_unread().then_some(()));
    near.abort();
    report.note(format!("far: {}", world.receive(&far, 10)));
    report.note(format!("send: {}", sent(near.send(&[IoSlice::new(b"x")]))));
    report.note(format!("urgent: {}", sent(near.send_urgent(1))));
    report.note(format!("receive: {}", world.receive(&near, 10)));
    report.note(format!("progress: {}", words(&near.progress())));
    report.note(format!("shutdown: {}", words(&near.shutdown_send())));
    report.note(format!("local: {}", words(&near.local())));
    report.note(format!("no delay: {}", words(&near.set_no_delay(true))));
    report.note(format!("unread: {}", near.has_unread()));
}

fn peek(world: &mut World, report: &mut Report) {
    let (near, far) = world.pair();
    world.send_all(&far, b"look");
    world.until("bytes", || near.has_unread().then_some(()));
    let (mut one, mut two) = ([0; 1], [0; 8]);
    for _ in 0..2 {
        let outcome =
            world.until("peek", || match near.peek(&mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)]) {
                Received::WouldBlock => None,
                other => Some(other),
            });
        let Received::Got(count) = outcome else { panic!("{outcome:?}") };
        report.note(format!("{} {}", String::from_utf8_lossy(&one), String::from_utf8_lossy(&two[..count - 1])));
    }
    report.note(format!("unread: {}", near.has_unread()));
    report.note(world.receive(&near, 10));
    report.note(format!("unread: {}", near.has_unread()));
    let nothing = near.receive(&mut [IoSliceMut::new(&mut two)]);
    report.note(format!("nothing: {}", if nothing == Received::WouldBlock { "would block" } else { "something" }));
}

fn nothing(world: &mut World, report: &mut Report) {
    let (near, _far) = world.pair();
    report.note(sent(near.send(&[])));
    report.note(sent(near.send(&[IoSlice::new(b"")])));
    report.note(format!("{:?}", near.receive(&mut [])));
}

fn urgent(world: &mut World, report: &mut Report) {
    let (near, far) = world.pair();
    world.send_all(&near, b"before");
    let outcome = near.send_urgent(b'!');
    report.note(sent(outcome));
    if matches!(outcome, Sent::Failed(_)) {
        return;
    }
    world.send_all(&near, b"after");
    let mut seen = Readiness::NONE;
    world.until("mark", || {
        seen |= world.far.take_seen(Key(2));
        seen.contains(Readiness::URGENT).then_some(())
    });
    report.note(world.receive(&far, 100));
    report.note(format!("at the mark: {}", far.is_at_urgent_mark()));
    report.note(world.receive(&far, 1));
    report.note(format!("at the mark: {}", far.is_at_urgent_mark()));
    report.note(world.receive(&far, 100));
}

fn several_urgent(world: &mut World, report: &mut Report) {
    let (near, far) = world.pair();
    for byte in *b"123" {
        assert_eq!(near.send_urgent(byte), Sent::Taken(1));
    }
    world.send_all(&near, b"after");
    near.shutdown_send().unwrap_or_else(|error| panic!("shutdown: {error}"));
    let mut seen = Readiness::NONE;
    world.until("all of it", || {
        seen |= world.far.take_seen(Key(2));
        seen.contains(Readiness::REMOTE_ENDED).then_some(())
    });
    loop {
        let is_urgent = far.is_at_urgent_mark();
        // With an urgent byte those behind it may come, too.
        let received = world.receive(&far, if is_urgent { 1 } else { 100 });
        let is_end = received == "end";
        report.note(if is_urgent { format!("urgent {received}") } else { received });
        if is_end {
            break;
        }
    }
}

fn readiness(world: &mut World, report: &mut Report) {
    let (near, far) = world.pair();
    let mut wait = |what: &str, wanted: Readiness, text: &str| {
        let mut seen = Readiness::NONE;
        world.until(what, || {
            seen |= world.near.take_seen(Key(1));
            seen.contains(wanted).then_some(())
        });
        report.note(format!("{what}: {text}"));
    };
    world.send_all(&far, b"x");
    wait("bytes", Readiness::READABLE, "READABLE");
    world.receive(&near, 10);
    let mut total = 0;
    // Until both buffers are full and nothing moves any more.
    let mut bytes = vec![0; 65_536];
    while let Sent::Taken(count) = near.send(&[IoSlice::new(&bytes)]) {
        total += count;
    }
    let mut drained = 0;
    world.near.take_seen(Key(1));
    while drained < total {
        drained += world.until("bytes", || match far.receive(&mut [IoSliceMut::new(&mut bytes)]) {
            Received::Got(count) => Some(count),
            _ => None,
        });
    }
    wait("full, then drained", Readiness::WRITABLE, "WRITABLE");
    far.shutdown_send().unwrap_or_else(|error| panic!("shutdown: {error}"));
    wait("far has ended", Readiness::READABLE | Readiness::REMOTE_ENDED, "READABLE REMOTE_ENDED");
    far.abort();
    wait("far has gone", Readiness::BROKEN, "BROKEN");
}

fn addresses(world: &mut World, report: &mut Report) {
    let (near, far) = world.pair();
    let same = near.local() == Ok(far.remote());
    report.note(if same { "near's local is far's remote" } else { "near's local is something else" });
    let same = far.local() == Ok(near.remote());
    report.note(if same { "far's local is near's remote" } else { "far's local is something else" });
}

fn capabilities(world: &mut World, report: &mut Report) {
    let one = world.near.network.capabilities();
    report.note(match one.urgent_bytes {
        u32::MAX => "urgent bytes: as many as are sent".to_owned(),
        count => format!("urgent bytes: {count}"),
    });
    report.note(format!("refuses before the handshake: {}", one.refuses_before_handshake));
    report.note(format!("ipv6: {}", one.ipv6));
    report.note(format!("virtual time: {}", one.virtual_time));
    report.note(format!("longest datagram: {}", one.datagram_bytes_max));
    report.note(format!("groups: {}", one.multicast));
    report.note(format!("delivery errors: {}", one.delivery_errors));
}

fn interfaces(world: &mut World, report: &mut Report) {
    let all = world.near.network.interfaces();
    let with_address = all.iter().filter(|one| one.addresses.iter().any(|(ip, _)| *ip == world.near.ip)).count();
    report.note(format!("this side's address: on {}", if with_address == 1 { "one of them" } else { "others" }));
    let loopback = all.iter().filter(|one| one.is_loopback && one.is_up).count();
    report.note(format!("the loopback interface: {}", if loopback == 1 { "one" } else { "none or many" }));
    let apart = all.first().is_some_and(|one| one.number > 0) && all.is_sorted_by(|one, next| one.number < next.number);
    report.note(format!("numbers: {}", if apart { "told apart, from 1" } else { "no names" }));
}
