//! The builder of a run.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::outputs::Wanted;
use crate::plan::{Action, Network, Plan, Setting, Value};
use crate::{DockError, Verdict, supervisor};

/// A run in the making: drivers, network, settings, and what should be written down.
#[derive(Default)]
pub struct Dock {
    plan: Plan,
    wanted: Wanted,
    host_program: Option<PathBuf>,
}

impl Dock {
    /// A dock without drivers, on the loopback network, with the free executor and no time limit.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a driver image; drivers are loaded in the order they are added and unloaded in reverse.
    pub fn load(mut self, image: impl AsRef<Path>) -> Self {
        self.plan.drivers.push(image.as_ref().into());
        self
    }

    /// Chooses the network under the transport.
    pub fn network(mut self, network: Network) -> Self {
        self.plan.network = network;
        self
    }

    /// Writes a value under each driver's `Parameters` key. A number becomes a REG_DWORD, anything else a REG_SZ.
    pub fn set(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let value = Value::typed(&value.into());
        self.setting(Setting { name: name.into(), value })
    }

    /// Writes a value whose type is known under each driver's `Parameters` key.
    pub fn setting(mut self, setting: Setting) -> Self {
        self.plan.settings.push(setting);
        self
    }

    /// Loads a registry file (`.reg`) before the settings are written. A file that makes no sense fails the run.
    pub fn registry(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.plan.registry = Some(text.into());
        self
    }

    /// Lets drivers have files: `folder` is what they know as `\??\C:`, and its folder `Windows` as `\SystemRoot`. They can
    /// read, write and remove what lies in it, and reach nothing else.
    pub fn files(mut self, folder: impl AsRef<Path>) -> Self {
        self.plan.files = Some(folder.as_ref().into());
        self.wanted.files = Some(folder.as_ref().into());
        self
    }

    /// Gives every pool block pages of its own with a guard behind it, so that overruns and uses after free are blamed
    /// where they happen. Costs memory and time.
    pub fn special_pool(mut self) -> Self {
        self.plan.special_pool = true;
        self
    }

    /// Asks something of a driver once all are loaded: a device control request, a read, a write.
    pub fn action(mut self, action: Action) -> Self {
        self.plan.actions.push(action);
        self
    }

    /// Uses the seeded executor: one seed, one order of events.
    pub fn seed(mut self, seed: u64) -> Self {
        self.plan.seed = Some(seed);
        self
    }

    /// Stops the driver (bugcheck 0x133) when the run takes longer.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.plan.timeout = Some(timeout);
        self
    }

    /// Draws the run as an SVG sequence diagram.
    pub fn figure(mut self, file: impl AsRef<Path>) -> Self {
        self.wanted.figure = Some(file.as_ref().into());
        self
    }

    /// Prints the diagram as text, `width` columns wide, once the run is over.
    pub fn text_figure(mut self, width: usize, to: Box<dyn Write>) -> Self {
        self.wanted.text_figure = Some((width, to));
        self
    }

    /// Writes every event as JSON Lines.
    pub fn trace(mut self, file: impl AsRef<Path>) -> Self {
        self.wanted.trace = Some(file.as_ref().into());
        self
    }

    /// Writes what crosses the wires of a simulated network as a pcapng file.
    pub fn capture(mut self, file: impl AsRef<Path>) -> Self {
        self.wanted.capture = Some(file.as_ref().into());
        self
    }

    /// Prints a readable account while the run goes on.
    pub fn account(mut self, to: Box<dyn Write>) -> Self {
        self.wanted.account = Some(to);
        self
    }

    /// Lets the drivers wait for every event to be read, so that none is lost and all are judged, at the price of their speed.
    pub fn every_event(mut self) -> Self {
        self.wanted.every_event = true;
        self
    }

    /// Waits for a debugger before the first `DriverEntry`, without a limit, and says on `to` how to attach one.
    pub fn debugger(mut self, to: Box<dyn Write>) -> Self {
        self.plan.debugger = true;
        self.wanted.debugger = Some(to);
        self
    }

    /// Names a file that the run is described by, such as a scenario, so that no output overwrites it. Drivers and network files
    /// need not be named.
    pub fn reads(mut self, file: impl AsRef<Path>) -> Self {
        self.wanted.inputs.push(file.as_ref().into());
        self
    }

    /// Where a crash file goes; without it none is written.
    pub fn crash_directory(mut self, folder: impl AsRef<Path>) -> Self {
        self.wanted.crash_directory = Some(folder.as_ref().into());
        self
    }

    /// The program that becomes the child, if not this executable. Its `main` calls [`crate::host_entry`].
    pub fn host_program(mut self, program: impl AsRef<Path>) -> Self {
        self.host_program = Some(program.as_ref().into());
        self
    }

    /// What the process that hosts the drivers may ask of Linux, in words.
    pub fn policy(&self) -> String {
        sandbox::describe(self.plan.policy())
    }

    /// Runs everything in a child process and waits for its end.
    ///
    /// # Errors
    /// [`DockError`] if the run could not be set up or its outputs not be written. What drivers do wrong is
    /// in the verdict.
    pub fn run(mut self) -> Result<Verdict, DockError> {
        self.wanted.inputs.extend(self.plan.drivers.iter().cloned());
        if let Network::Simulated(description) = &self.plan.network {
            self.wanted.inputs.push(PathBuf::from(&description.name));
        }
        supervisor::run(self.plan, self.wanted, self.host_program)
    }
}
