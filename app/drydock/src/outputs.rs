//! What is written down about a run: the account, the trace, the figure, the crash file.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use figure::{Narrator, Options, Stop};
use nt_abi::exception::BugCheck;
use trace::{BugCheckRecord, Event, Record, TraceReader};
use verifier::Verifier;

use crate::verdict::{Finding, Outcome, Verdict};
use crate::{DockError, names};

/// Most events a figure is drawn from; beyond them the run is too long for one page anyway.
const FIGURE_EVENTS_MAX: usize = 200_000;
/// How many lines that drivers print are kept for expectations.
const PRINTS_MAX: usize = 10_000;
/// How many of the last events a crash file shows.
const CRASH_EVENTS: usize = 200;
/// Most crash files in a folder.
const CRASH_FILES_MAX: u32 = 10_000;

/// What the user asked for.
#[derive(Default)]
pub struct Wanted {
    pub figure: Option<PathBuf>,
    /// Its width, and where it goes.
    pub text_figure: Option<(usize, Box<dyn Write>)>,
    pub trace: Option<PathBuf>,
    pub capture: Option<PathBuf>,
    pub account: Option<Box<dyn Write>>,
    pub crash_directory: Option<PathBuf>,
    /// Files that the run was described by: no output overwrites them.
    pub inputs: Vec<PathBuf>,
    /// The folder that drivers have files in: no output goes there.
    pub files: Option<PathBuf>,
    /// Where it is said how to attach a debugger, if one is waited for.
    pub debugger: Option<Box<dyn Write>>,
    /// The verdict must rest on every event.
    pub every_event: bool,
}

/// What the events themselves show.
pub struct Broken {
    /// Rules that were broken.
    pub findings: Vec<Finding>,
    /// What could not be judged, in words.
    pub untold: Vec<String>,
}

impl Wanted {
    /// Whether something is wanted that lost events would spoil.
    pub fn needs_every_event(&self) -> bool {
        self.every_event || self.figure.is_some() || self.text_figure.is_some() || self.trace.is_some()
    }
}

/// The open outputs of a run.
pub struct Outputs {
    wanted: Wanted,
    trace: Option<BufWriter<File>>,
    narrator: Narrator,
    verifier: Verifier,
    figure: Vec<Record>,
    last: VecDeque<Record>,
    prints: Vec<String>,
    /// What could not be written. The run goes on and is judged all the same.
    unwritten: Vec<String>,
}

