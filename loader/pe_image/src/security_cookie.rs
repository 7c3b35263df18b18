//! The value that a driver's stack checks compare with (K-011).

use std::hash::{BuildHasher, Hasher, RandomState};

use crate::ImageError;
use crate::headers::{Headers, directory};
use crate::view::{View, put_u64};

/// Offset of the cookie's address in the load configuration of a 64-bit image.
const COOKIE_ADDRESS: u32 = 0x58;
/// What the compiler leaves there.
const DEFAULT: u64 = 0x0000_2B99_2DDF_A232;
/// Cookies have 48 bits, so that a string function cannot copy one.
const MASK: u64 = 0x0000_FFFF_FFFF_FFFF;

/// The offset of the cookie of an image at `base`, if it has one.
///
/// # Errors
/// When the load configuration or the cookie lies outside of the image.
pub fn find(image: View<'_>, headers: &Headers, base: u64) -> Result<Option<u32>, ImageError> {
    let table = headers.directory(directory::LOAD_CONFIG);
    if table.size == 0 {
        return Ok(None);
    }
    let unreadable = ImageError::BadTable("load configuration");
    // Its own first word says how long it is; the directory's size is not to be trusted on old images.
    let size = image.u32(table.offset).ok_or(unreadable)?;
    if size < COOKIE_ADDRESS + 8 {
        return Ok(None);
    }
    let unreadable = || ImageError::BadTable("load configuration");
    let address = table.offset.checked_add(COOKIE_ADDRESS).ok_or_else(unreadable)?;
    match image.u64(address).ok_or_else(unreadable)? {
        0 => Ok(None),
        value => {
            let value = u32::try_from(value.wrapping_sub(base)).ok().filter(|&value| image.u64(value).is_some());
            let value = value.ok_or(ImageError::BadTable("security cookie"))?;
            Ok(Some(value))
        }
    }
}

/// Gives the cookie of a relocated image a value, unless it has one of its own.
///
/// `seed` and the image's name decide the value in a seeded run; otherwise it is random.
pub fn set(base: u64, image: &mut [u8], headers: &Headers, seed: Option<u64>, name: &str) -> Result<(), ImageError> {
    if let Some(cookie) = find(View(image), headers, base)?
        && matches!(View(image).u64(cookie), Some(0 | DEFAULT))
    {
        put_u64(image, cookie, value(seed, name));
    }
    Ok(())
}

fn value(seed: Option<u64>, name: &str) -> u64 {
    let value = match seed {
        Some(seed) => name.bytes().fold(seed, |value, byte| mixed(value ^ u64::from(byte))),
        // The keys of a hasher are random, and so is its hash of nothing.
        None => RandomState::new().build_hasher().finish(),
    } & MASK;
    if matches!(value, 0 | DEFAULT) { DEFAULT + 1 } else { value }
}

/// One step of a generator with good mixing (SplitMix64).
fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ value >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ value >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_depends_on_seed_and_name_and_is_never_the_default() {
        assert_eq!(value(Some(7), "a.sys"), value(Some(7), "a.sys"));
        assert_ne!(value(Some(7), "a.sys"), value(Some(8), "a.sys"));
        assert_ne!(value(Some(7), "a.sys"), value(Some(7), "b.sys"));
        assert_ne!(value(None, "a.sys"), value(None, "a.sys"), "random");
        assert!((0..1000).map(|seed| value(Some(seed), "")).all(|value| value != DEFAULT && value & !MASK == 0));
    }
}
