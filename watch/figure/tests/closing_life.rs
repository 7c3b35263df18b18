//! The figure and the account of whole runs as text, against what was once looked at and found good.
//!
//! After a change that is meant, `UPDATE_EXPECTED=1 cargo test -p figure` writes the files anew; look at the difference.

mod runs;

use std::path::Path;
use std::{env, fs};

use figure::{Narrator, Options};
use trace::Record;

#[track_caller]
fn expect(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/expected").join(name);
    if env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&path, actual).expect("the file can be written");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(actual == expected, "{} differs from:\n{actual}", path.display());
}

fn account(records: &[Record]) -> String {
    let mut narrator = Narrator::new(runs::names());
    let mut lines: Vec<String> = records.iter().flat_map(|record| narrator.account(record)).collect();
    lines.extend(narrator.end());
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[test]
fn figure_of_a_closing_life_is_as_it_was() {
    expect("closing_life.txt", &figure::text(&runs::closing_life(3), &runs::options()));
}

#[test]
fn figure_of_a_long_transfer_folds_it() {
    let options = Options { width: 80, ..runs::options() };
    expect("long_transfer.txt", &figure::text(&runs::closing_life(1000), &options));
}

#[test]
fn figure_of_two_clients_and_a_filter_is_as_it_was() {
    expect("crowded.txt", &figure::text(&runs::crowded(), &runs::options()));
}

#[test]
fn figure_of_many_rounds_shows_the_first_and_the_last() {
    expect("rounds.txt", &figure::text(&runs::rounds(100), &runs::options()));
}

#[test]
fn account_of_a_long_transfer_sums_it_up() {
    expect("account.txt", &account(&runs::closing_life(1000)));
}

#[test]
fn account_of_two_clients_and_a_filter_is_as_it_was() {
    expect("account_crowded.txt", &account(&runs::crowded()));
}
