//! What is written down about a run: the account, the trace, the figure, the crash file.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use figure::{Narrator, Options};
use nt_abi::exception::BugCheck;
use trace::{Event, Record, TraceReader};
use verifier::Verifier;

use crate::verdict::{Finding, Verdict};
use crate::{DockError, names};

/// Most events a figure is drawn from; beyond them the run is too long for one page anyway.
const FIGURE_EVENTS_MAX: usize = 200_000;
/// How many lines that drivers print are kept for expectations.
const PRINTS_MAX: usize = 10_000;
/// How many of the last events a crash file shows.
const CRASH_EVENTS: usize = 200;

/// What the user asked for.
#[derive(Default)]
pub struct Wanted {
    pub figure: Option<PathBuf>,
    pub text_figure: Option<usize>,
    pub trace: Option<PathBuf>,
    pub capture: Option<PathBuf>,
    pub account: Option<Box<dyn Write>>,
    pub crash_directory: Option<PathBuf>,
}

impl Wanted {
    /// Whether something is wanted that lost events would spoil.
    pub fn needs_every_event(&self) -> bool {
        self.figure.is_some() || self.text_figure.is_some() || self.trace.is_some()
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
}

impl Outputs {
    /// Opens the files first, so that a run is not made in vain.
    pub fn open(wanted: Wanted) -> Result<Self, DockError> {
        let create = |path: &PathBuf| File::create(path).map_err(DockError::file(path));
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
        })
    }

    /// Takes the next events.
    pub fn take(&mut self, records: Vec<Record>) -> Result<(), DockError> {
        for record in records {
            self.verifier.observe(&record);
            if let (Some(file), Some(path)) = (&mut self.trace, &self.wanted.trace) {
                export::write_json_line(file, &record).map_err(DockError::file(path))?;
            }
            if self.wanted.account.is_some() {
                let lines = self.narrator.account(&record);
                self.tell(&lines)?;
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
        Ok(())
    }

    /// What drivers printed.
    pub fn take_prints(&mut self) -> Vec<String> {
        std::mem::take(&mut self.prints)
    }

    /// Rules that the events themselves show to be broken. `complete`: the run came to its end.
    pub fn broken_rules(&mut self, events_lost: u64, complete: bool) -> Vec<Finding> {
        let verifier = std::mem::replace(&mut self.verifier, Verifier::new(names::nt().function));
        let report = verifier.finish(events_lost, complete);
        let finding = |found: verifier::Finding| Finding {
            rule: found.rule.into(),
            message: found.message,
            driver: found.driver,
            offset: None,
            source: None,
            times: 1,
        };
        report.findings.into_iter().map(finding).collect()
    }

    /// Writes what can be written only at the end.
    pub fn finish(mut self, reader: &TraceReader, verdict: &Verdict) -> Result<(), DockError> {
        let lines = self.narrator.end();
        self.tell(&lines)?;
        let mut options = Options::new(names::nt());
        options.events_lost = verdict.events_lost;
        if let Some(path) = &self.wanted.figure {
            std::fs::write(path, figure::draw(&self.figure, &options)).map_err(DockError::file(path))?;
        }
        if let Some(width) = self.wanted.text_figure {
            options.width = width;
            let drawing = figure::text(&self.figure, &options);
            self.tell(&[drawing])?;
        }
        if let (Some(mut file), Some(path)) = (self.trace.take(), &self.wanted.trace) {
            file.flush().map_err(DockError::file(path))?;
        }
        if let Some(folder) = self.wanted.crash_directory.take() {
            self.write_crash(&folder, reader)?;
        }
        Ok(())
    }

    fn draws(&self) -> bool {
        self.wanted.figure.is_some() || self.wanted.text_figure.is_some()
    }

    fn tell(&mut self, lines: &[String]) -> Result<(), DockError> {
        let Some(account) = &mut self.wanted.account else { return Ok(()) };
        for line in lines {
            writeln!(account, "{line}").map_err(|error| DockError::output("the account", error))?;
        }
        Ok(())
    }

    fn write_crash(&mut self, folder: &Path, reader: &TraceReader) -> Result<(), DockError> {
        let Some(record) = reader.bugcheck() else { return Ok(()) };
        let path = folder.join("drydock-crash.txt");
        let crash = export::Crash {
            version: env!("CARGO_PKG_VERSION"),
            name: BugCheck(record.code).name().unwrap_or_default(),
            bugcheck: &record,
            images: &reader.images(),
            events: self.last.make_contiguous(),
        };
        let file = File::create(&path).map_err(DockError::file(&path))?;
        crash.write(BufWriter::new(file)).map_err(DockError::file(&path))?;
        self.tell(&[format!("crash file: {}", path.display())])
    }
}
