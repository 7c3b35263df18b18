//! Where the parts of a file go in the image, checked against the file and against each other.

use std::ops::Range;

use crate::ImageError;
use crate::headers::{Headers, Section};

/// The parts of an image.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Bytes of the image, as its header says.
    pub size: u32,
    headers_size: u32,
    /// Ordered by offset; none is empty, and each lies inside the image and behind the one before.
    pub sections: Vec<Section>,
}

impl Layout {
    /// The layout that headers describe. `file` is the file they were read from.
    ///
    /// # Errors
    /// When sections lie outside of the file or of the image, or over each other, or when it asks for too much.
    pub fn of(headers: &Headers, file: &[u8]) -> Result<Self, ImageError> {
        if u64::from(headers.size) > ImageError::SIZE_MAX {
            return Err(ImageError::TooLarge(headers.size.into()));
        }
        if headers.headers_size > headers.size || headers.size == 0 {
            return Err(ImageError::BadHeader("the size of its headers and of the image"));
        }
        if headers.headers_size as usize > file.len() {
            return Err(truncated("headers", u64::from(headers.headers_size), file));
        }
        let mut sections = headers.sections.clone();
        sections.retain(|section| section.size != 0);
        sections.sort_by_key(|section| section.offset);
        let mut end = u64::from(headers.headers_size);
        for section in &sections {
            let section_end = u64::from(section.offset) + u64::from(section.size);
            if u64::from(section.offset) < end || section_end > u64::from(headers.size) {
                return Err(ImageError::BadSection(section.name.clone()));
            }
            end = section_end;
            let file_end = u64::from(section.file_offset) + u64::from(section.file_size);
            if section.file_size != 0 && file_end > file.len() as u64 {
                return Err(truncated("sections", file_end, file));
            }
        }
        Ok(Self { size: headers.size, headers_size: headers.headers_size, sections })
    }

    /// Copies headers and sections from the file to the image.
    pub fn copy(&self, file: &[u8], image: &mut [u8]) {
        let headers = 0..self.headers_size as usize;
        copy(file, headers.clone(), image, headers);
        for section in &self.sections {
            let length = section.file_size as usize;
            let (from, to) = (section.file_offset as usize, section.offset as usize);
            copy(file, from..from + length, image, to..to + length);
        }
    }

    /// Whether an offset lies in an executable section.
    pub fn is_code(&self, offset: u32) -> bool {
        self.code().any(|section| (section.offset..section.offset + section.size).contains(&offset))
    }

    /// The executable sections.
    pub fn code(&self) -> impl Iterator<Item = &Section> {
        self.sections.iter().filter(|section| section.is_executable())
    }

    /// Addresses of the executable sections of an image at `base`.
    pub fn text(&self, base: u64) -> Vec<Range<u64>> {
        self.code()
            .map(|section| (base + u64::from(section.offset), u64::from(section.size)))
            .map(|(start, size)| start..start + size)
            .collect()
    }

    /// Where the section's bytes from the file lie in the image. The rest of it is zero: no code, no tables.
    pub fn filled(section: &Section) -> Range<u32> {
        section.offset..section.offset + section.file_size
    }
}

fn truncated(what: &'static str, needed: u64, file: &[u8]) -> ImageError {
    ImageError::Truncated { what, needed, length: file.len() as u64 }
}

/// Copies between ranges of equal length that were checked before; what is outside is left out.
fn copy(file: &[u8], from: Range<usize>, image: &mut [u8], to: Range<usize>) {
    if let (Some(from), Some(to)) = (file.get(from), image.get_mut(to)) {
        to.copy_from_slice(from);
    }
}
