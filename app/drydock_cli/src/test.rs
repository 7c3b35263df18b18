//! `drydock test`: runs scenario files and says which went as expected.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use drydock::{DockError, Outcome, Scenario, printable};

use crate::arguments::TestOptions;
use crate::run::{self, RunError};

/// How every report begins.
const XML: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// What became of one scenario.
struct Tested {
    name: String,
    took: Duration,
    /// How it differed from what its file expects, or why it could not be run.
    differences: Vec<String>,
    /// The exit status that it alone would have.
    status: u8,
}

/// Runs all scenarios; 0 if all went as expected, else the greatest of their statuses.
pub fn test(options: &TestOptions) -> Result<u8, RunError> {
    let files = scenario_files(&options.paths)?;
    let cannot_write = |path: &Path| {
        let path = path.display().to_string();
        move |error| RunError::Dock(DockError::output(path, error))
    };
    if let Some(path) = options.junit.as_ref().filter(|path| is_something_else(path)) {
        return Err(RunError::Dock(DockError::WouldOverwrite(path.clone())));
    }
    // Now, so that the tests are not run in vain.
    let mut report = match &options.junit {
        Some(path) => Some((path, std::fs::File::create(path).map_err(cannot_write(path))?)),
        None => None,
    };
    let mut tested = Vec::new();
    // What goes wrong with stdout is told at the end: the report is another output.
    let mut told = Ok(());
    for file in &files {
        let one = run_one(file);
        if drydock::stop_signal().is_some() {
            // The run was broken off, which says nothing about the driver.
            break;
        }
        told = told.and_then(|()| run::print(|out| tell(out, &one)));
        tested.push(one);
    }
    if let Some((path, file)) = &mut report {
        file.write_all(junit(&tested).as_bytes()).map_err(cannot_write(path))?;
    }
    let failed = tested.iter().filter(|one| !one.differences.is_empty()).count();
    told?;
    run::print(|out| writeln!(out, "{} passed, {failed} failed", tested.len() - failed))?;
    if let Some(signal) = drydock::stop_signal() {
        return Ok(128u8.saturating_add(signal as u8));
    }
    Ok(tested.iter().map(|one| one.status).max().unwrap_or(0))
}

/// Whether a report must not go here: to a file that has something in it and is no report, such as a scenario or a driver.
fn is_something_else(path: &Path) -> bool {
    let mut beginning = Vec::new();
    let file = std::fs::File::open(path).ok().filter(|_| path.is_file());
    let read = file.and_then(|file| file.take(XML.len() as u64).read_to_end(&mut beginning).ok());
    read.is_some() && !beginning.is_empty() && beginning != XML.as_bytes()
}

/// The files named, and the `.toml` files of the folders named, in the order of their names.
fn scenario_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, RunError> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let cannot = |error: io::Error| RunError::Usage(format!("cannot read {}: {error}", path.display()), "test");
        let mut found = Vec::new();
        for entry in path.read_dir().map_err(cannot)? {
            let entry = entry.map_err(cannot)?.path();
            if entry.extension().is_some_and(|ending| ending == "toml") {
                found.push(entry);
            }
        }
        found.sort();
        if found.is_empty() {
            return Err(RunError::Usage(format!("{} holds no scenario file (*.toml)", path.display()), "test"));
        }
        files.extend(found);
    }
    Ok(files)
}

fn run_one(file: &Path) -> Tested {
    let started = Instant::now();
    let name = file.file_stem().map_or_else(|| file.display().to_string(), |stem| stem.to_string_lossy().into_owned());
    let (differences, status) = match Scenario::load(file) {
        Err(error) => (vec![error.to_string()], crate::EX_USAGE),
        Ok(scenario) => match scenario.dock().run() {
            Err(error) => {
                let error = RunError::Dock(error);
                (vec![error.to_string()], error.exit_status())
            }
            Ok(verdict) => {
                let differences = scenario.differences(&verdict);
                let status = match (differences.is_empty(), verdict.outcome) {
                    (true, _) => 0,
                    (false, Outcome::HostFailed) => 2,
                    (false, _) => 1,
                };
                (differences, status)
            }
        },
    };
    Tested { name, took: started.elapsed(), differences, status }
}

fn tell(out: &mut io::StdoutLock<'_>, one: &Tested) -> io::Result<()> {
    let word = if one.differences.is_empty() { "ok" } else { "FAILED" };
    writeln!(out, "{word:<6} {} ({:.3} s)", one.name, one.took.as_secs_f64())?;
    for difference in &one.differences {
        for line in difference.lines() {
            writeln!(out, "       {}", printable(line))?;
        }
    }
    Ok(())
}

/// JUnit XML as CI systems read it: one suite, a case for each scenario.
fn junit(tested: &[Tested]) -> String {
    let failed = tested.iter().filter(|one| !one.differences.is_empty()).count();
    let total: Duration = tested.iter().map(|one| one.took).sum();
    let mut text = String::from(XML);
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "<testsuite name=\"drydock\" tests=\"{}\" failures=\"{failed}\" time=\"{:.3}\">",
        tested.len(),
        total.as_secs_f64()
    );
    for one in tested {
        let (name, took) = (escaped(&one.name), one.took.as_secs_f64());
        let _ = write!(text, "  <testcase classname=\"drydock\" name=\"{name}\" time=\"{took:.3}\"");
        if one.differences.is_empty() {
            text.push_str("/>\n");
            continue;
        }
        let message = escaped(&one.differences[0]);
        let all = escaped(&one.differences.join("\n"));
        let _ = writeln!(text, ">\n    <failure message=\"{message}\">{all}</failure>\n  </testcase>");
    }
    text.push_str("</testsuite>\n");
    text
}

/// Text as it may stand in an element or an attribute. Characters that XML cannot hold become question marks.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'.. => out.push(character),
            _ => out.push('?'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn junit_counts_failures_and_escapes_what_drivers_say() {
        let one = |name: &str, differences: &[&str]| Tested {
            name: name.into(),
            took: Duration::from_millis(1500),
            differences: differences.iter().map(|text| (*text).into()).collect(),
            status: 0,
        };
        let xml = junit(&[one("good", &[]), one("b&d", &["printed <\"\u{1}\">", "second"])]);
        assert!(xml.contains(r#"tests="2" failures="1" time="3.000""#), "{xml}");
        assert!(xml.contains(r#"<testcase classname="drydock" name="good" time="1.500"/>"#), "{xml}");
        assert!(xml.contains(r#"name="b&amp;d""#), "{xml}");
        assert!(xml.contains("printed &lt;&quot;?&quot;&gt;&#10;second"), "{xml}");
    }
}
