//! Every developer command: `cargo xtask <command>`.
//!
//! What CI runs is what developers run. Each command prints what it does, installs the system packages it needs if it can
//! (see [`prerequisites`]), and ends with a nonzero status if anything failed.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bench;
mod closing;
mod demo;
mod exports;
mod http_server;
mod lints;
mod mutants;
mod prerequisites;
mod rules;
mod samples;
mod soak;
mod test;
mod tiers;
mod workspace;

use workspace::Workspace;

/// Developer commands of Drydock.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build everything, run the sample TDI client against a small HTTP server, and draw what happened
    Demo,
    /// Everything CI runs: format, lints, tiers, samples, tests, rule table, documentation
    Test,
    /// Build the sample drivers into samples/out
    Samples,
    /// Write docs/rules.md from tests that pass and the reasoned exceptions
    Rules(rules::Options),
    /// Write docs/exports.md from the table of exports and the drivers that import them
    Exports(exports::Options),
    /// Check that each crate uses only the crates it may
    Tiers,
    /// Check file sizes, unsafe code and text that must not be committed
    Lints,
    /// What a driver pays for its kernel, against the same work without one
    Bench(bench::Options),
    /// Change tdi_core in one place at a time and see whether its tests notice
    Mutants(mutants::Options),
    /// Longer runs: property tests with more cases, closing paths over and over
    Soak(soak::Options),
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        // Without the backtrace that returning the error would print: these are messages to people.
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    let workspace = Workspace::find()?;
    match command {
        Command::Demo => demo::run(&workspace),
        Command::Test => test::run(&workspace),
        Command::Samples => {
            prerequisites::install(prerequisites::SAMPLES)?;
            samples::build(&workspace)
        }
        Command::Rules(options) => rules::run(&workspace, &options),
        Command::Exports(options) => exports::run(&workspace, &options),
        Command::Tiers => tiers::run(&workspace),
        Command::Lints => lints::run(&workspace),
        Command::Bench(options) => bench::run(&workspace, &options),
        Command::Mutants(options) => mutants::run(&workspace, &options),
        Command::Soak(options) => soak::run(&workspace, &options),
    }
}
