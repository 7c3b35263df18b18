//! IRPs that event handlers return: the one way in for requests that were not sent (C-217 to C-222, D-011).
//!
//! Such an IRP never passed a dispatch routine. Its client has put the request into the *current* location with
//! IoSetNextIrpStackLocation (C-218), and filters may have changed completion routine and control of that
//! location since (D-283), so nothing of it is remembered but the IRP itself. What is no IRP at all cannot even
//! be completed; it is reported and left alone.

use std::fmt::Display;

use gate::memory;
use nt_abi::io::MAJOR_FUNCTIONS;
use nt_abi::tdi::TdiRequest;
use nt_abi::{FileObject, IoStackLocation, Irp, MajorFunction, NtStatus};
use trace::Event;

use crate::transport::Transport;

/// An IRP that a handler returned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Adopted {
    pub(crate) irp: *mut Irp,
    /// A copy of its current location.
    pub(crate) location: IoStackLocation,
}

impl Adopted {
    /// The file object that the request names (C-219).
    pub(crate) fn file(&self) -> *mut FileObject {
        self.location.file_object
    }
}

impl Transport {
    /// Takes over an IRP that the handler at `handler` returned. `None`, after a finding, if it is none that could
    /// ever be completed, or if the transport has it already.
    pub(crate) fn adopt(&self, irp: u64, handler: u64) -> Option<Adopted> {
        match self.judge(irp) {
            Ok(location) => {
                let irp = irp as *mut Irp;
                gate::record(Event::IrpDispatched {
                    irp: irp as u64,
                    device: location.device_object as u64,
                    file: location.file_object as u64,
                    functions: u32::from(location.major_function.0) << 8 | u32::from(location.minor_function),
                    detail: location.parameters[0] & 0xFFFF_FFFF,
                    routine: 0,
                });
                gate::record(Event::IrpReturned { irp: irp as u64, status: NtStatus::PENDING.0 });
                Some(Adopted { irp, location })
            }
            Err(fault) => {
                blame(handler, "C-218", format_args!("an event handler returned the IRP {irp:#x}, {fault}"));
                None
            }
        }
    }

    fn judge(&self, address: u64) -> Result<IoStackLocation, &'static str> {
        const NOT_READABLE: &str = "where no memory is";
        let irp: Irp = memory::read_value(address).map_err(|_| NOT_READABLE)?;
        let first = address + size_of::<Irp>() as u64;
        if irp.kind != Irp::TYPE || irp.stack_count < 1 {
            return Err("which is no IRP");
        }
        if !(1..=irp.stack_count).contains(&irp.current_location) {
            return Err("without having called IoSetNextIrpStackLocation: it has no current location");
        }
        let current = first + (irp.current_location as u64 - 1) * size_of::<IoStackLocation>() as u64;
        if irp.current_stack_location as u64 != current {
            return Err("whose current location does not lie in it");
        }
        let location: IoStackLocation = memory::read_value(current).map_err(|_| NOT_READABLE)?;
        if usize::from(location.major_function.0) >= MAJOR_FUNCTIONS {
            return Err("whose current location holds no request");
        }
        // SAFETY: just read.
        if unsafe { self.requests.holds(address as *mut Irp) } {
            return Err("which is pending already");
        }
        Ok(location)
    }
}

/// Whether a location holds this TDI request.
pub(crate) fn is_request(location: &IoStackLocation, minor: TdiRequest) -> bool {
    location.major_function == MajorFunction::INTERNAL_DEVICE_CONTROL && location.minor_function == minor.0
}

/// Reports that the handler at `routine` broke a rule.
pub(crate) fn blame(routine: u64, rule: &str, what: impl Display) {
    // Places of findings are read as return addresses: the function is looked up one byte before.
    gate::finding(rule, what, routine.wrapping_add(1));
}

/// Reports a handler that returned another request than the one its event is answered with (C-222).
pub(crate) fn blame_request(routine: u64, location: &IoStackLocation, wanted: &str) {
    let IoStackLocation { major_function, minor_function, .. } = location;
    blame(
        routine,
        "C-222",
        format_args!(
            "an event handler returned an IRP with function {:#x}, minor {minor_function:#x}, where a {wanted} is \
             wanted; it was completed with an error",
            major_function.0
        ),
    );
}
