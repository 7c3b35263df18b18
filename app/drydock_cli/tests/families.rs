//! A test driver for each family of exports (`drivers/`): it makes its claims in C, as drivers call, and prints what does not
//! hold.

mod scenario;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use proves::proves;
use scenario::{Ran, Run, simulated};

/// A test driver's image; all are built once.
fn driver(family: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = BUILT.get_or_init(|| scenario::built("tests/drivers", "drivers"));
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
    claims_hold_over("none", family, run)
}

#[track_caller]
fn claims_hold_over(network: &str, family: &str, run: Run) -> Ran {
    let ran = run.args(["--net", network]).run();
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
fn texts_are_converted_parsed_and_printed() {
    every_claim_holds("texts");
}

#[test]
#[proves("K-201")]
fn c_run_time_does_what_the_standard_says() {
    every_claim_holds("runtime");
}

#[test]
fn times_masks_and_trees_are_computed() {
    every_claim_holds("values");
}

#[test]
#[proves("K-120", "K-121", "K-142", "K-145")]
fn locks_hold_up_whom_they_exclude_and_nobody_else() {
    every_claim_holds("locks");
}

#[test]
#[proves("K-124", "K-126", "K-159")]
fn events_are_shared_by_handle_and_name() {
    every_claim_holds("named");
}

#[test]
#[proves("K-009", "K-100", "K-125", "K-169", "K-203")]
fn threads_know_who_and_when_they_are_and_are_told_of_each_other() {
    every_claim_holds("threads");
}

#[test]
#[proves("K-085", "K-092", "K-095", "K-096", "K-097", "K-099", "K-156", "K-158", "K-176")]
fn devices_stack_and_have_names() {
    every_claim_holds("devices");
}

#[test]
#[proves("K-020", "K-021", "K-037", "K-061", "K-071", "K-075", "K-076", "K-077", "K-080", "K-081", "K-136", "K-143")]
fn requests_are_built_queued_cancelled_and_completed() {
    every_claim_holds("requests");
}

#[test]
#[proves(
    "K-001", "K-002", "K-003", "K-004", "K-007", "K-008", "K-015", "K-022", "K-023", "K-027", "K-036", "K-039",
    "K-040", "K-042", "K-045", "K-047", "K-050", "K-051", "K-087", "K-089", "K-090", "K-093", "K-106", "K-111"
)]
fn packets_are_laid_out_and_walked_as_inline_code_expects() {
    every_claim_holds("packets");
    let ran = claims_hold("packets", Run::of(driver("packets")));
    assert!(ran.account.contains("the new device is ready"), "{}", ran.account);
}

#[test]
#[proves("K-105", "K-110", "K-146")]
fn memory_of_every_kind_is_given_and_taken_back() {
    every_claim_holds("pages");
}

#[test]
fn security_is_that_of_the_local_system() {
    every_claim_holds("security");
}

#[test]
#[proves("K-196")]
fn tdi_library_copies_refuses_and_tells_clients() {
    every_claim_holds("tdi_imports");
}

#[test]
fn kernel_has_a_version_variables_and_a_debug_output() {
    let ran = claims_hold("kernel", Run::of(driver("kernel")));
    for line in ["printed 1 one", "printed 2 two", "printed 3 three", "prefix: printed 4 four"] {
        assert!(ran.account.contains(line), "{line} is not in: {}", ran.account);
    }
}

