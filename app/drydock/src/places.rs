//! Functions and lines for what is blamed on an offset, where the driver's debug information lies beside its image.

use std::collections::BTreeMap;
use std::path::Path;

use crate::plan::Plan;
use crate::symbol_reader::{self, Answer};
use crate::verdict::Verdict;

/// Adds function and line to every finding and to the bugcheck. Without debug information everything stays as it is.
/// `program` is what reads it in a process of its own.
pub fn add(verdict: &mut Verdict, plan: &Plan, program: &Path) {
    let mut wanted = BTreeMap::<String, Vec<u64>>::new();
    for_each(verdict, |driver, offset, _| wanted.entry(driver.to_owned()).or_default().push(offset));
    let mut known = BTreeMap::new();
    for (driver, mut offsets) in wanted {
        // Two drivers of one file name are never loaded: their services would have one name, too.
        let named = |path: &&std::path::PathBuf| path.file_name().is_some_and(|name| *name == *driver);
        let Some(path) = plan.drivers.iter().find(named) else { continue };
        offsets.sort_unstable();
        offsets.dedup();
        match symbol_reader::read(program, path, &offsets) {
            Ok(Answer { sources, unheld }) => {
                verdict.untold.extend(unheld.map(|why| unheld_reader(&driver, &why)));
                let places = offsets.into_iter().zip(sources);
                known.extend(places.map(|(offset, source)| ((driver.clone(), offset), source)));
            }
            Err(why) => verdict.untold.push(format!(
                "functions and lines in {driver} are not told: its debug information could not be read ({why})"
            )),
        }
    }
    for_each(verdict, |driver, offset, source| *source = known.get(&(driver.to_owned(), offset)).cloned().flatten());
}

fn unheld_reader(driver: &str, why: &str) -> String {
    format!("what read the debug information of {driver}, a stranger's, was not held in: {why}")
}

/// Visits everything that is blamed on an offset: the driver, the offset to look up, and where the answer goes.
fn for_each(verdict: &mut Verdict, mut visit: impl FnMut(&str, u64, &mut Option<String>)) {
    let findings = verdict.findings.iter_mut();
    let findings = findings.map(|finding| (&finding.driver, finding.offset, finding.in_call, &mut finding.source));
    let bugcheck = verdict.bugcheck.iter_mut();
    let bugcheck = bugcheck.map(|death| (&death.driver, death.offset, death.in_call, &mut death.source));
    for (driver, offset, in_call, source) in findings.chain(bugcheck) {
        if let Some(offset) = offset.filter(|_| !driver.is_empty()) {
            // What is blamed on a call is known by its return address: the call is what stands before it.
            visit(driver, offset - u64::from(in_call).min(offset), source);
        }
    }
}
