//! Every way to close a connection, and what the peer's socket saw of it.

mod scenario;

use proves::proves;
use scenario::Run;
use scenario::server::{After, End, Observer};

const CLOSING_PATHS: [&str; 7] =
    ["disconnect", "no-disconnect", "disassociate", "reassociate", "handle-first", "reference-first", "abort"];

const ANSWER: &[u8] = b"HTTP/1.0 200 OK\r\n\r\nten bytes.";

fn end_of(path: &str) -> End {
    if path == "abort" { End::Rst } else { End::Fin }
}

#[track_caller]
fn assert_ends(run: Run, observer: &Observer, end: End) {
    let ran = run.run().expect_clean();
    let seen = observer.next();
    assert!(seen.received.starts_with(b"GET / HTTP/1.0\r\n"), "{seen:?}");
    assert_eq!(seen.end, end, "{ran:#?}");
}

#[test]
fn peer_that_ended_first_sees_the_end_that_the_path_demands() {
    let observer = Observer::answering(ANSWER.into(), After::Release);
    for receive in ["request", "event"] {
        for path in CLOSING_PATHS {
            let run = Run::client(observer.address).set("Close", path).set("Receive", receive);
            assert_ends(run, &observer, end_of(path));
        }
    }
}

#[test]
#[proves("C-155", "C-166", "C-167")]
fn peer_that_has_not_ended_sees_the_end_that_the_path_demands() {
    let observer = Observer::answering(ANSWER.into(), After::Wait);
    for path in CLOSING_PATHS {
        let run = Run::client(observer.address).set("Close", path).set("StopAfter", ANSWER.len());
        assert_ends(run, &observer, end_of(path));
    }
}

#[test]
fn either_order_of_handle_and_reference_ends_the_same() {
    let observer = Observer::answering(ANSWER.into(), After::Wait);
    for order in ["handle-first", "reference-first"] {
        let run = Run::client(observer.address).set("Close", "no-disconnect").set("StopAfter", ANSWER.len());
        assert_ends(run.set("Order", order), &observer, End::Fin);
    }
}

#[test]
fn closing_the_address_first_leaves_nothing_behind() {
    let observer = Observer::answering(ANSWER.into(), After::Release);
    for path in CLOSING_PATHS {
        Run::client(observer.address).set("Close", path).set("AddressFirst", 1).run().expect_clean();
        observer.next();
    }
}

#[test]
fn receive_that_is_pending_over_the_close_ends_with_it() {
    let observer = Observer::answering(ANSWER.into(), After::Wait);
    for path in ["no-disconnect", "abort", "disassociate"] {
        let run = Run::client(observer.address).set("Close", path).set("StopAfter", ANSWER.len());
        let ran = run.set("PendingReceive", 1).run().expect_clean();
        let line = ran.line("pending receive ended");
        assert!(line.contains(", 0 bytes"), "{line}");
        observer.next();
    }
}

#[test]
fn bytes_that_the_client_left_make_the_peer_see_a_reset() {
    let mut answer = ANSWER.to_vec();
    answer.resize(300_000, b'.');
    let observer = Observer::answering(answer, After::Wait);
    let run = Run::client(observer.address).set("Close", "no-disconnect").set("StopAfter", 100);
    assert_ends(run, &observer, End::Rst);
}

#[test]
fn sixty_four_endpoints_on_eight_threads_close_without_a_leak() {
    let observer = Observer::answering(ANSWER.into(), After::Release);
    for receive in ["request", "event"] {
        for path in CLOSING_PATHS {
            let run = Run::client(observer.address).set("Close", path).set("Receive", receive);
            let ran = run.set("Endpoints", 64).set("Threads", 8).run().expect_clean();
            ran.line("done: 64 connections, 0 failed, 640 body bytes");
            for _ in 0..64 {
                assert_eq!(observer.next().end, end_of(path), "Close={path}");
            }
        }
    }
}

#[test]
fn ten_thousand_endpoints_in_sequence_close_without_a_leak() {
    let observer = Observer::answering(ANSWER.into(), After::Release);
    let ran = Run::client(observer.address).set("Rounds", 10_000).run().expect_clean();
    ran.line("done: 10000 connections, 0 failed, 100000 body bytes");
    // An address and an endpoint each.
    assert_eq!(ran.count("closes"), 20_000, "{ran:#?}");
}