/// What ends the run, by the number under which kernel.c does it: the bugcheck's code and its first parameter.
#[test]
fn what_does_not_come_back_ends_the_run_with_its_code() {
    const STATUS_BREAKPOINT: u32 = 0x8000_0003;
    const STATUS_DEVICE_BUSY: u32 = 0x8000_0011;
    const STATUS_ACCESS_VIOLATION: u32 = 0xC000_0005;
    let ends = [
        ("1", 0xE2, 0),
        ("2", 0x1E, STATUS_BREAKPOINT),
        ("3", 0x1E, STATUS_BREAKPOINT),
        ("4", 0x1E, STATUS_BREAKPOINT),
        ("5", 0x1E, STATUS_DEVICE_BUSY),
        ("6", 0x1E, STATUS_DEVICE_BUSY),
        // A device that is none.
        ("7", 0x1E, STATUS_ACCESS_VIOLATION),
    ];
    for (end, code, parameter) in ends {
        let ran = Run::of(driver("kernel")).set("End", end).args(["--net", "none"]).run();
        let bugcheck = &ran.verdict["bugcheck"];
        assert_eq!((&bugcheck["code"], &bugcheck["driver"]), (&code.into(), &"kernel.sys".into()), "{end}: {ran:#?}");
        // Exception codes are shown as they are widened: with their sign.
        assert_eq!(bugcheck["parameters"][0].as_u64().map(|word| word as u32), Some(parameter), "{end}: {ran:#?}");
    }
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

#[test]
#[proves("K-155", "K-158")]
fn handles_of_any_object_are_opened_duplicated_and_found() {
    every_claim_holds("objects");
}

#[test]
fn system_information_is_that_of_the_run() {
    every_claim_holds("system");
}

#[test]
fn names_are_in_the_expressions_that_fit_them() {
    every_claim_holds("file_names");
}

#[test]
#[proves("K-177")]
fn registry_callbacks_are_told_forbid_and_take_over() {
    every_claim_holds("registry_callbacks");
}

#[test]
#[proves("K-102")]
fn registry_callback_that_is_left_registered_is_a_finding() {
    let ran = Run::of(driver("registry_callbacks")).set("Left", 1).args(["--net", "none"]).run().expect("findings", 1);
    assert!(ran.findings().iter().any(|finding| finding.contains("a registry callback")), "{ran:#?}");
}

#[test]
#[proves("K-128", "K-129")]
fn timers_that_the_system_allocates_call_wait_and_end() {
    every_claim_holds("ex_timers");
}

#[test]
#[proves("K-102")]
fn timer_object_that_is_left_is_a_finding_and_calls_nobody() {
    let ran = Run::of(driver("ex_timers")).set("Left", 1).args(["--net", "none"]).run().expect("findings", 1);
    assert!(ran.findings().iter().any(|finding| finding.contains("a timer object")), "{ran:#?}");
    let times = |finding: &serde_json::Value| finding["times"].as_u64();
    let findings = ran.verdict["findings"].as_array().expect("an array");
    assert!(findings.iter().all(|finding| times(finding) == Some(1)), "{ran:#?}");
}

#[test]
#[proves("K-177")]
fn callbacks_timers_and_reinitialization_call_drivers_back() {
    for seed in [&[][..], &["--seed", "7"]] {
        let run = seed.iter().fold(Run::of(driver("callbacks")), |run, argument| run.arg(argument));
        claims_hold("callbacks", run).line("called back 12");
    }
}

#[test]
fn objects_that_are_something_else_and_what_is_left_undone_are_findings() {
    let ran = Run::of(driver("wrong_object")).args(["--net", "none"]).run().expect("findings", 1);
    assert!(ran.line(" claims, ").contains(" 0 failed"), "{ran:#?}");
    // Each from so many places; from one it is one finding, however often.
    for (told, places) in [
        ("is no callback object", 2),
        ("which is nothing that can be waited on", 2),
        ("was inserted into a queue that it is in", 1),
        ("IoRegisterDeviceInterface was given", 1),
        ("IoGetDeviceInterfaces was given", 1),
        ("KeSetSystemAffinityThread was given 0x0, which names no processor", 1),
        ("began inside of 1 critical or guarded regions and returned inside of 2", 1),
        ("began inside of 0 critical or guarded regions and returned inside of 1", 1),
        ("began inside of 0 critical or guarded regions and returned inside of 2", 1),
        (r"a timer of the Device object of \Device\Ticking", 1),
    ] {
        let count = ran.findings().iter().filter(|finding| finding.contains(told)).count();
        assert_eq!(count, places, "{told}: {ran:#?}");
    }
}

#[test]
#[proves("K-124")]
fn queues_give_each_entry_to_one_thread() {
    every_claim_holds("queues");
}

#[test]
#[proves("K-165")]
fn bytes_errors_addresses_and_versions_are_converted() {
    every_claim_holds("conversions");
}

#[test]
#[proves("K-100")]
fn processes_copies_and_power_answer_for_the_run() {
    every_claim_holds("services");
}

#[test]
#[proves("K-155")]
fn objects_and_processes_are_described_by_handle() {
    every_claim_holds("queries");
}

#[test]
#[proves("K-177")]
fn bugcheck_callback_is_registered_once() {
    every_claim_holds("last_calls");
}

#[test]
#[proves("K-102")]
fn bugcheck_callback_that_is_left_registered_is_a_finding() {
    let ran = Run::of(driver("last_calls")).set("End", 1).args(["--net", "none"]).run().expect("findings", 1);
    assert!(ran.findings().iter().any(|finding| finding.contains("a bugcheck callback")), "{ran:#?}");
}

#[test]
fn events_go_nowhere_while_nobody_traces() {
    every_claim_holds("tracing");
}

#[test]
#[proves("K-102")]
fn trace_provider_that_is_left_registered_is_a_finding() {
    let ran = Run::of(driver("tracing")).set("Left", 1).args(["--net", "none"]).run().expect("findings", 1);
    let is_told = |finding: &&str| finding.contains("trace provider {8C3D2A11-5F60-4D7E-9102-3B4C5D6E7F80}");
    assert!(ran.findings().iter().any(is_told), "{ran:#?}");
}

/// A run of last_calls.c that ends so, in the bugcheck of that code and nothing of the callbacks'.
#[track_caller]
fn last_calls(end: u32, code: u32, seed: &[&str]) -> Ran {
    let run = seed.iter().fold(Run::of(driver("last_calls")), |run, argument| run.arg(argument));
    // Longer than any test may take: it must be the bugcheck that ends the run.
    let ran = run.set("End", end).args(["--net", "none", "--timeout", "3600"]).run();
    let bugcheck = &ran.verdict["bugcheck"];
    assert_eq!((&bugcheck["code"], &bugcheck["driver"]), (&code.into(), &"last_calls.sys".into()), "{end}: {ran:#?}");
    ran.line("noted 1 16 15 2");
    ran
}

#[test]
#[proves("K-177")]
fn bugcheck_calls_what_was_registered_for_it() {
    for seed in [&[][..], &["--seed", "7"]] {
        let ran = last_calls(2, 0xE2, seed);
        for told in ["of 'first' at last_calls.sys+", "of 'second' at last_calls.sys+", "of 'data' at last_calls.sys+"]
        {
            assert!(ran.line(told).contains("is called"), "{ran:#?}");
        }
        assert!(ran.line("of 'third'").contains("is not called: its record"), "{ran:#?}");
        ran.line("gave 5 bytes for the dump");
        assert!(!ran.account.contains("'pages'") && !ran.account.contains("FAILS"), "{ran:#?}");
    }
}

#[test]
fn bugcheck_callback_that_fails_or_never_returns_loses_nothing_of_the_report() {
    // How the run ends, and the code of that.
    for (end, code) in [(3, 0xE2), (4, 0xD1), (5, 0xE2), (6, 0xE2)] {
        for seed in [&[][..], &["--seed", "7"]] {
            let ran = last_calls(end, code, seed);
            ran.line("of 'second' at last_calls.sys+");
            ran.line("did not come back from last_calls.sys+");
            assert!(!ran.account.contains("'third'"), "{ran:#?}");
        }
    }
}

#[test]
#[proves("K-134")]
fn thread_tells_its_times_its_end_and_where_it_began() {
    every_claim_holds("thread_queries");
    // Where time is real, what runs takes some.
    claims_hold("thread_queries", Run::of(driver("thread_queries"))).line("ran for a while");
}

#[test]
#[proves("K-007")]
fn thread_that_is_bound_to_a_processor_has_its_number() {
    every_claim_holds("affinity");
}

#[test]
#[proves("K-177")]
fn security_descriptor_is_assigned_set_and_told_again() {
    every_claim_holds("descriptors");
}

#[test]
fn physical_memory_is_mapped_where_there_is_any() {
    every_claim_holds("io_space");
    let ran = claims_hold("io_space", Run::of(driver("io_space")));
    ran.line("MmMapIoSpace gives NULL: no memory lies at physical address 0xfec00000 (0x1000 bytes)");
    ran.line("MmMapIoSpaceEx gives NULL");
    let ran = Run::of(driver("io_space")).set("Keep", 1).args(["--net", "none"]).run().expect("findings", 1);
    for told in ["which MmMapIoSpace has not mapped so", "bytes of physical memory"] {
        assert!(ran.findings().iter().any(|finding| finding.contains(told)), "{ran:#?}");
    }
}

#[test]
fn device_that_no_bus_enumerates_has_no_interfaces_and_no_relations() {
    const PNP_DETECTED_FATAL_ERROR: u32 = 0xCA;
    every_claim_holds("interfaces");
    for end in 1..=3 {
        let ran = Run::of(driver("interfaces")).set("End", end).args(["--net", "none"]).run();
        let bugcheck = &ran.verdict["bugcheck"];
        assert_eq!(bugcheck["code"], PNP_DETECTED_FATAL_ERROR, "{end}: {ran:#?}");
        assert_eq!((&bugcheck["driver"], &bugcheck["parameters"][0]), (&"interfaces.sys".into(), &2.into()), "{end}");
    }
}

#[test]
fn redirector_registers_itself_and_finds_nothing_cached() {
    every_claim_holds("redirector");
}

#[test]
#[proves("K-177")]
fn entries_are_put_into_and_taken_out_of_access_lists() {
    every_claim_holds("access_lists");
}

#[test]
fn altitudes_spans_of_time_and_rights_of_requests_are_compared() {
    every_claim_holds("comparisons");
}

#[test]
fn hash_tables_find_count_and_tell_their_entries() {
    every_claim_holds("hash_tables");
}

#[test]
fn exports_of_two_names_do_the_same_under_either() {
    every_claim_holds("twins");
    Run::of(driver("twins")).args(["--net", "none"]).run().expect_clean().line("twins: called back, 0 failed");
}

/// The verifier knows files and requests by their addresses, and the next of either may have the address of the last.
#[test]
fn nobody_is_blamed_for_what_lay_at_the_same_address_before() {
    const ONE_HOST: &str = "[[host]]\nname = \"a\"\naddress = [\"10.0.0.1\"]\n";
    let simulated = scenario::simulated("reopening", ONE_HOST);
    let run = || Run::of(driver("reopening")).set("Rounds", 20);
    for seed in ["1", "2", "3", "4"] {
        for network in ["loopback", &simulated] {
            let ran = claims_hold_over(network, "reopening", run().args(["--seed", seed]));
            ran.line("the second lies where the first lay");
        }
    }
    claims_hold_over("loopback", "reopening", run());
    claims_hold_over("loopback", "reopening", run().arg("--special-pool"));
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

#[test]
fn results_are_written_to_any_alignment() {
    every_claim_holds("unaligned");
}

#[test]
#[proves("D-287", "D-288", "D-289")]
fn filter_sees_who_opens_and_what_before_the_open_returns() {
    every_claim_holds("filtering");
}

#[test]
#[proves("D-290", "C-081")]
fn filter_that_fails_a_successful_open_is_told_of_the_leak() {
    let ran = Run::of(driver("filtering")).args(["--net", "none"]).set("Deny", 1).run();
    assert!(!ran.account.contains("FAILS"), "{}", ran.account);
    let findings = ran.verdict["findings"].as_array().expect("a list");
    let [finding] = findings.as_slice() else { panic!("{findings:?}") };
    assert_eq!((finding["rule"].as_str(), finding["driver"].as_str()), (Some("D-290"), Some("filtering.sys")));
}

/// On both networks, which differ in how much urgent data there can be at once.
#[test]
#[proves("C-365", "C-384", "C-391", "C-470", "C-491")]
fn expedited_data_is_told_from_normal_data_on_the_way_and_overtakes_it_before() {
    let simulated = scenario::simulated("expedited", "[[host]]\nname = \"a\"\naddress = [\"10.0.0.1\"]\n");
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr()).expect("a free port").port();
    let host = || Run::of(driver("expedited")).set("Port", free).set("MarksOne", 1);
    claims_hold_over("loopback", "expedited", host());
    claims_hold_over("loopback", "expedited", host().args(["--seed", "7"]));
    for seed in ["1", "7"] {
        let run = Run::of(driver("expedited")).set("Port", 9).args(["--seed", seed]);
        claims_hold_over(&simulated, "expedited", run);
    }
}

/// Its client's request and handler lead into the filter when it has gone.
#[test]
#[proves("D-291", "K-102")]
fn filter_that_goes_while_others_lead_into_it_is_told_of_each_way() {
    let filter = driver("departing").with_file_name("departing_filter.sys");
    fs::copy(driver("departing"), &filter).expect("a copy");
    for seed in [&[][..], &["--seed", "7"]] {
        let run = Run::of(driver("departing")).arg(&filter);
        let ran = seed.iter().fold(run, |run, argument| run.arg(argument)).run().expect("findings", 1);
        assert!(!ran.account.contains("FAILS"), "{}", ran.account);
        let findings = ran.verdict["findings"].as_array().expect("a list");
        for words in ["completion routine is still to be called", "event handler is still registered"] {
            let found =
                |finding: &&serde_json::Value| finding["message"].as_str().is_some_and(|text| text.contains(words));
            let finding = findings.iter().find(found).unwrap_or_else(|| panic!("{words}: {findings:#?}"));
            assert_eq!(
                (finding["rule"].as_str(), finding["driver"].as_str()),
                (Some("K-102"), Some("departing_filter.sys"))
            );
        }
        assert_eq!(findings.len(), 2, "{findings:#?}");
    }
}

#[test]
#[proves("C-280")]
fn who_connects_where_nobody_listens_any_more_is_refused() {
    let network = "[[host]]\nname = \"a\"\naddress = [\"10.0.0.1\"]\n";
    for seed in [&[][..], &["--seed", "7"]] {
        let run = Run::of(driver("listening")).args(["--net", &simulated("listening", network)]);
        let ran = seed.iter().fold(run, |run, argument| run.arg(argument)).run();
        assert!(!ran.account.contains("FAILS"), "{}", ran.account);
        assert!(ran.expect_clean().line(" claims, ").contains(" 0 failed"));
    }
}
