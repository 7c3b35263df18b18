//! Run-down protection and lists that NT keeps once for each processor, and answers about processor, pool and clock.
//!
//! Whether a reference is one word or many no driver can tell: the routines for one are those for the other here, and
//! only making it differs.

use gate::memory::put;
use nt_dispatcher::{clock, rundown};

use crate::pool::{self, Kind, Tag};

gate::exports! {
    /// What ntoskrnl exports of these.
    pub static TABLE in "ntoskrnl.exe";
    "ExAllocateCacheAwareRundownProtection" = ex_allocate_cache_aware_rundown_protection(pool: u32, tag: Tag) -> u64, irql <= APC, rules "K-142";
    "ExFreeCacheAwareRundownProtection" = ex_free_cache_aware_rundown_protection(reference: u64), irql <= APC, rules "K-142";
    "ExSizeOfRundownProtectionCacheAware" = ex_size_of_rundown_protection_cache_aware() -> u64, rules "K-142";
    "ExInitializeRundownProtectionCacheAware" = ex_initialize_rundown_protection_cache_aware(reference: *mut u64, bytes: u64), rules "K-142";
    "ExIsProcessorFeaturePresent" = ex_is_processor_feature_present(feature: u32) -> u8, rules "K-200";
    "ExQueryPoolBlockSize" = ex_query_pool_block_size(block: u64, quota: *mut u8) -> u64, irql <= DISPATCH, rules "K-107";
    "ExSetTimerResolution" = ex_set_timer_resolution(desired: u32, set: u8) -> u32, irql <= APC, rules "K-135";
    "ExQueryTimerResolution" = ex_query_timer_resolution(longest: *mut u32, shortest: *mut u32, current: *mut u32), irql <= APC, rules "K-135";
    "ExVerifySuite" = ex_verify_suite(suite: u32) -> u8, rules "K-207";
}

/// Bytes of a reference.
const BYTES: u64 = 8;

unsafe extern "win64" fn ex_allocate_cache_aware_rundown_protection(_pool: u32, tag: Tag) -> u64 {
    let Some(reference) = pool::allocate(BYTES, tag, Kind::NonPaged, gate::caller()) else { return 0 };
    // SAFETY: a new block of this size.
    unsafe { rundown::initialize(reference as *mut u64) };
    reference
}

unsafe extern "win64" fn ex_free_cache_aware_rundown_protection(reference: u64) {
    pool::free(reference, None, gate::caller());
}

unsafe extern "win64" fn ex_size_of_rundown_protection_cache_aware() -> u64 {
    BYTES
}

unsafe extern "win64" fn ex_initialize_rundown_protection_cache_aware(reference: *mut u64, _bytes: u64) {
    // SAFETY: the driver's reference; a bad pointer faults and is blamed on it.
    unsafe { rundown::initialize(reference) }
}

/// As the page that drivers share with the kernel says.
unsafe extern "win64" fn ex_is_processor_feature_present(feature: u32) -> u8 {
    gate::shared_page::is_processor_feature_present(feature).into()
}

/// 0 for what is no block. Quotas are charged to nobody.
unsafe extern "win64" fn ex_query_pool_block_size(block: u64, quota: *mut u8) -> u64 {
    // SAFETY: the driver's result; a bad pointer faults and is blamed on it.
    unsafe { quota.write(0) };
    pool::find(block).map_or(0, |block| block.bytes)
}

/// Time is as fine as the host's; what is told of it stays.
unsafe extern "win64" fn ex_set_timer_resolution(_desired: u32, _set: u8) -> u32 {
    clock::TICK_100NS as u32
}

unsafe extern "win64" fn ex_query_timer_resolution(longest: *mut u32, shortest: *mut u32, current: *mut u32) {
    // SAFETY: the driver's results; a bad pointer faults and is blamed on it.
    unsafe { [longest, shortest, current].into_iter().for_each(|result| put(result, clock::TICK_100NS as u32)) };
}

/// A workstation, of no suite.
unsafe extern "win64" fn ex_verify_suite(_suite: u32) -> u8 {
    0
}

#[cfg(test)]
mod tests {
    use crate::testing::service;

    #[test]
    fn reference_for_each_processor_is_a_reference() {
        let reference = service("ExAllocateCacheAwareRundownProtection").call_word(&[0, 0x7473_6574]);
        assert_eq!(service("ExAcquireRundownProtectionCacheAware").call_word(&[reference]) as u8, 1);
        service("ExReleaseRundownProtectionCacheAware").call_word(&[reference]);
        service("ExWaitForRundownProtectionReleaseCacheAware").call_word(&[reference]);
        assert_eq!(service("ExAcquireRundownProtectionCacheAware").call_word(&[reference]) as u8, 0);
        service("ExFreeCacheAwareRundownProtection").call_word(&[reference]);
    }

    #[test]
    fn features_of_every_processor_are_present_and_stand_in_the_shared_page() {
        let present = |feature: u64| service("ExIsProcessorFeaturePresent").call_word(&[feature]) as u8;
        assert_eq!((present(10), present(1), present(0xFFFF)), (1, 0, 0));
        for feature in 0..64 {
            // SAFETY: the shadow page, which is never unmapped.
            let told = unsafe { ((gate::shared_page::shadow() + 0x274 + feature) as *const u8).read_volatile() };
            assert_eq!(present(feature), told, "{feature}");
        }
        assert_eq!(present(64), 0);
    }
}
