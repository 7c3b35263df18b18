//! Writes small PE images for tests, valid ones and ones with a lie in them.
//!
//! Tests of what reads images must run on machines without a compiler for Windows, and must be able to write what
//! no linker would. Sections lie one behind the other in the order they were added; the tables are sections too.
//!
//! ```
//! use test_image::{CODE, TestImage};
//!
//! let mut image = TestImage::new();
//! image.entry = image.section(".text", b"\x31\xC0\xC3", CODE);
//! assert!(image.build().starts_with(b"MZ"));
//! ```

#![forbid(unsafe_code)]

mod tables;

pub use tables::UNWIND_NOTHING;

/// Characteristics of a section with code.
pub const CODE: u32 = 0x6000_0020;
/// Characteristics of a section with data that can be written.
pub const DATA: u32 = 0xC000_0040;
/// Characteristics of a section with data that can be read.
pub const CONSTANTS: u32 = 0x4000_0040;

/// An image to be written. Public fields go into the headers as they are.
#[derive(Clone, Debug)]
pub struct TestImage {
    /// The processor; x86-64 at first.
    pub machine: u16,
    /// `IMAGE_FILE_*` bits; an executable image that can be relocated at first.
    pub characteristics: u16,
    /// 1 for drivers, as it is at first.
    pub subsystem: u16,
    /// Whether it is written as a 64-bit image (PE32+).
    pub is_64_bit: bool,
    /// The preferred base.
    pub base: u64,
    /// Offset of the entry point.
    pub entry: u32,
    /// Sections begin at multiples of this.
    pub alignment: u32,
    /// `SizeOfImage`, if it is not to be what the sections take.
    pub size: Option<u32>,
    sections: Vec<Section>,
    directories: [(u32, u32); 16],
}

#[derive(Clone, Debug)]
struct Section {
    name: [u8; 8],
    offset: u32,
    size: u32,
    bytes: Vec<u8>,
    characteristics: u32,
}

/// Where the PE header lies in every image.
pub const PE_HEADER: usize = 0x40;
/// Where the optional header lies in every image.
pub const OPTIONAL_HEADER: usize = PE_HEADER + 24;
/// Bytes that all headers take in the file.
pub const HEADERS: u32 = 0x400;
const FILE_ALIGNMENT: u32 = 0x200;
const DIRECTORIES: usize = 16;

impl Default for TestImage {
    fn default() -> Self {
        Self::new()
    }
}

impl TestImage {
    /// A driver without sections.
    pub fn new() -> Self {
        Self {
            machine: 0x8664,
            characteristics: 0x0022,
            subsystem: 1,
            is_64_bit: true,
            base: 0x1_4000_0000,
            entry: 0,
            alignment: 0x1000,
            size: None,
            sections: Vec::new(),
            directories: [(0, 0); DIRECTORIES],
        }
    }

    /// Offset of the section that is added next.
    pub fn next(&self) -> u32 {
        let end = self.sections.last().map_or(HEADERS, |section| section.offset + section.size);
        end.next_multiple_of(self.alignment)
    }

    /// Adds a section and gives its offset.
    pub fn section(&mut self, name: &str, bytes: &[u8], characteristics: u32) -> u32 {
        self.section_at(self.next(), name, bytes, bytes.len() as u32, characteristics)
    }

    /// Adds a section at an offset, of a size that may differ from that of its bytes.
    pub fn section_at(&mut self, offset: u32, name: &str, bytes: &[u8], size: u32, characteristics: u32) -> u32 {
        let mut short = [0; 8];
        short.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
        self.sections.push(Section { name: short, offset, size, bytes: bytes.to_vec(), characteristics });
        offset
    }

    /// Sets the place of a table.
    pub fn directory(&mut self, number: usize, offset: u32, size: u32) {
        self.directories[number] = (offset, size);
    }

    /// Where the header of a section lies in the file.
    pub fn section_header(&self, number: usize) -> usize {
        OPTIONAL_HEADER + self.optional_size() + 40 * number
    }

    fn optional_size(&self) -> usize {
        if self.is_64_bit { 240 } else { 224 }
    }

    /// The file.
    ///
    /// # Panics
    /// When there are more section headers than fit.
    pub fn build(&self) -> Vec<u8> {
        let mut file = vec![0; PE_HEADER];
        file[..2].copy_from_slice(b"MZ");
        file[0x3C..].copy_from_slice(&(PE_HEADER as u32).to_le_bytes());
        self.file_header(&mut file);
        self.optional_header(&mut file);
        let mut data = HEADERS;
        for section in &self.sections {
            let length = (section.bytes.len() as u32).next_multiple_of(FILE_ALIGNMENT);
            file.extend(section.name);
            for word in [section.size, section.offset, length, if length == 0 { 0 } else { data }] {
                file.extend(word.to_le_bytes());
            }
            file.extend([0; 12]);
            file.extend(section.characteristics.to_le_bytes());
            data += length;
        }
        assert!(file.len() <= HEADERS as usize, "too many sections");
        file.resize(HEADERS as usize, 0);
        for section in &self.sections {
            file.extend(&section.bytes);
            file.resize(file.len().next_multiple_of(FILE_ALIGNMENT as usize), 0);
        }
        file
    }

    fn file_header(&self, file: &mut Vec<u8>) {
        file.extend(b"PE\0\0");
        file.extend(self.machine.to_le_bytes());
        file.extend((self.sections.len() as u16).to_le_bytes());
        file.extend([0; 12]);
        file.extend((self.optional_size() as u16).to_le_bytes());
        file.extend(self.characteristics.to_le_bytes());
    }

    fn optional_header(&self, file: &mut Vec<u8>) {
        let words = |file: &mut Vec<u8>, words: &[u32]| words.iter().for_each(|word| file.extend(word.to_le_bytes()));
        let halves =
            |file: &mut Vec<u8>, halves: &[u16]| halves.iter().for_each(|half| file.extend(half.to_le_bytes()));
        let magic = if self.is_64_bit { 0x020B } else { 0x010B };
        // Magic and linker version; sizes of code and data; entry point; base of code.
        halves(file, &[magic, 0]);
        words(file, &[0, 0, 0, self.entry, 0]);
        if self.is_64_bit {
            file.extend(self.base.to_le_bytes());
        } else {
            words(file, &[0, self.base as u32]);
        }
        words(file, &[self.alignment, FILE_ALIGNMENT.min(self.alignment)]);
        // Versions of the system, the image and the subsystem.
        halves(file, &[6, 1, 0, 0, 6, 1, 0, 0]);
        let size = self.size.unwrap_or_else(|| self.next());
        words(file, &[size, HEADERS, 0]);
        halves(file, &[self.subsystem, 0]);
        // Sizes of stack and heap, which drivers do not have.
        file.resize(file.len() + if self.is_64_bit { 32 } else { 16 }, 0);
        words(file, &[0, DIRECTORIES as u32]);
        for (offset, size) in self.directories {
            words(file, &[offset, size]);
        }
    }
}
