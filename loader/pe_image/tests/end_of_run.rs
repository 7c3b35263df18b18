//! Runs that a loaded image ends: each in a process of its own, since nothing survives the end.

use std::process::{Command, Output};

use gate::bugcheck::BUGCHECK_EXIT;
use gate::thread::Block;
use pe_image::{Image, LoadOptions, load};
use proves::proves;
use test_image::{CODE, TestImage};

/// Names the scenario that a child of this test plays.
const SCENARIO: &str = "PE_IMAGE_SCENARIO";

/// Runs `play` in a child of `test` and gives what the child left behind.
fn in_a_child(test: &str, play: fn()) -> Option<Output> {
    if std::env::var(SCENARIO).is_ok_and(|scenario| scenario == test) {
        play();
        return None;
    }
    let exe = std::env::current_exe().expect("this test's executable");
    let mut child = Command::new(exe);
    child.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(SCENARIO, test);
    Some(child.output().expect("a child"))
}

#[track_caller]
fn assert_bugcheck(output: &Output, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(BUGCHECK_EXIT), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

/// Loads an image with this code and import, ready to run on this thread.
fn ready(imports: &[&str], code: impl FnOnce(i32) -> Vec<u8>) -> Image {
    gate::fault::install().expect("fault handlers");
    let stack = gate::thread::host_stack().expect("a stack");
    Block::new(stack, 0, 0, 0).expect("a block").install();
    let mut image = TestImage::new();
    let slots = image.imports(&[("ntoskrnl.exe", imports)]);
    image.entry = image.next();
    let code = code(slots[0] as i32 - image.entry as i32);
    image.section(".text", &code, CODE);
    let mut image = load(&image.build(), "late.sys", &LoadOptions::new(&|_, _| None)).expect("a valid image");
    image.register().expect("room for an image");
    image
}

fn call(address: u64) {
    // SAFETY: code of this file; what it does ends the process.
    unsafe { gate::call::driver(address, []) };
}

#[test]
fn code_that_runs_after_its_driver_was_unloaded_ends_the_run_by_name() {
    let test = "code_that_runs_after_its_driver_was_unloaded_ends_the_run_by_name";
    let output = in_a_child(test, || {
        let image = ready(&["Unused"], |_| b"\xC3".to_vec());
        call(image.entry());
        image.retire().expect("access can be taken away");
        call(image.entry());
    });
    if let Some(output) = output {
        assert_bugcheck(
            &output,
            &["DRIVER_UNLOADED_WITHOUT_CANCELLING_PENDING_OPERATIONS", "Code of late.sys ran after", "late.sys+0x2000"],
        );
    }
}

#[test]
#[proves("K-208")]
fn import_that_nobody_implements_ends_the_run_by_its_name_when_it_is_called() {
    let test = "import_that_nobody_implements_ends_the_run_by_its_name_when_it_is_called";
    let output = in_a_child(test, || {
        // sub rsp, 40; call [rip + slot]: the place to blame is behind it.
        let call_slot = |slot: i32| [b"\x48\x83\xEC\x28\xFF\x15", &(slot - 10).to_le_bytes()[..]].concat();
        let image = ready(&["IoNobodyHasThis", "IoNorThis", "KeNorThat"], call_slot);
        call(image.entry());
    });
    if let Some(output) = output {
        assert_bugcheck(
            &output,
            &[
                "DRYDOCK_UNIMPLEMENTED_IMPORT",
                "called ntoskrnl.exe!IoNobodyHasThis",
                "late.sys+0x200a",
                "late.sys has 2 more that nobody implements: ntoskrnl.exe!IoNorThis, ntoskrnl.exe!KeNorThat",
            ],
        );
    }
}

#[test]
#[proves("K-208")]
fn variable_that_nobody_implements_ends_the_run_by_its_name_when_it_is_read() {
    let test = "variable_that_nobody_implements_ends_the_run_by_its_name_when_it_is_read";
    let output = in_a_child(test, || {
        // mov rax, [rip + slot]; mov eax, [rax + 8]; ret.
        let read_slot = |slot: i32| [b"\x48\x8B\x05", &(slot - 7).to_le_bytes()[..], b"\x8B\x40\x08\xC3"].concat();
        let image = ready(&["NobodysVariable"], read_slot);
        call(image.entry());
    });
    if let Some(output) = output {
        let words =
            ["DRYDOCK_UNIMPLEMENTED_IMPORT", "read the variable ntoskrnl.exe!NobodysVariable", "late.sys+0x2007"];
        assert_bugcheck(&output, &words);
    }
}

#[test]
fn write_to_code_is_a_fault_of_the_driver() {
    let test = "write_to_code_is_a_fault_of_the_driver";
    let output = in_a_child(test, || {
        // mov byte ptr [rip], 0x90
        let image = ready(&["Unused"], |_| b"\xC6\x05\0\0\0\0\x90\xC3".to_vec());
        call(image.entry());
    });
    if let Some(output) = output {
        assert_bugcheck(&output, &["ATTEMPTED_WRITE_TO_READONLY_MEMORY", "late.sys+0x2007, where that is not allowed"]);
    }
}
