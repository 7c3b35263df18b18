//! The headers of an image, read from its file and judged.

use object::LittleEndian as LE;
use object::pe::{self, ImageDosHeader, ImageNtHeaders32, ImageNtHeaders64};
use object::read::pe::{ImageNtHeaders, ImageOptionalHeader};

use crate::ImageError;

/// What an image says about itself. Readable for images of any processor; [`Headers::judge`] says whether it can
/// run here.
#[derive(Clone, Debug)]
pub struct Headers {
    /// The processor it was built for.
    pub machine: u16,
    /// Whether its optional header is that of a 64-bit image (PE32+).
    pub is_64_bit: bool,
    /// `IMAGE_FILE_*` bits.
    pub characteristics: u16,
    /// `IMAGE_DLLCHARACTERISTICS_*` bits.
    pub dll_characteristics: u16,
    /// `IMAGE_SUBSYSTEM_*`; 1 for drivers.
    pub subsystem: u16,
    /// When it was linked, in seconds since 1970, or a hash for reproducible builds.
    pub timestamp: u32,
    /// The checksum that the linker or a signing tool wrote, 0 if none did.
    pub checksum: u32,
    /// Where in the file the checksum lies.
    pub checksum_offset: u64,
    /// Where it would like to be.
    pub preferred_base: u64,
    /// Bytes of memory it asks for.
    pub size: u32,
    /// Bytes of the file that are its headers.
    pub headers_size: u32,
    /// Offset of the entry point, 0 if there is none.
    pub entry: u32,
    /// As the file lists them.
    pub sections: Vec<Section>,
    directories: Vec<Directory>,
}

/// A section as the file describes it.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its name, at most eight bytes.
    pub name: String,
    /// Offset in the image.
    pub offset: u32,
    /// Bytes in the image.
    pub size: u32,
    /// Offset in the file.
    pub file_offset: u32,
    /// Bytes in the file that belong to it; never more than `size`.
    pub file_size: u32,
    /// `IMAGE_SCN_*` bits.
    pub characteristics: u32,
}

/// A table of the image. Size 0 if it has none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Directory {
    /// Offset in the image; for the certificates, in the file.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
}

/// Numbers of the tables that matter.
pub mod directory {
    /// What it offers to others.
    pub const EXPORT: usize = 0;
    /// What it needs of others.
    pub const IMPORT: usize = 1;
    /// Its functions and how to unwind them (`.pdata`).
    pub const EXCEPTION: usize = 3;
    /// Its signatures; the only table that is not mapped.
    pub const CERTIFICATE: usize = 4;
    /// Places that depend on where it lies.
    pub const RELOCATION: usize = 5;
    /// Variables of which each thread has its own.
    pub const THREAD_LOCAL_STORAGE: usize = 9;
    /// Its security cookie, among others.
    pub const LOAD_CONFIG: usize = 10;
    /// What it will need of others when it first calls it.
    pub const DELAYED_IMPORT: usize = 13;
}

/// Bits of [`Section::characteristics`].
mod section {
    pub const UNINITIALISED: u32 = 0x0000_0080;
    pub const DISCARDABLE: u32 = 0x0200_0000;
    pub const EXECUTE: u32 = 0x2000_0000;
    pub const WRITE: u32 = 0x8000_0000;
}

/// The machine field of an x86-64 image.
pub const MACHINE_AMD64: u16 = 0x8664;

/// Windows loads no image with more.
const SECTIONS_MAX: usize = 96;
const RELOCATIONS_STRIPPED: u16 = 0x0001;
const EXECUTABLE_IMAGE: u16 = 0x0002;
const MAGIC_32: u16 = 0x010B;
const MAGIC_64: u16 = 0x020B;
/// Bytes from the PE header to the optional header.
const PREFIX: usize = 24;
/// Offset of the checksum in the optional header, the same for both kinds.
const CHECKSUM: u64 = 64;

