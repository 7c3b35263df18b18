//! The child: hosts the drivers, carries out the plan, reports, ends.
//!
//! One kernel thread drives everything: it brings the parts up from the bottom ([`start_kernel`]), loads the drivers,
//! carries out what the plan asks of them, unloads them in reverse and looks for what they left behind. Whatever a driver
//! does wrong on the way ends in the trace, and at worst in the end of this process.

mod drivers;
mod leftovers;
mod network;
mod requests;
mod simulated;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use nt_dispatcher::executor::{self, Mode};
use nt_dispatcher::{clock, thread, work};
use nt_executive::registry;
use nt_io::shutdown;
use sandbox::Files;
use tdi_transport::Transport;
use trace::{EndOfRun, Event, TraceWriter};

use crate::message::{Message, Sender};
use crate::plan::Plan;
use drivers::Loaded;
pub use drivers::resolve;
use requests::Opened;

/// Most bytes of an image; the largest drivers have a few dozen megabytes.
pub const IMAGE_BYTES_MAX: u64 = 1 << 30;

/// Carries out `plan`; what it came to goes into the trace and out as messages.
///
/// # Errors
/// Why the kernel could not be brought up: our own fault, or the host's.
pub fn run(plan: Plan, trace: OwnedFd, messages: OwnedFd, frames: Option<OwnedFd>) -> io::Result<()> {
    let trace = TraceWriter::map(&trace)?;
    let mut messages = Sender::new(messages);
    let opened = read_images(&plan).and_then(|images| Ok((images, open_folder(&plan)?)));
    let (images, files) = match opened {
        Ok(opened) => opened,
        Err(failed) => {
            messages.send(&failed);
            return Ok(());
        }
    };
    start_kernel(&plan, trace)?;
    if let Some(Err(error)) = plan.registry.as_ref().map(|text| registry::load(text)) {
        let (driver, why) = ("the registry file".into(), error.to_string());
        messages.send(&Message::DriverFailed { driver, why });
        return Ok(());
    }
    let network = network::make(&plan, frames).map_err(io::Error::other)?;
    let mut job = Job { plan, trace, messages, network: Some(network), images, files, landlock: None, outcome: Ok(()) };
    let job_address = std::ptr::from_mut(&mut job);
    // Not before this thread is the kernel's: glibc reads a file to tell where the main thread's stack lies. Not later
    // either: Landlock holds this thread and those that are started from here on.
    // SAFETY: the job, which nothing else uses until `drive` is called.
    let alone = || unsafe { (*job_address).forbid_files() };
    executor::drive(alone, drive, job_address as u64)?;
    job.outcome
}

/// Brings up everything below the drivers that needs no thread of the kernel.
fn start_kernel(plan: &Plan, trace: &'static TraceWriter) -> io::Result<()> {
    gate::set_trace(trace);
    gate::bugcheck::install_panic_hook();
    gate::fault::install()?;
    executor::start(plan.seed.map_or(Mode::Free, |seed| Mode::Seeded { seed }))?;
    nt_executive::install();
    if let Some(seed) = plan.seed {
        nt_executive::random::set_seed(seed);
    }
    if plan.special_pool {
        nt_executive::pool::special::switch_on();
    }
    nt_object::set_deferred_delete(|body, delete_now| work::queue(Box::new(move || delete_now(body))));
    thread::set_on_end(nt_io::irp::end_of_thread);
    thread::set_observer(nt_executive::notifications::thread_changed);
    Ok(())
}

/// What the kernel thread that drives the drivers is given.
struct Job {
    plan: Plan,
    trace: &'static TraceWriter,
    messages: Sender,
    /// Taken by the transport.
    network: Option<Arc<dyn net_api::Network>>,
    images: Vec<Vec<u8>>,
    /// The folder that drivers may have files in.
    files: Option<OwnedFd>,
    /// How far files are out of reach; `None` until that is settled, or if it could not be because threads ran already.
    landlock: Option<Files>,
    outcome: io::Result<()>,
}

/// The life of that thread; `job` is the address of a [`Job`].
fn drive(job: u64) {
    // SAFETY: `run` passes the address of its own job and waits for this function.
    let job = unsafe { &mut *(job as *mut Job) };
    job.outcome = job.carry_out();
}

impl Job {
    /// Puts files out of reach but those in the folder. For the process's only thread.
    fn forbid_files(&mut self) {
        let is_alone = sandbox::is_only_thread();
        let landlock = sandbox::forbid_files(self.files.as_ref().map(AsFd::as_fd));
        self.landlock = is_alone.then_some(landlock);
    }

