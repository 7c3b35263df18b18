//! What drivers left behind (K-102): each thing with the place where it was made.
//!
//! A driver that has no Unload routine stays loaded, so what it holds is its own business; only those that were
//! unloaded, or whose `DriverEntry` failed, are judged.

use std::collections::BTreeSet;

use nt_abi::{DeviceObject, FileObject};
use nt_dispatcher::event_object::EVENT;
use nt_dispatcher::{dpc, ex_timer, resource, thread, timer, work};
use nt_executive::lists::lookaside;
use nt_executive::mm::io_space;
use nt_executive::registry::callbacks;
use nt_executive::{bugcheck_callback, callback, mdl, notifications, pool, tracing};
use nt_io::device::{self, DEVICE};
use nt_io::file::FILE;
use nt_io::{device_timer, driver, irp, shutdown, work_item};
use tdi_transport::{Leftover, Transport};

use super::drivers::Loaded;

/// Whatever could lead into an image that is gone.
const RULE: &str = "K-102";
/// A file object that never gets its IRP_MJ_CLOSE. Another rule than its handle's, because both are blamed on the
/// same instruction and a rule is reported once for each.
const NEVER_CLOSED: &str = "C-134";

/// Reports everything that the drivers which are gone left behind, as findings, and retires their images.
pub fn report(drivers: &[Loaded], transport: &Transport) {
    let report = Report { drivers };
    report.threads();
    report.handles();
    report.files();
    report.references();
    report.packets();
    report.memory();
    report.devices();
    report.links();
    report.registrations();
    report.calls();
    held_by_the_transport(transport);
    drivers.iter().filter(|driver| driver.is_gone()).for_each(Loaded::retire);
}

/// Reports what would call into a driver that is gone just now. Later some of it has happened and cannot be seen any
/// more: its image is still there, but on Windows it is not.
///
/// Its timers and DPCs are taken back then: one call into memory that is gone would hide everything that follows.
pub fn report_calls(driver: &Loaded, transport: &Transport) {
    let report = Report { drivers: std::slice::from_ref(driver) };
    report.calls();
    report.calls_for_others(transport);
    timer::for_each_pending(|pending| {
        if !report.is_fault_of_a_driver(report.blamed(&pending)) {
            return;
        }
        if pending.is_timer {
            timer::cancel(pending.address);
        } else {
            dpc::remove(pending.address);
        }
    });
    ex_timer::for_each_live(|timer, caller| {
        if report.is_fault_of_a_driver(caller) {
            ex_timer::cancel(timer, caller);
        }
    });
    // A key that another driver opens would call it.
    callbacks::for_each_registered(|cookie, _, caller| {
        if report.is_fault_of_a_driver(caller) {
            callbacks::unregister(cookie);
        }
    });
}

/// Reports work items of a driver that is gone whose routines still run.
pub fn report_running_items(driver: &Loaded) {
    let report = Report { drivers: std::slice::from_ref(driver) };
    work::for_each_running_item(|item, caller| {
        report.left(caller, || format!("the routine of a work item ({item:#x}) still runs; it was queued here"));
    });
}

struct Report<'a> {
    drivers: &'a [Loaded],
}

