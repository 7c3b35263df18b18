//! What a driver leaves behind is found, with its kind and the place that made it.

mod scenario;

use proves::proves;
use scenario::{Ran, Run};

fn leaky(leak: &str) -> Ran {
    Run::sample("leaky.sys").set("Leak", leak).run().expect("findings", 1)
}

/// Runs the driver whose Unload leaves something to happen. In virtual time, so that nothing has to be waited for.
fn leftover(what: &str, status: (&str, i32)) -> Ran {
    Run::sample("leftover.sys")
        .set("Leave", what)
        .args(["--net", "none", "--seed", "7"])
        .run()
        .expect(status.0, status.1)
}

/// One finding that says all of these words, about `leaky.sys` and a place in it.
#[track_caller]
fn assert_found(ran: &Ran, words: &[&str]) {
    assert_found_in("leaky.sys", ran, words);
}

#[track_caller]
fn assert_found_in(driver: &str, ran: &Ran, words: &[&str]) {
    let findings = ran.verdict["findings"].as_array().expect("findings");
    let found = findings.iter().find(|finding| {
        let message = finding["message"].as_str().unwrap_or_default().to_lowercase();
        words.iter().all(|word| message.contains(&word.to_lowercase()))
    });
    let found = found.unwrap_or_else(|| panic!("no finding says {words:?}: {ran:#?}"));
    assert_eq!(found["driver"], driver, "{ran:#?}");
    assert!(found["offset"].as_u64().is_some_and(|offset| offset > 0), "{ran:#?}");
}

#[test]
fn leaked_handle_is_found() {
    assert_found(&leaky("handle"), &["handle"]);
}

#[test]
fn leaked_reference_is_found() {
    assert_found(&leaky("reference"), &["file object"]);
}

#[test]
fn leaked_irp_is_found() {
    assert_found(&leaky("irp"), &["irp"]);
}

#[test]
fn leaked_pool_block_is_found_with_size_and_tag() {
    assert_found(&leaky("pool"), &["123", "Leak"]);
}

#[test]
fn all_leaks_of_a_run_are_found() {
    let ran = leaky("all");
    for words in [&["handle"][..], &["file object"], &["irp"], &["123", "Leak"]] {
        assert_found(&ran, words);
    }
}

#[test]
#[proves("K-102")]
fn timer_that_is_set_when_unload_returns_is_found_and_calls_nobody() {
    let ran = leftover("timer", ("findings", 1));
    assert_found_in("leftover.sys", &ran, &["timer", "still set"]);
    assert!(!ran.account.contains("expired"), "{}", ran.account);
}

#[test]
#[proves("K-102")]
fn work_items_that_are_queued_when_unload_returns_are_found_though_they_run_before_the_run_ends() {
    assert_found_in("leftover.sys", &leftover("items", ("findings", 1)), &["work item", "still queued"]);
}

#[test]
#[proves("K-102")]
fn work_item_whose_routine_runs_when_unload_returns_is_found() {
    assert_found_in("leftover.sys", &leftover("running", ("findings", 1)), &["work item", "still runs"]);
}

#[test]
#[proves("K-102")]
fn references_to_what_has_ended_and_resources_that_were_not_deleted_are_found() {
    for what in ["thread", "event", "device"] {
        assert_found_in(
            "leftover.sys",
            &leftover(what, ("findings", 1)),
            &[what, "not dereferenced: 1 reference left"],
        );
    }
    assert_found_in("leftover.sys", &leftover("resource", ("findings", 1)), &["resource", "not deleted"]);
}

#[test]
fn driver_that_leaves_nothing_has_no_findings() {
    let ran = leftover("nothing", ("clean", 0));
    assert_eq!(ran.verdict["findings"], serde_json::json!([]), "{ran:#?}");
}
