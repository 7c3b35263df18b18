//! The image that stands for the kernel in the list of modules.
//!
//! Services are functions of the host's executable, which is no PE image; their imports are bound one by one. So what lies
//! here is one page: headers of an image without sections, exports or imports. Who looks for exports in it finds none, and
//! asks `MmGetSystemRoutineAddress` if it knows what is good for it.

use std::sync::OnceLock;

use arena::{PAGE, Region, plan};

/// The image's size: its one page.
pub const SIZE: u32 = PAGE as u32;

/// Where it lies; `None` when there is no room for a page.
pub fn base() -> Option<u64> {
    static IMAGE: OnceLock<Option<Region>> = OnceLock::new();
    IMAGE.get_or_init(make).as_ref().map(Region::base)
}

fn make() -> Option<Region> {
    let region = Region::reserve(plan::KERNEL_IMAGE, PAGE).ok()?;
    region.commit(PAGE as u64).ok()?;
    let page = headers(region.base());
    // SAFETY: a page of our own, writable, that nobody knows of yet.
    unsafe { std::ptr::copy_nonoverlapping(page.as_ptr(), region.base() as *mut u8, page.len()) };
    Some(region)
}

/// A DOS header, an NT header for x86-64 and sixteen empty directories.
fn headers(base: u64) -> [u8; PAGE] {
    const NT: usize = 0x80;
    const OPTIONAL: usize = NT + 24;
    const DIRECTORIES: u32 = 16;
    const OPTIONAL_BYTES: u16 = 112 + 8 * DIRECTORIES as u16;
    const AMD64: u16 = 0x8664;
    /// `IMAGE_FILE_EXECUTABLE_IMAGE` and `IMAGE_FILE_LARGE_ADDRESS_AWARE`.
    const CHARACTERISTICS: u16 = 0x22;
    const PE32_PLUS: u16 = 0x20B;
    const NATIVE: u16 = 1;
    let mut page = [0; PAGE];
    let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3C, &(NT as u32).to_le_bytes());
    put(NT, b"PE\0\0");
    put(NT + 4, &AMD64.to_le_bytes());
    put(NT + 20, &OPTIONAL_BYTES.to_le_bytes());
    put(NT + 22, &CHARACTERISTICS.to_le_bytes());
    put(OPTIONAL, &PE32_PLUS.to_le_bytes());
    put(OPTIONAL + 24, &base.to_le_bytes());
    // How sections would be aligned, in memory and in the file.
    put(OPTIONAL + 32, &SIZE.to_le_bytes());
    put(OPTIONAL + 36, &0x200u32.to_le_bytes());
    put(OPTIONAL + 56, &SIZE.to_le_bytes());
    put(OPTIONAL + 60, &SIZE.to_le_bytes());
    put(OPTIONAL + 68, &NATIVE.to_le_bytes());
    put(OPTIONAL + 108, &DIRECTORIES.to_le_bytes());
    page
}