impl Report<'_> {
    /// Whether the driver instruction at `caller` belongs to a driver that should have cleaned up.
    fn is_fault_of_a_driver(&self, caller: u64) -> bool {
        self.drivers.iter().any(|driver| driver.is_gone() && driver.contains(caller))
    }

    fn left(&self, caller: u64, what: impl FnOnce() -> String) {
        self.broke(RULE, caller, what);
    }

    fn broke(&self, rule: &str, caller: u64, what: impl FnOnce() -> String) {
        if self.is_fault_of_a_driver(caller) {
            gate::finding(rule, what(), caller);
        }
    }

    fn threads(&self) {
        thread::for_each_running(|thread, caller| {
            self.left(caller, || format!("a system thread ({thread:#x}) still runs; it was created here"));
        });
    }

    fn handles(&self) {
        nt_object::for_each_open(|entry| {
            self.left(entry.caller, || {
                let kind = nt_object::type_of(entry.body).map_or("object", |kind| kind.name);
                let name = describe(entry.body);
                format!("a handle ({:#x}) to a {kind} object{name} was not closed; it was opened here", entry.handle.0)
            });
        });
    }

    /// File objects without a handle that references keep.
    fn files(&self) {
        nt_object::for_each_live(&FILE, |body| {
            if nt_object::handle_count(body) != Some(0) {
                return;
            }
            self.broke(NEVER_CLOSED, nt_object::allocating_caller(body), || {
                let count = nt_object::pointer_count(body).unwrap_or(0);
                let name = describe(body);
                let noun = if count == 1 { "reference" } else { "references" };
                format!(
                    "a File object{name} ({body:#x}) was not dereferenced: {count} {noun} left after its last handle \
                     was closed, so no IRP_MJ_CLOSE was sent; it was opened here"
                )
            });
        });
    }

    /// Objects whose handles are closed, or which are deleted or have ended, and that references keep.
    fn references(&self) {
        let left = |body: u64, caller: u64, done: &str| {
            self.left(caller, || {
                let kind = nt_object::type_of(body).map_or("object", |kind| kind.name);
                let count = nt_object::pointer_count(body).unwrap_or(0);
                let noun = if count == 1 { "reference" } else { "references" };
                format!(
                    "{kind} object {body:#x} was not dereferenced: {count} {noun} left after {done}; it was created here"
                )
            });
        };
        nt_object::for_each_live(&EVENT, |body| {
            if nt_object::handle_count(body) == Some(0) {
                left(body, nt_object::allocating_caller(body), "its last handle was closed");
            }
        });
        thread::for_each_ended(|body, caller| left(body, caller, "it had ended and its last handle was closed"));
        let mut not_deleted = BTreeSet::new();
        for driver in self.drivers {
            let mut note = |device| {
                not_deleted.insert(device as u64);
            };
            // SAFETY: driver objects of this run live to its end.
            unsafe { driver::for_each_device(driver.object(), &mut note) };
        }
        nt_object::for_each_live(&DEVICE, |body| {
            // Files keep their devices; they are reported themselves.
            // SAFETY: a live device: nothing of the drivers runs any more that could delete it.
            let is_used = unsafe { device::open_count(body as *mut DeviceObject) } > 0;
            if !is_used && !not_deleted.contains(&body) {
                left(body, nt_object::allocating_caller(body), "it was deleted");
            }
        });
    }

    fn packets(&self) {
        irp::for_each_live(|irp, caller| {
            self.left(caller, || format!("an IRP ({irp:#x}) was not freed or completed; it was allocated here"));
        });
        work_item::for_each_live(|item, caller| {
            self.left(caller, || format!("a work item ({item:#x}) was not freed; it was allocated here"));
        });
    }

    fn memory(&self) {
        pool::for_each_live(|block| {
            self.left(block.caller, || {
                let tag = String::from_utf8_lossy(&block.tag.to_le_bytes()).into_owned();
                let printable: String =
                    tag.chars().map(|letter| if letter.is_ascii_graphic() { letter } else { '.' }).collect();
                format!(
                    "{} bytes of pool with tag '{printable}' ({:#x}) were not freed; they were allocated here",
                    block.bytes, block.address
                )
            });
        });
        mdl::for_each_live(|mdl, caller| {
            self.left(caller, || format!("an MDL ({mdl:#x}) was not freed; it was allocated here"));
        });
    }

    fn devices(&self) {
        for gone in self.drivers.iter().filter(|driver| driver.is_gone()) {
            // SAFETY: driver objects of this run live to its end.
            unsafe {
                driver::for_each_device(gone.object(), |device| {
                    let caller = nt_object::allocating_caller(device as u64);
                    self.left(caller, || {
                        let name = describe(device as u64);
                        format!("a Device object{name} ({:#x}) was not deleted; it was created here", device as u64)
                    });
                });
            }
        }
    }

    fn registrations(&self) {
        notifications::for_each_registered(|registration| {
            self.left(registration.caller, || {
                let (what, routine) = (registration.subject, registration.routine);
                format!("a notify routine for {what:?} events ({routine:#x}) was not removed; it was registered here")
            });
        });
        bugcheck_callback::for_each_registered(|routine, caller| {
            self.left(caller, || {
                format!("a bugcheck callback ({routine:#x}) was not deregistered; it was registered here")
            });
        });
        io_space::for_each_mapping(|mapping| {
            self.left(mapping.caller, || {
                format!(
                    "{:#x} bytes of physical memory ({:#x}) were not unmapped; they were mapped here",
                    mapping.bytes, mapping.address
                )
            });
        });
        callback::for_each_registered(|routine, caller| {
            self.left(caller, || {
                format!("a routine of a callback object ({routine:#x}) was not unregistered; it was registered here")
            });
        });
        tracing::for_each_registered(|provider| {
            self.left(provider.caller, || {
                format!("the trace provider {} was not unregistered; it was registered here", provider.id)
            });
        });
        shutdown::for_each_registered(|device, caller| {
            self.left(caller, || {
                let name = describe(device as u64);
                format!(
                    "a Device object{name} ({:#x}) is still registered for the shutdown; it was registered here",
                    device as u64
                )
            });
        });
        lookaside::for_each_live(|list, caller| {
            self.left(caller, || format!("a lookaside list ({list:#x}) was not deleted; it was initialised here"));
        });
        resource::for_each_live(|resource, caller| {
            self.left(caller, || format!("a resource ({resource:#x}) was not deleted; it was initialised here"));
        });
        // Stopped when its driver went, but still there.
        ex_timer::for_each_live(|timer, caller| {
            self.left(caller, || format!("a timer object ({timer:#x}) is not deleted yet; it was allocated here"));
        });
    }

    /// What would still call a driver, sooner or later.
    fn calls(&self) {
        timer::for_each_pending(|pending| {
            let (kind, done) = if pending.is_timer { ("timer", "set") } else { ("DPC", "queued") };
            self.left(self.blamed(&pending), || {
                let device = device_timer::device_of(pending.address).filter(|_| pending.is_timer);
                let of = device.map_or_else(String::new, |device| {
                    format!(" of the Device object{} ({device:p})", describe(device as u64))
                });
                format!("a {kind}{of} ({:#x}) is still {done}; it was {done} here", pending.address)
            });
        });
        callbacks::for_each_registered(|_, routine, caller| {
            self.left(caller, || {
                format!("a registry callback ({routine:#x}) was not unregistered; it was registered here")
            });
        });
        work::for_each_item(|item, caller| {
            self.left(caller, || format!("a work item ({item:#x}) is still queued; it was queued here"));
        });
    }

    /// What a filter has put into the requests and the files of others (D-291). What is of its own is reported as such.
    fn calls_for_others(&self, transport: &Transport) {
        let is_own = |caller: u64| self.drivers.iter().any(|driver| driver.contains(caller));
        irp::for_each_completion_routine(|irp, caller, routine| {
            if !is_own(caller) {
                self.leads_here(routine, || {
                    format!(
                        "this completion routine is still to be called for a pending IRP ({irp:#x}) of another driver"
                    )
                });
            }
        });
        transport.for_each_handler(|file, routine| {
            if !is_own(nt_object::allocating_caller(file)) {
                self.leads_here(routine, || {
                    format!("this event handler is still registered with another driver's File object ({file:#x})")
                });
            }
        });
    }

    fn leads_here(&self, routine: u64, what: impl FnOnce() -> String) {
        // Places are read as return addresses, which lie behind a call.
        self.left(routine.wrapping_add(1), what);
    }

    /// Where a timer or DPC comes from. A driver that set it by a jump at a function's end left no trace there; its routine
    /// is its own.
    fn blamed(&self, pending: &timer::Pending) -> u64 {
        if self.is_fault_of_a_driver(pending.caller) { pending.caller } else { pending.routine }
    }

    fn links(&self) {
        nt_object::for_each_link(|name, caller| {
            self.left(caller, || {
                format!("the symbolic link {} was not deleted; it was created here", String::from_utf16_lossy(name))
            });
        });
    }
}

