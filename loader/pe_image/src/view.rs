//! Checked access to the bytes of a mapped image by offset from its base.

/// Reads from an image. Everything returns `None` outside of it.
#[derive(Clone, Copy)]
pub struct View<'a>(pub &'a [u8]);

impl<'a> View<'a> {
    pub fn bytes(self, offset: u32, length: u32) -> Option<&'a [u8]> {
        let start = offset as usize;
        self.0.get(start..start.checked_add(length as usize)?)
    }

    fn array<const N: usize>(self, offset: u32) -> Option<[u8; N]> {
        self.bytes(offset, N as u32)?.try_into().ok()
    }

    pub fn u32(self, offset: u32) -> Option<u32> {
        self.array(offset).map(u32::from_le_bytes)
    }

    pub fn u64(self, offset: u32) -> Option<u64> {
        self.array(offset).map(u64::from_le_bytes)
    }

    /// A string of at most `bytes_max` bytes that ends with a NUL inside the image.
    pub fn c_string(self, offset: u32, bytes_max: usize) -> Option<&'a [u8]> {
        let rest = self.0.get(offset as usize..)?;
        let rest = &rest[..rest.len().min(bytes_max + 1)];
        rest.split(|&byte| byte == 0).next().filter(|string| string.len() < rest.len())
    }
}

/// Writes eight bytes; `false` outside of the image.
pub fn put_u64(image: &mut [u8], offset: u32, value: u64) -> bool {
    let start = offset as usize;
    match start.checked_add(8).and_then(|end| image.get_mut(start..end)) {
        Some(place) => {
            place.copy_from_slice(&value.to_le_bytes());
            true
        }
        None => false,
    }
}
