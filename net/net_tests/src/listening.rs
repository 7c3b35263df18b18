//! Ports and offers.

use net_api::{Accepted, Key, NetError, Progress};

use crate::Case;
use crate::world::{Report, World, words};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "ports",
        run: ports,
        expected: &[
            "floating port: 0",
            "two connections, two ports: true",
            "pinned port is none of theirs: true",
            "pinned connection has the pinned port: true",
            "another to the same remote: the address is not available",
            "opened again: the local address is in use",
            "opened once it is free: done",
        ],
    },
    Case { name: "address of nobody here", run: foreign, expected: &["the address is not available"] },
    Case {
        name: "connection to oneself",
        run: to_oneself,
        expected: &["connection refused: nobody listens at the remote address"],
    },
    Case { name: "not listening", run: not_listening, expected: &["not listening", "nothing waits", "not listening"] },
    Case { name: "offer before it is answered", run: unanswered, expected: &["far: Ok(Established)"] },
    Case {
        name: "refused offer",
        run: refused_offer,
        expected: &["near: done", "near: connection reset by the remote side"],
    },
    Case { name: "full backlog", run: full_backlog, expected: &["one too many: still pending"] },
    Case {
        name: "withdrawn listener",
        run: withdrawn,
        expected: &[
            "waiting: done, then connection reset by the remote side",
            "coming: connection refused: nobody listens at the remote address",
            "listens again at the same port: true",
            "coming: done",
        ],
    },
    Case {
        name: "dropped address",
        run: dropped,
        expected: &["taken connection: \"alive\"", "coming: connection refused: nobody listens at the remote address"],
    },
    Case { name: "order of offers", run: order, expected: &["first come, first taken: true"] },
];

fn ports(world: &mut World, report: &mut Report) {
    let far = world.far.listening(8);
    let address = world.near.open(0);
    report.note(format!("floating port: {}", address.local().port()));
    let connect = |key| {
        let (stream, _) = address.connect(far.local(), Key(key))?;
        world.far.answer(&world.offer(&far), Key(100 + key));
        world.outcome(&stream).map(|()| stream)
    };
    let port = |stream: &Result<crate::world::Stream, NetError>| {
        let stream = stream.as_ref().unwrap_or_else(|error| panic!("connect: {error}"));
        stream.local().unwrap_or_else(|error| panic!("local: {error}")).port()
    };
    let (one, two) = (connect(1), connect(2));
    report.note(format!("two connections, two ports: {}", port(&one) != port(&two)));
    let pinned = address.pin().unwrap_or_else(|error| panic!("pin: {error}"));
    let is_new = ![0, port(&one), port(&two)].contains(&pinned.port());
    report.note(format!("pinned port is none of theirs: {is_new}"));
    let three = connect(3);
    report.note(format!("pinned connection has the pinned port: {}", port(&three) == pinned.port()));
    report.note(format!("another to the same remote: {}", words(&address.connect(far.local(), Key(4)))));
    report.note(format!("opened again: {}", words(&world.near.network.open_address(pinned))));
    drop(address);
    report.note(format!("opened once it is free: {}", words(&world.near.network.open_address(pinned))));
}

fn foreign(world: &mut World, report: &mut Report) {
    report.note(words(&world.near.network.open_address(([192, 0, 2, 1], 0).into())));
}

fn to_oneself(world: &mut World, report: &mut Report) {
    let address = world.near.open(0);
    let own = address.pin().unwrap_or_else(|error| panic!("pin: {error}"));
    let outcome = address.connect(own, Key(1)).and_then(|(stream, _)| world.outcome(&stream));
    report.note(words(&outcome));
}

fn say(accepted: &Accepted) -> &'static str {
    match accepted {
        Accepted::Connection(_) => "an offer",
        Accepted::WouldBlock => "nothing waits",
        Accepted::Failed(_) => "failed",
        Accepted::NotListening => "not listening",
    }
}

fn not_listening(world: &mut World, report: &mut Report) {
    let address = world.far.open(0);
    report.note(say(&address.accept()));
    address.listen(1, Key(1000)).unwrap_or_else(|error| panic!("listen: {error}"));
    report.note(say(&address.accept()));
    address.stop_listening();
    report.note(say(&address.accept()));
}