/// The name of a file's device, or of a device, for messages; empty if there is none.
fn describe(body: u64) -> String {
    let Some(kind) = nt_object::type_of(body) else { return String::new() };
    let device = if std::ptr::eq(kind, &FILE) {
        // SAFETY: a live file object; its device pointer is only used as a key.
        unsafe { (*(body as *const FileObject)).device_object }
    } else if std::ptr::eq(kind, &DEVICE) {
        body as *mut DeviceObject
    } else {
        std::ptr::null_mut()
    };
    device::name(device).map_or(String::new(), |name| format!(" of {}", String::from_utf16_lossy(&name)))
}

/// Requests that the transport still holds although every file is closed, a fault of ours, and received data that a
/// driver has kept for ever.
fn held_by_the_transport(transport: &Transport) {
    transport.for_each_leftover(|leftover| match leftover {
        Leftover::Request { irp, file: 0 } => {
            let text = format!("the transport holds a request ({irp:#x}) of a file that is gone; please report this");
            gate::record_with_text(trace::Event::HostNote {}, &text);
        }
        Leftover::Chain { handler, .. } => {
            let message = "this chained receive handler kept received data (STATUS_PENDING) that was never given back \
                           with TdiReturnChainedReceives";
            gate::finding("C-500", message, handler);
        }
        _ => {}
    });
}
