use proves::proves;

use super::*;
use crate::testing::kernel_thread;

const PAGE_BYTES: u64 = PAGE as u64;

fn new(address: u64, bytes: u32) -> *mut Mdl {
    kernel_thread();
    allocate(address, bytes, 0).expect("memory")
}

fn flags(mdl: *mut Mdl) -> u16 {
    // SAFETY: the tests' MDLs are live.
    unsafe { (*mdl).flags }
}

#[proves("K-105")]
#[test]
fn size_counts_the_pages_a_buffer_touches_and_too_long_a_buffer_is_refused() {
    assert_eq!(size(0x1000, 0), 0x30);
    assert_eq!(size(0x1000, 4096), 0x38);
    assert_eq!(size(0x1FFF, 2), 0x40);
    kernel_thread();
    assert!(allocate(0x1000, u32::MAX, 0).is_none());
}

#[proves("K-107")]
#[test]
fn nonpaged_pool_is_described_where_it_lies_and_not_locked() {
    let buffer = pool_block(10_000);
    let mdl = new(buffer + 100, 9000);
    // SAFETY: live, over a live buffer.
    unsafe {
        build_for_nonpaged_pool(mdl, 0);
        assert_eq!((*mdl).mapped_system_va, buffer + 100);
        let array = mdl.add(1).cast::<u64>();
        assert_eq!([*array, *array.add(1), *array.add(2)], [0, 1, 2].map(|page| buffer / PAGE_BYTES + page));
        free(mdl, 0);
    }
    pool::free(buffer, None, 0);
}

fn pool_block(bytes: u64) -> u64 {
    kernel_thread();
    pool::allocate(bytes, TAG, Kind::NonPaged, 0).expect("memory")
}

#[proves("K-108", "K-109", "K-110")]
#[test]
fn lock_map_unlock_change_their_flags() {
    let buffer = pool_block(5000);
    let mdl = new(buffer, 5000);
    // SAFETY: live, over a live buffer.
    unsafe {
        lock(mdl, Access::Write, 0).expect("a writable buffer");
        assert_ne!(flags(mdl) & mdl_flags::PAGES_LOCKED, 0);
        assert_eq!(map(mdl, 0), buffer);
        assert_ne!(flags(mdl) & mdl_flags::MAPPED_TO_SYSTEM_VA, 0);
        unmap(mdl);
        assert_eq!(flags(mdl) & mdl_flags::MAPPED_TO_SYSTEM_VA, 0);
        assert_eq!(map(mdl, 0), buffer);
        unlock(mdl, 0);
        assert_eq!(flags(mdl) & (mdl_flags::PAGES_LOCKED | mdl_flags::MAPPED_TO_SYSTEM_VA), 0);
        free(mdl, 0);
    }
    pool::free(buffer, None, 0);
}

#[proves("K-108")]
#[test]
fn buffer_that_cannot_be_written_is_not_locked() {
    gate::fault::install().expect("handlers");
    static READ_ONLY: [u8; 64] = [1; 64];
    let mdl = new(READ_ONLY.as_ptr() as u64, 64);
    // SAFETY: live; the buffer is a constant of this test.
    unsafe {
        assert!(lock(mdl, Access::Write, 0).is_err());
        assert_eq!(flags(mdl) & mdl_flags::PAGES_LOCKED, 0);
        assert!(lock(mdl, Access::Read, 0).is_ok());
        unlock(mdl, 0);
        free(mdl, 0);
    }
}

#[proves("K-112")]
#[test]
fn partial_mdl_shares_the_mapping_of_its_source() {
    let buffer = pool_block(9000);
    let (source, target) = (new(buffer, 9000), new(buffer, 9000));
    // SAFETY: live, over a live buffer.
    unsafe {
        build_for_nonpaged_pool(source, 0);
        build_partial(source, target, buffer + 5000, 1000, 0);
        assert_eq!(virtual_address(target), buffer + 5000);
        assert_eq!((*target).byte_count, 1000);
        assert_eq!((*target).mapped_system_va, buffer + 5000);
        assert_ne!(flags(target) & mdl_flags::PARTIAL, 0);
        assert_ne!(flags(target) & mdl_flags::SOURCE_IS_NONPAGED_POOL, 0);
        build_partial(source, target, buffer + 5000, 0, 0);
        assert_eq!((*target).byte_count, 4000, "0 means the rest");
        free(source, 0);
        free(target, 0);
    }
    pool::free(buffer, None, 0);
}

#[proves("K-064")]
#[test]
fn chain_on_a_finished_request_is_unlocked_and_freed() {
    let buffer = pool_block(200);
    kernel_thread();
    let irp = nt_io::irp::allocate(1, nt_io::irp::Owner::Manager, 0).expect("a packet");
    let (first, second) = (new(buffer, 100), new(buffer + 100, 100));
    // SAFETY: live, over a live buffer.
    unsafe {
        lock(first, Access::Read, 0).expect("readable");
        (*first).next = second;
        (*irp).mdl_address = first;
        release_chain(irp);
        assert!((*irp).mdl_address.is_null());
    }
    assert_eq!(pool::find(first as u64), None);
    assert_eq!(pool::find(second as u64), None);
    nt_io::irp::free(irp);
    pool::free(buffer, None, 0);
}
