//! Judging images without running them.

use std::path::Path;
use std::{fs, io};

use gate::export::Export;
use inspect::{ExportInfo, Report};

use crate::child::IMAGE_BYTES_MAX;
use crate::error::DockError;

/// Judges driver images as if they were loaded in this order: each may import from those before it.
///
/// # Errors
/// When a file cannot be read. An image that cannot be loaded is a report.
pub fn inspect(paths: &[impl AsRef<Path>]) -> Result<Vec<Report>, DockError> {
    let mut reports: Vec<Report> = Vec::new();
    for path in paths {
        let path = path.as_ref();
        let file = read(path).map_err(DockError::input(path))?;
        let name =
            path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
        let resolver = |module: &str, name: &str| {
            let of_driver = || exported(&reports, module, name);
            of_driver().or_else(|| crate::child::resolve(module, name).map(described))
        };
        let report = inspect::inspect(&file, &name, &resolver);
        reports.push(report);
    }
    Ok(reports)
}

/// Reports as one JSON array.
pub fn inspection_json(reports: &[Report]) -> String {
    serde_json::to_string_pretty(reports).expect("a report holds strings and numbers only")
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    // Neither a device nor a pipe, which may never end.
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
    }
    if metadata.len() > IMAGE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {IMAGE_BYTES_MAX} bytes")));
    }
    fs::read(path)
}

/// What an image that is loaded before exports.
fn exported(before: &[Report], module: &str, name: &str) -> Option<ExportInfo> {
    let driver = before.iter().find(|report| report.name.eq_ignore_ascii_case(module))?;
    let has_it = driver.exports.iter().any(|export| export == name);
    has_it.then(|| ExportInfo { signature: String::new(), rules: String::new() })
}

fn described(export: &'static Export) -> ExportInfo {
    ExportInfo { signature: export.signature.to_owned(), rules: export.rules.to_owned() }
}
