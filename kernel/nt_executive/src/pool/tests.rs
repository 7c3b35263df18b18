use std::collections::HashSet;

use arena::PAGE;
use proptest::prelude::*;
use proves::proves;

use super::*;
use crate::testing::kernel_thread;

const TAG: Tag = u32::from_le_bytes(*b"Test");

fn new(bytes: u64) -> u64 {
    kernel_thread();
    allocate(bytes, TAG, Kind::NonPaged, 0x77).expect("memory")
}

#[proves("K-146")]
#[test]
fn blocks_are_aligned_and_do_not_cross_a_page_that_they_fit_in() {
    let page = PAGE as u64;
    for bytes in (0..3 * page).step_by(7).chain([page - 1, page, page + 1, 1 << 20]) {
        let address = new(bytes);
        assert_eq!(address % 16, 0, "{bytes}");
        if bytes >= page {
            assert_eq!(address % page, 0, "{bytes}");
        } else {
            assert_eq!(address / page, (address + bytes.max(1) - 1) / page, "{bytes}");
        }
        free(address, Some(TAG), 0);
    }
}

#[test]
fn block_is_found_while_it_lives() {
    let address = new(100);
    let block = Block { address, bytes: 100, tag: TAG, kind: Kind::NonPaged, caller: 0x77 };
    assert_eq!(find(address), Some(block));
    assert_eq!(find(address + 16), None);
    assert_eq!(find_around(address + 50), Some(block));
    let mut live = Vec::new();
    for_each_live(|block| live.push(block.address));
    assert!(live.contains(&address));
    free(address, None, 0);
    assert_eq!(find(address), None);
}

#[test]
fn too_large_a_block_is_refused() {
    kernel_thread();
    assert_eq!(allocate(slab::BYTES_MAX + 1, TAG, Kind::NonPaged, 0), None);
    assert_eq!(allocate(u64::MAX, TAG, Kind::NonPaged, 0), None);
}

#[test]
fn freed_memory_is_used_again_and_live_memory_is_not() {
    let first = new(64);
    free(first, Some(TAG), 0);
    assert_eq!(new(60), first, "the last one freed is the warmest");
    assert_ne!(new(64), first);
}

#[test]
fn threads_never_get_the_same_block() {
    let take = || -> Vec<u64> { (0..5000).map(|round| new(round % 200)).collect() };
    let others: Vec<_> = (0..2).map(|_| std::thread::spawn(take)).collect();
    let mut seen: HashSet<u64> = take().into_iter().collect();
    for other in others {
        for address in other.join().expect("no panic") {
            assert!(seen.insert(address), "{address:#x} was given out twice");
        }
    }
}

#[test]
fn block_freed_by_another_thread_can_be_allocated_again() {
    let blocks: Vec<u64> = (0..500).map(|_| new(32)).collect();
    std::thread::spawn(move || {
        kernel_thread();
        blocks.into_iter().for_each(|block| free(block, Some(TAG), 0));
        for _ in 0..500 {
            new(32);
        }
    })
    .join()
    .expect("no panic");
}

proptest! {
    /// Whatever is allocated keeps what was written to it until it is freed.
    #[test]
    fn blocks_do_not_overlap(sizes in proptest::collection::vec(0u64..9000, 1..40)) {
        let blocks: Vec<(u64, u64)> = sizes.iter().map(|&bytes| (new(bytes), bytes)).collect();
        for (number, &(address, bytes)) in blocks.iter().enumerate() {
            // SAFETY: a live block of that size.
            unsafe { (address as *mut u8).write_bytes(number as u8, bytes as usize) };
        }
        for (number, &(address, bytes)) in blocks.iter().enumerate() {
            // SAFETY: as above.
            let same = (0..bytes).all(|place| unsafe { *((address + place) as *const u8) } == number as u8);
            prop_assert!(same);
            free(address, Some(TAG), 0);
        }
    }
}
