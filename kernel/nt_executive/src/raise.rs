//! Exceptions that services raise in the driver that called them.

use gate::memory::Fault;
use nt_abi::NtStatus;

/// Raises `status` in the driver that called the import being served.
///
/// It happens when the import returns, whatever it returns.
#[cold]
pub fn status(status: NtStatus) {
    gate::seh::raise(status);
}

/// Raises the access violation that a guarded access ran into, or ends the run where that is fatal.
#[cold]
pub fn access_violation(fault: Fault) {
    gate::seh::raise_fault(fault);
}

/// Why a service did not do what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It says so.
    Status(NtStatus),
    /// The driver's pointers lead nowhere.
    Fault(Fault),
}

impl From<NtStatus> for Failure {
    fn from(status: NtStatus) -> Self {
        Self::Status(status)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// The status that a service returns; a fault is raised.
pub fn finish(outcome: Result<NtStatus, Failure>) -> NtStatus {
    match outcome {
        Ok(status) | Err(Failure::Status(status)) => status,
        Err(Failure::Fault(fault)) => {
            access_violation(fault);
            NtStatus::ACCESS_VIOLATION
        }
    }
}
