//! Who and what takes part in a run: drivers, devices, files, and what each is called.
//!
//! Everything is learnt from events, in their order. What was never introduced gets a name by its address, so
//! that a run of which the beginning is lost can still be told. All tables are bounded: a trace made up by a
//! hostile driver costs no more than a real one.

use std::collections::HashMap;

use trace::OpenKind;

use crate::step::Party;
use crate::units::clean;

/// Most entries of a table; then it starts anew.
const ENTRIES_MAX: usize = 1 << 16;
/// Most drivers; further ones are taken for the last.
const DRIVERS_MAX: usize = 64;

/// Everything that has a name.
#[derive(Debug, Default)]
pub struct Cast {
    drivers: Vec<Driver>,
    driver_numbers: HashMap<u64, usize>,
    devices: HashMap<u64, Device>,
    files: HashMap<u64, File>,
    images: Vec<Image>,
    /// Opens so far of each [`OpenKind`].
    opened: [u64; 4],
    remotes: Vec<String>,
}

/// A driver.
#[derive(Debug, Default)]
pub struct Driver {
    /// From its image or DriverEntry; the host's own transports have none.
    name: Option<String>,
    /// Its first device with a name.
    device: Option<String>,
    /// TDI objects were opened on one of its devices.
    is_transport: bool,
    /// One of its devices lies over another.
    is_filter: bool,
}

#[derive(Debug)]
struct Device {
    driver: usize,
    name: String,
}

/// An open file.
#[derive(Debug)]
struct File {
    label: String,
    owner: Party,
    device: u64,
}

#[derive(Debug)]
struct Image {
    base: u64,
    size: u64,
    name: String,
}

impl Cast {
    /// The number of a driver by its object's address.
    pub fn driver(&mut self, object: u64) -> usize {
        if let Some(&number) = self.driver_numbers.get(&object) {
            return number;
        }
        let number = self.new_driver();
        insert(&mut self.driver_numbers, object, number);
        number
    }

    /// Gives a driver its name.
    pub fn name_driver(&mut self, object: u64, name: &str) -> usize {
        let number = self.driver(object);
        if !name.is_empty() {
            self.drivers[number].name = Some(stem(name));
        }
        number
    }

    /// An image was mapped; `driver` may be 0.
    pub fn image(&mut self, base: u64, size: u64, name: &str, driver: u64) {
        if driver != 0 {
            self.name_driver(driver, name);
        }
        if self.images.len() < DRIVERS_MAX {
            self.images.push(Image { base, size, name: stem(name) });
        }
    }

    /// The driver in whose image an address lies.
    pub fn driver_at(&self, address: u64) -> Option<usize> {
        let name = &self.image_at(address)?.0.name;
        self.drivers.iter().position(|driver| driver.name.as_ref() == Some(name))
    }

    /// An address as `driver+0x10`, or bare.
    pub fn place(&self, address: u64) -> String {
        match self.image_at(address) {
            Some((image, offset)) => format!("{}+{offset:#x}", image.name),
            None => format!("{address:#x}"),
        }
    }

    /// The name of the image with this base.
    pub fn image_name(&self, base: u64) -> Option<&str> {
        self.images.iter().rev().find(|image| image.base == base).map(|image| image.name.as_str())
    }

    /// A device was made.
    pub fn device_created(&mut self, device: u64, driver: u64, name: &str) {
        let number = self.driver(driver);
        self.drivers[number].device.get_or_insert_with(|| clean(name));
        insert(&mut self.devices, device, Device { driver: number, name: clean(name) });
    }

    /// A device was laid over another.
    pub fn device_attached(&mut self, device: u64) {
        let number = self.device_driver(device);
        self.drivers[number].is_filter = true;
    }

    /// A device's name, or its address.
    pub fn device_name(&self, device: u64) -> String {
        match self.devices.get(&device) {
            Some(Device { name, .. }) if !name.is_empty() => name.clone(),
            _ => format!("device {device:#x}"),
        }
    }

    /// The driver behind a device.
    pub fn device_driver(&mut self, device: u64) -> usize {
        if let Some(known) = self.devices.get(&device) {
            return known.driver;
        }
        let driver = self.new_driver();
        insert(&mut self.devices, device, Device { driver, name: String::new() });
        driver
    }

    /// A file was opened: gives it a number. Returns `endpoint #1` and `connection endpoint #1`.
    pub fn open(&mut self, file: u64, device: u64, kind: OpenKind, owner: Party, path: &str) -> (String, String) {
        let driver = self.device_driver(device);
        if kind != OpenKind::Device {
            self.drivers[driver].is_transport = true;
        }
        if self.drivers[driver].name.is_none() {
            self.drivers[driver].device.get_or_insert_with(|| clean(path));
        }
        self.opened[kind as usize] += 1;
        let number = self.opened[kind as usize];
        let (short, long) = match kind {
            OpenKind::Device => ("file", "file"),
            OpenKind::TransportAddress => ("address", "transport address"),
            OpenKind::ConnectionEndpoint => ("endpoint", "connection endpoint"),
            OpenKind::ControlChannel => ("control channel", "control channel"),
        };
        let label = format!("{short} #{number}");
        insert(&mut self.files, file, File { label: label.clone(), owner, device });
        (label, format!("{long} #{number}"))
    }