    fn carry_out(&mut self) -> io::Result<()> {
        let Self { plan, trace, messages, network, images, files, landlock, .. } = self;
        clock::refresh_shared_page();
        let started = Event::RunStarted { seeded: plan.seed.is_some().into(), seed: plan.seed.unwrap_or_default() };
        gate::record_with_text(started, env!("CARGO_PKG_VERSION"));
        let network = network.take().ok_or(io::ErrorKind::NotFound)?;
        let transport = network::start(network).map_err(io::Error::other)?;
        if *landlock == Some(Files::NoLandlock) {
            note("this kernel has no Landlock: files are out of reach by the list of system calls alone");
        }
        if let Some(folder) = files.take() {
            let why = match landlock {
                Some(Files::Forbidden | Files::PartlyForbidden) => None,
                Some(Files::NoLandlock) => Some("this kernel has no Landlock"),
                None => Some("a thread was started too early"),
            };
            if let Some(why) = why {
                messages.send(&files_failed(&format!("{why}, so drivers could not be kept in the folder")));
                return Ok(());
            }
            host_files::start(folder)
                .map_err(|status| io::Error::other(format!("the volume did not start: {status:?}")))?;
        }
        let mut run = Run { plan, transport, drivers: Vec::new(), started: 0, unloaded: 0 };
        let outcome = drivers::load(&std::mem::take(images), plan).and_then(|loaded| {
            run.drivers = loaded;
            if plan.debugger {
                wait_for_debugger();
            }
            run.restrict()?;
            run.start()
        });
        match outcome {
            Ok(()) => run.drive(messages),
            Err(failed) => messages.send(&failed),
        }
        run.end();
        trace.end_of_run(EndOfRun { started: run.started, unloaded: run.unloaded });
        messages.send(&Message::Finished);
        Ok(())
    }
}

/// The folder that drivers may have files in, if the plan names one.
fn open_folder(plan: &Plan) -> Result<Option<OwnedFd>, Message> {
    let Some(path) = &plan.files else { return Ok(None) };
    let cannot = |error: io::Error| files_failed(&format!("cannot open the folder {}: {error}", path.display()));
    let folder = File::open(path).map_err(cannot)?;
    if !folder.metadata().map_err(cannot)?.is_dir() {
        return Err(files_failed(&format!("{} is no folder", path.display())));
    }
    Ok(Some(folder.into()))
}

fn files_failed(why: &str) -> Message {
    Message::DriverFailed { driver: "the drivers' files".into(), why: why.into() }
}

/// The images' bytes.
fn read_images(plan: &Plan) -> Result<Vec<Vec<u8>>, Message> {
    plan.drivers.iter().map(|path| read_image(path).map_err(|why| drivers::failed(path, why))).collect()
}

fn read_image(path: &Path) -> Result<Vec<u8>, String> {
    let cannot = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let metadata = path.metadata().map_err(cannot)?;
    if !metadata.is_file() {
        return Err(format!("{} is no regular file; name the driver's .sys file", path.display()));
    }
    if metadata.len() > IMAGE_BYTES_MAX {
        return Err(format!("{} has {} bytes, which no driver has", path.display(), metadata.len()));
    }
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(File::open(path).map_err(cannot)?, IMAGE_BYTES_MAX), &mut bytes)
        .map_err(cannot)?;
    Ok(bytes)
}

/// A run under way.
struct Run<'a> {
    plan: &'a Plan,
    transport: &'static Transport,
    drivers: Vec<Loaded>,
    started: u32,
    unloaded: u32,
}

impl Run<'_> {
    /// Closes the sandbox: from here on nothing becomes executable, and only what the network needs can be asked of Linux.
    fn restrict(&self) -> Result<(), Message> {
        let policy = self.plan.policy();
        match sandbox::restrict_calls(policy) {
            Ok(()) => Ok(()),
            // An honest driver runs all the same; but a network that promises to be a boundary must be one.
            Err(error) if policy.sockets => {
                note(&format!("this kernel does not restrict system calls ({error}): run only drivers that you trust"));
                Ok(())
            }
            Err(error) => {
                let why = format!(
                    "this kernel does not restrict system calls ({error}), so the network could not be kept away"
                );
                Err(drivers::failed(&self.plan.drivers[0], why))
            }
        }
    }

    /// Starts the drivers in order; stops at the first that fails.
    fn start(&mut self) -> Result<(), Message> {
        for (path, driver) in self.plan.drivers.iter().zip(&mut self.drivers) {
            driver.start(self.transport).map_err(|why| drivers::failed(path, why))?;
            self.started += 1;
        }
        Ok(())
    }

    /// Carries out what the plan asks of the drivers.
    fn drive(&mut self, messages: &mut Sender) {
        let mut opened = Opened::default();
        for (index, action) in self.plan.actions.iter().enumerate() {
            messages.send(&opened.carry_out(index, action));
        }
        opened.close_all();
    }

    /// Unloads in reverse, tells those that stay of the shutdown, reports what is left, takes the transport down.
    fn end(&mut self) {
        for driver in self.drivers.iter_mut().rev() {
            if driver.unload(self.transport) {
                self.unloaded += 1;
            }
        }
        work::drain();
        let drivers = &self.drivers;
        shutdown::notify(|object| drivers.iter().any(|driver| driver.object() == object && driver.is_running()));
        leftovers::report(&self.drivers, self.transport);
        self.transport.stop();
        gate::record(Event::RunEnded {});
    }
}

/// Waits until the supervisor says that a debugger is attached.
fn wait_for_debugger() {
    // Where only descendants may be traced (Yama), this process allows it to the user's others. An error is that there is no
    // Yama.
    // SAFETY: takes two numbers.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY) };
    // A supervisor that is gone ends this process.
    let _ = io::stdin().read_line(&mut String::new());
}

/// Says something about the host in the account.
fn note(text: &str) {
    gate::record_with_text(Event::HostNote {}, text);
}
