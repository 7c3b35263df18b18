//! Exceptions that imports raise, and exceptions that pass through host frames.

use exceptions::{LEFT, bugcheck, call, notes};
use nt_abi::NtStatus;
use nt_abi::exception::BugCheck;
use proves::proves;

const ACCESS_VIOLATION: u64 = 0xC000_0005;
const MISALIGNMENT: u64 = 0x8000_0002;
const NO_MEMORY: u64 = 0xC000_0017;
const NOWHERE: u64 = 0x5000;
/// What `is_leaving` says in the destructor of a host frame that an exception passes.
const LEAVING: u64 = LEFT + 1;

#[test]
fn child() {
    exceptions::child();
}

#[test]
#[proves("K-014")]
fn raised_statuses_are_caught() {
    assert_eq!(call("raise_status", NO_MEMORY), NO_MEMORY);
    assert_eq!(call("raise_access_violation", 0), ACCESS_VIOLATION);
    assert_eq!(call("raise_misalignment", 0), MISALIGNMENT);
}

#[test]
#[proves("K-014")]
fn probes_raise_for_what_is_no_user_memory() {
    for probe in ["probe_for_read", "probe_for_write"] {
        assert_eq!(call(probe, 0x10_0001), MISALIGNMENT, "{probe}");
        for address in [gate::memory::USER_PROBE_ADDRESS, gate::memory::USER_PROBE_ADDRESS - 8, u64::MAX - 7] {
            assert_eq!(call(probe, address), ACCESS_VIOLATION, "{probe} {address:#x}");
        }
    }
    assert_eq!(call("probe_for_read", 0x10_0000), 0, "memory is not touched to read");
    assert_eq!(call("probe_for_write", 0x10_0000), ACCESS_VIOLATION, "but to write");
    assert_eq!(call("probe_of_nothing", u64::MAX), 0);
}

#[test]
#[proves("K-014")]
fn semaphore_over_its_limit_raises_and_keeps_its_count() {
    let release = |adjustment: i32| (call("release_semaphore", adjustment as u32 as u64), notes());
    for adjustment in [3, i32::MAX, -1, i32::MIN] {
        let raised = u64::from(NtStatus::SEMAPHORE_LIMIT_EXCEEDED.0);
        assert_eq!(release(adjustment), (raised, vec![u64::MAX, 1]), "{adjustment}");
    }
    for adjustment in [0, 2] {
        assert_eq!(release(adjustment), (0, vec![1, 1 + adjustment as u64]), "{adjustment}");
    }
}

#[test]
#[proves("K-014")]
fn fault_of_the_host_on_the_drivers_behalf_is_raised_in_the_driver() {
    assert_eq!(call("fault_in_an_import", 0), NOWHERE);
    assert_eq!(call("fault_in_an_import", 1), NOWHERE | 1 << 32);
}

#[test]
fn fault_of_the_host_is_fatal_where_one_of_the_driver_would_be() {
    let record = bugcheck("fault_in_an_import_at_dispatch_level", 0);
    assert_eq!(record.code, BugCheck::DRIVER_IRQL_NOT_LESS_OR_EQUAL.0, "{record:?}");
    let record = bugcheck("fault_of_a_system_address_in_an_import", 0x2200_0000_0000);
    assert_eq!(record.code, BugCheck::PAGE_FAULT_IN_NONPAGED_AREA.0, "{record:?}");
    assert_eq!((record.driver.as_str(), record.import_name.as_str()), ("seh.sys", "ntoskrnl.exe!HostCopy"));
}

#[test]
fn raised_record_shows_its_parameters_and_where_it_was_raised() {
    assert_eq!(call("raise_record", 1), 0xE000_1234);
    assert_eq!(notes(), [11]);
    assert_eq!(call("raise_record", 0), 2, "one that can be continued returns");
    assert_eq!(notes(), [11]);
}

#[test]
#[proves("K-014")]
fn routine_that_an_exception_passes_has_no_answer() {
    for (step, left, freed) in [(0, 3, 0), (1, 3, 0), (2, 3, 0), (3, 0, 1)] {
        assert_eq!(call("table_routine_raises", step), left * 10 + 1, "step {step}");
        assert_eq!(notes().len(), freed, "step {step}: only what the driver deleted before was freed");
    }
    assert_eq!(call("sort_routine_raises", 0), 31, "qsort asks no more");
    assert_eq!(call("sort_routine_raises", 1), 31, "bsearch asks no more");
    assert_eq!(call("once_routine_raises", 0), 21, "it was not done, and is done by the next call");
}

#[test]
fn continuing_what_cannot_be_continued_is_an_exception() {
    assert_eq!(call("continued_against_the_rules", 0), u64::from(NtStatus::NONCONTINUABLE_EXCEPTION.0));
}

#[test]
#[proves("K-014")]
fn fault_in_a_callback_passes_the_host_with_destructors_run() {
    assert_eq!(call("fault_passes_the_host", NOWHERE), ACCESS_VIOLATION);
    // The filter, the callback's __finally, the host's destructor, the __except block.
    assert_eq!(notes(), [0, 1, LEAVING, 3]);
    assert_eq!(call("raised_status_passes_the_host", NO_MEMORY), NO_MEMORY);
    assert_eq!(notes(), [LEAVING]);
}

