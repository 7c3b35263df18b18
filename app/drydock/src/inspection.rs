//! Judging images without running them.

use std::path::Path;
use std::{fs, io};

use gate::export::Export;
use inspect::{ExportInfo, Report};
use pe_image::{Exports, ImageFile};

use crate::child::IMAGE_BYTES_MAX;
use crate::error::DockError;

/// Judges driver images as if they were loaded together: each may import from the others.
///
/// # Errors
/// When a file cannot be read. An image that cannot be loaded is a report.
pub fn inspect(paths: &[impl AsRef<Path>]) -> Result<Vec<Report>, DockError> {
    let mut files = Vec::new();
    for path in paths {
        let path = path.as_ref();
        let name =
            path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
        files.push((name, read(path).map_err(DockError::input(path))?));
    }
    let exporters: Vec<(&str, Exports)> = files
        .iter()
        // One that cannot be read exports nothing; its report says why.
        .filter_map(|(name, file)| Some((name.as_str(), ImageFile::read(file).ok()?.exports().ok()?)))
        .collect();
    let resolver = |module: &str, name: &str| {
        exported(&exporters, module, name).or_else(|| crate::child::resolve(module, name).map(described))
    };
    Ok(files.iter().map(|(name, file)| inspect::inspect(file, name, &resolver)).collect())
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

/// What one of the images exports.
fn exported(exporters: &[(&str, Exports)], module: &str, name: &str) -> Option<ExportInfo> {
    let (_, exports) = exporters.iter().find(|(exporter, _)| exporter.eq_ignore_ascii_case(module))?;
    let has_it = exports.get(name).is_some() || exports.forwarded.contains_key(name);
    has_it.then(|| ExportInfo { signature: String::new(), rules: String::new() })
}

fn described(export: &'static Export) -> ExportInfo {
    ExportInfo { signature: export.signature.to_owned(), rules: export.rules.to_owned() }
}
