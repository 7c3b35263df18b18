//! What a driver leaves behind is found, with its kind and the place that made it.

mod scenario;

use scenario::{Ran, Run};

fn leaky(leak: &str) -> Ran {
    Run::sample("leaky.sys").set("Leak", leak).run().expect("findings", 1)
}

/// One finding that says all of these words, about `leaky.sys` and a place in it.
#[track_caller]
fn assert_found(ran: &Ran, words: &[&str]) {
    let findings = ran.verdict["findings"].as_array().expect("findings");
    let found = findings.iter().find(|finding| {
        let message = finding["message"].as_str().unwrap_or_default().to_lowercase();
        words.iter().all(|word| message.contains(&word.to_lowercase()))
    });
    let found = found.unwrap_or_else(|| panic!("no finding says {words:?}: {ran:#?}"));
    assert_eq!(found["driver"], "leaky.sys", "{ran:#?}");
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