#[test]
fn fault_that_the_callback_catches_does_not_concern_the_host() {
    assert_eq!(call("fault_is_caught_in_the_callback", NOWHERE), ACCESS_VIOLATION);
    assert_eq!(notes(), [LEFT, 5]);
}

#[test]
fn fault_passes_host_and_driver_by_turns() {
    assert_eq!(call("fault_passes_the_host_three_times", NOWHERE), ACCESS_VIOLATION);
    assert_eq!(notes(), [1, LEAVING, 11, LEAVING, LEAVING]);
}

#[test]
fn outer_filter_may_repair_what_happened_in_the_callback() {
    assert_eq!(call("callback_goes_on_after_repair_outside", 0), 0x600E);
    assert_eq!(notes(), [LEFT]);
}

#[test]
fn filter_may_call_the_host_and_be_called_back() {
    assert_eq!(call("filter_calls_the_host", NOWHERE), ACCESS_VIOLATION);
    assert_eq!(notes(), [1, LEAVING, 2]);
}

#[test]
fn exception_of_a_finally_block_replaces_the_one_that_passes_the_host() {
    assert_eq!(call("second_exception_passes_the_host", NOWHERE), NO_MEMORY);
    assert_eq!(notes(), [1, LEAVING]);
}

#[test]
fn preserved_registers_come_back_by_way_of_the_host() {
    assert_eq!(call("registers_survive_the_host", NOWHERE), 1110 * 100 + 30);
}

#[test]
fn callback_that_is_no_code_is_caught_by_who_named_it() {
    assert_eq!(call("callback_is_nothing", 0x1234), ACCESS_VIOLATION);
    assert_eq!(notes(), [LEAVING]);
}

#[test]
fn exception_in_work_that_is_not_the_drivers_doing_does_not_reach_it() {
    let record = bugcheck("not_on_my_behalf", NOWHERE);
    assert_eq!(record.code, BugCheck::KMODE_EXCEPTION_NOT_HANDLED.0, "{record:?}");
    assert_eq!(record.parameters[0], ACCESS_VIOLATION);
}

#[test]
fn unhandled_status_names_the_import_and_its_caller() {
    let record = bugcheck("unhandled_status", NO_MEMORY);
    assert_eq!((record.code, record.parameters[0]), (BugCheck::KMODE_EXCEPTION_NOT_HANDLED.0, NO_MEMORY));
    assert_eq!((record.driver.as_str(), record.import_name.as_str()), ("seh.sys", "ntoskrnl.exe!ExRaiseStatus"));
    assert_eq!(record.message, "ExRaiseStatus raised NO_MEMORY, and no handler took it.");
    assert_eq!(record.image_base + record.offset, record.parameters[1]);
}

#[test]
fn report_lists_the_frames_of_drivers_on_both_sides_of_the_host() {
    let record = bugcheck("first", NOWHERE);
    let functions = ["callback_of_first", "first"].map(exceptions::address);
    // third is where it happened; second, callback_of_first, first and nothing of the host between them.
    let offsets: Vec<u64> = record.frames.iter().map(|frame| frame - record.image_base).collect();
    let of = |index: usize| functions[index] - exceptions::driver().base();
    assert_eq!(record.frames.len(), 3, "{record:x?}");
    assert!(offsets[1] > of(0) && offsets[1] < of(0) + 0x40, "{offsets:x?} {functions:x?}");
    assert!(offsets[2] > of(1) && offsets[2] < of(1) + 0x40, "{offsets:x?} {functions:x?}");
}

#[test]
fn many_raised_exceptions_leave_the_stack_as_it_was() {
    assert_eq!(call("many_raises", 20_000), 20_000);
    assert_eq!(call("many_raises_pass_the_host", 20_000), 20_000);
    assert_eq!(notes().len(), 20_000);
}

#[test]
fn fault_of_the_host_is_raised_in_the_driver_that_called_it() {
    assert_eq!(call("host_reads", NOWHERE), 1110 * 100 + 30);
    assert_eq!(notes(), [], "the function was left where it was");
}

#[test]
fn fault_of_the_host_while_an_exception_passes_it_changes_nothing() {
    assert_eq!(call("host_reads_while_leaving", NOWHERE), 1110 * 100 + 30);
}

#[test]
fn fault_of_the_host_ends_the_run_where_leaving_it_would_lose_a_lock_or_a_call() {
    for (test, import) in [("host_reads_holding", "HostPeekHolding"), ("host_reads_inside", "HostPeekInside")] {
        let record = bugcheck(test, NOWHERE);
        assert_eq!(record.code, BugCheck::KMODE_EXCEPTION_NOT_HANDLED.0, "{record:?}");
        assert_eq!(record.driver, "seh.sys");
        assert_eq!(record.import_name, format!("ntoskrnl.exe!{import}"));
        assert_eq!(record.frames.len(), 1, "found below the host's frames: {record:x?}");
    }
}
