//! Whatever a driver does to itself, the supervisor survives and the report is exact.

mod scenario;

use std::fs;
use std::path::PathBuf;

use scenario::{Ran, Run};

/// Control codes of `crashing.c`, by their number.
fn crash(number: u32, timeout_s: &str) -> Ran {
    let run = Run::sample("crashing.sys").ioctl(r"\Device\Crashing", 0x22_2000 + 4 * number);
    run.args(["--timeout", timeout_s]).run()
}

/// The run must have ended in this bugcheck, at a place in the driver.
#[track_caller]
fn assert_bugcheck(ran: &Ran, code: u32) {
    let bugcheck = &ran.verdict["bugcheck"];
    assert_eq!((ran.status, &ran.verdict["verdict"]), (Some(2), &"bugcheck".into()), "{ran:#?}");
    assert_eq!(bugcheck["code"], code, "{ran:#?}");
    assert_eq!(bugcheck["driver"], "crashing.sys", "{ran:#?}");
    assert!(bugcheck["offset"].as_u64().is_some_and(|offset| offset > 0), "{ran:#?}");
}

#[test]
fn write_through_a_null_pointer_is_a_bugcheck_at_its_place() {
    let ran = crash(0, "20");
    let code = ran.verdict["bugcheck"]["code"].as_u64().expect("a code");
    // Which of the codes for a bad access it is depends on the IRQL, which is PASSIVE_LEVEL here.
    assert!([0x50, 0x1E, 0x7E, 0xD1].contains(&code), "{ran:#?}");
    assert_bugcheck(&ran, code as u32);
}

#[test]
fn double_free_is_a_bugcheck() {
    assert_bugcheck(&crash(1, "20"), 0xC2);
}

#[test]
fn write_behind_a_pool_block_is_a_bugcheck_when_it_is_freed() {
    assert_bugcheck(&crash(2, "20"), 0x19);
}

#[test]
fn bugcheck_of_the_drivers_own_has_its_parameters() {
    let ran = crash(3, "20");
    assert_bugcheck(&ran, 0xE2);
    assert_eq!(ran.verdict["bugcheck"]["parameters"], serde_json::json!([1, 2, 3, 4]), "{ran:#?}");
}

#[test]
fn stack_overflow_is_a_bugcheck() {
    assert_bugcheck(&crash(4, "20"), 0x7F);
}

#[test]
fn endless_loop_is_stopped_at_its_place() {
    assert_bugcheck(&crash(6, "2"), 0x133);
}

#[test]
fn unknown_import_stops_the_driver_with_its_name() {
    let ran = crash(7, "20");
    assert_bugcheck(&ran, 0xD0C0_0001);
    let message = ran.verdict["bugcheck"]["message"].as_str().expect("a message");
    assert!(message.contains("RtlRoutineThatNoKernelHas"), "{message}");
}

#[test]
fn system_call_of_the_drivers_own_is_a_bugcheck_at_its_place() {
    let ran = crash(14, "20");
    assert_bugcheck(&ran, 0xD0C0_0004);
    let message = ran.verdict["bugcheck"]["message"].as_str().expect("a message");
    assert!(message.contains("system call 57"), "{message}");
}

#[test]
fn driver_that_destroys_the_stack_it_runs_on_is_reported_as_a_bugcheck() {
    // What it hit first decides the code; that there is a report, and an end, is what counts.
    crash(15, "20").expect("bugcheck", 2);
}

#[test]
fn fast_fail_is_a_bugcheck() {
    assert_bugcheck(&crash(8, "20"), 0x139);
}

#[test]
fn division_by_zero_is_a_bugcheck_at_its_place() {
    let ran = crash(12, "20");
    let code = ran.verdict["bugcheck"]["code"].as_u64().expect("a code");
    assert!([0x1E, 0x7E, 0x7F].contains(&code), "{ran:#?}");
    assert_bugcheck(&ran, code as u32);
}

#[test]
fn every_crash_leaves_a_verdict() {
    for number in 0..14 {
        let ran = crash(number, "3");
        assert!(matches!(ran.status, Some(1 | 2)), "crash {number}: {ran:#?}");
    }
}

#[test]
fn crash_file_tells_driver_offset_and_last_events() {
    let folder: PathBuf = scenario::folder("crash-file");
    let run = Run::sample("crashing.sys").ioctl(r"\Device\Crashing", 0x22_200C);
    let ran = run.crash_folder(folder.clone()).run().expect("bugcheck", 2);
    let file = ran.verdict["crash_file"].as_str().expect("a crash file");
    assert!(file.starts_with(folder.to_str().expect("text")), "{file}");
    let text = fs::read_to_string(file).expect("the crash file");
    let last = text.lines().last().expect("lines");
    let crash: serde_json::Value = serde_json::from_str(last).expect("the last line is JSON");
    assert_eq!(crash["format"], "drydock-crash");
    assert_eq!(crash["bugcheck"]["driver"], "crashing.sys");
    assert_eq!(crash["bugcheck"]["code"], "0x000000e2");
    assert!(crash["events"].as_array().is_some_and(|events| !events.is_empty()), "{crash}");
}
