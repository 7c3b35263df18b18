//! Why an image was refused, and what was unusual about one that was not.

use std::fmt;
use std::io;

use crate::SUBSYSTEM_NATIVE;
use crate::headers::{Headers, directory};

/// Why an image cannot be loaded. Its text says what to do about it, without naming the file.
#[derive(Debug)]
pub enum ImageError {
    /// There is no MZ header.
    NotExecutable,
    /// There is an MZ header but no PE header.
    NotPortableExecutable,
    /// Built for another processor: the machine field.
    WrongMachine(u16),
    /// The optional header is not that of a 64-bit image.
    Not64Bit,
    /// The file ends before something it says it has.
    Truncated {
        /// What is cut off.
        what: &'static str,
        /// Bytes the file would have to have.
        needed: u64,
        /// Bytes it has.
        length: u64,
    },
    /// An object file, or what a linker left behind after an error.
    NotLinked,
    /// A header contradicts itself or another.
    BadHeader(&'static str),
    /// A section lies outside the image or over another one: its name.
    BadSection(String),
    /// The image can only run at an address that is not free here.
    RelocationsStripped,
    /// A relocation of a kind or at a place that cannot be.
    BadRelocation {
        /// Offset in the image that it applies to.
        offset: u64,
        /// Its type.
        kind: u16,
    },
    /// A table of the image cannot be read: which.
    BadTable(&'static str),
    /// More than [`ImageError::SIZE_MAX`]: its size.
    TooLarge(u64),
    /// More imports than a run can have.
    TooManyImports,
    /// More images than a run can have.
    TooManyImages,
    /// There is no entry point, or it does not lie in code.
    NoEntryPoint,
    /// The operating system refused memory.
    Memory(io::Error),
}

impl ImageError {
    /// Largest `SizeOfImage`.
    pub const SIZE_MAX: u64 = 512 << 20;
}

const IMAGE_FILE_MACHINE_I386: u16 = 0x014C;
const IMAGE_FILE_MACHINE_ARM: u16 = 0x01C4;
const IMAGE_FILE_MACHINE_ARM64: u16 = 0xAA64;
const IMAGE_FILE_MACHINE_IA64: u16 = 0x0200;

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotExecutable => f.write_str("not a Windows image (it does not begin with MZ); give the driver's .sys file, unpacked"),
            Self::NotPortableExecutable => f.write_str("not a PE image (there is no PE header behind the MZ header); it may be a DOS program, or damaged"),
            Self::WrongMachine(IMAGE_FILE_MACHINE_I386) => f.write_str("a 32-bit (x86) driver; Drydock runs x86-64 drivers, so use the x64 build of it"),
            Self::WrongMachine(IMAGE_FILE_MACHINE_ARM64) => f.write_str("an ARM64 driver; Drydock runs x86-64 drivers, so use the x64 build of it"),
            Self::WrongMachine(IMAGE_FILE_MACHINE_ARM) => f.write_str("a 32-bit ARM driver; Drydock runs x86-64 drivers, so use the x64 build of it"),
            Self::WrongMachine(IMAGE_FILE_MACHINE_IA64) => f.write_str("an Itanium driver; Drydock runs x86-64 drivers, so use the x64 build of it"),
            Self::WrongMachine(machine) => write!(f, "built for a processor that is not x86-64 (machine {machine:#06x}); use the x64 build of the driver"),
            Self::Not64Bit => f.write_str("the optional header is not that of a 64-bit (PE32+) image; the file is damaged"),
            Self::NotLinked => f.write_str("not linked to the end (an object file, or the result of a linker error); link it again"),
            Self::Truncated { what, needed, length } => {
                write!(f, "the file is cut off in its {what}: it would need {needed} bytes and has {length}; copy it again")
            }
            Self::BadHeader(what) => write!(f, "the headers contradict each other ({what}); the file is damaged or packed"),
            Self::BadSection(name) => write!(f, "section {name:?} lies outside the image or over another section; the file is damaged or packed"),
            Self::RelocationsStripped => {
                f.write_str("its relocations were stripped, so it can only run at the address it was linked for; link it again with relocations (/FIXED:NO, -Wl,--dynamicbase)")
            }
            Self::BadRelocation { offset, kind } => write!(f, "a relocation of type {kind} at {offset:#x} cannot be applied; the file is damaged"),
            Self::BadTable(which) => write!(f, "its {which} cannot be read; the file is damaged or packed"),
            Self::TooLarge(size) => write!(f, "it asks for {size} bytes of memory and the limit is {}; the file is most likely damaged", Self::SIZE_MAX),
            Self::TooManyImports => write!(f, "it has more imports than one run can have ({})", gate::stub::IMPORTS_MAX),
            Self::TooManyImages => write!(f, "one run can have {} images", gate::image::IMAGES_MAX),
            Self::NoEntryPoint => f.write_str("it has no entry point in its code; a driver must have DriverEntry"),
            Self::Memory(error) => write!(f, "no memory for it: {error}"),
        }
    }
}

impl std::error::Error for ImageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Memory(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for ImageError {
    fn from(error: io::Error) -> Self {
        Self::Memory(error)
    }
}

/// What is unusual about an image that was loaded nevertheless.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// It was not linked as a driver: its subsystem.
    NotNative(u16),
    /// Pages that are writable and executable at once: the section's name.
    WritableCode(String),
    /// It has a table of thread-local storage.
    ThreadLocalStorage,
    /// It has a table of delayed imports.
    DelayedImports,
}

impl Warning {
    /// What the headers tell.
    pub(crate) fn of(headers: &Headers) -> Vec<Self> {
        let has = |number| headers.directory(number).size != 0;
        let not_native = (headers.subsystem != SUBSYSTEM_NATIVE).then_some(Self::NotNative(headers.subsystem));
        let storage = has(directory::THREAD_LOCAL_STORAGE).then_some(Self::ThreadLocalStorage);
        let delayed = has(directory::DELAYED_IMPORT).then_some(Self::DelayedImports);
        [not_native, storage, delayed].into_iter().flatten().collect()
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotNative(subsystem) => {
                write!(
                    f,
                    "linked for subsystem {subsystem} and not as a native image (1); if this is a program and no driver, it will not run"
                )
            }
            Self::ThreadLocalStorage => f.write_str(
                "it has thread-local storage, which the kernel has no slots for and no callbacks are called for: \
                 a variable of it is read from wherever the thread's block happens to lead, as on Windows",
            ),
            Self::DelayedImports => f.write_str(
                "it has delayed imports, which the kernel does not bind: what it calls through them must be resolved \
                 by code of its own, as on Windows",
            ),
            Self::WritableCode(section) => {
                write!(f, "section {section:?} has pages that are writable and executable at once")
            }
        }
    }
}
