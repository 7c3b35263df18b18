//! The same seed gives the same run, another seed another.

mod scenario;

use std::fs;

use scenario::Run;

/// The order in which the threads of `two_threads.sys` ran, and all events of the run.
fn two_threads(seed: u64) -> (String, String) {
    let file = scenario::folder("seeds").join(format!("{seed}.jsonl"));
    let run = Run::sample("two_threads.sys").arg("--seed").arg(seed.to_string()).arg("--trace").arg(&file);
    let ran = run.run().expect_clean();
    let order = ran.line("two_threads: order").rsplit(' ').next().expect("an order").to_string();
    (order, fs::read_to_string(file).expect("the trace"))
}

#[test]
fn same_seed_gives_the_same_events_and_another_seed_another_order() {
    let (order, events) = two_threads(1);
    assert_eq!(two_threads(1), (order.clone(), events));
    let others: Vec<String> = (2..10).map(|seed| two_threads(seed).0).collect();
    assert!(others.iter().any(|other| *other != order), "{order}: {others:?}");
}

/// Whether this seed makes `racing.sys` use its endpoint after it was closed.
fn races(seed: u64) -> bool {
    let run = Run::sample("racing.sys").args(["--net", "none"]).arg("--seed").arg(seed.to_string());
    let ran = run.run();
    match ran.status {
        Some(0) => false,
        Some(1 | 2) => true,
        _ => panic!("{ran:#?}"),
    }
}

#[test]
fn planted_race_is_found_within_a_few_seeds_and_again_by_the_same_seed() {
    let seed = (0..64).find(|&seed| races(seed)).expect("a seed that shows the race");
    for _ in 0..3 {
        assert!(races(seed), "seed {seed}");
    }
    assert!((0..64).any(|seed| !races(seed)), "every seed shows it: that is no race");
}
