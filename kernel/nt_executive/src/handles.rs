//! Handles on their way to a driver.

use gate::memory;
use nt_abi::{Handle, NtStatus};

use crate::raise::Failure;

/// Writes a new handle where the driver wants it; it is closed again if that is nowhere.
///
/// # Errors
/// The fault of the driver's pointer.
pub fn store(into: u64, handle: Handle) -> Result<NtStatus, Failure> {
    if let Err(fault) = memory::write_value(into, handle) {
        // Nobody would ever learn of the handle.
        let _ = nt_object::close(handle);
        return Err(fault.into());
    }
    Ok(NtStatus::SUCCESS)
}
