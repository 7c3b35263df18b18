//! What an image's headers say, put in words; its checksum and signature.

use pe_image::{Headers, ImageFile, MACHINE_AMD64, directory};

use crate::report::{Checksum, Facts, Section, Signature};

const DLL: u16 = 0x2000;

/// The facts of an image. `layout` is missing where sections are damaged.
pub fn facts(file: &[u8], headers: &Headers, layout: Option<&ImageFile>) -> Facts {
    let is_x64 = headers.machine == MACHINE_AMD64 && headers.is_64_bit;
    Facts {
        machine: machine(headers.machine).to_owned(),
        machine_number: headers.machine,
        bits: if headers.is_64_bit { 64 } else { 32 },
        subsystem: subsystem(headers.subsystem).to_owned(),
        is_dll: headers.characteristics & DLL != 0,
        entry: headers.entry,
        preferred_base: headers.preferred_base,
        image_size: headers.size,
        is_relocatable: !headers.is_fixed(),
        has_security_cookie: is_x64
            && layout.is_some_and(|layout| layout.has_security_cookie().is_ok_and(|has_cookie| has_cookie)),
        checksum: checksum(file, headers),
        signature: signature(file, headers),
        sections: layout.map(sections).unwrap_or_default(),
    }
}

fn sections(layout: &ImageFile) -> Vec<Section> {
    let sections = layout.sections().iter().map(|section| Section {
        name: section.name.clone(),
        offset: section.offset,
        size: section.size,
        write: section.is_writable(),
        execute: section.is_executable(),
    });
    sections.collect()
}

fn machine(number: u16) -> &'static str {
    match number {
        MACHINE_AMD64 => "x86-64",
        0x014C => "x86 (32-bit)",
        0xAA64 => "ARM64",
        0x01C0 | 0x01C2 | 0x01C4 => "ARM (32-bit)",
        0x0200 => "Itanium",
        0x5032 | 0x5064 | 0x5128 => "RISC-V",
        0x6232 | 0x6264 => "LoongArch",
        0x0EBC => "EFI byte code",
        _ => "unknown processor",
    }
}

fn subsystem(number: u16) -> &'static str {
    match number {
        1 => "native (driver)",
        2 => "Windows program with windows",
        3 => "Windows program for the console",
        5 => "OS/2 program",
        7 => "POSIX program",
        8 => "Windows 9x driver",
        9 => "Windows CE program",
        10..=13 => "EFI",
        14 => "Xbox",
        16 => "boot program",
        _ => "none",
    }
}

/// Compares the header's checksum with the file's: the sum of its 16-bit words with carries added back, the checksum
/// itself taken as zero, plus the length.
pub fn checksum(file: &[u8], headers: &Headers) -> Checksum {
    let stored = headers.checksum;
    if stored == 0 {
        return Checksum::Absent;
    }
    let field = headers.checksum_offset as usize..headers.checksum_offset as usize + 4;
    let mut sum = 0u64;
    for (number, word) in file.chunks(2).enumerate() {
        if !field.contains(&(2 * number)) {
            sum += u64::from(word[0]) | u64::from(word.get(1).copied().unwrap_or(0)) << 8;
        }
    }
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    let computed = (sum as u32).wrapping_add(file.len() as u32);
    if computed == stored { Checksum::Right } else { Checksum::Wrong { stored, computed } }
}

/// Looks for a signature. Its table is the only one that is named by its place in the file.
fn signature(file: &[u8], headers: &Headers) -> Signature {
    let table = headers.directory(directory::CERTIFICATE);
    if table.size == 0 {
        return Signature::Absent;
    }
    let start = table.offset as usize;
    let entry = start.checked_add(table.size as usize).and_then(|end| file.get(start..end));
    let length = entry.and_then(|entry| entry.first_chunk::<4>()).map(|length| u32::from_le_bytes(*length));
    match length {
        // Length, revision and type come before the signature itself.
        Some(length) if (8..=table.size).contains(&length) => Signature::Present { bytes: length },
        _ => Signature::Damaged,
    }
}
