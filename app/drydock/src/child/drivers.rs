//! One driver from its image to its unloading.

use std::path::{Path, PathBuf};

use gate::export::Export;
use nt_abi::{DeviceObject, DriverObject, NtStatus};
use nt_dispatcher::{thread, wait, work};
use nt_executive::notifications;
use nt_executive::registry::{self, Data};
use nt_io::driver::{self, NewDriver};
use nt_io::{device, stacks};
use pe_image::{Exports, Image, LoadOptions, MappedImage};
use tdi_transport::Transport;
use trace::Event;

use super::leftovers;
use crate::message::Message;
use crate::names;
use crate::plan::{Plan, Setting, Value};

/// How often an unloading looks whether the driver is idle at last, and for how long each time, in units of 100 ns.
const IDLE_LOOKS: u32 = 100;
const IDLE_LOOK_100NS: i64 = 100_000;

/// A driver that was loaded.
pub struct Loaded {
    image: Image,
    object: *mut DriverObject,
    name: String,
    state: State,
}

/// How far its life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not started.
    Mapped,
    /// `DriverEntry` returned success.
    Running,
    /// `DriverEntry` returned an error: the driver must have undone everything itself (K-103).
    Failed,
    /// Unload has returned, or would have, had the driver not been busy.
    Unloaded,
}

/// The message that a driver failed.
pub fn failed(path: &Path, why: String) -> Message {
    Message::DriverFailed { driver: file_name(path), why }
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// A function or variable of the kernel or of tdi.sys.
pub fn resolve(module: &str, name: &str) -> Option<&'static Export> {
    nt_executive::table::resolve(module, name).or_else(|| tdi_library::resolve(module, name))
}

/// Maps all images, in order, and then binds them, so that each can import from any other; stops at the first that
/// cannot be.
///
/// # Errors
/// Which failed: what is wrong with the image, and what to do.
pub fn load(images: &[Vec<u8>], plan: &Plan) -> Result<Vec<Loaded>, Message> {
    let mut mapped = Vec::new();
    for (path, bytes) in plan.drivers.iter().zip(images) {
        let image = pe_image::map(bytes, &file_name(path), plan.seed);
        mapped.push(image.map_err(|error| failed(path, error.to_string()))?);
    }
    let exporters: Vec<Exporter> = mapped.iter().map(Exporter::of).collect();
    let bind = |(path, image): (&PathBuf, MappedImage)| {
        Loaded::bind(path, image, plan, &exporters).map_err(|why| failed(path, why))
    };
    plan.drivers.iter().zip(mapped).map(bind).collect()
}

/// A driver that others may import from.
struct Exporter {
    name: &'static str,
    base: u64,
    exports: Exports,
}

impl Exporter {
    fn of(image: &MappedImage) -> Self {
        Self { name: image.name(), base: image.base(), exports: image.exports().clone() }
    }
}

/// Most forwarders on the way to an export; a driver can forward to itself.
const FORWARDERS_MAX: u32 = 4;

/// What an import is bound to.
enum Found {
    /// Something of a driver.
    Address(u64),
    /// Something of the kernel.
    Export(&'static Export),
}

/// Finds what `module!name` is: of a driver first, so that one can bring its own `tdi.sys`.
fn find(exporters: &[Exporter], module: &str, name: &str, forwarders: u32) -> Option<Found> {
    let exporter = exporters.iter().find(|exporter| exporter.name.eq_ignore_ascii_case(module));
    if let Some(Exporter { base, exports, .. }) = exporter {
        if let Some(offset) = exports.get(name) {
            return Some(Found::Address(base + u64::from(offset)));
        }
        if let Some(to) = exports.forwarded.get(name).filter(|_| forwarders > 0) {
            // Forwarders name modules without what their files end in.
            return ["", ".sys", ".exe", ".dll"]
                .iter()
                .find_map(|end| find(exporters, &format!("{}{end}", to.module), &to.name, forwarders - 1));
        }
    }
    resolve(module, name).map(Found::Export)
}

impl Loaded {
    /// Binds a mapped image and makes its driver object.
    fn bind(path: &Path, mapped: MappedImage, plan: &Plan, exporters: &[Exporter]) -> Result<Self, String> {
        let file = file_name(path);
        let address = |module: &str, name: &str| match find(exporters, module, name, FORWARDERS_MAX)? {
            Found::Address(address) => Some(address),
            Found::Export(_) => None,
        };
        let export = |module: &str, name: &str| match find(exporters, module, name, FORWARDERS_MAX)? {
            Found::Export(export) => Some(export),
            Found::Address(_) => None,
        };
        if mapped.imports("MmGetSystemRoutineAddress") {
            let no_room = |error| format!("no stubs could be made for what it looks up by name: {error}");
            nt_executive::prepare_routines().map_err(no_room)?;
        }
        let options = LoadOptions { resolver: &export, drivers: &address, seed: plan.seed };
        let mut image = mapped.bind(&options).map_err(|error| error.to_string())?;
        let service = path.file_stem().map_or_else(|| file.clone(), |stem| stem.to_string_lossy().into_owned());
        let registered = image.register().map_err(|error| error.to_string())?;
        let new = NewDriver { name: &service, image: (image.base(), image.size()), entry: image.entry() };
        let object = driver::create(&new).map_err(|status| match status {
            NtStatus::OBJECT_NAME_COLLISION => format!(r"a driver named \Driver\{service} is loaded already"),
            status => format!("no driver object could be made: {}", names::status(status.0)),
        })?;
        registered.set_driver(object as u64);
        let loaded = Event::ImageLoaded { base: image.base(), size: image.size().into(), driver: object as u64 };
        gate::record_with_text(loaded, &file);
        for missing in image.missing() {
            let text = format!("{}!{}", missing.module, missing.name);
            gate::record_with_text(Event::ImportMissing { driver: object as u64 }, &text);
        }
        for warning in image.warnings() {
            gate::record_with_text(Event::HostNote {}, &format!("{file}: {warning}"));
        }
        set_parameters(&service, &plan.settings)?;
        Ok(Self { image, object, name: service, state: State::Mapped })
    }

