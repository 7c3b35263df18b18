//! Random requests, network events, cancels, time limits and closes of several clients against a reference
//! model.
//!
//! Every run is one seed. It draws its own mixture of steps, so that some runs never see, say, a
//! receive handler or a slow network, then takes its steps, then closes everything, and at each point
//! compares what the core does with what the model (`reference.rs`) says:
//! every request completes exactly once, with the status and count the model names; no handler is
//! called that is not due, none after a cleanup; byte streams are exact and in order; the state is
//! the model's; the network is told one end per connection; nothing is left behind.
//!
//! `TDI_CORE_MODEL_STEPS` sets the number of steps (default 100,000), `TDI_CORE_MODEL_SEED` the first
//! seed. A failure names the seed and prints the last steps; running with that seed repeats it.

mod checks;
mod harness;
mod reference;
mod rng;
mod steps;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use harness::Harness;

const STEPS_PER_RUN: u64 = 400;

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

fn run(seed: u64, steps: u64, seen: &mut BTreeMap<String, u64>) {
    let mut harness = Harness::new(seed);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        for _ in 0..steps {
            harness.step();
        }
        harness.close_everything();
    }));
    for (what, count) in &harness.seen {
        *seen.entry(what.clone()).or_default() += count;
    }
    if let Err(panic) = outcome {
        eprintln!("seed {seed} failed; the last steps were");
        harness.print_history();
        eprintln!(
            "repeat: TDI_CORE_MODEL_SEED={seed} TDI_CORE_MODEL_STEPS={steps} cargo test -p tdi_core --test model"
        );
        resume_unwind(panic);
    }
}

#[proves::proves("C-210", "C-517", "C-520", "C-523", "C-526", "C-364", "C-423", "C-486", "C-163")]
#[test]
fn the_core_agrees_with_the_model_at_every_step() {
    let steps = setting("TDI_CORE_MODEL_STEPS", 100_000);
    let first = setting("TDI_CORE_MODEL_SEED", 1);
    let runs = steps.div_ceil(STEPS_PER_RUN);
    println!("{steps} steps, seeds {first} to {}", first + runs - 1);
    let mut seen = BTreeMap::new();
    for seed in first..first + runs {
        run(seed, STEPS_PER_RUN.min(steps), &mut seen);
    }
    println!("{seen:#?}");
    // A model that sees nothing agrees with everything.
    if steps >= 100_000 {
        for what in SEEN {
            assert!(seen.get(*what).is_some_and(|count| *count >= 5), "{what} was seen too rarely");
        }
    }
}

/// What a run of the usual length has to meet.
const SEEN: &[&str] = &[
    "Unassociated",
    "Associated",
    "Connecting",
    "Listening",
    "Offered",
    "Accepting",
    "Established",
    "LocallyReleased",
    "RemotelyReleased",
    "CleanedUp",
    "SUCCESS",
    "SUCCESS with bytes",
    "CANCELLED",
    "IO_TIMEOUT",
    "ADDRESS_CLOSED",
    "CONNECTION_ABORTED",
    "CONNECTION_REFUSED",
    "CONNECTION_RESET",
    "INVALID_PARAMETER",
    "indicated normal",
    "indicated chain",
    "indicated urgent",
    "indicated release",
    "indicated abort",
    "connect handler",
    "irp returned",
    "late answer",
    "parting",
    "patience",
    "offer returned",
];
