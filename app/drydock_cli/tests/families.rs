//! A test driver for each family of exports (`drivers/`): it makes its claims in C, as drivers call, and prints what does not
//! hold.

mod scenario;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use proves::proves;
use scenario::{Ran, Run};

/// A test driver's image; all are built once.
fn driver(family: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers");
        let out = scenario::folder("drivers");
        let made = Command::new("make").arg("-s").arg("-C").arg(source).arg(format!("OUT={}", out.display())).output();
        let made = made.expect("make can be started (apt-get install make)");
        assert!(made.status.success(), "test drivers: {}", String::from_utf8_lossy(&made.stderr));
        out
    });
    built.join(format!("{family}.sys"))
}

/// Runs the family's driver; all its claims must hold. With and without a seed: the two executors wait differently.
#[track_caller]
fn every_claim_holds(family: &str) {
    claims_hold(family, Run::of(driver(family)));
    claims_hold(family, Run::of(driver(family)).args(["--seed", "7"]));
}

#[track_caller]
fn claims_hold(family: &str, run: Run) -> Ran {
    let ran = run.args(["--net", "none"]).run();
    assert!(!ran.account.contains("FAILS"), "{}", ran.account);
    let ran = ran.expect_clean();
    let sums = ran.line(" claims, ");
    assert!(sums.contains(&format!("{family}: ")) && sums.contains(" 0 failed"), "{sums}");
    assert!(!sums.contains(" 0 claims"), "{sums}");
    ran
}

/// A folder for a driver's files, with a file beside it that no driver may see.
fn drive(name: &str) -> PathBuf {
    let outside = scenario::folder(name);
    let drive = outside.join("drive");
    let _ = fs::remove_dir_all(&drive);
    fs::create_dir_all(drive.join("Windows")).expect("a folder");
    fs::write(outside.join("secret"), "secret").expect("a file");
    fs::write(drive.join("doomed"), "").expect("a file");
    fs::write(drive.join("Windows/system.ini"), "[boot]").expect("a file");
    std::os::unix::fs::symlink("../secret", drive.join("link")).expect("a link");
    drive
}

#[test]
#[proves("C-070")]
fn files_live_in_the_folder_that_the_user_allows() {
    for seed in [&[][..], &["--seed", "7"]] {
        let drive = drive("files");
        let run = seed.iter().fold(Run::of(driver("files")), |run, argument| run.arg(argument));
        claims_hold("files", run.arg("--files").arg(&drive));
        assert_eq!(fs::read(drive.join("driver.log")).expect("the driver's file"), b"first line\n");
        assert!(!drive.join("doomed").exists() && !drive.join("old").exists() && !drive.join("empty").exists());
        assert!(drive.join("made/moved").metadata().expect("the renamed file").permissions().readonly());
    }
}

#[test]
#[proves("K-086")]
fn without_a_folder_there_is_no_drive() {
    every_claim_holds("files");
}

#[test]
fn scenario_file_names_the_folder_relative_to_itself() {
    let drive = drive("scenario");
    let file = drive.parent().expect("a parent").join("files.toml");
    let image = driver("files");
    let text =
        format!("drivers = [{:?}]\nnet = \"none\"\nfiles = \"drive\"\n[expect]\nprints = [\" 0 failed\"]\n", image);
    fs::write(&file, text).expect("a scenario");
    let ran = Command::new(env!("CARGO_BIN_EXE_drydock")).arg("test").arg(&file).output().expect("drydock starts");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
    assert_eq!(fs::read(drive.join("driver.log")).expect("the driver's file"), b"first line\n");
}

#[test]
#[proves("C-182", "C-186", "C-187", "C-189", "C-196", "D-006", "D-169")]
fn tdi_s_macros_fill_the_next_location_and_nothing_else() {
    every_claim_holds("builders");
}

#[test]
#[proves("K-163", "K-164")]
fn counted_strings_are_what_drivers_think() {
    every_claim_holds("strings");
}

#[test]
#[proves("K-140")]
fn lists_give_back_what_was_put_on_them() {
    every_claim_holds("lists");
}

#[test]
#[proves("K-124", "K-126", "K-128")]
fn events_mutexes_semaphores_and_timers_are_waited_for() {
    every_claim_holds("waiting");
}

#[test]
fn resources_are_shared_or_exclusive() {
    every_claim_holds("resources");
}

#[test]
fn work_runs_at_passive_level_on_another_thread() {
    every_claim_holds("work");
}

#[test]
fn keys_and_values_are_kept_and_listed() {
    every_claim_holds("registry");
}

#[test]
#[proves("K-107", "K-112")]
fn pool_is_aligned_and_mdls_describe_it() {
    every_claim_holds("memory");
}

#[test]
fn formats_print_what_they_say() {
    every_claim_holds("printing");
}

#[test]
fn bitmaps_find_runs() {
    every_claim_holds("bitmaps");
}

#[test]
fn tables_keep_elements_in_order() {
    every_claim_holds("tables");
}

/// Two threads at each primitive. `HAMMER_ROUNDS` makes it longer, as `cargo xtask soak` does.
#[test]
fn what_two_threads_do_with_each_primitive_adds_up() {
    let rounds = std::env::var("HAMMER_ROUNDS").unwrap_or_else(|_| "5000".into());
    let run = || Run::of(driver("hammer")).set("Rounds", &rounds).args(["--timeout", "3600"]);
    claims_hold("hammer", run());
    // In the seeded executor each call may be where the other thread goes on.
    for seed in ["1", "2"] {
        claims_hold("hammer", Run::of(driver("hammer")).set("Rounds", 100).args(["--seed", seed]));
    }
}