    /// What a file is called; empty for none.
    pub fn file(&self, file: u64) -> String {
        match self.files.get(&file) {
            Some(known) => known.label.clone(),
            None if file == 0 => String::new(),
            None => format!("file {file:#x}"),
        }
    }

    /// Whether the file's opening was seen.
    pub fn is_file(&self, file: u64) -> bool {
        self.files.contains_key(&file)
    }

    /// Who opened a file.
    pub fn owner(&self, file: u64) -> Option<Party> {
        self.files.get(&file).map(|known| known.owner)
    }

    /// The driver that a file was opened on.
    pub fn provider(&mut self, file: u64) -> Party {
        match self.files.get(&file).map(|known| known.device) {
            Some(device) => Party::Driver(self.device_driver(device)),
            // Whoever speaks of an endpoint nobody saw being opened is a transport.
            None => match self.drivers.iter().position(|driver| driver.is_transport) {
                Some(number) => Party::Driver(number),
                None => {
                    let number = self.new_driver();
                    self.drivers[number].is_transport = true;
                    Party::Driver(number)
                }
            },
        }
    }

    /// The file is gone; its address may name another one next.
    pub fn forget(&mut self, file: u64) {
        self.files.remove(&file);
    }

    /// A remote node was named.
    pub fn remote(&mut self, address: &str) {
        // Two are enough to know that there are several.
        if !address.is_empty() && self.remotes.len() < 2 && !self.remotes.iter().any(|known| known == address) {
            self.remotes.push(address.into());
        }
    }

    /// The driver with an image, if it is the only one.
    pub fn only_client(&self) -> Option<usize> {
        let mut clients =
            self.drivers.iter().enumerate().filter(|(_, driver)| driver.name.is_some() && !driver.is_transport);
        let first = clients.next()?;
        clients.next().is_none().then_some(first.0)
    }

    /// The driver with this file name.
    pub fn driver_named(&self, file: &str) -> Option<Party> {
        let name = stem(file);
        self.drivers.iter().position(|driver| driver.name.as_ref() == Some(&name)).map(Party::Driver)
    }

    /// What a party is called.
    pub fn name(&self, party: Party) -> String {
        match party {
            Party::Driver(number) => self.drivers.get(number).map_or_else(String::new, Driver::called),
            Party::IoManager => "I/O manager".into(),
            Party::Remote => "remote node".into(),
            Party::Tester => "tester".into(),
            Party::Drydock => "drydock".into(),
        }
    }

    /// What a party is, for the second line of its head.
    pub fn role(&self, party: Party) -> String {
        match party {
            Party::Driver(number) => self.drivers.get(number).map_or_else(String::new, Driver::role),
            Party::IoManager | Party::Drydock => "Drydock".into(),
            Party::Tester => "--ioctl, steps".into(),
            Party::Remote => match self.remotes.as_slice() {
                [only] => only.clone(),
                [] => "network".into(),
                _ => "several".into(),
            },
        }
    }

    /// Where a party's lifeline stands: the tester, clients, I/O manager, filters, transports, the remote node.
    pub fn rank(&self, party: Party) -> (u8, usize) {
        match party {
            Party::Driver(number) => match self.drivers.get(number) {
                Some(Driver { is_transport: true, .. }) => (4, number),
                Some(Driver { is_filter: true, .. }) => (3, number),
                _ => (1, number),
            },
            Party::Tester => (0, 0),
            Party::IoManager => (2, 0),
            Party::Remote => (5, 0),
            Party::Drydock => (6, 0),
        }
    }

    fn new_driver(&mut self) -> usize {
        if self.drivers.len() < DRIVERS_MAX {
            self.drivers.push(Driver::default());
        }
        self.drivers.len() - 1
    }

    fn image_at(&self, address: u64) -> Option<(&Image, u64)> {
        let offset = |image: &Image| address.checked_sub(image.base).filter(|&offset| offset < image.size);
        self.images.iter().rev().find_map(|image| offset(image).map(|offset| (image, offset)))
    }
}

impl Driver {
    fn called(&self) -> String {
        match (&self.name, &self.device) {
            (Some(name), _) => name.clone(),
            (None, _) if self.is_transport => "transport".into(),
            (None, Some(device)) if !device.is_empty() => device.clone(),
            (None, _) => "driver".into(),
        }
    }

    fn role(&self) -> String {
        match (&self.name, &self.device) {
            (None, Some(device)) if self.is_transport && !device.is_empty() => device.clone(),
            _ if self.is_transport => "transport".into(),
            _ if self.is_filter => "filter driver".into(),
            (Some(_), _) => "client driver".into(),
            (None, _) => "driver".into(),
        }
    }
}

/// A file name without folder and extension.
fn stem(name: &str) -> String {
    let name = clean(name);
    let file = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let stem = file.strip_suffix(".sys").or_else(|| file.strip_suffix(".SYS")).unwrap_or(file);
    if stem.is_empty() { name } else { stem.into() }
}

fn insert<V>(table: &mut HashMap<u64, V>, key: u64, value: V) {
    if table.len() >= ENTRIES_MAX {
        table.clear();
    }
    table.insert(key, value);
}