impl Headers {
    /// Reads the headers of a file.
    ///
    /// # Errors
    /// When the file is not a PE image, is cut off in its headers, or has more than 96 sections.
    pub fn read(bytes: &[u8]) -> Result<Self, ImageError> {
        if !bytes.starts_with(b"MZ") {
            return Err(ImageError::NotExecutable);
        }
        let truncated = |what, needed: u64| ImageError::Truncated { what, needed, length: bytes.len() as u64 };
        let dos =
            ImageDosHeader::parse(bytes).map_err(|_| truncated("MZ header", size_of::<ImageDosHeader>() as u64))?;
        let start = dos.nt_headers_offset();
        // Signature, machine, and the size of the optional header in the file header, before anything is believed.
        let prefix_end = u64::from(start) + PREFIX as u64;
        let Some(prefix) = bytes.get(start as usize..).and_then(|rest| rest.get(..PREFIX)) else {
            return Err(truncated("PE header", prefix_end));
        };
        if !prefix.starts_with(b"PE\0\0") {
            return Err(ImageError::NotPortableExecutable);
        }
        let optional_end = prefix_end + u64::from(u16::from_le_bytes([prefix[20], prefix[21]]));
        let Some(optional) = bytes.get(prefix_end as usize..optional_end as usize) else {
            return Err(truncated("optional header", optional_end));
        };
        match optional {
            [low, high, ..] if u16::from_le_bytes([*low, *high]) == MAGIC_32 => {
                Self::read_as::<ImageNtHeaders32>(bytes, start)
            }
            [low, high, ..] if u16::from_le_bytes([*low, *high]) == MAGIC_64 => {
                Self::read_as::<ImageNtHeaders64>(bytes, start)
            }
            _ => Err(ImageError::BadHeader("the kind of the optional header")),
        }
    }

    fn read_as<Nt: ImageNtHeaders>(bytes: &[u8], start: u32) -> Result<Self, ImageError> {
        let mut offset = u64::from(start);
        let (nt, directories) =
            Nt::parse(bytes, &mut offset).map_err(|_| ImageError::BadHeader("the size of the optional header"))?;
        let (file, optional) = (nt.file_header(), nt.optional_header());
        let count = file.number_of_sections.get(LE);
        if usize::from(count) > SECTIONS_MAX {
            return Err(ImageError::BadHeader("more than 96 sections"));
        }
        let sections = nt.sections(bytes, offset).map_err(|_| ImageError::Truncated {
            what: "section table",
            needed: offset + 40 * u64::from(count),
            length: bytes.len() as u64,
        })?;
        Ok(Self {
            machine: file.machine.get(LE).0,
            is_64_bit: nt.is_type_64(),
            characteristics: file.characteristics.get(LE).0,
            dll_characteristics: optional.dll_characteristics().0,
            subsystem: optional.subsystem().0,
            timestamp: file.time_date_stamp.get(LE),
            checksum: optional.check_sum(),
            checksum_offset: u64::from(start) + PREFIX as u64 + CHECKSUM,
            preferred_base: optional.image_base(),
            size: optional.size_of_image(),
            headers_size: optional.size_of_headers(),
            entry: optional.address_of_entry_point(),
            sections: sections.iter().map(Section::read).collect(),
            directories: directories
                .iter()
                .map(|entry| Directory { offset: entry.virtual_address.get(LE), size: entry.size.get(LE) })
                .collect(),
        })
    }

    /// Whether an image with these headers can run here, as far as headers tell.
    ///
    /// # Errors
    /// When it was built for another processor, or not linked to the end.
    pub fn judge(&self) -> Result<(), ImageError> {
        if self.machine != MACHINE_AMD64 {
            return Err(ImageError::WrongMachine(self.machine));
        }
        if !self.is_64_bit {
            return Err(ImageError::Not64Bit);
        }
        if self.characteristics & EXECUTABLE_IMAGE == 0 {
            return Err(ImageError::NotLinked);
        }
        Ok(())
    }

    /// A table of the image, of size 0 if there is none.
    pub fn directory(&self, number: usize) -> Directory {
        self.directories.get(number).copied().filter(|directory| directory.offset != 0).unwrap_or_default()
    }

    /// Whether it can only run at its preferred base.
    pub fn is_fixed(&self) -> bool {
        self.characteristics & RELOCATIONS_STRIPPED != 0
    }
}

impl Section {
    fn read(header: &pe::ImageSectionHeader) -> Self {
        let name = header.raw_name();
        let (virtual_size, raw_size) = (header.virtual_size.get(LE), header.size_of_raw_data.get(LE));
        // A size of 0 is how old linkers said "as much as is in the file".
        let size = if virtual_size == 0 { raw_size } else { virtual_size };
        let characteristics = header.characteristics.get(LE).0;
        let in_file = characteristics & section::UNINITIALISED == 0 && header.pointer_to_raw_data.get(LE) != 0;
        Self {
            name: String::from_utf8_lossy(name).into_owned(),
            offset: header.virtual_address.get(LE),
            size,
            file_offset: header.pointer_to_raw_data.get(LE),
            file_size: if in_file { raw_size.min(size) } else { 0 },
            characteristics,
        }
    }

    /// Whether it holds code.
    pub fn is_executable(&self) -> bool {
        self.characteristics & section::EXECUTE != 0
    }

    /// Whether the driver may write to it.
    pub fn is_writable(&self) -> bool {
        self.characteristics & section::WRITE != 0
    }

    /// Whether Windows gives its memory back when the driver has started.
    pub fn is_discardable(&self) -> bool {
        self.characteristics & section::DISCARDABLE != 0
    }
}
