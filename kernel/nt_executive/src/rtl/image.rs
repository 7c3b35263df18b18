//! Headers and directories of PE images in memory. Whatever lies there is hostile: it is read with guarded copies, and what
//! does not fit is none.

use gate::memory::read_value;

gate::exports! {
    /// Images.
    pub static TABLE in "ntoskrnl.exe";
    "RtlImageNtHeader" = rtl_image_nt_header(base: u64) -> u64, rules "K-200";
    "RtlImageDirectoryEntryToData" = rtl_image_directory_entry_to_data(base: u64, is_mapped: u8, directory: u16, size: *mut u32) -> u64, rules "K-200";
}

/// `IMAGE_DOS_HEADER`: its signature, and where the NT header's offset lies.
const DOS: u16 = 0x5A4D;
const NT_OFFSET: u64 = 0x3C;
/// `IMAGE_NT_HEADERS`: its signature, and what lies in front of the optional header.
const NT: u32 = 0x4550;
const OPTIONAL: u64 = 24;

/// The NT header's address.
fn nt_header(base: u64) -> Option<u64> {
    /// Further away is no header that Windows would load.
    const OFFSET_MAX: u32 = 0x1000_0000;
    let offset: u32 = read_value(base.checked_add(NT_OFFSET)?).ok()?;
    let header = base + u64::from(offset);
    let is_one = read_value::<u16>(base) == Ok(DOS) && offset < OFFSET_MAX && read_value::<u32>(header) == Ok(NT);
    is_one.then_some(header)
}

unsafe extern "win64" fn rtl_image_nt_header(base: u64) -> u64 {
    if base == 0 { 0 } else { nt_header(base).unwrap_or(0) }
}

/// Where and how long a directory is, by its address in the image.
fn directory_of(header: u64, directory: u16) -> Option<(u32, u32)> {
    const PE32: u16 = 0x10B;
    const PE32_PLUS: u16 = 0x20B;
    let optional = header + OPTIONAL;
    // The count lies in front of the directories, behind sizes that are words of the machine.
    let count_at = optional
        + match read_value::<u16>(optional).ok()? {
            PE32 => 92,
            PE32_PLUS => 108,
            _ => return None,
        };
    if u32::from(directory) >= read_value::<u32>(count_at).ok()? {
        return None;
    }
    let at = count_at + 4 + u64::from(directory) * 8;
    let (address, size) = (read_value::<u32>(at).ok()?, read_value::<u32>(at + 4).ok()?);
    (address != 0).then_some((address, size))
}

/// Where in the file an address of the image lies: what is in front of the sections lies as it does in memory.
fn file_offset(header: u64, address: u32) -> Option<u32> {
    const SECTION: u64 = 40;
    let headers_size: u32 = read_value(header + OPTIONAL + 60).ok()?;
    if address < headers_size {
        return Some(address);
    }
    let sections: u16 = read_value(header + 6).ok()?;
    let optional_size: u16 = read_value(header + 20).ok()?;
    let first = header + OPTIONAL + u64::from(optional_size);
    (0..u64::from(sections)).find_map(|index| {
        let section = first + index * SECTION;
        let start: u32 = read_value(section + 12).ok()?;
        let raw_size: u32 = read_value(section + 16).ok()?;
        let raw: u32 = read_value(section + 20).ok()?;
        let inside = address.checked_sub(start).filter(|&inside| inside < raw_size)?;
        raw.checked_add(inside)
    })
}

/// An address with its lowest bit set is that of a file's bytes, as if the driver had said that it is not mapped.
unsafe extern "win64" fn rtl_image_directory_entry_to_data(
    base: u64,
    is_mapped: u8,
    directory: u16,
    size: *mut u32,
) -> u64 {
    let (base, is_mapped) = (base & !1, is_mapped != 0 && base & 1 == 0);
    let found = nt_header(base).and_then(|header| {
        let (address, bytes) = directory_of(header, directory)?;
        let offset = if is_mapped { address } else { file_offset(header, address)? };
        Some((base + u64::from(offset), bytes))
    });
    // SAFETY: the driver's pointer; a bad one faults and is blamed on it.
    unsafe { size.write_unaligned(found.map_or(0, |(_, bytes)| bytes)) };
    found.map_or(0, |(at, _)| at)
}
