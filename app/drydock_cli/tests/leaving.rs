//! Exceptions that pass the kernel where it calls routines of a driver (`bad_pointers/leaving.c`, `leaving_transport.c`): it calls no further ones, gives
//! back what it holds, and takes nothing for the return of a routine that has not returned.

mod scenario;

use std::path::PathBuf;
use std::sync::OnceLock;

use proves::proves;
use scenario::{Ran, Run};

/// A driver of the folder, run once.
fn run(driver: &str, net: &str) -> Ran {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = BUILT.get_or_init(|| scenario::built("tests/bad_pointers", "leaving"));
    Run::of(built.join(driver)).args(["--net", net]).run()
}

/// The one run of `leaving.c`.
fn ran() -> &'static Ran {
    static RAN: OnceLock<Ran> = OnceLock::new();
    RAN.get_or_init(|| run("leaving.sys", "none"))
}

/// The one run of `leaving_transport.c`.
fn over_transport() -> &'static Ran {
    static RAN: OnceLock<Ran> = OnceLock::new();
    RAN.get_or_init(|| run("leaving_transport.sys", "loopback"))
}

/// Everything that the driver printed behind `what`.
fn said(what: &str) -> Vec<&'static str> {
    said_in(ran(), &format!("leaving: {what} "))
}

fn said_in<'a>(ran: &'a Ran, what: &str) -> Vec<&'a str> {
    ran.account.lines().filter_map(|line| Some(line.split_once(what)?.1.trim_end_matches('”'))).collect()
}

#[test]
#[proves("K-014")]
fn exception_of_a_callback_keeps_later_ones_from_being_called() {
    assert_eq!(said("callback"), ["raised e0000001, second ran 0"]);
}

#[test]
fn exception_of_a_queues_routine_leaves_the_queue_unlocked_and_the_request_where_it_was() {
    let of = |what| said(what).concat();
    assert_eq!(of("acquire in insert"), "raised e0000001, inserted 0 removed 0 locked 0 cancelled 0");
    assert_eq!(of("insert"), "raised e0000001, inserted 0 removed 0 locked 0 cancelled 0");
    assert_eq!(of("cancel routine"), "0");
    assert_eq!(of("nothing"), "raised 0, inserted 1 removed 0 locked 0 cancelled 0");
    assert_eq!(of("peek"), "raised e0000001, inserted 1 removed 0 locked 0 cancelled 0");
    assert_eq!(of("acquire in remove"), "raised e0000001, inserted 1 removed 0 locked 0 cancelled 0");
    assert_eq!(of("acquire in cancel"), "raised e0000001, inserted 1 removed 0 locked 0 cancelled 0");
}

#[test]
fn exception_of_a_cancel_routine_leaves_the_level_and_the_cancel_lock_as_they_were() {
    // That the lock is free shows in the second: the driver takes it in between.
    assert_eq!(said("cancel"), ["routine 0", "raised e0000001 at level 0", "raised c0000005 at level 0"]);
}

#[test]
fn exception_of_a_lookaside_lists_routine_leaves_the_rest_in_the_list() {
    assert_eq!(said("lookaside"), ["raised e0000001, released 1"]);
}

#[test]
fn exception_of_a_plug_and_play_handler_ends_the_telling() {
    assert_eq!(said("binding"), ["raised e0000001, called 1"]);
}

#[test]
fn exception_of_a_completion_routine_leaves_the_packet_uncompleted() {
    assert_eq!(said("completion"), ["raised e0000001, upper ran 0"]);
    assert_eq!(said("wild completion"), ["raised c0000005, upper ran 0"]);
}

#[test]
fn exception_that_passes_a_routine_is_no_finding() {
    assert_eq!(said("dispatch"), ["raised e0000001, upper ran 0", "behind completion raised e0000002, upper ran 1"]);
    assert_eq!(said("dispatch behind completion"), ["raised e0000002, upper ran 1"]);
    assert!(ran().account.contains("leaving: unloaded"), "{ran:#?}", ran = ran());
    assert_eq!(ran().findings(), Vec::<&str>::new());
}

/// The first receive's completion routine raises. What the transport ends besides is the client's to hear of, before it
/// goes on where it caught the exception: nothing may come behind a ZwClose (C-568).
#[test]
#[proves("C-210", "C-568")]
fn exception_of_a_completion_routine_takes_no_other_completion_along() {
    let said = |what| said_in(over_transport(), &format!("transport: {what} "));
    let datagrams = said("datagrams");
    assert_eq!(datagrams[0], "raised e0000001, completed 3 at level 0");
    // The second raises, too, and its exception is the newer one.
    assert_eq!(datagrams[1], "raised e0000002, completed 3 at level 0");
    // A filter's dispatch routine and its completion routine of the CLEANUP stand in between.
    assert_eq!(datagrams[2], "raised e0000001, completed 3 at level 0");
    // What its routine lets the I/O manager end is ended: nobody waits for it in vain.
    assert_eq!(said("last"), ["1 with c0000120"; 3]);
    assert_eq!(said("endpoint"), ["raised e0000001, completed 2 at level 0"]);
    assert_eq!(said("address"), ["raised e0000001, completed 2 at level 0"]);
    assert_eq!(said("first of two"), ["raised 0, completed 0 at level 0"]);
    assert_eq!(said("second of two"), ["raised 0, completed 0 at level 0"]);
    // The first to end stays in its routine on another thread, for which the CLEANUP waits.
    assert_eq!(said("waiting"), ["raised e0000002, completed 3 at level 0"]);
    // A filter's dispatch routine does not wait: the exception passes it, and its CLEANUP is completed when nobody waits any more.
    assert!(said("filtered")[0].starts_with("raised e0000002, "), "{:?}", said("filtered"));
    assert!(over_transport().account.contains("transport: unloaded"), "{ran:#?}", ran = over_transport());
    assert_eq!(over_transport().findings(), Vec::<&str>::new());
}