    /// Calls `DriverEntry`.
    ///
    /// # Errors
    /// A sentence, when it returns an error.
    pub fn start(&mut self, transport: &Transport) -> Result<(), String> {
        notifications::image_loaded(self.image.name(), self.image.base(), self.image.size().into());
        // SAFETY: a live driver object over a mapped image.
        let status = unsafe { driver::start(self.object, &self.name) };
        if status.is_success() {
            self.state = State::Running;
            return Ok(());
        }
        self.state = State::Failed;
        self.report_calls(transport);
        Err(format!("DriverEntry returned {} ({:#010x})", names::status(status.0), status.0))
    }

    /// Unloads the driver if it is running and can be. Returns whether its Unload routine was called.
    pub fn unload(&mut self, transport: &Transport) -> bool {
        if self.state != State::Running {
            return false;
        }
        // SAFETY: a live driver object.
        if unsafe { (*self.object).driver_unload } == 0 {
            let text = format!("{} has no Unload routine: it stays loaded to the end", self.image.name());
            gate::record_with_text(Event::HostNote {}, &text);
            return false;
        }
        self.state = State::Unloaded;
        if let Some(why) = self.wait_until_idle() {
            let message =
                format!("the driver was not unloaded: {why}. NT waits with Unload until nobody uses its devices");
            gate::finding("K-101", message, self.image.entry());
            return false;
        }
        // SAFETY: a live driver object whose image is mapped.
        let called = unsafe { driver::unload(self.object) };
        self.report_calls(transport);
        // Deletions and work that the driver left to system threads, and threads on their way out.
        work::drain();
        self.wait_for_threads();
        called
    }

    /// Why the driver cannot be unloaded yet, if it does not become idle soon.
    fn wait_until_idle(&self) -> Option<String> {
        let mut why = self.busy();
        for _ in 0..IDLE_LOOKS {
            why.as_ref()?;
            work::drain();
            wait::delay(-IDLE_LOOK_100NS);
            why = self.busy();
        }
        why
    }

    fn busy(&self) -> Option<String> {
        let mut why = None;
        // SAFETY: a live driver object; its devices are checked to be alive.
        unsafe {
            driver::for_each_device(self.object, |device: *mut DeviceObject| {
                let name = device::name(device).map_or("a device".into(), |name| String::from_utf16_lossy(&name));
                let open = device::open_count(device);
                if open > 0 {
                    why = Some(format!("{name} has {open} open file objects or work items"));
                } else if !(*device).attached_device.is_null() {
                    why = Some(format!("something is attached to {name}"));
                }
            });
        }
        why
    }

    /// Reports what would still call the driver, now that its image would be gone. A work item whose routine has told
    /// the driver that it is done may be on its way out of it, as a thread may.
    fn report_calls(&self, transport: &Transport) {
        leftovers::report_calls(self, transport);
        let is_running = || {
            let mut found = false;
            work::for_each_running_item(|_, caller| found |= self.contains(caller));
            found
        };
        wait_while(is_running);
        leftovers::report_running_items(self);
    }

    fn wait_for_threads(&self) {
        wait_while(|| self.has_threads());
    }

    fn has_threads(&self) -> bool {
        let mut found = false;
        thread::for_each_running(|_, caller| found |= self.contains(caller));
        found
    }

    /// Whether an address lies in the driver's image.
    pub fn contains(&self, address: u64) -> bool {
        gate::image::find(address).is_some_and(|image| image.base == self.image.base())
    }

    /// Whether what the driver left behind is its fault: it was unloaded, or should have undone everything (K-103).
    pub fn is_gone(&self) -> bool {
        matches!(self.state, State::Failed | State::Unloaded)
    }

