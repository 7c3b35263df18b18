//! Devices that want to be told when the system shuts down.
//!
//! They get IRP_MJ_SHUTDOWN at the end of a run, the last registered first and those of the last chance after all
//! others. When that is: a run ends as if somebody stopped the services and then shut the machine down, so the
//! drivers that can be unloaded are, and the request goes to those that stay. NT never sends it to a driver and
//! unloads the driver afterwards, and drivers that undo the same things in both places would do it twice.
//!
//! Invariant: a registration holds a reference to its device; deleting the device ends the registration.

use std::sync::PoisonError;

use host_lock::{Mutex, MutexGuard};
use nt_abi::dispatcher::DispatcherType;
use nt_abi::io::device_flags;
use nt_abi::{DeviceObject, DriverObject, IoStatusBlock, KernelEvent, MajorFunction, NtStatus};
use nt_dispatcher::{event, wait};

use crate::build::{self, Reply, Transfer};
use crate::device;
use crate::irp::{self, Owner};

gate::exports! {
    /// What ntoskrnl exports of shutting down.
    pub(crate) static TABLE in "ntoskrnl.exe";
    "IoRegisterShutdownNotification" = io_register_shutdown_notification(device: *mut DeviceObject) -> NtStatus, irql <= PASSIVE, rules "K-085";
    "IoRegisterLastChanceShutdownNotification" = io_register_last_chance_shutdown_notification(device: *mut DeviceObject) -> NtStatus, irql <= PASSIVE, rules "K-085";
    "IoUnregisterShutdownNotification" = io_unregister_shutdown_notification(device: *mut DeviceObject), irql <= PASSIVE, rules "K-085";
}

/// When a device is told. Ordered as the system goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Round {
    First,
    /// After the file systems, of which there are none here.
    LastChance,
}

/// A device that wants to be told.
#[derive(Clone, Copy, Debug)]
struct Registration {
    /// A device, referenced.
    device: u64,
    round: Round,
    /// The driver instruction that registered it.
    caller: u64,
}

static REGISTERED: Mutex<Vec<Registration>> = Mutex::new(Vec::new());

fn registered() -> MutexGuard<'static, Vec<Registration>> {
    REGISTERED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// # Safety
/// `device` is a live device.
unsafe fn register(device: *mut DeviceObject, round: Round) -> NtStatus {
    nt_object::reference(device as u64);
    // SAFETY: the caller's promise.
    unsafe { (*device).flags |= device_flags::SHUTDOWN_REGISTERED };
    registered().push(Registration { device: device as u64, round, caller: gate::caller() });
    NtStatus::SUCCESS
}

/// Ends all registrations of a device.
///
/// # Safety
/// `device` is a live device.
pub(crate) unsafe fn unregister(device: *mut DeviceObject) {
    let mut all = registered();
    let before = all.len();
    all.retain(|registration| registration.device != device as u64);
    let ended = before - all.len();
    // Not under the lock: the last reference can take the device with it.
    drop(all);
    // SAFETY: the caller's promise; it holds a reference of its own.
    unsafe { (*device).flags &= !device_flags::SHUTDOWN_REGISTERED };
    for _ in 0..ended {
        nt_object::dereference(device as u64);
    }
}

/// Visits the registered devices, each with the driver instruction that registered it.
pub fn for_each_registered(mut visit: impl FnMut(*mut DeviceObject, u64)) {
    // A copy: the visitor may look at anything.
    let all = registered().clone();
    all.into_iter().for_each(|registration| visit(registration.device as *mut DeviceObject, registration.caller));
}

/// Sends IRP_MJ_SHUTDOWN to the registered devices whose driver `is_loaded`, one after the other, to the top of each
/// stack. Their registrations are over then.
///
/// IRQL: PASSIVE_LEVEL.
pub fn notify(is_loaded: impl Fn(*mut DriverObject) -> bool) {
    for round in [Round::First, Round::LastChance] {
        // One at a time: a driver may register and unregister devices while it is told.
        loop {
            let mut all = registered();
            // SAFETY: a registration's device is referenced.
            let wanted = |one: &Registration| unsafe {
                one.round == round && is_loaded((*(one.device as *mut DeviceObject)).driver_object)
            };
            let Some(place) = all.iter().rposition(wanted) else { break };
            let device = all.remove(place).device;
            drop(all);
            // SAFETY: as above; the reference goes after the request.
            unsafe { send(device as *mut DeviceObject) };
            nt_object::dereference(device);
        }
    }
}

/// # Safety
/// `device` is a live device.
unsafe fn send(device: *mut DeviceObject) {
    // SAFETY: the caller's promise; the event and the block outlive the request.
    unsafe {
        let mut done: KernelEvent = std::mem::zeroed();
        event::initialize(&mut done, DispatcherType::NOTIFICATION_EVENT, false);
        let mut iosb = IoStatusBlock::new(NtStatus::PENDING, 0);
        let request = Transfer { major: MajorFunction::SHUTDOWN, buffer: (0, 0), offset: 0, key: 0 };
        let top = device::top_of_stack(device);
        // Without memory for a packet NT tells nobody either.
        let Ok(irp) = build::transfer(top, request, Reply { event: &mut done, iosb: &mut iosb }, Owner::Thread, 0)
        else {
            return;
        };
        if irp::call_driver(top, irp) == NtStatus::PENDING {
            wait::wait_single(&raw mut done as u64, None);
        }
    }
}

unsafe extern "win64" fn io_register_shutdown_notification(device: *mut DeviceObject) -> NtStatus {
    // SAFETY: what drivers pass is theirs to answer for; a bad pointer faults and is blamed on them. The same
    // holds for every function of this module.
    unsafe { register(device, Round::First) }
}

unsafe extern "win64" fn io_register_last_chance_shutdown_notification(device: *mut DeviceObject) -> NtStatus {
    // SAFETY: see `io_register_shutdown_notification`.
    unsafe { register(device, Round::LastChance) }
}

unsafe extern "win64" fn io_unregister_shutdown_notification(device: *mut DeviceObject) {
    // SAFETY: see `io_register_shutdown_notification`.
    unsafe { unregister(device) }
}