impl Outputs {
    /// Opens the files first, so that a run is not made in vain. None overwrites what the run was described by.
    pub fn open(wanted: Wanted) -> Result<Self, DockError> {
        let identity = |path: &PathBuf| path.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()));
        let regular = |path: &&PathBuf| path.is_file();
        let mut taken: Vec<_> = wanted.inputs.iter().filter_map(identity).collect();
        let create = |path: &PathBuf| File::create(path).map_err(DockError::file(path));
        if let Some(folder) = wanted.files.as_ref().and_then(|folder| folder.canonicalize().ok()) {
            // A file that is not there yet has a folder that is.
            let place = |path: &PathBuf| {
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
                path.canonicalize().or_else(|_| parent.canonicalize())
            };
            let lies_there = |path: &&PathBuf| place(path).is_ok_and(|place| place.starts_with(&folder));
            let outputs = [&wanted.trace, &wanted.figure, &wanted.capture];
            if let Some(path) = outputs.into_iter().flatten().find(lies_there) {
                return Err(DockError::InDriversFolder(path.clone()));
            }
        }
        // Only a file that is there shows that it is another's. A pipe is opened once, or its reader would see an end.
        for path in [&wanted.trace, &wanted.figure].into_iter().flatten().filter(|path| !path.exists()) {
            create(path)?;
        }
        for path in [&wanted.trace, &wanted.figure, &wanted.capture].into_iter().flatten().filter(regular) {
            let Some(identity) = identity(path) else { continue };
            if taken.contains(&identity) {
                return Err(DockError::WouldOverwrite(path.clone()));
            }
            taken.push(identity);
        }
        if let Some(folder) = &wanted.crash_directory {
            std::fs::read_dir(folder).map_err(DockError::file(folder))?;
        }
        let trace = wanted.trace.as_ref().map(create).transpose()?.map(BufWriter::new);
        if let Some(figure) = &wanted.figure {
            create(figure)?;
        }
        let narrator = Narrator::new(names::nt());
        let (figure, last) = (Vec::new(), VecDeque::with_capacity(CRASH_EVENTS));
        Ok(Self {
            wanted,
            trace,
            narrator,
            verifier: Verifier::new(names::nt().function),
            figure,
            last,
            prints: Vec::new(),
            unwritten: Vec::new(),
        })
    }

    /// Takes the next events.
    pub fn take(&mut self, records: Vec<Record>) {
        for record in records {
            self.verifier.observe(&record);
            if let Some(file) = &mut self.trace
                && let Err(error) = export::write_json_line(file, &record)
            {
                self.trace = None;
                self.could_not_write(self.wanted.trace.clone(), &error);
            }
            if self.wanted.account.is_some() {
                let lines = self.narrator.account(&record);
                self.tell(&lines);
            }
            if self.draws() && self.figure.len() < FIGURE_EVENTS_MAX {
                self.figure.push(record.clone());
            }
            if matches!(record.event, Event::DebugPrint { .. }) && self.prints.len() < PRINTS_MAX {
                self.prints.push(record.text.trim_end_matches(['\r', '\n']).to_owned());
            }
            if self.last.len() == CRASH_EVENTS {
                self.last.pop_front();
            }
            self.last.push_back(record);
        }
    }

    /// Notes an output that could not be written.
    pub fn could_not_write(&mut self, path: Option<PathBuf>, error: &dyn std::fmt::Display) {
        let what = path.map_or("the account".into(), |path| path.display().to_string());
        self.unwritten.push(format!("cannot write {what}: {error}; choose another place and run again"));
    }

    /// What drivers printed.
    pub fn take_prints(&mut self) -> Vec<String> {
        std::mem::take(&mut self.prints)
    }

    /// Rules that the events themselves show to be broken. `complete`: the run came to its end.
    pub fn broken_rules(&mut self, events_lost: u64, complete: bool) -> Broken {
        let verifier = std::mem::replace(&mut self.verifier, Verifier::new(names::nt().function));
        let report = verifier.finish(events_lost, complete);
        let finding = |found: verifier::Finding| Finding {
            rule: found.rule.into(),
            message: found.message,
            driver: found.driver,
            offset: found.offset,
            source: None,
            in_call: false,
            times: 1,
        };
        // That a run which broke off did not reach its end is what its outcome says.
        let untold = if complete || events_lost > 0 { report.untold } else { Vec::new() };
        Broken { findings: report.findings.into_iter().map(finding).collect(), untold }
    }

    /// Where it is said how to attach a debugger.
    pub fn take_debugger(&mut self) -> Option<Box<dyn Write>> {
        self.wanted.debugger.take()
    }

    /// Writes what can be written only at the end, and notes in the verdict what was and what could not be. `death` goes
    /// into a crash file.
    pub fn finish(mut self, reader: &TraceReader, verdict: &mut Verdict, death: Option<BugCheckRecord>) {
        let lines = self.narrator.end();
        self.tell(&lines);
        let mut options = Options::new(names::nt());
        options.events_lost = verdict.events_lost;
        options.stop = stop(verdict, reader.end_ns());
        if let Some(path) = self.wanted.figure.clone()
            && let Err(error) = std::fs::write(&path, figure::draw(&self.figure, &options))
        {
            self.could_not_write(Some(path), &error);
        }
        if let Some((width, mut to)) = self.wanted.text_figure.take() {
            options.width = width;
            let drawing = figure::text(&self.figure, &options);
            match writeln!(to, "{drawing}") {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    self.unwritten.push(format!("cannot write the text figure: {error}"));
                }
                _ => {}
            }
        }
        if let Some(mut file) = self.trace.take()
            && let Err(error) = file.flush()
        {
            self.could_not_write(self.wanted.trace.clone(), &error);
        }
        if let Some((folder, death)) = self.wanted.crash_directory.take().zip(death) {
            match self.write_crash(&folder, &death, reader) {
                Ok(path) => verdict.crash_file = Some(path.display().to_string()),
                Err(error) => self.could_not_write(Some(folder.join("drydock-crash-N.txt")), &error),
            }
        }
        verdict.unwritten = self.unwritten;
    }

    fn draws(&self) -> bool {
        self.wanted.figure.is_some() || self.wanted.text_figure.is_some()
    }

    fn tell(&mut self, lines: &[String]) {
        let Some(account) = &mut self.wanted.account else { return };
        let written = lines.iter().try_for_each(|line| writeln!(account, "{line}"));
        if let Err(error) = written {
            self.wanted.account = None;
            // A reader that has seen enough, such as head, is no failure.
            if error.kind() != io::ErrorKind::BrokenPipe {
                self.could_not_write(None, &error);
            }
        }
    }

    fn write_crash(&mut self, folder: &Path, death: &BugCheckRecord, reader: &TraceReader) -> io::Result<PathBuf> {
        let (path, file) = new_crash_file(folder)?;
        let crash = export::Crash {
            version: env!("CARGO_PKG_VERSION"),
            name: BugCheck(death.code).name().unwrap_or_default(),
            bugcheck: death,
            images: &reader.images(),
            events: self.last.make_contiguous(),
        };
        crash.write(BufWriter::new(file))?;
        Ok(path)
    }
}

/// `drydock-crash-1.txt`, or the first number after it that is free: no crash overwrites another, and runs beside each other
/// do not meet.
fn new_crash_file(folder: &Path) -> io::Result<(PathBuf, File)> {
    for number in 1..=CRASH_FILES_MAX {
        let path = folder.join(format!("drydock-crash-{number}.txt"));
        match File::create_new(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other.map(|file| (path, file)),
        }
    }
    Err(io::Error::other(format!("{} holds {CRASH_FILES_MAX} crash files already", folder.display())))
}

/// What ended the run early, for figures. `end_ns` is when the process had ended: what stopped it from outside came after a
/// silence, every other end right after the last event.
fn stop(verdict: &Verdict, end_ns: Option<u64>) -> Option<Stop> {
    let after_silence = end_ns.unwrap_or(0);
    match (&verdict.bugcheck, verdict.outcome) {
        (Some(bugcheck), _) => {
            let is_silent = BugCheck(bugcheck.code) == BugCheck::DPC_WATCHDOG_VIOLATION;
            let time_ns = if is_silent { after_silence } else { 0 };
            Some(Stop { text: format!("Bugcheck {bugcheck}"), driver: bugcheck.driver.clone(), time_ns })
        }
        (None, Outcome::HostFailed) => Some(Stop {
            text: verdict.failure.clone().unwrap_or_default(),
            driver: String::new(),
            time_ns: after_silence,
        }),
        _ => None,
    }
}
