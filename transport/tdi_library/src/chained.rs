//! Chained receives that a client kept.
//!
//! The transports here show plain buffers and never keep a chained indication outstanding (C-504), so no descriptor
//! can have come from them.

gate::exports! {
    /// Chained receives.
    pub static TABLE in "tdi.sys";
    "TdiReturnChainedReceives" = tdi_return_chained_receives(descriptors: *const u64, count: u32), irql <= DISPATCH, rules "C-501 D-228";
    "TdiMatchPdoWithChainedReceiveContext" = tdi_match_pdo_with_chained_receive_context(descriptor: u64, pdo: u64) -> u8, irql <= DISPATCH, rules "D-228";
}

unsafe extern "win64" fn tdi_return_chained_receives(_descriptors: *const u64, count: u32) {
    if count > 0 {
        let message = "TdiReturnChainedReceives was called, but no chained receive was ever indicated";
        gate::finding("C-501", message, gate::caller());
    }
}

unsafe extern "win64" fn tdi_match_pdo_with_chained_receive_context(_descriptor: u64, _pdo: u64) -> u8 {
    0
}
