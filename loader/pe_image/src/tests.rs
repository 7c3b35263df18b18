//! Tests on images written by [`test_image`].

mod malformed;
mod mutation;
mod patching;
mod whole;

use gate::export::Export;
use test_image::{CODE, DATA, TestImage};

use crate::{Image, ImageError, LoadOptions, load};

/// `xor eax, eax; ret`: a `DriverEntry` that does nothing.
const RETURN_ZERO: &[u8] = b"\x31\xC0\xC3";

extern "win64" fn answer() -> u32 {
    42
}

fn cell() -> u64 {
    static CELL: u64 = 7;
    &raw const CELL as u64
}

gate::exports! { static TABLE in "ntoskrnl.exe";
    "Answer" = answer() -> u32, rules "";
    data "Cell" = cell, rules "";
}

fn kernel(module: &str, name: &str) -> Option<&'static Export> {
    TABLE.iter().find(|export| export.module.eq_ignore_ascii_case(module) && export.name == name)
}

fn load_image(image: &TestImage) -> Result<Image, ImageError> {
    load_file(&image.build())
}

fn load_file(file: &[u8]) -> Result<Image, ImageError> {
    load(file, "test.sys", &LoadOptions::new(&kernel))
}

/// A driver with everything that a loader looks at.
fn driver() -> TestImage {
    let mut image = TestImage::new();
    let slots = image.imports(&[("ntoskrnl.exe", &["Answer", "Cell", "IoNobodyHasThis"]), ("HAL.dll", &["#3"])]);
    let pointer = image.section(".data", &(image.base + u64::from(slots[0])).to_le_bytes(), DATA);
    // A cookie with the compiler's default, written by nobody else.
    let cookie = image.section(".cookie", &0x0000_2B99_2DDF_A232_u64.to_le_bytes(), DATA);
    let named_at = image.load_configuration(cookie);
    let text = image.next();
    let code = [RETURN_ZERO, &[0xCC; 13], b"\x44\x0F\x20\xC0\xC3"].concat();
    image.entry = image.section(".text", &code, CODE);
    image
        .functions(&[(text, text + 3, test_image::UNWIND_NOTHING), (text + 16, text + 21, test_image::UNWIND_NOTHING)]);
    image.exports("test.sys", &[("Irql", text + 16), ("Pointer", pointer)]);
    image.relocations(&[pointer, named_at]);
    image
}

/// Reads eight bytes of a loaded image.
fn word(address: u64) -> u64 {
    let mut bytes = [0; 8];
    gate::memory::read(address, &mut bytes).expect("a readable address");
    u64::from_le_bytes(bytes)
}