fn unanswered(world: &mut World, report: &mut Report) {
    let address = world.far.listening(1);
    let _near = world.start(address.local(), Key(1));
    let far = world.offer(&address);
    world.far.watch(&far, Key(2));
    report.note(format!("far: {:?}", far.progress()));
    far.answer();
    world.outcome(&far).unwrap_or_else(|error| panic!("handshake: {error}"));
}

fn refused_offer(world: &mut World, report: &mut Report) {
    let address = world.far.listening(1);
    let near = world.start(address.local(), Key(1)).unwrap_or_else(|error| panic!("connect: {error}"));
    let offer = world.offer(&address);
    if !world.near.network.capabilities().refuses_before_handshake {
        report.note(format!("near: {}", words(&world.outcome(&near))));
    }
    offer.abort();
    let end = world.until("refusal", || match near.progress() {
        Err(error) => Some(error.to_string()),
        Ok(Progress::Pending) => None,
        Ok(Progress::Established) => Some(world.receive(&near, 1)),
    });
    report.note(format!("near: {end}"));
}

fn full_backlog(world: &mut World, report: &mut Report) {
    let address = world.far.listening(1);
    let mut streams = Vec::new();
    // Hosts take one or two more than they were told.
    for key in 0..8 {
        streams.push(world.start(address.local(), Key(key)).unwrap_or_else(|error| panic!("connect: {error}")));
    }
    let one_too_many = if world.near.network.capabilities().refuses_before_handshake {
        world.until("refusal", || streams.iter().find_map(|stream| stream.progress().err())).to_string()
    } else {
        let is_pending = streams.iter().any(|stream| stream.progress() == Ok(Progress::Pending));
        if is_pending { "still pending".into() } else { "established".into() }
    };
    report.note(format!("one too many: {one_too_many}"));
}

fn withdrawn(world: &mut World, report: &mut Report) {
    let address = world.far.listening(4);
    let before = address.local();
    let waiting = world.start(before, Key(1)).unwrap_or_else(|error| panic!("connect: {error}"));
    let first = if world.near.network.capabilities().refuses_before_handshake {
        String::new()
    } else {
        format!("{}, then ", words(&world.outcome(&waiting)))
    };
    world.until("offer", || world.far.take_seen(Key(1000)).contains(net_api::Readiness::READABLE).then_some(()));
    address.stop_listening();
    let end = world.until("end", || match waiting.progress() {
        Err(error) => Some(error.to_string()),
        Ok(Progress::Pending) => None,
        Ok(Progress::Established) => Some(world.receive(&waiting, 1)),
    });
    report.note(format!("waiting: {first}{end}"));
    let coming = |key| world.start(before, key).and_then(|stream| world.outcome(&stream));
    report.note(format!("coming: {}", words(&coming(Key(2)))));
    address.listen(4, Key(1000)).unwrap_or_else(|error| panic!("listen: {error}"));
    report.note(format!("listens again at the same port: {}", address.local() == before));
    let stream = world.start(before, Key(3)).unwrap_or_else(|error| panic!("connect: {error}"));
    let offer = world.offer(&address);
    world.far.answer(&offer, Key(4));
    report.note(format!("coming: {}", words(&world.outcome(&stream))));
}

fn dropped(world: &mut World, report: &mut Report) {
    let address = world.far.listening(4);
    let before = address.local();
    let near = world.start(before, Key(1)).unwrap_or_else(|error| panic!("connect: {error}"));
    let far = world.offer(&address);
    world.far.answer(&far, Key(2));
    world.outcome(&near).unwrap_or_else(|error| panic!("handshake: {error}"));
    drop(address);
    world.send_all(&far, b"alive");
    world.near.watch(&near, Key(1));
    report.note(format!("taken connection: {}", world.receive(&near, 10)));
    let coming = world.start(before, Key(3)).and_then(|stream| world.outcome(&stream));
    report.note(format!("coming: {}", words(&coming)));
}

fn order(world: &mut World, report: &mut Report) {
    let address = world.far.listening(8);
    let streams: Vec<_> = (0..5)
        .map(|key| world.start(address.local(), Key(key)).unwrap_or_else(|error| panic!("connect: {error}")))
        .collect();
    let in_order = streams.iter().all(|stream| stream.local() == Ok(world.offer(&address).remote()));
    report.note(format!("first come, first taken: {in_order}"));
}
