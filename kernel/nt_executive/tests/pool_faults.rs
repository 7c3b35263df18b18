//! What pool does to drivers that misuse it: each case runs in a process of its own, because it ends that process.

use std::env;
use std::process::{Command, Output};

use gate::bugcheck::BUGCHECK_EXIT;
use nt_executive::pool::{self, Kind, Tag};

/// Names the case that a child is to run.
const CASE: &str = "POOL_FAULT_CASE";
const TAG: Tag = u32::from_le_bytes(*b"Test");

/// Runs `case` in a child that runs only the test `name`, and gives what it said. In that child: runs it here.
fn in_child(name: &str, case: fn()) -> Option<Output> {
    if env::var(CASE).is_ok_and(|wanted| wanted == name) {
        gate::fault::install().expect("handlers");
        nt_dispatcher::thread::adopt_current().expect("memory for a thread block");
        case();
        return None;
    }
    let this = env::current_exe().expect("a test has a path");
    let child = Command::new(this).args(["--exact", name, "--nocapture"]).env(CASE, name).output();
    Some(child.expect("a child process"))
}

/// Expects the case to end in a bugcheck whose record begins with `code` and holds `text`.
#[track_caller]
fn expect_bugcheck(name: &str, case: fn(), code: &str, text: &str) {
    let Some(output) = in_child(name, case) else { panic!("the case came to its end") };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(BUGCHECK_EXIT), "{said}");
    assert!(said.contains(&format!("bugcheck {code}")) && said.contains(text), "{said}");
}

/// Expects the case to run to its end and to have made a finding with `text`.
#[track_caller]
fn expect_finding(name: &str, case: fn(), text: &str) {
    let Some(output) = in_child(name, case) else { return };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("finding ") && said.contains(text), "{said}");
}

fn block(bytes: u64) -> u64 {
    pool::allocate(bytes, TAG, Kind::NonPaged, 0).expect("memory")
}

fn write(address: u64) {
    // SAFETY: committed pool of this process; that it is not ours to write is the point.
    unsafe { (address as *mut u8).write_volatile(0x5A) };
}

#[test]
fn block_freed_twice_is_a_bad_pool_caller() {
    let case = || {
        let address = block(40);
        pool::free(address, Some(TAG), 0);
        pool::free(address, Some(TAG), 0);
    };
    expect_bugcheck("block_freed_twice_is_a_bad_pool_caller", case, "BAD_POOL_CALLER", "(tag Test) was freed twice");
}

#[test]
fn address_inside_a_block_is_a_bad_pool_caller() {
    let case = || pool::free(block(40) + 16, None, 0);
    let text = "not the start of a pool block";
    expect_bugcheck("address_inside_a_block_is_a_bad_pool_caller", case, "BAD_POOL_CALLER", text);
}

#[test]
fn address_that_is_not_pool_is_a_bad_pool_caller() {
    let case = || pool::free(0x1000, None, 0);
    let text = "not an address of pool";
    expect_bugcheck("address_that_is_not_pool_is_a_bad_pool_caller", case, "BAD_POOL_CALLER", text);
}

#[test]
fn write_past_the_end_is_found_when_the_block_is_freed() {
    let case = || {
        let address = block(41);
        write(address + 41);
        pool::free(address, Some(TAG), 0);
    };
    let text = "wrote past its end";
    expect_bugcheck("write_past_the_end_is_found_when_the_block_is_freed", case, "BAD_POOL_HEADER", text);
}

#[test]
fn write_past_whole_pages_is_found_when_the_block_is_freed() {
    let case = || {
        let address = block(8192);
        write(address + 8192);
        pool::free(address, Some(TAG), 0);
    };
    let text = "wrote past its end";
    expect_bugcheck("write_past_whole_pages_is_found_when_the_block_is_freed", case, "BAD_POOL_HEADER", text);
}

#[test]
fn write_below_the_start_is_found_when_the_block_is_freed() {
    let case = || {
        let address = block(100);
        write(address - 1);
        pool::free(address, Some(TAG), 0);
    };
    let text = "wrote below it";
    expect_bugcheck("write_below_the_start_is_found_when_the_block_is_freed", case, "BAD_POOL_HEADER", text);
}

#[test]
fn protected_tag_is_needed_for_freeing() {
    let case = || {
        let protected = TAG | 1 << 31;
        let address = pool::allocate(10, protected, Kind::NonPaged, 0).expect("memory");
        pool::free(address, Some(TAG), 0);
    };
    expect_bugcheck("protected_tag_is_needed_for_freeing", case, "BAD_POOL_CALLER", "protected tag Test");
}

#[test]
fn wrong_tag_is_a_finding() {
    let case = || pool::free(block(10), Some(u32::from_le_bytes(*b"Else")), 0);
    expect_finding("wrong_tag_is_a_finding", case, "allocated with tag Test was freed with tag Else");
}

#[test]
fn write_to_a_freed_block_is_a_finding_when_it_is_used_again() {
    let case = || {
        let address = block(50);
        pool::free(address, Some(TAG), 0);
        write(address + 20);
        assert_eq!(block(50), address);
    };
    let name = "write_to_a_freed_block_is_a_finding_when_it_is_used_again";
    expect_finding(name, case, "after it had been freed: its bytes at offset 0x14");
}

