//! Formatting into a fixed buffer, for signal handlers and other places that must not allocate.

use std::fmt::{self, Write};

/// Up to `N` bytes of text; what does not fit is cut at a character boundary.
pub(crate) struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Text<N> {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; N], length: 0 }
    }

    pub(crate) fn push(&mut self, what: fmt::Arguments<'_>) {
        // An error means that the text was cut, which is what this type is for.
        let _ = self.write_fmt(what);
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

impl<const N: usize> Write for Text<N> {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = N - self.length;
        let fits = part.floor_char_boundary(room.min(part.len()));
        self.bytes[self.length..self.length + fits].copy_from_slice(&part.as_bytes()[..fits]);
        self.length += fits;
        if fits == part.len() { Ok(()) } else { Err(fmt::Error) }
    }
}
