//! Exceptions of the processor, and faults that no handler is shown.

use exceptions::{bugcheck, bugcheck_in_system_thread, call};
use nt_abi::NtStatus;
use nt_abi::exception::BugCheck;
use proves::proves;

const NOWHERE: u64 = 0x5000;
/// In the half of Windows' kernel.
const KERNEL_ADDRESS: u64 = 0xFFFF_8000_1234_5678;

#[test]
fn child() {
    exceptions::child();
}

#[test]
#[proves("K-014")]
fn exceptions_of_the_processor_are_caught_under_their_windows_names() {
    for (name, status) in [
        ("divide_by_zero", NtStatus::INTEGER_DIVIDE_BY_ZERO),
        ("breakpoint", NtStatus::BREAKPOINT),
        ("assertion", NtStatus::ASSERTION_FAILURE),
        ("debug_service", NtStatus::BREAKPOINT),
        ("no_such_instruction", NtStatus::ILLEGAL_INSTRUCTION),
        ("write_to_control_register", NtStatus::PRIVILEGED_INSTRUCTION),
        ("read_of_model_specific_register", NtStatus::PRIVILEGED_INSTRUCTION),
        ("unaligned_vector", NtStatus::ACCESS_VIOLATION),
        ("trap_flag", NtStatus::SINGLE_STEP),
        ("floating_divide_by_zero", NtStatus::FLOAT_MULTIPLE_TRAPS),
    ] {
        assert_eq!(call(name, 0), u64::from(status.0), "{name}");
    }
}

#[test]
fn misaligned_accesses_are_allowed_whatever_the_alignment_check_flag() {
    assert_eq!(call("alignment_check_flag", 0), u64::from(NtStatus::INTEGER_DIVIDE_BY_ZERO.0) + 7);
}

#[test]
fn address_that_no_pointer_can_have_is_an_access_violation() {
    for address in [0x4141_4141_4141_4141, 0x8000_0000_0000, 0xFFFF_0000_0000_0000] {
        assert_eq!(call("no_pointer_at_all", address), u64::from(NtStatus::ACCESS_VIOLATION.0), "{address:#x}");
    }
}

#[test]
fn execution_goes_on_behind_a_breakpoint_that_a_filter_skipped() {
    assert_eq!(call("execution_goes_on_behind_a_breakpoint", 0), 2);
}

#[test]
fn call_of_an_address_without_code_is_caught_by_the_caller() {
    for address in [0, 0x1234, NOWHERE] {
        assert_eq!(call("call_of_nothing", address), u64::from(NtStatus::ACCESS_VIOLATION.0), "{address:#x}");
    }
}

#[test]
fn divide_by_zero_at_dispatch_level_is_caught() {
    assert_eq!(call("divide_at_dispatch_level", 0), u64::from(NtStatus::INTEGER_DIVIDE_BY_ZERO.0));
}

#[test]
#[proves("K-013")]
fn fast_fail_is_a_bugcheck_whatever_handlers_there_are() {
    let record = bugcheck("fast_fail", 3);
    assert_eq!((record.code, record.parameters[0]), (BugCheck::KERNEL_SECURITY_CHECK_FAILURE.0, 3));
    assert!(record.message.contains("a corrupt list entry"), "{record:?}");
}

#[test]
#[proves("K-151")]
fn page_fault_at_dispatch_level_is_a_bugcheck_whatever_handlers_there_are() {
    let record = bugcheck("read_at_dispatch_level", NOWHERE);
    assert_eq!(record.code, BugCheck::DRIVER_IRQL_NOT_LESS_OR_EQUAL.0, "{record:?}");
    assert_eq!(record.parameters, [NOWHERE, 2, 0, record.rip]);
}

#[test]
fn page_fault_of_a_system_address_is_a_bugcheck_whatever_handlers_there_are() {
    for address in [KERNEL_ADDRESS, 0x2200_0000_0000] {
        let record = bugcheck("no_pointer_at_all", address);
        assert_eq!(record.code, BugCheck::PAGE_FAULT_IN_NONPAGED_AREA.0, "{record:?}");
        assert_eq!(record.parameters, [address, 0, record.rip, 0]);
    }
}

#[test]
fn write_to_read_only_and_execution_of_data_are_bugchecks_of_their_own() {
    let record = bugcheck("write_to_own_code", 0);
    assert_eq!(record.code, BugCheck::ATTEMPTED_WRITE_TO_READONLY_MEMORY.0, "{record:?}");
    let record = bugcheck("execute_own_data", 0);
    assert_eq!(record.code, BugCheck::ATTEMPTED_EXECUTE_OF_NOEXECUTE_MEMORY.0, "{record:?}");
    assert_eq!(record.driver, "seh.sys");
}

#[test]
fn unhandled_exception_names_the_kind_of_thread() {
    let record = bugcheck("unhandled_read", NOWHERE);
    assert_eq!(record.code, BugCheck::KMODE_EXCEPTION_NOT_HANDLED.0, "{record:?}");
    let record = bugcheck_in_system_thread("unhandled_read", NOWHERE);
    assert_eq!(record.code, BugCheck::SYSTEM_THREAD_EXCEPTION_NOT_HANDLED.0, "{record:?}");
    assert_eq!(record.parameters[..2], [u64::from(NtStatus::ACCESS_VIOLATION.0), record.rip]);
}

#[test]
fn stack_overflow_is_a_double_fault_whatever_handlers_there_are() {
    for record in [bugcheck("stack_overflow", 0), bugcheck_in_system_thread("stack_overflow", 0)] {
        assert_eq!((record.code, record.parameters[0]), (BugCheck::UNEXPECTED_KERNEL_MODE_TRAP.0, 8), "{record:?}");
        assert!(record.message.contains("stack overflowed"), "{record:?}");
        assert_eq!((record.driver.as_str(), record.frames.len()), ("seh.sys", 32));
    }
}

#[test]
fn fault_with_a_lost_stack_pointer_is_a_double_fault() {
    let record = bugcheck("lost_stack_pointer", 0);
    assert_eq!((record.code, record.parameters[0]), (BugCheck::UNEXPECTED_KERNEL_MODE_TRAP.0, 8), "{record:?}");
    assert!(record.message.contains("led out of the thread's stack"), "{record:?}");
    assert_eq!(record.driver, "seh.sys");
}

#[test]
fn bugcheck_for_which_no_stack_is_left_is_recorded_all_the_same() {
    const OWN: u32 = BugCheck::MANUALLY_INITIATED_CRASH.0;
    let at = |left: u64| bugcheck("bugcheck_near_the_end_of_the_stack", left);
    let with_room = at(64 << 10);
    assert_eq!((with_room.code, with_room.frames.len()), (OWN, 32), "{with_room:?}");
    let mut without_frames = 0;
    for record in (1..=10).map(|kilobytes| at(kilobytes << 10)) {
        assert_eq!((record.driver.as_str(), record.import_name.as_str()), ("seh.sys", "ntoskrnl.exe!KeBugCheckEx"));
        if record.code == OWN {
            // The reason was known; looking at the stack ran out of it.
            assert_eq!(record.parameters, [1, 2, 3, 4]);
            without_frames += u32::from(record.frames.is_empty());
        } else {
            assert_eq!(record.code, BugCheck::UNEXPECTED_KERNEL_MODE_TRAP.0, "{record:?}");
        }
    }
    assert!(without_frames > 0);
}
