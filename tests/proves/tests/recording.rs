//! What marked tests write. Each case starts this test binary again, for one of the tests in `subject`.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{env, fs};

/// Tests to be recorded, under ids that no rule has; `cargo xtask rules` drops them. They fail only where `FAIL` is set.
mod subject {
    use proves::proves;

    fn told_to_fail() -> bool {
        std::env::var_os(super::FAIL).is_some()
    }

    #[proves("C-000", "K-000b")]
    #[test]
    fn returns_nothing() {
        assert!(!told_to_fail(), "told to");
    }

    #[proves("D-000")]
    #[test]
    fn returns_result() -> Result<(), String> {
        if told_to_fail() { Err("told to".into()) } else { Ok(()) }
    }
}

const FAIL: &str = "PROVES_TEST_FAIL";

/// What running `subject::<name>` appends, and whether it passed.
fn run(name: &str, fail: bool) -> (String, bool) {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{fail}.proofs"));
    fs::write(&file, "earlier\n").expect("the test's folder can be written");
    let mut test = Command::new(env::current_exe().expect("a test has an executable"));
    test.args(["--exact", &format!("subject::{name}")])
        .env(proves::PROOFS, &file)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if fail {
        test.env(FAIL, "1");
    }
    let passed = test.status().expect("the test binary can be started").success();
    (fs::read_to_string(file).expect("the file was there before"), passed)
}

#[test]
fn passing_test_appends_one_line_per_rule() {
    let (proofs, passed) = run("returns_nothing", false);
    assert!(passed);
    let test = "recording::subject::returns_nothing";
    assert_eq!(proofs, format!("earlier\nC-000\tproves\t{test}\nK-000b\tproves\t{test}\n"));
}

#[test]
fn test_that_returns_ok_is_recorded() {
    let (proofs, passed) = run("returns_result", false);
    assert!(passed);
    assert_eq!(proofs, "earlier\nD-000\tproves\trecording::subject::returns_result\n");
}

#[test]
fn panicking_test_is_not_recorded() {
    assert_eq!(run("returns_nothing", true), ("earlier\n".into(), false));
}

#[test]
fn test_that_returns_err_is_not_recorded() {
    assert_eq!(run("returns_result", true), ("earlier\n".into(), false));
}
