//! Which driver a thread runs, as far as the events tell: so that a finding can name whom it is about.

use std::collections::HashMap;

use trace::{Event, Record};

/// Deepest nesting of driver code that is followed on a thread.
const DEPTH_MAX: usize = 256;
/// Most images, drivers, devices and threads that are remembered of each kind.
const KNOWN_MAX: usize = 1 << 16;

/// What is known of drivers.
#[derive(Debug, Default)]
pub struct Drivers {
    images: Vec<Image>,
    /// Names by driver object.
    names: HashMap<u64, String>,
    /// Driver objects by device.
    devices: HashMap<u64, u64>,
    threads: HashMap<u16, Thread>,
}

#[derive(Debug)]
struct Image {
    base: u64,
    size: u64,
    name: String,
}

/// The driver code a thread is in.
#[derive(Debug, Default)]
struct Thread {
    /// Where a driver's own thread began.
    start: u64,
    calls: Vec<Call>,
}

#[derive(Debug)]
struct Call {
    what: What,
    /// The driver object; `None` for host code and for what nobody told of.
    driver: Option<u64>,
    /// Where the routine begins, 0 if nobody told.
    routine: u64,
}

/// Whom a finding is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Culprit {
    /// The driver's file name; empty if unknown.
    pub driver: String,
    /// Offset of the routine in its image, if that is known.
    pub offset: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// DriverEntry or Unload of this driver object.
    Start(u64),
    /// A dispatch routine for this IRP.
    Dispatch(u64),
    /// An event handler of this endpoint.
    Handler(u64),
}

impl Drivers {
    /// Learns from an event, after it has been judged.
    pub fn observe(&mut self, record: &Record) {
        match record.event {
            Event::ImageLoaded { base, size, .. } if self.images.len() < KNOWN_MAX => {
                self.images.push(Image { base, size, name: record.text.clone() });
            }
            Event::DriverEntryCalled { driver } => {
                if self.names.len() < KNOWN_MAX {
                    self.names.insert(driver, record.text.clone());
                }
                self.enter(record.thread, What::Start(driver), Some(driver), 0);
            }
            Event::UnloadCalled { driver } => self.enter(record.thread, What::Start(driver), Some(driver), 0),
            Event::DriverEntryReturned { driver, .. } | Event::UnloadReturned { driver } => {
                self.leave(record.thread, What::Start(driver));
            }
            Event::DeviceCreated { device, driver } if self.devices.len() < KNOWN_MAX => {
                self.devices.insert(device, driver);
            }
            Event::IrpDispatched { irp, device, routine, .. } => {
                self.enter(record.thread, What::Dispatch(irp), self.devices.get(&device).copied(), routine);
            }
            Event::IrpReturned { irp, .. } => self.leave(record.thread, What::Dispatch(irp)),
            // Whose handler it is nobody tells.
            Event::Indicated { endpoint, .. } => self.enter(record.thread, What::Handler(endpoint), None, 0),
            Event::IndicationReturned { endpoint, .. } => self.leave(record.thread, What::Handler(endpoint)),
            Event::ThreadStarted { start, .. } => {
                self.threads.insert(record.thread, Thread { start, calls: Vec::new() });
            }
            _ => {}
        }
    }

    /// The routine whose code a thread is in, and its driver.
    pub fn running(&self, thread: u16) -> Culprit {
        let Some(thread) = self.threads.get(&thread) else { return Culprit::default() };
        match thread.calls.last() {
            Some(call) => self.at(call.routine, call.driver),
            None => self.at(thread.start, None),
        }
    }

    /// The dispatch routine at `routine` of a device's driver.
    pub fn of_dispatch(&self, device: u64, routine: u64) -> Culprit {
        self.at(routine, self.devices.get(&device).copied())
    }

    /// Whose image an address lies in; if in none, the driver by its object. A table can name another driver's routine: then
    /// the routine's driver is the one.
    fn at(&self, address: u64, driver: Option<u64>) -> Culprit {
        let offset = |image: &Image| Some(address.wrapping_sub(image.base)).filter(|offset| *offset < image.size);
        let found = self.images.iter().rev().find_map(|image| Some((&image.name, offset(image)?)));
        match found {
            Some((name, offset)) => Culprit { driver: name.clone(), offset: Some(offset) },
            None => {
                let name = driver.and_then(|driver| self.names.get(&driver));
                Culprit { driver: name.cloned().unwrap_or_default(), offset: None }
            }
        }
    }

    /// Events are missing: what threads are in is unknown.
    pub fn forget_calls(&mut self) {
        self.threads.clear();
    }

    fn enter(&mut self, thread: u16, what: What, driver: Option<u64>, routine: u64) {
        let calls = &mut self.threads.entry(thread).or_default().calls;
        if calls.len() < DEPTH_MAX {
            calls.push(Call { what, driver, routine });
        }
    }

    fn leave(&mut self, thread: u16, what: What) {
        let Some(thread) = self.threads.get_mut(&thread) else { return };
        if let Some(index) = thread.calls.iter().rposition(|call| call.what == what) {
            thread.calls.truncate(index);
        }
    }
}
