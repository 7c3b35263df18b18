//! Exceptions that services raise in the driver that called them.

use gate::memory::Fault;
use nt_abi::NtStatus;
use nt_abi::exception::BugCheck;

/// Raises `status` in the driver that called the import being served.
///
/// Call it last: callers hold nothing whose destructor matters.
#[cold]
pub fn status(status: NtStatus) {
    gate::bugcheck(BugCheck::KMODE_EXCEPTION_NOT_HANDLED, [status.0.into(), gate::caller(), 0, 0]);
}

/// Raises the access violation that a guarded access ran into.
#[cold]
pub fn access_violation(fault: Fault) {
    let parameters = [NtStatus::ACCESS_VIOLATION.0.into(), gate::caller(), 0, fault.address];
    let message = format_args!("The import was given a pointer to {:#x}, which cannot be accessed.", fault.address);
    gate::bugcheck::with_message(BugCheck::KMODE_EXCEPTION_NOT_HANDLED, parameters, gate::caller(), message);
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
