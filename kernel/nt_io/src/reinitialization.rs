//! Routines that a driver is called back by once it, and in NT the others that start with it, have started.
//!
//! Drivers of a run start one after another, as those that are loaded while a system runs do: so each is called back when
//! its own `DriverEntry` has succeeded, and boot drivers no later than others.

use std::sync::PoisonError;

use host_lock::{Mutex, MutexGuard};
use nt_abi::DriverObject;
use nt_abi::io::DriverExtension;

gate::exports! {
    /// What ntoskrnl exports of drivers' second beginnings.
    pub(crate) static TABLE in "ntoskrnl.exe";
    "IoRegisterDriverReinitialization" | "IoRegisterBootDriverReinitialization" = io_register_driver_reinitialization(driver: *mut DriverObject, routine: u64, context: u64), irql <= PASSIVE, rules "K-089";
}

struct Registration {
    driver: u64,
    routine: u64,
    context: u64,
}

static REGISTERED: Mutex<Vec<Registration>> = Mutex::new(Vec::new());

fn registered() -> MutexGuard<'static, Vec<Registration>> {
    REGISTERED.lock().unwrap_or_else(PoisonError::into_inner)
}

unsafe extern "win64" fn io_register_driver_reinitialization(driver: *mut DriverObject, routine: u64, context: u64) {
    registered().push(Registration { driver: driver as u64, routine, context });
}

fn take(driver: u64) -> Option<Registration> {
    let mut registered = registered();
    let place = registered.iter().position(|one| one.driver == driver)?;
    Some(registered.remove(place))
}

/// Calls a driver back that has started, in the order of its registrations; what it registers meanwhile is called, too.
/// Each routine is told how often this has happened to the driver.
///
/// # Safety
/// `driver` is a live driver object whose image is mapped.
///
/// IRQL: PASSIVE_LEVEL.
pub(crate) unsafe fn run(driver: *mut DriverObject) {
    while let Some(Registration { routine, context, .. }) = take(driver as u64) {
        // SAFETY: the caller's promise; the extension is ours, behind the object.
        unsafe {
            let extension = driver.add(1).cast::<DriverExtension>();
            (*extension).count += 1;
            gate::call::call3(routine, driver as u64, context, (*extension).count.into());
        }
    }
}

/// For a driver that did not start: nobody calls it back.
pub(crate) fn forget(driver: *mut DriverObject) {
    registered().retain(|one| one.driver != driver as u64);
}