#[test]
fn special_block_ends_where_nobody_may_read() {
    let case = || {
        pool::special::switch_on();
        for bytes in [1, 16, 100, 4096, 5000, 8192] {
            let address = block(bytes);
            assert_eq!(pool::find(address).map(|block| block.bytes), Some(bytes));
            assert_eq!(address % 16, 0);
            let end = if bytes < 4096 {
                address + bytes.next_multiple_of(16)
            } else {
                address + bytes.next_multiple_of(4096)
            };
            assert!(gate::memory::read_value::<u8>(end - 1).is_ok());
            assert!(gate::memory::read_value::<u8>(end).is_err(), "{bytes}");
            assert!(pool::special::explain(end).is_some_and(|said| said.contains("past its end")));
            pool::free(address, Some(TAG), 0);
            assert!(gate::memory::read_value::<u8>(address).is_err(), "freed memory is gone");
            assert!(pool::special::explain(address).is_some_and(|said| said.contains("which was freed")));
        }
        gate::finding("K-146", "the end", 0);
    };
    expect_finding("special_block_ends_where_nobody_may_read", case, "the end");
}

#[test]
fn special_block_freed_twice_is_a_bad_pool_caller() {
    let case = || {
        pool::special::switch_on();
        let address = block(40);
        pool::free(address, Some(TAG), 0);
        pool::free(address, Some(TAG), 0);
    };
    let name = "special_block_freed_twice_is_a_bad_pool_caller";
    expect_bugcheck(name, case, "BAD_POOL_CALLER", "(tag Test) was freed twice");
}

#[test]
fn write_between_a_special_blocks_end_and_its_page_is_found_when_it_is_freed() {
    let case = || {
        pool::special::switch_on();
        let address = block(41);
        write(address + 44);
        pool::free(address, Some(TAG), 0);
    };
    let name = "write_between_a_special_blocks_end_and_its_page_is_found_when_it_is_freed";
    expect_bugcheck(name, case, "SPECIAL_POOL_DETECTED_MEMORY_CORRUPTION", "wrote past its bounds");
}

#[proves::proves("K-147")]
#[test]
fn paged_pool_freed_at_dispatch_level_is_a_finding() {
    let case = || {
        let address = pool::allocate(10, TAG, Kind::Paged, 0).expect("memory");
        let _raised = nt_dispatcher::irql::Raised::to(nt_abi::Irql::DISPATCH);
        pool::free(address, Some(TAG), 0);
    };
    expect_finding("paged_pool_freed_at_dispatch_level_is_a_finding", case, "paged pool was freed at DISPATCH");
}

#[proves::proves("K-116")]
#[test]
fn locked_mdl_that_is_freed_is_a_finding() {
    let case = || {
        let buffer = block(100);
        let mdl = nt_executive::mdl::allocate(buffer, 100, 0).expect("memory");
        // SAFETY: an MDL of this test over a live block.
        unsafe {
            nt_executive::mdl::lock(mdl, nt_executive::mdl::Access::Read, 0).expect("readable");
            nt_executive::mdl::free(mdl, 0);
        }
    };
    expect_finding("locked_mdl_that_is_freed_is_a_finding", case, "freed while its pages were locked");
}

#[proves::proves("K-115")]
#[test]
fn locking_twice_and_unlocking_what_is_not_locked_are_findings() {
    let case = || {
        let buffer = block(100);
        let mdl = nt_executive::mdl::allocate(buffer, 100, 0).expect("memory");
        // SAFETY: an MDL of this test over a live block.
        unsafe {
            nt_executive::mdl::lock(mdl, nt_executive::mdl::Access::Read, 0).expect("readable");
            nt_executive::mdl::lock(mdl, nt_executive::mdl::Access::Read, 0).expect("readable");
            nt_executive::mdl::unlock(mdl, 0);
            nt_executive::mdl::unlock(mdl, 0);
        }
    };
    let name = "locking_twice_and_unlocking_what_is_not_locked_are_findings";
    expect_finding(name, case, "locked already");
    expect_finding(name, case, "whose pages are not locked");
}

#[proves::proves("K-150")]
#[test]
fn block_freed_with_a_timer_that_is_set_is_told_by_who_set_it() {
    let case = || {
        let timer = block(64);
        // SAFETY: a block large enough for a timer, 16-byte aligned.
        unsafe {
            let timer = timer as *mut nt_abi::dispatcher::Timer;
            nt_dispatcher::timer::initialize(timer, nt_abi::dispatcher::DispatcherType::NOTIFICATION_TIMER, 0);
            nt_dispatcher::timer::set(timer, -36_000_000_000, 0, std::ptr::null_mut(), 0);
        }
        pool::free(timer, Some(TAG), 0);
    };
    let name = "block_freed_with_a_timer_that_is_set_is_told_by_who_set_it";
    expect_bugcheck(name, case, "TIMER_OR_DPC_INVALID", "is still set");
}
