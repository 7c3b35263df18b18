//! `drydock inspect`.

use std::io::{self, Write};

use drydock::{InspectionVerdict, Report};

use crate::arguments::InspectOptions;
use crate::run::{self, RunError};

/// Judges the images and prints a report for each; gives the exit status.
pub fn inspect(options: &InspectOptions) -> Result<u8, RunError> {
    let reports = drydock::inspect(&options.images).map_err(RunError::Image)?;
    run::print(|out| print(out, &reports, options.json))?;
    Ok(reports.iter().map(status).max().unwrap_or(0))
}

fn status(report: &Report) -> u8 {
    match report.verdict {
        InspectionVerdict::Runs => 0,
        InspectionVerdict::Stops { .. } => 1,
        InspectionVerdict::Refused { .. } => 2,
    }
}

fn print(out: &mut io::StdoutLock<'_>, reports: &[Report], json: bool) -> io::Result<()> {
    if json {
        return writeln!(out, "{}", drydock::inspection_json(reports));
    }
    for (number, report) in reports.iter().enumerate() {
        if number != 0 {
            writeln!(out)?;
        }
        write!(out, "{report}")?;
    }
    Ok(())
}
