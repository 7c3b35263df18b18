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
    /// The image that a driver's own thread began in.
    home: Option<usize>,
    calls: Vec<Call>,
}

#[derive(Debug)]
struct Call {
    what: What,
    /// The driver object; `None` for host code and for what nobody told of.
    driver: Option<u64>,
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
                self.enter(record.thread, What::Start(driver), Some(driver));
            }
            Event::UnloadCalled { driver } => self.enter(record.thread, What::Start(driver), Some(driver)),
            Event::DriverEntryReturned { driver, .. } | Event::UnloadReturned { driver } => {
                self.leave(record.thread, What::Start(driver));
            }
            Event::DeviceCreated { device, driver } if self.devices.len() < KNOWN_MAX => {
                self.devices.insert(device, driver);
            }
            Event::IrpDispatched { irp, device, .. } => {
                self.enter(record.thread, What::Dispatch(irp), self.devices.get(&device).copied());
            }
            Event::IrpReturned { irp, .. } => self.leave(record.thread, What::Dispatch(irp)),
            // Whose handler it is nobody tells.
            Event::Indicated { endpoint, .. } => self.enter(record.thread, What::Handler(endpoint), None),
            Event::IndicationReturned { endpoint, .. } => self.leave(record.thread, What::Handler(endpoint)),
            Event::ThreadStarted { start, .. } => {
                let home = self.images.iter().position(|image| start.wrapping_sub(image.base) < image.size);
                self.threads.insert(record.thread, Thread { home, calls: Vec::new() });
            }
            _ => {}
        }
    }

    /// The file name of the driver whose code a thread is in; empty if unknown.
    pub fn running(&self, thread: u16) -> String {
        let Some(thread) = self.threads.get(&thread) else { return String::new() };
        let home = || thread.home.and_then(|home| self.images.get(home)).map(|image| image.name.clone());
        match thread.calls.last() {
            Some(call) => call.driver.and_then(|driver| self.names.get(&driver)).cloned(),
            None => home(),
        }
        .unwrap_or_default()
    }

    /// The file name of a device's driver; empty if unknown.
    pub fn of_device(&self, device: u64) -> String {
        self.devices.get(&device).and_then(|driver| self.names.get(driver)).cloned().unwrap_or_default()
    }

    /// Events are missing: what threads are in is unknown.
    pub fn forget_calls(&mut self) {
        self.threads.clear();
    }

    fn enter(&mut self, thread: u16, what: What, driver: Option<u64>) {
        let calls = &mut self.threads.entry(thread).or_default().calls;
        if calls.len() < DEPTH_MAX {
            calls.push(Call { what, driver });
        }
    }

    fn leave(&mut self, thread: u16, what: What) {
        let Some(thread) = self.threads.get_mut(&thread) else { return };
        if let Some(index) = thread.calls.iter().rposition(|call| call.what == what) {
            thread.calls.truncate(index);
        }
    }
}
