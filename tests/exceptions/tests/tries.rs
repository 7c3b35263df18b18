//! `__try`, `__except` and `__finally` in driver code, with faults of the driver itself.

use exceptions::{bugcheck, call, notes};
use nt_abi::exception::BugCheck;
use proves::proves;

const ACCESS_VIOLATION: u64 = 0xC000_0005;
const NO_MEMORY: u64 = 0xC000_0017;
const NOWHERE: u64 = 0x5000;

#[test]
fn child() {
    exceptions::child();
}

#[test]
#[proves("K-014")]
fn fault_is_caught_in_the_same_frame() {
    assert_eq!(call("caught_in_the_same_frame", 0), ACCESS_VIOLATION);
    assert_eq!(call("caught_in_the_same_frame", NOWHERE), ACCESS_VIOLATION);
}

#[test]
fn filter_sees_what_happened_where() {
    let seen: Vec<_> = (0..8).map(|index| call("seen_by_a_filter", index)).collect();
    let [code, flags, parameters, operation, address, offset, distance, rcx] = seen[..] else { panic!() };
    assert_eq!((code, flags, parameters), (ACCESS_VIOLATION, 0, 2));
    assert_eq!((operation, address), (0, NOWHERE), "a read of that address");
    assert!(offset < 16, "in read_word: {offset:#x}");
    assert_eq!((distance, rcx), (0, NOWHERE), "registers of the faulting instruction");
}

#[test]
#[proves("K-014")]
fn finally_blocks_run_from_the_inside_out_after_the_filter() {
    assert_eq!(call("finally_runs_from_the_inside_out", NOWHERE), ACCESS_VIOLATION);
    assert_eq!(notes(), [1, 11, 21, 2]);
}

#[test]
fn block_whose_filter_declines_is_passed() {
    assert_eq!(call("inner_filter_declines", NOWHERE), 2);
}

#[test]
fn execution_goes_on_where_a_filter_repaired_the_registers() {
    assert_eq!(call("continued_after_repair", 0), 0x600D);
}

#[test]
fn preserved_registers_are_those_of_the_frame_that_goes_on() {
    assert_eq!(call("registers_survive", NOWHERE), 1110 * 100 + 30);
}

#[test]
fn frame_register_leads_to_the_frame_of_a_function_with_alloca() {
    for bytes in [16, 1000, 60_000] {
        assert_eq!(call("frame_register_is_followed", bytes), 0x709, "{bytes}");
    }
}

#[test]
fn frame_of_200_kb_is_unwound() {
    assert_eq!(call("large_frame_is_unwound", NOWHERE), 3);
    assert_eq!(notes(), [11]);
}

#[test]
fn exception_in_an_except_block_goes_to_the_blocks_around_it() {
    assert_eq!(call("exception_in_the_handler_goes_outward", NOWHERE), ACCESS_VIOLATION ^ 9);
    assert_eq!(notes(), [1]);
}

#[test]
fn exception_in_a_finally_block_does_not_run_it_again() {
    assert_eq!(call("exception_in_finally_takes_over", NOWHERE), ACCESS_VIOLATION);
    assert_eq!(notes(), [1, 2, 3]);
}

#[test]
fn exception_while_unwinding_may_go_further_than_the_target() {
    assert_eq!(call("collided_unwinding_goes_further_out", NOWHERE), NO_MEMORY);
    assert_eq!(notes(), [11, 1, 2]);
}

#[test]
fn finally_blocks_run_however_the_block_is_left() {
    for (how, result, expected) in [
        (0, 6, &[0, 50, 100, 1, 51, 101, 2, 52, 102][..]),
        (1, 5, &[0, 50, 100, 1, 111]),
        (2, 6, &[0, 50, 100, 1, 111]),
        (3, 6, &[0, 50, 100, 1, 101, 2, 52, 102]),
    ] {
        assert_eq!(call("left_early", how), result);
        assert_eq!(notes(), expected, "{how}");
    }
}

#[test]
fn fault_in_a_filter_asks_the_same_blocks_again() {
    for faults in 0..4 {
        assert_eq!(call("fault_in_a_filter_is_nested", faults), 2);
        assert_eq!(notes(), vec![1; faults as usize + 1]);
    }
}

#[test]
fn filter_may_catch_its_own_fault() {
    assert_eq!(call("filter_may_have_blocks_itself", 0), 2);
    assert_eq!(notes(), [10, 11, 12]);
}

#[test]
fn exception_in_a_filter_is_marked_as_nested() {
    assert_eq!(call("nested_exception_is_marked", 0), 2);
    // The inner filter faults, is asked about its own fault and declines.
    assert_eq!(notes(), [7, 7, 0x10]);
}

#[test]
fn filter_that_always_faults_ends_by_a_stack_overflow() {
    let record = bugcheck("filter_that_always_faults", 0);
    assert_eq!(record.code, BugCheck::UNEXPECTED_KERNEL_MODE_TRAP.0, "{record:?}");
    assert_eq!(record.parameters[0], 8);
}

#[test]
fn a_hundred_thousand_exceptions_leave_the_stack_as_it_was() {
    assert_eq!(call("many_exceptions", 100_000), 100_000);
}

#[test]
fn unhandled_fault_ends_the_run_at_the_faulting_instruction() {
    let record = bugcheck("unhandled_read", NOWHERE);
    assert_eq!(record.code, BugCheck::KMODE_EXCEPTION_NOT_HANDLED.0, "{record:?}");
    assert_eq!(record.parameters, [ACCESS_VIOLATION, record.rip, 0, NOWHERE]);
    assert_eq!((record.driver.as_str(), record.image_base + record.offset), ("seh.sys", record.rip));
    assert_eq!(record.message, "The driver read address 0x5000 (near a null pointer).");
    // read_word, four times read_deep, and the export.
    assert_eq!(record.frames.len(), 5, "{record:x?}");
}

#[test]
fn unhandled_exception_unwinds_nothing() {
    // The child would note 77 to no effect: what is shown is that the record comes from the faulting frame.
    let record = bugcheck("unhandled_with_finally", NOWHERE);
    assert_eq!(record.code, BugCheck::KMODE_EXCEPTION_NOT_HANDLED.0, "{record:?}");
    assert_eq!(record.frames.len(), 2, "{record:x?}");
}
