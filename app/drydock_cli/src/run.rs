//! `drydock run`.

use std::ffi::OsStr;
use std::fmt;
use std::io::{self, IsTerminal, Write};

use drydock::{Dock, DockError, Outcome, Scenario, Verdict, printable};

use crate::arguments::RunOptions;

/// Why nothing was run.
#[derive(Debug)]
pub enum RunError {
    /// The command line makes no sense together: why, and the command whose help says more.
    Usage(String, &'static str),
    /// An image to be judged cannot be read.
    Image(DockError),
    /// The run could not be set up or written down.
    Dock(DockError),
}

impl RunError {
    /// 64 for wrong use, 2 for everything that kept a driver from being run.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Usage(..) => crate::EX_USAGE,
            Self::Dock(
                DockError::Network(_)
                | DockError::NoSuchDriver { .. }
                | DockError::NothingToCapture
                | DockError::WouldOverwrite(_)
                | DockError::InDriversFolder(_)
                | DockError::Registry(_)
                | DockError::Input { .. },
            ) => crate::EX_USAGE,
            Self::Dock(_) | Self::Image(_) => 2,
        }
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(why, command) => write!(f, "{why} (see 'drydock {command} --help')"),
            Self::Dock(error) | Self::Image(error) => write!(f, "{error}"),
        }
    }
}

/// Runs the drivers and prints the account and the verdict; gives the exit status.
pub fn run(options: &RunOptions) -> Result<u8, RunError> {
    let scenario = options.scenario.as_ref().map(Scenario::load).transpose();
    let scenario = scenario.map_err(|error| RunError::Usage(error.to_string(), "run"))?;
    let mut dock = match &scenario {
        Some(scenario) => scenario.dock(),
        None => dock_of(options)?,
    };
    if options.show_policy {
        print(|out| write!(out, "{}", dock.policy()))?;
        return Ok(0);
    }
    dock = dock.crash_directory(&options.crash_dir);
    if let Some(path) = &options.scenario {
        dock = dock.reads(path);
    }
    if options.special_pool {
        dock = dock.special_pool();
    }
    if let Some(file) = &options.figure {
        dock = dock.figure(file);
    }
    if let Some(file) = &options.trace {
        dock = dock.trace(file);
    }
    if let Some(file) = &options.pcap {
        dock = dock.capture(file);
    }
    if !options.quiet {
        // With --json stdout belongs to the one object that a program will read.
        let account: Box<dyn Write> = if options.json { Box::new(io::stderr()) } else { Box::new(io::stdout()) };
        dock = dock.account(account);
    }
    if options.text_figure {
        let to: Box<dyn Write> = if options.json { Box::new(io::stderr()) } else { Box::new(io::stdout()) };
        dock = dock.text_figure(terminal_width(), to);
    }
    if options.gdb {
        dock = dock.debugger(Box::new(io::stderr()));
    }
    let verdict = dock.run().map_err(RunError::Dock)?;
    print(|out| print_verdict(out, &verdict, options.json))?;
    for unwritten in &verdict.unwritten {
        crate::complain(format_args!("drydock: {unwritten}"));
    }
    if let Some(signal) = drydock::stop_signal() {
        // As a shell reports a program that a signal ended.
        return Ok(128u8.saturating_add(signal as u8));
    }
    let least = if verdict.unwritten.is_empty() { 0 } else { 2 };
    let Some(scenario) = scenario else { return Ok(verdict.outcome.exit_status().max(least)) };
    let differences = scenario.differences(&verdict);
    for difference in &differences {
        crate::complain(format_args!("differs  {}", printable(difference)));
    }
    Ok(u8::from(!differences.is_empty()).max(least))
}

/// The run that the command line describes.
fn dock_of(options: &RunOptions) -> Result<Dock, RunError> {
    let mut dock = Dock::new().network(options.net.clone());
    if let Some(limit) = options.time_limit() {
        dock = dock.timeout(limit);
    }
    for driver in &options.drivers {
        dock = dock.load(driver);
    }
    for setting in &options.settings {
        dock = dock.setting(setting.clone());
    }
    for action in options.actions().map_err(|why| RunError::Usage(why, "run"))? {
        dock = dock.action(action);
    }
    if let Some(path) = &options.registry {
        let cannot = |error| RunError::Usage(format!("cannot read {}: {error}", path.display()), "run");
        if !path.metadata().map_err(cannot)?.is_file() {
            return Err(cannot(io::Error::other("it is no regular file")));
        }
        dock = dock.registry(std::fs::read(path).map_err(cannot)?).reads(path);
    }
    if let Some(folder) = &options.files {
        dock = dock.files(folder);
    }
    Ok(match options.seed {
        Some(seed) => dock.seed(seed),
        None => dock,
    })
}

/// Writes to stdout. A reader that has seen enough, such as head, is no failure.
pub fn print(write: impl FnOnce(&mut io::StdoutLock<'_>) -> io::Result<()>) -> Result<(), RunError> {
    let mut out = io::stdout().lock();
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(RunError::Dock(DockError::output("stdout", error)))
        }
        _ => Ok(()),
    }
}

fn print_verdict(out: &mut io::StdoutLock<'_>, verdict: &Verdict, json: bool) -> io::Result<()> {
    if json {
        return writeln!(out, "{}", verdict.to_json());
    }
    for finding in &verdict.findings {
        writeln!(out, "finding  {finding}")?;
    }
    if let Some(bugcheck) = &verdict.bugcheck {
        writeln!(out, "bugcheck {bugcheck}")?;
    }
    if let Some(failure) = &verdict.failure {
        writeln!(out, "failed   {}", printable(failure))?;
    }
    for action in &verdict.actions {
        writeln!(out, "action   {action}")?;
    }
    if verdict.events_lost > 0 {
        writeln!(out, "note     {} events were overwritten before they could be read", verdict.events_lost)?;
    }
    for untold in &verdict.untold {
        writeln!(out, "note     {untold}")?;
    }
    if let Some(file) = &verdict.crash_file {
        writeln!(out, "crash    {}", printable(file))?;
    }
    writeln!(out, "verdict  {} ({})", colour(verdict.outcome), verdict.counts)
}

/// The outcome's name, coloured on a terminal.
fn colour(outcome: Outcome) -> String {
    let code = match outcome {
        Outcome::Clean => 32,
        Outcome::Findings => 33,
        Outcome::Bugcheck | Outcome::DriverFailed | Outcome::HostFailed => 31,
    };
    if io::stdout().is_terminal() && !forbids_colour(std::env::var_os("NO_COLOR").as_deref()) {
        format!("\x1b[1;{code}m{outcome}\x1b[0m")
    } else {
        outcome.to_string()
    }
}

/// Whether a value of NO_COLOR says no; an empty one does not (no-color.org).
fn forbids_colour(no_color: Option<&OsStr>) -> bool {
    no_color.is_some_and(|value| !value.is_empty())
}

/// Columns for the text figure.
fn terminal_width() -> usize {
    std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).unwrap_or(120)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_no_color_is_as_good_as_none() {
        assert!(!forbids_colour(None) && !forbids_colour(Some(OsStr::new(""))));
        assert!(forbids_colour(Some(OsStr::new("0"))));
    }
}
