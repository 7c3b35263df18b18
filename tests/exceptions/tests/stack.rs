//! Looking at the stack, and unwinding by hand.

use exceptions::{address, bugcheck, call, driver, notes};
use nt_abi::NtStatus;
use nt_abi::exception::BugCheck;
use proves::proves;

const ACCESS_VIOLATION: u64 = 0xC000_0005;
const NOWHERE: u64 = 0x5000;

#[test]
fn child() {
    exceptions::child();
}

#[test]
fn stack_back_trace_lists_driver_frames_across_the_host() {
    assert_eq!(call("capture_through_the_host", 0), 3);
    let frames = [0, 1, 2].map(|index| call("captured_frame", index));
    let is_in = |frame: u64, name: &str| (address(name)..address(name) + 0x40).contains(&frame);
    assert!(is_in(frames[1], "captured_by_callback") && is_in(frames[2], "capture_through_the_host"), "{frames:x?}");
    assert_eq!(call("captured_hash", 0), frames.iter().map(|frame| frame & 0xFFFF_FFFF).sum::<u64>() & 0xFFFF_FFFF);
    assert_eq!(call("capture_through_the_host", 1), 2);
    assert_eq!(call("captured_frame", 0), frames[1]);
}

#[test]
#[proves("K-014")]
fn driver_can_unwind_by_hand_to_its_caller() {
    assert_eq!(call("walked_by_hand", 0), 1);
}

#[test]
fn driver_can_look_its_handler_up() {
    assert_eq!(call("handler_is_found_by_hand", 0), 1);
}

#[test]
fn image_of_an_address_is_found() {
    assert_eq!(call("header_of_own_code", 0), driver().base());
    assert_eq!(call("callers_address", 0), 1);
}

#[test]
fn captured_registers_can_be_gone_back_to() {
    for depth in [0, 5] {
        assert_eq!(call("restored", depth), 3);
    }
}

#[test]
fn going_back_over_the_host_is_refused() {
    let record = bugcheck("restored_over_the_host", 0);
    assert_eq!(record.parameters[0], u64::from(NtStatus::INVALID_UNWIND_TARGET.0), "{record:?}");
    assert!(record.message.contains("RtlRestoreContext"), "{record:?}");
}

#[test]
fn handler_in_the_driver_may_ask_the_kernels() {
    // As __GSHandlerCheck_SEH does: called to search, and again to unwind the target frame.
    assert_eq!(call("own_handler_calls_the_real_one", NOWHERE), 0x5AFE);
    assert_eq!(notes(), [0, 0x22]);
}

#[test]
#[proves("K-014")]
fn handler_in_the_driver_may_unwind_itself() {
    assert_eq!(call("own_handler_unwinds", NOWHERE), 0x177);
}

#[test]
fn handler_that_answers_nonsense_is_an_exception() {
    let record = bugcheck("handler_that_answers_nonsense", NOWHERE);
    // The frame that answers nonsense is asked about that, too, and never stops.
    assert_eq!(record.code, BugCheck::UNEXPECTED_KERNEL_MODE_TRAP.0, "{record:?}");
}

#[test]
fn function_with_version_2_information_is_unwound() {
    assert_eq!(call("version_2_information", NOWHERE), ACCESS_VIOLATION);
}

#[test]
fn unwinding_to_a_frame_that_does_not_exist_ends_the_run() {
    for frame in [0, 0x1000] {
        let record = bugcheck("unwound_to_nowhere", frame);
        assert_eq!(record.code, BugCheck::KMODE_EXCEPTION_NOT_HANDLED.0, "{record:?}");
        assert_eq!(record.parameters[0], u64::from(NtStatus::INVALID_UNWIND_TARGET.0), "{record:?}");
    }
}
