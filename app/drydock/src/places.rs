//! Functions and lines for what is blamed on an offset, where the driver's debug information lies beside its image.

use std::collections::HashMap;
use std::path::Path;

use symbols::{SourcePlace, Symbols};

use crate::plan::Plan;
use crate::verdict::Verdict;

/// Adds function and line to every finding and to the bugcheck. Without debug information everything stays as it is.
pub fn add(verdict: &mut Verdict, plan: &Plan) {
    let mut known = Known { plan, read: HashMap::new() };
    for finding in &mut verdict.findings {
        // What is blamed on a call is known by its return address: the call is what stands before it.
        let offset = finding.offset.map(|offset| offset - u64::from(finding.in_call).min(offset));
        finding.source = known.source(&finding.driver, offset);
    }
    if let Some(bugcheck) = &mut verdict.bugcheck {
        let offset = bugcheck.offset.map(|offset| offset - u64::from(bugcheck.in_call).min(offset));
        bugcheck.source = known.source(&bugcheck.driver, offset);
    }
}

/// Symbols of the run's drivers, read when first asked for.
struct Known<'a> {
    plan: &'a Plan,
    read: HashMap<String, Option<Symbols>>,
}

impl Known<'_> {
    fn source(&mut self, driver: &str, offset: Option<u64>) -> Option<String> {
        let offset = offset.filter(|_| !driver.is_empty())?;
        let plan = self.plan;
        let symbols = self.read.entry(driver.to_owned()).or_insert_with(|| symbols_of(plan, driver));
        symbols.as_ref()?.place(offset).and_then(|place| in_words(&place))
    }
}

fn symbols_of(plan: &Plan, driver: &str) -> Option<Symbols> {
    let named = |path: &&std::path::PathBuf| path.file_name().is_some_and(|name| name == driver);
    // What cannot be read has no symbols; that the image itself could not be read is told elsewhere.
    Symbols::beside(plan.drivers.iter().find(named)?).ok().flatten()
}

/// `function (file.c:12)`, or what there is of it.
fn in_words(place: &SourcePlace) -> Option<String> {
    let file = place
        .file
        .as_deref()
        .map(|file| Path::new(file).file_name().map_or(file.into(), |name| name.to_string_lossy()));
    let line = file.map(|file| place.line.map_or(file.to_string(), |line| format!("{file}:{line}")));
    match (&place.function, line) {
        (Some(function), Some(line)) => Some(format!("{function} ({line})")),
        (Some(function), None) => Some(function.clone()),
        (None, line) => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_place_is_said() {
        let place = |function: Option<&str>, file: Option<&str>, line| SourcePlace {
            function: function.map(Into::into),
            file: file.map(Into::into),
            line,
        };
        assert_eq!(in_words(&place(Some("F"), Some("/a/b.c"), Some(3))).as_deref(), Some("F (b.c:3)"));
        assert_eq!(in_words(&place(Some("F"), None, None)).as_deref(), Some("F"));
        assert_eq!(in_words(&place(None, Some("b.c"), None)).as_deref(), Some("b.c"));
        assert_eq!(in_words(&place(None, None, None)), None);
    }
}