    /// Whether it was started and is still to be called.
    pub fn is_running(&self) -> bool {
        self.state == State::Running
    }

    /// The driver object.
    pub fn object(&self) -> *mut DriverObject {
        self.object
    }

    /// Frees what the system kept for a driver that was unloaded, and takes its image away, unless a thread is still
    /// in it.
    pub fn retire(&self) {
        stacks::free_driver_extensions(self.object as u64);
        if !self.has_threads()
            && let Err(error) = self.image.retire()
        {
            gate::record_with_text(Event::HostNote {}, &format!("{}: {error}", self.image.name()));
        }
    }
}

/// Waits until something is over, but not for ever.
fn wait_while(is_going_on: impl Fn() -> bool) {
    for _ in 0..IDLE_LOOKS {
        if !is_going_on() {
            return;
        }
        wait::delay(-IDLE_LOOK_100NS);
    }
}

/// Writes the settings under the service's `Parameters` key.
fn set_parameters(service: &str, settings: &[Setting]) -> Result<(), String> {
    let refused = |status: NtStatus| format!("the registry does not take it: {}", names::status(status.0));
    registry::create_service_key(service, "Parameters").map_err(refused)?;
    for Setting { name, value } in settings {
        let data = match value {
            Value::Number(number) => Data::Number(*number),
            Value::Text(text) => Data::Text(text.clone()),
        };
        registry::set_value(service, name, &data).map_err(|status| format!("--set {name}: {}", refused(status)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::{Exporter, Exports, FORWARDERS_MAX, Found, find, resolve};
    use pe_image::Forwarder;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct RankedImports {
        missing: Vec<Missing>,
        ranked: BTreeMap<String, String>,
    }

    #[derive(Deserialize)]
    struct Missing {
        why: String,
        names: String,
    }

    fn exporter(name: &'static str, here: &[(&str, u32)], elsewhere: &[(&str, &str, &str)]) -> Exporter {
        let mut exports = Exports::default();
        exports.named.extend(here.iter().map(|&(name, offset)| (name.to_owned(), offset)));
        let to = |module: &str, name: &str| Forwarder { module: module.to_owned(), name: name.to_owned() };
        exports.forwarded.extend(elsewhere.iter().map(|&(own, module, name)| (own.to_owned(), to(module, name))));
        Exporter { name, base: 0x1000, exports }
    }

    #[test]
    fn imports_are_found_in_drivers_before_the_kernel_and_where_forwarders_lead() {
        let elsewhere =
            [("Call", "ntoskrnl", "IofCallDriver"), ("Twice", "second", "There"), ("Loop", "first", "Loop")];
        let drivers = [
            exporter("first.sys", &[("Here", 1)], &elsewhere),
            exporter("second.sys", &[("There", 2)], &[]),
            exporter("tdi.sys", &[("TdiMapUserRequest", 3)], &[]),
        ];
        let address = |module, name| match find(&drivers, module, name, FORWARDERS_MAX) {
            Some(Found::Address(address)) => address,
            _ => 0,
        };
        assert_eq!([address("FIRST.SYS", "Here"), address("first.sys", "Twice")], [0x1001, 0x1002]);
        assert_eq!(address("tdi.sys", "TdiMapUserRequest"), 0x1003, "a driver's own comes first");
        assert!(find(&drivers, "first.sys", "Loop", FORWARDERS_MAX).is_none());
        let Some(Found::Export(export)) = find(&drivers, "first.sys", "Call", FORWARDERS_MAX) else {
            panic!("forwarded")
        };
        assert_eq!(export.name, "IofCallDriver");
    }

    /// Whether any module that drivers import from has the name.
    fn is_implemented(name: &str) -> bool {
        ["ntoskrnl.exe", "hal.dll", "tdi.sys", "ndis.sys", "netio.sys"]
            .iter()
            .any(|module| resolve(module, name).is_some())
    }

    #[test]
    fn every_ranked_import_is_implemented_or_missing_for_a_reason() {
        let file: RankedImports =
            toml::from_str(include_str!("../../../../docs/ranked-imports.toml")).expect("a list of imports");
        let ranked: BTreeSet<&str> = file.ranked.values().flat_map(|names| names.split_whitespace()).collect();
        assert!(ranked.len() > 400, "{}", ranked.len());
        let mut excused = BTreeSet::new();
        for Missing { why, names } in &file.missing {
            assert!(!why.is_empty(), "{names}");
            for name in names.split_whitespace() {
                assert!(ranked.contains(name), "{name} is not ranked");
                assert!(excused.insert(name), "{name} has two reasons");
                assert!(!is_implemented(name), "{name} is implemented; take it off the list");
            }
        }
        let missing: Vec<_> = ranked.iter().filter(|name| !is_implemented(name) && !excused.contains(*name)).collect();
        assert!(missing.is_empty(), "missing without a reason: {missing:?}");
    }
}
