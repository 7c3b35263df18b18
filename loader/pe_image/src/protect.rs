//! The access that pages get once an image is complete.

use std::io;
use std::ops::Range;

use arena::PAGE;

use crate::Warning;
use crate::layout::Layout;
use crate::mapping::{Access, Mapping};

/// A run of pages with one access, counted from the image's start.
type Run = (Range<u64>, Access);

/// Gives every page the access that its sections ask for; headers can be read, what lies between sections cannot.
/// Returns the sections with code that the driver may change.
pub fn protect(mapping: &Mapping, layout: &Layout, headers_size: u32) -> io::Result<Vec<Warning>> {
    let (runs, warnings) = runs(layout, headers_size);
    let mut next = 0;
    for (pages, access) in runs {
        if next < pages.start {
            mapping.protect(next..pages.start, Access::default())?;
        }
        next = pages.end;
        mapping.protect(pages, access)?;
    }
    let end = u64::from(layout.size).div_ceil(PAGE as u64);
    if next < end {
        mapping.protect(next..end, Access::default())?;
    }
    Ok(warnings)
}

fn runs(layout: &Layout, headers_size: u32) -> (Vec<Run>, Vec<Warning>) {
    let header_pages = 0..u64::from(headers_size).div_ceil(PAGE as u64).max(1);
    let mut runs = vec![(header_pages, Access { read: true, ..Access::default() })];
    let mut warnings = Vec::new();
    for section in &layout.sections {
        let access = Access { read: true, write: section.is_writable(), execute: section.is_executable() };
        let first = u64::from(section.offset) / PAGE as u64;
        let end = (u64::from(section.offset) + u64::from(section.size)).div_ceil(PAGE as u64);
        let mut shared = access;
        // Sections lie one behind the other, so they share at most the last page of what is there.
        match runs.last_mut() {
            Some((last, other)) if last.end > first => {
                shared =
                    Access { read: true, write: other.write || access.write, execute: other.execute || access.execute };
                last.end = first;
                runs.push((first..first + 1, shared));
                runs.push((first + 1..end, access));
            }
            _ => runs.push((first..end, access)),
        }
        if access.write && access.execute || shared.write && shared.execute {
            warnings.push(Warning::WritableCode(section.name.clone()));
        }
        runs.retain(|(pages, _)| !pages.is_empty());
    }
    (runs, warnings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::Headers;
    use test_image::TestImage;

    fn runs_of(image: &TestImage) -> (Vec<Run>, Vec<Warning>) {
        let file = image.build();
        let headers = Headers::read(&file).expect("valid headers");
        runs(&Layout::of(&headers, &file).expect("a valid layout"), headers.headers_size)
    }

    #[test]
    fn sections_on_pages_of_their_own_get_what_they_ask_for() {
        let mut image = TestImage::new();
        image.section(".text", b"\xC3", 0x6000_0020);
        image.section(".data", &[0; 0x1800], 0xC000_0040);
        let (runs, warnings) = runs_of(&image);
        let read = Access { read: true, ..Access::default() };
        assert_eq!(
            runs,
            [(0..1, read), (1..2, Access { execute: true, ..read }), (2..4, Access { write: true, ..read })]
        );
        assert!(warnings.is_empty());
    }

    #[test]
    fn page_shared_by_code_and_data_gets_both_and_a_warning() {
        let mut image = TestImage::new();
        image.alignment = 0x200;
        image.section(".text", &[0xC3; 0x1000], 0x6000_0020);
        image.section(".data", &[0; 0x1000], 0xC000_0040);
        let (runs, warnings) = runs_of(&image);
        let read = Access { read: true, ..Access::default() };
        let execute = Access { execute: true, ..read };
        assert_eq!(runs[0], (0..1, execute), "headers and code");
        assert_eq!(runs[1], (1..2, Access { write: true, ..execute }), "code and data");
        assert_eq!(runs[2], (2..3, Access { write: true, ..read }));
        assert_eq!(warnings, [Warning::WritableCode(".data".to_owned())]);
    }
}
