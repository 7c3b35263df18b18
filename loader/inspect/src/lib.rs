//! Judges a driver image without running it.
//!
//! [`inspect`] reads a file and says what the image is, whether Drydock loads it, which of its imports are there and
//! what the missing ones block, which devices and registry keys its strings name, which of its instructions a process
//! cannot execute as they are, what it is built on, and, for what it uses of TDI, what takes its place in Winsock
//! Kernel and in the Windows Filtering Platform. The [`Report`] prints as text and serialises as JSON.
//!
//! Invariants: any file gives a report, also one that is no image; time and memory are bounded by the file's size.
//!
//! What is said about code and strings is what can be seen in them. Names and requests that are put together at run
//! time are not seen, and of the code only that which is certainly code is looked at.

#![forbid(unsafe_code)]

mod display;
mod exceptions;
mod facts;
mod imports;
mod instructions;
mod names;
mod references;
mod report;
mod tdi;
mod technologies;

use pe_image::{Code, Function, Headers, ImageFile, Import, MACHINE_AMD64, SUBSYSTEM_NATIVE};

pub use report::{
    Blocks, Checksum, Exceptions, Facts, Import as ImportReport, ImportState, Instruction, Module, Name, NameKind,
    Report, Section, Signature, Technology, Treatment, Verdict,
};
pub use tdi::TdiUse;

use references::References;
use tdi::Subject;

/// What is told about an export of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportInfo {
    /// Its signature, empty for a variable.
    pub signature: String,
    /// The rules it follows, separated by blanks.
    pub rules: String,
}

/// Judges an image. `name` is its file name; `resolver` tells what the module and name of an import lead to, if
/// anybody implements it.
pub fn inspect(file: &[u8], name: &str, resolver: &dyn Fn(&str, &str) -> Option<ExportInfo>) -> Report {
    let mut report = Report {
        name: name.to_owned(),
        file_size: file.len() as u64,
        verdict: Verdict::Runs,
        image: None,
        notes: Vec::new(),
        technologies: Vec::new(),
        imports: Vec::new(),
        exports: Vec::new(),
        exceptions: None,
        names: Vec::new(),
        instructions: Vec::new(),
        instructions_left_out: 0,
        tdi: Vec::new(),
    };
    let headers = match Headers::read(file) {
        Ok(headers) => headers,
        Err(error) => {
            report.verdict = Verdict::Refused { reason: error.to_string() };
            return report;
        }
    };
    let mut layout = match ImageFile::read(file) {
        Ok(layout) => layout,
        Err(error) => {
            report.image = Some(facts::facts(file, &headers, None));
            // The processor is the better reason.
            let reason = headers.judge().err().unwrap_or(error);
            report.verdict = Verdict::Refused { reason: reason.to_string() };
            return report;
        }
    };
    report.image = Some(facts::facts(file, &headers, Some(&layout)));
    let refusal = layout.check().err();
    describe(&mut report, &layout, resolver);
    report.notes = notes(&report, &headers);
    report.verdict = match refusal {
        Some(error) => Verdict::Refused { reason: error.to_string() },
        None => verdict(&report.imports),
    };
    report
}

/// Fills in everything that needs more than the headers. Tables that cannot be read are left empty: the verdict says
/// so.
fn describe(report: &mut Report, layout: &ImageFile, resolver: &dyn Fn(&str, &str) -> Option<ExportInfo>) {
    let imports = layout.imports().unwrap_or_default();
    let is_x64 = layout.headers().machine == MACHINE_AMD64 && layout.headers().is_64_bit;
    let functions = if is_x64 { layout.functions().unwrap_or_default() } else { Vec::new() };
    let code = if is_x64 { layout.code(&functions).ok() } else { None };

    report.exports = layout.exports().map(|exports| exports.named.into_keys().collect()).unwrap_or_default();
    report.names = names::names(layout);
    match &code {
        Some(code) => describe_code(report, layout, code, &functions, &imports, resolver),
        None => report.imports = imports::modules(&imports, None, resolver),
    }
    let subject = Subject { layout, code: code.as_ref(), imports: &report.imports, names: &report.names };
    let (uses, role) = tdi::uses(&subject);
    report.technologies =
        technologies::technologies(&report.imports, &report.names, report.exceptions.as_ref(), &uses, role);
    report.tdi = uses;
}

fn describe_code(
    report: &mut Report,
    layout: &ImageFile,
    code: &Code<'_>,
    functions: &[Function],
    imports: &[Import],
    resolver: &dyn Fn(&str, &str) -> Option<ExportInfo>,
) {
    let references = References::of(code, &imports::slots(imports), layout.headers().entry);
    report.imports = imports::modules(imports, Some((code, &references)), resolver);
    report.exceptions = exceptions::exceptions(functions, code, imports);
    (report.instructions, report.instructions_left_out) = instructions::instructions(code);
}

fn verdict(imports: &[Module]) -> Verdict {
    let missing = imports.iter().flat_map(|module| &module.imports).filter_map(|import| match import.state {
        ImportState::Missing { blocks } => Some(blocks),
        ImportState::Implemented { .. } => None,
    });
    let missing: Vec<_> = missing.collect();
    match missing.len() {
        0 => Verdict::Runs,
        count => Verdict::Stops { missing: count, while_starting: missing.contains(&Blocks::Starting) },
    }
}

fn notes(report: &Report, headers: &Headers) -> Vec<String> {
    let mut notes = Vec::new();
    let Some(image) = &report.image else { return notes };
    if headers.subsystem != SUBSYSTEM_NATIVE {
        notes.push(format!(
            "It was linked as {} and not as a driver (subsystem native, 1); a program will not run here.",
            image.subsystem
        ));
    }
    if let Checksum::Wrong { stored, computed } = image.checksum {
        notes.push(format!(
            "Its checksum is {stored:#010x} and should be {computed:#010x}: the file was changed after it was linked, and \
             Windows refuses it. Drydock does not mind."
        ));
    }
    if image.signature == Signature::Damaged {
        notes.push("Its header names a signature that is not in the file.".to_owned());
    }
    if let Some(section) = image.sections.iter().find(|section| section.write && section.execute) {
        notes.push(format!("Section {:?} can be written and executed at once.", section.name));
    }
    notes
}
